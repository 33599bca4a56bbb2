"""Training on patients: who is trained on, what a network sees, folds, the loss of Huang et al., and the whole way."""

import copy
import dataclasses
import json
import multiprocessing
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from conftest import write_scan
from hypothesis import given
from hypothesis import strategies as st
from mettrail import images, segmentation
from mettrail.errors import GridMismatchError, InputError, ModelError
from mettrail.training import crossvalidation, dataset
from mettrail.training.folds import assign_folds, make_splits, require_apart
from mettrail.training.losses import JointVSSLoss, vss_loss
from mettrail.training.nnunet_trainers import DiceCETrainer, WorsePriors, spare_prior
from mettrail.training.priors import PriorSettings
from mettrail.training.settings import FoldSettings
from nnunetv2.training.logging.nnunet_logger import MetaLogger
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

ROOT = Path(__file__).parents[1]
SETTINGS = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["train"]
CE = "ce-gadolinium_T1w"
NO_ERRORS = PriorSettings(
    **SETTINGS["priors"] | {"drop_prob": 0, "drop_all_prob": 0, "fictitious_prob": 0, "nothing_prob": 0}
)


# Who is trained on


def row(sub, ses="1", *, labels="masks.nii.gz", usable="true", reason="n/a", **scans):
    return {"sub": sub, "ses": ses, "labels": labels, "usable": usable, "reason": reason, "detail": "", "T1w": "n/a",
            "T2w": "n/a", "FLAIR": "n/a", **scans}  # fmt: skip


def select(rows, participants=None, sequences=(), optional=(), test_patients=(), reference=CE):
    participants = participants or {r["sub"]: {} for r in rows}
    found = dataset.select_sessions(
        rows, participants, reference=reference, sequences=sequences, optional=optional, test_patients=test_patients
    )
    return [(r["sub"], r["ses"]) for r in found]


def test_sessions_with_masks_and_all_channels_are_trained_on():
    rows = [row("A", T2w="t2.nii.gz"), row("A", "2"), row("B", labels="n/a"), row("C", usable="false", reason="not_3d")]
    assert select(rows) == [("A", "1"), ("A", "2")]
    assert select(rows, sequences=["T2w"]) == [("A", "1")]
    assert select(rows, sequences=["T2w"], optional=["T2w"]) == [("A", "1"), ("A", "2")]


def test_test_patients_are_kept_out_wherever_they_are_named():
    rows = [row("A"), row("B"), row("C")]
    participants = {"A": {"split": "train"}, "B": {"split": "test"}, "C": {"split": "n/a"}}
    assert select(rows, participants) == [("A", "1"), ("C", "1")]
    assert select(rows, participants, test_patients=["sub-C"]) == [("A", "1")]


@pytest.mark.parametrize(
    ("rows", "arguments", "reason"),
    [
        ([], {}, "no_training_data"),
        ([row("A", labels="n/a")], {}, "no_training_data"),
        ([row("A"), row("B", usable="false", reason="bad_labels")], {}, "bad_labels"),
        ([row("A"), row("B", usable="false", reason="grid_mismatch")], {}, "grid_mismatch"),
        ([row("A"), row("B", usable="false", reason="failed_preprocess")], {}, "failed_preprocess"),
        ([row("A")], {"sequences": ["T2w"]}, "missing_channel"),
        ([row("A")], {"optional": ["T2w"]}, "bad_channels"),
        ([row("A")], {"reference": "ce-unheard_T1w"}, "bad_channels"),
        ([row("A")], {"sequences": ["T2star"]}, "bad_channels"),
        ([row("A")], {"test_patients": ["B"]}, "bad_split"),
        ([row("A")], {"participants": {"A": {"split": "validation"}}}, "bad_split"),
        ([row("A")], {"participants": {"A": {"split": "train"}}, "test_patients": ["A"]}, "patient_in_two_sets"),
        ([row("A")], {"test_patients": ["A"]}, "no_training_data"),
    ],
)
def test_what_would_spoil_a_training_is_refused_before_it_starts(rows, arguments, reason):
    with pytest.raises(InputError) as caught:
        select(rows, **arguments)
    assert caught.value.reason == reason


# Folds


@given(
    visits=st.dictionaries(st.text("ABCDEFGH", min_size=1, max_size=3), st.integers(1, 12), min_size=5, max_size=40),
    folds=st.integers(2, 5),
    seed=st.integers(0, 3),
)
def test_folds_differ_by_no_more_visits_than_one_patient_has(visits, folds, seed):
    fold_of = assign_folds(visits, folds=folds, seed=seed)
    assert set(fold_of) == set(visits)
    load = [sum(n for sub, n in visits.items() if fold_of[sub] == fold) for fold in range(folds)]
    assert max(load) - min(load) <= max(visits.values())
    assert fold_of == assign_folds(dict(reversed(visits.items())), folds=folds, seed=seed), "the order is no matter"


def test_a_patient_with_many_visits_is_balanced_by_many_patients():
    fold_of = assign_folds({"A": 6, **dict.fromkeys("BCDEFG", 1)}, folds=2, seed=1)
    assert [sub for sub, fold in fold_of.items() if fold == fold_of["A"]] == ["A"]


def test_folds_depend_on_the_seed():
    visits = dict.fromkeys("ABCDEFGHIJ", 3)
    assert len({tuple(assign_folds(visits, folds=5, seed=seed).values()) for seed in range(4)}) > 1


def test_sessions_are_held_out_once_and_never_with_their_patient_trained():
    cases = [{"case": f"{sub}{ses}", "sub": sub, "validates": ses > 1} for sub in "ABCDEF" for ses in (1, 2, 3)]
    splits = make_splits(cases, folds=3, seed=1)
    assert sorted(name for split in splits for name in split["val"]) == [c["case"] for c in cases if c["validates"]]
    for split in splits:
        assert not {name[0] for name in split["train"]} & {name[0] for name in split["val"]}
        assert len(split["train"]) == 12
        assert any(name.endswith("1") for name in split["train"]), "first visits train"


def test_a_patient_in_two_sets_is_refused():
    with pytest.raises(InputError, match="visits of A in training and in validation"):
        require_apart([{"train": ["A1", "B1"], "val": ["A2"]}], {"A1": "A", "A2": "A", "B1": "B"})


def test_too_few_patients_and_folds_without_follow_ups_are_refused():
    with pytest.raises(InputError, match="5 folds for 2 patients"):
        assign_folds({"A": 3, "B": 1}, folds=5, seed=1)
    cases = [{"case": f"{sub}1", "sub": sub, "validates": sub == "A"} for sub in "AB"]
    with pytest.raises(InputError, match="0 to validate on"):
        make_splits(cases, folds=2, seed=1)


# The loss of Huang et al.


def count_by_hand(probability, truth, tiles, alpha, epsilon=1e-5):
    """Equations 1 to 3, tile by tile."""
    hit = positive = quiet = negative = 0.0
    steps = [int(np.ceil(side / count)) for side, count in zip(truth.shape[1:], tiles)]
    for sample in range(len(truth)):
        for i in range(0, truth.shape[1], steps[0]):
            for j in range(0, truth.shape[2], steps[1]):
                for k in range(0, truth.shape[3], steps[2]):
                    box = (sample, slice(i, i + steps[0]), slice(j, j + steps[1]), slice(k, k + steps[2]))
                    y, p = truth[box], probability[box]
                    hit += (p * y).max()
                    positive += y.max()
                    quiet += (1 - y.max()) * (1 - p.max())
                    negative += 1 - y.max()
    return 1 - (alpha * hit / (positive + epsilon) + (1 - alpha) * quiet / (negative + epsilon))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.995])
@pytest.mark.parametrize("shape", [(2, 12, 12, 12), (3, 13, 9, 7)])
def test_the_loss_is_the_papers(shape, alpha):
    rng = np.random.default_rng(3)
    probability = rng.random(shape)
    truth = np.zeros(shape)
    truth[0, 1:3, 4:6, 0:2] = truth[1, 10:12, 8:9, 5:7] = 1
    tiles = (3, 2, 2)
    found = vss_loss(*(torch.from_numpy(a)[:, None] for a in (probability, truth)), tiles=tiles, alpha=alpha)
    assert float(found) == pytest.approx(count_by_hand(probability, truth, tiles, alpha), abs=1e-9)
    assert 0 < float(found) < 1


def outputs_of(probability):
    """Outputs of a two-label network whose softmax is this probability."""
    p = torch.as_tensor(probability)[:, None]
    return torch.cat([torch.log1p(-p), torch.log(p)], 1)


def test_the_joint_loss_adds_cross_entropy_and_leaves_edema_out():
    rng = np.random.default_rng(1)
    truth = (rng.random((2, 8, 8, 8)) > 0.99).astype(float)
    p = rng.uniform(0.01, 0.99, truth.shape)
    joint = JointVSSLoss(lesion_labels=[1], tiles=(2, 2, 2), alpha=0.7)
    crossed = -(truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean()
    found = joint(outputs_of(p), torch.from_numpy(truth)[:, None])
    assert float(found) == pytest.approx(count_by_hand(p, truth, (2, 2, 2), 0.7) + crossed, abs=1e-5)
    assert dataset.lesion_labels(dataset.LABELS) == [1, 3]
    assert dataset.lesion_labels(dataset.WHOLE) == [1]


def test_one_voxel_finds_a_lesion_and_one_false_voxel_spoils_an_empty_tile():
    truth = torch.zeros(1, 1, 8, 4, 4)
    truth[..., :3, 1:3, 1:3] = 1
    found, false = torch.zeros_like(truth), torch.zeros_like(truth)
    found[0, 0, 1, 1, 1] = 1
    false[0, 0, 6, 0, 0] = 1
    kinds = {"tiles": (2, 1, 1), "epsilon": 0.0}
    assert float(vss_loss(found, truth, alpha=0.5, **kinds)) == 0
    assert float(vss_loss(false, truth, alpha=0.5, **kinds)) == 1
    assert float(vss_loss(torch.zeros_like(truth), truth, alpha=0.9, **kinds)) == pytest.approx(0.9)


def test_the_loss_works_with_deep_supervision_and_moves_the_network():
    torch.manual_seed(0)
    target = torch.zeros(1, 1, 16, 16, 16)
    target[..., 4:8, 4:8, 4:8] = 1
    outputs = [torch.randn(1, 2, n, n, n, requires_grad=True) for n in (16, 8)]
    loss = DeepSupervisionWrapper(JointVSSLoss(lesion_labels=[1], tiles=(2, 2, 2), alpha=0.995), (2 / 3, 1 / 3))
    loss(outputs, [target, target[..., ::2, ::2, ::2]]).backward()
    assert all(torch.isfinite(out.grad).all() and out.grad.abs().sum() > 0 for out in outputs)


# A prior in training


@pytest.fixture
def augmentation():
    """nnU-Net's own for a patch of 16 voxels, cut from 20."""
    return nnUNetTrainer.get_training_transforms(
        (16, 16, 16), (-0.5, 0.5), None, (0, 1, 2), False, use_mask_for_norm=[True, False]
    )


def patch(seed):
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.normal(size=(20, 20, 20)).astype(np.float32))
    prior = torch.zeros(20, 20, 20)
    prior[5:14, 8:13, 6:12] = 1
    return {"image": torch.stack([image, prior]), "segmentation": prior.to(torch.int16)[None].clone()}


def test_nnunets_augmentation_leaves_a_prior_binary_and_with_its_lesion(augmentation):
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    spared = spare_prior(augmentation)
    agree, turned = [], 0
    for seed in range(60):
        out = spared(**patch(seed))
        prior, labels = out["image"][1], out["segmentation"][0]
        assert set(prior.unique().tolist()) <= {0.0, 1.0}
        # The labels are interpolated and put to the vote; both are of one shape and place.
        agree.append(float(2 * (prior * labels).sum() / (prior.sum() + labels.sum())))
        turned += not torch.equal(prior, labels.float())
    assert np.mean(agree) > 0.97
    assert min(agree) > 0.8
    assert turned > 3, "some patches were turned"


def test_without_the_exemption_it_would_not_stay_binary(augmentation):
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    spoilt = sum(not set(augmentation(**patch(s))["image"][1].unique().tolist()) <= {0.0, 1.0} for s in range(20))
    assert spoilt > 5


def test_images_are_augmented_beside_a_prior(augmentation):
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    intensity = [t for t in augmentation.transforms if isinstance(t, RandomTransform)]
    spared = spare_prior(ComposeTransforms(intensity))
    changed = 0
    for _ in range(30):
        out = spared(**patch(3))["image"]
        assert torch.equal(out[1], patch(3)["image"][1])
        changed += not torch.equal(out[0], patch(3)["image"][0])
    assert len(intensity) > 5
    assert changed > 10


def test_a_transform_nobody_has_looked_at_is_refused():
    class Unheard(BasicTransform):
        pass

    with pytest.raises(TypeError, match="Unheard"):
        spare_prior(ComposeTransforms([Unheard()]))


def test_lesions_without_a_prior_get_a_fictitious_one_vanished_keep_theirs():
    np.random.seed(0)  # noqa: NPY002
    prior, labels = torch.zeros(40, 40, 40), torch.zeros(40, 40, 40, dtype=torch.int16)
    prior[4:8, 4:8, 4:8] = 1
    labels[25:30, 25:30, 25:30] = 1
    labels[:, :, 38:] = -1
    data = {"image": torch.stack([torch.rand(40, 40, 40), prior]), "segmentation": labels[None]}
    made = WorsePriors([1], dataclasses.replace(NO_ERRORS, fictitious_prob=1))(**data)["image"]
    assert torch.equal(made[0], data["image"][0])
    assert made[1, 4:8, 4:8, 4:8].all()
    assert made[1, 15:, 15:, 15:].any()
    assert not made[1, :, :, 38:].any(), "outside the brain there are none"
    left = WorsePriors([1], NO_ERRORS)(**data)["image"]
    assert torch.equal(left, data["image"])
    assert not WorsePriors([1], dataclasses.replace(NO_ERRORS, drop_prob=1))(**data)["image"][1].any()


def test_priors_are_changed_in_training_alone():
    class Trainer(DiceCETrainer):
        def __init__(self, has_prior):
            self.has_prior, self.settings = has_prior, SimpleNamespace(priors=NO_ERRORS)
            self.dataset_json = {"labels": dataset.LABELS}

    arguments = ((16, 16, 16), (0, 0), None, (0,), False)
    first = Trainer(True).get_training_transforms(*arguments, use_mask_for_norm=[True, False]).transforms[0]
    assert isinstance(first, WorsePriors)
    assert first.labels == [1, 3]
    validation = Trainer(True).get_validation_transforms(None)
    assert not any(isinstance(t, WorsePriors) for t in validation.transforms)
    plain = Trainer(False).get_training_transforms(*arguments, use_mask_for_norm=[True])
    assert [type(t) for t in plain.transforms] == [
        type(t) for t in nnUNetTrainer.get_training_transforms(*arguments, use_mask_for_norm=[True]).transforms
    ]


# The raw dataset


def write_session(folder, sub, ses, *, seed, lesions, prior=None, t2=True):
    """A bright ellipsoid with balls in it, as the pipeline leaves it; masks on a coarser, shifted grid."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices((30, 34, 26))
    brain = ((x - 15) / 14) ** 2 + ((y - 17) / 16) ** 2 + ((z - 13) / 12) ** 2 < 1
    labels = np.zeros(brain.shape, np.uint8)
    for centre, radius in lesions:
        distance = sum((a - c) ** 2 for a, c in zip((x, y, z), centre))
        labels[distance <= (radius + 2) ** 2] = 2
        labels[distance <= radius**2] = 1
        labels[distance <= (radius - 2) ** 2] = 3
    scan = np.where(brain, 100 + 150 * (labels == 1) + rng.normal(0, 5, brain.shape), 0).astype(np.float32)
    affine = np.eye(4)
    affine[:3, 3] = [-15, -17, -13]
    base = folder / f"sub-{sub}_ses-{ses}"
    session = {
        "sub": sub,
        "ses": ses,
        "images": {CE: str(write_scan(Path(f"{base}_T1w.nii.gz"), scan, affine))},
        "labels": str(write_scan(Path(f"{base}_dseg.nii.gz"), labels, affine)),
        "scheme": "mettrail",
        "prior": None,
    }
    if t2:
        session["images"]["T2w"] = str(write_scan(Path(f"{base}_T2w.nii.gz"), scan[::-1].copy(), affine))
    if prior is not None:
        before = np.zeros_like(labels)
        for centre, radius in prior:
            before[sum((a - c) ** 2 for a, c in zip((x, y, z), centre)) <= radius**2] = 1
        session["prior"] = str(write_scan(Path(f"{base}_desc-prior_dseg.nii.gz"), before, affine))
    return session


def write_cohort(folder):
    sessions = []
    for seed, sub in enumerate("ABC"):
        one, two = ((12, 14 + seed, 12), 4), ((19, 21, 14), 3)
        sessions.append(write_session(folder, sub, "1", seed=seed, lesions=[one]))
        sessions.append(write_session(folder, sub, "2", seed=9 + seed, lesions=[one, two], prior=[one], t2=sub != "B"))
    return sessions


def write_raw(sessions, folder, task="2.2", channels=(CE, "T2w"), folds=2):
    raw = folder / "raw" / dataset.TASKS[task].dataset
    dataset.write_dataset(sessions, raw, task=task, channels=list(channels), folds=folds, seed=1)
    return raw, json.loads((raw / "dataset.json").read_text())


def test_a_prior_is_the_last_channel_and_a_missing_sequence_is_zeros(tmp_path):
    raw, described = write_raw(write_cohort(tmp_path), tmp_path)
    assert list(described["channel_names"].values()) == [CE, "T2w", "noNorm"]
    assert described["labels"] == {"background": 0, "enhancing": 1, "edema": 2, "necrosis": 3}
    assert described["numTraining"] == 6
    t1, t2, prior = described["dataset"]["sub-B_ses-2"]["images"]
    assert t1 == str(tmp_path / "sub-B_ses-2_T1w.nii.gz"), "images are not copied"
    assert not np.any(images.read_labels(t2).data)
    assert set(np.unique(images.read_labels(prior).data)) == {0, 1}
    assert not np.any(images.read_labels(described["dataset"]["sub-B_ses-1"]["images"][2]).data)
    splits = json.loads((raw / "splits_final.json").read_text())
    assert sorted(name for split in splits for name in split["val"]) == [f"sub-{sub}_ses-2" for sub in "ABC"]


def test_detection_of_whole_lesions_has_one_label_and_no_prior(tmp_path):
    sessions = [s | {"prior": None} for s in write_cohort(tmp_path)]
    raw, described = write_raw(sessions, tmp_path, task="1.1", channels=[CE])
    assert described["labels"] == {"background": 0, "lesion": 1}
    assert list(described["channel_names"].values()) == [CE]
    drawn = images.read_labels(sessions[1]["labels"]).data
    trained = images.read_labels(raw / "labelsTr" / "sub-A_ses-2.nii.gz").data
    assert np.array_equal(trained > 0, np.isin(drawn, (1, 3)))
    splits = json.loads((raw / "splits_final.json").read_text())
    assert sum(len(split["val"]) for split in splits) == 6


def test_masks_come_to_the_working_grid_with_the_nearest_label(tmp_path):
    session = write_session(tmp_path, "A", "1", seed=1, lesions=[((15, 17, 13), 6)])
    image = images.read_image(session["images"][CE])
    coarse = images.canonical_grid(image.grid, spacing_mm=2.0)
    moved = images.resample(images.read_labels(session["labels"]), coarse, order=0)
    images.write_labels(session["labels"], moved.data, moved.affine)
    others = [write_session(tmp_path, "B", "1", seed=2, lesions=[((12, 14, 12), 4)])]
    raw, _ = write_raw([session, *others], tmp_path, task="1.2", channels=[CE])
    found = images.read_labels(raw / "labelsTr" / "sub-A_ses-1.nii.gz")
    assert found.grid.matches(image.grid)
    distance = np.sqrt(sum((a - c) ** 2 for a, c in zip(np.indices(image.data.shape), (15, 17, 13))))
    assert (found.data[distance < 2.5] == 3).all()
    assert np.isin(found.data[distance < 4.5], (1, 3)).all()
    assert (found.data[distance > 10] == 0).all()


def test_the_dataset_refuses_what_it_cannot_be_made_of(tmp_path):
    sessions = write_cohort(tmp_path)
    strange = copy.deepcopy(sessions)
    strange[0]["labels"] = str(write_scan(tmp_path / "strange_dseg.nii.gz", np.full((30, 34, 26), 7, np.uint8)))
    with pytest.raises(InputError, match="labels 7"):
        write_raw(strange, tmp_path)
    apart = copy.deepcopy(sessions)
    apart[0]["images"]["T2w"] = str(write_scan(tmp_path / "apart_T2w.nii.gz"))
    with pytest.raises(GridMismatchError):
        write_raw(apart, tmp_path)
    empty = write_scan(tmp_path / "none_dseg.nii.gz", np.zeros((30, 34, 26), np.uint8))
    with pytest.raises(InputError, match="without a single lesion"):
        write_raw([s | {"labels": str(empty)} for s in sessions], tmp_path)


# The whole way


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Task 2.2 with two losses: a run that dies in its second epoch, and is taken up again; then the model."""
    folder = tmp_path_factory.mktemp("train")
    write_raw(write_cohort(folder), folder)
    small = {"epochs": 1, "steps": 1, "validation_steps": 1, "save_every": 1, "device": "cpu", "seed": 3}
    settings = SETTINGS | small | {"gpu_memory_gb": 1, "folds": 2, "trainers": ["dice_ce", "sensitive"]}
    settings |= {"optional": ["T2w"], "test_patients": ["Secret"]}
    own = ("epochs", "steps", "validation_steps", "save_every", "device", "seed", "bf16", "tile_vox", "alpha", "priors")
    arguments = {key: settings[key] for key in own} | {"task": "2.2", "threads": 1, "save_probabilities": True}
    with pytest.MonkeyPatch.context() as patched:
        # nnU-Net starts processes afresh: each would import torch first, which takes longer than its work here.
        patched.setattr(multiprocessing, "get_context", lambda _: SimpleNamespace(Pool=ThreadPool))
        patched.setattr(MetaLogger, "plot_progress_png", lambda *_: None)
        for name in ("raw", "preprocessed", "results", "def_n_proc", "n_proc_DA", "wandb_enabled"):
            patched.setenv(f"nnUNet_{name}", "")
        threads = torch.get_num_threads()
        crossvalidation.plan_dataset(folder, task="2.2", gpu_memory_gb=1, threads=1)
        kept = DiceCETrainer.on_train_epoch_end

        def die(self, outputs):
            if self.current_epoch == 1:
                raise KeyboardInterrupt
            return kept(self, outputs)

        patched.setattr(DiceCETrainer, "on_train_epoch_end", die, raising=False)
        with pytest.raises(KeyboardInterrupt):
            crossvalidation.train_fold(folder, trainer="dice_ce", fold=0, **arguments | {"epochs": 2})
        patched.setattr(DiceCETrainer, "on_train_epoch_end", kept)
        for trainer, fold, changes in (
            ("dice_ce", 0, {"epochs": 2}),
            ("dice_ce", 1, {}),
            ("sensitive", 0, {"bf16": True}),
            ("sensitive", 1, {}),
        ):
            crossvalidation.train_fold(folder, trainer=trainer, fold=fold, **arguments | changes)
        model = crossvalidation.gather_model(
            folder, channels=[CE, "T2w"], threads=1, **settings | {"task": "2.2", "licence": "CC0"}
        )
        torch.set_num_threads(threads)
        return SimpleNamespace(folder=folder, model=model)


def folds_of(trained, name):
    return trained.folder / "results" / "Dataset022_resegmentation" / f"{name}__mettrailPlans__3d_fullres"


def test_a_killed_training_goes_on_where_it_was(trained):
    logs = sorted((folds_of(trained, "DiceCETrainer") / "fold_0").glob("training_log*.txt"))
    epochs = [line.split()[-1] for log in logs for line in log.read_text().splitlines() if "Epoch " in line
              and "time" not in line]  # fmt: skip
    assert epochs == ["0", "1", "1"]
    assert "progress: epoch 2/2, loss" in logs[-1].read_text()


def test_checkpoints_of_other_data_or_settings_are_not_gone_on_from(trained, tmp_path):
    """A weight of another loss, a prior where there is none, and how often checkpoints are saved are no matter."""
    names = [field.name for field in dataclasses.fields(FoldSettings)]
    settings = FoldSettings(**{name: SETTINGS[name] for name in names} | {"priors": NO_ERRORS})
    (tmp_path / "preprocessed").symlink_to(trained.folder / "preprocessed")
    checkpoint = tmp_path / "checkpoint_latest.pth"

    def keeps(trainer="dice_ce", task="2.2", **changes):
        said = {"task": task, "trainer": trainer}
        crossvalidation.start_anew_unless_same(tmp_path, tmp_path, settings=settings, **said)
        checkpoint.touch()
        changed = dataclasses.replace(settings, **changes)
        crossvalidation.start_anew_unless_same(tmp_path, tmp_path, settings=changed, **said)
        return checkpoint.exists()

    lighter = {"sensitive": 0.9, "specific": 0.5}
    assert keeps()
    assert keeps(save_every=9)
    assert keeps(alpha=lighter)
    assert keeps("specific", alpha=lighter)
    assert not keeps("sensitive", alpha=lighter)
    assert not keeps("specific", tile_vox=20)
    assert not keeps(epochs=6)
    assert not keeps(seed=4)
    assert not keeps(priors=dataclasses.replace(NO_ERRORS, drop_prob=1))


def test_the_best_on_cross_validation_becomes_the_model(trained):
    crossed = trained.model.description["cross_validation"]
    assert set(crossed["mean_dice"]) == {"dice_ce", "sensitive", "dice_ce + sensitive"}
    assert crossed["mean_dice"][" + ".join(crossed["chosen"])] == max(crossed["mean_dice"].values())
    assert len(trained.model.weight_files) == 2 * len(crossed["chosen"])
    card = (trained.model.folder / "README.md").read_text()
    assert "| dice_ce + sensitive |" in card
    said = card + "".join(path.read_text() for path in trained.model.folder.glob("*.json"))
    assert "sub-" not in said, "no patient is named"
    assert "Secret" not in said


def test_the_models_networks_are_the_trained_ones(trained):
    name = {"dice_ce": "DiceCETrainer", "sensitive": "SensitiveTrainer"}[
        trained.model.description["cross_validation"]["chosen"][-1]
    ]
    stored = torch.load(folds_of(trained, name) / "fold_1" / "checkpoint_final.pth", weights_only=False)
    ours = trained.model.read_weights()[-1]
    assert all(torch.equal(ours[key], value) for key, value in stored["network_weights"].items())


def test_the_preprocessed_prior_is_still_binary(trained):
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    (cases,) = (trained.folder / "preprocessed").glob("*/mettrailPlans_3d_fullres")
    data, seg, _, _ = nnUNetDatasetBlosc2(str(cases)).load_case("sub-B_ses-2")
    data, seg = data[:], seg[:]
    assert set(np.unique(data[2])) == {0.0, 1.0}
    assert not data[1].any(), "a sequence of zeros stays one"
    assert abs(data[0][seg[0] >= 0].mean()) < 0.01


def test_segment_takes_the_model_as_it_is(trained):
    model = segmentation.read_model(trained.folder / "model")
    assert model.channels == (CE, "T2w", "prior")
    session = write_cohort(trained.folder / "new")[1]
    channels = {name: images.read_image(path).data for name, path in session["images"].items()}
    channels["prior"] = (images.read_labels(session["prior"]).data > 0).astype(np.float32)
    found = segmentation.predict_probabilities(model, channels, within=None, device="cpu", threads=1)
    assert found.shape == (30, 34, 26, 5)
    assert np.allclose(found.sum(-1), 1, atol=1e-3)
    brain = (channels[CE] != 0) | (channels["T2w"] != 0)
    assert found[~brain][:, 0].min() == 1
    assert found[brain][:, 1:].max() > 0.1
    del channels["prior"]
    with pytest.raises(ModelError, match="prior"):
        segmentation.predict_probabilities(model, channels, within=None, device="cpu", threads=1)


def test_zeros_stand_for_an_optional_sequence_that_a_session_lacks(trained):
    model = segmentation.read_model(trained.folder / "model")
    (trained.folder / "zeros").mkdir()
    session = write_session(trained.folder / "zeros", "N", "1", seed=5, lesions=[((12, 14, 12), 4)], prior=[])
    read = {"reference": (CE, session["images"][CE]), "prior": session["prior"]}
    alone = segmentation.read_channels(model, **read)
    assert set(alone) == {CE, "prior"}
    both = segmentation.read_channels(model, **read, sequences=[session["images"]["T2w"]])
    settings = {"within": None, "device": "cpu", "threads": 1}
    with_zeros = segmentation.predict_probabilities(model, both | {"T2w": np.zeros_like(alone[CE])}, **settings)
    assert np.array_equal(segmentation.predict_probabilities(model, alone, **settings), with_zeros)
    assert not np.array_equal(segmentation.predict_probabilities(model, both, **settings), with_zeros)
