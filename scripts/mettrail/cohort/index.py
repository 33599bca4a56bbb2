"""From a BIDS folder to the cohort table: one row per session, in order of time, each naming its prior session.

The table is made once and kept beside the results; it is made again when the folder's listing has changed. Every scan
is opened here, so that one nobody could use never reaches a job, and its session is in the table with the reason.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pandas as pd

from mettrail.cohort import scans as scan_files
from mettrail.cohort.check import check_files, fingerprint
from mettrail.cohort.earlier import read_edits
from mettrail.cohort.masks import find_given_labels
from mettrail.cohort.order import add_doubts, order_visits, read_time
from mettrail.cohort.people import SessionInfo, read_people, read_session_info
from mettrail.cohort.table import CLINICAL, IDENTITY, columns, exclude, read_cohort
from mettrail.errors import InputError

LABEL = re.compile(r"^[a-zA-Z0-9]+$")


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
    scans = scan_files.find_scans(bids)
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
    people = read_people(bids, subjects)
    rows = []
    for sub in subjects:
        scans_of = {s["ses"]: s["path"] for s in scans if s["sub"] == sub and s["role"] == reference}
        try:
            info, bad_table = read_session_info(bids, sub, scans_of), ""
        except InputError as err:
            if err.reason != "bad_table":
                raise
            # A malformed table takes out its own patient, and nobody else.
            info = SessionInfo()
            bad_table = f"{err.what}: found {err.found}; expected {err.expected}. {err.advice}"
        folders = [p.name[4:] for p in (bids / f"sub-{sub}").glob("ses-*") if p.is_dir()]
        found = {s["ses"] for s in scans if s["sub"] == sub}
        for ses in sorted(found | set(folders) | set(info.rows) | set(info.out)):
            row = _session_row(sub, ses, scans, reference, sequences, info, labels_folder, labels_sessions)
            if bad_table:
                row |= {"usable": "false", "reason": "bad_table", "detail": bad_table}
            rows.append(row)
    check_files(bids, rows, sequences, checks_path)
    table = pd.DataFrame(rows, columns=[*columns(sequences), "time"])
    table = _apply_edits(table, edits)
    return add_doubts(order_visits(table, people.rows), people.doubts)[columns(sequences)]


def _session_row(sub, ses, scans, reference, sequences, info, labels_folder, labels_sessions) -> dict:
    row = dict.fromkeys([*columns(sequences), "time"], "n/a")
    row |= {"sub": sub, "ses": ses, "usable": "true", "flags": ""}
    given = info.rows.get(ses, {})
    row |= {key: given[key] for key in CLINICAL if key in given}
    row["time"] = read_time(given)
    if ses in info.out:
        exclude(row, *info.out[ses])
    flags = []
    if not LABEL.match(sub) or not LABEL.match(ses):
        exclude(row, "bad_label", f"labels sub-{sub}, ses-{ses}: only letters and digits are allowed")
    mine = [s for s in scans if s["sub"] == sub and s["ses"] == ses]
    for role in [reference, *sequences]:
        paths = [s["path"] for s in mine if s["role"] == role]
        key = "reference" if role == reference else role
        if len(paths) == 1:
            row[key] = paths[0]
        elif len(paths) > 1 and role == reference:
            exclude(
                row,
                "ambiguous_scan",
                f"{len(paths)} scans claim the role {role}: {', '.join(paths)}; expected one. "
                f"Name the right one in index.edits (column reference) or move the others away.",
            )
        elif len(paths) > 1:
            flags.append(f"{role}_ambiguous")
        elif role == reference:
            roles = sorted({s["role"] for s in mine}) or ["nothing"]
            exclude(
                row,
                "no_contrast" if role.startswith("ce-") else "no_reference",
                f"no {role} among the scans of sub-{sub}_ses-{ses} (found: {', '.join(roles)}); expected one "
                f"sub-{sub}_ses-{ses}_{role}.nii.gz. Add it, or set `reference` to a sequence the dataset has.",
            )
    if labels_folder and (not labels_sessions or {ses, f"ses-{ses}", f"sub-{sub}_ses-{ses}"} & set(labels_sessions)):
        find_given_labels(row, Path(labels_folder), required=bool(labels_sessions))
    doubts = info.doubts.get(ses, [])
    row["flags"] = ";".join(dict.fromkeys([*flags, *(flag for flag, _ in doubts)]))
    if doubts and row["usable"] == "true":
        row["detail"] = " ".join(sentence for _, sentence in doubts)
    return row


def _listing_digest(bids: Path, settings: dict) -> dict:
    """Tell the state of everything the index depends on."""
    # Written by other code, a table is not trusted: a change of this module makes it again.
    parts = [repr(sorted(settings.items())), _own_code()]
    folders = [Path(bids)] + ([Path(settings["labels_folder"])] if settings["labels_folder"] else [])
    for folder in folders:
        for path in sorted([*folder.glob("participants.tsv"), *folder.glob("sub-*"), *folder.glob("sub-*/**/*")]):
            if path.is_dir():
                parts.append(str(path))
            elif path.name.endswith((".nii", ".nii.gz", ".tsv")):
                parts.append(fingerprint(path))
    if settings["edits"] and Path(settings["edits"]).is_file():
        parts.append(Path(settings["edits"]).read_bytes().hex())
    return {"bids": str(bids), "sha256": hashlib.sha256("\n".join(parts).encode()).hexdigest()}


def _apply_edits(table: pd.DataFrame, edits: str) -> pd.DataFrame:
    """Let the corrections made by people win."""
    if not edits:
        return table
    allowed = set(table.columns) - {*IDENTITY, "order", "prior", "time", "detail", "treatment_start_day"}
    for edit in read_edits(Path(edits)):
        sub, ses = edit["sub"], edit["ses"]
        mine = (table["sub"] == sub) & (table["ses"] == ses)
        if not mine.any() or edit["column"] not in allowed:
            raise InputError(
                f"{edits}, line {edit['line']}",
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
            table.loc[mine, ["reason", "detail"]] = ["excluded_by_reader", f"taken out in {edits}"]
    return table


def _own_code() -> str:
    """Return the code of this package: written by other code, a table is not trusted and is made again."""
    return "".join(path.read_text() for path in sorted(Path(__file__).parent.glob("*.py")))
