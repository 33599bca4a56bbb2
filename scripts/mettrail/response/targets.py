"""Which lesions are measurable, and which of them are the targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from mettrail.cohort.overrides import Overrides
from mettrail.response import criteria
from mettrail.response.course import Course, Row
from mettrail.response.criteria import at_least
from mettrail.response.roles import find_candidates
from mettrail.response.rules import Rules
from mettrail.schema.cells import flags_of, number_of, value_of


def find_measurable(course: Course, overrides: Overrides, rules: Rules) -> list[dict[str, bool]]:
    """Per session: {track: whether it is measurable there}, for lesions that are evaluable."""
    found = []
    for t in range(len(course.ids)):
        of: dict[str, bool] = {}
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
                    rules=rules,
                )
        found.append(of)
    return found


def seen_at(course: Course, t: int) -> set[str]:
    """Lesions that can have a role at a session: seen there, alone or in another."""
    return {
        track
        for k, track in enumerate(course.tracks)
        if course.state[t, k] != "ne" and course.rows[t].get(track, {}).get("status") in ("present", "merged")
    }


def settle_targets(
    course: Course,
    baseline: int,
    measurable: Sequence[Mapping[str, bool]],
    overrides: Overrides,
    rules: Rules,
    frozen: pd.DataFrame | None,
) -> tuple[list[str], bool]:
    """Targets, with all that is one with them at baseline, and whether one of an earlier run is lost."""
    targets, lost = keep_targets(course, baseline, frozen, overrides)
    if targets is None:
        targets = find_targets(course, baseline, measurable, overrides, rules)
    return targets + parts_of_targets(course, baseline, targets, overrides), lost


def find_targets(
    course: Course, baseline: int, measurable: Sequence[Mapping[str, bool]], overrides: Overrides, rules: Rules
) -> list[str]:
    """Targets: those a reader names, and the largest measurable lesions up to the number there may be."""
    named = [track for track in course.tracks if overrides.roles.get(track) == "target"]
    unsure = {course.tracks[k] for k in find_candidates(course, overrides, upto=baseline)}
    barred = {*overrides.excluded, *unsure, *overrides.roles}
    eligible = []
    for track, fit in measurable[baseline].items():
        if fit and track not in barred and not is_treated(course, baseline, track, overrides, rules):
            row = course.rows[baseline][track]
            sizes = {name: number_of(row, name) for name in ("ld_mm", "perp_mm", "vol_wl_mm3")}
            eligible.append({"track_id": track, "hard": _is_hard(row)} | sizes)
    table = pd.DataFrame(eligible, columns=["track_id", "ld_mm", "perp_mm", "vol_wl_mm3", "hard"])
    return named + criteria.choose_targets(table, max_targets=rules.max_targets - len(named))


def _is_hard(row: Row) -> bool:
    """Whether the diameter of a lesion is hard to reproduce."""
    flags = flags_of(row)
    return "fov_edge" in flags or ("nonconvex" in flags and bool(value_of(row, "touches_border", False)))


def keep_targets(
    course: Course, baseline: int, frozen: pd.DataFrame | None, overrides: Overrides
) -> tuple[list[str] | None, bool]:
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


def parts_of_targets(course: Course, baseline: int, targets: Sequence[str], overrides: Overrides) -> list[str]:
    """Lesions that are one with a target at baseline: once apart, they still are what the sum began with."""
    owners = set(course.positions(targets))
    parts = [k for k, owner in enumerate(course.owner[baseline]) if owner != k and int(owner) in owners]
    other = {*targets, *overrides.excluded, *overrides.roles}
    return [course.tracks[k] for k in parts if course.tracks[k] not in other]


def is_treated(course: Course, baseline: int, track: str, overrides: Overrides, rules: Rules) -> bool:
    """Whether a lesion had local therapy before baseline and has not progressed since: no target (RECIST 1.1).

    A scan of the day of treatment is before it, as for the choice of the baseline: radiosurgery images and treats on
    one day.
    """
    k = course.tracks.index(track)
    days = [d[track] for d in (overrides.irradiated_day, overrides.resected_day) if track in d]
    before = [day for day in days if day < course.days[baseline]]
    if not before:
        return False
    since = [
        t for t in range(baseline) if course.days[t] >= max(before) and course.state[t, k] in ("present", "absent")
    ]
    against = [course.compare(baseline, t, "ld") for t in since]
    sizes = criteria.find_smallest([(float(c.now[k]), float(c.then[k])) for c in against])
    if sizes is None:
        return True
    now, smallest = sizes
    grown = at_least(now - smallest, rules.ld.least_growth)
    return not (at_least(now, (1 + rules.ld.pd) * smallest) and grown)
