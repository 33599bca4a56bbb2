"""New lesions: whether one is definite at once, and what becomes of an uncertain one."""

from __future__ import annotations

from collections.abc import Sequence

from mettrail.cohort.overrides import NewStatus
from mettrail.response.criteria.measurability import SLICES_ACROSS
from mettrail.response.criteria.tolerance import TOLERANCE, at_least
from mettrail.response.rules import Rules

PROJECTIONS = 2  # RANO-BM: a new lesion is visible in at least two projections


def is_definite(
    *,
    ld_mm: float,
    n_slices: float,
    bbox_voxels: Sequence[float] | None,
    slice_spacing_mm: float,
    prior_slice_spacing_mm: float,
    rules: Rules,
) -> bool:
    """Whether a lesion not seen before is surely there (RANO-BM: visible in at least two projections).

    A thick slice of the scan before may have hidden a small lesion: then it must be twice that slice, as a lesion on
    thick slices must be to be measurable.
    """
    hidden = prior_slice_spacing_mm >= rules.hidden_slice_ratio * slice_spacing_mm - TOLERANCE
    if hidden and not at_least(ld_mm, SLICES_ACROSS * prior_slice_spacing_mm):
        return False
    seen_from_all_sides = bbox_voxels is not None and min(bbox_voxels) >= PROJECTIONS
    return at_least(ld_mm, rules.new_definite_mm) and seen_from_all_sides and at_least(n_slices, PROJECTIONS)


def follow_new_lesion(
    seen: Sequence[bool | None], definite: Sequence[bool], *, confirm_sessions: int
) -> list[NewStatus | None]:
    """Follow a lesion first detected after baseline (RANO-BM: one that proves real dates from its first appearance).

    Parameters
    ----------
    seen : sequence of bool or None
        Per session after baseline; None if it cannot be told.
    definite : sequence of bool
        From `is_definite`.
    confirm_sessions : int
        How many further sessions with an uncertain lesion make it real.

    Returns
    -------
    list of str or None
        ``definite``; ``equivocal``; ``confirmed`` once definite later or seen at enough further sessions; ``rejected``
        if not seen at the next evaluable session; None before it is first detected. As known at the last session given.
    """
    status: list[NewStatus | None] = [None] * len(seen)
    episode: list[int] = []
    current: NewStatus | None = None
    count = 0
    for t, (there, sure) in enumerate(zip(seen, definite, strict=True)):
        if there:
            if current is None:
                current, count, episode = "definite" if sure else "equivocal", 0, []
            else:
                count += 1
                if current == "equivocal" and (sure or count >= confirm_sessions):
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
