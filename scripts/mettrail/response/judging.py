"""Response of every session of a patient, as known at any of them: targets, other lesions, new lesions, clinic."""

from __future__ import annotations

import math

import numpy as np

from mettrail.response import criteria
from mettrail.response.criteria import NA, at_least
from mettrail.schema.cells import flags_of, number_of, value_of


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
        "coalesced": bool((first.again | last.again)[targets].any() or are_touching(course, sessions, targets)),
    }
    response = criteria.target_response(
        first.now[targets], baseline_sum=found["reference"], nadir_sum=found["nadir"], increase=found["increase"],
        gone=course.state[t, targets] == "absent", now_at_nadir=last.now[targets], after_cr=after_cr, **rules,
    )  # fmt: skip
    return found | {"response": response}


def are_touching(course, sessions, targets):
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


def find_candidates(course, overrides, *, upto):
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


def find_roles(course, baseline, targets, overrides, *, upto):
    """Role of each lesion as known at session `upto`, by position; `course` must be what was known then."""
    roles = []
    candidates = find_candidates(course, overrides, upto=upto)
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


def follow_new_lesions(course, roles, overrides, *, baseline, upto, recurrence_is_new):
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


def respond(course, upto, *, baseline, targets, overrides, clinic, rano, volume):
    """Responses of the sessions from baseline + 1 to `upto`, as known at `upto`: list of dict."""
    course = course.known(upto)
    roles = find_roles(course, baseline, targets, overrides, upto=upto)
    new = follow_new_lesions(
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
        grown = find_grown(course, t, baseline=baseline, rano=rano)
        now["effect"] = (
            bool(grown) and not now["sure"] and all(may_be_effect(course, t, k, overrides, rano) for k in grown)
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


def find_grown(course, t, *, baseline, rano):
    """Lesions that have grown by the absolute amount of PD since they were smallest, by position."""
    grown = []
    against = {u: course.compare(t, u, "ld") for u in range(baseline, t)}
    for k in range(len(course.tracks)):
        since = [c.now[k] - c.then[k] for u, c in against.items() if course.state[u, k] in ("present", "absent")]
        if any(at_least(growth, rano["pd_abs_mm"]) for growth in since):
            grown.append(k)
    return grown


def may_be_effect(course, t, k, overrides, rano):
    """Whether a lesion was irradiated so long before that its growth may be radionecrosis (days ours)."""
    low, high = rano["treatment_effect_days"]
    since = course.days[t] - overrides.irradiated_day.get(course.tracks[k], math.nan)
    return bool(low <= since <= high)


def _doubt_days(now, clinic, rano):
    """Days until a progression of this session can be confirmed; 0 where it is not in doubt."""
    if rano["irano"] and 0 < clinic["since_immunotherapy"] <= criteria.IRANO_DAYS and not now["worse"]:
        return criteria.IRANO_CONFIRM_DAYS
    return rano["confirm_days"] if rano["srs_requires_confirmation"] and now["effect"] else 0


def read_clinic(sessions, participant, baseline, *, rano):
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


def continue_responses(points, rano):
    """Responses of the last of some sessions, where a confirmed PR that is no PD stays PR, as known at it."""
    found = {}
    for name in ("target", "imaging", "overall"):
        responses = [None if p[name] == NA else p[name] for p in points]
        found[name] = criteria.continue_response(
            [p["day"] for p in points], responses, confirm_days=rano["confirm_days"]
        )[-1]
    return found
