"""What became of treated lesions and of patients, as pure functions over the final tables.

A lesion is compared to its own size before its treatment and to its smallest since, not to the patient's baseline. The
thresholds are those of the response criteria (`Rules`). A scan on the day of a treatment was
made before it: radiosurgery images and treats on one day.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from statsmodels.duration.survfunc import CumIncidenceRight

from mettrail import schema
from mettrail.cohort.order import START_FROM
from mettrail.response.course import Row
from mettrail.response.criteria import Response, at_least, find_smallest, target_response
from mettrail.response.rules import Limits, Rules
from mettrail.response.treatments import FOCAL, RADIATION

BEST: tuple[Response, ...] = ("CR", "PR", "SD", "PD")
# Of one day, what comes first; the column first_event.
EVENTS = ("local", "distant", "death")
CURVE = ("day", "local_failure", "low", "high", "n_at_risk")
# Normal quantile of a confidence interval of 95 %.
Z95 = 1.959964
_Size: TypeAlias = Literal["ld", "vol"]


def velocity_known(patients: pd.DataFrame) -> bool:
    """Say whether any patient has a brain metastasis velocity."""
    return bool(patients["brain_metastasis_velocity_first_per_year"].notna().any())


def start_day(patients: pd.DataFrame, sessions: pd.DataFrame, participant: Row) -> float:
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
    participant: Row,
    *,
    t0: float,
    rules: Rules,
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
    rules : Rules
    comparisons : DataFrame, optional
        Sizes of lesions that are cut differently at two sessions, like with like.

    Returns
    -------
    DataFrame
        Table ``treated_lesions``: one row per lesion and treatment. A lesion that a reader excluded has none.
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
        own = [
            (d, kind)
            for d, of, kind in zip(days, focal["track_id"], focal["treatment_type"])
            if of == track and d is not None
        ]
        again = min((d for d, _ in own if d > day), default=None)
        surgery = min((d for d, kind in own if kind == "surgery"), default=math.inf)
        outcome = _follow(looks, track, day, until=math.inf if again is None else again, resected=surgery, rules=rules)
        if outcome.local_failure_day is not None:
            low, high = rules.treatment_effect_days
            after_radiation = treatment["treatment_type"] in RADIATION
            possible = after_radiation and low <= outcome.local_failure_day - day <= high
            outcome = dataclasses.replace(outcome, treatment_effect_possible=possible)
        elif outcome.censored_reason != "no_pretreatment" and again is not None:
            outcome = dataclasses.replace(outcome, censored_reason="retreatment")
        elif outcome.censored_reason != "no_pretreatment" and death is not None:
            outcome = dataclasses.replace(outcome, censored_reason="death", censored_day=death)
        row: dict[str, Any] = dict.fromkeys(schema.columns("treated_lesions"))
        row |= {name: treatment[name] for name in row if name in treatment}
        row |= dataclasses.asdict(outcome)
        row |= {"treatment_day": day, "salvage_day": again, "time_to_local_failure_days": outcome.end_day - day}
        rows.append(row)
    return schema.make_table(rows, "treated_lesions")


def complete_patients(
    patients: pd.DataFrame,
    treated: pd.DataFrame,
    treatments: pd.DataFrame,
    lesions: pd.DataFrame,
    sessions: pd.DataFrame,
    participant: Row,
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
    found: dict[str, Any] = {
        "local_failure_day": _first(treated["local_failure_day"]),
        "distant_failure_day": _first(sure["days_from_t0"]),
        "leptomeningeal_day": _day(participant, "leptomeningeal_day", t0),
        "salvage_day": next((day for day in focal if day > focal[0]), None),
        "death_day": _day(participant, "death_day", t0),
        "last_contact_day": contact if contact is not None else last,
    }
    names = {"local": "local_failure_day", "distant": "distant_failure_day", "death": "death_day"}
    happened = [event for event in EVENTS if found[names[event]] is not None]
    event = min(happened, key=lambda each: int(found[names[each]]), default="none")
    day = found["last_contact_day"] if event == "none" else found[names[event]]
    found |= {"first_event": None if day is None else event, "first_event_day": day}
    if participant.get(START_FROM) and row["t0_source"] == "treatment":
        flags = [row["flags"]] if isinstance(row["flags"], str) else []
        found["flags"] = ";".join([*flags, "start_from_treatments"])
    return schema.make_table(pd.DataFrame([row | found]), "patients")


def incidence(treated_lesions: pd.DataFrame, patients: pd.DataFrame) -> pd.DataFrame:
    """Estimate the cumulative incidence of local failure after treatment; death competes (Aalen and Johansen).

    Lesions count one by one: those of one patient are not independent, which the confidence interval (95 %, on the
    log(-log) scale) does not know. All treatments count from their own day; a lesion treated again counts twice.

    Parameters
    ----------
    treated_lesions : DataFrame
        Table ``treated_lesions``; rows that cannot fail (not seen before treatment) are excluded.
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
class _Outcome:
    """What became of a lesion after a treatment: cells of ``treated_lesions`` (mm, mL, days from t0)."""

    best_response: Response
    pretreatment_session: str | None = None
    pretreatment_ld_mm: float | None = None
    pretreatment_vol_ml: float | None = None
    nadir_ld_mm: float | None = None
    nadir_ld_day: int | None = None
    nadir_vol_ml: float | None = None
    nadir_vol_day: int | None = None
    local_failure: bool | None = None
    local_failure_day: int | None = None
    failure_by: str | None = None
    failure_confirmed: bool | None = None
    censored_day: int | None = None
    censored_reason: str | None = None
    treatment_effect_possible: bool | None = None

    @property
    def end_day(self) -> int:
        """The day of failure, else the one until which the lesion is known not to have failed."""
        day = self.censored_day if self.local_failure_day is None else self.local_failure_day
        assert day is not None, "a lesion fails or is censored"
        return day


@dataclass(frozen=True)
class _Look:
    """A lesion at an evaluable session: sizes (mm, mL) are NaN where it cannot be measured apart."""

    session_id: str
    day: int
    present: bool
    absent: bool
    known: bool  # evaluable and no probable missed detection: whatever else is said of its size may count
    ld: float
    vol: float

    def size(self, name: _Size) -> float:
        """Return the diameter or the volume."""
        return self.ld if name == "ld" else self.vol


class _Looks:
    """All lesions of a patient at all evaluable sessions, and what is to be compared like with like."""

    def __init__(self, lesions: pd.DataFrame, sessions: pd.DataFrame, comparisons: pd.DataFrame | None) -> None:
        able = sessions[sessions["evaluable"].fillna(False).astype(bool) & sessions["days_from_t0"].notna()]
        self.days: dict[str, int] = dict(zip(able["session_id"], able["days_from_t0"].astype(int)))
        self.rows: dict[tuple[str, str], Row] = {
            (row["session_id"], row["track_id"]): row
            for row in lesions.to_dict("records")
            if row["session_id"] in self.days
        }
        self.carriers = {(session, row["merged_into"]) for (session, _), row in self.rows.items()}
        self.excluded = set(lesions.loc[lesions["role"] == "excluded", "track_id"])
        given: list[Row] = [] if comparisons is None else [*comparisons.to_dict("records")]
        self.pairs = {(row["session_id"], row["earlier_session_id"], row["track_id"]): row for row in given}

    def of(self, track: str, *, resected: float) -> list[_Look]:
        """Return the looks at a lesion in order; `resected` is the day from which its cavity is looked at."""
        found = []
        for session, day in sorted(self.days.items(), key=lambda each: each[1]):
            row = self.rows.get((session, track))
            if row is not None:
                found.append(self._look(row, session, day, day > resected))
        return found

    def _look(self, row: Row, session: str, day: int, resected: bool) -> _Look:
        flags = str(row["flags"]).split(";")
        missed = row["ld_source"] == "probable_missed_detection" or (
            row["status"] == "absent" and "probable_missed_detection" in flags
        )
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

    def pair(self, track: str, now: _Look, then: _Look, size: _Size) -> tuple[float, float]:
        """Return a size now and then, cut alike; NaN where it is not known."""
        row = self.pairs.get((now.session_id, then.session_id, track))
        if row is None or not (now.known and then.known):
            return now.size(size), then.size(size)
        unit = {"ld": "mm", "vol": "ml"}[size]
        return _float(row[f"{size}_now_{unit}"]), _float(row[f"{size}_then_{unit}"])


def _follow(looks: _Looks, track: str, day: int, *, until: float, resected: float, rules: Rules) -> _Outcome:
    """Follow a lesion from the day of its treatment on; a scan on the day of the next one still belongs to this."""
    course = looks.of(track, resected=resected)
    before = [look for look in course if look.day <= day and look.present]
    if not before:
        return _Outcome("NE", censored_day=day, censored_reason="no_pretreatment")
    first = before[-1]
    after = [look for look in course if day < look.day <= until]
    tests = _Tests(looks, track, rules)
    chain: list[_Look] = [first]  # up to a failure
    seen: list[Response] = []
    by: list[str] = []
    for look in after:
        by = tests.failed(look, chain)
        seen.append(tests.response(look, first, chain, "diameter" in by))
        if by:
            break
        chain.append(look)
    ld_mm, ld_day = _smallest(chain, "ld")
    vol_ml, vol_day = _smallest(chain, "vol")
    outcome = _Outcome(
        next((word for word in BEST if word in seen), "NE"),
        pretreatment_session=first.session_id,
        pretreatment_ld_mm=first.ld,
        pretreatment_vol_ml=first.vol,
        nadir_ld_mm=ld_mm,
        nadir_ld_day=ld_day,
        nadir_vol_ml=vol_ml,
        nadir_vol_day=vol_day,
        local_failure=bool(by),
    )
    if by:
        failed, *later = after[len(chain) - 1 :]
        later = [look for look in later if at_least(look.day - failed.day, rules.confirm_days)]
        again = [bool(tests.failed(look, chain)) for look in later if tests.is_judged(look, chain)]
        return dataclasses.replace(
            outcome,
            local_failure_day=failed.day,
            failure_by=";".join(by),
            failure_confirmed=again[0] if again else None,
        )
    judged = [look for n, look in enumerate(after) if tests.is_judged(look, chain[: n + 1])]
    reason = "no_followup" if not after else "last_scan" if judged and judged[-1] is after[-1] else "not_measurable"
    return dataclasses.replace(outcome, censored_day=judged[-1].day if judged else day, censored_reason=reason)


def _smallest(looks: Sequence[_Look], size: _Size) -> tuple[float | None, int | None]:
    """Return the smallest size of a lesion and its last day; None where it is never known."""
    known = [look for look in looks if not math.isnan(look.size(size))]
    least = min(known, key=lambda look: (look.size(size), -look.day), default=None)
    return (None, None) if least is None else (least.size(size), least.day)


class _Tests:
    """The criteria of failure and response, for one lesion."""

    def __init__(self, looks: _Looks, track: str, rules: Rules) -> None:
        self.looks, self.track, self.rules = looks, track, rules
        self.limits: dict[str, tuple[_Size, Limits]] = {
            "diameter": ("ld", rules.one_lesion),
            "volume": ("vol", rules.volume),
        }

    def failed(self, look: _Look, earlier: Sequence[_Look]) -> list[str]:
        """Return by what a lesion has failed: ``diameter``, ``volume``."""
        found = []
        for name, (size, limits) in self.limits.items():
            now, then = self._from_nadir(look, earlier, size)
            grown = now > 0 and at_least(now, (1 + limits.pd) * then)
            if grown and at_least(limits.scale(now) - limits.scale(then), limits.least_growth):
                found.append(name)
        return found

    def is_judged(self, look: _Look, earlier: Sequence[_Look]) -> bool:
        """Whether a failure would show."""
        return any(not math.isnan(self._from_nadir(look, earlier, size)[0]) for size, _ in self.limits.values())

    def response(self, look: _Look, first: _Look, earlier: Sequence[_Look], grown: bool) -> Response:
        """Return the response by diameter from the size before treatment."""
        if grown:
            return "PD"
        now, base = self.looks.pair(self.track, look, first, "ld")
        _, nadir = self._from_nadir(look, earlier, "ld")
        return target_response(
            [now],
            baseline_sum=base,
            nadir_sum=nadir,
            increase=0.0,
            absent=[look.absent],
            limits=self.rules.one_lesion,
        )

    def _from_nadir(self, look: _Look, earlier: Sequence[_Look], size: _Size) -> tuple[float, float]:
        """Return a size now and at its smallest before."""
        pairs = [self.looks.pair(self.track, look, each, size) for each in earlier]
        return find_smallest([pair for pair in pairs if not math.isnan(sum(pair))]) or (math.nan, math.nan)


def _float(value: Any) -> float:
    return math.nan if value is None or pd.isna(value) else float(value)


def _round(days: Iterable[float]) -> list[int | None]:
    return [None if pd.isna(day) else math.floor(day + 0.5) for day in days]


def _day(participant: Row, name: str, t0: float) -> int | None:
    given = participant.get(name, schema.MISSING)
    day = math.nan if given == schema.MISSING else float(given) - t0
    return None if math.isnan(day) else math.floor(day + 0.5)


def _first(days: pd.Series) -> int | None:
    return min((int(day) for day in days.dropna()), default=None)
