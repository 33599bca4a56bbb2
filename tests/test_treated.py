"""A whole run with treatments given by places in scans, before any lesion has a number."""

import html

import numpy as np
import pandas as pd
import pytest
from plums import SHAPE, add_visit, plum, run, start_dataset, table_of

BIG, SMALL = (8, 4, 2), (-10, -8, 3)


def point(place, offset=(0, 0, 0)):
    """A place in a plum as RAS mm of its scan."""
    corner = np.array([-28, -32, -26])
    return ";".join(f"{x:g}" for x in np.array(place) + (np.array(SHAPE) - 1) / 2 + corner + offset)


@pytest.fixture(scope="module")
def treated(tmp_path_factory):
    """A has two lesions, both treated; of B it is only said that there was radiosurgery."""
    folder = tmp_path_factory.mktemp("treated")
    start_dataset(folder)
    for visit, sizes in enumerate([(15, 10), (9, 10), (16, 10)], start=1):
        add_visit(folder, "A", str(visit), *plum(visit, list(zip((BIG, SMALL), sizes))))
    add_visit(folder, "B", "1", *plum(9, [(BIG, 12)]))
    rows = [
        ["g", "Gamma Knife", "0", "1", point(BIG), "20", "1"],
        ["g", "SRS", "0", "1", point(SMALL, (0, 0, 8)), "twenty", "1"],
        ["g", "SRS", "0", "1", point((0, 0, -18)), "20", "1"],
        ["h", "magic", "0", "1", "all", "20", "1"],
        ["r", "fsrt", "121", "n/a", "L001", "25", "5"],
        ["u", "srs", "121", "n/a", "L009", "20", "1"],
    ]
    lines = ["treatment_id\ttype\tday\tsession_id\ttarget\tdose_gy\tfractions", *map("\t".join, rows)]
    (folder / "bids/sub-A/sub-A_treatments.tsv").write_text("\n".join(lines) + "\n")
    (folder / "bids/sub-A/sub-A_desc-lesions_overrides.tsv").write_text(
        f"session_id\ttrack_id\tfield\tvalue\n2\t{point(SMALL)}\tld_mm\t7\n2\t{point((0, 0, -18))}\tld_mm\t7\n"
    )
    people = ["participant_id\ttreatment_type\tdeath_day\tlast_contact_day", "A\tsrs\t30\t400", "B\tsrs\tn/a\tn/a"]
    (folder / "bids/participants.tsv").write_text("\n".join(people) + "\n")
    done = run(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stderr


def test_lesions_named_by_points_are_followed_from_their_treatment(treated):
    table = table_of(treated[0], "treated_lesions").set_index(["treatment_id", "track_id"])
    assert list(table.index) == [("g", "L001"), ("g", "L002"), ("r", "L001")]
    failed = table.loc[("g", "L001")]
    assert (failed["pretreatment_session"], failed["local_failure_day"], failed["salvage_day"]) == ("ses-1", 120, 121)
    assert (failed["failure_by"].split(";")[0], bool(failed["treatment_effect_possible"])) == ("diameter", True)
    assert failed["nadir_ld_mm"] == pytest.approx(9, abs=1.2)
    assert (failed["dose_gy"], failed["fractions"]) == (20, 1)
    held = table.loc[("g", "L002")]
    assert (bool(held["local_failure"]), held["censored_reason"], held["censored_day"]) == (False, "last_scan", 120)
    assert pd.isna(held["dose_gy"])
    assert table.loc[("r", "L001"), "censored_reason"] == "no_followup"


def test_what_became_of_the_patient_is_in_the_tables(treated):
    patients = table_of(treated[0], "patients").set_index("participant_id")
    a = patients.loc["sub-A"]
    assert (a["t0_source"], a["flags"].split(";")[-1]) == ("treatment", "start_from_treatments")
    assert (a["local_failure_day"], a["first_event"], a["first_event_day"]) == (120, "local", 120)
    assert (a["salvage_day"], a["last_contact_day"], pd.isna(a["death_day"])) == (121, 400, True)
    assert patients.loc["sub-B", "first_event"] == "none"
    lesions = table_of(treated[0], "lesions").set_index(["participant_id", "session_id", "track_id"])
    assert lesions.loc[("sub-A", "ses-2", "L002"), ["ld_rano_mm", "ld_source"]].tolist() == [7, "override"]
    assert bool(lesions.loc[("sub-A", "ses-2", "L001"), "prior_local_therapy"])


def test_each_patient_has_a_list_of_treatments_and_one_of_treated_lesions(treated):
    listed = pd.read_csv(treated[0] / "out/sub-A/sub-A_desc-treatments.tsv", sep="\t", na_values="n/a")
    assert listed[["treatment_id", "treatment_type", "treatment_day", "track_id"]].to_numpy().tolist() == [
        ["g", "srs", 0, "L001"], ["g", "srs", 0, "L002"], ["r", "fsrt", 121, "L001"],
    ]  # fmt: skip
    for sub, n in (("A", 3), ("B", 0)):
        table = pd.read_csv(treated[0] / f"out/sub-{sub}/sub-{sub}_desc-treated_lesions.tsv", sep="\t")
        assert len(table) == n
        assert table.columns.tolist() == table_of(treated[0], "treated_lesions").columns.tolist()
        assert (treated[0] / f"out/sub-{sub}/sub-{sub}_desc-treated_lesions.json").exists()
    assert (treated[0] / "out/tables/treated_lesions.json").exists()


@pytest.mark.parametrize(
    "said",
    [
        "sub-A_treatments.tsv, line 3, column target: -10",  # outside, yet near
        "is outside every lesion: L002, 3.6 mm away, is taken",  # 3 mm from its edge, 3.6 to a voxel's centre
        "line 3: found dose_gy 'twenty', expected a number",
        "sub-A_treatments.tsv, line 4, column target: no lesion at",
        "sub-A_treatments.tsv, line 5, column type: bad_treatment: found 'magic'",
        "sub-A_treatments.tsv, line 7, column target: found L009",
        "sub-A_desc-lesions_overrides.tsv, line 3, column track_id: no lesion at",
        "death: found day 30, before the last scan on day 120",
        "treatment_type srs, and no sub-B/sub-B_treatments.tsv",
    ],
)
def test_what_is_not_used_or_has_a_warning_is_printed_and_on_the_page(treated, said):
    folder, stderr = treated
    page = html.unescape((folder / "out/index.html").read_text())
    told = said.replace("-10", point(SMALL, (0, 0, 8)))
    assert told in stderr
    assert told in page


def test_the_second_run_has_nothing_to_do(treated):
    assert "Nothing to be done" in run(treated[0], "--dry-run").stdout
