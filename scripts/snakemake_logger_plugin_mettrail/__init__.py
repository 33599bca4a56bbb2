"""Snakemake's events as lines of JSON, for `mettrail` to show: `snakemake --logger mettrail`.

The lines go to the open file that the environment variable METTRAIL_EVENTS numbers; `mettrail run` reads its other end.
"""

import contextlib
import json
import logging
import os
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent


class LogHandler(LogHandlerBase):
    """Writes what `describe` makes of each record; Snakemake's own output stays as it is."""

    writes_to_stream = False
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        number = int(os.environ["METTRAIL_EVENTS"])
        # Jobs must not keep it open when this process is gone.
        os.set_inheritable(number, False)
        self._events = os.fdopen(number, "w", buffering=1)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; where nobody reads any more, the run goes on."""
        event = describe(record)
        if event:
            with contextlib.suppress(OSError):
                self._events.write(json.dumps(event) + "\n")


def describe(record: Any) -> dict[str, Any] | None:
    """Return what a record says of the run; None where that is nothing to show."""
    own: dict[str, Any] | None = getattr(record, "mettrail", None)
    event = getattr(record, "event", None)
    if own:
        return own
    if event == LogEvent.JOB_INFO:
        labels = dict(record.wildcards)
        log = str(record.log[0]) if record.log else ""
        return {
            "event": "started",
            "job": record.jobid,
            "rule": record.rule_name,
            "sub": labels.get("sub", ""),
            "ses": labels.get("ses", ""),
            "log": log,
        }
    if event == LogEvent.JOB_FINISHED:
        return {"event": "finished", "job": record.job_id}
    if event == LogEvent.JOB_ERROR:
        return {"event": "failed", "job": record.jobid}
    if record.levelno >= logging.ERROR:
        return {"event": "error", "text": str(record.getMessage())}
    return None
