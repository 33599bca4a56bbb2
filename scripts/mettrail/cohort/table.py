"""The cohort table: its columns, how it is read, and what it says of sessions that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

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


def columns(sequences: list[str]) -> list[str]:
    """Return the columns of the cohort table, in order."""
    return [
        *IDENTITY, "order", "days", "prior", "usable", "reason", "detail", "flags",
        "reference", *sequences, "labels", *CLINICAL, "treatment_start_day",
    ]  # fmt: skip


def exclude(row: dict, reason: str, detail: str) -> None:
    """Mark a session as one that cannot be used; the first reason stays."""
    if row["usable"] == "true":
        row |= {"usable": "false", "reason": reason, "detail": " ".join(detail.split())}


def empty(sequences: list[str]) -> pd.DataFrame:
    """Return a cohort table of nobody."""
    return pd.DataFrame(columns=columns(sequences), dtype=str)


def read_cohort(path: Path) -> pd.DataFrame:
    """Read a cohort table as text; missing is ``n/a``."""
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


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
                exclude(row, f"failed_{failure.stage}", detail)
    return marked


def name_priors(table: pd.DataFrame) -> pd.DataFrame:
    """Return a cohort table in which each visit names the last usable one before it; rows in order of time."""
    table = table.copy()
    for _, visits in table.groupby("sub"):
        last = "n/a"
        for index, row in visits.iterrows():
            table.loc[index, "prior"] = last
            last = row["ses"] if row["usable"] == "true" else last
    return table


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
                "n_subthreshold": facts.get("n_subthreshold"),
                "edema_unassigned_mm3": facts.get("edema_unassigned_mm3"),
                "slice_spacing_mm": facts.get("slice_spacing_mm"),
                "flags": row["flags"],
                **{name: row[name] for name in CLINICAL if row[name] != "n/a"},
            }
        )
    return pd.DataFrame(sessions).convert_dtypes()


def describe_problems(rows: list[dict]) -> list[str]:
    """Return `list_problems` as lines to print."""
    return [
        f"{'DOUBT' if p['stage'] == 'doubt' else 'LEFT OUT'} {p['sub']}_ses-{p['ses']}: {p['reason']}: {p['detail']}"
        for p in list_problems(rows)
    ]


def list_problems(rows: list[dict]) -> list[dict]:
    """Return why sessions of the cohort table could not be used, or what about them is doubtful.

    Each has sub, ses, stage, reason, detail, log. The stage is ``doubt`` and the reason the flags of a session that is
    used although something is amiss.
    """
    problems = []
    for row in rows:
        if row["usable"] == "true" and row["detail"] != "n/a":
            problems.append(
                {"sub": f"sub-{row['sub']}", "ses": row["ses"], "stage": "doubt", "reason": row["flags"],
                 "detail": row["detail"], "log": ""}
            )  # fmt: skip
        if row["usable"] != "true":
            detail, _, log = row["detail"].partition(" (log: ")
            stage = row["reason"].removeprefix("failed_") if row["reason"].startswith("failed_") else "index"
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
