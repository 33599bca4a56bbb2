"""The command `mettrail`: what it takes, what it refuses, and what people see while it runs."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import plums
import pytest
import warm
import yaml
from conftest import write_bids
from mettrail import cli, project, results, settings
from mettrail.cli import doctor, progress, run, views
from mettrail.errors import InputError
from rich.console import Console
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_logger_plugin_mettrail import LogHandler, describe

ROOT = Path(__file__).parents[1]
CE = "ce-gadolinium_T1w"
TREE = {"01": {"01": [CE], "02": [CE]}, "02": {"01": [CE]}, "03": {"01": [CE], "05": [CE]}}


@pytest.fixture
def bids(tmp_path):
    return write_bids(tmp_path / "bids", TREE)


def listing(folder):
    return sorted(str(path) for path in folder.rglob("*"))


def command(*arguments, cwd=None):
    """Run the command in a process of its own."""
    call = [warm.python(), "-c", "from mettrail.cli import main; raise SystemExit(main())", *map(str, arguments)]
    return subprocess.run(call, cwd=cwd, capture_output=True, text=True, check=False, timeout=900)


# -------------------------------------------------------------------------------------------------------- what is given


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as done:
        cli.main(["--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    for name in (
        *("run", "fetch", "phantom", "train", "compare", "evaluate", "sensitivity", "radiomics", "report", "doctor"),
        *("features", "review", "accept"),
        *("init", "import-dicom", "export-dicom"),
    ):
        assert f"\n    {name} " in text or f"\n    {name}\n" in text


@pytest.mark.parametrize("level", ["participant", "group"])
def test_the_form_of_a_bids_app_is_the_command_run(level):
    assert cli.as_command(["in", "out", level, "--participant_label", "01"]) == [
        "run", "in", "out", "--participant_label", "01",
    ]  # fmt: skip
    ours = cli.make_parser().parse_args(["run", "in", "out", "--participant-label", "01", "02", "--cores", "3"])
    theirs = cli.make_parser().parse_args(["run", "in", "out", "--participant_label", "01", "02", "--cores", "3"])
    assert ours == theirs
    assert ours.participant_label == ["01", "02"]


def test_a_dataset_called_run_is_still_a_dataset():
    assert cli.as_command(["run", "in", "out"]) == ["run", "in", "out"]
    assert cli.as_command(["run", "in", "participant"]) == ["run", "in", "participant"]


def test_what_stands_behind_two_dashes_goes_to_snakemake():
    assert cli.split_options(["run", "a", "b", "--", "--keep-going", "--", "x"]) == (
        ["run", "a", "b"],
        ["--keep-going", "--", "x"],
    )
    with pytest.raises(SystemExit) as refused:
        cli.main(["doctor", "--", "--keep-going"])
    assert refused.value.code == 2


def given(bids, *options, name="run"):
    return cli.make_parser().parse_args([name, str(bids), str(bids.parent / "out"), *options])


def test_labels_and_files_become_settings_and_the_command_line_wins(bids, tmp_path):
    (tmp_path / "one.yaml").write_text('index: {participants: ["02"]}\nmatch: {gap_mm: 4}\nthreads: 3\n')
    (tmp_path / "two.yaml").write_text("match: {gap_mm: 5}\nrano: {confirm: false}\n")
    files = [str(tmp_path / "one.yaml"), str(tmp_path / "two.yaml")]
    config = run.read_config(
        given(bids, "--settings", *files, "--participant-label", "01", "--exclude", "sub-01_ses-02")
    )
    assert config["index"] == {"participants": ["01"], "sessions": [], "exclude": ["sub-01_ses-02"], "edits": ""}
    assert (config["match"]["gap_mm"], config["match"]["frac"]) == (5, 0.5)
    assert (config["rano"]["confirm"], config["threads"]) == (False, 3)
    assert (config["bids"], config["out"]) == (str(bids), str(tmp_path / "out"))


def test_settings_mean_the_same_in_every_folder(bids, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_model").mkdir()
    file = tmp_path / "s.yaml"
    file.write_text(
        "labels: {folder: masks}\nindex: {edits: edits.tsv}\n"
        "segment: {models: {detection: [own_model, resources/models/detection]}}\n"
    )
    parser = cli.make_parser()
    config = run.read_config(parser.parse_args(["run", "bids", "own_model/../out/", "--settings", "s.yaml"]))
    assert (config["bids"], config["out"]) == (str(bids), f"{tmp_path}/out")
    assert config["labels"]["folder"] == f"{tmp_path}/masks"
    assert config["index"]["edits"] == f"{tmp_path}/edits.tsv"
    # What the project brings keeps its name: it is found from everywhere, and its hash is the same for everybody.
    assert config["segment"]["models"]["detection"] == [f"{tmp_path}/own_model", "resources/models/detection"]
    assert config["overrides"] == ""


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), ["--cores all"]),
        (("--cores", "3"), ["--cores 3"]),
        (("--slurm",), ["--workflow-profile", "profiles/slurm"]),
        (("--dry-run",), ["--dry-run", "--cores all"]),
    ],
)
def test_options_reach_snakemake(bids, options, found):
    line = " ".join(run.snakemake_command(given(bids, *options), settings_file=Path("s.yaml")))
    assert all(part in line for part in found)
    assert f"--snakefile {ROOT}/Snakefile --configfile s.yaml --logger mettrail" in line
    assert ("--cores" in line) == (options != ("--slurm",))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *((name, f"snakemake {name}") for name in ("train", "compare", "sensitivity", "radiomics", "features")),
        ("report", "--forcerun"),
    ],
)
def test_each_command_has_its_target(bids, name, part):
    assert part in " ".join(run.snakemake_command(given(bids, name=name), settings_file=Path("s.yaml")))


def test_the_rules_that_report_makes_again_exist():
    text = (ROOT / "workflow" / "report.smk").read_text()
    assert all(f"rule {name}:" in text for name in run.PAGES)


# ------------------------------------------------------------------------------------------------------------ bad input


def bad_inputs(folder):
    """Command lines that must be refused: (arguments, what the message says, what to do)."""
    bids, out = folder / "bids", folder / "out"
    (folder / "empty").mkdir()
    (folder / "typo.yaml").write_text("match: {gap_m: 3}\n")
    (folder / "unreadable.yaml").write_text("match: {gap_mm: 3\n")
    (folder / "list.yaml").write_text("- match\n")
    return {
        "no dataset": ([folder / "empty", out], "no sub-* folder and no dataset_description.json", "Name the folder"),
        "no folder": ([folder / "nowhere", out], "found no such folder", "Name the dataset's folder"),
        "no participant": ([bids, out, "--participant-label", "1"], "expected one of 01, 02, 03", "Did you mean 01?"),
        "not excluded": ([bids, out, "--exclude", "sub-9"], "index.exclude, 'sub-9'", "Give labels as they stand"),
        "no session": (
            [bids, out, "--session-label", "4"],
            "expected one of ses-01, ses-02, ses-05",
            "labels in quotes",
        ),
        "nobody": ([bids, out, "--participant-label", "02", "--exclude", "02"], "no session that is left", "Correct"),
        "inside": ([bids, bids / "results"], "a folder within the dataset", "Name another folder"),
        "around": ([bids, folder], "a folder that holds the dataset", "Name another folder"),
        "typo": ([bids, out, "--settings", folder / "typo.yaml"], "typo.yaml: match.gap_m", "Did you mean gap_mm?"),
        "no file": ([bids, out, "--settings", folder / "none.yaml"], "No such file", "mettrail init"),
        "no YAML": ([bids, out, "--settings", folder / "unreadable.yaml"], "unreadable.yaml", "mettrail init"),
        "no settings": ([bids, out, "--settings", folder / "list.yaml"], "list, no settings", "mettrail init"),
        "braces": ([bids, folder / "{out}"], "config: out", "Choose another name"),
    }


@pytest.mark.parametrize("case", [
    "no dataset", "no folder", "no participant", "not excluded", "no session", "nobody", "inside", "around", "typo",
    "no file", "no YAML", "no settings", "braces",
])  # fmt: skip
def test_bad_input_is_refused_in_two_lines_and_nothing_is_written(bids, tmp_path, capsys, case):
    arguments, what, advice = bad_inputs(tmp_path)[case]
    before = listing(tmp_path)
    assert cli.main(["run", *map(str, arguments)]) == 2
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("mettrail: ")
    assert what in lines[0]
    assert lines[1].startswith("  to do: ")
    assert advice in lines[1]
    assert said.out == ""
    assert listing(tmp_path) == before


def test_a_folder_that_another_run_writes_to_is_refused(bids, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert results.owner(tmp_path / "out") == ""
    assert results.lock(tmp_path / "out") is None
    try:
        assert cli.main(["run", str(bids), str(tmp_path / "out")]) == 2
        assert f"process {os.getpid()} on" in capsys.readouterr().err
        assert not (tmp_path / "out/logs/snakemake.log").exists()
    finally:
        results.unlock()
    assert results.owner(tmp_path / "out") == ""


# ------------------------------------------------------------------------------------------------------ what is started


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(bids, tmp_path):
    before = listing(tmp_path)
    done = command(
        bids, "out", "participant", "--participant_label", "01", "03", "--exclude", "ses-05", "-n", cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "jobs for 2 patients would run:" in done.stdout
    assert "segment 3," in done.stdout
    assert len(done.stdout.splitlines()) <= 10
    assert listing(tmp_path) == before


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of one visit of one patient, whose segmentation was drawn."""
    folder = tmp_path_factory.mktemp("finished")
    plums.start_dataset(folder)
    plums.add_visit(folder, "A", "1", *plums.plum(1, [((8, 5, 0), 11)]))
    plums.command(folder)
    given = json.loads((folder / "config.json").read_text())
    (folder / "s.yaml").write_text(yaml.safe_dump({name: given[name] for name in ("labels", "strip", "register")}))
    return folder, command("run", "bids", "out", "--settings", "s.yaml", cwd=folder)


def test_a_run_shows_how_far_it_is_and_ends_with_where_things_are(finished):
    folder, first = finished
    again = command("run", "bids", "out", "--settings", "s.yaml", cwd=folder)
    assert first.returncode == again.returncode == 0, first.stdout + first.stderr
    lines = first.stdout.splitlines()
    assert "sub-A  ##########  12/12" in lines
    assert "100 %  15 of 15 jobs done, 0 left" in lines
    assert f"  {folder}/out/index.html" in lines
    assert len(lines) <= 25
    assert again.stdout.splitlines()[0] == "Nothing to do: the results are up to date."
    assert yaml.safe_load((folder / "out/logs/settings.yaml").read_text())["register"]["seed"] == 1


def test_what_to_review_is_a_table(finished, capsys):
    out = finished[0] / "out"
    table = pd.read_csv(out / "tables/sessions.csv")
    table.assign(flags="residual_shift").to_csv(out / "tables/sessions.csv", index=False)
    assert cli.main(["review", str(out)]) == 0
    assert "1 to look at, of 1 of 1 patients" in capsys.readouterr().out
    rows = pd.read_csv(out / "tables/review.csv")
    assert rows[["session_id", "page"]].to_numpy().tolist() == [["ses-1", "sub-A.html#ses-1"]]
    assert cli.main(["review", str(finished[0])]) == 2
    assert "tables of a finished run" in capsys.readouterr().err


REFUSED_MASKS = {
    "another grid": (["--replace"], "one voxel grid"),
    "brats": (["--replace"], "labels 4"),
    "no session": (["--session", "sub-A_ses-9", "--replace"], "expected one of sub-A_ses-1"),
    "there is one": ([], "a manual segmentation of sub-A_ses-1"),
}


@pytest.mark.parametrize("case", REFUSED_MASKS)
def test_a_corrected_mask_that_cannot_be_right_is_refused(finished, tmp_path, capsys, case):
    folder = finished[0]
    options, said = REFUSED_MASKS[case]
    labels = plums.plum(1, [((8, 5, 0), 13)])[1]
    plums.write(tmp_path / "m.nii", np.where(labels, 4, 0).astype(np.uint8) if case == "brats" else labels)
    if case == "another grid":
        plums.write(tmp_path / "m.nii", labels[1:])
    before = listing(folder)
    words = ["accept", str(folder / "out"), str(tmp_path / "m.nii"), "--session", "sub-A_ses-1", *options]
    assert cli.main(words) == 2
    assert said in capsys.readouterr().err
    assert listing(folder) == before


def test_a_corrected_mask_reruns_only_what_follows_from_it(finished, tmp_path, capsys):
    folder = finished[0]
    plums.write(tmp_path / "m.nii", plums.plum(1, [((8, 5, 0), 13)])[1])
    words = ["accept", str(folder / "out"), str(tmp_path / "m.nii"), "--session", "sub-A_ses-1"]
    assert cli.main([*words, "--replace"]) == 0
    path = folder / "masks/sub-A/ses-1/anat/sub-A_ses-1_dseg.nii.gz"
    assert np.array_equal(np.asarray(nib.load(path).dataobj), np.asarray(nib.load(tmp_path / "m.nii").dataobj))
    told = capsys.readouterr().out
    assert told.splitlines()[1] == (
        f"next: mettrail run {folder}/bids {folder}/out --settings {folder}/out/logs/settings.yaml"
    )
    plan = command(*told.split("mettrail ")[1].split(), "-n").stdout
    jobs = set(" ".join(plan.split("run:")[1].split("\n  sub-")[0].split()).split(", "))
    assert {"segment_fuse 1", "measure 1", "match 1", "assess 1"} < jobs
    assert not [stage for stage in ("debias", "strip", "preprocess", "register") if f"{stage} 1" in jobs]


@pytest.mark.parametrize("chosen", ["1", "ses-1", "sub-A_ses-1"])
def test_a_session_that_the_settings_name_is_not_said_to_be_missing(finished, tmp_path, capsys, chosen):
    folder = finished[0]
    path = folder / "out/logs/settings.yaml"
    kept = path.read_text()
    given = yaml.safe_load(kept)
    given["labels"]["sessions"] = [chosen]
    plums.write(tmp_path / "m.nii", plums.plum(1, [((8, 5, 0), 13)])[1])
    words = ["accept", str(folder / "out"), str(tmp_path / "m.nii"), "--session", "sub-A_ses-1"]
    try:
        path.write_text(yaml.safe_dump(given))
        assert cli.main([*words, "--labels", str(tmp_path / "mine")]) == 0
    finally:
        path.write_text(kept)
    assert "its mask is not used" not in capsys.readouterr().out


def test_a_mask_for_a_folder_of_its_own_says_what_to_set(finished, tmp_path, capsys):
    folder = finished[0]
    plums.write(tmp_path / "m.nii", plums.plum(1, [((8, 5, 0), 13)])[1])
    words = ["accept", str(folder / "out"), str(tmp_path / "m.nii"), "--session", "sub-A_ses-1"]
    assert cli.main([*words, "--labels", str(tmp_path / "mine")]) == 0
    assert (tmp_path / "mine/sub-A/ses-1/anat/sub-A_ses-1_dseg.nii.gz").exists()
    assert f"labels: {{folder: {tmp_path}/mine}}" in capsys.readouterr().out


TINY = """
from snakemake.logging import logger

rule all:
    input: "a", "b", "c"

rule make:
    output: "{sub}"
    log: "logs/make/sub-{sub}.log"
    shell: "test {wildcards.sub} != b && echo noise && touch {output}"

onstart:
    counts = [[job.rule.name, job.wildcards_dict.get("sub", ""), 1] for job in workflow.dag.needrun_jobs()]
    logger.info(None, extra={"mettrail": {"event": "plan", "jobs": counts}})
"""


def test_a_run_of_snakemake_is_followed_through_the_plugin(tmp_path):
    (tmp_path / "Snakefile").write_text(TINY)
    screen = io.StringIO()
    call = [sys.executable, "-m", "snakemake", "--snakefile", "Snakefile", "--directory", str(tmp_path), "--cores", "1"]
    call[4] = str(tmp_path / "Snakefile")
    seen, status = run.watch(
        [*call, "--keep-going", "--logger", "mettrail"], log=tmp_path / "log.txt", console=Console(file=screen)
    )
    assert status == 1
    assert (seen.done, seen.total) == (2, 4)
    assert [(patient.name, patient.done, patient.failed) for patient in seen.patients.values()] == [
        ("sub-a", 1, 0), ("sub-b", 0, 1), ("sub-c", 1, 0), ("cohort", 0, 0),
    ]  # fmt: skip
    assert list(seen.failures.values()) == [
        "FAILED make of sub-b: the job ended with an error (log: logs/make/sub-b.log)"
    ]
    assert "noise" not in screen.getvalue()
    assert "FAILED make of sub-b" in screen.getvalue()
    assert "noise" in (tmp_path / "log.txt").read_text()
    assert "rule make:" in (tmp_path / "log.txt").read_text(), "Snakemake's own output is all there"


def test_a_run_that_is_stopped_ends_its_jobs_and_has_no_failures(tmp_path):
    (tmp_path / "Snakefile").write_text(TINY.replace("test {wildcards.sub} != b", "touch started; exec sleep 100"))
    code = """
import signal, sys
from pathlib import Path
from mettrail.cli import run
from rich.console import Console
# Where tests run in the background of a shell, nobody hears Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
call = [sys.executable, "-m", "snakemake", "--cores", "1", "--logger", "mettrail"]
seen, status = run.watch(call, log=Path("log.txt"), console=Console())
print(*run.describe_end(seen, status, made=[], log=Path("log.txt"), seconds=1), sep="\\n")
raise SystemExit(status)
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
                               process_group=0)  # fmt: skip
    while not (tmp_path / "started").exists() and process.poll() is None:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.splitlines()[-2] == "Stopped: 0 of 4 jobs in 1 s. The same command resumes."
    assert "FAILED" not in said


def test_an_error_before_any_job_is_shown(tmp_path):
    (tmp_path / "Snakefile").write_text('rule all:\n    input: "what_nobody_makes"\n')
    call = [sys.executable, "-m", "snakemake", "--snakefile", tmp_path / "Snakefile", "--directory", tmp_path]
    seen, status = run.watch(
        [*map(str, call), "--cores", "1", "--logger", "mettrail"],
        log=tmp_path / "log.txt",
        console=Console(file=io.StringIO()),
    )
    lines = run.describe_end(seen, status, made=[], log=tmp_path / "log.txt", seconds=1)
    assert status == 1
    assert lines[0].startswith("Stopped")
    assert "what_nobody_makes" in lines[1]


# ------------------------------------------------------------------------------------------------------ what people see


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self):
        return self.now


def record_events(patients=3, visits=4, rules=("debias", "strip", "segment", "match", "assess"), failing=()):
    """Return the events of a run as the plugin tells them, one job after the other: (seconds it took, event)."""
    jobs = [(rule, f"{n:02}", str(visit)) for n in range(patients) for visit in range(visits) for rule in rules]
    counts = [[rule, f"{n:02}", visits] for n in range(patients) for rule in rules]
    yield 0, {"event": "plan", "jobs": [*counts, ["report", "", 1]]}
    for number, (rule, sub, ses) in enumerate([*jobs, ("report", "", "")]):
        log = f"/failed/{rule}.log" if (rule, sub, ses) in failing else f"/out/logs/{rule}.log"
        yield 0, {"event": "started", "job": number, "rule": rule, "sub": sub, "ses": ses, "log": log}
        yield 10, {"event": "finished", "job": number}


def explain(log):
    return SimpleNamespace(detail="no brain was found") if log.startswith("/failed/") else None


def replay(events, console):
    clock = Clock()
    seen = progress.Progress(explain=explain, clock=clock)
    with views.open_view(console) as view:
        for seconds, event in events:
            clock.now += seconds
            for line in seen.take(event):
                view.say(line)
            view.show(seen)
    return seen


def test_without_a_terminal_a_run_of_sixty_jobs_is_at_most_sixty_lines():
    screen = io.StringIO()
    failing = [("segment", "01", "2"), ("match", "02", "0")]
    seen = replay(record_events(failing=failing), Console(file=screen))
    lines = screen.getvalue().splitlines()
    ends = run.describe_end(seen, 1, made=[], log=Path("x.log"), seconds=605)
    assert (seen.done, seen.total) == (61, 61)
    assert len(lines) + len(ends) <= 40
    assert "sub-01  ##########  20/20" in lines
    assert "FAILED segment of sub-01_ses-2: no brain was found (log: /failed/segment.log)" in lines
    assert lines[-1] == "100 %  61 of 61 jobs done, 0 left, 2 failed"
    assert "\x1b" not in screen.getvalue()
    assert (
        ends[0]
        == "2 failed, 61 of 61 jobs in 10 min; what does not depend on them is finished. The same command resumes."
    )


def test_a_failure_is_said_when_it_comes():
    screen = io.StringIO()
    replay(record_events(failing=[("debias", "00", "0")]), Console(file=screen))
    lines = screen.getvalue().splitlines()
    assert lines.index("FAILED debias of sub-00_ses-0: no brain was found (log: /failed/debias.log)") <= 1


def test_on_a_terminal_each_patient_is_a_line_that_fills_up():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, height=30, color_system=None, _environ={})
    replay(record_events(), console)
    frames = screen.getvalue()
    for state in ("sub-00  #---------    2/20", "sub-00  ##########   20/20", "sub-02  ----------    0/20"):
        assert state in frames
    assert "debias ses-0" in frames


def test_more_patients_than_the_screen_has_lines_are_summed_up():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, height=10, color_system=None, _environ={})
    replay(record_events(patients=40, visits=1, rules=("strip",)), console)
    assert "… and 35 more, 0 of them complete" in screen.getvalue()
    assert "… and 35 more, 34 of them complete" in screen.getvalue()


def test_patients_at_work_are_shown_before_those_that_are_complete():
    patients = [progress.Patient(str(n), planned=2, done=2 * (n < 5)) for n in range(9)]
    patients[7].running[1] = "strip"
    assert [each.name for each in views.choose_patients(patients, room=3)] == ["5", "6", "7"]


def test_time_left_goes_by_how_long_each_rule_takes():
    clock = Clock()
    seen = progress.Progress(explain=explain, clock=clock)
    seen.take({"event": "plan", "jobs": [["quick", "A", 4], ["slow", "A", 4]]})
    assert seen.seconds_left() is None
    for number, (rule, seconds) in enumerate([("quick", 1), ("slow", 100), ("quick", 1), ("slow", 100), ("quick", 1)]):
        seen.take({"event": "started", "job": number, "rule": rule, "sub": "A", "ses": "", "log": ""})
        clock.now += seconds
        seen.take({"event": "finished", "job": number})
    # One quick and two slow ones are left, one at a time.
    assert seen.seconds_left() == pytest.approx(201)
    seen.take({"event": "started", "job": 9, "rule": "slow", "sub": "A", "ses": "", "log": ""})
    clock.now += 40
    assert seen.seconds_left() == pytest.approx(161)


def test_a_job_that_is_tried_again_and_goes_well_has_not_failed():
    seen = progress.Progress(explain=explain, clock=Clock())
    seen.take({"event": "plan", "jobs": [["strip", "A", 1]]})
    start = {"event": "started", "job": 1, "rule": "strip", "sub": "A", "ses": "1", "log": "/out/logs/strip.log"}
    seen.take(start)
    assert seen.take({"event": "failed", "job": 1})
    seen.take(start)
    assert seen.take({"event": "finished", "job": 1}) == []
    assert seen.failures == {}
    assert seen.done == 1


@pytest.mark.parametrize(
    ("done", "total", "bar"),
    [
        (0, 20, "----------"),
        (19, 20, "#########-"),
        (20, 20, "##########"),
        (12, 20, "######----"),
        (0, 0, "##########"),
    ],
)
def test_a_bar_is_full_only_when_all_is_done(done, total, bar):
    assert progress.draw_bar(done, total) == bar


@pytest.mark.parametrize(("seconds", "text"), [(7, "7 s"), (59.4, "59 s"), (90, "2 min"), (7260, "2 h 1 min")])
def test_times_are_said_for_people(seconds, text):
    assert progress.describe_seconds(seconds) == text


def test_the_end_names_what_was_made_and_how_many_remarks_there_are(tmp_path):
    (tmp_path / "index.html").write_text("")
    seen = replay([*record_events(), (0, {"event": "problems", "lines": ["EXCLUDED sub-A_ses-2: not_3d: …"] * 7})],
                  Console(file=io.StringIO()))  # fmt: skip
    made = [tmp_path / "index.html", tmp_path / "not_made.csv"]
    lines = run.describe_end(seen, 0, made=made, log=tmp_path / "x.log", seconds=61)
    assert lines == [
        "Done: 61 of 61 jobs in 1 min.",
        f"  {tmp_path}/index.html",
        "  7 remarks on the data: excluded sessions, warnings, files not used (index.html)",
    ]


def test_a_run_with_nothing_to_do_says_so():
    seen = progress.Progress(explain=explain)
    assert run.describe_end(seen, 0, made=[], log=Path("x"), seconds=3) == [
        "Nothing to do: the results are up to date."
    ]


# ----------------------------------------------------------------------------------------------------------- the plugin


def record(level=logging.INFO, message=None, **extra):
    made = logging.LogRecord("snakemake", level, "x.py", 1, message, (), None)
    made.__dict__.update(extra)
    return made


def test_the_plugin_tells_jobs_errors_and_what_the_workflow_says():
    job = {"jobid": 4, "rule_name": "match", "wildcards": {"sub": "A", "ses": "1"}, "log": ["out/logs/match/x.log"]}
    assert describe(record(event=LogEvent.JOB_INFO, **job)) == {
        "event": "started", "job": 4, "rule": "match", "sub": "A", "ses": "1", "log": "out/logs/match/x.log",
    }  # fmt: skip
    assert describe(record(event=LogEvent.JOB_FINISHED, job_id=4)) == {"event": "finished", "job": 4}
    assert describe(record(event=LogEvent.JOB_ERROR, level=logging.ERROR, jobid=4)) == {"event": "failed", "job": 4}
    assert describe(record(logging.ERROR, "broken", event=LogEvent.ERROR)) == {"event": "error", "text": "broken"}
    assert describe(record(mettrail={"event": "plan", "jobs": []})) == {"event": "plan", "jobs": []}
    assert describe(record(message="Select jobs to execute...")) is None


def test_the_plugin_goes_on_when_nobody_reads(monkeypatch):
    reads, writes = os.pipe()
    monkeypatch.setenv("METTRAIL_EVENTS", str(writes))
    handler = LogHandler(None, None)
    handler.emit(record(event=LogEvent.JOB_FINISHED, job_id=4))
    assert json.loads(os.read(reads, 100)) == {"event": "finished", "job": 4}
    os.close(reads)
    handler.emit(record(event=LogEvent.JOB_FINISHED, job_id=5))


# --------------------------------------------------------------------------------------------------- before a first run


def test_doctor_says_that_a_run_can_start_here(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    for part in ("Python", "snakemake 9", "torch", "cores", "memory", "free in", "model detection", "deepbet weights"):
        assert part in text
    assert text.splitlines()[-1] == "A run can start."


def test_doctor_says_what_keeps_a_run_from_starting(capsys, monkeypatch, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text((ROOT / "config/config.yaml").read_text())
    monkeypatch.setattr(project, "root", lambda: tmp_path)
    monkeypatch.setattr(doctor, "PACKAGES", ("numpy", "no-such-package"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "missing: no-such-package" in text
    models = ", ".join(f"model {task}" for task in ("detection", "resegmentation", "edema", "cavity"))
    assert text.splitlines()[-1] == f"A run cannot start: packages, {models}."


def test_init_writes_every_setting_with_what_is_said_of_it(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    assert cli.main(["init", str(path)]) == 0
    shipped = ROOT / "config" / "config.yaml"
    assert yaml.safe_load(path.read_text()) == yaml.safe_load(shipped.read_text())
    assert path.read_text().count("#") >= shipped.read_text().count("#") - 3
    assert f"--settings {path}" in path.read_text()
    schema = ROOT / "workflow" / "schemas" / "config.yaml"
    places = {"bids": "a", "out": "b"}
    assert settings.read_settings(shipped, [path], schema, places) == settings.read_settings(
        shipped, [], schema, places
    )


def test_init_overwrites_nothing(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("threads: 9\n")
    assert cli.main(["init", str(path)]) == 2
    assert path.read_text() == "threads: 9\n"
    assert "a file of that name" in capsys.readouterr().err
    assert cli.main(["init", str(tmp_path / "no" / "folder.yaml")]) == 2


def test_weights_that_cannot_be_written_are_not_fetched(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert cli.main(["fetch", str(tmp_path / "new" / "weights.pth")]) == 2
    assert "strip.hd_bet_weights" in capsys.readouterr().err
    assert listing(tmp_path) == []


def test_a_phantom_is_made_without_the_checkout(tmp_path):
    done = command("phantom", "--random", 1, 1, "--out", tmp_path / "bids", "--seed", "x", cwd=tmp_path)
    assert done.returncode == 2, "its own options are its script's"
    assert "usage: mettrail phantom" in done.stderr


def test_the_project_is_the_checkout_here():
    assert project.root() == ROOT


@pytest.mark.parametrize(("given_", "kept"), [({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}), ({"a": 5}, {"a": 5})])
def test_settings_are_merged_key_by_key(given_, kept):
    base = {"a": {"b": 0, "c": 2}}
    assert settings.merge(base, given_) == kept
    assert base == {"a": {"b": 0, "c": 2}}


def test_an_error_is_two_lines_whatever_it_says():
    err = InputError("a\nb", found="x\n y", expected="z", advice="Do\nthis.")
    assert cli.describe(err) == "a b: found x y; expected z\n  to do: Do this."
