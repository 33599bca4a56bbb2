"""Segmenters behind one contract: a model folder goes in, class probabilities come out, fusion decides voxels.

`model_folder` says what that is. nnU-Net is imported only when something is predicted or trained.
"""

from mettrail.segmentation.cavities import accept_cavities, draw_cavities, settle_cavities
from mettrail.segmentation.channels import read_channels
from mettrail.segmentation.decision import decide_on_grid
from mettrail.segmentation.edema import draw_edema
from mettrail.segmentation.edges import draw_edges
from mettrail.segmentation.evidence import gather_evidence, manual_evidence, remove_candidates
from mettrail.segmentation.fine import look_again
from mettrail.segmentation.fusion import add_candidates, apply_rule, fuse, near_prior
from mettrail.segmentation.models import Model, read_model
from mettrail.segmentation.prediction import predict_probabilities

__all__ = [
    "Model",
    "accept_cavities",
    "add_candidates",
    "apply_rule",
    "decide_on_grid",
    "draw_cavities",
    "draw_edema",
    "draw_edges",
    "fuse",
    "gather_evidence",
    "look_again",
    "manual_evidence",
    "near_prior",
    "predict_probabilities",
    "read_channels",
    "read_model",
    "remove_candidates",
    "settle_cavities",
]
