"""How probable it is that what a detection model calls is a lesion: its `calibration`, and what each limit finds.

    PYTHONPATH=scripts python tests/benchmarks/calibration.py make OUT HEADS
    PYTHONPATH=scripts python tests/benchmarks/calibration.py predict OUT MODEL
    PYTHONPATH=scripts python tests/benchmarks/calibration.py fit OUT MODEL

HEADS are the heads that `scripts/train.py` prepares (OUT/heads). `make` paints lesions of real sizes into simulated
and real heads, in every second one after what only resembles lesions, and takes the real heads as they are, too; no
head or seed of a held-out cohort is among them. `fit` prints the coefficients of a logistic regression on the logit of
a component's mean probability; everything else it prints is of regressions that were fitted without the head itself
(its other copies and visits included). A lesion is found by a component with its peak in or beside it, or an IoU of
more than 10 %; a component within 4 voxels of a lesion that does not find it is neither right nor wrong. What exists is
kept: a run that was broken off goes on.
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from mettrail import segmentation
from mettrail.geometry import label_components, whole_lesion
from mettrail.images import Image
from mettrail.segmentation import fusion, prediction, thresholds
from mettrail.segmentation.model_folder import POST_CONTRAST
from mettrail.training import backgrounds, cases, synthesis
from scipy import ndimage, special
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

ROOT = Path(__file__).parents[2]
TRAIN = yaml.safe_load((ROOT / "config/train.yaml").read_text())
NUMBERS = yaml.safe_load((ROOT / "config/held_out_real_sizes.yaml").read_text())["background"]["lesions"]
CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text())
PHANTOMS = range(1960000, 1960020)
# Dataset, participants, copies of each session, seed of the first one (ten further each session, or one), and whether
# what has an odd seed gets look-alikes.
HEADS = (
    ("gbm-followup", ["sub-04", "sub-05"], 3, 1961000, 10, True),
    ("contrast-anatomies", ["sub-07", "sub-19"], 5, 1962000, 10, True),
    ("contrast-head", None, 5, 1963000, 10, True),
    ("gbm-followup", ["sub-01", "sub-02", "sub-03"], 1, 1964000, 1, False),
    ("ms-followup", None, 2, 1965000, 10, False),
    ("anatomies", None, 1, 1966000, 1, True),
)
AS_THEY_ARE = (
    ("gbm-followup", ["sub-01", "sub-02", "sub-03", "sub-04", "sub-05"]),
    ("contrast-anatomies", ["sub-07", "sub-19"]),
    ("ms-followup", None),
)
# Sizes are mostly real ones; what is smaller than the smallest radius of training is asked for, too.
SYNTHESIS = TRAIN["synthesis"] | {
    "lesions": TRAIN["synthesis"]["lesions"]
    | {"radius_mm": [0.9, 24], "real_sizes": TRAIN["synthesis"]["lesions"]["real_sizes"] | {"prob": 0.85}}
}
LOOK_ALIKES = SYNTHESIS | {"prior": None, "lesions": SYNTHESIS["lesions"] | {"prob": 0}}
IMPERFECT = cases.Imperfections(thick_prob=0, thick_mm=(1, 1), bias=0.06, grow_mm=(1, 5), mask_error_mm=1.2)
AS_IT_IS = cases.Imperfections(thick_prob=0, thick_mm=(1, 1), bias=0, grow_mm=(3, 3), mask_error_mm=0)
ROUNDS = 3
APART_VOX, NEAR_VOX = 5, 4
FOLDS = 10
SMALL_MM, FEWEST_VOX = 3, CONFIG["instances"]["birth_vox"]
LIMITS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05)


def list_heads(root):
    """Yield name, group, background and seed of each case, and whether look-alikes are painted, too.

    Without a seed the head stays as it is.
    """
    for seed in PHANTOMS:
        yield f"S{seed}", f"S{seed}", seed, seed, seed % 2 == 1
    for dataset, participants, copies, first, step, look_alikes in HEADS:
        sessions = backgrounds.find_backgrounds(Path(root), name=dataset, participants=participants)
        for number, found in enumerate(sessions):
            group = f"{dataset}_{found.mask.parts[-4]}"
            for seed in range(first + step * number, first + step * number + copies):
                yield f"{group}_{found.mask.parts[-3]}_{seed}", group, found, seed, look_alikes and seed % 2 == 1
    for dataset, participants in AS_THEY_ARE:
        for found in backgrounds.find_backgrounds(Path(root), name=dataset, participants=participants):
            group = f"{dataset}_{found.mask.parts[-4]}"
            yield f"{group}_{found.mask.parts[-3]}_plain", group, found, None, False


def make_case(background, *, seed, look_alikes):
    """Return a head as networks see it, and the number of the lesion that it has of its own."""
    rng = np.random.default_rng(seed)
    # A head without lesions, but for its own.
    head = backgrounds.make_visits(backgrounds.Painted(background, seed or 0, (0, 0), SYNTHESIS))[0]
    if seed is None:
        return cases.perturb([head], rng=rng, imperfections=AS_IT_IS)[0], int(head.instances.max())
    if look_alikes:
        mean, spread = head.image[head.brain].mean(), head.image[head.brain].std()
        image = ((head.image - mean) / spread).astype(np.float32)
        labels = np.where(head.brain, 0, synthesis.OUTSIDE)
        for number in range(ROUNDS):
            tone = {} if number == 0 else {"tone_prob": 0}
            synthesis.synthesise(image, labels, None, rng=rng, settings=LOOK_ALIKES | tone)
        head = dataclasses.replace(head, image=image * spread + mean)
    head, own = paint(head, rng)
    return cases.perturb([head], rng=rng, imperfections=IMPERFECT)[0], own


def paint(head, rng):
    """Return a head with as many lesions of such sizes as patients have, and the number of what it has of its own."""
    apart = ~ndimage.binary_dilation(head.tissue > 0, iterations=APART_VOX)
    visits = synthesis.simulate_visits(head.image, head.brain & apart, rng=rng, settings=SYNTHESIS, lesions=NUMBERS)
    image, tissue, instances = next((visit for visit in visits if visit[2].any()), visits[0])
    own = int(instances.max()) + 1
    head = dataclasses.replace(
        head,
        image=image,
        tissue=np.maximum(tissue * apart, head.tissue),
        instances=np.where(head.instances > 0, own, instances * apart).astype(np.uint8),
    )
    return head, own


def make(out, root):
    """Write the cases."""
    folder = Path(out, "cases")
    folder.mkdir(parents=True, exist_ok=True)
    for name, group, background, seed, look_alikes in list_heads(root):
        if (folder / f"{name}.npz").exists():
            continue
        case, own = make_case(background, seed=seed, look_alikes=look_alikes)
        facts = {"own": own, "group": group, "painted": seed is not None}
        np.savez_compressed(folder / f"{name}.npz", image=case.image, instances=case.instances, **facts)
        print(name, len(np.unique(case.instances)) - 1, flush=True)


def predict(out, model):
    """Write a detection model's probabilities of whole lesion, its thresholds not applied."""
    model = dataclasses.replace(segmentation.read_model(Path(model)), threshold=0.5, min_component_score=0.0)
    folder = Path(out, "predicted")
    folder.mkdir(exist_ok=True)
    for path in sorted(Path(out, "cases").glob("*.npz")):
        if (folder / path.name).exists():
            continue
        with np.load(path) as case:
            channels = {POST_CONTRAST: case["image"]}
        p = prediction.predict_probabilities(model, channels, within=None, device="auto", threads=2)
        np.savez_compressed(folder / path.name, whole=np.rint(255 * whole_lesion(p)).astype(np.uint8))
        print(path.stem, flush=True)


def call(whole, model):
    """Return the components that a model calls, numbered, and how probable each is on average."""
    nothing = np.zeros_like(whole)
    raw = np.stack([1 - whole, whole, nothing, nothing, nothing], axis=-1)
    decided = thresholds.apply_threshold(raw, threshold=model.threshold, min_component_score=model.min_component_score)
    found = Image(decided, np.eye(4))
    level = thresholds.candidate_level(model.description)
    components, count = label_components(
        whole_lesion(fusion.add_candidates(found, found, None, level=level).data) >= 0.5
    )
    return components, thresholds.mean_probabilities(whole_lesion(decided), components, count)


def describe(path, whole, model):
    """Return what is called in a case, and its lesions."""
    with np.load(path) as case:
        instances, own, group, painted = (case[key] for key in ("instances", "own", "group", "painted"))
    components, means = call(whole, model)
    beside, near = ndimage.maximum_filter(instances, 3), ndimage.maximum_filter(instances, 2 * NEAR_VOX + 1)
    sizes = np.bincount(instances.ravel())
    rows = []
    for number, box in enumerate(ndimage.find_objects(components), start=1):
        it = components[box] == number
        peak = np.unravel_index(np.argmax(np.where(it, whole[box], -1)), it.shape)
        common = np.bincount(instances[box][it], minlength=len(sizes))
        common[0] = 0
        touched = int(common.argmax())
        iou = common[touched] / (it.sum() + sizes[touched] - common[touched]) if common.any() else 0
        found = int(beside[box][peak]) or (touched if iou > 0.1 else 0)
        rows.append(
            {
                "mean": means[number - 1],
                "voxels": int(it.sum()),
                "found": found,
                "ambiguous": not found and bool(near[box][it].any()),
            }
        )
    facts = {"case": path.stem, "group": str(group), "painted": bool(painted)}
    called = pd.DataFrame(rows, columns=["mean", "voxels", "found", "ambiguous"]).assign(**facts)
    numbers = [n for n in np.unique(instances) if n > 0 and (painted and n != own)]
    lesions = pd.DataFrame({"found": numbers, "voxels": sizes[numbers]}).assign(**facts)
    return called, lesions, bool(painted)


def fit(out, model):
    """Print the calibration, and what each limit of confidence finds."""
    model = segmentation.read_model(Path(model))
    found = []
    for path in sorted(Path(out, "cases").glob("*.npz")):
        with np.load(Path(out, "predicted", path.name)) as stored:
            found.append(describe(path, stored["whole"].astype(np.float32) / 255, model))
    called, lesions, painted = zip(*found, strict=True)
    called, lesions = (pd.concat(tables, ignore_index=True) for tables in (called, lesions))
    scans = pd.Series(painted).value_counts()
    called = called[(called["voxels"] >= FEWEST_VOX) & ~called["ambiguous"]].reset_index(drop=True)
    odds = special.logit(np.clip(called["mean"].to_numpy(float), thresholds.MIN_MEAN, 1 - thresholds.MIN_MEAN))[:, None]
    right = (called["found"] > 0).to_numpy(bool)

    def regression():
        return LogisticRegression(C=1e6)

    confidence = np.zeros(len(called))
    for known, new in GroupKFold(FOLDS).split(odds, right, called["group"]):
        confidence[new] = regression().fit(odds[known], right[known]).predict_proba(odds[new])[:, 1]
    whole = regression().fit(odds, right)
    print({"intercept": round(float(whole.intercept_[0]), 3), "slope": round(float(whole.coef_[0, 0]), 3)})
    bins = pd.cut(confidence, [0, 0.1, 0.3, 0.5, 0.7, 0.9, 1], include_lowest=True)
    table = pd.DataFrame({"bin": bins, "predicted": confidence, "lesions": right})
    summary = table.groupby("bin", observed=True).agg(
        components=("lesions", "size"), predicted=("predicted", "mean"), lesions=("lesions", "mean")
    )
    error = (summary["components"] * (summary["predicted"] - summary["lesions"]).abs()).sum() / len(table)
    print(f"{summary.round(3).to_string()}\nexpected calibration error {error:.3f}")
    small = lesions["voxels"] < np.pi / 6 * SMALL_MM**3
    rows = []
    for limit in LIMITS:
        kept = called[confidence >= limit]
        known = lesions.merge(
            kept.loc[kept["found"] > 0, ["case", "found"]].drop_duplicates(), indicator=True, how="left"
        )
        hit = (known["_merge"] == "both").to_numpy()
        false = kept[kept["found"] == 0].groupby("painted").size().reindex([True, False], fill_value=0)
        rows.append(
            {
                "confidence": limit,
                "found": hit.mean(),
                f"below {SMALL_MM} mm": hit[small].mean(),
                "false a painted scan": false[True] / scans[True],
                "false a scan as it is": false[False] / scans[False],
            }
        )
    print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == "__main__":
    {"make": make, "predict": predict, "fit": fit}[sys.argv[1]](*sys.argv[2:])
