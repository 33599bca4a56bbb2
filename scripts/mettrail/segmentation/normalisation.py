"""Normalisation: nnU-Net's as one has to write it oneself, and one it does not bring.

mettrail.json names the latter ``SliceEqualization``; such a channel has ``NoNormalization`` in plans.json.
"""

from __future__ import annotations

import numpy as np

SLICE_EQUALISATION = "SliceEqualization"
# Times the 90th percentile, which is tissue in a whole head, too, most of which is air. In real brains fat, and vessels
# with contrast agent, have less than 5 times that.
_BRIGHTEST, _TISSUE = 8.0, 90


def name_in_plans(normalisation: str) -> str:
    """Return what plans.json has to say for a normalisation of mettrail.json."""
    return "NoNormalization" if normalisation == SLICE_EQUALISATION else normalisation


def limit_brightness(image: np.ndarray) -> np.ndarray:
    """Bring what is brighter than any tissue down to a limit: 8 times the 90th percentile of what is not 0.

    Beside metal, and where numbers overflowed, a few voxels may be a hundred times as bright as the brain. The standard
    deviation is theirs then, and to a network that is given z-scores the brain is one grey.

    Parameters
    ----------
    image : (X, Y, Z) float
        A brain, 0 outside, or a head. One with values below 0 stays as it is.

    Examples
    --------
    >>> limit_brightness(np.array([0.0, *[10] * 20, 5000]))[-2:].tolist()
    [10.0, 80.0]
    """
    seen = image[image != 0]
    if not seen.size or seen.min() < 0:
        return image
    limited: np.ndarray = np.minimum(image, _BRIGHTEST * np.percentile(seen, _TISSUE))
    return limited


def z_scores(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return an image less its mean within the brain, by its standard deviation there, as nnU-Net works them out.

    Parameters
    ----------
    image : (X, Y, Z) float
    inside : (X, Y, Z) bool

    Examples
    --------
    >>> z_scores(np.array([90.0, 1, 3]), np.array([False, True, True])).tolist()
    [88.0, -1.0, 1.0]
    """
    values = image[inside]
    scores: np.ndarray = (image - values.mean()) / max(values.std(), 1e-8)
    return scores


def equalise_slices(image: np.ndarray) -> np.ndarray:
    """Equalise the histogram of each axial slice (Grøvik et al. 2020), of what is not 0 in it.

    Parameters
    ----------
    image : (X, Y, Z) float
        RAS, 0 outside the brain.

    Returns
    -------
    (X, Y, Z) float32
        The share of a slice's voxels that are no brighter; 0 stays 0.

    Examples
    --------
    >>> image = np.zeros((2, 2, 1)); image[:, :, 0] = [[0, 5], [5, 900]]
    >>> equalise_slices(image)[:, :, 0].astype(float).round(2).tolist()
    [[0.0, 0.67], [0.67, 1.0]]
    """
    out = np.zeros(image.shape, np.float32)
    for z in range(image.shape[2]):
        seen = image[:, :, z] != 0
        if seen.any():
            _, place, count = np.unique(image[:, :, z][seen], return_inverse=True, return_counts=True)
            out[:, :, z][seen] = (np.cumsum(count) / seen.sum())[place.reshape(-1)]
    return out
