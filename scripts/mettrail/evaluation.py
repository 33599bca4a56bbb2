"""Predictions of several methods against labels of people: the tables of the papers.

Predictions and labels are folders of tissue maps (``sub-*/ses-*/anat/*_dseg.nii.gz``: 1 enhancing, 2 edema, 3
necrosis), one map per session. A mean over scans leaves out those where neither has anything, as a perfect score there
says little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cc3d
import numpy as np
import pandas as pd

from mettrail import images, metrics
from mettrail.errors import InputError
from mettrail.images import EDEMA, ENHANCING, NECROSIS, Image

# What is scored, and the labels it is made of.
TISSUES = {"whole": (ENHANCING, NECROSIS), "enhancing": (ENHANCING,), "edema": (EDEMA,), "necrosis": (NECROSIS,)}
# Which way a score is better, for one-tailed tests.
HIGHER = ("dsc", "ndsc", "f1", "tpr", "precision", "dsc_found", "lesionwise_dsc")
LOWER = ("fdr", "n_false", "n_false_10mm3", "lesionwise_hd95_mm")
FALSE_MIN_MM3 = 10.0


def find_maps(folder: Path) -> dict[tuple[str, str], Path]:
    """Return the tissue map of every session of a derivatives folder.

    Raises
    ------
    InputError
        No such folder, no map in it, or two maps of one session.
    """
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(Path(folder).glob("sub-*/ses-*/anat/*_dseg.nii*")):
        if "desc-" in path.name and "desc-tissue" not in path.name:
            continue  # numbers of lesions, last visit's labels: not tissues
        key = path.parts[-4].removeprefix("sub-"), path.parts[-3].removeprefix("ses-")
        if key in found:
            raise InputError(
                path.parent,
                found=f"{found[key].name} and {path.name}",
                expected="one tissue map per session",
                advice="Keep the one that is meant.",
            )
        found[key] = path
    if not found:
        raise InputError(
            folder,
            found="no tissue map",
            expected="sub-*/ses-*/anat/*_dseg.nii.gz",
            advice="Name the folder that holds the sub-* folders of one method, or of the labels.",
        )
    return found


def score_scan(prediction: Image, truth: Image, brain: np.ndarray | None = None) -> list[dict]:
    """Score one scan: a row per tissue.

    Parameters
    ----------
    prediction, truth : Image
        Tissue labels on one grid.
    brain : (X, Y, Z) bool, optional
        The domain of nDSC; without it, the whole array.

    Returns
    -------
    list of dict
        ``tissue``, ``empty`` (neither has any), ``truth_mm3``, `HIGHER`, `LOWER`, ``n_truth``, ``n_predicted``.
    """
    images.require_same_grid(truth, prediction)
    domain = int(truth.data.size if brain is None else brain.sum())
    voxel_mm3 = abs(np.linalg.det(truth.affine[:3, :3]))
    rows = []
    for tissue, labels in TISSUES.items():
        found, true = np.isin(prediction.data, labels), np.isin(truth.data, labels)
        voxels, lesions = metrics.Voxels.of(found, true), metrics.count_lesions(found, true)
        lesionwise = metrics.score_lesionwise(found, true, affine=truth.affine)
        rows.append(
            {
                "tissue": tissue,
                "empty": voxels.empty,
                "truth_mm3": true.sum() * voxel_mm3,
                "dsc": voxels.dice,
                "ndsc": voxels.normalised_dice(domain=domain),
                "f1": lesions.f1,
                "tpr": lesions.tpr,
                "precision": lesions.precision,
                "fdr": lesions.fdr,
                "dsc_found": _mean_of_found(found, true),
                "n_false": metrics.count_false(found, true, affine=truth.affine),
                "n_false_10mm3": metrics.count_false(found, true, affine=truth.affine, min_mm3=FALSE_MIN_MM3),
                "lesionwise_dsc": lesionwise.dice,
                "lesionwise_hd95_mm": lesionwise.hd95_mm,
                "n_truth": lesions.n_truth,
                "n_predicted": lesions.n_predicted,
            }
        )
    return rows


def score_lesions(prediction: Image, truth: Image, brain: np.ndarray | None = None) -> list[dict]:
    """Score each true lesion (labels 1 and 3) against the predicted ones that touch it: missed ones have 0."""
    domain = int(truth.data.size if brain is None else brain.sum())
    voxel_mm3 = abs(np.linalg.det(truth.affine[:3, :3]))
    found, true = (np.isin(image.data, TISSUES["whole"]) for image in (prediction, truth))
    return [
        {
            "volume_mm3": (voxels.both + voxels.missed) * voxel_mm3,
            "found": voxels.both > 0,
            "dsc": voxels.dice,
            "ndsc": voxels.normalised_dice(domain=domain),
        }
        for voxels in _voxels_of_lesions(found, true)
    ]


def _mean_of_found(found, true):
    """Mean Dice of the true lesions that any predicted one touches."""
    scores = [voxels.dice for voxels in _voxels_of_lesions(found, true) if voxels.both]
    return float(np.mean(scores)) if scores else math.nan


def _voxels_of_lesions(found, true):
    """Yield, for each true lesion, the voxels it shares with the predicted ones that touch it."""
    true, found = (cc3d.connected_components(mask, connectivity=26) for mask in (true, found))
    for number in range(1, int(true.max(initial=0)) + 1):
        lesion = true == number
        touching = np.unique(found[lesion])
        yield metrics.Voxels.of(np.isin(found, touching[touching > 0]), lesion)


def score_methods(methods: Mapping[str, Path], labels: Path, masks: Path | None = None):
    """Score every method on every labelled session.

    Parameters
    ----------
    methods : mapping
        Name to folder of predictions.
    labels : path
        Folder of labels.
    masks : path, optional
        Folder with ``sub-*/ses-*/anat/*brain_mask.nii*`` on the labels' grid or any other.

    Returns
    -------
    scans, lesions : DataFrame
        One row per method, session and tissue; one row per method and true lesion. ``first`` says whether the session
        is the patient's first.

    Raises
    ------
    InputError
        A session that a method lacks: scores of different scans cannot be compared.
    """
    truth = find_maps(labels)
    predictions = {name: find_maps(folder) for name, folder in methods.items()}
    for name, maps in predictions.items():
        lacking = sorted(set(truth) - set(maps))
        if lacking:
            raise InputError(
                methods[name],
                found=f"nothing for {', '.join(f'sub-{sub}_ses-{ses}' for sub, ses in lacking)}",
                expected="a tissue map for every labelled session",
                advice="Predict these sessions too, or take their labels out.",
            )
    first = {}
    for sub, ses in sorted(truth):
        first.setdefault(sub, ses)
    scans, lesions = [], []
    for (sub, ses), path in sorted(truth.items()):
        true = images.read_labels(path, images.TISSUE_LABELS)
        brain = _read_mask(masks, sub, ses, true) if masks else None
        for name, maps in predictions.items():
            predicted = images.read_labels(maps[sub, ses], images.TISSUE_LABELS)
            about = {"method": name, "participant_id": f"sub-{sub}", "session_id": f"ses-{ses}"}
            about["first"] = first[sub] == ses
            scans += [about | row for row in score_scan(predicted, true, brain)]
            lesions += [about | row for row in score_lesions(predicted, true, brain)]
    return pd.DataFrame(scans), pd.DataFrame(lesions)


def _read_mask(folder, sub, ses, truth):
    found = sorted(Path(folder).glob(f"sub-{sub}/ses-{ses}/anat/*brain_mask.nii*"))
    if len(found) != 1:
        raise InputError(
            Path(folder) / f"sub-{sub}/ses-{ses}/anat",
            found=f"{len(found)} brain masks",
            expected="one *brain_mask.nii.gz",
            advice="Correct the folder of masks, or leave it out.",
        )
    return images.resample(images.read_labels(found[0]), truth.grid, order=0).data > 0


def summarise(scans: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation of every score, by method, tissue and subset (all, first, follow-up)."""
    rows = []
    subsets = {"all": scans["first"] | True, "first": scans["first"], "follow-up": ~scans["first"]}
    for subset, chosen in subsets.items():
        for (method, tissue), group in scans[chosen].groupby(["method", "tissue"], sort=False):
            counted = group[~group["empty"]]
            row = {
                "method": method,
                "tissue": tissue,
                "subset": subset,
                "n_scans": len(group),
                "n_scored": len(counted),
            }
            for score in (*HIGHER, *LOWER):
                row |= {score: counted[score].mean(), f"{score}_sd": counted[score].std()}
            rows.append(row)
    return pd.DataFrame(rows)


def compare_methods(scans: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Test every method against one: paired one-tailed t-tests over patients, by tissue and score.

    Raises
    ------
    InputError
        The reference is none of the methods.
    """
    if reference not in set(scans["method"]):
        raise InputError(
            "reference method",
            found=reference,
            expected=f"one of {', '.join(sorted(set(scans['method'])))}",
            advice="Name a method that was scored.",
        )
    rows = []
    for tissue, of_tissue in scans[~scans["empty"]].groupby("tissue", sort=False):
        for method in [name for name in of_tissue["method"].unique() if name != reference]:
            for score in (*HIGHER, *LOWER):
                new, old = (_by_patient(of_tissue, name, score) for name in (method, reference))
                common = sorted(set(new) & set(old))
                new, old = ({who: scores[who] for who in common} for scores in (new, old))
                t, p = metrics.is_better(new, old) if score in HIGHER else metrics.is_better(old, new)
                about = {"method": method, "against": reference, "tissue": tissue, "score": score}
                rows.append(about | {"n_patients": len(common), "t": t, "p": p})
    return pd.DataFrame(rows)


def _by_patient(scans, method, score):
    mine = scans[scans["method"] == method]
    return {who: group[score].tolist() for who, group in mine.groupby("participant_id")}


def correlate_size(lesions: pd.DataFrame) -> pd.DataFrame:
    """Correlate lesion volume with DSC and nDSC by method (Spearman), missed lesions included and left out."""
    rows = []
    for method, group in lesions.groupby("method", sort=False):
        for which, chosen in (("all", group), ("found", group[group["found"]])):
            for score in ("dsc", "ndsc"):
                rho, p = metrics.size_effect(chosen["volume_mm3"], chosen[score])
                rows.append({"method": method, "lesions": which, "score": score, "n": len(chosen), "rho": rho, "p": p})
    return pd.DataFrame(rows)


def group_by_number(scans: pd.DataFrame, scores: Sequence[str] = ("dsc", "tpr", "n_false_10mm3")) -> pd.DataFrame:
    """Compare scans with 1-3, 4-10 and more lesions: means, and rank-sum tests with Holm's correction."""
    whole = scans[(scans["tissue"] == "whole") & (scans["n_truth"] > 0)]
    group = pd.cut(whole["n_truth"], [0, 3, 10, math.inf], labels=metrics.LESION_GROUPS).astype(str)
    rows = []
    for method, score in [(method, score) for method in whole["method"].unique() for score in scores]:
        values = whole[whole["method"] == method]
        split = {
            name: values.loc[group[values.index] == name, score].dropna().tolist() for name in metrics.LESION_GROUPS
        }
        row = {"method": method, "score": score}
        row |= {f"n_{name}": len(of) for name, of in split.items()}
        row |= {f"mean_{name}": float(np.mean(of)) if of else math.nan for name, of in split.items()}
        row |= {f"p_{a}_vs_{b}": p for (a, b), p in metrics.compare_groups(split).items()}
        rows.append(row)
    return pd.DataFrame(rows)


def evaluate(
    methods: Mapping[str, Path], labels: Path, out: Path, *, masks: Path | None, reference: str | None
) -> None:
    """Score methods and write the tables: ``scans``, ``lesions``, ``summary``, ``tests``, ``size``, ``groups`` (CSV).

    Parameters
    ----------
    methods, labels, masks
        As for `score_methods`.
    out : path
        Folder of the tables, made when missing.
    reference : str or None
        The method that the others are tested against; the last one if not given.
    """
    scans, lesions = score_methods(methods, labels, masks)
    written = {
        "scans": scans,
        "lesions": lesions,
        "summary": summarise(scans),
        "tests": compare_methods(scans, reference or list(methods)[-1]),
        "size": correlate_size(lesions) if len(lesions) else pd.DataFrame(),
        "groups": group_by_number(scans),
    }
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for name, table in written.items():
        table.to_csv(out / f"{name}.csv", index=False, float_format="%.6g")


def read_methods(arguments: Sequence[str]) -> dict[str, Path]:
    """Read ``NAME=FOLDER`` arguments.

    >>> read_methods(["ours=a/b"])
    {'ours': PosixPath('a/b')}
    """
    methods = {}
    for argument in arguments:
        name, _, folder = argument.partition("=")
        if not name or not folder or name in methods:
            raise InputError(
                argument,
                found="a name twice" if name in methods else "no NAME=FOLDER",
                expected="NAME=FOLDER for each method, each name once",
                advice="E.g. nnunet=derivatives/nnunet",
            )
        methods[name] = Path(folder)
    return methods
