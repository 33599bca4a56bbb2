"""Which tables there are, what identifies a row of each, and what their columns are."""

from __future__ import annotations

from mettrail.schema.columns import Column
from mettrail.schema.evaluation import (
    EVALUATION_FROC,
    EVALUATION_LESIONS,
    EVALUATION_PROBABILITIES,
    EVALUATION_SCANS,
    EVALUATION_SUMMARY,
    EVALUATION_TESTS,
)
from mettrail.schema.features import FEATURES
from mettrail.schema.lesions import LESIONS
from mettrail.schema.patients import PATIENTS, SENSITIVITY, TREATED_LESIONS
from mettrail.schema.radiomics import RADIOMICS
from mettrail.schema.review import REVIEW
from mettrail.schema.sessions import SESSIONS

KINDS = {
    "lesions": LESIONS,
    "sessions": SESSIONS,
    "patients": PATIENTS,
    "treated_lesions": TREATED_LESIONS,
    "sensitivity": SENSITIVITY,
    "radiomics": RADIOMICS,
    "features": FEATURES,
    "review": REVIEW,
    "evaluation_scans": EVALUATION_SCANS,
    "evaluation_lesions": EVALUATION_LESIONS,
    "evaluation_probabilities": EVALUATION_PROBABILITIES,
    "evaluation_froc": EVALUATION_FROC,
    "evaluation_summary": EVALUATION_SUMMARY,
    "evaluation_tests": EVALUATION_TESTS,
}
KEYS = {
    "sensitivity": ("setting", "value"),
    "lesions": ("participant_id", "session_id", "track_id"),
    "sessions": ("participant_id", "session_id"),
    "patients": ("participant_id",),
    "treated_lesions": ("participant_id", "treatment_id", "track_id"),
    "radiomics": ("participant_id", "session_id", "track_id", "tissue", "grid"),
    "features": ("participant_id", "session_id", "track_id", "tissue"),
    "review": ("order",),
    "evaluation_scans": ("method", "participant_id", "session_id", "tissue"),
    "evaluation_lesions": ("method", "participant_id", "session_id", "lesion"),
    "evaluation_probabilities": ("method", "participant_id", "session_id"),
    "evaluation_froc": ("method", "subset", "tissue", "min_mm3", "threshold"),
    "evaluation_summary": ("method", "subset", "tissue", "group", "score"),
    "evaluation_tests": ("method", "test", "against", "subset", "tissue", "group", "score"),
}


def columns(kind: str) -> list[str]:
    """Names of the columns of a table, in order."""
    return [c.name for c in KINDS[kind]]


def column(kind: str, name: str) -> Column:
    """Return a column of a table."""
    return next(c for c in KINDS[kind] if c.name == name)


def levels(kind: str, name: str) -> list[str]:
    """Values that a column may have."""
    return list(column(kind, name).levels)
