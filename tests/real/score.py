"""Score runs on real scans: `python tests/real/score.py gbm BIDS OUT` or `python tests/real/score.py ms BIDS OUT`.

Nothing of the library is used. Manual masks of gbm-followup are rings: label 1 is scored against the mask, labels 1 and
3 against the mask with holes filled in each slice.
"""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.ndimage import affine_transform

CORNERS = np.ones((3, 3, 3))


def dice(a, b):
    """Dice of two masks; NaN where both are empty."""
    total = a.sum() + b.sum()
    return 2 * (a & b).sum() / total if total else float("nan")


def fill_slices(mask):
    """Fill holes in each slice along the last axis."""
    return np.stack([ndimage.binary_fill_holes(mask[..., k]) for k in range(mask.shape[-1])], -1)


def on_grid(path, target):
    """Bring a label map onto another image's grid, nearest neighbour."""
    image = nib.load(path)
    matrix = np.linalg.inv(image.affine) @ target.affine
    data = np.asarray(image.dataobj)
    return affine_transform(data, matrix[:3, :3], matrix[:3, 3], output_shape=target.shape, order=0)


def session_file(folder, sub, ses, name):
    """Path of a session's file."""
    return folder / sub / ses / "anat" / f"{sub}_{ses}_{name}"


def registration(out, sub, ses):
    """Similarity before and after deformation, brain overlap after rigid registration to the first visit."""
    found = {}
    path = session_file(out, sub, ses, "from-prior_to-session_mode-image_xfm.json")
    if path.exists():
        facts = json.loads(path.read_text())
        found["corr_rigid"] = facts["similarity_rigid"]["correlation"]
        found["corr_deformed"] = facts["similarity_deformable"]["correlation"]
        found["jacobian_min"] = facts["jacobian_min"]
    path = session_file(out, sub, ses, "from-session_to-reference_mode-image_desc-rigid_xfm.json")
    found["brain_dice_rigid"] = json.loads(path.read_text())["brain_dice"] if path.exists() else float("nan")
    return found


def score_gbm(bids, out):
    """Second visits: propagated and fused labels against the manual masks, and components that touch no mask."""
    rows = []
    for folder in sorted(bids.glob("sub-*")):
        sub, ses = folder.name, "ses-02"
        manual = nib.load(session_file(bids / "derivatives/manual", sub, ses, "desc-manual_dseg.nii.gz"))
        ring = np.asarray(manual.dataobj) > 0
        whole = fill_slices(ring)
        path = session_file(out, sub, ses, "desc-tissue_dseg.nii.gz")
        if not path.exists():
            rows.append({"sub": sub})
            continue
        tissue = np.asarray(nib.load(path).dataobj)
        lesion = np.isin(tissue, (1, 3))
        prior = on_grid(session_file(out, sub, ses, "res-1mm_desc-prior_dseg.nii.gz"), manual)
        parts, n = ndimage.label(lesion, CORNERS)
        hit = set(np.unique(parts[ndimage.binary_dilation(whole, CORNERS)])) - {0}
        rows.append(
            {
                "sub": sub,
                "dice_1": dice(tissue == 1, ring),
                "dice_1+3": dice(lesion, whole),
                "dice_propagated": dice(np.isin(prior, (1, 3)), ring),
                "false_components": n - len(hit),
                **registration(out, sub, ses),
            }
        )
    return pd.DataFrame(rows)


def score_ms(bids, out):
    """Sessions without contrast: false lesions found, and how registration went."""
    rows = []
    for folder in sorted(bids.glob("sub-*/ses-*")):
        sub, ses = folder.parts[-2:]
        path = session_file(out, sub, ses, "desc-tissue_dseg.nii.gz")
        if not path.exists():
            rows.append({"sub": sub, "ses": ses})
            continue
        lesion = np.isin(np.asarray(nib.load(path).dataobj), (1, 3))
        volume = abs(np.linalg.det(nib.load(path).affine[:3, :3]))
        parts, n = ndimage.label(lesion, CORNERS)
        sizes = ndimage.sum(lesion, parts, range(1, n + 1)) * volume if n else np.zeros(0)
        facts = {"false_lesions": n, "of_at_least_10_mm3": int((np.array(sizes) >= 10).sum())}
        rows.append({"sub": sub, "ses": ses, **facts, **registration(out, sub, ses)})
    return pd.DataFrame(rows)


def cost(out):
    """Mean seconds, of the clock and of all cores, and largest memory of each stage, from the benchmark files."""
    files = [(path.parent.name, pd.read_csv(path, sep="\t")) for path in out.glob("benchmarks/*/*.tsv")]
    table = pd.concat([frame.assign(stage=stage) for stage, frame in files])
    columns = {
        "jobs": ("s", "size"),
        "s": ("s", "mean"),
        "cpu_s": ("cpu_time", "mean"),
        "max_rss_mb": ("max_rss", "max"),
    }
    return table.groupby("stage").agg(**columns).round(1)


if __name__ == "__main__":
    what, bids, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    scores = score_gbm(bids, out) if what == "gbm" else score_ms(bids, out)
    print(scores.round(3).to_string(index=False))
    print(scores.drop(columns=["sub", "ses"], errors="ignore").mean().round(3).to_string())
    sessions = pd.read_csv(out / "tables/sessions.csv")
    print(sessions[["participant_id", "session_id", "evaluable", "ne_reason"]].to_string())
    print(cost(out).to_string())
