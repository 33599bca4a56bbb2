"""Like with like: what touches at one visit and not at the other is measured alike at both."""

import numpy as np
import pandas as pd
import plums
import pytest
from conftest import settings_of
from mettrail.images import Image
from mettrail.tracking.comparison import Visit, compare_visits

AFFINE = np.diag([1.0, 1, 1, 1])
AFFINE[:3, 3] = (-30, -20, -20)
SHAPE = (60, 40, 42)
STILL = np.eye(4)


def ball(x, z, diameter, y=20):
    places = np.moveaxis(np.indices(SHAPE), 0, -1)
    return np.linalg.norm(places - np.array([x, y, z], float), axis=-1) < diameter / 2


def visit(name, masks, *, fragments=None, merged=None, diameters=None, world=STILL):
    """Masks by number of the track; `merged` takes a track to the one that carries it."""
    labels, rows = np.zeros(SHAPE, np.uint16), []
    for track, mask in masks.items():
        labels[mask] = track
        n = (fragments or {}).get(track, 1)
        ld = {"ld_mm": np.nan, "ld_feret_mm": np.nan, "vol_wl_ml": mask.sum() / 1000, "flags": None}
        ld |= (diameters or {}).get(track, {})
        rows.append({"index": track, "status": "present", "n_components": n, "merged_into": None} | ld)
    for track, owner in (merged or {}).items():
        rows.append({"index": track, "status": "merged", "n_components": pd.NA, "merged_into": f"L{owner:03d}"})
    tracks = pd.DataFrame([{"participant_id": "sub-A", "track_id": f"L{r['index']:03d}", **r} for r in rows])
    return Visit(name, tracks, lambda: Image(labels, AFFINE), world)


def sizes(now, *earlier, **changed):
    match = settings_of("match") | changed
    table = compare_visits(now, earlier, measure=settings_of("measure"), match=match)
    assert set(table["session_id"]) <= {now.session_id}
    return {(r["earlier_session_id"], r["track_id"]): r for r in table.to_dict("records")}


ABOVE, BELOW, BRIDGE = ball(25, 10, 20), ball(25, 31, 20), ball(25, 20, 4)


def test_whole_lesions_need_no_comparison():
    assert sizes(visit("b", {1: ABOVE, 2: BELOW}), visit("a", {1: ABOVE, 2: BELOW})) == {}


def test_visits_without_a_lesion_are_compared_too():
    nothing = visit("a", {1: ABOVE})
    nothing = Visit("a", nothing.tracks[:0], lambda: Image(np.zeros(SHAPE, np.uint16), AFFINE), STILL)
    assert sizes(visit("b", {1: ABOVE}), nothing) == {} == sizes(nothing, visit("b", {1: ABOVE}))
    assert sizes(nothing, nothing) == {}


def test_fused_at_baseline_and_apart_later_is_no_growth():
    fused = visit("a", {1: ABOVE | BELOW | BRIDGE})
    apart = visit("b", {1: ABOVE | BELOW}, fragments={1: 2})
    (row,) = sizes(apart, fused).values()
    assert row["ld_now_mm"] == pytest.approx(row["ld_then_mm"], abs=0.01)
    # One above the other: as one they would have the diameter of one.
    assert row["ld_now_mm"] == pytest.approx(2 * 20.6, abs=0.3)
    assert row["vol_then_ml"] == pytest.approx((ABOVE | BELOW | BRIDGE).sum() / 1000)
    assert row["vol_now_ml"] == pytest.approx((ABOVE | BELOW).sum() / 1000)


def test_apart_and_merged_later_is_no_shrinkage():
    apart = visit("a", {1: ABOVE, 2: BELOW})
    fused = visit("b", {1: ABOVE | BELOW | BRIDGE}, merged={2: 1})
    rows = sizes(fused, apart)
    assert set(rows) == {("a", "L001"), ("a", "L002")}
    for row in rows.values():
        assert row["ld_now_mm"] == pytest.approx(row["ld_then_mm"], abs=0.01)


def test_true_shrinkage_is_seen_though_lesions_part():
    fused = visit("a", {1: ABOVE | BELOW | BRIDGE})
    apart = visit("b", {1: ball(25, 10, 10) | ball(25, 31, 10)}, fragments={1: 2})
    (row,) = sizes(apart, fused).values()
    assert row["ld_now_mm"] / row["ld_then_mm"] == pytest.approx(0.5, abs=0.05)


def test_parts_of_one_lesion_that_shrinks_add_up_against_its_diameter():
    whole = visit("a", {1: ball(25, 20, 14)})
    parts = {1: ball(22, 20, 6.5) | ball(29, 20, 6)}
    assert sizes(visit("b", parts, fragments={1: 2}), whole) == {}
    assert len(sizes(visit("b", parts, fragments={1: 2}), whole, fell_apart_loss=0.85)) == 1, "18 % are left"
    # Cut by noise alone it is measured alike.
    half = np.indices(SHAPE)[0] != 25
    (row,) = sizes(visit("b", {1: ball(25, 20, 14) & half}, fragments={1: 2}), whole).values()
    assert row["ld_now_mm"] == pytest.approx(row["ld_then_mm"], rel=0.08)


def test_three_in_a_chain_that_part_at_either_end():
    """One and two touch at the first visit, two and three at the second: all three are told apart at both."""
    balls = [ball(x, 20, 11) for x in (10, 22, 34)]
    bridge = [ball(16, 20, 3), ball(28, 20, 3)]
    first = visit("a", {1: balls[0] | balls[1] | bridge[0], 2: balls[2]}, merged={3: 1})
    # The middle one went from the first track to the second.
    second = visit("b", {1: balls[0], 2: balls[1] | balls[2] | bridge[1]}, merged={3: 2})
    rows = sizes(second, first)
    assert sum(row["ld_now_mm"] for row in rows.values()) == pytest.approx(
        sum(row["ld_then_mm"] for row in rows.values()), abs=0.01
    )


def test_a_crumb_is_no_part():
    crumb = np.zeros(SHAPE, bool)
    crumb[25, 20, 33:35] = True
    whole = visit("a", {1: ABOVE})
    assert sizes(visit("b", {1: ABOVE | crumb}, fragments={1: 2}), whole) == {}


def test_visits_are_compared_where_lesions_are_in_the_reference_space():
    world = np.eye(4)
    world[:3, 3] = (7, -4, 14)
    above, below = ball(25, 8, 10), ball(25, 19, 10)
    fused = visit("a", {1: np.roll(above | below | ball(25, 13, 3), (7, -4, 14), (0, 1, 2))}, world=world)
    (row,) = sizes(visit("b", {1: above | below}, fragments={1: 2}), fused).values()
    assert row["ld_now_mm"] == pytest.approx(row["ld_then_mm"], abs=0.01)


def test_a_nodule_that_was_not_there_is_growth():
    nodule = ball(25, 25, 5)
    (row,) = sizes(visit("b", {1: ABOVE | nodule}, fragments={1: 2}), visit("a", {1: ABOVE})).values()
    assert row["ld_now_mm"] - row["ld_then_mm"] == pytest.approx(5, abs=0.5)
    assert row["vol_now_ml"] - row["vol_then_ml"] == pytest.approx(nodule.sum() / 1000)


def test_a_neck_that_opens_or_closes_is_no_change_of_length():
    """Two lesions that touch at both visits: the longest chord inside passes through the neck at one of them only."""
    closed = {1: {"ld_mm": 21.6, "ld_feret_mm": 33.0, "flags": "nonconvex"}}
    opened = {1: {"ld_mm": 30.7, "ld_feret_mm": 33.5, "flags": "nonconvex"}}
    grown = {1: {"ld_mm": 30.7, "ld_feret_mm": 36.0, "flags": "nonconvex"}}
    round_ = {1: {"ld_mm": 30.7, "ld_feret_mm": 31.0, "flags": None}}
    first = visit("a", {1: ABOVE}, diameters=closed)
    (row,) = sizes(visit("b", {1: ABOVE}, diameters=opened), first).values()
    assert (row["ld_now_mm"], row["ld_then_mm"]) == (33.5, 33.0)
    assert row["vol_now_ml"] == row["vol_then_ml"] == pytest.approx(ABOVE.sum() / 1000)
    assert sizes(visit("b", {1: ABOVE}, diameters=grown), first) == {}
    assert len(sizes(visit("b", {1: ABOVE}, diameters=grown), first, same_length_vox=3)) == 1
    assert sizes(visit("b", {1: ABOVE}, diameters=round_), visit("a", {1: ABOVE}, diameters=round_)) == {}


def test_each_earlier_visit_is_compared_by_what_both_show():
    fused, apart = visit("a", {1: ABOVE | BELOW | BRIDGE}), visit("b", {1: ABOVE | BELOW}, fragments={1: 2})
    again = visit("c", {1: ABOVE | BELOW | BRIDGE})
    assert set(sizes(again, fused, apart)) == {("b", "L001")}


def test_two_lesions_that_touch_at_one_visit_are_stable_in_a_whole_run(tmp_path):
    """One above the other, 12 mm each: apart, touching, apart. As one they would have the diameter of one: a PR."""
    plums.start_dataset(tmp_path)
    for ses, low in (("01", -7), ("02", -6), ("03", -7)):
        lesions = [((0, 0, low), 12), ((0, 0, 6), 12)]
        plums.add_visit(tmp_path, "A", ses, *plums.plum(int(ses), lesions))
    done = plums.run(tmp_path, "--", "tables")
    assert done.returncode == 0, done.stderr[-3000:]
    sessions = plums.table_of(tmp_path, "sessions").set_index("session_id")
    assert sessions["response_overall_final"].tolist()[1:] == ["SD", "SD"]
    assert sessions["sum_ld_mm"].tolist() == pytest.approx([26, 26, 26], abs=1.5)
    assert "coalesced" in sessions.loc["ses-02", "flags"]
    lesions = plums.table_of(tmp_path, "lesions")
    assert set(lesions["track_id"]) == {"L001", "L002"}
    assert set(lesions["status"]) == {"present"}
