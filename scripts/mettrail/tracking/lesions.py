"""Lesions of one scan: which voxels belong together, and how large each lesion is.

Sizes are taken on the scan's own grid, never on a resampled one. Arrays are turned to the nearest RAS order first, so
that the order in which a file stores its voxels changes no number and no tie.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cc3d
import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError, cKDTree
from scipy.spatial.distance import pdist
from skimage.measure import marching_cubes, mesh_surface_area

from mettrail import schema, sidecars
from mettrail.errors import GridMismatchError, InputError
from mettrail.images import EDEMA, ENHANCING, NECROSIS, Image, read_labels, read_probabilities, voxel_volume_mm3
from mettrail.reasons import Reason
from mettrail.tracking.chords import (
    TOLERANCE,
    edge_midpoints,
    edge_points,
    longest_diameters,
    longest_mm,
    perpendicular_mm,
)

# A closed cavity larger than this many times the lesion around it is not taken for unlabelled necrosis.
MAX_CAVITY_RATIO = 2
MAX_TILT_DEG = 20
THICK_SLICE_MM = 5
CYSTIC_MAX_ENHANCING = 0.10
# Who may have seen a lesion; of several, the first says it.
SEEN_BY = ("manual", "both", "detection", "resegmentation", "propagation", "sensitive")

# What `read_evidence` reads, by the names of rules' inputs.
EVIDENCE = ("pieces", "evidence", "probabilities", "sidecar")

# Both ends of the longest diameter, RAS mm.
ENDPOINTS = tuple(f"ld_p{end}_{axis}_mm" for end in (1, 2) for axis in "xyz")

# What volume and longest diameter are if the edge lay elsewhere: by the doubt of the segmentation, by half a voxel.
VOLUME_BANDS = tuple(f"vol_{by}_{end}_ml" for by in ("probability", "half_voxel") for end in ("low", "high"))
DIAMETER_BANDS = tuple(f"ld_{by}_{end}_mm" for by in ("probability", "half_voxel") for end in ("low", "high"))
# Networks call a lesion from 0.5 on; the contours halfway to certainty, either way, are their own doubt about its edge.
SURE, DOUBTFUL = 0.75, 0.25
# What is farther from a lesion than this is not its edge, however doubtful it is.
DOUBT_REACH_MM = 5.0
# Room around a lesion in which its edge may move by half a voxel, and so may its neighbours'.
MARGIN_VOX = 2

INSTANCE_COLUMNS = {
    "instance": "Int64",
    "below_birth": "boolean",
    "enhancing": "boolean",
    "n_voxels": "Int64",
    "n_slices": "Int64",
    "extent_z_mm": "float64",
    "slice_spacing_mm": "float64",
    "bbox_x_vox": "Int64",
    "bbox_y_vox": "Int64",
    "bbox_z_vox": "Int64",
    "vol_wl_mm3": "float64",
    "vol_et_mm3": "float64",
    "vol_nc_mm3": "float64",
    "vol_ed_mm3": "float64",
    "vol_wl_ml": "float64",
    "necrosis_fraction": "float64",
    "ld_mm": "float64",
    "perp_mm": "float64",
    "bidim_mm2": "float64",
    "ld_feret_mm": "float64",
    "max3d_mm": "float64",
    "esd_mm": "float64",
    "surface_mm2": "float64",
    "ld_slice": "Int64",
    **dict.fromkeys(ENDPOINTS, "float64"),
    "border_distance_mm": "float64",
    "touches_border": "boolean",
    "cx_mm": "float64",
    "cy_mm": "float64",
    "cz_mm": "float64",
    "mean_probability": "float64",
    "seen_by": "str",
    "confidence": "str",
    **dict.fromkeys((*VOLUME_BANDS, *DIAMETER_BANDS), "float64"),
    "flags": "str",
}


@dataclass(frozen=True)
class Evidence:
    """How sure the segmentation is, by connected pieces (`segmentation.gather_evidence`).

    Parameters
    ----------
    pieces : (X, Y, Z) int
        Number of the piece each lesion voxel belongs to, on the scan's own grid.
    table : DataFrame
        ``index``, ``mean_probability``, ``seen_by``, ``confidence`` of each piece.
    whole : (X, Y, Z) float, optional
        Probability of whole lesion on the scan's own grid; without it the bounds by probability are missing.
    shows_edema : bool
        Whether edema could be told: a person drew it, or the networks saw FLAIR or T2w. On T1w alone with contrast
        agent its label is a guess, and its volumes are missing.
    """

    pieces: np.ndarray
    table: pd.DataFrame
    whole: np.ndarray | None = None
    shows_edema: bool = True


def read_evidence(pieces: Path, table: Path, probabilities: Path, sidecar: Path) -> Evidence:
    """Read what the segmentation has left beside the tissue labels of a scan."""
    return Evidence(
        read_labels(pieces).data,
        schema.read_tsv(table),
        read_probabilities(probabilities).data,
        sidecars.read_json(sidecar)["ShowsEdema"],
    )


def find_instances(
    tissue: np.ndarray,
    *,
    affine: np.ndarray,
    connectivity: int,
    mode: str,
    merge_gap_mm: float,
    merge_small_mm3: float,
    merge_small_frac: float,
    keep_mm3: float,
    keep_vox: int,
    birth_mm3: float,
    birth_vox: int,
) -> np.ndarray:
    """Part the whole-lesion mask (enhancing or necrosis) into lesions.

    A closed cavity without label counts as necrosis when voxels are joined, but is in no lesion of the result.
    Fragments beside a lesion are part of it (``satellite``): each joins the nearest larger component that is close
    enough, one only, so that a crumb between two lesions does not make them one.

    Parameters
    ----------
    tissue : (X, Y, Z) int
        0 background, 1 enhancing, 2 edema, 3 necrosis.
    affine : (4, 4) float
        Voxel index to RAS+ mm.
    connectivity : {6, 18, 26}
        Neighbours of a voxel.
    mode : {'satellite', 'brats'}
        ``brats`` joins what touches after one dilation with an 18-neighbourhood, as the BraTS-METS evaluation does.
    merge_gap_mm, merge_small_mm3, merge_small_frac : float
        ``satellite`` joins components at most this far apart, edge to edge, where the smaller is below so many mm3 or
        at most this fraction of the larger.
    keep_mm3, keep_vox : float, int
        A component up to `keep_mm3`, or of fewer voxels than `keep_vox`, is dropped.
    birth_mm3, birth_vox : float, int
        Size from which a lesion starts a track of its own. Smaller ones stay in the result: they may continue a track.

    Returns
    -------
    (X, Y, Z) int32
        1 is the largest lesion; of equal ones the first by centroid x, y, z in the world.

    Raises
    ------
    InputError
        Settings that cannot be.
    """
    if mode not in ("satellite", "brats"):
        raise _bad_setting("instances: mode", mode, "satellite or brats")
    if connectivity not in (6, 18, 26):
        raise _bad_setting("instances: connectivity", connectivity, "6, 18 or 26")
    if birth_mm3 < keep_mm3 or birth_vox < keep_vox:
        raise _bad_setting(
            "instances: birth_mm3, birth_vox",
            f"{birth_mm3}, {birth_vox}",
            f"at least keep_mm3, keep_vox: {keep_mm3}, {keep_vox}",
        )
    ornt, world, labels = to_ras_order(affine, tissue)
    spacing = np.linalg.norm(world[:3, :3], axis=0)
    voxel_mm3 = voxel_volume_mm3(world)
    out = np.zeros(labels.shape, np.int32)
    whole = (labels == ENHANCING) | (labels == NECROSIS)
    if not whole.any():
        return _stored(out, ornt)
    box = ndimage.find_objects(whole.astype(np.uint8))[0]
    origin = np.array([s.start for s in box])
    # One voxel of background around everything: what touches the border of the image is not closed by it.
    whole = np.pad(whole[box], 1)

    filled = whole | _unlabelled_necrosis(whole)
    if mode == "brats":
        grown = ndimage.binary_dilation(filled, ndimage.generate_binary_structure(3, 2))
        components = cc3d.connected_components(grown, connectivity=26)
    else:
        components = cc3d.connected_components(filled, connectivity=connectivity)
    components = np.where(whole, components, 0)
    count, centroid = _counts_and_centroids(components, world, origin - 1)
    volume = count * voxel_mm3
    owner = np.arange(len(count))
    if mode == "satellite":
        owner = _merge_fragments(
            components,
            volume,
            centroid,
            spacing_mm=spacing,
            gap_mm=merge_gap_mm,
            small_mm3=merge_small_mm3,
            small_frac=merge_small_frac,
        )
    components = owner[components]

    count, centroid = _counts_and_centroids(components, world, origin - 1)
    kept = [i for i in np.flatnonzero(count) if _reaches_keep(count[i], voxel_mm3, keep_mm3, keep_vox)]
    kept.sort(key=lambda i: (-count[i], *np.round(centroid[i], 6)))
    rank = np.zeros(len(count), np.int32)
    rank[kept] = np.arange(1, len(kept) + 1)
    out[box] = rank[components][1:-1, 1:-1, 1:-1]
    return _stored(out, ornt)


def measure_instances(
    instances: np.ndarray,
    tissue: np.ndarray,
    *,
    affine: np.ndarray,
    brain: np.ndarray | None = None,
    evidence: Evidence | None = None,
    chord_gap_vox: float,
    edema_max_mm: float,
    keep_mm3: float,
    keep_vox: int,
    birth_mm3: float,
    birth_vox: int,
) -> tuple[pd.DataFrame, dict]:
    """Measure every lesion of a scan on the scan's own grid.

    Diameters are read on the slices nearest to axial, between midpoints of pixel edges, and stay inside the lesion but
    for gaps of `chord_gap_vox` pixels; the perpendicular crosses the longest diameter in the same slice, as RANO-BM
    (Lin et al. 2015) and RECIST 1.1 read them. Mesh quantities follow the IBSI; volumes count voxels.

    How far both would move with the edge is said twice. ``probability``: at the contours 0.75 and 0.25 of the networks'
    probability of whole lesion, where they and nobody else saw the lesion. ``half_voxel``: with the edge half a voxel
    further in or out along each axis, as voxels in halves tell (a box of 10x5x2 voxels has 9x4x1 left, and gains half a
    voxel at each face; of a sphere of 5 voxels radius volumes come out 5 % of its own too small and 2 % too large). No
    other lesion is entered; what lies between two is the nearer one's. Diameters are those on the slice of `ld_mm`, the
    edge moved within the slice.

    Parameters
    ----------
    instances : (X, Y, Z) int
        From `find_instances`, or any map with one number per lesion.
    tissue : (X, Y, Z) int
        0 background, 1 enhancing, 2 edema, 3 necrosis.
    affine : (4, 4) float
        Voxel index to RAS+ mm, of both.
    brain : (X, Y, Z) bool, optional
        Without it `border_distance_mm` is missing and only the edge of the image is a border.
    evidence : Evidence, optional
        Without it `mean_probability`, `seen_by`, `confidence` and the bounds by probability are missing.
    chord_gap_vox : float
        Longest way a diameter may go outside the lesion, in pixels of the coarser side.
    edema_max_mm : float
        Edema belongs to the nearest lesion up to this far away.
    keep_mm3, keep_vox, birth_mm3, birth_vox
        As in `find_instances`: `enhancing` asks for more than the first two, `below_birth` is less than the last two.

    Returns
    -------
    table : DataFrame
        `INSTANCE_COLUMNS`, one row per lesion by number. `ld_slice` counts from 0 along the file's own slice axis.
    session : dict
        ``edema_unassigned_mm3`` (None where edema could not be told); ``n_subthreshold``, all components too small to
        start a track (those a track takes up are taken off by the matching); ``slice_spacing_mm``.

    Raises
    ------
    GridMismatchError
        Arrays of different shapes.
    """
    of_pieces, whole_probability = (None, None) if evidence is None else (evidence.pieces, evidence.whole)
    for name, other in (
        ("tissue labels", tissue),
        ("brain mask", brain),
        ("pieces", of_pieces),
        ("probabilities", whole_probability),
    ):
        if other is not None and other.shape != instances.shape:
            raise GridMismatchError(
                f"lesions and {name}",
                found=f"{instances.shape} and {other.shape}",
                expected="one voxel grid",
                advice="Measure on the labels the lesions were found in.",
                reason=Reason.GRID_MISMATCH,
            )
    sure = {} if evidence is None else _evidence_of(instances, evidence)
    # Masks drawn by people and lesions carried over have no doubt of their own.
    by_networks = {number for number, said in sure.items() if said["seen_by"] not in (None, "manual", "propagation")}
    optional = {"brain": brain, "whole": whole_probability if by_networks else None}
    given = {name: array for name, array in optional.items() if array is not None}
    ornt, world, instances, tissue, *turned = to_ras_order(affine, instances, tissue, *given.values())
    optional |= dict(zip(given, turned))
    brain = None if brain is None else optional["brain"].astype(bool)
    view = _AxialView.of(world, ornt, instances.shape)
    voxel_mm3 = voxel_volume_mm3(world)
    size = int(instances.max(initial=0)) + 1
    whole = (tissue == ENHANCING) | (tissue == NECROSIS)

    edema, unassigned = np.full(size, np.nan), None
    if evidence is None or evidence.shows_edema:
        edema, unassigned = _count_edema(instances, tissue == EDEMA, size, view.spacing_mm, edema_max_mm)
    doubt = None
    if optional["whole"] is not None:
        doubt = _Doubt.of(np.where(whole, instances, 0), optional["whole"], view.spacing_mm)
    border = _border_distances(instances, brain, view.spacing_mm)
    rows = []
    boxes = ndimage.find_objects(instances)
    for number, box in enumerate(boxes, start=1):
        if box is None:
            continue
        mask = (instances[box] == number) & whole[box]
        if not mask.any():
            continue
        origin = np.array([s.start for s in box])
        n_wl = int(mask.sum())
        n_et = int((mask & (tissue[box] == ENHANCING)).sum())
        enhancing = _reaches_keep(n_et, voxel_mm3, keep_mm3, keep_vox)
        voxels = np.argwhere(mask)
        extent = np.ptp(voxels, axis=0) + 1
        centre = world[:3, :3] @ (voxels.mean(0) + origin) + world[:3, 3]
        at_edge = bool(((voxels + origin == 0) | (voxels + origin == np.array(instances.shape) - 1)).any())
        distance, touches = border[number]
        row = {
            "instance": number,
            "below_birth": n_wl * voxel_mm3 < birth_mm3 - TOLERANCE or n_wl < birth_vox,
            "enhancing": enhancing,
            "n_voxels": n_wl,
            **dict(zip(("bbox_x_vox", "bbox_y_vox", "bbox_z_vox"), map(int, extent))),
            "vol_wl_mm3": n_wl * voxel_mm3,
            "vol_et_mm3": n_et * voxel_mm3,
            "vol_nc_mm3": (n_wl - n_et) * voxel_mm3,
            "vol_ed_mm3": edema[number] * voxel_mm3,
            "vol_wl_ml": n_wl * voxel_mm3 / 1000,
            "necrosis_fraction": (n_wl - n_et) / n_wl,
            "esd_mm": equivalent_diameter_mm(n_wl * voxel_mm3),
            "border_distance_mm": distance,
            "touches_border": touches or at_edge,
            "cx_mm": centre[0],
            "cy_mm": centre[1],
            "cz_mm": centre[2],
            **sure.get(number, {}),
            **_measure_mesh(mask, view.spacing_mm),
            **view.measure(mask, origin, chord_gap_vox),
        }
        around = _crop_around(instances, whole, box)
        row |= view.half_voxel_bounds(around, number, origin, row, chord_gap_vox)
        if doubt is not None and number in by_networks:
            row |= view.probability_bounds(doubt, number, row, chord_gap_vox)
        flags = [
            ("nonconvex", row["ld_feret_mm"] - row["ld_mm"] > max(view.in_plane_mm) + TOLERANCE),
            ("oblique", view.tilt_deg > MAX_TILT_DEG + TOLERANCE),
            ("thick_slice", view.slice_spacing_mm > THICK_SLICE_MM + TOLERANCE),
            ("not_axial_acq", max(view.in_plane_mm) > max(THICK_SLICE_MM, view.slice_spacing_mm) + TOLERANCE),
            ("cystic_only", n_et < CYSTIC_MAX_ENHANCING * n_wl - TOLERANCE),
            ("nonenhancing_remnant", not enhancing),
            ("fov_edge", at_edge),
        ]
        row["flags"] = ";".join(name for name, holds in flags if holds) or None
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(INSTANCE_COLUMNS)).astype(INSTANCE_COLUMNS)
    left_out = whole & (instances == 0)
    n_dropped = int(cc3d.connected_components(left_out, connectivity=26).max()) if left_out.any() else 0
    session = {
        "edema_unassigned_mm3": None if unassigned is None else float(unassigned * voxel_mm3),
        "n_subthreshold": n_dropped + int(table["below_birth"].sum()),
        "slice_spacing_mm": view.slice_spacing_mm,
    }
    return table, session


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
    return _AxialView.of(world, ornt, mask.shape).measure(mask, np.zeros(3, int), chord_gap_vox)["ld_mm"]


def join_evidence(parts: pd.DataFrame, n_voxels: np.ndarray) -> dict:
    """Say how sure a lesion is from what is known of its parts: confirmed if one of them is.

    Parameters
    ----------
    parts : DataFrame
        ``mean_probability``, ``seen_by``, ``confidence``; missing where nothing is known.
    n_voxels : (n_parts,) int
        Their sizes, for the mean.
    """
    seen, said = (set(parts[name].dropna()) for name in ("seen_by", "confidence"))
    both = "both" in seen or {"detection", "resegmentation"} <= seen
    weights = np.asarray(n_voxels, float)
    return {
        "mean_probability": float((parts["mean_probability"].to_numpy(float) * weights).sum() / weights.sum()),
        "seen_by": "both" if both else next((name for name in SEEN_BY if name in seen), None),
        "confidence": next((name for name in ("confirmed", "candidate") if name in said), None),
    }


def _evidence_of(instances: np.ndarray, evidence: Evidence) -> dict[int, dict]:
    """How sure each lesion is, from the pieces it is made of."""
    inside = (instances > 0) & (evidence.pieces > 0)
    pairs = pd.DataFrame({"instance": instances[inside], "index": evidence.pieces[inside]})
    counts = pairs.value_counts(["instance", "index"]).rename("n_voxels").reset_index()
    parts = counts.merge(evidence.table, on="index").sort_values(["instance", "index"])
    return {int(number): join_evidence(of, of["n_voxels"]) for number, of in parts.groupby("instance")}


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


def equivalent_diameter_mm(volume_mm3: float) -> float:
    """Return the diameter of the sphere of this volume, mm."""
    return float((6 * volume_mm3 / np.pi) ** (1 / 3))


@dataclass(frozen=True)
class _AxialView:
    """The slices of a scan that are nearest to axial, in an array of RAS order."""

    world: np.ndarray
    axis: int
    spacing_mm: np.ndarray
    tilt_deg: float
    stored_reversed: bool
    n_slices: int

    @classmethod
    def of(cls, world, ornt, shape):
        spacing = np.linalg.norm(world[:3, :3], axis=0)
        upward = np.abs(world[2, :3] / spacing)
        # The last of equals: between planes equally far from axial, the nominally axial one.
        axis = int(np.flatnonzero(upward > upward.max() - TOLERANCE)[-1])
        tilt = float(np.degrees(np.arccos(min(upward[axis], 1.0))))
        stored_axis = int(np.flatnonzero(ornt[:, 0] == axis)[0])
        return cls(world, axis, spacing, tilt, ornt[stored_axis, 1] < 0, shape[axis])

    @property
    def slice_spacing_mm(self) -> float:
        return float(self.spacing_mm[self.axis])

    @property
    def in_plane_mm(self) -> np.ndarray:
        return np.delete(self.spacing_mm, self.axis)

    def measure(self, mask: np.ndarray, origin: np.ndarray, chord_gap_vox: float) -> dict:
        """Return what is read on slices, for a mask in a box that starts at voxel `origin`."""
        stack = np.moveaxis(mask, self.axis, 0)
        gap = chord_gap_vox * max(self.in_plane_mm)
        levels = np.flatnonzero(stack.any((1, 2)))
        slices = {k: ndimage.binary_fill_holes(stack[k]) for k in levels}
        feret = {k: pdist(edge_midpoints(m) * self.in_plane_mm / 2).max() for k, m in slices.items()}
        best = (0.0, 0, 0)
        chosen = None
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
        k, starts, ends = chosen
        # Of diameters equally long, the one with the longest perpendicular.
        perps = [
            perpendicular_mm(slices[k], *pair, spacing_mm=self.in_plane_mm, gap_mm=gap) for pair in zip(starts, ends)
        ]
        widest = int(np.argmax(np.round(perps, 6)))
        perp, p, q = perps[widest], starts[widest], ends[widest]
        level = int(k + origin[self.axis])
        ends = [self.world @ [*np.insert(np.delete(origin, self.axis) + end, self.axis, level), 1] for end in (p, q)]
        return {
            "ld_mm": best[0],
            "perp_mm": perp,
            "bidim_mm2": best[0] * perp,
            "ld_feret_mm": float(max(feret.values())),
            "ld_slice": self.n_slices - 1 - level if self.stored_reversed else level,
            **dict(zip(ENDPOINTS, np.concatenate([end[:3] for end in ends]))),
            "n_slices": len(levels),
            "extent_z_mm": len(levels) * self.slice_spacing_mm,
            "slice_spacing_mm": self.slice_spacing_mm,
        }

    def half_voxel_bounds(
        self, labels: np.ndarray, number: int, origin: np.ndarray, row: dict, chord_gap_vox: float
    ) -> dict:
        """Return volume and longest diameter with the edge half a voxel further in, and further out.

        Parameters
        ----------
        labels : (X, Y, Z) int
            From `_crop_around` the box of this lesion, which starts at voxel `origin`.
        row : dict
            What `measure` has found.
        """
        volumes = [n * voxel_volume_mm3(self.world) / 1000 for n in _half_voxel_volumes(labels, number)]
        level = self._level(row) - origin[self.axis] + MARGIN_VOX
        flat = np.take(labels, level, axis=self.axis)
        mask = np.repeat(np.repeat(ndimage.binary_fill_holes(flat == number), 2, 0), 2, 1)
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

    def probability_bounds(self, doubt: _Doubt, number: int, row: dict, chord_gap_vox: float) -> dict:
        """Return volume and longest diameter at the contours of 0.75 and 0.25."""
        low, high = doubt.masks(number)
        level = self._level(row) - doubt.boxes[number - 1][self.axis].start
        gap = chord_gap_vox * max(self.in_plane_mm)
        flat = [ndimage.binary_fill_holes(np.take(mask, level, axis=self.axis)) for mask in (low, high)]
        high_mm = longest_mm(flat[1], self.in_plane_mm, gap, row["ld_mm"])
        return {
            "vol_probability_low_ml": int(low.sum()) * voxel_volume_mm3(self.world) / 1000,
            "vol_probability_high_ml": int(high.sum()) * voxel_volume_mm3(self.world) / 1000,
            "ld_probability_low_mm": min(longest_mm(flat[0], self.in_plane_mm, gap, 0), row["ld_mm"]),
            "ld_probability_high_mm": max(high_mm, row["ld_mm"]),
        }

    def _level(self, row: dict) -> int:
        """Return the slice of the longest diameter, counted in RAS order."""
        return self.n_slices - 1 - row["ld_slice"] if self.stored_reversed else row["ld_slice"]


@dataclass(frozen=True)
class _Doubt:
    """Lesions by how sure the networks are of each voxel, in an array of RAS order.

    Parameters
    ----------
    grown : (X, Y, Z) int
        Lesions with what around them is at least `DOUBTFUL`, the nearest lesion's and connected with it.
    sure : (X, Y, Z) bool
        At least `SURE`.
    instances : (X, Y, Z) int
    boxes : list of (slice, slice, slice)
        Of each number in `grown`.
    """

    grown: np.ndarray
    sure: np.ndarray
    instances: np.ndarray
    boxes: list

    @classmethod
    def of(cls, instances: np.ndarray, whole: np.ndarray, spacing_mm: np.ndarray) -> _Doubt:
        grown = instances.astype(np.int32)
        voxels = np.argwhere((whole >= DOUBTFUL) & (instances == 0))
        surface = _surface_voxels(instances > 0)
        if len(voxels) and len(surface):
            reach = DOUBT_REACH_MM + TOLERANCE
            distance, nearest = cKDTree(surface * spacing_mm).query(voxels * spacing_mm, distance_upper_bound=reach)
            near = np.isfinite(distance)
            grown[tuple(voxels[near].T)] = instances[tuple(surface[nearest[near]].T)]
        box = ndimage.find_objects((grown > 0).astype(np.uint8))[0]
        # One voxel of margin: cc3d counts wrongly how many components an array without any may hold.
        pieces = cc3d.connected_components(np.pad(grown[box], 1), connectivity=26)[1:-1, 1:-1, 1:-1]
        reached = np.zeros(int(pieces.max()) + 1, bool)
        reached[pieces[instances[box] > 0]] = True
        grown[box] *= reached[pieces]
        return cls(grown, whole >= SURE, instances, ndimage.find_objects(grown))

    def masks(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the lesion inside the inner contour, and inside the outer one, in its box."""
        box = self.boxes[number - 1]
        return (self.instances[box] == number) & self.sure[box], self.grown[box] == number


def _crop_around(instances: np.ndarray, whole: np.ndarray, box: tuple[slice, ...]) -> np.ndarray:
    """Return lesions in a box and `MARGIN_VOX` around it, none beyond the image."""
    wider = tuple(slice(max(s.start - MARGIN_VOX, 0), s.stop + MARGIN_VOX) for s in box)
    beyond = [
        (max(MARGIN_VOX - s.start, 0), max(s.stop + MARGIN_VOX - n, 0))
        for s, n in zip(box, instances.shape, strict=True)
    ]
    return np.pad(np.where(whole[wider], instances[wider], 0), beyond)


def _half_voxel_volumes(labels: np.ndarray, number: int) -> tuple[float, float]:
    """Voxels of a lesion whose edge lies half a voxel further in, and further out; `labels` as from `_crop_around`.

    Each voxel has eight octants, each of which meets three neighbours across faces. An octant of the lesion is lost
    where one of the three is outside; one outside is gained where one of the three is in the lesion, if it is no other
    lesion's and no larger one gains it.
    """
    mask, larger = labels == number, (labels > 0) & (labels < number)
    inner = (slice(1, -1),) * 3
    here, free = mask[inner], labels[inner] == 0
    beside, beside_larger = _across_faces(mask), _across_faces(larger) if larger.any() else None
    lost = gained = 0
    for x, y, z in np.ndindex(2, 2, 2):
        lost += np.count_nonzero(here & ~(beside[0][x] & beside[1][y] & beside[2][z]))
        taken = free & (beside[0][x] | beside[1][y] | beside[2][z])
        if beside_larger is not None:
            taken &= ~(beside_larger[0][x] | beside_larger[1][y] | beside_larger[2][z])
        gained += np.count_nonzero(taken)
    n_voxels = np.count_nonzero(here)
    return n_voxels - lost / 8, n_voxels + gained / 8


def _across_faces(mask: np.ndarray) -> list[list[np.ndarray]]:
    """Return what lies before and behind each inner voxel along each axis."""
    inner = [slice(1, -1)] * 3
    steps = (slice(0, -2), slice(2, None))
    return [[mask[(*inner[:axis], step, *inner[axis + 1 :])] for step in steps] for axis in range(3)]


def _bad_setting(what, found, expected) -> InputError:
    return InputError(
        what, found=found, expected=expected, advice="Change it in the config.", reason=Reason.BAD_SETTING
    )


def _reaches_keep(n_voxels: int, voxel_mm3: float, keep_mm3: float, keep_vox: int) -> bool:
    """Whether so many voxels are enough to keep a track alive."""
    return bool(n_voxels * voxel_mm3 > keep_mm3 + TOLERANCE and n_voxels >= keep_vox)


def _stored(array: np.ndarray, ornt: np.ndarray) -> np.ndarray:
    """Turn an array in RAS order back to the order of the file."""
    start = np.array([[0, 1], [1, 1], [2, 1]])
    return np.ascontiguousarray(nib.orientations.apply_orientation(array, nib.orientations.ornt_transform(start, ornt)))


def _counts_and_centroids(components, world, origin):
    """Voxels and world centroid of every number in a map that starts at voxel `origin` (row 0: background, n/a)."""
    size = int(components.max(initial=0)) + 1
    voxels = np.argwhere(components)
    numbers = components[tuple(voxels.T)]
    count = np.bincount(numbers, minlength=size)
    sums = np.stack([np.bincount(numbers, weights=axis, minlength=size) for axis in voxels.T], axis=1)
    with np.errstate(invalid="ignore"):
        centroid = sums / count[:, None] + origin
    return count, centroid @ world[:3, :3].T + world[:3, 3]


def _unlabelled_necrosis(whole: np.ndarray) -> np.ndarray:
    """Voxels in closed cavities of single components, small enough to be their core."""
    filled = np.zeros_like(whole)
    components = cc3d.connected_components(whole, connectivity=26)
    for number, box in enumerate(ndimage.find_objects(components), start=1):
        shell = components[box] == number
        # Six voxels are the least that close a cavity.
        if shell.sum() < 6:
            continue
        filled[box] |= _cavities(shell, whole[box])
    return filled


def _cavities(shell: np.ndarray, occupied: np.ndarray) -> np.ndarray:
    """Voxels enclosed by a shell, cavity by cavity where what is free in it is small enough."""
    holes, n = ndimage.label(ndimage.binary_fill_holes(shell) & ~shell)
    if n == 0:
        return np.zeros_like(shell)
    free = np.bincount(holes[~occupied], minlength=n + 1)
    small = free <= MAX_CAVITY_RATIO * shell.sum()
    small[0] = False
    return small[holes]


def _merge_fragments(components, volume, centroid, *, spacing_mm, gap_mm, small_mm3, small_frac) -> np.ndarray:
    """Return for every component the one it belongs to in the end."""
    boxes = ndimage.find_objects(components)
    low = np.array([[s.start for s in box] for box in boxes]) * spacing_mm
    high = np.array([[s.stop for s in box] for box in boxes]) * spacing_mm
    # From small to large; each joins a later one, so nothing goes round in circles.
    order = sorted(range(1, len(volume)), key=lambda i: (volume[i], *np.round(centroid[i], 6)))
    place = {number: position for position, number in enumerate(order)}
    trees = {}

    def corners(i):
        if i not in trees:
            points = edge_points(components[boxes[i - 1]] == i) + [s.start for s in boxes[i - 1]]
            trees[i] = cKDTree(points * spacing_mm)
        return trees[i]

    owner = np.arange(len(volume))
    for i in order:
        apart = np.maximum(np.maximum(low - high[i - 1], low[i - 1] - high), 0)
        near = np.flatnonzero(np.linalg.norm(apart, axis=1) <= gap_mm + TOLERANCE) + 1
        candidates = []
        for j in near:
            if place[j] <= place[i]:
                continue
            if not (volume[i] < small_mm3 - TOLERANCE or volume[i] <= small_frac * volume[j] + TOLERANCE):
                continue
            gap = corners(j).query(corners(i).data)[0].min()
            if gap <= gap_mm + TOLERANCE:
                candidates.append((round(gap, 6), -place[j], j))
        if candidates:
            owner[i] = min(candidates)[2]
    for i in reversed(order):
        owner[i] = owner[owner[i]]
    return owner


def _count_edema(instances, edema, size, spacing_mm, max_mm):
    """Edema voxels of each lesion, and of none."""
    voxels = np.argwhere(edema & (instances == 0))
    if len(voxels) == 0:
        return np.zeros(size, int), 0
    surface = _surface_voxels(instances > 0)
    if len(surface) == 0:
        return np.zeros(size, int), len(voxels)
    # The nearest voxel of a lesion is on its surface: one step from it towards the point would be nearer still.
    distance, nearest = cKDTree(surface * spacing_mm).query(voxels * spacing_mm)
    owner = np.where(distance <= max_mm + TOLERANCE, instances[tuple(surface[nearest].T)], 0)
    counts = np.bincount(owner, minlength=size)
    unassigned = int(counts[0])
    counts[0] = 0
    return counts, unassigned


def _border_distances(instances, brain, spacing_mm) -> dict:
    """Distance of each lesion to the nearest voxel outside the brain, mm, and whether it touches one."""
    boxes = ndimage.find_objects(instances)
    if brain is None:
        return dict.fromkeys(range(1, len(boxes) + 1), (np.nan, False))
    outside = np.pad(~brain, 1, constant_values=True)
    # Of the outside, the voxels next to the brain are enough, and so is the surface of a lesion.
    rim = np.argwhere(outside & ndimage.binary_dilation(~outside)) - 1
    tree = cKDTree(rim * spacing_mm) if len(rim) else None
    out = {}
    for number, box in enumerate(boxes, start=1):
        if box is None:
            continue
        # A voxel that is not on the surface has neighbours in the lesion only.
        surface = _surface_voxels(instances[box] == number) + [s.start for s in box]
        if tree is None or outside[tuple((surface + 1).T)].any():
            out[number] = (0.0, True)
            continue
        steps = surface[:, None, :] + np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)]) + 1
        touches = bool(outside[tuple(np.moveaxis(steps, -1, 0))].any())
        points = surface * spacing_mm
        # A few points give a bound beyond which the others need no search.
        bound = tree.query(points[:: max(len(points) // 20, 1)])[0].min()
        distances = tree.query(points, distance_upper_bound=bound + TOLERANCE)[0]
        out[number] = (float(distances.min()), touches)
    return out


def _surface_voxels(mask: np.ndarray) -> np.ndarray:
    """Voxels of a mask with a neighbour across a face that is not in it; (n, 3)."""
    return np.argwhere(mask & ~ndimage.binary_erosion(mask))


def _measure_mesh(mask: np.ndarray, spacing_mm: np.ndarray) -> dict:
    """Surface and largest distance on the mesh at level 0.5 (IBSI C0JK, L0JK), closed cavities filled."""
    solid = np.pad(mask | _cavities(mask, mask), 1)
    points, faces, _, _ = marching_cubes(solid.astype(np.float32), 0.5, spacing=tuple(map(float, spacing_mm)))
    points = points.astype(float)
    hull = points
    if len(points) > 50:
        try:
            hull = points[ConvexHull(points).vertices]
        except QhullError:
            hull = points
    return {"surface_mm2": float(mesh_surface_area(points, faces)), "max3d_mm": float(pdist(hull).max())}
