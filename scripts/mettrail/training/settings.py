"""What decides how a network is trained; names are those of the configuration files."""

from __future__ import annotations

from dataclasses import dataclass

from mettrail.training.priors import PriorSettings


@dataclass(frozen=True)
class ShippedSettings:
    """Of a shipped network: ``training`` of config/train.yaml, which explains each."""

    epochs: int
    steps: int
    validation_steps: int
    lr: float
    weight_decay: float
    foreground: float
    uses: int
    pool: int
    each_lesion: float
    export_every: int


@dataclass(frozen=True)
class FoldSettings:
    """Of one network of the cross-validation: ``train`` of config/config.yaml, which explains each."""

    epochs: int
    steps: int
    validation_steps: int
    save_every: int
    bf16: bool
    seed: int
    tile_vox: float
    alpha: dict[str, float]
    priors: PriorSettings
