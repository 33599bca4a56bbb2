"""How fast new metastases appear, and how many there were at baseline."""

from __future__ import annotations

from collections.abc import Sequence

from mettrail.response.criteria.tolerance import at_least, at_most

DAYS_PER_YEAR = 365.25


def metastasis_velocity(days: Sequence[float]) -> list[float]:
    """Rate of new brain metastases at each distant failure (Farris et al. 2017, doi 10.1016/j.ijrobp.2017.01.201).

    Parameters
    ----------
    days : sequence of float
        First appearance of each confirmed new lesion, from the first treatment.

    Returns
    -------
    list of float
        New lesions so far per year since the first treatment, at each day on which some appeared, in order.

    Examples
    --------
    >>> [round(v, 1) for v in metastasis_velocity([90, 90, 90, 90, 180])]
    [16.2, 10.1]
    """
    return [sum(d <= day for d in days) / (day / DAYS_PER_YEAR) for day in sorted({d for d in days if d > 0})]


def velocity_group(per_year: float) -> str:
    """Name the risk group of a velocity (Farris et al. 2017: below 4, 4 to 13, above 13 per year)."""
    return "low" if not at_least(per_year, 4) else "intermediate" if at_most(per_year, 13) else "high"


def lesion_count_group(n_lesions: int) -> str | None:
    """Name the group of a number of lesions at baseline; None for none."""
    if n_lesions < 1:
        return None
    return "1-3" if n_lesions <= 3 else "4-10" if n_lesions <= 10 else ">10"
