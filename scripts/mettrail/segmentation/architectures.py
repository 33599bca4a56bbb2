"""The networks that plans.json may ask for, and what they may be made of: a name that is in no table here is refused.

A new architecture is a class with a line in `known_networks`. It is given the arguments of the plans, and
``input_channels``, ``num_classes`` and ``deep_supervision``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mettrail.reasons import Reason
from mettrail.segmentation.model_folder import PLANS, refusal, settle_plans

if TYPE_CHECKING:
    from torch import nn

# Of 32 bits each, 4 GB: ten times the largest network that nnU-Net plans.
MOST_WEIGHTS = 10**9


def known_networks() -> dict[str, Callable[..., nn.Module]]:
    """Return the networks by the names that plans may use."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet

    from mettrail.networks.deepmedic import DeepMedic
    from mettrail.networks.googlenet import GoogLeNet25d
    from mettrail.networks.two_stage import TwoStage

    place = "dynamic_network_architectures.architectures"
    return {
        f"{place}.unet.PlainConvUNet": PlainConvUNet,
        f"{place}.unet.ResidualEncoderUNet": ResidualEncoderUNet,
        f"{place}.residual_unet.ResidualEncoderUNet": ResidualEncoderUNet,  # where it was once
        **{f"mettrail.{network.__name__}": network for network in (DeepMedic, GoogLeNet25d, TwoStage)},
    }


def known_parts() -> dict[str, dict[str, type[nn.Module]]]:
    """Return, for each argument that takes a part, the parts by the names that plans may use."""
    from torch import nn

    parts: dict[str, tuple[type[nn.Module], ...]] = {
        "conv_op": (nn.Conv2d, nn.Conv3d),
        "norm_op": (nn.InstanceNorm2d, nn.InstanceNorm3d, nn.BatchNorm2d, nn.BatchNorm3d),
        "dropout_op": (nn.Dropout, nn.Dropout2d, nn.Dropout3d),
        "nonlin": (nn.LeakyReLU, nn.ReLU, nn.ELU, nn.GELU, nn.SiLU, nn.PReLU),
    }
    return {
        argument: {
            name: kind for kind in kinds for name in (f"{kind.__module__}.{kind.__name__}", f"torch.nn.{kind.__name__}")
        }
        for argument, kinds in parts.items()
    }


def build_from_plans(
    plans: dict[str, Any],
    configuration: str,
    *,
    channels: int,
    outputs: int,
    path: Path,
    tile: tuple[int, ...] | None = None,
) -> nn.Module:
    """Build nnU-Net's network of a configuration, without deep supervision, weights as initialised.

    It is sketched first, without memory: what is too large, or does not take a tile to a tile, is never built.

    Parameters
    ----------
    plans : dict
        nnU-Net's.
    configuration : str
    channels, outputs : int
    path : Path
        The folder of plans.json, for messages.
    tile : tuple of int, optional
        Voxels that it has to work on; the patch of the plans when omitted.

    Raises
    ------
    ModelError
        A network or a part that is in no table, arguments that make no network, or one that is too large.
    """
    import torch

    path = Path(path) / PLANS
    given = settle_plans(path, plans, configuration, channels=channels)["configurations"][configuration]
    make = _resolve(path, given["architecture"], input_channels=channels, num_classes=outputs)
    tile = tuple(tile or given["patch_size"])
    try:
        with torch.device("meta"), torch.no_grad():
            sketch = make().eval()
            weights = sum(weight.numel() for weight in sketch.state_dict().values())
            shape = None if weights > MOST_WEIGHTS else tuple(sketch(torch.empty(1, channels, *tile)).shape)
    except Exception as err:  # whatever strangers' arguments make torch raise
        raise refusal(
            path,
            f"an architecture that cannot be built ({type(err).__name__}: {err})",
            f"arguments of {given['architecture']['network_class_name']} that suit a tile of {list(tile)}",
            "Get the model again, or correct the tile in mettrail.json.",
        ) from err
    if shape != (1, outputs, *tile):
        raise refusal(
            path,
            f"a network of {weights:,} weights" if shape is None else f"a network that makes {list(shape)} of a tile",
            f"at most {MOST_WEIGHTS:,} weights" if shape is None else f"{[1, outputs, *tile]}",
            "Get the model again.",
        )
    network = make()
    initialise = getattr(network, "initialize", None)
    if initialise is not None:
        network.apply(initialise)
    return network


def _resolve(path: Path, architecture: Mapping[str, Any], **arguments: int) -> Callable[[], nn.Module]:
    """Return a function that makes the network, its class and parts looked up in the tables.

    Raises
    ------
    ModelError
        One that is in none.
    """
    networks, parts = known_networks(), known_parts()
    given, name = dict(architecture["arch_kwargs"]), architecture["network_class_name"]
    strange = [] if name in networks else [name]
    for argument in (*parts, *architecture.get("_kw_requires_import", ())):
        part = given.get(argument)
        if part is not None and str(part) not in parts.get(argument, {}):
            strange.append(f"{argument} {part}")
    if strange:
        raise refusal(
            path,
            f"an architecture made of {', '.join(strange)}",
            f"one of {', '.join(networks)}, made of {', '.join(sorted({p for kind in parts.values() for p in kind}))}",
            "If you trust where it comes from, add its class to mettrail/segmentation/architectures.py.",
            reason=Reason.UNSAFE_MODEL,
        )
    given |= {argument: parts[argument][given[argument]] for argument in parts if given.get(argument) is not None}
    return lambda: networks[name](**arguments, **given, deep_supervision=False)
