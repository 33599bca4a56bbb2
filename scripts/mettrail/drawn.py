"""Manual segmentations: what their numbers mean.

Ours are 1 enhancing, 2 edema, 3 necrosis, 4 resection cavity. Other programs number otherwise, and a mask read by the
wrong key looks like a response: a tumour that is all necrosis has nothing left to measure. What numbers mean is
therefore a setting, and a mask that cannot be ours is refused instead of believed.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mettrail.errors import InputError
from mettrail.images import CAVITY, EDEMA, ENHANCING, NECROSIS, TISSUE_LABELS, Image, read_labels
from mettrail.reasons import Reason

SCHEMES = {
    "mettrail": {ENHANCING: ENHANCING, EDEMA: EDEMA, NECROSIS: NECROSIS},
    "brats2021": {1: NECROSIS, 2: EDEMA, 4: ENHANCING},
    "brats2023": {1: NECROSIS, 2: EDEMA, 3: ENHANCING},
    "brats2025": {1: NECROSIS, 2: EDEMA, 3: ENHANCING, 4: CAVITY},
}
INSTANCES = "instances"
# More than any tumour has: a brain mask weighs in at 900 mL and more.
MAX_LESION_ML = 600.0


def read_drawn(path: str | Path, scheme: str | Mapping[Any, Any]) -> Image:
    """Read a manual segmentation as tissue labels.

    Parameters
    ----------
    path : path
    scheme : str or mapping
        ``labels.scheme``, see `read_scheme`.

    Raises
    ------
    InputError
        No label map, numbers that the scheme does not know, or (``mettrail``) a map that cannot be meant so.
    """
    numbers = read_scheme(scheme)
    drawn = read_labels(path)
    present = [number for number in np.unique(drawn.data).tolist() if number]
    if numbers is None:
        tissue = np.where(drawn.data > 0, ENHANCING, 0)
    else:
        strange = [number for number in present if number not in numbers]
        if strange:
            shown = ", ".join(map(str, strange[:5])) + (" and others" if len(strange) > 5 else "")
            raise _refuse(path, f"labels {shown}", f"only {_show(numbers)}")
        tissue = np.zeros(drawn.data.shape, np.uint8)
        for number, label in numbers.items():
            tissue[drawn.data == number] = label
    labels = Image(tissue.astype(np.uint8), drawn.affine, str(path))
    if scheme == "mettrail":
        _require_plausible(labels)
    millilitres = np.isin(labels.data, (ENHANCING, NECROSIS)).sum() * labels.voxel_volume_mm3 / 1000
    if millilitres > MAX_LESION_ML:
        raise _refuse(path, f"{millilitres:.0f} mL of lesion", "lesions, and no mask of the brain or head")
    return labels


def read_lesions(path: str | Path, scheme: str | Mapping[Any, Any]) -> Image:
    """Read a manual segmentation without its resection cavities, for networks that know none; see `read_drawn`."""
    labels = read_drawn(path, scheme)
    return labels.like(np.where(labels.data == CAVITY, 0, labels.data).astype(np.uint8))


def can_show_edema(scheme: str | Mapping[Any, Any]) -> bool:
    """Return whether masks of a scheme have a number for edema; ``instances`` have none.

    Examples
    --------
    >>> can_show_edema("brats2023"), can_show_edema("instances")
    (True, False)
    """
    return EDEMA in (read_scheme(scheme) or {}).values()


def read_scheme(scheme: str | Mapping[Any, Any]) -> dict[int, int] | None:
    """Return which of our labels each number stands for; None where each number is a lesion (``instances``).

    Parameters
    ----------
    scheme : str or mapping
        ``mettrail``, ``brats2021``, ``brats2023``, ``brats2025``, ``instances``, or numbers of the file with ours: in
        ``{1: 3, 3: 1}`` 1 is necrosis and 3 enhancing. Numbers it does not name keep their meaning; 4 has none by
        itself, for it is enhancing tumour in masks of ``brats2021``.

    Raises
    ------
    InputError
        No such scheme, or a mapping to numbers that are not ours.

    Examples
    --------
    >>> read_scheme("brats2023")
    {1: 3, 2: 2, 3: 1}
    >>> read_scheme({"1": 3, "3": 1})
    {1: 3, 2: 2, 3: 1}
    """
    if scheme == INSTANCES:
        return None
    if isinstance(scheme, str) and scheme in SCHEMES:
        return SCHEMES[scheme]
    try:
        # On the command line a mapping stays text.
        mapping = ast.literal_eval(scheme) if isinstance(scheme, str) else scheme
        named = {_whole(number): _whole(label) for number, label in mapping.items()}
    except (AttributeError, ValueError, TypeError, SyntaxError):
        named = {}
    if not named or min(named) < 1 or not set(named.values()) <= set(TISSUE_LABELS):
        raise InputError(
            "config: labels.scheme",
            found=repr(scheme),
            expected=f"{', '.join(SCHEMES)}, {INSTANCES}, or numbers of the masks with ours, e.g. {{1: 3, 3: 1}}",
            advice="Ours are 0 nothing, 1 enhancing, 2 edema, 3 necrosis, 4 resection cavity.",
        )
    return SCHEMES["mettrail"] | named


def _whole(number: Any) -> int:
    if isinstance(number, bool) or int(number) != float(number):
        raise ValueError(number)
    return int(number)


def _require_plausible(labels: Image) -> None:
    """Refuse a map that another scheme explains better than ours.

    Edema surrounds lesions and necrosis lies within enhancement. What counts is which labels share faces of voxels,
    over the whole map, so that single voxels out of place decide nothing.
    """
    faces = _count_faces(labels.data)
    around = faces.sum(axis=1) - faces.diagonal()
    three_in_one, one_in_three = (faces[ENHANCING, NECROSIS] / max(around[label], 1) for label in (NECROSIS, ENHANCING))
    if faces[NECROSIS].any() and not faces[ENHANCING, NECROSIS]:
        found = f"necrosis ({NECROSIS}) that touches no enhancing tumour ({ENHANCING})"
    elif one_in_three > 0.5 and one_in_three > three_in_one:
        found = f"enhancing tumour ({ENHANCING}) enclosed by necrosis ({NECROSIS}): {one_in_three:.0%} of its surface"
    elif faces[EDEMA].any() and not faces[EDEMA, ENHANCING] and not faces[EDEMA, NECROSIS]:
        found = f"edema ({EDEMA}) that touches no lesion ({ENHANCING} or {NECROSIS})"
    else:
        return
    raise _refuse(labels.path, found, _show(SCHEMES["mettrail"]) + ", as they lie in a tumour")


def _count_faces(labels: np.ndarray) -> np.ndarray:
    """Count, for each two labels, the faces between their voxels: a symmetric 4 x 4 table.

    Examples
    --------
    >>> _count_faces(np.array([[[0, 1, 3]]]))[1]
    array([5, 0, 0, 1])
    """
    count = np.zeros((4, 4), int)
    where = np.argwhere(labels)
    if not len(where):
        return count
    # The rim of the box is background, so that a label at the edge of the scan has faces too.
    box = tuple(slice(low, high + 1) for low, high in zip(where.min(axis=0), where.max(axis=0)))
    padded = np.pad(labels[box], 1).astype(np.intp)
    for axis in range(3):
        ahead = np.moveaxis(padded, axis, 0)
        count += np.bincount((ahead[:-1] * 4 + ahead[1:]).ravel(), minlength=16).reshape(4, 4)
    return count + count.T


def _show(numbers: Mapping[int, int]) -> str:
    names = {0: "nothing", ENHANCING: "enhancing", EDEMA: "edema", NECROSIS: "necrosis", CAVITY: "resection cavity"}
    return ", ".join(f"{number} {names[label]}" for number, label in sorted(numbers.items()))


def _refuse(path: str | Path, found: str, expected: str) -> InputError:
    return InputError(
        path,
        found=found,
        expected=expected,
        advice="Say in labels.scheme what the numbers of your masks mean: brats2021 (1 necrosis, 2 edema, "
        "4 enhancing), brats2023 (1 necrosis, 2 edema, 3 enhancing), brats2025 (the same, 4 resection cavity), "
        "instances (one number per lesion), or a mapping; {1: 1, 2: 2, 3: 3} if it is meant as it stands, {4: 4} with "
        "cavities.",
        reason=Reason.BAD_LABELS,
    )
