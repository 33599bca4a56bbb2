"""Response of a patient over time by RANO-BM: from the rows of the matching to the final tables.

The rules are in `criteria`, what happened to each lesion in `course`, what readers decided in `overrides`; here they
come together. The result supports research decisions: it is no clinical response call.

A result *as known at* a session uses nothing that came later; a *final* one uses everything: an uncertain new lesion
may turn out real, a lesion that was overlooked may come back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from mettrail import schema
from mettrail.cohort.overrides import read_overrides, require_at_baseline, require_known
from mettrail.response import criteria
from mettrail.response.course import carry_by_targets, make_course
from mettrail.response.judging import continue_responses, read_clinic, respond
from mettrail.response.rows import Story, make_lesion_rows, make_patient_row, make_session_rows
from mettrail.response.targets import find_measurable, find_targets, keep_targets, parts_of_targets, seen_at
from mettrail.schema.cells import number_of, value_of


def assess_patient(
    lesions: pd.DataFrame,
    sessions: pd.DataFrame,
    participant: Mapping,
    *,
    rano: Mapping,
    volume: Mapping,
    overrides: pd.DataFrame | None = None,
    overrides_source: str = "overrides",
    comparisons: pd.DataFrame | None = None,
    frozen: pd.DataFrame | None = None,
    config_hash: str | None = None,
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
    rano, volume : mapping
        Blocks of the settings.
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
    config_hash : str, optional

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
    who = participant["participant_id"]
    of = sorted(sessions.to_dict("records"), key=lambda s: float(value_of(s, "order", 0)))
    course = make_course(lesions, of, decided, comparisons=comparisons, rano=rano)
    require_known(
        decided, sessions=course.ids, tracks=course.tracks, first_seen=course.born.tolist(), source=overrides_source
    )
    treatment_day = number_of(participant, "treatment_start_day")
    baseline, baseline_flag = criteria.choose_baseline(
        course.days.tolist(),
        course.evaluable.tolist(),
        treatment_day=treatment_day,
        baseline_window_days=rano["baseline_window_days"],
    )
    measurable = find_measurable(course, decided, rano)
    if baseline is None:
        targets, lost = [], False
    else:
        require_at_baseline(
            decided, seen=seen_at(course, baseline), baseline=course.ids[baseline], max_targets=rano["max_targets"],
            source=overrides_source,
        )  # fmt: skip
        targets, lost = keep_targets(course, baseline, frozen, decided)
        if targets is None:
            targets = find_targets(course, baseline, measurable, decided, rano)
        targets += parts_of_targets(course, baseline, targets, decided)
        carry_by_targets(course, targets, baseline)
    clinic = read_clinic(of, participant, baseline, rano=rano)
    dated = not np.isnan(course.days[course.evaluable]).any()
    known_start = not math.isnan(treatment_day) and baseline_flag != "assumed"
    t0_source = "treatment" if known_start else None if baseline is None else "baseline"
    t0 = treatment_day if known_start else math.nan if baseline is None else course.days[baseline]

    how = {
        "baseline": baseline, "targets": targets, "overrides": decided, "clinic": clinic, "rano": rano, "volume":
        volume,
    }  # fmt: skip
    last = len(course.ids) - 1
    prospective: list[dict | None] = [None] * len(course.ids)
    final: list[dict | None] = [None] * len(course.ids)
    if baseline is not None and last > baseline:
        for t in range(baseline + 1, last + 1):
            points = respond(course, t, **how)
            prospective[t] = points[-1] | {"continued": continue_responses(points, rano)}
        final[baseline + 1 :] = respond(course, last, **how)
    story = Story(
        who=who, course=course, sessions=of, baseline=baseline, baseline_flag=baseline_flag, targets=targets, t0=t0,
        t0_source=t0_source, dated=dated, prospective=prospective, final=final, clinic=clinic, overrides=decided,
        measurable=measurable, rano=rano, volume=volume, target_lost=lost,
    )  # fmt: skip
    session_rows = make_session_rows(story)
    lesion_rows = make_lesion_rows(story)
    patient = make_patient_row(story, session_rows)
    patient["config_hash"] = config_hash
    return (
        schema.make_table(lesion_rows, "lesions"),
        schema.make_table(session_rows, "sessions"),
        schema.make_table([patient], "patients"),
    )
