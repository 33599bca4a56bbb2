"""Small lesions on scans of 0.7 mm: what detection finds at 1 mm, and with the second look (`segmentation.fine`).

    PYTHONPATH=scripts python tests/benchmarks/fine.py FOLDER [PATIENTS]

Phantoms whose lesions are 1.6 to 4.5 mm wide, with contrast, noise, bias and vessels as varied as in training, of seeds
that no network was trained on; their truth is on the scan's own grid. A lesion is found by a component that touches it;
what touches none and has at least 3 mm3 is false. `listed`: of at least 10 mm3, or certain enough to start an ID below.
What exists in FOLDER is kept.
"""

import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from mettrail import segmentation
from mettrail.geometry import bounding_box, grow_mask, sphere_diameter_mm
from mettrail.images import Image, canonical_grid, resample
from mettrail.phantom.cohort import simulate_patient
from mettrail.phantom.fields import stream
from mettrail.phantom.training import random_training_patient
from mettrail.segmentation import prediction, thresholds
from mettrail.segmentation.model_folder import POST_CONTRAST
from scipy import ndimage

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text())
SPACING_MM = 0.7
FIRST_SEED = 2_960_000
LESIONS = 16
SIZES = (0, 2.5, 3, 4.5)
FALSE_MM3, MARGIN = 3, 6


def simulate(seed):
    """Return scan, brain and numbered lesions of a phantom, cropped to the brain."""
    rng = stream(seed, "fine")
    patient = random_training_patient(rng, spacing_mm=SPACING_MM)
    patient |= {"sessions": patient["sessions"][:1], "gap_mm": 4.0}
    patient["lesions"] = [
        {
            "id": n + 1, "diameters_mm": [float(rng.uniform(1.6, 4.5))], "kind": "nodule", "necrosis": 0.0,
            "edema_mm": [0.0], "enhancement": float(rng.uniform(1.2, 2.2)),
        }
        for n in range(LESIONS)
    ]  # fmt: skip
    (session,) = simulate_patient(patient, seed=seed)
    scan = session.images[POST_CONTRAST]
    brain = np.asarray(session.brain.data) > 0
    box = bounding_box(brain, margin_vox=MARGIN)
    affine = scan.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
    arrays = (scan.data, brain.astype(np.uint8), session.instances.data)
    return [Image(np.asarray(array)[box], affine) for array in arrays]


def look(seed, kept):
    """Return the probabilities of both looks at 1 mm, and the lesions."""
    model = segmentation.read_model(ROOT / "resources/models/detection")
    scan, brain, lesions = simulate(seed)
    grid = canonical_grid(scan.grid)
    one, mask = resample(scan, grid), resample(brain, grid, order=0)
    within = grow_mask(mask.data > 0, spacing_mm=mask.spacing_mm, grow_mm=2)
    if not kept.exists():
        how = {"device": "auto", "threads": 2}
        channels = {POST_CONTRAST: np.where(within, one.data, 0)}
        first = prediction.predict_probabilities(model, channels, within=within, **how)
        below_mm = CONFIG["segment"]["full_resolution_below_mm"]
        second = segmentation.look_again(model, scan, one, mask.like(within), below_mm=below_mm, **how)
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(kept, first=first.astype(np.float16), second=second.data.astype(np.float16))
    with np.load(kept) as stored:
        looks = [mask.like(stored[name].astype(np.float32)) for name in ("first", "second")]
    return model, lesions, *looks


def score(model, lesions, first, second):
    """Return what is found and what is false, without the second look or with it."""
    level = thresholds.candidate_level(model.description)
    fused = segmentation.add_candidates(first, first, second, level=level)
    labels, _ = segmentation.decide_on_grid(fused, lesions.grid)
    components, table = segmentation.gather_evidence(
        labels, fused, {"detection": first}, limits=CONFIG["segment"]["confidence_limits"],
        calibration=model.description["calibration"], fine=second,
    )  # fmt: skip
    components = components.data
    voxel = math.prod(lesions.spacing_mm)
    volumes = np.bincount(components.ravel(), minlength=len(table) + 1) * voxel
    sure = np.r_[False, table["confidence"] >= CONFIG["measure"]["birth_confidence"]]
    listed = (volumes >= CONFIG["instances"]["birth_mm3"]) | sure
    true = lesions.data
    hit = set()
    for number in np.unique(true[true > 0]):
        touched = np.unique(components[ndimage.binary_dilation(true == number)])
        touched = touched[touched > 0]
        hit |= set(touched.tolist())
        diameter = sphere_diameter_mm((true == number).sum() * voxel)
        yield {
            "kind": pd.cut([diameter], SIZES, right=False)[0],
            "found": len(touched) > 0,
            "listed": listed[touched].any(),
        }
    for number in range(1, len(table) + 1):
        if number not in hit and volumes[number] >= FALSE_MM3:
            yield {"kind": "false", "found": True, "listed": listed[number]}


if __name__ == "__main__":
    folder, patients = Path(sys.argv[1]), int((sys.argv[2:] or [8])[0])
    rows = []
    for seed in range(FIRST_SEED, FIRST_SEED + patients):
        *given, second = look(seed, folder / f"{seed}.npz")
        for name, used in (("1 mm", None), ("and second look", second)):
            rows += [{"looks": name, **row} for row in score(*given, used)]
        print(seed, flush=True)
    table = pd.DataFrame(rows).astype({"kind": str})
    print(table.groupby(["looks", "kind"])[["found", "listed"]].agg(["sum", "count"]).to_string())
