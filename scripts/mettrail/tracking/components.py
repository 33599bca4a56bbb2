"""Which lesion voxels of a scan belong together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from mettrail.errors import InputError
from mettrail.geometry import NEIGHBOURS, bounding_box, label_components
from mettrail.images import CAVITY, ENHANCING, NECROSIS, voxel_volume_mm3
from mettrail.reasons import Reason
from mettrail.tracking.axial import to_ras_order, to_stored_order
from mettrail.tracking.chords import (
    TOLERANCE,
    edge_points,
)
from mettrail.tracking.edges import origin_of

# A closed hole larger than this many times the lesion around it is not taken for unlabelled necrosis.
MAX_HOLE_RATIO = 2


@dataclass(frozen=True)
class SizeLimits:
    """Which connected components count, and which of them start a track."""

    keep_mm3: float
    keep_vox: int
    birth_mm3: float
    birth_vox: int

    def keeps(self, n_voxels: int, voxel_mm3: float) -> bool:
        """Whether so many voxels are enough to continue a track."""
        return bool(n_voxels * voxel_mm3 > self.keep_mm3 + TOLERANCE and n_voxels >= self.keep_vox)

    def may_start(self, n_voxels: int, voxel_mm3: float, *, certain: bool = False) -> bool:
        """Whether so many voxels are enough to start one; the volume of a certain lesion does not count."""
        large = n_voxels * voxel_mm3 >= self.birth_mm3 - TOLERANCE
        return bool((large or certain) and n_voxels >= self.birth_vox)


def find_instances(
    tissue: np.ndarray,
    *,
    affine: np.ndarray,
    connectivity: int,
    mode: str,
    merge_gap_mm: float,
    merge_small_mm3: float,
    merge_small_frac: float,
    keep_mm3: float,
    keep_vox: int,
    birth_mm3: float,
    birth_vox: int,
) -> np.ndarray:
    """Part the whole-lesion mask (enhancing or necrosis) into lesions.

    A closed hole without label counts as necrosis when voxels are joined, but is in no lesion of the result; one that
    holds a resection cavity does not.
    Fragments beside a lesion are part of it (``satellite``): each joins the nearest larger component that is close
    enough, one only, so that a satellite component between two lesions does not make them one.

    Parameters
    ----------
    tissue : (X, Y, Z) int
        0 background, 1 enhancing, 2 edema, 3 necrosis, 4 resection cavity.
    affine : (4, 4) float
        Voxel index to RAS+ mm.
    connectivity : {6, 18, 26}
        Neighbours of a voxel.
    mode : {'satellite', 'brats'}
        ``brats`` joins what touches after one dilation with an 18-neighbourhood, as the BraTS-METS evaluation does.
    merge_gap_mm, merge_small_mm3, merge_small_frac : float
        ``satellite`` joins components at most this far apart, edge to edge, where the smaller is below so many mm3 or
        at most this fraction of the larger.
    keep_mm3, keep_vox : float, int
        A component up to `keep_mm3`, or of fewer voxels than `keep_vox`, is dropped.
    birth_mm3, birth_vox : float, int
        Size from which a lesion starts a track of its own. Smaller ones stay in the result: they may continue a track.

    Returns
    -------
    (X, Y, Z) int32
        1 is the largest lesion; of equal ones the first by centroid x, y, z in the world.

    Raises
    ------
    InputError
        Settings that cannot be.
    """
    limits = SizeLimits(keep_mm3, keep_vox, birth_mm3, birth_vox)
    _check_settings(connectivity, mode, limits)
    orientation, world, labels = to_ras_order(affine, tissue)
    voxel_mm3 = voxel_volume_mm3(world)
    out = np.zeros(labels.shape, np.int32)
    whole = (labels == ENHANCING) | (labels == NECROSIS)
    if not whole.any():
        return to_stored_order(out, orientation)
    box = bounding_box(whole)
    origin = origin_of(box) - 1
    # One voxel of background around everything: what touches the border of the image is not closed by it.
    whole, resected = np.pad(whole[box], 1), np.pad(labels[box] == CAVITY, 1)

    components = _label(whole, resected, connectivity if mode == "satellite" else None)
    if mode == "satellite":
        count, centroid = _counts_and_centroids(components, world, origin)
        owner = _merge_fragments(
            components,
            count * voxel_mm3,
            centroid,
            spacing_mm=np.linalg.norm(world[:3, :3], axis=0),
            gap_mm=merge_gap_mm,
            small_mm3=merge_small_mm3,
            small_frac=merge_small_frac,
        )
        components = owner[components]
    count, centroid = _counts_and_centroids(components, world, origin)
    kept = [i for i in np.flatnonzero(count) if limits.keeps(count[i], voxel_mm3)]
    kept.sort(key=lambda i: (-count[i], *np.round(centroid[i], 6)))
    rank = np.zeros(len(count), np.int32)
    rank[kept] = np.arange(1, len(kept) + 1)
    out[box] = rank[components][1:-1, 1:-1, 1:-1]
    return to_stored_order(out, orientation)


def _check_settings(connectivity: int, mode: str, limits: SizeLimits) -> None:
    if mode not in ("satellite", "brats"):
        raise _bad_setting("instances: mode", mode, "satellite or brats")
    if connectivity not in (6, 18, 26):
        raise _bad_setting("instances: connectivity", str(connectivity), "6, 18 or 26")
    if limits.birth_mm3 < limits.keep_mm3 or limits.birth_vox < limits.keep_vox:
        raise _bad_setting(
            "instances: birth_mm3, birth_vox",
            f"{limits.birth_mm3}, {limits.birth_vox}",
            f"at least keep_mm3, keep_vox: {limits.keep_mm3}, {limits.keep_vox}",
        )


def _label(whole: np.ndarray, resected: np.ndarray, connectivity: int | None) -> np.ndarray:
    """Give the components numbers, joined across closed holes; without a connectivity, as BraTS-METS joins them."""
    filled = whole | _unlabelled_necrosis(whole, resected)
    if connectivity is None:
        filled = ndimage.binary_dilation(filled, NEIGHBOURS[18])
    components, _ = label_components(filled, connectivity=connectivity or 26)
    return np.where(whole, components, 0)


def _bad_setting(what: str, found: str, expected: str) -> InputError:
    return InputError(
        what, found=found, expected=expected, advice="Change it in the config.", reason=Reason.BAD_SETTING
    )


def _counts_and_centroids(
    components: np.ndarray, world: np.ndarray, origin: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Voxels and world centroid of every number in a map that starts at voxel `origin` (row 0: background, n/a)."""
    size = int(components.max(initial=0)) + 1
    voxels = np.argwhere(components)
    numbers = components[tuple(voxels.T)]
    count = np.bincount(numbers, minlength=size)
    sums = np.stack([np.bincount(numbers, weights=axis, minlength=size) for axis in voxels.T], axis=1)
    with np.errstate(invalid="ignore"):
        centroid = sums / count[:, None] + origin
    return count, centroid @ world[:3, :3].T + world[:3, 3]


def _unlabelled_necrosis(whole: np.ndarray, resected: np.ndarray) -> np.ndarray:
    """Voxels in closed holes of single components, small enough to be their core, and without a resection cavity."""
    filled = np.zeros_like(whole)
    components, _ = label_components(whole)
    for number, box in enumerate(ndimage.find_objects(components), start=1):
        shell = components[box] == number
        # Six voxels are the least that close a hole.
        if shell.sum() < 6:
            continue
        filled[box] |= closed_holes(shell, whole[box], resected[box])
    return filled


def closed_holes(shell: np.ndarray, occupied: np.ndarray, resected: np.ndarray) -> np.ndarray:
    """Voxels enclosed by a shell, hole by hole where what is free in it is small enough, and nothing was resected."""
    holes, n = label_components(ndimage.binary_fill_holes(shell) & ~shell, connectivity=6)
    if n == 0:
        return np.zeros_like(shell)
    free = np.bincount(holes[~occupied], minlength=n + 1)
    small = free <= MAX_HOLE_RATIO * shell.sum()
    small[0] = False
    small[np.unique(holes[resected])] = False
    inside: np.ndarray = small[holes]
    return inside


def _merge_fragments(
    components: np.ndarray,
    volume: np.ndarray,
    centroid: np.ndarray,
    *,
    spacing_mm: np.ndarray,
    gap_mm: float,
    small_mm3: float,
    small_frac: float,
) -> np.ndarray:
    """Return for every component the one it belongs to in the end."""
    boxes = ndimage.find_objects(components)
    low = np.array([[s.start for s in box] for box in boxes]) * spacing_mm
    high = np.array([[s.stop for s in box] for box in boxes]) * spacing_mm
    # From small to large; each joins a later one, so nothing goes round in circles.
    order = sorted(range(1, len(volume)), key=lambda i: (volume[i], *np.round(centroid[i], 6)))
    place = {number: position for position, number in enumerate(order)}
    trees: dict[int, cKDTree] = {}

    def corners(i: int) -> cKDTree:
        if i not in trees:
            points = edge_points(components[boxes[i - 1]] == i) + [s.start for s in boxes[i - 1]]
            trees[i] = cKDTree(points * spacing_mm)
        return trees[i]

    owner = np.arange(len(volume))
    for i in order:
        apart = np.maximum(np.maximum(low - high[i - 1], low[i - 1] - high), 0)
        near = np.flatnonzero(np.linalg.norm(apart, axis=1) <= gap_mm + TOLERANCE) + 1
        candidates = []
        for j in map(int, near):
            if place[j] <= place[i]:
                continue
            if not (volume[i] < small_mm3 - TOLERANCE or volume[i] <= small_frac * volume[j] + TOLERANCE):
                continue
            gap = float(np.min(corners(j).query(corners(i).data)[0]))
            if gap <= gap_mm + TOLERANCE:
                candidates.append((round(gap, 6), -place[j], j))
        if candidates:
            owner[i] = min(candidates)[2]
    for i in reversed(order):
        owner[i] = owner[owner[i]]
    return owner
