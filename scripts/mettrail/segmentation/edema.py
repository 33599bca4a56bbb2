"""Edema, drawn by a network of its own where a session has FLAIR; lesions stay as they are.

So a session with FLAIR and one without are measured alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mettrail.geometry import grow_mask, label_components, pick_touched, whole_lesion
from mettrail.images import EDEMA, Image, require_same_grid
from mettrail.segmentation.classes import require_classes, share_out, without_classes

# Edema starts at most so far from its lesion: FLAIR may be a little out of place.
EDEMA_TOUCH_MM = 3.0
# Sequences in which edema is bright.
EDEMA_SHOWN_BY = ("FLAIR", "T2w")


def show_edema(models: Sequence[Mapping[str, Any]], sequences: Sequence[str]) -> bool:
    """Return whether the networks that draw edema can tell it: each sees FLAIR or T2w.

    On T1w with contrast agent alone they call next to nothing of it.

    Parameters
    ----------
    models : sequence of mapping
        Descriptions of the edema model, or where none runs, of the detection and the re-segmentation model; none where
        lesions are propagated.
    sequences : sequence of str
        What the session has beside its reference image.

    Examples
    --------
    >>> show_edema([{"channels": ["ce-gadolinium_T1w", "FLAIR"]}], ["FLAIR"])
    True
    >>> show_edema([{"channels": ["ce-gadolinium_T1w", "FLAIR"]}, {"channels": ["ce-gadolinium_T1w"]}], ["FLAIR"])
    False
    """
    shown = {name for name in sequences if name.split("_")[-1] in EDEMA_SHOWN_BY}
    return bool(models) and all(shown & set(model["channels"]) for model in models)


def draw_edema(fused: Image, edema: Image | None) -> Image:
    """Put edema where a network of its own sees it, beside a lesion; lesions stay as they are.

    Parameters
    ----------
    fused : Image of (X, Y, Z, 5) float
        From `draw_cavities`.
    edema : Image of (X, Y, Z, 5) float, optional
        From the edema model; None: edema stays as it is.

    Returns
    -------
    Image of (X, Y, Z, 5) float32
        The probability of whole lesion is the same. What is not lesion is shared out between edema and background as
        the model has it. Connected components of edema that come no nearer than `EDEMA_TOUCH_MM` to a lesion are
        background: plaques and scars are bright on FLAIR, too.

    Raises
    ------
    GridMismatchError
        Not one grid.
    InputError
        Not five classes.
    """
    if edema is None:
        return fused
    for image in (fused, edema):
        require_classes(image)
    require_same_grid(*map(without_classes, (fused, edema)))
    lesion = whole_lesion(fused.data) >= 0.5
    share = np.where(lesion, 0, edema.data[..., EDEMA])
    components, _ = label_components(share > 0.5)
    near = grow_mask(lesion, spacing_mm=fused.spacing_mm, grow_mm=EDEMA_TOUCH_MM)
    data = fused.data.astype(np.float32)
    data[..., 0] += data[..., EDEMA]
    data[..., EDEMA] = 0
    return fused.like(share_out(data, (0,), EDEMA, share, around=pick_touched(components, near)))
