"""Which lesions have grown since they were smallest, like with like."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mettrail.response import criteria
from mettrail.response.course import Comparison, Course
from mettrail.response.criteria import at_least
from mettrail.response.patient import Known, Patient
from mettrail.response.rules import Rules


def find_grown(known: Known, t: int) -> list[int]:
    """Lesions that have grown by the absolute amount of PD since they were smallest, by position."""
    course, least = known.course, known.patient.rules.ld.least_growth
    against = {u: course.compare(t, u, "ld") for u in range(known.baseline.session, t)}
    return [
        k
        for k in range(len(course.tracks))
        if any(
            at_least(c.now[k] - c.then[k], least)
            for u, c in against.items()
            if course.state[u, k] in ("present", "absent")
        )
    ]


def may_be_effect(patient: Patient, t: int, k: int) -> bool:
    """Whether a lesion was irradiated so long before that its growth may be radionecrosis."""
    low, high = patient.rules.treatment_effect_days
    course = patient.course
    since = course.days[t] - patient.overrides.irradiated_day.get(course.tracks[k], math.nan)
    return bool(low <= since <= high)


def grown_nontargets(
    course: Course, t: int, against: Mapping[int, Comparison], nontargets: Sequence[int], rules: Rules
) -> set[int]:
    """Which of the non-target lesions have grown since their own smallest, by position.

    Parameters
    ----------
    against : dict of int to Comparison
        Diameters at session `t` with those at each earlier session.
    nontargets : sequence of int
    """
    groups: dict[int, list[int]] = {}
    for k in nontargets:
        groups.setdefault(int(course.owner[t, k]), []).append(k)
    grown = set()
    for carrier, members in groups.items():
        alone = len(members) == 1 and carrier in nontargets  # with no other, nor carried by a target
        grown |= {k for k in members if _has_grown(course, k, against, nontargets, alone=alone, rules=rules)}
        together = len(members) > 1 and carrier in nontargets
        if together and _have_grown_together(course, t, members, against, nontargets, rules=rules):
            grown |= set(members)
    return grown


def _has_grown(
    course: Course,
    k: int,
    against: Mapping[int, Comparison],
    nontargets: Sequence[int],
    *,
    alone: bool,
    rules: Rules,
) -> bool:
    """Whether one lesion has grown by its own sizes.

    Measured again, a lesion has its own size at both sessions whatever it is one with.
    """
    own = [u for u, c in against.items() if c.again[k] or (alone and _has_own_size(course, u, k, nontargets))]
    sizes = criteria.find_smallest([(float(against[u].now[k]), float(against[u].then[k])) for u in own])
    return sizes is not None and criteria.nontarget_has_grown(*sizes, rules=rules)


def _have_grown_together(
    course: Course,
    t: int,
    members: list[int],
    against: Mapping[int, Comparison],
    nontargets: Sequence[int],
    *,
    rules: Rules,
) -> bool:
    """Whether lesions that are one now have grown.

    They grew from what each of them was (ours), or from what they were when they were one before.
    """
    smallest = [
        np.fmin.reduce(
            [
                math.nan,
                *(c.then[k] for u, c in against.items() if _has_own_size(course, u, k, nontargets) and not c.again[k]),
            ]
        )
        for k in members
    ]
    carrier = course.owner[t, members[0]]
    before = [sum(smallest)] + [
        float(c.then[members].sum())
        for u, c in against.items()
        if (course.owner[u, members] == carrier).all() and not c.again[members].any()
    ]
    now = float(course.ld[t, members].sum())
    return any(criteria.nontarget_has_grown(now, size, rules=rules) for size in before)


def _has_own_size(course: Course, u: int, k: int, nontargets: Sequence[int]) -> bool:
    """Whether the size of a lesion at a session says how large it was: one that has merged has 0, yet is not small."""
    return course.owner[u, k] in nontargets and course.state[u, k] in ("present", "absent")


def burden_grown(
    course: Course, t: int, against: Mapping[int, Comparison], nontargets: Sequence[int], rules: Rules
) -> bool:
    """Whether the non-target lesions have grown together since they were smallest; `against` as for volumes."""
    pairs = []
    for u, c in against.items():
        # What a target carries at one of both sessions has no size of its own there.
        own = c.again | (np.isin(course.owner[t], nontargets) & np.isin(course.owner[u], nontargets))
        now, then = (float(np.where(own, sizes, np.nan)[nontargets].sum()) for sizes in (c.now, c.then))
        pairs.append((now, then))
    sizes = criteria.find_smallest(pairs)
    return sizes is not None and criteria.burden_has_grown(*sizes, rules=rules)
