"""What becomes of lesions where a scan is as other tools and scanners leave scans.

    PYTHONPATH=scripts:tests/benchmarks python tests/benchmarks/altered.py make OUT HEADS
    snakemake --cores 2 --until segment --config bids=OUT/bids out=OUT/out
    PYTHONPATH=scripts:tests/benchmarks python tests/benchmarks/altered.py score OUT

HEADS are the heads that `scripts/train.py` prepares (OUT/heads). Lesions of real sizes are painted into contrast-head;
each alteration of it is a patient. `score` prints what detection lists beside what it lists of the scan as it is:
lesions found, the ratio of their volumes, false lesions, and flags of the brain mask.
"""

import json
import sys
from pathlib import Path

import calibration
import numpy as np
import pandas as pd
import segmentation as benchmark
from mettrail import images, segmentation
from mettrail.training import backgrounds
from scipy import ndimage
from scipy.spatial.transform import Rotation

SEED = 77
NAME = "ses-1/anat/sub-{0}_ses-1_ce-gadolinium_T1w.nii.gz"
TILT_DEG = (25, 0, 12)


def move(scan, affine, shape, fill=0.0, order=1):
    """Return a scan on another grid of its world."""
    index = np.linalg.inv(scan.affine) @ affine
    moved = ndimage.affine_transform(scan.data, index[:3, :3], index[:3, 3], output_shape=shape, order=order, cval=fill)
    return images.Image(moved, affine)


def tilt(scan, fill=0.0, order=1):
    """Turn the head within its field of view, by 25 degrees of pitch and 12 of yaw."""
    middle = np.eye(4)
    middle[:3, 3] = (scan.affine @ np.r_[(np.array(scan.data.shape) - 1) / 2, 1])[:3]
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", TILT_DEG, degrees=True).as_matrix()
    turned = move(scan, middle @ turn @ np.linalg.inv(middle) @ scan.affine, scan.data.shape, fill, order)
    return scan.like(turned.data)


def conform(scan):
    """FreeSurfer's grid: 256 voxels of 1 mm along each axis, 8 bits."""
    affine = np.array([[-1.0, 0, 0, 127.5], [0, 0, 1, -127.5], [0, -1, 0, 127.5], [0, 0, 0, 1]])
    middle = scan.affine @ np.r_[(np.array(scan.data.shape) - 1) / 2, 1]
    affine[:3, 3] += middle[:3] + np.array([0.3, -0.4, 0.2])
    moved = move(scan, affine, (256, 256, 256))
    return moved.like(np.round(255 * np.clip(moved.data / np.percentile(moved.data, 99.9), 0, 1)))


def alterations(scan, brain):
    """Yield name and image of each altered scan; 1000 is its 99.9th percentile."""
    data = scan.data
    _, along, up = np.indices(data.shape)
    inside = np.argwhere(brain)
    low, high = inside.min(axis=0), inside.max(axis=0) + 1
    box = tuple(slice(a - 2, b + 2) for a, b in zip(low, high))
    below = (along - up).astype(float)
    rng = np.random.default_rng(0)
    coil = np.exp(-sum((axis - at) ** 2 for axis, at in zip(np.indices(data.shape), (105, low[1] + 20, 85))) / 90**2)
    head = np.sort(data[data > 20])
    yield "asis", scan
    # The face removed, with 12 mm of brain.
    yield "defaced", scan.like(np.where(below > below[brain].max() - 12 * np.sqrt(2), 0, data))
    yield "windowed", scan.like(np.clip(data, 0, np.percentile(data[brain], 98)))
    yield "bits8", scan.like(np.round(255 * data / data.max()))
    yield "offset", scan.like(data + 100)
    yield "noise", scan.like(np.hypot(data + rng.normal(0, 60, data.shape), rng.normal(0, 60, data.shape)))
    yield "gamma", scan.like(1000 * (data / 1000) ** 0.6)
    yield "equalised", scan.like(np.where(data > 20, 1000 * np.searchsorted(head, data) / head.size, 0))
    yield "conformed", conform(scan)
    yield "tilted", tilt(scan)
    yield "filled", scan.like(np.where((turned := tilt(scan, fill=-1).data) < -0.5, 700, turned.clip(0)))
    yield "coil", scan.like(data * (0.35 + 1.8 * coil))
    corner = scan.affine.copy()
    corner[:3, 3] += scan.affine[:3, :3] @ [side.start for side in box]
    yield "cropped", images.Image(data[box], corner)
    yield "novertex", images.Image(data[..., : high[2] - 25], scan.affine)
    # As beside metal, or where numbers overflowed.
    yield "spikes", scan.like(np.where(data > np.percentile(data[brain], 99.99), 20 * data, data))


def make(out, heads):
    """Write the dataset, and the truth."""
    (background,) = backgrounds.find_backgrounds(Path(heads), name="contrast-head")
    (head,) = backgrounds.make_visits(background)
    head, _ = calibration.paint(head, np.random.default_rng(SEED))
    affine = images.read_image(background.image).affine
    images.write_labels(Path(out, "truth.nii.gz"), head.instances, affine)
    scan = images.Image((1000 * head.image / np.percentile(head.image, 99.9)).astype(np.float32), affine)
    for name, altered in alterations(scan, head.brain):
        images.write_image(Path(out, "bids", f"sub-{name}", NAME.format(name)), altered.data, altered.affine)
    Path(out, "bids/dataset_description.json").write_text('{"Name": "altered", "BIDSVersion": "1.10.0"}')


def score(out):
    """Print a row an alteration."""
    model = segmentation.read_model(benchmark.ROOT / "resources/models/detection")
    truth = images.read_labels(Path(out, "truth.nii.gz"))
    known, rows = None, []
    for path in sorted(Path(out, "out").glob("sub-*/ses-1/anat/*_desc-detection_probseg.nii.gz")):
        name = path.parts[-4].removeprefix("sub-")
        found = images.read_probabilities(path)
        there = tilt(truth, order=0) if name in ("tilted", "filled") else truth
        there = move(there, found.affine, found.data.shape[:3], order=0).data
        pieces, confirmed = benchmark.list_lesions(model, found)
        sizes = np.bincount(pieces.ravel())
        volumes = {}
        for number in np.unique(there[there > 0]):
            hit = np.setdiff1d(pieces[there == number], 0)
            volumes[number] = sizes[hit].sum() / (there == number).sum()
        known = known or (volumes if name == "asis" else None)
        seen = [n for n, ratio in volumes.items() if ratio]
        quality = json.loads(next(path.parent.glob("*_desc-brain_mask.json")).read_text())
        rows.append(
            {
                "scan": name,
                "lesions": len(volumes),
                "found": len(seen),
                "volume": np.median([volumes[n] for n in seen]) if seen else np.nan,
                "against_asis": np.median([volumes[n] / known[n] for n in seen if known.get(n)]) if seen else np.nan,
                **benchmark.count_false(pieces, confirmed, there > 0),
                "flags": ";".join(quality["flags"]),
            }
        )
    print(pd.DataFrame(rows).round(2).to_string(index=False))


if __name__ == "__main__":
    {"make": make, "score": score}[sys.argv[1]](*sys.argv[2:])
