"""From a BIDS folder to the cohort table: one row per session, in order of time, each naming its prior session.

The table is made once and kept beside the results; it is made again when the dataset's listing, the settings or the
code have changed. Every scan is opened here, so that one that cannot be used never reaches a job, and its session is
in the table with the reason.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mettrail import provenance
from mettrail.cohort import masks as mask_files
from mettrail.cohort import scans as scan_files
from mettrail.cohort.check import check_files
from mettrail.cohort.chosen import choose
from mettrail.cohort.earlier import read_edits
from mettrail.cohort.order import add_warnings, find_axis, order_table, read_time, rows_of
from mettrail.cohort.people import People, SessionInfo, complete_participants, read_people, read_session_info
from mettrail.cohort.table import (
    CLINICAL,
    IDENTITY,
    NOT_USED,
    Cohort,
    Row,
    Unused,
    Warned,
    as_tsv,
    columns,
    exclude,
    make_sessions,
    warn,
)
from mettrail.cohort.treatments import Treatments, place_outcomes, read_treatments, start_of
from mettrail.drawn import read_scheme
from mettrail.errors import InputError
from mettrail.files import write_whole
from mettrail.reasons import Reason
from mettrail.schema import MISSING

# The layout of what is kept: an index of another layout is made again.
FORMAT = 2
# What follows from the scans and from the order of sessions: not for people to correct.
DERIVED = ("order", "prior", "time", "reason", "detail", "treatment_start_day")
BAD_LABEL = "a label may hold letters and digits only (BIDS also allows +). Rename the folder and the files in it."


@dataclass(frozen=True)
class Asked:
    """What the settings ask of an index.

    Parameters
    ----------
    reference : str
        The image lesions are measured on, e.g. ``ce-gadolinium_T1w``; ``T1w`` means one without contrast agent.
    sequences : list of str
        Other images, e.g. ``["T1w", "T2w", "FLAIR"]``.
    labels_folder, labels_sessions : str, list of str
        Folder with manual segmentations, and the sessions to take (``01``, ``sub-A_ses-01``); empty: all.
    labels_scheme : str or mapping
        What the numbers in them mean, see `drawn.read_scheme`.
    participants, sessions, exclude : list of str
        Which of the dataset to take, see `chosen.choose`.
    edits : str
        TSV with columns sub, ses, column, value: corrections by people, which take precedence.
    """

    reference: str
    sequences: list[str]
    labels_folder: str
    labels_sessions: list[str]
    labels_scheme: str | Mapping[Any, Any]
    participants: list[str]
    sessions: list[str]
    exclude: list[str]
    edits: str

    @property
    def roles(self) -> list[str]:
        """The reference, and the other sequences."""
        return [self.reference, *[name for name in self.sequences if name != self.reference]]


def load_cohort(bids: Path, out: Path, *, keep: bool = True, **settings: Any) -> Cohort:
    """Return what a dataset holds, made anew only where the dataset, the settings or the code have changed.

    Parameters
    ----------
    bids, out : Path
        The dataset, and the results folder where the index is kept: ``cohort.tsv`` and ``not_used.tsv`` to be read by
        people, and ``logs/index`` for the next time.
    keep : bool
        Write these; False writes nothing.
    **settings
        `Asked`.

    Raises
    ------
    InputError
        What has to be corrected before anything can run.
    """
    bids, memory, asked = Path(bids), Path(out) / "logs" / "index", Asked(**settings)
    _require_folder(bids)
    listing = list_files(bids, asked.labels_folder)
    state = _digest(bids, listing, asked)
    kept = _read_kept(out)
    found = kept[1] if kept and kept[0] == state else None
    if found is None:
        found = index_cohort(bids, listing, asked, memory=memory / "checks.jsonl", keep=keep)
    if keep:
        _keep(out, state, found)
    return found


def _keep(out: Path, state: str, found: Cohort) -> None:
    names, rows = list(map(str, found.sessions)), found.sessions.to_numpy().tolist()
    kept: dict[str, Any] = {"format": FORMAT, "state": state, "columns": names, "sessions": rows}
    kept |= {"participants": found.participants, "not_used": found.not_used, "treatments": found.treatments}
    write_whole(_place(out), json.dumps(kept))
    # For people to read; they may have been removed since.
    write_whole(Path(out) / "cohort.tsv", as_tsv([names, *rows]))
    write_whole(
        Path(out) / "not_used.tsv", as_tsv([NOT_USED, *([item[key] for key in NOT_USED] for item in found.not_used)])
    )


def read_cohort(out: Path) -> Cohort:
    """Return what `load_cohort` has kept.

    Raises
    ------
    InputError
        Nothing was kept, or it is damaged.
    """
    kept = _read_kept(out)
    if kept is None:
        raise InputError(
            _place(out),
            found="no index of the dataset, or a damaged one",
            expected="the index that the main process has written there",
            advice="Start snakemake again; it makes a new one.",
        )
    return kept[1]


def _place(out: Path) -> Path:
    return Path(out) / "logs" / "index" / "cohort.json"


def _read_kept(out: Path) -> tuple[str, Cohort] | None:
    """Return the state that a kept index belongs to, and the index; None without one, or with a damaged one."""
    try:
        kept = json.loads(_place(out).read_text(encoding="utf-8"))
        if kept["format"] != FORMAT:
            return None
        sessions = make_sessions(kept["sessions"], kept["columns"])
        return kept["state"], Cohort(sessions, kept["participants"], kept["not_used"], kept["treatments"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


# ------------------------------------------------------------------------------------------------------- what there is


@dataclass(frozen=True)
class Listing:
    """The files of a dataset, and of the folder of manual segmentations."""

    bids: list[scan_files.Entry]
    labels: list[scan_files.Entry] = field(default_factory=list)


def list_files(bids: Path, labels_folder: str) -> Listing:
    """List everything the index depends on."""
    endings = (*scan_files.SCAN_ENDINGS, *scan_files.TABLES)
    labels = mask_files.list_masks(Path(labels_folder)) if labels_folder else []
    return Listing(scan_files.walk(bids, endings=endings, skip=scan_files.BESIDE), labels)


def _digest(bids: Path, listing: Listing, asked: Asked) -> str:
    """Return a digest of everything the index depends on."""
    edits = Path(asked.edits) if asked.edits else None
    parts = [
        str(bids.absolute()),
        json.dumps(asdict(asked), sort_keys=True, default=str),
        # An index made by other code is not trusted.
        provenance.source_digest(Path(__file__)),
        edits.read_text(errors="replace") if edits and edits.is_file() else "",
        *("\t".join(entry) for entry in listing.bids),
        *("\t".join(entry) for entry in listing.labels),
    ]
    return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()


def _require_folder(bids: Path) -> None:
    if not bids.is_dir():
        raise InputError(
            bids or "config: bids",
            found="no such folder" if str(bids) else "no folder given",
            expected="a BIDS dataset",
            advice="Name the dataset's folder: mettrail run FOLDER OUT, or snakemake --config bids=FOLDER out=OUT",
        )


# ----------------------------------------------------------------------------------------------------------- the index


def index_cohort(bids: Path, listing: Listing, asked: Asked, *, memory: Path, keep: bool) -> Cohort:
    """Index a BIDS dataset, check every scan, order the sessions.

    Parameters
    ----------
    bids : Path
        Folder of the dataset.
    listing : Listing
        Its files, and those of the folder of manual segmentations.
    asked : Asked
    memory : Path
        Where the outcome of opening each file is kept.
    keep : bool
        Whether to keep it.
    """
    read_scheme(asked.labels_scheme)
    roles = asked.roles
    sequences, names = roles[1:], columns(roles[1:])
    found = _find_scans(bids, listing, roles)
    patients = sorted(found.sessions)
    takes = choose(found.sessions, participants=asked.participants, sessions=asked.sessions, exclude=asked.exclude)
    people = read_people(bids, patients)
    rows: list[Row] = []
    for sub in patients:
        rows += _patient_rows(bids, sub, found, roles)
    not_used = [*found.not_used, *people.not_used]
    if asked.labels_folder or asked.labels_sessions:
        not_used += _give_masks(rows, Path(asked.labels_folder), listing.labels, asked.labels_sessions)
    # Files that a reader names are opened like all others; everything else a reader says comes last.
    files, changes = ("reference", *sequences, "labels"), read_edits(Path(asked.edits)) if asked.edits else []
    _require_sessions(rows, changes, asked.edits)
    rows, changes = ([each for each in listed if takes(each["sub"], each["ses"])] for listed in (rows, changes))
    _apply_edits(rows, [change for change in changes if change["column"] in files], asked.edits)
    check_files(bids, rows, sequences, scheme=asked.labels_scheme, memory=memory, keep=keep)
    _apply_edits(rows, [change for change in changes if change["column"] not in files], asked.edits)
    timed = make_sessions(rows, [*names, "time"])
    treatments = _treat(bids, timed, people)
    table = order_table(timed, people.rows)
    taken = set(timed["sub"])
    for warnings in (people.warnings, {sub: given.warnings for sub, given in treatments.items()}):
        table = add_warnings(table, {sub: said for sub, said in warnings.items() if sub in taken})
    table = table[names].astype("str")
    named = table[table["sub"].str.fullmatch(scan_files.LABEL.pattern).astype(bool)]
    return Cohort(
        table,
        complete_participants(people.rows, named),
        [*not_used, *(item for given in treatments.values() for item in given.not_used)],
        {sub: given.rows for sub, given in treatments.items() if given.rows},
    )


def check_dataset(bids: Path, **settings: Any) -> None:
    """Refuse a folder that is no dataset, and labels that it does not have, without opening a scan.

    Parameters
    ----------
    bids : Path
    **settings
        `Asked`.

    Raises
    ------
    InputError
    """
    bids = Path(bids)
    _require_folder(bids)
    asked = Asked(**settings)
    found = _find_scans(bids, list_files(bids, labels_folder=""), asked.roles)
    choose(found.sessions, participants=asked.participants, sessions=asked.sessions, exclude=asked.exclude)


def _find_scans(bids: Path, listing: Listing, roles: list[str]) -> scan_files.Found:
    """Return the scans of a dataset; it may hold nobody yet, but a folder that is no dataset is a mistake."""
    found = scan_files.find_scans(bids, listing.bids, roles)
    if not found.sessions and (found.not_used or not (bids / "dataset_description.json").exists()):
        elsewhere = found.not_used[0]["what"] if found.not_used else ""
        raise InputError(
            bids,
            found=f"no sub-* folder, but {elsewhere}"
            if elsewhere
            else "no sub-* folder and no dataset_description.json",
            expected="a BIDS dataset (sub-*/ses-*/anat/*_T1w.nii.gz)",
            advice="Name the folder that holds the participants' folders.",
        )
    return found


def _treat(bids: Path, table: pd.DataFrame, people: People) -> dict[str, Treatments]:
    """Read patients' treatments and outcomes; their days, and warnings about them, are added to `people`."""
    found = {}
    for label, sessions in table.groupby("sub", sort=True):
        sub = str(label)
        if not scan_files.LABEL.fullmatch(sub):
            continue
        given, axis = people.rows.get(sub, {}), find_axis(rows_of(sessions))
        found[sub] = read_treatments(bids, sub, sessions["ses"], axis, given.get("treatment_type", MISSING))
        days, warnings = place_outcomes(given, axis)
        if warnings:
            people.warnings[sub] = [*people.warnings.get(sub, []), *warnings]
        people.rows[sub] = given | days | start_of(given, found[sub], sub)
    return found


def _patient_rows(bids: Path, sub: str, found: scan_files.Found, roles: list[str]) -> list[Row]:
    """Return a row for each session of a patient that has a folder, scans, or a line in a table."""
    mine, info = found.scans.get(sub, {}), SessionInfo()
    trouble: Warned | None = None
    if not scan_files.LABEL.fullmatch(sub):
        trouble = (Reason.BAD_LABEL, f"the folder sub-{sub}: {BAD_LABEL}")
    else:
        references = {ses: [scan.path for scan in scans if scan.role == roles[0]] for ses, scans in mine.items()}
        try:
            info = read_session_info(bids, sub, {ses: paths[0] for ses, paths in references.items() if paths})
        except InputError as err:
            if err.reason != Reason.BAD_TABLE:
                raise
            # A malformed table excludes its own patient only.
            trouble = (err.reason, err.in_one_line())
    return [
        _session_row(sub, ses, mine.get(ses, []), found, roles, info, trouble)
        for ses in sorted({*mine, *found.sessions[sub], *info.rows, *info.excluded}) or ["1"]
    ]


def _session_row(
    sub: str,
    ses: str,
    scans: list[scan_files.Scan],
    found: scan_files.Found,
    roles: list[str],
    info: SessionInfo,
    trouble: Warned | None,
) -> Row:
    row: Row = dict.fromkeys([*columns(roles[1:]), "time"], "n/a") | {"sub": sub, "ses": ses, "usable": "true"}
    given = info.rows.get(ses, {})
    row |= {key: given[key] for key in CLINICAL if key in given} | {"time": read_time(given)}
    if trouble:
        exclude(row, *trouble)
    if not scan_files.LABEL.fullmatch(ses):
        exclude(row, Reason.BAD_LABEL, f"the folder or line ses-{ses} of sub-{sub}: {BAD_LABEL}")
    if ses in info.excluded:
        exclude(row, *info.excluded[ses])
    warnings: list[tuple[str, str]] = []
    for role in roles:
        paths = [scan.path for scan in scans if scan.role == role]
        key = "reference" if role == roles[0] else role
        if len(paths) == 1:
            row[key] = paths[0]
        elif len(paths) > 1 and key == "reference":
            exclude(
                row,
                Reason.AMBIGUOUS_SCAN,
                f"{len(paths)} scans claim the role {role}: {', '.join(paths)}; expected one. "
                f"Name the right one in index.edits (column reference) or move the others away.",
            )
        elif len(paths) > 1:
            said = f"{role} is not used: {len(paths)} scans, {', '.join(paths)}; keep one."
            warnings.append((Reason.AMBIGUOUS.about(role), said))
        elif key == "reference":
            reason = Reason.NO_CONTRAST if role.startswith("ce-") else Reason.NO_REFERENCE
            exclude(row, reason, _say_missing(row, scans, found, role))
    warnings += info.warnings.get(ses, [])
    for flag, sentence in warnings:
        warn(row, flag, sentence)
    return row


def _say_missing(row: Row, scans: list[scan_files.Scan], found: scan_files.Found, role: str) -> str:
    """Say that a session has no reference scan, what it has, and what in its folder was not taken."""
    name = f"sub-{row['sub']}_ses-{row['ses']}"
    roles = sorted({scan.role for scan in scans}) or ["nothing"]
    left = ", ".join(f"{item['what']} ({item['reason']})" for item in found.left_in(row["sub"], row["ses"])[:3])
    return (
        f"no {role} among the scans of {name} (found: {', '.join(roles)}); expected one {name}_{role}.nii.gz. "
        "Add it, or set `reference` to a sequence the dataset has." + (f" Not taken: {left}." if left else "")
    )


def _give_masks(rows: list[Row], folder: Path, entries: list[scan_files.Entry], entries_of: list[str]) -> list[Unused]:
    """Give each session its manual segmentation, if it is to be taken; return what is not used."""
    if not str(folder) or folder == Path():
        raise InputError(
            "config: labels.sessions",
            found=f"{len(entries_of)} sessions, and labels.folder is empty",
            expected="the folder with their segmentations",
            advice="Name it in labels.folder, or leave labels.sessions empty.",
        )
    sessions: dict[str, list[str]] = {}
    for row in rows:
        if row["reason"] != Reason.BAD_LABEL:
            sessions.setdefault(row["sub"], []).append(row["ses"])
    masks, not_used = mask_files.find_masks(folder, entries, sessions)
    chosen = mask_files.choose_sessions(entries_of, sessions)
    for row in rows:
        session = row["sub"], row["ses"]
        if not entries_of or session in chosen:
            mask_files.give_mask(row, masks.get(session, []), folder=str(folder), required=bool(entries_of))
    return not_used


# ------------------------------------------------------------------------------------------------ corrections by people


def _require_sessions(rows: list[Row], changes: list[dict[str, Any]], edits: str) -> None:
    """Refuse corrections of unknown sessions or columns, before anything is opened or written."""
    sessions = {(row["sub"], row["ses"]) for row in rows if row["reason"] != Reason.BAD_LABEL}
    allowed = set(rows[0] if rows else ()) - {*IDENTITY, *DERIVED}
    for edit in changes:
        if (edit["sub"], edit["ses"]) not in sessions or edit["column"] not in allowed:
            raise InputError(
                f"{edits}, line {edit['line']}",
                found=f"sub-{edit['sub']} ses-{edit['ses']}, column {edit['column']!r}",
                expected=f"a session of the dataset and one of the columns {sorted(allowed)}",
                advice="Correct the line.",
            )


def _apply_edits(rows: list[Row], changes: list[dict[str, Any]], edits: str) -> None:
    """Apply the corrections made by people."""
    sessions = {(row["sub"], row["ses"]): row for row in rows}
    for edit in changes:
        row, column, value = sessions[edit["sub"], edit["ses"]], edit["column"], edit["value"]
        row[column] = value
        if column == "days":
            row["time"] = f"day:{float(value)}"
        if column == "reference" and row["reason"] in (Reason.AMBIGUOUS_SCAN, Reason.NO_CONTRAST, Reason.NO_REFERENCE):
            row |= {"usable": "true", "reason": "n/a", "detail": "n/a"}
        if column == "usable" and value == "false" and row["reason"] == "n/a":
            row |= {"reason": Reason.EXCLUDED_BY_READER.value, "detail": f"excluded in {edits}"}
