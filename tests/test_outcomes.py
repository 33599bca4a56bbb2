"""What became of treated lesions and patients: each rule at its threshold and just beside it, curves by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from assessing import VOLUME, rules_with
from mettrail import schema
from mettrail.response import outcomes, treatments


def ball(diameter):
    return math.pi / 6000 * diameter**3


DAYS = (0, 60, 120, 180, 240)
SRS = (("t1", "srs", 0),)


def follow(
    course, days=DAYS, *, given=SRS, participant=(), evaluable=None, pairs=None, volume=VOLUME, more=None
):  # fmt: skip
    """Follow lesions given by diameters: None before birth, "ne", "miss", a name for merged into it, or (mm, mL)."""
    rows = [
        {"participant_id": "sub-1", "session_id": f"ses-{t}", "track_id": track, "days_from_t0": days[t]} | cells(size)
        for track, sizes in course.items()
        for t, size in enumerate(sizes)
        if size is not None
    ]
    rows = [dict.fromkeys(schema.columns("lesions")) | row for row in rows]
    for row in rows:
        row |= (more or {}).get((row["session_id"], row["track_id"]), {})
    seen = evaluable or [True] * len(days)
    sessions = [
        dict.fromkeys(schema.columns("sessions"))
        | {"participant_id": "sub-1", "session_id": f"ses-{t}", "days_from_t0": day, "evaluable": ok}
        for t, (day, ok) in enumerate(zip(days, seen))
    ]
    treated = pd.DataFrame(
        [
            {"participant_id": "sub-1", "treatment_id": name, "treatment_type": kind, "treatment_day": day,
             "track_id": track, "dose_gy": 20.0, "fractions": 1, "isodose_pct": None}
            for name, kind, day, *rest in given
            for track in (rest or ["L001"])
        ],
        columns=treatments.COLUMNS,
    )  # fmt: skip
    lesions, sessions = schema.make_table(rows, "lesions"), schema.make_table(sessions, "sessions")
    columns = ["session_id", "earlier_session_id", "track_id", "ld_now_mm", "ld_then_mm", "vol_now_ml", "vol_then_ml"]
    comparisons = None if pairs is None else pd.DataFrame(pairs, columns=columns)
    found = outcomes.follow_treatments(
        treated, lesions, sessions, dict(participant), t0=0, rules=rules_with(volume=volume), comparisons=comparisons
    )
    return found, treated, lesions, sessions


def cells(size):
    source = {"ne": "ne", "miss": "probable_missed_detection"}.get(
        size, "merged" if isinstance(size, str) else "measured"
    )
    row = {"role": "target", "status": "present", "ld_source": source, "vol_source": source}
    if size == "ne":
        return row | {"status": "not_evaluable"}
    if size == "miss":
        return row | {"status": "absent", "flags": "probable_missed_detection"}
    if isinstance(size, str):
        return row | {"status": "merged", "merged_into": size, "ld_rano_mm": 0, "vol_rano_ml": 0}
    ld, vol = size if isinstance(size, tuple) else (size, ball(size))
    if ld == 0:
        return row | {"status": "absent", "ld_source": "absent", "ld_mm": 0, "ld_rano_mm": 0, "vol_rano_ml": 0}
    return row | {"ld_mm": ld, "ld_rano_mm": ld, "vol_wl_ml": vol, "vol_rano_ml": vol}


def one(*args, **kwargs):
    found = follow(*args, **kwargs)[0]
    assert len(found) == 1
    return {name: plain(value) for name, value in found.iloc[0].items()}


def plain(value):
    return None if pd.isna(value) else bool(value) if isinstance(value, np.bool_) else value


# --- failure -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "day", "by"),
    [
        ([(20, 5), (10, 5), (15, 5)], 120, "diameter"),  # from the nadir, not from before treatment
        ([(20, 5), (10, 5), (14.9, 5)], None, None),
        ([(30, 5), (25, 5), (30, 5)], 120, "diameter"),  # 20 % and 5 mm, both just reached
        ([(30, 5), (26, 5), (31.1, 5)], None, None),  # 5.1 mm, 19.6 %
        ([(20, 1), (20, 1), (20, 1.728)], 120, "volume"),
        ([(20, 1), (20, 1), (20, 1.727)], None, None),
        ([(4, 0.05), (4, 0.05), (4, 0.15)], 120, "volume"),
        ([(4, 0.05), (4, 0.05), (4, 0.149)], None, None),
        ([(20, 1), (10, 0.5), (15, 1)], 120, "diameter;volume"),
        ([(20, 1), (26, 1), (10, 1)], 60, "diameter"),  # the size before treatment counts
        ([(20, 1), 0, (5, 0.01)], 120, "diameter"),
        ([(20, 1), 0, (4.9, 0.09)], None, None),
        ([(20, 1), 0, (4.9, 0.1)], 120, "volume"),
    ],
)
def test_a_lesion_fails_above_its_smallest_since_treatment(sizes, day, by):
    row = one({"L001": [*sizes, None, None]}, evaluable=[True] * 3 + [False] * 2)
    assert (row["local_failure"], row["local_failure_day"], row["failure_by"]) == (day is not None, day, by)
    assert (row["censored_day"], row["censored_reason"]) == ((None, None) if day else (120, "last_scan"))
    assert row["time_to_local_failure_days"] == (day or 120)


def test_growth_by_volume_may_be_asked_in_diameters_of_a_ball():
    course = {"L001": [(20, ball(8)), (20, ball(8)), (20, ball(10)), (20, ball(13.1)), (20, ball(13.1))]}
    assert one(course)["local_failure_day"] == 120
    strict = VOLUME | {"abs_rule": "diameter"}
    assert one(course, volume=strict)["local_failure_day"] == 180


@pytest.mark.parametrize(
    ("kind", "day", "possible"),
    [("srs", 90, True), ("srs", 89, False), ("fsrt", 540, True), ("wbrt", 541, False), ("surgery", 180, False)],
)
def test_growth_in_the_months_after_radiation_may_be_its_effect(kind, day, possible):
    row = one({"L001": [20, 10, 16]}, (0, 30, day), given=[("t1", kind, 0)])
    assert (row["local_failure_day"], row["treatment_effect_possible"]) == (day, possible)


def test_without_a_failure_nothing_is_said_of_radiation():
    assert one({"L001": [20, 10, 10, 10, 10]})["treatment_effect_possible"] is None


@pytest.mark.parametrize(
    ("days", "sizes", "confirmed"),
    [
        ((0, 60, 120, 148), [20, 10, 16, 16], True), ((0, 60, 120, 147), [20, 10, 16, 16], None),
        ((0, 60, 120, 148), [20, 10, 16, 11], False), ((0, 60, 120, 130, 150), [20, 10, 16, 10, 16], True),
        ((0, 60, 120, 150, 190), [20, 10, 16, 10, 16], False), ((0, 60, 120, 150, 190), [20, 10, 16, "ne", 16], True),
        ((0, 60, 120), [20, 10, 16], None),
    ],
)  # fmt: skip
def test_the_next_session_from_28_days_on_confirms_a_failure_or_not(days, sizes, confirmed):
    row = one({"L001": sizes}, days)
    assert (row["local_failure_day"], row["failure_confirmed"]) == (120, confirmed)


# --- what came before ----------------------------------------------------------------------------------------------


def test_the_scan_on_the_day_of_treatment_is_before_it():
    row = one({"L001": [14, 20, 12, 10, 11]}, given=[("t1", "srs", 60)])
    assert (row["pretreatment_session"], row["pretreatment_ld_mm"]) == ("ses-1", 20)
    assert (row["nadir_ld_mm"], row["nadir_ld_day"], row["best_response"]) == (10, 180, "PR")
    assert (row["nadir_vol_ml"], row["nadir_vol_day"]) == (pytest.approx(ball(10), abs=1e-6), 180)
    assert row["pretreatment_vol_ml"] == pytest.approx(ball(20))
    assert one({"L001": [14, 20, 12, 10, 11]}, given=[("t1", "srs", 59)])["pretreatment_session"] == "ses-0"


def test_growth_before_treatment_is_no_failure_of_it():
    assert one({"L001": [10, 20, 20, 19, 20]}, given=[("t1", "srs", 60)])["local_failure"] is False


@pytest.mark.parametrize(
    ("sizes", "best"),
    [
        ([20, 14, 20], "PR"), ([20, 14.1, 13], "PR"), ([20, 14.1, 19], "SD"), ([20, 0, 4], "CR"), ([20, 26, 10], "PD"),
        ([20, "ne", "ne"], "NE"), ([20, 18, 24], "SD"), ([20, (20, 9), 10], "SD"),
    ],
)  # fmt: skip
def test_response_is_from_its_own_size_before_treatment_up_to_failure(sizes, best):
    assert one({"L001": sizes}, (0, 60, 120))["best_response"] == best


def test_a_lesion_not_seen_before_its_treatment_cannot_fail():
    row = one({"L001": [None, None, 10, 20, 20]})
    assert (row["local_failure"], row["censored_reason"], row["censored_day"]) == (None, "no_pretreatment", 0)
    assert (row["best_response"], row["pretreatment_session"]) == ("NE", None)


# --- censoring -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "participant", "reason", "day"),
    [
        ([20, 10, 10], {}, "last_scan", 120), ([20, 10, "ne"], {}, "not_measurable", 60),
        ([20, "ne", 10], {}, "last_scan", 120), ([20, "ne", "ne"], {}, "not_measurable", 0),
        ([20, 10, 10], {"death_day": "300"}, "death", 300), ([20, 10, 10], {"death_day": "n/a"}, "last_scan", 120),
    ],
)  # fmt: skip
def test_without_failure_a_lesion_is_censored_where_it_was_last_measured(sizes, participant, reason, day):
    row = one({"L001": sizes}, (0, 60, 120), participant=participant)
    assert (row["local_failure"], row["censored_reason"], row["censored_day"]) == (False, reason, day)
    assert row["time_to_local_failure_days"] == day


def test_without_a_scan_after_treatment_there_is_no_followup():
    row = one({"L001": [20, 20]}, (0, 60), given=[("t1", "srs", 60)])
    assert (row["censored_reason"], row["censored_day"], row["time_to_local_failure_days"]) == ("no_followup", 60, 0)
    assert (row["best_response"], row["nadir_ld_mm"]) == ("NE", 20)
    row = one({"L001": [20, 20, None]}, (0, 60, 90), given=[("t1", "srs", 60)], evaluable=[True, True, False])
    assert row["censored_reason"] == "no_followup"


def test_a_lesion_treated_again_is_followed_from_each_treatment():
    found, *_ = follow(
        {"L001": [20, 10, 11, 18, 18]}, given=[("a", "srs", 0), ("b", "fsrt", 120), ("c", "srs", 0, "L9")]
    )
    rows = found.set_index(["treatment_id", "track_id"])
    first, second = rows.loc[("a", "L001")], rows.loc[("b", "L001")]
    assert (first["censored_reason"], first["censored_day"], first["salvage_day"]) == ("retreatment", 120, 120)
    assert (second["pretreatment_ld_mm"], second["local_failure_day"]) == (11, 180)
    assert second["time_to_local_failure_days"] == 60
    assert pd.isna(second["salvage_day"])


def test_a_failure_before_the_next_treatment_stays_one_later_growth_not():
    found, *_ = follow({"L001": [20, 10, 16, 10, 22]}, given=[("a", "srs", 0), ("b", "surgery", 121)])
    first, second = found.iloc[0], found.iloc[1]
    assert (first["local_failure_day"], first["salvage_day"]) == (120, 121)
    assert pd.isna(first["failure_confirmed"]), "what came later was after another treatment"
    assert second["local_failure_day"] == 240


# --- what cannot be measured ---------------------------------------------------------------------------------------


def test_a_missed_or_merged_lesion_is_no_nadir_and_its_carrier_no_failure():
    row = one({"L001": [20, "miss", 21, 20, 20]})
    assert (row["local_failure"], row["nadir_ld_mm"], row["nadir_ld_day"]) == (False, 20, 240)
    course = {"L001": [20, 30, 20, 20, 20], "L002": [10, "L001", 10, 10, "L001"]}
    found, *_ = follow(course, given=[("t1", "srs", 0, "L001", "L002")])
    assert found["local_failure"].tolist() == [False, False]
    assert found["nadir_ld_mm"].tolist() == [20, 10]
    assert found["censored_reason"].tolist() == ["not_measurable"] * 2
    assert found["censored_day"].tolist() == [180, 180]


def test_sizes_cut_alike_take_the_place_of_the_tables():
    course = {"L001": [20, 18, 30, 30, 30]}
    assert one(course)["local_failure_day"] == 120
    pairs = [
        ("ses-2", f"ses-{t}", "L001", 20, 19, ball(20), ball(19)) for t in (0, 1)
    ] + [(f"ses-{t}", f"ses-{u}", "L001", 21, 20, ball(21), ball(20)) for t in (3, 4) for u in range(t)]  # fmt: skip
    assert one(course, pairs=pairs)["local_failure"] is False
    assert one({"L001": [20, "miss", 20, 20, 20]}, pairs=[("ses-1", "ses-0", "L001", 40, 20, 9, 1)])[
        "local_failure"
    ] is False  # fmt: skip


def test_a_merged_lesion_is_judged_where_it_was_cut():
    course = {"L001": [20, 10, 20, 20, 20], "L002": [20, 10, "L001", "L001", "L001"]}
    pairs = [("ses-2", "ses-1", "L002", 16, 10, 2, 0.5)]
    row = one(course, given=[("t1", "srs", 0, "L002")], pairs=pairs)
    assert (row["local_failure_day"], row["failure_by"]) == (120, "diameter;volume")


def test_after_resection_what_enhances_in_the_cavity_counts():
    gone = {"ld_source": "ne", "ld_rano_mm": None, "vol_rano_ml": None}
    more = {(f"ses-{t}", "L001"): gone for t in (1, 2, 3)}
    row = one({"L001": [30, 0, 4, 6]}, (0, 60, 120, 180), given=[("t1", "surgery", 10)], more=more)
    assert (row["best_response"], row["nadir_ld_mm"], row["local_failure_day"]) == ("CR", 0, 180)


def test_a_lesion_left_out_by_a_reader_has_no_row():
    more = {(f"ses-{t}", "L001"): {"role": "excluded"} for t in range(5)}
    assert len(follow({"L001": [20] * 5}, more=more)[0]) == 0


# --- patients ------------------------------------------------------------------------------------------------------


def patient(course, *, new=(), participant=(), given=SRS, days=DAYS, t0=0, **more):
    cells = {(f"ses-{t}", track): {"new_lesion_status": status, "role": "new"} for t, track, status in new}
    treated, given, lesions, sessions = follow(
        course, days, given=given, participant=participant, more=cells, **more
    )  # fmt: skip
    row = dict.fromkeys(schema.columns("patients")) | {"participant_id": "sub-1", "t0_source": "treatment"}
    found = outcomes.complete_patients(
        schema.make_table([row], "patients"), treated, given, lesions, sessions, dict(participant), t0=t0
    )
    return {name: plain(value) for name, value in found.iloc[0].items()}


def test_a_distant_failure_dates_from_first_detection_of_a_new_lesion():
    course = {"L001": [20] * 5, "L002": [None, 4, 0, 0, 0], "L003": [None, None, 4, 6, 7], "L004": [None] * 3 + [9, 9]}
    new = [(1, "L002", "rejected"), (2, "L003", "confirmed"), (3, "L003", "confirmed"), (3, "L004", "definite")]
    row = patient(course, new=new)
    assert (row["distant_failure_day"], row["first_event"], row["first_event_day"]) == (120, "distant", 120)
    unsure = patient(course, new=[(2, "L003", "equivocal")])
    assert (unsure["distant_failure_day"], unsure["first_event"]) == (None, "none")


@pytest.mark.parametrize(
    ("local", "distant", "death", "event", "day"),
    [
        (False, False, "n/a", "none", 240), (False, False, "250", "death", 250), (True, False, "250", "local", 120),
        (False, True, "250", "distant", 120), (True, True, "n/a", "local", 120),
    ],
)  # fmt: skip
def test_the_first_event_is_the_first_of_those_that_compete(local, distant, death, event, day):
    course = {"L001": [20, 10, 16 if local else 10, 10, 10], "L002": [None, None, 9, 9, 9]}
    new = [(2, "L002", "definite")] if distant else []
    row = patient(course, new=new, participant={"death_day": death})
    assert (row["first_event"], row["first_event_day"]) == (event, day)


def test_days_given_count_from_the_start_of_treatment():
    participant = {"death_day": "400", "last_contact_day": "390", "leptomeningeal_day": "120.4"}
    row = patient({"L001": [20] * 5}, participant=participant, t0=10, given=[("t1", "srs", 10)])
    assert [row[f"{name}_day"] for name in ("death", "last_contact", "leptomeningeal")] == [390, 380, 110]
    assert patient({"L001": [20] * 5})["last_contact_day"] == 240


def test_salvage_is_any_radiation_or_surgery_after_the_first():
    given = [("t1", "srs", 0), ("t2", "srs", 0, "L002"), ("i", "immunotherapy", 10, None), ("w", "wbrt", 100, None)]
    assert patient({"L001": [20] * 5}, given=given)["salvage_day"] == 100
    assert patient({"L001": [20] * 5}, given=given[:3])["salvage_day"] is None


def test_a_start_that_follows_from_the_treatments_is_said():
    assert patient({"L001": [20] * 5}, participant={"treatment_start_from": "x"})["flags"] == "start_from_treatments"
    assert patient({"L001": [20] * 5})["flags"] is None


def test_t0_is_the_start_of_treatment_or_the_baseline():
    sessions = pd.DataFrame({"session_id": ["ses-1", "ses-2"], "days": [5.0, 65.0]})
    row = pd.DataFrame({"t0_source": ["treatment"], "baseline_session": ["ses-2"]})
    assert outcomes.start_day(row, sessions, {"treatment_start_day": "12"}) == 12
    assert outcomes.start_day(row.assign(t0_source="baseline"), sessions, {}) == 65
    assert math.isnan(outcomes.start_day(row.assign(t0_source=None, baseline_session=None), sessions, {}))


def test_a_patient_without_treatments_has_no_rows_and_all_other_outcomes():
    course = {"L001": [20] * 5, "L002": [None, None, 9, 9, 9]}
    row = patient(course, given=[], new=[(2, "L002", "definite")])
    assert (row["local_failure_day"], row["distant_failure_day"], row["salvage_day"]) == (None, 120, None)
    assert list(follow(course, given=[])[0]) == schema.columns("treated_lesions")


# --- incidence -----------------------------------------------------------------------------------------------------


def treated(*ends, who="sub-1"):
    """Rows that end on a day by failure (f), death (d) or censoring (c); u cannot fail."""
    rows = []
    for n, (day, how) in enumerate(ends):
        row = dict.fromkeys(schema.columns("treated_lesions")) | {"participant_id": who, "treatment_id": f"t{n}"}
        row |= {"track_id": "L001", "time_to_local_failure_days": day, "local_failure": how == "f"}
        row["censored_reason"] = {"d": "death", "c": "last_scan", "u": "no_pretreatment"}.get(how)
        rows.append(row | ({"local_failure": None} if how == "u" else {}))
    return schema.make_table(rows, "treated_lesions")


PATIENTS = pd.DataFrame({"participant_id": ["sub-1"]})


def test_the_incidence_is_that_of_aalen_and_johansen_by_hand():
    curve = outcomes.incidence(
        treated((10, "f"), (20, "d"), (30, "c"), (40, "f"), (40, "d"), (50, "c"), (0, "u")), PATIENTS
    )
    assert curve["day"].tolist() == [0, 10, 20, 30, 40, 50]
    assert curve["n_at_risk"].tolist() == [6, 6, 5, 4, 3, 1]
    # Free of any event just before: 1, 5/6, 4/6, 4/6; of three at risk on day 40 one fails: + 4/6 * 1/3.
    by_hand = [0, 1 / 6, 1 / 6, 1 / 6, 1 / 6 + 2 / 9, 1 / 6 + 2 / 9]
    assert curve["local_failure"].tolist() == pytest.approx(by_hand)
    # Without competing events before it, the variance is Greenwood's: S^2 d / (n (n - d)) = (5/6)^2 / (6 * 5).
    low, high = curve.loc[1, ["low", "high"]]
    spread = 1.959964 * math.sqrt((5 / 6) ** 2 / 30) / (1 / 6 * math.log(1 / 6))
    assert (low, high) == pytest.approx(((1 / 6) ** math.exp(-spread), (1 / 6) ** math.exp(spread)))
    assert curve["low"].isna().tolist() == [True] + [False] * 5


def test_death_is_no_censoring():
    """Censored instead of dead, the two would count on: 1 - (5/6)(1/2) in place of the 1/2 that really failed."""
    died = outcomes.incidence(treated((10, "f"), (20, "d"), (20, "d"), (20, "d"), (30, "f"), (40, "c")), PATIENTS)
    assert died["local_failure"].iloc[-1] == pytest.approx(1 / 6 + 3 / 6 * 1 / 3 * 1)
    lost = outcomes.incidence(treated((10, "f"), (20, "c"), (20, "c"), (20, "c"), (30, "f"), (40, "c")), PATIENTS)
    assert lost["local_failure"].iloc[-1] == pytest.approx(1 - 5 / 6 * 1 / 2)


def test_a_curve_without_failures_or_lesions_is_flat_or_empty():
    flat = outcomes.incidence(treated((10, "d"), (20, "c")), PATIENTS)
    assert flat["local_failure"].tolist() == [0, 0, 0]
    assert flat["n_at_risk"].tolist() == [2, 2, 1]
    for none in (treated(), treated((0, "u")), treated((10, "f"), who="sub-2")):
        curve = outcomes.incidence(none, PATIENTS)
        assert (len(curve), list(curve)) == (0, ["day", "local_failure", "low", "high", "n_at_risk"])


def test_all_fail_and_the_curve_ends_at_one():
    curve = outcomes.incidence(treated((10, "f"), (20, "f")), PATIENTS)
    assert curve["local_failure"].tolist() == pytest.approx([0, 0.5, 1])
    assert np.isfinite(curve.loc[1, ["low", "high"]].astype(float)).all()
