"""How well the shipped network draws resection cavities, and what that does to the lesions of the others.

    python scripts/phantom.py --spec resection --seed 1 --out BIDS
    snakemake --cores all --config bids=BIDS out=OUT -- tables
    PYTHONPATH=scripts python tests/benchmarks/cavities.py phantoms OUT BIDS/derivatives/truth
    PYTHONPATH=scripts python tests/benchmarks/cavities.py alone OUT BIDS/derivatives/truth resources/models
    PYTHONPATH=scripts python tests/benchmarks/cavities.py painted HEADS resources/models
    PYTHONPATH=scripts python tests/benchmarks/cavities.py unoperated HEADS resources/models
    PYTHONPATH=scripts python tests/benchmarks/cavities.py cysts HEADS resources/models

`phantoms`: OUT is what the pipeline makes of simulated patients with resections; whoever wrote them had not seen what
is painted in training. `alone`: the network for cavities by itself on them, true lesions given. `painted`: resection
beds painted into real heads that were not trained on, with recurrence at the margin of some. `unoperated`: real heads
as they are, and with painted lesions, where nobody has a cavity. `cysts`: the same with large cysts and rings, which
resemble one. HEADS is what `scripts/train.py --task cavity` prepares, and `heads` besides.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from mettrail import geometry, images, segmentation
from mettrail.geometry import label_components
from mettrail.images import CAVITY, Image
from mettrail.segmentation import thresholds
from mettrail.segmentation.model_folder import POST_CONTRAST
from mettrail.training import drawing, resection, synthesis
from mettrail.training.cases import distance_mm
from mettrail.training.synthesis import OUTSIDE, Patch

SETTINGS = yaml.safe_load(Path("config/train.yaml").read_text())
BIRTH_MM3 = yaml.safe_load(Path("config/config.yaml").read_text())["instances"]["birth_mm3"]
HELD_OUT = [
    {"name": "contrast-anatomies", "participants": ["sub-26"]},
    {"name": "ms-followup", "participants": ["sub-12"]},
]
UNOPERATED = [*HELD_OUT, {"name": "heads"}]
SEEDS = range(2_960_000, 2_960_008)
CYST_SEEDS = range(2_970_000, 2_970_003)
LARGE = {
    "any_size_prob": 1, "real_sizes": None, "radius_mm": [6, 20], "kinds": {"cystic": 0.6, "ring": 0.4}
}  # fmt: skip
CYSTS = SETTINGS["synthesis"] | {"lesions": SETTINGS["synthesis"]["lesions"] | LARGE}
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
    """Return volumes (mL) of cavities and lesions, and how many lesions were found and false, from `BIRTH_MM3` on."""
    lesions, count = number_lesions(true)
    called, calls = number_lesions(found)
    hit = {int(n) for n in np.unique(called[np.isin(true, (1, 3))])} - {0}
    false = [n for n in range(1, calls + 1) if n not in hit]
    return {
        "common": int(((found == CAVITY) & (true == CAVITY)).sum()) / 1000,
        "found": int((found == CAVITY).sum()) / 1000,
        "true": int((true == CAVITY).sum()) / 1000,
        "lesions": count,
        "lesions found": len(set(np.unique(lesions[called > 0])) - {0}),
        "lesions mL": int((lesions > 0).sum()) / 1000,
        "called mL": int((called > 0).sum()) / 1000,
        "false": len(false),
        "false mL": int(np.isin(called, false).sum()) / 1000,
    }


def number_lesions(tissue):
    """Return the connected components of whole lesion that have at least `BIRTH_MM3`, numbered, and how many."""
    components, _ = label_components(np.isin(tissue, (1, 3)))
    large = np.bincount(components.ravel()) >= BIRTH_MM3
    large[0] = False
    return label_components(large[components])


def painted(heads, folder):
    """Yield three rows per painted head."""
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
    """Yield three rows per head as it is, and per head with painted lesions alone."""
    for number, (image, beyond) in enumerate(read(heads, UNOPERATED)):
        yield from rows(f"head {number}", paint_onto(image, beyond < RIM_MM), beyond, folder)
    yield from with_lesions(heads, folder, SEEDS[:4], 12, SETTINGS["synthesis"])


def cysts(heads, folder):
    """Yield three rows per head with large cysts and rings."""
    yield from with_lesions(heads, folder, CYST_SEEDS, 4, CYSTS)


def with_lesions(heads, folder, seeds, lesions, synthesis_settings):
    """Yield three rows per head and seed, with so many lesions."""
    for number, (image, beyond) in enumerate(read(heads, UNOPERATED)):
        for seed in seeds:
            patch = paint_onto(image, beyond < RIM_MM)
            rng = np.random.default_rng([seed, number])
            for _ in range(lesions):
                synthesis.paint_lesion(patch, rng, synthesis_settings)
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
    """Yield what is called without the network for cavities, and with it: no surgery on record, and after surgery."""
    within = beyond < RIM_MM
    detection, cavity = (segmentation.read_model(Path(folder) / task) for task in ("detection", "cavity"))
    channels = {POST_CONTRAST: np.where(within, patch.image + 10, 0)}
    called, seen = (
        Image(segmentation.predict_probabilities(model, channels, within=within, device="cpu", threads=2), np.eye(4))
        for model in (detection, cavity)
    )
    level = thresholds.candidate_level(detection.description)
    edge = thresholds.edge_level([detection.description])
    called = segmentation.add_candidates(called, called, None, level=level)
    cavities = segmentation.accept_cavities(seen, Image(beyond < 0, np.eye(4)))
    for method, given, operated in (
        ("detection alone", None, False), ("no surgery on record", cavities, False), ("after surgery", cavities, True),
    ):  # fmt: skip
        settled, drawn, _ = segmentation.settle_cavities(called, given, operated=operated, least_mm3=BIRTH_MM3)
        edged = segmentation.draw_edges(settled, level=edge, least_mm3=BIRTH_MM3)
        labels = geometry.decide_labels(segmentation.draw_cavities(edged, drawn).data)
        yield {"session": name, "method": method, **compare(labels, patch.labels)}


if __name__ == "__main__":
    modes = {each.__name__: each for each in (phantoms, alone, painted, unoperated, cysts)}
    table = pd.DataFrame(modes[sys.argv[1]](*sys.argv[2:]))
    table["dice"] = (2 * table["common"] / (table["found"] + table["true"])).where(table["true"] > 0)
    print(table.round(3).to_string())
    groups = table.groupby("method" if "method" in table else lambda _: "all")
    figures = groups.sum(numeric_only=True).drop(columns="dice")
    figures["Dice, mean"], figures["Dice, median"] = groups["dice"].mean(), groups["dice"].median()
    figures["volume ratio"] = figures["found"] / figures["true"]
    print(figures.round(3).T.to_string())
