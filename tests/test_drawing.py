"""Networks that draw what is no lesion: their patches by number, and how they are trained."""

import copy
from pathlib import Path

import pytest
import torch
import yaml
from drawn_heads import make_head
from mettrail.images import CAVITY, EDEMA, ENHANCING
from mettrail.segmentation import read_model
from mettrail.training import drawing, fitting, views

ROOT = Path(__file__).parents[1]
SETTINGS = yaml.safe_load((ROOT / "config" / "train.yaml").read_text())


def patches(task, heads):
    drawer = drawing.DRAWERS[task]
    return views.PaintedPatches(
        heads, paint=drawer.painter(SETTINGS), outputs=drawer.outputs, count=30, patch=(40, 40, 40),
        augmentation=SETTINGS["augmentation"] | {"masks": SETTINGS[task]["masks"]}, seed=5,
    )  # fmt: skip


@pytest.mark.parametrize(("task", "flair", "channels"), [("edema", True, 2), ("edema", False, 2), ("cavity", False, 1)])
def test_the_same_number_is_the_same_patch(task, flair, channels):
    first, again = (patches(task, [make_head(flair=flair)]) for _ in range(2))
    images, drawn = first[7]
    assert images.shape == (channels, 40, 40, 40)
    assert drawn.shape == (1, 40, 40, 40)
    every = {n for each in range(30) for n in first[each][1].unique().tolist()}
    assert every == set(range(len(drawing.DRAWERS[task].labels)))
    for one, two in zip((images, drawn), again[7]):
        assert torch.equal(one, two)
    assert not torch.equal(images, first[8][0])
    assert len(first) == 30
    with pytest.raises(IndexError):
        first[30]


@pytest.mark.parametrize(("task", "classes"), [("edema", (0, EDEMA)), ("cavity", (0, ENHANCING, CAVITY))])
def test_training_goes_on_where_it_was_stopped(tmp_path, monkeypatch, task, classes):
    monkeypatch.setattr(drawing, "prepare", lambda *_, **__: None)
    monkeypatch.setattr(drawing, "read_heads", lambda *_: [make_head()])
    monkeypatch.setattr(fitting, "SAVE_SECONDS", 0)
    settings = copy.deepcopy(SETTINGS) | {"threads": 1, "workers": 0}
    size = {"features": [4, 8], "convs_encoder": [1, 1], "convs_decoder": [1], "patch": [16, 16, 16], "batch": 1,
            "tile": [16, 16, 16]}  # fmt: skip
    settings[task] |= {"network": size, "training": SETTINGS[task]["training"] | {"steps": 4}}

    class StoppedError(Exception):
        pass

    def stop(*_, **__):
        raise StoppedError

    def train(out):
        return read_model(drawing.train_drawer(task, out, scans=tmp_path, settings=settings, resume=True))

    straight = train(tmp_path / "straight")
    assert (straight.task, straight.classes) == (task, classes)
    save = torch.save
    calls = []

    def save_twice(state, path):
        calls.append(state["step"])
        save(state, path) if len(calls) <= 2 else stop()

    monkeypatch.setattr(torch, "save", save_twice)
    with pytest.raises(StoppedError):
        train(tmp_path / "stopped")
    monkeypatch.setattr(torch, "save", save)
    again = train(tmp_path / "stopped")
    for name, weights in straight.read_weights()[0].items():
        assert torch.allclose(weights, again.read_weights()[0][name], atol=1e-3), name
    assert calls == [1, 2, 3]
