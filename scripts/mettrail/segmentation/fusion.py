"""Fusion: which network decides on which voxels. Voxels only.

A rule decides what a follow-up takes; a session without a prior has detection alone. ``detection``, ``resegmentation``
and ``propagation`` take one answer as it is: the methods compared by Andrearczyk et al., Sci Rep 2024 (propagation is
registration alone, the lesions of the prior visit where they lie now). ``parallel`` takes from both networks:

=====================================================  =====================================================
a connected component of                               comes from
=====================================================  =====================================================
re-segmentation, within `touch_mm` of the prior        re-segmentation: a lesion seen before
re-segmentation, away from any prior                   (ignored: finding new ones is not its task)
detection, overlapping one of re-segmentation's        re-segmentation, whole: one lesion is not stitched of two
detection, at a prior, re-segmentation sees nothing    detection: what one network sees unaided is not absent
detection, elsewhere                                   detection: a new lesion
=====================================================  =====================================================

Edema goes with the nearest lesion, as when it is measured. What only a sensitive reading detects, a second detection
model, the first one from its ``candidate_threshold`` on or at the resolution of a fine scan (`fine`), is added where
there is no other lesion (`add_candidates`): Huang et al. 2022 tell confirmed lesions from candidates by two such
networks.

Then, in this order: `cavities` settles what is lesion and what resection cavity, `edges` lets lesions reach out,
`cavities` and `edema` are drawn around them, `decision` puts all on the scan's grid, and `evidence` says how certain
each lesion is.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mettrail.errors import InputError
from mettrail.geometry import grow_mask, label_components, pick_touched, whole_lesion, with_neighbours
from mettrail.images import ENHANCING, NECROSIS, TISSUE_LABELS, Image, require_same_grid
from mettrail.reasons import Reason
from mettrail.segmentation.classes import require_classes, without_classes
from mettrail.segmentation.thresholds import recentre

# Both decide on the voxels of lesions; a sensitive one only adds candidates, the rest draw no lesion.
NETWORKS = ("detection", "resegmentation")
OPTIONAL = ("detection_sensitive", "edema", "cavity")
# What is drawn around lesions.
DRAWN = ("edema", "cavity")
# What each rule wants of a follow-up.
NEEDED = {
    "parallel": ("detection", "detection_sensitive", "resegmentation", "prior", *DRAWN),
    "detection": ("detection", "detection_sensitive", *DRAWN),
    "resegmentation": ("resegmentation", *DRAWN),
    "propagation": ("prior",),
}


def needed(rule: str, *, followup: bool) -> tuple[str, ...]:
    """Return what a rule wants of a session: ``prior``, and networks by their task.

    Those in `OPTIONAL` may be missing.
    """
    return NEEDED[rule] if followup else NEEDED["detection"]


def apply_rule(
    detection: Image | None,
    resegmentation: Image | None,
    prior: Image | None,
    *,
    rule: str,
    touch_mm: float,
    edema_max_mm: float,
) -> Image:
    """Return the probabilities that decide on a session's voxels; the rules stand at the top of this file.

    Parameters
    ----------
    detection, resegmentation, prior, touch_mm, edema_max_mm
        As for `fuse`. What the rule does not want may be None; on a first visit `resegmentation` and `prior` are.
    rule : {'parallel', 'detection', 'resegmentation', 'propagation'}

    Raises
    ------
    InputError
        The rule wants what is not there.
    """
    if rule == "resegmentation" and resegmentation is not None:
        return resegmentation
    if rule == "propagation" and prior is not None:
        return Image(np.eye(len(TISSUE_LABELS), dtype=np.float32)[prior.data], prior.affine, prior.path)
    if detection is None:
        raise InputError(
            "segment: fusion",
            found="no earlier session that can be used",
            expected=f"one, for the rule {rule}",
            advice="See why the sessions before failed, or take the rule parallel.",
            reason=Reason.NO_PRIOR,
        )
    if rule == "detection":
        return detection
    return fuse(detection, resegmentation, prior, touch_mm=touch_mm, edema_max_mm=edema_max_mm)


def fuse(
    detection: Image, resegmentation: Image | None, prior: Image | None, *, touch_mm: float, edema_max_mm: float
) -> Image:
    """Put the two networks' probabilities together, voxel by voxel: the rule ``parallel``.

    Parameters
    ----------
    detection : Image of (X, Y, Z, 5) float
        Background, enhancing, edema, necrosis, cavity.
    resegmentation : Image of (X, Y, Z, 5) float, optional
        The same from re-segmentation.
    prior : Image of (X, Y, Z) unsigned int, optional
        Tissue labels of the prior visit on the same grid.
    touch_mm : float
        A component of re-segmentation this near to the prior is a lesion seen before.
    edema_max_mm : float
        Edema farther than this from every lesion is none's.

    Returns
    -------
    Image of (X, Y, Z, 5) float32

    Raises
    ------
    GridMismatchError
        Not one grid.
    InputError
        Not five classes.
    """
    for image in (detection, resegmentation):
        if image is not None:
            require_classes(image)
    if resegmentation is None or prior is None:
        return detection
    require_same_grid(*map(without_classes, (detection, resegmentation, prior)))
    at_prior = near_prior(prior, touch_mm=touch_mm)
    if not at_prior.any():
        return detection
    spacing = detection.spacing_mm
    detected, _ = label_components(whole_lesion(detection.data) >= 0.5)
    resegmented, _ = label_components(whole_lesion(resegmentation.data) >= 0.5)

    seen_before = pick_touched(resegmented, at_prior)
    same = pick_touched(detected, seen_before)
    new = (detected > 0) & ~same
    takes_resegmentation = seen_before | same

    # Edema, and everything faint: from the network whose lesion is nearest.
    near = _grow_distance(takes_resegmentation, spacing)
    ignored = (resegmented > 0) & ~seen_before
    takes_resegmentation |= (near <= edema_max_mm) & (near < _grow_distance(new, spacing)) & ~new & ~ignored
    return detection.like(
        np.where(takes_resegmentation[..., None], resegmentation.data, detection.data).astype(np.float32)
    )


def add_candidates(
    fused: Image, detection: Image | None, *sensitive: Image | None, level: float | None = None
) -> Image:
    """Add lesions that only a more sensitive reading of the scan sees, and that touch none of those already there.

    Parameters
    ----------
    fused : Image of (X, Y, Z, 5) float
        From `apply_rule`.
    detection : Image of (X, Y, Z, 5) float, optional
        Read a second time from `level` on.
    *sensitive : Image of (X, Y, Z, 5) float, optional
        From a second detection model, or a second look at a fine scan; read from 0.5 on.
    level : float, optional
        From `thresholds.candidate_level`; None: detection is not read again.

    Returns
    -------
    Image of (X, Y, Z, 5) float32
        Candidates reach 0.5 as all lesions do; `gather_evidence` tells them apart.
    """
    readings = [reading for reading in sensitive if reading is not None]
    if detection is not None and level is not None:
        readings.append(detection.like(recentre(detection.data, threshold=level)))
    for reading in readings:
        require_classes(reading)
        components, _ = label_components(whole_lesion(reading.data) >= 0.5)
        there = with_neighbours(whole_lesion(fused.data) >= 0.5)
        alone = (components > 0) & ~pick_touched(components, there)
        fused = fused.like(np.where(with_neighbours(alone)[..., None], reading.data, fused.data).astype(np.float32))
    return fused


def near_prior(prior: Image, *, touch_mm: float) -> np.ndarray:
    """Return where the propagated lesions of the prior session lie, and what is at most `touch_mm` from them."""
    return grow_mask(np.isin(prior.data, (ENHANCING, NECROSIS)), spacing_mm=prior.spacing_mm, grow_mm=touch_mm)


def _grow_distance(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    distance: np.ndarray = ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
    return distance
