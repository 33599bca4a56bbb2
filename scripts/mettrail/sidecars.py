"""JSON beside the images: what BIDS asks of derivatives, and the small facts one stage leaves for another."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Said once at the top of the dataset for all files of a kind; what is particular to one file stands beside it.
_WORKING_GRID = {"Resolution": "1 mm isotropic, axes parallel to those of the reference image"}
_INHERITED: dict[str, dict[str, Any]] = {
    **{
        f"res-1mm_desc-{desc}_{suffix}": _WORKING_GRID | {"SkullStripped": stripped, "Description": text}
        for suffix in ("T1w", "T2w", "FLAIR")
        for desc, stripped, text in (
            ("debias", False, "N4 bias corrected, whole head"),
            ("preproc", True, "N4 bias corrected, 0 outside the brain mask grown by a few mm"),
            ("prior", True, "The prior session's scan, registered deformably to this one"),
        )
    },
    "res-1mm_desc-brain_mask": _WORKING_GRID | {"Type": "Brain"},
    "res-1mm_desc-prior_dseg": _WORKING_GRID | {"Description": "The prior session's lesions, propagated to this one"},
    "desc-lesion_probseg": {"Description": "Probability of whole lesion on the reference image's own grid"},
    "res-1mm_probseg": _WORKING_GRID | {"Description": "Background, enhancing, edema, necrosis along the fourth axis"},
}
TISSUE = {
    "Description": "Lesion tissue on the reference image's own grid",
    "Type": "Lesion",
    "Labels": {"1": "enhancing", "2": "edema", "3": "necrosis"},
}

# What BIDS has no name for yet.
IGNORED = ("*_xfm.*", "*.html", "*.csv", "tables", "figures", "benchmarks", "logs", "cohort.tsv", "not_used.tsv",
           "*_registry.json", "*_matches.tsv", "*_trajectories.*", "*_patient.*", "*_measures.*", "train",
           "*_treated_lesions.*", "*_treatments.tsv", "*_problems.tsv")  # fmt: skip


def write_json(facts: Mapping[str, Any], path: str | Path) -> None:
    """Write facts as JSON; what is not a number becomes null, not NaN, which is no JSON."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(_plain(facts), indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """Read facts written by `write_json`."""
    facts: dict[str, Any] = json.loads(Path(path).read_text())
    return facts


def describe_dataset(folder: str | Path, path: str | Path, *, version: str, config_hash: str) -> None:
    """Write dataset_description.json, .bidsignore and inherited sidecars of the results, a BIDS derivatives dataset.

    Parameters
    ----------
    folder : path
        Top of the results.
    path : path
        Where dataset_description.json is written.
    version, config_hash : str
        Of the program and of the settings, for GeneratedBy.
    """
    description = {
        "Name": "mettrail: brain metastases over time",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "mettrail", "Version": version, "Description": f"settings {config_hash}"}],
    }
    write_json(description, path)
    for name, facts in _INHERITED.items():
        # BIDS refuses a sidecar nothing inherits from.
        if next(Path(folder).glob(f"sub-*/ses-*/anat/*_{name.replace('_', '*_')}.nii.gz"), None):
            write_json(facts, Path(folder) / f"{name}.json")
    (Path(folder) / ".bidsignore").write_text("\n".join(IGNORED) + "\n")


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it: numpy's numbers are plain ones, what is no number is null."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
