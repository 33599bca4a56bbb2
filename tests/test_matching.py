"""A lesion keeps its number for life: through shrinking, gaps, splits, merges and visits nobody can read."""

import copy
import json
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from conftest import settings_of
from hypothesis import given, settings
from hypothesis import strategies as st
from mettrail import schema
from mettrail.colours import track_colour
from mettrail.errors import GridMismatchError, InputError
from mettrail.images import Grid, Image
from mettrail.tracking.components import find_instances
from mettrail.tracking.contact import cut_shared, find_shared
from mettrail.tracking.lesions import measure_instances
from mettrail.tracking.matching import (
    MATCH_COLUMNS,
    TRACK_COLUMNS,
    describe_session,
    match_lesions,
    match_visit,
    name_tracks,
    relabel_tracks,
    summarise_tracks,
)
from mettrail.tracking.pairing import Rules
from mettrail.tracking.reference import field_of_view, instances_to_reference
from mettrail.tracking.registry import (
    decode_mask,
    encode_mask,
    read_registry,
    require_settings,
    world_of,
    write_registry,
)

FIND, MEASURE, MATCH = settings_of("instances"), settings_of("measure"), settings_of("match")
LIMITS = {each.name: MATCH[each.name] for each in fields(Rules)}  # those of `match_lesions`
SHAPE = (64, 32, 28)
AFFINE = np.array([[1.0, 0, 0, -31], [0, 1, 0, 12], [0, 0, 1, 47], [0, 0, 0, 1]])
GRID = Grid(SHAPE, AFFINE)
NOT_EVALUABLE = "not evaluable"


def spheres(*lesions, shape=SHAPE):
    """Instances from (x, diameter) or ((x, y, z), diameter), each with a number of its own."""
    places = np.moveaxis(np.indices(shape), 0, -1)
    out = np.zeros(shape, np.int32)
    for number, (centre, diameter) in enumerate(lesions, start=1):
        centre = (centre, 15, 13) if np.isscalar(centre) else centre
        out[np.linalg.norm(places - np.array(centre, float), axis=-1) < diameter / 2] = number
    return out


def fused(*lesions):
    """Make one lesion of all spheres."""
    return (spheres(*lesions) > 0).astype(np.int32)


def measured(instances):
    return measure_instances(instances, (instances > 0).astype(np.uint8), affine=AFFINE, **MEASURE)


class Patient:
    """Visits one after the other; what came out of each."""

    def __init__(self):
        self.registries, self.matches, self.rows, self.tables = [None], [], [], []

    def visit(self, instances, session_id=None, **more):
        evaluable = not isinstance(instances, str)
        instances = instances if evaluable else spheres()
        table, totals = measured(instances)
        session = {
            "participant_id": "sub-A",
            "session_id": session_id or f"ses-{len(self.matches) + 1:02d}",
            "evaluable": evaluable,
            **totals,
        }
        before = copy.deepcopy(self.registries[-1])
        matches, registry = match_lesions(
            Image(instances, AFFINE), table, self.registries[-1], session=session, **LIMITS | more
        )
        assert self.registries[-1] == before, "a registry never changes"
        assert json.loads(json.dumps(registry, allow_nan=False)) == registry
        self.matches.append(matches)
        self.registries.append(registry)
        self.tables.append(table)
        self.rows.append(summarise_tracks(matches, table))
        return self.rows[-1].set_index("track_id")

    def visits(self, *all_instances, **more):
        for instances in all_instances:
            rows = self.visit(instances, **more)
        return rows


def events(rows):
    return rows["event"].to_dict()


# --------------------------------------------------------------------------------------------- one lesion, then another


def test_a_lesion_that_shrinks_is_the_same_lesion():
    rows = Patient().visits(spheres((30, 10)), spheres((30, 5)))
    assert events(rows) == {"L001": "persist"}
    assert rows.loc["L001", "match_method"] == "overlap"
    assert rows.loc["L001", "match_score"] == 1


def test_a_small_lesion_that_registration_moves_aside_is_the_same_lesion():
    rows = Patient().visits(spheres((30, 4)), spheres((33, 4)))
    assert events(rows) == {"L001": "persist"}
    assert rows.loc["L001", "match_method"] == "gap"
    # Three layers of 9 voxels: the farthest is 3 mm from the old place.
    assert rows.loc["L001", "match_score"] == pytest.approx(18 / 27)
    assert not rows.loc["L001", "weak_match"]


def test_without_overlap_a_lesion_is_recognised_up_to_three_mm_away():
    rows = Patient().visits(spheres((30, 3)), spheres((35, 3)))
    assert events(rows) == {"L001": "persist"}
    assert (rows.loc["L001", "match_method"], rows.loc["L001", "match_score"]) == ("gap", 0)
    assert rows.loc["L001", "weak_match"]
    assert rows.loc["L001", "flags"] == "weak_match"
    rows = Patient().visits(spheres((30, 3)), spheres((38, 3)))
    assert events(rows) == {"L001": "absent", "L002": "new"}


def test_nearness_is_between_edges_not_boxes():
    rows = Patient().visits(spheres(((20, 10, 13), 7)), spheres(((28, 18, 13), 7)))
    assert events(rows) == {"L001": "absent", "L002": "new"}
    rows = Patient().visits(spheres(((20, 10, 13), 7)), spheres(((26, 16, 13), 7)))
    assert events(rows) == {"L001": "persist"}


def test_one_that_goes_and_one_that_comes_elsewhere_are_two():
    rows = Patient().visits(spheres((12, 8), (40, 8)), spheres((12, 8), (55, 8)))
    assert events(rows) == {"L001": "persist", "L002": "absent", "L003": "new"}


def test_two_that_go_and_two_that_come_elsewhere_are_four():
    rows = Patient().visits(spheres((8, 7), (22, 6)), spheres((40, 7), (55, 6)))
    assert events(rows) == {"L001": "absent", "L002": "absent", "L003": "new", "L004": "new"}


def test_lesions_that_fuse_or_part_are_not_called_gone():
    patient = Patient()
    patient.visits(spheres((20, 8), (29, 8)))
    rows = patient.visit(fused((20, 8), (24.5, 6), (29, 8)))
    assert rows["status"].to_dict() == {"L001": "present", "L002": "merged"}
    assert events(rows) == {"L001": "persist", "L002": "merged_into"}
    assert rows.loc["L002", "merged_into"] == "L001"
    assert rows.loc["L002", "vol_wl_mm3"] == 0
    assert rows.loc["L001", "vol_wl_mm3"] == (fused((20, 8), (24.5, 6), (29, 8)) > 0).sum()
    rows = patient.visit(spheres((20, 7), (29, 7)))
    assert rows["status"].to_dict() == {"L001": "present", "L002": "present"}
    assert rows["centroid_x_ref_mm"].to_dict() == pytest.approx({"L001": -11, "L002": -2})
    assert rows.loc["L002", "event"] == "split"
    assert rows["merged_into"].isna().all()


def test_merged_lesions_stay_merged_while_they_are():
    patient = Patient()
    one = fused((20, 8), (24.5, 6), (29, 8))
    rows = patient.visits(spheres((20, 8), (29, 8)), one, one)
    assert rows["status"].to_dict() == {"L001": "present", "L002": "merged"}
    rows = patient.visit(spheres())
    assert events(rows) == {"L001": "absent", "L002": "absent"}
    assert rows["merged_into"].isna().all()


def test_a_lesion_in_pieces_is_one_lesion():
    rows = Patient().visits(spheres((30, 14)), spheres((27, 5), (33, 6)))
    assert events(rows) == {"L001": "split"}
    row = rows.loc["L001"]
    assert row["n_components"] == 2
    pieces = measured(spheres((27, 5), (33, 6)))[0]
    assert row["vol_wl_mm3"] == pieces["vol_wl_mm3"].sum()
    assert row["ld_mm"] == pieces["ld_mm"].max()
    assert row["ld_components_mm"] == pytest.approx(pieces["ld_mm"].sum())
    assert row["centroid_x_mm"] == pytest.approx(row["centroid_x_ref_mm"])


def test_pieces_that_stay_pieces_do_not_split_again():
    pieces = spheres((27, 5), (33, 6))
    rows = Patient().visits(spheres((30, 14)), pieces, pieces)
    assert events(rows) == {"L001": "persist"}
    assert rows.loc["L001", "n_components"] == 2
    assert Patient().visits(spheres((30, 14)), pieces, spheres((30, 12))).loc["L001", "event"] == "persist"


@pytest.mark.parametrize("numbers", [(1, 2), (2, 1)])
def test_of_equally_large_pieces_the_longer_one_gives_the_diameter(numbers):
    patient = Patient()
    whole_lesion = np.zeros(SHAPE, np.int32)
    whole_lesion[10:30, 10:20, 10:14] = 1
    pieces = np.zeros(SHAPE, np.int32)
    pieces[11:15, 12:16, 11:13] = numbers[0]
    pieces[19:27, 12:14, 11:13] = numbers[1]
    rows = patient.visits(whole_lesion, pieces)
    assert rows.loc["L001", "n_components"] == 2
    assert rows.loc["L001", "ld_mm"] == pytest.approx(np.hypot(8, 1))


def test_pieces_too_small_to_be_lesions_do_not_add_to_the_diameter():
    small = np.zeros(SHAPE, np.int32)
    small[24:26, 15, 13:15] = 1
    pieces = np.maximum(spheres((33, 6)) * 2, small)
    row = Patient().visits(spheres((30, 16)), pieces).loc["L001"]
    assert row["n_components"] == 2
    assert row["ld_components_mm"] == pytest.approx(row["ld_mm"])
    other = np.roll(small, 8, axis=0) * 2
    row = Patient().visits(spheres((30, 16)), small + other).loc["L001"]
    assert row["n_components"] == 2
    assert row["ld_components_mm"] == pytest.approx(row["ld_mm"]) and row["ld_mm"] > 0


def test_one_missed_detection_is_no_disappearance():
    patient = Patient()
    rows = patient.visits(spheres((30, 6)), spheres())
    assert events(rows) == {"L001": "absent"}
    assert (rows.loc["L001", "ld_mm"], rows.loc["L001", "sessions_missed"]) == (0, 1)
    rows = patient.visit(spheres((31, 6)))
    assert events(rows) == {"L001": "reappeared"}
    assert rows.loc["L001", "probable_missed_detection"]
    assert rows.loc["L001", "flags"] == "probable_missed_detection"
    assert rows.loc["L001", "sessions_missed"] == 1
    assert patient.visit(spheres((31, 6))).loc["L001", "event"] == "persist"


def test_two_missed_detections_are_a_disappearance():
    rows = Patient().visits(spheres((30, 6)), spheres(), spheres(), spheres((31, 6)))
    assert events(rows) == {"L001": "reappeared"}
    assert not rows.loc["L001", "probable_missed_detection"]
    assert rows.loc["L001", "sessions_missed"] == 2


def test_a_lesion_that_comes_back_far_smaller_had_gone():
    assert not Patient().visits(spheres((30, 9)), spheres(), spheres((30, 4))).loc["L001", "probable_missed_detection"]
    assert Patient().visits(spheres((30, 9)), spheres(), spheres((30, 5))).loc["L001", "probable_missed_detection"]


def test_a_visit_nobody_can_read_is_no_absence():
    patient = Patient()
    rows = patient.visits(spheres((30, 6)), NOT_EVALUABLE)
    assert events(rows) == {"L001": "not_evaluable"}
    assert np.isnan(rows.loc["L001", "ld_mm"])
    assert pd.isna(rows.loc["L001", "n_voxels"])
    rows = patient.visits(spheres(), NOT_EVALUABLE, spheres((30, 6)))
    assert events(rows) == {"L001": "reappeared"}
    assert rows.loc["L001", "probable_missed_detection"]


def test_what_the_first_readable_visit_shows_is_the_baseline():
    patient = Patient()
    assert len(patient.visit(NOT_EVALUABLE)) == 0
    assert events(patient.visit(spheres((30, 6)))) == {"L001": "baseline"}
    assert events(patient.visits(spheres((30, 6), (50, 6)))) == {"L001": "persist", "L002": "new"}
    patient = Patient()
    patient.visit(spheres())
    assert events(patient.visit(spheres((30, 6)))) == {"L001": "new"}


def test_a_lesion_beside_another_is_new_though_it_is_near():
    rows = Patient().visits(spheres((30, 10)), spheres((30, 10), (38, 4)))
    assert events(rows) == {"L001": "persist", "L002": "new"}


def test_a_nodule_at_the_old_rim_is_the_old_lesion():
    rows = Patient().visits(spheres((30, 20)), spheres((30, 6)), spheres((30, 6), (38, 4)))
    assert events(rows) == {"L001": "split"}
    assert rows.loc["L001", "n_components"] == 2


def test_a_speck_beside_a_place_is_not_what_was_there():
    rows = Patient().visits(spheres((30, 16)), spheres((41, 4)))
    assert events(rows) == {"L001": "absent", "L002": "new"}


def test_new_lesions_get_ids_by_size_and_a_later_visit_changes_none(tmp_path):
    two = spheres((10, 8), (25, 9))
    four = spheres((10, 8), (25, 9), (40, 5), (55, 9))

    def run(*visits):
        patient = Patient()
        patient.visits(*visits)
        for number, registry in enumerate(patient.registries[1:]):
            write_registry(registry, tmp_path / f"{number}.json")
        return patient, [(tmp_path / f"{number}.json").read_bytes() for number in range(2)]

    short, before = run(two, four)
    assert short.rows[0].set_index("track_id")["centroid_x_ref_mm"].to_dict() == pytest.approx(
        {"L001": -6, "L002": -21}
    )
    assert short.rows[1].set_index("track_id")["centroid_x_ref_mm"].iloc[2:].to_dict() == pytest.approx(
        {"L003": 24, "L004": 9}
    )
    long, after = run(two, four, spheres((50, 12)))
    assert before == after
    for old, new in zip(short.rows, long.rows):
        pd.testing.assert_frame_equal(old, new)


def test_equally_large_new_lesions_are_numbered_by_place():
    rows = Patient().visits(spheres(((12, 20, 13), 6), ((40, 15, 13), 6), ((12, 9, 13), 6)))
    assert rows["centroid_x_ref_mm"].tolist() == pytest.approx([-19, -19, 9])
    assert rows["centroid_y_ref_mm"].tolist() == pytest.approx([21, 32, 27])


def test_a_component_below_birth_size_keeps_a_track_alive_but_starts_none():
    speck = np.zeros(SHAPE, np.int32)
    speck[30:32, 15:17, 13:15] = 1  # 8 mm3
    patient = Patient()
    assert len(patient.visit(speck)) == 0
    assert patient.registries[-1]["session"]["n_subthreshold"] == 1
    patient = Patient()
    rows = patient.visits(spheres((30, 8)), speck)
    assert events(rows) == {"L001": "persist"}
    assert rows.loc["L001", "vol_wl_mm3"] == 8
    assert rows.loc["L001", "below_birth"]
    assert patient.registries[-1]["session"]["n_subthreshold"] == 0
    patient = Patient()
    rows = patient.visits(spheres((30, 8)), spheres(), np.roll(speck, 3, axis=0))
    assert rows.loc["L001", "status"] == "present"


def test_a_lesion_in_an_old_footprint_belongs_to_it_though_far_smaller():
    patient = Patient()
    rows = patient.visits(spheres((30, 18)), spheres((24, 4)), spheres(), spheres((35, 4)))
    assert events(rows) == {"L001": "reappeared"}
    assert rows.loc["L001", "match_method"] == "split"


def bars(*spans):
    """Lesions 4 x 2 voxels across, from x to x (both within)."""
    out = np.zeros(SHAPE, np.int32)
    for number, (start, stop) in enumerate(spans, start=1):
        out[start : stop + 1, 10:14, 10:12] = number
    return out


@pytest.mark.parametrize(
    ("start", "changed", "event"),
    [
        (28, {}, "split"),  # 4 of 8 mm within 2 mm of where the lesion was
        (29, {}, "new"),
        (29, {"frac": 0.375}, "split"),
        (28, {"dilate_mm": 1}, "new"),
    ],
)
def test_a_component_has_half_its_volume_in_or_2_mm_from_the_lesion(start, changed, event):
    patient = Patient()
    patient.visit(bars((20, 29)))
    rows = patient.visit(bars((20, 23), (start, start + 7)), **changed)
    assert (events(rows)["L001"] if event == "split" else events(rows).get("L002")) == event


@pytest.mark.parametrize(
    ("stop", "changed", "event"),
    [
        (31, {}, "merged_into"),  # 4 of 8 mm of the last mask within 2 mm of the lesion that has grown
        (30, {}, "absent"),
        (30, {"frac": 0.375}, "merged_into"),
        (31, {"dilate_mm": 1}, "absent"),
    ],
)
def test_a_lesion_is_merged_where_another_has_half_of_it_or_is_2_mm_off(stop, changed, event):
    patient = Patient()
    patient.visit(bars((10, 19), (30, 37)))
    assert events(patient.visit(bars((10, stop)), **changed))["L002"] == event


def test_a_track_long_gone_cannot_merge_any_more():
    there, grown = spheres((20, 12), (30, 5)), spheres((20, 26))
    assert Patient().visits(there, spheres((20, 12)), grown).loc["L002", "status"] == "merged"
    rows = Patient().visits(there, spheres((20, 12)), spheres((20, 12)), grown)
    assert rows.loc["L002", "status"] == "absent"
    assert rows.loc["L002", "sessions_missed"] == 3


def test_a_place_the_scan_does_not_show_is_not_evaluable():
    view = np.ones(SHAPE, bool)
    view[45:] = False
    rows = Patient().visits(spheres((30, 8), (50, 8)), spheres(), field_of_view=Image(view, AFFINE))
    assert events(rows) == {"L001": "absent", "L002": "not_evaluable"}
    assert rows["sessions_missed"].to_dict() == {"L001": 1, "L002": 0}


def test_numbers_of_an_earlier_run_can_be_kept():
    earlier, later = Patient(), Patient()
    earlier.visits(spheres((12, 9), (30, 8), (50, 10)))
    # Another model: sizes change places, one lesion goes, one comes.
    rows = later.visit(spheres((12, 8), (30, 9), (40, 4)), frozen=earlier.registries[1:])
    assert rows["centroid_x_ref_mm"].to_dict() == pytest.approx({"L002": -19, "L003": -1, "L004": 9})
    assert [t["index"] for t in later.registries[-1]["tracks"]] == [2, 3, 4]


def test_a_scan_that_arrives_late_takes_the_ids_of_later_visits():
    earlier = Patient()
    earlier.visits(spheres((12, 9), (30, 8)), spheres((12, 9), (30, 8), (50, 10)))
    later = Patient()
    # Earlier than all: both known lesions, smaller, and one that was never seen again.
    rows = later.visit(spheres((12, 5), (30, 4), (40, 6)), session_id="ses-00", frozen=earlier.registries[1:])
    assert rows["centroid_x_ref_mm"].to_dict() == pytest.approx({"L001": -19, "L002": -1, "L004": 9})
    # The visits that were known follow, and keep what they had.
    later.visit(spheres((12, 9), (30, 8)), session_id="ses-01", frozen=earlier.registries[1:])
    rows = later.visit(spheres((12, 9), (30, 8), (50, 10)), session_id="ses-02", frozen=earlier.registries[1:])
    assert events(rows) == {"L001": "persist", "L002": "persist", "L003": "new", "L004": "absent"}


def test_a_late_scan_between_known_visits_shows_when_a_lesion_was_born():
    earlier = Patient()
    earlier.visits(spheres((30, 8)), spheres((30, 8), (50, 10)))
    later = Patient()
    later.visit(spheres((30, 8)), frozen=earlier.registries[1:])
    rows = later.visit(spheres((30, 8), (50, 4), (14, 4)), session_id="ses-late", frozen=earlier.registries[1:])
    assert events(rows) == {"L001": "persist", "L002": "new", "L003": "new"}
    assert rows.loc["L002", "centroid_x_ref_mm"] == pytest.approx(19)


def test_numbers_of_another_patient_are_not_kept():
    earlier = Patient()
    earlier.visit(spheres((30, 8)))
    with pytest.raises(InputError, match="sub-B"):
        Patient().visit(spheres((30, 8)), frozen=[earlier.registries[-1] | {"participant_id": "sub-B"}])


CUT = {name: FIND[name] for name in ("birth_mm3", "birth_vox")} | {"world": np.eye(4), "crack_mm": MATCH["dilate_mm"]}
CUT["neck_frac"] = MATCH["neck_frac"]


def whole(instances):
    """Instances as the lesion finder gives them: connected, numbered by size."""
    return find_instances((instances > 0).astype(np.uint8), affine=AFFINE, **FIND)


def test_lesions_that_have_fused_can_be_cut_where_they_were():
    patient = Patient()
    patient.visit(spheres((25, 8), (36, 8)))
    before = patient.registries[-1]
    fused = whole(spheres((25, 12), (36, 12)))
    rows = patient.visit(fused)
    assert events(rows) == {"L001": "persist", "L002": "merged_into"}
    assert rows["flags"].to_dict() == {"L001": "coalesced", "L002": "coalesced"}
    assert claims(fused, patient, before) == {1: [1, 2]}
    parts, cut, absorbed = cut_shared(Image(fused, AFFINE), {1: [1, 2]}, before, **CUT)
    assert (cut, absorbed) == ({2, 3}, {})
    again = Patient()
    again.visit(spheres((25, 8), (36, 8)))
    rows = again.visit(parts, cut=cut)
    assert rows["flags"].to_dict() == {"L001": "coalesced", "L002": "coalesced"}
    assert events(rows) == {"L001": "persist", "L002": "persist"}
    assert rows["vol_wl_mm3"].sum() == (fused > 0).sum()
    assert rows["vol_wl_mm3"].to_list() == pytest.approx([(fused > 0).sum() / 2] * 2, rel=0.05)
    assert rows["centroid_x_ref_mm"].to_dict() == pytest.approx({"L001": -6.3, "L002": 5.3}, abs=0.5)


def claims(instances, patient, before):
    rules = {name: MATCH[name] for name in ("dilate_mm", "frac", "miss_max_sessions")}
    return find_shared(Image(instances, AFFINE), patient.matches[-1], before, birth_mm3=10, **rules)[0]


def test_two_that_shrink_and_touch_are_two_and_one_that_goes_is_gone():
    """What is left of either is less than half of what it was; where nothing is left, no neck says so."""
    patient = Patient()
    patient.visit(spheres((16, 18), (36, 18)))
    before = patient.registries[-1]
    rules = {name: MATCH[name] for name in ("dilate_mm", "frac", "miss_max_sessions")}
    for now, parts in ((fused((20.5, 10.5), (31, 10.5)), {2, 3}), (fused((28, 16), (28, 16)), set())):
        rows = patient.visit(now)
        assert sorted(rows["status"]) == ["absent", "present"]
        claimed, uncertain = find_shared(Image(now, AFFINE), patient.matches[-1], before, birth_mm3=10, **rules)
        assert uncertain == {int(rows.loc[rows["status"] == "absent", "index"].iloc[0])}
        _, cut, absorbed = cut_shared(Image(now, AFFINE), claimed, before, uncertain=uncertain, **CUT)
        assert (cut, absorbed) == (parts, {})
        patient.registries[-1] = before


def test_a_lesion_that_grows_beside_another_is_not_shared():
    patient = Patient()
    patient.visit(spheres((25, 8), (36, 8)))
    before = patient.registries[-1]
    # Half of the old place of the second is within 2 mm of the first now; yet it is still there itself.
    now = spheres((27, 16), (37, 8))
    patient.visit(now)
    assert claims(now, patient, before) == {}


def test_part_of_a_lesion_that_joins_its_neighbour_is_claimed():
    patient = Patient()
    patient.visit(np.minimum(spheres((25, 8), (32, 8)), 1) + 2 * (spheres((43, 8)) > 0))
    before = patient.registries[-1]
    now = (spheres((25, 8)) > 0) + 2 * (spheres((33, 8), (40, 9)) > 0)
    patient.visit(now.astype(np.int32))
    # L001 was both of the first two; the second has gone over to what was L002.
    assert claims(now.astype(np.int32), patient, before) == {2: [2, 1]}


def test_a_part_that_would_be_a_crumb_has_merged():
    patient = Patient()
    patient.visit(spheres((25, 12), (32.5, 3)))
    fused = whole(spheres((25, 13), (32, 2.2)))
    parts, cut, absorbed = cut_shared(Image(fused, AFFINE), {1: [1, 2]}, patient.registries[-1], **CUT)
    assert (cut, absorbed) == (set(), {})
    np.testing.assert_array_equal(parts, fused)


def test_what_an_absorbed_lesion_once_was_belongs_to_the_other():
    patient = Patient()
    patient.visits(spheres((20, 10), (29.5, 9)), spheres((20, 10), (27, 4)))
    before = patient.registries[-1]
    patient.visit(fused((20, 10), (26, 4)), absorbed={2: 1})
    after = {t["track_id"]: set(decode_mask(t["footprint"])) for t in patient.registries[-1]["tracks"]}
    assert {n for track in before["tracks"] for n in decode_mask(track["footprint"])} <= after["L001"]
    rows = patient.visit((spheres((20, 10)) + 2 * (spheres((31.5, 4)) > 0)).astype(np.int32))
    assert events(rows)["L001"] == "split", "at the rim of the place of the other"


def test_a_field_that_registration_has_left_aside_is_put_back():
    """Eight lesions in a row, 3 mm apart, 4 mm aside: each lies where its neighbour was."""
    places = [((8 + 7 * n, 14, 12), d) for n, d in enumerate((4, 5, 4, 6, 4, 5, 4, 3.5))]
    tissue = [(spheres(*[((x + shift, y, z), d) for (x, y, z), d in places]) > 0).astype(np.uint8) for shift in (0, 4)]
    registry, names = None, []
    for n, labels in enumerate(tissue):
        instances = Image(whole(labels), AFFINE)
        table, totals = measured(instances.data)
        session = {"participant_id": "sub-A", "session_id": f"ses-{n}", "evaluable": True, **totals}
        rows, _, instances, registry = match_visit(
            instances, table, registry, session=session, grid=GRID, world=np.eye(4), match=MATCH, measure=MEASURE,
            read_scan=lambda: None,
        )  # fmt: skip
        order = np.argsort(rows["centroid_x_mm"].to_numpy())
        names.append(rows["track_id"].to_numpy()[order].tolist())
    assert names[0] == names[1]
    assert registry["session"]["residual_shift_mm"] == pytest.approx(4, abs=0.3)
    np.testing.assert_allclose(world_of(registry, np.eye(4))[:3, 3], (4, 0, 0), atol=0.3)
    assert rows["centroid_x_ref_mm"].min() == pytest.approx(AFFINE[0, 3] + 8, abs=0.4)


def test_a_lesion_without_a_neck_is_one_for_good():
    """Noise had cut it at the first visit, and cuts it elsewhere at the third."""
    patient = Patient()
    ball = spheres((30, 14)) > 0
    cracked = ball.astype(np.int32)
    cracked[32:] *= 2
    cracked[31] = 0
    patient.visit(cracked)
    before = patient.registries[-1]
    fused = ball.astype(np.int32)
    _, cut, absorbed = cut_shared(Image(fused, AFFINE), {1: [1, 2]}, before, **CUT)
    assert (cut, absorbed) == (set(), {2: 1})
    footprint = set(decode_mask(before["tracks"][1]["footprint"]))
    rows = patient.visit(fused, absorbed=absorbed)
    assert footprint <= set(decode_mask(patient.registries[-1]["tracks"][0]["footprint"]))
    assert events(rows) == {"L001": "persist", "L002": "merged_into"}
    other = np.where(ball, 1, 0).astype(np.int32)
    other[:28] *= 2
    other[28] = 0
    rows = patient.visit(other)
    assert events(rows) == {"L001": "split", "L002": "merged_into"}
    assert rows.loc["L001", "n_components"] == 2
    rows = patient.visit(np.zeros_like(fused))
    assert rows["status"].to_dict() == {"L001": "absent", "L002": "absent"}
    assert rows["sessions_missed"].to_dict() == {"L001": 1, "L002": 1}


def test_how_thin_a_neck_is_is_a_setting():
    """Two balls of 14 mm, 8 mm apart: where they meet, their radius is 5.7 mm of 7, which is 82 %."""
    patient = Patient()
    pair = (spheres((26, 14), (34, 14)) > 0).astype(np.int32)
    cracked = pair.copy()
    cracked[30:] *= 2
    cracked[30] = 0
    patient.visit(cracked)
    for neck_frac, absorbed in ((0.9, {}), (0.75, {2: 1})):
        limits = CUT | {"neck_frac": neck_frac}
        assert cut_shared(Image(pair, AFFINE), {1: [1, 2]}, patient.registries[-1], **limits)[2] == absorbed


def test_lesions_that_were_apart_are_two_with_or_without_a_neck():
    patient = Patient()
    patient.visit(spheres((20, 12), (40, 12)))
    before = patient.registries[-1]
    rod = np.zeros(GRID.shape, np.int32)
    centre = np.argwhere(spheres((20, 1)) > 0)[0]
    rod[14:47, centre[1] - 6 : centre[1] + 7, centre[2] - 6 : centre[2] + 7] = 1
    parts, cut, absorbed = cut_shared(Image(rod, AFFINE), {1: [1, 2]}, before, **CUT)
    assert (cut, absorbed) == ({2, 3}, {})
    # What was cut meets its other part everywhere now, and still stays two.
    patient.visit(parts, cut=cut)
    assert [track["cut"] for track in patient.registries[-1]["tracks"]] == [True, True]
    parts, cut, absorbed = cut_shared(Image(rod, AFFINE), {1: [1, 2]}, patient.registries[-1], **CUT)
    assert (len(cut), absorbed) == (2, {})


# ----------------------------------------------------------------------------------------------------- reference space


def rigid(degrees, *shift):
    a = np.deg2rad(degrees)
    out = np.eye(4)
    out[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    out[:3, 3] = shift
    return out


def test_lesions_on_the_reference_grid_itself_stay_as_they_are():
    instances = spheres((3, 9), (30, 6), (61, 9))
    there = instances_to_reference(Image(instances, AFFINE), GRID, world=np.eye(4))
    np.testing.assert_array_equal(there.data, instances)
    np.testing.assert_array_equal(there.affine, AFFINE)


def test_a_lesion_lands_where_the_transform_says(oblique_affine):
    instances = np.zeros((30, 20, 12), np.int32)
    instances[8:14, 6:10, 4:7] = 5
    world = rigid(12, 3, -2, 1)
    grid = Grid((80, 80, 70), scale_at(1.0, (-40, 0, 30)))
    there = instances_to_reference(Image(instances, oblique_affine), grid, world=world)
    centre = np.append(np.argwhere(there.data == 5).mean(0), 1)
    expected = np.append(np.argwhere(instances == 5).mean(0), 1)
    np.testing.assert_allclose((world @ grid.affine @ centre)[:3], (oblique_affine @ expected)[:3], atol=0.15)
    assert (there.data == 5).sum() == pytest.approx((instances == 5).sum() * 4.5, rel=0.03)


def scale_at(spacing, origin):
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = origin
    return affine


def test_a_lesion_too_small_for_the_grid_keeps_a_voxel():
    # Lesions 1 and 2 lie between the places that are sampled, in one voxel of the grid; so do 3 and 4 at its corner.
    instances = np.zeros((20, 20, 20), np.int32)
    instances[5, 4, 4], instances[5, 5, 4], instances[1, 0, 0], instances[0, 0, 0] = 1, 2, 3, 4
    coarse = Grid((10, 10, 10), scale_at(1.0, (0.25, 0.25, 0.25)))
    there = instances_to_reference(Image(instances, scale_at(0.5, (0.01, 0, 0))), coarse, world=np.eye(4)).data
    assert np.bincount(there.ravel())[1:].tolist() == [1, 1, 1, 1]
    assert np.argwhere(there == 1).tolist() == [[2, 2, 2]]
    assert np.abs(np.argwhere(there == 2) - [2, 2, 2]).sum() == 1


def test_a_lesion_outside_the_reference_grid_keeps_a_voxel_at_its_edge():
    instances = spheres((5, 6))
    small = Grid((10, 32, 28), AFFINE @ scale_at(1.0, (20, 0, 0)))
    there = instances_to_reference(Image(instances, AFFINE), small, world=np.eye(4)).data
    np.testing.assert_array_equal(np.argwhere(there), [[0, 15, 13]])


@pytest.mark.parametrize("numbers", [(1, 2), (2, 1)])
def test_lesions_outside_the_reference_grid_take_voxels_by_size(numbers):
    grid = Grid((12, 12, 12), np.eye(4))
    far = np.eye(4)
    far[0, 3] = -40
    data = np.zeros((8, 12, 12), np.int32)
    data[2:5, 4:7, 4:7] = numbers[0]
    data[6, 5, 5] = numbers[1]
    there = instances_to_reference(Image(data, far), grid, world=np.eye(4)).data
    (large,), (small,) = (np.argwhere(there == number) for number in numbers)
    assert large.tolist() == [0, 5, 5]
    assert small.tolist() != [0, 5, 5]


@pytest.mark.parametrize("flips", [(0,), (1, 2), (0, 1, 2)])
def test_voxel_storage_order_changes_nothing_in_the_reference_space(flips):
    # Half-millimetre voxels on a millimetre grid: every second one lies half way.
    affine = scale_at(0.5, (-7, 3, 1))
    instances = spheres(((20, 15, 13), 9), ((44, 14, 12), 7))
    turned, flipped = np.flip(instances, flips), affine.copy()
    for axis in flips:
        flipped[:3, 3] += affine[:3, axis] * (SHAPE[axis] - 1)
        flipped[:3, axis] *= -1
    grid = Grid((34, 18, 16), scale_at(1.0, (-7.25, 2.75, 1.25)))
    expected = instances_to_reference(Image(instances, affine), grid, world=np.eye(4)).data
    assert set(np.unique(expected)) == {0, 1, 2}
    np.testing.assert_array_equal(instances_to_reference(Image(turned, flipped), grid, world=np.eye(4)).data, expected)


def test_no_lesions_give_an_empty_map():
    assert not instances_to_reference(Image(spheres(), AFFINE), GRID, world=np.eye(4)).data.any()


def test_the_field_of_view_is_where_the_scan_has_voxels():
    part = Grid((20, 32, 28), AFFINE @ scale_at(1.0, (10, 0, 0)))
    view = field_of_view(part, GRID, world=np.eye(4))
    np.testing.assert_array_equal(np.flatnonzero(view.data[:, 5, 5]), np.arange(10, 30))
    assert view.data[15].all()
    moved = field_of_view(part, GRID, world=rigid(0, 2, 0, 0))
    np.testing.assert_array_equal(np.flatnonzero(moved.data[:, 5, 5]), np.arange(8, 28))


# ------------------------------------------------------------------------------------------------- tables and registry


def test_a_visit_without_lesions_gives_tables_with_all_columns():
    empty, full = Patient(), Patient()
    empty.visit(spheres())
    full.visit(spheres((30, 8)))
    for kind, columns in (("matches", MATCH_COLUMNS), ("rows", TRACK_COLUMNS)):
        table = getattr(empty, kind)[0]
        assert len(table) == 0
        assert list(table.columns) == list(columns)
        pd.testing.assert_series_equal(table.dtypes, getattr(full, kind)[0].dtypes)
    assert len(name_tracks(empty.matches[0])) == 0


def test_tables_survive_being_written(tmp_path):
    patient = Patient()
    patient.visits(spheres((30, 14), (50, 6)), spheres((27, 5), (33, 6)), spheres())
    table = measured(spheres((27, 5), (33, 6)))[0]
    schema.write_tsv(table, tmp_path / "instances.tsv")
    again = schema.read_tsv(tmp_path / "instances.tsv")
    pd.testing.assert_frame_equal(
        summarise_tracks(patient.matches[1], again), summarise_tracks(patient.matches[1], table)
    )
    for rows in patient.rows:
        schema.write_tsv(rows, tmp_path / "rows.tsv")
        pd.testing.assert_frame_equal(
            schema.read_tsv(tmp_path / "rows.tsv", text=["components"]).astype(TRACK_COLUMNS), rows
        )


def test_a_visit_without_lesions_can_be_matched_from_its_written_table(tmp_path):
    patient = Patient()
    patient.visit(spheres((30, 8)))
    schema.write_tsv(measured(spheres())[0], tmp_path / "instances.tsv")
    table = schema.read_tsv(tmp_path / "instances.tsv")
    session = {"participant_id": "sub-A", "session_id": "ses-02", "evaluable": True, "n_subthreshold": 0}
    session |= {"edema_unassigned_mm3": 0.0}
    for registry, n in ((None, 0), (patient.registries[-1], 1)):
        matches, after = match_lesions(Image(spheres(), AFFINE), table, registry, session=session, **LIMITS)
        assert len(summarise_tracks(matches, table)) == len(after["tracks"]) == n


def test_what_the_visit_itself_knows_is_all_there():
    later = {
        *("days_from_t0", "is_baseline", "role", "measurable", "ld_rano_mm", "ld_source", "lesion_response"),
        *("ld_change_baseline_pct", "ld_change_nadir_pct", "vol_change_baseline_pct", "vol_change_nadir_pct"),
        *("new_lesion_status", "prior_local_therapy", "vol_rano_ml", "vol_source", "region", "side"),
        *("vol_growth_ml_per_30_days", "vol_doubling_time_days"),
    }
    assert set(schema.columns("lesions")) - later <= set(TRACK_COLUMNS)


def test_a_lesion_in_pieces_is_confirmed_where_one_piece_is():
    patient = Patient()
    patient.visit(fused((28, 8), (36, 8)))
    pieces = spheres((26, 6), (38, 5))
    patient.visit(pieces)
    matches, table = patient.matches[-1], patient.tables[-1]
    assert matches["n_components"].tolist() == [2]
    sure = pd.DataFrame({"mean_probability": [0.6, 0.9], "detected_by": ["detection", "resegmentation"]})
    table[sure.columns] = sure
    table["certainty"] = ["candidate", "confirmed"]
    (row,) = summarise_tracks(matches, table).to_dict("records")
    share = (pieces == 1).sum() / (pieces > 0).sum()
    assert row["mean_probability"] == pytest.approx(0.6 * share + 0.9 * (1 - share))
    assert (row["detected_by"], row["certainty"]) == ("both", "confirmed")
    table["certainty"] = ["candidate", "candidate"]
    assert summarise_tracks(matches, table)["certainty"].tolist() == ["candidate"]


def test_the_map_of_tracks_has_the_number_of_each_lesion_and_nothing_else():
    patient = Patient()
    patient.visit(spheres((12, 6), (30, 8), (50, 7)))
    instances = spheres((50, 7), (30, 8))
    speck = np.zeros(SHAPE, np.int32)
    speck[5:7, 5, 5] = 3
    instances = instances + speck
    patient.visit(instances)
    tracks = relabel_tracks(instances, patient.matches[-1])
    assert tracks.dtype == np.uint16
    np.testing.assert_array_equal(tracks, np.array([0, 2, 1, 0])[instances])
    names = name_tracks(patient.matches[-1])
    assert names.to_dict("records") == [
        {"index": 1, "name": "L001", "color": track_colour("L001")},
        {"index": 2, "name": "L002", "color": track_colour("L002")},
    ]


def test_a_registry_survives_being_written(tmp_path):
    patient = Patient()
    patient.visits(spheres((12, 6), (30, 8)), spheres((30, 8)), config_hash="abc")
    write_registry(patient.registries[-1], tmp_path / "sub" / "registry.json")
    registry = read_registry(tmp_path / "sub" / "registry.json")
    assert registry == patient.registries[-1]
    assert registry["config_hash"] == "abc"
    assert registry["reference"]["session_id"] == "ses-01"
    assert [each["session_id"] for each in registry["sessions"]] == ["ses-01", "ses-02"]
    assert [(t["first_session"], t["last_session"]) for t in registry["tracks"]] == [
        ("ses-01", "ses-02"),
        ("ses-01", "ses-01"),
    ]


@given(st.sets(st.integers(0, 40)))
@settings(max_examples=30, deadline=None)
def test_masks_survive_being_written(voxels):
    flat = np.array(sorted(voxels), dtype=np.int64)
    np.testing.assert_array_equal(decode_mask(encode_mask(flat)), flat)


def test_another_patients_registry_is_refused(tmp_path):
    patient = Patient()
    patient.visit(spheres((30, 8)))
    write_registry(patient.registries[-1], tmp_path / "registry.json")
    stranger = {"participant_id": "sub-B", "session_id": "ses-02", "evaluable": True}
    with pytest.raises(InputError, match="sub-A"):
        read_registry(tmp_path / "registry.json", stranger)
    instances = spheres((30, 8))
    with pytest.raises(InputError, match="sub-A"):
        match_lesions(
            Image(instances, AFFINE), measured(instances)[0], patient.registries[-1], session=stranger, **LIMITS
        )


def test_a_registry_that_has_the_visit_already_is_refused():
    patient = Patient()
    patient.visit(spheres((30, 8)))
    patient.matches.clear()
    with pytest.raises(InputError, match="ses-01"):
        patient.visit(spheres((30, 8)))


def test_a_registry_on_another_grid_is_refused():
    patient = Patient()
    patient.visit(spheres((30, 8)))
    patient.registries[-1]["reference"]["affine"][0][3] += 1
    with pytest.raises(GridMismatchError):
        patient.visit(spheres((30, 8)))


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"format": 0, "participant_id": "sub-A", "tracks": [], "reference": {}}']
)
def test_what_is_no_registry_is_refused(tmp_path, text):
    (tmp_path / "registry.json").write_text(text)
    with pytest.raises(InputError, match="registry"):
        read_registry(tmp_path / "registry.json")


def test_edema_and_counts_of_what_no_track_has_taken_up_are_the_visits():
    tissue = (spheres((12, 8)) > 0).astype(np.uint8)
    tissue[40:42, 15:17, 13:15] = 1  # 8 mm3
    tissue[44, 15, 13] = 2
    instances = find_instances(tissue, affine=AFFINE, **FIND)
    table, totals = measure_instances(instances, tissue, affine=AFFINE, **MEASURE)
    assert (totals["n_subthreshold"], totals["edema_unassigned_mm3"]) == (1, 0)
    session = {"participant_id": "sub-A", "session_id": "ses-01", "evaluable": True, **totals}
    _, registry = match_lesions(Image(instances, AFFINE), table, None, session=session, **LIMITS)
    assert (registry["session"]["n_subthreshold"], registry["session"]["edema_unassigned_mm3"]) == (1, 1)


def test_lesions_and_measurements_of_different_runs_are_refused():
    session = {"participant_id": "sub-A", "session_id": "ses-01", "evaluable": True}
    table = measured(spheres((30, 8)))[0]
    with pytest.raises(InputError, match="label 2"):
        match_lesions(Image(spheres((30, 8), (50, 6)), AFFINE), table, None, session=session, **LIMITS)


@pytest.mark.parametrize(
    ("row", "quality", "reference", "reason"),
    [
        ({}, "ok", "ce-gadolinium_T1w", None),
        ({}, "warn", "ce-gadolinium_T1w", None),
        ({}, "fail", "ce-gadolinium_T1w", "registration_failed"),
        ({"contrast": "false"}, "ok", "ce-gadolinium_T1w", "no_contrast"),
        ({"image_quality": "fail"}, "ok", "ce-gadolinium_T1w", "image_quality"),
        ({}, "ok", "T1w", "no_contrast"),
    ],
)
def test_a_visit_is_evaluable_unless_contrast_quality_or_registration_fail(row, quality, reference, reason):
    row = {"sub": "A", "ses": "02", "days": "84", "contrast": "n/a", "image_quality": "n/a"} | row
    session = describe_session(
        row,
        totals={"n_subthreshold": 2},
        quality={"status": quality, "reason": {"fail": "registration_failed", "warn": "other_head"}.get(quality, "")},
        reference=reference,
        reference_session="ses-01",
    )
    assert session == {
        "participant_id": "sub-A",
        "session_id": "ses-02",
        "days": 84,
        "evaluable": reason is None,
        "ne_reason": reason,
        "registration_qc": quality,
        "head_volume_ratio": None,
        "labels_auc": None,
        "reference_session": "ses-01",
        "n_subthreshold": 2,
        "flags": ["other_head"] if quality == "warn" else [],
    }


def test_a_visit_says_where_a_lesion_lies_in_a_cavity():
    visit = {
        "row": {"sub": "A", "ses": "1"},
        "totals": {},
        "quality": {"status": "ok"},
        "reference": "ce-gadolinium_T1w",
    }
    flags = [
        describe_session(**visit, reference_session="ses-1", tissue={"LesionsInCavities": count})["flags"]
        for count in (0, 2)
    ]
    assert flags == [[], ["cavity_review"]]


def test_registries_made_with_other_settings_are_refused():
    registries = [{"participant_id": "sub-A", "config_hash": digest} for digest in ("abc", "abc")]
    require_settings(registries, "abc")
    with pytest.raises(InputError, match=r"sub-A.*\n.*settings abc\n.*this run, def"):
        require_settings(registries, "def")
