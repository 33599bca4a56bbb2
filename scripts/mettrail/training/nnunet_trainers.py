"""nnU-Net's trainer for patients: its own network, augmentation, optimiser and schedule, and what a prior needs.

What is added, and nothing else: a prior channel is left alone by intensity augmentation, stays binary under spatial
augmentation and is made worse in training, never in validation; the loss of Huang et al. 2022; a progress line.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper

from mettrail.geometry import label_components
from mettrail.training.base_trainer import BaseTrainer, Batch, FirstChannels, NearestPrior
from mettrail.training.dataset import lesion_labels
from mettrail.training.losses import JointVSSLoss, count_tiles
from mettrail.training.priors import PriorSettings, make_prior
from mettrail.training.settings import FoldSettings

# These treat a prior as they should: labels are not its business, and it is mirrored with the images.
HARMLESS = (MirrorTransform, MaskImageTransform, RemoveLabelTansform, DownsampleSegForDSTransform)


class WorsePriors(BasicTransform):  # type: ignore[misc]
    """Make the prior (the last channel) of a patch another one of the same lesions, as good and bad as in use.

    Parameters
    ----------
    labels : list of int
        Labels of metastases.
    settings : PriorSettings
        Each patch by itself: `drop_all_prob` is the share of patches without a prior.
    """

    def __init__(self, labels: list[int], settings: PriorSettings):
        super().__init__()
        self.labels, self.settings = labels, settings

    def apply(self, data_dict: Batch, **_: object) -> Batch:
        """Make the prior from lesions numbered before and now."""
        image, seg = data_dict["image"], data_dict["segmentation"][0].numpy()
        previous = label_components(image[-1].numpy() > 0)[0]
        current = label_components(np.isin(seg, self.labels))[0]
        # nnU-Net seeds numpy's global generator in its workers: what is drawn here follows from that.
        rng = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002
        prior = make_prior(previous, current, seg >= 0, rng=rng, settings=self.settings)
        return data_dict | {"image": torch.cat([image[:-1], torch.from_numpy(prior)[None].to(image.dtype)])}


def spare_prior(transforms: ComposeTransforms) -> ComposeTransforms:
    """Return nnU-Net's augmentation with the last channel, a prior, exempt from what would spoil it.

    Raises
    ------
    TypeError
        A transform that this nnU-Net has and nobody here has looked at.
    """
    out = []
    for transform in transforms.transforms:
        if isinstance(transform, SpatialTransform):
            out.append(NearestPrior(transform))
        elif isinstance(transform, RandomTransform):
            out.append(FirstChannels(transform, -1))
        elif isinstance(transform, HARMLESS):
            out.append(transform)
        else:
            raise TypeError(f"what {type(transform).__name__} does to a prior is not known")
    return ComposeTransforms(out)


class DiceCETrainer(BaseTrainer):
    """nnU-Net's trainer with its own loss, Dice and cross-entropy; arguments are nnU-Net's."""

    settings: FoldSettings
    has_prior: bool

    def configure(self, settings: FoldSettings) -> None:
        """Take the settings; before `initialize`."""
        self.settings = settings
        self.num_epochs, self.save_every = settings.epochs, settings.save_every
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = settings.steps, settings.validation_steps
        self.has_prior = self.configuration_manager.normalization_schemes[-1] == "NoNormalization"
        if settings.bf16:
            # It has the range of float32: there is nothing to scale.
            self.grad_scaler = None

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """Return nnU-Net's augmentation; where there is a prior, it is made worse first and then spared the rest."""
        transforms = super().get_training_transforms(*args, **kwargs)
        if not self.has_prior:
            return transforms
        spared = spare_prior(transforms)
        spared.transforms.insert(0, WorsePriors(lesion_labels(self.dataset_json["labels"]), self.settings.priors))
        return spared

    def train_step(self, batch: Batch) -> Batch:
        """Take nnU-Net's step, in bfloat16 where asked for."""
        with self._precision():
            outputs: Batch = super().train_step(batch)
        return outputs

    def validation_step(self, batch: Batch) -> Batch:
        """Take nnU-Net's step, in bfloat16 where asked for."""
        with self._precision():
            outputs: Batch = super().validation_step(batch)
        return outputs

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        # nnU-Net's own autocast, inside this one, takes over the type.
        return torch.autocast(self.device.type, torch.bfloat16) if self.settings.bf16 else contextlib.nullcontext()

    def on_epoch_end(self) -> None:
        """Say in one line where the training stands and how long it will take."""
        super().on_epoch_end()
        seconds, left, dice = self.tell_time()
        self.print_to_log_file(
            f"progress: epoch {self.current_epoch}/{self.num_epochs}, loss {self.last('train_losses'):.3f} training / "
            f"{self.last('val_losses'):.3f} validation, pseudo-Dice {dice}, {seconds:.0f} s/epoch, "
            f"{left / 3600:.1f} h left, done at {time.strftime('%a %H:%M', time.localtime(time.time() + left))}"
        )


class SensitiveTrainer(DiceCETrainer):
    """The same with the loss of Huang et al. 2022, weighted towards finding every metastasis."""

    weight = "sensitive"

    def _build_loss(self) -> torch.nn.Module:
        """Put the joint loss where nnU-Net has its own, within its deep supervision."""
        loss: torch.nn.Module = super()._build_loss()
        joint = JointVSSLoss(
            lesion_labels=lesion_labels(self.dataset_json["labels"]),
            tiles=count_tiles(self.configuration_manager.patch_size, tile_vox=self.settings.tile_vox),
            alpha=self.settings.alpha[self.weight],
        )
        if not isinstance(loss, DeepSupervisionWrapper):
            return joint
        supervised: torch.nn.Module = loss
        supervised.loss = joint
        return supervised


class SpecificTrainer(SensitiveTrainer):
    """The same, weighted towards no false positives."""

    weight = "specific"


TRAINERS = {"dice_ce": DiceCETrainer, "sensitive": SensitiveTrainer, "specific": SpecificTrainer}
