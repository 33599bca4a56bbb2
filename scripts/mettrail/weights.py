"""Fetch weights that may not be shipped, from their publisher, and make sure that they never change unnoticed."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pooch
import requests
import yaml

from mettrail.errors import InputError
from mettrail.files import write_whole
from mettrail.reasons import Reason

_LOG = logging.getLogger(__name__)
_TIMEOUT_S = 60


def fetch_weights(name: str, registry_path: str | Path, to: str | Path) -> Path:
    """Put a registered file in place, checked, and record what it was in ``<to>.lock.json``.

    It is checked against the first of these that there is: the registry's SHA-256; the lock file of an earlier
    download; the MD5 that the publisher's record states now. With none of these a first download is taken as it is,
    with a warning. A file that is there already (copied to a machine without a network, say) is checked the same way
    and not fetched.

    Parameters
    ----------
    name : str
        Entry of the registry.
    registry_path : path
        ``resources/weights.yaml``.
    to : path
        Where the file shall be. Nothing is left there unless it passed.

    Returns
    -------
    Path
        `to`.

    Raises
    ------
    InputError
        Unknown name, no network, a download cut short, or a file that is not the published one.
    """
    entry, to = _read_entry(name, Path(registry_path)), Path(to)
    lock = to.with_name(to.name + ".lock.json")
    known = json.loads(lock.read_text()) if lock.exists() else {}
    checksum, source = _find_checksum(entry, known, lock)
    if to.exists():
        _require_checksum(to, checksum, source)
    else:
        _download(entry["url"], to, checksum, source)
    if not known:
        _LOG.info("licence of %s: %s", name, entry["licence"])
        facts = {"name": name, "url": entry["url"], "bytes": to.stat().st_size}
        facts |= {algorithm: pooch.file_hash(str(to), alg=algorithm) for algorithm in ("sha256", "md5")}
        facts |= {"checked_against": source, "date": datetime.now(UTC).strftime("%Y-%m-%d")}
        write_whole(lock, json.dumps(facts, indent=2) + "\n")
    return to


def _read_entry(name: str, registry_path: Path) -> dict[str, Any]:
    registry: dict[str, dict[str, Any]] = yaml.safe_load(registry_path.read_text())
    if name not in registry:
        raise InputError(
            f"weights: {name}",
            found="no such entry",
            expected=f"one of {', '.join(sorted(registry))}",
            advice=f"Correct the name, or add it to {registry_path}.",
            reason=Reason.UNKNOWN_WEIGHTS,
        )
    return registry[name]


def _find_checksum(entry: dict[str, Any], known: dict[str, str], lock: Path) -> tuple[str | None, str]:
    """Return the checksum to be met (``md5:…``), None without one, and who states it."""
    if entry.get("sha256"):
        return f"sha256:{entry['sha256']}".lower(), "SHA-256 of the registry"
    if known.get("sha256"):
        return f"sha256:{known['sha256']}", f"SHA-256 of the first download ({lock})"
    if entry.get("record"):
        return _ask_record(entry), f"MD5 published by {entry['record']} at download time"
    _LOG.warning("%s: its publisher states no checksum; taken as it is and recorded in %s", entry["url"], lock)
    return None, "nothing: no checksum is published"


def _ask_record(entry: dict[str, Any]) -> str:
    """Return the MD5 that the publisher's record states for the file."""
    try:
        answer = requests.get(entry["record"], timeout=_TIMEOUT_S)
        answer.raise_for_status()
    except OSError as err:
        raise _unreachable(entry["record"], err) from err
    try:
        stated = {each["key"]: each["checksum"] for each in answer.json()["files"]}[entry["file"]]
        algorithm, _, digest = stated.rpartition(":")
    except (ValueError, KeyError, TypeError) as err:
        raise InputError(
            entry["record"],
            found=f"no checksum of {entry['file']} ({type(err).__name__}: {err})",
            expected='Zenodo\'s answer: {"files": [{"key": …, "checksum": "md5:…"}]}',
            advice="Look at the record in a browser; if it has moved, correct resources/weights.yaml.",
            reason=Reason.NO_CHECKSUM,
        ) from err
    if algorithm not in ("", "md5"):
        raise InputError(
            entry["record"],
            found=f"a checksum of the kind {algorithm}",
            expected="md5",
            advice="If the publisher states SHA-256, write it into resources/weights.yaml.",
            reason=Reason.NO_CHECKSUM,
        )
    return f"md5:{digest}".lower()


def _download(url: str, to: Path, checksum: str | None, source: str) -> None:
    """Fetch beside the target, check, then move there in one step; leave nothing when that fails."""
    fetch = pooch.HTTPDownloader(timeout=_TIMEOUT_S)
    try:
        pooch.retrieve(url, known_hash=checksum, fname=to.name, path=to.parent, downloader=fetch)
    except OSError as err:
        raise _unreachable(url, err) from err
    except ValueError as err:
        # What pooch raises where the checksum is another.
        advice = "Try again; if it stays so, the publisher changed the file: do not use it before you know why."
        raise _wrong_checksum(url, str(err), f"{checksum}: {source}", advice) from err
    # Its temporary file is private; weights are for everybody.
    to.chmod(0o644)


def _require_checksum(path: Path, checksum: str | None, source: str) -> None:
    """Refuse a file in place that is not the expected one."""
    if checksum is None:
        return
    algorithm = checksum.partition(":")[0]
    found = f"{algorithm}:{pooch.file_hash(str(path), alg=algorithm)}"
    if found != checksum:
        raise _wrong_checksum(path, found, f"{checksum}: {source}", f"Delete {path} and run this again.")


def _wrong_checksum(what: str | Path, found: str, expected: str, advice: str) -> InputError:
    return InputError(what, found=found, expected=expected, advice=advice, reason=Reason.WRONG_CHECKSUM)


def _unreachable(url: str, err: Exception) -> InputError:
    return InputError(
        url,
        found=f"no answer, or not the whole ({err})",
        expected="a download",
        advice="Run this where there is a network, or download it elsewhere, put it where the config says and run it.",
        reason=Reason.NO_NETWORK,
    )
