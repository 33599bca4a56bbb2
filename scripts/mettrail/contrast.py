"""Whether a scan shows what its name says, and a segmentation what its scan shows.

On a scan acquired before the injection lesions seem absent; a T2w that is called FLAIR is nothing networks learned; a
segmentation of another scan has lesions where there are none.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage, stats

from mettrail.errors import InputError
from mettrail.geometry import label_components
from mettrail.images import ENHANCING, NECROSIS, Image, require_same_grid, resample
from mettrail.reasons import Reason

# Percentiles of the brain that stand for fluid and for white matter.
_FLUID, _WHITE = 3, 78
# On T2w the brightest 8 % of the brain, which are fluid, lie further above its median than the darkest 3 % lie below.
# More than that is asked of a small brain: enhancing tumours may hold as much. Of a piece of one nothing can be told.
_DARK, _BRIGHT_SHARE, _TUMOURS_ML, _PIECE = 3, 0.08, 100.0, 0.3
# Percentiles of a T1w scan, with or without contrast agent, between which its fluid, grey and white matter lie.
_TISSUES = {"fluid": (0, 8), "grey": (35, 50), "white": (70, 90)}
# What a sequence shows, as a share of its white matter: between the two limits there is doubt, and nothing is said.
_FLUID_DARK, _FLUID_OF_T2W = 0.85, 1.2
_GREY_OF_T1W, _GREY_OF_FLAIR = 0.95, 1.02
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


def shows_bright_fluid(scan: Image, brain: Image) -> bool:
    """Return whether a scan shows fluid brighter than the brain, as T2w does and T1w and FLAIR do not.

    Parameters
    ----------
    scan : Image of (X, Y, Z) float
        Bias-corrected.
    brain : Image of (X, Y, Z) bool
        Brain mask on the same grid.

    Raises
    ------
    GridMismatchError
        Not one grid.
    """
    require_same_grid(scan, brain)
    inside = scan.data[brain.data > 0]
    share = max(_BRIGHT_SHARE, _TUMOURS_ML * 1000 / max(inside.size * scan.voxel_volume_mm3, 1))
    if share > _PIECE:
        return False
    dark, middle, bright = np.percentile(inside, (_DARK, 50, 100 * (1 - share)))
    return bool(bright - middle > middle - dark > 0)


def tissue_contrast(scan: Image, reference: Image, brain: Image) -> dict[str, float]:
    """Return how bright fluid and grey matter are on a scan, as a share of white matter there.

    Parameters
    ----------
    scan : Image of (X, Y, Z) float
        0 where it was not acquired.
    reference : Image of (X, Y, Z) float
        A T1w scan of the same head, with or without contrast agent, which says where the tissues are.
    brain : Image of (X, Y, Z) bool
        Brain mask.

    Returns
    -------
    dict
        ``fluid`` and ``grey``; NaN where the scan does not show them.

    Raises
    ------
    GridMismatchError
        Not one grid.
    """
    require_same_grid(scan, reference)
    require_same_grid(scan, brain)
    shown = (brain.data > 0) & (scan.data > 0)
    if not shown.any():
        return {"fluid": float("nan"), "grey": float("nan")}
    known, values = reference.data[shown], scan.data[shown]
    limits = {name: np.percentile(known, both) for name, both in _TISSUES.items()}
    middle = {name: np.median(values[(known >= low) & (known <= high)]) for name, (low, high) in limits.items()}
    return {name: float(middle[name] / middle["white"]) for name in ("fluid", "grey")}


def require_weighting(name: str, scan: Image, reference: Image, brain: Image) -> None:
    """Refuse a sequence that shows tissues as another one does.

    T2w shows fluid brighter than white matter, T1w and FLAIR darker; FLAIR shows grey matter brighter, T1w darker. In
    seven real sessions T2w had fluid at 1.40 times white matter and more, others at 0.78 at most; FLAIR had grey matter
    at 1.03 and more, T1w at 0.93 at most (`tests/benchmarks/contrast.py sequences`).

    Parameters
    ----------
    name : {"T1w", "T2w", "FLAIR"}
        What the scan should be.
    scan, reference, brain : Image
        As for `tissue_contrast`.

    Raises
    ------
    InputError
        It is another sequence.
    """
    shown = tissue_contrast(scan, reference, brain)
    fluid, grey = shown["fluid"], shown["grey"]
    looks_like = None
    if name == "T2w":
        looks_like = "T1w or FLAIR" if fluid < _FLUID_DARK else None
    elif fluid > _FLUID_OF_T2W:
        looks_like = "T2w"
    elif name == "T1w":
        looks_like = "FLAIR" if grey > _GREY_OF_FLAIR else None
    elif name == "FLAIR":
        looks_like = "T1w" if grey < _GREY_OF_T1W else None
    if looks_like:
        raise InputError(
            scan.path,
            found=f"fluid {fluid:.1f} and grey matter {grey:.2f} times as bright as white matter, as on {looks_like}",
            expected=f"what its name says: {name}",
            advice=Reason.OTHER_SEQUENCE.advice,
            reason=Reason.OTHER_SEQUENCE,
        )


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
    brain : Image of bool
        Brain mask, on any grid.

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
    near = resample(brain, scan.grid, order=0).data > 0
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
        around = (beyond > _AROUND_MM[0]) & (beyond <= _AROUND_MM[1]) & near[box] & ~lesions[box]
        if layer.any() and around.any():
            inside, outside = scan.data[box][layer], scan.data[box][around]
            areas.append(stats.mannwhitneyu(inside, outside).statistic / (inside.size * outside.size))
            weights.append(inside.size)
    return float(np.average(areas, weights=weights)) if areas else None
