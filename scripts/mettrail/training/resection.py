"""Patches that teach a network resection cavities: real heads, with resection beds and lesions painted in.

A cavity is what a resection has left with all that it holds: fluid, blood and its products, air. What may line it, a
thin enhancing rim, dura over it, is neither cavity nor lesion; what enhances in a nodule or a thick crescent at its
margin is recurrence, and lesion. Ventricles, cysts, lacunes and the cores of lesions are no cavities. The label is that
of BraTS after treatment (de Verdier et al. 2024).

Intensities are z-scores within the brain mask; voxels are 1 mm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from scipy import ndimage

from mettrail.images import CAVITY, EDEMA, ENHANCING
from mettrail.training.base_trainer import Batch
from mettrail.training.cases import thicken
from mettrail.training.synthesis import (
    OUTSIDE,
    Patch,
    below_surface,
    draw_direction,
    draw_log,
    draw_shape,
    draw_texture,
    is_taken,
    offsets_from,
    paint_lesion,
    push,
    synthesise,
    voxel_at,
)
from mettrail.training.views import vary_brightness


class PaintBeds(BasicTransform):  # type: ignore[misc]
    """Paint resection beds into patches that teach a network lesions: the tumour at the margin is one, the rest is not.

    Fluid with an enhancing rim is more often a cystic or necrotic metastasis than a cavity. Such lesions are painted
    into other patches, so that what looks like both stays a lesion; surgery on record tells which it is.

    Parameters
    ----------
    settings, looks, synthesis : mapping
        ``beds``, ``cavity`` and ``synthesis`` of config/train.yaml.
    prior : bool
        The last channel is the prior of re-segmentation: it may show what was resected.

    Notes
    -----
    Cavities are labelled 4 (`CAVITY`); the last transforms of the trainer make them background.
    Randomness comes from numpy's global generator, as all of nnU-Net's.
    """

    def __init__(
        self, settings: Mapping[str, Any], looks: Mapping[str, Any], synthesis: Mapping[str, Any], *, prior: bool
    ):
        super().__init__()
        self.settings, self.looks, self.synthesis, self.prior = settings, looks, synthesis, prior
        cysts = {**synthesis["lesions"], "kinds": settings["cyst_kinds"]}
        self.cysts = {**synthesis, "lesions": cysts}

    def apply(self, data_dict: Batch, **_: object) -> Batch:
        """Paint into ``image`` (C, Z, Y, X) and ``segmentation`` (1, Z, Y, X), both changed in place."""
        image, labels = data_dict["image"][0].numpy(), data_dict["segmentation"][0].numpy()
        prior = data_dict["image"][-1].numpy() if self.prior else None
        brain = labels != OUTSIDE
        rng = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002
        if brain.mean() < 0.02:
            return data_dict
        patch = Patch(image, labels, prior, float(np.percentile(image[brain], 75)))
        drawn = rng.random()
        _smooth_spots(patch, rng, self.looks)
        if drawn < self.settings["prob"]:
            if paint_bed(patch, below_surface(brain), rng, self.looks, self.synthesis) and prior is not None:
                self._paint_resected(prior, labels, rng)
        elif drawn < self.settings["prob"] + self.settings["cyst_prob"]:
            paint_lesion(patch, rng, self.cysts, radius=draw_log(self.settings["cyst_radius_mm"], rng))
        return data_dict

    def _paint_resected(self, prior: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> None:
        """Let the prior show the lesion that lay where the cavity is, which was larger or smaller."""
        if rng.random() < self.settings["resected_prob"]:
            by = int(rng.integers(1, 4))
            change = ndimage.binary_dilation if rng.random() < 0.5 else ndimage.binary_erosion
            before = change(labels == CAVITY, iterations=by)
            prior[before & (labels != OUTSIDE)] = 1


def paint(
    t1w: np.ndarray,
    mask: np.ndarray,
    *,
    rng: np.random.Generator,
    settings: Mapping[str, Any],
    synthesis: Mapping[str, Any],
    thick_mm: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Paint lesions, resection beds and what only resembles them into a head or a part of one.

    Parameters
    ----------
    t1w : (X, Y, Z) float32
        z-scores.
    mask : (X, Y, Z) bool
        What a network sees of it.
    rng : numpy Generator
    settings, synthesis : mapping
        ``cavity`` of config/train.yaml; its ``synthesis``, see `beside_cavities`.
    thick_mm : (low, high)
        Of slices, where they are thick.

    Returns
    -------
    images : (1, X, Y, Z) float32
        0 outside the mask.
    labels : (X, Y, Z) int
        0 to 4, -1 outside the mask.
    """
    labels = np.where(mask, 0, OUTSIDE)
    if mask.mean() < 0.02:
        return np.zeros((1, *t1w.shape), np.float32), labels
    image = t1w.copy()
    edge = below_surface(mask)
    if rng.random() < settings["widen_prob"]:
        _widen_ventricles(image, edge, rng, settings)
    synthesise(image, labels, None, rng=rng, settings=dict(synthesis))
    patch = Patch(image, labels, None, float(np.percentile(image[mask], 75)))
    _smooth_spots(patch, rng, settings)
    for _ in range(rng.integers(1, settings["at_most"] + 1) if rng.random() < settings["prob"] else 0):
        paint_bed(patch, edge, rng, settings, synthesis)
    if rng.random() < settings["thick_prob"]:
        axis = 2 if rng.random() < 0.7 else int(rng.integers(2))
        image = thicken(image, axis=axis, thick_mm=rng.uniform(*thick_mm))
    image = vary_brightness(image, rng)
    image[~mask] = 0
    return image[None].astype(np.float32), labels


def beside_cavities(synthesis: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return how lesions and look-alikes are painted here: more ventricles."""
    known = synthesis["look_alikes"]
    changed = {name: {**known[name], **more} for name, more in settings["look_alikes"].items()}
    lesions = {**synthesis["lesions"], **settings["lesions"]}
    return {**synthesis, "look_alikes": {**known, **changed}, "lesions": lesions}


def paint_bed(
    patch: Patch, edge: np.ndarray, rng: np.random.Generator, given: Mapping[str, Any], synthesis: Mapping[str, Any]
) -> bool:
    """Paint one resection bed: cavity, what it holds and what lines it, and perhaps recurrence at its margin.

    Parameters
    ----------
    patch : Patch
    edge : (X, Y, Z) float
        mm below the surface of the brain.
    rng : numpy Generator
    given : mapping
        ``cavity`` of config/train.yaml.
    synthesis : mapping
        By which recurrence is painted.

    Returns
    -------
    bool
        False where there was no room for it.
    """
    radius = draw_log(given["radius_mm"], rng)
    reachable = np.inf if rng.random() < given["deep_prob"] else 1.3 * radius
    fluid = patch.image < patch.white - given["ventricle_below"]
    places = np.flatnonzero((edge > 0.3 * radius) & (edge < reachable) & (patch.labels == 0) & ~fluid)
    if not places.size:
        return False
    centre = voxel_at(rng.choice(places), patch)
    outwards = _outwards(edge, centre, rng)
    # Most beds shrink to a slit or a wedge with time.
    stretch = rng.uniform(0.35, 0.8) if rng.random() < given["collapsed_prob"] else rng.uniform(0.9, 1.8)
    along = draw_direction(rng).astype(np.float32) if stretch < 0.9 else outwards
    box, depth = draw_shape(patch.labels.shape, centre, radius, rng, along=along, stretch=stretch)
    part, edge = patch.cut(box), edge[box]
    if np.isfinite(edge).any() and rng.random() < given["open_prob"]:
        depth = np.maximum(depth, _draw_corridor(depth.shape, centre - [s.start for s in box], outwards, radius, rng))
    inside = (depth > 0) & (part.labels != OUTSIDE)
    if inside.sum() < given["least_vox"] or is_taken(part.labels, inside):
        return False
    # Ventricles and cisterns are nobody's bed.
    if fluid[box][inside].mean() > given["fluid_at_most"]:
        return False
    _paint_margin(part, depth, edge, rng, given)
    content = _draw_content(part, depth, radius, rng, given)
    soft = np.clip(depth / rng.uniform(0.6, 2.0) + 0.5, 0, 1) * (part.labels != OUTSIDE)
    part.image[...] += soft * (content - part.image)
    part.labels[inside] = CAVITY
    if rng.random() < given["recurrence_prob"]:
        _paint_recurrence(patch, box, depth, radius, rng, given, synthesis)
    return True


def _widen_ventricles(image: np.ndarray, edge: np.ndarray, rng: np.random.Generator, given: Mapping[str, Any]) -> None:
    """Widen fluid deep in the brain, as ventricles widen with age: they are no cavities."""
    dark = image < np.percentile(image[edge > 0], 75) - given["ventricle_below"]
    places = np.flatnonzero(dark & (edge > given["ventricle_from_mm"]))
    if not places.size:
        return
    noise = _noise(image)
    for _ in range(rng.integers(1, given["widen_at_most"] + 1)):
        centre = np.array(np.unravel_index(rng.choice(places), image.shape))
        by = draw_log(given["widen_mm"], rng)
        reach = int(3 * by) + 6
        box = tuple(slice(max(c - reach, 0), c + reach + 1) for c in centre)
        part = image[box]
        push(part, np.zeros(part.shape, np.uint8), centre - [s.start for s in box], by)
        part += noise * rng.uniform(0.3, 1.0) * draw_texture(part.shape, rng.uniform(0.35, 0.8), rng)


def _smooth_spots(patch: Patch, rng: np.random.Generator, given: Mapping[str, Any]) -> None:
    """Smooth tissue here and there: what is painted has less noise than what is not, and must not be known by that."""
    for _ in range(rng.integers(1, given["smooth_at_most"] + 1) if rng.random() < given["smooth_prob"] else 0):
        centre = voxel_at(int(rng.integers(patch.labels.size)), patch)
        box, depth = draw_shape(patch.labels.shape, centre, draw_log(given["radius_mm"], rng), rng)
        image = patch.image[box]
        soft = np.clip(depth / 2 + 0.5, 0, 1) * (patch.labels[box] != OUTSIDE)
        image += soft * (ndimage.gaussian_filter(image, rng.uniform(0.6, 2.0)) - image)


def _outwards(edge: np.ndarray, centre: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the direction to the nearest surface; any, where none is near."""
    around = tuple(slice(max(c - 3, 0), c + 4) for c in centre)
    near = edge[around]
    if not np.isfinite(near).all():
        return draw_direction(rng).astype(np.float32)
    slope = -np.array([np.diff(near, axis=axis).mean() if near.shape[axis] > 1 else 0.0 for axis in range(3)])
    length = float(np.linalg.norm(slope))
    return (slope / length if length > 1e-3 else draw_direction(rng)).astype(np.float32)


def _draw_corridor(
    shape: tuple[int, ...], centre: np.ndarray, outwards: np.ndarray, radius: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw the way in: a tube from the cavity to the surface; depth (mm) below its wall."""
    away = offsets_from(shape, centre)
    run = away @ outwards
    aside = np.linalg.norm(away - run[..., None] * outwards, axis=-1)
    width = rng.uniform(0.25, 0.9) * radius * (1 + rng.uniform(-0.03, 0.03) * run)
    rough = 0.15 * radius * draw_texture(shape, max(radius / 3, 1.0), rng)
    tube: np.ndarray = np.where(run > 0, width - aside + rough, -radius)
    return tube


def _draw_content(
    part: Patch, depth: np.ndarray, radius: float, rng: np.random.Generator, given: Mapping[str, Any]
) -> np.ndarray:
    """Draw what a cavity holds: fluid, protein throughout, a fluid level, clots; blood along its wall, air."""
    shape, white = depth.shape, part.white
    fluid = white - draw_log(given["fluid"], rng)
    blood = white + rng.uniform(*given["blood"])
    content = np.full(shape, fluid, np.float32)
    kind = rng.choice(list(given["contents"]), p=list(given["contents"].values()))
    if kind == "protein":
        # As bright as the brain around it nobody could see it.
        content[...] = rng.uniform(fluid, max(white - given["protein_below"], fluid))
    elif kind == "level":
        # Patients lie on their backs: what is heavier lies behind.
        behind = np.arange(shape[1]) < shape[1] / 2 + rng.uniform(-0.6, 0.6) * radius
        content[:, behind] = blood
        content = ndimage.gaussian_filter1d(content, rng.uniform(0.5, 1.5), axis=1)
    elif kind == "clots":
        clot = draw_texture(shape, max(radius / rng.uniform(2, 5), 1.0), rng) + rng.uniform(-0.8, 0.5)
        content += np.clip(2 * clot + 0.5, 0, 1) * (blood - content)
    content += rng.uniform(0, 0.15) * draw_texture(shape, rng.uniform(0.7, 2.5), rng)
    if rng.random() < given["wall_blood_prob"]:
        thick = draw_log((0.8, max(0.4 * radius, 1.2)), rng)
        patchy = np.clip(draw_texture(shape, rng.uniform(2, 6), rng) + rng.uniform(-0.6, 1.2), 0, 1)
        content += patchy * np.clip(thick - depth + 0.5, 0, 1) * (white + rng.uniform(*given["blood"]) - content)
    if rng.random() < given["air_prob"]:
        before = np.arange(shape[1])[None, :, None] > shape[1] / 2 + rng.uniform(0.1, 0.6) * radius
        content = np.where(before & (depth > 0.5), white - rng.uniform(3, 5), content)
    return content + _noise(part.image) * rng.uniform(0.5, 1.3) * draw_texture(shape, rng.uniform(0.35, 0.8), rng)


def _noise(image: np.ndarray) -> float:
    """Return the standard deviation of a scan's noise, from what a voxel differs by from those around it."""
    rest = image - ndimage.gaussian_filter(image, 1.0)
    return float(1.4826 * np.median(np.abs(rest[rest != 0]))) if rest.any() else 0.0


def _paint_margin(
    part: Patch, depth: np.ndarray, edge: np.ndarray, rng: np.random.Generator, given: Mapping[str, Any]
) -> None:
    """Paint what lines a cavity and is no tumour: gliosis, a thin rim of contrast agent, dura over it."""
    shape, white, around = depth.shape, part.white, part.labels == 0
    if rng.random() < given["gliosis_prob"]:
        width = rng.uniform(2, 12)
        follows = np.clip((part.image - white + 1.0) / 0.6, 0, 1)
        part.image[...] -= np.clip(1 + depth / width, 0, 1) * (depth < 0) * follows * around * rng.uniform(0.1, 1.0)
    if rng.random() < given["lining_prob"]:
        thick = draw_log(given["lining_mm"], rng)
        gate = np.clip(1.5 * draw_texture(shape, rng.uniform(2, 8), rng) + rng.uniform(-0.5, 2.0), 0, 1)
        rim = np.clip(depth + thick + 0.5, 0, 1) * (depth < 1) * gate * around
        part.image[...] += rim * np.maximum(white + draw_log(given["lining_contrast"], rng) - part.image, 0)
    if rng.random() < given["dura_prob"]:
        thick = rng.uniform(0.8, 3.5)
        near = np.clip((depth + rng.uniform(3, 12)) / 3, 0, 1)
        gate = np.clip(1.5 * draw_texture(shape, rng.uniform(2, 8), rng) + rng.uniform(0, 2.0), 0, 1)
        dura = np.clip(thick - edge + 0.5, 0, 1) * near * gate * around
        part.image[...] += dura * (white + draw_log((0.5, 5), rng) - part.image)


def _paint_recurrence(
    patch: Patch,
    box: tuple[slice, ...],
    depth: np.ndarray,
    radius: float,
    rng: np.random.Generator,
    given: Mapping[str, Any],
    synthesis: Mapping[str, Any],
) -> None:
    """Paint tumour at the margin: nodules of any size up to the cavity's, or a thick crescent along part of it."""
    part = patch.cut(box)
    margin = np.argwhere((np.abs(depth) < 1.5) & np.isin(part.labels, (0, CAVITY)))
    if not len(margin):
        return
    start = margin[rng.integers(len(margin))]
    if rng.random() < given["crescent_prob"]:
        thick = rng.uniform(*given["crescent_mm"])
        away = np.linalg.norm(offsets_from(depth.shape, start), axis=-1)
        reach = rng.uniform(0.6, 1.6) * radius + 3
        rough = draw_texture(depth.shape, rng.uniform(1.5, 4), rng)
        inner = rng.uniform(0, 1)
        body = np.minimum(thick / 2 - np.abs(depth + (0.5 - inner) * thick) + 0.25 * thick * rough, (reach - away) / 2)
        soft = np.clip(body / rng.uniform(0.7, 2.0) + 0.5, 0, 1) * np.isin(part.labels, (0, EDEMA, CAVITY))
        level = part.white + draw_log(given["crescent_contrast"], rng)
        value = level * (1 + 0.15 * draw_texture(depth.shape, rng.uniform(0.7, 3), rng))
        part.image[...] += soft * (value - part.image)
        part.labels[soft > 0.5] = ENHANCING
        return
    for _ in range(int(rng.integers(1, 3))):
        size = draw_log((given["nodule_mm"][0], max(given["nodule_mm"][1], 0.8 * radius)), rng)
        paint_lesion(patch, rng, dict(synthesis), radius=size, place=start + [s.start for s in box])
        start = margin[rng.integers(len(margin))]
