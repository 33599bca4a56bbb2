"""Progression that has to wait for a later session: under immunotherapy, and growth after radiation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mettrail.response.criteria.combined import imaging_response
from mettrail.response.criteria.tolerance import at_least
from mettrail.response.criteria.words import NewLesions, Response

# iRANO (Okada et al., Lancet Oncol 2015): progression within six months of immunotherapy waits for three months.
IRANO_DAYS, IRANO_CONFIRM_DAYS = 183, 84
IRECIST_NEW_GROWTH_MM = 5.0  # iRECIST (Seymour et al. 2017): growth of new lesions that confirms progression


@dataclass(frozen=True)
class SessionFacts:
    """What counts of a session beside the responses of targets and non-targets.

    Parameters
    ----------
    day : float
    evaluable : bool
    immunotherapy, worse : bool
        Whether the patient is under immunotherapy, and whether clinically worse.
    new : str
        ``none``, ``equivocal`` or ``definite``.
    new_before : bool
        See `imaging_response`.
    sure : set of int
        Definite new lesions present.
    new_growth_mm : dict of int to float
        Position of an earlier session to the growth of the definite new lesions since.
    wait_days : float
        Days that any progression here waits to be confirmed; 0 where growth is progression at once.
    """

    day: float
    evaluable: bool
    immunotherapy: bool
    worse: bool
    new: NewLesions
    new_before: bool
    sure: frozenset[int]
    new_growth_mm: Mapping[int, float]
    wait_days: float


def follow_unconfirmed(
    sessions: Sequence[SessionFacts],
    targets: Sequence[Response],
    nontargets: Sequence[Response],
    *,
    confirm_days: float,
) -> list[Response]:
    """Confirm or clear progressions that have to wait for a later session, as known at the last.

    Under immunotherapy, new lesions alone are uPD; so is any progression that has to wait (`wait_days`). The next
    evaluable session late enough confirms it, dated back, by further new lesions, 5 mm of growth of the new ones, PD of
    targets or of non-targets, or clinical worsening; otherwise it is cleared (RANO-BM; iRECIST, Seymour et al. 2017,
    for the 5 mm). Cleared lesions no longer count as new, though CR is not to be had beside them; cleared growth no
    longer counts as progression.

    Parameters
    ----------
    sessions : sequence of SessionFacts
    targets, nontargets : sequence of str
        Their responses at each session.
    confirm_days : float
        Days until new lesions under immunotherapy can be confirmed.

    Returns
    -------
    list of str
    """
    responses: list[Response] = []
    cleared: set[int] = set()  # new lesions
    confirmed: set[int] = set()
    pseudo: set[int] = set()  # sessions whose growth was cleared
    waiting: list[int] = []
    progressed = False  # growth that was confirmed once does not wait again

    def read(t: int) -> Response:
        now, target, nontarget = sessions[t], targets[t], nontargets[t]
        sure = now.sure - cleared
        # What was cleared and is still there is no progression, yet nothing is complete beside it.
        new: NewLesions = "definite" if sure else ("equivocal" if now.new == "definite" else now.new)
        if t in pseudo:
            target = "SD" if target == "PD" else target
            nontarget = "NON_CR_NON_PD" if nontarget == "PD" else nontarget
        real = bool(sure & confirmed)
        image = imaging_response(
            target, nontarget, new, immunotherapy=now.immunotherapy and not real, new_before=now.new_before
        )
        return "uPD" if image == "PD" and now.wait_days and not (real or progressed) else image

    for t, now in enumerate(sessions):
        if not now.evaluable:
            responses.append("NE")
            continue
        responses.append(read(t))
        first = sessions[waiting[0]] if waiting else now
        if waiting and at_least(now.day - first.day, first.wait_days or confirm_days):
            further = now.sure - first.sure - cleared
            growth = now.new_growth_mm.get(waiting[0], 0.0)
            grown = at_least(growth, IRECIST_NEW_GROWTH_MM)
            if further or grown or "PD" in (targets[t], nontargets[t]) or now.worse:
                confirmed |= first.sure | now.sure
                progressed = progressed or bool(first.wait_days)
            else:
                cleared |= first.sure
                pseudo |= set(waiting)
            for u in [*waiting, t]:
                responses[u] = read(u)
            waiting = []
        if responses[t] == "uPD":
            waiting.append(t)
    return responses
