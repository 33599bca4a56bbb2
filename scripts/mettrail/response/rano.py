"""Response of a patient over time by RANO-BM: from the rows of the matching to the final tables.

The rules are in `criteria`, what happened to each lesion in `course`, what readers decided in `overrides`; here they
come together. The result supports research decisions: it is no clinical response call.

A result *as known at* a session uses nothing that came later; a *final* one uses everything: an uncertain new lesion
may turn out real, a lesion that was missed may reappear.
"""

from __future__ import annotations

import math

import pandas as pd

from mettrail import schema
from mettrail.cohort.overrides import read_overrides, require_at_baseline, require_known
from mettrail.response import criteria
from mettrail.response.clinic import read_clinic
from mettrail.response.course import Row, carry_by_targets, make_course
from mettrail.response.judging import judge_patient
from mettrail.response.patient import Baseline, Patient
from mettrail.response.rows import make_lesion_rows, make_patient_row, make_session_rows
from mettrail.response.rules import Rules
from mettrail.response.targets import find_measurable, seen_at, settle_targets
from mettrail.schema.cells import number_of, value_of


def assess_patient(
    lesions: pd.DataFrame,
    sessions: pd.DataFrame,
    participant: Row,
    *,
    rules: Rules,
    overrides: pd.DataFrame | None = None,
    overrides_source: str = "overrides",
    comparisons: pd.DataFrame | None = None,
    frozen: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Assess the response of one patient over all sessions.

    Parameters
    ----------
    lesions : DataFrame
        Rows of the matching, one per session and lesion known by then, absent ones too: `course.NEEDED` and, shown as
        they are, `COPIED_IF_PRESENT`. May be empty.
    sessions : DataFrame
        One row per session of the patient, evaluable or not: ``session_id``, ``order``, ``days`` (from the first
        session; NaN if unknown), ``evaluable``, ``ne_reason`` …
    participant : mapping
        ``participant_id`` and what participants.tsv says: ``treatment_start_day`` and ``immunotherapy_start_day`` on
        the time axis of the sessions, ``treatment_type``.
    rules : Rules
    overrides : DataFrame, optional
        A reader's decisions: see `read_overrides`. Days are on the time axis of the sessions.
    overrides_source : str
        Name of their file, for messages.
    comparisons : DataFrame, optional
        Sizes of lesions that touch at one of two sessions and not at the other, from the matching: see
        `course.make_course`. Where there is none, sizes are compared as they are.
    frozen : DataFrame, optional
        Table ``lesions`` of an earlier run: with the same baseline, its targets are kept and not chosen again, but for
        what a reader decides.

    Returns
    -------
    lesions, sessions, patients : DataFrame
        The final tables of this patient, as `mettrail.schema` lists them.

    Raises
    ------
    InputError
        Columns lacking, rows of a session that the patient does not have, a merge into an unknown lesion, a reader's
        decision about a lesion or a session that is not there.
    """
    decided = read_overrides(overrides, source=overrides_source)
    in_order = sorted(sessions.to_dict("records"), key=lambda s: float(value_of(s, "order", 0)))
    course = make_course(lesions, in_order, decided, comparisons=comparisons, rules=rules)
    require_known(
        decided, sessions=course.ids, tracks=course.tracks, first_seen=course.first.tolist(), source=overrides_source
    )
    measurable = find_measurable(course, decided, rules)
    treatment_day = number_of(participant, "treatment_start_day")
    session, flag = criteria.choose_baseline(
        course.days.tolist(),
        course.evaluable.tolist(),
        treatment_day=treatment_day,
        baseline_window_days=rules.baseline_window_days,
    )
    baseline, t0, t0_source = None, math.nan, None
    if session is not None:
        seen, name = seen_at(course, session), course.ids[session]
        require_at_baseline(decided, seen=seen, baseline=name, max_targets=rules.max_targets, source=overrides_source)
        targets, lost = settle_targets(course, session, measurable, decided, rules, frozen)
        carry_by_targets(course, targets, session)
        baseline = Baseline(session, flag, targets, lost)
        t0, t0_source = float(course.days[session]), "baseline"
    if not math.isnan(treatment_day) and flag != "assumed":
        t0, t0_source = treatment_day, "treatment"
    patient = Patient(
        name=participant["participant_id"],
        sessions=[*in_order],
        course=course,
        overrides=decided,
        rules=rules,
        measurable=measurable,
        clinic=read_clinic(in_order, participant, session, rules),
        baseline=baseline,
        t0=t0,
        t0_source=t0_source,
    )
    return _make_tables(patient)


def _make_tables(patient: Patient) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    responses = judge_patient(patient)
    lesion_rows, session_rows = make_lesion_rows(patient, responses), make_session_rows(patient, responses)
    patient_row = make_patient_row(patient, responses, session_rows)
    return (
        schema.make_table(lesion_rows, "lesions"),
        schema.make_table(session_rows, "sessions"),
        schema.make_table([patient_row], "patients"),
    )
