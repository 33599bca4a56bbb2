"""The channels of a session, as a model wants them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mettrail.images import ENHANCING, LESION_LABELS, NECROSIS, read_image, read_labels, require_same_grid
from mettrail.segmentation.model_folder import POST_CONTRAST, PRIOR, PRIOR_IMAGE
from mettrail.segmentation.models import Model


def read_channels(
    model: Model,
    *,
    reference: tuple[str, str | Path],
    sequences: Sequence[str | Path] = (),
    prior: str | Path | None = None,
    prior_image: str | Path | None = None,
) -> dict[str, np.ndarray]:
    """Read what a model needs of a session, and nothing else.

    Parameters
    ----------
    model : Model
    reference : (str, path)
        BIDS name of the reference image (``ce-gadolinium_T1w``) and its file. A plain ``T1w`` stands in for a model's
        post-contrast channel: whoever made it the reference wants to know what a network finds there.
    sequences : list of path
        Other images on the same grid; the BIDS suffix names them.
    prior : path, optional
        Tissue labels of the prior visit on the same grid.
    prior_image : path, optional
        Reference image of the prior visit, registered, on the same grid.

    Returns
    -------
    name -> (X, Y, Z) float32
        The prior as 0 and 1: label 1 or 3. Optional channels that the session lacks are not among them.

    Raises
    ------
    ModelError
        The session lacks a channel.
    GridMismatchError
        The files are not on one grid.
    """
    paths = {_bids_name(path): path for path in sequences}
    paths[reference[0]] = reference[1]
    if reference[0] == "T1w":
        paths[POST_CONTRAST] = reference[1]
    if prior_image is not None:
        paths[PRIOR_IMAGE] = prior_image
    model.require_channels([*paths, *([PRIOR] if prior is not None else [])])
    images = {name: read_image(paths[name]) for name in model.channels if name in paths}
    if prior is not None and PRIOR in model.channels:
        images[PRIOR] = read_labels(prior, LESION_LABELS)
    require_same_grid(*images.values())
    return {
        name: np.isin(image.data, (ENHANCING, NECROSIS)).astype(np.float32) if name == PRIOR else image.data
        for name, image in images.items()
    }


def _bids_name(path: str | Path) -> str:
    """Name an image by its contrast agent, if any, and its BIDS suffix.

    Examples
    --------
    >>> _bids_name("sub-A_ses-02_ce-gadolinium_res-1mm_desc-preproc_T1w.nii.gz")
    'ce-gadolinium_T1w'
    >>> _bids_name("sub-A_ses-02_res-1mm_desc-preproc_FLAIR.nii.gz")
    'FLAIR'
    """
    parts = Path(path).name.split(".")[0].split("_")
    agent = [part for part in parts[:-1] if part.startswith("ce-")]
    return "_".join([*agent, parts[-1]])
