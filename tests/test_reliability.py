"""Jobs that fail and runs that are killed: the rest is finished, nothing is half, and the same command goes on.

    python tests/test_reliability.py KILLS

kills a run as often as that, and holds its results against those of a run that was left alone.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from plums import ROOT, add_visit, command, plum, run, start_dataset, table_of

# Python's own start-up puts this in the way of every job: those that are named fail, or are killed, once begun.
SABOTAGE = """
import contextlib, os, sys
if "SABOTAGE" in os.environ and any(".snakemake/scripts" in word for word in sys.orig_argv):
    from pathlib import Path
    from mettrail import jobs
    kept = jobs.job
    @contextlib.contextmanager
    def job(snakemake, **how):
        with kept(snakemake, **how) as output:
            log = Path(snakemake.log[0])
            told = f"{log.parent.name}/{log.stem}" in os.environ["SABOTAGE"].split()
            if told and log.parent.name == "assess":
                from mettrail.response import assessment
                assess = assessment.assess
                def fail_once(*given, **how):
                    assessment.assess = assess
                    raise RuntimeError("sabotage")
                assessment.assess = fail_once
            elif told:
                raise RuntimeError("sabotage")
            if f"{log.parent.name}/{log.stem}:kill" in os.environ["SABOTAGE"].split():
                os.kill(os.getpid(), 9)
            yield output
    jobs.job = job
"""
# Each stage fails once: of which patient, at which visit (None: a job of all visits).
STAGES = {
    "debias": ("A", 1), "strip": ("A", 2), "preprocess": ("A", 3), "segment": ("A", 4),
    "segment_fuse": ("B", 1), "measure": ("B", 2), "match": ("B", 3), "report_session": ("B", 4),
    "segment_followup": ("C", 2), "propagate": ("C", 3), "register": ("C", 4),
    "register_reference": ("D", 2), "report_lesions": ("D", None),
    "report_patient": ("E", None),
    "assess": ("F", None),
}  # fmt: skip
# Visits without masks, which the networks read.
UNDRAWN = (("A", 4), ("C", 2), ("C", 3), ("C", 4))
VISITS = {"well": 2, "A": 4, "B": 4, "C": 4, "D": 2, "E": 1, "F": 1}


def unit_of(stage):
    sub, ses = STAGES[stage]
    return f"sub-{sub}_ses-{ses}" if ses else f"sub-{sub}"


@pytest.fixture(scope="module")
def sabotaged(tmp_path_factory):
    """A run in which each stage fails once; in one patient nothing does."""
    folder = tmp_path_factory.mktemp("sabotage")
    start_dataset(folder)
    for n, (sub, visits) in enumerate(VISITS.items()):
        for ses in range(1, visits + 1):
            scan, labels = plum(100 + 10 * n + ses, [((8, 4, 2), 13 - ses)])
            add_visit(folder, sub, str(ses), scan, None if (sub, ses) in UNDRAWN else labels)
    (folder / "sitecustomize.py").write_text(SABOTAGE)
    words = [f"{stage}/{unit_of(stage)}" + ":kill" * (stage == "measure") for stage in STAGES]
    env = {"SABOTAGE": " ".join(words), "PYTHONPATH": f"{folder}:{ROOT}/scripts"}
    return folder, run(folder, env=env)


def test_a_job_of_every_stage_fails_and_one_pass_finishes_the_rest(sabotaged):
    folder, done = sabotaged
    assert done.returncode == 1
    assert done.stderr.count("Job stats:") + done.stdout.count("Job stats:") == 1, "one pass"
    assert "Traceback" not in done.stdout + done.stderr
    sessions = table_of(folder, "sessions").set_index(["participant_id", "session_id"])
    out = dict.fromkeys(sessions.index)
    for stage, (sub, ses) in STAGES.items():
        if ses and stage != "report_session":
            out[f"sub-{sub}", f"ses-{ses}"] = f"failed_{stage}"
    out["sub-F", "ses-1"] = "failed_assess"
    assert {key: reason if isinstance(reason, str) else None for key, reason in sessions["ne_reason"].items()} == out
    assert len(table_of(folder, "patients")) == len(VISITS)
    for stage in STAGES:
        assert f"FAILED {stage} of {unit_of(stage)}" in done.stderr
        assert f"<td>{stage}</td>" in (folder / "out/index.html").read_text()
    pages = {path.stem for path in (folder / "out").glob("sub-*.html") if "_viewer" not in path.name}
    assert pages == {f"sub-{sub}" for sub in VISITS} - {"sub-E"}, "all but the one that failed"


def test_nothing_that_stands_in_for_an_output_stays(sabotaged):
    folder, _ = sabotaged
    files = [path for path in (folder / "out").rglob("*") if path.is_file()]
    assert not [path for path in files if path.read_bytes()[:10] == b"mettrail: "]
    assert not list((folder / "out").rglob(".unfinished*"))


def test_the_next_run_tries_what_failed_again_and_nothing_is_left_of_it(sabotaged):
    folder, _ = sabotaged
    untouched = {path: path.stat().st_mtime_ns for path in (folder / "out/sub-well").rglob("*") if path.is_file()}
    done = run(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert table_of(folder, "sessions")["evaluable"].all()
    assert (
        "Nothing was excluded, nothing failed, every session is evaluable." in (folder / "out/index.html").read_text()
    )
    assert {path: path.stat().st_mtime_ns for path in untouched} == untouched
    again = run(folder)
    assert "Nothing to be done" in again.stdout + again.stderr


def digests(folder):
    """Digests of all results; not of logs, times, and lock files."""
    out = folder / "out"
    files = [path for path in sorted(out.rglob("*")) if path.is_file()]
    files = [path for path in files if path.relative_to(out).parts[0] not in ("logs", "benchmarks")]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def make_two(folder):
    start_dataset(folder)
    for n, sub in enumerate("AB"):
        for ses, diameter in ((1, 12), (2, 8)):
            add_visit(folder, sub, str(ses), *plum(300 + 10 * n + ses, [((8, 4, 2), diameter)]))


def kill_and_repeat(folder, kills, rng, *, longest_s):
    """Type the same command again and again, killed at random moments; at last let it be. Returns how that went."""
    killed = 0
    while killed < kills:
        process = subprocess.Popen(
            command(folder), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            process.wait(timeout=rng.uniform(2, longest_s))
        except subprocess.TimeoutExpired:
            # Every other time its jobs are killed with it, else they find out by themselves.
            (os.kill if killed % 2 else os.killpg)(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
        else:
            assert process.returncode == 0
            shutil.rmtree(folder / "out")
    return run(folder)


def compare_after_kills(folder, kills, seed, *, longest_s):
    """Return what differs between results of a killed run and of one that was left alone; nothing should."""
    make_two(folder)
    assert run(folder).returncode == 0
    theirs = digests(folder)
    shutil.rmtree(folder / "out")
    done = kill_and_repeat(folder, kills, random.Random(seed), longest_s=longest_s)
    assert done.returncode == 0, done.stdout + done.stderr
    ours = digests(folder)
    return sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))


def test_after_kills_the_same_command_goes_on_to_the_same_results(tmp_path):
    assert compare_after_kills(tmp_path, kills=5, seed=int(time.time()), longest_s=12) == []


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        differing = compare_after_kills(Path(folder), int(sys.argv[1]), seed=1, longest_s=25)
        print(f"{sys.argv[1]} kills; files that differ: {differing or 'none'}")


def test_what_adds_to_lesions_fails_and_they_stay(tmp_path):
    """Two scans of 0.8 mm: of one patient the second look fails, of the other drawing cavities."""
    start_dataset(tmp_path)
    for sub in "LM":
        scan, _ = plum(90, [((8, 4, 2), 14)])
        add_visit(tmp_path, sub, "1", scan)
        (path,) = (tmp_path / f"bids/sub-{sub}").rglob("*.nii.gz")
        nib.save(nib.Nifti1Image(scan, np.diag([0.8, 0.8, 0.8, 1])), path)
    (tmp_path / "sitecustomize.py").write_text(SABOTAGE)
    env = {
        "SABOTAGE": "segment_fine/sub-M_ses-1 segment_cavity/sub-L_ses-1",
        "PYTHONPATH": f"{tmp_path}:{ROOT}/scripts",
    }
    done = run(tmp_path, "--config", "labels={'folder': ''}", "--", "tables", env=env)
    for failed in ("segment_fine of sub-M_ses-1", "segment_cavity of sub-L_ses-1"):
        assert f"FAILED {failed}" in done.stdout + done.stderr
    sessions = table_of(tmp_path, "sessions")
    assert sessions["evaluable"].tolist() == [True, True]
    lesions = table_of(tmp_path, "lesions").query("certainty == 'confirmed'")
    volumes = {sub: each["vol_wl_mm3"].tolist() for sub, each in lesions.groupby("participant_id")}
    assert volumes["sub-L"] == volumes["sub-M"] != []
    facts = [json.loads(path.read_text()) for path in sorted((tmp_path / "out").rglob("*_desc-tissue_dseg.json"))]
    assert [each["FullResolution"] for each in facts] == [True, False]
    assert ["cavity" in each["Networks"] for each in facts] == [False, True]
