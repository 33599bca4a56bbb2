"""The settings: checked strictly, because a misspelt one that is ignored costs a night."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mettrail import drawn
from mettrail.errors import InputError
from mettrail.reasons import Reason

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

# Settings that say where things lie, or ask for more: no number depends on them.
PLACES = ("bids", "out", "threads", "train", "sensitivity")
# Settings that name further inputs; Snakemake sees the files there.
GIVEN = ("index", "overrides", "frozen")
# Settings of which the first may not lie above the second: [low, high], or two by their names.
RANGES = (
    "strip.volume_warn_ml",
    "strip.volume_fail_ml",
    "rano.treatment_effect_days",
    *(f"train.priors.fictitious_{what}_vox" for what in ("dilate", "erode", "shift")),
    "train.priors.nothing_radius_mm",
)
ORDERED = (
    ("register.dice_fail", "register.dice_warn"),
    ("strip.fit_fail", "strip.fit_warn"),
    ("instances.keep_mm3", "instances.birth_mm3"),
    ("instances.keep_vox", "instances.birth_vox"),
    ("rano.perp_min_mm", "rano.ld_min_mm"),
)
# Snakemake takes braces in the names of outputs for wildcards.
MADE = ("out", "strip.hd_bet_weights")


def read_numbers(config: dict[str, Any], schema_path: Path) -> None:
    """Turn text into what the schema wants it to be, in place.

    Snakemake leaves everything inside braces on the command line as text: ``--config "match={'gap_mm': 4}"``. Numbers
    are decimal, whatever zeros they begin with.
    """
    schema = _read_schema(Path(schema_path))

    def convert(value: Any, rule: dict[str, Any]) -> Any:
        rule = schema["$defs"][rule["$ref"].rsplit("/", 1)[-1]] if "$ref" in rule else rule
        if isinstance(value, dict):
            return {key: convert(item, rule.get("properties", {}).get(key, {})) for key, item in value.items()}
        if isinstance(value, list):
            return [convert(item, rule.get("items", {})) for item in value]
        wanted = rule.get("type") or ("integer" if all(type(n) is int for n in rule.get("enum", [""])) else None)
        if isinstance(value, str) and wanted == "boolean":
            return {"true": True, "yes": True, "false": False, "no": False}.get(value.lower(), value)
        if isinstance(value, str) and wanted in ("number", "integer"):
            value = _to_number(value)
        return int(value) if wanted == "integer" and isinstance(value, float) and value.is_integer() else value

    config.update(convert(dict(config), schema))
    sensitivity = config.get("sensitivity")
    tried = sensitivity.get("values") if isinstance(sensitivity, dict) else None
    tried = tried if isinstance(tried, dict) else {}
    for name, values in tried.items():
        block, _, key = str(name).partition(".")
        rule = schema["properties"].get(block, {}).get("properties", {}).get(key, {})
        if isinstance(values, list):
            tried[name] = [convert(value, rule) for value in values]


@cache
def _read_schema(path: Path) -> dict[str, Any]:
    schema: dict[str, Any] = yaml.safe_load(path.read_text())
    return schema


def _to_number(text: str) -> int | float | str:
    """Return the number that is meant; text that is none stays as it is."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def read_settings(
    defaults: Path, files: Iterable[str | Path], schema_path: Path, given: dict[str, Any]
) -> dict[str, Any]:
    """Return the settings as shipped, with files of what differs merged over them in order, and then what was given.

    Parameters
    ----------
    defaults : Path
        ``config/config.yaml``.
    files : paths
    schema_path : Path
    given : dict
        ``bids``, ``out`` and what else the command line says.

    Raises
    ------
    InputError
        Names the file and the setting.
    """
    config = merge(yaml.safe_load(Path(defaults).read_text(encoding="utf-8")), given)
    for path in files:
        config = merge(config, _read_file(Path(path)))
        try:
            read_numbers(config, schema_path)
            check_config(merge(config, given), schema_path)
        except InputError as err:
            raise InputError(
                f"{path}: {err.what.removeprefix('config: ')}",
                found=err.found,
                expected=err.expected,
                advice=err.advice,
                reason=err.reason,
            ) from err
    config = merge(config, given)
    check_config(config, schema_path)
    return config


def merge(config: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return settings with others over them, key by key, as Snakemake does it."""
    merged = dict(config)
    for key, value in other.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _read_file(path: Path) -> dict[str, Any]:
    """Return what a file of settings says."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise InputError(
            path,
            found=" ".join(str(err).split()),
            expected="a YAML file of settings",
            advice="Correct it; `mettrail init` writes one with every setting.",
            reason=Reason.BAD_SETTINGS,
        ) from err
    if not isinstance(found or {}, dict):
        raise InputError(
            path,
            found=f"{type(found).__name__}, no settings",
            expected="`name: value` in each line",
            advice="Correct it; `mettrail init` writes one with every setting.",
            reason=Reason.BAD_SETTINGS,
        )
    return found or {}


def check_config(config: dict[str, Any], schema_path: Path) -> None:
    """Refuse unknown, missing and impossible settings, by name.

    Raises
    ------
    InputError
        Names the setting (``register.engine``), what was found and what is allowed.
    """
    from jsonschema import Draft202012Validator

    schema = _read_schema(Path(schema_path))
    validator = Draft202012Validator(schema)
    _check_values(config, validator)
    _check_order(config, *RANGES, *ORDERED)
    for place, advice in (("bids", "the BIDS dataset"), ("out", "where the results go")):
        if not str(config[place] or "").strip():
            raise InputError(
                f"config: {place}",
                found="nothing",
                expected=f"a folder: {advice}",
                advice="snakemake --cores all --config bids=FOLDER out=FOLDER",
            )
    drawn.read_scheme(config["labels"]["scheme"])
    for name in MADE:
        if set("{}") & set(_value_of(config, name)):
            raise InputError(
                f"config: {name}",
                found=_value_of(config, name),
                expected="a path without { and }, which Snakemake takes for wildcards",
                advice="Choose another name.",
            )
    # Of each other value only its block is checked again.
    block_alone = Draft202012Validator(schema | {"required": []})
    for name, values in config["sensitivity"]["values"].items():
        block, _, key = str(name).partition(".")
        if not isinstance(config.get(block), dict) or key not in config[block]:
            raise InputError(
                f"config: sensitivity.values: {name}",
                found="a setting that does not exist",
                expected="a block and a name, as match.gap_mm",
                advice="See docs/settings.md for what there is.",
                reason=Reason.UNKNOWN_SETTING,
            )
        for value in values:
            try:
                changed = {block: config[block] | {key: value}}
                _check_values(changed, block_alone)
                _check_order(config | changed, *RANGES)
            except InputError as err:
                raise InputError(
                    f"config: sensitivity.values: {err.what.removeprefix('config: ')}",
                    found=err.found,
                    expected=err.expected,
                    advice=err.advice,
                ) from err


def _check_values(config: dict[str, Any], validator: Draft202012Validator) -> None:
    """Refuse what the schema does not allow and what is not finite."""
    for name, value in _list_values(config):
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(
                f"config: {name}", found=str(value), expected="a finite number", advice="See docs/settings.md."
            )
    errors = sorted(validator.iter_errors(config), key=lambda e: list(map(str, e.absolute_path)))
    if errors:
        raise _explain(errors[0])


def _check_order(config: dict[str, Any], *limits: str | tuple[str, str]) -> None:
    """Refuse a lower limit above its upper one: a setting that is both, or two by their names."""
    for names in limits:
        both = _value_of(config, names) if isinstance(names, str) else [_value_of(config, name) for name in names]
        if both[0] > both[1]:
            raise InputError(
                f"config: {names if isinstance(names, str) else ' and '.join(names)}",
                found=f"{both[0]} and {both[1]}",
                expected="the second no smaller than the first",
                advice="Swap them.",
                reason=Reason.WRONG_ORDER,
            )


def _list_values(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Yield the name and value of every single setting."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _list_values(item, f"{name}.{key}".removeprefix("."))
    else:
        yield name, value


def _value_of(config: dict[str, Any], name: str) -> Any:
    """Return the value of a setting by its name, ``strip.volume_warn_ml``."""
    value: Any = config
    for key in name.split("."):
        value = value[key]
    return value


def _explain(error: ValidationError) -> InputError:
    where = ".".join(map(str, error.absolute_path))
    rule: Any = error.schema
    given: Any = error.instance
    if error.validator == "additionalProperties":
        known = list(rule.get("properties", ()))
        unknown = sorted(map(str, set(given) - set(known)))[0]
        near = difflib.get_close_matches(unknown, known, 1)
        return InputError(
            f"config: {'.'.join(filter(None, [where, unknown]))}",
            found="a setting that does not exist",
            expected=f"one of {', '.join(known)}",
            advice=f"Did you mean {near[0]}?" if near else "See docs/settings.md for what there is.",
            reason=Reason.UNKNOWN_SETTING,
        )
    if error.validator == "required":
        missing = sorted(set(rule["required"]) - set(given))[0]
        return InputError(
            f"config: {'.'.join(filter(None, [where, missing]))}",
            found="nothing",
            expected="a value: there are no hidden defaults",
            advice="Take it from config/config.yaml.",
        )
    if isinstance(error.instance, bool | int | float | date) and _wants_text(error):
        typed = "" if "." in where else f"--config {where}=./007 on a command line, "
        return InputError(
            f"config: {where}",
            found=f"{error.instance} ({type(error.instance).__name__}), which may not be how it was typed",
            expected="text: without quotes, 007 is the number 7",
            advice=f'Keep it text: {typed}"007" in a file.',
            reason=Reason.NOT_TEXT,
        )
    return InputError(
        f"config: {where}", found=repr(error.instance), expected=error.message, advice="See docs/settings.md."
    )


def _wants_text(error: ValidationError) -> bool:
    options: Any = error.validator_value
    if error.validator == "enum":
        return all(isinstance(option, str) for option in options)
    return bool(error.validator == "type" and "string" in options)


def index_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return what `cohort.index_cohort` needs to know."""
    return {
        "reference": config["reference"],
        "sequences": config["sequences"],
        "labels_folder": config["labels"]["folder"],
        "labels_sessions": config["labels"]["sessions"],
        "labels_scheme": config["labels"]["scheme"],
        **config["index"],
    }


def rigid_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of registration without those of the warp: changing these reruns no rigid registration."""
    kept = dict(config["register"])
    for engine, block in kept.items():
        if isinstance(block, dict):
            kept[engine] = {
                key: value if key in ("linear_iterations", "radius") else None for key, value in block.items()
            }
    return kept


def debias_settings(config: dict[str, Any], *, sequence: bool = False) -> dict[str, Any]:
    """Return how to correct the bias of the reference image, or of another sequence: with fewer levels."""
    kept = {name: value for name, value in config["debias"].items() if name != "sequence_levels"}
    return kept | {"iterations": kept["iterations"][: config["debias"]["sequence_levels"]]} if sequence else kept


def measure_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return how to measure a lesion, and from what size on it is one."""
    sizes = ("keep_mm3", "keep_vox", "birth_mm3", "birth_vox")
    return {**config["measure"], **{key: config["instances"][key] for key in sizes}}


def model_folders(config: dict[str, Any], root: Path) -> dict[str, list[Path]]:
    """Return the model folders of each task in order: as given, or below the project's own folder."""
    found = {}
    for task, listed in config["segment"]["models"].items():
        folders = [Path(folder) for folder in ([listed] if isinstance(listed, str) else listed)]
        found[task] = [folder if folder.is_absolute() or folder.exists() else root / folder for folder in folders]
    return found


def whole_path(path: str) -> str:
    """Return the one spelling of a path that counts for Snakemake's memory; nothing stays nothing."""
    # Links stay as they are: other nodes of a cluster may know a folder by this name alone.
    return os.path.abspath(path) if path else path  # noqa: PTH100


def without_working_folder(config: dict[str, Any], root: Path) -> dict[str, Any]:
    """Return settings that mean the same wherever they are read: with whole paths.

    Parameters
    ----------
    config : dict
    root : Path
        The project's own folder: what lies there is found from everywhere and stays as it is.
    """

    def found(path: str) -> str:
        return path if (root / path).exists() else whole_path(path)

    def all_found(paths: str | list[str]) -> str | list[str]:
        return found(paths) if isinstance(paths, str) else [found(path) for path in paths]

    changed: dict[str, Any] = {name: whole_path(config[name]) for name in ("bids", "out", "overrides", "frozen")}
    changed["index"] = {"edits": whole_path(config["index"]["edits"])}
    changed["labels"] = {"folder": whole_path(config["labels"]["folder"])}
    weights = config["strip"]["hd_bet_weights"]
    changed["strip"] = {"hd_bet_weights": whole_path(weights) if Path(weights).exists() else weights}
    changed["segment"] = {"models": {task: all_found(each) for task, each in config["segment"]["models"].items()}}
    return merge(config, changed)


def list_model_files(folder: Path) -> list[str]:
    """Return the files of a model that decide what it predicts, so that a changed model reruns its jobs."""
    patterns = ("*.json", "fold_*/*.pth", "fold_*/*.safetensors")
    return sorted(str(path) for pattern in patterns for path in folder.glob(pattern))


def require_weights(path: str, root: Path) -> str:
    """Return where downloaded weights lie; nothing is downloaded while the pipeline runs.

    Raises
    ------
    InputError
        Not fetched yet.
    """
    place = Path(path) if Path(path).is_absolute() or Path(path).exists() else root / path
    if not place.exists():
        raise InputError(
            place,
            found="no such file",
            expected="HD-BET's weights, because strip.method is hd-bet",
            advice="Run `snakemake --cores 1 fetch` once where there is a network, or set strip.method to deepbet.",
            reason=Reason.NO_WEIGHTS,
        )
    return str(place)


def config_hash(config: dict[str, Any]) -> str:
    """Return a short digest of every setting that can change a number (not of where things lie)."""
    kept = without_places(config)
    labels = {key: value for key, value in config["labels"].items() if key != "folder"}
    return digest({key: value for key, value in kept.items() if key not in GIVEN} | {"labels": labels})


def digest(settings: dict[str, Any]) -> str:
    """Return a short fingerprint of settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def without_places(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings without folders and thread counts."""
    return {key: value for key, value in config.items() if key not in PLACES}


# ------------------------------------------------------------------------------------------------------ documentation


def markdown_tables(schema: dict[str, Any], defaults: dict[str, Any]) -> str:
    """Return all settings as tables for the documentation: a section for what is not in a block, and one per block.

    Parameters
    ----------
    schema : dict
        Of the settings, with a ``description`` for each.
    defaults : dict
        The settings as shipped.
    """
    blocks = {name: rule for name, rule in schema["properties"].items() if "properties" in rule}
    single = {name: rule for name, rule in schema["properties"].items() if name not in blocks}
    sections = [_section("general", "Dataset, results and what every stage uses.", single, defaults, schema)]
    for name, rule in blocks.items():
        sections += [_section(name, rule["description"], rule["properties"], defaults[name], schema)]
    return "\n\n".join(sections)


def _section(title: str, about: str, rules: dict[str, Any], defaults: dict[str, Any], schema: dict[str, Any]) -> str:
    lines = [f"### {title}", "", about, ""]
    lines += ["| setting | default | allowed | what it is, and when to change it |", "| --- | --- | --- | --- |"]
    for name, rule in rules.items():
        if "properties" not in rule:
            lines.append(_line(name, rule, defaults[name], schema))
            continue
        lines.append(f"| `{name}` | | | {rule['description']} |")
        lines += [_line(f"{name}.{key}", of, defaults[name][key], schema) for key, of in rule["properties"].items()]
    return "\n".join(lines)


def _line(name: str, rule: dict[str, Any], default: object, schema: dict[str, Any]) -> str:
    shown = "" if default in ("", None) else f"`{json.dumps(default)}`"
    return f"| `{name}` | {shown} | {_allowed(rule, schema)} | {rule['description']} |".replace("  ", " ")


def _allowed(rule: dict[str, Any], schema: dict[str, Any]) -> str:
    """Say in words what a rule of the schema allows."""
    if "$ref" in rule:
        rule = schema["$defs"][rule["$ref"].rsplit("/", 1)[-1]]
    if "enum" in rule:
        return ", ".join(f"`{value}`" for value in rule["enum"])
    kinds = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
    if "array" in kinds:
        count = "two of: " if rule.get("maxItems") == 2 else "list of: "
        return ("text, or " if "string" in kinds else "") + count + _allowed(rule["items"], schema)
    if "object" in kinds:
        return "text, or a mapping" if "string" in kinds else "mapping"
    if "string" in kinds or "boolean" in kinds:
        return "text" if "string" in kinds else "`true`, `false`"
    limits = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to"}
    given = " ".join(f"{word} {rule[limit]}" for limit, word in limits.items() if limit in rule)
    return f"{'whole number' if 'integer' in kinds else 'number'} {given}".strip()


def renew_markdown(text: str, schema: dict[str, Any], defaults: dict[str, Any]) -> str:
    """Return a text with what is between ``<!-- settings -->`` and ``<!-- end -->`` made anew."""
    block = f"<!-- settings -->\n\n{markdown_tables(schema, defaults)}\n\n<!-- end -->"
    return re.sub("<!-- settings -->.*?<!-- end -->", lambda _: block, text, flags=re.DOTALL)
