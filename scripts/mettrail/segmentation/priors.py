"""Priors as re-segmentation meets them, good and bad: for training only.

At work the prior is last visit's whole lesions (labels 1 and 3), brought over by deformable registration with nearest
neighbour. It is a hint, not the truth: a bit off, a lesion missing, a lesion that has vanished since, a finding that
never was. A network trained on perfect priors would copy them.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mettrail.geometry import NEIGHBOURS


def make_prior(
    previous: np.ndarray,
    current: np.ndarray,
    brain: np.ndarray,
    *,
    rng: np.random.Generator,
    shift_mm: float,
    resize_prob: float,
    drop_prob: float,
    drop_all_prob: float,
    fictitious_prob: float,
    fictitious_dilate_vox: tuple[int, int],
    fictitious_erode_vox: tuple[int, int],
    fictitious_shift_vox: tuple[int, int],
    nothing_prob: float,
    nothing_radius_mm: tuple[float, float],
) -> np.ndarray:
    """Make one prior for a session.

    Parameters
    ----------
    previous, current : (X, Y, Z) unsigned int
        Whole lesions of the last and of this session, numbered, on one 1 mm grid. 0 is background.
    brain : (X, Y, Z) bool
        Where priors may lie.
    rng : numpy Generator
    shift_mm, resize_prob, drop_prob, drop_all_prob, fictitious_prob, nothing_prob, nothing_radius_mm
        See ``priors`` in config/train.yaml.
    fictitious_dilate_vox, fictitious_erode_vox, fictitious_shift_vox : (2,) int
        Made-up priors of lesions without one: dilation 0 to 6, erosion 0 to 3, translation -6 to 6 voxels in all axes.

    Returns
    -------
    (X, Y, Z) bool

    Notes
    -----
    Made-up priors follow Andrearczyk et al., Sci Rep 2024 (models and training). Everything else is ours.
    """
    prior = np.zeros(previous.shape, bool)
    if rng.random() < drop_all_prob:
        return prior
    for box, lesion in _lesions(previous):
        if rng.random() < drop_prob:
            continue
        lesion = np.pad(lesion, 2)
        if rng.random() < resize_prob:
            larger = ndimage.binary_dilation(lesion, NEIGHBOURS[6])
            smaller = ndimage.binary_erosion(lesion, NEIGHBOURS[6])
            lesion = larger if rng.random() < 0.5 or not smaller.any() else smaller
        _stamp(prior, lesion, box, 2, np.rint(rng.normal(0, shift_mm, 3)).astype(int))
    for box, lesion in _lesions(current):
        known = previous[box][lesion].any()
        if known or rng.random() >= fictitious_prob:
            continue
        reach = fictitious_dilate_vox[1]
        lesion = np.pad(lesion, reach)
        made_up = grow_and_shrink(lesion, rng=rng, dilate_vox=fictitious_dilate_vox, erode_vox=fictitious_erode_vox)
        shift = rng.integers(fictitious_shift_vox[0], fictitious_shift_vox[1] + 1, 3)
        _stamp(prior, made_up, box, reach, shift)
    if rng.random() < nothing_prob:
        places = np.argwhere(brain & (current == 0))
        for centre in places[rng.integers(0, len(places), int(rng.integers(1, 3)))] if len(places) else ():
            radius = rng.uniform(*nothing_radius_mm)
            half = int(np.ceil(radius))
            grid = np.indices((2 * half + 1,) * 3) - half
            stretch = rng.uniform(0.7, 1.3, 3)[:, None, None, None]
            ball = ((grid * stretch) ** 2).sum(0) <= radius**2
            box = tuple(slice(int(c), int(c) + 1) for c in centre)
            _stamp(prior, ball, box, half, np.zeros(3, int))
    return prior & brain


def grow_and_shrink(
    lesion: np.ndarray, *, rng: np.random.Generator, dilate_vox: tuple[int, int], erode_vox: tuple[int, int]
) -> np.ndarray:
    """Make up what a lesion looked like before: dilated, then eroded, each by a random number of voxels.

    Parameters
    ----------
    lesion : (X, Y, Z) bool
        With room around it.
    rng : numpy Generator
    dilate_vox, erode_vox : (low, high)

    Returns
    -------
    (X, Y, Z) bool
        Not eroded where nothing would be left.
    """
    dilate, erode = (int(rng.integers(low, high + 1)) for low, high in (dilate_vox, erode_vox))
    changed = ndimage.binary_dilation(lesion, NEIGHBOURS[6], dilate) if dilate else lesion
    eroded = ndimage.binary_erosion(changed, NEIGHBOURS[6], erode) if erode else changed
    return eroded if eroded.any() else changed


def _lesions(labels: np.ndarray):
    """Yield each lesion's box and its mask within."""
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            yield box, labels[box] == number


def _stamp(prior: np.ndarray, lesion: np.ndarray, box: tuple, pad: int, shift: np.ndarray) -> None:
    """Add a lesion, cut out with `pad` around `box`, to the prior, moved by `shift` voxels."""
    start = np.array([s.start for s in box]) - pad + shift
    stop = start + lesion.shape
    low, high = np.maximum(start, 0), np.minimum(stop, prior.shape)
    if (high <= low).any():
        return
    into = tuple(slice(a, b) for a, b in zip(low, high))
    out_of = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start))
    prior[into] |= lesion[out_of]
