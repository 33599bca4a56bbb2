"""Images of class probabilities, (X, Y, Z, 5): background, enhancing, edema, necrosis, resection cavity."""

from __future__ import annotations

import numpy as np

from mettrail.errors import InputError
from mettrail.geometry import with_neighbours
from mettrail.images import TISSUE_LABELS, Image
from mettrail.reasons import Reason


def require_classes(image: Image) -> None:
    """Raise InputError unless an image has the five classes."""
    if image.data.ndim != 4 or image.data.shape[3] != len(TISSUE_LABELS):
        raise InputError(
            image.path or "class probabilities",
            found=f"an array of shape {image.data.shape}",
            expected="(X, Y, Z, 5): background, enhancing, edema, necrosis, cavity",
            advice="Write them with images.write_probabilities.",
            reason=Reason.BAD_PROBABILITIES,
        )


def without_classes(image: Image) -> Image:
    """Return one class of an image of probabilities, by which grids are compared; other images as they are."""
    return image if image.data.ndim == 3 else Image(image.data[..., 0], image.affine, image.path)


def share_out(
    data: np.ndarray, taken_from: tuple[int, ...], label: int, share: np.ndarray, *, around: np.ndarray
) -> np.ndarray:
    """Give a class its share of others in and around some voxels; (X, Y, Z, 5) data are changed in place."""
    share = np.where(with_neighbours(around), share, 0)
    for other in taken_from:
        given = data[..., other] * share
        data[..., label] += given
        data[..., other] -= given
    return data
