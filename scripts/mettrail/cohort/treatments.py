"""Treatments and outcomes that a dataset records, on the time axis of the patient's sessions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mettrail import points
from mettrail.cohort.order import START_FROM, Axis
from mettrail.cohort.people import recognise, show, tables_by_another_name
from mettrail.cohort.table import Row, Unused, Warned, leave_unused
from mettrail.errors import InputError
from mettrail.reasons import Reason
from mettrail.schema import MISSING, vocabulary
from mettrail.schema.tsv import is_given, read_table

# Treatments of single lesions: which ones has to be said.
SURGERY = "surgery"
LOCAL = ("srs", "fsrt", SURGERY)
NEEDED = ("treatment_id", "type", "target")
ALL = "all"
TRACK = re.compile(r"L\d{3,}")
# Outcomes that participants.tsv may have, as `<name>_day` or `<name>_date`, and the warning about one not used.
OUTCOMES = {
    "death": Reason.DEATH_UNUSED,
    "last_contact": Reason.LAST_CONTACT_UNUSED,
    "leptomeningeal": Reason.LEPTOMENINGEAL_UNUSED,
}
_NUMBERS = ("dose_gy", "fractions", "isodose_pct")


@dataclass(frozen=True)
class Treatments:
    """What a patient's table of treatments says.

    Parameters
    ----------
    rows : list of dict
        One per treatment and target, all text: ``treatment_id``, ``type``, ``day`` (on the time axis of the sessions),
        ``session_id``, ``target`` (``all``, ``L001``, ``x;y;z``, or ``n/a``, of surgery on what no scan shows),
        ``dose_gy``, ``fractions``, ``isodose_pct``; and ``where`` it stands.
    not_used : list of dict
        Rows that cannot be used (`table.leave_unused`).
    warnings : list of (Reason, str)
        Flags and sentences about cells that are not used.
    """

    rows: list[Row] = field(default_factory=list)
    not_used: list[Unused] = field(default_factory=list)
    warnings: list[Warned] = field(default_factory=list)


def read_treatments(
    bids: Path, sub: str, sessions: Iterable[str], axis: Axis | None, treatment_type: str = MISSING
) -> Treatments:
    """Read sub-X_treatments.tsv; a row that cannot be used is listed, and the others are used.

    Parameters
    ----------
    bids : Path
    sub : str
    sessions : iterable of str
        Labels of the patient's sessions.
    axis : Axis or None
        Their time axis; no treatment can be placed without one.
    treatment_type : str
        What participants.tsv says was done: lesions treated one by one are asked for where there is no table.
    """
    found, path = Treatments(), bids / f"sub-{sub}" / f"sub-{sub}_treatments.tsv"
    shown = f"sub-{sub}/{path.name}"
    if not is_given(path):
        others = tables_by_another_name(path.parent, "treatments")
        for other in others:
            said = f"sub-{sub}/{other.name} is not read; expected {path.name}, a text separated by tabs."
            found.warnings.append((Reason.TABLE_NOT_READ, said))
        given = [word for word in treatment_type.split(";") if word in LOCAL]
        if given and not others:
            said = (
                f"participants.tsv: treatment_type {';'.join(given)}, and no {shown}; expected which lesions were "
                "treated, a row each: treatment_id, type, date (or day), session_id, target (all, a point x;y;z in "
                "RAS mm of that session's scan, or a lesion, L001), dose_gy, fractions. Without it no lesion counts "
                "as treated."
            )
            found.warnings.append((Reason.TREATMENTS_MISSING, said))
        return found
    try:
        table = read_table(path, needed=NEEDED, known=["session_id", *vocabulary.of_table("treatments")])
    except InputError as err:
        found.not_used.append(leave_unused(shown, sub, err.reason, err.in_one_line()))
        return found
    reader = _Reader(found, sub, set(sessions), axis)
    for line, row in zip(table.lines, table.rows):
        reader.read(f"{shown}, line {line}", row)
    return found


def operated_before(treatments: Iterable[Mapping[str, str]], participant: Mapping[str, str], day: str) -> bool:
    """Return whether surgery is on record before a session; a scan on the day of surgery counts as made before it.

    Parameters
    ----------
    treatments : iterable of dict
        The patient's (see `Treatments`).
    participant : mapping
        The row of participants.tsv, where ``treatment_type`` may be surgery, on the day treatment started.
    day : str
        Of the session, on the same time axis; ``n/a`` where it is not known.

    Examples
    --------
    >>> [operated_before([{"type": "surgery", "day": "10"}], {}, day) for day in ("10", "11", "n/a")]
    [False, True, False]
    """
    days = [row["day"] for row in treatments if row["type"] == SURGERY]
    if participant.get("treatment_type") == SURGERY:
        days.append(participant.get("treatment_start_day", MISSING))
    return day != MISSING and any(float(each) < float(day) for each in days if each != MISSING)


def place_outcomes(participant: Mapping[str, str], axis: Axis | None) -> tuple[dict[str, str], list[Warned]]:
    """Return the days of a patient's outcomes on the time axis of the sessions, and warnings about those not used."""
    days: dict[str, str] = {}
    warnings: list[Warned] = []

    def say(name: str, said: str) -> None:
        warnings.append((OUTCOMES[name], f"participants.tsv: {name}: found {said.removesuffix('.')}."))

    for name in OUTCOMES:
        day, at = (participant.get(f"{name}_{unit}", MISSING) for unit in ("day", "date"))
        days[f"{name}_day"] = MISSING
        if day == at == MISSING:
            continue
        if axis is None:
            say(name, "a day, and no dates of the visits; it is not used")
            continue
        try:
            placed, odd = axis.place(day, at)
        except ValueError as err:
            say(name, f"{err}; it is not used")
            continue
        last = axis.days[-1]
        if name == "death" and placed < last:
            say(name, f"day {placed:g}, before the last scan on day {last:g}; expected a later day; it is not used")
            continue
        if name == "last_contact" and placed < last:
            say(name, f"day {placed:g}, before the last scan on day {last:g}, which is taken instead")
            continue
        if odd:
            say(name, odd)
        days[f"{name}_day"] = f"{placed:.15g}"
    return days, warnings


def start_of(participant: Mapping[str, str], treatments: Treatments, sub: str) -> Row:
    """Return the start of treatment that follows from the first treatment, where participants.tsv gives none."""
    known = any(participant.get(f"treatment_start_{unit}", MISSING) != MISSING for unit in ("day", "date"))
    if known or not treatments.rows:
        return {}
    first = min((row["day"] for row in treatments.rows), key=float)
    return {"treatment_start_day": first, START_FROM: f"sub-{sub}_treatments.tsv"}


class _Reader:
    """Reads rows one by one: each is used as it is, without a cell (a warning), or not at all (listed)."""

    def __init__(self, found: Treatments, sub: str, sessions: set[str], axis: Axis | None):
        self.found, self.sub, self.sessions, self.axis = found, sub, sessions, axis
        self.written: list[Row] = []

    def read(self, where: str, row: Mapping[str, str]) -> None:
        cells = {name: MISSING if vocabulary.is_missing(text) else text for name, text in row.items()}
        try:
            given, targets = self._judge(where, cells)
        except _BadCellError as err:
            said = f"found {show(cells.get(err.column, MISSING))}, expected {err}; the row is not used."
            self.found.not_used.append(
                leave_unused(f"{where}, column {err.column}", self.sub, Reason.BAD_TREATMENT, said)
            )
            return
        for target in targets:
            self._add(where, given | {"target": target, "where": where})

    def _judge(self, where: str, cells: Row) -> tuple[Row, list[str]]:
        """Return the treatment of a row, and its targets."""
        for name in NEEDED[:2]:
            if cells[name] == MISSING:
                raise _BadCellError(name, "what it is" if name == "type" else "a name for the treatment, e.g. t1")
        given = {"treatment_id": cells["treatment_id"], "type": self._required(cells, "type")}
        given["day"] = self._day(where, cells)
        given["session_id"] = self._session(cells)
        targets = self._targets(cells, given)
        for name in _NUMBERS:
            try:
                given[name] = vocabulary.read_cell(name, cells.get(name, MISSING))
            except ValueError as err:
                said = f"{where}: found {name} {show(cells[name])}, expected {err}; the cell is not used."
                self.found.warnings.append((Reason.BAD_CELL, said))
                given[name] = MISSING
        return given, targets

    def _required(self, cells: Row, name: str) -> str:
        try:
            return vocabulary.read_cell(name, cells.get(name, MISSING))
        except ValueError as err:
            raise _BadCellError(name, str(err)) from err

    def _day(self, where: str, cells: Row) -> str:
        day, at = self._required(cells, "day"), self._required(cells, "date")
        name = "date" if day == MISSING else "day"
        if day == at == MISSING:
            raise _BadCellError(name, "when it was: a date, or a day in the column day")
        if self.axis is None:
            raise _BadCellError(name, "dates of all visits: without them a treatment has no place in time")
        try:
            placed, odd = self.axis.place(day, at)
        except ValueError as err:
            raise _BadCellError(name, f"a time near the visits, but this is {err}") from err
        if odd:
            self.found.warnings.append((Reason.TREATMENT_DATE_UNUSED, f"{where}: found {odd}"))
        return f"{placed:.15g}"

    def _session(self, cells: Row) -> str:
        name = cells.get("session_id", MISSING).removeprefix("ses-").strip()
        if name == MISSING:
            return MISSING
        label = recognise(name, [name], self.sessions)
        if label not in self.sessions:
            known = ", ".join(f"ses-{ses}" for ses in sorted(self.sessions))
            raise _BadCellError("session_id", f"a session of the patient: {known}")
        return f"ses-{label}"

    def _targets(self, cells: Row, given: Row) -> list[str]:
        text = cells["target"]
        expected = f"a lesion (L001), a point {points.EXPECTED}, or all"
        if text == MISSING and given["type"] not in LOCAL:
            return [ALL]
        if text == MISSING and given["type"] == SURGERY:
            return [MISSING]
        if text.lower() == ALL:
            return [ALL]
        try:
            point = points.read_point(text)
        except ValueError as err:
            raise _BadCellError("target", expected) from err
        if point and given["session_id"] == MISSING:
            raise _BadCellError("target", "the session_id of the scan in which the point was taken")
        if point:
            return [";".join(f"{x:.15g}" for x in point)]
        names = [name.strip() for name in text.split(";") if name.strip()]
        if not names or not all(TRACK.fullmatch(name) for name in names):
            raise _BadCellError("target", expected)
        return names

    def _add(self, where: str, given: Row) -> None:
        same = [row for row in self.written if row["treatment_id"] == given["treatment_id"]]
        for name in ("type", "day"):
            if same and same[0][name] != given[name]:
                said = (
                    f"found another {name} of treatment {show(given['treatment_id'])} than in "
                    f"{same[0]['where'].rpartition(', ')[2]}, expected one; the row is not used."
                )
                item = leave_unused(f"{where}, column {name}", self.sub, Reason.DUPLICATE_ROW, said)
                self.found.not_used.append(item)
                return
        twice = [row for row in same if (row["target"], row["session_id"]) == (given["target"], given["session_id"])]
        if twice:
            said = (
                f"found treatment {show(given['treatment_id'])} of {given['target']} again, after "
                f"{twice[0]['where'].rpartition(', ')[2]}, expected it once; the row is not used."
            )
            self.found.not_used.append(leave_unused(f"{where}, column target", self.sub, Reason.DUPLICATE_ROW, said))
            return
        self.written.append(given)
        self.found.rows.append(given)


class _BadCellError(ValueError):
    """A cell for which its row cannot be used; the text says what was expected."""

    def __init__(self, column: str, expected: str):
        self.column = column
        super().__init__(expected)
