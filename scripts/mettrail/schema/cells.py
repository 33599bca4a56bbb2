"""Cells of rows, as tables between stages give them: ``None``, NaN, an empty text and ``n/a`` are missing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from mettrail.schema import MISSING

# A row of a table; keys are names of columns, which pandas knows as anything hashable.
Row = Mapping[Any, Any]


def value_of(row: Row, name: str, default: Any = None) -> Any:
    """Return what a row says, or `default` where it is missing."""
    value = row.get(name)
    if value is None or (isinstance(value, str) and value in ("", MISSING)):
        return default
    return default if not isinstance(value, str) and pd.isna(value) else value


def number_of(row: Row, name: str) -> float:
    """Return a number of a row; NaN where it is missing."""
    return float(value_of(row, name, math.nan))


def text_of(row: Row, name: str) -> str:
    """Return a text of a row; empty where it is missing."""
    return str(value_of(row, name, ""))


def truth_of(row: Row, name: str) -> bool | None:
    """Return whether a row says yes; None where it is missing.

    Raises
    ------
    TypeError
        The cell is not a boolean: the text ``false`` would pass for true.
    """
    value = value_of(row, name)
    if not (value is None or isinstance(value, bool | np.bool_)):
        raise TypeError(f"{name} is {value!r}, not a boolean: read the table with schema.read_table")
    return None if value is None else bool(value)


def words_of(row: Row, name: str) -> list[str]:
    """Return the words of a cell that joins several by ``;``."""
    return [word for word in text_of(row, name).split(";") if word]


def flags_of(row: Row) -> list[str]:
    """Return the flags of a row."""
    return words_of(row, "flags")


def join_words(words: Iterable[str]) -> str | None:
    """Join words by ``;``, each once; None without any."""
    return ";".join(dict.fromkeys(words)) or None
