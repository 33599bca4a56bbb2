"""DICOM in and out, on files whose geometry is written from the standard (`drawn_dicom`)."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import dcm2niix
import highdicom as hd
import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK
from conftest import load_dataset
from drawn_dicom import BORN, NAME, Drawn, Geometry, draw_enhanced, draw_series
from mettrail import __version__, cli, schema
from mettrail.dicom.geometry import has_same_voxels
from mettrail.dicom.roles import judge_series
from mettrail.dicom.series import read_series
from mettrail.dicom.table import plan_rows
from mettrail.errors import InputError
from mettrail.images import Grid
from pydicom.sr.codedict import codes

AGENT = {"ContrastBolusAgent": "Gadovist"}
# Three visits, no two of one geometry: oblique axial, steep with finer rows, and one that runs from head to foot.
FIRST = Drawn(tags=AGENT)
SECOND = Drawn(
    date="20210601", tags=AGENT, seed=1,
    geometry=Geometry((5.5, 6.25, 7.125), (-70, 31, 8), rows_mm=0.6, columns_mm=0.95, gap_mm=1.1, shape=(8, 21, 13)),
)  # fmt: skip
THIRD = Drawn(
    date="20220105", tags=AGENT, seed=2, geometry=Geometry((40, -9, 3), (95, 4, -88), thickness_mm=1.5, gap_mm=0.3)
)
VISITS = {"ses-01": FIRST, "ses-02": SECOND, "ses-03": THIRD}
# Lesions of a visit: label, track, volume in mm3, diameter in mm, and where (slices, rows, columns).
BOXES = {1: np.s_[1:3, 3:7, 2:6], 2: np.s_[6:8, 8:11, 7:12], 4: np.s_[3:6, 1:2, 8:11]}
TRACKS = {
    "ses-01": {1: "L001", 2: "L002"},
    "ses-02": {1: "L002", 2: "L003", 4: "L001"},
    "ses-03": {4: "L001"},
}
# Tables have three decimals.
ROUNDED = 6e-4


def run(*words):
    return cli.main([str(word) for word in words])


def imported(folder, bids, *options):
    """Import twice: the table, then the dataset."""
    assert run("import-dicom", folder, bids, *options) == 0
    assert not bids.exists()
    assert run("import-dicom", folder, bids, *options) == 0
    return bids


def refused(capsys, *words):
    """The message of what is refused, on one line."""
    capsys.readouterr()
    assert run(*words) == 2
    said = capsys.readouterr().err
    assert "to do:" in said
    return " ".join(said.split())


def scan_of(bids, session, role="ce-gadolinium_T1w"):
    return bids / "sub-01" / session / "anat" / f"sub-01_{session}_{role}.nii.gz"


def voxels_of(image, drawn):
    """Indices in an image of the voxels of a series, by the place that each has in the world: LPS is RAS turned."""
    points = drawn.geometry.points(np.argwhere(np.ones(drawn.geometry.shape))) * [-1, -1, 1]
    found = np.linalg.solve(image.affine, np.c_[points, np.ones(len(points))].T)[:3]
    assert np.abs(found - found.round()).max() < 1e-3
    return tuple(found.round().astype(int))


def edited(table, **changes):
    """Change cells of the table by hand: ``_2={"use": "no"}`` is line 2."""
    lines = [line.split("\t") for line in table.read_text().splitlines()]
    for line, cells in changes.items():
        for name, text in cells.items():
            lines[int(line[1:]) - 1][lines[0].index(name)] = text
    table.write_text("\n".join("\t".join(line) for line in lines) + "\n")


def rows_of(table):
    return pd.read_csv(table, sep="\t", dtype=str, keep_default_na=False).to_dict("records")


# ------------------------------------------------------------------------------------------------------------------ in


@pytest.mark.parametrize("draw", [draw_series, draw_enhanced])
@pytest.mark.parametrize("drawn", VISITS.values(), ids=VISITS)
def test_every_voxel_keeps_its_place_and_its_value(tmp_path, draw, drawn):
    draw(tmp_path / "dicom", drawn)
    bids = imported(tmp_path / "dicom", tmp_path / "bids")
    image = nib.load(scan_of(bids, "ses-01"))
    assert np.prod(image.shape) == drawn.voxels.size
    np.testing.assert_array_equal(image.get_fdata()[voxels_of(image, drawn)], drawn.voxels.ravel())


def test_the_table_says_what_each_series_is_and_why(tmp_path, capsys):
    for number, (description, tags) in enumerate(
        [
            ("localizer", {}),
            ("t1_mprage", {}),
            ("t1_mprage", AGENT),
            ("t2_flair", {}),
            ("T2 tse", {}),
            ("ep2d_diff_adc", {}),
        ]
    ):
        draw_series(tmp_path / "dicom", Drawn(number=number, description=description, tags=tags))
    assert run("import-dicom", tmp_path / "dicom", tmp_path / "bids") == 0
    assert "type the same command again" in capsys.readouterr().out
    rows = rows_of(tmp_path / "bids_series.tsv")
    assert [(row["use"], row["role"]) for row in rows] == [
        ("no", "n/a"), ("yes", "T1w"), ("yes", "ce-gadolinium_T1w"), ("yes", "FLAIR"), ("yes", "T2w"), ("no", "n/a"),
    ]  # fmt: skip
    assert rows[0]["why"] == "the name says 'localizer'"
    assert "Gadovist" in rows[2]["why"]


@pytest.mark.parametrize(
    ("description", "tags", "role"),
    [
        ("AX T1 +C", {}, "ce-gadolinium_T1w"),
        ("t1_mprage_post", {}, "ce-gadolinium_T1w"),
        ("T1 3D Gd", {}, "ce-gadolinium_T1w"),
        ("t1_mpr_KM", {}, "ce-gadolinium_T1w"),
        ("t1 ohne KM", {}, "T1w"),
        ("T1 pre contrast", {}, "T1w"),
        ("T1 postop", {}, "T1w"),
        ("T1 SE", {"ContrastBolusAgent": "NONE"}, "T1w"),
        ("T1 SE", {"ContrastBolusVolume": 7.5}, "ce-gadolinium_T1w"),
        ("T1 FLAIR", {}, "T1w"),
        ("BRAVO", AGENT, "ce-gadolinium_T1w"),
        ("FLAIR post", AGENT, "FLAIR"),
        ("series", {"EchoTime": 90.0, "RepetitionTime": 9000.0, "InversionTime": 2500.0}, "FLAIR"),
        ("series", {"EchoTime": 90.0, "RepetitionTime": 5000.0}, "T2w"),
        ("series", {"EchoTime": 3.0, "RepetitionTime": 2000.0, "InversionTime": 900.0}, "T1w"),
        ("series", {"EchoTime": 40.0, "RepetitionTime": 1200.0}, ""),
        ("t1 sub", AGENT, ""),
        ("t1 mpr", {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, ""),
        ("t1", {"Modality": "CT"}, ""),
    ],
)
def test_a_series_is_known_by_tags_names_and_times(tmp_path, description, tags, role):
    draw_series(tmp_path, Drawn(description=description, tags=tags))
    judged = judge_series(read_series(tmp_path)[0])
    assert (judged.role, judged.is_sure) == (role, True)
    assert judged.why


def test_nothing_of_who_when_and_where_gets_into_the_dataset(tmp_path):
    for drawn in (FIRST, SECOND, replace(SECOND, number=7, description="t2_flair Doe")):
        draw_series(tmp_path / "dicom", drawn)
    bids = imported(tmp_path / "dicom", tmp_path / "bids")
    files = [path for path in bids.rglob("*") if path.is_file()]
    assert len(files) == 11
    header = pydicom.dcmread(next((tmp_path / "dicom").rglob("IM*")))
    uids = {str(element.value) for element in header.iterall() if element.VR == "UI"} - {header.SOPClassUID}
    secrets = {"HOSP", "Doe", "Jane", "Roe", "General Hospital", "ACC9", "SN77", "MRC1", "101112", "10:11:12"}
    secrets |= {NAME, BORN, "20210315", "2021-03-15", "20210601", "2021-06-01", "2.826.0.1", *uids}
    for path in files:
        data = nib.load(path) if path.suffix == ".gz" else None
        content = path.read_bytes() if data is None else data.header.binaryblock + bytes(data.header.extensions)
        found = [secret for secret in secrets if secret.encode() in content or secret in str(path.relative_to(bids))]
        assert not found, path


def test_mettrail_reads_the_dataset_and_its_days(tmp_path):
    for drawn in VISITS.values():
        draw_series(tmp_path / "dicom", drawn)
    bids = imported(tmp_path / "dicom", tmp_path / "bids")
    # By the calendar: 15 March to 1 June 2021, and on to 5 January 2022.
    sessions = load_dataset(bids, tmp_path / "out").sessions
    assert sessions[["ses", "days", "usable", "flags"]].to_numpy().tolist() == [
        ["01", "0", "true", "n/a"], ["02", "78", "true", "n/a"], ["03", "296", "true", "n/a"],
    ]  # fmt: skip


def test_the_dataset_is_valid_bids(tmp_path):
    validator = Path(sys.executable).parent / "bids-validator-deno"
    if not validator.exists():
        pytest.skip("bids-validator-deno is not installed")
    draw_series(tmp_path / "dicom", FIRST)
    bids = imported(tmp_path / "dicom", tmp_path / "bids")
    done = subprocess.run([validator, bids, "--json"], capture_output=True, text=True, check=False)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue["code"] for issue in issues if issue["severity"] == "error"] == []


def test_what_a_person_corrects_in_the_table_is_done(tmp_path):
    draw_series(tmp_path / "dicom", FIRST)
    draw_series(tmp_path / "dicom", replace(FIRST, number=8, description="localizer", seed=9))
    table = tmp_path / "mine.tsv"
    assert run("import-dicom", tmp_path / "dicom", tmp_path / "bids", "--table", table) == 0
    edited(table, _2={"session_id": "ses-pre", "days_from_baseline": "-4"}, _3={"use": "yes", "role": "T2w"})
    edited(table, _3={"session_id": "ses-pre", "days_from_baseline": "-4"})
    assert run("import-dicom", tmp_path / "dicom", tmp_path / "bids", "--table", table) == 0
    image = nib.load(scan_of(tmp_path / "bids", "ses-pre", "T2w"))
    assert image.get_fdata().sum() == replace(FIRST, seed=9).voxels.sum()
    assert (tmp_path / "bids/sub-01/sub-01_sessions.tsv").read_text().splitlines()[1] == "ses-pre\t-4"


def test_a_visit_that_comes_later_keeps_what_was_decided(tmp_path):
    draw_series(tmp_path / "dicom", SECOND)
    table = tmp_path / "bids_series.tsv"
    assert run("import-dicom", tmp_path / "dicom", tmp_path / "bids") == 0
    edited(table, _2={"participant_id": "sub-B", "session_id": "ses-A", "days_from_baseline": "100"})
    for drawn in (FIRST, THIRD, replace(THIRD, patient="HOSP-1", number=9)):
        draw_series(tmp_path / "dicom", drawn)
    assert run("import-dicom", tmp_path / "dicom", tmp_path / "bids") == 0
    found = [(row["participant_id"], row["session_id"], row["days_from_baseline"]) for row in rows_of(table)]
    assert found == [
        ("sub-01", "ses-01", "0"), ("sub-B", "ses-01", "22"), ("sub-B", "ses-A", "100"), ("sub-B", "ses-02", "318")
    ]  # fmt: skip


def test_patients_have_the_labels_that_a_table_gives_them(tmp_path, capsys):
    draw_series(tmp_path / "dicom", FIRST)
    patients = tmp_path / "patients.tsv"
    patients.write_text("patient_id\tparticipant_id\nother\tX1\n")
    words = ("import-dicom", tmp_path / "dicom", tmp_path / "bids", "--patients", patients)
    assert "HOSP-4711: found no label" in refused(capsys, *words)
    patients.write_text("patient_id\tparticipant_id\nHOSP-4711\tX7\n")
    imported(tmp_path / "dicom", tmp_path / "bids", "--patients", patients)
    assert (tmp_path / "bids" / "sub-X7" / "ses-01" / "anat").is_dir()


def test_of_two_series_of_a_day_the_one_with_finer_slices_is_taken(tmp_path):
    draw_series(tmp_path / "dicom", replace(FIRST, geometry=Geometry(thickness_mm=5)))
    draw_series(tmp_path / "dicom", replace(FIRST, number=9, geometry=Geometry(thickness_mm=1)))
    assert run("import-dicom", tmp_path / "dicom", tmp_path / "bids") == 0
    coarse, fine = rows_of(tmp_path / "bids_series.tsv")
    assert (coarse["use"], fine["use"]) == ("no", "yes")
    assert (
        "series 9 't1_mprage_sag' of the same day is taken: its slices are finer (1.5 mm, here 5.5 mm)" in coarse["why"]
    )


def test_of_two_series_that_are_as_fine_the_user_chooses(tmp_path, capsys):
    for number in (5, 9):
        draw_series(tmp_path / "dicom", replace(FIRST, number=number))
    words = ("import-dicom", tmp_path / "dicom", tmp_path / "bids")
    for _ in range(2):
        said = refused(capsys, *words)
        assert "bids_series.tsv: found 2 series to decide" in said
        assert "series 9 of the same day is the same" in said
        assert "series 5 of the same day is the same" in said
    edited(tmp_path / "bids_series.tsv", _2={"use": "yes"}, _3={"use": "yes"})
    assert "line 3: found a second series for sub-01/ses-01/anat" in refused(capsys, *words)
    edited(tmp_path / "bids_series.tsv", _3={"use": "no"})
    assert run(*words) == 0


def test_a_name_that_contradicts_the_contrast_tag_is_asked(tmp_path, capsys):
    draw_series(tmp_path / "dicom", replace(FIRST, description="t1 pre"))
    said = refused(capsys, "import-dicom", tmp_path / "dicom", tmp_path / "bids")
    assert "Gadovist" in said
    assert "the name says 'pre'" in said


def test_a_series_without_pixel_spacing_is_named_with_its_file(tmp_path, capsys):
    draw_series(tmp_path / "dicom", FIRST)
    draw_series(tmp_path / "dicom", replace(FIRST, number=9, description="t2 tse", tags={"PixelSpacing": None}))
    words = ("import-dicom", tmp_path / "dicom", tmp_path / "bids")
    assert re.search(
        r"no PixelSpacing in IM0000, so that its voxels have no place: export it again", refused(capsys, *words)
    )
    edited(tmp_path / "bids_series.tsv", _3={"use": "no"})
    assert run(*words) == 0
    assert not scan_of(tmp_path / "bids", "ses-01", "T2w").exists()


def test_an_enhanced_file_is_said_to_be_one(tmp_path, capsys):
    draw_enhanced(tmp_path / "dicom", FIRST)
    assert run("import-dicom", tmp_path / "dicom", tmp_path / "bids") == 0
    assert "an enhanced multi-frame file of 9 slices" in capsys.readouterr().out


def test_a_folder_without_dicom_is_refused(tmp_path, capsys):
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "notes.txt").write_text("no image")
    assert "dicom: found no DICOM image" in refused(capsys, "import-dicom", tmp_path / "dicom", tmp_path / "bids")
    assert "none: found no folder" in refused(capsys, "import-dicom", tmp_path / "none", tmp_path / "bids")


def test_a_folder_that_holds_something_is_not_written_to(tmp_path, capsys):
    draw_series(tmp_path / "dicom", FIRST)
    (tmp_path / "bids").mkdir()
    (tmp_path / "bids" / "mine.txt").write_text("mine")
    words = ("import-dicom", tmp_path / "dicom", tmp_path / "bids")
    assert "bids: found a folder or file that holds something" in refused(capsys, *words)
    assert not (tmp_path / "bids_series.tsv").exists()
    assert "a table of series within the dataset" in refused(capsys, *words, "--table", tmp_path / "bids" / "key.tsv")


def turn_some(paths):
    for path in paths[::2]:
        image = pydicom.dcmread(path)
        image.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        image.save_as(path)


def take_one_away(paths):
    paths[4].unlink()


def repeat_one(paths):
    image = pydicom.dcmread(paths[4])
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"{image.SOPInstanceUID}1"[-64:]
    image.save_as(paths[4].with_name("IM9999"))


def enlarge_one(paths):
    image = pydicom.dcmread(paths[4])
    image.Rows, image.PixelData = 28, image.PixelData * 2
    image.save_as(paths[4])


@pytest.mark.parametrize("spoil", [turn_some, take_one_away, repeat_one, enlarge_one])
def test_a_series_that_is_not_one_volume_leaves_no_dataset(tmp_path, capsys, spoil):
    spoil(draw_series(tmp_path / "dicom", FIRST))
    words = ("import-dicom", tmp_path / "dicom", tmp_path / "bids")
    assert run(*words) == 0
    assert "IM0000: found a series that is not one volume" in refused(capsys, *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bids_series.tsv", "dicom"]


@pytest.mark.parametrize(
    ("moved", "flipped", "same"),
    [(0, (), True), (0, (2, 0), True), (0.04, (1,), True), (0.06, (), False), (1, (0,), False)],
)
def test_voxels_are_the_same_in_whatever_order_they_are(oblique_affine, moved, flipped, same):
    grid = Grid((5, 6, 7), oblique_affine)
    turn = np.eye(4)[:, [2, 0, 1, 3]]
    shape = np.array((7, 5, 6))
    for axis in flipped:
        turn[:3, 3] += turn[:3, axis] * (shape[axis] - 1)
        turn[:3, axis] *= -1
    turn[1, 3] += moved
    assert has_same_voxels(grid, Grid(tuple(shape.tolist()), oblique_affine @ turn)) == same
    assert not has_same_voxels(grid, Grid((7, 5, 5), oblique_affine @ turn))


def test_a_conversion_that_moves_voxels_is_refused(tmp_path, capsys, monkeypatch):
    """A converter that puts the scan elsewhere, by one voxel."""
    draw_series(tmp_path / "dicom", FIRST)
    words = ("import-dicom", tmp_path / "dicom", tmp_path / "bids")
    assert run(*words) == 0
    moved = tmp_path / "moves"
    moved.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, subprocess, sys, nibabel\n"
        f"subprocess.run([{dcm2niix.bin!r}, *sys.argv[1:]], check=True)\n"
        "path = pathlib.Path(sys.argv[sys.argv.index('-o') + 1], 'scan.nii')\n"
        "scan = nibabel.load(path)\n"
        "scan.affine[:3, 3] += scan.affine[:3, 0]\n"
        "nibabel.save(nibabel.Nifti1Image(scan.get_fdata(), scan.affine), path)\n"
    )
    moved.chmod(0o755)
    monkeypatch.setattr(dcm2niix, "bin", str(moved))
    assert "or puts them elsewhere" in refused(capsys, *words)
    assert not (tmp_path / "bids").exists()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("draw", [draw_series, draw_enhanced])
def test_damaged_files_are_refused_or_passed_over(tmp_path, draw):
    """Bytes of the header are changed at random."""
    whole = draw(tmp_path / "whole", FIRST)[0].read_bytes()
    random = np.random.default_rng(0)
    pixels = len(whole) - len(FIRST.voxels.tobytes()) // (9 if draw is draw_series else 1)
    refusals = 0
    (tmp_path / "damaged").mkdir()
    for _ in range(60):
        damaged = bytearray(whole)
        for at in random.integers(132, pixels, 4):
            damaged[at] = random.integers(256)
        (tmp_path / "damaged" / "IM").write_bytes(damaged)
        try:
            plan_rows(read_series(tmp_path / "damaged"), [], None)
        except InputError:
            refusals += 1
    assert 5 < refusals < 55


def test_without_the_extra_the_command_says_what_to_install(tmp_path, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("mettrail.dicom")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("mettrail.dicom", raising=False)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    said = refused(capsys, "import-dicom", tmp_path, tmp_path / "bids")
    assert "found no Python package highdicom" in said
    assert '".[dicom]"' in said


# ----------------------------------------------------------------------------------------------------------------- out


def truth_of(session):
    """(slices, rows, columns) of labels."""
    truth = np.zeros(VISITS[session].geometry.shape, np.uint8)
    for label in TRACKS[session]:
        truth[BOXES[label]] = label
    return truth


def size_of(session, label):
    """Volume in mm3, and a diameter that no other lesion has."""
    geometry = VISITS[session].geometry
    voxel = geometry.rows_mm * geometry.columns_mm * geometry.distance_mm
    return float((truth_of(session) == label).sum() * voxel), 10.0 * label + int(session[-1])


def write_results(out, bids):
    """Results as a run leaves them: label maps on the grid of the scans, their tables and sidecars, sizes."""
    rows = []
    for session, tracks in TRACKS.items():
        scan = nib.load(scan_of(bids, session))
        labels = np.zeros(scan.shape, np.uint8)
        labels[voxels_of(scan, VISITS[session])] = truth_of(session).ravel()
        stem = out / "sub-01" / session / "anat" / f"sub-01_{session}_desc-lesions_dseg"
        stem.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(labels, scan.affine), f"{stem}.nii.gz")
        space = f"bids:raw:{scan_of(bids, session).relative_to(bids)}"
        Path(f"{stem}.json").write_text(json.dumps({"SpatialReference": space}))
        lines = [f"{label}\t{track}\t#010203" for label, track in tracks.items()]
        Path(f"{stem}.tsv").write_text("\n".join(["index\tname\tcolor", *lines]) + "\n")
        for label, track in tracks.items():
            volume, diameter = size_of(session, label)
            rows.append(
                dict.fromkeys(schema.columns("lesions"))
                | {"participant_id": "sub-01", "session_id": session, "track_id": track, "status": "present"}
                | {"vol_wl_mm3": volume, "ld_mm": diameter, "role": "target", "certainty": "confirmed"}
                | {"detected_by": "manual" if session == "ses-03" else "both"}
            )
    write_sizes(out, rows)
    link = {"DatasetLinks": {"raw": f"../{bids.name}"}}
    (out / "dataset_description.json").write_text(json.dumps(link))


def write_sizes(out, rows):
    (out / "tables").mkdir(exist_ok=True)
    schema.write_csv_mirror(schema.make_table(rows, "lesions"), out / "tables" / "lesions.csv", "lesions")


def change_size(out, track, **cells):
    rows = schema.read_table(out / "tables" / "lesions.csv", "lesions").to_dict("records")
    write_sizes(out, [row | (cells if row["track_id"] == track else {}) for row in rows])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A patient of three visits, the second as an enhanced file, from DICOM to BIDS, to results, and back."""
    folder = tmp_path_factory.mktemp("dicom")
    for session, drawn in VISITS.items():
        (draw_enhanced if session == "ses-02" else draw_series)(folder / "dicom", drawn)
    imported(folder / "dicom", folder / "bids")
    write_results(folder / "out", folder / "bids")
    assert run("export-dicom", folder / "out", folder / "dicom", folder / "dest") == 0
    return folder


def opened(made, session, kind="seg"):
    return pydicom.dcmread(made / "dest" / f"sub-01_{session}_{kind}.dcm")


def tracks_of(segmentation):
    return {item.SegmentNumber: item for item in segmentation.SegmentSequence}


@pytest.mark.parametrize("session", VISITS)
def test_pydicom_finds_the_label_map_voxel_by_voxel(made, session):
    """Frames are put where their ImagePositionPatient says, by nothing but the attributes of the standard."""
    segmentation, geometry = opened(made, session), VISITS[session].geometry
    along, down, normal = geometry.axes
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    direction = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    np.testing.assert_allclose(direction, [*along, *down], atol=1e-6)
    measures = shared.PixelMeasuresSequence[0]
    assert np.allclose(measures.PixelSpacing, [geometry.rows_mm, geometry.columns_mm])
    assert np.isclose(measures.SpacingBetweenSlices, geometry.distance_mm)
    labels = {track: label for label, track in TRACKS[session].items()}
    found = np.zeros(geometry.shape, np.uint8)
    for frame, groups in zip(segmentation.pixel_array, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        n = (position - geometry.position) @ normal / geometry.distance_mm
        assert np.allclose(position, geometry.slice_position(round(n)), atol=1e-3)
        # Where there is one segment, all frames are of it.
        whose = groups if "SegmentIdentificationSequence" in groups else shared
        item = tracks_of(segmentation)[whose.SegmentIdentificationSequence[0].ReferencedSegmentNumber]
        found[round(n)] += (frame * labels[item.TrackingID]).astype(np.uint8)
    np.testing.assert_array_equal(found, truth_of(session))


@pytest.mark.parametrize("session", VISITS)
def test_highdicom_finds_the_label_map_voxel_by_voxel(made, session):
    segmentation = hd.seg.segread(made / "dest" / f"sub-01_{session}_seg.dcm")
    volume = segmentation.get_volume(combine_segments=True)
    found = np.zeros(VISITS[session].geometry.shape, int)
    indices = np.argwhere(volume.array > 0)
    points = volume.map_indices_to_reference(indices)
    corner, steps = (
        VISITS[session].geometry.points([[0, 0, 0]])[0],
        VISITS[session].geometry.points(np.eye(3, dtype=int)),
    )
    places = np.linalg.solve((steps - corner).T, (points - corner).T).round().astype(int)
    numbers = {number: item.TrackingID for number, item in tracks_of(segmentation).items()}
    labels = {track: label for label, track in TRACKS[session].items()}
    found[tuple(places)] = [labels[numbers[int(volume.array[tuple(at)])]] for at in indices]
    np.testing.assert_array_equal(found, truth_of(session))


def run_dcmqi(name, *options):
    dcmqi = pytest.importorskip("dcmqi", reason="dcmqi is not installed")
    program = Path(dcmqi.__file__).parent / "bin" / name
    done = subprocess.run([program, *map(str, options)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("session", VISITS)
def test_dcmqi_and_simpleitk_find_the_label_map_voxel_by_voxel(made, session, tmp_path):
    """A reader of other people, in C++; SimpleITK's points are LPS+ mm, as DICOM's."""
    seg = made / "dest" / f"sub-01_{session}_seg.dcm"
    run_dcmqi("segimage2itkimage", "--inputDICOM", seg, "--outputDirectory", tmp_path, "-t", "nrrd", "-p", "lesion")
    numbers = {item.TrackingID: number for number, item in tracks_of(opened(made, session)).items()}
    for label, track in TRACKS[session].items():
        image = SimpleITK.ReadImage(tmp_path / f"lesion-{numbers[track]}.nrrd")
        where = np.argwhere(SimpleITK.GetArrayFromImage(image))[:, ::-1]
        points = np.array([image.TransformIndexToPhysicalPoint(at.tolist()) for at in where])
        expected = VISITS[session].geometry.points(np.argwhere(truth_of(session) == label))
        apart = np.linalg.norm(points[:, None] - expected[None], axis=-1)
        assert points.shape == expected.shape
        assert max(apart.min(0).max(), apart.min(1).max()) < 1e-3


def test_a_lesion_has_one_tracking_uid_for_life(made):
    uids = {}
    for session, tracks in TRACKS.items():
        items = {item.TrackingID: item.TrackingUID for item in opened(made, session).SegmentSequence}
        assert set(items) == set(tracks.values())
        for track, uid in items.items():
            uids.setdefault(track, set()).add(uid)
    assert {track: len(found) for track, found in uids.items()} == {"L001": 1, "L002": 1, "L003": 1}
    assert len(set.union(*uids.values())) == 3
    # As a UID has to be (PS3.5, 9.1): it is kept by other software, too.
    assert all(re.fullmatch(r"2\.25\.[1-9]\d{0,38}", uid) for found in uids.values() for uid in found)


def test_exported_again_lesions_have_the_same_tracking_uids(made, tmp_path):
    assert run("export-dicom", made / "out", made / "dicom", tmp_path / "again") == 0
    for session in VISITS:
        again = pydicom.dcmread(tmp_path / "again" / f"sub-01_{session}_seg.dcm")
        first = opened(made, session)
        assert [item.TrackingUID for item in again.SegmentSequence] == [
            item.TrackingUID for item in first.SegmentSequence
        ]
        assert again.SOPInstanceUID != first.SOPInstanceUID


@pytest.mark.parametrize("session", VISITS)
def test_a_segment_says_what_it_is_and_who_made_it(made, session):
    for item in opened(made, session).SegmentSequence:
        assert item.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
        assert item.SegmentedPropertyTypeCodeSequence[0].CodeValue == "14799000"
        assert item.AnatomicRegionSequence[0].CodeValue == "12738006"
        assert item.SegmentLabel == item.TrackingID
        manual = session == "ses-03"
        assert item.SegmentAlgorithmType == ("MANUAL" if manual else "AUTOMATIC")
        assert ("SegmentationAlgorithmIdentificationSequence" in item) != manual
        for algorithm in item.get("SegmentationAlgorithmIdentificationSequence", []):
            assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("mettrail", __version__)


@pytest.mark.parametrize("session", VISITS)
def test_segmentation_and_report_belong_to_the_study_of_the_scan(made, session):
    source = pydicom.dcmread(next((made / "dicom" / f"{VISITS[session].date}_5").iterdir()))
    for kind in ("seg", "sr"):
        result = opened(made, session, kind)
        for name in (
            "PatientID",
            "PatientName",
            "PatientBirthDate",
            "StudyInstanceUID",
            "StudyDate",
            "AccessionNumber",
        ):
            assert result[name].value == source[name].value
        assert result.SeriesInstanceUID != source.SeriesInstanceUID
    assert opened(made, session).FrameOfReferenceUID == source.FrameOfReferenceUID
    referenced = opened(made, session).ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == source.SeriesInstanceUID


@pytest.mark.parametrize("session", VISITS)
def test_the_report_has_volume_and_diameter_of_each_segment(made, session):
    report = hd.sr.srread(made / "dest" / f"sub-01_{session}_sr.dcm")
    segmentation = opened(made, session)
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == list(TRACKS[session].values())
    for group, (label, track) in zip(groups, TRACKS[session].items(), strict=True):
        referenced = group.referenced_segment[0].ReferencedSOPSequence[0]
        item = tracks_of(segmentation)[referenced.ReferencedSegmentNumber]
        assert referenced.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        assert (item.TrackingID, item.TrackingUID) == (track, group.tracking_uid)
        volume, diameter = size_of(session, label)
        for name, value, unit in (
            (codes.SCT.Volume, volume, codes.UCUM.CubicMillimeter),
            (codes.SCT.LongAxis, diameter, codes.UCUM.Millimeter),
        ):
            (found,) = group.get_measurements(name=name)
            assert (found.value, found.unit) == (pytest.approx(value, abs=ROUNDED), unit)


@pytest.mark.parametrize("session", VISITS)
def test_dcmqi_reads_the_report(made, session, tmp_path):
    report = made / "dest" / f"sub-01_{session}_sr.dcm"
    run_dcmqi("tid1500reader", "--inputDICOM", report, "--outputMetadata", tmp_path / "sr.json")
    groups = json.loads((tmp_path / "sr.json").read_text())["Measurements"]
    found = {
        group["TrackingIdentifier"]: {
            item["quantity"]["CodeValue"]: float(item["value"]) for item in group["measurementItems"]
        }
        for group in groups
    }
    expected = {
        track: dict(zip(("118565006", "103339001"), size_of(session, label)))
        for label, track in TRACKS[session].items()
    }
    assert found.keys() == expected.keys()
    for track, sizes in expected.items():
        assert found[track] == pytest.approx(sizes, abs=ROUNDED)


@pytest.fixture
def changed(made, tmp_path):
    """The same in a folder that a test may change."""
    for name in ("dicom", "bids", "out"):
        subprocess.run(["cp", "-r", made / name, tmp_path / name], check=True)
    (tmp_path / "bids_series.tsv").write_bytes((made / "bids_series.tsv").read_bytes())
    return tmp_path


def export(folder):
    return ("export-dicom", folder / "out", folder / "dicom", folder / "dest")


def test_what_a_reader_excluded_is_no_segment_and_candidates_are_said(changed):
    change_size(changed / "out", "L001", role="excluded")
    change_size(changed / "out", "L003", certainty="candidate")
    assert run(*export(changed)) == 0
    (lesion,) = opened(changed, "ses-01").SegmentSequence
    assert lesion.TrackingID == "L002"
    described = {item.TrackingID: item.get("SegmentDescription") for item in opened(changed, "ses-02").SegmentSequence}
    assert described == {"L002": None, "L003": "Candidate: a suspicion only"}


def test_a_session_without_lesions_has_no_segmentation(changed, capsys):
    for track in ("L001", "L002"):
        change_size(changed / "out", track, role="excluded")
    assert run(*export(changed)) == 0
    assert "sub-01_ses-01: no lesion" in capsys.readouterr().out
    assert sorted(path.name for path in (changed / "dest").iterdir())[0] == "sub-01_ses-02_seg.dcm"


def test_a_label_map_on_another_grid_goes_to_the_nearest_voxels(changed, capsys):
    """Twice as fine in each direction: each voxel of the scan is eight of the map."""
    path = changed / "out/sub-01/ses-01/anat/sub-01_ses-01_desc-lesions_dseg.nii.gz"
    labels = nib.load(path)
    half = np.diag([0.5, 0.5, 0.5, 1])
    half[:3, 3] = -0.25
    fine = np.asarray(labels.dataobj).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    nib.save(nib.Nifti1Image(fine, labels.affine @ half), path)
    assert run(*export(changed)) == 0
    assert "sub-01_ses-01: 2 lesions; their voxels are resampled" in capsys.readouterr().out
    test_pydicom_finds_the_label_map_voxel_by_voxel(changed, "ses-01")


def test_a_table_that_confuses_sessions_is_noticed(changed, capsys):
    first, second, _ = rows_of(changed / "bids_series.tsv")
    swapped = ("series_uid", "images")
    edited(
        changed / "bids_series.tsv",
        _2={name: second[name] for name in swapped},
        _3={name: first[name] for name in swapped},
    )
    assert "outside of series" in refused(capsys, *export(changed))
    assert not (changed / "dest").exists()


def test_a_series_that_is_not_complete_is_not_exported(changed, capsys):
    next((changed / "dicom" / "20220105_5").iterdir()).unlink()
    said = refused(capsys, *export(changed))
    assert "found 8 images of the series of sub-01/ses-03/anat/sub-01_ses-03_ce-gadolinium_T1w.nii.gz" in said
    assert "expected all 9" in said


def test_headers_without_what_may_be_empty_are_exported(changed):
    """As anonymised series often are; what the standard lets be empty is empty."""
    names = ("PatientName", "PatientBirthDate", "PatientSex", "StudyTime", "AccessionNumber", "StudyID")
    for path in (changed / "dicom").rglob("IM*"):
        image = pydicom.dcmread(path)
        for name in (*names, "StudyDate", "ReferringPhysicianName"):
            delattr(image, name)
        image.save_as(path)
    assert run(*export(changed)) == 0
    assert {opened(changed, "ses-01", kind)[name].value or "" for name in names for kind in ("seg", "sr")} == {""}


def test_a_series_without_a_frame_of_reference_is_not_exported(changed, capsys):
    for path in (changed / "dicom").rglob("IM*"):
        image = pydicom.dcmread(path)
        del image.FrameOfReferenceUID
        image.save_as(path)
    assert "IM0000: found no FrameOfReferenceUID" in refused(capsys, *export(changed))


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("bids_series.tsv", "bids_series.tsv: found no such file"),
        ("out/tables/lesions.csv", "lesions.csv: found no such file"),
        ("out/dataset_description.json", "no link to the dataset"),
    ],
)
def test_what_an_export_needs_is_named_where_it_lacks(changed, capsys, lost, said):
    (changed / lost).unlink()
    assert said in refused(capsys, *export(changed))


def test_a_scan_that_the_table_lacks_is_named(changed, capsys):
    edited(changed / "bids_series.tsv", _3={"use": "no"})
    assert "bids:raw:sub-01/ses-02/anat/sub-01_ses-02_ce-gadolinium_T1w.nii.gz, of which" in refused(
        capsys, *export(changed)
    )


def test_an_export_writes_into_no_folder_that_holds_something(changed, capsys):
    (changed / "dest").mkdir()
    (changed / "dest" / "mine.dcm").write_text("mine")
    assert "dest: found a folder or file that holds something" in refused(capsys, *export(changed))


def test_visits_of_the_tests_share_no_geometry():
    for one, other in pairwise(VISITS.values()):
        assert not np.allclose(np.abs(one.geometry.axes[0]), np.abs(other.geometry.axes[0]), atol=0.1)
