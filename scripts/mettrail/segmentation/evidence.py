"""How certain the networks are of each lesion: confirmed, or a candidate.

Where detection's model is calibrated, a connected component is *confirmed* whose ``confidence``, the probability that
it is a lesion, reaches the limit, any other is a *candidate*. What re-segmentation misses on a follow-up must reach the
limit of the mean probability below, too.

Where it is not calibrated, every connected component of lesion voxels has a mean probability and is detected by
``both`` networks, by ``detection`` or by ``resegmentation`` alone. It is *confirmed* if its mean probability reaches
the limit for the networks that detect it. What all networks detect that ran needs little; what detection sees and
re-segmentation does not, much: it seldom is a lesion.

A lesion is confirmed if one of its components is. What only a sensitive reading detects is a candidate
(`fusion.add_candidates`). Provided segmentations are confirmed; propagated lesions have no certainty.

Candidates are not propagated to the next session (`remove_candidates`): re-segmentation would find them for being told
of them, and that is no confirmation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

from mettrail.geometry import label_components, nearest_labels, pick_touched, whole_lesion
from mettrail.images import ENHANCING, NECROSIS, Image
from mettrail.segmentation.thresholds import calibrate, mean_probabilities


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
    """Tell how certain the networks are of each connected component; the rules stand at the top of this file.

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
        Of detection's model; see `thresholds.calibrate`. It is applied to detection's probabilities, of a component
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
            decides = np.where(pick_touched(found, at_prior), highest, decides)
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
