"""Methods are scored on the same scans, and the tables say what the papers' do."""

import json
import math
import subprocess

import numpy as np
import pandas as pd
import pytest
import warm
from conftest import ROOT, write_scan
from mettrail import images, schema, sidecars
from mettrail.errors import GridMismatchError, InputError
from mettrail.evaluation import inputs, metrics, scores, scoring, statistics
from mettrail.evaluation.inputs import LabelledSession
from mettrail.evaluation.probabilities import Threshold, score_probability
from mettrail.evaluation.scoring import Settings
from mettrail.images import Image
from scipy import stats

SHAPE = (30, 30, 20)
KINDS = ("scans", "lesions", "probabilities", "froc", "summary", "tests")


def tissue(*blocks):
    """Blocks of labels: (corner, size, label)."""
    out = np.zeros(SHAPE, np.uint8)
    for corner, size, label in blocks:
        out[tuple(slice(c, c + size) for c in corner)] = label
    return out


def write(folder, maps, name="dseg"):
    for (sub, ses), data in maps.items():
        write_scan(folder / f"sub-{sub}/ses-{ses}/anat/sub-{sub}_ses-{ses}_{name}.nii.gz", data)
    return folder


def visit(truth, *, brain=None, prior=None, affine=None):
    prior = None if prior is None else np.isin(prior, (1, 3))
    image = Image(truth, np.eye(4) if affine is None else affine)
    return LabelledSession("A", "1", image, brain, prior, first=prior is None)


def scored(found, truth, **more):
    one = visit(truth, **more)
    return pd.DataFrame(scores.score_scan(Image(found, one.truth.affine), one)).set_index("tissue")


def look_up(table, **where):
    (row,) = [row for row in table.to_dict("records") if where.items() <= row.items()]
    return row


ONE, OTHER = ((3, 3, 3), 6, 1), ((18, 18, 8), 6, 1)
TRUTH = {
    ("A", "1"): tissue(ONE, ((5, 5, 5), 2, 3)), ("A", "2"): tissue(ONE, OTHER), ("B", "1"): tissue(OTHER),
    ("C", "1"): tissue(OTHER, ((2, 20, 2), 4, 2)), ("C", "2"): tissue(),
}  # fmt: skip
MISSES_ONE = TRUTH | {("A", "2"): tissue(OTHER), ("B", "1"): tissue(((18, 18, 8), 5, 1)), ("C", "1"): tissue(OTHER)}


@pytest.fixture
def folders(tmp_path):
    return {n: write(tmp_path / n, m) for n, m in (("labels", TRUTH), ("ours", TRUTH), ("theirs", MISSES_ONE))}


def run(out, labels, *arguments):
    command = [warm.python(), "scripts/evaluate.py", "--labels", labels, "--out", out, *arguments]
    return subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False)


# --- One scan ------------------------------------------------------------------------------------------------------


def test_a_perfect_prediction_is_perfect_and_empty_tissues_are_said_to_be():
    rows = scored(TRUTH["A", "1"], TRUTH["A", "1"])
    perfect = rows.loc[["whole", "enhancing", "necrosis", "with_edema"]]
    assert perfect[["dsc", "ndsc", "f1", "lesionwise_dsc", "pq", "voxel_recall", "sensitivity"]].eq(1).all(axis=None)
    assert perfect[["hd95_mm", "lesionwise_hd95_mm", "fdr", "n_false"]].eq(0).all(axis=None)
    empty = {"whole": False, "enhancing": False, "edema": True, "necrosis": False, "with_edema": False}
    assert rows["empty"].to_dict() == empty
    assert rows.loc["whole", ["truth_mm3", "predicted_mm3"]].tolist() == [216, 216]
    assert rows.loc["necrosis", "truth_mm3"] == 8


def test_a_missed_lesion_and_a_false_one_are_counted():
    truth, found = tissue(ONE, OTHER), tissue(ONE, ((20, 3, 3), 2, 1))
    row = scored(found, truth).loc["whole"]
    assert (row["tpr"], row["fdr"], row["f1"], row["dsc_found"], row["pq"]) == (0.5, 0.5, 0.5, 1, 0.5)
    assert (row["n_truth"], row["n_predicted"], row["n_found"], row["n_false"], row["n_false_10mm3"]) == (2, 2, 1, 1, 0)
    assert row["dsc"] == pytest.approx(2 * 216 / (2 * 216 + 8 + 216))
    assert (row["voxel_recall"], row["voxel_precision"]) == (0.5, pytest.approx(216 / 224))
    lesions = scores.score_lesions(Image(found, np.eye(4)), visit(truth))
    assert [(r["volume_mm3"], r["found"], r["dsc"]) for r in lesions] == [(216, True, 1), (216, False, 0)]


def test_f1_can_be_that_of_the_code_of_shifts():
    """A quarter of the first lesion is found; the second is two, corner to corner, of which one is found."""
    truth = tissue(((3, 3, 3), 4, 1), ((15, 15, 5), 2, 1), ((17, 17, 7), 2, 1))
    found = tissue(((3, 3, 3), 2, 1), ((5, 3, 3), 2, 1), ((15, 15, 5), 2, 1))
    one = visit(truth)

    def f1_tpr_fdr(**rules):
        rows = scores.score_scan(Image(found, np.eye(4)), one, metrics.Rules(**rules))
        whole = next(row for row in rows if row["tissue"] == "whole")
        assert (whole["n_truth"], whole["n_predicted"], whole["sensitivity"]) == (2, 2, 1), "these are 26-connected"
        return whole["f1"], whole["tpr"], whole["fdr"]

    assert f1_tpr_fdr() == (0.5, 0.5, 0.5)
    assert f1_tpr_fdr(f1_inclusive=True) == (1, 1, 0)
    assert f1_tpr_fdr(f1_connectivity=6) == (0.4, pytest.approx(1 / 3), 0.5)
    assert f1_tpr_fdr(f1_connectivity=6, f1_inclusive=True) == (pytest.approx(0.8), pytest.approx(2 / 3), 0)


def test_scores_count_millimetres(oblique_affine):
    """Voxels of 4.5 mm3: three of them are more than 10 mm3, and a lesion of 27 has the diameter of 121.5 mm3."""
    truth, found = tissue(((3, 3, 3), 3, 1)), tissue(((3, 3, 3), 3, 1))
    found[20, 20, 10:13] = 1
    found[10, 20, 10:12] = 1
    row = scored(found, truth, affine=oblique_affine).loc["whole"]
    assert (row["truth_mm3"], row["n_false"], row["n_false_10mm3"]) == (pytest.approx(121.5), 2, 1)
    (lesion,) = scores.score_lesions(Image(found, oblique_affine), visit(truth, affine=oblique_affine))
    assert lesion["diameter_mm"] == pytest.approx((121.5 * 6 / math.pi) ** (1 / 3))
    assert lesion["diameter_group"] == "5-10 mm"


@pytest.mark.parametrize(
    ("volume_mm3", "band"),
    [(14, "<3 mm"), (15, "3-5 mm"), (65, "3-5 mm"), (66, "5-10 mm"), (523, "5-10 mm"), (524, ">10 mm")],
)
def test_bands_of_diameter_begin_at_their_lower_end(volume_mm3, band):
    truth = np.zeros((10, 10, 10), np.uint8)
    truth.reshape(-1)[:volume_mm3] = 1
    (lesion,) = scores.score_lesions(Image(truth, np.eye(4)), visit(truth))
    assert (lesion["volume_mm3"], lesion["diameter_group"]) == (volume_mm3, band)


def test_what_has_come_and_gone_is_counted_where_the_prior_is_given():
    truth, prior = tissue(ONE), tissue(OTHER, ((2, 20, 2), 4, 2))
    copied = scored(prior, truth, prior=prior).loc["whole"]
    assert copied[["n_new", "n_vanished", "n_vanished_left", "n_false_vanished"]].tolist() == [1, 1, 1, 1]
    right = scored(truth, truth, prior=prior).loc["whole"]
    assert right[["n_new", "n_vanished", "n_vanished_left", "n_false_vanished"]].tolist() == [1, 1, 0, 0]
    assert scored(truth, truth)["n_vanished"].isna().all()
    assert [r["new"] for r in scores.score_lesions(Image(truth, np.eye(4)), visit(truth, prior=prior))] == [True]


# --- Tables --------------------------------------------------------------------------------------------------------


def test_the_tables_and_the_page_of_two_methods(tmp_path, folders):
    done = run(tmp_path / "out", folders["labels"], f"ours={folders['ours']}", f"theirs={folders['theirs']}")
    assert done.returncode == 0, done.stderr
    table = {n: schema.read_table(tmp_path / "out" / f"{n}.csv", f"evaluation_{n}") for n in KINDS}
    assert len(table["scans"]) == 2 * 5 * 5
    assert len(table["lesions"]) == 2 * 5
    for name in KINDS:
        described = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert [made["Name"] for made in described.pop("GeneratedBy")] == ["mettrail"]
        assert list(described) == list(table[name])
        assert all(column["Description"] for column in described.values())
    summary = table["summary"]
    all_of = {"subset": "all", "tissue": "whole", "group": "all"}
    ours = look_up(summary, method="ours", score="dsc", **all_of)
    assert (ours["n"], ours["mean"], ours["sd"]) == (4, 1, 0)
    assert look_up(summary, method="theirs", score="tpr", **all_of | {"subset": "follow-up"})["mean"] == 0.5
    assert look_up(summary, method="theirs", score="dsc", **all_of | {"tissue": "edema"})["mean"] == 0
    assert look_up(summary, method="theirs", score="n_false", **all_of)["n"] == 5, "also where there is nothing"
    pooled = look_up(summary, method="theirs", score="pooled_sensitivity", **all_of)
    assert (pooled["n"], pooled["mean"]) == (5, 0.8)
    band = look_up(summary, method="theirs", score="lesion_found", **all_of | {"group": "5-10 mm"})
    assert (band["n"], band["mean"]) == (5, 0.8)
    dice = look_up(summary, method="theirs", score="lesion_dsc", **all_of | {"group": "found"})
    assert (dice["n"], dice["mean"]) == (4, pytest.approx((3 + 2 * 125 / (125 + 216)) / 4, abs=1e-5))
    better = look_up(table["tests"], test="paired_t", score="dsc", **all_of)
    assert (better["method"], better["against"], better["n"]) == ("ours", "theirs", 3)
    of = table["scans"].query("tissue == 'whole' and not empty")
    means = of.groupby(["method", "participant_id"])["dsc"].mean()
    expected = stats.ttest_rel(means["ours"], means["theirs"], alternative="greater")
    assert (better["statistic"], better["p"]) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-3)
    assert math.isnan(look_up(table["tests"], test="paired_t", score="n_false", **all_of)["p"]), "no difference"
    page = (tmp_path / "out" / "evaluation.md").read_text()
    assert "5 scans of 3 patients, 5 lesions; 3 first visits" in page
    assert "| 1+3 | theirs | 4 | 0.85 ± 0.18 |" in page
    assert "| All scans (full) | theirs | 5 | 0.800 (4/5) | 1.000 (4/4) | 0 |" in page
    assert "| theirs | – | – | 0.80 (4/5) | – |" in page
    assert page.count("`--priors` or `--aligned`") == 2
    assert "they need brain masks" in page
    for block in page.split("\n\n"):
        lines = block.strip().splitlines()
        assert len({line.count(" | ") for line in lines if line.startswith("|")}) <= 1, block


def test_two_methods_are_compared_on_scans_where_both_have_a_score(tmp_path):
    """Where one has found something in a lesion-free scan and the other nothing, the other is better, not unscored."""
    ours = {("A", "1"): tissue(ONE), ("A", "2"): tissue(), ("B", "1"): tissue(ONE)}
    theirs = ours | {("A", "2"): tissue(OTHER), ("B", "1"): tissue(ONE)}
    folders = [write(tmp_path / n, m) for n, m in (("l", ours), ("ours", ours), ("theirs", theirs))]
    scans, *_ = scoring.score_methods({"ours": folders[1], "theirs": folders[2]}, folders[0])
    rows = schema.make_table(statistics.compare_methods(scans, "theirs"), "evaluation_tests")
    where = {"subset": "all", "tissue": "whole"}
    dice = look_up(rows, score="dsc", **where)
    # Patient A: 1 and 1 against 1 and 0; patient B: no difference.
    expected = stats.ttest_rel([1, 1], [0.5, 1], alternative="greater")
    assert (dice["n"], dice["statistic"], dice["p"]) == (
        2,
        pytest.approx(expected.statistic),
        pytest.approx(expected.pvalue),
    )
    assert look_up(rows, score="tpr", **where)["n"] == 2, "without true lesions there is no rate"
    assert look_up(rows, score="n_false", **where)["statistic"] > 0


def test_a_scan_that_one_method_has_no_rate_for_counts_for_neither(tmp_path):
    """Who predicts nothing has no false discovery rate there: that of the other, bad as it is, stands alone."""
    truth = {("A", "1"): tissue(ONE), ("A", "2"): tissue(ONE), ("B", "1"): tissue(ONE), ("C", "1"): tissue(ONE)}
    ours = truth | {("A", "2"): tissue(), ("B", "1"): tissue(ONE, OTHER)}
    theirs = truth | {("A", "2"): tissue(OTHER), ("C", "1"): tissue(ONE, OTHER)}
    folders = [write(tmp_path / n, m) for n, m in (("l", truth), ("ours", ours), ("theirs", theirs))]
    scans, *_ = scoring.score_methods({"ours": folders[1], "theirs": folders[2]}, folders[0])
    rows = schema.make_table(statistics.compare_methods(scans, "theirs"), "evaluation_tests")
    row = look_up(rows, subset="all", tissue="whole", score="fdr")
    expected = stats.ttest_rel([0, 0, 0.5], [0, 0.5, 0], alternative="greater")
    assert (row["n"], row["statistic"], row["p"]) == (
        3,
        pytest.approx(expected.statistic),
        pytest.approx(expected.pvalue),
    )


def test_groups_of_scans_by_number_of_lesions(tmp_path):
    def many(n):
        return tissue(*[((2 + 4 * (i % 7), 2 + 4 * (i // 7), 5), 2, 1) for i in range(n)])

    truth = {(who, "1"): many(n) for who, n in (("A", 3), ("B", 4), ("C", 10), ("D", 11), ("E", 0))}
    found = truth | {("D", "1"): many(10), ("C", "1"): many(9), ("E", "1"): many(1)}
    labels, ours = write(tmp_path / "l", truth), write(tmp_path / "o", found)
    scans, lesions, none, curves = scoring.score_methods({"ours": ours}, labels)
    summary = statistics.summarise(scans, lesions, none, curves)
    of = {
        g: look_up(summary, subset="all", tissue="whole", group=g, score="sensitivity") for g in ("1-3", "4-10", ">10")
    }
    assert {g: (row["n"], row["mean"]) for g, row in of.items()} == {
        "1-3": (1, 1), "4-10": (2, pytest.approx(0.95)), ">10": (1, pytest.approx(10 / 11)),
    }  # fmt: skip
    rows = schema.make_table(statistics.compare_numbers(scans, none), "evaluation_tests")
    row = look_up(rows, group="1-3", against="4-10", score="sensitivity")
    assert (row["n"], row["p"]) == (3, pytest.approx(min(1, 3 * stats.ranksums([1], [1, 0.9]).pvalue)))


def test_first_visits_are_told_by_date_and_labels_count_as_numbers(tmp_path):
    truth = {("A", "10"): tissue(ONE), ("A", "2"): tissue(OTHER)}
    labels = write(tmp_path / "l", truth)

    def order(**more):
        return [(v.ses, v.first) for v in inputs.read_sessions(inputs.find_maps(labels), **more)]

    assert order() == [("2", True), ("10", False)]
    (tmp_path / "bids/sub-A").mkdir(parents=True)
    dates = tmp_path / "bids/sub-A/sub-A_sessions.tsv"
    dates.write_text("session_id\tacq_time\nses-2\t2021-01-01\nses-10\t2020-01-01\n")
    assert order(bids=tmp_path / "bids") == [("10", True), ("2", False)]
    dates.write_text("session_id\tacq_time\nses-2\tn/a\nses-10\t2020-01-01\n")
    assert order(bids=tmp_path / "bids") == [("2", True), ("10", False)]
    dates.write_text("session_id\tacq_time\nses-2\tyesterday\nses-10\t2020-01-01\n")
    with pytest.raises(InputError, match="yesterday"):
        order(bids=tmp_path / "bids")


def test_follow_ups_without_a_new_lesion_are_told_from_the_priors(tmp_path, folders):
    methods = {"ours": folders["ours"]}
    scans, lesions, *_ = scoring.score_methods(methods, folders["labels"], Settings(aligned=True))
    whole = scans[scans["tissue"] == "whole"].set_index(["participant_id", "session_id"])
    known = {key: bool(value) for key, value in whole["known_only"].items()}
    assert [key for key, value in known.items() if value] == [("sub-C", "ses-2")]
    assert whole.loc[("sub-A", "ses-2"), ["n_new", "n_vanished"]].tolist() == [1, 0]
    assert whole.loc[("sub-C", "ses-2"), ["n_new", "n_vanished"]].tolist() == [0, 1]
    assert lesions["new"].sum() == 1
    # The same from files, on another grid: twice as coarse, its voxels around pairs of the others.
    coarse = np.diag([2.0, 2, 2, 1])
    coarse[:3, 3] = 0.5
    for sub, ses, last in (("A", "2", "1"), ("C", "2", "1")):
        path = tmp_path / f"priors/sub-{sub}/ses-{ses}/anat/sub-{sub}_ses-{ses}_res-1mm_desc-prior_dseg.nii.gz"
        write_scan(path, TRUTH[sub, last][::2, ::2, ::2], coarse)
    from_files, *_ = scoring.score_methods(methods, folders["labels"], Settings(priors=tmp_path / "priors"))
    pd.testing.assert_frame_equal(from_files, scans)
    unknown, *_ = scoring.score_methods(methods, folders["labels"])
    assert unknown["known_only"].isna().sum() == 2 * 5
    # Follow-ups stay what they are where nobody labelled a visit before.
    alone = write(tmp_path / "alone", {("C", "2"): TRUTH["C", "2"]})
    second, *_ = scoring.score_methods(methods, alone, Settings(priors=tmp_path / "priors", labelled_only=True))
    row = second[second["tissue"] == "whole"].iloc[0]
    assert (bool(row["first_session"]), bool(row["known_only"]), row["n_vanished"]) == (False, True, 1)
    path.unlink()
    with pytest.raises(InputError, match="no prior of sub-C_ses-2"):
        scoring.score_methods(methods, folders["labels"], Settings(priors=tmp_path / "priors"))


def test_the_domain_of_ndsc_is_the_brain_mask(tmp_path):
    labels, ours = (
        write(tmp_path / n, {("A", "1"): m}) for n, m in (("l", tissue(ONE)), ("o", tissue(((3, 3, 3), 7, 1))))
    )
    brain = np.zeros(SHAPE, np.uint8)
    brain[:15, :15, :15] = 1
    write_scan(tmp_path / "m/sub-A/ses-1/anat/sub-A_ses-1_desc-brain_mask.nii.gz", brain)
    whole, *_ = scoring.score_methods({"ours": ours}, labels)
    masked, *_ = scoring.score_methods({"ours": ours}, labels, Settings(masks=tmp_path / "m"))
    assert masked["dsc"].equals(whole["dsc"])
    assert masked.loc[0, "ndsc"] < whole.loc[0, "ndsc"]
    with pytest.raises(InputError, match="0 brain masks"):
        scoring.score_methods({"ours": ours}, labels, Settings(masks=tmp_path / "l"))


def test_cavities_are_left_out_where_the_map_says_that_4_is_one(tmp_path):
    cavity = ((10, 3, 3), 5, 4)
    truth = write(tmp_path / "labels", {("A", "1"): tissue(ONE)})
    ours = write(tmp_path / "ours", {("A", "1"): tissue(ONE, cavity)})
    with pytest.raises(InputError, match=r"(?s)labels \[4\].*BraTS 2021.*JSON beside it"):
        scoring.score_methods({"ours": ours}, truth)
    beside = ours / "sub-A/ses-1/anat/sub-A_ses-1_dseg.json"
    beside.write_text(json.dumps(sidecars.TISSUE))
    scans = scoring.score_methods({"ours": ours}, truth).scans
    assert scans.set_index("tissue").loc["whole", "dsc"] == 1


# --- Probability maps ----------------------------------------------------------------------------------------------


def probabilities(truth, *, lesion, rest):
    """Four classes: lesion voxels have `lesion` as necrosis, all others `rest` as enhancing."""
    out = np.zeros((*truth.shape, 4), np.float32)
    out[..., 3], out[..., 1] = lesion * (truth > 0), rest * (truth == 0)
    out[..., 0] = 1 - out.sum(-1)
    return out


@pytest.fixture
def with_maps(tmp_path):
    """A test set and a validation set; the validation maps are less sure of their lesions."""
    truth = {("A", "1"): tissue(ONE), ("B", "1"): tissue(ONE, OTHER)}
    brain = dict.fromkeys(truth, np.ones(SHAPE, np.uint8))
    for name, lesion in (("test", 0.8), ("val", 0.6)):
        write(tmp_path / name / "labels", truth)
        write(tmp_path / name / "masks", brain, "desc-brain_mask")
        write(tmp_path / name / "ours", truth)
        for (sub, ses), data in truth.items():
            path = tmp_path / name / f"ours/sub-{sub}/ses-{ses}/anat/sub-{sub}_ses-{ses}_desc-a_probseg.nii.gz"
            images.write_probabilities(path, probabilities(data, lesion=lesion, rest=0.2), np.eye(4))
    return tmp_path


def test_a_threshold_is_chosen_on_other_scans(tmp_path, with_maps):
    test, val = with_maps / "test", with_maps / "val"
    arguments = ["--masks", test / "masks", f"ours={test / 'ours'}", "--threshold-from", f"ours={val / 'ours'}"]
    arguments += ["--validation", val / "labels", val / "masks"]
    done = run(tmp_path / "out", test / "labels", *arguments)
    assert done.returncode == 0, done.stderr
    rows = schema.read_table(tmp_path / "out/probabilities.csv", "evaluation_probabilities")
    assert rows["auc"].tolist() == [1, 1]
    assert rows["youden_threshold"].tolist() == pytest.approx([0.8, 0.8], abs=0.003)
    assert rows["threshold"].tolist() == pytest.approx([0.6, 0.6], abs=0.003)
    assert rows["threshold_from"].str.endswith("mean of 2 scans").all()
    assert rows[["threshold_dsc", "threshold_recall", "threshold_sensitivity"]].eq(1).all(axis=None)
    assert rows["threshold_n_false"].tolist() == [0, 0]
    assert f"- ours: 0.6 ({val / 'ours'}: mean of 2 scans)" in (tmp_path / "out/evaluation.md").read_text()


def test_a_given_threshold_counts_from_its_value_on_inside_the_mask():
    truth = tissue(ONE, OTHER)
    brain = np.ones(SHAPE, bool)
    brain[16:] = False
    probability = np.where(truth > 0, 0.8, 0.2)
    probability[3, 3, 3] = 0.5
    probability[12:14, 20:23, 15:17] = 0.5  # 12 mm3
    probability[2, 28, 15] = 0.5
    probability[20, 28, 15] = 0.5  # outside
    row = score_probability(probability, visit(truth, brain=brain), Threshold(0.5, "given"))
    assert (row["n_truth"], row["threshold_n_false"], row["threshold_n_false_10mm3"]) == (1, 2, 1)
    assert row["threshold_precision"] == pytest.approx(216 / 229)
    stricter = score_probability(probability, visit(truth, brain=brain), Threshold(0.51, "given"))
    assert (stricter["threshold_recall"], stricter["threshold_n_false"]) == (pytest.approx(215 / 216), 0)
    without = score_probability(probability, visit(truth, brain=brain), None)
    assert without["threshold"] is None
    assert without["auc"] == row["auc"] < 1


def test_probabilities_are_brought_onto_the_grid_of_the_labels(tmp_path):
    truth = visit(tissue(ONE)).truth
    coarse = np.diag([2.0, 2, 2, 1])
    coarse[:3, 3] = 0.5
    halves = np.zeros((15, 15, 10), np.float32)
    halves[2:4] = 1
    path = write_scan(tmp_path / "p.nii.gz", halves, coarse)
    found = inputs.read_lesion_probability(path, truth)
    assert found.shape == SHAPE
    assert found[:10, 5, 5].tolist() == pytest.approx([0, 0, 0, 0.25, 0.75, 1, 1, 0.75, 0.25, 0])


def test_what_is_no_probability_map_or_no_threshold_is_refused(with_maps):
    test, val = with_maps / "test", with_maps / "val"
    methods, labels = {"ours": test / "ours"}, test / "labels"

    def refused(match, **more):
        with pytest.raises(InputError, match=match):
            scoring.score_methods(methods, labels, Settings(**{"masks": test / "masks"} | more))

    refused("above 0", thresholds={"ours": "1.5"})
    refused("no --validation", thresholds={"ours": str(val / "ours")})
    refused("could be scored", thresholds={"theirs": "0.5"})
    refused("could be scored", thresholds={"ours": "0.5"}, masks=None)
    refused("no b map", probabilities="b")
    refused("chosen on them", thresholds={"ours": str(val / "ours")}, validation=(labels, val / "masks"))
    anat = test / "ours/sub-A/ses-1/anat"
    second = write_scan(anat / "sub-A_ses-1_desc-b_probseg.nii.gz", np.full(SHAPE, 7, np.float32))
    refused("--probabilities")
    scored_alone = scoring.score_methods(methods, labels, Settings(masks=test / "masks", probabilities="a"))[2]
    assert len(scored_alone) == 2
    second.rename(anat / "sub-A_ses-1_desc-a_probseg.nii.gz")
    refused("values from 7 to 7", probabilities="a")
    write_scan(anat / "sub-A_ses-1_desc-a_probseg.nii.gz", np.zeros((*SHAPE, 2), np.float32))
    refused("30x30x20x2")
    for sub in ("A", "B"):
        write(val / "labels", {(sub, "1"): tissue()})
    refused("with lesions", thresholds={"ours": str(val / "ours")}, validation=(val / "labels", val / "masks"))


# --- Free-response curves ------------------------------------------------------------------------------------------

# Probabilities of voxels in a row and which of them are lesion; the last two are outside the brain. `test_metrics.py`
# has the same three scans, one by one.
IN_A_ROW = {
    ("A", "1"): ((0, 0.6, 0.9, 0, 0.4, 0, 0.3, 0, 0.7, 0, 0.99), (1, 2, 6, 10)),
    ("A", "2"): ((0.95, 0.15, 0.5, 0.5, 0.15, 0.2, 0.2, 0.2, 0, 0, 0.99), ()),
    ("B", "1"): ((0.2, 0.2, 0.2, 0.2, 0.1, 0.2, 0.4, 0.2, 0.2, 0.2, 0.99), (4,)),
}
# Threshold, lesions found of 3, false lesions in 3 scans.
BY_HAND = ((0.9, 1, 1), (0.5, 1, 3), (0.3, 2, 5), (0.1, 3, 3))


def in_the_middle(row):
    """A row of voxels with air around it."""
    return np.pad(np.reshape(row, (-1, 1, 1)), ((0, 0), (1, 1), (1, 1)))


@pytest.fixture
def rows_of_voxels(tmp_path):
    maps = {key: in_the_middle(np.float32(values)) for key, (values, _) in IN_A_ROW.items()}
    truth = {key: in_the_middle(np.isin(np.arange(11), true).astype(np.uint8)) for key, (_, true) in IN_A_ROW.items()}
    brain = in_the_middle((np.arange(11) < 9).astype(np.uint8))
    write(tmp_path / "labels", truth)
    write(tmp_path / "masks", dict.fromkeys(truth, brain), "desc-brain_mask")
    for name in ("ours", "unsure"):
        write(tmp_path / name, truth)
    write(tmp_path / "ours", maps, "probseg")
    return tmp_path


def test_a_free_response_curve_is_as_on_paper(tmp_path, rows_of_voxels):
    methods = [f"{name}={rows_of_voxels / name}" for name in ("ours", "unsure")]
    done = run(tmp_path / "out", rows_of_voxels / "labels", *methods, "--masks", rows_of_voxels / "masks")
    assert done.returncode == 0, done.stderr
    curve = schema.read_table(tmp_path / "out/froc.csv", "evaluation_froc")
    assert set(curve["method"]) == {"ours"}
    for threshold, found, false in BY_HAND:
        row = look_up(curve, subset="all", threshold=threshold)
        assert (row["n_scans"], row["n_lesions"], row["n_found"], row["n_false"]) == (3, 3, found, false)
        assert row["sensitivity"] == pytest.approx(found / 3, abs=1e-4)
        assert row["false_per_scan"] == pytest.approx(false / 3, abs=1e-5)
        assert row["merging"] == (threshold == 0.1), "fewer false lesions than at 0.3"
    follow_up = look_up(curve, subset="follow-up", threshold=0.5)
    assert (follow_up["n_scans"], follow_up["n_lesions"], follow_up["n_false"]) == (1, 0, 2)
    assert math.isnan(follow_up["sensitivity"])
    summary = schema.read_table(tmp_path / "out/summary.csv", "evaluation_summary")
    at = {rate: look_up(summary, subset="all", score=f"froc_sensitivity_{rate}") for rate in (0.25, 0.5, 1, 2, 8)}
    assert [row["mean"] for row in at.values()] == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 2 / 3], abs=1e-5)
    mean = look_up(summary, subset="all", score="froc_sensitivity")
    assert (mean["n"], mean["mean"]) == (3, pytest.approx(8 / 21, abs=1e-5))
    page = (tmp_path / "out/evaluation.md").read_text()
    assert "| All scans (full) | ours | 3 | 3 | 0.00 | 0.00 | 0.33 | 0.33 | 0.67 | 0.67 | 0.67 | 0.38 |" in page
    assert "No probability maps, hence no curve: unsure." in page
    assert "](froc.svg)" in page
    assert "ours" in (tmp_path / "out/froc.svg").read_text()


def test_small_lesions_can_be_left_out_of_the_curve(tmp_path, rows_of_voxels):
    arguments = [f"ours={rows_of_voxels / 'ours'}", "--masks", rows_of_voxels / "masks", "--froc-min-mm3", "2"]
    assert run(tmp_path / "out", rows_of_voxels / "labels", *arguments).returncode == 0
    curve = schema.read_table(tmp_path / "out/froc.csv", "evaluation_froc")
    for threshold, false in ((0.9, 0), (0.5, 1), (0.3, 1), (0.1, 1)):
        row = look_up(curve, subset="all", threshold=threshold)
        assert (row["min_mm3"], row["n_lesions"], row["n_found"], row["n_false"]) == (2, 1, 1, false)
    assert "whole lesions of 2 mm³ or more" in (tmp_path / "out/evaluation.md").read_text()


def test_without_maps_or_masks_there_is_no_curve_and_the_page_says_why(tmp_path, rows_of_voxels):
    for method, more, why in (("unsure", ["--masks", rows_of_voxels / "masks"], "no method has a probability map"),
                              ("ours", [], "they need brain masks")):  # fmt: skip
        done = run(tmp_path / "out", rows_of_voxels / "labels", f"{method}={rows_of_voxels / method}", *more)
        assert done.returncode == 0, done.stderr
        assert len(schema.read_table(tmp_path / "out/froc.csv", "evaluation_froc")) == 0
        assert f"No curves: {why}" in (tmp_path / "out/evaluation.md").read_text()
        assert "no probability map" in (tmp_path / "out/froc.svg").read_text()


# --- Bad input -----------------------------------------------------------------------------------------------------


def test_a_method_that_lacks_a_session_is_refused(tmp_path):
    labels = write(tmp_path / "l", TRUTH)
    ours = write(tmp_path / "ours", {key: data for key, data in TRUTH.items() if key[0] != "B"})
    with pytest.raises(InputError, match="sub-B_ses-1"):
        scoring.score_methods({"ours": ours}, labels)


def test_a_prediction_without_labels_is_refused_unless_it_is_excluded(tmp_path):
    ours = write(tmp_path / "ours", TRUTH)
    labels = write(tmp_path / "l", {key: data for key, data in TRUTH.items() if key[0] != "B"})
    with pytest.raises(InputError, match="without labels: sub-B_ses-1"):
        scoring.score_methods({"ours": ours}, labels)
    scans, *_ = scoring.score_methods({"ours": ours}, labels, Settings(labelled_only=True))
    assert set(scans["participant_id"]) == {"sub-A", "sub-C"}


def test_a_file_that_is_prediction_and_label_is_refused(tmp_path, folders):
    with pytest.raises(InputError, match="at once"):
        scoring.score_methods({"ours": folders["labels"]}, folders["labels"])
    (tmp_path / "link").symlink_to(folders["labels"])
    with pytest.raises(InputError, match="at once"):
        scoring.score_methods({"ours": tmp_path / "link"}, folders["labels"])


def test_labels_that_are_none_and_grids_that_differ_are_refused(tmp_path):
    labels = write(tmp_path / "l", {("A", "1"): tissue(ONE)})
    strange = write(tmp_path / "strange", {("A", "1"): tissue(((3, 3, 3), 6, 4))})
    other = write(tmp_path / "other", {("A", "1"): tissue(ONE)[:-1]})
    with pytest.raises(InputError, match=r"labels \[4\]"):
        scoring.score_methods({"ours": strange}, labels)
    with pytest.raises(GridMismatchError, match="one voxel grid"):
        scoring.score_methods({"ours": other}, labels)
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        with pytest.raises(InputError, match="no tissue map"):
            inputs.find_maps(tmp_path / name)
    write(labels, {("A", "1"): tissue(ONE)}, "desc-tissue_dseg")
    with pytest.raises(InputError, match="one dseg per session"):
        inputs.find_maps(labels)


def test_the_command_says_what_is_wrong_without_a_traceback(tmp_path, folders):
    done = run(tmp_path / "out", tmp_path / "nowhere", f"ours={folders['ours']}")
    assert done.returncode == 1
    assert done.stderr.startswith(str(tmp_path / "nowhere"))
    assert "Traceback" not in done.stderr


def test_what_is_no_method_is_refused(folders):
    for arguments in (["ours"], ["=a"], ["a=b", "a=c"]):
        with pytest.raises(InputError, match="NAME=VALUE"):
            scoring.read_pairs(arguments, example="ours=a/b")
    scans, *_ = scoring.score_methods({"ours": folders["ours"]}, folders["labels"])
    with pytest.raises(InputError, match="one of ours"):
        statistics.compare_methods(scans, "theirs")


def test_labels_without_a_single_lesion_give_tables_all_the_same(tmp_path):
    labels, ours = (write(tmp_path / n, {("A", "1"): tissue()}) for n in ("l", "o"))
    scoring.evaluate({"ours": ours}, labels, tmp_path / "out")
    summary = schema.read_table(tmp_path / "out/summary.csv", "evaluation_summary")
    assert look_up(summary, subset="all", tissue="whole", score="dsc")["n"] == 0
    assert look_up(summary, subset="all", tissue="whole", score="n_false")["mean"] == 0
    assert len(schema.read_table(tmp_path / "out/lesions.csv", "evaluation_lesions")) == 0
    assert "1 scans of 1 patients, 0 lesions" in (tmp_path / "out/evaluation.md").read_text()
