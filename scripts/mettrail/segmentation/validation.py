"""How a trained network does on held-out phantoms, lesion by lesion; and the threshold that follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage

from mettrail.images import ENHANCING, NECROSIS, Image
from mettrail.segmentation.fusion import fuse
from mettrail.segmentation.models import PRIOR, Model
from mettrail.segmentation.prediction import predict_probabilities

TOUCHING = np.ones((3, 3, 3), bool)
# A predicted piece smaller than this would not start a track.
FALSE_MM3 = 10
SMALL_MM = 5.0
LARGE_ML = 0.5
TOUCH_MM = 3
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def predict_held_out(model: Model, folder: Path, *, threads: int) -> Iterator[tuple[str, dict, np.ndarray]]:
    """Yield name, arrays and (X, Y, Z, 4) probabilities of each held-out session."""
    for path in sorted(Path(folder).glob("val*.npz")):
        with np.load(path) as stored:
            case = dict(stored)
        channels = {model.channels[0]: case["image"], PRIOR: case["prior"].astype(np.float32)}
        yield path.stem, case, predict_probabilities(model, channels, mask=None, device="auto", threads=threads)


def score(
    probabilities: np.ndarray, tissue: np.ndarray, instances: np.ndarray, *, threshold: float, near: np.ndarray | None
) -> dict:
    """Compare one session's prediction with the truth.

    Parameters
    ----------
    probabilities : (X, Y, Z, 4) float
    tissue, instances : (X, Y, Z) unsigned int, 1 mm
        Labels, and whole lesions numbered.
    threshold : float
        Of whole lesion.
    near : (X, Y, Z) bool, optional
        Only lesions and pieces that touch this count: those with a prior, for re-segmentation.

    Returns
    -------
    dict
        ``lesions``: list of (diameter mm, true mm3, predicted mm3); ``false``: pieces without a lesion;
        ``overlap``: (3, 2) twice the common voxels and the sum of both, per label.
    """
    whole = probabilities[..., ENHANCING] + probabilities[..., NECROSIS] >= threshold
    pieces, _ = ndimage.label(whole, TOUCHING)
    sizes = np.bincount(pieces.ravel())
    # A piece over two lesions is shared out by nearness.
    nearest = ndimage.distance_transform_edt(instances == 0, return_distances=False, return_indices=True)
    owner = instances[tuple(nearest)]
    hit = np.unique(pieces[(instances > 0) & whole])
    counted = np.ones(len(sizes), bool) if near is None else np.isin(np.arange(len(sizes)), np.unique(pieces[near]))
    false = [n for n in range(1, len(sizes)) if sizes[n] >= FALSE_MM3 and n not in hit and counted[n]]
    belongs = np.isin(pieces, hit[hit > 0])
    lesions = []
    for number in np.unique(instances[instances > 0]):
        mask = instances == number
        if near is not None and not (mask & near).any():
            continue
        volume = int(mask.sum())
        predicted = int((belongs & (owner == number)).sum()) if (mask & whole).any() else 0
        lesions.append(((6 * volume / np.pi) ** (1 / 3), volume, predicted))
    lesion_label = np.where(probabilities[..., 1] >= probabilities[..., 3], 1, 3)
    labels = np.where(whole, lesion_label, np.where(probabilities[..., 2] > probabilities[..., 0], 2, 0))
    overlap = [
        (2 * ((labels == n) & (tissue == n)).sum(), (labels == n).sum() + (tissue == n).sum()) for n in (1, 2, 3)
    ]
    return {"lesions": lesions, "false": len(false), "overlap": np.array(overlap)}


def summarise(scores: list[dict]) -> dict[str, float]:
    """Put the scores of all sessions into the figures of the model card."""
    lesions = np.array([row for s in scores for row in s["lesions"]]).reshape(-1, 3)
    diameter, truth, predicted = lesions.T
    large = (truth > 1000 * LARGE_ML) & (predicted > 0)
    error = predicted[large] / truth[large] - 1
    dice = np.sum([s["overlap"] for s in scores], axis=0)

    def share(which: np.ndarray) -> float:
        return round(float((predicted[which] > 0).mean()), 3) if which.any() else float("nan")

    return {
        "sessions": len(scores),
        "lesions": len(lesions),
        f"recall from {SMALL_MM:g} mm": share(diameter >= SMALL_MM),
        f"lesions from {SMALL_MM:g} mm": int((diameter >= SMALL_MM).sum()),
        f"recall below {SMALL_MM:g} mm": share(diameter < SMALL_MM),
        "false pieces per session": round(float(np.mean([s["false"] for s in scores])), 3),
        f"lesions above {LARGE_ML:g} mL": int(large.sum()),
        "their median volume error": round(float(np.median(error)), 3) if large.any() else float("nan"),
        "their median absolute volume error": round(float(np.median(np.abs(error))), 3)
        if large.any()
        else float("nan"),
        "90 % of absolute volume errors below": (
            round(float(np.quantile(np.abs(error), 0.9)), 3) if large.any() else float("nan")
        ),
        **{
            f"Dice of {name}": round(float(dice[i, 0] / max(dice[i, 1], 1)), 3)
            for i, name in enumerate(("enhancing", "edema", "necrosis"))
        },
    }


def choose_threshold(by_threshold: dict[float, dict[str, float]]) -> float:
    """Choose the threshold with the best balance of lesions found and false pieces; then of volume.

    Notes
    -----
    Lesions from 5 mm count as found or missed, false pieces as false: F1. Within 0.01 of the best, the threshold whose
    median volume error is nearest to 0 wins.
    """

    def f1(row: dict[str, float]) -> float:
        count = row[f"lesions from {SMALL_MM:g} mm"]
        found = row[f"recall from {SMALL_MM:g} mm"] * count
        false = row["false pieces per session"] * row["sessions"]
        return found / max(found + 0.5 * (false + count - found), 1e-9)

    best = max(f1(row) for row in by_threshold.values())
    good = [t for t, row in by_threshold.items() if f1(row) >= best - 0.01]
    return min(good, key=lambda t: (abs(by_threshold[t]["their median volume error"]), abs(t - 0.5)))


def validate(model: Model, folder: Path, *, threads: int, detection: Model | None = None) -> dict[float, dict]:
    """Score a model on all held-out sessions at several thresholds.

    Parameters
    ----------
    model : Model
        With a threshold of 0.5.
    folder : Path
        Held-out sessions as `cases` keeps them.
    threads : int
    detection : Model, optional
        For re-segmentation: what finds new lesions; adds the scores of the two fused under the key ``fused``.

    Returns
    -------
    threshold -> figures
    """
    scores: dict = {t: [] for t in THRESHOLDS}
    fused: list[dict] = []
    others = predict_held_out(detection, folder, threads=threads) if detection is not None else None
    for _, case, probabilities in predict_held_out(model, folder, threads=threads):
        near = None
        if model.task == "resegmentation":
            near = ndimage.distance_transform_edt(~case["prior"]) <= TOUCH_MM
            near &= case["prior"].any()
        truth = case["tissue"], case["instances"]
        for threshold, rows in scores.items():
            rows.append(score(probabilities, *truth, threshold=threshold, near=near))
        if others is not None:
            _, _, first = next(others)
            prior = Image(case["prior"].astype(np.uint8), np.eye(4))
            both = fuse(Image(first, np.eye(4)), Image(probabilities, np.eye(4)), prior, touch_mm=TOUCH_MM)
            fused.append(score(both.data, *truth, threshold=0.5, near=None))
    result: dict = {t: summarise(rows) for t, rows in scores.items()}
    if fused:
        result["fused"] = summarise(fused)
    return result
