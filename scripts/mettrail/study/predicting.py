"""What trained methods say of sessions they have not seen, through the pipeline's own contract, and what that costs."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils import flop_counter

from mettrail.drawn import read_lesions
from mettrail.evaluation.inputs import WHOLE
from mettrail.evaluation.metrics import score_roc
from mettrail.geometry import decide_labels, grow_mask, whole_lesion
from mettrail.images import (
    LESION_LABELS,
    Image,
    read_image,
    read_labels,
    read_mask,
    resample,
    write_labels,
    write_probabilities,
)
from mettrail.segmentation.model_folder import CARD, PRIOR, PRIOR_IMAGE
from mettrail.segmentation.models import Model, describe_model
from mettrail.segmentation.prediction import predict_probabilities


@dataclass(frozen=True)
class Cost:
    """Of one session.

    Parameters
    ----------
    cpu_s : float
        Seconds of all cores.
    gmacs : float
        Multiplications and additions of convolutions and matrices, 10^9.
    """

    cpu_s: float
    gmacs: float


def predict_session(
    model: Model, session: Mapping[str, Any], *, grow_mm: float, device: str, threads: int
) -> tuple[Image, np.ndarray, Cost]:
    """Predict a session as rule `segment` does.

    Parameters
    ----------
    model : Model
    session : mapping
        ``images``: name -> file, the reference first; ``mask``; ``prior``, ``prior_image``: files or None.
    grow_mm : float
        See ``strip`` of config/config.yaml.
    device : str
    threads : int

    Returns
    -------
    mask : Image
        Brain mask.
    probabilities : (X, Y, Z, 5) float32
    cost : Cost
    """
    mask = read_mask(session["mask"])
    channels = {name: read_image(path).data for name, path in session["images"].items() if name in model.channels}
    if session["prior_image"] and PRIOR_IMAGE in model.channels:
        channels[PRIOR_IMAGE] = read_image(session["prior_image"]).data
    if PRIOR in model.channels:
        # A first visit is read like one whose prior visit had no lesions.
        prior = read_labels(session["prior"], LESION_LABELS).data if session["prior"] else np.zeros(mask.data.shape)
        channels[PRIOR] = np.isin(prior, WHOLE).astype(np.float32)
    within = grow_mask(mask.data, spacing_mm=mask.spacing_mm, grow_mm=grow_mm)
    began = time.process_time()
    with flop_counter.FlopCounterMode(display=False, custom_mapping=_ON_CPU) as counter:
        probabilities = predict_probabilities(model, channels, within=within, device=device, threads=threads)
    cost = Cost(time.process_time() - began, counter.get_total_flops() / 2e9)
    return mask, probabilities, cost


def _count_onednn(image: Any, weight: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """Count a convolution that oneDNN does (`prediction.use_onednn`), which torch's counter does not know."""
    operations: int = flop_counter.conv_flop_count(list(image), list(weight), list(out_shape), transposed=False)
    return operations


_ON_CPU = {torch.ops.aten.mkldnn_convolution.default: _count_onednn}


def write_prediction(folder: Path, session: Mapping[str, Any], mask: Image, probabilities: np.ndarray) -> None:
    """Write labels and class probabilities as `evaluation` reads them."""
    path = place_of(folder, session, "desc-lesion_probseg")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_probabilities(path, probabilities, mask.affine)
    write_labels(place_of(folder, session, "desc-tissue_dseg"), decide_labels(probabilities), mask.affine)


def predict_all(
    model: Model, sessions: Sequence[Mapping[str, Any]], folder: Path, *, grow_mm: float, device: str, threads: int
) -> pd.DataFrame:
    """Predict sessions, write what is found, and return what each costs: ``sub``, ``ses``, ``cpu_s``, ``gmacs``."""
    costs = []
    for session in sessions:
        mask, probabilities, cost = predict_session(model, session, grow_mm=grow_mm, device=device, threads=threads)
        write_prediction(folder, session, mask, probabilities)
        costs.append({"sub": session["sub"], "ses": session["ses"], "cpu_s": cost.cpu_s, "gmacs": cost.gmacs})
    return pd.DataFrame(costs)


def place_of(folder: Path, session: Mapping[str, Any], what: str) -> Path:
    """Return where something of a session lies in a derivatives folder."""
    sub, ses = session["sub"], session["ses"]
    return Path(folder) / f"sub-{sub}" / f"ses-{ses}" / "anat" / f"sub-{sub}_ses-{ses}_{what}.nii.gz"


def without_detector(model: Model) -> Model:
    """Return a two-stage model whose detector lets every tile pass."""
    plans = copy.deepcopy(model.plans)
    plans["configurations"][model.configuration]["architecture"]["arch_kwargs"]["threshold"] = 0.0
    return dataclasses.replace(model, plans=plans)


def settle_threshold(
    model: Model, sessions: Sequence[Mapping[str, Any]], *, grow_mm: float, device: str, threads: int
) -> None:
    """Choose the threshold on the development patients, and write it into the model folder."""
    found = []
    for session in sessions:
        mask, probabilities, _ = predict_session(model, session, grow_mm=grow_mm, device=device, threads=threads)
        truth = read_truth(session, mask)
        found.append((whole_lesion(probabilities), np.isin(truth, WHOLE), mask.data > 0))
    threshold = round(choose_threshold(found), 4)
    print(f"threshold chosen on {len(found)} sessions: {threshold}")
    description = model.description | {"threshold": threshold}
    card = (model.folder / CARD).read_text(encoding="utf-8")
    note = f"The threshold was chosen on {len(found)} sessions by Youden's index: {threshold}."
    describe_model(model, description=description, card=f"{card}\n{note}\n")


def read_truth(session: Mapping[str, Any], mask: Image) -> np.ndarray:
    """Read a session's labels onto the 1 mm grid that predictions are on."""
    drawn = read_lesions(session["labels"], session["scheme"])
    return resample(drawn, mask.grid, order=0).data.astype(np.uint8)


def choose_threshold(found: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> float:
    """Return the mean of the thresholds at which Youden's index is highest (Grøvik et al. 2020).

    Parameters
    ----------
    found : sequence of (probability, truth, brain)
        (X, Y, Z) of each session of the development patients; probabilities are those of the network.

    Returns
    -------
    float
        0.5 where no session has a lesion.
    """
    best = [score_roc(probability[brain], truth[brain]).threshold for probability, truth, brain in found]
    known = [threshold for threshold in best if np.isfinite(threshold)]
    return float(np.clip(np.mean(known), 0.01, 0.99)) if known else 0.5
