"""Metastases: their shapes, where they sit, and the edema around them.

Shapes live in the patient frame (RAS mm). A lesion is one body or, after it parted, two; each body is star-shaped about
its centre, so that its boundary is a radius for every direction and growing needs no resampling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.graph import MCP_Geometric

from mettrail.errors import InputError
from mettrail.geometry import sphere_diameter_mm
from mettrail.phantom import fields, head
from mettrail.phantom.anatomy import Anatomy
from mettrail.phantom.fields import Waves, ramp, stream
from mettrail.reasons import Reason

# Cores smaller than this do not show, and a rim is at least this thick.
MIN_RING_MM = 5.0
MIN_RIM_MM = 0.9
EDEMA_STEP_MM = 2.0
MASS_EFFECT_REACH = 6.0


@dataclass(frozen=True)
class Body:
    """One blob of one lesion at one session.

    Parameters
    ----------
    lesion : int
        Persistent number of the lesion.
    owner : int
        Number it is labelled with: another lesion's where they have fused.
    centre : (3,) mm, patient frame
    radius_mm : float
        Mean radius.
    diameter_mm : float
        Longest axial diameter.
    axes : (3, 3) float
        Rotation to the body's own axes.
    stretch : (3,) float
    bumps, core_bumps, rim_bumps : random functions of the direction, see `fields.waves`
    irregularity : float
        Relative height of the bumps.
    necrosis : float
        Share of the volume that is necrotic core.
    core_shift : (3,) float
        How far the core is off the middle, relative to the radius.
    rim_gap : float
        How much of the rim takes up little contrast agent, 0..1.
    enhancement : float
        Times the lesion's brightness after contrast.
    """

    lesion: int
    owner: int
    centre: np.ndarray
    radius_mm: float
    diameter_mm: float
    axes: np.ndarray
    stretch: np.ndarray
    bumps: Waves
    core_bumps: Waves
    rim_bumps: Waves
    irregularity: float
    necrosis: float
    core_shift: np.ndarray
    rim_gap: float
    enhancement: float

    def distances(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Signed distances (mm, negative inside) to the surface and to the core, and the rim's uptake (0..1).

        Parameters
        ----------
        points : (3, ...) mm, patient frame
        """
        own = np.tensordot(self.axes, points - self.centre.reshape(3, *[1] * (points.ndim - 1)), 1)
        own = np.moveaxis(own.astype(np.float32), 0, -1)
        outer = _signed_distance(own, self.radius_mm * self.stretch, self.bumps, self.irregularity)
        if not self.necrosis:
            return outer, np.full(outer.shape, 9.0, np.float32), np.ones(outer.shape, np.float32)
        core_radius = self.radius_mm * self.necrosis ** (1 / 3)
        core = _signed_distance(
            own - (self.core_shift * self.radius_mm).astype(np.float32), core_radius * self.stretch,
            self.core_bumps, self.irregularity + 0.05,
        )  # fmt: skip
        core = np.maximum(core, outer + MIN_RIM_MM)
        uptake = np.ones(outer.shape, np.float32)
        if self.rim_gap:
            norm = np.maximum(np.linalg.norm(own, axis=-1, keepdims=True), 1e-3)
            uptake -= self.rim_gap * ramp(1.2 * fields.evaluate_waves(self.rim_bumps, own / norm) - 0.3)
        return outer, core, uptake


def _signed_distance(own: np.ndarray, radii: np.ndarray, bumps: Waves, height: float) -> np.ndarray:
    """Roughly the distance (mm) to a bumpy ellipsoid about the origin, for (..., 3) points."""
    scaled = own / radii.astype(np.float32)
    rho = np.linalg.norm(scaled, axis=-1)
    distance = np.linalg.norm(own, axis=-1)
    direction = scaled / np.maximum(rho, 1e-3)[..., None]
    reach = _radius(bumps, height, direction)
    # mm per unit of rho along this ray; in the middle the mean radius stands in.
    scale = np.where(rho > 1e-3, distance / np.maximum(rho, 1e-3), radii.mean())
    distance_mm: np.ndarray = (rho - reach) * scale
    return distance_mm.astype(np.float32)


def _radius(bumps: Waves, height: float, direction: np.ndarray) -> np.ndarray:
    radius: np.ndarray = np.maximum(1 + np.float32(height) * fields.evaluate_waves(bumps, direction), 0.35)
    return radius


def sphere(n: int = 900) -> np.ndarray:
    """Return `n` unit vectors (n, 3) spread evenly over all directions."""
    k = np.arange(n) + 0.5
    polar, turn = np.arccos(1 - 2 * k / n), np.pi * (1 + 5**0.5) * k
    return np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], -1).astype(np.float32)


def measure_shape(axes: np.ndarray, stretch: np.ndarray, bumps: Waves, height: float) -> tuple[float, float]:
    """Longest axial diameter and volume of a shape whose mean radius is 1."""
    directions = sphere()
    radius = _radius(bumps, height, directions)
    points = (directions * radius[:, None] * stretch) @ axes
    apart = points[:, None] - points[None]
    level = np.abs(apart[..., 2]) < 0.1
    longest = np.sqrt((apart[..., :2] ** 2).sum(-1)[level].max())
    volume = 4 / 3 * np.pi * np.prod(stretch) * (radius.astype(float) ** 3).mean()
    return float(longest), float(volume)


def make_bodies(lesion: dict[str, Any], centre: np.ndarray, *, session: int, label: str, seed: int) -> list[Body]:
    """Return the blobs of one lesion at one session; none where it is absent.

    Parameters
    ----------
    lesion : dict
        One completed entry of a patient's `lesions`.
    centre : (3,) mm, patient frame
    session : int
        Position in the lists of the trajectory.
    label : str
        The session's label, by which fusing and parting are given.
    seed : int
        The patient's.
    """
    rng = stream(seed, "shape", lesion["id"])
    axes = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    stretch = rng.uniform([0.78, 0.78, 0.9], 1.1)
    bumps = fields.waves(rng, count=14, low=1.5, high=4.5)
    core_bumps = fields.waves(rng, count=10, low=1.5, high=4.0)
    rim_bumps = fields.waves(rng, count=8, low=1.0, high=3.0)
    shift = rng.uniform(-0.12, 0.12, 3)
    part_axis = rng.uniform(0, 2 * np.pi)
    # The surface changes a little between visits; it is not the same shape blown up.
    visit = stream(seed, "shape", lesion["id"], label)
    bumps = (bumps[0], bumps[1] + visit.normal(0, 0.15, len(bumps[1])).astype(np.float32))

    size = lesion["diameters_mm"][session] if lesion["diameters_mm"] else lesion["volumes_mm3"][session]
    if not size:
        return []
    height = lesion["irregularity"]
    longest, volume = measure_shape(axes, stretch, bumps, height)
    radius = size / longest if lesion["diameters_mm"] else (size / volume) ** (1 / 3)
    diameter = radius * longest
    necrosis = lesion["necrosis"][session] if diameter >= MIN_RING_MM else 0.0
    owner = lesion["id"]
    if lesion["merges_into"] and label in lesion["merges_into"]["sessions"]:
        owner = lesion["merges_into"]["lesion"]
    centres = [centre]
    if lesion["splits"] and label in lesion["splits"]["sessions"]:
        half = (diameter + lesion["splits"]["gap_mm"]) / 2
        away = half * np.array([np.cos(part_axis), np.sin(part_axis), 0])
        centres = [centre - away, centre + away]
    return [
        Body(
            lesion=lesion["id"], owner=owner, centre=c, radius_mm=radius, diameter_mm=diameter, axes=axes,
            stretch=stretch, bumps=bumps, core_bumps=core_bumps, rim_bumps=rim_bumps, irregularity=height,
            necrosis=necrosis, core_shift=shift, rim_gap=lesion["rim_gap"], enhancement=lesion["enhancement"],
        )
        for c in centres
    ]  # fmt: skip


def push(points: np.ndarray, bodies: list[Body], anatomy: Anatomy, *, strength: float) -> np.ndarray:
    """Map (3, ...) points of the patient with lesions to where their tissue was without them.

    Tissue makes room radially; the displacement falls off with the square of the distance, as for something that cannot
    be compressed, and dies out towards the skull.
    """
    if not strength or not bodies:
        return points
    moved = points.copy()
    for body in bodies:
        away = points - body.centre.reshape(3, *[1] * (points.ndim - 1))
        distance = np.sqrt((away**2).sum(0))
        near = distance < MASS_EFFECT_REACH * body.radius_mm
        if not near.any():
            continue
        q = distance[near] / body.radius_mm
        fade = np.clip((MASS_EFFECT_REACH - q) / (0.5 * MASS_EFFECT_REACH), 0, 1)
        where = head.to_voxel(np.moveaxis(anatomy.to_template(points[:, near]), 0, -1)).T
        depth = ndimage.map_coordinates(head.load_head().depth_mm, where, order=1, mode="nearest")
        fade = fade * np.clip(depth / 6, 0, 1)
        # Relative displacement; the factor in front keeps the map one-to-one.
        relative = 2 * strength / (1 + q**3) * fade
        moved[:, near] -= away[:, near] * relative
    return moved


def place(lesions: list[dict[str, Any]], anatomy: Anatomy, *, seed: int, gap_mm: float) -> dict[int, np.ndarray]:
    """Find a centre (mm, patient frame) for every lesion.

    Raises
    ------
    InputError
        Where no room is left, or a lesion stands beside one that comes after it.

    Notes
    -----
    A recurrence has the place of what was resected; where the margin is at a session, `cavities.at_margin` tells.
    """
    template = head.load_head()
    found: dict[int, np.ndarray] = {}
    sizes: dict[int, float] = {}
    for lesion in sorted(lesions, key=lambda entry: (is_recurrence(entry), entry["where"] == "random")):
        rng = stream(seed, "place", lesion["id"])
        size = _largest_mm(lesion)
        where = lesion["where"]
        if where == "random":
            taken = [(found[number], sizes[number]) for number in found]
            centre = _free_site(anatomy, size, taken, rng, gap_mm=gap_mm)
            if centre is None:
                raise InputError(
                    f"lesion {lesion['id']}",
                    found=f"no room in the brain for {size:.0f} mm with {gap_mm:g} mm to the next",
                    expected="fewer or smaller lesions",
                    advice="Lower gap_mm, the sizes, or the number of lesions of this patient.",
                    reason=Reason.BAD_SPEC,
                )
        elif is_recurrence(lesion):
            centre = found[where["margin_of"]]
        elif isinstance(where, dict):
            if where["beside"] not in found:
                raise InputError(
                    f"lesion {lesion['id']}",
                    found=f"beside lesion {where['beside']}, which has no place yet",
                    expected="a lesion listed before it",
                    advice="List the other lesion first and give both a place that is not random.",
                    reason=Reason.BAD_SPEC,
                )
            turn = rng.uniform(0, 2 * np.pi, 40)
            ring = found[where["beside"]] + where["distance_mm"] * np.stack([np.cos(turn), np.sin(turn), 0 * turn], -1)
            at = head.to_voxel(anatomy.to_template(ring.T).T)
            centre = ring[ndimage.map_coordinates(template.depth_mm, at.T, order=1).argmax()]
        else:
            centre = anatomy.from_template(np.array(where, float)[:, None])[:, 0]
        found[lesion["id"]], sizes[lesion["id"]] = centre, size
    return found


def is_recurrence(lesion: dict[str, Any]) -> bool:
    """Whether a lesion sits at the margin of a resected one."""
    return isinstance(lesion["where"], dict) and "margin_of" in lesion["where"]


def diameters_mm(lesion: dict[str, Any]) -> list[float]:
    """Diameter (mm) of a lesion at each session, roughly where volumes are given."""
    return lesion["diameters_mm"] or [1.15 * sphere_diameter_mm(v) for v in lesion["volumes_mm3"]]


def _largest_mm(lesion: dict[str, Any]) -> float:
    largest = float(max(diameters_mm(lesion)))
    if lesion["resection"]:
        largest = max(largest, lesion["resection"]["diameter_mm"] + 2 * lesion["resection"]["margin_mm"])
    return 2 * largest + float(lesion["splits"]["gap_mm"]) if lesion["splits"] else largest


def _free_site(
    anatomy: Anatomy, size: float, taken: list[tuple[np.ndarray, float]], rng: np.random.Generator, *, gap_mm: float
) -> np.ndarray | None:
    """Draw a site at the grey-white border, deep enough, mostly not in fluid; None where there is no room.

    It is clear of what is taken: places, and sizes in mm.
    """
    template = head.load_head()
    drawn = template.sites[rng.choice(len(template.sites), 400, p=template.site_weights)]
    depth = template.depth_mm[tuple(np.rint(head.to_voxel(drawn)).astype(int).T)]
    scale = np.linalg.norm(anatomy.matrix[:3, :3], axis=0).mean()
    drawn = drawn[depth > (0.55 * size + 1.5) * scale]
    if not len(drawn):
        return None
    directions = sphere(30)
    centres: np.ndarray = anatomy.from_template(drawn.T).T
    for centre, site in zip(centres, drawn):
        clear = all(np.linalg.norm(centre - other) > 0.55 * (size + its_size) + gap_mm for other, its_size in taken)
        around = np.rint(head.to_voxel(site + 0.4 * size * directions)).astype(int)
        if clear and anatomy.csf_map[tuple(around.T)].mean() < 0.3:
            return np.asarray(centre)
    return None


@dataclass(frozen=True)
class Edema:
    """Edema of one body: distance (mm) from its edge, positive within, on a lattice of the patient frame."""

    body: Body
    origin: np.ndarray
    margin_mm: np.ndarray

    @property
    def corners(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners (mm) of the box that holds it."""
        inside = np.argwhere(self.margin_mm > -2)
        return self.origin + EDEMA_STEP_MM * inside.min(0), self.origin + EDEMA_STEP_MM * inside.max(0)

    def margin(self, points: np.ndarray) -> np.ndarray:
        """Distance (mm) from the edge of the edema for (3, ...) patient points."""
        where = (points - self.origin.reshape(3, *[1] * (points.ndim - 1)).astype(np.float32)) / EDEMA_STEP_MM
        margin: np.ndarray = ndimage.map_coordinates(self.margin_mm, where, order=1, mode="nearest", output=np.float32)
        return margin


def spread_edema(
    body: Body,
    width_mm: float,
    tissue_at: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]],
    *,
    seed: int,
) -> Edema:
    """Let edema spread from a lesion through tissue: quickly along white matter, hardly in grey, never through fluid.

    Parameters
    ----------
    body : Body
    width_mm : float
        How far it reaches in white matter.
    tissue_at : callable
        Gives (white matter, CSF, depth in mm) for (3, n) points of the patient frame.
    seed : int
        The patient's.
    """
    reach = body.diameter_mm * 0.6 + 1.6 * width_mm + 4
    n = int(2 * reach / EDEMA_STEP_MM) + 1
    origin = body.centre - (n - 1) / 2 * EDEMA_STEP_MM
    points = np.indices((n, n, n)).reshape(3, -1) * EDEMA_STEP_MM + origin[:, None]
    wm, csf, depth = tissue_at(points)
    cost = 1 + 2.2 * np.clip(1 - wm, 0, 1)
    cost = np.where((csf > 0.5) | (depth < 0), -1, cost).reshape(n, n, n)
    outer = body.distances(points.reshape(3, n, n, n))[0]
    cost = np.where(outer < 0, 0.02, cost)
    starts = np.argwhere(outer < 0)
    if not len(starts):
        starts = np.array([np.unravel_index(outer.argmin(), outer.shape)])
        cost[tuple(starts[0])] = 0.02
    distance, _ = MCP_Geometric(cost).find_costs(starts)
    distance = np.minimum(distance * EDEMA_STEP_MM, 3 * width_mm + 10)
    fingers = fields.waves(stream(seed, "edema", body.lesion), count=8, low=1, high=4)
    away = (points - body.centre[:, None]).T.astype(np.float32)
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-3)
    limit = width_mm * (1 + 0.25 * fields.evaluate_waves(fingers, away))
    return Edema(body, origin, (limit.reshape(n, n, n) - distance).astype(np.float32))
