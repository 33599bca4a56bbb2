"""Means over scans and lesions, and tests between methods and groups.

Means exclude scans where prediction and labels are both empty, as a perfect score there says little; counts of false
positive lesions are means over all scans.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mettrail import schema
from mettrail.errors import InputError
from mettrail.evaluation import metrics
from mettrail.evaluation.probabilities import PROBABILITY_SCORES
from mettrail.evaluation.scores import SCORES
from mettrail.evaluation.subsets import SUBSETS, group_of_number, in_subset

SCAN_SCORES = tuple(score.name for score in SCORES)
ALWAYS = tuple(score.name for score in SCORES if score.always)
BY_NUMBER = tuple(score.name for score in SCORES if score.by_number)


def summarise(
    scans: pd.DataFrame, lesions: pd.DataFrame, probabilities: pd.DataFrame, froc: pd.DataFrame
) -> pd.DataFrame:
    """Return means by method, subset, tissue and group: the table ``evaluation_summary``."""
    rows: list[dict[str, Any]] = []
    for subset in SUBSETS:
        rows += _summarise_scans(in_subset(scans, subset), subset)
        rows += _summarise_lesions(in_subset(lesions, subset), subset)
        rows += _summarise_probabilities(in_subset(probabilities, subset), subset)
    rows += _summarise_froc(froc)
    return schema.make_table(rows, "evaluation_summary")


def _summarise_scans(scans: pd.DataFrame, subset: str) -> Iterator[dict[str, Any]]:
    for (method, tissue), part in scans.groupby(["method", "tissue"], sort=False):
        about = {"method": method, "subset": subset, "tissue": tissue}
        yield from _means(part, about, SCAN_SCORES)
        yield from _pool(part, about)
        if tissue == "whole":
            for number, some in part.groupby(group_of_number(part["n_truth"])):
                yield from _means(some, about | {"group": number}, BY_NUMBER)


def _summarise_lesions(lesions: pd.DataFrame, subset: str) -> Iterator[dict[str, Any]]:
    scores = ("lesion_found", "lesion_dsc", "lesion_ndsc")
    for method, part in lesions.groupby("method", sort=False):
        about = {"method": method, "subset": subset, "tissue": "whole"}
        renamed = part.rename(columns={name: f"lesion_{name}" for name in ("found", "dsc", "ndsc")})
        renamed["lesion_found"] = renamed["lesion_found"].astype(float)
        yield from _means(renamed, about, scores)
        yield from _means(renamed[part["found"]], about | {"group": "found"}, scores[1:])
        for band, some in renamed.groupby("diameter_group"):
            yield from _means(some, about | {"group": band}, scores)


def _summarise_probabilities(probabilities: pd.DataFrame, subset: str) -> Iterator[dict[str, Any]]:
    for method, part in probabilities.groupby("method", sort=False):
        about = {"method": method, "subset": subset, "tissue": "whole"}
        yield from _means(part, about, PROBABILITY_SCORES)
        for number, some in part.groupby(group_of_number(part["n_truth"])):
            yield from _means(some, about | {"group": number}, PROBABILITY_SCORES)


def _summarise_froc(froc: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for (method, subset), curve in froc[~froc["merging"]].groupby(["method", "subset"], sort=False):
        rates = metrics.sensitivity_at(curve["sensitivity"].to_numpy(), curve["false_per_scan"].to_numpy())
        about = {"method": method, "subset": subset, "tissue": "whole", "group": "all", "sd": None}
        about |= {"n": curve["n_lesions"].iloc[0]}
        for rate, value in zip(metrics.FROC_RATES, rates, strict=True):
            yield about | {"score": f"froc_sensitivity_{rate:g}", "mean": value}
        yield about | {"score": "froc_sensitivity", "mean": float(np.mean(rates))}


def _means(table: pd.DataFrame, about: Mapping[str, Any], scores: Sequence[str]) -> Iterator[dict[str, Any]]:
    for score in scores:
        values = (table if score in ALWAYS or "empty" not in table else table[~table["empty"]])[score].dropna()
        values = values.astype(float)
        means = {"score": score, "n": len(values), "mean": values.mean(), "sd": values.std()}
        yield {"group": "all", **about, **means}


def _pool(scans: pd.DataFrame, about: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    found, true, false = (int(scans[name].sum()) for name in ("n_found", "n_truth", "n_false"))
    for score, of in (("pooled_sensitivity", true), ("pooled_precision", found + false)):
        share = found / of if of else None
        yield {**about, "group": "all", "score": score, "n": of, "mean": share, "sd": None}


def compare_methods(scans: pd.DataFrame, reference: str) -> list[dict[str, Any]]:
    """Test whether every other method is better than one: paired one-tailed t-tests over patients.

    Only scans where both have a score count, so that both means of a patient are of the same scans.

    Raises
    ------
    InputError
        The reference is none of the methods.
    """
    names: list[str] = scans["method"].unique().tolist()
    if reference not in names:
        raise InputError(
            "--reference",
            found=reference,
            expected=f"one of {', '.join(names)}",
            advice="Name a method that is scored.",
        )
    scan = ["participant_id", "session_id"]
    rows = []
    for subset in SUBSETS:
        for tissue, part in in_subset(scans, subset).groupby("tissue", sort=False):
            of = {name: part[part["method"] == name].set_index(scan) for name in names}
            for method in [name for name in names if name != reference]:
                some = ~(of[method]["empty"] & of[reference]["empty"])
                for score in SCORES:
                    both = pd.DataFrame({"new": of[method][score.name], "old": of[reference][score.name]})
                    both = (both if score.always else both[some]).dropna().astype(float)
                    new, old = (_by_patient(both[side]) for side in ("new", "old"))
                    t, p = metrics.is_better(new, old) if score.better == "higher" else metrics.is_better(old, new)
                    about: dict[str, Any] = {"method": method, "test": "paired_t", "against": reference}
                    about |= {"subset": subset, "tissue": tissue, "group": "all", "score": score.name, "n": len(new)}
                    rows.append(about | {"statistic": t, "p": p})
    return rows


def _by_patient(scores: pd.Series) -> dict[str, list[float]]:
    return {str(who): part.tolist() for who, part in scores.groupby("participant_id")}


def compare_numbers(scans: pd.DataFrame, probabilities: pd.DataFrame) -> list[dict[str, Any]]:
    """Compare scans with 1-3, 4-10 and more lesions, two groups at a time, by method: rank-sum tests."""
    rows: list[dict[str, Any]] = []
    whole = scans[scans["tissue"] == "whole"]
    for table, scores in ((whole, BY_NUMBER), (probabilities, PROBABILITY_SCORES)):
        for method, part in table.groupby("method", sort=False):
            group = group_of_number(part["n_truth"])
            for score in scores:
                split = {
                    name: part.loc[group == name, score].dropna().astype(float).tolist()
                    for name in metrics.LESION_GROUPS
                }
                about: dict[str, Any] = {"method": method, "test": "rank_sum", "subset": "all", "tissue": "whole"}
                about |= {"score": score, "statistic": None}
                for (a, b), p in metrics.compare_groups(split).items():
                    n = len(split[a]) + len(split[b])
                    rows.append(about | {"group": a, "against": b, "n": n, "p": p})
    return rows


def correlate_size(lesions: pd.DataFrame) -> list[dict[str, Any]]:
    """Correlate lesion volume with DSC and nDSC by method (Spearman), with and without missed lesions."""
    rows = []
    for subset in SUBSETS:
        for method, part in in_subset(lesions, subset).groupby("method", sort=False):
            for group, chosen in (("all", part), ("found", part[part["found"]])):
                about = {"method": method, "test": "spearman", "against": "volume_mm3", "subset": subset}
                about |= {"tissue": "whole", "group": group, "n": len(chosen)}
                for score in ("dsc", "ndsc"):
                    rho, p = metrics.size_effect(chosen["volume_mm3"].to_numpy(), chosen[score].to_numpy())
                    rows.append(about | {"score": f"lesion_{score}", "statistic": rho, "p": p})
    return rows
