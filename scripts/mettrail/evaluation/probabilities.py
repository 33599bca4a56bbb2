"""Scores of probability maps: ROC of voxels, scores at a threshold chosen on other scans, free-response curves.

All of them count inside the brain mask only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mettrail import schema
from mettrail.errors import InputError
from mettrail.evaluation import inputs, metrics
from mettrail.evaluation.inputs import Key, LabelledSession
from mettrail.evaluation.metrics import Rules
from mettrail.evaluation.scores import FALSE_MIN_MM3
from mettrail.evaluation.subsets import SUBSETS, in_subset

# Columns of ``evaluation_probabilities`` of which there are means. To add one: give it a value in `score_probability`
# and a column of the same name in `mettrail.schema.evaluation`.
PROBABILITY_SCORES = (
    "auc", "youden_sensitivity", "youden_specificity", "threshold_dsc", "threshold_recall", "threshold_precision",
    "threshold_sensitivity", "threshold_n_false", "threshold_n_false_10mm3",
)  # fmt: skip


@dataclass(frozen=True)
class Threshold:
    """From which probability on a voxel is lesion, and where that comes from."""

    value: float
    source: str


def choose_threshold(
    given: str, *, validation: tuple[Path, Path] | None, labels: Mapping[Key, Path], desc: str | None
) -> Threshold:
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
        See `inputs.find_maps`.

    Raises
    ------
    InputError
        A number outside of 0 to 1, a folder without `validation`, labels that are scored with the threshold that was
        chosen on them, or not one scan to choose it on.
    """
    try:
        value = float(given)
    except ValueError:
        return _choose_on(given, validation=validation, labels=labels, desc=desc)
    if not 0 < value <= 1:
        raise InputError("--threshold-from", found=given, expected="above 0, at most 1", advice="Give a probability.")
    return Threshold(value, "given")


def _choose_on(
    given: str, *, validation: tuple[Path, Path] | None, labels: Mapping[Key, Path], desc: str | None
) -> Threshold:
    if validation is None:
        raise InputError(
            "--threshold-from",
            found=f"{given}, but no --validation",
            expected="labels and masks of the scans that the threshold is chosen on",
            advice="Add --validation LABELS MASKS, or give a number.",
        )
    folder, masks = validation
    truths, maps = inputs.find_maps(folder), inputs.find_maps(Path(given), kind="probseg", desc=desc)
    for key in set(truths) & set(labels):
        inputs.require_different(
            truths[key], labels[key], "labels that are to be scored with the threshold chosen on them"
        )
    chosen = []
    for session in inputs.read_sessions({key: truths[key] for key in set(truths) & set(maps)}, masks=masks):
        brain = session.require_brain()
        probability = inputs.read_lesion_probability(maps[session.sub, session.ses], session.truth)
        chosen.append(metrics.score_roc(probability[brain], session.lesions[brain]).threshold)
    chosen = [threshold for threshold in chosen if not math.isnan(threshold)]
    if not chosen:
        raise InputError(
            given,
            found=f"no probability map of a scan with lesions in {folder}",
            expected="at least one",
            advice="Name the method's predictions of the scans of validation.",
        )
    return Threshold(float(np.mean(chosen)), f"{given}: mean of {len(chosen)} scans")


def score_probability(probability: np.ndarray, session: LabelledSession, threshold: Threshold | None) -> dict[str, Any]:
    """Score one probability map as Grøvik et al. do: a row of ``evaluation_probabilities``, but for whose it is.

    Parameters
    ----------
    probability : (X, Y, Z) float
        Of a whole lesion, on the grid of the labels.
    session : LabelledSession
        With a brain mask.
    threshold : Threshold or None
        Chosen on other scans.
    """
    brain = session.require_brain()
    true = session.lesions & brain
    found = (probability >= (threshold.value if threshold else math.inf)) & brain
    roc = metrics.score_roc(probability[brain], true[brain])
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
    least = FALSE_MIN_MM3 / session.truth.voxel_volume_mm3
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


def count_by_threshold(
    probability: np.ndarray, session: LabelledSession, rules: Rules = metrics.RULES
) -> list[dict[str, Any]]:
    """Count what one probability map finds and what is false in it, at each threshold.

    Parameters
    ----------
    probability, session
        As for `score_probability`.
    rules : Rules
        With the least volume of a lesion.

    Returns
    -------
    list of dict
        ``threshold`` (falling), ``n_lesions``, ``n_found``, ``n_false``.
    """
    brain = session.require_brain()
    least = rules.froc_min_mm3 / session.truth.voxel_volume_mm3
    inside = np.where(brain, probability, 0)
    counted = metrics.count_free_response(inside, session.lesions & brain, min_voxels=least)
    return [
        {"threshold": threshold, "n_lesions": counted.n_truth, "n_found": int(found), "n_false": int(false)}
        for threshold, found, false in zip(metrics.FROC_THRESHOLDS, counted.found, counted.false, strict=True)
    ]


def pool_by_threshold(by_threshold: pd.DataFrame, rules: Rules = metrics.RULES) -> pd.DataFrame:
    """Return free-response curves, all scans of a subset together: the table ``evaluation_froc``.

    Parameters
    ----------
    by_threshold : DataFrame
        Rows of `count_by_threshold` with whose they are.
    rules : Rules
        With the least volume of a lesion.
    """
    rows: list[pd.DataFrame] = []
    for subset in SUBSETS if len(by_threshold) else ():
        for method, part in in_subset(by_threshold, subset).groupby("method", sort=False):
            by = part.groupby("threshold")[["n_lesions", "n_found", "n_false"]]
            curve = by.sum().assign(n_scans=by.size()).sort_index(ascending=False).reset_index()
            curve["sensitivity"] = (curve["n_found"] / curve["n_lesions"]).where(curve["n_lesions"] > 0)
            curve["false_per_scan"] = curve["n_false"] / curve["n_scans"]
            curve["merging"] = curve.index > curve["n_false"][::-1].idxmax()
            about = {"method": method, "subset": subset, "tissue": "whole", "min_mm3": rules.froc_min_mm3}
            rows.append(curve.assign(**about))
    return schema.make_table(pd.concat(rows, ignore_index=True) if rows else [], "evaluation_froc")
