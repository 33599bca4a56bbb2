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
class Plan:
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
    plan: Plan,
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
    plan : Plan
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
    optimiser, step = plan.optimiser, 0
    rate = optimiser.param_groups[0]["lr"]
    if checkpoint.exists():
        stored = torch.load(checkpoint, map_location=device, weights_only=True)
        if stored["mark"] == plan.mark:
            network.load_state_dict(stored["network"])
            optimiser.load_state_dict(stored["optimiser"])
            step = stored["step"]
    running, saved, began, first = 0.0, time.monotonic(), time.monotonic(), step
    answer = getattr(network, "answer", network)
    network.train()
    drawn = batches(step)
    while step < plan.steps:
        images, labels = (tensor.to(device) for tensor in next(drawn))
        for group in optimiser.param_groups:
            group["lr"] = rate * plan.factor(step / plan.steps)
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=plan.bfloat16):
            outputs = answer(images)
        loss = plan.loss(outputs.float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM, error_if_nonfinite=True)
        optimiser.step()
        step += 1
        running += float(loss.detach())
        stop = until()
        if step % LOG_STEPS == 0 or step == plan.steps:
            each = (time.monotonic() - began) / (step - first)
            mean = running / (step % LOG_STEPS or LOG_STEPS)
            log.add(f"{name} step {step}/{plan.steps} loss {mean:.4f} {each:.2f} s/step")
            running = 0.0
        if stop or step == plan.steps or time.monotonic() - saved > SAVE_SECONDS:
            _save(checkpoint, plan, network, step)
            saved = time.monotonic()
        if stop and step < plan.steps:
            return False
    return True


def _save(path: Path, plan: Plan, network: nn.Module, step: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    weights, optimiser = network.state_dict(), plan.optimiser.state_dict()
    torch.save({"mark": plan.mark, "step": step, "network": weights, "optimiser": optimiser}, partial)
    partial.replace(path)
