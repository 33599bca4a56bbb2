"""Synthetic longitudinal cohorts with known answers: heads, lesions, their trajectories, and the truth.

Seeds below 1 000 000 are for demonstrations and tests, all others for training: `training_pair` refuses the former.
"""

from mettrail.phantom.cohort import Session, complete_patient, make_cohort, random_cohort_spec, simulate_patient
from mettrail.phantom.scan import BRIGHTNESS, reorient
from mettrail.phantom.training import FIRST_TRAINING_SEED, training_pair

__all__ = [
    "BRIGHTNESS",
    "FIRST_TRAINING_SEED",
    "Session",
    "complete_patient",
    "make_cohort",
    "random_cohort_spec",
    "reorient",
    "simulate_patient",
    "training_pair",
]
