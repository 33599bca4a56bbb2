"""Every column of the final tables: name, type, unit, meaning, levels.

Three kinds of table end up in the hands of people: ``lesions`` (one row per lesion and session), ``sessions`` and
``patients``; `evaluation` has those of whoever scores segmentations. `io` reads and writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mettrail import reasons

MISSING = "n/a"
DTYPES = {"string": "str", "enum": "str", "integer": "Int64", "float": "float64", "boolean": "boolean"}
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


def text(name: str, description: str, **more) -> Column:
    """Describe a column of text."""
    return Column(name, "string", description, **more)


def enum(name: str, description: str, levels: Mapping[str, str], **more) -> Column:
    """Describe a column with levels."""
    return Column(name, "enum", description, levels=levels, **more)


def integer(name: str, description: str, unit: str = "", **more) -> Column:
    """Describe a column of whole numbers."""
    return Column(name, "integer", description, unit, **more)


def floating(name: str, description: str, unit: str, **more) -> Column:
    """Describe a column of numbers."""
    return Column(name, "float", description, unit, **more)


def boolean(name: str, description: str, **more) -> Column:
    """Describe a column of true and false."""
    return Column(name, "boolean", description, **more)


PARTICIPANT = text("participant_id", "Patient, as in the dataset.")
SESSION = text("session_id", "Session, as in the dataset.")
_DAYS = integer(
    "days_from_t0", "Days from the start of treatment; from the baseline session where that is unknown.", "d"
)
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
    **reasons.levels(reasons.Kind.WARNING),
    "SEQUENCE_reason": "evaluated without an additional sequence, for a reason of the scan: T2w_not_3d",
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
    PARTICIPANT,
    SESSION,
    text("track_id", "Lesion: one number for life, never reused."),
    _DAYS,
    boolean("is_baseline", "Whether this is the baseline session."),
    enum(
        "status",
        "State of the lesion at this session.",
        {
            "present": "seen",
            "absent": "evaluable session, not seen",
            "merged": "has become one with another lesion (merged_into)",
            "not_evaluable": "the session, or this lesion in it, cannot be evaluated",
        },
    ),
    enum(
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
    text("merged_into", "The lesion that carries the size of both."),
    integer("n_fragments", "Pieces the lesion is made of."),
    enum(
        "match_method",
        "How it was recognised.",
        {
            "overlap": "shared volume",
            "gap": "near and of like size",
            "split": "within its old footprint",
            "none": "not",
        },
    ),
    floating(
        "match_score",
        "How well it fits where the lesion was last: share of the smaller of both masks that lies within match: "
        "dilate_mm of the other. 1 is certain, 0 is farther away; merged: of its last mask in the other lesion.",
        "1",
    ),
    enum(
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
    boolean(
        "measurable",
        "At this session: enhancing, long and wide enough, on enough slices, not cystic, not dural (RANO-BM); or as a "
        "reader says.",
    ),
    floating("ld_mm", "Longest diameter on an axial slice; 0 if absent, also where ld_rano_mm turns out n/a.", "mm"),
    floating("perp_mm", "Longest diameter perpendicular to it on the same slice; 0 if absent.", "mm"),
    floating("ld_feret_mm", "Longest diameter on an axial slice that may leave the lesion; 0 if absent.", "mm"),
    floating("max3d_mm", "Longest diameter in space; 0 if absent.", "mm"),
    floating("esd_mm", "Diameter of the sphere of the same volume; 0 if absent.", "mm"),
    floating("extent_z_mm", "Number of slices times their spacing; 0 if absent.", "mm"),
    floating("border_distance_mm", "Distance to the edge of the brain mask; n/a if absent.", "mm"),
    floating("ld_rano_mm", "Diameter as it enters sums: see ld_source.", "mm", revisable=True),
    enum(
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
    floating("vol_rano_ml", "Volume as it enters sums: see vol_source.", "mL", revisable=True),
    enum(
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
    floating("bidim_mm2", "ld_mm times perp_mm; 0 if absent.", "mm^2"),
    floating("surface_mm2", "Area of its surface; 0 if absent.", "mm^2"),
    integer("ld_slice", "Index of the slice of ld_mm along the slice axis of the image, from 0."),
    *(
        floating(f"ld_p{end}_{axis}_mm", f"{name} endpoint of ld_mm, {axis}, RAS+, the image's own space.", "mm")
        for end, name in ((1, "First"), (2, "Second"))
        for axis in "xyz"
    ),
    floating("slice_spacing_mm", "Distance of the axial slices of the image.", "mm"),
    integer("n_voxels", "Voxels of the whole lesion; 0 if absent."),
    integer("n_slices", "Axial slices with at least one of them; 0 if absent."),
    floating("vol_wl_mm3", "Volume of the whole lesion: enhancing and necrosis, without edema; 0 if absent.", "mm^3"),
    floating("vol_et_mm3", "Volume that enhances; 0 if absent.", "mm^3"),
    floating("vol_nc_mm3", "Volume of necrosis; 0 if absent.", "mm^3"),
    floating("vol_ed_mm3", f"Volume of edema nearest to this lesion; 0 if absent; {_NO_EDEMA}.", "mm^3"),
    floating("vol_wl_ml", "vol_wl_mm3 in millilitres; where a lesion was overlooked, vol_rano_ml is n/a.", "mL"),
    floating("necrosis_fraction", "vol_nc_mm3 over vol_wl_mm3; n/a if absent.", "1"),
    boolean("touches_border", "Whether it touches the edge of the brain or of the image (dural?)."),
    boolean("enhancing", "Whether it still enhances: what RANO-BM is about."),
    *(floating(f"c{a}_mm", f"Centre, {a}, RAS+, the image's own space.", "mm") for a in "xyz"),
    *(floating(f"c{a}_ref_mm", f"Centre, {a}, RAS+, the patient's reference space.", "mm") for a in "xyz"),
    *(
        floating(
            f"{size}_change_{since}_pct",
            f"Change of {what} from {when}, like with like, as known at this session; {_PCT}; n/a if born later.",
            "%",
        )
        for size, what in (("ld", "ld_rano_mm"), ("vol", "vol_rano_ml"))
        for since, when in (("baseline", "baseline"), ("nadir", "its smallest before"))
    ),
    enum(
        "lesion_response",
        "The rules for the sum, applied to this lesion alone, from baseline or from its first session if born later. "
        "As known at this session: of a lesion that was overlooked it says CR; later sessions leave that one out.",
        _RESPONSE,
    ),
    enum(
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
    floating(
        "mean_probability",
        "Mean probability of whole lesion in its voxels, the higher of both networks'; their thresholds are 0.5. n/a "
        "if absent or drawn by a person.",
        "1",
    ),
    enum(
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
    enum(
        "confidence",
        "How sure the segmentation is: mean_probability held against the limit of those who see it (segment: "
        "confidence); n/a where it was carried over.",
        {
            "confirmed": "sure enough to count",
            "candidate": "a suspicion only: it counts in no response until it is confirmed at a later session",
        },
    ),
    enum(
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
    enum(
        "side",
        "Side of its centre when it was first seen.",
        {"left": "left", "right": "right", "midline": "within 5 mm of the midline"},
    ),
    *(
        floating(f"{size}_{by}_{end}_{unit}", f"{what} {how}", unit_)
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
    floating(
        "vol_growth_ml_per_30_days",
        "Change of vol_wl_ml since the last evaluable session at which the lesion was present, per 30 days; n/a where "
        "either volume lies within what half a voxel of the edge makes of the other (vol_half_voxel_low_ml to "
        "vol_half_voxel_high_ml), where the lesion is one with another at either session, and without days.",
        "mL",
    ),
    floating(
        "vol_doubling_time_days",
        "Days in which its volume doubles (negative: halves) if it changed exponentially between the two (Collins "
        "1956, Schwartz 1961): ln 2 times the days over ln of the ratio of volumes; n/a where the growth is.",
        "d",
    ),
    boolean("prior_local_therapy", "Irradiated or resected before the day of this session, as far as recorded."),
    _flags(_FLAGS_LESION, revisable=True),
)

SESSIONS = (
    SESSION,
    PARTICIPANT,
    _DAYS,
    enum(
        "session_role",
        "n/a if the patient has no baseline.",
        {"prebaseline": "before the baseline", "baseline": "what others are compared to", "followup": "after it"},
    ),
    boolean("evaluable", "Whether lesions could be measured and compared at this session."),
    enum("ne_reason", "Reason the session is not evaluable.", reasons.levels(reasons.Kind.NOT_EVALUABLE)),
    text("registration_qc", "Outcome of the check of the alignment to the patient's first session."),
    floating(
        "residual_shift_mm",
        "How far lesions still lay, in the median, from where registration put them; n/a where fewer than three agree. "
        "Undone before matching where the lesions then share more of their old places.",
        "mm",
    ),
    enum(
        "brain_method",
        "What drew the brain mask.",
        {
            "deepbet": "deepbet's networks",
            "atlas": "a registered atlas",
            "hd-bet": "HD-BET's network",
            "nonzero": "others: the scan came as an extracted brain",
        },
    ),
    floating("brain_volume_ml", "Volume of the brain mask.", "mL"),
    floating("brain_fit", "Correlation of the scan inside the brain mask with the atlas; n/a for given brains.", "1"),
    floating("brain_other_volume_ml", "Volume of the mask of a second method, for comparison.", "mL"),
    floating("brain_overlap", "Dice of both brain masks.", "1"),
    enum(
        "baseline_flag",
        "How the patient's baseline was found.",
        {
            "in_window": "last evaluable session within the window before treatment",
            "out_of_window": "last evaluable session before treatment, too early for the window",
            "post_treatment": "no evaluable session before treatment: the first one after its start",
            "assumed": "start of treatment unknown: the first evaluable session",
        },
    ),
    integer("n_lesions", "Lesions present, without n_candidates."),
    integer("n_candidates", "Candidates present that have never been confirmed so far."),
    integer("n_targets", "Target lesions of the patient."),
    integer("n_new", "Lesions first seen at this session, after baseline, or back after being gone at baseline."),
    integer("n_absent", "Lesions seen before and not now."),
    integer("n_subthreshold", "Components too small to start a lesion."),
    floating("sum_ld_mm", "Sum of ld_rano_mm over the targets; n/a if one cannot be measured.", "mm"),
    floating("sum_ld_baseline_mm", "The same at baseline.", "mm"),
    floating(
        "ref_sum_ld_mm",
        "The sum at baseline that this session is compared to: sum_ld_baseline_mm, but where lesions are one at one of "
        "both sessions and apart at the other, both are measured cut as at the one where they are apart.",
        "mm",
    ),
    floating(
        "nadir_sum_ld_mm",
        "Smallest complete sum from baseline to the session before, like ref_sum_ld_mm like with like.",
        "mm",
    ),
    floating("sum_ld_change_baseline_pct", f"Change of the sum from ref_sum_ld_mm, like with like; {_PCT}.", "%"),
    floating("sum_ld_change_nadir_pct", f"Change of the sum from nadir_sum_ld_mm, like with like; {_PCT}.", "%"),
    floating(
        "max_lesion_increase_mm",
        "Largest growth of one target since the session of nadir_sum_ld_mm. What is merged counts as one.",
        "mm",
    ),
    floating("sum_vol_target_ml", "Sum of the volumes of the targets; n/a if one cannot be measured.", "mL"),
    floating("total_vol_wl_ml", "Volume of all lesions.", "mL"),
    floating("total_vol_et_ml", "Of which enhancing.", "mL"),
    floating("total_vol_nc_ml", "Of which necrosis.", "mL"),
    floating("total_vol_ed_ml", f"Volume of all edema, also far from any lesion; {_NO_EDEMA}.", "mL"),
    floating("edema_unassigned_mm3", f"Volume of edema too far from any lesion to belong to one; {_NO_EDEMA}.", "mm^3"),
    floating("sum_ld_final_mm", "sum_ld_mm with all that is known now.", "mm", revisable=True),
    floating("sum_vol_target_final_ml", "sum_vol_target_ml with all that is known now.", "mL", revisable=True),
    *(
        floating(
            f"total_vol_{tissue}_final_ml",
            f"total_vol_{tissue}_ml with all that is known now: n/a where a lesion was overlooked.",
            "mL",
            revisable=True,
        )
        for tissue in ("wl", "et", "nc", "ed")
    ),
    enum("target_response", "Response of the targets, as known at this session; n/a without targets.", _RESPONSE),
    enum(
        "target_response_continued",
        "The same, where SD after a confirmed PR stays PR until PD.",
        _RESPONSE,
    ),
    enum("nontarget_response", "Response of the other lesions, as known at this session; n/a without any.", _NONTARGET),
    enum("nt_source", "Who decided it.", {"auto": "size thresholds stand in for a reader", "reader": "a person"}),
    enum("new_lesion", "New lesions at this session, as known then.", _NEW),
    enum(
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
    enum(
        "clinical_status",
        "Clinical status.",
        {
            "improved": "better",
            "stable": "the same",
            "worse": "worse, because of the tumour",
            "unknown": "not recorded",
        },
    ),
    boolean("clinical_assumed", "Whether steroids or clinical status were unknown and taken as none and stable."),
    enum("response_imaging_prospective", "RANO-BM from images alone, with what was known then.", _OVERALL),
    enum("response_imaging_final", "RANO-BM from images alone, with all that is known now.", _OVERALL, revisable=True),
    enum("response_overall_prospective", "With steroids and clinical status, with what was known then.", _OVERALL),
    enum(
        "response_overall_final",
        "With steroids and clinical status, with all that is known now.",
        _OVERALL,
        revisable=True,
    ),
    enum(
        "response_imaging_continued",
        "response_imaging_prospective, where a confirmed PR that is no PD stays PR.",
        _OVERALL,
    ),
    enum(
        "response_overall_continued",
        "response_overall_prospective, where a confirmed PR that is no PD stays PR.",
        _OVERALL,
    ),
    enum(
        "response_volumetric_prospective",
        "As response_imaging_prospective, volumes in place of diameters.",
        _OVERALL,
    ),
    enum(
        "response_volumetric_final",
        "As response_imaging_final, volumes in place of diameters.",
        _OVERALL,
        revisable=True,
    ),
    boolean("confirmed", "CR or PR: whether it lasted long enough to count; n/a for others.", revisable=True),
    enum(
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
    PARTICIPANT,
    integer("n_sessions", "Sessions.", revisable=True),
    integer("n_evaluable", "Evaluable sessions.", revisable=True),
    enum(
        "t0_source",
        "What days count from.",
        {"treatment": "the start of treatment", "baseline": "the baseline session"},
    ),
    text("baseline_session", "The baseline session; n/a if no session can be evaluated."),
    SESSIONS[[c.name for c in SESSIONS].index("baseline_flag")],
    integer("n_lesions_baseline", "Lesions present at baseline."),
    integer("n_targets", "Target lesions at baseline; what is one with a target there counts with it."),
    integer("n_nontargets", "Other lesions at baseline, as far as known.", revisable=True),
    integer("n_tracks_total", "Lesions ever seen.", revisable=True),
    integer(
        "n_new_total", "Lesions born after baseline, or back after being gone at it, and not rejected.", revisable=True
    ),
    floating("baseline_sum_ld_mm", "Sum of the diameters of the targets at baseline.", "mm"),
    floating(
        "nadir_sum_ld_mm",
        f"Smallest complete sum from baseline {_TO_PD}, measured as at baseline.",
        "mm",
        revisable=True,
    ),
    floating(
        "best_change_ld_pct", f"Lowest change of the sum from baseline, like with like, {_TO_PD}.", "%", revisable=True
    ),
    floating("baseline_vol_ml", "Volume of the targets at baseline.", "mL"),
    floating("best_change_vol_pct", f"Lowest change of their volume from baseline, {_TO_PD}.", "%", revisable=True),
    enum("best_response", f"Best overall response {_TO_PD}.", _OVERALL, revisable=True),
    integer("best_response_day", "Day it was first seen, from t0.", "d", revisable=True),
    boolean("best_response_confirmed", "CR or PR: whether it was confirmed; n/a for others.", revisable=True),
    enum("best_response_volumetric", "Best response by volumes, images alone.", _OVERALL, revisable=True),
    boolean("progressed", "Whether any session is PD.", revisable=True),
    integer("progression_day", "Day of the first PD, from t0; n/a if none.", "d", revisable=True),
    enum(
        "progression_reason",
        "What made it PD, joined by ;.",
        SESSIONS[[c.name for c in SESSIONS].index("pd_reason")].levels,
        revisable=True,
        many=True,
    ),
    integer("time_to_progression_days", "From t0 to PD, or to the last evaluable session.", "d", revisable=True),
    boolean("ttp_event", "Whether time_to_progression_days ends in PD (true) or is censored (false).", revisable=True),
    integer("last_evaluable_day", "Day of the last evaluable session, from t0.", "d", revisable=True),
    integer(
        "duration_of_response_days",
        "From the first day of a best response CR or PR to PD or the last evaluable session.",
        "d",
        revisable=True,
    ),
    floating(
        "brain_metastasis_velocity_first_per_year",
        "Confirmed new lesions since first treatment per year from it, at the first distant failure (Farris et al. "
        "2017); n/a without one, or where the start of treatment is unknown.",
        "1/year",
        revisable=True,
    ),
    floating(
        "brain_metastasis_velocity_latest_per_year",
        "The same at the latest distant failure.",
        "1/year",
        revisable=True,
    ),
    enum(
        "brain_metastasis_velocity_group",
        "Risk group of the velocity at the first distant failure.",
        {"low": "below 4 per year", "intermediate": "4 to 13", "high": "above 13"},
        revisable=True,
    ),
    *(
        integer(name, what, "d", revisable=True)
        for name, what in (
            ("local_failure_day", "First local failure of a treated lesion, from t0."),
            ("distant_failure_day", "First appearance of the first new lesion, from t0."),
            ("leptomeningeal_day", "Leptomeningeal disease, from t0, as given."),
            ("salvage_day", "First further local treatment after the first, from t0."),
            ("death_day", "Death, from t0, as given."),
            ("last_contact_day", "Last contact, from t0: as given, else the last session."),
        )
    ),
    enum(
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
    integer("first_event_day", "Its day, from t0; of none, last_contact_day.", "d", revisable=True),
    enum(
        "lesion_count_group",
        "Lesions at baseline; n/a if none.",
        {"1-3": "one to three", "4-10": "four to ten", ">10": "more"},
    ),
    _flags(_FLAGS_PATIENT, revisable=True),
    text("config_hash", "Fingerprint of the settings.", revisable=True),
)

# One row per lesion and local treatment, with what became of it.
TREATED_LESIONS = (
    PARTICIPANT,
    text("treatment_id", "Treatment, as in the patient's treatments.tsv."),
    text("track_id", "Lesion."),
    text("treatment_type", "Type of treatment: srs, fsrt, wbrt, surgery, or as given."),
    integer("treatment_day", "Day of the treatment, from t0.", "d"),
    floating("dose_gy", "Total dose, as given.", "Gy"),
    integer("fractions", "Number of fractions, as given."),
    floating("isodose_pct", "Prescription isodose, as given.", "%"),
    text("pretreatment_session", "Last evaluable session up to the day of treatment with the lesion present."),
    floating("pretreatment_ld_mm", "Longest diameter there.", "mm"),
    floating("pretreatment_vol_ml", "Volume there.", "mL"),
    floating("nadir_ld_mm", "Smallest longest diameter from the pre-treatment session to failure or last scan.", "mm"),
    integer("nadir_ld_day", "Its day, from t0.", "d"),
    floating("nadir_vol_ml", "Smallest volume from the pre-treatment session to failure or last scan.", "mL"),
    integer("nadir_vol_day", "Its day, from t0.", "d"),
    enum("best_response", "Best response by diameter from the pre-treatment size.", _RESPONSE),
    boolean("local_failure", "Whether it failed: see failure_by; n/a if not seen before the treatment."),
    integer("local_failure_day", "Day of the first failure, from t0; n/a if none.", "d"),
    enum(
        "failure_by",
        "What said so, joined by ;.",
        {
            "diameter": "at least 20 % and 5 mm above its smallest since treatment",
            "volume": "at least 72.8 % and 0.1 mL above its smallest since treatment",
        },
        many=True,
    ),
    boolean(
        "treatment_effect_possible",
        "Whether it failed in the months after radiation in which that can cause growth; n/a if it did not fail.",
    ),
    boolean(
        "failure_confirmed",
        "Whether the next evaluable session at least 28 days later, before a further treatment, says so too; n/a "
        "without one.",
    ),
    integer("time_to_local_failure_days", "From treatment to local failure or censoring.", "d"),
    integer("censored_day", "Day of censoring, from t0; n/a after a failure.", "d"),
    enum(
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
    integer("salvage_day", "Day of the next local treatment of this lesion, from t0.", "d"),
)

# Not part of every run: the target `sensitivity` makes it.
SENSITIVITY = (
    text("setting", "Setting that was changed alone; the first row has them as they are."),
    text("value", "Its value here."),
    text("default", "Its value in this run."),
    integer("n_sessions", "Sessions of the cohort."),
    integer("n_sessions_changed", "Of which response_overall_final is another one."),
    integer("n_sessions_changed_volumetric", "Of which response_volumetric_prospective is another one."),
    integer("n_patients", "Patients of the cohort."),
    integer("n_patients_changed", "Of whom best_response is another one."),
    integer("n_patients_progression_changed", "Of whom progression_day is another one."),
    integer("n_tracks_total", "Lesions ever seen, all patients."),
    text("changes", "The sessions whose response_overall_final is another one, and from what to what."),
)

# Sizes of lesions at two sessions, like with like: from the matching to the response.
COMPARISONS = {
    "participant_id": "str", "session_id": "str", "earlier_session_id": "str", "track_id": "str",
    "ld_now_mm": "float64", "ld_then_mm": "float64", "vol_now_ml": "float64", "vol_then_ml": "float64",
}  # fmt: skip

# Columns of tables between stages whose type must not depend on what happens to stand in them.
BETWEEN = {
    "index": "integer", "instance": "integer", "order": "integer", "sessions_missed": "integer",
    "bbox_x_vox": "integer", "bbox_y_vox": "integer", "bbox_z_vox": "integer", "sub": "string", "ses": "string",
    "prior": "string", "fragments": "string", "name": "string", "probable_miss": "boolean", "below_birth": "boolean",
    "days": "float", "slice_spacing_mm": "float", "ld_fragments_mm": "float",
}  # fmt: skip
