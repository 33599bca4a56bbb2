"""Settings changed one at a time: what changes is counted, and nothing else changes."""

import re

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, shipped_config
from mettrail.errors import InputError
from mettrail.images import Grid, Image
from mettrail.response import sensitivity
from mettrail.segmentation import manual_evidence
from mettrail.tracking.evidence import Evidence
from mettrail.tracking.follow import SegmentedVisit

CONFIG = shipped_config()
SHAPE = (40, 40, 40)


def visit(number, *balls, days=None):
    """A visit 60 days after the one before, with balls: ((x, y, z), diameter)."""
    axes = np.indices(SHAPE)
    tissue = np.zeros(SHAPE, np.uint8)
    for place, diameter in balls:
        tissue[sum((a - p) ** 2 for a, p in zip(axes, place)) <= diameter**2 / 4] = 1
    row = {"sub": "A", "ses": str(number), "order": str(number), "usable": "true", "reason": "n/a", "flags": "n/a"}
    row |= {"days": str(60 * (number - 1) if days is None else days), "contrast": "n/a", "image_quality": "n/a"}
    row |= dict.fromkeys(sensitivity.cohort.CLINICAL, "n/a")
    grid = Image(tissue, np.eye(4))
    evidence = Evidence(*(each.data if isinstance(each, Image) else each for each in manual_evidence(grid)))
    brain = Image(np.ones(SHAPE, bool), np.eye(4))
    return SegmentedVisit(row, grid, brain, evidence, {"status": "ok"}, np.eye(4))


def vary(visits, values, **more):
    responses = sensitivity.vary_patient(
        visits, [v.row for v in visits], {"participant_id": "sub-A"}, config=CONFIG, values=values,
        grid=Grid(SHAPE, np.eye(4)), reference_session="ses-1", **more,
    )  # fmt: skip
    rows = sensitivity.summarise(responses, CONFIG)
    return pd.DataFrame(rows).set_index(["setting", "value"])


def test_only_the_setting_that_decides_changes_a_response():
    # The second lesion, 4 mm from edge to edge, is of like size: another gate makes it the first one.
    visits = [visit(1, ((10, 20, 20), 12)), visit(2, ((27, 20, 20), 12))]
    table = vary(visits, {"match.gap_mm": [1, 5], "rano.sd_min_days": [28], "rano.new_definite_mm": [15]})
    assert table["n_sessions_changed"].to_dict() == {
        ("as they are", "as they are"): 0, ("match.gap_mm", "1"): 0, ("match.gap_mm", "5"): 1,
        ("rano.sd_min_days", "28"): 0, ("rano.new_definite_mm", "15"): 1,
    }  # fmt: skip
    assert table["n_tracks_total"].tolist() == [2, 2, 1, 2, 2]
    assert table.loc[("match.gap_mm", "5"), "changes"] == "sub-A ses-2 PD to SD"
    assert table.loc[("match.gap_mm", "5"), "default"] == str(CONFIG["match"]["gap_mm"])
    assert table.loc[("match.gap_mm", "5"), "n_patients_progression_changed"] == 1


def test_a_size_from_which_lesions_are_born_is_measured_anew():
    visits = [visit(1, ((20, 20, 20), 12)), visit(2, ((20, 20, 20), 12), ((8, 8, 8), 3))]
    table = vary(visits, {"instances.birth_mm3": [30]})
    assert table["n_tracks_total"].tolist() == [2, 1]


def test_a_decision_on_a_lesion_that_a_variant_lacks_is_ignored():
    visits = [visit(1, ((20, 20, 20), 12)), visit(2, ((20, 20, 20), 12), ((8, 8, 8), 3))]
    decided = pd.DataFrame([{"session_id": None, "track_id": "L002", "field": "exclude", "value": "true"}])
    table = vary(visits, {"instances.birth_mm3": [30]}, overrides=decided)
    assert table["n_sessions_changed"].tolist() == [0, 0]


def test_a_readers_decision_on_a_session_counts_with_every_variant():
    visits = [visit(1, ((20, 20, 20), 12)), visit(2, ((20, 20, 20), 12))]
    decided = pd.DataFrame([{"session_id": "ses-2", "track_id": "n/a", "field": "nontarget_pd", "value": "true"}])
    responses = sensitivity.vary_patient(
        visits, [v.row for v in visits], {"participant_id": "sub-A"}, config=CONFIG,
        values={"match.gap_mm": [1]}, grid=Grid(SHAPE, np.eye(4)), reference_session="ses-1", overrides=decided,
    )  # fmt: skip
    assert responses.loc[responses["session_id"] == "ses-2", "response_overall_final"].tolist() == ["PD", "PD"]


def test_a_setting_that_does_not_exist_is_named():
    for name in ("match.gap", "segment.device", "gap_mm"):
        with pytest.raises(InputError, match=name):
            sensitivity.variants(CONFIG, {name: [1]})


def test_the_settings_given_are_left_as_they_are():
    variants = sensitivity.variants(CONFIG, {"match.gap_mm": [1]})
    assert CONFIG == variants[0][2] == shipped_config()
    assert variants[1][2]["match"]["gap_mm"] == 1


def test_every_setting_of_the_shipped_grid_exists_and_differs():
    for name, value, changed in sensitivity.variants(CONFIG, CONFIG["sensitivity"]["values"])[1:]:
        block, key = name.split(".")
        assert changed[block][key] == value != CONFIG[block][key]


# Settings after the segmentation that a publication fixes, and which.
RANO_BM = "Lin et al., Lancet Oncol 2015"
RECIST = "Eisenhauer et al., Eur J Cancer 2009"
PUBLISHED = {
    "rano.max_targets": RANO_BM, "rano.ld_min_mm": RANO_BM, "rano.perp_min_mm": RANO_BM, "rano.slices_min": RANO_BM,
    "rano.baseline_window_days": RANO_BM, "rano.pr": RANO_BM, "rano.pd": RANO_BM, "rano.pd_abs_mm": RANO_BM,
    "rano.confirm": RANO_BM, "rano.confirm_days": RANO_BM, "rano.small_lesions": RANO_BM, "rano.abs_rule": RANO_BM,
    "rano.tsm_mode": RECIST, "rano.irano": "Okada et al., Lancet Oncol 2015",
    # As strict as the diameters of RANO-BM, of a sphere.
    "volume.pr": RANO_BM, "volume.pd": RANO_BM, "volume.pd_abs_esd_mm": RANO_BM,
}  # fmt: skip


def test_every_setting_after_the_segmentation_is_published_or_varied():
    there = {f"{block}.{key}" for block in sensitivity.BLOCKS for key in CONFIG[block]}
    assert there - set(PUBLISHED) == set(CONFIG["sensitivity"]["values"])
    assert set(PUBLISHED) <= there


def test_a_number_that_no_publication_fixes_is_a_setting_and_no_constant():
    constant = re.compile(r"(?:^#.*\n)*^[A-Z][A-Z0-9_, ]* = .*", re.MULTILINE)
    files = sorted((ROOT / "scripts" / "mettrail" / "response").rglob("*.py"))
    found = [said for path in files for said in constant.findall(path.read_text())]
    assert any("iRANO" in said for said in found)
    assert not [said for said in found if re.search(r"\bours\b", said)]


def test_a_patient_without_a_usable_visit_has_rows_all_the_same():
    row = visit(1).row | {"usable": "false", "reason": "no_contrast"}
    responses = sensitivity.vary_patient(
        [], [row], {"participant_id": "sub-A"}, config=CONFIG, values={"match.gap_mm": [1]}, grid=None,
        reference_session="n/a",
    )  # fmt: skip
    assert responses["response_overall_final"].tolist() == ["NE", "NE"]
