"""Resection cavities, drawn by a network of its own.

What it sees as cavity and the others call a lesion stays one, unless surgery before the session is on record
(`settle_cavities`): a cavity with a rim that enhances and a cyst look alike.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mettrail.geometry import bounding_box, grow_mask, label_components, pick_touched, whole_lesion, with_neighbours
from mettrail.images import CAVITY, EDEMA, Image, require_same_grid
from mettrail.segmentation.classes import require_classes, share_out, without_classes
from mettrail.segmentation.thresholds import mean_probabilities

# Smaller ones are sulci, vessels or lacunes, more often than not.
CAVITY_LEAST_MM3 = 200.0
# The mean probability over its voxels, of their most certain 1 mL, from which a cavity is drawn: on simulated patients
# after resection real ones had 0.99 and more, what was none 0.92 at most, but for one of 0.97.
CAVITY_MEAN = 0.95
# The way in leads from the surface: simulated cavities came to 12 mm of it or nearer, ventricles that were called
# cavities on real scans to 16 mm.
CAVITY_DEPTH_MM = 14.0
# What lines a cavity: granulation and scar enhance thinly.
LINING_MM = 2.5


def accept_cavities(seen: Image, brain: Image) -> Image:
    """Take from a network's cavities those that can be resection cavities.

    Parameters
    ----------
    seen : Image of (X, Y, Z, 5) float
        From the cavity model.
    brain : Image of (X, Y, Z) bool
        Brain mask on the same grid.

    Returns
    -------
    Image of (X, Y, Z) float32
        Probability of cavity; 0 but in and around connected components of `CAVITY_LEAST_MM3` or more, of which the
        network is sure (`CAVITY_MEAN`), and which come within `CAVITY_DEPTH_MM` of the brain's surface, from where
        surgeons come: ventricles do not.

    Raises
    ------
    GridMismatchError
        Not one grid.
    InputError
        Not five classes.
    """
    require_classes(seen)
    require_same_grid(without_classes(seen), brain)
    share = seen.data[..., CAVITY]
    components, count = label_components(share > 0.5)
    sure = np.r_[False, mean_probabilities(share, components, count) >= CAVITY_MEAN][components]
    shallow = grow_mask(~brain.data, spacing_mm=brain.spacing_mm, grow_mm=CAVITY_DEPTH_MM)
    near = sure & pick_touched(components, shallow)
    kept = _large(near, voxel_mm3=seen.voxel_volume_mm3, least_mm3=CAVITY_LEAST_MM3)
    return brain.like(np.where(with_neighbours(kept), share, 0).astype(np.float32))


def settle_cavities(
    fused: Image, cavities: Image | None, *, operated: bool, least_mm3: float
) -> tuple[Image, Image | None, int]:
    """Decide between lesion and resection cavity where networks call a place both.

    A cavity with a rim that enhances and a cyst look alike; whether there was surgery tells them apart. Without it on
    record, lesions stay as they are. With it, what lies in a cavity is no lesion, nor is what lines it (`LINING_MM`):
    what is thicker, a recurrence, stays. A cavity that thicker tissue encloses is the core of a lesion, and stays that.

    Parameters
    ----------
    fused : Image of (X, Y, Z, 5) float
        From `apply_rule` and `add_candidates`.
    cavities : Image of (X, Y, Z) float, optional
        From `accept_cavities`; None: nothing is decided.
    operated : bool
        Surgery before the session is on record.
    least_mm3 : float
        What is left of a lesion has at least this volume: ``birth_mm3`` of ``instances`` in config/config.yaml.

    Returns
    -------
    fused : Image of (X, Y, Z, 5) float32
    cavities : Image of (X, Y, Z) float32, or None
        Without those that are cores of lesions, where there was surgery.
    doubtful : int
        Connected components that lose more than half by surgery on record, or would.

    Raises
    ------
    GridMismatchError
        Not one grid.
    """
    if cavities is None:
        return fused, None, 0
    require_same_grid(without_classes(fused), cavities)
    components, count = label_components(whole_lesion(fused.data) >= 0.5)
    bed = cavities.data > 0.5
    if not bed.any():
        return fused, cavities, 0
    beside = pick_touched(components, with_neighbours(bed))
    bed = _drop_enclosed(bed, _beyond_lining(beside, bed, fused))
    beside = pick_touched(components, with_neighbours(bed))
    kept = _large(_beyond_lining(beside, bed, fused), voxel_mm3=fused.voxel_volume_mm3, least_mm3=least_mm3)
    gone = beside & ~kept
    lost = np.bincount(components[gone], minlength=count + 1)
    doubtful = int((2 * lost > np.bincount(components.ravel(), minlength=count + 1)).sum())
    if not operated:
        return fused, cavities, doubtful
    data = fused.data.astype(np.float32)
    # With the voxels around, by which an edge is found; not those of what stays.
    data[gone | (with_neighbours(gone) & (components == 0))] = (1, 0, 0, 0, 0)
    return (
        fused.like(data),
        cavities.like(np.where(with_neighbours(bed), cavities.data, 0).astype(np.float32)),
        doubtful,
    )


def draw_cavities(fused: Image, cavities: Image | None) -> Image:
    """Put resection cavities where a network of its own sees them; lesions stay as they are.

    Parameters
    ----------
    fused : Image of (X, Y, Z, 5) float
        From `draw_edges`; edema is drawn after them.
    cavities : Image of (X, Y, Z) float, optional
        From `accept_cavities`; None: cavities stay as they are.

    Returns
    -------
    Image of (X, Y, Z, 5) float32
        The probability of whole lesion is the same. What is not lesion is shared out between cavity and the rest as the
        model has it, where lesions leave enough of a cavity. What they enclose by more than half, in two of the three
        planes through a voxel, is no cavity but the core of a lesion, and stays what it is.

    Raises
    ------
    GridMismatchError
        Not one grid.
    """
    if cavities is None:
        return fused
    require_same_grid(without_classes(fused), cavities)
    lesion = whole_lesion(fused.data) >= 0.5
    share = np.where(lesion, 0, cavities.data)
    left = _large(share > 0.5, voxel_mm3=fused.voxel_volume_mm3, least_mm3=CAVITY_LEAST_MM3)
    left = _drop_enclosed(left, lesion)
    return fused.like(share_out(fused.data.astype(np.float32), (0, EDEMA), CAVITY, share, around=left))


def _beyond_lining(lesion: np.ndarray, bed: np.ndarray, image: Image) -> np.ndarray:
    """Return what a lesion has outside cavities where it is thicker than their lining, down to the cavity."""
    outside = lesion & ~bed
    thick = outside & ~grow_mask(bed, spacing_mm=image.spacing_mm, grow_mm=LINING_MM)
    kept: np.ndarray = outside & grow_mask(thick, spacing_mm=image.spacing_mm, grow_mm=LINING_MM)
    return kept


def _drop_enclosed(cavities: np.ndarray, lesion: np.ndarray) -> np.ndarray:
    """Return cavities without the connected components that a lesion encloses by more than half."""
    components, count = label_components(cavities)
    enclosed = np.bincount(components[_enclosed(lesion)], minlength=count + 1)
    open_ones = 2 * enclosed <= np.bincount(components.ravel(), minlength=count + 1)
    kept: np.ndarray = cavities & open_ones[components]
    return kept


def _large(mask: np.ndarray, *, voxel_mm3: float, least_mm3: float) -> np.ndarray:
    """Return the connected components of a mask that have at least a volume."""
    components, _ = label_components(mask)
    large = np.bincount(components.ravel()) * voxel_mm3 >= least_mm3
    large[0] = False
    found: np.ndarray = large[components]
    return found


def _enclosed(mask: np.ndarray) -> np.ndarray:
    """Return what lies outside a mask, but is enclosed by it in two of the three planes through each voxel."""
    found = np.zeros(mask.shape, np.uint8)
    if not mask.any():
        return found > 0
    box = bounding_box(mask)
    for axis in range(3):
        for plane, into in zip(np.moveaxis(mask[box], axis, 0), np.moveaxis(found[box], axis, 0), strict=True):
            into += ndimage.binary_fill_holes(plane) & ~plane
    return found >= 2
