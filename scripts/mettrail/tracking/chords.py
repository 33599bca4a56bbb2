"""Diameters in a plane: the longest chord of a mask, and the longest one across it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial.distance import pdist

# Comparisons are made on unrounded values; this absorbs the last digits of the arithmetic (mm, mm2 or mm3).
TOLERANCE = 1e-6
# The perpendicular is looked for on lines this far apart, in pixels of the finer side.
PERP_STEP_VOX = 0.25
# Chords tested at once: enough to be fast, few enough for the caches.
FIRST_BATCH, LARGEST_BATCH = 32, 2048
# Where chords are probed first: halfway, then at odd multiples of a quarter, an eighth ...
PROBES = (1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32)
# Sides of a pixel, mm.
Sides = tuple[float, float] | np.ndarray


def edge_points(mask: np.ndarray) -> np.ndarray:
    """Return the voxel corners on the surface of a mask, (n, 3) in voxels: corner i lies between voxels i-1 and i.

    The distance between the nearest corners of two masks is the distance between the masks edge to edge, exactly,
    since both lie on one grid.
    """
    around = np.zeros(np.add(mask.shape, 1), np.uint8)
    for shift in np.ndindex(2, 2, 2):
        around[tuple(slice(s, s + n) for s, n in zip(shift, mask.shape))] += mask
    return np.argwhere((around > 0) & (around < 8))


def longest_diameters(
    mask: np.ndarray, *, spacing_mm: Sides, gap_mm: float, at_least_mm: float = 0.0
) -> tuple[float, np.ndarray, np.ndarray]:
    """Find the longest chord of a slice that stays inside it, and all others as long.

    Parameters
    ----------
    mask : (X, Y) bool
        One slice, without holes.
    spacing_mm : (2,) float
    gap_mm : float
        The chord may run outside for at most this long at a stretch.
    at_least_mm : float
        Shorter ones are not looked for.

    Returns
    -------
    length_mm : float
        0 when no chord is long enough.
    starts, ends : (n, 2) float
        In voxels; midpoints of pixel edges. Empty when no chord is long enough.
    """
    doubled = edge_midpoints(mask)
    spacing = np.asarray(spacing_mm, float)
    length = pdist(doubled * spacing / 2)
    pairs = np.flatnonzero(length >= at_least_mm - TOLERANCE)
    first, second = pair_of(pairs, len(doubled))
    possible = ~leaves_for_long(mask, doubled[first] / 2, doubled[second] / 2, spacing, gap_mm)
    first, second, length = first[possible], second[possible], length[pairs[possible]]
    # Pairs come in the order of their points, which breaks ties.
    order = np.argsort(-np.round(length, 9), kind="stable")
    best, starts, ends = 0.0, [np.zeros((0, 2))], [np.zeros((0, 2))]
    done, batch = 0, FIRST_BATCH
    while done < len(order) and length[order[done]] >= best - TOLERANCE:
        these = order[done : done + batch]
        p, q = doubled[first[these]] / 2, doubled[second[these]] / 2
        passing = longest_gap(mask, p, q, spacing) <= gap_mm + TOLERANCE
        if passing.any():
            best = best or float(length[these[passing]][0])
            passing &= length[these] >= best - TOLERANCE
            starts.append(p[passing])
            ends.append(q[passing])
        done, batch = done + batch, min(batch * 4, LARGEST_BATCH)
    return best, np.concatenate(starts), np.concatenate(ends)


def perpendicular_mm(
    mask: np.ndarray, start: np.ndarray, end: np.ndarray, *, spacing_mm: Sides, gap_mm: float
) -> float:
    """Return the longest chord that crosses another one at a right angle, mm.

    Parameters
    ----------
    mask : (X, Y) bool
        One slice, without holes.
    start, end : (2,) float
        Ends of the chord to cross, voxels.
    spacing_mm : (2,) float
    gap_mm : float
        As for `longest_diameters`.
    """
    spacing = np.asarray(spacing_mm, float)
    along = (end - start) * spacing
    length = float(np.hypot(*along))
    along = along / length
    across = np.array([-along[1], along[0]])
    # From the middle outwards, so that the chord may be read from either end.
    step = PERP_STEP_VOX * spacing.min()
    at = length / 2 + step * np.arange(-int(length / 2 / step), int(length / 2 / step) + 1)
    feet = (start * spacing + at[:, None] * along) / spacing
    reach = float(np.hypot(*(np.array(mask.shape) * spacing))) + spacing.max()
    sides = [_reach_inside(mask, feet, feet + sign * reach * across / spacing, spacing, gap_mm) for sign in (1, -1)]
    (far_a, gap_a), (far_b, gap_b) = sides
    # A foot in a gap counts where the lesion goes on at both sides of the gap, and the gap is short enough as a whole.
    crosses = (
        np.isfinite(gap_a)
        & np.isfinite(gap_b)
        & (np.where(np.isfinite(gap_a + gap_b), gap_a + gap_b, 0) <= gap_mm + TOLERANCE)
    )
    return float(np.where(crosses, far_a + far_b, 0).max(initial=0))


def longest_mm(mask: np.ndarray, spacing_mm: np.ndarray, gap_mm: float, at_least_mm: float) -> float:
    """Longest diameter of a slice, mm; 0 where there is none so long."""
    if not mask.any():
        return 0.0
    return longest_diameters(mask, spacing_mm=spacing_mm, gap_mm=gap_mm, at_least_mm=at_least_mm)[0]


def edge_midpoints(mask: np.ndarray) -> np.ndarray:
    """Points halfway between a pixel inside and a neighbour outside, (n, 2), sorted, in half pixels: whole numbers."""
    padded = np.pad(mask, 1).astype(np.int8)
    along_x = np.argwhere(np.diff(padded, axis=0)) * 2 + [-1, -2]
    along_y = np.argwhere(np.diff(padded, axis=1)) * 2 + [-2, -1]
    points = np.concatenate([along_x, along_y])
    return points[np.lexsort(points.T[::-1])]


def cut_by(mask: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut segments at every pixel border.

    Returns the places of the cuts as fractions (n, m+1), and whether each piece is inside (n, m); a piece along a
    border is inside if the pixel at either side is.
    """
    way = end - start
    with np.errstate(divide="ignore", invalid="ignore"):
        cuts = [
            (np.arange(n + 1) - 0.5 - start[:, axis, None]) / way[:, axis, None] for axis, n in enumerate(mask.shape)
        ]
    ends = np.tile([0.0, 1.0], (len(start), 1))
    at = np.concatenate([ends, *cuts], axis=1)
    at = np.sort(np.clip(np.nan_to_num(at, nan=0.0, posinf=1.0, neginf=0.0), 0, 1), axis=1)
    middle = start[:, None, :] + (at[:, 1:, None] + at[:, :-1, None]) / 2 * way[:, None, :]
    padded = np.pad(mask, 2)
    top = np.array(padded.shape) - 1
    one = np.clip(np.ceil(middle - 0.5 - 1e-9).astype(int) + 2, 0, top)
    two = np.clip(np.floor(middle + 0.5 + 1e-9).astype(int) + 2, 0, top)
    inside = (
        padded[one[..., 0], one[..., 1]]
        | padded[one[..., 0], two[..., 1]]
        | padded[two[..., 0], one[..., 1]]
        | padded[two[..., 0], two[..., 1]]
    )
    return at, inside


def pair_of(condensed: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return both points of pairs that `pdist` numbers, of `n` points."""
    starts = np.cumsum([0, *range(n - 1, 0, -1)])
    first = np.searchsorted(starts, condensed, side="right") - 1
    return first, condensed - starts[first] + first + 1


def leaves_for_long(
    mask: np.ndarray, start: np.ndarray, end: np.ndarray, spacing_mm: np.ndarray, gap_mm: float
) -> np.ndarray:
    """Return whether chords surely stay outside for longer than the gap; quick, and never wrong when it says so.

    A point of the chord that is farther than half the gap from the mask has as much of the chord around it outside.
    """
    # From the centre of the point's pixel to that of the nearest pixel inside: each may be half a diagonal off.
    distance = ndimage.distance_transform_edt(~mask, sampling=spacing_mm) - np.hypot(*spacing_mm)
    far = 2 * distance > gap_mm + TOLERANCE
    leaves = np.zeros(len(start), bool)
    if not far.any():
        return leaves
    open_ = np.arange(len(start))
    for step in PROBES:
        for fraction in np.arange(step, 1, 2 * step):
            at = np.floor(start[open_] + fraction * (end[open_] - start[open_]) + 0.5).astype(np.intp)
            np.clip(at, 0, np.array(mask.shape) - 1, out=at)
            out = far[at[:, 0], at[:, 1]]
            leaves[open_[out]] = True
            open_ = open_[~out]
    return leaves


def longest_gap(mask: np.ndarray, start: np.ndarray, end: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Return the longest stretch outside the mask of each segment, mm; exact."""
    at, inside = cut_by(mask, start, end)
    length = np.diff(at, axis=1) * np.linalg.norm((end - start) * spacing_mm, axis=1)[:, None]
    outside = np.cumsum(np.where(inside, 0, length), axis=1)
    # A piece without length (a corner just touched) does not end a stretch.
    last = np.maximum.accumulate(np.where(inside & (length > 1e-9), outside, 0), axis=1)
    longest: np.ndarray = (outside - last).max(axis=1, initial=0)
    return longest


def _reach_inside(
    mask: np.ndarray, start: np.ndarray, end: np.ndarray, spacing_mm: np.ndarray, gap_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """How far rays get until a gap stops them, mm, and the gap they start in (infinite: nothing ahead)."""
    at, inside = cut_by(mask, start, end)
    far = at * np.linalg.norm((end - start) * spacing_mm, axis=1)[:, None]
    length = np.diff(far, axis=1)
    solid = inside & (length > 1e-9)
    # End of the last piece inside, before each piece.
    seen = np.maximum.accumulate(np.where(solid, far[:, 1:], 0), axis=1)
    before = np.concatenate([np.zeros((len(far), 1)), seen[:, :-1]], axis=1)
    blocked = np.logical_or.accumulate(solid & (far[:, :-1] - before > gap_mm + TOLERANCE), axis=1)
    reach = np.where(solid & ~blocked, far[:, 1:], 0).max(axis=1)
    first = np.where(solid.any(axis=1), far[np.arange(len(far)), solid.argmax(axis=1)], np.inf)
    return reach, first
