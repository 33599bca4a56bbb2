"""A second look at fine scans: detection at nearly the scan's own resolution, for small lesions that 1 mm loses.

The network was trained at 1 mm. Given a scan of 0.7 mm as if its voxels were 1 mm wide, it sees everything half again
as large: a lesion of 2 mm as one of 3, which it knows. What it sees there alone is a candidate
(`fusion.add_candidates`); all other lesions are as the first look has them, at 1 mm, where thresholds and calibration
hold.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy import ndimage

from mettrail.geometry import label_components, whole_lesion
from mettrail.images import Grid, Image, canonical_grid, resample
from mettrail.segmentation.model_folder import POST_CONTRAST
from mettrail.segmentation.models import Model
from mettrail.segmentation.prediction import predict_probabilities

# No finer: time grows with the third power, and tissue looks ever less like what the network knows.
FINEST_MM = 0.7
# Coarser slices show nothing of what the second look is for.
THICKEST_MM = 1.0
# Components of a lower confidence score are left out (`thresholds.score_components`): on the first four phantoms of
# tests/benchmarks/fine.py 3 of 19 below were lesions, 14 of 15 above.
MIN_SCORE = 0.7
# A lesion wider than this is seen at 1 mm.
LARGEST_MM = 4.0
# The bias field is smooth.
_FIELD_MM = 4.0


def fine_grid(grid: Grid, *, below_mm: float) -> Grid | None:
    """Return the isotropic grid that a scan is looked at a second time on; None where 1 mm shows all there is.

    Parameters
    ----------
    grid : Grid
        The scan's.
    below_mm : float
        Voxels have to be smaller than a cube of this side, and no side longer than 1 mm.

    Examples
    --------
    >>> grids = [Grid((100, 100, 100), np.diag([*mm, 1.0])) for mm in ((0.5, 0.5, 1), (1, 1, 1), (0.4, 0.4, 3))]
    >>> [found and round(found.spacing_mm[0], 2) for found in (fine_grid(grid, below_mm=0.85) for grid in grids)]
    [0.7, None, None]
    """
    side = math.prod(grid.spacing_mm) ** (1 / 3)
    if side >= below_mm or max(grid.spacing_mm) > THICKEST_MM + 1e-3:
        return None
    return canonical_grid(grid, spacing_mm=max(side, FINEST_MM))


def look_again(
    model: Model, scan: Image, debiased: Image, within: Image, *, below_mm: float, device: str, threads: int
) -> Image:
    """Return what a detection model sees on a finer grid than 1 mm.

    Parameters
    ----------
    model : Model
        That has the post-contrast T1w as its one channel.
    scan : Image
        As acquired.
    debiased : Image
        The same on the 1 mm grid, bias-corrected.
    within : Image of bool
        The brain mask, grown, on that grid.
    below_mm : float
        As for `fine_grid`, by which the scan has to be fine.
    device, threads
        As for `predict_probabilities`.

    Returns
    -------
    Image of (X, Y, Z, 5) float32
        On the 1 mm grid; whole lesion is called from 0.5 on. What is wider than `LARGEST_MM` is background.

    Raises
    ------
    ValueError
        The scan is not fine.
    """
    grid = fine_grid(scan.grid, below_mm=below_mm)
    if grid is None:
        raise ValueError(f"{scan.grid} is no finer than {below_mm} mm")
    inside = resample(within.like(within.data.astype(np.float32)), grid).data >= 0.5
    fine = np.maximum(resample(scan, grid).data, 0) * resample(_bias_field(scan, debiased), grid, fill=1.0).data
    asked = dataclasses.replace(model, min_component_score=max(model.min_component_score, MIN_SCORE))
    # One look is enough here, without its mirror image.
    found = predict_probabilities(
        asked,
        {POST_CONTRAST: np.where(inside, fine, 0).astype(np.float32)},
        within=inside, device=device, threads=threads, mirror=False,
    )  # fmt: skip
    components, _ = label_components(whole_lesion(found) >= 0.5)
    large = np.bincount(components.ravel()) * grid.voxel_volume_mm3 > math.pi / 6 * LARGEST_MM**3
    large[0] = False
    found[large[components]] = (1, 0, 0, 0, 0)
    classes = [resample(Image(found[..., n], grid.affine), debiased.grid).data for n in range(1, found.shape[3])]
    lesion = np.stack(classes, -1)
    return debiased.like(np.concatenate([1 - lesion.sum(-1, keepdims=True), lesion], -1).astype(np.float32))


def _bias_field(scan: Image, debiased: Image) -> Image:
    """Return what a scan was multiplied by to correct its bias, on the 1 mm grid."""
    before = np.maximum(resample(scan, debiased.grid).data, 0)
    seen = ((before > 0) & (debiased.data > 0)).astype(np.float32)
    ratio = np.where(seen > 0, debiased.data / np.maximum(before, 1e-6), 0)
    weight = ndimage.gaussian_filter(seen, _FIELD_MM)
    smooth = ndimage.gaussian_filter(ratio, _FIELD_MM) / np.maximum(weight, 1e-6)
    return debiased.like(np.where(weight > 1e-3, smooth, 1).astype(np.float32))
