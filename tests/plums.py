"""Cohorts of brains no larger than a plum, for runs of the whole pipeline with its real tools: seconds a stage."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import warm
from scipy import ndimage

ROOT = Path(__file__).parents[1]
CE = "ce-gadolinium_T1w"
SHAPE = (56, 64, 52)


def plum(seed, lesions=(), shift=(0, 0, 0)):
    """A small brain with two tissues and lesions: scan and tissue labels, 1 mm, brain extracted."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.arange(n) - (n - 1) / 2 - s for n, s in zip(SHAPE, shift)], indexing="ij")
    radius = np.sqrt(sum((a / r) ** 2 for a, r in zip(axes, (22, 26, 20))))
    texture = ndimage.gaussian_filter(np.random.default_rng(7).standard_normal(SHAPE), 4)
    texture = ndimage.shift(texture, shift, order=1, mode="nearest")
    scan = np.where(radius < 1, 100 + 30 * (radius < 0.6) + 400 * texture, 0)
    labels = np.zeros(SHAPE, np.uint8)
    for place, diameter in lesions:
        distance = np.sqrt(sum((a - p) ** 2 for a, p in zip(axes, place)))
        labels[distance <= diameter / 2] = 1
    scan[labels == 1] = 260
    scan[radius < 1] += 3 * rng.standard_normal(int((radius < 1).sum()))
    return np.maximum(scan, 0).astype(np.float32), labels


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.eye(4)
    affine[:3, 3] = [-28, -32, -26]
    nib.save(nib.Nifti1Image(data, affine), path)


def start_dataset(folder):
    """Make an empty dataset in folder/bids."""
    (folder / "bids").mkdir()
    (folder / "bids" / "dataset_description.json").write_text('{"Name": "plums", "BIDSVersion": "1.10.0"}')


def add_visit(folder, sub, ses, scan, labels=None):
    """Add a visit to folder/bids, and its masks to folder/masks; visits are 60 days apart."""
    write(folder / "bids" / f"sub-{sub}/ses-{ses}/anat/sub-{sub}_ses-{ses}_{CE}.nii.gz", scan)
    if labels is not None:
        write(folder / "masks" / f"sub-{sub}/ses-{ses}/anat/sub-{sub}_ses-{ses}_dseg.nii.gz", labels)
    table = folder / "bids" / f"sub-{sub}" / f"sub-{sub}_sessions.tsv"
    rows = table.read_text() if table.exists() else "session_id\tdays_from_baseline\n"
    table.write_text(rows + f"ses-{ses}\t{60 * (int(ses) - 1)}\n")


def settings(folder):
    """What has to be set to run folder/bids into folder/out, brains being plums."""
    return {
        "bids": str(folder / "bids"),
        "out": str(folder / "out"),
        "threads": 1,
        "labels": {"folder": str(folder / "masks"), "sessions": []},
        "strip": {"method": "nonzero", "volume_warn_ml": [10, 100], "volume_fail_ml": [10, 100]},
        "register": {"greedy": {"linear_iterations": [30, 10], "iterations": [20, 5]}},
    }


def command(folder, *arguments, python=sys.executable):
    """The command that runs folder/bids into folder/out."""
    (folder / "config.json").write_text(json.dumps(settings(folder)))
    words = [python, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--cores", "2"]
    return list(map(str, [*words, "--configfile", folder / "config.json", *arguments]))


def run(folder, *arguments, cwd=None, env=None):
    """Run folder/bids into folder/out, from the folder: Snakemake removes the locks of all that run from one folder."""
    return subprocess.run(
        command(folder, *arguments, python=warm.python()),
        cwd=cwd or folder,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        check=False,
    )


def jobs_of(done):
    """How many jobs of each rule a run announced."""
    text = done.stdout + done.stderr
    stats = text.split("Job stats:")[1].split("\n\n")[0] if "Job stats:" in text else ""
    return {name: int(n) for name, n in re.findall(r"^(\w+)\s+(\d+)$", stats, re.MULTILINE)}


def bids_errors(dataset):
    """Errors that the BIDS validator finds; a skip where there is none."""
    validator = Path(sys.executable).parent / "bids-validator-deno"
    if not validator.exists():
        pytest.skip("bids-validator-deno is not installed")
    words = [validator, dataset, "--ignoreWarnings", "--json"]
    found = json.loads(subprocess.run(words, capture_output=True, text=True, check=False).stdout)
    assert found["summary"]["totalFiles"] > 50
    return [issue for issue in found["issues"]["issues"] if issue["severity"] == "error"]


def table_of(folder, name):
    return pd.read_csv(folder / "out" / "tables" / f"{name}.csv")
