"""Visits in order of time."""

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
from mettrail.errors import InputError
from mettrail.reasons import Reason
from mettrail.schema import MISSING

DAYS_PER_YEAR = 365.25
# Nobody is followed for so long. BIDS lets people shift dates to before 1925, and some shift only part of them.
GAP_YEARS = 50
# What participants.tsv says of the time of treatment.
TREATMENT = ("treatment_start_day", "treatment_start_date", "immunotherapy_start_day")
# The table that tells the start of treatment where participants.tsv does not.
START_FROM = "treatment_start_from"


@dataclass(frozen=True)
class Axis:
    """The time axis of a patient's visits.

    Parameters
    ----------
    kind : str
        What the visits have: ``date``, ``day`` or ``treatment`` (days since it began).
    first : date or None
        Day 0, where they have dates.
    days : tuple of float
        Of the visits, in order.
    """

    kind: str
    first: date | None
    days: tuple[float, ...]

    @property
    def is_torn(self) -> bool:
        """Whether visits are decades apart: nobody knows where another day lies then."""
        return any(after - before > GAP_YEARS * DAYS_PER_YEAR for before, after in pairwise(self.days))

    def place(self, day: str, at: str) -> tuple[float, str]:
        """Return the day of something that is given as a day or as a date, and a doubt (mostly empty).

        Raises
        ------
        ValueError
            It has no place; its text says why.
        """
        counted = MISSING
        if at != MISSING and self.kind == "date":
            counted = str((datetime.fromisoformat(at).date() - self.first).days)
        elif at != MISSING and day == MISSING:
            raise ValueError(f"the date {at[:10]}, but the visits have days and no dates; expected a day")
        if self.is_torn:
            raise ValueError("visits decades apart; expected dates that are all shifted by the same")
        taken = float(counted if day == MISSING else day)
        years = min(abs(taken - visit) for visit in self.days) / DAYS_PER_YEAR
        if years > GAP_YEARS:
            raise ValueError(
                f"day {taken:g}, {years:.0f} years from the nearest visit; expected dates that are shifted as those "
                "of the visits"
            )
        if MISSING not in (day, counted) and float(day) != float(counted):
            return taken, f"day {day}, but {at[:10]} is day {counted}; expected the same. Day {day} is taken."
        return taken, ""


def find_axis(visits: Iterable[Mapping]) -> Axis | None:
    """Return the time axis of a patient's visits (rows with ``usable`` and ``time``); None where one is undated."""
    # Visits that are left out anyway may lack a date.
    times = [row["time"] for row in visits if row["usable"] == "true" or row["time"] != MISSING]
    kinds = {time.partition(":")[0] for time in times}
    if len(kinds) != 1 or kinds == {MISSING}:
        return None
    kind, given = kinds.pop(), sorted(map(_time, times))
    if kind == "date":
        first = given[0].date()
        return Axis(kind, first, tuple(float((time.date() - first).days) for time in given))
    return Axis(kind, None, tuple(given))


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
        if ses in info.out:
            raise InputError(
                Path(bids) / f"sub-{sub}",
                found=info.out[ses][1],
                expected="dates or days that can be read",
                advice="Correct it in the sessions' table.",
            )
    times = {ses: read_time(info.rows.get(ses, {})) for ses in sessions}
    dated = len({time.partition(":")[0] for time in times.values()}) == 1 and MISSING not in times.values()
    return sorted(times, key=lambda ses: (_time(times[ses]) if dated else 0, _natural(ses))), dated


def order_visits(table: pd.DataFrame, participants: dict[str, dict]) -> pd.DataFrame:
    """Put each patient's visits in order of time, number them, count days and name each one's prior."""
    rows = []
    for sub, visits in groupby(sorted(table.to_dict("records"), key=itemgetter("sub")), key=itemgetter("sub")):
        visits = sorted(visits, key=lambda row: _natural(row["ses"]))
        participant = participants.get(sub, {})
        axis = find_axis(visits)
        if axis:
            # Those without a date are left out anyway; they come last.
            visits.sort(key=lambda row: (row["time"] == MISSING, _time(row["time"])))
            for row in visits:
                row["days"] = _day(_time(row["time"]), _time(visits[0]["time"]))
            _flag_same_dates(visits)
            _flag_gaps(visits)
            start = _place_treatment(visits, participant, axis.kind)
            for row in visits:
                row["treatment_start_day"] = MISSING if axis.is_torn else start
        else:
            # One undated visit makes the order of all of them a guess.
            undated = [f"ses-{row['ses']}" for row in visits if (row["usable"], row["time"]) == ("true", MISSING)]
            found = f"no acq_time for {', '.join(undated)}" if undated else "dates for some visits and days for others"
            why = (
                f"sub-{sub}/sub-{sub}_sessions.tsv: {found}; expected acq_time, or days_from_baseline, for every "
                "session. Visits are taken in the order of their labels, and no response can be confirmed."
            )
            for row in visits:
                _notice(row, Reason.NO_DATES, why if row is _first_used(visits) else "")
            unused = [name for name in TREATMENT if participant.get(name, MISSING) != MISSING]
            if unused:
                _notice(
                    _first_used(visits), Reason.TREATMENT_DATE_UNUSED,
                    f"participants.tsv: {', '.join(unused)} cannot be used without dates of the visits. The first "
                    "evaluable visit is taken for the baseline.",
                )  # fmt: skip
        prior = MISSING
        for number, row in enumerate(visits, start=1):
            row |= {"order": str(number), "prior": prior, "flags": row["flags"] or MISSING}
            prior = row["ses"] if row["usable"] == "true" else prior
        rows += visits
    return pd.DataFrame(rows, columns=table.columns)


def read_time(info: dict) -> str:
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


def add_doubts(table: pd.DataFrame, doubts: Mapping[str, list[tuple[Reason, str]]]) -> pd.DataFrame:
    """Return a table of ordered visits with what is doubtful about patients said of the first visit that is used."""
    rows = table.to_dict("records")
    for sub, given in doubts.items():
        for flag, sentence in given:
            _notice(_first_used([row for row in rows if row["sub"] == sub]), flag, sentence)
    return pd.DataFrame(rows, columns=table.columns)


def _notice(row: dict, flag: Reason, detail: str) -> None:
    """Flag a visit, and say why unless it is left out for another reason."""
    flags = [each for each in row["flags"].split(";") if each not in ("", MISSING)]
    row["flags"] = ";".join(dict.fromkeys([*flags, flag]))
    if row["usable"] == "true":
        said = row["detail"] if row["detail"] != MISSING else ""
        row["detail"] = f"{said} {detail}".strip() or MISSING


def _first_used(visits: list[dict]) -> dict:
    """Return the first visit that is used, or the first one where none is: there it is read."""
    return next((row for row in visits if row["usable"] == "true"), visits[0])


def _flag_same_dates(visits: list[dict]) -> None:
    for _, same in groupby((row for row in visits if row["days"] != MISSING), key=itemgetter("days")):
        of = list(same)
        if len(of) == 1:
            continue
        times = {_time(row["time"]) for row in of}
        # Midnight is what stands for a time that is not known.
        timed = len(times) == len(of) and all(isinstance(time, date) and time.time() != clock() for time in times)
        names = " and ".join(f"ses-{row['ses']}" for row in of)
        for row in of:
            _notice(
                row, Reason.SAME_DATE,
                f"{names} have one date; expected one visit a day. They are taken in the order of their "
                f"{'times of day' if timed else 'labels'}: correct acq_time, or leave one out (index.edits, usable = "
                "false).",
            )  # fmt: skip


def _flag_gaps(visits: list[dict]) -> None:
    """Flag visits decades after the one before."""
    for before, after in pairwise(row for row in visits if row["days"] != MISSING):
        years = (float(after["days"]) - float(before["days"])) / DAYS_PER_YEAR
        if years > GAP_YEARS:
            _notice(
                after if after["usable"] == "true" else _first_used(visits), Reason.DATE_GAP,
                f"ses-{after['ses']} is {years:.0f} years after ses-{before['ses']}; expected dates that are all "
                "shifted by the same, or none. Days of treatment are not used.",
            )  # fmt: skip


def _place_treatment(visits: list[dict], participant: dict, kind: str) -> str:
    """Return the day on which treatment began, on the time axis of ordered visits; n/a where it is not known.

    Parameters
    ----------
    visits : list of dict
    participant : dict
        A row of participants.tsv.
    kind : str
        What the visits have: ``date``, ``day`` or ``treatment`` (days since it began).
    """
    day, start, immunotherapy = (participant.get(name, MISSING) for name in TREATMENT)
    at, why, counted = _first_used(visits), "the visits are counted from its start, day 0", MISSING
    if kind == "treatment":
        counted = "0"
    elif kind == "date" and start != MISSING:
        counted = str((datetime.fromisoformat(start).date() - _time(visits[0]["time"]).date()).days)
        why = f"treatment_start_date {start[:10]} is day {counted}"
    elif start != MISSING and day == MISSING:
        _notice(
            at, Reason.TREATMENT_DATE_UNUSED,
            f"participants.tsv: treatment_start_date {start[:10]}, but the visits have days and no dates; expected "
            "treatment_start_day. The first evaluable visit is taken for the baseline.",
        )  # fmt: skip
    taken = counted if kind == "treatment" or day == MISSING else day
    if MISSING not in (day, counted) and float(day) != float(counted):
        _notice(
            at, Reason.TREATMENT_DATE_UNUSED,
            f"participants.tsv: treatment_start_day {day}, but {why}; expected the same. Day {taken} is taken.",
        )  # fmt: skip
    if kind == "treatment":
        written = "the start of treatment, day 0,"
    else:
        written = f"treatment_start_day {day}" if day != MISSING else f"treatment_start_date {start[:10]}"
    start_is_near = _is_near(visits, at, written, taken)
    if not _is_near(visits, at, f"immunotherapy_start_day {immunotherapy}", immunotherapy) or not start_is_near:
        return MISSING
    before = float(visits[0]["days"]) - float(taken if taken != MISSING else "inf")
    if before > 0 and kind != "treatment":
        _notice(
            at, Reason.TREATMENT_BEFORE_SCANS,
            f"{participant.get(START_FROM, 'participants.tsv')}: treatment started {before:g} days before the first "
            "scan; expected a scan before it. The first evaluable visit is taken for the baseline: correct the date if "
            "that is wrong.",
        )  # fmt: skip
    return taken


def _is_near(visits: list[dict], at: dict, written: str, day: str) -> bool:
    """Whether a day is within decades of a visit; say so where it is not."""
    if day == MISSING:
        return True
    years = min(abs(float(day) - float(row["days"])) for row in visits if row["days"] != MISSING) / DAYS_PER_YEAR
    if years > GAP_YEARS:
        _notice(
            at, Reason.DATE_GAP,
            f"participants.tsv: {written} is {years:.0f} years from the nearest visit; expected dates of treatment and "
            "of scans that are shifted by the same. Days of treatment are not used.",
        )  # fmt: skip
    return years <= GAP_YEARS


def _time(text: str):
    kind, _, value = text.partition(":")
    return None if text == MISSING else datetime.fromisoformat(value) if kind == "date" else float(value)


def _day(time, first) -> str:
    if time is None:
        return MISSING
    return str((time.date() - first.date()).days) if isinstance(first, date) else f"{time:g}"


def _natural(label: str) -> list:
    """Sort key that puts 2 before 10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", label) if part]
