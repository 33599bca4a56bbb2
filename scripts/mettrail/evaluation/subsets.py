"""Which scans count together: first visits, follow-ups, few and many lesions."""

from __future__ import annotations

import math

import pandas as pd

from mettrail import schema
from mettrail.evaluation import metrics

SUBSETS = tuple(schema.levels("evaluation_summary", "subset"))


def in_subset(table: pd.DataFrame, subset: str) -> pd.DataFrame:
    """Return the rows of first visits, follow-ups, follow-ups without a new lesion, or all."""
    first = table["first_session"].astype(bool)
    chosen = {
        "all": first | True,
        "first": first,
        "follow-up": ~first,
        "known_only": table["known_only"].fillna(False).astype(bool),
    }
    return table[chosen[subset]]


def group_of_number(n_lesions: pd.Series) -> pd.Series:
    """Return the group of scans with so many lesions (`metrics.LESION_GROUPS`); missing without any."""
    return pd.cut(n_lesions.astype(float), [0, 3, 10, math.inf], labels=list(metrics.LESION_GROUPS)).astype(object)
