"""Resection cavities: where the surgeon went, what is left there, and what it holds as the months go by.

A cavity is the bed of the resected lesion with a margin, irregular, and mostly a way to the surface of the brain. It
holds fluid, at first with blood and sometimes air, and shrinks. Its lining takes up contrast agent and is no tumour.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from mettrail.phantom import fields, head
from mettrail.phantom.anatomy import Anatomy
from mettrail.phantom.fields import Waves, ramp, stream
from mettrail.phantom.lesions import Body, make_bodies, sphere

# Cavities of metastases lost two fifths of their volume in the 38 days before radiosurgery (39 patients, Potts et al.).
SHRINKS_BY, SHRINKS_IN_DAYS = (0.5, 0.75), 45.0
# Blood in the order of scan.SEQUENCES, white matter of T1w = 1, by its age in days: methaemoglobin shortens T1, within
# cells T2 as well, and lengthens it once they are lysed.
BLOOD_DAYS = (0, 3, 7, 14, 28, 90)
BLOOD = (
    (1.10, 1.25, 1.50, 1.60, 1.50, 1.20),
    (1.05, 1.20, 1.45, 1.55, 1.45, 1.15),
    (0.80, 0.45, 0.45, 0.90, 1.60, 1.80),
    (0.85, 0.65, 0.80, 1.20, 1.40, 1.10),
)
# What protein adds to the brightness of CSF.
PROTEIN = (0.25, 0.22, -0.15, 0.80)
# Uptake of the lining, relative to tumour, by days since the operation.
LINING_DAYS, LINING_UPTAKE = (0, 3, 14, 60, 120, 240, 400), (0.3, 0.4, 0.85, 0.9, 0.7, 0.4, 0.25)
# Clots are uneven, fluid hardly.
FLUID_GRAIN, BLOOD_GRAIN = np.float32(0.03), np.float32(0.13)
# Distance (mm) over which bed and way flow into each other.
BLEND_MM = 3.0


@dataclass(frozen=True)
class Contents:
    """What a cavity holds and how its margin looks at a session; shares and uptakes are 0..1.

    Parameters
    ----------
    days : float
        Since the operation.
    protein : float
        How far the fluid is from CSF.
    blood : float
        How much of the drawn clots and layers is left.
    blood_rim_mm : float
        Thickness of the blood along the wall.
    clot : (4,) float
        Centre, relative to the bed's radius, and radius of a clot, likewise; radius 0 for none.
    level, air : float
        Blood lies behind and air in front of these heights above the middle of the bed, relative to its radius.
    lining_mm, uptake, patchy : float
        Thickness and uptake of the margin, and how uneven it is.
    hemosiderin : float
        Darkness of the margin on T2w.
    gliosis_mm : float
        Reach of the bright margin on FLAIR and T2w.
    dura, dura_mm : float
        Uptake of the dura over the cavity, and how far around.
    flap_mm : float
        Radius of the bone flap.
    """

    days: float
    protein: float
    blood: float
    blood_rim_mm: float
    clot: np.ndarray
    level: float
    air: float
    lining_mm: float
    uptake: float
    patchy: float
    hemosiderin: float
    gliosis_mm: float
    dura: float
    dura_mm: float
    flap_mm: float


@dataclass(frozen=True)
class Cavity:
    """What a resection has left, at one session.

    Parameters
    ----------
    bed : Body
        The resected lesion's shape with the margin, as far as it has shrunk.
    exit : (3,) mm, patient frame
        Where the surgeon came in, on the brain's surface.
    way_mm : (2,) float
        Radius of the way from the bed to there, at either end; 0 where it has closed.
    across : (3,) float
        Direction in which the way is narrow.
    ripple, patches : random functions of the place (mm from the bed's centre), see `fields.waves`
    ripple_mm : float
        Height of the ripples.
    contents : Contents
    """

    bed: Body
    exit: np.ndarray
    way_mm: np.ndarray
    across: np.ndarray
    ripple: Waves
    patches: Waves
    ripple_mm: float
    contents: Contents

    def from_centre(self, points: np.ndarray) -> np.ndarray:
        """Places (..., 3) of (3, ...) patient points, seen from the bed's centre, mm."""
        places = np.moveaxis(points - self.bed.centre.reshape(3, *[1] * (points.ndim - 1)), 0, -1)
        return np.asarray(places, np.float32)

    def axis(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance (mm) from the bed's centre along the way, and from the way's axis, for (..., 3) places."""
        way = (self.exit - self.bed.centre).astype(np.float32)
        along = places @ (way / np.linalg.norm(way))
        return along, np.sqrt(np.maximum((places**2).sum(-1) - along**2, 0))

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Roughly the distance (mm, negative inside) of (3, ...) patient points to the cavity's wall."""
        places = self.from_centre(points)
        outer = self.bed.distances(points)[0]
        if self.way_mm.any():
            length = np.linalg.norm(self.exit - self.bed.centre)
            along, aside = self.axis(places)
            narrow = places @ self.across.astype(np.float32)
            before = np.minimum(along, 0)
            off = np.sqrt(aside**2 + 3 * narrow**2 + before**2)
            inner, surface = self.way_mm
            way = off - (inner + (surface - inner) * np.clip(along / length, 0, 1.2))
            outer = _flow_together(outer, way.astype(np.float32))
        return outer + np.float32(self.ripple_mm) * fields.evaluate_waves(self.ripple, places)


def _flow_together(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Signed distance to the union of two shapes, without a crease between them."""
    share = np.clip(0.5 + 0.5 * (other - one) / BLEND_MM, 0, 1)
    joined: np.ndarray = other + (one - other) * share - BLEND_MM * share * (1 - share)
    return joined


def make_cavity(lesion: dict[str, Any], centre: np.ndarray, anatomy: Anatomy, *, session: int, seed: int) -> Cavity:
    """Return what is left of a resected lesion at a session after the operation.

    Parameters
    ----------
    lesion : dict
        One completed entry of a patient's `lesions`.
    centre : (3,) mm, patient frame
    anatomy : Anatomy
    session : int
        Position in the resection's `days`.
    seed : int
        The patient's.
    """
    resection = lesion["resection"]
    days = resection["days"][session]
    rng = stream(seed, "cavity", lesion["id"])
    entire = {"diameters_mm": [resection["diameter_mm"]], "necrosis": [0.0], "merges_into": None, "splits": None}
    (body,) = make_bodies(lesion | entire, centre, session=0, label="resected", seed=seed)
    left = 1 - rng.uniform(*SHRINKS_BY) * (1 - np.exp(-days / SHRINKS_IN_DAYS))
    # It falls in mostly in one direction.
    fall = left ** (rng.permutation([0.7, 0.15, 0.15]) - 1 / 3)
    radius = (body.radius_mm + resection["margin_mm"]) * left ** (1 / 3)
    bed = replace(
        body, radius_mm=radius, diameter_mm=2 * radius, stretch=body.stretch * fall,
        bumps=fields.waves(rng, count=18, low=1.5, high=5.5), irregularity=body.irregularity + rng.uniform(0.02, 0.08),
    )  # fmt: skip

    found = _way_out(anatomy, centre)
    length = np.linalg.norm(found - centre)
    covered = length - body.radius_mm
    across = np.cross(found - centre, rng.standard_normal(3))
    drawn = rng.random(3)
    is_open = resection["open"]
    if is_open is None:
        # Those under the cortex are open; the way to a deep one often closes behind the instruments.
        is_open = drawn[0] < np.interp(covered, [10, 30, 50], [1, 0.7, 0.4])
    # A wide gap over those at the surface, a slit to deep ones.
    inner = np.interp(covered, [4, 20], [0.75, 0.35]) * body.radius_mm * (0.8 + 0.4 * drawn[1])
    way = np.maximum(inner * np.array([1, 0.75 + 0.6 * drawn[2]]), 2.0) * left**0.8
    return Cavity(
        bed=bed,
        exit=found,
        way_mm=way if is_open else np.zeros(2),
        across=across / np.linalg.norm(across),
        ripple=fields.waves(rng, count=16, low=0.25, high=0.8),
        patches=fields.waves(rng, count=16, low=0.15, high=0.6),
        ripple_mm=float(rng.uniform(0.6, 1.2)),
        contents=_contents(days, rng),
    )


def _contents(days: float, rng: np.random.Generator) -> Contents:
    """Draw what a cavity holds; the same numbers are drawn whatever the day."""
    u = rng.random(12)
    fresh = np.exp(-days / 50)
    lasting = 0.3 + 0.5 * u[1] if u[0] < 0.35 else 0.1 * u[1]
    # Most bleed a little; after three months nothing is left of it.
    blood = float(np.interp(days, [30, 100], [1, 0])) if u[2] < 0.9 else 0.0
    away = rng.standard_normal(3)
    clot_size = 0.35 + 0.25 * u[4] if u[3] < 0.55 else 0.0
    clot = np.array([*(0.75 * away / np.linalg.norm(away)), clot_size * np.interp(days, [0, 90], [1, 0.5])])
    has_air = u[6] < np.interp(days, [2, 5, 21], [0.8, 0.4, 0])
    return Contents(
        days=days,
        protein=float(np.clip(lasting + (0.4 + 0.6 * u[5]) * fresh, 0, 1)),
        blood=blood,
        blood_rim_mm=1.0 + 1.5 * u[7],
        clot=clot,
        level=float(-0.75 + 0.55 * u[8]) if u[8] > 0.35 and days < 60 else -9.0,
        air=float(np.interp(days, [0, 21], [0.45, 0.9])) if has_air else 9.0,
        lining_mm=0.9 + 0.7 * u[9],
        uptake=float(np.interp(days, LINING_DAYS, LINING_UPTAKE)) * (0.8 + 0.3 * u[10]),
        patchy=0.15 + 0.45 * u[11],
        hemosiderin=float(np.interp(days, [20, 120], [0, 0.6])) if u[2] < 0.9 else 0.0,
        gliosis_mm=float(rng.uniform(1.5, 4)),
        dura=float(rng.uniform(0.6, 1) * np.interp(days, [1, 7, 150, 400], [0.5, 1, 0.9, 0.3]))
        if rng.random() < 0.75 else 0.0,
        dura_mm=float(rng.uniform(14, 28)),
        flap_mm=float(rng.uniform(17, 25)),
    )  # fmt: skip


def _way_out(anatomy: Anatomy, centre: np.ndarray) -> np.ndarray:
    """Find where the surgeon comes in (mm, patient frame): near, on the convexity, not through the other half.

    Above the tentorium that is not from below, under it not from above.
    """
    depth_mm = head.load_head().depth_mm
    steps = np.arange(1.0, 90.0)
    directions = sphere(400).astype(float)
    rays = centre[:, None, None] + directions.T[:, :, None] * steps
    at = head.to_voxel(np.moveaxis(anatomy.to_template(rays), 0, -1))
    outside = ndimage.map_coordinates(depth_mm, np.moveaxis(at, -1, 0), order=1, mode="nearest") < 0
    length = np.where(outside.any(1), steps[outside.argmax(1)], np.inf)
    x, y, z = anatomy.to_template(centre[:, None])[:, 0]
    under = z < -12 and y < -40
    detour = np.maximum(-np.sign(x) * directions[:, 0] - 0.2, 0)
    detour += np.maximum(directions[:, 2], 0) if under else 2 * np.maximum(-directions[:, 2] - 0.1, 0)
    detour += np.maximum(directions[:, 1], 0) if under else 0
    best = (length * (1 + 2 * detour)).argmin()
    found: np.ndarray = centre + directions[best] * length[best]
    return found


def find_margin(cavity: Cavity, anatomy: Anatomy, size_mm: float, *, rng: np.random.Generator) -> np.ndarray:
    """Direction (3,) from the bed's centre in which a recurrence of a size (mm) fits into the brain at the margin."""
    directions = sphere(200).astype(float)
    way = cavity.exit - cavity.bed.centre
    directions = directions[directions @ way / np.linalg.norm(way) < 0.2]
    centres = np.stack([at_margin(cavity, d, size_mm) for d in directions])
    around = centres[:, None] + 0.6 * size_mm * sphere(30)
    template = np.moveaxis(anatomy.to_template(np.moveaxis(around, -1, 0)), 0, -1)
    at = np.moveaxis(head.to_voxel(template), -1, 0)
    depth = ndimage.map_coordinates(head.load_head().depth_mm, at, order=1, mode="nearest").min(1)
    csf = ndimage.map_coordinates(anatomy.csf_map, at, order=1, mode="nearest").mean(1)
    # Deep enough and out of fluid, else the best there is.
    unfit = np.maximum(2 - depth, 0) + 20 * np.maximum(csf - 0.15, 0) + 0.5 * rng.random(len(directions))
    best: np.ndarray = directions[unfit.argmin()]
    return best


def at_margin(cavity: Cavity, direction: np.ndarray, size_mm: float) -> np.ndarray:
    """Centre (3,) mm of a nodule of a size (mm) that grows out of the wall, a third of it into the cavity."""
    steps = np.arange(0, 3 * cavity.bed.radius_mm, 0.25)
    ray = cavity.bed.centre[:, None] + direction[:, None] * steps
    wall = steps[(cavity.distance(ray) > 0).argmax()]
    centre: np.ndarray = cavity.bed.centre + direction * (wall + 0.17 * size_mm)
    return centre


@dataclass(frozen=True)
class Shares:
    """What a cavity makes of the fine voxels in a box around it, each as a share (0..1) of a voxel.

    Parameters
    ----------
    hollow : (...) float32
        The cavity with all it holds; `blood` and `air` are parts of it.
    lining, gliosis, dura, kerf : (...) float32
        Around it: what takes up contrast agent, what is bright on FLAIR, the dura, and the cut in the bone.
    grain : (...) float32
        Fine structure of zero mean and unit variance.
    """

    hollow: np.ndarray
    blood: np.ndarray
    air: np.ndarray
    lining: np.ndarray
    gliosis: np.ndarray
    dura: np.ndarray
    kerf: np.ndarray
    grain: np.ndarray


def corners(cavity: Cavity) -> tuple[np.ndarray, np.ndarray]:
    """Corners (mm, patient frame) of a box that holds all that `share_out` changes."""
    reach = np.array([[1.9 * cavity.bed.radius_mm + 8], [max(cavity.contents.dura_mm, cavity.contents.flap_mm) + 6]])
    middles = np.stack([cavity.bed.centre, cavity.exit])
    return (middles - reach).min(0), (middles + reach).max(0)


def share_out(
    cavity: Cavity, points: np.ndarray, *, width_mm: float, brain: np.ndarray, depth: np.ndarray, csf: np.ndarray,
    beside_mm: np.ndarray,
) -> Shares:  # fmt: skip
    """Work out what of each voxel belongs to a cavity and its surroundings.

    Parameters
    ----------
    cavity : Cavity
    points : (3, ...) mm, patient frame
    width_mm : float
        Size of a voxel.
    brain, csf : (...) float32
        Share of the voxel that is brain within its surface, and that is fluid.
    depth : (...) float32
        Distance (mm) inwards from the brain's hull.
    beside_mm : (...) float32
        Distance (mm) from the midline, positive on the cavity's side.
    """
    what = cavity.contents
    distance, places = cavity.distance(points), cavity.from_centre(points)
    patches, ripples = (fields.evaluate_waves(drawn, places) for drawn in (cavity.patches, cavity.ripple))
    # Not across the falx, and the ventricles stay what they are.
    room = ramp((brain - 0.5) * 2) * ramp((beside_mm - 1.5) / width_mm)
    ventricle = ramp((csf - 0.5) * 3) * ramp((depth - 22) / 3)
    room = room * (1 - ventricle)
    hollow = ramp(-distance / width_mm) * room
    tissue = (room - hollow) * np.clip(1.3 - csf, 0, 1)

    forward = places[..., 1] / np.float32(cavity.bed.radius_mm)
    air = hollow * ramp((forward - what.air) * cavity.bed.radius_mm / width_mm)
    in_clot = np.linalg.norm(places / np.float32(cavity.bed.radius_mm) - what.clot[:3].astype(np.float32), axis=-1)
    clot = ramp((what.clot[3] * (1 + 0.2 * patches + 0.2 * ripples) - in_clot) * cavity.bed.radius_mm / width_mm) * (
        what.clot[3] > 0
    )
    # What has settled has no sharp upper edge.
    layer = ramp((what.level - forward) * cavity.bed.radius_mm / 2.5)
    rim = ramp((distance + what.blood_rim_mm) / width_mm) * np.clip(0.45 + 0.6 * patches, 0, 1)
    blood = what.blood * np.maximum.reduce([clot, layer, rim]) * (hollow - air)

    uneven = np.clip(1 - what.patchy + what.patchy * 1.2 * patches, 0.08, 1.1)
    lining = ramp((what.lining_mm - distance) / width_mm) * tissue * uneven
    reach = what.gliosis_mm * np.maximum(1 + 0.4 * patches, 0.3)
    fade = np.clip(1 - (distance - what.lining_mm) / reach, 0, 1)
    gliosis = np.clip(tissue - lining, 0, 1) * fade

    along, aside = cavity.axis(places)
    near = ramp(along / 4)
    shell = ramp((depth + head.DURA_MM + 0.2) / width_mm) * ramp((0.4 - depth) / width_mm)
    dura = what.dura * shell * near * np.clip((what.dura_mm - aside) / 8, 0, 1) * np.clip(0.8 + 0.3 * patches, 0.1, 1)
    skull = ramp((-depth - head.DURA_MM) / width_mm) * ramp((depth + 8.7) / width_mm)
    kerf = skull * near * ramp((1.0 - np.abs(aside - what.flap_mm)) / width_mm)
    grain = fields.texture(distance.shape, sigma=1.3, rng=stream(cavity.bed.lesion, "contents"))
    return Shares(hollow, blood, air, lining, gliosis, dura, kerf, grain)


def paint(part: np.ndarray, shares: Shares, cavity: Cavity, mean: dict[str, float], *, column: int) -> None:
    """Lay a cavity and its surroundings over the fine voxels of its box, in place.

    Parameters
    ----------
    part : (...) float32
    shares : Shares
    cavity : Cavity
    mean : dict
        Brightness of each tissue in this scan.
    column : int
        Position of the scan's sequence in `scan.SEQUENCES`; the first is the one after contrast agent.
    """
    what, contrast = cavity.contents, column == 0

    def lay(share: np.ndarray, value: float | np.ndarray) -> None:
        part[...] += share * (np.asarray(value, np.float32) - part)

    bright_fluid = column >= 2
    if bright_fluid:
        lay(0.6 * shares.gliosis, mean["edema"])
    if contrast:
        lay(shares.lining * what.uptake, mean["rim"])
        lay(shares.dura, 1.25 * mean["dura_enhancing"])
    elif column == 2:
        lay(shares.lining * what.hemosiderin, 0.3)
    else:
        lay(0.5 * shares.lining * what.uptake, mean["edema"] if bright_fluid else mean["rim"])
    lay(shares.kerf, 0.8 * mean["gm"])
    fluid = mean["csf"] + what.protein * PROTEIN[column]
    lay(shares.hollow, fluid * (1 + FLUID_GRAIN * shares.grain))
    blood = float(np.interp(what.days, BLOOD_DAYS, BLOOD[column]))
    part += shares.blood * (blood * (1 + BLOOD_GRAIN * shares.grain) - np.float32(fluid))
    part += shares.air * np.float32(mean["air"] - fluid)
