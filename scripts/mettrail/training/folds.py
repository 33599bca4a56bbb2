"""Cross-validation folds by patient: all visits of a patient together, folds with about the same number of visits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mettrail.errors import InputError
from mettrail.reasons import Reason


def assign_folds(visits: Mapping[str, int], *, folds: int, seed: int) -> dict[str, int]:
    """Say which patient is held out in which fold.

    Parameters
    ----------
    visits : patient -> number of visits
    folds : int
    seed : int
        Decides among patients with equally many visits; the same seed gives the same folds.

    Returns
    -------
    dict
        patient -> fold, 0 to ``folds`` - 1.

    Raises
    ------
    InputError
        Fewer patients than folds.

    Notes
    -----
    Patients with most visits first, each into the fold that has the fewest so far: folds differ by no more than the
    visits of one patient. Andrearczyk et al., Sci Rep 2024 (models and training) ask for such folds and do not say how
    they were found.
    """
    if len(visits) < folds:
        raise InputError(
            "config: train.folds",
            found=f"{folds} folds for {len(visits)} patients ({', '.join(sorted(visits))})",
            expected="at least one patient for each fold",
            advice="Add patients with labels, or ask for fewer folds.",
            reason=Reason.TOO_FEW_PATIENTS,
        )
    names = sorted(visits)
    order = np.random.default_rng(seed).permutation(len(names))
    load = [0] * folds
    out = {}
    for name in sorted((names[i] for i in order), key=lambda name: visits[name], reverse=True):
        out[name] = load.index(min(load))
        load[out[name]] += visits[name]
    return {name: out[name] for name in names}


def make_splits(cases: Sequence[Mapping[str, Any]], *, folds: int, seed: int) -> list[dict[str, list[str]]]:
    """Return nnU-Net's splits_final.json.

    Parameters
    ----------
    cases : list of dict
        ``case`` (name), ``sub`` (patient), ``validates`` (bool: may stand in a validation set).
    folds, seed
        See `assign_folds`.

    Returns
    -------
    list of dict
        Per fold ``train`` and ``val``, case names. A case that does not validate is in no ``val``, and not in the
        ``train`` of the fold that holds its patient out.

    Raises
    ------
    InputError
        Fewer patients than folds, or a fold in which nothing validates.
    """
    visits: dict[str, int] = {}
    for case in cases:
        visits[case["sub"]] = visits.get(case["sub"], 0) + 1
    fold_of = assign_folds(visits, folds=folds, seed=seed)
    splits = []
    for fold in range(folds):
        held_out = [case for case in cases if fold_of[case["sub"]] == fold]
        split = {
            "train": [case["case"] for case in cases if fold_of[case["sub"]] != fold],
            "val": [case["case"] for case in held_out if case["validates"]],
        }
        if not split["val"] or not split["train"]:
            raise InputError(
                "config: train.folds",
                found=f"fold {fold}: {len(split['train'])} sessions to train on, {len(split['val'])} to validate on",
                expected="some of both; re-segmentation validates on follow-ups of a visit with labels",
                advice="Ask for fewer folds (at least two), or add patients.",
                reason=Reason.TOO_FEW_PATIENTS,
            )
        splits.append(split)
    require_apart(splits, {case["case"]: case["sub"] for case in cases})
    return splits


def require_apart(splits: Sequence[Mapping[str, Sequence[str]]], patient_of: Mapping[str, str]) -> None:
    """Refuse splits in which a patient is trained on and validated on at once.

    Raises
    ------
    InputError
        Names the patients.
    """
    for fold, split in enumerate(splits):
        both = {patient_of[case] for case in split["train"]} & {patient_of[case] for case in split["val"]}
        if both:
            raise InputError(
                f"splits_final.json, fold {fold}",
                found=f"visits of {', '.join(sorted(both))} in training and in validation",
                expected="all visits of a patient on one side",
                advice="Put them together: a network recognises a patient it has seen.",
                reason=Reason.PATIENT_IN_TWO_SETS,
            )
