"""The settings: checked strictly, because a misspelt one that is ignored costs a night."""

from __future__ import annotations

import difflib
import hashlib
import json
from pathlib import Path

import yaml

from mettrail import drawn
from mettrail.errors import InputError

# What says where things lie, or asks for more, and changes nothing of what is done to them.
PLACES = ("bids", "out", "threads", "unfinished", "train", "sensitivity")


def read_numbers(config: dict, schema_path: Path) -> None:
    """Turn text into what the schema wants it to be, in place.

    Snakemake leaves everything inside braces on the command line as text: ``--config "match={'gap_mm': 4}"``.
    """
    schema = yaml.safe_load(Path(schema_path).read_text())

    def convert(value, rule: dict):
        rule = schema["$defs"][rule["$ref"].rsplit("/", 1)[-1]] if "$ref" in rule else rule
        if isinstance(value, dict):
            return {key: convert(item, rule.get("properties", {}).get(key, {})) for key, item in value.items()}
        if isinstance(value, list):
            return [convert(item, rule.get("items", {})) for item in value]
        if isinstance(value, str) and rule.get("type") in ("number", "integer", "boolean"):
            return yaml.safe_load(value)
        return value

    config.update(convert(dict(config), schema))


def check_config(config: dict, schema_path: Path) -> None:
    """Refuse unknown, missing and impossible settings, by name.

    Raises
    ------
    InputError
        Names the setting (``register.engine``), what was found and what is allowed.
    """
    from jsonschema import Draft202012Validator

    schema = yaml.safe_load(Path(schema_path).read_text())
    errors = sorted(Draft202012Validator(schema).iter_errors(config), key=lambda e: list(e.absolute_path))
    if errors:
        raise _explain(errors[0])
    for place, advice in (("bids", "the BIDS dataset"), ("out", "where the results go")):
        if not config[place]:
            raise InputError(
                f"config: {place}",
                found="nothing",
                expected=f"a folder: {advice}",
                advice="snakemake --cores all --config bids=FOLDER out=FOLDER",
            )
    drawn.read_scheme(config["labels"]["scheme"])
    low, high = config["strip"]["volume_ml"]
    if low >= high:
        raise InputError(
            "config: strip.volume_ml", found=f"[{low}, {high}]", expected="[smaller, larger]", advice="Swap them."
        )


def _explain(error) -> InputError:
    where = ".".join(map(str, error.absolute_path))
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        unknown = sorted(set(error.instance) - set(known))[0]
        near = difflib.get_close_matches(unknown, known, 1)
        return InputError(
            f"config: {'.'.join(filter(None, [where, unknown]))}",
            found="a setting that does not exist",
            expected=f"one of {', '.join(known)}",
            advice=f"Did you mean {near[0]}?" if near else "See config/README.md for what there is.",
            reason="unknown_setting",
        )
    if error.validator == "required":
        missing = sorted(set(error.validator_value) - set(error.instance))[0]
        return InputError(
            f"config: {'.'.join(filter(None, [where, missing]))}",
            found="nothing",
            expected="a value: there are no hidden defaults",
            advice="Take it from config/config.yaml.",
        )
    return InputError(
        f"config: {where}", found=repr(error.instance), expected=error.message, advice="See config/README.md."
    )


def index_settings(config: dict) -> dict:
    """Return what `cohort.index_cohort` needs to know."""
    return {
        "reference": config["reference"],
        "sequences": config["sequences"],
        "labels_folder": config["labels"]["folder"],
        "labels_sessions": [str(ses) for ses in config["labels"]["sessions"]],
        "labels_scheme": config["labels"]["scheme"],
        "edits": config["index"]["edits"],
    }


def rigid_settings(config: dict) -> dict:
    """Return the settings of registration without those of the warp: changing these reruns no rigid registration."""
    kept = dict(config["register"])
    for engine in ("greedy", "ants"):
        kept[engine] = {key: value if key == "linear_iterations" else None for key, value in kept[engine].items()}
    return kept


def measure_settings(config: dict) -> dict:
    """Return how to measure a lesion, and from what size on it is one."""
    sizes = ("keep_mm3", "keep_vox", "birth_mm3", "birth_vox")
    return config["measure"] | {key: config["instances"][key] for key in sizes}


def model_folders(config: dict, root: Path) -> dict[str, list[Path]]:
    """Return the model folders of each task in order: as given, or below the project's own folder."""
    found = {}
    for task, listed in config["segment"]["models"].items():
        folders = [Path(folder) for folder in ([listed] if isinstance(listed, str) else listed)]
        found[task] = [folder if folder.is_absolute() or folder.exists() else root / folder for folder in folders]
    return found


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
            advice="Run `snakemake --cores 1 fetch` once where there is a network, or set strip.method to atlas.",
            reason="no_weights",
        )
    return str(place)


def config_hash(config: dict) -> str:
    """Return a short digest of every setting that can change a number (not of where things lie)."""
    return digest(without_places(config))


def digest(settings: dict) -> str:
    """Return a short fingerprint of settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def without_places(config: dict) -> dict:
    """Return the settings without folders and thread counts."""
    return {key: value for key, value in config.items() if key not in PLACES}


def with_config(arguments: list[str], entry: str) -> list[str]:
    """Add a ``key=value`` to the --config of a Snakemake command line, where only the last --config counts.

    Examples
    --------
    >>> with_config(["--cores", "2", "--config", "bids=a", "out=b"], "k=v")
    ['--cores', '2', '--config', 'k=v', 'bids=a', 'out=b']
    >>> with_config(["--cores", "2"], "k=v")
    ['--cores', '2', '--config', 'k=v']
    """
    key = entry.partition("=")[0] + "="
    kept = [argument for argument in arguments if not argument.startswith(key)]
    for flag in ("--config", "-C"):
        if flag in kept:
            place = len(kept) - kept[::-1].index(flag)
            return [*kept[:place], entry, *kept[place:]]
    return [*kept, "--config", entry]
