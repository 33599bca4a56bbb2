"""The only place that reads or writes tables.

Final tables are TSV with ``n/a`` for what is missing and a JSON dictionary of the same stem, as BIDS wants it, and CSV
mirrors with empty fields for those who concatenate (the evaluation has these alone). Booleans are ``true`` and
``false`` in TSV, as BIDS has them, and ``TRUE`` and ``FALSE`` in CSV, which R and spreadsheets read as logical values.
Numbers are rounded here, when written, and nowhere before.

Tables that stages hand to each other are plain TSV (`write_tsv`, `read_tsv`): any columns, numbers exact.

In memory, text is ``str``, whole numbers ``Int64``, booleans ``boolean``, all others ``float64``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mettrail.errors import InputError
from mettrail.reasons import Reason
from mettrail.schema.columns import CSV_BOOLEANS, DTYPES, MISSING, TSV_BOOLEANS, Column
from mettrail.schema.kinds import KEYS, KINDS, columns
from mettrail.schema.lesions import BETWEEN

# Decimals when written. Finer than any scan, coarse enough that a table does not pretend.
DECIMALS = {"mm": 3, "mm^2": 3, "mm^3": 3, "mL": 6, "%": 3, "Gy": 3, "d": 2, "1": 4, "1/year": 3}
# Numbers without a unit (means of any score, p) have as many figures instead.
FIGURES = 6
# Types of the columns whose type must not depend on what happens to stand in them.
_KNOWN = {
    c.name: c.dtype
    for columns_ in (*(KINDS[kind] for kind in ("lesions", "sessions", "patients", "treated_lesions")), BETWEEN)
    for c in columns_
}


def empty(kind: str) -> pd.DataFrame:
    """Make a table without rows, with all columns and their types."""
    return pd.DataFrame({c.name: pd.Series(dtype=DTYPES[c.dtype]) for c in KINDS[kind]})


def make_table(rows: Iterable[Mapping[str, Any]] | pd.DataFrame, kind: str) -> pd.DataFrame:
    """Check rows against the list of columns and give each column its type.

    Parameters
    ----------
    rows : iterable of dict, or DataFrame
        ``None`` and NaN are missing.
    kind : str
        ``lesions``, ``sessions`` or ``patients``.

    Returns
    -------
    DataFrame
        Columns in the order of the list. Days are whole numbers from here on.

    Raises
    ------
    InputError
        A column too many or too few, a value that is not among the levels, a number where there should be none, a row
        twice.
    """
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    if frame.empty and len(frame.columns) == 0:
        return empty(kind)
    extra, lacking = set(frame.columns) - set(columns(kind)), set(columns(kind)) - set(frame.columns)
    if extra or lacking:
        found = [f"unknown: {', '.join(sorted(extra))}"] * bool(extra)
        found += [f"lacking: {', '.join(sorted(lacking))}"] * bool(lacking)
        raise _refuse(kind, "; ".join(found), f"the {len(KINDS[kind])} columns of schema/columns.py and no others")
    frame = pd.DataFrame({c.name: _typed(frame[c.name], c, kind) for c in KINDS[kind]}).reset_index(drop=True)
    keys = list(KEYS[kind])
    if frame[keys].isna().any(axis=None):
        raise _refuse(kind, f"a row without {' or '.join(keys)}", "identity in every row")
    twice = frame[frame.duplicated(keys)]
    if len(twice):
        raise _refuse(
            kind, f"two rows of {' '.join(map(str, twice.iloc[0][keys]))}", f"one row per {' and '.join(keys)}"
        )
    return frame


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or bool(value != value)  # not equal to itself: NaN


def _refuse(kind: str, found: str, expected: str) -> InputError:
    return InputError(
        f"table {kind}",
        found=found,
        expected=expected,
        advice="Correct the step that writes this table.",
        reason=Reason.BAD_TABLE,
    )


def _typed(series: pd.Series, column: Column, kind: str) -> pd.Series:
    values = [None if _is_missing(v) or v in ("", MISSING) else v for v in series.tolist()]
    bad = None
    if column.dtype in ("string", "enum"):
        series = pd.Series([None if v is None else str(v) for v in values], dtype="str")
        bad = {v for v in values if v is not None and any(c in str(v) for c in "\t\r\n")}
        if column.dtype == "enum" and not column.open_:
            given = {p for v in values if v is not None for p in (str(v).split(";") if column.many else [str(v)])}
            bad |= given - set(column.levels)
    elif column.dtype == "boolean":
        bad = {v for v in values if v is not None and v not in (True, False)}
        series = pd.Series([None if v is None or bad else bool(v) for v in values], dtype="boolean")
    else:
        numbers, bad = [], set()
        for v in values:
            try:
                numbers.append(math.nan if v is None else float(v))
            except (TypeError, ValueError):
                bad.add(v)
        if column.dtype == "float":
            bad |= {n for n in numbers if math.isinf(n)}
            series = pd.Series(numbers, dtype="float64")
        else:
            if column.unit != "d":  # days may come as fractions; a count may not
                bad |= {n for n in numbers if not math.isnan(n) and n != round(n)}
            series = pd.Series([None if math.isnan(n) else math.floor(n + 0.5) for n in numbers], dtype="Int64")
    if bad:
        expected = ", ".join(column.levels) if column.dtype == "enum" else f"{column.dtype}, on one line"
        raise _refuse(kind, f"{column.name} = {', '.join(sorted(map(str, bad)))}", f"{expected} or n/a")
    return series


def write_table(table: pd.DataFrame, path: Path, kind: str, *, maker: Mapping[str, Any] | None = None) -> None:
    """Write a final table as TSV with ``n/a``, and its dictionary beside it as JSON.

    Parameters
    ----------
    table : DataFrame
        All columns of its kind and no others, in any order.
    path : path
        Ends in ``.tsv``; the dictionary has the same stem.
    kind : str
        ``lesions``, ``sessions`` or ``patients``.
    maker : mapping, optional
        From `sidecars.describe_maker`: the dictionary then says, as GeneratedBy, what made the table.
    """
    _write(table, path, kind, [maker] if maker else [], separator="\t", missing=MISSING, booleans=TSV_BOOLEANS)


def write_csv_mirror(
    table: pd.DataFrame,
    path: Path,
    kind: str,
    *,
    maker: Mapping[str, Any] | None = None,
    tools: Mapping[str, str] | None = None,
) -> None:
    """Write a final table as CSV, and its dictionary beside it as JSON.

    Fields are empty for what is missing; booleans are ``TRUE`` and ``FALSE``, which R and spreadsheets understand.
    Tools, by their name, with their version, are named in GeneratedBy after the maker.
    """
    makers = [*([maker] if maker else []), *({"Name": name, "Version": of} for name, of in (tools or {}).items())]
    _write(table, path, kind, makers, separator=",", missing="", booleans=CSV_BOOLEANS)


def _write(
    table: pd.DataFrame,
    path: Path,
    kind: str,
    makers: Iterable[Mapping[str, Any]],
    *,
    separator: str,
    missing: str,
    booleans: tuple[str, str],
) -> None:
    path = Path(path)
    table = make_table(table, kind)
    shown = pd.DataFrame({c.name: [_shown(v, c, missing, booleans) for v in table[c.name]] for c in KINDS[kind]})
    path.parent.mkdir(parents=True, exist_ok=True)
    shown.to_csv(path, sep=separator, index=False, lineterminator="\n", encoding="utf-8")
    generated = {"GeneratedBy": [dict(maker) for maker in makers]}
    described = data_dictionary(kind, booleans=booleans) | (generated if generated["GeneratedBy"] else {})
    dictionary = json.dumps(described, indent=2, ensure_ascii=False)
    path.with_suffix(".json").write_text(dictionary + "\n", encoding="utf-8")


def _shown(value: Any, column: Column, missing: str, booleans: tuple[str, str]) -> str:
    if pd.isna(value):
        return missing
    if column.dtype == "boolean":
        return booleans[0] if value else booleans[1]
    if column.dtype == "float" and not column.unit:
        return f"{value:.{FIGURES}g}"
    if column.dtype == "float":
        return f"{round(value, DECIMALS[column.unit]) + 0.0:.15g}"  # + 0.0: no minus before zero
    return str(value)


def read_table(path: str | Path, kind: str) -> pd.DataFrame:
    """Read a final table, TSV or its CSV mirror, and check it like `make_table`."""
    path = Path(path)
    mirror = path.suffix == ".csv"
    text = _read_text(path, separator="," if mirror else "\t", missing="" if mirror else MISSING)
    dtypes = {c.name: c.dtype for c in KINDS[kind]}
    return make_table(
        pd.DataFrame({n: _parsed(text[n], dtypes[n], path) if n in dtypes else text[n] for n in text}), kind
    )


def read_tables(paths: Iterable[str | Path], kind: str) -> pd.DataFrame:
    """Read final tables of many patients as one, in the order given; none gives an empty table."""
    parts = [part for part in (read_table(path, kind) for path in paths) if len(part)]
    return make_table(pd.concat(parts, ignore_index=True), kind) if parts else empty(kind)


def data_dictionary(kind: str, *, booleans: tuple[str, str] = TSV_BOOLEANS) -> dict[str, dict[str, Any]]:
    """Describe the columns of a table as BIDS does.

    Parameters
    ----------
    kind : str
    booleans : (str, str)
        How the table writes what is true and what is false.

    Returns
    -------
    dict
        Per column ``Description``, and where they apply ``Units``, ``Levels``, ``Delimiter`` and ``Revisable``. Columns
        that join several levels have ``LevelsOfEachPart``: BIDS allows only single values beside ``Levels``.
    """
    described: dict[str, dict[str, Any]] = {}
    for c in KINDS[kind]:
        described[c.name] = {"LongName": c.name.replace("_", " "), "Description": c.meaning}
        if c.unit:
            described[c.name]["Units"] = c.unit
        if c.dtype == "boolean":
            described[c.name]["Levels"] = dict(zip(booleans, ("yes", "no")))
        if c.levels:
            described[c.name]["LevelsOfEachPart" if c.many else "Levels"] = dict(c.levels)
        if c.many:
            described[c.name]["Delimiter"] = ";"
        if c.revisable:
            described[c.name]["Revisable"] = True
    return described


def markdown_table(kind: str) -> str:
    """Show the columns of a table as Markdown, for people; levels that several columns share are listed once."""
    lines = ["| column | type | unit | meaning |", "| --- | --- | --- | --- |"]
    listed: dict[tuple[tuple[str, str], ...], str] = {}
    for c in KINDS[kind]:
        meaning = c.meaning + (" May change when a later session arrives." if c.revisable else "")
        levels = tuple(c.levels.items())
        if levels in listed:
            meaning += f" Levels as in `{listed[levels]}`."
        elif levels:
            listed[levels] = c.name
            meaning += " " + "; ".join(f"`{level}`: {what}" for level, what in levels) + "."
        lines.append(f"| `{c.name}` | {c.dtype} | {c.unit} | {meaning} |".replace("  ", " "))
    return "\n".join(lines) + "\n"


def renew_markdown(text: str) -> str:
    """Return a text with every table between ``<!-- columns: KIND -->`` and ``<!-- end -->`` made anew."""

    def renew(found: re.Match[str]) -> str:
        return f"<!-- columns: {found[1]} -->\n\n{markdown_table(found[1])}\n<!-- end -->"

    return re.sub(r"<!-- columns: (\w+) -->.*?<!-- end -->", renew, text, flags=re.DOTALL)


def write_tsv(table: pd.DataFrame, path: Path) -> None:
    """Write a table between stages: any columns, numbers exact, ``n/a``, ``true`` and ``false``.

    Raises
    ------
    InputError
        A text holds a tab or a line break.
    """
    path = Path(path)
    shown = pd.DataFrame({name: [_exact(v, name, path) for v in table[name]] for name in table.columns}, dtype=object)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(map(str, table.columns))]
    lines += ["\t".join(row) for row in shown.itertuples(index=False, name=None)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _exact(value: Any, name: str, path: Path) -> str:
    if _is_missing(value):
        return MISSING
    if isinstance(value, (bool, np.bool_)):
        return str(value).lower()
    if isinstance(value, str):
        if any(c in value for c in "\t\r\n") or value == "":
            raise InputError(
                f"{path}, column {name}",
                found=repr(value),
                expected="text without tabs and line breaks, not empty",
                advice="Use n/a (None) for what is missing.",
                reason=Reason.BAD_TABLE,
            )
        return value
    number = float(value)
    return str(int(value)) if number == value and not isinstance(value, float) else repr(number)


def read_tsv(path: str | Path, *, text: Iterable[str] = ()) -> pd.DataFrame:
    """Read a table between stages.

    Parameters
    ----------
    path : path
        TSV with ``n/a`` for what is missing.
    text : iterable of str
        Columns to leave as text whatever they hold (``01`` is a label, not one).

    Returns
    -------
    DataFrame
        Columns that bear the name of a column of the final tables have its type, also when empty; others are whole
        numbers, floats, booleans or text by what they hold.
    """
    path, text = Path(path), set(text)
    raw = _read_text(path, separator="\t", missing=MISSING)
    names = map(str, raw.columns)
    return pd.DataFrame(
        {n: raw[n] if n in text else _parsed(raw[n], _KNOWN.get(n) or _guessed(raw[n]), path) for n in names}
    )


def read_tsvs(paths: Iterable[str | Path], *, text: Iterable[str] = ()) -> pd.DataFrame:
    """Read tables between stages as one, in the order given; those without rows still give their columns."""
    parts = [read_tsv(path, text=text) for path in paths]
    full = [part for part in parts if len(part)] or parts[:1]
    return pd.concat(full, ignore_index=True) if full else pd.DataFrame()


def _read_text(path: Path, *, separator: str, missing: str) -> pd.DataFrame:
    if not path.stat().st_size:
        raise InputError(
            str(path),
            found="an empty file",
            expected="a header at least",
            advice="Make it again.",
            reason=Reason.BAD_TABLE,
        )
    return pd.read_csv(path, sep=separator, dtype="str", na_values=[missing], keep_default_na=False, encoding="utf-8")


def _guessed(raw: pd.Series) -> str:
    given = [v for v in raw if isinstance(v, str)]
    if not given:
        return "string"
    if set(given) <= {"true", "false"}:
        return "boolean"
    if any(len(v.lstrip("-")) > 1 and v.lstrip("-").isdigit() and v.lstrip("-")[0] == "0" for v in given):
        return "string"  # 01 is a label
    for dtype, number in (("integer", int), ("float", float)):
        try:
            for v in given:
                number(v)
        except ValueError:
            continue
        return dtype
    return "string"


def _parsed(raw: pd.Series, dtype: str, path: Path) -> pd.Series:
    if dtype in ("string", "enum"):
        return raw.astype("str")
    try:
        if dtype == "boolean":
            words = {"true": True, "false": False}
            return pd.Series([words[v.lower()] if isinstance(v, str) else None for v in raw], dtype="boolean")
        numbers = [float(v) if isinstance(v, str) else math.nan for v in raw]
        if dtype == "float":
            return pd.Series(numbers, dtype="float64")
        if any(n != int(n) for n in numbers if not math.isnan(n)):
            raise ValueError(f"not whole numbers in {raw.name}")
        return pd.Series([None if math.isnan(n) else int(n) for n in numbers], dtype="Int64")
    except (ValueError, KeyError) as error:
        raise InputError(
            f"{path}, column {raw.name}",
            found=str(error),
            expected=f"{dtype} or {MISSING}",
            advice="Correct the value.",
            reason=Reason.BAD_TABLE,
        ) from error
