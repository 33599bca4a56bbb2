"""Tables: every column in one place, nothing lost between writing and reading, nothing let through."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from mettrail import schema, sidecars
from mettrail.errors import InputError

# The columns as the documentation promises them, written once more by hand.
LESIONS = """\
participant_id session_id track_id days_from_t0 is_baseline status event merged_into n_components match_method
match_score role measurable ld_mm perp_mm ld_feret_mm max3d_mm esd_mm extent_z_mm border_distance_mm
ld_rano_mm ld_source vol_rano_ml vol_source bidim_mm2 surface_mm2 ld_slice ld_endpoint1_x_mm ld_endpoint1_y_mm
ld_endpoint1_z_mm ld_endpoint2_x_mm ld_endpoint2_y_mm ld_endpoint2_z_mm slice_spacing_mm n_voxels n_slices
vol_wl_mm3 vol_et_mm3 vol_nc_mm3 vol_ed_mm3 vol_wl_ml necrosis_fraction touches_border enhancing centroid_x_mm
centroid_y_mm centroid_z_mm centroid_x_ref_mm centroid_y_ref_mm centroid_z_ref_mm ld_change_baseline_pct
ld_change_nadir_pct vol_change_baseline_pct vol_change_nadir_pct lesion_response new_lesion_status
mean_probability confidence detected_by certainty region side vol_probability_low_ml vol_probability_high_ml
ld_probability_low_mm ld_probability_high_mm vol_half_voxel_low_ml vol_half_voxel_high_ml ld_half_voxel_low_mm
ld_half_voxel_high_mm vol_growth_ml_per_30_days vol_doubling_time_days prior_local_therapy flags"""
SESSIONS = """session_id participant_id days_from_t0 session_role evaluable ne_reason registration_qc
head_volume_ratio residual_shift_mm brain_method brain_volume_ml brain_fit brain_other_volume_ml brain_overlap
brain_bright_share labels_auc baseline_flag n_lesions n_candidates n_targets n_new n_absent n_subthreshold sum_ld_mm
sum_ld_baseline_mm reference_sum_ld_mm nadir_sum_ld_mm
sum_ld_change_baseline_pct sum_ld_change_nadir_pct max_lesion_increase_mm sum_vol_target_ml total_vol_wl_ml
total_vol_et_ml total_vol_nc_ml total_vol_ed_ml cavity_ml edema_unassigned_mm3 sum_ld_final_mm sum_vol_target_final_ml
total_vol_wl_final_ml total_vol_et_final_ml total_vol_nc_final_ml total_vol_ed_final_ml target_response
target_response_continued nontarget_response nontarget_source new_lesion steroid_status clinical_status clinical_assumed
response_imaging_prospective response_imaging_final response_overall_prospective response_overall_final
response_imaging_continued response_overall_continued response_volumetric_prospective response_volumetric_final
confirmed pd_reason flags"""
PATIENTS = """participant_id n_sessions n_evaluable t0_source baseline_session baseline_flag n_lesions_baseline
n_targets n_nontargets n_tracks_total n_new_total baseline_sum_ld_mm nadir_sum_ld_mm best_change_ld_pct
baseline_vol_ml best_change_vol_pct best_response best_response_day best_response_confirmed best_response_volumetric
progressed progression_day progression_reason time_to_progression_days ttp_event last_evaluable_day
duration_of_response_days brain_metastasis_velocity_first_per_year brain_metastasis_velocity_latest_per_year
brain_metastasis_velocity_group local_failure_day distant_failure_day leptomeningeal_day salvage_day death_day
last_contact_day first_event first_event_day lesion_count_group flags config_hash"""
TREATED_LESIONS = """participant_id treatment_id track_id treatment_type treatment_day dose_gy fractions isodose_pct
pretreatment_session pretreatment_ld_mm pretreatment_vol_ml nadir_ld_mm nadir_ld_day nadir_vol_ml nadir_vol_day
best_response local_failure local_failure_day failure_by treatment_effect_possible failure_confirmed
time_to_local_failure_days censored_day censored_reason salvage_day"""
SENSITIVITY = """setting value default n_sessions n_sessions_changed n_sessions_changed_volumetric n_patients
n_patients_changed n_patients_progression_changed n_tracks_total changes"""
EVALUATION_SCANS = """method participant_id session_id tissue first_session known_only empty truth_mm3 predicted_mm3
dsc ndsc voxel_recall voxel_precision hd95_mm n_truth n_predicted f1 tpr fdr n_found sensitivity n_false n_false_10mm3
dsc_found lesionwise_dsc lesionwise_hd95_mm lesionwise_dsc_2026 lesionwise_nsd_2026 small_f1_2026 pq rq sq n_new
n_vanished n_vanished_left n_false_vanished"""
EVALUATION_LESIONS = """method participant_id session_id lesion first_session known_only new volume_mm3 diameter_mm
diameter_group found dsc ndsc"""
EVALUATION_PROBABILITIES = """method participant_id session_id first_session known_only n_truth auc youden_threshold
youden_sensitivity youden_specificity threshold threshold_from threshold_dsc threshold_recall threshold_precision
threshold_sensitivity threshold_n_false threshold_n_false_10mm3"""
EVALUATION_FROC = """method subset tissue min_mm3 threshold n_scans n_lesions n_found n_false sensitivity false_per_scan
merging"""
EVALUATION_SUMMARY = "method subset tissue group score n mean sd"
EVALUATION_TESTS = "method test against subset tissue group score n statistic p"
PROMISED = {
    "lesions": LESIONS,
    "sessions": SESSIONS,
    "patients": PATIENTS,
    "treated_lesions": TREATED_LESIONS,
    "sensitivity": SENSITIVITY,
    "evaluation_scans": EVALUATION_SCANS,
    "evaluation_lesions": EVALUATION_LESIONS,
    "evaluation_probabilities": EVALUATION_PROBABILITIES,
    "evaluation_froc": EVALUATION_FROC,
    "evaluation_summary": EVALUATION_SUMMARY,
    "evaluation_tests": EVALUATION_TESTS,
}
KINDS = list(PROMISED)


def filled(kind, n=2):
    """A table with a value in every cell of the first rows and nothing but identity in the last."""
    rows = []
    for i in range(n):
        row = {}
        for c in schema.KINDS[kind]:
            values = {
                "string": f"text{i}",
                "enum": list(c.levels)[i % len(c.levels)] if c.levels else None,
                "integer": i + 3,
                "float": i + 1 / 3,
                "boolean": i % 2 == 0,
            }
            row[c.name] = values[c.dtype]
        rows.append(row)
    keys = [c for c in schema.KINDS[kind] if c.name in schema.KEYS[kind]]
    last = {c.name: list(c.levels)[-1] if c.levels else "last" if c.dtype == "string" else 0 for c in keys}
    rows.append(dict.fromkeys(schema.columns(kind)) | last)
    return schema.make_table(rows, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_has_the_promised_columns_in_order_identity_first(kind):
    assert schema.columns(kind) == PROMISED[kind].split()
    assert set(schema.columns(kind)[: len(schema.KEYS[kind])]) == set(schema.KEYS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_table_is_a_table(tmp_path, kind):
    table = schema.empty(kind)
    assert (len(table), list(table)) == (0, schema.columns(kind))
    for write, name in ((schema.write_table, "a.tsv"), (schema.write_csv_mirror, "a.csv")):
        write(table, tmp_path / name, kind)
        pd.testing.assert_frame_equal(schema.read_table(tmp_path / name, kind), table)
    pd.testing.assert_frame_equal(schema.make_table([], kind), table)
    pd.testing.assert_frame_equal(schema.read_tables([], kind), table)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["tsv", "csv"])
def test_what_is_written_is_read_again_rounded(tmp_path, kind, suffix):
    table = filled(kind)
    write = schema.write_table if suffix == "tsv" else schema.write_csv_mirror
    write(table, tmp_path / f"deep/a.{suffix}", kind)
    back = schema.read_table(tmp_path / f"deep/a.{suffix}", kind)
    assert (back.dtypes == table.dtypes).all()
    pd.testing.assert_frame_equal(back, table, atol=1e-2, rtol=0)
    assert back[schema.KEYS[kind][0]].tolist() == ["text0", "text1", "last"]
    numbers = [c.name for c in schema.KINDS[kind] if c.dtype == "float"]
    assert np.isin(back[numbers].iloc[0], (0.333, 0.3333, 0.333333)).any() or not numbers
    # Written again, not a byte is different: rounding happens once.
    write(back, tmp_path / f"again.{suffix}", kind)
    assert (tmp_path / f"again.{suffix}").read_bytes() == (tmp_path / f"deep/a.{suffix}").read_bytes()


def test_the_final_table_says_na_true_and_false(tmp_path):
    schema.write_table(filled("lesions"), tmp_path / "a.tsv", "lesions")
    header, first, second, last = [line.split("\t") for line in (tmp_path / "a.tsv").read_text().splitlines()]
    at = header.index("is_baseline")
    assert (first[at], second[at], last[at]) == ("true", "false", "n/a")
    assert set(last[3:]) == {"n/a"}


def test_the_mirror_says_true_and_false_as_r_and_spreadsheets_do(tmp_path):
    schema.write_csv_mirror(filled("lesions"), tmp_path / "a.csv", "lesions")
    header, *rows = [line.split(",") for line in (tmp_path / "a.csv").read_text().splitlines()]
    assert [row[header.index("is_baseline")] for row in rows] == ["TRUE", "FALSE", ""]
    assert pd.read_csv(tmp_path / "a.csv")["is_baseline"].tolist()[:2] == [True, False]


def test_the_mirror_has_empty_fields_and_the_same_columns(tmp_path):
    schema.write_csv_mirror(filled("lesions"), tmp_path / "a.csv", "lesions")
    header, *_, last = (tmp_path / "a.csv").read_text().splitlines()
    assert header.split(",") == schema.columns("lesions")
    assert last == "last,last,last" + "," * (len(schema.columns("lesions")) - 3)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1 / 3, "0.333"), (2.0, "2"), (-0.0001, "0"), (1e-9, "0"), (12345.6789, "12345.679"), (math.nan, "n/a")],
)
def test_numbers_are_rounded_when_written_and_only_then(tmp_path, value, shown):
    table = filled("lesions", 1).assign(ld_mm=[value, math.nan])
    assert table["ld_mm"].iloc[0] == pytest.approx(value, abs=0, rel=0, nan_ok=True)
    schema.write_table(table, tmp_path / "a.tsv", "lesions")
    header, first, _ = [line.split("\t") for line in (tmp_path / "a.tsv").read_text().splitlines()]
    assert first[header.index("ld_mm")] == shown


def test_numbers_without_a_unit_keep_their_figures(tmp_path):
    """A p of a ten-millionth is not 0, and a mean of hundreds has no more decimals than it deserves."""
    rows = filled("evaluation_tests").assign(statistic=[1234.56789, math.nan, 0.0], p=[1.23456789e-7, 1 / 3, math.nan])
    schema.write_csv_mirror(rows, tmp_path / "a.csv", "evaluation_tests")
    cells = [line.split(",")[-2:] for line in (tmp_path / "a.csv").read_text().splitlines()[1:]]
    assert cells == [["1234.57", "1.23457e-07"], ["", "0.333333"], ["0", ""]]


@pytest.mark.parametrize(("days", "shown"), [(27.5, 28), (27.49, 27), (-0.5, 0), (-27.6, -28), (math.nan, None)])
def test_days_are_whole_numbers(days, shown):
    rows = [
        dict.fromkeys(schema.columns("sessions")) | {"participant_id": "a", "session_id": "b", "days_from_t0": days}
    ]
    found = schema.make_table(rows, "sessions")["days_from_t0"].iloc[0]
    assert (None if pd.isna(found) else found) == shown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(shoe_size=1), "unknown: shoe_size"),
        (lambda t: t.drop(columns="role"), "lacking: role"),
        (lambda t: t.rename(columns={"role": "rôle"}), "unknown: rôle; lacking: role"),
        (lambda t: t.assign(status="gone"), "status = gone"),
        (lambda t: t.assign(n_voxels=2.5), "n_voxels = 2.5"),
        (lambda t: t.assign(ld_mm="long"), "ld_mm = long"),
        (lambda t: t.assign(ld_mm=math.inf), "ld_mm = inf"),
        (lambda t: t.assign(enhancing="maybe"), "enhancing = maybe"),
        (lambda t: t.assign(track_id=None), "a row without"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "two rows of text0 text0 text0"),
        (lambda t: t.assign(merged_into="a\tb"), "merged_into"),
    ],
)
def test_what_is_not_in_the_list_is_refused(tmp_path, change, message):
    table = change(filled("lesions"))
    for write, path in ((schema.write_table, "a.tsv"), (schema.write_csv_mirror, "a.csv")):
        with pytest.raises(InputError, match=re.escape(message)):
            write(table, tmp_path / path, "lesions")
        assert not (tmp_path / path).exists()


@pytest.mark.parametrize(("reason", "ok"), [("target;new", True), ("target", True), ("target;mood", False), ("", True)])
def test_each_of_several_values_in_a_cell_is_checked(reason, ok):
    table = filled("sessions").assign(pd_reason=reason)
    if ok:
        schema.make_table(table, "sessions")
    else:
        with pytest.raises(InputError, match="mood"):
            schema.make_table(table, "sessions")


def test_flags_may_say_more_than_the_dictionary():
    flags = ["thick_slice;seen_by_dr_x", "oblique", None]
    assert schema.make_table(filled("lesions").assign(flags=flags), "lesions")["flags"].iloc[0] == flags[0]


def test_columns_in_any_order_are_written_in_theirs(tmp_path):
    schema.write_table(filled("patients")[schema.columns("patients")[::-1]], tmp_path / "a.tsv", "patients")
    assert (tmp_path / "a.tsv").read_text().splitlines()[0].split("\t") == schema.columns("patients")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["tsv", "csv"])
def test_the_dictionary_beside_a_table_describes_every_column(tmp_path, kind, suffix):
    write = schema.write_table if suffix == "tsv" else schema.write_csv_mirror
    write(schema.empty(kind), tmp_path / f"a.{suffix}", kind)
    said = json.loads((tmp_path / "a.json").read_text())
    words = ["true", "false"] if suffix == "tsv" else ["TRUE", "FALSE"]
    assert said == schema.data_dictionary(kind, booleans=tuple(words))
    assert list(said) == schema.columns(kind)
    for column in schema.KINDS[kind]:
        entry = said[column.name]
        assert entry["Description"].endswith((".", ";", "born later", ")")) or len(entry["Description"]) > 20
        assert bool({"Levels", "LevelsOfEachPart"} & set(entry)) == (column.dtype in ("enum", "boolean"))
        assert column.dtype != "boolean" or list(entry["Levels"]) == words
        assert ("LevelsOfEachPart" in entry) == (column.dtype == "enum" and column.many)
        unit = re.search(r"_(mm3|mm2|mm|ml|pct|days?)(_per_30_days)?$", column.name)
        units = {"mm3": "mm^3", "mm2": "mm^2", "mm": "mm", "ml": "mL", "pct": "%", "day": "d", "days": "d"}
        if unit:
            assert entry["Units"] == units[unit[1]], column.name


@pytest.mark.parametrize("suffix", ["tsv", "csv"])
def test_the_dictionary_says_what_made_the_table(tmp_path, suffix):
    write = schema.write_table if suffix == "tsv" else schema.write_csv_mirror
    maker = sidecars.describe_maker(version="0.1.0", settings_hash="3f9a", commit="c0ffee", container="docker")
    write(schema.empty("patients"), tmp_path / f"a.{suffix}", "patients", maker=maker)
    said = json.loads((tmp_path / "a.json").read_text())
    assert said.pop("GeneratedBy") == [
        {
            "Name": "mettrail",
            "Version": "0.1.0",
            "Description": "settings 3f9a, commit c0ffee",
            "Container": {"Type": "docker"},
        }
    ]
    assert list(said) == schema.columns("patients")


def test_the_dictionary_says_what_a_later_session_may_change():
    revisable = {c.name for kind in schema.KINDS.values() for c in kind if c.revisable}
    assert {"response_overall_final", "response_imaging_final", "new_lesion_status", "confirmed"} <= revisable
    assert not {"response_overall_prospective", "target_response", "sum_ld_mm", "ld_mm", "status", "role"} & revisable
    assert schema.data_dictionary("lesions")["ld_rano_mm"]["Revisable"] is True
    assert "Revisable" not in schema.data_dictionary("lesions")["ld_mm"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_for_people_has_a_line_per_column(kind):
    lines = schema.markdown_table(kind).splitlines()
    assert [line.split("`")[1] for line in lines[2:]] == schema.columns(kind)
    assert {line.count(" | ") + line.count("| |") for line in lines[2:]} == {3}


def test_patients_are_put_together_without_losing_types(tmp_path):
    one, other = filled("lesions"), filled("lesions").assign(participant_id="other")
    for name, table in (("a", one), ("b", other), ("c", schema.empty("lesions"))):
        schema.write_table(table, tmp_path / f"{name}.tsv", "lesions")
    both = schema.read_tables([tmp_path / f"{name}.tsv" for name in "cab"], "lesions")
    assert len(both) == 6
    assert (both.dtypes == one.dtypes).all()
    with pytest.raises(InputError, match="two rows"):
        schema.read_tables([tmp_path / "a.tsv", tmp_path / "a.tsv"], "lesions")


# --- Between stages -----------------------------------------------------------------------------------------------


def test_numbers_between_stages_keep_every_bit(tmp_path):
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [rng.standard_normal(50) * 10.0 ** rng.integers(-300, 300, 50), [0.1 + 0.2, 1e22, -0.0, 5.0]]
    )
    table = pd.DataFrame({"name": [f"L{i}" for i in range(len(values))], "value": values})
    schema.write_tsv(table, tmp_path / "a.tsv")
    back = schema.read_tsv(tmp_path / "a.tsv")
    assert back["value"].to_numpy().tobytes() == values.tobytes()


def test_types_between_stages_survive(tmp_path):
    table = pd.DataFrame(
        {
            "label": ["01", "02", None],
            "count": pd.array([1, 2, None], dtype="Int64"),
            "size": [1.5, math.nan, 2.0],
            "sure": [True, None, np.False_],
            "word": ["NA", "None", "true story"],
        }
    )
    schema.write_tsv(table, tmp_path / "a.tsv")
    assert (tmp_path / "a.tsv").read_text().splitlines()[1:] == [
        "01\t1\t1.5\ttrue\tNA",
        "02\t2\tn/a\tn/a\tNone",
        "n/a\tn/a\t2.0\tfalse\ttrue story",
    ]
    back = schema.read_tsv(tmp_path / "a.tsv")
    assert [str(t) for t in back.dtypes] == ["str", "Int64", "float64", "boolean", "str"]
    assert back["word"].tolist() == ["NA", "None", "true story"]
    assert back["label"].tolist()[:2] == ["01", "02"]
    assert back.isna().to_numpy().tolist() == table.isna().to_numpy().tolist()


def test_known_columns_have_their_type_also_without_rows_or_values(tmp_path):
    for rows in ("", "1\tn/a\tn/a\tn/a\n"):
        (tmp_path / "a.tsv").write_text("ses\tld_mm\tprobable_missed_detection\ttrack_id\n" + rows)
        back = schema.read_tsv(tmp_path / "a.tsv")
        assert [str(t) for t in back.dtypes] == ["str", "float64", "boolean", "str"]
        assert len(back) == (1 if rows else 0)


def test_columns_named_as_text_stay_text(tmp_path):
    (tmp_path / "a.tsv").write_text("label\tn\n1\t1\n2\t2\n")
    assert schema.read_tsv(tmp_path / "a.tsv", text=["label"])["label"].tolist() == ["1", "2"]
    assert schema.read_tsv(tmp_path / "a.tsv")["label"].tolist() == [1, 2]


def test_tables_of_several_sessions_are_joined_also_without_rows(tmp_path):
    for name, rows in (("a", ""), ("b", "L001\t2.5\n"), ("c", "L001\t3.5\n")):
        (tmp_path / f"{name}.tsv").write_text("track_id\tld_mm\n" + rows)
    back = schema.read_tsvs([tmp_path / f"{name}.tsv" for name in "abc"])
    assert back["ld_mm"].tolist() == [2.5, 3.5]
    assert list(schema.read_tsvs([tmp_path / "a.tsv"])) == ["track_id", "ld_mm"]
    assert schema.read_tsvs([]).empty


@pytest.mark.parametrize("text", ["a\tb", "a\nb", ""])
def test_text_that_would_break_a_table_is_refused(tmp_path, text):
    with pytest.raises(InputError, match="word"):
        schema.write_tsv(pd.DataFrame({"word": [text]}), tmp_path / "a.tsv")
    assert not (tmp_path / "a.tsv").exists()


@pytest.mark.parametrize(
    ("content", "message"), [("", "an empty file"), ("ld_mm\nlong\n", "ld_mm"), ("n_voxels\n1.5\n", "n_voxels")]
)
def test_a_table_that_cannot_be_read_says_where(tmp_path, content, message):
    (tmp_path / "a.tsv").write_text(content)
    with pytest.raises(InputError, match=message):
        schema.read_tsv(tmp_path / "a.tsv")
