"""How large each lesion of a scan is, and where it lies.

Sizes are taken on the scan's own grid, never on a resampled one. Arrays are turned to the nearest RAS order first, so
that the order in which a file stores its voxels changes no number and no tie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError, cKDTree
from scipy.spatial.distance import pdist
from skimage.measure import marching_cubes, mesh_surface_area

from mettrail import schema
from mettrail.errors import GridMismatchError
from mettrail.geometry import find_surface, label_components, nearest_labels, sphere_diameter_mm
from mettrail.images import CAVITY, EDEMA, ENHANCING, NECROSIS, voxel_volume_mm3
from mettrail.reasons import Reason
from mettrail.schema.cells import join_words
from mettrail.tracking.axial import AxialView, to_ras_order
from mettrail.tracking.chords import (
    TOLERANCE,
)
from mettrail.tracking.components import SizeLimits, closed_holes
from mettrail.tracking.edges import Box, EdgeProbability, crop_around, origin_of
from mettrail.tracking.evidence import Evidence, evidence_of

MAX_TILT_DEG = 20
THICK_SLICE_MM = 5
# Names and types of what is measured of a lesion.
INSTANCE_COLUMNS = {name: schema.DTYPES[column.dtype] for name, column in schema.of_stage("measure").items()}


def measure_instances(
    instances: np.ndarray,
    tissue: np.ndarray,
    *,
    affine: np.ndarray,
    brain: np.ndarray | None = None,
    evidence: Evidence | None = None,
    chord_gap_vox: float,
    edema_max_mm: float,
    cystic_max_enhancing: float,
    keep_mm3: float,
    keep_vox: int,
    birth_mm3: float,
    birth_vox: int,
    birth_confidence: float = np.inf,
) -> tuple[pd.DataFrame, dict[str, Any]]:
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
        Without it `mean_probability`, `confidence`, `detected_by`, `certainty` and the bounds by probability are
        missing.
    chord_gap_vox : float
        Longest way a diameter may go outside the lesion, in pixels of the coarser side.
    edema_max_mm : float
        Edema belongs to the nearest lesion up to this far away.
    cystic_max_enhancing : float
        A lesion of which less than this share enhances is `cystic_only`.
    keep_mm3, keep_vox, birth_mm3, birth_vox
        As in `find_instances`: `enhancing` asks for more than the first two, `below_birth` is less than the last two.
    birth_confidence : float
        A lesion of less than `birth_mm3` with at least this `confidence`, and `birth_vox`, is not `below_birth`. None
        has as much by default.

    Returns
    -------
    table : DataFrame
        `INSTANCE_COLUMNS`, one row per lesion by number. `ld_slice` counts from 0 along the file's own slice axis.
    session : dict
        ``edema_unassigned_mm3`` (None where edema could not be told); ``n_subthreshold``, all components too small to
        start a track (those a track takes up are taken off by the matching); ``cavity_ml``, the volume of resection
        cavities, None where none is labelled; ``slice_spacing_mm``.

    Raises
    ------
    GridMismatchError
        Arrays of different shapes.
    """
    _require_one_grid(instances, tissue, brain, evidence)
    certainty = {} if evidence is None else evidence_of(instances, evidence)
    # Manual segmentations and propagated lesions have no uncertainty of their own.
    by_networks = {n for n, said in certainty.items() if said["detected_by"] not in (None, "manual", "propagation")}
    probability = evidence.whole if evidence is not None and by_networks else None
    scan = _Scan.of(affine, instances, tissue, brain, probability)
    edema, unassigned = None, None
    if evidence is None or evidence.shows_edema:
        edema, unassigned = _count_edema(scan, edema_max_mm)
    edges = (
        None
        if scan.probability is None
        else EdgeProbability.of(np.where(scan.whole, scan.instances, 0), scan.probability, scan.view.spacing_mm)
    )
    borders = _border_distances(scan)
    limits = SizeLimits(keep_mm3, keep_vox, birth_mm3, birth_vox)
    certain = {n for n, said in certainty.items() if said["confidence"] >= birth_confidence}
    rows = []
    for number, box in enumerate(ndimage.find_objects(scan.instances), start=1):
        mask = None if box is None else (scan.instances[box] == number) & scan.whole[box]
        if mask is None or not mask.any():
            continue
        distance, touches = borders[number]
        row = {
            "instance": number,
            "border_distance_mm": distance,
            **certainty.get(number, {}),
            **_count_voxels(scan, mask, box, limits, certain=number in certain),
            **_measure_mesh(mask, scan.tissue[box] == CAVITY, scan.view.spacing_mm),
            **scan.view.measure(mask, origin_of(box), chord_gap_vox),
        }
        row["vol_ed_mm3"] = np.nan if edema is None else edema[number] * scan.voxel_mm3
        row["touches_border"] = touches or row["at_edge"]
        around = crop_around(scan.instances, scan.whole, box)
        row |= scan.view.half_voxel_bounds(around, number, origin_of(box), row, chord_gap_vox)
        if edges is not None and number in by_networks:
            row |= scan.view.probability_bounds(edges, number, row, chord_gap_vox)
        row["flags"] = _flags(row, scan.view, cystic_max_enhancing)
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(INSTANCE_COLUMNS)).astype(INSTANCE_COLUMNS)
    _, n_dropped = label_components(scan.whole & (scan.instances == 0))
    session = {
        "edema_unassigned_mm3": None if unassigned is None else float(unassigned * scan.voxel_mm3),
        "n_subthreshold": n_dropped + int(table["below_birth"].sum()),
        "cavity_ml": float((scan.tissue == CAVITY).sum() * scan.voxel_mm3 / 1000) or None,
        "slice_spacing_mm": scan.view.slice_spacing_mm,
    }
    return table, session


def _require_one_grid(
    instances: np.ndarray, tissue: np.ndarray, brain: np.ndarray | None, evidence: Evidence | None
) -> None:
    components, probability = (None, None) if evidence is None else (evidence.components, evidence.whole)
    for name, other in (
        ("tissue labels", tissue),
        ("brain mask", brain),
        ("connected components", components),
        ("probabilities", probability),
    ):
        if other is not None and other.shape != instances.shape:
            raise GridMismatchError(
                f"lesions and {name}",
                found=f"{instances.shape} and {other.shape}",
                expected="one voxel grid",
                advice="Measure on the labels the lesions were found in.",
                reason=Reason.GRID_MISMATCH,
            )


@dataclass(frozen=True)
class _Scan:
    """A scan's arrays in RAS order, (X, Y, Z) each."""

    instances: np.ndarray
    tissue: np.ndarray
    whole: np.ndarray
    brain: np.ndarray | None
    probability: np.ndarray | None
    world: np.ndarray
    view: AxialView
    voxel_mm3: float

    @classmethod
    def of(
        cls,
        affine: np.ndarray,
        instances: np.ndarray,
        tissue: np.ndarray,
        brain: np.ndarray | None,
        probability: np.ndarray | None,
    ) -> _Scan:
        arrays = {"instances": instances, "tissue": tissue, "brain": brain, "probability": probability}
        given = {name: array for name, array in arrays.items() if array is not None}
        orientation, world, *turned = to_ras_order(affine, *given.values())
        there = dict(zip(given, turned, strict=True))
        labels = there["tissue"]
        cavity = labels == CAVITY
        return cls(
            instances=there["instances"],
            tissue=labels,
            whole=(labels == ENHANCING) | (labels == NECROSIS),
            brain=there["brain"].astype(bool) if "brain" in there else None,
            probability=there.get("probability"),
            world=world,
            view=AxialView.of(world, orientation, labels.shape, cavity if cavity.any() else None),
            voxel_mm3=voxel_volume_mm3(world),
        )


def _count_voxels(scan: _Scan, mask: np.ndarray, box: Box, limits: SizeLimits, *, certain: bool) -> dict[str, Any]:
    """Return what a count of the voxels of a lesion tells; a certain one may start a track below `birth_mm3`."""
    voxels = np.argwhere(mask)
    in_scan = voxels + origin_of(box)
    n_wl = len(voxels)
    n_et = int((mask & (scan.tissue[box] == ENHANCING)).sum())
    centre = scan.world[:3, :3] @ in_scan.mean(0) + scan.world[:3, 3]
    return {
        "below_birth": not limits.may_start(n_wl, scan.voxel_mm3, certain=certain),
        "enhancing": limits.keeps(n_et, scan.voxel_mm3),
        "n_voxels": n_wl,
        **dict(zip(("bbox_x_vox", "bbox_y_vox", "bbox_z_vox"), map(int, np.ptp(voxels, axis=0) + 1), strict=True)),
        "vol_wl_mm3": n_wl * scan.voxel_mm3,
        "vol_et_mm3": n_et * scan.voxel_mm3,
        "vol_nc_mm3": (n_wl - n_et) * scan.voxel_mm3,
        "vol_wl_ml": n_wl * scan.voxel_mm3 / 1000,
        "necrosis_fraction": (n_wl - n_et) / n_wl,
        "esd_mm": sphere_diameter_mm(n_wl * scan.voxel_mm3),
        "at_edge": bool(((in_scan == 0) | (in_scan == np.array(scan.instances.shape) - 1)).any()),
        **dict(zip(("centroid_x_mm", "centroid_y_mm", "centroid_z_mm"), centre, strict=True)),
    }


def _flags(row: Mapping[str, Any], view: AxialView, cystic_max_enhancing: float) -> str | None:
    """Return the remarks on a lesion, joined by ``;``."""
    flags = [
        ("nonconvex", row["ld_feret_mm"] - row["ld_mm"] > max(view.in_plane_mm) + TOLERANCE),
        ("oblique", view.tilt_deg > MAX_TILT_DEG + TOLERANCE),
        ("thick_slice", view.slice_spacing_mm > THICK_SLICE_MM + TOLERANCE),
        ("not_axial_acq", max(view.in_plane_mm) > max(THICK_SLICE_MM, view.slice_spacing_mm) + TOLERANCE),
        ("cystic_only", row["vol_et_mm3"] < cystic_max_enhancing * row["vol_wl_mm3"] - TOLERANCE),
        ("nonenhancing_remnant", not row["enhancing"]),
        ("fov_edge", row["at_edge"]),
    ]
    return join_words(name for name, holds in flags if holds)


def assign_edema(
    instances: np.ndarray, tissue: np.ndarray, *, spacing_mm: np.ndarray, max_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Give edema to the nearest lesion, up to so far away.

    Parameters
    ----------
    instances : (X, Y, Z) int
    tissue : (X, Y, Z) int
    spacing_mm : (3,) float
    max_mm : float

    Returns
    -------
    voxels : (N, 3) int
        Of edema outside lesions.
    owner : (N,) int
        Number of the lesion each belongs to; 0 for none.
    """
    voxels = np.argwhere((tissue == EDEMA) & (instances == 0))
    # The nearest voxel of a lesion is on its surface: one step from it towards the point would be nearer still.
    owner, distance = nearest_labels(
        voxels * spacing_mm, instances, affine=np.diag([*spacing_mm, 1]), among=find_surface(instances > 0)
    )
    return voxels, np.where(distance <= max_mm + TOLERANCE, owner, 0)


def _count_edema(scan: _Scan, max_mm: float) -> tuple[np.ndarray, int]:
    """Edema voxels of each lesion, and of none."""
    _, owner = assign_edema(scan.instances, scan.tissue, spacing_mm=scan.view.spacing_mm, max_mm=max_mm)
    counts = np.bincount(owner, minlength=int(scan.instances.max(initial=0)) + 1)
    unassigned = int(counts[0])
    counts[0] = 0
    return counts, unassigned


def _border_distances(scan: _Scan) -> dict[int, tuple[float, bool]]:
    """Distance of each lesion to the nearest voxel outside the brain, mm, and whether it touches one."""
    instances, spacing_mm = scan.instances, scan.view.spacing_mm
    boxes = ndimage.find_objects(instances)
    if scan.brain is None:
        return dict.fromkeys(range(1, len(boxes) + 1), (np.nan, False))
    outside = np.pad(~scan.brain, 1, constant_values=True)
    # Of the outside, the voxels next to the brain are enough, and so is the surface of a lesion.
    rim = np.argwhere(outside & ndimage.binary_dilation(~outside)) - 1
    tree = cKDTree(rim * spacing_mm) if len(rim) else None
    out = {}
    for number, box in enumerate(boxes, start=1):
        if box is None:
            continue
        # A voxel that is not on the surface has neighbours in the lesion only.
        surface = np.argwhere(find_surface(instances[box] == number)) + origin_of(box)
        if tree is None or outside[tuple((surface + 1).T)].any():
            out[number] = (0.0, True)
            continue
        steps = surface[:, None, :] + np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)]) + 1
        touches = bool(outside[tuple(np.moveaxis(steps, -1, 0))].any())
        points = surface * spacing_mm
        # A few points give a bound beyond which the others need no search.
        bound = np.min(tree.query(points[:: max(len(points) // 20, 1)])[0])
        distances = tree.query(points, distance_upper_bound=bound + TOLERANCE)[0]
        out[number] = (float(np.min(distances)), touches)
    return out


def _measure_mesh(mask: np.ndarray, resected: np.ndarray, spacing_mm: np.ndarray) -> dict[str, float]:
    """Surface and largest distance on the mesh at level 0.5 (IBSI C0JK, L0JK), closed holes filled."""
    solid = np.pad(mask | closed_holes(mask, mask, resected), 1)
    points, faces, _, _ = marching_cubes(solid.astype(np.float32), 0.5, spacing=tuple(map(float, spacing_mm)))
    points = points.astype(float)
    hull = points
    if len(points) > 50:
        try:
            hull = points[ConvexHull(points).vertices]
        except QhullError:
            hull = points
    return {"surface_mm2": float(mesh_surface_area(points, faces)), "max3d_mm": float(pdist(hull).max())}
