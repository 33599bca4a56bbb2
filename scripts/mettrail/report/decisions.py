"""What the form for a reader's decisions offers: fields that `cohort.overrides` reads, lesions and sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mettrail.cohort.overrides import OVERRIDES, Decision
from mettrail.report.text import Record, show_day
from mettrail.schema.cells import text_of, truth_of


@dataclass(frozen=True)
class Offer:
    """A choice of the form: its value, its words, and to what else it goes.

    For a lesion `fits` are the sessions from its first on, and ``baseline`` or ``new``; for a decision it is which of
    the latter it is of, where it is not of both.
    """

    value: str
    words: str
    fits: Sequence[str] = ()


@dataclass(frozen=True)
class Form:
    """The form of a patient: the file that it writes, and its choices."""

    file: str
    fields: Sequence[tuple[Offer, Decision]]
    lesions: Sequence[Offer]
    sessions: Sequence[Offer]


_FITS = {"role": ("baseline",), "new_status": ("new",)}


def make_form(participant: str, lesions: Sequence[Record], sessions: Sequence[Record]) -> Form:
    """Offer all lesions and sessions of a patient, and all decisions.

    Parameters
    ----------
    participant : str
        ``sub-A``.
    lesions, sessions : sequence of mapping
        The patient's rows of the lesion and session tables, sessions in order.
    """
    names = [str(session["session_id"]) for session in sessions]
    of_track: dict[str, list[Record]] = {}
    for row in lesions:
        of_track.setdefault(text_of(row, "track_id"), []).append(row)
    offered = []
    for track, rows in sorted(of_track.items()):
        first = min(names.index(str(row["session_id"])) for row in rows)
        there = any(truth_of(row, "is_baseline") and text_of(row, "status") == "present" for row in rows)
        offered.append(Offer(track, track, [*names[first:], "baseline" if there else "new"]))
    return Form(
        f"{participant}/{participant}_desc-lesions_overrides.tsv",
        [(Offer(name, decision.meaning, _FITS.get(name, ())), decision) for name, decision in OVERRIDES.items()],
        offered,
        [Offer(name, f"{name}, {show_day(session)}") for name, session in zip(names, sessions, strict=True)],
    )
