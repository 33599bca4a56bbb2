"""Pictures of scans: lesions, brain masks and registration on slices.

They are in radiological convention (the patient's right is on the left of the picture) and say so.
"""

from mettrail.report.scans.checks import draw_brain_mask, draw_registration
from mettrail.report.scans.lesions import draw_session, drawing_order, slice_of
from mettrail.report.scans.view import View, mask_on

__all__ = ["View", "draw_brain_mask", "draw_registration", "draw_session", "drawing_order", "mask_on", "slice_of"]
