"""The second look at scans finer than 1 mm: which get one, what the network is given, what becomes of its answer."""

from types import SimpleNamespace

import numpy as np
import pytest
from conftest import settings_of
from mettrail import segmentation
from mettrail.images import Grid, Image, resample
from mettrail.segmentation import fine

LIMITS = settings_of("segment")["confidence_limits"]
CALIBRATION = {"intercept": 0.0, "slope": 1.0}


def grid_of(*mm):
    return Grid((80, 80, 80), np.diag([*mm, 1.0]))


@pytest.mark.parametrize(
    ("mm", "below_mm", "side"),
    [
        ((0.7, 0.7, 0.7), 0.85, 0.7),
        ((0.8, 0.8, 0.8), 0.85, 0.8),
        ((0.4, 0.4, 0.4), 0.85, 0.7),
        ((0.5, 0.5, 1.0), 0.85, 0.7),
        ((0.9, 0.9, 0.9), 0.85, None),
        ((0.4, 0.4, 1.2), 0.85, None),
        ((0.7, 0.7, 0.7), 0, None),
    ],
)
def test_scans_finer_than_a_limit_are_looked_at_again(mm, below_mm, side):
    found = fine.fine_grid(grid_of(*mm), below_mm=below_mm)
    assert (found is None) == (side is None)
    if found is not None:
        assert found.spacing_mm == pytest.approx((side,) * 3)
        extent = np.array(found.shape) * side
        assert extent == pytest.approx(80 * np.array(mm), abs=side)


def make_scan():
    """A head of 0.7 mm with a bias field, a lesion of 2 mm at (20, 25, 30) mm and one of 5; corrected, at 1 mm."""
    grid = Grid((72, 72, 72), np.diag([0.7, 0.7, 0.7, 1.0]))
    at = np.stack(np.meshgrid(*[np.arange(72) * 0.7] * 3, indexing="ij"), -1)
    head = np.where(np.linalg.norm(at - 25, axis=-1) < 22, 100.0, 0)
    head[np.linalg.norm(at - (20, 25, 30), axis=-1) <= 1.0] = 200
    head[np.linalg.norm(at - (32, 25, 20), axis=-1) <= 2.6] = 200
    field = 1 + 0.3 * at[..., 0] / 50
    one = Grid((50, 50, 50), np.eye(4))
    corrected = resample(Image(head.astype(np.float32), grid.affine), one)
    return Image((head / field).astype(np.float32), grid.affine), corrected, field


def test_the_network_sees_the_scan_as_it_is_and_its_answer_lies_in_place(monkeypatch):
    scan, debiased, _ = make_scan()
    given = {}

    def predict(model, channels, **how):
        (image,) = channels.values()
        given.update(image=image, model=model, **how)
        lesion = (image > 150).astype(np.float32)
        return np.stack([1 - lesion, lesion, 0 * lesion, 0 * lesion, 0 * lesion], -1)

    monkeypatch.setattr(fine, "predict_probabilities", predict)
    monkeypatch.setattr(fine.dataclasses, "replace", lambda model, **changed: SimpleNamespace(**vars(model) | changed))
    model = SimpleNamespace(min_component_score=0.0)
    within = debiased.like(debiased.data > 0)
    seen = segmentation.look_again(model, scan, debiased, within, below_mm=0.85, device="cpu", threads=1)
    assert given["model"].min_component_score == fine.MIN_SCORE
    assert given["image"].shape == (72, 72, 72)
    tissue = given["image"][(given["image"] > 0) & (given["image"] < 150)]
    assert np.percentile(tissue, [5, 95]) == pytest.approx([100, 100], rel=0.06), "the bias is corrected here, too"
    assert seen.data.shape == (50, 50, 50, 5)
    assert seen.data.sum(-1) == pytest.approx(1, abs=1e-5)
    found = np.argwhere(seen.data[..., 1] >= 0.5)
    assert len(found) > 0
    assert found.mean(0) == pytest.approx((20, 25, 30), abs=0.5)


def test_a_coarse_scan_has_no_second_look():
    scan = Image(np.ones((5, 5, 5), np.float32), np.eye(4))
    with pytest.raises(ValueError, match="no finer"):
        segmentation.look_again(None, scan, scan, scan, below_mm=0.85, device="cpu", threads=1)


def probabilities(*lesions):
    """Lesions along a line: (start, stop, probability)."""
    whole = np.zeros((40, 5, 5), np.float32)
    for start, stop, probability in lesions:
        whole[start:stop, 1:4, 1:4] = probability
    return Image(np.stack([1 - whole, whole, 0 * whole, 0 * whole, 0 * whole], -1), np.eye(4))


def test_what_the_second_look_alone_sees_is_a_candidate():
    first = probabilities((2, 6, 0.9), (15, 17, 0.1))
    second = probabilities((2, 8, 0.99), (15, 17, 0.97), (30, 32, 0.6))
    fused = segmentation.add_candidates(first, first, second)
    labels, _ = segmentation.decide_on_grid(fused, Grid((40, 5, 5), np.eye(4)))
    components, table = segmentation.gather_evidence(
        labels, fused, {"detection": first}, limits=LIMITS, calibration=CALIBRATION, fine=second
    )
    rows = {int(components.data[place, 2, 2]): place for place in (3, 15, 30)}
    found = {rows[row.index]: row for row in table.itertuples(index=False)}
    # The first lesion is as the first look has it: no larger, no surer.
    assert (components.data[:, 2, 2] == 1).sum() == 4
    assert [found[place].detected_by for place in (3, 15, 30)] == ["detection", "sensitive", "sensitive"]
    assert [found[place].certainty for place in (3, 15, 30)] == ["confirmed", "candidate", "candidate"]
    assert [round(found[place].confidence, 2) for place in (3, 15, 30)] == [0.9, 0.97, 0.6]
