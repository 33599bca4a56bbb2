"""From a patient to scans: contrast, field of view, partial volume, bias, noise, and the truth on the same grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage
from scipy.spatial.transform import Rotation

from mettrail.geometry import find_peak, nearest_labels
from mettrail.images import CAVITY, EDEMA, ENHANCING, NECROSIS, Grid
from mettrail.phantom import cavities, fields, head, lesions
from mettrail.phantom.anatomy import LATTICE_ORIGIN, STEP_MM, Anatomy
from mettrail.phantom.fields import make_affine, move_points, ramp
from mettrail.phantom.head import Box

CONTRAST = "ce-gadolinium_T1w"
SEQUENCES = (CONTRAST, "T1w", "T2w", "FLAIR")
# Mean brightness of each tissue, white matter of T1w = 1, in the order of SEQUENCES. Read off clinical scans.
BRIGHTNESS = {
    "wm": (1.00, 1.00, 0.62, 0.80),
    "gm": (0.74, 0.71, 0.86, 0.98),
    "csf": (0.30, 0.28, 1.90, 0.20),
    "dura": (0.65, 0.50, 0.35, 0.40),
    "skin": (0.95, 0.80, 0.60, 0.55),
    "fat": (1.55, 1.55, 1.10, 0.85),
    "muscle": (0.70, 0.62, 0.30, 0.42),
    "bone": (0.12, 0.10, 0.08, 0.08),
    "marrow": (0.95, 0.90, 0.70, 0.60),
    "air": (0.03, 0.03, 0.03, 0.02),
    "vitreous": (0.28, 0.28, 2.10, 0.25),
    "lens": (0.60, 0.60, 0.50, 0.40),
    "mucosa": (1.30, 0.70, 1.40, 1.10),
    "marker": (1.80, 1.80, 1.30, 1.10),
    "vessels": (1.85, 0.55, 0.25, 0.30),
    "sinus": (1.95, 0.50, 0.35, 0.40),
    "choroid": (1.45, 0.60, 1.40, 0.70),
    "gland": (1.60, 0.85, 0.90, 0.90),
    "dura_enhancing": (1.20, 0.50, 0.35, 0.45),
    "rim": (1.75, 0.72, 0.95, 1.20),
    "core": (0.42, 0.40, 1.70, 0.75),
    "edema": (0.76, 0.74, 1.25, 1.45),
}
# Nothing in a tumour is of one brightness.
LESION_GRAIN = np.float32(0.09)
# Knots of the deformation in a scan: fine enough for the push of a small lesion.
LATTICE_MM = 3.5
# As far as the pipeline assigns edema to a lesion.
EDEMA_MAX_MM = 20.0


@dataclass(frozen=True)
class Subject:
    """A patient as the scanner meets it at a session: anatomy, lesions, what the tissue did since the first session.

    Parameters
    ----------
    anatomy : Anatomy
    bodies : list of Body
    edemas : list of Edema
    push_strength : float
    drift : (3, a, b, c) float32
        Displacement (mm) since the first session on the anatomy's lattice: slight atrophy.
    cavities : list of Cavity
        What resections have left.
    """

    anatomy: Anatomy
    bodies: list[lesions.Body]
    edemas: list[lesions.Edema]
    push_strength: float
    drift: np.ndarray | None
    cavities: list[cavities.Cavity] = field(default_factory=list)

    def to_template_voxel(self, points: np.ndarray) -> np.ndarray:
        """Template voxel coordinates of (3, ...) patient points."""
        # The brain falls in as slowly as a cavity shrinks.
        taking_room = [*self.bodies, *(cavity.bed for cavity in self.cavities)]
        points = lesions.push(points, taking_room, self.anatomy, strength=self.push_strength)
        if self.drift is not None:
            shape = points.shape
            flat = points.reshape(3, -1)
            where = (flat - LATTICE_ORIGIN[:, None]) / STEP_MM
            moved = [ndimage.map_coordinates(c, where, order=1, mode="nearest") for c in self.drift]
            points = (flat + np.stack(moved)).reshape(shape)
        voxels: np.ndarray = self.anatomy.to_template(points) - head.ORIGIN.reshape(3, *[1] * (points.ndim - 1))
        return voxels

    def tissue_at(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """White matter, CSF and depth at (3, n) patient points."""
        where = self.to_template_voxel(points)
        index = tuple(np.clip(np.rint(w).astype(int), 0, n - 1) for w, n in zip(where, head.SHAPE))
        return self.anatomy.wm_map[index], self.anatomy.csf_map[index], head.load_head().depth_mm[index]


def field_of_view(anatomy: Anatomy, *, extent: str, margin_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Corners (mm, patient frame) of the box that holds the head or the brain."""
    template = head.load_head()
    mask = (template.body if extent == "head" else template.brain)[::4, ::4, ::4] > 0.3
    at = np.argwhere(mask) * 4.0 + head.ORIGIN
    at = at[at[:, 2] >= head.FLOOR_Z]
    points = anatomy.from_template(at[:: max(len(at) // 4000, 1)].T).T
    low, high = points.min(0) - margin_mm, points.max(0) + margin_mm
    # Below the floor the template has nothing but copies of its last slice.
    low[2] = points[:, 2].min() + 1
    return low, high


def crop_box(centre: np.ndarray, size_mm: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Corners (mm, patient frame) of a box around a point."""
    half = np.broadcast_to(size_mm, 3) / 2
    return centre - half, centre + half


def scan_grid(
    box: tuple[np.ndarray, np.ndarray], motion: np.ndarray, *, spacing_mm: ArrayLike, oblique_deg: np.ndarray
) -> Grid:
    """Return the RAS-ordered grid that covers a box of the patient, tilted as asked, in scanner coordinates."""
    low, high = box
    centre, size = (low + high) / 2, high - low
    tilt = Rotation.from_euler("xyz", oblique_deg, degrees=True).as_matrix()
    # The box seen along the tilted axes.
    size = np.abs(tilt.T) @ size if np.any(oblique_deg) else size
    spacing = np.asarray(spacing_mm, float)
    shape = np.maximum(np.ceil(size / spacing).astype(int), 1)
    axes = tilt * spacing
    middle = move_points(motion, centre)
    return Grid(_three(shape), make_affine(axes, middle - axes @ ((shape - 1) / 2)))


def _three(numbers: Sequence[int] | np.ndarray) -> tuple[int, int, int]:
    x, y, z = numbers
    return int(x), int(y), int(z)


def reorient(data: np.ndarray, affine: np.ndarray, orientation: str) -> tuple[np.ndarray, np.ndarray]:
    """Write the same content in another order of axes, e.g. "LPS" or "PSR"."""
    start = nib.orientations.io_orientation(affine)
    end = nib.orientations.axcodes2ornt(orientation)
    turn = nib.orientations.ornt_transform(start, end)
    moved = np.ascontiguousarray(nib.orientations.apply_orientation(data, turn))
    return moved, affine @ nib.orientations.inv_ornt_aff(turn, data.shape)


def brightness(
    sequence: str, *, rng: np.random.Generator, spread: float, changes: dict[str, float]
) -> dict[str, float]:
    """Draw the brightness of every tissue in one scan."""
    column = SEQUENCES.index(sequence)
    out = {name: row[column] * float(np.exp(spread * rng.standard_normal())) for name, row in BRIGHTNESS.items()}
    out["wm"] = BRIGHTNESS["wm"][column]
    return out | changes


def paint(anatomy: Anatomy, mean: dict[str, float], *, grain: float) -> np.ndarray:
    """Return the template-space image of a patient without lesions, for one set of tissue brightnesses."""
    template = head.load_head()
    out = np.full(head.SHAPE, mean["air"], np.float32)
    flat = out.ravel()
    flat[template.inside] = anatomy.wm * mean["wm"] + anatomy.gm * mean["gm"] + anatomy.csf * mean["csf"]
    if grain:
        flat[template.inside] *= 1 + np.float32(grain) * anatomy.texture
    flat[template.covered[0]] *= 1 - template.covered[1]
    for name, (index, weight) in template.layers.items():
        flat[index] += weight * np.float32(mean[name])
    for name, index, weight in template.enhancing:
        flat[index] += weight * (mean[name] - flat[index])
    index, weight = anatomy.vessels
    flat[index] += weight * (mean["vessels"] - flat[index])
    return out


@dataclass(frozen=True)
class Sampling:
    """Where the voxels of a scan lie in the patient and in the template; shared by image and truth.

    Parameters
    ----------
    grid : Grid
        The scan's grid, RAS order, scanner coordinates.
    fine : Grid
        The same field of view with thick voxels divided, for partial volume.
    factors : (3,) int
    to_patient : (4, 4) float
        Voxel of `fine` to patient mm.
    lattice : (3, a, b, c) float32
        Template voxel coordinates on a lattice of the field of view.
    weights : (3,) Weights
        From the lattice to the fine voxels.
    """

    grid: Grid
    fine: Grid
    factors: tuple[int, int, int]
    to_patient: np.ndarray
    lattice: np.ndarray
    weights: list[fields.Weights]

    def where(self, box: Box) -> np.ndarray:
        """Template voxel coordinates (3, ...) of a box of fine voxels."""
        return fields.upsample(self.lattice, [w[b] for w, b in zip(self.weights, box)])

    def slabs(self, thickness: int = 8) -> Iterator[Box]:
        """Boxes that cover the fine grid, small enough for the processor's cache."""
        for start in range(0, self.fine.shape[0], thickness):
            yield slice(start, min(start + thickness, self.fine.shape[0])), slice(None), slice(None)


def sample(subject: Subject, grid: Grid, motion: np.ndarray) -> Sampling:
    """Work out the whole deformation once, on a lattice from which it is interpolated to the voxels."""
    factors = _three([int(np.clip(np.ceil(s / 1.35), 1, 4)) for s in grid.spacing_mm])
    scaling = make_affine(np.diag(1 / np.array(factors)), (1 / np.array(factors) - 1) / 2)
    fine = Grid(_three([n * f for n, f in zip(grid.shape, factors)]), grid.affine @ scaling)
    to_patient = np.linalg.inv(motion) @ fine.affine
    spacing = np.array(fine.spacing_mm)
    counts = [max(int(np.ceil((n - 1) * s / LATTICE_MM)) + 1, 2) for n, s in zip(fine.shape, spacing)]
    steps = [np.linspace(0, n - 1, c) for n, c in zip(fine.shape, counts)]
    knots = np.stack(np.meshgrid(*steps, indexing="ij"))
    points = np.tensordot(to_patient[:3, :3], knots, 1) + to_patient[:3, 3].reshape(3, 1, 1, 1)
    weights = [fields.interpolate_at(np.linspace(0, c - 1, n), c) for n, c in zip(fine.shape, counts)]
    return Sampling(grid, fine, factors, to_patient, subject.to_template_voxel(points).astype(np.float32), weights)


def look_up(volume: np.ndarray, sampling: Sampling, *, fill: float) -> np.ndarray:
    """Sample a template volume at the fine voxels, skipping the air around the head."""
    out = np.full(sampling.fine.shape, fill, np.float32)
    near_body = head.load_head().near_body
    for box in sampling.slabs():
        where = sampling.where(box).reshape(3, -1)
        chosen = np.flatnonzero(near_body[_nearest(where)])
        if len(chosen):
            out[box].reshape(-1)[chosen] = ndimage.map_coordinates(
                volume, where[:, chosen], order=1, mode="nearest", output=np.float32
            )
    return out


def look_up_brain(sampling: Sampling) -> np.ndarray:
    """Sample the brain mask, whose values are plain except at its edge, at the fine voxels."""
    out = np.empty(sampling.fine.shape, np.float32)
    template = head.load_head()
    for box in sampling.slabs():
        where = sampling.where(box).reshape(3, -1)
        part = template.brain_zone[_nearest(where)].astype(np.float32)
        edge = np.flatnonzero(part == head.EDGE)
        part[edge] = ndimage.map_coordinates(template.brain, where[:, edge], order=1, mode="nearest")
        out[box] = part.reshape(out[box].shape)
    return out


def _nearest(where: np.ndarray) -> np.ndarray:
    """Flat index of the template voxel nearest to (3, n) template voxel coordinates."""
    flat = np.zeros(where.shape[1], np.int32)
    for axis, size in enumerate(head.SHAPE):
        flat *= size
        flat += np.clip(where[axis] + np.float32(0.5), 0, size - 1).astype(np.int32)
    return flat


def shrink(fine: np.ndarray, factors: tuple[int, int, int]) -> np.ndarray:
    """Average blocks of fine voxels: partial volume."""
    for axis, factor in enumerate(factors):
        if factor > 1:
            shape = (*fine.shape[:axis], fine.shape[axis] // factor, factor, *fine.shape[axis + 1 :])
            fine = fine.reshape(shape).mean(axis + 1)
    return fine


@dataclass(frozen=True)
class Overlay:
    """One body's rim and core as shares of the fine voxels in a box around it."""

    box: Box
    owner: int
    rim: np.ndarray
    core: np.ndarray
    uptake: np.ndarray
    enhancement: float
    distance: np.ndarray
    grain: np.ndarray


@dataclass(frozen=True)
class Swelling:
    """One body's edema as a share of the fine voxels in a box around it."""

    box: Box
    share: np.ndarray


def overlay_lesions(subject: Subject, sampling: Sampling) -> tuple[list[Overlay], list[Swelling]]:
    """Work out every lesion's rim, core and edema shares of the fine voxels."""
    width = float(np.clip(np.mean(sampling.fine.spacing_mm), 0.5, 1.2))
    depth_mm = head.load_head().depth_mm
    overlays, swellings = [], []
    for body in subject.bodies:
        reach = 1.6 * body.radius_mm + 2
        found = _box(sampling, body.centre - reach, body.centre + reach)
        if found is None:
            continue
        box, points = found
        outer, core, uptake = body.distances(points)
        depth = ndimage.map_coordinates(depth_mm, sampling.where(box), order=1, mode="nearest")
        whole = ramp(-outer / width) * ramp(depth - 0.5)
        inner = np.minimum(ramp(-core / width), whole)
        grain = fields.texture(outer.shape, sigma=1.3, rng=fields.stream(body.lesion, "grain"))
        overlays.append(Overlay(box, body.owner, whole - inner, inner, uptake, body.enhancement, outer, grain))
    for edema in subject.edemas:
        found = _box(sampling, *edema.corners)
        if found is None:
            continue
        box, points = found
        where = sampling.where(box)
        depth = ndimage.map_coordinates(depth_mm, where, order=1, mode="nearest")
        csf = ndimage.map_coordinates(subject.anatomy.csf_map, where, order=1, mode="nearest")
        share = ramp(edema.margin(points) / 3.0) * ramp((0.45 - csf) * 4) * ramp(depth - 1)
        swellings.append(Swelling(box, share))
    return overlays, swellings


@dataclass(frozen=True)
class Hollow:
    """One cavity and its surroundings as shares of the fine voxels in a box around them."""

    box: Box
    cavity: cavities.Cavity
    shares: cavities.Shares


def overlay_cavities(subject: Subject, sampling: Sampling) -> list[Hollow]:
    """Work out every cavity's shares of the fine voxels."""
    width = float(np.clip(np.mean(sampling.fine.spacing_mm), 0.5, 1.2))
    template = head.load_head()
    hollows = []
    for cavity in subject.cavities:
        found = _box(sampling, *cavities.corners(cavity))
        if found is None:
            continue
        box, points = found
        where = sampling.where(box)
        brain, depth, csf = (
            ndimage.map_coordinates(volume, where, order=1, mode="nearest")
            for volume in (template.brain, template.depth_mm, subject.anatomy.csf_map)
        )
        middle = subject.anatomy.to_template(cavity.bed.centre[:, None])[0, 0]
        beside = np.sign(middle) * (where[0] + np.float32(head.ORIGIN[0]))
        shares = cavities.share_out(cavity, points, width_mm=width, brain=brain, depth=depth, csf=csf, beside_mm=beside)
        hollows.append(Hollow(box, cavity, shares))
    return hollows


def _box(sampling: Sampling, low_mm: np.ndarray, high_mm: np.ndarray) -> tuple[Box, np.ndarray] | None:
    """Fine voxels within a box of the patient frame, and their places (3, ...) there; None where there are none."""
    inverse = np.linalg.inv(sampling.to_patient)
    corners = np.array([[(low_mm, high_mm)[b][k] for k, b in enumerate(bits)] for bits in np.ndindex(2, 2, 2)])
    corners = move_points(inverse, corners)
    low = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, sampling.fine.shape)
    if (high <= low).any():
        return None
    index = np.stack(np.meshgrid(*[np.arange(a, b) for a, b in zip(low, high)], indexing="ij")).astype(np.float32)
    points = np.tensordot(sampling.to_patient[:3, :3].astype(np.float32), index, 1)
    points += sampling.to_patient[:3, 3].reshape(3, 1, 1, 1).astype(np.float32)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high))
    return (x, y, z), points


def blend(
    image: np.ndarray,
    overlays: list[Overlay],
    swellings: list[Swelling],
    hollows: list[Hollow],
    mean: dict[str, float],
    *,
    sequence: str,
) -> None:
    """Lay edema, then cavities, then lesions, over a fine image in place."""
    for swelling in swellings:
        part = image[swelling.box]
        part += 0.85 * swelling.share * (mean["edema"] - part)
    for hollow in hollows:
        cavities.paint(image[hollow.box], hollow.shares, hollow.cavity, mean, column=SEQUENCES.index(sequence))
    for over in overlays:
        part = image[over.box]
        rim: float | np.ndarray = mean["rim"]
        if sequence == CONTRAST:
            base = 0.7 * mean["wm"]
            rim = base + (mean["rim"] * over.enhancement - base) * over.uptake
        part *= 1 - over.rim - over.core
        part += (over.rim * rim + over.core * mean["core"]) * (1 + LESION_GRAIN * over.grain)


def draw_brain(sampling: Sampling) -> np.ndarray:
    """Brain mask on the scan's own grid."""
    return shrink(look_up_brain(sampling), sampling.factors) >= 0.5


def draw_ellipsoid(
    box: tuple[np.ndarray, np.ndarray], grid: Grid, motion: np.ndarray, *, margin_mm: float
) -> np.ndarray:
    """Mask, on the scan's own grid, of the ellipsoid that fits a box of the patient with a margin around it."""
    low, high = box
    index = np.indices(grid.shape).reshape(3, -1).T
    points = move_points(np.linalg.inv(motion) @ grid.affine, index)
    apart = (points - (low + high) / 2) / ((high - low) / 2 - margin_mm)
    inside: np.ndarray = (apart**2).sum(1) <= 1
    return inside.reshape(grid.shape)


def draw_truth(
    sampling: Sampling, overlays: list[Overlay], swellings: list[Swelling], hollows: list[Hollow]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tissue labels, lesion numbers and brain mask on the scan's own grid."""
    fine = sampling.fine.shape
    whole, core, swollen, hollowed = (np.zeros(fine, np.float32) for _ in range(4))
    owner = np.zeros(fine, np.uint8)
    nearest = np.full(fine, np.inf, np.float32)
    for over in overlays:
        whole[over.box] = np.maximum(whole[over.box], over.rim + over.core)
        core[over.box] = np.maximum(core[over.box], over.core)
        closer = over.distance < nearest[over.box]
        owner[over.box][closer] = over.owner
        nearest[over.box][closer] = over.distance[closer]
    for swelling in swellings:
        swollen[swelling.box] = np.maximum(swollen[swelling.box], swelling.share)
    for hollow in hollows:
        hollowed[hollow.box] = np.maximum(hollowed[hollow.box], hollow.shares.hollow)
    if max(sampling.factors) > 1:
        whole, core, swollen, hollowed = (shrink(a, sampling.factors) for a in (whole, core, swollen, hollowed))
        middle = tuple(slice(f // 2, None, f) for f in sampling.factors)
        owner = owner[middle]
    tissue = np.zeros(whole.shape, np.uint8)
    tissue[swollen >= 0.5] = EDEMA
    tissue[hollowed >= 0.5] = CAVITY
    inside = whole >= 0.5
    for number in {over.owner for over in overlays}:
        # A lesion too small for any voxel keeps the one it fills most.
        mine = owner == number
        if not (inside & mine).any():
            inside[find_peak(whole, among=mine)] = True
    tissue[inside] = np.where(core >= 0.5 * np.maximum(whole, 1e-6), NECROSIS, ENHANCING)[inside]
    instances = np.where(inside, owner, 0).astype(np.uint8)
    brain = draw_brain(sampling)
    return tissue, instances, brain


def measure_truth(tissue: np.ndarray, instances: np.ndarray, affine: np.ndarray) -> dict[int, dict[str, float]]:
    """Volumes (mm3) of each lesion's tissues; edema counts for the nearest lesion within 20 mm."""
    volume = abs(np.linalg.det(affine[:3, :3]))
    numbers = [int(n) for n in np.unique(instances) if n]
    out: dict[int, dict[str, float]] = {n: {} for n in numbers}
    for n in numbers:
        labels = tissue[instances == n]
        out[n]["vol_et_mm3"] = float((labels == ENHANCING).sum() * volume)
        out[n]["vol_nc_mm3"] = float((labels == NECROSIS).sum() * volume)
        out[n]["vol_wl_mm3"] = out[n]["vol_et_mm3"] + out[n]["vol_nc_mm3"]
        out[n]["vol_ed_mm3"] = 0.0
    swollen = np.argwhere(tissue == EDEMA)
    if len(swollen) and numbers:
        owner, _ = nearest_labels(move_points(affine, swollen), instances, affine=affine, within_mm=EDEMA_MAX_MM)
        counts = np.bincount(owner, minlength=256)
        for n in numbers:
            out[n]["vol_ed_mm3"] = float(counts[n] * volume)
    return out


def finish(
    fine: np.ndarray, sampling: Sampling, *, rng: np.random.Generator, noise: float, bias: float, blur_mm: float,
    white: float, scale: float,
) -> np.ndarray:  # fmt: skip
    """Average to the scan's voxels, then blur, bias and Rician noise; whole numbers, as scanners store them."""
    image = shrink(fine, sampling.factors)
    if blur_mm:
        image = ndimage.gaussian_filter(image, np.array([blur_mm] * 3) / sampling.grid.spacing_mm, truncate=3)
    image = image * np.float32(scale)
    if bias:
        image *= fields.low_order_field(image.shape, knots=3, rng=rng, change=lambda f: np.exp(bias * f))
    if noise:
        sigma = np.float32(noise * white * scale)
        real = rng.standard_normal(image.shape, dtype=np.float32)
        real *= sigma
        real += image
        imaginary = rng.standard_normal(image.shape, dtype=np.float32)
        imaginary *= sigma
        image = np.hypot(real, imaginary)
    whole: np.ndarray = np.rint(image)
    return whole
