"""Radiomics features: MIRP's values against published and known ones, what is flagged, the change between sessions."""

import json
import math
from importlib import metadata

import numpy as np
import pandas as pd
import plums
import pytest
from mettrail import cli, schema
from mettrail.images import Image
from mettrail.schema.features import FEATURE_NAMES
from mettrail.tracking import features

# Of ITK's classes, at every import.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning")
TINY = {"few_voxels": 64, "grid": "raw", "normalisation": "none", "bins": 8}
# The digital phantom of the IBSI: slices of rows, 0 outside the mask, voxels of 2 mm.
PHANTOM = """
14411 14611 41641 44641
14411 11611 01311 44611
14400 11111 11011 11611
14400 11111 11111 11611
"""
# What its reference manual gives for it, in three figures; matrices of three dimensions, merged.
PUBLISHED = {
    "morph_volume": 556, "morph_vol_approx": 592, "morph_area_mesh": 388, "morph_sphericity": 0.843,
    "ih_entropy": 1.27, "ih_uniformity": 0.512, "ih_mad": 1.55, "cm_corr": 0.183, "cm_inv_var": 0.0574,
    "cm_auto_corr": 5.19, "cm_clust_tend": 7.41, "szm_lzlge": 503, "szm_zs_var": 331,
    "ngt_coarseness": 0.0296, "ngt_contrast": 0.584, "ngt_strength": 0.763, "morph_moran_i": 0.0397,
}  # fmt: skip


@pytest.fixture(scope="module")
def mirp():
    return pytest.importorskip("mirp", reason="mirp is not installed (extra features)")


def ball(spacing=(0.8, 1.0, 1.6), radius_mm=9):
    """A ball of noise with voxels that are no cubes: image and mask."""
    axes = [np.arange(-n, n + 1) * size for n, size in zip((16, 14, 9), spacing)]
    mask = sum(np.square(axis) for axis in np.meshgrid(*axes, indexing="ij")) <= radius_mm**2
    return Image(np.random.default_rng(1).normal(5, 2, mask.shape), np.diag([*spacing, 1])), mask


def test_the_phantom_of_the_ibsi_has_its_published_features(mirp):
    slices = [[list(map(int, row)) for row in line.split()] for line in PHANTOM.strip().splitlines()]
    inner = np.array(slices).transpose(2, 1, 0)
    image = Image(np.pad(inner, 3).astype(float), np.diag([2.0, 2, 2, 1]))
    found = features.compute_features(image, image.data > 0, bins=6)
    assert {name: float(f"{found[name]:.3g}") for name in PUBLISHED} == PUBLISHED
    assert not [name for name in FEATURE_NAMES if math.isnan(found[name])]


def test_a_ball_has_its_volume_and_its_own_intensities(mirp):
    image, mask = ball()
    found = features.compute_features(image, mask, bins=32)
    assert found["morph_volume"] == pytest.approx(4 / 3 * np.pi * 9**3, rel=0.01)
    assert found["morph_vol_approx"] == pytest.approx(mask.sum() * 1.28, rel=1e-6)
    inside = image.data[mask]
    assert found["stat_mean"] == pytest.approx(inside.mean(), rel=1e-5)
    assert found["stat_var"] == pytest.approx(inside.var(), rel=1e-5)
    assert not [name for name in found if math.isnan(found[name])]
    assert len(inside) > 1000
    assert found["ih_max"] == 32


def test_intensities_are_normalised_in_the_brain():
    image, mask = ball()
    brain = image.like(mask.astype(np.uint8))
    scores = features.normalise(image, brain, normalisation="z-score").data
    assert (scores[mask].mean(), scores[mask].std()) == pytest.approx((0, 1))
    assert scores[0, 0, 0] == pytest.approx((image.data[0, 0, 0] - image.data[mask].mean()) / image.data[mask].std())
    assert features.normalise(image, brain, normalisation="none") is image


def measure(image, numbers, names=("L001", "L002"), **settings):
    """Rows of a session whose tissues all have the same mask but for the edema, which is empty."""
    masks = dict.fromkeys(("lesion", "enhancing", "necrosis"), image.like(numbers))
    masks["edema"] = image.like(np.zeros_like(numbers))
    listed = pd.DataFrame({"index": range(1, len(names) + 1), "name": names})
    whose = {"participant_id": "sub-A", "session_id": "ses-1"}
    rows = features.measure_session(image, masks, listed, whose=whose, **TINY | settings)
    return rows.set_index(["track_id", "tissue"])


def test_tiny_and_empty_masks_are_flagged_and_never_fail(mirp):
    image, mask = ball()
    numbers = mask.astype(np.uint8)
    numbers[0, 0, 0] = 2
    numbers[0, 0, 5:7] = 3
    rows = measure(image, numbers, names=("L001", "L002", "L003", "L004"))
    assert len(rows) == 16
    flagged = rows["flags"].fillna("").unstack()
    assert flagged["edema"].eq("no_voxels").all()
    assert flagged["lesion"].tolist() == ["", "few_voxels", "few_voxels", "no_voxels"]
    assert rows.loc[("L002", "lesion"), "morph_vol_approx"] == pytest.approx(1.28)
    assert rows.loc[("L004", "lesion"), FEATURE_NAMES].isna().all()
    assert rows.loc[("L001", "lesion"), ["voxel_x_mm", "voxel_z_mm", "n_bins"]].tolist() == [0.8, 1.6, 8]
    assert rows["software_version"].unique().tolist() == [metadata.version("mirp")]


def test_a_lesion_that_fails_is_flagged_and_the_rest_goes_on(monkeypatch, capsys):
    def compute(image, mask, **_):
        if mask[0, 0, 0]:
            raise ZeroDivisionError("no such luck")
        return dict.fromkeys(FEATURE_NAMES, 7.0)

    monkeypatch.setattr(features, "compute_features", compute)
    monkeypatch.setattr(features, "require_mirp", lambda: "1")
    image, mask = ball()
    numbers = mask.astype(np.uint8) * 2
    numbers[0, 0, 0] = 1
    rows = measure(image, numbers)
    assert rows["flags"].fillna("").xs("lesion", level="tissue").tolist() == ["failed", ""]
    assert rows.loc[("L001", "lesion"), FEATURE_NAMES].isna().all()
    assert rows.loc[("L002", "lesion"), FEATURE_NAMES].eq(7).all()
    said = capsys.readouterr()
    assert "L001: MIRP cannot compute the features of lesion, 1 voxels" in said.out
    assert "no such luck" in said.err


def test_without_mirp_the_command_says_what_to_install(monkeypatch, capsys, tmp_path):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(features.metadata, "version", version)
    assert cli.main(["features", str(tmp_path), str(tmp_path / "out")]) == cli.BAD_INPUT
    said = capsys.readouterr().err
    assert "no Python package mirp" in said
    assert 'to do: pip install ".[features]"' in said
    assert not (tmp_path / "out").exists()


def history(*sessions):
    """Rows of one mask: (session, flag, what all features are)."""
    empty = dict.fromkeys(schema.columns("features")) | {"participant_id": "sub-A", "track_id": "L001"}
    rows = [
        empty | {"session_id": session, "tissue": "lesion", "quantity": "value", "flags": flag}
        | dict.fromkeys(FEATURE_NAMES, value)
        for session, flag, value in sessions
    ]  # fmt: skip
    return schema.make_table(rows, "features")


def test_a_change_is_since_the_last_session_with_features():
    rows = history(("ses-1", None, 5), ("ses-2", "failed", None), ("ses-3", "few_voxels", 2), ("ses-4", None, 9))
    values, changes = features.compare_sessions(rows)
    assert values["prior_session_id"].fillna("").tolist() == ["", "", "ses-1", "ses-3"]
    assert values[FEATURE_NAMES].equals(rows[FEATURE_NAMES])
    assert changes["session_id"].tolist() == ["ses-3", "ses-4"]
    assert changes["quantity"].eq("change").all()
    assert changes["morph_volume"].tolist() == [-3, 7]
    assert changes["ngl_dc_energy"].tolist() == [-3, 7]
    # A change is no better than the worse of its two masks.
    assert changes["flags"].tolist() == ["few_voxels", "few_voxels"]
    for table in features.compare_sessions(schema.empty("features")):
        schema.make_table(table, "features")


@pytest.fixture(scope="module")
def made(mirp, tmp_path_factory):
    """A patient with two visits: a lesion that grows and one that goes."""
    folder = tmp_path_factory.mktemp("features")
    plums.start_dataset(folder)
    for ses, lesions in (("1", [((5, 5, 5), 9), ((-9, -6, 2), 7)]), ("2", [((5, 5, 5), 12)])):
        scan, labels = plums.plum(int(ses), lesions)
        labels[33:35, 37:39, 30:32][labels[33:35, 37:39, 30:32] > 0] = 3
        plums.add_visit(folder, "A", ses, scan, labels)
    done = plums.run(folder, "--", "features", "all")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "out" / "tables"


KEYS = ["participant_id", "session_id", "track_id"]
SAME = {"morph_vol_approx": "vol_wl_mm3", "morph_area_mesh": "surface_mm2", "morph_diam": "max3d_mm"}


def test_mirp_measures_what_the_lesions_table_has(made):
    rows, lesions = (pd.read_csv(made / f"{name}.csv").set_index(KEYS) for name in ("features", "lesions"))
    whole = rows[rows["tissue"] == "lesion"]
    assert len(whole) == 3
    for name, column in SAME.items():
        assert whole[name].to_dict() == pytest.approx(lesions.loc[whole.index, column].to_dict(), rel=0.01)


def test_the_tables_are_read_as_numbers_and_text_without_help(made):
    rows, changes = (pd.read_csv(made / f"{name}.csv") for name in ("features", "features_delta"))
    for table in (rows, changes):
        assert list(table) == schema.columns("features")
        for column in schema.KINDS["features"]:
            filled = table[column.name].dropna()
            assert pd.api.types.is_numeric_dtype(filled) == (column.dtype in ("float", "integer")) or filled.empty
    assert set(rows["tissue"]) == {"lesion", "enhancing", "necrosis", "edema"}
    assert rows.loc[rows["tissue"] == "edema", "flags"].eq("no_voxels").all()
    same = ["participant_id", "track_id", "tissue"]
    both = changes.merge(rows, on=[*same, "session_id"], suffixes=("", "_now"))
    both = both.merge(
        rows, left_on=[*same, "prior_session_id"], right_on=[*same, "session_id"], suffixes=("", "_prior")
    )
    assert both["tissue"].tolist() == ["lesion", "enhancing", "necrosis"]
    for name in ("morph_volume", "stat_mean", "cm_contrast"):
        assert both[name].tolist() == pytest.approx((both[f"{name}_now"] - both[f"{name}_prior"]).tolist(), abs=2e-3)
    described = json.loads((made / "features.json").read_text())
    assert "GYBY" in described["cm_joint_max"]["Description"]
    assert [made_by["Name"] for made_by in described["GeneratedBy"]] == ["mettrail", "MIRP"]


def test_results_with_features_are_a_bids_dataset(made):
    assert plums.bids_errors(made.parent) == []
