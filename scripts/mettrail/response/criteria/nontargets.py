"""Non-target lesions: what growth is progression. A reader decides that by eye, sizes stand in for it (settings)."""

from __future__ import annotations

from collections.abc import Sequence

from mettrail.response.criteria.tolerance import at_least
from mettrail.response.criteria.words import NA, Response, State
from mettrail.response.rules import Rules


def nontarget_has_grown(ld_mm: float, smallest_mm: float, *, rules: Rules) -> bool:
    """Whether one non-target lesion has grown as one that progresses: by mm and share, to a least diameter."""
    by_share = at_least(ld_mm, (1 + rules.nontarget_pd) * smallest_mm)
    grown = at_least(ld_mm - smallest_mm, rules.nontarget_pd_mm) and by_share
    return grown and at_least(ld_mm, rules.nontarget_min_mm)


def burden_has_grown(volume_ml: float, smallest_ml: float, *, rules: Rules) -> bool:
    """Whether all non-target lesions have grown together: by mL and share."""
    by_ml = at_least(volume_ml - smallest_ml, rules.nontarget_volume_pd_ml)
    return by_ml and at_least(volume_ml, (1 + rules.nontarget_volume_pd) * smallest_ml)


def edema_has_grown(volume_ml: float, smallest_ml: float, *, rules: Rules) -> bool:
    """Whether edema has grown, by mL and times its smallest: to be pointed out, never PD."""
    by_ml = at_least(volume_ml - smallest_ml, rules.edema_growth_ml)
    return by_ml and at_least(volume_ml, rules.edema_growth_ratio * smallest_ml)


def nontarget_response(
    states: Sequence[State], *, grown: bool, burden_grown: bool, target: Response, after_cr: bool = False
) -> tuple[Response, bool]:
    """Judge the lesions at baseline that are not targets (RANO-BM: unequivocal progression, read here from sizes).

    Unequivocal is said of the overall tumour burden: growth of one such lesion is usually not enough while the targets
    are stable or shrink (RECIST 1.1). Then all of them together must have grown, too; otherwise a reader should decide.
    Edema never decides.

    Parameters
    ----------
    states : sequence of str
        Of each, now: ``present``, ``absent``, ``merged``, ``ne``.
    grown : bool
        Whether one has grown (`nontarget_has_grown`).
    burden_grown : bool
        Whether they have grown together (`burden_has_grown`).
    target : str
        Response of the targets at this session.
    after_cr : bool
        Whether a confirmed complete response came before: then whatever reappears is PD (answers to questions on
        RECIST 1.1).

    Returns
    -------
    response : str
        ``PD``, else ``NON_CR_NON_PD`` if one persists, else ``NE`` if one is not evaluable, else ``CR``; ``n/a``
        without any.
    review : bool
        Whether a reader should decide.
    """
    if not len(states):
        return NA, False
    if burden_grown or (after_cr and "present" in states) or (grown and target not in ("SD", "PR")):
        return "PD", False
    if "present" in states or "merged" in states:
        return "NON_CR_NON_PD", grown
    return "NE" if "ne" in states else "CR", grown
