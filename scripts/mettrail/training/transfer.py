"""One network takes over another's weights, and computes what that did: wider, with a prior more, or without it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mettrail.errors import InputError
from mettrail.segmentation.model_folder import PRIOR
from mettrail.segmentation.models import read_model

if TYPE_CHECKING:
    from mettrail.segmentation.models import State

# nnU-Net's name for the number of channels at each resolution, and the weights that join the decoder to the encoder.
WIDTH = "features_per_stage"
_JOINS = re.compile(r"decoder\.stages\.\d+\.convs\.0\.")


def require_fitting(folder: Path, channels: Sequence[str], configuration: Mapping[str, Any]) -> None:
    """Check that a model's weights can be taken over: its sequences are ours, its size fits.

    Parameters
    ----------
    folder : Path
        Theirs.
    channels : list of str
        Ours.
    configuration : dict
        Ours, of nnU-Net's plans.

    Raises
    ------
    InputError
        Other sequences, or a deeper, shallower or wider network.
    """
    model = read_model(folder)
    theirs = _describe_network(model.channels, model.plans["configurations"][model.configuration])
    ours = _describe_network(channels, configuration)
    for what, value in theirs.items():
        fits = value == ours[what]
        if what == WIDTH and len(value) == len(ours[what]):
            fits = all(narrow <= wide for narrow, wide in zip(value, ours[what]))
        if not fits:
            raise InputError(
                f"{folder}: {what}",
                found=str(value),
                expected=str(ours[what]) + (", or fewer" if what == WIDTH else ""),
                advice="Start from a model of the same sequences and size, or a narrower one, or from random weights.",
            )


def _describe_network(channels: Sequence[str], configuration: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return what must agree for one network to take over another's weights; the prior need not."""
    given = configuration["architecture"]["arch_kwargs"]
    return {
        "sequences": [name for name in channels if name != PRIOR],
        **{key: given[key] for key in (WIDTH, "n_conv_per_stage", "n_conv_per_stage_decoder")},
    }


def fit_weights(theirs: State, ours: State) -> State:
    """Return another network's weights in the shape of ours; it computes what it did.

    What ours has more, a prior or channels within, counts for nothing yet: its weights into what was there are 0. A
    prior that we lack is omitted: at 0, its channel adds nothing.
    """
    import torch

    fitted = {}
    for key, old in theirs.items():
        new = ours[key].cpu().clone()
        if new.ndim == 1:
            new[: len(old)] = old
        else:
            # (outputs, inputs, ...), but for the convolutions that double the resolution.
            into, of = (w.transpose(0, 1) if ".transpconvs." in key else w for w in (new, old))
            inputs = torch.arange(min(into.shape[1], of.shape[1]))
            if _JOINS.search(key):
                # Half of them come from below, half from the encoder.
                half, wider = of.shape[1] // 2, into.shape[1] // 2
                inputs = torch.cat([inputs[:half], wider + inputs[:half]])
            into[: len(of)] = 0
            into[: len(of), inputs] = of[:, : len(inputs)]
        fitted[key] = new
    return fitted
