"""All that is found out about one patient: treated lesions, response, outcomes, in this order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from mettrail import schema
from mettrail.images import Image
from mettrail.points import Finder
from mettrail.response import outcomes, treatments
from mettrail.response.course import Row
from mettrail.response.rano import assess_patient
from mettrail.response.rules import Rules
from mettrail.response.treatments import Problem
from mettrail.tracking import growth, regions

# Session to its map of lesions, and to their names by number.
Maps: TypeAlias = dict[str, tuple[str | Path, dict[int, str]]]


@dataclass(frozen=True)
class Matched:
    """What the matching has left of one patient.

    Parameters
    ----------
    lesions, comparisons : DataFrame
        As of `rano.assess_patient`; comparisons may be empty.
    sessions : DataFrame
        From `cohort.describe_sessions`.
    maps : mapping
        From `read_maps`.
    """

    lesions: pd.DataFrame
    sessions: pd.DataFrame
    comparisons: pd.DataFrame | None
    maps: Maps


@dataclass(frozen=True)
class Said:
    """What people say of one patient.

    Parameters
    ----------
    participant : mapping
        As of `rano.assess_patient`.
    treatments : iterable of mapping
        See `cohort.Cohort`.
    overrides, overrides_source
        As of `rano.assess_patient`; lesions may be named by points.
    frozen : DataFrame or None
        As of `rano.assess_patient`: whose targets are kept.
    """

    participant: Row
    treatments: Iterable[Mapping[str, str]]
    overrides: pd.DataFrame | None
    overrides_source: str
    frozen: pd.DataFrame | None


@dataclass(frozen=True)
class Assessment:
    """The final tables of one patient, treatments, decisions by lesion, and what is wrong with people's tables."""

    lesions: pd.DataFrame
    sessions: pd.DataFrame
    patients: pd.DataFrame
    treated: pd.DataFrame
    treatments: pd.DataFrame
    decisions: pd.DataFrame
    problems: list[Problem]


def read_maps(
    registries: Sequence[Mapping[str, Any]], labels: Sequence[str | Path], names: Sequence[str | Path]
) -> Maps:
    """Return, per session, its map of lesions and their names by number, as `points.Finder` wants them."""
    found: Maps = {}
    for registry, path, listed in zip(registries, labels, names, strict=True):
        table = schema.read_tsv(Path(listed))
        found[registry["session_id"]] = (path, dict(zip(table["index"].astype(int), table["name"])))
    return found


def assess(
    matched: Matched,
    said: Said,
    *,
    rules: Rules,
    region_affine: np.ndarray | None = None,
    atlas: Image | None = None,
    config_hash: str | None = None,
) -> Assessment:
    """Assess one patient.

    Parameters
    ----------
    matched : Matched
    said : Said
    rules : Rules
    region_affine, atlas
        Where the patient's reference space lies on the atlas of regions, and that atlas: see `regions.add_regions`.
    config_hash : str, optional
        For the table of patients.

    Raises
    ------
    InputError
        As of `rano.assess_patient`.
    """
    who, finder = said.participant["participant_id"], Finder(matched.maps)
    overrides = said.overrides
    problems: list[Problem] = []
    if overrides is not None:
        overrides, problems = treatments.resolve_overrides(
            overrides, finder, participant_id=who, source=said.overrides_source
        )
    resolved, doubts = treatments.resolve(
        said.treatments, matched.lesions, matched.sessions, finder, participant_id=who
    )
    decisions = treatments.as_overrides(resolved, overrides)
    final, by_session, patient = assess_patient(
        matched.lesions,
        matched.sessions,
        said.participant,
        rules=rules,
        overrides=decisions,
        overrides_source=said.overrides_source,
        frozen=said.frozen,
        comparisons=matched.comparisons,
    )
    final = growth.add_growth(final, by_session)
    if atlas is not None:
        final = regions.add_regions(final, by_session, affine=region_affine, atlas=atlas)
    t0 = outcomes.start_day(patient, matched.sessions, said.participant)
    treated = outcomes.follow_treatments(
        resolved, final, by_session, said.participant, t0=t0, rules=rules, comparisons=matched.comparisons
    )
    patient = outcomes.complete_patients(patient, treated, resolved, final, by_session, said.participant, t0=t0)
    patient["config_hash"] = pd.Series(config_hash, index=patient.index, dtype=patient["config_hash"].dtype)
    listed = treatments.list_treatments(resolved, t0)
    if decisions is None:
        decisions = pd.DataFrame(columns=["session_id", "track_id", "field", "value"])
    decisions = decisions.replace("", schema.MISSING)
    return Assessment(final, by_session, patient, treated, listed, decisions, [*problems, *doubts])
