"""Lesion masks drawn by people: which session they belong to."""

from __future__ import annotations

from pathlib import Path

from mettrail.cohort.table import exclude
from mettrail.errors import InputError


def find_given_labels(row: dict, folder: Path, *, required: bool) -> None:
    """Fill in the session's mask, or leave the session out with the reason."""
    if not folder.is_dir():
        raise InputError(
            folder,
            found="no such folder",
            expected="a derivatives folder with sub-*/ses-*/anat/*_dseg.nii.gz",
            advice="Correct labels.folder, or leave it empty.",
        )
    maps = sorted(folder.glob(f"sub-{row['sub']}/ses-{row['ses']}/anat/*_dseg.nii*"))
    if len(maps) == 1:
        row["labels"] = str(maps[0].absolute())
    elif len(maps) > 1:
        exclude(
            row,
            "ambiguous_labels",
            f"{len(maps)} label maps for one session: {', '.join(map(str, maps))}; expected one. "
            f"Keep the one that is meant.",
        )
    elif required:
        exclude(
            row,
            "no_labels",
            f"labels.sessions names this session but {folder}/sub-{row['sub']}/ses-{row['ses']}/anat holds no "
            f"*_dseg.nii.gz; add it or take the session off the list.",
        )
