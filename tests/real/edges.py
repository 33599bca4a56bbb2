"""How far lesions should reach: Dice and volume against masks, by the model's `edge_threshold`.

    PYTHONPATH=scripts python tests/real/edges.py OUT MASKS

OUT: results of a run with the shipped detection model; MASKS: a derivatives folder. Masks of one label are outlines of
tumours, as those of gbm-followup: they are filled in each slice; of others labels 1 and 3 are taken. Lesions are the
confirmed ones. The volume is that of those that touch a mask; what touches none is a false lesion.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from mettrail import images
from mettrail.geometry import label_components
from mettrail.segmentation import (
    decide_on_grid,
    draw_edges,
    gather_evidence,
    model_folder,
    remove_candidates,
    thresholds,
)
from score import dice, fill_slices

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text())
BIRTH_MM3, LIMITS = CONFIG["instances"]["birth_mm3"], CONFIG["segment"]["confidence_limits"]
EDGES = (0.6, 0.5, 0.4, 0.3)


def score(out, masks):
    """One row per session and level."""
    model = model_folder.read_description(ROOT / "resources/models/detection")
    for path in sorted(out.rglob("*_desc-detection_probseg.nii.gz")):
        sub, ses = path.name.split("_")[:2]
        given = sorted(masks.glob(f"{sub}/{ses}/anat/*_dseg.nii.gz"))
        if not given:
            continue
        mask = images.read_labels(given[0])
        outlines = len(np.unique(mask.data)) == 2
        true = fill_slices(mask.data > 0) if outlines else np.isin(mask.data, (1, 3))
        probabilities = images.read_probabilities(path)
        for edge in EDGES:
            level = thresholds.edge_level([model | {"edge_threshold": edge}])
            labels, _ = decide_on_grid(draw_edges(probabilities, level=level, least_mm3=BIRTH_MM3), mask.grid)
            components, evidence = gather_evidence(
                labels, probabilities, {"detection": probabilities}, limits=LIMITS, calibration=model["calibration"]
            )
            lesion = np.isin(remove_candidates(labels, components, evidence).data, (1, 3))
            pieces, count = label_components(lesion)
            hit = np.setdiff1d(pieces[true], 0)
            yield {
                "session": f"{sub}_{ses}", "edge": edge, "dice": dice(lesion, true),
                "volume": np.isin(pieces, hit).sum() / true.sum(), "false": count - len(hit),
            }  # fmt: skip


if __name__ == "__main__":
    rows = pd.DataFrame(score(*map(Path, sys.argv[1:3])))
    for name in ("dice", "volume", "false"):
        table = rows.pivot_table(index="session", columns="edge", values=name).round(3)
        print(f"\n{name}\n{pd.concat([table, table.mean().to_frame('mean').T]).round(3).to_string()}")
