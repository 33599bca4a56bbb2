"""What earlier runs and readers have decided."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mettrail import points
from mettrail.cohort import overrides
from mettrail.errors import InputError
from mettrail.reasons import Reason
from mettrail.schema import MISSING, vocabulary
from mettrail.schema.tsv import bad_table, is_given, read_frame, read_table

EDITS = ("sub", "ses", "column", "value")


@dataclass(frozen=True)
class Settled:
    """What an earlier run has decided for a patient: the reference session, the lesion IDs, the targets."""

    reference: str
    registries: list[str]
    trajectories: str


def find_registries(folder: str, out: Path) -> dict[str, Settled]:
    """Return what is to be kept of an earlier run, by patient; empty without a folder.

    Raises
    ------
    InputError
        No such folder, no registry in it, or the folder that this run writes to.
    """
    if not folder:
        return {}
    found: dict[str, list[Path]] = {}
    for path in sorted(Path(folder).glob("sub-*/ses-*/anat/*_desc-lesions_registry.json")):
        found.setdefault(path.name.split("_")[0].removeprefix("sub-"), []).append(path)
    if not found or Path(folder).resolve() == Path(out).resolve():
        raise InputError(
            f"config: frozen = {folder}",
            found="no lesion registries there" if not found else "the results folder of this run",
            expected="the results folder of an earlier run",
            advice="Keep a copy of the earlier results and name it, or leave frozen empty.",
        )
    return {
        sub: Settled(
            reference=json.loads(paths[0].read_text())["reference"].get("session_id", "n/a"),
            registries=[str(path) for path in paths],
            trajectories=str(Path(folder) / f"sub-{sub}" / f"sub-{sub}_desc-lesions_trajectories.tsv"),
        )
        for sub, paths in found.items()
    }


def find_overrides(folder: Path, patients: list[str]) -> dict[str, str]:
    """Return the readers' tables (``sub-A/sub-A_desc-lesions_overrides.tsv``) by patient, each read once.

    Raises
    ------
    InputError
        No such folder, a table by another name, one of a patient that is not in the cohort, or one that makes no sense.
    """
    if not folder.is_dir():
        raise InputError(
            folder,
            found="no such folder",
            expected="a folder with sub-A/sub-A_desc-lesions_overrides.tsv",
            advice="Correct overrides, or leave it empty: tables beside the scans are found by themselves.",
        )
    found = {}
    for path in sorted([*folder.glob("*overrides.*"), *folder.glob("sub-*/*overrides.*")]):
        if path.name.startswith(".") or path.suffix not in (".tsv", ".csv", ".txt", ".xlsx"):
            continue
        sub = path.parent.name.removeprefix("sub-")
        if path.parent == folder or path.name != f"sub-{sub}_desc-lesions_overrides.tsv":
            raise InputError(
                path,
                found="a reader's table by another name",
                expected="sub-A/sub-A_desc-lesions_overrides.tsv, A being the patient",
                advice="Correct its name, or take it away.",
            )
        if sub not in patients:
            raise InputError(
                path,
                found=f"decisions on sub-{sub}",
                expected=f"a patient of the cohort: {', '.join(f'sub-{each}' for each in patients)}",
                advice="Correct its name, or take it away.",
            )
        # An error is raised now, and not hours later by the job that uses the table.
        table = read_frame(path)
        overrides.read_overrides(table, source=str(path))
        _require_points(table, path)
        found[sub] = str(path)
    return found


def _require_points(table: pd.DataFrame, path: Path) -> None:
    """Refuse places of lesions that are not three numbers, or name no session."""
    for line, row in zip(table.index, table.to_dict("records")):
        try:
            point = points.read_point(row["track_id"])
        except ValueError as err:
            found, expected = f"track_id {row['track_id']!r}", f"a lesion (L001), or a point {err}"
        else:
            if not point or not vocabulary.is_missing(row["session_id"]):
                continue
            found, expected = f"the point {row['track_id']} without session_id", "the session in whose scan it is"
        raise InputError(
            f"{path}, line {line}",
            found=found,
            expected=expected,
            advice="Correct the reader's table.",
            reason=Reason.BAD_OVERRIDES,
        )


def read_edits(path: Path) -> list[dict[str, Any]]:
    """Read the corrections of the cohort table: sub, ses, column and value of each, and its line.

    Raises
    ------
    InputError
        No such file, a table that is malformed, a value that does not fit its column, two values for one cell.
    """
    if not is_given(path):
        raise InputError(path, found="no such file", expected="a TSV", advice="Correct index.edits or leave it empty.")
    table = read_table(path, needed=EDITS)
    edits: dict[tuple[str, str, str], dict[str, Any]] = {}
    for line, row in zip(table.lines, table.rows):
        sub, ses = row["sub"].removeprefix("sub-"), row["ses"].removeprefix("ses-")
        column, value = row["column"], row["value"]
        key, where = (sub, ses, column), f"{path}, line {line}"
        try:
            if column == "usable":
                value = vocabulary.read_word(value)
            elif column == "days":
                value = vocabulary.read_number(value)
            elif vocabulary.is_missing(value):
                value = MISSING
            else:
                value = vocabulary.read_cell(column, value)
        except ValueError as err:
            raise bad_table(where, found=f"{column} {value!r}", expected=str(err), advice="Correct the value.") from err
        if edits.get(key, {"value": value})["value"] != value:
            raise bad_table(
                where,
                found=f"a second {column} for sub-{sub} ses-{ses}, after line {edits[key]['line']}",
                expected="one",
                advice="Keep the line that is meant.",
            )
        edits[key] = {"sub": sub, "ses": ses, "column": column, "value": value, "line": line}
    return list(edits.values())
