"""Which session is the baseline, and which of its measurable lesions are the targets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mettrail.response.criteria.tolerance import TOLERANCE, at_least, at_most


def choose_baseline(
    days: Sequence[float], evaluable: Sequence[bool], *, treatment_day: float, baseline_window_days: float
) -> tuple[int | None, str | None]:
    """Choose the session that others are compared to.

    Parameters
    ----------
    days : sequence of float
        Of the sessions in order, on the time axis of `treatment_day`.
    evaluable : sequence of bool
    treatment_day : float
        Start of treatment; NaN if unknown.
    baseline_window_days : float
        A baseline is not older than this at the start of treatment (RANO-BM: 4 weeks).

    Returns
    -------
    index : int or None
        Position in the sequences; None if no session is evaluable.
    flag : str or None
        ``in_window``, ``out_of_window``, ``post_treatment`` or ``assumed``: see the column ``baseline_flag``.
    """
    usable = [i for i, ok in enumerate(evaluable) if ok]
    if not usable:
        return None, None
    if math.isnan(treatment_day) or any(math.isnan(days[i]) for i in usable):
        return usable[0], "assumed"
    before = [i for i in usable if at_most(days[i], treatment_day)]
    if not before:
        return usable[0], "post_treatment"
    in_window = at_least(days[before[-1]], treatment_day - baseline_window_days)
    return before[-1], "in_window" if in_window else "out_of_window"


def choose_targets(measurable: pd.DataFrame, *, max_targets: int) -> list[str]:
    """Choose the lesions that are followed by their sum: the largest that can be reproduced (RANO-BM: up to five).

    Parameters
    ----------
    measurable : DataFrame
        Measurable lesions at baseline: ``track_id``, ``ld_mm``, ``perp_mm``, ``vol_wl_mm3``, ``hard`` (bool: hard to
        reproduce, e.g. at the edge of the image; such lesions come last).
    max_targets : int

    Returns
    -------
    list of str
        By longest diameter, ties by perpendicular diameter, volume, name.
    """

    def rank(lesion: Mapping[Any, Any]) -> tuple[Any, ...]:
        sizes = (lesion["ld_mm"], lesion["perp_mm"], lesion["vol_wl_mm3"])
        return (bool(lesion["hard"]), *(-round(size / TOLERANCE) for size in sizes), lesion["track_id"])

    return [lesion["track_id"] for lesion in sorted(measurable.to_dict("records"), key=rank)[:max_targets]]
