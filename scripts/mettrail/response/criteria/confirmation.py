"""Which complete and partial responses last, and what that makes of the sessions around them."""

from __future__ import annotations

from collections.abc import Sequence

from mettrail.response.criteria.tolerance import at_least
from mettrail.response.criteria.words import Response


def confirming_session(
    days: Sequence[float],
    responses: Sequence[Response | None],
    start: int,
    kinds: Sequence[Response],
    confirm_days: float,
) -> int | None:
    """Position of the session that confirms the response at `start` by one of `kinds`; None if none does."""
    for later in range(start + 1, len(responses)):
        response = responses[later]
        if response in (None, "NE", "uPD"):
            continue
        if response not in ("CR", "PR"):
            return None
        if response in kinds and at_least(days[later] - days[start], confirm_days):
            return later
    return None


def has_confirmed_cr(days: Sequence[float], responses: Sequence[Response | None], *, confirm_days: float) -> bool:
    """Whether a complete response has been confirmed by another (RANO-BM: at least 4 weeks later)."""
    return any(
        response == "CR" and confirming_session(days, responses, t, ("CR",), confirm_days) is not None
        for t, response in enumerate(responses)
    )


def continue_response(
    days: Sequence[float], responses: Sequence[Response | None], *, confirm_days: float
) -> list[Response | None]:
    """Show SD after a confirmed PR as PR until PD, as known at each session (answers to questions on RECIST 1.1)."""
    shown: list[Response | None] = []
    since = 0
    for i, response in enumerate(responses):
        if response == "PD":
            since = i + 1
        known, known_days = responses[since : i + 1], days[since : i + 1]
        lasted = any(
            earlier in ("CR", "PR") and confirming_session(known_days, known, j, ("CR", "PR"), confirm_days) is not None
            for j, earlier in enumerate(known)
        )
        shown.append("PR" if response == "SD" and lasted else response)
    return shown


def revise_unconfirmed_cr(responses: Sequence[Response], reappeared: Sequence[bool]) -> list[Response]:
    """Read a complete response as what follows it, where a lesion reappeared before it was confirmed.

    The lesion was most likely there all the time: PR at both sessions (RECIST 1.1; answers to questions on it). Growth
    that is PD leaves the complete response as it is.

    Parameters
    ----------
    responses : sequence of str
    reappeared : sequence of bool
        Whether a lesion of baseline is there at a session, and no complete response was confirmed before.
    """
    read = list(responses)
    for t in [t for t, there in enumerate(reappeared) if there and responses[t] in ("PR", "NON_CR_NON_PD")]:
        for u in range(t - 1, -1, -1):
            if read[u] == "CR":
                read[u] = read[t]
            elif read[u] not in ("NE", "uPD"):
                break
    return read


def confirm_responses(
    days: Sequence[float], responses: Sequence[Response | None], *, confirm_days: float
) -> list[bool | None]:
    """Tell for each CR and PR whether it lasted (RANO-BM: at least 4 weeks, and between them nothing worse than PR).

    Returns
    -------
    list of bool or None
        True from the first to the confirming session; None where the response is neither CR nor PR.
    """
    confirmed: list[bool | None] = [False if r in ("CR", "PR") else None for r in responses]
    either: tuple[Response, ...] = ("CR", "PR")
    for start, response in enumerate(responses):
        if response not in either:
            continue
        # A complete response is confirmed by another only.
        for kinds in (("CR",), either) if response == "CR" else (either,):
            end = confirming_session(days, responses, start, kinds, confirm_days)
            for t in range(start, start if end is None else end + 1):
                if responses[t] == "PR" or (responses[t] == "CR" and kinds == ("CR",)):
                    confirmed[t] = True
    return confirmed
