"""The network that draws edema: what its patches show, and what the shipped one sees on a phantom."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from drawn_heads import make_head
from mettrail import geometry, phantom, segmentation
from mettrail.images import EDEMA, Image
from mettrail.segmentation import predict_probabilities, read_model
from mettrail.segmentation.model_folder import POST_CONTRAST
from mettrail.training import edema
from scipy import ndimage

ROOT = Path(__file__).parents[1]
SETTINGS = yaml.safe_load((ROOT / "config" / "train.yaml").read_text())
GIVEN = SETTINGS["edema"]


def paint(seed, **changed):
    head = make_head()
    mask = head.beyond < 1
    lesions = SETTINGS["synthesis"]["lesions"] | {
        "prob": 1, "edema_prob": 0, "push_prob": 0, "at_most": 1, "any_size_prob": 0, "real_sizes": None,
    }  # fmt: skip
    synthesis = SETTINGS["synthesis"] | {"tone_prob": 0, "look_alikes": {}, "lesions": lesions}
    given = GIVEN | {"invent_prob": 0, "shift_prob": 0, "thick_prob": 0, "spots_prob": 0, "edema_prob": 1} | changed
    images, labels = edema.paint(
        head.t1w, head.flair, mask, rng=np.random.default_rng(seed), settings=given, synthesis=synthesis
    )
    return head, mask, images, labels == EDEMA


def test_edema_is_bright_white_matter_beside_a_lesion():
    volumes, contrasts, white = [], [], []
    for seed in range(12):
        head, mask, images, drawn = paint(seed)
        volumes.append(int(drawn.sum()))
        if volumes[-1] < 50:
            continue
        assert mask[drawn].all()
        rest = mask & ~ndimage.binary_dilation(drawn, iterations=4) & (head.t1w > 0.5) & (head.beyond < -6)
        contrasts.append(np.median(images[1][drawn]) - np.median(images[1][rest]))
        white.append((head.t1w[drawn] > 0.5).mean())
    assert len(contrasts) >= 8
    assert min(contrasts) > 0.3
    assert np.mean(white) > 0.85, "grey matter and fluid are spared"


def test_spots_are_no_edema():
    *_, drawn = paint(3, spots_prob=1, edema_prob=0)
    assert not drawn.any()


def test_invented_flair_has_dark_fluid_and_bright_grey_matter():
    head = make_head()
    levels = []
    for seed in range(5):
        images, _ = edema.paint(
            head.t1w, None, head.beyond < 1, rng=np.random.default_rng(seed),
            settings=GIVEN | {"thick_prob": 0}, synthesis=SETTINGS["synthesis"] | {"tone_prob": 0, "lesions": {
                **SETTINGS["synthesis"]["lesions"], "prob": 0}, "look_alikes": {}},
        )  # fmt: skip
        levels.append([np.median(images[1][where]) for where in (head.t1w < -2, head.t1w > 0.5, head.t1w == -0.5)])
    fluid, white, grey = np.mean(levels, 0)
    assert fluid < white < grey


@pytest.fixture(scope="module")
def phantom_session():
    """A lesion of 16 mm with edema, as the simulation has it: no patch of training has been made by it."""
    session = {
        "label": "01", "acq_time": "2020-01-01T00:00:00", "sequences": [POST_CONTRAST, "FLAIR"], "extent": "brain",
        "spacing_mm": 1, "motion_mm": 0.0, "motion_deg": 0.0, "noise": 0.02,
    }  # fmt: skip
    lesion = {"id": 1, "where": [31, 28, 26], "diameters_mm": [16], "kind": "ring", "edema_mm": [9]}
    (found,) = phantom.simulate_patient({"id": "E", "sessions": [session], "lesions": [lesion]}, seed=11)
    return found


def test_the_shipped_network_draws_a_phantoms_edema(phantom_session):
    truth = np.asarray(phantom_session.tissue.data)
    brain = ndimage.binary_dilation(np.asarray(phantom_session.brain.data) > 0, iterations=2)
    box = geometry.bounding_box(truth > 0, margin_vox=24)
    images = {name: np.where(brain, image.data, 0)[box] for name, image in phantom_session.images.items()}
    model = read_model(ROOT / "resources/models/edema")
    seen = predict_probabilities(model, images, within=brain[box], device="cpu", threads=2)
    lesion = np.isin(truth[box], (1, 3)).astype(np.float32)
    fused = Image(np.stack([1 - lesion, lesion, 0 * lesion, 0 * lesion, 0 * lesion], -1), np.eye(4))
    drawn = geometry.decide_labels(segmentation.draw_edema(fused, Image(seen, np.eye(4))).data)
    found, true = drawn == EDEMA, truth[box] == EDEMA
    assert true.sum() > 3000
    assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.7
    assert found.sum() == pytest.approx(true.sum(), rel=0.35)
