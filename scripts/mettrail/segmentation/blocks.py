"""Inference with networks that see more than they answer for: block by block, each with what is around it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, combinations, product
from typing import TYPE_CHECKING, Any

from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

if TYPE_CHECKING:
    import torch


class BlockPredictor(nnUNetPredictor):
    """nnU-Net's predictor without overlap: a network with `context_vox` knows what lies around a block.

    The result does not depend on the size of the blocks, but for what a network pads inside.
    """

    network: Any

    def predict_sliding_window_return_logits(self, input_image: torch.Tensor) -> torch.Tensor:
        """Return (classes, Z, Y, X) logits of a (channels, Z, Y, X) image."""
        import torch
        from torch.nn import functional

        network = self.network.to(self.device).eval()
        context, size = network.context_vox, input_image.shape[1:]
        block = [min(tile, length) for tile, length in zip(self.configuration_manager.patch_size, size, strict=True)]
        margins = list(chain.from_iterable((c, c + -n % b) for c, n, b in reversed(list(zip(context, size, block)))))
        padded = functional.pad(input_image, margins)
        starts = [range(0, n, b) for n, b in zip(size, block, strict=True)]
        rows = []
        with torch.no_grad():
            for corner in product(*starts):
                cut = [slice(at, at + b + 2 * c) for at, b, c in zip(corner, block, context, strict=True)]
                part = padded[(slice(None), *cut)][None].to(self.device)
                rows.append((corner, self._answer(part)[0].cpu()))
        logits = torch.empty(rows[0][1].shape[0], *(len(each) * b for each, b in zip(starts, block, strict=True)))
        for corner, found in rows:
            place = [slice(at, at + b) for at, b in zip(corner, block, strict=True)]
            logits[(slice(None), *place)] = found
        z, y, x = size
        return logits[:, :z, :y, :x]

    def _answer(self, part: torch.Tensor) -> torch.Tensor:
        """Return the mean of the answers to a part and its flips."""
        import torch

        axes = [axis + 2 for axis in self.allowed_mirroring_axes or ()] if self.use_mirroring else []
        flips: list[Sequence[int]] = [turn for n in range(len(axes) + 1) for turn in combinations(axes, n)]
        answers = [self.network.answer(torch.flip(part, turn)).flip(turn) for turn in flips]
        return torch.stack(answers).mean(0)
