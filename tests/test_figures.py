"""Pictures: the right side, the right slice, the right colour, and something to see when there is nothing."""

import matplotlib.image as mpimg
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from mettrail import figures
from mettrail.errors import GridMismatchError
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
                "registration_qc": "pass" if evaluable else "fail",
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
                "response_volumetric_prospective": ["n/a", "SD", "NE", "PR", "PR", "PD"][i],
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
    assert _share_of(tmp_path / "s.png", figures.track_colour("L001"), within=0.01) > 0.0005, "a track's colour is bent"
    y, x = np.argwhere(coloured).mean(0)
    cy, cx = np.argwhere(grey).mean(0)
    assert x > cx + 10, "a lesion of the left hemisphere is drawn on the left"
    assert y < cy - 5, "a lesion of the front is drawn at the back"


def test_the_slice_of_the_longest_diameter_is_drawn_and_points_lie_where_their_voxels_are():
    # In PIR the slices are not the last axis of the file.
    for stored in STORED:
        reference, lesions, _ = head_with_left_landmark(stored)
        view = figures._View.of(reference)
        k_axis = view.order[2]
        where = np.argwhere(lesions.data)
        index = int(where[:, k_axis].min())
        row = lesion_table().iloc[[0]].assign(ld_slice=index)
        assert figures._slice_of(row.iloc[0], view.turn(lesions.data) > 0, view) == view.axial(index)
        inside = np.moveaxis(view.turn(lesions.data), 2, 0)[view.axial(index)]
        assert inside.any()
        # A point of the world lies where its voxel is drawn.
        voxel = where[0]
        world = (reference.affine @ np.append(voxel, 1))[:3]
        turned = np.round(view.place(world) / np.array(view.spacing_mm)).astype(int)
        assert view.turn(lesions.data)[tuple(turned)] == 1


def test_a_slice_the_table_names_wrongly_gives_way_to_one_with_the_lesion():
    reference, lesions, _ = head_with_left_landmark("RAS")
    view = figures._View.of(reference)
    row = lesion_table().iloc[[0]].assign(ld_slice=0).iloc[0]
    assert view.turn(lesions.data)[:, :, figures._slice_of(row, lesions.data > 0, view)].any()


def test_a_session_without_lesions_still_has_a_picture(tmp_path):
    reference, lesions, brain = head_with_left_landmark("LPS")
    none = lesions.like(np.zeros_like(lesions.data))
    rows = lesion_table().iloc[:0]
    figures.draw_session(reference, none, brain, tmp_path / "a.png", lesion_rows=rows, title="t", max_lesions=6)
    figures.draw_session(reference, none, None, tmp_path / "b.png", lesion_rows=rows, title="t", max_lesions=6)
    for name in ("a", "b"):
        assert mpimg.imread(tmp_path / f"{name}.png").max() > 0.5


def test_more_lesions_than_fit_are_counted_and_targets_come_first(tmp_path):
    reference, lesions, brain = head_with_left_landmark("RAS")
    labels = np.zeros_like(lesions.data)
    for number in range(1, 9):
        labels[40 + 3 * number, 40:42, 20] = number
    rows = lesion_table().query("session_id == 'ses-01'")
    order = sorted(range(1, 9), key=lambda n: figures._prominence(_row_of(rows, n), 2, n))
    assert order[:4] == [1, 2, 3, 4]
    path = tmp_path / "s.png"
    figures.draw_session(reference, lesions.like(labels), brain, path, lesion_rows=rows, title="t", max_lesions=3)
    assert path.exists()


def _row_of(rows, number):
    own = rows[rows["track_id"] == f"L{number:03d}"]
    return own.iloc[0] if len(own) else None


def test_a_brain_mask_on_another_grid_frames_the_lesions(tmp_path):
    reference, lesions, _ = head_with_left_landmark("RAS")
    _, _, brain = head_with_left_landmark("PIR")
    rows = lesion_table().iloc[:1]
    figures.draw_session(reference, lesions, brain, tmp_path / "s.png", lesion_rows=rows, title="t", max_lesions=6)
    assert (figures._mask_on(brain, reference) > 0).mean() == pytest.approx((reference.data > 0).mean(), rel=0.05)


def test_pictures_of_two_scans_want_one_grid(tmp_path):
    one, _, _ = head_with_left_landmark("RAS")
    other, labels, _ = head_with_left_landmark("LPS")
    with pytest.raises(GridMismatchError):
        figures.draw_registration(one, other, tmp_path / "r.png", title="t")
    with pytest.raises(GridMismatchError):
        figures.draw_session(
            one, labels, None, tmp_path / "s.png", lesion_rows=lesion_table(), title="t", max_lesions=1
        )
    with pytest.raises(GridMismatchError):
        figures.draw_brain_mask(one, labels, tmp_path / "b.png", title="t")


def test_masks_and_registrations_are_drawn_also_when_empty_or_first(tmp_path):
    scan, _, brain = head_with_left_landmark("PIR")
    empty = brain.like(np.zeros(brain.data.shape, bool))
    for name, mask in (("full", brain), ("empty", empty)):
        figures.draw_brain_mask(scan, mask, tmp_path / f"{name}.png", title="t")
    yellow = [_share_of(tmp_path / f"{n}.png", "#ffd447") for n in ("full", "empty")]
    assert yellow[0] > 0.001 and yellow[1] == 0
    figures.draw_registration(scan, scan, tmp_path / "r.png", title="t")
    figures.draw_registration(scan, None, tmp_path / "first.png", title="t")
    flat = scan.like(np.zeros_like(scan.data))
    figures.draw_registration(scan, flat, tmp_path / "flat.png", title="t")


def _share_of(path, colour, within=0.12):
    picture = mpimg.imread(path)[..., :3]
    return float((np.abs(picture - np.array(to_rgb(colour))).max(-1) < within).mean())


def test_a_track_has_one_colour_for_life_and_its_neighbours_have_others():
    assert figures.track_colour("L003") == figures.track_colour("L003") == figures.track_colour("3")
    first = [figures.track_colour(f"L{n:03d}") for n in range(1, len(figures.TRACK_COLOURS) + 1)]
    assert len(set(first)) == len(first)
    assert figures.track_colour("unnumbered") in figures.TRACK_COLOURS


def draw(tmp_path, lesions, sessions, name="t.svg"):
    path = tmp_path / name
    figures.draw_trajectories(lesions, sessions, path, **RANO, pd_abs_mm=5.0)
    return path


def test_trajectories_show_every_track_in_its_colour(tmp_path):
    svg = draw(tmp_path, lesion_table(), session_table()).read_text()
    for track in DIAMETERS_MM:
        assert track in svg
        assert figures.track_colour(track) in svg.lower()
    assert "L003 joins L001" in svg
    assert ">PD<" in svg and ">NE<" in svg


@pytest.mark.parametrize("case", ["nothing", "no lesion", "one session", "no dates", "not evaluable", "many"])
def test_trajectories_are_drawn_for_the_odd_cases(case, tmp_path):
    lesions, sessions = lesion_table(), session_table()
    if case == "nothing":
        lesions, sessions = lesions.iloc[:0], sessions.iloc[:0]
    elif case == "no lesion":
        lesions = lesions.iloc[:0]
        sessions = sessions.assign(sum_ld_mm="n/a", nadir_sum_ld_mm="n/a", sum_ld_baseline_mm="n/a")
    elif case == "one session":
        lesions, sessions = lesions[lesions["session_id"] == "ses-01"], sessions.iloc[:1]
    elif case == "no dates":
        sessions = sessions.assign(days_from_t0="n/a")
    elif case == "not evaluable":
        lesions = lesions.assign(status="not_evaluable", ld_mm="n/a", vol_wl_ml="n/a")
        sessions = sessions.assign(
            evaluable="false", sum_ld_mm=np.nan, nadir_sum_ld_mm=None, response_overall_final="NE"
        )
    else:
        one = lesions[lesions["track_id"] == "L001"]
        lesions = pd.concat([one.assign(track_id=f"L{n:03d}") for n in range(1, 26)])
    svg = draw(tmp_path, lesions, sessions).read_text()
    assert "</svg>" in svg
    words = {"nothing": "no lesion in any session", "no lesion": "no sum", "no dates": "no dates known"}
    assert words.get(case, "Longest diameter") in svg


def test_the_same_tables_give_the_same_bytes(tmp_path):
    one, two = (draw(tmp_path, lesion_table(), session_table(), f"{n}.svg") for n in "ab")
    assert one.read_bytes() == two.read_bytes()


def test_charts_speak_of_nothing_outside_and_know_the_dark(tmp_path):
    svg = draw(tmp_path, lesion_table(), session_table()).read_text()
    assert "prefers-color-scheme: dark" in svg
    assert "<metadata" not in svg and "DOCTYPE" not in svg


def test_the_cohort_is_drawn_with_no_one_and_with_someone_without_sessions(tmp_path):
    patients = pd.DataFrame(
        {
            "participant_id": ["sub-A", "sub-B", "sub-C"],
            "best_change_ld_pct": [-63.4, "n/a", 140.0],
            "best_response": ["PR", "NE", "PD"],
            "progression_day": [273, "n/a", "n/a"],
        }
    )
    path = tmp_path / "c.svg"
    figures.draw_cohort(patients, session_table(), path, **RANO)
    assert all(name in path.read_text() for name in ("sub-A", "sub-B", "sub-C"))
    figures.draw_cohort(patients.iloc[:0], session_table().iloc[:0], path, **RANO)
    assert "no patient" in path.read_text()
