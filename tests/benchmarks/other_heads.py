"""How alike scans of one head are, mirrored ones, ones of wrong spacing, and of two: what `head_check` is set by.

    METTRAIL_REAL_DATA=FOLDER PYTHONPATH=scripts python tests/benchmarks/other_heads.py HEADS [sequences]

HEADS are the heads that `scripts/train.py` prepares (OUT/heads). Each second session is registered rigidly to the first
one as the pipeline does it, then mirrored, then with voxels 10 % too long, then that of the dataset's next patient is.
With ``sequences`` the T1w, T2w and FLAIR of contrast-anatomies, read from FOLDER, are registered to the reference scans
instead, and then mirrored.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from mettrail import images, registration
from mettrail.registration import visits

CONFIG = yaml.safe_load((Path(__file__).parents[2] / "config/config.yaml").read_text())
SCORES = ["brain_dice", "local_ncc", "shared_information_left", "largest", "smallest"]
SHARED = ["shared_information", "shared_information_left"]
NO_LIMITS = {"covered_warn": 0, "covered_fail": 0, "left_warn": -np.inf, "left_fail": np.inf}
DATASETS = ("gbm-followup", "ms-followup")


def read_session(folder):
    """Return a bias-corrected scan of 1 mm, and its brain mask."""
    (scan,) = folder.glob("*_res-1mm_desc-debias_*T1w.nii.gz")
    (mask,) = folder.glob("*_res-1mm_desc-brain_mask.nii.gz")
    return images.read_image(scan), images.read_mask(mask)


def compare(first, second):
    """Return what the pipeline keeps of how alike two scans are."""
    (fixed, fixed_mask), (moving, moving_mask) = first, second
    given = CONFIG["register"] | {"check": CONFIG["head_check"], "threads": 2}
    _, quality = visits.register_reference(fixed, moving, fixed_mask, moving_mask, **given)
    found = {name: quality[name] for name in ("status", "reason", "brain_dice", "shared_information_left")}
    found |= {"local_ncc": quality["similarity"]["local_ncc"], "mirrored": quality["local_ncc_mirrored"]}
    return found | {"largest": max(quality["stretch"]), "smallest": min(quality["stretch"])}


def score(heads):
    """Yield a row a comparison."""
    for dataset in DATASETS:
        patients = [sorted(each.glob("ses-*/anat")) for each in sorted(Path(heads, dataset).glob("sub-*"))]
        pairs = [[read_session(session) for session in sessions[:2]] for sessions in patients]
        for number, (first, second) in enumerate(pairs):
            others = {
                "same": second,
                "mirrored": tuple(registration.mirror(image) for image in second),
                "too long": tuple(images.Image(i.data, i.affine @ np.diag([1, 1, 1.1, 1])) for i in second),
                "other": pairs[(number + 1) % len(pairs)][1],
            }
            for what, other in others.items():
                row = {"dataset": dataset, "patient": patients[number][0].parts[-3], "what": what}
                row |= compare(first, other)
                print(row, flush=True)
                yield row


def compare_sequence(reference, mask, moving):
    """Return what the pipeline finds of a sequence, with limits that refuse none."""
    settings = {key: value for key, value in CONFIG["register"].items() if not key.startswith("dice_")}
    *_, quality = visits.register_sequence(reference, moving, mask=mask, check=NO_LIMITS, threads=2, **settings)
    return {name: quality[name] for name in SHARED}


def score_sequences(heads, real):
    """Yield a row a sequence, as it is and mirrored."""
    for folder in sorted(Path(heads, "contrast-anatomies").glob("sub-*/ses-*/anat")):
        reference, mask = read_session(folder)
        for sequence in ("FLAIR", "T2w", "T1w"):
            scan = images.read_image(Path(real) / f"contrast-anatomies/{folder.parts[-3]}_{sequence}.nii.gz")
            for what, moving in (("same", scan), ("mirrored", registration.mirror(scan))):
                row = {"patient": folder.parts[-3], "sequence": sequence, "what": what}
                yield row | compare_sequence(reference, mask, moving)


if __name__ == "__main__":
    if sys.argv[2:] == ["sequences"]:
        rows, scores = pd.DataFrame(score_sequences(sys.argv[1], os.environ["METTRAIL_REAL_DATA"])), SHARED
    else:
        rows, scores = pd.DataFrame(score(sys.argv[1])), SCORES
    print(rows.round(3).to_string(index=False))
    print(rows.groupby("what")[scores].agg(["min", "max"]).round(3))
