"""What tests share: phantoms on which mistakes show, BIDS trees, the folder of real scans."""

import copy
import functools
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from mettrail import cohort
from mettrail.settings import index_settings, measure_settings

ROOT = Path(__file__).parents[1]
CE = "ce-gadolinium_T1w"


def shipped_config():
    """All of config/config.yaml. Tests load settings and never copy them, so that a changed one is tested as it is."""
    return copy.deepcopy(_parsed_config())


@functools.cache
def _parsed_config():
    return yaml.safe_load((ROOT / "config" / "config.yaml").read_text())


def settings_of(block):
    """One block of it; ``measure`` with the sizes of lesions, as the pipeline hands it on."""
    config = shipped_config()
    return measure_settings(config) if block == "measure" else config[block]


# Files that run the workflow as a whole, for minutes each.
WHOLE_RUNS = (
    "test_reliability",
    "test_walk",
    "test_whole_runs",
    "test_responses",
    "test_slurm",
    "test_treated",
    "test_other_heads",
)
# Begun last, one worker would wait for another at the end.
LONGEST = (*WHOLE_RUNS, "test_study", "test_workflow", "test_brain", "test_agreement")


def pytest_collection_modifyitems(items):
    """Begin with what takes longest; mark whole runs."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)
    for item in items:
        if item.path.stem in WHOLE_RUNS:
            item.add_marker("whole")


@pytest.fixture
def oblique_affine():
    """Anisotropic, rotated about two axes, off centre: a forgotten spacing or a swapped axis cannot hide."""
    a, b = np.deg2rad(17), np.deg2rad(-9)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ np.diag([1.0, 1.5, 3.0])
    affine[:3, 3] = [-31, 12, 47]
    return affine


@pytest.fixture
def real_data():
    """The folder of real scans, or a skip that says what is missing."""
    folder = os.environ.get("METTRAIL_REAL_DATA")
    if not folder:
        pytest.skip("METTRAIL_REAL_DATA is not set: no real scans to test on")
    return Path(folder)


def write_scan(path, data=None, affine=None):
    """Write a small scan that passes every check."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if data is None:
        # No two scans are the same.
        data = np.random.default_rng(list(os.fsencode(path.name))).random((9, 10, 11), dtype=np.float32)
    nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
    return path


def write_bids(folder, tree, sessions=None):
    """Write a BIDS dataset of tiny scans.

    Parameters
    ----------
    tree : dict
        ``{"A": {"01": ["ce-gadolinium_T1w", "T2w"]}}``: patient, session, roles.
    sessions : dict, optional
        ``{"A": {"01": {"acq_time": "2020-01-01T00:00:00"}}}``: rows of sub-A_sessions.tsv.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_description.json").write_text('{"Name": "test", "BIDSVersion": "1.10.0"}')
    for sub, visits in tree.items():
        for ses, roles in visits.items():
            anat = folder / f"sub-{sub}" / f"ses-{ses}" / "anat"
            anat.mkdir(parents=True, exist_ok=True)
            for role in roles:
                write_scan(anat / f"sub-{sub}_ses-{ses}_{role}.nii.gz")
        rows = [{"session_id": f"ses-{ses}", **row} for ses, row in (sessions or {}).get(sub, {}).items()]
        if rows:
            pd.DataFrame(rows).to_csv(folder / f"sub-{sub}" / f"sub-{sub}_sessions.tsv", sep="\t", index=False)
    return folder


def dated(**days):
    """Rows for `write_bids`: ``_01="03-15"`` is session 01 on 15 March 2021."""
    return {ses[1:]: {"acq_time": f"2021-{day}T10:00:00"} for ses, day in days.items()}


def load_dataset(bids, out, **changes):
    """The cohort of a dataset, indexed with the settings that are shipped but for `changes`."""
    return cohort.load_cohort(bids, out, **(index_settings(shipped_config()) | changes))
