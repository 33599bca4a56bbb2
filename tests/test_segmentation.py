"""The contract of model folders, what reaches the network, fusion, and the decision on the scan's grid."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import torch
from mettrail import brain, geometry, images, segmentation
from mettrail.errors import GridMismatchError, InputError, ModelError
from mettrail.geometry import decide_labels, whole_lesion
from mettrail.images import CAVITY, EDEMA, Grid, Image
from mettrail.segmentation import architectures, choice, fusion, models, prediction, thresholds
from mettrail.segmentation.normalisation import limit_brightness
from mettrail.training import cases

NETWORK = {
    "features": [4, 8], "convs_encoder": [1, 1], "convs_decoder": [1], "patch": [16, 16, 16], "batch": 2
}  # fmt: skip
# No two sides alike.
SHAPE = (20, 24, 28)


def write_tiny_model(folder, task="detection", *, channels=None, half=False, **changes):
    """A model folder with a random network of a few weights."""
    torch.manual_seed(1)
    plans, dataset = cases.make_plans(task, **NETWORK), cases.make_dataset_json(task, cases=2)
    configuration = plans["configurations"]["3d_fullres"]
    channels = channels or list(cases.CHANNELS[task])
    dataset["channel_names"] = {str(i): "noNorm" if c == "prior" else c for i, c in enumerate(channels)}
    normalisation = ["NoNormalization" if c == "prior" else "ZScoreNormalization" for c in channels]
    configuration["normalization_schemes"] = normalisation
    configuration["use_mask_for_norm"] = [c != "prior" for c in channels]
    plans["foreground_intensity_properties_per_channel"] = {str(i): {} for i in range(len(channels))}
    network = architectures.build_from_plans(plans, "3d_fullres", channels=len(channels), outputs=4, path=folder)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    description = {
        "task": task, "input": "brain", "channels": channels, "configuration": "3d_fullres",
        "spacing_mm": [1, 1, 1], "normalisation": normalisation, "mirror_axes": [], "tile": None,
        "threshold": 0.5, "min_component_score": 0, "trained_on": "nothing", "licence": "none",
    }  # fmt: skip
    description.update(changes)
    return models.write_model(
        folder, network, plans=plans, dataset=dataset, description=description, card="# tiny\n", half=half
    )


def edit(folder, name, change):
    """Change a file, and what mettrail.json says of its hash."""
    path = folder / name
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    if name != "mettrail.json":
        state_hash(folder, name)


def state_hash(folder, name, instead_of=None):
    def change(description):
        description["sha256"].pop(instead_of, None)
        description["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()

    edit(folder, "mettrail.json", change)


def scan(seed=0, shape=SHAPE):
    rng = np.random.default_rng(seed)
    image = rng.uniform(50, 150, shape).astype(np.float32)
    image[:2], image[:, -3:], image[..., :1] = 0, 0, 0
    return image


def predict(model, channels, **changes):
    return segmentation.predict_probabilities(
        model, channels, **{"within": None, "device": "cpu", "threads": 1} | changes
    )


# The contract


def test_a_model_folder_that_keeps_the_contract_is_read(tmp_path):
    model = write_tiny_model(tmp_path / "m", "resegmentation")
    assert model.channels == ("ce-gadolinium_T1w", "prior")
    assert model.classes == (0, 1, 2, 3)
    assert [w.name for w in model.weight_files] == ["weights.safetensors"]


BREAKS = {
    "a folder that is not there": (None, "no such folder"),
    "no mettrail.json": (lambda f: (f / "mettrail.json").unlink(), "mettrail.json"),
    "a missing key": (lambda f: edit(f, "mettrail.json", lambda d: d.pop("licence")), "no licence"),
    "a task nobody knows": (lambda f: edit(f, "mettrail.json", lambda d: d.update(task="magic")), "magic"),
    "a channel nobody knows": (
        lambda f: edit(f, "mettrail.json", lambda d: d.update(channels=["t1c"], normalisation=["ZScoreNormalization"])),
        "t1c",
    ),
    "a prior for detection": (
        lambda f: edit(f, "mettrail.json", lambda d: d.update(channels=["ce-gadolinium_T1w", "prior"])),
        "none for others",
    ),
    "more channels than nnU-Net has": (
        lambda f: edit(f, "mettrail.json", lambda d: d.update(channels=["ce-gadolinium_T1w", "FLAIR"])),
        "as many as dataset.json",
    ),
    "channels in another order than nnU-Net's": (
        lambda f: (
            edit(f, "dataset.json", lambda d: d.update(channel_names={"1": "t1c", "0": "FLAIR"})),
            edit(f, "mettrail.json", lambda d: d.update(channels=["ce-gadolinium_T1w", "FLAIR"])),
        ),
        "the order of dataset.json: FLAIR, t1c",
    ),
    "nothing but optional channels": (
        lambda f: edit(f, "mettrail.json", lambda d: d.update(optional_channels=["ce-gadolinium_T1w"])),
        "not all of them",
    ),
    "an optional channel that is none of its channels": (
        lambda f: edit(f, "mettrail.json", lambda d: d.update(optional_channels=["T2w"])),
        "among its channels",
    ),
    "a model of edema without edema": (
        lambda f: (
            edit(f, "mettrail.json", lambda d: d.update(task="edema")),
            edit(f, "dataset.json", lambda d: d.update(labels={"background": 0, "lesion": 1})),
        ),
        "one named edema",
    ),
    "another normalisation": (
        lambda f: edit(f, "mettrail.json", lambda d: d.update(normalisation=["CTNormalization"])),
        "CTNormalization",
    ),
    "a configuration that is not in the plans": (
        lambda f: edit(f, "mettrail.json", lambda d: d.update(configuration="2d")),
        "3d_fullres",
    ),
    "labels under other names": (
        lambda f: edit(f, "dataset.json", lambda d: d.update(labels={"background": 0, "whole tumor": 1})),
        "whole tumor",
    ),
    "regions": (
        lambda f: edit(f, "dataset.json", lambda d: d.update(labels={"background": 0, "edema": [1, 2]})),
        "Region",
    ),
    "weights that were changed": (
        lambda f: (f / "fold_0/weights.safetensors").write_bytes(b"something else"),
        "sha256",
    ),
    "no weights": (lambda f: (f / "fold_0/weights.safetensors").unlink(), "no weights"),
    "a candidate threshold that is no lower one": (
        lambda f: edit(f, "mettrail.json", lambda d: d.update(candidate_threshold=0.5)),
        "below the threshold",
    ),
    "an edge threshold above the threshold": (
        lambda f: edit(f, "mettrail.json", lambda d: d.update(edge_threshold=0.7)),
        "at most the threshold",
    ),
    "a calibration of re-segmentation": (
        lambda f: edit(
            f,
            "mettrail.json",
            lambda d: d.update(
                task="resegmentation", channels=["prior", *d["channels"]], calibration={"intercept": 0, "slope": 1}
            ),
        ),
        "detection only",
    ),
    "a calibration that falls": (
        lambda f: edit(f, "mettrail.json", lambda d: d.update(calibration={"intercept": 0, "slope": -1})),
        "a slope above 0",
    ),
    "a threshold that is no probability": (lambda f: edit(f, "mettrail.json", lambda d: d.update(threshold=50)), "50"),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_folder_that_breaks_the_contract_is_refused_by_name(tmp_path, what):
    act, says = BREAKS[what]
    folder = tmp_path / "m"
    if act is not None:
        write_tiny_model(folder)
        act(folder)
    with pytest.raises(ModelError, match=says) as caught:
        segmentation.read_model(folder)
    assert "to do:" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "found", "expected"),
    [
        ({"threshold": 50}, "threshold: 50", "a probability between 0 and 1"),
        ({"task": "magic"}, "task: 'magic'", "one of detection, resegmentation"),
        ({"channels": ["t1c"]}, "channels.0: 't1c'", "one of ce-gadolinium_T1w, T1w, T2w, FLAIR, prior"),
        ({"channels": []}, "channels: []", "some of ce-gadolinium_T1w, T1w, T2w, FLAIR, prior_image, prior, each once"),
        ({"spacing_mm": [1, 1, 2]}, "spacing_mm.2: 2", "1: images are given at 1 mm"),
        ({"min_component_score": 1}, "min_component_score: 1", "a score below 1"),
    ],
)
def test_a_wrong_value_is_named_with_its_place_and_what_was_expected(tmp_path, change, found, expected):
    write_tiny_model(tmp_path / "m")
    edit(tmp_path / "m", "mettrail.json", lambda d: d.update(change))
    with pytest.raises(ModelError) as caught:
        segmentation.read_model(tmp_path / "m")
    assert caught.value.found == found
    assert caught.value.expected.startswith(expected)
    assert caught.value.advice.startswith("Correct it")


def test_the_default_tile_is_the_patch_of_the_plans(tmp_path):
    assert write_tiny_model(tmp_path / "default").tile == (16, 16, 16)
    model = write_tiny_model(tmp_path / "wide", tile=[32, 16, 24])
    assert model.tile == segmentation.read_model(tmp_path / "wide").tile == (32, 16, 24)


def test_a_normalised_prior_is_refused(tmp_path):
    folder = tmp_path / "m"
    write_tiny_model(folder, "resegmentation")
    both = ["ZScoreNormalization"] * 2
    edit(folder, "mettrail.json", lambda d: d.update(normalisation=both))
    edit(folder, "plans.json", lambda d: d["configurations"]["3d_fullres"].update(normalization_schemes=both))
    with pytest.raises(ModelError, match="noNorm"):
        segmentation.read_model(folder)


def test_a_session_that_lacks_a_channel_is_refused(tmp_path):
    model = write_tiny_model(tmp_path / "m", channels=["ce-gadolinium_T1w", "FLAIR"])
    with pytest.raises(ModelError, match="Add FLAIR"):
        model.require_channels(["ce-gadolinium_T1w", "T2w"])
    with pytest.raises(ModelError, match="FLAIR"):
        predict(model, {"ce-gadolinium_T1w": scan()})


def test_names_that_say_nothing_of_the_order_are_no_reason_to_refuse(tmp_path):
    folder = write_tiny_model(tmp_path / "m", channels=["ce-gadolinium_T1w", "FLAIR"]).folder
    edit(folder, "dataset.json", lambda d: d.update(channel_names={"1": "my own FLAIR", "0": "T1ce"}))
    assert segmentation.read_model(folder).channels == ("ce-gadolinium_T1w", "FLAIR")


def test_zeros_stand_for_an_optional_channel_and_for_no_other(tmp_path, monkeypatch):
    model = write_tiny_model(tmp_path / "m", channels=["ce-gadolinium_T1w", "T2w", "FLAIR"], optional_channels=["T2w"])
    paths = {name: tmp_path / f"sub-A_{name}.nii.gz" for name in ("ce-gadolinium_T1w", "T2w", "FLAIR")}
    for seed, path in enumerate(paths.values()):
        images.write_image(path, scan(seed), np.eye(4))
    seen = spy(monkeypatch)
    for sequences in (["FLAIR", "T2w"], ["FLAIR"]):
        read = segmentation.read_channels(
            model,
            reference=("ce-gadolinium_T1w", paths["ce-gadolinium_T1w"]),
            sequences=[paths[name] for name in sequences],
        )
        assert list(read) == [name for name in model.channels if name in ("ce-gadolinium_T1w", *sequences)]
        predict(model, read)
    full, without = seen
    assert float(full[1].std()) > 0.5
    assert (without[1] == 0).all()
    assert torch.equal(full[[0, 2]], without[[0, 2]])
    with pytest.raises(ModelError, match="Add FLAIR"):
        predict(model, {"ce-gadolinium_T1w": scan(), "T2w": scan()})


@pytest.mark.parametrize("value", [3000, 65535])
def test_voxels_brighter_than_any_tissue_leave_the_others_as_they_are(tmp_path, monkeypatch, value):
    model = write_tiny_model(tmp_path / "m")
    plain, spiked = scan(), scan()
    spiked[10, 12, 12:15] = value
    seen = spy(monkeypatch)
    for image in (plain, spiked):
        predict(model, {"ce-gadolinium_T1w": image})
    ordinary, limited = (channels[0].numpy() for channels in seen)
    others = limited < 10
    assert (~others).sum() == 3
    assert np.abs(limited - ordinary)[others].max() < 0.3
    assert ordinary.max() < 10  # Voxels of an ordinary scan are as they were: none is at the limit.


@pytest.mark.parametrize("least", [0, -50])
def test_of_a_head_in_noise_and_of_z_scores_nothing_is_limited(least):
    rng = np.random.default_rng(4)
    head = np.where(rng.uniform(size=SHAPE) < 0.7, rng.uniform(1, 5, SHAPE), rng.uniform(400, 900, SHAPE)) + least
    head[5, 5, 5] = 3000
    assert np.array_equal(limit_brightness(head), head)


# Which model runs


def table_of_sessions(**sessions):
    """A patient's rows of the cohort table: the other sequences of each session."""
    rows = [
        {"sub": "A", "ses": ses, "usable": "true", "reason": "n/a", "detail": "n/a", "prior": "n/a", "labels": "n/a"}
        | {name: f"{name}.nii.gz" if name in has else "n/a" for name in ("T1w", "T2w", "FLAIR")}
        for ses, has in sessions.items()
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def models_on_disk(tmp_path):
    """Descriptions alone: all that the choice reads."""

    def write(name, task, channels, optional=()):
        (tmp_path / name).mkdir()
        model = {
            "task": task, "input": "brain", "channels": channels, "optional_channels": list(optional),
            "configuration": "3d_fullres", "spacing_mm": [1, 1, 1], "normalisation": [], "mirror_axes": [],
            "tile": None, "threshold": 0.5, "min_component_score": 0, "sha256": {}, "trained_on": "", "licence": "",
        }  # fmt: skip
        (tmp_path / name / "mettrail.json").write_text(json.dumps(model))
        return tmp_path / name

    t1c = "ce-gadolinium_T1w"
    write("flair", "detection", [t1c, "T1w", "FLAIR"])
    write("t2", "detection", [t1c, "T2w"], ["T2w"])
    write("t1c", "detection", [t1c])
    write("again", "resegmentation", [t1c, "T2w", "prior"])
    return tmp_path


def choose(models_on_disk, table, detection, reference="ce-gadolinium_T1w", rule="parallel"):
    listed = {"detection": [models_on_disk / name for name in detection], "resegmentation": [models_on_disk / "again"]}
    table, chosen = choice.choose_models(
        table, listed, fusion_rule=rule, reference=reference, sequences=["T1w", "T2w", "FLAIR"]
    )
    names = {ses: {task: path and path.name for task, path in of.items()} for (_, ses), of in chosen.items()}
    return table.set_index("ses"), names


def test_each_session_gets_the_first_model_whose_channels_it_has(models_on_disk):
    table, chosen = choose(
        models_on_disk, table_of_sessions(a=["FLAIR"], b=["T1w", "T2w", "FLAIR"], c=["T2w"]), ["flair", "t2", "t1c"]
    )
    assert chosen == {
        "a": {"detection": "t2"},
        "b": {"detection": "flair", "resegmentation": "again"},
        "c": {"detection": "t2", "resegmentation": "again"},
    }
    assert (table["usable"] == "true").all()
    _, chosen = choose(models_on_disk, table_of_sessions(a=["T1w", "FLAIR"]), ["t1c", "flair"])
    assert chosen["a"]["detection"] == "t1c"


def test_a_session_no_model_fits_is_excluded_and_is_no_prior(models_on_disk):
    table, chosen = choose(models_on_disk, table_of_sessions(a=["T2w"], b=["FLAIR"], c=["T2w"]), ["t1c"])
    assert list(chosen) == ["a", "c"]
    assert table["usable"].to_dict() == {"a": "true", "b": "false", "c": "true"}
    assert table["prior"].to_dict() == {"a": "n/a", "b": "a", "c": "a"}
    assert table.loc["b", "reason"] == "no_model"
    for said in ("sub-A_ses-b has ce-gadolinium_T1w, FLAIR,", "resegmentation", "wants ce-gadolinium_T1w, T2w"):
        assert said in table.loc["b", "detail"]
    # Without a first visit there is nothing to re-segment.
    table, chosen = choose(models_on_disk, table_of_sessions(a=["FLAIR"], b=["T2w"]), ["flair", "t2"])
    assert chosen == {"a": {"detection": "t2"}, "b": {"detection": "t2", "resegmentation": "again"}}
    table, chosen = choose(models_on_disk, table_of_sessions(a=["FLAIR"], b=["T1w", "FLAIR"]), ["flair"])
    assert chosen == {"b": {"detection": "flair"}}
    assert table.loc["b", "prior"] == "n/a"


def test_a_session_with_a_provided_segmentation_needs_no_model(models_on_disk):
    table = table_of_sessions(a=["FLAIR"], b=["FLAIR"])
    table.loc[1, "labels"] = "drawn.nii.gz"
    table, chosen = choose(models_on_disk, table, ["t1c"])
    assert (table["usable"] == "true").all()
    assert chosen["b"] == {"detection": "t1c", "resegmentation": None}


def test_a_plain_t1w_reference_is_a_post_contrast_channel_for_the_choice(models_on_disk):
    _, chosen = choose(models_on_disk, table_of_sessions(a=[]), ["t1c"], reference="T1w")
    assert chosen["a"]["detection"] == "t1c"
    table, _ = choose(models_on_disk, table_of_sessions(a=[]), ["t1c"], reference="ce-other_T1w")
    assert table.loc["a", "reason"] == "no_model"


def test_a_task_that_the_fusion_does_not_need_leaves_no_session_out(models_on_disk):
    sessions = table_of_sessions(a=[], b=[])
    for rule, b in (("detection", {"detection": "t1c"}), ("propagation", {})):
        table, chosen = choose(models_on_disk, sessions, ["t1c"], rule=rule)
        assert chosen == {"a": {"detection": "t1c"}, "b": b}
        assert (table["usable"] == "true").all()
    table, _ = choose(models_on_disk, sessions, ["t1c"], rule="resegmentation")
    assert table["usable"].to_dict() == {"a": "true", "b": "false"}


def test_a_model_in_the_list_of_another_task_is_refused(models_on_disk):
    with pytest.raises(ModelError, match="a model for resegmentation"):
        choose(models_on_disk, table_of_sessions(a=[]), ["t1c", "again"])
    with pytest.raises(ModelError, match="no such folder"):
        choose(models_on_disk, table_of_sessions(a=[]), ["t1c", "elsewhere"])


def test_channels_are_read_by_name_and_the_prior_is_enhancing_and_necrosis(tmp_path):
    model = write_tiny_model(tmp_path / "m", "resegmentation")
    affine = np.diag([1, 1, 1, 1.0])
    labels = np.zeros(SHAPE, np.uint8)
    labels[5:8, 5, 5], labels[9, 9, 9], labels[10, 10, 10] = 1, 2, 3
    images.write_image(tmp_path / "sub-A_ce-gadolinium_T1w.nii.gz", scan(), affine)
    images.write_image(tmp_path / "sub-A_desc-preproc_T2w.nii.gz", scan(1), affine)
    images.write_labels(tmp_path / "prior.nii.gz", labels, affine)
    read = segmentation.read_channels(
        model,
        reference=("ce-gadolinium_T1w", tmp_path / "sub-A_ce-gadolinium_T1w.nii.gz"),
        sequences=[tmp_path / "sub-A_desc-preproc_T2w.nii.gz"],
        prior=tmp_path / "prior.nii.gz",
    )
    assert list(read) == ["ce-gadolinium_T1w", "prior"]
    assert np.array_equal(read["prior"] > 0, np.isin(labels, (1, 3)))


def test_a_plain_t1w_reference_stands_in_for_a_post_contrast_channel(tmp_path):
    model = write_tiny_model(tmp_path / "m")
    path = tmp_path / "sub-A_T1w.nii.gz"
    images.write_image(path, scan(), np.eye(4))
    read = segmentation.read_channels(model, reference=("T1w", path))
    assert list(read) == ["ce-gadolinium_T1w"]
    with pytest.raises(ModelError):
        segmentation.read_channels(model, reference=("T2w", path))


def test_channels_that_are_not_on_one_grid_are_refused(tmp_path):
    model = write_tiny_model(tmp_path / "m", "resegmentation")
    images.write_image(tmp_path / "T1w.nii.gz", scan(), np.eye(4))
    images.write_labels(tmp_path / "prior.nii.gz", np.zeros(SHAPE, np.uint8), np.diag([1, 1, 2, 1.0]))
    with pytest.raises(GridMismatchError):
        segmentation.read_channels(
            model, reference=("ce-gadolinium_T1w", tmp_path / "T1w.nii.gz"), prior=tmp_path / "prior.nii.gz"
        )


# Prediction


def test_probabilities_sum_to_one_and_lie_within_the_mask(tmp_path):
    model = write_tiny_model(tmp_path / "m")
    mask = np.zeros(SHAPE, bool)
    mask[6:15, 5:19, 8:20] = True
    image = scan()
    within = geometry.grow_mask(mask, spacing_mm=(1, 1, 1), grow_mm=3)
    p = predict(model, {"ce-gadolinium_T1w": image}, within=within)
    assert p.shape == (*SHAPE, 5)
    assert p.dtype == np.float32
    assert np.allclose(p.sum(-1), 1, atol=1e-4)
    far = ~within | (image == 0)
    assert (p[far][:, 0] == 1).all()
    assert (p[mask][:, 0] < 1).any()
    # What align leaves of the image is what the network sees, to the last voxel.
    aligned = brain.apply_mask(Image(image, np.eye(4)), Image(mask, np.eye(4)), grow_mm=3).data
    assert (p[aligned != 0][:, 0] < 1).all()
    assert np.array_equal(predict(model, {"ce-gadolinium_T1w": aligned}, within=within), p)


def test_the_order_of_channels_does_not_matter_but_their_names_do(tmp_path):
    model = write_tiny_model(tmp_path / "m", channels=["ce-gadolinium_T1w", "FLAIR"])
    a, b = scan(1), scan(2)
    one = predict(model, {"ce-gadolinium_T1w": a, "FLAIR": b})
    assert np.array_equal(one, predict(model, {"FLAIR": b, "ce-gadolinium_T1w": a}))
    assert not np.allclose(one, predict(model, {"FLAIR": a, "ce-gadolinium_T1w": b}), atol=1e-3)


def spy(monkeypatch, logits=None):
    """Let the network be replaced by a function of what it is given, and keep that."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    seen = []

    def run(_, data):
        seen.append(data.clone())
        return torch.zeros((4, *data.shape[1:])) if logits is None else logits(data)

    monkeypatch.setattr(nnUNetPredictor, "predict_logits_from_preprocessed_data", run)
    return seen


def test_the_image_is_normalised_within_the_mask_and_the_prior_is_not(tmp_path, monkeypatch):
    seen = spy(monkeypatch)
    image, prior = scan(), np.zeros(SHAPE)
    prior[10:14, 11:13, 12:15] = 1
    prior[0, 0, 0] = 1  # outside the brain: must not widen what the network sees
    predict(write_tiny_model(tmp_path / "m", "resegmentation"), {"ce-gadolinium_T1w": image, "prior": prior})
    (data,) = seen
    inside = data[0] != 0
    assert abs(float(data[0][inside].mean())) < 0.01
    assert abs(float(data[0][inside].std()) - 1) < 0.01
    assert set(data[1].unique().tolist()) == {0.0, 1.0}
    assert data.shape[1:] == (27, 21, 18)


def test_what_the_network_sees_comes_back_where_it_was(tmp_path, monkeypatch):
    def bright_is_enhancing(data):
        out = torch.zeros((4, *data.shape[1:]))
        out[1] = 20 * (data[0] > 3) - 10
        return out

    spy(monkeypatch, bright_is_enhancing)
    image = scan()
    image[4:7, 15, 20:26] = 900
    p = predict(write_tiny_model(tmp_path / "m"), {"ce-gadolinium_T1w": image})
    assert np.array_equal(p[..., 1] > 0.5, image == 900)


def test_a_scan_of_nothing_but_zeros_holds_no_lesion(tmp_path):
    p = predict(write_tiny_model(tmp_path / "m"), {"ce-gadolinium_T1w": np.zeros(SHAPE)})
    assert (p[..., 0] == 1).all()


def test_a_prior_that_is_not_binary_is_refused(tmp_path):
    model = write_tiny_model(tmp_path / "m", "resegmentation")
    with pytest.raises(InputError, match="nearest"):
        predict(model, {"ce-gadolinium_T1w": scan(), "prior": np.full(SHAPE, 0.3)})


def test_arrays_of_different_shapes_are_refused(tmp_path):
    model = write_tiny_model(tmp_path / "m", "resegmentation")
    with pytest.raises(InputError, match="one grid"):
        predict(model, {"ce-gadolinium_T1w": scan(), "prior": np.zeros((4, 4, 4))})


def test_a_checkpoint_of_nnunet_predicts_as_the_same_safetensors_do(tmp_path):
    shipped = write_tiny_model(tmp_path / "shipped")
    theirs = write_tiny_model(tmp_path / "theirs").folder
    (theirs / "fold_0/weights.safetensors").unlink()
    network = shipped.build_network()
    network.load_state_dict(shipped.read_weights()[0])
    log = {"train_losses": [np.float64(0.5), np.float32(0.25)], "stamps": [np.int64(3)]}
    checkpoint = {"network_weights": network.state_dict(), "logging": log, "_best_ema": np.float64(0.1)}
    path = theirs / "fold_0/checkpoint_final.pth"
    torch.save(checkpoint, path)
    state_hash(theirs, "fold_0/checkpoint_final.pth", instead_of="fold_0/weights.safetensors")
    channels = {"ce-gadolinium_T1w": scan()}
    assert np.array_equal(predict(shipped, channels), predict(segmentation.read_model(theirs), channels))


def test_flips_are_averaged_left_to_right_on_a_cpu_all_if_asked_for(tmp_path):
    model = write_tiny_model(tmp_path / "m", mirror_axes=[0, 1, 2])
    image = scan()

    def left_out(axis, mirror):
        """How much a flip of the scan along an axis changes what is predicted."""
        seen = predict(model, {"ce-gadolinium_T1w": image}, mirror=mirror)
        flipped = predict(model, {"ce-gadolinium_T1w": np.flip(image, axis)}, mirror=mirror)
        return np.abs(np.flip(flipped, axis) - seen).mean()

    # nnU-Net adds tiles up with 16 bits.
    expected = {None: [False, True, True], False: [True, True, True], True: [False, False, False]}
    for mirror, differs in expected.items():
        assert [left_out(axis, mirror) > 0.001 for axis in range(3)] == differs, mirror


def test_bfloat16_changes_next_to_nothing_but_the_time(tmp_path, monkeypatch):
    model, channels = write_tiny_model(tmp_path / "m"), {"ce-gadolinium_T1w": scan()}
    found = []
    for able in (True, False):
        monkeypatch.setattr(prediction, "has_bfloat16", lambda _, able=able: able)
        found.append(predict(model, channels))
    assert 0 < np.abs(found[0] - found[1]).mean() < 0.01


def test_half_the_precision_costs_next_to_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction, "has_bfloat16", lambda _: False)
    channels = {"ce-gadolinium_T1w": scan()}
    full = predict(write_tiny_model(tmp_path / "full"), channels)
    half = predict(write_tiny_model(tmp_path / "half", half=True), channels)
    assert np.abs(full - half).max() < 0.02


def test_the_convolution_of_the_cpu_changes_nothing_but_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction, "has_bfloat16", lambda _: False)
    model, channels = write_tiny_model(tmp_path / "m"), {"ce-gadolinium_T1w": scan()}
    calls = []
    ours = torch.mkldnn_convolution
    monkeypatch.setattr(torch, "mkldnn_convolution", lambda *a: calls.append(a) or ours(*a))
    fast = predict(model, channels)
    assert calls
    monkeypatch.setattr(prediction, "use_onednn", lambda network: None)
    # nnU-Net adds tiles up with 16 bits.
    assert np.abs(fast - predict(model, channels)).max() < 0.002


class TwoPaths(torch.nn.Module):
    """Image and prior each through a layer of their own: no U-Net."""

    def __init__(self, input_channels, num_classes, deep_supervision, *, width):
        super().__init__()
        assert input_channels == 2
        assert not deep_supervision
        self.image, self.prior = (torch.nn.Conv3d(1, width, 3, padding=1) for _ in range(2))
        self.join = torch.nn.Conv3d(2 * width, num_classes, 1)

    def forward(self, x):
        return self.join(torch.cat([self.image(x[:, :1]), self.prior(x[:, 1:])], 1))


def write_other_network(folder, name, **arguments):
    architecture = {"network_class_name": name, "arch_kwargs": arguments, "_kw_requires_import": []}
    plans = cases.make_plans("resegmentation", **NETWORK)
    plans["configurations"]["3d_fullres"]["architecture"] = architecture
    written = write_tiny_model(folder.parent / "unet", "resegmentation")
    network = TwoPaths(2, 4, False, width=3)
    description = {key: value for key, value in written.description.items() if key != "sha256"}
    return models.write_model(
        folder, network, plans=plans, dataset=written.dataset, description=description, card="# other\n", half=False
    )


def test_a_network_that_is_no_unet_keeps_the_same_contract(tmp_path, monkeypatch):
    known = architectures.known_networks()
    monkeypatch.setattr(architectures, "known_networks", lambda: known | {"mettrail.TwoPaths": TwoPaths})
    model = write_other_network(tmp_path / "other", "mettrail.TwoPaths", width=3)
    prior = np.zeros(SHAPE, np.float32)
    channels = {"ce-gadolinium_T1w": scan(), "prior": prior}
    without = predict(model, channels)
    prior[8:12, 8:12, 8:12] = 1
    assert not np.allclose(predict(model, channels), without)


def test_weights_of_another_network_are_refused(tmp_path):
    folder = write_tiny_model(tmp_path / "m").folder
    edit(
        folder,
        "plans.json",
        lambda d: d["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"].update(features_per_stage=[4, 12]),
    )
    with pytest.raises(ModelError, match=r"do not fit plans\.json"):
        segmentation.read_model(folder).read_weights()


def test_a_model_with_one_class_fills_the_others_with_nothing(tmp_path, monkeypatch):
    folder = write_tiny_model(tmp_path / "m").folder
    edit(folder, "dataset.json", lambda d: d.update(labels={"background": 0, "lesion": 1}))
    spy(monkeypatch, lambda data: torch.zeros((2, *data.shape[1:])))
    monkeypatch.setattr(models.Model, "read_weights", lambda model: [])
    p = predict(segmentation.read_model(folder), {"ce-gadolinium_T1w": scan()})
    assert np.allclose(p[10, 10, 10], [0.5, 0.5, 0, 0, 0])


def test_a_threshold_is_brought_to_one_half():
    p = np.array([[0.6, 0.2, 0.1, 0.1, 0], [1, 0, 0, 0, 0], [0, 0.75, 0, 0.25, 0]])
    shifted = thresholds.recentre(p, threshold=0.3)
    assert np.allclose(shifted.sum(-1), 1)
    assert shifted[0, 1] + shifted[0, 3] == pytest.approx(0.5)
    assert np.array_equal(shifted[1:], p[1:])


def test_components_of_low_score_are_rejected_and_lesions_lose_nothing():
    p = np.zeros((30, 20, 20, 5), np.float32)
    p[2:6, 5:9, 5:9, 1], p[2:6, 5:9, 5:9, 3] = 0.2, 0.4
    p[15:20, 5:9, 5:9, 1] = 0.6
    p[16:19, 6:8, 6:8, 1] = 0.99
    p[25:28, 5:9, 5:9, 2] = 0.9
    p[..., 0] = 1 - p.sum(-1)
    settled = thresholds.apply_threshold(p, threshold=0.5, min_component_score=0.65)
    assert np.allclose(settled.sum(-1), 1)
    whole = settled[..., 1] + settled[..., 3]
    assert whole[:10].max() < 0.5
    assert settled[3, 6, 6, 3] > settled[3, 6, 6, 1] > 0.1
    assert np.array_equal(settled[10:], p[10:])
    assert np.array_equal(thresholds.apply_threshold(p, threshold=0.5, min_component_score=0), p)


def test_a_clear_lesion_is_not_lost_with_the_uncertain_one_it_touches():
    p = np.zeros((40, 20, 20, 5), np.float32)
    p[2:30, 5:15, 5:15, 1] = 0.4
    p[10:16, 7:13, 7:13, 1] = 0.9
    # A peak is not enough: what rises from its level to the peak evenly stays doubtful.
    p[20:29, 6:15, 6:15, 1] = 0.4 + 0.05 * (5 - np.abs(np.arange(-4, 5)))[:, None, None]
    p[..., 0] = 1 - p.sum(-1)
    whole = thresholds.apply_threshold(p, threshold=0.3, min_component_score=0.75)[..., 1]
    called = np.zeros(whole.shape, bool)
    called[10:16, 7:13, 7:13] = True
    assert np.array_equal(whole >= 0.5, called)
    assert (whole[2:30, 5:15, 5:15] > 0.4).all()


def test_a_large_lesion_is_scored_by_its_most_certain_millilitre():
    whole = np.zeros((60, 20, 20), np.float32)
    whole[2:22, 5:15, 5:15], whole[2:12, 5:15, 5:15] = 0.4, 0.9
    whole[40:49, 5:15, 5:15], whole[40:44, 5:15, 5:15] = 0.4, 0.85
    scores = thresholds.score_components(whole, threshold=0.35)
    # 2 mL, half of it certain; 0.9 mL are scored as a whole, and the certain part by itself.
    assert np.allclose(scores[2:22, 5:15, 5:15], 0.9)
    assert np.allclose(scores[44:49, 5:15, 5:15], 0.6)


def test_a_component_at_a_prior_needs_no_score():
    p = np.zeros((40, 20, 20, 5), np.float32)
    p[2:6, 5:9, 5:9, 1] = p[25:29, 5:9, 5:9, 1] = 0.6
    p[..., 0] = 1 - p.sum(-1)
    prior_mask = np.zeros(p.shape[:3], bool)
    prior_mask[8:12, 5:9, 5:9] = True
    whole = thresholds.apply_threshold(p, threshold=0.5, min_component_score=0.8, prior_mask=prior_mask)[..., 1]
    assert whole[2:6, 5:9, 5:9].min() == pytest.approx(0.6)
    assert whole[25:29].max() < 0.5
    prior_mask[8] = False
    assert (
        thresholds.apply_threshold(p, threshold=0.5, min_component_score=0.8, prior_mask=prior_mask)[..., 1].max() < 0.5
    )


# Fusion

AFFINE = np.array([[0, -1, 0, 30], [1, 0, 0, -20], [0, 0, 1, 5], [0, 0, 0, 1.0]])


def lesion(*boxes, shape=(40, 30, 20), label=1, p=0.9):
    data = np.zeros((*shape, 5), np.float32)
    for x, size in boxes:
        data[x : x + size, 10 : 10 + size, 8 : 8 + size, label] = p
    data[..., 0] = 1 - data.sum(-1)
    return Image(data, AFFINE)


def prior_at(*boxes, shape=(40, 30, 20)):
    labels = np.zeros(shape, np.uint8)
    for x, size in boxes:
        labels[x : x + size, 10 : 10 + size, 8 : 8 + size] = 1
    return Image(labels, AFFINE)


def called(image):
    """First voxels and sizes along x of what is called lesion."""
    row = (image.data[..., 1] + image.data[..., 3] >= 0.5).any((1, 2))
    edges = np.flatnonzero(np.diff(np.r_[0, row.astype(int), 0]))
    return [(int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2])]


FUSE = {"touch_mm": 3, "edema_max_mm": 20}
FUSION = {  # detection, re-segmentation, prior -> fused
    "a lesion of the prior comes from re-segmentation": ([(5, 4)], [(6, 3)], [(5, 4)], [(6, 3)]),
    "a new lesion comes from detection": ([(5, 4), (25, 5)], [(5, 4)], [(5, 4)], [(5, 4), (25, 5)]),
    "re-segmentation finds no new lesions": ([], [(5, 4), (25, 5)], [(5, 4)], [(5, 4)]),
    "a lesion that moved a little is still that of the prior": ([], [(11, 4)], [(5, 4)], [(11, 4)]),
    "a lesion far from the prior is not": ([], [(20, 4)], [(5, 4)], []),
    "what detection sees of a lesion of the prior is replaced whole": ([(4, 8)], [(5, 4)], [(5, 4)], [(5, 4)]),
    "what detection alone sees at a prior stays": ([(5, 4)], [], [(5, 4)], [(5, 4)]),
    "a lesion that vanished is absent": ([], [], [(5, 4)], []),
    "lesions of the prior that detection missed are there": ([], [(5, 4)], [(5, 4)], [(5, 4)]),
}


@pytest.mark.parametrize("case", FUSION)
def test_fusion(case):
    detection, resegmentation, prior, expected = FUSION[case]
    fused = segmentation.fuse(lesion(*detection), lesion(*resegmentation), prior_at(*prior), **FUSE)
    assert called(fused) == expected
    assert np.allclose(fused.data.sum(-1), 1)


def in_a_row(**classes):
    """Probabilities along a line of 24 mm: of each class so much at some places, the rest background."""
    data = np.zeros((24, 3, 3, 5), np.float32)
    for number, name in ((1, "enhancing"), (2, "edema"), (3, "necrosis"), (4, "cavity")):
        for start, stop, probability in classes.get(name, ()):
            data[start:stop, ..., number] = probability
    data[..., 0] = 1 - data.sum(-1)
    return Image(data, np.eye(4))


def test_edema_is_drawn_beside_lesions_and_leaves_them_as_they_are():
    fused = in_a_row(enhancing=[(4, 7, 0.9), (7, 8, 0.4)], necrosis=[(5, 6, 0.05)], edema=[(0, 2, 0.6), (18, 20, 0.9)])
    seen = in_a_row(edema=[(2, 11, 0.8), (15, 20, 0.9)])
    drawn = segmentation.draw_edema(fused, seen)
    labels = decide_labels(drawn.data)[:, 1, 1].tolist()
    # Up to the lesion; neither within it, nor where it lies 7 mm from any, nor where only the other network had it.
    assert labels == [0, 0, 2, 2, 1, 1, 1, 2, 2, 2, 2, *13 * [0]]
    assert np.allclose(whole_lesion(drawn.data), whole_lesion(fused.data))
    assert np.allclose(drawn.data.sum(-1), 1)
    assert segmentation.draw_edema(fused, None) is fused


def test_edema_a_little_off_its_lesion_is_its_edema():
    drawn = [segmentation.draw_edema(in_a_row(enhancing=[(2, 5, 0.9)]), in_a_row(edema=[(start, 14, 0.9)]))
             for start in (7, 8)]  # fmt: skip
    assert [(decide_labels(each.data) == EDEMA).any() for each in drawn] == [True, False]


def test_edema_on_another_grid_is_refused():
    other = in_a_row(edema=[(0, 9, 0.9)])
    with pytest.raises(GridMismatchError):
        segmentation.draw_edema(in_a_row(), Image(other.data[:-1], other.affine))


def block(label, *boxes, p=0.9, shape=(40, 30, 20)):
    """Probabilities of a class in boxes: (corner, size) or (corner, size, p)."""
    data = np.zeros((*shape, 5), np.float32)
    for corner, size, *sure in boxes:
        data[tuple(slice(c, c + n) for c, n in zip(corner, size))][..., label] = sure[0] if sure else p
    data[..., 0] = 1 - data.sum(-1)
    return Image(data, np.eye(4))


def accepted(seen, *, inside=None):
    """What of the network's cavities can be some, in a brain that fills the image but for its outermost voxels."""
    if inside is None:
        inside = np.pad(np.ones(np.array(seen.data.shape[:3]) - 2, bool), 1)
    return segmentation.accept_cavities(seen, Image(inside, np.eye(4)))


SEEN = block(CAVITY, ((10, 8, 5), (12, 12, 10)), p=0.97)
BED = accepted(SEEN)


def test_a_cavity_is_drawn_around_lesions_and_leaves_them_as_they_are():
    fused = block(1, ((20, 10, 8), (6, 5, 5)))
    drawn = segmentation.draw_cavities(fused, BED)
    labels = decide_labels(drawn.data)
    lesion = fused.data[..., 1] > 0.5
    assert np.array_equal(labels == CAVITY, (SEEN.data[..., CAVITY] > 0.5) & ~lesion)
    assert np.array_equal(labels == 1, lesion)
    assert np.allclose(drawn.data.sum(-1), 1)
    assert segmentation.draw_cavities(fused, None) is fused
    with pytest.raises(GridMismatchError):
        segmentation.draw_cavities(fused, Image(BED.data[:-1], BED.affine))


def test_in_a_cavity_there_is_no_edema():
    edema = block(2, ((5, 5, 3), (25, 18, 14)))
    drawn = segmentation.draw_edema(segmentation.draw_cavities(block(1, ((24, 10, 8), (4, 5, 5))), BED), edema)
    labels = decide_labels(drawn.data)
    assert np.array_equal(labels == CAVITY, BED.data > 0.5)
    assert (labels == 2).any()
    # Nor where a network that finds lesions had drawn edema.
    assert np.array_equal(decide_labels(segmentation.draw_cavities(edema, BED).data) == CAVITY, labels == CAVITY)


@pytest.mark.parametrize(
    ("box", "drawn"),
    {
        "0.2 mL": (((10, 8, 5), (6, 6, 6)), True),
        "a little less": (((10, 8, 5), (6, 6, 5)), False),
        "not sure": (((10, 8, 5), (8, 8, 8), 0.9), False),
    }.values(),
)
def test_cavities_that_are_small_or_unsure_are_left_out(box, drawn):
    labels = decide_labels(segmentation.draw_cavities(block(1), accepted(block(CAVITY, box, p=0.97))).data)
    assert (labels == CAVITY).any() == drawn


def test_what_does_not_come_near_the_surface_is_a_ventricle():
    deep = block(CAVITY, ((20, 20, 20), (8, 8, 8)), p=0.97, shape=(48, 48, 48))
    inside = np.pad(np.ones((42, 42, 42), bool), 3)
    assert not accepted(deep, inside=inside).data.any()
    inside[:8] = False
    assert (accepted(deep, inside=inside).data > 0.5).sum() == 8**3


def settle(fused, cavities, *, operated=True):
    return segmentation.settle_cavities(fused, cavities, operated=operated, least_mm3=10)


@pytest.mark.parametrize(
    ("start", "doubtful"), {"more than half goes": (18, 1), "half": (19, 0), "none": (22, 0)}.values()
)
@pytest.mark.parametrize("operated", [False, True])
def test_after_surgery_what_lies_in_a_cavity_is_no_lesion(operated, start, doubtful):
    """The cavity ends at 22. What lies beyond is a thin lining, or thick enough to stay."""
    fused = block(1, ((start, 10, 8), (6, 5, 5)), ((2, 2, 2), (3, 3, 3)))
    settled, cavities, count = settle(fused, BED, operated=operated)
    assert count == doubtful
    left = decide_labels(settled.data) == 1
    assert left[2:5, 2:5, 2:5].all()
    beyond = start + 6 - 22
    kept = 25 * beyond if beyond > 2 else 0
    assert left.sum() == 27 + (kept if operated else 150)
    assert not operated or not left[10:22].any()
    assert np.allclose(settled.data.sum(-1), 1)
    assert np.array_equal(cavities.data, BED.data)
    assert (decide_labels(segmentation.draw_cavities(settled, cavities).data)[left] == 1).all()


def test_without_a_cavity_nothing_is_settled():
    fused = block(1, ((18, 10, 8), (6, 5, 5)))
    assert settle(fused, None) == (fused, None, 0)
    assert settle(fused, accepted(block(CAVITY)))[0] is fused
    with pytest.raises(GridMismatchError):
        settle(fused, Image(BED.data[:-1], BED.affine))


def make_cyst(rim, *, opening=0):
    """A core of 12 x 12 x 10 mm with a rim, open to one side over so many of its rows, and what looks like a cavity."""
    corner, size = np.array((10, 8, 5)), np.array((12, 12, 10))
    fused = block(1, (corner - rim, size + 2 * rim))
    core = tuple(slice(c, c + n) for c, n in zip(corner, size))
    fused.data[core] = (0.1, 0, 0, 0.9, 0)
    fused.data[22:, 8 : 8 + opening, 5:15] = (1, 0, 0, 0, 0)
    return fused, BED


@pytest.mark.parametrize(
    ("rim", "opening", "after_surgery"),
    {
        "thick, closed: a core": (4, 0, "lesion"),
        "thick, open: a cavity beside a recurrence": (4, 12, "cavity"),
        "thin, closed: a cavity and its lining": (2, 0, "cavity"),
    }.values(),
)
def test_surgery_decides_between_cyst_and_cavity(rim, opening, after_surgery):
    fused, bed = make_cyst(rim, opening=opening)
    core = bed.data > 0.5
    whole = whole_lesion(fused.data) >= 0.5
    for operated, expected in ((False, "lesion"), (True, after_surgery)):
        settled, cavities, count = settle(fused, bed, operated=operated)
        labels = decide_labels(segmentation.draw_cavities(settled, cavities).data)
        assert (labels[core] == (3 if expected == "lesion" else CAVITY)).all()
        # A thick rim stays, a thin one only with its core.
        rim_stays = np.isin(labels[whole & ~core], (1, 3)).mean()
        assert rim_stays == 1 if expected == "lesion" else (rim_stays > 0.9) == (rim == 4)
        assert count == (rim == 2), "of the others less than half goes"


def test_what_a_lesion_encloses_is_its_core_and_no_cavity():
    for opening, drawn in ((0, False), (12, True)):
        fused, bed = make_cyst(2, opening=opening)
        # Detection leaves the core out.
        fused.data[bed.data > 0.5] = (1, 0, 0, 0, 0)
        labels = decide_labels(segmentation.draw_cavities(fused, bed).data)
        assert (labels == CAVITY).any() == drawn


def test_what_a_lesion_leaves_of_a_cavity_has_to_be_large_enough():
    seen = accepted(block(CAVITY, ((10, 8, 5), (8, 8, 8)), p=0.97))
    for width, drawn in ((4, True), (6, False)):
        fused = block(1, ((10, 4, 2), (width, 16, 14)))
        assert (decide_labels(segmentation.draw_cavities(fused, seen).data) == CAVITY).any() == drawn


def test_without_a_prior_detection_stands():
    detection = lesion((5, 4))
    assert segmentation.fuse(detection, None, None, **FUSE) is detection
    assert called(segmentation.fuse(detection, lesion((20, 4)), prior_at(), **FUSE)) == [(5, 4)]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("parallel", [(6, 3), (25, 5)]),
        ("detection", [(5, 4), (25, 5)]),
        ("resegmentation", [(6, 3), (33, 3)]),
        ("propagation", [(5, 5)]),
    ],
)
def test_a_rule_decides_what_a_follow_up_takes(rule, expected):
    given = {
        "detection": lesion((5, 4), (25, 5)), "resegmentation": lesion((6, 3), (33, 3)), "prior": prior_at((5, 5)),
    }  # fmt: skip
    wanted = fusion.needed(rule, followup=True)
    for kept in (given, wanted):
        inputs = [given[name] if name in kept else None for name in given]
        assert called(segmentation.apply_rule(*inputs, rule=rule, **FUSE)) == expected
    assert fusion.needed(rule, followup=False) == ("detection", "detection_sensitive", "edema", "cavity")
    assert called(segmentation.apply_rule(given["detection"], None, None, rule=rule, **FUSE)) == [
        (5, 4),
        (25, 5),
    ]


def test_propagated_lesions_keep_their_tissue_and_have_no_certainty():
    prior = prior_at((5, 5))
    prior.data[6, 12, 9], prior.data[12:14, 12, 9] = 3, 2
    fused = segmentation.apply_rule(None, None, prior, rule="propagation", **FUSE)
    labels = segmentation.decide_on_grid(fused, prior.grid)[0]
    assert np.array_equal(labels.data, prior.data)
    networks = {"detection": None, "resegmentation": None}
    components, table = segmentation.gather_evidence(labels, fused, networks, limits=LIMITS)
    assert table["detected_by"].tolist() == ["propagation"]
    assert table[["mean_probability", "certainty"]].isna().all(axis=None)
    assert np.array_equal(components.data == 1, np.isin(prior.data, (1, 3)))


def test_edema_comes_from_the_network_of_the_nearest_lesion():
    detection, resegmentation = lesion((5, 4), (25, 4)), lesion((5, 4))
    for image, p in ((detection, 0.3), (resegmentation, 0.8)):
        for x in (10, 23):
            image.data[x, 10:14, 8:12] = [1 - p, 0, p, 0, 0]
    fused = segmentation.fuse(detection, resegmentation, prior_at((5, 4)), **FUSE).data
    assert fused[10, 11, 9, 2] == pytest.approx(0.8)
    assert fused[23, 11, 9, 2] == pytest.approx(0.3)


def test_fusion_refuses_another_grid():
    moved = Image(lesion((5, 4)).data, AFFINE + np.eye(4)[:, [3, 0, 1, 2]] * 0 + np.diag([0.2, 0, 0, 0]))
    with pytest.raises(GridMismatchError):
        segmentation.fuse(lesion((5, 4)), moved, prior_at((5, 4)), **FUSE)


# The decision on the scan's grid


def ball_mm(centre, radius, label=1, shape=(60, 50, 40)):
    """Probabilities of a ball with a soft edge, on a 1 mm grid with its corner at -20, -10, 5."""
    affine = np.diag([1, 1, 1, 1.0])
    affine[:3, 3] = (-20, -10, 5)
    index = np.indices(shape).reshape(3, -1).T + affine[:3, 3]
    distance = np.linalg.norm(index - centre, axis=1).reshape(shape)
    data = np.zeros((*shape, 5), np.float32)
    data[..., label] = np.clip(radius - distance + 0.5, 0, 1)
    data[..., 0] = 1 - data[..., label]
    return Image(data, affine)


def oblique_grid(spacing, shape, middle, degrees=17):
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    flip = np.diag([-1, 1, 1])
    affine = np.eye(4)
    affine[:3, :3] = turn @ flip @ np.diag(spacing)
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


@pytest.mark.parametrize("spacing", [(0.8, 1.1, 1.4), (0.7, 0.9, 3.0), (1, 1, 1)])
def test_a_lesion_keeps_place_and_volume_on_an_oblique_anisotropic_grid(spacing):
    centre = np.array([9.3, 14.2, 24.1])
    shape = tuple(int(60 / s) for s in spacing)
    grid = oblique_grid(spacing, shape, (12, 11, 23))
    labels = segmentation.decide_on_grid(ball_mm(centre, 7), grid)[0]
    assert labels.data.dtype == np.uint8
    assert labels.grid.matches(grid)
    volume = (labels.data == 1).sum() * grid.voxel_volume_mm3
    assert volume == pytest.approx(4 / 3 * np.pi * 7**3, rel=0.04)
    where = np.argwhere(labels.data == 1).mean(0) @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    assert np.abs(where - centre).max() < 0.35


def test_a_lesion_between_the_slices_keeps_the_voxel_at_its_peak():
    grid = Grid((40, 40, 8), np.array([[1, 0, 0, -19.6], [0, 1, 0, -9.7], [0, 0, 6, 5.0], [0, 0, 0, 1]]))
    p = ball_mm((4, 8, 20), 1.2)
    labels = segmentation.decide_on_grid(p, grid)[0]
    assert (labels.data > 0).sum() == 1
    (index,) = np.argwhere(labels.data == 1)
    assert np.abs(index @ grid.affine[:3, :3].T + grid.affine[:3, 3] - (4, 8, 20)).max() <= 3.01


def test_whole_lesion_decides_before_its_parts_do():
    p = ball_mm((4, 8, 20), 5)
    core = p.data[..., 1] > 0
    p.data[core] = [0.4, 0.28, 0.0, 0.32, 0]
    labels = segmentation.decide_on_grid(p, Grid(p.data.shape[:3], p.affine))[0]
    assert (labels.data[core] == 3).all()
    p.data[core] = [0.3, 0.2, 0.35, 0.15, 0]
    assert (segmentation.decide_on_grid(p, Grid(p.data.shape[:3], p.affine))[0].data[core] == 2).all()


def test_no_lesion_and_a_lesion_outside_the_field_of_view_are_no_error():
    empty = ball_mm((4, 8, 20), 0)
    empty.data[..., 0], empty.data[..., 1] = 1, 0
    grid = oblique_grid((1, 1, 2), (30, 30, 20), (400, 0, 0))
    assert segmentation.decide_on_grid(empty, grid)[0].data.max() == 0
    assert segmentation.decide_on_grid(ball_mm((4, 8, 20), 5), grid)[0].data.max() == 0


def test_many_lesions_are_decided_as_each_alone():
    grid = oblique_grid((0.8, 1.1, 2.4), (70, 55, 25), (7, 12, 22))
    a, b = ball_mm((0, 5, 20), 4), ball_mm((12, 20, 26), 3, label=3)
    both = Image(np.where(b.data[..., :1] < 1, b.data, a.data), a.affine)
    alone = np.maximum(segmentation.decide_on_grid(a, grid)[0].data, segmentation.decide_on_grid(b, grid)[0].data)
    assert set(np.unique(alone)) == {0, 1, 3}
    assert np.array_equal(segmentation.decide_on_grid(both, grid)[0].data, alone)


# Certainty

LIMITS = {"all": 0.5, "detection": 0.7, "resegmentation": 0.8}


def evidence(detection, resegmentation, prior, grid=None, limits=LIMITS):
    """Fuse, decide and gather: the components on the grid, and their table."""
    fused = segmentation.fuse(detection, resegmentation, prior, **FUSE)
    labels = segmentation.decide_on_grid(fused, grid or Grid(fused.data.shape[:3], fused.affine))[0]
    networks = {"detection": detection, "resegmentation": resegmentation}
    return segmentation.gather_evidence(labels, fused, networks, limits=limits)


def test_a_lesion_is_confirmed_by_the_limit_of_its_detecting_models():
    def painted(*lesions):
        """Lesions at x, of size 4, with a probability."""
        return Image(sum(lesion((x, 4), p=p).data - lesion().data for x, p in lesions) + lesion().data, AFFINE)

    detection = painted((2, 0.6), (12, 0.6), (27, 0.75))
    resegmentation = painted((2, 0.55), (20, 0.75))
    _, table = evidence(detection, resegmentation, prior_at((2, 4), (20, 4)))
    assert table["detected_by"].tolist() == ["both", "detection", "resegmentation", "detection"]
    # Of two networks the more certain one.
    assert table["mean_probability"].tolist() == pytest.approx([0.6, 0.6, 0.75, 0.75])
    assert table["certainty"].tolist() == ["confirmed", "candidate", "candidate", "confirmed"]
    other = {"all": 0.61, "detection": 0, "resegmentation": 0.74}
    _, table = evidence(detection, resegmentation, prior_at((2, 4), (20, 4)), limits=other)
    assert table["certainty"].tolist() == ["candidate", "confirmed", "confirmed", "confirmed"]


def test_on_a_first_visit_detection_alone_is_asked():
    # All that looked saw it: the limit for what detection sees and re-segmentation does not is not asked for.
    components, table = evidence(lesion((5, 4), p=0.6), None, None)
    assert table[["index", "name", "detected_by", "certainty"]].to_numpy().tolist() == [
        [1, "P001", "detection", "confirmed"]
    ]
    assert np.array_equal(components.data == 1, lesion((5, 4)).data[..., 1] > 0)
    components, table = evidence(lesion(), None, None)
    assert len(table) == 0
    assert not components.data.any()


def test_every_lesion_voxel_on_the_scans_grid_belongs_to_its_component():
    grid = oblique_grid((0.8, 1.1, 2.4), (70, 55, 25), (7, 12, 22))
    a, b = ball_mm((0, 5, 20), 4), ball_mm((12, 20, 26), 1.2, label=3)
    both = Image(np.where(b.data[..., :1] < 1, b.data, a.data), a.affine)
    components, table = evidence(both, None, None, grid)
    assert table["mean_probability"].between(0.7, 1).all()
    for number, alone in enumerate((a, b), start=1):
        labels = segmentation.decide_on_grid(alone, grid)[0].data
        assert np.array_equal(components.data == number, labels > 0)
        assert labels.any()
    # Between thick slices: the one voxel that a vanishing lesion keeps.
    thick = Grid((40, 40, 8), np.array([[1, 0, 0, -19.6], [0, 1, 0, -9.7], [0, 0, 6, 5.0], [0, 0, 0, 1]]))
    components, _ = evidence(ball_mm((4, 8, 20), 1.2), None, None, thick)
    assert (components.data > 0).sum() == 1


def test_what_only_a_sensitive_reading_detects_is_a_candidate():
    """Detection: one lesion, a faint one, a very faint one; the second model: the first one larger, and another."""
    detection = lesion((5, 4))
    for x, p in ((14, 0.3), (20, 0.1)):
        detection.data[x : x + 3, 10:13, 8:11, :2] = [1 - p, p]
    second = lesion((4, 7), (30, 3), p=0.6)
    networks = {"detection": detection, "resegmentation": None}
    for sensitive, level, more in (
        (None, None, []), (None, 0.25, [(14, 3)]), (second, None, [(30, 3)]), (second, 0.25, [(14, 3), (30, 3)]),
    ):  # fmt: skip
        fused = segmentation.add_candidates(detection, detection, sensitive, level=level)
        assert called(fused) == [(5, 4), *more]
        labels = segmentation.decide_on_grid(fused, Grid(fused.data.shape[:3], fused.affine))[0]
        components, table = segmentation.gather_evidence(labels, fused, networks, limits=LIMITS)
        assert table["detected_by"].tolist() == ["detection"] + ["sensitive"] * len(more)
        assert table["certainty"].tolist() == ["confirmed"] + ["candidate"] * len(more)
        # By the network that decides: 0.5 is its threshold.
        expected = [0.9] + [{14: 0.3, 30: 0.0}[x] for x, _ in more]
        assert table["mean_probability"].tolist() == pytest.approx(expected)
        assert (components.data > 0).sum() == 4**3 + 27 * len(more)


CALIBRATED = {"calibration": {"intercept": 1.0, "slope": 2.0}, "limits": LIMITS | {"confirmed": 0.7}}


def odds(p):
    return p / (1 - p)


def test_a_calibrated_model_confirms_by_the_probability_of_being_a_lesion():
    """Worked out by hand: the odds of the mean, squared and times e, are those of being a lesion."""
    detection = lesion((5, 4), p=0.6)
    for x, p in ((14, 0.45), (20, 0.3)):
        detection.data[x : x + 3, 10:13, 8:11, :2] = [1 - p, p]
    fused = segmentation.add_candidates(detection, detection, None, level=0.25)
    labels = segmentation.decide_on_grid(fused, Grid(fused.data.shape[:3], fused.affine))[0]
    networks = {"detection": detection, "resegmentation": None}
    _, table = segmentation.gather_evidence(labels, fused, networks, **CALIBRATED)
    expected = [np.e * odds(p) ** 2 for p in (0.6, 0.45, 0.3)]
    assert odds(table["confidence"]).tolist() == pytest.approx(expected, rel=1e-5)
    # 0.86, 0.65 and 0.33: the last two are found below the threshold, which alone does not make a candidate.
    assert table["certainty"].tolist() == ["confirmed", "candidate", "candidate"]
    lower = CALIBRATED | {"limits": LIMITS | {"confirmed": 0.6}}
    _, table = segmentation.gather_evidence(labels, fused, networks, **lower)
    assert table["certainty"].tolist() == ["confirmed", "confirmed", "candidate"]
    _, table = segmentation.gather_evidence(labels, fused, networks, limits=LIMITS)
    assert table["confidence"].isna().all()


def test_what_resegmentation_misses_needs_its_limit_and_the_calibrated_one():
    def painted(*lesions):
        return Image(sum(lesion((x, 4), p=p).data - lesion().data for x, p in lesions) + lesion().data, AFFINE)

    both = {"detection": painted((2, 0.9), (12, 0.9), (27, 0.55)), "resegmentation": painted((2, 0.9))}
    fused = segmentation.fuse(*both.values(), prior_at((2, 4)), **FUSE)
    labels = segmentation.decide_on_grid(fused, Grid(fused.data.shape[:3], fused.affine))[0]
    found = {}
    for limit in (0.5, 0.95):
        limits = CALIBRATED["limits"] | {"detection": limit, "confirmed": 0.85}
        _, table = segmentation.gather_evidence(labels, fused, both, **CALIBRATED | {"limits": limits})
        found[limit] = table["certainty"].tolist()
    # The last one reaches 0.5 as a mean, and 0.85 not: it is 0.80.
    assert found == {0.5: ["confirmed", "confirmed", "candidate"], 0.95: ["confirmed", "candidate", "candidate"]}


def test_new_lesions_are_as_sure_as_detection_known_ones_as_either():
    detection = lesion((2, 4), (20, 4), p=0.55)
    networks = {"detection": detection, "resegmentation": lesion((2, 4), (20, 4), p=0.95)}
    prior = prior_at((2, 4))
    fused = segmentation.fuse(*networks.values(), prior, **FUSE)
    labels = segmentation.decide_on_grid(fused, prior.grid)[0]
    at_prior = segmentation.near_prior(prior, touch_mm=FUSE["touch_mm"])
    _, table = segmentation.gather_evidence(labels, fused, networks, **CALIBRATED, at_prior=at_prior)
    expected = [np.e * odds(p) ** 2 for p in (0.95, 0.55)]
    assert odds(table["confidence"]).tolist() == pytest.approx(expected, rel=1e-4)
    assert table["detected_by"].tolist() == ["both", "both"]


def test_of_a_large_component_the_most_certain_millilitre_is_calibrated():
    whole = np.full((20, 20, 20), 0.55)
    whole[5:15, 5:15, 5:15] = 0.9
    components = np.ones(whole.shape, int)
    assert thresholds.mean_probabilities(whole, components, 1).tolist() == pytest.approx([0.9])
    assert thresholds.mean_probabilities(whole, np.zeros_like(components), 0).size == 0


def test_a_lower_threshold_lies_where_the_upper_ones_shift_puts_it():
    p = np.array([0.75, 0.25, 0, 0, 0])
    level = thresholds.candidate_level({"threshold": 0.6, "candidate_threshold": 0.25})
    assert thresholds.recentre(p, threshold=0.6)[1] == pytest.approx(level)
    assert thresholds.recentre(thresholds.recentre(p, threshold=0.6), threshold=level)[1] == pytest.approx(0.5)
    assert thresholds.candidate_level({"threshold": 0.6}) is None


def blurred(*balls, shape=(40, 30, 30), spacing=1.0):
    """Probability of whole lesion that falls by 0.1 a mm from 1.0 at a centre; enhancing, of 1 mm voxels or finer."""
    places = np.stack(np.meshgrid(*(np.arange(n) * spacing for n in shape), indexing="ij"), -1)
    p = np.max([1 - np.linalg.norm(places - centre, axis=-1) / 10 for centre in balls], 0).clip(0, 1)
    data = np.stack([1 - p, p, 0 * p, 0 * p, 0 * p], -1).astype(np.float32)
    return Image(data, np.diag([spacing] * 3 + [1.0])), places


def drawn(image):
    return geometry.whole_lesion(image.data) >= 0.5


@pytest.mark.parametrize("spacing", [1.0, 0.8])
def test_a_lesion_reaches_out_to_the_lower_level_and_3_mm_at_most(spacing):
    image, places = blurred((15, 12, 12), spacing=spacing)
    distance = np.linalg.norm(places - (15, 12, 12), axis=-1)
    for level, radius in ((0.5, 5), (0.35, 6.5), (0.1, 8)):
        found = drawn(segmentation.draw_edges(image, level=level, least_mm3=10))
        # Voxels of a ball of 5 mm end up to half a voxel before it: so does the reach of 3 mm beyond them.
        assert (distance[found].max(), distance[~found].min()) == pytest.approx((radius, radius), abs=0.9 * spacing)
    assert segmentation.draw_edges(image, level=0.5, least_mm3=10) is image


def test_what_is_too_small_to_start_a_lesion_does_not_by_its_edge():
    image, _ = blurred((15, 12, 12))
    image.data[:] = [1, 0, 0, 0, 0]
    image.data[14:18, 11:15, 11:15, :2] = [0.6, 0.4]
    image.data[15:17, 12:14, 12:14, :2] = [0.1, 0.9]
    for least, voxels in ((8, 4**3), (8.1, 2**3)):
        assert drawn(segmentation.draw_edges(image, level=0.3, least_mm3=least)).sum() == voxels


def test_edges_lie_where_the_level_is_also_on_a_finer_grid():
    image, _ = blurred((15, 12, 12))
    fine = Grid((80, 60, 60), np.diag([0.5, 0.5, 0.5, 1.0]))
    labels, whole = segmentation.decide_on_grid(segmentation.draw_edges(image, level=0.3, least_mm3=10), fine)
    volume = (labels.data == 1).sum() / 8
    assert volume == pytest.approx(4 / 3 * np.pi * 7**3, rel=0.04)
    assert np.array_equal(whole.data >= 0.5, labels.data == 1)


def test_lesions_do_not_join_and_nothing_is_added_by_drawing_edges():
    image, _ = blurred((12, 12, 12), (24, 12, 12))
    image.data[35:, 25:, 25:, :2] = [0.55, 0.45]  # alone, and not sure enough
    before, two = geometry.label_components(drawn(image))
    after, count = geometry.label_components(drawn(segmentation.draw_edges(image, level=0.3, least_mm3=10)))
    assert two == count == 2
    assert (after > 0).sum() > 2 * (before > 0).sum()
    assert not after[35:].any()
    assert not ((after == 1) & (before == 2) | (after == 2) & (before == 1)).any()


def test_an_edge_does_not_take_in_what_lies_apart():
    image, _ = blurred((15, 12, 12))
    image.data[:] = [1, 0, 0, 0, 0]
    image.data[14:17, 11:14, 11:14, :2] = [0.1, 0.9]
    image.data[18:20, 11:14, 11:14, :2] = [0.6, 0.4]  # 1 mm away
    assert drawn(segmentation.draw_edges(image, level=0.3, least_mm3=10)).sum() == 3**3


def test_certainty_is_asked_of_what_was_found_not_of_its_edge():
    image, _ = blurred((15, 12, 12))
    grid = Grid(image.data.shape[:3], image.affine)
    networks = {"detection": image, "resegmentation": None}
    tables = []
    for level in (0.5, 0.2):
        labels = segmentation.decide_on_grid(segmentation.draw_edges(image, level=level, least_mm3=10), grid)[0]
        components, table = segmentation.gather_evidence(labels, image, networks, limits=LIMITS)
        assert np.array_equal(components.data > 0, labels.data > 0)
        tables.append(table)
    pd.testing.assert_frame_equal(*tables)


def test_no_session_has_to_fit_the_sensitive_model(models_on_disk):
    listed = {"detection": ["t1c"], "detection_sensitive": ["flair"], "resegmentation": ["again"]}
    listed = {task: [models_on_disk / name for name in names] for task, names in listed.items()}
    settings = {"fusion_rule": "detection", "reference": "ce-gadolinium_T1w", "sequences": ["T1w", "T2w", "FLAIR"]}
    table, chosen = choice.choose_models(table_of_sessions(a=[], b=["T1w", "FLAIR"]), listed, **settings)
    assert (table["usable"] == "true").all()
    assert [of["detection_sensitive"] for of in chosen.values()] == [None, models_on_disk / "flair"]
    with pytest.raises(ModelError, match="a model for resegmentation"):
        choice.choose_models(table, listed | {"detection_sensitive": listed["resegmentation"]}, **settings)


def test_candidates_are_no_prior():
    labels, components = prior_at((5, 4), (20, 3)), prior_at((5, 4), (20, 3))
    labels.data[6, 11, 9], labels.data[4, 11, 9], labels.data[19, 11, 9] = 3, 2, 2
    components.data[20:] *= 2
    table = pd.DataFrame({"index": [1, 2], "certainty": ["confirmed", "candidate"]})
    kept = segmentation.remove_candidates(labels, components, table).data
    assert np.array_equal(np.isin(kept, (1, 3)), components.data == 1)
    assert (kept == 3).sum() == 1
    # Edema is nobody's prior, and stays.
    assert (kept == 2).sum() == 2
    nothing = pd.DataFrame({"index": [1, 2], "certainty": ["confirmed", "confirmed"]})
    assert np.array_equal(segmentation.remove_candidates(labels, components, nothing).data, labels.data)


def test_manual_segmentations_are_confirmed():
    drawn = prior_at((5, 4), (20, 3))
    drawn.data[0, 0, 0] = 2
    components, table = segmentation.manual_evidence(drawn)
    assert table[["detected_by", "certainty"]].to_numpy().tolist() == [["manual", "confirmed"]]
    assert np.isnan(table["mean_probability"]).all()
    assert np.array_equal(components.data > 0, drawn.data == 1)
