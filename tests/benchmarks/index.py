"""How long the index of a large cohort takes, cold and warm, and a dry run over it.

    python tests/benchmarks/index.py --work FOLDER [--patients 1000] [--checkout FOLDER] [--dry-run]

Makes, once, a dataset of tiny scans with real headers (5 sessions x 4 sequences for each patient, dates in
sessions.tsv) and measures in processes of their own: seconds by the clock and of the processor, and peak memory.
``--checkout`` measures another state of the project on the same dataset (a git worktree).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

ROOT = Path(__file__).parents[2]
ROLES = ("ce-gadolinium_T1w", "T1w", "T2w", "FLAIR")
SESSIONS = 5
# The old interface took no labels_scheme and returned the table alone.
INDEX = """
import inspect, sys
from pathlib import Path
from mettrail import cohort
settings = dict(reference="ce-gadolinium_T1w", sequences=["T1w", "T2w", "FLAIR"], labels_folder="", labels_sessions=[],
                labels_scheme="mettrail", participants=[], sessions=[], exclude=[], edits="")
if not hasattr(cohort, "Cohort"):
    del settings["labels_scheme"]
found = cohort.load_cohort(Path(sys.argv[1]), Path(sys.argv[2]), **settings)
table = getattr(found, "sessions", found)
print(len(table), (table["usable"] == "true").sum())
"""


def make_dataset(folder: Path, patients: int) -> None:
    """Write the dataset, unless it is there: every name has a scan of its own, so that none is a copy."""
    if (folder / "dataset_description.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    rng = np.random.default_rng(0)
    for patient in range(1, patients + 1):
        sub = f"sub-{patient:04d}"
        rows = ["session_id\tacq_time"]
        for ses in range(1, SESSIONS + 1):
            anat = folder / sub / f"ses-{ses:02d}" / "anat"
            anat.mkdir(parents=True)
            for role in ROLES:
                scan = nib.Nifti1Image(rng.integers(1, 900, (12, 14, 8)).astype(np.int16), affine)
                nib.save(scan, anat / f"{sub}_ses-{ses:02d}_{role}.nii.gz")
            rows.append(f"ses-{ses:02d}\t20{10 + ses}-01-01T00:00:00")
        (folder / sub / f"{sub}_sessions.tsv").write_text("\n".join(rows) + "\n")
    (folder / "dataset_description.json").write_text('{"Name": "benchmark", "BIDSVersion": "1.10.0"}')


def measure(command: list, environment: dict) -> dict:
    """Run a command; return its seconds, by the clock and of the processor, and its peak memory, GB."""
    code = (
        "import json, resource, subprocess, sys, time\n"
        "begin = time.monotonic()\n"
        "done = subprocess.run(sys.argv[1:], capture_output=True, text=True)\n"
        "seconds, used = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "said = (done.stdout + done.stderr)[-300:]\n"
        "print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20, done.returncode, said]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, command)], capture_output=True, text=True, check=True, env=environment
    )
    seconds, processor, peak, status, said = json.loads(done.stdout)
    used = {"seconds": round(seconds, 2), "processor_s": round(processor, 2), "peak_gb": round(peak, 2)}
    return used | {"status": status, "said": said.strip()}


def main() -> None:
    """Measure and print a line of JSON for each."""
    what = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what.add_argument("--work", type=Path, required=True, help="folder for the dataset and the results")
    what.add_argument("--patients", type=int, default=1000)
    what.add_argument("--checkout", type=Path, default=ROOT, help="the project to measure")
    what.add_argument("--dry-run", action="store_true", help="also snakemake --dry-run, with a warm index")
    arguments = what.parse_args()
    bids, out = arguments.work / f"bids-{arguments.patients}", arguments.work / "out"
    make_dataset(bids, arguments.patients)
    shutil.rmtree(out, ignore_errors=True)
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(arguments.work),
        "PYTHONPATH": str(arguments.checkout / "scripts"),
    }
    index = [sys.executable, "-c", INDEX, bids, out]
    runs = {"import": [sys.executable, "-c", "from mettrail import cohort"], "cold": index, "warm": index}
    if arguments.dry_run:
        snakefile = arguments.checkout / "Snakefile"
        runs["dry-run"] = [sys.executable, "-m", "snakemake", "--snakefile", snakefile, "--dry-run", "--quiet", "all",
                           "--cores", "2", "--config", f"bids={bids}", f"out={out}"]  # fmt: skip
    for name, command in runs.items():
        print(json.dumps({"what": name, "patients": arguments.patients} | measure(command, environment)), flush=True)


if __name__ == "__main__":
    main()
