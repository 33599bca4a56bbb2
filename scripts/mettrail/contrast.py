"""Whether a scan shows contrast agent: on one that was misnamed, or acquired before it, lesions seem absent."""

from __future__ import annotations

import numpy as np

from mettrail.images import Image, require_same_grid

# Percentiles of the brain that stand for fluid and for white matter.
_FLUID, _WHITE = 3, 78
# Bright is what lies so far above white matter, as a share of what white matter is above fluid.
_BRIGHT = 0.4


def bright_share(scan: Image, brain: Image) -> float:
    """Return the share of the brain that is much brighter than white matter on a T1w scan.

    With contrast agent these are vessels, sinuses, plexus, dura and lesions; without, next to nothing. Of real scans
    18 with it had 0.0054 and more, 19 without 0.0015 at most (`tests/benchmarks/contrast.py`).

    Parameters
    ----------
    scan : Image of (X, Y, Z) float
        Bias-corrected.
    brain : Image of (X, Y, Z) bool
        Brain mask on the same grid.

    Returns
    -------
    float
        0 where there is no brain, or white matter is no brighter than fluid.

    Raises
    ------
    GridMismatchError
        Not one grid.
    """
    require_same_grid(scan, brain)
    inside = scan.data[brain.data > 0]
    fluid, white = np.percentile(inside, (_FLUID, _WHITE)) if inside.size else (0, 0)
    return float((inside > white + _BRIGHT * (white - fluid)).mean()) if white > fluid else 0.0
