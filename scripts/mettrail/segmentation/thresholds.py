"""What a model's thresholds and calibration make of its class probabilities: voxels only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy import ndimage, special

from mettrail.geometry import label_components, whole_lesion
from mettrail.images import CAVITY, EDEMA, ENHANCING, NECROSIS

# What so many steps across faces of voxels lead to from the prior is at a lesion of the prior visit: less far across
# corners than a distance in mm (`segment.fusion.touch_mm`). The models' thresholds were chosen with it.
AT_PRIOR_VOX = 3
# Where a component is scored again, beside the model's own threshold.
SCORE_LEVELS = (0.5, 0.7, 0.85)
# Of a larger component the most certain 1 mL is scored: what only resembles a lesion seldom is as large and as certain.
SCORED_VOX = 1000
# Means nearer to 0 or 1 have no logit worth the name: probabilities are stored as bytes.
MIN_MEAN = 0.002


def apply_threshold(
    probabilities: np.ndarray, *, threshold: float, min_component_score: float, prior_mask: np.ndarray | None = None
) -> np.ndarray:
    """Apply a model's threshold and least component score, so that whole lesion is what reaches 0.5.

    Parameters
    ----------
    probabilities : (X, Y, Z, 5) float
    threshold : float
        Probability of whole lesion from which a voxel is one.
    min_component_score : float
        Voxels of a lower confidence score (`score_components`) are held below the threshold: vessels and noise seldom
        score high, lesions do.
    prior_mask : (X, Y, Z) bool, optional
        Lesions of the prior visit, where they lie now: components within 3 voxels of them need no score, having been
        seen before.

    Returns
    -------
    (X, Y, Z, 5) float32
    """
    whole = whole_lesion(probabilities)
    if min_component_score > 0:
        scores = score_components(whole, threshold=threshold, prior_mask=prior_mask)
        rejected = (whole >= threshold) & (scores < min_component_score)
        kept = np.where(rejected, 0.98 * threshold / np.maximum(whole, 1e-12), 1).astype(np.float32)
        probabilities = probabilities.copy()
        probabilities[..., ENHANCING] *= kept
        probabilities[..., NECROSIS] *= kept
        probabilities[..., 0] += whole * (1 - kept)
    return recentre(probabilities, threshold=threshold)


def score_components(whole: np.ndarray, *, threshold: float, prior_mask: np.ndarray | None = None) -> np.ndarray:
    """Return the confidence score of the connected component that each voxel belongs to.

    It is the mean probability of the component (26 neighbours), or of its most certain 1 mL. A clear lesion that
    touches something uncertain must not be lost with it: components of what reaches a higher level are scored as well,
    by where their mean lies between that level and 1, which is brought to the scale of the threshold. The highest
    counts.

    Parameters
    ----------
    whole : (X, Y, Z) float
        Probability of whole lesion.
    threshold : float
        From here on a voxel is lesion.
    prior_mask : (X, Y, Z) bool, optional
        As for `apply_threshold`: of components within 3 voxels the score is infinite.

    Returns
    -------
    (X, Y, Z) float32
        0 below the threshold.

    Examples
    --------
    A clear lesion of 27 voxels in an uncertain surrounding, which does not score as high:

    >>> whole = np.full((9, 9, 9), 0.4)
    >>> whole[3:6, 3:6, 3:6] = 0.95
    >>> scores = score_components(whole, threshold=0.3)
    >>> [round(float(score), 2) for score in (scores[0, 0, 0], scores[4, 4, 4])]
    [0.42, 0.93]
    """
    scores = np.zeros(whole.shape, np.float32)
    for level in (threshold, *(level for level in SCORE_LEVELS if level > threshold)):
        components, count = label_components(whole >= level)
        if count == 0:
            break
        means = mean_probabilities(whole, components, count)
        scaled = 1 - (1 - np.r_[1.0, means]) * (1 - threshold) / (1 - level)
        if level == threshold and prior_mask is not None and prior_mask.any():
            scaled[np.unique(components[ndimage.binary_dilation(prior_mask, iterations=AT_PRIOR_VOX)])] = np.inf
        scaled[0] = 0
        np.maximum(scores, scaled[components], out=scores)
    return scores


def mean_probabilities(whole: np.ndarray, components: np.ndarray, count: int) -> np.ndarray:
    """Return (count,) mean probabilities of components numbered from 1, of larger ones of their most certain 1 mL."""
    if not count:
        return np.zeros(0)
    numbers = np.arange(1, count + 1)
    means: np.ndarray = ndimage.labeled_comprehension(whole, components, numbers, _mean_of_most_certain, np.float64, 0)
    return means


def _mean_of_most_certain(probabilities: Any) -> float:
    """Return the mean of the highest `SCORED_VOX` of (n,) probabilities."""
    count = min(SCORED_VOX, len(probabilities))
    return float(np.partition(probabilities, -count)[-count:].mean())


def calibrate(means: np.ndarray, calibration: Mapping[str, float]) -> np.ndarray:
    """Return how probable it is that components are lesions, by their mean probabilities (`mean_probabilities`).

    Parameters
    ----------
    means : (n,) float
        Once the model's threshold lies at 0.5.
    calibration : mapping
        ``intercept`` and ``slope`` of mettrail.json: of a logistic regression on the logit of the mean (Platt 1999),
        fitted to what the network called in other heads (`tests/benchmarks/calibration.py`).

    Examples
    --------
    >>> calibrate(np.array([0.3, 0.5, 0.9]), {"intercept": 0.0, "slope": 2.0}).round(3).tolist()
    [0.155, 0.5, 0.988]
    """
    odds = special.logit(np.clip(means, MIN_MEAN, 1 - MIN_MEAN))
    return np.asarray(special.expit(calibration["intercept"] + calibration["slope"] * odds))


def recentre(probabilities: np.ndarray, *, threshold: float) -> np.ndarray:
    """Shift the odds of whole lesion so that `threshold` comes to lie at 0.5; proportions within and without stay.

    Parameters
    ----------
    probabilities : (..., 5) float
    threshold : float
        Between 0 and 1.

    Examples
    --------
    >>> recentre(np.array([0.7, 0.2, 0.0, 0.1, 0.0]), threshold=0.3).round(3).tolist()
    [0.5, 0.333, 0.0, 0.167, 0.0]
    """
    if threshold == 0.5:
        return probabilities
    whole = whole_lesion(probabilities)
    rest = 1 - whole
    shifted = whole * (1 - threshold) / np.maximum(whole * (1 - threshold) + rest * threshold, 1e-12)
    out = np.empty_like(probabilities)
    for label in (ENHANCING, NECROSIS):
        out[..., label] = probabilities[..., label] * shifted / np.maximum(whole, 1e-12)
    for label in (0, EDEMA, CAVITY):
        out[..., label] = probabilities[..., label] * (1 - shifted) / np.maximum(rest, 1e-12)
    return out


def candidate_level(description: Mapping[str, Any]) -> float | None:
    """Return where a model's ``candidate_threshold`` lies in what it predicts, once its threshold lies at 0.5.

    Examples
    --------
    >>> round(candidate_level({"threshold": 0.6, "candidate_threshold": 0.3}), 3)
    0.222
    """
    return _shifted_level(description, "candidate_threshold")


def edge_level(descriptions: Iterable[Mapping[str, Any]]) -> float:
    """Return where edges lie in what networks predict, once their thresholds lie at 0.5; the highest of several.

    Examples
    --------
    >>> round(edge_level([{"threshold": 0.6, "edge_threshold": 0.4}, {"threshold": 0.5, "edge_threshold": 0.2}]), 3)
    0.308
    >>> edge_level([{"threshold": 0.6}])
    0.5
    """
    levels = [_shifted_level(description, "edge_threshold") for description in descriptions]
    return max((0.5 if level is None else level for level in levels), default=0.5)


def _shifted_level(description: Mapping[str, Any], key: str) -> float | None:
    """Return where a second, lower threshold lies once the first one lies at 0.5; None where there is none."""
    lower = description.get(key)
    if lower is None:
        return None
    return float(recentre(np.array([1 - lower, lower, 0.0, 0.0, 0.0]), threshold=description["threshold"])[1])
