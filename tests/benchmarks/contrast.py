"""How bright real brains are with and without contrast agent: what `contrast_check` is set by.

    METTRAIL_REAL_DATA=FOLDER PYTHONPATH=scripts python tests/benchmarks/contrast.py HEADS

HEADS are the heads that `scripts/train.py` prepares (OUT/heads): bias-corrected, with brain masks. Those of
contrast-anatomies before the injection are read from FOLDER.
"""

import os
import sys
from pathlib import Path

import pandas as pd
from mettrail import images
from mettrail.contrast import bright_share


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


if __name__ == "__main__":
    rows = pd.DataFrame(score(sys.argv[1], os.environ["METTRAIL_REAL_DATA"]))
    print(rows.round(5).to_string(index=False))
    print(rows.groupby("contrast agent")["bright_share"].agg(["size", "min", "median", "max"]).round(5))
