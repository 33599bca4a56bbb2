"""How a trained network does on held-out phantoms, lesion by lesion; and the thresholds that follow from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from mettrail.evaluation.metrics import MIN_IOU
from mettrail.geometry import decide_labels, label_components, pick_touched, sphere_diameter_mm, whole_lesion
from mettrail.images import EDEMA, ENHANCING, NECROSIS, Image
from mettrail.segmentation.fusion import fuse
from mettrail.segmentation.model_folder import PRIOR
from mettrail.segmentation.models import Model
from mettrail.segmentation.prediction import TILE_STEP, predict_probabilities
from mettrail.segmentation.thresholds import apply_threshold, score_components

# A predicted component smaller than this would not start a track.
FALSE_MM3 = 10
SMALL_MM = 5.0
LARGE_ML = 0.5
TOUCH_MM, EDEMA_MAX_MM = 3, 20
# F1 less the error of volumes: one lesion of 161 makes such a difference, whichever it happens to be.
EQUAL = 0.005
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
MIN_COMPONENT_SCORES = (0.0, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.95)

# Of the model card: figure -> value.
Figures = dict[str, float]


def predict_held_out(model: Model, folder: Path, *, threads: int) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Yield arrays and raw (X, Y, Z, 5) probabilities of each held-out session; kept as bytes beside them."""
    model = dataclasses.replace(model, threshold=0.5, min_component_score=0.0)
    weights = "-".join(digest[:12] for digest in model.description["sha256"].values())
    tile = "x".join(map(str, model.tile))
    for path in sorted(Path(folder).glob("val*.npz")):
        with np.load(path) as stored:
            case = dict(stored)
        kept = Path(folder) / f"{model.task}-{weights}-tile{tile}-step{TILE_STEP:g}" / path.name
        if not kept.exists():
            channels = {model.channels[0]: case["image"], PRIOR: case["prior"].astype(np.float32)}
            found = predict_probabilities(model, channels, within=None, device="auto", threads=threads)
            kept.parent.mkdir(exist_ok=True)
            np.savez_compressed(kept, p=np.rint(found * 255).astype(np.uint8))
        with np.load(kept) as stored:
            yield case, stored["p"].astype(np.float32) / 255


def find_owners(instances: np.ndarray) -> np.ndarray:
    """Return the number of the nearest lesion for each voxel: a component over two lesions is shared out so."""
    nearest = ndimage.distance_transform_edt(instances == 0, return_distances=False, return_indices=True)
    owners: np.ndarray = instances[tuple(nearest)]
    return owners


def call_lesions(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (0 to 3) and numbered components of lesions of what `apply_threshold` returns."""
    return decide_labels(probabilities), label_components(whole_lesion(probabilities) >= 0.5)[0]


def score(
    labels: np.ndarray,
    components: np.ndarray,
    tissue: np.ndarray,
    instances: np.ndarray,
    *,
    owners: np.ndarray,
) -> dict[str, Any]:
    """Compare one session's prediction with the truth.

    Parameters
    ----------
    labels, components : (X, Y, Z) int, 1 mm
        See `call_lesions`. These arrays and the others may also be (N,), of voxels that matter.
    tissue, instances : (X, Y, Z) unsigned int
        True labels, and whole lesions numbered.
    owners : (X, Y, Z) unsigned int
        See `find_owners`.

    Returns
    -------
    dict
        ``lesions``: list of (diameter mm, true mm3, predicted mm3), 0 where no component overlaps it by an IoU of
        more than 25 %, as in the papers; ``false``: components that overlap no lesion so;
        ``overlap``: (3, 2) twice the common voxels and the sum of both, per label.
    """
    sizes = np.bincount(components.ravel())
    belongs = pick_touched(components, instances > 0)
    lesions, hit = [], set[int]()
    for number in np.unique(instances[instances > 0]):
        mask = instances == number
        volume, common = int(mask.sum()), np.bincount(components[mask], minlength=len(sizes))
        common[0] = 0  # background
        matched = np.flatnonzero(common / (sizes + volume - common) > MIN_IOU)
        hit.update(matched)
        predicted = int((belongs & (owners == number)).sum()) if matched.size else 0
        lesions.append((sphere_diameter_mm(volume), volume, predicted))
    false = [n for n in range(1, len(sizes)) if sizes[n] >= FALSE_MM3 and n not in hit]
    overlap = [
        (2 * ((labels == n) & (tissue == n)).sum(), (labels == n).sum() + (tissue == n).sum())
        for n in (ENHANCING, EDEMA, NECROSIS)
    ]
    return {"lesions": lesions, "false": len(false), "overlap": np.array(overlap)}


def summarise(scores: list[dict[str, Any]]) -> Figures:
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
        "detected": int((predicted > 0).sum()),
        f"recall from {SMALL_MM:g} mm": share(diameter >= SMALL_MM),
        f"lesions from {SMALL_MM:g} mm": int((diameter >= SMALL_MM).sum()),
        f"recall below {SMALL_MM:g} mm": share(diameter < SMALL_MM),
        "false positives per session": round(float(np.mean([s["false"] for s in scores])), 3),
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


def choose(figures: dict[tuple[float, float], Figures]) -> tuple[float, float]:
    """Choose threshold and least component score: the best balance of lesions detected, false positives and volumes.

    Notes
    -----
    F1 of all lesions, whatever their size, and false positives, less the error of volumes: the absolute median error
    and the median absolute one. A lesion missed and one too many mislead a response alike, and so do volumes that are
    off: by F1 alone, one lesion more among a hundred would be worth volumes a tenth too large. What is as good within
    `EQUAL` cannot be told apart by so few lesions; then the fewest false positives decide, since patients' scans have
    more that resembles a lesion than scans with painted ones.
    """

    def f1(row: Figures) -> float:
        found, false = row["detected"], row["false positives per session"] * row["sessions"]
        return found / max(found + 0.5 * (false + row["lesions"] - found), 1e-9)

    def volume_error(row: Figures) -> float:
        error = abs(row["their median volume error"]) + row["their median absolute volume error"]
        return 0.0 if np.isnan(error) else error

    worth = {key: f1(row) - volume_error(row) for key, row in figures.items()}
    best = max(worth.values())
    equals = [key for key in worth if worth[key] >= best - EQUAL]
    return min(equals, key=lambda key: (figures[key]["false positives per session"], -worth[key]))


def validate(model: Model, folder: Path, *, threads: int) -> dict[tuple[float, float], Figures]:
    """Score a model on all held-out sessions at every threshold and least component score.

    Parameters
    ----------
    model : Model
    folder : Path
        Held-out sessions as `cases` keeps them.
    threads : int

    Returns
    -------
    (threshold, least component score) -> figures
        For re-segmentation, components at a prior are kept whatever their score.
    """
    scores: dict[tuple[float, float], list[dict[str, Any]]] = {
        (threshold, score): [] for threshold in THRESHOLDS for score in MIN_COMPONENT_SCORES
    }
    for case, probabilities in predict_held_out(model, folder, threads=threads):
        prior_mask = case["prior"] if model.task == "resegmentation" else None
        for key, row in score_at_all(probabilities, case["tissue"], case["instances"], prior_mask):
            scores[key].append(row)
    return {key: summarise(rows) for key, rows in scores.items()}


def score_at_all(
    probabilities: np.ndarray, tissue: np.ndarray, instances: np.ndarray, prior_mask: np.ndarray | None
) -> Iterator[tuple[tuple[float, float], dict[str, Any]]]:
    """Yield what `score` says of a session at every threshold and least component score, as `apply_threshold` has it.

    Components are scored once per threshold. Most voxels are nothing to anybody and skipped.

    Parameters
    ----------
    probabilities : (X, Y, Z, 5) float
    tissue, instances : (X, Y, Z) unsigned int
        As in `score`.
    prior_mask : (X, Y, Z) bool, optional
        As in `apply_threshold`.

    Yields
    ------
    (threshold, least component score), score
    """
    owners = find_owners(instances)
    whole = whole_lesion(probabilities)
    for threshold in THRESHOLDS:
        labels, components = call_lesions(apply_threshold(probabilities, threshold=threshold, min_component_score=0))
        # No score is above 1: every component is rejected.
        rejected, _ = call_lesions(apply_threshold(probabilities, threshold=threshold, min_component_score=2))
        scores = score_components(whole, threshold=threshold, prior_mask=prior_mask)
        matter = (labels > 0) | (rejected > 0) | (tissue > 0) | (instances > 0)
        there, absent, *truth = (a[matter] for a in (labels, rejected, tissue, instances))
        for least in MIN_COMPONENT_SCORES:
            kept = (components > 0) & (scores >= least)
            # What is left of a component may have come apart.
            numbers, _ = label_components(kept)
            called = np.where((kept | (components == 0))[matter], there, absent), numbers[matter]
            yield (threshold, least), score(*called, *truth, owners=owners[matter])


def validate_fused(detection: Model, resegmentation: Model, folder: Path, *, threads: int) -> Figures:
    """Score both networks together, as the pipeline uses them on a follow-up; each with its own threshold."""
    rows = []
    pairs = zip(*(predict_held_out(m, folder, threads=threads) for m in (detection, resegmentation)), strict=True)
    for (case, one), (_, two) in pairs:
        images = [
            Image(
                apply_threshold(
                    p, threshold=m.threshold, min_component_score=m.min_component_score, prior_mask=prior_mask
                ),
                np.eye(4),
            )
            for m, p, prior_mask in ((detection, one, None), (resegmentation, two, case["prior"]))
        ]
        prior = Image(case["prior"].astype(np.uint8), np.eye(4))
        both = fuse(images[0], images[1], prior, touch_mm=TOUCH_MM, edema_max_mm=EDEMA_MAX_MM)
        owners = find_owners(case["instances"])
        rows.append(score(*call_lesions(both.data), case["tissue"], case["instances"], owners=owners))
    return summarise(rows)
