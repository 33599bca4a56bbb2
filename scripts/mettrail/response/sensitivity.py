"""How much the response depends on settings that no publication fixes.

Each is changed alone, to each of some other values; what comes after the segmentation is done again with it, in memory,
and the responses are held against those with the settings as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mettrail import cohort, schema, settings
from mettrail.errors import InputError
from mettrail.images import Grid
from mettrail.reasons import Reason
from mettrail.response import rano
from mettrail.response.rules import Rules
from mettrail.tracking.follow import SegmentedVisit, follow_patient

AS_THEY_ARE = "as they are"
BLOCKS = ("instances", "measure", "match", "rano", "volume")


def variants(
    config: Mapping[str, Any], grid: Mapping[str, Sequence[object]]
) -> list[tuple[str, object, dict[str, Any]]]:
    """List the settings as they are and with one changed: name (``match.gap_mm``), value, whole settings.

    Parameters
    ----------
    config : mapping
        Complete settings.
    grid : mapping
        Name of a setting to its other values.

    Raises
    ------
    InputError
        A setting that does not exist, or that is none of what follows the segmentation.
    """
    found: list[tuple[str, object, dict[str, Any]]] = [(AS_THEY_ARE, AS_THEY_ARE, dict(config))]
    for name, values in grid.items():
        block, _, key = name.partition(".")
        if block not in BLOCKS or key not in config[block]:
            known = ", ".join(f"{block}.{key}" for block in BLOCKS for key in config[block])
            raise InputError(
                f"config: sensitivity, {name}",
                found="no such setting",
                expected=f"one of {known}",
                advice="Correct its name.",
                reason=Reason.UNKNOWN_SETTING,
            )
        for value in values:
            changed = copy.deepcopy(dict(config))
            changed[block][key] = value
            found.append((name, value, changed))
    return found


def vary_patient(
    visits: Sequence[SegmentedVisit],
    rows: Sequence[Mapping[str, str]],
    participant: Mapping[str, str],
    *,
    config: Mapping[str, Any],
    values: Mapping[str, Sequence[object]],
    grid: Grid | None,
    reference_session: str,
    overrides: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Assess one patient with every variant of the settings.

    Parameters
    ----------
    visits : sequence of SegmentedVisit
        Usable ones, in order of time.
    rows : sequence of mapping
        All the patient's rows of the cohort table.
    participant : mapping
        As for `rano.assess_patient`.
    config : mapping
        Complete settings.
    values : mapping
        As for `variants`.
    grid : Grid or None
        Of the patient's reference space; None without a usable visit.
    reference_session : str
        The visit that gives it.
    overrides : DataFrame, optional
        A reader's decisions. Lesions they name must exist with every variant; where one does not, it is left alone.

    Returns
    -------
    DataFrame
        One row per variant and session: ``setting``, ``value`` (text), ``participant_id``, ``session_id``,
        ``response_overall_final``, ``response_volumetric_prospective``, ``best_response``, ``progression_day``,
        ``n_tracks``.
    """
    kept: dict[str, tuple[pd.DataFrame, list[dict[str, Any]], pd.DataFrame | None]] = {}
    out = []
    for name, value, changed in variants(config, values):
        # Matching is done again only where something that it depends on has changed.
        upstream = settings.digest({block: changed[block] for block in ("instances", "measure", "match")})
        if upstream not in kept:
            found = follow_patient(visits, config=changed, grid=grid, reference_session=reference_session)
            kept[upstream] = found.lesions, found.registries, found.compared
        tracks, registries, comparisons = kept[upstream]
        known = set(tracks["track_id"]) if len(tracks) else set()
        mine = (
            None
            if overrides is None
            else overrides[overrides["track_id"].isin([*known, schema.MISSING]) | overrides["track_id"].isna()]
        )
        _, sessions, patients = rano.assess_patient(
            tracks,
            cohort.describe_sessions([dict(row) for row in rows], registries),
            participant,
            rules=Rules.of(rano=changed["rano"], volume=changed["volume"]),
            overrides=mine,
            comparisons=comparisons,
        )
        patient = patients.iloc[0]
        part = sessions[
            ["participant_id", "session_id", "response_overall_final", "response_volumetric_prospective"]
        ].assign(
            setting=name,
            value=str(value),
            best_response=patient["best_response"],
            progression_day=patient["progression_day"],
            n_tracks=patient["n_tracks_total"],
        )
        out.append(part)
    return pd.concat(out, ignore_index=True)


def summarise(responses: pd.DataFrame, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Count what each variant changes: rows of the table ``sensitivity``.

    Parameters
    ----------
    responses : DataFrame
        From `vary_patient`, of all patients.
    config : mapping
        Complete settings, for the values as they are.
    """
    keys = ["participant_id", "session_id"]
    base = responses[responses["setting"] == AS_THEY_ARE].set_index(keys)
    rows = []
    for (name, value), varied in responses.groupby(["setting", "value"], sort=False):
        now = varied.set_index(keys).reindex(base.index)
        block, _, key = str(name).partition(".")
        changed = _differ(now, base, "response_overall_final")
        by_patient = _differ(now, base, "best_response").groupby("participant_id").any()
        progression = _differ(now, base, "progression_day").groupby("participant_id").any()
        moves = [
            f"{who} {session} {base.loc[(who, session), 'response_overall_final']} to {cell}"
            for (who, session), cell in now.loc[changed, "response_overall_final"].items()
        ]
        rows.append(
            {
                "setting": name,
                "value": value,
                "default": str(config[block][key]) if key else None,
                "n_sessions": len(now),
                "n_sessions_changed": int(changed.sum()),
                "n_sessions_changed_volumetric": int(_differ(now, base, "response_volumetric_prospective").sum()),
                "n_patients": len(by_patient),
                "n_patients_changed": int(by_patient.sum()),
                "n_patients_progression_changed": int(progression.sum()),
                "n_tracks_total": int(now.groupby("participant_id")["n_tracks"].first().fillna(0).sum()),
                "changes": "; ".join(moves) or None,
            }
        )
    return rows


def _differ(now: pd.DataFrame, base: pd.DataFrame, column: str) -> pd.Series:
    """Whether each session has another value in a column; what is missing in both is the same."""
    return now[column].astype(object).fillna("") != base[column].astype(object).fillna("")
