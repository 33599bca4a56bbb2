"""Fusion: which network decides on which voxels, and the decision on the scan's own grid. Voxels only.

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

Edema goes with the nearest lesion, as when it is measured. Where a session has FLAIR, a network of its own draws it
(`draw_edema`), and the lesions stay as they are: a session with FLAIR and one without are measured alike.

Resection cavities are drawn by a network of their own, too (`draw_cavities`). What it sees as cavity and the others
call a lesion stays one, unless surgery before the session is on record (`settle_cavities`).

Certainty, where detection's model is calibrated: a connected component is *confirmed* whose ``confidence``, the
probability that it is a lesion, reaches the limit, any other is a *candidate* (`gather_evidence`). What re-segmentation
misses on a follow-up must reach the limit of the mean probability below, too. Where it is not calibrated: every
connected component of lesion voxels has a mean probability and is detected by ``both`` networks, by
``detection`` or by ``resegmentation`` alone. A component is *confirmed* whose mean probability
reaches the limit for the networks that detect it, any other is a *candidate*; a lesion is confirmed if one of its
components is. What all networks detect that ran needs little; what detection sees and re-segmentation does not, much:
it seldom is a lesion. Provided segmentations are confirmed; propagated lesions have no certainty. What only a sensitive
reading detects, a second detection model, the first one from its ``candidate_threshold`` on or at the resolution of a
fine scan (`fine`), is added where there is no other lesion (`add_candidates`), as a candidate: Huang et al. 2022 tell
confirmed lesions from candidates by two such networks.

Candidates are not propagated to the next session (`remove_candidates`): re-segmentation would find them for being told
of them, and that is no confirmation.

Edges: what is a lesion is decided where a network is sure, how far it reaches where it is less so (`draw_edges`), as
readers include a blurred rim.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

from mettrail.errors import InputError
from mettrail.geometry import (
    NEIGHBOURS,
    bounding_box,
    decide_labels,
    find_peak,
    grow_mask,
    label_components,
    nearest_labels,
    whole_lesion,
)
from mettrail.images import CAVITY, EDEMA, ENHANCING, NECROSIS, TISSUE_LABELS, Grid, Image, require_same_grid
from mettrail.reasons import Reason
from mettrail.segmentation.prediction import calibrate, mean_probabilities, recentre

# Voxels where all classes but background stay below this together need no resampling.
NOTICEABLE = 0.01
# Edges are drawn at most so far beyond what a network is sure of.
EDGE_REACH_MM = 3.0
# Edema starts at most so far from its lesion: FLAIR may be a little out of place.
EDEMA_TOUCH_MM = 3.0
# Smaller ones are sulci, vessels or lacunes, more often than not.
CAVITY_LEAST_MM3 = 200.0
# The mean probability over its voxels, of their most certain 1 mL, from which a cavity is drawn: on simulated patients
# after resection real ones had 0.99 and more, what was none 0.92 at most, but for one of 0.97.
CAVITY_MEAN = 0.95
# The way in leads from the surface: simulated cavities came to 12 mm of it or nearer, ventricles that were called
# cavities on real scans to 16 mm.
CAVITY_DEPTH_MM = 14.0
# What lines a cavity: granulation and scar enhance thinly.
LINING_MM = 2.5
# Both decide on the voxels of lesions; a sensitive one only adds candidates, the rest draw no lesion.
NETWORKS = ("detection", "resegmentation")
OPTIONAL = ("detection_sensitive", "edema", "cavity")
# What is drawn around lesions.
DRAWN = ("edema", "cavity")
# Sequences in which edema is bright.
EDEMA_SHOWN_BY = ("FLAIR", "T2w")
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


def show_edema(models: Sequence[Mapping[str, Any]], sequences: Sequence[str]) -> bool:
    """Return whether the networks that draw edema can tell it: each sees FLAIR or T2w.

    On T1w with contrast agent alone they call next to nothing of it.

    Parameters
    ----------
    models : sequence of mapping
        Descriptions of the edema model, or where none runs, of the detection and the re-segmentation model; none where
        lesions are propagated.
    sequences : sequence of str
        What the session has beside its reference image.

    Examples
    --------
    >>> show_edema([{"channels": ["ce-gadolinium_T1w", "FLAIR"]}], ["FLAIR"])
    True
    >>> show_edema([{"channels": ["ce-gadolinium_T1w", "FLAIR"]}, {"channels": ["ce-gadolinium_T1w"]}], ["FLAIR"])
    False
    """
    shown = {name for name in sequences if name.split("_")[-1] in EDEMA_SHOWN_BY}
    return bool(models) and all(shown & set(model["channels"]) for model in models)


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
            _require_classes(image)
    if resegmentation is None or prior is None:
        return detection
    require_same_grid(*map(_without_classes, (detection, resegmentation, prior)))
    at_prior = near_prior(prior, touch_mm=touch_mm)
    if not at_prior.any():
        return detection
    spacing = detection.spacing_mm
    detected, _ = label_components(whole_lesion(detection.data) >= 0.5)
    resegmented, _ = label_components(whole_lesion(resegmentation.data) >= 0.5)

    seen_before = _touched(resegmented, at_prior)
    same = _touched(detected, seen_before)
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
        From `prediction.candidate_level`; None: detection is not read again.

    Returns
    -------
    Image of (X, Y, Z, 5) float32
        Candidates reach 0.5 as all lesions do; `gather_evidence` tells them apart.
    """
    readings = [reading for reading in sensitive if reading is not None]
    if detection is not None and level is not None:
        readings.append(detection.like(recentre(detection.data, threshold=level)))
    for reading in readings:
        _require_classes(reading)
        components, _ = label_components(whole_lesion(reading.data) >= 0.5)
        there = ndimage.binary_dilation(whole_lesion(fused.data) >= 0.5, NEIGHBOURS[26])
        alone = (components > 0) & ~_touched(components, there)
        fused = fused.like(np.where(_with_edge(alone)[..., None], reading.data, fused.data).astype(np.float32))
    return fused


def near_prior(prior: Image, *, touch_mm: float) -> np.ndarray:
    """Return where the propagated lesions of the prior session lie, and what is at most `touch_mm` from them."""
    return grow_mask(np.isin(prior.data, (ENHANCING, NECROSIS)), spacing_mm=prior.spacing_mm, grow_mm=touch_mm)


def draw_edges(fused: Image, *, level: float, least_mm3: float) -> Image:
    """Let each connected component reach out to where the probability of whole lesion falls to a lower level.

    This is a threshold with hysteresis: no component is added, and none join; where two meet, a gap of a voxel stays.
    One that is too small to start a lesion stays as it is: it must not become one by its edge.

    Parameters
    ----------
    fused : Image of (X, Y, Z, 5) float
        From `apply_rule` and `add_candidates`: components are what reaches 0.5.
    level : float
        From `prediction.edge_level`, at most 0.5, which changes nothing.
    least_mm3 : float
        Least volume of a component whose edge is drawn: ``birth_mm3`` of ``instances`` in config/config.yaml.

    Returns
    -------
    Image of (X, Y, Z, 5) float32
        Odds near the components are shifted so that their edges lie at 0.5; at most `EDGE_REACH_MM` away from them.
    """
    whole = whole_lesion(fused.data)
    components, count = label_components(whole >= 0.5)
    if not count or level >= 0.5:
        return fused
    spacing = fused.spacing_mm
    box = bounding_box(components > 0, margin_vox=[math.ceil(EDGE_REACH_MM / mm) + 1 for mm in spacing])
    inside, whole = components[box], whole[box]
    distance, nearest = ndimage.distance_transform_edt(inside == 0, sampling=spacing, return_indices=True)
    owner = inside[tuple(nearest)]
    large = (np.bincount(components.ravel()) * math.prod(spacing) >= least_mm3)[owner]
    alone = ndimage.maximum_filter(owner, 3) == ndimage.minimum_filter(owner, 3)
    reached = large & ((inside > 0) | ((distance <= EDGE_REACH_MM) & (whole >= level) & alone))
    # What reaches out is part of a component, not something else beside it.
    reached = _touched(label_components(reached)[0], inside > 0)
    taken = reached | (large & _with_edge(reached) & (whole < level))
    data = fused.data.astype(np.float32)
    data[box][taken] = recentre(data[box][taken], threshold=level)
    return fused.like(data)


def draw_edema(fused: Image, edema: Image | None) -> Image:
    """Put edema where a network of its own sees it, beside a lesion; lesions stay as they are.

    Parameters
    ----------
    fused : Image of (X, Y, Z, 5) float
        From `draw_cavities`.
    edema : Image of (X, Y, Z, 5) float, optional
        From the edema model; None: edema stays as it is.

    Returns
    -------
    Image of (X, Y, Z, 5) float32
        The probability of whole lesion is the same. What is not lesion is shared out between edema and background as
        the model has it. Connected components of edema that come no nearer than `EDEMA_TOUCH_MM` to a lesion are
        background: plaques and scars are bright on FLAIR, too.

    Raises
    ------
    GridMismatchError
        Not one grid.
    InputError
        Not five classes.
    """
    if edema is None:
        return fused
    for image in (fused, edema):
        _require_classes(image)
    require_same_grid(*map(_without_classes, (fused, edema)))
    lesion = whole_lesion(fused.data) >= 0.5
    share = np.where(lesion, 0, edema.data[..., EDEMA])
    components, _ = label_components(share > 0.5)
    near = grow_mask(lesion, spacing_mm=fused.spacing_mm, grow_mm=EDEMA_TOUCH_MM)
    data = fused.data.astype(np.float32)
    data[..., 0] += data[..., EDEMA]
    data[..., EDEMA] = 0
    return fused.like(_share_out(data, (0,), EDEMA, share, around=_touched(components, near)))


def accept_cavities(seen: Image, brain: Image) -> Image:
    """Take from a network's cavities those that can be resection cavities.

    Parameters
    ----------
    seen : Image of (X, Y, Z, 5) float
        From the cavity model.
    brain : Image of (X, Y, Z) bool
        Brain mask on the same grid.

    Returns
    -------
    Image of (X, Y, Z) float32
        Probability of cavity; 0 but in and around connected components of `CAVITY_LEAST_MM3` or more, of which the
        network is sure (`CAVITY_MEAN`), and which come within `CAVITY_DEPTH_MM` of the brain's surface, from where
        surgeons come: ventricles do not.

    Raises
    ------
    GridMismatchError
        Not one grid.
    InputError
        Not five classes.
    """
    _require_classes(seen)
    require_same_grid(_without_classes(seen), brain)
    share = seen.data[..., CAVITY]
    components, count = label_components(share > 0.5)
    sure = np.r_[False, mean_probabilities(share, components, count) >= CAVITY_MEAN][components]
    shallow = grow_mask(~brain.data, spacing_mm=brain.spacing_mm, grow_mm=CAVITY_DEPTH_MM)
    near = sure & _touched(components, shallow)
    kept = _large(near, voxel_mm3=seen.voxel_volume_mm3, least_mm3=CAVITY_LEAST_MM3)
    return brain.like(np.where(_with_edge(kept), share, 0).astype(np.float32))


def draw_cavities(fused: Image, cavities: Image | None) -> Image:
    """Put resection cavities where a network of its own sees them; lesions stay as they are.

    Parameters
    ----------
    fused : Image of (X, Y, Z, 5) float
        From `draw_edges`; edema is drawn after them.
    cavities : Image of (X, Y, Z) float, optional
        From `accept_cavities`; None: cavities stay as they are.

    Returns
    -------
    Image of (X, Y, Z, 5) float32
        The probability of whole lesion is the same. What is not lesion is shared out between cavity and the rest as the
        model has it, where lesions leave enough of a cavity. What they enclose by more than half, in two of the three
        planes through a voxel, is no cavity but the core of a lesion, and stays what it is.

    Raises
    ------
    GridMismatchError
        Not one grid.
    """
    if cavities is None:
        return fused
    require_same_grid(_without_classes(fused), cavities)
    lesion = whole_lesion(fused.data) >= 0.5
    share = np.where(lesion, 0, cavities.data)
    left = _large(share > 0.5, voxel_mm3=fused.voxel_volume_mm3, least_mm3=CAVITY_LEAST_MM3)
    left = _drop_enclosed(left, lesion)
    return fused.like(_share_out(fused.data.astype(np.float32), (0, EDEMA), CAVITY, share, around=left))


def settle_cavities(
    fused: Image, cavities: Image | None, *, operated: bool, least_mm3: float
) -> tuple[Image, Image | None, int]:
    """Decide between lesion and resection cavity where networks call a place both.

    A cavity with a rim that enhances and a cyst look alike; whether there was surgery tells them apart. Without it on
    record, lesions stay as they are. With it, what lies in a cavity is no lesion, nor is what lines it (`LINING_MM`):
    what is thicker, a recurrence, stays. A cavity that thicker tissue encloses is the core of a lesion, and stays that.

    Parameters
    ----------
    fused : Image of (X, Y, Z, 5) float
        From `apply_rule` and `add_candidates`.
    cavities : Image of (X, Y, Z) float, optional
        From `accept_cavities`; None: nothing is decided.
    operated : bool
        Surgery before the session is on record.
    least_mm3 : float
        What is left of a lesion has at least this volume: ``birth_mm3`` of ``instances`` in config/config.yaml.

    Returns
    -------
    fused : Image of (X, Y, Z, 5) float32
    cavities : Image of (X, Y, Z) float32, or None
        Without those that are cores of lesions, where there was surgery.
    doubtful : int
        Connected components that lose more than half by surgery on record, or would.

    Raises
    ------
    GridMismatchError
        Not one grid.
    """
    if cavities is None:
        return fused, None, 0
    require_same_grid(_without_classes(fused), cavities)
    components, count = label_components(whole_lesion(fused.data) >= 0.5)
    bed = cavities.data > 0.5
    if not bed.any():
        return fused, cavities, 0
    beside = _touched(components, _with_edge(bed))
    bed = _drop_enclosed(bed, _beyond_lining(beside, bed, fused))
    beside = _touched(components, _with_edge(bed))
    kept = _large(_beyond_lining(beside, bed, fused), voxel_mm3=fused.voxel_volume_mm3, least_mm3=least_mm3)
    gone = beside & ~kept
    lost = np.bincount(components[gone], minlength=count + 1)
    doubtful = int((2 * lost > np.bincount(components.ravel(), minlength=count + 1)).sum())
    if not operated:
        return fused, cavities, doubtful
    data = fused.data.astype(np.float32)
    # With the voxels around, by which an edge is found; not those of what stays.
    data[gone | (_with_edge(gone) & (components == 0))] = (1, 0, 0, 0, 0)
    return fused.like(data), cavities.like(np.where(_with_edge(bed), cavities.data, 0).astype(np.float32)), doubtful


def _beyond_lining(lesion: np.ndarray, bed: np.ndarray, image: Image) -> np.ndarray:
    """Return what a lesion has outside cavities where it is thicker than their lining, down to the cavity."""
    outside = lesion & ~bed
    thick = outside & ~grow_mask(bed, spacing_mm=image.spacing_mm, grow_mm=LINING_MM)
    kept: np.ndarray = outside & grow_mask(thick, spacing_mm=image.spacing_mm, grow_mm=LINING_MM)
    return kept


def _drop_enclosed(cavities: np.ndarray, lesion: np.ndarray) -> np.ndarray:
    """Return cavities without the connected components that a lesion encloses by more than half."""
    components, count = label_components(cavities)
    enclosed = np.bincount(components[_enclosed(lesion)], minlength=count + 1)
    open_ones = 2 * enclosed <= np.bincount(components.ravel(), minlength=count + 1)
    kept: np.ndarray = cavities & open_ones[components]
    return kept


def _large(mask: np.ndarray, *, voxel_mm3: float, least_mm3: float) -> np.ndarray:
    """Return the connected components of a mask that have at least a volume."""
    components, _ = label_components(mask)
    large = np.bincount(components.ravel()) * voxel_mm3 >= least_mm3
    large[0] = False
    found: np.ndarray = large[components]
    return found


def _enclosed(mask: np.ndarray) -> np.ndarray:
    """Return what lies outside a mask, but is enclosed by it in two of the three planes through each voxel."""
    found = np.zeros(mask.shape, np.uint8)
    if not mask.any():
        return found > 0
    box = bounding_box(mask)
    for axis in range(3):
        for plane, into in zip(np.moveaxis(mask[box], axis, 0), np.moveaxis(found[box], axis, 0), strict=True):
            into += ndimage.binary_fill_holes(plane) & ~plane
    return found >= 2


def _with_edge(mask: np.ndarray) -> np.ndarray:
    """Return a mask with the voxels around it, by which its edge is found on the scan's grid."""
    return ndimage.binary_dilation(mask, NEIGHBOURS[26])


def _share_out(
    data: np.ndarray, taken_from: tuple[int, ...], label: int, share: np.ndarray, *, around: np.ndarray
) -> np.ndarray:
    """Give a class its share of others in and around some voxels; (X, Y, Z, 5) data are changed in place."""
    share = np.where(_with_edge(around), share, 0)
    for other in taken_from:
        given = data[..., other] * share
        data[..., label] += given
        data[..., other] -= given
    return data


def decide_on_grid(probabilities: Image, grid: Grid) -> tuple[Image, Image]:
    """Resample class probabilities linearly to a scan's own grid and decide there.

    Labels are those of `geometry.decide_labels`. Where the scan's voxels are thicker than the probabilities', a voxel
    is the mean over its extent. A lesion that would lose its last voxel keeps the one at its peak.

    Parameters
    ----------
    probabilities : Image of (X, Y, Z, 5) float
        Background, enhancing, edema, necrosis, cavity.
    grid : Grid
        The scan's.

    Returns
    -------
    labels : Image of (X, Y, Z) uint8
        0 background, 1 enhancing, 2 edema, 3 necrosis, 4 resection cavity.
    whole : Image of (X, Y, Z) float32
        Probability of whole lesion, on the same grid.

    Raises
    ------
    InputError
        Not five classes.
    """
    _require_classes(probabilities)
    data = probabilities.data
    labels, whole = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.float32)
    noticeable = ndimage.binary_dilation(1 - data[..., 0] > NOTICEABLE, NEIGHBOURS[26])
    to_grid = np.linalg.inv(grid.affine) @ probabilities.affine
    components, _ = label_components(noticeable)
    for box in _merge(_box_on_grid(b, to_grid, grid.shape) for b in ndimage.find_objects(components)):
        sampled = _sample(data, probabilities.affine, grid, box)
        labels[box] = np.maximum(labels[box], decide_labels(sampled))
        whole[box] = np.maximum(whole[box], whole_lesion(sampled))
    return Image(_rescue(labels, data, to_grid), grid.affine), Image(whole, grid.affine)


def gather_evidence(
    labels: Image,
    fused: Image,
    networks: Mapping[str, Image | None],
    *,
    limits: Mapping[str, float],
    calibration: Mapping[str, float] | None = None,
    at_prior: np.ndarray | None = None,
    fine: Image | None = None,
) -> tuple[Image, pd.DataFrame]:
    """Tell how certain the networks are of each connected component; the rule stands at the top of this file.

    Parameters
    ----------
    labels : Image of (X, Y, Z) int
        From `decide_on_grid`.
    fused : Image of (X, Y, Z, 5) float
        From `apply_rule` and `add_candidates`: what was decided on.
    networks : mapping
        ``detection`` and ``resegmentation``: probabilities on the grid of `fused`; None where one did not run.
    limits : mapping
        Least mean probability of a confirmed component that ``all`` networks detect that ran, or, of two,
        ``detection`` or ``resegmentation`` alone; what none detects is a candidate. With a `calibration`, the least
        confidence of a ``confirmed`` component; of two networks, what re-segmentation misses must reach both.
    calibration : mapping, optional
        Of detection's model; see `prediction.calibrate`. It is applied to detection's probabilities, of a component
        that lies at a lesion of the prior session to the higher ones of both networks: finding new lesions is not
        re-segmentation's task.
    at_prior : (X, Y, Z) bool, optional
        From `near_prior`, on the grid of `fused`; None on a first session.

    Returns
    -------
    components : Image of (X, Y, Z) uint16
        On the grid of `labels`: the number of the component that a lesion voxel belongs to, the nearest one.
    table : DataFrame
        One row per component: ``index``, ``name``, ``mean_probability`` (over its voxels of 1 mm, of whole lesion, the
        higher of both networks'; their thresholds are 0.5), ``confidence``, ``detected_by`` and ``certainty``.
    """
    wholes = {name: whole_lesion(image.data) for name, image in networks.items() if image is not None}
    found, count = label_components(whole_lesion(fused.data) >= 0.5)
    numbers = np.arange(1, count + 1)
    table = pd.DataFrame({"index": numbers, "name": [f"P{n:03d}" for n in numbers]})
    if not wholes:
        table = table.assign(mean_probability=np.nan, confidence=np.nan, detected_by="propagation", certainty=None)
        return _nearest_component(labels, Image(found, fused.affine)), table
    highest: np.ndarray = np.maximum.reduce(list(wholes.values()))
    detected = {name: np.isin(numbers, found[whole >= 0.5]) for name, whole in wholes.items()}
    networks_of = [[name for name in detected if detected[name][number - 1]] for number in numbers]
    detected_by = ["both" if len(names) > 1 else [*names, "sensitive"][0] for names in networks_of]
    decides, looked_again = wholes.get("detection", highest), np.zeros(count, bool)
    if fine is not None:
        looked = whole_lesion(fine.data)
        looked_again = np.isin(numbers, found[looked >= 0.5]) & (np.array(detected_by, str) == "sensitive")
        alone = np.isin(found, numbers[looked_again])
        decides, highest = (np.where(alone, looked, whole) for whole in (decides, highest))
    mean: Any = ndimage.mean(highest, found, numbers) if count else []
    table["mean_probability"] = np.asarray(mean, float)
    table["confidence"] = np.nan
    if calibration:
        if at_prior is not None:
            decides = np.where(_touched(found, at_prior), highest, decides)
        table["confidence"] = calibrate(mean_probabilities(decides, found, count), calibration)
    table["detected_by"] = pd.Series(detected_by, dtype="str")
    limit = ["all" if len(names) == len(wholes) else one for names, one in zip(networks_of, detected_by, strict=True)]
    certain = table["mean_probability"] >= pd.Series(limit, dtype="str").map(dict(limits)).astype(float)
    if calibration:
        # Re-segmentation sees the same image and knows more: what it misses seldom is a lesion.
        missed = np.array(["resegmentation" in wholes and "resegmentation" not in names for names in networks_of], bool)
        certain = (certain | ~missed) & (table["confidence"] >= limits["confirmed"])
    certain &= ~looked_again
    table["certainty"] = certain.map({True: "confirmed", False: "candidate"}).astype("str")
    return _nearest_component(labels, Image(found, fused.affine)), table


def remove_candidates(labels: Image, components: Image, table: pd.DataFrame) -> Image:
    """Return labels without the candidates; edema stays.

    Parameters
    ----------
    labels, components : Image of (X, Y, Z) int
        0 to 3; the component that each lesion voxel belongs to.
    table : DataFrame
        ``index`` and ``certainty`` of each component, from `gather_evidence`.
    """
    candidates = table.loc[table["certainty"] == "candidate", "index"]
    lesion = np.isin(labels.data, (ENHANCING, NECROSIS))
    return labels.like(np.where(lesion & np.isin(components.data, candidates), 0, labels.data))


def manual_evidence(labels: Image) -> tuple[Image, pd.DataFrame]:
    """Return what `gather_evidence` does, for a provided segmentation: one component, confirmed."""
    components = np.isin(labels.data, (ENHANCING, NECROSIS)).astype(np.uint16)
    unknown = {"mean_probability": np.nan, "confidence": np.nan}
    row = {"index": 1, "name": "P001", **unknown, "detected_by": "manual", "certainty": "confirmed"}
    return Image(components, labels.affine), pd.DataFrame([row])


def _nearest_component(labels: Image, components: Image) -> Image:
    """Give each lesion voxel of a grid the number of the component nearest to it, mm."""
    out = np.zeros(labels.data.shape, np.uint16)
    here = np.argwhere(np.isin(labels.data, (ENHANCING, NECROSIS)))
    points = here @ labels.affine[:3, :3].T + labels.affine[:3, 3]
    out[tuple(here.T)] = nearest_labels(points, components.data, affine=components.affine)[0]
    return Image(out, labels.affine)


def _rescue(labels: np.ndarray, data: np.ndarray, to_grid: np.ndarray) -> np.ndarray:
    """Give every lesion without a voxel on the grid the voxel its peak lies in."""
    whole = whole_lesion(data)
    lesions, _ = label_components(whole >= 0.5)
    for number, box in enumerate(ndimage.find_objects(lesions), start=1):
        index = np.argwhere(lesions[box] == number) + [s.start for s in box]
        there = np.rint(index @ to_grid[:3, :3].T + to_grid[:3, 3]).astype(int)
        inside = ((there >= 0) & (there < labels.shape)).all(1)
        found = labels[tuple(there[inside].T)]
        if not inside.any() or np.isin(found, (ENHANCING, NECROSIS)).any():
            continue
        (peak,) = find_peak(whole[tuple(index.T)], among=inside)
        p = data[tuple(index[peak])]
        labels[tuple(there[peak])] = ENHANCING if p[ENHANCING] >= p[NECROSIS] else NECROSIS
    return labels


def _sample(data: np.ndarray, affine: np.ndarray, grid: Grid, box: tuple[slice, ...]) -> np.ndarray:
    """Linear samples of all classes in a box of a grid, averaged over voxels thicker than the data's."""
    matrix = np.linalg.inv(affine) @ grid.affine
    factors = np.maximum(np.rint(np.linalg.norm(matrix[:3, :3], axis=0)).astype(int), 1)
    start = np.array([s.start for s in box])
    shape = np.array([s.stop - s.start for s in box])
    # Voxel i of the box holds fine voxels i * f to i * f + f - 1, their centres spread evenly around its own.
    fine = matrix[:3, :3] / factors
    offset = matrix[:3, :3] @ (start + (1 / factors - 1) / 2) + matrix[:3, 3]
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape * factors])).reshape(3, -1)
    reached = fine @ corners + offset[:, None]
    low = np.clip(np.floor(reached.min(1)).astype(int) - 1, 0, np.array(data.shape[:3]) - 1)
    high = np.clip(np.ceil(reached.max(1)).astype(int) + 2, low + 1, data.shape[:3])
    part = data[tuple(slice(a, b) for a, b in zip(low, high))]
    out = np.zeros((*shape, len(TISSUE_LABELS)), np.float32)
    for label in TISSUE_LABELS[1:]:
        sampled = ndimage.affine_transform(
            np.asarray(part[..., label], np.float32), fine, offset - low, output_shape=tuple(shape * factors),
            order=1, mode="constant", cval=0.0,
        )  # fmt: skip
        blocks = sampled.reshape(shape[0], factors[0], shape[1], factors[1], shape[2], factors[2])
        out[..., label] = blocks.mean((1, 3, 5))
    out[..., 0] = 1 - out.sum(-1)
    return out


def _box_on_grid(box: tuple[slice, ...], to_grid: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...] | None:
    """Return the box of a grid that covers a box of the probabilities; None outside the field of view."""
    corners = np.array(np.meshgrid(*[(s.start - 1, s.stop) for s in box])).reshape(3, -1)
    reached = to_grid[:3, :3] @ corners + to_grid[:3, 3:]
    low = np.maximum(np.floor(reached.min(1)).astype(int), 0)
    high = np.minimum(np.ceil(reached.max(1)).astype(int) + 1, shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high)) if (high > low).all() else None


def _merge(boxes: Iterable[tuple[slice, ...] | None]) -> list[tuple[slice, ...]]:
    """Return boxes that lie within no other one."""
    largest_first = sorted((b for b in boxes if b is not None), key=lambda b: -math.prod(s.stop - s.start for s in b))
    kept: list[tuple[slice, ...]] = []
    for box in largest_first:
        if not any(all(k.start <= s.start and s.stop <= k.stop for k, s in zip(other, box)) for other in kept):
            kept.append(box)
    return kept


def _touched(components: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Return the voxels of all components that have a voxel in the region."""
    numbers = np.unique(components[region])
    return np.isin(components, numbers[numbers > 0])


def _grow_distance(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    distance: np.ndarray = ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
    return distance


def _without_classes(image: Image) -> Image:
    return image if image.data.ndim == 3 else Image(image.data[..., 0], image.affine, image.path)


def _require_classes(image: Image) -> None:
    if image.data.ndim != 4 or image.data.shape[3] != len(TISSUE_LABELS):
        raise InputError(
            image.path or "class probabilities",
            found=f"an array of shape {image.data.shape}",
            expected="(X, Y, Z, 5): background, enhancing, edema, necrosis, cavity",
            advice="Write them with images.write_probabilities.",
            reason=Reason.BAD_PROBABILITIES,
        )
