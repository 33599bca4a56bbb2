"""Correct the bias field of a head scan, the slow drift of intensity that coils leave (stage: debias)."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage

from mettrail.errors import InputError
from mettrail.images import Image, canonical_grid, resample
from mettrail.reasons import Reason

# N4 fits cubic B-splines: an axis with fewer voxels than this carries no field and is not shrunk.
MIN_VOXELS_AFTER_SHRINK = 8


def correct_bias(
    image: Image,
    *,
    shrink_factor: int,
    iterations: list[int],
    spline_distance_mm: float,
    threads: int,
) -> Image:
    """Bring a scan to its RAS 1 mm grid and divide by the bias field N4 finds there.

    The field is fitted on an image made smaller by `shrink_factor` and applied at full resolution: a field
    is smooth, so that only time is lost by fitting it finer (shrink 4 and the full image agree to r = 0.99).

    Parameters
    ----------
    image : Image
        A head or an extracted brain, any orientation and spacing.
    shrink_factor : int
        N4 works on an image smaller by this factor along every axis that is long enough.
    iterations : list of int
        At most so many at each level; every level halves the distance between knots.
    spline_distance_mm : float
        Distance between knots of the first level.
    threads : int
        Cores ITK may use.

    Returns
    -------
    Image
        float32 on the RAS 1 mm grid, 0 where the scan was 0 or below.

    Raises
    ------
    InputError
        Nothing in the scan is above 0.

    Notes
    -----
    N4: Tustison et al., IEEE Trans Med Imaging 29 (2010) 1310, in SimpleITK's implementation.
    """
    grid = canonical_grid(image.grid)
    # Linear: cubic interpolation rings below 0 beside bright fat, and N4 takes logarithms.
    data = np.maximum(resample(image, grid, order=1).data, 0.0)
    mask = foreground(data)
    if not mask.any():
        raise InputError(
            image.path or "scan",
            found=f"nothing above background (largest value {float(image.data.max()):g})",
            expected="a scan with tissue brighter than the background",
            advice="Export the scan again: magnitudes are needed, not phases or differences.",
            reason=Reason.EMPTY_SCAN,
        )
    shrink = [max(1, min(int(shrink_factor), n // MIN_VOXELS_AFTER_SHRINK)) for n in grid.shape]
    full, inside = _to_itk(data), _to_itk(mask.astype(np.uint8))
    small, small_inside = sitk.Shrink(full, shrink), sitk.Shrink(inside, shrink)

    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfThreads(int(threads))
    n4.SetMaximumNumberOfIterations([int(n) for n in iterations])
    # B-spline order 3: `spans` intervals take `spans + 3` control points. The origin plays no part, the extent does.
    spans = [max(1, int(np.ceil(n / spline_distance_mm))) for n in grid.shape]
    n4.SetNumberOfControlPoints([n + 3 for n in spans])
    n4.Execute(small, small_inside)

    was = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(int(threads))
    try:
        log_field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(full)).T
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(was)
    # The mean brightness of the foreground stays: N4 leaves the field's level open.
    log_field = log_field - log_field[mask].mean()
    out = data / np.exp(log_field)
    out[~np.isfinite(out)] = 0.0
    return Image(out.astype(np.float32), grid.affine)


def foreground(data: np.ndarray) -> np.ndarray:
    """Return head against air: Otsu on logarithms of what is above 0, holes filled.

    Parameters
    ----------
    data : (X, Y, Z) array
        A scan, background near 0.

    Returns
    -------
    (X, Y, Z) bool
        All False when nothing is above 0.
    """
    positive = data > 0
    if not positive.any():
        return positive
    # Half of the Otsu threshold of a T1w head lies between air and dark tissue. The few brightest voxels (fat,
    # vessels with contrast agent) would move it, so they are clipped.
    values = data[positive]
    top = np.percentile(values, 99)
    threshold = _otsu(np.minimum(values, top)) / 2
    if (~positive).mean() > 0.5 and np.percentile(values, 2) > 0.25 * threshold:
        return positive  # background was set to 0 already
    return ndimage.binary_fill_holes(data > threshold)


def _otsu(values: np.ndarray) -> float:
    """Threshold that parts values into two classes with the least variance inside them (Otsu 1979)."""
    counts, edges = np.histogram(values, bins=256)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    between = np.nan_to_num(between[:-1])
    # Between air and tissue the criterion is flat over all values that do not occur: take the middle, where
    # skimage.filters.threshold_otsu takes the lower end (38 instead of 189 between noise of 20 and tissue of 500).
    return float(centres[:-1][between >= (1 - 1e-4) * between.max()].mean())


def _to_itk(data: np.ndarray) -> sitk.Image:
    """Wrap a 1 mm array; its place in the world does not matter for a bias field."""
    return sitk.GetImageFromArray(np.ascontiguousarray(data.T))
