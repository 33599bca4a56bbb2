"""What is known of a patient's lesions after a visit, as a file: the input of the next visit."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mettrail import __version__
from mettrail.errors import GridMismatchError, InputError
from mettrail.images import Grid
from mettrail.reasons import Reason

# One track, and what is known of a patient after a session: plain JSON, listed in `matching`.
Track = dict[str, Any]
Registry = dict[str, Any]
FORMAT = 4
# Registries of an earlier run, whose numbers are kept, may be older.
READABLE = (2, 3, 4)


def world_of(registry: Mapping[str, Any], world: np.ndarray) -> np.ndarray:
    """Return points of the reference space to points of the scan, with the visit's residual shift undone.

    Parameters
    ----------
    registry : dict
        Of the visit.
    world : (4, 4) float
        The same as registration has it.
    """
    residual = registry.get("residual")
    return world if residual is None else world @ np.array(residual["matrix"])


def read_registry(path: str | Path, session: Mapping[str, Any] | None = None) -> Registry:
    """Read a registry, and refuse one that is not this patient's.

    Parameters
    ----------
    path : path
    session : mapping, optional
        From `describe_session`.

    Raises
    ------
    InputError
        No registry, or another patient's.
    """
    try:
        registry: Registry = json.loads(Path(path).read_text(encoding="utf-8"))
        known = registry["format"] in READABLE and {"participant_id", "tracks", "reference"} <= set(registry)
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise _no_registry(path, str(err)) from err
    if not known:
        raise _no_registry(path, f"format {registry['format']}")
    if session is not None:
        require_own(registry, session, path)
    return registry


def require_settings(registries: Sequence[Mapping[str, Any]], config_hash: str) -> None:
    """Refuse registries that were made with other settings than those of this run.

    Raises
    ------
    InputError
    """
    for registry in registries:
        if registry.get("config_hash") not in (None, config_hash):
            raise InputError(
                "{participant_id}, registry of lesions".format(**registry),
                found=f"made with the settings {registry['config_hash']}",
                expected=f"the settings of this run, {config_hash}",
                advice="Run again with --forcerun measure match.",
                reason=Reason.OTHER_SETTINGS,
            )


def write_registry(registry: Registry, path: str | Path) -> None:
    """Write a registry as JSON, always the same bytes for the same content."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(registry, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def encode_mask(flat: np.ndarray) -> str:
    """Write sorted voxel numbers (C order) as runs: first voxel and length, for each run.

    Examples
    --------
    >>> encode_mask(np.array([3, 4, 5, 9]))
    '3 3 9 1'
    """
    if len(flat) == 0:
        return ""
    starts = np.flatnonzero(np.diff(flat, prepend=flat[0] - 2) != 1)
    lengths = np.diff(starts, append=len(flat))
    return " ".join(map(str, np.stack([flat[starts], lengths], axis=1).ravel()))


def decode_mask(runs: str) -> np.ndarray:
    """Undo `encode_mask`.

    Examples
    --------
    >>> decode_mask("3 3 9 1")
    array([3, 4, 5, 9])
    """
    numbers = np.array(runs.split(), dtype=np.int64).reshape(-1, 2)
    if len(numbers) == 0:
        return np.zeros(0, np.int64)
    return np.concatenate([np.arange(start, start + length) for start, length in numbers])


def new_registry(grid: Grid, session: Mapping[str, Any]) -> Registry:
    """Start the registry of a patient whose first visit this is."""
    return {
        "format": FORMAT,
        "participant_id": session["participant_id"],
        "reference": {
            "session_id": session.get("reference_session", session["session_id"]),
            "shape": [int(n) for n in grid.shape],
            "affine": np.asarray(grid.affine, float).tolist(),
        },
        "sessions": [],
        "tracks": [],
    }


def close_session(
    registry: Registry, session: Mapping[str, Any], table: pd.DataFrame, taken: Collection[int], config_hash: str
) -> None:
    """Write the session into the registry. What no track has taken up is too small, and its edema not assigned."""
    facts = {key: plain_value(value) for key, value in session.items() if key != "reference_session"}
    matched = table["instance"].isin(taken)
    if "n_subthreshold" in facts:
        facts["n_subthreshold"] -= int((matched & table["below_birth"].astype(bool)).sum())
    if facts.get("edema_unassigned_mm3") is not None:
        facts["edema_unassigned_mm3"] += float(table.loc[~matched, "vol_ed_mm3"].sum())
    facts.setdefault("days", None)
    registry["session"] = facts
    registry["session_id"], registry["days"] = facts["session_id"], facts["days"]
    registry["sessions"].append({key: facts[key] for key in ("session_id", "days", "evaluable")})
    registry |= {"config_hash": config_hash, "version": __version__}


def require_patient(registry: Registry, session: Mapping[str, Any], path: str | Path = "registry of lesions") -> None:
    """Refuse a registry of another patient."""
    if registry["participant_id"] != session["participant_id"]:
        raise InputError(
            str(path),
            found=f"lesions of {registry['participant_id']}",
            expected=f"lesions of {session['participant_id']}",
            advice="Give a registry of this patient.",
            reason=Reason.WRONG_PATIENT,
        )


def require_own(registry: Registry, session: Mapping[str, Any], path: str | Path = "registry of lesions") -> None:
    """Refuse a registry of another patient, or one that has the visit already."""
    require_patient(registry, session, path)
    if session["session_id"] in [each["session_id"] for each in registry["sessions"]]:
        raise InputError(
            str(path),
            found=f"{session['session_id']} in it already",
            expected=f"visits before {session['session_id']} only",
            advice="Give the registry of the visit before this one.",
            reason=Reason.WRONG_VISIT,
        )


def require_grid(registry: Registry, grid: Grid) -> None:
    """Refuse lesions on another grid than that of the registry."""
    own = Grid(tuple(registry["reference"]["shape"]), np.array(registry["reference"]["affine"]))
    if not own.matches(grid):
        raise GridMismatchError(
            f"lesions and registry of {registry['participant_id']}",
            found=f"{grid} and {own}, or the same voxels at different places",
            expected="the grid of the patient's reference space for both",
            advice="The visit that gives the reference space has changed: match all visits of this patient again.",
            reason=Reason.GRID_MISMATCH,
        )


def _no_registry(path: str | Path, found: str) -> InputError:
    return InputError(
        str(path),
        found=found,
        expected="a registry of lesions, as match writes it",
        advice="Match the visit before again.",
        reason=Reason.BAD_REGISTRY,
    )


def component_labels(cell: object) -> list[int]:
    """Return the labels in a cell of `components`, the one that carries the track first."""
    return [int(label) for label in as_text(cell).split(";") if label]


def as_text(value: object) -> str:
    """Return the text of a cell, empty if missing."""
    return "" if value is None or value is pd.NA or value != value else str(value)


def track_name(index: int) -> str:
    """Return the ID of a track."""
    return f"L{index:03d}"


def plain_value(value: Any) -> Any:
    """Return a NumPy scalar as one of Python."""
    return value.item() if hasattr(value, "item") else value
