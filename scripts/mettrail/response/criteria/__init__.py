"""The criteria of RANO-BM, as pure functions of plain values: no tables, no files.

They are those of Lin et al., Lancet Oncol 2015; where they leave a case open, RECIST 1.1 (Eisenhauer et al., Eur J
Cancer 2009) and its published answers to questions decide, and the docstring says so. "Ours" marks what no publication
settles. Published numbers are constants here; all others are settings (`mettrail.response.rules`).

Sizes are compared unrounded (`tolerance`). ``NaN`` is not evaluable, ``0`` is absent.
"""

from mettrail.cohort.overrides import NewStatus
from mettrail.response.criteria.baseline import choose_baseline, choose_targets
from mettrail.response.criteria.best_response import best_response
from mettrail.response.criteria.clinical import performance_status, steroid_status
from mettrail.response.criteria.combined import follow_overall, imaging_response, overall_response
from mettrail.response.criteria.confirmation import (
    confirm_responses,
    continue_response,
    has_confirmed_cr,
    revise_unconfirmed_cr,
)
from mettrail.response.criteria.measurability import is_measurable
from mettrail.response.criteria.new_lesions import follow_new_lesion, is_definite
from mettrail.response.criteria.nontargets import (
    burden_has_grown,
    edema_has_grown,
    nontarget_has_grown,
    nontarget_response,
)
from mettrail.response.criteria.pseudoprogression import (
    IRANO_CONFIRM_DAYS,
    IRANO_DAYS,
    SessionFacts,
    follow_unconfirmed,
)
from mettrail.response.criteria.sums import (
    TOO_SMALL_MM,
    diameter_in_sum,
    find_nadir,
    find_smallest,
    join_groups,
    largest_increase,
    target_response,
)
from mettrail.response.criteria.tolerance import at_least, at_most
from mettrail.response.criteria.velocity import lesion_count_group, metastasis_velocity, velocity_group
from mettrail.response.criteria.words import (
    NA,
    Clinical,
    NewLesions,
    Response,
    Role,
    Source,
    State,
    Steroids,
)

__all__ = [
    "IRANO_CONFIRM_DAYS",
    "IRANO_DAYS",
    "NA",
    "TOO_SMALL_MM",
    "Clinical",
    "NewLesions",
    "NewStatus",
    "Response",
    "Role",
    "SessionFacts",
    "Source",
    "State",
    "Steroids",
    "at_least",
    "at_most",
    "best_response",
    "burden_has_grown",
    "choose_baseline",
    "choose_targets",
    "confirm_responses",
    "continue_response",
    "diameter_in_sum",
    "edema_has_grown",
    "find_nadir",
    "find_smallest",
    "follow_new_lesion",
    "follow_overall",
    "follow_unconfirmed",
    "has_confirmed_cr",
    "imaging_response",
    "is_definite",
    "is_measurable",
    "join_groups",
    "largest_increase",
    "lesion_count_group",
    "metastasis_velocity",
    "nontarget_has_grown",
    "nontarget_response",
    "overall_response",
    "performance_status",
    "revise_unconfirmed_cr",
    "steroid_status",
    "target_response",
    "velocity_group",
]
