"""What the methods are trained on: each session's images as networks see them, its labels and its past, as arrays.

::

    CASES/sub-A_ses-02/
      ce-gadolinium_T1w.npy, T2w.npy ...   (Z, Y, X) float16, z-scored within the brain, 0 outside
      prior_image.npy                      the same of the prior session's image, registered
      prior.npy                            (Z, Y, X) uint8: whole lesions of the prior session, propagated
      tissue.npy                           (Z, Y, X) uint8: 1 enhancing, 2 edema, 3 necrosis
      places.npz                           voxels to centre patches on: `lesion-1` ... and `brain`
      content.sha256                       of the arrays: a training on others is not gone on from
    CASES/splits.json                      patients by set
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from mettrail.drawn import read_lesions
from mettrail.errors import InputError
from mettrail.files import write_whole
from mettrail.geometry import bounding_box, label_components
from mettrail.images import ENHANCING, LESION_LABELS, NECROSIS, read_image, read_labels, require_same_grid, resample
from mettrail.jobs import explain, given
from mettrail.reasons import Reason
from mettrail.segmentation.model_folder import IMAGES, PRIOR, PRIOR_IMAGE
from mettrail.segmentation.normalisation import equalise_slices, z_scores
from mettrail.segmentation.prediction import to_nnunet
from mettrail.training.dataset import require_lesions

PLACES = {"lesion": 64, "brain": 4096}


@dataclass(frozen=True)
class Case:
    """A session to train on; arrays are read when asked for, and stay on disk.

    Parameters
    ----------
    folder : Path
    """

    folder: Path

    @cached_property
    def places(self) -> dict[str, np.ndarray]:
        """Voxels (n, 3) to centre patches on."""
        with np.load(self.folder / "places.npz") as stored:
            return dict(stored)

    @property
    def lesions(self) -> list[str]:
        """Those of the places that are lesions."""
        return [name for name in self.places if name != "brain"]

    @property
    def content(self) -> str:
        """A hash of its arrays."""
        return (self.folder / "content.sha256").read_text(encoding="utf-8")

    @cached_property
    def tissue(self) -> np.ndarray:
        """Labels, (Z, Y, X)."""
        return self._read("tissue")

    def channel(self, name: str, *, equalised: bool) -> np.ndarray | None:
        """Return an image or the prior, (Z, Y, X); None where the session does not have it."""
        suffix = "_equalised" if equalised and name != PRIOR else ""
        return self._read(f"{name}{suffix}") if (self.folder / f"{name}{suffix}.npy").exists() else None

    def _read(self, name: str) -> np.ndarray:
        array: np.ndarray = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        return array


def without_failed(sessions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Leave out sessions of which an image could not be made, and priors that could not; what is left out is printed.

    Parameters
    ----------
    sessions : sequence of mapping
        ``sub``, ``ses``, ``images``, ``mask``, ``prior``, ``prior_image``.
    """
    kept = []
    for session in sessions:
        failed = [why for path in (*session["images"].values(), session["mask"]) if (why := explain(path))]
        if failed:
            print(
                f"sub-{session['sub']}_ses-{session['ses']} is left out: {failed[0].stage} failed: {failed[0].detail}"
            )
        else:
            kept.append({**session, **{name: given(session[name]) for name in ("prior", "prior_image")}})
    return kept


def write_cases(sessions: Sequence[Mapping[str, Any]], folder: Path, *, seed: int) -> list[Case]:
    """Write sessions as cases; what an earlier run has left of them is replaced.

    Parameters
    ----------
    sessions : sequence of mapping
        ``sub``, ``ses``; ``images``: name -> file, on one 1 mm grid; ``labels``, ``scheme``: file, and what its numbers
        mean; ``prior``, ``prior_image``: files, or None.
    folder : Path
    seed : int
        Of the places of patches.

    Raises
    ------
    InputError
        No lesion in any of them.
    """
    cases = []
    for number, session in enumerate(sessions):
        case = Case(folder / f"sub-{session['sub']}_ses-{session['ses']}")
        shutil.rmtree(case.folder, ignore_errors=True)
        case.folder.mkdir(parents=True)
        _write_case(session, case.folder, rng=np.random.default_rng([seed, number]))
        cases.append(case)
    require_lesions(sum(len(case.lesions) for case in cases), sessions=len(cases))
    return cases


def _write_case(session: Mapping[str, Any], folder: Path, *, rng: np.random.Generator) -> None:
    images = {name: read_image(path) for name, path in session["images"].items()}
    first = next(iter(images.values()))
    require_same_grid(*images.values())
    tissue = resample(read_lesions(session["labels"], session["scheme"]), first.grid, order=0).data
    inside = ndimage.binary_fill_holes(np.logical_or.reduce([image.data != 0 for image in images.values()]))
    box = bounding_box(inside)
    if session["prior_image"]:
        images[PRIOR_IMAGE] = read_image(session["prior_image"])
    for name, image in images.items():
        seen = np.where(inside, image.data, 0)[box]
        _save(folder / name, np.where(inside[box], z_scores(seen, inside[box]), 0), np.float16)
        if name in IMAGES:
            _save(folder / f"{name}_equalised", equalise_slices(seen), np.float16)
    if session["prior"]:
        prior = read_labels(session["prior"], LESION_LABELS)
        require_same_grid(first, prior)
        _save(folder / PRIOR, (np.isin(prior.data, (ENHANCING, NECROSIS)) & inside)[box], np.uint8)
    tissue = np.where(inside, tissue, 0)[box]
    _save(folder / "tissue", tissue, np.uint8)
    places = _find_places(to_nnunet(tissue), to_nnunet(inside[box]), rng)
    np.savez(folder / "places.npz", **places)  # type: ignore[arg-type]
    content = hashlib.sha256()
    for path in sorted(folder.glob("*.npy")):
        content.update(path.name.encode() + path.read_bytes())
    (folder / "content.sha256").write_text(content.hexdigest(), encoding="utf-8")


def _save(path: Path, array: np.ndarray, kind: type) -> None:
    np.save(path.with_name(f"{path.name}.npy"), to_nnunet(array).astype(kind))


def _find_places(tissue: np.ndarray, inside: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    numbered, count = label_components(np.isin(tissue, (ENHANCING, NECROSIS)))
    masks = {f"lesion-{n}": (numbered == n, PLACES["lesion"]) for n in range(1, count + 1)}
    masks["brain"] = (inside, PLACES["brain"])
    found = {}
    for name, (mask, most) in masks.items():
        voxels = np.argwhere(mask)
        found[name] = voxels[rng.permutation(len(voxels))[:most]].astype(np.int16)
    return found


def split_patients(
    patients: Sequence[str], *, test: Sequence[str], test_share: float, development_share: float, seed: int
) -> dict[str, list[str]]:
    """Say which patients are trained on, which thresholds are chosen on, and which are compared on.

    Parameters
    ----------
    patients : sequence of str
    test : sequence of str
        Patients to compare on; a share of all is drawn where there are none.
    test_share, development_share : float
        Of all patients; at least one each.
    seed : int

    Raises
    ------
    InputError
        Too few patients for three sets.

    Examples
    --------
    >>> split = split_patients("ABCDEFGH", test=["C"], test_share=0.3, development_share=0.2, seed=1)
    >>> {name: len(some) for name, some in split.items()}, split["test"]
    ({'train': 5, 'development': 2, 'test': 1}, ['C'])
    """
    names = sorted(patients)
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    wanted = {
        name: max(1, round(share * len(names))) for name, share in (("test", test_share), ("dev", development_share))
    }
    chosen = sorted(test) or order[: wanted["test"]]
    rest = [name for name in order if name not in chosen]
    development, train = rest[: wanted["dev"]], rest[wanted["dev"] :]
    if not train:
        raise InputError(
            "config: compare",
            found=f"{len(names)} patients with masks, {len(chosen)} of them to compare on",
            expected="at least one patient each to train on, to choose thresholds on and to compare on",
            advice="Add patients with masks, or name fewer under compare.test_patients.",
            reason=Reason.TOO_FEW_PATIENTS,
        )
    return {"train": sorted(train), "development": sorted(development), "test": sorted(chosen)}


def write_splits(splits: Mapping[str, Sequence[str]], path: Path) -> None:
    """Write which patient is in which set."""
    write_whole(path, json.dumps(splits, indent=1) + "\n")
