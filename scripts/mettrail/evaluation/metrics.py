"""How good a segmentation is, counted as the papers of the field count it.

Masks are boolean arrays on one voxel grid; lesions are their connected components (26 neighbours unless said
otherwise). A score without meaning is NaN; the caller decides what that is for a mean.

Sources: Andrearczyk et al., Sci Rep 2024 (DSC, nDSC, F1, TPR, FDR); Raina et al., arXiv 2302.05432 (nDSC); Moawad et
al., BraTS-METS 2023 (lesion-wise DSC and HD95); the challenge's package brats-evaluation 0.0.10 on panoptica 2.1.7
(its metric since 2026); Grøvik et al., J Magn Reson Imaging 2020 (AUC, Youden, groups); Kirillov et al., CVPR 2019
(panoptic quality); Bunch et al., Proc SPIE 127, 1977 (free-response ROC); Setio et al., Med Image Anal 2017 (its mean
over 1/8 to 8 false lesions per scan, LUNA16).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import surface_distance
from numpy.typing import ArrayLike
from scipy import ndimage, stats
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import auc, roc_curve

from mettrail.errors import GridMismatchError, InputError
from mettrail.geometry import NEIGHBOURS, bounding_box, find_surface, label_components
from mettrail.images import Grid
from mettrail.reasons import Reason

# How many neighbours of a voxel are connected to it.
Connectivity = Literal[6, 18, 26]
# Mean share of a scan that is lesion, in Raina et al.'s reference code.
MEAN_FRACTION = 0.001
MIN_IOU = 0.25
# BraTS-METS: one dilation, lesions up to 2 mm3 are excluded, a false positive or missed lesion is so far away.
BRATS_MIN_MM3, BRATS_FAR_MM = 2.0, 374.0
BRATS_DILATION = NEIGHBOURS[18]
PANOPTIC_MIN_IOU = 0.5
LESION_GROUPS = ("1-3", "4-10", ">10")
# Hundredths, and finer where networks are almost certain.
FROC_THRESHOLDS = (1.0, 0.999, 0.998, 0.995, *(n / 100 for n in range(99, 0, -1)), 0.005, 0.002, 0.001)
FROC_RATES = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)


@dataclass(frozen=True)
class Rules:
    """What papers and their code, or a challenge and its package, do in more than one way.

    Parameters
    ----------
    f1_connectivity : int
        6, 18 or 26 neighbours make the lesions of F1, TPR and FDR. The code of the Shifts challenge has 6.
    f1_inclusive : bool
        Whether an IoU of exactly `MIN_IOU` is enough for them, as in that code; the paper says more.
    brats_large_mm3 : float
        From which volume on BraTS-METS 2026 scores the outline of a true lesion; smaller ones are only to be found.
        The challenge names 27; its package has 20 where nothing is given.
    brats_min_dice : float
        From which Dice on a lesion counts as found there. Participants give 0.2 to the package, which has 0.1 where
        nothing is given.
    froc_min_mm3 : float
        Least volume of a lesion in free-response curves.
    """

    f1_connectivity: Connectivity = 26
    f1_inclusive: bool = False
    brats_large_mm3: float = 27.0
    brats_min_dice: float = 0.2
    froc_min_mm3: float = 0.0

    def __post_init__(self) -> None:
        expected = {
            "f1_connectivity": ("6, 18 or 26", self.f1_connectivity in (6, 18, 26)),
            "brats_large_mm3": ("a volume", 0 <= self.brats_large_mm3 < math.inf),
            "brats_min_dice": ("a Dice from 0 to 1", 0 <= self.brats_min_dice <= 1),
            "froc_min_mm3": ("a volume", 0 <= self.froc_min_mm3 < math.inf),
        }
        for name, (what, fits) in expected.items():
            if not fits:
                option = f"--{name.replace('_', '-')}"
                raise InputError(option, found=str(getattr(self, name)), expected=what, advice="Give another number.")


RULES = Rules()


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
        """Whether both masks are: a perfect score that says little, to be excluded from means."""
        return self.both == self.predicted == self.missed == 0

    @property
    def dice(self) -> float:
        """Dice similarity coefficient; 1 where both are empty."""
        return 1.0 if self.empty else 2 * self.both / (2 * self.both + self.predicted + self.missed)

    @property
    def recall(self) -> float:
        """Voxels of the truth that are predicted; NaN without truth."""
        return self.both / (self.both + self.missed) if self.both + self.missed else math.nan

    @property
    def precision(self) -> float:
        """Predicted voxels that are true; NaN without prediction."""
        return self.both / (self.both + self.predicted) if self.both + self.predicted else math.nan

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
class Counts:
    """Lesions found, false positive and missed, among so many true and predicted ones."""

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
    def fdr(self) -> float:
        """False discovery rate: predicted lesions that are false."""
        return self.false / self.n_predicted if self.n_predicted else math.nan


@dataclass(frozen=True)
class Lesions:
    """The lesions of a prediction and of the truth, and how many voxels every two of them share.

    Parameters
    ----------
    predicted, true : (X, Y, Z) unsigned int
        Connected components, numbered from 1.
    common : (n_predicted, n_true) int
        Voxels that a predicted and a true lesion share.
    predicted_voxels, true_voxels : (n_predicted,), (n_true,) int
        Their sizes.
    """

    predicted: np.ndarray
    true: np.ndarray
    common: np.ndarray
    predicted_voxels: np.ndarray
    true_voxels: np.ndarray

    @classmethod
    def of(cls, prediction: np.ndarray, truth: np.ndarray, *, connectivity: Connectivity = 26) -> Lesions:
        """Find the lesions of two (X, Y, Z) bool masks; connectivity is 6, 18 or 26."""
        prediction, truth = _masks(prediction, truth)
        predicted, true = (label_components(mask, connectivity=connectivity)[0] for mask in (prediction, truth))
        shape = int(predicted.max(initial=0)) + 1, int(true.max(initial=0)) + 1
        some = prediction | truth
        pairs = predicted[some].astype(np.int64) * shape[1] + true[some]
        table = np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)
        return cls(predicted, true, table[1:, 1:], table[1:].sum(1), table[:, 1:].sum(0))

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union of every predicted with every true lesion, (n_predicted, n_true)."""
        union: np.ndarray = self.predicted_voxels[:, None] + self.true_voxels - self.common
        return np.asarray(self.common / union)

    @property
    def false(self) -> np.ndarray:
        """Predicted lesions that share no voxel with a true one, (n_predicted,) bool."""
        return np.asarray(~(self.common > 0).any(1))

    @property
    def found(self) -> np.ndarray:
        """True lesions that share a voxel with a predicted one, (n_true,) bool."""
        return np.asarray((self.common > 0).any(0))

    def count(self, *, min_iou: float = MIN_IOU, inclusive: bool = False) -> Counts:
        """Count lesions by how much they overlap.

        A predicted lesion is found if it overlaps one true lesion by more than `min_iou`, else it is false; a true
        lesion that no predicted one overlaps so is missed.

        Parameters
        ----------
        min_iou : float
            Intersection over union of two lesions.
        inclusive : bool
            Whether exactly `min_iou` is enough. The paper says more, its reference code at least.
        """
        hit = self.iou >= min_iou if inclusive else self.iou > min_iou
        found, missed = int(hit.any(1).sum()), int((~hit.any(0)).sum())
        return Counts(found, len(hit) - found, missed, hit.shape[1], len(hit))

    def count_false(self, *, min_voxels: float = 0) -> int:
        """Count predicted lesions that share no voxel with a true one and are at least so large."""
        return int((self.false & (self.predicted_voxels >= min_voxels)).sum())

    def compare_each(self) -> list[Voxels]:
        """Compare each true lesion with all predicted ones that touch it, taken as one."""
        touching = self.common > 0
        both = self.common.sum(0)
        predicted = (touching * self.predicted_voxels[:, None]).sum(0) - both
        return [Voxels(*map(int, row)) for row in zip(both, predicted, self.true_voxels - both, strict=True)]

    def panoptic_quality(self) -> tuple[float, float, float]:
        """Return panoptic, recognition and segmentation quality of lesions matched one to one at an IoU of 0.5.

        Returns
        -------
        pq, rq, sq : float
            NaN without any lesion.
        """
        iou = self.iou
        if not sum(iou.shape):
            return math.nan, math.nan, math.nan
        pairs = sorted(((iou[i, j], i, j) for i, j in np.argwhere(iou >= PANOPTIC_MIN_IOU)), reverse=True)
        rows: set[int] = set()
        columns: set[int] = set()
        kept: list[float] = []
        for value, i, j in pairs:
            if i not in rows and j not in columns:
                rows.add(i)
                columns.add(j)
                kept.append(value)
        recognition = 2 * len(kept) / sum(iou.shape)
        quality = float(np.mean(kept)) if kept else 0.0
        return recognition * quality, recognition, quality


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
    box = bounding_box(prediction | truth)
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
    grid = Grid(truth.shape, np.asarray(affine))
    # Room for one dilation on every side.
    prediction, truth = np.pad(prediction, 1), np.pad(truth, 1)
    grown = ndimage.binary_dilation(truth, BRATS_DILATION)
    groups = np.where(truth, label_components(grown)[0], 0)
    predicted, _ = label_components(prediction)
    places = ndimage.find_objects(predicted)
    touched: set[int] = set()
    dices, distances, found, missed = [], [], 0, 0
    for number, place in enumerate(ndimage.find_objects(groups), start=1):
        around = tuple(slice(s.start - 1, s.stop + 1) for s in place)
        lesion = groups[around] == number
        near = np.unique(predicted[around][ndimage.binary_dilation(lesion, BRATS_DILATION)])
        near = near[near > 0].tolist()
        touched |= set(near)
        if lesion.sum() * grid.voxel_volume_mm3 <= BRATS_MIN_MM3:
            continue
        found, missed = found + bool(near), missed + (not near)
        box = _box_around([place, *(places[n - 1] for n in near)])
        match, lesion = np.isin(predicted[box], near), groups[box] == number
        dices.append(Voxels.of(match, lesion).dice)
        distance = hausdorff95(match, lesion, spacing_mm=grid.spacing_mm)
        distances.append(BRATS_FAR_MM if math.isinf(distance) else distance)
    false = len(places) - len(touched)
    n = len(dices) + false
    if not n:
        return Lesionwise(1.0, 0.0, 0, 0, 0)
    return Lesionwise(sum(dices) / n, (sum(distances) + BRATS_FAR_MM * false) / n, found, false, missed)


def _box_around(boxes: Sequence[tuple[slice, ...]]) -> tuple[slice, ...]:
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))


def normalised_surface_dice(prediction: np.ndarray, truth: np.ndarray, *, spacing_mm: Sequence[float]) -> float:
    """Return the normalised surface Dice (NSD) of panoptica, with the shortest edge of a voxel as tolerance.

    The surface of a mask is its voxels that have one of the 6 neighbours outside. The share of them that is within
    the tolerance of the other surface is taken of either mask; the NSD is the mean of both shares. That of Nikolov et
    al. 2018 goes by area instead, and differs.

    Parameters
    ----------
    prediction, truth : (X, Y, Z) bool
        Neither empty.
    spacing_mm : (3,) float
    """
    surfaces = [find_surface(mask) for mask in _masks(prediction, truth)]
    distances = [ndimage.distance_transform_edt(~surface, sampling=spacing_mm) for surface in surfaces]
    shares = [distances[1][surfaces[0]], distances[0][surfaces[1]]]
    return float(np.mean([(share <= min(spacing_mm)).mean() for share in shares]))


@dataclass(frozen=True)
class Lesionwise2026:
    """BraTS-METS scores of one tissue in one scan, by the rules since 2026; NaN where there is nothing to score.

    Parameters
    ----------
    dice, nsd : float
        Means over large true lesions and all false ones, which score 0 like missed ones; NaN without a large true one.
    small_f1 : float
        F1 of small true lesions, with false ones of all sizes; NaN without a small true one.
    """

    dice: float
    nsd: float
    small_f1: float


def score_lesionwise_2026(
    prediction: np.ndarray, truth: np.ndarray, *, affine: np.ndarray, rules: Rules = RULES
) -> Lesionwise2026:
    """Score lesion by lesion, as BraTS-METS does since 2026.

    Connected components (26 neighbours) are matched one to one so that the sum of their Dice is highest; one voxel in
    common can be enough. Predicted ones without a match are false, whatever their size. Nothing is dilated. A scan
    without a true lesion has no score, however many lesions are predicted in it.

    Parameters
    ----------
    prediction, truth : (X, Y, Z) bool
    affine : (4, 4) float
    rules : Rules
        Which lesions are large, and what is found.
    """
    # An oblique affine has 0.99999997 mm for 1 mm: too little for lesions of exactly 27 mm3 or exactly one voxel off.
    spacing = np.round(Grid(np.shape(truth), np.asarray(affine)).spacing_mm, 4)[::-1].tolist()
    # The package numbers lesions along z, y, x and costs pairs so: of equally good matchings this one is its, too.
    lesions = Lesions.of(*(np.ascontiguousarray(np.transpose(mask)) for mask in (prediction, truth)))
    dice = 2 * lesions.common / (lesions.predicted_voxels[:, None] + lesions.true_voxels)
    cost = np.where(lesions.common > 0, 1 - dice, 1 + 1e-6).T
    matched = (indices.tolist() for indices in linear_sum_assignment(cost))
    pairs = {j: i for j, i in zip(*matched, strict=True) if lesions.common[i, j]}
    false = len(dice) - len(pairs)
    large = lesions.true_voxels * np.prod(spacing) >= rules.brats_large_mm3
    mean_dice = mean_nsd = small_f1 = math.nan
    if large.any():
        outlined = [(pairs[j], j) for j in np.flatnonzero(large).tolist() if j in pairs]
        n = int(large.sum()) + false
        mean_dice = sum(dice[pair] for pair in outlined) / n
        mean_nsd = sum(_nsd_of_pairs(lesions, outlined, spacing)) / n
    if not large.all():
        found = sum(dice[pairs[j], j] >= rules.brats_min_dice for j in np.flatnonzero(~large).tolist() if j in pairs)
        small_f1 = 2 * found / (found + false + int((~large).sum()))
    return Lesionwise2026(float(mean_dice), float(mean_nsd), float(small_f1))


def _nsd_of_pairs(lesions: Lesions, pairs: Iterable[tuple[int, int]], spacing: Sequence[float]) -> Iterator[float]:
    predicted, true = ndimage.find_objects(lesions.predicted), ndimage.find_objects(lesions.true)
    for i, j in pairs:
        box = _box_around([predicted[i], true[j]])
        masks = lesions.predicted[box] == i + 1, lesions.true[box] == j + 1
        yield normalised_surface_dice(*masks, spacing_mm=spacing)


@dataclass(frozen=True)
class Changes:
    """Lesions that appeared or vanished since the prior session, and what a prediction makes of that.

    Parameters
    ----------
    new : int
        True lesions where the prior session has none.
    vanished : int
        Lesions of the prior session where the labels hold nothing.
    left : int
        Of these, those where a false lesion is predicted.
    false : int
        Predicted lesions that touch a vanished lesion and no true one.
    """

    new: int
    vanished: int
    left: int
    false: int


def count_changes(prediction: np.ndarray, truth: np.ndarray, prior: np.ndarray) -> Changes:
    """Count new and vanished lesions, and false positives that are left where a lesion has vanished.

    Copying the prior session's labels finds every lesion that was there before and keeps every vanished one:
    Andrearczyk et al. name these false positives as what rules out registration alone; the count is ours.

    Parameters
    ----------
    prediction, truth, prior : (X, Y, Z) bool
        `prior`: the prior session's lesions in the space of this one.
    """
    lesions, before = Lesions.of(prediction, truth), Lesions.of(prior, truth)
    vanished = before.false
    stale = (Lesions.of(prediction, prior).common > 0)[lesions.false][:, vanished]
    new = ~before.found
    return Changes(int(new.sum()), int(vanished.sum()), int(stale.any(0).sum()), int(stale.any(1).sum()))


@dataclass(frozen=True)
class Roc:
    """Area under the ROC curve, and Youden's threshold with what it gives on the same voxels.

    NaN without positives or without negatives; the threshold and its rates also where none beats chance.
    """

    auc: float
    threshold: float
    sensitivity: float
    specificity: float


def score_roc(probability: np.ndarray, truth: np.ndarray) -> Roc:
    """Compute the ROC curve of voxels, and the threshold where sensitivity and specificity together are highest.

    Of equally good thresholds, the highest. To be called with the voxels of the brain mask. A threshold is of use on
    other scans than it was chosen on.

    Parameters
    ----------
    probability, truth : (n,) float, (n,) bool
    """
    probability, truth = np.asarray(probability, float).ravel(), np.asarray(truth, bool).ravel()
    if truth.all() or not truth.any():
        return Roc(math.nan, math.nan, math.nan, math.nan)
    false_rate, true_rate, thresholds = roc_curve(truth, probability, drop_intermediate=False)
    area, index = float(auc(false_rate, true_rate)), np.round(true_rate - false_rate, 12)
    best = int(np.argmax(index))
    if index[best] <= 0:
        return Roc(area, math.nan, math.nan, math.nan)
    return Roc(area, float(thresholds[best]), float(true_rate[best]), float(1 - false_rate[best]))


@dataclass(frozen=True)
class FreeResponse:
    """True lesions of one scan, and at each of T thresholds those found and the false ones.

    Parameters
    ----------
    n_truth : int
    found, false : (T,) int
    """

    n_truth: int
    found: np.ndarray
    false: np.ndarray


def count_free_response(
    probability: np.ndarray,
    truth: np.ndarray,
    *,
    thresholds: Sequence[float] = FROC_THRESHOLDS,
    min_voxels: float = 0,
) -> FreeResponse:
    """Count what is found and what is false as the threshold falls (Bunch et al. 1977), as `Lesions` does.

    A true lesion is found where it shares a voxel with a connected component (26 neighbours) at or above the
    threshold; a component that shares none is false.

    Parameters
    ----------
    probability, truth : (X, Y, Z) float, (X, Y, Z) bool
    thresholds : (T,) float
        Above 0.
    min_voxels : float
        Smaller true lesions are neither found nor missed, smaller components not false. A component of any size finds
        a lesion, and one that touches a small true lesion is not false.
    """
    prediction, truth = np.asarray(probability), np.asarray(truth, bool)
    lesions = label_components(truth)[0][truth]
    highest = np.zeros(lesions.max(initial=0) + 1, prediction.dtype)
    np.maximum.at(highest, lesions, prediction[truth])
    highest = highest[1:][np.bincount(lesions)[1:] >= min_voxels]
    found = np.array([(highest >= threshold).sum() for threshold in thresholds])
    false = np.zeros(len(thresholds), int)
    rising = np.argsort(thresholds)
    # What is connected above a threshold is so above a lower one: all happens inside the components of the lowest.
    widest, _ = label_components(prediction >= thresholds[rising[0]])
    for number, box in enumerate(ndimage.find_objects(widest), start=1):
        inside, true = np.where(widest[box] == number, prediction[box], 0), truth[box]
        for place in rising:
            above = inside >= thresholds[place]
            if not above.any():
                break
            components, _ = label_components(above)
            voxels = np.bincount(components[above])
            voxels[components[above & true]] = 0
            false[place] += (voxels >= max(min_voxels, 1)).sum()
    return FreeResponse(len(highest), found, false)


def sensitivity_at(
    sensitivity: ArrayLike, false_per_scan: ArrayLike, *, rates: Sequence[float] = FROC_RATES
) -> list[float]:
    """Return the highest sensitivity of a free-response curve at no more than so many false lesions per scan.

    Nothing is interpolated: each value belongs to a threshold. 0 where all have more; NaN without true lesions.

    Parameters
    ----------
    sensitivity, false_per_scan : (T,) float
    rates : sequence of float
        Those of LUNA16 (Setio et al. 2017), which takes the mean over them.
    """
    reached, false = np.asarray(sensitivity, float), np.asarray(false_per_scan, float)
    if np.isnan(reached).any():
        return [math.nan] * len(rates)
    return [float(reached[false <= rate].max(initial=0.0)) for rate in rates]


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
            reason=Reason.PATIENTS_DIFFER,
        )
    pairs = [(np.nanmean(new[who]), np.nanmean(old[who])) for who in new if not _all_nan(new[who], old[who])]
    a, b = np.array(pairs, float).reshape(-1, 2).T
    if len(a) < 2 or np.ptp(a - b) < 1e-12:
        return math.nan, math.nan
    result = stats.ttest_rel(a, b, alternative="greater")
    return float(result.statistic), float(result.pvalue)


def _all_nan(*scores: Sequence[float]) -> bool:
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
    tested = sorted((pair for pair in pairs if not math.isnan(raw[pair])), key=lambda pair: raw[pair])
    corrected, least = dict(raw), 0.0
    for rank, pair in enumerate(tested):
        least = max(least, min(1.0, (len(tested) - rank) * raw[pair]))
        corrected[pair] = least
    return corrected


def size_effect(volume_mm3: ArrayLike, score: ArrayLike) -> tuple[float, float]:
    """Correlate the size of lesions with how well they are segmented (Spearman); missed ones have score 0.

    Returns
    -------
    rho, p : float
        NaN for fewer than three lesions, and where all sizes or all scores are the same.
    """
    volumes, scores = np.asarray(volume_mm3, float), np.asarray(score, float)
    if len(volumes) < 3 or not np.ptp(volumes) or not np.ptp(scores):
        return math.nan, math.nan
    result = stats.spearmanr(volumes, scores)
    return float(result.statistic), float(result.pvalue)


def _masks(prediction: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    prediction, truth = np.asarray(prediction, bool), np.asarray(truth, bool)
    if prediction.shape != truth.shape:
        raise GridMismatchError(
            "prediction and truth",
            found=f"{prediction.shape} and {truth.shape} voxels",
            expected="one voxel grid",
            advice="Bring the prediction onto the grid of the labels.",
            reason=Reason.GRID_MISMATCH,
        )
    return prediction, truth
