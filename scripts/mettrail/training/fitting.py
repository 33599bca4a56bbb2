"""Fitting networks outside nnU-Net's own trainer: resumable, and the same whether it was interrupted or not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from mettrail.training.progress import Log

Batches = Callable[[int], Iterator[tuple[torch.Tensor, torch.Tensor]]]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
SAVE_SECONDS = 60.0
LOG_STEPS = 50
# nnU-Net's.
CLIP_NORM = 12.0


@dataclass(frozen=True)
class Recipe:
    """How long a network is fitted, and by what.

    Parameters
    ----------
    steps : int
        Batches in all.
    optimiser : torch.optim.Optimizer
        Of the network's weights, at its highest rate.
    factor : function
        Of the rate, at a share of the steps.
    loss : function
        Of outputs and labels.
    mark : str
        What the checkpoint must have been made with to be gone on from.
    bfloat16 : bool
        Whether convolutions are computed so.
    """

    steps: int
    optimiser: torch.optim.Optimizer
    factor: Callable[[float], float]
    loss: Loss
    mark: str = ""
    bfloat16: bool = False


def polynomial(share: float) -> float:
    """Return nnU-Net's factor on the learning rate at a share of the training."""
    return float((1 - share) ** 0.9)


def fit(
    network: nn.Module,
    recipe: Recipe,
    batches: Batches,
    checkpoint: Path,
    *,
    log: Log,
    device: torch.device,
    name: str = "network",
    until: Callable[[], bool] = lambda: False,
) -> bool:
    """Fit a network to its end, from the checkpoint on that there is, or say that it was stopped.

    Parameters
    ----------
    network : torch.nn.Module
        One with context answers, by its method ``answer``, for what lies within it.
    recipe : Recipe
    batches : function
        Yields images and labels from a step on.
    checkpoint : Path
        Written every `SAVE_SECONDS`.
    log : Log
    device : torch.device
    name : str
        Of the network, in the log.
    until : function
        Asked after each step: stop here, with a checkpoint.
    """
    optimiser, step = recipe.optimiser, 0
    rate = optimiser.param_groups[0]["lr"]
    if checkpoint.exists():
        stored = torch.load(checkpoint, map_location=device, weights_only=True)
        if stored["mark"] == recipe.mark:
            network.load_state_dict(stored["network"])
            optimiser.load_state_dict(stored["optimiser"])
            step = stored["step"]
    running, saved, began, first = 0.0, time.monotonic(), time.monotonic(), step
    answer = getattr(network, "answer", network)
    network.train()
    drawn = batches(step)
    while step < recipe.steps:
        images, labels = (tensor.to(device) for tensor in next(drawn))
        for group in optimiser.param_groups:
            group["lr"] = rate * recipe.factor(step / recipe.steps)
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bfloat16):
            outputs = answer(images)
        loss = recipe.loss(outputs.float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM, error_if_nonfinite=True)
        optimiser.step()
        step += 1
        running += float(loss.detach())
        stop = until()
        if step % LOG_STEPS == 0 or step == recipe.steps:
            each = (time.monotonic() - began) / (step - first)
            mean = running / (step % LOG_STEPS or LOG_STEPS)
            log.add(f"{name} step {step}/{recipe.steps} loss {mean:.4f} {each:.2f} s/step")
            running = 0.0
        if stop or step == recipe.steps or time.monotonic() - saved > SAVE_SECONDS:
            _save(checkpoint, recipe, network, step)
            saved = time.monotonic()
        if stop and step < recipe.steps:
            return False
    return True


def _save(path: Path, recipe: Recipe, network: nn.Module, step: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    weights, optimiser = network.state_dict(), recipe.optimiser.state_dict()
    torch.save({"mark": recipe.mark, "step": step, "network": weights, "optimiser": optimiser}, partial)
    partial.replace(path)
