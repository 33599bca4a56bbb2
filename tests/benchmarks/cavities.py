"""How well the shipped network draws resection cavities, and what that does to the lesions of the others.

    python scripts/phantom.py --spec resection --seed 1 --out BIDS
    snakemake --cores all --config bids=BIDS out=OUT -- tables
    PYTHONPATH=scripts python tests/benchmarks/cavities.py phantoms OUT BIDS/derivatives/truth
    PYTHONPATH=scripts python tests/benchmarks/cavities.py alone OUT BIDS/derivatives/truth resources/models
    PYTHONPATH=scripts python tests/benchmarks/cavities.py painted HEADS resources/models
    PYTHONPATH=scripts python tests/benchmarks/cavities.py unoperated HEADS resources/models

`phantoms`: OUT is what the pipeline makes of simulated patients with resections; whoever wrote them had not seen what
is painted in training. `alone`: the network for cavities by itself on them, true lesions given. `painted`: resection
beds painted into real heads that were not trained on, with recurrence at the margin of some. `unoperated`: real heads
as they are, and with painted lesions, where nobody has a cavity. HEADS is what `scripts/train.py --task cavity`
prepares, and `heads` besides.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from mettrail import geometry, images, segmentation
from mettrail.geometry import label_components, whole_lesion
from mettrail.images import CAVITY, Image
from mettrail.segmentation.model_folder import POST_CONTRAST
from mettrail.training import drawing, resection, synthesis
from mettrail.training.cases import distance_mm
from mettrail.training.synthesis import OUTSIDE, Patch

SETTINGS = yaml.safe_load(Path("config/train.yaml").read_text())
HELD_OUT = [
    {"name": "contrast-anatomies", "participants": ["sub-26"]},
    {"name": "ms-followup", "participants": ["sub-12"]},
]
UNOPERATED = [*HELD_OUT, {"name": "heads"}]
SEEDS = range(2_960_000, 2_960_008)
RIM_MM = 3


def phantoms(out, truth):
    """Yield a row per session of the pipeline."""
    for path in sorted(Path(out).glob("sub-*/ses-*/anat/*_desc-tissue_dseg.nii.gz")):
        (drawn,) = (Path(truth) / path.parent.relative_to(out)).glob("*_dseg.nii.gz")
        found, true = images.read_labels(path).data, images.read_labels(drawn).data
        yield {"session": "_".join(path.name.split("_")[:2]), **compare(found, true)}


def alone(out, truth, folder):
    """Yield a row per session that the pipeline has prepared."""
    model = segmentation.read_model(Path(folder) / "cavity")
    for path in sorted(Path(out).glob("sub-*/ses-*/anat/*_res-1mm_desc-brain_mask.nii.gz")):
        (drawn,) = (Path(truth) / path.parent.relative_to(out)).glob("*_dseg.nii.gz")
        (head,) = path.parent.glob("*_res-1mm_desc-debias_T1w.nii.gz")
        mask, image = images.read_mask(path), images.read_image(head)
        within = geometry.grow_mask(mask.data, spacing_mm=mask.spacing_mm, grow_mm=RIM_MM)
        channels = {POST_CONTRAST: np.where(within, image.data, 0)}
        seen = segmentation.predict_probabilities(model, channels, within=within, device="cpu", threads=2)
        true = images.resample(images.read_labels(drawn), mask.grid, order=0).data
        cavities = segmentation.accept_cavities(mask.like(seen), mask).data > 0.5
        found = np.where(np.isin(true, (1, 3)), true, np.where(cavities, CAVITY, 0))
        yield {"session": path.name.split("_res")[0], **compare(found, true)}


def compare(found, true):
    """Return volumes (mL) of cavities, and how many lesions were found, missed and false, and false in a cavity."""
    lesions, count = label_components(np.isin(true, (1, 3)))
    called, calls = label_components(np.isin(found, (1, 3)))
    hit = {int(n) for n in np.unique(called[lesions > 0])} - {0}
    false = [n for n in range(1, calls + 1) if n not in hit]
    return {
        "common": int(((found == CAVITY) & (true == CAVITY)).sum()) / 1000,
        "found": int((found == CAVITY).sum()) / 1000,
        "true": int((true == CAVITY).sum()) / 1000,
        "lesions": count,
        "lesions found": len(set(np.unique(lesions[called > 0])) - {0}),
        "false": len(false),
        "false in a cavity": sum((true[called == n] == CAVITY).mean() > 0.5 for n in false),
    }


def painted(heads, folder):
    """Yield two rows per painted head: without the network for cavities, and with it."""
    given = SETTINGS["cavity"]
    painter = resection.beside_cavities(SETTINGS["synthesis"], given)
    for number, (image, beyond) in enumerate(read(heads, HELD_OUT)):
        within = beyond < RIM_MM
        for seed in SEEDS:
            rng = np.random.default_rng([seed, number])
            patch = paint_onto(image, within)
            edge = np.maximum(-distance_mm(within), within / 2)
            for _ in range(3):
                resection.paint_bed(patch, edge, rng, given, painter)
            yield from rows(f"head {number}, seed {seed}", patch, beyond, folder)


def unoperated(heads, folder):
    """Yield two rows per head as it is, and per head with painted lesions alone."""
    for number, (image, beyond) in enumerate(read(heads, UNOPERATED)):
        within = beyond < RIM_MM
        yield from rows(f"head {number}", paint_onto(image, within), beyond, folder)
        for seed in SEEDS[:4]:
            patch = paint_onto(image, within)
            rng = np.random.default_rng([seed, number])
            for _ in range(12):
                synthesis.paint_lesion(patch, rng, SETTINGS["synthesis"])
            yield from rows(f"head {number}, seed {seed}", patch, beyond, folder)


def read(heads, chosen):
    """Yield z-scores of heads, and mm beyond the brain's surface."""
    for head in drawing.read_heads(Path(heads), chosen):
        box = geometry.bounding_box(head.beyond < RIM_MM)
        yield head.t1w[box], head.beyond[box]


def paint_onto(image, within):
    """Return a copy of a head to paint on."""
    labels = np.where(within, 0, OUTSIDE)
    return Patch(image.copy(), labels, None, float(np.percentile(image[within], 75)))


def rows(name, patch, beyond, folder):
    """Yield what detection calls, and what is left of it beside cavities."""
    within = beyond < RIM_MM
    fused, seen = (
        Image(
            segmentation.predict_probabilities(
                segmentation.read_model(Path(folder) / task), {POST_CONTRAST: np.where(within, patch.image + 10, 0)},
                within=within, device="cpu", threads=2,
            ),
            np.eye(4),
        )
        for task in ("detection", "cavity")
    )  # fmt: skip
    cavities = segmentation.accept_cavities(seen, Image(beyond < 0, np.eye(4)))
    cleared, _ = segmentation.clear_cavities(fused, cavities)
    for method, decided in (
        ("detection alone", fused),
        ("with cavities", segmentation.draw_cavities(cleared, cavities)),
    ):
        yield {"session": name, "method": method, **compare(geometry.decide_labels(decided.data), patch.labels)}
    lost = (whole_lesion(fused.data) >= 0.5) & ~(whole_lesion(cleared.data) >= 0.5)
    if np.isin(patch.labels[lost], (1, 3)).any():
        print(f"{name}: {np.isin(patch.labels[lost], (1, 3)).sum()} mm3 of a lesion cleared", file=sys.stderr)


if __name__ == "__main__":
    table = pd.DataFrame(
        {"phantoms": phantoms, "alone": alone, "painted": painted, "unoperated": unoperated}[sys.argv[1]](*sys.argv[2:])
    )
    table["dice"] = (2 * table["common"] / (table["found"] + table["true"])).where(table["true"] > 0)
    print(table.round(3).to_string())
    groups = table.groupby("method" if "method" in table else lambda _: "all")
    figures = groups.sum(numeric_only=True).drop(columns="dice")
    figures["Dice, mean"], figures["Dice, median"] = groups["dice"].mean(), groups["dice"].median()
    figures["volume ratio"] = figures["found"] / figures["true"]
    print(figures.round(3).T.to_string())
