"""The rows of the final tables of lesions, sessions and patient, from what was found out about a patient."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mettrail import schema
from mettrail.cohort.overrides import Overrides
from mettrail.reasons import Reason
from mettrail.response import criteria
from mettrail.response.course import Course
from mettrail.response.criteria import NA, at_least
from mettrail.response.judging import (
    are_touching,
    find_candidates,
    find_grown,
    find_roles,
    follow_new_lesions,
    may_be_effect,
)
from mettrail.schema.cells import flags_of, join_words, number_of, value_of

RESIDUAL_SHIFT_MM = 2.0  # from here on it is pointed out (ours)
_LESION = {c.name: c for c in schema.LESIONS}
ZERO_IF_ABSENT = tuple(name for name, c in _LESION.items() if c.absent is not None)
COPIED_IF_PRESENT = tuple(name for name, c in _LESION.items() if c.stage)


@dataclass
class Story:
    """What was found out about a patient, before it is put into tables."""

    who: str
    course: Course
    sessions: list[dict]
    baseline: int | None
    baseline_flag: str | None
    targets: list[str]
    t0: float
    t0_source: str | None
    dated: bool
    prospective: list[dict | None]
    final: list[dict | None]
    clinic: list[dict]
    overrides: Overrides
    measurable: list[dict[str, bool]]
    rano: Mapping
    volume: Mapping
    target_lost: bool

    @property
    def n_targets(self) -> int:
        """Lesions in the sum at baseline; those that are one with another there count with it."""
        at = [self.course.tracks.index(track) for track in self.targets]
        return int((self.course.state[self.baseline, at] != "merged").sum())


def _percent(value, reference):
    if math.isnan(value) or math.isnan(reference) or reference == 0:
        return None
    return 100 * (value - reference) / reference


def make_lesion_rows(story):
    """Make one row per session and lesion, from its first session on."""
    rows = []
    course, baseline, last = story.course, story.baseline, len(story.course.ids) - 1
    at_end = course.known(last)
    statuses = {}
    if baseline is not None:
        roles = find_roles(at_end, baseline, story.targets, story.overrides, upto=last)
        statuses = follow_new_lesions(
            at_end, roles, story.overrides, baseline=baseline, upto=last,
            recurrence_is_new=story.rano["recurrence_is_new"],
        )  # fmt: skip
    back = {(u, k) for _, k, u in course.gaps}
    for t in range(len(course.ids)):
        upto = t if baseline is None else max(t, baseline)
        known = course.known(upto)
        roles = None if baseline is None else find_roles(known, baseline, story.targets, story.overrides, upto=upto)
        grown = [] if baseline is None else find_grown(known, t, baseline=baseline, rano=story.rano)
        review = story.prospective[t]["review"] if story.prospective[t] else ()
        edema_known = not math.isnan(_total_ml(story, t, "ed", candidates=set()))
        for k, track in enumerate(course.tracks):
            if course.born[k] > t:
                continue
            given = course.rows[t].get(track, {"status": "not_evaluable"})
            row = _lesion_cells(given)
            row |= {
                "participant_id": story.who,
                "session_id": course.ids[t],
                "track_id": track,
                "days_from_t0": course.days[t] - story.t0,
                "is_baseline": t == baseline,
                "role": roles[k] if roles else None,
                "measurable": story.measurable[t].get(track),
                "ld_rano_mm": at_end.ld[t, k],
                "ld_source": at_end.source[t, k],
                "vol_rano_ml": at_end.volume[t, k],
                "vol_source": at_end.volume_source[t, k],
                "vol_wl_ml": None if row["vol_wl_mm3"] is None else row["vol_wl_mm3"] / 1000,
                "new_lesion_status": statuses.get(k, [None] * (t + 1))[t],
                "prior_local_therapy": _treated(story, t, track),
            }
            if given["status"] == "absent" and not edema_known:
                row["vol_ed_mm3"] = None
            row |= _lesion_changes(story, known, t, k, roles[k] if roles else None)
            flags = flags_of(given) + ["probable_miss"] * (at_end.source[t, k] == "probable_miss" or (t, k) in back)
            flags += ["nonenhancing_remnant"] * (
                given["status"] == "present" and not bool(value_of(given, "enhancing", True))
            )
            flags += ["merged_across_roles"] * ((t, k) in course.crossed)
            flags += ["dural"] * (track in story.overrides.dural) + ["nontarget_review"] * (k in review)
            if k in grown:
                flags += ["treatment_effect_possible"] * may_be_effect(course, t, k, story.overrides, story.rano)
            row["flags"] = join_words(flags)
            rows.append(row)
    return rows


def _lesion_cells(given):
    """Cells of a lesion row that come straight from the matching."""
    status = given["status"]
    row = dict.fromkeys(schema.columns("lesions"))
    row["status"], row["event"] = status, value_of(given, "event", "not_evaluable")
    if status == "present":
        row |= {name: value_of(given, name, row[name]) for name in COPIED_IF_PRESENT}
    elif status == "absent":
        row |= dict.fromkeys(ZERO_IF_ABSENT, 0) | {"n_fragments": 0, "match_method": "none"}
    elif status == "merged":
        row |= {name: value_of(given, name) for name in ("merged_into", "match_method", "match_score")}
    else:
        row["event"] = "not_evaluable"
    return row


def _treated(story, t, track):
    days = [d[track] for d in (story.overrides.irradiated_day, story.overrides.resected_day) if track in d]
    return None if not days else bool(min(days) < story.course.days[t])


def _lesion_changes(story, known, t, k, role):
    """Change of one lesion from baseline and from its smallest, and its response alone."""
    baseline = story.baseline
    if role is None or t < baseline or role in ("excluded", "prebaseline", "candidate"):
        return {}
    born_later = role in ("new", "recurrent")
    present = [u for u in range(baseline, t + 1) if known.state[u, k] == "present"]
    start = (present[0] if present else t) if born_later else baseline
    cells = {}
    if not born_later:
        for name, size in (("ld", "ld"), ("vol", "volume")):
            first, smallest = _lesion_references(known, t, k, size, start)
            cells[f"{name}_change_baseline_pct"] = _percent(*first)
            cells[f"{name}_change_nadir_pct"] = _percent(*smallest)
    if t > start:
        cells["lesion_response"] = _lesion_response(known, t, k, start, story.rano)
    return cells


def _lesion_references(known, t, k, size, start):
    """Size of one lesion now and then, like with like: against its first session, against its smallest before."""

    def against(u):
        c = known.compare(t, u, size)
        if c.again[k] or all(_is_alone(known, s, k) for s in (t, u)):
            return float(c.now[k]), float(c.then[k])
        return math.nan, math.nan

    before = [against(u) for u in range(start, t)]
    at = criteria.find_nadir(*zip(*before)) if before else None
    return against(start), (math.nan, math.nan) if at is None else before[at]


def _is_alone(known, t, k):
    """Whether the size of a lesion is its own: seen or gone, and not one with another."""
    return known.state[t, k] in ("present", "absent") and (known.owner[t] == known.owner[t, k]).sum() == 1


def _lesion_response(known, t, k, start, rano):
    """Response of one lesion alone, from its first size (`start`) on."""

    def respond(u, before):
        (now, first), (again, smallest) = _lesion_references(known, u, k, "ld", start)
        return criteria.target_response(
            [now], baseline_sum=first, nadir_sum=smallest, increase=again - smallest, now_at_nadir=[again],
            gone=[known.state[u, k] == "absent"], pr=rano["pr"], pd=rano["pd"], pd_abs=rano["pd_abs_mm"],
            after_cr=criteria.has_confirmed_cr(known.days[start + 1 : u], before, confirm_days=rano["confirm_days"]),
        )  # fmt: skip

    # What came before matters where the lesion has been gone.
    responses = []
    if "absent" in known.state[start:t, k]:
        for u in range(start + 1, t):
            responses.append(respond(u, responses))
    return respond(t, responses)


def make_session_rows(story):
    """Make one row per session."""
    course, baseline = story.course, story.baseline
    rows = []
    final_overall = [p["overall"] if p else None for p in story.final]
    confirmed = criteria.confirm_responses(course.days.tolist(), final_overall, confirm_days=story.rano["confirm_days"])
    for t, session in enumerate(story.sessions):
        evaluable, now, end = bool(course.evaluable[t]), story.prospective[t], story.final[t]
        clinic = story.clinic[t]
        row = dict.fromkeys(schema.columns("sessions"))
        role = None
        if baseline is not None:
            role = "baseline" if t == baseline else "prebaseline" if t < baseline else "followup"
        row |= {
            "session_id": course.ids[t],
            "participant_id": story.who,
            "days_from_t0": course.days[t] - story.t0,
            "session_role": role,
            "evaluable": evaluable,
            "ne_reason": None if evaluable else value_of(session, "ne_reason", Reason.UNKNOWN.value),
            "registration_qc": value_of(session, "registration_qc"),
            "residual_shift_mm": value_of(session, "residual_shift_mm"),
            **{name: value_of(session, name) for name in schema.BRAIN},
            "baseline_flag": story.baseline_flag,
            "n_targets": None if baseline is None else story.n_targets,
            "steroid_status": clinic["steroids"],
            "clinical_status": clinic["clinical"],
            "clinical_assumed": "unknown" in (clinic["steroids"], clinic["clinical"]),
        }
        flags = flags_of(session) + ["no_dates"] * (not story.dated)
        if evaluable:
            row |= _session_counts(story, t, session)
            flags += _session_remarks(story, t, session)
        if t == baseline:
            of = [course.tracks.index(track) for track in story.targets]
            if of:
                total, volume = float(course.ld[t, of].sum()), float(course.volume[t, of].sum())
                row |= dict.fromkeys(("sum_ld_mm", "sum_ld_baseline_mm", "ref_sum_ld_mm", "sum_ld_final_mm"), total)
                row |= dict.fromkeys(("sum_vol_target_ml", "sum_vol_target_final_ml"), volume)
                row["sum_ld_change_baseline_pct"] = _percent(total, total)
            flags += ["no_targets"] * (not of) + ["no_lesions_at_baseline"] * (not row["n_lesions"])
            flags += ["coalesced"] * are_touching(course, [t], of)
        if now:
            if evaluable:
                ld, volume = now["ld"], now["volume"]
                row |= {
                    "sum_ld_mm": ld["sum"],
                    "sum_ld_baseline_mm": ld["baseline"],
                    "ref_sum_ld_mm": ld["reference"],
                    "nadir_sum_ld_mm": ld["nadir"],
                    "sum_ld_change_baseline_pct": _percent(ld["now"], ld["reference"]),
                    "sum_ld_change_nadir_pct": _percent(ld["now_at_nadir"], ld["nadir"]),
                    "max_lesion_increase_mm": ld["increase"],
                    "sum_vol_target_ml": volume["sum"],
                    "sum_ld_final_mm": end["ld"]["sum"],
                    "sum_vol_target_final_ml": end["volume"]["sum"],
                    "new_lesion": now["new"],
                    "nt_source": now["nt_source"],
                }
                flags += ["sum_incomplete"] * (bool(story.targets) and math.isnan(ld["sum"]))
                flags += ["treatment_effect_possible"] * (now["effect"] and "PD" in (now["target"], now["nontarget"]))
                flags += ["coalesced"] * (ld["coalesced"] or volume["coalesced"])
                flags += ["nontarget_review"] * bool(now["review"])
            continued = {name: None if r == NA else r for name, r in now["continued"].items()}
            row |= {
                "target_response": now["target"] if now["target"] != NA else None,
                "target_response_continued": continued["target"],
                "nontarget_response": now["nontarget"] if now["nontarget"] != NA else None,
                "response_imaging_prospective": now["imaging"],
                "response_imaging_final": end["imaging"],
                "response_imaging_continued": continued["imaging"],
                "response_overall_prospective": now["overall"],
                "response_overall_final": end["overall"],
                "response_overall_continued": continued["overall"],
                "response_volumetric_prospective": now["volumetric"],
                "response_volumetric_final": end["volumetric"],
                "confirmed": confirmed[t],
                "pd_reason": join_words(end["reasons"]),
            }
            flags += ["steroid_hold"] * end["held"]
        elif baseline is None:
            for name in row:
                if name.startswith("response_") or name == "target_response":
                    row[name] = "NE"
        row["flags"] = join_words(flags)
        rows.append(row)
    return rows


def _session_counts(story, t, session):
    """Numbers and volumes over all lesions of an evaluable session."""
    course, baseline = story.course, story.baseline
    counted = [k for k, track in enumerate(course.tracks) if track not in story.overrides.excluded]
    candidates = [find_candidates(course, story.overrides, upto=max(u, baseline or 0)) for u in range(t + 1)]

    def rows_of(some):
        return [course.rows[t].get(course.tracks[k], {"status": None}) for k in some if course.born[k] <= t]

    given = rows_of(k for k in counted if k not in candidates[t])
    present = [row for row in given if row["status"] == "present"]
    unsure = rows_of(k for k in counted if k in candidates[t])
    counts = {
        "n_lesions": len(present),
        "n_candidates": sum(row["status"] == "present" for row in unsure),
        "n_absent": sum(row["status"] == "absent" for row in given),
        "n_subthreshold": value_of(session, "n_subthreshold"),
        "edema_unassigned_mm3": value_of(session, "edema_unassigned_mm3"),
    }
    last = find_candidates(course, story.overrides, upto=len(course.ids) - 1)
    for tissue in ("wl", "et", "nc", "ed"):
        counts[f"total_vol_{tissue}_ml"] = _total_ml(story, t, tissue, candidates=candidates[t])
        total = math.nan if _missed(story, t) else _total_ml(story, t, tissue, candidates=last)
        counts[f"total_vol_{tissue}_final_ml"] = total
    if baseline is not None and t >= baseline:
        counts["n_new"] = 0
        if t > baseline:
            roles = story.prospective[t]["roles"]
            counts["n_new"] = sum(
                roles[k] in ("new", "recurrent")
                and course.state[t, k] == "present"
                and not any(course.state[u, k] == "present" and k not in candidates[u] for u in range(baseline + 1, t))
                for k in counted
            )
    return counts


def _total_ml(story, t, tissue, *, candidates):
    """Volume of one tissue over all lesions of an evaluable session but candidates, mL; NaN where one is not known."""
    present = [
        course_row
        for k, track in enumerate(story.course.tracks)
        if (course_row := story.course.rows[t].get(track)) and course_row["status"] == "present"
        if k not in candidates and track not in story.overrides.excluded
    ]
    total = sum(number_of(row, f"vol_{tissue}_mm3") for row in present)
    if tissue == "ed":  # also far from any lesion; n/a where no image shows edema
        total += number_of(story.sessions[t], "edema_unassigned_mm3")
    return total / 1000


def _missed(story, t, *, upto=None):
    """Whether a lesion was overlooked at a session, as known at session `upto`, by default the last."""
    course = story.course
    upto = len(course.ids) - 1 if upto is None else upto
    candidates = find_candidates(course, story.overrides, upto=upto)
    return any(
        missed == t and back <= upto and k not in candidates and course.tracks[k] not in story.overrides.excluded
        for missed, k, back in course.gaps
    )


def _session_remarks(story, t, session):
    """Name what a reader should know of the lesions of an evaluable session, as flags."""
    course, baseline = story.course, story.baseline
    flags = ["residual_shift"] * at_least(number_of(session, "residual_shift_mm"), RESIDUAL_SHIFT_MM)
    flags += ["probable_miss"] * _missed(story, t)
    of = [row for track, row in course.rows[t].items() if track not in story.overrides.excluded]
    flags += ["weak_match"] * any("weak_match" in flags_of(row) for row in of)
    if baseline is not None and t > baseline:

        def edema_ml(u):
            return _total_ml(story, u, "ed", candidates=find_candidates(course, story.overrides, upto=max(u, baseline)))

        since = [edema_ml(u) for u in range(baseline, t) if course.evaluable[u] and not _missed(story, u, upto=t)]
        since = [volume for volume in since if not math.isnan(volume)]
        flags += ["edema_progression"] * (bool(since) and criteria.edema_has_grown(edema_ml(t), min(since)))
    return flags


def make_patient_row(story, session_rows):
    """Make the row of the patient; `session_rows` are those of `make_session_rows`."""
    course, baseline, rano = story.course, story.baseline, story.rano
    n_evaluable = int(course.evaluable.sum())
    candidates = find_candidates(course, story.overrides, upto=len(course.ids) - 1)
    row = dict.fromkeys(schema.columns("patients"))
    row |= {
        "participant_id": story.who,
        "n_sessions": len(course.ids),
        "n_evaluable": n_evaluable,
        "t0_source": story.t0_source,
        "baseline_session": None if baseline is None else course.ids[baseline],
        "baseline_flag": story.baseline_flag,
        "n_tracks_total": len(
            [
                track
                for k, track in enumerate(course.tracks)
                if track not in story.overrides.excluded and k not in candidates
            ]
        ),
        "best_response": "NE",
        "best_response_volumetric": "NE",
        "progressed": False,
        "ttp_event": False,
    }
    flags = ["no_dates"] * (not story.dated) + ["target_lost"] * story.target_lost
    flags += ["no_lesions"] * (not course.tracks and n_evaluable > 0)
    assumed = ["clinical_assumed"] * any(r["clinical_assumed"] for r in session_rows)
    if baseline is None:
        row |= {"progressed": None, "ttp_event": None, "flags": join_words([*flags, "no_evaluable_session", *assumed])}
        return row
    first = session_rows[baseline]
    flags += ["no_lesions_at_baseline"] * (not first["n_lesions"]) + ["no_targets"] * (not story.targets)
    last = len(course.ids) - 1
    at_end = course.known(last)
    roles = find_roles(at_end, baseline, story.targets, story.overrides, upto=last)
    new = follow_new_lesions(
        at_end, roles, story.overrides, baseline=baseline, upto=last, recurrence_is_new=rano["recurrence_is_new"]
    )
    n_new = sum(any(s in ("definite", "confirmed", "equivocal") for s in status) for status in new.values())
    row |= {
        "n_lesions_baseline": first["n_lesions"],
        "n_targets": story.n_targets,
        "n_nontargets": roles.count("nontarget"),
        "n_new_total": n_new,
        "baseline_sum_ld_mm": first["sum_ld_mm"],
        "baseline_vol_ml": first["sum_vol_target_ml"],
        "lesion_count_group": criteria.lesion_count_group(first["n_lesions"]),
    }
    if story.t0_source == "treatment":
        row |= _velocity(story, new)
    after = range(baseline + 1, last + 1)
    days = [float(course.days[t] - story.t0) for t in after]
    responses = [story.final[t]["overall"] for t in after]
    row |= _best_changes(story, responses)
    rules = {name: rano[name] for name in ("confirm_days", "sd_min_days", "confirm")}
    best, best_day, confirmed = criteria.best_response(days, responses, **rules)
    row |= {"best_response": best, "best_response_day": best_day, "best_response_confirmed": confirmed}
    row["best_response_volumetric"] = criteria.best_response(
        days, [story.final[t]["volumetric"] for t in after], **rules
    )[0]
    last_day = float(course.days[np.flatnonzero(course.evaluable)[-1]] - story.t0)
    row["last_evaluable_day"] = last_day
    end_day = last_day
    if "PD" in responses:
        at = responses.index("PD")
        end_day = days[at]
        gap = responses[:at][::-1]
        row |= {
            "progressed": True,
            "ttp_event": True,
            "progression_day": end_day,
            "progression_reason": join_words(story.final[baseline + 1 + at]["reasons"]),
        }
        flags += ["gap_before_pd"] * (len(gap) >= 2 and gap[0] == gap[1] == "NE")
    row["time_to_progression_days"] = max(end_day, 0.0) if not math.isnan(end_day) else None
    if best in ("CR", "PR"):
        row["duration_of_response_days"] = end_day - best_day
    flags += ["no_followup"] * (not course.evaluable[baseline + 1 :].any())
    row["flags"] = join_words([*flags, *assumed])
    return row


def _velocity(story, new):
    """Brain metastasis velocity at the first and at the latest distant failure."""
    real = ("definite", "confirmed")
    first = [next((t for t, s in enumerate(status) if s in real), None) for status in new.values()]
    rates = criteria.metastasis_velocity([float(story.course.days[t] - story.t0) for t in first if t is not None])
    if not rates:
        return {}
    return {
        "brain_metastasis_velocity_first_per_year": rates[0],
        "brain_metastasis_velocity_latest_per_year": rates[-1],
        "brain_metastasis_velocity_group": criteria.velocity_group(rates[0]),
    }


def _best_changes(story, responses):
    """Smallest sum and lowest changes up to the first PD, with all that is known, measured as at baseline."""
    baseline = story.baseline
    if not story.targets:
        return {}
    until = responses.index("PD") + 1 if "PD" in responses else len(responses)
    points = [p for p in story.final[baseline + 1 : baseline + 1 + until] if p["evaluable"]]
    found = {}
    for name, size in (("ld", "ld"), ("vol", "volume")):
        changes = [_percent(p[size]["now"], p[size]["reference"]) for p in points]
        found[f"best_change_{name}_pct"] = min((c for c in changes if c is not None), default=None)
    at_baseline = float(story.course.ld[baseline, [story.course.tracks.index(track) for track in story.targets]].sum())
    sums = [at_baseline, *(p["ld"]["now"] for p in points)]
    found["nadir_sum_ld_mm"] = min(total for total in sums if not math.isnan(total))
    return found
