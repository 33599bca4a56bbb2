"""Patches for training: drawn by number, so that a training that goes on sees what it would have seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mettrail.geometry import label_components
from mettrail.images import ENHANCING, NECROSIS
from mettrail.segmentation.model_folder import PRIOR
from mettrail.study.cases import Case
from mettrail.study.methods import Method, Part
from mettrail.training.priors import PriorSettings, make_prior

if TYPE_CHECKING:
    import torch

# Lesions lie anywhere in a patch, within this share of its side from the middle.
OFF_CENTRE = 0.3
# Of z-scored images: standard deviations of the factor and of what is added.
TONE = (0.1, 0.1)


class Patches:
    """Draws batches of one part of a method.

    Parameters
    ----------
    cases : sequence of Case
    method : Method
    part : Part
    context : (Z, Y, X)
        Voxels that the network sees beyond a patch, at either end.
    priors : PriorSettings
        What happens to priors.
    seed : int
    """

    def __init__(
        self,
        cases: Sequence[Case],
        method: Method,
        part: Part,
        *,
        context: Sequence[int],
        priors: PriorSettings,
        seed: int,
    ) -> None:
        self.cases, self.method, self.part = list(cases), method, part
        self.context, self.priors, self.seed = tuple(context), priors, seed
        self.lesions = [(case, name) for case in cases for name in case.lesions]

    def draw(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images (B, channels, Z, Y, X) and labels (B, 1, Z, Y, X) of a step.

        Images reach `context` further than labels.
        """
        import torch

        rng = np.random.default_rng([self.seed, step])
        pairs = [self._draw_one(rng, number) for number in range(self.part.size.batch)]
        images, labels = (np.stack(each) for each in zip(*pairs))
        return torch.from_numpy(images), torch.from_numpy(labels)

    def _draw_one(self, rng: np.random.Generator, number: int) -> tuple[np.ndarray, np.ndarray]:
        # The share is that of each batch, not of all on average.
        with_lesion = (number + rng.random()) / self.part.size.batch < self.part.lesions
        if with_lesion and self.lesions:
            case, place = self.lesions[rng.integers(len(self.lesions))]
        else:
            case, place = self.cases[rng.integers(len(self.cases))], "brain"
        voxels = case.places[place]
        centre = voxels[rng.integers(len(voxels))].astype(int)
        reach = (np.array(self.part.patch) * OFF_CENTRE).astype(int)
        start = centre + rng.integers(-reach, reach + 1) - np.array(self.part.patch) // 2
        tissue = cut(case.tissue, start, self.part.patch)
        wider = [side + 2 * more for side, more in zip(self.part.patch, self.context)]
        images = np.zeros((len(self.method.channels), *wider), np.float32)
        for channel, name in enumerate(self.method.channels):
            array = case.channel(name, equalised=self.method.equalised)
            if array is not None:
                images[channel] = cut(array, start - np.array(self.context), wider)
        if PRIOR in self.method.channels:
            at = self.method.channels.index(PRIOR)
            images[at] = self._worsen(images[at], tissue, images[0] != 0, rng)
        self._drop(images, rng)
        if not self.method.equalised:
            self._retone(images, rng)
        return self._turn(images, self._label(tissue)[None], rng)

    def _label(self, tissue: np.ndarray) -> np.ndarray:
        """Turn tissue into the method's labels."""
        if len(self.method.labels) > 2:
            return tissue.astype(np.int64)
        return np.isin(tissue, (ENHANCING, NECROSIS)).astype(np.int64)

    def _worsen(self, prior: np.ndarray, tissue: np.ndarray, brain: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        now = label_components(np.isin(tissue, (ENHANCING, NECROSIS)))[0]
        return make_prior(label_components(prior > 0)[0], now, brain, rng=rng, settings=self.priors)

    def _drop(self, images: np.ndarray, rng: np.random.Generator) -> None:
        """Leave channels out, but never all of them."""
        left_out = rng.random(len(images)) < self.method.drop_prob
        if not left_out.all():
            images[left_out] = 0

    def _retone(self, images: np.ndarray, rng: np.random.Generator) -> None:
        for image, name in zip(images, self.method.channels):
            factor, more = 1 + TONE[0] * rng.standard_normal(), TONE[1] * rng.standard_normal()
            if name != PRIOR:
                image[...] = np.where(image == 0, 0, image * factor + more)

    def _turn(self, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        flips, quarters = rng.random(2) < 0.5, int(rng.integers(4))
        pair = [images, labels]
        if flips[0]:
            pair = [array[..., ::-1] for array in pair]
        if self.part.turns:
            if flips[1]:
                pair = [array[..., ::-1, :] for array in pair]
            pair = [np.rot90(array, quarters, axes=(-2, -1)) for array in pair]
        images, labels = (np.ascontiguousarray(array) for array in pair)
        return images, labels


def cut(array: np.ndarray, start: Sequence[int] | np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Cut a box out of an array, 0 where it reaches beyond.

    Examples
    --------
    >>> cut(np.arange(1, 5), [-1], [3]).tolist()
    [0, 1, 2]
    """
    out = np.zeros(shape, array.dtype)
    here, there = [], []
    for low, side, length in zip(start, shape, array.shape):
        first, last = max(0, low), min(length, low + side)
        if last <= first:
            return out
        there.append(slice(first, last))
        here.append(slice(first - low, last - low))
    out[tuple(here)] = array[tuple(there)]
    return out
