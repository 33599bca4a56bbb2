"""The cohort table: its columns, and what it says of sessions that are excluded or require review."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mettrail import jobs, schema
from mettrail.reasons import Reason
from mettrail.schema import MISSING

# A row of the cohort table: text by column, n/a where something is missing.
Row = dict[str, str]
# Something given that is not used, by the columns of `NOT_USED`.
Unused = dict[str, str]
# What `list_problems` describes; those of the cohort or of a patient have no session.
Problem = dict[str, Any]
# What is written of a warning: its flag, and a sentence.
Warned = tuple[Reason, str]

IDENTITY = ["sub", "ses"]
# Columns of sub-*_sessions.tsv that later stages read; kept where they exist.
CLINICAL = [
    "image_quality",
    "contrast",
    "dexamethasone_equiv_mg_per_day",
    "steroid_status",
    "clinical_status",
    "kps",
    "ecog",
    "clinical_tumour_related",
]
NOT_USED = ["what", "sub", "reason", "detail"]
# Of what is found in the course of a run.
PROBLEM = ["sub", "stage", "reason", "detail"]
# So many files with one reason are named one by one; of more, only the first.
NAMED = 3
# What stages of problems that are no failures are called where they are printed.
_PRINTED = {"warning": "WARNING", "not used": "NOT USED"}


@dataclass(frozen=True)
class Cohort:
    """What a dataset gives a run.

    Parameters
    ----------
    sessions : table
        One row per session, all columns text (see `columns`); missing is ``n/a``.
    participants : dict
        The row of participants.tsv by label, for every patient whose label can be used; always has participant_id and
        treatment_start_day.
    not_used : list of dict
        What was given and is not used: `NOT_USED` of each (see `leave_unused`).
    treatments : dict
        By label, for patients who have any: one row per treatment and target (see `treatments.Treatments`).
    """

    sessions: pd.DataFrame
    participants: dict[str, Row] = field(default_factory=dict)
    not_used: list[Unused] = field(default_factory=list)
    treatments: dict[str, list[Row]] = field(default_factory=dict)


def columns(sequences: list[str]) -> list[str]:
    """Return the columns of the cohort table, in order."""
    return [
        *IDENTITY, "order", "days", "prior", "usable", "reason", "detail", "flags",
        "reference", *sequences, "labels", *CLINICAL, "treatment_start_day",
    ]  # fmt: skip


def exclude(row: Row, reason: Reason, detail: str) -> None:
    """Exclude a session; the first reason stays."""
    if row["usable"] == "true":
        row |= {"usable": "false", "reason": reason.value, "detail": " ".join(detail.split())}


def warn(row: Row, flag: str, detail: str) -> None:
    """Flag a session, and say why unless it is excluded."""
    flags = [each for each in row["flags"].split(";") if each not in ("", MISSING)]
    row["flags"] = ";".join(dict.fromkeys([*flags, flag]))
    if row["usable"] == "true":
        said = row["detail"] if row["detail"] != MISSING else ""
        row["detail"] = f"{said} {detail}".strip() or MISSING


def empty(sequences: list[str]) -> Cohort:
    """Return a cohort without patients."""
    return Cohort(make_sessions([], columns(sequences)), {}, [])


def leave_unused(what: str, sub: str, reason: Reason, detail: str) -> Unused:
    """Return that something given is not used: what (a path, or a file and its line), whose it seems to be, and why."""
    texts = {"what": what, "sub": sub or "n/a", "reason": reason.value, "detail": detail}
    return {key: _in_one_line(text) for key, text in texts.items()}


def make_sessions(rows: Sequence[Row | list[str]], names: list[str]) -> pd.DataFrame:
    """Return rows as a table of text."""
    return pd.DataFrame(rows, columns=names).astype("str")


def as_tsv(rows: Iterable[Iterable[str]]) -> str:
    """Return rows of text, the header first, as a TSV."""
    return "".join("\t".join(cells) + "\n" for cells in rows)


def _in_one_line(text: str) -> str:
    """Escape what would break a line of a table: names of files may hold tabs, newlines and undecodable bytes."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def mark_failed(rows: Sequence[Row], failures: Iterable[jobs.NoResult]) -> list[Row]:
    """Return rows of the cohort table in which sessions whose jobs failed are excluded, with the reason.

    Parameters
    ----------
    rows : list of dict
    failures : list of `jobs.NoResult`
        One without a session concerns all sessions of the patient.
    """
    marked = [dict(row) for row in rows]
    for failure in failures:
        for row in marked:
            if row["sub"] == failure.sub and failure.ses in (None, row["ses"]):
                detail = f"{failure.detail} (log: {failure.log})"
                exclude(row, Reason.failed(failure.stage), detail)
    return marked


def name_priors(table: pd.DataFrame) -> pd.DataFrame:
    """Return a cohort table, in order of time, in which each session names its prior: the last usable one before it."""
    last: dict[str, str] = {}
    priors = []
    for sub, ses, usable in zip(table["sub"], table["ses"], table["usable"]):
        priors.append(last.get(sub, "n/a"))
        if usable == "true":
            last[sub] = ses
    return table.assign(prior=pd.Series(priors, index=table.index, dtype="str"))


def describe_sessions(rows: Sequence[Row], registries: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the facts about a patient's sessions that the response criteria need, evaluable or not.

    Parameters
    ----------
    rows : list of dict
        The patient's rows of the cohort table.
    registries : list of dict
        Of the sessions that were matched (`matching.match_lesions`).
    """
    known = {registry["session_id"]: registry["session"] for registry in registries}
    sessions = []
    for row in rows:
        facts = known.get(f"ses-{row['ses']}", {})
        sessions.append(
            {
                "participant_id": f"sub-{row['sub']}",
                "session_id": f"ses-{row['ses']}",
                "order": int(row["order"]),
                "days": None if row["days"] == "n/a" else float(row["days"]),
                "evaluable": bool(facts.get("evaluable", False)),
                "ne_reason": facts.get("ne_reason") or row["reason"],
                "registration_qc": facts.get("registration_qc"),
                "head_volume_ratio": facts.get("head_volume_ratio"),
                **{name: facts.get(name) for name in schema.BRAIN},
                "labels_auc": facts.get("labels_auc"),
                "n_subthreshold": facts.get("n_subthreshold"),
                "edema_unassigned_mm3": facts.get("edema_unassigned_mm3"),
                "cavity_ml": facts.get("cavity_ml"),
                "slice_spacing_mm": facts.get("slice_spacing_mm"),
                "residual_shift_mm": facts.get("residual_shift_mm"),
                "flags": ";".join([*(f for f in [row["flags"]] if f != "n/a"), *facts.get("flags", [])]) or "n/a",
                **{name: row[name] for name in CLINICAL if row[name] != "n/a"},
            }
        )
    return pd.DataFrame(sessions).convert_dtypes()


def describe_problems(rows: Sequence[Row], not_used: Iterable[Unused] = ()) -> list[str]:
    """Return `list_problems`, and what was given and is not used, as lines to print."""
    lines = [
        f"{_PRINTED.get(p['stage'], 'EXCLUDED')} {p['sub']}_ses-{p['ses']}: {p['reason']}: {p['detail']}"
        for p in list_problems(rows)
    ]
    return lines + [f"NOT USED {p['detail']}" for p in list_not_used(not_used)]


def list_not_used(not_used: Iterable[Unused]) -> list[Problem]:
    """Return what was given and is not used as problems, see `list_problems`; many with one reason as one."""
    by_reason: dict[str, list[Unused]] = {}
    for item in not_used:
        by_reason.setdefault(item["reason"], []).append(item)
    problems: list[Problem] = []
    for reason, items in by_reason.items():
        if len(items) <= NAMED:
            said = [(item["sub"], f"{item['what']}: {reason}: {item['detail']}") for item in items]
        else:
            names = ", ".join(item["what"] for item in items[:NAMED])
            said = [("n/a", f"{len(items)} times {reason}: {names}, … (all: not_used.tsv): {items[0]['detail']}")]
        problems += [
            {"sub": "" if sub == "n/a" else f"sub-{sub}", "ses": None, "stage": "not used", "reason": reason,
             "detail": detail, "log": ""}
            for sub, detail in said
        ]  # fmt: skip
    return problems


def list_problems(rows: Iterable[Row]) -> list[Problem]:
    """Return why sessions of the cohort table are excluded, and the warnings about others.

    Each has sub, ses, stage, reason, detail, log. A warning has the stage ``warning`` and the flags as reason.
    """
    problems: list[Problem] = []
    for row in rows:
        if row["usable"] == "true" and row["detail"] != "n/a":
            problems.append(
                {"sub": f"sub-{row['sub']}", "ses": row["ses"], "stage": "warning", "reason": row["flags"],
                 "detail": row["detail"], "log": ""}
            )  # fmt: skip
        if row["usable"] != "true":
            detail, _, log = row["detail"].partition(" (log: ")
            stage = Reason.of(row["reason"]).stage or "index"
            problems.append(
                {
                    "sub": f"sub-{row['sub']}",
                    "ses": row["ses"],
                    "stage": stage,
                    "reason": row["reason"],
                    "detail": detail,
                    "log": log.removesuffix(")"),
                }
            )
    return problems


def write_problems(problems: Iterable[Mapping[str, str]], path: str | Path) -> None:
    """Write what is found wrong in a patient's tables only in the course of a run.

    Each problem has sub (``sub-A``), stage (``not used`` or ``warning``), reason and detail.
    """
    schema.write_tsv(pd.DataFrame(list(problems), columns=PROBLEM), Path(path))


def read_problems(paths: Iterable[str | Path]) -> list[Problem]:
    """Read what `write_problems` wrote, as `list_problems` lists problems."""
    rows = [row for path in paths for row in schema.read_tsv(Path(path), text=PROBLEM).to_dict("records")]
    return [{str(name): value for name, value in row.items()} | {"ses": None, "log": ""} for row in rows]


def describe_found(paths: Iterable[str | Path]) -> list[str]:
    """Return the same as lines to print; a patient without results has none."""
    rows = read_problems(path for path in paths if Path(path).exists() and not jobs.explain(path))
    return [f"{_PRINTED[row['stage']]} {row['sub']}: {row['detail']}" for row in rows]
