"""How fast each lesion grows, from the final table of lesions.

Volumes are those measured at each session (``vol_wl_ml``), never values that later knowledge revises: a row keeps what
it says when further sessions arrive.
"""

from __future__ import annotations

import math

import pandas as pd

GROWTH_DAYS = 30
COLUMNS = ("vol_growth_ml_per_30_days", "vol_doubling_time_days")


def add_growth(lesions: pd.DataFrame, sessions: pd.DataFrame) -> pd.DataFrame:
    """Fill the columns of growth: since the last evaluable session at which the lesion was measured.

    The doubling time assumes exponential growth between the two sessions, ``ln 2 * days / ln(V2 / V1)``: Collins et
    al., Am J Roentgenol 1956; Schwartz, Cancer 1961. It is negative, then a halving time, for what shrinks. A change is
    told only where neither volume lies within the other's half-voxel bounds.

    Parameters
    ----------
    lesions, sessions : DataFrame
        Final tables of one or several patients; sessions of a patient in the order of time.

    Returns
    -------
    DataFrame
        The lesions with ``vol_growth_ml_per_30_days`` (mL) and ``vol_doubling_time_days`` (days). Missing where the
        lesion is not present, at its first session, where it is or was one with another lesion, without days, and where
        the change is too small to tell.
    """
    evaluable = sessions[sessions["evaluable"].fillna(False).astype(bool)]
    order = {key: place for place, key in enumerate(zip(evaluable["participant_id"], evaluable["session_id"]))}
    keys = list(zip(lesions["participant_id"], lesions["session_id"]))
    merged = lesions[lesions["status"] == "merged"]
    fused = set(zip(merged["participant_id"], merged["session_id"], merged["merged_into"]))
    alone = [(*key, track) not in fused for key, track in zip(keys, lesions["track_id"])]
    place = pd.Series([order.get(key) for key in keys], index=lesions.index, dtype="Int64")
    measured = lesions[(lesions["status"] == "present") & place.notna() & lesions["vol_wl_ml"].notna()]
    measured = measured.assign(place=place, alone=pd.Series(alone, index=lesions.index)).sort_values("place")
    found = pd.DataFrame(math.nan, index=lesions.index, columns=list(COLUMNS))
    for _, rows in measured.groupby(["participant_id", "track_id"], sort=False):
        for (_, before), (index, now) in zip(rows.iterrows(), list(rows.iterrows())[1:]):
            if before["alone"] and now["alone"]:
                found.loc[index] = _between(before, now)
    return lesions.assign(**found)


def _between(before: pd.Series, now: pd.Series) -> tuple[float, float]:
    """Growth and doubling time between two rows of a lesion; NaN where they cannot be told."""
    days = now["days_from_t0"] - before["days_from_t0"]
    if pd.isna(days) or days <= 0 or not (_outside(now, before) and _outside(before, now)):
        return math.nan, math.nan
    first, second = before["vol_wl_ml"], now["vol_wl_ml"]
    return (second - first) * GROWTH_DAYS / days, math.log(2) * days / math.log(second / first)


def _outside(one: pd.Series, other: pd.Series) -> bool:
    """Whether a volume is not what half a voxel of the edge may make of the other."""
    low, high = other["vol_half_voxel_low_ml"], other["vol_half_voxel_high_ml"]
    return bool(one["vol_wl_ml"] < low or one["vol_wl_ml"] > high)
