"""Masks for radiomics: each lesion and its parts, and the table that names them; other software reads both."""

import csv
import json
import os
import shutil
import subprocess
import venv

import nibabel as nib
import numpy as np
import pandas as pd
import plums
import pytest
from mettrail import schema
from mettrail.images import Grid, Image
from mettrail.tracking import radiomics

NAMES = pd.DataFrame({"index": [1, 2], "name": ["L001", "L002"]})


def scan_of_two():
    """Two lesions in a row, edema to the right of each, the second one's with a dropped component nearer to it."""
    lesions, tissue, components = (np.zeros((40, 5, 5), np.uint16) for _ in range(3))
    tissue[2:6, 2, 2], tissue[6:9, 2, 2] = 1, 2
    tissue[3, 2, 2] = 3
    tissue[20:24, 2, 2], tissue[25, 2, 2], tissue[26:30, 2, 2] = 1, 1, 2
    lesions[2:6, 2, 2], lesions[20:24, 2, 2] = 1, 2
    components[lesions > 0] = lesions[lesions > 0] + 4
    components[25, 2, 2] = 1
    return (Image(data, np.eye(4)) for data in (lesions, tissue, components))


def split(shows_edema=True, max_mm=20):
    return radiomics.split_lesions(*scan_of_two(), edema_max_mm=max_mm, shows_edema=shows_edema)


def along(mask):
    return {n: np.flatnonzero(mask.data[:, 2, 2] == n).tolist() for n in (1, 2)}


def test_parts_have_the_number_of_their_lesion():
    parts = split()
    assert along(parts["enhancing"]) == {1: [2, 4, 5], 2: [20, 21, 22, 23]}
    assert along(parts["necrosis"]) == {1: [3], 2: []}
    # What is nearest to a component that is not followed is nobody's.
    assert along(parts["edema"]) == {1: [6, 7, 8], 2: []}
    assert along(split(max_mm=2)["edema"]) == {1: [6, 7], 2: []}
    assert not split(shows_edema=False)["edema"].data.any()


def test_a_row_is_a_mask_that_holds_something(tmp_path, capsys):
    masks = radiomics.make_masks(split(), Grid((20, 3, 3), np.diag([2.0, 2, 2, 1])))
    files = {name: tmp_path / "sub-A" / f"{name}.nii.gz" for name in masks}
    rows = radiomics.tabulate(
        masks, NAMES, whose={"participant_id": "sub-A", "session_id": "ses-1"},
        scans={"raw": tmp_path / "bids" / "raw.nii.gz", "1mm": tmp_path / "sub-A" / "brain.nii.gz"},
        files=files, folder=tmp_path / "tables", few_voxels=4,
    )  # fmt: skip
    raw = rows[rows["grid"] == "raw"].set_index(["tissue", "track_id"])
    assert raw["n_voxels"].to_dict() == {
        ("lesion", "L001"): 4, ("lesion", "L002"): 4, ("enhancing", "L001"): 3, ("enhancing", "L002"): 4,
        ("necrosis", "L001"): 1, ("edema", "L001"): 3,
    }  # fmt: skip
    assert raw.loc[("lesion", "L001"), "Image"] == "../bids/raw.nii.gz"
    assert raw.loc[("lesion", "L001"), "Mask"] == "../sub-A/lesion_raw.nii.gz"
    assert raw["flags"].fillna("").tolist() == ["", "", "few_voxels", "", "few_voxels", "few_voxels"]
    # On the coarser grid every second voxel is left: none of the necrosis.
    coarse = rows[(rows["grid"] == "1mm") & (rows["tissue"] == "lesion")]
    assert coarse["volume_mm3"].tolist() == [16, 16]
    assert "L001: no voxel of necrosis on grid 1mm" in capsys.readouterr().out


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A patient with two visits: a lesion that grows and one that goes."""
    folder = tmp_path_factory.mktemp("radiomics")
    plums.start_dataset(folder)
    for ses, lesions in (("1", [((5, 5, 5), 9), ((-9, -6, 2), 7)]), ("2", [((5, 5, 5), 12)])):
        scan, labels = plums.plum(int(ses), lesions)
        labels[33:35, 37:39, 30:32][labels[33:35, 37:39, 30:32] > 0] = 3
        plums.add_visit(folder, "A", ses, scan, labels)
    done = plums.run(folder, "--", "radiomics", "all")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "out" / "tables"


def test_masks_are_those_of_the_lesions_table(made):
    rows, lesions = schema.read_table(made / "radiomics.csv", "radiomics"), pd.read_csv(made / "lesions.csv")
    keys = ["participant_id", "session_id", "track_id"]
    present = lesions[lesions["vol_wl_mm3"] > 0].set_index(keys)
    for tissue, column in (("lesion", "vol_wl_mm3"), ("enhancing", "vol_et_mm3"), ("necrosis", "vol_nc_mm3")):
        raw = rows[(rows["grid"] == "raw") & (rows["tissue"] == tissue)].set_index(keys)
        assert raw["volume_mm3"].to_dict() == pytest.approx(present.loc[present[column] > 0, column].to_dict())
    for row in rows.itertuples():
        image, mask = (nib.load(made / path) for path in (row.Image, row.Mask))
        assert image.shape == mask.shape
        assert np.allclose(image.affine, mask.affine, atol=1e-4)
        assert int((np.asarray(mask.dataobj) == row.Label).sum()) == row.n_voxels
    assert len(rows[rows["track_id"] == present.index[0][2]]) >= 8
    (made_by,) = json.loads((made / "radiomics.json").read_text())["GeneratedBy"]
    assert made_by["Name"] == "mettrail"


def test_results_with_these_masks_are_a_bids_dataset(made):
    assert plums.bids_errors(made.parent) == []
    sidecars = sorted(made.parent.glob("sub-A/ses-1/anat/*desc-necrosis_dseg.json"))
    raw, coarse = (json.loads(path.read_text()) for path in sidecars)
    assert (coarse["Resolution"][:4], "Resolution" in raw) == ("1 mm", False)
    assert coarse["SpatialReference"].startswith("bids:raw:sub-A/ses-1/anat/")


# The metadata of 3.1.0 states another version, and pip refuses it; 3.0.1 builds where these are there already.
PYRADIOMICS = (
    ["setuptools<81", "wheel", "versioneer", "cython", "numpy"],
    ["--no-build-isolation", "pyradiomics==3.0.1"],
)


@pytest.fixture(scope="module")
def pyradiomics(tmp_path_factory):
    """Its command, in a Python of its own; a skip that says what is missing where there is none."""
    given = os.environ.get("METTRAIL_PYRADIOMICS") or shutil.which("pyradiomics")
    if given:
        return given
    if not (os.environ.get("CI") or os.environ.get("METTRAIL_TEST_PYRADIOMICS")):
        pytest.skip("no pyradiomics: name it by METTRAIL_PYRADIOMICS, or let METTRAIL_TEST_PYRADIOMICS=1 install it")
    folder = tmp_path_factory.mktemp("pyradiomics")
    venv.create(folder, with_pip=True)
    for packages in PYRADIOMICS:
        done = subprocess.run(
            [folder / "bin/pip", "install", "-q", *packages], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"pyradiomics does not install here: {done.stderr.strip()[-300:]}")
    return folder / "bin/pyradiomics"


def test_pyradiomics_reads_the_table_as_it_is(made, pyradiomics, tmp_path):
    found = tmp_path / "features.csv"
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([pyradiomics, made / "radiomics.csv", "-o", found, "-f", "csv"], check=True, cwd=tmp_path, env=own)
    features, lesions = list(csv.DictReader(found.open())), pd.read_csv(made / "lesions.csv")
    sizes = lesions.set_index(["session_id", "track_id"])
    whole = [row for row in features if (row["tissue"], row["grid"]) == ("lesion", "raw")]
    assert len(whole) == 3
    for row in whole:
        ours = sizes.loc[(row["session_id"], row["track_id"])]
        assert float(row["original_shape_VoxelVolume"]) == pytest.approx(ours["vol_wl_mm3"], rel=0.01)
        assert float(row["original_shape_SurfaceArea"]) == pytest.approx(ours["surface_mm2"], rel=0.01)
        assert float(row["original_shape_Maximum3DDiameter"]) == pytest.approx(ours["max3d_mm"], rel=0.01)
