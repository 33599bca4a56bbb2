"""Compare deformable registrations on known deformations and on real visits; write `registration.md`.

    METTRAIL_REAL_DATA=FOLDER python tests/benchmarks/registration.py [--scratch FOLDER] [--pairs NAME ...]

Every run is a process of its own (for its memory), starts from the same affine and leaves a JSON file in the scratch
folder, so that an interrupted benchmark continues where it was. The scans are described in `registration.md`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from mettrail import brain, registration, transforms
from mettrail.geometry import bounding_box, grow_mask
from mettrail.images import (
    Grid,
    Image,
    canonical_grid,
    read_image,
    read_labels,
    read_mask,
    resample,
    write_image,
    write_labels,
)
from mettrail.registration.engines import Settings
from mettrail.transforms import Warp
from scipy import ndimage
from scipy.spatial.transform import Rotation

SEED, GROW_MM = 1, 3.0
LINEAR = {"greedy": [100, 50, 0], "ants": [1000, 500, 250, 0]}
SYNTHETIC = {
    "known-1": "contrast-anatomies/sub-07_ce-gadolinium_T1w.nii.gz",
    "known-2": "contrast-anatomies/sub-19_ce-gadolinium_T1w.nii.gz",
    "known-3": "anatomies/sub-03_T1w.nii.gz",
}
REAL = {
    "gbm-1": ("gbm-followup/sub-01", "ce-gadolinium_T1w", "gbm-followup/derivatives/manual/sub-01"),
    "gbm-5": ("gbm-followup/sub-05", "ce-gadolinium_T1w", "gbm-followup/derivatives/manual/sub-05"),
    "ms-12": ("ms-followup/sub-12", "T1w", None),
}


def greedy(iterations, smooth_vox, **more):
    return {"engine": "greedy", "settings": {"iterations": iterations, "radius": 2, "smooth_vox": smooth_vox}, **more}


def ants(iterations):
    settings = {"iterations": iterations, "radius": 2, "step": 0.2, "smooth_vox": [3.0, 0.0]}
    return {"engine": "ants", "settings": settings}


CANDIDATES = {
    "greedy 100x50x10, 1.7/0.7": greedy([100, 50, 10], [1.732, 0.707]),
    "greedy 40x20x10, 2.5/1.5": greedy([40, 20, 10], [2.5, 1.5]),
    "greedy 100x50x0, 2.0/1.0": greedy([100, 50, 0], [2.0, 1.0]),
    "greedy 40x20x10, 2.5/1.5, prior lesions left out": greedy([40, 20, 10], [2.5, 1.5], without_lesions=True),
    "ANTs SyN 40x20x0": ants([40, 20, 0]),
    "ANTs SyN 100x70x20": ants([100, 70, 20]),
}
# About ten times the price of any other: on one pair only.
ONLY = {"ANTs SyN 100x70x20": ("known-1",)}


# Pairs whose deformation is known


def points_of(grid: Grid) -> np.ndarray:
    return np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3) @ grid.affine[:3, :3].T + grid.affine[:3, 3]


def smooth_field(grid: Grid, rng, *, size_mm: float, sigma_mm: float) -> np.ndarray:
    """Return a random field without folds: a stationary velocity, integrated."""
    sigma = sigma_mm / np.array(grid.spacing_mm)
    velocity = np.stack([ndimage.gaussian_filter(rng.standard_normal(grid.shape), sigma) for _ in range(3)], axis=-1)
    velocity *= size_mm / np.percentile(np.linalg.norm(velocity, axis=-1), 99)
    warp = Warp((velocity / 64).astype(np.float32), grid.affine)
    for _ in range(6):
        points = points_of(grid)
        twice = transforms.map_points(transforms.map_points(points, warp=warp), warp=warp) - points
        warp = Warp(twice.reshape(*grid.shape, 3).astype(np.float32), grid.affine)
    return warp.vectors


def growth_field(grid: Grid, centre: np.ndarray, radius_mm: float, push_mm: float) -> np.ndarray:
    """Return how far a lesion that grew has pushed its surroundings, as the way back to where they were."""
    away = points_of(grid) - centre
    distance = np.linalg.norm(away, axis=1, keepdims=True)
    size = push_mm * (distance / radius_mm) * np.exp(0.5 * (1 - (distance / radius_mm) ** 2))
    return (-away / np.maximum(distance, 1e-6) * size).reshape(*grid.shape, 3).astype(np.float32)


def paint(image: np.ndarray, grid: Grid, centre, radius_mm: float, rng) -> np.ndarray:
    """Paint a metastasis: an uneven ball, bright, dark inside when large. Return where it is; `image` is changed."""
    away = points_of(grid).reshape(*grid.shape, 3) - centre
    rough = ndimage.gaussian_filter(rng.standard_normal(grid.shape), 2.0)
    edge = np.linalg.norm(away, axis=-1) - 0.15 * radius_mm * rough / rough.std()
    bright = np.percentile(image[image > 0], 90) * 1.5
    image[edge < radius_mm] = bright
    if radius_mm > 6:
        image[edge < 0.55 * radius_mm] = 0.35 * bright
    return edge < radius_mm


def as_scanned(data: np.ndarray, inside: np.ndarray, rng) -> np.ndarray:
    """Blur, shade, scale and add noise, differently at each visit; nothing outside the brain."""
    shade = ndimage.gaussian_filter(rng.standard_normal(data.shape), 35)
    shade = 1 + 0.08 * shade / np.abs(shade).max()
    data = ndimage.gaussian_filter(data, 0.5) * shade * rng.uniform(0.8, 1.2)
    return ((data + rng.normal(0, 0.025 * np.percentile(data[inside], 95), data.shape)) * inside).astype(np.float32)


def make_known(source: Path, folder: Path, seed: int) -> None:
    """Write a prior visit (moving), a visit (fixed) and the true warp between them."""
    rng = np.random.default_rng(seed)
    scan = read_image(source)
    scan = resample(scan, canonical_grid(scan.grid))
    inside = ndimage.binary_fill_holes(ndimage.binary_opening(scan.data > 0.02 * scan.data.max(), iterations=2))
    box = bounding_box(inside, margin_vox=14)
    prior, inside = np.maximum(scan.data[box], 0), inside[box]
    grid = scan.grid.crop(box)
    affine = grid.affine
    # Where the lesions are, by depth inside the brain, and what becomes of each: grown, pushing, shrunk, gone, new.
    depth = ndimage.distance_transform_edt(inside)
    sizes = [(4.0, 7.0, 0.0), (6.0, 9.5, 2.0), (8.0, 4.5, 0.0), (3.0, 0.0, 0.0), (0.0, 5.0, 0.0)]
    centres = []
    while len(centres) < len(sizes):
        voxel = rng.integers(0, grid.shape)
        place = (affine @ [*voxel, 1])[:3]
        if 14 < depth[tuple(voxel)] < 30 and all(np.linalg.norm(place - c) > 32 for c in centres):
            centres.append(place)
    # A random pose, then the field: fixed point -> warp -> affine -> moving point.
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-8, 8, 3), degrees=True).as_matrix()
    middle = affine[:3, :3] @ (np.array(grid.shape) / 2) + affine[:3, 3]
    matrix[:3, 3] = middle + rng.uniform(-6, 6, 3) - matrix[:3, :3] @ middle
    vectors = smooth_field(grid, rng, size_mm=3.5, sigma_mm=14)
    here = [transforms.unmap_points(c[None], affine=matrix, warp=Warp(vectors, affine))[0] for c in centres]
    for place, (_, radius, push) in zip(here, sizes):
        if push:
            vectors = vectors + growth_field(grid, place, radius, push)
    warp = Warp(vectors, affine)

    clean = Image(prior.astype(np.float32), affine)
    now = np.maximum(transforms.apply(clean, grid, affine=matrix, warp=warp).data, 0)
    inside_now = transforms.apply(clean.like(inside), grid, affine=matrix, warp=warp, interpolation="nearest").data
    prior, labels, labels_now = prior.copy(), np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.uint8)
    for number, (before, after, (size, size_now, _)) in enumerate(zip(centres, here, sizes), 1):
        if size:
            labels[paint(prior, grid, before, size, rng) & inside] = number
        if size_now:
            labels_now[paint(now, grid, after, size_now, rng) & inside_now] = number
    for name, data, mask, lesions in (("moving", prior, inside, labels), ("fixed", now, inside_now, labels_now)):
        write_image(folder / f"{name}.nii.gz", as_scanned(data, mask, rng), affine)
        write_labels(folder / f"{name}-mask.nii.gz", mask.astype(np.uint8), affine)
        write_labels(folder / f"{name}-lesions.nii.gz", lesions, affine)
    transforms.write_affine(folder / "truth.txt", matrix)
    transforms.write_warp(folder / "truth.nii.gz", warp)


# Pairs that were scanned


def make_real(root: Path, folder: Path, subject: str, suffix: str, manual: str | None) -> None:
    """Write two visits at 1 mm, cut to the brain."""
    for name, session in (("moving", "ses-01"), ("fixed", "ses-02")):
        label = Path(subject).name
        scan = read_image(root / subject / session / "anat" / f"{label}_{session}_{suffix}.nii.gz")
        grid = canonical_grid(scan.grid)
        head = resample(scan, grid)
        mask = brain.find_brain(head, "atlas", hd_bet_weights="", device="cpu", threads=2)
        lesions = np.zeros(grid.shape, np.uint8)
        if manual:
            drawn = read_mask(root / manual / session / "anat" / f"{label}_{session}_desc-manual_dseg.nii.gz")
            lesions = resample(drawn.like(drawn.data.astype(np.uint8)), grid, order=0).data
        near = grow_mask(mask.data, spacing_mm=grid.spacing_mm, grow_mm=GROW_MM)
        write_image(folder / f"{name}.nii.gz", np.maximum(head.data, 0) * near, grid.affine)
        write_labels(folder / f"{name}-mask.nii.gz", mask.data.astype(np.uint8), grid.affine)
        write_labels(folder / f"{name}-lesions.nii.gz", lesions, grid.affine)


# One run


def run_one(folder: Path, candidate: dict, start: np.ndarray | None, stage: str, out: Path, threads: int) -> None:
    """Register one pair in this process and write what it took and what it gave."""
    fixed, moving = (read_image(folder / f"{n}.nii.gz") for n in ("fixed", "moving"))
    fixed_mask, moving_mask = (read_mask(folder / f"{n}-mask.nii.gz") for n in ("fixed", "moving"))
    seen = moving_mask
    if candidate.get("without_lesions"):
        lesions = read_mask(folder / "moving-lesions.nii.gz").data
        seen = moving_mask.like(moving_mask.data & ~ndimage.binary_dilation(lesions, iterations=1))
    # From a given affine nothing linear is left to do.
    linear = LINEAR[candidate["engine"]] if start is None else []
    settings = {**candidate["settings"], "linear_iterations": linear}
    begin, cpu = time.perf_counter(), _cpu()
    found = registration.register(
        fixed,
        moving,
        stage=stage,
        fixed_mask=fixed_mask,
        moving_mask=seen,
        initial=start,
        threads=threads,
        settings=Settings(candidate["engine"], seed=SEED, mask_grow_mm=GROW_MM, of_engine=settings),
    )
    taken = {"wall_s": time.perf_counter() - begin, "cpu_s": _cpu() - cpu}
    taken["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    transforms.write_affine(out.with_suffix(".txt"), found.affine)
    out.write_text(json.dumps({**taken, **judge(folder, fixed, moving, fixed_mask, moving_mask, found)}))


def judge(folder, fixed, moving, fixed_mask, moving_mask, found) -> dict:
    """Say how good a transform is."""
    chain = {"affine": found.affine, "warp": found.warp}
    moved = transforms.apply(moving, fixed.grid, **chain)
    before = read_labels_of(folder, "moving")
    lesions = read_labels_of(folder, "fixed").data > 0
    lesions |= transforms.apply(before, fixed.grid, **chain, interpolation="nearest").data > 0
    healthy = fixed_mask.like(fixed_mask.data & ~ndimage.binary_dilation(lesions, iterations=2))
    result = {"similarity": registration.similarity(fixed, moved, healthy)["local_ncc"]}
    result["mask_dice"] = registration.brain_dice_in_common_view(fixed_mask, moving_mask, **chain)
    result["tissue_dice"] = tissue_dice(fixed, moved, healthy)
    jacobian = np.ones(1)
    if found.warp is not None:
        jacobian = transforms.jacobian_determinant(found.warp).data[fixed_mask.data]
    result["jacobian_min"], result["folded"] = float(jacobian.min()), float((jacobian <= 0).mean())
    if (folder / "truth.txt").exists():
        truth = {
            "affine": transforms.read_affine(folder / "truth.txt"),
            "warp": transforms.read_warp(folder / "truth.nii.gz"),
        }
        right = transforms.apply(before, fixed.grid, **truth, interpolation="label").data
        ours = transforms.apply(before, fixed.grid, **chain, interpolation="label").data
        overlap = [
            2 * ((right == n) & (ours == n)).sum() / ((right == n).sum() + (ours == n).sum())
            for n in np.unique(right[right > 0])
        ]
        result["label_dice"], result["label_dice_min"] = float(np.mean(overlap)), float(np.min(overlap))
        # Tissue within 10 mm of a lesion of either visit, the lesions themselves left out.
        either = (read_labels_of(folder, "fixed").data > 0) | (right > 0)
        near = (ndimage.distance_transform_edt(~either) <= 10) & ~either & fixed_mask.data
        for name, where in (("error", fixed_mask.data & ~either), ("error_near", near), ("error_in", right > 0)):
            voxels = np.argwhere(where)[:: 1 + where.sum() // 40000]
            points = voxels @ fixed.affine[:3, :3].T + fixed.affine[:3, 3]
            away = transforms.map_points(points, **chain) - transforms.map_points(points, **truth)
            away = np.linalg.norm(away, axis=1)
            result[f"{name}_mm"], result[f"{name}_p95_mm"] = float(away.mean()), float(np.percentile(away, 95))
    return result


def read_labels_of(folder: Path, name: str) -> Image:
    return read_labels(folder / f"{name}-lesions.nii.gz")


def tissue_dice(fixed: Image, moved: Image, mask: Image) -> float:
    """Return the mean overlap of three classes of brightness, found in each image by itself."""
    one, two = (three_classes(image.data[mask.data]) for image in (fixed, moved))
    return float(
        np.mean([2 * ((one == c) & (two == c)).sum() / ((one == c).sum() + (two == c).sum()) for c in range(3)])
    )


def three_classes(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, [1, 99])
    values = np.clip(values, low, high)
    centres = np.percentile(values, [8, 40, 80])
    for _ in range(30):
        nearest = np.abs(values[:, None] - centres).argmin(axis=1)
        centres = np.array([values[nearest == c].mean() for c in range(3)])
    return np.abs(values[:, None] - centres).argmin(axis=1)


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# All runs, and the table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/mettrail-benchmark-registration"))
    parser.add_argument("--pairs", nargs="*", default=[*SYNTHETIC, *REAL])
    parser.add_argument("--candidates", nargs="*", default=[*CANDIDATES])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", nargs=2, metavar=("PAIR", "CANDIDATE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        pair, name = args.one
        folder = args.scratch / pair
        if name == "prepare":
            prepare(pair, folder)
        elif name == "affine":
            run_one(
                folder, CANDIDATES["greedy 100x50x10, 1.7/0.7"], None, "affine", folder / "affine.json", args.threads
            )
        else:
            start = transforms.read_affine(folder / "affine.txt")
            out = folder / f"{slug(name)}.json"
            run_one(folder, CANDIDATES[name], start, "deformable", out, args.threads)
        return
    for pair in args.pairs:
        (args.scratch / pair).mkdir(parents=True, exist_ok=True)
        names = [n for n in args.candidates if pair in ONLY.get(n, (pair,))]
        for name, made in (
            ("prepare", "fixed-lesions.nii.gz"),
            ("affine", "affine.json"),
            *((n, f"{slug(n)}.json") for n in names),
        ):
            if not (args.scratch / pair / made).exists():
                same = ["--scratch", str(args.scratch), "--threads", str(args.threads)]
                subprocess.run([sys.executable, __file__, *same, "--one", pair, name], check=True)
                print(pair, name, flush=True)
    print(table(args.scratch))


def prepare(pair: str, folder: Path) -> None:
    root = Path(os.environ["METTRAIL_REAL_DATA"])
    if pair in SYNTHETIC:
        make_known(root / SYNTHETIC[pair], folder, seed=[*SYNTHETIC].index(pair) + 1)
    else:
        make_real(root, folder, *REAL[pair])


def slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)


COLUMNS = {
    "cpu_s": "CPU s",
    "wall_s": "wall s",
    "peak_gb": "GB",
    "similarity": "local NCC",
    "tissue_dice": "tissue Dice",
    "mask_dice": "brain Dice",
    "error_mm": "error mm",
    "error_near_mm": "near lesions",
    "error_near_p95_mm": "near, p95",
    "error_in_mm": "in lesions",
    "label_dice": "lesion Dice",
    "label_dice_min": "worst lesion",
    "jacobian_min": "Jacobian min",
}


def table(scratch: Path) -> str:
    """Return one table per pair, and the means over pairs of a kind."""
    rows = {}
    for pair in (*SYNTHETIC, *REAL):
        for name in ("affine", *CANDIDATES):
            path = scratch / pair / f"{slug(name) if name != 'affine' else name}.json"
            if path.exists():
                rows[pair, name] = json.loads(path.read_text())
    lines = []
    kinds = {"Known deformations": SYNTHETIC, "Real visits": REAL}
    for title, pairs in kinds.items():
        there = [p for p in pairs if (p, "affine") in rows]
        for heading, group in ((f"{title}, mean of {', '.join(there)}", there), *((p, [p]) for p in there)):
            names = [n for n in ("affine", *CANDIDATES) if all((p, n) in rows for p in group)]
            if not group or not names:
                continue
            columns = [c for c in COLUMNS if c in rows[group[0], names[0]]]
            lines += ["", f"**{heading}**", "", f"| | {' | '.join(COLUMNS[c] for c in columns)} |"]
            lines += ["|" + " --- |" * (len(columns) + 1)]
            for name in names:
                means = [np.mean([rows[p, name][c] for p in group]) for c in columns]
                cells = [f"{mean:.0f}" if c.endswith("_s") else f"{mean:.3f}" for c, mean in zip(columns, means)]
                lines += [f"| {name} | {' | '.join(cells)} |"]
    return "\n".join(lines[1:])


if __name__ == "__main__":
    main()
