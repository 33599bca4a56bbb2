"""Priors as re-segmentation meets them, good and bad: for training only.

In use the prior is the prior visit's whole lesions (labels 1 and 3), propagated by deformable registration with nearest
neighbour. It is a hint, not the truth: slightly off, a lesion missing, a lesion that has vanished since, a false
positive. A network trained on perfect priors would copy them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mettrail.geometry import NEIGHBOURS


@dataclass(frozen=True)
class PriorSettings:
    """How priors differ from the truth: ``priors`` of config/train.yaml and ``train: priors`` of config/config.yaml.

    Parameters
    ----------
    shift_mm : float
        Standard deviation of each lesion's shift.
    resize_prob : float
        A lesion's prior is one voxel too large or too small.
    drop_prob, drop_all_prob : float
        A lesion has no prior; none has.
    fictitious_prob : float
        A lesion that was not there before gets a fictitious prior:
    fictitious_dilate_vox, fictitious_erode_vox, fictitious_shift_vox : (low, high)
        itself dilated, eroded and moved along all axes within these.
    nothing_prob : float
        There are one or two priors where no lesion ever was.
    nothing_radius_mm : (low, high)
        Their radius.

    Notes
    -----
    Fictitious priors follow Andrearczyk et al., Sci Rep 2024 (models and training): dilation 0 to 6, erosion 0 to 3,
    translation -6 to 6 voxels. Everything else is ours.
    """

    shift_mm: float
    resize_prob: float
    drop_prob: float
    drop_all_prob: float
    fictitious_prob: float
    fictitious_dilate_vox: tuple[int, int]
    fictitious_erode_vox: tuple[int, int]
    fictitious_shift_vox: tuple[int, int]
    nothing_prob: float
    nothing_radius_mm: tuple[float, float]


def make_prior(
    previous: np.ndarray,
    current: np.ndarray,
    brain: np.ndarray,
    *,
    rng: np.random.Generator,
    settings: PriorSettings,
) -> np.ndarray:
    """Make one prior for a session.

    Parameters
    ----------
    previous, current : (X, Y, Z) unsigned int
        Whole lesions of the prior and of this session, numbered, on one 1 mm grid. 0 is background.
    brain : (X, Y, Z) bool
        Where priors may lie.
    rng : numpy Generator
    settings : PriorSettings

    Returns
    -------
    (X, Y, Z) bool
    """
    prior: np.ndarray = np.zeros(previous.shape, bool)
    if rng.random() < settings.drop_all_prob:
        return prior
    for box, lesion in _lesions(previous):
        if rng.random() < settings.drop_prob:
            continue
        lesion = np.pad(lesion, 2)
        if rng.random() < settings.resize_prob:
            larger = ndimage.binary_dilation(lesion, NEIGHBOURS[6])
            smaller = ndimage.binary_erosion(lesion, NEIGHBOURS[6])
            lesion = larger if rng.random() < 0.5 or not smaller.any() else smaller
        _stamp(prior, lesion, box, 2, np.rint(rng.normal(0, settings.shift_mm, 3)).astype(int))
    for box, lesion in _lesions(current):
        seen_before = previous[box][lesion].any()
        if seen_before or rng.random() >= settings.fictitious_prob:
            continue
        reach = settings.fictitious_dilate_vox[1]
        fictitious = grow_and_shrink(
            np.pad(lesion, reach),
            rng=rng,
            dilate_vox=settings.fictitious_dilate_vox,
            erode_vox=settings.fictitious_erode_vox,
        )
        low, high = settings.fictitious_shift_vox
        _stamp(prior, fictitious, box, reach, rng.integers(low, high + 1, 3))
    if rng.random() < settings.nothing_prob:
        places = np.argwhere(brain & (current == 0))
        for centre in places[rng.integers(0, len(places), int(rng.integers(1, 3)))] if len(places) else ():
            radius = rng.uniform(*settings.nothing_radius_mm)
            half = int(np.ceil(radius))
            grid = np.indices((2 * half + 1,) * 3) - half
            stretch = rng.uniform(0.7, 1.3, 3)[:, None, None, None]
            ball = ((grid * stretch) ** 2).sum(0) <= radius**2
            box = tuple(slice(int(c), int(c) + 1) for c in centre)
            _stamp(prior, ball, box, half, np.zeros(3, int))
    prior &= brain
    return prior


def grow_and_shrink(
    lesion: np.ndarray, *, rng: np.random.Generator, dilate_vox: tuple[int, int], erode_vox: tuple[int, int]
) -> np.ndarray:
    """Return a fictitious earlier lesion: dilated, then eroded, each by a random number of voxels.

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
    changed: np.ndarray = ndimage.binary_dilation(lesion, NEIGHBOURS[6], dilate) if dilate else lesion
    eroded: np.ndarray = ndimage.binary_erosion(changed, NEIGHBOURS[6], erode) if erode else changed
    return eroded if eroded.any() else changed


def _lesions(labels: np.ndarray) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    """Yield each lesion's box and its mask within."""
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            yield box, labels[box] == number


def _stamp(prior: np.ndarray, lesion: np.ndarray, box: tuple[slice, ...], pad: int, shift: np.ndarray) -> None:
    """Add a lesion, cut out with `pad` around `box`, to the prior, moved by `shift` voxels."""
    start = np.array([s.start for s in box]) - pad + shift
    stop = start + lesion.shape
    low, high = np.maximum(start, 0), np.minimum(stop, prior.shape)
    if (high <= low).any():
        return
    into = tuple(slice(a, b) for a, b in zip(low, high))
    out_of = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start))
    prior[into] |= lesion[out_of]
