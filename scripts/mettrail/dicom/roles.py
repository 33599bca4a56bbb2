"""What a series is: the role that it plays in a session, told from contrast tags, names and times."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mettrail.dicom.series import Series, find_number, find_value
from mettrail.images import MIN_SLICES

ENHANCED, T1, T2, FLAIR = "ce-gadolinium_T1w", "T1w", "T2w", "FLAIR"
ROLES = (ENHANCED, T1, T2, FLAIR)

# Words of series descriptions. A word ends where letters end: `t1_mprage`, `T1MPR`, `ax T1 +C`.
_NOT_ANATOMY = re.compile(
    r"(?<![a-z])(localizer|localiser|scout|survey|loc|dwi|diff\w*|adc|trace\w*|dti|perf\w*|dsc|dce|asl|swi|swan|hemo\w*"
    r"|tof|angio\w*|mra|mrv|bold|fmri|sub|subtr\w*|mip|phase|field.?map\w*|cal|calib\w*|csi|spectro\w*)(?![a-z])"
    r"|t2\s?\*|b\d{3,4}(?!\d)",
    re.IGNORECASE,
)
_FLAIR = re.compile(r"flair|dark.?fluid|tirm", re.IGNORECASE)
_T1 = re.compile(r"t1|mp2?rage|bravo|f?spgr|vibe|(?<![a-z])tfe", re.IGNORECASE)
_T2 = re.compile(r"t2", re.IGNORECASE)
_AFTER = re.compile(
    r"(?<![a-z])(gd|gado\w*|post(?!.?op)|ce|km|kontrast\w*|contrast\w*|enhanced|mdc|c\+)(?![a-z])|\+\s?(c|gd|km)(?![a-z])",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    r"(?<![a-z])(pre|pre.?contrast|nativ\w*|ohne|without|w/o|wo|sans|unenhanced|non?.?contrast\w*|non.?enhanced)(?![a-z])",
    re.IGNORECASE,
)
# What stands in ContrastBolusAgent where none was given.
_NO_AGENT = re.compile(r"(no|none|n/?a|0|without|ohne|nativ\w*|no contrast)?", re.IGNORECASE)
# ImageType of what was computed from another series.
_COMPUTED = ("SECONDARY", "MPR", "REFORMATTED", "PROJECTION IMAGE", "SUBTRACTION", "ADC")
# Times of sequences, ms: free water is dark at an inversion time of 1.7 s or more, T2 shows at an echo time from 60 ms.
_FLAIR_TI_MS, _T2_TE_MS, _T2_TR_MS, _T1_TE_MS, _T1_TR_MS, _T1_TI_MS = 1700, 60, 1500, 30, 1000, (300, 1400)


@dataclass(frozen=True)
class Judgement:
    """What a series is taken for.

    Parameters
    ----------
    role : str
        One of `ROLES`; empty where it is none.
    why : str
        In one sentence without a full stop.
    is_sure : bool
        False where tags and name disagree, or where the scan has no place in the world: a person has to decide.
    """

    role: str
    why: str
    is_sure: bool = True


def judge_series(series: Series) -> Judgement:
    """Say which role a series plays, and why.

    What is no scan of anatomy goes by modality, ImageType, number of slices and name; the weighting by name, or by
    echo, repetition and inversion times where the name says nothing; the contrast agent by the contrast tags and by
    name, which have to agree where both speak.
    """
    refused = _find_other_use(series)
    if refused:
        return Judgement("", refused)
    weighting, why = _tell_weighting(series)
    if weighting != T1:
        return _place(series, Judgement(weighting, why))
    tag, named = _find_agent(series), _AFTER.search(series.description)
    plain = _BEFORE.search(series.description)
    if tag and plain:
        asked = f"{why}; {tag}, but the name says {plain[0].strip()!r}: decide whether it is {ENHANCED} or {T1}"
        return Judgement(ENHANCED, asked, is_sure=False)
    told = tag or (f"the name says {named[0].strip()!r}" if named and not plain else "")
    if told:
        return _place(series, Judgement(ENHANCED, f"{why}; contrast agent: {told}"))
    return _place(series, Judgement(T1, f"{why}; no contrast agent in tags or name"))


def _place(series: Series, judgement: Judgement) -> Judgement:
    """Return a judgement that says what the file lacks or is, where that matters."""
    if judgement.role and series.fault:
        why = f"{judgement.why}; {series.fault}, so that its voxels have no place: export it again, or do not use it"
        return Judgement(judgement.role, why, is_sure=False)
    if judgement.role and series.is_multiframe:
        return Judgement(judgement.role, f"{judgement.why}; an enhanced multi-frame file of {series.images} slices")
    return judgement


def _find_other_use(series: Series) -> str:
    modality = str(series.header.get("Modality") or "none")
    computed = [str(word) for word in series.header.get("ImageType") or [] if str(word).upper() in _COMPUTED]
    named = _NOT_ANATOMY.search(series.description)
    if modality != "MR":
        return f"modality {modality}"
    if computed:
        return f"computed from another series (ImageType {computed[0]})"
    if named:
        return f"the name says {named[0].strip()!r}"
    return f"only {series.images} slices" if series.images < MIN_SLICES else ""


def _tell_weighting(series: Series) -> tuple[str, str]:
    t1, t2 = _T1.search(series.description), _T2.search(series.description)
    flair = _FLAIR.search(series.description)
    # T1 FLAIR is a T1w with an inversion pulse.
    for role, found in ((FLAIR, None if t1 else flair), (T1, t1), (T2, t2)):
        if found:
            return role, f"the name says {found[0]!r}"
    echo = find_number(series.header, "EchoTime", "EffectiveEchoTime")
    repetition = find_number(series.header, "RepetitionTime")
    inversion = find_number(series.header, "InversionTime", "InversionTimes")
    times = f"TE {_show(echo)}, TR {_show(repetition)}, TI {_show(inversion)} ms"
    if echo is not None and repetition is not None:
        if echo >= _T2_TE_MS and (inversion or 0) >= _FLAIR_TI_MS:
            return FLAIR, times
        if echo >= _T2_TE_MS and repetition >= _T2_TR_MS and not inversion:
            return T2, times
        prepared = inversion is not None and _T1_TI_MS[0] <= inversion <= _T1_TI_MS[1]
        if echo <= _T1_TE_MS and (prepared or repetition <= _T1_TR_MS):
            return T1, times
    return "", f"neither name nor times tell what it is ({times})"


def _show(number: float | None) -> str:
    return "unknown" if number is None else f"{number:g}"


def _find_agent(series: Series) -> str:
    """Return the contrast tag that says an agent was given; empty where none does."""
    agent = str(find_value(series.header, "ContrastBolusAgent") or "").strip()
    if not _NO_AGENT.fullmatch(agent):
        return f"ContrastBolusAgent {agent!r}"
    for keyword in ("ContrastBolusAgentSequence", "ContrastBolusStartTime"):
        if not agent and find_value(series.header, keyword):
            return keyword
    return "ContrastBolusVolume" if not agent and find_number(series.header, "ContrastBolusVolume") else ""
