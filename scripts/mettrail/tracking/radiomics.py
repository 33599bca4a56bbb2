"""Masks of each lesion and its parts for radiomics software, and the table that names them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mettrail import schema, sidecars
from mettrail.images import (
    ENHANCING,
    NECROSIS,
    Grid,
    Image,
    require_same_grid,
    resample,
    voxel_volume_mm3,
    write_labels,
)
from mettrail.schema.radiomics import GRIDS, TISSUES
from mettrail.sidecars import WORKING_GRID
from mettrail.tracking.lesions import assign_edema

PARTS = {"enhancing": ENHANCING, "necrosis": NECROSIS}


def split_lesions(
    lesions: Image, tissue: Image, components: Image, *, edema_max_mm: float, shows_edema: bool
) -> dict[str, Image]:
    """Return label maps of the parts of lesions, each voxel with the number of its lesion.

    Parameters
    ----------
    lesions : Image
        Whole lesions by number.
    tissue : Image
        1 enhancing, 2 edema, 3 necrosis.
    components : Image
        All lesions that were measured, whether one followed over time or not: edema is the nearest one's of them.
    edema_max_mm : float
        Edema belongs to the nearest lesion up to this far away.
    shows_edema : bool
        Whether edema could be told at all.

    Returns
    -------
    dict
        ``lesion``, ``enhancing``, ``necrosis``, ``edema``; the last is empty where edema could not be told.

    Raises
    ------
    GridMismatchError
    """
    require_same_grid(lesions, tissue, components)
    found = {"lesion": lesions}
    for name, label in PARTS.items():
        found[name] = lesions.like(np.where(tissue.data == label, lesions.data, 0))
    edema = np.zeros_like(lesions.data)
    if shows_edema:
        voxels, owner = assign_edema(
            components.data, tissue.data, spacing_mm=np.array(lesions.spacing_mm), max_mm=edema_max_mm
        )
        # What was too small to be followed has no number.
        number = np.zeros(int(components.data.max(initial=0)) + 1, lesions.data.dtype)
        number[components.data[components.data > 0]] = lesions.data[components.data > 0]
        edema[tuple(voxels.T)] = number[owner]
    return found | {"edema": lesions.like(edema)}


def make_masks(raw: Mapping[str, Image], grid: Grid) -> dict[str, Image]:
    """Return label maps on both grids, as ``TISSUE_GRID``; on the second each voxel has the label nearest to it."""
    found = {f"{tissue}_raw": mask for tissue, mask in raw.items()}
    return found | {f"{tissue}_1mm": resample(mask, grid, order=0) for tissue, mask in raw.items()}


def write_masks(masks: Mapping[str, Image], files: Mapping[str, str | Path], *, origin: Mapping[str, Any]) -> None:
    """Write those masks that have a place, and what BIDS asks to know of each.

    Parameters
    ----------
    masks : mapping
        From `make_masks`.
    files : mapping
        Where each mask belongs, and its JSON: the same name and ``_sidecar``.
    origin : mapping
        From `sidecars.describe_origin`.
    """
    for name in masks.keys() & files.keys():
        tissue, grid = name.split("_")
        write_labels(files[name], masks[name].data, masks[name].affine)
        facts: dict[str, Any] = {"Description": f"By persistent lesion ID: {TISSUES[tissue]}", "Type": "Lesion"}
        facts |= WORKING_GRID if grid == "1mm" else {}
        sidecars.write_json({**facts, **origin}, files[f"{name}_sidecar"])


def tabulate(
    masks: Mapping[str, Image],
    names: pd.DataFrame,
    *,
    whose: Mapping[str, str],
    scans: Mapping[str, str | Path],
    files: Mapping[str, str | Path],
    folder: str | Path,
    few_voxels: int,
) -> pd.DataFrame:
    """Return the rows of one session; where a mask holds nothing of a lesion there is none.

    Parameters
    ----------
    masks : mapping
        From `make_masks`.
    names : DataFrame
        ``index``, ``name``: which lesion a number is.
    whose : mapping
        ``participant_id``, ``session_id``.
    scans : mapping
        Image by grid.
    files : mapping
        Where the masks are.
    folder : path
        Paths are relative to it.
    few_voxels : int
        Masks with fewer are flagged.
    """
    rows = []
    for grid, tissue in product(GRIDS, TISSUES):
        mask = masks[f"{tissue}_{grid}"]
        counts = np.bincount(mask.data.ravel(), minlength=names["index"].max() + 1 if len(names) else 0)
        for index, name in zip(names["index"], names["name"], strict=True):
            if counts[index] == 0:
                print(f"{name}: no voxel of {tissue} on grid {grid}")
                continue
            rows.append(
                {
                    **whose,
                    "track_id": name,
                    "tissue": tissue,
                    "grid": grid,
                    "Image": os.path.relpath(scans[grid], folder),
                    "Mask": os.path.relpath(files[f"{tissue}_{grid}"], folder),
                    "Label": index,
                    "n_voxels": counts[index],
                    "volume_mm3": counts[index] * voxel_volume_mm3(mask.affine),
                    "flags": "few_voxels" if counts[index] < few_voxels else None,
                }
            )
    return schema.make_table(pd.DataFrame(rows, columns=schema.columns("radiomics")), "radiomics")
