"""The comparison of methods: who is trained on whom, what is drawn, that a killed training goes on, what is asked."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import plums
import pytest
import torch
import warm
import yaml
from conftest import settings_of
from mettrail import segmentation
from mettrail.errors import InputError
from mettrail.images import read_probabilities
from mettrail.study import cases, fitting, methods, orders, patches, predicting
from mettrail.study.methods import Size
from mettrail.training.priors import PriorSettings

ROOT = Path(__file__).parents[1]

T1C, SEQUENCES = "ce-gadolinium_T1w", ("ce-gadolinium_T1w", "T1w", "T2w", "FLAIR")
TINY = {"width": 0.1, "patch_vox": 32, "batch": 4, "steps": 6}
TINY_SIZES = dict.fromkeys(("unet", "detector", "segmenter", "inputs"), TINY) | {
    "deepmedic": TINY | {"patch_vox": 5},
    "googlenet": {"width": 0.05, "patch_vox": 24, "batch": 4, "steps": 6},
}
SIZES = methods.read_sizes(settings_of("compare") | {"sizes": TINY_SIZES, "input_seeds": 1})
NO_PRIORS = PriorSettings(0, 0, 0, 0, 0, (0, 0), (0, 0), (0, 0), 0, (1, 2))
SHAPE = (44, 40, 42)


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small are slower on two, and much slower where another test has the second core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def method(name, **changes):
    from dataclasses import replace

    return replace(methods.list_methods(SIZES, sequences=SEQUENCES)[name], **changes)


def write(path, data):
    nib.save(nib.Nifti1Image(data, np.diag([1.0, 1, 1, 1])), path)
    return str(path)


def make_session(folder, sub, ses, *, lesions=((12, 3), (30, 2)), without=(), followup=False):
    """A bright ball for each lesion, as files and as a session of the comparison."""
    place = folder / f"{sub}-{ses}"
    place.mkdir(parents=True)
    grid = np.indices(SHAPE)
    inside = sum((g - n / 2) ** 2 for g, n in zip(grid, SHAPE)) < 19**2
    rng = np.random.default_rng(int(sub) * 10 + int(ses))
    labels = np.zeros(SHAPE, np.uint8)
    for at, radius in lesions:
        labels[sum((g - c) ** 2 for g, c in zip(grid, (at, 20, 21))) <= radius**2] = 1
    images = {}
    for name in SEQUENCES:
        if name not in without:
            image = np.where(inside, 100 + 5 * rng.standard_normal(SHAPE) + 100 * (labels > 0), 0).astype(np.float32)
            images[name] = write(place / f"{name}.nii.gz", image)
    return {
        "sub": sub, "ses": ses, "images": images, "mask": write(place / "mask.nii.gz", inside.astype(np.uint8)),
        "labels": write(place / "labels.nii.gz", labels), "scheme": "mettrail",
        "prior": write(place / "prior.nii.gz", labels) if followup else None,
        "prior_image": images[T1C] if followup else None,
    }  # fmt: skip


@pytest.fixture
def sessions(tmp_path):
    return [
        make_session(tmp_path / "files", "1", "1"),
        make_session(tmp_path / "files", "1", "2", followup=True),
        make_session(tmp_path / "files", "2", "1", without=["T2w"], lesions=((12, 4),)),
    ]


@pytest.fixture
def written(sessions, tmp_path):
    return cases.write_cases(sessions, tmp_path / "cases", seed=1)


def draw(written, name, number=0, context=(0, 0, 0), part=0, **changes):
    made = method(name, **changes)
    source = patches.Patches(written, made, made.parts[part], context=context, priors=NO_PRIORS, seed=5)
    return source.draw(number)


def test_what_networks_see_in_training_is_what_they_see_in_use(sessions, written, monkeypatch):
    """Z-scores of a case are those that reach the network through the pipeline's contract."""
    seen = []
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    def spy(self, image):
        seen.append(image.numpy().copy())
        return torch.zeros(4, *image.shape[1:])

    monkeypatch.setattr(nnUNetPredictor, "predict_sliding_window_return_logits", spy)
    model = fitting.train_method(
        method("unet"), written, written[0].folder.parent / "t", written[0].folder.parent / "m", priors=NO_PRIORS,
        device=torch.device("cpu"), seed=1, trained_on="balls", licence="none",
    )  # fmt: skip
    predicting.predict_session(model, sessions[0], grow_mm=3, device="cpu", threads=1)
    mine = written[0].channel(T1C, equalised=False)
    assert seen[0][0].shape == mine.shape
    assert np.abs(seen[0][0] - mine).max() < 0.01


def test_a_patch_is_drawn_again_by_its_number(written):
    for a, b in zip(draw(written, "unet", 3), draw(written, "unet", 3), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(draw(written, "unet", 3)[0], draw(written, "unet", 4)[0])


def test_images_reach_further_than_labels_by_what_a_network_sees(written):
    images, labels = draw(written, "deepmedic", context=(49, 49, 49))
    assert images.shape == (4, 1, 103, 103, 103)
    assert labels.shape == (4, 1, 5, 5, 5)


@pytest.mark.parametrize(("share", "part"), [(0.5, 0), (1.0, 1)])
def test_a_batch_has_its_share_of_lesions(written, share, part):
    """Half of the detector's patches, all of the segmenter's; those drawn from the brain may hold one by chance."""
    held = [draw(written, "two_stage", number, part=part)[1].flatten(1).any(1).sum().item() for number in range(20)]
    assert min(held) >= share * 4


def test_a_missing_sequence_is_zeros(written):
    images, _ = patches.Patches(
        written[2:], method("unet_t2w"), method("unet_t2w").parts[0], context=(0, 0, 0), priors=NO_PRIORS, seed=1
    ).draw(0)
    assert not images[:, 1].any()
    assert images[:, 0].any()


def test_the_prior_image_and_the_prior_are_those_of_the_follow_up_alone(written):
    for number in range(3):
        images, _ = draw(written[1:2], "deepmedic_channel", number)
        assert images[:, 1].flatten(1).any(1).all()
        assert not draw(written[:1], "deepmedic_channel", number)[0][:, 1].any()
    images, _ = draw(written[1:2], "unet_prior", 0)
    assert set(images[:, 1].unique().tolist()) == {0, 1}


def test_channels_are_dropped_only_where_that_is_asked_for(written):
    def empty(drop):
        batches = [draw(written[:2], "googlenet", n, context=(3, 0, 0), drop_prob=drop)[0] for n in range(30)]
        return sum((~batch.flatten(2).any(2)).sum().item() for batch in batches)

    assert empty(0.5) > empty(0.0) + 50
    assert all(
        draw(written[:2], "googlenet", n, context=(3, 0, 0), drop_prob=0.99)[0].flatten(1).any(1).all()
        for n in range(5)
    ), "never all of them"


def fit(written, folder, name="deepmedic", until=lambda: False, priors=NO_PRIORS, **changes):
    return fitting.train_method(
        method(name, **changes), written, folder / "training", folder / "model", priors=priors,
        device=torch.device("cpu"), seed=1, trained_on="balls", licence="none", until=until,
    )  # fmt: skip


def predict(model, session):
    return predicting.predict_session(model, session, grow_mm=3, device="cpu", threads=1)


@pytest.mark.parametrize("name", ["unet_prior", "deepmedic_plus_0.5", "googlenet", "two_stage"])
def test_a_training_that_is_stopped_goes_on_to_the_same_network(written, tmp_path, name):
    whole = fit(written, tmp_path / "whole", name)
    asked = iter(range(1000))
    assert fit(written, tmp_path / "halves", name, until=lambda: next(asked) == 3) is None
    halves = fit(written, tmp_path / "halves", name)
    (a,), (b,) = whole.read_weights(), halves.read_weights()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_checkpoint_of_other_settings_is_not_gone_on_from(written, tmp_path):
    asked = iter(range(1000))
    fit(written, tmp_path, until=lambda: next(asked) == 3)
    other = fit(written[:2], tmp_path)
    fresh = fit(written[:2], tmp_path / "fresh")
    assert torch.equal(*[next(iter(model.read_weights()[0].values())) for model in (other, fresh)])


def test_a_checkpoint_of_other_masks_is_not_gone_on_from(sessions, written, tmp_path):
    """The same sessions, one of them drawn anew: a network of the old masks must not come out."""
    fit(written, tmp_path)
    labels = nib.load(sessions[0]["labels"])
    write(sessions[0]["labels"], np.roll(np.asarray(labels.dataobj), 4, axis=1))
    redrawn = cases.write_cases(sessions, tmp_path / "cases", seed=1)
    again, fresh = fit(redrawn, tmp_path), fit(redrawn, tmp_path / "fresh")
    (a,), (b,) = again.read_weights(), fresh.read_weights()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_training_teaches(written, tmp_path):
    """Bright balls are found after three hundred small steps."""
    from dataclasses import replace

    made = method("unet")
    part = replace(
        made.parts[0], optimiser="adam", patch=(16, 16, 16), size=Size(width=0.1, patch_vox=16, batch=4, steps=300)
    )
    model = fit(written, tmp_path, "unet", parts=(part,))
    session = make_session(tmp_path / "new", "9", "1", lesions=((20, 4),))
    mask, p, cost = predicting.predict_session(model, session, grow_mm=3, device="cpu", threads=1)
    found = p[..., [1, 3]].sum(-1) >= 0.5
    true = predicting.read_truth(session, mask) > 0
    assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.7
    assert cost.gmacs > 0.01


def test_a_first_visit_is_read_like_one_without_lesions_before(written, tmp_path):
    model = fit(written, tmp_path, "unet_prior")
    session = make_session(tmp_path / "new", "9", "1")
    empty = session | {"prior": write(tmp_path / "empty.nii.gz", np.zeros(SHAPE, np.uint8))}
    first, told = (
        predicting.predict_session(model, each, grow_mm=3, device="cpu", threads=1)[1] for each in (session, empty)
    )
    assert np.array_equal(first, told)


def test_the_threshold_is_that_of_youden_and_decides(written, sessions, tmp_path):
    model = fit(written, tmp_path, "googlenet")
    predicting.settle_threshold(model, sessions[:2], grow_mm=3, device="cpu", threads=1)
    settled = segmentation.read_model(model.folder)
    assert settled.threshold != 0.5
    assert str(settled.threshold) in (model.folder / "README.md").read_text()
    before, after = (
        predicting.predict_session(m, sessions[0], grow_mm=3, device="cpu", threads=1)[1] for m in (model, settled)
    )
    assert np.array_equal(before[..., 1] >= settled.threshold, after[..., 1] >= 0.5)


def test_youden_is_highest_where_the_classes_part():
    probability = np.array([0.05, 0.1, 0.2, 0.32, 0.6, 0.9])
    truth, brain = np.array([0, 0, 0, 1, 1, 1], bool), np.ones(6, bool)
    assert 0.2 < predicting.choose_threshold([(probability, truth, brain)]) <= 0.32
    assert predicting.choose_threshold([(probability, np.zeros(6, bool), brain)]) == 0.5


def test_no_patient_is_in_two_sets_and_few_patients_are_refused():
    split = cases.split_patients(
        [f"{n:02d}" for n in range(20)], test=[], test_share=0.3, development_share=0.1, seed=4
    )
    assert [len(split[name]) for name in ("train", "development", "test")] == [12, 2, 6]
    assert len({sub for some in split.values() for sub in some}) == 20
    with pytest.raises(InputError, match="2 patients with masks"):
        cases.split_patients(["A", "B"], test=[], test_share=0.3, development_share=0.1, seed=1)


FAILING = """
import sys
from types import SimpleNamespace
from mettrail import jobs
from mettrail.errors import InputError
path, log = sys.argv[1:]
rule = SimpleNamespace(log=[log], output={"image": path}, input={}, wildcards=SimpleNamespace(sub="1", ses="2"))
with jobs.job(rule):
    raise InputError("scan", found="nothing", expected="a brain", advice="Scan again.")
"""


def fail(path, folder):
    """Leave there what a failed job leaves. A process of its own: a job forks, and would fork pytest."""
    Path(path).unlink()
    log = folder / "logs" / "debias" / "sub-1_ses-2.log"
    subprocess.run(
        [sys.executable, "-c", FAILING, path, str(log)],
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")},
        check=True,
    )


def test_what_failed_is_left_out_and_the_rest_is_compared(sessions, tmp_path, capsys):
    fail(sessions[1]["prior_image"], tmp_path)
    fail(sessions[2]["images"]["FLAIR"], tmp_path)
    first, second = cases.without_failed([*sessions[:1], sessions[1] | {"images": {}}, sessions[2]])
    assert first == sessions[0]
    assert (second["prior"], second["prior_image"]) == (sessions[1]["prior"], None)
    assert "sub-2_ses-1 is left out: debias failed" in capsys.readouterr().out


def test_sessions_without_any_lesion_are_refused(tmp_path):
    with pytest.raises(InputError, match="without a single lesion"):
        cases.write_cases([make_session(tmp_path / "f", "1", "1", lesions=())], tmp_path / "cases", seed=1)


def scans(**methods_):
    """Scores of two scans of two patients; the second is a follow-up."""
    rows = []
    for name, scores in methods_.items():
        for number in range(2):
            rows.append(
                {"method": name, "participant_id": f"sub-{number}", "tissue": "whole", "first_session": number == 0,
                 "n_truth": 10, "n_found": 5, "n_false": 2, "dsc": 0.5, "f1": 0.5, "lesionwise_dsc": 0.5} | scores
            )  # fmt: skip
            rows.append(rows[-1] | {"tissue": "edema", "dsc": scores.get("edema", 0.3)})
    return pd.DataFrame(rows)


def ask(table, *, froc=None, costs=None, inputs=None):
    results = orders.Results(
        table,
        pd.DataFrame(
            froc or [], columns=["method", "subset", "tissue", "min_mm3", "sensitivity", "false_per_scan", "merging"]
        ),
        pd.DataFrame(costs or [], columns=["method", "gmacs", "cpu_s"]),
        pd.DataFrame(inputs or [], columns=["inputs", "seed", "participant_id", "dsc"]),
        draws=20,
        seed=1,
    )
    return {order.claim: order for order in orders.find_orders(results, alphas=(1.0, 0.5))}


def holds(found, word):
    (order,) = [order for claim, order in found.items() if claim.endswith(word)] or [
        order for claim, order in found.items() if word in claim
    ]
    return order.holds


@pytest.mark.parametrize(("found", "false", "expected"), [(5, 1, True), (9, 1, False), (5, 30, False)])
def test_alpha_trades_sensitivity_for_precision(found, false, expected):
    table = scans(
        **{"deepmedic_plus_1": {"n_found": 8, "n_false": 8}, "deepmedic_plus_0.5": {"n_found": found, "n_false": false}}
    )
    assert holds(ask(table), "alpha") is expected


def test_the_prior_path_is_judged_at_equal_sensitivity():
    names = ("deepmedic", "deepmedic_channel", "deepmedic_plus_0.5")
    curve = [
        (name, "all", "whole", 0, sensitivity, factor * false, False)
        for name, factor in zip(names, (1.0, 2.0, 0.5))
        for sensitivity, false in ((0.4, 0.5), (0.6, 1.0), (0.9, 4.0))
    ]
    found = ask(scans(**{name: {} for name in names}), froc=curve)
    assert holds(found, "a path for the prior image")
    assert holds(found, "as a channel")
    path = next(order for claim, order in found.items() if "a path" in claim)
    assert path.here == "at sensitivity 0.500: without 1.00 false per scan, path 0.50"


@pytest.mark.parametrize(("gmacs", "lesionwise", "expected"), [(10, 0.5, True), (20, 0.5, False), (10, 0.4, False)])
def test_the_detector_has_to_save_operations_and_lose_nothing(gmacs, lesionwise, expected):
    table = scans(two_stage={"lesionwise_dsc": lesionwise}, segmenter_alone={})
    assert holds(ask(table, costs=[("two_stage", gmacs, 1), ("segmenter_alone", 100, 1)]), "saves") is expected


def test_t1c_is_indispensable_where_its_worst_beats_the_best_without():
    rows = [("inputs_T1c", 0.6), ("inputs_T1c-T1w-T2w", 0.7), ("inputs_FLAIR", 0.3), ("inputs_T1c-T1w-T2w-FLAIR", 0.69)]
    given = [(name, 1, "sub-1", dsc) for name, dsc in rows]
    assert holds(ask(scans(unet={}), inputs=given), "indispensable")
    assert holds(ask(scans(unet={}), inputs=given), "all four")
    assert not holds(ask(scans(unet={}), inputs=[*given, ("inputs_T2w", 1, "sub-1", 0.65)]), "indispensable")


def test_the_other_orders_follow_from_the_means():
    table = scans(
        googlenet={"dsc": 0.47}, unet={"dsc": 0.5, "edema": 0.2}, unet_t2w={"edema": 0.3}, registration={"dsc": 0.4},
        unet_prior={"dsc": 0.6, "edema": 0.4}, unet_prior_t2w={"edema": 0.35},
    )  # fmt: skip
    found = ask(table, costs=[("googlenet", 10, 1), ("unet", 100, 1)])
    assert holds(found, "2.5-D")
    assert holds(found, "edema in detection")
    assert not holds(found, "edema in re-segmentation")
    assert holds(found, "registration alone, from T1c")
    assert not holds(found, "registration alone, from T1c and T2w"), "0.5 as the detection is not better"
    assert not holds(ask(table, costs=[("googlenet", 200, 1), ("unet", 100, 1)]), "2.5-D")


def test_what_was_not_compared_holds_neither_way():
    assert {order.holds for order in ask(scans(unet={})).values()} == {None}


def test_intervals_are_over_patients():
    """Two scans of one patient are not two patients."""
    table = scans(unet={})
    table["dsc"] = [0.2, 0, 0.8, 0]
    one = table.assign(participant_id="sub-1")
    for rows, width in ((table, 0.6), (one, 0.0)):
        results = orders.Results(rows, pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), draws=200, seed=1)
        found = results.mean("unet", "dsc")
        assert found.mean == pytest.approx(0.5)
        assert found.high - found.low == pytest.approx(width)


def test_a_random_cohort_may_stand_in_a_specification(tmp_path):
    from mettrail import phantom

    crop = {"around": [28, 12, 28], "size_mm": [30, 30, 30]}
    defaults = {"sequences": [T1C], "extent": "piece", "crop": crop}
    phantom.make_cohort({"random": {"patients": 1, "sessions": 2}, "defaults": defaults}, tmp_path, seed=1)
    assert sorted(path.name for path in tmp_path.glob("sub-*/ses-*")) == ["ses-01", "ses-02"]
    assert json.loads((tmp_path / "dataset_description.json").read_text())["Name"]


def test_the_pipeline_gives_a_network_the_prior_image_it_asks_for(written, tmp_path):
    """Registered, on a follow-up; on a first visit zeros, and the log says so."""
    model = fit(written, tmp_path, "deepmedic_plus_0.5")
    plums.start_dataset(tmp_path)
    for ses in ("1", "2"):
        plums.add_visit(tmp_path, "A", ses, plums.plum(int(ses), [((8, 4, 2), 10)])[0])
    plums.add_visit(tmp_path, "B", "1", *plums.plum(3, [((8, 4, 2), 10)]))
    given = {"models": {"detection": [str(model.folder)]}, "fusion": {"rule": "detection"}}
    done = plums.run(tmp_path, "--config", f"segment={given}", "--", "tables")
    assert done.returncode == 0, done.stdout + done.stderr
    logs = [(tmp_path / f"out/logs/segment/sub-A_ses-{ses}.log").read_text() for ses in (1, 2)]
    assert ["zeros stand for prior_image" in log for log in logs] == [True, False]
    moved = "sub-A_ses-2_ce-gadolinium_res-1mm_desc-prior_T1w.nii.gz"
    session = {"mask": tmp_path / "out/sub-A/ses-2/anat/sub-A_ses-2_res-1mm_desc-brain_mask.nii.gz", "prior": None}
    session["images"] = {T1C: session["mask"].with_name("sub-A_ses-2_ce-gadolinium_res-1mm_desc-preproc_T1w.nii.gz")}
    seen, blind = (
        predict(model, session | {"prior_image": image})[1] for image in (session["mask"].with_name(moved), None)
    )
    path = session["mask"].with_name("sub-A_ses-2_res-1mm_desc-detection_probseg.nii.gz")
    found = read_probabilities(path).data
    assert np.abs(found - seen).max() < 0.01
    assert np.abs(found - blind).max() > 0.05


def test_a_sequence_to_review_is_flagged_in_the_table_of_sessions(written, tmp_path):
    """From its registration through matching and response; the limit is one that every sequence is beyond."""
    model = fit(written, tmp_path, "unet_t2w")
    plums.start_dataset(tmp_path)
    plums.add_visit(tmp_path, "A", "1", plums.plum(1, [((8, 4, 2), 10)])[0])
    anat = tmp_path / "bids/sub-A/ses-1/anat"
    shutil.copy(anat / f"sub-A_ses-1_{T1C}.nii.gz", anat / "sub-A_ses-1_T2w.nii.gz")
    settings = {
        "labels": {"folder": ""},
        "segment": {"models": {"detection": [str(model.folder)]}, "fusion": {"rule": "detection"}},
        "sequence_check": {"left_warn": 0},
    }
    done = plums.run(tmp_path, "--config", *(f"{key}={value}" for key, value in settings.items()), "--", "tables")
    assert done.returncode == 0, done.stdout + done.stderr
    (session,) = pd.read_csv(tmp_path / "out/tables/sessions.csv").to_dict("records")
    assert session["evaluable"]
    assert "T2w_misaligned" in session["flags"].split(";")
    # The T2w is a copy of the reference scan.
    assert {"same_scan", "T2w_same_scan"} <= set(session["flags"].split(";"))


def test_the_target_compare_makes_its_page(tmp_path):
    """The quick comparison as a user types it, on one method of each kind."""
    from mettrail import phantom

    spec = yaml.safe_load((ROOT / "config" / "phantom_compare_quick.yaml").read_text())
    spec["patients"] = spec["patients"][1:5]
    phantom.make_cohort(spec, tmp_path / "bids", seed=1)
    settings = yaml.safe_load((ROOT / "config" / "compare_quick.yaml").read_text())
    kinds = ("unet", "unet_prior", "deepmedic", "deepmedic_plus_0.5", "two_stage", "googlenet")
    settings["compare"]["methods"] = [*kinds, "inputs_T1c_seed1", "inputs_FLAIR_seed1"]
    settings |= {"bids": "bids", "out": "out", "labels": {"folder": "bids/derivatives/truth"}}
    (tmp_path / "mine.json").write_text(json.dumps(settings))
    how = ["--snakefile", ROOT / "Snakefile", "--configfile", "mine.json", "--cores", "2"]
    done = subprocess.run(
        [warm.python(), "-m", "snakemake", "compare", *how],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "out" / "compare"
    page = (out / "comparison.md").read_text()
    assert str(tmp_path) not in page, "a page that is passed on names no folders of its maker"
    asked = settings["compare"]["methods"]
    for name in (*kinds, "segmenter_alone", "registration", "both"):
        assert f"\n| {name} | " in page, name
    html = (out / "comparison.html").read_text()
    assert html.count("<table>") == page.count("\n| ---")
    assert "<script" not in html
    assert (out / "inputs.svg").stat().st_size > 1000
    for name in asked:
        assert segmentation.read_model(out / "models" / name).read_weights()
    scans = pd.read_csv(out / "evaluation" / "scans.csv")
    assert scans["participant_id"].nunique() == 1, "one patient is compared on"
    trained = {path.name.split("_")[0] for path in (out / "cases").glob("sub-*")}
    assert not trained & set(scans["participant_id"])
