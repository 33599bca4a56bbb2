"""How far the edge of a lesion may move: by the networks' probability, by half a voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mettrail.geometry import bounding_box, find_surface, label_components, nearest_labels
from mettrail.tracking.chords import (
    TOLERANCE,
)

# Networks call a lesion from 0.5 on; the contours halfway to certainty, either way, bound its edge.
INNER, OUTER = 0.75, 0.25
# What is farther from a lesion than this is not its edge, however uncertain it is.
REACH_MM = 5.0
# Room around a lesion in which its edge may move by half a voxel, and so may its neighbours'.
MARGIN_VOX = 2
Box = tuple[slice, ...]


@dataclass(frozen=True)
class EdgeProbability:
    """Lesions by the networks' probability of each voxel, in an array of RAS order.

    Parameters
    ----------
    grown : (X, Y, Z) int
        Lesions with what around them is at least `OUTER`, the nearest lesion's and connected with it.
    core : (X, Y, Z) bool
        At least `INNER`.
    instances : (X, Y, Z) int
    boxes : list of (slice, slice, slice)
        Of each number in `grown`.
    """

    grown: np.ndarray
    core: np.ndarray
    instances: np.ndarray
    boxes: list[Box]

    @classmethod
    def of(cls, instances: np.ndarray, whole: np.ndarray, spacing_mm: np.ndarray) -> EdgeProbability:
        """Make one of lesions and the probability of whole lesion, on a grid of `spacing_mm`."""
        grown = instances.astype(np.int32)
        voxels = np.argwhere((whole >= OUTER) & (instances == 0))
        grown[tuple(voxels.T)], _ = nearest_labels(
            voxels * spacing_mm,
            instances,
            affine=np.diag([*spacing_mm, 1]),
            among=find_surface(instances > 0),
            within_mm=REACH_MM + TOLERANCE,
        )
        box = bounding_box(grown > 0)
        components, count = label_components(grown[box])
        reached = np.zeros(count + 1, bool)
        reached[components[instances[box] > 0]] = True
        grown[box] *= reached[components]
        return cls(grown, whole >= INNER, instances, ndimage.find_objects(grown))

    def masks(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the lesion inside the inner contour, and inside the outer one, in its box."""
        box = self.boxes[number - 1]
        return (self.instances[box] == number) & self.core[box], self.grown[box] == number


def crop_around(instances: np.ndarray, whole: np.ndarray, box: Box) -> np.ndarray:
    """Return lesions in a box and `MARGIN_VOX` around it, none beyond the image."""
    wider = tuple(slice(max(s.start - MARGIN_VOX, 0), s.stop + MARGIN_VOX) for s in box)
    beyond = [
        (max(MARGIN_VOX - s.start, 0), max(s.stop + MARGIN_VOX - n, 0))
        for s, n in zip(box, instances.shape, strict=True)
    ]
    return np.pad(np.where(whole[wider], instances[wider], 0), beyond)


def half_voxel_volumes(labels: np.ndarray, number: int) -> tuple[float, float]:
    """Voxels of a lesion whose edge lies half a voxel further in, and further out; `labels` as from `crop_around`.

    Each voxel has eight octants, each of which meets three neighbours across faces. An octant of the lesion is lost
    where one of the three is outside; one outside is gained where one of the three is in the lesion, if it is no other
    lesion's and no larger one gains it.
    """
    mask, larger = labels == number, (labels > 0) & (labels < number)
    inner = (slice(1, -1),) * 3
    here, free = mask[inner], labels[inner] == 0
    beside, beside_larger = _across_faces(mask), _across_faces(larger) if larger.any() else None
    lost = gained = 0
    for x, y, z in np.ndindex(2, 2, 2):
        lost += int(np.count_nonzero(here & ~(beside[0][x] & beside[1][y] & beside[2][z])))
        taken = free & (beside[0][x] | beside[1][y] | beside[2][z])
        if beside_larger is not None:
            taken &= ~(beside_larger[0][x] | beside_larger[1][y] | beside_larger[2][z])
        gained += int(np.count_nonzero(taken))
    n_voxels = np.count_nonzero(here)
    return n_voxels - lost / 8, n_voxels + gained / 8


def _across_faces(mask: np.ndarray) -> list[list[np.ndarray]]:
    """Return what lies before and behind each inner voxel along each axis."""
    inner = [slice(1, -1)] * 3
    steps = (slice(0, -2), slice(2, None))
    return [[mask[(*inner[:axis], step, *inner[axis + 1 :])] for step in steps] for axis in range(3)]


def origin_of(box: Box) -> np.ndarray:
    """Return the first voxel of a box, (3,)."""
    return np.array([s.start for s in box])
