"""Patches of prepared heads that something is painted into: cut anywhere, turned, stripped anew, seen by any scanner.

Intensities are z-scores within the brain mask; voxels are 1 mm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from mettrail.training.cases import smooth_noise
from mettrail.training.trainer import draw_mask


@dataclass(frozen=True)
class Head:
    """A prepared session without metastases.

    Parameters
    ----------
    t1w : (X, Y, Z) float32
        With contrast agent or without.
    flair : (X, Y, Z) float32, optional
        On the same grid.
    beyond : (X, Y, Z) float32
        mm beyond the brain's surface, negative within, infinite where there is no image.
    """

    t1w: np.ndarray
    flair: np.ndarray | None
    beyond: np.ndarray


# Paints into post-contrast T1w, FLAIR if there is any, within a mask: images (C, X, Y, Z) and labels 0 to 4.
Painter = Callable[
    [np.ndarray, np.ndarray | None, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]
]  # fmt: skip


class PaintedPatches(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Patches by number: the same number is the same patch.

    Parameters
    ----------
    heads : sequence of Head
    paint : function
        See `Painter`; `edema.paint` or `resection.paint`, given their settings.
    outputs : sequence of tuple of int
        The labels that each output of the network but the first, background, stands for.
    count : int
    patch : (X, Y, Z)
    augmentation : dict
        Of config/train.yaml: ``rotate_deg``, ``scale``, ``masks``.
    seed : int
    """

    def __init__(
        self,
        heads: Sequence[Head],
        *,
        paint: Painter,
        outputs: Sequence[tuple[int, ...]],
        count: int,
        patch: Sequence[int],
        augmentation: Mapping[str, Any],
        seed: int,
    ):
        self.heads, self.paint, self.outputs = heads, paint, outputs
        self.count, self.patch, self.augmentation, self.seed = count, tuple(patch), augmentation, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (C, Z, Y, X) and outputs (1, Z, Y, X), from 0."""
        if not 0 <= number < self.count:
            raise IndexError(number)
        rng = np.random.default_rng([self.seed, number])
        head = self.heads[int(rng.integers(len(self.heads)))]
        t1w, flair, beyond = _cut(head, self.patch, rng, self.augmentation)
        mask = draw_mask(beyond, rng, **self.augmentation["masks"])
        images, labels = self.paint(t1w, flair, mask, rng)
        wanted = np.zeros(labels.shape, np.int64)
        for output, stands_for in enumerate(self.outputs, start=1):
            wanted[np.isin(labels, stands_for)] = output
        # (Z, Y, X), as nnU-Net's readers give arrays to networks.
        return torch.from_numpy(images.transpose(0, 3, 2, 1).copy()), torch.from_numpy(wanted.T[None].copy())


def _cut(
    head: Head, patch: tuple[int, ...], rng: np.random.Generator, given: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Cut a patch around a place in the brain, turned, stretched and mirrored."""
    inside = np.flatnonzero(head.beyond < 0)
    centre = np.array(np.unravel_index(inside[rng.integers(len(inside))], head.beyond.shape), float)
    angles = rng.uniform(-given["rotate_deg"], given["rotate_deg"], 3)
    low, high = given["scale"]
    axes = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * rng.uniform(low, high, 3)
    axes[:, 0] *= rng.choice([-1, 1])
    offsets = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in patch], indexing="ij")).reshape(3, -1)
    where = (axes @ offsets + centre[:, None]).astype(np.float32)
    arrays = [head.t1w, head.flair, head.beyond]
    fill = [0, 0, np.inf]
    cut = [
        None if array is None
        else ndimage.map_coordinates(array, where, order=1, mode="constant", cval=value).reshape(patch)
        for array, value in zip(arrays, fill)
    ]  # fmt: skip
    t1w, flair, beyond = cut
    assert t1w is not None
    assert beyond is not None
    return t1w, flair, np.where(np.isfinite(beyond), beyond, np.inf)


def vary_brightness(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, bias, noise, brightness and contrast of a channel."""
    if rng.random() < 0.25:
        image = ndimage.gaussian_filter(image, rng.uniform(0.3, 1.0))
    if rng.random() < 0.5:
        image = image + rng.uniform(0.05, 0.4) * smooth_noise(image.shape, rng)
    if rng.random() < 0.4:
        image = image + rng.uniform(0.02, 0.25) * rng.standard_normal(image.shape, dtype=np.float32)
    bend = np.exp(0.15 * rng.standard_normal()) if rng.random() < 0.3 else 1.0
    bent = np.sign(image) * np.abs(image) ** bend
    seen: np.ndarray = np.exp(0.15 * rng.standard_normal()) * bent + 0.15 * rng.standard_normal()
    return seen
