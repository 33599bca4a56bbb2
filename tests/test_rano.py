"""The criteria, cell by cell: at each threshold and just either side, read like the published tables."""

import math

import numpy as np
import pandas as pd
import pytest
from assessing import NE, RANO, VOLUME, assess, cell, last, rules_with
from mettrail import schema
from mettrail.errors import InputError
from mettrail.response import criteria, rano
from mettrail.response.course import COMPARED
from mettrail.response.rows import ZERO_IF_ABSENT

# --- Baseline, measurability, targets -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "evaluable", "treatment", "baseline", "flag"),
    [
        ([-40, -28, 5], "yyy", 0, 1, "in_window"),
        ([-40, -29, 5], "yyy", 0, 1, "out_of_window"),
        ([-20, -3, 0, 30], "yyyy", 0, 2, "in_window"),
        ([-20, -3, 0, 30], "yyny", 0, 1, "in_window"),
        ([-20, 1], "yy", 0, 0, "in_window"),
        ([-20, 1], "ny", 0, 1, "post_treatment"),
        ([1, 30], "yy", 0, 0, "post_treatment"),
        ([0, 30], "yy", math.nan, 0, "assumed"),
        ([0, 30], "ny", math.nan, 1, "assumed"),
        ([math.nan, math.nan], "yy", 10, 0, "assumed"),
        ([0, 30], "nn", 0, None, None),
        ([], "", 0, None, None),
    ],
)
def test_the_baseline_is_the_last_evaluable_session_in_the_four_weeks(days, evaluable, treatment, baseline, flag):
    found = criteria.choose_baseline(
        days, [e == "y" for e in evaluable], treatment_day=treatment, baseline_window_days=RANO["baseline_window_days"]
    )
    assert found == (baseline, flag)


@pytest.mark.parametrize(
    ("ld", "perp", "slices", "more", "measurable"),
    [
        (10.0, 5.0, 2, {}, True),
        (9.99, 8, 3, {}, False),
        (12, 4.9, 3, {}, False),
        (12, 6, 1, {}, False),
        (12, 6, 2, {"enhancing": False}, False),
        (12, 6, 2, {"slice_spacing_mm": 5.0}, True),
        (11.9, 6, 2, {"slice_spacing_mm": 6.0}, False),
        (12.0, 6, 2, {"slice_spacing_mm": 6.0}, True),
        (12, 6, 2, {"flags": ["not_axial_acq"]}, False),
    ],
)
def test_measurable_is_10_mm_by_5_mm_on_two_slices(ld, perp, slices, more, measurable):
    assert criteria.is_measurable(ld_mm=ld, perp_mm=perp, n_slices=slices, **more, rules=rules_with()) == measurable


def candidates(*sizes, hard=()):
    rows = [
        {"track_id": f"L{n:03}", "ld_mm": ld, "perp_mm": perp, "vol_wl_mm3": v} for n, (ld, perp, v) in enumerate(sizes)
    ]
    return pd.DataFrame(rows).assign(hard=[n in hard for n in range(len(rows))])


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        # 30, 22, 15 (perp 9), 15 (perp 11), 12, 11, 10
        (candidates((30, 20, 9), (22, 9, 9), (15, 9, 9), (15, 11, 9), (12, 9, 9), (11, 9, 9), (10, 9, 9)), "01324"),
        (candidates((12, 9, 5), (12, 9, 6)), "10"),
        (candidates((12, 9, 5), (12, 9, 5)), "01"),
        (candidates((12 + 1e-9, 8, 5), (12, 9, 5)), "10"),  # 1e-9 mm is no difference
        (candidates(*[(20 + n, 9, 9) for n in range(6)], hard=[5]), "43210"),
        (candidates((30, 9, 9), (20, 9, 9), hard=[0]), "10"),
    ],
)
def test_targets_are_the_five_largest_that_can_be_reproduced(table, expected):
    assert criteria.choose_targets(table, max_targets=5) == [f"L00{n}" for n in expected]


def test_targets_are_chosen_once_and_the_others_at_baseline_are_nontargets():
    lesions, sessions, patient = assess(
        {"L001": [12, 5], "L002": [{"ld_mm": 30, "perp_mm": 4.9}, 40], "L003": [None, 50], "L004": [9.9, 50]}
    )
    roles = lesions.groupby("track_id")["role"].agg(list)
    assert roles.to_dict() == {
        "L001": ["target"] * 2,
        "L002": ["nontarget"] * 2,
        "L003": ["new"],
        "L004": ["nontarget"] * 2,
    }
    assert (patient["n_targets"], patient["n_nontargets"], patient["n_new_total"]) == (1, 2, 1)
    assert sessions["sum_ld_mm"].tolist() == [12, 5]
    assert lesions["measurable"].tolist() == [True, False, False, False, True, True, True]


def test_targets_of_an_earlier_run_are_kept_whatever_is_largest_now():
    earlier, _, _ = assess({"L001": [12, 12], "L002": [11, 11]}, max_targets=1)
    now = {"L001": [10, 10], "L002": [20, 20]}
    assert assess(now, max_targets=1)[2]["baseline_sum_ld_mm"] == 20
    assert assess(now, max_targets=1, frozen=earlier)[2]["baseline_sum_ld_mm"] == 10
    # With another baseline they are no targets any more.
    shifted = assess(now, [-10, 30], participant={"treatment_start_day": "31"}, max_targets=1, frozen=earlier)
    assert shifted[2]["baseline_sum_ld_mm"] == 20


def test_a_target_of_an_earlier_run_that_is_not_found_any_more_is_flagged():
    earlier, _, _ = assess({"L001": [12, 12], "L002": [11, 11]})
    _, _, patient = assess({"L001": [12, 12], "L003": [11, 11]}, frozen=earlier)
    assert patient["n_targets"] == 1
    assert "target_lost" in patient["flags"]


@pytest.mark.parametrize(
    ("ld", "spacing", "measurable"),
    [(5.0, 1.5, True), (4.9, 1.5, False), (5.0, 1.51, False), (5.0, math.nan, False), (10.0, 3.0, True)],
)
def test_five_mm_are_enough_on_thin_slices_where_that_is_wanted(ld, spacing, measurable):
    lesion = {"ld_mm": ld, "perp_mm": 5.0, "n_slices": 2, "slice_spacing_mm": spacing}
    assert criteria.is_measurable(**lesion, rules=rules_with(small_lesions=True)) == measurable
    assert criteria.is_measurable(**lesion, rules=rules_with()) == (ld >= 10)


@pytest.mark.parametrize(
    ("sizes", "target"),
    [([20, 15, 14], False), ([20, 15, 20], True), ([20, 15, 19.9], False), ([20, 30, 36], True), ([20, 30, 35], False)],
)
def test_a_locally_treated_lesion_is_a_target_only_if_progressed_since(sizes, target):
    rows, _, _ = assess(
        {"L001": [*sizes, 20], "L002": [12] * 4}, [-60, -50, -1, 30], participant={"treatment_start_day": "0"},
        overrides=[override("irradiated_day", "-55")],
    )  # fmt: skip
    assert (rows.query("track_id == 'L001'")["role"].iloc[-1] == "target") == target


def test_necrosis_at_baseline_is_nontarget_and_not_new_when_it_enhances():
    lesions, sessions, patient = assess({"L001": [20, 20], "L002": [{"ld_mm": 8, "enhancing": False}, 8]})
    assert lesions.query("track_id == 'L002'")["role"].tolist() == ["nontarget"] * 2
    assert last(sessions, "response_imaging_final") == "SD"
    assert (patient["n_nontargets"], patient["n_new_total"]) == (1, 0)


def test_lesions_that_are_one_at_baseline_and_part_later_have_not_shrunk():
    _, sessions, _ = assess(
        {"L001": [12, 24, 12], "L002": [11, "L001", 11]}, [-60, -10, 30], participant={"treatment_start_day": "0"}
    )
    assert sessions["sum_ld_mm"].tolist()[1:] == [24, 23]
    assert sessions["n_targets"].tolist() == [1, 1, 1]
    assert last(sessions, "target_response") == "SD"


def test_a_lesion_resected_before_baseline_allows_a_complete_response():
    _, sessions, _ = assess(
        {"L001": [20, 20, 0], "L002": [12, 0, 0]}, [-60, -10, 30], participant={"treatment_start_day": "0"},
        overrides=[override("resected_day", "-30", track="L002")],
    )  # fmt: skip
    assert last(sessions, "nontarget_response") == "n/a"
    assert last(sessions, "response_imaging_final") == "CR"


def test_sessions_before_baseline_are_no_nadir():
    _, sessions, _ = assess({"L001": [10, 20, 22]}, [-60, -10, 30], participant={"treatment_start_day": "0"})
    assert last(sessions, "target_response") == "SD"
    assert last(sessions, "nadir_sum_ld_mm") == 20


@pytest.mark.parametrize("flags", ["fov_edge", "nonconvex"])
def test_targets_that_are_hard_to_reproduce_come_last(flags):
    hard = {"ld_mm": 30, "flags": flags, "touches_border": True}
    lesions, _, _ = assess({"L001": [hard, hard], "L002": [12, 12]}, max_targets=1)
    assert lesions.groupby("track_id")["role"].first().to_dict() == {"L001": "nontarget", "L002": "target"}


# --- The value in the sum -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "settings", "value", "source"),
    [
        (3.0, {}, 3.0, "measured"),
        (3.0, {"tsm_mode": "floor5"}, 5.0, "floor5"),
        (5.0, {"tsm_mode": "floor5"}, 5.0, "measured"),
        (0, {"tsm_mode": "floor5"}, 0.0, "absent"),
        (0, {}, 0.0, "absent"),
        ({"ld_mm": 6.5, "n_components": 2, "ld_components_mm": 12.5}, {}, 12.5, "components"),
        ({"ld_mm": 6.5, "n_components": 1, "ld_components_mm": 6.5}, {}, 6.5, "measured"),
        ({"ld_mm": 8.0, "enhancing": False}, {}, 0.0, "absent"),
        ("L002", {}, 0.0, "merged"),
        (NE, {}, math.nan, "ne"),
    ],
)
def test_the_diameter_in_the_sum(given, settings, value, source):
    lesions, *_ = assess({"L001": [12, given], "L002": [15, 15]}, **settings)
    row = lesions[lesions["track_id"] == "L001"].iloc[-1]
    assert row["ld_source"] == source
    assert row["ld_rano_mm"] == pytest.approx(value, nan_ok=True)


def test_necrosis_without_enhancement_is_shown_yet_absent_for_the_response():
    lesions, sessions, _ = assess({"L001": [12, {"ld_mm": 8.0, "enhancing": False}]})
    row = lesions.iloc[-1]
    assert (row["status"], row["ld_mm"], row["flags"]) == ("present", 8.0, "nonenhancing_remnant")
    assert last(sessions, "target_response") == "CR"


# --- Targets ------------------------------------------------------------------------------------------------------
# One line per cell: lesions as [baseline, (nadir,) now], the sum's change from baseline and nadir, growth, response.


@pytest.mark.parametrize(
    ("name", "tracks", "from_baseline", "from_nadir", "growth", "response"),
    [
        ("30 % less", [[30, 21.0], [20, 14.0]], -30.0, -30.0, -6, "PR"),
        ("29.8 % less", [[30, 21.1], [20, 14.0]], -29.8, -29.8, -6, "SD"),
        ("20 % more, none by 5 mm", [[17, 10, 12], [17, 10, 12], [16, 10, 12]], -28, 20, 2, "SD"),
        ("20 % more, one by 6 mm", [[17, 10, 10], [17, 10, 10], [16, 10, 16]], -28, 20, 6, "PD"),
        ("49 % more, 4.9 mm", [[20, 10, 14.9]], -25.5, 49, 4.9, "SD"),
        ("50 % more, 5 mm", [[20, 10, 15.0]], -25, 50, 5, "PD"),
        ("19.2 % more, 5 mm", [[30, 26, 31.0]], 3.333, 19.231, 5, "SD"),
        ("20 % more, 5.2 mm", [[30, 26, 31.2]], 4, 20, 5.2, "PD"),
        ("PD beats PR", [[60, 24, 36], [40, 16, 16]], -48, 30, 12, "PD"),
        ("back after CR, 3 mm", [[20, 0, 3]], -85, "n/a", 3, "PR"),
        ("back after CR, 4.9 mm", [[20, 0, 4.9]], -75.5, "n/a", 4.9, "PR"),
        ("back after CR, 5 mm", [[20, 0, 5]], -75, "n/a", 5, "PD"),
        ("back after CR, 6 mm", [[20, 0, 6]], -70, "n/a", 6, "PD"),
        ("all gone", [[20, 0], [15, 0]], -100, -100, -15, "CR"),
        ("one of two gone", [[20, 20], [15, 0]], -42.857, -42.857, 0, "PR"),
        ("part unknown, no growth", [[20, 26], [15, NE]], "n/a", "n/a", 6, "NE"),
        ("part unknown, PD all the same", [[20, 48], [15, NE]], "n/a", "n/a", 28, "PD"),
        ("part unknown, rest gone", [[20, 0], [15, NE]], "n/a", "n/a", -20, "NE"),
        ("165, 63, 65 mm", [[33, 12.6, 13.0]] * 5, -60.606, 3.175, 0.4, "PR"),
        ("fused, 1 mm more", [[12, 24], [11, "L001"]], 4.348, 4.348, 1, "SD"),
        ("fused, 4.7 mm more", [[12, 27.7], [11, "L001"]], 20.435, 20.435, 4.7, "SD"),
        ("fused, 5 mm more", [[12, 28.0], [11, "L001"]], 21.739, 21.739, 5, "PD"),
        (
            "in two pieces",
            [[14, {"ld_mm": 6.5, "n_components": 2, "ld_components_mm": 12.5}]],
            -10.714,
            -10.714,
            -1.5,
            "SD",
        ),
        ("nadir is the last of equal sums", [[20, 10, 12, 17.1], [20, 12, 10, 10]], -32.25, 23.182, 5.1, "PD"),
        ("growth counts from the nadir's session", [[20, 12, 10, 17.1], [20, 10, 12, 10]], -32.25, 23.182, 7.1, "PD"),
        ("a nadir needs all targets", [[20, 4, 24], [20, NE, 20]], 10, 10, 4, "SD"),
    ],
)
def test_targets(name, tracks, from_baseline, from_nadir, growth, response):
    _, sessions, _ = assess({f"L{n:03}": cells for n, cells in enumerate(tracks, 1)})
    assert last(sessions, "target_response") == response, name
    assert last(sessions, "sum_ld_change_baseline_pct") == pytest.approx(from_baseline, abs=1e-3)
    assert last(sessions, "sum_ld_change_nadir_pct") == pytest.approx(from_nadir, abs=1e-3)
    assert last(sessions, "max_lesion_increase_mm") == pytest.approx(growth, abs=1e-6)


def test_rounding_in_the_last_digit_decides_nothing():
    # 0.7 * 30 is 21.000000000000004 and less in binary: both are thirty percent.
    for now in (21.0, 0.7 * 30, 30 * (1 - 0.3), 21 + 5e-7):
        _, sessions, _ = assess({"L001": [30, now]})
        assert last(sessions, "target_response") == "PR"
    _, sessions, _ = assess({"L001": [30, 21 + 1e-4]})
    assert last(sessions, "target_response") == "SD"


def test_lesions_that_fuse_and_part_again_have_not_grown():
    _, sessions, _ = assess({"L001": [12, 19, 12], "L002": [11, "L001", 11]})
    assert sessions["target_response"].tolist()[1:] == ["SD", "SD"]
    assert last(sessions, "max_lesion_increase_mm") == pytest.approx(4)  # 23 from 19 together, not 11 from 0


def test_lesions_that_fuse_are_not_gone():
    # Two targets in one remnant: no complete response, even where it no longer enhances and counts as 0.
    for remnant in (3, {"ld_mm": 3, "enhancing": False}):
        _, sessions, _ = assess({"L001": [12, remnant], "L002": [11, "L001"]})
        assert last(sessions, "target_response") == "PR"


def test_a_target_taken_over_by_another_lesion_keeps_the_size_of_both():
    lesions, sessions, _ = assess({"L001": [6, 20], "L002": [12, "L001"]})
    assert last(sessions, "sum_ld_mm") == 20
    assert last(sessions, "max_lesion_increase_mm") == pytest.approx(2)
    assert last(sessions, "nontarget_response") == "NON_CR_NON_PD"
    rows = lesions[lesions["session_id"] == "ses-1"]
    assert rows["flags"].tolist() == ["merged_across_roles"] * 2
    assert rows["ld_rano_mm"].tolist() == [0, 20]


# A lesion missed once is not gone; missed twice, it was.
D3L = {"L001": [20, 20, 20], "L002": [12, 0, {"ld_mm": 12, "probable_missed_detection": True, "event": "reappeared"}]}
D3M = {"L001": [20, 20, 20, 20], "L002": [12, 0, 0, {"ld_mm": 12, "event": "reappeared"}]}


def test_a_lesion_missed_once_makes_no_response_and_no_progression():
    lesions, sessions, _ = assess(D3L)
    assert sessions["target_response"].tolist()[1:] == ["PR", "SD"]
    assert sessions["response_imaging_prospective"].tolist()[1:] == ["PR", "SD"]
    assert sessions["response_imaging_final"].tolist()[1:] == ["NE", "SD"]
    assert last(sessions, "nadir_sum_ld_mm") == 32
    gap = lesions[(lesions["track_id"] == "L002") & (lesions["session_id"] == "ses-1")].iloc[0]
    assert (gap["status"], gap["ld_source"], gap["flags"], gap["ld_mm"]) == (
        "absent",
        "probable_missed_detection",
        "probable_missed_detection",
        0,
    )
    assert math.isnan(gap["ld_rano_mm"])


def test_two_sessions_may_count_as_missed_where_that_is_set():
    back = {"ld_mm": 12, "probable_missed_detection": True}
    _, sessions, _ = assess({"L001": [20] * 4, "L002": [12, 0, 0, back]})
    assert sessions["response_imaging_final"].tolist()[1:] == ["NE", "NE", "SD"]


def test_the_growth_of_5_mm_can_be_asked_of_the_sum():
    tracks = {"L001": [17, 10, 12], "L002": [17, 10, 12], "L003": [16, 10, 12]}
    assert last(assess(tracks)[1], "target_response") == "SD"
    assert last(assess(tracks, abs_rule="sum")[1], "target_response") == "PD"


def test_pieces_smaller_than_5_mm_in_all_count_as_5_mm_where_that_is_set():
    pieces = {"ld_mm": 2.4, "n_components": 2, "ld_components_mm": 4.4}
    assert assess({"L001": [20, pieces]}, tsm_mode="floor5")[1]["sum_ld_mm"].tolist() == [20, 5]
    assert assess({"L001": [20, pieces]})[1]["sum_ld_mm"].tolist() == [20, 4.4]


def test_a_lesion_gone_twice_was_gone():
    _, sessions, _ = assess(D3M)
    assert sessions["target_response"].tolist()[1:] == ["PR", "PR", "PD"]
    assert last(sessions, "nadir_sum_ld_mm") == 20
    assert last(sessions, "max_lesion_increase_mm") == 12


def test_after_a_confirmed_pr_sd_is_shown_as_pr_until_pd():
    _, sessions, _ = assess({"L001": [40, 25, 25, 29, 38, 29]}, [0, 30, 60, 90, 120, 150])
    assert sessions["target_response"].tolist()[1:] == ["PR", "PR", "SD", "PD", "SD"]
    assert sessions["target_response_continued"].tolist()[1:] == ["PR", "PR", "PR", "PD", "SD"]


def test_an_unconfirmed_pr_is_not_continued():
    _, sessions, _ = assess({"L001": [40, 25, 25, 29]}, [0, 30, 57, 90])
    assert sessions["target_response_continued"].tolist()[1:] == ["PR", "PR", "SD"]


# --- Other lesions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tracks", "response"),
    [
        ("none", [], "n/a"),
        ("all gone", [[8, 0], [7, 0]], "CR"),
        ("one persists", [[8, 8], [7, 0]], "NON_CR_NON_PD"),
        ("one unknown, others gone", [[8, NE], [7, 0]], "NE"),
        ("one unknown, one persists", [[8, NE], [7, 7]], "NON_CR_NON_PD"),
        ("5 mm more, 10 mm", [[5, 10]], "NON_CR_NON_PD"),  # one lesion, beside stable targets, is for a reader
        ("4.9 mm more", [[6, 10.9]], "NON_CR_NON_PD"),
        ("5 mm but 19 % more", [[{"ld_mm": 26.4, "perp_mm": 1}, 31.4]], "NON_CR_NON_PD"),
        ("5 mm and 20 % more", [[{"ld_mm": 25.0, "perp_mm": 1}, 30.0]], "PD"),
        ("from its smallest", [[{"ld_mm": 15, "perp_mm": 1}, 8, 13.5]], "PD"),
        ("each from its own smallest", [[9, 5, 9], [5, 9, 9.9]], "NON_CR_NON_PD"),
        ("back, 12.5 mm", [[9, 0, 12.5]], "PD"),
        ("back, 12.3 mm", [[9, 0, 12.3]], "NON_CR_NON_PD"),
        ("fused, no growth", [[8, {"ld_mm": 15, "vol_wl_mm3": 448}], [7, "L101"]], "NON_CR_NON_PD"),
        ("fused, 5 mm more", [[8, 20], [7, "L101"]], "PD"),
        ("fused and parted", [[8, 15, 8], [7, "L101", 11]], "NON_CR_NON_PD"),
    ],
)
def test_other_lesions(name, tracks, response):
    n = max((len(cells) for cells in tracks), default=2)
    _, sessions, _ = assess({"L001": [20] * n} | {f"L{n:03}": cells for n, cells in enumerate(tracks, 101)})
    assert last(sessions, "nontarget_response") == response, name
    assert last(sessions, "nontarget_source") == ("auto" if tracks else "n/a")


@pytest.mark.parametrize(
    ("before", "now", "response"),
    [(1400, 2420, "PD"), (1400, 2415, "NON_CR_NON_PD"), (1300, 2299, "NON_CR_NON_PD"), (1370, 2370, "PD")],
)
def test_other_lesions_together_progress_by_72_8_percent_and_1_ml(before, now, response):
    many = {
        f"L{n:03}": [{"ld_mm": 9, "vol_wl_mm3": before / 4}, {"ld_mm": 9, "vol_wl_mm3": now / 4}] for n in range(2, 6)
    }
    _, sessions, _ = assess({"L001": [20, 20]} | many)
    assert last(sessions, "nontarget_response") == response


# Beside targets that are stable or shrink, growth of one other lesion counts once all others together have grown, too.
@pytest.mark.parametrize(
    ("target", "other", "response", "review"),
    [
        ([20, 10], [5, 10], "NON_CR_NON_PD", True),
        ([20, 20], [5, 10], "NON_CR_NON_PD", True),
        ([20, 20], [5, 9.9], "NON_CR_NON_PD", False),
        ([20, 20], [9, {"ld_mm": 14, "vol_wl_mm3": 1381}], "NON_CR_NON_PD", True),
        ([20, 20], [9, {"ld_mm": 14, "vol_wl_mm3": 1382}], "PD", False),
        ([20, 0], [5, 10], "PD", False),
        ([20, NE], [5, 10], "PD", False),
        ([20, 26], [5, 10], "PD", False),
        ([{"ld_mm": 20, "perp_mm": 1}] * 2, [5, 10], "PD", False),  # no targets
    ],
)
def test_one_other_lesion_that_grows_is_for_a_reader(target, other, response, review):
    lesions, sessions, _ = assess({"L001": target, "L002": other})
    assert last(sessions, "nontarget_response") == response
    flagged = sessions["flags"].str.contains("nontarget_review", na=False).tolist()
    assert flagged == [False, review]
    of = lesions.set_index(["track_id", "session_id"])["flags"].str.contains("nontarget_review", na=False)
    assert of[of].index.tolist() == [("L002", "ses-1")] * review


def test_volumes_judge_other_lesions_beside_their_own_targets():
    # By diameter the target is PD, by volume it is stable: then one other lesion that grew is for a reader.
    _, sessions, _ = assess({"L001": [20, {"ld_mm": 26, "vol_wl_mm3": 4200}], "L002": [5, 10]})
    assert last(sessions, "response_imaging_final") == "PD"
    assert last(sessions, "response_volumetric_final") == "SD"


@pytest.mark.parametrize(("said", "response"), [("true", "PD"), ("false", "NON_CR_NON_PD")])
def test_what_a_reader_has_decided_needs_no_review(said, response):
    lesions, sessions, _ = assess({"L001": [20, 20], "L002": [5, 10]}, overrides=[override("nontarget_pd", said)])
    assert last(sessions, "nontarget_response") == response
    assert not sessions["flags"].str.contains("nontarget_review", na=False).any()
    assert not lesions["flags"].str.contains("nontarget_review", na=False).any()


def test_nontargets_that_were_part_of_a_target_for_a_while_did_not_grow():
    apart = {"ld_mm": 9, "vol_wl_mm3": 2000}
    _, sessions, _ = assess({"L001": [20, 25, 20], "L002": [apart, "L001", apart]})
    assert sessions["nontarget_response"].tolist()[1:] == ["NON_CR_NON_PD"] * 2


def test_edema_alone_never_progresses():
    grown = {"ld_mm": 8, "vol_ed_mm3": 9e4}
    _, sessions, _ = assess({"L001": [20, 20], "L002": [8, grown]})
    assert last(sessions, "nontarget_response") == "NON_CR_NON_PD"


# --- New lesions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ld", "slices", "box", "spacing", "before", "definite"),
    [
        (5.0, 2, [2, 2, 2], 1, 1, True),
        (4.99, 2, [2, 2, 2], 1, 1, False),
        (8, 1, [8, 8, 1], 1, 1, False),
        (8, 2, [8, 1, 2], 1, 1, False),
        (8, 2, None, 1, 1, False),
        (8, 2, [8, 8, 2], 1, 1.99, True),
        (9.9, 2, [8, 8, 2], 1, 5, False),
        (10.0, 2, [8, 8, 2], 1, 5, True),
        (5, 2, [5, 5, 2], 1, math.nan, True),
    ],
)
def test_a_new_lesion_is_definite_from_5_mm_unless_a_thick_slice_hid_it(ld, slices, box, spacing, before, definite):
    assert definite == criteria.is_definite(
        ld_mm=ld, n_slices=slices, bbox_voxels=box, slice_spacing_mm=spacing, prior_slice_spacing_mm=before,
        rules=rules_with(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "definite", "status"),
    [
        ("y", "y", "d"),
        ("y", "n", "e"),
        ("yy", "ny", "cc"),
        ("yy", "nn", "ee"),
        ("yyy", "nnn", "ccc"),
        ("yn", "nn", "rr"),
        ("yyn", "nnn", "eee"),
        ("y-y", "nnn", "eee"),
        ("y-yy", "nnnn", "cccc"),
        ("y-n", "nnn", "rrr"),
        (".yn", ".nn", ".rr"),
        ("yny", "nnn", "rre"),
        ("yny", "nny", "rrd"),
        ("dny", "yny", "ddd"),
    ],
)
def test_an_uncertain_new_lesion_is_confirmed_or_rejected_by_what_follows(seen, definite, status):
    words = {"d": "definite", "e": "equivocal", "c": "confirmed", "r": "rejected", ".": None}
    found = criteria.follow_new_lesion(
        [{"y": True, "d": True, "n": False, "-": None, ".": False}[s] for s in seen], [d == "y" for d in definite],
        confirm_sessions=RANO["new_confirm_sessions"],
    )  # fmt: skip
    assert found == [words[s] for s in status]


def test_a_new_lesion_that_proves_real_is_progression_from_its_first_day():
    lesions, sessions, patient = assess({"L001": [20, 20, 20], "L002": [None, 4, 6]}, [0, 60, 95])
    assert sessions["response_overall_prospective"].tolist()[1:] == ["SD", "PD"]
    assert sessions["response_overall_final"].tolist()[1:] == ["PD", "PD"]
    assert sessions["new_lesion"].tolist()[1:] == ["equivocal", "definite"]
    assert (patient["progression_day"], patient["progression_reason"]) == (60, "new")
    assert lesions.loc[lesions["track_id"] == "L002", "new_lesion_status"].tolist() == ["confirmed"] * 2


def test_a_new_lesion_not_seen_again_is_no_progression():
    lesions, sessions, patient = assess({"L001": [20, 20, 20], "L002": [None, 4, 0]}, [0, 60, 95])
    assert sessions["response_overall_final"].tolist()[1:] == ["SD", "SD"]
    assert not patient["progressed"]
    assert patient["n_new_total"] == 0
    assert lesions.loc[lesions["track_id"] == "L002", "new_lesion_status"].tolist() == ["rejected"] * 2


def test_a_definite_new_lesion_is_progression_even_when_targets_shrink():
    _, sessions, _ = assess({"L001": [20, 10], "L002": [None, 8]})
    assert (last(sessions, "target_response"), last(sessions, "response_imaging_final")) == ("PR", "PD")


def test_other_lesions_are_no_complete_response_beside_a_definite_new_one():
    for size, response in ((8, "NON_CR_NON_PD"), (4, "CR")):
        _, sessions, _ = assess({"L001": [20, 10], "L002": [8, 0], "L003": [None, size]})
        assert last(sessions, "nontarget_response") == response


def test_a_lesion_gone_at_baseline_and_back_is_recurrent_and_counts_as_new():
    tracks = {"L001": [20, 20, 20], "L002": [8, 0, 8]}
    lesions, sessions, _ = assess(tracks, [-60, -10, 30], participant={"treatment_start_day": "0"})
    assert lesions.loc[lesions["track_id"] == "L002", "role"].tolist() == ["prebaseline", "prebaseline", "recurrent"]
    assert last(sessions, "response_imaging_final") == "PD"
    assert sessions["session_role"].tolist() == ["prebaseline", "baseline", "followup"]
    assert pd.isna(sessions["response_imaging_final"].iloc[0])
    _, sessions, patient = assess(
        tracks, [-60, -10, 30], participant={"treatment_start_day": "0"}, recurrence_is_new=False
    )
    assert last(sessions, "response_imaging_final") == "SD"
    assert patient["n_new_total"] == 0


# Immunotherapy: a new lesion alone waits for the next session four weeks later.
@pytest.mark.parametrize(
    ("name", "target", "new", "prospective", "final", "progression_day"),
    [
        ("grows by 5 mm", [20, 20, 20], [[None, 8, 13]], ["uPD", "PD"], ["PD", "PD"], 60),
        ("grows by 4.9 mm", [20, 20, 20], [[None, 8, 12.9]], ["uPD", "SD"], ["SD", "SD"], None),
        ("stays", [20, 20, 20], [[None, 8, 9]], ["uPD", "SD"], ["SD", "SD"], None),
        ("goes", [20, 20, 20], [[None, 8, 0]], ["uPD", "SD"], ["SD", "SD"], None),
        ("another one", [20, 20, 20], [[None, 8, 8], [None, None, 6]], ["uPD", "PD"], ["PD", "PD"], 60),
        ("targets grow", [20, 20, 26], [[None, 8, 8]], ["uPD", "PD"], ["PD", "PD"], 60),
        ("targets grow at once", [20, 26, 26], [[None, 8, 8]], ["PD", "PD"], ["PD", "PD"], 60),
        ("targets shrink", [20, 10, 10], [[None, 8, 8]], ["uPD", "PR"], ["PR", "PR"], None),
    ],
)
def test_under_immunotherapy_new_lesions_alone_must_be_confirmed(
    name, target, new, prospective, final, progression_day
):
    _, sessions, patient = assess(
        {"L001": target} | {f"L{n:03}": cells for n, cells in enumerate(new, 2)},
        [0, 60, 95],
        participant={"treatment_type": "srs;immunotherapy"},
    )
    assert sessions["response_overall_prospective"].tolist()[1:] == prospective, name
    assert sessions["response_overall_final"].tolist()[1:] == final, name
    assert (None if pd.isna(patient["progression_day"]) else patient["progression_day"]) == progression_day


def test_clinical_worsening_confirms_what_was_unconfirmed():
    _, sessions, _ = assess(
        {"L001": [20] * 3, "L002": [None, 8, 8]}, [0, 60, 95], participant={"treatment_type": "immunotherapy"},
        columns={"clinical_status": ["stable", "stable", "worse"]},
    )  # fmt: skip
    assert sessions["response_imaging_final"].tolist()[1:] == ["PD", "PD"]


def test_a_cleared_new_lesion_still_there_forbids_a_complete_response():
    _, sessions, _ = assess(
        {"L001": [20, 20, 0], "L002": [None, 8, 8]}, [0, 60, 95], participant={"treatment_type": "immunotherapy"}
    )
    assert sessions["response_imaging_final"].tolist()[1:] == ["SD", "PR"]


def test_a_session_too_soon_neither_confirms_nor_clears():
    _, sessions, _ = assess(
        {"L001": [20] * 4, "L002": [None, 8, 14, 14]}, [0, 60, 87, 88], participant={"treatment_type": "immunotherapy"}
    )
    assert sessions["response_overall_prospective"].tolist()[1:] == ["uPD", "uPD", "PD"]
    assert sessions["response_overall_final"].tolist()[1:] == ["PD", "PD", "PD"]


def test_immunotherapy_counts_from_its_start():
    _, sessions, _ = assess(
        {"L001": [20, 20], "L002": [None, 8]}, [0, 60], participant={"immunotherapy_start_day": "61"}
    )
    assert last(sessions, "response_imaging_final") == "PD"


# iRANO: progression within 183 days of the start of immunotherapy waits 84 days, unless the patient is worse.
@pytest.mark.parametrize(
    ("name", "tracks", "days", "columns", "prospective", "final"),
    [
        ("still larger", [20, 26, 26], [0, 60, 144], {}, ["uPD", "PD"], ["PD", "PD"]),
        ("too soon", [20, 26, 26], [0, 60, 143], {}, ["uPD", "uPD"], ["uPD", "uPD"]),
        ("was no growth", [20, 26, 20], [0, 60, 144], {}, ["uPD", "SD"], ["SD", "SD"]),
        ("day 183", [20, 26], [0, 183], {}, ["uPD"], ["uPD"]),
        ("day 184", [20, 26], [0, 184], {}, ["PD"], ["PD"]),
        ("worse", [20, 26], [0, 60], {"clinical_status": ["stable", "worse"]}, ["PD"], ["PD"]),
        ("once confirmed", [20, 26, 26, 26], [0, 60, 144, 170], {}, ["uPD", "PD", "PD"], ["PD", "PD", "PD"]),
    ],
)
def test_irano_lets_early_progression_wait(name, tracks, days, columns, prospective, final):
    immune = {"immunotherapy_start_day": "0"}
    _, sessions, _ = assess({"L001": tracks}, days, participant=immune, columns=columns, irano=True)
    assert sessions["response_imaging_prospective"].tolist()[1:] == prospective, name
    assert sessions["response_imaging_final"].tolist()[1:] == final, name
    _, sessions, _ = assess({"L001": tracks}, days, participant=immune, columns=columns)
    assert sessions["response_imaging_final"].iloc[1] == "PD"


# Growth of lesions irradiated 90 to 540 days before, and of no others, may be an effect of it.
@pytest.mark.parametrize(
    ("name", "tracks", "irradiated", "final"),
    [
        ("goes on", {"L001": [20, 26, 27]}, {"L001": -60}, ["PD", "PD"]),
        ("was an effect", {"L001": [20, 26, 20]}, {"L001": -60}, ["SD", "SD"]),
        ("89 days", {"L001": [20, 26, 20]}, {"L001": -29}, ["PD", "SD"]),
        ("90 days", {"L001": [20, 26, 20]}, {"L001": -30}, ["SD", "SD"]),
        ("540 days", {"L001": [20, 26, 20]}, {"L001": -480}, ["SD", "SD"]),
        ("541 days", {"L001": [20, 26, 20]}, {"L001": -481}, ["PD", "SD"]),
        ("another grows too", {"L001": [20, 26, 20], "L002": [20, 26, 20]}, {"L001": -60}, ["PD", "SD"]),
        ("a new one too", {"L001": [20, 26, 20], "L002": [None, 8, 8]}, {"L001": -60}, ["PD", "PD"]),
    ],
)
def test_growth_after_radiosurgery_can_be_made_to_wait(name, tracks, irradiated, final):
    # Treated lesions are no targets: here they are other lesions, which progress by 5 mm and 20 %.
    decisions = [override("irradiated_day", str(day), track=track) for track, day in irradiated.items()]
    how = {"overrides": decisions, "days": [0, 60, 90]}
    _, sessions, _ = assess(tracks, **how, srs_requires_confirmation=True)
    assert sessions["response_imaging_final"].tolist()[1:] == [
        {"SD": "NON_CR_NON_PD"}.get(r, r) if len(tracks) == 1 else r for r in final
    ], name
    _, sessions, _ = assess(tracks, **how)
    assert sessions["response_imaging_final"].iloc[1] == "PD"


# --- Imaging response of a session: every combination -------------------------------------------------------------

ALL_NEW, NOT_DEFINITE = ("none", "equivocal", "definite"), ("none", "equivocal")
ALL_TARGET, ALL_OTHER = ("CR", "PR", "SD", "PD", "NE", "n/a"), ("CR", "NON_CR_NON_PD", "PD", "NE", "n/a")
NO_PD = tuple(r for r in ALL_OTHER if r != "PD")
TABLE = [
    # targets, others, new, response
    (("PD",), ALL_OTHER, ALL_NEW, "PD"),
    (ALL_TARGET, ("PD",), ALL_NEW, "PD"),
    (ALL_TARGET, ALL_OTHER, ("definite",), "PD"),
    (("CR",), ("CR", "n/a"), ("none",), "CR"),
    (("n/a",), ("CR",), ("none",), "CR"),
    (("CR",), ("CR", "n/a"), ("equivocal",), "PR"),
    (("n/a",), ("CR",), ("equivocal",), "NON_CR_NON_PD"),
    (("CR",), ("NON_CR_NON_PD", "NE"), NOT_DEFINITE, "PR"),
    (("PR",), NO_PD, NOT_DEFINITE, "PR"),
    (("SD",), NO_PD, NOT_DEFINITE, "SD"),
    (("n/a",), ("NON_CR_NON_PD",), NOT_DEFINITE, "NON_CR_NON_PD"),
    (("NE",), NO_PD, NOT_DEFINITE, "NE"),
    (("n/a",), ("NE",), NOT_DEFINITE, "NE"),
    (("n/a",), ("n/a",), ("none",), "ND"),
    (("n/a",), ("n/a",), ("equivocal",), "NE"),
]
CELLS = [(t, o, n, r) for targets, others, new, r in TABLE for t in targets for o in others for n in new]


@pytest.mark.parametrize(("target", "other", "new", "response"), CELLS)
def test_imaging_response(target, other, new, response):
    assert criteria.imaging_response(target, other, new) == response


def test_the_table_of_imaging_responses_has_every_combination():
    assert {cells[:3] for cells in CELLS} == {(t, o, n) for t in ALL_TARGET for o in ALL_OTHER for n in ALL_NEW}


@pytest.mark.parametrize(
    ("target", "other", "response"), [("SD", "NON_CR_NON_PD", "uPD"), ("PD", "CR", "PD"), ("SD", "PD", "PD")]
)
def test_imaging_response_to_a_new_lesion_under_immunotherapy(target, other, response):
    assert criteria.imaging_response(target, other, "definite", immunotherapy=True) == response


# --- Steroids and clinical status ---------------------------------------------------------------------------------

ANY_STEROIDS, ANY_CLINICAL = ("none", "stable", "decreased", "increased", "unknown"), ("stable", "improved", "unknown")
OVERALL = [
    # imaging, steroids, clinical, overall
    (("PD",), ANY_STEROIDS, (*ANY_CLINICAL, "worse"), "PD"),
    (("CR", "PR", "SD", "NON_CR_NON_PD", "uPD", "NE"), ANY_STEROIDS, ("worse",), "PD"),
    (("CR",), ("none", "unknown"), ANY_CLINICAL, "CR"),
    (("CR",), ("stable", "decreased"), ANY_CLINICAL, "PR"),
    (("PR",), ("none", "stable", "decreased", "unknown"), ANY_CLINICAL, "PR"),
    (("SD",), ("none", "stable", "decreased", "unknown"), ANY_CLINICAL, "SD"),
    (("NON_CR_NON_PD",), ("none", "stable", "decreased", "unknown"), ANY_CLINICAL, "NON_CR_NON_PD"),
    (("CR", "PR", "SD", "NON_CR_NON_PD"), ("increased",), ANY_CLINICAL, "hold"),
    (("uPD",), ANY_STEROIDS, ANY_CLINICAL, "uPD"),
    (("NE",), ANY_STEROIDS, ANY_CLINICAL, "NE"),
]


@pytest.mark.parametrize(
    ("imaging", "steroids", "clinical", "overall"),
    [(i, s, c, o) for images, steroids, clinical, o in OVERALL for i in images for s in steroids for c in clinical],
)
def test_overall_response(imaging, steroids, clinical, overall):
    assert criteria.overall_response(imaging, steroids, clinical) == overall


@pytest.mark.parametrize(
    ("dose", "baseline", "status"),
    [
        (0, 4, "none"),
        (0.75, 4, "none"),
        (0.76, 0, "increased"),
        (4.4, 4, "stable"),
        (4.41, 4, "increased"),
        (3.7, 4, "stable"),
        (3.6, 4, "decreased"),
        (math.nan, 4, "unknown"),
        (4, math.nan, "unknown"),
    ],
)
def test_steroids_against_the_baseline_dose(dose, baseline, status):
    assert criteria.steroid_status(dose, baseline, physiologic_dex_mg=0.75, increase_ratio=1.1) == status


@pytest.mark.parametrize(
    ("doses", "clinical", "prospective", "final", "day"),
    [
        ([2, 4, 2], ["stable"] * 3, ["NE", "SD"], ["SD", "SD"], None),
        ([2, 4, 4], ["stable"] * 3, ["NE", "NE"], ["NE", "NE"], None),
        ([2, 4, 4], ["stable", "stable", "worse"], ["NE", "PD"], ["PD", "PD"], 30),
        ([2, 2, 2], ["stable", "stable", "worse"], ["SD", "PD"], ["SD", "PD"], 60),
    ],
)
def test_more_steroids_alone_are_no_progression_but_wait(doses, clinical, prospective, final, day):
    columns = {"dexamethasone_equiv_mg_per_day": [str(d) for d in doses], "clinical_status": clinical}
    _, sessions, patient = assess({"L001": [20, 20, 20]}, columns=columns)
    assert sessions["response_overall_prospective"].tolist()[1:] == prospective
    assert sessions["response_overall_final"].tolist()[1:] == final
    assert sessions["response_imaging_final"].tolist()[1:] == ["SD", "SD"]
    assert not sessions["clinical_assumed"].any()
    assert (None if pd.isna(patient["progression_day"]) else patient["progression_day"]) == day
    if day:
        assert patient["progression_reason"] == "clinical"


def test_unknown_steroids_and_status_count_as_none_and_stable_with_a_flag():
    _, sessions, patient = assess({"L001": [20, 0]})
    assert last(sessions, "response_overall_final") == "CR"
    assert sessions["clinical_assumed"].all()
    assert "clinical_assumed" in patient["flags"]


def test_worse_for_another_reason_than_the_tumour_is_no_progression():
    columns = {"clinical_status": ["stable", "worse"], "clinical_tumour_related": ["n/a", "false"]}
    _, sessions, _ = assess({"L001": [20, 20]}, columns=columns)
    assert last(sessions, "response_overall_final") == "SD"


# --- Best response, progression -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("course", "best"),
    [
        ("56 PR, 77 PR", "SD"),
        ("56 PR, 77 PR, 84 PR", "PR"),
        ("56 PR, 83 PR", "SD"),
        ("56 PR, 84 PR", "PR"),
        ("56 PR, 112 SD", "SD"),
        ("56 PR, 84 NE, 112 PR", "PR"),
        ("56 PR, 84 uPD, 112 PR", "PR"),
        ("56 CR, 84 PR", "PR"),
        ("56 CR, 84 CR", "CR"),
        ("56 CR, 83 CR", "SD"),
        ("56 PR, 70 SD, 98 PR", "SD"),
        ("56 PR, 84 CR, 112 CR", "CR"),
        ("56 PR, 84 CR", "PR"),
        ("30 SD, 60 PD", "PD"),
        ("42 SD, 60 PD", "SD"),
        ("41 SD, 60 PD", "PD"),
        ("50 SD, 90 PD", "SD"),
        ("56 PR, 84 PD", "SD"),
        ("30 PR, 58 PR, 84 PD", "PR"),
        ("56 PD, 84 CR, 120 CR", "PD"),
        ("50 NON_CR_NON_PD, 90 PD", "NON_CR_NON_PD"),
        ("28 NE", "NE"),
        ("28 SD", "NE"),
        ("", "NE"),
    ],
)
def test_best_response(course, best):
    points = [point.split() for point in course.split(", ") if point]
    found, *_ = criteria.best_response(
        [float(day) for day, _ in points], [r for _, r in points],
        confirm_days=RANO["confirm_days"], sd_min_days=RANO["sd_min_days"],
    )  # fmt: skip
    assert found == best


@pytest.mark.parametrize(
    ("course", "confirm", "best"),
    [
        ("n/a PR, n/a PR", True, ("PR", None, False)),
        ("n/a SD, n/a PD", True, ("SD", None, None)),
        ("n/a PD", True, ("PD", None, None)),
        ("56 PR, 84 PD", False, ("PR", 56, False)),
        ("56 PR, 84 CR", False, ("CR", 84, False)),
        ("56 PR, 84 PR", True, ("PR", 56, True)),
    ],
)
def test_best_response_without_dates_or_confirmation_counts_as_it_is(course, confirm, best):
    points = [point.split() for point in course.split(", ")]
    found, day, confirmed = criteria.best_response(
        [math.nan if day == "n/a" else float(day) for day, _ in points], [r for _, r in points],
        confirm_days=28, sd_min_days=42, confirm=confirm,
    )  # fmt: skip
    assert (found, None if math.isnan(day) else day, confirmed) == best


@pytest.mark.parametrize(
    ("course", "confirmed"),
    [
        ("56 PR, 83 PR", [False, False]),
        ("56 PR, 84 PR", [True, True]),
        ("56 CR, 84 PR", [False, True]),
        ("56 PR, 70 NE, 84 CR, 98 PD", [True, None, False, None]),
        ("56 SD", [None]),
    ],
)
def test_a_response_is_confirmed_when_it_lasts_four_weeks(course, confirmed):
    points = [point.split() for point in course.split(", ")]
    days, responses = [float(d) for d, _ in points], [r for _, r in points]
    assert criteria.confirm_responses(days, responses, confirm_days=28) == confirmed


def test_time_to_progression_ends_in_pd_or_at_the_last_evaluable_session():
    *_, patient = assess({"L001": [20, 20, 26]}, [0, 60, 95])
    assert (patient["progressed"], patient["time_to_progression_days"], patient["ttp_event"]) == (True, 95, True)
    *_, patient = assess({"L001": [20, 20, 20, 20]}, [0, 60, 95, 130], evaluable=[True, True, True, False])
    assert (patient["progressed"], patient["time_to_progression_days"], patient["ttp_event"]) == (False, 95, False)


def test_days_count_from_the_start_of_treatment_where_it_is_known():
    *_, patient = assess({"L001": [20, 20, 26]}, [0, 60, 95], participant={"treatment_start_day": 10})
    assert (patient["t0_source"], patient["progression_day"]) == ("treatment", 85)
    _, sessions, patient = assess({"L001": [20, 20, 26]}, [0, 60, 95], participant={"treatment_start_day": "n/a"})
    assert (patient["t0_source"], patient["progression_day"]) == ("baseline", 95)
    assert sessions["days_from_t0"].tolist() == [0, 60, 95]


def test_responses_after_progression_are_listed_but_never_the_best():
    _, sessions, patient = assess({"L001": [20, 26, 0, 0]}, [0, 60, 100, 140])
    assert sessions["response_overall_final"].tolist()[1:] == ["PD", "CR", "CR"]
    assert (patient["best_response"], patient["best_change_ld_pct"]) == ("PD", pytest.approx(30))


def test_the_duration_of_a_response_runs_from_its_first_day():
    *_, patient = assess({"L001": [20, 10, 10, 16]}, [0, 56, 90, 150])
    assert (patient["best_response"], patient["best_response_day"], patient["duration_of_response_days"]) == (
        "PR",
        56,
        94,
    )
    assert patient["best_response_confirmed"]


def test_two_sessions_that_cannot_be_read_before_a_progression_are_flagged():
    ok = [True, False, False, True]
    *_, patient = assess({"L001": [20, None, None, 30]}, evaluable=ok)
    assert "gap_before_pd" in patient["flags"]
    *_, patient = assess({"L001": [20, 20, None, 30]}, evaluable=[True, True, False, True])
    assert "gap_before_pd" not in patient["flags"]


@pytest.mark.parametrize(("n", "group"), [(0, None), (1, "1-3"), (3, "1-3"), (4, "4-10"), (10, "4-10"), (11, ">10")])
def test_groups_by_number_of_lesions(n, group):
    assert criteria.lesion_count_group(n) == group


# --- Volumes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("baseline", "nadir", "now", "response"),
    [
        (10, 10, 3.5, "PR"),
        (10, 10, 3.51, "SD"),
        (10, 10, 3.6, "SD"),
        (10, 3.5, 4.9, "SD"),
        (10, 3.5, 6.047, "SD"),
        (10, 3.5, 6.048, "PD"),
        (10, 10, 17.28, "PD"),
        (10, 10, 17.27, "SD"),
        (0.05, 0.02, 0.06, "SD"),
        (0.3, 0.1, 0.199, "SD"),
        (0.3, 0.1, 0.2, "PD"),
        (10, 10, 0, "CR"),
        (10, 0, 0.09, "PR"),
        (0.05, 0, 0.049, "PR"),
        (10, 0, 0.1, "PD"),
    ],
)
def test_response_by_volumes(baseline, nadir, now, response):
    volumes = [{"ld_mm": 20.0, "vol_wl_mm3": 1000 * v} if v else 0 for v in (baseline, nadir, now)]
    _, sessions, _ = assess({"L001": volumes})
    assert last(sessions, "response_volumetric_prospective") == response
    assert last(sessions, "sum_vol_target_ml") == pytest.approx(now)


def test_response_by_volumes_with_the_threshold_of_rano_2():
    """10, 3.5, 4.9 mL: 40 % more than the smallest."""
    tracks = {"L001": [{"ld_mm": 20, "vol_wl_mm3": 1000 * ml} for ml in (10, 3.5, 4.9)]}
    assert last(assess(tracks)[1], "response_volumetric_prospective") == "SD"
    assert last(assess(tracks, volume=VOLUME | {"pd": 0.40})[1], "response_volumetric_prospective") == "PD"


@pytest.mark.parametrize(("now", "response"), [(14.9, "SD"), (15.0, "PD")])
def test_growth_can_be_asked_of_the_diameter_of_the_sphere(now, response):
    """5 mm, as with the longest diameter; by volume a tenth of a millilitre is long reached."""
    tracks = {"L001": [{"ld_mm": ld, "vol_wl_mm3": math.pi / 6 * ld**3} for ld in (20, 10, now)]}
    strict = VOLUME | {"abs_rule": "diameter"}
    assert last(assess(tracks, volume=strict)[1], "response_volumetric_prospective") == response
    assert last(assess(tracks)[1], "response_volumetric_prospective") == "PD"


def test_cubes_of_the_diameters_agree_between_both_rules():
    # -30 % of a diameter is -65.7 % of its cube, +20 % is +72.8 %.
    for change, response in ((0.70, "PR"), (0.71, "SD"), (1.25, "PD")):
        _, sessions, patient = assess({"L001": [30, 30 * change]}, [0, 60])
        assert last(sessions, "response_volumetric_prospective") == last(sessions, "target_response") == response
    assert patient["best_response_volumetric"] == "PD"


# --- Lesions alone ------------------------------------------------------------------------------------------------


def test_each_lesion_has_its_own_response():
    lesions, *_ = assess({"L001": [20, 14, 20], "L002": [12, 0, 0], "L003": [None, 6, 11], "L004": [11, 11, NE]})
    responses = lesions.groupby("track_id")["lesion_response"].agg(lambda r: [None if pd.isna(x) else x for x in r])
    assert responses.to_dict() == {
        "L001": [None, "PR", "PD"],
        "L002": [None, "CR", "CR"],
        "L003": [None, "PD"],
        "L004": [None, "SD", "NE"],
    }


def test_changes_of_a_lesion_are_missing_where_there_is_nothing_to_compare():
    lesions, *_ = assess({"L001": [20, 10, 15], "L002": [12, 0, 6], "L003": [None, 6, 11]})
    of = lesions.set_index(["track_id", "session_id"])
    assert of.loc[("L001", "ses-2"), "ld_change_baseline_pct"] == pytest.approx(-25)
    assert of.loc[("L001", "ses-2"), "ld_change_nadir_pct"] == pytest.approx(50)
    assert of.loc[("L001", "ses-2"), "vol_change_nadir_pct"] == pytest.approx(100 * (1.5**3 - 1))
    assert of.loc[("L002", "ses-2"), "ld_change_baseline_pct"] == pytest.approx(-50)
    assert math.isnan(of.loc[("L002", "ses-2"), "ld_change_nadir_pct"])  # it was 0
    assert math.isnan(of.loc[("L003", "ses-2"), "ld_change_nadir_pct"])  # born later
    assert of.loc[("L001", "ses-0"), "ld_change_baseline_pct"] == 0


def test_a_lesion_that_carries_another_has_no_response_of_its_own():
    lesions, *_ = assess({"L001": [12, 24], "L002": [11, "L001"]})
    rows = lesions[lesions["session_id"] == "ses-1"]
    assert rows["lesion_response"].tolist() == ["NE", "NE"]
    assert rows["ld_change_baseline_pct"].isna().all()
    assert rows["ld_mm"].isna().tolist() == [False, True]


# --- Cases with little in them ------------------------------------------------------------------------------------


def test_a_patient_without_lesions_has_no_disease_and_it_says_so():
    lesions, sessions, patient = assess({}, [0, 60])
    assert lesions.empty
    assert list(lesions) == schema.columns("lesions")
    assert last(sessions, "response_overall_final") == last(sessions, "response_volumetric_final") == "ND"
    assert (patient["best_response"], patient["best_response_day"], patient["progressed"]) == ("ND", 60, False)
    assert sessions["n_lesions"].tolist() == [0, 0]
    assert {"no_lesions", "no_targets", "no_lesions_at_baseline"} <= set(patient["flags"].split(";"))
    assert pd.isna(patient["lesion_count_group"])


def test_a_first_lesion_after_a_clean_baseline_is_progression():
    _, sessions, patient = assess({"L001": [None, 8]}, [0, 60])
    assert last(sessions, "response_overall_final") == "PD"
    assert patient["progression_reason"] == "new"


def test_one_visit_is_a_baseline_without_response():
    _, sessions, patient = assess({"L001": [20]}, [0])
    assert pd.isna(sessions["response_overall_final"].iloc[0])
    assert sessions["sum_ld_mm"].item() == 20
    assert (patient["best_response"], patient["progressed"]) == ("NE", False)
    assert "no_followup" in patient["flags"]


def test_a_patient_without_an_evaluable_session_says_why():
    lesions, sessions, patient = assess({}, [0, 60], evaluable=[False, False])
    assert lesions.empty
    assert sessions["response_overall_final"].tolist() == ["NE", "NE"]
    assert sessions["ne_reason"].tolist() == ["no_contrast", "no_contrast"]
    assert pd.isna(patient["baseline_session"])
    assert "no_evaluable_session" in patient["flags"]
    assert patient[["progressed", "ttp_event", "time_to_progression_days"]].isna().all()


def test_a_patient_without_sessions_gives_tables_without_rows():
    lesions, sessions, patient = assess({}, [])
    assert (len(lesions), len(sessions), patient["n_sessions"]) == (0, 0, 0)


def test_without_days_the_order_counts_but_nothing_is_confirmed():
    _, sessions, patient = assess({"L001": [20, 10, 10, 26]}, [None] * 4)
    assert sessions["response_overall_final"].tolist()[1:] == ["PR", "PR", "PD"]
    assert (patient["best_response"], patient["best_response_confirmed"]) == ("PR", False)
    assert sessions["days_from_t0"].isna().all()
    assert patient[["progression_day", "time_to_progression_days", "last_evaluable_day"]].isna().all()
    assert patient["progressed"]
    assert "no_dates" in patient["flags"]
    assert (sessions["flags"].str.contains("no_dates")).all()


def test_a_session_that_is_not_evaluable_keeps_its_lesions_without_sizes():
    lesions, sessions, _ = assess({"L001": [20, None, 20], "L002": [None, None, 4]}, evaluable=[True, False, True])
    row = lesions[lesions["session_id"] == "ses-1"].iloc[0]
    assert (row["track_id"], row["status"], row["ld_source"]) == ("L001", NE, "ne")
    assert row[["ld_mm", "ld_rano_mm", "vol_wl_mm3", "n_voxels", "measurable"]].isna().all()
    assert len(lesions) == 4  # no row of L002 before it was born
    assert sessions.loc["ses-1", "response_overall_final"] == "NE"
    assert sessions.loc["ses-1", "ne_reason"] == "no_contrast"
    assert sessions.loc["ses-1", ["n_lesions", "sum_ld_mm", "total_vol_wl_ml", "new_lesion"]].isna().all()
    assert pd.isna(sessions.loc["ses-2", "ne_reason"])


def test_lesions_that_are_absent_have_size_zero():
    lesions, *_ = assess({"L001": [20, 0]}, columns={"edema_unassigned_mm3": [0.0, 0.0]})
    row = lesions.iloc[-1]
    assert (row[[*ZERO_IF_ABSENT, "vol_wl_ml", "ld_rano_mm"]] == 0).all()
    assert row[["centroid_x_mm", "necrosis_fraction", "border_distance_mm"]].isna().all()


def test_counts_and_volumes_are_over_all_lesions_present():
    tracks = {"L001": [20, 20], "L002": [8, 0], "L003": [None, 6]}
    _, sessions, _ = assess(tracks, columns={"edema_unassigned_mm3": [0.0, 500.0]})
    row = sessions.loc["ses-1"]
    assert (row["n_lesions"], row["n_absent"], row["n_new"], row["n_targets"]) == (2, 1, 1, 1)
    assert row["total_vol_wl_ml"] == pytest.approx(math.pi / 6 * (20**3 + 6**3) / 1000)
    assert row["total_vol_ed_ml"] == pytest.approx(0.5)


# --- Treated on the day of the scan ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "role", "before"), [(0, "target", False), (1, "target", False), (-1, "nontarget", True)]
)
def test_a_scan_of_the_day_of_treatment_is_before_it(day, role, before):
    lesions, _, patient = assess(
        {"L001": [20, 20], "L002": [12, 12]}, [0, 30], participant={"treatment_start_day": "0"},
        overrides=[override("irradiated_day", str(day))],
    )  # fmt: skip
    mine = lesions.query("track_id == 'L001'")
    assert (patient["baseline_session"], patient["baseline_flag"]) == ("ses-0", "in_window")
    assert mine["role"].tolist() == [role] * 2
    assert mine["prior_local_therapy"].tolist() == [before, True]


def test_a_treatment_to_come_does_not_hide_one_before_baseline():
    decided = [override("irradiated_day", "-20"), override("resected_day", "90")]
    lesions, *_ = assess({"L001": [20, 20], "L002": [12, 12]}, [0, 30], overrides=decided)
    assert lesions.query("track_id == 'L001'")["role"].tolist() == ["nontarget"] * 2


@pytest.mark.parametrize(("day", "role"), [(0, "nontarget"), (-1, "prebaseline")])
def test_what_is_resected_on_the_day_of_the_scan_is_on_the_scan(day, role):
    small = {"ld_mm": 9}
    lesions, *_ = assess(
        {"L001": [20, 20], "L002": [small, 0]}, overrides=[override("resected_day", str(day), "", "L002")]
    )
    assert lesions.query("track_id == 'L002'")["role"].iloc[0] == role


@pytest.mark.parametrize(("start", "response"), [(60, "PD"), (59, "uPD")])
def test_a_scan_of_the_first_day_of_immunotherapy_is_before_it(start, response):
    immune = {"immunotherapy_start_day": str(start)}
    for more in ({}, {"irano": True}):
        _, sessions, _ = assess({"L001": [20, 20], "L002": [None, 8]}, [0, 60], participant=immune, **more)
        assert last(sessions, "response_imaging_final") == response


# --- What a reader says of targets ----------------------------------------------------------------------------------


def roles_of(lesions, session="ses-0"):
    return lesions[lesions["session_id"] == session].set_index("track_id")["role"].to_dict()


def test_a_purely_cystic_lesion_is_no_target_unless_a_reader_says_so():
    tracks = {"L001": [{"ld_mm": 30, "flags": "cystic_only"}] * 2, "L002": [12, 12]}
    lesions, *_ = assess(tracks)
    assert roles_of(lesions) == {"L001": "nontarget", "L002": "target"}
    assert lesions["measurable"].tolist() == [False, True] * 2
    for decided in (override("measurable", "true", "ses-0"), override("role", "target")):
        lesions, *_ = assess(tracks, overrides=[decided])
        assert roles_of(lesions, "ses-1") == {"L001": "target", "L002": "target"}
    lesions, *_ = assess(tracks, overrides=[override("measurable", "true", "ses-1")])
    assert roles_of(lesions) == {"L001": "nontarget", "L002": "target"}, "baseline decides"
    assert lesions["measurable"].tolist() == [False, True, True, True]


def test_a_dural_lesion_is_not_measurable_and_no_target():
    tracks = {"L001": [30, 30], "L002": [12, 12]}
    lesions, *_ = assess(tracks, overrides=[override("dural", "true")])
    assert roles_of(lesions) == {"L001": "nontarget", "L002": "target"}
    assert lesions["measurable"].tolist() == [False, True] * 2
    assert lesions["flags"].fillna("").tolist() == ["dural", ""] * 2
    lesions, *_ = assess(tracks, overrides=[override("dural", "true"), override("measurable", "true", "ses-0")])
    assert roles_of(lesions) == {"L001": "target", "L002": "target"}
    lesions, *_ = assess(tracks, overrides=[override("dural", "false")])
    assert roles_of(lesions) == {"L001": "target", "L002": "target"}


def test_what_a_reader_calls_not_measurable_at_baseline_is_no_target():
    lesions, *_ = assess({"L001": [30, 30], "L002": [12, 12]}, overrides=[override("measurable", "false", "ses-0")])
    assert roles_of(lesions, "ses-1") == {"L001": "nontarget", "L002": "target"}
    assert lesions["measurable"].tolist() == [False, True, True, True]


def test_targets_that_a_reader_names_come_first():
    tracks = {"L001": [30, 30], "L002": [20, 20], "L003": [8, 8], "L004": [15, 15]}
    decided = [override("role", "target", None, "L003"), override("role", "nontarget", None, "L001")]
    lesions, sessions, _ = assess(tracks, overrides=decided, max_targets=2)
    expected = {"L001": "nontarget", "L002": "target", "L003": "target", "L004": "nontarget"}
    assert roles_of(lesions) == roles_of(lesions, "ses-1") == expected
    assert sessions["sum_ld_mm"].tolist() == [28, 28]
    # Kept in a later run, without the reader's table and whatever is largest then.
    later = {track: [*cells, 9] for track, cells in tracks.items()}
    lesions, *_ = assess(later, frozen=lesions, max_targets=2)
    assert roles_of(lesions, "ses-2") == expected
    # A reader may still take one out, or add one.
    lesions, *_ = assess(later, frozen=lesions, max_targets=2, overrides=[override("role", "nontarget", None, "L003")])
    assert roles_of(lesions) == expected | {"L003": "nontarget"}
    lesions, *_ = assess(later, frozen=lesions, max_targets=2, overrides=[override("role", "target", None, "L004")])
    assert roles_of(lesions) == {"L001": "nontarget", "L002": "target", "L003": "nontarget", "L004": "target"}


def test_a_reader_makes_a_treated_lesion_or_a_candidate_a_target():
    treated = [override("irradiated_day", "-9"), override("role", "target")]
    lesions, *_ = assess({"L001": [20, 20], "L002": [12, 12]}, overrides=treated)
    assert roles_of(lesions) == {"L001": "target", "L002": "target"}
    for role in ("target", "nontarget"):
        lesions, sessions, _ = assess({"L001": [unsure(20), unsure(20)]}, overrides=[override("role", role)])
        assert roles_of(lesions) == {"L001": role}
        assert sessions[["n_lesions", "n_candidates"]].values.tolist() == [[1, 0]] * 2


def test_a_role_can_leave_a_lesion_out():
    tracks = {"L001": [30, 60], "L002": [12, 12]}
    for decided in ([override("role", "excluded")], [override("role", "excluded"), override("exclude", "true")]):
        lesions, sessions, _ = assess(tracks, overrides=decided)
        assert roles_of(lesions) == {"L001": "excluded", "L002": "target"}
        assert last(sessions, "target_response") == "SD"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("role", "new", None, "L001")], "role = new"),
        ([("measurable", "perhaps", "ses-0", "L001")], "measurable = perhaps"),
        ([("measurable", "true", None, "L001")], "measurable without session_id and track_id"),
        ([("measurable", "true", "ses-0", "L002")], "measurable of L002 at ses-0"),
        ([("dural", "true", None, "L009")], "lesion L009"),
        ([("role", "target", None, "L009")], "lesion L009"),
        ([("role", "target", None, "L002")], "role = target for L002, which is not seen at ses-0"),
        ([("role", "nontarget", None, "L002")], "role = nontarget for L002, which is not seen at ses-0"),
        ([("role", "target", None, "L001"), ("role", "target", None, "L003")], "2 targets: L001, L003"),
        ([("role", "target", None, "L001"), ("exclude", "true", None, "L001")], "exclude = true and role = target"),
        (
            [("role", "excluded", None, "L001"), ("exclude", "false", None, "L001")],
            "exclude = false and role = excluded",
        ),
    ],
)
def test_roles_that_make_no_sense_are_refused(rows, said):
    with pytest.raises(InputError) as error:
        assess(
            {"L001": [20, 20], "L002": [None, 8], "L003": [12, 12]}, overrides=[override(*row) for row in rows],
            max_targets=1,
        )  # fmt: skip
    assert said in error.value.found


# --- After a complete response -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "sizes", "prospective", "final"),
    [
        ([30, 58, 90], [0, 0, 4], ["CR", "CR", "PD"], ["CR", "CR", "PD"]),
        ([30, 57, 90], [0, 0, 4], ["CR", "CR", "PR"], ["PR", "PR", "PR"]),  # 27 days: not confirmed
        ([30, 90], [0, 4], ["CR", "PR"], ["PR", "PR"]),
        ([30, 58, 90], [0, 0, 0.5], ["CR", "CR", "PD"], ["CR", "CR", "PD"]),
        ([30, 90], [0, 5], ["CR", "PD"], ["CR", "PD"]),  # growth that is PD is no doubt
        ([30, 58, 90, 120], [0, NE, 0, 4], ["CR", "NE", "CR", "PD"], ["CR", "NE", "CR", "PD"]),
        ([30, 58, 90, 120], [0, 0, 4, 4], ["CR", "CR", "PD", "PD"], ["CR", "CR", "PD", "PD"]),
        ([30, 58, 90], [4, 0, 4], ["PR", "CR", "PR"], ["PR", "PR", "PR"]),
        ([30, 58, 90], [0, NE, 4], ["CR", "NE", "PR"], ["PR", "NE", "PR"]),
    ],
)
def test_a_target_that_comes_back_after_a_confirmed_cr_is_progression(days, sizes, prospective, final):
    lesions, sessions, patient = assess({"L001": [20, *sizes]}, [0, *days])
    assert sessions["target_response"].tolist()[1:] == prospective
    for kind in ("imaging", "overall", "volumetric"):
        if kind == "volumetric" and sizes == [0, 5]:
            continue  # 0.065 mL: no growth by volume
        assert sessions[f"response_{kind}_prospective"].tolist()[1:] == prospective
        assert sessions[f"response_{kind}_final"].tolist()[1:] == final
    assert lesions["lesion_response"].tolist()[1:] == prospective
    assert patient["progressed"] == ("PD" in final)


@pytest.mark.parametrize(("second", "response"), [(58, "PD"), (57, "PR")])
def test_another_lesion_back_after_a_confirmed_cr_is_progression(second, response):
    _, sessions, patient = assess({"L001": [20, 0, 0, 0], "L002": [6, 0, 0, 3]}, [0, 30, second, 90])
    assert last(sessions, "target_response") == "CR"
    assert last(sessions, "nontarget_response") == ("PD" if response == "PD" else "NON_CR_NON_PD")
    assert last(sessions, "response_imaging_final") == last(sessions, "response_volumetric_final") == response
    assert sessions["response_imaging_final"].tolist()[1:3] == (["CR"] * 2 if response == "PD" else ["PR"] * 2)
    assert (patient["progression_reason"] == "nontarget") == (response == "PD")
    # A reader decides otherwise, and the complete response is not doubted.
    _, sessions, _ = assess(
        {"L001": [20, 0, 0, 0], "L002": [6, 0, 0, 3]}, [0, 30, 58, 90],
        overrides=[override("nontarget_pd", "false", session="ses-3")],
    )  # fmt: skip
    assert sessions["response_imaging_final"].tolist()[1:] == ["CR", "CR", "PR"]


def test_targets_gone_beside_another_lesion_are_no_complete_response():
    _, sessions, _ = assess({"L001": [20, 0, 0, 4], "L002": [6, 6, 6, 6]}, [0, 30, 60, 90])
    assert sessions["response_imaging_final"].tolist()[1:] == ["PR", "PR", "PR"]


def test_an_uncertain_new_lesion_casts_no_doubt_on_a_complete_response():
    _, sessions, _ = assess({"L001": [20, 0, 0], "L002": [None, None, 4]}, [0, 30, 57])
    assert sessions["response_imaging_final"].tolist()[1:] == ["CR", "PR"]


def test_a_lesion_missed_once_was_no_complete_response():
    _, sessions, _ = assess({"L001": [20, 0, {"ld_mm": 12, "probable_missed_detection": True}]})
    assert sessions["response_imaging_final"].tolist()[1:] == ["NE", "PR"]


def test_a_confirmed_pr_that_is_no_pd_stays_pr_where_it_is_continued():
    _, sessions, _ = assess({"L001": [40, 25, 25, 29, 38, 29]}, [0, 30, 58, 90, 120, 150])
    for kind in ("imaging", "overall"):
        assert sessions[f"response_{kind}_prospective"].tolist()[1:] == ["PR", "PR", "SD", "PD", "SD"]
        assert sessions[f"response_{kind}_final"].tolist()[1:] == ["PR", "PR", "SD", "PD", "SD"]
        assert sessions[f"response_{kind}_continued"].tolist()[1:] == ["PR", "PR", "PR", "PD", "SD"]
    _, sessions, patient = assess({"L001": [40, 25, 25, 29]}, [0, 30, 57, 90])
    assert sessions["response_imaging_continued"].tolist()[1:] == ["PR", "PR", "SD"]
    assert sessions["target_response_continued"].tolist()[1:] == ["PR", "PR", "SD"]
    assert patient["best_response"] == "SD"


def test_a_response_that_was_a_miss_is_not_continued():
    # The first PR was a lesion that was overlooked: one true PR is not confirmed.
    tracks = {"L001": [20, 20, 11, 14], "L002": [12, 0, {"ld_mm": 11, "probable_missed_detection": True}, 12]}
    _, sessions, _ = assess(tracks, [0, 30, 60, 90])
    assert sessions["response_imaging_prospective"].tolist()[1:] == ["PR", "PR", "SD"]
    assert sessions["response_imaging_continued"].tolist()[1:] == ["PR", "PR", "SD"]
    assert sessions["target_response_continued"].tolist()[1:] == ["PR", "PR", "SD"]


# --- No disease ----------------------------------------------------------------------------------------------------


def test_no_disease_is_said_where_there_is_none():
    _, sessions, patient = assess({"L001": [None, None, 4, 0, 0]}, [0, 30, 60, 90, 120])
    assert sessions["response_overall_prospective"].tolist()[1:] == ["ND", "NE", "ND", "ND"]
    assert sessions["response_overall_final"].tolist()[1:] == ["ND"] * 4, "what was rejected never was"
    assert patient["best_response"] == "ND"
    _, sessions, patient = assess({"L001": [None, None, 8, 0, 0]}, [0, 30, 60, 90, 120])
    assert sessions["response_overall_final"].tolist()[1:] == ["ND", "PD", "NE", "NE"]
    assert patient["best_response"] == "PD"
    columns = {"clinical_status": ["stable", "worse", "stable"], "steroid_status": ["none", "none", "increased"]}
    _, sessions, _ = assess({}, [0, 30, 60], columns=columns)
    assert sessions["response_overall_final"].tolist()[1:] == ["PD", "ND"]
    _, sessions, patient = assess({}, [0, 30, 60], evaluable=[True, False, True])
    assert sessions["response_overall_final"].tolist()[1:] == ["NE", "ND"]
    _, sessions, _ = assess({"L001": [20, 20]}, overrides=[override("exclude", "true")])
    assert last(sessions, "response_imaging_final") == "ND"


@pytest.mark.parametrize(
    ("course", "best"),
    [("28 ND", ("ND", 28)), ("28 NE, 50 ND", ("ND", 50)), ("50 ND, 90 PD", ("PD", 90)), ("50 ND, 90 uPD", ("ND", 50))],
)
def test_no_disease_is_the_best_response_where_nothing_else_was_seen(course, best):
    points = [point.split() for point in course.split(", ")]
    days, responses = [float(d) for d, _ in points], [r for _, r in points]
    assert criteria.best_response(days, responses, confirm_days=28, sd_min_days=42)[:2] == best


# --- What was overlooked --------------------------------------------------------------------------------------------


def test_a_lesion_overlooked_has_no_size_in_any_column_that_may_change():
    lesions, sessions, _ = assess(D3L, columns={"edema_unassigned_mm3": [0.0] * 3})
    gap = lesions.set_index(["track_id", "session_id"]).loc[("L002", "ses-1")]
    assert gap[["ld_source", "vol_source"]].tolist() == ["probable_missed_detection"] * 2
    assert gap[["ld_rano_mm", "vol_rano_ml"]].isna().all()
    assert gap[["ld_mm", "vol_wl_mm3", "ld_change_baseline_pct"]].tolist() == [0, 0, -100], "as it was known then"
    assert gap["lesion_response"] == "CR"
    totals = [f"total_vol_{tissue}_final_ml" for tissue in ("wl", "et", "nc", "ed")]
    final = ["sum_ld_final_mm", "sum_vol_target_final_ml", *totals]
    seen = sessions.loc["ses-1"]
    assert seen[final].isna().all()
    assert seen["sum_ld_mm"] == 20
    assert seen["total_vol_wl_ml"] == pytest.approx(math.pi / 6 * 8)
    assert seen[["response_volumetric_prospective", "response_volumetric_final"]].tolist() == ["SD", "NE"]
    assert sessions["flags"].str.contains("probable_missed_detection", na=False).tolist() == [False, True, False]
    back = sessions.loc["ses-2"]
    assert back[["sum_ld_final_mm", "sum_ld_mm"]].tolist() == [32, 32]
    assert back[totals].tolist() == back[[name.replace("_final", "") for name in totals]].tolist()
    after = lesions.set_index(["track_id", "session_id"]).loc[("L002", "ses-2")]
    assert after[["ld_change_nadir_pct", "vol_change_nadir_pct", "lesion_response"]].tolist() == [0, 0, "SD"]
    assert after["vol_rano_ml"] == after["vol_wl_ml"]


def test_before_it_is_back_a_lesion_counts_as_gone():
    lesions, sessions, _ = assess({track: cells[:2] for track, cells in D3L.items()})
    assert lesions["vol_source"].tolist() == ["measured", "measured", "measured", "absent"]
    assert last(sessions, "sum_ld_final_mm") == 20
    assert last(sessions, "response_volumetric_final") == "SD"
    assert last(sessions, "flags") == "n/a"


def test_what_a_reader_measured_was_not_overlooked():
    for value, responses in (("0", ["PR", "PD"]), ("12", ["SD", "SD"])):
        lesions, sessions, _ = assess(D3L, overrides=[override("ld_mm", value, track="L002")])
        assert sessions["response_imaging_final"].tolist()[1:] == responses
        row = lesions.set_index(["track_id", "session_id"]).loc[("L002", "ses-1")]
        assert row["ld_rano_mm"] == float(value)
        assert row["vol_source"] == ("override" if value == "0" else "ne"), "no volume where the mask has none"
        assert sessions.loc["ses-1", "flags"] != "probable_missed_detection"


def test_a_lesion_that_plays_no_part_and_was_overlooked_revises_nothing():
    tracks = D3L | {"L002": [12, 0, {"ld_mm": 12, "probable_missed_detection": True}]}
    _, sessions, _ = assess(tracks, overrides=[override("exclude", "true", track="L002")])
    assert sessions.loc["ses-1", "sum_ld_final_mm"] == 20
    assert sessions.loc["ses-1", "total_vol_wl_final_ml"] == pytest.approx(math.pi / 6 * 8)
    assert pd.isna(sessions.loc["ses-1", "flags"])


@pytest.mark.parametrize(
    ("given", "source", "volume"),
    [
        (10, "measured", math.pi / 6),
        (0, "absent", 0),
        ("L002", "merged", 0),
        (NE, "ne", math.nan),
        ({"ld_mm": 8.0, "enhancing": False}, "absent", 0),
    ],
)
def test_the_volume_in_the_sum(given, source, volume):
    lesions, *_ = assess({"L001": [12, given], "L002": [15, 15]})
    row = lesions.set_index(["track_id", "session_id"]).loc[("L001", "ses-1")]
    assert row["vol_source"] == source
    assert row["vol_rano_ml"] == pytest.approx(volume, nan_ok=True)


# --- Edema, registration, remarks of the matching -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edema_ml", "flagged"),
    [
        ([10, 20], [False, True]), ([10, 19.9], [False, False]), ([9, 18.9], [False, False]),
        ([20, 39.9], [False, False]), ([0, 10], [False, True]), ([30, 10, 20], [False, False, True]),
        ([10, None, 20], [False, False, True]), ([None, 20], [False, False]),
    ],
)  # fmt: skip
def test_edema_that_doubles_is_pointed_out_and_is_no_progression(edema_ml, flagged):
    columns = {"edema_unassigned_mm3": [None if ml is None else 1000.0 * ml for ml in edema_ml]}
    _, sessions, _ = assess({"L001": [20] * len(edema_ml)}, columns=columns)
    assert sessions["flags"].str.contains("edema_progression", na=False).tolist() == flagged
    assert sessions["response_imaging_final"].tolist()[1:] == ["SD"] * (len(edema_ml) - 1)
    assert sessions["total_vol_ed_ml"].isna().tolist() == [ml is None for ml in edema_ml]


def test_edema_is_not_available_where_no_image_shows_it():
    without = {"ld_mm": 20, "vol_ed_mm3": None}
    lesions, sessions, _ = assess(
        {"L001": [20, without], "L002": [12, 0]}, columns={"edema_unassigned_mm3": [0.0, 0.0]}
    )
    assert sessions["total_vol_ed_ml"].isna().tolist() == [False, True]
    assert lesions["vol_ed_mm3"].isna().tolist() == [False, False, True, True]
    _, sessions, _ = assess({}, [0, 30])
    assert sessions["total_vol_ed_ml"].isna().all()
    assert sessions["total_vol_wl_ml"].tolist() == [0, 0]


def test_edema_where_a_lesion_was_overlooked_is_no_smallest():
    columns = {"edema_unassigned_mm3": [20000.0, 5000.0, 20000.0]}
    _, sessions, _ = assess(D3L, columns=columns)
    assert not sessions["flags"].str.contains("edema_progression", na=False).any()


@pytest.mark.parametrize(("shift", "flags"), [(1.9, "n/a"), (2.0, "residual_shift"), (None, "n/a")])
def test_a_shift_that_the_lesions_show_is_passed_on(shift, flags):
    _, sessions, _ = assess({"L001": [20, 20]}, columns={"residual_shift_mm": [0.0, shift]})
    assert last(sessions, "flags") == flags
    assert last(sessions, "residual_shift_mm") == ("n/a" if shift is None else shift)


def test_a_weak_match_stands_at_the_session_too():
    weak = {"ld_mm": 20, "flags": "weak_match"}
    _, sessions, _ = assess({"L001": [20, weak]})
    assert last(sessions, "flags") == "weak_match"
    _, sessions, _ = assess({"L001": [20, weak]}, overrides=[override("exclude", "true")])
    assert "weak_match" not in last(sessions, "flags")


def test_what_the_measurement_adds_is_passed_on():
    more = {"region": "frontal", "side": "left", "vol_probability_low_ml": 3.0, "ld_half_voxel_high_mm": 21.0}
    lesions, *_ = assess({"L001": [20, {"ld_mm": 20} | more], "L002": [12, 0]})
    of = lesions.set_index(["track_id", "session_id"])[list(more)]
    assert of.loc[("L001", "ses-1")].tolist() == list(more.values())
    assert of.loc[("L002", "ses-1")].isna().all()


# --- New lesions per year ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "first", "latest", "group"),
    [
        ([90, 90, 90, 90], 16.2, 16.2, "high"),
        ([90, 90, 90, 90, 180], 16.2, 10.1, "high"),
        ([90], 4.1, 4.1, "intermediate"),
        ([92], 4.0, 4.0, "low"),
        ([90, 90, 90], 12.2, 12.2, "intermediate"),
        ([84, 84, 84], 13.0, 13.0, "high"),
        ([180, 90], 4.1, 4.1, "intermediate"),
    ],
)
def test_velocity_is_new_lesions_per_year_at_each_distant_failure(days, first, latest, group):
    rates = criteria.metastasis_velocity(days)
    assert [round(rate, 1) for rate in (rates[0], rates[-1])] == [first, latest]
    assert criteria.velocity_group(rates[0]) == group


def test_the_limits_of_the_groups_are_both_intermediate():
    groups = [criteria.velocity_group(rate) for rate in (3.99, 4, 13, 13.01)]
    assert groups == ["low", "intermediate", "intermediate", "high"]


VELOCITY = ["brain_metastasis_velocity_first_per_year", "brain_metastasis_velocity_latest_per_year"]


def test_velocity_does_not_depend_on_how_long_the_patient_is_followed():
    new = {f"L00{n}": [None, 8, 8, 8] for n in range(2, 6)}
    for n in (2, 3, 4):
        tracks = {"L001": [20] * n} | {track: cells[:n] for track, cells in new.items()}
        *_, patient = assess(tracks, [0, 90, 200, 900][:n], participant={"treatment_start_day": "0"})
        assert patient[VELOCITY].tolist() == pytest.approx([4 * 365.25 / 90] * 2)
        assert patient["brain_metastasis_velocity_group"] == "high"
    *_, patient = assess(tracks, [0, 90, 200, 900])
    assert patient[[*VELOCITY, "brain_metastasis_velocity_group"]].isna().all(), "no treatment to count from"


def test_velocity_counts_new_lesions_that_are_sure_from_their_first_day():
    # Uncertain at day 60, sure at day 95; not seen again; uncertain to the end; gone at baseline and back at day 95.
    tracks = {
        "L001": [20] * 4, "L002": [None, None, 4, 6], "L003": [None, None, 4, 0], "L004": [None, None, None, 4],
        "L005": [8, 0, 0, 8],
    }  # fmt: skip
    lesions, _, patient = assess(tracks, [-60, 0, 60, 95], participant={"treatment_start_day": "0"})
    assert patient[VELOCITY].tolist() == pytest.approx([365.25 / 60, 2 * 365.25 / 95])
    assert patient["brain_metastasis_velocity_group"] == "intermediate"
    # What the day of distant failure is read from.
    sure = lesions[lesions["new_lesion_status"].isin(["definite", "confirmed"])]
    assert sure.groupby("track_id")["days_from_t0"].min().to_dict() == {"L002": 60, "L005": 95}


def test_without_new_lesions_there_is_no_velocity():
    *_, patient = assess({"L001": [20, 20], "L002": [None, 4]}, participant={"treatment_start_day": "0"})
    assert patient[[*VELOCITY, "brain_metastasis_velocity_group"]].isna().all()


# --- Like with like ------------------------------------------------------------------------------------------------


def again(track, now, then, *, at=(1, 0), vol_now=None, vol_then=None):
    """One row of the comparisons: sizes of a lesion at two sessions, measured as where it is apart from others."""
    volumes = [math.pi / 6 * d**3 / 1000 if v is None else v for d, v in ((now, vol_now), (then, vol_then))]
    cells = (f"ses-{at[0]}", f"ses-{at[1]}", track, now, then, *volumes)
    return dict(zip(COMPARED, cells, strict=True)) | {"participant_id": "sub-1"}


TOUCHING = {"ld_mm": 21.8, "flags": "coalesced"}  # two of 21 mm, one above the other


def test_lesions_that_grow_and_touch_are_no_partial_response():
    tracks = {"L001": [20, TOUCHING], "L002": [20, "L001"]}
    assert last(assess(tracks)[1], "target_response") == "PR", "as they are"
    lesions, sessions, patient = assess(tracks, comparisons=[again("L001", 21, 20), again("L002", 21, 20)])
    now = sessions.iloc[-1]
    assert now["target_response"] == now["response_volumetric_final"] == "SD"
    assert now[["sum_ld_mm", "sum_ld_baseline_mm", "reference_sum_ld_mm", "nadir_sum_ld_mm"]].tolist() == [
        21.8,
        40,
        40,
        40,
    ]
    assert now[["sum_ld_change_baseline_pct", "sum_ld_change_nadir_pct", "max_lesion_increase_mm"]].tolist() == [
        5,
        5,
        1,
    ]
    assert sessions["flags"].str.contains("coalesced", na=False).tolist() == [False, True]
    mine = lesions[lesions["session_id"] == "ses-1"]
    assert mine["ld_change_baseline_pct"].tolist() == mine["ld_change_nadir_pct"].tolist() == [5, 5]
    assert mine["vol_change_baseline_pct"].tolist() == pytest.approx([15.7625] * 2)
    assert mine["lesion_response"].tolist() == ["SD", "SD"]
    assert mine["ld_rano_mm"].tolist() == [21.8, 0], "what was written stays"
    assert patient[["best_change_ld_pct", "nadir_sum_ld_mm", "best_response"]].tolist() == [5, 40, "NE"]
    assert patient["best_change_vol_pct"] == pytest.approx(15.7625)


def test_lesions_that_touch_at_baseline_and_part_are_no_progression():
    tracks = {"L001": [TOUCHING, 21], "L002": ["L001", 21]}
    assert last(assess(tracks)[1], "target_response") == "PD", "as they are"
    _, sessions, patient = assess(tracks, comparisons=[again("L001", 21, 20), again("L002", 21, 20)])
    now = sessions.iloc[-1]
    assert now["target_response"] == now["response_volumetric_final"] == "SD"
    assert now[["sum_ld_mm", "sum_ld_baseline_mm", "reference_sum_ld_mm", "nadir_sum_ld_mm"]].tolist() == [
        42,
        21.8,
        40,
        40,
    ]
    assert sessions["flags"].str.contains("coalesced", na=False).tolist() == [True, True]
    assert patient["best_change_ld_pct"] == 5


def test_lesions_that_touch_at_the_nadir_alone_are_no_progression():
    tracks = {"L001": [30, {"ld_mm": 32}, 30], "L002": [30, "L001", 30]}
    rows = [again(track, 29, 30) for track in tracks] + [again(track, 30, 29, at=(2, 1)) for track in tracks]
    assert assess(tracks)[1]["target_response"].tolist()[1:] == ["PR", "PD"], "as they are"
    _, sessions, patient = assess(tracks, comparisons=rows)
    assert sessions["target_response"].tolist()[1:] == sessions["response_volumetric_final"].tolist()[1:] == ["SD"] * 2
    assert sessions["nadir_sum_ld_mm"].tolist()[1:] == [60, 58]
    assert sessions["sum_ld_change_nadir_pct"].tolist()[2] == pytest.approx(100 * 2 / 58)
    assert patient["nadir_sum_ld_mm"] == 58
    assert patient["best_change_ld_pct"] == pytest.approx(-100 * 2 / 60)


# 40 mm of two targets at baseline, apart; touching now, measured again as [now, then].
@pytest.mark.parametrize(
    ("first", "second", "response"),
    [
        ((14.0, 20), (14.0, 20), "PR"), ((14.1, 20), (14.0, 20), "SD"), ((0.5, 20), (0.5, 20), "PR"),
        ((25.0, 20), (23.0, 20), "PD"), ((24.9, 20), (23.1, 20), "SD"), ((25.0, 20), (22.9, 20), "SD"),
        ((27.0, 20), (21.0, 20), "PD"),  # each by itself: 7 and 1 mm, not 8 of both
        ((24.0, 20), (24.0, 20), "SD"), ((24.5, 20), (24.5, 20), "SD"),
    ],
)  # fmt: skip
def test_the_thresholds_are_those_of_lesions_measured_again(first, second, response):
    rows = [again("L001", *first), again("L002", *second)]
    _, sessions, _ = assess({"L001": [20, 30], "L002": [20, "L001"]}, comparisons=rows)
    assert last(sessions, "target_response") == response


def test_the_smallest_is_that_of_the_largest_growth_since():
    # Three sessions before: 40 mm, 40 mm measured with 44 now, 30 mm measured with 31 now.
    assert criteria.find_nadir([42, 44, 31], [40, 40, 30]) == 1
    assert criteria.find_nadir([42, 42, 42], [40, 39, 39]) == 2  # the last of the smallest
    assert criteria.find_nadir([42, 42, 42], [40, math.nan, 41]) == 0
    assert criteria.find_nadir([0, 0, 0], [40, 30, 35]) == 1
    assert criteria.find_nadir([4, 4, 4], [40, 0, 35]) == 1
    assert criteria.find_nadir([4], [math.nan]) is None


def test_lesions_cut_from_each_other_are_compared_like_with_like_too():
    # Cut at the last session, each keeps a diameter of its own, shorter than it would be apart: 16 of 20 mm.
    tracks = {"L001": [20, {"ld_mm": 13, "flags": "coalesced"}], "L002": [20, {"ld_mm": 14, "flags": "coalesced"}]}
    assert last(assess(tracks)[1], "target_response") == "PR"
    assert "coalesced" in last(assess(tracks)[1], "flags")
    _, sessions, _ = assess(tracks, comparisons=[again("L001", 13, 16), again("L002", 14, 16)])
    assert last(sessions, "target_response") == "SD"
    assert last(sessions, "sum_ld_change_baseline_pct") == pytest.approx(100 * (27 - 32) / 32)


def test_what_is_not_evaluable_or_was_missed_is_not_measured_again():
    rows = [again(track, 20, 20, at=(t, u)) for track in ("L001", "L002") for t, u in ((1, 0), (2, 1), (2, 0))]
    _, sessions, _ = assess({"L001": [20, NE, 20], "L002": [20, 20, 20]}, comparisons=rows)
    assert sessions["target_response"].tolist()[1:] == ["NE", "SD"]
    assert last(sessions, "nadir_sum_ld_mm") == 40
    missed = {"L001": [20, 0, {"ld_mm": 20, "probable_missed_detection": True}], "L002": [20, 20, 20]}
    rows = [again("L001", 20, 5, at=(2, 1)), again("L002", 20, 5, at=(2, 1))]
    _, sessions, _ = assess(missed, comparisons=rows)
    assert last(sessions, "target_response") == "SD"


def test_a_readers_diameter_wins_over_one_measured_again():
    tracks, rows = {"L001": [20, 30], "L002": [20, "L001"]}, [again("L001", 20, 20), again("L002", 20, 20)]
    _, sessions, _ = assess(tracks, comparisons=rows, overrides=[override("ld_mm", "28")])
    assert last(sessions, "sum_ld_change_baseline_pct") == pytest.approx(-30)
    assert last(sessions, "target_response") == "PR"


def test_other_lesions_that_touch_are_compared_like_with_like():
    apart = {"ld_mm": 9, "vol_wl_mm3": 2000}
    both = {"ld_mm": 19, "vol_wl_mm3": 4000, "flags": "coalesced"}
    tracks = {"L001": [20, 0, 0], "L002": [apart, both, apart], "L003": [apart, "L002", apart]}
    # Without targets left, one that grows by 5 mm is enough; touching, they seem to be 19 mm after 18.
    for size, response in ((13.9, "NON_CR_NON_PD"), (14.1, "PD")):
        rows = [again("L002", size, 9, vol_now=2, vol_then=2), again("L003", 9, 9, vol_now=2, vol_then=2)]
        rows += [again(k, 9, 9, at=(2, u), vol_now=2, vol_then=2) for k in ("L002", "L003") for u in (0, 1)]
        _, sessions, _ = assess(tracks, comparisons=rows)
        assert sessions["nontarget_response"].tolist()[1] == response
        assert sessions["nontarget_response"].tolist()[2] == "NON_CR_NON_PD"


@pytest.mark.parametrize(("now", "response"), [(2.59, "NON_CR_NON_PD"), (2.60, "PD")])
def test_the_burden_of_lesions_that_touch_is_compared_like_with_like(now, response):
    # 1.5 mL each before, 2.59 mL each now, as where they are apart; as they are, the one mask has 3.1 mL.
    apart, both = {"ld_mm": 9, "vol_wl_mm3": 1500}, {"ld_mm": 14, "vol_wl_mm3": 3100}
    rows = [again(track, 9, 9, vol_now=now, vol_then=1.5) for track in ("L002", "L003")]
    tracks = {"L001": [20, 20], "L002": [apart, both], "L003": [apart, "L002"]}
    assert last(assess(tracks)[1], "nontarget_response") == "NON_CR_NON_PD"
    assert last(assess(tracks, comparisons=rows)[1], "nontarget_response") == response


def test_another_lesion_in_a_target_is_judged_by_its_own_size():
    tracks = {"L001": [20, {"ld_mm": 36, "vol_wl_mm3": 8000}], "L002": [9, "L001"]}
    apart = {"vol_now": 4, "vol_then": 4}
    rows = [again("L001", 20, 20, **apart), again("L002", 16, 9, vol_now=2, vol_then=0.4)]
    _, sessions, _ = assess(tracks, comparisons=rows)
    assert (last(sessions, "target_response"), last(sessions, "nontarget_response")) == ("SD", "PD")
    _, sessions, _ = assess(tracks, comparisons=[again("L001", 20, 20, **apart), again("L002", 9, 9, **apart)])
    assert (last(sessions, "target_response"), last(sessions, "nontarget_response")) == ("SD", "NON_CR_NON_PD")


def test_two_that_were_one_before_and_are_one_now_have_grown_as_one():
    rows = [again(k, 9, 9, at=(t, 0)) for k in ("L002", "L003") for t in (1, 2)]
    for size, response in ((16.9, "NON_CR_NON_PD"), (17, "PD")):
        one, grown = ({"ld_mm": ld, "vol_wl_mm3": 900} for ld in (12, size))
        tracks = {"L001": [20, 0, 0], "L002": [9, one, grown], "L003": [9, "L002", "L002"]}
        _, sessions, _ = assess(tracks, comparisons=rows)
        assert last(sessions, "nontarget_response") == response


def test_new_lesions_that_touch_have_not_grown():
    tracks = {"L001": [20] * 3, "L002": [None, 8, 17], "L003": [None, 8, "L002"]}
    immune = {"participant": {"treatment_type": "immunotherapy"}, "days": [0, 60, 95]}
    assert assess(tracks, **immune)[1]["response_imaging_final"].tolist()[1:] == ["SD", "SD"]
    for now, response in ((8, "SD"), (10.4, "SD"), (10.5, "PD")):
        rows = [again(track, now, 8, at=(2, 1)) for track in ("L002", "L003")]
        _, sessions, _ = assess(tracks, comparisons=rows, **immune)
        assert sessions["response_imaging_final"].tolist()[1:] == [response] * 2


def test_growth_by_touching_is_no_effect_of_treatment():
    # Both were irradiated; the third lesion is one that grew.
    tracks = {"L001": [20, 28], "L002": [20, "L001"]}
    rows = [again("L001", 20, 20), again("L002", 20, 20)]
    decided = [override("irradiated_day", "-70", track=track) for track in tracks]
    for given, flagged in ((None, True), (rows, False)):
        lesions, *_ = assess(tracks, comparisons=given, overrides=decided)
        assert lesions["flags"].str.contains("treatment_effect_possible", na=False).any() == flagged


def test_small_lesions_measured_again_count_as_5_mm_where_that_is_set():
    rows = [again("L001", 2, 20), again("L002", 2, 20)]
    tracks = {"L001": [20, 4], "L002": [20, "L001"]}
    assert last(assess(tracks, comparisons=rows, tsm_mode="floor5")[1], "sum_ld_change_baseline_pct") == -75
    assert last(assess(tracks, comparisons=rows)[1], "sum_ld_change_baseline_pct") == -90


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"track_id": "L009"}, "L009 at ses-1 and ses-0"),
        ({"session_id": "ses-9"}, "L001 at ses-9 and ses-0"),
        ({"session_id": "ses-0", "earlier_session_id": "ses-1"}, "L001 at ses-0 and ses-1"),
        ({"ld_now_mm": math.nan}, "nan"),
        ({"vol_then_ml": -1.0}, "-1.0"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused(change, said):
    with pytest.raises(InputError) as error:
        assess({"L001": [20, 20]}, comparisons=[again("L001", 20, 20) | change])
    assert said in error.value.found


def test_a_comparison_without_a_column_or_given_twice_is_refused():
    row = again("L001", 20, 20)
    with pytest.raises(InputError, match="vol_now_ml"):
        assess({"L001": [20, 20]}, comparisons=[{k: v for k, v in row.items() if k != "vol_now_ml"}])
    with pytest.raises(InputError, match="one row per lesion"):
        assess({"L001": [20, 20]}, comparisons=[row, row])


# --- What must not change -----------------------------------------------------------------------------------------


def patients_at_random(n):
    rng = np.random.default_rng(3)
    for _ in range(n):
        tracks = {}
        for k in range(1, rng.integers(2, 6)):
            born = int(rng.choice([0, 0, 0, 1, 2]))
            sizes = rng.choice([0, 0, 3, 4, 6, 8, 12, 15, 20, 30], 6).tolist()
            sizes[born] = float(rng.choice([4, 8, 12, 20]))
            cells = [None] * born + sizes[born:]
            for t in range(born + 1, 6):
                if cells[t] and cells[t - 1] == 0 and t - 2 >= born and cells[t - 2]:
                    cells[t] = {"ld_mm": cells[t], "probable_missed_detection": True}
                elif rng.random() < 0.1:
                    cells[t] = NE
            tracks[f"L{k:03}"] = cells
        evaluable = (rng.random(6) < 0.85).tolist()
        participant = {"treatment_type": "immunotherapy"} if rng.random() < 0.3 else {}
        columns = {"clinical_status": rng.choice(["stable", "stable", "worse", "n/a"], 6).tolist()}
        columns["dexamethasone_equiv_mg_per_day"] = rng.choice([0, 2, 4], 6).tolist()
        yield tracks, evaluable, participant, columns


def test_a_later_session_changes_no_cell_that_is_not_revisable():
    for tracks, evaluable, participant, columns in patients_at_random(8):
        days = [0, 20, 50, 80, 115, 150]
        full = assess(tracks, days, evaluable=evaluable, participant=participant, columns=columns)
        for n in range(1, 6):
            part = assess(
                {k: c[:n] for k, c in tracks.items()}, days[:n], evaluable=evaluable[:n], participant=participant,
                columns={name: values[:n] for name, values in columns.items()},
            )  # fmt: skip
            if not any(evaluable[:n]):
                continue  # no baseline yet: nothing to compare
            for kind, before, after in (("lesions", part[0], full[0]), ("sessions", part[1], full[1])):
                fixed = [c.name for c in schema.KINDS[kind] if not c.revisable]
                keys = list(schema.KEYS[kind])
                before = before.reset_index(drop=True)[fixed].set_index(keys)
                after = after.reset_index(drop=True)[fixed].set_index(keys).loc[before.index]
                pd.testing.assert_frame_equal(before, after)


def test_the_last_session_is_read_the_same_way_now_and_finally():
    for tracks, evaluable, participant, columns in patients_at_random(8):
        days = [0, 20, 50, 80, 115, 150]
        _, sessions, _ = assess(tracks, days, evaluable=evaluable, participant=participant, columns=columns)
        assert last(sessions, "response_overall_final") == last(sessions, "response_overall_prospective")
        assert last(sessions, "response_imaging_final") == last(sessions, "response_imaging_prospective")


def test_neither_the_order_of_rows_nor_other_columns_matter():
    tracks = {"L001": [20, 10, 26], "L002": [12, 0, 5], "L003": [None, 4, 6]}
    lesions = pd.DataFrame(
        [cell(f"ses-{t}", k, c) for k, cells in tracks.items() for t, c in enumerate(cells) if c is not None]
    )
    sessions = pd.DataFrame(
        [{"session_id": f"ses-{t}", "order": t, "days": 50.0 * t, "evaluable": True, "scanner": "x"} for t in range(3)]
    )
    who = {"participant_id": "sub-1"}
    straight = rano.assess_patient(lesions, sessions, who, rules=rules_with())
    shuffled = rano.assess_patient(lesions.sample(frac=1, random_state=1), sessions[::-1], who, rules=rules_with())
    for one, other in zip(straight, shuffled, strict=True):
        pd.testing.assert_frame_equal(one, other)


# Karnofsky and ECOG in place of a status: before (at baseline), now.
@pytest.mark.parametrize(
    ("kps", "ecog", "status"),
    [
        ((90, 80), (), "stable"), ((90, 70), (), "worse"), ((100, 71), (), "stable"), ((80, 61), (), "stable"),
        ((80, 60), (), "worse"), ((70, 50), (), "worse"), ((60, 50), (), "worse"), ((50, 50), (), "stable"),
        ((70, 90), (), "improved"), ((70, 80), (), "stable"), ((60, 80), (), "improved"),
        ((), (0, 1), "stable"), ((), (1, 2), "worse"), ((), (0, 2), "worse"), ((), (2, 3), "worse"),
        ((), (3, 4), "worse"), ((), (2, 1), "improved"), ((), (1, 0), "stable"),
        ((90, 90), (0, 2), "worse"), ((None, 60), (), "unknown"), ((), (), "unknown"),
    ],
)  # fmt: skip
def test_performance_scores_stand_for_the_clinical_status(kps, ecog, status):
    columns = {name: scores for name, scores in (("kps", kps), ("ecog", ecog)) if scores}
    _, sessions, _ = assess({"L001": [20, 20]}, columns=columns)
    assert last(sessions, "clinical_status") == status


def test_a_recorded_status_wins_over_scores():
    _, sessions, _ = assess({"L001": [20, 20]}, columns={"kps": [90, 40], "clinical_status": [None, "stable"]})
    assert last(sessions, "clinical_status") == "stable"


# --- Readers ------------------------------------------------------------------------------------------------------


def override(field, value, session="ses-1", track="L001"):
    return {"session_id": session, "track_id": track, "field": field, "value": value}


@pytest.mark.parametrize(
    ("decisions", "tracks", "column", "value"),
    [
        ([override("exclude", "true")], {"L001": [30, 60], "L002": [12, 12]}, "target_response", "SD"),
        ([override("exclude", "false")], {"L001": [30, 60], "L002": [12, 12]}, "target_response", "PD"),
        ([override("tsm", "true")], {"L001": [20, 2]}, "sum_ld_mm", 5),
        ([override("ld_mm", "19")], {"L001": [20, 30]}, "target_response", "SD"),
        ([override("ld_mm", "0")], {"L001": [20, 30]}, "target_response", "CR"),
        ([override("nontarget_pd", "true")], {"L001": [20, 20], "L002": [8, 8]}, "response_imaging_final", "PD"),
        ([override("nontarget_pd", "true")], {"L001": [20, 20]}, "response_imaging_final", "PD"),
        ([override("nontarget_pd", "false")], {"L001": [20, 20], "L002": [8, 18]}, "response_imaging_final", "SD"),
        ([override("new_status", "rejected", track="L002")], {"L001": [20, 20], "L002": [None, 8]},
         "response_imaging_final", "SD"),
        ([override("new_status", "definite", track="L002")], {"L001": [20, 20], "L002": [None, 3]},
         "response_imaging_final", "PD"),
        ([override("resected_day", "10")], {"L001": [20, 0]}, "target_response", "NE"),
        ([override("irradiated_day", "-10")], {"L001": [20, 60]}, "target_response", "n/a"),
        ([override("irradiated_day", "-60", track="L002")], {"L001": [20, 20], "L002": [8, 18]}, "flags",
         "treatment_effect_possible"),
        ([override("irradiated_day", "-59", track="L002")], {"L001": [20, 20], "L002": [8, 18]}, "flags", "n/a"),
    ],
)  # fmt: skip
def test_what_a_reader_decides_wins(decisions, tracks, column, value):
    _, sessions, _ = assess(tracks, overrides=decisions)
    assert last(sessions, column) == value


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([override("exclude", "perhaps")], "exclude = perhaps"),
        ([override("ld_mm", "big")], "ld_mm = big"),
        ([override("ld_mm", "-1")], "ld_mm = -1"),
        ([override("ld_mm", "nan")], "ld_mm = nan"),
        ([override("ld_mm", None)], "ld_mm = None"),
        ([override("new_status", "sure")], "new_status = sure"),
        ([override("irradiated_day", "2020-01-01")], "irradiated_day = 2020-01-01"),
        ([override("size", "3")], "field size"),
        ([override("exclude", "true", track="L009")], "lesion L009"),
        ([override("exclude", "true", track=None)], "exclude without track_id"),
        ([override("tsm", "true", session="ses-9")], "session ses-9"),
        ([override("tsm", "true", session="n/a")], "tsm without session_id"),
        ([override("ld_mm", "9"), override("ld_mm", "8")], "a second ld_mm"),
        ([override("ld_mm", "9", session="ses-0", track="L002")], "a size of L002 at ses-0"),
        ([{"track_id": "L001", "field": "exclude", "value": "true"}], "columns track_id, field, value"),
    ],
)
def test_a_readers_table_that_makes_no_sense_is_refused(rows, said):
    with pytest.raises(InputError) as error:
        assess({"L001": [20, 20], "L002": [None, 8]}, overrides=rows)
    assert said in error.value.found
    assert "overrides" in error.value.what


@pytest.mark.parametrize("column", ["bbox_z_vox", "probable_missed_detection", "ld_components_mm"])
def test_a_column_that_decides_must_be_there(column):
    sessions = pd.DataFrame([{"session_id": "ses-0", "order": 1, "days": 0.0, "evaluable": True}])
    with pytest.raises(InputError, match=f"lacking: {column}"):
        rano.assess_patient(
            pd.DataFrame([cell("ses-0", "L001", 9)]).drop(columns=column), sessions, {"participant_id": "sub-1"},
            rules=rules_with(),
        )  # fmt: skip


def test_a_row_that_is_lacking_at_an_evaluable_session_is_refused():
    sessions = pd.DataFrame(
        [{"session_id": f"ses-{t}", "order": t, "days": 9.0 * t, "evaluable": True} for t in (0, 1)]
    )
    with pytest.raises(InputError, match="L001 at ses-1"):
        rano.assess_patient(
            pd.DataFrame([cell("ses-0", "L001", 9)]), sessions, {"participant_id": "sub-1"}, rules=rules_with()
        )


def test_rows_of_a_session_that_is_not_there_are_refused():
    sessions = pd.DataFrame([{"session_id": "ses-0", "order": 1, "days": 0.0, "evaluable": True}])
    with pytest.raises(InputError, match="ses-7"):
        rano.assess_patient(
            pd.DataFrame([cell("ses-7", "L001", 9)]), sessions, {"participant_id": "sub-1"}, rules=rules_with()
        )


# --- Candidates ----------------------------------------------------------------------------------------------------


def unsure(ld_mm):
    return {"ld_mm": ld_mm, "certainty": "candidate"}


def sure(ld_mm):
    return {"ld_mm": ld_mm, "certainty": "confirmed"}


def test_a_candidate_alone_neither_causes_progression_nor_blocks_response():
    """However large, however long it is there: 12 mm at four sessions."""
    tracks = {"L001": [20, 0, 0, 0, 0], "L002": [None, unsure(12), unsure(14), unsure(20), unsure(26)]}
    lesions, sessions, patient = assess(tracks)
    assert sessions["response_overall_final"].tolist()[1:] == ["CR"] * 4
    assert (sessions["new_lesion"][1:] == "none").all()
    assert sessions["n_candidates"].tolist() == [0, 1, 1, 1, 1]
    assert sessions["n_lesions"].tolist() == [1, 0, 0, 0, 0]
    assert sessions["n_new"].tolist()[1:] == [0] * 4
    assert (sessions["total_vol_wl_ml"][1:] == 0).all()
    assert (patient["n_tracks_total"], patient["n_new_total"], patient["progressed"]) == (1, 0, False)
    mine = lesions.query("track_id == 'L002'")
    assert set(mine["role"]) == {"candidate"}
    assert mine["ld_mm"].tolist() == [12, 14, 20, 26], "it is listed and measured"
    assert mine["new_lesion_status"].isna().all()


def test_a_confirmed_candidate_is_new_from_its_first_detection():
    tracks = {"L001": [20] * 3, "L002": [None, unsure(12), sure(13)]}
    lesions, sessions, patient = assess(tracks)
    assert sessions["response_overall_prospective"].tolist()[1:] == ["SD", "PD"]
    assert sessions["response_overall_final"].tolist()[1:] == ["PD", "PD"]
    assert sessions["n_new"].tolist()[1:] == [0, 1]
    assert patient["progression_day"] == 30
    mine = lesions.query("track_id == 'L002'")
    assert mine["role"].tolist() == ["candidate", "new"]
    assert mine["new_lesion_status"].tolist() == ["confirmed", "confirmed"]
    # Confirmed, but small: uncertain as any other new lesion of that size.
    _, sessions, _ = assess({"L001": [20] * 3, "L002": [None, unsure(4), sure(4)]})
    assert sessions["response_overall_final"].tolist()[1:] == ["SD", "SD"]
    assert sessions["new_lesion"].tolist()[2] == "equivocal"


def test_a_candidate_at_baseline_is_no_target_and_never_a_new_lesion():
    tracks = {"L001": [12, 12, 12], "L002": [unsure(30), unsure(30), sure(30)]}
    lesions, sessions, patient = assess(tracks)
    assert lesions.query("track_id == 'L002'")["role"].tolist() == ["candidate", "candidate", "nontarget"]
    assert sessions["sum_ld_mm"].tolist() == [12, 12, 12]
    assert (patient["n_targets"], patient["n_lesions_baseline"]) == (1, 1)
    assert sessions["response_overall_final"].tolist()[1:] == ["SD", "SD"]


def test_a_reader_confirms_a_candidate():
    decided = [{"session_id": None, "track_id": "L002", "field": "new_status", "value": "definite"}]
    _, sessions, patient = assess({"L001": [20, 20], "L002": [None, unsure(6)]}, overrides=decided)
    assert sessions["response_overall_final"].tolist()[1:] == ["PD"]
    assert patient["n_new_total"] == 1


def test_a_lesion_once_confirmed_counts_where_it_is_seen_as_a_candidate():
    _, sessions, _ = assess({"L001": [sure(20), unsure(13), unsure(20)]})
    assert sessions["sum_ld_mm"].tolist() == [20, 13, 20]
    assert sessions["n_candidates"].tolist() == [0, 0, 0]
    assert sessions["response_imaging_prospective"].tolist()[1:] == ["PR", "PD"]
