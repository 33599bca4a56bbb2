"""What all pictures share: colours, marks, which lesions come first.

A lesion keeps its colour and its mark on every picture and in every table: no two of 64 share both.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from mettrail.colours import TRACK_COLOURS, track_index
from mettrail.report.text import Record, records_of
from mettrail.schema.cells import flags_of, number_of, text_of, truth_of

# The ninth lesion has the first colour again and the second mark.
TRACK_MARKERS = ("o", "s", "^", "D", "v", "P", "<", ">")
# Colour and the colour of text on it.
RESPONSE_COLOURS = {
    "CR": ("#0f766e", "#ffffff"),
    "PR": ("#63b3a6", "#08201d"),
    "SD": ("#d9c07a", "#2a2208"),
    "NON_CR_NON_PD": ("#c9b79c", "#2a2208"),
    "uPD": ("#e9a184", "#33130a"),
    "PD": ("#b8432f", "#ffffff"),
    "ND": ("#8ea4c8", "#0e1a2e"),
    "NE": ("#c3c8cf", "#23272e"),
}
RESPONSE_NAMES = {"NON_CR_NON_PD": "non-CR/non-PD"}
# Remarks on a lesion that make its picture come before those of others; the least certain first.
REVIEW_FLAGS = (
    *("weak_match", "coalesced", "nontarget_review", "probable_missed_detection", "merged_across_roles"),
    *("treatment_effect_possible", "fov_edge"),
)
# Lesions on the first picture of a session; all others are on the second.
FIRST_LESIONS = 9
# Growth from its smallest before by which a lesion's picture comes earlier: what RANO calls progression of a sum.
_GROWN = 0.20

INK, MUTED, GRID, PAPER, BAND = "#1b1f24", "#667080", "#e4e7eb", "#fdfdfe", "#eef0f3"
SCREEN = "#000000"
PIXELS_PER_INCH = 110


def track_marker(track_id: str) -> str:
    """Return a track's mark, in Matplotlib's letters; with the colour no two of 64 tracks look alike.

    Examples
    --------
    >>> track_marker("L001"), track_marker("L009"), track_marker("L065")
    ('o', 's', 'o')
    """
    return TRACK_MARKERS[track_index(track_id) // len(TRACK_COLOURS) % len(TRACK_MARKERS)]


def is_unconfirmed(session: Record) -> bool:
    """Tell whether a session's overall response is a CR or PR that did not last long enough to count."""
    return text_of(session, "response_overall_final") in ("CR", "PR") and truth_of(session, "confirmed") is False


def pr_continues(session: Record) -> bool:
    """Tell whether a session is SD after a confirmed PR, which goes on until PD."""
    return text_of(session, "response_overall_final") == "SD" and text_of(session, "response_overall_continued") == "PR"


def label_number(track_id: object) -> int:
    """Return the number in the ID of a track, -1 without one."""
    number = re.search(r"\d+", str(track_id))
    return int(number.group()) if number else -1


def row_label(row: Record) -> str:
    """Lesion of a row; the small tables beside label maps call it ``name``."""
    return str(row["track_id"] if "track_id" in row else row["name"])


def track_label(row: Record | None, number: int) -> str:
    """Name the track of a row, or of a label without one."""
    return row_label(row) if row is not None else f"L{number:03d}"


def find_smallest_before(earlier_rows: pd.DataFrame) -> dict[str, float]:
    """Return each track's smallest longest diameter in earlier sessions, mm, where it was present."""
    smallest: dict[str, float] = {}
    for row in records_of(earlier_rows):
        size = number_of(row, "ld_mm")
        if text_of(row, "status") == "present" and np.isfinite(size):
            name = row_label(row)
            smallest[name] = min(size, smallest.get(name, np.inf))
    return smallest


def growth_since_smallest_mm(row: Record, smallest: dict[str, float]) -> float:
    """Return by how much a lesion has grown from its smallest before, mm."""
    return number_of(row, "ld_mm") - smallest.get(row_label(row), np.nan)


def review_flags_of(row: Record) -> list[str]:
    """Return the remarks on a lesion that require review."""
    flags = flags_of(row)
    return [flag for flag in REVIEW_FLAGS if flag in flags]


def prominence_of(
    row: Record | None, count: int, number: int, smallest: dict[str, float]
) -> tuple[int, float, int, int]:
    """Order of drawing: new, grown, with a remark, targets, others; the largest first."""
    if row is None:
        return (4, 0.0, -int(count), number)
    size = number_of(row, "ld_mm")
    grown = growth_since_smallest_mm(row, smallest) >= _GROWN * smallest.get(row_label(row), np.inf)
    first = (
        text_of(row, "event") in ("new", "reappeared"),
        grown,
        bool(review_flags_of(row)) or text_of(row, "certainty") == "candidate",
        text_of(row, "role") == "target",
    )
    rank = first.index(True) if any(first) else len(first)
    return (rank, -(size if np.isfinite(size) else 0.0), -int(count), number)
