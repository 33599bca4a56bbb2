import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from mettrail import brain, cohort, schema
from mettrail.bias import correct_bias, foreground
from mettrail.errors import GridMismatchError, InputError
from mettrail.images import Grid, Image, canonical_grid, read_image, read_mask, resample
from mettrail.response import rano
from mettrail.response.rules import Rules
from mettrail.template import load_template
from mettrail.tracking import matching
from scipy import ndimage

# How a method is run, and with the limits.
RUN = {"hd_bet_weights": "", "device": "cpu", "threads": 2}
LIMITS = {"volume_warn_ml": [900, 2000], "volume_fail_ml": [700, 2200], "fit_warn": 0.8, "fit_fail": 0.7}
SETTINGS = RUN | LIMITS


def extract_with(head, **settings):
    """Extract a brain with all settings by name, as the config file has them."""
    threads = settings.pop("threads")
    return brain.extract_brain(head, brain.Settings(**settings), threads=threads)


def _ball(shape, centre, radius):
    distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(np.indices(shape), centre)))
    return distance <= radius


def _dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.fixture(scope="module")
def atlas_head():
    """The atlas in a drawn head with skull, scalp and neck, tilted, smaller, and off centre; its true brain."""
    t1w, inside = load_template(1.0)
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
    mask = brain.find_brain(head, "atlas", **RUN)
    assert mask.grid.matches(head.grid)
    assert mask.data.dtype == bool
    assert _dice(mask.data, truth) > 0.98
    assert mask.data.sum() == pytest.approx(truth.sum(), rel=0.03)


def test_the_atlas_tells_a_brain_from_what_is_not_one(atlas_head):
    """The true mask, and what masks of real scans have been: over skull and scalp, a part of the brain."""
    head, truth = atlas_head
    top = np.flatnonzero(truth.any((0, 1)))[-1]
    vertex, side = truth.copy(), truth.copy()
    vertex[:, :, top - 35 :] = False
    side[: truth.shape[0] // 2] = False
    good = brain.atlas_fit(head, Image(truth, head.affine))
    assert good > 0.9
    for bad in (ndimage.binary_dilation(truth, iterations=15), vertex, side):
        assert brain.atlas_fit(head, Image(bad, head.affine)) < good - 0.05


def test_a_scan_that_ends_within_the_brain_fits_no_worse_for_it(atlas_head):
    head, truth = atlas_head
    top = np.flatnonzero(truth.any((0, 1)))[-1]
    cut, mask = head.data[:, :, : top - 35], truth[:, :, : top - 35]
    assert brain.atlas_fit(Image(cut, head.affine), Image(mask, head.affine)) > 0.85


def test_a_mask_of_nothing_has_no_fit():
    nothing = Image(np.zeros((30, 30, 30), bool), np.eye(4))
    assert np.isnan(brain.atlas_fit(nothing.like(np.ones((30, 30, 30))), nothing))


@pytest.fixture
def methods(monkeypatch):
    """Let methods draw boxes of so many millilitres that have such a fit; returns what extract_brain makes of them."""

    def extract(method, masks, *, limits=LIMITS):
        drawn = {name: _box(volume) for name, (volume, _) in masks.items()}
        fits = dict(masks.values())
        monkeypatch.setattr(brain, "find_brain", lambda head, name, **_: drawn[name])
        monkeypatch.setattr(brain, "atlas_fit", lambda head, mask: fits[int(mask.data.sum()) // 1000])
        head = Image(np.ones((100, 100, 400), np.float32), np.eye(4), "scan.nii.gz")
        mask, quality = extract_with(head, method=method, **RUN, **limits)
        json.dumps(quality, allow_nan=False)
        assert mask.data.sum() / 1000 == quality["volume_ml"]
        return quality

    return extract


def _box(volume_ml):
    data = np.zeros((100, 100, 400), bool)
    data[:, :, : volume_ml // 10] = True
    return Image(data, np.eye(4))


def test_a_sound_mask_is_kept_and_compared_with_another_method(methods):
    quality = methods("deepbet", {"deepbet": (1400, 0.9), "atlas": (1000, 0.85)})
    assert quality == {
        "status": "ok", "flags": [], "method": "deepbet", "volume_ml": 1400, "fit": 0.9,
        "other_method": "atlas", "other_volume_ml": 1000, "other_fit": 0.85, "overlap": 0.833,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("volume", "fit", "flags"),
    [
        (2100, 0.9, ["brain_volume"]),
        (800, 0.9, ["brain_volume"]),
        (1400, 0.75, ["brain_fit"]),
        (2100, 0.75, ["brain_volume", "brain_fit"]),
        (900, 0.8, []),
        (2000, 0.8, []),
    ],
)
def test_between_the_limits_a_mask_is_kept_and_flagged(methods, volume, fit, flags):
    quality = methods("deepbet", {"deepbet": (volume, fit), "atlas": (1300, 0.95)})
    assert (quality["method"], quality["flags"]) == ("deepbet", flags)
    assert quality["status"] == ("warn" if flags else "ok")


@pytest.mark.parametrize(("volume", "fit"), [(3180, 0.9), (690, 0.9), (1400, 0.19), (1400, float("nan")), (0, 0.9)])
@pytest.mark.parametrize(("first", "second"), [("deepbet", "atlas"), ("atlas", "deepbet"), ("hd-bet", "atlas")])
def test_a_mask_beyond_the_limits_is_replaced_by_the_other_method(methods, first, second, volume, fit):
    quality = methods(first, {first: (volume, fit), second: (1500, 0.9)})
    assert (quality["method"], quality["volume_ml"], quality["fit"]) == (second, 1500, 0.9)
    assert (quality["other_method"], quality["other_volume_ml"]) == (first, volume)
    assert (quality["status"], quality["flags"]) == ("warn", ["brain_replaced"])


def test_where_no_method_is_better_the_session_fails_with_the_first_mask(methods):
    quality = methods("atlas", {"atlas": (3180, 0.19), "deepbet": (2600, 0.3)})
    assert (quality["status"], quality["method"], quality["volume_ml"]) == ("fail", "atlas", 3180)
    assert quality["flags"] == ["brain_volume", "brain_fit"]


def test_brains_given_as_extracted_are_neither_judged_nor_compared(methods):
    limits = LIMITS | {"volume_warn_ml": [40, 90], "volume_fail_ml": [30, 100]}
    quality = methods("nonzero", {"nonzero": (60, 0.0)}, limits=limits)
    assert quality == {"status": "ok", "flags": [], "method": "nonzero", "volume_ml": 60, "fit": None}
    assert methods("nonzero", {"nonzero": (120, 0.0)}, limits=limits)["status"] == "fail"


def test_a_scan_in_which_no_method_sees_a_brain_is_an_error(methods):
    with pytest.raises(InputError, match="no brain \\(deepbet or atlas\\)") as caught:
        methods("deepbet", {"deepbet": (0, float("nan")), "atlas": (0, float("nan"))})
    assert caught.value.reason == "no_brain"


@pytest.mark.parametrize("method", ["deepbet", "atlas", "hd-bet"])
def test_a_brain_extracted_already_is_recognised_and_taken_as_it_is(monkeypatch, method):
    t1w, inside = load_template(1.0)
    monkeypatch.setattr(brain, "find_brain", None)
    mask, quality = extract_with(t1w, method=method, **SETTINGS)
    assert np.array_equal(mask.data, inside.data)
    assert (quality["method"], quality["flags"], quality["status"]) == ("nonzero", ["brain_stripped"], "warn")
    assert quality["fit"] > 0.99
    assert "overlap" not in quality


def test_a_head_without_background_is_not_taken_for_an_extracted_brain(atlas_head, monkeypatch):
    head, truth = atlas_head
    monkeypatch.setattr(brain, "find_brain", lambda head, name, **_: head.like(truth))
    head = head.like(np.where(head.data > 60, head.data, 0))
    _, quality = extract_with(head, method="deepbet", **SETTINGS)
    assert quality["method"] == "deepbet"
    assert "brain_stripped" not in quality["flags"]


@pytest.fixture
def bright_deepbet(monkeypatch):
    """deepbet with networks that call brain what is brighter than the mean; returns the threads they ran with."""
    deepbet = pytest.importorskip("deepbet")
    import torch

    threads = []

    class Networks:
        def __init__(self, no_gpu):
            assert no_gpu, "the device is the setting's, not the package's choice"
            self.model = self.bbox_model = torch.nn.Identity()

        def run_model(self, data):
            threads.append(torch.get_num_threads())
            if data.max() == 0:
                raise AssertionError("Not enough foreground to calculate bounding box")
            return (data > data.mean()).astype(np.float32)

        def postprocess(self, inside):
            return inside

    monkeypatch.setattr(deepbet, "BrainExtraction", Networks)
    return threads


def test_deepbet_is_given_the_scan_and_returns_axes_in_order(bright_deepbet):
    import torch

    head, box = _bright_box()
    before = torch.get_num_threads()
    assert np.array_equal(brain.find_brain(head, "deepbet", **RUN | {"threads": 1}).data, box)
    assert bright_deepbet == [1]
    assert torch.get_num_threads() == before


def test_a_scan_in_which_deepbet_sees_nothing_gives_an_empty_mask(bright_deepbet):
    mask = brain.find_brain(Image(np.zeros((20, 20, 20)), np.eye(4)), "deepbet", **RUN)
    assert mask.data.dtype == bool
    assert not mask.data.any()


def test_without_deepbet_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepbet", None)
    with pytest.raises(InputError, match="make setup") as caught:
        brain.find_brain(Image(np.ones((5, 5, 5)), np.eye(4)), "deepbet", **RUN)
    assert caught.value.reason == "not_installed"


def test_sessions_whose_mask_failed_give_nobody_their_space(tmp_path):
    names = []
    for n, status in enumerate(["fail", "ok", "warn", "fail"]):
        (tmp_path / f"{n}.json").write_text(json.dumps({"status": status}))
        names.append(str(tmp_path / f"{n}.json"))
    assert brain.sound_positions(names, names, names) == [1, 2]
    assert brain.sound_positions([], [], []) == []


def _session(quality, **row):
    row = {"sub": "A", "ses": "1", "order": "1", "days": "0", "usable": "true", "reason": "n/a", "flags": "n/a"} | row
    found = matching.describe_session(
        row, totals={}, quality={"status": "ok"}, reference="ce-gadolinium_T1w", reference_session="ses-1",
        brain=quality,
    )  # fmt: skip
    row |= dict.fromkeys(cohort.CLINICAL, "n/a")
    return found, cohort.describe_sessions([row], [{"session_id": "ses-1", "session": found}])


BAD = {
    "status": "fail", "flags": ["brain_volume", "brain_fit"], "method": "deepbet", "volume_ml": 3184.2, "fit": 0.19,
    "other_method": "atlas", "other_volume_ml": 2613.0, "other_fit": 0.3, "overlap": 0.7, "bright_share": 0.01,
}  # fmt: skip


def test_a_session_whose_mask_failed_is_not_evaluable_and_says_why():
    found, _ = _session(BAD)
    assert (found["evaluable"], found["ne_reason"]) == (False, "brain_mask")
    found, _ = _session(BAD | {"status": "warn"})
    assert (found["evaluable"], found["ne_reason"]) == (True, None)
    found, _ = _session(BAD, contrast="false")
    assert found["ne_reason"] == "no_contrast"


@pytest.mark.parametrize("flags", ["n/a", "same_date"])
def test_what_is_known_of_the_mask_reaches_the_table_of_sessions(flags):
    _, sessions = _session(BAD, flags=flags)
    who = {"participant_id": "sub-A", "treatment_start_day": "n/a"}
    settings = yaml.safe_load((Path(__file__).parents[1] / "config" / "config.yaml").read_text())
    rules = Rules.of(rano=settings["rano"], volume=settings["volume"])
    _, table, _ = rano.assess_patient(pd.DataFrame(), sessions, who, rules=rules)
    row = table.iloc[0]
    assert [row[name] for name in schema.BRAIN] == ["deepbet", 3184.2, 0.19, 2613.0, 0.7, 0.01]
    assert (row["evaluable"], row["ne_reason"]) == (False, "brain_mask")
    assert {"brain_volume", "brain_fit"} <= set(row["flags"].split(";"))
    assert ("same_date" in row["flags"]) == (flags == "same_date")


@pytest.mark.parametrize("radius", [40, 85])
def test_a_volume_no_brain_has_is_flagged(radius):
    scan = Image(_ball((180, 180, 180), (90, 90, 90), radius) * 500.0, np.eye(4))
    _, quality = extract_with(scan, method="nonzero", **SETTINGS)
    assert quality["flags"] == ["brain_volume"]
    assert quality["status"] == "fail"


def test_volume_is_counted_in_millilitres_not_voxels():
    scan = Image(_ball((60, 60, 60), (30, 30, 30), 20) * 500.0, np.diag([2.0, 3.0, 4.0, 1.0]))
    _, quality = extract_with(scan, method="nonzero", **SETTINGS)
    assert quality["volume_ml"] == pytest.approx((scan.data > 0).sum() * 24 / 1000, abs=0.1)


def test_an_extracted_brain_is_taken_filled_and_without_satellites():
    full = _ball((80, 90, 70), (40, 45, 35), 25)
    data = full * 400.0
    data[38:43, 44:47, 33:36] = 0
    data[3:5, 3:5, 3:5] = 100
    mask, quality = extract_with(Image(data, np.eye(4)), method="nonzero", **SETTINGS)
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
        extract_with(Image(data, np.eye(4), "scan.nii.gz"), method="nonzero", **SETTINGS)
    assert caught.value.reason == "not_extracted"


@pytest.mark.parametrize("method", ["nonzero", "atlas", "deepbet"])
def test_a_scan_without_a_brain_is_an_error(method):
    data = np.zeros((40, 40, 40), np.float32)
    with pytest.raises(InputError) as caught:
        extract_with(Image(data, np.eye(4)), method=method, **SETTINGS)
    assert caught.value.reason == "no_brain"


def test_an_unknown_method_is_refused_with_those_there_are():
    with pytest.raises(InputError, match="deepbet, atlas, hd-bet, nonzero"):
        extract_with(Image(np.ones((5, 5, 5)), np.eye(4)), method="bet", **SETTINGS)


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
    from mettrail.training import cases
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
    mask = brain.find_brain(head, "hd-bet", **{**RUN, "hd_bet_weights": str(weights)})
    assert np.array_equal(mask.data, box)
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
    brain.find_brain(_bright_box()[0], "hd-bet", **{**RUN, "hd_bet_weights": weights})
    assert [p.name for p in (tmp_path / "here").iterdir()] == ["plans.json"]
    assert not list((tmp_path / "home").iterdir())
    assert not list((tmp_path / "scratch").iterdir())
    assert hd_bet_prediction.folder_with_parameter_files == there


@pytest.mark.parametrize("what", ["nothing", "another zip", "an empty folder"])
def test_hd_bet_without_weights_says_how_to_get_them_and_stops(tmp_path, what):
    pytest.importorskip("torch")
    weights = tmp_path / "hd-bet.zip"
    if what == "another zip":
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "readme").write_text("no weights")
        shutil.make_archive(str(tmp_path / "hd-bet"), "zip", tmp_path / "in")
    elif what == "an empty folder":
        weights.mkdir()
    with pytest.raises(InputError, match="snakemake fetch") as caught:
        extract_with(_bright_box()[0], method="hd-bet", **{**SETTINGS, "hd_bet_weights": str(weights)})
    assert caught.value.reason == "no_weights"


def test_a_gpu_that_is_not_there_is_not_replaced_by_a_night_on_the_cpu(bright_net, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    settings = {**SETTINGS, "hd_bet_weights": str(bright_net), "device": "cuda"}
    with pytest.raises(InputError, match="no GPU"):
        extract_with(_bright_box()[0], method="hd-bet", **settings)


def _debiased(path, iterations=(20, 20)):
    scan = read_image(path)
    return correct_bias(scan, shrink_factor=4, iterations=list(iterations), spline_distance_mm=200, threads=2)


@pytest.mark.real
@pytest.mark.parametrize("method", ["deepbet", "atlas"])
def test_the_brain_of_a_real_head_is_found(real_data, method):
    head = _debiased(real_data / "heads" / "sub-0003_T1w.nii.gz")
    truth = read_mask(real_data / "heads" / "sub-0003_desc-brain_mask.nii.gz")
    mask = brain.find_brain(head, method, **RUN)
    assert _dice(mask.data, resample(truth, head.grid, order=0).data) > 0.93
    assert brain.atlas_fit(head, mask) >= LIMITS["fit_warn"]


@pytest.mark.real
def test_deepbet_draws_what_its_own_command_draws(real_data):
    """On our grid; the command reads files, of any orientation."""
    deepbet = pytest.importorskip("deepbet")
    path = real_data / "heads" / "sub-0002_T1w.nii.gz"
    scan = read_image(path)
    ours = brain.find_brain(resample(scan, canonical_grid(scan.grid)), "deepbet", **RUN)
    theirs = deepbet.BrainExtraction(no_gpu=True).run(str(path))[1]
    assert (
        _dice(ours.data, resample(Image(np.asanyarray(theirs.dataobj), theirs.affine), ours.grid, order=0).data > 0)
        > 0.99
    )


@pytest.mark.real
@pytest.mark.parametrize("session", ["ses-01", "ses-02"])
def test_a_mask_that_covers_skull_and_scalp_is_caught_and_replaced(real_data, session):
    """6.5 mm slices; the atlas was drawn over skull and scalp (2.6 and 3.2 litres), and nobody was told."""
    folder = real_data / "gbm-followup"
    head = _debiased(next(folder.glob(f"sub-07/{session}/anat/*T1w.nii.gz")))
    tumour = read_image(next(folder.glob(f"derivatives/manual/sub-07/{session}/anat/*dseg.nii.gz")))
    mask = brain.find_brain(head, "deepbet", **RUN)
    low, high = LIMITS["volume_warn_ml"]
    assert low < mask.data.sum() / 1000 < high
    assert brain.atlas_fit(head, mask) >= LIMITS["fit_warn"]
    assert mask.data[resample(tumour, head.grid, order=0).data > 0].mean() > 0.9
    skull = mask.like(foreground(head.data))
    assert brain.atlas_fit(head, skull) < LIMITS["fit_fail"]


@pytest.mark.real
def test_a_scan_that_ends_below_the_vertex_has_its_brain_found(real_data):
    """6.5 mm slices, 13 cm in all; the atlas used to be drawn over skull and scalp (2.8 litres)."""
    folder = real_data / "gbm-followup"
    head = _debiased(next(folder.glob("sub-06/ses-01/anat/*T1w.nii.gz")), iterations=[50, 50, 50, 50])
    tumour = read_image(next(folder.glob("derivatives/manual/sub-06/ses-01/anat/*dseg.nii.gz")))
    inside = resample(tumour, head.grid, order=0).data > 0
    for method in ("deepbet", "atlas"):
        mask = brain.find_brain(head, method, **RUN)
        assert mask.data[inside].mean() > 0.9
        assert 900 < mask.data.sum() / 1000 < 2000
