"""What detection makes of a head, whoever drew its brain mask, and however tightly.

    PYTHONPATH=scripts:tests/benchmarks python tests/real/masks.py HEADS MODELS

HEADS are the heads that `scripts/train.py` prepares (OUT/heads): whole ones, with masks by the atlas. Lesions of real
sizes are painted into them. Each is segmented inside that mask, deepbet's, and that of the atlas 2 mm tighter and 5 mm
wider; the pipeline grows each by 3 mm. Dice is of all lesions, confirmed or not, the heads' own among them; a false
lesion has 10 mm3 or more and is more than 4 mm from any true one.
"""

import sys
import zlib
from pathlib import Path

import calibration
import numpy as np
import pandas as pd
from mettrail import brain, segmentation
from mettrail.geometry import label_components, whole_lesion
from mettrail.images import Image
from mettrail.segmentation import fusion, prediction
from mettrail.segmentation.model_folder import POST_CONTRAST
from mettrail.training import backgrounds, cases
from scipy import ndimage
from score import dice

HEADS = (("gbm-followup", ["sub-04", "sub-05", "sub-06"], 1), ("contrast-head", None, 2))
GROW_MM = calibration.CONFIG["strip"]["grow_mm"]
LEAST_MM3 = calibration.CONFIG["instances"]["birth_mm3"]


def paint(background, seed):
    """Return a whole head with lesions, and where its brain is."""
    rng = np.random.default_rng(seed)
    (head,) = backgrounds.make_visits(background)
    return calibration.paint(head, rng)


def segment(image, mask, model):
    """Return what a model calls a lesion inside a mask."""
    within = cases.distance_mm(mask) <= GROW_MM
    channels = {POST_CONTRAST: np.where(within, image, 0).astype(np.float32)}
    p = prediction.predict_probabilities(model, channels, within=within, device="auto", threads=2)
    found = Image(p, np.eye(4))
    level = prediction.candidate_level(model.description)
    found = fusion.add_candidates(found, found, None, level=level)
    edge = prediction.edge_level([model.description])
    return whole_lesion(fusion.draw_edges(found, level=edge, least_mm3=LEAST_MM3).data) >= 0.5


def score(heads, models):
    """One row per head and mask."""
    model = segmentation.read_model(Path(models) / "detection")
    for dataset, participants, copies in HEADS:
        for background in backgrounds.find_backgrounds(Path(heads), name=dataset, participants=participants, copies=1):
            for copy in range(copies):
                name = f"{background.mask.parts[-4]}_{background.mask.parts[-3]}_{copy}"
                head, _ = paint(background, zlib.crc32(name.encode()))
                beyond = cases.distance_mm(head.brain)
                deepbet = brain.find_brain(
                    Image(head.image, np.eye(4)), "deepbet", hd_bet_weights="", device="auto", threads=2
                )
                masks = {
                    "atlas": head.brain, "deepbet": deepbet.data > 0, "2 mm tighter": beyond <= -2,
                    "5 mm wider": beyond <= 5,
                }  # fmt: skip
                true = head.instances > 0
                near = ndimage.distance_transform_edt(~true) <= calibration.NEAR_VOX
                for which, mask in masks.items():
                    lesion = segment(head.image, mask, model)
                    pieces, _ = label_components(lesion)
                    sizes = np.bincount(pieces.ravel())
                    beside = np.unique(pieces[near])
                    false = sum(size >= LEAST_MM3 for n, size in enumerate(sizes) if n > 0 and n not in beside)
                    row = {"head": name, "mask": which, "dice": dice(lesion, true), "false": false}
                    print(row, flush=True)
                    yield row


if __name__ == "__main__":
    rows = pd.DataFrame(score(*sys.argv[1:3]))
    for what in ("dice", "false"):
        table = rows.pivot_table(index="head", columns="mask", values=what, sort=False)
        print(f"\n{what}\n{pd.concat([table, table.mean().to_frame('mean').T]).round(3).to_string()}")
