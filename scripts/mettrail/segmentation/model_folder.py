"""What a model folder is: which files lie in it, what they say, and the checks that hold them to it.

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

    {"task": "resegmentation",                         or "detection", "edema", "cavity"
     "input": "brain",                                 or "head": zero outside the brain, or not
     "channels": ["ce-gadolinium_T1w", "prior"],       in the order of dataset.json; images by BIDS name
     "optional_channels": [],                          may be omitted: of them, zeros for what a session lacks
     "configuration": "3d_fullres",                    of plans.json
     "spacing_mm": [1.0, 1.0, 1.0],                    of what is given: RAS, 1 mm
     "normalisation": ["ZScoreNormalization", "NoNormalization"],   of plans.json; see `normalisation` for one more
     "mirror_axes": [],                                may be averaged over flips of these axes (of nnU-Net's Z, Y, X)
     "tile": [80, 80, 80],                             patch at inference; null: see `tile_size`
     "threshold": 0.5,                                 probability of whole lesion from which a voxel is one
     "min_component_score": 0.85,                               `Model.min_component_score`: least confidence score of a
                                                       connected component (`thresholds.score_components`)
     "candidate_threshold": 0.2,                       detection, may be omitted: read from here on (`fusion`)
     "edge_threshold": 0.4,                            may be omitted: down to here lesions reach (`edges.draw_edges`)
     "calibration": {"intercept": -0.4, "slope": 2.1}, detection, may be omitted: makes probabilities of components
                                                       those of being a lesion (`thresholds.calibrate`)
     "sha256": {"dataset.json": "...", "plans.json": "...", "fold_0/weights.safetensors": "..."},
     "trained_on": "...", "licence": "..."}

The network need not be a U-Net. ``plans.json`` names its class, one of those in `architectures`, and its arguments; it
turns (B, channels, Z, Y, X) into (B, classes, Z, Y, X) logits.

A folder runs no code, and is read as what strangers wrote. What its files name is looked up in tables, what they number
has limits, checkpoints are read as numbers alone, and every file but the card and the log is one whose SHA-256
mettrail.json states. The schemas below say which values are taken over from each file; what they do not name reaches
neither nnU-Net nor us.

A channel is optional where the network was trained with zeros in its place (Andrearczyk et al., Sci Rep 2024, for T2w).
The prior is one binary channel, label 1 or 3 of the prior visit, nearest neighbour throughout and never normalised.
``prior_image`` is the reference image of the prior visit, registered; zeros stand for it where there is none (Huang et
al., Med Phys 2022).
``dataset.json`` names its labels ``background``, ``enhancing``, ``edema``, ``necrosis``, ``cavity`` (any of the last
four may be absent; ``lesion`` stands for ``enhancing``). A folder that nnU-Net trained on NIfTI files becomes a model
by adding a ``mettrail.json``; with an empty ``sha256``, the message says what to write there.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from mettrail.errors import ModelError
from mettrail.reasons import Reason
from mettrail.segmentation.normalisation import name_in_plans

DESCRIPTION, DATASET, PLANS = "mettrail.json", "dataset.json", "plans.json"
CARD, LOG = "README.md", "training.log"
WEIGHTS = ("weights.safetensors", "checkpoint_final.pth")
TASKS = ("detection", "resegmentation", "edema", "cavity")
POST_CONTRAST = "ce-gadolinium_T1w"
IMAGES = (POST_CONTRAST, "T1w", "T2w", "FLAIR")
PRIOR_IMAGE, PRIOR = "prior_image", "prior"
CHANNELS = (*IMAGES, PRIOR_IMAGE, PRIOR)
# How others write the names of images in dataset.json, in lower case: enough to see that two are swapped.
SPELLINGS = {
    **dict.fromkeys(("ce-gadolinium_t1w", "t1c", "t1ce", "t1gd", "t1c+", "t1w-ce", "t1post"), POST_CONTRAST),
    **dict.fromkeys(("t1w", "t1", "t1n"), "T1w"),
    **dict.fromkeys(("t2w", "t2"), "T2w"),
    **dict.fromkeys(("flair", "t2f"), "FLAIR"),
    "prior_image": PRIOR_IMAGE,
    "prior": PRIOR,
}
CLASSES = {"background": 0, "enhancing": 1, "lesion": 1, "edema": 2, "necrosis": 3, "cavity": 4}
COPY = "Copy it from nnU-Net's results folder."
CORRECT = "Correct it; mettrail/segmentation/model_folder.py describes the file."

# Far beyond any that nnU-Net writes.
LARGEST_BYTES = 16 << 20
LARGEST_TILE_VOX = 1 << 24
# nnU-Net's functions, and what each may be given.
RESAMPLING = {
    "resample_data_or_seg_to_shape": ("is_seg", "order", "order_z", "force_separate_z"),
    "resample_torch_fornnunet": ("is_seg", "force_separate_z", "memefficient_seg_resampling"),
}
NORMALISATIONS = ("ZScoreNormalization", "RescaleTo01Normalization", "NoNormalization")

# A schema's `description` is what a message says was expected of a value.
_Schema = dict[str, Any]
_NUMBER = {"type": "number", "minimum": 0, "maximum": 4096}
_SCALAR: _Schema = {"anyOf": [_NUMBER, {"type": ["boolean", "null"]}]}
_COUNT = {"type": "integer", "minimum": 1, "maximum": 4096}
_SHAPE = {"type": "array", "items": _COUNT, "minItems": 2, "maxItems": 3}
_FEW = {"type": "array", "maxItems": 16}
# Of stages, and of convolutions in one: networks are sketched, which takes a while for thousands.
_DEPTH = {"type": "integer", "minimum": 1, "maximum": 16}
_CONVOLUTIONS = ("n_conv_per_stage", "n_conv_per_stage_decoder", "n_blocks_per_stage")
_DEPTHS = {"anyOf": [_DEPTH, {**_FEW, "items": _DEPTH}]}
_AXES = {"type": "array", "items": {"enum": [0, 1, 2]}, "minItems": 3, "maxItems": 3, "uniqueItems": True}
# A name can be shown: no control characters.
_NAME = {"type": "string", "pattern": r"\A[^\x00-\x1f\x7f\ud800-\udfff]{0,200}\Z"}
_ARGUMENT = {
    "anyOf": [
        _SCALAR,
        _NAME,
        {**_FEW, "items": {"anyOf": [_SCALAR, {**_FEW, "items": _SCALAR}]}},
        {"type": "object", "maxProperties": 16, "additionalProperties": _SCALAR},
    ]
}
_RESAMPLING = {
    "type": "object",
    "properties": {
        **{
            name: {"type": ["boolean", "null"]}
            for name in ("is_seg", "force_separate_z", "memefficient_seg_resampling")
        },
        **{name: {"type": "integer", "minimum": 0, "maximum": 5} for name in ("order", "order_z")},
    },
}
_STEPS = ("data", "seg", "probabilities")

_PROBABILITY = {
    "type": "number",
    "exclusiveMinimum": 0,
    "exclusiveMaximum": 1,
    "description": "a probability between 0 and 1",
}

DESCRIPTION_SCHEMA: _Schema = {
    "type": "object",
    "required": [
        *("task", "input", "channels", "configuration", "spacing_mm", "normalisation", "mirror_axes", "tile"),
        *("threshold", "min_component_score", "sha256", "trained_on", "licence"),
    ],
    "properties": {
        "task": {"enum": list(TASKS), "description": f"one of {', '.join(TASKS)}"},
        "input": {"enum": ["brain", "head"], "description": "brain or head"},
        "channels": {
            **_FEW,
            "items": {"enum": list(CHANNELS), "description": f"one of {', '.join(CHANNELS)}"},
            "minItems": 1,
            "uniqueItems": True,
            "description": f"some of {', '.join(CHANNELS)}, each once, in the network's order",
        },
        "optional_channels": {**_FEW, "items": _NAME},
        "configuration": _NAME,
        "spacing_mm": {
            "type": "array",
            "items": {
                "type": "number",
                "minimum": 1 - 1e-5,
                "maximum": 1 + 1e-5,
                "description": "1: images are given at 1 mm",
            },
            "minItems": 3,
            "maxItems": 3,
        },
        "normalisation": {**_FEW, "items": _NAME},
        "mirror_axes": {**_FEW, "items": {"enum": [0, 1, 2]}, "uniqueItems": True},
        "tile": {"anyOf": [_SHAPE, {"type": "null"}]},
        "threshold": _PROBABILITY,
        "min_component_score": {
            "type": "number",
            "minimum": 0,
            "exclusiveMaximum": 1,
            "description": "a score below 1, or 0 to call every connected component a lesion",
        },
        "candidate_threshold": {"anyOf": [_PROBABILITY, {"type": "null"}]},
        "edge_threshold": {"anyOf": [_PROBABILITY, {"type": "null"}]},
        "calibration": {
            "anyOf": [
                {
                    "type": "object",
                    "required": ["intercept", "slope"],
                    "properties": {
                        "intercept": {"type": "number", "minimum": -100, "maximum": 100},
                        "slope": {"type": "number", "exclusiveMinimum": 0, "maximum": 100},
                    },
                    "additionalProperties": False,
                },
                {"type": "null"},
            ],
            "description": "an intercept and a slope above 0, or nothing",
        },
        "steps": {"type": "integer", "minimum": 0},
        "sha256": {
            "type": "object",
            "patternProperties": {
                r"\A((dataset|plans)\.json|fold_(\d+|all)/(weights\.safetensors|checkpoint_final\.pth))\Z": {
                    "type": "string",
                    "pattern": r"\A[0-9a-f]{64}\Z",
                }
            },
            "additionalProperties": False,
        },
        "trained_on": {"type": "string"},
        "licence": {"type": "string"},
    },
}
_CHANNEL_NAMES = {"type": "object", "propertyNames": {"pattern": r"\A\d{1,2}\Z"}, "additionalProperties": _NAME}
DATASET_SCHEMA: _Schema = {
    "type": "object",
    "required": ["labels"],
    "anyOf": [{"required": ["channel_names"]}, {"required": ["modality"]}],
    "properties": {
        "channel_names": _CHANNEL_NAMES,
        "modality": _CHANNEL_NAMES,
        "labels": {"type": "object", "maxProperties": 16},
        "numTraining": {"type": "integer", "minimum": 0},
    },
}
PLANS_SCHEMA: _Schema = {
    "type": "object",
    "required": ["transpose_forward", "transpose_backward", "configurations"],
    "properties": {
        "transpose_forward": _AXES,
        "transpose_backward": _AXES,
        "label_manager": {"const": "LabelManager"},
        "configurations": {
            "type": "object",
            "propertyNames": {"pattern": r"\A[\w.-]{1,64}\Z"},
            "additionalProperties": {"type": "object"},
        },
    },
}
CONFIGURATION_SCHEMA: _Schema = {
    "type": "object",
    "required": [
        *("patch_size", "spacing", "normalization_schemes", "use_mask_for_norm", "architecture"),
        *(f"resampling_fn_{step}{what}" for step in _STEPS for what in ("", "_kwargs")),
    ],
    "properties": {
        "preprocessor_name": {"const": "DefaultPreprocessor"},
        "patch_size": _SHAPE,
        "spacing": {
            **_SHAPE,
            "items": {"type": "number", "minimum": 0.25, "maximum": 10},
        },
        "normalization_schemes": {**_FEW, "items": {"enum": list(NORMALISATIONS)}},
        "use_mask_for_norm": {**_FEW, "items": {"type": "boolean"}},
        **{f"resampling_fn_{step}": {"enum": list(RESAMPLING)} for step in _STEPS},
        **{f"resampling_fn_{step}_kwargs": _RESAMPLING for step in _STEPS},
        "architecture": {
            "type": "object",
            "required": ["network_class_name", "arch_kwargs"],
            "properties": {
                "network_class_name": _NAME,
                "arch_kwargs": {
                    "type": "object",
                    "maxProperties": 32,
                    "properties": {
                        "n_stages": _DEPTH,
                        **dict.fromkeys(_CONVOLUTIONS, _DEPTHS),
                    },
                    "additionalProperties": _ARGUMENT,
                },
                "_kw_requires_import": {**_FEW, "items": _NAME},
            },
        },
    },
}
# Plans of nnU-Net before 2.4, which name the network's parts one by one; nnU-Net itself brings them up to date.
_OLD_CONFIGURATION: _Schema = {
    "required": [
        *("UNet_class_name", "UNet_base_num_features", "unet_max_num_features", "n_conv_per_stage_encoder"),
        *("n_conv_per_stage_decoder", "num_pool_per_axis", "pool_op_kernel_sizes", "conv_kernel_sizes", "patch_size"),
    ],
    "properties": {
        "UNet_class_name": {"enum": ["PlainConvUNet", "ResidualEncoderUNet"]},
        "patch_size": _SHAPE,
        "UNet_base_num_features": _COUNT,
        "unet_max_num_features": _COUNT,
        "n_conv_per_stage_encoder": {**_FEW, "items": _COUNT},
    },
}


def read_description(folder: str | Path) -> dict[str, Any]:
    """Read and check a model's mettrail.json alone: enough to tell which sessions the model is for.

    Raises
    ------
    ModelError
        No such folder, no such file, or not what it has to be.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise refusal(
            folder,
            "no such folder",
            "a model folder (mettrail.json, dataset.json, plans.json, fold_0/)",
            "Check the path under `segment: models` in the configuration, or train a model with scripts/train.py.",
            reason=Reason.NO_MODEL,
        )
    path, advice = folder / DESCRIPTION, "Write one beside dataset.json; model_folder.py shows it."
    content = read_file(folder, DESCRIPTION, advice=advice)
    description = parse(path, content, DESCRIPTION_SCHEMA, advice=advice, correct=CORRECT)
    _check_relations(path, description)
    return description


def identify_model(folder: str | Path) -> dict[str, Any]:
    """Return what is kept of a model beside the labels that it made: enough to name it in a paper and to find it again.

    Returns
    -------
    dict
        ``Name`` of the folder; ``SHA256`` of its mettrail.json, which states those of all its files; ``Licence``,
        ``TrainedOn``; ``Threshold``; ``CandidateThreshold``, ``EdgeThreshold`` and ``Calibration``, None where it has
        none.

    Raises
    ------
    ModelError
        As `read_description`.
    """
    folder = Path(folder)
    description = read_description(folder)
    return {
        "Name": folder.resolve().name,
        "SHA256": hashlib.sha256((folder / DESCRIPTION).read_bytes()).hexdigest(),
        "Licence": description["licence"],
        "TrainedOn": description["trained_on"],
        "Threshold": description["threshold"],
        "CandidateThreshold": description.get("candidate_threshold"),
        "EdgeThreshold": description.get("edge_threshold"),
        "Calibration": description.get("calibration"),
    }


def _check_relations(path: Path, description: Mapping[str, Any]) -> None:
    """Refuse values of mettrail.json that do not go together."""

    def require(holds: bool, found: str, expected: str) -> None:
        if not holds:
            raise refusal(path, found, expected, CORRECT)

    task, channels, threshold = (description[key] for key in ("task", "channels", "threshold"))
    require(
        (PRIOR in channels) == (task == "resegmentation"),
        f"channels {', '.join(channels)} for {task}",
        "a channel `prior` for resegmentation, none for others",
    )
    optional = description.get("optional_channels", [])
    require(
        set(optional) <= {*channels} - {PRIOR} and bool({*channels} - {*optional, PRIOR, PRIOR_IMAGE}),
        f"optional_channels {optional} of {', '.join(channels)}",
        "some of the images among its channels, and not all of them",
    )
    tile = description["tile"]
    require(tile is None or math.prod(tile) <= LARGEST_TILE_VOX, f"tile {tile}", f"at most {LARGEST_TILE_VOX:,} voxels")
    lower = description.get("candidate_threshold")
    require(
        lower is None or (task == "detection" and lower < threshold),
        f"candidate_threshold {lower} for {task}",
        f"a probability below the threshold ({threshold}), for detection only",
    )
    require(
        task == "detection" or description.get("calibration") is None,
        f"calibration for {task}",
        "one for detection only: it holds for what both networks find",
    )
    edge = description.get("edge_threshold")
    require(
        edge is None or edge <= threshold,
        f"edge_threshold {edge}",
        f"a probability of at most the threshold ({threshold})",
    )


def lacking_channels(description: Mapping[str, Any], available: Iterable[str]) -> list[str]:
    """Return the channels a model cannot do without and a session does not have, in the network's order."""
    optional = {*description.get("optional_channels", ()), PRIOR_IMAGE}
    return [name for name in description["channels"] if name not in {*available, *optional}]


def name_channels(channels: Iterable[str]) -> dict[str, str]:
    """Return nnU-Net's ``channel_names``: what it calls noNorm is not normalised, as a prior must not be."""
    return {str(number): "noNorm" if name == PRIOR else name for number, name in enumerate(channels)}


def tile_size(description: Mapping[str, Any], plans: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the tile size: the voxels (Z, Y, X) that the network sees at once at inference.

    The default tile size, where mettrail.json says null, is the patch the network was trained with (``patch_size`` of
    its configuration in plans.json). The shipped networks have ``network: tile`` of config/train.yaml.

    Parameters
    ----------
    description, plans : mapping
        mettrail.json and plans.json.
    """
    return tuple(description["tile"] or plans["configurations"][description["configuration"]]["patch_size"])


def read_file(folder: Path, name: str, *, advice: str) -> bytes:
    """Return the content of one of a model folder's JSON files.

    Raises
    ------
    ModelError
        Not there, no ordinary file, a link that leads out of the folder, or far too large.
    """
    path = require_inside(folder, folder / name, advice=advice)
    if path.stat().st_size > LARGEST_BYTES:
        raise refusal(path, f"{path.stat().st_size} bytes", f"{name} of a model folder", advice)
    return path.read_bytes()


def require_inside(folder: Path, path: Path, *, advice: str) -> Path:
    """Return the path of an ordinary file that lies in the folder itself.

    Raises
    ------
    ModelError
        It does not.
    """
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
        ordinary = path.is_file()
    except (OSError, RuntimeError):  # links that go round in circles
        inside = ordinary = False
    if path.is_symlink() and not inside:
        raise refusal(
            path, "a link that leads out of the folder", "the file itself", f"Copy it into {folder} (`cp -L`)."
        )
    if not ordinary or not inside:
        raise refusal(
            path,
            "no ordinary file in this folder" if path.exists() else "no such file",
            f"{path.name} of a model folder",
            advice,
        )
    return path


def parse(
    path: Path, content: bytes, schema: _Schema, *, advice: str, correct: str = "Get the model again."
) -> dict[str, Any]:
    """Return a JSON object that fits a schema; what to do about one that does not, or about a file without JSON.

    Numbers that JSON does not know (NaN) or that no number can hold become text, so that they are refused where a
    number is asked for and do no harm where nobody looks.

    Raises
    ------
    ModelError
        No JSON, a key twice, or a value that does not fit.
    """
    try:
        read = json.loads(
            content.decode(),
            object_pairs_hook=_without_twins,
            parse_constant=str,
            parse_float=_finite,
            parse_int=_finite,
        )
    except (ValueError, RecursionError) as err:
        raise refusal(path, f"not JSON ({err})", f"{path.name} of a model folder", advice) from err
    check(path, read, schema, advice=correct)
    parsed: dict[str, Any] = read
    return parsed


def check(path: Path, read: object, schema: _Schema, *, where: str = "", advice: str = "Get the model again.") -> None:
    """Refuse what was read where it does not fit the schema.

    Raises
    ------
    ModelError
        Names the file, the place in it and the value.
    """
    error = next(Draft202012Validator(schema).iter_errors(read), None)
    if error is None:
        return
    at = ".".join([*([where] if where else []), *map(str, error.absolute_path)])
    expected = "what mettrail/segmentation/model_folder.py describes"
    if error.validator == "required":
        found = f"{at}: no {', '.join(key for key in error.schema['required'] if key not in error.instance)}"
        expected = f"the keys {', '.join(error.schema['required'])}"
    elif "description" in error.schema:
        found, expected = f"{at}: {error.instance!r}", error.schema["description"]
    else:
        found = f"{at}: {error.message}"
    raise refusal(path, found.removeprefix(": "), expected, advice)


def settle_plans(path: Path, plans: dict[str, Any], configuration: str, *, channels: int) -> dict[str, Any]:
    """Return nnU-Net's plans with one configuration, resolved, and nothing that is not needed to predict.

    Parameters
    ----------
    path : Path
        Of plans.json, for messages.
    plans : dict
        nnU-Net's.
    configuration : str
    channels : int
        Of the network.

    Raises
    ------
    ModelError
        A configuration that is not there, or values out of bounds.
    """
    check(path, plans, PLANS_SCHEMA)
    where = f"configurations.{configuration}"
    given = _inherit(path, plans["configurations"], configuration)
    if "architecture" not in given:
        from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

        check(path, given, _OLD_CONFIGURATION, where=where)
        given = ConfigurationManager(dict(given)).configuration
    check(path, given, CONFIGURATION_SCHEMA, where=where)
    kept = {key: given[key] for key in CONFIGURATION_SCHEMA["properties"] if key in given}
    wrong = [
        f"{key}: {sorted(surplus)}"
        for key in (f"resampling_fn_{step}" for step in _STEPS)
        if (surplus := set(given[f"{key}_kwargs"]) - set(RESAMPLING[given[key]]))
    ]
    wrong += [
        f"{key}: {len(given[key])} for {channels} channels"
        for key in ("normalization_schemes", "use_mask_for_norm")
        if len(given[key]) != channels
    ]
    if len(given["spacing"]) != len(given["patch_size"]):
        wrong.append(f"spacing {given['spacing']} of a patch_size {given['patch_size']}")
    forward, backward = plans["transpose_forward"], plans["transpose_backward"]
    if [forward[axis] for axis in backward] != [0, 1, 2]:
        wrong.append(f"transpose_backward {backward}, which does not undo transpose_forward {forward}")
    if math.prod(given["patch_size"]) > LARGEST_TILE_VOX:
        wrong.append(f"patch_size {given['patch_size']}")
    if wrong:
        raise refusal(path, f"{where}.{wrong[0]}", "plans that nnU-Net can work with", "Get the model again.")
    return {
        "transpose_forward": forward,
        "transpose_backward": backward,
        "label_manager": "LabelManager",
        # Schemes that look at other scans' brightness are not among those allowed.
        "foreground_intensity_properties_per_channel": {str(channel): {} for channel in range(channels)},
        "configurations": {configuration: kept},
    }


def check_channels(folder: Path, description: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
    """Refuse channels that are not those of dataset.json, in its order."""
    channels = description["channels"]
    names = dataset.get("channel_names", dataset.get("modality", {}))
    declared = [str(names[number]) for number in sorted(names, key=int)]
    if len(declared) != len(channels):
        raise refusal(
            folder / DESCRIPTION,
            f"{len(channels)} channels ({', '.join(channels)})",
            f"{len(declared)}, as many as dataset.json has ({', '.join(declared)})",
            "Name them in the order the network was trained with; the prior is the last one.",
        )
    # Names nobody knows, and nnU-Net's noNorm, say nothing about the order.
    if any(SPELLINGS.get(theirs.lower(), ours) != ours for ours, theirs in zip(channels, declared)):
        raise refusal(
            folder / DESCRIPTION,
            f"channels {', '.join(channels)}",
            f"the order of dataset.json: {', '.join(declared)}",
            "Name them in the order the network was trained with, or correct the names in dataset.json.",
        )


def check_plans(folder: Path, description: Mapping[str, Any], plans: Mapping[str, Any]) -> None:
    """Refuse axes that the tile does not have, another normalisation than that of plans.json, and one of the prior."""
    channels, configuration = description["channels"], plans["configurations"][description["configuration"]]
    tile = list(tile_size(description, plans))
    if any(axis >= len(tile) for axis in description["mirror_axes"]):
        raise refusal(
            folder / DESCRIPTION, f"mirror_axes {description['mirror_axes']}", f"axes of a tile {tile}", "Correct it."
        )
    schemes = configuration["normalization_schemes"]
    wrong = schemes != [name_in_plans(name) for name in description["normalisation"]]
    if wrong or any(n == PRIOR and s != "NoNormalization" for n, s in zip(channels, schemes)):
        raise refusal(
            folder / PLANS,
            f"normalisation {', '.join(schemes)} for {', '.join(channels)}",
            f"{', '.join(description['normalisation'])} as mettrail.json says, and none for a prior",
            "Name the prior `noNorm` in nnU-Net's dataset.json before planning and training.",
        )


def read_classes(path: Path, dataset: Mapping[str, Any]) -> tuple[int, ...]:
    """Return our label of each output of the network, by the names of dataset.json.

    Raises
    ------
    ModelError
        Other names, or numbers that are not 0, 1 and so on.
    """
    labels: dict[str, Any] = dataset["labels"]
    known = all(name in CLASSES for name in labels) and all(type(n) is int for n in labels.values())
    known = known and len({CLASSES[name] for name in labels}) == len(labels)
    if not known or sorted(labels.values()) != list(range(len(labels))) or labels.get("background") != 0:
        raise refusal(
            path,
            f"labels {labels}",
            f"some of {', '.join(CLASSES)}, each one number, background 0",
            "Rename the labels (BraTS counts necrosis as 1 and enhancing as 3: the names decide here, not the "
            "numbers). Region-based training is not supported.",
        )
    return tuple(CLASSES[name] for name in sorted(labels, key=lambda name: int(labels[name])))


def _inherit(path: Path, configurations: dict[str, dict[str, Any]], first: str) -> dict[str, Any]:
    """Return a configuration with what it takes over from others."""
    chain: list[str] = []
    name: Any = first
    while name is not None:
        if not isinstance(name, str) or name not in configurations or name in chain:
            raise refusal(
                path,
                f"configuration {name!r}" + (f", from which {chain[-1]!r} inherits" if chain else ""),
                f"one of plans.json, without going round in circles: {', '.join(configurations)}",
                "Name the configuration the folds were trained with.",
            )
        chain.append(name)
        name = configurations[name].get("inherits_from")
    merged: dict[str, Any] = {}
    for each in reversed(chain):
        merged |= configurations[each]
    return merged


def digest(content: bytes) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


def refusal(path: Path, found: str, expected: str, advice: str, *, reason: Reason = Reason.BAD_MODEL) -> ModelError:
    """Return the error to be raised; what strangers wrote is cut short and cannot steer a terminal."""
    found = re.sub(r"[\x00-\x1f\x7f]", " ", found if len(found) <= 300 else f"{found[:300]} ...")
    return ModelError(path, found=found, expected=expected, advice=advice, reason=reason)


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    out = dict(pairs)
    if len(out) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands in it twice")
    return out


def _finite(text: str) -> int | float | str:
    """Return a number, or the text where it is one that would be infinite."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
    return number if math.isfinite(number) else text
