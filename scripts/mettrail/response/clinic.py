"""Steroids, clinical status and immunotherapy of a patient's sessions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mettrail.response import criteria
from mettrail.response.course import Row
from mettrail.response.criteria import Clinical, Steroids
from mettrail.response.rules import Rules
from mettrail.schema.cells import number_of, value_of


@dataclass(frozen=True)
class Clinic:
    """What is known of the patient at a session; days of immunotherapy are NaN where its start is unknown."""

    steroids: Steroids
    clinical: Clinical
    immunotherapy: bool
    days_of_immunotherapy: float


def read_clinic(sessions: Sequence[Row], participant: Row, baseline: int | None, rules: Rules) -> list[Clinic]:
    """Read steroids, clinical status and immunotherapy of each session; the first is compared to without a baseline."""
    base = sessions[baseline or 0] if sessions else {}
    base_dose = number_of(base, "dexamethasone_equiv_mg_per_day")
    under = "immunotherapy" in str(value_of(participant, "treatment_type", "")).split(";")
    start = number_of(participant, "immunotherapy_start_day")
    if math.isnan(start) and under:
        start = number_of(participant, "treatment_start_day")
    found = []
    for session in sessions:
        dose = number_of(session, "dexamethasone_equiv_mg_per_day")
        since = number_of(session, "days") - start
        found.append(
            Clinic(
                steroids=value_of(session, "steroid_status")
                or criteria.steroid_status(
                    dose,
                    base_dose,
                    physiologic_dex_mg=rules.physiologic_dex_mg,
                    increase_ratio=rules.steroid_increase_ratio,
                ),
                clinical=_clinical_status(session, base),
                immunotherapy=under if math.isnan(since) else since > 0,  # a scan of the first day is before it
                days_of_immunotherapy=since,
            )
        )
    return found


def _clinical_status(session: Row, base: Row) -> Clinical:
    status: Clinical | None = value_of(session, "clinical_status")
    if status is None:
        kps, ecog = ([number_of(row, name) for row in (session, base)] for name in ("kps", "ecog"))
        status = criteria.performance_status(*kps, *ecog)
    if status == "worse" and value_of(session, "clinical_tumour_related") == "false":
        return "stable"
    return status
