"""The ICBM 152 2009a symmetric template, a brain that the nilearn package ships, and the coarse grids it is used on."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import ndimage

from mettrail.images import Image, canonical_grid, read_image, resample


def read_template(name: Literal["t1", "gm", "wm"]) -> Image:
    """Read the T1w brain, or the probability (0 to 255) of grey or white matter."""
    # Not through nilearn.datasets, which takes two seconds to import; the files are part of the package.
    spec = importlib.util.find_spec("nilearn")
    assert spec is not None and spec.origin is not None, "nilearn is installed with mettrail"
    folder = Path(spec.origin).parent / "datasets" / "data"
    return read_image(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz")


@lru_cache(maxsize=2)
def load_template(spacing_mm: float) -> tuple[Image, Image]:
    """Return the T1w brain and its mask: on the template's own grid for 1 mm, else resampled to this spacing."""
    t1w = read_template("t1")
    brain = t1w.like(ndimage.binary_fill_holes(t1w.data > 0))
    if spacing_mm == 1:
        return t1w, brain
    return coarsen(t1w, spacing_mm), coarsen(brain, spacing_mm)


def coarsen(image: Image, spacing_mm: float) -> Image:
    """Smooth a scan and resample it to a coarser isotropic grid; of a mask, keep the voxels that are mostly inside."""
    sigma = spacing_mm / 2.5 / np.array(image.spacing_mm)
    smooth = image.like(ndimage.gaussian_filter(image.data.astype(np.float32), sigma))
    small = resample(smooth, canonical_grid(image.grid, spacing_mm=spacing_mm))
    return small.like(small.data > 0.5) if image.data.dtype == bool else small
