"""Pictures of scans: lesions, brain masks and registration on slices, each lesion over time.

They are in radiological convention (the patient's right is on the left of the picture) and say so.
"""

from mettrail.report.scans.checks import draw_brain_mask, draw_registration
from mettrail.report.scans.lesions import draw_session, drawing_order, slice_of
from mettrail.report.scans.strips import (
    FRAME_PIXELS,
    Visit,
    draw_strips,
    find_places,
    find_shown,
    read_frames,
    strip_path,
)
from mettrail.report.scans.view import View, mask_on
from mettrail.report.scans.volumes import WHITE, Mark, Volumes, sample_visits

__all__ = [
    "FRAME_PIXELS", "WHITE", "Mark", "View", "Visit", "Volumes", "draw_brain_mask", "draw_registration",
    "draw_session", "draw_strips", "drawing_order", "find_places", "find_shown", "mask_on", "read_frames",
    "sample_visits", "slice_of", "strip_path",
]  # fmt: skip
