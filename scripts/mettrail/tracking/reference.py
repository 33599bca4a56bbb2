"""Lesions and the field of view of a visit, brought to the patient's reference grid."""

from __future__ import annotations

import numpy as np

from mettrail.images import Grid, Image
from mettrail.tracking.axial import to_ras_order
from mettrail.tracking.chords import TOLERANCE


def instances_to_reference(instances: Image, grid: Grid, *, world: np.ndarray) -> Image:
    """Bring lesions onto the patient's reference grid, nearest neighbour; none gets lost.

    A lesion that would lose all voxels keeps the free one nearest to its centre, also when it lies outside the grid.

    Parameters
    ----------
    instances : Image
        On the scan's own grid.
    grid : Grid
        Of the reference space, 1 mm or finer.
    world : (4, 4) float
        Points of the reference space to points of the scan, RAS mm.
    """
    out = np.zeros(grid.shape, np.int32)
    affine, data = to_ras_order(instances.affine, instances.data)[1:]
    voxels = np.argwhere(data)
    if len(voxels) == 0:
        return Image(out, grid.affine)
    to_scan = np.linalg.inv(affine) @ world @ grid.affine
    to_grid = np.linalg.inv(to_scan)
    there = voxels @ to_grid[:3, :3].T + to_grid[:3, 3]
    margin = np.ceil(np.abs(to_grid[:3, :3]).sum(1)).astype(int) + 1
    low = np.clip(np.floor(there.min(0)).astype(int) - margin, 0, grid.shape)
    high = np.clip(np.ceil(there.max(0)).astype(int) + margin + 1, low, grid.shape)
    y, z = np.meshgrid(np.arange(low[1], high[1]), np.arange(low[2], high[2]), indexing="ij")
    for x in range(low[0], high[0]):
        here = np.stack([np.full(y.shape, x), y, z])
        # Half way between two voxels the upper one is taken, whatever the last digits say.
        at = np.tensordot(to_scan[:3, :3], here, 1) + to_scan[:3, 3, None, None]
        source = np.floor(at + 0.5 + TOLERANCE).astype(int)
        inside = ((source >= 0) & (source < np.array(data.shape)[:, None, None])).all(0)
        out[x, y[inside], z[inside]] = data[tuple(source[:, inside])]

    numbers = data[tuple(voxels.T)]
    count = np.bincount(out.ravel(), minlength=int(numbers.max()) + 1)
    lost = [(there[numbers == number], int(number)) for number in np.unique(numbers) if count[number] == 0]
    # Large ones first, then by place: an order that labels have no part in.
    for voxels, number in sorted(lost, key=lambda each: (-len(each[0]), *np.round(each[0].mean(0), 6))):
        _keep_one_voxel(out, number, voxels.mean(0), np.array(grid.spacing_mm), count)
    return Image(out, grid.affine)


def field_of_view(session: Grid, grid: Grid, *, world: np.ndarray) -> Image:
    """Say where on the reference grid a scan has data.

    Parameters
    ----------
    session, grid : Grid
        Of the scan, and of the reference space.
    world : (4, 4) float
        Points of the reference space to points of the scan, RAS mm.

    Returns
    -------
    Image
        Boolean, on `grid`.
    """
    to_scan = np.linalg.inv(session.affine) @ world @ grid.affine
    inside = np.ones(grid.shape, bool)
    x, y, z = (np.arange(n, dtype=np.float32) for n in grid.shape)
    for row, size in zip(to_scan[:3], session.shape):
        at = (row[0] * x + row[3])[:, None, None] + (row[1] * y)[:, None] + row[2] * z
        inside &= (at >= -0.5) & (at <= size - 0.5)
    return Image(inside, grid.affine)


def _keep_one_voxel(out: np.ndarray, number: int, centre: np.ndarray, spacing: np.ndarray, count: np.ndarray) -> None:
    """Give a lesion the free voxel nearest to a point; one of a larger lesion where none is free around."""
    top = np.array(out.shape) - 1
    at = np.clip(centre, 0, top)
    low, high = np.maximum(np.rint(at).astype(int) - 3, 0), np.minimum(np.rint(at).astype(int) + 4, top + 1)
    around = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), axis=-1).reshape(-1, 3)
    distance = np.round(np.linalg.norm((around - at) * spacing, axis=1), 6)
    for voxel in around[np.argsort(distance, kind="stable")]:
        owner = out[tuple(voxel)]
        if owner == 0 or count[owner] > 1:
            count[owner] -= 1
            count[number] += 1
            out[tuple(voxel)] = number
            return
