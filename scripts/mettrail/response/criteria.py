"""The criteria of RANO-BM, as pure functions of plain values: no tables, no files.

They are those of Lin et al., Lancet Oncol 2015; where they leave a case open, RECIST 1.1 (Eisenhauer et al., Eur J
Cancer 2009) and its published answers to questions decide, and the docstring says so. "Ours" marks what no publication
settles.

Comparisons use unrounded values with a tolerance of 1e-6 (mm, and relative). ``NaN`` is not evaluable, ``0`` is gone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from mettrail.geometry import sphere_diameter_mm

NA = "n/a"  # nothing to judge: no targets, no other lesions
TOLERANCE = 1e-6
TOO_SMALL_MM = 5.0  # RECIST 1.1: value of a lesion too small to measure
THICK_SLICE_MM = 5.0  # RANO-BM: measurable lesions on slices of at most 5 mm
# Stand-in for a reader's "unequivocal progression" of lesions that are not targets (ours).
NONTARGET_MIN_MM, NONTARGET_PD_MM, NONTARGET_PD = 10.0, 5.0, 0.20
NONTARGET_VOLUME_PD, NONTARGET_VOLUME_PD_ML = 0.728, 1.0
EDEMA_GROWTH, EDEMA_GROWTH_ML = 2.0, 10.0  # times its smallest, and mL more: what is pointed out (ours)
NOT_MEASURABLE = ("not_axial_acq", "cystic_only", "dural")  # flags of a lesion
DAYS_PER_YEAR = 365.25
SESSIONS_TO_CONFIRM_NEW = 2  # further sessions with an uncertain new lesion that make it real (ours)
NEW_GROWTH_MM = 5.0  # iRECIST: growth of new lesions that confirms progression
STEROID_INCREASE = 1.1  # times the baseline dose (ours)
SMALL_LESION_MM, SMALL_LESION_SLICE_MM = 5.0, 1.5  # RANO-BM's option for thin slices
# iRANO (Okada et al., Lancet Oncol 2015): progression within six months of immunotherapy waits for three months.
IRANO_DAYS, IRANO_CONFIRM_DAYS = 183, 84


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
    also be at least twice their spacing (ours); thick slices that are not axial do not count (ours). Purely cystic and
    dural lesions are not measurable (RANO-BM).
    """
    if not enhancing or set(flags) & set(NOT_MEASURABLE):
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
        for lesion in np.flatnonzero(np.asarray(owner) != np.arange(len(owner))):
            group[group == group[lesion]] = group[owner[lesion]]
    return group


def least_growth(volume: Mapping) -> tuple[float, Callable[[float], float]]:
    """Return by how much a lesion's volume must grow for PD, and in what that is counted.

    Parameters
    ----------
    volume : mapping
        Block ``volume`` of the settings.

    Returns
    -------
    least : float
        mL, or mm of the diameter of the sphere of its volume (``abs_rule: diameter``).
    scale : function
        From a volume, mL, to that unit.
    """
    if volume["abs_rule"] == "diameter":
        return volume["pd_abs_esd_mm"], lambda ml: sphere_diameter_mm(1000 * ml)
    return volume["pd_abs_ml"], float


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
    known = [level for level in levels if not math.isnan(level)]
    if not known:
        return None
    return max(i for i, level in enumerate(levels) if at_most(level, min(known)))


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
    now_at_nadir: Sequence[float] | None = None,
    after_cr: bool = False,
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
    now_at_nadir : sequence of float, optional
        The sizes as they compare to those at the nadir, where `now` compares to baseline only (like with like).
    after_cr : bool
        Whether a confirmed complete response came before (`has_confirmed_cr`).

    Notes
    -----
    After a confirmed complete response, a target that comes back is PD, however small. Before it is confirmed, it is PD
    only if it reaches `pd_abs`, otherwise PR (answers to questions on RECIST 1.1).
    """
    now = np.asarray(now, float)
    if not len(now):
        return NA
    if math.isnan(baseline_sum) or math.isnan(nadir_sum):
        return "NE"
    total = float(np.nansum(now))
    if after_cr and total > 0:
        return "PD"
    since_nadir = total if now_at_nadir is None else float(np.nansum(now_at_nadir))
    grown = increase if abs_rule == "lesion" else since_nadir - nadir_sum
    if since_nadir > 0 and at_least(since_nadir, (1 + pd) * nadir_sum) and at_least(grown, pd_abs):
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


def nontarget_has_grown(ld_mm: float, smallest_mm: float) -> bool:
    """Whether one lesion that is no target has grown as one that progresses: by 5 mm and 20 %, to 10 mm (ours)."""
    grown = at_least(ld_mm - smallest_mm, NONTARGET_PD_MM) and at_least(ld_mm, (1 + NONTARGET_PD) * smallest_mm)
    return grown and at_least(ld_mm, NONTARGET_MIN_MM)


def burden_has_grown(volume_ml: float, smallest_ml: float) -> bool:
    """Whether all lesions that are no targets have grown together: by 72.8 % and 1 mL (ours)."""
    by_ml = at_least(volume_ml - smallest_ml, NONTARGET_VOLUME_PD_ML)
    return by_ml and at_least(volume_ml, (1 + NONTARGET_VOLUME_PD) * smallest_ml)


def edema_has_grown(volume_ml: float, smallest_ml: float) -> bool:
    """Whether edema has at least doubled and grown by 10 mL: to be pointed out, never PD (ours)."""
    by_ml = at_least(volume_ml - smallest_ml, EDEMA_GROWTH_ML)
    return by_ml and at_least(volume_ml, EDEMA_GROWTH * smallest_ml)


def nontarget_response(
    states: Sequence[str], *, grown: bool, burden_grown: bool, target: str, after_cr: bool = False
) -> tuple[str, bool]:
    """Judge the lesions at baseline that are not targets (RANO-BM: unequivocal progression, read here from sizes).

    Unequivocal is said of the overall tumour burden: growth of one such lesion is usually not enough while the targets
    are stable or shrink (RECIST 1.1). Then all of them together must have grown, too; otherwise a reader should decide.
    Edema never decides.

    Parameters
    ----------
    states : sequence of str
        Of each, now: ``present``, ``absent``, ``merged``, ``ne``.
    grown : bool
        Whether one has grown (`nontarget_has_grown`).
    burden_grown : bool
        Whether they have grown together (`burden_has_grown`).
    target : str
        Response of the targets at this session.
    after_cr : bool
        Whether a confirmed complete response came before: then whatever comes back is PD (answers to questions on
        RECIST 1.1).

    Returns
    -------
    response : str
        ``PD``, else ``NON_CR_NON_PD`` if one persists, else ``NE`` if one is not evaluable, else ``CR``; ``n/a``
        without any.
    review : bool
        Whether a reader should decide.
    """
    if not len(states):
        return NA, False
    if burden_grown or (after_cr and "present" in states) or (grown and target not in ("SD", "PR")):
        return "PD", False
    if "present" in states or "merged" in states:
        return "NON_CR_NON_PD", grown
    return "NE" if "ne" in states else "CR", grown


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
        seen at the next evaluable session; None before birth. As known at the last session given.
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
        elif there is False and current == "equivocal" and not count:
            current = "rejected"
        if current is not None:
            episode.append(t)
            for u in episode:
                status[u] = current
        if current == "rejected":
            current, episode = None, []
    return status


# --- Response of a session -----------------------------------------------------------------------------------------


def imaging_response(
    target: str, nontarget: str, new: str, *, immunotherapy: bool = False, new_before: bool = False
) -> str:
    """Combine targets, other lesions and new lesions (RANO-BM; RECIST 1.1 for rows with NE, ours for ``equivocal``).

    Without any disease, at baseline or since, it is ``ND``, no disease: what can be evaluated is not NE.

    Parameters
    ----------
    target, nontarget : str
        ``n/a`` if there are none.
    new : str
        ``none``, ``equivocal`` or ``definite``.
    immunotherapy : bool
        New lesions alone are then no progression yet (RANO-BM; iRECIST, Seymour et al. 2017).
    new_before : bool
        Whether a new lesion that has not been rejected was there at an earlier session.
    """
    if target == "PD" or nontarget == "PD":
        return "PD"
    if new == "definite":
        return "uPD" if immunotherapy else "PD"
    if target == NA:
        if nontarget == "CR":
            return "CR" if new == "none" else "NON_CR_NON_PD"
        if nontarget == NA and new == "none" and not new_before:
            return "ND"
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
        definite), ``new_before`` (see `imaging_response`), ``sure`` (set: definite new lesions present),
        ``new_growth_mm`` (dict: earlier position to growth of the definite new lesions since), ``worse``,
        ``doubt_days`` (days until any progression here can be confirmed; 0 where growth is not in doubt).
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
        sure = p["sure"] - cleared
        # What was cleared and is still there is no progression, yet nothing is complete beside it.
        new = "definite" if sure else ("equivocal" if p["new"] == "definite" else p["new"])
        target, nontarget = p["target"], p["nontarget"]
        if t in pseudo:
            target = "SD" if target == "PD" else target
            nontarget = "NON_CR_NON_PD" if nontarget == "PD" else nontarget
        known = bool(sure & confirmed)
        image = imaging_response(
            target, nontarget, new, immunotherapy=p["immunotherapy"] and not known, new_before=p["new_before"]
        )
        return "uPD" if image == "PD" and p["doubt_days"] and not (known or progressed) else image

    for t, p in enumerate(points):
        if not p["evaluable"]:
            responses.append("NE")
            continue
        responses.append(read(t))
        first = points[waiting[0]] if waiting else p
        if waiting and at_least(p["day"] - first["day"], first["doubt_days"] or confirm_days):
            further = p["sure"] - first["sure"] - cleared
            growth = p["new_growth_mm"].get(waiting[0], 0.0)
            if further or at_least(growth, NEW_GROWTH_MM) or "PD" in (p["target"], p["nontarget"]) or p["worse"]:
                confirmed |= first["sure"] | p["sure"]
                progressed = progressed or bool(first["doubt_days"])
            else:
                cleared |= first["sure"]
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


def has_confirmed_cr(days: Sequence[float], responses: Sequence[str | None], *, confirm_days: float) -> bool:
    """Whether a complete response has been confirmed by another (RANO-BM: at least 4 weeks later)."""
    return any(
        r == "CR" and _sustained(days, responses, t, ("CR",), confirm_days) is not None for t, r in enumerate(responses)
    )


def doubt_unconfirmed_cr(responses: Sequence[str], back: Sequence[bool]) -> list[str]:
    """Read a complete response as what follows it, where a lesion came back before it was confirmed.

    The lesion was most likely there all the time: PR at both sessions (RECIST 1.1; answers to questions on it). Growth
    that is PD leaves the complete response as it is.

    Parameters
    ----------
    responses : sequence of str
    back : sequence of bool
        Whether a lesion of baseline is there at a session, and no complete response was confirmed before.
    """
    read = list(responses)
    for t in [t for t, there in enumerate(back) if there and responses[t] in ("PR", "NON_CR_NON_PD")]:
        for u in range(t - 1, -1, -1):
            if read[u] == "CR":
                read[u] = read[t]
            elif read[u] not in ("NE", "uPD"):
                break
    return read


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
    PD counts, else nothing can be said (RECIST 1.1; the number of days is ours). ND, no disease, is no response to
    treatment: it counts only where nothing else was seen (ours).

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
    if first("ND") is not None:
        return "ND", days[first("ND")], None
    return "NE", math.nan, None


def metastasis_velocity(days: Sequence[float]) -> list[float]:
    """Rate of new brain metastases at each distant failure (Farris et al. 2017, doi 10.1016/j.ijrobp.2017.01.201).

    Parameters
    ----------
    days : sequence of float
        First appearance of each confirmed new lesion, from the first treatment.

    Returns
    -------
    list of float
        New lesions so far per year since the first treatment, at each day on which some appeared, in order.

    Examples
    --------
    >>> [round(v, 1) for v in metastasis_velocity([90, 90, 90, 90, 180])]
    [16.2, 10.1]
    """
    return [sum(d <= day for d in days) / (day / DAYS_PER_YEAR) for day in sorted({d for d in days if d > 0})]


def velocity_group(per_year: float) -> str:
    """Name the risk group of a velocity (Farris et al. 2017: below 4, 4 to 13, above 13 per year)."""
    return "low" if not at_least(per_year, 4) else "intermediate" if at_most(per_year, 13) else "high"


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
