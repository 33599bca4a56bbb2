"""Hold the tables of two runs against each other: python tests/compare_tables.py BEFORE AFTER [--ignore COLUMN ...]

BEFORE and AFTER are folders with `lesions.csv`, `sessions.csv`, `patients.csv` ... Names that changed between the two
versions are taken from the table in CHANGELOG.md. Prints every cell that differs; exits with 1 where one does.
"""

import argparse
import re
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
KEYS = ("participant_id", "session_id", "track_id", "treatment_id", "setting", "value")
SHOWN = 40


def read_names(changelog: str) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Return columns, old to new; and values, old to new by the column (new name) they stand in."""
    columns: dict[str, str] = {}
    values: dict[str, dict[str, str]] = {}
    for where, old, new in re.findall(r"^\| ([^|]+?) \| `([^`|]+)` \| `([^`|]+)` \|$", changelog, flags=re.M):
        if where == "column":
            columns[old] = new
        elif where.startswith("value of "):
            for name in re.findall(r"`(\w+)`", where):
                values.setdefault(name, {})[old] = new
    return columns, values


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Return the tables of a folder by name, all cells text."""
    return {path.stem: pd.read_csv(path, dtype=str, keep_default_na=False) for path in sorted(folder.glob("*.csv"))}


def rename(table: pd.DataFrame, columns: dict[str, str], values: dict[str, dict[str, str]]) -> pd.DataFrame:
    """Return a table of the old version with the names of the new one."""
    table = table.rename(columns=columns)
    for name, words in values.items():
        if name in table:
            table[name] = [";".join(words.get(word, word) for word in cell.split(";")) for cell in table[name]]
    return table


def differences(before: pd.DataFrame, after: pd.DataFrame, ignored: set[str]) -> list[str]:
    """Return what differs between two tables, one line each."""
    lines = [f"column {name} is gone" for name in before if name not in after and name not in ignored]
    lines += [f"column {name} is new" for name in after if name not in before and name not in ignored]
    keys = [name for name in KEYS if name in before and name in after]
    one, two = (table.set_index(keys).sort_index() for table in (before, after))
    if list(one.index) != list(two.index):
        gone, new = one.index.difference(two.index), two.index.difference(one.index)
        return lines + [f"row {row} is gone" for row in gone] + [f"row {row} is new" for row in new]
    for name in one.columns.intersection(two.columns).difference(list(ignored)):
        for row in one.index[one[name].to_numpy() != two[name].to_numpy()]:
            lines.append(f"{row} {name}: {one.loc[row, name]} -> {two.loc[row, name]}")
    return lines


def main() -> int:
    """Compare, say what differs, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--ignore", nargs="*", default=["config_hash"], help="columns that may differ")
    given = parser.parse_args()
    columns, values = read_names((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    old, new = read_tables(given.before), read_tables(given.after)
    found = [f"table {name} is in one folder only" for name in old.keys() ^ new.keys()]
    cells = 0
    for name in old.keys() & new.keys():
        table = rename(old[name], columns, values)
        cells += table.size
        found += [f"{name}: {line}" for line in differences(table, new[name], set(given.ignore))]
    print(*found[:SHOWN], sep="\n")
    print(f"{len(old)} tables, {cells} cells: {len(found) or 'no'} difference{'s' if len(found) != 1 else ''}")
    return int(bool(found) or not cells)


if __name__ == "__main__":
    sys.exit(main())
