"""A job's log, outputs and failures; jobs of small scripts, in processes of their own as Snakemake has them."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from mettrail import jobs

PREAMBLE = """
import pickle, sys
from pathlib import Path
from types import SimpleNamespace
from mettrail import jobs
from mettrail.errors import InputError
from mettrail.reasons import Reason
snakemake = SimpleNamespace(**pickle.loads(Path(sys.argv[1]).read_bytes()))
"""


def start(
    tmp_path, work, *, stage="strip", inputs=None, outputs=("mask.nii.gz",), unit="sub-A_ses-2", how="", env=None
):
    """Start a job whose work is a few lines; its outputs lie in tmp_path/out."""
    out = tmp_path / "out"
    facts = {
        "input": {name: str(path) for name, path in (inputs or {}).items()},
        "output": {Path(name).stem.split(".")[0]: str(out / "sub-A" / name) for name in outputs},
        "log": [str(out / "logs" / stage / f"{unit}.log")],
    }
    (tmp_path / f"{stage}.pickle").write_bytes(pickle.dumps(facts))
    body = "\n".join(f"    {line}" for line in work.splitlines())
    code = f"{PREAMBLE}\nwith jobs.job(snakemake{how}) as output:\n{body}\n"
    return subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / f"{stage}.pickle")],
        env=os.environ | {"PYTHONPATH": str(Path(jobs.__file__).parents[1])} | (env or {}),
    )


def run(tmp_path, work, **how):
    return start(tmp_path, work, **how).wait(timeout=60)


WELL = "Path(output.mask).write_text('a mask')\nprint('seen')"
BADLY = """Path(output.mask).write_text('half a m')
raise InputError('a.nii.gz', found='x', expected='y', advice='z', reason=Reason.NOT_3D)"""


def mask_of(tmp_path):
    return tmp_path / "out" / "sub-A" / "mask.nii.gz"


def test_an_output_is_there_when_the_job_has_ended_well_and_not_before(tmp_path):
    work = (
        f"{WELL}\nassert not Path({str(mask_of(tmp_path))!r}).exists()\nPath(output.mask).with_suffix('.json').touch()"
    )
    assert run(tmp_path, work) == 0
    assert mask_of(tmp_path).read_text() == "a mask"
    assert sorted(path.name for path in mask_of(tmp_path).parent.iterdir()) == ["mask.nii.gz", "mask.nii.json"]
    assert "seen" in (tmp_path / "out/logs/strip/sub-A_ses-2.log").read_text()


# What C and C++ libraries print waits in a buffer of its own; programs that a job starts write past Python.
PRINTS = """import ctypes, subprocess
print('from Python')
ctypes.CDLL(None).printf(b'from C\\n')
subprocess.run(['sh', '-c', 'echo from a program; echo its error >&2'])
"""
PRINTED = ["from Python", "from C", "from a program", "its error"]


@pytest.mark.parametrize("end", [WELL, BADLY], ids=["well", "badly"])
def test_everything_that_is_printed_is_in_the_log_and_nowhere_else(tmp_path, end, capfd):
    run(tmp_path, PRINTS + end, env={"PYTHONUNBUFFERED": ""})
    log = (tmp_path / "out/logs/strip/sub-A_ses-2.log").read_text()
    assert sorted(line for line in log.splitlines() if line in PRINTED) == sorted(PRINTED)
    printed = "\n".join(capfd.readouterr())
    assert not [line for line in PRINTED if line in printed]


def test_after_a_job_output_goes_where_it_went_before(tmp_path, capfd):
    log = tmp_path / "log"
    with pytest.raises(ValueError), log.open("w", buffering=1) as file, jobs.everything_to(file):
        os.write(1, b"within\n")
        raise ValueError
    os.write(1, b"after\n")
    assert (log.read_text(), capfd.readouterr().out) == ("within\n", "after\n")


def test_a_failure_stands_in_for_the_output_and_says_why(tmp_path):
    assert run(tmp_path, BADLY) == 0
    why = jobs.explain(mask_of(tmp_path))
    assert (why.sub, why.ses, why.stage, why.reason, why.skipped) == ("A", "2", "strip", "not_3d", False)
    assert Path(why.log).read_text().rstrip().endswith("to do:    z")
    (failure,) = jobs.read_failures(tmp_path / "out")
    assert (failure["sub"], failure["ses"], failure["stage"], failure["reason"]) == ("sub-A", "2", "strip", "not_3d")
    assert jobs.read_failure(why.log) == why
    assert jobs.read_failure(why.log.replace("strip", "preprocess")) is None
    assert "FAILED strip of sub-A_ses-2: a.nii.gz found: x" in jobs.describe_failures([failure])[0]


def test_what_needs_a_missing_input_passes_the_failure_on_without_working(tmp_path):
    run(tmp_path, BADLY)
    assert run(tmp_path, "Path('/worked').touch()", stage="preprocess", inputs={"mask": mask_of(tmp_path)}) == 0
    assert jobs.explain(mask_of(tmp_path)).stage == "strip"
    assert len(jobs.read_failures(tmp_path / "out")) == 1, "told once"
    assert not Path("/worked").exists()


def test_what_can_do_without_an_input_looks_at_the_failure_itself(tmp_path):
    run(tmp_path, BADLY)
    work = "assert jobs.complete([snakemake.input['mask']]) == []\nPath(output.page).write_text('page')"
    done = run(tmp_path, work, stage="page", inputs={"mask": mask_of(tmp_path)}, outputs=("page.html",),
               how=", failable=('mask',)")  # fmt: skip
    assert done == 0
    assert (tmp_path / "out/sub-A/page.html").read_text() == "page"


def test_what_was_skipped_is_no_failure_and_only_needed_inputs_count(tmp_path):
    assert run(tmp_path, "raise jobs.Skip('no prior')") == 0
    assert jobs.explain(mask_of(tmp_path)).skipped
    assert [f["stage"] for f in jobs.read_failures(tmp_path / "out")] == ["warning"]
    assert jobs.read_failure(jobs.explain(mask_of(tmp_path)).log) is None
    assert jobs.describe_failures(jobs.read_failures(tmp_path / "out")) == []
    work = "assert jobs.given(snakemake.input['mask']) is None\nPath(output.page).touch()"
    run(
        tmp_path,
        work,
        stage="fuse",
        inputs={"mask": mask_of(tmp_path)},
        outputs=("page.html",),
        how=", skippable=('mask',)",
    )
    assert not jobs.explain(tmp_path / "out/sub-A/page.html")


def test_what_needs_a_skipped_input_is_skipped_too(tmp_path):
    run(tmp_path, "raise jobs.Skip('no prior')")
    work = f"Path({str(tmp_path / 'worked')!r}).touch()"
    assert run(tmp_path, work, stage="known", inputs={"mask": mask_of(tmp_path)}, outputs=("page.html",)) == 0
    assert jobs.explain(tmp_path / "out/sub-A/page.html").skipped
    assert not (tmp_path / "worked").exists()


def test_a_killed_job_says_so_and_leaves_no_half_file(tmp_path):
    assert run(tmp_path, "import os\nPath(output.mask).write_text('half')\nos.kill(os.getpid(), 9)") == 0
    why = jobs.explain(mask_of(tmp_path))
    assert why.reason == "killed"
    assert "SIGKILL" in why.detail
    assert [path.name for path in mask_of(tmp_path).parent.iterdir()] == ["mask.nii.gz"]


@pytest.mark.parametrize(("work", "statuses"), [("raise OSError('disk')", [1, 1, 0]), (BADLY, [0])])
def test_a_job_is_tried_again_where_that_may_help_and_snakemake_does_so(tmp_path, work, statuses):
    assert [run(tmp_path, work, env={jobs.RETRIES: "2"}) for _ in statuses] == statuses
    assert jobs.explain(mask_of(tmp_path))


def test_a_second_try_that_ends_well_forgets_the_first(tmp_path):
    run(tmp_path, BADLY)
    assert run(tmp_path, WELL) == 0
    assert jobs.read_failures(tmp_path / "out") == []


def test_jobs_of_a_run_that_is_gone_stop(tmp_path):
    owner = subprocess.Popen(["sleep", "60"])
    host = os.uname().nodename
    job = start(tmp_path, "import time\ntime.sleep(60)", env={jobs.RUN: f"{owner.pid}@{host}"})
    time.sleep(1)
    assert job.poll() is None
    owner.kill()
    owner.wait()
    assert job.wait(timeout=10) != 0
    assert not mask_of(tmp_path).exists()


def test_a_job_that_is_stopped_takes_its_work_with_it(tmp_path):
    job = start(
        tmp_path, f"import os, time\nPath({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\ntime.sleep(60)"
    )
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.05)
    job.send_signal(signal.SIGKILL)
    job.wait()
    time.sleep(0.5)
    state = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_what_stands_in_for_outputs_goes_when_the_run_ends(tmp_path):
    run(tmp_path, BADLY)
    table = tmp_path / "out/sub-A/sub-A_sessions.tsv"
    table.write_text("kept")
    jobs.remove_placeholders(tmp_path / "out")
    assert not mask_of(tmp_path).exists()
    assert (table.read_text(), table.stat().st_mtime) == ("kept", 0), "kept, and made again by the next run"
    assert len(jobs.read_failures(tmp_path / "out")) == 1
    jobs.forget_failures(tmp_path / "out")
    assert jobs.read_failures(tmp_path / "out") == []


def test_an_output_that_is_a_folder_stays_one_when_the_job_fails(tmp_path):
    folder = tmp_path / "out/sub-A/strips"
    how = {"outputs": ["strips"], "how": ", folders=('strips',)"}
    run(tmp_path, "Path(output.strips).mkdir()\nraise OSError('disk')", **how)
    assert folder.is_dir(), "as Snakemake asks of it"
    assert jobs.explain(folder).reason == "error"
    assert not jobs.given(folder)
    jobs.remove_placeholders(tmp_path / "out")
    assert not folder.exists()
    assert run(tmp_path, "Path(output.strips).mkdir()\n(Path(output.strips) / 'a.png').touch()", **how) == 0
    assert [path.name for path in folder.iterdir()] == ["a.png"]
    assert jobs.given(folder) == folder


def test_a_placeholder_of_another_version_goes_like_any_other(tmp_path):
    run(tmp_path, BADLY)
    mask_of(tmp_path).write_bytes(mask_of(tmp_path).read_bytes().replace(b"not_3d", b"not_4d"))
    jobs.forget_failures(tmp_path / "out")
    assert not mask_of(tmp_path).exists()


def test_a_job_of_the_cohort_fails_as_such(tmp_path):
    assert run(tmp_path, BADLY, how=", passes_on=False") == 1
    assert not mask_of(tmp_path).exists()


def test_a_failure_that_a_job_has_dealt_with_is_told(tmp_path):
    work = "output.record(ValueError('no such lesion'))\nPath(output.mask).write_text('a mask')"
    assert run(tmp_path, work) == 0
    assert mask_of(tmp_path).read_text() == "a mask"
    assert [f["detail"] for f in jobs.read_failures(tmp_path / "out")] == ["ValueError: no such lesion"]


def test_records_are_whole_json_files(tmp_path):
    run(tmp_path, BADLY)
    (path,) = (tmp_path / "out/logs/failures").iterdir()
    assert json.loads(path.read_text())["sub"] == "A"


def test_the_last_or_first_position_at_which_everything_is_there(tmp_path):
    run(tmp_path, BADLY)
    bad, good = mask_of(tmp_path), tmp_path / "good"
    good.write_text("x")
    assert jobs.first_complete([good, bad, good, good], [good, good, good, bad], last=True) == 2
    assert jobs.first_complete([bad, good], [good, good]) == 1
    with pytest.raises(jobs.Skip):
        jobs.first_complete([bad], [good])
    assert SimpleNamespace(n=jobs.complete_positions([bad, good], [good, good])).n == [1]
