"""Response of a patient over time by RANO-BM: from the rows of the matching to the final tables.

The rules are in `criteria`, what happened to each lesion in `course`, what readers decided in `overrides`; here they
come together. The result supports research decisions: it is no clinical response call.

A result *as known at* a session uses nothing that came later; a *final* one uses everything: an uncertain new lesion
may turn out real, a lesion that was overlooked may come back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mettrail import tables
from mettrail.response import criteria
from mettrail.response.cells import flags_of, join_words, number_of, value_of
from mettrail.response.course import Course, carry_by_targets, make_course
from mettrail.response.criteria import NA, at_least
from mettrail.response.overrides import Overrides, read_overrides, require_at_baseline, require_known
from mettrail.tracking.lesions import ENDPOINTS

RESIDUAL_SHIFT_MM = 2.0  # from here on it is pointed out (ours)
ZERO_IF_ABSENT = (
    "ld_mm", "perp_mm", "ld_feret_mm", "max3d_mm", "esd_mm", "extent_z_mm", "bidim_mm2", "surface_mm2", "n_voxels",
    "n_slices", "vol_wl_mm3", "vol_et_mm3", "vol_nc_mm3", "vol_ed_mm3",
)  # fmt: skip
COPIED_IF_PRESENT = (
    *ZERO_IF_ABSENT, "n_fragments", "match_method", "match_score", "border_distance_mm", "ld_slice", *ENDPOINTS,
    "slice_spacing_mm", "necrosis_fraction", "touches_border", "enhancing", "cx_mm", "cy_mm", "cz_mm", "cx_ref_mm",
    "cy_ref_mm", "cz_ref_mm", "mean_probability", "seen_by", "confidence", "region", "side",
    *(name for name in tables.columns("lesions") if "_probability_" in name or "_half_voxel_" in name),
)  # fmt: skip


def _judge(course, t, *, baseline, targets, nontargets, new, after_cr, rano, volume, overrides):
    """Judge one session after baseline with what the course knows. All by position."""
    earlier = [u for u in range(baseline, t) if course.evaluable[u]]
    against = {size: {u: course.compare(t, u, size) for u in earlier} for size in ("ld", "volume")}
    least_ml, scale = criteria.least_growth(volume)
    judged = {
        "ld": _judge_targets(
            course, t, "ld", against["ld"], targets, after_cr["ld"],
            pr=rano["pr"], pd=rano["pd"], pd_abs=rano["pd_abs_mm"], abs_rule=rano["abs_rule"],
        ),
        "volume": _judge_targets(
            course, t, "volume", against["volume"], targets, after_cr["volume"],
            pr=volume["pr"], pd=volume["pd"], pd_abs=least_ml, scale=scale,
        ),
    }  # fmt: skip
    statuses = {k: status[t] for k, status in new.items() if course.state[t, k] == "present"}
    judged["sure"] = {k for k, status in statuses.items() if status in ("definite", "confirmed")}
    judged["new"] = "definite" if judged["sure"] else "equivocal" if "equivocal" in statuses.values() else "none"
    judged["new_before"] = any(s not in (None, "rejected") for status in new.values() for s in status[:t])
    grown = _grown_nontargets(course, t, against["ld"], nontargets)
    burden_grown = _burden_grown(course, t, against["volume"], nontargets)
    judged |= {"nt_source": None, "review": set()}
    # Remnants that have not enhanced since baseline are no disease that could respond.
    since = course.state[[baseline, *earlier, t]][:, nontargets]
    any_nontarget = bool((since != "absent").any())
    said = overrides.nontarget_pd.get(course.ids[t])
    for size in ("ld", "volume"):
        response, review = criteria.nontarget_response(
            list(course.state[t, nontargets]) if any_nontarget else [], grown=bool(grown), burden_grown=burden_grown,
            target=judged[size]["response"], after_cr=after_cr[size],
        )  # fmt: skip
        source, review = None if response == NA else "auto", grown if review and size == "ld" else set()
        if said or (said is False and response != NA):  # disease without lesions of its own can progress, too
            response = "PD" if said else ("NON_CR_NON_PD" if response == "PD" else response)
            source, review = "reader", set()
        if response == "CR" and judged["new"] == "definite":
            response = "NON_CR_NON_PD"  # CR wants no new lesion
        judged[size]["nontarget"] = response
        judged["nt_source"] = source
        judged["review"] |= review
    # Whether what was there at baseline is there, and casts doubt on a complete response before.
    there = "present" in course.state[t, targets + nontargets]
    judged["back"] = {size: bool(there and not after_cr[size]) for size in ("ld", "volume")}
    return judged


def _judge_targets(course, t, size, against, targets, after_cr, *, scale=float, **rules):
    """Judge the targets by one size; `against` compares it to each earlier session, baseline first."""
    sizes = getattr(course, size)
    baseline, earlier = next(iter(against)), list(against)
    found = {
        "sum": math.nan, "baseline": math.nan, "now": math.nan, "reference": math.nan, "now_at_nadir": math.nan,
        "nadir": math.nan, "increase": math.nan, "coalesced": False,
    }  # fmt: skip
    if not targets:
        return found | {"response": NA}
    first = last = against[baseline]
    at = criteria.find_nadir(
        [float(np.nansum(c.now[targets])) for c in against.values()],
        [float(c.then[targets].sum()) for c in against.values()],
    )
    sessions = {t, baseline}
    if at is not None:
        last = against[earlier[at]]
        sessions.add(earlier[at])
        found |= {
            "now_at_nadir": float(last.now[targets].sum()),
            "nadir": float(last.then[targets].sum()),
            "increase": criteria.largest_increase(last.now, last.then, last.groups, of=targets, scale=scale),
        }
    found |= {
        "sum": float(sizes[t, targets].sum()),
        "baseline": float(sizes[baseline, targets].sum()),
        "now": float(first.now[targets].sum()),
        "reference": float(first.then[targets].sum()),
        "coalesced": bool((first.again | last.again)[targets].any() or _touching(course, sessions, targets)),
    }
    response = criteria.target_response(
        first.now[targets], baseline_sum=found["reference"], nadir_sum=found["nadir"], increase=found["increase"],
        gone=course.state[t, targets] == "absent", now_at_nadir=last.now[targets], after_cr=after_cr, **rules,
    )  # fmt: skip
    return found | {"response": response}


def _touching(course, sessions, targets):
    """Whether a target is one with another lesion at one of some sessions, as the matching says."""
    given = (course.rows[t].get(course.tracks[k], {}) for t in sessions for k in targets)
    return any("coalesced" in flags_of(row) for row in given)


def _grown_nontargets(course, t, against, nontargets):
    """Which of the lesions that are no targets have grown since their own smallest, by position.

    Lesions that are one now grew from what each of them was (ours), or from what they were when they were one before.
    """

    def has_own_size(u, k):  # merged: size 0, yet not small
        return course.owner[u, k] in nontargets and course.state[u, k] in ("present", "absent")

    grown = set()
    groups = {}
    for k in nontargets:
        groups.setdefault(int(course.owner[t, k]), []).append(k)
    for head, members in groups.items():
        together = len(members) > 1 or head not in nontargets  # or carried by a target
        for k in members:
            # Measured again, a lesion has its own size at both sessions whatever it is one with.
            pairs = [
                (c.now[k], c.then[k]) for u, c in against.items() if c.again[k] or (not together and has_own_size(u, k))
            ]
            at = criteria.find_nadir(*zip(*pairs, strict=True)) if pairs else None
            if at is not None and criteria.nontarget_has_grown(*pairs[at]):
                grown.add(k)
        if len(members) == 1 or head not in nontargets:
            continue
        smallest = [
            np.fmin.reduce(
                [math.nan, *(c.then[k] for u, c in against.items() if has_own_size(u, k) and not c.again[k])]
            )
            for k in members
        ]
        before = [sum(smallest)] + [
            float(c.then[members].sum())
            for u, c in against.items()
            if (course.owner[u, members] == head).all() and not c.again[members].any()
        ]
        now = float(course.ld[t, members].sum())
        if any(criteria.nontarget_has_grown(now, size) for size in before):
            grown |= set(members)
    return grown


def _burden_grown(course, t, against, nontargets):
    """Whether the lesions that are no targets have grown together since they were smallest."""
    now, then = [], []
    for u, c in against.items():
        # What a target carries at one of both sessions has no size of its own there.
        own = c.again | (np.isin(course.owner[t], nontargets) & np.isin(course.owner[u], nontargets))
        now.append(float(np.where(own, c.now, np.nan)[nontargets].sum()))
        then.append(float(np.where(own, c.then, np.nan)[nontargets].sum()))
    at = criteria.find_nadir(now, then)
    return at is not None and criteria.burden_has_grown(now[at], then[at])


def _candidates(course, overrides, *, upto):
    """Lesions seen by session `upto` as candidates and never as more, by position: they play no part yet (ours).

    Confirmed at a later session, a lesion is what it would have been, dated from its first appearance as RANO-BM dates
    uncertain new lesions. A reader confirms it by deciding its status or its role.
    """
    found = set()
    for k, track in enumerate(course.tracks):
        given = [of[track] for of in course.rows[: upto + 1] if track in of and of[track]["status"] == "present"]
        decided = track in overrides.new_status or track in overrides.roles
        if {value_of(row, "confidence") for row in given} == {"candidate"} and not decided:
            found.add(k)
    return found


def _roles(course, baseline, targets, overrides, *, upto):
    """Role of each lesion as known at session `upto`, by position; `course` must be what was known then."""
    roles = []
    candidates = _candidates(course, overrides, upto=upto)
    for k, track in enumerate(course.tracks):
        at_baseline = course.state[baseline, k]
        back = any(course.state[t, k] == "present" for t in range(baseline + 1, upto + 1))
        if track in overrides.excluded:
            roles.append("excluded")
        elif track in targets:
            roles.append("target")
        elif k in candidates:
            roles.append("candidate")
        elif at_baseline == "unborn":
            roles.append("new")
        elif overrides.resected_day.get(track, math.inf) < course.days[baseline]:
            roles.append("prebaseline")
        elif at_baseline == "absent" and course.rows[baseline][track]["status"] == "absent":
            roles.append("recurrent" if back else "prebaseline")
        else:
            roles.append("nontarget")
    return roles


def _new_statuses(course, roles, overrides, *, baseline, upto, recurrence_is_new):
    """Status of new lesions at each session as known at `upto`: {position: [status per session]}."""
    counted = ("new", "recurrent") if recurrence_is_new else ("new",)
    found = {}
    for k, role in enumerate(roles):
        if role not in counted:
            continue
        sessions = [t for t in range(baseline + 1, upto + 1) if course.evaluable[t]]
        seen = [{"present": True, "absent": False}.get(course.state[t, k]) for t in sessions]
        sure = [course.definite[t, k] for t in sessions]
        status = [None] * len(course.ids)
        for t, s in zip(sessions, criteria.follow_new_lesion(seen, sure), strict=True):
            decided = overrides.new_status.get(course.tracks[k])
            status[t] = decided if decided and s else s
        found[k] = status
    return found


def _respond(course, upto, *, baseline, targets, overrides, clinic, rano, volume):
    """Responses of the sessions from baseline + 1 to `upto`, as known at `upto`: list of dict."""
    course = course.known(upto)
    roles = _roles(course, baseline, targets, overrides, upto=upto)
    new = _new_statuses(
        course, roles, overrides, baseline=baseline, upto=upto, recurrence_is_new=rano["recurrence_is_new"]
    )
    at = {role: [k for k, r in enumerate(roles) if r == role] for role in ("target", "nontarget")}
    at["target"].sort(key=lambda k: targets.index(course.tracks[k]))
    points = []
    after = range(baseline + 1, upto + 1)
    images = {"ld": [], "volume": []}  # so far, before anything is confirmed or cleared: that makes no CR of another
    for t in after:
        none = {"response": "NE" if at["target"] else NA, "nontarget": "NE" if at["nontarget"] else NA}
        now = {"ld": none, "volume": none, "new": "none", "new_before": False, "sure": set(), "nt_source": None}
        now |= {"review": set(), "back": {"ld": False, "volume": False}}
        if course.evaluable[t]:
            after_cr = {
                size: criteria.has_confirmed_cr(course.days[baseline + 1 : t], seen, confirm_days=rano["confirm_days"])
                for size, seen in images.items()
            }
            now |= _judge(
                course, t, baseline=baseline, targets=at["target"], nontargets=at["nontarget"], new=new,
                after_cr=after_cr, rano=rano, volume=volume, overrides=overrides,
            )  # fmt: skip
        for size, seen in images.items():
            response = (now[size]["response"], now[size]["nontarget"], now["new"])
            seen.append(criteria.imaging_response(*response) if course.evaluable[t] else "NE")
        now |= {"target": now["ld"]["response"], "nontarget": now["ld"]["nontarget"]}
        now |= {"day": course.days[t], "evaluable": bool(course.evaluable[t])}
        now |= {"immunotherapy": clinic[t]["immunotherapy"], "worse": clinic[t]["clinical"] == "worse"}
        now["new_growth_mm"] = _new_growth(course, t, now, points, baseline=baseline)
        grown = _grown(course, t, baseline=baseline, rano=rano)
        now["effect"] = (
            bool(grown) and not now["sure"] and all(_may_be_effect(course, t, k, overrides, rano) for k in grown)
        )
        now["doubt_days"] = _doubt_days(now, clinic[t], rano)
        points.append(now)
    read = {}
    for size in images:
        seen = [p | {"target": p[size]["response"], "nontarget": p[size]["nontarget"]} for p in points]
        read[size] = criteria.follow_unconfirmed(seen, confirm_days=rano["confirm_days"])
        read[size] = criteria.doubt_unconfirmed_cr(read[size], [p["back"][size] for p in points])
    overall, held = criteria.follow_overall(
        read["ld"], [clinic[t]["steroids"] for t in after], [clinic[t]["clinical"] for t in after]
    )
    for point, image, volumes, response, waits in zip(points, read["ld"], read["volume"], overall, held, strict=True):
        point |= {"imaging": image, "volumetric": volumes, "overall": response, "held": waits, "roles": roles}
        reasons = ["target"] * (point["target"] == "PD") + ["nontarget"] * (point["nontarget"] == "PD")
        reasons += ["new"] * (image in ("PD", "uPD") and bool(point["sure"]))
        reasons += ["clinical"] * (response == "PD" and (point["worse"] or image != "PD"))
        point["reasons"] = reasons if response in ("PD", "uPD") else []
    return points


def _new_growth(course, t, now, points, *, baseline):
    """Growth of the definite new lesions since each earlier session that has some: {position in `points`: mm}."""
    growth = {}
    for i, earlier in enumerate(points):
        both = sorted(now["sure"] | earlier["sure"])
        if now["sure"] and earlier["sure"]:
            c = course.compare(t, baseline + 1 + i, "ld")
            growth[i] = float(np.nansum(c.now[both]) - np.nansum(c.then[both]))
    return growth


def _grown(course, t, *, baseline, rano):
    """Lesions that have grown by the absolute amount of PD since they were smallest, by position."""
    grown = []
    against = {u: course.compare(t, u, "ld") for u in range(baseline, t)}
    for k in range(len(course.tracks)):
        since = [c.now[k] - c.then[k] for u, c in against.items() if course.state[u, k] in ("present", "absent")]
        if any(at_least(growth, rano["pd_abs_mm"]) for growth in since):
            grown.append(k)
    return grown


def _may_be_effect(course, t, k, overrides, rano):
    """Whether a lesion was irradiated so long before that its growth may be radionecrosis (days ours)."""
    low, high = rano["treatment_effect_days"]
    since = course.days[t] - overrides.irradiated_day.get(course.tracks[k], math.nan)
    return bool(low <= since <= high)


def _doubt_days(now, clinic, rano):
    """Days until a progression of this session can be confirmed; 0 where it is not in doubt."""
    if rano["irano"] and 0 < clinic["since_immunotherapy"] <= criteria.IRANO_DAYS and not now["worse"]:
        return criteria.IRANO_CONFIRM_DAYS
    return rano["confirm_days"] if rano["srs_requires_confirmation"] and now["effect"] else 0


def _clinic(sessions, participant, baseline, *, rano):
    """Steroids, clinical status and immunotherapy of each session."""
    base = sessions[0 if baseline is None else baseline] if sessions else {}
    doses = [number_of(s, "dexamethasone_equiv_mg_per_day") for s in sessions]
    base_dose = doses[0 if baseline is None else baseline] if sessions else math.nan
    under = "immunotherapy" in str(value_of(participant, "treatment_type", "")).split(";")
    start = number_of(participant, "immunotherapy_start_day")
    if math.isnan(start) and under:
        start = number_of(participant, "treatment_start_day")
    found = []
    for s, dose in zip(sessions, doses):
        steroids, clinical = value_of(s, "steroid_status"), value_of(s, "clinical_status")
        if clinical is None:
            scores = [number_of(row, name) for name in ("kps", "ecog") for row in (s, base)]
            clinical = criteria.performance_status(*scores)
        if clinical == "worse" and value_of(s, "clinical_tumour_related") == "false":
            clinical = "stable"
        since = number_of(s, "days") - start
        found.append(
            {
                "steroids": steroids
                or criteria.steroid_status(dose, base_dose, physiologic_dex_mg=rano["physiologic_dex_mg"]),
                "clinical": clinical,
                "immunotherapy": under if math.isnan(since) else since > 0,  # a scan of the first day is before it
                "since_immunotherapy": since,
            }
        )
    return found


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
        The final tables of this patient, as `mettrail.tables` lists them.

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
        decided, sessions=course.ids, tracks=course.tracks, born=course.born.tolist(), source=overrides_source
    )
    treatment_day = number_of(participant, "treatment_start_day")
    baseline, baseline_flag = criteria.choose_baseline(
        course.days.tolist(),
        course.evaluable.tolist(),
        treatment_day=treatment_day,
        baseline_window_days=rano["baseline_window_days"],
    )
    measurable = _measurable(course, decided, rano)
    if baseline is None:
        targets, lost = [], False
    else:
        require_at_baseline(
            decided, seen=_seen_at(course, baseline), baseline=course.ids[baseline], max_targets=rano["max_targets"],
            source=overrides_source,
        )  # fmt: skip
        targets, lost = _kept_targets(course, baseline, frozen, decided)
        if targets is None:
            targets = _targets(course, baseline, measurable, decided, rano)
        targets += _parts_of_targets(course, baseline, targets, decided)
        carry_by_targets(course, targets, baseline)
    clinic = _clinic(of, participant, baseline, rano=rano)
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
            points = _respond(course, t, **how)
            prospective[t] = points[-1] | {"continued": _continued(points, rano)}
        final[baseline + 1 :] = _respond(course, last, **how)
    story = _Story(
        who=who, course=course, sessions=of, baseline=baseline, baseline_flag=baseline_flag, targets=targets, t0=t0,
        t0_source=t0_source, dated=dated, prospective=prospective, final=final, clinic=clinic, overrides=decided,
        measurable=measurable, rano=rano, volume=volume, target_lost=lost,
    )  # fmt: skip
    session_rows = _session_rows(story)
    lesion_rows = _lesion_rows(story)
    patient = _patient_row(story, session_rows)
    patient["config_hash"] = config_hash
    return (
        tables.make_table(lesion_rows, "lesions"),
        tables.make_table(session_rows, "sessions"),
        tables.make_table([patient], "patients"),
    )


def _continued(points, rano):
    """Responses of the last of some sessions, where a confirmed PR that is no PD stays PR, as known at it."""
    found = {}
    for name in ("target", "imaging", "overall"):
        responses = [None if p[name] == NA else p[name] for p in points]
        found[name] = criteria.continue_response(
            [p["day"] for p in points], responses, confirm_days=rano["confirm_days"]
        )[-1]
    return found


@dataclass
class _Story:
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


def _measurable(course, overrides, rano):
    """Per session: {track: whether it is measurable there}, for lesions that are evaluable."""
    rules = {name: rano[name] for name in ("ld_min_mm", "perp_min_mm", "slices_min", "small_lesions")}
    found = []
    for t in range(len(course.ids)):
        of = {}
        for track, row in course.rows[t].items():
            if row["status"] == "absent":
                of[track] = False
            elif (course.ids[t], track) in overrides.measurable and row["status"] == "present":
                of[track] = overrides.measurable[course.ids[t], track]
            elif row["status"] == "present":
                of[track] = criteria.is_measurable(
                    ld_mm=number_of(row, "ld_mm"),
                    perp_mm=number_of(row, "perp_mm"),
                    n_slices=number_of(row, "n_slices"),
                    enhancing=bool(value_of(row, "enhancing", True)),
                    slice_spacing_mm=number_of(row, "slice_spacing_mm"),
                    flags=flags_of(row) + ["dural"] * (track in overrides.dural),
                    **rules,
                )
        found.append(of)
    return found


def _seen_at(course, t):
    """Lesions that can have a role at a session: seen there, alone or in another."""
    return {
        track
        for k, track in enumerate(course.tracks)
        if course.state[t, k] != "ne" and course.rows[t].get(track, {}).get("status") in ("present", "merged")
    }


def _targets(course, baseline, measurable, overrides, rano):
    """Targets: those a reader names, and the largest measurable lesions up to the number there may be."""
    named = [track for track in course.tracks if overrides.roles.get(track) == "target"]
    eligible = []
    unsure = {course.tracks[k] for k in _candidates(course, overrides, upto=baseline)}
    for track, ok in measurable[baseline].items():
        if not ok or track in overrides.excluded | unsure or track in overrides.roles:
            continue
        row = course.rows[baseline][track]
        if _is_treated(course, baseline, course.tracks.index(track), overrides, rano):
            continue
        flags = flags_of(row)
        hard = "fov_edge" in flags or ("nonconvex" in flags and bool(value_of(row, "touches_border", False)))
        sizes = {name: number_of(row, name) for name in ("ld_mm", "perp_mm", "vol_wl_mm3")}
        eligible.append({"track_id": track, "hard": hard} | sizes)
    table = pd.DataFrame(eligible, columns=["track_id", "ld_mm", "perp_mm", "vol_wl_mm3", "hard"])
    return named + criteria.choose_targets(table, max_targets=rano["max_targets"] - len(named))


def _kept_targets(course, baseline, frozen, overrides):
    """Targets of an earlier run (None without one, or with another baseline), and whether one of them is lost."""
    if frozen is None or not len(frozen):
        return None, False
    at_baseline = frozen[frozen["is_baseline"].fillna(False).astype(bool)]
    if set(at_baseline["session_id"]) != {course.ids[baseline]}:
        return None, False
    given = at_baseline.loc[at_baseline["role"] == "target", "track_id"].tolist()
    there = {track for k, track in enumerate(course.tracks) if course.state[baseline, k] == "present"}
    named = {role: {t for t, r in overrides.roles.items() if r == role} for role in ("target", "nontarget")}
    kept = [track for track in given if track in there - overrides.excluded - named["nontarget"]]
    return kept + sorted(named["target"] - set(kept)), bool(set(given) - there)


def _parts_of_targets(course, baseline, targets, overrides):
    """Lesions that are one with a target at baseline: once apart, they still are what the sum began with."""
    owners = {course.tracks.index(track) for track in targets}
    parts = [k for k, owner in enumerate(course.owner[baseline]) if owner != k and int(owner) in owners]
    other = {*targets, *overrides.excluded, *overrides.roles}
    return [course.tracks[k] for k in parts if course.tracks[k] not in other]


def _is_treated(course, baseline, k, overrides, rano):
    """Whether a lesion had local therapy before baseline and has not progressed since: no target (RECIST 1.1).

    A scan of the day of treatment is before it, as for the choice of the baseline: radiosurgery images and treats on
    one day.
    """
    track = course.tracks[k]
    days = [d[track] for d in (overrides.irradiated_day, overrides.resected_day) if track in d]
    before = [day for day in days if day < course.days[baseline]]
    if not before:
        return False
    since = [
        t for t in range(baseline) if course.days[t] >= max(before) and course.state[t, k] in ("present", "absent")
    ]
    against = [course.compare(baseline, t, "ld") for t in since]
    at = criteria.find_nadir([c.now[k] for c in against], [c.then[k] for c in against])
    if at is None:
        return True
    now, smallest = against[at].now[k], against[at].then[k]
    return not (at_least(now, (1 + rano["pd"]) * smallest) and at_least(now - smallest, rano["pd_abs_mm"]))


def _percent(value, reference):
    if math.isnan(value) or math.isnan(reference) or reference == 0:
        return None
    return 100 * (value - reference) / reference


def _lesion_rows(story):
    rows = []
    course, baseline, last = story.course, story.baseline, len(story.course.ids) - 1
    at_end = course.known(last)
    statuses = {}
    if baseline is not None:
        roles = _roles(at_end, baseline, story.targets, story.overrides, upto=last)
        statuses = _new_statuses(
            at_end, roles, story.overrides, baseline=baseline, upto=last,
            recurrence_is_new=story.rano["recurrence_is_new"],
        )  # fmt: skip
    back = {(u, k) for _, k, u in course.gaps}
    for t in range(len(course.ids)):
        upto = t if baseline is None else max(t, baseline)
        known = course.known(upto)
        roles = None if baseline is None else _roles(known, baseline, story.targets, story.overrides, upto=upto)
        grown = [] if baseline is None else _grown(known, t, baseline=baseline, rano=story.rano)
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
                flags += ["treatment_effect_possible"] * _may_be_effect(course, t, k, story.overrides, story.rano)
            row["flags"] = join_words(flags)
            rows.append(row)
    return rows


def _lesion_cells(given):
    """Cells of a lesion row that come straight from the matching."""
    status = given["status"]
    row = dict.fromkeys(tables.columns("lesions"))
    row["status"], row["event"] = status, value_of(given, "event", "not_evaluable")
    if status == "present":
        row |= {name: value_of(given, name) for name in COPIED_IF_PRESENT}
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


def _session_rows(story):
    course, baseline = story.course, story.baseline
    rows = []
    final_overall = [p["overall"] if p else None for p in story.final]
    confirmed = criteria.confirm_responses(course.days.tolist(), final_overall, confirm_days=story.rano["confirm_days"])
    for t, session in enumerate(story.sessions):
        evaluable, now, end = bool(course.evaluable[t]), story.prospective[t], story.final[t]
        clinic = story.clinic[t]
        row = dict.fromkeys(tables.columns("sessions"))
        role = None
        if baseline is not None:
            role = "baseline" if t == baseline else "prebaseline" if t < baseline else "followup"
        row |= {
            "session_id": course.ids[t],
            "participant_id": story.who,
            "days_from_t0": course.days[t] - story.t0,
            "session_role": role,
            "evaluable": evaluable,
            "ne_reason": None if evaluable else value_of(session, "ne_reason", "unknown"),
            "registration_qc": value_of(session, "registration_qc"),
            "residual_shift_mm": value_of(session, "residual_shift_mm"),
            **{name: value_of(session, name) for name in tables.BRAIN},
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
            flags += ["coalesced"] * _touching(course, [t], of)
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
    candidates = [_candidates(course, story.overrides, upto=max(u, baseline or 0)) for u in range(t + 1)]

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
    last = _candidates(course, story.overrides, upto=len(course.ids) - 1)
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
    candidates = _candidates(course, story.overrides, upto=upto)
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
            return _total_ml(story, u, "ed", candidates=_candidates(course, story.overrides, upto=max(u, baseline)))

        since = [edema_ml(u) for u in range(baseline, t) if course.evaluable[u] and not _missed(story, u, upto=t)]
        since = [volume for volume in since if not math.isnan(volume)]
        flags += ["edema_progression"] * (bool(since) and criteria.edema_has_grown(edema_ml(t), min(since)))
    return flags


def _patient_row(story, session_rows):
    course, baseline, rano = story.course, story.baseline, story.rano
    n_evaluable = int(course.evaluable.sum())
    candidates = _candidates(course, story.overrides, upto=len(course.ids) - 1)
    row = dict.fromkeys(tables.columns("patients"))
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
    roles = _roles(at_end, baseline, story.targets, story.overrides, upto=last)
    new = _new_statuses(
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
