"""How good a segmentation is, counted as the papers of the field count it.

Masks are boolean arrays on one voxel grid; lesions are their connected components (26 neighbours unless said
otherwise). Where a score has no meaning it is NaN, and what that means for a mean is the caller's to decide.

Sources: Andrearczyk et al., Sci Rep 2024 (DSC, nDSC, F1, TPR, FDR); Raina et al., arXiv 2302.05432 (nDSC); Moawad et
al., BraTS-METS 2023 (lesion-wise DSC and HD95); Grøvik et al., J Magn Reson Imaging 2020 (AUC, Youden, groups);
Kirillov et al., CVPR 2019 (panoptic quality).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
import surface_distance
from scipy import ndimage, stats
from sklearn.metrics import roc_auc_score, roc_curve

from mettrail.errors import GridMismatchError, InputError

# Mean share of a scan that is lesion, in Raina et al.'s reference code.
MEAN_FRACTION = 0.001
MIN_IOU = 0.25
# BraTS-METS: one dilation, lesions up to 2 mm3 are left out, a lesion missed or made up is so far away.
BRATS_MIN_MM3, BRATS_FAR_MM = 2.0, 374.0
BRATS_DILATION = ndimage.generate_binary_structure(3, 2)
PANOPTIC_MIN_IOU = 0.5
LESION_GROUPS = ("1-3", "4-10", ">10")


@dataclass(frozen=True)
class Voxels:
    """Voxels in both masks, in the prediction alone, in the truth alone."""

    both: int
    predicted: int
    missed: int

    @classmethod
    def of(cls, prediction: np.ndarray, truth: np.ndarray) -> Voxels:
        """Count; the masks must have one shape."""
        prediction, truth = _masks(prediction, truth)
        return cls(int((prediction & truth).sum()), int((prediction & ~truth).sum()), int((truth & ~prediction).sum()))

    @property
    def empty(self) -> bool:
        """Whether both masks are: a perfect score that says little, to be left out of means."""
        return self.both == self.predicted == self.missed == 0

    @property
    def dice(self) -> float:
        """Dice similarity coefficient; 1 where both are empty."""
        return 1.0 if self.empty else 2 * self.both / (2 * self.both + self.predicted + self.missed)

    @property
    def iou(self) -> float:
        """Intersection over union; 1 where both are empty."""
        return 1.0 if self.empty else self.both / (self.both + self.predicted + self.missed)

    def normalised_dice(self, *, domain: int, mean_fraction: float = MEAN_FRACTION) -> float:
        """Dice freed of its preference for large lesions (nDSC).

        Parameters
        ----------
        domain : int
            Voxels that could be lesion: those of the brain mask. The result depends on it.
        mean_fraction : float
            Mean share of lesion in the training set.
        """
        if self.empty:
            return 1.0
        truth = self.both + self.missed
        kappa = truth / (domain - truth) * (1 / mean_fraction - 1) if truth else 1.0
        return 2 * self.both / (kappa * self.predicted + 2 * self.both + self.missed)


@dataclass(frozen=True)
class Lesions:
    """Lesions found, made up and missed, among so many true and predicted ones."""

    found: int
    false: int
    missed: int
    n_truth: int
    n_predicted: int

    @property
    def f1(self) -> float:
        """F1 score; 1 without any lesion."""
        total = 2 * self.found + self.false + self.missed
        return 2 * self.found / total if total else 1.0

    @property
    def tpr(self) -> float:
        """True positive rate: true lesions not missed. Several predicted ones may hit one true lesion."""
        return (self.n_truth - self.missed) / self.n_truth if self.n_truth else math.nan

    @property
    def precision(self) -> float:
        """Predicted lesions that are true."""
        return 1 - self.fdr

    @property
    def fdr(self) -> float:
        """False discovery rate: predicted lesions that are false."""
        return self.false / self.n_predicted if self.n_predicted else math.nan


def count_lesions(
    prediction: np.ndarray,
    truth: np.ndarray,
    *,
    min_iou: float = MIN_IOU,
    inclusive: bool = False,
    connectivity: int = 26,
) -> Lesions:
    """Count lesions by how much they overlap.

    A predicted lesion is found if it overlaps one true lesion by more than `min_iou`, else it is false; a true lesion
    that no predicted one overlaps so is missed.

    Parameters
    ----------
    prediction, truth : (X, Y, Z) bool
    min_iou : float
        Intersection over union of two lesions.
    inclusive : bool
        Whether exactly `min_iou` is enough. The paper says more, its reference code at least.
    connectivity : {6, 18, 26}
    """
    prediction, truth = _masks(prediction, truth)
    predicted, true = (cc3d.connected_components(m, connectivity=connectivity) for m in (prediction, truth))
    iou = _iou_of_pairs(predicted, true)
    hit = iou >= min_iou if inclusive else iou > min_iou
    found, missed = int(hit.any(1).sum()), int((~hit.any(0)).sum())
    return Lesions(found, len(iou) - found, missed, iou.shape[1], len(iou))


def _iou_of_pairs(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Intersection over union of every predicted with every true component, (n_predicted, n_true)."""
    shape = int(predicted.max(initial=0)) + 1, int(true.max(initial=0)) + 1
    pairs = np.bincount(predicted.ravel().astype(np.int64) * shape[1] + true.ravel(), minlength=shape[0] * shape[1])
    common = pairs.reshape(shape).astype(float)
    sizes = common.sum(1)[1:, None] + common.sum(0)[None, 1:]
    return common[1:, 1:] / (sizes - common[1:, 1:])


def hausdorff95(prediction: np.ndarray, truth: np.ndarray, *, spacing_mm: Sequence[float]) -> float:
    """Return the larger of the two directed 95th percentiles of surface distance, by area; infinite if one is empty.

    Returns
    -------
    float
        mm; 0 where both are empty.
    """
    prediction, truth = _masks(prediction, truth)
    if not prediction.any() or not truth.any():
        return 0.0 if prediction.any() == truth.any() else math.inf
    box = ndimage.find_objects((prediction | truth).astype(np.uint8))[0]
    distances = surface_distance.compute_surface_distances(truth[box], prediction[box], spacing_mm)
    return float(surface_distance.compute_robust_hausdorff(distances, 95))


@dataclass(frozen=True)
class Lesionwise:
    """BraTS-METS scores of one tissue in one scan."""

    dice: float
    hd95_mm: float
    found: int
    false: int
    missed: int


def score_lesionwise(prediction: np.ndarray, truth: np.ndarray, *, affine: np.ndarray) -> Lesionwise:
    """Score lesion by lesion, as BraTS-METS 2023 does.

    True components that one dilation (18 neighbours) joins are one lesion. A lesion is compared with all predicted
    components that touch its dilation; what touches none is false. True lesions of at most 2 mm3 do not count.

    Parameters
    ----------
    prediction, truth : (X, Y, Z) bool
    affine : (4, 4) float
    """
    prediction, truth = _masks(prediction, truth)
    spacing = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
    voxel_mm3 = abs(np.linalg.det(np.asarray(affine)[:3, :3]))
    grown = ndimage.binary_dilation(truth, BRATS_DILATION)
    groups = np.where(truth, cc3d.connected_components(grown, connectivity=26), 0)
    predicted = cc3d.connected_components(prediction, connectivity=26)
    touched: set[int] = set()
    dices, distances, found, missed = [], [], 0, 0
    for number in np.unique(groups[groups > 0]):
        lesion = groups == number
        near = np.unique(predicted[ndimage.binary_dilation(lesion, BRATS_DILATION)])
        near = near[near > 0]
        touched |= set(near.tolist())
        if lesion.sum() * voxel_mm3 <= BRATS_MIN_MM3:
            continue
        match = np.isin(predicted, near) & (predicted > 0)
        found, missed = found + bool(len(near)), missed + (not len(near))
        dices.append(Voxels.of(match, lesion).dice)
        distance = hausdorff95(match, lesion, spacing_mm=spacing)
        distances.append(BRATS_FAR_MM if math.isinf(distance) else distance)
    false = int(predicted.max(initial=0)) - len(touched)
    n = len(dices) + false
    if not n:
        return Lesionwise(1.0, 0.0, 0, 0, 0)
    return Lesionwise(sum(dices) / n, (sum(distances) + BRATS_FAR_MM * false) / n, found, false, missed)


def panoptic_quality(prediction: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Return panoptic, recognition and segmentation quality of lesions matched one to one at an IoU of 0.5.

    Returns
    -------
    pq, rq, sq : float
        NaN without any lesion.
    """
    prediction, truth = _masks(prediction, truth)
    predicted, true = (cc3d.connected_components(m, connectivity=26) for m in (prediction, truth))
    iou = _iou_of_pairs(predicted, true)
    if not sum(iou.shape):
        return math.nan, math.nan, math.nan
    pairs = sorted(((iou[i, j], i, j) for i, j in np.argwhere(iou >= PANOPTIC_MIN_IOU)), reverse=True)
    rows, columns, kept = set(), set(), []
    for value, i, j in pairs:
        if i not in rows and j not in columns:
            rows.add(i)
            columns.add(j)
            kept.append(value)
    recognition = 2 * len(kept) / sum(iou.shape)
    quality = float(np.mean(kept)) if kept else 0.0
    return recognition * quality, recognition, quality


def count_false(prediction: np.ndarray, truth: np.ndarray, *, affine: np.ndarray, min_mm3: float = 0.0) -> int:
    """Count predicted lesions that share no voxel with a true one and have at least so many mm3."""
    prediction, truth = _masks(prediction, truth)
    predicted = cc3d.connected_components(prediction, connectivity=26)
    volume = np.bincount(predicted.ravel()) * abs(np.linalg.det(np.asarray(affine)[:3, :3]))
    hit = set(np.unique(predicted[truth]).tolist())
    return sum(volume[n] >= min_mm3 and n not in hit for n in range(1, len(volume)))


def choose_threshold(probability: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Find the area under the ROC curve and the threshold where sensitivity and specificity together are highest.

    To be called on training or validation data, with the voxels of the brain mask.

    Parameters
    ----------
    probability, truth : (n,) float, (n,) bool

    Returns
    -------
    auc, threshold : float
        Youden's threshold, of equally good ones the highest. NaN without positives or without negatives.
    """
    probability, truth = np.asarray(probability, float).ravel(), np.asarray(truth, bool).ravel()
    if truth.all() or not truth.any():
        return math.nan, math.nan
    false_rate, true_rate, thresholds = roc_curve(truth, probability, drop_intermediate=False)
    best = int(np.argmax(np.round(true_rate - false_rate, 12)))
    return float(roc_auc_score(truth, probability)), float(thresholds[best])


# --- Comparing methods and groups ----------------------------------------------------------------------------------


def is_better(new: Mapping[str, Sequence[float]], old: Mapping[str, Sequence[float]]) -> tuple[float, float]:
    """Test whether a method is better than another: paired one-tailed t-test over patients (Andrearczyk et al. 2024).

    Parameters
    ----------
    new, old : mapping of patient to scores
        One score per scan; a patient's scans are not independent, so their mean counts. NaN are left out in both.

    Returns
    -------
    t, p : float
        NaN for fewer than two patients or differences that are all the same.
    """
    if set(new) != set(old):
        raise InputError(
            "scores of two methods",
            found=f"patients of one alone: {', '.join(sorted(set(new) ^ set(old)))}",
            expected="the same patients",
            advice="Score both methods on the same scans.",
            reason="patients_differ",
        )
    pairs = [(np.nanmean(new[who]), np.nanmean(old[who])) for who in new if not _all_nan(new[who], old[who])]
    a, b = np.array(pairs, float).reshape(-1, 2).T
    if len(a) < 2 or np.ptp(a - b) < 1e-12:
        return math.nan, math.nan
    result = stats.ttest_rel(a, b, alternative="greater")
    return float(result.statistic), float(result.pvalue)


def _all_nan(*scores):
    return any(not len(values) or np.isnan(np.asarray(values, float)).all() for values in scores)


def compare_groups(scores: Mapping[str, Sequence[float]]) -> dict[tuple[str, str], float]:
    """Compare groups of scans two by two: rank-sum test (normal approximation, two-sided), Holm's correction.

    Parameters
    ----------
    scores : mapping of group to scores
        E.g. by number of lesions (`LESION_GROUPS`).

    Returns
    -------
    dict
        Corrected p of each pair of groups; NaN where one is empty.
    """
    names = list(scores)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    raw = {
        (a, b): float(stats.ranksums(scores[a], scores[b]).pvalue) if len(scores[a]) and len(scores[b]) else math.nan
        for a, b in pairs
    }
    known = sorted((pair for pair in pairs if not math.isnan(raw[pair])), key=raw.get)
    corrected, least = dict(raw), 0.0
    for rank, pair in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * raw[pair]))
        corrected[pair] = least
    return corrected


def size_effect(volume_mm3: Sequence[float], score: Sequence[float]) -> tuple[float, float]:
    """Correlate the size of lesions with how well they are segmented (Spearman); missed ones have score 0.

    Returns
    -------
    rho, p : float
        NaN for fewer than three lesions.
    """
    if len(volume_mm3) < 3:
        return math.nan, math.nan
    result = stats.spearmanr(volume_mm3, score)
    return float(result.statistic), float(result.pvalue)


def _masks(prediction, truth):
    prediction, truth = np.asarray(prediction, bool), np.asarray(truth, bool)
    if prediction.shape != truth.shape:
        raise GridMismatchError(
            "prediction and truth",
            found=f"{prediction.shape} and {truth.shape} voxels",
            expected="one voxel grid",
            advice="Bring the prediction onto the grid of the labels.",
            reason="grid_mismatch",
        )
    return prediction, truth
