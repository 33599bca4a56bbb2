"""nnU-Net's trainer with few steps in mind: another optimiser, light augmentation, and a prior channel left alone.

Everything else (data loader, loss, deep supervision, checkpoints, log) is nnU-Net's own. The class is used directly;
to let nnU-Net's own commands find it, set ``nnUNet_extTrainer`` to this folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
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
from mettrail.images import CAVITY, EDEMA, ENHANCING, NECROSIS
from mettrail.segmentation.prediction import LEFT_RIGHT_AXIS
from mettrail.training.base_trainer import BaseTrainer, Batch, FirstChannels, NearestPrior
from mettrail.training.cases import read_surface, smooth_noise, thicken
from mettrail.training.losses import EachLesionLoss, WithEachLesion
from mettrail.training.settings import ShippedSettings
from mettrail.training.synthesis import SynthesiseLesions

# What the pipeline keeps beyond the brain (strip.grow_mm): validation sees that.
_RIM_MM = 3.0


class StripAnew(BasicTransform):  # type: ignore[misc]
    """Strip a patch by another brain mask: tighter or wider, locally wrong, with what is no brain left in.

    What networks see depends on which method drew the mask; they should not. The labels' second channel says how far
    beyond the brain's surface a voxel lies (`cases.code_surface`), and is taken out; labels outside the mask are -1.

    Parameters
    ----------
    settings : dict
        ``masks`` of config/train.yaml.
    images : int
        How many channels are images; what comes after them, a prior, is 0 outside the mask.
    """

    def __init__(self, settings: dict[str, Any], images: int):
        super().__init__()
        self.settings, self.images = settings, images

    def apply(self, data_dict: Batch, **_: object) -> Batch:
        """Draw a mask."""
        labels, code = data_dict["segmentation"].numpy()
        rng = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002
        outside = ~draw_mask(read_surface(code), rng, **self.settings)
        labels[outside] = -1
        data_dict["image"][self.images :, torch.from_numpy(outside)] = 0
        data_dict["segmentation"] = data_dict["segmentation"][:1].clone()
        return data_dict


def draw_mask(
    beyond: np.ndarray,
    rng: np.random.Generator,
    *,
    rim_mm: tuple[float, float],
    error_mm: tuple[float, float],
    left_in_prob: float,
    left_in_at_most: int,
    left_in_radius_mm: tuple[float, float],
) -> np.ndarray:
    """Draw a brain mask as some method may draw it.

    Parameters
    ----------
    beyond : (Z, Y, X) float
        mm beyond the brain's surface, infinite where there is no image.
    rng : numpy Generator
    rim_mm : (low, high)
        So much of what lies beyond the surface is kept; negative: so much of the brain is not.
    error_mm : (low, high)
        Standard deviation by which that varies from place to place.
    left_in_prob, left_in_at_most, left_in_radius_mm
        Now and then up to so many balls around something outside are kept, too: orbits, skull base, scalp.

    Returns
    -------
    (Z, Y, X) bool
    """
    near = rng.uniform(*rim_mm) + rng.uniform(*error_mm) * smooth_noise(beyond.shape, rng)
    mask: np.ndarray = beyond <= near
    if rng.random() < left_in_prob:
        places = np.flatnonzero((beyond > rim_mm[1]) & np.isfinite(beyond))
        for _ in range(rng.integers(1, left_in_at_most + 1) if places.size else 0):
            centre = np.unravel_index(rng.choice(places), beyond.shape)
            radius, stretch = rng.uniform(*left_in_radius_mm), rng.uniform(0.6, 1.6, 3)
            axes = [((np.arange(n, dtype=np.float32) - c) / s) ** 2 for n, c, s in zip(beyond.shape, centre, stretch)]
            mask |= axes[0][:, None, None] + axes[1][:, None] + axes[2] <= radius**2
    mask &= np.isfinite(beyond)
    return mask


class ThickSlices(BasicTransform):  # type: ignore[misc]
    """See a patch as if it had been acquired in slices, along any axis.

    Parameters
    ----------
    thick_mm : (low, high)
    images : int
        How many channels are images: a prior stays.
    drawn_from : float
        Readers draw what a slice has of a lesion from this share on.
    """

    def __init__(self, thick_mm: tuple[float, float], images: int, *, drawn_from: float):
        super().__init__()
        self.thick_mm, self.images, self.drawn_from = thick_mm, images, drawn_from

    def apply(self, data_dict: Batch, **_: object) -> Batch:
        """Blur and resample the images; lesions reach as far as they can be seen."""
        axis, thick_mm = np.random.randint(3), np.random.uniform(*self.thick_mm)  # noqa: NPY002
        image, labels = data_dict["image"], data_dict["segmentation"][0].numpy()
        for channel in range(self.images):
            thick = thicken(image[channel].numpy(), axis=axis, thick_mm=thick_mm)
            image[channel] = torch.from_numpy(np.ascontiguousarray(thick))
        lesion = np.isin(labels, (ENHANCING, NECROSIS))
        if lesion.any():
            seen = thicken(lesion.astype(np.float32), axis=axis, thick_mm=thick_mm) >= self.drawn_from
            labels[seen & np.isin(labels, (0, EDEMA))] = ENHANCING
        return data_dict


class Reused:
    """Batches of a loader and, while the next is not ready, others of earlier patches, mirrored and in other tones.

    Making patches takes longer than learning from them where there is a GPU.

    Parameters
    ----------
    loader : iterator of dict
        nnU-Net's, of ``data`` (B, C, Z, Y, X) and ``target``, one tensor or several of falling resolution. One without
        processes of its own is never waited for.
    uses : int
        How often a patch is shown, on average, at most.
    pool : int
        Patches that are kept.
    images : int
        How many channels are images.
    device : torch.device
        Where they are kept.
    """

    def __init__(self, loader: Iterator[Batch], uses: int, pool: int, images: int, device: torch.device):
        self.loader, self.uses, self.pool, self.images, self.device = loader, uses, pool, images, device
        self.kept: list[tuple[torch.Tensor, ...]] = []
        self.again, self.replaced, self.size = 0, 0, 0
        self.several = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        """Return the next batch."""
        made = getattr(self.loader, "results_loop_queue", None)
        enough = len(self.kept) >= self.pool / 4
        if made is not None and made.empty() and enough and self.again < self.uses - 1:
            self.again += 1
            return self._mix()
        batch, self.again = next(self.loader), 0
        self.several = isinstance(batch["target"], list)
        tensors = [batch["data"], *(batch["target"] if self.several else [batch["target"]])]
        tensors = [tensor.to(self.device, non_blocking=True) for tensor in tensors]
        self.size = len(tensors[0])
        for patch in zip(*tensors):
            if len(self.kept) < self.pool:
                self.kept.append(patch)
            else:
                self.kept[self.replaced % self.pool] = patch
                self.replaced += 1
        return self._pack(tensors)

    def _mix(self) -> Batch:
        # nnU-Net's steps draw nothing from numpy's generator in this process.
        chosen = np.random.randint(len(self.kept), size=self.size)  # noqa: NPY002
        patches = []
        for number in chosen:
            data, *targets = self.kept[number]
            image = _retone(data[: self.images])
            patch = [torch.cat([image, data[self.images :]]), *targets]
            if np.random.random() < 0.5:  # noqa: NPY002
                patch = [tensor.flip(-1) for tensor in patch]
            patches.append(patch)
        return self._pack([torch.stack(tensors) for tensors in zip(*patches)])

    def _pack(self, tensors: list[torch.Tensor]) -> Batch:
        return {"data": tensors[0], "target": tensors[1:] if self.several else tensors[1]}


def _retone(image: torch.Tensor) -> torch.Tensor:
    """Change contrast, brightness and noise of a patch a little; what is exactly 0 is outside."""
    outside = image == 0
    a, b, bend, noise = np.random.normal(size=4)  # noqa: NPY002
    # A curve that rises from end to end, whatever the bend.
    bent = image + float(np.clip(0.08 * bend, -0.2, 0.2)) * torch.tanh(image) * image.clamp(-2, 2)
    toned = float(np.exp(0.12 * a)) * bent + 0.12 * float(b)
    return (toned + 0.04 * abs(float(noise)) * torch.randn_like(image)).masked_fill(outside, 0)


class MettrailTrainer(BaseTrainer, nnUNetTrainerDiceTopK10Loss):  # type: ignore[misc]
    """nnU-Net's trainer for two cores and an hour; arguments are nnU-Net's.

    Its cross-entropy is that of the worst tenth of the voxels (nnU-Net's own variant of the loss). Over all voxels it
    would hardly count beside the Dice, which in turn says nothing where a patch has no lesion: false positives and
    small lesions would weigh next to nothing.
    """

    settings: ShippedSettings
    synthesis: dict[str, Any] | None
    augmentation: dict[str, Any]
    beds: Callable[..., BasicTransform] | None
    dataloader_train: Any
    after_epoch: Callable[[Self], None] | None = None

    @property
    def earlier_steps(self) -> int:
        """Steps of the network that training began from, 0 if from random weights; kept in the checkpoints."""
        return int(self.my_init_kwargs.get("earlier_steps", 0))

    @earlier_steps.setter
    def earlier_steps(self, steps: int) -> None:
        self.my_init_kwargs["earlier_steps"] = steps

    def steps_taken(self) -> int:
        """Return the steps up to now, with those of the network that training began from."""
        return self.earlier_steps + int(self.current_epoch) * int(self.num_iterations_per_epoch)

    def configure(
        self,
        settings: ShippedSettings,
        *,
        synthesis: dict[str, Any] | None,
        augmentation: dict[str, Any],
        beds: Callable[..., BasicTransform] | None = None,
    ) -> None:
        """Take the settings of a task from config/train.yaml, and what paints resection beds; before `initialize`."""
        self.settings, self.synthesis, self.augmentation, self.beds = settings, synthesis, augmentation, beds
        self.probabilistic_oversampling, self.save_every = True, 1
        # Drawing the progress costs as much as five steps, and the log has the same numbers.
        self.logger.plot_progress_png = lambda *_: None
        self.num_epochs = settings.epochs
        self.num_iterations_per_epoch = settings.steps
        self.num_val_iterations_per_epoch = settings.validation_steps
        self.initial_lr, self.weight_decay = settings.lr, settings.weight_decay
        self.oversample_foreground_percent = settings.foreground

    def _build_loss(self) -> torch.nn.Module:
        """Add the loss that weighs all lesions alike to nnU-Net's."""
        each_lesion = EachLesionLoss(lesion_labels=[ENHANCING, NECROSIS])
        return WithEachLesion(super()._build_loss(), each_lesion, self.settings.each_lesion)

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        """AdamW instead of SGD: useful in hundreds of steps instead of tens of thousands."""
        optimizer = torch.optim.AdamW(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(  # noqa: N802
        self,
    ) -> tuple[tuple[float, float], bool, list[int], tuple[int, ...]]:
        """Patches are cut with room to turn and shrink them, and mirrored left to right only."""
        self.inference_allowed_mirroring_axes = (LEFT_RIGHT_AXIS,)
        patch = self.configuration_manager.patch_size
        return (0.0, 0.0), False, [int(n * self.augmentation["room"]) for n in patch], (LEFT_RIGHT_AXIS,)

    def get_training_transforms(
        self,
        patch_size: np.ndarray | tuple[int, ...],
        _rotation: object,
        deep_supervision_scales: list[list[float]] | None,
        mirror_axes: tuple[int, ...],
        *_: object,
        use_mask_for_norm: list[bool],
        **__: object,
    ) -> BasicTransform:
        """Turn, stretch and bend; paint lesions; slices, noise, blur, contrast on the images alone; mirror.

        nnU-Net says more than is needed here. Channels that it normalises within the mask are images; the prior is not
        normalised and not touched.
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
        transforms = [NearestPrior(moved) if has_prior else moved, StripAnew(given["masks"], images)]
        if self.beds:
            transforms.append(self.beds(prior=has_prior))
        if self.synthesis:
            transforms.append(SynthesiseLesions(self.synthesis, prior=has_prior))
        thick = ThickSlices(given["thick_mm"], images, drawn_from=given["thick_drawn_from"])
        transforms.append(RandomTransform(thick, given["thick_prob"]))
        transforms += [FirstChannels(t, images) for t in _intensity_transforms()]
        transforms += [
            MirrorTransform(allowed_axes=mirror_axes),
            MaskImageTransform(apply_to_channels=list(range(images)), channel_idx_in_seg=0, set_outside_to=0),
            RemoveLabelTansform(-1, 0),
            RemoveLabelTansform(CAVITY, 0),
        ]
        if deep_supervision_scales is not None:
            transforms.append(DownsampleSegForDSTransform(ds_scales=deep_supervision_scales))
        return ComposeTransforms(transforms)

    def initialize(self) -> None:
        """Build the network; its output is single precision whatever it computes in: losses sum over many voxels."""
        super().initialize()
        self.network.register_forward_hook(
            lambda _module, _input, out: [o.float() for o in out] if isinstance(out, (list, tuple)) else out.float()
        )

    def train_step(self, batch: Batch) -> Batch:
        """Compute convolutions in bfloat16 on processors made for it, at half the time."""
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16(self.device)):
            outputs: Batch = super().train_step(batch)
        return outputs

    def get_validation_transforms(self, *args: Any, **kwargs: Any) -> BasicTransform:
        """Strip held-out patches as the pipeline does, then go on as nnU-Net."""
        images = sum(bool(masked) for masked in self.configuration_manager.use_mask_for_norm)
        as_usual = {"rim_mm": (_RIM_MM, _RIM_MM), "error_mm": (0, 0), "left_in_prob": 0}
        strip = StripAnew({**self.augmentation["masks"], **as_usual}, images)
        return ComposeTransforms([strip, super().get_validation_transforms(*args, **kwargs)])

    def get_dataloaders(self) -> tuple[Reused, Iterator[Batch]]:
        """Show each batch more than once."""
        train, validation = super().get_dataloaders()
        images = sum(bool(masked) for masked in self.configuration_manager.use_mask_for_norm)
        return Reused(train, self.settings.uses, self.settings.pool, images, self.device), validation

    def on_train_end(self) -> None:
        """Hand nnU-Net its own loader back, which it ends."""
        self.dataloader_train = self.dataloader_train.loader
        super().on_train_end()

    def do_split(self) -> tuple[list[str], list[str]]:
        """Tell training from held-out cases by their names."""
        keys = sorted(path.stem for path in Path(self.preprocessed_dataset_folder).glob("*.pkl"))
        train = [key for key in keys if key.startswith("train")]
        return train, [key for key in keys if key.startswith("val")] or train

    def on_epoch_end(self) -> None:
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


def _intensity_transforms() -> list[BasicTransform]:
    """Blur, noise, and what scanners and normalisation do to brightness and contrast."""
    return [
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
