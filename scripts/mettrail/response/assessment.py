"""All that is found out about one patient: treated lesions, response, outcomes, in this order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mettrail import schema
from mettrail.images import Image
from mettrail.points import Finder
from mettrail.response import outcomes, treatments
from mettrail.response.rano import assess_patient
from mettrail.tracking import growth, regions


@dataclass(frozen=True)
class Assessment:
    """The final tables of one patient, treatments, decisions by lesion, and what is said of people's tables."""

    lesions: pd.DataFrame
    sessions: pd.DataFrame
    patients: pd.DataFrame
    treated: pd.DataFrame
    treatments: pd.DataFrame
    decisions: pd.DataFrame
    problems: list[dict]


def read_maps(
    registries: Sequence[Mapping], labels: Sequence[str | Path], names: Sequence[str | Path]
) -> dict[str, tuple[str | Path, dict[int, str]]]:
    """Return, per session, its map of lesions and their names by number, as `points.Finder` wants them."""
    found = {}
    for registry, path, listed in zip(registries, labels, names, strict=True):
        table = schema.read_tsv(listed)
        found[registry["session_id"]] = (path, dict(zip(table["index"].astype(int), table["name"])))
    return found


def assess(
    lesions: pd.DataFrame,
    sessions: pd.DataFrame,
    participant: Mapping,
    *,
    given: Iterable[Mapping[str, str]],
    maps: Mapping,
    comparisons: pd.DataFrame | None,
    region_affine: np.ndarray | None = None,
    atlas: Image | None = None,
    overrides: pd.DataFrame | None,
    overrides_source: str,
    frozen: pd.DataFrame | None,
    rano: Mapping,
    volume: Mapping,
    config_hash: str | None = None,
) -> Assessment:
    """Assess one patient.

    Parameters
    ----------
    lesions, sessions, participant, comparisons, overrides, overrides_source, frozen, rano, volume, config_hash
        As of `rano.assess_patient`; lesions in `overrides` may be named by points.
    given : iterable of dict
        The patient's treatments, see `cohort.Cohort`.
    maps : mapping
        From `read_maps`.
    region_affine, atlas
        Where the patient's reference space lies on the atlas of regions, and that atlas: see `regions.add_regions`.
    """
    who, finder, problems = participant["participant_id"], Finder(maps), []
    if overrides is not None:
        overrides, problems = treatments.resolve_overrides(
            overrides, finder, participant_id=who, source=overrides_source
        )
    resolved, said = treatments.resolve(given, lesions, sessions, finder, participant_id=who)
    decisions = treatments.as_overrides(resolved, overrides)
    comparisons = None if comparisons is None or comparisons.empty else comparisons
    final, by_session, patient = assess_patient(
        lesions,
        sessions,
        participant,
        rano=rano,
        volume=volume,
        overrides=decisions,
        overrides_source=overrides_source,
        frozen=frozen,
        comparisons=comparisons,
        config_hash=config_hash,
    )
    final = growth.add_growth(final, by_session)
    final = regions.add_regions(final, by_session, affine=region_affine, atlas=atlas)
    t0 = outcomes.start_day(patient, sessions, participant)
    how = {"rano": rano, "volume": volume, "comparisons": comparisons}
    treated = outcomes.follow_treatments(resolved, final, by_session, participant, t0=t0, **how)
    patient = outcomes.complete_patients(patient, treated, resolved, final, by_session, participant, t0=t0)
    listed = treatments.list_treatments(resolved, t0)
    if decisions is None:
        decisions = pd.DataFrame(columns=["session_id", "track_id", "field", "value"])
    decisions = decisions.replace("", schema.MISSING)
    return Assessment(final, by_session, patient, treated, listed, decisions, [*problems, *said])
