"""Sliding windows for networks that nnU-Net's own does not suit; `prediction` chooses by what a network has.

nnU-Net's predictor averages overlapping tiles, which is right for a U-Net. A network with `context_vox` knows what lies
around what it answers for, and needs no overlap. One with `find` does not look at every tile.
"""

from __future__ import annotations

from itertools import chain, combinations, product
from typing import TYPE_CHECKING, Any

from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from mettrail.errors import InputError
from mettrail.reasons import Reason

if TYPE_CHECKING:
    import torch
    from torch import nn


def predictor_for(network: nn.Module) -> type[nnUNetPredictor]:
    """Return the predictor that suits a network."""
    if hasattr(network, "context_vox"):
        return BlockPredictor
    return TwoStagePredictor if hasattr(network, "find") else nnUNetPredictor


class _Predictor(nnUNetPredictor):  # type: ignore[misc]
    """What the others share: the network's device, and flips."""

    network: Any

    def predict_sliding_window_return_logits(self, input_image: torch.Tensor) -> torch.Tensor:
        """Return (classes, Z, Y, X) logits of a (channels, Z, Y, X) image."""
        import torch

        self.network = self.network.to(self.device).eval()
        with torch.inference_mode(), torch.autocast("cuda", enabled=self.device.type == "cuda"):
            return self._slide(input_image)

    def _slide(self, image: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _flips(self) -> list[tuple[int, ...]]:
        """Return the axes of a batch to flip at once, nothing among them."""
        axes = [axis + 2 for axis in self.allowed_mirroring_axes or ()] if self.use_mirroring else []
        return [turn for n in range(len(axes) + 1) for turn in combinations(axes, n)]


class BlockPredictor(_Predictor):
    """Block by block without overlap, each with what is around it.

    The result does not depend on the size of the blocks, but for what a network pads inside.
    """

    def _slide(self, image: torch.Tensor) -> torch.Tensor:
        import torch
        from torch.nn import functional

        context, size = self.network.context_vox, image.shape[1:]
        _require_slices(self.network, size[0])
        block = [min(tile, length) for tile, length in zip(self.configuration_manager.patch_size, size, strict=True)]
        margins = list(chain.from_iterable((c, c + -n % b) for c, n, b in reversed(list(zip(context, size, block)))))
        padded = functional.pad(image, margins)
        starts = [range(0, n, b) for n, b in zip(size, block, strict=True)]
        logits: torch.Tensor | None = None
        for corner in product(*starts):
            cut = [slice(at, at + b + 2 * c) for at, b, c in zip(corner, block, context, strict=True)]
            part = padded[(slice(None), *cut)][None].to(self.device)
            found = torch.stack([self.network.answer(part.flip(turn)).flip(turn) for turn in self._flips()]).mean(0)[0]
            if logits is None:
                logits = torch.empty(len(found), *(len(each) * b for each, b in zip(starts, block, strict=True)))
            place = [slice(at, at + b) for at, b in zip(corner, block, strict=True)]
            logits[(slice(None), *place)] = found.cpu().float()
        assert logits is not None, "an image has at least one voxel"
        z, y, x = size
        return logits[:, :z, :y, :x]


def _require_slices(network: nn.Module, count: int) -> None:
    """Refuse an image with fewer slices than a 2.5-D network sees at once."""
    needed = getattr(network, "slices", 1)
    if count < needed:
        raise InputError(
            "the session's image",
            found=f"{count} slices of brain at 1 mm",
            expected=f"at least {needed}, which the network sees at once",
            advice="Name a 3-D model under `segment: models`, or leave the session out.",
            reason=Reason.TOO_FEW_SLICES,
        )


class TwoStagePredictor(_Predictor):
    """Overlapping tiles; those in which the detector finds nothing are not segmented, and do not count.

    Of a voxel that no tile with a finding covers, the network says nothing: background.
    """

    def _slide(self, image: torch.Tensor) -> torch.Tensor:
        import torch
        from nnunetv2.inference.sliding_window_prediction import compute_gaussian
        from torch.nn import functional

        tile = tuple(self.configuration_manager.patch_size)
        missing = [max(0, side - length) for side, length in zip(tile, image.shape[1:], strict=True)]
        padded = functional.pad(image, [n for short in reversed(missing) for n in (short // 2, short - short // 2)])
        weight = compute_gaussian(
            tile, sigma_scale=1 / 8, value_scaling_factor=10, dtype=torch.float32, device=torch.device("cpu")
        )
        logits = torch.zeros(self.label_manager.num_segmentation_heads, *padded.shape[1:])
        weights = torch.zeros(padded.shape[1:])
        tiles = segmented = 0
        for where in self._internal_get_sliding_window_slicers(padded.shape[1:]):
            if not padded[where].any():
                continue
            part = padded[where][None].to(self.device)
            tiles += 1
            if not self.network.find(part).any():
                continue
            segmented += 1
            turned = [self.network.segment(part.flip(turn)).flip(turn) for turn in self._flips()]
            logits[where] += torch.stack(turned).mean(0)[0].cpu().float() * weight
            weights[where[1:]] += weight
        print(f"tiles: {tiles}; the detector finds something in {segmented}")
        seen = weights > 0
        logits[:, seen] /= weights[seen]
        logits[:, ~seen] = self.network.nothing[:, None].cpu()
        starts = [short // 2 for short in missing]
        inside = [slice(start, start + length) for start, length in zip(starts, image.shape[1:], strict=True)]
        return logits[(slice(None), *inside)]
