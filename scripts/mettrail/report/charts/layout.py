"""Where things lie on a chart: sessions on the axis of time, words that must not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mettrail.report.text import Record
from mettrail.schema.cells import number_of


@dataclass(frozen=True)
class TimeAxis:
    """Where each session of a patient lies.

    Attributes
    ----------
    places : dict of str to float
        Day of each session from t0; where one has none, the number of the session for all.
    dated : bool
        The places are days.
    """

    places: dict[str, float]
    dated: bool

    @classmethod
    def of(cls, sessions: Sequence[Record]) -> TimeAxis:
        """Place the sessions of a patient, in order."""
        names = [str(session["session_id"]) for session in sessions]
        days = [number_of(session, "days_from_t0") for session in sessions]
        if not np.isfinite(days).all():
            return cls({name: float(i) for i, name in enumerate(names)}, dated=False)
        return cls(dict(zip(names, days, strict=True)), dated=True)


def spread(heights: Sequence[float], *, gap: float) -> list[float]:
    """Move sorted heights (0 to 1) apart by at least `gap`, by as little as is simple.

    Examples
    --------
    >>> [round(h, 2) for h in spread([0.0, 0.01, 0.5], gap=0.1)]
    [0.0, 0.1, 0.5]
    """
    out: list[float] = []
    for height in heights:
        out.append(max(height, out[-1] + gap) if out else height)
    limit = max(1.02, heights[-1] if heights else 0)
    for n in reversed(range(len(out))):
        out[n] = min(out[n], limit)
        limit = out[n] - gap
    return out
