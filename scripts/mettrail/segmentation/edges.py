"""Edges of lesions: what is one is decided where a network is sure, how far it reaches where it is less so.

Readers include a blurred rim.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from mettrail.geometry import bounding_box, label_components, pick_touched, whole_lesion, with_neighbours
from mettrail.images import Image
from mettrail.segmentation.thresholds import recentre

# Edges are drawn at most so far beyond what a network is sure of.
EDGE_REACH_MM = 3.0


def draw_edges(fused: Image, *, level: float, least_mm3: float) -> Image:
    """Let each connected component reach out to where the probability of whole lesion falls to a lower level.

    This is a threshold with hysteresis: no component is added, and none join; where two meet, a gap of a voxel stays.
    One that is too small to start a lesion stays as it is: it must not become one by its edge.

    Parameters
    ----------
    fused : Image of (X, Y, Z, 5) float
        From `apply_rule` and `add_candidates`: components are what reaches 0.5.
    level : float
        From `thresholds.edge_level`, at most 0.5, which changes nothing.
    least_mm3 : float
        Least volume of a component whose edge is drawn: ``birth_mm3`` of ``instances`` in config/config.yaml.

    Returns
    -------
    Image of (X, Y, Z, 5) float32
        Odds near the components are shifted so that their edges lie at 0.5; at most `EDGE_REACH_MM` away from them.
    """
    whole = whole_lesion(fused.data)
    components, count = label_components(whole >= 0.5)
    if not count or level >= 0.5:
        return fused
    spacing = fused.spacing_mm
    box = bounding_box(components > 0, margin_vox=[math.ceil(EDGE_REACH_MM / mm) + 1 for mm in spacing])
    inside, whole = components[box], whole[box]
    distance, nearest = ndimage.distance_transform_edt(inside == 0, sampling=spacing, return_indices=True)
    owner = inside[tuple(nearest)]
    large = (np.bincount(components.ravel()) * math.prod(spacing) >= least_mm3)[owner]
    alone = ndimage.maximum_filter(owner, 3) == ndimage.minimum_filter(owner, 3)
    reached = large & ((inside > 0) | ((distance <= EDGE_REACH_MM) & (whole >= level) & alone))
    # What reaches out is part of a component, not something else beside it.
    reached = pick_touched(label_components(reached)[0], inside > 0)
    taken = reached | (large & with_neighbours(reached) & (whole < level))
    data = fused.data.astype(np.float32)
    data[box][taken] = recentre(data[box][taken], threshold=level)
    return fused.like(data)
