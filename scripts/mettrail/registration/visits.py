"""The registrations of the pipeline: sequences of a visit, the prior visit to this one, each visit to the first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mettrail import registration, transforms
from mettrail.errors import InputError
from mettrail.images import Image
from mettrail.reasons import Reason
from mettrail.registration.engines import Settings
from mettrail.transforms import Transform

# Scans whose local correlation is below the first are tried mirrored as well, and are mirrored if that is better by the
# second: real scans of one head had 0.43 and more, and at least 0.27 less once one was mirrored.
_TRIED_MIRRORED_BELOW, _MIRRORED_BETTER_BY = 0.45, 0.1
# Other sequences of which more of the mutual information is left once moved are tried mirrored, and are mirrored if
# they lie on the reference image then and share so many times as much with it. Of real ones 0.03 to 0.17 was left;
# mirrored 0.25 to 0.33, and a fifth or less was shared.
_SEQUENCE_TRIED_ABOVE, _MIRRORED_SHARES_TIMES = 0.2, 2.0
# Sequences of one visit start where the scanner put them; the patient moves a little, not to another place.
_AS_SCANNED = np.eye(4)


def _bring_rigidly(
    moving: Image,
    fixed: Image,
    *,
    masks: tuple[Image | None, Image],
    initial: np.ndarray | None,
    threads: int,
    settings: Settings,
) -> tuple[Transform, Image]:
    """Return the rigid transform of a scan and the scan on the fixed grid; `masks` are of the moving and fixed one."""
    transform = registration.register(
        fixed,
        moving,
        stage="rigid",
        fixed_mask=masks[1],
        moving_mask=masks[0],
        initial=initial,
        threads=threads,
        settings=settings,
    )
    return transform, transforms.apply(moving, fixed.grid, affine=transform.affine)


def register_sequence(
    reference: Image, moving: Image, *, mask: Image, check: Mapping[str, float], threads: int, **settings: Any
) -> tuple[Transform, Image, dict[str, Any]]:
    """Bring another sequence of a visit rigidly onto its reference image.

    Parameters
    ----------
    reference, moving : Image
        Heads on their own grids.
    mask : Image
        Brain of the reference image; the metric is taken there.
    check : mapping
        Limits of `registration.sequence_qc`.
    **settings
        As for `Settings.of`.

    Returns
    -------
    transform : Transform
    moved : Image
        The sequence on the reference image's grid.
    quality : dict
        ``status`` ok or warn, with what it rests on.

    Raises
    ------
    InputError
        It does not lie on the reference image, shows too little of the brain, or is mirrored.
    """
    how = Settings.of(**settings)

    def bring(scan: Image) -> tuple[Transform, Image, np.ndarray, float, float]:
        transform, moved = _bring_rigidly(
            scan, reference, masks=(None, mask), initial=_AS_SCANNED, threads=threads, settings=how
        )
        seen = mask.data & registration.field_of_view(scan, mask.grid, affine=transform.affine)
        return transform, moved, seen, *registration.shared_information(reference, moved, mask.like(seen))

    transform, moved, seen, shared, left = bring(moving)
    if not left <= _SEQUENCE_TRIED_ABOVE:
        *_, shared_mirrored, left_mirrored = bring(registration.mirror(moving))
        if left_mirrored <= check["left_warn"] and shared_mirrored > _MIRRORED_SHARES_TIMES * shared:
            raise InputError(
                moving.path,
                found=f"{shared_mirrored / max(shared, 1e-9):.0f} times as much mutual information with "
                f"{Path(reference.path).name} once left and right are exchanged",
                expected="left and right as in the reference scan",
                advice=Reason.MIRRORED.advice,
                reason=Reason.MIRRORED,
            )
    covered = float(seen[mask.data].mean())
    verdict = registration.sequence_qc(covered=covered, left=left, **check)
    if verdict.status == "fail":
        raise InputError(
            moving.path,
            found=f"{covered:.0%} of the brain in view"
            + (f"; of what it tells of {Path(reference.path).name}, {left:.0%} still after 6 mm" if shared else ""),
            expected=f"at least {check['covered_fail']:.0%}, and at most {check['left_fail']:.0%}: scans of one head",
            advice=Reason.SEQUENCE_FAILED.advice,
            reason=Reason.SEQUENCE_FAILED,
        )
    quality = {
        "engine": settings["engine"],
        "status": verdict.status,
        "reason": verdict.reason or "",
        "brain_covered": covered,
        "shared_information": shared,
        "shared_information_left": left,
    }
    return transform, moved, quality


def register_visits(
    fixed: Image,
    moving: Image,
    fixed_mask: Image,
    moving_mask: Image,
    *,
    threads: int,
    dice_warn: float,
    dice_fail: float,
    **settings: Any,
) -> tuple[Transform, Image, dict[str, Any]]:
    """Deform the prior visit onto this one.

    Returns
    -------
    transform : Transform
    moved : Image
        The prior visit on this visit's grid.
    quality : dict
        Similarity before (with the rigid part of the transform) and after, overlap of the brains, extremes of the
        Jacobian determinant in the brain.
    """
    transform = registration.register(
        fixed,
        moving,
        stage="deformable",
        fixed_mask=fixed_mask,
        moving_mask=moving_mask,
        initial=None,
        threads=threads,
        settings=Settings.of(**settings),
    )
    assert transform.warp is not None, "deformable registration gives a warp"
    centre = transforms.map_points(np.argwhere(fixed_mask.data), affine=fixed.affine).mean(axis=0)
    rigid = transforms.nearest_rigid(transform.affine, about=centre)
    before = transforms.apply(moving, fixed.grid, affine=rigid)
    moved = transforms.apply(moving, fixed.grid, affine=transform.affine, warp=transform.warp)
    jacobian = transforms.jacobian_determinant(transform.warp).data[fixed_mask.data]
    dice = registration.brain_dice_in_common_view(fixed_mask, moving_mask, affine=transform.affine, warp=transform.warp)
    verdict = registration.registration_qc(dice=dice, rigid=None, dice_warn=dice_warn, dice_fail=dice_fail)
    quality = {
        "engine": settings["engine"],
        "status": verdict.status,
        "reason": verdict.reason or "",
        "brain_dice": dice,
        "similarity_rigid": registration.similarity(fixed, before, fixed_mask),
        "similarity_deformable": registration.similarity(fixed, moved, fixed_mask),
        "jacobian_min": float(jacobian.min()),
        "jacobian_max": float(jacobian.max()),
    }
    return transform, moved, quality


def register_reference(
    fixed: Image,
    moving: Image,
    fixed_mask: Image,
    moving_mask: Image,
    *,
    threads: int,
    dice_warn: float,
    dice_fail: float,
    check: Mapping[str, float],
    **settings: Any,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Bring a visit rigidly into the patient's reference space, which is its first visit's.

    Parameters
    ----------
    fixed, moving : Image
        The first visit's scan, and this one's.
    fixed_mask, moving_mask : Image of (X, Y, Z) bool
        Their brains.
    threads : int
    dice_warn, dice_fail : float
        See `registration_qc`.
    check : mapping
        ``head_check`` of config/config.yaml: the limits of `same_head_qc`.
    **settings
        Of `engines.Settings`.

    Returns
    -------
    affine : (4, 4) float
        RAS mm, points of the reference space to points of this visit. The identity for the first visit itself.
    quality : dict
        ``status`` ok, warn or fail, with what it rests on; ``local_ncc_mirrored`` is NaN where it was not tried. A
        visit that fails is not matched and not evaluable.
    """
    if fixed.path == moving.path:
        return np.eye(4), {"engine": "none", "status": "ok", "reason": "", "brain_dice": 1.0}
    how = Settings.of(**settings)

    def bring(scan: Image, mask: Image) -> tuple[np.ndarray, Image, dict[str, float]]:
        transform, moved = _bring_rigidly(
            scan, fixed, masks=(mask, fixed_mask), initial=None, threads=threads, settings=how
        )
        return transform.affine, moved, registration.similarity(fixed, moved, fixed_mask)

    affine, moved, similarity = bring(moving, moving_mask)
    mirrored = float("nan")
    if similarity["local_ncc"] < _TRIED_MIRRORED_BELOW:
        *_, other = bring(registration.mirror(moving), registration.mirror(moving_mask))
        mirrored = other["local_ncc"]
    dice = registration.brain_dice_in_common_view(fixed_mask, moving_mask, affine=affine)
    stretch = registration.find_stretch(
        fixed,
        moving,
        fixed_mask=fixed_mask,
        moving_mask=moving_mask,
        rigid=affine,
        settings=how,
    )
    in_view = fixed_mask.data & registration.field_of_view(moving, fixed.grid, affine=affine)
    shared, left = registration.shared_information(fixed, moved, fixed_mask.like(in_view))
    verdict = registration.most_severe(
        registration.same_head_qc(
            local_ncc=similarity["local_ncc"],
            left=left,
            mirrored=mirrored > similarity["local_ncc"] + _MIRRORED_BETTER_BY,
            stretch=stretch,
            **check,
        ),
        registration.registration_qc(dice=dice, rigid=affine, dice_warn=dice_warn, dice_fail=dice_fail),
    )
    return affine, {
        "engine": settings["engine"],
        "status": verdict.status,
        "reason": verdict.reason or "",
        "brain_dice": dice,
        "similarity": similarity,
        "local_ncc_mirrored": mirrored,
        "shared_information": shared,
        "shared_information_left": left,
        "stretch": stretch.tolist(),
        "head_volume_ratio": float(stretch.prod()),
    }
