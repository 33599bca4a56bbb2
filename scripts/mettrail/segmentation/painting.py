"""Lesions painted into training patches, and what only resembles them: bright vessels, dark pockets.

Simulated patients have a few lesions each, at the places and with the looks that the simulation gives them. Painting
gives every patch others, so that a network cannot learn where lesions are, only what they look like.
"""

from __future__ import annotations

import numpy as np
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from scipy import ndimage

from mettrail.images import ENHANCING, NECROSIS

# Whole-number labels of a training patch; nnU-Net marks what is outside the brain with -1.
_OUTSIDE = -1


class PaintLesions(BasicTransform):
    """Paint lesions, with their labels, and distractors, without, into the image channel of some patches.

    Parameters
    ----------
    lesion_prob, vessel_prob, pocket_prob : float
        Share of patches that get one to three lesions; one to three vessels; one to three dark pockets.
    radius_mm : (low, high)
        Of lesions and pockets; drawn evenly on a logarithmic scale. Patches have voxels of 1 mm.
    contrast : (low, high)
        Of lesions and vessels above, of pockets below the tissue around, in standard deviations of the brain's
        intensities; logarithmic, too.
    ring_prob : float
        Share of lesions with a dark core.
    vessel_radius_mm : (low, high)
    broken_prob : float
        Share of vessels seen in pieces only, as where they wind in and out of thick slices.

    Notes
    -----
    Randomness comes from numpy's global generator, as all of nnU-Net's.
    """

    def __init__(
        self,
        *,
        lesion_prob,
        vessel_prob,
        pocket_prob,
        radius_mm,
        contrast,
        ring_prob,
        vessel_radius_mm,
        broken_prob,
    ):
        super().__init__()
        self.lesion_prob, self.vessel_prob, self.pocket_prob = lesion_prob, vessel_prob, pocket_prob
        self.ring_prob, self.broken_prob = ring_prob, broken_prob
        self.radius_mm, self.contrast, self.vessel_radius_mm = radius_mm, contrast, vessel_radius_mm

    def apply(self, data_dict: dict, **_) -> dict:
        """Paint into ``image`` (C, Z, Y, X) and ``segmentation`` (1, Z, Y, X), both changed in place."""
        image, labels = data_dict["image"][0].numpy(), data_dict["segmentation"][0].numpy()
        rng = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002
        for share, paint in (
            (self.vessel_prob, self._paint_vessel),
            (self.pocket_prob, self._paint_pocket),
            (self.lesion_prob, self._paint_lesion),
        ):
            if rng.random() < share:
                for _ in range(rng.integers(1, 4)):
                    paint(image, labels, rng)
        return data_dict

    def _paint_lesion(self, image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> None:
        """Paint a rough ellipsoid where no lesion is, whole or with a core."""
        radius, contrast = _draw_size(self.radius_mm, rng), _draw_size(self.contrast, rng)
        box, depth = _draw_blob(labels, radius, rng)
        if box is None:
            return
        image, labels = image[box], labels[box]
        brain = labels != _OUTSIDE
        inside = depth > 0
        around = ndimage.binary_dilation(inside, iterations=2) & ~inside & brain
        if not around.any():
            return
        ground = image[around].mean()
        soft = np.clip(depth / rng.uniform(0.6, 1.6) + 0.5, 0, 1) * brain
        labels[inside & brain] = ENHANCING
        image += soft * contrast * (1 + 0.07 * _smooth_noise(image.shape, 1.0, rng))
        if radius > 3 and rng.random() < self.ring_prob:
            core = depth - rng.uniform(0.15, 0.55) * radius
            soft = np.clip(core + 0.5, 0, 1) * brain
            image += soft * (ground + rng.uniform(-1.5, 0.3) - image)
            labels[(core > 0) & brain] = NECROSIS

    def _paint_pocket(self, image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> None:
        """Paint a dark blob without a rim, such as a widened fluid space; labels stay."""
        box, depth = _draw_blob(labels, _draw_size(self.radius_mm, rng), rng)
        if box is not None:
            soft = np.clip(depth / rng.uniform(0.6, 1.6) + 0.5, 0, 1) * (labels[box] != _OUTSIDE)
            image[box] -= soft * _draw_size(self.contrast, rng)

    def _paint_vessel(self, image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> None:
        """Paint a bent tube through the patch, whole or in pieces; labels stay."""
        centre = _draw_place(labels, rng)
        if centre is None:
            return
        radius = _draw_size(self.vessel_radius_mm, rng)
        along, across, other = np.linalg.qr(rng.standard_normal((3, 3)))[0].T
        away = _offsets(image.shape, centre)
        run = away @ along
        bend = rng.uniform(-0.015, 0.015) * run**2
        distance = np.hypot(away @ across - bend, away @ other)
        soft = np.clip(radius - distance + 0.5, 0, 1)
        if rng.random() < self.broken_prob:
            wave = _smooth_noise((256,), rng.uniform(2, 6), rng)
            soft *= np.clip(0.3 + wave[np.rint(run).astype(int) % 256], 0, 1)
        # A vessel neither runs through a lesion nor outside the brain.
        soft[np.isin(labels, (_OUTSIDE, ENHANCING, NECROSIS))] = 0
        image += soft * _draw_size(self.contrast, rng)


def _draw_size(between: tuple[float, float], rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(between))))


def _draw_blob(labels: np.ndarray, radius: float, rng: np.random.Generator) -> tuple:
    """Return where a rough ellipsoid lies and the depth (mm) below its surface there.

    Two times None where there is no room for it beside the lesions.
    """
    centre = _draw_place(labels, rng)
    if centre is None:
        return None, None
    # Long axes and rough surfaces stay within this.
    reach = int(np.ceil(1.9 * radius)) + 3
    box = tuple(slice(max(c - reach, 0), c + reach + 1) for c in centre)
    labels = labels[box]
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    away = (_offsets(labels.shape, centre - [s.start for s in box]) @ turn) / np.exp(rng.uniform(-0.25, 0.25, 3))
    rough = rng.uniform(0.02, 0.2) * radius * _smooth_noise(labels.shape, max(radius / 2.5, 1.0), rng)
    depth = radius - np.linalg.norm(away, axis=-1) + rough
    near = ndimage.binary_dilation(depth > 0, iterations=2)
    taken = np.isin(labels, (ENHANCING, NECROSIS))
    return (None, None) if (taken & near).any() or not near.any() else (box, depth)


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
