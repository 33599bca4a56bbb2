"""Charts of sizes and responses over time, of a patient and of a cohort.

Charts written as ``.svg`` follow the reader's light or dark setting, and their marks say what they are; other viewers
show them light.
"""

from mettrail.report.charts.cohort import draw_cohort
from mettrail.report.charts.curves import draw_froc, draw_incidence, draw_inputs
from mettrail.report.charts.spread import draw_spread
from mettrail.report.charts.sums import response_lines
from mettrail.report.charts.trajectories import draw_trajectories
from mettrail.report.charts.treatments import assign_lanes

__all__ = [
    "assign_lanes",
    "draw_cohort",
    "draw_froc",
    "draw_incidence",
    "draw_inputs",
    "draw_spread",
    "draw_trajectories",
    "response_lines",
]
