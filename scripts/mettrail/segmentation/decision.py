"""The decision on the scan's own grid: labels from class probabilities on another one."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from scipy import ndimage

from mettrail.geometry import decide_labels, find_peak, label_components, whole_lesion, with_neighbours
from mettrail.images import ENHANCING, NECROSIS, TISSUE_LABELS, Grid, Image
from mettrail.segmentation.classes import require_classes

# Voxels where all classes but background stay below this together need no resampling.
NOTICEABLE = 0.01


def decide_on_grid(probabilities: Image, grid: Grid) -> tuple[Image, Image]:
    """Resample class probabilities linearly to a scan's own grid and decide there.

    Labels are those of `geometry.decide_labels`. Where the scan's voxels are thicker than the probabilities', a voxel
    is the mean over its extent. A lesion that would lose its last voxel keeps the one at its peak.

    Parameters
    ----------
    probabilities : Image of (X, Y, Z, 5) float
        Background, enhancing, edema, necrosis, cavity.
    grid : Grid
        The scan's.

    Returns
    -------
    labels : Image of (X, Y, Z) uint8
        0 background, 1 enhancing, 2 edema, 3 necrosis, 4 resection cavity.
    whole : Image of (X, Y, Z) float32
        Probability of whole lesion, on the same grid.

    Raises
    ------
    InputError
        Not five classes.
    """
    require_classes(probabilities)
    data = probabilities.data
    labels, whole = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.float32)
    noticeable = with_neighbours(1 - data[..., 0] > NOTICEABLE)
    to_grid = np.linalg.inv(grid.affine) @ probabilities.affine
    components, _ = label_components(noticeable)
    for box in _merge(_box_on_grid(b, to_grid, grid.shape) for b in ndimage.find_objects(components)):
        sampled = _sample(data, probabilities.affine, grid, box)
        labels[box] = np.maximum(labels[box], decide_labels(sampled))
        whole[box] = np.maximum(whole[box], whole_lesion(sampled))
    return Image(_rescue(labels, data, to_grid), grid.affine), Image(whole, grid.affine)


def _rescue(labels: np.ndarray, data: np.ndarray, to_grid: np.ndarray) -> np.ndarray:
    """Give every lesion without a voxel on the grid the voxel its peak lies in."""
    whole = whole_lesion(data)
    lesions, _ = label_components(whole >= 0.5)
    for number, box in enumerate(ndimage.find_objects(lesions), start=1):
        index = np.argwhere(lesions[box] == number) + [s.start for s in box]
        there = np.rint(index @ to_grid[:3, :3].T + to_grid[:3, 3]).astype(int)
        inside = ((there >= 0) & (there < labels.shape)).all(1)
        found = labels[tuple(there[inside].T)]
        if not inside.any() or np.isin(found, (ENHANCING, NECROSIS)).any():
            continue
        (peak,) = find_peak(whole[tuple(index.T)], among=inside)
        p = data[tuple(index[peak])]
        labels[tuple(there[peak])] = ENHANCING if p[ENHANCING] >= p[NECROSIS] else NECROSIS
    return labels


def _sample(data: np.ndarray, affine: np.ndarray, grid: Grid, box: tuple[slice, ...]) -> np.ndarray:
    """Linear samples of all classes in a box of a grid, averaged over voxels thicker than the data's."""
    matrix = np.linalg.inv(affine) @ grid.affine
    factors = np.maximum(np.rint(np.linalg.norm(matrix[:3, :3], axis=0)).astype(int), 1)
    start = np.array([s.start for s in box])
    shape = np.array([s.stop - s.start for s in box])
    # Voxel i of the box holds fine voxels i * f to i * f + f - 1, their centres spread evenly around its own.
    fine = matrix[:3, :3] / factors
    offset = matrix[:3, :3] @ (start + (1 / factors - 1) / 2) + matrix[:3, 3]
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape * factors])).reshape(3, -1)
    reached = fine @ corners + offset[:, None]
    low = np.clip(np.floor(reached.min(1)).astype(int) - 1, 0, np.array(data.shape[:3]) - 1)
    high = np.clip(np.ceil(reached.max(1)).astype(int) + 2, low + 1, data.shape[:3])
    part = data[tuple(slice(a, b) for a, b in zip(low, high))]
    out = np.zeros((*shape, len(TISSUE_LABELS)), np.float32)
    for label in TISSUE_LABELS[1:]:
        sampled = ndimage.affine_transform(
            np.asarray(part[..., label], np.float32), fine, offset - low, output_shape=tuple(shape * factors),
            order=1, mode="constant", cval=0.0,
        )  # fmt: skip
        blocks = sampled.reshape(shape[0], factors[0], shape[1], factors[1], shape[2], factors[2])
        out[..., label] = blocks.mean((1, 3, 5))
    out[..., 0] = 1 - out.sum(-1)
    return out


def _box_on_grid(box: tuple[slice, ...], to_grid: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...] | None:
    """Return the box of a grid that covers a box of the probabilities; None outside the field of view."""
    corners = np.array(np.meshgrid(*[(s.start - 1, s.stop) for s in box])).reshape(3, -1)
    reached = to_grid[:3, :3] @ corners + to_grid[:3, 3:]
    low = np.maximum(np.floor(reached.min(1)).astype(int), 0)
    high = np.minimum(np.ceil(reached.max(1)).astype(int) + 1, shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high)) if (high > low).all() else None


def _merge(boxes: Iterable[tuple[slice, ...] | None]) -> list[tuple[slice, ...]]:
    """Return boxes that lie within no other one."""
    largest_first = sorted((b for b in boxes if b is not None), key=lambda b: -math.prod(s.stop - s.start for s in b))
    kept: list[tuple[slice, ...]] = []
    for box in largest_first:
        if not any(all(k.start <= s.start and s.stop <= k.stop for k, s in zip(other, box)) for other in kept):
            kept.append(box)
    return kept
