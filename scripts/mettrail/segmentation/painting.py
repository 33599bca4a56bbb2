"""Lesions and vessels painted into training patches: blobs anywhere in the brain, and bright tubes that are none.

Simulated patients have a few lesions each, at the places and with the looks that the simulation gives them. Painting
gives every patch others, so that a network cannot learn where lesions are, only what they look like.
"""

from __future__ import annotations

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from scipy import ndimage

from mettrail.images import ENHANCING, NECROSIS

# Whole-number labels of a training patch; nnU-Net marks what is outside the brain with -1.
_OUTSIDE = -1


class PaintLesions(BasicTransform):
    """Paint lesions, with their labels, and vessels, without, into the image channel of some patches.

    Parameters
    ----------
    lesion_prob, vessel_prob : float
        Share of patches that get one to three lesions; and that get one to three vessels.
    radius_mm : (low, high)
        Of lesions; drawn evenly on a logarithmic scale. Patches have voxels of 1 mm.
    contrast : (low, high)
        Above the tissue around, in standard deviations of the brain's intensities; logarithmic, too.
    ring_prob : float
        Share of lesions with a dark core.
    vessel_radius_mm : (low, high)

    Notes
    -----
    Randomness comes from numpy's global generator, as all of nnU-Net's.
    """

    def __init__(self, *, lesion_prob, vessel_prob, radius_mm, contrast, ring_prob, vessel_radius_mm):
        super().__init__()
        self.lesion_prob, self.vessel_prob, self.ring_prob = lesion_prob, vessel_prob, ring_prob
        self.radius_mm, self.contrast, self.vessel_radius_mm = radius_mm, contrast, vessel_radius_mm

    def apply(self, data_dict: dict, **_) -> dict:
        """Paint into ``image`` (C, Z, Y, X) and ``segmentation`` (1, Z, Y, X), both changed in place."""
        image, labels = data_dict["image"][0].numpy(), data_dict["segmentation"][0].numpy()
        rng = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002
        if rng.random() < self.vessel_prob:
            for _ in range(rng.integers(1, 4)):
                self._paint_vessel(image, labels, rng)
        if rng.random() < self.lesion_prob:
            for _ in range(rng.integers(1, 4)):
                self._paint_lesion(image, labels, rng)
        data_dict["image"][0], data_dict["segmentation"][0] = torch.from_numpy(image), torch.from_numpy(labels)
        return data_dict

    def _paint_lesion(self, image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> None:
        """Paint a rough ellipsoid where no lesion is, whole or with a core."""
        radius = float(np.exp(rng.uniform(*np.log(self.radius_mm))))
        centre = _draw_place(labels, rng)
        if centre is None:
            return
        away = _offsets(image.shape, centre)
        turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
        away = (away @ turn) / np.exp(rng.uniform(-0.25, 0.25, 3))
        rough = rng.uniform(0.02, 0.2) * radius * _smooth_noise(image.shape, max(radius / 2.5, 1.0), rng)
        depth = radius - np.linalg.norm(away, axis=-1) + rough
        inside = depth > 0
        near = ndimage.binary_dilation(inside, iterations=2)
        taken = np.isin(labels, (ENHANCING, NECROSIS))
        around = near & ~inside & (labels != _OUTSIDE)
        if (taken & near).any() or not around.any() or not inside.any():
            return
        ground, contrast = image[around].mean(), np.exp(rng.uniform(*np.log(self.contrast)))
        soft = np.clip(depth / rng.uniform(0.6, 1.6) + 0.5, 0, 1)
        soft[labels == _OUTSIDE] = 0
        labels[inside & (labels != _OUTSIDE)] = ENHANCING
        image += soft * contrast * (1 + 0.07 * _smooth_noise(image.shape, 1.0, rng))
        if radius > 3 and rng.random() < self.ring_prob:
            core = depth - rng.uniform(0.15, 0.55) * radius
            soft = np.clip(core + 0.5, 0, 1) * (labels != _OUTSIDE)
            image += soft * (ground + rng.uniform(-1.5, 0.3) - image)
            labels[(core > 0) & (labels != _OUTSIDE)] = NECROSIS

    def _paint_vessel(self, image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> None:
        """Paint a bent tube through the patch; labels stay."""
        centre = _draw_place(labels, rng)
        if centre is None:
            return
        radius = float(np.exp(rng.uniform(*np.log(self.vessel_radius_mm))))
        along, across, other = np.linalg.qr(rng.standard_normal((3, 3)))[0].T
        away = _offsets(image.shape, centre)
        run = away @ along
        bend = rng.uniform(-0.015, 0.015) * run**2
        distance = np.hypot(away @ across - bend, away @ other)
        soft = np.clip(radius - distance + 0.5, 0, 1)
        # A vessel neither runs through a lesion nor outside the brain.
        soft[np.isin(labels, (_OUTSIDE, ENHANCING, NECROSIS))] = 0
        image += soft * np.exp(rng.uniform(*np.log(self.contrast)))


def _offsets(shape: tuple[int, ...], centre: np.ndarray) -> np.ndarray:
    return np.stack(np.meshgrid(*[np.arange(n) - c for n, c in zip(shape, centre)], indexing="ij"), -1)


def _smooth_noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Return noise of standard deviation 1 that varies over `sigma` voxels."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), sigma)
    return noise / noise.std()


def _draw_place(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Return a voxel inside the brain and in no lesion; None where there is none."""
    free = np.flatnonzero((labels != _OUTSIDE) & (labels != ENHANCING) & (labels != NECROSIS))
    return None if free.size == 0 else np.array(np.unravel_index(rng.choice(free), labels.shape))
