"""Losses that count metastases instead of voxels.

The volume-level sensitivity-specificity loss asks whether there is a metastasis in a part of the brain;
`EachLesionLoss`, of the shipped networks, how well each one is segmented.

Huang et al., Med Phys 2022, section II.B: sensitivity and specificity counted over subvolumes of about 37 voxels a
side, each of which holds a metastasis or none. One confident voxel inside a metastasis is enough to detect it, one
anywhere in an empty subvolume is a false alarm. The extent of metastases is left to a cross-entropy beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from nnunetv2.training.loss.robust_ce_loss import RobustCrossEntropyLoss
from torch import nn
from torch.nn import functional

from mettrail.geometry import label_components

EPSILON = 1e-5


def count_tiles(patch: Sequence[int], *, tile_vox: float) -> tuple[int, ...]:
    """Return into how many tiles each side of a patch is cut, so that a tile's side is nearest to `tile_vox` voxels.

    Examples
    --------
    >>> count_tiles((160, 128, 112), tile_vox=37)
    (4, 3, 3)
    >>> count_tiles((16, 16, 16), tile_vox=37)
    (1, 1, 1)
    """
    return tuple(max(1, round(side / tile_vox)) for side in patch)


def vss_loss(
    probability: torch.Tensor, truth: torch.Tensor, *, tiles: Sequence[int], alpha: float, epsilon: float = EPSILON
) -> torch.Tensor:
    """Return the volume-level sensitivity-specificity loss of a batch.

    Parameters
    ----------
    probability : (B, 1, X, Y, Z) float
        Probability of metastasis.
    truth : (B, 1, X, Y, Z) float
        1 in metastases, 0 elsewhere.
    tiles : (3,) int
        Number of tiles along each side; the last one of a side may be smaller. Tiles of all patches count alike.
    alpha : float
        Weight of sensitivity, 0 to 1; specificity has the rest.
    epsilon : float
        Keeps a batch without any positive, or any negative tile from dividing by zero.

    Returns
    -------
    () float
        Between 0 and 1.

    Notes
    -----
    Huang et al. 2022, equations 1 to 3. The paper's subvolumes are patches of 37 voxels a side; patches of a U-Net are
    larger and are cut into tiles of that size.
    """
    kernel = [-(-side // count) for side, count in zip(truth.shape[2:], tiles)]

    def most(volume: torch.Tensor) -> torch.Tensor:
        return functional.max_pool3d(volume, kernel, ceil_mode=True)

    positive = most(truth)
    sensitivity = most(probability * truth).sum() / (positive.sum() + epsilon)
    specificity = ((1 - positive) * (1 - most(probability))).sum() / ((1 - positive).sum() + epsilon)
    return 1 - (alpha * sensitivity + (1 - alpha) * specificity)


class JointVSSLoss(nn.Module):
    """Volume-level sensitivity-specificity loss plus cross-entropy, of a network's outputs before the softmax.

    Parameters
    ----------
    lesion_labels : list of int
        The network's outputs that are metastasis (enhancing and necrosis, not edema).
    tiles : (3,) int
        See `count_tiles`; the same number at all resolutions of deep supervision, so that a tile stays where it is.
    alpha : float
        See `vss_loss`. 0.995 made the sensitive and 0.5 the specific model of the paper.

    Notes
    -----
    Huang et al. 2022, equation 4. With one label the cross-entropy is the paper's binary one.
    """

    def __init__(self, *, lesion_labels: Sequence[int], tiles: Sequence[int], alpha: float):
        super().__init__()
        self.lesion_labels, self.tiles, self.alpha = list(lesion_labels), tuple(tiles), alpha
        self.cross_entropy = RobustCrossEntropyLoss()

    def forward(self, net_output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of (B, labels, X, Y, Z) outputs against (B, 1, X, Y, Z) labels."""
        # Half precision cannot tell the probabilities near 1 apart on which sensitivity depends.
        net_output = net_output.float()
        probability = torch.softmax(net_output, 1)[:, self.lesion_labels].sum(1, keepdim=True)
        truth = torch.isin(target, target.new_tensor(self.lesion_labels)).float()
        crossed: torch.Tensor = self.cross_entropy(net_output, target)
        return vss_loss(probability, truth, tiles=self.tiles, alpha=self.alpha) + crossed


# A lesion is judged with what lies this near to it.
SHELL_VOX = 2
# What reaches this away from any lesion is a false positive.
FALSE_FROM = 0.2
# The edge of a patch cuts slivers off lesions: fewer voxels are no lesion.
FEWEST_VOXELS = 4
# As many lesions and false positives a patch give the loss the weight of one.
USUAL_NUMBER = 4


class EachLesionLoss(nn.Module):
    """Every lesion counts alike, however small, and so does every false positive; of outputs before the softmax.

    Beside a lesion of 20 mL one of 20 mm^3 is a thousandth in a Dice, and its voxels are a handful among all those that
    a cross-entropy is averaged over. Here each lesion of a patch has a Dice and a balanced cross-entropy of its own,
    over its voxels and those within 2 voxels of it, and each false positive (a connected component where no lesion is
    near) has its cross-entropy.

    Parameters
    ----------
    lesion_labels : list of int
        The network's outputs that are metastasis (enhancing and necrosis, not edema).

    Notes
    -----
    A Dice per lesion is the blob loss of Kofler et al. 2023; false positives are ours.
    """

    def __init__(self, *, lesion_labels: Sequence[int]):
        super().__init__()
        self.lesion_labels = list(lesion_labels)

    def forward(self, net_output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of (B, labels, X, Y, Z) outputs against (B, 1, X, Y, Z) labels."""
        log_odds = self._log_odds(net_output.float())
        lesion = torch.isin(target[:, 0], target.new_tensor(self.lesion_labels))
        return _lesion_by_lesion(log_odds, lesion) / (USUAL_NUMBER * len(lesion))

    def _log_odds(self, net_output: torch.Tensor) -> torch.Tensor:
        others = [label for label in range(net_output.shape[1]) if label not in self.lesion_labels]
        return net_output[:, self.lesion_labels].logsumexp(1) - net_output[:, others].logsumexp(1)


class WithEachLesion(nn.Module):
    """A loss at all resolutions of deep supervision, and that of each lesion at the finest, where small ones still are.

    Parameters
    ----------
    loss : nn.Module
        Of outputs and labels, as lists or as they are.
    each_lesion : EachLesionLoss
    weight : float
        Of `each_lesion`.
    """

    def __init__(self, loss: nn.Module, each_lesion: EachLesionLoss, weight: float):
        super().__init__()
        self.loss, self.each_lesion, self.weight = loss, each_lesion, weight

    def forward(
        self, net_output: torch.Tensor | list[torch.Tensor], target: torch.Tensor | list[torch.Tensor]
    ) -> torch.Tensor:
        """Return the sum of both."""
        finest = [each[0] if isinstance(each, (list, tuple)) else each for each in (net_output, target)]
        loss: torch.Tensor = self.loss(net_output, target) + self.weight * self.each_lesion(*finest)
        return loss


def _lesion_by_lesion(log_odds: torch.Tensor, lesion: torch.Tensor) -> torch.Tensor:
    """Sum up the losses of the lesions and false positives of all patches, (B, X, Y, Z)."""
    numbered, count = _number_components(lesion)
    around = torch.where(lesion, 0, _spread(numbered))
    # No voxel of a sliver or of what surrounds it is a false positive.
    false = (log_odds.detach() >= np.log(FALSE_FROM / (1 - FALSE_FROM))) & ~lesion & (around == 0)

    called = torch.sigmoid(log_odds)
    inside, shell = _sum_by(numbered, count), _sum_by(around, count)
    voxels, voxels_around = inside(torch.ones_like(called)), shell(torch.ones_like(called))
    dice = 2 * inside(called) / (inside(called) + shell(called) + voxels).clamp(min=1)
    missed = inside(functional.softplus(-log_odds)) / voxels.clamp(min=1)
    spilled = shell(functional.softplus(log_odds)) / voxels_around.clamp(min=1)
    of_lesions = (1 - dice + (missed + spilled) / 2)[voxels >= FEWEST_VOXELS].sum()

    components = _sum_by(*_number_components(false))
    size = components(torch.ones_like(called))
    of_false = (components(functional.softplus(log_odds)) / size.clamp(min=1))[size >= FEWEST_VOXELS].sum()
    return of_lesions + of_false


def _number_components(mask: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return all patches' connected components (26 neighbours), (B, X, Y, Z), numbered from 1, and their number."""
    # In one row, with a gap after each patch: one call for all is what a GPU waits for.
    row = np.pad(mask.cpu().numpy(), [(0, 0), (0, 1), (0, 0), (0, 0)])
    components, count = label_components(row.reshape(-1, *row.shape[2:]))
    components = components.reshape(row.shape)[:, :-1].astype(np.int64)
    return torch.from_numpy(components).to(mask.device), count


def _spread(numbered: torch.Tensor) -> torch.Tensor:
    """Let each number reach `SHELL_VOX` voxels further, axis by axis; the highest has what several reach."""
    near = numbered[:, None].float()
    for axis in range(3):
        across = [2 * SHELL_VOX + 1 if a == axis else 1 for a in range(3)]
        near = functional.max_pool3d(near, across, stride=1, padding=[n // 2 for n in across])
    return near[:, 0].long()


def _sum_by(numbered: torch.Tensor, count: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that sums an array over each number from 1 to `count`."""
    where = numbered > 0
    at = numbered[where] - 1

    def summed(values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(count).index_add(0, at, values[where])

    return summed
