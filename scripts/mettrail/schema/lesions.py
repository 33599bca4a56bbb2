"""Columns of the lesions: one row per lesion and session; and of what stages hand to each other about them."""

from __future__ import annotations

from typing import Any

from mettrail.schema.columns import (
    DAYS,
    NO_EDEMA,
    PARTICIPANT,
    PERCENT,
    RESPONSE,
    SESSION,
    Column,
    boolean,
    enum,
    flags,
    floating,
    integer,
    text,
)

# Measured on a scan; a lesion of several components has that of the largest, or the sum.
_LARGEST: dict[str, Any] = {"stage": "measure", "combine": "largest"}
_SUM: dict[str, Any] = {"stage": "measure", "combine": "sum", "absent": 0}
_FLAGS_LESION = {
    "nonconvex": "the longest diameter inside is shorter than the one that may leave the lesion",
    "oblique": "slices are tilted by more than 20 degrees from axial",
    "thick_slice": "slices thicker than 5 mm",
    "not_axial_acq": "thick slices that are not axial: not measurable",
    "cystic_only": "hardly any enhancement, as if purely cystic: not measurable",
    "nonenhancing_remnant": "only necrosis left: counts as absent for the response",
    "probable_missed_detection": "most likely there at a session where it was not detected",
    "merged_across_roles": "a target merged with a non-target or new lesion: the target carries the size",
    "treatment_effect_possible": "grew in the months after radiation, which radiation itself can cause",
    "fov_edge": "touches the edge of the image",
    "coalesced": "one with another lesion at this session: cut from it, or merged",
    "weak_match": "match_score below the least share of match: frac: the lesion may be another one",
    "dural": "a reader calls it dural, which is not measurable",
    "nontarget_review": "grew as a non-target lesion that progresses would, while the overall tumour burden did not",
}

LESIONS = (
    PARTICIPANT,
    SESSION,
    text("track_id", "Persistent lesion ID, never reused.", stage="match"),
    DAYS,
    boolean("is_baseline", "Whether this is the baseline session."),
    enum(
        "status",
        "State of the lesion at this session.",
        {
            "present": "detected",
            "absent": "no longer detected at an evaluable session",
            "merged": "has become one with another lesion (merged_into)",
            "not_evaluable": "the session, or this lesion in it, cannot be evaluated",
        },
        stage="match",
    ),
    enum(
        "event",
        "What happened since the prior session.",
        {
            "baseline": "first session of the patient",
            "persist": "still detected",
            "new": "first detected",
            "split": "in several components, or apart again from a lesion it was one with",
            "merged_into": "became one with another lesion",
            "reappeared": "detected again after an evaluable session without it",
            "absent": "no longer detected",
            "not_evaluable": "cannot be determined",
        },
        revisable=True,
        stage="match",
    ),
    text("merged_into", "The lesion that carries the size of both.", stage="match"),
    integer("n_components", "Number of its connected components.", stage="match"),
    enum(
        "match_method",
        "How it was matched with its track.",
        {
            "overlap": "shared volume",
            "gap": "close by and of similar volume",
            "split": "within the region the track has occupied before",
            "none": "not matched",
        },
        stage="match",
    ),
    floating(
        "match_score",
        "Agreement with its last position: share of the smaller of both masks that lies within match: "
        "dilate_mm of the other. 1 is certain, 0 is farther away; merged: of its last mask in the other lesion.",
        "1",
        stage="match",
    ),
    enum(
        "role",
        "Part it plays in the response at this session. Baseline rules: RANO-BM, Lin et al. 2015.",
        {
            "target": "measurable at baseline and chosen: in the sum of diameters",
            "nontarget": "present at baseline, not chosen",
            "new": "first detected after baseline",
            "recurrent": "detected before baseline, absent at it, detected again",
            "prebaseline": "detected before baseline, not at it",
            "candidate": "only ever seen as a candidate so far: in no sum, no count and no response",
            "excluded": "excluded by a reader",
        },
    ),
    boolean(
        "measurable",
        "At this session: enhancing, long and wide enough, on enough slices, not cystic, not dural (RANO-BM); or as a "
        "reader says.",
    ),
    floating(
        "ld_mm",
        "Longest diameter on an axial slice, also where ld_rano_mm is n/a.",
        "mm",
        stage="measure",
        combine="largest",
        absent=0,
    ),
    floating(
        "perp_mm",
        "Longest diameter perpendicular to it on the same slice.",
        "mm",
        stage="measure",
        combine="largest",
        absent=0,
    ),
    floating(
        "ld_feret_mm",
        "Longest diameter on an axial slice that may leave the lesion.",
        "mm",
        stage="measure",
        combine="largest",
        absent=0,
    ),
    floating("max3d_mm", "Longest diameter in space.", "mm", **_LARGEST, absent=0),
    floating("esd_mm", "Diameter of the sphere of the same volume.", "mm", stage="measure", absent=0),
    floating(
        "extent_z_mm",
        "Number of slices times their spacing.",
        "mm",
        stage="measure",
        combine="largest",
        absent=0,
    ),
    floating("border_distance_mm", "Distance to the edge of the brain mask; n/a if absent.", "mm", stage="measure"),
    floating("ld_rano_mm", "Diameter as it enters sums: see ld_source.", "mm", revisable=True),
    enum(
        "ld_source",
        "Where ld_rano_mm comes from.",
        {
            "measured": "ld_mm",
            "floor5": "below 5 mm, set to 5 mm",
            "tsm5": "a reader called it too small to measure: 5 mm",
            "components": "sum over its components",
            "merged": "one with another lesion, which carries the size of both (0), or carrying it itself",
            "absent": "no longer detected, or no longer enhancing: 0",
            "probable_missed_detection": "not detected, yet at the next session with its size: n/a",
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
            "absent": "no longer detected, or no longer enhancing: 0",
            "probable_missed_detection": "not detected, yet at the next session with its size: n/a",
            "override": "a reader called it absent: 0",
            "ne": "not evaluable, or a reader measured what the mask lacks: n/a",
        },
        revisable=True,
    ),
    floating("bidim_mm2", "ld_mm times perp_mm.", "mm^2", **_LARGEST, absent=0),
    floating("surface_mm2", "Area of its surface.", "mm^2", **_SUM),
    integer(
        "ld_slice",
        "Index of the slice of ld_mm along the slice axis of the image, from 0.",
        stage="measure",
        combine="largest",
    ),
    *(
        floating(
            f"ld_endpoint{end}_{axis}_mm",
            f"{name} endpoint of ld_mm, {axis}, RAS+, the image's own space.",
            "mm",
            stage="measure",
            combine="largest",
        )
        for end, name in ((1, "First"), (2, "Second"))
        for axis in "xyz"
    ),
    floating("slice_spacing_mm", "Distance of the axial slices of the image.", "mm", **_LARGEST),
    integer("n_voxels", "Voxels of the whole lesion.", **_SUM),
    integer("n_slices", "Axial slices with at least one of them.", **_LARGEST, absent=0),
    floating(
        "vol_wl_mm3",
        "Volume of the whole lesion: enhancing and necrosis, without edema.",
        "mm^3",
        stage="measure",
        combine="sum",
        absent=0,
    ),
    floating("vol_et_mm3", "Volume that enhances.", "mm^3", **_SUM),
    floating("vol_nc_mm3", "Volume of necrosis.", "mm^3", **_SUM),
    floating(
        "vol_ed_mm3",
        f"Volume of edema nearest to this lesion; {NO_EDEMA}.",
        "mm^3",
        stage="measure",
        combine="sum",
        absent=0,
    ),
    floating(
        "vol_wl_ml",
        "vol_wl_mm3 in millilitres; for a probable missed detection vol_rano_ml is n/a.",
        "mL",
        stage="measure",
        combine="sum",
        absent=0,
    ),
    floating("necrosis_fraction", "vol_nc_mm3 over vol_wl_mm3; n/a if absent.", "1", stage="measure"),
    boolean("touches_border", "Whether it touches the edge of the brain or of the image (dural?).", stage="measure"),
    boolean("enhancing", "Whether it still enhances.", stage="measure"),
    *(floating(f"centroid_{a}_mm", f"Centre, {a}, RAS+, the image's own space.", "mm", stage="measure") for a in "xyz"),
    *(
        floating(f"centroid_{a}_ref_mm", f"Centre, {a}, RAS+, the patient's reference space.", "mm", stage="match")
        for a in "xyz"
    ),
    *(
        floating(
            f"{size}_change_{since}_pct",
            f"Change of {what} from {when}, like with like, as known at this session; {PERCENT}; n/a if first detected "
            "later.",
            "%",
        )
        for size, what in (("ld", "ld_rano_mm"), ("vol", "vol_rano_ml"))
        for since, when in (("baseline", "baseline"), ("nadir", "its nadir"))
    ),
    enum(
        "lesion_response",
        "The rules for the sum, applied to this lesion alone, from baseline or, if first detected later, from then. "
        "As known at this session: a probable missed detection reads CR; later sessions exclude it.",
        RESPONSE,
    ),
    enum(
        "new_lesion_status",
        "Status of a lesion first detected after baseline.",
        {
            "definite": "large enough, and on enough slices, when first detected",
            "equivocal": "may not be real",
            "confirmed": "was equivocal; later definite, or detected at further sessions: dates from its first",
            "rejected": "was equivocal; no longer detected at an evaluable session before it was confirmed",
        },
        revisable=True,
    ),
    floating(
        "mean_probability",
        "Mean probability of whole lesion in its voxels, the higher of both networks'; their thresholds are 0.5. n/a "
        "if absent or segmented manually.",
        "1",
        stage="measure",
    ),
    floating(
        "confidence",
        "Probability that it is a lesion: the mean probability of its most certain 1 mL, calibrated as the detection "
        "model says; of several components the highest. n/a if absent, segmented manually or propagated, or if the "
        "model is not calibrated.",
        "1",
        stage="measure",
    ),
    enum(
        "detected_by",
        "What detected it at this session.",
        {
            "manual": "manual segmentation",
            "both": "detection and re-segmentation",
            "detection": "detection alone, which has no prior",
            "resegmentation": "re-segmentation alone, which has the prior session's lesions",
            "sensitive": "neither at its threshold: the more sensitive model, or detection, from a lower threshold on "
            "or looking again at a scan finer than 1 mm",
            "propagation": "neither: propagated from the prior session (segment: fusion: rule)",
        },
        stage="measure",
    ),
    enum(
        "certainty",
        "Certainty of the segmentation: confidence, or without it mean_probability, against its limit (segment: "
        "confidence_limits); n/a where it was propagated.",
        {
            "confirmed": "certain enough to count",
            "candidate": "a suspicion only: it counts in no response until it is confirmed at a later session",
        },
        stage="measure",
    ),
    enum(
        "region",
        "Lobe or region of the brain where its centre was when first detected; from an atlas of lobes registered to "
        "the patient's reference space by an affine transform, accurate to some millimetres. n/a outside the brain, or "
        "if the registration failed.",
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
        stage="locate",
    ),
    enum(
        "side",
        "Side of its centre when first detected.",
        {"left": "left", "right": "right", "midline": "within 5 mm of the midline"},
        stage="locate",
    ),
    *(
        floating(
            f"{size}_{by}_{end}_{unit}",
            f"{what} {how}",
            unit_,
            stage="measure",
            combine="sum" if size == "vol" else "largest",
        )
        for by, hows in (
            (
                "probability",
                (
                    "where the networks' probability is at least 0.75; n/a where no network detected the lesion "
                    "(manual or propagated), or it is absent.",
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
    flags(_FLAGS_LESION, revisable=True, stage="measure"),
)

# Sizes of lesions at two sessions, like with like: from the matching to the response.
COMPARISONS = {
    "participant_id": "str", "session_id": "str", "earlier_session_id": "str", "track_id": "str",
    "ld_now_mm": "float64", "ld_then_mm": "float64", "vol_now_ml": "float64", "vol_then_ml": "float64",
}  # fmt: skip

# Columns of tables between stages that no final table has.
BETWEEN = (
    integer("instance", "Number of the component within its scan, from 1.", stage="measure"),
    boolean(
        "below_birth",
        "Too small to start a track (instances: birth_mm3, birth_vox; measure: birth_confidence).",
        stage="measure",
    ),
    *(integer(f"bbox_{axis}_vox", f"Extent along {axis}, nearest to RAS+, in voxels.", **_LARGEST) for axis in "xyz"),
    integer("index", "Number of the track.", stage="match"),
    text("components", "Numbers of its components, joined by ;, the one that carries the track first.", stage="match"),
    integer("sessions_missed", "Evaluable sessions without it since it was last present.", stage="match"),
    boolean("probable_missed_detection", "Back so soon and so large that it was missed.", stage="match"),
    boolean("weak_match", "match_score is below match: frac.", stage="match"),
    boolean("coalesced", "Cut from another lesion, or merged.", stage="match"),
    floating(
        "ld_components_mm",
        "Sum of the longest diameters of components large enough to be lesions of their own; the largest one's where "
        "none is; n/a for a single component.",
        "mm",
        stage="track",
    ),
    integer("order", "Position of the session in time, from 1."),
    floating("days", "Day of the session; n/a without dates.", "d"),
    text("sub", "Label of the patient."),
    text("ses", "Label of the session."),
    text("prior", "Label of the session before."),
    text("name", "Name of a label."),
)


def of_stage(stage: str) -> dict[str, Column]:
    """Return the columns that a step of the pipeline gives the lesions, by name."""
    return {c.name: c for c in (*BETWEEN, *LESIONS) if c.stage == stage}
