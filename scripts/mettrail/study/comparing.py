"""From predictions to the page: every method scored on the same patients by the same rules."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mettrail.evaluation import metrics, scoring
from mettrail.evaluation.inputs import WHOLE, find_maps
from mettrail.files import write_whole
from mettrail.geometry import label_components
from mettrail.images import LESION_LABELS, read_labels, read_mask, read_probabilities, write_labels
from mettrail.report import charts
from mettrail.segmentation import fusion
from mettrail.study import orders, page
from mettrail.study.cases import Case
from mettrail.study.methods import DERIVED, Method
from mettrail.study.predicting import place_of, read_truth, write_prediction


def compare(
    methods: Sequence[Method],
    sessions: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    splits: Mapping[str, Sequence[str]],
    settings: Mapping[str, Any],
    fusion_settings: Mapping[str, Any],
) -> None:
    """Score all predictions and write ``evaluation/``, ``comparison.md`` and ``comparison.html``.

    Parameters
    ----------
    methods : sequence of Method
    sessions : sequence of mapping
        Of the test patients.
    folder : Path
        With ``predictions/``, ``costs/`` and ``cases/``.
    splits : mapping
        Patients by set.
    settings : mapping
        ``compare`` of the configuration.
    fusion_settings : mapping
        Of the rule that puts detection and re-segmentation together.
    """
    evaluation = folder / "evaluation"
    shutil.rmtree(evaluation, ignore_errors=True)
    truth = _write_truth(sessions, evaluation)
    studied = [method.name for method in methods if method.name.startswith("inputs_")]
    names = [method.name for method in methods if method.name not in studied]
    names += [name for name, base in DERIVED.items() if base in names]
    predictions = {name: folder / "predictions" / name for name in names}
    if {"unet", "unet_prior"} <= set(names):
        predictions |= _write_followup_methods(sessions, folder, evaluation, fusion_settings)
    # The study of inputs alone has none.
    scans = froc = pd.DataFrame(columns=["method", "participant_id"])
    tables = ""
    if predictions:
        scoring.evaluate(
            predictions,
            evaluation / "truth",
            evaluation,
            reference="unet" if "unet" in predictions else None,
            settings=scoring.Settings(masks=evaluation / "masks"),
        )
        scans, froc = (pd.read_csv(evaluation / f"{name}.csv") for name in ("scans", "froc"))
        # The page lies in this folder, and may be passed on.
        tables = (evaluation / "evaluation.md").read_text(encoding="utf-8").replace(f"{folder}/", "")
        shutil.copyfile(evaluation / "froc.svg", folder / "froc.svg")
    costs = pd.concat(
        [pd.read_csv(folder / "costs" / f"{name}.csv").assign(method=name) for name in (*names, *studied)],
        ignore_index=True,
    )
    inputs = _score_inputs(studied, folder, truth)
    results = orders.Results(scans, froc, costs, inputs, draws=settings["bootstrap"], seed=settings["seed"])
    found = orders.find_orders(results, alphas=settings["alphas"])
    if len(inputs):
        charts.draw_inputs(inputs, folder / "inputs.svg")
    text = page.make_page(
        methods,
        results,
        found,
        sets=_count(splits, truth, folder / "cases"),
        settings=settings,
        evaluation=tables,
    )
    pd.DataFrame([vars(order) for order in found]).to_csv(evaluation / "orders.csv", index=False)
    write_whole(folder / "comparison.md", text)
    write_whole(folder / "comparison.html", page.as_html(text))


def _write_truth(sessions: Sequence[Mapping[str, Any]], evaluation: Path) -> dict[tuple[str, str], np.ndarray]:
    """Write labels and brain masks on the grid of the predictions."""
    truths = {}
    for session in sessions:
        mask = read_mask(session["mask"])
        truth = read_truth(session, mask)
        for where, what, data in (("truth", "desc-tissue_dseg", truth), ("masks", "desc-brain_mask", mask.data)):
            path = place_of(evaluation / where, session, what)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_labels(path, data.astype(np.uint8), mask.affine)
        truths[session["sub"], session["ses"]] = truth
    return truths


def _write_followup_methods(
    sessions: Sequence[Mapping[str, Any]], folder: Path, evaluation: Path, settings: Mapping[str, Any]
) -> dict[str, Path]:
    """Registration alone, and detection with re-segmentation, as a follow-up may be read; first visits have neither."""
    out = {name: evaluation / name for name in ("registration", "both")}
    for session in sessions:
        mask = read_mask(session["mask"])
        detected, again = (
            read_probabilities(place_of(folder / "predictions" / name, session, "desc-lesion_probseg"))
            for name in ("unet", "unet_prior")
        )
        prior = read_labels(session["prior"], LESION_LABELS) if session["prior"] else None
        carried = np.zeros(mask.data.shape, np.uint8) if prior is None else prior.data
        path = place_of(out["registration"], session, "desc-tissue_dseg")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_labels(path, carried, mask.affine)
        fused = fusion.fuse(
            detected,
            again if prior is not None else None,
            prior,
            touch_mm=settings["touch_mm"],
            edema_max_mm=settings["edema_max_mm"],
        )
        write_prediction(out["both"], session, mask, fused.data)
    return out


def _score_inputs(names: Sequence[str], folder: Path, truth: Mapping[tuple[str, str], np.ndarray]) -> pd.DataFrame:
    """Dice of whole lesions of each network of the study of inputs, in each scan that has any."""
    rows = []
    for name in names:
        inputs, _, seed = name.rpartition("_seed")
        for (sub, ses), path in find_maps(folder / "predictions" / name).items():
            found, true = (np.isin(data, WHOLE) for data in (read_labels(path).data, truth[sub, ses]))
            if found.any() or true.any():
                dice = metrics.Voxels.of(found, true).dice
                rows.append({"inputs": inputs, "seed": int(seed), "participant_id": f"sub-{sub}", "dsc": dice})
    return pd.DataFrame(rows, columns=["inputs", "seed", "participant_id", "dsc"])


def _count(
    splits: Mapping[str, Sequence[str]],
    truth: Mapping[tuple[str, str], np.ndarray],
    cases: Path,
) -> dict[str, dict[str, int]]:
    """Count patients, sessions and lesions of the sets that are trained on and compared on."""
    trained = [Case(path) for path in sorted(cases.glob("sub-*"))]
    return {
        "training": {
            "patients": len(splits["train"]),
            "sessions": len(trained),
            "lesions": sum(len(case.lesions) for case in trained),
        },
        "test": {
            "patients": len(splits["test"]),
            "sessions": len(truth),
            "lesions": sum(label_components(np.isin(each, WHOLE))[1] for each in truth.values()),
        },
    }
