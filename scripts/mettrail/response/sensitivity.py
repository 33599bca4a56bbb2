"""How much the response depends on settings that no publication fixes.

Each is changed alone, to each of some other values; what comes after the segmentation is done again with it, in memory,
and the responses are held against those with the settings as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mettrail import cohort, images, schema, settings, sidecars, transforms
from mettrail.errors import InputError
from mettrail.images import Grid, Image
from mettrail.reasons import Reason
from mettrail.response import rano
from mettrail.tracking import comparison, components, lesions, matching
from mettrail.tracking.evidence import Evidence

AS_THEY_ARE = "as they are"
BLOCKS = ("instances", "measure", "match", "rano", "volume")


@dataclass(frozen=True)
class Visit:
    """A visit after segmentation.

    Parameters
    ----------
    row : dict
        Of the cohort table.
    tissue, brain : Image
        Tissue labels, and the brain mask on the same grid: the scan's own.
    evidence : Evidence
        How sure the segmentation is of them, same grid.
    quality : dict
        Of its registration to the reference space.
    world : (4, 4) float
        Points of the reference space to points of the scan, RAS mm.
    brain_quality : dict, optional
        Of its brain mask (`brain.extract_brain`).
    """

    row: Mapping
    tissue: Image
    brain: Image
    evidence: Evidence
    quality: Mapping
    world: np.ndarray
    brain_quality: Mapping | None = None


def read_visits(rows: Sequence[Mapping], *, labels, masks, brains, pieces, evidence, qualities, affines) -> list[Visit]:
    """Read what is known of a patient's usable visits after segmentation.

    Parameters
    ----------
    rows : sequence of mapping
        All the patient's rows of the cohort table.
    labels, masks, brains, pieces, evidence, qualities, affines : sequence of path
        One per usable visit, in order.
    """
    usable = [row for row in rows if row["usable"] == "true"]
    visits = []
    for row, label, mask, judged, piece, table, quality, affine in zip(
        usable, labels, masks, brains, pieces, evidence, qualities, affines, strict=True
    ):
        tissue = images.read_labels(label, images.TISSUE_LABELS)
        brain = images.resample(images.read_labels(mask), tissue.grid, order=0)
        known = Evidence(images.read_labels(piece).data, schema.read_tsv(table))
        quality, judged = sidecars.read_json(quality), sidecars.read_json(judged)
        visits.append(Visit(row, tissue, brain, known, quality, transforms.read_affine(affine), judged))
    return visits


def variants(config: Mapping, grid: Mapping[str, Sequence]) -> list[tuple[str, object, dict]]:
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
    found = [(AS_THEY_ARE, AS_THEY_ARE, dict(config))]
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
    visits: Sequence[Visit],
    rows: Sequence[Mapping],
    participant: Mapping,
    *,
    config: Mapping,
    values: Mapping[str, Sequence],
    grid: Grid | None,
    reference_session: str,
    overrides: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Assess one patient with every variant of the settings.

    Parameters
    ----------
    visits : sequence of Visit
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
    kept: dict[str, list] = {}
    out = []
    for name, value, changed in variants(config, values):
        # Matching is done again only where something that it depends on has changed.
        upstream = settings.digest({block: changed[block] for block in ("instances", "measure", "match")})
        if upstream not in kept:
            kept[upstream] = _follow(visits, changed, grid, reference_session)
        found, registries, compared = kept[upstream]
        tracks = pd.concat([t for t in found if len(t)] or [pd.DataFrame()], ignore_index=True)
        known = set(tracks["track_id"]) if len(tracks) else set()
        mine = (
            None
            if overrides is None
            else overrides[overrides["track_id"].isin([*known, schema.MISSING]) | overrides["track_id"].isna()]
        )
        _, sessions, patients = rano.assess_patient(
            tracks,
            cohort.describe_sessions(list(rows), registries),
            participant,
            rano=changed["rano"],
            volume=changed["volume"],
            overrides=mine,
            comparisons=pd.concat(compared, ignore_index=True) if compared else None,
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


def _follow(visits, config, grid, reference_session):
    """Find, measure and match the lesions of all visits: tables of tracks, registries, comparisons."""
    followed, registries, compared, matched = [], [], [], []
    for visit in visits:
        measure = settings.measure_settings(config)
        found = components.find_instances(visit.tissue.data, affine=visit.tissue.affine, **config["instances"])
        table, totals = lesions.measure_instances(
            found, visit.tissue.data, affine=visit.tissue.affine, brain=visit.brain.data > 0,
            evidence=visit.evidence, **measure,
        )  # fmt: skip
        session = matching.describe_session(
            visit.row, totals=totals, quality=visit.quality, reference=config["reference"],
            reference_session=reference_session, brain=visit.brain_quality,
        )  # fmt: skip
        tracks, matches, instances, registry = matching.match_visit(
            Image(found, visit.tissue.affine), table, registries[-1] if registries else None, session=session,
            grid=grid, world=visit.world, read_scan=lambda visit=visit: (visit.tissue, visit.brain, visit.evidence),
            measure=measure, **config["match"],
        )  # fmt: skip
        followed.append(tracks)
        registries.append(registry)
        labels = Image(matching.relabel_tracks(instances.data, matches), instances.affine)
        matched.append(comparison.Visit.of(tracks, lambda labels=labels: labels, registry, visit.world))
        compared.append(comparison.compare_visits(matched[-1], matched[:-1], measure=measure))
    return followed, registries, compared


def summarise(responses: pd.DataFrame, config: Mapping) -> list[dict]:
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
        block, _, key = name.partition(".")

        def differs(column, now=now):
            return now[column].astype(object).fillna("") != base[column].astype(object).fillna("")

        changed = differs("response_overall_final")
        by_patient = differs("best_response").groupby("participant_id").any()
        progression = differs("progression_day").groupby("participant_id").any()
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
                "n_sessions_changed_volumetric": int(differs("response_volumetric_prospective").sum()),
                "n_patients": len(by_patient),
                "n_patients_changed": int(by_patient.sum()),
                "n_patients_progression_changed": int(progression.sum()),
                "n_tracks_total": int(now.groupby("participant_id")["n_tracks"].first().fillna(0).sum()),
                "changes": "; ".join(moves) or None,
            }
        )
    return rows
