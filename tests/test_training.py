"""Training: priors good and bad, cases in nnU-Net's format, resuming after a kill, and what validation counts."""

import copy
import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from mettrail import segmentation
from mettrail.errors import InputError
from mettrail.images import write_image, write_labels
from mettrail.segmentation import models, thresholds
from mettrail.training import backgrounds, cases, priors, synthesis, training, transfer, validation
from mettrail.training.losses import EachLesionLoss
from mettrail.training.resection import PaintBeds
from mettrail.training.trainer import MettrailTrainer, Reused, StripAnew, ThickSlices, draw_mask
from scipy import ndimage

ROOT = Path(__file__).parents[1]
SETTINGS = yaml.safe_load((ROOT / "config" / "train.yaml").read_text())
SHAPE = (30, 34, 26)
PERFECT = {
    "shift_mm": 0, "resize_prob": 0, "drop_prob": 0, "drop_all_prob": 0, "fictitious_prob": 0,
    "fictitious_dilate_vox": (0, 6), "fictitious_erode_vox": (0, 3), "fictitious_shift_vox": (-6, 6),
    "nothing_prob": 0, "nothing_radius_mm": (1.5, 7),
}  # fmt: skip


def make_toy_visits(seed):
    """Two visits of a bright ellipsoid with one or two brighter balls in it."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices(SHAPE)
    brain = ((x - 15) / 14) ** 2 + ((y - 17) / 16) ** 2 + ((z - 13) / 12) ** 2 < 1
    visits = []
    for visit in range(2):
        tissue, instances = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
        for number, centre in enumerate(((12, 14, 12), (19, 21, 14))[: 2 - visit], start=1):
            ball = sum((a - c) ** 2 for a, c in zip((x, y, z), centre)) <= (3 + visit) ** 2
            tissue[ball], instances[ball] = 1, number
        image = 100 * brain + 120 * (tissue > 0) + rng.normal(0, 5, SHAPE)
        visits.append(cases.LabelledScan(image.astype(np.float32), brain, tissue, instances))
    return visits


def toy_settings(epochs=3):
    settings = copy.deepcopy(SETTINGS)
    settings |= {"threads": 1, "workers": 0}
    settings["cases"] |= {"train_seeds": [1, 2], "validation_seeds": [9, 9], "backgrounds_root": None}
    settings["network"] = {
        "features": [4, 8, 8], "convs_encoder": [1, 1, 1], "convs_decoder": [1, 1], "patch": [16, 16, 16], "batch": 2,
        "tile": [16, 16, 16],
    }  # fmt: skip
    settings["training"] |= {"epochs": epochs, "steps": 2, "validation_steps": 1, "export_every": 1}
    return settings


def make_trainer(run, task, settings=None):
    """A trainer of a run that is there, its network as initialised."""
    return training.make_trainer(task, run.out, settings=settings or toy_settings())


def train_toy(out, task="detection", *, epochs=3, **more):
    given = {"resume": False, **more}
    return training.train(task, out, settings=toy_settings(epochs), visits_of=make_toy_visits, **given)


@pytest.fixture(autouse=True)
def leave_no_trace(monkeypatch):
    """nnU-Net is told its folders through the environment."""
    for name in (
        "nnUNet_raw",
        "nnUNet_preprocessed",
        "nnUNet_results",
        "nnUNet_def_n_proc",
        "nnUNet_n_proc_DA",
        "nnUNet_compile",
        "nnUNet_wandb_enabled",
    ):
        monkeypatch.setenv(name, "")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


# Priors


def numbered(*balls):
    labels = np.zeros((60, 50, 40), np.uint8)
    for number, (centre, radius) in enumerate(balls, start=1):
        labels[sum((a - c) ** 2 for a, c in zip(np.indices(labels.shape), centre)) <= radius**2] = number
    return labels


EVERYWHERE = np.ones((60, 50, 40), bool)


def make(previous, current, brain=EVERYWHERE, seed=0, **changes):
    return priors.make_prior(
        previous, current, brain, rng=np.random.default_rng(seed), settings=priors.PriorSettings(**PERFECT | changes)
    )


def test_a_prior_without_any_error_is_the_lesions_of_the_prior_visit():
    previous = numbered(((20, 20, 20), 4), ((40, 30, 12), 2))
    assert np.array_equal(make(previous, numbered(((20, 20, 20), 6))), previous > 0)


def test_priors_shift_grow_and_shrink_a_little_lesion_by_lesion():
    previous = numbered(((20, 20, 20), 5))
    made = [make(previous, previous, seed=s, shift_mm=1.2, resize_prob=0.4) for s in range(20)]
    shifts = [np.argwhere(p).mean(0) - 20 for p in made]
    assert 0.6 < np.std(shifts) < 1.8
    assert len({int(p.sum()) for p in made}) == 3


def test_priors_are_dropped():
    previous = numbered(((20, 20, 20), 5), ((40, 30, 12), 2))
    assert not make(previous, previous, drop_all_prob=1).any()
    assert not make(previous, previous, drop_prob=1).any()


def test_only_new_lesions_get_fictitious_priors():
    old, new = ((20, 20, 20), 4), ((42, 30, 14), 3)
    made = [make(numbered(old), numbered(old, new), seed=s, fictitious_prob=1) for s in range(20)]
    for prior in made:
        assert np.array_equal(prior[:28], numbered(old)[:28] > 0)
        assert prior[28:].any()
    reach = np.array([np.argwhere(p[28:]).min(0) for p in made])
    assert reach.std(0).min() > 1


def test_priors_where_nothing_ever_was_stay_within_the_brain():
    brain = numbered(((30, 25, 20), 15)) > 0
    nothing = np.zeros(brain.shape, np.uint8)
    made = [make(nothing, nothing, brain, seed=s, nothing_prob=1) for s in range(10)]
    assert all(p.any() for p in made)
    assert not any((p & ~brain).any() for p in made)


def test_a_prior_at_the_edge_of_the_image_is_cut():
    previous = numbered(((1, 1, 38), 3))
    made = [make(previous, previous, seed=seed, shift_mm=6) for seed in range(10)]
    sizes = [int(prior.sum()) for prior in made]
    assert min(sizes) < max(sizes) == (previous > 0).sum()
    # What leaves on one side does not come back on the other.
    for prior in made:
        assert not prior[30:].any()
        assert not prior[:, 25:].any()
        assert not prior[:, :, :15].any()


def test_no_lesion_before_or_now_is_no_prior():
    nothing = numbered()
    assert not make(nothing, nothing, fictitious_prob=1).any()


# Cases


def test_the_demonstration_and_held_out_seeds_are_never_trained_on():
    first, last = SETTINGS["cases"]["train_seeds"]
    assert first >= 1_000_000
    held_out, real_sizes = (
        yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text()) for name in ("held_out", "held_out_real_sizes")
    )
    tested = [held_out["phantoms"]["seeds"], held_out["background"]["seeds"]]
    tested += [real_sizes["background"][key] for key in ("seeds", "phantom_seeds")]
    names = training.name_cases(SETTINGS["cases"], SETTINGS["synthesis"])
    assert len({seed for _, seed in names}) == len(names)
    assert not any(low <= seed <= high for _, seed in names for low, high in tested)
    with pytest.raises(InputError, match="overlap"):
        training.name_cases(SETTINGS["cases"] | {"validation_seeds": [last, last + 3]}, SETTINGS["synthesis"])


def test_small_lesions_are_shown_as_often_as_large_ones():
    instances = numbered(((20, 20, 20), 8), ((45, 30, 12), 1))
    seg = np.where(instances > 0, 1, 0)
    data = np.random.default_rng(0).normal(size=(1, *seg.shape))
    places = cases.patch_locations(
        data, seg, instances, rng=np.random.default_rng(1), per_lesion=50, bright_percentile=98
    )
    found = instances[tuple(places[1][:, 1:].T)]
    assert np.bincount(found).tolist() == [0, 50, 50]
    assert len(places[3]) == 0
    bright = tuple(places["bright"][:, 1:].T)
    assert (seg[bright] == 0).all()
    assert data[0][bright].min() > np.percentile(data, 97)


def test_what_the_network_is_trained_on_is_stripped_by_an_imperfect_mask():
    given = cases.Imperfections(thick_prob=0.25, thick_mm=(1.2, 3.0), bias=0.06, grow_mm=(1.0, 5.0), mask_error_mm=1.2)
    masks = []
    for seed in range(6):
        a, b = cases.perturb(make_toy_visits(1), rng=np.random.default_rng(seed), imperfections=given)
        assert (a.image[~a.mask] == 0).all()
        assert a.image.shape == a.tissue.shape == a.instances.shape == b.image.shape
        assert np.array_equal(a.instances > 0, np.isin(a.tissue, (1, 3)))
        masks.append(int(a.mask.sum()))
    assert len(set(masks)) == 6


def write_prepared(folder, *, ring=False):
    """Write what the pipeline leaves of a session, and a manual segmentation."""
    visit = make_toy_visits(1)[0]
    anat = folder / "heads/sub-A/ses-1/anat"
    anat.mkdir(parents=True)
    write_image(anat / "sub-A_ses-1_ce-gadolinium_res-1mm_desc-debias_T1w.nii.gz", visit.image, np.eye(4))
    write_labels(anat / "sub-A_ses-1_res-1mm_desc-brain_mask.nii.gz", visit.brain, np.eye(4))
    manual = folder / "labels/heads/sub-A/ses-1/anat"
    manual.mkdir(parents=True)
    tissue = visit.tissue.copy()
    if ring:
        tissue[ndimage.binary_erosion(tissue > 0, iterations=2)] = 0
    write_labels(manual / "sub-A_ses-1_dseg.nii.gz", tissue, np.eye(4))
    return visit


def test_a_prepared_head_is_a_background_with_its_manual_segmentation(tmp_path):
    visit = write_prepared(tmp_path, ring=True)
    found = backgrounds.find_backgrounds(tmp_path, name="heads", participants=["sub-A"], copies=3)
    assert len(found) == 3
    (read,) = backgrounds.make_visits(found[0])
    assert np.allclose(read.image, visit.image)
    assert np.array_equal(read.brain, visit.brain)
    # The hole of the ring is not brain: it belongs to the lesion.
    assert np.array_equal(read.tissue > 0, visit.tissue > 0)
    assert set(np.unique(read.tissue)) == {0, 1, 3}
    assert read.instances.max() == 2
    shutil.rmtree(tmp_path / "labels")
    (plain,) = backgrounds.make_visits(backgrounds.find_backgrounds(tmp_path, name="heads")[0])
    assert not plain.tissue.any()


def test_lesions_are_painted_beside_a_heads_own_tumour_which_counts_once(tmp_path):
    write_prepared(tmp_path)
    (background,) = backgrounds.find_backgrounds(tmp_path, name="heads")
    (head,) = backgrounds.make_visits(background)
    assert head.instances.max() == 2
    near = ndimage.binary_dilation(head.tissue > 0, iterations=backgrounds.APART_VOX)
    painted = 0
    for seed in range(6):
        key = backgrounds.Painted(background, seed, (1, 4), SETTINGS["synthesis"])
        visits = backgrounds.make_visits(key)
        assert len(visits) == 2
        for visit in visits:
            own = head.instances > 0
            assert np.array_equal(visit.tissue[near], head.tissue[near])
            assert np.unique(visit.instances[own]).tolist() == [5]
            assert np.array_equal(np.isin(visit.tissue, (1, 3)), visit.instances > 0)
            painted += len(np.unique(visit.instances[~near & (visit.instances > 0)]))
    assert painted > 3


def test_lesions_are_painted_into_a_phantom_that_has_none_of_its_own():
    lesions = {"quantiles": [0, 1], "number": [3, 3]}
    first, second = backgrounds.make_visits(backgrounds.Painted(2_999_999, 5, lesions, SETTINGS["synthesis"]))
    numbers = set(np.unique(first.instances)) | set(np.unique(second.instances))
    assert 1 < len(numbers) <= 4
    assert max(numbers) <= 3
    assert np.array_equal(np.isin(first.tissue, (1, 3)), first.instances > 0)


def test_heads_are_laid_out_as_bids_and_prepared_by_the_pipeline(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(backgrounds.subprocess, "run", lambda command, **_: ran.append(command))
    scans = tmp_path / "scans"
    for name in (
        "some/sub-07_T1w.nii.gz",
        "some/sub-08_T1w.nii.gz",
        "other/sub-1/ses-1/anat/x.nii.gz",
        "drawn/d.txt",
        "some/sub-07_FLAIR.nii.gz",
    ):
        (scans / name).parent.mkdir(parents=True, exist_ok=True)
        (scans / name).write_text(name)
    heads = [
        {"name": "some", "files": "some/sub-*_T1w.nii.gz", "reference": "T1w", "strip": "nonzero"},
        {"name": "other", "bids": "other", "labels": "drawn", "reference": "ce-gadolinium_T1w", "strip": "atlas"},
        {
            "name": "more",
            "files": "some/sub-07_T1w.nii.gz",
            "reference": "T1w",
            "sequences": ["FLAIR"],
            "strip": "atlas",
        },
    ]
    backgrounds.prepare(scans, tmp_path / "root", heads=heads, cores=2)
    laid_out = tmp_path / "root/bids/some/sub-08/ses-01/anat/sub-08_ses-01_T1w.nii.gz"
    assert laid_out.read_text() == "some/sub-08_T1w.nii.gz"
    assert (tmp_path / "root/labels/other/d.txt").exists()
    assert [f"bids={tmp_path / 'root/bids/some'}" in ran[0], f"bids={scans / 'other'}" in ran[1]] == [True, True]
    beside = tmp_path / "root/bids/more/sub-07/ses-01/anat/sub-07_ses-01_FLAIR.nii.gz"
    assert beside.read_text() == "some/sub-07_FLAIR.nii.gz"
    assert [command[-1] for command in ran[2:]] == ["strip={method: atlas}", "preprocess_all"]
    with pytest.raises(InputError, match="no such scan"):
        backgrounds.prepare(scans, tmp_path / "root", heads=[heads[0] | {"files": "none/*"}], cores=2)


@pytest.mark.parametrize("asked", [{"name": "nowhere"}, {"name": "heads", "participants": ["sub-A", "sub-B"]}])
def test_backgrounds_that_are_not_there_are_named(tmp_path, asked):
    write_prepared(tmp_path)
    with pytest.raises(InputError, match=r"sub-B|nowhere"):
        backgrounds.find_backgrounds(tmp_path, **asked)


AUGMENTATION = {**SETTINGS["augmentation"], "rotate_prob": 0, "scale_prob": 0, "elastic_prob": 0}
DEEP = 150


def with_surface(labels, depth=DEEP):
    """Labels as cases have them: the second channel says how deep in the brain a voxel lies; everywhere alike."""
    labels = labels.to(torch.int16)
    return torch.stack([labels, torch.full_like(labels, depth)])


MASKS = {"rim_mm": (0, 0), "error_mm": (0, 0), "left_in_prob": 0, "left_in_at_most": 3, "left_in_radius_mm": (4, 8)}


def make_surface():
    """Distance to the surface of a ball of radius 12; nothing was scanned beyond one side of it."""
    beyond = np.linalg.norm(np.indices((40, 40, 40)) - 20.0, axis=0) - 12
    beyond[:9] = np.inf
    return beyond


def test_masks_are_as_wide_as_asked_and_end_where_the_scan_does():
    beyond = make_surface()
    for rim in (-2, 0, 5):
        drawn = draw_mask(beyond, np.random.default_rng(0), **MASKS | {"rim_mm": (rim, rim)})
        assert np.array_equal(drawn, beyond <= rim)
    wrong = [draw_mask(beyond, np.random.default_rng(s), **MASKS | {"error_mm": (2, 2)}) for s in range(10)]
    assert all((w[beyond > 0].any() and not w[beyond <= 0].all()) for w in wrong)
    left_in = [
        draw_mask(beyond, np.random.default_rng(s), **MASKS | {"left_in_prob": 1, "left_in_at_most": 1})
        for s in range(10)
    ]
    assert all(mask[beyond <= 0].all() and not mask[np.isinf(beyond)].any() for mask in left_in)
    assert all(0 < mask[beyond > 0].mean() < 0.1 for mask in left_in)


def test_a_patch_is_stripped_anew_its_labels_and_its_prior_with_it():
    beyond = make_surface()
    code = cases.code_surface(beyond, np.isinf(beyond))
    labels = torch.from_numpy(np.stack([np.ones_like(code), code]))
    image = torch.ones(2, *beyond.shape)
    strip = StripAnew(MASKS | {"rim_mm": (-3, -3)}, 1)
    out = strip(image=image, segmentation=labels)
    kept = torch.from_numpy(cases.read_surface(code) <= -3)
    assert len(out["segmentation"]) == 1
    assert torch.equal(out["segmentation"][0] == 1, kept)
    assert torch.equal(out["segmentation"][0] == -1, ~kept)
    assert torch.equal(out["image"][1] > 0, kept)
    assert (out["image"][0] == 1).all()


def test_slices_show_more_of_a_lesion_and_readers_draw_it():
    np.random.seed(0)  # noqa: NPY002
    labels = torch.zeros(1, 24, 24, 24, dtype=torch.int16)
    labels[0, 10:14, 10:14, 10:14] = 3
    labels[0, :, :, :6] = -1
    image = torch.stack([labels[0].float(), labels[0].float()])
    before = image.clone(), labels.clone()
    out = ThickSlices((5, 5), 1, drawn_from=0.3)(image=image, segmentation=labels)
    drawn = out["segmentation"][0]
    assert not torch.equal(out["image"][0], before[0][0])
    assert torch.equal(out["image"][1], before[0][1])
    assert torch.equal(drawn[before[1][0] != 0], before[1][0][before[1][0] != 0])
    more = (drawn == 1).nonzero()
    # Along one axis alone, to both sides, by less than a slice.
    assert len(more) > 16
    assert sum(bool(((more[:, a] < 10) | (more[:, a] > 13)).any()) for a in range(3)) == 1
    assert more.min() >= 6
    assert more.max() <= 17


class Loader:
    """Batches that are numbered; every third one is ready in time."""

    def __init__(self):
        self.drawn, self.asked = 0, 0
        self.results_loop_queue = self

    def empty(self):
        self.asked += 1
        return self.asked % 3 > 0

    def __next__(self):
        self.drawn += 1
        data = torch.full((2, 2, 4, 4, 4), float(self.drawn))
        data[:, 1] = (torch.arange(4) < 2).float()
        data[:, 0, 0] = 0
        labels = data[:, 1:].to(torch.int16)
        return {"data": data, "target": [labels, labels[..., ::2, ::2, ::2]]}


def reuse(uses, count=31, loader=None):
    np.random.seed(0)  # noqa: NPY002
    reused = Reused(loader or Loader(), uses=uses, pool=4, images=1, device=torch.device("cpu"))
    return reused, [next(reused) for _ in range(count)]


def test_patches_are_repeated_in_other_tones_until_the_next_are_ready():
    reused, batches = reuse(4)
    assert reused.loader.drawn == 11
    assert len(reused.kept) == 4
    mirrored = again = fresh = 0
    for batch in batches:
        finest, coarse = batch["target"]
        assert torch.equal(batch["data"][:, 1:], finest.float())
        assert torch.equal(finest[..., ::2, ::2, ::2].any(-1), coarse.any(-1))
        assert (batch["data"][:, 0, 0] == 0).all()
        values = batch["data"][:, 0, 1:]
        if torch.equal(values, values.round()):
            fresh += 1
            assert (values == fresh).all()
            continue
        again += 1
        # Of the last two batches, in other tones.
        assert (values.mean((1, 2, 3)) - (fresh - 0.5)).abs().max() < 0.6 * (fresh + 1)
        mirrored += int((finest[:, 0, 0, 0, 0] == 0).sum())
    assert again == 20
    assert 8 < mirrored < 32


def test_a_patch_is_shown_as_often_as_it_may_and_once_without_waiting():
    loader = Loader()
    loader.empty = lambda: True
    reuse(2, 30, loader)
    assert loader.drawn == 15
    loader = Loader()
    loader.results_loop_queue = None
    _, batches = reuse(4, 3, loader)
    assert [float(b["data"].max()) for b in batches] == [1, 2, 3]


def test_augmentation_changes_the_image_and_leaves_the_prior_alone():
    trainer = SimpleNamespace(beds=None, synthesis=None, augmentation=AUGMENTATION)
    transform = MettrailTrainer.get_training_transforms(
        trainer, (16, 16, 16), (0, 0), None, (2,), False, use_mask_for_norm=[True, False]
    )
    rng = np.random.default_rng(0)
    prior = torch.from_numpy((rng.random((16, 16, 16)) > 0.7).astype(np.float32))
    image = torch.from_numpy(rng.normal(size=(16, 16, 16)).astype(np.float32))
    changed = 0
    for _ in range(60):
        out = transform(image=torch.stack([image, prior]), segmentation=with_surface(prior * 3))
        # Only mirrored, and together with the labels.
        assert len(out["segmentation"]) == 1
        lesion = out["segmentation"][0] > 0
        assert lesion[out["image"][1] > 0].all()
        flipped = torch.equal(out["image"][1], prior.flip(-1))
        assert flipped or torch.equal(out["image"][1], prior)
        changed += not torch.allclose(out["image"][0], image.flip(-1) if flipped else image)
    assert 10 < changed < 60


def test_a_prior_that_is_turned_stays_binary_and_with_its_lesion():
    given = {**SETTINGS["augmentation"], "rotate_prob": 1, "scale_prob": 1, "elastic_prob": 1, "thick_prob": 0}
    transform = MettrailTrainer.get_training_transforms(
        SimpleNamespace(beds=None, synthesis=None, augmentation=given), (24, 24, 24), (0, 0), None, (2,), False,
        use_mask_for_norm=[True, False],
    )  # fmt: skip
    prior = torch.zeros(32, 32, 32)
    prior[10:22, 12:22, 8:20] = 1
    for _ in range(10):
        out = transform(image=torch.stack([prior, prior]), segmentation=with_surface(prior))
        moved, label = out["image"][1], out["segmentation"][0]
        assert set(moved.unique().tolist()) == {0.0, 1.0}
        assert (moved == label).float().mean() > 0.98
        assert not torch.equal(moved, prior[4:28, 4:28, 4:28])


# Synthesis


def only(*, lesions=0.0, look_alike=None, prior=False, **changed):
    """Return settings that paint one kind of thing, always."""
    settings = copy.deepcopy(SETTINGS["synthesis"])
    settings["tone_prob"] = 0
    del settings["lesions"]["real_sizes"]
    for name in ("vessel", "sinus"):
        settings["look_alikes"][name]["void_prob"] = 0.0
    for name, given in settings["look_alikes"].items():
        given["prob"] = float(name == look_alike)
    settings["lesions"] |= {"prob": lesions, "at_most": 4, "radius_mm": [4, 6], "any_size_prob": 1.0, "push_prob": 0.0,
                            "edema_prob": 0.0, "kinds": {"solid": 1.0}, "softness_mm": [0.7, 2]} | changed  # fmt: skip
    settings["prior"] |= {"vanished_prob": 0.0, "drop_all_prob": 0.0} | (prior or {})
    return settings


def paint(settings, *, seed=3, with_prior=False):
    """Paint into noise that has an outside, fluid and a lesion; return what was and what is, and the prior."""
    rng = np.random.default_rng(0)
    image = rng.normal(0.5, 0.1, (48, 48, 48)).astype(np.float32)
    labels = np.zeros((48, 48, 48), np.int16)
    image[:8], labels[:8] = 0, -1
    image[20:30, 5:15, 5:15] -= 2.5
    image[38:42, 38:42, 38:42], labels[38:42, 38:42, 38:42] = 5, 1
    prior = np.zeros_like(image) if with_prior else None
    painted, now = image.copy(), labels.copy()
    synthesis.synthesise(painted, now, prior, rng=np.random.default_rng(seed), settings=settings)
    assert np.array_equal(painted[labels != 0], image[labels != 0])
    assert np.array_equal(now[labels != 0], labels[labels != 0])
    return image, labels, painted, now, prior


@pytest.mark.parametrize("rough", [False, True])
@pytest.mark.parametrize("seed", [0, 3, 5, 7])
def test_painted_lesions_are_bright_and_labelled_and_touch_nothing_else(seed, rough, monkeypatch):
    if not rough:
        monkeypatch.setattr(synthesis, "draw_texture", lambda shape, *_: np.zeros(shape, np.float32))
    image, labels, painted, now, _ = paint(only(lesions=1.0, enhancement=[1.5, 2.0]), seed=seed)
    new = now != labels
    assert new.sum() > 100
    assert (now[new] == 1).all()
    assert (painted - image)[new].mean() > 1
    elsewhere = abs((painted - image)[~ndimage.binary_dilation(new, iterations=3)])
    # A rough surface may leave specks.
    assert (elsewhere > 0.01).sum() < 10 if rough else elsewhere.max() < 0.01


@pytest.mark.parametrize("kind", ["ring", "cystic", "mottled"])
def test_what_does_not_enhance_within_a_lesion_is_darker_and_labelled_so(kind):
    settings = only(lesions=1.0, kinds={kind: 1.0}, enhancement=[1.8, 2.2], core=[0.3, 0.5], gap_prob=0.0)
    for seed in range(3):
        _, _, painted, now, _ = paint(settings, seed=seed)
        assert (now == 3).any()
        assert painted[now == 3].mean() + 1 < painted[ndimage.binary_erosion(now == 1) & (now == 1)].mean()


def test_blood_in_a_lesion_is_brighter_than_its_rim_and_labelled_as_core():
    kinds = {"kinds": {"haemorrhagic": 1.0}, "enhancement": [1.8, 2.2], "blood": [0.5, 0.8], "gap_prob": 0.0}
    for seed in range(3):
        _, _, painted, now, _ = paint(only(lesions=1.0, **kinds), seed=seed)
        assert (now == 3).any()
        assert painted[now == 3].mean() > painted[ndimage.binary_erosion(now == 1) & (now == 1)].mean() + 0.5


def test_edema_is_dark_around_its_lesion_and_spares_grey_matter():
    image, _, painted, now, _ = paint(only(lesions=1.0, edema_prob=1.0, edema=[0.2, 0.3]), seed=1)
    edema = now == 2
    assert edema.sum() > 100
    assert (painted - image)[edema].mean() < -0.3
    assert image[edema].min() > -1
    reach = ndimage.distance_transform_edt(~np.isin(now, (1, 3)))[edema]
    assert reach.max() < 20


@pytest.mark.parametrize("name", list(SETTINGS["synthesis"]["look_alikes"]))
def test_look_alikes_change_the_image_and_are_never_labelled(name):
    touched = 0
    for seed in range(6):
        image, labels, painted, now, _ = paint(only(look_alike=name), seed=seed)
        assert np.array_equal(now, labels)
        change = painted - image
        touched += (abs(change) > 0.3).sum() > 15
        if name in ("vessel", "sinus", "plexus"):
            assert change.min() > -1e-5
        if name == "pocket":
            assert change.max() < 1e-5
    assert touched >= 3


def test_broken_vessels_show_as_several_components():
    def count_components(seed, share):
        settings = only(look_alike="vessel")
        settings["look_alikes"]["vessel"] |= {"broken_prob": share, "at_most": 1, "contrast": [3, 4]}
        image, _, painted, _, _ = paint(settings, seed=seed)
        return ndimage.label(painted - image > 1)[1]

    whole, broken = (sum(count_components(seed, share) for seed in range(8)) for share in (0.0, 1.0))
    assert broken > 1.5 * whole


def test_a_painted_lesion_has_a_prior_none_a_fictitious_one_or_vanished():
    steady = {"growth": 0.0, "shift_mm": 0.0, "new_prob": 0.0}
    _, labels, _, now, prior = paint(only(lesions=1.0, prior=steady), with_prior=True)
    painted = (now != labels) & (now > 0)
    assert np.array_equal(prior > 0, painted)
    _, _, _, _, prior = paint(only(lesions=1.0, prior={"new_prob": 1.0, "fictitious_prob": 0.0}), with_prior=True)
    assert not prior.any()
    _, _, _, _, prior = paint(only(lesions=1.0, prior={"new_prob": 1.0, "fictitious_prob": 1.0}), with_prior=True)
    assert prior.any()
    assert not np.array_equal(prior > 0, painted)
    _, labels, _, now, prior = paint(only(prior={"vanished_prob": 1.0}), with_prior=True)
    assert np.array_equal(now, labels)
    assert prior.any()
    assert not (prior > 0)[labels < 0].any()


def test_a_patch_may_have_no_prior_at_all():
    dropped = {"vanished_prob": 1.0, "new_prob": 0.0, "drop_all_prob": 1.0}
    _, _, _, now, prior = paint(only(lesions=1.0, prior=dropped), with_prior=True)
    assert (now > 0).sum() > 100
    assert not prior.any()


def test_widely_blurred_lesions_are_labelled_into_the_outer_blur():
    sharp, wide = ({"softness_mm": [s, s], "drawn_wider_from_mm": 2.0} for s in (2.0, 3.2))
    for seed in range(3):
        volumes = []
        for changed in (sharp, {"softness_mm": [2.0, 2.0]}, wide, {"softness_mm": [3.2, 3.2]}):
            _, labels, _, now, _ = paint(only(lesions=1.0, **{"drawn_wider_from_mm": 99} | changed), seed=seed)
            volumes.append(int((now != labels).sum()))
        assert volumes[0] == volumes[1] == volumes[3]
        assert 1.2 < volumes[2] / volumes[3] < 2


def test_lesions_are_drawn_as_small_as_patients_have_them():
    given = SETTINGS["synthesis"]["lesions"]
    given = given | {"real_sizes": given["real_sizes"] | {"prob": 1.0}}
    rng = np.random.default_rng(0)
    diameters = [2 * synthesis.draw_radius(given, rng) for _ in range(4000)]
    assert np.allclose(np.quantile(diameters, [0.1, 0.25, 0.5, 0.75, 0.9]), [2.2, 2.9, 4.2, 6.9, 11.9], rtol=0.06)


@pytest.mark.parametrize("name", ["vessel", "sinus"])
def test_vessels_are_dark_where_flow_leaves_a_void(name):
    touched = 0
    for seed in range(4):
        settings = only(look_alike=name)
        settings["look_alikes"][name]["void_prob"] = 1.0
        image, labels, painted, now, _ = paint(settings, seed=seed)
        assert np.array_equal(now, labels)
        assert (painted - image).max() < 1e-5
        touched += ((painted - image) < -0.3).sum() > 15
    assert touched > 1


def test_mass_effect_presses_tissue_outwards():
    image = np.zeros((41, 41, 41), np.float32)
    labels = np.zeros(image.shape, np.int16)
    image[:, :, 26:29], labels[:, :, 26:29] = 1, 2
    synthesis.push(image, labels, np.array([20, 20, 20]), 6.0)
    # What was at 6 to 8 mm lies, after a ball of 6 mm has grown, at the cube root of 6^3 + 6^3 to 6^3 + 8^3.
    along = np.flatnonzero(labels[20, 20] == 2)
    assert along.min() == 28
    assert along.max() in (28, 29)
    assert image[20, 20, 28] > 0.9
    # Far away nothing moves.
    assert np.array_equal(np.flatnonzero(labels[0, 0] == 2), [26, 27, 28])


def test_a_simulated_lesion_keeps_its_number_and_some_come_and_go():
    rng = np.random.default_rng(5)
    image = rng.normal(100, 5, (70, 70, 70)).astype(np.float32)
    brain = np.ones(image.shape, bool)
    came = went = stayed = 0
    for seed in range(4):
        first, second = synthesis.simulate_visits(
            image, brain, rng=np.random.default_rng(seed), settings=SETTINGS["synthesis"], lesions=(5, 8)
        )
        numbers = [set(np.unique(instances)) - {0} for _, _, instances in (first, second)]
        came += len(numbers[1] - numbers[0])
        went += len(numbers[0] - numbers[1])
        for number in numbers[0] & numbers[1]:
            a, b = (ndimage.center_of_mass(instances == number) for _, _, instances in (first, second))
            stayed += np.linalg.norm(np.subtract(a, b)) < 6
        for scan, tissue, instances in (first, second):
            assert np.array_equal(np.isin(tissue, (1, 3)), instances > 0)
            assert not np.array_equal(scan, image)
    assert came > 0
    assert went > 0
    assert stayed > 8


# Training


@pytest.fixture(scope="module")
def killed_and_resumed(tmp_path_factory):
    """A run that dies in its second epoch, and is taken up again."""
    out = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:

        def die(self, outputs):
            if self.current_epoch == 1:
                raise KeyboardInterrupt
            return kept(self, outputs)

        kept = MettrailTrainer.on_train_epoch_end
        patch.setattr(MettrailTrainer, "on_train_epoch_end", die)
        with pytest.raises(KeyboardInterrupt):
            train_toy(out)
    early = json.loads((out / "models/detection/mettrail.json").read_text())
    folder = train_toy(out, resume=True)
    training.write_cases("resegmentation", out, settings=toy_settings(), visits_of=make_toy_visits)
    return SimpleNamespace(out=out, early=early, folder=folder)


def epochs_of(out):
    logs = sorted((out / "results" / cases.dataset_name("detection")).glob("*/fold_0/training_log*.txt"))
    return [[line.split("Epoch ")[1].strip() for line in log.read_text().splitlines() if " Epoch " in line
             and "time" not in line] for log in logs]  # fmt: skip


def test_a_killed_training_goes_on_where_it_was(killed_and_resumed):
    assert [e for log in epochs_of(killed_and_resumed.out) for e in log] == ["0", "1", "1", "2"]


def test_a_usable_model_is_there_before_training_ends(killed_and_resumed):
    assert "2 steps" in killed_and_resumed.early["trained_on"]
    model = segmentation.read_model(killed_and_resumed.folder)
    assert "6 steps" in model.description["trained_on"]
    assert (killed_and_resumed.folder / "README.md").read_text().startswith("# detection")
    log = (killed_and_resumed.folder / "training.log").read_text()
    assert [f"progress: epoch {n}/3" in log for n in (1, 2, 3)] == [True] * 3


def test_the_exported_model_is_the_trained_network(killed_and_resumed):
    model = segmentation.read_model(killed_and_resumed.folder)
    (path,) = (killed_and_resumed.out / "results").glob("*detection/*/fold_0/checkpoint_final.pth")
    trained = models.read_checkpoint(path)
    (exported,) = model.read_weights()
    assert all(torch.allclose(exported[k], trained[k], atol=2e-3) for k in exported)


@pytest.mark.parametrize(("task", "prior"), [("detection", False), ("resegmentation", True)])
def test_patches_that_teach_lesions_have_resection_beds(killed_and_resumed, task, prior):
    transforms = make_trainer(killed_and_resumed, task).get_training_transforms(
        (16, 16, 16), (0, 0), None, (2,), False, use_mask_for_norm=[True, False][: 1 + prior]
    )
    (beds,) = [each for each in transforms.transforms if isinstance(each, PaintBeds)]
    assert beds.prior == prior
    assert beds.settings == SETTINGS["beds"]


def test_resegmentation_that_starts_from_detection_ignores_priors_at_first(killed_and_resumed, tmp_path):
    trainer = make_trainer(killed_and_resumed, "resegmentation")
    training.take_over_weights(trainer, killed_and_resumed.folder)
    trainer.network.eval()
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        one, two = (
            trainer.network(torch.cat([image, p], 1))[0] for p in (torch.zeros_like(image), torch.ones_like(image))
        )
    assert torch.equal(one, two)
    model = segmentation.read_model(killed_and_resumed.folder)
    detection = model.build_network().eval()
    detection.load_state_dict(model.read_weights()[0])
    with torch.no_grad():
        assert torch.allclose(detection(image), one, atol=0.1)
    # And back: what has looked at priors goes on without.
    prior = trainer.network.encoder.stages[0][0].convs[0].conv.weight
    prior.data[:, 1] = 1
    training.export_model(trainer, tmp_path / "resegmentation", settings=toy_settings())
    again = make_trainer(killed_and_resumed, "detection")
    training.take_over_weights(again, tmp_path / "resegmentation")
    again.network.eval()
    with torch.no_grad():
        assert torch.equal(again.network(image)[0], one)


@pytest.mark.parametrize("begin", [None, Path("mine")])
@pytest.mark.parametrize("tasks", [["detection"], ["resegmentation"], ["detection", "resegmentation"]])
def test_one_network_is_trained_even_for_both_tasks(tasks, begin, monkeypatch):
    done = []
    monkeypatch.setattr(
        training, "train", lambda task, out, **given: done.append((task, given["start_from"])) or Path(out) / task
    )
    monkeypatch.setattr(training, "detect_without_prior", lambda folder, **_: done.append(("derive from", folder)))
    monkeypatch.setattr(training, "validate_model", lambda task, *_, **__: done.append(("validate", task)))
    training.train_all(tasks, "out", settings={}, scans=None, start_from=begin, resume=False)
    derived = [("derive from", Path("out/resegmentation"))] if len(tasks) > 1 else []
    assert done == [(tasks[-1], begin), *derived, *[("validate", task) for task in tasks]]


def test_resegmentation_without_its_prior_becomes_detection(killed_and_resumed, tmp_path):
    detection, resegmentation = tmp_path / "detection", tmp_path / "resegmentation"
    trainer = make_trainer(killed_and_resumed, "resegmentation")
    training.export_model(trainer, resegmentation, settings=toy_settings())
    assert training.detect_without_prior(resegmentation, settings=toy_settings()) == detection
    pair = [segmentation.read_model(folder) for folder in (detection, resegmentation)]
    alone, whole = (model.build_network() for model in pair)
    for network, model in zip((alone, whole), pair):
        network.load_state_dict(model.read_weights()[0])
    image = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert torch.allclose(alone(image), whole(torch.cat([image, torch.zeros_like(image)], 1)), atol=1e-5)
    assert (pair[0].task, pair[0].channels) == ("detection", ("ce-gadolinium_T1w",))
    assert pair[0].description["trained_on"].endswith("; re-segmentation's network without its prior")
    assert (detection / "training.log").read_text() == (resegmentation / "training.log").read_text()
    # A run that goes on from there.
    training.take_over_weights(make_trainer(killed_and_resumed, "detection"), detection)


def test_a_wider_network_computes_what_the_narrow_one_did_and_learns(killed_and_resumed):
    settings = toy_settings()
    settings["network"]["features"] = [6, 8, 12]
    trainer = make_trainer(killed_and_resumed, "resegmentation", settings)
    wider = trainer.plans_manager.plans["configurations"][cases.CONFIGURATION]
    transfer.require_fitting(killed_and_resumed.folder, cases.CHANNELS["resegmentation"], wider)
    training.take_over_weights(trainer, killed_and_resumed.folder)
    model = segmentation.read_model(killed_and_resumed.folder)
    narrow = model.build_network().eval()
    narrow.load_state_dict(model.read_weights()[0])
    image, prior = torch.randn(1, 1, 16, 16, 16), (torch.rand(1, 1, 16, 16, 16) > 0.9).float()
    wide = trainer.network.train()
    found = wide(torch.cat([image, prior], 1))[0]
    with torch.no_grad():
        # The prior reaches channels that nothing listens to yet.
        assert torch.allclose(found, narrow(image), atol=1e-4)
    found[:, 1].mean().backward()
    assert (wide.decoder.seg_layers[-1].weight.grad[1] != 0).all()


@pytest.mark.parametrize("other", ["sequences", "n_conv_per_stage", "features_per_stage"])
def test_a_network_that_does_not_fit_is_refused_before_cases_are_made(killed_and_resumed, tmp_path, other):
    settings = toy_settings()
    theirs = tmp_path / "theirs"
    shutil.copytree(killed_and_resumed.folder, theirs)
    if other == "sequences":
        for path in (theirs / "mettrail.json", theirs / "dataset.json"):
            path.write_text(path.read_text().replace("ce-gadolinium_T1w", "T2w"))
        description = json.loads((theirs / "mettrail.json").read_text())
        description["sha256"]["dataset.json"] = hashlib.sha256((theirs / "dataset.json").read_bytes()).hexdigest()
        (theirs / "mettrail.json").write_text(json.dumps(description))
    else:
        name, value = {
            "n_conv_per_stage": ("convs_encoder", [2, 1, 1]),
            "features_per_stage": ("features", [4, 8, 7]),
        }[other]
        settings["network"] = settings["network"] | {name: value}
    with pytest.raises(InputError, match=f"theirs: {other}"):
        training.train("detection", tmp_path / "out", settings=settings, resume=False, start_from=theirs)
    assert not list((tmp_path / "out").rglob("*.pkl"))


def test_steps_are_counted_from_the_first_network_on(killed_and_resumed, tmp_path):
    shutil.copytree(killed_and_resumed.out / "preprocessed", tmp_path / "preprocessed")
    folder = train_toy(tmp_path, start_from=killed_and_resumed.folder)
    model = segmentation.read_model(folder)
    assert model.description["steps"] == 12
    assert "6 steps after 6 of the network it started from" in model.description["trained_on"]
    # Who goes on from a checkpoint need not be told again where it all began.
    folder = train_toy(tmp_path, epochs=4, resume=True)
    assert segmentation.read_model(folder).description["steps"] == 14


def test_who_goes_on_from_another_network_sees_other_patches(killed_and_resumed, tmp_path, monkeypatch):
    shutil.copytree(killed_and_resumed.out / "preprocessed", tmp_path / "preprocessed")
    drawn = []
    monkeypatch.setattr(MettrailTrainer, "run_training", lambda _: drawn.append(np.random.random()))  # noqa: NPY002
    train_toy(tmp_path)
    train_toy(tmp_path)
    train_toy(tmp_path, start_from=killed_and_resumed.folder)
    assert drawn[0] == drawn[1] != drawn[2]


def test_missing_a_few_voxels_costs_more_than_their_share(killed_and_resumed):
    """A small lesion that is not seen weighs in the cross-entropy of the worst tenth, ten times its share."""
    loss = make_trainer(killed_and_resumed, "detection").loss.loss.loss.ce
    truth = torch.zeros(1, 1, 10, 10, 10)
    truth[0, 0, 0, 0, :5] = 1
    logits = torch.zeros(1, 4, 10, 10, 10)
    logits[:, 0] = 10
    mean = float(torch.nn.functional.cross_entropy(logits, truth[:, 0].long()))
    assert float(loss(logits, truth)) == pytest.approx(10 * mean, rel=1e-2)


def _outputs(odds):
    """A network's outputs of three labels and background whose log odds of a lesion are `odds`."""
    low = torch.full_like(odds, -40.0)
    return torch.stack([torch.zeros_like(odds), odds, low, low], 1)


def test_lesions_count_alike_however_small_and_so_do_false_positives():
    truth = torch.zeros(1, 1, 40, 40, 40)
    truth[..., 5:8, 5:8, 5:8] = 1
    truth[..., 20:32, 20:32, 20:32] = 3
    seen = torch.where(truth[:, 0] > 0, 8.0, -8.0)
    loss = EachLesionLoss(lesion_labels=[1, 3])
    both = float(loss(_outputs(seen), truth))
    assert both == pytest.approx(0, abs=0.01)
    # The Dice of what is missed is 0, and its cross-entropy 8, halved by that of its surroundings; 4 make a loss of 1.
    missed = (1 + 8 / 2) / 4
    for small, large in (((5, 8), (20, 32)), ((20, 32), (5, 8))):
        one = torch.full_like(seen, -8.0)
        one[:, slice(*large), slice(*large), slice(*large)] = 8
        assert float(loss(_outputs(one), truth)) == pytest.approx(missed, abs=0.02), small
    for size in (2, 6):
        false = seen.clone()
        false[:, 10 : 10 + size, 33 : 33 + size, 10 : 10 + size] = 8
        assert float(loss(_outputs(false), truth)) - both == pytest.approx(8 / 4, abs=0.02)


def test_what_lies_beside_a_lesion_is_not_false_and_slivers_are_neither():
    truth = torch.zeros(1, 1, 30, 30, 30)
    truth[..., 10:16, 10:16, 10:16] = 1
    loss = EachLesionLoss(lesion_labels=[1, 3])
    beside = torch.where(truth[:, 0] > 0, 8.0, -8.0)
    beside[:, 16, 10:16, 10:16] = 8
    # 36 of 784 voxels around it, and the Dice.
    spilled = (1 - 2 * 216 / (216 + 252) + 8 * 36 / (10**3 - 6**3) / 2) / 4
    assert float(loss(_outputs(beside), truth)) == pytest.approx(spilled, abs=0.02)
    truth[...] = 0
    truth[..., 0, 0, :3] = 1
    assert float(loss(_outputs(torch.full_like(beside, -8.0)), truth)) == 0


def test_patches_of_a_batch_do_not_touch():
    truth = torch.zeros(2, 1, 16, 16, 16)
    truth[0, 0, 12:, 4:8, 4:8] = 1
    truth[1, 0, :4, 4:8, 4:8] = 1
    seen = torch.full((2, 16, 16, 16), -8.0)
    # False positives, too, at the end of one patch and the beginning of the next; and half of one lesion.
    seen[0, 14:, 11:14, 11:14] = seen[1, :2, 11:14, 11:14] = seen[0, 12:14, 4:8, 4:8] = 8
    loss = EachLesionLoss(lesion_labels=[1, 3])
    alone = [float(loss(_outputs(seen[i : i + 1]), truth[i : i + 1])) for i in range(2)]
    assert float(loss(_outputs(seen), truth)) == pytest.approx(np.mean(alone), rel=1e-5)
    assert alone[0] != pytest.approx(alone[1], rel=0.1)


def test_the_loss_of_each_lesion_adds_to_nnunets_at_full_resolution(killed_and_resumed):
    settings = toy_settings()
    weighed, plain = (
        make_trainer(
            killed_and_resumed, "detection", settings | {"training": settings["training"] | {"each_lesion": weight}}
        )
        for weight in (2.0, 0.0)
    )
    truth = torch.zeros(1, 1, 16, 16, 16)
    truth[..., 5:8, 5:8, 5:8] = 1
    truths = [truth, truth[..., ::2, ::2, ::2]]
    outputs = [torch.zeros(1, 4, n, n, n, requires_grad=True) for n in (16, 8)]
    alone = float(EachLesionLoss(lesion_labels=[1, 3])(outputs[0].detach(), truth))
    loss = weighed.loss(outputs, truths)
    assert float(loss) == pytest.approx(float(plain.loss(outputs, truths)) + 2 * alone)
    loss.backward()
    assert (outputs[0].grad[0, 1, 5:8, 5:8, 5:8] < 0).all()


def test_a_prior_is_the_second_channel_of_its_cases_and_still_binary(killed_and_resumed):
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    (folder,) = (killed_and_resumed.out / "preprocessed").glob("*resegmentation/mettrailPlans_3d_fullres")
    data, seg, _, properties = nnUNetDatasetBlosc2(str(folder)).load_case("train0000b")
    data, seg = data[:], seg[:]
    assert len(data) == 2
    assert set(np.unique(data[1])) <= {0.0, 1.0}
    # The second channel of the labels is the depth, by which each patch is stripped anew; normalised within one mask.
    brain = cases.read_surface(seg[1]) <= 0
    assert 0.1 < brain.mean() < 0.6
    assert abs(data[0][brain].mean()) < 0.7
    assert abs(data[0][brain].std() - 1) < 0.7
    places = properties["class_locations"]["prior"]
    assert (data[1][tuple(places[:, 1:].T)] == 1).all()


def test_validation_chooses_a_threshold_and_writes_the_card(killed_and_resumed):
    out, settings = killed_and_resumed.out, toy_settings()
    weights = out / "models/detection/fold_0/weights.safetensors"
    before = weights.read_bytes()
    training.validate_model("detection", out, settings=settings, visits_of=make_toy_visits)
    model = segmentation.read_model(out / "models/detection")
    assert model.threshold in validation.THRESHOLDS
    assert model.min_component_score in validation.MIN_COMPONENT_SCORES
    assert weights.read_bytes() == before
    assert "| sessions | 2 |" in (out / "models/detection/README.md").read_text()
    assert "progress: epoch 3/3" in (out / "models/detection/training.log").read_text()


# Validation


def test_validation_counts_lesions_detected_missed_and_false_positives():
    instances = numbered(((15, 20, 20), 5), ((40, 30, 12), 3))
    p = np.zeros((*instances.shape, 5), np.float32)
    p[..., 1] = numbered(((15, 20, 20), 4), ((30, 10, 30), 2)) > 0
    p[..., 0] = 1 - p[..., 1]
    owners = validation.find_owners(instances)
    called, tissue = validation.call_lesions(p), (instances > 0).astype(np.uint8)
    score = validation.score(*called, tissue, instances, owners=owners)
    assert score["false"] == 1
    assert [row[2] for row in score["lesions"]] == [257, 0]
    figures = validation.summarise([score])
    assert figures["recall from 5 mm"] == 0.5
    assert figures["false positives per session"] == 1


def test_thresholds_are_chosen_for_lesions_and_volumes_alike():
    def row(found, false, volume_error):
        return {
            "sessions": 10, "lesions": 100, "detected": found, "false positives per session": false / 10,
            "their median volume error": volume_error, "their median absolute volume error": abs(volume_error),
        }  # fmt: skip

    large, apt = (0.2, 0.5), (0.5, 0.6)
    # Two lesions more are not worth volumes a twentieth too large; a fifth of all are.
    assert validation.choose({large: row(92, 8, 0.05), apt: row(90, 8, 0.01)}) == apt
    assert validation.choose({large: row(92, 8, 0.05), apt: row(72, 8, 0.01)}) == large
    # Of equal volumes, lesions detected count as much as false positives; without large lesions, they alone do.
    assert validation.choose({large: row(92, 8, 0.01), apt: row(92, 12, -0.01)}) == large
    # Of what a hundred lesions cannot tell apart, the one with fewer false positives.
    assert validation.choose({large: row(92, 8, 0.01), apt: row(91, 7, 0.01)}) == apt
    assert validation.choose({large: row(92, 8, 0.01), apt: row(90, 7, 0.01)}) == large
    assert validation.choose({large: row(0, 0, np.nan), apt: row(50, 8, np.nan)}) == apt


def test_a_hardly_touched_lesion_is_missed_and_what_touches_it_is_false():
    instances = numbered(((20, 20, 20), 5))
    for radius, found in ((3.2, True), (2.9, False)):
        components = numbered(((20, 20, 20), radius))
        tissue = (instances > 0).astype(np.uint8)
        given = {"owners": validation.find_owners(instances)}
        score = validation.score((components > 0).astype(int), components, tissue, instances, **given)
        # By an IoU of 25 %: 123 of 515 voxels are too few, 147 are not.
        assert [bool(row[2]) for row in score["lesions"]] == [found]
        assert score["false"] == (not found)


@pytest.mark.parametrize("has_prior", [False, True])
def test_all_thresholds_are_scored_as_each_would_be_alone(has_prior):
    rng = np.random.default_rng(5)
    instances = numbered(((15, 20, 20), 5), ((40, 30, 12), 4), ((42, 12, 28), 4), ((12, 40, 10), 4))
    p = ndimage.gaussian_filter(rng.random((*instances.shape, 5)), (2, 2, 2, 0)) ** 8
    # From well seen to hardly.
    p[..., 1] += 0.03 * np.array([0, 4, 3, 2, 1])[instances]
    p /= p.sum(-1, keepdims=True)
    tissue = (instances > 0).astype(np.uint8)
    prior_mask = instances == 1 if has_prior else None
    owners = validation.find_owners(instances)
    seen = set()
    for (threshold, least), row in validation.score_at_all(p, tissue, instances, prior_mask):
        decided = thresholds.apply_threshold(p, threshold=threshold, min_component_score=least, prior_mask=prior_mask)
        alone = validation.score(*validation.call_lesions(decided), tissue, instances, owners=owners)
        assert row["false"] == alone["false"]
        assert row["lesions"] == alone["lesions"]
        assert np.array_equal(row["overlap"], alone["overlap"])
        seen.add((row["false"], tuple(row["lesions"])))
    assert len(seen) > 5


def test_sessions_without_lesions_can_be_scored():
    nothing = numbered()
    p = np.zeros((*nothing.shape, 5), np.float32)
    p[..., 0] = 1
    called = validation.call_lesions(p)
    figures = validation.summarise([validation.score(*called, nothing, nothing, owners=nothing)])
    assert figures["lesions"] == 0
    assert figures["false positives per session"] == 0


def test_thresholds_with_fewest_mistakes_are_chosen_then_the_right_volume():
    def row(found, false, volume):
        return {"sessions": 10, "lesions": 20, "detected": found, "false positives per session": false,
                "their median volume error": volume, "their median absolute volume error": 0.05}  # fmt: skip

    noisy, shy, good = row(20, 3, 0), row(10, 0, 0), row(20, 0.1, 0.2)
    assert validation.choose({(0.3, 0): noisy, (0.5, 0): good, (0.5, 0.9): shy}) == (0.5, 0)
    small, right, large = row(20, 0, -0.1), row(20, 0, -0.02), row(20, 0, 0.08)
    assert validation.choose({(0.4, 0.8): large, (0.5, 0.8): right, (0.6, 0.8): small}) == (0.5, 0.8)
