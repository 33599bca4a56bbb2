"""Scans that are not what their names say, and masks of another scan: said of the session."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from conftest import settings_of
from mettrail import phantom
from mettrail.contrast import bright_share, labels_auc, require_weighting, shows_bright_fluid, tissue_contrast
from mettrail.errors import GridMismatchError, InputError
from mettrail.images import Image, read_image, write_image
from plums import CE, add_visit, plum, run, start_dataset, table_of
from scipy.spatial import KDTree
from sklearn.metrics import roc_auc_score

WARN, AUC_WARN = (settings_of("contrast_check")[name] for name in ("bright_share_warn", "labels_auc_warn"))
LESION = [((8, 4, 2), 14)]
SEQUENCES = ("T1w", "T2w", "FLAIR")


@pytest.fixture(scope="module")
def head():
    """A simulated head without lesions, in all sequences, before and after contrast agent."""
    session = {"label": "1", "acq_time": "2020-01-01T00:00:00", "sequences": [*SEQUENCES, CE], "spacing_mm": [2, 2, 2]}
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


# Sequences under another's name


@pytest.mark.parametrize("reference", ["T1w", CE])
@pytest.mark.parametrize("shown", SEQUENCES)
@pytest.mark.parametrize("name", SEQUENCES)
def test_a_sequence_is_taken_under_its_own_name_alone(head, name, shown, reference):
    scan = Image(head.images[shown].data, head.images[shown].affine, "sub-X_scan.nii.gz")
    if name == shown:
        require_weighting(name, scan, head.images[reference], head.brain)
        return
    with pytest.raises(
        InputError, match=rf"(?s)sub-X_scan.nii.gz.*as on.*{shown}.*what its name says: {name}"
    ) as refused:
        require_weighting(name, scan, head.images[reference], head.brain)
    assert refused.value.reason == "other_sequence"


@pytest.mark.parametrize("name", [*SEQUENCES, CE])
def test_fluid_is_bright_on_t2w_alone(head, name):
    assert shows_bright_fluid(head.images[name], head.brain) == (name == "T2w")


def test_tissues_are_told_where_the_scan_was_acquired():
    reference = np.repeat(np.arange(100.0), 10).reshape(10, 10, 10)
    scan = np.select([reference <= 8, reference <= 60], [3, 6], 2.0)
    scan[:, 0] = 0
    given = (Image(each, np.eye(4)) for each in (scan, reference, np.ones((10, 10, 10), bool)))
    assert tissue_contrast(*given) == {"fluid": 1.5, "grey": 3}


def test_of_a_scan_that_shows_nothing_of_the_brain_nothing_is_said(head):
    scan = head.images["FLAIR"].like(np.zeros_like(head.images["FLAIR"].data))
    assert np.isnan(list(tissue_contrast(scan, head.images[CE], head.brain).values())).all()
    for name in SEQUENCES:
        require_weighting(name, scan, head.images[CE], head.brain)


def test_a_large_tumour_in_a_small_brain_is_no_fluid():
    scan, labels = plum(1, [((8, 4, 2), 22)])
    assert (labels > 0).sum() > 0.1 * (scan > 0).sum()
    assert not shows_bright_fluid(Image(scan, np.eye(4)), Image(scan > 0, np.eye(4)))


def test_a_t2w_for_the_reference_scan_is_said_to_be_one(head, tmp_path):
    start_dataset(tmp_path)
    table = "session_id\tdays_from_baseline\nses-01\t0\nses-02\t60\n"
    for ses, name in (("01", "T2w"), ("02", CE)):
        image = head.images[name]
        brain = np.where(head.brain.data > 0, image.data, 0).astype(np.float32)
        fine = brain.repeat(2, 0).repeat(2, 1).repeat(2, 2)  # 1 mm, as the pipeline has it: nothing is interpolated
        path = tmp_path / f"bids/sub-01/ses-{ses}/anat/sub-01_ses-{ses}_{CE}.nii.gz"
        write_image(path, fine, image.affine @ np.diag([0.5, 0.5, 0.5, 1]))
    (tmp_path / "bids/sub-01/sub-01_sessions.tsv").write_text(table)
    sizes = "strip={'method': 'nonzero', 'volume_warn_ml': [10, 3000], 'volume_fail_ml': [10, 3000]}"
    done = run(tmp_path, "--until", "strip", "--config", "labels={'folder': ''}", sizes)
    assert done.returncode == 0, done.stdout + done.stderr
    flags = {path.parts[-3]: json.loads(path.read_text())["flags"] for path in tmp_path.rglob("*_desc-brain_mask.json")}
    assert {ses: "sequence_doubtful" in of for ses, of in flags.items()} == {"ses-01": True, "ses-02": False}


@pytest.mark.real
@pytest.mark.parametrize("participant", ["sub-07", "sub-19", "sub-26"])
def test_real_sequences_are_taken_under_their_own_names_alone(real_data, participant):
    scans = {
        name: read_image(real_data / f"contrast-anatomies/{participant}_{name}.nii.gz") for name in [*SEQUENCES, CE]
    }
    brain = scans[CE].like(scans[CE].data > 0)
    for shown in SEQUENCES:
        taken = []
        for name in SEQUENCES:
            try:
                require_weighting(name, scans[shown], scans[CE], brain)
                taken.append(name)
            except InputError as err:
                assert err.reason == "other_sequence"
        assert taken == [shown]
    bright = [name for name, scan in scans.items() if shows_bright_fluid(scan, brain)]
    assert bright == ["T2w"]


# Masks of another scan

SHAPE = (24, 26, 20)
SPACINGS = {"1 mm": (1, 1, 1), "thick slices": (1, 1, 3)}


def placed(data, spacing=(1, 1, 1)):
    return Image(data, np.diag([*spacing, 1.0]))


def ball(centre, radius):
    return sum((axis - place) ** 2 for axis, place in zip(np.indices(SHAPE), centre)) <= radius**2


def noisy(brighter):
    return np.random.default_rng(3).normal(0, 1, SHAPE) + brighter


def distance_to(mask, spacing):
    """Of each voxel to the nearest one of a mask, mm."""
    found, _ = KDTree(np.argwhere(mask) * spacing).query(np.argwhere(np.ones(SHAPE)) * spacing)
    return found.reshape(SHAPE)


def auc_of(scan, tissue, spacing=(1, 1, 1), brain=None):
    brain = np.ones(SHAPE, bool) if brain is None else brain
    return labels_auc(placed(scan, spacing), placed(tissue.astype(np.uint8), spacing), placed(brain, spacing))


@pytest.mark.parametrize("spacing", SPACINGS.values(), ids=SPACINGS)
@pytest.mark.parametrize("brighter", [-1, 0, 1, 8])
def test_edge_and_surroundings_of_a_lesion_as_scikit_learn_has_them(brighter, spacing):
    lesion, brain = ball((12, 13, 10), 4), ball((12, 13, 10), 9)
    scan = noisy(brighter * lesion)
    edge = lesion & (distance_to(~lesion, spacing) <= 1.5)
    beyond = distance_to(lesion, spacing)
    around = (beyond > 1.5) & (beyond <= 8) & brain
    truth = np.r_[np.ones(edge.sum()), np.zeros(around.sum())]
    expected = roc_auc_score(truth, np.r_[scan[edge], scan[around]])
    assert auc_of(scan, lesion, spacing, brain) == pytest.approx(expected, abs=1e-9)


def test_lesions_count_by_the_voxels_of_their_edge():
    one, other = ball((6, 6, 10), 2), ball((17, 19, 10), 3)
    scan = noisy(9 * one)
    edges = [(lesion & (distance_to(~lesion, (1, 1, 1)) <= 1.5)).sum() for lesion in (one, other)]
    alone = [auc_of(scan, lesion) for lesion in (one, other)]
    assert alone[0] > 0.99 > AUC_WARN > alone[1]
    assert auc_of(scan, one | other) == pytest.approx(np.average(alone, weights=edges), abs=0.02)


@pytest.mark.parametrize("scheme", ["tissues", "one number"])
def test_a_dark_core_is_none_of_the_edge(scheme):
    lesion, core = ball((12, 13, 10), 7), ball((12, 13, 10), 5)
    scan = noisy(6 * (lesion & ~core) - 6 * core)
    tissue = np.where(core, 3, lesion) if scheme == "tissues" else lesion
    assert auc_of(scan, tissue) > 0.9


def test_a_mask_of_another_scan_follows_nothing():
    lesion = ball((7, 9, 10), 4)
    scan = noisy(6 * lesion)
    assert auc_of(scan, lesion) > AUC_WARN > auc_of(scan, lesion[::-1])
    assert auc_of(scan, ball((8, 15, 12), 4)) < AUC_WARN


def test_where_nothing_enhancing_was_drawn_nothing_is_said():
    lesion = ball((7, 9, 10), 4)
    assert auc_of(noisy(0), 0 * lesion) is None
    assert auc_of(noisy(0), 2 * lesion) is None
    assert auc_of(noisy(0), 3 * lesion) is None
    assert auc_of(noisy(0), lesion, brain=lesion) is None


def test_a_segmentation_on_another_grid_is_refused():
    scan, brain = placed(noisy(0)), placed(np.ones(SHAPE, bool))
    with pytest.raises(GridMismatchError):
        labels_auc(scan, placed(np.ones((3, 3, 3), np.uint8)), brain)


def test_the_brain_mask_may_have_a_grid_of_its_own():
    lesion, brain = ball((12, 13, 10), 4), ball((12, 13, 10), 8)
    scan, tissue = placed(noisy(lesion)), placed(lesion.astype(np.uint8))
    turned = Image(
        brain[::-1], scan.affine @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    )
    assert labels_auc(scan, tissue, turned) == labels_auc(scan, tissue, placed(brain))


MASKED = [((9, 0, 8), 10)]
# Of four visits the masks are right; mirrored; of the visit before, where the lesion was elsewhere; and empty.
FOLLOWS = {"ses-01": True, "ses-02": False, "ses-03": False, "ses-04": None}


@pytest.fixture(scope="module")
def masks_of_others(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    start_dataset(folder)
    scan, labels = plum(1, MASKED)
    add_visit(folder, "01", "01", scan, labels)
    add_visit(folder, "01", "02", plum(2, MASKED)[0], labels[::-1])
    add_visit(folder, "01", "03", plum(3, [((-9, -6, 0), 12)])[0], labels)
    add_visit(folder, "01", "04", *plum(4))
    done = run(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_mask_that_does_not_follow_its_scan_is_said_and_used(masks_of_others):
    sessions = table_of(masks_of_others, "sessions").set_index("session_id")
    doubtful = {name: "labels_doubtful" in str(flags).split(";") for name, flags in sessions["flags"].items()}
    assert doubtful == {name: follows is False for name, follows in FOLLOWS.items()}
    above = sessions["labels_auc"].dropna() > AUC_WARN
    assert above.to_dict() == {name: follows for name, follows in FOLLOWS.items() if follows is not None}
    assert sessions["evaluable"].all()


def test_a_reader_is_asked_to_look_at_the_mask(masks_of_others):
    page = (masks_of_others / "out" / "sub-01.html").read_text()
    assert "hardly brighter than the brain around it" in page


def test_without_contrast_agent_a_dark_lesion_is_as_good_as_a_bright_one(masks_of_others, tmp_path):
    start_dataset(tmp_path)
    add_visit(tmp_path, "01", "01", *plum(1, MASKED))
    (scan,) = tmp_path.glob("bids/sub-01/ses-01/anat/*.nii.gz")
    scan.rename(scan.with_name("sub-01_ses-01_T1w.nii.gz"))
    mirrored = masks_of_others / "masks/sub-01/ses-02/anat/sub-01_ses-02_dseg.nii.gz"
    shutil.copy(mirrored, tmp_path / "masks/sub-01/ses-01/anat/sub-01_ses-01_dseg.nii.gz")
    done = run(tmp_path, "--until", "segment_fuse", "--config", "reference=T1w", "sequences=[]")
    assert done.returncode == 0, done.stdout + done.stderr
    (facts,) = tmp_path.glob("out/sub-01/ses-01/anat/*_desc-tissue_dseg.json")
    facts = json.loads(facts.read_text())
    assert facts["LabelsAUC"] < AUC_WARN
    assert not facts["LabelsDoubtful"]


@pytest.mark.real
@pytest.mark.parametrize("participant", ["sub-01", "sub-04", "sub-07"])
def test_masks_of_real_tumours_follow_their_own_scans_alone(real_data, participant):
    folder = real_data / "gbm-followup"
    scans, masks = [], []
    for ses in ("ses-01", "ses-02"):
        (scan,) = folder.glob(f"{participant}/{ses}/anat/*_{CE}.nii.gz")
        (mask,) = folder.glob(f"derivatives/manual/{participant}/{ses}/anat/*_dseg.nii.gz")
        scans.append(read_image(scan))
        masks.append(nib.load(mask).get_fdata() > 0)
    for n, scan in enumerate(scans):
        brain = scan.like(scan.data > 0)
        own, mirrored, other = (
            labels_auc(scan, scan.like(mask.astype(np.uint8)), brain)
            for mask in (masks[n], masks[n][::-1], masks[1 - n])
        )
        assert own > AUC_WARN > max(mirrored, other)
