"""The head all phantoms are made from: the ICBM 2009a brain that nilearn ships, inside a synthesised skull and scalp.

The template gives brain tissue only. Everything around it is drawn in template space from the distance to the brain's
hull: dura, skull with marrow, temporal muscle, fat, skin, a face with eyes and air sinuses, and the venous sinuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from mettrail.phantom import fields
from mettrail.phantom.fields import ramp
from mettrail.template import read_template

# Corner and size of the grid heads are drawn on (mm, RAS): larger than the template's, for face and ears.
ORIGIN = np.array([-102.0, -128.0, -78.0])
SHAPE = (205, 239, 179)
# The brain ends here: the template is cut through the brain stem.
FLOOR_Z = -72.0
SUBARACHNOID_MM = 1.3
DURA_MM = 2.1
# Marker on the left scalp, as radiographers tape a vitamin E capsule: a mirrored head shows at once.
MARKER_RADIUS_MM = 5.0
EDGE = 2
# Flat indices of voxels, and how much of each.
Sparse = tuple[np.ndarray, np.ndarray]
Box = tuple[slice, slice, slice]


class Axes(NamedTuple):
    """Places in mm, as three arrays of one shape or of shapes that broadcast to the template grid."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    def cut(self, box: Box) -> Axes:
        """Return the places in a box of the template grid; of arrays that broadcast."""
        return Axes(self.x[box[0]], self.y[:, box[1]], self.z[:, :, box[2]])


@dataclass(frozen=True)
class Head:
    """Memberships (0..1) of every tissue on the 1 mm template grid.

    Parameters
    ----------
    inside : (n,) int
        Flat indices of voxels inside the dura; `wm`, `gm`, `csf` are given there.
    wm, gm, csf : (n,) float32
    layers : name -> (flat indices, weights)
        Tissues outside the dura.
    enhancing : list of (name, flat indices, weights)
        Sinuses, dura, choroid plexus and glands, laid over the tissues.
    covered : (flat indices, share)
        How much of a voxel those tissues take.
    depth_mm : (X, Y, Z) float32
        Distance inwards from the brain's hull; negative outside.
    brain : (X, Y, Z) float32
        Brain mask with soft edge.
    brain_zone : (n,) uint8
        0 surely outside, 1 surely inside, EDGE between; every voxel, flat.
    body : (X, Y, Z) float32
        Head mask with soft edge.
    near_body : (n,) bool
        Every voxel, flat: within two of the head.
    sites, site_weights : (n, 3) mm and (n,)
        Where metastases like to sit: the border of grey and white matter.
    """

    inside: np.ndarray
    wm: np.ndarray
    gm: np.ndarray
    csf: np.ndarray
    layers: dict[str, Sparse]
    enhancing: list[tuple[str, np.ndarray, np.ndarray]]
    covered: Sparse
    depth_mm: np.ndarray
    brain: np.ndarray
    brain_zone: np.ndarray
    body: np.ndarray
    near_body: np.ndarray
    sites: np.ndarray
    site_weights: np.ndarray


def to_voxel(points: np.ndarray) -> np.ndarray:
    """Template voxel coordinates of (..., 3) points in mm."""
    voxels: np.ndarray = np.asarray(points) - ORIGIN
    return voxels


@lru_cache(maxsize=1)
def load_head() -> Head:
    """Draw the template head; takes a few seconds once per process."""
    t1, gm, wm = _template()
    mask = t1 > 0
    outside_mm = _distance_to_hull(mask)
    axes = [np.arange(n, dtype=np.float32) + o for n, o in zip(SHAPE, ORIGIN.astype(np.float32))]
    at = Axes(*(a.reshape([-1 if i == k else 1 for i in range(3)]) for k, a in enumerate(axes)))

    inside = np.flatnonzero((outside_mm < SUBARACHNOID_MM + 0.5) & (at.z > ORIGIN[2] - 1))
    g, w = gm.ravel()[inside], wm.ravel()[inside]
    total = np.maximum(g + w, 1)
    g, w = g / total, w / total
    csf = 1 - g - w

    layers, body = _outside(outside_mm, at)
    csf_map = np.zeros(SHAPE, np.float32)
    csf_map.ravel()[inside] = csf
    enhancing = _enhancing(outside_mm, csf_map, at)
    brain: np.ndarray = ndimage.gaussian_filter(_close(mask, 2).astype(np.float32), 0.7, truncate=2)

    zone = np.where(_reach(brain > 0, 1), EDGE, 0).astype(np.uint8)
    zone[~_reach(brain < 1 - 1e-4, 1)] = 1
    covered = np.zeros(outside_mm.size, np.float32)
    for index, weight in layers.values():
        covered[index] += weight

    border = g * w
    chosen = (border > 0.12) & (outside_mm.ravel()[inside] < -3)
    index = inside[chosen]
    sites = np.stack(np.unravel_index(index, SHAPE), -1) + ORIGIN
    weights = border[chosen] * np.where(sites[:, 2] < -20, 0.5, 1) * (np.abs(sites[:, 0]) > 9) * (sites[:, 2] > -55)
    return Head(
        inside=inside.astype(np.int32),
        wm=w,
        gm=g,
        csf=csf,
        layers=layers,
        enhancing=enhancing,
        depth_mm=-outside_mm,
        brain=brain,
        brain_zone=zone.ravel(),
        body=body,
        near_body=_reach(body > 0, 2).ravel(),
        covered=_sparse(np.arange(outside_mm.size), np.minimum(covered, 1)),
        sites=sites.astype(np.float32),
        site_weights=weights / weights.sum(),
    )


def _template() -> list[np.ndarray]:
    """Template T1 and tissue probabilities on the larger grid; the lowest slice is repeated downwards."""
    out = []
    for image in (read_template("t1"), read_template("gm"), read_template("wm")):
        shift = np.round(ORIGIN - image.affine[:3, 3]).astype(int)
        index = [np.arange(n) + s for n, s in zip(SHAPE, shift)]
        index[2] = np.maximum(index[2], 1)
        valid = [(i >= 0) & (i < n) for i, n in zip(index, image.data.shape)]
        grown = np.zeros(SHAPE, np.float32)
        grown[np.ix_(*valid)] = image.data[np.ix_(*(i[v] for i, v in zip(index, valid)))] / np.float32(255)
        out.append(grown)
    return out


def _distance_to_hull(mask: np.ndarray) -> np.ndarray:
    """Distance (mm) outwards from the brain without its sulci; worked out at 2 mm, which is smooth enough."""
    pad = 12
    coarse = np.pad(mask[::2, ::2, ::2], pad)
    coarse[:, :, :pad] = coarse[:, :, pad : pad + 1]
    away = ndimage.distance_transform_edt(~coarse)
    hull = ndimage.distance_transform_edt(away <= 6) > 6
    hull = ndimage.binary_fill_holes(hull | coarse)
    # The wide clefts under the temporal lobes hold the petrous bone, not fluid; the cisterns in the middle do.
    x = np.abs((np.arange(coarse.shape[0]) - pad) * 2 + ORIGIN[0])[:, None, None]
    z = ((np.arange(coarse.shape[2]) - pad) * 2 + ORIGIN[2])[None, None]
    hull &= ~((away > 1.4) & (x > 17) & (z < -18))
    hull = ndimage.gaussian_filter(hull.astype(np.float32), 0.9) > 0.5
    signed = ndimage.distance_transform_edt(~hull) - ndimage.distance_transform_edt(hull)
    signed = ndimage.gaussian_filter(signed.astype(np.float32), 0.8)[pad:-pad, pad:-pad, pad:-pad] * 2
    return fields.upsample(
        signed, [fields.interpolate_at(np.arange(n) / 2, k) for n, k in zip(mask.shape, signed.shape)]
    )


def _ellipsoid(at: Axes, centre: Sequence[float], radii: Sequence[float]) -> np.ndarray:
    """Rough signed distance (mm) to an ellipsoid; negative inside."""
    terms = [((a - np.float32(c)) / np.float32(r)) ** 2 for a, c, r in zip(at, centre, radii)]
    out: np.ndarray = terms[0] + terms[1] + terms[2]
    np.sqrt(out, out=out)
    out -= 1
    out *= np.float32(min(radii))
    return out


def _smooth_min(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """Union of two bodies given by signed distances, with a fillet where they meet."""
    overlap = np.maximum(width - np.abs(a - b), 0)
    union: np.ndarray = np.minimum(a, b) - overlap * overlap / np.float32(4 * width)
    return union


def _box(centre: Sequence[float], radii: Sequence[float], margin: float) -> Box:
    low = np.maximum(np.floor(to_voxel(np.subtract(centre, radii)) - margin), 0).astype(int)
    high = np.minimum(np.ceil(to_voxel(np.add(centre, radii)) + margin).astype(int) + 1, SHAPE)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high))
    return x, y, z


def _add(surface: np.ndarray, at: Axes, centre: Sequence[float], radii: Sequence[float], *, width: float) -> None:
    """Join an ellipsoid to a body in place, within a box around it."""
    box = _box(centre, radii, 2 * width + 2)
    surface[box] = _smooth_min(surface[box], _ellipsoid(at.cut(box), centre, radii), width)


class _Shares:
    """Hands out what is left of each voxel to one tissue after another.

    Parameters
    ----------
    left : (n,) float
    places : Axes of (n,) float
    noise : (n,) float
        By which surfaces are rough.
    """

    def __init__(self, left: np.ndarray, places: Axes, noise: np.ndarray):
        self.left, self.noise = left, noise
        self.weights: dict[str, np.ndarray] = {}
        self.places = np.stack(places)

    def take(self, name: str, share: np.ndarray, at: np.ndarray | slice = slice(None)) -> None:
        """Give a tissue its share of what is left."""
        part = self.left[at] * np.clip(share, 0, 1)
        if name not in self.weights:
            self.weights[name] = np.zeros_like(self.left)
        self.weights[name][at] += part
        self.left[at] -= part

    def put(
        self,
        name: str,
        centre: Sequence[float],
        radii: Sequence[float],
        *,
        rough: float = 0.0,
        grow: float = 0.0,
        soft: float = 1.0,
        within: np.ndarray | None = None,
    ) -> None:
        """Give an ellipsoid with a rough surface to a tissue."""
        at, distance = self._near_ellipsoid(centre, radii, margin=4 + 3 * rough + grow)
        share = ramp((grow - distance - rough * self.noise[at]) / soft)
        self.take(name, share if within is None else share * within[at], at)

    def _near_ellipsoid(self, centre: Sequence[float], radii: Sequence[float], margin: float) -> Sparse:
        """Return voxels near an ellipsoid and their signed distances to it."""
        low, high = (np.array(centre) + sign * (np.array(radii) + margin) for sign in (-1, 1))
        near = np.ones(self.left.shape, bool)
        for place, a, b in zip(self.places, low, high):
            near &= (place > a) & (place < b)
        at = np.flatnonzero(near)
        return at, _ellipsoid(Axes(*self.places[:, at]), centre, radii)


def _outside(d: np.ndarray, at: Axes) -> tuple[dict[str, Sparse], np.ndarray]:
    """Return skull, scalp and face as sparse memberships, and the soft head mask."""
    x, y, z = at
    rng = np.random.default_rng(7)
    wide, fine, middle = (fields.texture(SHAPE, sigma=s, rng=rng) for s in (9, 1.6, 3.5))

    # Thickness of skull and scalp; the temples carry a muscle.
    temple = np.exp(-(((y - 15) / 32) ** 2) - (((z + 12) / 26) ** 2)) * np.clip((np.abs(x) - 40) / 20, 0, 1)
    surface = d - (np.float32(12.5) + 4 * temple + np.float32(0.5) * wide)
    _add(surface, at, (0, 30, -52), (63, 66, 78), width=12)
    _add(surface, at, (0, -32, -95), (56, 62, 62), width=14)
    _add(surface, at, (0, 92, -52), (13, 16, 22), width=8)
    for side in (-1, 1):
        _add(surface, at, (side * 87, -22, -28), (5, 13, 22), width=2)
    body = ramp(-surface)
    marker_box, marker = _marker(surface, body, at)

    chosen = np.flatnonzero((d > SUBARACHNOID_MM - 1) & (body > 0))
    places = _at(chosen, at)
    d_, s_, fine_, middle_, wide_, temple_ = (a.ravel()[chosen] for a in (d, surface, fine, middle, wide, temple))
    shares = _Shares(body.ravel()[chosen] * ramp(d_ - SUBARACHNOID_MM), places, middle_)
    take = shares.take
    take("dura", ramp(DURA_MM - d_))
    take("skin", ramp(s_ + 1.8))
    # Below this plane there is no vault but the skull base, the face and the neck.
    base = ramp((-21 - 0.23 * (60 - places.y) - places.z) / 4) * ramp((d_ - 1.0) / 1.0)
    vault = 1 - base
    _face(shares, places, base, fine_, sinus=ramp(d_ - 3) * ramp(-s_ - 6))

    skull = 6.6 + 0.9 * wide_
    table = 1.7 + 0.2 * middle_
    take("marrow", vault * ramp(d_ - DURA_MM - table) * ramp(skull - table - d_) * ramp(1.6 + 1.2 * fine_))
    take("bone", vault * ramp(skull - d_))
    take("bone", base * ramp((4.5 + 1.5 * middle_) - d_) * ramp(1.0 + fine_))
    # Scalp: muscle on the bone at the temples, fat above it, strands of it everywhere else.
    take("muscle", vault * ramp(temple_ * 9 + skull - d_))
    take("fat", vault * (1 - 0.12 * ramp(fine_ * 1.5 - 0.5)))
    take("fat", ramp(s_ + 5.6 + 0.8 * middle_))
    take("fat", 0.85 * ramp((1.6 * np.abs(middle_) - 2.0 + 0.7 * fine_) / 1.5))
    take("bone", ramp(1.0 * middle_ - 1.6))
    take("muscle", np.ones_like(d_))
    # Nothing real is of one brightness.
    for name in ("fat", "muscle", "marrow", "skin"):
        shares.weights[name] *= 1 + np.float32(0.07) * fine_
    layers = {name: _sparse(chosen, weight) for name, weight in shares.weights.items()}
    layers["marker"] = _sparse(_flat(marker_box), marker.ravel())
    body[marker_box] = np.maximum(body[marker_box], marker)
    return layers, body


def _face(shares: _Shares, places: Axes, base: np.ndarray, fine: np.ndarray, *, sinus: np.ndarray) -> None:
    """Give the skull base, the face and the neck their organs; the frontal sinus lies where `sinus` says."""
    put = shares.put
    for side in (-1, 1):
        # Eyes with their muscles and fat; maxillary sinus; mastoid cells; jaw; the fat around the parotid.
        eye = (side * 32, 66, -37)
        put("lens", (side * 33, 75.5, -37), (4.5, 2.2, 4.5))
        put("vitreous", eye, (12, 12, 12), grow=-1.0)
        put("muscle", eye, (12, 12, 12))
        for angle in np.arange(4) * np.pi / 2 + 0.2:
            put("muscle", (side * (27 + 9 * np.cos(angle)), 46, -37 + 9 * np.sin(angle)), (2.2, 15, 2.2), within=base)
        put("fat", (side * 28, 52, -37), (17, 24, 16), within=base)
        put("air", (side * 27, 46, -66), (14, 17, 15), rough=1.5)
        put("mucosa", (side * 27, 46, -66), (14, 17, 15), rough=1.5, grow=1.5)
        put("air", (side * 55, -36, -46), (13, 15, 17), soft=2, within=ramp(2.5 * fine - 0.2))
        put("bone", (side * 55, -36, -46), (13, 15, 17), soft=2)
        put("bone", (side * 52, 12, -68), (4, 8, 16))
        put("fat", (side * 66, -2, -66), (12, 14, 18), rough=3, soft=2, within=base)
    put("air", (0, 26, -38), (11, 11, 9), rough=1.2)
    nasal = ((0, 56, -52), (14, 30, 20))
    put("air", *nasal, soft=2, within=ramp(2.4 * np.sin(places.x * 0.75) + 1.5 * shares.noise + 0.2))
    put("mucosa", *nasal, soft=2)
    put("air", (0, 62, -8), (20, 8, 13), rough=2.5, within=sinus)
    put("air", (0, 8, -78), (9, 8, 18))
    put("marrow", (0, -4, -56), (13, 7, 19), rough=1.0, within=base)


def _flat(box: Box) -> np.ndarray:
    """Flat indices of a box's voxels."""
    return np.ravel_multi_index(np.ix_(*(np.arange(b.start, b.stop) for b in box)), SHAPE).ravel()


def _marker(surface: np.ndarray, body: np.ndarray, at: Axes) -> tuple[Box, np.ndarray]:
    """Return the capsule's shares of the voxels in a box around it: just outside the left scalp, above the ear."""
    j, k = (round(c) for c in to_voxel(np.array([0, 8.0, 32.0]))[1:])
    i = int(np.flatnonzero(surface[:, j, k] < 0)[0])
    centre = np.array([i, j, k]) + ORIGIN - [MARKER_RADIUS_MM - 1, 0, 0]
    radii = [MARKER_RADIUS_MM] * 3
    box = _box(centre.tolist(), radii, 2)
    return box, ramp(-_ellipsoid(at.cut(box), centre.tolist(), radii)) * (1 - body[box])


def _enhancing(d: np.ndarray, csf: np.ndarray, at: Axes) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return what takes up contrast agent without being a metastasis."""
    rng = np.random.default_rng(11)
    patchy = fields.texture(SHAPE, sigma=8, rng=rng)
    tufts = fields.texture(SHAPE, sigma=2.5, rng=rng)
    return [
        ("dura_enhancing", *_dura(d, patchy)),
        ("dura_enhancing", *_falx(d, csf, patchy, at)),
        ("dura_enhancing", *_tentorium(d, csf, patchy, at)),
        *(("choroid", *part) for part in _choroid(d, csf, tufts, at)),
        ("gland", *_ball((0, 3, -32), (6, 5, 4), at)),
        ("gland", *_ball((0, -31, 1), (3, 4, 3), at)),
        ("sinus", *_sinuses(d, at)),
        # Cavernous sinuses and carotids beside the pituitary.
        *(("sinus", *_ball((side * 12, 4, -34), (4.5, 9, 5.5), at)) for side in (-1, 1)),
    ]


def _ball(centre: Sequence[float], radii: Sequence[float], at: Axes) -> Sparse:
    box = _box(centre, radii, 2)
    return _sparse(_flat(box), ramp(-_ellipsoid(at.cut(box), centre, radii)).ravel())


def _at(index: np.ndarray, at: Axes) -> Axes:
    """Places (mm) of voxels given by flat index."""
    return Axes(*(axis.ravel()[i] for axis, i in zip(at, np.unravel_index(index, SHAPE))))


def _dura(d: np.ndarray, patchy: np.ndarray) -> Sparse:
    index = np.flatnonzero((d > 0) & (d < DURA_MM + 1))
    d = d.ravel()[index]
    shell = ramp((d - 0.9) * 1.3) * ramp((DURA_MM - d) * 1.3)
    return _sparse(index, shell * np.clip(0.7 + 0.3 * patchy.ravel()[index], 0.1, 1))


def _falx(d: np.ndarray, csf: np.ndarray, patchy: np.ndarray, at: Axes) -> Sparse:
    """Return the fold between the hemispheres: seen where fluid separates them."""
    middle = _box((0, 0, 0), (2, 200, 200), 0)
    d, csf, patchy = d[middle], csf[middle], patchy[middle]
    sheet = ramp((1.0 - np.abs(at.x[middle[0]])) * 1.2) * np.clip(csf * 1.8, 0, 1)
    sheet = sheet * ramp(42 + d) * ramp((at.z + 5) / 4) * (d < 1.5) * np.clip(0.7 + 0.25 * patchy, 0.1, 1)
    return _sparse(_flat(middle), sheet.ravel())


def _tentorium(d: np.ndarray, csf: np.ndarray, patchy: np.ndarray, at: Axes) -> Sparse:
    """Return the roof of the cerebellum: seen where fluid separates it from the cerebrum."""
    box = _box((0, -75, -20), (70, 40, 35), 0)
    x, y, z = at.cut(box)
    roof = 4 - 0.25 * np.clip(-y - 40, 0, 80) - 0.42 * np.abs(x)
    sheet = ramp(1.6 - np.abs(z - roof) / 2.5) * np.clip(csf[box] * 1.6, 0, 1) * (d[box] < 1.5)
    return _sparse(_flat(box), (sheet * np.clip(0.65 + 0.25 * patchy[box], 0.1, 1)).ravel())


def _choroid(d: np.ndarray, csf: np.ndarray, tufts: np.ndarray, at: Axes) -> Iterator[Sparse]:
    """Yield the choroid plexus: tufted, and within the ventricles only."""
    balls: list[tuple[tuple[float, float, float], tuple[float, float, float]]] = [((0, -47, -34), (3, 3, 4))]
    for side in (-1, 1):
        balls += [
            ((side * 23, -42, 9), (3.5, 6, 4.5)),
            ((side * 16, -34, 15), (2.2, 8, 2.5)),
            ((side * 8, -14, 18.5), (1.6, 11, 1.5)),
            ((side * 33, -22, -13), (1.8, 8, 2)),
        ]
    for centre, radii in balls:
        box = _box(centre, radii, 3)
        ball = _ellipsoid(at.cut(box), centre, radii)
        ventricle = np.clip((csf[box] - 0.3) * 2.2, 0, 1) * ramp((-d[box] - 24) / 3)
        yield _sparse(_flat(box), (ramp(-(ball + 0.8 * tufts[box])) * ventricle).ravel())


def _sinuses(d: np.ndarray, at: Axes) -> Sparse:
    """Return the venous sinuses along the hull."""
    index = np.flatnonzero((d > -8) & (d < 3))
    x, y, z = _at(index, at)
    d = d.ravel()[index]
    # Superior sagittal sinus: a triangle under the vault in the midline, wider towards the back.
    half_width = 1.4 + 3.8 * np.clip((70 - y) / 170, 0, 1)
    sagittal = (
        ramp((half_width * (1 - np.clip(-d - 0.5, 0, 9) / 8.0) - np.abs(x)) / 1.2)
        * ramp(1.7 - d)
        * ramp(d + 1 + half_width)
    )
    sagittal *= ramp((z - np.where(y > 0, 25, -12)) / 2)
    # Transverse sinuses at the level of the tentorium, the right one stronger as in most people.
    level = -9 - 0.30 * np.clip(y + 100, 0, 80)
    size = np.where(x > 0, 4.2, 3.2)
    transverse = ramp(size - np.sqrt((z - level) ** 2 + (np.clip(-d, 0, None) * 1.3 + np.clip(d, 0, None) * 2) ** 2))
    transverse *= ramp((-38 - y) / 2) * ramp(2.0 - d)
    sigmoid = ramp(3.6 - np.sqrt((y + 42 - 0.25 * (z + 35)) ** 2 + (d - 0.2) ** 2 * 1.4))
    sigmoid *= ramp((-26 - z) / 2) * (np.abs(x) > 25)
    return _sparse(index, np.maximum(np.maximum(sagittal, transverse), sigmoid))


def _close(mask: np.ndarray, voxels: int) -> np.ndarray:
    """Fill what is narrower than twice `voxels`."""
    return ~_reach(~_reach(mask, voxels), voxels)


def _reach(mask: np.ndarray, voxels: int) -> np.ndarray:
    """Grow a mask by a cube, axis by axis."""
    return ndimage.maximum_filter(mask.view(np.uint8), size=2 * voxels + 1, mode="nearest").astype(bool)


def _sparse(index: np.ndarray, weights: np.ndarray) -> Sparse:
    keep = weights > 0.004
    return index[keep].astype(np.int32), weights[keep].astype(np.float32)
