"""Synthetic longitudinal cohorts with known answers: heads, lesions, their trajectories, and the truth.

Seeds below 1 000 000 are for demonstrations and tests, all others for training: `training_pair` refuses the former.
"""

from mettrail.phantom.cohort import Session, make_cohort, random_cohort_spec, simulate_patient
from mettrail.phantom.training import FIRST_TRAINING_SEED, training_pair

__all__ = ["FIRST_TRAINING_SEED", "Session", "make_cohort", "random_cohort_spec", "simulate_patient", "training_pair"]
