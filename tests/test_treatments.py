"""Tables of treatments: what is given is used, or said not to be by file, line and column; nothing else is lost."""

from datetime import date

import numpy as np
import pandas as pd
import pytest
from assessing import cell, rules_with
from conftest import CE, dated, load_dataset, write_bids
from mettrail import cohort, points, schema
from mettrail.cohort.order import Axis
from mettrail.cohort.overrides import read_overrides
from mettrail.cohort.treatments import operated_before, read_treatments
from mettrail.errors import InputError
from mettrail.images import Image, write_labels
from mettrail.points import Finder, Place, nearest_lesion, read_point
from mettrail.response import assessment, treatments
from mettrail.schema import tsv

FILE = "sub-01/sub-01_treatments.tsv"
HEADER = "treatment_id\ttype\tdate\tday\tsession_id\ttarget\tdose_gy\tfractions\tisodose_pct"


@pytest.fixture
def bids(tmp_path):
    """Two patients with two visits each, on days 0 and 59."""
    days = dated(_01="01-01", _02="03-01")
    visits = {"01": [CE], "02": [CE]}
    return write_bids(tmp_path / "bids", {"01": visits, "02": visits}, {"01": days, "02": days})


DATED = Axis("date", date(2021, 1, 1), (0.0, 59.0))


def read(folder, *rows, sessions=("01", "02"), axis=DATED, **more):
    """Read a table of these rows as the index does."""
    (folder / "sub-01").mkdir(exist_ok=True)
    if rows:
        give(folder, *rows)
    return read_treatments(folder, "01", sessions, axis, **more)


def give(bids, *rows, header=HEADER):
    """Write rows; short ones are filled with n/a."""
    width = header.count("\t") + 1
    lines = [header, *("\t".join([*row, *["n/a"] * (width - len(row))]) for row in rows)]
    (bids / FILE).write_text("\n".join(lines) + "\n")


def said(found):
    return [f"{item['what']}: {item['detail']}" for item in found.not_used]


def warnings(found):
    return " ".join(sentence for _, sentence in found.warnings)


def detail(found, sub="01"):
    return found.sessions.set_index(["sub", "ses"]).loc[(sub, "01"), "detail"]


# --- reading -------------------------------------------------------------------------------------------------------


def test_treatments_are_placed_on_the_time_axis_of_the_visits(bids, tmp_path):
    give(
        bids,
        ["g1", "Gamma Knife", "2021-01-11", "n/a", "01", "12.5;-3;40", "20", "1", "50"],
        ["g1", "SRS", "2021-01-11", "n/a", "ses-1", "L003;L004", "18", "1.0"],
        ["s", "resection", "n/a", "59", "n/a", "all"],
        ["i", "ICI", "n/a", "-3", "n/a", "n/a"],
    )
    found = load_dataset(bids, tmp_path / "out")
    assert found.not_used == []
    rows = [
        [row[n] for n in ("treatment_id", "type", "day", "session_id", "target", "dose_gy", "fractions", "isodose_pct")]
        for row in found.treatments["01"]
    ]
    assert rows == [
        ["g1", "srs", "10", "ses-01", "12.5;-3;40", "20", "1", "50"],
        ["g1", "srs", "10", "ses-01", "L003", "18", "1", "n/a"],
        ["g1", "srs", "10", "ses-01", "L004", "18", "1", "n/a"],
        ["s", "surgery", "59", "n/a", "all", "n/a", "n/a", "n/a"],
        ["i", "immunotherapy", "-3", "n/a", "all", "n/a", "n/a", "n/a"],
    ]
    assert set(found.treatments) == {"01"}
    assert load_dataset(bids, tmp_path / "out").treatments == found.treatments, "as kept"


GOOD = ["t1", "srs", "2021-01-11", "n/a", "01", "L001", "20", "1"]


@pytest.mark.parametrize(
    ("column", "text", "expected"),
    [
        ("treatment_id", "", "a name"), ("type", "gamma", "srs (radiosurgery"), ("type", "n/a", "what it is"),
        ("date", "11.01.2021", "an ISO 8601 date"), ("date", "n/a", "a date, or a day"),
        ("date", "1921-01-11", "years from the nearest visit"), ("day", "tomorrow", "a number"),
        ("day", "44211", "years from the nearest visit"), ("session_id", "07", "ses-01, ses-02"),
        ("target", "n/a", "x;y;z"), ("target", "L1", "x;y;z"), ("target", "frontal", "x;y;z"),
        ("target", "1;2", "x;y;z"), ("target", "1;2;3;4", "x;y;z"), ("target", "12,5;3;4", "x;y;z"),
        ("target", "1;2;three", "x;y;z"), ("target", "12,5 3 4", "x;y;z"),
    ],
)  # fmt: skip
def test_a_bad_row_is_not_used_is_named_and_takes_nothing_with_it(tmp_path, column, text, expected):
    row = dict(zip(HEADER.split("\t"), [*GOOD, "n/a"])) | {"treatment_id": "t2", column: text}
    found = read(tmp_path, GOOD, list(row.values()))
    assert ([row["treatment_id"] for row in found.rows], found.warnings) == (["t1"], [])
    (what,) = said(found)
    assert what.startswith(f"{FILE}, line 3, column {column}: found ")
    assert expected in what


@pytest.mark.parametrize(
    ("column", "text", "expected"),
    [
        ("dose_gy", "twenty", "a number, 0 or more"), ("dose_gy", "20 Gy", "a number, 0 or more"),
        ("dose_gy", "-20", "a number, 0 or more"), ("fractions", "2.5", "a whole number, 1 or more"),
        ("fractions", "0", "a whole number, 1 or more"), ("fractions", "one", "a whole number, 1 or more"),
        ("isodose_pct", "50%", "a number from 0 to 100"),
    ],
)  # fmt: skip
def test_text_for_a_dose_costs_the_cell_and_not_the_treatment(tmp_path, column, text, expected):
    found = read(tmp_path, list((dict(zip(HEADER.split("\t"), [*GOOD, "n/a"])) | {column: text}).values()))
    (row,) = found.rows
    assert (row[column], row["target"], found.not_used) == ("n/a", "L001", [])
    assert warnings(found) == f"{FILE}, line 2: found {column} '{text}', expected {expected}; the cell is not used."


def test_a_point_without_the_session_it_was_taken_in_is_not_used(tmp_path):
    found = read(tmp_path, ["t1", "srs", "2021-01-11", "n/a", "n/a", "1;2;3"])
    assert "line 2, column target: found '1;2;3', expected the session_id" in said(found)[0]


@pytest.mark.parametrize(
    ("row", "column"),
    [
        (GOOD, "target"), ([*GOOD[:6], "24", "3"], "target"),
        (["t1", "fsrt", *GOOD[2:5], "L002"], "type"), (["t1", "srs", "2021-01-12", "n/a", "01", "L002"], "day"),
    ],
)  # fmt: skip
def test_what_a_row_says_again_or_otherwise_is_not_used(tmp_path, row, column):
    found = read(tmp_path, GOOD, row, ["t2", *GOOD[1:]])
    assert [(row["treatment_id"], row["target"]) for row in found.rows] == [("t1", "L001"), ("t2", "L001")]
    assert said(found)[0].startswith(f"{FILE}, line 3, column {column}: found ")
    assert "line 2" in said(found)[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("treatment_id\ttype\ttarget\nt1\tsrs\n", "bad_table"), ("treatment_id,type,target\n", "bad_table"),
        ("type\tday\ttarget\nsrs\t1\tall\n", "bad_table"), ("", "bad_table"),
        ("treatment_id\ttype\ttarget\tdose_gyy\tday\n", "unknown_column"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_read_costs_the_treatments_alone(tmp_path, text, reason):
    read(tmp_path, GOOD)
    (tmp_path / FILE).write_text(text)
    found = read(tmp_path)
    assert ([(item["what"], item["reason"]) for item in found.not_used], found.rows) == ([(FILE, reason)], [])


def test_a_patient_whose_treatments_cannot_be_read_keeps_all_sessions(bids, tmp_path):
    (bids / FILE).write_text("treatment_id\ttype\ttarget\nt1\tsrs\n")
    found = load_dataset(bids, tmp_path / "out")
    assert (found.treatments, set(found.sessions["usable"])) == ({}, {"true"})
    assert found.not_used[0]["what"] == FILE


@pytest.mark.parametrize("name", ["sub-01_treatments.csv", "treatments.tsv", "sub-1_treatments.tsv"])
def test_a_table_of_treatments_by_another_name_is_said(tmp_path, name):
    (tmp_path / "sub-01").mkdir()
    (tmp_path / "sub-01" / name).write_text(HEADER + "\n")
    assert f"sub-01/{name} is not read; expected sub-01_treatments.tsv" in warnings(read(tmp_path))


def test_visits_without_dates_leave_no_place_for_a_treatment(tmp_path):
    (what,) = said(read(tmp_path, GOOD, axis=None))
    assert "column date" in what
    assert "expected dates of all visits" in what


def test_a_date_is_of_no_use_where_the_visits_have_days(tmp_path):
    found = read(tmp_path, GOOD, ["t2", "srs", "n/a", "3", "n/a", "L001"], axis=Axis("day", None, (0.0, 60.0)))
    assert [row["day"] for row in found.rows] == ["3"]
    assert "line 2, column date" in said(found)[0]


def test_a_day_that_is_not_that_of_the_date_is_said_and_taken(tmp_path):
    found = read(tmp_path, ["t1", "srs", "2021-01-11", "12", "01", "L001"])
    assert found.rows[0]["day"] == "12"
    assert f"{FILE}, line 2: found day 12, but 2021-01-11 is day 10" in warnings(found)


def test_local_treatment_without_a_table_of_treatments_asks_for_one(bids, tmp_path):
    (bids / "participants.tsv").write_text("participant_id\ttreatment_type\nsub-01\tfsrt\nsub-02\tchemo;wbrt\n")
    found = load_dataset(bids, tmp_path / "out")
    assert found.sessions["flags"].tolist() == ["treatments_missing", "n/a", "n/a", "n/a"]
    assert f"treatment_type srs, and no {FILE}; expected which lesions were treated" in detail(found)


@pytest.mark.parametrize(
    ("kind", "asks"),
    [("srs", True), ("surgery", True), ("chemo;srs", True), ("chemo;wbrt", False), ("immunotherapy", False)],
)
def test_only_treatments_of_single_lesions_need_their_table(tmp_path, kind, asks):
    assert bool(read(tmp_path, treatment_type=kind).warnings) == asks
    assert read(tmp_path, GOOD, treatment_type=kind).warnings == []


def test_surgery_on_what_no_scan_shows_needs_no_target(tmp_path, finder):
    row = dict(zip(HEADER.split("\t"), GOOD)) | {"type": "craniotomy", "target": "n/a"}
    found = read(tmp_path, list(row.values()))
    assert [(given["type"], given["target"]) for given in found.rows] == [("surgery", "n/a")]
    assert (found.not_used, found.warnings) == ([], [])
    table, problems = resolve(finder, *found.rows)
    assert (len(table), problems) == (0, []), "it is of no lesion of the run"


@pytest.mark.parametrize(
    ("kind", "day", "operated"),
    [("surgery", "29", True), ("surgery", "30", False), ("srs", "29", False), ("srs;surgery", "29", False)],
)
@pytest.mark.parametrize("told_by", ["table", "participant"])
def test_surgery_before_the_day_of_a_scan(kind, day, operated, told_by):
    rows = [{"type": kind, "day": day}] if told_by == "table" else []
    participant = {"treatment_type": kind, "treatment_start_day": day} if told_by == "participant" else {}
    assert operated_before(rows, participant, "30") == operated
    assert not operated_before(rows, participant, "n/a")


# --- the start of treatment ----------------------------------------------------------------------------------------


def test_the_first_treatment_is_the_start_where_nothing_else_says_it(bids, tmp_path):
    give(bids, ["t2", "srs", "2021-02-10", "n/a", "n/a", "all"], ["t1", "srs", "2021-01-11", "n/a", "n/a", "all"])
    found = load_dataset(bids, tmp_path / "out")
    assert found.sessions["treatment_start_day"].tolist() == ["10", "10", "n/a", "n/a"]
    assert found.participants["01"]["treatment_start_from"] == "sub-01_treatments.tsv"
    (bids / "participants.tsv").write_text("participant_id\ttreatment_start_day\nsub-01\t7\n")
    found = load_dataset(bids, tmp_path / "out")
    assert found.sessions["treatment_start_day"].tolist() == ["7", "7", "n/a", "n/a"]
    assert "treatment_start_from" not in found.participants["01"]


def test_a_first_treatment_before_the_first_scan_is_said_by_its_table(bids, tmp_path):
    give(bids, ["t1", "srs", "n/a", "-20", "n/a", "all"])
    assert "sub-01_treatments.tsv: treatment started 20 days before the first scan" in detail(
        load_dataset(bids, tmp_path / "out")
    )


# --- points --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "point"),
    [("1;-2.5;3e1", (1, -2.5, 30)), (" 1 ; 2 ; 3 ", (1, 2, 3)), ("L001", None), ("L001;L002", None), ("all", None)],
)
def test_a_point_is_three_numbers_and_a_name_is_none(text, point):
    assert read_point(text) == point


def labelled(affine):
    data = np.zeros((24, 20, 18), np.uint8)
    data[4:7, 5:8, 6:9], data[12:15, 5:8, 6:9] = 3, 7
    return Image(data, affine)


def world(image, *voxel):
    return tuple((image.affine @ [*voxel, 1])[:3])


def test_a_point_in_a_lesion_is_that_lesion_on_any_grid(oblique_affine):
    image = labelled(oblique_affine)
    assert nearest_lesion(world(image, 5.4, 6.4, 7.4), image) == Place(3, 0.0)
    assert nearest_lesion(world(image, 12, 5, 6), image) == Place(7, 0.0)


def test_a_point_outside_is_the_nearest_lesion_within_five_mm():
    image = labelled(np.diag([-1.0, 1.0, 2.0, 1.0]))
    assert nearest_lesion(world(image, 8, 6, 7), image) == Place(3, 2.0)
    assert nearest_lesion(world(image, 10, 6, 7), image) == Place(7, 2.0)
    assert nearest_lesion(world(image, 19, 6, 7), image) == Place(7, 5.0)
    assert nearest_lesion(world(image, 19.1, 6, 7), image).index is None
    assert nearest_lesion(world(image, 13, 6, 8 + 2.5), image) == Place(7, 5.0), "2.5 slices of 2 mm"
    assert nearest_lesion(world(image, -3, 6, 7), image).index is None, "outside the image"
    assert nearest_lesion(world(image, 1, 6, -30), image).index is None
    assert nearest_lesion((0, 0, 0), image.like(np.zeros_like(image.data))) == Place(None, np.inf)


# --- lesions -------------------------------------------------------------------------------------------------------


@pytest.fixture
def finder(tmp_path):
    image = labelled(np.eye(4))
    write_labels(tmp_path / "map.nii.gz", image.data, image.affine)
    return Finder({"ses-1": (tmp_path / "map.nii.gz", {3: "L003", 7: "L007"})})


SESSIONS = pd.DataFrame({"session_id": ["ses-1", "ses-2", "ses-3"], "days": [0.0, 60, 120], "evaluable": True})
SEEN = pd.DataFrame(
    [("ses-1", "L003", "present"), ("ses-1", "L007", "present"), ("ses-2", "L003", "present"),
     ("ses-2", "L007", "absent"), ("ses-2", "L008", "present"), ("ses-3", "L003", "present")],
    columns=["session_id", "track_id", "status"],
)  # fmt: skip


def row(target, *, day="0", kind="srs", session="ses-1", name="t1", line=2):
    given = {"treatment_id": name, "type": kind, "day": day, "session_id": session, "target": target}
    return given | {"dose_gy": "20", "fractions": "n/a", "isodose_pct": "n/a", "where": f"{FILE}, line {line}"}


def resolve(finder, *rows):
    return treatments.resolve(rows, SEEN, SESSIONS, finder, participant_id="sub-01")


def test_points_and_names_become_lesions_and_all_those_that_were_there(finder):
    table, problems = resolve(
        finder, row("5;6;7"), row("L007"), row("all", day="70", session="n/a", name="t2"),
        row("all", day="1", name="t3"), row("all", kind="wbrt", day="80", name="w"),
        row("all", kind="immunotherapy", day="90", name="i"),
    )  # fmt: skip
    assert problems == []
    assert list(zip(table["treatment_id"], table["track_id"].fillna("all"))) == [
        ("t1", "L003"), ("t1", "L007"), ("t3", "L003"), ("t3", "L007"), ("t2", "L003"), ("t2", "L008"), ("w", "L003"),
        ("w", "L007"), ("i", "all"),
    ]  # fmt: skip
    assert table["dose_gy"].tolist() == [20.0] * 9


def test_a_point_beside_a_lesion_is_taken_and_said(finder):
    table, problems = resolve(finder, row("8;6;7"))
    assert table["track_id"].tolist() == ["L003"]
    assert (problems[0]["sub"], problems[0]["stage"]) == ("sub-01", "warning")
    assert problems[0]["detail"] == (
        f"{FILE}, line 2, column target: 8;6;7 in ses-1 is outside every lesion: L003, 2.0 mm away, is taken."
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (row("22;6;7"), "no lesion at 22;6;7 in ses-1: the nearest is 8.0 mm away; expected one within 5 mm"),
        (row("L009"), "found L009, expected a lesion of the patient: L003, L007, L008"),
        (row("5;6;7", session="ses-2"), "ses-2 has no map of lesions"),
        (row("all", day="-5", session="n/a"), "no lesion was there by then"),
    ],
)
def test_a_target_that_is_no_lesion_is_named_and_the_rest_is_made(finder, given, expected):
    table, problems = resolve(finder, given, row("L003", name="t2", line=3))
    assert table["treatment_id"].tolist() == ["t2"]
    (problem,) = problems
    assert problem["stage"] == "not used"
    assert problem["detail"].startswith(f"{FILE}, line 2, column target: ")
    assert expected in problem["detail"]


def test_two_rows_that_mean_one_lesion_count_once(finder):
    table, problems = resolve(finder, row("5;6;7"), row("L003", line=3))
    assert table["track_id"].tolist() == ["L003"]
    assert "line 3, column target: L003 is part of t1 already" in problems[0]["detail"]


def test_a_treatment_before_the_lesion_is_seen_is_said_and_kept(finder):
    table, problems = resolve(finder, row("L008", day="59"))
    assert table["track_id"].tolist() == ["L008"]
    assert problems[0]["stage"] == "warning"
    assert "L008 is first seen at ses-2 on day 60, after its treatment on day 59" in problems[0]["detail"]
    assert resolve(finder, row("L008", day="60"))[1] == []


def test_days_of_treatment_reach_the_response_unless_a_reader_overrides(finder):
    table, _ = resolve(
        finder, row("L003", day="70", name="b"), row("L003", day="5", name="a"), row("L007", kind="surgery", day="9"),
        row("L008", kind="fsrt", day="65", name="f"), row("all", kind="wbrt", day="1", name="w"),
    )  # fmt: skip
    reader = pd.DataFrame(
        [("n/a", "L008", "Irradiated_Day", "61"), ("ses-1", "L003", "tsm", "true")],
        columns=["session_id", "track_id", "field", "value"], index=[2, 3],
    )  # fmt: skip
    decided = treatments.as_overrides(table, reader)
    found = read_overrides(decided)
    # Radiation of the whole brain is radiation of every lesion that was there.
    assert found.irradiated_day == {"L003": 1.0, "L007": 1.0, "L008": 61.0}
    assert found.resected_day == {"L007": 9.0}
    assert found.too_small == {("ses-1", "L003")}
    assert read_overrides(treatments.as_overrides(table, None)).irradiated_day == {
        "L003": 1.0,
        "L007": 1.0,
        "L008": 65.0,
    }
    assert treatments.as_overrides(table[:0], None) is None


def test_a_readers_point_becomes_a_lesion_or_is_named(finder):
    table = pd.DataFrame(
        [("1", "5;6;7", "tsm", "true"), ("ses-1", "22;6;7", "exclude", "true"), ("ses-1", "L007", "exclude", "true")],
        columns=["session_id", "track_id", "field", "value"], index=[2, 3, 4],
    )  # fmt: skip
    found, problems = treatments.resolve_overrides(table, finder, participant_id="sub-01", source="x/overrides.tsv")
    assert found["track_id"].to_dict() == {2: "L003", 4: "L007"}
    assert "overrides.tsv, line 3, column track_id: no lesion at 22;6;7" in problems[0]["detail"]
    assert table.loc[2, "track_id"] == "5;6;7"


@pytest.mark.parametrize(
    ("cells", "found"), [("ses-1\t1;2", "track_id '1;2'"), ("n/a\t1;2;3", "the point 1;2;3 without session_id")]
)
def test_a_readers_point_is_judged_before_anything_is_computed(tmp_path, cells, found):
    path = tmp_path / "sub-A/sub-A_desc-lesions_overrides.tsv"
    path.parent.mkdir()
    path.write_text(f"session_id\ttrack_id\tfield\tvalue\n{cells}\texclude\ttrue\n")
    with pytest.raises(InputError) as error:
        cohort.find_overrides(tmp_path, ["A"])
    assert error.value.found == found
    assert error.value.what.endswith("line 2")


def test_problems_survive_their_file(tmp_path, finder):
    _, problems = resolve(finder, row("L009"), row("8;6;7", line=3))
    path = tmp_path / "sub-01_desc-inputs_problems.tsv"
    cohort.write_problems(problems, path)
    assert cohort.read_problems([path]) == [problem | {"ses": None, "log": ""} for problem in problems]
    lines = cohort.describe_found([path, tmp_path / "none.tsv"])
    assert [line.split(":")[0] for line in lines] == ["NOT USED sub-01", "WARNING sub-01"]
    cohort.write_problems([], path)
    assert cohort.read_problems([path]) == []
    assert points.NEAREST_MM == 5


def test_a_patient_is_assessed_with_treatments_given_by_points(finder, tmp_path):
    """The order of things: points become lesions, their days reach the response, and the lesions are followed."""
    sizes = {"L003": [14, 9, 16, 16], "L007": [12, 12, 12, 12]}
    rows = [cell(f"ses-{t}", track, mm) for track, each in sizes.items() for t, mm in enumerate(each, start=1)]
    sessions = pd.DataFrame(
        {"session_id": [f"ses-{t}" for t in range(1, 5)], "order": range(1, 5), "days": [5.0, 65, 125, 185],
         "evaluable": True, "ne_reason": "n/a"}
    )  # fmt: skip
    reader = pd.DataFrame(
        [("2", "13;6;7", "ld_mm", "11")], columns=["session_id", "track_id", "field", "value"], index=[2]
    )
    found = assessment.assess(
        assessment.Matched(
            pd.DataFrame(rows), sessions, pd.DataFrame(), finder.maps | {"ses-2": finder.maps["ses-1"]}
        ),
        assessment.Said(
            {"participant_id": "sub-1", "treatment_start_day": "5", "death_day": "300"},
            [row("5;6;7", day="5"), row("10.5;6;7", day="5", line=3), row("L009", day="5", line=4),
             row("L003", day="126", name="t2", kind="fsrt", line=5)],
            reader, "x.tsv", frozen=None,
        ),
        rules=rules_with(),
    )  # fmt: skip
    followed = found.treated.set_index(["treatment_id", "track_id"])
    assert followed["local_failure_day"].fillna(-1).to_dict() == {
        ("t1", "L003"): 120, ("t1", "L007"): -1, ("t2", "L003"): -1,
    }  # fmt: skip
    assert followed["censored_reason"].fillna("").tolist() == ["", "death", "death"]
    assert followed["censored_day"].tolist()[1:] == [295, 295]
    assert found.treatments[["treatment_day", "track_id"]].to_numpy().tolist() == [
        [0, "L003"], [0, "L007"], [121, "L003"],
    ]  # fmt: skip
    # What decided is written for those who do the response again: points are lesions there, treatments days.
    schema.write_tsv(found.decisions, tmp_path / "decisions.tsv")
    again = read_overrides(tsv.read_frame(tmp_path / "decisions.tsv"))
    assert again.diameters_mm == {("ses-2", "L007"): 11}
    assert again.irradiated_day == {"L003": 5, "L007": 5}
    lesions = found.lesions.set_index(["session_id", "track_id"])
    assert lesions.loc[("ses-2", "L007"), "ld_rano_mm"] == 11
    assert bool(lesions.loc[("ses-2", "L003"), "prior_local_therapy"])
    assert "treatment_effect_possible" in lesions.loc[("ses-3", "L003"), "flags"]
    patient = found.patients.iloc[0]
    assert (patient["n_targets"], patient["baseline_session"]) == (2, "ses-1"), "treated on the day of the scan"
    assert (patient["first_event"], patient["first_event_day"], patient["salvage_day"]) == ("local", 120, 121)
    assert [problem["stage"] for problem in found.problems] == ["warning", "not used"]
