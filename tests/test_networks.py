"""The published networks are as large as their papers say, see as far, and answer the same however an image is cut."""

import numpy as np
import pytest
import torch
from conftest import settings_of
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from mettrail import segmentation
from mettrail.errors import InputError, ModelError
from mettrail.networks import deepmedic, googlenet, two_stage
from mettrail.segmentation import models
from mettrail.study import methods
from mettrail.training.cases import plan_network
from torch.utils.flop_counter import FlopCounterMode

T1C, SEQUENCES = "ce-gadolinium_T1w", ("ce-gadolinium_T1w", "T1w", "T2w", "FLAIR")
# DenseNet halves a patch five times.
SMALL = {"width": 0.1, "patch_vox": 32, "batch": 2, "steps": 2}


def sizes(**changes):
    """All networks of one size."""
    settings = settings_of("compare")
    each = dict.fromkeys(settings["sizes"], SMALL | changes)
    return methods.read_sizes(settings | {"sizes": each, "input_seeds": 1})


def gmacs(network, *shape, answer=False):
    """10^9 multiplications and additions, counted without computing."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        (network.answer if answer else network)(torch.empty(shape))
    return counter.get_total_flops() / 2e9


def on_meta(build):
    with torch.device("meta"):
        return build().eval()


def count(network):
    return sum(p.numel() for p in network.parameters())


def test_detector_and_segmenter_cost_what_their_paper_says():
    """Sadegheih & Merhof 2024, table 3: 7 GMACs for the detector of a 64^3 patch, about 60 with the segmenter."""
    network = on_meta(lambda: two_stage.TwoStage(3))
    detector = gmacs(network.detector, 1, 3, 64, 64, 64)
    assert detector == pytest.approx(7, abs=0.5)
    assert detector + gmacs(network.segmenter, 1, 3, 64, 64, 64) == pytest.approx(60, abs=2)


def test_what_a_million_voxels_cost_at_the_published_widths():
    """nnU-Net's U-Net and the 2.5-D network, tiles without overlap: fewer parameters are more operations."""
    known = methods.list_methods(sizes(width=1, patch_vox=128), sequences=SEQUENCES)
    arguments = known["unet"].architecture["arch_kwargs"]
    features = {name: arguments[name] for name in ("n_stages", "features_per_stage", "kernel_sizes", "strides")}
    blocks = {"n_conv_per_stage": [2] * 6, "n_conv_per_stage_decoder": [2] * 5, "conv_op": torch.nn.Conv3d}
    kinds = {"norm_op": torch.nn.InstanceNorm3d, "nonlin": torch.nn.LeakyReLU}
    volumes = on_meta(lambda: PlainConvUNet(1, num_classes=4, **features, **blocks, **kinds))
    slices = on_meta(lambda: googlenet.GoogLeNet25d(4, 2))
    assert (count(volumes) / 1e6, count(slices) / 1e6) == pytest.approx((31.2, 6.1), abs=0.05)
    per_volume = gmacs(volumes, 1, 1, 128, 128, 128) / (128**3 / 1e6)
    per_slice = gmacs(slices, 1, 4, 16, 256, 256) / (16 * 256**2 / 1e6)
    assert (per_volume, per_slice) == pytest.approx((228, 1201), abs=1)


def test_the_published_width_is_the_preset_of_width_one():
    known = methods.list_methods(sizes(width=1, patch_vox=64), sequences=SEQUENCES)
    arguments = {name: dict(known[name].architecture["arch_kwargs"]) for name in ("deepmedic_plus_0.5", "two_stage")}
    assert tuple(arguments["deepmedic_plus_0.5"]["features"]) == deepmedic.FEATURES
    assert tuple(arguments["two_stage"]["features"]) == two_stage.FEATURES
    assert arguments["two_stage"]["detector_features"] == 64


def test_deepmedic_has_three_paths_and_one_for_the_prior_image():
    plain = on_meta(lambda: deepmedic.DeepMedic(1, 2))
    plus = on_meta(lambda: deepmedic.DeepMedic(2, 2, prior_path=1))
    assert [path.layers[0].convolve.in_channels for path in plain.paths] == [1, 1, 1]
    assert [path.layers[0].convolve.in_channels for path in plus.paths] == [1, 1, 1, 1]
    # Nine layers of 30 to 110 feature maps each, as in the configuration of its authors.
    assert [layer.convolve.out_channels for layer in plus.paths[3].layers] == list(range(30, 111, 10))
    assert count(plus) > count(plain)


@pytest.mark.parametrize(("distance", "seen"), [(9, True), (10, False)])
def test_the_path_at_full_resolution_sees_nineteen_voxels(distance, seen):
    torch.manual_seed(1)
    path = deepmedic.DeepMedic(1, 2, features=[4] * 9, hidden=[4, 4]).eval().paths[0]
    image = torch.randn(1, 1, 19, 19, 23)
    changed = image.clone()
    changed[0, 0, 9, 9, 11 + distance] += 5
    with torch.no_grad():
        before, after = (path(each, 1, (1, 1, 5))[0, :, 0, 0, 2] for each in (image, changed))
    assert bool((before != after).any()) == seen


def test_a_prior_image_goes_into_its_own_path_alone():
    torch.manual_seed(1)
    network = deepmedic.DeepMedic(2, 2, features=[4] * 9, hidden=[8, 8], prior_path=1).eval()
    image = torch.randn(1, 2, 9, 9, 9)
    seen = []
    for path in network.paths:
        path.register_forward_hook(lambda _, given, __: seen.append(given[0].clone()))
    with torch.no_grad():
        network(image)
        image[:, 1] = 0
        network(image)
    before, after = seen[:4], seen[4:]
    assert all(torch.equal(a, b) for a, b in zip(before[:3], after[:3], strict=True))
    assert not torch.equal(before[3], after[3])


def test_googlenet_is_inception_v1_without_two_of_its_poolings():
    """Szegedy et al. 2015, table 1: feature maps after each block; Grøvik et al. 2020 keep a quarter of the size."""
    network = on_meta(lambda: googlenet.GoogLeNet25d(4, 2))
    after = [module.features for module in network.features if isinstance(module, googlenet.Inception)]
    assert after == [256, 480, 512, 512, 512, 528, 832, 832, 1024]
    assert sum(isinstance(module, torch.nn.MaxPool2d) for module in network.features) == 2
    planes = torch.empty(1, 28, 64, 48, device="meta")
    assert network.features(planes).shape[-2:] == (16, 12)
    assert network.of_slices(planes).shape == (1, 64, 48)


def test_a_slice_is_segmented_from_seven():
    torch.manual_seed(1)
    network = googlenet.GoogLeNet25d(1, 2, width=0.05).eval()
    image = torch.randn(1, 1, 15, 16, 16)
    with torch.no_grad():
        before = network(image)
        image[0, 0, 7] += 3
        after = network(image)
    changed = [z for z in range(15) if not torch.equal(before[0, :, z], after[0, :, z])]
    assert changed == list(range(4, 11))


def test_regions_and_labels_are_one_another():
    labels = torch.tensor([[0, 1, 2, 3]])
    odds = torch.where(two_stage.regions_of(labels), 20.0, -20.0)
    assert two_stage.classes_of(odds).argmax(1).tolist() == labels.tolist()
    assert torch.allclose(two_stage.classes_of(odds).exp().sum(1), torch.ones(1, 4))


def write(folder, name, *, tile=None, **changes):
    """A method's model folder with random weights."""
    torch.manual_seed(3)
    method = methods.list_methods(sizes(), sequences=SEQUENCES)[name]
    plans = plan_network(
        method.architecture,
        name="Dataset100_test",
        normalisation=[segmentation.normalisation.name_in_plans(each) for each in method.normalisation],
        patch=tile or method.tile,
        batch=1,
    )
    network = segmentation.architectures.build_from_plans(
        plans, "3d_fullres", channels=len(method.channels), outputs=len(method.labels), path=folder
    )
    for parameter in network.parameters():
        if parameter.dim() > 1:
            torch.nn.init.kaiming_normal_(parameter)
    description = {
        "task": method.task, "input": "brain", "channels": list(method.channels), "configuration": "3d_fullres",
        "optional_channels": list(method.optional), "spacing_mm": [1, 1, 1], "normalisation": method.normalisation,
        "mirror_axes": [], "tile": list(tile or method.tile), "threshold": 0.5, "min_component_score": 0,
        "trained_on": "nothing", "licence": "none",
    }  # fmt: skip
    names = {str(n): "noNorm" if channel == "prior" else channel for n, channel in enumerate(method.channels)}
    dataset = {"channel_names": names, "labels": dict(method.labels), "file_ending": ".nii.gz"}
    return models.write_model(
        folder, network, plans=plans, dataset=dataset, description=description | changes, card="# test\n", half=False
    )


def channels_of(model, shape=(34, 30, 31), seed=0):
    rng = np.random.default_rng(seed)
    arrays = {}
    for name in model.channels:
        arrays[name] = rng.uniform(50, 150, shape).astype(np.float32)
        if name == "prior":
            arrays[name] = np.zeros(shape, np.float32)
    return arrays


def predict(model, channels, **changes):
    return segmentation.predict_probabilities(
        model, channels, **{"within": None, "device": "cpu", "threads": 1} | changes
    )


ALL = ("deepmedic", "deepmedic_channel", "deepmedic_plus_0.5", "two_stage", "googlenet", "unet_prior_t2w")


@pytest.mark.parametrize("name", ALL)
def test_every_published_network_keeps_the_contract(tmp_path, name):
    model = write(tmp_path / "model", name)
    p = predict(model, channels_of(model))
    assert p.shape == (34, 30, 31, 5)
    assert np.allclose(p.sum(-1), 1, atol=1e-4)
    assert np.isfinite(p).all()


def test_the_25d_network_answers_the_same_for_few_slices_and_many(tmp_path):
    few, many = (write(tmp_path / str(n), "googlenet", tile=[n, 256, 256]) for n in (3, 11))
    channels = channels_of(few)
    assert np.allclose(predict(few, channels), predict(many, channels), atol=1e-5)


def test_deepmedic_answers_the_same_in_blocks_of_any_size(tmp_path):
    """Multiples of its subsampling; the rim of a block may differ, for one layer is padded."""
    small, large = (write(tmp_path / str(n), "deepmedic", tile=[n] * 3) for n in (15, 45))
    channels = channels_of(small, shape=(31, 30, 31))
    a, b = predict(small, channels)[..., 1], predict(large, channels)[..., 1]
    inner = np.zeros(a.shape, bool)
    inner[tuple(np.ix_(*[[i for i in range(n) if 0 < i % 15 < 14] for n in a.shape[::-1]]))[::-1]] = True
    assert np.allclose(a[inner], b[inner], atol=1e-4)


def test_what_the_detector_calls_empty_is_never_segmented(tmp_path, monkeypatch):
    model = write(tmp_path / "model", "two_stage")
    segmented = []
    plain = two_stage.TwoStage.segment
    monkeypatch.setattr(two_stage.TwoStage, "segment", lambda net, x: segmented.append(x.shape) or plain(net, x))
    monkeypatch.setattr(two_stage.TwoStage, "find", lambda net, x: torch.zeros(len(x), dtype=torch.bool))
    p = predict(model, channels_of(model))
    # The sketch that checks the plans is the only one.
    assert {shape[0] for shape in segmented} <= {1}
    assert all(shape[2:] == torch.Size(model.tile) for shape in segmented)
    assert (p[..., 0] > 0.99).all()


def test_a_tile_without_a_finding_does_not_outvote_one_with(tmp_path, monkeypatch):
    """Tiles overlap: a lesion at the edge of one is whole in the next."""
    model = write(tmp_path / "model", "two_stage")
    calls = []

    def find(net, patches):
        calls.append(not patches.is_meta)
        return torch.full((len(patches),), sum(calls) == 2)

    def segment(net, patches):
        logits = torch.zeros(len(patches), 4, *patches.shape[2:])
        logits[:, 1] = 9
        return logits

    monkeypatch.setattr(two_stage.TwoStage, "find", find)
    monkeypatch.setattr(two_stage.TwoStage, "segment", segment)
    monkeypatch.setattr(models.Model, "read_weights", lambda m: [m.build_network().state_dict()])
    p = predict(model, channels_of(model, shape=(50, 34, 33)))
    called = p[..., 1] > 0.99
    assert called.sum() == 32**3, "the whole of the one tile in which something was found"
    assert (p[..., 0][~called] > 0.99).all()


def test_zeros_stand_for_the_prior_image_of_a_first_visit(tmp_path):
    model = write(tmp_path / "model", "deepmedic_plus_0.5")
    channels = channels_of(model)
    without = {T1C: channels[T1C]}
    zeros = predict(model, without | {"prior_image": np.zeros_like(channels[T1C])})
    assert np.array_equal(predict(model, without), zeros)
    assert not np.allclose(predict(model, channels), zeros)


def test_a_prior_image_beyond_this_scan_is_not_looked_at(tmp_path):
    model = write(tmp_path / "model", "deepmedic_plus_0.5")
    channels = channels_of(model)
    channels[T1C][:8] = 0
    beyond = channels | {"prior_image": np.where(channels[T1C] == 0, 0, channels["prior_image"])}
    assert np.array_equal(predict(model, channels), predict(model, beyond))


def test_slices_are_equalised_for_the_network_that_was_trained_so(tmp_path):
    model = write(tmp_path / "model", "googlenet")
    channels = channels_of(model)
    brighter = {name: array**2 for name, array in channels.items()}
    assert np.allclose(predict(model, channels), predict(model, brighter), atol=1e-5), "ranks are what counts"
    other = write(tmp_path / "other", "deepmedic")
    channels = channels_of(other)
    assert not np.allclose(predict(other, channels), predict(other, {T1C: channels[T1C] ** 2}), atol=1e-3)


def test_a_scan_thinner_than_the_slices_that_are_seen_at_once_is_refused(tmp_path):
    model = write(tmp_path / "model", "googlenet")
    with pytest.raises(InputError, match=r"(?s)5 slices.*7"):
        predict(model, channels_of(model, shape=(30, 30, 5)))


def test_plans_that_name_another_normalisation_are_refused(tmp_path):
    with pytest.raises(ModelError, match="normalisation"):
        write(tmp_path / "model", "googlenet", normalisation=["ZScoreNormalization"] * 4)


def test_sequences_that_the_cohort_lacks_are_named_at_once():
    known = methods.list_methods(sizes(), sequences=[T1C, "FLAIR"])
    with pytest.raises(InputError, match=r"(?s)googlenet.*no session with T1w, T2w"):
        methods.choose_methods(known, ["googlenet"], sequences=[T1C, "FLAIR"])
    # Zeros may stand for it.
    assert methods.choose_methods(known, ["unet_t2w"], sequences=[T1C, "FLAIR"])
    with pytest.raises(InputError, match="no_such"):
        methods.choose_methods(known, ["no_such"], sequences=[T1C])


def test_every_combination_of_sequences_is_studied():
    known = methods.list_methods(sizes(), sequences=SEQUENCES)
    assert len([name for name in known if name.startswith("inputs_")]) == 15
    assert "inputs_T1c-T1w-T2w-FLAIR_seed1" in known
