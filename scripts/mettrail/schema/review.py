"""The table of what a reader should look at."""

from __future__ import annotations

from mettrail.schema.columns import WHOSE, integer, text

REVIEW = (
    integer("order", "From 1, patient by patient, the least certain first."),
    *WHOSE,
    text("track_id", "Persistent lesion ID; missing where it is about the session or the patient."),
    text("finding", "What to look at."),
    text("page", "Where to look, relative to the results: page and place in it."),
)
