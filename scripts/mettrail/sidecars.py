"""JSON beside the images: what BIDS asks of derivatives, and the small facts one stage leaves for another."""

from __future__ import annotations

import json
import math
from pathlib import Path

PREPROC = {
    "Description": "N4 bias corrected, RAS 1 mm, 0 outside the brain mask grown by a few mm",
    "SkullStripped": True,
    "Resolution": "1 mm isotropic, axes parallel to the scan's own",
}
TISSUE = {
    "Description": "Lesion tissue on the reference image's own grid",
    "Type": "Lesion",
    "Labels": {"1": "enhancing", "2": "edema", "3": "necrosis"},
}

# What BIDS has no name for yet.
IGNORED = ("*_xfm.*", "*.html", "*.csv", "tables", "figures", "benchmarks", "logs", "cohort.tsv", "*_registry.json",
           "*_matches.tsv", "*_trajectories.*", "*_patient.*", "*_desc-instances_dseg.json")  # fmt: skip


def write_json(facts: dict, path: str | Path) -> None:
    """Write facts as JSON; what is not a number becomes null, not NaN, which is no JSON."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(_plain(facts), indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> dict:
    """Read facts written by `write_json`."""
    return json.loads(Path(path).read_text())


def describe_dataset(folder: str | Path, *, version: str, config_hash: str) -> None:
    """Write dataset_description.json and .bidsignore of the results, a BIDS derivatives dataset.

    Parameters
    ----------
    folder : path
        Top of the results.
    version, config_hash : str
        Of the program and of the settings, for GeneratedBy.
    """
    description = {
        "Name": "mettrail: brain metastases over time",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "mettrail", "Version": version, "Description": f"settings {config_hash}"}],
    }
    write_json(description, Path(folder) / "dataset_description.json")
    (Path(folder) / ".bidsignore").write_text("\n".join(IGNORED) + "\n")


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
