"""The scans of a dataset: its folders are searched, and file names are read.

Not by pybids: it takes the first match of a pattern anywhere in the absolute path for the subject, never compares the
folder with the file name (two patients become one), drops what follows an unknown character in a label, stops at
dangling links, and needs a minute and a gigabyte for 1,000 patients. Names of entities and of datatypes come
from bidsschematools, which is the standard itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from mettrail.cohort.table import Unused, leave_unused
from mettrail.errors import InputError
from mettrail.reasons import Reason

LABEL = re.compile(r"[a-zA-Z0-9]+")
# Values of other entities may hold a plus sign, as BIDS allows.
VALUE = re.compile(r"[a-zA-Z0-9+]+")
SCAN_ENDINGS = (".nii", ".nii.gz")
TABLES = (".tsv", ".bidsignore")
# Folders that BIDS puts beside the subjects, and that never hold raw data.
BESIDE = ("derivatives", "sourcedata", "code")
_PERSON = re.compile(r"sub-(?P<sub>[^/]+)(?:/ses-(?P<ses>[^/]+))?")
_PLACE = re.compile(r"sub-(?P<sub>[^/]*)/(?:ses-(?P<ses>[^/]*)/)?(?P<datatype>[^/]+)/(?P<name>.+)")
# Linked folders are entered only where these stand: three levels, so that links in a circle come to an end.
_LINKABLE = re.compile(r"sub-[^/]+(?:/ses-[^/]+)?(?:/anat)?")


class Entry(NamedTuple):
    """A file or folder below the folder walked over.

    Parameters
    ----------
    path : str
        Relative to that folder, with slashes.
    kind : str
        ``file``, ``folder``, ``link`` (a linked folder not entered), ``dangling`` (a link to nothing) or ``closed`` (a
        folder that may not be read).
    state : str
        Size and time of change of what a file's name points to.
    """

    path: str
    kind: str
    state: str = ""


class Scan(NamedTuple):
    """An anatomical scan with its session and role (``ce-gadolinium_T1w``); the path is relative to the dataset."""

    sub: str
    ses: str
    role: str
    path: str


@dataclass
class Found:
    """What a dataset holds.

    Parameters
    ----------
    scans : dict
        By patient and session, whatever their role.
    sessions : dict
        Sessions that have a folder, by patient, whatever their labels; none for a patient without session folders.
    not_used : list of dict
        See `table.leave_unused`.
    """

    scans: dict[str, dict[str, list[Scan]]] = field(default_factory=dict)
    sessions: dict[str, set[str]] = field(default_factory=dict)
    not_used: list[Unused] = field(default_factory=list)

    def left_in(self, sub: str, ses: str) -> list[Unused]:
        """Return what is not used in the folder of a session, but for scans of other roles."""
        return [*self._left.get(f"sub-{sub}/ses-{ses}", []), *self._left.get(f"sub-{sub}/anat", [])]

    @cached_property
    def _left(self) -> dict[str, list[Unused]]:
        left: dict[str, list[Unused]] = {}
        for item in self.not_used:
            if item["reason"] != Reason.NO_ROLE:
                left.setdefault("/".join(item["what"].split("/")[:2]), []).append(item)
        return left


def walk(folder: Path, *, endings: tuple[str, ...], skip: tuple[str, ...] = ()) -> list[Entry]:
    """List folders and the files with these endings, links followed, in the order of their names.

    Parameters
    ----------
    folder : Path
    endings : tuple of str
        Lower case; the case of a file's name does not matter.
    skip : tuple of str
        Folders at the top not to enter. Hidden folders never are: git keeps its own copies of scans there.
    """
    return sorted(_walk(str(folder), "", endings, skip))


def _walk(folder: str, at: str, endings: tuple[str, ...], skip: tuple[str, ...]) -> Iterator[Entry]:
    try:
        with os.scandir(folder) as found:
            items = list(found)
    except OSError:
        yield Entry(at, "closed")
        return
    for item in items:
        name, path = item.name, at + item.name
        ours = name.lower().endswith(endings)
        try:
            # A folder with the name of a scan is a scan that cannot be read.
            if item.is_dir() and not ours:
                if name.startswith(".") or (not at and name in skip):
                    continue
                if item.is_symlink() and not _LINKABLE.fullmatch(path):
                    yield Entry(path, "link")
                    continue
                yield Entry(path, "folder")
                yield from _walk(f"{folder}/{name}", f"{path}/", endings, ())
            elif ours:
                stat = item.stat()
                yield Entry(path, "file", f"{stat.st_size} {stat.st_mtime_ns}")
            elif item.is_symlink() and _LINKABLE.fullmatch(path) and not item.is_file():
                yield Entry(path, "dangling")
        except OSError:  # a link to itself, or to nothing
            yield Entry(path, "dangling")


def find_scans(bids: Path, entries: Iterable[Entry], roles: Iterable[str]) -> Found:
    """Find whose scans a dataset holds: ``sub-X/[ses-Y/]anat/sub-X[_ses-Y]_[entities_]SUFFIX.nii[.gz]``.

    Parameters
    ----------
    bids : Path
        The dataset; where it lies plays no part.
    entries : list of Entry
        Of `walk`.
    roles : list of str
        The roles that are asked for.

    Raises
    ------
    InputError
        A .bidsignore that cannot be read.
    """
    ignored, roles = read_bidsignore(bids), list(roles)
    found, files = Found(), []
    for entry in entries:
        person = _PERSON.fullmatch(entry.path.rstrip("/"))
        scan = entry.path.lower().endswith(SCAN_ENDINGS)
        if person and entry.kind != "file" and not scan and not ignored(f"{entry.path.rstrip('/')}/"):
            mine = found.sessions.setdefault(person["sub"], set())
            mine |= {person["ses"]} - {None}
        if scan or entry.kind in ("link", "dangling", "closed"):
            files.append(entry)
    for entry in files:
        outcome = _judge(entry, found.sessions, ignored, roles)
        if isinstance(outcome, Scan):
            found.scans.setdefault(outcome.sub, {}).setdefault(outcome.ses, []).append(outcome)
        if isinstance(outcome, Scan) and outcome.role not in roles:
            reason = Reason.DANGLING_LINK if entry.kind == "dangling" else Reason.NO_ROLE
            outcome = leave_unused(
                entry.path, outcome.sub, reason, f"a {outcome.role}; what is asked for are {', '.join(roles)}"
            )
        if isinstance(outcome, dict):
            found.not_used.append(outcome)
    return found


def _judge(
    entry: Entry, sessions: dict[str, set[str]], ignored: Callable[[str], bool], roles: list[str]
) -> Scan | Unused | None:
    """Return a scan, or why it is not used; None for what is no concern of ours."""
    path, name = entry.path.rstrip("/"), entry.path.rstrip("/").rpartition("/")[2]
    place = _PLACE.fullmatch(path)
    # Whose it would be: the label of the folder, or that in the name of a file outside of any.
    *folders, _ = path.split("/")
    of = next((folder for folder in folders if folder.startswith("sub-")), name.partition("_")[0])
    sub = of[4:] if of.startswith("sub-") else "n/a"

    def unused(reason: Reason, detail: str) -> Unused:
        return leave_unused(path, sub, reason, detail)

    if name.startswith("."):
        return unused(
            Reason.HIDDEN_FILE, "a hidden file, as macOS leaves on disks (._NAME); it holds no scan. Delete it."
        )
    if ignored(path):
        return unused(Reason.BIDSIGNORED, "listed in .bidsignore")
    if entry.kind == "closed":
        return unused(
            Reason.UNREADABLE, "a folder that may not be read; expected the right to. Change its permissions."
        )
    if not name.lower().endswith(SCAN_ENDINGS) and entry.kind == "dangling":
        return unused(Reason.DANGLING_LINK, "a link to a folder that is not there; mount or fetch it (datalad get).")
    datatype = name if entry.kind == "link" else place["datatype"] if place else ""
    misplaced = name.split(".")[0].rpartition("_")[2] in {role.rpartition("_")[2] for role in roles}
    if datatype in known_datatypes() - {"anat"} and not misplaced:
        return None  # other images have folders of their own, which are no concern of ours
    if entry.kind == "link":
        return unused(
            Reason.WRONG_FOLDER, "a linked folder that is no sub-, ses- or anat folder; it is not looked into."
        )
    if not place or place["datatype"] != "anat" or "/" in place["name"]:
        return unused(
            Reason.WRONG_FOLDER,
            "expected sub-X/ses-Y/anat/, or sub-X/anat/ without sessions. Move it there if it is wanted.",
        )
    return _read_place(place, sessions.get(place["sub"], set()), entry.path, unused)


def _read_place(
    place: re.Match[str], sessions: set[str], path: str, unused: Callable[[Reason, str], Unused]
) -> Scan | Unused | None:
    """Compare the folders of a file in an anat folder with its name."""
    sub, ses, name = place["sub"], place["ses"], place["name"]
    for label in (sub, ses):
        if label is not None and not LABEL.fullmatch(label):
            # The row of the session says it, unless there is nothing that could name a row.
            if sub and ses != "":
                return None
            return unused(Reason.BAD_LABEL, "a folder without a label; expected sub-X/ses-Y")
    parsed = read_name(name)
    if isinstance(parsed, str):
        return unused(Reason.BAD_LABEL if "label" in parsed else Reason.NOT_A_BIDS_NAME, parsed)
    entities, suffix = parsed
    if entities["sub"] != sub or entities.get("ses") != ses:
        return unused(
            Reason.NAME_DISAGREES,
            f"the folder says {_spell(sub, ses)}, the name {_spell(entities['sub'], entities.get('ses'))}; expected "
            "the same in both. Rename or move it.",
        )
    if ses is None and any(label.lstrip("0") == "1" for label in sessions):
        return unused(
            Reason.WRONG_FOLDER, f"sub-{sub} has session 1 in a folder of its own. Move it into its session's."
        )
    # A dataset of single visits has no session folders.
    role = f"ce-{entities['ce']}_{suffix}" if "ce" in entities else suffix
    return Scan(sub, ses or "1", role, path)


def read_name(name: str) -> tuple[dict[str, str], str] | str:
    """Take a BIDS file name apart: entities and suffix, or what is wrong with it.

    Examples
    --------
    >>> read_name("sub-A_ses-2_ce-gadolinium_T1w.nii.gz")
    ({'sub': 'A', 'ses': '2', 'ce': 'gadolinium'}, 'T1w')
    >>> read_name("sub-A_T1w_Crop_1.nii.gz")
    "'T1w' in the name is no entity of BIDS; expected sub-X_ses-Y_SUFFIX.nii.gz"
    """
    expected = "expected sub-X_ses-Y_SUFFIX.nii.gz"
    stem = name.removesuffix(".gz").removesuffix(".nii")
    *parts, suffix = stem.split("_")
    if not name.endswith(SCAN_ENDINGS):
        return f"the ending of the name is in capitals; {expected}"
    if not parts or not parts[0].startswith("sub-"):
        return f"the name does not begin with sub-; {expected}"
    entities: dict[str, str] = {}
    for part in parts:
        key, dash, value = part.partition("-")
        if key in ("sub", "ses") and not LABEL.fullmatch(value):
            return f"the label {part} in the name; expected letters and digits only"
        if not dash or key not in known_entities():
            return f"{part!r} in the name is no entity of BIDS; {expected}"
        if not VALUE.fullmatch(value):
            return f"{part!r} in the name; expected letters and digits after {key}-"
        if key in entities:
            return f"{key}- twice in the name; {expected}"
        entities[key] = value
    if not LABEL.fullmatch(suffix):
        return f"{suffix!r} at the end of the name is no suffix; {expected}"
    return entities, suffix


def read_bidsignore(bids: Path) -> Callable[[str], bool]:
    """Return whether .bidsignore names a path; it is written like a .gitignore."""
    path = Path(bids) / ".bidsignore"
    if not path.is_file():
        return lambda _: False
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(path.read_text(encoding="utf-8-sig", errors="replace").splitlines()).match_file
    except ValueError as err:
        raise InputError(
            path, found=f"a line that is no pattern ({err})", expected="lines as in a .gitignore", advice="Correct it."
        ) from err


def _spell(sub: str, ses: str | None) -> str:
    return f"sub-{sub}" if ses is None else f"sub-{sub}_ses-{ses}"


@cache
def _schema() -> Any:
    from bidsschematools.schema import load_schema

    return load_schema().objects


@cache
def known_entities() -> frozenset[str]:
    """Return the entities of a BIDS file name."""
    return frozenset(entity["name"] for entity in _schema().entities.values())


@cache
def known_datatypes() -> frozenset[str]:
    """Return the names that a folder of a session may have in BIDS."""
    return frozenset(kind["value"] for kind in _schema().datatypes.values())
