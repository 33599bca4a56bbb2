"""Fetch weights that may not be shipped, from their publisher, and make sure that they are the same ones for ever."""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import tempfile
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import yaml

from mettrail.errors import InputError
from mettrail.reasons import Reason

_LOG = logging.getLogger(__name__)
_CHUNK = 1 << 20
_TIMEOUT_S = 60


def fetch_weights(
    name: str, registry_path: str | Path, to: str | Path, *, opener: Callable = urllib.request.urlopen
) -> Path:
    """Put a registered file in place, checked, and record what it was in ``<to>.lock.json``.

    What it is checked against, first that there is: the registry's SHA-256; the lock file of an earlier download; the
    MD5 that the publisher's record states now. With none of these a first download is taken as it is, with a warning.
    A file that is there already (carried to a machine without network, say) is checked the same way, not fetched.

    Parameters
    ----------
    name : str
        Entry of the registry.
    registry_path : path
        ``resources/weights.yaml``.
    to : path
        Where the file shall be. Nothing is left there unless it passed.
    opener : callable
        Takes an address and ``timeout``, returns a response, like `urllib.request.urlopen`.

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
    expected, source = _expected(entry, known, lock, opener)
    to.parent.mkdir(parents=True, exist_ok=True)
    if to.exists():
        with to.open("rb") as file:
            found = _copy_and_digest(file, None)
        _check(to, found, expected, source, advice=f"Delete {to} and run this again.")
    else:
        found = _download(entry["url"], to, expected, source, opener)
    if not known:
        _LOG.info("licence of %s: %s", name, entry["licence"])
        _write_lock(lock, {"name": name, "url": entry["url"], **found, "checked_against": source})
    return to


def _read_entry(name: str, registry_path: Path) -> dict:
    registry = yaml.safe_load(registry_path.read_text())
    if name not in registry:
        raise InputError(
            f"weights: {name}",
            found="no such entry",
            expected=f"one of {', '.join(sorted(registry))}",
            advice=f"Correct the name, or add it to {registry_path}.",
            reason=Reason.UNKNOWN_WEIGHTS,
        )
    return registry[name]


def _expected(entry: dict, known: dict, lock: Path, opener: Callable) -> tuple[dict, str]:
    """Return the digest to be met, as {algorithm: hex}, and who says so."""
    if entry.get("sha256"):
        return {"sha256": entry["sha256"].lower()}, "SHA-256 of the registry"
    if known.get("sha256"):
        return {"sha256": known["sha256"]}, f"SHA-256 of the first download ({lock})"
    if entry.get("record"):
        return {"md5": _ask_record(entry, opener)}, f"MD5 published by {entry['record']} at download time"
    _LOG.warning("%s: its publisher states no checksum; taken as it is and recorded in %s", entry["url"], lock)
    return {}, "nothing: no checksum is published"


def _ask_record(entry: dict, opener: Callable) -> str:
    """Return the MD5 that the publisher's record states for the file."""
    try:
        with opener(entry["record"], timeout=_TIMEOUT_S) as response:
            record = json.load(response)
        stated = {f["key"]: f["checksum"] for f in record["files"]}[entry["file"]]
        algorithm, _, digest = stated.rpartition(":")
    except (OSError, http.client.HTTPException) as err:
        raise _unreachable(entry["record"], err) from err
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
    return digest.lower()


def _download(url: str, to: Path, expected: dict, source: str, opener: Callable) -> dict:
    """Write beside the target, check, then move there in one step; leave nothing when that fails."""
    handle, part = tempfile.mkstemp(prefix=f".{to.name}.", suffix=".part", dir=to.parent)
    part = Path(part)
    try:
        with os.fdopen(handle, "wb") as file:
            try:
                with opener(url, timeout=_TIMEOUT_S) as response:
                    announced = response.headers.get("Content-Length")
                    found = _copy_and_digest(response, file)
            except (OSError, http.client.HTTPException) as err:
                raise _unreachable(url, err) from err
        if announced is not None and int(announced) != found["bytes"]:
            raise _unreachable(url, f"{found['bytes']} of {announced} bytes came")
        _check(
            url,
            found,
            expected,
            source,
            advice="Try again; if it stays so, the publisher changed the file: do not use it before you know why.",
        )
        # mkstemp makes files private; weights are for everybody.
        part.chmod(0o644)
        part.replace(to)
    finally:
        part.unlink(missing_ok=True)
    return found


def _copy_and_digest(source, target) -> dict:
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    while block := source.read(_CHUNK):
        sha256.update(block)
        md5.update(block)
        size += len(block)
        if target is not None:
            target.write(block)
    return {"bytes": size, "sha256": sha256.hexdigest(), "md5": md5.hexdigest()}


def _check(what: str | Path, found: dict, expected: dict, source: str, *, advice: str) -> None:
    for algorithm, digest in expected.items():
        if found[algorithm] != digest:
            raise InputError(
                what,
                found=f"{algorithm} {found[algorithm]}",
                expected=f"{algorithm} {digest}: {source}",
                advice=advice,
                reason=Reason.WRONG_CHECKSUM,
            )


def _unreachable(url: str, err: Exception | str) -> InputError:
    return InputError(
        url,
        found=f"no answer, or not the whole ({err})",
        expected="a download",
        advice="Run this where there is network, or download it elsewhere, put it where the config says and run this.",
        reason=Reason.NO_NETWORK,
    )


def _write_lock(lock: Path, content: dict) -> None:
    content["date"] = datetime.now(UTC).strftime("%Y-%m-%d")
    part = lock.with_name(lock.name + ".part")
    part.write_text(json.dumps(content, indent=2) + "\n")
    part.replace(lock)
