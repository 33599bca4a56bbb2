"""What the tables of a dataset say of its participants and their sessions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from mettrail.cohort.table import Row, Unused, Warned, leave_unused
from mettrail.errors import InputError
from mettrail.reasons import Reason
from mettrail.schema import MISSING, vocabulary
from mettrail.schema.tsv import Table, is_given, read_table

# The columns that say when a session was, in the order in which they are asked.
TIMES = ("acq_time", "days_from_baseline", "days_from_treatment")


@dataclass(frozen=True)
class People:
    """What participants.tsv says.

    Parameters
    ----------
    rows : dict
        Label to the cells of the row: all columns, those of the vocabulary in its words, ``n/a`` where a cell is
        missing or cannot be read.
    not_used : list of dict
        Rows of patients whom the dataset does not have (`table.leave_unused`).
    warnings : dict
        Label to flags and sentences about cells that are not used.
    """

    rows: dict[str, Row] = field(default_factory=dict)
    not_used: list[Unused] = field(default_factory=list)
    warnings: dict[str, list[Warned]] = field(default_factory=dict)


@dataclass(frozen=True)
class SessionInfo:
    """What the tables of a patient's sessions say.

    Parameters
    ----------
    rows : dict
        Label to the cells of the row, as in `People`; acq_time from scans.tsv where sessions.tsv has no time.
    warnings : dict
        Label to flags and sentences.
    excluded : dict
        Label to the reason, and a sentence.
    """

    rows: dict[str, Row] = field(default_factory=dict)
    warnings: dict[str, list[Warned]] = field(default_factory=dict)
    excluded: dict[str, Warned] = field(default_factory=dict)

    def warn(self, ses: str, flag: Reason, sentence: str) -> None:
        """Add a warning about a session."""
        self.warnings.setdefault(ses, []).append((flag, sentence))


def read_people(bids: Path, subjects: Iterable[str]) -> People:
    """Read participants.tsv; the result is empty where there is none.

    Parameters
    ----------
    bids : Path
    subjects : iterable of str
        Labels of the dataset's folders.

    Raises
    ------
    InputError
        A table that is malformed or has another name, two rows for one participant, a name that is nearly one of the
        dataset's (``1`` for ``sub-01``), a word that is not in the vocabulary.
    """
    path, subjects = bids / "participants.tsv", set(subjects)
    people = People()
    if not is_given(path):
        others = [other for other in tables_by_another_name(bids, "participants") if "_" not in other.name]
        if others:
            raise InputError(
                others[0],
                found="a table of participants by another name",
                expected="participants.tsv, a text separated by tabs",
                advice="Save it so, or take it away.",
                reason=Reason.WRONG_NAME,
            )
        return people
    known = vocabulary.of_table("participants")
    table = read_table(path, needed=["participant_id"], known=known)
    names = [row["participant_id"].removeprefix("sub-").strip() for row in table.rows]
    words, without_row = _Words(path), subjects - set(names)
    for line, name, row in zip(table.lines, names, table.rows):
        if name in people.rows:
            raise InputError(
                f"{path}, lines {table.lines[names.index(name)]} and {line}",
                found=f"more than one row for sub-{name}",
                expected="one row per participant",
                advice="Keep the row that is meant.",
                reason=Reason.DUPLICATE_ROW,
            )
        if name in subjects:
            cells, warnings = words.judge(row, known, line, f"sub-{name}")
            people.rows[name] = cells | {"participant_id": f"sub-{name}"}
            if warnings:
                people.warnings[name] = warnings
            continue
        near = sorted(sub for sub in without_row if _near(sub) == _near(name))
        if near:
            raise InputError(
                f"{path}, line {line}",
                found=f"participant_id {row['participant_id']!r}, of whom the dataset has no folder",
                expected=f"did you mean {' or '.join(f'sub-{sub}' for sub in near)}?",
                advice="Write the name of the folder.",
                reason=Reason.UNKNOWN_PARTICIPANT,
            )
        found = f"a row for {row['participant_id']!r}, of whom the dataset has no folder; the row is not used."
        people.not_used.append(
            leave_unused(f"participants.tsv, line {line}", name or MISSING, Reason.NOBODY, f"participants.tsv: {found}")
        )
    words.require_known()
    return people


def read_participants(bids: Path, table: pd.DataFrame) -> dict[str, Row]:
    """Return, per patient of the cohort table, the row of participants.tsv (little in it where there is none)."""
    return complete_participants(read_people(bids, set(table["sub"])).rows, table)


def complete_participants(rows: Mapping[str, Row], table: pd.DataFrame) -> dict[str, Row]:
    """Return, per patient of the cohort table, the row of `People` with the day treatment began on its time axis."""
    completed = {}
    for label, sessions in table.groupby("sub", sort=True):
        sub = str(label)
        days = [day for day in sessions["treatment_start_day"] if day != MISSING]
        row = rows.get(sub, {}) | {"participant_id": f"sub-{sub}", "treatment_start_day": (days or [MISSING])[0]}
        # A day has no place on a time axis that jumps by a century (see `order.order_table`).
        if any(Reason.DATE_GAP in flags.split(";") for flags in sessions.get("flags", ())):
            row["immunotherapy_start_day"] = MISSING
        completed[sub] = row
    return completed


def read_session_info(bids: Path, sub: str, reference_scans: Mapping[str, str]) -> SessionInfo:
    """Read a patient's sessions.tsv, and the dates of scans.tsv for sessions that have none there.

    Parameters
    ----------
    bids : Path
    sub : str
    reference_scans : mapping
        Session to its reference scan, relative to the dataset. The date of a session without one is that of its first
        anatomical scan.

    Raises
    ------
    InputError
        With the reason ``bad_table``: one of the patient's tables is malformed. With another: a word that is not in
        the vocabulary.
    """
    info, folder = SessionInfo(), bids / f"sub-{sub}"
    sessions = {path.name[4:] for path in folder.glob("ses-*") if path.is_dir()} | set(reference_scans)
    # A warning that is not about one session is about the first that can be read.
    first = min((ses for ses, scan in reference_scans.items() if scan != MISSING), default=min(sessions, default="1"))
    path = folder / f"sub-{sub}_sessions.tsv"
    if is_given(path):
        _read_sessions(info, path, sub, sessions, first)
    else:
        for other in tables_by_another_name(folder, "sessions"):
            found = f"sub-{sub}/{other.name} is not read; expected sub-{sub}_sessions.tsv, a text separated by tabs."
            info.warn(first, Reason.TABLE_NOT_READ, found)
    _read_scan_times(info, bids, sub, sessions, reference_scans)
    return info


def _read_sessions(info: SessionInfo, path: Path, sub: str, sessions: set[str], first: str) -> None:
    known = vocabulary.of_table("sessions")
    table = read_table(path, needed=["session_id"], known=known)
    shown, words = f"sub-{sub}/{path.name}", _Words(path)
    written = [row["session_id"].removeprefix("ses-").strip() for row in table.rows]
    labels = [recognise(name, written, sessions) for name in written]
    for line, name, label, row in zip(table.lines, written, labels, table.rows):
        if vocabulary.is_missing(name) and name not in sessions:
            info.warn(first, Reason.ROW_NOT_USED, f"{shown}, line {line}: no session_id; the row is not used.")
            continue
        if label != name:
            said = (
                f"{shown}, line {line}: session_id {row['session_id']!r} is taken for ses-{label}; expected its name."
            )
            info.warn(label, Reason.SESSION_NAME, said)
        cells, warnings = words.judge(row, [c for c in known if c not in TIMES], line, f"ses-{label}")
        bad_date = _judge_times(cells, warnings, f"{shown}, line {line}, ses-{label}")
        if label in info.rows and cells | {"session_id": ""} != info.rows[label] | {"session_id": ""}:
            same = ", ".join(str(n) for n, other in zip(table.lines, labels) if other == label)
            found = f"{shown}: lines {same} are about ses-{label} and differ; expected one. Keep the one that is meant."
            info.excluded[label] = (Reason.DUPLICATE_ROW, found)
            continue
        if label in info.rows:
            info.warn(
                label, Reason.ROW_TWICE, f"{shown}, line {line}: a second row for ses-{label} that says the same."
            )
            continue
        info.rows[label] = cells | {"session_id": f"ses-{label}"}
        for warning in warnings:
            info.warn(label, *warning)
        if bad_date:
            info.excluded[label] = (Reason.BAD_DATE, bad_date)
    words.require_known()


def recognise(name: str, written: list[str], sessions: set[str]) -> str:
    """Return the session that a name in a table means: itself, or the only similar one (``1`` for ``01``)."""
    if name in sessions:
        return name
    near = [ses for ses in sessions if _near(ses) == _near(name)]
    alike = {other for other in written if _near(other) == _near(name)}
    return near[0] if len(near) == 1 and alike == {name} else name


def _judge_times(cells: Row, warnings: list[Warned], where: str) -> str:
    """Put the date or day of a session into canonical form; return why it cannot be read, or ``""``."""
    bad, timed = "", False
    for column in TIMES:
        try:
            cells[column] = vocabulary.read_cell(column, cells.get(column, MISSING))
        except ValueError as err:
            found = f"{where}: found {column} {show(cells[column])}, expected {err}"
            cells[column] = MISSING
            if timed:
                warnings.append((Reason.BAD_CELL, f"{found}; the cell is not used."))
            else:
                bad = bad or f"{found}; correct it (a shifted date is fine if order and distances are true)."
        timed = timed or cells[column] != MISSING
    if bad:
        # A session that is excluded anyway must not bring in a second time axis.
        cells |= dict.fromkeys(TIMES, MISSING)
    return bad


def _read_scan_times(
    info: SessionInfo, bids: Path, sub: str, sessions: set[str], reference_scans: Mapping[str, str]
) -> None:
    """Take the dates of sessions that have none yet from scans.tsv; compare the other dates with it."""
    disagrees = False
    folder = bids / f"sub-{sub}"
    for ses in sorted(sessions):
        path = folder / f"ses-{ses}" / f"sub-{sub}_ses-{ses}_scans.tsv"
        path = path if is_given(path) else folder / f"sub-{sub}_scans.tsv"
        if not is_given(path):
            for other in tables_by_another_name(folder / f"ses-{ses}", "scans"):
                found = f"{other.relative_to(bids)} is not read; expected sub-{sub}_ses-{ses}_scans.tsv."
                info.warn(ses, Reason.TABLE_NOT_READ, found)
            continue
        table = read_table(path, needed=["filename"], known=["acq_time"])
        if "acq_time" not in table.columns or ses in info.excluded:
            continue
        reference = reference_scans.get(ses, MISSING)
        row = info.rows.get(ses, {})
        untimed = all(row.get(column, MISSING) == MISSING for column in TIMES)
        given = row.get("acq_time", MISSING)
        times, bad = _times_of(table, f"ses-{ses}", reference)
        shown = path.relative_to(bids)
        if untimed and bad:
            info.excluded[ses] = (Reason.BAD_DATE, f"{shown}, {bad}; correct it.")
        elif untimed and len(times) > 1 and reference != MISSING:
            found = f"{shown}: rows of {reference} with different acq_time; expected one. None of them is used."
            info.warn(ses, Reason.SCAN_LISTED_TWICE, found)
        elif untimed and times:
            info.rows[ses] = row | {"acq_time": min(times)}
        elif untimed and reference != MISSING and not _rows_of(table, f"ses-{ses}", reference):
            found = f"{shown}: no row whose filename is {Path(reference).name}; the date of the scan is not known."
            info.warn(ses, Reason.SCAN_NOT_LISTED, found)
        elif times and not disagrees and given[:10] not in {MISSING, *(time[:10] for time in times)}:
            disagrees = True
            info.warn(
                ses, Reason.DATES_DISAGREE,
                f"{shown} has acq_time {min(times)}, sessions.tsv {given}; the latter is used, here and for this "
                "patient's other sessions.",
            )  # fmt: skip


def _rows_of(table: Table, session: str, reference: str) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a session's reference scan, or without one those of its anatomical scans, with their lines."""
    found = []
    for line, row in zip(table.lines, table.rows):
        # Relative to the folder of the table, as BIDS asks; some write it relative to the patient's or the dataset's.
        parts = PurePosixPath(row["filename"].replace("\\", "/").lstrip("/")).parts
        if reference != MISSING:
            mine = bool(parts) and PurePosixPath(reference).parts[-len(parts) :] == parts
        else:
            mine = "anat" in parts[-2:-1] and (
                session in parts or f"_{session}_" in parts[-1] or "_ses-" not in parts[-1]
            )
        if mine:
            found.append((line, row))
    return found


def _times_of(table: Table, session: str, reference: str) -> tuple[set[str], str]:
    """Return the times in a session's rows of scans.tsv, and what is wrong with the first that cannot be read."""
    times, bad = set(), ""
    for line, row in _rows_of(table, session, reference):
        try:
            times.add(vocabulary.read_cell("acq_time", row["acq_time"]))
        except ValueError as err:
            bad = bad or f"line {line}: found acq_time {show(row['acq_time'])}, expected {err}"
    return times - {MISSING}, bad


class _Words:
    """Judges the cells of one file, and collects unknown words, to name them all at once."""

    def __init__(self, path: Path):
        self.path = path
        self.found: list[str] = []
        self.expected: dict[str, str] = {}

    def judge(self, row: Mapping[str, str], columns: Iterable[str], line: int, who: str) -> tuple[Row, list[Warned]]:
        """Return the cells in canonical form, and warnings about those that cannot be read."""
        cells = {name: MISSING if vocabulary.is_missing(text) else text for name, text in row.items()}
        warnings: list[Warned] = []
        for name in columns:
            if name not in cells:
                continue
            try:
                cells[name] = vocabulary.read_cell(name, cells[name])
            except vocabulary.UnknownWordError as err:
                self.found.append(f"line {line} ({who}): {name} {show(cells[name])}")
                self.expected[name] = str(err)
                cells[name] = MISSING
            except ValueError as err:
                where = f"{self.path.name}, line {line}, {who}"
                said = f"{where}: found {name} {show(cells[name])}, expected {err}; the cell is not used."
                warnings.append((Reason.BAD_CELL, said))
                cells[name] = MISSING
        return cells, warnings

    def require_known(self) -> None:
        """Refuse the file if it has words whose effect on the response is not known."""
        if self.found:
            more = f"; and {len(self.found) - 5} more" if len(self.found) > 5 else ""
            raise InputError(
                self.path,
                found="; ".join(self.found[:5]) + more,
                expected="; ".join(f"{name}: {words}" for name, words in self.expected.items()),
                advice="Write one of these words, or n/a where it is not known.",
                reason=Reason.UNKNOWN_WORD,
            )


def tables_by_another_name(folder: Path, what: str) -> list[Path]:
    """List files that may be meant as a table that is not there."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if re.fullmatch(rf"(.*_)?{what}.*", path.name.lower())
        and not path.name.startswith(".")
        and path.suffix != ".json"
        and path.is_file()
    )


def _near(label: str) -> str:
    """Return a form in which names are alike that differ in case, leading zeros and signs between (``1.0`` is 1)."""
    bare = re.sub(r"^[^a-z0-9]*(sub|ses)([^a-z0-9]+|(?=\d))|\.0+$", "", label.lower())
    return re.sub(r"\d+", lambda digits: digits[0].lstrip("0") or "0", re.sub("[^a-z0-9]", "", bare))


def show(text: str) -> str:
    """Quote a cell so that it fits into a sentence."""
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
