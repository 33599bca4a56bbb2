"""Tables that people write, read strictly: what is in a file is taken as it stands, or the file is refused by line.

Spreadsheets, editors and converters leave tables that a lenient reader shifts by a column or cuts short without a word.
Nothing is guessed here: cells are what stands between tabs, quotes are ordinary characters, and every row has as many
cells as the header.
"""

from __future__ import annotations

import codecs
import difflib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mettrail.errors import InputError
from mettrail.reasons import Reason

# From which likeness on a name is a slip of the pen: treatment_start_data, but not treatment_end_date.
MISSPELT = 0.9
SAVE_AS = "Save it again as text separated by tabs, in UTF-8."


@dataclass(frozen=True)
class Table:
    """A table of text.

    Parameters
    ----------
    columns : list of str
    rows : list of dict
        Column to text, without blanks around it; an empty cell is ``""``.
    lines : list of int
        Where each row stands in the file; the header is in line 1.
    """

    columns: list[str]
    rows: list[dict[str, str]]
    lines: list[int]


def is_given(path: Path) -> bool:
    """Whether there is such a file, or a link that should lead to one."""
    return os.path.lexists(path)


def read_table(path: Path, *, needed: Iterable[str] = (), known: Iterable[str] = ()) -> Table:
    """Read a table, tab-separated, of UTF-8, of UTF-16 with its byte order mark, or of an 8-bit code such as Latin-1.

    Parameters
    ----------
    path : Path
    needed : iterable of str
        Columns without which the table says nothing.
    known : iterable of str
        Other columns that are read. Known and needed ones are recognised in any spelling: ``Session ID`` is
        ``session_id``.

    Raises
    ------
    InputError
        With the reason ``bad_table``: no text, other separators than tabs, a row with more or fewer cells than the
        header, two columns of one name or one without any, a column that is needed and lacks. With the reason
        ``unknown_column``: a name that is nearly that of a known column, which the table does not have.
    """
    path = Path(path)
    text = _decode(path).lstrip("\ufeff")
    # Not str.splitlines, which also breaks lines at signs that may stand in a cell.
    lines = [(number, line.split("\t")) for number, line in enumerate(re.split(r"\r\n|\r|\n", text), start=1)]
    lines = [(number, [cell.strip() for cell in cells]) for number, cells in lines]
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if not lines:
        raise bad_table(path, found="an empty file", expected="a header at least", advice=SAVE_AS)
    header_line, header = lines.pop(0)
    needed = list(needed)
    _require_tabs(path, header, needed)
    where = f"{path}, line {header_line}"
    columns = _name_columns(where, header, [*needed, *known])
    lacking = [name for name in needed if name not in columns]
    if lacking:
        raise bad_table(
            where,
            found=f"columns {', '.join(filter(None, columns))}",
            expected=f"a column {' and a column '.join(lacking)}",
            advice="Name the columns in the first line.",
        )
    _require_cells(path, where, columns, lines)
    # Spreadsheets leave empty columns without a name.
    rows = [{name: cell for name, cell in zip(columns, cells) if name} for _, cells in lines]
    return Table([name for name in columns if name], rows, [number for number, _ in lines])


def read_frame(path: Path, *, needed: Iterable[str] = ()) -> pd.DataFrame:
    """Read a table as `read_table` does; rows bear the number of their line."""
    table = read_table(path, needed=needed)
    return pd.DataFrame(table.rows, columns=table.columns, index=table.lines, dtype=object)


def bad_table(what: str | Path, *, found: str, expected: str, advice: str) -> InputError:
    """Make the error of a table that cannot be read."""
    return InputError(what, found=found, expected=expected, advice=advice, reason=Reason.BAD_TABLE)


def _decode(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as err:
        lost = path.is_symlink() and not path.exists()
        raise bad_table(
            path,
            found="a link that leads nowhere" if lost else f"no file that can be read ({err.strerror})",
            expected="a table",
            advice="Fetch what it points to, or take it away." if lost else "Correct its name or its permissions.",
        ) from err
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            text = data.decode("utf-16")
        except UnicodeDecodeError:
            text = "\0"
    else:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            # Whatever 8-bit code it is: all we read of a table is ASCII, which they share.
            text = data.decode("latin-1")
    if "\0" in text:
        raise bad_table(
            path,
            found="zero bytes: no text, or UTF-16 without its mark",
            expected="a table of text",
            advice=SAVE_AS,
        )
    return text


def _require_tabs(path: Path, header: list[str], needed: list[str]) -> None:
    """Refuse a file whose cells are separated by something else."""
    if len(header) > 1 or header[0] in needed:
        return
    for sign, name in ((";", "semicolons"), (",", "commas"), (" ", "blanks"), ("|", "bars")):
        names = header[0].split(sign)
        # Blanks may as well be those of a sentence.
        if len(names) > 1 and (sign in ";," or set(needed) & set(names)):
            raise bad_table(path, found=f"columns separated by {name}", expected="tabs", advice=SAVE_AS)


def _name_columns(where: str, header: list[str], known: list[str]) -> list[str]:
    """Give columns the names we know them by."""
    spelt = {_fold(name): name for name in known}
    columns = [spelt.get(_fold(name), name) for name in header]
    for n, name in enumerate(columns):
        if name and name in columns[:n]:
            raise bad_table(
                where,
                found=f"more than one column {name}",
                expected="one",
                advice="Keep the one that is meant.",
            )
    absent = [name for name in known if name not in columns]
    for name in columns:
        meant = difflib.get_close_matches(name, absent, n=1, cutoff=MISSPELT) if name not in known else []
        if meant:
            raise InputError(
                where,
                found=f"a column {name}, which nothing reads",
                expected=f"did you mean {meant[0]}?",
                advice="Correct its name, or call it something else.",
                reason=Reason.UNKNOWN_COLUMN,
            )
    return columns


def _require_cells(path: Path, where: str, columns: list[str], lines: list[tuple[int, list[str]]]) -> None:
    """Refuse rows that have more or fewer cells than the header, and cells under no name."""
    for number, cells in lines:
        if len(cells) != len(columns):
            tab = len(cells) > len(columns) and not any(cells[len(columns) :])
            raise bad_table(
                f"{path}, line {number}",
                found=f"{len(cells)} cells" + (", the last of them empty" if tab else ""),
                expected=f"{len(columns)}, as in the header: {', '.join(columns)}",
                advice="Take away the tab at its end." if tab else "Put one tab between two cells; n/a where empty.",
            )
    for n, name in enumerate(columns):
        if not name and any(cells[n] for _, cells in lines):
            raise bad_table(
                where,
                found=f"no name for column {n + 1}",
                expected="a name for each column",
                advice="Name it, or take out the tab that is too many.",
            )


def _fold(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())
