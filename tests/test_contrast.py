"""Scans that were named post-contrast and are not: said of the session, as all lesions seem absent there."""

import json
import shutil

import numpy as np
import pytest
from conftest import settings_of
from mettrail import phantom
from mettrail.contrast import bright_share
from mettrail.errors import GridMismatchError
from mettrail.images import Image, read_image
from plums import CE, add_visit, plum, run, start_dataset, table_of

WARN = settings_of("contrast_check")["bright_share_warn"]
LESION = [((8, 4, 2), 14)]


@pytest.fixture(scope="module")
def head():
    """A simulated head without lesions, before and after contrast agent."""
    session = {"label": "1", "acq_time": "2020-01-01T00:00:00", "sequences": ["T1w", CE], "spacing_mm": [2, 2, 2]}
    (visit,) = phantom.simulate_patient({"id": "X", "sessions": [session], "lesions": []}, seed=5)
    return visit


def test_a_head_shows_contrast_agent_without_any_lesion(head):
    assert bright_share(head.images[CE], head.brain) > 2 * WARN
    assert bright_share(head.images["T1w"], head.brain) < WARN / 2


@pytest.mark.parametrize("scale", [0.01, 1, 40])
@pytest.mark.parametrize("offset", [0, 300])
def test_what_units_a_scan_has_does_not_matter(head, scale, offset):
    scan = head.images[CE]
    changed = scan.like(scale * (scan.data + offset))
    assert bright_share(changed, head.brain) == pytest.approx(bright_share(scan, head.brain), rel=0.01)


def test_where_nothing_differs_from_anything_nothing_is_bright():
    flat = Image(np.full((5, 5, 5), 7.0), np.eye(4))
    assert bright_share(flat, flat.like(flat.data > 0)) == 0
    assert bright_share(flat, flat.like(flat.data < 0)) == 0


def test_a_mask_of_another_grid_is_refused(head):
    with pytest.raises(GridMismatchError):
        bright_share(head.images[CE], Image(np.ones((3, 3, 3), bool), np.eye(4)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two visits; the second one's scan shows no lesion, and nothing else that enhances."""
    folder = tmp_path_factory.mktemp("contrast")
    start_dataset(folder)
    add_visit(folder, "01", "01", *plum(1, LESION))
    scan, labels = plum(2)
    two_tissues = np.select([scan > np.median(scan[scan > 0]), scan > 0], [130, 80])
    add_visit(folder, "01", "02", two_tissues.astype(np.float32), labels)
    done = run(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_scan_without_contrast_agent_is_said_to_be_one(folder):
    sessions = table_of(folder, "sessions").set_index("session_id")
    flagged = {name: "contrast_doubtful" in str(flags).split(";") for name, flags in sessions["flags"].items()}
    assert flagged == {"ses-01": False, "ses-02": True}
    assert sessions.loc["ses-01", "brain_bright_share"] > WARN > sessions.loc["ses-02", "brain_bright_share"]
    # It is used: whether it shows contrast agent is for a reader to say.
    assert sessions["evaluable"].all()


def test_a_reader_is_asked_to_look_at_it(folder):
    assert "hardly shows contrast agent" in (folder / "out" / "sub-01.html").read_text()


def test_where_no_contrast_agent_is_expected_none_is_missed(folder, tmp_path):
    start_dataset(tmp_path)
    anat = tmp_path / "bids/sub-01/ses-01/anat"
    anat.mkdir(parents=True)
    shutil.copy(folder / f"bids/sub-01/ses-02/anat/sub-01_ses-02_{CE}.nii.gz", anat / "sub-01_ses-01_T1w.nii.gz")
    done = run(tmp_path, "--until", "strip", "--config", "reference=T1w", "sequences=[]", "labels={'folder': ''}")
    assert done.returncode == 0, done.stdout + done.stderr
    (quality,) = tmp_path.glob("out/sub-01/ses-01/anat/*_desc-brain_mask.json")
    assert json.loads(quality.read_text())["flags"] == []


@pytest.mark.real
@pytest.mark.parametrize("participant", ["sub-07", "sub-19", "sub-26"])
def test_real_heads_before_and_after_the_injection_are_told_apart(real_data, participant):
    folder = real_data / "contrast-anatomies"
    shares = {}
    for name in ("T1w", CE):
        scan = read_image(folder / f"{participant}_{name}.nii.gz")
        shares[name] = bright_share(scan, scan.like(scan.data > 0))
    assert shares["T1w"] < WARN < shares[CE]
