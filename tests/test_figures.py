"""Pictures: the right side, the right slice, the right colour, and something to see when there is nothing."""

import matplotlib.image as mpimg
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from mettrail import figures
from mettrail.images import Image

RANO = {"pr_fraction": 0.30, "pd_fraction": 0.20}
SESSIONS = ["ses-01", "ses-02", "ses-03", "ses-04", "ses-05", "ses-06"]
DAYS = [0, 56, 98, 154, 210, 273]
# Longest diameters by session; None: not yet born, "ne": not evaluable, "m": merged into L001.
DIAMETERS_MM = {
    "L001": ("target", [24.0, 18.2, "ne", 15.1, 14.0, 21.4]),
    "L002": ("target", [14.2, 10.1, "ne", 8.3, 0, 0]),
    "L003": ("nontarget", [7.5, 7.9, "ne", 7.2, "m", "m"]),
    "L004": ("nontarget", [4.1, 0, "ne", 3.8, 3.9, 4.0]),
    "L005": ("new", [None, None, None, None, 4.2, 9.6]),
}
RESPONSES = ["n/a", "SD", "NE", "PR", "PR", "PD"]


def lesion_table(participant="sub-A"):
    """One patient's rows of the lesion table, as the tables stage writes them."""
    rows = []
    for track, (role, sizes) in DIAMETERS_MM.items():
        previous = None
        for i, size in enumerate(sizes):
            if size is None:
                continue
            status = {"ne": "not_evaluable", "m": "merged", 0: "absent"}.get(size, "present")
            ld = float(size) if status == "present" else 0.0 if status == "absent" else "n/a"
            event = "baseline" if i == 0 else "new" if previous is None else "persist"
            event = {"absent": "absent", "merged": "merged_into", "not_evaluable": "not_evaluable"}.get(status, event)
            if status == "present" and previous == 0:
                event = "reappeared"
            volume = n_a(ld, lambda d: round(0.5236 * 0.7 * d**3 / 1000, 4))
            rows.append(
                {
                    "participant_id": participant,
                    "session_id": SESSIONS[i],
                    "track_id": track,
                    "days_from_t0": DAYS[i],
                    "is_baseline": "true" if i == 0 else "false",
                    "status": status,
                    "event": event,
                    "merged_into": "L001" if status == "merged" else "n/a",
                    "n_fragments": 1,
                    "role": role,
                    "measurable": "true" if status == "present" and ld >= 10 else "false",
                    "ld_mm": ld,
                    "perp_mm": n_a(ld, lambda d: round(d * 0.8, 1)),
                    "vol_wl_ml": volume,
                    "ld_change_baseline_pct": n_a(ld, lambda d, first=sizes[0]: round(100 * (d / first - 1), 1))
                    if sizes[0]
                    else "n/a",
                    "lesion_response": "n/a",
                    "new_lesion_status": "definite"
                    if role == "new" and i == 5
                    else "equivocal"
                    if role == "new"
                    else "n/a",
                    "confidence": "candidate" if role == "new" and i == 4 else "confirmed",
                    "ld_slice": "n/a",
                    "ld_p1_ras": "n/a",
                    "ld_p2_ras": "n/a",
                    "flags": "probable_miss" if track == "L004" and i == 1 else "n/a",
                }
            )
            previous = size
    return pd.DataFrame(rows)


def session_table(participant="sub-A"):
    """One patient's rows of the session table."""
    sums = [38.2, 28.3, "n/a", 23.4, 14.0, 21.4]
    nadirs = ["n/a", 38.2, "n/a", 28.3, 23.4, 14.0]
    rows = []
    for i, (name, day) in enumerate(zip(SESSIONS, DAYS)):
        evaluable = name != "ses-03"
        rows.append(
            {
                "participant_id": participant,
                "session_id": name,
                "days_from_t0": day,
                "session_role": "baseline" if i == 0 else "followup",
                "evaluable": "true" if evaluable else "false",
                "ne_reason": "n/a" if evaluable else "registration_failed",
                "registration_qc": 0.97 if evaluable else 0.81,
                "n_lesions": [4, 3, "n/a", 4, 3, 3][i],
                "n_targets": 2,
                "n_new": [0, 0, "n/a", 0, 1, 0][i],
                "n_absent": [0, 1, "n/a", 0, 1, 1][i],
                "sum_ld_mm": sums[i],
                "sum_ld_baseline_mm": 38.2,
                "nadir_sum_ld_mm": nadirs[i],
                "sum_ld_change_baseline_pct": ["n/a", -25.9, "n/a", -38.7, -63.4, -44.0][i],
                "sum_ld_change_nadir_pct": ["n/a", -25.9, "n/a", -17.3, -40.2, 52.9][i],
                "max_lesion_increase_mm": ["n/a", 0.0, "n/a", 0.0, 0.0, 7.4][i],
                "total_vol_wl_ml": [6.4, 2.8, "n/a", 1.6, 1.1, 4.0][i],
                "target_response": ["n/a", "SD", "NE", "PR", "PR", "PD"][i],
                "nontarget_response": ["n/a", "NON_CR_NON_PD", "NE", *["NON_CR_NON_PD"] * 3][i],
                "new_lesion": ["none", "none", "none", "none", "equivocal", "definite"][i],
                "clinical_assumed": "true",
                "response_imaging_prospective": RESPONSES[i],
                "response_imaging_final": RESPONSES[i],
                "response_overall_prospective": RESPONSES[i],
                "response_overall_final": RESPONSES[i],
                "response_volumetric": ["n/a", "SD", "NE", "PR", "PR", "PD"][i],
                "confirmed": ["n/a", "n/a", "n/a", "true", "true", "n/a"][i],
                "pd_reason": "target;new" if i == 5 else "n/a",
                "flags": "n/a",
            }
        )
    return pd.DataFrame(rows)


def n_a(value, change):
    return "n/a" if value == "n/a" else change(value)


# Array axes to world for three ways of storing the same head, one of them in slices that are not axial.
STORED = {
    "RAS": np.diag([1.0, 1.2, 2.0, 1.0]),
    "LPS": np.diag([-1.0, -1.2, 2.0, 1.0]),
    "PIR": np.array([[0, 0, 2.0, 0], [-1.0, 0, 0, 0], [0, -1.2, 0, 0], [0, 0, 0, 1.0]]),
}


def head_with_left_landmark(stored, *, lesion_world=(-18.0, 12.0, 6.0)):
    """A ball of a head with a bright cube and its label on the patient's left, in front; the rest is dim."""
    affine = STORED[stored].copy()
    size = np.array([100.0, 110.0, 80.0])
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    reach = np.abs(affine[:3, :3] / spacing).T @ size
    shape = np.round(reach / spacing).astype(int)
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    brain = ((world / (size * 0.45)) ** 2).sum(-1) <= 1
    lesion = (np.abs(world - lesion_world) <= 5.5).all(-1)
    data = np.where(brain, 100.0, 0.0) + np.where(lesion, 200.0, 0)
    return Image(data.astype(np.float32), affine), Image(lesion.astype(np.uint8), affine), Image(brain, affine)


@pytest.mark.parametrize("stored", list(STORED))
def test_the_patients_left_is_on_the_right_of_the_picture_and_the_front_on_top(stored, tmp_path):
    reference, lesions, brain = head_with_left_landmark(stored)
    rows = lesion_table().iloc[:1]
    figures.draw_session(reference, lesions, brain, tmp_path / "s.png", lesion_rows=rows, title="t", max_lesions=6)
    picture = mpimg.imread(tmp_path / "s.png")[..., :3]
    # The whole slice only: below the lesion's name, left of the near view.
    panel = picture[100:-40, : int(2.25 * 110)]
    coloured = np.abs(panel - np.array(to_rgb(figures.track_colour("L001")))).max(-1) < 0.2
    grey = panel.min(-1) > 0.15
    assert coloured.sum() > 20
    y, x = np.argwhere(coloured).mean(0)
    cy, cx = np.argwhere(grey).mean(0)
    assert x > cx + 10, "a lesion of the left hemisphere is drawn on the left"
    assert y < cy - 5, "a lesion of the front is drawn at the back"
