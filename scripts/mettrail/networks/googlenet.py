"""GoogLeNet in 2.5-D: a slice is segmented from itself and three slices to either side.

Grøvik et al., J Magn Reson Imaging 2020: Inception v1 (Szegedy et al. 2015) with a first convolution of stride 1,
without the first and third pooling, and one transposed convolution (8x8, stride 4) for its end.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

# Feature maps of an Inception block: 1x1; 3x3 and what is before it; 5x5 and what is before it; after pooling.
BLOCKS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
STEM = (64, 64, 192)
SLICES = 7
# In a slice, results are a quarter of the size before they are brought back.
SHRINKS = 4


class GoogLeNet25d(nn.Module):
    """A 2-D network over slices, each with its neighbours as further channels.

    Slices lie across the first axis of the image, which is axial in the order of nnU-Net (Z, Y, X).

    Parameters
    ----------
    input_channels : int
    num_classes : int
        2: background and lesion. The network has one output, the log odds of lesion.
    slices : int
        That are seen at once, odd.
    width : float
        Factor on all feature maps; 1 as published.
    deep_supervision : bool
        Has none; named because nnU-Net's networks take it.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        slices: int = SLICES,
        width: float = 1.0,
        deep_supervision: bool = False,  # noqa: ARG002 - named in all plans
    ) -> None:
        super().__init__()
        if num_classes != 2 or slices % 2 == 0:
            raise ValueError(f"{num_classes} classes, {slices} slices: it has 2 and an odd number")

        def wide(count: int) -> int:
            return max(4, round(count * width))

        self.slices = slices
        self.context_vox = (slices // 2, 0, 0)
        first, second, third = (wide(count) for count in STEM)
        layers: list[nn.Module] = [
            _convolution(input_channels * slices, first, 7),
            _convolution(first, second, 1),
            _convolution(second, third, 3),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        before = third
        for name, counts in BLOCKS.items():
            if name == "5a":
                layers.append(nn.MaxPool2d(3, stride=2, padding=1))
            block = Inception(before, [wide(count) for count in counts])
            layers.append(block)
            before = block.features
        self.features = nn.Sequential(*layers)
        self.enlarge = nn.ConvTranspose2d(before, 1, 8, stride=SHRINKS, padding=2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits of every voxel of an image, beyond which there is nothing."""
        return self.answer(functional.pad(image, (0, 0, 0, 0, *(self.context_vox[0],) * 2)))

    def answer(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits of the slices that have `context_vox` others to either side."""
        batch, channels, _, height, width = image.shape
        stacks = image.unfold(2, self.slices, 1).movedim(-1, 2)  # (B, channels, seen at once, Z, Y, X)
        planes = stacks.permute(0, 3, 1, 2, 4, 5).reshape(-1, channels * self.slices, height, width)
        odds = self.of_slices(planes).reshape(batch, -1, height, width)
        return torch.stack([torch.zeros_like(odds), odds], 1)

    def of_slices(self, planes: torch.Tensor) -> torch.Tensor:
        """Return (N, Y, X) log odds of lesion in the middle slices of (N, channels x slices, Y, X)."""
        height, width = planes.shape[-2:]
        padded = functional.pad(planes, (0, -width % SHRINKS, 0, -height % SHRINKS))
        odds: torch.Tensor = self.enlarge(self.features(padded))
        return odds[:, 0, :height, :width]


class Inception(nn.Module):
    """Four branches of convolutions, side by side.

    Parameters
    ----------
    before : int
        Feature maps that come in.
    counts : sequence of int
        As in `BLOCKS`.
    """

    def __init__(self, before: int, counts: Sequence[int]) -> None:
        super().__init__()
        one, narrow3, three, narrow5, five, pooled = counts
        self.branches = nn.ModuleList(
            [
                _convolution(before, one, 1),
                nn.Sequential(_convolution(before, narrow3, 1), _convolution(narrow3, three, 3)),
                nn.Sequential(_convolution(before, narrow5, 1), _convolution(narrow5, five, 5)),
                nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), _convolution(before, pooled, 1)),
            ]
        )
        self.features = one + three + five + pooled

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """Return (N, features, Y, X) of (N, before, Y, X)."""
        return torch.cat([branch(planes) for branch in self.branches], 1)


def _convolution(before: int, after: int, kernel: int) -> nn.Sequential:
    """Return a convolution that keeps the size, batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )
