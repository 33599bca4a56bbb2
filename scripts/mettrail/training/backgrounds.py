"""Heads to train on: simulated ones, and real ones that the pipeline has prepared."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from mettrail.errors import InputError
from mettrail.geometry import label_components
from mettrail.images import ENHANCING, NECROSIS, read_image, read_labels, read_mask, require_same_grid, resample
from mettrail.reasons import Reason
from mettrail.segmentation.model_folder import POST_CONTRAST
from mettrail.training.cases import LabelledScan
from mettrail.training.synthesis import simulate_visits

# Lesions are painted at least so far from those that a head has of its own.
APART_VOX = 5


@dataclass(frozen=True)
class Background:
    """A prepared session: bias-corrected head and brain mask at 1 mm, and its manual segmentation if there is one.

    Parameters
    ----------
    image, mask : Path
    labels : Path, optional
        On any grid.
    """

    image: Path
    mask: Path
    labels: Path | None


@dataclass(frozen=True)
class Painted:
    """A patient with metastases painted into a head, twice; see `synthesis.simulate_visits`.

    Parameters
    ----------
    background : Background or int
        A prepared session, or the seed of a phantom, which has no lesions of its own then.
    seed : int
    lesions : (low, high), or dict
        How many; as in `synthesis.simulate_visits`.
    synthesis : dict
        As in config/train.yaml.
    """

    background: Background | int
    seed: int
    lesions: tuple[int, int] | dict[str, list[float]]
    synthesis: dict[str, Any]


# What a case is made from: the seed of a phantom, a prepared session, or one that lesions are painted into.
Key = int | Background | Painted


def prepare(scans: Path, root: Path, *, heads: list[dict[str, Any]], cores: int) -> None:
    """Lay scans out as BIDS datasets and have the pipeline prepare them (``--until preprocess``); what exists is kept.

    Parameters
    ----------
    scans : Path
        Folder of the scans.
    root : Path
        Gets ``bids/NAME``, ``labels/NAME`` and the output folder ``NAME`` of each dataset.
    heads : list of dict
        ``heads`` of config/train.yaml: ``name``; ``bids``, a folder in `scans`, or ``files``, a pattern there
        (participants are named by what stands before the first underscore, or by ``participant``); ``labels``, a folder
        of label maps (in `scans` for a BIDS dataset); ``reference``, the scans' BIDS name; ``strip``, the method;
        ``sequences``, more scans of the same name, brought onto the reference's grid.
    cores : int

    Raises
    ------
    InputError
        A scan that is not there.
    subprocess.CalledProcessError
        The pipeline failed; its log says why.
    """
    for head in heads:
        bids = Path(scans) / head["bids"] if "bids" in head else _lay_out(scans, root, head)
        if "labels" in head:
            folder = Path(scans) / head["labels"] if "bids" in head else Path(head["labels"])
            shutil.copytree(folder, Path(root) / "labels" / head["name"], dirs_exist_ok=True)
        more = head.get("sequences", [])
        settings = [f"bids={bids}", f"out={Path(root) / head['name']}", f"sequences={more}"]
        settings += [f"reference={head['reference']}", f"strip={{method: {head['strip']}}}"]
        command = [sys.executable, "-m", "snakemake", "--cores", str(cores)]
        subprocess.run([*command, "--until", "preprocess", "--config", *settings], check=True)
        if more:
            subprocess.run([*command, "--config", *settings, "--", "preprocess_all"], check=True)


def _lay_out(scans: Path, root: Path, head: dict[str, Any]) -> Path:
    bids = Path(root, "bids", head["name"])
    found = sorted(Path(scans).glob(head["files"]))
    if not found:
        raise InputError(
            Path(scans) / head["files"],
            found="no such scan",
            expected="the heads that config/train.yaml names",
            advice="See resources/training/README.md for where they come from.",
            reason=Reason.NO_BACKGROUNDS,
        )
    for path in found:
        participant = head.get("participant", path.name.split("_")[0])
        for name in (head["reference"], *head.get("sequences", [])):
            target = bids / participant / "ses-01/anat" / f"{participant}_ses-01_{name}.nii.gz"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path.with_name(path.name.replace(head["reference"], name)), target)
    (bids / "dataset_description.json").write_text(json.dumps({"Name": head["name"], "BIDSVersion": "1.10.0"}))
    return bids


def find_backgrounds(
    root: Path, *, name: str, participants: list[str] | None = None, copies: int = 1
) -> list[Background]:
    """List the prepared sessions of a dataset, with the label maps that there are.

    Parameters
    ----------
    root : Path
        See `prepare`.
    name : str
        Of the dataset.
    participants : list of str, optional
        ``sub-07``...; all when omitted.
    copies : int
        Each session so many times: masks, bias and slices differ from copy to copy.

    Raises
    ------
    InputError
        No session, or a participant without one.
    """
    folder = Path(root) / name
    masks = sorted(folder.glob("sub-*/ses-*/anat/*_res-1mm_desc-brain_mask.nii.gz"))
    if participants is not None:
        masks = [path for path in masks if path.parents[2].name in participants]
    missing = set(participants or []) - {path.parents[2].name for path in masks}
    if missing or not masks:
        raise InputError(
            folder,
            found=f"no prepared session of {', '.join(sorted(missing)) or 'anybody'}",
            expected="*_res-1mm_desc-brain_mask.nii.gz and the bias-corrected head beside it",
            advice="Prepare them first: python scripts/train.py --scans FOLDER, see resources/training/README.md.",
            reason=Reason.NO_BACKGROUNDS,
        )
    found = []
    for mask in masks:
        (head,) = mask.parent.glob("*_res-1mm_desc-debias_*T1w.nii.gz")
        manual = sorted((Path(root) / "labels" / name / Path(*mask.parts[-4:-1])).glob("*_dseg.nii.gz"))
        found += [Background(head, mask, manual[0] if manual else None)] * copies
    return found


def name_backgrounds(chosen: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return datasets and their participants, as model cards name what was trained on."""
    return [f"{each['name']} ({', '.join(each.get('participants', ['all']))})" for each in chosen]


def make_visits(key: Key) -> list[LabelledScan]:
    """Simulate two visits from a seed, or read a real one, or paint two into a real one.

    Parameters
    ----------
    key : Key
    """
    if isinstance(key, Background):
        return [_read(key)]
    if isinstance(key, Painted):
        return _paint(key)
    return _simulate(key, lesions=True)


def _simulate(seed: int, *, lesions: bool) -> list[LabelledScan]:
    from mettrail import phantom

    return [
        LabelledScan(
            np.asarray(session.images[POST_CONTRAST].data, np.float32),
            np.asarray(session.brain.data) > 0,
            *_tissue_and_lesions(np.asarray(session.tissue.data), np.asarray(session.instances.data)),
        )
        for session in phantom.training_pair(seed, lesions=lesions)
    ]


@lru_cache(maxsize=2)
def _read(background: Background) -> LabelledScan:
    head, mask = read_image(background.image), read_mask(background.mask)
    require_same_grid(head, mask)
    tissue = np.zeros(head.data.shape, np.uint8)
    if background.labels is not None:
        manual = resample(read_labels(background.labels), head.grid, order=0).data.astype(np.uint8)
        # What a ring encloses, slice by slice, belongs to the lesion.
        filled = np.stack([ndimage.binary_fill_holes(manual[..., k] > 0) for k in range(manual.shape[2])], -1)
        tissue = np.where(filled & (manual == 0), NECROSIS, manual).astype(np.uint8)
    instances, _ = label_components(np.isin(tissue, (ENHANCING, NECROSIS)))
    return LabelledScan(head.data.astype(np.float32), mask.data > 0, *_tissue_and_lesions(tissue, instances))


def _paint(key: Painted) -> list[LabelledScan]:
    """Paint lesions well apart from the tumour that the head has of its own, which stays as it is.

    That tumour is one lesion however many components it was segmented in: a dozen voxels of one thick slice, met again
    in every patient painted into this head, would count like so many small lesions missed.
    """
    head = _simulate(key.background, lesions=False)[0] if isinstance(key.background, int) else _read(key.background)
    apart = ~ndimage.binary_dilation(head.tissue > 0, iterations=APART_VOX)
    free = head.brain & apart
    rng = np.random.default_rng(key.seed)
    painted = simulate_visits(head.image, free, rng=rng, settings=key.synthesis, lesions=key.lesions)
    most = max(key.lesions["number"]) if isinstance(key.lesions, dict) else key.lesions[1]
    own = np.where(head.instances > 0, most + 1, 0).astype(np.uint8)
    return [
        # Mass effect may have pressed one nearer.
        LabelledScan(image, head.brain, np.maximum(tissue * apart, head.tissue), np.maximum(instances * apart, own))
        for image, tissue, instances in painted
    ]


def _tissue_and_lesions(tissue: np.ndarray, instances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    whole = np.isin(tissue, (ENHANCING, NECROSIS))
    return tissue.astype(np.uint8), np.where(whole, instances, 0).astype(np.uint8)
