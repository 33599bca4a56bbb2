"""Files of a model folder, read as what strangers wrote: nothing in them is imported, opened or believed unchecked.

The schemas say which values are taken over from each file; what they do not name reaches neither nnU-Net nor us.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path

from jsonschema import Draft202012Validator

from mettrail.errors import ModelError

DATASET, PLANS = "dataset.json", "plans.json"
# Far beyond any that nnU-Net writes.
LARGEST_BYTES = 16 << 20
LARGEST_TILE_VOX = 1 << 24
# nnU-Net's functions, and what each may be given.
RESAMPLING = {
    "resample_data_or_seg_to_shape": ("is_seg", "order", "order_z", "force_separate_z"),
    "resample_torch_fornnunet": ("is_seg", "force_separate_z", "memefficient_seg_resampling"),
}
NORMALISATIONS = ("ZScoreNormalization", "RescaleTo01Normalization", "NoNormalization")

_NUMBER = {"type": "number", "minimum": 0, "maximum": 4096}
_SCALAR = {"anyOf": [_NUMBER, {"type": ["boolean", "null"]}]}
_COUNT = {"type": "integer", "minimum": 1, "maximum": 4096}
_SHAPE = {"type": "array", "items": _COUNT, "minItems": 2, "maxItems": 3}
_FEW = {"type": "array", "maxItems": 16}
# Of stages, and of convolutions in one: networks are sketched, which takes a while for thousands.
_DEPTH = {"type": "integer", "minimum": 1, "maximum": 16}
_CONVOLUTIONS = ("n_conv_per_stage", "n_conv_per_stage_decoder", "n_blocks_per_stage")
_DEPTHS = {"anyOf": [_DEPTH, {**_FEW, "items": _DEPTH}]}
_AXES = {"type": "array", "items": {"enum": [0, 1, 2]}, "minItems": 3, "maxItems": 3, "uniqueItems": True}
# Fit to be shown: no control characters.
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

DESCRIPTION_SCHEMA = {
    "type": "object",
    "properties": {
        "task": _NAME,
        "input": _NAME,
        "channels": {**_FEW, "items": _NAME, "uniqueItems": True},
        "optional_channels": {**_FEW, "items": _NAME},
        "configuration": _NAME,
        "spacing_mm": {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3},
        "normalisation": {**_FEW, "items": _NAME},
        "mirror_axes": {**_FEW, "items": {"enum": [0, 1, 2]}, "uniqueItems": True},
        "tile": {"anyOf": [_SHAPE, {"type": "null"}]},
        "threshold": {"type": "number"},
        "confidence": {"type": "number"},
        "candidate_threshold": {"type": ["number", "null"]},
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
DATASET_SCHEMA = {
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
PLANS_SCHEMA = {
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
CONFIGURATION_SCHEMA = {
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
                        **{
                            f"n_{what}": _DEPTHS
                            for what in ("conv_per_stage", "conv_per_stage_decoder", "blocks_per_stage")
                        },
                    },
                    "additionalProperties": _ARGUMENT,
                },
                "_kw_requires_import": {**_FEW, "items": _NAME},
            },
        },
    },
}
# Plans of nnU-Net before 2.4, which name the network's parts one by one; nnU-Net itself brings them up to date.
_OLD_CONFIGURATION = {
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


def parse(path: Path, content: bytes, schema: dict, *, advice: str) -> dict:
    """Return a JSON object that fits a schema.

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
    return check(path, read, schema)


def check(path: Path, read, schema: dict, *, where: str = "") -> dict:
    """Return what was read where it fits the schema.

    Raises
    ------
    ModelError
        Names the file, the place in it and the value.
    """
    error = next(Draft202012Validator(schema).iter_errors(read), None)
    if error is not None:
        at = ".".join([*([where] if where else []), *map(str, error.absolute_path)])
        found = f"{at}: {error.message}".removeprefix(": ")
        raise refusal(path, found, "what mettrail/segmentation/model_folder.py describes", "Get the model again.")
    return read


def settle_plans(path: Path, plans: dict, configuration: str, *, channels: int) -> dict:
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

        given = ConfigurationManager(dict(check(path, given, _OLD_CONFIGURATION, where=where))).configuration
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


def _inherit(path: Path, configurations: dict, name: str) -> dict:
    """Return a configuration with what it takes over from others."""
    chain: list[str] = []
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
    merged: dict = {}
    for each in reversed(chain):
        merged |= configurations[each]
    return merged


def digest(content: bytes) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


def refusal(path: Path, found: str, expected: str, advice: str, *, reason: str = "bad_model") -> ModelError:
    """Return the error to be raised; what strangers wrote is cut short and cannot steer a terminal."""
    found = re.sub(r"[\x00-\x1f\x7f]", " ", found if len(found) <= 300 else f"{found[:300]} ...")
    return ModelError(path, found=found, expected=expected, advice=advice, reason=reason)


def _without_twins(pairs: list[tuple[str, object]]) -> dict:
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
