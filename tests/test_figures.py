"""Pictures: the right side, the right slice, the right colour, and something to see when there is nothing."""

import re

import matplotlib.image as mpimg
import numpy as np
import pandas as pd
import pytest
from assessing import assess
from conftest import settings_of
from drawn_pages import CURVE, PATIENT, draw_charts
from drawn_patient import DIAMETERS_MM, lesion_table, session_table
from matplotlib.colors import to_rgb
from mettrail.colours import CAVITY_COLOUR, TRACK_COLOURS, track_colour
from mettrail.errors import GridMismatchError
from mettrail.images import CAVITY, EDEMA, NECROSIS, Image
from mettrail.report import charts, figures, scans
from mettrail.tracking.axial import ENDPOINTS
from scipy import ndimage
from skimage import color

RANO = {name: settings_of("rano")[name] for name in ("pr", "pd", "pd_abs_mm", "abs_rule", "confirm", "confirm_days")}
COHORT = {"pr_fraction": 0.30, "pd_fraction": 0.20}
NONE = pd.DataFrame()


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


def draw_session(path, reference, lesions, brain=None, *, rows, tissue=None, earlier=NONE, **more):
    """Draw a session; without tissue the lesions enhance as a whole."""
    tissue = tissue or lesions.like((lesions.data > 0).astype(np.uint8))
    second = path.with_name("more.png")
    scans.draw_session(
        reference, lesions, tissue, brain, path, second, lesion_rows=rows, earlier_rows=earlier, title="t", **more
    )
    return path, second


@pytest.mark.parametrize("stored", list(STORED))
def test_the_patients_left_is_on_the_right_and_the_front_on_top(stored, tmp_path):
    reference, lesions, brain = head_with_left_landmark(stored)
    rows = lesion_table().iloc[:1]
    draw_session(tmp_path / "s.png", reference, lesions, brain, rows=rows)
    picture = mpimg.imread(tmp_path / "s.png")[..., :3]
    # The whole slice only: below the name of the lesion, left of the near view, above the key.
    panel = picture[100:-70, : int(2.25 * 110)]
    coloured = np.abs(panel - np.array(to_rgb(track_colour("L001")))).max(-1) < 0.2
    grey = panel.min(-1) > 0.15
    assert coloured.sum() > 20
    assert _share_of(tmp_path / "s.png", track_colour("L001"), within=0.01) > 0.0005, "a track's colour is bent"
    y, x = np.argwhere(coloured).mean(0)
    cy, cx = np.argwhere(grey).mean(0)
    assert x > cx + 10, "a lesion of the left hemisphere is drawn on the left"
    assert y < cy - 5, "a lesion of the front is drawn at the back"


def test_the_slice_of_the_longest_diameter_is_drawn():
    # In PIR the slices are not the last axis of the file.
    for stored in STORED:
        reference, lesions, _ = head_with_left_landmark(stored)
        view = scans.View.of(reference)
        k_axis = view.order[2]
        where = np.argwhere(lesions.data)
        index = int(where[:, k_axis].min())
        row = lesion_table().iloc[[0]].assign(ld_slice=index)
        assert scans.slice_of(row.iloc[0], view.turn(lesions.data) > 0, view) == view.axial(index)
        inside = np.moveaxis(view.turn(lesions.data), 2, 0)[view.axial(index)]
        assert inside.any()
        # A point of the world lies where its voxel is drawn.
        voxel = where[0]
        world = (reference.affine @ np.append(voxel, 1))[:3]
        turned = np.round(view.place(world) / np.array(view.spacing_mm)).astype(int)
        assert view.turn(lesions.data)[tuple(turned)] == 1


def test_a_slice_the_table_names_wrongly_gives_way_to_one_with_the_lesion():
    reference, lesions, _ = head_with_left_landmark("RAS")
    view = scans.View.of(reference)
    row = lesion_table().iloc[[0]].assign(ld_slice=0).iloc[0]
    assert view.turn(lesions.data)[:, :, scans.slice_of(row, lesions.data > 0, view)].any()


def test_a_session_without_lesions_still_has_a_picture(tmp_path):
    reference, lesions, brain = head_with_left_landmark("LPS")
    none = lesions.like(np.zeros_like(lesions.data))
    rows = lesion_table().iloc[:0]
    draw_session(tmp_path / "a.png", reference, none, brain, rows=rows)
    draw_session(tmp_path / "b.png", reference, none, rows=rows)
    for name in ("a", "b", "more"):
        assert mpimg.imread(tmp_path / f"{name}.png").max() > 0.5


def test_new_grown_and_flagged_lesions_come_first_and_none_is_missing(tmp_path):
    reference, lesions, brain = head_with_left_landmark("RAS")
    labels = np.zeros_like(lesions.data)
    for number in range(1, 15):
        labels[15 + 5 * number : 17 + 5 * number, 40:42, 20] = number
    one = {"status": "present", "event": "persist", "ld_mm": 9.0, "role": "nontarget", "flags": None}
    rows = {n: one | {"track_id": f"L{n:03d}", "ld_mm": 30.0 - n} for n in range(1, 15)}
    rows[3]["role"] = "target"
    rows[14]["event"] = "new"
    rows[13] |= {"ld_mm": 6.0}
    rows[12]["flags"] = "thick_slice;weak_match"
    rows[11]["flags"] = "thick_slice"
    earlier = pd.DataFrame([{"track_id": "L013", "ld_mm": size, "status": "present"} for size in (8.0, 5.0, 5.5)])
    smallest = figures.find_smallest_before(earlier)
    order = scans.drawing_order(labels, {n: pd.Series(row) for n, row in rows.items()}, smallest)
    assert order == [14, 13, 12, 3, 1, 2, *range(4, 12)], "new, grown by a fifth, flagged, target, then by size"
    table = pd.DataFrame(rows.values())
    paths = draw_session(tmp_path / "first.png", reference, lesions.like(labels), brain, rows=table, earlier=earlier)
    first = figures.FIRST_LESIONS
    for path, numbers in zip(paths, (order[:first], order[first:]), strict=True):
        for number in numbers:
            assert _share_of(path, track_colour(f"L{number:03d}"), within=0.01) > 0, number


@pytest.mark.parametrize("brightness", [40, 1000])
def test_the_longest_diameter_is_seen_on_dark_and_on_bright_tissue(brightness, tmp_path):
    reference, lesions, brain = head_with_left_landmark("RAS")
    scan = reference.like(np.where(lesions.data > 0, brightness, reference.data).astype(np.float32))
    ends = dict(zip(ENDPOINTS, (-23, 12, 6, -13, 12, 6), strict=True))
    pictures = []
    for row in (lesion_table().iloc[[0]], lesion_table().iloc[[0]].assign(**ends)):
        path, _ = draw_session(tmp_path / f"{len(pictures)}.png", scan, lesions, brain, rows=row)
        pictures.append(mpimg.imread(path)[..., :3].mean(-1))
    changed = np.abs(pictures[1] - pictures[0]) > 0.25
    assert changed.sum() > 60, "a line of its length, with its casing"


def test_edema_and_necrosis_are_outlined_each_in_its_own_way(tmp_path):
    reference, lesions, brain = head_with_left_landmark("RAS")
    around = ndimage.binary_dilation(lesions.data > 0, iterations=5)
    core = ndimage.binary_erosion(lesions.data > 0, np.ones((5, 5, 1)))
    beyond = ndimage.binary_dilation(around, iterations=4) & ~around
    shares = []
    for edema, necrosis, cavity in (
        (False, False, False),
        (True, False, False),
        (True, True, False),
        (True, True, True),
    ):
        tissue = (lesions.data > 0).astype(np.uint8)
        tissue[around & (tissue == 0) & edema] = EDEMA
        tissue[core & necrosis] = NECROSIS
        tissue[beyond & cavity] = CAVITY
        path, _ = draw_session(
            tmp_path / f"{len(shares)}.png", reference, lesions, brain, rows=lesion_table().iloc[:1],
            tissue=lesions.like(tissue),
        )  # fmt: skip
        shares.append((_share_of(path, "#ffd447", within=0.1), mpimg.imread(path)[..., :3]))
    assert shares[1][0] > 3 * shares[0][0], "more yellow than in the key alone"
    assert (shares[2][1] != shares[1][1]).any(-1).sum() > 40, "a line around necrosis"
    green = [_share_of(tmp_path / f"{n}.png", CAVITY_COLOUR, within=0.02) for n in (2, 3)]
    assert green[0] < 1e-4 < green[1], "a line around the cavity, and its entry in the key"


def test_a_brain_mask_on_another_grid_frames_the_lesions(tmp_path):
    reference, lesions, _ = head_with_left_landmark("RAS")
    _, _, brain = head_with_left_landmark("PIR")
    rows = lesion_table().iloc[:1]
    draw_session(tmp_path / "s.png", reference, lesions, brain, rows=rows)
    assert (scans.mask_on(brain, reference) > 0).mean() == pytest.approx((reference.data > 0).mean(), rel=0.05)


def test_pictures_of_two_scans_want_one_grid(tmp_path):
    one, _, _ = head_with_left_landmark("RAS")
    other, labels, _ = head_with_left_landmark("LPS")
    with pytest.raises(GridMismatchError):
        scans.draw_registration(one, other, tmp_path / "r.png", title="t")
    with pytest.raises(GridMismatchError):
        draw_session(tmp_path / "s.png", one, labels, rows=lesion_table())
    with pytest.raises(GridMismatchError):
        draw_session(tmp_path / "s.png", other, labels, rows=lesion_table(), tissue=one)
    with pytest.raises(GridMismatchError):
        scans.draw_brain_mask(one, labels, tmp_path / "b.png", title="t")


def test_masks_and_registrations_are_drawn_also_when_empty_or_first(tmp_path):
    scan, _, brain = head_with_left_landmark("PIR")
    empty = brain.like(np.zeros(brain.data.shape, bool))
    for name, mask in (("full", brain), ("empty", empty)):
        scans.draw_brain_mask(scan, mask, tmp_path / f"{name}.png", title="t")
    yellow = [_share_of(tmp_path / f"{n}.png", "#ffd447") for n in ("full", "empty")]
    assert yellow[0] > 0.001 and yellow[1] == 0
    scans.draw_registration(scan, scan, tmp_path / "r.png", title="t")
    scans.draw_registration(scan, None, tmp_path / "first.png", title="t")
    flat = scan.like(np.zeros_like(scan.data))
    scans.draw_registration(scan, flat, tmp_path / "flat.png", title="t")


def _share_of(path, colour, within=0.12):
    picture = mpimg.imread(path)[..., :3]
    return float((np.abs(picture - np.array(to_rgb(colour))).max(-1) < within).mean())


def test_a_lesion_keeps_its_colour_and_sixty_lesions_look_different():
    assert track_colour("L003") == track_colour("L003") == track_colour("3")
    looks = [(track_colour(f"L{n:03d}"), figures.track_marker(f"L{n:03d}")) for n in range(1, 65)]
    assert len(set(looks)) == 64
    assert len({colour for colour, _ in looks[:8]}) == 8, "neighbours differ in colour"
    assert track_colour("unnumbered") in TRACK_COLOURS


# Machado, Oliveira and Fernandes 2009: what the colour-blind see of linear RGB, at full severity.
SEEN = {
    "all": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("eyes", list(SEEN))
def test_colours_of_lesions_differ_for_the_colour_blind_too(eyes):
    colours = np.array([to_rgb(c) for c in TRACK_COLOURS])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    light = np.clip(linear @ np.array(SEEN[eyes]).T, 0, 1)
    seen = color.rgb2lab(np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)[None])[0]
    apart = color.deltaE_ciede2000(seen[:, None], seen[None])
    assert apart[~np.eye(len(colours), dtype=bool)].min() >= 12


def draw(tmp_path, lesions, sessions, name="t.svg", treatments=NONE, rano=RANO):
    path = tmp_path / name
    charts.draw_trajectories(lesions, sessions, treatments, path, rano=rano)
    return path


def test_trajectories_show_every_track_in_its_colour(tmp_path):
    svg = draw(tmp_path, lesion_table(), session_table()).read_text()
    for track in DIAMETERS_MM:
        assert track in svg
        assert track_colour(track) in svg.lower()
    assert "L003 joins L001" in svg
    assert ">PD<" in svg and ">NE<" in svg


@pytest.mark.parametrize("case", ["nothing", "no lesion", "one session", "no dates", "not evaluable", "many"])
def test_trajectories_are_drawn_for_the_odd_cases(case, tmp_path):
    lesions, sessions = lesion_table(), session_table()
    if case == "nothing":
        lesions, sessions = lesions.iloc[:0], sessions.iloc[:0]
    elif case == "no lesion":
        lesions = lesions.iloc[:0]
        sessions = sessions.assign(sum_ld_mm=None, sum_ld_final_mm=None, nadir_sum_ld_mm=None, sum_ld_baseline_mm=None)
    elif case == "one session":
        lesions, sessions = lesions[lesions["session_id"] == "ses-01"], sessions.iloc[:1]
    elif case == "no dates":
        sessions = sessions.assign(days_from_t0=None)
    elif case == "not evaluable":
        lesions = lesions.assign(status="not_evaluable", ld_mm=None, vol_wl_ml=None)
        sessions = sessions.assign(
            evaluable=False, sum_ld_final_mm=np.nan, nadir_sum_ld_mm=None, response_overall_final="NE"
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
            "best_change_ld_pct": [-63.4, None, 140.0],
            "best_response": ["PR", "NE", "PD"],
            "progression_day": [273, None, None],
        }
    )
    path = tmp_path / "c.svg"
    charts.draw_cohort(patients, session_table(), path, **COHORT)
    assert all(name in path.read_text() for name in ("sub-A", "sub-B", "sub-C"))
    charts.draw_cohort(patients.iloc[:0], session_table().iloc[:0], path, **COHORT)
    assert "no patient" in path.read_text()


# ---------------------------------------------------------------------------------------------------- thresholds


def require_true_lines(sessions, **settings):
    """No session that is not PD by its targets lies above the line, none that is lies below; return how many were."""
    sessions = (
        sessions.assign(sum_ld_final_mm=sessions["sum_ld_mm"], reference_sum_ld_mm=sessions["sum_ld_baseline_mm"])
        if sessions["sum_ld_final_mm"].isna().all()
        else sessions
    )
    lines = charts.response_lines(sessions, rano=RANO | settings).set_index("session_id")
    target = sessions.set_index("session_id")["target_response"]
    for name, line in lines.iterrows():
        if target[name] == "PD":
            assert line["sum_mm"] >= line["pd_mm"] - 1e-6, (name, line)
        else:
            assert line["sum_mm"] <= line["pd_mm"] + 1e-6, (name, line)
            if target[name] in ("PR", "CR"):
                assert line["sum_mm"] <= max(line["pr_mm"], 0) + 1e-6 or line["nadir_mm"] == 0, (name, line)
            elif target[name] == "SD":
                assert line["sum_mm"] > line["pr_mm"] - 1e-6, (name, line)
    return [target[name] for name in lines.index]


@pytest.mark.parametrize("abs_rule", ["lesion", "sum"])
def test_no_stable_point_lies_above_the_line_of_pd_and_no_pd_below(abs_rule):
    rng = np.random.default_rng(3)
    seen = []
    for _ in range(60):
        n = rng.integers(1, 6)
        # Together, or each on its own.
        steps = rng.normal(0, 0.17, 5) + rng.normal(0, rng.choice([0.04, 0.25]), (n, 5))
        sizes = np.exp(steps.cumsum(axis=1)) * rng.uniform(10, 25, (n, 1))
        sizes[rng.random(sizes.shape) < 0.05] = 0
        sizes[:, 0] = np.maximum(sizes[:, 0], 10)
        tracks = {f"L{k + 1:03d}": list(row.round(1)) for k, row in enumerate(sizes)}
        if n > 1 and rng.random() < 0.3:
            tracks["L002"][3] = "L001" if tracks["L001"][3] else 0
        seen += require_true_lines(assess(tracks, abs_rule=abs_rule)[1], abs_rule=abs_rule)
    counts = {response: seen.count(response) for response in ("PD", "PR", "SD")}
    assert min(counts.values()) > 15, counts


@pytest.mark.parametrize(
    ("tracks", "settings", "line"),
    [
        ({"L001": [20, 10, 14.9]}, {}, 15),  # 5 mm decide, not 20 %
        ({"L001": [30, 26, 31.1]}, {}, 31.2),  # 20 % decide
        ({"L001": [17, 10, 12], "L002": [17, 10, 12], "L003": [16, 10, 12]}, {}, 39),  # 36, and 3 mm more in one
        ({"L001": [17, 10, 12], "L002": [17, 10, 12], "L003": [16, 10, 12]}, {"abs_rule": "sum"}, 36),
        ({"L001": [17, 10, 16], "L002": [17, 10, 4]}, {}, 24),  # one has grown enough, the sum has not
        ({"L001": [20, 0, 3]}, {}, 5),  # back after CR that nothing has confirmed
        ({"L001": [20, 0, 0, 3]}, {}, 0),  # back after a confirmed CR, however small
    ],
)
def test_the_line_of_pd_lies_where_the_rule_says(tracks, settings, line):
    sessions = assess(tracks, **settings)[1]
    require_true_lines(sessions, **settings)
    sessions = sessions.assign(sum_ld_final_mm=sessions["sum_ld_mm"])
    assert charts.response_lines(sessions, rano=RANO | settings)["pd_mm"].iloc[-1] == pytest.approx(line)


def test_a_sum_compared_like_with_like_stands_on_its_side_of_the_lines():
    # Two targets of 20 mm fuse to 30 mm; cut as they were apart they are 22 mm each: 44 from 40 mm is SD.
    row = {"session_id": "ses-02", "session_role": "followup", "sum_ld_final_mm": 30, "nadir_sum_ld_mm": 40}
    row |= {"sum_ld_change_nadir_pct": 10, "max_lesion_increase_mm": 2}
    row |= {"reference_sum_ld_mm": 40, "sum_ld_change_baseline_pct": 10}
    line = charts.response_lines(pd.DataFrame([row]), rano=RANO).iloc[0]
    assert line["nadir_mm"] == pytest.approx(40 * 30 / 44)
    assert line["pd_mm"] == pytest.approx(48 * 30 / 44)
    assert line["pr_mm"] == pytest.approx(28 * 30 / 44) and line["pr_mm"] < 30 < line["pd_mm"]
    row |= {"sum_ld_change_nadir_pct": 25, "max_lesion_increase_mm": 6}
    line = charts.response_lines(pd.DataFrame([row]), rano=RANO).iloc[0]
    assert line["pd_mm"] < 30, "50 from 40 mm is PD, whatever the fused lesion measures"


# ---------------------------------------------------------------------------------------------------- what charts say


TREATMENTS = pd.DataFrame(
    [
        {
            "treatment_id": "a",
            "treatment_type": "srs",
            "treatment_day": 3,
            "track_id": track,
            "dose_gy": 20.0,
            "fractions": 1,
        }
        for track in ("L001", "L002")
    ]
    + [{"treatment_id": "b", "treatment_type": "immunotherapy", "treatment_day": 400, "track_id": None}]
)


def test_treatments_are_drawn_with_type_dose_and_lesions(tmp_path):
    svg = draw(tmp_path, lesion_table(), session_table(), treatments=TREATMENTS).read_text()
    assert "SRS 20 Gy/1: L001, L002" in svg
    assert ">immunotherapy<" in svg, "also after the last session"
    assert "SRS" not in draw(tmp_path, lesion_table(), session_table()).read_text()
    undated = session_table().assign(days_from_t0=None)
    assert "SRS" not in draw(tmp_path, lesion_table(), undated, treatments=TREATMENTS).read_text()


def test_words_of_treatments_lie_on_lines_of_their_own():
    marks = [(0, "SRS 20 Gy/1: L001"), (5, "systemic"), (300, "WBRT 30 Gy/10")]
    assert charts.assign_lanes(marks, (0, 365)) == [0, 1, 0]


def test_a_response_that_is_not_confirmed_or_continues_says_so(tmp_path):
    sessions = session_table()
    assert "confirmed" not in draw(tmp_path, lesion_table(), sessions).read_text()
    svg = draw(tmp_path, lesion_table(), sessions.assign(confirmed=[None] * 3 + [False, False, None])).read_text()
    assert svg.count(">unconfirmed<") == 2 and ">not confirmed<" in svg
    stays = sessions.assign(response_overall_final=[None, "PR", "NE", "PR", "SD", "PD"])
    stays["response_overall_continued"] = [None, "PR", "NE", "PR", "PR", "PD"]
    assert draw(tmp_path, lesion_table(), stays).read_text().count(">PR continues<") == 1


def test_progression_without_growth_of_the_targets_names_its_reason(tmp_path):
    sessions = session_table().assign(pd_reason=[None] * 5 + ["nontarget;new"])
    assert ">non-target, new<" in draw(tmp_path, lesion_table(), sessions).read_text()
    assert "new<" not in draw(tmp_path, lesion_table(), session_table()).read_text().replace(">new<", "")


def test_more_lesions_than_can_be_named_have_a_key(tmp_path):
    one = lesion_table().query("track_id == 'L001'")
    lesions = pd.concat([one.assign(track_id=f"L{n:03d}") for n in range(1, 61)])
    svg = draw(tmp_path, lesions, session_table()).read_text()
    assert "All lesions" in svg and all(f">L{n:03d}<" in svg for n in range(1, 61))


def test_death_and_last_contact_are_on_the_swimmer(tmp_path):
    patients = pd.DataFrame({"participant_id": ["sub-A"], "best_change_ld_pct": [-63.4], "best_response": ["PR"]})
    path = tmp_path / "c.svg"
    for given, seen, unseen in (
        ({"death_day": 300, "last_contact_day": 300}, "death", None),
        ({"last_contact_day": 420}, "last contact", "death"),
        ({}, None, "death"),
    ):
        charts.draw_cohort(patients.assign(**given), session_table(), path, **COHORT)
        svg = path.read_text()
        assert seen is None or f">{seen}<" in svg
        assert unseen is None or f">{unseen}<" not in svg


def test_curves_of_many_methods_differ_and_end_where_they_are_of_use(tmp_path):
    methods = [f"method{n}" for n in range(2 * len(TRACK_COLOURS) + 1)]
    rows = [(name, 0.5, rate / 9000, rate) for name in methods for rate in (0.1, 64, 8192)]
    curves = pd.DataFrame(rows, columns=["method", "threshold", "sensitivity", "false_per_scan"])
    charts.draw_froc(curves, tmp_path / "f.svg")
    svg = (tmp_path / "f.svg").read_text()
    assert ">128<" in svg
    assert ">256<" not in svg
    styles = re.findall(r'<path d="M[^"]* L [^"]*"[^>]*style="([^"]*)"', svg)
    lines = {style for style in styles if any(f"stroke: {colour}" in style for colour in TRACK_COLOURS)}
    assert len(lines) == len(methods)


def test_incidence_shows_how_many_lesions_are_at_risk(tmp_path):
    svg = _incidence(CURVE, tmp_path)
    assert "Lesions at risk" in svg
    # Every 60 days: between two rows as many are at risk as just before the second.
    assert [int(n) for n in re.findall(r">(31|27|17)<", svg)] == [31, 31, 27, 27, 17, 17, 17]
    assert titles(svg) == [
        "day 90: 10 % (95 % CI 2 to 30 %), 31 lesions at risk",
        "day 400: 25 % (95 % CI 10 to 50 %), 17 lesions at risk",
    ]
    assert "no treated lesion" in _incidence(CURVE.iloc[:0], tmp_path)


def _incidence(curve, tmp_path):
    charts.draw_incidence(curve, tmp_path / "i.svg")
    return (tmp_path / "i.svg").read_text()


def titles(svg):
    return re.findall(r"<title>(.*?)</title>", svg)


def test_every_mark_of_a_patients_chart_says_lesion_session_day_and_size(tmp_path):
    said = titles(draw(tmp_path, lesion_table(), session_table(), treatments=TREATMENTS).read_text())
    assert "L001, ses-02, day 56: 18.2 mm" in said
    assert "L002, ses-05, day 210: not detected" in said
    assert "L005, ses-05, day 210: new, 4.2 mm" in said
    assert "Sum, ses-06, day 273: 21.4 mm, PD" in said
    assert "day 3: SRS 20 Gy/1: L001, L002" in said
    measured = lesion_table()["ld_mm"].notna().sum()
    assert len(said) == 2 * measured + session_table()["sum_ld_final_mm"].notna().sum() + 2


def test_every_mark_of_a_cohorts_charts_says_patient_day_and_value(tmp_path):
    svg = {name: path.read_text() for name, path in draw_charts(tmp_path).items()}
    said = titles(svg["cohort"])
    assert "sub-A: best change of the sum −63 %, best response PR" in said
    assert "sub-A, ses-06, day 273: PD; sum 21.4 mm; new lesion: definite" in said
    assert "sub-A: progression on day 273" in said
    assert svg["cohort"].count('data-place="sub-A#ses-') == len(session_table())
    said = titles(svg["spread"])
    assert "sub-A, ses-05, day 210: −63 %" in said
    assert "4 lesions at baseline: 1 patient" in said
    assert "30 mm³ to 0.10 mL: 1 lesion" not in said
    assert sum(int(n) for n in re.findall(r": (\d+) lesion", " ".join(said))) == 4


def test_growth_beyond_the_axis_is_at_its_edge_and_says_its_value(tmp_path):
    sessions = session_table().assign(sum_ld_change_baseline_pct=[None, 900, None, 2, 3, 4])
    assert "sub-A, ses-02, day 56: +900 %" in titles(draw_charts(tmp_path, sessions=sessions)["spread"].read_text())


def test_a_cohort_without_anyone_or_without_dates_has_a_spread_chart(tmp_path):
    empty = {"patients": pd.DataFrame([PATIENT]).iloc[:0], "sessions": session_table().iloc[:0]}
    svg = draw_charts(tmp_path, **empty, lesions=lesion_table().iloc[:0])["spread"].read_text()
    assert "no dated session" in svg and titles(svg) == []
    undated = session_table().assign(days_from_t0=None)
    assert "no dated session" in draw_charts(tmp_path, sessions=undated)["spread"].read_text()
