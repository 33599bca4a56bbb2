"""What a dataset says of its participants and their sessions."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mettrail.errors import InputError


def read_session_info(bids: Path, sub: str) -> dict[str, dict]:
    """Read sub-*_sessions.tsv, and acq_time from the sessions' scans.tsv where it is missing there."""
    info: dict[str, dict] = {}
    path = bids / f"sub-{sub}" / f"sub-{sub}_sessions.tsv"
    if path.exists():
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        if "session_id" not in table:
            raise InputError(
                path,
                found=f"columns {list(table.columns)}",
                expected="a column session_id",
                advice="Name the sessions in a column session_id (ses-01, …), as BIDS asks.",
            )
        for row in table.to_dict("records"):
            info[str(row["session_id"]).removeprefix("ses-")] = row
    for scans in (bids / f"sub-{sub}").glob("ses-*/*_scans.tsv"):
        table = pd.read_csv(scans, sep="\t", dtype=str, keep_default_na=False)
        if "acq_time" in table and len(table):
            info.setdefault(scans.parent.name[4:], {}).setdefault("acq_time", table["acq_time"].iloc[0])
    return info


def read_people(bids: Path) -> dict[str, dict]:
    """Return the rows of participants.tsv by label; empty where there is none."""
    path = bids / "participants.tsv"
    if not path.exists():
        return {}
    participants = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    if "participant_id" not in participants:
        raise InputError(
            path,
            found=f"columns {list(participants.columns)}",
            expected="a column participant_id",
            advice="Name the participants (sub-01, …) in a column participant_id, as BIDS asks.",
        )
    names = participants["participant_id"].astype(str).str.removeprefix("sub-")
    twice = sorted(set(names[names.duplicated()]))
    if twice:
        raise InputError(
            path,
            found=f"more than one row for {', '.join(f'sub-{sub}' for sub in twice)}",
            expected="one row per participant",
            advice="Keep the row that is meant.",
        )
    return dict(zip(names, participants.to_dict("records")))


def read_participants(bids: Path, table: pd.DataFrame) -> dict[str, dict]:
    """Return, per patient of the cohort table, the row of participants.tsv (little in it where there is none)."""
    rows = read_people(bids)
    out = {}
    for sub, visits in table.groupby("sub", sort=True):
        days = [day for day in visits["treatment_start_day"] if day != "n/a"]
        out[sub] = rows.get(sub, {}) | {"participant_id": f"sub-{sub}", "treatment_start_day": (days or ["n/a"])[0]}
    return out
