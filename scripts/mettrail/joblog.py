"""Everything a job says goes to its log; a job that dies leaves a record of why.

The record is written before the work starts and removed when it has ended well, so that a job killed from outside
(memory, time, power) leaves one too.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from mettrail.errors import InputError

KILLED = {
    "reason": "did_not_finish",
    "detail": "the job was stopped from outside (memory, time or a signal); see its log",
}


@contextlib.contextmanager
def to(log_path: str | Path) -> Iterator[None]:
    """Send this process's output to a log, and keep a failure record beside the logs while the work is not done.

    Parameters
    ----------
    log_path : path
        ``<out>/logs/<stage>/<unit>.log``; the record is ``<out>/logs/failures/<unit>.<stage>.json``.
    """
    log_path = Path(log_path)
    record = failure_record(log_path)
    for folder in (log_path.parent, record.parent):
        folder.mkdir(parents=True, exist_ok=True)
    _write_record(record, log_path, **KILLED)
    start = time.time()
    with log_path.open("w", buffering=1) as log, _everything_to(log):
        try:
            yield
        except InputError as err:
            _write_record(record, log_path, reason=err.reason, detail=" ".join(str(err).split()))
            traceback.print_exc(file=log)
            print(f"\n{type(err).__name__}: {err}", file=log)
            raise SystemExit(1) from err
        except BaseException as err:
            _write_record(record, log_path, reason="error", detail=f"{type(err).__name__}: {err}")
            traceback.print_exc(file=log)
            raise SystemExit(1) from err
        print(f"done in {time.time() - start:.1f} s", file=log)
    record.unlink(missing_ok=True)


def failure_record(log_path: Path) -> Path:
    """Return where the failure of the job with this log is recorded."""
    return log_path.parent.parent / "failures" / f"{log_path.stem}.{log_path.parent.name}.json"


def read_failures(out: Path) -> list[dict]:
    """Return the records of jobs that did not end well: sub, ses (or None), stage, reason, detail, log."""
    return [json.loads(path.read_text()) for path in sorted((out / "logs" / "failures").glob("*.json"))]


def describe_failures(failures: list[dict]) -> list[str]:
    """Say for people what failed, why, and where to read on."""
    lines = []
    for failure in failures:
        unit = "_".join(f"{key}-{failure[key]}" for key in ("sub", "ses") if failure[key]) or "the cohort"
        lines.append(f"\nFAILED {failure['stage']} of {unit}: {failure['detail']}\n  log: {failure['log']}")
    return lines or ["\nA job died before it could say why: see the messages above."]


def clear_failures(out: Path) -> None:
    """Forget the failures of earlier runs."""
    for path in (out / "logs" / "failures").glob("*.json"):
        path.unlink(missing_ok=True)


def _write_record(path: Path, log_path: Path, *, reason: str, detail: str) -> None:
    unit = dict(part.split("-", 1) for part in log_path.stem.split("_") if "-" in part)
    record = {
        "sub": unit.get("sub"),
        "ses": unit.get("ses"),
        "stage": log_path.parent.name,
        "reason": reason,
        "detail": detail,
        "log": str(log_path),
    }
    path.write_text(json.dumps(record, indent=1))


@contextlib.contextmanager
def _everything_to(log) -> Iterator[None]:
    """Redirect at the level of file descriptors: the tools' own C++ speaks past Python's sys.stdout."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    try:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            yield
    finally:
        log.flush()
        for descriptor, copy in zip((1, 2), kept):
            os.dup2(copy, descriptor)
            os.close(copy)
