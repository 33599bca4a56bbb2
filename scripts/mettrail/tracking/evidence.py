"""How certain the segmentation is of each lesion, and which model detected it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mettrail import schema, sidecars
from mettrail.images import read_labels, read_probabilities

# Who may have seen a lesion; of several, the first says it.
DETECTED_BY = ("manual", "both", "detection", "resegmentation", "propagation", "sensitive")

# What `read_evidence` reads, by the names of rules' inputs.
EVIDENCE = ("components", "evidence", "probabilities", "sidecar")


@dataclass(frozen=True)
class Evidence:
    """How sure the segmentation is, by connected components (`segmentation.gather_evidence`).

    Parameters
    ----------
    components : (X, Y, Z) int
        Number of the component each lesion voxel belongs to, on the scan's own grid.
    table : DataFrame
        ``index``, ``mean_probability``, ``confidence``, ``detected_by``, ``certainty`` of each component.
    whole : (X, Y, Z) float, optional
        Probability of whole lesion on the scan's own grid; without it the bounds by probability are missing.
    shows_edema : bool
        Whether edema could be told: a person drew it, or the networks saw FLAIR or T2w. On T1w alone with contrast
        agent its label is a guess, and its volumes are missing.
    """

    components: np.ndarray
    table: pd.DataFrame
    whole: np.ndarray | None = None
    shows_edema: bool = True


def read_evidence(components: Path, table: Path, probabilities: Path, sidecar: Path) -> Evidence:
    """Read what the segmentation has left beside the tissue labels of a scan."""
    return Evidence(
        read_labels(components).data,
        schema.read_tsv(table),
        read_probabilities(probabilities).data,
        sidecars.read_json(sidecar)["ShowsEdema"],
    )


def join_evidence(parts: pd.DataFrame, n_voxels: np.ndarray) -> dict[str, Any]:
    """Say how sure a lesion is from what is known of its parts: confirmed if one of them is.

    Parameters
    ----------
    parts : DataFrame
        ``mean_probability``, ``confidence``, ``detected_by``, ``certainty``; missing where nothing is known.
    n_voxels : (n_parts,) int
        Their sizes, for the mean.
    """
    seen, said = (set(parts[name].dropna()) for name in ("detected_by", "certainty"))
    both = "both" in seen or {"detection", "resegmentation"} <= seen
    weights = np.asarray(n_voxels, float)
    return {
        "mean_probability": float((parts["mean_probability"].to_numpy(float) * weights).sum() / weights.sum()),
        "confidence": float(parts["confidence"].astype(float).max()),
        "detected_by": "both" if both else next((name for name in DETECTED_BY if name in seen), None),
        "certainty": next((name for name in ("confirmed", "candidate") if name in said), None),
    }


def evidence_of(instances: np.ndarray, evidence: Evidence) -> dict[int, dict[str, Any]]:
    """How sure each lesion is, from the components it is made of."""
    inside = (instances > 0) & (evidence.components > 0)
    pairs = pd.DataFrame({"instance": instances[inside], "index": evidence.components[inside]})
    counts = pairs.value_counts(["instance", "index"]).rename("n_voxels").reset_index()
    parts = counts.merge(evidence.table, on="index").sort_values(["instance", "index"])
    return {
        n: join_evidence(of, of["n_voxels"].to_numpy())
        for n, of in ((int(of["instance"].iloc[0]), of) for _, of in parts.groupby("instance"))
    }
