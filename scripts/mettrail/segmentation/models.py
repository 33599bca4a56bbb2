"""The contract of a segmenter: a folder, what must lie in it, and what it promises.

::

    MODEL/
      mettrail.json          what goes in and what comes out; see below
      dataset.json           nnU-Net's
      plans.json             nnU-Net's
      fold_0/ ...            one folder per network, predictions are averaged
        weights.safetensors      as shipped: weights only, or
        checkpoint_final.pth     as nnU-Net's own training leaves it
      README.md              model card
      training.log           progress of the training, if it is known

``mettrail.json``::

    {"task": "resegmentation",                         or "detection"
     "input": "brain",                                 or "head": zero outside the brain, or not
     "channels": ["ce-gadolinium_T1w", "prior"],       in the order of dataset.json; images by BIDS name
     "optional_channels": [],                          may be left out: of them, zeros for what a session lacks
     "configuration": "3d_fullres",                    of plans.json
     "spacing_mm": [1.0, 1.0, 1.0],                    of what is given: RAS, 1 mm
     "normalisation": ["ZScoreNormalization", "NoNormalization"],
     "mirror_axes": [],                                may be averaged over flips of these axes (of nnU-Net's Z, Y, X)
     "tile": [80, 80, 80],                             patch at inference; null: the plans' own
     "threshold": 0.5,                                 probability of whole lesion from which a voxel is one
     "confidence": 0.85,                               conviction (`prediction.weigh_voxels`) below which a voxel
                                                       is none, unless it lies at a lesion of the prior
     "candidate_threshold": 0.2,                       detection, may be left out: from here on, a candidate
     "sha256": {"dataset.json": "...", "plans.json": "...", "fold_0/weights.safetensors": "..."},
     "trained_on": "...", "licence": "..."}

The network need not be a U-Net. ``plans.json`` names its class, one of those in `architectures`, and its arguments; it
turns (B, channels, Z, Y, X) into (B, classes, Z, Y, X) logits. A second path for the prior, a classifier before a
segmenter, slices taken seven at a time: its own affair.

A folder runs no code. What its files name is looked up in tables, what they number has limits (`contract`), checkpoints
are read as numbers alone, and every file but the card and the log is one whose SHA-256 mettrail.json states.

A channel is optional where the network was trained with zeros in its place (Andrearczyk et al., Sci Rep 2024, for T2w).
The prior is one binary channel, label 1 or 3 of the last visit, nearest neighbour throughout and never normalised.
``dataset.json`` names its labels ``background``, ``enhancing``, ``edema``, ``necrosis`` (any of the last three may be
absent; ``lesion`` stands for ``enhancing``). A folder that nnU-Net trained on NIfTI files becomes a model by adding a
``mettrail.json``; with an empty ``sha256``, the message says what to write there.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mettrail.errors import ModelError
from mettrail.segmentation import model_folder
from mettrail.segmentation.architectures import build_from_plans
from mettrail.segmentation.model_folder import DATASET, PLANS

DESCRIPTION = "mettrail.json"
LOG = "training.log"
COPY = "Copy it from nnU-Net's results folder."
TASKS = ("detection", "resegmentation")
POST_CONTRAST = "ce-gadolinium_T1w"
IMAGES = (POST_CONTRAST, "T1w", "T2w", "FLAIR")
PRIOR = "prior"
# How others write the names of images in dataset.json, in lower case: enough to see that two are swapped.
SPELLINGS = {
    **dict.fromkeys(("ce-gadolinium_t1w", "t1c", "t1ce", "t1gd", "t1c+", "t1w-ce", "t1post"), POST_CONTRAST),
    **dict.fromkeys(("t1w", "t1", "t1n"), "T1w"),
    **dict.fromkeys(("t2w", "t2"), "T2w"),
    **dict.fromkeys(("flair", "t2f"), "FLAIR"),
    "prior": PRIOR,
}
CLASSES = {"background": 0, "enhancing": 1, "lesion": 1, "edema": 2, "necrosis": 3}
REQUIRED = (
    "task", "input", "channels", "configuration", "spacing_mm", "normalisation", "mirror_axes", "tile", "threshold",
    "confidence", "sha256", "trained_on", "licence",
)  # fmt: skip
WEIGHTS = ("weights.safetensors", "checkpoint_final.pth")


@dataclass(frozen=True)
class Model:
    """A model folder that has been read and checked; the weights are read when it predicts.

    Parameters
    ----------
    folder : Path
    task : str
        ``detection`` or ``resegmentation``.
    input : str
        ``brain``: the image is 0 outside the brain mask grown by 3 mm; ``head``: it is not.
    channels, optional_channels : tuple of str
        Images by BIDS name and ``prior``, in the network's order; those for which zeros may stand.
    classes : tuple of int
        Our label (0 background, 1 enhancing, 2 edema, 3 necrosis) of each output of the network.
    configuration : str
    mirror_axes : tuple of int
    tile : tuple of int or None
        (Z, Y, X) voxels.
    threshold, confidence : float
        See `prediction.settle`.
    weights : tuple of Path
    plans, dataset, description : dict
        The three JSON files.
    """

    folder: Path
    task: str
    input: str
    channels: tuple[str, ...]
    optional_channels: tuple[str, ...]
    classes: tuple[int, ...]
    configuration: str
    mirror_axes: tuple[int, ...]
    tile: tuple[int, int, int] | None
    threshold: float
    confidence: float
    weights: tuple[Path, ...]
    plans: dict
    dataset: dict
    description: dict


def read_model(folder: str | Path) -> Model:
    """Read a model folder and check that it keeps the contract.

    Raises
    ------
    ModelError
        A file missing or not what mettrail.json promises; a channel or label nobody knows.
    """
    folder = Path(folder)
    description = read_description(folder)
    content = {name: model_folder.read_file(folder, name, advice=COPY) for name in (DATASET, PLANS)}
    weights = _find_weights(folder)
    _check_hashes(folder, description["sha256"], content, weights)
    dataset = model_folder.parse(folder / DATASET, content[DATASET], model_folder.DATASET_SCHEMA, advice=COPY)
    dataset = {key: dataset[key] for key in model_folder.DATASET_SCHEMA["properties"] if key in dataset}
    _check_channels(folder, description, dataset)
    plans = model_folder.settle_plans(
        folder / PLANS,
        model_folder.parse(folder / PLANS, content[PLANS], model_folder.PLANS_SCHEMA, advice=COPY),
        description["configuration"],
        channels=len(description["channels"]),
    )
    _check_plans(folder, description, plans)
    tile = description["tile"]
    return Model(
        folder=folder,
        task=description["task"],
        input=description["input"],
        channels=tuple(description["channels"]),
        optional_channels=tuple(description.get("optional_channels", ())),
        classes=_read_classes(folder / DATASET, dataset),
        configuration=description["configuration"],
        mirror_axes=tuple(description["mirror_axes"]),
        tile=tuple(tile) if tile else None,
        threshold=float(description["threshold"]),
        confidence=float(description["confidence"]),
        weights=weights,
        plans=plans,
        dataset=dataset,
        description=description,
    )


def read_description(folder: str | Path) -> dict:
    """Read and check a model's mettrail.json alone: enough to tell which sessions the model is for.

    Raises
    ------
    ModelError
        No such folder, no such file, or not what it has to be.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError(
            folder,
            found="no such folder",
            expected="a model folder (mettrail.json, dataset.json, plans.json, fold_0/)",
            advice="Check the path under `segment: models` in the configuration, or train a model with "
            "scripts/train.py.",
            reason="no_model",
        )
    advice = "Write one beside dataset.json; models.py shows it."
    content = model_folder.read_file(folder, DESCRIPTION, advice=advice)
    description = model_folder.parse(folder / DESCRIPTION, content, model_folder.DESCRIPTION_SCHEMA, advice=advice)
    _check_description(folder / DESCRIPTION, description)
    return description


def lacking_channels(description: Mapping, available) -> list[str]:
    """Return the channels a model cannot do without and a session does not have, in the network's order."""
    optional = description.get("optional_channels", ())
    return [name for name in description["channels"] if name not in {*available, *optional}]


def require_channels(model: Model, available) -> None:
    """Refuse a session that lacks what the model was trained on; only optional channels may be missing.

    Parameters
    ----------
    model : Model
    available : iterable of str
        Images of the session by BIDS name, and ``prior`` where there is one.

    Raises
    ------
    ModelError
    """
    available = sorted(available)
    missing = lacking_channels(model.description, available)
    if missing:
        raise ModelError(
            model.folder,
            found=f"a session with {', '.join(available) or 'no images'}",
            expected=f"{', '.join(model.channels)}, which this {model.task} model was trained on",
            advice=f"Add {', '.join(missing)} to the session, or name another model under `segment: models`.",
            reason="missing_channel",
        )


def build_network(model: Model):
    """Return the network of the plans, without deep supervision, weights as initialised.

    Raises
    ------
    ModelError
        See `architectures.build_from_plans`.
    """
    return build_from_plans(
        model.plans,
        model.configuration,
        channels=len(model.channels),
        outputs=len(model.classes),
        path=model.folder,
        tile=model.tile,
    )


def read_weights(model: Model) -> list[dict]:
    """Return one state of the network per fold, as float32 on the CPU.

    Raises
    ------
    ModelError
        A checkpoint that holds more than numbers, or weights that do not fit the plans.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    network = build_network(model)
    states = []
    for path in model.weights:
        try:
            if path.suffix == ".safetensors":
                load_model(network, path)
            else:
                network.load_state_dict(read_checkpoint(path))
        except (SafetensorError, RuntimeError, KeyError, TypeError, AttributeError) as err:
            raise model_folder.refusal(
                path,
                f"weights that do not fit plans.json ({str(err).splitlines()[0]})",
                "weights of the network that plans.json describes",
                "Copy dataset.json, plans.json and the folds from one and the same nnU-Net results folder. "
                "Networks that a trainer class builds beside the plans are not supported.",
            ) from err
        states.append({key: value.detach().clone() for key, value in network.state_dict().items()})
        if not all(torch.isfinite(value).all() for value in states[-1].values()):
            raise model_folder.refusal(
                path,
                "weights that are not all finite numbers",
                "weights of a training that converged",
                "Train it again: such a network finds nothing.",
            )
    return states


def write_model(
    folder: str | Path,
    network,
    *,
    plans: dict,
    dataset: dict,
    description: dict,
    card: str,
    log: str = "",
    half: bool = True,
) -> Model:
    """Write a model folder with one network or several, and read it back.

    Parameters
    ----------
    folder : path
    network : torch module, or list of them
        Left as they are; one folder each, ``fold_0`` and so on.
    plans, dataset : dict
        nnU-Net's.
    description : dict
        ``mettrail.json`` without ``sha256``.
    card : str
        README.md.
    log : str
        Progress of the training, kept beside the weights.
    half : bool
        Weights as 16-bit floats, half the size; they are 32-bit again when read.
    """
    from safetensors.torch import save_model

    folder = Path(folder)
    # Written beside and swapped: whoever reads the folder meanwhile finds the old model or the new one.
    fresh, old = (folder.with_name(f"{folder.name}.{what}") for what in ("partial", "old"))
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    hashes = {}
    for number, each in enumerate(network if isinstance(network, list) else [network]):
        name = f"fold_{number}/{WEIGHTS[0]}"
        (fresh / name).parent.mkdir(parents=True)
        each = copy.deepcopy(each).cpu()
        save_model(each.half() if half else each, fresh / name)
        hashes[name] = model_folder.digest((fresh / name).read_bytes())
    for name, content in ((DATASET, dataset), (PLANS, plans)):
        (fresh / name).write_text(_as_json(content), encoding="utf-8")
        hashes[name] = model_folder.digest((fresh / name).read_bytes())
    (fresh / DESCRIPTION).write_text(_as_json({**description, "sha256": hashes}))
    (fresh / "README.md").write_text(card)
    if log:
        (fresh / LOG).write_text(log)
    model = read_model(fresh)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return dataclasses.replace(
        model, folder=folder, weights=tuple(folder / path.relative_to(fresh) for path in model.weights)
    )


def describe_model(model: Model, *, description: dict, card: str) -> None:
    """Replace what a model folder says of itself; its weights stay as they are.

    Parameters
    ----------
    model : Model
    description : dict
        ``mettrail.json``, ``sha256`` included.
    card : str
        README.md.
    """
    for name, text in ((DESCRIPTION, _as_json(description)), ("README.md", card)):
        fresh = model.folder / f"{name}.partial"
        fresh.write_text(text)
        fresh.replace(model.folder / name)


def read_checkpoint(path: Path) -> dict:
    """Return the network's weights of nnU-Net's checkpoint, without letting it run code.

    Raises
    ------
    ModelError
        It holds more than numbers.
    """
    import torch

    # nnU-Net logs its losses as numpy numbers.
    numbers = [np.dtype, np._core.multiarray.scalar, *{type(np.dtype(t)) for t in (np.float16, np.float32, np.float64)}]
    numbers += [type(np.dtype(t)) for t in (np.int32, np.int64)]
    try:
        with torch.serialization.safe_globals(numbers):
            return torch.load(path, map_location="cpu", weights_only=True)["network_weights"]
    except Exception as err:  # whatever a broken or hostile file makes torch raise
        refused = "weights_only" in str(err).lower() or "weightsunpickler" in str(err).lower()
        what = "a checkpoint that holds more than numbers" if refused else "no checkpoint of nnU-Net"
        raise model_folder.refusal(
            path,
            f"{what} ({type(err).__name__}: {(str(err).splitlines() or [''])[0]})",
            "network weights and nnU-Net's own log",
            "If you trust where it comes from, load it with torch once and save it again with "
            "only {'network_weights': ...}.",
            reason="unsafe_model" if refused else "bad_model",
        ) from err


def _check_description(path: Path, description: dict) -> None:
    def refuse(found: str, expected: str, advice: str = "Correct it; models.py describes the file."):
        raise ModelError(path, found=found, expected=expected, advice=advice, reason="bad_model")

    missing = [key for key in REQUIRED if key not in description]
    if missing:
        refuse(f"no {', '.join(missing)}", f"the keys {', '.join(REQUIRED)}")
    if description["task"] not in TASKS:
        refuse(f"task {description['task']!r}", f"one of {', '.join(TASKS)}")
    if description["input"] not in ("brain", "head"):
        refuse(f"input {description['input']!r}", "brain or head")
    unknown = [name for name in description["channels"] if name not in (*IMAGES, PRIOR)]
    if unknown or not description["channels"]:
        refuse(f"channels {description['channels']}", f"some of {', '.join((*IMAGES, PRIOR))}, in the network's order")
    if (PRIOR in description["channels"]) != (description["task"] == "resegmentation"):
        refuse(
            f"channels {', '.join(description['channels'])} for {description['task']}",
            "a channel `prior` for resegmentation, none for detection",
        )
    optional = description.get("optional_channels", [])
    needed = [name for name in description["channels"] if name not in {*optional, PRIOR}]
    if not set(optional) <= {*description["channels"]} - {PRIOR} or not needed:
        refuse(
            f"optional_channels {optional} of {', '.join(description['channels'])}",
            "some of the images among its channels, and not all of them",
        )
    if description["tile"] and math.prod(description["tile"]) > model_folder.LARGEST_TILE_VOX:
        refuse(f"tile {description['tile']}", f"at most {model_folder.LARGEST_TILE_VOX:,} voxels")
    if not np.allclose(description["spacing_mm"], 1.0):
        refuse(f"spacing_mm {description['spacing_mm']}", "[1, 1, 1]: images are given at 1 mm")
    if not 0 < float(description["threshold"]) < 1:
        refuse(f"threshold {description['threshold']}", "a probability between 0 and 1")
    lower = description.get("candidate_threshold")
    if lower is not None and (
        description["task"] != "detection" or not 0 < float(lower) < float(description["threshold"])
    ):
        refuse(
            f"candidate_threshold {lower} for {description['task']}",
            f"a probability below the threshold ({description['threshold']}), for detection only",
        )
    if not 0 <= float(description["confidence"]) < 1:
        refuse(f"confidence {description['confidence']}", "a probability, or 0 to call every piece a lesion")


def _check_channels(folder: Path, description: dict, dataset: dict) -> None:
    channels = description["channels"]
    names = dataset.get("channel_names", dataset.get("modality", {}))
    declared = [str(names[number]) for number in sorted(names, key=int)]
    if len(declared) != len(channels):
        raise ModelError(
            folder / DESCRIPTION,
            found=f"{len(channels)} channels ({', '.join(channels)})",
            expected=f"{len(declared)}, as many as dataset.json has ({', '.join(declared)})",
            advice="Name them in the order the network was trained with; the prior is the last one.",
            reason="bad_model",
        )
    # Names nobody knows, and nnU-Net's noNorm, say nothing about the order.
    if any(SPELLINGS.get(theirs.lower(), ours) != ours for ours, theirs in zip(channels, declared)):
        raise ModelError(
            folder / DESCRIPTION,
            found=f"channels {', '.join(channels)}",
            expected=f"the order of dataset.json: {', '.join(declared)}",
            advice="Name them in the order the network was trained with, or correct the names in dataset.json.",
            reason="bad_model",
        )


def _check_plans(folder: Path, description: dict, plans: dict) -> None:
    channels, configuration = description["channels"], plans["configurations"][description["configuration"]]
    tile = description["tile"] or configuration["patch_size"]
    if any(axis >= len(tile) for axis in description["mirror_axes"]):
        raise model_folder.refusal(
            folder / DESCRIPTION, f"mirror_axes {description['mirror_axes']}", f"axes of a tile {tile}", "Correct it."
        )
    schemes = configuration["normalization_schemes"]
    wrong = schemes != list(description["normalisation"])
    if wrong or any(n == PRIOR and s != "NoNormalization" for n, s in zip(channels, schemes)):
        raise ModelError(
            folder / PLANS,
            found=f"normalisation {', '.join(schemes)} for {', '.join(channels)}",
            expected=f"{', '.join(description['normalisation'])} as mettrail.json says, and none for a prior",
            advice="Name the prior `noNorm` in nnU-Net's dataset.json before planning and training.",
            reason="bad_model",
        )


def _read_classes(path: Path, dataset: dict) -> tuple[int, ...]:
    labels = dataset.get("labels", {})
    known = all(name in CLASSES for name in labels) and all(type(n) is int for n in labels.values())
    known = known and len({CLASSES[name] for name in labels}) == len(labels)
    if not known or sorted(labels.values()) != list(range(len(labels))) or labels.get("background") != 0:
        raise ModelError(
            path,
            found=f"labels {labels}",
            expected=f"some of {', '.join(CLASSES)}, each one number, background 0",
            advice="Rename the labels (BraTS counts necrosis as 1 and enhancing as 3: the names decide here, not the "
            "numbers). Region-based training is not supported.",
            reason="bad_model",
        )
    return tuple(CLASSES[name] for name in sorted(labels, key=labels.get))


def _find_weights(folder: Path) -> tuple[Path, ...]:
    found = []
    for fold in sorted(folder.glob("fold_*")):
        present = [fold / name for name in WEIGHTS if (fold / name).exists() or (fold / name).is_symlink()]
        found += [model_folder.require_inside(folder, path, advice=COPY) for path in present[:1]]
    if not found:
        raise ModelError(
            folder,
            found="no weights",
            expected="fold_0/weights.safetensors or fold_0/checkpoint_final.pth",
            advice="Copy the fold folders of nnU-Net's results.",
            reason="no_model",
        )
    return tuple(found)


def _check_hashes(folder: Path, hashes: dict[str, str], content: dict[str, bytes], weights: tuple[Path, ...]) -> None:
    """Refuse a folder whose files are not those, all of those and no others, that its mettrail.json was written for."""
    found = {name: model_folder.digest(each) for name, each in content.items()}
    for path in weights:
        with path.open("rb") as file:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    for name in sorted(found.keys() | hashes.keys()):
        if found.get(name) != hashes.get(name):
            here = ", ".join(f'"{name}": "{digest}"' for name, digest in found.items())
            raise ModelError(
                folder / name,
                found=f"sha256 {found[name]}" if name in found else "no such file",
                expected=hashes.get(name, "a sha256 of this file in mettrail.json"),
                advice="The file was changed or copied in part: get it again. If the folder is your own and as it "
                f'should be, write into its mettrail.json: "sha256": {{{here}}}',
                reason="bad_model",
            )


def _as_json(content: dict) -> str:
    return json.dumps(content, indent=2) + "\n"
