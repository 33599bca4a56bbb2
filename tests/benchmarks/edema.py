"""How well the shipped network draws edema, next to a threshold on FLAIR and to what is seen on T1w alone.

    python scripts/phantom.py --random 8 1 --seed 4242 --out BIDS
    snakemake --cores all --config bids=BIDS out=OUT "segment={models: {edema: []}}" -- preprocess_all tables
    PYTHONPATH=scripts python tests/benchmarks/edema.py phantoms OUT BIDS/derivatives/truth resources/models/edema
    PYTHONPATH=scripts python tests/benchmarks/edema.py painted HEADS resources/models/edema

`phantoms`: OUT has the lesions that the pipeline finds, and the edema that detection sees on T1w alone; the network was
not trained on phantoms, and their edema is none that `training.edema` has painted. `painted`: lesions and edema painted
into real heads that it was not trained on (HEADS, which `scripts/train.py --task edema` prepares), true lesions given.

Dice and volume are of all edema of a session. The threshold is the best of several, chosen on the truth: so many robust
standard deviations above the median of the brain, beside a lesion, as the network's.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from mettrail import geometry, images, segmentation
from mettrail.geometry import decide_labels, grow_mask
from mettrail.images import EDEMA, Image
from mettrail.segmentation.model_folder import POST_CONTRAST
from mettrail.training import drawing, edema
from mettrail.training.synthesis import OUTSIDE

SETTINGS = yaml.safe_load(Path("config/train.yaml").read_text())
HELD_OUT = [
    {"name": "contrast-anatomies", "participants": ["sub-26"]},
    {"name": "ms-followup", "participants": ["sub-12"]},
]
SEEDS = range(2_950_000, 2_950_006)
LEVELS = (0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0)
RIM_MM = 3


def from_whole(whole):
    """Class probabilities of lesions that are sure."""
    return np.stack([1 - whole, whole, 0 * whole, 0 * whole, 0 * whole], -1).astype(np.float32)


def threshold(flair, brain, lesions):
    """Yield what lies above each level beside a lesion."""
    values = flair[brain]
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))
    for level in LEVELS:
        bright = (flair > middle + level * spread) & brain
        seen = Image(
            np.stack([~bright, 0 * bright, bright, 0 * bright, 0 * bright], -1).astype(np.float32), lesions.affine
        )
        yield level, decide_labels(segmentation.draw_edema(lesions, seen).data) == EDEMA


def compare(found, true):
    """Return twice the common voxels, and the two volumes."""
    return {"common": 2 * int((found & true).sum()), "found": int(found.sum()), "true": int(true.sum())}


def predict(model, t1w, flair, within):
    """Return the network's probabilities."""
    channels = {POST_CONTRAST: np.where(within, t1w, 0), "FLAIR": np.where(within, flair, 0)}
    return segmentation.predict_probabilities(model, channels, within=within, device="cpu", threads=2)


def phantoms(out, truth, folder):
    """Score sessions of the pipeline, on the 1 mm grid of the network brought to that of the scan."""
    model = segmentation.read_model(folder)
    for path in sorted(Path(out).glob("sub-*/ses-*/anat/*_desc-tissue_dseg.nii.gz")):
        name = "_".join(path.name.split("_")[:2])
        (drawn,) = (Path(truth) / path.parent.relative_to(out)).glob("*_dseg.nii.gz")
        labels, true = images.read_labels(path), images.read_labels(drawn)
        mask = images.read_mask(path.with_name(f"{name}_res-1mm_desc-brain_mask.nii.gz"))
        t1w, flair = (
            images.read_image(next(path.parent.glob(f"*_res-1mm_desc-preproc_{which}.nii.gz")))
            for which in ("T1w", "FLAIR")
        )
        within = grow_mask(mask.data, spacing_mm=mask.spacing_mm, grow_mm=RIM_MM)
        found = mask.like(predict(model, t1w.data, flair.data, within))
        whole = labels.like(np.isin(labels.data, (1, 3)).astype(np.float32))
        lesions = mask.like(from_whole(images.resample(whole, mask.grid).data))
        yield name, "network", compare(on_scan(lesions, found, labels), true.data == EDEMA)
        yield name, "T1w alone", compare(labels.data == EDEMA, true.data == EDEMA)
        for level, bright in threshold(flair.data, mask.data > 0, lesions):
            bright = images.resample(mask.like(bright.astype(np.float32)), labels.grid).data >= 0.5
            yield name, f"threshold {level}", compare(bright, true.data == EDEMA)


def on_scan(lesions, found, labels):
    """Return edema on the scan's own grid."""
    decided, _ = segmentation.decide_on_grid(segmentation.draw_edema(lesions, found), labels.grid)
    return decided.data == EDEMA


def painted(heads, folder):
    """Score held-out real heads with painted lesions."""
    model = segmentation.read_model(folder)
    synthesis = edema.lesions_alone(SETTINGS["synthesis"], SETTINGS["edema"]) | {"tone_prob": 0}
    synthesis["lesions"] |= {"prob": 1, "at_most": 12}
    for number, head in enumerate(drawing.read_heads(Path(heads), HELD_OUT)):
        box = geometry.bounding_box(head.beyond < RIM_MM)
        brain, within = head.beyond[box] < 0, head.beyond[box] < RIM_MM
        for seed in SEEDS:
            rng = np.random.default_rng([seed, number])
            given = SETTINGS["edema"] | {"invent_prob": 0}
            two, labels = edema.paint(
                head.t1w[box], head.flair[box], within, rng=rng, settings=given, synthesis=synthesis
            )
            # The network has 0 for what is outside alone.
            t1w, flair = two + 10
            true = labels == EDEMA
            lesions = Image(from_whole(np.isin(labels, (1, 3)).astype(np.float32)), np.eye(4))
            found = Image(predict(model, t1w, flair, within & (labels != OUTSIDE)), np.eye(4))
            drawn = decide_labels(segmentation.draw_edema(lesions, found).data) == EDEMA
            name = f"head {number}, seed {seed}"
            yield name, "network", compare(drawn, true)
            for level, bright in threshold(flair, brain, lesions):
                yield name, f"threshold {level}", compare(bright, true)


if __name__ == "__main__":
    rows = {"phantoms": phantoms, "painted": painted}[sys.argv[1]](*sys.argv[2:])
    table = pd.DataFrame([{"session": name, "method": method, **row} for name, method, row in rows])
    table["dice"] = table["common"] / (table["found"] + table["true"])
    print(table[table["method"] == "network"].round(3).to_string())
    # Sessions with little edema have no Dice worth the name; the volumes are of all.
    some = table[table["true"] >= 500].groupby("method")
    figures = some["dice"].describe()[["count", "mean", "min"]].join(some["dice"].median().rename("median"))
    sums = table.groupby("method")[["common", "found", "true"]].sum()
    figures["volume ratio"] = sums["found"] / sums["true"]
    figures["Dice of all voxels"] = sums["common"] / (sums["found"] + sums["true"])
    none = table[table["true"] == 0].groupby("method")["found"].sum().div(1000).rename("mL where there is none")
    print(figures.join(none).round(3).to_string())
