"""The graph: what would be done, on BIDS trees of every awkward shape, without doing it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import warm
from conftest import write_bids, write_scan

ROOT = Path(__file__).parents[1]
CE = "ce-gadolinium_T1w"


def snakemake(*arguments, cwd=ROOT):
    command = [warm.python(), "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "2", *arguments]
    return subprocess.run(map(str, command), cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def test_no_network_library_is_imported_to_read_the_workflow():
    """Each start would take seconds longer, and on a cluster each job is a start."""
    lines = (ROOT / "workflow" / "common.smk").read_text().splitlines()
    wanted = "\n".join(line for line in lines if line.startswith("from mettrail"))
    code = f"{wanted}\nimport sys\nprint([name for name in ('torch', 'nnunetv2', 'monai') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
    assert "study" in wanted


def plan(bids, out, *config, targets=()):
    """Dry-run; return how many jobs of each rule there would be."""
    done = snakemake("--dry-run", *targets, "--config", f"bids={bids}", f"out={out}", *config)
    assert done.returncode == 0, done.stdout + done.stderr
    stats = done.stdout.split("Job stats:")[1].split("\n\n")[0] if "Job stats:" in done.stdout else ""
    return {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", stats, re.MULTILINE)}


def test_a_single_visit_needs_no_prior(tmp_path):
    jobs = plan(write_bids(tmp_path / "bids", {"A": {"1": [CE]}}), tmp_path / "out")
    assert jobs["segment"] == jobs["match"] == jobs["assess"] == 1
    assert "register" not in jobs
    assert "propagate" not in jobs
    assert "segment_followup" not in jobs


def test_uneven_patients_get_as_many_jobs_as_they_have_visits(tmp_path):
    tree = {"A": {str(n): [CE] for n in range(1, 6)}, "B": {"1": [CE, "FLAIR"]}, "C": {"1": [CE], "2": ["T1w"]}}
    jobs = plan(write_bids(tmp_path / "bids", tree), tmp_path / "out")
    assert jobs["segment"] == 7
    assert jobs["register"] == jobs["segment_followup"] == 4
    assert jobs["register_sequence"] == jobs["segment_edema"] == 1, "FLAIR, where there is one, is for edema alone"
    assert jobs["assess"] == jobs["report_lesions"] == jobs["report_patient"] == 3
    assert jobs["report"] == 1


def test_sequences_decide_which_model_runs_and_no_fit_is_excluded(tmp_path):
    """T2w first, else the post-contrast T1w alone; then a re-segmentation model that the second visit does not fit."""
    for task in ("detection", "resegmentation"):
        model = tmp_path / f"{task}_t2"
        model.mkdir()
        card = json.loads((ROOT / f"resources/models/{task}/mettrail.json").read_text())
        card["channels"].insert(1, "T2w")
        (model / "mettrail.json").write_text(json.dumps(card))
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": [CE], "3": [CE, "T2w"]}})
    shipped = "resources/models/detection"
    listed = f"segment={{'models': {{'detection': ['{tmp_path}/detection_t2', '{shipped}']}}}}"
    jobs = plan(bids, tmp_path / "out", listed)
    assert (jobs["segment"], jobs["segment_followup"], jobs["register_sequence"]) == (3, 2, 1)
    listed = listed.replace("}}", f", 'resegmentation': '{tmp_path}/resegmentation_t2'}}}}")
    jobs = plan(bids, tmp_path / "out", listed)
    assert (jobs["segment"], jobs["segment_followup"], jobs["register_sequence"]) == (2, 1, 1)


def test_the_tables_wait_for_no_picture(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": [CE]}})
    jobs = plan(bids, tmp_path / "out", targets=["tables"])
    assert (jobs["tables"], jobs["assess"]) == (1, 1)
    assert not [name for name in jobs if name.startswith("report")]


@pytest.mark.parametrize(("rule", "jobs"), [("detection", (3, 0)), ("resegmentation", (1, 2)), ("propagation", (1, 0))])
def test_what_a_fusion_rule_does_not_need_is_not_run(tmp_path, rule, jobs):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": [CE], "3": [CE]}})
    planned = plan(bids, tmp_path / "out", f"segment={{'fusion': {{'rule': '{rule}'}}}}")
    assert tuple(planned.get(name, 0) for name in ("segment", "segment_followup")) == jobs
    # The film strips show the prior in any case.
    assert planned["propagate"] == 2


def test_edema_is_drawn_where_there_is_flair_and_a_network_for_it(tmp_path):
    tree = {"A": {"1": [CE, "FLAIR"], "2": [CE, "T2w"], "3": [CE, "FLAIR"]}}
    bids = write_bids(tmp_path / "bids", tree)
    assert plan(bids, tmp_path / "out")["segment_edema"] == 2
    assert "segment_edema" not in plan(bids, tmp_path / "out", "segment={'models': {'edema': []}}")
    assert "segment_edema" not in plan(bids, tmp_path / "out", "sequences=[]")
    assert plan(bids, tmp_path / "out", "segment={'fusion': {'rule': 'propagation'}}")["segment_edema"] == 1
    write_masks(tmp_path / "masks", "sub-A_ses-1")
    given = f"labels={{'folder': '{tmp_path}/masks', 'sessions': []}}"
    assert plan(bids, tmp_path / "out", given)["segment_edema"] == 1


def test_cavities_are_drawn_where_networks_find_the_lesions(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": [CE]}})
    assert plan(bids, tmp_path / "out")["segment_cavity"] == 2
    assert "segment_cavity" not in plan(bids, tmp_path / "out", "segment={'models': {'cavity': []}}")
    # The lesions of the second visit are those of the first.
    assert plan(bids, tmp_path / "out", "segment={'fusion': {'rule': 'propagation'}}")["segment_cavity"] == 1
    write_masks(tmp_path / "masks", "sub-A_ses-1")
    given = f"labels={{'folder': '{tmp_path}/masks', 'sessions': []}}"
    assert plan(bids, tmp_path / "out", given)["segment_cavity"] == 1


def test_scans_finer_than_1_mm_are_looked_at_again(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": [CE]}})
    scan = bids / f"sub-A/ses-2/anat/sub-A_ses-2_{CE}.nii.gz"
    write_scan(scan, affine=np.diag([0.6, 0.6, 0.9, 1]))
    assert plan(bids, tmp_path / "out")["segment_fine"] == 1
    assert "segment_fine" not in plan(bids, tmp_path / "out", "segment={'full_resolution_below_mm': 0}")
    assert "segment_fine" not in plan(bids, tmp_path / "out", "segment={'fusion': {'rule': 'resegmentation'}}")
    write_masks(tmp_path / "masks", "sub-A_ses-2")
    given = f"labels={{'folder': '{tmp_path}/masks', 'sessions': []}}"
    assert "segment_fine" not in plan(bids, tmp_path / "out", given)


def test_a_sensitive_model_runs_where_listed_and_detection_is_wanted(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": [CE]}})
    models = "'models': {'detection_sensitive': 'resources/models/detection'}"
    assert plan(bids, tmp_path / "out", f"segment={{{models}}}")["segment_sensitive"] == 2
    propagation = f"segment={{{models}, 'fusion': {{'rule': 'propagation'}}}}"
    assert plan(bids, tmp_path / "out", propagation)["segment_sensitive"] == 1
    assert "segment_sensitive" not in plan(bids, tmp_path / "out")


def test_all_sequences_are_aligned_when_asked_for(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE, "FLAIR", "T2w"], "2": ["T2w"]}})
    assert plan(bids, tmp_path / "out", targets=["preprocess_all"])["register_sequence"] == 2


def test_a_patient_without_a_usable_visit_is_still_assessed_and_shown(tmp_path):
    jobs = plan(write_bids(tmp_path / "bids", {"A": {"1": ["T2w"]}}), tmp_path / "out")
    assert set(jobs) == {"all", "assess", "tables", "report", "report_lesions", "report_patient", "total"}


def test_each_visit_is_registered_to_the_one_before_it_in_time(tmp_path):
    days = {"x": {"acq_time": "2020-03-01T00:00:00"}, "y": {"acq_time": "2020-01-01T00:00:00"}}
    bids = write_bids(tmp_path / "bids", {"A": {"x": [CE], "y": [CE]}}, {"A": days})
    target = f"{tmp_path}/out/sub-A/ses-x/anat/sub-A_ses-x_from-prior_to-session_mode-image_xfm.json"
    jobs = plan(bids, tmp_path / "out", targets=[target])
    assert jobs["register"] == 1
    done = snakemake("--dry-run", target.replace("ses-x", "ses-y"), "--config", f"bids={bids}", f"out={tmp_path}/out")
    assert done.returncode != 0, "the first visit in time has no prior"


def test_given_labels_stand_in_for_both_networks(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": [CE]}})
    for ses in "12":
        write_scan(tmp_path / f"masks/sub-A/ses-{ses}/anat/sub-A_ses-{ses}_dseg.nii.gz", np.ones((9, 10, 11), np.uint8))
    jobs = plan(bids, tmp_path / "out", f"labels={{'folder': '{tmp_path}/masks', 'sessions': []}}")
    assert "segment" not in jobs
    assert "segment_followup" not in jobs
    assert jobs["segment_fuse"] == 2
    jobs = plan(bids, tmp_path / "out", f"labels={{'folder': '{tmp_path}/masks', 'sessions': ['1']}}")
    assert jobs["segment"] == jobs["segment_followup"] == 1


def write_masks(folder, *names):
    for name in names:
        sub, ses = name.split("_")
        write_scan(folder / sub / ses / "anat" / f"{name}_dseg.nii.gz", np.ones((9, 10, 11), np.uint8))


def test_training_prepares_what_it_is_trained_on_and_nothing_else(tmp_path):
    tree = {"A": {"1": [CE], "2": [CE, "T2w"], "3": [CE]}, "B": {"1": [CE], "2": [CE]}, "C": {"1": [CE]}}
    bids = write_bids(tmp_path / "bids", tree)
    write_masks(tmp_path / "masks", "sub-A_ses-1", "sub-A_ses-2", "sub-B_ses-2")
    labels = f"labels={{'folder': '{tmp_path}/masks', 'sessions': []}}"

    def jobs(**settings):
        found = plan(bids, tmp_path / "out", labels, f"train={settings}", targets=["train"])
        return {name: count for name, count in found.items() if name not in ("total", "train")}

    always = {"train_dataset": 1, "train_plan": 1, "train_model": 1}
    images = {"debias": 3, "strip": 3, "preprocess": 3}
    assert jobs(task="1.1", folds=2) == always | images | {"train_fold": 2}
    with_t2 = {"debias_sequence": 1, "register_sequence": 1}
    two = jobs(task="1.2", folds=2, trainers=["dice_ce", "specific"], sequences=["T2w"], optional=["T2w"])
    assert two == always | images | with_t2 | {"train_fold": 4}
    # A's second visit alone follows one with masks; B's first has none, and no network's are taken for them.
    with_prior = {"register": 1, "register_reference": 1, "propagate": 1, "segment_fuse": 1}
    assert jobs(task="2.2", folds=2) == always | images | with_prior | {"train_fold": 2}


def test_methods_are_compared_on_the_same_sessions_of_chosen_patients(tmp_path):
    four = [CE, "T1w", "T2w", "FLAIR"]
    tree = {sub: {"1": four} for sub in "ABCDE"} | {"F": {"1": [CE, "T1w", "T2w"]}}
    bids = write_bids(tmp_path / "bids", tree)
    write_masks(tmp_path / "masks", *(f"sub-{sub}_ses-1" for sub in tree))
    labels = f"labels={{'folder': '{tmp_path}/masks', 'sessions': []}}"

    def compared_on(*methods, **settings):
        """The patients whose scans the first method is given to predict, and how many are prepared in all."""
        chosen = {"methods": list(methods), **settings}
        done = snakemake(
            "--dry-run", "compare", "--config", f"bids={bids}", f"out={tmp_path}/out", labels, f"compare={chosen}"
        )
        assert done.returncode == 0, done.stdout + done.stderr
        given = re.search(r"rule compare_predict:\n    input: (.*)", done.stdout)[1]
        return set(re.findall(r"sub-(\w)/", given)), int(re.search(r"^debias +(\d+)$", done.stdout, re.MULTILINE)[1])

    # F lacks what one method needs, and is left out of both.
    assert compared_on("unet", test_patients=["B", "C"]) == ({"B", "C"}, 6)
    assert compared_on("unet", "googlenet", test_patients=["B", "C"]) == ({"B", "C"}, 5)
    (bids / "participants.tsv").write_text("participant_id\tsplit\nsub-D\ttest\n")
    assert compared_on("unet") == ({"D"}, 6)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (["train={'test_patients': ['A']}"], "no usable session with lesion masks"),
        (["train={'task': '3.1'}"], "train.task"),
        (["train={'sequences': ['FLAIR']}"], "none of which has FLAIR"),
        (["train={'trainers': ['unet']}"], "train.trainers"),
    ],
)
def test_a_training_that_cannot_work_is_refused_before_anything_runs(tmp_path, config, said):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE]}})
    write_masks(tmp_path / "masks", "sub-A_ses-1")
    labels = f"labels={{'folder': '{tmp_path}/masks', 'sessions': []}}"
    done = snakemake("--dry-run", "train", "--config", f"bids={bids}", f"out={tmp_path}/out", labels, *config)
    assert done.returncode != 0
    text = done.stdout + done.stderr
    assert said in text
    assert "to do:" in text
    assert "most recent call last" not in text


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (["bids=nowhere"], "nowhere"),
        (["bds=x"], "Did you mean bids?"),
        (["register={'engine': 'elastix'}"], "register.engine"),
    ],
)
def test_what_cannot_work_is_said_before_anything_runs(tmp_path, config, said):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE]}})
    done = snakemake("--dry-run", "--config", f"bids={bids}", f"out={tmp_path}/out", *config)
    assert done.returncode != 0
    text = done.stdout + done.stderr
    assert said in text
    assert "to do:" in text
    assert "Traceback" not in text


def test_hd_bet_without_weights_asks_for_fetch_and_falls_back_to_nothing(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE]}})
    done = snakemake(
        "--dry-run", "--config", f"bids={bids}", f"out={tmp_path}/out",
        f"strip={{'method': 'hd-bet', 'hd_bet_weights': '{tmp_path}/none.pth'}}",
    )  # fmt: skip
    assert done.returncode != 0
    assert "snakemake --cores 1 fetch" in done.stdout + done.stderr


def test_the_workflow_is_lint_free(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE]}})
    done = snakemake("--lint", "--config", f"bids={bids}", f"out={tmp_path}/out")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_dry_run_writes_nothing(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": [CE]}})
    (bids / "sub-A/notes.nii.gz").touch()
    done = snakemake("--dry-run", "--config", f"bids={bids}", f"out={tmp_path}/out")
    assert done.returncode == 0
    assert not (tmp_path / "out").exists()
    assert "NOT USED sub-A/notes.nii.gz: wrong_folder" in done.stderr, "and still says what it would say"


def test_the_workstations_profile_is_used_from_any_folder(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE]}})
    done = snakemake("--dry-run", "--config", f"bids={bids}", f"out={tmp_path}/out", cwd=tmp_path)
    assert f"{ROOT}/profiles/default" in done.stderr


def test_weights_are_fetched_without_a_dataset(tmp_path):
    done = snakemake("--dry-run", "fetch", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "rule fetch" in done.stdout or "Nothing to be done" in done.stdout + done.stderr


def test_results_over_the_dataset_are_refused_before_anything_is_written(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE]}})
    before = sorted(tmp_path.rglob("*"))
    done = snakemake("--config", f"bids={bids}", f"out={bids}", cwd=ROOT)
    assert done.returncode == 1
    assert "expected: a folder of its own" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_second_run_on_the_same_results_is_refused_and_told_who_writes(tmp_path):
    """Also from another working folder, where Snakemake's own lock is not seen."""
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE]}})
    holder = (
        f"from mettrail import results; results.lock({str(tmp_path / 'out')!r}); print('held', flush=True); input()"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT / "scripts")}
    first = subprocess.Popen([sys.executable, "-c", holder], stdin=-1, stdout=-1, env=env, cwd=tmp_path, text=True)
    try:
        assert first.stdout.readline() == "held\n"
        done = snakemake("--config", f"bids={bids}", f"out={tmp_path}/out", cwd=ROOT)
        assert done.returncode == 1
        assert f"process {first.pid} on" in done.stderr
        assert "is writing here" in done.stderr
        assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["lock.json", "logs"]
    finally:
        first.kill()
