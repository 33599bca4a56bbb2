"""Whether a scan shows contrast agent, and whether what was drawn as enhancing is what enhances.

On a scan that was misnamed, or acquired before the injection, lesions seem absent. A segmentation of another scan has
lesions where there are none.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage, stats

from mettrail.geometry import label_components
from mettrail.images import ENHANCING, NECROSIS, Image, require_same_grid

# Percentiles of the brain that stand for fluid and for white matter.
_FLUID, _WHITE = 3, 78
# Of a lesion its outermost layer counts, for a mask with one number holds necrosis, too; of its surroundings what lies
# neither in the blur of its edge nor far away.
_LAYER_MM, _AROUND_MM = 1.5, (1.5, 8.0)
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


def labels_auc(scan: Image, tissue: Image, brain: Image) -> float | None:
    """Return how probable it is that enhancing tumour is brighter than the brain around it, as somebody drew both.

    The area under the ROC curve (Mann and Whitney) of the outermost layer of each lesion's enhancing tumour against
    brain without lesions up to 8 mm away, weighted by voxels. Around 0.5 the segmentation is not of this scan: it is
    another session's, another patient's, or left and right are exchanged.

    Parameters
    ----------
    scan : Image of (X, Y, Z) float
        With contrast agent. A bias field does no harm.
    tissue : Image of (X, Y, Z) int
        1 enhancing, 2 edema, 3 necrosis, 4 resection cavity, on the same grid.
    brain : Image of (X, Y, Z) bool
        Brain mask, on the same grid.

    Returns
    -------
    float or None
        None where nothing enhancing was drawn, or no brain is around it.

    Raises
    ------
    GridMismatchError
        Not one grid.
    """
    require_same_grid(scan, tissue)
    require_same_grid(scan, brain)
    spacing = np.asarray(scan.spacing_mm)
    lesions = np.isin(tissue.data, (ENHANCING, NECROSIS))
    components, _ = label_components(lesions)
    margin = np.ceil(_AROUND_MM[1] / spacing).astype(int)
    areas, weights = [], []
    for number, tight in enumerate(ndimage.find_objects(components), start=1):
        box = tuple(slice(max(side.start - more, 0), side.stop + more) for side, more in zip(tight, margin))
        lesion = components[box] == number
        depth, beyond = (ndimage.distance_transform_edt(part, sampling=spacing) for part in (lesion, ~lesion))
        layer = lesion & (tissue.data[box] == ENHANCING) & (depth <= max(_LAYER_MM, _LAYER_MM * spacing.min()))
        around = (beyond > _AROUND_MM[0]) & (beyond <= _AROUND_MM[1]) & (brain.data[box] > 0) & ~lesions[box]
        if layer.any() and around.any():
            inside, outside = scan.data[box][layer], scan.data[box][around]
            areas.append(stats.mannwhitneyu(inside, outside).statistic / (inside.size * outside.size))
            weights.append(inside.size)
    return float(np.average(areas, weights=weights)) if areas else None
