"""A scan turned for the screen, and its slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mettrail.images import Image, resample

Spacing = tuple[float, float]
"""Spacing of a slice, mm: across, downwards."""


@dataclass(frozen=True)
class View:
    """A scan turned for the screen: axis 0 from the patient's right to left, 1 front to back, 2 feet to head.

    Axes are only reordered and reversed, never resampled, so that outlines lie on the voxels that were measured.
    """

    data: np.ndarray
    spacing_mm: tuple[float, float, float]
    affine: np.ndarray
    order: tuple[int, int, int]
    reversed_: tuple[bool, bool, bool]

    @classmethod
    def of(cls, image: Image) -> View:
        """Turn a scan."""
        axes = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
        k = int(np.argmax(np.abs(axes[2])))
        i, j = sorted((a for a in range(3) if a != k), key=lambda a: -abs(axes[0, a]))
        spacing = image.spacing_mm[i], image.spacing_mm[j], image.spacing_mm[k]
        flips = bool(axes[0, i] > 0), bool(axes[1, j] > 0), bool(axes[2, k] < 0)
        view = cls(np.empty(0), spacing, image.affine, (i, j, k), flips)
        return cls(view.turn(image.data), spacing, image.affine, (i, j, k), flips)

    @property
    def in_plane_mm(self) -> Spacing:
        """Spacing of axial slices."""
        return self.spacing_mm[:2]

    def turn(self, data: np.ndarray) -> np.ndarray:
        """Return another array of the same grid, turned alike."""
        steps = tuple(slice(None, None, -1 if r else 1) for r in self.reversed_)
        return np.transpose(data, self.order)[steps]

    def axial(self, index: int) -> int:
        """Return where an axial slice of the file lies after turning."""
        return self.data.shape[2] - 1 - index if self.reversed_[2] else index

    def place(self, world: Sequence[float] | np.ndarray) -> np.ndarray:
        """Return screen millimetres (x, y, z) of a RAS mm point."""
        voxel = (np.linalg.inv(self.affine) @ np.append(np.asarray(world, float), 1))[:3][list(self.order)]
        last = np.array(self.data.shape) - 1
        placed: np.ndarray = np.where(self.reversed_, last - voxel, voxel) * np.array(self.spacing_mm)
        return placed

    def plane(self, data: np.ndarray, name: str, index: int) -> tuple[np.ndarray, Spacing]:
        """Return a slice of an array that was turned, across first, downwards second, with its spacing.

        Parameters
        ----------
        data : (X, Y, Z) array
        name : str
            ``axial``, ``coronal`` or ``sagittal``.
        index : int
        """
        x, y, z = self.spacing_mm
        if name == "axial":
            return data[:, :, index], (x, y)
        if name == "coronal":
            return data[:, index, ::-1], (x, z)
        return data[index, :, ::-1], (y, z)


def mask_on(mask: Image, reference: Image) -> np.ndarray:
    """Return a mask of any grid on the grid of a scan."""
    if mask.grid.matches(reference.grid):
        return mask.data > 0
    return resample(mask.like(mask.data.astype(np.uint8)), reference.grid, order=0).data > 0


def window_of(data: np.ndarray, inside: np.ndarray | None = None) -> tuple[float, float]:
    """Return the grey values shown as black and white: set by tissue, so that fat and vessels do not darken the brain.

    Parameters
    ----------
    data : (X, Y, Z) array
    inside : (X, Y, Z) array of bool or None
        Brain mask. None, or empty: the whole scan sets the values.
    """
    sample = data[inside] if inside is not None and inside.any() else data[::2, ::2]
    sample = sample[sample > 0]
    if sample.size == 0:
        return 0.0, 1.0
    # Air around the head, where there is no mask, would make tissue look bright.
    tissue = sample[sample > 0.1 * np.percentile(sample, 99)]
    low, middle, high = np.percentile(tissue, (1, 60, 99))
    high = min(high, 2.3 * middle)
    return float(min(low, 0.25 * high)), float(high if high > low else low + 1)
