import json

import numpy as np
import pandas as pd
import pytest
from conftest import write_bids, write_scan
from mettrail import cohort
from mettrail.errors import InputError

CE = "ce-gadolinium_T1w"


def index(bids, out, **changes):
    settings = {
        "reference": CE,
        "sequences": ["T1w", "T2w", "FLAIR"],
        "labels_folder": "",
        "labels_sessions": [],
        "edits": "",
    }
    return cohort.load_cohort(bids, out, **(settings | changes)).set_index(["sub", "ses"])


def dated(**days):
    return {ses[1:]: {"acq_time": f"2021-{day}T10:00:00"} for ses, day in days.items()}


def test_visits_are_ordered_by_date_and_never_by_folder_name(tmp_path):
    bids = write_bids(
        tmp_path / "bids", {"A": {"b": [CE], "a": [CE], "c": [CE]}},
        {"A": dated(_a="03-01", _b="01-01", _c="02-01")},
    )  # fmt: skip
    table = index(bids, tmp_path / "out")
    assert table.loc["A", "prior"].to_dict() == {"b": "n/a", "c": "b", "a": "c"}
    assert table.loc["A", "days"].to_dict() == {"b": "0", "c": "31", "a": "59"}


def test_undated_visits_are_ordered_by_label_and_flagged(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"10": [CE], "2": [CE]}})
    table = index(bids, tmp_path / "out")
    assert list(table.index.get_level_values("ses")) == ["2", "10"]
    assert (table["flags"] == "no_dates").all()
    assert (table["days"] == "n/a").all()


def test_days_serve_where_there_are_no_dates(tmp_path):
    bids = write_bids(
        tmp_path / "bids", {"A": {"1": [CE], "2": [CE]}},
        {"A": {"1": {"days_from_baseline": "90"}, "2": {"days_from_baseline": "-7"}}},
    )  # fmt: skip
    table = index(bids, tmp_path / "out")
    assert table.loc[("A", "1"), "prior"] == "2"
    assert table.loc[("A", "2"), "days"] == "-7"


def test_a_patient_with_one_visit_has_no_prior(tmp_path):
    table = index(write_bids(tmp_path / "bids", {"A": {"1": [CE]}}), tmp_path / "out")
    assert table.loc[("A", "1"), ["usable", "prior"]].tolist() == ["true", "n/a"]


def test_a_visit_without_contrast_is_kept_with_its_reason_and_is_nobodys_prior(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": ["T1w"], "3": [CE]}})
    table = index(bids, tmp_path / "out")
    assert table.loc[("A", "2"), ["usable", "reason"]].tolist() == ["false", "no_contrast"]
    assert "found: T1w" in table.loc[("A", "2"), "detail"]
    assert table.loc[("A", "3"), "prior"] == "1"


def test_two_scans_for_one_role_are_not_chosen_between(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE]}})
    write_scan(bids / "sub-A/ses-1/anat/sub-A_ses-1_acq-late_ce-gadolinium_T1w.nii.gz")
    table = index(bids, tmp_path / "out")
    assert table.loc[("A", "1"), "reason"] == "ambiguous_scan"
    assert "acq-late" in table.loc[("A", "1"), "detail"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (np.random.default_rng(0).random((4, 5, 6, 2), dtype=np.float32), "not_3d"),
        (np.full((4, 5, 6), np.nan, np.float32), "not_finite"),
    ],
)
def test_a_scan_that_cannot_be_used_takes_out_its_visit_alone(tmp_path, data, reason):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": [CE], "3": [CE]}, "B": {"1": [CE]}})
    write_scan(bids / f"sub-A/ses-2/anat/sub-A_ses-2_{CE}.nii.gz", data)
    table = index(bids, tmp_path / "out")
    assert table["usable"].tolist() == ["true", "false", "true", "true"]
    assert table.loc[("A", "2"), "reason"] == reason
    assert f"sub-A_ses-2_{CE}.nii.gz" in table.loc[("A", "2"), "detail"]
    assert table.loc[("A", "3"), "prior"] == "1"


def test_a_bad_extra_sequence_is_left_out_and_the_visit_stays(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE, "FLAIR"]}})
    write_scan(bids / "sub-A/ses-1/anat/sub-A_ses-1_FLAIR.nii.gz", np.zeros((3, 4, 5), np.float32))
    table = index(bids, tmp_path / "out")
    assert table.loc[("A", "1"), ["usable", "FLAIR", "flags"]].tolist() == ["true", "n/a", "FLAIR_empty_scan;no_dates"]


def test_given_labels_are_found_and_checked(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": [CE]}})
    labels = tmp_path / "masks"
    for ses, shape in (("1", (9, 10, 11)), ("2", (9, 10, 12))):
        write_scan(labels / f"sub-A/ses-{ses}/anat/sub-A_ses-{ses}_dseg.nii.gz", np.ones(shape, np.uint8))
    table = index(bids, tmp_path / "out", labels_folder=str(labels))
    assert table.loc[("A", "1"), "usable"] == "true"
    assert table.loc[("A", "1"), "labels"].endswith("sub-A_ses-1_dseg.nii.gz")
    assert table.loc[("A", "2"), "reason"] == "grid_mismatch"
    only = index(bids, tmp_path / "out", labels_folder=str(labels), labels_sessions=["1"])
    assert only["labels"].ne("n/a").tolist() == [True, False]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        index(tmp_path / "nowhere", tmp_path / "out")


def test_corrections_by_people_win(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": [CE]}})
    edits = tmp_path / "edits.tsv"
    edits.write_text("sub\tses\tcolumn\tvalue\nA\t1\tusable\tfalse\n")
    table = index(bids, tmp_path / "out", edits=str(edits))
    assert table.loc[("A", "1"), ["usable", "reason"]].tolist() == ["false", "excluded_by_reader"]
    edits.write_text("sub\tses\tcolumn\tvalue\nA\t7\tusable\tfalse\n")
    with pytest.raises(InputError, match="ses-7"):
        index(bids, tmp_path / "out", edits=str(edits))


def test_the_dataset_is_indexed_again_only_when_it_changed(tmp_path, monkeypatch):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE]}})
    index(bids, tmp_path / "out")
    calls = []
    original = cohort.scans.find_scans
    monkeypatch.setattr(cohort.scans, "find_scans", lambda folder: calls.append(folder) or original(folder))
    index(bids, tmp_path / "out")
    assert not calls
    write_bids(bids, {"A": {"2": [CE]}})
    assert len(index(bids, tmp_path / "out")) == 2
    assert len(calls) == 1


def test_a_failed_visit_steps_aside_for_the_others(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": [CE], "3": [CE]}})
    index(bids, tmp_path / "out")
    failures = tmp_path / "unfinished.tsv"
    row = {"sub": "A", "ses": "2", "stage": "strip", "reason": "error", "detail": "x", "log": "strip.log"}
    pd.DataFrame([row]).to_csv(failures, sep="\t", index=False)
    table = cohort.without_unfinished(cohort.read_cohort(tmp_path / "out" / "cohort.tsv"), str(failures))
    table = table.set_index(["sub", "ses"])
    assert table.loc[("A", "2"), ["usable", "reason"]].tolist() == ["false", "failed_strip"]
    assert table.loc[("A", "3"), "prior"] == "1"


def test_the_start_of_treatment_is_put_on_the_visits_time_axis(tmp_path):
    bids = write_bids(
        tmp_path / "bids", {"A": {"1": [CE], "2": [CE]}, "B": {"1": [CE]}, "C": {"1": [CE]}},
        {"A": dated(_1="01-01", _2="03-01"), "B": {"1": {"days_from_treatment": "-4"}}, "C": dated(_1="01-01")},
    )  # fmt: skip
    (bids / "participants.tsv").write_text("participant_id\ttreatment_start_date\nsub-A\t2021-01-15\nsub-B\tn/a\n")
    table = index(bids, tmp_path / "out")
    assert table["treatment_start_day"].tolist() == ["14", "14", "0", "n/a"]
    people = cohort.read_participants(bids, cohort.read_cohort(tmp_path / "out" / "cohort.tsv"))
    assert people["A"]["treatment_start_day"] == "14"
    assert people["C"] == {"participant_id": "sub-C", "treatment_start_day": "n/a"}


def test_a_visit_whose_date_cannot_be_read_is_left_out_and_the_others_stay_dated(tmp_path):
    days = {"1": {"acq_time": "2021-01-01"}, "2": {"acq_time": "spring 2021"}, "3": {"acq_time": "2021-04-01"}}
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": [CE], "3": [CE]}}, {"A": days})
    table = index(bids, tmp_path / "out")
    assert table["days"].to_dict() == {("A", "1"): "0", ("A", "3"): "90", ("A", "2"): "n/a"}
    assert table.loc[("A", "2"), ["usable", "reason"]].tolist() == ["false", "bad_date"]
    said = "sub-A_sessions.tsv, line 3, ses-2: found acq_time 'spring 2021', expected an ISO"
    assert said in table.loc[("A", "2"), "detail"]
    assert table.loc[("A", "3"), "prior"] == "1"
    assert table["flags"].tolist() == ["n/a"] * 3


@pytest.mark.parametrize("day", ["tomorrow", "4,5", "inf"])
def test_a_day_must_be_a_number(tmp_path, day):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE]}}, {"A": {"1": {"days_from_baseline": day}}})
    row = index(bids, tmp_path / "out").loc[("A", "1")]
    assert row["reason"] == "bad_date"
    assert f"days_from_baseline '{day}'" in row["detail"]


def test_a_missing_date_is_said_once_and_nothing_is_lost(tmp_path):
    days = {"1": {"acq_time": "2021-01-01"}, "2": {"acq_time": "n/a"}, "3": {"acq_time": "2021-04-01"}}
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": [CE], "3": [CE]}}, {"A": days})
    table = index(bids, tmp_path / "out")
    assert table["usable"].tolist() == ["true"] * 3
    problems = cohort.list_problems(table.reset_index().to_dict("records"))
    assert [(p["ses"], p["stage"], p["reason"]) for p in problems] == [("1", "doubt", "no_dates")]
    assert "sub-A_sessions.tsv: no acq_time for ses-2; expected acq_time" in problems[0]["detail"]


def test_two_visits_of_one_date_are_kept_and_said_to_be_doubtful(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": [CE], "3": [CE]}},
                      {"A": dated(_1="01-01", _3="02-01", _2="02-01")})  # fmt: skip
    table = index(bids, tmp_path / "out")
    assert table.index.tolist() == [("A", "1"), ("A", "2"), ("A", "3")]
    assert table["flags"].tolist() == ["n/a", "same_date", "same_date"]
    problems = cohort.list_problems(table.reset_index().to_dict("records"))
    assert [p["ses"] for p in problems] == ["2", "3"]
    assert "ses-2 and ses-3 have one date" in problems[0]["detail"]


@pytest.mark.parametrize(
    ("start", "day", "flag"),
    [
        ("2021-01-01", "0", "n/a"),
        ("2020-12-31", "-1", "treatment_before_scans"),
        ("January", "n/a", "bad_cell"),
    ],
)
def test_a_treatment_that_began_before_the_first_scan_is_doubtful(tmp_path, start, day, flag):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": [CE]}}, {"A": dated(_1="01-01", _2="03-01")})
    (bids / "participants.tsv").write_text(f"participant_id\ttreatment_start_date\nsub-A\t{start}\n")
    table = index(bids, tmp_path / "out")
    assert table["treatment_start_day"].tolist() == [day] * 2
    assert table["flags"].tolist() == [flag, "n/a"]


def test_a_date_of_treatment_without_dates_of_visits_is_doubtful(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE]}}, {"A": {"1": {"days_from_baseline": "0"}}})
    (bids / "participants.tsv").write_text("participant_id\ttreatment_start_date\nsub-A\t2021-01-01\n")
    assert index(bids, tmp_path / "out")["flags"].tolist() == ["treatment_date_unused"]


def test_a_dataset_without_anybody_gives_an_empty_table(tmp_path):
    assert index(write_bids(tmp_path / "bids", {}), tmp_path / "out").empty
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(InputError, match="no dataset_description"):
        index(tmp_path / "elsewhere", tmp_path / "out2")


def registry(folder, sub, ses, reference):
    path = folder / f"sub-{sub}/ses-{ses}/anat/sub-{sub}_ses-{ses}_desc-lesions_registry.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"reference": {"session_id": reference}}))
    return str(path)


def test_what_an_earlier_run_has_settled_is_found_by_patient(tmp_path):
    paths = [registry(tmp_path / "old", "A", ses, "ses-2") for ses in ("2", "3")]
    settled = cohort.find_registries(str(tmp_path / "old"), tmp_path / "out")
    assert settled["A"].reference == "ses-2"
    assert settled["A"].registries == paths
    assert settled["A"].trajectories.endswith("sub-A/sub-A_desc-lesions_trajectories.tsv")
    assert cohort.find_registries("", tmp_path / "out") == {}
    for folder in ("nowhere", "old"):
        with pytest.raises(InputError, match="frozen"):
            cohort.find_registries(str(tmp_path / folder), tmp_path / "old")


def test_readers_tables_are_found_and_must_be_of_the_cohort(tmp_path):
    path = tmp_path / "sub-A" / "sub-A_desc-lesions_overrides.tsv"
    path.parent.mkdir()
    path.write_text("session_id\ttrack_id\tfield\tvalue\n")
    assert cohort.find_overrides(tmp_path, ["A", "B"]) == {"A": str(path)}
    with pytest.raises(InputError, match="decisions on sub-A"):
        cohort.find_overrides(tmp_path, ["B"])
    with pytest.raises(InputError, match="no such folder"):
        cohort.find_overrides(tmp_path / "nowhere", ["A"])


def test_labels_that_are_none_of_ours_take_out_their_visit_alone(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": [CE]}})
    for ses, label in (("1", 3), ("2", 4)):
        data = np.full((9, 10, 11), label, np.uint8)
        write_scan(tmp_path / f"masks/sub-A/ses-{ses}/anat/sub-A_ses-{ses}_dseg.nii.gz", data)
    table = index(bids, tmp_path / "out", labels_folder=str(tmp_path / "masks"))
    assert table["usable"].tolist() == ["true", "false"]
    assert "sub-A_ses-2_dseg.nii.gz" in table.loc[("A", "2"), "detail"]
    assert "4" in table.loc[("A", "2"), "detail"]


def test_a_participant_with_two_rows_is_refused(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE]}})
    (bids / "participants.tsv").write_text("participant_id\tsplit\nsub-A\ttrain\nsub-A\ttest\n")
    with pytest.raises(InputError, match="more than one row for sub-A"):
        index(bids, tmp_path / "out")
