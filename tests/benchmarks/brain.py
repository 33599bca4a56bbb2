"""Score brain extraction on real scans; print the tables of `brain.md` and draw every mask.

    METTRAIL_REAL_DATA=FOLDER python tests/benchmarks/brain.py [--method deepbet] [--raw] [--damage]
                              [--pictures FOLDER] [--cases NAME ...] [--threads 2]

Reference masks: FreeSurfer's for `heads`, the database's own (in its common space) for `ms-followup`; the other scans
have none and are looked at. Times are CPU seconds of this process: of the method, and of `atlas_fit`. With --raw the
method sees the scan as N4 would get it. With --damage the fits of masks made bad on purpose are printed as well.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import yaml
from mettrail import transforms
from mettrail.bias import correct_bias, foreground
from mettrail.brain import atlas_fit, find_brain
from mettrail.geometry import bounding_box, find_surface, grow_mask
from mettrail.images import Image, canonical_grid, read_image, read_mask, resample
from mettrail.settings import debias_settings
from scipy import ndimage

ROOT = Path(__file__).parents[2]


def find_cases(folder: Path) -> dict:
    """Return name -> (scan, function that returns the reference mask on a grid, or None)."""
    cases = {}
    for scan in sorted((folder / "ms-followup").glob("sub-*/ses-*/anat/*_T1w.nii.gz")):
        sub, ses = scan.name.split("_")[:2]
        cases[f"ms {sub} {ses}"] = (scan, common_space_mask(folder / "ms-followup", sub, ses))
    for scan in sorted((folder / "heads").glob("*_T1w.nii.gz")):
        mask = scan.with_name(scan.name.replace("_T1w", "_desc-brain_mask"))
        cases[f"head {scan.name.split('_')[0]}"] = (scan, lambda grid, mask=mask: onto(read_mask(mask), grid))
    for kind, pattern in (
        ("gbm", "gbm-followup/sub-*/ses-*/anat/*_T1w.nii.gz"),
        ("schwannoma", "contrast-head/*_T1w.nii.gz"),
        ("stripped, contrast", "contrast-anatomies/*_ce-gadolinium_T1w.nii.gz"),
        ("stripped", "anatomies/*_T1w.nii.gz"),
    ):
        for scan in sorted(folder.glob(pattern)):
            cases[f"{kind} {' '.join(scan.name.split('_')[: 2 if kind == 'gbm' else 1])}"] = (scan, None)
    return cases


def onto(mask: Image, grid, world=None) -> np.ndarray:
    return resample(Image(mask.data.astype(np.float32), mask.affine), grid, world=world).data > 0.5


def common_space_mask(folder: Path, sub: str, ses: str):
    """The transforms beside these scans take points of the common space to points of the study.

    Taken the other way round, the ring just outside the mask is as bright as the ring just inside.
    """
    common = folder / "sourcedata" / "common-space"

    def on_grid(grid):
        to_study = transforms.read_affine(common / f"{sub}_{ses}_from-FLAIR_to-common.txt")
        return onto(read_mask(common / f"{sub}_brainmask.nii.gz"), grid, world=transforms.invert(to_study))

    return on_grid


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def hd95_mm(a: np.ndarray, b: np.ndarray) -> float:
    """95th percentile of the distances of either surface to the other, at 1 mm."""
    box = bounding_box(a | b, margin_vox=2)
    edge_a, edge_b = find_surface(a[box]), find_surface(b[box])
    there, back = ndimage.distance_transform_edt(~edge_b)[edge_a], ndimage.distance_transform_edt(~edge_a)[edge_b]
    return float(np.percentile(np.concatenate([there, back]), 95))


def draw(path: Path, head: Image, mask: np.ndarray, truth: np.ndarray | None, title: str) -> None:
    """Three slices each way, the mask in red, the reference in green."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    box = bounding_box(mask)
    top = np.percentile(head.data[mask], 99.5)
    figure, axes = plt.subplots(3, 4, figsize=(13, 10))
    for axis, row in enumerate(axes):
        for share, ax in zip((0.12, 0.35, 0.6, 0.85), row):
            at = round(box[axis].start + share * (box[axis].stop - box[axis].start))
            ax.imshow(head.data.take(at, axis).T, cmap="gray", vmin=0, vmax=top, origin="lower")
            for outline, colour in ((truth, "lime"), (mask, "red")):
                if outline is not None and outline.take(at, axis).any():
                    ax.contour(outline.take(at, axis).T, [0.5], colors=colour, linewidths=0.7)
            ax.axis("off")
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    plt.close(figure)


def damaged(head: Image, mask: Image) -> dict[str, np.ndarray]:
    """Return masks as they must not be: over bone and scalp, shifted, without a part of the brain."""
    brain = mask.data
    x, _, z = (slice(*np.flatnonzero(brain.any(axes))[[0, -1]]) for axes in ((1, 2), (0, 2), (0, 1)))
    half, vertex = brain.copy(), brain.copy()
    half[: (x.start + x.stop) // 2] = False
    vertex[:, :, z.stop - 30 :] = False
    return {
        "grown 10 mm": grow_mask(mask.data, spacing_mm=mask.spacing_mm, grow_mm=10),
        "grown 20 mm": grow_mask(mask.data, spacing_mm=mask.spacing_mm, grow_mm=20),
        "whole head": foreground(head.data),
        "shifted 20 mm": np.roll(brain, 20, 1),
        "half": half,
        "top 30 mm lost": vertex,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, help="folder for the pictures")
    parser.add_argument("--cases", nargs="+", help="names, or their beginnings")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--method", default="deepbet")
    parser.add_argument("--raw", action="store_true", help="no bias correction before")
    parser.add_argument("--damage", action="store_true", help="fits of bad masks, too")
    arguments = parser.parse_args()
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    run = {"hd_bet_weights": config["strip"]["hd_bet_weights"], "device": "cpu", "threads": arguments.threads}
    print("| scan | Dice | HD95 mm | volume ml | reference ml | fit | CPU s | CPU s of the fit |")
    print("| --- |" + " --- |" * 7)
    for name, (scan, reference) in find_cases(Path(os.environ["METTRAIL_REAL_DATA"])).items():
        if arguments.cases and not name.startswith(tuple(arguments.cases)):
            continue
        head = read_image(scan)
        if arguments.raw:
            head = resample(head, canonical_grid(head.grid))
        else:
            head = correct_bias(head, threads=arguments.threads, **debias_settings(config))
        clock = [time.process_time()]
        mask = find_brain(head, arguments.method, **run)
        clock.append(time.process_time())
        fit = atlas_fit(head, mask)
        clock.append(time.process_time())
        truth = reference(head.grid) if reference else None
        scores = ["–", "–", f"{mask.data.sum() / 1000:.0f}", "–"]
        if truth is not None:
            scores = [f"{dice(mask.data, truth):.3f}", f"{hd95_mm(mask.data, truth):.1f}", scores[2]]
            scores.append(f"{truth.sum() / 1000:.0f}")
        row = [name, *scores, f"{fit:.3f}", *(f"{seconds:.1f}" for seconds in np.diff(clock))]
        print(f"| {' | '.join(row)} |", flush=True)
        for kind, bad in damaged(head, mask).items() if arguments.damage else ():
            row = [f"{name}, {kind}", "–", "–", f"{bad.sum() / 1000:.0f}", "–"]
            print(f"| {' | '.join(row)} | {atlas_fit(head, Image(bad, head.affine)):.3f} | – | – |", flush=True)
        if arguments.pictures:
            arguments.pictures.mkdir(parents=True, exist_ok=True)
            draw(arguments.pictures / f"{name.replace(' ', '_').replace(',', '')}.png", head, mask.data, truth, name)


if __name__ == "__main__":
    main()
