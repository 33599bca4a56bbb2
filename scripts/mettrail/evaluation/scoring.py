"""Predictions of several methods against manual segmentations: the tables of the papers, a page and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from mettrail import __version__, schema, sidecars
from mettrail.errors import InputError
from mettrail.evaluation import inputs, metrics, page, probabilities, scores, statistics
from mettrail.evaluation.inputs import Key
from mettrail.evaluation.metrics import Rules
from mettrail.evaluation.probabilities import Threshold
from mettrail.report import charts


@dataclass(frozen=True)
class Settings:
    """What is scored besides label maps, and how.

    Parameters
    ----------
    labelled_only : bool
        Exclude predictions without labels, instead of refusing them.
    masks, priors, aligned, bids
        See `inputs.read_sessions`. Probability maps are scored where there are brain masks.
    probabilities : str, optional
        Which probability map is meant where a session has several: its ``desc-``.
    thresholds : mapping
        Name of a method to what `probabilities.choose_threshold` takes.
    validation : (2,) path, optional
        See `probabilities.choose_threshold`.
    rules : Rules
        What is done in more than one way.
    """

    labelled_only: bool = False
    masks: Path | None = None
    priors: Path | None = None
    aligned: bool = False
    bids: Path | None = None
    probabilities: str | None = None
    thresholds: Mapping[str, str] = field(default_factory=dict)
    validation: tuple[Path, Path] | None = None
    rules: Rules = metrics.RULES


class Scored(NamedTuple):
    """Tables of what was scored: ``evaluation_scans``, ``_lesions``, ``_probabilities`` and ``_froc`` of the schema."""

    scans: pd.DataFrame
    lesions: pd.DataFrame
    probabilities: pd.DataFrame
    froc: pd.DataFrame


def score_methods(methods: Mapping[str, Path], labels: Path, settings: Settings | None = None) -> Scored:
    """Score every method on every labelled session.

    Parameters
    ----------
    methods : mapping
        Name to folder of predictions. Probability maps (``*_probseg.nii*``) beside them are scored where there are
        brain masks.
    labels : path
        Folder of labels.
    settings : Settings, optional
    """
    settings = settings or Settings()
    truths = inputs.find_maps(labels)
    predictions = {
        name: inputs.find_predictions(folder, truths, labelled_only=settings.labelled_only)
        for name, folder in methods.items()
    }
    maps = _find_probabilities(methods, settings)
    thresholds = _choose_thresholds(truths, maps, settings)
    scans, lesions, scored, by_threshold = [], [], [], []
    for session in inputs.read_sessions(
        truths, masks=settings.masks, priors=settings.priors, aligned=settings.aligned, bids=settings.bids
    ):
        key = session.sub, session.ses
        for name, files in predictions.items():
            predicted = inputs.read_tissue(files[key])
            rows = scores.score_scan(predicted, session, settings.rules)
            n_new = next(row["n_new"] for row in rows if row["tissue"] == "whole")
            about: dict[str, Any] = {
                "method": name,
                "participant_id": f"sub-{session.sub}",
                "session_id": f"ses-{session.ses}",
                "first_session": session.first,
                "known_only": False if session.first else None if n_new is None else n_new == 0,
            }
            scans += [about | row for row in rows]
            lesions += [about | row for row in scores.score_lesions(predicted, session)]
            if key in maps.get(name, {}):
                probability = inputs.read_lesion_probability(maps[name][key], session.truth)
                scored.append(about | probabilities.score_probability(probability, session, thresholds.get(name)))
                counted = probabilities.count_by_threshold(probability, session, settings.rules)
                by_threshold += [about | row for row in counted]
    return Scored(
        schema.make_table(scans, "evaluation_scans"),
        schema.make_table(lesions, "evaluation_lesions"),
        schema.make_table(scored, "evaluation_probabilities"),
        probabilities.pool_by_threshold(pd.DataFrame(by_threshold), settings.rules),
    )


def _find_probabilities(methods: Mapping[str, Path], settings: Settings) -> dict[str, dict[Key, Path]]:
    """Probability maps of the methods that have any; none without brain masks."""
    return {
        name: inputs.find_maps(folder, kind="probseg", desc=settings.probabilities)
        for name, folder in methods.items()
        if settings.masks and any(Path(folder).glob("sub-*/ses-*/anat/*_probseg.nii*"))
    }


def _choose_thresholds(
    truths: Mapping[Key, Path], maps: Mapping[str, Mapping[Key, Path]], settings: Settings
) -> dict[str, Threshold]:
    chosen = {
        name: probabilities.choose_threshold(
            given, validation=settings.validation, labels=truths, desc=settings.probabilities
        )
        for name, given in settings.thresholds.items()
    }
    lacking = sorted(set(chosen) - set(maps))
    if lacking:
        raise InputError(
            "--threshold-from",
            found=f"{', '.join(lacking)}: no probability maps that could be scored",
            expected="methods with *_probseg.nii.gz beside their label maps, and --masks",
            advice="Add them, or omit the threshold.",
        )
    return chosen


def evaluate(
    methods: Mapping[str, Path],
    labels: Path,
    out: Path,
    *,
    reference: str | None = None,
    settings: Settings | None = None,
) -> None:
    """Score methods and write their tables (CSV and JSON), a picture and a page.

    Parameters
    ----------
    methods, labels, settings
        As for `score_methods`.
    out : path
        Folder of ``scans``, ``lesions``, ``probabilities``, ``froc``, ``summary``, ``tests``, of ``froc.svg`` and of
        ``evaluation.md``, made when missing.
    reference : str, optional
        The method that the others are tested against; the last one if not given.
    """
    settings = settings or Settings()
    reference = reference or list(methods)[-1]
    scored = score_methods(methods, labels, settings)
    tests = [
        *statistics.compare_methods(scored.scans, reference),
        *statistics.compare_numbers(scored.scans, scored.probabilities),
        *statistics.correlate_size(scored.lesions),
    ]
    written = scored._asdict() | {
        "summary": statistics.summarise(*scored),
        "tests": schema.make_table(tests, "evaluation_tests"),
    }
    out, maker = Path(out), sidecars.describe_maker(version=__version__)
    for name, table in written.items():
        schema.write_csv_mirror(table, out / f"{name}.csv", f"evaluation_{name}", maker=maker)
    charts.draw_froc(scored.froc[(scored.froc["subset"] == "all") & ~scored.froc["merging"]], out / "froc.svg")
    text = page.make_page(written, methods, labels, reference=reference, settings=vars(settings))
    (out / "evaluation.md").write_text(text, encoding="utf-8")


def read_pairs(arguments: Sequence[str], *, example: str) -> dict[str, str]:
    """Read ``NAME=VALUE`` arguments.

    >>> read_pairs(["ours=a/b"], example="ours=a/b")
    {'ours': 'a/b'}
    """
    pairs: dict[str, str] = {}
    for argument in arguments:
        name, _, value = argument.partition("=")
        if not name or not value or name in pairs:
            raise InputError(
                argument,
                found="a name twice" if name in pairs else "no NAME=VALUE",
                expected="NAME=VALUE for each method, each name once",
                advice=f"E.g. {example}",
            )
        pairs[name] = value
    return pairs
