"""Best overall response of a patient."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mettrail.response.criteria.confirmation import confirming_session
from mettrail.response.criteria.tolerance import TOLERANCE
from mettrail.response.criteria.words import Response


def best_response(
    days: Sequence[float],
    responses: Sequence[Response],
    *,
    confirm_days: float,
    sd_min_days: float,
    confirm: bool = True,
) -> tuple[Response, float, bool | None]:
    """Find the best response up to the first PD (RECIST 1.1), confirmed after 4 weeks (RANO-BM).

    CR or PR that did not last counts as SD, and SD must be seen at least `sd_min_days` after the start, else the later
    PD counts, else nothing can be said (RECIST 1.1). ND, no disease, is no response to treatment: it counts only where
    nothing else was seen (ours).

    Parameters
    ----------
    days : sequence of float
        From t0. If any evaluable session lacks its day, nothing can be confirmed and responses count as they are.
    responses : sequence of str
        Overall and final, after baseline, in order.
    confirm : bool
        False for randomised trials: responses count as they are.

    Returns
    -------
    response : str
    day : float
        When it was first seen; NaN for NE and if unknown.
    confirmed : bool or None
        None if neither CR nor PR.

    Examples
    --------
    >>> best_response([56, 77, 84], ["PR", "PR", "PR"], confirm_days=28, sd_min_days=42)
    ('PR', 56.0, True)
    >>> best_response([56, 77], ["PR", "PR"], confirm_days=28, sd_min_days=42)
    ('SD', 56.0, None)
    """
    end = responses.index("PD") + 1 if "PD" in responses else len(responses)
    days, responses = [float(day) for day in days[:end]], responses[:end]
    dated = not any(math.isnan(day) for day, r in zip(days, responses, strict=True) if r != "NE")

    def first(*kinds: Response, after: float = -math.inf) -> int | None:
        return next((t for t, r in enumerate(responses) if r in kinds and not days[t] < after), None)

    kinds: tuple[tuple[Response, tuple[Response, ...]], ...] = (("CR", ("CR",)), ("PR", ("CR", "PR")))
    for kind, by in kinds:
        for t, r in enumerate(responses):
            if dated and r in by and confirming_session(days, responses, t, by, confirm_days) is not None:
                return kind, days[t], True
        if not (confirm and dated) and (seen := first(kind)) is not None:
            return kind, days[seen], False
    stable = first("CR", "PR", "SD", "NON_CR_NON_PD", after=sd_min_days - TOLERANCE if dated else -math.inf)
    if stable is not None:
        return "NON_CR_NON_PD" if responses[stable] == "NON_CR_NON_PD" else "SD", days[stable], None
    if "PD" in responses:
        return "PD", days[-1], None
    if (none := first("ND")) is not None:
        return "ND", days[none], None
    return "NE", math.nan, None
