"""Response of a session: targets, non-target lesions and new lesions combined, then with steroids and the patient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mettrail.response.criteria.words import NA, Clinical, NewLesions, Response, Steroids


def imaging_response(
    target: Response,
    nontarget: Response,
    new: NewLesions,
    *,
    immunotherapy: bool = False,
    new_before: bool = False,
) -> Response:
    """Combine targets, non-targets and new lesions (RANO-BM; RECIST 1.1 for rows with NE, ours for ``equivocal``).

    Without any disease, at baseline or since, it is ``ND``, no disease: what can be evaluated is not NE.

    Parameters
    ----------
    target, nontarget : str
        ``n/a`` if there are none.
    new : str
        ``none``, ``equivocal`` or ``definite``.
    immunotherapy : bool
        New lesions alone are then no progression yet (RANO-BM; iRECIST, Seymour et al. 2017).
    new_before : bool
        Whether a new lesion that has not been rejected was there at an earlier session.
    """
    if target == "PD" or nontarget == "PD":
        return "PD"
    if new == "definite":
        return "uPD" if immunotherapy else "PD"
    if target == NA:
        if nontarget == "CR":
            return "CR" if new == "none" else "NON_CR_NON_PD"
        if nontarget == NA and new == "none" and not new_before:
            return "ND"
        return "NON_CR_NON_PD" if nontarget == "NON_CR_NON_PD" else "NE"
    if target == "CR":
        return "CR" if nontarget in ("CR", NA) and new == "none" else "PR"
    return target


def overall_response(imaging: Response, steroids: Steroids, clinical: Clinical) -> Response | Literal["hold"]:
    """Combine the images with steroids and clinical status (RANO-BM); ``hold`` where more steroids forbid a reading.

    Unknown counts as none and stable (ours; the column ``clinical_assumed`` says so).
    """
    if imaging == "PD" or clinical == "worse":
        return "PD"
    if imaging not in ("CR", "PR", "SD", "NON_CR_NON_PD"):
        return imaging
    if steroids == "increased":
        return "hold"
    if imaging == "CR" and steroids in ("stable", "decreased"):
        return "PR"
    return imaging


def follow_overall(
    imaging: Sequence[Response], steroids: Sequence[Steroids], clinical: Sequence[Clinical]
) -> tuple[list[Response], list[bool]]:
    """Give the overall response of each session, as known at the last.

    An increase of steroids alone is no progression (RANO-BM): the session waits (NE). When the dose is known to be
    lower again at a later session, the images decide; when the patient has got worse first, it was PD from the
    increase on (as in RANO 2.0, Wen et al. 2023). Doses and clinical status count at sessions whose images cannot be
    read, too.

    Returns
    -------
    responses : list of str
    held : list of bool
        Whether a session still waits.
    """
    responses: list[Response] = []
    held: list[bool] = []
    for t, image in enumerate(imaging):
        response = overall_response(image, steroids[t], clinical[t])
        for later in range(t + 1, len(imaging)) if response == "hold" else ():
            if clinical[later] == "worse":
                response = "PD"
                break
            if steroids[later] not in ("increased", "unknown"):
                response = overall_response(image, steroids[later], clinical[t])
                break
        held.append(response == "hold")
        responses.append("NE" if response == "hold" else response)
    return responses, held
