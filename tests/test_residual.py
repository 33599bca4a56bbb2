"""The shift that registration has left: found from the lesions, and from nothing that merely looks like it."""

import numpy as np
import pytest
from agreement import follow
from conftest import settings_of
from mettrail.tracking.residual import estimate_residual
from oracle import fields
from scipy.spatial.transform import Rotation

LIMITS = {name: settings_of("match")[f"residual_{name}"] for name in ("max_mm", "vol_ratio_max", "spread_mm")}


def field(n, seed=0, side_mm=70):
    rng = np.random.default_rng(seed)
    return rng.uniform(-side_mm / 2, side_mm / 2, (n, 3)), rng.uniform(20, 900, n)


def moved(points, turn_deg=(0, 0, 0), shift=(0, 0, 0)):
    return Rotation.from_euler("xyz", turn_deg, degrees=True).apply(points) + shift


def test_a_shift_of_three_lesions_is_found():
    points, volumes = field(3)
    found = estimate_residual(points, volumes, moved(points, shift=(3, -2, 1)), volumes, **LIMITS)
    assert found.shift_mm == pytest.approx(np.sqrt(14))
    np.testing.assert_allclose(found.matrix[:3, 3], (3, -2, 1))
    np.testing.assert_allclose(found.matrix[:3, :3], np.eye(3))


@pytest.mark.parametrize(
    ("name", "strict", "loose"), [("max_mm", 3.7, 3.8), ("vol_ratio_max", 2.9, 3.1), ("spread_mm", 0.2, 1.5)]
)
def test_what_may_be_a_shift_is_a_setting(name, strict, loose):
    """Ten lesions moved by 3.74 mm, give or take 0.4; their volumes are three times what they were."""
    points, volumes = field(10, seed=6)
    now = moved(points, shift=(3, -2, 1)) + np.random.default_rng(3).choice([-0.4, 0.4], points.shape)
    limits = LIMITS | {"vol_ratio_max": 3.1}
    if name == "max_mm":
        now = moved(points, shift=(3, -2, 1))
    found = [
        estimate_residual(points, volumes, now, 3 * volumes, **limits | {name: value}) for value in (strict, loose)
    ]
    assert found[0] is None
    assert found[1].shift_mm == pytest.approx(np.sqrt(14), abs=0.4)


def test_two_lesions_say_nothing():
    points, volumes = field(2)
    assert estimate_residual(points, volumes, moved(points, shift=(3, 0, 0)), volumes, **LIMITS) is None


def test_a_turn_is_found_from_six_lesions_on():
    points, volumes = field(12)
    now = moved(points, turn_deg=(2, -1, 1.5), shift=(1, 2, 0))
    found = estimate_residual(points, volumes, now, volumes, **LIMITS)
    np.testing.assert_allclose(moved(points) @ found.matrix[:3, :3].T + found.matrix[:3, 3], now, atol=0.05)


def test_neighbours_do_not_pass_for_each_other():
    """A row 4 mm apart, moved by 4 mm: each lies where the next one was, and sizes say who is who."""
    points = np.arange(8)[:, None] * [4.0, 0, 0] + np.random.default_rng(1).normal(0, 0.2, (8, 3))
    volumes = np.array([20, 120, 30, 500, 25, 200, 15, 60.0])
    found = estimate_residual(points, volumes, points + np.array([4, 0, 0]), volumes, **LIMITS)
    assert found.shift_mm == pytest.approx(4, abs=0.3)
    still = estimate_residual(points, volumes, points, volumes, **LIMITS)
    assert still.shift_mm == pytest.approx(0, abs=0.3)


def test_lesions_that_grow_shrink_come_and_go_do_not_matter():
    points, volumes = field(14, seed=3)
    now, sizes = moved(points, shift=(0, 3, 0)), volumes.copy()
    sizes[:5] *= [4, 0.2, 5, 0.1, 6]
    now[:5] += np.random.default_rng(2).normal(0, 2, (5, 3))
    strangers, theirs = field(4, seed=9)
    found = estimate_residual(points, volumes, np.r_[now[:-2], strangers], np.r_[sizes[:-2], theirs], **LIMITS)
    np.testing.assert_allclose(found.matrix[:3, 3], (0, 3, 0), atol=0.2)


def test_lesions_that_all_move_their_own_way_share_no_shift():
    points, volumes = field(6, seed=4)
    ways = np.array([[5, 0, 0], [-5, 0, 0], [0, 5, 0], [0, -5, 0], [0, 0, 5], [0, 0, -5.0]])
    assert estimate_residual(points, volumes, points + ways, volumes, **LIMITS) is None


def test_the_sessions_table_says_what_was_undone():
    sessions = follow(fields.draw_field(0, fields.TRIALS["gap 3, shift 3"])).sessions
    assert np.isnan(sessions.loc[0, "residual_shift_mm"])
    assert sessions["residual_shift_mm"][1:].tolist() == pytest.approx([3] * (len(sessions) - 1), abs=0.5)
    assert all("residual_shift" in str(flags) for flags in sessions["flags"][1:])
