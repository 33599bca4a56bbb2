"""Sessions whose scan is not of the patient's head, or shows it mirrored: no lesion of them is compared with any."""

import json

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


@pytest.mark.parametrize(
    ("ncc", "left", "mirrored", "status", "reason"),
    [
        (0.5, 0.1, False, "ok", None),
        (0.35, 0.3, False, "ok", None),
        (0.2, 0.1, False, "warn", "other_head"),
        (0.5, 0.4, False, "warn", "other_head"),
        (0.2, 0.4, False, "fail", "other_head"),
        (0.5, 0.1, True, "fail", "mirrored"),
        (float("nan"), float("nan"), False, "fail", "other_head"),
    ],
)
def test_what_two_scans_have_in_common_decides_whose_they_are(ncc, left, mirrored, status, reason):
    verdict = registration.same_head_qc(local_ncc=ncc, left=left, mirrored=mirrored, **LIMITS)
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
    """A's second scan has left and right exchanged, B's second is another person's, C's are of one head."""
    folder = tmp_path_factory.mktemp("heads")
    start_dataset(folder)
    for number, sub in enumerate("ABC"):
        add_visit(folder, sub, "1", *scan_head(10 * number, (0, 0, 0), whose=number))
        other = {"whose": 7, "lesions": [((-6, 8, 6), 12)]} if sub == "B" else {"whose": number}
        second = scan_head(10 * number + 1, (1, 0, -1), **other)
        add_visit(folder, sub, "2", *(array[::-1] if sub == "A" else array for array in second))
        add_visit(folder, sub, "3", *scan_head(10 * number + 2, (0, 1, 1), whose=number))
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
    assert len(compared) == 6


def test_it_is_no_prior_of_the_next_session(folder):
    for sub, prior in {"A": "ses-1", "B": "ses-1", "C": "ses-2"}.items():
        (quality,) = folder.glob(f"out/sub-{sub}/ses-3/anat/*from-prior_to-session_mode-image_xfm.json")
        assert json.loads(quality.read_text())["prior_session"] == prior


@pytest.mark.real
@pytest.mark.parametrize(
    ("second", "exchanged", "status", "reason"),
    [
        ("sub-07_ce-gadolinium_T1w", False, "ok", ""),
        ("sub-07_ce-gadolinium_T1w", True, "fail", "mirrored"),
        ("sub-26_ce-gadolinium_T1w", False, "fail", "other_head"),
    ],
)
def test_real_heads_are_told_apart(real_data, second, exchanged, status, reason):
    scans = [read_image(real_data / "contrast-anatomies" / f"{name}.nii.gz") for name in ("sub-07_T1w", second)]
    if exchanged:
        scans[1] = registration.mirror(scans[1])
    masks = [scan.like(scan.data > 0) for scan in scans]
    how = settings_of("register") | {"check": settings_of("head_check"), "threads": 2}
    _, quality = visits.register_reference(*scans, *masks, **how)
    assert (quality["status"], quality["reason"]) == (status, reason)
    assert quality["brain_dice"] > 0.9
