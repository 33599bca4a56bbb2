"""nnU-Net's trainer with few steps in mind: another optimiser, light augmentation, and a prior channel left alone.

Everything else (data loader, loss, deep supervision, checkpoints, log) is nnU-Net's own. The class is used directly;
to let nnU-Net's own commands find it, set ``nnUNet_extTrainer`` to this folder.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from batchgeneratorsv2.helpers.scalar_type import RandomScalar
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import (
    BrightnessAdditiveTransform,
    MultiplicativeBrightnessTransform,
)
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.variants.loss.nnUNetTrainerTopkLoss import nnUNetTrainerDiceTopK10Loss

from mettrail.devices import has_bfloat16
from mettrail.images import ENHANCING, NECROSIS
from mettrail.segmentation.base_trainer import BaseTrainer, FirstChannels, NearestPrior
from mettrail.segmentation.cases import thicken
from mettrail.segmentation.losses import EachLesionLoss, WithEachLesion
from mettrail.segmentation.synthesis import SynthesiseLesions

# Arrays reach nnU-Net as its file readers give them, (channel, Z, Y, X): left and right are the last axis.
LEFT_RIGHT_AXIS = 2


class ThickSlices(BasicTransform):
    """See a patch as if it had been acquired in slices, along any axis.

    Parameters
    ----------
    thick_mm : (low, high)
    """

    def __init__(self, thick_mm: tuple[float, float]):
        super().__init__()
        self.thick_mm = thick_mm

    def apply(self, data_dict: dict, **_) -> dict:
        """Blur and resample the first channels; labels stay."""
        axis, thick_mm = np.random.randint(3), np.random.uniform(*self.thick_mm)  # noqa: NPY002
        image = data_dict["image"]
        for channel in range(len(image)):
            thick = thicken(image[channel].numpy(), axis=axis, thick_mm=thick_mm)
            image[channel] = torch.from_numpy(np.ascontiguousarray(thick))
        return data_dict


class MettrailTrainer(BaseTrainer, nnUNetTrainerDiceTopK10Loss):
    """nnU-Net's trainer for two cores and an hour; arguments are nnU-Net's.

    Its cross-entropy is that of the worst tenth of the voxels (nnU-Net's own variant of the loss). Over all voxels it
    would hardly count beside the Dice, which in turn says nothing where a patch has no lesion: false pieces and
    small lesions would weigh next to nothing.
    """

    after_epoch = None

    @property
    def earlier_steps(self) -> int:
        """Steps of the network that training began from, 0 if from random weights; kept in the checkpoints."""
        return self.my_init_kwargs.get("earlier_steps", 0)

    @earlier_steps.setter
    def earlier_steps(self, steps: int) -> None:
        self.my_init_kwargs["earlier_steps"] = steps

    def steps_taken(self) -> int:
        """Return the steps up to now, with those of the network that training began from."""
        return self.earlier_steps + self.current_epoch * self.num_iterations_per_epoch

    def configure(
        self,
        *,
        epochs: int,
        steps: int,
        validation_steps: int,
        lr: float,
        weight_decay: float,
        foreground: float,
        each_lesion: float,
        synthesis: dict | None,
        augmentation: dict,
        **_,
    ) -> None:
        """Take the settings of a task from config/train.yaml; before `initialize`."""
        self.probabilistic_oversampling, self.save_every = True, 1
        # Drawing the progress costs as much as five steps, and the log has the same numbers.
        self.logger.plot_progress_png = lambda *_: None
        self.num_epochs = epochs
        self.num_iterations_per_epoch = steps
        self.num_val_iterations_per_epoch = validation_steps
        self.initial_lr, self.weight_decay = lr, weight_decay
        self.oversample_foreground_percent = foreground
        self.each_lesion = each_lesion
        self.synthesis, self.augmentation = synthesis, augmentation

    def _build_loss(self):
        """Add the loss that weighs all lesions alike to nnU-Net's."""
        each_lesion = EachLesionLoss(lesion_labels=[ENHANCING, NECROSIS])
        return WithEachLesion(super()._build_loss(), each_lesion, self.each_lesion)

    def configure_optimizers(self):
        """AdamW instead of SGD: useful in hundreds of steps instead of tens of thousands."""
        optimizer = torch.optim.AdamW(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):  # noqa: N802
        """Patches are cut with room to turn and shrink them, and mirrored left to right only."""
        self.inference_allowed_mirroring_axes = (LEFT_RIGHT_AXIS,)
        patch = self.configuration_manager.patch_size
        return (0.0, 0.0), False, [int(n * self.augmentation["room"]) for n in patch], (LEFT_RIGHT_AXIS,)

    def get_training_transforms(
        self,
        patch_size: np.ndarray | tuple[int, ...],
        rotation_for_DA: RandomScalar,  # noqa: ARG002, N803
        deep_supervision_scales: list | tuple | None,
        mirror_axes: tuple[int, ...],
        do_dummy_2d_data_aug: bool,  # noqa: ARG002
        use_mask_for_norm: list[bool] | None = None,
        is_cascaded: bool = False,  # noqa: ARG002
        foreground_labels: tuple[int, ...] | list[int] | None = None,  # noqa: ARG002
        regions: list | None = None,  # noqa: ARG002
        ignore_label: int | None = None,  # noqa: ARG002
    ) -> BasicTransform:
        """Turn, stretch and bend; paint lesions; slices, noise, blur, contrast on the images alone; mirror.

        Channels that nnU-Net normalises within the mask are images; the prior is not normalised and not touched here.
        """
        images = sum(bool(masked) for masked in use_mask_for_norm)
        given = self.augmentation
        moved = SpatialTransform(
            tuple(patch_size), 0, False,
            p_rotation=given["rotate_prob"], rotation=tuple(np.deg2rad(given["rotate_deg"]) * np.array((-1, 1))),
            p_scaling=given["scale_prob"], scaling=tuple(given["scale"]), p_synchronize_scaling_across_axes=0.7,
            p_elastic_deform=given["elastic_prob"], elastic_deform_scale=(0.15, 0.4),
            elastic_deform_magnitude=(1, given["elastic_vox"]),
            mode_seg="nearest", border_mode_seg="constant", padding_value_seg=-1,
        )  # fmt: skip
        has_prior = not all(use_mask_for_norm)
        transforms = [NearestPrior(moved) if has_prior else moved]
        if self.synthesis:
            transforms.append(SynthesiseLesions(self.synthesis, prior=has_prior))
        transforms += [FirstChannels(t, images) for t in _intensity_transforms(given)]
        transforms += [
            MirrorTransform(allowed_axes=mirror_axes),
            MaskImageTransform(apply_to_channels=list(range(images)), channel_idx_in_seg=0, set_outside_to=0),
            RemoveLabelTansform(-1, 0),
        ]
        if deep_supervision_scales is not None:
            transforms.append(DownsampleSegForDSTransform(ds_scales=deep_supervision_scales))
        return ComposeTransforms(transforms)

    def initialize(self):
        """Build the network; its output is single precision whatever it computes in: losses sum over many voxels."""
        super().initialize()
        self.network.register_forward_hook(
            lambda _module, _input, out: [o.float() for o in out] if isinstance(out, (list, tuple)) else out.float()
        )

    def train_step(self, batch: dict) -> dict:
        """Compute convolutions in bfloat16 on processors made for it, at half the time."""
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16(self.device)):
            return super().train_step(batch)

    def do_split(self):
        """Tell training from held-out cases by their names."""
        keys = sorted(path.stem for path in Path(self.preprocessed_dataset_folder).glob("*.pkl"))
        train = [key for key in keys if key.startswith("train")]
        return train, [key for key in keys if key.startswith("val")] or train

    def on_epoch_end(self):
        """Say in one line where the training stands and how long it will take."""
        super().on_epoch_end()
        seconds, left, dice = self.tell_time()
        self.print_to_log_file(
            f"progress: epoch {self.current_epoch}/{self.num_epochs}, "
            f"loss {self.last('train_losses'):.3f} / {self.last('val_losses'):.3f}, pseudo-Dice {dice}, "
            f"{seconds / self.num_iterations_per_epoch:.2f} s/step, {left / 60:.0f} min left, "
            f"done at {time.strftime('%H:%M', time.localtime(time.time() + left))}"
        )
        if self.after_epoch is not None:
            self.after_epoch(self)


def _intensity_transforms(given: dict) -> list[BasicTransform]:
    """Slices, blur, noise, and what scanners and normalisation do to brightness and contrast."""
    return [
        RandomTransform(ThickSlices(given["thick_mm"]), given["thick_prob"]),
        RandomTransform(
            GaussianBlurTransform((0.3, 1.0), synchronize_channels=True, synchronize_axes=True, p_per_channel=1), 0.2
        ),
        RandomTransform(GaussianNoiseTransform((0, 0.1), p_per_channel=1, synchronize_channels=True), 0.3),
        RandomTransform(
            MultiplicativeBrightnessTransform(BGContrast((0.7, 1.4)), synchronize_channels=False, p_per_channel=1), 0.4
        ),
        RandomTransform(BrightnessAdditiveTransform(0, 0.25, p_per_channel=1), 0.4),
        RandomTransform(
            GammaTransform(
                BGContrast((0.7, 1.4)), p_invert_image=0, synchronize_channels=False, p_per_channel=1, p_retain_stats=1
            ),
            0.2,
        ),
    ]
