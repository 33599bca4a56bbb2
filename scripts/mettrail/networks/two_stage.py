"""A detector of patches, then a segmenter for those in which it sees something.

Sadegheih & Merhof 2024: DenseNet121 in 3-D, and nnU-Net's U-Net with residual blocks and deep supervision, whose
outputs are regions: whole tumour, tumour core, enhancing tumour.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

FEATURES = (32, 64, 128, 256, 320)
# See `regions_of`.
REGIONS = ("whole tumour", "tumour core", "enhancing tumour")
CLASSES = 4
# Log odds of what is as good as certain.
_SURE = 14.0


class TwoStage(nn.Module):
    """Segments the patches of a batch that its detector does not call empty, and no others.

    Parameters
    ----------
    input_channels : int
    num_classes : int
        4: background, enhancing, edema, necrosis.
    detector_features : int
        Feature maps of the detector's first layer: 64 as published. Further ones grow with it.
    features : sequence of int
        Feature maps of the segmenter by stage.
    blocks : sequence of int
        Residual blocks of each stage of its encoder.
    threshold : float
        Probability from which the detector sees something.
    deep_supervision : bool
        Of the segmenter.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int = CLASSES,
        *,
        detector_features: int = 64,
        features: Sequence[int] = FEATURES,
        blocks: Sequence[int] = (1, 1, 1, 1, 1),
        threshold: float = 0.5,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        if num_classes != CLASSES:
            raise ValueError(f"{num_classes} classes: it has {CLASSES}")
        self.detector = build_detector(input_channels, features=detector_features)
        self.segmenter = build_segmenter(
            input_channels, features=features, blocks=blocks, deep_supervision=deep_supervision
        )
        self.threshold = threshold
        # Background, as good as certain: of what was not segmented.
        self.nothing = torch.tensor([_SURE, *[0.0] * (CLASSES - 1)])

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Return (B, 4, Z, Y, X) logits of (B, channels, Z, Y, X) patches, `nothing` where nothing is found."""
        found = self.find(patches)
        if patches.is_meta:  # a sketch knows no numbers
            return self.segment(patches)
        logits = self.nothing.to(patches.device)[None, :, None, None, None].repeat(len(patches), 1, *patches.shape[2:])
        if found.any():
            logits[found] = self.segment(patches[found]).to(logits.dtype)
        return logits

    def find(self, patches: torch.Tensor) -> torch.Tensor:
        """Return (B,) bool: whether the detector sees a metastasis in a patch."""
        found: torch.Tensor = torch.sigmoid(self.detector(patches))[:, 0] >= self.threshold
        return found

    def segment(self, patches: torch.Tensor) -> torch.Tensor:
        """Return (B, 4, Z, Y, X) logits of patches, whatever the detector says."""
        return classes_of(self.segmenter(patches))


def build_detector(input_channels: int, *, features: int = 64) -> nn.Module:
    """Return DenseNet121 in 3-D (Huang et al. 2017) with one output: log odds that a patch shows a metastasis."""
    from monai.networks.nets.densenet import DenseNet121

    network: nn.Module = DenseNet121(
        spatial_dims=3,
        in_channels=input_channels,
        out_channels=1,
        init_features=features,
        growth_rate=features // 2,
    )
    return network


def build_segmenter(
    input_channels: int, *, features: Sequence[int], blocks: Sequence[int], deep_supervision: bool
) -> nn.Module:
    """Return a residual U-Net that gives log odds of the `REGIONS`."""
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

    stages = len(features)
    network: nn.Module = ResidualEncoderUNet(
        input_channels=input_channels,
        n_stages=stages,
        features_per_stage=list(features),
        conv_op=nn.Conv3d,
        kernel_sizes=3,
        strides=[1] + [2] * (stages - 1),
        n_blocks_per_stage=list(blocks),
        num_classes=len(REGIONS),
        n_conv_per_stage_decoder=1,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=deep_supervision,
    )
    return network


def regions_of(labels: torch.Tensor) -> torch.Tensor:
    """Return (B, 3, …) regions of (B, …) labels: 1 enhancing, 2 edema, 3 necrosis."""
    whole, core, enhancing = labels > 0, (labels == 1) | (labels == 3), labels == 1
    return torch.stack([whole, core, enhancing], 1)


def classes_of(regions: torch.Tensor) -> torch.Tensor:
    """Return (B, 4, …) logits of background, enhancing, edema and necrosis of (B, 3, …) log odds of regions.

    Regions lie within one another: the core is no likelier than the whole, and so on.
    """
    whole, core, enhancing = torch.sigmoid(regions.float()).cummin(1).values.unbind(1)
    classes = torch.stack([1 - whole, enhancing, whole - core, core - enhancing], 1)
    return classes.clamp_min(torch.finfo(torch.float32).tiny).log()
