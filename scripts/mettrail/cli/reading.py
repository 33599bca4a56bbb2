"""What a reader of results does: list what to look at, and put a corrected mask in the place of a session's own."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mettrail import __version__, cohort, drawn, images, jobs, schema, sidecars
from mettrail.cli.run import SETTINGS
from mettrail.cohort.masks import choose_sessions, find_masks, list_masks
from mettrail.errors import InputError
from mettrail.report import review as reviewing

TABLES = ("lesions", "sessions", "patients")


def review(arguments: argparse.Namespace) -> int:
    """Write ``OUT/tables/review.csv``.

    Raises
    ------
    InputError
        No results in OUT.
    """
    out = Path(arguments.out)
    lesions, sessions, patients = (_read_table(out, kind) for kind in TABLES)
    problems = cohort.list_problems(_read_sessions(out).values()) + jobs.read_failures(out)
    problems += cohort.read_problems(sorted(out.glob("sub-*/sub-*_problems.tsv")))
    found = reviewing.tabulate(lesions, sessions, patients, problems)
    path = out / "tables" / "review.csv"
    schema.write_csv_mirror(found, path, "review", maker=sidecars.describe_maker(version=__version__))
    print(f"{path}: {len(found)} to look at, of {found['participant_id'].nunique()} of {len(patients)} patients.")
    return 0


def accept(arguments: argparse.Namespace) -> int:
    """Check a mask and copy it to where the next run finds it.

    Raises
    ------
    InputError
        The mask, its session or its folder are not what they have to be; nothing was written.
    """
    settings = _read_settings(Path(arguments.out))
    known = _read_sessions(Path(arguments.out))
    row = _find_session(known, arguments.session)
    tissue = drawn.read_drawn(arguments.mask, arguments.scheme)
    images.require_same_grid(images.read_image(Path(settings["bids"]) / row["reference"]), tissue)
    numbered = _number(tissue.data, settings["labels"]["scheme"])
    named = arguments.labels or settings["labels"]["folder"]
    if not named:
        raise InputError(
            "--labels",
            found="no folder, and none in the settings of the run (labels.folder)",
            expected="the folder where corrected masks are kept",
            advice=f"mettrail accept … --labels FOLDER, outside {arguments.out}.",
        )
    sessions: dict[str, list[str]] = {}
    for each in known.values():
        sessions.setdefault(each["sub"], []).append(each["ses"])
    folder = Path(named)
    path = _place_of(folder, row["sub"], row["ses"], sessions, replace=arguments.replace)
    path.parent.mkdir(parents=True, exist_ok=True)
    images.write_labels(path, numbered, tissue.affine)
    print(f"{path}: accepted for {arguments.session}.")
    for line in _describe_next(arguments, settings, folder, row, sessions):
        print(line)
    return 0


def _read_table(out: Path, kind: str) -> Any:
    path = out / "tables" / f"{kind}.csv"
    if not path.is_file():
        raise InputError(
            path, found="no such file", expected="tables of a finished run", advice=f"mettrail run BIDS {out}"
        )
    return schema.read_table(path, kind)


def _read_settings(out: Path) -> dict[str, Any]:
    path = out / "logs" / SETTINGS
    if not path.is_file():
        raise InputError(
            path,
            found="no such file",
            expected="the settings that `mettrail run` has left there",
            advice=f"mettrail run BIDS {out}, or put the mask into labels.folder yourself.",
        )
    settings: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return settings


def _read_sessions(out: Path) -> dict[str, dict[str, str]]:
    """Return the rows of the cohort's table by the name of the session."""
    rows = [
        {str(name): value for name, value in row.items()} for row in cohort.read_cohort(out).sessions.to_dict("records")
    ]
    return {f"sub-{row['sub']}_ses-{row['ses']}": row for row in rows}


def _find_session(known: Mapping[str, dict[str, str]], name: str) -> dict[str, str]:
    if name not in known:
        raise InputError(
            f"--session {name}",
            found="no such session in these results",
            expected=f"one of {', '.join(sorted(known)[:10])}{', …' if len(known) > 10 else ''}",
            advice="Name patient and session as the folders are called.",
        )
    row = known[name]
    if row["usable"] != "true":
        raise InputError(
            f"--session {name}",
            found=f"a session that is left out: {row['detail']}",
            expected="one whose scan can be used",
            advice="Mend the scan first.",
        )
    return row


def _place_of(folder: Path, sub: str, ses: str, sessions: dict[str, list[str]], *, replace: bool) -> Path:
    """Return where a session's mask belongs: in the place of the one it has, else under the name all masks have."""
    has = []
    if folder.is_dir() and any(folder.rglob("*.nii*")):
        has = find_masks(folder, list_masks(folder), sessions)[0].get((sub, ses), [])
    if has and not replace:
        raise InputError(
            has[0],
            found=f"a manual segmentation of sub-{sub}_ses-{ses}",
            expected="none, or --replace",
            advice="Keep a copy of it elsewhere, and give --replace.",
        )
    if len(has) > 1:
        raise InputError(
            folder,
            found=f"{len(has)} manual segmentations of sub-{sub}_ses-{ses}: {', '.join(has)}",
            expected="one",
            advice="Keep the right one.",
        )
    return Path(has[0]) if has else folder / f"sub-{sub}" / f"ses-{ses}" / "anat" / f"sub-{sub}_ses-{ses}_dseg.nii.gz"


def _number(tissue: np.ndarray, scheme: Any) -> np.ndarray:
    """Return tissue labels with the numbers that the masks of the run have."""
    numbers = drawn.read_scheme(scheme)
    if numbers is None:
        raise InputError(
            "labels.scheme = instances",
            found="masks of the run that number lesions, and one that tells tissues apart",
            expected="a folder of masks with tissues",
            advice="Put the mask into labels.folder yourself, with one number per lesion.",
        )
    numbered = np.zeros_like(tissue)
    for number, label in numbers.items():
        numbered[tissue == label] = number
    return numbered


def _describe_next(
    arguments: argparse.Namespace,
    settings: dict[str, Any],
    folder: Path,
    row: Mapping[str, str],
    sessions: Mapping[str, list[str]],
) -> list[str]:
    """Say what makes the results follow."""
    chosen = settings["labels"]["sessions"]
    again = f"mettrail run {settings['bids']} {arguments.out} --settings {Path(arguments.out) / 'logs' / SETTINGS}"
    if Path(settings["labels"]["folder"] or "").absolute() != folder.absolute():
        again += f" MINE.yaml, and in MINE.yaml  labels: {{folder: {folder.absolute()}}}"
    lines = [f"next: {again}"]
    if chosen and (row["sub"], row["ses"]) not in choose_sessions(chosen, sessions):
        lines.append(f"labels.sessions of the run names sessions; add {arguments.session}, or its mask is not used.")
    return lines
