"""Sessions in order of time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from datetime import time as clock
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path

import pandas as pd

from mettrail.cohort.people import TIMES, SessionInfo, read_session_info
from mettrail.cohort.table import Row, Warned, warn
from mettrail.errors import InputError
from mettrail.reasons import Reason
from mettrail.schema import MISSING

DAYS_PER_YEAR = 365.25
# Nobody is followed for so long. BIDS lets dates be shifted to before 1925, and some are shifted only in part.
GAP_YEARS = 50
# What participants.tsv says of the time of treatment.
TREATMENT = ("treatment_start_day", "treatment_start_date", "immunotherapy_start_day")
# The table that tells the start of treatment where participants.tsv does not.
START_FROM = "treatment_start_from"


@dataclass(frozen=True)
class Axis:
    """The time axis of a patient's sessions.

    Parameters
    ----------
    kind : str
        What the sessions have: ``date``, ``day`` or ``treatment`` (days since it began).
    first : date or None
        Day 0, where they have dates.
    days : tuple of float
        Of the sessions, in order.
    """

    kind: str
    first: date | None
    days: tuple[float, ...]

    @property
    def is_torn(self) -> bool:
        """Whether sessions are decades apart: no other day can be placed then."""
        return any(after - before > GAP_YEARS * DAYS_PER_YEAR for before, after in pairwise(self.days))

    def place(self, day: str, at: str) -> tuple[float, str]:
        """Return the day of something that is given as a day or as a date, and a warning (mostly empty).

        Raises
        ------
        ValueError
            It cannot be placed; the text says why.
        """
        counted = MISSING
        if at != MISSING and self.first:
            counted = str((datetime.fromisoformat(at).date() - self.first).days)
        elif at != MISSING and day == MISSING:
            raise ValueError(f"the date {at[:10]}, but the visits have days and no dates; expected a day")
        if self.is_torn:
            raise ValueError("visits decades apart; expected dates that are all shifted by the same")
        taken = float(counted if day == MISSING else day)
        years = min(abs(taken - each) for each in self.days) / DAYS_PER_YEAR
        if years > GAP_YEARS:
            raise ValueError(
                f"day {taken:g}, {years:.0f} years from the nearest visit; expected dates that are shifted as those "
                "of the visits"
            )
        if MISSING not in (day, counted) and float(day) != float(counted):
            return taken, f"day {day}, but {at[:10]} is day {counted}; expected the same. Day {day} is taken."
        return taken, ""


def find_axis(sessions: Iterable[Row]) -> Axis | None:
    """Return the time axis of a patient's sessions (rows with ``usable`` and ``time``); None where one is undated."""
    # Sessions that are excluded anyway may lack a date.
    times = [row["time"] for row in sessions if row["usable"] == "true" or row["time"] != MISSING]
    kinds = {time.partition(":")[0] for time in times}
    if len(kinds) != 1 or kinds == {MISSING}:
        return None
    kind = kinds.pop()
    if kind == "date":
        dates = sorted(_moment(time).date() for time in times)
        return Axis(kind, dates[0], tuple(float((each - dates[0]).days) for each in dates))
    return Axis(kind, None, tuple(sorted(map(_number, times))))


def order_sessions(bids: Path | None, sub: str, sessions: Iterable[str]) -> tuple[list[str], bool]:
    """Put labels of a patient's sessions in order of time, by what stands in the dataset, if there is one.

    Returns
    -------
    sessions : list of str
    dated : bool
        Whether every session has a date, or every one a day; if not, they are in the order of their labels.

    Raises
    ------
    InputError
        A date or a day that cannot be read, a table that is malformed, a word that is not in the vocabulary.
    """
    sessions = list(sessions)
    info = read_session_info(Path(bids), sub, dict.fromkeys(sessions, MISSING)) if bids else SessionInfo()
    for ses in sessions:
        if ses in info.excluded:
            raise InputError(
                f"{bids}/sub-{sub}",
                found=info.excluded[ses][1],
                expected="dates or days that can be read",
                advice="Correct it in the sessions' table.",
            )
    times = {ses: read_time(info.rows.get(ses, {})) for ses in sessions}
    dated = len({time.partition(":")[0] for time in times.values()}) == 1 and MISSING not in times.values()
    return sorted(times, key=lambda ses: (_position(times[ses] if dated else MISSING), _natural(ses))), dated


def order_table(table: pd.DataFrame, participants: Mapping[str, Row]) -> pd.DataFrame:
    """Put each patient's sessions in order of time, number them, count days and name each one's prior session."""
    rows: list[Row] = []
    for sub, of_patient in groupby(sorted(rows_of(table), key=itemgetter("sub")), key=itemgetter("sub")):
        sessions = sorted(of_patient, key=lambda row: _natural(row["ses"]))
        participant = participants.get(sub, {})
        axis = find_axis(sessions)
        if axis:
            # Those without a date are excluded anyway; they come last.
            sessions.sort(key=lambda row: (row["time"] == MISSING, _position(row["time"])))
            for row in sessions:
                row["days"] = _day(row["time"], sessions[0]["time"])
            _flag_same_dates(sessions)
            _flag_gaps(sessions)
            start = _place_treatment(sessions, participant, axis.kind)
            for row in sessions:
                row["treatment_start_day"] = MISSING if axis.is_torn else start
        else:
            _flag_undated(sub, sessions, participant)
        prior = MISSING
        for number, row in enumerate(sessions, start=1):
            row |= {"order": str(number), "prior": prior, "flags": row["flags"] or MISSING}
            prior = row["ses"] if row["usable"] == "true" else prior
        rows += sessions
    return pd.DataFrame(rows, columns=table.columns)


def _flag_undated(sub: str, sessions: list[Row], participant: Row) -> None:
    """Flag the sessions of a patient who has no time axis: one undated session makes the order of all uncertain."""
    undated = [f"ses-{row['ses']}" for row in sessions if (row["usable"], row["time"]) == ("true", MISSING)]
    found = f"no acq_time for {', '.join(undated)}" if undated else "dates for some visits and days for others"
    why = (
        f"sub-{sub}/sub-{sub}_sessions.tsv: {found}; expected acq_time, or days_from_baseline, for every "
        "session. Visits are taken in the order of their labels, and no response can be confirmed."
    )
    for row in sessions:
        warn(row, Reason.NO_DATES, why if row is _first_used(sessions) else "")
    unused = [name for name in TREATMENT if participant.get(name, MISSING) != MISSING]
    if unused:
        warn(
            _first_used(sessions), Reason.TREATMENT_DATE_UNUSED,
            f"participants.tsv: {', '.join(unused)} cannot be used without dates of the visits. The first "
            "evaluable visit is taken for the baseline.",
        )  # fmt: skip


def read_time(info: Row) -> str:
    """Return ``date:ISO``, ``day:N`` or ``treatment:N`` (days since its start), or n/a where none is given.

    Parameters
    ----------
    info : dict
        A row of `people.SessionInfo`: its cells are canonical.
    """
    for column, kind in zip(TIMES, ("date", "day", "treatment")):
        given = info.get(column, MISSING)
        if given != MISSING:
            return f"{kind}:{given if kind == 'date' else float(given)}"
    return MISSING


def add_warnings(table: pd.DataFrame, warnings: Mapping[str, list[Warned]]) -> pd.DataFrame:
    """Return a table of ordered sessions with warnings about patients, each at the first session that is used."""
    rows = rows_of(table)
    for sub, given in warnings.items():
        for flag, sentence in given:
            warn(_first_used([row for row in rows if row["sub"] == sub]), flag, sentence)
    return pd.DataFrame(rows, columns=table.columns)


def rows_of(table: pd.DataFrame) -> list[Row]:
    """Return the rows of a table of text."""
    names = [str(name) for name in table.columns]
    return [dict(zip(names, cells)) for cells in table.to_numpy().tolist()]


def _first_used(sessions: list[Row]) -> Row:
    """Return the first session that is used, or the first one where none is."""
    return next((row for row in sessions if row["usable"] == "true"), sessions[0])


def _flag_same_dates(sessions: list[Row]) -> None:
    for _, same in groupby((row for row in sessions if row["days"] != MISSING), key=itemgetter("days")):
        of = list(same)
        if len(of) == 1:
            continue
        times = {_position(row["time"]) for row in of}
        # Midnight stands for a time of day that is not known.
        timed = len(times) == len(of) and all(_has_time_of_day(row["time"]) for row in of)
        names = " and ".join(f"ses-{row['ses']}" for row in of)
        for row in of:
            warn(
                row, Reason.SAME_DATE,
                f"{names} have one date; expected one visit a day. They are taken in the order of their "
                f"{'times of day' if timed else 'labels'}: correct acq_time, or exclude one (index.edits, usable = "
                "false).",
            )  # fmt: skip


def _flag_gaps(sessions: list[Row]) -> None:
    """Flag sessions decades after the one before."""
    for before, after in pairwise(row for row in sessions if row["days"] != MISSING):
        years = (float(after["days"]) - float(before["days"])) / DAYS_PER_YEAR
        if years > GAP_YEARS:
            warn(
                after if after["usable"] == "true" else _first_used(sessions), Reason.DATE_GAP,
                f"ses-{after['ses']} is {years:.0f} years after ses-{before['ses']}; expected dates that are all "
                "shifted by the same, or none. Days of treatment are not used.",
            )  # fmt: skip


def _place_treatment(sessions: list[Row], participant: Row, kind: str) -> str:
    """Return the day on which treatment began, on the time axis of ordered sessions; n/a where it is not known.

    Parameters
    ----------
    sessions : list of dict
    participant : dict
        A row of participants.tsv.
    kind : str
        What the sessions have: ``date``, ``day`` or ``treatment`` (days since it began).
    """
    day, start, immunotherapy = (participant.get(name, MISSING) for name in TREATMENT)
    at, why, counted = _first_used(sessions), "the visits are counted from its start, day 0", MISSING
    if kind == "treatment":
        counted = "0"
    elif kind == "date" and start != MISSING:
        counted = str((datetime.fromisoformat(start).date() - _moment(sessions[0]["time"]).date()).days)
        why = f"treatment_start_date {start[:10]} is day {counted}"
    elif start != MISSING and day == MISSING:
        warn(
            at, Reason.TREATMENT_DATE_UNUSED,
            f"participants.tsv: treatment_start_date {start[:10]}, but the visits have days and no dates; expected "
            "treatment_start_day. The first evaluable visit is taken for the baseline.",
        )  # fmt: skip
    taken = counted if kind == "treatment" or day == MISSING else day
    if MISSING not in (day, counted) and float(day) != float(counted):
        warn(
            at, Reason.TREATMENT_DATE_UNUSED,
            f"participants.tsv: treatment_start_day {day}, but {why}; expected the same. Day {taken} is taken.",
        )  # fmt: skip
    if kind == "treatment":
        written = "the start of treatment, day 0,"
    else:
        written = f"treatment_start_day {day}" if day != MISSING else f"treatment_start_date {start[:10]}"
    start_is_near = _is_near(sessions, at, written, taken)
    if not _is_near(sessions, at, f"immunotherapy_start_day {immunotherapy}", immunotherapy) or not start_is_near:
        return MISSING
    before = float(sessions[0]["days"]) - float(taken if taken != MISSING else "inf")
    if before > 0 and kind != "treatment":
        warn(
            at, Reason.TREATMENT_BEFORE_SCANS,
            f"{participant.get(START_FROM, 'participants.tsv')}: treatment started {before:g} days before the first "
            "scan; expected a scan before it. The first evaluable visit is taken for the baseline: correct the date if "
            "that is wrong.",
        )  # fmt: skip
    return taken


def _is_near(sessions: list[Row], at: Row, written: str, day: str) -> bool:
    """Whether a day is within decades of a session; warn where it is not."""
    if day == MISSING:
        return True
    years = min(abs(float(day) - float(row["days"])) for row in sessions if row["days"] != MISSING) / DAYS_PER_YEAR
    if years > GAP_YEARS:
        warn(
            at, Reason.DATE_GAP,
            f"participants.tsv: {written} is {years:.0f} years from the nearest visit; expected dates of treatment and "
            "of scans that are shifted by the same. Days of treatment are not used.",
        )  # fmt: skip
    return years <= GAP_YEARS


def _moment(time: str) -> datetime:
    """Return the date and time of day of a session that has a date (`read_time`)."""
    return datetime.fromisoformat(time.partition(":")[2])


def _number(time: str) -> float:
    """Return the day of a session that has a day (`read_time`)."""
    return float(time.partition(":")[2])


def _position(time: str) -> tuple[int, float]:
    """Return a key by which the dates, or the days, of a patient's sessions are sorted."""
    if time == MISSING:
        return 0, 0.0
    if not time.startswith("date:"):
        return 0, _number(time)
    moment = _moment(time)
    return moment.toordinal(), (moment - datetime.combine(moment, clock())).total_seconds()


def _has_time_of_day(time: str) -> bool:
    return time.startswith("date:") and _moment(time).time() != clock()


def _day(time: str, first: str) -> str:
    """Return the day of a session, counted from the first where they have dates."""
    if time == MISSING:
        return MISSING
    if time.startswith("date:"):
        return str((_moment(time).date() - _moment(first).date()).days)
    return f"{_number(time):g}"


def _natural(label: str) -> list[tuple[int, int | str]]:
    """Sort key that puts 2 before 10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", label) if part]
