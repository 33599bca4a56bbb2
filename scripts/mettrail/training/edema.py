"""Patches that teach a network edema: real heads, with lesions and what they do to their surroundings painted in.

Edema is painted after `synthesis` has painted lesions: it follows white matter away from them, spares grey matter, is
bright on FLAIR and a little dark on T1w. What else is bright on FLAIR, plaques, lacunes' rims, caps of the ventricles,
stays unlabelled. A head without FLAIR gets an invented one: grey matter brighter than white, fluid dark.

Intensities are z-scores within the brain mask; voxels are 1 mm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from mettrail.geometry import label_components, sphere_diameter_mm
from mettrail.images import EDEMA, ENHANCING, NECROSIS
from mettrail.training.cases import thicken
from mettrail.training.synthesis import OUTSIDE, draw_log, draw_texture, synthesise
from mettrail.training.views import vary_brightness


def lesions_alone(synthesis: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return how lesions are painted here: their edema comes later, and what they press aside is not on FLAIR."""
    return {
        **synthesis, "lesions": {**synthesis["lesions"], "edema_prob": 0, "push_prob": 0, **settings["lesions"]}
    }  # fmt: skip


def paint(
    t1w: np.ndarray,
    flair: np.ndarray | None,
    mask: np.ndarray,
    *,
    rng: np.random.Generator,
    settings: Mapping[str, Any],
    synthesis: Mapping[str, Any],
) -> tuple[np.ndarray, np.ndarray]:
    """Paint lesions and edema into a head or a part of one.

    Parameters
    ----------
    t1w, flair : (X, Y, Z) float32
        z-scores; without FLAIR one is invented.
    mask : (X, Y, Z) bool
        What a network sees of it.
    rng : numpy Generator
    settings, synthesis : mapping
        ``edema`` of config/train.yaml; as there, see `lesions_alone`.

    Returns
    -------
    images : (2, X, Y, Z) float32
        0 outside the mask.
    labels : (X, Y, Z) int
        0 to 3, -1 outside the mask.
    """
    labels = np.where(mask, 0, OUTSIDE)
    if mask.mean() < 0.02:
        return np.zeros((2, *t1w.shape), np.float32), labels
    tissue = _find_tissue(t1w, mask)
    if flair is None or rng.random() < settings["invent_prob"]:
        flair = _invent_flair(t1w, rng)
    t1w, flair = t1w.copy(), flair.copy()
    synthesise(t1w, labels, None, rng=rng, settings=dict(synthesis))
    unit = max(float(flair[mask].std()), 1e-3)
    flair = (flair - float(flair[mask].mean())) / unit
    white = float(np.median(flair[tissue.white > 0.8])) if (tissue.white > 0.8).any() else 0.0
    for _ in range(rng.integers(1, settings["spots_at_most"] + 1) if rng.random() < settings["spots_prob"] else 0):
        _paint_spot(flair, tissue.white, labels, rng, settings)
    _paint_surroundings(t1w, flair, labels, tissue, white, rng, settings)
    _paint_lesions_on_flair(flair, labels, white, rng)
    flair = _see_flair(flair, rng, settings)
    images = np.stack([vary_brightness(t1w, rng), vary_brightness(flair, rng)])
    images[:, ~mask] = 0
    return images.astype(np.float32), labels


@dataclass(frozen=True)
class _Tissue:
    """How much of a voxel is white matter, and where fluid is, as T1w shows it."""

    white: np.ndarray
    fluid: np.ndarray


def _find_tissue(t1w: np.ndarray, mask: np.ndarray) -> _Tissue:
    smooth = ndimage.gaussian_filter(t1w, 0.7)
    white, dark = np.percentile(t1w[mask], (78, 3))
    grey = white - 0.35 * max(white - dark, 0.5)
    share = np.clip((smooth - grey) / max(0.6 * (white - grey), 0.1), 0, 1)
    share = share * np.clip((white + 1.2 - smooth) / 0.4, 0, 1) * mask
    return _Tissue(share, (smooth < 0.6 * dark + 0.4 * grey) & mask)


def _invent_flair(t1w: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn T1w into what may pass for FLAIR: dark fluid, bright grey matter, white matter between, vessels any."""
    fluid, grey, white = rng.uniform(-4.0, -1.5), rng.uniform(0.2, 1.1), rng.uniform(-0.4, 0.3)
    knots = np.array([-3.2, -2.0, -0.4, 0.6, 1.6, 4.0]) + rng.normal(0, 0.15, 6).cumsum() * 0.5
    values = np.array([fluid - 0.3, fluid, grey, white, rng.uniform(-0.6, 0.8), rng.uniform(-1.5, 1.5)])
    flair = np.interp(ndimage.gaussian_filter(t1w, rng.uniform(0.3, 0.8)), np.sort(knots), values)
    rough: np.ndarray = flair + rng.uniform(0.02, 0.2) * draw_texture(t1w.shape, rng.uniform(0.6, 2.0), rng)
    return rough.astype(np.float32)


def _paint_spot(
    flair: np.ndarray, white: np.ndarray, labels: np.ndarray, rng: np.random.Generator, given: Mapping[str, Any]
) -> None:
    """Brighten a spot of white matter away from lesions: a plaque, a scar of a small vessel. It is not edema."""
    places = np.flatnonzero((white > 0.5) & (labels == 0))
    if not places.size:
        return
    centre = np.array(np.unravel_index(rng.choice(places), labels.shape))
    radius = draw_log(given["spot_radius_mm"], rng)
    axes = np.exp(rng.uniform(-0.4, 0.4, 3))
    away = [((np.arange(n, dtype=np.float32) - c) / a) ** 2 for n, c, a in zip(labels.shape, centre, axes)]
    distance = np.sqrt(away[0][:, None, None] + away[1][:, None] + away[2])
    # Among edema it would be edema.
    if np.isin(labels[distance < radius + 8], (ENHANCING, NECROSIS)).any():
        return
    flair += np.clip((radius - distance) / rng.uniform(0.7, 2.0) + 0.5, 0, 1) * draw_log(given["spot_contrast"], rng)


def _paint_surroundings(
    t1w: np.ndarray,
    flair: np.ndarray,
    labels: np.ndarray,
    tissue: _Tissue,
    white: float,
    rng: np.random.Generator,
    given: Mapping[str, Any],
) -> None:
    """Paint edema around lesions: along white matter, sparing grey matter and fluid."""
    lesions, count = label_components(np.isin(labels, (ENHANCING, NECROSIS)))
    follows = np.maximum(tissue.white, rng.uniform(0, 0.25) * ~tissue.fluid)
    for number in range(1, count + 1):
        if rng.random() >= given["edema_prob"]:
            continue
        lesion = lesions == number
        radius = sphere_diameter_mm(int(lesion.sum())) / 2
        width = draw_log((given["width_mm"][0], min(given["width_mm"][1] + 1.5 * radius, 30)), rng)
        distance = ndimage.distance_transform_edt(~lesion).astype(np.float32)
        uneven = 1 + rng.uniform(0.2, 0.7) * draw_texture(labels.shape, rng.uniform(4, 12), rng)
        soft = np.clip((width * uneven - distance) / rng.uniform(1.0, 4.0) + 0.5, 0, 1)
        soft = soft * follows * (labels == 0)
        level = white + draw_log(given["contrast"], rng) * (1 + 0.12 * draw_texture(labels.shape, 2.5, rng))
        flair += soft * np.maximum(level - flair, 0)
        t1w -= soft * rng.uniform(0, 1.5)
        # What is torn off the lesion by grey matter or fluid is hardly ever called its edema by readers.
        drawn = soft > 0.5
        parts, _ = label_components(drawn | lesion)
        labels[drawn & (parts == parts[lesion][0])] = EDEMA


def _paint_lesions_on_flair(flair: np.ndarray, labels: np.ndarray, white: float, rng: np.random.Generator) -> None:
    """Give lesions any brightness on FLAIR: enhancing tissue near that of the brain or above, what it encloses any."""
    lesions, count = label_components(np.isin(labels, (ENHANCING, NECROSIS)))
    if not count:
        return
    soft: np.ndarray = ndimage.gaussian_filter((lesions > 0).astype(np.float32), 0.7)
    nearest = ndimage.distance_transform_edt(lesions == 0, return_distances=False, return_indices=True)
    owner = lesions[tuple(nearest)]
    solid, core = (np.r_[0, rng.uniform(low, 3.0, count)] for low in (-0.8, -3.0))
    level = white + np.where(labels[tuple(nearest)] == NECROSIS, core[owner], solid[owner])
    flair += soft * (level + 0.2 * draw_texture(labels.shape, 1.5, rng) - flair)


def _see_flair(flair: np.ndarray, rng: np.random.Generator, given: Mapping[str, Any]) -> np.ndarray:
    """See FLAIR as it is acquired: a little out of place, often in thick slices."""
    if rng.random() < given["shift_prob"]:
        flair = ndimage.shift(flair, rng.normal(0, given["shift_mm"], 3), order=1, mode="nearest")
    if rng.random() < given["thick_prob"]:
        # Axial ones in most protocols.
        axis = 2 if rng.random() < 0.7 else int(rng.integers(2))
        flair = thicken(flair, axis=axis, thick_mm=rng.uniform(*given["thick_mm"]))
    return flair
