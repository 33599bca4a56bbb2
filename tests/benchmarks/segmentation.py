"""The shipped networks on the held-out cohort of config/held_out.yaml, in the tables of `scripts/evaluate.py`.

    PYTHONPATH=scripts python tests/benchmarks/segmentation.py make OUT HEADS [COHORT]
    PYTHONPATH=scripts python tests/benchmarks/segmentation.py predict OUT resources/models detection
    PYTHONPATH=scripts python tests/benchmarks/segmentation.py predict OUT resources/models resegmentation
    PYTHONPATH=scripts python tests/benchmarks/segmentation.py decide OUT resources/models
    PYTHONPATH=scripts python tests/benchmarks/segmentation.py real HEADS resources/models
    python scripts/evaluate.py --labels OUT/labels --masks OUT/masks --aligned --out OUT/all \\
        detection=OUT/detection fused=OUT/fused confirmed=OUT/confirmed
    python scripts/evaluate.py --labels OUT/followups --masks OUT/masks --priors OUT/before --labelled-only \\
        --out OUT/second --reference detection detection=OUT/detection registration=OUT/priors fused=OUT/fused \\
        confirmed=OUT/confirmed resegmentation=OUT/resegmentation

`make` writes the cohort, or another one (COHORT: config/held_out_real_sizes.yaml); one without `phantoms` is of scans
without a past. HEADS are the heads that `scripts/train.py` prepares (OUT/heads). `decide` writes every
method's label maps: detection (no past), resegmentation (at second visits, last visit's true lesions brought over by
deformable registration as prior), fused (what the pipeline does), confirmed (fused without candidates); registration is
those lesions as they are (OUT/priors). With `--reference registration` the others are tested against that. `real`
scores detection on real heads. What exists is kept: a run that was broken off goes on.
"""

import dataclasses
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from mettrail import geometry, images, segmentation, transforms
from mettrail.registration import visits
from mettrail.segmentation import fusion, prediction, thresholds
from mettrail.segmentation.model_folder import POST_CONTRAST, PRIOR
from mettrail.training import backgrounds, cases, validation
from scipy import ndimage

ROOT = Path(__file__).parents[2]
HELD_OUT = yaml.safe_load((ROOT / "config/held_out.yaml").read_text())
CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text())
THREADS = 2


def path_of(out, folder, patient, visit, name):
    """Where a file of a session lies."""
    return Path(out) / folder / f"sub-{patient}/ses-{visit}/anat/sub-{patient}_ses-{visit}_{name}.nii.gz"


def draw_patients(root, cohort):
    """Yield name, seed and the two visits of each patient."""

    def seeds(given):
        return range(given[0], given[1] + 1)

    for seed in seeds(cohort.get("phantoms", {"seeds": [0, -1]})["seeds"]):
        yield f"P{seed}", seed, lambda seed=seed: backgrounds.make_visits(seed)
    given = dict(cohort["background"])
    own, number, synthesis = (given.pop(key) for key in ("seeds", "lesions", "synthesis"))
    painted_phantoms = given.pop("phantom_seeds", [0, -1])
    number = number if isinstance(number, dict) else tuple(number)
    (background,) = backgrounds.find_backgrounds(Path(root), **given)
    drawn = [(f"R{seed}", seed, background) for seed in seeds(own)]
    drawn += [(f"S{seed}", seed, seed) for seed in seeds(painted_phantoms)]
    for name, seed, head in drawn:
        key = backgrounds.Painted(head, seed, number, synthesis)
        yield name, seed, lambda key=key: backgrounds.make_visits(key)


def describe(patient, visit, session):
    """Size and contrast of every lesion: what the cohort asks for."""
    image, tissue, instances, mask = (session.image, session.tissue, session.instances, session.mask)
    spread = image[mask].std()
    for number in np.unique(instances[instances > 0]):
        lesion = instances == number
        near = ndimage.binary_dilation(lesion, iterations=4) & ~ndimage.binary_dilation(instances > 0) & mask
        yield {
            "patient": patient,
            "visit": visit,
            "lesion": number,
            "volume_mm3": int(lesion.sum()),
            "diameter_mm": (6 * lesion.sum() / np.pi) ** (1 / 3),
            "contrast_sd": (image[lesion & (tissue == 1)].mean() - np.median(image[near])) / spread,
            "necrosis": bool((tissue[lesion] == 3).any()),
        }


def bring_over(out, patient, sessions):
    """Write the first visit's labels as the pipeline brings them to the second."""
    pairs = [(images.Image(s.image, np.eye(4)), images.Image(s.mask, np.eye(4))) for s in sessions]
    transform, _, _ = visits.register_visits(
        pairs[1][0], pairs[0][0], pairs[1][1], pairs[0][1], threads=THREADS, **CONFIG["register"]
    )
    before = images.Image(sessions[0].tissue, np.eye(4))
    moved = transforms.warp_labels(before, pairs[1][0].grid, affine=transform.affine, warp=transform.warp)
    images.write_labels(path_of(out, "priors", patient, 2, "dseg"), moved.image.data, np.eye(4))


def make(out, root, cohort=ROOT / "config/held_out.yaml"):
    """Write the cohort: images, brain masks, labels, and last visit's labels brought over."""
    cohort = yaml.safe_load(Path(cohort).read_text())
    with_past = "phantoms" in cohort
    for patient, seed, draw in draw_patients(root, cohort):
        if path_of(out, "priors" if with_past else "labels", patient, 2, "dseg").exists():
            continue
        started = time.time()
        imperfections = cases.Imperfections(**cohort["cases"])
        sessions = cases.perturb(draw(), rng=np.random.default_rng([seed, 7]), imperfections=imperfections)
        for visit, session in enumerate(sessions, start=1):
            images.write_image(path_of(out, "scans", patient, visit, "ce-gadolinium_T1w"), session.image, np.eye(4))
            images.write_labels(path_of(out, "masks", patient, visit, "brain_mask"), session.mask, np.eye(4))
            images.write_labels(path_of(out, "labels", patient, visit, "dseg"), session.tissue, np.eye(4))
            rows = pd.DataFrame(describe(patient, visit, session))
            rows.to_csv(Path(out) / f"lesions_{patient}_{visit}.csv", index=False)
        if with_past:
            bring_over(out, patient, sessions)
        print(patient, f"{time.time() - started:.0f} s", flush=True)
    tables = [pd.read_csv(path) for path in sorted(Path(out).glob("lesions_*.csv")) if path.stat().st_size > 1]
    if not tables:
        print("Nobody has a lesion.")
        return
    lesions = pd.concat(tables)
    print(f"{len(lesions)} lesions in {len(tables)} sessions with any, {lesions.necrosis.mean():.0%} with necrosis")
    spread = lesions[["volume_mm3", "diameter_mm", "contrast_sd"]].quantile([0, 0.1, 0.25, 0.5, 0.75, 0.9, 1])
    print(spread.round(2).to_string())


def give_channels(task, scan, before):
    """Return what a network reads: the scan and, for re-segmentation, last visit's lesions; both are images."""
    prior = {PRIOR: np.isin(before.data, (1, 3)).astype(np.float32)} if task == "resegmentation" else {}
    return {POST_CONTRAST: scan.data, **prior}


def predict(out, models, task):
    """Write a network's probabilities of every session it is for, its thresholds not applied."""
    model = dataclasses.replace(segmentation.read_model(Path(models) / task), threshold=0.5, min_component_score=0.0)
    for scan in sorted(Path(out).glob("scans/sub-*/ses-*/anat/*.nii.gz")):
        patient, visit = (part[4:] for part in scan.parts[-4:-2])
        before, written = (
            path_of(out, *of) for of in (("priors", patient, visit, "dseg"), (task, patient, visit, "probseg"))
        )
        if written.exists() or (task == "resegmentation" and not before.exists()):
            continue
        started = time.time()
        prior = images.read_labels(before) if task == "resegmentation" else None
        channels = give_channels(task, images.read_image(scan), prior)
        # The scan is 0 outside the mask as it was grown for it.
        p = prediction.predict_probabilities(model, channels, within=None, device="auto", threads=THREADS)
        images.write_probabilities(written, p, np.eye(4))
        print(task, patient, visit, f"{time.time() - started:.0f} s", flush=True)


def decide(out, models):
    """Write what each method calls a lesion, at the thresholds of the models."""
    networks = {task: segmentation.read_model(Path(models) / task) for task in fusion.NETWORKS}
    for scan in sorted(Path(out).glob("scans/sub-*/ses-*/anat/*.nii.gz")):
        patient, visit = (part[4:] for part in scan.parts[-4:-2])
        found = {}
        before = path_of(out, "priors", patient, visit, "dseg")
        prior = images.read_labels(before) if before.exists() else None
        for task, model in networks.items():
            path = path_of(out, task, patient, visit, "probseg")
            if path.exists():
                raw = images.read_probabilities(path)
                decided = thresholds.apply_threshold(
                    raw.data,
                    threshold=model.threshold,
                    min_component_score=model.min_component_score,
                    prior_mask=np.isin(prior.data, (1, 3)) if task == "resegmentation" else None,
                )
                found[task] = images.Image(decided, np.eye(4))
        grid = images.read_image(scan).grid
        if prior is not None:
            # Second visits alone, for the methods that need a first one. What has changed since is no guess: both
            # visits lie in one space.
            first, second = (images.read_labels(path_of(out, "labels", patient, v, "dseg")).data for v in (1, 2))
            images.write_labels(path_of(out, "followups", patient, visit, "dseg"), second, np.eye(4))
            images.write_labels(path_of(out, "before", patient, visit, "desc-prior_dseg"), first, np.eye(4))
        limits = {
            "touch_mm": CONFIG["segment"]["fusion"]["touch_mm"],
            "edema_max_mm": CONFIG["measure"]["edema_max_mm"],
        }
        described = networks["detection"].description
        lower = thresholds.candidate_level(described)
        fused = fusion.fuse(found["detection"], found.get("resegmentation"), prior, **limits)
        found["fused"] = fusion.add_candidates(fused, found["detection"], None, level=lower)
        seen = {task: found.get(task) for task in fusion.NETWORKS}
        found["detection"] = fusion.add_candidates(found["detection"], found["detection"], None, level=lower)
        level = thresholds.edge_level(model.description for model in networks.values())
        least = CONFIG["instances"]["birth_mm3"]
        edged = {name: segmentation.draw_edges(p, level=level, least_mm3=least) for name, p in found.items()}
        called = {name: segmentation.decide_on_grid(probabilities, grid)[0] for name, probabilities in edged.items()}
        # Of the fused lesions, those that count in a response.
        fused, limits = called["fused"], CONFIG["segment"]["confidence_limits"]
        calibration = described.get("calibration")
        touch_mm = CONFIG["segment"]["fusion"]["touch_mm"]
        at_prior = None if prior is None else fusion.near_prior(prior, touch_mm=touch_mm)
        pieces, evidence = segmentation.gather_evidence(
            fused, found["fused"], seen, limits=limits, calibration=calibration, at_prior=at_prior
        )
        called["confirmed"] = segmentation.remove_candidates(fused, pieces, evidence)
        for name, labels in called.items():
            images.write_labels(path_of(out, name, patient, visit, "dseg"), labels.data, np.eye(4))


def call_lesions(model, image, within):
    """Return what detection lists of a scan of 1 mm voxels: numbered components, and the numbers of confirmed ones."""
    channels = {POST_CONTRAST: np.where(within, image, 0).astype(np.float32)}
    p = prediction.predict_probabilities(model, channels, within=within, device="auto", threads=THREADS)
    return list_lesions(model, images.Image(p, np.eye(4)))


def list_lesions(model, found):
    """Return the same of detection's probabilities."""
    called = fusion.add_candidates(found, found, None, level=thresholds.candidate_level(model.description))
    level = thresholds.edge_level([model.description])
    edged = segmentation.draw_edges(called, level=level, least_mm3=CONFIG["instances"]["birth_mm3"])
    labels, _ = segmentation.decide_on_grid(edged, found.like(found.data[..., 0]).grid)
    limits, calibration = CONFIG["segment"]["confidence_limits"], model.description.get("calibration")
    pieces, evidence = segmentation.gather_evidence(
        labels, called, {"detection": found}, limits=limits, calibration=calibration
    )
    return pieces.data, evidence.loc[evidence["certainty"] == "confirmed", "index"].to_numpy()


def count_false(pieces, confirmed, true):
    """Count false lesions that can start an ID, none of them near a true one: ``false_10mm3``, ``candidates_10mm3``."""
    sizes = np.bincount(pieces.ravel())
    near = np.unique(pieces[ndimage.binary_dilation(true, iterations=3)])
    large = [n for n, size in enumerate(sizes) if n > 0 and n not in near and size >= validation.FALSE_MM3]
    return {
        "false_10mm3": len(np.intersect1d(large, confirmed)),
        "candidates_10mm3": len(np.setdiff1d(large, confirmed)),
    }


def score_real(root, models):
    """Print what detection makes of real heads that no network was trained on: lesions found, Dice, false lesions.

    ``false_10mm3`` are confirmed ones, ``candidates_10mm3`` all others.
    """
    model = segmentation.read_model(Path(models) / "detection")
    rows = []
    for given in HELD_OUT["real"]:
        for background in backgrounds.find_backgrounds(Path(root), **given):
            (head,) = backgrounds.make_visits(background)
            brain = images.read_mask(background.mask)
            within = geometry.grow_mask(brain.data, spacing_mm=brain.spacing_mm, grow_mm=CONFIG["strip"]["grow_mm"])
            pieces, confirmed = call_lesions(model, head.image, within)
            true = head.instances > 0
            hit = head.instances[true & np.isin(pieces, confirmed)]
            rows.append(
                {
                    "scan": background.image.name.split("_ce-")[0].split("_res-")[0],
                    "dice": 2 * hit.size / max(np.isin(pieces, confirmed).sum() + true.sum(), 1),
                    "lesions": len(np.unique(head.instances[true])),
                    "found": len(np.unique(hit)),
                }
                | count_false(pieces, confirmed, true)
            )
            print(pd.DataFrame(rows[-1:]).round(3).to_string(header=len(rows) == 1, index=False), flush=True)


if __name__ == "__main__":
    {"make": make, "predict": predict, "decide": decide, "real": score_real}[sys.argv[1]](*sys.argv[2:])
