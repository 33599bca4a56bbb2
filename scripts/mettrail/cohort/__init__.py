"""From a BIDS folder to the cohort table: which scan is whose, dates, tables of people, one row per session."""

from mettrail.cohort.earlier import Settled, find_overrides, find_registries
from mettrail.cohort.index import check_dataset, index_cohort, load_cohort, read_cohort
from mettrail.cohort.order import order_sessions
from mettrail.cohort.people import read_participants
from mettrail.cohort.table import (
    CLINICAL,
    Cohort,
    columns,
    describe_found,
    describe_problems,
    describe_sessions,
    empty,
    list_not_used,
    list_problems,
    mark_failed,
    name_priors,
    read_problems,
    write_problems,
)
from mettrail.cohort.treatments import operated_before

__all__ = [
    "CLINICAL",
    "Cohort",
    "Settled",
    "check_dataset",
    "columns",
    "describe_found",
    "describe_problems",
    "describe_sessions",
    "empty",
    "find_overrides",
    "find_registries",
    "index_cohort",
    "list_not_used",
    "list_problems",
    "load_cohort",
    "mark_failed",
    "name_priors",
    "operated_before",
    "order_sessions",
    "read_cohort",
    "read_participants",
    "read_problems",
    "write_problems",
]
