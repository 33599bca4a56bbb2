"""What earlier runs and readers have settled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mettrail.errors import InputError


@dataclass(frozen=True)
class Settled:
    """What an earlier run has settled for a patient: the visit that gives the reference space, numbers, targets."""

    reference: str
    registries: list[str]
    trajectories: str


def find_registries(folder: str, out: Path) -> dict[str, Settled]:
    """Return, per patient of an earlier run's results, what is to be kept of it; empty without a folder.

    Raises
    ------
    InputError
        No such folder, no registry in it, or the folder that this run writes to.
    """
    if not folder:
        return {}
    found: dict[str, list[Path]] = {}
    for path in sorted(Path(folder).glob("sub-*/ses-*/anat/*_desc-lesions_registry.json")):
        found.setdefault(path.name.split("_")[0].removeprefix("sub-"), []).append(path)
    if not found or Path(folder).resolve() == Path(out).resolve():
        raise InputError(
            f"config: frozen = {folder}",
            found="no lesion registries there" if not found else "the results folder of this run",
            expected="the results folder of an earlier run",
            advice="Keep a copy of the earlier results and name it, or leave frozen empty.",
        )
    return {
        sub: Settled(
            reference=json.loads(paths[0].read_text())["reference"].get("session_id", "n/a"),
            registries=[str(path) for path in paths],
            trajectories=str(Path(folder) / f"sub-{sub}" / f"sub-{sub}_desc-lesions_trajectories.tsv"),
        )
        for sub, paths in found.items()
    }


def find_overrides(folder: Path, patients: list[str]) -> dict[str, str]:
    """Return the readers' tables (``sub-A/sub-A_desc-lesions_overrides.tsv``) by patient.

    Raises
    ------
    InputError
        No such folder, or a table of a patient that is not in the cohort.
    """
    if not folder.is_dir():
        raise InputError(
            folder,
            found="no such folder",
            expected="a folder with sub-A/sub-A_desc-lesions_overrides.tsv",
            advice="Correct overrides, or leave it empty: tables beside the scans are found by themselves.",
        )
    paths = {
        path.name.split("_")[0].removeprefix("sub-"): path for path in folder.glob("sub-*/*_desc-lesions_overrides.tsv")
    }
    for sub, path in paths.items():
        if sub not in patients:
            raise InputError(
                path,
                found=f"decisions on sub-{sub}",
                expected=f"a patient of the cohort: {', '.join(f'sub-{each}' for each in patients)}",
                advice="Correct its name, or take it away.",
            )
    return {sub: str(path) for sub, path in paths.items()}
