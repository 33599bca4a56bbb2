"""The rows of the final tables of lesions, sessions and patient, from what was found out about a patient."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from mettrail import schema
from mettrail.reasons import Reason
from mettrail.response import criteria
from mettrail.response.course import Course, Row
from mettrail.response.criteria import NA, NewStatus, Response, at_least
from mettrail.response.grown import find_grown, may_be_effect
from mettrail.response.judging import Continued, Responses, Verdict, are_touching
from mettrail.response.patient import Baseline, Known, Patient
from mettrail.response.roles import find_candidates
from mettrail.response.rules import Rules, Size
from mettrail.schema.cells import flags_of, join_words, number_of, value_of

_LESION = {c.name: c for c in schema.LESIONS}
ZERO_IF_ABSENT = tuple(name for name, c in _LESION.items() if c.absent is not None)
COPIED_IF_PRESENT = tuple(name for name, c in _LESION.items() if c.stage)


# How sizes are called in the names of columns.
_IN_COLUMNS: tuple[tuple[str, Size], ...] = (("ld", "ld"), ("vol", "volume"))


def _percent(value: float, reference: float) -> float | None:
    if math.isnan(value) or math.isnan(reference) or reference == 0:
        return None
    return 100 * (value - reference) / reference


def _n_targets(patient: Patient, baseline: Baseline) -> int:
    """Lesions in the sum at baseline; those that are one with another there count with it."""
    at = patient.course.positions(baseline.targets)
    return int((patient.course.state[baseline.session, at] != "merged").sum())


# --- Lesions -------------------------------------------------------------------------------------------------------


def make_lesion_rows(patient: Patient, responses: Responses) -> list[dict[str, Any]]:
    """Make one row per session and lesion, from its first session on."""
    course, baseline = patient.course, patient.baseline
    at_end = course.known(course.last)
    statuses = {} if baseline is None else Known(patient, baseline, course.last).new
    rows = []
    for t in range(len(course.ids)):
        known = None if baseline is None else Known(patient, baseline, max(t, baseline.session))
        grown = [] if known is None else find_grown(known, t)
        verdict = responses.prospective.get(t)
        review = verdict.reading.review if verdict else frozenset()
        edema_known = not math.isnan(_total_ml(patient, t, "ed", candidates=()))
        for k in range(len(course.tracks)):
            if course.first[k] > t:
                continue
            row = _lesion_row(patient, at_end, t, k)
            row["new_lesion_status"] = statuses[k][t] if k in statuses else None
            if row["status"] == "absent" and not edema_known:
                row["vol_ed_mm3"] = None
            if known is not None:
                row["role"] = known.roles[k]
                row |= _lesion_changes(known, t, k)
            flags = _lesion_flags(patient, at_end, t, k) + ["nontarget_review"] * (k in review)
            flags += ["treatment_effect_possible"] * (k in grown and may_be_effect(patient, t, k))
            row["flags"] = join_words(flags)
            rows.append(row)
    return rows


def _given(course: Course, t: int, k: int) -> Row:
    """Return what the matching says of a lesion at a session."""
    return course.rows[t].get(course.tracks[k], {"status": "not_evaluable"})


def _lesion_row(patient: Patient, at_end: Course, t: int, k: int) -> dict[str, Any]:
    """Cells of a lesion row that no response decides; `at_end` is the course with all that is known."""
    course, track = patient.course, patient.course.tracks[k]
    row = _lesion_cells(_given(course, t, k))
    return row | {
        "participant_id": patient.name,
        "session_id": course.ids[t],
        "track_id": track,
        "days_from_t0": patient.days_from_t0(t),
        "is_baseline": patient.baseline is not None and t == patient.baseline.session,
        "measurable": patient.measurable[t].get(track),
        "ld_rano_mm": at_end.ld[t, k],
        "ld_source": at_end.source[t, k],
        "vol_rano_ml": at_end.volume[t, k],
        "vol_source": at_end.volume_source[t, k],
        "vol_wl_ml": None if row["vol_wl_mm3"] is None else row["vol_wl_mm3"] / 1000,
        "prior_local_therapy": _is_treated(patient, t, track),
    }


def _lesion_cells(given: Row) -> dict[str, Any]:
    """Cells of a lesion row that come straight from the matching."""
    status = given["status"]
    row: dict[str, Any] = dict.fromkeys(schema.columns("lesions"))
    row["status"], row["event"] = status, value_of(given, "event", "not_evaluable")
    if status == "present":
        row |= {name: value_of(given, name, row[name]) for name in COPIED_IF_PRESENT}
    elif status == "absent":
        row |= dict.fromkeys(ZERO_IF_ABSENT, 0) | {"n_components": 0, "match_method": "none"}
    elif status == "merged":
        row |= {name: value_of(given, name) for name in ("merged_into", "match_method", "match_score")}
    else:
        row["event"] = "not_evaluable"
    return row


def _is_treated(patient: Patient, t: int, track: str) -> bool | None:
    """Whether a lesion had local therapy before a session; None if it never has."""
    decided = patient.overrides
    days = [d[track] for d in (decided.irradiated_day, decided.resected_day) if track in d]
    return None if not days else bool(min(days) < patient.course.days[t])


def _lesion_flags(patient: Patient, at_end: Course, t: int, k: int) -> list[str]:
    """Remarks on a lesion that no response decides."""
    course = patient.course
    given = _given(course, t, k)
    missed_before = any((seen_again, lesion) == (t, k) for _, lesion, seen_again in course.missed)
    remnant = given["status"] == "present" and not bool(value_of(given, "enhancing", True))
    flags = flags_of(given) + ["probable_missed_detection"] * (
        at_end.source[t, k] == "probable_missed_detection" or missed_before
    )
    flags += ["nonenhancing_remnant"] * remnant + ["merged_across_roles"] * ((t, k) in course.crossed)
    return flags + ["dural"] * (course.tracks[k] in patient.overrides.dural)


def _lesion_changes(known: Known, t: int, k: int) -> dict[str, Any]:
    """Change of one lesion from baseline and from its smallest, and its response alone."""
    course, baseline, role = known.course, known.baseline.session, known.roles[k]
    if t < baseline or role in ("excluded", "prebaseline", "candidate"):
        return {}
    later = role in ("new", "recurrent")
    present = [u for u in range(baseline, t + 1) if course.state[u, k] == "present"]
    start = (present[0] if present else t) if later else baseline
    cells: dict[str, Any] = {}
    if not later:
        for name, size in _IN_COLUMNS:
            first, smallest = _lesion_references(course, t, k, size, start)
            cells[f"{name}_change_baseline_pct"] = _percent(*first)
            cells[f"{name}_change_nadir_pct"] = _percent(*smallest)
    if t > start:
        cells["lesion_response"] = _lesion_response(course, t, k, start, known.patient.rules)
    return cells


def _lesion_references(
    course: Course, t: int, k: int, size: Size, start: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Size of one lesion now and then, like with like: against its first session, against its smallest before."""

    def against(u: int) -> tuple[float, float]:
        c = course.compare(t, u, size)
        if c.again[k] or all(_is_alone(course, s, k) for s in (t, u)):
            return float(c.now[k]), float(c.then[k])
        return math.nan, math.nan

    smallest = criteria.find_smallest([against(u) for u in range(start, t)])
    return against(start), smallest or (math.nan, math.nan)


def _is_alone(course: Course, t: int, k: int) -> bool:
    """Whether the size of a lesion is its own: seen or absent, and not one with another."""
    return course.state[t, k] in ("present", "absent") and bool((course.owner[t] == course.owner[t, k]).sum() == 1)


def _lesion_response(course: Course, t: int, k: int, start: int, rules: Rules) -> Response:
    """Response of one lesion alone, from its first size (`start`) on."""

    def respond(u: int, before: Sequence[Response]) -> Response:
        (now, first), (again, smallest) = _lesion_references(course, u, k, "ld", start)
        days = course.days[start + 1 : u].tolist()
        return criteria.target_response(
            [now],
            baseline_sum=first,
            nadir_sum=smallest,
            increase=again - smallest,
            now_at_nadir=[again],
            absent=[course.state[u, k] == "absent"],
            limits=rules.one_lesion,
            after_cr=criteria.has_confirmed_cr(days, before, confirm_days=rules.confirm_days),
        )

    # What came before matters where the lesion has been absent.
    responses: list[Response] = []
    if "absent" in course.state[start:t, k]:
        for u in range(start + 1, t):
            responses.append(respond(u, responses))
    return respond(t, responses)


# --- Sessions ------------------------------------------------------------------------------------------------------


def make_session_rows(patient: Patient, responses: Responses) -> list[dict[str, Any]]:
    """Make one row per session."""
    course, baseline = patient.course, patient.baseline
    final_overall = [responses.final[t].overall if t in responses.final else None for t in range(len(course.ids))]
    confirmed = criteria.confirm_responses(course.days.tolist(), final_overall, confirm_days=patient.rules.confirm_days)
    rows = []
    for t, session in enumerate(patient.sessions):
        row = _session_row(patient, t)
        flags = flags_of(session) + ["no_dates"] * (not patient.is_dated)
        if row["evaluable"]:
            row |= _session_counts(patient, t)
            flags += _session_flags(patient, t)
        if baseline is None:
            row |= {name: "NE" for name in row if name.startswith("response_") or name == "target_response"}
        elif t == baseline.session:
            row |= _baseline_sums(patient, baseline)
            flags += ["no_targets"] * (not baseline.targets) + ["no_lesions_at_baseline"] * (not row["n_lesions"])
            flags += ["coalesced"] * are_touching(course, [t], course.positions(baseline.targets))
        elif t in responses.final:
            now, final = responses.prospective[t], responses.final[t]
            row |= _response_cells(now, final, responses.continued[t]) | {"confirmed": confirmed[t]}
            if row["evaluable"]:
                row |= _sum_cells(now, final)
                flags += _response_flags(now, any_target=bool(baseline.targets))
            flags += ["steroid_hold"] * final.held
        row["flags"] = join_words(flags)
        rows.append(row)
    return rows


def _session_row(patient: Patient, t: int) -> dict[str, Any]:
    """Cells of a session row that no response decides."""
    session, baseline, clinic = patient.sessions[t], patient.baseline, patient.clinic[t]
    evaluable = bool(patient.course.evaluable[t])
    role = None
    if baseline is not None:
        role = "baseline" if t == baseline.session else "prebaseline" if t < baseline.session else "followup"
    row: dict[str, Any] = dict.fromkeys(schema.columns("sessions"))
    return row | {
        "session_id": patient.course.ids[t],
        "participant_id": patient.name,
        "days_from_t0": patient.days_from_t0(t),
        "session_role": role,
        "evaluable": evaluable,
        "ne_reason": None if evaluable else value_of(session, "ne_reason", Reason.UNKNOWN.value),
        "registration_qc": value_of(session, "registration_qc"),
        "head_volume_ratio": value_of(session, "head_volume_ratio"),
        "residual_shift_mm": value_of(session, "residual_shift_mm"),
        **{name: value_of(session, name) for name in schema.BRAIN},
        "labels_auc": value_of(session, "labels_auc"),
        "baseline_flag": None if baseline is None else baseline.flag,
        "n_targets": None if baseline is None else _n_targets(patient, baseline),
        "steroid_status": clinic.steroids,
        "clinical_status": clinic.clinical,
        "clinical_assumed": "unknown" in (clinic.steroids, clinic.clinical),
    }


def _baseline_sums(patient: Patient, baseline: Baseline) -> dict[str, Any]:
    """Add up the targets at baseline; nothing without targets."""
    if not baseline.targets:
        return {}
    course, of = patient.course, patient.course.positions(baseline.targets)
    total, volume = (float(course.sizes(size)[baseline.session, of].sum()) for _, size in _IN_COLUMNS)
    return {
        **dict.fromkeys(("sum_ld_mm", "sum_ld_baseline_mm", "reference_sum_ld_mm", "sum_ld_final_mm"), total),
        **dict.fromkeys(("sum_vol_target_ml", "sum_vol_target_final_ml"), volume),
        "sum_ld_change_baseline_pct": _percent(total, total),
    }


def _sum_cells(now: Verdict, final: Verdict) -> dict[str, Any]:
    """Tell what the targets add up to at an evaluable session after baseline."""
    ld, volume = now.reading.ld.sums, now.reading.volume.sums
    return {
        "sum_ld_mm": ld.total,
        "sum_ld_baseline_mm": ld.baseline,
        "reference_sum_ld_mm": ld.reference,
        "nadir_sum_ld_mm": ld.nadir,
        "sum_ld_change_baseline_pct": _percent(ld.now, ld.reference),
        "sum_ld_change_nadir_pct": _percent(ld.now_at_nadir, ld.nadir),
        "max_lesion_increase_mm": ld.increase,
        "sum_vol_target_ml": volume.total,
        "sum_ld_final_mm": final.reading.ld.sums.total,
        "sum_vol_target_final_ml": final.reading.volume.sums.total,
        "new_lesion": now.reading.facts.new,
        "nontarget_source": now.reading.nontarget_source,
    }


def _response_flags(now: Verdict, *, any_target: bool) -> list[str]:
    """Remarks on the response of an evaluable session after baseline."""
    reading = now.reading
    progressed = "PD" in (reading.ld.target, reading.ld.nontarget)
    flags = ["sum_incomplete"] * (any_target and math.isnan(reading.ld.sums.total))
    flags += ["treatment_effect_possible"] * (reading.effect and progressed)
    flags += ["coalesced"] * (reading.ld.sums.coalesced or reading.volume.sums.coalesced)
    return flags + ["nontarget_review"] * bool(reading.review)


def _response_cells(now: Verdict, final: Verdict, continued: Continued) -> dict[str, Any]:
    """Responses of a session after baseline."""
    target, nontarget = now.reading.ld.target, now.reading.ld.nontarget
    return {
        "target_response": None if target == NA else target,
        "target_response_continued": continued.target,
        "nontarget_response": None if nontarget == NA else nontarget,
        "response_imaging_prospective": now.imaging,
        "response_imaging_final": final.imaging,
        "response_imaging_continued": continued.imaging,
        "response_overall_prospective": now.overall,
        "response_overall_final": final.overall,
        "response_overall_continued": continued.overall,
        "response_volumetric_prospective": now.volumetric,
        "response_volumetric_final": final.volumetric,
        "pd_reason": join_words(final.reasons),
    }


def _candidates(patient: Patient, upto: int) -> set[int]:
    return find_candidates(patient.course, patient.overrides, upto=upto)


def _session_counts(patient: Patient, t: int) -> dict[str, Any]:
    """Numbers and volumes over all lesions of an evaluable session."""
    course, session = patient.course, patient.sessions[t]
    start = 0 if patient.baseline is None else patient.baseline.session
    candidates, last = _candidates(patient, max(t, start)), _candidates(patient, course.last)
    counted = [k for k in range(len(course.tracks)) if not patient.is_excluded(k) and course.first[k] <= t]

    def n_with(status: str, of: Iterable[int]) -> int:
        return sum(_given(course, t, k)["status"] == status for k in of)

    sure = [k for k in counted if k not in candidates]
    counts: dict[str, Any] = {
        "n_lesions": n_with("present", sure),
        "n_candidates": n_with("present", (k for k in counted if k in candidates)),
        "n_absent": n_with("absent", sure),
        "n_subthreshold": value_of(session, "n_subthreshold"),
        "edema_unassigned_mm3": value_of(session, "edema_unassigned_mm3"),
        "cavity_ml": value_of(session, "cavity_ml"),
    }
    for tissue in ("wl", "et", "nc", "ed"):
        counts[f"total_vol_{tissue}_ml"] = _total_ml(patient, t, tissue, candidates=candidates)
        total = math.nan if _is_missing(patient, t) else _total_ml(patient, t, tissue, candidates=last)
        counts[f"total_vol_{tissue}_final_ml"] = total
    if patient.baseline is not None and t >= start:
        counts["n_new"] = _n_new(Known(patient, patient.baseline, t), counted)
    return counts


def _n_new(known: Known, counted: Sequence[int]) -> int:
    """How many new lesions a session is the first to show as more than candidates."""
    course, t = known.patient.course, known.upto
    new = [k for k in counted if known.roles[k] in ("new", "recurrent") and course.state[t, k] == "present"]
    for u in range(known.baseline.session + 1, t):
        candidates = _candidates(known.patient, u)
        new = [k for k in new if course.state[u, k] != "present" or k in candidates]
    return len(new)


def _total_ml(patient: Patient, t: int, tissue: str, *, candidates: Collection[int]) -> float:
    """Volume of one tissue over all lesions of an evaluable session but candidates, mL; NaN where one is not known."""
    course = patient.course
    counted = [
        course.rows[t][track]
        for k, track in enumerate(course.tracks)
        if track in course.rows[t] and k not in candidates and not patient.is_excluded(k)
    ]
    total = sum(number_of(row, f"vol_{tissue}_mm3") for row in counted if row["status"] == "present")
    if tissue == "ed":  # also far from any lesion; n/a where no image shows edema
        total += number_of(patient.sessions[t], "edema_unassigned_mm3")
    return total / 1000


def _is_missing(patient: Patient, t: int, *, upto: int | None = None) -> bool:
    """Whether a session has a probable missed detection, as known at session `upto`, by default the last."""
    upto = patient.course.last if upto is None else upto
    candidates = _candidates(patient, upto)
    return any(
        missed == t and seen_again <= upto and k not in candidates and not patient.is_excluded(k)
        for missed, k, seen_again in patient.course.missed
    )


def _session_flags(patient: Patient, t: int) -> list[str]:
    """Name what a reader should know of the lesions of an evaluable session."""
    course, rules, baseline = patient.course, patient.rules, patient.baseline
    shift_mm = number_of(patient.sessions[t], "residual_shift_mm")
    flags = ["residual_shift"] * at_least(shift_mm, rules.residual_shift_warn_mm)
    flags += ["probable_missed_detection"] * _is_missing(patient, t)
    of = [row for track, row in course.rows[t].items() if track not in patient.overrides.excluded]
    flags += ["weak_match"] * any("weak_match" in flags_of(row) for row in of)
    if baseline is None or t <= baseline.session:
        return flags

    def edema_ml(u: int) -> float:
        return _total_ml(patient, u, "ed", candidates=_candidates(patient, max(u, baseline.session)))

    before = [u for u in range(baseline.session, t) if course.evaluable[u] and not _is_missing(patient, u, upto=t)]
    since = [volume for volume in map(edema_ml, before) if not math.isnan(volume)]
    grown = bool(since) and criteria.edema_has_grown(edema_ml(t), min(since), rules=rules)
    return flags + ["edema_progression"] * grown


# --- Patient -------------------------------------------------------------------------------------------------------


def make_patient_row(patient: Patient, responses: Responses, session_rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make the row of the patient; `session_rows` are those of `make_session_rows`."""
    course, baseline = patient.course, patient.baseline
    candidates, n_evaluable = _candidates(patient, course.last), int(course.evaluable.sum())
    row: dict[str, Any] = dict.fromkeys(schema.columns("patients"))
    row |= {
        "participant_id": patient.name,
        "n_sessions": len(course.ids),
        "n_evaluable": n_evaluable,
        "t0_source": patient.t0_source,
        "baseline_session": None if baseline is None else course.ids[baseline.session],
        "baseline_flag": None if baseline is None else baseline.flag,
        "n_tracks_total": sum(not patient.is_excluded(k) and k not in candidates for k in range(len(course.tracks))),
        "best_response": "NE",
        "best_response_volumetric": "NE",
    }
    flags = ["no_dates"] * (not patient.is_dated)
    flags += ["target_lost"] * (baseline is not None and baseline.target_lost)
    flags += ["no_lesions"] * (not course.tracks and n_evaluable > 0)
    if baseline is None:
        flags += ["no_evaluable_session"]
    else:
        row |= _baseline_cells(patient, baseline, session_rows[baseline.session])
        row |= _outcome_cells(patient, baseline, responses)
        flags += ["no_lesions_at_baseline"] * (not row["n_lesions_baseline"]) + ["no_targets"] * (not baseline.targets)
        flags += ["gap_before_pd"] * _is_late(responses)
        flags += ["no_followup"] * (not course.evaluable[baseline.session + 1 :].any())
    flags += ["clinical_assumed"] * any(each["clinical_assumed"] for each in session_rows)
    return row | {"flags": join_words(flags)}


def _baseline_cells(patient: Patient, baseline: Baseline, first: dict[str, Any]) -> dict[str, Any]:
    """Lesions at baseline, from its row, and those that are new since."""
    at_end = Known(patient, baseline, patient.course.last)
    real = ("definite", "confirmed", "equivocal")
    cells = {
        "n_lesions_baseline": first["n_lesions"],
        "n_targets": _n_targets(patient, baseline),
        "n_nontargets": len(at_end.nontargets),
        "n_new_total": sum(any(s in real for s in status) for status in at_end.new.values()),
        "baseline_sum_ld_mm": first["sum_ld_mm"],
        "baseline_vol_ml": first["sum_vol_target_ml"],
        "lesion_count_group": criteria.lesion_count_group(first["n_lesions"]),
    }
    return cells | (_velocity(patient, at_end.new) if patient.t0_source == "treatment" else {})


def _velocity(patient: Patient, new: dict[int, list[NewStatus | None]]) -> dict[str, Any]:
    """Brain metastasis velocity at the first and at the latest distant failure."""
    real = ("definite", "confirmed")
    first = [next((t for t, s in enumerate(status) if s in real), None) for status in new.values()]
    rates = criteria.metastasis_velocity([patient.days_from_t0(t) for t in first if t is not None])
    if not rates:
        return {}
    return {
        "brain_metastasis_velocity_first_per_year": rates[0],
        "brain_metastasis_velocity_latest_per_year": rates[-1],
        "brain_metastasis_velocity_group": criteria.velocity_group(rates[0]),
    }


def _outcome_cells(patient: Patient, baseline: Baseline, responses: Responses) -> dict[str, Any]:
    """Best response, progression and how long both took."""
    rules, after = patient.rules, list(responses.final)
    days = [patient.days_from_t0(t) for t in after]
    overall = [responses.final[t].overall for t in after]

    def best_of(seen: Sequence[Response]) -> tuple[Response, float, bool | None]:
        return criteria.best_response(
            days, seen, confirm_days=rules.confirm_days, sd_min_days=rules.sd_min_days, confirm=rules.confirm
        )

    best, best_day, confirmed = best_of(overall)
    last_day = patient.days_from_t0(int(np.flatnonzero(patient.course.evaluable)[-1]))
    cells: dict[str, Any] = {
        "best_response": best,
        "best_response_day": best_day,
        "best_response_confirmed": confirmed,
        "best_response_volumetric": best_of([responses.final[t].volumetric for t in after])[0],
        "last_evaluable_day": last_day,
        "progressed": "PD" in overall,
        "ttp_event": "PD" in overall,
    }
    end_day = last_day
    if "PD" in overall:
        at = overall.index("PD")
        end_day = days[at]
        cells["progression_day"] = end_day
        cells["progression_reason"] = join_words(responses.final[after[at]].reasons)
    cells["time_to_progression_days"] = max(end_day, 0.0) if not math.isnan(end_day) else None
    if best in ("CR", "PR"):
        cells["duration_of_response_days"] = end_day - best_day
    return cells | _best_changes(patient, baseline, _until_progression(responses))


def _until_progression(responses: Responses) -> list[Verdict]:
    """Return the final verdicts up to the first PD."""
    verdicts = list(responses.final.values())
    overall = [verdict.overall for verdict in verdicts]
    return verdicts[: overall.index("PD") + 1] if "PD" in overall else verdicts


def _is_late(responses: Responses) -> bool:
    """Whether two sessions before a progression could not be evaluated: it may have come earlier."""
    *before, last = [verdict.overall for verdict in _until_progression(responses)] or ["NE"]
    return last == "PD" and before[-2:] == ["NE", "NE"]


def _best_changes(patient: Patient, baseline: Baseline, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Smallest sum and lowest changes up to the first PD, with all that is known, measured as at baseline."""
    if not baseline.targets:
        return {}
    readings = [verdict.reading for verdict in verdicts if verdict.reading.facts.evaluable]
    found: dict[str, Any] = {}
    for name, size in _IN_COLUMNS:
        sums = [reading.judged(size).sums for reading in readings]
        changes = [_percent(each.now, each.reference) for each in sums]
        found[f"best_change_{name}_pct"] = min((change for change in changes if change is not None), default=None)
    at_baseline = float(patient.course.ld[baseline.session, patient.course.positions(baseline.targets)].sum())
    totals = [at_baseline, *(reading.ld.sums.now for reading in readings)]
    found["nadir_sum_ld_mm"] = min(total for total in totals if not math.isnan(total))
    return found
