"""The profile for clusters, on a real SLURM of one machine that tests/slurm/start.sh starts (root, Debian, Ubuntu)."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import plums
import pytest
import warm
import yaml
from conftest import write_bids

ROOT = Path(__file__).parents[1]
PROFILE = ROOT / "profiles" / "slurm"
CE = "ce-gadolinium_T1w"
TOOLS = ("slurmctld", "slurmd", "sbatch", "munged")

# What a job sees of itself. The first attempt of a job that is to fail does.
JOB = """
import json, subprocess, sys
facts = subprocess.run("scontrol show job $SLURM_JOB_ID", shell=True, capture_output=True, text=True, check=True).stdout
if "fail" in snakemake.output[0] and "mem=200M" in facts:
    sys.exit(1)
seen = {"slurm": facts, "python": sys.executable, "config": snakemake.config}
open(snakemake.output[0], "w").write(json.dumps(seen))
"""
SNAKEFILE = """
configfile: "settings.yaml"
NAMES = ["gpu", "fail"]
if not workflow.is_main_process and not os.path.exists(config["out"] + "/cohort.tsv"):
    raise WorkflowError("jobs read what the main process has left in the same working directory")
rule all:
    default_target: True
    input: expand(config["out"] + "/{name}.json", name=NAMES)
rule job:
    output: config["out"] + "/{name}.json"
    resources:
        mem_mb=lambda wildcards, attempt: 200 * attempt,
        gpu=lambda wildcards: 1 if wildcards.name == "gpu" and config["segment"]["device"] == "cuda" else 0
    script: "job.py"
onstart:
    os.makedirs(config["out"], exist_ok=True)
    open(config["out"] + "/cohort.tsv", "w").close()
"""


# Asked more often than one would ask a cluster that others use.
OFTEN = ("--slurm-init-seconds-before-status-checks", "4", "--latency-wait", "10")


def python(*arguments, program=sys.executable, cwd=ROOT, timeout=120):
    """Run Python, and return what it says."""
    command = [program, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def snakemake(*arguments, **how):
    return python("-m", "snakemake", *arguments, **how)


def mettrail_run(*arguments, **how):
    """Run the command; the jobs of the cluster start at once, too."""
    code = "from mettrail.cli import main; raise SystemExit(main())"
    return python("-c", code, "run", *arguments, program=warm.python(), **how)


@pytest.fixture(scope="session")
def slurm():
    """A SLURM of one node, this machine; a skip that says what is missing where there can be none."""
    missing = [tool for tool in TOOLS if not shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin")]
    if os.geteuid() != 0:
        pytest.skip("not root: no SLURM can be started here (METTRAIL_TEST_SLURM=1 as root, in a container, does all)")
    if missing and not (os.environ.get("CI") or os.environ.get("METTRAIL_TEST_SLURM")):
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurm-wlm munge, or let METTRAIL_TEST_SLURM=1 do it")
    if missing:
        for command in (["update"], ["install", "-y", "--no-install-recommends", "slurm-wlm", "munge"]):
            done = subprocess.run(
                ["apt-get", "-qq", *command],
                env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                pytest.skip(f"slurm-wlm and munge do not install here: {done.stderr.strip()[-300:]}")
    with Path("/run/mettrail-slurm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests of another checkout wait here
        started = subprocess.run(["bash", ROOT / "tests/slurm/start.sh"], capture_output=True, text=True, check=False)
        if "another SLURM" in started.stderr:
            pytest.skip(started.stderr.strip())
        assert started.returncode == 0, started.stderr
        yield
        if "runs already" not in started.stdout:
            subprocess.run(["bash", ROOT / "tests/slurm/stop.sh"], check=True)


@pytest.mark.parametrize(("device", "gpus"), [("auto", "0"), ("cuda", "1")])
def test_only_networks_told_to_use_cuda_ask_for_a_gpu(tmp_path, device, gpus):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": [CE]}})
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"segment": {"device": device}}))
    text = snakemake(
        "--dry-run", "--workflow-profile", PROFILE, "--configfile", tmp_path / "mine.yaml",
        "--config", f"bids={bids}", f"out={tmp_path}/out", program=warm.python(),
    )  # fmt: skip
    asked = re.findall(r"^rule (\w+):(?:\n .*)*?\n    resources: .*\bgpu=(\d)", text, re.MULTILINE)
    networks = ["segment", "segment", "segment_cavity", "segment_cavity", "segment_followup"]
    assert sorted(asked) == [(name, gpus) for name in networks]


def test_jobs_get_the_gpu_the_settings_and_more_memory_on_a_retry(slurm, tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "job.py").write_text(JOB)
    base = {"out": "", "segment": {"device": "auto", "fusion": {}}, "labels": {"folder": "", "sessions": []}}
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(base))
    mine = {"segment": {"device": "cuda"}, "labels": {"folder": "it's a $HOME", "sessions": ["01"]}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    how = ("--configfile", "mine.yaml", "--config", "out=some/where")
    snakemake("--workflow-profile", PROFILE, *OFTEN, *how, cwd=tmp_path)

    seen = {name: json.loads((tmp_path / f"some/where/{name}.json").read_text()) for name in ("gpu", "fail")}
    assert "TresPerJob=gres:gpu:1" in seen["gpu"]["slurm"]
    assert "gres:gpu" not in seen["fail"]["slurm"]
    assert "TRES=cpu=1,mem=200M" in seen["gpu"]["slurm"]
    assert "TRES=cpu=1,mem=400M" in seen["fail"]["slurm"], "the second attempt asks for twice the memory"
    for job in seen.values():
        assert job["python"] == sys.executable
        assert job["config"]["labels"] == mine["labels"]
        assert job["config"]["segment"] == {"device": "cuda", "fusion": {}}
        assert "TimeLimit=00:30:00" in job["slurm"]


@pytest.mark.skipif(
    not os.environ.get("METTRAIL_TEST_SLURM"), reason="METTRAIL_TEST_SLURM is not set: this walk takes minutes"
)
def test_a_cluster_finds_what_a_workstation_finds(slurm, tmp_path):
    plums.start_dataset(tmp_path)
    for ses, diameter, place in (("1", 12, (8, 4, 2)), ("2", 9, (8, 4, 2))):
        plums.add_visit(tmp_path, "A", ses, *plums.plum(int(ses), [(place, diameter)]))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(plums.settings(Path())))
    how = ("bids", "out", "--settings", "mine.yaml")
    mettrail_run(*how, cwd=tmp_path, timeout=1200)
    out = tmp_path / "out"
    tables = {path.name: path.read_bytes() for path in (out / "tables").iterdir()}
    assert {"lesions.csv", "sessions.csv", "patients.csv"} <= set(tables)
    # The first visit stays: each rule goes through the cluster, and none twice.
    for path in [*out.glob("sub-A/ses-2"), out / "tables", out / "figures"]:
        shutil.rmtree(path)
    for path in [*out.glob("*.html"), *(path for path in (out / "sub-A").iterdir() if path.is_file())]:
        path.unlink()
    said = mettrail_run(*how, "--slurm", "--", *OFTEN, cwd=tmp_path, timeout=2400)

    log = (out / "logs/snakemake.log").read_text()
    jobs = re.findall("has been submitted with SLURM jobid", log)
    assert len(jobs) >= 15, "the work went through SLURM"
    assert f"Done: {len(jobs) + 1} of {len(jobs) + 1} jobs" in said, "all but the last, which makes nothing"
    assert {path.name: path.read_bytes() for path in (out / "tables").iterdir()} == tables
