"""Cells of rows, as tables between stages give them: ``None``, NaN, an empty text and ``n/a`` are missing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from mettrail.schema import MISSING

# A row of a table; keys are names of columns.
Row = Mapping[str, Any]


def value_of(row: Row, name: str, default: Any = None) -> Any:
    """Return what a row says, or `default` where it is missing."""
    value = row.get(name)
    if value is None or (isinstance(value, str) and value in ("", MISSING)):
        return default
    return default if not isinstance(value, str) and pd.isna(value) else value


def number_of(row: Row, name: str) -> float:
    """Return a number of a row; NaN where it is missing."""
    return float(value_of(row, name, math.nan))


def flags_of(row: Row) -> list[str]:
    """Return the flags of a row."""
    return [flag for flag in str(value_of(row, "flags", "")).split(";") if flag]


def join_words(words: Iterable[str]) -> str | None:
    """Join words by ``;``, each once; None without any."""
    return ";".join(dict.fromkeys(words)) or None
