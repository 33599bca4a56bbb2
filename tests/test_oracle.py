"""The oracle against the worked examples of the specification, and its patients against themselves."""

import dataclasses

import numpy as np
import pytest
from oracle import diameters, patients, response
from oracle.response import Case, Cell, Reading, Visit
from scipy import ndimage

# Section A


def grid(radius):
    return np.indices((2 * radius + 1,) * 3) - radius


def ball(squared, hollow=-1, radius=11):
    squares = (grid(radius) ** 2).sum(axis=0)
    return (squares <= squared) & (squares > hollow)


def ellipse():
    i, j, k = grid(11)
    return ((i / 10) ** 2 + (j / 6) ** 2 <= 1) & (k == 0)


def corner():
    mask = np.zeros((20, 20, 2), bool)
    mask[:4] = True
    mask[:, :4] = True
    return mask


def diagonal():
    mask = np.zeros((10, 10, 1), bool)
    mask[range(10), range(10)] = True
    return mask


def two_blocks(gap):
    mask = np.ones((16 + gap, 6, 1), bool)
    mask[8 : 8 + gap] = False
    return mask


VOXEL, BOX = np.ones((1, 1, 1), bool), np.ones((10, 5, 2), bool)


@pytest.mark.parametrize(
    ("mask", "spacing", "volume", "ld", "perp", "n_slices"),
    [
        pytest.param(VOXEL, (1, 1, 1), 1, 1.0, 1.0, 1, id="A1"),
        pytest.param(VOXEL, (0.5, 0.5, 3), 0.75, 0.5, 0.5, 1, id="A2"),
        pytest.param(BOX, (1, 1, 1), 100, 10.770, 5.385, 2, id="A3"),
        pytest.param(BOX, (0.9, 0.9, 3), 243, 9.693, 4.847, 2, id="A4"),
        pytest.param(BOX, (0.5, 1, 1), 50, 6.727, 6.727, 2, id="A5"),
        pytest.param(ball(25), (1, 1, 1), 515, 11.0, 11.0, 11, id="A6"),
        pytest.param(ball(2.25), (1, 1, 1), 19, 3.606, 3.606, 3, id="A7"),
        pytest.param(ellipse(), (1, 1, 1), 185, 21.0, 13.0, 1, id="A8"),
        pytest.param(corner(), (1, 1, 1), 288, 20.396, None, 2, id="A9"),
        pytest.param(ball(100, 36), (1, 1, 1), 3244, 21.0, 21.0, 21, id="A10"),
        pytest.param(diagonal(), (1, 1, 1), 10, 13.454, 1.35, 1, id="A11"),
        pytest.param(two_blocks(1), (1, 1, 1), 96, 17.720, None, 1, id="A12 gap 1"),
        pytest.param(two_blocks(2), (1, 1, 1), 96, 9.434, None, 1, id="A12 gap 2"),
    ],
)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_diameters(mask, spacing, volume, ld, perp, n_slices, order):
    # The same head stored with its axes in another order, the first of them running backwards.
    affine = np.eye(4)
    affine[:3, :3] = np.diag(spacing)[:, order]
    affine[:3, 0] *= -1
    stored = np.flip(np.transpose(mask, order), 0)
    found = diameters.measure(np.pad(stored, 1), affine)
    assert found.ld == pytest.approx(ld, abs=6e-4)
    assert perp is None or found.perp == pytest.approx(perp, abs=0.1)
    assert found.n_slices == n_slices
    assert stored.sum() * abs(np.linalg.det(affine[:3, :3])) == pytest.approx(volume)


def test_the_distance_across_a_concavity_is_not_the_diameter():
    found = diameters.measure(corner(), np.eye(4))
    assert found.feret == pytest.approx(27.586, abs=6e-4)
    # Two diagonals of one arm are equally long, so the perpendicular holds for this way of storing it alone.
    assert found.perp == pytest.approx(19.8, abs=0.3)


def test_several_equal_slices_give_the_larger_one():
    mask = np.zeros((12, 9, 3), bool)
    mask[1:11, 2:7] = True
    mask[4, 2, 0] = mask[4, 2, 2] = False
    assert diameters.measure(mask, np.eye(4)).slice_index == 1


# Section D


def cube(ld):
    return np.pi * ld**3 / 6


def seen(ld, perp=None, n_slices=3, volume=None, box=None, fragments=()):
    """A lesion that is there: a ball unless more is said."""
    size = max(1, round(ld))
    volume = cube(ld) if volume is None else volume
    return Cell(
        "present", ld, ld if perp is None else perp, n_slices, box or (size,) * 3, volume, volume, 99, fragments
    )


def pieces(*lds):
    parts = tuple((ld, cube(ld)) for ld in lds)
    return seen(max(lds), volume=sum(volume for _, volume in parts), fragments=parts)


GONE, UNKNOWN = Cell("absent"), Cell("not_evaluable")


def merged(into):
    return Cell("merged", merged_into=into)


def patient(*columns, days=None, visits=None, **more):
    """A case from one list of diameters or cells per lesion; None before birth, treatment starts at day 0."""
    days = days or [56 * n for n in range(len(columns[0]))]
    visits = visits or [Visit(day, session_id=f"ses-{n}") for n, day in enumerate(days)]
    lesions = {
        n: [seen(cell) if isinstance(cell, float | int) else cell for cell in column]
        for n, column in enumerate(columns, start=1)
    }
    return Case(visits, lesions, **({"treatment_start": 0.0} | more))


def rows(case, reading=None):
    return response.assess(case, reading).rows


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (seen(10.0, 5.0, 2), True),
        (seen(9.99, 8, 3), False),
        (seen(12, 4.9, 3), False),
        (seen(12, 6, 1), False),
        (Cell("present", 12, 8, 3, (9, 9, 9), 500, 0, 0), False),
    ],
)
def test_d1a_measurable(cell, expected):
    assert response.measurable(cell, 1.0) is expected


def test_d1a_thick_slices_need_twice_their_spacing():
    assert not response.measurable(seen(11), 6.0)
    assert response.measurable(seen(12), 6.0)


def test_d1b_five_largest():
    sizes = [(30, 30), (22, 22), (15, 9), (15, 11), (12, 12), (11, 11), (10, 10)]
    cells = {n: seen(ld, perp) for n, (ld, perp) in enumerate(sizes)}
    assert response.choose_targets(cells, 1.0) == [0, 1, 3, 2, 4]


@pytest.mark.parametrize(
    ("days", "evaluable", "start", "expected"),
    [
        ([0, 40, 80], "yyy", 5, (0, "in_window")),
        ([0, 40, 80], "yyy", 45, (1, "in_window")),
        ([0, 40, 80], "yny", 28, (0, "in_window")),
        ([0, 40, 80], "yny", 45, (0, "out_of_window")),
        ([0, 40, 80], "yyy", 29, (0, "out_of_window")),
        ([0, 40, 80], "yyy", 0, (0, "in_window")),
        ([0, 40, 80], "yyy", -1, (0, "post_treatment")),
        ([0, 40, 80], "nyy", 5, (1, "post_treatment")),
        ([0, 40, 80], "nyy", None, (1, "assumed")),
    ],
)
def test_d1_baseline(days, evaluable, start, expected):
    visits = [Visit(day, letter == "y") for day, letter in zip(days, evaluable, strict=True)]
    assert response.find_baseline(visits, start) == expected


@pytest.mark.parametrize(
    ("columns", "total", "expected"),
    [
        pytest.param([[30, 21.0], [20, 14.0]], 35, "PR", id="D3a"),
        pytest.param([[30, 21.1], [20, 14.0]], 35.1, "SD", id="D3a just above"),
        pytest.param([[17, 10, 12], [17, 10, 12], [16, 10, 12]], 36, "SD", id="D3b"),
        pytest.param([[17, 10, 10], [17, 10, 10], [16, 10, 16]], 36, "PD", id="D3c"),
        pytest.param([[20, 10, 14.9]], 14.9, "SD", id="D3d below"),
        pytest.param([[20, 10, 15.0]], 15, "PD", id="D3d"),
        pytest.param([[30, 26, 31.0]], 31, "SD", id="D3e below"),
        pytest.param([[30, 26, 31.2]], 31.2, "PD", id="D3e"),
        pytest.param([[60, 24, 36], [40, 16, 16]], 52, "PD", id="D3f"),
        pytest.param([[20, GONE, 4]], 4, "PR", id="I4 unconfirmed"),
        pytest.param([[20, GONE, 6]], 6, "PD", id="I4 unconfirmed, 5 mm and more"),
        pytest.param([[20, GONE, GONE, 4]], 4, "PD", id="I4"),
        pytest.param([[20, GONE, GONE, 4, 4]], 4, "PD", id="I4 stays"),
        pytest.param([[20, 26], [15, UNKNOWN]], None, "NE", id="D3h"),
        pytest.param([[20, 48], [15, UNKNOWN]], None, "PD", id="D3h partial sum"),
        pytest.param([[20, GONE], [15, UNKNOWN]], None, "NE", id="D3h absent"),
        pytest.param([[65, 21, 22], [50, 21, 22], [50, 21, 21]], 65, "PR", id="D3i"),
        pytest.param([[12, 24], [11, merged(1)]], 24, "SD", id="D3j"),
        pytest.param([[12, 27.7], [11, merged(1)]], 27.7, "SD", id="D3j 4.7"),
        pytest.param([[12, 28.0], [11, merged(1)]], 28, "PD", id="D3j 5.0"),
        pytest.param([[14, pieces(6.5, 6.0)]], 12.5, "SD", id="D3k"),
        pytest.param([[20, 20], [12, GONE]], 20, "PR", id="D3l t2"),
        pytest.param([[20, 20, 20], [12, GONE, 12]], 32, "SD", id="D3l t3"),
        pytest.param([[20, 20, 20, 20], [12, GONE, GONE, 12]], 32, "PD", id="D3m"),
        pytest.param([[20, GONE], [12, GONE]], 0, "CR", id="all gone"),
        pytest.param([[20, 13], [12, merged(1)]], 13, "PR", id="merged is not gone"),
    ],
)
def test_d3_target_response(columns, total, expected):
    row = rows(patient(*columns))[-1]
    assert row["target_response"] == expected
    assert row["sum_ld_mm"] == (None if total is None else pytest.approx(total))


def test_d3l_a_missed_detection_is_seen_through_once_the_lesion_is_back():
    table = rows(patient([20, 20, 20], [12, GONE, 12]))
    assert table[1]["response_imaging_prospective"] == "PR"
    assert table[1]["response_imaging_final"] == "NE"
    assert table[2]["nadir_sum_ld_mm"] == pytest.approx(32)


def test_back_at_less_than_half_is_no_miss():
    table = rows(patient([20, 20, 20], [12, GONE, 5.9]))
    assert table[1]["response_imaging_final"] == "PR"
    assert table[2]["nadir_sum_ld_mm"] == pytest.approx(20)


def test_d2_a_target_keeps_the_size_of_a_mass_it_shares_with_a_nontarget():
    # The non-target (lesion 2) owns the fused mass, the target is absorbed, and still the mass is the target's.
    row = rows(patient([14, merged(2)], [8, 21]))[1]
    assert row["sum_ld_mm"] == pytest.approx(21)
    assert (row["target_response"], row["nontarget_response"]) == ("SD", "NON_CR_NON_PD")
    row = rows(patient([14, merged(2)], [8, 21]), Reading(members="targets"))[1]
    assert row["target_response"] == "PD"


def test_a_group_that_parts_after_the_nadir_is_one_group():
    columns = [12, 19, 12.5], [11, merged(1), 11]
    assert rows(patient(*columns))[2]["target_response"] == "SD"
    assert rows(patient(*columns), Reading(parted_as_one=False))[2]["target_response"] == "PD"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([[20, 20], [7, 8]], "NON_CR_NON_PD"),
        ([[20, 20], [7, GONE]], "CR"),
        ([[20, 20]], "NA"),
        ([[20, 20], [7, UNKNOWN]], "NE"),
        ([[20, 20], [7, UNKNOWN], [6, 6]], "NON_CR_NON_PD"),
        ([[20, GONE], [7, 12]], "PD"),
        ([[20, GONE], [7, 11.9]], "NON_CR_NON_PD"),
        ([[20, GONE], [4, 9.9]], "NON_CR_NON_PD"),
        ([[20, 20], [7, 12]], "NON_CR_NON_PD"),
        ([[20, 10], [5, 10]], "NON_CR_NON_PD"),
        ([[20, 10], [9, 14.5]], "PD"),
        ([[7, 12]], "PD"),
        ([[20, 20, 20, 20], [7, GONE, GONE, 10]], "NON_CR_NON_PD"),
        ([[20, GONE, GONE, GONE], [7, GONE, GONE, 3]], "PD"),
        ([[20, GONE, GONE, GONE], [7, 7, GONE, 3]], "NON_CR_NON_PD"),
        ([[20, 20, 20], [7, GONE, 10]], "NON_CR_NON_PD"),
        ([[20, 20], *[[9.5, 12.0]] * 4], "PD"),
        ([[20, 20], *[[9.5, 11.3]] * 4], "NON_CR_NON_PD"),
    ],
)
def test_d4_nontarget_response(columns, expected):
    assert rows(patient(*columns))[-1]["nontarget_response"] == expected


def test_i4_of_a_whole_patient():
    # With another lesion still there it was no complete response; the first sign of a CR is doubted in hindsight.
    assert rows(patient([20, GONE, GONE, 4], [8, 8, 8, 8]))[3]["target_response"] == "PR"
    table = rows(patient([20, GONE, 4]))
    assert [row["response_imaging_prospective"] for row in table[1:]] == ["CR", "PR"]
    assert [row["response_imaging_final"] for row in table[1:]] == ["PR", "PR"]
    assert [row["response_imaging_final"] for row in rows(patient([20, GONE, 6]))[1:]] == ["CR", "PD"]


def test_i11_a_nontarget_that_grows_alone_is_for_a_reader_to_look_at():
    assert rows(patient([20, 10], [5, 10]))[1]["nontarget_review"]
    assert not rows(patient([20, 10], [5, 9.9]))[1]["nontarget_review"]
    assert not rows(patient([20, 10], [9, 14.5]))[1]["nontarget_review"]


def like_with_like(now, then, lesion, ld_now, ld_then):
    return {(now, then, lesion): response.Pair(ld_now, ld_then, cube(ld_now), cube(ld_then))}


def test_i2_two_sessions_are_compared_alike():
    # Fused at baseline, apart now: the pieces are compared with the pieces.
    case = patient([30, 16], [None, 15], comparisons=like_with_like(1, 0, 1, 16, 16.5))
    row = rows(case)[1]
    assert (row["sum_ld_mm"], row["reference_sum_ld_mm"], row["target_response"]) == (16, 16.5, "SD")
    assert row["sum_ld_change_baseline_pct"] == pytest.approx(-100 * 0.5 / 16.5)
    assert rows(patient([30, 16]))[1]["target_response"] == "PR"


def test_i2_the_nadir_is_where_this_session_stands_highest():
    # Apart at baseline (20), fused at the second session (26 in all), apart now: 20 to 20 and 21 to 20.5.
    case = patient([20, 26, 21], comparisons=like_with_like(2, 1, 1, 21, 20.5))
    row = rows(case)[2]
    assert row["nadir_sum_ld_mm"] == 20
    case = patient([20, 26, 27], comparisons=like_with_like(2, 0, 1, 21, 20) | like_with_like(2, 1, 1, 27, 19))
    row = rows(case)[2]
    assert (row["nadir_sum_ld_mm"], row["target_response"]) == (19, "PD")


def test_i2_what_is_not_known_is_not_compared():
    case = patient([20, 20], [15, UNKNOWN], comparisons=like_with_like(1, 0, 2, 15, 15))
    assert rows(case)[1]["target_response"] == "NE"


@pytest.mark.parametrize(("day", "targets"), [(-1.0, [2]), (0.0, [1, 2]), (1.0, [1, 2])])
def test_i3_treated_on_the_day_of_the_scan_is_not_treated_before(day, targets):
    outcome = response.assess(patient([20, 20], [15, 15], irradiated={1: day}))
    assert outcome.summary["targets"] == targets


def test_i5_a_cyst_is_no_target():
    def shell(share):
        return dataclasses.replace(seen(20), et_volume=share * cube(20))

    assert not response.measurable(shell(0.099), 1.0)
    assert response.measurable(shell(0.1), 1.0)


def test_i7_velocity_is_taken_at_each_distant_failure():
    four = [[None, 8, 8]] * 4
    summary = response.assess(patient([20, 20, 20], *four, days=[0, 90, 400])).summary
    assert summary["brain_metastasis_velocity_first_per_year"] == pytest.approx(16.2, abs=0.05)
    assert summary["brain_metastasis_velocity_latest_per_year"] == pytest.approx(16.2, abs=0.05)
    later = [*four, [None, None, 8], [None, None, 4]]
    summary = response.assess(patient([20, 20, 20], *later, days=[0, 90, 365.25])).summary
    assert summary["brain_metastasis_velocity_first_per_year"] == pytest.approx(16.2, abs=0.05)
    assert summary["brain_metastasis_velocity_latest_per_year"] == pytest.approx(5)


def test_i8_no_disease():
    visits = [Visit(0), Visit(56), Visit(112, evaluable=False), Visit(168)]
    case = patient([None, None, None, 8], visits=visits)
    assert [row["response_overall_final"] for row in rows(case)] == [None, "ND", "NE", "PD"]
    assert response.assess(patient([None] * 3, days=[0, 56, 112])).summary["best_response"] == "ND"


def test_i12_a_confirmed_partial_response_goes_on():
    days = [0, 30, 60, 90, 120, 150]
    table = rows(patient([30, 20, 20, 22, 33, 33], days=days))
    assert [row["response_imaging_prospective"] for row in table[1:]] == ["PR", "PR", "SD", "PD", "PD"]
    assert [row["response_imaging_continued"] for row in table[1:]] == ["PR", "PR", "PR", "PD", "PD"]
    table = rows(patient([30, 20, 22, 22], days=[0, 30, 60, 90]))
    assert [row["response_overall_continued"] for row in table[1:]] == ["PR", "SD", "SD"]


@pytest.mark.parametrize(
    ("target", "nontarget", "new", "expected"),
    [
        *(("PD", nt, new, "PD") for nt in ("CR", "NE", "NA") for new in ("none", "equivocal", "definite")),
        *((t, "PD", new, "PD") for t in ("CR", "SD", "NA", "NE") for new in ("none", "equivocal", "definite")),
        *((t, nt, "definite", "PD") for t in ("CR", "PR", "NE", "NA") for nt in ("CR", "NON_CR_NON_PD", "NA")),
        *((t, nt, "none", "CR") for t, nt in (("CR", "CR"), ("CR", "NA"), ("NA", "CR"))),
        ("CR", "CR", "equivocal", "PR"),
        ("CR", "NA", "equivocal", "PR"),
        ("NA", "CR", "equivocal", "NON_CR_NON_PD"),
        *(("CR", nt, new, "PR") for nt in ("NON_CR_NON_PD", "NE") for new in ("none", "equivocal")),
        *(("PR", nt, new, "PR") for nt in ("CR", "NON_CR_NON_PD", "NE", "NA") for new in ("none", "equivocal")),
        *(("SD", nt, new, "SD") for nt in ("CR", "NON_CR_NON_PD", "NE", "NA") for new in ("none", "equivocal")),
        *(("NA", "NON_CR_NON_PD", new, "NON_CR_NON_PD") for new in ("none", "equivocal")),
        *(("NE", nt, new, "NE") for nt in ("CR", "NON_CR_NON_PD", "NE", "NA") for new in ("none", "equivocal")),
        *(("NA", nt, new, "NE") for nt in ("NE", "NA") for new in ("none", "equivocal")),
    ],
)
def test_d5_imaging(target, nontarget, new, expected):
    assert response.imaging_table(target, nontarget, new) == expected


def test_d5_new_lesions_under_immunotherapy():
    assert response.imaging_table("SD", "CR", "definite", immunotherapy=True) == "uPD"
    assert response.imaging_table("PD", "CR", "definite", immunotherapy=True) == "PD"
    assert response.imaging_table("SD", "PD", "definite", immunotherapy=True) == "PD"


@pytest.mark.parametrize(
    ("imaging", "steroids", "worse", "expected"),
    [
        ("PD", "none", False, "PD"),
        *((imaging, "increased", True, "PD") for imaging in ("CR", "PR", "SD", "uPD", "NE", "NON_CR_NON_PD")),
        ("CR", "none", False, "CR"),
        ("CR", "unknown", False, "CR"),
        ("CR", "stable", False, "PR"),
        ("CR", "decreased", False, "PR"),
        *((imaging, dose, False, imaging) for imaging in ("PR", "SD") for dose in ("none", "stable", "decreased")),
        *((imaging, "increased", False, "hold") for imaging in ("CR", "PR", "SD")),
        *((imaging, dose, False, imaging) for imaging in ("uPD", "NE") for dose in ("none", "increased")),
    ],
)
def test_d5_overall(imaging, steroids, worse, expected):
    assert response.overall_table(imaging, steroids, worse) == expected


@pytest.mark.parametrize(
    ("doses", "expected"),
    [
        ((4, 4.4), "stable"),
        ((4, 4.5), "increased"),
        ((4, 2), "decreased"),
        ((4, 0.75), "none"),
        ((0, 0.7), "none"),
        ((0, 1), "increased"),
        ((4, None), "unknown"),
    ],
)
def test_d5_steroid_status(doses, expected):
    visits = [Visit(56 * n, dose=dose) for n, dose in enumerate(doses)]
    assert rows(patient([20, 20], visits=visits))[1]["steroid_status"] == expected


@pytest.mark.parametrize(
    ("dose", "clinical", "expected"),
    [(4, None, "SD"), (8, None, "NE"), (None, None, "NE"), (8, "worse", "PD"), (4, "stable", "SD")],
)
def test_d5_an_increase_of_steroids_waits_for_the_next_session(dose, clinical, expected):
    visits = [Visit(0, dose=4), Visit(56, dose=8), Visit(112, dose=dose, clinical=clinical, tumour_related=True)]
    row = rows(patient([20, 20, 20], visits=visits))[1]
    assert (row["response_overall_prospective"], row["response_overall_final"]) == ("NE", expected)


@pytest.mark.parametrize(
    ("sequence", "expected"),
    [
        ("56 PR, 77 PR", "SD"),
        ("56 PR, 77 PR, 84 PR", "PR"),
        ("56 PR, 112 SD", "SD"),
        ("56 PR, 84 NE, 112 PR", "PR"),
        ("56 CR, 84 PR", "PR"),
        ("56 CR, 84 CR", "CR"),
        ("56 PR, 70 SD, 98 PR", "SD"),
        ("56 PR, 84 CR, 112 CR", "CR"),
        ("30 SD, 60 PD", "PD"),
        ("50 SD, 90 PD", "SD"),
        ("56 PR, 84 PD", "SD"),
        ("28 NE", "NE"),
        ("56 SD, 84 PD, 112 CR, 168 CR", "SD"),
    ],
)
def test_d6_best_response(sequence, expected):
    pairs = [item.split() for item in sequence.split(", ")]
    assert response.best_response([(float(day), name) for day, name in pairs])[0] == expected


def test_n1_an_equivocal_lesion_that_grows_is_dated_back():
    outcome = response.assess(patient([20, 20, 20], [None, 4, 6], days=[0, 60, 95]))
    assert outcome.summary["progression_day"] == 60
    assert outcome.rows[1]["new_lesion"] == "equivocal"
    assert outcome.rows[1]["response_overall_prospective"] == "SD"
    assert outcome.rows[1]["response_overall_final"] == "PD"


def test_the_session_that_makes_a_lesion_certain_is_progression_itself():
    case = patient([20, 20, 20], [None, 4, 6], days=[0, 60, 95])
    assert rows(case)[2]["response_overall_prospective"] == "PD"


def test_n2_an_equivocal_lesion_that_goes_away_is_rejected():
    outcome = response.assess(patient([20, 20, 20], [None, 4, GONE], days=[0, 60, 95]))
    assert not outcome.summary["progressed"]
    assert outcome.summary["time_to_progression_days"] == 95


@pytest.mark.parametrize(
    ("ld", "box", "n_slices", "before", "expected"),
    [
        (5.0, (5, 5, 5), 3, 1.0, "definite"),
        (4.9, (5, 5, 5), 3, 1.0, "equivocal"),
        (8.0, (8, 8, 1), 1, 1.0, "equivocal"),
        (8.0, (1, 8, 8), 3, 1.0, "equivocal"),
        (8.0, (8, 8, 8), 3, 4.5, "equivocal"),
        (9.0, (8, 8, 8), 3, 4.5, "definite"),
        (6.0, (6, 6, 6), 3, 1.9, "definite"),
    ],
)
def test_d4_definite_or_equivocal(ld, box, n_slices, before, expected):
    visits = [Visit(0, slice_spacing=before), Visit(56)]
    case = patient([20, 20], [None, seen(ld, box=box, n_slices=n_slices)], visits=visits)
    assert rows(case)[1]["new_lesion"] == expected


def test_an_equivocal_lesion_seen_at_two_further_sessions_is_confirmed():
    case = patient([20] * 4, [None, 4, 4, 4])
    assert [row["response_overall_final"] for row in rows(case)] == [None, "PD", "PD", "PD"]
    # One further session decides nothing, and so the lesion stays equivocal.
    assert [row["response_overall_final"] for row in rows(patient([20] * 3, [None, 4, 4]))] == [None, "SD", "SD"]


@pytest.mark.parametrize(("again", "final"), [(13, "PD"), (9, "SD")])
def test_n3_a_new_lesion_under_immunotherapy_waits(again, final):
    case = patient(
        [20, 20, 20], [None, 8, again],
        days=[0, 60, 95], treatment_type="immunotherapy", immunotherapy_start=0.0,
    )  # fmt: skip
    outcome = response.assess(case)
    assert outcome.rows[1]["response_overall_prospective"] == "uPD"
    assert outcome.rows[1]["response_overall_final"] == final
    assert outcome.summary["progression_day"] == (60 if final == "PD" else None)


def test_n4_a_new_lesion_outweighs_a_partial_response():
    row = rows(patient([20, 10], [None, 8]))[1]
    assert (row["target_response"], row["response_overall_final"], row["pd_reason"]) == ("PR", "PD", "new")


def test_a_lesion_from_before_baseline_that_comes_back_counts_as_new():
    case = patient([20, 20, 20, 20], [9, GONE, GONE, 8], days=[0, 50, 100, 150], treatment_start=55.0)
    outcome = response.assess(case)
    assert outcome.roles == {1: "target", 2: "recurrent"}
    assert [row["session_role"] for row in outcome.rows] == ["prebaseline", "baseline", "followup", "followup"]
    assert outcome.rows[3]["response_overall_final"] == "PD"
    assert outcome.summary["progression_day"] == 95
    assert outcome.summary["n_new_total"] == 1


@pytest.mark.parametrize(
    ("volumes", "expected"),
    [
        ((10, 10, 3.5), "PR"),
        ((10, 10, 3.6), "SD"),
        ((10, 3.5, 4.9), "SD"),
        ((10, 3.5, 6.048), "PD"),
        ((10, 10, 17.28), "PD"),
        ((0.05, 0.02, 0.06), "SD"),
    ],
)
def test_d7_volumes(volumes, expected):
    # Diameters are left as they are: only the volumes change.
    case = patient([seen(20, volume=1000 * ml) for ml in volumes])
    assert rows(case)[2]["response_volumetric_prospective"] == expected


# The patients

SEEDS = range(12)


@pytest.fixture(scope="module")
def drawn():
    return {seed: patients.draw_patient(seed) for seed in SEEDS}


def test_the_same_seed_draws_the_same_patient(drawn):
    again = patients.draw_patient(3)
    assert again.lesions == drawn[3].lesions
    assert (again.responses, again.summary) == (drawn[3].responses, drawn[3].summary)
    for one, other in zip(again.sessions, drawn[3].sessions, strict=True):
        assert np.array_equal(one.tissue, other.tissue)
        assert np.array_equal(one.truth, other.truth)
        assert np.array_equal(one.affine, other.affine)


@pytest.mark.parametrize("seed", SEEDS)
def test_masks_show_what_the_script_says(drawn, seed):
    drawn_patient = drawn[seed]
    for session in drawn_patient.sessions:
        truth, tissue = session.truth, session.tissue
        assert np.array_equal(truth > 0, np.isin(tissue, (1, 3)))
        if not session.evaluable:
            continue
        here = [row for row in drawn_patient.lesions if row["session_id"] == session.session_id]
        present = {row["lesion"]: row for row in here if row["status"] == "present"}
        assert set(np.unique(truth)) - {0} == set(present)
        # Every component belongs to one lesion, or to two that are one mass; a lesion has as many as the script says.
        labelled, n_components = ndimage.label(truth > 0, np.ones((3, 3, 3)))
        pairs = sum(row["fused_with"] is not None for row in present.values()) // 2
        assert n_components == sum(row["n_components"] for row in present.values()) - pairs
        for lesion, row in present.items():
            assert len(np.unique(labelled[truth == lesion])) == row["n_components"]
            assert row["vol_wl_mm3"] > 10


@pytest.mark.parametrize("seed", SEEDS)
def test_lesions_keep_their_distance(drawn, seed):
    paired = {(row["lesion"], row["fused_with"]) for row in drawn[seed].lesions if row["fused_with"]}
    for session in drawn[seed].sessions:
        spacing = diameters.spacing_of(session.affine)
        for lesion in set(np.unique(session.truth)) - {0}:
            near = [0, lesion, *(other for one, other in paired if one == lesion)]
            others = ~np.isin(session.truth, near)
            if others.any():
                gap = ndimage.distance_transform_edt(~others, sampling=spacing)[session.truth == lesion].min()
                assert gap >= 6


def test_rows_follow_a_lesion_from_its_birth_on(drawn):
    for one in drawn.values():
        order = {session.session_id: n for n, session in enumerate(one.sessions)}
        for lesion in {row["lesion"] for row in one.lesions}:
            own = [row for row in one.lesions if row["lesion"] == lesion]
            assert [order[row["session_id"]] for row in own] == list(range(order[own[0]["session_id"]], len(order)))
            assert own[0]["event"] in ("baseline", "new")
            assert not {"baseline", "new"} & {row["event"] for row in own[1:]}


def test_the_first_session_is_the_reference(drawn):
    for one in drawn.values():
        assert np.array_equal(one.sessions[0].to_session, np.eye(4))
        for session in one.sessions:
            turn = session.to_session[:3, :3]
            assert np.allclose(turn @ turn.T, np.eye(3))
            assert np.linalg.det(turn) == pytest.approx(1)


def test_prospective_cells_need_no_later_session(drawn):
    kept = ("target_response", "nontarget_response", "new_lesion", "sum_ld_mm", "nadir_sum_ld_mm",
            "response_imaging_prospective", "response_overall_prospective",
            "response_volumetric_prospective")  # fmt: skip
    for one in drawn.values():
        for n, row in enumerate(one.responses):
            if row["session_role"] != "followup":
                continue
            so_far = {lesion: cells[: n + 1] for lesion, cells in one.case.lesions.items()}
            early = dataclasses.replace(one.case, visits=one.case.visits[: n + 1], lesions=so_far)
            assert {name: rows(early)[n][name] for name in kept} == {name: row[name] for name in kept}
