"""Predictions of several methods against labels of people: the tables of the papers.

Predictions and labels are folders of tissue maps (``sub-*/ses-*/anat/*_dseg.nii.gz``: 1 enhancing, 2 edema, 3
necrosis), one map per session. Means over scans leave out those where neither has anything, as a perfect score there
says little; numbers of false lesions are means over all scans. The columns of all tables stand in `mettrail.schema`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mettrail import images, schema
from mettrail.cohort import order_sessions
from mettrail.errors import InputError
from mettrail.evaluation import metrics, page
from mettrail.evaluation.metrics import Rules
from mettrail.geometry import bounding_box, sphere_diameter_mm
from mettrail.images import EDEMA, ENHANCING, NECROSIS, Image
from mettrail.report import charts

# What is scored, and the labels it is made of.
TISSUES = {
    "whole": (ENHANCING, NECROSIS),
    "enhancing": (ENHANCING,),
    "edema": (EDEMA,),
    "necrosis": (NECROSIS,),
    "with_edema": (ENHANCING, EDEMA, NECROSIS),
}
WHOLE = TISSUES["whole"]
# Which way a score is better, for one-tailed tests.
HIGHER = (
    "dsc", "ndsc", "voxel_recall", "voxel_precision", "f1", "tpr", "sensitivity", "dsc_found", "lesionwise_dsc",
    "lesionwise_dsc_2026", "lesionwise_nsd_2026", "small_f1_2026", "pq", "rq", "sq",
)  # fmt: skip
# Numbers of false lesions mean something in every scan, also in one without any lesion.
FALSE = ("n_false", "n_false_10mm3", "n_false_vanished")
LOWER = ("hd95_mm", "fdr", "lesionwise_hd95_mm", *FALSE)
FALSE_MIN_MM3 = 10.0
BANDS_MM = {"<3 mm": 0.0, "3-5 mm": 3.0, "5-10 mm": 5.0, ">10 mm": 10.0}
# What Grøvik et al. compare between scans with few and with many lesions.
BY_NUMBER = ("dsc", "voxel_recall", "voxel_precision", "sensitivity", "n_false", "n_false_10mm3")
PROBABILITY_SCORES = (
    "auc", "youden_sensitivity", "youden_specificity", "threshold_dsc", "threshold_recall", "threshold_precision",
    "threshold_sensitivity", "threshold_n_false", "threshold_n_false_10mm3",
)  # fmt: skip
SUBSETS = tuple(schema.levels("evaluation_summary", "subset"))


@dataclass(frozen=True)
class Threshold:
    """From which probability on a voxel is lesion, and where that comes from."""

    value: float
    source: str


@dataclass(frozen=True)
class Visit:
    """A labelled scan.

    Parameters
    ----------
    sub, ses : str
    truth : Image
        Tissue labels.
    brain, prior : (X, Y, Z) bool, or None
        Brain mask and last visit's whole lesions, on the grid of `truth`; None where not given.
    first : bool
        Whether it is the patient's first with labels, and has no prior.
    """

    sub: str
    ses: str
    truth: Image
    brain: np.ndarray | None
    prior: np.ndarray | None
    first: bool

    @property
    def domain(self) -> int:
        """Voxels that could be lesion: those of the brain mask; of the whole scan where it is not given."""
        return int(self.truth.data.size if self.brain is None else self.brain.sum())


# --- Finding and reading -------------------------------------------------------------------------------------------


def find_maps(folder: Path, *, kind: str = "dseg", desc: str | None = "tissue") -> dict[tuple[str, str], Path]:
    """Return one file of every session of a derivatives folder.

    Parameters
    ----------
    folder : path
    kind : str
        ``dseg`` or ``probseg``.
    desc : str, optional
        Which one is meant where file names have a ``desc-``; others hold numbers of lesions, priors and the like.
        Any, when omitted.

    Raises
    ------
    InputError
        No such folder, no map in it, or two maps of one session.
    """
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(Path(folder).glob(f"sub-*/ses-*/anat/*_{kind}.nii*")):
        if desc and "_desc-" in path.name and f"_desc-{desc}_" not in path.name:
            continue
        key = path.parts[-4].removeprefix("sub-"), path.parts[-3].removeprefix("ses-")
        if key in found:
            raise InputError(
                path.parent,
                found=f"{found[key].name} and {path.name}",
                expected=f"one {kind} per session",
                advice="Keep the one that is meant." if desc else "Name the one that is meant with --probabilities.",
            )
        found[key] = path
    if not found:
        raise InputError(
            folder,
            found=f"no {desc or ''} map".replace("  ", " "),
            expected=f"sub-*/ses-*/anat/*_{kind}.nii.gz",
            advice="Name the folder that holds the sub-* folders of one method, or of the labels.",
        )
    return found


def _show(sessions):
    return ", ".join(f"sub-{sub}_ses-{ses}" for sub, ses in sorted(sessions))


def find_predictions(folder: Path, labels: Mapping[tuple[str, str], Path], *, labelled_only: bool) -> dict:
    """Return a method's tissue map of every labelled session.

    Raises
    ------
    InputError
        A labelled session without prediction (scores of different scans cannot be compared), a prediction without
        labels unless `labelled_only`, or a file that is prediction and label at once.
    """
    maps = find_maps(folder)
    lacking, unlabelled = set(labels) - set(maps), set(maps) - set(labels)
    if lacking:
        raise InputError(
            folder,
            found=f"nothing for {_show(lacking)}",
            expected="a tissue map for every labelled session",
            advice="Predict these sessions too, or take their labels out.",
        )
    if unlabelled and not labelled_only:
        raise InputError(
            folder,
            found=f"predictions without labels: {_show(unlabelled)}",
            expected="labels for every session",
            advice="Add their labels, or give --labelled-only to leave these predictions out.",
        )
    for key, label in labels.items():
        _require_different(maps[key], label, "prediction and label at once")
    return {key: maps[key] for key in labels}


def _require_different(path, label, what):
    if path.samefile(label):
        raise InputError(
            path,
            found=what,
            expected=f"another file than {label}",
            advice="Name another folder, or mend the link.",
        )


def read_visits(
    labels: Mapping[tuple[str, str], Path],
    *,
    masks: Path | None = None,
    priors: Path | None = None,
    aligned: bool = False,
    bids: Path | None = None,
) -> Iterator[Visit]:
    """Read labelled scans one by one, each patient's in order of time.

    Parameters
    ----------
    labels : mapping of (sub, ses) to path
    masks : path, optional
        Folder with ``sub-*/ses-*/anat/*brain_mask.nii*`` in the space of the labels, on any grid.
    priors : path, optional
        Folder with last visit's labels in the space of each follow-up, on any grid (``*_desc-prior_dseg.nii*``). A
        patient's first labelled visit is a follow-up, too, if it has one.
    aligned : bool
        The labels of all visits of a patient are in one space: last visit's are the priors.
    bids : path, optional
        Dataset whose ``sub-*/sub-*_sessions.tsv`` say when the visits were; without it, they are in the order of their
        labels.
    """
    given = find_maps(priors, desc="prior") if priors else {}
    for sub in sorted({sub for sub, _ in labels}):
        order, _ = order_sessions(bids, sub, [ses for who, ses in labels if who == sub])
        last = None
        for ses in order:
            truth = images.read_labels(labels[sub, ses], images.TISSUE_LABELS)
            prior = None
            if priors and (last is not None or (sub, ses) in given):
                prior = _read_prior(given, sub, ses, priors)
            elif last is not None and aligned:
                prior = last
            yield Visit(
                sub,
                ses,
                truth,
                _read_mask(masks, sub, ses, truth) if masks else None,
                None if prior is None else np.isin(images.resample(prior, truth.grid, order=0).data, WHOLE),
                last is None and prior is None,
            )
            last = truth


def _read_prior(given, sub, ses, folder):
    if (sub, ses) not in given:
        raise InputError(
            folder,
            found=f"no prior of sub-{sub}_ses-{ses}",
            expected="last visit's labels for every follow-up",
            advice="Propagate them, or leave the priors out; --bids says which visit is the first.",
        )
    return images.read_labels(given[sub, ses], images.TISSUE_LABELS)


def _read_mask(folder, sub, ses, truth):
    found = sorted(Path(folder).glob(f"sub-{sub}/ses-{ses}/anat/*brain_mask.nii*"))
    mask = images.resample(images.read_labels(found[0]), truth.grid, order=0).data > 0 if len(found) == 1 else None
    if mask is None or not mask.any():
        raise InputError(
            Path(folder) / f"sub-{sub}/ses-{ses}/anat",
            found=f"{len(found)} brain masks" if mask is None else "a brain mask that is empty, or elsewhere",
            expected="one *brain_mask.nii.gz in the space of the labels",
            advice="Correct the folder of masks, or leave it out.",
        )
    return mask


def read_lesion_probability(path: Path, truth: Image) -> np.ndarray:
    """Read the probability of a whole lesion onto the grid of the labels (linear).

    Parameters
    ----------
    path : path
        (X, Y, Z, 4) with the classes of the labels, as the pipeline writes them, or (X, Y, Z).
    truth : Image

    Returns
    -------
    (X, Y, Z) float32
    """
    image = images.read_probabilities(path)
    shape = image.data.shape
    if len(shape) not in (3, 4) or shape[3:] not in ((), (len(images.TISSUE_LABELS),)):
        raise InputError(
            path,
            found=f"an array of {'x'.join(map(str, shape))}",
            expected="3-D (a whole lesion), or 4-D with the classes background, enhancing, edema, necrosis",
            advice="Write probabilities so.",
        )
    whole = image.data[..., list(WHOLE)].sum(-1) if len(shape) == 4 else image.data
    if not np.isfinite(whole).all() or whole.min() < -0.01 or whole.max() > 1.01:
        raise InputError(
            path,
            found=f"values from {whole.min():g} to {whole.max():g}",
            expected="probabilities from 0 to 1",
            advice="Write probabilities, not logits or labels.",
        )
    image = Image(whole, image.affine)
    return whole if image.grid.matches(truth.grid) else images.resample(image, truth.grid, order=1).data


# --- Scoring one scan ----------------------------------------------------------------------------------------------


def score_scan(prediction: Image, visit: Visit, rules: Rules = metrics.RULES) -> list[dict]:
    """Score one scan: a row of the table ``evaluation_scans`` per tissue, but for who and what was scored.

    Raises
    ------
    GridMismatchError
        Prediction and labels are not on one grid.
    """
    images.require_same_grid(visit.truth, prediction)
    grid = visit.truth.grid
    # Lesions fill a small part of a scan: all but the domain of nDSC is seen there.
    box = _box_of((visit.truth.data > 0) | (prediction.data > 0))
    rows = []
    for tissue, labels in TISSUES.items():
        found, true = (np.isin(image.data[box], labels) for image in (prediction, visit.truth))
        voxels, lesions = metrics.Voxels.of(found, true), metrics.Lesions.of(found, true)
        overlapping = metrics.Lesions.of(found, true, connectivity=rules.f1_connectivity)
        counts = overlapping.count(inclusive=rules.f1_inclusive)
        lesionwise = metrics.score_lesionwise(found, true, affine=grid.affine)
        since_2026 = metrics.score_lesionwise_2026(found, true, affine=grid.affine, rules=rules)
        distance = metrics.hausdorff95(found, true, spacing_mm=grid.spacing_mm)
        pq, rq, sq = lesions.panoptic_quality()
        of_found = [lesion.dice for lesion in lesions.compare_each() if lesion.both]
        rows.append(
            {
                "tissue": tissue,
                "empty": voxels.empty,
                "truth_mm3": true.sum() * grid.voxel_volume_mm3,
                "predicted_mm3": found.sum() * grid.voxel_volume_mm3,
                "dsc": voxels.dice,
                "ndsc": voxels.normalised_dice(domain=visit.domain),
                "voxel_recall": voxels.recall,
                "voxel_precision": voxels.precision,
                "hd95_mm": metrics.BRATS_FAR_MM if math.isinf(distance) else distance,
                "n_truth": len(lesions.found),
                "n_predicted": len(lesions.false),
                "f1": counts.f1,
                "tpr": counts.tpr,
                "fdr": counts.fdr,
                "n_found": int(lesions.found.sum()),
                "sensitivity": lesions.found.mean() if lesions.found.size else None,
                "n_false": lesions.count_false(),
                "n_false_10mm3": lesions.count_false(min_voxels=FALSE_MIN_MM3 / grid.voxel_volume_mm3),
                "dsc_found": float(np.mean(of_found)) if of_found else None,
                "lesionwise_dsc": lesionwise.dice,
                "lesionwise_hd95_mm": lesionwise.hd95_mm,
                "lesionwise_dsc_2026": since_2026.dice,
                "lesionwise_nsd_2026": since_2026.nsd,
                "small_f1_2026": since_2026.small_f1,
                "pq": pq,
                "rq": rq,
                "sq": sq,
                **dict.fromkeys(("n_new", "n_vanished", "n_vanished_left", "n_false_vanished")),
            }
        )
    if visit.prior is not None:
        found, true = (np.isin(image.data, WHOLE) for image in (prediction, visit.truth))
        changes = metrics.count_changes(found, true, visit.prior)
        whole = next(row for row in rows if row["tissue"] == "whole")
        whole |= {"n_new": changes.new, "n_vanished": changes.vanished}
        whole |= {"n_vanished_left": changes.left, "n_false_vanished": changes.false}
    return rows


def _box_of(mask):
    return bounding_box(mask) if mask.any() else (slice(0, 1),) * 3


def score_lesions(prediction: Image, visit: Visit) -> list[dict]:
    """Score each true whole lesion: a row of the table ``evaluation_lesions``, but for whose it is."""
    found, true = (np.isin(image.data, WHOLE) for image in (prediction, visit.truth))
    lesions = metrics.Lesions.of(found, true)
    new = [None] * len(lesions.found)
    if visit.prior is not None:
        new = (~metrics.Lesions.of(visit.prior, true).found).tolist()
    rows = []
    for number, voxels in enumerate(lesions.compare_each()):
        volume = float(lesions.true_voxels[number] * visit.truth.voxel_volume_mm3)
        diameter = sphere_diameter_mm(volume)
        rows.append(
            {
                "lesion": number + 1,
                "new": new[number],
                "volume_mm3": volume,
                "diameter_mm": diameter,
                "diameter_group": [band for band, least in BANDS_MM.items() if diameter >= least][-1],
                "found": voxels.both > 0,
                "dsc": voxels.dice,
                "ndsc": voxels.normalised_dice(domain=visit.domain),
            }
        )
    return rows


def score_probability(probability: np.ndarray, visit: Visit, threshold: Threshold | None) -> dict:
    """Score one probability map as Grøvik et al. do: a row of ``evaluation_probabilities``, but for whose it is.

    Parameters
    ----------
    probability : (X, Y, Z) float
        Of a whole lesion, on the grid of the labels. Outside the brain mask nothing counts.
    visit : Visit
        With a brain mask.
    threshold : Threshold or None
        Chosen on other scans.
    """
    true = np.isin(visit.truth.data, WHOLE) & visit.brain
    found = (probability >= (threshold.value if threshold else math.inf)) & visit.brain
    roc = metrics.choose_threshold(probability[visit.brain], true[visit.brain])
    voxels, lesions = metrics.Voxels.of(found, true), metrics.Lesions.of(found, true)
    row = {
        "n_truth": lesions.true_voxels.size,
        "auc": roc.auc,
        "youden_threshold": roc.threshold,
        "youden_sensitivity": roc.sensitivity,
        "youden_specificity": roc.specificity,
    }
    if threshold is None:
        later = [name for name in schema.columns("evaluation_probabilities") if name.startswith("threshold")]
        return row | dict.fromkeys(later)
    least = FALSE_MIN_MM3 / visit.truth.voxel_volume_mm3
    return row | {
        "threshold": threshold.value,
        "threshold_from": threshold.source,
        "threshold_dsc": None if voxels.empty else voxels.dice,
        "threshold_recall": voxels.recall,
        "threshold_precision": voxels.precision,
        "threshold_sensitivity": lesions.found.mean() if lesions.found.size else None,
        "threshold_n_false": lesions.count_false(),
        "threshold_n_false_10mm3": lesions.count_false(min_voxels=least),
    }


def count_by_threshold(probability: np.ndarray, visit: Visit, rules: Rules = metrics.RULES) -> list[dict]:
    """Count what one probability map finds and what is false in it, at each threshold.

    Parameters
    ----------
    probability, visit
        As for `score_probability`.
    rules : Rules
        With the least volume of a lesion.

    Returns
    -------
    list of dict
        ``threshold`` (falling), ``n_lesions``, ``n_found``, ``n_false``.
    """
    inside, true = np.where(visit.brain, probability, 0), np.isin(visit.truth.data, WHOLE) & visit.brain
    least = rules.froc_min_mm3 / visit.truth.voxel_volume_mm3
    counted = metrics.count_free_response(inside, true, min_voxels=least)
    return [
        {"threshold": threshold, "n_lesions": counted.n_truth, "n_found": int(found), "n_false": int(false)}
        for threshold, found, false in zip(metrics.FROC_THRESHOLDS, counted.found, counted.false, strict=True)
    ]


def settle_threshold(given: str, *, validation: Sequence[Path] | None, labels: Mapping, desc: str | None) -> Threshold:
    """Take a threshold that is given, or choose it on scans of validation: the mean of their Youden thresholds.

    Parameters
    ----------
    given : str
        A number, or a folder with a method's probability maps of the scans of validation.
    validation : (2,) path, optional
        Folders with labels and brain masks of these scans.
    labels : mapping of (sub, ses) to path
        What will be scored: none of these files may be among the labels of validation.
    desc : str or None
        See `find_maps`.

    Raises
    ------
    InputError
        A number outside of 0 to 1, a folder without `validation`, labels that are scored with the threshold that was
        chosen on them, or not one scan to choose it on.
    """
    try:
        value = float(given)
    except ValueError:
        value = None
    if value is not None:
        if not 0 < value <= 1:
            raise InputError(
                "--threshold-from", found=given, expected="above 0, at most 1", advice="Give a probability."
            )
        return Threshold(value, "given")
    if validation is None:
        raise InputError(
            "--threshold-from",
            found=f"{given}, but no --validation",
            expected="labels and masks of the scans that the threshold is chosen on",
            advice="Add --validation LABELS MASKS, or give a number.",
        )
    folder, masks = validation
    truths, probabilities = find_maps(folder), find_maps(Path(given), kind="probseg", desc=desc)
    for key in set(truths) & set(labels):
        _require_different(truths[key], labels[key], "labels that are to be scored with the threshold chosen on them")
    chosen = []
    for visit in read_visits({key: truths[key] for key in set(truths) & set(probabilities)}, masks=masks):
        probability = read_lesion_probability(probabilities[visit.sub, visit.ses], visit.truth)[visit.brain]
        chosen.append(metrics.choose_threshold(probability, np.isin(visit.truth.data, WHOLE)[visit.brain]).threshold)
    chosen = [threshold for threshold in chosen if not math.isnan(threshold)]
    if not chosen:
        raise InputError(
            given,
            found=f"no probability map of a scan with lesions in {folder}",
            expected="at least one",
            advice="Name the method's predictions of the scans of validation.",
        )
    return Threshold(float(np.mean(chosen)), f"{given}: mean of {len(chosen)} scans")


# --- Scoring methods -----------------------------------------------------------------------------------------------


def score_methods(
    methods: Mapping[str, Path],
    labels: Path,
    *,
    labelled_only: bool = False,
    probabilities: str | None = None,
    thresholds: Mapping[str, str] | None = None,
    validation: Sequence[Path] | None = None,
    rules: Rules = metrics.RULES,
    **reading,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Score every method on every labelled session.

    Parameters
    ----------
    methods : mapping
        Name to folder of predictions. Probability maps (``*_probseg.nii*``) beside them are scored where there are
        brain masks.
    labels : path
        Folder of labels.
    labelled_only : bool
        Leave predictions without labels out, instead of refusing them.
    probabilities : str, optional
        Which probability map is meant where a session has several: its ``desc-``.
    thresholds : mapping, optional
        Name of a method to what `settle_threshold` takes.
    validation : (2,) path, optional
        See `settle_threshold`.
    rules : Rules
        What is done in more than one way.
    **reading
        See `read_visits`.

    Returns
    -------
    scans, lesions, probabilities, froc : DataFrame
        See the columns of ``evaluation_scans``, ``evaluation_lesions``, ``evaluation_probabilities``,
        ``evaluation_froc``.
    """
    truths = find_maps(labels)
    predictions = {
        name: find_predictions(folder, truths, labelled_only=labelled_only) for name, folder in methods.items()
    }
    maps = {
        name: find_maps(folder, kind="probseg", desc=probabilities)
        for name, folder in methods.items()
        if reading.get("masks") and any(Path(folder).glob("sub-*/ses-*/anat/*_probseg.nii*"))
    }
    settled = {
        name: settle_threshold(given, validation=validation, labels=truths, desc=probabilities)
        for name, given in (thresholds or {}).items()
    }
    lacking = sorted(set(settled) - set(maps))
    if lacking:
        raise InputError(
            "--threshold-from",
            found=f"{', '.join(lacking)}: no probability maps that could be scored",
            expected="methods with *_probseg.nii.gz beside their label maps, and --masks",
            advice="Add them, or leave the threshold out.",
        )
    scans, lesions, scored, by_threshold = [], [], [], []
    for visit in read_visits(truths, **reading):
        key = visit.sub, visit.ses
        for name, files in predictions.items():
            predicted = images.read_labels(files[key], images.TISSUE_LABELS)
            rows = score_scan(predicted, visit, rules)
            n_new = next(row["n_new"] for row in rows if row["tissue"] == "whole")
            about = {
                "method": name,
                "participant_id": f"sub-{visit.sub}",
                "session_id": f"ses-{visit.ses}",
                "first": visit.first,
                "known": False if visit.first else None if n_new is None else n_new == 0,
            }
            scans += [about | row for row in rows]
            lesions += [about | row for row in score_lesions(predicted, visit)]
            if key in maps.get(name, {}):
                probability = read_lesion_probability(maps[name][key], visit.truth)
                scored.append(about | score_probability(probability, visit, settled.get(name)))
                by_threshold += [about | row for row in count_by_threshold(probability, visit, rules)]
    return (
        schema.make_table(scans, "evaluation_scans"),
        schema.make_table(lesions, "evaluation_lesions"),
        schema.make_table(scored, "evaluation_probabilities"),
        pool_by_threshold(pd.DataFrame(by_threshold), rules),
    )


def pool_by_threshold(by_threshold: pd.DataFrame, rules: Rules = metrics.RULES) -> pd.DataFrame:
    """Return free-response curves, all scans of a subset together: the table ``evaluation_froc``.

    Parameters
    ----------
    by_threshold : DataFrame
        Rows of `count_by_threshold` with whose they are.
    rules : Rules
        With the least volume of a lesion.
    """
    rows = []
    for subset in SUBSETS if len(by_threshold) else ():
        for method, part in in_subset(by_threshold, subset).groupby("method", sort=False):
            by = part.groupby("threshold")[["n_lesions", "n_found", "n_false"]]
            curve = by.sum().assign(n_scans=by.size()).sort_index(ascending=False).reset_index()
            curve["sensitivity"] = (curve["n_found"] / curve["n_lesions"]).where(curve["n_lesions"] > 0)
            curve["false_per_scan"] = curve["n_false"] / curve["n_scans"]
            curve["merging"] = curve.index > curve["n_false"][::-1].idxmax()
            about = {"method": method, "subset": subset, "tissue": "whole", "min_mm3": rules.froc_min_mm3}
            rows += curve.assign(**about).to_dict("records")
    return schema.make_table(rows, "evaluation_froc")


def in_subset(table: pd.DataFrame, subset: str) -> pd.DataFrame:
    """Return the rows of first visits, follow-ups, follow-ups without a new lesion, or all."""
    first = table["first"].astype(bool)
    chosen = {
        "all": first | True,
        "first": first,
        "follow-up": ~first,
        "known": table["known"].fillna(False).astype(bool),
    }
    return table[chosen[subset]]


def group_of_number(n_lesions: pd.Series) -> pd.Series:
    """Return the group of scans with so many lesions (`metrics.LESION_GROUPS`); missing without any."""
    return pd.cut(n_lesions.astype(float), [0, 3, 10, math.inf], labels=list(metrics.LESION_GROUPS)).astype(object)


def summarise(
    scans: pd.DataFrame, lesions: pd.DataFrame, probabilities: pd.DataFrame, froc: pd.DataFrame
) -> pd.DataFrame:
    """Return means by method, subset, tissue and group: the table ``evaluation_summary``."""
    rows = []
    for subset in SUBSETS:
        for (method, tissue), group in in_subset(scans, subset).groupby(["method", "tissue"], sort=False):
            about = {"method": method, "subset": subset, "tissue": tissue}
            rows += _means(group, about, (*HIGHER, *LOWER))
            rows += _pool(group, about)
            if tissue == "whole":
                for number, part in group.groupby(group_of_number(group["n_truth"])):
                    rows += _means(part, about | {"group": number}, BY_NUMBER)
        about = {"subset": subset, "tissue": "whole"}
        for method, group in in_subset(lesions, subset).groupby("method", sort=False):
            renamed = group.rename(columns={name: f"lesion_{name}" for name in ("found", "dsc", "ndsc")})
            renamed["lesion_found"] = renamed["lesion_found"].astype(float)
            scores = ("lesion_found", "lesion_dsc", "lesion_ndsc")
            rows += _means(renamed, about | {"method": method}, scores)
            rows += _means(renamed[group["found"]], about | {"method": method, "group": "found"}, scores[1:])
            for band, part in renamed.groupby("diameter_group"):
                rows += _means(part, about | {"method": method, "group": band}, scores)
        for method, group in in_subset(probabilities, subset).groupby("method", sort=False):
            rows += _means(group, about | {"method": method}, PROBABILITY_SCORES)
            for number, part in group.groupby(group_of_number(group["n_truth"])):
                rows += _means(part, about | {"method": method, "group": number}, PROBABILITY_SCORES)
    for (method, subset), curve in froc[~froc["merging"]].groupby(["method", "subset"], sort=False):
        rates = metrics.sensitivity_at(curve["sensitivity"], curve["false_per_scan"])
        about = {"method": method, "subset": subset, "tissue": "whole", "group": "all", "sd": None}
        about |= {"n": curve["n_lesions"].iloc[0]}
        rows += [
            about | {"score": f"froc_sensitivity_{rate:g}", "mean": value}
            for rate, value in zip(metrics.FROC_RATES, rates, strict=True)
        ]
        rows.append(about | {"score": "froc_sensitivity", "mean": float(np.mean(rates))})
    return schema.make_table(rows, "evaluation_summary")


def _means(table, about, scores):
    for score in scores:
        values = (table if score in FALSE or "empty" not in table else table[~table["empty"]])[score].dropna()
        values = values.astype(float)
        yield {"group": "all"} | about | {"score": score, "n": len(values), "mean": values.mean(), "sd": values.std()}


def _pool(scans, about):
    found, true, false = (int(scans[name].sum()) for name in ("n_found", "n_truth", "n_false"))
    for score, of in (("pooled_sensitivity", true), ("pooled_precision", found + false)):
        share = found / of if of else None
        yield about | {"group": "all", "score": score, "n": of, "mean": share, "sd": None}


def compare_methods(scans: pd.DataFrame, reference: str) -> list[dict]:
    """Test whether every other method is better than one: paired one-tailed t-tests over patients.

    Only scans where both have a score count, so that both means of a patient are of the same scans.

    Raises
    ------
    InputError
        The reference is none of the methods.
    """
    names = scans["method"].unique().tolist()
    if reference not in names:
        raise InputError(
            "--reference",
            found=reference,
            expected=f"one of {', '.join(names)}",
            advice="Name a method that is scored.",
        )
    scan = ["participant_id", "session_id"]
    rows = []
    for subset in SUBSETS:
        for tissue, part in in_subset(scans, subset).groupby("tissue", sort=False):
            of = {name: part[part["method"] == name].set_index(scan) for name in names}
            for method in [name for name in names if name != reference]:
                some = ~(of[method]["empty"] & of[reference]["empty"])
                for score in (*HIGHER, *LOWER):
                    both = pd.DataFrame({"new": of[method][score], "old": of[reference][score]})
                    both = (both if score in FALSE else both[some]).dropna().astype(float)
                    new, old = (both.groupby("participant_id")[side].apply(list).to_dict() for side in both)
                    t, p = metrics.is_better(new, old) if score in HIGHER else metrics.is_better(old, new)
                    about = {"method": method, "test": "paired_t", "against": reference, "subset": subset}
                    about |= {"tissue": tissue, "group": "all", "score": score, "n": len(new)}
                    rows.append(about | {"statistic": t, "p": p})
    return rows


def compare_numbers(scans: pd.DataFrame, probabilities: pd.DataFrame) -> list[dict]:
    """Compare scans with 1-3, 4-10 and more lesions, two groups at a time, by method: rank-sum tests."""
    rows = []
    whole = scans[scans["tissue"] == "whole"]
    for table, scores in ((whole, BY_NUMBER), (probabilities, PROBABILITY_SCORES)):
        for method, part in table.groupby("method", sort=False):
            group = group_of_number(part["n_truth"])
            for score in scores:
                split = {
                    name: part.loc[group == name, score].dropna().astype(float).tolist()
                    for name in metrics.LESION_GROUPS
                }
                about = {"method": method, "test": "rank_sum", "subset": "all", "tissue": "whole", "score": score}
                rows += [
                    about | {"group": a, "against": b, "n": len(split[a]) + len(split[b]), "statistic": None, "p": p}
                    for (a, b), p in metrics.compare_groups(split).items()
                ]
    return rows


def correlate_size(lesions: pd.DataFrame) -> list[dict]:
    """Correlate lesion volume with DSC and nDSC by method (Spearman), missed lesions included and left out."""
    rows = []
    for subset in SUBSETS:
        for method, part in in_subset(lesions, subset).groupby("method", sort=False):
            for group, chosen in (("all", part), ("found", part[part["found"]])):
                about = {"method": method, "test": "spearman", "against": "volume_mm3", "subset": subset}
                about |= {"tissue": "whole", "group": group, "n": len(chosen)}
                for score in ("dsc", "ndsc"):
                    rho, p = metrics.size_effect(chosen["volume_mm3"], chosen[score])
                    rows.append(about | {"score": f"lesion_{score}", "statistic": rho, "p": p})
    return rows


def evaluate(methods: Mapping[str, Path], labels: Path, out: Path, *, reference: str | None, **settings) -> None:
    """Score methods and write their tables (CSV and JSON), a picture and a page.

    Parameters
    ----------
    methods, labels, **settings
        As for `score_methods`.
    out : path
        Folder of ``scans``, ``lesions``, ``probabilities``, ``froc``, ``summary``, ``tests``, of ``froc.svg`` and of
        ``evaluation.md``, made when missing.
    reference : str or None
        The method that the others are tested against; the last one if not given.
    """
    reference = reference or list(methods)[-1]
    scans, lesions, probabilities, froc = score_methods(methods, labels, **settings)
    tests = [*compare_methods(scans, reference), *compare_numbers(scans, probabilities), *correlate_size(lesions)]
    written = {
        "scans": scans,
        "lesions": lesions,
        "probabilities": probabilities,
        "froc": froc,
        "summary": summarise(scans, lesions, probabilities, froc),
        "tests": schema.make_table(tests, "evaluation_tests"),
    }
    out = Path(out)
    for name, table in written.items():
        schema.write_csv_mirror(table, out / f"{name}.csv", f"evaluation_{name}")
    charts.draw_froc(froc[(froc["subset"] == "all") & ~froc["merging"]], out / "froc.svg")
    text = page.make_page(written, methods, labels, reference=reference, settings=settings)
    (out / "evaluation.md").write_text(text, encoding="utf-8")


def read_pairs(arguments: Sequence[str], *, example: str) -> dict[str, str]:
    """Read ``NAME=VALUE`` arguments.

    >>> read_pairs(["ours=a/b"], example="ours=a/b")
    {'ours': 'a/b'}
    """
    pairs: dict[str, str] = {}
    for argument in arguments:
        name, _, value = argument.partition("=")
        if not name or not value or name in pairs:
            raise InputError(
                argument,
                found="a name twice" if name in pairs else "no NAME=VALUE",
                expected="NAME=VALUE for each method, each name once",
                advice=f"E.g. {example}",
            )
        pairs[name] = value
    return pairs
