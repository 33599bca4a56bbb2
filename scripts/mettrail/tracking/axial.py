"""The slices of a scan that are nearest to axial, and the diameters read on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.spatial.distance import pdist

from mettrail.images import Image, voxel_volume_mm3
from mettrail.tracking.chords import (
    TOLERANCE,
    edge_midpoints,
    longest_diameters,
    longest_mm,
    perpendicular_mm,
)
from mettrail.tracking.edges import MARGIN_VOX, EdgeProbability, half_voxel_volumes, origin_of

# Both ends of the longest diameter, RAS mm.
ENDPOINTS = tuple(f"ld_endpoint{end}_{axis}_mm" for end in (1, 2) for axis in "xyz")


def longest_diameter_mm(voxels: np.ndarray, image: Image, *, chord_gap_vox: float) -> float:
    """Return the longest diameter of a mask on the slices nearest to axial, as `measure_instances` reads it.

    Parameters
    ----------
    voxels : (n, 3) int
        Of the mask, on the image's grid.
    image : Image
        Gives the grid.
    chord_gap_vox : float
    """
    low = voxels.min(0)
    mask = np.zeros(np.ptp(voxels, axis=0) + 1, bool)
    mask[tuple((voxels - low).T)] = True
    box = np.array(image.affine, float)
    box[:3, 3] += box[:3, :3] @ low
    ornt, world, mask = to_ras_order(box, mask)
    return float(AxialView.of(world, ornt, mask.shape).measure(mask, np.zeros(3, int), chord_gap_vox)["ld_mm"])


def to_ras_order(affine: np.ndarray, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Turn arrays so that their axes are the nearest to right, anterior, superior; nothing is resampled.

    Parameters
    ----------
    affine : (4, 4) float
    *arrays : (X, Y, Z) arrays

    Returns
    -------
    orientation : (3, 2) array
        The turn, as nibabel writes it.
    affine : (4, 4) float
        Of the turned arrays.
    *arrays : arrays
    """
    ornt = nib.orientations.io_orientation(affine)
    world = np.asarray(affine, float) @ nib.orientations.inv_ornt_aff(ornt, arrays[0].shape)
    turned = (np.ascontiguousarray(nib.orientations.apply_orientation(array, ornt)) for array in arrays)
    return ornt, world, *turned


@dataclass(frozen=True)
class AxialView:
    """The slices of a scan that are nearest to axial, in an array of RAS order."""

    world: np.ndarray
    axis: int
    spacing_mm: np.ndarray
    tilt_deg: float
    stored_reversed: bool
    n_slices: int
    cavity: np.ndarray | None = None

    @classmethod
    def of(
        cls, world: np.ndarray, orientation: np.ndarray, shape: tuple[int, ...], cavity: np.ndarray | None = None
    ) -> AxialView:
        """Make one of an array in RAS order: its affine, how it is stored (`to_ras_order`), and its shape.

        `cavity` says where resection cavities are: what encloses one is not measured across it.
        """
        spacing = np.linalg.norm(world[:3, :3], axis=0)
        upward = np.abs(world[2, :3] / spacing)
        # The last of equals: between planes equally far from axial, the nominally axial one.
        axis = int(np.flatnonzero(upward > upward.max() - TOLERANCE)[-1])
        tilt = float(np.degrees(np.arccos(min(upward[axis], 1.0))))
        stored_axis = int(np.flatnonzero(orientation[:, 0] == axis)[0])
        return cls(world, axis, spacing, tilt, bool(orientation[stored_axis, 1] < 0), shape[axis], cavity)

    @property
    def slice_spacing_mm(self) -> float:
        """Distance of the slices, centre to centre."""
        return float(self.spacing_mm[self.axis])

    @property
    def in_plane_mm(self) -> np.ndarray:
        """Sides of a pixel, (2,)."""
        return np.delete(self.spacing_mm, self.axis)

    def measure(self, mask: np.ndarray, origin: np.ndarray, chord_gap_vox: float) -> dict[str, Any]:
        """Return what is read on slices, for a mask in a box that starts at voxel `origin`."""
        stack = np.moveaxis(mask, self.axis, 0)
        gap = chord_gap_vox * max(self.in_plane_mm)
        levels = [int(k) for k in np.flatnonzero(stack.any((1, 2)))]
        corner = np.delete(origin, self.axis)
        slices = {k: self._fill(stack[k], int(k + origin[self.axis]), corner) for k in levels}
        feret = {k: pdist(edge_midpoints(m) * self.in_plane_mm / 2).max() for k, m in slices.items()}
        best = (0.0, 0, 0)
        chosen: tuple[int, np.ndarray, np.ndarray] | None = None
        for k in sorted(levels, key=lambda k: -feret[k]):
            if feret[k] < best[0] - TOLERANCE:
                break
            length, starts, ends = longest_diameters(
                slices[k], spacing_mm=self.in_plane_mm, gap_mm=gap, at_least_mm=best[0] - TOLERANCE
            )
            # Of equal lengths the larger slice, then the lower one.
            rank = (round(length, 6), int(slices[k].sum()), -int(k))
            if length > 0 and (chosen is None or rank > (round(best[0], 6), *best[1:])):
                best, chosen = (length, *rank[1:]), (k, starts, ends)
        if chosen is None:
            raise ValueError("a mask without a voxel has no diameter")
        k, starts, ends = chosen
        # Of diameters equally long, the one with the longest perpendicular.
        perps = [
            perpendicular_mm(slices[k], *pair, spacing_mm=self.in_plane_mm, gap_mm=gap) for pair in zip(starts, ends)
        ]
        widest = int(np.argmax(np.round(perps, 6)))
        perp, p, q = perps[widest], starts[widest], ends[widest]
        level = int(k + origin[self.axis])
        corners = [self.world @ [*np.insert(np.delete(origin, self.axis) + at, self.axis, level), 1] for at in (p, q)]
        return {
            "ld_mm": best[0],
            "perp_mm": perp,
            "bidim_mm2": best[0] * perp,
            "ld_feret_mm": float(max(feret.values())),
            "ld_slice": self.n_slices - 1 - level if self.stored_reversed else level,
            **dict(zip(ENDPOINTS, np.concatenate([corner[:3] for corner in corners]))),
            "n_slices": len(levels),
            "extent_z_mm": len(levels) * self.slice_spacing_mm,
            "slice_spacing_mm": self.slice_spacing_mm,
        }

    def half_voxel_bounds(
        self, labels: np.ndarray, number: int, origin: np.ndarray, row: dict[str, Any], chord_gap_vox: float
    ) -> dict[str, Any]:
        """Return volume and longest diameter with the edge half a voxel further in, and further out.

        Parameters
        ----------
        labels : (X, Y, Z) int
            From `crop_around` the box of this lesion, which starts at voxel `origin`.
        row : dict
            What `measure` has found.
        """
        volumes = [n * voxel_volume_mm3(self.world) / 1000 for n in half_voxel_volumes(labels, number)]
        level = self._level(row) - origin[self.axis] + MARGIN_VOX
        flat = np.take(labels, level, axis=self.axis)
        filled = self._fill(flat == number, self._level(row), np.delete(origin, self.axis) - MARGIN_VOX)
        mask = np.repeat(np.repeat(filled, 2, 0), 2, 1)
        other = np.repeat(np.repeat((flat > 0) & (flat != number), 2, 0), 2, 1)
        pixel, gap = self.in_plane_mm / 2, chord_gap_vox * max(self.in_plane_mm)
        # Either end of the diameter comes in by a pixel's diagonal at most, unless the lesion falls apart.
        low = ndimage.binary_erosion(mask)
        near = row["ld_mm"] - 2 * np.hypot(*self.in_plane_mm)
        low_mm = longest_mm(low, pixel, gap, near) or longest_mm(low, pixel, gap, 0)
        high_mm = longest_mm(ndimage.binary_dilation(mask) & ~other, pixel, gap, row["ld_mm"])
        return {
            "vol_half_voxel_low_ml": volumes[0],
            "vol_half_voxel_high_ml": volumes[1],
            "ld_half_voxel_low_mm": low_mm,
            "ld_half_voxel_high_mm": max(high_mm, row["ld_mm"]),
        }

    def probability_bounds(
        self, edges: EdgeProbability, number: int, row: dict[str, Any], chord_gap_vox: float
    ) -> dict[str, Any]:
        """Return volume and longest diameter at the contours of 0.75 and 0.25."""
        low, high = edges.masks(number)
        origin = origin_of(edges.boxes[number - 1])
        level, corner = self._level(row) - origin[self.axis], np.delete(origin, self.axis)
        gap = chord_gap_vox * max(self.in_plane_mm)
        flat = [self._fill(np.take(mask, level, axis=self.axis), self._level(row), corner) for mask in (low, high)]
        high_mm = longest_mm(flat[1], self.in_plane_mm, gap, row["ld_mm"])
        return {
            "vol_probability_low_ml": int(low.sum()) * voxel_volume_mm3(self.world) / 1000,
            "vol_probability_high_ml": int(high.sum()) * voxel_volume_mm3(self.world) / 1000,
            "ld_probability_low_mm": min(longest_mm(flat[0], self.in_plane_mm, gap, 0), row["ld_mm"]),
            "ld_probability_high_mm": max(high_mm, row["ld_mm"]),
        }

    def _fill(self, flat: np.ndarray, level: int, corner: np.ndarray) -> np.ndarray:
        """Fill the holes of a mask in a slice, but those that hold a resection cavity; its first pixel is `corner`."""
        filled: np.ndarray = ndimage.binary_fill_holes(flat)
        if self.cavity is None:
            return filled
        plane = np.take(self.cavity, level, axis=self.axis)
        low, high = np.maximum(corner, 0), np.minimum(corner + flat.shape, plane.shape)
        here, there = (
            tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True)) for start in (corner, 0 * corner)
        )
        holes, _ = ndimage.label(filled & ~flat)
        resected = np.unique(holes[here][plane[there]])
        return filled & ~np.isin(holes, resected[resected > 0])

    def _level(self, row: dict[str, Any]) -> int:
        """Return the slice of the longest diameter, counted in RAS order."""
        return int(self.n_slices - 1 - row["ld_slice"] if self.stored_reversed else row["ld_slice"])


def to_stored_order(array: np.ndarray, ornt: np.ndarray) -> np.ndarray:
    """Turn an array in RAS order back to the order of the file."""
    start = np.array([[0, 1], [1, 1], [2, 1]])
    return np.ascontiguousarray(nib.orientations.apply_orientation(array, nib.orientations.ornt_transform(start, ornt)))
