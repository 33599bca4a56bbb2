"""What networks are trained on: sessions with manual segmentations, as nnU-Net's raw dataset.

The pipeline's own stages prepare everything: images are those that `segment` sees (RAS, 1 mm, bias-corrected, 0 outside
the brain mask grown by 3 mm), the prior is what `propagate` makes of the manual segmentation of the prior visit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mettrail.drawn import read_lesions
from mettrail.errors import InputError
from mettrail.images import (
    EDEMA,
    ENHANCING,
    LESION_LABELS,
    NECROSIS,
    Image,
    read_image,
    read_labels,
    require_same_grid,
    resample,
    write_image,
    write_labels,
)
from mettrail.reasons import Reason
from mettrail.segmentation.model_folder import IMAGES, PRIOR, name_channels
from mettrail.training.cases import LABELS
from mettrail.training.folds import make_splits

WHOLE = {"background": 0, "lesion": 1}
# What can be wrong with a provided segmentation; see `cohort`.
LABEL_FAULTS = (Reason.BAD_LABELS, Reason.GRID_MISMATCH, Reason.AMBIGUOUS_LABELS, Reason.NO_LABELS)


@dataclass(frozen=True)
class Task:
    """A task of Andrearczyk et al., Sci Rep 2024.

    Parameters
    ----------
    name : str
        ``detection`` or ``resegmentation``: what a model folder calls it.
    labels : dict
        nnU-Net's, by name.
    dataset : str
        The name nnU-Net knows its data by.
    """

    name: str
    labels: dict[str, int]
    dataset: str

    @property
    def has_prior(self) -> bool:
        """Whether the lesions of the prior visit are a channel."""
        return self.name == "resegmentation"


TASKS = {
    "1.1": Task("detection", WHOLE, "Dataset011_detection"),
    "1.2": Task("detection", LABELS, "Dataset012_detection"),
    "2.1": Task("resegmentation", WHOLE, "Dataset021_resegmentation"),
    "2.2": Task("resegmentation", LABELS, "Dataset022_resegmentation"),
}


def select_sessions(
    rows: Sequence[dict[str, str]],
    participants: Mapping[str, Mapping[str, str]],
    *,
    reference: str,
    sequences: Sequence[str],
    optional: Sequence[str],
    test_patients: Sequence[str],
) -> list[dict[str, str]]:
    """Choose the sessions to train on, and refuse early what would spoil the training.

    Parameters
    ----------
    rows : list of dict
        The cohort table.
    participants : patient -> row of participants.tsv
        ``split`` (train or test), where there is one, keeps test patients out.
    reference : str
        The first channel.
    sequences, optional : list of str
        Further channels, and those of them that a session may lack.
    test_patients : list of str
        Patients to keep out, with or without ``sub-``.

    Returns
    -------
    list of dict
        Rows of the cohort table.

    Raises
    ------
    InputError
        Masks with unknown labels or on another grid, a session whose job failed, a patient in train and test, a test
        patient nobody knows, a channel that models do not have, no session left.
    """
    known = reference in IMAGES and all(name in row for name in sequences for row in rows)
    if not known or not set(optional) <= set(sequences):
        raise InputError(
            "config: train.sequences, train.optional",
            found=f"{', '.join([reference, *sequences])}, of which {', '.join(optional) or 'none'} may be missing",
            expected=f"some of {', '.join(IMAGES)} that `sequences` names too; optional ones among the sequences",
            advice="Correct the lists; the reference is always the first channel and never optional.",
            reason=Reason.BAD_CHANNELS,
        )
    test = find_test_patients(participants, test_patients)
    segmented = []
    for row in rows:
        if row["sub"] in test:
            continue
        reason = None if row["reason"] == "n/a" else Reason.of(row["reason"])
        if reason and (reason in LABEL_FAULTS or reason.stage):
            raise InputError(
                f"sub-{row['sub']}_ses-{row['ses']}",
                found=f"{row['reason']}: {row['detail']}",
                expected="a session that can be trained on",
                advice="Correct it, or exclude it (index.edits: usable = false, or labels.sessions).",
                reason=reason,
            )
        if row["usable"] == "true" and row["labels"] != "n/a":
            segmented.append(row)
    if not segmented:
        raise InputError(
            "config: labels.folder",
            found="no usable session with lesion masks outside the test set",
            expected="sub-*/ses-*/anat/*_dseg.nii.gz (1 enhancing, 2 edema, 3 necrosis) to train on",
            advice="Point labels.folder at the derivatives with the masks; cohort.tsv says why sessions are excluded.",
            reason=Reason.NO_TRAINING_DATA,
        )
    required = [name for name in sequences if name not in optional]
    complete = [row for row in segmented if all(row[name] != "n/a" for name in required)]
    if not complete:
        raise InputError(
            "config: train.sequences",
            found=f"{len(segmented)} sessions with masks, none of which has {', '.join(required)}",
            expected="sessions with all channels",
            advice="Train without the missing sequence, or name it under train.optional: zeros then stand for it.",
            reason=Reason.MISSING_CHANNEL,
        )
    return complete


def find_test_patients(participants: Mapping[str, Mapping[str, str]], listed: Sequence[str]) -> set[str]:
    """Return the patients to keep out of training.

    Raises
    ------
    InputError
        A patient that one place puts into the training set and another into the test set, one that nobody knows, or a
        ``split`` that is neither.
    """
    chosen = {str(name).removeprefix("sub-") for name in listed}
    split = {sub: row.get("split", "n/a") for sub, row in participants.items()}
    strange = {sub: value for sub, value in split.items() if value not in ("train", "test", "n/a", "")}
    if strange or chosen - set(participants):
        wrong = [f"sub-{sub} in {value!r}" for sub, value in strange.items()]
        wrong += [f"sub-{sub}, who is not in the dataset" for sub in sorted(chosen - set(participants))]
        raise InputError(
            "participants.tsv: split, config: train.test_patients",
            found=", ".join(wrong),
            expected="patients of the dataset, in train or test",
            advice="Correct the table or the list.",
            reason=Reason.BAD_SPLIT,
        )
    both = sorted(sub for sub in chosen if split[sub] == "train")
    if both:
        raise InputError(
            "participants.tsv: split, config: train.test_patients",
            found=f"{', '.join(f'sub-{sub}' for sub in both)} in the training set and in the test set",
            expected="every patient in one of them",
            advice="Correct the table or the list.",
            reason=Reason.PATIENT_IN_TWO_SETS,
        )
    return chosen | {sub for sub, value in split.items() if value == "test"}


def write_dataset(
    sessions: Sequence[dict[str, Any]],
    folder: str | Path,
    *,
    task: str,
    channels: Sequence[str],
    folds: int,
    seed: int,
) -> None:
    """Write nnU-Net's raw dataset: labels and priors at 1 mm, dataset.json that names the images, splits_final.json.

    Parameters
    ----------
    sessions : list of dict
        ``sub``, ``ses``; ``images``: channel -> file; ``labels``: file, on the raw scan's grid; ``scheme``: what its
        numbers mean (`drawn.read_scheme`); ``prior``: file, or None where the session has no earlier one with masks.
    folder : path
        ``nnUNet_raw/DATASET``; images stay where they are.
    task : str
        See `TASKS`.
    channels : list of str
        Images in the network's order; one that a session does not have is given as zeros.
    folds, seed
        See `folds.assign_folds`. Re-segmentation validates on follow-ups alone: first visits have no prior but a
        fictitious one, and those are for training only.

    Raises
    ------
    InputError
        Labels nobody knows, images on different grids, no lesion anywhere, fewer patients than folds.
    """
    folder, kind = Path(folder), TASKS[task]
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    cases, files, content, lesions = [], {}, hashlib.sha256(), 0
    for session in sessions:
        case = f"sub-{session['sub']}_ses-{session['ses']}"
        written = _write_case(folder, case, session, kind=kind, channels=channels)
        files[case] = {
            "images": [str(path.absolute()) for path in written.images],
            "label": str(written.label.absolute()),
        }
        for array in written.arrays:
            content.update(np.ascontiguousarray(array).data)
        lesions += written.has_lesion
        validates = session["prior"] is not None or not kind.has_prior
        cases.append({"case": case, "sub": session["sub"], "validates": validates})
        given = ", ".join(name if name in session["images"] else f"zeros for {name}" for name in channels)
        print(f"{case}: {given}" + ("" if not kind.has_prior else ", prior" if validates else ", no prior"))
    require_lesions(lesions, sessions=len(cases))
    description = {
        "channel_names": name_channels([*channels, *([PRIOR] if kind.has_prior else [])]),
        "labels": kind.labels,
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
        "name": kind.dataset,
        "overwrite_image_reader_writer": "NibabelIO",
        "dataset": files,
        "content_sha256": content.hexdigest(),
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=1))
    splits = make_splits(cases, folds=folds, seed=seed)
    (folder / "splits_final.json").write_text(json.dumps(splits, indent=1))
    for fold, split in enumerate(splits):
        print(f"fold {fold}: {len(split['train'])} sessions to train on, {len(split['val'])} to validate on")


def require_lesions(count: int, *, sessions: int) -> None:
    """Refuse sessions to train on that have no lesion between them.

    Raises
    ------
    InputError
    """
    if not count:
        raise InputError(
            "config: labels.folder",
            found=f"{sessions} sessions without a single lesion",
            expected="lesions to learn from",
            advice="Check that these are the masks that are meant.",
            reason=Reason.NO_TRAINING_DATA,
        )


@dataclass(frozen=True)
class _Written:
    """The files of a case, and the arrays that it is trained on: labels, then channels."""

    label: Path
    images: list[Path]
    arrays: list[np.ndarray]
    has_lesion: bool


def _write_case(
    folder: Path, case: str, session: Mapping[str, Any], *, kind: Task, channels: Sequence[str]
) -> _Written:
    """Write a session's labels, its prior where the task has one, and zeros for channels it lacks."""
    images = {name: read_image(path) for name, path in session["images"].items()}
    first = images[channels[0]]
    require_same_grid(*images.values())
    labels = resample(read_lesions(session["labels"], session["scheme"]), first.grid, order=0).data
    label = folder / "labelsTr" / f"{case}.nii.gz"
    arrays = [as_task_labels(labels, kind)]
    write_labels(label, arrays[0], first.affine)
    paths = []
    for index, name in enumerate(channels):
        if name in images:
            arrays.append(images[name].data)
            paths.append(Path(session["images"][name]))
        else:
            arrays.append(np.zeros(first.data.shape, np.float32))
            paths.append(folder / "imagesTr" / f"{case}_{index:04d}.nii.gz")
            write_image(paths[-1], arrays[-1], first.affine)
    if kind.has_prior:
        arrays.append(_read_prior(session["prior"], first))
        paths.append(folder / "imagesTr" / f"{case}_{len(channels):04d}.nii.gz")
        write_labels(paths[-1], arrays[-1], first.affine)
    return _Written(label, paths, arrays, bool(np.isin(labels, (ENHANCING, NECROSIS)).any()))


def as_task_labels(labels: np.ndarray, task: Task) -> np.ndarray:
    """Turn tissue labels into those of a task: the whole lesion is enhancing and necrosis together, without edema.

    Examples
    --------
    >>> as_task_labels(np.array([0, 1, 2, 3]), TASKS["1.1"]).tolist()
    [0, 1, 0, 1]
    """
    if task.labels is LABELS:
        return labels.astype(np.uint8)
    return np.isin(labels, (ENHANCING, NECROSIS)).astype(np.uint8)


def lesion_labels(labels: Mapping[str, int]) -> list[int]:
    """Return which of nnU-Net's labels are metastasis: all but background and edema."""
    return [number for name, number in labels.items() if number and LABELS.get(name) != EDEMA]


def _read_prior(path: str | None, image: Image) -> np.ndarray:
    """Read the propagated lesions as a binary channel, within what the network sees; nothing where there are none."""
    if path is None:
        return np.zeros(image.data.shape, np.uint8)
    labels = read_labels(path, LESION_LABELS)
    require_same_grid(image, labels)
    prior: np.ndarray = np.isin(labels.data, (ENHANCING, NECROSIS)) & (image.data != 0)
    return prior.astype(np.uint8)
