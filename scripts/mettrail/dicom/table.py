"""The table of series: what each series is taken for, for a person to correct, and the key back to the DICOM.

It names patients and series, and belongs beside the DICOM, not into the dataset.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

import pandas as pd

from mettrail import schema
from mettrail.dicom.roles import ROLES, judge_series
from mettrail.dicom.series import Series
from mettrail.errors import InputError
from mettrail.schema import MISSING, tsv

YES, NO, ASK = "yes", "no", "?"
# What a person may correct, then what the scan is, then what leads back to the DICOM.
COLUMNS = (
    "use", "participant_id", "session_id", "days_from_baseline", "role", "why",
    "series_number", "series_description", "images", "slice_distance_mm",
    "patient_id", "study_date", "study_uid", "series_uid",
)  # fmt: skip
# Two series are as fine as each other where their slices differ by less.
_AS_FINE = 1.01

Row = dict[str, str]


def place_of_table(bids: Path) -> Path:
    """Return where the table of a dataset is unless another place is named: beside the dataset, not in it."""
    bids = bids.resolve()
    return bids.with_name(f"{bids.name}_series.tsv")


def path_of(row: Mapping[str, str]) -> str:
    """Return the path of a row's scan within the dataset.

    Examples
    --------
    >>> path_of({"participant_id": "sub-01", "session_id": "ses-02", "role": "FLAIR"})
    'sub-01/ses-02/anat/sub-01_ses-02_FLAIR.nii.gz'
    """
    sub, ses = row["participant_id"], row["session_id"]
    return f"{sub}/{ses}/anat/{sub}_{ses}_{row['role']}.nii.gz"


def write_rows(rows: Iterable[Mapping[str, str]], path: Path) -> None:
    """Write the table, ``n/a`` for what is empty."""
    cells = [{name: row.get(name) or None for name in COLUMNS} for row in rows]
    schema.write_tsv(pd.DataFrame(cells, columns=list(COLUMNS)), path)


def read_rows(path: Path) -> list[Row]:
    """Read the table as a person may have left it.

    Raises
    ------
    InputError
        Columns or words that are not known, two series for one scan, a session on two days: with the line.
    """
    table = tsv.read_table(path, needed=COLUMNS)
    rows = [{name: "" if row[name] == MISSING else row[name] for name in COLUMNS} for row in table.rows]
    taken: dict[str, int] = {}
    days: dict[tuple[str, str], tuple[str, int]] = {}
    for line, row in zip(table.lines, rows):
        where = f"{path}, line {line}"
        row["use"] = row["use"].lower()
        if row["use"] not in (YES, NO, ASK):
            raise _refuse(where, f"use = {row['use'] or MISSING}", f"{YES}, {NO} or {ASK}")
        if row["use"] != YES:
            continue
        if row["role"] not in ROLES:
            raise _refuse(where, f"role = {row['role'] or MISSING}", f"one of {', '.join(ROLES)} for what is used")
        for name, prefix in (("participant_id", "sub"), ("session_id", "ses")):
            if not re.fullmatch(rf"{prefix}-[a-zA-Z0-9]+", row[name]):
                raise _refuse(where, f"{name} = {row[name] or MISSING}", f"{prefix}- and letters or digits")
        try:
            float(row["days_from_baseline"])
        except ValueError:
            raise _refuse(where, f"days_from_baseline = {row['days_from_baseline'] or MISSING}", "a number") from None
        if path_of(row) in taken:
            raise _refuse(where, f"a second series for {path_of(row)}, beside line {taken[path_of(row)]}", "one")
        taken[path_of(row)] = line
        key = (row["participant_id"], row["session_id"])
        day, first = days.setdefault(key, (row["days_from_baseline"], line))
        if float(day) != float(row["days_from_baseline"]):
            raise _refuse(where, f"{' '.join(key)} on another day than in line {first}", "one day for a session")
    return rows


def _refuse(where: str, found: str, expected: str) -> InputError:
    return InputError(where, found=found, expected=expected, advice="Correct the line; use = no leaves a series out.")


def read_patients(path: Path) -> dict[str, str]:
    """Read which label each patient gets: PatientID to ``sub-X``.

    Raises
    ------
    InputError
        Not a table of ``patient_id`` and ``participant_id``, a label that BIDS does not allow, or two for one patient.
    """
    table = tsv.read_table(path, needed=("patient_id", "participant_id"))
    labels: dict[str, str] = {}
    for line, row in zip(table.lines, table.rows):
        label = f"sub-{row['participant_id'].removeprefix('sub-')}"
        if not re.fullmatch(r"sub-[a-zA-Z0-9]+", label) or labels.setdefault(row["patient_id"], label) != label:
            raise InputError(
                f"{path}, line {line}",
                found=f"{row['participant_id'] or 'nothing'} for {row['patient_id'] or 'nobody'}",
                expected="one label of letters and digits for each patient",
                advice="Correct the line.",
            )
    return labels


def plan_rows(series: Iterable[Series], known: list[Row], labels: Mapping[str, str] | None) -> list[Row]:
    """Return the table with a row for each series: known rows as they are, and what is decided of the others.

    Parameters
    ----------
    series : iterable of Series
    known : list of Row
        Of the table that there is; empty at first.
    labels : mapping, optional
        PatientID to ``sub-X``; patients are numbered where it is not given.

    Raises
    ------
    InputError
        A patient who is not in `labels`.
    """
    listed = {row["series_uid"] for row in known}
    added = [_describe(each) for each in series if each.uid not in listed]
    people = {row["patient_id"]: row["participant_id"] for row in known if row["participant_id"]}
    for row in added:
        if labels is not None and row["patient_id"] not in labels:
            raise InputError(
                f"patient {row['patient_id']}",
                found="no label in the table of patients",
                expected="one for every patient in the folder",
                advice="Add a line with patient_id and participant_id.",
            )
        label = labels[row["patient_id"]] if labels else _next_label("sub", people.values())
        row["participant_id"] = people.setdefault(row["patient_id"], label)
    rows = known + added
    for person in dict.fromkeys(row["participant_id"] for row in added):
        _number_sessions([row for row in rows if row["participant_id"] == person])
    _choose(rows, {id(row) for row in added})
    return sorted(rows, key=lambda row: (row["participant_id"], row["study_date"], row["series_number"].zfill(6)))


def _describe(series: Series) -> Row:
    judged = judge_series(series)
    distance = series.slice_distance_mm
    return {
        "use": (YES if judged.is_sure else ASK) if judged.role else NO,
        "participant_id": "",
        "session_id": "",
        "days_from_baseline": "",
        "role": judged.role,
        "why": judged.why,
        "series_number": series.number,
        "series_description": series.description,
        "images": str(series.images),
        "slice_distance_mm": f"{distance:g}" if distance else "",
        "patient_id": series.patient_id,
        "study_date": series.date,
        "study_uid": series.study_uid,
        "series_uid": series.uid,
    }


def _next_label(prefix: str, taken: Iterable[str]) -> str:
    numbers = [int(found[1]) for each in taken if (found := re.fullmatch(rf"{prefix}-(\d+)", each))]
    return f"{prefix}-{max(numbers, default=0) + 1:02d}"


def _number_sessions(rows: list[Row]) -> None:
    """Give the rows of one patient that have no session yet one for each day, in order of time, and count days."""
    wanted = [row for row in rows if row["role"]]
    sessions = {row["study_date"]: row["session_id"] for row in wanted if row["session_id"] and row["study_date"]}
    days = {row["study_date"]: row["days_from_baseline"] for row in wanted if row["days_from_baseline"]}
    dates = sorted({row["study_date"] for row in wanted if row["study_date"]})
    for date in dates:
        sessions.setdefault(date, _next_label("ses", sessions.values()))
    # Days go on from a day that the table has: its zero stays where it is.
    anchor, offset = next(((date, float(day)) for date, day in days.items() if date), (dates[0] if dates else "", 0.0))
    for row in rows:
        if not row["study_date"] and not row["session_id"] and row["use"] == YES:
            row["use"], row["why"] = (
                ASK,
                f"{row['why']}; no date: write session_id and days_from_baseline, and use = yes",
            )
        elif row["study_date"] in sessions and not row["session_id"]:
            row["session_id"] = sessions[row["study_date"]]
            passed = (_day(row["study_date"]) - _day(anchor)).days
            row["days_from_baseline"] = days.get(row["study_date"], f"{passed + offset:g}")


def _day(date: str) -> datetime:
    return datetime.strptime(date[:8], "%Y%m%d")


def _choose(rows: list[Row], added: set[int]) -> None:
    """Take the series with the thinnest slices where several play one role in a session; ask where they are as thin."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["session_id"] and row["use"] == YES:
            groups[path_of(row)].append(row)
    for group in groups.values():
        kept = next((row for row in group if id(row) not in added), None)
        best = kept or min(group, key=_fineness)
        for row in (row for row in group if id(row) in added and row is not best):
            rival = f"series {best['series_number']} {best['series_description']!r}".strip()
            if kept:
                row["use"], row["why"] = NO, f"{row['why']}; {rival} of the same day is in use already"
            elif _fineness(row) > _fineness(best) * _AS_FINE:
                row["use"], row["why"] = NO, (
                    f"{row['why']}; {rival} of the same day is taken: its slices are finer "
                    f"({best['slice_distance_mm']} mm, here {row['slice_distance_mm'] or MISSING} mm)"
                )  # fmt: skip
            else:
                for each, other in ((row, best), (best, row)):
                    each["use"] = ASK
                    each["why"] += f"; series {other['series_number']} of the same day is the same: use one"


def _fineness(row: Row) -> float:
    return float(row["slice_distance_mm"] or "inf")


def require_empty(folder: Path) -> None:
    """Refuse a place for new files that is there and holds something.

    Raises
    ------
    InputError
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            folder,
            found="a folder or file that holds something",
            expected="a new folder, or an empty one",
            advice="Name another one, or move that away. Nothing was written.",
        )
