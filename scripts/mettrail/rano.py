"""RANO-BM over time, as pure functions over tables.

The criteria are those of RANO-BM (Lin et al., Lancet Oncol 2015) for brain metastases; where they leave a case open,
RECIST 1.1 (Eisenhauer et al., Eur J Cancer 2009) and its published answers to questions decide, and the docstring says
so. "Ours" marks what no publication settles. The result supports research decisions: it is no clinical response call.

Comparisons use unrounded values with a tolerance of 1e-6 (mm, and relative). ``NaN`` is not evaluable, ``0`` is gone.
A result *as known at* a session uses nothing that came later; a *final* one uses everything: an uncertain new lesion
may turn out real, a lesion that was overlooked may come back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from mettrail import tables, vocabulary
from mettrail.errors import InputError
from mettrail.lesions import ENDPOINTS

NA = "n/a"  # nothing to judge: no targets, no other lesions
TOLERANCE = 1e-6
TOO_SMALL_MM = 5.0  # RECIST 1.1: value of a lesion too small to measure
THICK_SLICE_MM = 5.0  # RANO-BM: measurable lesions on slices of at most 5 mm
# Stand-in for a reader's "unequivocal progression" of lesions that are not targets (ours).
NONTARGET_MIN_MM, NONTARGET_PD_MM, NONTARGET_PD = 10.0, 5.0, 0.20
NONTARGET_VOLUME_PD, NONTARGET_VOLUME_PD_ML = 0.728, 1.0
SESSIONS_TO_CONFIRM_NEW = 2  # further sessions with an uncertain new lesion that make it real (ours)
STEROID_INCREASE = 1.1  # times the baseline dose (ours)
SMALL_LESION_MM, SMALL_LESION_SLICE_MM = 5.0, 1.5  # RANO-BM's option for thin slices
# iRANO (Okada et al., Lancet Oncol 2015): progression within six months of immunotherapy waits for three months.
IRANO_DAYS, IRANO_CONFIRM_DAYS = 183, 84

ZERO_IF_ABSENT = (
    "ld_mm", "perp_mm", "ld_feret_mm", "max3d_mm", "esd_mm", "extent_z_mm", "bidim_mm2", "surface_mm2", "n_voxels",
    "n_slices", "vol_wl_mm3", "vol_et_mm3", "vol_nc_mm3", "vol_ed_mm3",
)  # fmt: skip
# Columns the matching must give; without one of them the response would be wrong, not just incomplete.
NEEDED = (
    "session_id", "track_id", "status", "event", "merged_into", "probable_miss", "n_fragments", "ld_fragments_mm",
    "ld_mm", "perp_mm", "n_slices", "vol_wl_mm3", "enhancing", "touches_border", "flags", "slice_spacing_mm",
    "bbox_x_vox", "bbox_y_vox", "bbox_z_vox",
)  # fmt: skip
COPIED_IF_PRESENT = (
    *ZERO_IF_ABSENT, "n_fragments", "match_method", "match_score", "border_distance_mm", "ld_slice", *ENDPOINTS,
    "slice_spacing_mm", "necrosis_fraction", "touches_border", "enhancing", "cx_mm", "cy_mm", "cz_mm", "cx_ref_mm",
    "cy_ref_mm", "cz_ref_mm", "mean_probability", "seen_by", "confidence",
)  # fmt: skip


def at_least(value: float, limit: float) -> bool:
    """Whether a value reaches a limit, within the tolerance; never for NaN."""
    return bool(value >= limit - TOLERANCE * max(1.0, abs(limit)))


def at_most(value: float, limit: float) -> bool:
    """Whether a value stays at or below a limit, within the tolerance; never for NaN."""
    return bool(value <= limit + TOLERANCE * max(1.0, abs(limit)))


# --- Baseline, measurability, targets ------------------------------------------------------------------------------


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


def is_measurable(
    *,
    ld_mm: float,
    perp_mm: float,
    n_slices: float,
    enhancing: bool = True,
    slice_spacing_mm: float = math.nan,
    flags: Sequence[str] = (),
    ld_min_mm: float,
    perp_min_mm: float,
    slices_min: int,
    small_lesions: bool = False,
) -> bool:
    """Whether a lesion can be measured reproducibly (RANO-BM: 10 mm x 5 mm, on two slices of at most 5 mm).

    With `small_lesions`, 5 mm are enough on slices of at most 1.5 mm. On slices thicker than 5 mm the diameter must
    also be at least twice their spacing (ours); thick slices that are not axial do not count.
    """
    if not enhancing or "not_axial_acq" in flags:
        return False
    if small_lesions and at_most(slice_spacing_mm, SMALL_LESION_SLICE_MM):
        ld_min_mm = min(ld_min_mm, SMALL_LESION_MM)
    if slice_spacing_mm > THICK_SLICE_MM + TOLERANCE and not at_least(ld_mm, 2 * slice_spacing_mm):
        return False
    return at_least(ld_mm, ld_min_mm) and at_least(perp_mm, perp_min_mm) and at_least(n_slices, slices_min)


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

    def rank(lesion):
        sizes = (lesion["ld_mm"], lesion["perp_mm"], lesion["vol_wl_mm3"])
        return (bool(lesion["hard"]), *(-round(size / TOLERANCE) for size in sizes), lesion["track_id"])

    return [lesion["track_id"] for lesion in sorted(measurable.to_dict("records"), key=rank)[:max_targets]]


# --- Targets -------------------------------------------------------------------------------------------------------


def diameter_in_sum(
    *, status: str, enhancing: bool, ld_mm: float, n_fragments: float, ld_fragments_mm: float, tsm_mode: str
) -> tuple[float, str]:
    """Tell with what diameter a lesion enters the sum, and why.

    A lesion that no longer enhances is absent, for RANO-BM is about enhancing disease. Pieces of one lesion add up, and
    lesions that became one count once (RECIST 1.1, split and coalesced lesions). Small lesions keep their measured size
    (RECIST 1.1: "if measurable, record it"), or 5 mm at least with ``tsm_mode='floor5'``.

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
    value, source = (ld_mm, "measured")
    if n_fragments > 1 and ld_fragments_mm > 0:
        value, source = ld_fragments_mm, "fragments"
    if tsm_mode == "floor5" and value < TOO_SMALL_MM:
        return TOO_SMALL_MM, "floor5"
    return value, source


def join_groups(*owners: Sequence[int]) -> np.ndarray:
    """Give lesions numbers so that those which are one at any of some sessions share a number.

    Parameters
    ----------
    *owners : sequence of int
        Per session, for each lesion the position of the lesion that carries its size (itself, unless merged).
    """
    group = np.arange(len(owners[0]))
    for owner in owners:
        for lesion, carrier in enumerate(owner):
            if group[lesion] != group[carrier]:
                group[group == group[lesion]] = group[carrier]
    return group


def largest_increase(
    now: Sequence[float],
    then: Sequence[float],
    groups: Sequence[int],
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
    now, then, groups = np.asarray(now, float), np.asarray(then, float), np.asarray(groups)
    own = [groups == g for g in sorted({int(groups[k]) for k in of})]
    growth = [scale(now[mine].sum()) - scale(then[mine].sum()) for mine in own]
    growth = [g for g in growth if not math.isnan(g)]
    return max(growth) if growth else math.nan


def target_response(
    now: Sequence[float],
    *,
    baseline_sum: float,
    nadir_sum: float,
    increase: float,
    gone: Sequence[bool],
    pr: float,
    pd: float,
    pd_abs: float,
    abs_rule: str = "lesion",
) -> str:
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
    gone : sequence of bool
        Whether each target is absent: not merged with another.
    pr, pd : float
        Decrease from baseline and increase from nadir, as fractions.
    pd_abs : float
        In the unit of the sizes.
    abs_rule : str
        ``lesion``, or ``sum`` for the absolute increase of the sum (RECIST 1.1).

    Notes
    -----
    After a complete response, a target that comes back is PD only if it reaches `pd_abs`, otherwise PR (answers to
    questions on RECIST 1.1).
    """
    now = np.asarray(now, float)
    if not len(now):
        return NA
    if math.isnan(baseline_sum) or math.isnan(nadir_sum):
        return "NE"
    total = float(np.nansum(now))
    grown = increase if abs_rule == "lesion" else total - nadir_sum
    if total > 0 and at_least(total, (1 + pd) * nadir_sum) and at_least(grown, pd_abs):
        return "PD"
    if np.isnan(now).any():
        return "NE"
    if all(gone):
        return "CR"
    if nadir_sum == 0 or at_most(total, (1 - pr) * baseline_sum):
        return "PR"
    return "SD"


def continue_response(
    days: Sequence[float], responses: Sequence[str | None], *, confirm_days: float
) -> list[str | None]:
    """Show SD after a confirmed PR as PR until PD, as known at each session (answers to questions on RECIST 1.1)."""
    shown, since = [], 0
    for i, response in enumerate(responses):
        if response == "PD":
            since = i + 1
        known = responses[since : i + 1]
        lasted = any(
            r in ("CR", "PR") and _sustained(days[since : i + 1], known, j, ("CR", "PR"), confirm_days) is not None
            for j, r in enumerate(known)
        )
        shown.append("PR" if response == "SD" and lasted else response)
    return shown


# --- Other lesions, new lesions ------------------------------------------------------------------------------------


def nontarget_response(ld_mm: np.ndarray, volume_ml: np.ndarray, state: np.ndarray, *, groups: Sequence[int]) -> str:
    """Judge the lesions at baseline that are not targets (RANO-BM: unequivocal progression, read here from sizes).

    PD if one of them is at least 10 mm and has grown by 5 mm and 20 % from its own smallest, or if all together have
    grown by 72.8 % and 1 mL from their smallest total (ours: a reader may decide otherwise). Edema never decides.

    Parameters
    ----------
    ld_mm, volume_ml : array (n_sessions, n_lesions)
        From baseline to now, the last row; NaN if not evaluable or carried by a target.
    state : array (n_sessions, n_lesions) of str
        ``present``, ``absent``, ``merged``, ``ne``.
    groups : sequence of int
        From `join_groups`, now.

    Returns
    -------
    str
        ``PD``, else ``NON_CR_NON_PD`` if one persists, else ``NE`` if one is not evaluable, else ``CR``; ``n/a``
        without any.
    """
    if not ld_mm.shape[1]:
        return NA
    own = np.where(np.isin(state, ("present", "absent")), ld_mm, np.nan)  # merged: size 0, yet not small
    smallest = np.fmin.reduce(own[:-1], axis=0, initial=np.inf)
    smallest = np.where(np.isinf(smallest), np.nan, smallest)
    for g in set(map(int, groups)):
        of = np.asarray(groups) == g
        size, least = ld_mm[-1][of].sum(), smallest[of].sum()
        grown = at_least(size - least, NONTARGET_PD_MM) and at_least(size, (1 + NONTARGET_PD) * least)
        if grown and at_least(size, NONTARGET_MIN_MM):
            return "PD"
    totals = volume_ml.sum(axis=1)
    if not np.isnan(totals[-1]) and not np.isnan(totals[:-1]).all():
        least = np.nanmin(totals[:-1])
        if at_least(totals[-1], (1 + NONTARGET_VOLUME_PD) * least) and at_least(
            totals[-1] - least, NONTARGET_VOLUME_PD_ML
        ):
            return "PD"
    if np.isin(state[-1], ("present", "merged")).any():
        return "NON_CR_NON_PD"
    return "NE" if (state[-1] == "ne").any() else "CR"


def is_definite(
    *,
    ld_mm: float,
    n_slices: float,
    bbox_voxels: Sequence[float] | None,
    slice_spacing_mm: float,
    prior_slice_spacing_mm: float,
    new_definite_mm: float,
) -> bool:
    """Whether a lesion not seen before is surely there (RANO-BM: visible in at least two projections; sizes ours).

    A thick slice of the scan before may have hidden a small lesion: then it must be twice that slice.
    """
    hidden = prior_slice_spacing_mm >= 2 * slice_spacing_mm - TOLERANCE
    if hidden and not at_least(ld_mm, 2 * prior_slice_spacing_mm):
        return False
    seen_from_all_sides = bbox_voxels is not None and min(bbox_voxels) >= 2
    return at_least(ld_mm, new_definite_mm) and seen_from_all_sides and at_least(n_slices, 2)


def follow_new_lesion(seen: Sequence[bool | None], definite: Sequence[bool]) -> list[str | None]:
    """Follow a lesion born after baseline (RANO-BM: an uncertain one that proves real dates from its first appearance).

    Parameters
    ----------
    seen : sequence of bool or None
        Per session after baseline; None if it cannot be told.
    definite : sequence of bool
        From `is_definite`.

    Returns
    -------
    list of str or None
        ``definite``; ``equivocal``; ``confirmed`` once definite later or seen at two more sessions; ``rejected`` if not
        seen at an evaluable session before that; None before birth. As known at the last session given.
    """
    status: list[str | None] = [None] * len(seen)
    episode, current, count = [], None, 0
    for t, (there, sure) in enumerate(zip(seen, definite, strict=True)):
        if there:
            if current is None:
                current, count, episode = "definite" if sure else "equivocal", 0, []
            else:
                count += 1
                if current == "equivocal" and (sure or count >= SESSIONS_TO_CONFIRM_NEW):
                    current = "confirmed"
        elif there is False and current == "equivocal":
            current = "rejected"
        if current is not None:
            episode.append(t)
            for u in episode:
                status[u] = current
        if current == "rejected":
            current, episode = None, []
    return status


# --- Response of a session -----------------------------------------------------------------------------------------


def imaging_response(target: str, nontarget: str, new: str, *, immunotherapy: bool = False) -> str:
    """Combine targets, other lesions and new lesions (RANO-BM; RECIST 1.1 for rows with NE, ours for ``equivocal``).

    Parameters
    ----------
    target, nontarget : str
        ``n/a`` if there are none.
    new : str
        ``none``, ``equivocal`` or ``definite``.
    immunotherapy : bool
        New lesions alone are then no progression yet (RANO-BM; iRECIST, Seymour et al. 2017).
    """
    if target == "PD" or nontarget == "PD":
        return "PD"
    if new == "definite":
        return "uPD" if immunotherapy else "PD"
    if target == NA:
        if nontarget == "CR":
            return "CR" if new == "none" else "NON_CR_NON_PD"
        return "NON_CR_NON_PD" if nontarget == "NON_CR_NON_PD" else "NE"
    if target == "CR":
        return "CR" if nontarget in ("CR", NA) and new == "none" else "PR"
    return target


def overall_response(imaging: str, steroids: str, clinical: str) -> str:
    """Combine the images with steroids and clinical status (RANO-BM); ``hold`` where more steroids forbid a reading.

    Unknown counts as none and stable (ours; the column ``clinical_assumed`` says so).
    """
    if imaging == "PD" or clinical == "worse":
        return "PD"
    if imaging not in ("CR", "PR", "SD", "NON_CR_NON_PD"):
        return imaging
    if steroids == "increased":
        return "hold"
    if imaging == "CR" and steroids in ("stable", "decreased"):
        return "PR"
    return imaging


def follow_overall(imaging: Sequence[str], steroids: Sequence[str], clinical: Sequence[str]):
    """Give the overall response of each session, as known at the last.

    An increase of steroids alone is no progression (RANO-BM): the session waits (NE). When the dose is known to be back
    at a later session, the images decide; when the patient has got worse first, it was PD from the increase on (as in
    RANO 2.0, Wen et al. 2023). Doses and clinical status count at sessions whose images cannot be read, too.

    Returns
    -------
    responses : list of str
    held : list of bool
        Whether a session still waits.
    """
    responses = [overall_response(*now) for now in zip(imaging, steroids, clinical, strict=True)]
    held = [r == "hold" for r in responses]
    for t in [t for t, waits in enumerate(held) if waits]:
        responses[t] = "NE"
        for later in range(t + 1, len(imaging)):
            if clinical[later] == "worse":
                responses[t], held[t] = "PD", False
                break
            if steroids[later] not in ("increased", "unknown"):
                responses[t], held[t] = overall_response(imaging[t], steroids[later], clinical[t]), False
                break
    return responses, held


def follow_unconfirmed(points: Sequence[Mapping], *, confirm_days: float) -> list[str]:
    """Confirm or clear progressions that have to wait for a later session, as known at the last.

    Under immunotherapy, new lesions alone are uPD; so is any progression that is in doubt (`doubt_days`). The next
    evaluable session late enough confirms it, dated back, by further new lesions, 5 mm of growth of the new ones, PD of
    targets or of other lesions, or clinical worsening; otherwise it is cleared (RANO-BM; iRECIST, Seymour et al. 2017,
    for the 5 mm; days ours). Cleared lesions no longer count as new, though CR is not to be had beside
    them; cleared growth no longer counts as progression.

    Parameters
    ----------
    points : sequence of dict
        Per session ``day``, ``evaluable``, ``immunotherapy``, ``target``, ``nontarget``, ``new`` (none, equivocal,
        definite), ``sure`` (dict: definite new lesions present and their diameters in mm), ``worse``, ``doubt_days``
        (days until any progression here can be confirmed; 0 where growth is not in doubt).
    confirm_days : float
        Days until new lesions under immunotherapy can be confirmed.

    Returns
    -------
    list of str
    """
    responses: list[str] = []
    cleared: set[str] = set()  # new lesions
    confirmed: set[str] = set()
    pseudo: set[int] = set()  # sessions whose growth was cleared
    waiting: list[int] = []
    progressed = False  # growth that was confirmed once is not doubted again

    def read(t):
        p = points[t]
        sure = set(p["sure"]) - cleared
        # What was cleared and is still there is no progression, yet nothing is complete beside it.
        new = "definite" if sure else ("equivocal" if p["new"] == "definite" else p["new"])
        target, nontarget = p["target"], p["nontarget"]
        if t in pseudo:
            target = "SD" if target == "PD" else target
            nontarget = "NON_CR_NON_PD" if nontarget == "PD" else nontarget
        known = bool(sure & confirmed)
        image = imaging_response(target, nontarget, new, immunotherapy=p["immunotherapy"] and not known)
        return "uPD" if image == "PD" and p["doubt_days"] and not (known or progressed) else image

    for t, p in enumerate(points):
        if not p["evaluable"]:
            responses.append("NE")
            continue
        responses.append(read(t))
        first = points[waiting[0]] if waiting else p
        if waiting and at_least(p["day"] - first["day"], first["doubt_days"] or confirm_days):
            further = set(p["sure"]) - set(first["sure"]) - cleared
            growth = sum(p["sure"].values()) - sum(first["sure"].values())
            if further or at_least(growth, TOO_SMALL_MM) or "PD" in (p["target"], p["nontarget"]) or p["worse"]:
                confirmed |= set(first["sure"]) | set(p["sure"])
                progressed = progressed or bool(first["doubt_days"])
            else:
                cleared |= set(first["sure"])
                pseudo |= set(waiting)
            for u in [*waiting, t]:
                responses[u] = read(u)
            waiting = []
        if responses[t] == "uPD":
            waiting.append(t)
    return responses


# --- Best response, progression ------------------------------------------------------------------------------------


def _sustained(days, responses, start, kinds, confirm_days):
    """Position of the session that confirms the one at `start`; None if none does."""
    for later in range(start + 1, len(responses)):
        response = responses[later]
        if response in (None, "NE", "uPD"):
            continue
        if response not in ("CR", "PR"):
            return None
        if response in kinds and at_least(days[later] - days[start], confirm_days):
            return later
    return None


def confirm_responses(
    days: Sequence[float], responses: Sequence[str | None], *, confirm_days: float
) -> list[bool | None]:
    """Tell for each CR and PR whether it lasted (RANO-BM: at least 4 weeks, and between them nothing worse than PR).

    Returns
    -------
    list of bool or None
        True from the first to the confirming session; None where the response is neither CR nor PR.
    """
    confirmed: list[bool | None] = [False if r in ("CR", "PR") else None for r in responses]
    for start, response in enumerate(responses):
        if response not in ("CR", "PR"):
            continue
        for kinds in (("CR",), ("CR", "PR")) if response == "CR" else (("CR", "PR"),):
            end = _sustained(days, responses, start, kinds, confirm_days)
            if end is not None:
                for t in range(start, end + 1):
                    # A complete response is confirmed by another only.
                    if responses[t] == "PR" or (responses[t] == "CR" and kinds == ("CR",)):
                        confirmed[t] = True
    return confirmed


def best_response(
    days: Sequence[float],
    responses: Sequence[str],
    *,
    confirm_days: float,
    sd_min_days: float,
    confirm: bool = True,
) -> tuple[str, float, bool | None]:
    """Find the best response up to the first PD (RECIST 1.1), confirmed after 4 weeks (RANO-BM).

    CR or PR that did not last counts as SD, and SD must be seen at least `sd_min_days` after the start, else the later
    PD counts, else nothing can be said (RECIST 1.1; the number of days is ours).

    Parameters
    ----------
    days : sequence of float
        From t0. If any evaluable session lacks its day, nothing can be confirmed and responses count as they are.
    responses : sequence of str
        Overall and final, after baseline, in order.
    confirm : bool
        False for randomised trials: responses count as they are.

    Returns
    -------
    response : str
    day : float
        When it was first seen; NaN for NE and if unknown.
    confirmed : bool or None
        None if neither CR nor PR.

    Examples
    --------
    >>> best_response([56, 77, 84], ["PR", "PR", "PR"], confirm_days=28, sd_min_days=42)
    ('PR', 56.0, True)
    >>> best_response([56, 77], ["PR", "PR"], confirm_days=28, sd_min_days=42)
    ('SD', 56.0, None)
    """
    end = responses.index("PD") + 1 if "PD" in responses else len(responses)
    days, responses = [float(d) for d in days[:end]], list(responses[:end])
    dated = not any(math.isnan(d) for d, r in zip(days, responses, strict=True) if r != "NE")

    def first(*kinds, after=-math.inf):
        return next((t for t, r in enumerate(responses) if r in kinds and not days[t] < after), None)

    for kind, by in (("CR", ("CR",)), ("PR", ("CR", "PR"))):
        for t, r in enumerate(responses):
            lasted = dated and r in by and _sustained(days, responses, t, by, confirm_days) is not None
            if lasted:
                return kind, days[t], True
        if not (confirm and dated) and first(kind) is not None:
            return kind, days[first(kind)], False
    t = first("CR", "PR", "SD", "NON_CR_NON_PD", after=sd_min_days - TOLERANCE if dated else -math.inf)
    if t is not None:
        return "NON_CR_NON_PD" if responses[t] == "NON_CR_NON_PD" else "SD", days[t], None
    if "PD" in responses:
        return "PD", days[-1], None
    return "NE", math.nan, None


def lesion_count_group(n_lesions: int) -> str | None:
    """Name the group of a number of lesions at baseline; None for none."""
    if n_lesions < 1:
        return None
    return "1-3" if n_lesions <= 3 else "4-10" if n_lesions <= 10 else ">10"


# --- What readers and clinicians add -------------------------------------------------------------------------------


def steroid_status(dose_mg: float, baseline_dose_mg: float, *, physiologic_dex_mg: float) -> str:
    """Compare the dexamethasone-equivalent dose per day to baseline (RANO-BM; 10 % and physiological dose: ours)."""
    if math.isnan(dose_mg):
        return "unknown"
    if at_most(dose_mg, physiologic_dex_mg):
        return "none"
    if math.isnan(baseline_dose_mg):
        return "unknown"
    if dose_mg > baseline_dose_mg * STEROID_INCREASE + TOLERANCE:
        return "increased"
    return "decreased" if dose_mg < baseline_dose_mg / STEROID_INCREASE - TOLERANCE else "stable"


def performance_status(kps: float, baseline_kps: float, ecog: float, baseline_ecog: float) -> str:
    """Read the clinical status off performance scores, compared to baseline; NaN where not recorded.

    Worse, as RANO-BM has it for neurological decline: Karnofsky from 90 or more to 70 or less, by 20 or more from 80 or
    less, or to 50 or less; ECOG from 0 or 1 to 2 or more, or from 2 to 3 or more. Improved (ours): the same steps
    upward.

    Returns
    -------
    str
        ``worse`` if either score says so, ``improved``, ``stable``, or ``unknown`` without a score at both sessions.
    """

    def fell(now, before):
        return now < before and (now <= 50 or (now <= 70 if before >= 90 else before - now >= 20))

    def weakened(now, before):
        return now > before and now >= 2 and (before <= 1 or now >= 3)

    known = not math.isnan(kps - baseline_kps), not math.isnan(ecog - baseline_ecog)
    if not any(known):
        return "unknown"
    if (known[0] and fell(kps, baseline_kps)) or (known[1] and weakened(ecog, baseline_ecog)):
        return "worse"
    if (known[0] and fell(baseline_kps, kps)) or (known[1] and weakened(baseline_ecog, ecog)):
        return "improved"
    return "stable"


@dataclass(frozen=True)
class Overrides:
    """What a reader decided, by lesion; it wins over what was measured.

    Parameters
    ----------
    excluded : set of str
        Lesions to leave out.
    diameters_mm : dict of (session_id, track_id) to float
        Their diameters; 5 mm for one too small to measure.
    too_small : set of (session_id, track_id)
    nontarget_pd : dict of session_id to bool
    new_status : dict of track_id to str
    irradiated_day, resected_day : dict of track_id to float
        On the time axis of the sessions.
    """

    excluded: frozenset = frozenset()
    diameters_mm: Mapping = field(default_factory=dict)
    too_small: frozenset = frozenset()
    nontarget_pd: Mapping = field(default_factory=dict)
    new_status: Mapping = field(default_factory=dict)
    irradiated_day: Mapping = field(default_factory=dict)
    resected_day: Mapping = field(default_factory=dict)


_NEW_STATUSES = ("definite", "equivocal", "confirmed", "rejected")
# What a reader may decide, what the value must be, and whether it is about a lesion, a session, or a lesion at one.
OVERRIDES = {
    "exclude": ("true or false", ("track_id",)),
    "tsm": ("true or false", ("session_id", "track_id")),
    "ld_mm": ("a diameter in mm, 0 for gone", ("session_id", "track_id")),
    "nontarget_pd": ("true or false", ("session_id",)),
    "new_status": (", ".join(_NEW_STATUSES), ("track_id",)),
    "irradiated_day": ("a day", ("track_id",)),
    "resected_day": ("a day", ("track_id",)),
}


def read_overrides(table: pd.DataFrame | None, *, source: str = "overrides") -> Overrides:
    """Sort a reader's table by what it decides.

    Parameters
    ----------
    table : DataFrame or None
        Text columns ``session_id``, ``track_id``, ``field`` and ``value``: see `OVERRIDES`. Others are not read. The
        index says in which line of the file a row stands.
    source : str
        Name of the file, for messages.

    Raises
    ------
    InputError
        A column lacking, a field that does not exist, a value that does not fit it, nothing said of what it is about,
        or two decisions on one thing.
    """
    found: dict[str, dict] = {name: {} for name in OVERRIDES}
    if table is None:
        table = pd.DataFrame(columns=["session_id", "track_id", "field", "value"])
    lacking = {"session_id", "track_id", "field", "value"} - set(table.columns)
    if lacking:
        raise _bad_override(source, f"columns {', '.join(table.columns)}", "session_id, track_id, field, value")
    for line, row in zip(table.index, table.to_dict("records")):
        where = f"{source}, line {line}"
        name, value = str(_value(row, "field", "")).lower(), _value(row, "value")
        if name not in OVERRIDES:
            raise _bad_override(where, f"field {name}", f"one of {', '.join(OVERRIDES)}")
        expected, about = OVERRIDES[name]
        key = tuple(_named(column, _value(row, column)) for column in about)
        if None in key:
            raise _bad_override(where, f"{name} without {' and '.join(about)}", "what it is about")
        if key in found[name]:
            raise _bad_override(where, f"a second {name} for {' '.join(key)}", "one decision")
        try:
            found[name][key] = _read_decision(name, value)
        except ValueError as error:
            raise _bad_override(where, f"{name} = {value}", expected) from error

    def of_tracks(name):
        return {track: value for (track,), value in found[name].items()}

    return Overrides(
        excluded=frozenset(track for track, yes in of_tracks("exclude").items() if yes),
        diameters_mm=found["ld_mm"],
        too_small=frozenset(key for key, yes in found["tsm"].items() if yes),
        nontarget_pd={session: yes for (session,), yes in found["nontarget_pd"].items()},
        new_status=of_tracks("new_status"),
        irradiated_day=of_tracks("irradiated_day"),
        resected_day=of_tracks("resected_day"),
    )


def _named(column, value):
    """Give sessions their full name, as people write them with and without ``ses-``."""
    return f"ses-{value.removeprefix('ses-')}" if column == "session_id" and value else value


def _read_decision(name, value):
    text = str(value)
    if name in ("exclude", "tsm", "nontarget_pd"):
        return vocabulary.read_word(text) == "true"
    if name == "new_status":
        return vocabulary.read_word(text, dict.fromkeys(_NEW_STATUSES, ()))
    return float(vocabulary.read_number(text, least=0 if name == "ld_mm" else -math.inf))


def _bad_override(where, found, expected):
    return InputError(
        where, found=found, expected=expected, advice="Correct the reader's table.", reason="bad_overrides"
    )


def _require_known(course, decided, source):
    """Refuse decisions about lesions or sessions that the patient does not have."""
    tracks = {*decided.excluded, *decided.new_status, *decided.irradiated_day, *decided.resected_day}
    cells = {*decided.diameters_mm, *decided.too_small}
    sessions = {session for session, _ in cells} | set(decided.nontarget_pd)
    for strange, known, what in (
        (sorted((tracks | {track for _, track in cells}) - set(course.tracks)), course.tracks, "lesion"),
        (sorted(sessions - set(course.ids)), course.ids, "session"),
    ):
        if strange:
            raise _bad_override(source, f"{what} {', '.join(strange)}", f"one of {', '.join(known) or 'none'}")
    for session, track in sorted(cells):
        born = course.ids[course.born[course.tracks.index(track)]]
        if course.ids.index(session) < course.ids.index(born):
            raise _bad_override(source, f"a size of {track} at {session}", f"a session from {born} on, its first")


# --- A patient -----------------------------------------------------------------------------------------------------


@dataclass
class _Course:
    """All that happened to a patient, sessions (T) by lesions (K), in order."""

    ids: list[str]
    days: np.ndarray
    evaluable: np.ndarray
    tracks: list[str]
    rows: list[dict[str, dict]]  # per session: track -> row of the matching
    born: np.ndarray  # (K,) first evaluable session
    state: np.ndarray  # (T, K) unborn, present, absent, merged, ne: for the response
    ld: np.ndarray  # (T, K) mm
    source: np.ndarray  # (T, K)
    volume: np.ndarray  # (T, K) mL
    owner: np.ndarray  # (T, K) position of the lesion that carries the size
    definite: np.ndarray  # (T, K) is_definite
    gaps: list[tuple[int, int, int]]  # session missed, lesion, session of its return
    crossed: set[tuple[int, int]] = field(default_factory=set)  # merged across roles

    def known(self, upto: int) -> _Course:
        """Look at the course with what is known at session `upto`: missed lesions are not evaluable where missed."""
        gaps = [(t, k) for t, k, back in self.gaps if back <= upto]
        if not gaps:
            return self
        state, ld, source, volume = self.state.copy(), self.ld.copy(), self.source.copy(), self.volume.copy()
        for t, k in gaps:
            state[t, k], ld[t, k], source[t, k], volume[t, k] = "ne", np.nan, "probable_miss", np.nan
        return replace(self, state=state, ld=ld, source=source, volume=volume)


def _value(row, name, default=None):
    value = row.get(name)
    if value is None or (isinstance(value, str) and value in ("", tables.MISSING)):
        return default
    return default if not isinstance(value, str) and pd.isna(value) else value


def _number(row, name):
    return float(_value(row, name, math.nan))


def _flags(row):
    return [f for f in str(_value(row, "flags", "")).split(";") if f]


def _joined(flags):
    return ";".join(dict.fromkeys(flags)) or None


def _make_course(lesions, sessions, overrides, *, rano):
    ids = [s["session_id"] for s in sessions]
    evaluable = np.array([bool(_value(s, "evaluable", False)) for s in sessions], bool)
    position = {name: t for t, name in enumerate(ids)}
    lacking = [name for name in NEEDED if name not in lesions] if len(lesions) else []
    if lacking:
        raise InputError(
            "table of matched lesions",
            found=f"lacking: {', '.join(lacking)}",
            expected=", ".join(NEEDED),
            advice="Run the matching again.",
            reason="bad_table",
        )
    rows: list[dict[str, dict]] = [{} for _ in ids]
    for row in lesions.to_dict("records"):
        if row["session_id"] not in position:
            raise InputError(
                f"lesions of {row['session_id']}",
                found="a session that the patient does not have",
                expected=", ".join(ids),
                advice="Assess all sessions of the patient, evaluable or not.",
                reason="unknown_session",
            )
        t = position[row["session_id"]]
        if evaluable[t]:
            rows[t][row["track_id"]] = row
    tracks = sorted({track for session in rows for track in session}, key=lambda name: (len(name), name))
    n_sessions, n_tracks = len(ids), len(tracks)
    shape = (n_sessions, n_tracks)
    born = np.array([next(t for t in range(n_sessions) if track in rows[t]) for track in tracks], int)
    course = _Course(
        ids=ids,
        days=np.array([_number(s, "days") for s in sessions], float),
        evaluable=evaluable,
        tracks=tracks,
        rows=rows,
        born=born,
        state=np.full(shape, "unborn", object),
        ld=np.zeros(shape),
        source=np.full(shape, None, object),
        volume=np.zeros(shape),
        owner=np.tile(np.arange(n_tracks), (n_sessions, 1)),
        definite=np.zeros(shape, bool),
        gaps=[],
    )
    spacing = _slice_spacings(sessions, rows)
    for k, track in enumerate(tracks):
        last_absent = []
        for t in range(born[k], n_sessions):
            if evaluable[t] and track not in rows[t]:
                raise InputError(
                    f"lesion {track} at {ids[t]}",
                    found="no row",
                    expected="one for every lesion at every evaluable session from its first on, absent ones too",
                    advice="Run the matching of this session again.",
                    reason="bad_table",
                )
            row = rows[t].get(track, {"status": "not_evaluable"})
            resected = course.days[t] > overrides.resected_day.get(track, math.inf)
            _place(course, t, k, row, overrides, resected=resected, tsm_mode=rano["tsm_mode"])
            if course.state[t, k] == "present" and t:
                before = next((spacing[u] for u in range(t - 1, -1, -1) if evaluable[u]), math.nan)
                course.definite[t, k] = _value(row, "confidence") != "candidate" and is_definite(
                    ld_mm=course.ld[t, k],
                    n_slices=_number(row, "n_slices"),
                    bbox_voxels=_bbox(row),
                    slice_spacing_mm=spacing[t],
                    prior_slice_spacing_mm=before,
                    new_definite_mm=rano["new_definite_mm"],
                )
            if row["status"] == "absent":
                last_absent.append(t)
            elif row["status"] in ("present", "merged"):
                if bool(_value(row, "probable_miss", False)):
                    course.gaps += [(u, k, t) for u in last_absent]
                last_absent = []
    return course


def _place(course, t, k, row, overrides, *, resected, tsm_mode):
    """Fill one cell of the course from a row of the matching."""
    track, session, status = course.tracks[k], course.ids[t], row["status"]
    if resected:
        status = "not_evaluable"
    enhancing = bool(_value(row, "enhancing", True))
    value, source = diameter_in_sum(
        status=status,
        enhancing=enhancing,
        ld_mm=_number(row, "ld_mm"),
        n_fragments=_number(row, "n_fragments"),
        ld_fragments_mm=_number(row, "ld_fragments_mm"),
        tsm_mode=tsm_mode,
    )
    volume = {"merged": 0.0, "absent": 0.0, "ne": math.nan}.get(source, _number(row, "vol_wl_mm3") / 1000)
    if (session, track) in overrides.too_small:
        value, source = TOO_SMALL_MM, "tsm5"
    if (session, track) in overrides.diameters_mm:
        value, source = overrides.diameters_mm[session, track], "override"
    state = {"merged": "merged", "absent": "absent", "ne": "ne"}.get(source, "present")
    if source == "override" and value == 0:
        state, volume = "absent", 0.0
    course.state[t, k], course.ld[t, k], course.source[t, k], course.volume[t, k] = state, value, source, volume
    if state == "merged":
        carrier = _value(row, "merged_into")
        if carrier not in course.tracks:
            raise InputError(
                f"lesion {track} at {session}",
                found=f"merged into {carrier}",
                expected="a lesion of this patient",
                advice="Run the matching of this session again.",
                reason="bad_match",
            )
        course.owner[t, k] = course.tracks.index(carrier)


def _bbox(row):
    box = [_number(row, f"bbox_{axis}_vox") for axis in "xyz"]
    return None if any(math.isnan(side) for side in box) else box


def _slice_spacings(sessions, rows):
    """Slice spacing of each session, mm: its own column, else what its lesions say, else NaN."""
    spacings = []
    for session, of in zip(sessions, rows, strict=True):
        given = [_number(row, "slice_spacing_mm") for row in of.values()]
        given = [_number(session, "slice_spacing_mm"), *given]
        spacings.append(next((g for g in given if not math.isnan(g)), math.nan))
    return spacings


def _carry_by_targets(course, targets, baseline):
    """Let a target carry the size of what it merged with, whoever did before (ours); chains of merges end here too."""
    of = [course.tracks.index(track) for track in targets]
    for t in range(len(course.ids)):
        groups = join_groups(course.owner[t])
        for g in set(map(int, groups)):
            members = np.flatnonzero(groups == g)
            if len(members) < 2:
                continue
            heads = [k for k in members if course.state[t, k] != "merged"] or [int(members[0])]
            head = heads[0]
            mine = [k for k in of if k in members] if t >= baseline else []
            if mine and len(mine) < len(members):
                course.crossed |= {(t, int(k)) for k in members}
            if mine and head not in mine:
                new = mine[0]
                for cells in (course.state, course.ld, course.volume):
                    cells[t, new] = cells[t, head]
                course.state[t, head], course.ld[t, head], course.volume[t, head] = "merged", 0.0, 0.0
                course.source[t, new] = course.source[t, head] = "merged"
                head = new
            course.owner[t, members] = head


def _sphere_diameter_mm(volume_ml):
    return (6000 * volume_ml / math.pi) ** (1 / 3)


def _judge(course, t, *, baseline, targets, nontargets, new, rano, volume, overrides):
    """Judge one session after baseline with what the course knows. All by position."""
    judged = {}
    for name, sizes, rules in (
        (
            "ld",
            course.ld,
            {"pr": rano["pr"], "pd": rano["pd"], "pd_abs": rano["pd_abs_mm"], "abs_rule": rano["abs_rule"]},
        ),
        ("volume", course.volume, {"pr": volume["pr"], "pd": volume["pd"], "pd_abs": volume["pd_abs_ml"]}),
    ):
        scale = float
        if name == "volume" and volume["abs_rule"] == "diameter":
            rules["pd_abs"], scale = volume["pd_abs_esd_mm"], _sphere_diameter_mm
        sums = sizes[:, targets].sum(axis=1)
        earlier = [u for u in range(baseline, t) if course.evaluable[u] and not math.isnan(sums[u])]
        nadir, increase = math.nan, math.nan
        if targets and earlier:
            nadir = float(min(sums[earlier]))
            at = [u for u in earlier if at_most(sums[u], nadir)][-1]
            groups = join_groups(course.owner[t], course.owner[at])
            increase = largest_increase(sizes[t], sizes[at], groups, of=targets, scale=scale)
        response = target_response(
            sizes[t, targets],
            baseline_sum=float(sums[baseline]),
            nadir_sum=nadir,
            increase=increase,
            gone=course.state[t, targets] == "absent",
            **rules,
        )
        judged[name] = {
            "sum": float(sums[t]) if targets else math.nan,
            "baseline": float(sums[baseline]) if targets else math.nan,
            "nadir": nadir,
            "increase": increase,
            "response": response,
        }
    sessions = [u for u in range(baseline, t + 1) if course.evaluable[u]]
    cells = np.ix_(sessions, nontargets)
    inside = np.isin(course.owner[cells], nontargets)
    nontarget = nontarget_response(
        np.where(inside, course.ld[cells], np.nan),
        np.where(inside, course.volume[cells], np.nan),
        course.state[cells],
        groups=join_groups(course.owner[t])[nontargets] if nontargets else (),
    )
    judged["nt_source"] = None if nontarget == NA else "auto"
    said = overrides.nontarget_pd.get(course.ids[t])
    if said or (said is False and nontarget != NA):  # disease without lesions of its own can progress, too
        nontarget = "PD" if said else ("NON_CR_NON_PD" if nontarget == "PD" else nontarget)
        judged["nt_source"] = "reader"
    statuses = {k: status[t] for k, status in new.items() if course.state[t, k] == "present"}
    judged["sure"] = {course.tracks[k]: course.ld[t, k] for k, s in statuses.items() if s in ("definite", "confirmed")}
    judged["new"] = "definite" if judged["sure"] else "equivocal" if "equivocal" in statuses.values() else "none"
    if nontarget == "CR" and judged["new"] == "definite":
        nontarget = "NON_CR_NON_PD"  # CR wants no new lesion
    judged["nontarget"] = nontarget
    return judged


def _candidates(course, overrides, *, upto):
    """Lesions seen by session `upto` as candidates and never as more, by position: they play no part yet (ours).

    Confirmed at a later session, a lesion is what it would have been, dated from its first appearance as RANO-BM dates
    uncertain new lesions. A reader confirms it by deciding its status.
    """
    found = set()
    for k, track in enumerate(course.tracks):
        given = [of[track] for of in course.rows[: upto + 1] if track in of and of[track]["status"] == "present"]
        if {_value(row, "confidence") for row in given} == {"candidate"} and track not in overrides.new_status:
            found.add(k)
    return found


def _roles(course, baseline, targets, overrides, *, upto):
    """Role of each lesion as known at session `upto`, by position; `course` must be what was known then."""
    roles = []
    candidates = _candidates(course, overrides, upto=upto)
    for k, track in enumerate(course.tracks):
        at_baseline = course.state[baseline, k]
        back = any(course.state[t, k] == "present" for t in range(baseline + 1, upto + 1))
        if track in overrides.excluded:
            roles.append("excluded")
        elif track in targets:
            roles.append("target")
        elif k in candidates:
            roles.append("candidate")
        elif at_baseline == "unborn":
            roles.append("new")
        elif overrides.resected_day.get(track, math.inf) <= course.days[baseline]:
            roles.append("prebaseline")
        elif at_baseline == "absent" and course.rows[baseline][track]["status"] == "absent":
            roles.append("recurrent" if back else "prebaseline")
        else:
            roles.append("nontarget")
    return roles


def _new_statuses(course, roles, overrides, *, baseline, upto, recurrence_is_new):
    """Status of new lesions at each session as known at `upto`: {position: [status per session]}."""
    counted = ("new", "recurrent") if recurrence_is_new else ("new",)
    found = {}
    for k, role in enumerate(roles):
        if role not in counted:
            continue
        sessions = [t for t in range(baseline + 1, upto + 1) if course.evaluable[t]]
        seen = [{"present": True, "absent": False}.get(course.state[t, k]) for t in sessions]
        status = [None] * len(course.ids)
        for t, s in zip(sessions, follow_new_lesion(seen, [course.definite[t, k] for t in sessions]), strict=True):
            decided = overrides.new_status.get(course.tracks[k])
            status[t] = decided if decided and s else s
        found[k] = status
    return found


def _respond(course, upto, *, baseline, targets, overrides, clinic, rano, volume):
    """Responses of the sessions from baseline + 1 to `upto`, as known at `upto`: list of dict."""
    course = course.known(upto)
    roles = _roles(course, baseline, targets, overrides, upto=upto)
    new = _new_statuses(
        course, roles, overrides, baseline=baseline, upto=upto, recurrence_is_new=rano["recurrence_is_new"]
    )
    at = {role: [k for k, r in enumerate(roles) if r == role] for role in ("target", "nontarget")}
    at["target"].sort(key=lambda k: targets.index(course.tracks[k]))
    points = []
    for t in range(baseline + 1, upto + 1):
        none = {role: "NE" if at[role] else NA for role in at}
        now = none | {"new": "none", "sure": {}, "nt_source": None}
        if course.evaluable[t]:
            now |= _judge(
                course, t, baseline=baseline, targets=at["target"], nontargets=at["nontarget"], new=new,
                rano=rano, volume=volume, overrides=overrides,
            )  # fmt: skip
            now["target"] = now["ld"]["response"]
        now |= {"day": course.days[t], "evaluable": bool(course.evaluable[t])}
        now |= {"immunotherapy": clinic[t]["immunotherapy"], "worse": clinic[t]["clinical"] == "worse"}
        grown = _grown(course, t, baseline=baseline, rano=rano)
        now["effect"] = (
            bool(grown) and not now["sure"] and all(_may_be_effect(course, t, k, overrides, rano) for k in grown)
        )
        now["doubt_days"] = _doubt_days(now, clinic[t], rano)
        points.append(now)
    imaging = follow_unconfirmed(points, confirm_days=rano["confirm_days"])
    by_volume = [p | {"target": p["volume"]["response"]} if "volume" in p else p for p in points]
    volumetric = follow_unconfirmed(by_volume, confirm_days=rano["confirm_days"])
    after = [clinic[t] for t in range(baseline + 1, upto + 1)]
    overall, held = follow_overall(imaging, [c["steroids"] for c in after], [c["clinical"] for c in after])
    for point, *read in zip(points, imaging, volumetric, overall, held, strict=True):
        image, volumes, response, waits = read
        point |= {"imaging": image, "volumetric": volumes, "overall": response, "held": waits, "roles": roles}
        reasons = ["target"] * (point["target"] == "PD") + ["nontarget"] * (point["nontarget"] == "PD")
        reasons += ["new"] * (image in ("PD", "uPD") and bool(point["sure"]))
        reasons += ["clinical"] * (response == "PD" and (point["worse"] or image != "PD"))
        point["reasons"] = reasons if response in ("PD", "uPD") else []
    return points


def _grown(course, t, *, baseline, rano):
    """Lesions that have grown by the absolute amount of PD since they were smallest, by position."""
    grown = []
    for k in range(len(course.tracks)):
        earlier = [u for u in range(baseline, t) if course.state[u, k] in ("present", "absent")]
        if earlier and at_least(course.ld[t, k] - min(course.ld[earlier, k]), rano["pd_abs_mm"]):
            grown.append(k)
    return grown


def _may_be_effect(course, t, k, overrides, rano):
    """Whether a lesion was irradiated so long before that its growth may be radionecrosis (days ours)."""
    low, high = rano["treatment_effect_days"]
    since = course.days[t] - overrides.irradiated_day.get(course.tracks[k], math.nan)
    return bool(low <= since <= high)


def _doubt_days(now, clinic, rano):
    """Days until a progression of this session can be confirmed; 0 where it is not in doubt."""
    if rano["irano"] and 0 <= clinic["since_immunotherapy"] <= IRANO_DAYS and not now["worse"]:
        return IRANO_CONFIRM_DAYS
    return rano["confirm_days"] if rano["srs_requires_confirmation"] and now["effect"] else 0


def _clinic(sessions, participant, baseline, *, rano):
    """Steroids, clinical status and immunotherapy of each session."""
    base = sessions[0 if baseline is None else baseline] if sessions else {}
    doses = [_number(s, "dexamethasone_equiv_mg_per_day") for s in sessions]
    base_dose = doses[0 if baseline is None else baseline] if sessions else math.nan
    under = "immunotherapy" in str(_value(participant, "treatment_type", "")).split(";")
    start = _number(participant, "immunotherapy_start_day")
    if math.isnan(start) and under:
        start = _number(participant, "treatment_start_day")
    found = []
    for s, dose in zip(sessions, doses):
        steroids, clinical = _value(s, "steroid_status"), _value(s, "clinical_status")
        if clinical is None:
            scores = [_number(row, name) for name in ("kps", "ecog") for row in (s, base)]
            clinical = performance_status(*scores)
        if clinical == "worse" and _value(s, "clinical_tumour_related") == "false":
            clinical = "stable"
        since = _number(s, "days") - start
        found.append(
            {
                "steroids": steroids or steroid_status(dose, base_dose, physiologic_dex_mg=rano["physiologic_dex_mg"]),
                "clinical": clinical,
                "immunotherapy": under if math.isnan(since) else since >= 0,
                "since_immunotherapy": since,
            }
        )
    return found


def assess_patient(
    lesions: pd.DataFrame,
    sessions: pd.DataFrame,
    participant: Mapping,
    *,
    rano: Mapping,
    volume: Mapping,
    overrides: pd.DataFrame | None = None,
    overrides_source: str = "overrides",
    frozen: pd.DataFrame | None = None,
    config_hash: str | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Assess the response of one patient over all sessions.

    Parameters
    ----------
    lesions : DataFrame
        Rows of the matching, one per session and lesion known by then, absent ones too: `NEEDED` and, shown as they
        are, `COPIED_IF_PRESENT`. May be empty.
    sessions : DataFrame
        One row per session of the patient, evaluable or not: ``session_id``, ``order``, ``days`` (from the first
        session; NaN if unknown), ``evaluable``, ``ne_reason`` …
    participant : mapping
        ``participant_id`` and what participants.tsv says: ``treatment_start_day`` and ``immunotherapy_start_day`` on
        the time axis of the sessions, ``treatment_type``.
    rano, volume : mapping
        Blocks of the settings.
    overrides : DataFrame, optional
        A reader's decisions: see `read_overrides`. Days are on the time axis of the sessions.
    overrides_source : str
        Name of their file, for messages.
    frozen : DataFrame, optional
        Table ``lesions`` of an earlier run: with the same baseline, its targets are kept and not chosen again.
    config_hash : str, optional

    Returns
    -------
    lesions, sessions, patients : DataFrame
        The final tables of this patient, as `mettrail.tables` lists them.

    Raises
    ------
    InputError
        Columns lacking, rows of a session that the patient does not have, a merge into an unknown lesion, a reader's
        decision about a lesion or a session that is not there.
    """
    decided = read_overrides(overrides, source=overrides_source)
    who = participant["participant_id"]
    of = sorted(sessions.to_dict("records"), key=lambda s: float(_value(s, "order", 0)))
    course = _make_course(lesions, of, decided, rano=rano)
    _require_known(course, decided, overrides_source)
    treatment_day = _number(participant, "treatment_start_day")
    baseline, baseline_flag = choose_baseline(
        course.days.tolist(),
        course.evaluable.tolist(),
        treatment_day=treatment_day,
        baseline_window_days=rano["baseline_window_days"],
    )
    measurable = _measurable(course, rano)
    if baseline is None:
        targets, lost = [], False
    else:
        targets, lost = _kept_targets(course, baseline, frozen, decided)
        if targets is None:
            targets = _targets(course, baseline, measurable, decided, rano)
        targets += _parts_of_targets(course, baseline, targets, decided)
        _carry_by_targets(course, targets, baseline)
    clinic = _clinic(of, participant, baseline, rano=rano)
    dated = not np.isnan(course.days[course.evaluable]).any()
    known_start = not math.isnan(treatment_day) and baseline_flag != "assumed"
    t0_source = "treatment" if known_start else None if baseline is None else "baseline"
    t0 = treatment_day if known_start else math.nan if baseline is None else course.days[baseline]

    how = {
        "baseline": baseline, "targets": targets, "overrides": decided, "clinic": clinic, "rano": rano, "volume":
        volume,
    }  # fmt: skip
    last = len(course.ids) - 1
    prospective: list[dict | None] = [None] * len(course.ids)
    final: list[dict | None] = [None] * len(course.ids)
    if baseline is not None and last > baseline:
        for t in range(baseline + 1, last + 1):
            prospective[t] = _respond(course, t, **how)[-1]
        final[baseline + 1 :] = _respond(course, last, **how)
    story = _Story(
        who=who, course=course, sessions=of, baseline=baseline, baseline_flag=baseline_flag, targets=targets, t0=t0,
        t0_source=t0_source, dated=dated, prospective=prospective, final=final, clinic=clinic, overrides=decided,
        measurable=measurable, rano=rano, volume=volume, target_lost=lost,
    )  # fmt: skip
    session_rows = _session_rows(story)
    lesion_rows = _lesion_rows(story)
    patient = _patient_row(story, session_rows)
    patient["config_hash"] = config_hash
    return (
        tables.make_table(lesion_rows, "lesions"),
        tables.make_table(session_rows, "sessions"),
        tables.make_table([patient], "patients"),
    )


@dataclass
class _Story:
    """What was found out about a patient, before it is put into tables."""

    who: str
    course: _Course
    sessions: list[dict]
    baseline: int | None
    baseline_flag: str | None
    targets: list[str]
    t0: float
    t0_source: str | None
    dated: bool
    prospective: list[dict | None]
    final: list[dict | None]
    clinic: list[dict]
    overrides: Overrides
    measurable: list[dict[str, bool]]
    rano: Mapping
    volume: Mapping
    target_lost: bool

    @property
    def n_targets(self) -> int:
        """Lesions in the sum at baseline; those that are one with another there count with it."""
        at = [self.course.tracks.index(track) for track in self.targets]
        return int((self.course.state[self.baseline, at] != "merged").sum())


def _measurable(course, rano):
    """Per session: {track: whether it is measurable there}, for lesions that are evaluable."""
    rules = {name: rano[name] for name in ("ld_min_mm", "perp_min_mm", "slices_min", "small_lesions")}
    found = []
    for t in range(len(course.ids)):
        of = {}
        for track, row in course.rows[t].items():
            if row["status"] == "absent":
                of[track] = False
            elif row["status"] == "present":
                of[track] = is_measurable(
                    ld_mm=_number(row, "ld_mm"),
                    perp_mm=_number(row, "perp_mm"),
                    n_slices=_number(row, "n_slices"),
                    enhancing=bool(_value(row, "enhancing", True)),
                    slice_spacing_mm=_number(row, "slice_spacing_mm"),
                    flags=_flags(row),
                    **rules,
                )
        found.append(of)
    return found


def _targets(course, baseline, measurable, overrides, rano):
    eligible = []
    unsure = {course.tracks[k] for k in _candidates(course, overrides, upto=baseline)}
    for track, ok in measurable[baseline].items():
        if not ok or track in overrides.excluded | unsure:
            continue
        row = course.rows[baseline][track]
        if _is_treated(course, baseline, course.tracks.index(track), overrides, rano):
            continue
        flags = _flags(row)
        hard = "fov_edge" in flags or ("nonconvex" in flags and bool(_value(row, "touches_border", False)))
        sizes = {name: _number(row, name) for name in ("ld_mm", "perp_mm", "vol_wl_mm3")}
        eligible.append({"track_id": track, "hard": hard} | sizes)
    table = pd.DataFrame(eligible, columns=["track_id", "ld_mm", "perp_mm", "vol_wl_mm3", "hard"])
    return choose_targets(table, max_targets=rano["max_targets"])


def _kept_targets(course, baseline, frozen, overrides):
    """Targets of an earlier run (None without one, or with another baseline), and whether one of them is lost."""
    if frozen is None or not len(frozen):
        return None, False
    at_baseline = frozen[frozen["is_baseline"].fillna(False).astype(bool)]
    if set(at_baseline["session_id"]) != {course.ids[baseline]}:
        return None, False
    given = at_baseline.loc[at_baseline["role"] == "target", "track_id"].tolist()
    there = {track for k, track in enumerate(course.tracks) if course.state[baseline, k] == "present"}
    kept = [track for track in given if track in there - overrides.excluded]
    return kept, bool(set(given) - there)


def _parts_of_targets(course, baseline, targets, overrides):
    """Lesions that are one with a target at baseline: once apart, they still are what the sum began with."""
    owners = {course.tracks.index(track) for track in targets}
    parts = [k for k, owner in enumerate(course.owner[baseline]) if owner != k and int(owner) in owners]
    return [course.tracks[k] for k in parts if course.tracks[k] not in {*targets, *overrides.excluded}]


def _is_treated(course, baseline, k, overrides, rano):
    """Whether a lesion had local therapy before baseline and has not progressed since: no target (RECIST 1.1)."""
    track = course.tracks[k]
    day = max(d.get(track, -math.inf) for d in (overrides.irradiated_day, overrides.resected_day))
    if day == -math.inf or not day <= course.days[baseline]:
        return False
    since = [t for t in range(baseline) if course.days[t] >= day and course.state[t, k] in ("present", "absent")]
    smallest = min((course.ld[t, k] for t in since), default=math.nan)
    now = course.ld[baseline, k]
    progressed = at_least(now, (1 + rano["pd"]) * smallest) and at_least(now - smallest, rano["pd_abs_mm"])
    return not progressed


def _percent(value, reference):
    if math.isnan(value) or math.isnan(reference) or reference == 0:
        return None
    return 100 * (value - reference) / reference


def _lesion_rows(story):
    rows = []
    course, baseline, last = story.course, story.baseline, len(story.course.ids) - 1
    at_end = course.known(last)
    statuses = {}
    if baseline is not None:
        roles = _roles(at_end, baseline, story.targets, story.overrides, upto=last)
        statuses = _new_statuses(
            at_end, roles, story.overrides, baseline=baseline, upto=last,
            recurrence_is_new=story.rano["recurrence_is_new"],
        )  # fmt: skip
    back = {(u, k) for _, k, u in course.gaps}
    for t in range(len(course.ids)):
        upto = t if baseline is None else max(t, baseline)
        known = course.known(upto)
        roles = None if baseline is None else _roles(known, baseline, story.targets, story.overrides, upto=upto)
        grown = [] if baseline is None else _grown(known, t, baseline=baseline, rano=story.rano)
        for k, track in enumerate(course.tracks):
            if course.born[k] > t:
                continue
            given = course.rows[t].get(track, {"status": "not_evaluable"})
            row = _lesion_cells(given)
            row |= {
                "participant_id": story.who,
                "session_id": course.ids[t],
                "track_id": track,
                "days_from_t0": course.days[t] - story.t0,
                "is_baseline": t == baseline,
                "role": roles[k] if roles else None,
                "measurable": story.measurable[t].get(track),
                "ld_rano_mm": at_end.ld[t, k],
                "ld_source": at_end.source[t, k],
                "vol_wl_ml": None if row["vol_wl_mm3"] is None else row["vol_wl_mm3"] / 1000,
                "new_lesion_status": statuses.get(k, [None] * (t + 1))[t],
                "prior_local_therapy": _treated(story, t, track),
            }
            row |= _lesion_changes(story, known, t, k, roles[k] if roles else None)
            flags = _flags(given) + ["probable_miss"] * (at_end.source[t, k] == "probable_miss" or (t, k) in back)
            flags += ["nonenhancing_remnant"] * (
                given["status"] == "present" and not bool(_value(given, "enhancing", True))
            )
            flags += ["merged_across_roles"] * ((t, k) in course.crossed)
            if k in grown:
                flags += ["treatment_effect_possible"] * _may_be_effect(course, t, k, story.overrides, story.rano)
            row["flags"] = _joined(flags)
            rows.append(row)
    return rows


def _lesion_cells(given):
    """Cells of a lesion row that come straight from the matching."""
    status = given["status"]
    row = dict.fromkeys(tables.columns("lesions"))
    row["status"], row["event"] = status, _value(given, "event", "not_evaluable")
    if status == "present":
        row |= {name: _value(given, name) for name in COPIED_IF_PRESENT}
    elif status == "absent":
        row |= dict.fromkeys(ZERO_IF_ABSENT, 0) | {"n_fragments": 0, "match_method": "none"}
    elif status == "merged":
        row |= {name: _value(given, name) for name in ("merged_into", "match_method", "match_score")}
    else:
        row["event"] = "not_evaluable"
    return row


def _treated(story, t, track):
    days = [d[track] for d in (story.overrides.irradiated_day, story.overrides.resected_day) if track in d]
    return None if not days else bool(min(days) <= story.course.days[t])


def _lesion_changes(story, known, t, k, role):
    """Change of one lesion from baseline and from its smallest, and its response alone."""
    cells = {}
    baseline, rano = story.baseline, story.rano
    if role is None or t < baseline or role in ("excluded", "prebaseline", "candidate"):
        return cells
    born_later = role in ("new", "recurrent")
    present = [u for u in range(baseline, t + 1) if known.state[u, k] == "present"]
    start = (present[0] if present else t) if born_later else baseline
    alone = np.array([(known.owner[u] == known.owner[u, k]).sum() == 1 for u in range(len(known.ids))])
    usable = alone & np.isin(known.state[:, k], ("present", "absent"))
    earlier = [u for u in range(start, t) if usable[u]]
    for name, sizes in (("ld", known.ld), ("vol", known.volume)):
        now = sizes[t, k] if usable[t] else math.nan
        smallest = float(min(sizes[earlier, k])) if earlier else math.nan
        if not born_later:
            first = sizes[baseline, k] if usable[baseline] else math.nan
            cells[f"{name}_change_baseline_pct"] = _percent(now, first)
            cells[f"{name}_change_nadir_pct"] = _percent(now, smallest)
        if name == "ld" and t > start:
            first = sizes[start, k] if usable[start] else math.nan
            cells["lesion_response"] = target_response(
                [now],
                baseline_sum=first,
                nadir_sum=smallest,
                increase=now - smallest,
                gone=[known.state[t, k] == "absent"],
                pr=rano["pr"],
                pd=rano["pd"],
                pd_abs=rano["pd_abs_mm"],
            )
    return cells


def _session_rows(story):
    course, baseline = story.course, story.baseline
    rows = []
    final_overall = [p["overall"] if p else None for p in story.final]
    confirmed = confirm_responses(course.days.tolist(), final_overall, confirm_days=story.rano["confirm_days"])
    raw = [p["target"] if p and p["target"] != NA else None for p in story.prospective]
    continued = continue_response(course.days.tolist(), raw, confirm_days=story.rano["confirm_days"])
    for t, session in enumerate(story.sessions):
        evaluable, now, end = bool(course.evaluable[t]), story.prospective[t], story.final[t]
        clinic = story.clinic[t]
        row = dict.fromkeys(tables.columns("sessions"))
        role = None
        if baseline is not None:
            role = "baseline" if t == baseline else "prebaseline" if t < baseline else "followup"
        row |= {
            "session_id": course.ids[t],
            "participant_id": story.who,
            "days_from_t0": course.days[t] - story.t0,
            "session_role": role,
            "evaluable": evaluable,
            "ne_reason": None if evaluable else _value(session, "ne_reason", "unknown"),
            "registration_qc": _value(session, "registration_qc"),
            **{name: _value(session, name) for name in tables.BRAIN},
            "baseline_flag": story.baseline_flag,
            "n_targets": None if baseline is None else story.n_targets,
            "steroid_status": clinic["steroids"],
            "clinical_status": clinic["clinical"],
            "clinical_assumed": "unknown" in (clinic["steroids"], clinic["clinical"]),
        }
        if evaluable:
            row |= _session_counts(story, t, session)
        flags = _flags(session) + ["no_dates"] * (not story.dated)
        if t == baseline:
            of = [course.tracks.index(track) for track in story.targets]
            if of:
                total = float(course.ld[t, of].sum())
                row |= {
                    "sum_ld_mm": total,
                    "sum_ld_baseline_mm": total,
                    "sum_ld_change_baseline_pct": _percent(total, total),
                }
                row["sum_vol_target_ml"] = float(course.volume[t, of].sum())
            flags += ["no_targets"] * (not of) + ["no_lesions_at_baseline"] * (not row["n_lesions"])
        if now:
            if "ld" in now:
                ld = now["ld"]
                row |= {
                    "sum_ld_mm": ld["sum"],
                    "sum_ld_baseline_mm": ld["baseline"],
                    "nadir_sum_ld_mm": ld["nadir"],
                    "sum_ld_change_baseline_pct": _percent(ld["sum"], ld["baseline"]),
                    "sum_ld_change_nadir_pct": _percent(ld["sum"], ld["nadir"]),
                    "max_lesion_increase_mm": ld["increase"],
                    "sum_vol_target_ml": now["volume"]["sum"],
                    "new_lesion": now["new"],
                    "nt_source": now["nt_source"],
                }
                flags += ["sum_incomplete"] * (bool(story.targets) and math.isnan(ld["sum"]))
                flags += ["treatment_effect_possible"] * (now["effect"] and "PD" in (now["target"], now["nontarget"]))
            row |= {
                "target_response": now["target"] if now["target"] != NA else None,
                "target_response_continued": continued[t],
                "nontarget_response": now["nontarget"] if now["nontarget"] != NA else None,
                "response_imaging_prospective": now["imaging"],
                "response_imaging_final": end["imaging"],
                "response_overall_prospective": now["overall"],
                "response_overall_final": end["overall"],
                "response_volumetric_prospective": now["volumetric"],
                "confirmed": confirmed[t],
                "pd_reason": _joined(end["reasons"]),
            }
            flags += ["steroid_hold"] * end["held"]
        elif baseline is None:
            for name in row:
                if name.startswith("response_") or name == "target_response":
                    row[name] = "NE"
        row["flags"] = _joined(flags)
        rows.append(row)
    return rows


def _session_counts(story, t, session):
    """Numbers and volumes over all lesions of an evaluable session."""
    course, baseline = story.course, story.baseline
    counted = [k for k, track in enumerate(course.tracks) if track not in story.overrides.excluded]
    candidates = [_candidates(course, story.overrides, upto=max(u, baseline or 0)) for u in range(t + 1)]

    def rows_of(some):
        return [course.rows[t].get(course.tracks[k], {"status": None}) for k in some if course.born[k] <= t]

    given = rows_of(k for k in counted if k not in candidates[t])
    present = [row for row in given if row["status"] == "present"]
    unsure = rows_of(k for k in counted if k in candidates[t])
    counts = {
        "n_lesions": len(present),
        "n_candidates": sum(row["status"] == "present" for row in unsure),
        "n_absent": sum(row["status"] == "absent" for row in given),
        "n_subthreshold": _value(session, "n_subthreshold"),
        "edema_unassigned_mm3": _value(session, "edema_unassigned_mm3"),
    }
    for tissue in ("wl", "et", "nc", "ed"):
        total = sum(_number(row, f"vol_{tissue}_mm3") for row in present)
        if tissue == "ed":
            unassigned = _number(session, "edema_unassigned_mm3")
            total += 0 if math.isnan(unassigned) else unassigned
        counts[f"total_vol_{tissue}_ml"] = total / 1000
    if baseline is not None and t >= baseline:
        counts["n_new"] = 0
        if t > baseline:
            roles = story.prospective[t]["roles"]
            counts["n_new"] = sum(
                roles[k] in ("new", "recurrent")
                and course.state[t, k] == "present"
                and not any(course.state[u, k] == "present" and k not in candidates[u] for u in range(baseline + 1, t))
                for k in counted
            )
    return counts


def _patient_row(story, session_rows):
    course, baseline, rano = story.course, story.baseline, story.rano
    n_evaluable = int(course.evaluable.sum())
    candidates = _candidates(course, story.overrides, upto=len(course.ids) - 1)
    row = dict.fromkeys(tables.columns("patients"))
    row |= {
        "participant_id": story.who,
        "n_sessions": len(course.ids),
        "n_evaluable": n_evaluable,
        "t0_source": story.t0_source,
        "baseline_session": None if baseline is None else course.ids[baseline],
        "baseline_flag": story.baseline_flag,
        "n_tracks_total": len(
            [
                track
                for k, track in enumerate(course.tracks)
                if track not in story.overrides.excluded and k not in candidates
            ]
        ),
        "best_response": "NE",
        "best_response_volumetric": "NE",
        "progressed": False,
        "ttp_event": False,
    }
    flags = ["no_dates"] * (not story.dated) + ["target_lost"] * story.target_lost
    flags += ["no_lesions"] * (not course.tracks and n_evaluable > 0)
    assumed = ["clinical_assumed"] * any(r["clinical_assumed"] for r in session_rows)
    if baseline is None:
        row |= {"progressed": None, "ttp_event": None, "flags": _joined([*flags, "no_evaluable_session", *assumed])}
        return row
    first = session_rows[baseline]
    flags += ["no_lesions_at_baseline"] * (not first["n_lesions"]) + ["no_targets"] * (not story.targets)
    last = len(course.ids) - 1
    at_end = course.known(last)
    roles = _roles(at_end, baseline, story.targets, story.overrides, upto=last)
    new = _new_statuses(
        at_end, roles, story.overrides, baseline=baseline, upto=last, recurrence_is_new=rano["recurrence_is_new"]
    )
    n_new = sum(any(s in ("definite", "confirmed", "equivocal") for s in status) for status in new.values())
    row |= {
        "n_lesions_baseline": first["n_lesions"],
        "n_targets": story.n_targets,
        "n_nontargets": roles.count("nontarget"),
        "n_new_total": n_new,
        "baseline_sum_ld_mm": first["sum_ld_mm"],
        "baseline_vol_ml": first["sum_vol_target_ml"],
        "lesion_count_group": lesion_count_group(first["n_lesions"]),
    }
    after = range(baseline + 1, last + 1)
    days = [float(course.days[t] - story.t0) for t in after]
    responses = [story.final[t]["overall"] for t in after]
    row |= _best_changes(story, at_end, roles, responses)
    rules = {name: rano[name] for name in ("confirm_days", "sd_min_days", "confirm")}
    best, best_day, confirmed = best_response(days, responses, **rules)
    row |= {"best_response": best, "best_response_day": best_day, "best_response_confirmed": confirmed}
    row["best_response_volumetric"] = best_response(days, [story.final[t]["volumetric"] for t in after], **rules)[0]
    last_day = float(course.days[np.flatnonzero(course.evaluable)[-1]] - story.t0)
    row["last_evaluable_day"] = last_day
    end_day = last_day
    if "PD" in responses:
        at = responses.index("PD")
        end_day = days[at]
        gap = responses[:at][::-1]
        row |= {
            "progressed": True,
            "ttp_event": True,
            "progression_day": end_day,
            "progression_reason": _joined(story.final[baseline + 1 + at]["reasons"]),
        }
        flags += ["gap_before_pd"] * (len(gap) >= 2 and gap[0] == gap[1] == "NE")
    row["time_to_progression_days"] = max(end_day, 0.0) if not math.isnan(end_day) else None
    if best in ("CR", "PR"):
        row["duration_of_response_days"] = end_day - best_day
    flags += ["no_followup"] * (not course.evaluable[baseline + 1 :].any())
    row["flags"] = _joined([*flags, *assumed])
    return row


def _best_changes(story, course, roles, responses):
    """Smallest sum and lowest changes up to the first PD, with all that is known."""
    targets = [k for k, role in enumerate(roles) if role == "target"]
    if not targets:
        return {}
    baseline = story.baseline
    until = baseline + 1 + (responses.index("PD") if "PD" in responses else len(responses) - 1)
    sessions = [t for t in range(baseline + 1, until + 1) if course.evaluable[t]]
    found = {}
    for name, sizes in (("ld", course.ld), ("vol", course.volume)):
        sums = sizes[:, targets].sum(axis=1)
        later = [float(sums[t]) for t in sessions if not math.isnan(sums[t])]
        found[f"best_change_{name}_pct"] = _percent(min(later), float(sums[baseline])) if later else None
        if name == "ld":
            found["nadir_sum_ld_mm"] = min([float(sums[baseline]), *later])
    return found
