"""Methods are scored on the same scans, and the tables say what the papers' do."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, write_scan
from mettrail import evaluation
from mettrail.errors import InputError
from mettrail.images import Image

SHAPE = (30, 30, 20)


def tissue(*blocks):
    """Blocks of labels: (corner, size, label)."""
    out = np.zeros(SHAPE, np.uint8)
    for corner, size, label in blocks:
        out[tuple(slice(c, c + size) for c in corner)] = label
    return out


def write(folder, maps):
    for (sub, ses), data in maps.items():
        write_scan(folder / f"sub-{sub}/ses-{ses}/anat/sub-{sub}_ses-{ses}_dseg.nii.gz", data)
    return folder


ONE, OTHER = ((3, 3, 3), 6, 1), ((18, 18, 8), 6, 1)
TRUTH = {
    ("A", "1"): tissue(ONE, ((5, 5, 5), 2, 3)), ("A", "2"): tissue(ONE, OTHER), ("B", "1"): tissue(OTHER),
    ("C", "1"): tissue(OTHER, ((2, 20, 2), 4, 2)), ("C", "2"): tissue(),
}  # fmt: skip
MISSES_ONE = TRUTH | {("A", "2"): tissue(OTHER), ("B", "1"): tissue(((18, 18, 8), 5, 1)), ("C", "1"): tissue(OTHER)}


def test_a_perfect_prediction_is_perfect_and_empty_tissues_are_said_to_be():
    image = Image(TRUTH["A", "1"], np.eye(4))
    rows = pd.DataFrame(evaluation.score_scan(image, image)).set_index("tissue")
    assert rows.loc[["whole", "enhancing", "necrosis"], ["dsc", "ndsc", "f1", "lesionwise_dsc"]].eq(1).all(axis=None)
    assert rows["empty"].to_dict() == {"whole": False, "enhancing": False, "edema": True, "necrosis": False}
    assert rows.loc["whole", "truth_mm3"] == 216
    assert rows.loc["necrosis", "truth_mm3"] == 8


def test_a_missed_lesion_and_a_false_one_are_counted():
    truth, found = tissue(ONE, OTHER), tissue(ONE, ((20, 3, 3), 2, 1))
    (row,) = [
        r for r in evaluation.score_scan(Image(found, np.eye(4)), Image(truth, np.eye(4))) if r["tissue"] == "whole"
    ]
    assert (row["tpr"], row["precision"], row["f1"], row["dsc_found"]) == (0.5, 0.5, 0.5, 1)
    assert (row["n_false"], row["n_false_10mm3"]) == (1, 0)
    assert row["dsc"] == pytest.approx(2 * 216 / (2 * 216 + 8 + 216))
    lesions = evaluation.score_lesions(Image(found, np.eye(4)), Image(truth, np.eye(4)))
    assert [(r["volume_mm3"], r["found"], r["dsc"]) for r in lesions] == [(216, True, 1), (216, False, 0)]


def test_the_tables_of_two_methods(tmp_path):
    labels, ours, theirs = (write(tmp_path / n, m) for n, m in (("l", TRUTH), ("ours", TRUTH), ("theirs", MISSES_ONE)))
    command = [sys.executable, "scripts/evaluate.py", "--labels", labels, "--out", tmp_path / "out"]
    done = subprocess.run(
        [*map(str, command), f"ours={ours}", f"theirs={theirs}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    table = {
        n: pd.read_csv(tmp_path / "out" / f"{n}.csv")
        for n in ("scans", "lesions", "summary", "tests", "size", "groups")
    }
    assert len(table["scans"]) == 2 * 5 * 4
    assert len(table["lesions"]) == 2 * 5
    summary = table["summary"].set_index(["method", "tissue", "subset"])
    assert summary.loc[("ours", "whole", "all"), ["n_scans", "n_scored", "dsc", "f1"]].tolist() == [5, 4, 1, 1]
    assert summary.loc[("theirs", "whole", "first"), "n_scans"] == 3
    assert summary.loc[("theirs", "whole", "follow-up"), "tpr"] == 0.5
    assert summary.loc[("theirs", "edema", "all"), "dsc"] == 0
    tests = table["tests"].set_index(["tissue", "score"])
    better = tests.loc[("whole", "dsc")]
    assert (better["method"], better["against"], better["n_patients"]) == ("ours", "theirs", 3)
    assert 0 < better["p"] < 0.5
    assert tests.loc[("whole", "n_false"), "p"] != tests.loc[("whole", "n_false"), "p"], "no difference, no test"
    assert set(table["size"]["lesions"]) == {"all", "found"}
    assert set(table["groups"]["score"]) == {"dsc", "tpr", "n_false_10mm3"}


def test_a_method_that_lacks_a_session_is_refused(tmp_path):
    labels = write(tmp_path / "l", TRUTH)
    ours = write(tmp_path / "ours", {key: data for key, data in TRUTH.items() if key[0] != "B"})
    with pytest.raises(InputError, match="sub-B_ses-1"):
        evaluation.score_methods({"ours": ours}, labels)


def test_labels_that_are_none_and_grids_that_differ_are_refused(tmp_path):
    labels = write(tmp_path / "l", {("A", "1"): tissue(ONE)})
    strange = write(tmp_path / "strange", {("A", "1"): tissue(((3, 3, 3), 6, 4))})
    other = write(tmp_path / "other", {("A", "1"): tissue(ONE)[:-1]})
    for folder, said in ((strange, "4"), (other, "grid")):
        with pytest.raises(InputError, match=said):
            evaluation.score_methods({"ours": folder}, labels)
    with pytest.raises(InputError, match="no tissue map"):
        evaluation.find_maps(tmp_path / "nowhere")


def test_the_domain_of_ndsc_is_the_brain_mask(tmp_path):
    labels, ours = (
        write(tmp_path / n, {("A", "1"): m}) for n, m in (("l", tissue(ONE)), ("o", tissue(((3, 3, 3), 7, 1))))
    )
    brain = np.zeros(SHAPE, np.uint8)
    brain[:15, :15, :15] = 1
    write_scan(tmp_path / "m/sub-A/ses-1/anat/sub-A_ses-1_desc-brain_mask.nii.gz", brain)
    whole, _ = evaluation.score_methods({"ours": ours}, labels)
    masked, _ = evaluation.score_methods({"ours": ours}, labels, tmp_path / "m")
    assert masked["dsc"].equals(whole["dsc"])
    assert masked.loc[0, "ndsc"] < whole.loc[0, "ndsc"]
    with pytest.raises(InputError, match="0 brain masks"):
        evaluation.score_methods({"ours": ours}, labels, tmp_path / "l")


def test_what_is_no_method_is_refused():
    for arguments in (["ours"], ["=a"], ["a=b", "a=c"]):
        with pytest.raises(InputError, match="NAME=FOLDER"):
            evaluation.read_methods(arguments)
    with pytest.raises(InputError, match="reference"):
        evaluation.compare_methods(pd.DataFrame({"method": ["a"], "empty": [False]}), "b")
