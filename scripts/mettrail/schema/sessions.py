"""Columns of the sessions: one row each, evaluable or not."""

from __future__ import annotations

from mettrail import reasons
from mettrail.schema.columns import (
    DAYS,
    NO_EDEMA,
    OVERALL,
    PARTICIPANT,
    PERCENT,
    RESPONSE,
    SESSION,
    boolean,
    enum,
    flags,
    floating,
    integer,
    text,
)

_NONTARGET = {
    "CR": "all have disappeared, and no new lesion",
    "NON_CR_NON_PD": "at least one persists, none progresses",
    "PD": "unequivocal progression",
    "NE": "not evaluable",
}
_NEW = {"none": "no new lesion", "equivocal": "only new lesions that may not be real", "definite": "a real new lesion"}
_FLAGS_SESSION = {
    **reasons.levels(reasons.Kind.WARNING),
    "SEQUENCE_reason": "an additional sequence is not used, for a reason of the scan (T2w_not_3d), "
    "or is used and requires review: FLAIR_misaligned, FLAIR_partial",
    "sum_incomplete": "a target could not be measured: no sum",
    "no_targets": "no measurable lesion at baseline",
    "no_lesions_at_baseline": "nothing to follow but new lesions",
    "brain_volume": "the volume of the brain mask is implausible for an adult: requires review",
    "brain_fit": "what the brain mask holds resembles a brain little: requires review",
    "brain_replaced": "the brain mask is the second method's: the first one failed its check",
    "brain_stripped": "the scan was brain-extracted already: voxels above 0 are the mask",
    "contrast_doubtful": "the reference scan hardly shows contrast agent, and lesions may seem absent: is it the scan "
    "before the injection? Requires review",
    "sequence_doubtful": "the reference scan shows fluid brighter than the brain, as T2w does: is it the right one? "
    "Requires review",
    "labels_doubtful": "what was drawn as enhancing tumour is hardly brighter than the brain around it: is the "
    "segmentation another session's or patient's, or mirrored? Requires review",
    "steroid_hold": "more steroids than at baseline: the response cannot be evaluated",
    "treatment_effect_possible": "all that grew was irradiated months before",
    "coalesced": "the sums hold lesions that touch: cut, merged, or measured again like with like",
    "residual_shift": "lesions lay 2 mm or more from where registration put them; corrected, see residual_shift_mm",
    "probable_missed_detection": "probable missed detection of a lesion here: its size is n/a",
    "weak_match": "a lesion may be another one: see match_score",
    "nontarget_review": "a non-target lesion grew, the overall tumour burden did not: a reader should decide",
    "cavity_review": "networks call something both lesion and resection cavity: it is cavity after surgery on record, "
    "else lesion; a reader should decide",
    "edema_progression": "edema at least doubled and grew by 10 mL since its nadir; never PD by itself",
}

SESSIONS = (
    SESSION,
    PARTICIPANT,
    DAYS,
    enum(
        "session_role",
        "n/a if the patient has no baseline.",
        {"prebaseline": "before the baseline", "baseline": "what others are compared to", "followup": "after it"},
    ),
    boolean("evaluable", "Whether lesions could be measured and compared at this session."),
    enum("ne_reason", "Reason the session is not evaluable.", reasons.levels(reasons.Kind.NOT_EVALUABLE)),
    text("registration_qc", "Quality check of the registration to the patient's reference session."),
    floating(
        "head_volume_ratio",
        "Volume of the head here, divided by that at the patient's reference session, by affine registration: 1 but "
        "for a wrong voxel size. n/a for the reference session.",
        "1",
    ),
    floating(
        "residual_shift_mm",
        "Median distance of lesions from where registration put them; n/a where fewer than three agree. "
        "Corrected before matching where the lesions then overlap their earlier positions more.",
        "mm",
    ),
    enum(
        "brain_method",
        "Method of the brain mask.",
        {
            "deepbet": "deepbet's networks",
            "atlas": "a registered atlas",
            "hd-bet": "HD-BET's network",
            "nonzero": "none: the scan was brain-extracted already",
        },
    ),
    floating("brain_volume_ml", "Volume of the brain mask.", "mL"),
    floating(
        "brain_fit", "Correlation of the scan inside the brain mask with the atlas; n/a for extracted brains.", "1"
    ),
    floating("brain_other_volume_ml", "Volume of the mask of a second method, for comparison.", "mL"),
    floating("brain_overlap", "Dice of both brain masks.", "1"),
    floating(
        "brain_bright_share",
        "Share of the brain mask that is much brighter than white matter: vessels, sinuses and lesions, where contrast "
        "agent was given.",
        "1",
    ),
    floating(
        "labels_auc",
        "Probability that what a person drew as enhancing tumour, at the edge of lesions, is brighter than the brain "
        "within 8 mm (area under the ROC curve): around 0.5 where a segmentation is not of this scan.",
        "1",
    ),
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
    integer("n_new", "Lesions first detected at this session, after baseline, or recurrent."),
    integer("n_absent", "Lesions detected before and no longer."),
    integer("n_subthreshold", "Components too small to start a lesion."),
    floating("sum_ld_mm", "Sum of ld_rano_mm over the targets; n/a if one cannot be measured.", "mm"),
    floating("sum_ld_baseline_mm", "The same at baseline.", "mm"),
    floating(
        "reference_sum_ld_mm",
        "The sum at baseline that this session is compared to: sum_ld_baseline_mm, but where lesions are one at one of "
        "both sessions and apart at the other, both are measured cut as at the one where they are apart.",
        "mm",
    ),
    floating(
        "nadir_sum_ld_mm",
        "Smallest complete sum from baseline to the session before, like reference_sum_ld_mm like with like.",
        "mm",
    ),
    floating(
        "sum_ld_change_baseline_pct", f"Change of the sum from reference_sum_ld_mm, like with like; {PERCENT}.", "%"
    ),
    floating("sum_ld_change_nadir_pct", f"Change of the sum from nadir_sum_ld_mm, like with like; {PERCENT}.", "%"),
    floating(
        "max_lesion_increase_mm",
        "Largest growth of one target since the session of nadir_sum_ld_mm. What is merged counts as one.",
        "mm",
    ),
    floating("sum_vol_target_ml", "Sum of the volumes of the targets; n/a if one cannot be measured.", "mL"),
    floating("total_vol_wl_ml", "Volume of all lesions.", "mL"),
    floating("total_vol_et_ml", "Of which enhancing.", "mL"),
    floating("total_vol_nc_ml", "Of which necrosis.", "mL"),
    floating("total_vol_ed_ml", f"Volume of all edema, also far from any lesion; {NO_EDEMA}.", "mL"),
    floating("cavity_ml", "Volume of resection cavities, in no sum; n/a where none is segmented.", "mL"),
    floating("edema_unassigned_mm3", f"Volume of edema too far from any lesion to belong to one; {NO_EDEMA}.", "mm^3"),
    floating("sum_ld_final_mm", "sum_ld_mm with all that is known now.", "mm", revisable=True),
    floating("sum_vol_target_final_ml", "sum_vol_target_ml with all that is known now.", "mL", revisable=True),
    *(
        floating(
            f"total_vol_{tissue}_final_ml",
            f"total_vol_{tissue}_ml with all that is known now: n/a with a probable missed detection.",
            "mL",
            revisable=True,
        )
        for tissue in ("wl", "et", "nc", "ed")
    ),
    enum("target_response", "Response of the targets, as known at this session; n/a without targets.", RESPONSE),
    enum(
        "target_response_continued",
        "The same, where SD after a confirmed PR stays PR until PD.",
        RESPONSE,
    ),
    enum(
        "nontarget_response",
        "Response of the non-target lesions, as known at this session; n/a without any.",
        _NONTARGET,
    ),
    enum(
        "nontarget_source", "Who decided it.", {"auto": "size thresholds stand in for a reader", "reader": "a person"}
    ),
    enum("new_lesion", "New lesions at this session, as known then.", _NEW),
    enum(
        "steroid_status",
        "Steroids compared to baseline.",
        {
            "none": "at or below physiological dose",
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
    enum("response_imaging_prospective", "RANO-BM from images alone, with what was known then.", OVERALL),
    enum("response_imaging_final", "RANO-BM from images alone, with all that is known now.", OVERALL, revisable=True),
    enum("response_overall_prospective", "With steroids and clinical status, with what was known then.", OVERALL),
    enum(
        "response_overall_final",
        "With steroids and clinical status, with all that is known now.",
        OVERALL,
        revisable=True,
    ),
    enum(
        "response_imaging_continued",
        "response_imaging_prospective, where a confirmed PR that is no PD stays PR.",
        OVERALL,
    ),
    enum(
        "response_overall_continued",
        "response_overall_prospective, where a confirmed PR that is no PD stays PR.",
        OVERALL,
    ),
    enum(
        "response_volumetric_prospective",
        "As response_imaging_prospective, volumes in place of diameters.",
        OVERALL,
    ),
    enum(
        "response_volumetric_final",
        "As response_imaging_final, volumes in place of diameters.",
        OVERALL,
        revisable=True,
    ),
    boolean("confirmed", "CR or PR: whether it lasted long enough to count; n/a for others.", revisable=True),
    enum(
        "pd_reason",
        "What makes response_overall_final PD or uPD, joined by ;.",
        {
            "target": "targets grew",
            "nontarget": "non-target lesions grew",
            "new": "a new lesion",
            "clinical": "the patient got worse",
        },
        revisable=True,
        many=True,
    ),
    flags(_FLAGS_SESSION, revisable=True),
)

# Of the sessions' columns, those that say what is known of the brain mask.
BRAIN = tuple(c.name for c in SESSIONS if c.name.startswith("brain_"))
