"""The volume-level sensitivity-specificity loss: whether there is a metastasis in a piece of brain.

Huang et al., Med Phys 2022, section II.B: sensitivity and specificity counted over subvolumes of about 37 voxels a
side, each of which holds a metastasis or none. One confident voxel inside a metastasis is enough to detect it, one
anywhere in an empty subvolume is a false alarm. The extent of metastases is left to a cross-entropy beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from nnunetv2.training.loss.robust_ce_loss import RobustCrossEntropyLoss
from torch import nn
from torch.nn import functional

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
        return vss_loss(probability, truth, tiles=self.tiles, alpha=self.alpha) + self.cross_entropy(net_output, target)
