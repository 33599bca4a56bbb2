"""Time `scripts/evaluate.py` on a cohort of whole brains at 1 mm; write `evaluate.md`.

    python tests/benchmarks/evaluate.py FOLDER

40 sessions of 10 patients, 150x180x150 voxels, 1 to 15 balls a patient; two methods with probability maps, brain masks
and priors, written to FOLDER (16 MB) where they are not there yet. One core. The scores mean nothing.
"""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from mettrail import images
from scipy import ndimage

ROOT = Path(__file__).parents[2]
SHAPE, PATIENTS, VISITS, SEED = (150, 180, 150), 10, 4, 0
METHODS = {"near": (1, 0.1), "far": (2, 0.25)}  # shift in voxels, share of lesions missed
INTRODUCTION = """# Scoring a cohort

`python tests/benchmarks/evaluate.py FOLDER`: {sessions} sessions of 150x180x150 voxels of 1 mm with {lesions} true
lesions, two methods with probability maps, brain masks and priors; one core, reading and writing included.

| | s |
| --- | --- |
"""


def draw_ball(grid, centre, radius):
    """Return a (X, Y, Z) bool ball."""
    return sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)) < radius**2


def write_cohort(folder: Path) -> None:
    """Write labels, masks, priors and predictions."""
    rng, affine = np.random.default_rng(SEED), np.eye(4)
    grid = np.indices(SHAPE).astype(np.float32)
    middle, axes = (75, 90, 75), (65, 80, 65)
    brain = sum(((axis - m) / a) ** 2 for axis, m, a in zip(grid, middle, axes, strict=True)) < 1
    for patient in range(PATIENTS):
        n = int(rng.integers(1, 16))
        lesions = list(zip(rng.uniform(35, 115, (n, 3)), rng.lognormal(1.1, 0.5, n), strict=True))
        prior = None
        for number in range(VISITS):
            name = f"sub-{patient:02d}/ses-{number + 1}/anat/sub-{patient:02d}_ses-{number + 1}"
            labels = np.zeros(SHAPE, np.uint8)
            for centre, radius in lesions:
                if number and rng.random() < 0.15:
                    continue
                if radius > 5:
                    labels[draw_ball(grid, centre, radius + 4) & (labels == 0)] = images.EDEMA
                labels[draw_ball(grid, centre, radius)] = images.ENHANCING
                if radius > 4:
                    labels[draw_ball(grid, centre, radius / 2)] = images.NECROSIS
            images.write_labels(folder / f"labels/{name}_dseg.nii.gz", labels, affine)
            images.write_labels(folder / f"masks/{name}_desc-brain_mask.nii.gz", brain, affine)
            if prior is not None:
                images.write_labels(folder / f"priors/{name}_desc-prior_dseg.nii.gz", prior, affine)
            prior = labels
            for method, (shift, missed) in METHODS.items():
                pieces, count = ndimage.label(np.isin(labels, (1, 3)), np.ones((3, 3, 3)))
                kept = np.append(False, rng.random(count) > missed)
                found = np.roll(np.where(kept[pieces] | (labels == images.EDEMA), labels, 0), shift, 0)
                for centre in rng.uniform(35, 115, (rng.integers(0, 6), 3)):
                    found[draw_ball(grid, centre, rng.uniform(1, 3))] = images.ENHANCING
                images.write_labels(folder / f"{method}/{name}_dseg.nii.gz", found, affine)
                lesion = ndimage.gaussian_filter(np.isin(found, (1, 3)).astype(np.float32), 1.0)
                classes = np.stack([1 - lesion, lesion, np.zeros_like(lesion), np.zeros_like(lesion)], -1)
                images.write_probabilities(folder / f"{method}/{name}_probseg.nii.gz", classes, affine)


def main(folder: Path) -> None:
    """Time one run of the command."""
    if not folder.exists():
        write_cohort(folder)
    given = [f"{method}={folder / method}" for method in METHODS]
    options = [f"--{name}={folder / name}" for name in ("labels", "masks", "priors", "out")]
    one_core = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "scripts")}
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, ROOT / "scripts/evaluate.py", *given, *options], check=True, env=os.environ | one_core
    )
    wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    page = (folder / "out/evaluation.md").read_text().splitlines()[2].split()
    rows = {"processor time": used.ru_utime + used.ru_stime, "passed, on a shared machine": wall}
    text = INTRODUCTION.format(sessions=page[0], lesions=page[5])
    text += "".join(f"| {what} | {seconds:.0f} |\n" for what, seconds in rows.items())
    text += f"\nMost memory: {used.ru_maxrss / 2**20:.1f} GB.\n"
    Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
