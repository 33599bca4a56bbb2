import json
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import write_bids, write_scan
from indexing import dated, index, load
from mettrail import cohort, jobs
from mettrail.cohort import scans
from mettrail.cohort.chosen import choose
from mettrail.errors import InputError

CE = "ce-gadolinium_T1w"


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


def test_a_session_without_contrast_keeps_its_reason_and_is_no_prior(tmp_path):
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
    assert "FLAIR is not used: " in table.loc[("A", "1"), "detail"]
    assert "sub-A_ses-1_FLAIR.nii.gz" in table.loc[("A", "1"), "detail"]


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
    monkeypatch.setattr(cohort.scans, "find_scans", lambda *given: calls.append(given) or original(*given))
    index(bids, tmp_path / "out")
    assert not calls
    write_bids(bids, {"A": {"2": [CE]}})
    assert len(index(bids, tmp_path / "out")) == 2
    assert len(calls) == 1


def test_a_failed_visit_is_not_usable_and_the_others_are(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": [CE], "3": [CE]}, "B": {"2": [CE]}})
    rows = index(bids, tmp_path / "out").reset_index().to_dict("records")
    failure = jobs.NoResult("A", "2", "strip", "error", "x", "strip.log")
    marked = cohort.mark_failed(rows, [failure])
    assert [row["usable"] for row in marked] == ["true", "false", "true", "true"]
    assert (marked[1]["reason"], marked[1]["detail"]) == ("failed_strip", "x (log: strip.log)")
    assert [row["usable"] for row in rows] == ["true"] * 4, "what was given is left as it is"
    of_patient = cohort.mark_failed(rows, [jobs.NoResult("A", None, "assess", "error", "x", "a.log")])
    assert [row["usable"] for row in of_patient] == ["false"] * 3 + ["true"]


def test_the_start_of_treatment_is_put_on_the_visits_time_axis(tmp_path):
    bids = write_bids(
        tmp_path / "bids", {"A": {"1": [CE], "2": [CE]}, "B": {"1": [CE]}, "C": {"1": [CE]}},
        {"A": dated(_1="01-01", _2="03-01"), "B": {"1": {"days_from_treatment": "-4"}}, "C": dated(_1="01-01")},
    )  # fmt: skip
    (bids / "participants.tsv").write_text("participant_id\ttreatment_start_date\nsub-A\t2021-01-15\nsub-B\tn/a\n")
    table = index(bids, tmp_path / "out")
    assert table["treatment_start_day"].tolist() == ["14", "14", "0", "n/a"]
    people = cohort.read_cohort(tmp_path / "out").participants
    assert people["A"]["treatment_start_day"] == "14"
    unknown = dict.fromkeys(("treatment_start_day", "death_day", "last_contact_day", "leptomeningeal_day"), "n/a")
    assert people["C"] == {"participant_id": "sub-C"} | unknown


def test_a_session_with_an_unreadable_date_is_excluded_and_no_other(tmp_path):
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
    assert [(p["ses"], p["stage"], p["reason"]) for p in problems] == [("1", "warning", "no_dates")]
    assert "sub-A_sessions.tsv: no acq_time for ses-2; expected acq_time" in problems[0]["detail"]


def test_two_sessions_of_one_date_are_kept_with_a_warning(tmp_path):
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
def test_a_treatment_that_began_before_the_first_scan_has_a_warning(tmp_path, start, day, flag):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": [CE]}}, {"A": dated(_1="01-01", _2="03-01")})
    (bids / "participants.tsv").write_text(f"participant_id\ttreatment_start_date\nsub-A\t{start}\n")
    table = index(bids, tmp_path / "out")
    assert table["treatment_start_day"].tolist() == [day] * 2
    assert table["flags"].tolist() == [flag, "n/a"]


def test_a_date_of_treatment_without_dates_of_sessions_has_a_warning(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE]}}, {"A": {"1": {"days_from_baseline": "0"}}})
    (bids / "participants.tsv").write_text("participant_id\ttreatment_start_date\nsub-A\t2021-01-01\n")
    assert index(bids, tmp_path / "out")["flags"].tolist() == ["treatment_date_unused"]


def test_a_dataset_without_anybody_gives_an_empty_table(tmp_path):
    assert index(write_bids(tmp_path / "bids", {}), tmp_path / "out").empty
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "above").mkdir()
    (tmp_path / "above/dataset_description.json").write_text("{}")
    three(tmp_path / "above/rawdata")
    with pytest.raises(InputError, match="but rawdata/sub-A"):
        index(tmp_path / "above", tmp_path / "out3")
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
    for ses, label in (("1", 1), ("2", 4)):
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


# Whose scan it is


def three(folder, **tables):
    """Write a dataset of patients A and B with two visits each."""
    return write_bids(folder, {"A": {"1": [CE], "2": [CE]}, "B": {"1": [CE], "2": [CE]}}, tables or None)


def left(found):
    return {(item["what"], item["sub"], item["reason"]) for item in found.not_used}


@pytest.mark.parametrize("above", ["pet", "func", "perf", "motion", "sub-study", "ses-9", "derivatives", "sub-X/anat"])
def test_names_above_the_dataset_do_not_matter(tmp_path, above):
    table = index(three(tmp_path / above / "bids"), tmp_path / "out")
    assert table.index.tolist() == [("A", "1"), ("A", "2"), ("B", "1"), ("B", "2")]
    assert table["usable"].eq("true").all()
    assert table.loc[("B", "2"), "reference"] == f"sub-B/ses-2/anat/sub-B_ses-2_{CE}.nii.gz"


@pytest.mark.parametrize(
    ("path", "sub", "reason"),
    [
        ("excluded/sub-A/ses-3/anat/sub-A_ses-3_{}", "A", "wrong_folder"),
        ("rawdata_old/sub-A/ses-3/anat/sub-A_ses-3_{}", "A", "wrong_folder"),
        ("sub-A/excluded/ses-3/anat/sub-A_ses-3_{}", "A", "wrong_folder"),
        ("sub-A/excluded/sub-A_ses-3_{}", "A", "wrong_folder"),
        ("sub-A/ses-2/anat/old/sub-A_ses-2_{}", "A", "wrong_folder"),
        ("sub-A/ses-2/sub-A_ses-2_{}", "A", "wrong_folder"),
        ("sub-A/ses-2/func/sub-A_ses-2_{}", "A", "wrong_folder"),
        ("sub-A/ses-2/Anat/sub-A_ses-2_{}", "A", "wrong_folder"),
        ("sub-A_ses-2_{}", "A", "wrong_folder"),
        ("template/anat/T1w.nii.gz", "n/a", "wrong_folder"),
        ("template/anat/sub-C_ses-1_{}", "C", "wrong_folder"),
        ("sub-A/ses-2/anat/sub-B_ses-2_{}", "A", "name_disagrees"),
        ("sub-A/ses-2/anat/sub-A_ses-1_{}", "A", "name_disagrees"),
        ("sub-A/ses-2/anat/sub-A_{}", "A", "name_disagrees"),
        ("sub-A/anat/sub-A_ses-2_{}", "A", "name_disagrees"),
        ("sub-A/anat/sub-A_{}", "A", "wrong_folder"),
        ("sub-A/ses-2/anat/sub-A-B_ses-2_{}", "A", "bad_label"),
        ("sub-A/ses-2/anat/._sub-A_ses-2_{}", "A", "hidden_file"),
        ("sub-A/ses-2/anat/T1.nii.gz", "A", "not_a_bids_name"),
        ("sub-A/ses-2/anat/sub-A_ses-2_mood-good_{}", "A", "not_a_bids_name"),
        ("sub-A/ses-2/anat/sub-A_ses-2_acq-a.b_{}", "A", "not_a_bids_name"),
        ("sub-A/ses-2/anat/sub-A_ses-2_run-1_run-2_{}", "A", "not_a_bids_name"),
        ("sub-A/ses-2/anat/sub-A_ses-2_T1w_Crop_1.nii.gz", "A", "not_a_bids_name"),
        ("sub-A/ses-2/anat/sub-A_ses-2_T1w__dup-01.nii.gz", "A", "not_a_bids_name"),
        ("sub-A/ses-2/anat/sub-A_ses-2_T1w (1).nii.gz", "A", "not_a_bids_name"),
        ("sub-A/ses-2/anat/sub-A_ses-2_T1w.NII.GZ", "A", "not_a_bids_name"),
        ("sub-A/ses-2/anat/sub-A_ses-2_T2star.nii.gz", "A", "no_role"),
        ("sub-A/ses-2/anat/sub-A_ses-2_ce-other_T1w.nii.gz", "A", "no_role"),
    ],
)
def test_a_scan_out_of_place_changes_nothing_and_is_listed(tmp_path, path, sub, reason):
    before = index(three(tmp_path / "bids"), tmp_path / "out")
    path = path.format(f"{CE}.nii.gz")
    target = tmp_path / "bids" / path
    target.parent.mkdir(parents=True, exist_ok=True)
    # Content that nobody could read: where it has no role nobody tries.
    target.write_bytes(b"no scan")
    found = load(tmp_path / "bids", tmp_path / "out")
    assert left(found) == {(path, sub, reason)}
    assert found.sessions.set_index(["sub", "ses"]).equals(before)


@pytest.mark.parametrize("path", ["derivatives/x", "sourcedata/x", "code", ".git/annex/objects", "sub-A/ses-1/dwi"])
def test_what_lies_where_it_belongs_is_passed_over(tmp_path, path):
    bids = three(tmp_path / "bids")
    (bids / path).mkdir(parents=True)
    (bids / path / "sub-A_ses-1_dwi.nii.gz").write_bytes(b"no scan")
    (bids / path / "gone.nii.gz").symlink_to("nowhere")
    found = load(bids, tmp_path / "out")
    assert found.not_used == []
    assert found.sessions["usable"].eq("true").all()


@pytest.mark.parametrize("label", ["PAT_001", "01-B", "A-1", "A.1", "A 1", "A+1", "Ä", "é"])
def test_a_patient_with_a_bad_label_is_out_and_no_other(tmp_path, label):
    bids = write_bids(three(tmp_path / "bids"), {label: {"1": [CE], "2": [CE]}, "PAT": {"1": [CE]}})
    found = load(bids, tmp_path / "out")
    table = found.sessions.set_index(["sub", "ses"])
    assert table.loc[label, "reason"].tolist() == ["bad_label", "bad_label"]
    assert f"sub-{label}" in table.loc[(label, "1"), "detail"]
    assert table.drop(index=label, level="sub")["usable"].eq("true").all()
    assert list(found.participants) == ["A", "B", "PAT"]


@pytest.mark.parametrize("label", ["2031-01-01", "0_1", "1+"])
def test_a_session_with_a_bad_label_is_out_and_no_other(tmp_path, label):
    bids = write_bids(three(tmp_path / "bids"), {"A": {label: [CE], "2031": [CE]}})
    table = index(bids, tmp_path / "out")
    assert table.loc[("A", label), ["usable", "reason"]].tolist() == ["false", "bad_label"]
    assert table.drop(index=("A", label))["usable"].eq("true").all()
    assert label not in set(table["prior"])


def test_a_dataset_of_single_visits_has_a_session_called_1(tmp_path):
    (tmp_path / "bids").mkdir()
    (tmp_path / "bids/dataset_description.json").write_text("{}")
    for sub in ("A", "B"):
        write_scan(tmp_path / f"bids/sub-{sub}/anat/sub-{sub}_{CE}.nii.gz")
    (tmp_path / "bids/sub-C").mkdir()
    table = index(tmp_path / "bids", tmp_path / "out")
    assert table.index.tolist() == [("A", "1"), ("B", "1"), ("C", "1")]
    assert table["reason"].tolist() == ["n/a", "n/a", "no_contrast"]


@pytest.mark.parametrize("name", ["sub-A_ses-2_run-1_acq-x_ce-gadolinium_T1w", "sub-A_ce-gadolinium_ses-2_rec-a+b_T1w"])
def test_entities_come_in_any_order(tmp_path, name):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE]}})
    write_scan(bids / f"sub-A/ses-2/anat/{name}.nii")
    assert index(bids, tmp_path / "out").loc[("A", "2"), "reference"].endswith(f"{name}.nii")


def test_entities_are_those_of_the_standard():
    assert {"sub", "ses", "ce", "acq", "rec", "run", "part", "echo"} <= scans.known_entities()
    assert {"anat", "func", "dwi", "fmap", "perf", "pet"} <= scans.known_datatypes()


@pytest.mark.parametrize(
    ("lines", "gone"),
    [
        ("sub-A/ses-2/\n", True),
        ("**/sub-A_ses-2*\n", True),
        ("*.nii.gz\n!sub-A_ses-1*\n!sub-B*\n", True),
        ("\ufeff# a comment\r\n/sub-A/ses-2/\r\n", True),
        ("ses-2.txt\n", False),
        ("/ses-2/\n", False),
    ],
)
def test_bidsignore_is_read_like_a_gitignore(tmp_path, lines, gone):
    bids = three(tmp_path / "bids")
    (bids / ".bidsignore").write_bytes(lines.encode())
    found = load(bids, tmp_path / "out")
    table = found.sessions.set_index(["sub", "ses"])
    assert (("A", "2") not in table.index or table.loc[("A", "2"), "usable"] == "false") == gone
    assert table["usable"].tolist().count("true") == 4 - gone
    assert left(found) == ({(f"sub-A/ses-2/anat/sub-A_ses-2_{CE}.nii.gz", "A", "bidsignored")} if gone else set())


@pytest.mark.parametrize(
    ("level", "below"),
    [
        ("sub-A", "ses-2/anat"),
        ("sub-A/ses-2", "anat"),
        ("sub-A/ses-2/anat", "."),
        (f"sub-A/ses-2/anat/sub-A_ses-2_{CE}.nii.gz", None),
    ],
)
def test_links_count_as_what_they_point_to(tmp_path, level, below):
    before = index(three(tmp_path / "bids"), tmp_path / "out")
    elsewhere = tmp_path / "elsewhere" / level.rpartition("/")[2]
    elsewhere.parent.mkdir()
    (tmp_path / "bids" / level).rename(elsewhere)
    (tmp_path / "bids" / level).symlink_to(elsewhere)
    assert index(tmp_path / "bids", tmp_path / "out").equals(before)
    if below:
        write_scan(elsewhere / below / "sub-A_ses-2_FLAIR.nii.gz")
        assert index(tmp_path / "bids", tmp_path / "out").loc[("A", "2"), "FLAIR"].endswith("FLAIR.nii.gz")


def test_links_in_a_circle_come_to_an_end(tmp_path):
    bids = three(tmp_path / "bids")
    (bids / "sub-C").symlink_to(bids)
    (bids / "sub-A/ses-3").symlink_to("..")
    (bids / "sub-A/ses-2/anat/up").symlink_to(bids)
    (bids / "self").symlink_to("self")
    found = load(bids, tmp_path / "out")
    table = found.sessions.set_index(["sub", "ses"])
    assert table[table["usable"] == "true"].index.tolist() == [("A", "1"), ("A", "2"), ("B", "1"), ("B", "2")]
    assert ("sub-A/ses-2/anat/up", "A", "wrong_folder") in left(found)


def test_a_link_to_nothing_takes_out_its_own_session(tmp_path):
    bids = three(tmp_path / "bids")
    scan = bids / f"sub-A/ses-2/anat/sub-A_ses-2_{CE}.nii.gz"
    scan.unlink()
    scan.symlink_to("../../.git/annex/objects/XX/MD5E-s99.nii.gz")
    (bids / "sub-A/ses-1/anat/sub-A_ses-1_FLAIR.nii.gz").symlink_to("nowhere")
    (bids / "sub-A/ses-1/anat/sub-A_ses-1_PDw.nii.gz").symlink_to("nowhere")
    (bids / "sub-B/ses-3").symlink_to("nowhere")
    found = load(bids, tmp_path / "out")
    table = found.sessions.set_index(["sub", "ses"])
    assert table["reason"].tolist() == ["n/a", "unreadable", "n/a", "n/a", "no_contrast"]
    assert "datalad get" in table.loc[("A", "2"), "detail"]
    assert table.loc[("A", "1"), "flags"] == "FLAIR_unreadable;no_dates"
    assert left(found) == {
        ("sub-A/ses-1/anat/sub-A_ses-1_PDw.nii.gz", "A", "dangling_link"), ("sub-B/ses-3", "B", "dangling_link")
    }  # fmt: skip


def test_names_of_any_bytes_are_listed_in_one_line(tmp_path):
    bids = three(tmp_path / "bids")
    for name in (b"a\tb\nc.nii.gz", b"\xff\xfe.nii.gz", "größe.nii.gz".encode()):
        Path(os.fsdecode(os.fsencode(bids) + b"/" + name)).write_bytes(b"")
    load(bids, tmp_path / "out")
    lines = (tmp_path / "out/not_used.tsv").read_text().splitlines()
    assert len(lines) == 4
    assert {len(line.split("\t")) for line in lines} == {4}
    assert any(line.startswith("größe.nii.gz\t") for line in lines)


def test_many_files_of_one_kind_are_one_line(tmp_path):
    bids = three(tmp_path / "bids")
    for number in range(300):
        (bids / f"sub-A/ses-1/anat/._{number:03d}.nii.gz").write_bytes(b"")
    (bids / "sub-A/ses-1/anat/T1.nii.gz").write_bytes(b"")
    found = load(bids, tmp_path / "out")
    lines = cohort.describe_problems([], found.not_used)
    assert len(lines) == 2
    assert "NOT USED 300 times hidden_file: sub-A/ses-1/anat/._000.nii.gz, " in lines[0]
    assert "NOT USED sub-A/ses-1/anat/T1.nii.gz: not_a_bids_name" in lines[1]


def test_a_session_without_its_scan_names_what_was_not_taken(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": ["FLAIR"]}})
    write_scan(bids / "sub-A/ses-1/anat/sub-A_ses-1_ce-gadolinium_T1w_Crop_1.nii.gz")
    detail = index(bids, tmp_path / "out").loc[("A", "1"), "detail"]
    assert "Not taken: sub-A/ses-1/anat/sub-A_ses-1_ce-gadolinium_T1w_Crop_1.nii.gz (not_a_bids_name)" in detail


# What is kept


def state(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_what_is_kept_is_what_was_found(tmp_path):
    bids = three(tmp_path / "bids")
    (bids / "T1w.nii.gz").write_bytes(b"")
    found = load(bids, tmp_path / "out")
    kept = cohort.read_cohort(tmp_path / "out")
    assert kept.sessions.equals(found.sessions)
    assert kept.participants == found.participants
    assert kept.not_used == found.not_used
    assert (tmp_path / "out/not_used.tsv").read_text().splitlines()[0] == "what\tsub\treason\tdetail"
    before = state(tmp_path / "out")
    assert load(bids, tmp_path / "out").sessions.equals(found.sessions)
    assert state(tmp_path / "out") == before


# Where the reference scan of sub-A, ses-1 lies a second time, and the flags of the session there.
COPIES = {
    "the next session": ("A", "2", CE, "same_scan"),
    "another patient": ("B", "1", CE, "same_scan"),
    "the scan before the injection": ("A", "1", "T1w", "same_scan;T1w_same_scan"),
    "a sequence of the next session": ("A", "2", "T1w", "T1w_same_scan"),
}


@pytest.mark.parametrize("saved", ["as it is", "anew"])
@pytest.mark.parametrize("copy", COPIES)
def test_a_scan_that_is_a_copy_of_another_is_flagged_with_its_name(tmp_path, copy, saved):
    sub, ses, role, flags = COPIES[copy]
    roles = [CE, "T1w"]
    dates = {"1": {"acq_time": "2020-01-01T10:00:00"}, "2": {"acq_time": "2020-03-01T10:00:00"}}
    tree = {"A": {"1": roles, "2": roles}, "B": {"1": roles, "2": roles}}
    bids = write_bids(tmp_path / "bids", tree, {"A": dates, "B": dates})
    assert set(index(bids, tmp_path / "before")["flags"]) == {"n/a"}
    whole = bids / f"sub-A/ses-1/anat/sub-A_ses-1_{CE}.nii.gz"
    target = bids / f"sub-{sub}/ses-{ses}/anat/sub-{sub}_ses-{ses}_{role}.nii.gz"
    if saved == "as it is":
        shutil.copyfile(whole, target)
    else:
        image = nib.load(whole)
        write_scan(target, np.asarray(image.dataobj, np.float64), image.affine)
    for _ in range(2):  # the second time as it was kept
        table = index(bids, tmp_path / "out")
        expected = dict.fromkeys(table.index, "n/a") | {("A", "1"): "same_scan"} | {(sub, ses): flags}
        assert table["flags"].to_dict() == expected
        assert (table["usable"] == "true").all()
        assert target.name in table.loc[("A", "1"), "detail"]
        assert whole.name in table.loc[(sub, ses), "detail"]
        (tmp_path / "out/logs/index/cohort.json").unlink()


def test_copies_of_a_scan_that_is_not_used_are_no_matter(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE], "2": [CE]}}, {"A": dated(_1="01-01", _2="02-01")})
    anat = [bids / f"sub-A/ses-{ses}/anat/sub-A_ses-{ses}_{CE}.nii.gz" for ses in "12"]
    flat = np.ones((9, 10, 11), np.float32)
    for path in anat:
        write_scan(path, flat)
    assert set(index(bids, tmp_path / "out")["reason"]) == {"empty_scan"}
    assert set(index(bids, tmp_path / "out")["flags"]) == {"n/a"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"format": 0}', b"\xff", None])
@pytest.mark.parametrize("name", ["logs/index/cohort.json", "logs/index/checks.jsonl", "cohort.tsv", "not_used.tsv"])
def test_a_damaged_memory_counts_as_none(tmp_path, name, content):
    bids = three(tmp_path / "bids")
    found = load(bids, tmp_path / "out")
    path = tmp_path / "out" / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    if name.endswith("cohort.json"):
        with pytest.raises(InputError, match="Start snakemake again"):
            cohort.read_cohort(tmp_path / "out")
    assert load(bids, tmp_path / "out").sessions.equals(found.sessions)
    if not name.endswith("checks.jsonl"):
        assert path.read_bytes() == whole
    assert not list((tmp_path / "out").rglob("*.part"))


def test_an_index_that_was_stopped_goes_on(tmp_path, monkeypatch):
    bids = three(tmp_path / "bids")
    original, opened = cohort.check.read_image, []

    def stop(path):
        opened.append(path)
        if len(opened) == 3:
            raise KeyboardInterrupt
        return original(path)

    monkeypatch.setattr(cohort.check, "read_image", stop)
    monkeypatch.setattr(cohort.check, "READERS", 1)
    with pytest.raises(KeyboardInterrupt):
        load(bids, tmp_path / "out")
    assert load(bids, tmp_path / "out").sessions["usable"].eq("true").all()
    assert len(set(opened)) == 4
    assert len(opened) <= 6


def test_a_dry_run_writes_nothing(tmp_path):
    bids = three(tmp_path / "bids")
    found = load(bids, tmp_path / "out", keep=False)
    assert len(found.sessions) == 4
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda bids, masks: write_scan(bids / "sub-A/ses-1/anat/sub-A_ses-1_T2w.nii.gz"),
        lambda bids, masks: (bids / "sub-A/ses-1/anat/sub-A_ses-1_FLAIR.nii.gz").unlink(),
        lambda bids, masks: (bids / "sub-C").mkdir(),
        lambda bids, masks: (bids / "participants.tsv").write_text("participant_id\nsub-A\n"),
        lambda bids, masks: (bids / "sub-A/sub-A_sessions.tsv").write_text("session_id\tacq_time\nses-1\t2020-01-01\n"),
        lambda bids, masks: (bids / ".bidsignore").write_text("sub-A/\n"),
        lambda bids, masks: write_scan(masks / "sub-A/anat/sub-A_dseg.nii.gz", np.ones((9, 10, 11), np.uint8)),
    ],
)
def test_whatever_changes_in_the_dataset_makes_the_index_again(tmp_path, change):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE, "FLAIR"]}, "B": {"1": [CE]}})
    write_scan(tmp_path / "masks/sub-B/sub-B_mask.nii.gz", np.ones((9, 10, 11), np.uint8))
    before = state_of(bids, tmp_path)
    assert state_of(bids, tmp_path) == before
    change(bids, tmp_path / "masks")
    assert state_of(bids, tmp_path) != before


def state_of(bids, folder):
    load(bids, folder / "out", labels_folder=str(folder / "masks"))
    return json.loads((folder / "out/logs/index/cohort.json").read_text())["state"]


# Masks drawn by people


def drawn(path, shape=(9, 10, 11)):
    return write_scan(path, np.ones(shape, np.uint8))


@pytest.mark.parametrize(
    "name",
    [
        "sub-A/ses-1/anat/sub-A_ses-1_dseg.nii.gz",
        "sub-A/ses-1/anat/sub-A_ses-1_desc-manual_dseg.nii",
        "sub-A/ses-1/anat/sub-A_ses-1_label-lesion_mask.nii.gz",
        "sub-A/ses-1/sub-A_ses-1_dseg.nii.gz",
        "sub-A/ses-1/anat/sub-A_mask.nii.gz",
        "sub-A/anat/sub-A_ses-1_mask.nii.gz",
        "sub-A/sub-A_ses-1_mask.nii.gz",
    ],
)
def test_masks_are_recognised_by_their_names(tmp_path, name):
    bids = three(tmp_path / "bids")
    path = drawn(tmp_path / "masks" / name)
    table = index(bids, tmp_path / "out", labels_folder=str(tmp_path / "masks"))
    assert table["labels"].tolist() == [str(path), "n/a", "n/a", "n/a"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("sub-A/ses-2/anat/sub-A_ses-2_seg.nii.gz", "mask_not_recognised"),
        ("sub-A/ses-2/anat/sub-A_ses-2_desc-brain_mask.nii.gz", "mask_not_recognised"),
        ("sub-A/ses-2/anat/sub-B_ses-2_dseg.nii.gz", "mask_not_recognised"),
        ("sub-A/ses-2/anat/sub-A_ses-1_dseg.nii.gz", "mask_not_recognised"),
        ("sub-A/anat/sub-A_dseg.nii.gz", "mask_not_recognised"),
        ("Segmentation-label.nii.gz", "mask_not_recognised"),
        ("sub-A/ses-2/anat/Segmentation.seg.nrrd", "mask_not_recognised"),
        ("sub-A/ses-2/anat/._sub-A_ses-2_dseg.nii.gz", "mask_not_recognised"),
        ("sub-Z/ses-1/anat/sub-Z_ses-1_dseg.nii.gz", "nobody"),
        ("sub-A/ses-9/anat/sub-A_ses-9_dseg.nii.gz", "nobody"),
    ],
)
def test_masks_that_are_not_used_are_listed(tmp_path, name, reason):
    bids = three(tmp_path / "bids")
    drawn(tmp_path / "masks/sub-A/ses-1/anat/sub-A_ses-1_dseg.nii.gz")
    path = tmp_path / "masks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"no mask")
    found = load(bids, tmp_path / "out", labels_folder=str(tmp_path / "masks"))
    assert [(item["what"], item["reason"]) for item in found.not_used] == [(str(path), reason)]
    assert found.sessions["usable"].eq("true").all()
    assert found.sessions["labels"].ne("n/a").tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    "names", [[], ["Segmentation-label.nii.gz"], ["A/1.nii.gz", "B/1.nii.gz"], ["x.seg.nrrd"], ["sub-A/ses-1/a.nii.gz"]]
)
def test_a_folder_of_masks_without_one_is_refused(tmp_path, names):
    bids = three(tmp_path / "bids")
    (tmp_path / "masks").mkdir()
    for name in names:
        drawn(tmp_path / "masks" / name) if name.endswith("gz") else (tmp_path / "masks" / name).write_bytes(b"")
    with pytest.raises(InputError, match=rf"{len(names)} files of images") as caught:
        index(bids, tmp_path / "out", labels_folder=str(tmp_path / "masks"))
    assert "sub-X/ses-Y/anat/sub-X_ses-Y_dseg.nii.gz" in caught.value.expected
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("entry", "taken"),
    [("01", 2), ("1", 2), ("001", 2), ("ses-01", 2), ("sub-A_ses-01", 1), ("sub-A_ses-1", 1), ("sub-A_01", 1)],
)
def test_sessions_with_masks_are_named_in_many_ways(tmp_path, entry, taken):
    bids = write_bids(tmp_path / "bids", {sub: {"01": [CE], "02": [CE]} for sub in "AB"})
    for sub in "AB":
        for ses in ("01", "02"):
            drawn(tmp_path / f"masks/sub-{sub}/ses-{ses}/anat/sub-{sub}_ses-{ses}_dseg.nii.gz")
    table = index(bids, tmp_path / "out", labels_folder=str(tmp_path / "masks"), labels_sessions=[entry])
    given = table[table["labels"] != "n/a"]
    assert given.index.tolist() == [("A", "01"), ("B", "01")][:taken]
    assert table["usable"].eq("true").all()


@pytest.mark.parametrize("entry", ["3", "sub-C_ses-01", "sub-A", "A_ses-01", "", "ses-", "sub-A_ses-03", "1 "])
def test_a_session_that_names_nobody_is_refused(tmp_path, entry):
    bids = write_bids(tmp_path / "bids", {"A": {"01": [CE], "001": [CE]}})
    drawn(tmp_path / "masks/sub-A/ses-01/anat/sub-A_ses-01_dseg.nii.gz")
    with pytest.raises(InputError, match=r"labels\.sessions"):
        index(bids, tmp_path / "out", labels_folder=str(tmp_path / "masks"), labels_sessions=[entry])
    with pytest.raises(InputError, match="more than one label"):
        index(bids, tmp_path / "out", labels_folder=str(tmp_path / "masks"), labels_sessions=["1"])
    with pytest.raises(InputError, match=r"labels\.folder is empty"):
        index(bids, tmp_path / "out", labels_sessions=["01"])


def test_a_session_named_for_its_mask_must_have_one(tmp_path):
    bids = three(tmp_path / "bids")
    drawn(tmp_path / "masks/sub-A/ses-1/anat/sub-A_ses-1_dseg.nii.gz")
    drawn(tmp_path / "masks/sub-B/ses-2/anat/sub-B_ses-2_dseg.nii.gz")
    drawn(tmp_path / "masks/sub-B/ses-2/anat/sub-B_ses-2_desc-second_dseg.nii.gz")
    table = index(bids, tmp_path / "out", labels_folder=str(tmp_path / "masks"), labels_sessions=["1", "sub-B_ses-2"])
    assert table["reason"].tolist() == ["n/a", "n/a", "no_labels", "ambiguous_labels"]


def test_the_scheme_decides_whether_a_mask_can_be_read(tmp_path):
    bids = three(tmp_path / "bids")
    labels = np.zeros((9, 10, 11), np.uint8)
    labels[2:7, 2:7, 2:7] = 3
    labels[4, 4, 4] = 1
    write_scan(tmp_path / "masks/sub-A/ses-1/anat/sub-A_ses-1_dseg.nii.gz", labels)
    ours = index(bids, tmp_path / "out", labels_folder=str(tmp_path / "masks"))
    assert ours.loc[("A", "1"), ["usable", "reason"]].tolist() == ["false", "bad_labels"]
    assert "labels.scheme" in ours.loc[("A", "1"), "detail"]
    theirs = index(bids, tmp_path / "out", labels_folder=str(tmp_path / "masks"), labels_scheme="brats2023")
    assert theirs["usable"].eq("true").all()
    with pytest.raises(InputError, match=r"labels\.scheme"):
        index(bids, tmp_path / "out", labels_scheme="brats")


# Corrections


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("A\t9\tusable\tfalse", "ses-9"),
        ("A\t1\tdays\tsoon", "soon"),
        ("A\t1\tdays\tnan", "nan"),
        ("A\t1\tdetail\tx", "detail"),
        ("A\t1\treason\tx", "reason"),
        ("A-B\t1\tusable\ttrue", "sub-A-B"),
    ],
)
def test_a_correction_that_fits_nothing_is_refused(tmp_path, line, said):
    bids = write_bids(three(tmp_path / "bids"), {"A-B": {"1": [CE]}})
    (tmp_path / "edits.tsv").write_text(f"sub\tses\tcolumn\tvalue\n{line}\n")
    with pytest.raises(InputError, match=said):
        index(bids, tmp_path / "out", edits=str(tmp_path / "edits.tsv"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="no such file"):
        index(bids, tmp_path / "out", edits=str(tmp_path / "nowhere.tsv"))


def test_a_scan_that_a_reader_names_is_opened_like_any_other(tmp_path):
    bids = three(tmp_path / "bids")
    for ses in ("1", "2"):
        write_scan(bids / f"sub-A/ses-{ses}/anat/sub-A_ses-{ses}_run-2_{CE}.nii.gz")
    right = f"sub-A/ses-1/anat/sub-A_ses-1_run-2_{CE}.nii.gz"
    (tmp_path / "edits.tsv").write_text(
        f"sub\tses\tcolumn\tvalue\nA\t1\treference\t{right}\nA\t2\treference\tsub-A/ses-2/anat/nowhere.nii.gz\n"
    )
    table = index(bids, tmp_path / "out", edits=str(tmp_path / "edits.tsv"))
    assert table.loc[("A", "1"), ["usable", "reference"]].tolist() == ["true", right]
    assert table.loc[("A", "2"), ["usable", "reason"]].tolist() == ["false", "unreadable"]
    assert "nowhere.nii.gz" in table.loc[("A", "2"), "detail"]


# ------------------------------------------------------------------------------------------------------ who is taken

KNOWN = {"01": {"01", "02"}, "02": {"01"}, "A": set()}


@pytest.mark.parametrize(
    ("chosen", "taken"),
    [
        ({}, ["01/01", "01/02", "02/01", "A/1"]),
        ({"participants": ["01", "sub-A"]}, ["01/01", "01/02", "A/1"]),
        ({"sessions": ["ses-01"]}, ["01/01", "02/01"]),
        ({"sessions": ["sub-01_ses-02"]}, ["01/02"]),
        ({"participants": ["01"], "sessions": ["2"]}, ["01/02"]),
        ({"exclude": ["sub-01"]}, ["02/01", "A/1"]),
        ({"exclude": ["sub-01_ses-02", "A"]}, ["01/01", "02/01"]),
        ({"exclude": ["ses-01"]}, ["01/02", "A/1"]),
        ({"participants": ["01"], "exclude": ["sub-02"]}, ["01/01", "01/02"]),
    ],
)
def test_a_run_takes_the_patients_and_sessions_that_are_chosen(chosen, taken):
    takes = choose(KNOWN, **{"participants": [], "sessions": [], "exclude": []} | chosen)
    everyone = [(sub, ses) for sub, labels in KNOWN.items() for ses in sorted(labels or {"1"})]
    assert [f"{sub}/{ses}" for sub, ses in everyone if takes(sub, ses)] == taken


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"participants": ["3"]}, r"index.participants, '3'.*\n.*no participant.*\n.*01, 02, A"),
        ({"sessions": ["7"]}, r"index.sessions, '7'.*\n.*\n.*ses-01, ses-02, ses-1"),
        ({"participants": ["02"], "sessions": ["02"]}, r"index.sessions, '02'.*\n.*\n.*one of ses-01"),
        ({"exclude": ["sub-01_ses-07"]}, r"index.exclude, 'sub-01_ses-07'"),
        ({"exclude": ["02", "01", "A"]}, "no session that is left"),
    ],
)
def test_a_label_that_the_dataset_lacks_is_refused_with_those_it_has(chosen, said):
    with pytest.raises(InputError, match=said):
        choose(KNOWN, **{"participants": [], "sessions": [], "exclude": []} | chosen)


def test_chosen_sessions_are_indexed_like_a_dataset_of_them_alone(tmp_path):
    days = {f"{n}": {"acq_time": f"2020-0{n}-01T00:00:00"} for n in range(1, 4)}
    tree = {"A": {n: [CE] for n in days}, "B": {"1": [CE]}}
    bids = write_bids(tmp_path / "bids", tree, {"A": days})
    chosen = index(bids, tmp_path / "out", participants=["A"], exclude=["sub-A_ses-2"])
    assert list(chosen.index) == [("A", "1"), ("A", "3")]
    assert list(chosen["prior"]) == ["n/a", "1"]
    shutil.rmtree(bids / "sub-B")
    shutil.rmtree(bids / "sub-A/ses-2")
    write_bids(bids, {"A": {}}, {"A": {n: days[n] for n in "13"}})
    assert index(bids, tmp_path / "without").equals(chosen)


def test_doubts_about_patients_that_are_not_taken_are_not_said(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE]}, "B": {"1": [CE]}})
    (bids / "participants.tsv").write_text("participant_id\tdeath_day\nsub-A\tn/a\nsub-B\tsoon\n")
    assert index(bids, tmp_path / "all").loc[("B", "1"), "flags"] == "no_dates;bad_cell"
    chosen = index(bids, tmp_path / "out", participants=["A"])
    assert chosen["flags"].to_dict() == {("A", "1"): "no_dates"}


def test_a_session_without_a_folder_goes_with_its_patient(tmp_path):
    rows = {"1": {"acq_time": "2020-01-01"}, "2": {"acq_time": "2020-02-01"}}
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE]}, "B": {"1": [CE]}}, {"A": rows})
    assert list(index(bids, tmp_path / "out", participants=["A"]).index) == [("A", "1"), ("A", "2")]
