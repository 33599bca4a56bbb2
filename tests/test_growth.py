"""Growth and doubling time say what the volumes say, and nothing where they cannot."""

import math

import pandas as pd
import pytest
from mettrail import schema
from mettrail.tracking.growth import add_growth

DAYS = (0, 30, 90, 180)


def row(session, day, volume, *, track="L001", sub="sub-A", band=0.1, **given):
    known = {
        "participant_id": sub,
        "session_id": f"ses-{session}",
        "track_id": track,
        "days_from_t0": day,
        "status": "present",
        "vol_wl_ml": volume,
        "vol_half_voxel_low_ml": None if volume is None else volume * (1 - band),
        "vol_half_voxel_high_ml": None if volume is None else volume * (1 + band),
    }
    return dict.fromkeys(schema.columns("lesions")) | known | given


def course(*volumes, days=DAYS, **given):
    """Rows of one lesion; None: absent."""
    return [
        row(n, day, volume or 0.0, **({"status": "absent"} if volume is None else {}), **given)
        for n, (day, volume) in enumerate(zip(days, volumes))
    ]


def grow(rows, *, evaluable=(True,) * 4, sub="sub-A"):
    sessions = pd.DataFrame(
        [
            dict.fromkeys(schema.columns("sessions"))
            | {"participant_id": sub, "session_id": f"ses-{n}", "evaluable": ok}
            for n, ok in enumerate(evaluable)
        ]
    )
    found = add_growth(schema.make_table(rows, "lesions"), schema.make_table(sessions, "sessions"))
    return schema.make_table(found, "lesions")


def rates(table, track="L001"):
    return table.loc[table["track_id"] == track, ["vol_growth_ml_per_30_days", "vol_doubling_time_days"]].to_numpy()


def test_a_volume_that_doubles_in_60_days_has_that_doubling_time():
    table = grow(course(1, math.sqrt(2), 2 * math.sqrt(2), 4 * math.sqrt(2) * math.sqrt(2)))
    assert rates(table)[:, 1] == pytest.approx([math.nan, 60, 60, 60], nan_ok=True)
    assert rates(table)[:3, 0] == pytest.approx([math.nan, 0.414214, 0.707107], nan_ok=True, abs=1e-6)


def test_what_shrinks_has_a_negative_growth_and_a_halving_time():
    assert rates(grow(course(4, 2, 1)))[1:].ravel() == pytest.approx([-2, -30, -0.5, -60])


@pytest.mark.parametrize(("volume", "told"), [(1.0, False), (1.10, False), (1.12, True), (0.9, False), (0.88, True)])
def test_a_change_within_half_a_voxel_of_either_edge_is_not_told(volume, told):
    """1 mL may be 0.9 to 1.1 mL; from 1.1111 mL on it lies below what half a voxel leaves of the other, too."""
    assert math.isnan(rates(grow(course(1, volume)))[1, 0]) is not told
    assert math.isnan(rates(grow(course(1, volume)))[1, 1]) is not told


def test_both_volumes_bounds_count():
    rows = [row(0, 0, 1.0, band=0.01), row(1, 30, 1.2, band=0.3)]
    assert math.isnan(rates(grow(rows))[1, 0])
    rows = [row(0, 0, 1.0, band=0.3), row(1, 30, 1.2, band=0.01)]
    assert math.isnan(rates(grow(rows))[1, 0])
    rows = [row(0, 0, 1.0), row(1, 30, 2.0) | {"vol_half_voxel_low_ml": None}]
    assert math.isnan(rates(grow(rows))[1, 0])


def test_growth_is_since_the_last_time_the_lesion_was_measured():
    table = grow(course(1, None, 2, 4))
    assert rates(table)[:, 1] == pytest.approx([math.nan, math.nan, 90, 90], nan_ok=True)
    # Seen at a session that cannot be evaluated: skipped as well.
    rows = course(1, 1.5, 2)
    rows[1] |= {"status": "not_evaluable"}
    assert rates(grow(rows, evaluable=(True, False, True)))[2, 1] == pytest.approx(90)
    assert rates(grow(course(1, 1.5, 2), evaluable=(True, False, True)))[:, 1] == pytest.approx(
        [math.nan, math.nan, 90], nan_ok=True
    )


def test_lesions_that_are_one_have_no_growth_of_their_own():
    fused = [row(0, 0, 1), row(1, 30, 3), row(2, 90, 9), row(3, 180, 18)]
    other = [row(n, day, v, track="L002") for n, (day, v) in enumerate(zip(DAYS, (1, 0, 0, 2)))]
    other[1] |= {"status": "merged", "merged_into": "L001"}
    other[2] |= {"status": "merged", "merged_into": "L001"}
    table = grow(fused + other)
    assert rates(table)[:, 0].tolist() == pytest.approx([math.nan] * 4, nan_ok=True)
    assert rates(table, "L002")[:, 1] == pytest.approx([math.nan, math.nan, math.nan, 180], nan_ok=True)


def test_without_days_there_is_no_growth():
    assert pd.isna(rates(grow(course(1, 2, days=(None, None))))).all()
    assert pd.isna(rates(grow(course(1, 2, days=(5, 5))))).all()


def test_a_later_session_changes_no_earlier_row():
    volumes = (1, 2, None, 3)
    whole = rates(grow(course(*volumes)))
    for n in range(1, 4):
        part = rates(grow(course(*volumes[:n]), evaluable=(True,) * n))
        assert part == pytest.approx(whole[:n], nan_ok=True)


def test_lesions_and_patients_are_apart_and_rows_keep_their_order():
    rows = course(1, 2) + course(4, 2, track="L002") + course(5, 50, sub="sub-B")
    rows = rows[::-1]
    table = grow(rows)
    assert table["track_id"].tolist() == [each["track_id"] for each in rows]
    assert rates(table, "L002")[0, 1] == pytest.approx(-30)
    # sub-B has no sessions here: none that can be evaluated.
    assert pd.isna(table.loc[table["participant_id"] == "sub-B", "vol_doubling_time_days"]).all()
    assert len(add_growth(schema.empty("lesions"), schema.empty("sessions"))) == 0
