"""What people's tables say of patients and sessions: used, or said not to be; never passed over, never shifted."""

import numpy as np
import pytest
from assessing import assess, last
from conftest import CE, write_bids, write_scan
from indexing import dated, index, load
from mettrail import cohort
from mettrail.cohort import people
from mettrail.errors import InputError
from mettrail.tracking import matching

TWO = {"01": [CE], "02": [CE]}


@pytest.fixture
def bids(tmp_path):
    """Two patients with two dated visits each."""
    days = dated(_01="01-01", _02="03-01")
    return write_bids(tmp_path / "bids", {"01": TWO, "02": TWO}, {"01": days, "02": days})


def about_people(bids, text):
    (bids / "participants.tsv").write_text(text)


def about_sessions(bids, *lines, sub="01"):
    (bids / f"sub-{sub}" / f"sub-{sub}_sessions.tsv").write_text("\n".join(lines) + "\n")


def about_scans(bids, *lines, sub="01", ses="01"):
    (bids / f"sub-{sub}/ses-{ses}/sub-{sub}_ses-{ses}_scans.tsv").write_text(
        "\n".join(["filename\tacq_time", *lines]) + "\n"
    )


def detail(table, sub="01", ses="01"):
    return table.loc[(sub, ses), "detail"]


def flags(table, sub="01", ses="01"):
    return table.loc[(sub, ses), "flags"].split(";")


# --- participants.tsv ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["01", "sub-01", "sub-01 ", " 01", "sub- 01"])
def test_a_participant_is_known_with_and_without_sub(bids, name):
    about_people(bids, f"participant_id\ttreatment_start_day\n{name}\t7\n")
    rows = people.read_people(bids, ["01", "02"]).rows
    assert rows == {"01": {"participant_id": "sub-01", "treatment_start_day": "7"}}


@pytest.mark.parametrize(
    "name", ["1", "001", "sub-1", "SUB-01", "Sub-001", "sub01", "sub_01", "1.0", '"sub-01"', "sub-01\u200b"]
)
def test_a_participant_who_is_nearly_somebody_is_asked_for(bids, name):
    about_people(bids, f"participant_id\ttreatment_start_day\nsub-02\tn/a\n{name}\t7\n")
    with pytest.raises(InputError) as error:
        people.read_people(bids, ["01", "02"])
    assert error.value.what.endswith("participants.tsv, line 3")
    assert error.value.expected == "did you mean sub-01?"


def test_a_row_for_nobody_is_listed_and_nothing_changes(bids, tmp_path):
    about_people(bids, "participant_id\ttreatment_type\nsub-01\tchemo\nsub-77\tmagic\n1\tsrs\n\tsrs\n")
    found = people.read_people(bids, ["01", "02"])
    assert set(found.rows) == {"01"}
    assert [(row["what"], row["sub"], row["reason"]) for row in found.not_used] == [
        ("participants.tsv, line 3", "77", "nobody"),
        ("participants.tsv, line 4", "1", "nobody"),
        ("participants.tsv, line 5", "n/a", "nobody"),
    ]
    assert "'sub-77'" in found.not_used[0]["detail"]
    assert (index(bids, tmp_path / "out")["flags"] == "n/a").all()


@pytest.mark.parametrize("name", ["participants.csv", "participants.xlsx", "Participants.tsv", "participants.tsv.txt"])
def test_a_table_of_participants_by_another_name_is_refused(bids, tmp_path, name):
    (bids / name).write_text("participant_id\tage\nsub-01\t61\n")
    with pytest.raises(InputError, match=name):
        index(bids, tmp_path / "out")


@pytest.mark.parametrize("name", ["participants.json", "participants_2019.tsv", "._participants.csv"])
def test_what_is_no_table_of_participants_is_left_alone(bids, name):
    (bids / name).write_text("{}")
    assert people.read_people(bids, ["01"]) == people.People()


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("participant_id\ttreatment_start_date\nsub-01\t2021-01-15\t\nsub-02\t2021-01-15\t\n", "line 2"),
        ("participant_id\ttreatment_start_date\nsub-01\t2021-01-15\nsub-02\n", "line 3"),
        ("participant_id,treatment_start_date\nsub-01,2021-01-15\n", "participants.tsv"),
        ("participant_id\tsplit\nsub-01\ttrain\n01\ttest\n", "lines 2 and 3"),
        ("name\tage\nsub-01\t61\n", "line 1"),
        ("participant_id\ttreatment_start_data\nsub-01\t2021-01-15\n", "line 1"),
        ("", "participants.tsv"),
    ],
)
def test_a_malformed_table_of_participants_stops_the_run_at_the_start(bids, tmp_path, text, where):
    about_people(bids, text)
    with pytest.raises(InputError) as error:
        index(bids, tmp_path / "out")
    assert error.value.what.endswith(where)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_what_a_spreadsheet_saves_is_read(bids, tmp_path, encoding):
    text = 'participant_id\tprimary_tumor\ttreatment_start_date\nsub-01\tMélanome "B"\t2021-01-15\n'
    (bids / "participants.tsv").write_bytes(text.replace("\n", "\r\n").encode(encoding))
    table = index(bids, tmp_path / "out")
    assert table["treatment_start_day"].tolist() == ["14", "14", "n/a", "n/a"]
    assert cohort.read_participants(bids, table.reset_index())["01"]["primary_tumor"] == 'Mélanome "B"'


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("treatment_start_day", "4,5"), ("treatment_start_day", "soon"), ("treatment_start_date", "17/03/2031"),
        ("immunotherapy_start_day", "90%"),
    ],
)  # fmt: skip
def test_a_bad_cell_of_a_participant_is_not_used_and_said_once(bids, tmp_path, column, text):
    about_people(bids, f"participant_id\t{column}\nsub-02\tn/a\nsub-01\t{text}\n")
    table = index(bids, tmp_path / "out")
    assert table["flags"].tolist() == ["bad_cell", "n/a", "n/a", "n/a"]
    assert f"participants.tsv, line 3, sub-01: found {column} '{text}', expected a" in detail(table)
    assert cohort.read_participants(bids, table.reset_index())["01"][column] == "n/a"


def test_a_warning_about_a_patient_is_of_a_session_that_is_read(bids, tmp_path):
    (bids / f"sub-01/ses-01/anat/sub-01_ses-01_{CE}.nii.gz").unlink()
    about_people(bids, "participant_id\ttreatment_start_day\nsub-01\tsoon\n")
    table = index(bids, tmp_path / "out")
    assert flags(table, ses="02") == ["bad_cell"]
    assert "'soon'" in detail(table, ses="02")


@pytest.mark.parametrize(
    ("table", "column", "text"),
    [("people", "treatment_type", "magic"), ("people", "split", "both"), ("sessions", "contrast", "maybe"),
     ("sessions", "image_quality", "3"), ("sessions", "steroid_status", "yes")],
)  # fmt: skip
def test_a_word_nobody_knows_stops_the_run_at_the_start(bids, tmp_path, table, column, text):
    if table == "people":
        about_people(bids, f"participant_id\t{column}\nsub-01\tn/a\nsub-02\t{text}\n")
    else:
        about_sessions(
            bids, f"session_id\tacq_time\t{column}", "ses-01\t2021-01-01\tn/a", f"ses-02\t2021-03-01\t{text}"
        )
    with pytest.raises(InputError) as error:
        index(bids, tmp_path / "out")
    assert ".tsv" in error.value.what
    assert f"line 3 ({'sub' if table == 'people' else 'ses'}-02): {column} '{text}'" in error.value.found
    assert column in error.value.expected
    assert not (tmp_path / "out").exists()


# --- what the words do ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["immunotherapy", "Immunotherapy", "SRS+Immunotherapy", "srs, IMMUNOTHERAPY", "ICI"])
def test_immunotherapy_in_any_spelling_makes_a_progression_wait(bids, tmp_path, text):
    about_people(bids, f"participant_id\ttreatment_type\nsub-01\t{text}\n")
    row = cohort.read_participants(bids, index(bids, tmp_path / "out").reset_index())["01"]
    _, sessions, _ = assess({"L001": [20, 20], "L002": [None, 8]}, [0, 60], participant=row)
    assert last(sessions, "response_imaging_prospective") == "uPD"


@pytest.mark.parametrize(
    ("column", "text", "reason"),
    [("contrast", text, "no_contrast") for text in ("false", "FALSE", "No", "0", "none")]
    + [("image_quality", text, "image_quality") for text in ("fail", "Fail", "poor", "Non-Diagnostic")]
    + [("contrast", "TRUE", None), ("contrast", "NA", None), ("image_quality", "Good", None)],
)
def test_a_session_said_to_be_unusable_is_not_evaluable_in_any_spelling(bids, tmp_path, column, text, reason):
    about_sessions(bids, f"session_id\tacq_time\t{column}", "ses-01\t2021-01-01\tn/a", f"ses-02\t2021-03-01\t{text}")
    row = index(bids, tmp_path / "out").reset_index().to_dict("records")[1]
    found = matching.describe_session(
        row, totals={}, quality={"status": "ok"}, reference=CE, reference_session="ses-01"
    )
    assert found["ne_reason"] == reason


@pytest.mark.parametrize(
    ("column", "before", "now", "shown", "value"),
    [
        ("steroid_status", "none", "Raised", "steroid_status", "increased"),
        ("dexamethasone_equiv_mg_per_day", "4", "8.0", "steroid_status", "increased"),
        ("clinical_status", "n/a", "Deteriorated", "clinical_status", "worse"),
        ("kps", "90", "60", "clinical_status", "worse"),
        ("ecog", "0", "2", "clinical_status", "worse"),
    ],
)
def test_how_a_patient_does_reaches_the_response(bids, tmp_path, column, before, now, shown, value):
    about_sessions(
        bids, f"session_id\tacq_time\t{column}", f"ses-01\t2021-01-01\t{before}", f"ses-02\t2021-03-01\t{now}"
    )
    assert last(assessed(index(bids, tmp_path / "out")), shown) == value


@pytest.mark.parametrize("text", ["false", "FALSE", "No", "0"])
def test_a_decline_of_another_cause_is_no_worsening(bids, tmp_path, text):
    about_sessions(
        bids, "session_id\tacq_time\tclinical_status\tclinical_tumour_related",
        "ses-01\t2021-01-01\tn/a\tn/a", f"ses-02\t2021-03-01\tworse\t{text}",
    )  # fmt: skip
    assert last(assessed(index(bids, tmp_path / "out")), "clinical_status") == "stable"


def assessed(table):
    """Assess two unchanged lesions with what the cohort table says of the first patient's sessions."""
    rows = table.reset_index().query("sub == '01'").to_dict("records")
    known = cohort.describe_sessions(rows, [])
    return assess({"L001": [20, 20]}, columns={name: known[name] for name in cohort.CLINICAL if name in known})[1]


@pytest.mark.parametrize(
    ("column", "text", "expected"),
    [
        ("dexamethasone_equiv_mg_per_day", "4 mg", "a number, 0 or more"),
        ("dexamethasone_equiv_mg_per_day", "-4", "a number, 0 or more"),
        ("kps", "good", "a number from 0 to 100"), ("kps", "90%", "a number from 0 to 100"),
        ("kps", "900", "a number from 0 to 100"), ("ecog", "7", "a number from 0 to 5"),
        ("ecog", "inf", "a number from 0 to 5"),
    ],
)  # fmt: skip
def test_a_bad_cell_of_a_session_never_reaches_the_response(bids, tmp_path, column, text, expected):
    about_sessions(bids, f"session_id\tacq_time\t{column}", "ses-01\t2021-01-01\t1", f"ses-02\t2021-03-01\t{text}")
    table = index(bids, tmp_path / "out")
    assert table["flags"].tolist() == ["n/a", "bad_cell", "n/a", "n/a"]
    assert table["usable"].tolist() == ["true"] * 4
    assert detail(table, ses="02") == (
        f"sub-01_sessions.tsv, line 3, ses-02: found {column} '{text}', expected {expected}; the cell is not used."
    )
    assert last(assessed(table), "response_imaging_final") == "SD"


# --- sessions.tsv --------------------------------------------------------------------------------------------------


def test_a_malformed_table_of_sessions_takes_out_its_patient_alone(bids, tmp_path):
    before = index(bids, tmp_path / "before").loc["02"]
    about_sessions(bids, "session_id\tacq_time", "ses-01\t2021-01-01", "ses-02\t2021-03-01\t")
    table = index(bids, tmp_path / "out")
    assert table.loc["01", "usable"].tolist() == ["false"] * 2
    assert table.loc["01", "reason"].tolist() == ["bad_table"] * 2
    assert "sub-01_sessions.tsv, line 3: found 3 cells, the last of them empty" in detail(table)
    assert table.loc["02"].equals(before)


@pytest.mark.parametrize(
    "text", ["session_id\tacq_time\n", "acq_time\n2021-01-01\n", "session_id;acq_time\nses-01;2021\n", ""]
)
def test_a_table_that_is_no_table_of_sessions_says_so(bids, tmp_path, text):
    (bids / "sub-01/sub-01_sessions.tsv").write_text(text)
    usable = "true" if text.startswith("session_id\t") else "false"
    assert (index(bids, tmp_path / "out").loc["01", "usable"] == usable).all()


def test_a_session_with_two_rows_that_differ_is_left_out(bids, tmp_path):
    about_sessions(bids, "session_id\tacq_time", "ses-01\t2021-01-01", "ses-02\t2021-03-01", "02\t2020-03-01")
    table = index(bids, tmp_path / "out")
    assert table["usable"].tolist() == ["true", "false", "true", "true"]
    assert table.loc[("01", "02"), "reason"] == "duplicate_row"
    assert "lines 3, 4" in detail(table, ses="02")
    assert table.loc[("01", "01"), "days"] == "0"


def test_a_session_with_two_rows_that_say_the_same_is_used(bids, tmp_path):
    about_sessions(
        bids, "session_id\tacq_time\tkps", "ses-01\t2021-01-01\t", "ses-02\t2021-03-01\t90", "02\t2021-03-01T00:00\t90"
    )
    table = index(bids, tmp_path / "out")
    assert table.loc["01", "days"].tolist() == ["0", "59"]
    assert flags(table, ses="02") == ["row_twice"]


@pytest.mark.parametrize("name", ["01", "ses-01 ", " ses-01"])
def test_a_session_is_known_with_and_without_ses(bids, tmp_path, name):
    about_sessions(bids, "session_id\tacq_time", f"{name}\t2021-06-01", "ses-02\t2021-03-01")
    table = index(bids, tmp_path / "out")
    assert table.loc["01", "days"].to_dict() == {"02": "0", "01": "92"}
    assert flags(table) == ["n/a"]


@pytest.mark.parametrize("name", ["1", "ses-1", "SES-01", "001", "ses_01"])
def test_a_session_that_is_nearly_one_of_the_dataset_is_taken_for_it(bids, tmp_path, name):
    about_sessions(bids, "session_id\tacq_time", f"{name}\t2021-06-01", "ses-02\t2021-03-01")
    table = index(bids, tmp_path / "out")
    assert table.loc["01", "days"].to_dict() == {"02": "0", "01": "92"}
    assert flags(table) == ["session_name"]
    assert f"session_id '{name}' is taken for ses-01" in detail(table)


def test_two_rows_that_are_nearly_one_session_are_taken_for_none(bids, tmp_path):
    about_sessions(bids, "session_id\tacq_time", "1\t2021-06-01", "001\t2021-07-01", "ses-02\t2021-03-01")
    table = index(bids, tmp_path / "out")
    assert set(table.loc["01"].index) == {"01", "02", "1", "001"}
    assert table.loc["01", "usable"].to_dict() == {"01": "true", "02": "true", "1": "false", "001": "false"}


def test_a_row_for_a_session_without_scans_is_a_row_of_the_table(bids, tmp_path):
    about_sessions(bids, "session_id\tacq_time", "ses-01\t2021-01-01", "ses-02\t2021-03-01", "ses-09\t2021-02-01")
    table = index(bids, tmp_path / "out")
    assert table.loc[("01", "09"), ["usable", "reason", "order"]].tolist() == ["false", "no_contrast", "2"]


def test_a_row_without_a_session_is_said_not_to_be_used(bids, tmp_path):
    about_sessions(bids, "session_id\tacq_time", "ses-01\t2021-01-01", "ses-02\t2021-03-01", "n/a\t2021-02-01")
    table = index(bids, tmp_path / "out")
    assert len(table.loc["01"]) == 2
    assert flags(table) == ["row_not_used"]
    assert "line 4" in detail(table)


@pytest.mark.parametrize("name", ["sub-01_sessions.csv", "sessions.tsv", "sub-1_sessions.tsv"])
def test_a_table_of_sessions_by_another_name_is_said_not_to_be_read(bids, tmp_path, name):
    (bids / "sub-01/sub-01_sessions.tsv").rename(bids / "sub-01" / name)
    (bids / "sub-01/sub-01_sessions.json").write_text("{}")
    (bids / f"sub-01/._{name}").write_text("\0")
    table = index(bids, tmp_path / "out")
    assert "table_not_read" in flags(table)
    assert f"sub-01/{name} is not read; expected sub-01_sessions.tsv" in detail(table)


# --- dates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "days"),
    [
        ("2021-01-01", "2021-03-01", "59"),
        ("2021-01-01T23:59:59", "2021-01-02T00:00:01", "1"),
        ("2021-01-01T23:30:00+02:00", "2021-01-02T00:30:00+02:00", "1"),
        ("2021-01-01T10:00:00Z", "2021-01-02T09:00:00.123456Z", "1"),
        ("1867-01-01T10:00:00", "1867-01-11T09:00:00", "10"),
        ("2531-01-01", "2531-01-11", "10"),
    ],
)
def test_days_are_counted_from_date_to_date(bids, tmp_path, first, second, days):
    about_sessions(bids, "session_id\tacq_time", f"ses-01\t{first}", f"ses-02\t{second}")
    table = index(bids, tmp_path / "out")
    assert table.loc["01", "days"].tolist() == ["0", days]
    assert table["flags"].tolist() == ["n/a"] * 4


@pytest.mark.parametrize(
    ("first", "second", "order", "by"),
    [
        ("2021-01-01T18:00", "2021-01-01T09:00", ["02", "01"], "times of day"),
        ("2021-01-01T18:00", "2021-01-01T18:00", ["01", "02"], "labels"),
        ("2021-01-01", "2021-01-01", ["01", "02"], "labels"),
    ],
)
def test_two_sessions_of_one_date_have_a_warning_whatever_the_clock_says(bids, tmp_path, first, second, order, by):
    about_sessions(bids, "session_id\tacq_time", f"ses-01\t{first}", f"ses-02\t{second}")
    table = index(bids, tmp_path / "out")
    assert table.loc["01"].index.tolist() == order
    assert table.loc["01", "days"].tolist() == ["0", "0"]
    assert table.loc["01", "flags"].tolist() == ["same_date"] * 2
    assert f"in the order of their {by}" in detail(table)


def test_visits_of_one_date_are_in_the_order_of_numbers(tmp_path):
    bids = write_bids(tmp_path / "bids", {"A": {"10": [CE], "2": [CE]}}, {"A": dated(_10="01-01", _2="01-01")})
    assert index(bids, tmp_path / "out").loc["A"].index.tolist() == ["2", "10"]


def test_a_time_that_is_bad_but_not_needed_is_a_warning(bids, tmp_path):
    about_sessions(
        bids, "session_id\tacq_time\tdays_from_baseline", "ses-01\t2021-01-01\t0", "ses-02\t2021-03-01\tsoon"
    )
    table = index(bids, tmp_path / "out")
    assert table.loc["01", "days"].tolist() == ["0", "59"]
    assert flags(table, ses="02") == ["bad_cell"]


def test_a_visit_with_a_bad_date_brings_no_second_time_axis_in(bids, tmp_path):
    about_sessions(bids, "session_id\tacq_time\tdays_from_baseline", "ses-01\t2021-01-01\t0", "ses-02\t1/3/21\t59")
    table = index(bids, tmp_path / "out")
    assert table.loc["01", "reason"].tolist() == ["n/a", "bad_date"]
    assert table.loc["01", "flags"].tolist() == ["n/a", "n/a"]


@pytest.mark.parametrize(
    ("first", "second", "start", "at", "day"),
    [
        ("1921-01-01", "2021-03-01", "2021-01-15", "02", "n/a"),
        ("1921-01-01", "1921-03-01", "2021-01-15", "01", "n/a"),
        ("2021-01-01", "2021-03-01", "1921-01-15", "01", "n/a"),
        ("1921-01-01", "1970-12-01", "1921-01-15", None, "14"),
    ],
)
def test_dates_a_century_apart_are_said_and_no_treatment_is_placed(bids, tmp_path, first, second, start, at, day):
    about_sessions(bids, "session_id\tacq_time", f"ses-01\t{first}", f"ses-02\t{second}")
    about_people(bids, f"participant_id\ttreatment_start_date\timmunotherapy_start_day\nsub-01\t{start}\t14\n")
    table = index(bids, tmp_path / "out")
    flagged = [ses for ses, flag in table.loc["01", "flags"].items() if "date_gap" in flag]
    assert flagged == ([at] if at else [])
    assert table.loc["01", "treatment_start_day"].tolist() == [day] * 2
    if at:
        assert "years" in detail(table, ses=at)
        assert at == "02" or start in detail(table)
        assert cohort.read_participants(bids, table.reset_index())["01"]["immunotherapy_start_day"] == "n/a"


@pytest.mark.parametrize("column", ["treatment_start_day", "immunotherapy_start_day"])
def test_a_day_that_is_a_date_in_a_spreadsheets_count_is_not_used(bids, tmp_path, column):
    about_people(bids, f"participant_id\t{column}\nsub-01\t44211\n")
    table = index(bids, tmp_path / "out")
    assert flags(table) == ["date_gap"]
    assert table.loc[("01", "01"), "treatment_start_day"] == "n/a"
    assert f"{column} 44211 is" in detail(table)


@pytest.mark.parametrize(
    ("header", "visits", "row", "day"),
    [
        ("acq_time", ("2021-01-01", "2021-03-01"), ("10", "2021-01-15"), "10"),
        ("days_from_baseline", ("0", "60"), ("n/a", "2021-01-15"), "n/a"),
        ("days_from_treatment", ("-4", "60"), ("10", "n/a"), "0"),
        ("acq_time", ("n/a", "2021-03-01"), ("n/a", "2021-01-15"), "n/a"),
        ("acq_time", ("n/a", "n/a"), ("10", "n/a"), "n/a"),
    ],
)
def test_a_time_of_treatment_that_is_not_used_is_said_not_to_be(bids, tmp_path, header, visits, row, day):
    about_sessions(bids, f"session_id\t{header}", *(f"ses-0{n}\t{time}" for n, time in enumerate(visits, 1)))
    about_people(bids, "participant_id\ttreatment_start_day\ttreatment_start_date\nsub-01\t" + "\t".join(row) + "\n")
    table = index(bids, tmp_path / "out")
    assert "treatment_date_unused" in flags(table)
    assert table.loc["01", "treatment_start_day"].tolist() == [day] * 2


# --- scans.tsv -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, "n/a", ""])
@pytest.mark.parametrize("prefix", ["anat/", "ses-02/anat/", "./anat/", "/sub-01/ses-02/anat/", "anat\\", ""])
def test_a_scan_without_date_has_that_of_its_own_row(bids, tmp_path, given, prefix):
    header = "session_id\tacq_time" if given is not None else "session_id\tkps"
    about_sessions(bids, header, *([f"ses-0{n}\t{given or ''}" for n in (1, 2)]))
    about_scans(bids, f"anat/sub-01_ses-01_{CE}.nii.gz\t2021-01-01T10:00:00")
    about_scans(
        bids, "dwi/sub-01_ses-02_dwi.nii.gz\t2020-01-01", "anat/sub-01_ses-02_T1w.nii.gz\tsoon",
        f"{prefix}sub-01_ses-02_{CE}.nii.gz\t2021-01-11T10:00:00", ses="02",
    )  # fmt: skip
    table = index(bids, tmp_path / "out")
    assert table.loc["01", "days"].tolist() == ["0", "10"]
    assert table.loc["01", "flags"].tolist() == ["n/a"] * 2


def test_a_table_of_scans_without_the_reference_scan_says_so(bids, tmp_path):
    about_sessions(bids, "session_id\tacq_time", "ses-01\t2021-01-01", "ses-02\tn/a")
    about_scans(bids, "anat/sub-01_ses-02_T1w.nii.gz\t2021-03-01", f"anat/sub-01_ses-02_{CE}.nii\t2021-03-01", ses="02")
    table = index(bids, tmp_path / "out")
    assert "scan_not_listed" in flags(table, ses="02")
    assert f"no row whose filename is sub-01_ses-02_{CE}.nii.gz" in detail(table, ses="02")


def test_a_scan_listed_with_two_dates_has_none(bids, tmp_path):
    about_sessions(bids, "session_id\tacq_time", "ses-01\t2021-01-01", "ses-02\tn/a")
    name = f"anat/sub-01_ses-02_{CE}.nii.gz"
    about_scans(bids, f"{name}\t2021-03-01", f"{name}\t2021-04-01", ses="02")
    assert "scan_listed_twice" in flags(index(bids, tmp_path / "out"), ses="02")


def test_a_bad_date_of_a_scan_takes_out_its_visit(bids, tmp_path):
    about_sessions(bids, "session_id\tacq_time", "ses-01\t2021-01-01", "ses-02\tn/a")
    about_scans(bids, f"anat/sub-01_ses-02_{CE}.nii.gz\t1/3/21", ses="02")
    table = index(bids, tmp_path / "out")
    assert table.loc["01", "reason"].tolist() == ["n/a", "bad_date"]
    assert "ses-02_scans.tsv, line 2: found acq_time '1/3/21'" in detail(table, ses="02")


def test_a_scan_dated_otherwise_than_its_session_is_said_once(bids, tmp_path):
    for ses in ("01", "02"):
        about_scans(bids, f"anat/sub-01_ses-{ses}_{CE}.nii.gz\t1867-01-01", ses=ses)
    table = index(bids, tmp_path / "out")
    assert table.loc["01", "days"].tolist() == ["0", "59"]
    assert table.loc["01", "flags"].tolist() == ["dates_disagree", "n/a"]


def test_days_given_by_people_are_not_mixed_with_dates_of_scanners(bids, tmp_path):
    about_sessions(bids, "session_id\tdays_from_baseline", "ses-01\t0", "ses-02\t60")
    about_scans(bids, f"anat/sub-01_ses-02_{CE}.nii.gz\t2021-02-01", ses="02")
    assert index(bids, tmp_path / "out").loc["01", "days"].tolist() == ["0", "60"]


def test_a_malformed_table_of_scans_takes_out_its_patient_alone(bids, tmp_path):
    about_scans(bids, "anat/x.nii.gz\t2021-01-01\t", ses="02")
    table = index(bids, tmp_path / "out")
    assert table["reason"].tolist() == ["bad_table", "bad_table", "n/a", "n/a"]


def test_a_dataset_of_single_visits_has_its_dates_beside_the_patient(tmp_path):
    bids = write_bids(tmp_path / "bids", {})
    write_scan(bids / f"sub-A/anat/sub-A_{CE}.nii.gz")
    (bids / "sub-A/sub-A_scans.tsv").write_text(f"filename\tacq_time\nanat/sub-A_{CE}.nii.gz\t2021-01-01\n")
    (bids / "participants.tsv").write_text("participant_id\ttreatment_start_date\nsub-A\t2021-01-08\n")
    assert index(bids, tmp_path / "out").loc[("A", "1"), "treatment_start_day"] == "7"


def test_visits_are_ordered_without_knowing_the_reference_scan(bids):
    about_sessions(bids, "session_id\tacq_time", "1\t2021-06-01", "ses-02\tn/a")
    about_scans(
        bids, "func/sub-01_ses-02_bold.nii.gz\t2022-01-01", "anat/sub-01_ses-02_T1w.nii.gz\t2021-03-01", ses="02"
    )
    assert cohort.order_sessions(bids, "01", ["01", "02"]) == (["02", "01"], True)
    about_sessions(bids, "session_id\tacq_time", "ses-01\tspring", "ses-02\tn/a")
    with pytest.raises(InputError, match="spring"):
        cohort.order_sessions(bids, "01", ["01", "02"])


# --- corrections and decisions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ("contrast", "FALSE", "false"),
        ("image_quality", "Poor", "fail"),
        ("usable", "No", "false"),
        ("kps", "NA", "n/a"),
    ],
)
def test_a_correction_is_read_like_the_table_it_corrects(bids, tmp_path, column, text, value):
    edits = tmp_path / "edits.tsv"
    edits.write_bytes(f"column\tvalue\tsub\tses\r\n{column}\t{text}\tsub-01 \tses-02\r\n".encode("utf-16"))
    assert index(bids, tmp_path / "out", edits=str(edits)).loc[("01", "02"), column] == value


@pytest.mark.parametrize(
    ("rows", "where"),
    [
        (["01\t02\tcontrast\tmaybe"], "line 2"), (["01\t02\tdays\ttomorrow"], "line 2"),
        (["01\t02\tkps\t900"], "line 2"), (["01\t02\tusable\tperhaps"], "line 2"),
        (["01\t02\tdays\t3", "01\t02\tdays\t4"], "line 3"), (["01\t02\tdays\t3\t"], "line 2"),
        (["01\t09\tdays\t3"], "line 2"),
    ],
)  # fmt: skip
def test_a_correction_that_makes_no_sense_is_refused_by_line(bids, tmp_path, rows, where):
    edits = tmp_path / "edits.tsv"
    edits.write_text("\n".join(["sub\tses\tcolumn\tvalue", *rows]) + "\n")
    with pytest.raises(InputError) as error:
        index(bids, tmp_path / "out", edits=str(edits))
    assert error.value.what.endswith(f"edits.tsv, {where}")


@pytest.mark.parametrize(
    ("name", "rows", "said"),
    [
        ("sub-A/sub-A_desc-lesions_overrides.tsv", ["ses-1\tL001\ttsm\tperhaps"], "tsm = perhaps"),
        ("sub-A/sub-A_desc-lesions_overrides.tsv", ["ses-1\tL001\tld_mm\t9,5"], "ld_mm = 9,5"),
        ("sub-A/sub-A_desc-lesions_overrides.tsv", ["ses-1\tL001\ttsm\ttrue\t"], "5 cells"),
        ("sub-A/sub-B_desc-lesions_overrides.tsv", [], "by another name"),
        ("sub-A/sub-A_overrides.tsv", [], "by another name"),
        ("overrides.csv", [], "by another name"),
    ],
)
def test_a_readers_table_is_judged_before_anything_is_computed(tmp_path, name, rows, said):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["session_id\ttrack_id\tfield\tvalue", *rows]) + "\n")
    with pytest.raises(InputError) as error:
        cohort.find_overrides(tmp_path, ["A", "B"])
    assert said in error.value.found
    assert str(path) in error.value.what


def test_a_readers_table_may_name_sessions_and_say_yes_as_people_do():
    decided = [{"session_id": "1", "track_id": "L001", "field": "TSM", "value": "Yes"}]
    assert last(assess({"L001": [20, 2]}, overrides=decided)[1], "sum_ld_mm") == 5


def test_nothing_is_said_of_a_dataset_in_which_nothing_is_amiss(bids, tmp_path):
    about_people(bids, "participant_id\tage\ttreatment_start_date\nsub-01\t61\t2021-01-15\nsub-02\tn/a\tn/a\n")
    table = index(bids, tmp_path / "out")
    assert (table[["flags", "detail"]] == "n/a").all(axis=None)
    assert np.unique(table["usable"]).tolist() == ["true"]


# --- what became of patients ---------------------------------------------------------------------------------------


def outcomes_of(bids, tmp_path, columns, cells):
    about_people(bids, f"participant_id\t{columns}\nsub-01\t{cells}\n")
    found = load(bids, tmp_path / "out")
    return found.participants["01"], found.sessions.set_index(["sub", "ses"])


@pytest.mark.parametrize(
    ("columns", "cells", "days"),
    [
        ("death_date", "2021-03-01", ("59", "n/a", "n/a")),
        ("death_day\tlast_contact_date\tleptomeningeal_date", "400\t2022-01-01\t2021-01-11", ("400", "365", "10")),
        ("death_date\tdeath_day", "2021-04-11\t100", ("100", "n/a", "n/a")),
        ("leptomeningeal_day\tage", "-5\t61", ("n/a", "n/a", "-5")),
    ],
)
def test_what_became_of_a_patient_is_placed_on_the_time_axis_of_the_visits(bids, tmp_path, columns, cells, days):
    participant, table = outcomes_of(bids, tmp_path, columns, cells)
    assert tuple(participant[f"{name}_day"] for name in ("death", "last_contact", "leptomeningeal")) == days
    assert (table["flags"] == "n/a").all()


@pytest.mark.parametrize(
    ("columns", "cells", "flag", "said"),
    [
        ("death_date", "2021-02-28", "death_unused", "day 58, before the last scan on day 59"),
        ("death_day", "58", "death_unused", "day 58, before the last scan on day 59"),
        ("last_contact_day", "30", "last_contact_unused", "before the last scan on day 59, which is taken instead"),
        ("death_day", "soon", "bad_cell", "found death_day 'soon', expected a number"),
        ("death_date", "1921-04-01", "death_unused", "years from the nearest visit"),
        ("leptomeningeal_date", "spring", "bad_cell", "found leptomeningeal_date 'spring', expected an ISO 8601"),
    ],
)
def test_a_day_that_cannot_be_is_said_and_not_used(bids, tmp_path, columns, cells, flag, said):
    participant, table = outcomes_of(bids, tmp_path, columns, cells)
    assert participant[columns.replace("_date", "_day")] == "n/a"
    assert flags(table) == [flag]
    assert said in detail(table)


def test_a_death_that_is_not_that_of_its_date_is_said(bids, tmp_path):
    participant, table = outcomes_of(bids, tmp_path, "death_date\tdeath_day", "2021-04-12\t100")
    assert participant["death_day"] == "100"
    assert "day 100, but 2021-04-12 is day 101" in detail(table)


def test_without_dates_of_visits_no_death_can_be_placed(bids, tmp_path):
    about_sessions(bids, "session_id\tacq_time", "ses-01\t2021-01-01", "ses-02\tn/a")
    participant, table = outcomes_of(bids, tmp_path, "death_date", "2021-04-12")
    assert participant["death_day"] == "n/a"
    assert "death_unused" in flags(table)
