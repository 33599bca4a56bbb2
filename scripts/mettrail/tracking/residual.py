"""What the lesions say of the registration: the shift it has left at a visit, estimated from them.

The overlap of brain masks does not see a shift of a few millimetres; small lesions side by side do, and change places
with their neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FEWEST_LESIONS, FEWEST_FOR_ROTATION = 3, 6
# A turn beyond this is no residue of a rigid registration.
LARGEST_TURN_DEG = 5.0


@dataclass(frozen=True)
class Residual:
    """A shift, and perhaps a turn, that most lesions share.

    Parameters
    ----------
    matrix : (4, 4) float
        Points as they should be to points as registration puts them, RAS mm.
    shift_mm : float
        Median distance of the lesions between the two.
    """

    matrix: np.ndarray
    shift_mm: float


def estimate_residual(
    then_mm: np.ndarray,
    then_mm3: np.ndarray,
    now_mm: np.ndarray,
    now_mm3: np.ndarray,
    *,
    max_mm: float,
    vol_ratio_max: float,
    spread_mm: float,
) -> Residual | None:
    """Find the shift that most lesions of a visit share against their places at visits before.

    Every pair of like size and near enough proposes its shift; the one that most lesions support wins, of equal ones
    the shortest. The median over those that support it is the shift; from six lesions on a rotation is fitted, too
    (Kabsch 1976).

    Parameters
    ----------
    then_mm, now_mm : (n, 3), (m, 3) float
        Centres, RAS mm, in one space.
    then_mm3, now_mm3 : (n,), (m,) float
        Volumes.
    max_mm : float
        Largest shift; registration that is farther off is found by its own check.
    vol_ratio_max : float
        Largest ratio of volumes: lesions that keep about their size keep their centre, too.
    spread_mm : float
        Lesions that moved alike moved alike to within this.

    Returns
    -------
    Residual or None
        None where fewer than three lesions support any shift.
    """
    if min(len(then_mm), len(now_mm)) < FEWEST_LESIONS:
        return None
    shifts = now_mm[None] - then_mm[:, None]
    ratio = np.maximum(then_mm3[:, None], now_mm3) / np.minimum(then_mm3[:, None], now_mm3)
    possible = (np.linalg.norm(shifts, axis=-1) <= max_mm) & (ratio <= vol_ratio_max)
    proposed = np.vstack([np.zeros(3), shifts[possible]])
    support = np.array([len(_supporters(shifts, possible, each, spread_mm)[0]) for each in proposed])
    length = np.linalg.norm(proposed, axis=1)
    best = proposed[np.lexsort((np.round(length, 6), -support))[0]]
    matrix = np.eye(4)
    matrix[:3, 3] = best
    # The pairs follow from the shift, and the shift from the pairs.
    for _ in range(3):
        left = now_mm[None] - (then_mm @ matrix[:3, :3].T + matrix[:3, 3])[:, None]
        first, second = _supporters(left, possible, np.zeros(3), spread_mm)
        if len(first) < FEWEST_LESIONS:
            return None
        matrix = _fit(then_mm[first], now_mm[second])
    moved = then_mm[first] @ matrix[:3, :3].T + matrix[:3, 3]
    return Residual(matrix, float(np.median(np.linalg.norm(moved - then_mm[first], axis=1))))


def _supporters(
    shifts: np.ndarray, possible: np.ndarray, proposed: np.ndarray, spread_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs whose shift is the one proposed, about; one to one."""
    off = np.where(possible, np.linalg.norm(shifts - proposed, axis=-1), np.inf)
    nearest = off.argmin(axis=1)
    first = np.flatnonzero((off.min(axis=1) <= spread_mm) & (off[:, nearest].argmin(axis=0) == np.arange(len(off))))
    return first, nearest[first]


def _fit(then: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Rigid motion that takes one set of points to the other; a shift alone where few, or where it turns too far."""
    matrix = np.eye(4)
    matrix[:3, 3] = np.median(now - then, axis=0)
    if len(then) < FEWEST_FOR_ROTATION:
        return matrix
    middle_then, middle_now = then.mean(0), now.mean(0)
    u, _, vt = np.linalg.svd((then - middle_then).T @ (now - middle_now))
    turn = vt.T @ np.diag([1, 1, np.sign(np.linalg.det(vt.T @ u.T))]) @ u.T
    if np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))) > LARGEST_TURN_DEG:
        return matrix
    matrix[:3, :3] = turn
    matrix[:3, 3] = middle_now - turn @ middle_then
    return matrix
