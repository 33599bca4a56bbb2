"""The demonstration, as `make demo` runs it, against its truth: with the shipped models, then with true masks given."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from compare_with_truth import compare, judge_responses, judge_treatments

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.demo


def run(*command):
    return subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False)


def snakemake(folder, *arguments, offline=False):
    """Run the demonstration in a folder; without any network where this may be cut off."""
    command = ["-m", "snakemake", "--cores", "2", "--configfile", ROOT / "config/demo.yaml"]
    extra = [a for a in arguments if "=" in str(a)]
    flags = [a for a in arguments if "=" not in str(a)]
    command += [*flags, "--config", f"bids={folder}/bids", f"out={folder}/out", *extra]
    if offline and shutil.which("unshare") and subprocess.run(["unshare", "-n", "true"], check=False).returncode == 0:
        return subprocess.run(
            ["unshare", "-n", sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False
        )
    return run(*command)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    done = run("scripts/phantom.py", "--spec", "config/phantom_demo.yaml", "--seed", 1, "--out", folder / "bids")
    assert done.returncode == 0, done.stderr
    done = snakemake(folder, offline=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def wrong_responses(folder):
    expected = pd.read_csv(folder / "bids/derivatives/truth-instances/responses.tsv", sep="\t", keep_default_na=False)
    rows = judge_responses(folder / "out", expected)
    return rows[rows.expected.ne("n/a") & rows.expected.ne(rows.response_imaging_final)]


def test_the_shipped_models_find_and_follow_every_lesion(demo):
    lesions, _, wrong = compare(demo / "bids", demo / "out")
    print(lesions.to_string())
    assert not [line for line in wrong if not line.startswith("candidate")]


def test_the_shipped_models_get_every_response_and_no_false_positive(demo):
    assert wrong_responses(demo).empty
    lesions, _, wrong = compare(demo / "bids", demo / "out")
    assert not [line for line in wrong if line.startswith("false")]
    listed = pd.read_csv(demo / "out/tables/lesions.csv")
    listed = listed[listed.role != "candidate"]
    assert set(zip(listed.participant_id, listed.track_id)) <= set(zip(lesions.participant_id, lesions.track))


def test_every_treated_lesion_is_followed_as_it_was_made(demo):
    lesions, *_ = compare(demo / "bids", demo / "out")
    assert judge_treatments(demo / "bids", demo / "out", lesions) == []
    patients = pd.read_csv(demo / "out/tables/patients.csv").set_index("participant_id")
    told = patients[["first_event", "first_event_day", "death_day", "last_contact_day", "salvage_day", "flags"]]
    assert told.loc["sub-01"].tolist()[:2] == ["none", 265]
    assert told.loc["sub-01", "salvage_day"] == 65
    assert told.loc["sub-02"].tolist()[:3] == ["local", 77, 180]


def test_the_second_run_has_nothing_to_do(demo):
    assert "Nothing to be done" in snakemake(demo, "--dry-run").stdout


def test_with_true_masks_all_is_right_and_only_downstream_steps_rerun(demo):
    given = f"labels={{'folder': '{demo}/bids/derivatives/truth', 'sessions': []}}"
    done = snakemake(demo, given)
    assert done.returncode == 0, done.stdout + done.stderr
    rerun = set(re.findall(r"^(?:local)?rule (\w+):", done.stdout + done.stderr, re.MULTILINE)) - {"all"}
    assert rerun == {
        "segment_fuse",
        "measure",
        "match",
        "assess",
        "tables",
        "report",
        "report_session",
        "report_lesions",
        "report_patient",
    }
    lesions, _, wrong = compare(demo / "bids", demo / "out")
    assert wrong == []
    assert (lesions.true_mm3 == lesions.found_mm3).all()
    assert wrong_responses(demo).empty
