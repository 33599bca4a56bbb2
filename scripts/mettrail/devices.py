"""Which device networks run on, and what it can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mettrail.errors import InputError
from mettrail.reasons import Reason

if TYPE_CHECKING:
    import torch


def choose_device(name: str, *, setting: str) -> torch.device:
    """Return torch's device; refuse a GPU that is not there rather than take hours on a CPU.

    Parameters
    ----------
    name : str
        ``cpu``, ``cuda`` or ``auto`` (cuda where there is one).
    setting : str
        What the error calls the setting, for instance ``segment: device``.

    Returns
    -------
    torch.device

    Raises
    ------
    InputError
        cuda without a GPU; names the setting.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(
            setting,
            found=f"{name}, and no GPU that torch can use",
            expected="cpu, or auto",
            advice=f"Set {setting} to auto, or install a CUDA build of torch.",
            reason=Reason.NO_GPU,
        )
    return torch.device(name)


def has_bfloat16(device: torch.device) -> bool:
    """Say whether a device is a CPU that multiplies bfloat16 itself: convolutions take a quarter of the time then."""
    import torch

    if device.type != "cpu":
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
