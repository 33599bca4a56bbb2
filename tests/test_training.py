"""Training: priors good and bad, cases in nnU-Net's format, resuming after a kill, and what validation counts."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from mettrail import segmentation
from mettrail.errors import InputError
from mettrail.images import Image
from mettrail.segmentation import cases, models, priors, training, validation
from mettrail.segmentation.painting import PaintLesions
from mettrail.segmentation.trainer import MettrailTrainer
from scipy import ndimage

ROOT = Path(__file__).parents[1]
SETTINGS = yaml.safe_load((ROOT / "config" / "train.yaml").read_text())
SHAPE = (30, 34, 26)
PERFECT = {
    "shift_mm": 0, "resize_prob": 0, "drop_prob": 0, "drop_all_prob": 0, "fictitious_prob": 0,
    "fictitious_dilate_vox": (0, 6), "fictitious_erode_vox": (0, 3), "fictitious_shift_vox": (-6, 6),
    "nothing_prob": 0, "nothing_radius_mm": (1.5, 7),
}  # fmt: skip


def make_toy_pair(seed):
    """Two visits of a bright ellipsoid with one or two brighter balls in it."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices(SHAPE)
    brain = ((x - 15) / 14) ** 2 + ((y - 17) / 16) ** 2 + ((z - 13) / 12) ** 2 < 1
    sessions = []
    for visit in range(2):
        tissue, instances = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
        for number, centre in enumerate(((12, 14, 12), (19, 21, 14))[: 2 - visit], start=1):
            ball = sum((a - c) ** 2 for a, c in zip((x, y, z), centre)) <= (3 + visit) ** 2
            tissue[ball], instances[ball] = 1, number
        image = 100 * brain + 120 * (tissue > 0) + rng.normal(0, 5, SHAPE)
        sessions.append(
            SimpleNamespace(
                images={"ce-gadolinium_T1w": Image(image.astype(np.float32), np.eye(4))},
                tissue=Image(tissue, np.eye(4)),
                instances=Image(instances, np.eye(4)),
                brain=Image(brain, np.eye(4)),
            )
        )
    return tuple(sessions)


def toy_settings(epochs=3):
    settings = copy.deepcopy(SETTINGS)
    settings["threads"] = 1
    settings["cases"] |= {
        "train_seeds": [1, 2], "validation_seeds": [9, 9], "validation_in_training": 1, "start_with": 1,
    }  # fmt: skip
    settings["network"] = {
        "features": [4, 8, 8], "convs_encoder": [1, 1, 1], "convs_decoder": [1, 1], "patch": [16, 16, 16], "batch": 2,
        "tile": [16, 16, 16],
    }  # fmt: skip
    for task in cases.CHANNELS:
        settings[task] |= {"epochs": epochs, "steps": 2, "validation_steps": 1, "export_every": 1}
    return settings


def train_toy(out, task="detection", *, epochs=3, resume=False):
    return training.train(
        task, out, settings=toy_settings(epochs), resume=resume, make_pair=make_toy_pair, in_background=False
    )


@pytest.fixture(autouse=True)
def leave_no_trace(monkeypatch):
    """nnU-Net is told its folders through the environment."""
    for name in (
        "nnUNet_raw",
        "nnUNet_preprocessed",
        "nnUNet_results",
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
    return priors.make_prior(previous, current, brain, rng=np.random.default_rng(seed), **PERFECT | changes)


def test_a_prior_without_any_error_is_last_visits_lesions():
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


def test_only_new_lesions_get_made_up_priors():
    known, new = ((20, 20, 20), 4), ((42, 30, 14), 3)
    made = [make(numbered(known), numbered(known, new), seed=s, fictitious_prob=1) for s in range(20)]
    for prior in made:
        assert np.array_equal(prior[:28], numbered(known)[:28] > 0)
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
    for seed in range(10):
        make(previous, previous, seed=seed, shift_mm=6)


def test_no_lesion_before_or_now_is_no_prior():
    nothing = numbered()
    assert not make(nothing, nothing, fictitious_prob=1).any()


# Cases


def test_the_demonstration_and_held_out_seeds_are_never_trained_on():
    first, last = SETTINGS["cases"]["train_seeds"]
    assert first >= 1_000_000
    names = training._name_seeds(SETTINGS["cases"])
    assert len({seed for _, seed in names}) == len(names)
    with pytest.raises(InputError, match="overlap"):
        training._name_seeds(SETTINGS["cases"] | {"validation_seeds": [last, last + 3]})


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
    settings = {k: v for k, v in toy_settings()["cases"].items() if k in (
        "rotate_deg", "scale", "thick_prob", "thick_mm", "bias", "grow_mm", "mask_error_mm")}  # fmt: skip
    masks = []
    for seed in range(6):
        a, b = cases.perturb_pair(make_toy_pair(1), rng=np.random.default_rng(seed), **settings)
        assert (a["image"][~a["mask"]] == 0).all()
        assert a["image"].shape == a["tissue"].shape == a["instances"].shape == b["image"].shape
        assert np.array_equal(a["instances"] > 0, np.isin(a["tissue"], (1, 3)))
        masks.append(int(a["mask"].sum()))
    assert len(set(masks)) == 6


def test_augmentation_changes_the_image_and_leaves_the_prior_alone():
    transform = MettrailTrainer.get_training_transforms(
        SimpleNamespace(painting=None), (16, 16, 16), (0, 0), None, (2,), False, use_mask_for_norm=[True, False]
    )
    rng = np.random.default_rng(0)
    prior = torch.from_numpy((rng.random((16, 16, 16)) > 0.7).astype(np.float32))
    image = torch.from_numpy(rng.normal(size=(16, 16, 16)).astype(np.float32))
    changed = 0
    for _ in range(60):
        out = transform(image=torch.stack([image, prior]), segmentation=(prior * 3).to(torch.int16)[None].clone())
        # Only mirrored, and together with the labels.
        assert torch.equal(out["image"][1], out["segmentation"][0].float() / 3)
        flipped = torch.equal(out["image"][1], prior.flip(-1))
        assert flipped or torch.equal(out["image"][1], prior)
        changed += not torch.allclose(out["image"][0], image.flip(-1) if flipped else image)
    assert 10 < changed < 60


PAINTING = {"lesion_prob": 1.0, "vessel_prob": 0.0, "pocket_prob": 0.0, "radius_mm": [4, 5], "contrast": [3, 4],
            "ring_prob": 0.0, "vessel_radius_mm": [1, 1.5], "broken_prob": 0.0}  # fmt: skip


def paint(*, seed=3, **changed):
    """Paint into noise that has an outside and a lesion; return what was and what is."""
    np.random.seed(seed)  # noqa: NPY002  (nnU-Net's transforms draw from it)
    image = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (1, 40, 40, 40)).astype(np.float32))
    labels = torch.zeros((1, 40, 40, 40), dtype=torch.int16)
    image[:, :8], labels[:, :8] = 0, -1
    image[:, 30:34, 30:34, 30:34], labels[:, 30:34, 30:34, 30:34] = 5, 1
    out = PaintLesions(**PAINTING | changed)(image=image.clone(), segmentation=labels.clone())
    return image[0], labels[0], out["image"][0], out["segmentation"][0]


def test_painted_lesions_are_bright_and_labelled_and_no_other_lesion_or_outside_is_touched():
    image, labels, painted, now = paint()
    new = (now != labels).numpy()
    assert 100 < new.sum() < 3 * 4 / 3 * np.pi * 8**3
    assert (now[new] == 1).all()
    assert (painted - image)[new].mean() > 2
    assert torch.equal(painted[labels != 0], image[labels != 0])
    assert torch.equal(now[labels != 0], labels[labels != 0])


def test_a_painted_ring_has_a_dark_core_with_its_own_label():
    _, _, painted, now = paint(ring_prob=1.0)
    assert (now == 3).any()
    assert painted[now == 3].mean() < 1 < painted[now == 1].mean()


def test_painted_vessels_are_bright_and_not_labelled():
    image, labels, painted, now = paint(lesion_prob=0.0, vessel_prob=1.0)
    assert torch.equal(now, labels)
    assert ((painted - image) > 1).sum() > 40
    assert torch.equal(painted[labels != 0], image[labels != 0])


def test_broken_vessels_show_in_pieces():
    def count_pieces(seed, share):
        image, labels, painted, now = paint(seed=seed, lesion_prob=0.0, vessel_prob=1.0, broken_prob=share)
        assert torch.equal(now, labels)
        return ndimage.label(painted - image > 1)[1]

    whole, broken = (sum(count_pieces(seed, share) for seed in range(8)) for share in (0.0, 1.0))
    assert whole <= 3 * 8
    assert broken > 1.5 * whole


def test_painted_pockets_are_dark_and_not_labelled():
    image, labels, painted, now = paint(lesion_prob=0.0, pocket_prob=1.0)
    assert torch.equal(now, labels)
    assert ((painted - image) < -2).sum() > 100
    assert (painted <= image).all()
    assert torch.equal(painted[labels != 0], image[labels != 0])


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


def test_the_exported_model_is_the_trained_network(killed_and_resumed):
    model = segmentation.read_model(killed_and_resumed.folder)
    (path,) = (killed_and_resumed.out / "results").glob("*detection/*/fold_0/checkpoint_final.pth")
    trained = models._read_checkpoint(path)
    (exported,) = models.read_weights(model)
    assert all(torch.allclose(exported[k], trained[k], atol=2e-3) for k in exported)


def test_resegmentation_starts_from_detection_without_an_opinion_about_priors(killed_and_resumed):
    training._point_nnunet_at(killed_and_resumed.out)
    trainer = training._make_trainer("resegmentation", toy_settings())
    training._start_from_detection(trainer, killed_and_resumed.out)
    trainer.network.eval()
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        one, two = (
            trainer.network(torch.cat([image, p], 1))[0] for p in (torch.zeros_like(image), torch.ones_like(image))
        )
    assert torch.equal(one, two)
    detection = models.build_network(segmentation.read_model(killed_and_resumed.folder)).eval()
    detection.load_state_dict(models.read_weights(segmentation.read_model(killed_and_resumed.folder))[0])
    with torch.no_grad():
        assert torch.allclose(detection(image), one, atol=0.1)


def test_a_prior_is_the_second_channel_of_its_cases_and_still_binary(killed_and_resumed):
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    (folder,) = (killed_and_resumed.out / "preprocessed").glob("*resegmentation/mettrailPlans_3d_fullres")
    data, seg, _, properties = nnUNetDatasetBlosc2(str(folder)).load_case("train0000b")
    data, seg = data[:], seg[:]
    assert len(data) == 2
    assert set(np.unique(data[1])) <= {0.0, 1.0}
    assert abs(data[0][seg[0] >= 0].mean()) < 0.01
    places = properties["class_locations"]["prior"]
    assert (data[1][tuple(places[:, 1:].T)] == 1).all()


def test_validation_chooses_a_threshold_and_writes_the_card(killed_and_resumed):
    out, settings = killed_and_resumed.out, toy_settings()
    before = models.read_weights(segmentation.read_model(out / "models/detection"))
    training.validate_model("detection", out, settings=settings, make_pair=make_toy_pair)
    model = segmentation.read_model(out / "models/detection")
    assert model.threshold in validation.THRESHOLDS
    assert model.confidence in validation.CONFIDENCES
    assert all(torch.equal(a, b) for a, b in zip(before[0].values(), models.read_weights(model)[0].values()))
    assert "| sessions | 2 |" in (out / "models/detection/README.md").read_text()


# Validation


def test_validation_counts_lesions_found_missed_and_false():
    instances = numbered(((15, 20, 20), 5), ((40, 30, 12), 3))
    p = np.zeros((*instances.shape, 4), np.float32)
    p[..., 1] = numbered(((15, 20, 20), 4), ((30, 10, 30), 2)) > 0
    p[..., 0] = 1 - p[..., 1]
    owners = validation.find_owners(instances)
    score = validation.score(p, (instances > 0).astype(np.uint8), instances, owners=owners, near=None)
    assert score["false"] == 1
    assert [row[2] for row in score["lesions"]] == [257, 0]
    figures = validation.summarise([score])
    assert figures["recall from 5 mm"] == 0.5
    assert figures["false pieces per session"] == 1
    only = validation.score(p, (instances > 0).astype(np.uint8), instances, owners=owners, near=instances == 1)
    assert (len(only["lesions"]), only["false"]) == (1, 0)


def test_sessions_without_lesions_can_be_scored():
    nothing = numbered()
    p = np.zeros((*nothing.shape, 4), np.float32)
    p[..., 0] = 1
    figures = validation.summarise([validation.score(p, nothing, nothing, owners=nothing, near=None)])
    assert figures["lesions"] == 0
    assert figures["false pieces per session"] == 0


def test_the_thresholds_with_fewest_mistakes_are_chosen_then_those_with_the_right_volume():
    def row(found, false, volume):
        return {"sessions": 10, "lesions": 20, "found": found, "false pieces per session": false,
                "their median volume error": volume, "their median absolute volume error": 0.05}  # fmt: skip

    noisy, shy, good = row(20, 3, 0), row(10, 0, 0), row(20, 0.1, 0.2)
    assert validation.choose({(0.3, 0): noisy, (0.5, 0): good, (0.5, 0.9): shy}) == (0.5, 0)
    small, right, large = row(20, 0, -0.1), row(20, 0, -0.02), row(20, 0, 0.08)
    assert validation.choose({(0.4, 0.8): large, (0.5, 0.8): right, (0.6, 0.8): small}) == (0.5, 0.8)
