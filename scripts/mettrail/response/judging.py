"""Response of every session after baseline, as known at any of them: targets, non-targets, new lesions, clinic."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from mettrail.response import criteria
from mettrail.response.clinic import Clinic
from mettrail.response.course import Comparison, Course
from mettrail.response.criteria import NA, NewLesions, Response, SessionFacts
from mettrail.response.grown import burden_grown, find_grown, grown_nontargets, may_be_effect
from mettrail.response.patient import Baseline, Known, Patient
from mettrail.response.rules import SIZES, Rules, Size
from mettrail.schema.cells import flags_of


@dataclass(frozen=True)
class Sums:
    """Sums of the targets by one size, mm or mL; NaN where not evaluable.

    Parameters
    ----------
    total, baseline : float
        At this session and at baseline, as measured.
    now, reference : float
        The same two like with like.
    now_at_nadir, nadir : float
        At this session and at the nadir, like with like.
    increase : float
        Largest growth of one of them since the nadir, in the unit of `Limits.scale`.
    coalesced : bool
        Whether one of them touches another lesion at one of these sessions.
    """

    total: float = math.nan
    baseline: float = math.nan
    now: float = math.nan
    reference: float = math.nan
    now_at_nadir: float = math.nan
    nadir: float = math.nan
    increase: float = math.nan
    coalesced: bool = False


@dataclass(frozen=True)
class Judged:
    """Targets and non-targets at a session by one size; `reappeared`: see `criteria.revise_unconfirmed_cr`."""

    target: Response
    nontarget: Response
    reappeared: bool = False
    sums: Sums = field(default_factory=Sums)


@dataclass(frozen=True)
class Reading:
    """A session before anything is confirmed or cleared by others.

    Parameters
    ----------
    facts : SessionFacts
    ld, volume : Judged
    nontarget_source : str or None
        Who decided on the non-targets: ``auto`` or ``reader``.
    review : set of int
        Non-targets that a reader should look at.
    effect : bool
        Whether all growth may be an effect of radiation.
    """

    facts: SessionFacts
    ld: Judged
    volume: Judged
    nontarget_source: Literal["auto", "reader"] | None = None
    review: frozenset[int] = frozenset()
    effect: bool = False

    def judged(self, size: Size) -> Judged:
        """Return what one size says."""
        return self.ld if size == "ld" else self.volume


@dataclass(frozen=True)
class Verdict:
    """The responses of a session, as known at the last that counts.

    Parameters
    ----------
    reading : Reading
    imaging, volumetric, overall : str
        By diameters, by volumes, and by diameters with steroids and clinical status.
    held : bool
        Whether the session waits for a lower dose of steroids.
    reasons : list of str
        Of a progression.
    """

    reading: Reading
    imaging: Response
    volumetric: Response
    overall: Response
    held: bool
    reasons: list[str]


class Continued(NamedTuple):
    """Responses of a session where a confirmed PR that is no PD stays PR."""

    target: Response | None
    imaging: Response | None
    overall: Response | None


@dataclass(frozen=True)
class Responses:
    """Responses of the sessions after baseline, by position: as known at each, and with all that is known."""

    prospective: dict[int, Verdict]
    continued: dict[int, Continued]
    final: dict[int, Verdict]


def judge_patient(patient: Patient) -> Responses:
    """Judge all sessions after baseline; none without a baseline."""
    found = Responses({}, {}, {})
    if patient.baseline is None:
        return found
    verdicts: list[Verdict] = []
    for t in range(patient.baseline.session + 1, len(patient.sessions)):
        verdicts = respond(patient, patient.baseline, upto=t)
        found.prospective[t] = verdicts[-1]
        found.continued[t] = _continue(verdicts, patient.rules)
    found.final.update(enumerate(verdicts, start=patient.baseline.session + 1))
    return found


def respond(patient: Patient, baseline: Baseline, *, upto: int) -> list[Verdict]:
    """Responses of the sessions after baseline to `upto`, as known at `upto`."""
    readings = _read_sessions(Known(patient, baseline, upto))
    images = {size: _follow_images(readings, size, patient.rules) for size in SIZES}
    clinics = patient.clinic[baseline.session + 1 : upto + 1]
    overall, held = criteria.follow_overall(
        images["ld"], [clinic.steroids for clinic in clinics], [clinic.clinical for clinic in clinics]
    )
    return [
        Verdict(reading, image, volumetric, response, waits, _reasons(reading, image, response))
        for reading, image, volumetric, response, waits in zip(
            readings, images["ld"], images["volume"], overall, held, strict=True
        )
    ]


def _follow_images(readings: Sequence[Reading], size: Size, rules: Rules) -> list[Response]:
    """Imaging responses by one size."""
    judged = [reading.judged(size) for reading in readings]
    images = criteria.follow_unconfirmed(
        [reading.facts for reading in readings],
        [each.target for each in judged],
        [each.nontarget for each in judged],
        confirm_days=rules.confirm_days,
    )
    return criteria.revise_unconfirmed_cr(images, [each.reappeared for each in judged])


def _reasons(reading: Reading, image: Response, response: Response) -> list[str]:
    """Name what made a session progressive."""
    if response not in ("PD", "uPD"):
        return []
    reasons = ["target"] * (reading.ld.target == "PD") + ["nontarget"] * (reading.ld.nontarget == "PD")
    reasons += ["new"] * (image in ("PD", "uPD") and bool(reading.facts.sure))
    return reasons + ["clinical"] * (response == "PD" and (reading.facts.worse or image != "PD"))


def _continue(verdicts: Sequence[Verdict], rules: Rules) -> Continued:
    """Responses of the last of some sessions, where a confirmed PR that is no PD stays PR, as known at it."""
    days = [verdict.reading.facts.day for verdict in verdicts]

    def last(responses: Sequence[Response]) -> Response | None:
        given = [None if response == NA else response for response in responses]
        return criteria.continue_response(days, given, confirm_days=rules.confirm_days)[-1]

    return Continued(
        target=last([verdict.reading.ld.target for verdict in verdicts]),
        imaging=last([verdict.imaging for verdict in verdicts]),
        overall=last([verdict.overall for verdict in verdicts]),
    )


# --- One session ---------------------------------------------------------------------------------------------------


def _read_sessions(known: Known) -> list[Reading]:
    """Read the sessions after baseline one by one."""
    course, first = known.course, known.baseline.session + 1
    readings: list[Reading] = []
    # Images so far, before anything is confirmed or cleared: that makes no CR of another response.
    images: dict[Size, list[Response]] = {size: [] for size in SIZES}
    for t in range(first, known.upto + 1):
        after_cr = {
            size: criteria.has_confirmed_cr(
                course.days[first:t].tolist(), seen, confirm_days=known.patient.rules.confirm_days
            )
            for size, seen in images.items()
        }
        reading = _read_session(known, t, readings, after_cr)
        for size, seen in images.items():
            judged = reading.judged(size)
            image = criteria.imaging_response(judged.target, judged.nontarget, reading.facts.new)
            seen.append(image if reading.facts.evaluable else "NE")
        readings.append(reading)
    return readings


def _read_session(known: Known, t: int, before: Sequence[Reading], after_cr: Mapping[Size, bool]) -> Reading:
    """Read one session after baseline; `before` are the readings of those between."""
    course, clinic, rules = known.course, known.patient.clinic[t], known.patient.rules
    evaluable = bool(course.evaluable[t])
    sure, new, new_before = _new_at(known, t) if evaluable else (frozenset[int](), "none", False)
    grown = find_grown(known, t)
    effect = bool(grown) and not sure and all(may_be_effect(known.patient, t, k) for k in grown)
    facts = SessionFacts(
        day=float(course.days[t]),
        evaluable=evaluable,
        immunotherapy=clinic.immunotherapy,
        worse=clinic.clinical == "worse",
        new=new,
        new_before=new_before,
        sure=sure,
        new_growth_mm=_new_growth(known, t, sure, before),
        wait_days=_wait_days(clinic, rules, effect=effect),
    )
    if not evaluable:
        unknown = Judged("NE" if known.targets else NA, "NE" if known.nontargets else NA)
        return Reading(facts, unknown, unknown, effect=effect)
    earlier = [u for u in range(known.baseline.session, t) if course.evaluable[u]]
    against = {size: {u: course.compare(t, u, size) for u in earlier} for size in SIZES}
    targets = {size: _judge_targets(known, t, size, against[size], after_cr[size]) for size in SIZES}
    nontargets, source, review = _judge_nontargets(
        known, t, against, {size: response for size, (response, _) in targets.items()}, after_cr, new
    )
    # What was there at baseline and is there now calls a complete response before into question.
    there = "present" in course.state[t, known.targets + known.nontargets]
    by_size = {
        size: Judged(response, nontargets[size], bool(there and not after_cr[size]), sums)
        for size, (response, sums) in targets.items()
    }
    return Reading(facts, by_size["ld"], by_size["volume"], source, review, effect)


def _new_at(known: Known, t: int) -> tuple[frozenset[int], NewLesions, bool]:
    """Tell of new lesions at a session which are definite, what they come to, and whether any was there before."""
    statuses = {k: status[t] for k, status in known.new.items() if known.course.state[t, k] == "present"}
    sure = frozenset(k for k, status in statuses.items() if status in ("definite", "confirmed"))
    before = any(s not in (None, "rejected") for status in known.new.values() for s in status[:t])
    if sure:
        return sure, "definite", before
    return sure, "equivocal" if "equivocal" in statuses.values() else "none", before


def _new_growth(known: Known, t: int, sure: frozenset[int], before: Sequence[Reading]) -> dict[int, float]:
    """Growth of the definite new lesions since each earlier session that has some: {position in `before`: mm}."""
    growth = {}
    for i, earlier in enumerate(before):
        both = sorted(sure | earlier.facts.sure)
        if sure and earlier.facts.sure:
            c = known.course.compare(t, known.baseline.session + 1 + i, "ld")
            growth[i] = float(np.nansum(c.now[both]) - np.nansum(c.then[both]))
    return growth


def _wait_days(clinic: Clinic, rules: Rules, *, effect: bool) -> float:
    """Days that a progression of this session waits to be confirmed; 0 where it does not."""
    early = 0 < clinic.days_of_immunotherapy <= criteria.IRANO_DAYS
    if rules.irano and early and clinic.clinical != "worse":
        return criteria.IRANO_CONFIRM_DAYS
    return rules.confirm_days if rules.srs_requires_confirmation and effect else 0


def _judge_targets(
    known: Known, t: int, size: Size, against: Mapping[int, Comparison], after_cr: bool
) -> tuple[Response, Sums]:
    """Judge the targets by one size; `against` compares it to each earlier session, baseline first."""
    course, targets = known.course, known.targets
    limits, sizes, baseline = known.patient.rules.limits(size), course.sizes(size), known.baseline.session
    if not targets:
        return NA, Sums()
    first = last = against[baseline]
    at = criteria.find_nadir(
        [float(np.nansum(c.now[targets])) for c in against.values()],
        [float(c.then[targets].sum()) for c in against.values()],
    )
    sessions = {t, baseline}
    now_at_nadir = nadir = increase = math.nan
    if at is not None:
        session, last = list(against.items())[at]
        sessions.add(session)
        now_at_nadir, nadir = float(last.now[targets].sum()), float(last.then[targets].sum())
        increase = criteria.largest_increase(last.now, last.then, last.groups, of=targets, scale=limits.scale)
    sums = Sums(
        total=float(sizes[t, targets].sum()),
        baseline=float(sizes[baseline, targets].sum()),
        now=float(first.now[targets].sum()),
        reference=float(first.then[targets].sum()),
        now_at_nadir=now_at_nadir,
        nadir=nadir,
        increase=increase,
        coalesced=bool((first.again | last.again)[targets].any() or are_touching(course, sessions, targets)),
    )
    response = criteria.target_response(
        first.now[targets],
        baseline_sum=sums.reference,
        nadir_sum=sums.nadir,
        increase=sums.increase,
        absent=course.state[t, targets] == "absent",
        limits=limits,
        now_at_nadir=last.now[targets],
        after_cr=after_cr,
    )
    return response, sums


def are_touching(course: Course, sessions: Collection[int], targets: Sequence[int]) -> bool:
    """Whether a target is one with another lesion at one of some sessions, as the matching says."""
    given = (course.rows[t].get(course.tracks[k], {}) for t in sessions for k in targets)
    return any("coalesced" in flags_of(row) for row in given)


def _judge_nontargets(
    known: Known,
    t: int,
    against: Mapping[Size, Mapping[int, Comparison]],
    targets: Mapping[Size, Response],
    after_cr: Mapping[Size, bool],
    new: NewLesions,
) -> tuple[dict[Size, Response], Literal["auto", "reader"] | None, frozenset[int]]:
    """Judge the non-targets beside the responses of the targets by each size; who decided, and what needs review."""
    course, nontargets, rules = known.course, known.nontargets, known.patient.rules
    grown = grown_nontargets(course, t, against["ld"], nontargets, rules)
    together = burden_grown(course, t, against["volume"], nontargets, rules)
    # Remnants that have not enhanced since baseline are no disease that could respond.
    since = course.state[[*against["ld"], t]][:, nontargets]
    states = list(course.state[t, nontargets]) if bool((since != "absent").any()) else []
    said = known.patient.overrides.nontarget_pd.get(course.ids[t])
    by_reader = bool(said or (said is False and states))  # disease without lesions of its own can progress, too
    found: dict[Size, Response] = {}
    review: frozenset[int] = frozenset()
    for size in SIZES:
        response, unclear = criteria.nontarget_response(
            states, grown=bool(grown), burden_grown=together, target=targets[size], after_cr=after_cr[size]
        )
        if by_reader:
            response = "PD" if said else ("NON_CR_NON_PD" if response == "PD" else response)
        elif unclear and size == "ld":
            review = frozenset(grown)
        if response == "CR" and new == "definite":
            response = "NON_CR_NON_PD"  # CR wants no new lesion
        found[size] = response
    return found, "reader" if by_reader else "auto" if states else None, review
