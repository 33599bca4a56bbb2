"""Longest diameter and its perpendicular on a true mask, by trying every pair of edge points.

Everything is done slice by slice on the voxel grid of the scan; lengths are in mm. A pixel is a closed square: a
point on the border of two pixels is inside if either of them is. The stretches of a line inside and outside the mask
are computed exactly, from where the line crosses pixel borders, instead of being sampled.

Choices where the specification leaves room:

- the gap tolerance of 1.5 px is compared with the exact length of a run outside (the specification samples every
  0.1 mm); a corner that the line only touches interrupts a run;
- of several longest chords of one slice the first found is kept, so the perpendicular may depend on it.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

GAP_PIXELS = 1.5
SMALL = 1e-7  # for "the same point" and "the same length", mm


@dataclass(frozen=True)
class Diameters:
    """What is measured on one mask, mm; `clear` is false if the gap tolerance decides by less than 7 %."""

    ld: float
    perp: float
    feret: float
    n_slices: int
    slice_index: int
    clear: bool


def spacing_of(affine):
    """Voxel size along each array axis, mm: the lengths of the columns."""
    return np.sqrt((np.asarray(affine)[:3, :3] ** 2).sum(axis=0))


def axial_axis(affine):
    """Array axis that runs most nearly along S."""
    directions = np.asarray(affine)[:3, :3] / spacing_of(affine)
    return int(np.argmax(np.abs(directions[2])))


def measure(mask, affine):
    """Diameters of a 3-D boolean mask on its own grid."""
    axis = axial_axis(affine)
    pixel = np.delete(spacing_of(affine), axis)
    slices = np.moveaxis(np.asarray(mask, bool), axis, 0)
    ld, best, feret, clear = 0.0, None, 0.0, True
    unclear = 0.0  # length of the longest chord on which the tolerance nearly decided otherwise
    used = [k for k in range(len(slices)) if slices[k].any()]
    for k in used:
        filled = ndimage.binary_fill_holes(slices[k])
        points = edge_midpoints(filled, pixel)
        widest = _widest(points)
        feret = max(feret, widest)
        if widest < ld - SMALL:
            continue
        length, chord, doubt = longest_chord(filled, pixel, points)
        unclear = max(unclear, doubt)
        # Of slices with the same diameter the one with the larger area counts, then the lower index.
        if length > ld + SMALL or (length > ld - SMALL and filled.sum() > best[0].sum()):
            ld, best = length, (filled, chord, k)
    if best is None:
        return Diameters(0.0, 0.0, 0.0, 0, -1, True)
    clear = unclear < ld - 0.01
    return Diameters(ld, perpendicular(best[0], pixel, *best[1]), feret, len(used), best[2], clear)


def edge_midpoints(mask, pixel):
    """Points (n, 2) in mm halfway between a mask pixel and a 4-neighbour outside it; (0, 0) is a pixel centre."""
    found = set()
    rows, columns = mask.shape
    for i, j in np.argwhere(mask).tolist():
        for di, dj in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            a, b = i + di, j + dj
            if not (0 <= a < rows and 0 <= b < columns and mask[a, b]):
                found.add((i + di / 2, j + dj / 2))
    return np.array(sorted(found)) * pixel


def _distances(points):
    return np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2))


def _widest(points):
    return float(_distances(points).max())


def longest_chord(mask, pixel, points=None):
    """Longest pair of edge points with no gap above the tolerance.

    Returns the length, the two end points, and the length of the longest chord whose verdict hung on less than 7 % of
    the tolerance (0 if there was none).
    """
    points = edge_midpoints(mask, pixel) if points is None else points
    first, second = np.triu_indices(len(points), 1)
    lengths = _distances(points)[first, second]
    limit = GAP_PIXELS * max(pixel)
    doubt = 0.0
    for n in np.argsort(-lengths, kind="stable"):
        p, q = points[first[n]], points[second[n]]
        strict, loose = _runs_outside(mask, pixel, p, q)
        fits = strict <= limit + SMALL
        if loose > 0.93 * limit and strict < 1.07 * limit:
            doubt = max(doubt, float(lengths[n]))
        if fits:
            return float(lengths[n]), (p, q), doubt
    raise AssertionError("two opposite edges of one pixel always make a chord")


def _inside(mask, pixel, where):
    """Whether points (n, 2) in mm lie in the closed mask."""
    index = where / pixel
    low = np.ceil(index - 0.5 - SMALL).astype(int)
    high = np.floor(index + 0.5 + SMALL).astype(int)
    answer = np.zeros(len(where), bool)
    for a in (low, high):
        for b in (low, high):
            i, j = a[:, 0], b[:, 1]
            within = (i >= 0) & (j >= 0) & (i < mask.shape[0]) & (j < mask.shape[1])
            answer[within] |= mask[i[within], j[within]]
    return answer


def _stretches(mask, pixel, start, end):
    """Cut the line from `start` to `end` where it crosses pixel borders.

    Returns the cut positions (mm from the start), whether each stretch between two cuts is inside, and whether each
    cut is itself inside.
    """
    length = float(np.linalg.norm(end - start))
    direction = (end - start) / length
    cuts = [np.array([0.0, length])]
    for axis in range(2):
        if abs(direction[axis]) > 1e-12:
            ends = sorted((start[axis], end[axis]))
            borders = (np.arange(np.floor(ends[0] / pixel[axis]) - 1, ends[1] / pixel[axis] + 2) + 0.5) * pixel[axis]
            cuts.append((borders - start[axis]) / direction[axis])
    cuts = np.sort(np.concatenate(cuts))
    cuts = cuts[(cuts >= 0) & (cuts <= length)]
    cuts = cuts[np.concatenate([[True], np.diff(cuts) > SMALL])]
    middles = (cuts[1:] + cuts[:-1]) / 2
    return (
        cuts,
        _inside(mask, pixel, start + middles[:, None] * direction),
        _inside(mask, pixel, start + cuts[:, None] * direction),
    )


def _runs_outside(mask, pixel, start, end):
    """Longest run outside the mask, mm: interrupted by corners that are touched, and not interrupted by them."""
    cuts, stretch_inside, cut_inside = _stretches(mask, pixel, start, end)
    strict = loose = run_strict = run_loose = 0.0
    for n, inside in enumerate(stretch_inside):
        if inside:
            run_strict = run_loose = 0.0
            continue
        width = cuts[n + 1] - cuts[n]
        run_strict = width if cut_inside[n] else run_strict + width
        run_loose += width
        strict, loose = max(strict, run_strict), max(loose, run_loose)
    return strict, loose


def perpendicular(mask, pixel, start, end):
    """Longest chord that crosses the chord from `start` to `end` at a right angle, mm.

    One line every quarter of the smaller pixel side; gaps within the tolerance are bridged; of each line the run that
    contains the crossing point counts.
    """
    length = float(np.linalg.norm(end - start))
    along = (end - start) / length
    across = np.array([-along[1], along[0]])
    reach = float(np.linalg.norm(np.array(mask.shape) * pixel))
    limit = GAP_PIXELS * max(pixel)
    longest = 0.0
    for t in np.arange(0, length + SMALL, 0.25 * min(pixel)):
        crossing = start + t * along
        cuts, inside, _ = _stretches(mask, pixel, crossing - reach * across, crossing + reach * across)
        runs = []
        for n in np.flatnonzero(inside):
            if runs and cuts[n] - runs[-1][1] <= limit + SMALL:
                runs[-1][1] = cuts[n + 1]
            else:
                runs.append([cuts[n], cuts[n + 1]])
        for low, high in runs:
            if low - SMALL <= reach <= high + SMALL:
                longest = max(longest, float(high - low))
    return longest
