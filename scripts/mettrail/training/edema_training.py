"""Training of the network that draws edema, from post-contrast T1w and FLAIR; see `edema` for its patches.

A run folder holds everything and can be continued after a kill::

    OUT/heads/              real heads, as the pipeline prepares them
    OUT/edema.pt            the last checkpoint
    OUT/edema.log           progress
    OUT/models/edema/       the model folder
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

from mettrail.devices import choose_device, has_bfloat16
from mettrail.images import read_image, read_mask, require_same_grid
from mettrail.segmentation.architectures import build_from_plans
from mettrail.segmentation.model_folder import POST_CONTRAST, name_channels
from mettrail.segmentation.models import write_model
from mettrail.segmentation.normalisation import z_scores
from mettrail.training.backgrounds import find_backgrounds, name_backgrounds, prepare
from mettrail.training.card import write_card
from mettrail.training.cases import CONFIGURATION, distance_mm, plan_network, unet_architecture
from mettrail.training.edema import EdemaPatches, Head
from mettrail.training.progress import Log
from mettrail.training.training import LICENCE

CHANNELS = (POST_CONTRAST, "FLAIR")
LABELS = {"background": 0, "edema": 1}
LOG_STEPS = 50
CLIP_NORM = 12.0


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


def train_edema(out: str | Path, *, scans: Path, settings: dict[str, Any], resume: bool) -> Path:
    """Train the network and write its model folder.

    Parameters
    ----------
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
    out.mkdir(parents=True, exist_ok=True)
    given = settings["edema"]
    size, wanted = given["network"], given["training"]
    names = {head["name"] for head in given["heads"]}
    heads = [head for head in settings["heads"] if head["name"] in names]
    prepare(scans, out / "heads", heads=heads, cores=settings["threads"])
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    device = choose_device("auto", setting="device")
    plans = plan_network(
        unet_architecture(size["features"], size["convs_encoder"], size["convs_decoder"]),
        name="Dataset503_edema",
        normalisation=["ZScoreNormalization"] * len(CHANNELS),
        patch=size["patch"],
        batch=size["batch"],
    )
    network = build_from_plans(plans, CONFIGURATION, channels=len(CHANNELS), outputs=len(LABELS), path=out).to(device)
    optimiser = torch.optim.AdamW(network.parameters(), wanted["lr"], weight_decay=wanted["weight_decay"])
    checkpoint, step = out / "edema.pt", 0
    if resume and checkpoint.exists():
        stored = torch.load(checkpoint, map_location=device, weights_only=True)
        network.load_state_dict(stored["network"])
        optimiser.load_state_dict(stored["optimiser"])
        step = stored["step"]
    patches = EdemaPatches(
        read_heads(out / "heads", given["heads"]),
        count=wanted["steps"] * size["batch"],
        patch=size["patch"],
        settings=given,
        synthesis=settings["synthesis"],
        augmentation={**settings["augmentation"], "masks": given["masks"]},
        seed=settings["seed"],
    )
    loader = torch.utils.data.DataLoader(
        torch.utils.data.Subset(patches, range(step * size["batch"], len(patches))),
        batch_size=size["batch"],
        num_workers=settings["workers"],
    )
    loss_of = DC_and_CE_loss(
        {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False}, {}, dice_class=MemoryEfficientSoftDiceLoss
    )
    log = Log(out / "edema.log")
    running, began, first = 0.0, monotonic(), step
    for images, edema in loader:
        for group in optimiser.param_groups:
            group["lr"] = wanted["lr"] * (1 - step / wanted["steps"]) ** 0.9
        optimiser.zero_grad(set_to_none=True)
        bfloat16 = device.type == "cuda" or has_bfloat16(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            outputs = network(images.to(device))
        loss = loss_of(outputs.float(), edema.to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM, error_if_nonfinite=True)
        optimiser.step()
        step += 1
        running += float(loss.detach())
        if step % LOG_STEPS == 0:
            line = f"step {step}/{wanted['steps']} loss {running / LOG_STEPS:.4f}"
            log.add(f"{line} {(monotonic() - began) / (step - first):.2f} s/step")
            running = 0.0
        if step % wanted["save_every"] == 0 or step == wanted["steps"]:
            state = {"step": step, "network": network.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save(state, checkpoint.with_suffix(".partial"))
            checkpoint.with_suffix(".partial").replace(checkpoint)
    return export(network, out, plans=plans, settings=settings, steps=step)


def export(network: torch.nn.Module, out: Path, *, plans: dict[str, Any], settings: dict[str, Any], steps: int) -> Path:
    """Write the network as the model folder ``models/edema``."""
    given = settings["edema"]
    description = {
        "task": "edema",
        "input": "brain",
        "channels": list(CHANNELS),
        "configuration": CONFIGURATION,
        "spacing_mm": [1.0, 1.0, 1.0],
        "normalisation": ["ZScoreNormalization"] * len(CHANNELS),
        "mirror_axes": [],
        "tile": list(given["network"]["tile"]),
        "threshold": 0.5,
        "min_component_score": 0.0,
        "steps": steps,
        "trained_on": f"{', '.join(name_backgrounds(given['heads']))}; synthetic lesions and edema, no patient with "
        f"metastases; {steps} steps of {given['network']['batch']} patches",
        "trained_with": f"AdamW, lr {given['training']['lr']:g} falling to 0 (poly); Dice and cross-entropy",
        "licence": LICENCE,
    }
    log = out / "edema.log"
    write_model(
        out / "models" / "edema",
        network,
        plans=plans,
        dataset={"channel_names": name_channels(CHANNELS), "labels": LABELS, "file_ending": ".nii.gz"},
        description=description,
        card=write_card(
            description,
            title="Edema",
            introduction=[
                "Draws edema on one post-contrast T1w and FLAIR. Output: edema, which counts where it starts beside a "
                "lesion of other models.",
                "**It has never seen a patient's metastasis: lesions and their edema were painted, into real heads.** "
                "Review what it draws.",
            ],
        ),
        log=log.read_text() if log.exists() else "",
    )
    return out / "models" / "edema"
