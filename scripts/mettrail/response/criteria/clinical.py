"""Steroids and clinical status, compared to baseline."""

from __future__ import annotations

import math

from mettrail.response.criteria.tolerance import TOLERANCE, at_most
from mettrail.response.criteria.words import Clinical, Steroids


def steroid_status(
    dose_mg: float, baseline_dose_mg: float, *, physiologic_dex_mg: float, increase_ratio: float
) -> Steroids:
    """Compare the dexamethasone-equivalent dose per day to baseline (RANO-BM).

    Parameters
    ----------
    physiologic_dex_mg : float
        At or below this dose there are none.
    increase_ratio : float
        Times the baseline dose that counts as an increase; a decrease likewise.
    """
    if math.isnan(dose_mg):
        return "unknown"
    if at_most(dose_mg, physiologic_dex_mg):
        return "none"
    if math.isnan(baseline_dose_mg):
        return "unknown"
    if dose_mg > baseline_dose_mg * increase_ratio + TOLERANCE:
        return "increased"
    return "decreased" if dose_mg < baseline_dose_mg / increase_ratio - TOLERANCE else "stable"


def performance_status(kps: float, baseline_kps: float, ecog: float, baseline_ecog: float) -> Clinical:
    """Read the clinical status off performance scores, compared to baseline; NaN where not recorded.

    Worse, as RANO-BM has it for neurological decline: Karnofsky from 90 or more to 70 or less, by 20 or more from 80 or
    less, or to 50 or less; ECOG from 0 or 1 to 2 or more, or from 2 to 3 or more. Improved (ours): the same steps
    upward.

    Returns
    -------
    str
        ``worse`` if either score says so, ``improved``, ``stable``, or ``unknown`` without a score at both sessions.
    """

    def fell(now: float, before: float) -> bool:
        return now < before and (now <= 50 or (now <= 70 if before >= 90 else before - now >= 20))

    def weakened(now: float, before: float) -> bool:
        return now > before and now >= 2 and (before <= 1 or now >= 3)

    known = not math.isnan(kps - baseline_kps), not math.isnan(ecog - baseline_ecog)
    if not any(known):
        return "unknown"
    if (known[0] and fell(kps, baseline_kps)) or (known[1] and weakened(ecog, baseline_ecog)):
        return "worse"
    if (known[0] and fell(baseline_kps, kps)) or (known[1] and weakened(baseline_ecog, ecog)):
        return "improved"
    return "stable"
