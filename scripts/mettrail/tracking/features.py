"""Radiomics features of lesions and their parts, computed by MIRP, and their change between sessions.

MIRP (Zwanenburg & Löck 2024) follows the reference manual of the Image Biomarker Standardisation Initiative
(Zwanenburg et al. 2020), which for intensities without a unit, as those of MRI, asks for a fixed number of grey levels.
Nothing is resampled here: the image and the masks have the grid that was asked for.
"""

from __future__ import annotations

import math
import re
import tempfile
import traceback
from collections.abc import Mapping
from importlib import metadata
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from mettrail import schema
from mettrail.errors import InputError
from mettrail.geometry import bounding_box
from mettrail.images import Image, require_same_grid, write_image, write_labels
from mettrail.schema.features import FEATURE_NAMES
from mettrail.schema.radiomics import TISSUES

# A local peak is a mean within 6.2 mm of a voxel of the mask.
_MARGIN_MM = 8.0
# How MIRP says the way a feature was made, after its name.
_HOW = re.compile(r"(_d1(_a0\.0)?)?(_3d(_v_mrg)?)?(_fbn_n\d+)?$")
# Flags of a mask that has no features.
_WITHOUT = ("no_voxels", "failed")


def require_mirp() -> str:
    """Return the version of MIRP.

    Raises
    ------
    InputError
        It is not installed.
    """
    try:
        return metadata.version("mirp")
    except metadata.PackageNotFoundError as err:
        raise InputError(
            "mettrail features",
            found="no Python package mirp",
            expected="the packages of the extra features",
            advice='pip install ".[features]"',
        ) from err


def normalise(image: Image, brain: Image, *, normalisation: str) -> Image:
    """Return an image with the intensities that features are computed of.

    Parameters
    ----------
    image, brain : Image
        On one grid; the second is not 0 in the brain.
    normalisation : str
        ``z-score`` or ``none``, as in `schema.features.NORMALISATIONS`.

    Raises
    ------
    GridMismatchError
    """
    require_same_grid(image, brain)
    if normalisation == "none":
        return image
    inside = image.data[brain.data > 0]
    return image.like((image.data - inside.mean()) / max(inside.std(), np.finfo(float).tiny))


def compute_features(image: Image, mask: np.ndarray, *, bins: int) -> dict[str, float]:
    """Return the features of one mask.

    Parameters
    ----------
    image : Image
    mask : (X, Y, Z) bool
        On the grid of the image, at least one voxel.
    bins : int
        Grey levels between the lowest and the highest intensity of the mask.

    Returns
    -------
    dict
        By name, as in `schema.features`; NaN where the mask is too small for a feature to be defined.
    """
    from mirp import extract_features

    box = bounding_box(mask, margin_vox=np.ceil(np.divide(_MARGIN_MM, image.spacing_mm)).astype(int))
    # As files: of arrays MIRP takes every voxel to be 1 mm.
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.nii.gz" for name in ("image", "mask")}
        write_image(files["image"], image.data[box], np.diag([*image.spacing_mm, 1.0]))
        write_labels(files["mask"], mask[box], np.diag([*image.spacing_mm, 1.0]))
        (table,) = extract_features(
            **{name: str(path) for name, path in files.items()},
            image_modality="mr",
            base_feature_families="all",
            base_discretisation_method="fixed_bin_number",
            base_discretisation_n_bins=bins,
        )
    found = {_HOW.sub("", name): table[name].iloc[0] for name in table}
    numbers = {name: float(found[name] if found[name] is not None else math.nan) for name in FEATURE_NAMES}
    return {name: value if math.isfinite(value) else math.nan for name, value in numbers.items()}


def measure_session(
    image: Image,
    masks: Mapping[str, Image],
    names: pd.DataFrame,
    *,
    whose: Mapping[str, str],
    few_voxels: int,
    grid: str,
    normalisation: str,
    bins: int,
) -> pd.DataFrame:
    """Return a row for each lesion of a session and each tissue, whether its mask has features or not.

    Parameters
    ----------
    image : Image
        From `normalise`.
    masks : mapping
        By tissue: label maps on the grid of the image, each voxel with the number of its lesion.
    names : DataFrame
        ``index``, ``name``: which lesion a number is.
    whose : mapping
        ``participant_id``, ``session_id``.
    few_voxels : int
        Masks with fewer are flagged.
    grid, normalisation : str
        What the image is: for the table.
    bins : int
        As for `compute_features`.

    Raises
    ------
    InputError
        MIRP is not installed, or a mask is on another grid.
    """
    made = {
        **whose,
        "quantity": "value",
        "prior_session_id": None,
        "grid": grid,
        **{f"voxel_{axis}_mm": size for axis, size in zip("xyz", image.spacing_mm, strict=True)},
        "normalisation": normalisation,
        "discretisation": "fixed bin number",
        "n_bins": bins,
        "software": "MIRP",
        "software_version": require_mirp(),
    }
    require_same_grid(image, *masks.values())
    rows = []
    for tissue, (index, name) in product(TISSUES, zip(names["index"], names["name"], strict=True)):
        mask = masks[tissue].data == index
        n_voxels = int(mask.sum())
        found, flag = dict.fromkeys(FEATURE_NAMES, math.nan), "few_voxels" if n_voxels < few_voxels else None
        try:
            if n_voxels:
                found = compute_features(image, mask, bins=bins)
            else:
                flag = "no_voxels"
        except Exception:  # whatever it is: the other lesions go on
            print(f"{name}: MIRP cannot compute the features of {tissue}, {n_voxels} voxels")
            traceback.print_exc()
            flag = "failed"
        rows.append({**made, "track_id": name, "tissue": tissue, "n_voxels": n_voxels, "flags": flag, **found})
    return schema.make_table(pd.DataFrame(rows, columns=schema.columns("features")), "features")


def compare_sessions(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return features with the prior session of each mask, and their change since.

    Parameters
    ----------
    rows : DataFrame
        Features of all sessions, those of a patient in order of time.

    Returns
    -------
    features, changes : DataFrame
        The second has a row for each mask with features at this session and at one before; it is flagged if either is.
    """
    with_features = rows[~rows["flags"].isin(_WITHOUT)]
    lesions = with_features.groupby(["participant_id", "track_id", "tissue"], sort=False)
    prior = lesions[["session_id", "flags", *FEATURE_NAMES]].shift()
    rows = rows.assign(prior_session_id=prior["session_id"])
    changes = rows.loc[prior.index].assign(quantity="change", flags=with_features["flags"].fillna(prior["flags"]))
    changes[FEATURE_NAMES] -= prior[FEATURE_NAMES]
    return rows, changes[changes["prior_session_id"].notna()]
