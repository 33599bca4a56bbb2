"""Values of the tables as people read them: few digits, units, plain words. The tables keep all digits."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from mettrail import schema
from mettrail.schema.cells import number_of, text_of, truth_of

Record = Mapping[str, Any]
"""A row of a table: value by column."""

_SHOWN_UNITS = {"mm^2": "mm²", "mm^3": "mm³", "1": ""}


def records_of(table: pd.DataFrame) -> list[Record]:
    """Return the rows of a table."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def show(kind: str, name: str, row: Record, *, unit: bool = True) -> str:
    """Show a cell of a final table: rounded, with the sign of changes and, where asked for, the unit.

    Examples
    --------
    >>> show("lesions", "ld_mm", {"ld_mm": 12.34}), show("sessions", "sum_ld_change_nadir_pct", {})
    ('12.3 mm', 'n/a')
    """
    column = schema.column(kind, name)
    if column.dtype == "boolean":
        return {True: "yes", False: "no", None: "n/a"}[truth_of(row, name)]
    if column.dtype not in ("float", "integer"):
        return text_of(row, name) or "n/a"
    number = number_of(row, name)
    if math.isnan(number):
        return "n/a"
    if column.dtype == "integer":
        return _signed(f"{number:.0f}")
    if column.unit == "%":
        shown = _percent(number)
    elif column.unit == "mL":
        shown = f"{number:.1f}" if number >= 10 else f"{number:.2f}"
    else:
        shown = f"{number:.1f}"
    return spaced(_signed(shown), _SHOWN_UNITS.get(column.unit, column.unit) if unit else "")


def show_volume(ml: float) -> str:
    """Show a volume in mL, a small one in mm³.

    Examples
    --------
    >>> show_volume(1.234), show_volume(0.0123), show_volume(float("nan"))
    ('1.23 mL', '12 mm³', 'n/a')
    """
    if math.isnan(ml):
        return "n/a"
    return f"{ml:.2f} mL" if ml >= 0.1 else f"{ml * 1000:.0f} mm³"


def show_change(fraction: float) -> str:
    """Show a change as a table does.

    Examples
    --------
    >>> show_change(-0.354), show_change(0.001)
    ('−35 %', '0 %')
    """
    return _signed(f"{_percent(100 * fraction)} %")


def show_day(session: Record) -> str:
    """Say on which day a session was."""
    day = number_of(session, "days_from_t0")
    return "day unknown" if math.isnan(day) else _signed(f"day {day:.0f}")


def show_unit(column: schema.Column) -> str:
    """Return the unit to stand below a column's heading: none for fractions and days, which the heading names."""
    return {"1": "", "d": ""}.get(column.unit, column.unit)


def show_role(row: Record) -> str:
    """Name a lesion's role in the response."""
    return text_of(row, "role").replace("nontarget", "non-target").replace("prebaseline", "before baseline")


def show_candidate(row: Record) -> str:
    """Say that a lesion is a candidate, and how probable a calibrated model thinks it is; nothing for others."""
    if text_of(row, "certainty") != "candidate":
        return ""
    confidence = number_of(row, "confidence")
    return "candidate" if math.isnan(confidence) else f"candidate, confidence {confidence:.2f}"


def meaning_of(kind: str, name: str, value: str) -> str:
    """Return what a value means, from the tables' own dictionary; empty where it has no entry."""
    return schema.column(kind, name).levels.get(value, "")


def plain_words(value: str) -> str:
    """Write a value of a table as words."""
    return value.replace("_", " ") or "no reason recorded"


def plain_label(label: str) -> str:
    """Return a label without its entity.

    Examples
    --------
    >>> plain_label("sub-A"), plain_label("02")
    ('A', '02')
    """
    return re.sub(r"^(sub|ses)-", "", label)


def spaced(*parts: str) -> str:
    """Join what is not empty by spaces."""
    return " ".join(part for part in parts if part)


def plural_of(number: int, word: str) -> str:
    """Write a number and its noun."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def _percent(percent: float) -> str:
    return f"{percent:+.0f}" if abs(percent) >= 0.5 else "0"


def _signed(shown: str) -> str:
    """Write a minus as typographers do."""
    return shown.replace("-", "−")
