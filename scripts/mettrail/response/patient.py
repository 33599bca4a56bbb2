"""What is settled of a patient before any response is judged, and what of it is known at a session."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mettrail.cohort.overrides import Overrides
from mettrail.response.clinic import Clinic
from mettrail.response.course import Course, Row
from mettrail.response.criteria import NewStatus, Role
from mettrail.response.roles import find_roles, follow_new_lesions
from mettrail.response.rules import Rules


@dataclass(frozen=True)
class Baseline:
    """The session that others are compared to, and its targets.

    Parameters
    ----------
    session : int
    flag : str
        The column ``baseline_flag``.
    targets : list of str
        All that the sum at baseline is of, those that are one with another included.
    target_lost : bool
        Whether a target of an earlier run is not there any more.
    """

    session: int
    flag: str | None
    targets: list[str]
    target_lost: bool


@dataclass(frozen=True)
class Patient:
    """What is settled before any response is judged.

    Parameters
    ----------
    name : str
    sessions : list of mapping
        In order of time.
    course : Course
    measurable : list of dict
        Per session: whether each lesion is measurable there.
    clinic : list of Clinic
        Per session.
    baseline : Baseline or None
        None if no session is evaluable.
    t0 : float
        The day from which days count; NaN if unknown.
    t0_source : str or None
        ``treatment`` or ``baseline``.
    """

    name: str
    sessions: list[Row]
    course: Course
    overrides: Overrides
    rules: Rules
    measurable: list[dict[str, bool]]
    clinic: list[Clinic]
    baseline: Baseline | None
    t0: float
    t0_source: str | None

    @property
    def is_dated(self) -> bool:
        """Whether the days of all evaluable sessions are known."""
        return not np.isnan(self.course.days[self.course.evaluable]).any()

    def days_from_t0(self, t: int) -> float:
        """Days of a session from t0."""
        return float(self.course.days[t] - self.t0)

    def is_excluded(self, k: int) -> bool:
        """Whether a reader has excluded a lesion."""
        return self.course.tracks[k] in self.overrides.excluded


@dataclass(frozen=True)
class Known:
    """A patient as known at session `upto`: a result of it uses nothing that came later."""

    patient: Patient
    baseline: Baseline
    upto: int

    @cached_property
    def course(self) -> Course:
        """The course as known then."""
        return self.patient.course.known(self.upto)

    @cached_property
    def roles(self) -> list[Role]:
        """Role of each lesion."""
        base = self.baseline
        return find_roles(self.course, base.session, base.targets, self.patient.overrides, upto=self.upto)

    @cached_property
    def new(self) -> dict[int, list[NewStatus | None]]:
        """Status of each new lesion at each session."""
        rules = self.patient.rules
        return follow_new_lesions(
            self.course,
            self.roles,
            self.patient.overrides,
            baseline=self.baseline.session,
            upto=self.upto,
            recurrence_is_new=rules.recurrence_is_new,
            confirm_sessions=rules.new_confirm_sessions,
        )

    @cached_property
    def targets(self) -> list[int]:
        """Positions of the targets, in the order in which they were chosen."""
        of = [k for k, role in enumerate(self.roles) if role == "target"]
        return sorted(of, key=lambda k: self.baseline.targets.index(self.course.tracks[k]))

    @cached_property
    def nontargets(self) -> list[int]:
        """Positions of the non-target lesions."""
        return [k for k, role in enumerate(self.roles) if role == "nontarget"]
