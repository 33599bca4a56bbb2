"""DeepMedic, and DeepMedic+ with a path of its own for the scan of the prior session.

Kamnitsas et al., Med Image Anal 2017; Huang et al., Med Phys 2022, with the widths of their public configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

FEATURES = (30, 40, 50, 60, 70, 80, 90, 100, 110)
HIDDEN = (300, 300)


class DeepMedic(nn.Module):
    """Paths of unpadded 3x3x3 convolutions at several resolutions, merged at depth.

    One path sees the image as it is, 9 voxels to either side; others see it subsampled, and so further. A layer is
    batch normalisation, PReLU and convolution, but for the first of a path, which is a convolution.

    Parameters
    ----------
    input_channels, num_classes : int
    features : sequence of int
        Feature maps of each layer of a path.
    residual : sequence of int
        Layers, from 1, to whose output the input of the layer before is added.
    hidden : sequence of int
        Feature maps of the layers after the paths have met; the first is 3x3x3, padded.
    subsampling : sequence of int
        Of each further path.
    prior_path : int, optional
        The channel that goes into a path of its own, at full resolution, and into no other: DeepMedic+.
    dropout : float
        Of the inputs of the last two layers, in training.
    deep_supervision : bool
        Has none; named because nnU-Net's networks take it.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        features: Sequence[int] = FEATURES,
        residual: Sequence[int] = (4, 6, 8),
        hidden: Sequence[int] = HIDDEN,
        subsampling: Sequence[int] = (3, 5),
        prior_path: int | None = None,
        dropout: float = 0.5,
        deep_supervision: bool = False,  # noqa: ARG002 - named in all plans
    ) -> None:
        super().__init__()
        if prior_path is not None and not 0 <= prior_path < input_channels:
            raise ValueError(f"prior_path {prior_path} of {input_channels} channels")
        own = [channel for channel in range(input_channels) if channel != prior_path]
        self.channels = [own, *([own] * len(subsampling)), *([] if prior_path is None else [[prior_path]])]
        self.steps = [1, *subsampling, *([] if prior_path is None else [1])]
        self.reach = len(features)
        # The last voxel of a subsampled path may stand for some beyond the end.
        widest = max(step * (self.reach + 1) - 1 for step in self.steps)
        self.context_vox = (widest,) * 3
        self.paths = nn.ModuleList(_Path(len(channels), features, residual) for channels in self.channels)
        merged = features[-1] * len(self.paths)
        layers: list[nn.Module] = [_Layer(merged, hidden[0], 3, padding=1)]
        layers += [_Layer(wide, narrow, 1, dropout=dropout) for wide, narrow in pairwise((*hidden, num_classes))]
        self.head = nn.ModuleList(layers)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits of every voxel of an image, beyond which there is nothing."""
        return self.answer(functional.pad(image, [self.context_vox[0]] * 6))

    def answer(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits of what lies `context_vox` inside an image."""
        size = [length - 2 * self.context_vox[0] for length in image.shape[2:]]
        seen = [
            path(self._view(image[:, channels], step, size), step, size)
            for path, channels, step in zip(self.paths, self.channels, self.steps, strict=True)
        ]
        features = torch.cat(seen, 1)
        first, *middle, last = self.head
        features = first(features)
        for layer in middle:
            wider = layer(features)
            features = wider + features if wider.shape == features.shape else wider
        logits: torch.Tensor = last(features)
        return logits

    def _view(self, image: torch.Tensor, step: int, size: Sequence[int]) -> torch.Tensor:
        """Cut out what a path needs, and subsample it by means."""
        start = self.context_vox[0] - self.reach * step
        lengths = [(-(-length // step) + 2 * self.reach) * step for length in size]
        z, y, x = (slice(start, start + length) for length in lengths)
        cut = image[:, :, z, y, x]
        return cut if step == 1 else functional.avg_pool3d(cut, step)


class _Path(nn.Module):
    """Unpadded convolutions; what they see at a lower resolution is repeated over the voxels it stands for."""

    def __init__(self, channels: int, features: Sequence[int], residual: Sequence[int]) -> None:
        super().__init__()
        widths = (channels, *features)
        self.layers = nn.ModuleList(
            _Layer(before, after, 3, plain=number == 0) for number, (before, after) in enumerate(pairwise(widths))
        )
        self.residual = frozenset(residual)

    def forward(self, image: torch.Tensor, step: int, size: Sequence[int]) -> torch.Tensor:
        inputs = [image]
        for number, layer in enumerate(self.layers, start=1):
            out = layer(inputs[-1])
            if number in self.residual:
                earlier = inputs[-2][:, :, 2:-2, 2:-2, 2:-2]
                out = torch.cat([out[:, : earlier.shape[1]] + earlier, out[:, earlier.shape[1] :]], 1)
            inputs.append(out)
        found = inputs[-1]
        if step > 1:
            found = functional.interpolate(found, scale_factor=step, mode="nearest")
        z, y, x = size
        return found[:, :, :z, :y, :x]


class _Layer(nn.Module):
    """Batch normalisation, PReLU, dropout and convolution; a plain one is the convolution alone."""

    def __init__(
        self, before: int, after: int, kernel: int, *, padding: int = 0, dropout: float = 0.0, plain: bool = False
    ) -> None:
        super().__init__()
        self.prepare = (
            nn.Identity() if plain else nn.Sequential(nn.BatchNorm3d(before), nn.PReLU(before), nn.Dropout3d(dropout))
        )
        self.convolve = nn.Conv3d(before, after, kernel, padding=padding)
        nn.init.kaiming_normal_(self.convolve.weight, nonlinearity="relu")
        nn.init.zeros_(self.convolve.bias)  # type: ignore[arg-type]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.convolve(self.prepare(features))
        return out
