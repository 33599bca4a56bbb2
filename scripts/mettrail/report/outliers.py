"""Which sessions stand out of a cohort: not evaluable, with a remark that few have, or measured far from the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from mettrail.report.text import Record, plain_words, show
from mettrail.schema.cells import flags_of, number_of, truth_of

RULE = (
    "Outliers come first: sessions that are not evaluable, then those with a remark that at most half of all sessions "
    "have, then those whose brain volume or residual shift is far from the cohort's median (more than 3.5 times 1.4826 "
    "× the median absolute deviation), the farthest first. All others follow in the order of patients."
)
# In robust standard deviations: Iglewicz and Hoaglin's limit.
_FAR = 3.5
_MEASURES = {"brain_volume_ml": "brain volume", "residual_shift_mm": "residual shift"}


def rank_sessions(sessions: Sequence[Record]) -> list[tuple[Record, str]]:
    """Order sessions by how they stand out (`RULE`), and say by what; those that do not have no words.

    Parameters
    ----------
    sessions : sequence of mapping
        Rows of the session table, of all patients.
    """
    counts = Counter(flag for session in sessions for flag in flags_of(session))
    rare = {flag for flag, count in counts.items() if 2 * count <= len(sessions)}
    distances = np.zeros(len(sessions))
    far: list[list[str]] = [[] for _ in sessions]
    for name, measure in _MEASURES.items():
        for n, distance in enumerate(_distances([number_of(session, name) for session in sessions])):
            if distance > _FAR:
                far[n].append(f"{measure} {show('sessions', name, sessions[n])}")
                distances[n] = max(distances[n], distance)
    ranked = []
    for n, session in enumerate(sessions):
        failed, flags = truth_of(session, "evaluable") is False, [f for f in flags_of(session) if f in rare]
        words = ["not evaluable"] * failed + [plain_words(flag) for flag in flags] + far[n]
        place = 0 if failed else 1 if flags else 2 if far[n] else 3
        ranked.append((place, -distances[n], n, session, ", ".join(words)))
    return [(session, words) for *_, session, words in sorted(ranked, key=lambda each: each[:3])]


def _distances(values: Sequence[float]) -> np.ndarray:
    """Return distances from the median, in robust standard deviations; 0 where nothing is known."""
    known = np.array(values, float)
    if not np.isfinite(known).any():
        return np.zeros(len(known))
    away = np.abs(known - np.nanmedian(known))
    spread = 1.4826 * np.nanmedian(away)
    return np.nan_to_num(away / spread) if spread > 0 else np.zeros(len(known))
