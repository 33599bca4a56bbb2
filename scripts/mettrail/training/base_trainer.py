"""What both of our trainers share: nnU-Net's own trainer, made from plans alone; and a prior told apart from images."""

from __future__ import annotations

import copy
from typing import Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

# What nnU-Net hands from transform to transform, and from its loader to its trainer.
Batch = dict[str, Any]


class FirstChannels(BasicTransform):  # type: ignore[misc]
    """Apply a transform of intensities to the first channels and leave the others (the prior) as they are.

    Parameters
    ----------
    transform : BasicTransform
    channels : int
        How many; -1: all but the last.
    """

    def __init__(self, transform: BasicTransform, channels: int):
        super().__init__()
        self.transform, self.channels = transform, channels

    def apply(self, data_dict: Batch, **_: object) -> Batch:
        """Transform a copy of the first channels and put it back."""
        image = data_dict["image"]
        image[: self.channels] = self.transform(image=image[: self.channels].clone())["image"]
        return data_dict


class NearestPrior(BasicTransform):  # type: ignore[misc]
    """Move images, prior and labels alike, the prior (the last channel) with nearest neighbour: it stays binary.

    Parameters
    ----------
    spatial : SpatialTransform
    """

    def __init__(self, spatial: SpatialTransform):
        super().__init__()
        self.spatial, self.nearest = spatial, copy.copy(spatial)
        self.nearest.mode_image = "nearest"

    def get_parameters(self, **data_dict: Any) -> dict[str, Any]:
        """Draw one movement for everything."""
        parameters: dict[str, Any] = self.spatial.get_parameters(**data_dict)
        return parameters

    def apply(self, data_dict: Batch, **parameters: Any) -> Batch:
        """Move images and labels as nnU-Net does, and the prior once more in its own way."""
        prior = self.nearest.apply({"image": data_dict["image"][-1:]}, **parameters)["image"]
        moved: Batch = self.spatial.apply(dict(data_dict), **parameters)
        return moved | {"image": torch.cat([moved["image"][:-1], prior])}


class BaseTrainer(nnUNetTrainer):  # type: ignore[misc]
    """nnU-Net's trainer; arguments are nnU-Net's."""

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008  (nnU-Net's own signature)
    ):
        # nnU-Net takes this key out of the plans it is given.
        super().__init__({"continue_training": False, **plans}, configuration, fold, dataset_json, device)
        self.my_init_kwargs["plans"] = plans

    def plot_network_architecture(self) -> None:
        """Not drawn: it needs a package that is not installed."""

    def last(self, name: str) -> Any:
        """Return the last value of nnU-Net's log under a name."""
        return self.logger.get_value(name, step=-1)

    def tell_time(self) -> tuple[float, float, str]:
        """Return the seconds of the last epoch, those left, and the pseudo-Dice of the labels as text."""
        seconds = self.last("epoch_end_timestamps") - self.last("epoch_start_timestamps")
        dice = " ".join(f"{value:.2f}" for value in self.last("dice_per_class_or_region"))
        return seconds, seconds * (self.num_epochs - self.current_epoch), dice
