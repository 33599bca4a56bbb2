"""In which lobe or region of the brain, and on which side, each lesion lies.

One affine registration per patient takes the reference space to the ICBM 152 template, on which regions are drawn
(``resources/atlas``). A lesion keeps the region of the place where it was first seen, in the reference space: it does
not wobble from visit to visit. An affine registration is good for some millimetres; near a border a lobe is a guess.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mettrail import registration, schema, sidecars, transforms
from mettrail.images import Image
from mettrail.registration.engines import Settings
from mettrail.template import coarsen, load_template

# Regions by their number in the atlas; 0 is outside the brain.
REGIONS = tuple(schema.levels("lesions", "region"))
MIDLINE_MM = 5.0
# Brains that overlap less than this after an affine registration are not on each other.
MIN_DICE = 0.85
# The template is up to a quarter larger than a brain, along any axis; what stretches more has found something else,
# which happens where a scan shows a part of the brain only.
STRETCH = (0.8, 1.4)
# Lobes need no finer grid, and the search on it takes seconds.
_SPACING_MM = 2.0
_GREEDY = {"linear_iterations": [100, 50, 20], "iterations": [0], "radius": 2, "smooth_vox": [2.0, 1.0]}
_SETTINGS = Settings("greedy", seed=1, mask_grow_mm=_SPACING_MM, of_engine=_GREEDY)


def register_atlas(brain: Image, mask: Image, *, threads: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Find the affine transform from a patient's brain to the ICBM 152 template.

    Parameters
    ----------
    brain, mask : Image
        T1w scan of the patient's reference space, 0 outside the brain, and its brain mask.
    threads : int

    Returns
    -------
    affine : (4, 4) float
        Points of the patient's reference space to points of the template, RAS mm.
    quality : dict
        ``brain_dice`` and ``stretch``, smallest and largest; ``status`` is ok, or fail where one of them cannot be.
    """
    template, template_brain = load_template(_SPACING_MM)
    small, small_mask = coarsen(brain, _SPACING_MM), coarsen(mask.like(mask.data > 0), _SPACING_MM)
    affine = registration.register(
        small,
        template,
        stage="affine",
        fixed_mask=small_mask,
        moving_mask=template_brain,
        initial=None,
        threads=threads,
        settings=_SETTINGS,
    ).affine
    dice = registration.brain_dice_in_common_view(small_mask, template_brain, affine=affine)
    stretch = np.linalg.svd(affine[:3, :3], compute_uv=False)[[-1, 0]]
    good = dice >= MIN_DICE and STRETCH[0] <= stretch[0] and stretch[1] <= STRETCH[1]
    return affine, {
        "engine": _SETTINGS.engine,
        "status": "ok" if good else "fail",
        "brain_dice": dice,
        "stretch": stretch.tolist(),
    }


def read_region_affine(affine: Path, quality: Path) -> np.ndarray | None:
    """Read what `register_atlas` has found; None where it failed."""
    found = sidecars.read_json(quality)["status"] == "ok"
    return transforms.read_affine(affine) if found else None


def add_regions(
    lesions: pd.DataFrame, sessions: pd.DataFrame, *, affine: np.ndarray | None, atlas: Image
) -> pd.DataFrame:
    """Fill ``region`` and ``side``: where each lesion of a patient was when it was first seen, at all its sessions.

    Parameters
    ----------
    lesions, sessions : DataFrame
        Final tables of a patient; sessions in the order of time.
    affine : (4, 4) float or None
        From `register_atlas`; None where it failed: both columns are missing.
    atlas : Image of (X, Y, Z) int
        Numbers of `REGIONS` on the template, from 1; 0 outside.

    Returns
    -------
    DataFrame
        The lesions with both columns. Region is missing where the centre is outside the brain of the atlas.
    """
    if affine is None or lesions.empty:
        return lesions.assign(region=None, side=None)
    order = {session: place for place, session in enumerate(sessions["session_id"])}
    centre = ["centroid_x_ref_mm", "centroid_y_ref_mm", "centroid_z_ref_mm"]
    seen = lesions[(lesions["status"] == "present") & lesions[centre].notna().all(axis=1)]
    seen = seen.assign(place=seen["session_id"].map(order)).sort_values("place", kind="stable")
    first = seen.drop_duplicates("track_id")
    points = first[centre].to_numpy(float)
    region = dict(zip(first["track_id"], regions_at(points, affine=affine, atlas=atlas), strict=True))
    side = dict(zip(first["track_id"], sides_at(points, affine=affine), strict=True))
    return lesions.assign(region=lesions["track_id"].map(region), side=lesions["track_id"].map(side))


def regions_at(points: np.ndarray, *, affine: np.ndarray, atlas: Image) -> list[str | None]:
    """Return the regions of (n, 3) points of the patient's reference space, RAS mm; None outside the brain."""
    index = transforms.map_points(points, affine=transforms.invert(atlas.affine) @ affine)
    index = np.floor(index + 0.5).astype(int)
    inside = ((index >= 0) & (index < atlas.data.shape)).all(axis=1)
    numbers = np.zeros(len(index), int)
    numbers[inside] = atlas.data[tuple(index[inside].T)]
    return [REGIONS[number - 1] if number else None for number in numbers]


def sides_at(points: np.ndarray, *, affine: np.ndarray) -> list[str]:
    """Return ``left``, ``right``, or ``midline`` within 5 mm of the template's midplane, as the patient measures it."""
    # The midplane is where the template's x is 0; its scale is undone, for the template is larger than most brains.
    distance = transforms.map_points(points, affine=affine)[:, 0] / np.linalg.norm(affine[0, :3])
    return ["midline" if abs(d) <= MIDLINE_MM else "right" if d > 0 else "left" for d in distance]
