"""Tables of one patient as pages and pictures get them: six sessions, five lesions, all that can happen to them."""

import pandas as pd
from mettrail import schema

SESSIONS = ["ses-01", "ses-02", "ses-03", "ses-04", "ses-05", "ses-06"]


DAYS = [0, 56, 98, 154, 210, 273]


# Longest diameters by session; None: not yet detected, "ne": not evaluable, "m": merged into L001.
DIAMETERS_MM = {
    "L001": ("target", [24.0, 18.2, "ne", 15.1, 14.0, 21.4]),
    "L002": ("target", [14.2, 10.1, "ne", 8.3, 0, 0]),
    "L003": ("nontarget", [7.5, 7.9, "ne", 7.2, "m", "m"]),
    "L004": ("nontarget", [4.1, 0, "ne", 3.8, 3.9, 4.0]),
    "L005": ("new", [None, None, None, None, 4.2, 9.6]),
}


RESPONSES = [None, "SD", "NE", "PR", "PR", "PD"]


def lesion_table(participant="sub-A"):
    """One patient's rows of the lesion table, with the types of `schema.read_table`."""
    rows = []
    for track, (role, sizes) in DIAMETERS_MM.items():
        previous = None
        for i, size in enumerate(sizes):
            if size is None:
                continue
            status = {"ne": "not_evaluable", "m": "merged", 0: "absent"}.get(size, "present")
            ld = float(size) if status == "present" else 0.0 if status == "absent" else None
            event = "baseline" if i == 0 else "new" if previous is None else "persist"
            event = {"absent": "absent", "merged": "merged_into", "not_evaluable": "not_evaluable"}.get(status, event)
            if status == "present" and previous == 0:
                event = "reappeared"
            volume = if_known(ld, lambda d: round(0.5236 * 0.7 * d**3 / 1000, 4))
            rows.append(
                {
                    "participant_id": participant,
                    "session_id": SESSIONS[i],
                    "track_id": track,
                    "days_from_t0": DAYS[i],
                    "is_baseline": i == 0,
                    "status": status,
                    "event": event,
                    "merged_into": "L001" if status == "merged" else None,
                    "n_components": 1,
                    "role": role,
                    "measurable": status == "present" and ld >= 10,
                    "ld_mm": ld,
                    "perp_mm": if_known(ld, lambda d: round(d * 0.8, 1)),
                    "vol_wl_ml": volume,
                    "ld_change_baseline_pct": if_known(ld, lambda d, first=sizes[0]: round(100 * (d / first - 1), 1))
                    if sizes[0]
                    else None,
                    "lesion_response": None,
                    "new_lesion_status": "definite"
                    if role == "new" and i == 5
                    else "equivocal"
                    if role == "new"
                    else None,
                    "certainty": "candidate" if role == "new" and i == 4 else "confirmed",
                    "confidence": 0.45 if role == "new" and i == 4 else 0.97,
                    "ld_slice": None,
                    "flags": "probable_missed_detection" if track == "L004" and i == 1 else None,
                }
            )
            previous = size
    return typed(rows, "lesions")


def session_table(participant="sub-A"):
    """One patient's rows of the session table, with the types of `schema.read_table`."""
    sums = [38.2, 28.3, None, 23.4, 14.0, 21.4]
    nadirs = [None, 38.2, None, 28.3, 23.4, 14.0]
    rows = []
    for i, (name, day) in enumerate(zip(SESSIONS, DAYS)):
        evaluable = name != "ses-03"
        rows.append(
            {
                "participant_id": participant,
                "session_id": name,
                "days_from_t0": day,
                "session_role": "baseline" if i == 0 else "followup",
                "evaluable": evaluable,
                "ne_reason": None if evaluable else "registration_failed",
                "registration_qc": "pass" if evaluable else "fail",
                "n_lesions": [4, 3, None, 4, 3, 3][i],
                "n_targets": 2,
                "n_new": [0, 0, None, 0, 1, 0][i],
                "n_absent": [0, 1, None, 0, 1, 1][i],
                "sum_ld_mm": sums[i],
                "sum_ld_final_mm": sums[i],
                "sum_ld_baseline_mm": 38.2,
                "reference_sum_ld_mm": 38.2 if i and evaluable else None,
                "nadir_sum_ld_mm": nadirs[i],
                "sum_ld_change_baseline_pct": [None, -25.9, None, -38.7, -63.4, -44.0][i],
                "sum_ld_change_nadir_pct": [None, -25.9, None, -17.3, -40.2, 52.9][i],
                "max_lesion_increase_mm": [None, 0.0, None, 0.0, 0.0, 7.4][i],
                "total_vol_wl_ml": [6.4, 2.8, None, 1.6, 1.1, 4.0][i],
                "target_response": [None, "SD", "NE", "PR", "PR", "PD"][i],
                "nontarget_response": [None, "NON_CR_NON_PD", "NE", *["NON_CR_NON_PD"] * 3][i],
                "new_lesion": ["none", "none", "none", "none", "equivocal", "definite"][i],
                "clinical_assumed": True,
                "response_imaging_prospective": RESPONSES[i],
                "response_imaging_final": RESPONSES[i],
                "response_overall_prospective": RESPONSES[i],
                "response_overall_final": RESPONSES[i],
                "response_overall_continued": RESPONSES[i],
                "response_volumetric_prospective": [None, "SD", "NE", "PR", "PR", "PD"][i],
                "response_volumetric_final": [None, "SD", "NE", "PR", "PR", "PD"][i],
                "confirmed": [None, None, None, True, True, None][i],
                "pd_reason": "target;new" if i == 5 else None,
                "flags": None,
            }
        )
    return typed(rows, "sessions")


def typed(rows, kind):
    """Rows with all columns of their table."""
    return schema.make_table(pd.DataFrame(rows, columns=schema.columns(kind), dtype=object), kind)


def if_known(value, change):
    return None if value is None else change(value)
