"""The lesions of a patient through all visits, in memory: found, measured, matched, and compared like with like.

The pipeline does the same visit by visit, from file to file: `scripts/measure.py` and `scripts/match.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mettrail import images, schema, settings, sidecars, transforms
from mettrail.images import Grid, Image
from mettrail.tracking import comparison, lesions, matching
from mettrail.tracking.components import find_instances
from mettrail.tracking.evidence import Evidence


@dataclass(frozen=True)
class SegmentedVisit:
    """A visit after segmentation.

    Parameters
    ----------
    row : mapping
        Of the cohort table.
    tissue, brain : Image
        Tissue labels, and the brain mask on the same grid: the scan's own.
    evidence : Evidence or None
        How sure the segmentation is of them, same grid.
    quality : mapping
        Of its registration to the reference space.
    world : (4, 4) float
        Points of the reference space to points of the scan, RAS mm.
    brain_quality : mapping, optional
        Of its brain mask (`brain.extract_brain`).
    """

    row: Mapping[str, str]
    tissue: Image
    brain: Image
    evidence: Evidence | None
    quality: Mapping[str, Any]
    world: np.ndarray
    brain_quality: Mapping[str, Any] | None = None

    def read_scan(self) -> tuple[Image, Image, Evidence | None]:
        """Return what lesions are measured on."""
        return self.tissue, self.brain, self.evidence


@dataclass(frozen=True)
class Followed:
    """Lesions of all visits of a patient.

    Parameters
    ----------
    tracks, registries, maps : list
        Per visit: rows of its lesions, the registry of tracks by then, and the map of track numbers.
    comparisons : list of DataFrame
        Per evaluable visit, from `comparison.compare_visits`.
    """

    tracks: list[pd.DataFrame]
    registries: list[dict[str, Any]]
    maps: list[Image]
    comparisons: list[pd.DataFrame]

    @property
    def lesions(self) -> pd.DataFrame:
        """The rows of all visits."""
        return pd.concat([t for t in self.tracks if len(t)] or self.tracks[:1] or [pd.DataFrame()], ignore_index=True)

    @property
    def compared(self) -> pd.DataFrame | None:
        """The comparisons of all visits; None without any."""
        return pd.concat(self.comparisons, ignore_index=True) if self.comparisons else None


def read_visits(
    rows: Sequence[Mapping[str, str]],
    *,
    labels: Sequence[Path],
    masks: Sequence[Path],
    brains: Sequence[Path],
    components: Sequence[Path],
    evidence: Sequence[Path],
    qualities: Sequence[Path],
    affines: Sequence[Path],
) -> list[SegmentedVisit]:
    """Read what is known of a patient's usable visits after segmentation.

    Parameters
    ----------
    rows : sequence of mapping
        All the patient's rows of the cohort table.
    labels, masks, brains, components, evidence, qualities, affines : sequence of path
        One per usable visit, in order.
    """
    usable = [row for row in rows if row["usable"] == "true"]
    visits = []
    for row, label, mask, brain, component, table, quality, affine in zip(
        usable, labels, masks, brains, components, evidence, qualities, affines, strict=True
    ):
        tissue = images.read_labels(label, images.TISSUE_LABELS)
        visits.append(
            SegmentedVisit(
                row,
                tissue,
                images.resample(images.read_labels(mask), tissue.grid, order=0),
                Evidence(images.read_labels(component).data, schema.read_tsv(table)),
                sidecars.read_json(quality),
                transforms.read_affine(affine),
                sidecars.read_json(brain),
            )
        )
    return visits


def follow_patient(
    visits: Sequence[SegmentedVisit], *, config: Mapping[str, Any], grid: Grid | None, reference_session: str
) -> Followed:
    """Follow the lesions of a patient through all visits.

    Parameters
    ----------
    visits : sequence of SegmentedVisit
        In order of time.
    config : mapping
        Complete settings.
    grid : Grid or None
        Of the patient's reference space; None without a visit.
    reference_session : str
        The visit that gives it.
    """
    found = Followed([], [], [], [])
    measure = settings.measure_settings(dict(config))
    before: list[comparison.Visit] = []  # evaluable ones
    for visit in visits:
        assert grid is not None, "every visit lies in a reference space"
        tissue = visit.tissue
        numbers = find_instances(tissue.data, affine=tissue.affine, **config["instances"])
        table, totals = lesions.measure_instances(
            numbers,
            tissue.data,
            affine=tissue.affine,
            brain=visit.brain.data > 0,
            evidence=visit.evidence,
            **measure,
        )
        session = matching.describe_session(
            visit.row,
            totals=totals,
            quality=visit.quality,
            reference=config["reference"],
            reference_session=reference_session,
            brain=visit.brain_quality,
        )
        tracks, matches, instances, registry = matching.match_visit(
            Image(numbers, tissue.affine),
            table,
            found.registries[-1] if found.registries else None,
            session=session,
            grid=grid,
            world=visit.world,
            read_scan=visit.read_scan,
            measure=measure,
            match=config["match"],
        )
        found.tracks.append(tracks)
        found.registries.append(registry)
        labels = Image(matching.relabel_tracks(instances.data, matches), instances.affine)
        found.maps.append(labels)
        if session["evaluable"]:

            def read_labels(labels: Image = labels) -> Image:
                return labels

            now = comparison.Visit.of(tracks, read_labels, registry, visit.world)
            found.comparisons.append(comparison.compare_visits(now, before, measure=measure, match=config["match"]))
            before.append(now)
    return found
