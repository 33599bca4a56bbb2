"""The cohort table: its columns, how it is read, and what it says of sessions that cannot be used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mettrail import jobs, schema
from mettrail.reasons import Reason

IDENTITY = ["sub", "ses"]
# Columns of sub-*_sessions.tsv that later stages read; carried along where they exist.
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
# Of what turns out in the course of a run.
PROBLEM = ["sub", "stage", "reason", "detail"]
# So many files with one reason are named one by one; of more, the first ones.
NAMED = 3


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
        What was given and is not used: what, sub, reason, detail (see `leave_unused`).
    treatments : dict
        By label, for patients who have any: one row per treatment and target (see `treatments.Treatments`).
    """

    sessions: pd.DataFrame
    participants: dict[str, dict] = field(default_factory=dict)
    not_used: list[dict] = field(default_factory=list)
    treatments: dict[str, list[dict]] = field(default_factory=dict)


def columns(sequences: list[str]) -> list[str]:
    """Return the columns of the cohort table, in order."""
    return [
        *IDENTITY, "order", "days", "prior", "usable", "reason", "detail", "flags",
        "reference", *sequences, "labels", *CLINICAL, "treatment_start_day",
    ]  # fmt: skip


def exclude(row: dict, reason: Reason, detail: str) -> None:
    """Mark a session as one that cannot be used; the first reason stays."""
    if row["usable"] == "true":
        row |= {"usable": "false", "reason": reason.value, "detail": " ".join(detail.split())}


def empty(sequences: list[str]) -> Cohort:
    """Return a cohort of nobody."""
    return Cohort(make_sessions([], columns(sequences)), {}, [])


def leave_unused(what: str, sub: str, reason: Reason, detail: str) -> dict:
    """Say that something given is not used: what (a path, or a file and its line), whose it seems to be, and why."""
    texts = {"what": what, "sub": sub or "n/a", "reason": reason.value, "detail": detail}
    return {key: _in_one_line(text) for key, text in texts.items()}


def make_sessions(rows: list, names: list[str]) -> pd.DataFrame:
    """Return rows as a table of text."""
    return pd.DataFrame(rows, columns=names).astype("str")


def as_tsv(rows: Iterable[Iterable[str]]) -> str:
    """Return rows of text, the header first, as a TSV."""
    return "".join("\t".join(cells) + "\n" for cells in rows)


def _in_one_line(text: str) -> str:
    """Spell out what would break a line of a table: names of files may hold tabs, newlines and bytes of no alphabet."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def mark_failed(rows: list[dict], failures: list) -> list[dict]:
    """Return rows of the cohort table in which sessions whose jobs failed are not usable, with the reason.

    Parameters
    ----------
    rows : list of dict
    failures : list of `jobs.NoResult`
        One without a session is of all sessions of the patient.
    """
    marked = [dict(row) for row in rows]
    for failure in failures:
        for row in marked:
            if row["sub"] == failure.sub and failure.ses in (None, row["ses"]):
                detail = f"{failure.detail} (log: {failure.log})"
                exclude(row, Reason.failed(failure.stage), detail)
    return marked


def name_priors(table: pd.DataFrame) -> pd.DataFrame:
    """Return a cohort table in which each visit names the last usable one before it; rows in order of time."""
    last: dict[str, str] = {}
    priors = []
    for sub, ses, usable in zip(table["sub"], table["ses"], table["usable"]):
        priors.append(last.get(sub, "n/a"))
        if usable == "true":
            last[sub] = ses
    return table.assign(prior=pd.Series(priors, index=table.index, dtype="str"))


def describe_sessions(rows: list[dict], registries: list[dict]) -> pd.DataFrame:
    """Return what the response criteria need to know of a patient's sessions, evaluable or not.

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
                **{name: facts.get(name) for name in schema.BRAIN},
                "n_subthreshold": facts.get("n_subthreshold"),
                "edema_unassigned_mm3": facts.get("edema_unassigned_mm3"),
                "slice_spacing_mm": facts.get("slice_spacing_mm"),
                "residual_shift_mm": facts.get("residual_shift_mm"),
                "flags": ";".join([*(f for f in [row["flags"]] if f != "n/a"), *facts.get("flags", [])]) or "n/a",
                **{name: row[name] for name in CLINICAL if row[name] != "n/a"},
            }
        )
    return pd.DataFrame(sessions).convert_dtypes()


def describe_problems(rows: list[dict], not_used: Iterable[dict] = ()) -> list[str]:
    """Return `list_problems`, and what was given and is not used, as lines to print."""
    lines = [
        f"{'WARNING' if p['stage'] == 'warning' else 'EXCLUDED'} {p['sub']}_ses-{p['ses']}: "
        f"{p['reason']}: {p['detail']}"
        for p in list_problems(rows)
    ]
    return lines + [f"NOT USED {p['detail']}" for p in list_not_used(not_used)]


def list_not_used(not_used: Iterable[dict]) -> list[dict]:
    """Return what was given and is not used as problems, see `list_problems`; many of one kind as one."""
    by_reason: dict[str, list[dict]] = {}
    for item in not_used:
        by_reason.setdefault(item["reason"], []).append(item)
    problems = []
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


def list_problems(rows: list[dict]) -> list[dict]:
    """Return why sessions of the cohort table are excluded, and the warnings about others.

    Each has sub, ses, stage, reason, detail, log. A warning has the stage ``warning`` and the flags as reason.
    """
    problems = []
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


def write_problems(problems: Iterable[Mapping], path: str | Path) -> None:
    """Write what turns out of a patient's tables only in the course of a run.

    Each problem has sub (``sub-A``), stage (``not used`` or ``warning``), reason and detail.
    """
    schema.write_tsv(pd.DataFrame(list(problems), columns=PROBLEM), Path(path))


def read_problems(paths: Iterable[str | Path]) -> list[dict]:
    """Read what `write_problems` wrote, as `list_problems` lists problems."""
    rows = [row for path in paths for row in schema.read_tsv(path, text=PROBLEM).to_dict("records")]
    return [row | {"ses": None, "log": ""} for row in rows]


def describe_found(paths: Iterable[str | Path]) -> list[str]:
    """Return the same as lines to print; patients without results have none."""
    rows = read_problems(path for path in paths if Path(path).exists() and not jobs.explain(path))
    return [f"{row['stage'].upper()} {row['sub']}: {row['detail']}" for row in rows]
