"""The network that draws resection cavities: what its patches show, and what the shipped one sees on a phantom."""

import functools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from drawn_heads import make_head
from mettrail import geometry, phantom, segmentation
from mettrail.geometry import label_components
from mettrail.images import CAVITY, ENHANCING, NECROSIS, Image
from mettrail.segmentation import architectures, models, predict_probabilities, read_model
from mettrail.segmentation.model_folder import POST_CONTRAST
from mettrail.training import resection
from mettrail.training.cases import code_surface, distance_mm
from mettrail.training.synthesis import OUTSIDE, Patch
from mettrail.training.trainer import MettrailTrainer
from plums import add_visit, plum, run, start_dataset, table_of
from scipy import ndimage

ROOT = Path(__file__).parents[1]
SETTINGS = yaml.safe_load((ROOT / "config" / "train.yaml").read_text())
GIVEN = SETTINGS["cavity"]
PLAIN = {
    "radius_mm": [6, 9], "contents": {"fluid": 1}, "fluid": [2, 3], "wall_blood_prob": 0, "air_prob": 0,
    "gliosis_prob": 0, "lining_prob": 0, "dura_prob": 0, "recurrence_prob": 0,
}  # fmt: skip


def paint_bed(seed, **changed):
    """Paint one bed into the head; image and labels before and after."""
    head = make_head()
    mask = head.beyond < 1
    patch = Patch(head.t1w.copy(), np.where(mask, 0, OUTSIDE), None, float(np.percentile(head.t1w[mask], 75)))
    edge = np.maximum(-distance_mm(mask), mask / 2)
    synthesis = resection.beside_cavities(SETTINGS["synthesis"], GIVEN)
    rng = np.random.default_rng(seed)
    made = resection.paint_bed(patch, edge, rng, GIVEN | PLAIN | changed, synthesis)
    return made, head.t1w, patch


def painted(**changed):
    """Beds that found room, of twelve seeds."""
    beds = [paint_bed(seed, **changed) for seed in range(12)]
    found = [(before, patch) for made, before, patch in beds if made]
    assert len(found) >= 6
    return found


def test_a_cavity_of_fluid_is_dark_and_its_surroundings_stay():
    for before, patch in painted():
        cavity = patch.labels == CAVITY
        assert np.median(patch.image[cavity]) < patch.white - 1.5
        far = ndimage.distance_transform_edt(~cavity) > 4
        assert np.array_equal(patch.image[far], before[far])
        assert not np.isin(patch.labels, (1, 2, 3)).any()


def test_what_a_cavity_holds_is_cavity_blood_too():
    bright = [np.median(patch.image[patch.labels == CAVITY]) - patch.white
              for _, patch in painted(contents={"clots": 1}, blood=[2, 3], wall_blood_prob=1)]  # fmt: skip
    assert max(bright) > 1


def noise_of(image, where):
    return float(np.std((image - ndimage.gaussian_filter(image, 1))[ndimage.binary_erosion(where, iterations=2)]))


@pytest.mark.parametrize("noise", [0, 0.3])
def test_what_a_cavity_holds_has_the_noise_of_its_head(monkeypatch, noise):
    """A network must not know what is painted by its smoothness."""
    head = make_head()
    head.t1w[...] += noise * np.random.default_rng(1).standard_normal(head.t1w.shape)
    monkeypatch.setattr("test_cavities.make_head", lambda: head)
    found = [noise_of(patch.image, patch.labels == CAVITY) for _, patch in painted(radius_mm=[8, 9])]
    assert (np.median(found) > 0.1) == (noise > 0)


def test_widened_ventricles_are_no_cavities():
    head, wide = make_head(), []
    mask = head.beyond < 1
    given = GIVEN | {"prob": 0, "smooth_prob": 0, "thick_prob": 0, "widen_mm": [5, 6]}
    synthesis = SETTINGS["synthesis"] | {"tone_prob": 0, "look_alikes": {}}
    synthesis["lesions"] = synthesis["lesions"] | {"prob": 0}
    for seed in range(6):
        for prob in (0, 1):
            rng = np.random.default_rng(seed)
            images, labels = resection.paint(
                head.t1w, mask, rng=rng, settings=given | {"widen_prob": prob}, synthesis=synthesis, thick_mm=(2, 3)
            )
            assert set(np.unique(labels)) == {OUTSIDE, 0}
            inside = images[0][head.beyond < -8]
            wide.append((inside < np.median(inside) - 1.5).sum())
    assert np.median(wide[1::2]) > 1.5 * np.median(wide[::2])


def test_what_lines_a_cavity_is_neither_cavity_nor_lesion():
    brighter = []
    for before, patch in painted(lining_prob=1, lining_contrast=[2, 3]):
        cavity = patch.labels == CAVITY
        near = ndimage.binary_dilation(cavity, iterations=2) & ~cavity & (patch.labels == 0)
        brighter.append((patch.image - before)[near].max())
        assert not (patch.labels == ENHANCING).any()
    assert min(brighter) > 1


@pytest.mark.parametrize("crescent", [0, 1])
def test_recurrence_lies_at_the_margin_and_is_lesion(crescent):
    found = 0
    for _, patch in painted(recurrence_prob=1, crescent_prob=crescent, crescent_contrast=[2, 3]):
        lesion, cavity = np.isin(patch.labels, (1, 3)), patch.labels == CAVITY
        parts, count = label_components(lesion)
        near = ndimage.binary_dilation(cavity, iterations=3)
        # A rough surface may leave specks.
        assert all((near & (parts == n)).any() for n in range(1, count + 1) if (parts == n).sum() > 10)
        found += bool(count)
        assert not count or np.median(patch.image[lesion]) > np.median(patch.image[cavity]) + 1
    assert found >= 5


def test_nothing_is_painted_over_a_lesion():
    head = make_head()
    mask = head.beyond < 1
    labels = np.where(mask, ENHANCING, OUTSIDE)
    patch = Patch(head.t1w.copy(), labels, None, 0.8)
    edge = np.maximum(-distance_mm(mask), mask / 2)
    synthesis = resection.beside_cavities(SETTINGS["synthesis"], GIVEN)
    assert not any(resection.paint_bed(patch, edge, np.random.default_rng(n), GIVEN, synthesis) for n in range(5))
    assert np.array_equal(patch.image, head.t1w)


def test_more_ventricles_are_painted_beside_cavities():
    before = SETTINGS["synthesis"]["look_alikes"]
    after = resection.beside_cavities(SETTINGS["synthesis"], GIVEN)["look_alikes"]
    assert after == before | {"ventricle": before["ventricle"] | GIVEN["look_alikes"]["ventricle"]}


def paint_beds(seed, *, looks=GIVEN, prior=True, **changed):
    """Paint a bed, or a cyst, as patches that teach lesions show them; image, prior and labels, before and after."""
    np.random.seed(seed)  # noqa: NPY002
    head = make_head()
    labels = np.where(head.beyond < 1, 0, OUTSIDE).astype(np.int16)[None]
    image = np.stack([np.where(labels[0] == OUTSIDE, 0, head.t1w), np.zeros(head.t1w.shape)]).astype(np.float32)
    transform = resection.PaintBeds(SETTINGS["beds"] | changed, looks, SETTINGS["synthesis"], prior=prior)
    given = {"image": torch.from_numpy(image.copy()), "segmentation": torch.from_numpy(labels.copy())}
    given["image"] = given["image"][: 1 + prior]
    out = transform(**given)
    return image, labels[0], out["image"].numpy(), out["segmentation"][0].numpy()


def test_lesions_are_taught_with_resection_beds_that_are_none():
    found = 0
    for seed in range(5):
        before, labels, image, now = paint_beds(seed, looks=GIVEN | PLAIN, prob=1, prior=seed % 2)
        assert set(np.unique(now)) <= {OUTSIDE, 0, CAVITY}
        assert ((now == OUTSIDE) == (labels == OUTSIDE)).all()
        cavity = now == CAVITY
        white = np.percentile(before[0][labels != OUTSIDE], 75)
        assert not cavity.any() or np.median(image[0][cavity]) < white - 1.5
        found += cavity.any()
    assert found >= 3


@pytest.mark.parametrize("resected", [0, 1])
def test_the_prior_may_show_what_was_resected(resected):
    shares = []
    for seed in range(5):
        _, _, image, now = paint_beds(seed, looks=GIVEN | PLAIN, prob=1, resected_prob=resected)
        assert not image[1][now == OUTSIDE].any()
        if (now == CAVITY).any():
            shares.append(image[1][now == CAVITY].mean())
    assert len(shares) >= 3
    assert (np.mean(shares) > 0.3) if resected else not any(shares)


def test_a_painted_cavity_is_background_where_lesions_are_taught(monkeypatch):
    """These networks have no output for cavities."""
    seen = []
    monkeypatch.setattr(resection, "paint_bed", lambda patch, *_: paint_ball(patch, seen))
    beds = functools.partial(resection.PaintBeds, SETTINGS["beds"] | {"prob": 1}, GIVEN, SETTINGS["synthesis"])
    plain = {name: value for name, value in SETTINGS["augmentation"].items() if not name.endswith("_prob")}
    plain |= dict.fromkeys(("rotate_prob", "scale_prob", "elastic_prob", "thick_prob"), 0)
    head = make_head()
    transform = MettrailTrainer.get_training_transforms(
        SimpleNamespace(beds=beds, synthesis=None, augmentation=plain),
        head.t1w.shape, (0, 0), None, (2,), False, use_mask_for_norm=[True, False],
    )  # fmt: skip
    surface = code_surface(head.beyond, np.isinf(head.beyond))
    labels = torch.from_numpy(np.stack([np.zeros_like(surface), surface]))
    image = torch.from_numpy(np.stack([head.t1w, np.zeros_like(head.t1w)]).astype(np.float32))
    out = transform(image=image, segmentation=labels)
    assert seen == [True]
    assert set(out["segmentation"].unique().tolist()) == {0, ENHANCING}


def paint_ball(patch, seen):
    """A cavity with a nodule, in the middle."""
    seen.append(True)
    middle = tuple(slice(n // 2 - 5, n // 2 + 5) for n in patch.labels.shape)
    patch.labels[middle] = CAVITY
    patch.labels[tuple(slice(s.stop, s.stop + 3) for s in middle)] = ENHANCING
    return True


def test_what_looks_like_a_cavity_and_is_none_is_taught_too():
    cores = []
    for seed in range(4):
        *_, now = paint_beds(seed, prob=0, cyst_prob=1, cyst_radius_mm=[6, 9])
        cores.append((now == NECROSIS).sum())
        assert not (now == CAVITY).any()
    assert np.median(cores) > 20


@pytest.fixture(scope="module")
def phantom_session():
    """A cavity six weeks after resection of a lesion of 25 mm, a cystic lesion on the other side."""
    session = {
        "label": "01", "acq_time": "2020-02-12T00:00:00", "sequences": [POST_CONTRAST], "extent": "brain",
        "spacing_mm": 1, "motion_mm": 0.0, "motion_deg": 0.0, "noise": 0.02,
    }  # fmt: skip
    lesions = [
        {"id": 1, "where": [-36, -54, 44], "diameters_mm": [0], "resection": {"date": "2020-01-01", "diameter_mm": 28}},
        {"id": 2, "where": [26, -42, 28], "diameters_mm": [17], "kind": "cystic"},
    ]
    (found,) = phantom.simulate_patient({"id": "R", "sessions": [session], "lesions": lesions}, seed=11)
    return found


def test_the_shipped_network_draws_a_phantoms_cavity_and_leaves_its_cyst(phantom_session):
    truth = np.asarray(phantom_session.tissue.data)
    brain = ndimage.binary_dilation(np.asarray(phantom_session.brain.data) > 0, iterations=2)
    box = geometry.bounding_box(truth > 0, margin_vox=20)
    image = np.where(brain, phantom_session.images[POST_CONTRAST].data, 0)[box]
    model = read_model(ROOT / "resources/models/cavity")
    seen = predict_probabilities(model, {POST_CONTRAST: image}, within=brain[box], device="cpu", threads=2)
    lesions = np.isin(truth[box], (ENHANCING, NECROSIS))
    fused = np.zeros_like(seen)
    fused[..., ENHANCING], fused[..., NECROSIS] = truth[box] == ENHANCING, truth[box] == NECROSIS
    fused[..., 0] = ~lesions
    fused = Image(fused, np.eye(4))
    inside = np.asarray(phantom_session.brain.data)[box] > 0
    seen = segmentation.accept_cavities(Image(seen, np.eye(4)), Image(inside, np.eye(4)))
    settled, seen, doubtful = segmentation.settle_cavities(fused, seen, operated=True, least_mm3=10)
    assert doubtful == 0
    assert np.array_equal(settled.data, fused.data)
    drawn = geometry.decide_labels(segmentation.draw_cavities(fused, seen).data)
    found, true = drawn == CAVITY, truth[box] == CAVITY
    assert true.sum() > 3000
    assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.7
    assert np.array_equal(np.isin(drawn, (ENHANCING, NECROSIS)), lesions)


def write_model_that_sees_cavities_everywhere(folder):
    shipped = read_model(ROOT / "resources/models/cavity")
    network = architectures.build_from_plans(
        shipped.plans, shipped.configuration, channels=1, outputs=len(shipped.classes), path=folder
    )
    with torch.no_grad():
        for name, weights in network.named_parameters():
            if "seg_layers" in name:
                weights.zero_()
                if name.endswith("bias"):
                    weights[shipped.classes.index(CAVITY)] = 20
    description = {key: value for key, value in shipped.description.items() if key != "sha256"}
    models.write_model(
        folder, network, plans=shipped.plans, dataset=shipped.dataset, description=description, card="# all\n"
    )


def test_after_surgery_on_record_what_lies_in_a_cavity_does_not_count(tmp_path):
    """No surgery on record of L, that of M in the table of treatments, that of N in participants.tsv."""
    start_dataset(tmp_path)
    scan, _ = plum(90, [((8, 4, 2), 14)])
    for sub in "LMN":
        add_visit(tmp_path, sub, "1", scan)
    rows = "treatment_id\ttype\tday\ttarget\no1\tcraniotomy\t-20\tn/a\n"
    (tmp_path / "bids/sub-M/sub-M_treatments.tsv").write_text(rows)
    people = "participant_id\ttreatment_type\ttreatment_start_day\nsub-N\tsurgery\t-20\n"
    (tmp_path / "bids/participants.tsv").write_text(people)
    write_model_that_sees_cavities_everywhere(tmp_path / "everywhere")
    found = {}
    for name, cavity in (("with", [str(tmp_path / "everywhere")]), ("without", [])):
        given = ["labels={'folder': ''}", f"segment={{'models': {{'cavity': {cavity}}}}}"]
        done = run(tmp_path, "--config", *given, "--", "tables")
        assert done.returncode == 0, done.stdout + done.stderr
        lesions = set(table_of(tmp_path, "lesions")["participant_id"])
        for sub, row in table_of(tmp_path, "sessions").set_index("participant_id").iterrows():
            flagged = "cavity_review" in str(row["flags"]).split(";")
            found[name, sub] = (sub in lesions, row["cavity_ml"] > 10, flagged)
    assert found == {
        ("with", "sub-L"): (True, True, True),
        ("with", "sub-M"): (False, True, True),
        ("with", "sub-N"): (False, True, True),
        ("without", "sub-L"): (True, False, False),
        ("without", "sub-M"): (True, False, False),
        ("without", "sub-N"): (True, False, False),
    }
