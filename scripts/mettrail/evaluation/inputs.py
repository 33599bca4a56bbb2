"""What is scored and against what: tissue maps and probability maps of the methods, manual segmentations, brain masks.

Predictions and labels are folders of tissue maps (``sub-*/ses-*/anat/*_dseg.nii.gz``: 1 enhancing, 2 edema, 3
necrosis), one map per session. Resection cavities are not scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mettrail import images, sidecars
from mettrail.cohort import order_sessions
from mettrail.errors import InputError
from mettrail.images import CAVITY, EDEMA, ENHANCING, LESION_LABELS, NECROSIS, TISSUE_LABELS, Image
from mettrail.reasons import Reason

# What is scored, and the labels it is made of.
TISSUES = {
    "whole": (ENHANCING, NECROSIS),
    "enhancing": (ENHANCING,),
    "edema": (EDEMA,),
    "necrosis": (NECROSIS,),
    "with_edema": (ENHANCING, EDEMA, NECROSIS),
}
WHOLE = TISSUES["whole"]

# Patient and session, without ``sub-`` and ``ses-``.
Key = tuple[str, str]


@dataclass(frozen=True)
class LabelledSession:
    """A scan with a manual segmentation.

    Parameters
    ----------
    sub, ses : str
    truth : Image
        Tissue labels.
    brain, prior : (X, Y, Z) bool, or None
        Brain mask and whole lesions of the prior session, on the grid of `truth`; None where not given.
    first : bool
        Whether it is the patient's first session with labels, and has no prior.
    """

    sub: str
    ses: str
    truth: Image
    brain: np.ndarray | None
    prior: np.ndarray | None
    first: bool

    @property
    def lesions(self) -> np.ndarray:
        """Voxels of whole lesions, (X, Y, Z) bool."""
        return np.isin(self.truth.data, WHOLE)

    @property
    def domain(self) -> int:
        """Voxels that could be lesion: those of the brain mask; of the whole scan where it is not given."""
        return int(self.truth.data.size if self.brain is None else self.brain.sum())

    def require_brain(self) -> np.ndarray:
        """Return the brain mask, outside of which no probability counts.

        Raises
        ------
        InputError
            None was given.
        """
        if self.brain is None:
            raise InputError(
                f"sub-{self.sub}_ses-{self.ses}",
                found="no brain mask",
                expected="one for every scan whose probabilities are scored",
                advice="Give --masks.",
            )
        return self.brain


def find_maps(folder: Path, *, kind: str = "dseg", desc: str | None = "tissue") -> dict[Key, Path]:
    """Return one file of every session of a derivatives folder.

    Parameters
    ----------
    folder : path
    kind : str
        ``dseg`` or ``probseg``.
    desc : str, optional
        Which one is meant where file names have a ``desc-``; others hold lesion IDs, priors and the like. Any, when
        omitted.

    Raises
    ------
    InputError
        No such folder, no map in it, or two maps of one session.
    """
    found: dict[Key, Path] = {}
    for path in sorted(Path(folder).glob(f"sub-*/ses-*/anat/*_{kind}.nii*")):
        if desc and "_desc-" in path.name and f"_desc-{desc}_" not in path.name:
            continue
        key = path.parts[-4].removeprefix("sub-"), path.parts[-3].removeprefix("ses-")
        if key in found:
            raise InputError(
                path.parent,
                found=f"{found[key].name} and {path.name}",
                expected=f"one {kind} per session",
                advice="Keep the one that is meant." if desc else "Name the one that is meant with --probabilities.",
            )
        found[key] = path
    if not found:
        raise InputError(
            folder,
            found=f"no {desc or ''} map".replace("  ", " "),
            expected=f"sub-*/ses-*/anat/*_{kind}.nii.gz",
            advice="Name the folder that holds the sub-* folders of one method, or of the labels.",
        )
    return found


def find_predictions(folder: Path, labels: Mapping[Key, Path], *, labelled_only: bool) -> dict[Key, Path]:
    """Return a method's tissue map of every labelled session.

    Raises
    ------
    InputError
        A labelled session without prediction (scores of different scans cannot be compared), a prediction without
        labels unless `labelled_only`, or a file that is prediction and label at once.
    """
    maps = find_maps(folder)
    lacking, unlabelled = set(labels) - set(maps), set(maps) - set(labels)
    if lacking:
        raise InputError(
            folder,
            found=f"nothing for {_list_sessions(lacking)}",
            expected="a tissue map for every labelled session",
            advice="Predict these sessions too, or remove their labels.",
        )
    if unlabelled and not labelled_only:
        raise InputError(
            folder,
            found=f"predictions without labels: {_list_sessions(unlabelled)}",
            expected="labels for every session",
            advice="Add their labels, or give --labelled-only to exclude these predictions.",
        )
    for key, label in labels.items():
        require_different(maps[key], label, "prediction and label at once")
    return {key: maps[key] for key in labels}


def _list_sessions(sessions: Iterable[Key]) -> str:
    return ", ".join(f"sub-{sub}_ses-{ses}" for sub, ses in sorted(sessions))


def require_different(path: Path, label: Path, found: str) -> None:
    """Refuse a file that is also a label to score against.

    Raises
    ------
    InputError
        With what was `found`.
    """
    if path.samefile(label):
        raise InputError(
            path,
            found=found,
            expected=f"another file than {label}",
            advice="Name another folder, or correct the link.",
        )


def read_sessions(
    labels: Mapping[Key, Path],
    *,
    masks: Path | None = None,
    priors: Path | None = None,
    aligned: bool = False,
    bids: Path | None = None,
) -> Iterator[LabelledSession]:
    """Read labelled scans one by one, each patient's in order of time.

    Parameters
    ----------
    labels : mapping of (sub, ses) to path
    masks : path, optional
        Folder with ``sub-*/ses-*/anat/*brain_mask.nii*`` in the space of the labels, on any grid.
    priors : path, optional
        Folder with the prior session's labels in the space of each follow-up, on any grid
        (``*_desc-prior_dseg.nii*``). A patient's first labelled session is a follow-up, too, if it has one.
    aligned : bool
        The labels of all sessions of a patient are in one space: those of the prior session are the priors.
    bids : path, optional
        Dataset whose ``sub-*/sub-*_sessions.tsv`` say when the sessions were; without it, they are in the order of
        their labels.
    """
    given = find_maps(priors, desc="prior") if priors else {}
    for sub in sorted({sub for sub, _ in labels}):
        order, _ = order_sessions(bids, sub, [ses for who, ses in labels if who == sub])
        before = None
        for ses in order:
            truth = read_tissue(labels[sub, ses])
            prior = None
            if priors and (before is not None or (sub, ses) in given):
                prior = _read_prior(given, sub, ses, priors)
            elif before is not None and aligned:
                prior = before
            yield LabelledSession(
                sub,
                ses,
                truth,
                _read_mask(masks, sub, ses, truth) if masks else None,
                None if prior is None else np.isin(images.resample(prior, truth.grid, order=0).data, WHOLE),
                before is None and prior is None,
            )
            before = truth


def read_tissue(path: Path) -> Image:
    """Read a tissue map without its resection cavities.

    Label 4 is a cavity here and in BraTS 2025, but enhancing in BraTS 2021: the JSON beside the map has to say so, as
    that of the pipeline does (``{"Labels": {"4": "cavity"}}``).

    Raises
    ------
    InputError
        Another label, or a 4 of which nothing says what it is.
    """
    beside = path.with_name(f"{path.name.removesuffix('.gz').removesuffix('.nii')}.json")
    says = sidecars.read_json(beside).get("Labels", {}) if beside.exists() else {}
    tissue = images.read_labels(path, TISSUE_LABELS)
    if says.get(str(CAVITY)) != "cavity" and (tissue.data == CAVITY).any():
        raise InputError(
            path,
            found="labels [4]",
            expected="1 enhancing, 2 edema, 3 necrosis",
            advice="In BraTS 2021 it is enhancing: relabel the map. Where it is a resection cavity, say so in the JSON "
            'beside it: {"Labels": {"4": "cavity"}}.',
            reason=Reason.BAD_LABELS,
        )
    return tissue.like(np.where(tissue.data == CAVITY, 0, tissue.data).astype(np.uint8))


def _read_prior(given: Mapping[Key, Path], sub: str, ses: str, folder: Path) -> Image:
    if (sub, ses) not in given:
        raise InputError(
            folder,
            found=f"no prior of sub-{sub}_ses-{ses}",
            expected="the prior session's labels for every follow-up",
            advice="Propagate them, or omit --priors; --bids says which session is the first.",
        )
    return read_tissue(given[sub, ses])


def _read_mask(folder: Path, sub: str, ses: str, truth: Image) -> np.ndarray:
    found = sorted(Path(folder).glob(f"sub-{sub}/ses-{ses}/anat/*brain_mask.nii*"))
    mask = images.resample(images.read_labels(found[0]), truth.grid, order=0).data > 0 if len(found) == 1 else None
    if mask is None or not mask.any():
        raise InputError(
            Path(folder) / f"sub-{sub}/ses-{ses}/anat",
            found=f"{len(found)} brain masks" if mask is None else "a brain mask that is empty, or elsewhere",
            expected="one *brain_mask.nii.gz in the space of the labels",
            advice="Correct the folder of masks, or omit it.",
        )
    return mask


def read_lesion_probability(path: Path, truth: Image) -> np.ndarray:
    """Read the probability of a whole lesion onto the grid of the labels (linear).

    Parameters
    ----------
    path : path
        (X, Y, Z, 5) with the classes of the labels, as the pipeline writes them, (X, Y, Z, 4) without cavity, or
        (X, Y, Z).
    truth : Image

    Returns
    -------
    (X, Y, Z) float32

    Raises
    ------
    InputError
        Another shape, or values that are no probabilities.
    """
    image = images.read_probabilities(path)
    shape = image.data.shape
    if len(shape) not in (3, 4) or shape[3:] not in ((), (len(LESION_LABELS),), (len(TISSUE_LABELS),)):
        raise InputError(
            path,
            found=f"an array of {'x'.join(map(str, shape))}",
            expected="3-D (a whole lesion), or 4-D: background, enhancing, edema, necrosis, and cavity or not",
            advice="Write probabilities in one of these shapes.",
        )
    whole: np.ndarray = image.data[..., list(WHOLE)].sum(-1) if len(shape) == 4 else image.data
    if not np.isfinite(whole).all() or whole.min() < -0.01 or whole.max() > 1.01:
        raise InputError(
            path,
            found=f"values from {whole.min():g} to {whole.max():g}",
            expected="probabilities from 0 to 1",
            advice="Write probabilities, not logits or labels.",
        )
    image = Image(whole, image.affine)
    return whole if image.grid.matches(truth.grid) else images.resample(image, truth.grid, order=1).data
