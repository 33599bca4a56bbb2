"""Endless training data: pairs of visits that no demonstration or test can contain."""

from __future__ import annotations

from typing import Any

import numpy as np

from mettrail.errors import InputError
from mettrail.phantom.cohort import Session, simulate_patient
from mettrail.phantom.fields import stream
from mettrail.phantom.scan import BRIGHTNESS, CONTRAST
from mettrail.reasons import Reason

# Seeds below belong to demonstrations and tests, so that no network has seen them.
FIRST_TRAINING_SEED = 1_000_000
RADIUS_MM = (1.3, 15.0)


def training_pair(seed: int, *, spacing_mm: float = 1.0, lesions: bool = True) -> tuple[Session, Session]:
    """Simulate two visits of one random patient on one rigid grid.

    Only the post-contrast T1w of the brain and a rim of skull and scalp; contrast, noise, blur, bias, vessels and
    lesions vary more widely than in any cohort.

    Parameters
    ----------
    seed : int
        1 000 000 or more.
    spacing_mm : float
    lesions : bool
        False: the patient has none.

    Raises
    ------
    InputError
        A seed that belongs to demonstrations and tests.
    """
    if seed < FIRST_TRAINING_SEED:
        raise InputError(
            f"training seed {seed}",
            found="a seed of demonstrations and tests",
            expected=f"{FIRST_TRAINING_SEED} or more",
            advice="Add 1 000 000; what a network is tested on must not be in its training data.",
            reason=Reason.BAD_SEED,
        )
    for attempt in range(5):
        rng = stream(seed, "training", attempt)
        try:
            patient = random_training_patient(rng, spacing_mm=spacing_mm)
            first, second = simulate_patient(patient if lesions else patient | {"lesions": []}, seed=seed)
        except InputError:
            # The brain had no room for so many.
            continue
        return first, second
    raise InputError(
        f"training seed {seed}",
        found="no patient whose lesions fit",
        expected="one within five draws",
        advice="Take the next seed.",
        reason=Reason.BAD_SEED,
    )


def random_training_patient(rng: np.random.Generator, *, spacing_mm: float) -> dict[str, Any]:
    """Draw the description of a patient with two visits for training."""
    n = int(rng.choice([0, 1, 2, 3, 4, 6, 8, 11], p=[0.06, 0.2, 0.2, 0.16, 0.14, 0.12, 0.08, 0.04]))
    return {
        "id": "T",
        "gap_mm": 3.0,
        "mass_effect": float(rng.uniform(0, 0.4)),
        "anatomy": {
            "warp_mm": float(rng.uniform(2, 6)),
            "gyri": float(rng.uniform(0.3, 1.3)),
            "vessels": float(rng.uniform(0.3, 2.2)),
        },
        "sessions": [_random_session(rng, k, spacing_mm) for k in range(2)],
        "lesions": [_random_lesion(rng, k + 1) for k in range(n)],
    }


def _random_session(rng: np.random.Generator, number: int, spacing_mm: float) -> dict[str, Any]:
    spread = {name: float(row[0] * np.exp(0.12 * rng.standard_normal())) for name, row in BRIGHTNESS.items()}
    spread["wm"] = 1.0
    spread["gm"] = float(rng.uniform(0.6, 1.02))
    spread["csf"] = float(rng.uniform(0.08, 0.5))
    spread["rim"] = 1.0  # each lesion's own enhancement
    spread["core"] = float(rng.uniform(0.2, 0.75))
    spread["edema"] = float(rng.uniform(0.55, 0.95))
    # What enhances and is no metastasis: from hardly to more than any lesion.
    for name, low, high in (
        ("vessels", 0.8, 2.8), ("sinus", 0.8, 2.8), ("choroid", 0.5, 2.3), ("gland", 0.7, 2.2),
        ("dura_enhancing", 0.5, 2.0), ("mucosa", 0.7, 2.2), ("fat", 0.7, 2.4), ("marrow", 0.5, 1.8),
    ):  # fmt: skip
        spread[name] = float(rng.uniform(low, high))
    return {
        "label": f"{number + 1:02d}",
        "acq_time": f"2020-0{number + 1}-01T00:00:00",
        "sequences": [CONTRAST],
        "spacing_mm": spacing_mm,
        "extent": "brain",
        "motion_mm": 0.0,
        "motion_deg": 0.0,
        "atrophy_mm": float(rng.uniform(0, 0.8)),
        "noise": float(np.exp(rng.uniform(np.log(0.008), np.log(0.09)))),
        "bias": float(rng.choice([rng.uniform(0, 0.08), rng.uniform(0, 0.3)])),
        "blur_mm": float(rng.choice([0.0, rng.uniform(0.2, 0.9)])),
        "grain": float(rng.uniform(0, 0.05)),
        "contrast_spread": 0.0,
        "brightness": spread,
    }


def _random_lesion(rng: np.random.Generator, number: int) -> dict[str, Any]:
    radius = float(np.exp(rng.uniform(*np.log(RADIUS_MM))))
    # Large ones are rarer: a brain has no room for many.
    if radius > 8 and rng.random() < 0.4:
        radius = float(np.exp(rng.uniform(np.log(RADIUS_MM[0]), np.log(8))))
    change = float(np.exp(rng.normal(0, 0.35)))
    sizes = [2 * radius, 2 * float(np.clip(radius * change, *RADIUS_MM))]
    fate = rng.random()
    if fate < 0.12:
        sizes[1] = 0.0
    elif fate < 0.26:
        sizes[0] = 0.0
    kind = str(rng.choice(["nodule", "ring", "cystic"], p=[0.6, 0.28, 0.12]))
    necrosis = {"nodule": 0.0, "ring": rng.uniform(0.1, 0.55), "cystic": rng.uniform(0.55, 0.85)}[kind]
    edema = [0.0, 0.0]
    if rng.random() < 0.57:
        edema = [float(rng.uniform(1.5, 4 + 0.8 * radius)) for _ in range(2)]
    return {
        "id": number,
        "diameters_mm": sizes,
        "kind": kind,
        "necrosis": float(necrosis),
        "edema_mm": edema,
        "irregularity": float(rng.uniform(0.02, 0.17)),
        "rim_gap": float(rng.choice([0, rng.uniform(0, 0.9)])),
        "enhancement": float(rng.uniform(1.1, 2.6)),
    }
