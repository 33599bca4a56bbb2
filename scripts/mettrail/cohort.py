"""From a BIDS folder to the cohort table: one row per session, in order of time, each naming its prior session.

The table is made once and kept beside the results; it is made again when the folder's listing has changed. Every scan
is opened here, so that one nobody could use never reaches a job, and its session is in the table with the reason.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import pandas as pd

from mettrail.errors import InputError
from mettrail.images import TISSUE_LABELS, read_image, read_labels, require_same_grid

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
SINCE_TREATMENT = "days_from_treatment"
DAY_COLUMNS = ["days_from_baseline", SINCE_TREATMENT]
LABEL = re.compile(r"^[a-zA-Z0-9]+$")


def columns(sequences: list[str]) -> list[str]:
    """Return the columns of the cohort table, in order."""
    return [
        *IDENTITY, "order", "days", "prior", "usable", "reason", "detail", "flags",
        "reference", *sequences, "labels", *CLINICAL, "treatment_start_day",
    ]  # fmt: skip


def load_cohort(bids: Path, out: Path, **settings) -> pd.DataFrame:
    """Return the cohort table, made anew only where the dataset or the settings have changed.

    Parameters
    ----------
    bids, out : Path
        The dataset, and the results folder where ``cohort.tsv`` and what is needed to know its age are kept.
    **settings
        As for `index_cohort`.

    Returns
    -------
    table : one row per session, all columns text; missing is ``n/a``.
    """
    table_path, memory = out / "cohort.tsv", out / "logs" / "index"
    listing_path = memory / "listing.json"
    listing = _listing_digest(bids, settings)
    if table_path.exists() and listing_path.exists() and json.loads(listing_path.read_text()) == listing:
        return read_cohort(table_path)
    table = index_cohort(bids, checks_path=memory / "checks.json", **settings)
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(table_path, sep="\t", index=False)
    listing_path.write_text(json.dumps(listing))
    return read_cohort(table_path)


def read_cohort(path: Path) -> pd.DataFrame:
    """Read a cohort table as text; missing is ``n/a``."""
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def index_cohort(
    bids: Path,
    *,
    reference: str,
    sequences: list[str],
    labels_folder: str,
    labels_sessions: list[str],
    edits: str,
    checks_path: Path,
) -> pd.DataFrame:
    """Index a BIDS dataset, check every scan, order the visits.

    Parameters
    ----------
    bids : Path
        Folder of the dataset.
    reference : str
        The image lesions are measured on, e.g. ``ce-gadolinium_T1w``; ``T1w`` means one without contrast agent.
    sequences : list of str
        Other images, e.g. ``["T1w", "T2w", "FLAIR"]``.
    labels_folder, labels_sessions : str, list of str
        Derivatives folder with masks drawn by people, and the sessions to take (``01``, ``sub-A_ses-01``); empty: all.
    edits : str
        TSV with columns sub, ses, column, value: corrections by people, applied last.
    checks_path : Path
        Where the outcome of opening each file is remembered by name, size and time.
    """
    bids = Path(bids)
    if not bids.is_dir():
        raise InputError(
            bids or "config: bids",
            found="no such folder" if str(bids) else "no folder given",
            expected="a BIDS dataset",
            advice="Give it on the command line: --config bids=FOLDER out=FOLDER",
        )
    scans = _find_scans(bids)
    wanted = [reference, *[s for s in sequences if s != reference]]
    sequences = wanted[1:]
    subjects = sorted({s["sub"] for s in scans} | {p.name[4:] for p in bids.glob("sub-*") if p.is_dir()})
    # A dataset may hold nobody yet; a folder that is no dataset is a mistake.
    if not subjects and not (bids / "dataset_description.json").exists():
        raise InputError(
            bids,
            found="no sub-* folder and no dataset_description.json",
            expected="a BIDS dataset (sub-*/ses-*/anat/*_T1w.nii.gz)",
            advice="Point bids= at the folder that holds the participants' folders.",
        )
    rows = []
    for sub in subjects:
        info = _session_info(bids, sub)
        folders = [p.name[4:] for p in (bids / f"sub-{sub}").glob("ses-*") if p.is_dir()]
        found = {s["ses"] for s in scans if s["sub"] == sub}
        for ses in sorted(found | set(folders) | set(info)):
            rows.append(
                _session_row(sub, ses, scans, reference, sequences, info.get(ses, {}), labels_folder, labels_sessions)
            )
    _check_files(bids, rows, sequences, checks_path)
    table = pd.DataFrame(rows, columns=[*columns(sequences), "time"])
    table = _apply_edits(table, edits)
    return _order_visits(table, _read_participants(bids))[columns(sequences)]


# ---------------------------------------------------------------------------------------------------------- finding


def _find_scans(bids: Path) -> list[dict]:
    """List anatomical scans with their entities, through pybids, asked once."""
    from bids import BIDSLayout
    from bids.layout import BIDSLayoutIndexer

    indexer = BIDSLayoutIndexer(validate=False, index_metadata=False, ignore=["derivatives", "sourcedata", "code"])
    layout = BIDSLayout(bids, validate=False, derivatives=False, indexer=indexer)
    scans = []
    for entry in layout.get(datatype="anat", extension=[".nii", ".nii.gz"]):
        entities = entry.get_entities()
        agent, suffix = entities.get("ceagent"), entities.get("suffix")
        scans.append(
            {
                "sub": entities["subject"],
                # A dataset of single visits has no session folders.
                "ses": entities.get("session", "1"),
                "role": f"ce-{agent}_{suffix}" if agent else suffix,
                "path": str(Path(entry.path).relative_to(bids.absolute())),
            }
        )
    return sorted(scans, key=lambda s: s["path"])


def _session_info(bids: Path, sub: str) -> dict[str, dict]:
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


def order_sessions(bids: Path | None, sub: str, sessions: Iterable[str]) -> tuple[list[str], bool]:
    """Put labels of a patient's sessions in order of time, by what stands in the dataset, if there is one.

    Returns
    -------
    sessions : list of str
    dated : bool
        Whether every session has a date, or every one a day; if not, they are in the order of their labels.

    Raises
    ------
    InputError
        A date or a day that cannot be read.
    """
    try:
        info = _session_info(Path(bids), sub) if bids else {}
        times = {ses: _read_time(info.get(ses, {})) for ses in sessions}
    except ValueError as err:
        raise InputError(
            Path(bids) / f"sub-{sub}",
            found=str(err),
            expected="dates or days that can be read",
            advice="Correct it in the sessions' table.",
        ) from err
    dated = len({time.partition(":")[0] for time in times.values()}) == 1 and "n/a" not in times.values()
    return sorted(times, key=lambda ses: (_time(times[ses]) if dated else 0, _natural(ses))), dated


def _session_row(sub, ses, scans, reference, sequences, info, labels_folder, labels_sessions) -> dict:
    row = dict.fromkeys([*columns(sequences), "time"], "n/a")
    row |= {"sub": sub, "ses": ses, "usable": "true", "flags": ""}
    row |= {key: info[key] for key in CLINICAL if info.get(key, "n/a") not in ("", "n/a")}
    try:
        row["time"] = _read_time(info)
    except ValueError as err:
        where = f"sub-{sub}/sub-{sub}_sessions.tsv, ses-{ses}"
        _exclude(
            row,
            "bad_date",
            f"{where}: found {err}; correct it (a shifted date is fine if order and distances are true).",
        )
    flags = []
    if not LABEL.match(sub) or not LABEL.match(ses):
        _exclude(row, "bad_label", f"labels sub-{sub}, ses-{ses}: only letters and digits are allowed")
    mine = [s for s in scans if s["sub"] == sub and s["ses"] == ses]
    for role in [reference, *sequences]:
        paths = [s["path"] for s in mine if s["role"] == role]
        key = "reference" if role == reference else role
        if len(paths) == 1:
            row[key] = paths[0]
        elif len(paths) > 1 and role == reference:
            _exclude(
                row,
                "ambiguous_scan",
                f"{len(paths)} scans claim the role {role}: {', '.join(paths)}; expected one. "
                f"Name the right one in index.edits (column reference) or move the others away.",
            )
        elif len(paths) > 1:
            flags.append(f"{role}_ambiguous")
        elif role == reference:
            roles = sorted({s["role"] for s in mine}) or ["nothing"]
            _exclude(
                row,
                "no_contrast" if role.startswith("ce-") else "no_reference",
                f"no {role} among the scans of sub-{sub}_ses-{ses} (found: {', '.join(roles)}); expected one "
                f"sub-{sub}_ses-{ses}_{role}.nii.gz. Add it, or set `reference` to a sequence the dataset has.",
            )
    if labels_folder and (not labels_sessions or {ses, f"ses-{ses}", f"sub-{sub}_ses-{ses}"} & set(labels_sessions)):
        _find_given_labels(row, Path(labels_folder), required=bool(labels_sessions))
    row["flags"] = ";".join(flags)
    return row


def _find_given_labels(row: dict, folder: Path, *, required: bool) -> None:
    if not folder.is_dir():
        raise InputError(
            folder,
            found="no such folder",
            expected="a derivatives folder with sub-*/ses-*/anat/*_dseg.nii.gz",
            advice="Correct labels.folder, or leave it empty.",
        )
    maps = sorted(folder.glob(f"sub-{row['sub']}/ses-{row['ses']}/anat/*_dseg.nii*"))
    if len(maps) == 1:
        row["labels"] = str(maps[0].absolute())
    elif len(maps) > 1:
        _exclude(
            row,
            "ambiguous_labels",
            f"{len(maps)} label maps for one session: {', '.join(map(str, maps))}; expected one. "
            f"Keep the one that is meant.",
        )
    elif required:
        _exclude(
            row,
            "no_labels",
            f"labels.sessions names this session but {folder}/sub-{row['sub']}/ses-{row['ses']}/anat holds no "
            f"*_dseg.nii.gz; add it or take the session off the list.",
        )


def _read_time(info: dict) -> str:
    """Return ``date:ISO``, ``day:N`` or ``treatment:N`` (days since its start), or n/a where none is given.

    Raises
    ------
    ValueError
        Says what was found and expected.
    """
    acq = info.get("acq_time", "n/a")
    if acq not in ("", "n/a"):
        try:
            return "date:" + datetime.fromisoformat(acq.removesuffix("Z")).replace(tzinfo=None).isoformat()
        except ValueError as err:
            raise ValueError(f"acq_time {acq!r}, expected an ISO 8601 time, e.g. 2019-03-12T00:00:00") from err
    for column in DAY_COLUMNS:
        day = info.get(column, "n/a")
        if day not in ("", "n/a"):
            number = _number(day)
            if not math.isfinite(number):
                raise ValueError(f"{column} {day!r}, expected a number of days")
            return f"{'treatment' if column == SINCE_TREATMENT else 'day'}:{number}"
    return "n/a"


def _exclude(row: dict, reason: str, detail: str) -> None:
    """Mark a session as one that cannot be used; the first reason stays."""
    if row["usable"] == "true":
        row |= {"usable": "false", "reason": reason, "detail": " ".join(detail.split())}


# --------------------------------------------------------------------------------------------------------- checking


def _check_files(bids: Path, rows: list[dict], sequences: list[str], checks_path: Path) -> None:
    """Open every file that would be used; remember the outcome by name, size and time."""
    memory = json.loads(checks_path.read_text()) if checks_path.exists() else {}
    jobs = {}
    for row in rows:
        if row["usable"] != "true":
            continue
        for key in ["reference", *sequences]:
            if row[key] != "n/a":
                jobs[_fingerprint(bids / row[key])] = (bids / row[key], None)
        if row["labels"] != "n/a":
            labels, scan = Path(row["labels"]), bids / row["reference"]
            jobs[_fingerprint(labels) + " on " + _fingerprint(scan)] = (labels, scan)
    new = {key: job for key, job in jobs.items() if key not in memory}
    with ThreadPoolExecutor(max_workers=4) as pool:
        memory |= dict(zip(new, pool.map(lambda job: _check_file(*job), new.values())))
    for row in rows:
        if row["usable"] != "true":
            continue
        keys = {key: _fingerprint(bids / row[key]) for key in ["reference", *sequences] if row[key] != "n/a"}
        if row["labels"] != "n/a":
            keys["labels"] = _fingerprint(Path(row["labels"])) + " on " + keys["reference"]
        for key, fingerprint in keys.items():
            problem = memory[fingerprint]
            if problem and key in ("reference", "labels"):
                _exclude(row, problem["reason"], problem["detail"])
            elif problem:
                # A session does not fall for a sequence it can be read without.
                row[key] = "n/a"
                row["flags"] = ";".join(filter(None, [row["flags"], f"{key}_{problem['reason']}"]))
    checks_path.parent.mkdir(parents=True, exist_ok=True)
    checks_path.write_text(json.dumps({key: memory[key] for key in jobs}, indent=0))


def _check_file(path: Path, on_grid_of: Path | None) -> dict | None:
    try:
        if on_grid_of is None:
            read_image(path)
        else:
            require_same_grid(read_image(on_grid_of), read_labels(path, TISSUE_LABELS))
    except InputError as err:
        detail = f"{err.what}: found {err.found}; expected {err.expected}. {err.advice}"
        return {"reason": err.reason, "detail": detail}
    return None


def _fingerprint(path: Path) -> str:
    stat = path.stat()
    return f"{path} {stat.st_size} {stat.st_mtime_ns}"


def _listing_digest(bids: Path, settings: dict) -> dict:
    """Tell the state of everything the index depends on."""
    # Written by other code, a table is not trusted: a change of this module makes it again.
    parts = [repr(sorted(settings.items())), Path(__file__).read_text()]
    folders = [Path(bids)] + ([Path(settings["labels_folder"])] if settings["labels_folder"] else [])
    for folder in folders:
        for path in sorted([*folder.glob("participants.tsv"), *folder.glob("sub-*"), *folder.glob("sub-*/**/*")]):
            if path.is_dir():
                parts.append(str(path))
            elif path.name.endswith((".nii", ".nii.gz", ".tsv")):
                parts.append(_fingerprint(path))
    if settings["edits"]:
        parts.append(Path(settings["edits"]).read_text())
    return {"bids": str(bids), "sha256": hashlib.sha256("\n".join(parts).encode()).hexdigest()}


# --------------------------------------------------------------------------------------------------------- ordering


def _apply_edits(table: pd.DataFrame, edits: str) -> pd.DataFrame:
    """Let the corrections made by people win."""
    if not edits:
        return table
    path = Path(edits)
    if not path.exists():
        raise InputError(path, found="no such file", expected="a TSV", advice="Correct index.edits or leave it empty.")
    changes = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    if list(changes.columns) != ["sub", "ses", "column", "value"]:
        raise InputError(
            path,
            found=f"columns {list(changes.columns)}",
            expected="sub, ses, column, value",
            advice="Correct the header.",
        )
    allowed = set(table.columns) - {*IDENTITY, "order", "prior", "time", "detail", "treatment_start_day"}
    for edit in changes.to_dict("records"):
        sub, ses = edit["sub"].removeprefix("sub-"), edit["ses"].removeprefix("ses-")
        mine = (table["sub"] == sub) & (table["ses"] == ses)
        if not mine.any() or edit["column"] not in allowed:
            raise InputError(
                path,
                found=f"sub-{sub} ses-{ses}, column {edit['column']!r}",
                expected=f"a session of the dataset and one of the columns {sorted(allowed)}",
                advice="Correct the line.",
            )
        table.loc[mine, edit["column"]] = edit["value"]
        if edit["column"] == "days":
            table.loc[mine, "time"] = f"day:{float(edit['value'])}"
        if edit["column"] == "reference":
            table.loc[mine, ["usable", "reason", "detail"]] = ["true", "n/a", "n/a"]
        if edit["column"] == "usable" and edit["value"] == "false" and (table.loc[mine, "reason"] == "n/a").all():
            table.loc[mine, ["reason", "detail"]] = ["excluded_by_reader", f"taken out in {path}"]
    return table


def _order_visits(table: pd.DataFrame, participants: dict[str, dict]) -> pd.DataFrame:
    """Put each patient's visits in order of time, number them, count days and name each one's prior."""
    patients = []
    for sub, visits in table.groupby("sub", sort=True):
        visits = visits.copy()
        # Visits that are left out anyway may lack a date; they come last.
        counted = visits[(visits["usable"] == "true") | (visits["time"] != "n/a")]
        kinds = {time.partition(":")[0] for time in counted["time"]}
        if kinds in ({"date"}, {"day"}, {"treatment"}):
            visits["_time"] = [_time(time) for time in visits["time"]]
            visits = visits.sort_values(["_time", "ses"], na_position="last")
            first = visits["_time"].iloc[0]
            visits["days"] = [_day(time, first) for time in visits["_time"]]
            _flag_same_dates(visits)
            visits["treatment_start_day"] = "0" if kinds == {"treatment"} else "n/a"
            if kinds != {"treatment"}:
                _place_treatment(visits, participants.get(sub, {}), first)
        else:
            # One undated visit makes the order of all of them a guess.
            visits = visits.sort_values("ses", key=lambda labels: labels.map(_natural))
            undated = [f"ses-{ses}" for ses, time in zip(counted["ses"], counted["time"]) if time == "n/a"]
            found = f"no acq_time for {', '.join(undated)}" if undated else "dates for some visits and days for others"
            why = (
                f"sub-{sub}/sub-{sub}_sessions.tsv: {found}; expected acq_time, or days_from_baseline, for every "
                "session. Visits are taken in the order of their labels, and no response can be confirmed."
            )
            for number, index in enumerate(visits.index):
                _notice(visits, index, "no_dates", "" if number else why)
        visits["order"] = [str(n) for n in range(1, len(visits) + 1)]
        usable = [ses if ok == "true" else None for ses, ok in zip(visits["ses"], visits["usable"])]
        visits["prior"] = [next((s for s in reversed(usable[:n]) if s), "n/a") for n in range(len(usable))]
        visits["flags"] = [flags or "n/a" for flags in visits["flags"]]
        patients.append(visits)
    return pd.concat(patients, ignore_index=True) if patients else table


def _notice(visits: pd.DataFrame, index: int, flag: str, detail: str) -> None:
    """Flag a visit, and say why unless it is left out for another reason."""
    visits.loc[index, "flags"] = ";".join(filter(None, [visits.loc[index, "flags"], flag]))
    if visits.loc[index, "usable"] == "true":
        said = visits.loc[index, "detail"]
        visits.loc[index, "detail"] = " ".join([said if said != "n/a" else "", detail]).strip() or "n/a"


def _flag_same_dates(visits: pd.DataFrame) -> None:
    same = visits["_time"].notna() & visits["_time"].duplicated(keep=False)
    for _, of in visits[same].groupby("_time"):
        names = " and ".join(f"ses-{ses}" for ses in of["ses"])
        for index in of.index:
            _notice(
                visits, index, "same_date",
                f"{names} have one date; expected a time of its own for each. They are taken in the order of their "
                "labels: correct acq_time, or leave one out (index.edits, usable = false).",
            )  # fmt: skip


def _place_treatment(visits: pd.DataFrame, row: dict, first) -> None:
    """Put the start of treatment on the time axis of the visits: a day as given, or counted from a date."""
    day, start = (row.get(name) or "n/a" for name in ("treatment_start_day", "treatment_start_date"))
    if day == "n/a" and start != "n/a":
        if isinstance(first, date):
            try:
                day = str((date.fromisoformat(start[:10]) - first.date()).days)
            except ValueError:
                day = start  # the response names it, when it needs it
        else:
            _notice(
                visits, visits.index[0], "treatment_date_unused",
                f"participants.tsv: treatment_start_date {start}, but the visits have days and no dates; expected "
                "treatment_start_day. The first evaluable visit is taken for the baseline.",
            )  # fmt: skip
    visits["treatment_start_day"] = day
    start_day, first_day = (_number(value) for value in (day, visits["days"].iloc[0]))
    if start_day < first_day:
        _notice(
            visits, visits.index[0], "treatment_before_scans",
            f"participants.tsv: treatment started {first_day - start_day:g} days before the first scan; expected a "
            "scan before it. The first evaluable visit is taken for the baseline: correct the date if that is wrong.",
        )  # fmt: skip


def _time(text: str):
    kind, _, value = text.partition(":")
    return None if text == "n/a" else datetime.fromisoformat(value) if kind == "date" else float(value)


def _day(time, first) -> str:
    if pd.isna(time):
        return "n/a"
    return str((time.date() - first.date()).days) if isinstance(first, date) else f"{time:g}"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _natural(label: str) -> list:
    """Sort key that puts 2 before 10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", label) if part]


# ---------------------------------------------------------------------------------------------- for the workflow to use


def without_unfinished(table: pd.DataFrame, unfinished: str | None) -> pd.DataFrame:
    """Return the cohort without sessions whose jobs failed: not usable, with the reason; priors named anew.

    Parameters
    ----------
    table : cohort table
    unfinished : path of a TSV with columns sub, ses, stage, reason, detail, log; None for none
    """
    if not unfinished:
        return table
    failures = pd.read_csv(unfinished, sep="\t", dtype=str, keep_default_na=False)
    table = table.copy()
    for failure in failures.to_dict("records"):
        mine = (table["sub"] == failure["sub"]) & (table["usable"] == "true")
        if failure["ses"] != "n/a":
            mine &= table["ses"] == failure["ses"]
        detail = f"{failure['detail']} (log: {failure['log']})"
        table.loc[mine, ["usable", "reason", "detail"]] = ["false", f"failed_{failure['stage']}", detail]
    return name_priors(table)


def name_priors(table: pd.DataFrame) -> pd.DataFrame:
    """Return a cohort table in which each visit names the last usable one before it; rows in order of time."""
    table = table.copy()
    for _, visits in table.groupby("sub"):
        last = "n/a"
        for index, row in visits.iterrows():
            table.loc[index, "prior"] = last
            last = row["ses"] if row["usable"] == "true" else last
    return table


def read_participants(bids: Path, table: pd.DataFrame) -> dict[str, dict]:
    """Return, per patient of the cohort table, the row of participants.tsv (little in it where there is none)."""
    rows = _read_participants(bids)
    out = {}
    for sub, visits in table.groupby("sub", sort=True):
        days = [day for day in visits["treatment_start_day"] if day != "n/a"]
        out[sub] = rows.get(sub, {}) | {"participant_id": f"sub-{sub}", "treatment_start_day": (days or ["n/a"])[0]}
    return out


def _read_participants(bids: Path) -> dict[str, dict]:
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


@dataclass(frozen=True)
class Settled:
    """What an earlier run has settled for a patient: the visit that gives the reference space, numbers, targets."""

    reference: str
    registries: list[str]
    trajectories: str


def find_registries(folder: str, out: Path) -> dict[str, Settled]:
    """Return, per patient of an earlier run's results, what is to be kept of it; empty without a folder.

    Raises
    ------
    InputError
        No such folder, no registry in it, or the folder that this run writes to.
    """
    if not folder:
        return {}
    found: dict[str, list[Path]] = {}
    for path in sorted(Path(folder).glob("sub-*/ses-*/anat/*_desc-lesions_registry.json")):
        found.setdefault(path.name.split("_")[0].removeprefix("sub-"), []).append(path)
    if not found or Path(folder).resolve() == Path(out).resolve():
        raise InputError(
            f"config: frozen = {folder}",
            found="no lesion registries there" if not found else "the results folder of this run",
            expected="the results folder of an earlier run",
            advice="Keep a copy of the earlier results and name it, or leave frozen empty.",
        )
    return {
        sub: Settled(
            reference=json.loads(paths[0].read_text())["reference"].get("session_id", "n/a"),
            registries=[str(path) for path in paths],
            trajectories=str(Path(folder) / f"sub-{sub}" / f"sub-{sub}_desc-lesions_trajectories.tsv"),
        )
        for sub, paths in found.items()
    }


def find_overrides(folder: Path, patients: list[str]) -> dict[str, str]:
    """Return the readers' tables (``sub-A/sub-A_desc-lesions_overrides.tsv``) by patient.

    Raises
    ------
    InputError
        No such folder, or a table of a patient that is not in the cohort.
    """
    if not folder.is_dir():
        raise InputError(
            folder,
            found="no such folder",
            expected="a folder with sub-A/sub-A_desc-lesions_overrides.tsv",
            advice="Correct overrides, or leave it empty: tables beside the scans are found by themselves.",
        )
    paths = {
        path.name.split("_")[0].removeprefix("sub-"): path for path in folder.glob("sub-*/*_desc-lesions_overrides.tsv")
    }
    for sub, path in paths.items():
        if sub not in patients:
            raise InputError(
                path,
                found=f"decisions on sub-{sub}",
                expected=f"a patient of the cohort: {', '.join(f'sub-{each}' for each in patients)}",
                advice="Correct its name, or take it away.",
            )
    return {sub: str(path) for sub, path in paths.items()}


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
