"""Normalisation: nnU-Net's as one has to write it oneself, and one it does not bring.

mettrail.json names the latter ``SliceEqualization``; such a channel has ``NoNormalization`` in plans.json.
"""

from __future__ import annotations

import numpy as np

SLICE_EQUALISATION = "SliceEqualization"


def name_in_plans(normalisation: str) -> str:
    """Return what plans.json has to say for a normalisation of mettrail.json."""
    return "NoNormalization" if normalisation == SLICE_EQUALISATION else normalisation


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
