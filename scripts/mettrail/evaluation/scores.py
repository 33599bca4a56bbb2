"""Every score of a label map, one scan at a time: the columns of ``evaluation_scans`` and ``evaluation_lesions``.

To add a metric: compute it from masks in `metrics`, give it a line in `SCORES`, and describe a column of the same name
in `mettrail.schema.evaluation`. Means, tests between methods and the written tables follow from the line; the page
shows what `page` names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from mettrail import images
from mettrail.evaluation import metrics
from mettrail.evaluation.inputs import TISSUES, WHOLE, LabelledSession
from mettrail.evaluation.metrics import Rules
from mettrail.geometry import bounding_box, sphere_diameter_mm
from mettrail.images import Box, Grid, Image

FALSE_MIN_MM3 = 10.0
BANDS_MM = {"<3 mm": 0.0, "3-5 mm": 3.0, "5-10 mm": 5.0, ">10 mm": 10.0}


@dataclass(frozen=True)
class MaskPair:
    """One tissue of a scan, predicted and true. What several scores need is computed once.

    Parameters
    ----------
    predicted, true : (X, Y, Z) bool
        Cropped to where the scan has any label.
    grid : Grid
        Of the whole scan.
    domain : int
        Voxels that could be lesion.
    rules : Rules
    changes : Changes or None
        Since the prior session; of whole lesions only, and where the prior session's labels are given.
    """

    predicted: np.ndarray
    true: np.ndarray
    grid: Grid
    domain: int
    rules: Rules
    changes: metrics.Changes | None = None

    @cached_property
    def voxels(self) -> metrics.Voxels:
        """Voxels in common."""
        return metrics.Voxels.of(self.predicted, self.true)

    @cached_property
    def lesions(self) -> metrics.Lesions:
        """Lesions (26-connected) that share a voxel."""
        return metrics.Lesions.of(self.predicted, self.true)

    @cached_property
    def overlapping(self) -> metrics.Counts:
        """Lesions that overlap enough for F1, TPR and FDR."""
        lesions = metrics.Lesions.of(self.predicted, self.true, connectivity=self.rules.f1_connectivity)
        return lesions.count(inclusive=self.rules.f1_inclusive)

    @cached_property
    def panoptic(self) -> tuple[float, float, float]:
        """Panoptic, recognition and segmentation quality."""
        return self.lesions.panoptic_quality()

    @cached_property
    def brats_2023(self) -> metrics.Lesionwise:
        """Lesion-wise scores of BraTS-METS 2023."""
        return metrics.score_lesionwise(self.predicted, self.true, affine=self.grid.affine)

    @cached_property
    def brats_2026(self) -> metrics.Lesionwise2026:
        """Lesion-wise scores of BraTS-METS since 2026."""
        return metrics.score_lesionwise_2026(self.predicted, self.true, affine=self.grid.affine, rules=self.rules)

    def hausdorff95(self) -> float:
        """95th percentile of surface distance, mm; as far as BraTS says where one mask alone is empty."""
        distance = metrics.hausdorff95(self.predicted, self.true, spacing_mm=self.grid.spacing_mm)
        return metrics.BRATS_FAR_MM if math.isinf(distance) else distance

    def sensitivity(self) -> float | None:
        """Share of true lesions that a predicted one touches; None without true lesions."""
        found = self.lesions.found
        return float(found.mean()) if found.size else None

    def dice_found(self) -> float | None:
        """Mean Dice of the true lesions found; None without any."""
        dices = [lesion.dice for lesion in self.lesions.compare_each() if lesion.both]
        return float(np.mean(dices)) if dices else None

    def count_false(self, *, min_mm3: float = 0) -> int:
        """Count predicted lesions of at least `min_mm3` that touch no true one."""
        return self.lesions.count_false(min_voxels=min_mm3 / self.grid.voxel_volume_mm3)


@dataclass(frozen=True)
class Score:
    """A score of one tissue in one scan.

    Parameters
    ----------
    name : str
        Its column.
    better : str
        ``higher`` or ``lower``: which way one-tailed tests look.
    of : function of MaskPair
        None or NaN where it has no meaning.
    always : bool
        Whether it means something in a scan where prediction and labels are both empty.
    by_number : bool
        Whether scans with few and with many lesions are compared, as Grøvik et al. do.
    """

    name: str
    better: Literal["higher", "lower"]
    of: Callable[[MaskPair], float | None]
    always: bool = False
    by_number: bool = False


SCORES = (
    Score("dsc", "higher", lambda pair: pair.voxels.dice, by_number=True),
    Score("ndsc", "higher", lambda pair: pair.voxels.normalised_dice(domain=pair.domain)),
    Score("voxel_recall", "higher", lambda pair: pair.voxels.recall, by_number=True),
    Score("voxel_precision", "higher", lambda pair: pair.voxels.precision, by_number=True),
    Score("f1", "higher", lambda pair: pair.overlapping.f1),
    Score("tpr", "higher", lambda pair: pair.overlapping.tpr),
    Score("sensitivity", "higher", MaskPair.sensitivity, by_number=True),
    Score("dsc_found", "higher", MaskPair.dice_found),
    Score("lesionwise_dsc", "higher", lambda pair: pair.brats_2023.dice),
    Score("lesionwise_dsc_2026", "higher", lambda pair: pair.brats_2026.dice),
    Score("lesionwise_nsd_2026", "higher", lambda pair: pair.brats_2026.nsd),
    Score("small_f1_2026", "higher", lambda pair: pair.brats_2026.small_f1),
    Score("pq", "higher", lambda pair: pair.panoptic[0]),
    Score("rq", "higher", lambda pair: pair.panoptic[1]),
    Score("sq", "higher", lambda pair: pair.panoptic[2]),
    Score("hd95_mm", "lower", MaskPair.hausdorff95),
    Score("fdr", "lower", lambda pair: pair.overlapping.fdr),
    Score("lesionwise_hd95_mm", "lower", lambda pair: pair.brats_2023.hd95_mm),
    Score("n_false", "lower", MaskPair.count_false, always=True, by_number=True),
    Score("n_false_10mm3", "lower", lambda pair: pair.count_false(min_mm3=FALSE_MIN_MM3), always=True, by_number=True),
    Score("n_false_vanished", "lower", lambda pair: pair.changes.false if pair.changes else None, always=True),
)


def score_scan(prediction: Image, session: LabelledSession, rules: Rules = metrics.RULES) -> list[dict[str, Any]]:
    """Score one scan: a row of the table ``evaluation_scans`` per tissue, but for who and what was scored.

    Raises
    ------
    GridMismatchError
        Prediction and labels are not on one grid.
    """
    images.require_same_grid(session.truth, prediction)
    changes = None
    if session.prior is not None:
        changes = metrics.count_changes(np.isin(prediction.data, WHOLE), session.lesions, session.prior)
    # Lesions fill a small part of a scan: all but the domain of nDSC is seen there.
    box = _box_of((session.truth.data > 0) | (prediction.data > 0))
    rows = []
    for tissue, labels in TISSUES.items():
        predicted, true = (np.isin(image.data[box], labels) for image in (prediction, session.truth))
        since = changes if tissue == "whole" else None
        pair = MaskPair(predicted, true, session.truth.grid, session.domain, rules, since)
        rows.append({"tissue": tissue} | _count(pair) | {score.name: score.of(pair) for score in SCORES})
    return rows


def _count(pair: MaskPair) -> dict[str, Any]:
    """Columns of a scan that say what there is, and are no score."""
    return {
        "empty": pair.voxels.empty,
        "truth_mm3": pair.true.sum() * pair.grid.voxel_volume_mm3,
        "predicted_mm3": pair.predicted.sum() * pair.grid.voxel_volume_mm3,
        "n_truth": len(pair.lesions.found),
        "n_predicted": len(pair.lesions.false),
        "n_found": int(pair.lesions.found.sum()),
        "n_new": pair.changes.new if pair.changes else None,
        "n_vanished": pair.changes.vanished if pair.changes else None,
        "n_vanished_left": pair.changes.left if pair.changes else None,
    }


def _box_of(mask: np.ndarray) -> Box:
    """Return the smallest box that holds a mask; one voxel where it is empty."""
    return bounding_box(mask) if mask.any() else (slice(0, 1),) * 3


def score_lesions(prediction: Image, session: LabelledSession) -> list[dict[str, Any]]:
    """Score each true whole lesion: a row of the table ``evaluation_lesions``, but for whose it is."""
    lesions = metrics.Lesions.of(np.isin(prediction.data, WHOLE), session.lesions)
    new: list[bool | None] = [None] * len(lesions.found)
    if session.prior is not None:
        new = (~metrics.Lesions.of(session.prior, session.lesions).found).tolist()
    rows = []
    for number, voxels in enumerate(lesions.compare_each()):
        volume = float(lesions.true_voxels[number] * session.truth.voxel_volume_mm3)
        diameter = sphere_diameter_mm(volume)
        rows.append(
            {
                "lesion": number + 1,
                "new": new[number],
                "volume_mm3": volume,
                "diameter_mm": diameter,
                "diameter_group": [band for band, least in BANDS_MM.items() if diameter >= least][-1],
                "found": voxels.both > 0,
                "dsc": voxels.dice,
                "ndsc": voxels.normalised_dice(domain=session.domain),
            }
        )
    return rows
