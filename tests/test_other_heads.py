"""Sessions whose scan is not of the patient's head, or shows it mirrored: no lesion of them is compared with any."""

import json

import nibabel as nib
import numpy as np
import pytest
from conftest import settings_of
from mettrail import registration
from mettrail.images import Image, read_image
from mettrail.registration import visits
from plums import SHAPE, add_visit, plum, run, start_dataset, table_of
from scipy import ndimage

LESIONS = [((8, 4, 2), 14), ((-10, -8, 3), 9)]
LIMITS = settings_of("head_check")
TOO_LONG = 1.1


@pytest.mark.parametrize(
    ("ncc", "left", "mirrored", "stretch", "status", "reason"),
    [
        (0.5, 0.1, False, (1.03, 1, 0.97), "ok", None),
        (0.35, 0.3, False, (1, 1, 1), "ok", None),
        (0.2, 0.1, False, (1, 1, 1), "warn", "other_head"),
        (0.5, 0.4, False, (1, 1, 1), "warn", "other_head"),
        (0.2, 0.4, False, (1.2, 1, 1), "fail", "other_head"),
        (0.5, 0.1, True, (1, 1, 1), "fail", "mirrored"),
        (float("nan"), float("nan"), False, (1, 1, 1), "fail", "other_head"),
        (0.5, 0.1, False, (1.04, 1, 1), "warn", "voxel_size"),
        (0.5, 0.1, False, (1, 1, 0.96), "warn", "voxel_size"),
        (0.5, 0.4, False, (1.1, 1, 1), "warn", "voxel_size"),
        (0.5, 0.1, False, (float("nan"), 1, 1), "warn", "voxel_size"),
    ],
)
def test_what_two_scans_have_in_common_decides_whose_they_are(ncc, left, mirrored, stretch, status, reason):
    stretch = np.array(stretch)
    verdict = registration.same_head_qc(local_ncc=ncc, left=left, mirrored=mirrored, stretch=stretch, **LIMITS)
    assert (verdict.status, verdict.reason) == (status, reason)


def test_the_worst_verdict_counts():
    ok, warn, fail = (registration.QualityCheck(status) for status in ("ok", "warn", "fail"))
    assert registration.most_severe(ok, warn) is warn
    assert registration.most_severe(fail, warn) is fail
    assert registration.most_severe(ok) is ok


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_left_and_right_are_exchanged_whatever_the_order_of_axes(axis):
    data = np.random.default_rng(0).random((3, 4, 5))
    affine = np.eye(4)
    affine[:3, :3] = np.roll(np.eye(3), axis, axis=1)
    mirrored = registration.mirror(Image(data, affine))
    assert np.array_equal(mirrored.data, np.flip(data, axis))
    assert np.array_equal(mirrored.affine, affine)


def scan_head(number, shift, *, whose, lesions=LESIONS):
    """A plum of its own make: heads differ by their gyri, whatever the noise of a scan, which is the number's."""
    scan, labels = plum(number, lesions, shift)
    grain = ndimage.gaussian_filter(np.random.default_rng(whose).standard_normal(SHAPE), 2.5)
    grain = ndimage.shift(grain / grain.std(), shift, order=1, mode="nearest")
    tissue = 100 + 25 * grain + 3 * np.random.default_rng(number).standard_normal(SHAPE)
    return np.where((scan > 0) & (labels == 0), np.maximum(tissue, 1), scan).astype(np.float32), labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A's second scan has left and right exchanged, B's is another person's, C's is sound, D's voxels are too long."""
    folder = tmp_path_factory.mktemp("heads")
    start_dataset(folder)
    for number, sub in enumerate("ABCD"):
        add_visit(folder, sub, "1", *scan_head(10 * number, (0, 0, 0), whose=number))
        other = {"whose": 7, "lesions": [((-6, 8, 6), 12)]} if sub == "B" else {"whose": number}
        second = scan_head(10 * number + 1, (1, 0, -1), **other)
        add_visit(folder, sub, "2", *(array[::-1] if sub == "A" else array for array in second))
        add_visit(folder, sub, "3", *scan_head(10 * number + 2, (0, 1, 1), whose=number))
    for path in folder.glob("*/sub-D/ses-2/anat/*.nii.gz"):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine @ np.diag([1, 1, TOO_LONG, 1])), path)
    done = run(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_session_of_another_head_or_side_is_not_evaluable(folder):
    sessions = table_of(folder, "sessions").set_index(["participant_id", "session_id"])
    reasons = sessions["ne_reason"].dropna().to_dict()
    assert reasons == {("sub-A", "ses-2"): "mirrored", ("sub-B", "ses-2"): "other_head"}
    assert (sessions.loc[list(reasons), "response_imaging_final"] == "NE").all()


def test_its_lesions_are_nobodys_and_those_of_the_others_go_on(folder):
    lesions = table_of(folder, "lesions")
    assert set(lesions["track_id"]) == {"L001", "L002"}
    compared = lesions[lesions["session_id"] == "ses-3"].set_index(["participant_id", "track_id"])
    assert set(compared["event"]) == {"persist"}
    assert len(compared) == 8


def test_a_wrong_voxel_size_is_said_with_what_it_costs(folder):
    sessions = table_of(folder, "sessions").set_index(["participant_id", "session_id"])
    flagged = sessions["flags"].fillna("").str.contains("voxel_size")
    assert sessions.index[flagged].tolist() == [("sub-D", "ses-2")]
    ratios = sessions["head_volume_ratio"]
    assert ratios["sub-D", "ses-2"] == pytest.approx(TOO_LONG, abs=0.03)
    assert ratios.drop([("sub-D", "ses-2"), ("sub-B", "ses-2")]).dropna().to_numpy() == pytest.approx(1, abs=0.03)
    assert ratios["sub-C"].isna().tolist() == [True, False, False]


def test_it_is_no_prior_of_the_next_session(folder):
    for sub, prior in {"A": "ses-1", "B": "ses-1", "C": "ses-2"}.items():
        (quality,) = folder.glob(f"out/sub-{sub}/ses-3/anat/*from-prior_to-session_mode-image_xfm.json")
        assert json.loads(quality.read_text())["prior_session"] == prior


def lengthen(scan, times):
    return Image(scan.data, scan.affine @ np.diag([1, 1, times, 1]))


@pytest.mark.real
@pytest.mark.parametrize(
    ("second", "change", "status", "reason"),
    [
        ("sub-07_ce-gadolinium_T1w", lambda scan: scan, "ok", ""),
        ("sub-07_ce-gadolinium_T1w", registration.mirror, "fail", "mirrored"),
        ("sub-26_ce-gadolinium_T1w", lambda scan: scan, "fail", "other_head"),
        ("sub-07_ce-gadolinium_T1w", lambda scan: lengthen(scan, 1.07), "warn", "voxel_size"),
    ],
)
def test_real_heads_are_told_apart(real_data, second, change, status, reason):
    scans = [read_image(real_data / "contrast-anatomies" / f"{name}.nii.gz") for name in ("sub-07_T1w", second)]
    scans[1] = change(scans[1])
    masks = [scan.like(scan.data > 0) for scan in scans]
    how = settings_of("register") | {"check": settings_of("head_check"), "threads": 2}
    _, quality = visits.register_reference(*scans, *masks, **how)
    assert (quality["status"], quality["reason"]) == (status, reason)
    assert quality["brain_dice"] > 0.9
