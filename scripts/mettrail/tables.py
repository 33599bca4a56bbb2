"""Every column of the final tables: name, type, unit, meaning, levels; and the only place that reads or writes tables.

Three kinds of table end up in the hands of people: ``lesions`` (one row per lesion and session), ``sessions`` and
``patients``; whoever scores segmentations gets those of the evaluation. They are TSV with ``n/a`` for what is missing
and a JSON dictionary of the same stem, as BIDS wants it, and CSV mirrors with empty fields for those who concatenate
(the evaluation has these alone). Booleans are ``true`` and ``false`` in TSV, as BIDS has them, and ``TRUE`` and
``FALSE`` in CSV, which R and spreadsheets read as logical values. Numbers are rounded here, when written, and nowhere
before.

Tables that stages hand to each other are plain TSV (`write_tsv`, `read_tsv`): any columns, numbers exact.

In memory, text is ``str``, whole numbers ``Int64``, booleans ``boolean``, all others ``float64``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mettrail.errors import InputError

MISSING = "n/a"
DTYPES = {"string": "str", "enum": "str", "integer": "Int64", "float": "float64", "boolean": "boolean"}
# Decimals when written. Finer than any scan, coarse enough that a table does not pretend.
DECIMALS = {"mm": 3, "mm^2": 3, "mm^3": 3, "mL": 6, "%": 3, "Gy": 3, "d": 2, "1": 4, "1/year": 3}
# Numbers without a unit (means of any score, p) have as many figures instead.
FIGURES = 6
# How booleans are written: as BIDS has them, and as R and spreadsheets read them.
TSV_BOOLEANS, CSV_BOOLEANS = ("true", "false"), ("TRUE", "FALSE")


@dataclass(frozen=True)
class Column:
    """One column of a final table.

    Parameters
    ----------
    name, description : str
    dtype : str
        ``string``, ``enum``, ``integer``, ``float`` or ``boolean``.
    unit : str
        ``mm``, ``mm^2``, ``mm^3``, ``mL``, ``%``, ``d``, ``1`` (a fraction), ``1/year`` or empty (other numbers, text).
    levels : dict of str to str
        Allowed values and what they mean. Values of a list are joined by ``;``.
    revisable : bool
        Whether a cell may change when a later session arrives. All other cells of earlier sessions never do.
    many, open_ : bool
        Whether a cell is a ``;``-joined list, and whether values beyond the levels are allowed.
    """

    name: str
    dtype: str
    description: str
    unit: str = ""
    levels: Mapping[str, str] | None = None
    revisable: bool = False
    many: bool = False
    open_: bool = False


def _text(name, description, **more):
    return Column(name, "string", description, **more)


def _enum(name, description, levels, **more):
    return Column(name, "enum", description, levels=levels, **more)


def _int(name, description, unit="", **more):
    return Column(name, "integer", description, unit, **more)


def _float(name, description, unit, **more):
    return Column(name, "float", description, unit, **more)


def _bool(name, description, **more):
    return Column(name, "boolean", description, **more)


_PARTICIPANT = _text("participant_id", "Patient, as in the dataset.")
_SESSION = _text("session_id", "Session, as in the dataset.")
_DAYS = _int("days_from_t0", "Days from the start of treatment; from the baseline session where that is unknown.", "d")
_NO_EDEMA = "n/a unless a person drew it or the networks saw FLAIR or T2w"
_PCT = "n/a where the reference is 0 or unknown"

_RESPONSE = {
    "CR": "complete response: nothing left",
    "PR": "partial response: smaller than at baseline by the threshold",
    "SD": "stable disease: neither",
    "PD": "progressive disease: larger than at its smallest by the threshold, or new",
    "NE": "not evaluable",
}
_OVERALL = _RESPONSE | {
    "ND": "no disease: no lesion at this session, at baseline or between",
    "uPD": "unconfirmed progression: only new lesions, under immunotherapy",
    "NON_CR_NON_PD": "no target lesions, and the others neither gone nor progressing",
}
_NONTARGET = {
    "CR": "all gone and no new lesion",
    "NON_CR_NON_PD": "at least one persists, none progresses",
    "PD": "unequivocal progression",
    "NE": "cannot be told",
}
_NEW = {"none": "no new lesion", "equivocal": "only new lesions that may not be real", "definite": "a real new lesion"}
_FLAGS_LESION = {
    "nonconvex": "the longest diameter inside is shorter than the one that may leave the lesion",
    "oblique": "slices are tilted by more than 20 degrees from axial",
    "thick_slice": "slices thicker than 5 mm",
    "not_axial_acq": "thick slices that are not axial: not measurable",
    "cystic_only": "hardly any enhancement, as if purely cystic: not measurable",
    "nonenhancing_remnant": "only necrosis left: counts as absent for the response",
    "probable_miss": "the lesion was most likely there at the session where it was not seen",
    "merged_across_roles": "a target and another lesion became one: the target carries its size",
    "treatment_effect_possible": "grew in the months after radiation, which radiation itself can cause",
    "fov_edge": "touches the edge of the image",
    "coalesced": "one with another lesion at this session: cut from it, or merged",
    "weak_match": "match_score below the least share of match: frac: the lesion may be another one",
    "dural": "a reader calls it dural, which is not measurable",
    "nontarget_review": "grew as a non-target lesion that progresses would, while the overall tumour burden did not",
}
_FLAGS_SESSION = {
    "no_dates": "the order of sessions is known, the days are not",
    "same_date": "another session has the same date: the order of the two is a guess",
    "treatment_before_scans": "treatment began before the first scan",
    "treatment_date_unused": "a date of treatment is given, but no dates of sessions",
    "sum_incomplete": "a target could not be measured: no sum",
    "no_targets": "no measurable lesion at baseline",
    "no_lesions_at_baseline": "nothing to follow but new lesions",
    "brain_volume": "the volume of the brain mask is unlike an adult's: look at its outline",
    "brain_fit": "what the brain mask holds looks little like a brain: look at its outline",
    "brain_replaced": "the brain mask is that of the second method: the first one's failed",
    "brain_stripped": "the scan was an extracted brain already: what is above 0 was taken",
    "steroid_hold": "more steroids than at baseline: the response cannot be read",
    "treatment_effect_possible": "all that grew was irradiated months before",
    "coalesced": "the sums hold lesions that touch: cut, merged, or measured again like with like",
    "residual_shift": "lesions lay 2 mm or more from where the registration put them: undone, see residual_shift_mm",
    "probable_miss": "a lesion was most likely overlooked here: its size is n/a",
    "weak_match": "a lesion may be another one: see match_score",
    "nontarget_review": "a non-target lesion grew, the overall tumour burden did not: a reader should decide",
    "edema_progression": "edema at least doubled and grew by 10 mL since its smallest; never PD by itself",
}
_FLAGS_PATIENT = {
    "no_dates": "the order of sessions is known, the days are not: nothing can be confirmed",
    "no_evaluable_session": "not one session can be evaluated",
    "no_followup": "no evaluable session after baseline",
    "no_lesions": "no lesion at any session",
    "no_lesions_at_baseline": "no lesion at the baseline session",
    "no_targets": "no measurable lesion at baseline",
    "target_lost": "a target of the earlier run named in frozen was not found at baseline",
    "gap_before_pd": "two or more sessions right before the progression could not be evaluated",
    "clinical_assumed": "steroids or clinical status are unknown at some session: taken as none and stable",
    "start_from_treatments": "participants.tsv gives no start of treatment: it is the day of the first treatment",
}


def _flags(known, **more):
    return Column("flags", "enum", "Remarks, joined by ;.", levels=known, many=True, open_=True, **more)


LESIONS = (
    _PARTICIPANT,
    _SESSION,
    _text("track_id", "Lesion: one number for life, never reused."),
    _DAYS,
    _bool("is_baseline", "Whether this is the baseline session."),
    _enum(
        "status",
        "State of the lesion at this session.",
        {
            "present": "seen",
            "absent": "evaluable session, not seen",
            "merged": "has become one with another lesion (merged_into)",
            "not_evaluable": "the session, or this lesion in it, cannot be evaluated",
        },
    ),
    _enum(
        "event",
        "What happened since the session before.",
        {
            "baseline": "first session of the patient: nothing before it",
            "persist": "still there",
            "new": "seen for the first time",
            "split": "in several pieces, or apart again from a lesion it was one with",
            "merged_into": "became one with another lesion",
            "reappeared": "seen again after an evaluable session without it",
            "absent": "not seen",
            "not_evaluable": "cannot be told",
        },
        revisable=True,
    ),
    _text("merged_into", "The lesion that carries the size of both."),
    _int("n_fragments", "Pieces the lesion is made of."),
    _enum(
        "match_method",
        "How it was recognised.",
        {
            "overlap": "shared volume",
            "gap": "near and of like size",
            "split": "within its old footprint",
            "none": "not",
        },
    ),
    _float(
        "match_score",
        "How well it fits where the lesion was last: share of the smaller of both masks that lies within match: "
        "dilate_mm of the other. 1 is certain, 0 is farther away; merged: of its last mask in the other lesion.",
        "1",
    ),
    _enum(
        "role",
        "Part it plays in the response at this session. Baseline rules: RANO-BM, Lin et al. 2015.",
        {
            "target": "measurable at baseline and chosen: in the sum of diameters",
            "nontarget": "there at baseline, not chosen",
            "new": "born after baseline",
            "recurrent": "seen before baseline, gone at baseline, back",
            "prebaseline": "seen before baseline, not at it",
            "candidate": "only ever seen as a candidate so far: in no sum, no count and no response",
            "excluded": "left out by a reader",
        },
    ),
    _bool(
        "measurable",
        "At this session: enhancing, long and wide enough, on enough slices, not cystic, not dural (RANO-BM); or as a "
        "reader says.",
    ),
    _float("ld_mm", "Longest diameter on an axial slice; 0 if absent, also where ld_rano_mm turns out n/a.", "mm"),
    _float("perp_mm", "Longest diameter perpendicular to it on the same slice; 0 if absent.", "mm"),
    _float("ld_feret_mm", "Longest diameter on an axial slice that may leave the lesion; 0 if absent.", "mm"),
    _float("max3d_mm", "Longest diameter in space; 0 if absent.", "mm"),
    _float("esd_mm", "Diameter of the sphere of the same volume; 0 if absent.", "mm"),
    _float("extent_z_mm", "Number of slices times their spacing; 0 if absent.", "mm"),
    _float("border_distance_mm", "Distance to the edge of the brain mask; n/a if absent.", "mm"),
    _float("ld_rano_mm", "Diameter as it enters sums: see ld_source.", "mm", revisable=True),
    _enum(
        "ld_source",
        "Where ld_rano_mm comes from.",
        {
            "measured": "ld_mm",
            "floor5": "below 5 mm, set to 5 mm",
            "tsm5": "a reader called it too small to measure: 5 mm",
            "fragments": "sum over its pieces",
            "merged": "one with another lesion, which carries the size of both (0), or carrying it itself",
            "absent": "not seen, or no longer enhancing: 0",
            "probable_miss": "not seen, yet back at the next session with its size: n/a",
            "override": "a reader's value",
            "ne": "not evaluable: n/a",
        },
        revisable=True,
    ),
    _float("vol_rano_ml", "Volume as it enters sums: see vol_source.", "mL", revisable=True),
    _enum(
        "vol_source",
        "Where vol_rano_ml comes from.",
        {
            "measured": "vol_wl_ml",
            "merged": "one with another lesion, which carries the volume of both (0), or carrying it itself",
            "absent": "not seen, or no longer enhancing: 0",
            "probable_miss": "not seen, yet back at the next session with its size: n/a",
            "override": "a reader called it gone: 0",
            "ne": "not evaluable, or a reader measured what the mask lacks: n/a",
        },
        revisable=True,
    ),
    _float("bidim_mm2", "ld_mm times perp_mm; 0 if absent.", "mm^2"),
    _float("surface_mm2", "Area of its surface; 0 if absent.", "mm^2"),
    _int("ld_slice", "Index of the slice of ld_mm along the slice axis of the image, from 0."),
    *(
        _float(f"ld_p{end}_{axis}_mm", f"{name} endpoint of ld_mm, {axis}, RAS+, the image's own space.", "mm")
        for end, name in ((1, "First"), (2, "Second"))
        for axis in "xyz"
    ),
    _float("slice_spacing_mm", "Distance of the axial slices of the image.", "mm"),
    _int("n_voxels", "Voxels of the whole lesion; 0 if absent."),
    _int("n_slices", "Axial slices with at least one of them; 0 if absent."),
    _float("vol_wl_mm3", "Volume of the whole lesion: enhancing and necrosis, without edema; 0 if absent.", "mm^3"),
    _float("vol_et_mm3", "Volume that enhances; 0 if absent.", "mm^3"),
    _float("vol_nc_mm3", "Volume of necrosis; 0 if absent.", "mm^3"),
    _float("vol_ed_mm3", f"Volume of edema nearest to this lesion; 0 if absent; {_NO_EDEMA}.", "mm^3"),
    _float("vol_wl_ml", "vol_wl_mm3 in millilitres; where a lesion was overlooked, vol_rano_ml is n/a.", "mL"),
    _float("necrosis_fraction", "vol_nc_mm3 over vol_wl_mm3; n/a if absent.", "1"),
    _bool("touches_border", "Whether it touches the edge of the brain or of the image (dural?)."),
    _bool("enhancing", "Whether it still enhances: what RANO-BM is about."),
    *(_float(f"c{a}_mm", f"Centre, {a}, RAS+, the image's own space.", "mm") for a in "xyz"),
    *(_float(f"c{a}_ref_mm", f"Centre, {a}, RAS+, the patient's reference space.", "mm") for a in "xyz"),
    *(
        _float(
            f"{size}_change_{since}_pct",
            f"Change of {what} from {when}, like with like, as known at this session; {_PCT}; n/a if born later.",
            "%",
        )
        for size, what in (("ld", "ld_rano_mm"), ("vol", "vol_rano_ml"))
        for since, when in (("baseline", "baseline"), ("nadir", "its smallest before"))
    ),
    _enum(
        "lesion_response",
        "The rules for the sum, applied to this lesion alone, from baseline or from its first session if born later. "
        "As known at this session: of a lesion that was overlooked it says CR; later sessions leave that one out.",
        _RESPONSE,
    ),
    _enum(
        "new_lesion_status",
        "For lesions born after baseline.",
        {
            "definite": "large enough and seen on enough slices when first seen",
            "equivocal": "may not be real",
            "confirmed": "was equivocal; later definite, or seen at two more sessions: dates from its first",
            "rejected": "was equivocal; not there at an evaluable session before it was confirmed",
        },
        revisable=True,
    ),
    _float(
        "mean_probability",
        "Mean probability of whole lesion in its voxels, the higher of both networks'; their thresholds are 0.5. n/a "
        "if absent or drawn by a person.",
        "1",
    ),
    _enum(
        "seen_by",
        "Who saw it at this session.",
        {
            "manual": "a person, who drew it",
            "both": "detection and re-segmentation",
            "detection": "detection alone, which does not know the past",
            "resegmentation": "re-segmentation alone, which knows the last session's lesions",
            "sensitive": "neither at its threshold: the more sensitive model, or detection from its lower threshold on",
            "propagation": "nobody: carried over from the last session (segment: fusion: rule)",
        },
    ),
    _enum(
        "confidence",
        "How sure the segmentation is: mean_probability held against the limit of those who see it (segment: "
        "confidence); n/a where it was carried over.",
        {
            "confirmed": "sure enough to count",
            "candidate": "a suspicion only: it counts in no response until it is confirmed at a later session",
        },
    ),
    _enum(
        "region",
        "Lobe or region of the brain where its centre was when first seen; from an atlas of lobes brought to the "
        "patient's reference space by an affine registration, some millimetres off. n/a outside the brain, and where "
        "the registration failed.",
        {
            "frontal": "frontal lobe, with precentral gyrus and anterior cingulate",
            "parietal": "parietal lobe, with postcentral gyrus, precuneus and posterior cingulate",
            "temporal": "temporal lobe, with hippocampus and amygdala",
            "occipital": "occipital lobe",
            "insula": "insula",
            "basal_ganglia": "caudate, putamen, pallidum, accumbens",
            "thalamus": "thalamus",
            "brainstem": "brainstem",
            "cerebellum": "cerebellum",
        },
    ),
    _enum(
        "side",
        "Side of its centre when it was first seen.",
        {"left": "left", "right": "right", "midline": "within 5 mm of the midline"},
    ),
    *(
        _float(f"{size}_{by}_{end}_{unit}", f"{what} {how}", unit_)
        for by, hows in (
            (
                "probability",
                (
                    "where the networks' probability is at least 0.75; n/a where no network saw the lesion (a person "
                    "drew it, or it was carried over), or it is absent.",
                    "where it is at least 0.25; n/a likewise.",
                ),
            ),
            (
                "half_voxel",
                (
                    "if its edge lay half a voxel further in; n/a if absent.",
                    "if its edge lay half a voxel further out, but not in another lesion; n/a if absent.",
                ),
            ),
        )
        for size, what, unit, unit_ in (
            ("vol", "Volume", "ml", "mL"),
            ("ld", "Longest diameter, on the slice of ld_mm,", "mm", "mm"),
        )
        for end, how in zip(("low", "high"), hows)
    ),
    _float(
        "vol_growth_ml_per_30_days",
        "Change of vol_wl_ml since the last evaluable session at which the lesion was present, per 30 days; n/a where "
        "either volume lies within what half a voxel of the edge makes of the other (vol_half_voxel_low_ml to "
        "vol_half_voxel_high_ml), where the lesion is one with another at either session, and without days.",
        "mL",
    ),
    _float(
        "vol_doubling_time_days",
        "Days in which its volume doubles (negative: halves) if it changed exponentially between the two (Collins "
        "1956, Schwartz 1961): ln 2 times the days over ln of the ratio of volumes; n/a where the growth is.",
        "d",
    ),
    _bool("prior_local_therapy", "Irradiated or resected before the day of this session, as far as recorded."),
    _flags(_FLAGS_LESION, revisable=True),
)

SESSIONS = (
    _SESSION,
    _PARTICIPANT,
    _DAYS,
    _enum(
        "session_role",
        "n/a if the patient has no baseline.",
        {"prebaseline": "before the baseline", "baseline": "what others are compared to", "followup": "after it"},
    ),
    _bool("evaluable", "Whether lesions could be measured and compared at this session."),
    _text("ne_reason", "Why not."),
    _text("registration_qc", "Outcome of the check of the alignment to the patient's first session."),
    _float(
        "residual_shift_mm",
        "How far lesions still lay, in the median, from where registration put them; n/a where fewer than three agree. "
        "Undone before matching where the lesions then share more of their old places.",
        "mm",
    ),
    _enum(
        "brain_method",
        "What drew the brain mask.",
        {
            "deepbet": "deepbet's networks",
            "atlas": "a registered atlas",
            "hd-bet": "HD-BET's network",
            "nonzero": "others: the scan came as an extracted brain",
        },
    ),
    _float("brain_volume_ml", "Volume of the brain mask.", "mL"),
    _float("brain_fit", "Correlation of the scan inside the brain mask with the atlas; n/a for given brains.", "1"),
    _float("brain_other_volume_ml", "Volume of the mask of a second method, for comparison.", "mL"),
    _float("brain_overlap", "Dice of both brain masks.", "1"),
    _enum(
        "baseline_flag",
        "How the patient's baseline was found.",
        {
            "in_window": "last evaluable session within the window before treatment",
            "out_of_window": "last evaluable session before treatment, too early for the window",
            "post_treatment": "no evaluable session before treatment: the first one after its start",
            "assumed": "start of treatment unknown: the first evaluable session",
        },
    ),
    _int("n_lesions", "Lesions present, without n_candidates."),
    _int("n_candidates", "Candidates present that have never been confirmed so far."),
    _int("n_targets", "Target lesions of the patient."),
    _int("n_new", "Lesions first seen at this session, after baseline, or back after being gone at baseline."),
    _int("n_absent", "Lesions seen before and not now."),
    _int("n_subthreshold", "Components too small to start a lesion."),
    _float("sum_ld_mm", "Sum of ld_rano_mm over the targets; n/a if one cannot be measured.", "mm"),
    _float("sum_ld_baseline_mm", "The same at baseline.", "mm"),
    _float(
        "ref_sum_ld_mm",
        "The sum at baseline that this session is compared to: sum_ld_baseline_mm, but where lesions are one at one of "
        "both sessions and apart at the other, both are measured cut as at the one where they are apart.",
        "mm",
    ),
    _float(
        "nadir_sum_ld_mm",
        "Smallest complete sum from baseline to the session before, like ref_sum_ld_mm like with like.",
        "mm",
    ),
    _float("sum_ld_change_baseline_pct", f"Change of the sum from ref_sum_ld_mm, like with like; {_PCT}.", "%"),
    _float("sum_ld_change_nadir_pct", f"Change of the sum from nadir_sum_ld_mm, like with like; {_PCT}.", "%"),
    _float(
        "max_lesion_increase_mm",
        "Largest growth of one target since the session of nadir_sum_ld_mm. What is merged counts as one.",
        "mm",
    ),
    _float("sum_vol_target_ml", "Sum of the volumes of the targets; n/a if one cannot be measured.", "mL"),
    _float("total_vol_wl_ml", "Volume of all lesions.", "mL"),
    _float("total_vol_et_ml", "Of which enhancing.", "mL"),
    _float("total_vol_nc_ml", "Of which necrosis.", "mL"),
    _float("total_vol_ed_ml", f"Volume of all edema, also far from any lesion; {_NO_EDEMA}.", "mL"),
    _float("edema_unassigned_mm3", f"Volume of edema too far from any lesion to belong to one; {_NO_EDEMA}.", "mm^3"),
    _float("sum_ld_final_mm", "sum_ld_mm with all that is known now.", "mm", revisable=True),
    _float("sum_vol_target_final_ml", "sum_vol_target_ml with all that is known now.", "mL", revisable=True),
    *(
        _float(
            f"total_vol_{tissue}_final_ml",
            f"total_vol_{tissue}_ml with all that is known now: n/a where a lesion was overlooked.",
            "mL",
            revisable=True,
        )
        for tissue in ("wl", "et", "nc", "ed")
    ),
    _enum("target_response", "Response of the targets, as known at this session; n/a without targets.", _RESPONSE),
    _enum(
        "target_response_continued",
        "The same, where SD after a confirmed PR stays PR until PD.",
        _RESPONSE,
    ),
    _enum(
        "nontarget_response", "Response of the other lesions, as known at this session; n/a without any.", _NONTARGET
    ),
    _enum("nt_source", "Who decided it.", {"auto": "size thresholds stand in for a reader", "reader": "a person"}),
    _enum("new_lesion", "New lesions at this session, as known then.", _NEW),
    _enum(
        "steroid_status",
        "Steroids compared to baseline.",
        {
            "none": "no more than the body makes",
            "stable": "as at baseline",
            "decreased": "less than at baseline",
            "increased": "more than at baseline",
            "unknown": "not recorded",
        },
    ),
    _enum(
        "clinical_status",
        "Clinical status.",
        {
            "improved": "better",
            "stable": "the same",
            "worse": "worse, because of the tumour",
            "unknown": "not recorded",
        },
    ),
    _bool("clinical_assumed", "Whether steroids or clinical status were unknown and taken as none and stable."),
    _enum("response_imaging_prospective", "RANO-BM from images alone, with what was known then.", _OVERALL),
    _enum("response_imaging_final", "RANO-BM from images alone, with all that is known now.", _OVERALL, revisable=True),
    _enum("response_overall_prospective", "With steroids and clinical status, with what was known then.", _OVERALL),
    _enum(
        "response_overall_final",
        "With steroids and clinical status, with all that is known now.",
        _OVERALL,
        revisable=True,
    ),
    _enum(
        "response_imaging_continued",
        "response_imaging_prospective, where a confirmed PR that is no PD stays PR.",
        _OVERALL,
    ),
    _enum(
        "response_overall_continued",
        "response_overall_prospective, where a confirmed PR that is no PD stays PR.",
        _OVERALL,
    ),
    _enum(
        "response_volumetric_prospective",
        "As response_imaging_prospective, volumes in place of diameters.",
        _OVERALL,
    ),
    _enum(
        "response_volumetric_final",
        "As response_imaging_final, volumes in place of diameters.",
        _OVERALL,
        revisable=True,
    ),
    _bool("confirmed", "CR or PR: whether it lasted long enough to count; n/a for others.", revisable=True),
    _enum(
        "pd_reason",
        "What makes response_overall_final PD or uPD, joined by ;.",
        {
            "target": "targets grew",
            "nontarget": "other lesions grew",
            "new": "a new lesion",
            "clinical": "the patient got worse",
        },
        revisable=True,
        many=True,
    ),
    _flags(_FLAGS_SESSION, revisable=True),
)

# Of the sessions' columns, those that say what is known of the brain mask.
BRAIN = tuple(c.name for c in SESSIONS if c.name.startswith("brain_"))

_TO_PD = "up to the first PD"
PATIENTS = (
    _PARTICIPANT,
    _int("n_sessions", "Sessions.", revisable=True),
    _int("n_evaluable", "Evaluable sessions.", revisable=True),
    _enum(
        "t0_source",
        "What days count from.",
        {"treatment": "the start of treatment", "baseline": "the baseline session"},
    ),
    _text("baseline_session", "The baseline session; n/a if no session can be evaluated."),
    SESSIONS[[c.name for c in SESSIONS].index("baseline_flag")],
    _int("n_lesions_baseline", "Lesions present at baseline."),
    _int("n_targets", "Target lesions at baseline; what is one with a target there counts with it."),
    _int("n_nontargets", "Other lesions at baseline, as far as known.", revisable=True),
    _int("n_tracks_total", "Lesions ever seen.", revisable=True),
    _int(
        "n_new_total", "Lesions born after baseline, or back after being gone at it, and not rejected.", revisable=True
    ),
    _float("baseline_sum_ld_mm", "Sum of the diameters of the targets at baseline.", "mm"),
    _float(
        "nadir_sum_ld_mm",
        f"Smallest complete sum from baseline {_TO_PD}, measured as at baseline.",
        "mm",
        revisable=True,
    ),
    _float(
        "best_change_ld_pct", f"Lowest change of the sum from baseline, like with like, {_TO_PD}.", "%", revisable=True
    ),
    _float("baseline_vol_ml", "Volume of the targets at baseline.", "mL"),
    _float("best_change_vol_pct", f"Lowest change of their volume from baseline, {_TO_PD}.", "%", revisable=True),
    _enum("best_response", f"Best overall response {_TO_PD}.", _OVERALL, revisable=True),
    _int("best_response_day", "Day it was first seen, from t0.", "d", revisable=True),
    _bool("best_response_confirmed", "CR or PR: whether it was confirmed; n/a for others.", revisable=True),
    _enum("best_response_volumetric", "Best response by volumes, images alone.", _OVERALL, revisable=True),
    _bool("progressed", "Whether any session is PD.", revisable=True),
    _int("progression_day", "Day of the first PD, from t0; n/a if none.", "d", revisable=True),
    _enum(
        "progression_reason",
        "What made it PD, joined by ;.",
        SESSIONS[[c.name for c in SESSIONS].index("pd_reason")].levels,
        revisable=True,
        many=True,
    ),
    _int("time_to_progression_days", "From t0 to PD, or to the last evaluable session.", "d", revisable=True),
    _bool("ttp_event", "Whether time_to_progression_days ends in PD (true) or is censored (false).", revisable=True),
    _int("last_evaluable_day", "Day of the last evaluable session, from t0.", "d", revisable=True),
    _int(
        "duration_of_response_days",
        "From the first day of a best response CR or PR to PD or the last evaluable session.",
        "d",
        revisable=True,
    ),
    _float(
        "brain_metastasis_velocity_first_per_year",
        "Confirmed new lesions since first treatment per year from it, at the first distant failure (Farris et al. "
        "2017); n/a without one, or where the start of treatment is unknown.",
        "1/year",
        revisable=True,
    ),
    _float(
        "brain_metastasis_velocity_latest_per_year",
        "The same at the latest distant failure.",
        "1/year",
        revisable=True,
    ),
    _enum(
        "brain_metastasis_velocity_group",
        "Risk group of the velocity at the first distant failure.",
        {"low": "below 4 per year", "intermediate": "4 to 13", "high": "above 13"},
        revisable=True,
    ),
    *(
        _int(name, what, "d", revisable=True)
        for name, what in (
            ("local_failure_day", "First local failure of a treated lesion, from t0."),
            ("distant_failure_day", "First appearance of the first new lesion, from t0."),
            ("leptomeningeal_day", "Leptomeningeal disease, from t0, as given."),
            ("salvage_day", "First further local treatment after the first, from t0."),
            ("death_day", "Death, from t0, as given."),
            ("last_contact_day", "Last contact, from t0: as given, else the last session."),
        )
    ),
    _enum(
        "first_event",
        "What came first, for analyses of competing risks; of one day the first of this list.",
        {
            "local": "local failure",
            "distant": "distant failure",
            "death": "death",
            "none": "none: censored at last_contact_day",
        },
        revisable=True,
    ),
    _int("first_event_day", "Its day, from t0; of none, last_contact_day.", "d", revisable=True),
    _enum(
        "lesion_count_group",
        "Lesions at baseline; n/a if none.",
        {"1-3": "one to three", "4-10": "four to ten", ">10": "more"},
    ),
    _flags(_FLAGS_PATIENT, revisable=True),
    _text("config_hash", "Fingerprint of the settings.", revisable=True),
)

# One row per lesion and local treatment, with what became of it.
TREATED_LESIONS = (
    _PARTICIPANT,
    _text("treatment_id", "Treatment, as in the patient's treatments.tsv."),
    _text("track_id", "Lesion."),
    _text("treatment_type", "Type of treatment: srs, fsrt, wbrt, surgery, or as given."),
    _int("treatment_day", "Day of the treatment, from t0.", "d"),
    _float("dose_gy", "Total dose, as given.", "Gy"),
    _int("fractions", "Number of fractions, as given."),
    _float("isodose_pct", "Prescription isodose, as given.", "%"),
    _text("pretreatment_session", "Last evaluable session up to the day of treatment with the lesion present."),
    _float("pretreatment_ld_mm", "Longest diameter there.", "mm"),
    _float("pretreatment_vol_ml", "Volume there.", "mL"),
    _float("nadir_ld_mm", "Smallest longest diameter from the pre-treatment session to failure or last scan.", "mm"),
    _int("nadir_ld_day", "Its day, from t0.", "d"),
    _float("nadir_vol_ml", "Smallest volume from the pre-treatment session to failure or last scan.", "mL"),
    _int("nadir_vol_day", "Its day, from t0.", "d"),
    _enum("best_response", "Best response by diameter from the pre-treatment size.", _RESPONSE),
    _bool("local_failure", "Whether it failed: see failure_by; n/a if not seen before the treatment."),
    _int("local_failure_day", "Day of the first failure, from t0; n/a if none.", "d"),
    _enum(
        "failure_by",
        "What said so, joined by ;.",
        {
            "diameter": "at least 20 % and 5 mm above its smallest since treatment",
            "volume": "at least 72.8 % and 0.1 mL above its smallest since treatment",
        },
        many=True,
    ),
    _bool(
        "treatment_effect_possible",
        "Whether it failed in the months after radiation in which that can cause growth; n/a if it did not fail.",
    ),
    _bool(
        "failure_confirmed",
        "Whether the next evaluable session at least 28 days later, before a further treatment, says so too; n/a "
        "without one.",
    ),
    _int("time_to_local_failure_days", "From treatment to local failure or censoring.", "d"),
    _int("censored_day", "Day of censoring, from t0; n/a after a failure.", "d"),
    _enum(
        "censored_reason",
        "Why it is censored.",
        {
            "last_scan": "no failure up to the last evaluable session",
            "retreatment": "the lesion was treated again; no failure up to the last session before",
            "no_followup": "no evaluable session after the treatment",
            "not_measurable": "no failure as long as it was measured apart: merged or not evaluable since",
            "no_pretreatment": "the lesion was not seen before the treatment: nothing to compare to",
            "death": "the patient died without failure: at the day of death",
        },
    ),
    _int("salvage_day", "Day of the next local treatment of this lesion, from t0.", "d"),
)

# Not part of every run: the target `sensitivity` makes it.
SENSITIVITY = (
    _text("setting", "Setting that was changed alone; the first row has them as they are."),
    _text("value", "Its value here."),
    _text("default", "Its value in this run."),
    _int("n_sessions", "Sessions of the cohort."),
    _int("n_sessions_changed", "Of which response_overall_final is another one."),
    _int("n_sessions_changed_volumetric", "Of which response_volumetric_prospective is another one."),
    _int("n_patients", "Patients of the cohort."),
    _int("n_patients_changed", "Of whom best_response is another one."),
    _int("n_patients_progression_changed", "Of whom progression_day is another one."),
    _int("n_tracks_total", "Lesions ever seen, all patients."),
    _text("changes", "The sessions whose response_overall_final is another one, and from what to what."),
)

# What `scripts/evaluate.py` writes.
_METHOD = _text("method", "Method, as named by the user.")
_TISSUE = _enum(
    "tissue",
    "What is scored.",
    {
        "whole": "whole lesion: labels 1 and 3; the tumour core of BraTS",
        "enhancing": "label 1",
        "edema": "label 2",
        "necrosis": "label 3",
        "with_edema": "labels 1, 2 and 3: the whole tumour of BraTS",
    },
)
_SUBSET = _enum(
    "subset",
    "Scans that count.",
    {
        "all": "all",
        "first": "first visits",
        "follow-up": "all others",
        "known": "follow-ups without a new lesion; none where last visit's labels are not given",
    },
)
_FIRST = _bool("first", "Whether this is the patient's first visit with labels.")
_KNOWN_ONLY = _bool(
    "known", "Whether it is a follow-up without a new lesion; n/a where last visit's labels are not given."
)
_DIAMETERS = {
    "<3 mm": "true lesions by the diameter of the sphere of their volume",
    "3-5 mm": "the same, from 3 mm",
    "5-10 mm": "the same, from 5 mm",
    ">10 mm": "the same, from 10 mm",
}
_SCORE_GROUPS = {
    "all": "all",
    "found": "true lesions that a predicted one touches",
    "1-3": "scans with so many true lesions",
    "4-10": "the same",
    ">10": "the same",
} | _DIAMETERS
EVALUATION_SCANS = (
    _METHOD, _PARTICIPANT, _SESSION, _TISSUE, _FIRST, _KNOWN_ONLY,
    _bool("empty", "Neither labels nor prediction have any: left out of all means but those of false lesions."),
    _float("truth_mm3", "Volume of the labels.", "mm^3"),
    _float("predicted_mm3", "Volume of the prediction.", "mm^3"),
    _float("dsc", "Dice similarity coefficient; 1 where both are empty.", "1"),
    _float("ndsc", "Dice without its preference for large lesions (Raina et al. 2023), in the brain mask.", "1"),
    _float("voxel_recall", "Voxels of the labels that are predicted.", "1"),
    _float("voxel_precision", "Predicted voxels that are in the labels.", "1"),
    _float("hd95_mm", "95th percentile of surface distance; 374 mm where one of both is empty, as in BraTS.", "mm"),
    _int("n_truth", "True lesions (26-connected)."),
    _int("n_predicted", "Predicted lesions."),
    _float(
        "f1",
        "F1 score of lesions that overlap by an IoU over 25 % (Andrearczyk et al. 2024); with --f1-connectivity and "
        "--f1-inclusive by these rules, and so tpr and fdr.",
        "1",
    ),
    _float("tpr", "True positive rate: true lesions that a predicted one overlaps so.", "1"),
    _float("fdr", "False discovery rate: predicted lesions that overlap no true one so.", "1"),
    _int("n_found", "True lesions that share a voxel with a predicted one."),
    _float("sensitivity", "n_found over n_truth.", "1"),
    _int("n_false", "Predicted lesions that share no voxel with a true one."),
    _int("n_false_10mm3", "Of these, those of 10 mm^3 and more."),
    _float("dsc_found", "Mean Dice of true lesions found with the predicted ones that touch them.", "1"),
    _float("lesionwise_dsc", "Lesion-wise Dice of BraTS-METS 2023.", "1"),
    _float("lesionwise_hd95_mm", "Lesion-wise HD95 of BraTS-METS 2023.", "mm"),
    _float(
        "lesionwise_dsc_2026",
        "Lesion-wise Dice of BraTS-METS 2026, over true lesions from 27 mm^3 (--brats-large-mm3) and all false ones; "
        "n/a without such a true lesion.",
        "1",
    ),
    _float("lesionwise_nsd_2026", "Normalised surface Dice of the same, tolerance: the shortest voxel edge.", "1"),
    _float(
        "small_f1_2026",
        "F1 score of smaller true lesions, found from a Dice of 0.2 (--brats-min-dice), with all false ones; n/a "
        "without such a true lesion.",
        "1",
    ),
    _float("pq", "Panoptic quality of lesions matched at an IoU of 0.5: rq times sq.", "1"),
    _float("rq", "Recognition quality: F1 of these.", "1"),
    _float("sq", "Segmentation quality: mean IoU of these.", "1"),
    _int("n_new", "Whole lesions that touch none of the last visit's; n/a where those are not given."),
    _int("n_vanished", "Lesions of the last visit where the labels hold none."),
    _int("n_vanished_left", "Of these, those where a false lesion is predicted."),
    _int("n_false_vanished", "False lesions that touch a vanished one."),
)  # fmt: skip
EVALUATION_LESIONS = (
    _METHOD, _PARTICIPANT, _SESSION,
    _int("lesion", "Number of the true whole lesion within its scan."),
    _FIRST, _KNOWN_ONLY,
    _bool("new", "Whether it touches none of the last visit's lesions; n/a where those are not given."),
    _float("volume_mm3", "Its volume.", "mm^3"),
    _float("diameter_mm", "Diameter of the sphere of this volume.", "mm"),
    _enum("diameter_group", "Band of diameter_mm.", _DIAMETERS),
    _bool("found", "Whether it shares a voxel with a predicted one."),
    _float("dsc", "Dice with the predicted lesions that touch it; 0 if missed.", "1"),
    _float("ndsc", "Normalised Dice of the same.", "1"),
)  # fmt: skip
EVALUATION_PROBABILITIES = (
    _METHOD, _PARTICIPANT, _SESSION, _FIRST, _KNOWN_ONLY,
    _int("n_truth", "True whole lesions inside the brain mask, where all of this table is counted."),
    _float("auc", "Area under the ROC curve of voxels; n/a without lesion voxels.", "1"),
    _float("youden_threshold", "Threshold where sensitivity and specificity together are highest on this scan.", "1"),
    _float("youden_sensitivity", "Sensitivity of voxels at youden_threshold.", "1"),
    _float("youden_specificity", "Specificity of voxels at youden_threshold.", "1"),
    _float("threshold", "Threshold of the columns that follow; chosen on other scans, or given.", "1"),
    _text("threshold_from", "Where it comes from; n/a without one."),
    _float("threshold_dsc", "Dice at threshold.", "1"),
    _float("threshold_recall", "Voxels of the labels at or above threshold.", "1"),
    _float("threshold_precision", "Voxels at or above threshold that are in the labels.", "1"),
    _float("threshold_sensitivity", "True lesions that share a voxel with a lesion at threshold.", "1"),
    _int("threshold_n_false", "Lesions at threshold that share no voxel with a true one."),
    _int("threshold_n_false_10mm3", "Of these, those of 10 mm^3 and more."),
)  # fmt: skip
EVALUATION_FROC = (
    _METHOD, _SUBSET, _TISSUE,
    _float("min_mm3", "Least volume of a lesion: smaller ones are neither found nor missed nor false.",
           "mm^3"),
    _float("threshold", "Connected components of voxels with at least this probability are predicted lesions.", "1"),
    _int("n_scans", "Scans with a probability map, also those without a lesion."),
    _int("n_lesions", "True lesions from min_mm3 on inside the brain mask, where all of this table is counted."),
    _int("n_found", "True lesions that share a voxel with a predicted one."),
    _int("n_false", "Predicted lesions that share no voxel with a true one."),
    _float("sensitivity", "n_found over n_lesions.", "1"),
    _float("false_per_scan", "n_false over n_scans.", ""),
    _bool("merging", "Whether it is below the threshold with the most false lesions: from there on predicted lesions "
                     "merge, and the row is not part of the curve."),
)  # fmt: skip
EVALUATION_SUMMARY = (
    _METHOD, _SUBSET, _TISSUE,
    _enum("group", "Scans or lesions of the subset that count.", _SCORE_GROUPS),
    _text(
        "score",
        "A column of scans or probabilities, over scans; lesion_found, lesion_dsc, lesion_ndsc, over true lesions; "
        "pooled_sensitivity, pooled_precision: n_found over all true lesions, and over n_found and n_false together; "
        "froc_sensitivity_0.125 to froc_sensitivity_8: highest sensitivity of the curve in froc at no more than so "
        "many false lesions per scan; froc_sensitivity: their mean (LUNA16).",
    ),
    _int("n", "Scans or lesions with a value."),
    _float("mean", "Mean over them, in the unit of the score.", ""),
    _float("sd", "Standard deviation (n - 1).", ""),
)  # fmt: skip
EVALUATION_TESTS = (
    _METHOD,
    _enum(
        "test",
        "What was tested.",
        {
            "paired_t": "the method is better than another: paired one-tailed t-test over patients (their means)",
            "rank_sum": "scans of a group differ from those of another: rank-sum test, two-sided, Holm's correction",
            "spearman": "the score of a lesion goes with its volume: Spearman correlation",
        },
    ),
    _text("against", "The other method, the other group, or volume_mm3."),
    _SUBSET, _TISSUE,
    _enum("group", "As in the summary.", _SCORE_GROUPS),
    _text("score", "As in the summary."),
    _int("n", "Patients, scans of both groups, or lesions."),
    _float("statistic", "t, or Spearman's rho; n/a for rank-sum tests.", ""),
    _float("p", "n/a where no test can be made.", ""),
)  # fmt: skip

KINDS = {
    "lesions": LESIONS,
    "sessions": SESSIONS,
    "patients": PATIENTS,
    "treated_lesions": TREATED_LESIONS,
    "sensitivity": SENSITIVITY,
    "evaluation_scans": EVALUATION_SCANS,
    "evaluation_lesions": EVALUATION_LESIONS,
    "evaluation_probabilities": EVALUATION_PROBABILITIES,
    "evaluation_froc": EVALUATION_FROC,
    "evaluation_summary": EVALUATION_SUMMARY,
    "evaluation_tests": EVALUATION_TESTS,
}
KEYS = {
    "sensitivity": ("setting", "value"),
    "lesions": ("participant_id", "session_id", "track_id"),
    "sessions": ("participant_id", "session_id"),
    "patients": ("participant_id",),
    "treated_lesions": ("participant_id", "treatment_id", "track_id"),
    "evaluation_scans": ("method", "participant_id", "session_id", "tissue"),
    "evaluation_lesions": ("method", "participant_id", "session_id", "lesion"),
    "evaluation_probabilities": ("method", "participant_id", "session_id"),
    "evaluation_froc": ("method", "subset", "tissue", "min_mm3", "threshold"),
    "evaluation_summary": ("method", "subset", "tissue", "group", "score"),
    "evaluation_tests": ("method", "test", "against", "subset", "tissue", "group", "score"),
}

# Sizes of lesions at two sessions, like with like: from the matching to the response.
COMPARISONS = {
    "participant_id": "str", "session_id": "str", "earlier_session_id": "str", "track_id": "str",
    "ld_now_mm": "float64", "ld_then_mm": "float64", "vol_now_ml": "float64", "vol_then_ml": "float64",
}  # fmt: skip

# Columns of tables between stages whose type must not depend on what happens to stand in them.
_BETWEEN = {
    "index": "integer", "instance": "integer", "order": "integer", "sessions_missed": "integer",
    "bbox_x_vox": "integer", "bbox_y_vox": "integer", "bbox_z_vox": "integer", "sub": "string", "ses": "string",
    "prior": "string", "fragments": "string", "name": "string", "probable_miss": "boolean", "below_birth": "boolean",
    "days": "float", "slice_spacing_mm": "float", "ld_fragments_mm": "float",
}  # fmt: skip
_KNOWN = {c.name: c.dtype for c in (*LESIONS, *SESSIONS, *PATIENTS, *TREATED_LESIONS)} | _BETWEEN


def columns(kind: str) -> list[str]:
    """Names of the columns of a table, in order."""
    return [c.name for c in KINDS[kind]]


def levels(kind: str, name: str) -> list[str]:
    """Values that a column may have."""
    return list(next(c.levels for c in KINDS[kind] if c.name == name))


def empty(kind: str) -> pd.DataFrame:
    """Make a table without rows, with all columns and their types."""
    return pd.DataFrame({c.name: pd.Series(dtype=DTYPES[c.dtype]) for c in KINDS[kind]})


def make_table(rows: Iterable[Mapping] | pd.DataFrame, kind: str) -> pd.DataFrame:
    """Check rows against the list of columns and give each column its type.

    Parameters
    ----------
    rows : iterable of dict, or DataFrame
        ``None`` and NaN are missing.
    kind : str
        ``lesions``, ``sessions`` or ``patients``.

    Returns
    -------
    DataFrame
        Columns in the order of the list. Days are whole numbers from here on.

    Raises
    ------
    InputError
        A column too many or too few, a value that is not among the levels, a number where there should be none, a row
        twice.
    """
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    if frame.empty and len(frame.columns) == 0:
        return empty(kind)
    extra, lacking = set(frame.columns) - set(columns(kind)), set(columns(kind)) - set(frame.columns)
    if extra or lacking:
        found = [f"unknown: {', '.join(sorted(extra))}"] * bool(extra)
        found += [f"lacking: {', '.join(sorted(lacking))}"] * bool(lacking)
        raise _refuse(kind, "; ".join(found), f"the {len(KINDS[kind])} columns of tables.py and no others")
    frame = pd.DataFrame({c.name: _typed(frame[c.name], c, kind) for c in KINDS[kind]}).reset_index(drop=True)
    keys = list(KEYS[kind])
    if frame[keys].isna().any(axis=None):
        raise _refuse(kind, f"a row without {' or '.join(keys)}", "identity in every row")
    twice = frame[frame.duplicated(keys)]
    if len(twice):
        raise _refuse(
            kind, f"two rows of {' '.join(map(str, twice.iloc[0][keys]))}", f"one row per {' and '.join(keys)}"
        )
    return frame


def _is_missing(value):
    return value is None or value is pd.NA or value is pd.NaT or value != value  # not equal to itself: NaN


def _refuse(kind, found, expected):
    return InputError(
        f"table {kind}", found=found, expected=expected, advice="Mend what makes this table.", reason="bad_table"
    )


def _typed(values, column, kind):
    values = [None if _is_missing(v) or v in ("", MISSING) else v for v in values.tolist()]
    bad = None
    if column.dtype in ("string", "enum"):
        series = pd.Series([None if v is None else str(v) for v in values], dtype="str")
        bad = {v for v in values if v is not None and any(c in str(v) for c in "\t\r\n")}
        if column.dtype == "enum" and not column.open_:
            given = {p for v in values if v is not None for p in (str(v).split(";") if column.many else [str(v)])}
            bad |= given - set(column.levels)
    elif column.dtype == "boolean":
        bad = {v for v in values if v is not None and v not in (True, False)}
        series = pd.Series([None if v is None or bad else bool(v) for v in values], dtype="boolean")
    else:
        numbers, bad = [], set()
        for v in values:
            try:
                numbers.append(math.nan if v is None else float(v))
            except (TypeError, ValueError):
                bad.add(v)
        if column.dtype == "float":
            bad |= {n for n in numbers if math.isinf(n)}
            series = pd.Series(numbers, dtype="float64")
        else:
            if column.unit != "d":  # days may come as fractions; a count may not
                bad |= {n for n in numbers if not math.isnan(n) and n != round(n)}
            series = pd.Series([None if math.isnan(n) else math.floor(n + 0.5) for n in numbers], dtype="Int64")
    if bad:
        expected = ", ".join(column.levels) if column.dtype == "enum" else f"{column.dtype}, on one line"
        raise _refuse(kind, f"{column.name} = {', '.join(sorted(map(str, bad)))}", f"{expected} or n/a")
    return series


def write_table(table: pd.DataFrame, path: Path, kind: str) -> None:
    """Write a final table as TSV with ``n/a``, and its dictionary beside it as JSON.

    Parameters
    ----------
    table : DataFrame
        All columns of its kind and no others, in any order.
    path : path
        Ends in ``.tsv``; the dictionary has the same stem.
    kind : str
        ``lesions``, ``sessions`` or ``patients``.
    """
    _write(table, path, kind, separator="\t", missing=MISSING, booleans=TSV_BOOLEANS)


def write_csv_mirror(table: pd.DataFrame, path: Path, kind: str) -> None:
    """Write a final table as CSV, and its dictionary beside it as JSON.

    Fields are empty for what is missing; booleans are ``TRUE`` and ``FALSE``, which R and spreadsheets understand.
    """
    _write(table, path, kind, separator=",", missing="", booleans=CSV_BOOLEANS)


def _write(table, path, kind, *, separator, missing, booleans):
    path = Path(path)
    table = make_table(table, kind)
    shown = pd.DataFrame({c.name: [_shown(v, c, missing, booleans) for v in table[c.name]] for c in KINDS[kind]})
    path.parent.mkdir(parents=True, exist_ok=True)
    shown.to_csv(path, sep=separator, index=False, lineterminator="\n", encoding="utf-8")
    dictionary = json.dumps(data_dictionary(kind, booleans=booleans), indent=2, ensure_ascii=False)
    path.with_suffix(".json").write_text(dictionary + "\n", encoding="utf-8")


def _shown(value, column, missing, booleans):
    if pd.isna(value):
        return missing
    if column.dtype == "boolean":
        return booleans[0] if value else booleans[1]
    if column.dtype == "float" and not column.unit:
        return f"{value:.{FIGURES}g}"
    if column.dtype == "float":
        return f"{round(value, DECIMALS[column.unit]) + 0.0:.15g}"  # + 0.0: no minus before zero
    return str(value)


def read_table(path: Path, kind: str) -> pd.DataFrame:
    """Read a final table, TSV or its CSV mirror, and check it like `make_table`."""
    path = Path(path)
    mirror = path.suffix == ".csv"
    text = _read_text(path, separator="," if mirror else "\t", missing="" if mirror else MISSING)
    dtypes = {c.name: c.dtype for c in KINDS[kind]}
    return make_table(
        pd.DataFrame({n: _parsed(text[n], dtypes[n], path) if n in dtypes else text[n] for n in text}), kind
    )


def read_tables(paths: Iterable[Path], kind: str) -> pd.DataFrame:
    """Read final tables of many patients as one, in the order given; none gives an empty table."""
    parts = [part for part in (read_table(path, kind) for path in paths) if len(part)]
    return make_table(pd.concat(parts, ignore_index=True), kind) if parts else empty(kind)


def data_dictionary(kind: str, *, booleans: tuple[str, str] = TSV_BOOLEANS) -> dict:
    """Describe the columns of a table as BIDS does.

    Parameters
    ----------
    kind : str
    booleans : (str, str)
        How the table writes what is true and what is false.

    Returns
    -------
    dict
        Per column ``Description``, and where they apply ``Units``, ``Levels``, ``Delimiter`` and ``Revisable``. Columns
        that join several levels have ``LevelsOfEachPart``: BIDS allows only single values beside ``Levels``.
    """
    described = {}
    for c in KINDS[kind]:
        described[c.name] = {"LongName": c.name.replace("_", " "), "Description": c.description}
        if c.unit:
            described[c.name]["Units"] = c.unit
        if c.dtype == "boolean":
            described[c.name]["Levels"] = dict(zip(booleans, ("yes", "no")))
        if c.levels:
            described[c.name]["LevelsOfEachPart" if c.many else "Levels"] = dict(c.levels)
        if c.many:
            described[c.name]["Delimiter"] = ";"
        if c.revisable:
            described[c.name]["Revisable"] = True
    return described


def markdown_table(kind: str) -> str:
    """Show the columns of a table as Markdown, for people."""
    lines = ["| column | type | unit | meaning |", "| --- | --- | --- | --- |"]
    for c in KINDS[kind]:
        meaning = c.description + (" May change when a later session arrives." if c.revisable else "")
        if c.levels:
            meaning += " " + "; ".join(f"`{level}`: {what}" for level, what in c.levels.items()) + "."
        lines.append(f"| `{c.name}` | {c.dtype} | {c.unit} | {meaning} |".replace("  ", " "))
    return "\n".join(lines) + "\n"


def renew_markdown(text: str) -> str:
    """Return a text with every table between ``<!-- columns: KIND -->`` and ``<!-- end -->`` made anew."""
    for kind in KINDS:
        block = f"<!-- columns: {kind} -->\n\n{markdown_table(kind)}\n<!-- end -->"
        text = re.sub(rf"<!-- columns: {kind} -->.*?<!-- end -->", lambda _, block=block: block, text, flags=re.DOTALL)
    return text


def write_tsv(table: pd.DataFrame, path: Path) -> None:
    """Write a table between stages: any columns, numbers exact, ``n/a``, ``true`` and ``false``.

    Raises
    ------
    InputError
        A text holds a tab or a line break.
    """
    path = Path(path)
    shown = pd.DataFrame({name: [_exact(v, name, path) for v in table[name]] for name in table.columns}, dtype=object)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(map(str, table.columns))]
    lines += ["\t".join(row) for row in shown.itertuples(index=False, name=None)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _exact(value, name, path):
    if _is_missing(value):
        return MISSING
    if isinstance(value, (bool, np.bool_)):
        return str(value).lower()
    if isinstance(value, str):
        if any(c in value for c in "\t\r\n") or value == "":
            raise InputError(
                f"{path}, column {name}",
                found=repr(value),
                expected="text without tabs and line breaks, not empty",
                advice="Use n/a (None) for what is missing.",
                reason="bad_table",
            )
        return value
    number = float(value)
    return str(int(value)) if number == value and not isinstance(value, float) else repr(number)


def read_tsv(path: Path, *, text: Iterable[str] = ()) -> pd.DataFrame:
    """Read a table between stages.

    Parameters
    ----------
    path : path
        TSV with ``n/a`` for what is missing.
    text : iterable of str
        Columns to leave as text whatever they hold (``01`` is a label, not one).

    Returns
    -------
    DataFrame
        Columns that bear the name of a column of the final tables have its type, also when empty; others are whole
        numbers, floats, booleans or text by what they hold.
    """
    path, text = Path(path), set(text)
    raw = _read_text(path, separator="\t", missing=MISSING)
    return pd.DataFrame(
        {n: raw[n] if n in text else _parsed(raw[n], _KNOWN.get(n) or _guessed(raw[n]), path) for n in raw}
    )


def read_tsvs(paths: Iterable[Path], *, text: Iterable[str] = ()) -> pd.DataFrame:
    """Read tables between stages as one, in the order given; those without rows still give their columns."""
    parts = [read_tsv(path, text=text) for path in paths]
    full = [part for part in parts if len(part)] or parts[:1]
    return pd.concat(full, ignore_index=True) if full else pd.DataFrame()


def _read_text(path, *, separator, missing):
    if not path.stat().st_size:
        raise InputError(
            str(path), found="an empty file", expected="a header at least", advice="Make it again.", reason="bad_table"
        )
    return pd.read_csv(path, sep=separator, dtype="str", na_values=[missing], keep_default_na=False, encoding="utf-8")


def _guessed(raw):
    given = [v for v in raw if isinstance(v, str)]
    if not given:
        return "string"
    if set(given) <= {"true", "false"}:
        return "boolean"
    if any(len(v.lstrip("-")) > 1 and v.lstrip("-").isdigit() and v.lstrip("-")[0] == "0" for v in given):
        return "string"  # 01 is a label
    for dtype, number in (("integer", int), ("float", float)):
        try:
            for v in given:
                number(v)
        except ValueError:
            continue
        return dtype
    return "string"


def _parsed(raw, dtype, path):
    if dtype in ("string", "enum"):
        return raw.astype("str")
    try:
        if dtype == "boolean":
            words = {"true": True, "false": False}
            return pd.Series([words[v.lower()] if isinstance(v, str) else None for v in raw], dtype="boolean")
        numbers = [float(v) if isinstance(v, str) else math.nan for v in raw]
        if dtype == "float":
            return pd.Series(numbers, dtype="float64")
        if any(n != int(n) for n in numbers if not math.isnan(n)):
            raise ValueError(f"not whole numbers in {raw.name}")
        return pd.Series([None if math.isnan(n) else int(n) for n in numbers], dtype="Int64")
    except (ValueError, KeyError) as error:
        raise InputError(
            f"{path}, column {raw.name}",
            found=str(error),
            expected=f"{dtype} or {MISSING}",
            advice="Correct the value.",
            reason="bad_table",
        ) from error
