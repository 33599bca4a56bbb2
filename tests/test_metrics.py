"""Scores are those of the papers: every figure here was made with the authors' own code, or by hand."""

import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import write_scan
from mettrail.errors import GridMismatchError, InputError
from mettrail.evaluation import metrics
from mettrail.evaluation.metrics import Lesions, Voxels
from scipy import ndimage
from sklearn.metrics import roc_auc_score, roc_curve
from statsmodels.stats.multitest import multipletests

SHAPE = (40, 40, 20)
MM = np.eye(4)


def blocks(*places):
    """Boolean blocks: (corner, size)."""
    mask = np.zeros(SHAPE, bool)
    for corner, size in places:
        mask[tuple(slice(c, c + s) for c, s in zip(corner, np.broadcast_to(size, 3)))] = True
    return mask


# --- BraTS-METS, against figures of the challenge's own code --------------------------------------------------------

ONE = ((5, 5, 5), 4)
OTHER = ((25, 25, 5), 4)
LESIONWISE = {
    "both empty": ([], [], (0, 0, 0), 1, 0),
    "made up": ([], [ONE], (0, 1, 0), 0, 374),
    "missed": ([ONE], [], (0, 0, 1), 0, 374),
    "one right, one missed, one made up": ([ONE, OTHER], [ONE, ((5, 25, 5), 3)], (1, 1, 1), 0.3333, 249.333),
    "2 mm3 missed": ([ONE, ((25, 25, 5), (2, 1, 1))], [ONE], (1, 0, 0), 1, 0),
    "3 mm3 missed": ([ONE, ((25, 25, 5), (3, 1, 1))], [ONE], (1, 0, 1), 0.5, 187),
    "two with a gap of 1, one found": ([ONE, ((10, 5, 5), 4)], [ONE], (1, 0, 0), 0.6667, 5),
    "two with a gap of 2, one found": ([ONE, ((11, 5, 5), 4)], [ONE], (1, 0, 0), 0.6667, 6),
    "two with a gap of 3, one found": ([ONE, ((12, 5, 5), 4)], [ONE], (1, 0, 1), 0.5, 187),
    "beside it": ([ONE], [((9, 5, 5), 4)], (1, 0, 0), 0, 4),
    "one over two with a gap of 4": ([ONE, ((13, 5, 5), 4)], [((5, 5, 5), (12, 4, 4))], (2, 0, 0), 0.5, 8),
    "identical": ([ONE], [ONE], (1, 0, 0), 1, 0),
}


@pytest.mark.parametrize("name", LESIONWISE)
def test_lesionwise_scores_are_those_of_the_challenge(name):
    truth, prediction, counts, dice, distance = LESIONWISE[name]
    score = metrics.score_lesionwise(blocks(*prediction), blocks(*truth), affine=MM)
    assert (score.found, score.false, score.missed) == counts
    assert score.dice == pytest.approx(dice, abs=1e-4)
    assert score.hd95_mm == pytest.approx(distance, abs=1e-3)


@pytest.mark.parametrize(
    ("truth", "prediction", "dice", "distance"),
    [
        ([], [], 1, 0),
        ([], [ONE], 0, math.inf),
        ([ONE, ((25, 25, 5), (2, 1, 1))], [ONE], 0.9846, None),
        ([ONE, ((25, 25, 5), (3, 1, 1))], [ONE], 0.9771, None),
        ([ONE, ((10, 5, 5), 4)], [ONE], 0.6667, 5),
        ([ONE], [((9, 5, 5), 4)], 0, 4),
        ([ONE, ((13, 5, 5), 4)], [((5, 5, 5), (12, 4, 4))], 0.8, 2),
    ],
)
def test_scores_of_the_whole_scan(truth, prediction, dice, distance):
    prediction, truth = blocks(*prediction), blocks(*truth)
    assert Voxels.of(prediction, truth).dice == pytest.approx(dice, abs=1e-4)
    if distance is not None:
        assert metrics.hausdorff95(prediction, truth, spacing_mm=(1, 1, 1)) == pytest.approx(distance, abs=1e-3)


def test_labels_that_are_swapped_give_a_perfect_score_of_nothing():
    """The trap of BraTS' numbering: where nobody has the label, both masks are empty, and the score says so."""
    tissue = np.where(blocks(ONE), 1, 0)
    voxels = Voxels.of(tissue == 3, tissue == 3)
    assert voxels.dice == 1
    assert voxels.empty


# --- BraTS-METS since 2026, against brats-evaluation 0.0.10 on panoptica 2.1.7 --------------------------------------

SMALL = ((25, 25, 5), 2)
SINCE_2026 = {
    "both empty": ([], [], math.nan, math.nan, math.nan),
    "false": ([], [ONE], math.nan, math.nan, math.nan),
    "large missed": ([ONE], [], 0, 0, math.nan),
    "small missed": ([SMALL], [], math.nan, math.nan, 0),
    "identical": ([ONE], [ONE], 1, 1, math.nan),
    "27 mm3 is large": ([((5, 5, 5), 3)], [((6, 5, 5), 3)], 0.66666667, 1, math.nan),
    "18 mm3 is small": ([((5, 5, 5), (3, 3, 2))], [((6, 5, 5), 3)], math.nan, math.nan, 1),
    "small found, Dice 0.2": ([SMALL], [((26, 26, 6), (2, 1, 1))], math.nan, math.nan, 1),
    "small missed, Dice 0.18, not false": ([SMALL], [((26, 26, 6), (3, 1, 1))], math.nan, math.nan, 0),
    "large found by a voxel": ([ONE], [((8, 8, 8), (3, 1, 1))], 0.02985075, 0.36904762, math.nan),
    "shifted by 2": ([ONE], [((7, 5, 5), 4)], 0.5, 0.71428571, math.nan),
    "beside it": ([ONE], [((9, 5, 5), 4)], 0, 0, math.nan),
    "two with a gap of 1, one found": ([ONE, ((10, 5, 5), 4)], [ONE], 0.5, 0.5, math.nan),
    "one over two": ([ONE, ((13, 5, 5), 4)], [((5, 5, 5), (12, 4, 4))], 0.25, 0.35526316, math.nan),
    "two on one": ([((5, 5, 5), (12, 4, 4))], [ONE, ((13, 5, 5), 4)], 0.25, 0.35526316, math.nan),
    "small found, one false": ([SMALL], [SMALL, ((5, 25, 5), 1)], math.nan, math.nan, 0.66666667),
    "one right, one small missed, one false": ([ONE, SMALL], [ONE, ((5, 25, 5), 1)], 0.5, 0.5, 0),
    "best of all, not best first": (
        [((5, 5, 5), (10, 4, 4)), ((16, 5, 5), 4)],
        [((8, 5, 5), (11, 4, 4)), ((5, 5, 5), (2, 4, 4))],
        0.36666667, 0.67098214, math.nan,
    ),
}  # fmt: skip


def three(score):
    return score.dice, score.nsd, score.small_f1


@pytest.mark.parametrize("name", SINCE_2026)
def test_lesionwise_scores_are_those_of_the_challenge_since_2026(name):
    truth, prediction, *expected = SINCE_2026[name]
    score = metrics.score_lesionwise_2026(blocks(*prediction), blocks(*truth), affine=MM)
    assert three(score) == pytest.approx(expected, abs=1e-7, nan_ok=True)


def test_what_is_large_and_what_is_found_can_be_set():
    truth, prediction = blocks(((5, 5, 5), (3, 3, 2)), SMALL), blocks(((6, 5, 5), 3), ((26, 26, 6), (2, 1, 1)))
    defaults = metrics.score_lesionwise_2026(prediction, truth, affine=MM)
    package = metrics.Rules(brats_large_mm3=18, brats_min_dice=0.21)
    other = metrics.score_lesionwise_2026(prediction, truth, affine=MM, rules=package)
    assert three(defaults) == pytest.approx((math.nan, math.nan, 1), nan_ok=True)
    assert three(other) == (pytest.approx(24 / 45), pytest.approx((1 + 23 / 26) / 2), 0)


def test_turned_voxels_of_a_millimetre_are_scored_as_such():
    """Their edges are 0.99999997 mm or so: a lesion of 27 is large all the same, and one voxel is within a voxel."""
    turned = np.linalg.qr(np.array([[1, 0.2, 0.1], [-0.3, 1, 0.2], [0.1, -0.1, 1]]))[0].astype(np.float32).astype(float)
    assert np.linalg.norm(turned, axis=0).min() < 1 < np.linalg.norm(turned, axis=0).max()
    affine = np.eye(4)
    affine[:3, :3] = turned
    truth, prediction = blocks(((5, 5, 5), 3)), blocks(((6, 5, 5), 3))
    for axes in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        score = metrics.score_lesionwise_2026(prediction.transpose(axes), truth.transpose(axes), affine=affine)
        assert three(score)[:2] == pytest.approx((2 / 3, 1))


def random_labels(rng, spacing_mm):
    """Labels as BraTS numbers them, a prediction and the truth; at times one is empty, or both are."""
    smooth = [ndimage.gaussian_filter(rng.normal(size=(36, 32, 28)), rng.uniform(1, 2)) for _ in range(3)]
    truth, prediction = smooth[0], smooth[0] + rng.uniform(0, 1.2) * smooth[1]
    empty = rng.choice(["", "truth", "prediction", "both"], p=(0.85, 0.05, 0.05, 0.05))
    maps = []
    for name, value in (("prediction", prediction), ("truth", truth)):
        core = value > np.quantile(value, rng.uniform(0.97, 0.997))
        labels = np.where(ndimage.binary_dilation(core) & (smooth[2] > 0), 2, 0)
        labels[core] = np.where(smooth[2] > 0.02, 1, 3)[core]
        maps.append((labels * (empty not in (name, "both"))).astype(np.uint8))
    return *maps, np.diag([*spacing_mm, 1])


def score_with_the_package(folder, tmp_path, cases, rules):
    """Write cases, let the challenge's commands score them, and return their table."""
    for number, (prediction, truth, affine) in enumerate(cases):
        write_scan(tmp_path / f"prediction/{number:05d}-000.nii.gz", prediction, affine)
        write_scan(tmp_path / f"truth/{number:05d}-000.nii.gz", truth, affine)
    summary, table = tmp_path / "summary.json", tmp_path / "scores.csv"
    commands = (
        ["brats-evaluate", "--config", "mets", "--ref_path", tmp_path / "truth",
         "--pred_path", tmp_path / "prediction", "--summary_json", summary],
        ["brats-parse-metrics", "mets", "--json_path", summary, "--output_csv_path", table,
         "--vol_threshold", rules.brats_large_mm3, "--overlap_threshold", rules.brats_min_dice],
    )  # fmt: skip
    for command, *arguments in commands:
        subprocess.run([str(folder / command), *map(str, arguments)], check=True, capture_output=True)
    return pd.read_csv(table).set_index("subject_id")


@pytest.mark.parametrize("rules", [metrics.RULES, metrics.Rules(brats_large_mm3=20, brats_min_dice=0.1)])
def test_random_scans_score_as_in_the_package_of_the_challenge(tmp_path, rules):
    """Voxels are equal in x and z: panoptica takes one for the other."""
    folder = os.environ.get("METTRAIL_BRATS_EVALUATION")
    if not folder:
        pytest.skip("METTRAIL_BRATS_EVALUATION is not set: no folder with the commands of PyPI's brats-evaluation")
    rng = np.random.default_rng(26)
    spacings = ((1, 1, 1), (0.8, 0.8, 0.8), (0.9, 1.3, 0.9), (0.9375, 0.9375, 0.9375))
    cases = [random_labels(rng, spacings[n % 4]) for n in range(80)]
    cases += [
        (3 * blocks(*p).astype(np.uint8), 3 * blocks(*t).astype(np.uint8), MM) for t, p, *_ in SINCE_2026.values()
    ]
    theirs = score_with_the_package(Path(folder), tmp_path, cases, rules)
    n = 0
    for number, (prediction, truth, affine) in enumerate(cases):
        for region, labels in (("et", (3,)), ("tc", (1, 3)), ("wt", (1, 2, 3))):
            names = (f"lesionwise_dsc_mean_{region}", f"lesionwise_nsd_mean_{region}", f"small_instance_f1_{region}")
            masks = (np.isin(labelled, labels) for labelled in (prediction, truth))
            score = metrics.score_lesionwise_2026(*masks, affine=affine, rules=rules)
            expected = theirs.loc[f"{number:05d}-000.nii.gz", list(names)].tolist()
            assert three(score) == pytest.approx(expected, abs=1e-9, nan_ok=True), (number, region)
            n += np.isfinite(expected).sum()
    assert n > 500


# --- DSC and nDSC --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "dice", "normalised"),
    [((800, 200, 200), 0.8, 0.8), ((80, 20, 20), 0.8, 0.8791), ((8000, 2000, 2000), 0.8, 0.4190), ((0, 5, 0), 0, 0)],
)
def test_normalised_dice(counts, dice, normalised):
    voxels = Voxels(*counts)
    assert voxels.dice == pytest.approx(dice)
    assert voxels.normalised_dice(domain=10**6, mean_fraction=0.001) == pytest.approx(normalised, abs=1e-4)


def test_nothing_found_where_nothing_is_is_perfect_and_flagged():
    assert Voxels(0, 0, 0).normalised_dice(domain=100) == 1
    assert Voxels(0, 0, 0).empty
    assert not Voxels(0, 5, 0).empty


# --- Lesions by overlap --------------------------------------------------------------------------------------------


def test_two_components_of_one_lesion_are_found_and_count_it_once():
    truth = blocks(((5, 5, 5), (8, 4, 4)))
    counts = Lesions.of(blocks(((5, 5, 5), (4, 4, 4)), ((10, 5, 5), (3, 4, 4))), truth).count()
    assert (counts.found, counts.false, counts.missed, counts.n_truth) == (2, 0, 0, 1)
    assert (counts.f1, counts.tpr, counts.fdr) == (1, 1, 0)


@pytest.mark.parametrize(("inclusive", "counts"), [(True, (1, 0, 0)), (False, (0, 1, 1))])
def test_exactly_a_quarter_is_enough_or_not(inclusive, counts):
    truth, prediction = blocks(((5, 5, 5), (8, 4, 4))), blocks(((5, 5, 5), (2, 4, 4)))
    found = Lesions.of(prediction, truth).count(inclusive=inclusive)
    assert (found.found, found.false, found.missed) == counts


def test_rates_without_lesions_have_no_value():
    none = Lesions.of(blocks(), blocks()).count()
    assert none.f1 == 1
    assert math.isnan(none.tpr)
    assert math.isnan(none.fdr)


def test_what_touches_at_a_corner_is_one_lesion_or_two():
    corner = blocks(((5, 5, 5), 2), ((7, 7, 7), 2))
    assert Lesions.of(corner, corner).count().n_truth == 1
    assert Lesions.of(corner, corner, connectivity=6).count().n_truth == 2


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 5, 5), (3, 3, 3)])
def test_voxels_packed_as_tightly_as_can_be_are_lesions_each(shape):
    every_other = np.zeros(shape, bool)
    every_other[::2, ::2, ::2] = True
    counts = Lesions.of(every_other, every_other).count()
    assert counts.n_truth == counts.found == every_other.sum()


def test_panoptic_quality():
    truth = blocks(((2, 2, 2), (9, 1, 1)), OTHER)
    prediction = blocks(((2, 2, 2), (8, 1, 1)), ((30, 5, 5), 2))
    pq, rq, sq = Lesions.of(prediction, truth).panoptic_quality()
    assert (rq, sq) == (0.5, pytest.approx(8 / 9))
    assert pq == pytest.approx(rq * sq)
    assert Lesions.of(blocks(), truth).panoptic_quality() == (0, 0, 0)
    assert all(map(math.isnan, Lesions.of(blocks(), blocks()).panoptic_quality()))


def test_false_lesions_are_counted_from_a_size_on():
    lesions = Lesions.of(blocks(ONE, ((20, 20, 5), (3, 3, 1)), ((30, 30, 5), (10, 1, 1))), blocks(ONE))
    assert [lesions.count_false(min_voxels=n) for n in (0, 9, 10, 11)] == [2, 2, 1, 0]


def test_a_true_lesion_is_compared_with_all_predicted_ones_that_touch_it():
    truth = blocks(((5, 5, 5), (8, 4, 4)), OTHER, ((32, 5, 5), 3))
    prediction = blocks(((5, 5, 5), (4, 4, 4)), ((10, 5, 5), (4, 4, 4)), ((25, 25, 5), 2))
    lesions = Lesions.of(prediction, truth)
    assert lesions.found.sum() == 2
    by_size = {v.both + v.missed: (v.both, v.predicted, v.missed) for v in lesions.compare_each()}
    assert by_size == {128: (112, 16, 16), 64: (8, 0, 56), 27: (0, 0, 27)}


def test_lesions_and_what_they_share_are_those_of_scipy():
    rng = np.random.default_rng(3)
    prediction, truth = (ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.5) > 0.12 for _ in range(2))
    lesions = Lesions.of(prediction, truth)
    predicted, n_predicted = ndimage.label(prediction, np.ones((3, 3, 3)))
    true, n_true = ndimage.label(truth, np.ones((3, 3, 3)))
    assert min(n_predicted, n_true) > 5
    iou = np.zeros((n_predicted, n_true))
    for i, j in np.ndindex(*iou.shape):
        one, other = predicted == i + 1, true == j + 1
        iou[i, j] = (one & other).sum() / (one | other).sum()
    assert np.sort(lesions.iou.ravel()) == pytest.approx(np.sort(iou.ravel()))
    assert lesions.false.sum() == (iou.max(1) == 0).sum()
    assert lesions.found.sum() == (iou.max(0) > 0).sum()


def test_lesions_at_the_edge_of_the_image_are_scored_like_others():
    """Seen through a window that cuts off all air around, nothing changes."""
    truth, prediction = blocks(((5, 5, 5), 4), ((12, 5, 5), 4)), blocks(((5, 6, 5), 4), ((20, 5, 5), 2))
    box = (slice(5, 22), slice(5, 10), slice(5, 9))
    affine = np.diag([1, 0.8, 2.5, 1])
    whole = metrics.score_lesionwise(prediction, truth, affine=affine)
    assert metrics.score_lesionwise(prediction[box], truth[box], affine=affine) == whole
    assert (whole.found, whole.false, whole.missed) == (1, 1, 1)


# --- What has come and gone ----------------------------------------------------------------------------------------


def test_false_lesions_where_a_lesion_has_vanished_are_counted():
    prior = blocks(ONE, OTHER, ((5, 25, 5), 4), ((25, 5, 5), 4))
    truth = blocks(ONE, ((32, 32, 12), 3))
    # One kept, two of three vanished ones copied, by three pieces in all; one false lesion elsewhere.
    prediction = blocks(ONE, OTHER, ((5, 25, 5), (1, 4, 4)), ((7, 25, 5), (2, 4, 4)), ((15, 15, 12), 3))
    assert metrics.count_changes(prediction, truth, prior) == metrics.Changes(new=1, vanished=3, left=2, false=3)
    assert metrics.count_changes(truth, truth, prior) == metrics.Changes(new=1, vanished=3, left=0, false=0)
    assert metrics.count_changes(prior, blocks(), blocks()) == metrics.Changes(0, 0, 0, 0)


def test_a_lesion_from_a_true_into_a_vanished_one_is_no_false_positive():
    prior, truth = blocks(((5, 5, 5), 4), ((13, 5, 5), 4)), blocks(((5, 5, 5), 4))
    both = blocks(((5, 5, 5), (12, 4, 4)))
    assert metrics.count_changes(both, truth, prior) == metrics.Changes(new=0, vanished=1, left=0, false=0)


# --- Thresholds, tests ---------------------------------------------------------------------------------------------


def test_the_threshold_of_youden():
    truth, probability = [0, 0, 0, 0, 1, 1, 1, 0], [0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.9, 0.35]
    roc = metrics.score_roc(probability, truth)
    assert roc.auc == pytest.approx(0.9333, abs=1e-4)
    assert (roc.threshold, roc.sensitivity, roc.specificity) == (0.4, 1, 0.8)
    for nothing in (np.zeros(8), np.ones(8)):
        assert all(map(math.isnan, vars(metrics.score_roc(probability, nothing)).values()))


def test_of_equally_good_thresholds_the_highest_is_taken():
    assert metrics.score_roc([0.2, 0.4, 0.6, 0.8], [0, 1, 0, 1]).threshold == 0.8


def test_a_map_no_better_than_chance_has_no_threshold():
    for probability in ([0.0] * 4, [0.9, 0.8, 0.1, 0.2]):
        roc = metrics.score_roc(probability, [0, 0, 1, 1])
        assert roc.auc <= 0.5
        assert math.isnan(roc.threshold)
        assert math.isnan(roc.sensitivity)


def test_the_curve_is_that_of_scikit_learn():
    rng = np.random.default_rng(2)
    truth = rng.random(2000) < 0.05
    probability = np.round(np.clip(rng.normal(0.2 + 0.3 * truth, 0.15), 0, 1) * 255).astype(np.float32) / 255
    roc = metrics.score_roc(probability, truth)
    assert roc.auc == pytest.approx(roc_auc_score(truth, probability))
    false_rate, true_rate, _ = roc_curve(truth, probability)
    assert roc.sensitivity + roc.specificity - 1 == pytest.approx((true_rate - false_rate).max())
    found = probability >= roc.threshold
    assert roc.sensitivity == pytest.approx(found[truth].mean())
    assert roc.specificity == pytest.approx((~found[~truth]).mean())


# --- Free-response curves ------------------------------------------------------------------------------------------

FALLING = (0.9, 0.5, 0.3, 0.1)
# Probabilities and true voxels of three scans of nine voxels in a row, counted on paper: found and false at FALLING.
BY_HAND = {
    "two lesions": ((0, 0.6, 0.9, 0, 0.4, 0, 0.3, 0, 0.7), (1, 2, 6), (1, 1, 2, 2), (0, 1, 2, 2)),
    "none": ((0.95, 0.15, 0.5, 0.5, 0.15, 0.2, 0.2, 0.2, 0), (), (0, 0, 0, 0), (1, 2, 2, 1)),
    "one, in a merged component": ((0.2, 0.2, 0.2, 0.2, 0.1, 0.2, 0.4, 0.2, 0.2), (4,), (0, 0, 0, 1), (0, 0, 1, 0)),
}
# The same where lesions and components of one voxel do not count.
FROM_TWO_VOXELS = {
    "two lesions": (1, (1, 1, 1, 1), (0, 0, 0, 0)),
    "none": (0, (0, 0, 0, 0), (0, 1, 1, 1)),
    "one, in a merged component": (0, (0, 0, 0, 0), (0, 0, 0, 0)),
}


def in_a_row(name):
    probability, true, *_ = BY_HAND[name]
    truth = np.isin(np.arange(9), true).reshape(9, 1, 1)
    return np.reshape(probability, (9, 1, 1)).astype(np.float32), truth


@pytest.mark.parametrize("name", BY_HAND)
def test_what_is_found_and_false_at_each_threshold_is_as_on_paper(name):
    counted = metrics.count_free_response(*in_a_row(name), thresholds=FALLING)
    _, true, found, false = BY_HAND[name]
    assert counted.n_truth == {3: 2, 0: 0, 1: 1}[len(true)]
    assert (tuple(counted.found), tuple(counted.false)) == (found, false)


@pytest.mark.parametrize("name", FROM_TWO_VOXELS)
def test_lesions_and_components_below_the_least_size_do_not_count(name):
    counted = metrics.count_free_response(*in_a_row(name), thresholds=FALLING, min_voxels=2)
    assert (counted.n_truth, tuple(counted.found), tuple(counted.false)) == FROM_TWO_VOXELS[name]


def test_at_each_threshold_lesions_are_those_of_a_mask():
    rng = np.random.default_rng(7)
    truth = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.5) > 0.12
    probability = ndimage.gaussian_filter(rng.normal(size=SHAPE) + 2 * truth, 1).astype(np.float32)
    probability = np.clip(0.5 + probability / 2, 0, 1)
    counted = metrics.count_free_response(probability, truth, min_voxels=4)
    by_mask = [Lesions.of(probability >= threshold, truth) for threshold in metrics.FROC_THRESHOLDS]
    large = by_mask[0].true_voxels >= 4
    assert counted.n_truth == large.sum() > 5
    assert counted.found.tolist() == [int(lesions.found[large].sum()) for lesions in by_mask]
    assert counted.false.tolist() == [lesions.count_false(min_voxels=4) for lesions in by_mask]
    assert len(set(counted.false.tolist())) > 10


def test_sensitivity_at_so_many_false_lesions_belongs_to_a_threshold():
    curve = (0.2, 0.5, 0.4, 0.8), (0.3, 0.5, 1.5, 9)
    assert metrics.sensitivity_at(*curve) == [0, 0, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert metrics.sensitivity_at(*curve, rates=(0.3, 0.49, 9)) == [0.2, 0.2, 0.8]
    assert all(map(math.isnan, metrics.sensitivity_at([math.nan, math.nan], [0, 1])))


@pytest.mark.parametrize(
    ("option", "value"),
    [("f1_connectivity", 8), ("brats_large_mm3", -1), ("brats_min_dice", 1.5), ("froc_min_mm3", math.nan)],
)
def test_a_rule_that_is_none_is_refused(option, value):
    with pytest.raises(InputError, match=f"--{option.replace('_', '-')}"):
        metrics.Rules(**{option: value})


# --- Methods and groups --------------------------------------------------------------------------------------------


def scores(*values):
    return {f"sub-{n}": [value] for n, value in enumerate(values)}


def test_methods_are_compared_by_patient_with_one_tail():
    new, old = scores(0.80, 0.70, 0.90, 0.60, 0.75), scores(0.60, 0.65, 0.80, 0.55, 0.78)
    t, p = metrics.is_better(new, old)
    assert (t, p) == (pytest.approx(1.9596, abs=1e-4), pytest.approx(0.0608, abs=1e-4))
    assert metrics.is_better(old, new)[1] == pytest.approx(1 - p)
    # More scans of a patient are one patient still.
    again = {who: values * 3 for who, values in new.items()}
    assert metrics.is_better(again, old) == pytest.approx((t, p))


def test_a_test_that_cannot_be_made_has_no_value():
    assert all(map(math.isnan, metrics.is_better(scores(0.5), scores(0.4))))
    assert all(map(math.isnan, metrics.is_better(scores(0.5, 0.6), scores(0.4, 0.5))))
    with pytest.raises(InputError, match="sub-1"):
        metrics.is_better(scores(0.5, 0.6), scores(0.4))


def test_groups_are_compared_by_ranks_and_corrected():
    a, b = [0.9, 0.8, 0.85, 0.7], [0.6, 0.65, 0.75, 0.5, 0.55]
    assert metrics.compare_groups({"1-3": a, "4-10": b})["1-3", "4-10"] == pytest.approx(0.0275, abs=1e-4)
    three = metrics.compare_groups({"1-3": a, "4-10": b, ">10": a})
    assert three["1-3", "4-10"] == pytest.approx(3 * 0.0275, abs=3e-4)
    assert three["4-10", ">10"] == pytest.approx(3 * 0.0275, abs=3e-4), "never less than a smaller one before it"
    assert three["1-3", ">10"] == 1
    assert math.isnan(metrics.compare_groups({"1-3": a, ">10": []})["1-3", ">10"])


def test_the_correction_of_three_tests_is_that_of_statsmodels():
    rng = np.random.default_rng(5)
    groups = {name: rng.normal(mean, 1, 12).tolist() for name, mean in (("1-3", 0), ("4-10", 0.8), (">10", 1.5))}
    raw = [metrics.compare_groups({n: groups[n] for n in pair})[pair] for pair in
           (("1-3", "4-10"), ("1-3", ">10"), ("4-10", ">10"))]  # fmt: skip
    corrected = list(metrics.compare_groups(groups).values())
    assert corrected == pytest.approx(multipletests(raw, method="holm")[1].tolist())


def test_the_effect_of_size():
    rho, _ = metrics.size_effect([10, 25, 60, 200, 500, 1500], [0, 0.4, 0.55, 0.7, 0.68, 0.85])
    assert rho == pytest.approx(0.9429, abs=1e-4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("sizes", "values"), [([1, 2], [0.5, 0.6]), ([1, 2, 3], [1, 1, 1]), ([2, 2, 2], [0.1, 0.2, 0.3])]
)
def test_an_effect_that_cannot_be_told_has_no_value_and_no_warning(sizes, values):
    assert all(map(math.isnan, metrics.size_effect(sizes, values)))


def test_masks_on_other_grids_are_refused():
    with pytest.raises(GridMismatchError, match="one voxel grid"):
        Voxels.of(np.zeros((3, 3, 3)), np.zeros((3, 3, 4)))
