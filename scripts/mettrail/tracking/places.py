"""Where lesions lie on the reference grid, and what they share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from mettrail.geometry import grow_mask
from mettrail.tracking.chords import TOLERANCE, edge_points


@dataclass(frozen=True)
class Place:
    """Voxels on the reference grid: sorted flat numbers, and the box they lie in."""

    flat: np.ndarray
    low: np.ndarray
    mask: np.ndarray

    @classmethod
    def of(cls, flat: np.ndarray, shape: tuple[int, ...]) -> Place:
        """Make one of flat voxel numbers."""
        voxels = np.stack(np.unravel_index(flat, shape), axis=1)
        low = voxels.min(0)
        mask = np.zeros(voxels.max(0) - low + 1, bool)
        mask[tuple((voxels - low).T)] = True
        return cls(flat, low, mask)

    @property
    def high(self) -> np.ndarray:
        """Return the corner beyond the box."""
        return np.asarray(self.low + self.mask.shape)

    def centre_mm(self, affine: np.ndarray) -> np.ndarray:
        """Return the centre of its voxels, mm."""
        return np.asarray(affine[:3, :3] @ (np.argwhere(self.mask).mean(0) + self.low) + affine[:3, 3])


def common_voxels(a: Place, b: Place) -> int:
    """Voxels two places share."""
    if (a.low >= b.high).any() or (b.low >= a.high).any():
        return 0
    return len(np.intersect1d(a.flat, b.flat, assume_unique=True))


def edge_distance_mm(a: Place, b: Place, spacing: np.ndarray, limit_mm: float) -> float:
    """Distance from edge to edge; infinite where the boxes alone are farther apart than the limit."""
    apart = np.maximum(np.maximum(a.low - b.high, b.low - a.high), 0) * spacing
    if np.linalg.norm(apart) > limit_mm + TOLERANCE:
        return np.inf
    if common_voxels(a, b):
        return 0.0
    first, second = ((edge_points(each.mask) + each.low) * spacing for each in (a, b))
    return float(np.min(cKDTree(first).query(second)[0]))


def voxels_outside(a: Place, others: list[Place], spacing: np.ndarray, grow_mm: float) -> np.ndarray:
    """Voxels of a place that lie outside others, grown."""
    return np.asarray(a.flat[~lies_near(a, others, spacing, grow_mm)])


def share_within(a: Place, b: Place, spacing: np.ndarray, grow_mm: float) -> float:
    """Fraction of a place that lies within another one, grown."""
    return covered_share(a, [b], spacing, grow_mm)


def covered_share(a: Place, others: list[Place], spacing: np.ndarray, grow_mm: float) -> float:
    """Return the fraction of a place that lies within others, grown."""
    return float(lies_near(a, others, spacing, grow_mm).mean())


def lies_near(a: Place, others: list[Place], spacing: np.ndarray, grow_mm: float) -> np.ndarray:
    """Whether each voxel of a place lies within others, grown; in the order of its flat numbers."""
    margin = np.ceil(grow_mm / spacing).astype(int) + 1
    low, high = a.low - margin, a.high + margin
    window = np.zeros(high - low, bool)
    for b in others:
        start, stop = np.maximum(low, b.low), np.minimum(high, b.high)
        if (start < stop).all():
            window[tuple(map(slice, start - low, stop - low))] |= b.mask[tuple(map(slice, start - b.low, stop - b.low))]
    if not window.any():
        return np.zeros(len(a.flat), bool)
    near = grow_mask(window, spacing_mm=spacing, grow_mm=grow_mm)
    inside: np.ndarray = near[tuple(map(slice, margin, margin + a.mask.shape))][a.mask]
    return inside
