"""Visits in order of time."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import date, datetime
from pathlib import Path

import pandas as pd

from mettrail.cohort.people import read_session_info
from mettrail.errors import InputError

SINCE_TREATMENT = "days_from_treatment"
DAY_COLUMNS = ["days_from_baseline", SINCE_TREATMENT]


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
        A date or a day that cannot be read.
    """
    try:
        info = read_session_info(Path(bids), sub) if bids else {}
        times = {ses: read_time(info.get(ses, {})) for ses in sessions}
    except ValueError as err:
        raise InputError(
            Path(bids) / f"sub-{sub}",
            found=str(err),
            expected="dates or days that can be read",
            advice="Correct it in the sessions' table.",
        ) from err
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
            visits["_time"] = [_time(time) for time in visits["time"]]
            visits = visits.sort_values(["_time", "ses"], na_position="last")
            first = visits["_time"].iloc[0]
            visits["days"] = [_day(time, first) for time in visits["_time"]]
            _flag_same_dates(visits)
            visits["treatment_start_day"] = "0" if kinds == {"treatment"} else "n/a"
            if kinds != {"treatment"}:
                _place_treatment(visits, participants.get(sub, {}), first)
        else:
            # One undated visit makes the order of all of them a guess.
            visits = visits.sort_values("ses", key=lambda labels: labels.map(_natural))
            undated = [f"ses-{ses}" for ses, time in zip(counted["ses"], counted["time"]) if time == "n/a"]
            found = f"no acq_time for {', '.join(undated)}" if undated else "dates for some visits and days for others"
            why = (
                f"sub-{sub}/sub-{sub}_sessions.tsv: {found}; expected acq_time, or days_from_baseline, for every "
                "session. Visits are taken in the order of their labels, and no response can be confirmed."
            )
            for number, index in enumerate(visits.index):
                _notice(visits, index, "no_dates", "" if number else why)
        visits["order"] = [str(n) for n in range(1, len(visits) + 1)]
        usable = [ses if ok == "true" else None for ses, ok in zip(visits["ses"], visits["usable"])]
        visits["prior"] = [next((s for s in reversed(usable[:n]) if s), "n/a") for n in range(len(usable))]
        visits["flags"] = [flags or "n/a" for flags in visits["flags"]]
        patients.append(visits)
    return pd.concat(patients, ignore_index=True) if patients else table


def read_time(info: dict) -> str:
    """Return ``date:ISO``, ``day:N`` or ``treatment:N`` (days since its start), or n/a where none is given.

    Raises
    ------
    ValueError
        Says what was found and expected.
    """
    acq = info.get("acq_time", "n/a")
    if acq not in ("", "n/a"):
        try:
            return "date:" + datetime.fromisoformat(acq.removesuffix("Z")).replace(tzinfo=None).isoformat()
        except ValueError as err:
            raise ValueError(f"acq_time {acq!r}, expected an ISO 8601 time, e.g. 2019-03-12T00:00:00") from err
    for column in DAY_COLUMNS:
        day = info.get(column, "n/a")
        if day not in ("", "n/a"):
            number = _number(day)
            if not math.isfinite(number):
                raise ValueError(f"{column} {day!r}, expected a number of days")
            return f"{'treatment' if column == SINCE_TREATMENT else 'day'}:{number}"
    return "n/a"


def _notice(visits: pd.DataFrame, index: int, flag: str, detail: str) -> None:
    """Flag a visit, and say why unless it is left out for another reason."""
    visits.loc[index, "flags"] = ";".join(filter(None, [visits.loc[index, "flags"], flag]))
    if visits.loc[index, "usable"] == "true":
        said = visits.loc[index, "detail"]
        visits.loc[index, "detail"] = " ".join([said if said != "n/a" else "", detail]).strip() or "n/a"


def _flag_same_dates(visits: pd.DataFrame) -> None:
    same = visits["_time"].notna() & visits["_time"].duplicated(keep=False)
    for _, of in visits[same].groupby("_time"):
        names = " and ".join(f"ses-{ses}" for ses in of["ses"])
        for index in of.index:
            _notice(
                visits, index, "same_date",
                f"{names} have one date; expected a time of its own for each. They are taken in the order of their "
                "labels: correct acq_time, or leave one out (index.edits, usable = false).",
            )  # fmt: skip


def _place_treatment(visits: pd.DataFrame, row: dict, first) -> None:
    """Put the start of treatment on the time axis of the visits: a day as given, or counted from a date."""
    day, start = (row.get(name) or "n/a" for name in ("treatment_start_day", "treatment_start_date"))
    if day == "n/a" and start != "n/a":
        if isinstance(first, date):
            try:
                day = str((date.fromisoformat(start[:10]) - first.date()).days)
            except ValueError:
                day = start  # the response names it, when it needs it
        else:
            _notice(
                visits, visits.index[0], "treatment_date_unused",
                f"participants.tsv: treatment_start_date {start}, but the visits have days and no dates; expected "
                "treatment_start_day. The first evaluable visit is taken for the baseline.",
            )  # fmt: skip
    visits["treatment_start_day"] = day
    start_day, first_day = (_number(value) for value in (day, visits["days"].iloc[0]))
    if start_day < first_day:
        _notice(
            visits, visits.index[0], "treatment_before_scans",
            f"participants.tsv: treatment started {first_day - start_day:g} days before the first scan; expected a "
            "scan before it. The first evaluable visit is taken for the baseline: correct the date if that is wrong.",
        )  # fmt: skip


def _time(text: str):
    kind, _, value = text.partition(":")
    return None if text == "n/a" else datetime.fromisoformat(value) if kind == "date" else float(value)


def _day(time, first) -> str:
    if pd.isna(time):
        return "n/a"
    return str((time.date() - first.date()).days) if isinstance(first, date) else f"{time:g}"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _natural(label: str) -> list:
    """Sort key that puts 2 before 10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", label) if part]
