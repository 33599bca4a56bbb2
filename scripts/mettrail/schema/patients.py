"""Columns of the patients, of their treated lesions, and of the run that changes settings."""

from __future__ import annotations

from mettrail.schema.columns import (
    OVERALL,
    PARTICIPANT,
    RESPONSE,
    boolean,
    enum,
    flags,
    floating,
    integer,
    text,
)
from mettrail.schema.sessions import SESSIONS

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
    integer("n_targets", "Target lesions at baseline; what has merged with a target counts with it."),
    integer("n_nontargets", "Non-target lesions at baseline, as far as known.", revisable=True),
    integer("n_tracks_total", "Lesions ever detected.", revisable=True),
    integer("n_new_total", "Lesions first detected after baseline, or recurrent, and not rejected.", revisable=True),
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
    enum("best_response", f"Best overall response {_TO_PD}.", OVERALL, revisable=True),
    integer("best_response_day", "Day it was first seen, from t0.", "d", revisable=True),
    boolean("best_response_confirmed", "CR or PR: whether it was confirmed; n/a for others.", revisable=True),
    enum("best_response_volumetric", "Best response by volumes, images alone.", OVERALL, revisable=True),
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
    flags(_FLAGS_PATIENT, revisable=True),
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
    enum("best_response", "Best response by diameter from the pre-treatment size.", RESPONSE),
    boolean("local_failure", "Whether it failed: see failure_by; n/a if not detected before the treatment."),
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
            "no_pretreatment": "the lesion was not detected before the treatment: nothing to compare to",
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
    integer("n_tracks_total", "Lesions ever detected, all patients."),
    text("changes", "The sessions whose response_overall_final is another one, and from what to what."),
)
