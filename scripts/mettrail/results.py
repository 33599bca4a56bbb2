"""The results folder: where it may lie, who may write to it, and whether what lies there is known to be up to date."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import socket
import sys
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from mettrail.errors import InputError
from mettrail.files import write_whole
from mettrail.reasons import Reason

# Folders of a dataset that are never read as scans: results may lie in them.
_BESIDE_THE_SCANS = ("derivatives", "sourcedata", "code")
# The files whose locks this process holds.
_held: list[TextIO] = []


def check_place(config: Mapping[str, Any]) -> None:
    """Refuse a results folder that would overwrite inputs, or whose files would be read back as scans.

    Links count as what they point to.

    Parameters
    ----------
    config : dict
        ``out``, ``bids``, ``labels.folder``, ``overrides``, ``frozen``.

    Raises
    ------
    InputError
    """
    out, bids = _real(config["out"]), _real(config["bids"])
    places = {
        "bids": config["bids"],
        "labels.folder": config["labels"]["folder"],
        "overrides": config["overrides"],
        "frozen": config["frozen"],
    }
    for name, place in places.items():
        if place and (_real(place) == out or _is_of_a_patient(out, _real(place))):
            raise _bad_place(config, f"a folder of {name} = {place}", "a folder of its own")
    if out.is_relative_to(bids) and out.relative_to(bids).parts[0] not in _BESIDE_THE_SCANS:
        raise _bad_place(
            config, f"a folder within the dataset {config['bids']}", "a folder outside, or in derivatives/"
        )
    if bids.is_relative_to(out):
        raise _bad_place(config, f"a folder that holds the dataset {config['bids']}", "a folder outside of it")
    for patient in bids.glob("sub-*"):
        if patient.is_symlink() and _real(patient).is_relative_to(out):
            raise _bad_place(config, f"a folder that holds scans, by the link {patient}", "a folder without scans")
    if out.exists() and not out.is_dir():
        raise _bad_place(config, "a file", "a folder")


def _is_of_a_patient(out: Path, place: Path) -> bool:
    return out.is_relative_to(place) and out != place and out.relative_to(place).parts[0].startswith("sub-")


def _bad_place(config: Mapping[str, Any], found: str, expected: str) -> InputError:
    return InputError(
        f"config: out = {config['out']}",
        found=found,
        expected=expected,
        advice="Name another folder: out=FOLDER. Nothing was written.",
        reason=Reason.BAD_PLACE,
    )


def _real(place: str | Path) -> Path:
    return Path(os.path.realpath(str(place)))


# -------------------------------------------------------------------------------------------------------- one at a time


def lock(out: str | Path) -> str | None:
    """Lock the results folder for this process, until it ends in whatever way.

    The operating system keeps the lock, so that a killed run leaves none. Locks of Snakemake that a killed run has left
    in the working folder are removed, and that is said.

    Returns
    -------
    str or None
        Who holds it, and since when; None where this process holds it now.
    """
    path = Path(out) / "logs" / "lock.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return _describe_owner(path)
    except OSError as err:
        print(
            f"{out}: this file system has no locks ({err}). See that no two runs write here at once.", file=sys.stderr
        )
    killed = _describe_owner(path)
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now().isoformat(timespec="seconds")}
    file.truncate(0)
    file.write(json.dumps(owner | {"folder": str(Path.cwd())}))
    file.flush()
    _held.append(file)
    if _remove_dead_locks(Path(out)):
        print(f"{out}: {killed or 'an earlier run'} was stopped and left a lock, which is removed.", file=sys.stderr)
    return None


def owner(out: str | Path) -> str:
    """Return who is writing to the results folder, and since when; nothing where nobody is."""
    path = Path(out) / "logs" / "lock.json"
    with contextlib.suppress(FileNotFoundError), path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _describe_owner(path)
        except OSError:  # a file system without locks: nobody can tell
            return ""
    return ""


def unlock() -> None:
    """Release the results folder: nothing was killed."""
    while _held:
        file = _held.pop()
        file.truncate(0)
        file.close()


def leave(out: str | Path) -> None:
    """Release a folder in which nothing was made, and remove what `lock` has put there."""
    if not _held:
        return
    unlock()
    path = Path(out) / "logs" / "lock.json"
    path.unlink(missing_ok=True)
    for folder in (path.parent, Path(out)):
        with contextlib.suppress(OSError):  # not empty: it holds other files
            folder.rmdir()


def _describe_owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text())
        return "the run of {since} (process {pid} on {host}, in {folder})".format(**owner)
    except (OSError, ValueError, KeyError):
        return ""


def _remove_dead_locks(out: Path) -> int:
    """Remove Snakemake's locks on these results: a run that is alive and writes them would hold ours."""
    removed = 0
    for path in Path(".snakemake", "locks").glob("*.lock"):
        names = path.read_text().splitlines()
        if any(_real(name).is_relative_to(_real(out)) for name in names[:50] + names[-50:]):
            path.unlink()
            removed += 1
    return removed


# --------------------------------------------------------------------------------------------------------- up to date?


def expire_unknown(out: str | Path, facts: object, *, write: bool = True) -> None:
    """Set the times of results that cannot be told to be up to date to 0, so that they are made again.

    Snakemake keeps in the working folder what its files were made of. Results that come from elsewhere (a copied
    folder, another working folder, another spelling of the path, a lost ``.snakemake``) are kept if they were complete
    and the facts are the same as now.

    Parameters
    ----------
    out : path
    facts : object
        All that results depend on and Snakemake would notice: settings, code, the cohort table. Written as JSON.
    write : bool
        False says what would be done and does nothing.
    """
    out = Path(out)
    kept = _read_state(out)
    now = {"memory": [_token(write), str(out)], "facts": _digest(facts)}
    same = kept.get("facts") == now["facts"]
    trusted = kept.get("memory") == now["memory"] or (same and kept.get("complete"))
    # All files are listed only where it matters: there are many.
    old = [] if trusted else [path for path in out.glob("sub-*/**/*") if path.is_file()]
    if old:
        for path in [*old, *out.glob("tables/*"), *out.glob("*.html")] if write else []:
            os.utime(path, (0, 0))
        print(
            f"{out}: these results were made from another folder, or Snakemake's memory of them (.snakemake) is lost, "
            "and settings, code or data were others then: all are made again.",
            file=sys.stderr,
        )
    if write:
        _write_state(out, now | {"complete": bool(same and kept.get("complete"))})


def mark_complete(out: str | Path, *, since: float) -> None:
    """Note that all results are complete, by the facts that `expire_unknown` was given.

    They are when the page of the cohort was made since then (seconds since 1970): it comes last.
    """
    page = Path(out) / "index.html"
    if page.exists() and page.stat().st_mtime >= since:
        _write_state(Path(out), _read_state(Path(out)) | {"complete": True})


def _token(write: bool) -> str:
    """Return the name of Snakemake's memory in this working folder: a new one where the memory is new."""
    path = Path(".snakemake", "mettrail.json")
    try:
        return str(json.loads(path.read_text())["token"])
    except (OSError, ValueError, KeyError):
        token = uuid.uuid4().hex
        if write:
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps({"token": token}))
        return token


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _read_state(out: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((out / "logs" / "state.json").read_text())
    except (OSError, ValueError):
        return {}
    return state


def _write_state(out: Path, state: Mapping[str, Any]) -> None:
    write_whole(out / "logs" / "state.json", json.dumps(state))


def remove_pages_of_others(out: str | Path, participants: Iterable[str]) -> list[dict[str, Any]]:
    """Remove pages and pictures of patients that are not part of the run, and list whose results remain.

    Results are not deleted: a misspelt folder would cost days of computing.

    Returns
    -------
    list of dict
        As `cohort.list_problems`.
    """
    out, known = Path(out), set(participants)
    for path in [*out.glob("sub-*.html"), *out.glob("figures/sub-*")]:
        if path.name.split("_")[0].split(".")[0] not in known:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    absent = sorted(path.name for path in out.glob("sub-*") if path.is_dir() and path.name not in known)
    return [
        {
            "sub": name,
            "ses": None,
            "stage": "warning",
            "reason": Reason.NOT_IN_DATASET.value,
            "detail": f"{out}/{name} holds results of a patient who is not part of this run: no longer in the dataset, "
            "or not chosen (index). Delete it, or bring the scans back.",
            "log": "",
        }
        for name in absent
    ]
