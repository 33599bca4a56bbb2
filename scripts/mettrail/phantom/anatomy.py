"""One patient's anatomy: a random diffeomorphism of the template head, sulci of its own, and vessels.

The patient frame is RAS mm; `Anatomy.to_template` maps its points to the template, which is what resampling needs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import ndimage

from mettrail.phantom import fields, head
from mettrail.phantom.fields import stream

# Lattice the deformation lives on.
STEP_MM = 5.0
LATTICE_ORIGIN = np.array([-110.0, -140.0, -95.0])
LATTICE_SHAPE = (45, 55, 43)
# The ICBM brain is larger than most: brains come out at 1200 to 1700 ml.
MEAN_SCALE, SCALE_SD = 0.935, 0.025
# Large vessels: points along them in template mm, the right side where paired, and radius in mm.
MAIN_PATHS: list[tuple[list[tuple[int, int, int]], float]] = [
    ([(0, -18, -60), (0, -20, -45), (0, -16, -28)], 1.7),  # basilar
    ([(1, -16, -28), (10, -20, -24), (20, -30, -18), (26, -42, -10)], 1.0),  # posterior cerebral
    ([(13, 4, -40), (12, 8, -30), (12, 4, -22), (14, 3, -17)], 2.1),  # internal carotid
    ([(14, 3, -17), (24, 4, -17), (36, 4, -16), (42, 0, -8), (42, -10, 2), (44, -22, 8)], 1.3),  # middle cerebral
    ([(36, 4, -16), (40, 10, -6), (42, 14, 4), (46, 18, 14)], 1.0),
    ([(13, 3, -16), (5, 12, -16), (3, 24, -10), (3, 36, 2), (3, 33, 18), (3, 18, 27), (3, -6, 34)], 1.1),
    ([(3, 33, 18), (3, 44, 24), (3, 40, 40), (3, 26, 52)], 0.8),
    ([(3, 0, 8), (3, -15, 10), (3, -30, 8), (0, -37, 4)], 1.0),  # internal cerebral veins
    ([(0, -37, 4), (0, -44, 5), (0, -55, 3), (0, -75, -3), (0, -97, -9)], 2.1),  # Galen, straight sinus
    ([(22, -26, -8), (16, -34, -2), (8, -38, 2), (1, -40, 4)], 1.1),  # basal vein
    ([(56, -10, 4), (50, 2, -6), (46, 12, -14), (38, 14, -24)], 1.3),  # superficial middle cerebral vein
]


@dataclass(frozen=True)
class Anatomy:
    """A patient's head.

    Parameters
    ----------
    matrix : (4, 4) float
        Affine part of the map from the patient to the template, mm.
    displacement : (3, a, b, c) float32
        Deformable part (mm) on a lattice of the patient frame, filtered for cubic interpolation.
    wm, gm, csf : (n,) float32
        Memberships at the template voxels `load_head().inside`.
    vessels : (indices, weights)
        Vessels on the template grid.
    texture : (n,) float32
        Fine structure at the same voxels, zero mean and unit variance.
    """

    matrix: np.ndarray
    displacement: np.ndarray
    wm: np.ndarray
    gm: np.ndarray
    csf: np.ndarray
    vessels: tuple[np.ndarray, np.ndarray]
    texture: np.ndarray

    def to_template(self, points: np.ndarray) -> np.ndarray:
        """Map (3, ...) patient points (mm) to the template (mm)."""
        shape = points.shape
        points = points.reshape(3, -1)
        where = (points - LATTICE_ORIGIN[:, None]) / STEP_MM
        moved: np.ndarray = self.matrix[:3, :3] @ points + self.matrix[:3, 3:]
        for axis in range(3):
            moved[axis] += ndimage.map_coordinates(
                self.displacement[axis], where, order=3, mode="nearest", prefilter=False
            )
        return moved.reshape(shape)

    def from_template(self, points: np.ndarray) -> np.ndarray:
        """Map (3, n) template points (mm) to the patient (mm), by fixed-point iteration."""
        points = np.asarray(points, float)
        inverse = np.linalg.inv(self.matrix[:3, :3])
        guess: np.ndarray = inverse @ (points - self.matrix[:3, 3:])
        for _ in range(30):
            guess = guess + 0.8 * inverse @ (points - self.to_template(guess))
        return guess

    @cached_property
    def wm_map(self) -> np.ndarray:
        """White matter on the template grid."""
        return _volume(self.wm)

    @cached_property
    def csf_map(self) -> np.ndarray:
        """CSF on the template grid."""
        return _volume(self.csf)


def _volume(weights: np.ndarray) -> np.ndarray:
    """Put per-voxel values of the brain back into a template volume."""
    out = np.zeros(head.SHAPE, np.float32)
    out.ravel()[head.load_head().inside] = weights
    return out


def make_anatomy(seed: int, *, warp_mm: float, gyri: float, vessels: float) -> Anatomy:
    """Draw a patient.

    Parameters
    ----------
    seed : int
    warp_mm : float
        Typical deformable displacement.
    gyri : float
        How much the sulci differ from the template's: 0 is the average brain, 1 is plausible.
    vessels : float
        Density of small vessels, 1 is plausible.
    """
    template = head.load_head()
    rng = stream(seed, "affine")
    scale = 1 / (MEAN_SCALE + SCALE_SD * rng.standard_normal(3))
    shear = np.eye(3) + np.triu(rng.normal(0, 0.02, (3, 3)), 1)
    centre = np.array([0.0, -18.0, 5.0])
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(scale) @ shear
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre

    rng = stream(seed, "warp")
    coarse = fields.smooth_vectors(LATTICE_SHAPE, sigma=5.0, rng=rng)
    fine = fields.smooth_vectors(LATTICE_SHAPE, sigma=2.3, rng=rng)
    velocity = warp_mm * (0.75 * coarse + 0.35 * fine) / STEP_MM / np.sqrt(3)
    moved = fields.integrate(velocity) * STEP_MM
    displacement = np.stack([ndimage.spline_filter(c, order=3, output=np.float32, mode="nearest") for c in moved])

    wm, gm, csf = _own_sulci(template, stream(seed, "gyri"), amount=gyri)
    grain = fields.texture(head.SHAPE, sigma=0.9, rng=stream(seed, "texture")).ravel()[template.inside]
    none = (np.zeros(0, np.int32), np.zeros(0, np.float32))
    anatomy = Anatomy(matrix, displacement, wm, gm, csf, none, grain)
    return replace(anatomy, vessels=_grow_vessels(anatomy, stream(seed, "vessels"), density=vessels))


def _own_sulci(template: head.Head, rng: np.random.Generator, *, amount: float) -> list[np.ndarray]:
    """Sharpen the average of many brains into one, with thresholds that wander from place to place."""
    depth = template.depth_mm.ravel()[template.inside]
    cortex = np.clip(1.4 - depth / 28, 0.15, 1).astype(np.float32)
    noise = [fields.texture(head.SHAPE, sigma=s, rng=rng).ravel()[template.inside] for s in (2.2, 3.0, 4.5)]
    sharp = 1 + 1.3 * cortex
    eps = np.float32(0.02)
    logits = [
        sharp * np.log(template.wm + eps) + amount * cortex * (0.55 * noise[1] + 0.4 * noise[2]),
        sharp * np.log(template.gm + eps) + 0.25,
        sharp * np.log(template.csf + eps) + amount * cortex * (0.5 * noise[0] + 0.5 * noise[2]) + 0.25 * cortex,
    ]
    parts = [np.exp(x) for x in logits]
    total = parts[0] + parts[1] + parts[2]
    return [(p / total).astype(np.float32) for p in parts]


def _grow_vessels(anatomy: Anatomy, rng: np.random.Generator, *, density: float) -> tuple[np.ndarray, np.ndarray]:
    """Arteries of the skull base along fixed paths; veins and branches that walk through the sulci."""
    template = head.load_head()
    csf = anatomy.csf_map
    points, radii = [], []
    for knots, radius in MAIN_PATHS:
        path = np.array(knots, float) + rng.normal(0, 1.0, (len(knots), 3))
        for side in (-1, 1) if np.abs(path[:, 0]).max() > 2 else (1,):
            line = _spline(path * np.array([side, 1, 1]))
            points.append(line)
            radii.append(np.full(len(line), radius * rng.uniform(0.8, 1.2)))
    inside = template.inside[anatomy.csf > 0.55]
    depth = template.depth_mm.ravel()[inside]
    kinds = (
        # seeds, count, length in steps, radius range
        (inside[depth < 2], 90, 70, (0.5, 1.3)),
        (inside[(depth > 1) & (depth < 25)], 260, 28, (0.35, 0.85)),
        (inside[(depth > 18) & (depth < 45)], 60, 30, (0.4, 1.0)),
    )
    for seeds, count, length, (low, high) in kinds:
        count = int(count * density)
        if not count:
            continue
        start = np.stack(np.unravel_index(rng.choice(seeds, count), head.SHAPE), -1) + head.ORIGIN
        walked = _walk(csf, start, rng, steps=length)
        points.append(walked.reshape(-1, 3))
        radii.append((rng.uniform(low, high, count)[:, None] * np.linspace(1, 0.55, length)).ravel())
    # Medullary veins: thin straight lines in white matter, hardly seen.
    deep = template.inside[(anatomy.wm > 0.9)]
    count = int(80 * density)
    if count:
        start = np.stack(np.unravel_index(rng.choice(deep, count), head.SHAPE), -1) + head.ORIGIN
        heading = start - np.array([0, -15, 15])
        heading = heading / np.linalg.norm(heading, axis=1, keepdims=True) + rng.normal(0, 0.25, start.shape)
        lines = start[:, None] + heading[:, None] * np.arange(0, 14, 0.8)[:, None]
        points.append(lines.reshape(-1, 3))
        radii.append(np.full(lines.shape[0] * lines.shape[1], 0.3))
    return _stamp(np.concatenate(points), np.concatenate(radii))


def _spline(path: np.ndarray) -> np.ndarray:
    """Points every 0.6 mm along a smooth curve through `path`."""
    knots = np.arange(len(path))
    length = np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
    at = np.linspace(0, len(path) - 1, max(int(length / 0.6), 2))
    line = np.stack([np.interp(at, knots, path[:, k]) for k in range(3)], -1)
    smooth: np.ndarray = ndimage.gaussian_filter1d(line, 4, axis=0, mode="nearest")
    return smooth


def _walk(
    csf: np.ndarray, start: np.ndarray, rng: np.random.Generator, *, steps: int, step_mm: float = 0.8
) -> np.ndarray:
    """Walk from each start along fluid, keeping the direction where that can be: (n, steps, 3) mm."""
    n, choices = len(start), 7
    heading = rng.standard_normal((n, 3))
    heading /= np.linalg.norm(heading, axis=1, keepdims=True)
    position = start.astype(float)
    walked = np.empty((n, steps, 3))
    top = np.array(head.SHAPE) - 1
    for step in range(steps):
        walked[:, step] = position
        turned = heading[:, None] + 0.45 * rng.standard_normal((n, choices, 3))
        turned /= np.linalg.norm(turned, axis=-1, keepdims=True)
        ahead = np.rint(head.to_voxel(position[:, None] + 2.0 * turned)).astype(int)
        ahead = np.clip(ahead, 0, top)
        score = csf[tuple(np.moveaxis(ahead, -1, 0))] + 0.35 * (turned * heading[:, None]).sum(-1)
        best = score.argmax(1)
        heading = turned[np.arange(n), best]
        position = position + step_mm * heading
    return walked


def _stamp(points: np.ndarray, radii: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw balls along centre lines, thin ones as fainter: their share of a voxel is smaller."""
    out = np.zeros(head.SHAPE, np.float32)
    where = head.to_voxel(points)
    shape = np.array(head.SHAPE)
    for reach, chosen in ((2, radii < 1.4), (4, radii >= 1.4)):
        offsets = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
        offsets = offsets[np.linalg.norm(offsets, axis=1) <= reach + 0.5]
        at, r = where[chosen], radii[chosen]
        near = np.rint(at).astype(int)
        ok = ((near >= reach) & (near < shape - reach)).all(1)
        at, r, near = at[ok], r[ok], near[ok]
        voxels = near[:, None] + offsets
        distance = np.linalg.norm(voxels - at[:, None], axis=-1)
        share = fields.ramp(r[:, None] - distance) * np.minimum(1, (r / 0.65) ** 2)[:, None]
        flat = np.ravel_multi_index(tuple(np.moveaxis(voxels, -1, 0)), head.SHAPE)
        np.maximum.at(out.ravel(), flat.ravel(), share.ravel().astype(np.float32))
    index = np.flatnonzero(out > 0.02)
    # Nothing outside the dura: there are no vessels of the scalp.
    index = index[head.load_head().depth_mm.ravel()[index] > -1.5]
    return index.astype(np.int32), out.ravel()[index]
