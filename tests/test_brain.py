import json
import shutil
import sys

import numpy as np
import pytest
from mettrail import brain
from mettrail.errors import GridMismatchError, InputError
from mettrail.images import Grid, Image, canonical_grid, read_image, read_mask, resample
from scipy import ndimage

SETTINGS = {"volume_ml": [900, 2000], "min_fit": 0.6, "hd_bet_weights": "", "device": "cpu", "threads": 2}


def _ball(shape, centre, radius):
    distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(np.indices(shape), centre)))
    return distance <= radius


def _dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.fixture(scope="module")
def atlas_head():
    """The atlas in a drawn head with skull, scalp and neck, tilted, smaller, and off centre; its true brain."""
    t1w, inside = brain._load_atlas(1.0)
    away = ndimage.distance_transform_edt(~inside.data)
    data = np.where(inside.data, t1w.data / t1w.data.max() * 700, 0)
    x, y, z = (g.astype(np.float32) for g in np.indices(data.shape))
    data[(away > 7) & (away < 14)] = 900
    neck = ((x - 98) ** 2 + (y - 100) ** 2 < 55**2) & (z < 18)
    data[neck & ~inside.data] = 500
    turn = np.deg2rad(14)
    world = np.eye(4)
    world[:3, :3] = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    world[:3, :3] *= 1.08
    world[:3, 3] = [20, -35, 15]
    affine = np.eye(4)
    affine[:3, 3] = [-120, -110, -160]
    grid = Grid((220, 240, 230), affine)
    head = resample(Image(data.astype(np.float32), t1w.affine), grid, world=world)
    noise = np.abs(np.random.default_rng(0).normal(0, 15, grid.shape)).astype(np.float32)
    truth = resample(Image(inside.data.astype(np.float32), t1w.affine), grid, world=world).data > 0.5
    return Image(head.data + noise, affine), truth


def test_the_atlas_finds_the_brain_of_a_tilted_head_with_a_neck(atlas_head):
    head, truth = atlas_head
    mask, quality = brain.extract_brain(head, method="atlas", **SETTINGS)
    assert mask.grid.matches(head.grid)
    assert mask.data.dtype == bool
    assert _dice(mask.data, truth) > 0.98
    assert quality["method"] == "atlas"
    assert quality["flags"] == []
    assert quality["fit"] > 0.8
    assert quality["volume_ml"] == pytest.approx(truth.sum() / 1000, rel=0.03)


@pytest.mark.parametrize("fit", [0.3, float("nan")])
def test_a_poor_fit_is_flagged_and_the_mask_is_returned_all_the_same(monkeypatch, fit):
    mask = Image(_ball((150, 150, 150), (75, 75, 75), 65), np.eye(4))
    monkeypatch.setattr(brain, "_by_atlas", lambda head, threads: (mask, fit))
    found, quality = brain.extract_brain(mask.like(np.ones(mask.data.shape)), method="atlas", **SETTINGS)
    assert found is mask
    assert quality["flags"] == ["brain_fit"]
    json.dumps(quality, allow_nan=False)


@pytest.mark.parametrize("radius", [40, 85])
def test_a_volume_no_brain_has_is_flagged(radius):
    scan = Image(_ball((180, 180, 180), (90, 90, 90), radius) * 500.0, np.eye(4))
    _, quality = brain.extract_brain(scan, method="nonzero", **SETTINGS)
    assert quality["flags"] == ["brain_volume"]
    assert quality["fit"] is None


def test_volume_is_counted_in_millilitres_not_voxels():
    scan = Image(_ball((60, 60, 60), (30, 30, 30), 20) * 500.0, np.diag([2.0, 3.0, 4.0, 1.0]))
    _, quality = brain.extract_brain(scan, method="nonzero", **SETTINGS)
    assert quality["volume_ml"] == pytest.approx((scan.data > 0).sum() * 24 / 1000, abs=0.1)


def test_an_extracted_brain_is_taken_with_its_holes_filled_and_crumbs_left_out():
    full = _ball((80, 90, 70), (40, 45, 35), 25)
    data = full * 400.0
    data[38:43, 44:47, 33:36] = 0
    data[3:5, 3:5, 3:5] = 100
    mask, quality = brain.extract_brain(Image(data, np.eye(4)), method="nonzero", **SETTINGS)
    assert np.array_equal(mask.data, full)
    assert quality["method"] == "nonzero"


@pytest.mark.parametrize("how", ["noise everywhere", "cut at the border"])
def test_a_head_is_not_taken_for_an_extracted_brain(how):
    data = _ball((60, 60, 60), (30, 30, 30), 25) * 500.0
    if how == "noise everywhere":
        data += np.random.default_rng(0).random(data.shape) + 0.1
    else:
        data[10:50, 10:50, :30] = 500
    with pytest.raises(InputError, match="a head, not a brain") as caught:
        brain.extract_brain(Image(data, np.eye(4), "scan.nii.gz"), method="nonzero", **SETTINGS)
    assert caught.value.reason == "not_extracted"


@pytest.mark.parametrize("method", ["nonzero", "atlas"])
def test_a_scan_without_a_brain_is_an_error(method):
    data = np.zeros((40, 40, 40), np.float32)
    with pytest.raises(InputError) as caught:
        brain.extract_brain(Image(data, np.eye(4)), method=method, **SETTINGS)
    assert caught.value.reason == "no_brain"


def test_an_unknown_method_is_refused_with_those_there_are():
    with pytest.raises(InputError, match="atlas, hd-bet, nonzero"):
        brain.extract_brain(Image(np.ones((5, 5, 5)), np.eye(4)), method="bet", **SETTINGS)


def test_networks_see_the_mask_grown_by_millimetres():
    affine = np.diag([1.0, 2.0, 4.0, 1.0])
    mask = np.zeros((20, 20, 20), bool)
    mask[10, 10, 10] = True
    out = brain.apply_mask(Image(np.full(mask.shape, 7.0), affine), Image(mask, affine), grow_mm=3)
    kept = np.argwhere(out.data > 0)
    assert kept.min(0).tolist() == [7, 9, 10]
    assert kept.max(0).tolist() == [13, 11, 10]
    exact = brain.apply_mask(Image(np.full(mask.shape, 7.0), affine), Image(mask, affine), grow_mm=0)
    assert np.array_equal(exact.data > 0, mask)


def test_a_mask_of_another_grid_is_refused():
    shifted = np.eye(4)
    shifted[0, 3] = 1
    with pytest.raises(GridMismatchError):
        brain.apply_mask(Image(np.ones((5, 5, 5)), np.eye(4)), Image(np.ones((5, 5, 5), bool), shifted), grow_mm=3)


@pytest.fixture(scope="module")
def bright_net(tmp_path_factory):
    """A folder as HD-BET's release unpacks to, whose network calls brain what is brighter than the mean."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("HD_BET")
    from mettrail.segmentation import cases
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    folder = tmp_path_factory.mktemp("release_2.0.0")
    plans = cases.make_plans(
        "detection", features=[2, 2], convs_encoder=[1, 1], convs_decoder=[1], patch=[32, 32, 32], batch=1
    )
    configuration = plans["configurations"][cases.CONFIGURATION]
    configuration["use_mask_for_norm"] = [False]
    architecture = configuration["architecture"]
    net = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        1,
        2,
        deep_supervision=False,
    )
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith(("bias", "conv.weight")) or "seg_layers" in name:
                parameter.zero_()
        net.encoder.stages[0][0].convs[0].conv.weight[0, 0, 1, 1, 1] = 1
        net.decoder.stages[0].convs[0].conv.weight[0, 2, 1, 1, 1] = 1  # the skipped features come after the others
        net.decoder.seg_layers[-1].weight[1, 0] = 1
    (folder / "fold_all").mkdir()
    torch.save(
        {
            "trainer_name": "nnUNetTrainer",
            "init_args": {"configuration": cases.CONFIGURATION},
            "inference_allowed_mirroring_axes": (0, 1, 2),
            "network_weights": net.state_dict(),
        },
        folder / "fold_all" / "checkpoint_final.pth",
    )
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(
        json.dumps(
            {
                "channel_names": {"0": "T1"},
                "labels": {"background": 0, "brain": 1},
                "numTraining": 1,
                "file_ending": ".nii.gz",
            }
        )
    )
    return folder


def _bright_box():
    data = 1 + np.random.default_rng(0).random((36, 44, 40)).astype(np.float32)
    box = np.zeros(data.shape, bool)
    box[5:14, 10:31, 20:36] = True
    data[box] += 1000
    return Image(data, np.eye(4)), box


@pytest.mark.parametrize("packed", [False, True])
def test_hd_bet_runs_from_weights_given_and_returns_axes_in_order(bright_net, tmp_path, packed):
    import torch

    weights = bright_net
    if packed:
        weights = shutil.make_archive(str(tmp_path / "hd-bet"), "zip", bright_net)
    head, box = _bright_box()
    stdout, threads = sys.stdout, torch.get_num_threads()
    mask, quality = brain.extract_brain(head, method="hd-bet", **{**SETTINGS, "hd_bet_weights": str(weights)})
    assert np.array_equal(mask.data, box)
    assert quality["method"] == "hd-bet"
    assert quality["flags"] == ["brain_volume"]
    assert sys.stdout is stdout
    assert torch.get_num_threads() == threads


def test_hd_bet_leaves_nothing_behind(bright_net, tmp_path, monkeypatch):
    """Neither in the folder it runs in, nor at home, nor in the package."""
    from HD_BET import hd_bet_prediction

    for name in ("here", "home", "scratch"):
        (tmp_path / name).mkdir()
    (tmp_path / "here" / "plans.json").write_text("somebody else's")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(brain.tempfile, "tempdir", str(tmp_path / "scratch"))
    there = hd_bet_prediction.folder_with_parameter_files
    weights = shutil.make_archive(str(tmp_path / "hd-bet"), "zip", bright_net)
    brain.extract_brain(_bright_box()[0], method="hd-bet", **{**SETTINGS, "hd_bet_weights": weights})
    assert [p.name for p in (tmp_path / "here").iterdir()] == ["plans.json"]
    assert not list((tmp_path / "home").iterdir())
    assert not list((tmp_path / "scratch").iterdir())
    assert hd_bet_prediction.folder_with_parameter_files == there


@pytest.mark.parametrize("what", ["nothing", "another zip", "an empty folder"])
def test_hd_bet_without_weights_says_how_to_get_them_and_nothing_takes_over(tmp_path, what):
    pytest.importorskip("torch")
    weights = tmp_path / "hd-bet.zip"
    if what == "another zip":
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "readme").write_text("no weights")
        shutil.make_archive(str(tmp_path / "hd-bet"), "zip", tmp_path / "in")
    elif what == "an empty folder":
        weights.mkdir()
    with pytest.raises(InputError, match="snakemake fetch") as caught:
        brain.extract_brain(_bright_box()[0], method="hd-bet", **{**SETTINGS, "hd_bet_weights": str(weights)})
    assert caught.value.reason == "no_weights"


def test_a_gpu_that_is_not_there_is_not_replaced_by_a_night_on_the_cpu(bright_net, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    settings = {**SETTINGS, "hd_bet_weights": str(bright_net), "device": "cuda"}
    with pytest.raises(InputError, match="no GPU"):
        brain.extract_brain(_bright_box()[0], method="hd-bet", **settings)


@pytest.mark.real
def test_the_atlas_finds_the_brain_of_a_real_head(real_data):
    from mettrail.bias import correct_bias

    head = correct_bias(
        read_image(real_data / "heads" / "sub-0003_T1w.nii.gz"),
        shrink_factor=4,
        iterations=[20, 20],
        spline_distance_mm=200,
        threads=2,
    )
    truth = read_mask(real_data / "heads" / "sub-0003_desc-brain_mask.nii.gz")
    truth = resample(truth, head.grid, order=0).data
    mask, quality = brain.extract_brain(head, method="atlas", **SETTINGS)
    assert _dice(mask.data, truth) > 0.93
    assert quality["flags"] == []


@pytest.mark.real
def test_a_scan_that_ends_below_the_vertex_has_its_brain_found_and_not_its_scalp(real_data):
    """6.5 mm slices, 13 cm in all; the atlas used to be drawn over skull and scalp (2.8 litres)."""
    from mettrail.bias import correct_bias

    folder = real_data / "gbm-followup"
    scan = read_image(next(folder.glob("sub-06/ses-01/anat/*T1w.nii.gz")))
    tumour = read_image(next(folder.glob("derivatives/manual/sub-06/ses-01/anat/*dseg.nii.gz")))
    head = correct_bias(
        resample(scan, canonical_grid(scan.grid, spacing_mm=1.0)),
        shrink_factor=4,
        iterations=[50, 50, 50, 50],
        spline_distance_mm=200,
        threads=2,
    )
    mask, quality = brain.extract_brain(head, method="atlas", **SETTINGS)
    inside = resample(tumour, head.grid, order=0).data > 0
    assert mask.data[inside].mean() > 0.9
    assert "brain_volume" not in quality["flags"]
