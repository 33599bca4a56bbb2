"""Visits as volumes on one grid of the patient's reference space, for the viewer: every crosshair means one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag

import numpy as np

from mettrail import transforms
from mettrail.geometry import bounding_box, grow_mask
from mettrail.images import (
    CAVITY,
    EDEMA,
    ENHANCING,
    NECROSIS,
    Box,
    Grid,
    Image,
    read_image,
    read_labels,
    read_mask,
    resample,
)
from mettrail.report.scans.strips import Visit
from mettrail.report.scans.view import mask_on, window_of

# What lies farther from all brain masks is not shown: lesions of the meninges are seen, faces are not.
_MARGIN_MM = 6.0
# The margin is found on a grid this many times as coarse.
_COARSE = 2
# Grey value of white in a film strip; brighter ones are kept up to 255, so that the viewer can make scans darker.
WHITE = 170


class Mark(IntFlag):
    """What is outlined at a voxel besides lesions; several may be at one place."""

    PRIOR = 1
    EDEMA = 2
    NECROSIS = 4
    CAVITY = 8


@dataclass(frozen=True)
class Volumes:
    """A visit on the grid of all visits.

    Parameters
    ----------
    scan : (X, Y, Z) uint8
        Grey values, `WHITE` where film strips are white; 0 more than 6 mm from the brain.
    lesions : (X, Y, Z) uint16
        Numbers of lesions, as in the label maps.
    marks : (X, Y, Z) uint8
        `Mark` of each voxel.
    """

    scan: np.ndarray
    lesions: np.ndarray
    marks: np.ndarray


def sample_visits(
    visits: Mapping[str, Visit], space: Grid | None, *, failed: Callable[[Exception], object]
) -> tuple[Grid | None, dict[str, Volumes]]:
    """Sample scans and labels on the reference space's grid, cropped to the brain of all visits.

    Parameters
    ----------
    visits : mapping of str to Visit
        By session ID, those that are registered to the reference space.
    space : Grid or None
        The reference scan's working grid, RAS 1 mm. None where there is no visit.
    failed : function of an exception
        Told of a visit that cannot be read; all others are sampled.

    Returns
    -------
    Grid or None
        Of all volumes; None where there are none.
    dict of str to Volumes
        By session ID.
    """
    brains: dict[str, tuple[Image, np.ndarray]] = {}
    if space is not None:
        for name, visit in visits.items():
            try:
                brains[name] = read_mask(visit.brain), transforms.read_affine(visit.affine)
            except Exception as error:
                failed(error)
    if space is None or not brains:
        return None, {}
    near = _find_near(list(brains.values()), space)
    if not near.any():
        return None, {}
    box = bounding_box(near)
    grid, near = space.crop(box), near[box]
    volumes = {}
    for name, (mask, world) in brains.items():
        try:
            volumes[name] = _read(visits[name], mask, world, grid, near)
        except Exception as error:
            failed(error)
    return grid, volumes


def _read(visit: Visit, brain: Image, world: np.ndarray, grid: Grid, near: np.ndarray) -> Volumes:
    scan = read_image(visit.scan)
    low, high = window_of(scan.data, mask_on(brain, scan))
    grey = (resample(scan, grid, world=world).data - low) * (WHITE / (high - low))
    tissue = _sample(read_labels(visit.tissue), grid, world)
    marks = Mark.EDEMA * (tissue == EDEMA) + Mark.NECROSIS * (tissue == NECROSIS) + Mark.CAVITY * (tissue == CAVITY)
    if visit.prior is not None:
        # Whole lesions of the prior session.
        prior = np.isin(_sample(read_labels(visit.prior), grid, world), (ENHANCING, NECROSIS))
        marks = marks + Mark.PRIOR * prior
    lesions = _sample(read_labels(visit.lesions), grid, world)
    return Volumes(
        np.where(near, np.clip(np.rint(grey), 0, 255), 0).astype(np.uint8),
        lesions.astype(np.uint16),
        marks.astype(np.uint8),
    )


def _find_near(brains: Sequence[tuple[Image, np.ndarray]], space: Grid) -> np.ndarray:
    """Return which voxels are near the brain of any visit: where one mask failed, what it lacks is still to be seen."""
    scaled = space.affine.copy()
    scaled[:3, :3] *= _COARSE
    x, y, z = (-(-n // _COARSE) for n in space.shape)
    coarse = Grid((x, y, z), scaled)
    brain = np.logical_or.reduce(
        [_sample(mask.like(mask.data.view(np.uint8)), coarse, world) for mask, world in brains]
    )
    near = grow_mask(brain, spacing_mm=coarse.spacing_mm, grow_mm=_MARGIN_MM)
    fine = near.repeat(_COARSE, 0).repeat(_COARSE, 1).repeat(_COARSE, 2)
    return fine[tuple(slice(0, n) for n in space.shape)]


def _sample(labels: Image, grid: Grid, world: np.ndarray) -> np.ndarray:
    """Sample labels where there are any, which is in a small part of most scans."""
    sampled = np.zeros(grid.shape, labels.data.dtype)
    if not labels.data.any():
        return sampled
    i, j, k = bounding_box(labels.data > 0, margin_vox=1)
    corners = np.array(
        [[x, y, z] for x in (i.start, i.stop) for y in (j.start, j.stop) for z in (k.start, k.stop)], float
    )
    to_grid = np.linalg.inv(grid.affine) @ transforms.invert(world) @ labels.affine
    where = transforms.map_points(corners, affine=to_grid)
    low = np.clip(np.floor(where.min(0)).astype(int), 0, grid.shape)
    high = np.clip(np.ceil(where.max(0)).astype(int) + 1, low, grid.shape)
    i, j, k = (slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    box: Box = (i, j, k)
    sampled[box] = resample(labels, grid.crop(box), order=0, world=world).data
    return sampled
