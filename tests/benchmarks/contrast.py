"""How bright brains, their tissues and lesions are on real scans: what `contrast_check` and `contrast.py` are set by.

    METTRAIL_REAL_DATA=FOLDER PYTHONPATH=scripts python tests/benchmarks/contrast.py brains HEADS
    METTRAIL_REAL_DATA=FOLDER PYTHONPATH=scripts python tests/benchmarks/contrast.py sequences HEADS
    METTRAIL_REAL_DATA=FOLDER PYTHONPATH=scripts python tests/benchmarks/contrast.py masks

HEADS are the heads that `scripts/train.py` prepares (OUT/heads): bias-corrected, with brain masks. `brains`: all of
them, and those of contrast-anatomies before the injection, read from FOLDER. `sequences`: those of contrast-anatomies
and ms-followup as the scanner placed them, by the reference scan. `masks`: those of gbm-followup on their own scans, as
they are and with all that they enclose, mirrored, and on the scans of the patient's other session and of all others.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from mettrail import images
from mettrail.contrast import bright_share, labels_auc, require_weighting, shows_bright_fluid, tissue_contrast
from mettrail.errors import InputError
from scipy import ndimage

SEQUENCES = ("T1w", "T2w", "FLAIR")


def find_scans(heads, real):
    """Yield each scan, whose it is, and its brain mask."""
    for mask in sorted(Path(heads).glob("*/sub-*/ses-*/anat/*_res-1mm_desc-brain_mask.nii.gz")):
        (scan,) = mask.parent.glob("*_res-1mm_desc-debias_*T1w.nii.gz")
        yield scan, f"{mask.parts[-5]} {mask.parts[-4]}", images.read_mask(mask)
    for scan in sorted(Path(real).glob("contrast-anatomies/sub-*_T1w.nii.gz")):
        if "_ce-" not in scan.name:
            yield scan, f"contrast-anatomies {scan.name.split('_')[0]}", None


def score(heads, real):
    """Yield a row a scan."""
    for path, name, mask in find_scans(heads, real):
        scan = images.read_image(path)
        brain = scan.like(scan.data > 0) if mask is None else mask
        yield {"head": name, "contrast agent": "_ce-" in path.name, "bright_share": bright_share(scan, brain)}


def lay_masks(real):
    """Yield a row for each mask on each scan."""
    folder = Path(real) / "gbm-followup"
    scans, masks = {}, {}
    for path in sorted(folder.glob("derivatives/manual/sub-*/ses-*/anat/*_dseg.nii.gz")):
        visit = path.parts[-4:-2]
        (scan,) = folder.joinpath(*visit, "anat").glob("*_ce-gadolinium_T1w.nii.gz")
        scans[visit], masks[visit] = images.read_image(scan), images.read_labels(path).data > 0
    for visit, scan in scans.items():
        head = scan.like(scan.data > 0)
        for other, mask in masks.items():
            laid = {"its own": mask, "filled": fill(mask), "mirrored": mask[::-1]} if other == visit else {}
            of = "the other session's" if other[0] == visit[0] else "another patient's"
            for which, each in (laid or {of: mask}).items():
                yield {
                    "scan": " ".join(visit),
                    "mask": which,
                    "labels_auc": labels_auc(scan, scan.like(each.astype(np.uint8)), head),
                }


def fill(mask):
    """Fill what a mask encloses, slice by slice."""
    return np.stack([ndimage.binary_fill_holes(mask[..., k]) for k in range(mask.shape[2])], axis=-1)


def compare_sequences(heads, real):
    """Yield a row a sequence: how bright fluid and grey matter are, as a share of white matter."""
    for mask in sorted(Path(heads).glob("*/sub-*/ses-*/anat/*_res-1mm_desc-brain_mask.nii.gz")):
        dataset, participant, session = mask.parts[-5:-2]
        places = {"contrast-anatomies": "", "ms-followup": f"{participant}/{session}/anat"}
        if dataset not in places:
            continue
        (path,) = mask.parent.glob("*_res-1mm_desc-debias_*T1w.nii.gz")
        reference, brain = images.read_image(path), images.read_mask(mask)
        for name in SEQUENCES:
            scans = Path(real, dataset, places[dataset]).glob(f"{participant}_*{name}.nii.gz")
            (scan,) = (images.read_image(each) for each in scans if "_ce-" not in each.name)
            scan = images.resample(scan, reference.grid)
            row = {"head": f"{dataset} {participant} {session}", "sequence": name}
            row |= tissue_contrast(scan, reference, brain)
            taken = ", ".join(each for each in SEQUENCES if is_taken(each, scan, reference, brain))
            yield row | {"taken_as": taken, "bright_fluid": float(shows_bright_fluid(scan, brain))}


def is_taken(name, scan, reference, brain):
    """Return whether the pipeline takes a scan for that sequence."""
    try:
        require_weighting(name, scan, reference, brain)
    except InputError:
        return False
    return True


def show(rows, by, columns):
    """Print the rows and what they come to."""
    print(rows.round(5).to_string(index=False))
    print(rows.groupby(by)[columns].agg(["size", "min", "median", "max"]).T.round(5).to_string())


if __name__ == "__main__":
    real = os.environ["METTRAIL_REAL_DATA"]
    if sys.argv[1] == "masks":
        show(pd.DataFrame(lay_masks(real)), "mask", ["labels_auc"])
    elif sys.argv[1] == "sequences":
        show(pd.DataFrame(compare_sequences(sys.argv[2], real)), "sequence", ["fluid", "grey", "bright_fluid"])
    else:
        show(pd.DataFrame(score(sys.argv[2], real)), "contrast agent", ["bright_share"])
