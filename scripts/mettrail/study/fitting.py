"""Training of one method: resumable, and the same whether it was interrupted or not."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import nn
from torch.nn import functional

from mettrail.networks.two_stage import regions_of
from mettrail.segmentation.architectures import build_from_plans
from mettrail.segmentation.model_folder import name_channels
from mettrail.segmentation.models import Model, write_model
from mettrail.segmentation.normalisation import name_in_plans
from mettrail.study.cases import Case
from mettrail.study.methods import Method, Part
from mettrail.study.patches import Patches
from mettrail.training import fitting
from mettrail.training.card import write_card
from mettrail.training.cases import CONFIGURATION, plan_network
from mettrail.training.fitting import Loss, polynomial
from mettrail.training.losses import JointVSSLoss
from mettrail.training.priors import PriorSettings
from mettrail.training.progress import Log

# Voxels of lesions count so much more in the 2.5-D network's cross-entropy (Grøvik et al. 2020).
POSITIVES = 10.0


def _dice_ce(_: Part) -> Loss:
    loss: Loss = DC_and_CE_loss(
        {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False}, {}, dice_class=MemoryEfficientSoftDiceLoss
    )
    return loss


def _dice_bce(_: Part) -> Loss:
    of_regions = DC_and_BCE_loss(
        {}, {"batch_dice": True, "smooth": 1e-5, "do_bg": True, "ddp": False}, dice_class=MemoryEfficientSoftDiceLoss
    )

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = of_regions(outputs, regions_of(labels[:, 0]).float())
        return found

    return loss


def _detect(_: Part) -> Loss:
    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        holds = ((labels == 1) | (labels == 3)).flatten(1).any(1).float()
        return functional.binary_cross_entropy_with_logits(outputs[:, 0], holds)

    return loss


def _weighted_bce(_: Part) -> Loss:
    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        odds = outputs[:, 1] - outputs[:, 0]
        weight = odds.new_tensor(POSITIVES)
        return functional.binary_cross_entropy_with_logits(odds, labels[:, 0].float(), pos_weight=weight)

    return loss


def _jvss(part: Part) -> Loss:
    # A patch is one of the paper's subvolumes.
    return JointVSSLoss(lesion_labels=[1], tiles=(1, 1, 1), alpha=part.alpha)


LOSSES = {"dice_ce": _dice_ce, "dice_bce": _dice_bce, "bce": _detect, "weighted_bce": _weighted_bce, "jvss": _jvss}

# Optimiser, and the factor on its rate at a share of the training.
OPTIMISERS: dict[str, tuple[Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer], Callable[[float], float]]] = {
    # nnU-Net's, and Sadegheih's for its segmenter.
    "sgd": (
        lambda weights: torch.optim.SGD(weights, 0.01, momentum=0.99, nesterov=True, weight_decay=3e-5),
        polynomial,
    ),
    "adam_cosine": (
        lambda weights: torch.optim.Adam(weights, 4e-4),
        lambda share: (share / 0.1) if share < 0.1 else _cosine((share - 0.1) / 0.9),
    ),
    # Huang's: RMSProp with momentum, the rate halved as DeepMedic does it.
    "rmsprop": (
        lambda weights: torch.optim.RMSprop(weights, 1e-3, alpha=0.9, eps=1e-4, momentum=0.6),
        lambda share: 0.5 ** (int((share - 0.3) / 0.1) + 1) if share >= 0.3 else 1.0,
    ),
    "adam": (lambda weights: torch.optim.Adam(weights, 1e-3, weight_decay=1e-5), polynomial),
}


def _cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


def train_method(
    method: Method,
    cases: Sequence[Case],
    folder: Path,
    model_folder: Path,
    *,
    priors: PriorSettings,
    device: torch.device,
    seed: int,
    trained_on: str,
    licence: str,
    until: Callable[[], bool] = lambda: False,
) -> Model | None:
    """Train all parts of a method and write its model folder; goes on from the checkpoint that there is.

    Parameters
    ----------
    method : Method
    cases : sequence of Case
        To train on.
    folder : Path
        Of checkpoints and log.
    model_folder : Path
        Written at the end.
    priors : PriorSettings
    device : torch.device
    seed : int
        The same seed, cases and settings give the same network on the same machine.
    trained_on, licence : str
        For mettrail.json.
    until : function
        Asked after each step: stop here, with a checkpoint.

    Returns
    -------
    Model, or None where it was told to stop
    """
    plans = plan_network(
        method.architecture,
        name=f"Dataset100_{method.name}",
        normalisation=[name_in_plans(name) for name in method.normalisation],
        patch=method.tile,
        batch=method.parts[0].size.batch,
    )
    torch.manual_seed(seed + method.seed)
    network = build_from_plans(
        plans, CONFIGURATION, channels=len(method.channels), outputs=len(method.labels), path=model_folder
    ).to(device)
    log = Log(folder / "training.log")
    for number, part in enumerate(method.parts):
        patches = Patches(
            cases,
            method,
            part,
            context=getattr(network, "context_vox", (0, 0, 0)),
            priors=priors,
            seed=1000 * (seed + method.seed) + number,
        )
        if not _train_part(network, part, patches, folder / f"part-{number}.pt", log=log, device=device, until=until):
            return None
    return _write(method, network, model_folder, plans=plans, trained_on=trained_on, licence=licence, log=log)


def _train_part(
    network: nn.Module,
    part: Part,
    patches: Patches,
    checkpoint: Path,
    *,
    log: Log,
    device: torch.device,
    until: Callable[[], bool],
) -> bool:
    """Train a part to its end, or say that it was stopped."""
    module = network.get_submodule(part.name)
    make, factor = OPTIMISERS[part.optimiser]
    recipe = fitting.Recipe(
        steps=part.size.steps,
        optimiser=make(module.parameters()),
        factor=factor,
        loss=LOSSES[part.loss](part),
        mark=_mark(patches),
        # Not on CPUs: oneDNN's bfloat16 gradients of convolutions over 2x2x2 voxels are noise on some of them.
        bfloat16=device.type == "cuda",
    )
    batches = functools.partial(_draw, patches)
    name = part.name or "network"
    return fitting.fit(module, recipe, batches, checkpoint, log=log, device=device, name=name, until=until)


def _draw(patches: Patches, first: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for step in itertools.count(first):
        # What a network draws by itself (dropout) is drawn by number, too.
        torch.manual_seed(patches.seed + step)
        yield patches.draw(step)


def _mark(patches: Patches) -> str:
    """Return what a checkpoint must have been made with to be gone on from."""
    made = {
        "method": asdict(patches.method),
        "part": asdict(patches.part),
        "priors": asdict(patches.priors),
        "seed": patches.seed,
        "cases": {case.folder.name: case.content for case in patches.cases},
    }
    return hashlib.sha256(json.dumps(made, sort_keys=True, default=str).encode()).hexdigest()


def _write(
    method: Method,
    network: nn.Module,
    folder: Path,
    *,
    plans: dict[str, Any],
    trained_on: str,
    licence: str,
    log: Log,
) -> Model:
    description = {
        "task": method.task,
        "input": "brain",
        "channels": list(method.channels),
        "optional_channels": list(method.optional),
        "configuration": CONFIGURATION,
        "spacing_mm": [1.0, 1.0, 1.0],
        "normalisation": method.normalisation,
        "mirror_axes": [],
        "tile": list(method.tile),
        "threshold": 0.5,
        "min_component_score": 0,
        "steps": sum(part.size.steps for part in method.parts),
        "trained_on": trained_on,
        "licence": licence,
    }
    sizes = [
        f"{part.name or 'network'}: {part.size.steps} steps of {part.size.batch} patches of {part.patch} voxels, "
        f"{part.size.width:g} of the published width"
        for part in method.parts
    ]
    described = description | {"trained_with": f"the loss and optimiser of {method.paper}"}
    card = write_card(
        described, title=f"{method.name}: the network of {method.paper}, trained for a comparison", facts=sizes
    )
    network.eval()
    return write_model(
        folder,
        network,
        plans=plans,
        dataset={
            "channel_names": name_channels(method.channels),
            "labels": dict(method.labels),
            "file_ending": ".nii.gz",
        },
        description=description,
        card=card,
        log=log.path.read_text(encoding="utf-8"),
        half=False,
    )
