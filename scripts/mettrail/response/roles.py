"""The role of each lesion, and what becomes of new ones, as known at a session."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mettrail.cohort.overrides import Overrides
from mettrail.response import criteria
from mettrail.response.course import Course
from mettrail.response.criteria import NewStatus, Role
from mettrail.schema.cells import value_of


def find_candidates(course: Course, overrides: Overrides, *, upto: int) -> set[int]:
    """Lesions seen by session `upto` as candidates and never as more, by position: they play no part yet (ours).

    Confirmed at a later session, a lesion is what it would have been, dated from its first appearance as RANO-BM dates
    uncertain new lesions. A reader confirms it by deciding its status or its role.
    """
    found = set()
    for k, track in enumerate(course.tracks):
        given = [of[track] for of in course.rows[: upto + 1] if track in of and of[track]["status"] == "present"]
        decided = track in overrides.new_status or track in overrides.roles
        if {value_of(row, "certainty") for row in given} == {"candidate"} and not decided:
            found.add(k)
    return found


def find_roles(course: Course, baseline: int, targets: Sequence[str], overrides: Overrides, *, upto: int) -> list[Role]:
    """Role of each lesion as known at session `upto`, by position; `course` must be what was known then."""
    roles: list[Role] = []
    candidates = find_candidates(course, overrides, upto=upto)
    for k, track in enumerate(course.tracks):
        at_baseline = course.state[baseline, k]
        reappeared = any(course.state[t, k] == "present" for t in range(baseline + 1, upto + 1))
        if track in overrides.excluded:
            roles.append("excluded")
        elif track in targets:
            roles.append("target")
        elif k in candidates:
            roles.append("candidate")
        elif at_baseline == "undetected":
            roles.append("new")
        elif overrides.resected_day.get(track, math.inf) < course.days[baseline]:
            roles.append("prebaseline")
        elif at_baseline == "absent" and course.rows[baseline][track]["status"] == "absent":
            roles.append("recurrent" if reappeared else "prebaseline")
        else:
            roles.append("nontarget")
    return roles


def follow_new_lesions(
    course: Course,
    roles: Sequence[Role],
    overrides: Overrides,
    *,
    baseline: int,
    upto: int,
    recurrence_is_new: bool,
    confirm_sessions: int,
) -> dict[int, list[NewStatus | None]]:
    """Status of new lesions at each session as known at `upto`: {position: [status per session]}."""
    counted = ("new", "recurrent") if recurrence_is_new else ("new",)
    sessions = [t for t in range(baseline + 1, upto + 1) if course.evaluable[t]]
    found = {}
    for k, role in enumerate(roles):
        if role not in counted:
            continue
        seen = [{"present": True, "absent": False}.get(course.state[t, k]) for t in sessions]
        sure = [bool(course.definite[t, k]) for t in sessions]
        decided = overrides.new_status.get(course.tracks[k])
        status: list[NewStatus | None] = [None] * len(course.ids)
        followed = criteria.follow_new_lesion(seen, sure, confirm_sessions=confirm_sessions)
        for t, own in zip(sessions, followed, strict=True):
            status[t] = decided if decided and own else own
        found[k] = status
    return found
