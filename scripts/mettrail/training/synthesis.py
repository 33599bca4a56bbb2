"""Synthetic metastases by domain randomisation, and what only resembles them: painted into training patches on the fly.

No patch is seen twice and hardly any looks like another: a network learns what lesions have in common, not where the
simulation puts them or what they look like in one scanner. What only resembles a lesion stays unlabelled, painted or
in the background: vessels, venous sinuses, dura, choroid plexus, ventricles, dark spots of white matter. Resection beds
are painted by `resection`.

Intensities are nnU-Net's z-scores within the brain mask: white matter lies at about 0.6, air at about -3. One
standard deviation is the unit of brightness throughout; voxels are 1 mm.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from scipy import ndimage

from mettrail.images import EDEMA, ENHANCING, NECROSIS
from mettrail.training.base_trainer import Batch
from mettrail.training.cases import distance_mm
from mettrail.training.priors import grow_and_shrink

# nnU-Net marks what is outside the brain with -1.
OUTSIDE = -1
# Knots of the random tone curve: air, CSF, grey matter, white matter, bright vessels.
_TONES = np.array([-3.2, -1.6, -0.4, 0.6, 2.0, 8.0])
# One voxel in so many is enough for a percentile.
_SOME = 7
# Nobody sees a lesion of fewer voxels.
FEWEST_VOXELS = 4
# Of the width that a blur is too wide, so much is labelled: to where a fifth of the contrast is left at 3 mm.
_LABELLED_SHARE = 0.8


class SynthesiseLesions(BasicTransform):  # type: ignore[misc]
    """Paint lesions, with their labels, and look-alikes, without, into a patch; with a prior if asked.

    Parameters
    ----------
    settings : dict
        ``synthesis`` of config/train.yaml.
    prior : bool
        The last channel is the prior of re-segmentation: painted lesions get one, good or bad or none.

    Notes
    -----
    Randomness comes from numpy's global generator, as all of nnU-Net's.
    """

    def __init__(self, settings: dict[str, Any], *, prior: bool = False):
        super().__init__()
        self.settings, self.prior = settings, prior

    def apply(self, data_dict: Batch, **_: object) -> Batch:
        """Paint into ``image`` (C, Z, Y, X) and ``segmentation`` (1, Z, Y, X), both changed in place."""
        image, labels = data_dict["image"][0].numpy(), data_dict["segmentation"][0].numpy()
        prior = data_dict["image"][-1].numpy() if self.prior else None
        rng = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002
        synthesise(image, labels, prior, rng=rng, settings=self.settings)
        return data_dict


@dataclass(frozen=True)
class Patch:
    """What is painted into, in place.

    Parameters
    ----------
    image : (Z, Y, X) float32
        Z-scores, 0 outside the brain mask.
    labels : (Z, Y, X) int
        0 to 3, -1 outside the brain mask.
    prior : (Z, Y, X) float32, optional
        0 and 1.
    white : float
        Brightness of white matter.
    """

    image: np.ndarray
    labels: np.ndarray
    prior: np.ndarray | None
    white: float

    def cut(self, box: tuple[slice, ...]) -> Patch:
        """Return a part of it: painting there is painting here."""
        prior = None if self.prior is None else self.prior[box]
        return Patch(self.image[box], self.labels[box], prior, self.white)


def synthesise(
    image: np.ndarray,
    labels: np.ndarray,
    prior: np.ndarray | None,
    *,
    rng: np.random.Generator,
    settings: dict[str, Any],
) -> None:
    """Re-contrast the tissue, paint look-alikes, then lesions; everything is changed in place.

    Parameters
    ----------
    image, labels, prior
        As in `Patch`.
    rng : numpy Generator
    settings : dict
        ``synthesis`` of config/train.yaml.
    """
    brain = labels != OUTSIDE
    if brain.mean() < 0.02:
        return
    if rng.random() < settings["tone_prob"]:
        image[brain] = _draw_tones(image[brain], rng)
    patch = Patch(image, labels, prior, float(np.percentile(image[brain][::_SOME], 75)))
    edge = None
    for name, paint in _LOOK_ALIKES.items():
        given = settings["look_alikes"].get(name)
        if given is None or rng.random() >= given["prob"]:
            continue
        if edge is None:
            edge = below_surface(brain)
        for _ in range(rng.integers(1, given.get("at_most", 1) + 1)):
            paint(patch, edge, rng, given)
    if prior is not None and rng.random() < settings["prior"]["vanished_prob"]:
        _paint_vanished(patch, prior, rng, settings)
    if rng.random() < settings["lesions"]["prob"]:
        for _ in range(rng.integers(1, settings["lesions"]["at_most"] + 1)):
            paint_lesion(patch, rng, settings)
    if prior is not None and rng.random() < settings["prior"]["drop_all_prob"]:
        prior[...] = 0


def below_surface(brain: np.ndarray) -> np.ndarray:
    """Return mm below the surface of the brain, infinite where all is tissue.

    To 1 mm or so, at a tenth of the time of an exact distance.
    """
    return np.full(brain.shape, np.inf) if brain.all() else np.maximum(-distance_mm(brain), brain / 2)


def simulate_visits(
    image: np.ndarray,
    brain: np.ndarray,
    *,
    rng: np.random.Generator,
    settings: dict[str, Any],
    lesions: tuple[int, int] | dict[str, list[float]],
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Paint a patient's two visits into one real head: lesions grow, shrink, vanish and appear.

    Parameters
    ----------
    image : (X, Y, Z) float
        Without metastases.
    brain : (X, Y, Z) bool
        Where lesions may lie.
    rng : numpy Generator
    settings : dict
        As in `synthesise`.
    lesions : (low, high), or dict
        Number of lesions of the patient: any of these alike, or drawn from its ``quantiles`` and their ``number``.

    Returns
    -------
    list of (image, tissue, instances)
        (X, Y, Z) float32, uint8 and uint8; of each visit. The number of a lesion is the same at both.
    """
    mean, spread = float(image[brain].mean()), float(image[brain].std())
    scans = [((image - mean) / spread, np.where(brain, 0, OUTSIDE), np.zeros(image.shape, np.uint8)) for _ in range(2)]
    white = float(np.percentile(scans[0][0][brain], 75))
    visits = [(Patch(scan, labels, None, white), instances) for scan, labels, instances in scans]
    everywhere = visits[0][0].labels.copy()
    if isinstance(lesions, dict):
        count = round(draw_from_quantiles(lesions["quantiles"], lesions["number"], rng))
    else:
        count = int(rng.integers(lesions[0], lesions[1] + 1))
    for number in range(1, count + 1):
        radii = _draw_fate(settings["lesions"], rng)
        place = _draw_place(Patch(visits[0][0].image, everywhere, None, white), rng)
        seed = int(rng.integers(2**31))
        for (visit, instances), radius in zip(visits, radii):
            before = np.isin(visit.labels, (ENHANCING, NECROSIS))
            if radius > 0 and place is not None:
                paint_lesion(visit, np.random.default_rng(seed), settings, radius=radius, place=place)
            painted = np.isin(visit.labels, (ENHANCING, NECROSIS))
            instances[painted & ~before] = number
            everywhere[painted] = ENHANCING
    return [
        ((visit.image * spread + mean).astype(np.float32), np.maximum(visit.labels, 0).astype(np.uint8), instances)
        for visit, instances in visits
    ]


def _draw_fate(given: dict[str, Any], rng: np.random.Generator) -> tuple[float, float]:
    """Draw a lesion's radius at two visits; 0 where it is not there."""
    first = draw_radius(given, rng)
    second = float(np.clip(first * np.exp(0.35 * rng.standard_normal()), *given["radius_mm"]))
    fate = rng.random()
    return (0.0, second) if fate < 0.14 else (first, 0.0) if fate < 0.26 else (first, second)


def paint_lesion(
    patch: Patch,
    rng: np.random.Generator,
    settings: dict[str, Any],
    *,
    radius: float | None = None,
    place: np.ndarray | None = None,
) -> bool:
    """Paint one metastasis of a kind in `_paint_tumour`, perhaps with edema and mass effect.

    Parameters
    ----------
    patch : Patch
    rng : numpy Generator
    settings : dict
    radius : float, optional
        mm; drawn when omitted.
    place : (3,) int, optional
        Voxel of its centre; drawn when omitted.

    Returns
    -------
    bool
        False where there was no room for it.
    """
    given = settings["lesions"]
    radius = draw_radius(given, rng) if radius is None else radius
    place = _draw_place(patch, rng) if place is None else place
    if place is None:
        return False
    # Looks do not depend on how many numbers the shape took: a lesion looks alike at two visits.
    shape_rng, rng = rng.spawn(2)
    box, depth = draw_shape(patch.labels.shape, place, radius, shape_rng)
    part = patch.cut(box)
    labels = part.labels
    inside = (depth > 0) & (labels != OUTSIDE)
    if inside.sum() < FEWEST_VOXELS or is_taken(labels, inside):
        return False
    if radius > given["push_from_mm"] and rng.random() < given["push_prob"]:
        push(part.image, labels, place - [s.start for s in box], rng.uniform(*given["push"]) * radius)
        inside &= labels != OUTSIDE
    if rng.random() < given["edema_prob"]:
        _paint_edema(part, depth, radius, rng, given)
    core, softness = _paint_tumour(part, depth, radius, rng, given)
    # What is blurred widely is labelled from the outer part of the blur on, as readers do.
    reach = _LABELLED_SHARE * max(softness - given.get("drawn_wider_from_mm", np.inf), 0)
    labels[inside | ((depth > -reach) & np.isin(labels, (0, EDEMA)))] = ENHANCING
    labels[inside & core] = NECROSIS
    if part.prior is not None:
        _paint_prior(part.prior, depth + reach, labels != OUTSIDE, radius + reach, rng, settings["prior"])
    return True


def draw_radius(given: dict[str, Any], rng: np.random.Generator) -> float:
    """Draw the radius of a lesion (mm): as real ones are, as small as the papers' lesions are, or of any size."""
    low, high = given["radius_mm"]
    real = given.get("real_sizes")
    if real and rng.random() < real["prob"]:
        return draw_from_quantiles(real["quantiles"], real["diameter_mm"], rng) / 2
    if rng.random() < given["any_size_prob"]:
        return draw_log((low, high), rng)
    return float(np.clip(given["median_radius_mm"] * np.exp(given["spread"] * rng.standard_normal()), low, high))


def draw_from_quantiles(quantiles: list[float], values: list[float], rng: np.random.Generator) -> float:
    """Draw from a distribution of which some quantiles are known; in between, evenly on the logarithmic scale.

    Parameters
    ----------
    quantiles : list of float
        Rising from 0 to 1.
    values : list of float
        Positive.
    rng : numpy Generator
    """
    return float(np.exp(np.interp(rng.random(), quantiles, np.log(values))))


def _paint_tumour(
    part: Patch, depth: np.ndarray, radius: float, rng: np.random.Generator, given: dict[str, Any]
) -> tuple[np.ndarray, float]:
    """Paint the enhancing tissue and what it encloses; return where that does not enhance, and the edge's width (mm).

    Solid ones enhance throughout, faint ones hardly; rings enclose necrosis, cystic ones fluid with a thin wall,
    mottled ones many small holes, haemorrhagic ones blood, which is brighter than what enhances around it.
    """
    image, white = part.image, part.white
    brain = part.labels != OUTSIDE
    shape = image.shape
    inside = (depth > 0) & brain
    ground = float(image[inside].mean())
    # White matter is about `unit` above air.
    unit = rng.uniform(*given["white_above_air"])
    kind = rng.choice(list(given["kinds"]), p=list(given["kinds"].values()))
    if radius < given["ring_from_mm"] and kind != "faint":
        kind = "solid"
    times_white = given["faint"] if kind == "faint" else given["enhancement"]
    bright = white + unit * (draw_log(times_white, rng) - 1)
    # What nobody could see is not asked for: the smaller, the clearer.
    noise = float(image[inside].std()) if inside.sum() > 20 else 0.3
    visible = given["visible"] * (1 + 2.5 / radius) * max(min(noise, 1.0), 0.3)
    bright = max(bright, ground + visible)
    softness = rng.uniform(*given["softness_mm"])
    soft = np.clip(depth / softness + 0.5, 0, 1) * brain
    contrast = bright - ground
    rough = draw_texture(shape, draw_log((0.6, 4.0), rng), rng)
    value = bright + contrast * rng.uniform(0, 0.3) * rough
    core = np.zeros(shape, bool)
    dark = min(white + unit * (rng.uniform(*given["core"]) - 1), ground + 0.45 * contrast)
    if kind in ("ring", "cystic", "haemorrhagic"):
        thickness = draw_log((0.8, 1.6), rng) if kind == "cystic" else draw_log((1.0, 0.6 * radius + 0.5), rng)
        wobble = 0.35 * thickness * draw_texture(shape, max(radius / 2, 1.5), rng)
        below = depth - thickness - wobble
        core = below > 0
        if kind == "haemorrhagic":
            fill = bright + contrast * (rng.uniform(*given["blood"]) + 0.12 * draw_texture(shape, 3.0, rng))
        else:
            fill = dark + 0.12 * contrast * draw_texture(shape, 1.5, rng) * (kind == "ring")
        share = np.clip(below / rng.uniform(0.7, 1.5) + 0.5, 0, 1)
        if rng.random() < given["gap_prob"]:
            # Parts of the rim hardly enhance.
            gap = np.clip(draw_texture(shape, max(radius / 1.5, 2.0), rng) + rng.uniform(-0.5, 0.7), 0, 1)
            value = value - gap * rng.uniform(0.4, 1.0) * (value - ground)
        value = value * (1 - share) + fill * share
    elif kind == "mottled":
        holes = draw_texture(shape, max(radius / rng.uniform(3, 6), 0.8), rng) - rng.uniform(-0.2, 0.9)
        share = np.clip(1.5 * holes + 0.5, 0, 1) * np.clip(depth - 0.5, 0, 1)
        core = share > 0.5
        value = value * (1 - share) + dark * share
    image *= 1 - soft
    image += soft * value
    return core, softness


def _paint_edema(
    part: Patch, depth: np.ndarray, radius: float, rng: np.random.Generator, given: dict[str, Any]
) -> None:
    """Darken white matter around a lesion; grey matter is spared."""
    image, labels = part.image, part.labels
    width = rng.uniform(1.5, 4 + 0.8 * radius)
    reach = width * (1 + 0.4 * draw_texture(image.shape, 4.0, rng)) + depth
    soft = np.clip(reach / rng.uniform(1.5, 4) + 0.5, 0, 1) * np.isin(labels, (0, EDEMA))
    follows = np.clip((image - (part.white - rng.uniform(0.6, 1.1))) / 0.5, 0, 1)
    soft *= np.maximum(follows, 0.15)
    drop = rng.uniform(*given["edema"]) * rng.uniform(*given["white_above_air"])
    image -= soft * drop
    labels[(soft > 0.5) & (labels == 0)] = EDEMA


def _paint_prior(
    prior: np.ndarray,
    depth: np.ndarray,
    brain: np.ndarray,
    radius: float,
    rng: np.random.Generator,
    given: dict[str, Any],
) -> None:
    """Draw a lesion's outline at the prior visit: off, larger or smaller; of a new one none, or a fictitious one."""
    before = depth > radius * (1 - np.exp(given["growth"] * rng.standard_normal()))
    shift = np.rint(rng.normal(0, given["shift_mm"], 3)).astype(int)
    if rng.random() < given["new_prob"]:
        if rng.random() >= given["fictitious_prob"]:
            return
        before = grow_and_shrink(depth > 0, rng=rng, dilate_vox=given["dilate_vox"], erode_vox=given["erode_vox"])
        shift = rng.integers(given["translate_vox"][0], given["translate_vox"][1] + 1, 3)
    # What leaves the patch on one side must not come back on the other.
    before = ndimage.shift(before.astype(np.uint8), shift, order=0) > 0
    prior[before & brain] = 1


def _paint_vanished(patch: Patch, prior: np.ndarray, rng: np.random.Generator, settings: dict[str, Any]) -> None:
    """Leave the outline of a lesion that is absent now: nothing there, or a dark scar."""
    radius = draw_radius(settings["lesions"], rng)
    place = _draw_place(patch, rng)
    if place is None:
        return
    box, depth = draw_shape(patch.labels.shape, place, radius, rng)
    image, labels, prior = patch.image[box], patch.labels[box], prior[box]
    if is_taken(labels, depth > 0):
        return
    prior[(depth > 0) & (labels != OUTSIDE)] = 1
    if rng.random() < 0.5:
        shrunk = depth - rng.uniform(0, 0.7) * radius
        soft = np.clip(shrunk / rng.uniform(0.8, 2.5) + 0.5, 0, 1) * (labels != OUTSIDE)
        image -= soft * rng.uniform(0.2, 2.0)


def _paint_vessel(patch: Patch, _edge: np.ndarray, rng: np.random.Generator, given: dict[str, Any]) -> None:
    """Paint a bent tube through the patch, whole or interrupted."""
    centre = _draw_place(patch, rng)
    if centre is not None:
        _paint_tube(patch, centre, rng, given)


def _paint_sinus(patch: Patch, edge: np.ndarray, rng: np.random.Generator, given: dict[str, Any]) -> None:
    """Paint a wide tube along the edge of the mask, as venous sinuses run."""
    near = np.flatnonzero((edge > 0) & (edge < 3.5))
    if near.size:
        _paint_tube(patch, voxel_at(rng.choice(near), patch), rng, given)


def _paint_tube(patch: Patch, centre: np.ndarray, rng: np.random.Generator, given: dict[str, Any]) -> None:
    image, white = patch.image, patch.white
    radius = draw_log(given["radius_mm"], rng)
    along, across, other = np.linalg.qr(rng.standard_normal((3, 3)))[0].T.astype(np.float32)
    away = offsets_from(image.shape, centre)
    run, sideways, up = away @ along, away @ across, away @ other
    bend, twist = rng.uniform(-0.015, 0.015, 2)
    wave, phase = rng.uniform(0, 2.5), rng.uniform(0, 6.3)
    sideways = sideways - bend * run**2 - wave * np.sin(run / rng.uniform(4, 9) + phase)
    distance = np.hypot(sideways, (up - twist * run**2) / rng.uniform(0.6, 1.6))
    soft = np.clip(radius - distance + 0.5, 0, 1)
    if rng.random() < given["broken_prob"]:
        gate = draw_texture((256,), rng.uniform(2, 6), rng)
        soft *= np.clip(0.3 + gate[np.rint(run).astype(int) % 256], 0, 1)
    soft[np.isin(patch.labels, (OUTSIDE, ENHANCING, NECROSIS))] = 0
    if rng.random() < given.get("void_prob", 0):
        # Flow is dark in spin echo.
        image += soft * np.minimum(white - draw_log(given["contrast"], rng) - image, 0)
        return
    value = white + draw_log(given["contrast"], rng)
    image += soft * np.maximum(value - image, 0)


def _paint_sheet(patch: Patch, edge: np.ndarray, rng: np.random.Generator, given: dict[str, Any]) -> None:
    """Brighten patches of the mask's edge: enhancing dura, marrow and fat that the mask has kept."""
    image, labels, white = patch.image, patch.labels, patch.white
    thickness = draw_log(given["thickness_mm"], rng)
    gate = np.clip(draw_texture(image.shape, rng.uniform(4, 12), rng) * 2 + rng.uniform(-2, 2), 0, 1)
    soft = np.clip(thickness - edge + 0.5, 0, 1) * gate * (labels == 0)
    value = white + draw_log(given["contrast"], rng) * (1 + 0.15 * draw_texture(image.shape, 1.2, rng))
    image += soft * (value - image)


def _paint_plexus(patch: Patch, edge: np.ndarray, rng: np.random.Generator, given: dict[str, Any]) -> None:
    """Paint bright tufts into fluid, as choroid plexus lies in ventricles."""
    image, labels, white = patch.image, patch.labels, patch.white
    fluid = (image < white - rng.uniform(1.2, 2.0)) & (labels == 0) & (edge > 4)
    places = np.flatnonzero(fluid)
    if places.size < 30:
        return
    centre = voxel_at(rng.choice(places), patch)
    box, depth = draw_shape(labels.shape, centre, draw_log(given["radius_mm"], rng), rng)
    wet = ndimage.binary_dilation(fluid[box], iterations=1) & (labels[box] == 0)
    tufts = np.clip(1.5 * draw_texture(depth.shape, rng.uniform(0.7, 1.5), rng) + 0.7, 0, 1)
    soft = np.clip(depth + 0.5, 0, 1) * tufts * wet
    value = white + draw_log(given["contrast"], rng)
    image[box] += soft * np.maximum(value - image[box], 0)


def _paint_ventricle(patch: Patch, edge: np.ndarray, rng: np.random.Generator, given: dict[str, Any]) -> None:
    """Paint a horn or trigone of a ventricle: fluid deep in the brain, perhaps with enhancing plexus in it."""
    image, labels, white = patch.image, patch.labels, patch.white
    radius = draw_log(given["radius_mm"], rng)
    places = np.flatnonzero((edge > 0.8 * radius + 4) & (labels == 0))
    if not places.size:
        return
    centre = voxel_at(rng.choice(places), patch)
    along = draw_direction(rng).astype(np.float32)
    box, depth = draw_shape(labels.shape, centre, radius, rng, along=along, stretch=rng.uniform(1.2, 2.5))
    free = labels[box] == 0
    if is_taken(labels[box], depth > -2):
        return
    wall = np.clip(depth / rng.uniform(0.6, 2.0) + 0.5, 0, 1) * free
    image[box] += wall * (white - draw_log(given["fluid"], rng) - image[box])
    if rng.random() >= given["plexus_prob"]:
        return
    # A tongue along the ventricle, off its middle.
    off = rng.uniform(-0.4, 0.4, 3) * radius
    away = offsets_from(depth.shape, centre - [s.start for s in box] + off)
    run = (away @ along)[..., None]
    plexus = rng.uniform(0.25, 0.7) * radius - np.linalg.norm(away - run * rng.uniform(0.2, 0.9) * along, axis=-1)
    tufts = np.clip(1.2 * draw_texture(depth.shape, rng.uniform(0.7, 2.0), rng) + 0.9, 0, 1)
    soft = np.clip(plexus / rng.uniform(0.7, 1.5) + 0.5, 0, 1) * tufts * (depth > -0.5) * free
    value = white + draw_log(given["contrast"], rng)
    image[box] += soft * np.maximum(value - image[box], 0)


def _paint_pocket(patch: Patch, _edge: np.ndarray, rng: np.random.Generator, given: dict[str, Any]) -> None:
    """Paint a dark spot without a rim: a plaque, a lacune, a widened sulcus."""
    image, labels = patch.image, patch.labels
    centre = _draw_place(patch, rng)
    if centre is None:
        return
    box, depth = draw_shape(labels.shape, centre, draw_log(given["radius_mm"], rng), rng)
    soft = np.clip(depth / rng.uniform(0.6, 3.0) + 0.5, 0, 1) * (labels[box] == 0)
    image[box] -= soft * draw_log(given["contrast"], rng)


_LOOK_ALIKES: dict[str, Callable[[Patch, np.ndarray, np.random.Generator, dict[str, Any]], None]] = {
    "vessel": _paint_vessel,
    "sinus": _paint_sinus,
    "sheet": _paint_sheet,
    "plexus": _paint_plexus,
    "ventricle": _paint_ventricle,
    "pocket": _paint_pocket,
}


def _draw_tones(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Map intensities by a random rising curve: another scanner, another sequence. Mean and spread are kept."""
    steps = np.diff(_TONES) * np.exp(0.45 * rng.standard_normal(len(_TONES) - 1))
    mapped = np.interp(values, _TONES, np.r_[0, np.cumsum(steps)])
    beyond = values > _TONES[-1]
    mapped[beyond] += values[beyond] - _TONES[-1]
    # Of the brain, not of a few bright voxels.
    low, middle, high = np.percentile(mapped[::_SOME], (10, 50, 85))
    before = np.percentile(values[::_SOME], (10, 50, 85))
    scale = (before[2] - before[0]) / max(high - low, 1e-3)
    toned: np.ndarray = (mapped - middle) * scale * np.exp(0.2 * rng.standard_normal()) + before[1]
    return toned


def draw_log(between: tuple[float, float], rng: np.random.Generator) -> float:
    """Draw a number between two, evenly on the logarithmic scale."""
    return float(np.exp(rng.uniform(*np.log(between))))


def draw_shape(
    shape: tuple[int, ...],
    centre: np.ndarray,
    radius: float,
    rng: np.random.Generator,
    *,
    along: np.ndarray | None = None,
    stretch: float = 1.0,
) -> tuple[tuple[slice, ...], np.ndarray]:
    """Draw a lobulated body; return the box around it and the depth (mm, roughly) below its surface there.

    With a direction `along`, it is longer there by this factor.
    """
    lobes = 1 if radius < 2.5 or rng.random() < 0.55 else int(rng.integers(2, 5))
    # Edema and the outlines of larger priors lie within this, too.
    reach = int(np.ceil(1.9 * radius * max(stretch, 1))) + 6
    box = tuple(slice(max(int(c) - reach, 0), min(int(c) + reach + 1, n)) for c, n in zip(centre, shape))
    away = offsets_from([s.stop - s.start for s in box], centre - [s.start for s in box] + rng.uniform(-0.5, 0.5, 3))
    if along is not None:
        away = away - ((1 - 1 / stretch) * (away @ along))[..., None].astype(np.float32) * along
    depths = []
    for lobe in range(lobes):
        size = radius if lobe == 0 else radius * rng.uniform(0.4, 0.8)
        offset = 0 if lobe == 0 else draw_direction(rng) * radius * rng.uniform(0.5, 0.95)
        turn = np.linalg.qr(rng.standard_normal((3, 3)))[0].astype(np.float32)
        axes = np.exp(rng.uniform(-0.3, 0.3, 3))
        axes = (axes / axes.prod() ** (1 / 3)).astype(np.float32)
        depths.append(size - np.linalg.norm(((away - np.float32(offset)) @ turn) / axes, axis=-1))
    depth: np.ndarray = functools.reduce(np.maximum, depths)
    rough = rng.uniform(0.02, 0.2) * radius
    return box, depth + rough * draw_texture(depth.shape, max(radius / rng.uniform(2, 5), 0.8), rng)


def push(image: np.ndarray, labels: np.ndarray, centre: np.ndarray, by: float) -> None:
    """Press tissue outwards from a point as if a ball of radius `by` mm had grown there."""
    away = offsets_from(image.shape, centre)
    distance = np.linalg.norm(away, axis=-1)
    # Fades towards the edge of the box, where nothing moves.
    fade = np.clip((min(image.shape) / 2 - distance) / (min(image.shape) / 4), 0, 1)
    source = np.cbrt(np.maximum(distance**3 - fade * by**3, 0)) / np.maximum(distance, 1e-3)
    where = np.moveaxis(away * source[..., None] + centre, -1, 0)
    image[...] = ndimage.map_coordinates(image, where, order=1, mode="nearest")
    labels[...] = ndimage.map_coordinates(labels, where, order=0, mode="nearest")


def draw_direction(rng: np.random.Generator) -> np.ndarray:
    """Draw a (3,) unit vector, any direction alike."""
    vector = rng.standard_normal(3)
    return vector / np.linalg.norm(vector)


def offsets_from(shape: Sequence[int], centre: np.ndarray) -> np.ndarray:
    """Return (*shape, 3) float32 offsets of voxels from a centre."""
    axes = [np.arange(n, dtype=np.float32) - np.float32(c) for n, c in zip(shape, centre)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1)


def draw_texture(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Return noise of standard deviation 1 that varies over `sigma` voxels."""
    # Coarse noise is drawn coarsely: the same to the eye, at a fraction of the time.
    step = max(int(sigma / 1.5), 1)
    coarse = rng.standard_normal([-(-n // step) + 2 for n in shape], dtype=np.float32)
    coarse = ndimage.gaussian_filter(coarse, sigma / step, truncate=2.5)
    coarse /= max(float(coarse.std()), 1e-6)
    if step == 1:
        return coarse[tuple(slice(0, n) for n in shape)]
    for axis, count in enumerate(shape):
        where = (np.arange(count, dtype=np.float32) + 0.5) / step
        low = where.astype(int)
        share = (where - low).reshape([-1 if a == axis else 1 for a in range(len(shape))])
        coarse = np.take(coarse, low, axis) * (1 - share) + np.take(coarse, low + 1, axis) * share
    return coarse


def _draw_place(patch: Patch, rng: np.random.Generator) -> np.ndarray | None:
    """Return a voxel of brain tissue that is in no lesion; None where there is none."""
    for flat in rng.integers(0, patch.labels.size, 60):
        place = voxel_at(flat, patch)
        if patch.labels[tuple(place)] == 0 and abs(patch.image[tuple(place)] - patch.white) < 2.0:
            return place
    return None


def voxel_at(flat: int, patch: Patch) -> np.ndarray:
    """Return the index of a voxel given by its number."""
    return np.array(np.unravel_index(flat, patch.labels.shape))


def is_taken(labels: np.ndarray, inside: np.ndarray) -> bool:
    """Return whether a lesion lies in a region or within 2 voxels of it."""
    taken = np.isin(labels, (ENHANCING, NECROSIS))
    return bool(taken.any() and (taken & ndimage.binary_dilation(inside, iterations=2)).any())
