"""Cohorts of a few files, indexed."""

from conftest import CE
from mettrail import cohort


def load(bids, out, **changes):
    settings = {
        "reference": CE,
        "sequences": ["T1w", "T2w", "FLAIR"],
        "labels_folder": "",
        "labels_sessions": [],
        "labels_scheme": "mettrail",
        "participants": [],
        "sessions": [],
        "exclude": [],
        "edits": "",
    }
    return cohort.load_cohort(bids, out, **(settings | changes))


def index(bids, out, **changes):
    return load(bids, out, **changes).sessions.set_index(["sub", "ses"])


def dated(**days):
    return {ses[1:]: {"acq_time": f"2021-{day}T10:00:00"} for ses, day in days.items()}
