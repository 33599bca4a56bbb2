"""What detection makes of a head, whoever drew its brain mask, and however tightly.

    PYTHONPATH=scripts:tests/benchmarks python tests/real/masks.py HEADS MODELS

HEADS are the heads that `scripts/train.py` prepares (OUT/heads): whole ones, with masks by the atlas. Lesions of real
sizes are painted into them, anew in each copy. Each is segmented inside that mask, deepbet's, and that of the atlas
2 mm tighter and 5 mm wider; the pipeline grows each by 3 mm. Dice is of all lesions, confirmed or not, the heads' own
among them; what is false has 10 mm3 or more and touches no true lesion: confirmed ones, and candidates.
"""

import sys
import zlib
from pathlib import Path

import calibration
import numpy as np
import pandas as pd
import segmentation as benchmark
from mettrail import brain, segmentation
from mettrail.images import Image
from mettrail.training import backgrounds, cases
from score import dice

HEADS = (("gbm-followup", ["sub-04", "sub-05", "sub-06"], 2), ("contrast-head", None, 4))
GROW_MM = calibration.CONFIG["strip"]["grow_mm"]
SCORES = ("dice", "false_10mm3", "candidates_10mm3")


def paint(background, seed):
    """Return a whole head with lesions, and where its brain is."""
    rng = np.random.default_rng(seed)
    (head,) = backgrounds.make_visits(background)
    return calibration.paint(head, rng)


def draw_masks(head):
    """Return the brain masks of a head by who drew them."""
    beyond = cases.distance_mm(head.brain)
    deepbet = brain.find_brain(Image(head.image, np.eye(4)), "deepbet", hd_bet_weights="", device="auto", threads=2)
    return {
        "atlas": head.brain,
        "deepbet": deepbet.data > 0,
        "2 mm tighter": beyond <= -2,
        "5 mm wider": beyond <= 5,
    }


def score(heads, models):
    """One row per head and mask."""
    model = segmentation.read_model(Path(models) / "detection")
    for dataset, participants, copies in HEADS:
        for background in backgrounds.find_backgrounds(Path(heads), name=dataset, participants=participants):
            for copy in range(copies):
                name = f"{background.mask.parts[-4]}_{background.mask.parts[-3]}_{copy}"
                head, _ = paint(background, zlib.crc32(name.encode()))
                true = head.instances > 0
                for which, mask in draw_masks(head).items():
                    pieces, confirmed = benchmark.call_lesions(model, head.image, cases.distance_mm(mask) <= GROW_MM)
                    row = {"head": name, "mask": which, "dice": dice(pieces > 0, true)}
                    row |= benchmark.count_false(pieces, confirmed, true)
                    print(row, flush=True)
                    yield row


if __name__ == "__main__":
    rows = pd.DataFrame(score(*sys.argv[1:3]))
    for what in SCORES:
        table = rows.pivot_table(index="head", columns="mask", values=what, sort=False)
        print(f"\n{what}\n{pd.concat([table, table.mean().to_frame('mean').T]).round(3).to_string()}")
