"""The head all phantoms are made from: the ICBM 2009a brain that nilearn ships, inside a synthesised skull and scalp.

The template gives brain tissue only. Everything around it is drawn in template space from the distance to the brain's
hull: dura, skull with marrow, temporal muscle, fat, skin, a face with eyes and air sinuses, and the venous sinuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import nibabel as nib
import numpy as np
from scipy import ndimage

from mettrail.phantom import fields
from mettrail.phantom.fields import ramp

# Corner and size of the grid heads are drawn on (mm, RAS): larger than the template's, for face and ears.
ORIGIN = np.array([-102.0, -128.0, -78.0])
SHAPE = (205, 239, 179)
AFFINE = nib.affines.from_matvec(np.eye(3), ORIGIN)
# The brain ends here: the template is cut through the brain stem.
FLOOR_Z = -72.0
SUBARACHNOID_MM = 1.3
DURA_MM = 2.1
# Marker on the left scalp, as radiographers tape a vitamin E capsule: a mirrored head shows at once.
MARKER_RADIUS_MM = 5.0
EDGE = 2


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
    enhancing : name -> (flat indices, weights)
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
    layers: dict[str, tuple[np.ndarray, np.ndarray]]
    enhancing: dict[str, tuple[np.ndarray, np.ndarray]]
    covered: tuple[np.ndarray, np.ndarray]
    depth_mm: np.ndarray
    brain: np.ndarray
    brain_zone: np.ndarray
    body: np.ndarray
    near_body: np.ndarray
    sites: np.ndarray
    site_weights: np.ndarray


def to_voxel(points: np.ndarray) -> np.ndarray:
    """Template voxel coordinates of (..., 3) points in mm."""
    return np.asarray(points) - ORIGIN


@lru_cache(maxsize=1)
def load_head() -> Head:
    """Draw the template head; takes a few seconds once per process."""
    t1, gm, wm = _template()
    mask = t1 > 0
    outside_mm = _distance_to_hull(mask)
    axes = [np.arange(n, dtype=np.float32) + o for n, o in zip(SHAPE, ORIGIN.astype(np.float32))]
    x, y, z = (a.reshape([-1 if i == k else 1 for i in range(3)]) for k, a in enumerate(axes))

    inside = np.flatnonzero((outside_mm < SUBARACHNOID_MM + 0.5) & (z > ORIGIN[2] - 1))
    g, w = gm.ravel()[inside], wm.ravel()[inside]
    total = np.maximum(g + w, 1)
    g, w = g / total, w / total
    csf = 1 - g - w

    layers, body = _outside(outside_mm, x, y, z)
    csf_map = np.zeros(SHAPE, np.float32)
    csf_map.ravel()[inside] = csf
    enhancing = _enhancing(outside_mm, csf_map, x, y, z)
    brain = ndimage.gaussian_filter(ndimage.binary_closing(mask, iterations=2).astype(np.float32), 0.7, truncate=2)

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
    from nilearn import datasets

    out = []
    for load in (datasets.load_mni152_template, datasets.load_mni152_gm_template, datasets.load_mni152_wm_template):
        img = load(resolution=1)
        data = np.asarray(img.dataobj, np.float32)
        shift = np.round(ORIGIN - img.affine[:3, 3]).astype(int)
        index = [np.arange(n) + s for n, s in zip(SHAPE, shift)]
        index[2] = np.maximum(index[2], 1)
        valid = [(i >= 0) & (i < n) for i, n in zip(index, data.shape)]
        grown = np.zeros(SHAPE, np.float32)
        grown[np.ix_(*valid)] = data[np.ix_(*(i[v] for i, v in zip(index, valid)))]
        out.append(grown)
    return out


def _distance_to_hull(mask: np.ndarray) -> np.ndarray:
    """Distance (mm) outwards from the brain without its sulci; worked out at 2 mm, which is smooth enough."""
    pad = 12
    coarse = np.pad(mask[::2, ::2, ::2], ((pad, pad), (pad, pad), (pad, pad)))
    coarse[:, :, :pad] = coarse[:, :, pad : pad + 1]
    grown = ndimage.distance_transform_edt(~coarse) <= 6
    hull = ndimage.distance_transform_edt(grown) > 6
    hull = ndimage.binary_fill_holes(hull | coarse)
    hull = ndimage.gaussian_filter(hull.astype(np.float32), 1.0) > 0.5
    signed = ndimage.distance_transform_edt(~hull) - ndimage.distance_transform_edt(hull)
    signed = ndimage.gaussian_filter(signed.astype(np.float32), 0.9)[pad:-pad, pad:-pad, pad:-pad] * 2
    return fields.upsample(
        signed, tuple(fields.interpolate_at(np.arange(n) / 2, k) for n, k in zip(mask.shape, signed.shape))
    )


def _ellipsoid(x, y, z, centre, radii) -> np.ndarray:
    """Rough signed distance (mm) to an ellipsoid; negative inside."""
    terms = [((a - c) / r) ** 2 for a, c, r in zip((x, y, z), centre, radii)]
    return (np.sqrt(terms[0] + terms[1] + terms[2]) - 1) * np.float32(min(radii))


def _smooth_min(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    h = np.clip(0.5 + 0.5 * (b - a) / width, 0, 1)
    return b + (a - b) * h - width * h * (1 - h)


def _outside(d, x, y, z) -> tuple[dict, np.ndarray]:
    """Skull, scalp and face as sparse memberships, and the soft head mask."""
    rng = np.random.default_rng(7)
    wide = fields.texture(SHAPE, sigma=9, rng=rng)
    fine = fields.texture(SHAPE, sigma=1.6, rng=rng)
    middle = fields.texture(SHAPE, sigma=3.5, rng=rng)

    # Thickness of skull and scalp; the temples carry a muscle.
    temple = np.exp(-(((y - 15) / 32) ** 2) - (((z + 12) / 26) ** 2)) * np.clip((np.abs(x) - 40) / 20, 0, 1)
    thickness = 12.5 + 4.0 * temple + 0.5 * wide
    surface = d - thickness
    face = _ellipsoid(x, y, z, (0, 30, -52), (63, 66, 78))
    nose = _ellipsoid(x, y, z, (0, 92, -52), (13, 16, 22))
    neck = _ellipsoid(x, y, z, (0, -32, -95), (56, 62, 62))
    surface = _smooth_min(surface, face, 14.0)
    surface = _smooth_min(surface, neck, 16.0)
    surface = _smooth_min(surface, nose, 8.0)
    for side in (-1, 1):
        surface = np.minimum(surface, _ellipsoid(x, y, z, (side * 87, -22, -28), (5, 13, 22)))
    marker_at = _marker_centre(surface)
    marker = np.sqrt((x - marker_at[0]) ** 2 + (y - marker_at[1]) ** 2 + (z - marker_at[2]) ** 2) - MARKER_RADIUS_MM
    body = np.maximum(ramp(-surface), ramp(-marker))

    chosen = np.flatnonzero((d > SUBARACHNOID_MM - 1) & (body > 0))
    full = lambda a: np.broadcast_to(a, SHAPE).ravel()[chosen]  # noqa: E731
    d_, s_, x_, y_, z_ = (full(a) for a in (d, surface, x, y, z))
    fine_, middle_, wide_ = (full(a) for a in (fine, middle, wide))

    within = full(ramp(-surface)) * ramp(d_ - SUBARACHNOID_MM)
    weights: dict[str, np.ndarray] = {}
    left = within.copy()

    def take(name: str, share: np.ndarray) -> None:
        nonlocal left
        part = left * np.clip(share, 0, 1)
        weights[name] = weights.get(name, 0) + part
        left = left - part

    ell = lambda centre, radii: _ellipsoid(x_, y_, z_, centre, radii)  # noqa: E731
    take("dura", ramp(DURA_MM - d_))
    take("skin", ramp(s_ + 1.8))
    # Below this plane there is no vault but the skull base, the face and the neck.
    base = ramp((-21 - 0.23 * (60 - y_) - z_) / 4) * ramp((d_ - 1.0) / 1.0)
    vault = 1 - base
    # Eyes in their fat.
    for side in (-1, 1):
        eye = ell((side * 32, 66, -37), (12, 12, 12))
        take("lens", ramp(-ell((side * 33, 75.5, -37), (4.5, 2.2, 4.5))))
        take("vitreous", ramp(-(eye + 1.0)))
        take("muscle", ramp(-eye))
        for angle in np.arange(4) * np.pi / 2 + 0.2:
            centre = (side * (27 + 9 * np.cos(angle)), 46, -37 + 9 * np.sin(angle))
            take("muscle", base * ramp(-ell(centre, (2.2, 15, 2.2))))
        take("fat", base * ramp(-ell((side * 28, 52, -37), (17, 24, 16))))
        take("air", ramp(-(ell((side * 27, 46, -66), (14, 17, 15)) + 1.5 * middle_)))
        take("mucosa", ramp(-(ell((side * 27, 46, -66), (15.5, 18.5, 16.5)) + 1.5 * middle_)))
        mastoid = ramp(-(ell((side * 55, -36, -46), (13, 15, 17))) / 2)
        take("air", mastoid * ramp(2.5 * fine_ - 0.2))
        take("bone", mastoid)
        take("bone", ramp(-ell((side * 52, 12, -68), (4, 8, 16))))
        take("fat", base * ramp(-(ell((side * 66, -2, -66), (12, 14, 18)) + 3 * middle_) / 2))
    take("air", ramp(-(ell((0, 26, -38), (11, 11, 9)) + 1.2 * middle_)))
    nasal = ramp(-ell((0, 56, -52), (14, 30, 20)) / 2)
    take("air", nasal * ramp(2.4 * np.sin(x_ * 0.75) + 1.5 * middle_ + 0.2))
    take("mucosa", nasal)
    take("air", ramp(-(ell((0, 62, -8), (20, 8, 13)) + 2.5 * middle_)) * ramp(d_ - 3) * ramp(-s_ - 6))
    take("air", ramp(-ell((0, 8, -78), (9, 8, 18))))
    take("marrow", base * ramp(-(ell((0, -4, -56), (13, 7, 19)) + 1.0 * fine_)))

    skull = 6.6 + 0.9 * wide_
    table = 1.7 + 0.2 * middle_
    is_skull = ramp(skull - d_)
    take("marrow", vault * ramp(d_ - DURA_MM - table) * ramp(skull - table - d_) * ramp(1.6 + 1.2 * fine_))
    take("bone", vault * is_skull)
    take("bone", base * ramp((4.5 + 1.5 * middle_) - d_) * ramp(1.0 + fine_))
    # Scalp: muscle on the bone at the temples, fat above it, strands of it everywhere else.
    take("muscle", vault * ramp(full(temple) * 9 + skull - d_))
    fat = ramp(s_ + 5.6 + 0.8 * middle_)
    take("fat", vault * (1 - 0.12 * ramp(fine_ * 1.5 - 0.5)))
    take("fat", fat)
    streaks = ramp(1.8 * np.abs(middle_) - 2.2 + 0.8 * fine_)
    take("fat", streaks)
    take("bone", ramp(1.2 * middle_ - 1.8))
    take("muscle", np.ones_like(d_))
    layers = {name: _sparse(chosen, w) for name, w in weights.items()}
    layers["marker"] = _sparse(np.arange(d.size), (ramp(-marker) * (1 - ramp(-surface))).ravel())
    return layers, body


def _marker_centre(surface: np.ndarray) -> np.ndarray:
    """Centre of the capsule: just outside the left scalp, above the ear."""
    j, k = (round(c) for c in to_voxel(np.array([0, 8.0, 32.0]))[1:])
    i = int(np.flatnonzero(surface[:, j, k] < 0)[0])
    return np.array([i, j, k]) + ORIGIN - [MARKER_RADIUS_MM - 1, 0, 0]


def _enhancing(d, csf, x, y, z) -> dict:
    """Return what takes up contrast agent without being a metastasis."""
    rng = np.random.default_rng(11)
    middle = fields.texture(SHAPE, sigma=4, rng=rng)
    patchy = fields.texture(SHAPE, sigma=8, rng=rng)
    back = np.clip((70 - y) / 170, 0, 1)
    half_width = 2.0 + 3.6 * back
    # Superior sagittal sinus: a triangle under the vault in the midline, wider towards the back.
    sagittal = ramp((half_width * (1 - np.clip(-d - 0.5, 0, 9) / 8.0) - np.abs(x)) / 1.2) * ramp(1.7 - d) * ramp(d + 7)
    sagittal = sagittal * ramp((z - np.where(y > 0, 25, -12)) / 2)
    # Transverse sinuses: along the hull at the level of the tentorium, the right one stronger as in most people.
    level = -9 - 0.30 * np.clip(y + 100, 0, 80)
    size = np.where(x > 0, 4.2, 3.2)
    transverse = ramp(size - np.sqrt((z - level) ** 2 + (np.clip(-d, 0, None) * 1.3 + np.clip(d, 0, None) * 2) ** 2))
    transverse = transverse * ramp((-38 - y) / 2) * ramp(2.0 - d)
    sigmoid = ramp(3.6 - np.sqrt((y + 42 - 0.25 * (z + 35)) ** 2 + (d - 0.2) ** 2 * 1.4))
    sigmoid = sigmoid * ramp((-26 - z) / 2) * (np.abs(x) > 25)
    sinus = np.maximum(np.maximum(sagittal, transverse), sigmoid)
    # Cavernous sinuses and carotids beside the pituitary.
    for side in (-1, 1):
        sinus = np.maximum(sinus, ramp(-_ellipsoid(x, y, z, (side * 12, 4, -34), (4.5, 9, 5.5))))
    # Falx and tentorium are seen where CSF separates the halves.
    falx = ramp((1.0 - np.abs(x)) * 1.2) * np.clip(csf * 1.8, 0, 1) * ramp(45 + d) * ramp((z + 5) / 4) * (d < 1.5)
    roof = 4 - 0.25 * np.clip(-y - 40, 0, 80) - 0.42 * np.abs(x)
    tent = ramp(1.6 - np.abs(z - roof) / 2.5) * np.clip(csf * 1.6, 0, 1) * (y < -35) * (d < 1.5)
    shell = ramp((d - 0.9) * 1.3) * ramp((DURA_MM - d) * 1.3)
    dura = np.maximum(np.maximum(0.75 * falx, 0.7 * tent), shell * np.clip(0.75 + 0.3 * patchy, 0.15, 1))
    # Choroid plexus: only within the ventricles, tufted.
    ventricle = np.clip((csf - 0.35) * 2.2, 0, 1) * ramp((-d - 24) / 3)
    plexus = np.zeros(SHAPE, np.float32)
    for side in (-1, 1):
        for centre, radii in (
            ((side * 23, -42, 10), (5, 7, 6)),
            ((side * 15, -32, 17), (4, 9, 4)),
            ((side * 7, -12, 20), (3, 12, 2.5)),
            ((side * 33, -22, -12), (2.5, 8, 3)),
        ):
            plexus = np.maximum(plexus, ramp(-(_ellipsoid(x, y, z, centre, radii) + 0.6 * middle)))
    plexus = np.maximum(plexus, ramp(-(_ellipsoid(x, y, z, (0, -47, -34), (4, 3, 4)) + 0.5 * middle)))
    glands = ramp(-_ellipsoid(x, y, z, (0, 3, -32), (6, 5, 4)))
    glands = np.maximum(glands, ramp(-_ellipsoid(x, y, z, (0, -31, 1), (3, 4, 3))))
    found = {"dura_enhancing": dura, "choroid": plexus * ventricle, "gland": glands, "sinus": sinus}
    return {name: _sparse(np.arange(d.size), np.broadcast_to(m, SHAPE).ravel()) for name, m in found.items()}


def _reach(mask: np.ndarray, voxels: int) -> np.ndarray:
    """Grow a mask by a cube, axis by axis."""
    return ndimage.maximum_filter(mask.view(np.uint8), size=2 * voxels + 1, mode="nearest").astype(bool)


def _sparse(index: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keep = weights > 0.004
    return index[keep].astype(np.int32), weights[keep].astype(np.float32)
