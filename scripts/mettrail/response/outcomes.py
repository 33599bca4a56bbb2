"""What became of treated lesions and of patients, as pure functions over the final tables.

A lesion is compared to its own size before its treatment and to its smallest since, not to the patient's baseline. The
thresholds are those of the response criteria (settings ``rano`` and ``volume``). A scan on the day of a treatment was
made before it: radiosurgery images and treats on one day.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from statsmodels.duration.survfunc import CumIncidenceRight

from mettrail import schema
from mettrail.cohort.order import START_FROM
from mettrail.response.criteria import at_least, find_nadir, least_growth, target_response
from mettrail.response.treatments import FOCAL, RADIATION

BEST = ("CR", "PR", "SD", "PD")
# Of one day, what comes first; the column first_event.
EVENTS = ("local", "distant", "death")
CURVE = ("day", "local_failure", "low", "high", "n_at_risk")
# Normal quantile of a confidence interval of 95 %.
Z95 = 1.959964


def start_day(patients: pd.DataFrame, sessions: pd.DataFrame, participant: Mapping) -> float:
    """Return t0 of a patient on the time axis of the sessions; NaN where it has none.

    Parameters
    ----------
    patients : DataFrame
        The patient's row of the final table.
    sessions : DataFrame
        From `cohort.describe_sessions`.
    participant : mapping
    """
    source = patients.iloc[0]["t0_source"]
    if source == "treatment":
        return float(participant["treatment_start_day"])
    days = sessions.loc[sessions["session_id"] == patients.iloc[0]["baseline_session"], "days"]
    return float(days.iloc[0]) if len(days) and pd.notna(days.iloc[0]) else math.nan


def follow_treatments(
    treatments: pd.DataFrame,
    lesions: pd.DataFrame,
    sessions: pd.DataFrame,
    participant: Mapping,
    *,
    t0: float,
    rano: Mapping,
    volume: Mapping,
    comparisons: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Follow each treated lesion from its treatment to failure, to its next treatment, or as long as it is seen.

    Parameters
    ----------
    treatments : DataFrame
        From `treatments.resolve`.
    lesions, sessions : DataFrame
        The patient's final tables.
    participant : mapping
        ``death_day`` on the time axis of the sessions.
    t0 : float
        From `start_day`.
    rano, volume : mapping
        Blocks of the settings.
    comparisons : DataFrame, optional
        Sizes of lesions that are cut differently at two sessions, like with like.

    Returns
    -------
    DataFrame
        Table ``treated_lesions``: one row per lesion and treatment. A lesion that a reader left out has none.
    """
    focal = treatments[treatments["track_id"].notna() & treatments["treatment_type"].isin(FOCAL)]
    days = _round(focal["treatment_day"] - t0)
    death = _day(participant, "death_day", t0)
    looks = _Looks(lesions, sessions, comparisons)
    rows = []
    for treatment, day in zip(focal.to_dict("records"), days):
        track = treatment["track_id"]
        if day is None or track in looks.excluded:
            continue
        again = sorted(d for d, other in zip(days, focal["track_id"]) if other == track and d > day)
        surgery = min(
            (d for d, other, kind in zip(days, focal["track_id"], focal["treatment_type"])
             if other == track and kind == "surgery"),
            default=math.inf,
        )  # fmt: skip
        row = dict.fromkeys(schema.columns("treated_lesions"))
        row |= {name: treatment[name] for name in row if name in treatment}
        row |= {"treatment_day": day, "salvage_day": again[0] if again else None}
        story = _follow(
            looks, track, day, until=again[0] if again else math.inf, resected=surgery, rano=rano, volume=volume
        )
        failed = story["local_failure_day"]
        if failed is not None:
            low, high = rano["treatment_effect_days"]
            radiation = treatment["treatment_type"] in RADIATION
            story["treatment_effect_possible"] = radiation and low <= failed - day <= high
        if failed is None and story["censored_reason"] != "no_pretreatment":
            if again:
                story["censored_reason"] = "retreatment"
            elif death is not None:
                story |= {"censored_reason": "death", "censored_day": death}
        end = failed if failed is not None else story["censored_day"]
        rows.append(row | story | {"time_to_local_failure_days": end - day})
    return schema.make_table(rows, "treated_lesions")


def complete_patients(
    patients: pd.DataFrame,
    treated: pd.DataFrame,
    treatments: pd.DataFrame,
    lesions: pd.DataFrame,
    sessions: pd.DataFrame,
    participant: Mapping,
    *,
    t0: float,
) -> pd.DataFrame:
    """Return the patient's row with what became of the patient.

    A distant failure is the first confirmed new lesion, dated from its first appearance. Any radiation or surgery after
    the first is salvage; what was planned with the first (radiosurgery of a cavity) cannot be told from it.
    """
    row = patients.iloc[0].to_dict()
    sure = lesions[lesions["new_lesion_status"].isin(["definite", "confirmed"])]
    focal = sorted(
        day for day in _round(treatments.loc[treatments["treatment_type"].isin(FOCAL), "treatment_day"] - t0)
        if day is not None
    )  # fmt: skip
    last = max((int(day) for day in sessions["days_from_t0"].dropna()), default=None)
    contact = _day(participant, "last_contact_day", t0)
    found = {
        "local_failure_day": _first(treated["local_failure_day"]),
        "distant_failure_day": _first(sure["days_from_t0"]),
        "leptomeningeal_day": _day(participant, "leptomeningeal_day", t0),
        "salvage_day": next((day for day in focal if day > focal[0]), None),
        "death_day": _day(participant, "death_day", t0),
        "last_contact_day": contact if contact is not None else last,
    }
    names = {"local": "local_failure_day", "distant": "distant_failure_day", "death": "death_day"}
    happened = [(found[names[event]], event) for event in EVENTS if found[names[event]] is not None]
    day, event = min(happened, key=lambda each: each[0], default=(found["last_contact_day"], "none"))
    found |= {"first_event": None if day is None else event, "first_event_day": day}
    if participant.get(START_FROM) and row["t0_source"] == "treatment":
        flags = [row["flags"]] if isinstance(row["flags"], str) else []
        found["flags"] = ";".join([*flags, "start_from_treatments"])
    return schema.make_table([row | found], "patients")


def incidence(treated_lesions: pd.DataFrame, patients: pd.DataFrame) -> pd.DataFrame:
    """Estimate the cumulative incidence of local failure after treatment; death competes (Aalen and Johansen).

    Lesions count one by one: those of one patient are not independent, which the confidence interval (95 %, on the
    log(-log) scale) does not know. All treatments count from their own day; a lesion treated again counts twice.

    Parameters
    ----------
    treated_lesions : DataFrame
        Table ``treated_lesions``; rows that cannot fail (not seen before treatment) are left out.
    patients : DataFrame
        Table ``patients``: lesions of these alone count.

    Returns
    -------
    DataFrame
        ``day`` (from treatment), ``local_failure`` (probability of failure by then), ``low``, ``high`` (NaN where it is
        0 or nobody stays at risk), ``n_at_risk`` (just before); a row for day 0 and for each day on which something
        ends. Empty without lesions.
    """
    rows = treated_lesions[
        treated_lesions["participant_id"].isin(patients["participant_id"])
        & treated_lesions["local_failure"].notna()
        & treated_lesions["time_to_local_failure_days"].notna()
    ]
    if not len(rows):
        return pd.DataFrame({name: pd.Series(dtype=float) for name in CURVE})
    time = rows["time_to_local_failure_days"].to_numpy(dtype=float)
    failed = rows["local_failure"].to_numpy(dtype=bool)
    died = (rows["censored_reason"] == "death").to_numpy(dtype=bool) & ~failed
    days = np.unique([0.0, *time])
    at_risk = (time >= days[:, None]).sum(axis=1)
    estimate, error = np.zeros(len(days)), np.full(len(days), np.nan)
    if failed.any():
        with np.errstate(divide="ignore", invalid="ignore"):
            found = CumIncidenceRight(time, np.where(failed, 1, np.where(died, 2, 0)))
        at = np.searchsorted(days, found.times)
        estimate[at], error[at] = found.cinc[0], found.cinc_se[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = Z95 * error / (estimate * np.log(estimate))
        low, high = estimate ** np.exp(-spread), estimate ** np.exp(spread)
    return pd.DataFrame(dict(zip(CURVE, (days.astype(int), estimate, low, high, at_risk), strict=True)))


# --- One lesion ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Look:
    """A lesion at an evaluable session: sizes (mm, mL) are NaN where it cannot be measured apart."""

    session_id: str
    day: int
    present: bool
    gone: bool
    known: bool  # evaluable and no probable miss: whatever else is said of its size may count
    ld: float
    vol: float


class _Looks:
    """All lesions of a patient at all evaluable sessions, and what is to be compared like with like."""

    def __init__(self, lesions, sessions, comparisons):
        able = sessions[sessions["evaluable"].fillna(False).astype(bool) & sessions["days_from_t0"].notna()]
        self.days = dict(zip(able["session_id"], able["days_from_t0"].astype(int)))
        self.rows = {
            (row["session_id"], row["track_id"]): row
            for row in lesions.to_dict("records")
            if row["session_id"] in self.days
        }
        self.carriers = {(session, row["merged_into"]) for (session, _), row in self.rows.items()}
        self.excluded = set(lesions.loc[lesions["role"] == "excluded", "track_id"])
        given = [] if comparisons is None else comparisons.to_dict("records")
        self.pairs = {(row["session_id"], row["earlier_session_id"], row["track_id"]): row for row in given}

    def of(self, track: str, *, resected: float) -> list[_Look]:
        """Return the looks at a lesion in order; `resected` is the day from which its cavity is looked at."""
        found = []
        for session, day in sorted(self.days.items(), key=lambda each: each[1]):
            row = self.rows.get((session, track))
            if row is not None:
                found.append(self._look(row, session, day, day > resected))
        return found

    def _look(self, row, session, day, resected):
        flags = str(row["flags"]).split(";")
        missed = row["ld_source"] == "probable_miss" or (row["status"] == "absent" and "probable_miss" in flags)
        ld, vol = _float(row["ld_rano_mm"]), _float(row["vol_rano_ml"])
        seen = row["status"] in ("present", "absent")
        if resected and row["ld_source"] == "ne" and seen and not missed:
            # No target any more, but what enhances there is measured all the same.
            ld, vol = (_float(row["ld_mm"]), _float(row["vol_wl_ml"])) if row["status"] == "present" else (0.0, 0.0)
        known = not missed and row["status"] != "not_evaluable"
        merged = (
            row["status"] == "merged" or row["ld_source"] == "merged" or (session, row["track_id"]) in self.carriers
        )
        if merged or not known:
            ld = vol = math.nan
        return _Look(session, day, row["status"] == "present", ld == 0, known, ld, vol)

    def pair(self, track: str, now: _Look, then: _Look, size: str) -> tuple[float, float]:
        """Return a size now and then, cut alike; NaN where it is not known."""
        row = self.pairs.get((now.session_id, then.session_id, track))
        if row is None or not (now.known and then.known):
            return getattr(now, size), getattr(then, size)
        unit = {"ld": "mm", "vol": "ml"}[size]
        return _float(row[f"{size}_now_{unit}"]), _float(row[f"{size}_then_{unit}"])


def _follow(looks, track, day, *, until, resected, rano, volume) -> dict:
    """Follow a lesion from the day of its treatment on; a scan on the day of the next one still belongs to this."""
    story = dict.fromkeys(
        ("pretreatment_session", "local_failure", "local_failure_day", "censored_day", "censored_reason")
    )
    course = looks.of(track, resected=resected)
    before = [look for look in course if look.day <= day and look.present]
    if not before:
        return story | {"best_response": "NE", "censored_day": day, "censored_reason": "no_pretreatment"}
    first = before[-1]
    after = [look for look in course if day < look.day <= until]
    tests = _Tests(looks, track, rano, volume)
    chain, best, failure, by = [first], [], None, []
    for n, look in enumerate(after):
        by = tests.failed(look, chain)
        best.append(tests.response(look, first, chain, "diameter" in by))
        if by:
            failure = n
            break
        chain.append(look)
    story |= {
        "pretreatment_session": first.session_id, "pretreatment_ld_mm": first.ld, "pretreatment_vol_ml": first.vol,
        "best_response": next((word for word in BEST if word in best), "NE"), "local_failure": failure is not None,
    }  # fmt: skip
    for size, unit in (("ld", "mm"), ("vol", "ml")):
        known = [look for look in chain if not math.isnan(getattr(look, size))]
        least = min(known, key=lambda look: (getattr(look, size), -look.day), default=None)
        story[f"nadir_{size}_{unit}"] = None if least is None else getattr(least, size)
        story[f"nadir_{size}_day"] = None if least is None else least.day
    if failure is not None:
        look = after[failure]
        later = [each for each in after[failure + 1 :] if at_least(each.day - look.day, rano["confirm_days"])]
        judged = [tests.failed(each, chain) for each in later if tests.is_judged(each, chain)]
        confirmed = bool(judged[0]) if judged else None
        return story | {
            "local_failure_day": look.day, "failure_by": ";".join(by), "failure_confirmed": confirmed,
        }  # fmt: skip
    judged = [look for n, look in enumerate(after) if tests.is_judged(look, chain[: n + 1])]
    reason = "no_followup" if not after else "last_scan" if judged and judged[-1] is after[-1] else "not_measurable"
    return story | {"censored_day": judged[-1].day if judged else day, "censored_reason": reason}


class _Tests:
    """The criteria of failure and response, for one lesion."""

    def __init__(self, looks, track, rano, volume):
        self.looks, self.track, self.rano = looks, track, rano
        self.rules = {
            "diameter": ("ld", rano["pd"], rano["pd_abs_mm"], float),
            "volume": ("vol", volume["pd"], *least_growth(volume)),
        }

    def failed(self, look: _Look, earlier: list[_Look]) -> list[str]:
        """Return by what a lesion has failed: ``diameter``, ``volume``."""
        found = []
        for name, (size, share, least, scale) in self.rules.items():
            now, then = self._from_nadir(look, earlier, size)
            if now > 0 and at_least(now, (1 + share) * then) and at_least(scale(now) - scale(then), least):
                found.append(name)
        return found

    def is_judged(self, look: _Look, earlier: list[_Look]) -> bool:
        """Whether a failure would show."""
        return any(not math.isnan(self._from_nadir(look, earlier, size)[0]) for size, *_ in self.rules.values())

    def response(self, look: _Look, first: _Look, earlier: list[_Look], grown: bool) -> str:
        """Return the response by diameter from the size before treatment."""
        if grown:
            return "PD"
        now, base = self.looks.pair(self.track, look, first, "ld")
        nadir = self._from_nadir(look, earlier, "ld")[1]
        return target_response(
            [now], baseline_sum=base, nadir_sum=nadir, increase=0.0, gone=[look.gone], pr=self.rano["pr"],
            pd=self.rano["pd"], pd_abs=self.rano["pd_abs_mm"],
        )  # fmt: skip

    def _from_nadir(self, look, earlier, size):
        """Return a size now and at its smallest before."""
        pairs = [self.looks.pair(self.track, look, each, size) for each in earlier]
        pairs = [pair for pair in pairs if not math.isnan(sum(pair))]
        at = find_nadir(*zip(*pairs)) if pairs else None
        return (math.nan, math.nan) if at is None else pairs[at]


def _float(value):
    return math.nan if value is None or pd.isna(value) else float(value)


def _round(days):
    return [None if pd.isna(day) else math.floor(day + 0.5) for day in days]


def _day(participant, name, t0):
    given = participant.get(name, schema.MISSING)
    day = math.nan if given == schema.MISSING else float(given) - t0
    return None if math.isnan(day) else math.floor(day + 0.5)


def _first(days):
    return min((int(day) for day in days.dropna()), default=None)
