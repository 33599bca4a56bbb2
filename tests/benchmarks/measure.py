"""Time all measurements of a scan full of lesions, awkward ones among them; write `measure.md`.

    python tests/benchmarks/measure.py [--repeats 3] [--profile] [--brute-force]

240x240x155 voxels of 1 mm, 80 lesions in a brain mask, one core. The largest lesion is a ring of 60 mm that is open at
one side and ragged: nearly all of its long chords leave it, which is the worst that can happen to the search for the
longest one that does not. `--brute-force` compares that search with one that tries all chords of the largest lesion's
slices, point by point (a quarter of an hour).
"""

import argparse
import cProfile
import pstats
import time
from pathlib import Path

import numpy as np
import yaml
from mettrail.images import EDEMA, ENHANCING, NECROSIS
from mettrail.settings import measure_settings
from mettrail.tracking.chords import longest_diameters
from mettrail.tracking.components import find_instances
from mettrail.tracking.lesions import measure_instances
from scipy import ndimage
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).parents[2]
SHAPE = (240, 240, 155)
N_LESIONS, SEED = 80, 1
# Large ones first, each in a free place: diameter in mm, before the edge is made rough, and kind.
LARGE = ((54, "open ring"), (44, "star"), (40, "open ring"), (36, "spiral"), (30, "ring"), (26, "star"), (24, "ring"))
SMALL_MM = (3.5, 18)
STEP_MM = 0.02
INTRODUCTION = """# Measuring a scan full of lesions

`python tests/benchmarks/measure.py`: 240x240x155 voxels of 1 mm, one core, with a brain mask.

"""


def make_lesion(diameter: float, kind: str, rng) -> np.ndarray:
    """Return labels of one lesion in a cube: 1 enhancing, 3 necrosis, 0 around it."""
    reach = int(np.ceil(0.55 * diameter)) + 2
    x, y, z = np.indices((2 * reach + 1,) * 3) - reach
    # The ring stands upright in the scan: every axial slice cuts it, so every one has to be searched.
    far = np.sqrt(x**2 + y**2 + (z * 1.15) ** 2) / (diameter / 2)
    angle = np.arctan2(y, x)
    rough = ndimage.gaussian_filter(rng.standard_normal(x.shape), 1.6)
    edge = 1 + 0.07 * rough / rough.std()
    out = np.zeros(x.shape, np.uint8)
    if kind == "star":
        arms = 0.55 + 0.45 * np.cos(5 * angle + rng.uniform(0, 6))
        out[far < np.clip(arms, 0.22, 1) * edge] = ENHANCING
    elif kind == "spiral":
        turn = (angle / (2 * np.pi) + 2.2 * np.hypot(x, y) / (diameter / 2)) % 1
        out[(far < edge) & (turn < 0.55)] = ENHANCING
    elif kind == "ring":
        out[far < edge] = ENHANCING
        out[far < 0.7 * edge] = NECROSIS
    else:
        # A thin wall around what is no lesion, in every slice; open, so that no slice fills it.
        level = np.sqrt(np.clip(1 - (1.15 * z / (diameter / 2)) ** 2, 1e-6, None))
        out[(far < edge) & (np.hypot(x, y) / (diameter / 2) > 0.82 * level * edge)] = ENHANCING
        out[(np.abs(y) < 0.09 * diameter) & (x > 0)] = 0
    return largest_piece(out)


def make_blob(diameter: float, rng) -> np.ndarray:
    """Return labels of one small lesion in a cube."""
    reach = int(np.ceil(0.75 * diameter)) + 2
    grid = np.indices((2 * reach + 1,) * 3) - reach
    far = np.sqrt(sum((g / s) ** 2 for g, s in zip(grid, rng.uniform(0.75, 1.2, 3), strict=True))) / (diameter / 2)
    rough = ndimage.gaussian_filter(rng.standard_normal(far.shape), 1.2)
    edge = 1 + 0.12 * rough / rough.std()
    out = np.where(far < edge, ENHANCING, 0).astype(np.uint8)
    if diameter > 8:
        out[far < 0.5 * edge] = NECROSIS
    return largest_piece(out)


def largest_piece(labels: np.ndarray) -> np.ndarray:
    pieces, n = ndimage.label(labels > 0, np.ones((3, 3, 3)))
    largest = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:])) if n else 0
    return np.where(pieces == largest, labels, 0).astype(np.uint8)


def make_scan() -> tuple[np.ndarray, np.ndarray]:
    """Return tissue labels and brain mask, both (240, 240, 155)."""
    rng = np.random.default_rng(SEED)
    axes = np.array([72.0, 90.0, 66.0])
    grid = np.indices(SHAPE, np.float32) - (np.array(SHAPE, np.float32)[:, None, None, None] - 1) / 2
    brain = sum((g / a) ** 2 for g, a in zip(grid, axes, strict=True)) < 1
    sizes = [
        *LARGE,
        *((d, "blob") for d in np.exp(np.linspace(*np.log(SMALL_MM), N_LESIONS - len(LARGE)))[::-1]),
    ]
    tissue, taken = np.zeros(SHAPE, np.uint8), ~brain
    for diameter, kind in sizes:
        lesion = make_blob(diameter, rng) if kind == "blob" else make_lesion(diameter, kind, rng)
        for _ in range(5000):
            at = rng.integers(0, np.subtract(SHAPE, lesion.shape) + 1)
            box = tuple(slice(a, a + n) for a, n in zip(at, lesion.shape, strict=True))
            if not (taken[box] & (lesion > 0)).any():
                break
        else:
            raise SystemExit(f"no room for a lesion of {diameter:.1f} mm")
        tissue[box][lesion > 0] = lesion[lesion > 0]
        # Three voxels apart, so that each stays a lesion of its own.
        grown = ndimage.binary_dilation(np.pad(lesion > 0, 4), np.ones((3, 3, 3)), 3)
        low = at - 4
        inside = tuple(slice(max(a, 0), min(a + n, s)) for a, n, s in zip(low, grown.shape, SHAPE, strict=True))
        part = tuple(slice(i.start - a, i.stop - a) for i, a in zip(inside, low, strict=True))
        taken[inside] |= grown[part]
    halo = ndimage.distance_transform_edt(tissue == 0) < 6
    tissue[halo & brain & (tissue == 0)] = EDEMA
    return tissue, brain


def clocked(function, repeats: int):
    """Return the function's result and the median of its seconds: wall clock, and CPU of this process."""
    wall, cpu = [], []
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        result = function()
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    return result, float(np.median(wall)), float(np.median(cpu))


def try_all_chords(mask: np.ndarray, gap_mm: float) -> tuple[float, float]:
    """Bracket the longest diameter of a slice (1 mm pixels) by points along every chord, `STEP_MM` apart.

    Returns
    -------
    least, most : float
        With gaps a step shorter and a step longer than allowed, which is as well as points can tell.
    """
    padded = np.pad(mask, 1)
    points = np.array(
        [(i + a / 2, j + b / 2) for i, j in np.argwhere(padded)
         for a, b in ((1, 0), (-1, 0), (0, 1), (0, -1)) if not padded[i + a, j + b]]
    )  # fmt: skip
    first, second = np.triu_indices(len(points), 1)
    length = np.linalg.norm(points[first] - points[second], axis=1)
    order = np.argsort(-length, kind="stable")
    found = [0.0, 0.0]
    for start in range(0, len(order), 256):
        pairs = order[start : start + 256]
        n = int(length[pairs[0]] / STEP_MM) + 2
        # Off the regular places, so that a corner that is just touched is not met.
        at = (np.arange(n)[:, None] + 0.371) / n
        way = points[first[pairs], None] + at * (points[second[pairs]] - points[first[pairs]])[:, None]
        inside = np.zeros(way.shape[:2], bool)
        for dx in (-1e-6, 1e-6):
            for dy in (-1e-6, 1e-6):
                inside |= padded[tuple(np.moveaxis(np.rint(way + np.array([dx, dy])).astype(int), -1, 0))]
        count = np.cumsum(~inside, axis=1)
        run = (count - np.maximum.accumulate(np.where(inside, count, 0), axis=1)).max(axis=1) * length[pairs] / n
        for which, limit in enumerate((gap_mm - 1.5 * STEP_MM, gap_mm + 1.5 * STEP_MM)):
            fits = np.flatnonzero(run <= limit)
            if len(fits) and not found[which]:
                found[which] = float(length[pairs[fits[0]]])
        if found[0]:
            break
    return found[0], found[1]


def compare_with_all_chords(instances: np.ndarray, gap_mm: float) -> dict:
    """Search every slice of the largest lesion both ways; say how far they differ and how many chords leave it."""
    box = ndimage.find_objects(instances)[0]
    stack = np.moveaxis(instances[box] == 1, 2, 0)
    worst, undecided, chords = 0.0, 0, 0
    for number, raw in enumerate(stack):
        mask = ndimage.binary_fill_holes(raw)
        exact, *_ = longest_diameters(mask, spacing_mm=(1.0, 1.0), gap_mm=gap_mm)
        least, most = try_all_chords(mask, gap_mm)
        undecided += most - least > 1e-9
        worst = max(worst, least - exact, exact - most)
        chords += 1
        print(f"slice {number + 1} of {len(stack)}: {exact:.4f} mm, by points {least:.4f} to {most:.4f} mm", flush=True)
    return {"slices": chords, "undecided": undecided, "difference_mm": worst}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="say where the time goes, and write nothing")
    parser.add_argument("--brute-force", action="store_true", help="compare with all chords, and write nothing")
    arguments = parser.parse_args()
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    affine = np.eye(4)
    tissue, brain = make_scan()

    def find():
        return find_instances(tissue, affine=affine, **config["instances"])

    def measure(instances):
        return measure_instances(instances, tissue, affine=affine, brain=brain, **measure_settings(config))[0]

    if arguments.brute_force:
        print(compare_with_all_chords(find(), config["measure"]["chord_gap_vox"]))
        return
    if arguments.profile:
        profile = cProfile.Profile()
        profile.runcall(measure, profile.runcall(find))
        pstats.Stats(profile).sort_stats("tottime").print_stats(18)
        return
    instances, find_s, find_cpu_s = clocked(find, arguments.repeats)
    table, measure_s, measure_cpu_s = clocked(lambda: measure(instances), arguments.repeats)
    largest = table.iloc[0]
    if len(table) != N_LESIONS:
        raise SystemExit(f"{len(table)} lesions instead of {N_LESIONS}: some have grown together")
    rows = [
        ("finding lesions", find_s, find_cpu_s),
        ("measuring them", measure_s, measure_cpu_s),
        ("in all", find_s + measure_s, find_cpu_s + measure_cpu_s),
    ]
    lines = ["| | s | CPU s |", "| --- | --- | --- |", *(f"| {name} | {w:.2f} | {c:.2f} |" for name, w, c in rows)]
    nonconvex = int(table["flags"].str.contains("nonconvex", na=False).sum())
    about = (
        f"{len(table)} lesions, {int(table['n_voxels'].sum())} voxels; the largest {largest['ld_feret_mm']:.1f} mm "
        f"across ({largest['ld_mm']:.1f} mm inside it), {int(largest['n_slices'])} slices, "
        f"{int(largest['n_voxels'])} voxels; "
        f"{nonconvex} whose longest diameter leaves them. Median of {arguments.repeats}."
    )
    print("\n".join([about, "", *lines]))
    text = INTRODUCTION + "\n".join([about, "", *lines]) + "\n"
    (Path(__file__).parent / "measure.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
