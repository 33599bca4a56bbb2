"""Training of networks that draw what is no lesion: edema, from post-contrast T1w and FLAIR, and resection cavities.

`edema` and `resection` paint their patches. A run folder holds everything and can be continued after a kill::

    OUT/heads/             real heads, as the pipeline prepares them
    OUT/TASK.pt            the last checkpoint
    OUT/TASK.log           progress
    OUT/models/TASK/       the model folder
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

from mettrail.devices import choose_device, has_bfloat16
from mettrail.images import CAVITY, EDEMA, ENHANCING, NECROSIS, read_image, read_mask, require_same_grid
from mettrail.segmentation.architectures import build_from_plans
from mettrail.segmentation.model_folder import POST_CONTRAST, name_channels
from mettrail.segmentation.models import write_model
from mettrail.segmentation.normalisation import z_scores
from mettrail.training import edema, resection
from mettrail.training.backgrounds import find_backgrounds, name_backgrounds, prepare
from mettrail.training.card import write_card
from mettrail.training.cases import CONFIGURATION, distance_mm, plan_network, unet_architecture
from mettrail.training.fitting import Recipe, fit, polynomial
from mettrail.training.progress import Log
from mettrail.training.training import LICENCE
from mettrail.training.views import Head, PaintedPatches, Painter


@dataclass(frozen=True)
class Drawer:
    """What a network draws, and from what.

    Parameters
    ----------
    channels : tuple of str
        By BIDS name.
    labels : dict
        Of dataset.json.
    outputs : tuple of tuple of int
        Our labels that each of them but the background stands for.
    painter : function
        Makes a `Painter` of config/train.yaml.
    title, introduction : str
        Of the model card.
    painted : str
        What was painted into the heads.
    """

    channels: tuple[str, ...]
    labels: dict[str, int]
    outputs: tuple[tuple[int, ...], ...]
    painter: Callable[[Mapping[str, Any]], Painter]
    title: str
    introduction: str
    painted: str


def _paint_edema(settings: Mapping[str, Any]) -> Painter:
    given = settings["edema"]
    synthesis = edema.lesions_alone(settings["synthesis"], given)

    def paint(
        t1w: np.ndarray, flair: np.ndarray | None, mask: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        return edema.paint(t1w, flair, mask, rng=rng, settings=given, synthesis=synthesis)

    return paint


def _paint_cavities(settings: Mapping[str, Any]) -> Painter:
    given = settings["cavity"]
    synthesis = resection.beside_cavities(settings["synthesis"], given)

    def paint(
        t1w: np.ndarray, _: np.ndarray | None, mask: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        thick_mm = settings["augmentation"]["thick_mm"]
        return resection.paint(t1w, mask, rng=rng, settings=given, synthesis=synthesis, thick_mm=thick_mm)

    return paint


DRAWERS = {
    "edema": Drawer(
        channels=(POST_CONTRAST, "FLAIR"),
        labels={"background": 0, "edema": 1},
        outputs=((EDEMA,),),
        painter=_paint_edema,
        title="Edema",
        introduction="Draws edema on one post-contrast T1w and FLAIR. Output: edema, which counts where it starts "
        "beside a lesion of other models.",
        painted="lesions and edema",
    ),
    "cavity": Drawer(
        channels=(POST_CONTRAST,),
        labels={"background": 0, "lesion": 1, "cavity": 2},
        outputs=((ENHANCING, NECROSIS), (CAVITY,)),
        painter=_paint_cavities,
        title="Resection cavities",
        introduction="Draws resection cavities on one post-contrast T1w. Outputs: cavity; and lesion, which it has to "
        "tell from one.",
        painted="lesions and resection cavities",
    ),
}


def read_heads(root: Path, chosen: Sequence[Mapping[str, Any]]) -> list[Head]:
    """Read prepared sessions, with the FLAIR that the pipeline has brought onto their grid.

    Parameters
    ----------
    root : Path
        See `backgrounds.prepare`.
    chosen : sequence of mapping
        As for `backgrounds.find_backgrounds`.
    """
    heads = []
    for each in chosen:
        copies = each.get("copies", 1)
        for found in find_backgrounds(root, **{**each, "copies": 1}):
            image, mask = read_image(found.image), read_mask(found.mask)
            require_same_grid(image, mask)
            inside = mask.data > 0
            beyond = distance_mm(inside).astype(np.float32)
            flair = None
            for path in found.mask.parent.glob("*_res-1mm_desc-preproc_FLAIR.nii.gz"):
                data = read_image(path).data
                flair = z_scores(data, inside & (data != 0)).astype(np.float32)
                flair[data == 0] = 0
            stripped = (image.data == 0) & ~inside
            beyond[stripped] = np.inf
            t1w = np.where(stripped, 0, z_scores(image.data, inside)).astype(np.float32)
            heads += [Head(t1w, flair, beyond)] * copies
    return heads


def train_drawer(task: str, out: str | Path, *, scans: Path, settings: dict[str, Any], resume: bool) -> Path:
    """Train a network and write its model folder.

    Parameters
    ----------
    task : str
        One of `DRAWERS`.
    out : path
        Run folder.
    scans : Path
        Folder of real heads, which are prepared first; see `backgrounds.prepare`.
    settings : dict
        config/train.yaml.
    resume : bool
        Go on from the last checkpoint in `out`.

    Returns
    -------
    Path
        The model folder.
    """
    out = Path(out).resolve()
    drawer, given = DRAWERS[task], settings[task]
    size, wanted = given["network"], given["training"]
    names = {head["name"] for head in given["heads"]}
    heads = [head for head in settings["heads"] if head["name"] in names]
    prepare(scans, out / "heads", heads=heads, cores=settings["threads"])
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    device = choose_device("auto", setting="device")
    plans = plan_network(
        unet_architecture(size["features"], size["convs_encoder"], size["convs_decoder"]),
        name=f"Dataset503_{task}",
        normalisation=["ZScoreNormalization"] * len(drawer.channels),
        patch=size["patch"],
        batch=size["batch"],
    )
    network = build_from_plans(
        plans, CONFIGURATION, channels=len(drawer.channels), outputs=len(drawer.labels), path=out
    ).to(device)
    patches = PaintedPatches(
        read_heads(out / "heads", given["heads"]),
        paint=drawer.painter(settings),
        outputs=drawer.outputs,
        count=wanted["steps"] * size["batch"],
        patch=size["patch"],
        augmentation={**settings["augmentation"], "masks": given["masks"]},
        seed=settings["seed"],
    )
    checkpoint, log = out / f"{task}.pt", Log(out / f"{task}.log")
    if not resume:
        checkpoint.unlink(missing_ok=True)
    recipe = Recipe(
        steps=wanted["steps"],
        optimiser=torch.optim.AdamW(network.parameters(), wanted["lr"], weight_decay=wanted["weight_decay"]),
        factor=polynomial,
        loss=DC_and_CE_loss(
            {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False},
            {},
            dice_class=MemoryEfficientSoftDiceLoss,
        ),
        bfloat16=device.type == "cuda" or has_bfloat16(device),
    )
    batches = functools.partial(_load, patches, batch=size["batch"], workers=settings["workers"])
    fit(network, recipe, batches, checkpoint, log=log, device=device)
    return export(task, network, out, plans=plans, settings=settings)


def _load(
    patches: PaintedPatches, first: int, *, batch: int, workers: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches from a step on."""
    rest = torch.utils.data.Subset(patches, range(first * batch, len(patches)))
    return iter(torch.utils.data.DataLoader(rest, batch_size=batch, num_workers=workers))


def export(task: str, network: torch.nn.Module, out: Path, *, plans: dict[str, Any], settings: dict[str, Any]) -> Path:
    """Write the network as the model folder ``models/TASK``."""
    drawer, given = DRAWERS[task], settings[task]
    wanted = given["training"]
    description = {
        "task": task,
        "input": "brain",
        "channels": list(drawer.channels),
        "configuration": CONFIGURATION,
        "spacing_mm": [1.0, 1.0, 1.0],
        "normalisation": ["ZScoreNormalization"] * len(drawer.channels),
        "mirror_axes": [],
        "tile": list(given["network"]["tile"]),
        "threshold": 0.5,
        "min_component_score": 0.0,
        "steps": wanted["steps"],
        "trained_on": f"{', '.join(name_backgrounds(given['heads']))}; synthetic {drawer.painted}, no patient with "
        f"metastases; {wanted['steps']} steps of {given['network']['batch']} patches",
        "trained_with": f"AdamW, lr {wanted['lr']:g} falling to 0 (poly); Dice and cross-entropy",
        "licence": LICENCE,
    }
    log = out / f"{task}.log"
    write_model(
        out / "models" / task,
        network,
        plans=plans,
        dataset={"channel_names": name_channels(drawer.channels), "labels": drawer.labels, "file_ending": ".nii.gz"},
        description=description,
        card=write_card(
            description,
            title=drawer.title,
            introduction=[
                drawer.introduction,
                f"**It has never seen a patient's metastasis: {drawer.painted} were painted, into real heads.** "
                "Review what it draws. What it reaches: docs/performance.md.",
            ],
        ),
        log=log.read_text() if log.exists() else "",
    )
    return out / "models" / task
