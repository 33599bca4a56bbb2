"""Synthetic longitudinal cohorts with known answers: heads, lesions, their trajectories, and the truth.

Seeds below 1 000 000 are for demonstrations and tests, seeds from there on for training; `training_pair` refuses others.
"""

from mettrail.phantom.cohort import Session, make_cohort, simulate_patient
from mettrail.phantom.training import FIRST_TRAINING_SEED, training_pair

__all__ = ["FIRST_TRAINING_SEED", "Session", "make_cohort", "simulate_patient", "training_pair"]
