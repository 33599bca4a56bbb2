"""Visits in order of time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from datetime import time as clock
from itertools import pairwise
from pathlib import Path

import pandas as pd

from mettrail.cohort.people import TIMES, SessionInfo, read_session_info
from mettrail.errors import InputError
from mettrail.tables import MISSING

DAYS_PER_YEAR = 365.25
# Nobody is followed for so long. BIDS lets people shift dates to before 1925, and some shift only part of them.
GAP_YEARS = 50
# What participants.tsv says of the time of treatment.
TREATMENT = ("treatment_start_day", "treatment_start_date", "immunotherapy_start_day")


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
    dated = len({time.partition(":")[0] for time in times.values()}) == 1 and "n/a" not in times.values()
    return sorted(times, key=lambda ses: (_time(times[ses]) if dated else 0, _natural(ses))), dated


def order_visits(table: pd.DataFrame, participants: dict[str, dict]) -> pd.DataFrame:
    """Put each patient's visits in order of time, number them, count days and name each one's prior."""
    patients = []
    for sub, visits in table.groupby("sub", sort=True):
        visits = visits.copy()
        # Visits that are left out anyway may lack a date; they come last.
        counted = visits[(visits["usable"] == "true") | (visits["time"] != "n/a")]
        kinds = {time.partition(":")[0] for time in counted["time"]}
        if kinds in ({"date"}, {"day"}, {"treatment"}):
            # As objects: pandas' own dates end in 1677 and 2262, people's shifted ones do not.
            visits["_time"] = pd.Series([_time(time) for time in visits["time"]], visits.index, dtype=object)
            visits = visits.sort_values("ses", key=lambda labels: labels.map(_natural))
            visits = visits.sort_values("_time", kind="stable", na_position="last")
            first = visits["_time"].iloc[0]
            visits["days"] = [_day(time, first) for time in visits["_time"]]
            _flag_same_dates(visits)
            torn = _flag_gaps(visits)
            start = _place_treatment(visits, participants.get(sub, {}), kinds.pop())
            visits["treatment_start_day"] = MISSING if torn else start
        else:
            # One undated visit makes the order of all of them a guess.
            visits = visits.sort_values("ses", key=lambda labels: labels.map(_natural))
            undated = [f"ses-{ses}" for ses, time in zip(counted["ses"], counted["time"]) if time == "n/a"]
            found = f"no acq_time for {', '.join(undated)}" if undated else "dates for some visits and days for others"
            why = (
                f"sub-{sub}/sub-{sub}_sessions.tsv: {found}; expected acq_time, or days_from_baseline, for every "
                "session. Visits are taken in the order of their labels, and no response can be confirmed."
            )
            for index in visits.index:
                _notice(visits, index, "no_dates", why if index == _first_used(visits) else "")
            unused = [name for name in TREATMENT if participants.get(sub, {}).get(name, MISSING) != MISSING]
            if unused:
                _notice(
                    visits, _first_used(visits), "treatment_date_unused",
                    f"participants.tsv: {', '.join(unused)} cannot be used without dates of the visits. The first "
                    "evaluable visit is taken for the baseline.",
                )  # fmt: skip
        visits["order"] = [str(n) for n in range(1, len(visits) + 1)]
        usable = [ses if ok == "true" else None for ses, ok in zip(visits["ses"], visits["usable"])]
        visits["prior"] = [next((s for s in reversed(usable[:n]) if s), "n/a") for n in range(len(usable))]
        visits["flags"] = [flags or "n/a" for flags in visits["flags"]]
        patients.append(visits)
    return pd.concat(patients, ignore_index=True) if patients else table


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


def add_doubts(table: pd.DataFrame, doubts: Mapping[str, list[tuple[str, str]]]) -> pd.DataFrame:
    """Return a table of ordered visits with what is doubtful about patients said of the first visit that is used."""
    patients = []
    for sub, visits in table.groupby("sub", sort=True):
        visits = visits.copy()
        for flag, sentence in doubts.get(sub, ()):
            _notice(visits, _first_used(visits), flag, sentence)
        patients.append(visits)
    return pd.concat(patients, ignore_index=True) if patients else table


def _notice(visits: pd.DataFrame, index: int, flag: str, detail: str) -> None:
    """Flag a visit, and say why unless it is left out for another reason."""
    flags = [each for each in visits.loc[index, "flags"].split(";") if each not in ("", MISSING)]
    visits.loc[index, "flags"] = ";".join(dict.fromkeys([*flags, flag]))
    if visits.loc[index, "usable"] == "true":
        said = visits.loc[index, "detail"]
        visits.loc[index, "detail"] = " ".join([said if said != MISSING else "", detail]).strip() or MISSING


def _first_used(visits: pd.DataFrame) -> int:
    """Return the index of the first visit that is used, or of the first one where none is: there it is read."""
    used = visits.index[visits["usable"] == "true"]
    return used[0] if len(used) else visits.index[0]


def _flag_same_dates(visits: pd.DataFrame) -> None:
    known = visits[visits["_time"].notna()]
    days = known["_time"].map(lambda time: time.date() if isinstance(time, date) else time)
    for day, of in known.groupby(days):
        if len(of) < 2:
            continue
        names = " and ".join(f"ses-{ses}" for ses in of["ses"])
        # Midnight is what stands for a time that is not known.
        timed = isinstance(day, date) and of["_time"].is_unique and all(time.time() != clock() for time in of["_time"])
        for index in of.index:
            _notice(
                visits, index, "same_date",
                f"{names} have one date; expected one visit a day. They are taken in the order of their "
                f"{'times of day' if timed else 'labels'}: correct acq_time, or leave one out (index.edits, usable = "
                "false).",
            )  # fmt: skip


def _flag_gaps(visits: pd.DataFrame) -> bool:
    """Flag visits decades after the one before, and say whether there are any."""
    known = visits[visits["_time"].notna()]
    found = False
    for before, after in pairwise(known.index):
        years = _days_between(visits.loc[before, "_time"], visits.loc[after, "_time"]) / DAYS_PER_YEAR
        if years > GAP_YEARS:
            found = True
            at = after if visits.loc[after, "usable"] == "true" else _first_used(visits)
            _notice(
                visits, at, "date_gap",
                f"ses-{visits.loc[after, 'ses']} is {years:.0f} years after ses-{visits.loc[before, 'ses']}; expected "
                "dates that are all shifted by the same, or none. Days of treatment are not used.",
            )  # fmt: skip
    return found


def _place_treatment(visits: pd.DataFrame, row: dict, kind: str) -> str:
    """Return the day on which treatment began, on the time axis of ordered visits; n/a where it is not known.

    Parameters
    ----------
    visits : DataFrame
        With ``days`` and ``_time``.
    row : dict
        Of participants.tsv.
    kind : str
        What the visits have: ``date``, ``day`` or ``treatment`` (days since it began).
    """
    day, start, immunotherapy = (row.get(name, MISSING) for name in TREATMENT)
    at, why, counted = _first_used(visits), "the visits are counted from its start, day 0", MISSING
    if kind == "treatment":
        counted = "0"
    elif kind == "date" and start != MISSING:
        counted = str((datetime.fromisoformat(start).date() - visits["_time"].iloc[0].date()).days)
        why = f"treatment_start_date {start[:10]} is day {counted}"
    elif start != MISSING and day == MISSING:
        _notice(
            visits, at, "treatment_date_unused",
            f"participants.tsv: treatment_start_date {start[:10]}, but the visits have days and no dates; expected "
            "treatment_start_day. The first evaluable visit is taken for the baseline.",
        )  # fmt: skip
    taken = counted if kind == "treatment" or day == MISSING else day
    if MISSING not in (day, counted) and float(day) != float(counted):
        _notice(
            visits, at, "treatment_date_unused",
            f"participants.tsv: treatment_start_day {day}, but {why}; expected the same. Day {taken} is taken.",
        )  # fmt: skip
    start_is_near = _is_near(visits, at, "treatment_start_day", taken)
    if not _is_near(visits, at, "immunotherapy_start_day", immunotherapy) or not start_is_near:
        return MISSING
    before = float(visits["days"].iloc[0]) - float(taken if taken != MISSING else "inf")
    if before > 0 and kind != "treatment":
        _notice(
            visits, at, "treatment_before_scans",
            f"participants.tsv: treatment started {before:g} days before the first scan; expected a scan before it. "
            "The first evaluable visit is taken for the baseline: correct the date if that is wrong.",
        )  # fmt: skip
    return taken


def _is_near(visits: pd.DataFrame, at: int, name: str, day: str) -> bool:
    """Whether a day is within decades of a visit; say so where it is not."""
    if day == MISSING:
        return True
    years = min(abs(float(day) - float(visit)) for visit in visits["days"] if visit != MISSING) / DAYS_PER_YEAR
    if years > GAP_YEARS:
        _notice(
            visits, at, "date_gap",
            f"participants.tsv: {name}, day {day}, is {years:.0f} years from the nearest visit; expected dates of "
            "treatment and of scans that are shifted by the same. Days of treatment are not used.",
        )  # fmt: skip
    return years <= GAP_YEARS


def _days_between(earlier, later) -> float:
    return (later - earlier).days if isinstance(later, date) else later - earlier


def _time(text: str):
    kind, _, value = text.partition(":")
    return None if text == "n/a" else datetime.fromisoformat(value) if kind == "date" else float(value)


def _day(time, first) -> str:
    if pd.isna(time):
        return "n/a"
    return str((time.date() - first.date()).days) if isinstance(first, date) else f"{time:g}"


def _natural(label: str) -> list:
    """Sort key that puts 2 before 10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", label) if part]
