"""What a column is, and what several tables share: `lesions`, `sessions`, `patients` and `evaluation` list them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MISSING = "n/a"
DTYPES = {"string": "str", "enum": "str", "integer": "Int64", "float": "float64", "boolean": "boolean"}
# How booleans are written: as BIDS has them, and as R and spreadsheets read them.
TSV_BOOLEANS, CSV_BOOLEANS = ("true", "false"), ("TRUE", "FALSE")


@dataclass(frozen=True)
class Column:
    """One column of a final table.

    Parameters
    ----------
    name, description : str
    dtype : str
        ``string``, ``enum``, ``integer``, ``float`` or ``boolean``.
    unit : str
        ``mm``, ``mm^2``, ``mm^3``, ``mL``, ``%``, ``d``, ``1`` (a fraction), ``1/year`` or empty (other numbers, text).
    levels : dict of str to str
        Allowed values and what they mean. Values of a list are joined by ``;``.
    revisable : bool
        Whether a cell may change when a later session arrives. All other cells of earlier sessions never do.
    many, open_ : bool
        Whether a cell is a ``;``-joined list, and whether values beyond the levels are allowed.
    stage : str
        The step of the pipeline that first says it: ``measure`` (per component of a scan), ``match`` (per lesion),
        ``track`` (per lesion, of its components), ``locate``; empty for what the response works out.
    combine : str
        What a lesion of several components has: ``sum`` of theirs, or that of the ``largest``; empty for what is worked
        out anew (`tracking.matching`).
    absent : float, optional
        What an absent or merged lesion has; None for n/a.
    """

    name: str
    dtype: str
    description: str
    unit: str = ""
    levels: Mapping[str, str] = field(default_factory=dict)
    revisable: bool = False
    many: bool = False
    open_: bool = False
    stage: str = ""
    combine: str = ""
    absent: float | None = None

    @property
    def meaning(self) -> str:
        """The description, and what follows from the other facts."""
        said = [self.description]
        if self.combine:
            said.append(f"Of several components: {'their sum' if self.combine == 'sum' else 'of the largest'}.")
        if self.absent is not None:
            said.append(f"{self.absent:g} if absent.")
        return " ".join(said)


def text(name: str, description: str, **more: Any) -> Column:
    """Describe a column of text."""
    return Column(name, "string", description, **more)


def enum(name: str, description: str, levels: Mapping[str, str], **more: Any) -> Column:
    """Describe a column with levels."""
    return Column(name, "enum", description, levels=levels, **more)


def integer(name: str, description: str, unit: str = "", **more: Any) -> Column:
    """Describe a column of whole numbers."""
    return Column(name, "integer", description, unit, **more)


def floating(name: str, description: str, unit: str, **more: Any) -> Column:
    """Describe a column of numbers."""
    return Column(name, "float", description, unit, **more)


def boolean(name: str, description: str, **more: Any) -> Column:
    """Describe a column of true and false."""
    return Column(name, "boolean", description, **more)


def flags(known: Mapping[str, str], **more: Any) -> Column:
    """Describe the column of remarks."""
    return Column("flags", "enum", "Remarks, joined by ;.", levels=known, many=True, open_=True, **more)


PARTICIPANT = text("participant_id", "Patient, as in the dataset.")
SESSION = text("session_id", "Session, as in the dataset.")
DAYS = integer(
    "days_from_t0", "Days from the start of treatment; from the baseline session where that is unknown.", "d"
)
# Whose row it is.
WHOSE = (PARTICIPANT, SESSION)
NO_EDEMA = "n/a unless segmented manually or from FLAIR or T2w"
PERCENT = "n/a where the reference is 0 or unknown"

RESPONSE = {
    "CR": "complete response: all lesions concerned have disappeared",
    "PR": "partial response: smaller than at baseline by the threshold",
    "SD": "stable disease: neither PR nor PD",
    "PD": "progressive disease: larger than at nadir by the threshold, or new lesions",
    "NE": "not evaluable",
}
OVERALL = RESPONSE | {
    "ND": "no disease: no lesion at this session, at baseline or between",
    "uPD": "unconfirmed progression: only new lesions, under immunotherapy",
    "NON_CR_NON_PD": "no target lesions, and the non-target lesions neither absent nor progressing",
}
