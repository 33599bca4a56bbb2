"""Targets: with what size each enters the sum, how sums compare, and what they say."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from mettrail.response.criteria.tolerance import at_least, at_most
from mettrail.response.criteria.words import NA, Response, Source
from mettrail.response.rules import Limits

TOO_SMALL_MM = 5.0  # RECIST 1.1: value of a lesion too small to measure


def diameter_in_sum(
    *, status: str, enhancing: bool, ld_mm: float, n_components: float, ld_components_mm: float, tsm_mode: str
) -> tuple[float, Source]:
    """Tell with what diameter a lesion enters the sum, and why.

    A lesion that no longer enhances is absent, for RANO-BM is about enhancing disease. Components of one lesion add up,
    and lesions that became one count once (RECIST 1.1, split and coalesced lesions). Small lesions keep their measured
    size (RECIST 1.1: "if measurable, record it"), or 5 mm at least with ``tsm_mode='floor5'``.

    Returns
    -------
    value : float
        mm; NaN if not evaluable.
    source : str
        See the column ``ld_source``.
    """
    if status == "merged":
        return 0.0, "merged"
    if status == "absent" or (status == "present" and not enhancing):
        return 0.0, "absent"
    if status != "present" or math.isnan(ld_mm):
        return math.nan, "ne"
    in_parts = n_components > 1 and ld_components_mm > 0
    value = ld_components_mm if in_parts else ld_mm
    if tsm_mode == "floor5" and value < TOO_SMALL_MM:
        return TOO_SMALL_MM, "floor5"
    return value, "components" if in_parts else "measured"


def join_groups(*owners: Sequence[int] | np.ndarray) -> np.ndarray:
    """Give lesions numbers so that those which are one at any of some sessions share a number.

    Parameters
    ----------
    *owners : sequence of int
        Per session, for each lesion the position of the lesion that carries its size (itself, unless merged).
    """
    group = np.arange(len(owners[0]))
    for owner in map(np.asarray, owners):
        for lesion in np.flatnonzero(owner != np.arange(len(owner))):
            group[group == group[lesion]] = group[owner[lesion]]
    return group


def find_nadir(now: Sequence[float], then: Sequence[float]) -> int | None:
    """Find the session at which lesions were smallest compared to now.

    Parameters
    ----------
    now, then : sequence of float
        Per earlier session, the sum now and the sum then, like with like: lesions that touch at one of the two only are
        measured at both as at the one where they are apart. NaN in `then`: not complete, and no nadir.

    Returns
    -------
    int or None
        Position of the last of the smallest; None if no sum is complete. Where `now` is one and the same, the smallest
        is that of the smallest sum.
    """
    levels = [past if present <= 0 else past / present for present, past in zip(now, then, strict=True)]
    complete = [level for level in levels if not math.isnan(level)]
    if not complete:
        return None
    return max(i for i, level in enumerate(levels) if at_most(level, min(complete)))


def find_smallest(pairs: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """Return of pairs of a size, now and then, the one of the nadir (`find_nadir`); None if there is none."""
    at = find_nadir(*zip(*pairs, strict=True)) if pairs else None
    return None if at is None else pairs[at]


def largest_increase(
    now: Sequence[float] | np.ndarray,
    then: Sequence[float] | np.ndarray,
    groups: Sequence[int] | np.ndarray,
    *,
    of: Sequence[int],
    scale: Callable[[float], float] = float,
) -> float:
    """Find the largest growth of one lesion since the session of the smallest sum.

    Lesions that became one grew by the difference of what they are together and what they were together (ours; each
    alone would seem to have leapt).

    Parameters
    ----------
    now, then : sequence of float
        Sizes of all lesions.
    groups : sequence of int
        From `join_groups`.
    of : sequence of int
        Positions of the targets: only groups with a target count.
    scale : function
        In what growth is counted, from the size of a group; by default the size itself.

    Returns
    -------
    float
        NaN if no group is known at both sessions.
    """
    sizes_now, sizes_then, numbers = np.asarray(now, float), np.asarray(then, float), np.asarray(groups)
    own = [numbers == number for number in sorted({int(numbers[k]) for k in of})]
    growth = [scale(sizes_now[mine].sum()) - scale(sizes_then[mine].sum()) for mine in own]
    return max((mm for mm in growth if not math.isnan(mm)), default=math.nan)


def target_response(
    now: Sequence[float] | np.ndarray,
    *,
    baseline_sum: float,
    nadir_sum: float,
    increase: float,
    absent: Sequence[bool] | np.ndarray,
    limits: Limits,
    now_at_nadir: Sequence[float] | np.ndarray | None = None,
    after_cr: bool = False,
) -> Response:
    """Judge the targets by their sum: PD, else NE, else CR, else PR, else SD (RANO-BM).

    Parameters
    ----------
    now : sequence of float
        Sizes of the targets; NaN for those not evaluable. What remains of the sum can only prove PD (ours).
    baseline_sum, nadir_sum : float
        At baseline; smallest complete sum from baseline to the session before.
    increase : float
        From `largest_increase`. RANO-BM wants 5 mm of growth in at least one lesion; we count it from the session of
        the nadir.
    absent : sequence of bool
        Whether each target is absent: not merged with another.
    limits : Limits
    now_at_nadir : sequence of float, optional
        The sizes as they compare to those at the nadir, where `now` compares to baseline only (like with like).
    after_cr : bool
        Whether a confirmed complete response came before (`has_confirmed_cr`).

    Notes
    -----
    After a confirmed complete response, a target that reappears is PD, however small. Before it is confirmed, it is PD
    only if it reaches the least growth, otherwise PR (answers to questions on RECIST 1.1).
    """
    sizes = np.asarray(now, float)
    if not len(sizes):
        return NA
    if math.isnan(baseline_sum) or math.isnan(nadir_sum):
        return "NE"
    total = float(np.nansum(sizes))
    if after_cr and total > 0:
        return "PD"
    since_nadir = total if now_at_nadir is None else float(np.nansum(now_at_nadir))
    grown = since_nadir - nadir_sum if limits.of_sum else increase
    reaches_share = since_nadir > 0 and at_least(since_nadir, (1 + limits.pd) * nadir_sum)
    if reaches_share and at_least(grown, limits.least_growth):
        return "PD"
    if np.isnan(sizes).any():
        return "NE"
    if all(absent):
        return "CR"
    if nadir_sum == 0 or at_most(total, (1 - limits.pr) * baseline_sum):
        return "PR"
    return "SD"
