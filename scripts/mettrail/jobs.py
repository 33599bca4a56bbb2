"""What every job does beside its work: a log, outputs that are whole or absent, and a failure that is passed on.

A job that fails writes the reason into its declared outputs, as placeholders of what belongs there (`NoResult`). Jobs
that need them pass it on at once; those that can do without go on. So one pass reaches all tables and pages, and the
session that failed is in them with its reason. When the run ends, `remove_placeholders` takes them away: the next run
tries again.

Outputs are written into a folder beside their place and moved when the job has ended well: half a file never counts.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import wurlitzer

from mettrail.errors import InputError
from mettrail.files import write_whole
from mettrail.reasons import Kind, Reason

# First line of a file that stands in for an output.
_MAGIC = b"mettrail: no result\n"
# Where an output is a folder, the file in it that stands in for it.
_IN_FOLDER = ".no_result"
# Hidden, so that it is not taken for results.
_STAGED = ".unfinished"
# Environment of jobs: the main process they belong to, and how often a job that failed is tried again.
RUN, RETRIES = "METTRAIL_RUN", "METTRAIL_RETRIES"
_LOOK_EVERY_S = 0.02
# Exit status of what was stopped from the keyboard.
_STOPPED = 130


@dataclass(frozen=True)
class NoResult:
    """Why an output is not there.

    Parameters
    ----------
    sub, ses : str or None
        Labels of the patient and the session; None for a job of all sessions, or of all patients.
    stage : str
        Log folder of the job that failed.
    reason : Reason
    detail : str
        A sentence.
    log : str
        Path of the job's log.
    skipped : bool
        Nothing failed: there was nothing to do, e.g. because no earlier session can serve as prior.
    """

    sub: str | None
    ses: str | None
    stage: str
    reason: Reason
    detail: str
    log: str
    skipped: bool = False

    @property
    def sequence_reason(self) -> Reason:
        """The reason in the flag of a session whose additional sequence this failure is about."""
        return self.reason if Kind.SEQUENCE in self.reason.kinds else Reason.SEQUENCE_FAILED


class Skip(Exception):  # noqa: N818 - nothing is wrong
    """Raised in a job that has nothing to do; what can do without its outputs goes on."""


def explain(path: str | Path) -> NoResult | None:
    """Return why an output is not there; None where it is."""
    declared = _read_placeholder(path)
    if declared is None:
        return None
    facts = json.loads(declared)
    return NoResult(**facts | {"reason": Reason.of(facts["reason"])})


def _read_placeholder(path: str | Path) -> bytes | None:
    """Return what a placeholder says, whatever version wrote it; None where there is a result, or nothing."""
    path = Path(path) / _IN_FOLDER if Path(path).is_dir() else Path(path)
    with contextlib.suppress(OSError), path.open("rb") as file:
        if file.read(len(_MAGIC)) == _MAGIC:
            return file.read()
    return None


def failures_in(paths: Sequence[str | Path]) -> list[NoResult]:
    """Return the failures that stand in for outputs, without what was skipped."""
    return [found for found in map(explain, paths) if found and not found.skipped]


def complete(paths: Sequence[str | Path]) -> list[str | Path]:
    """Return the paths at which there is a result."""
    return [path for path in paths if not explain(path)]


def given(path: str | Path | None) -> str | Path | None:
    """Return a path; None if there is none or what makes it was skipped."""
    return None if not path or explain(path) else path


def first_complete(*lists: Sequence[str | Path], last: bool = False) -> int:
    """Return the first position (or the last) at which every list has a result.

    Raises
    ------
    Skip
        There is none.
    """
    found = complete_positions(*lists)
    if not found:
        raise Skip("no earlier session of this patient can be used: this one is read like a first session")
    return found[-1 if last else 0]


def complete_positions(*lists: Sequence[str | Path]) -> list[int]:
    """Return the positions at which every list has a result."""
    return [n for n, paths in enumerate(zip(*lists, strict=True)) if not any(map(explain, paths))]


@contextlib.contextmanager
def job(
    snakemake: Any,
    *,
    skippable: Sequence[str] = (),
    failable: Sequence[str] = (),
    passes_on: bool = True,
    in_place: bool = False,
    folders: Sequence[str] = (),
) -> Iterator[SimpleNamespace]:
    """Do a job's work in a process of its own; the outputs it writes count once all of it has ended well.

    Parameters
    ----------
    snakemake : object
        What Snakemake gives to a script: ``input``, ``output`` (by name), ``log``.
    skippable : sequence of str
        Inputs that the work does without where they were skipped (`given`).
    failable : sequence of str
        Inputs whose failures the work handles itself.
    passes_on : bool
        Declare a failure in the outputs, for jobs of one session or patient. If not, the job itself fails.
    in_place : bool
        Outputs are written where they belong, for work that continues what a killed job has left.
    folders : sequence of str
        Outputs that are folders.

    Yields
    ------
    SimpleNamespace
        Where to write each output, by its name; and ``record``, a function that records a failure which the job has
        handled itself.
    """
    log_path = Path(snakemake.log[0])
    outputs = {name: str(path) for name, path in snakemake.output.items()}
    missing = _missing(snakemake.input, skippable, failable)
    record = _Record(log_path, list(outputs.values()), folders=[outputs[name] for name in folders])
    if passes_on and missing:
        record.write(missing, own=False)
        raise SystemExit(0)
    if missing:
        raise SystemExit(f"{missing.stage} of sub-{missing.sub} ses-{missing.ses} failed before: {missing.detail}")
    _work_in_a_child(record, passes_on)
    staged = outputs if in_place else _stage(outputs)
    start = time.time()
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("w", buffering=1) as log, everything_to(log):
        try:
            yield SimpleNamespace(**staged, record=record.note)
            _publish(staged.values())
        except Skip as nothing:
            print(f"skipped: {nothing}")
            record.write(record.describe(Reason.NO_PRIOR, str(nothing), skipped=True), own=True)
            _remove_staged(staged.values())
            raise SystemExit(0) from None
        except BaseException as err:
            traceback.print_exc(file=log)
            _remove_staged(staged.values())
            if isinstance(err, InputError):
                print(f"\n{type(err).__name__}: {err}", file=log)
            if not isinstance(err, Exception):
                raise SystemExit(_STOPPED) from None  # by the user: nothing failed
            raise SystemExit(record.fail(err, passes_on)) from err
        record.clear()
        print(f"done in {time.time() - start:.1f} s")


def read_failures(out: str | Path) -> list[dict[str, Any]]:
    """Return the jobs that failed or were skipped in this run or the last one.

    Returns
    -------
    list of dict
        ``sub`` (``sub-A``, empty for the cohort), ``ses`` (``1`` or None), ``stage`` (``warning`` where the job was
        skipped), ``reason``, ``detail``, ``log``.
    """
    found = []
    for path in sorted(_records(out).glob("*.json")):
        for each in json.loads(path.read_text())["failures"]:
            skipped = each.pop("skipped")
            found.append(each | {"sub": f"sub-{each['sub']}" if each["sub"] else ""})
            if skipped:
                found[-1]["stage"] = "warning"
    return found


def read_failure(log_path: str | Path) -> NoResult | None:
    """Return why the job that writes this log failed, as far as is known: the job itself may have ended well."""
    path = _Record(Path(log_path), []).path
    kept = json.loads(path.read_text())["failures"] if path.exists() else []
    found = [NoResult(**each | {"reason": Reason.of(each["reason"])}) for each in kept]
    return next((each for each in found if not each.skipped), None)


def describe_failures(failures: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what failed, why, and where to read on, as lines to print."""
    lines = []
    for failure in failures:
        if failure["stage"] == "warning":
            continue
        unit = "_".join(filter(None, [failure["sub"], failure["ses"] and f"ses-{failure['ses']}"])) or "the cohort"
        lines.append(f"FAILED {failure['stage']} of {unit}: {failure['detail']}\n  log: {failure['log']}")
    return lines


def remove_placeholders(out: str | Path) -> None:
    """Remove the placeholders of failed outputs, at the end of a run and before the next: what failed is tried again.

    The tables of a patient with a failure stay, with their times set to 0: Snakemake does not ask for a missing
    intermediate file once there is something newer after it.
    """
    for path in _records(out).glob("*.json"):
        kept = json.loads(path.read_text())
        for output in (Path(out) / name for name in kept["outputs"]):
            if _read_placeholder(output) is not None:
                shutil.rmtree(output) if output.is_dir() else output.unlink()
        for table in Path(out).glob(f"sub-{kept['sub']}/sub-{kept['sub']}_*.tsv"):
            os.utime(table, (0, 0))


def forget_failures(out: str | Path) -> None:
    """Forget the failures of earlier runs, once their placeholders are removed."""
    remove_placeholders(out)
    shutil.rmtree(_records(out), ignore_errors=True)


class _Record:
    """What is kept of a job without result, beside the logs: ``<out>/logs/failures/<unit>.<stage>.json``."""

    def __init__(self, log_path: Path, outputs: list[str], *, folders: Sequence[str] = ()):
        self.log_path, self.outputs, self.folders = log_path, outputs, folders
        self.path = _records(log_path.parents[2]) / f"{log_path.stem}.{log_path.parent.name}.json"
        self.unit = dict(part.split("-", 1) for part in log_path.stem.split("_") if "-" in part)

    def describe(self, reason: Reason, detail: str, *, skipped: bool = False) -> NoResult:
        unit, stage = self.unit, self.log_path.parent.name
        return NoResult(unit.get("sub"), unit.get("ses"), stage, reason, detail, str(self.log_path), skipped)

    def write(self, why: NoResult, *, own: bool, declare: bool = True, tries: int = 0) -> None:
        """Keep a failure, and declare it in the outputs."""
        # From the results folder on: it may be moved, or be spelt otherwise next time.
        there = [os.path.relpath(output, self.log_path.parents[2]) for output in self.outputs if declare]
        failures = [asdict(why)] if own else []
        kept = {"sub": self.unit.get("sub"), "outputs": there, "tries": tries, "failures": failures}
        write_whole(self.path, json.dumps(kept, indent=1))
        for output in self.outputs if declare else []:
            placeholder = Path(output) / _IN_FOLDER if output in self.folders else Path(output)
            write_whole(placeholder, _MAGIC + json.dumps(asdict(why)).encode())

    def note(self, err: Exception) -> NoResult:
        """Keep a failure that the job itself has handled: its outputs are as they should be."""
        traceback.print_exc()
        self._noted = self._explain(err)
        self.write(self._noted, own=True, declare=False)
        return self._noted

    def fail(self, err: Exception | str, passes_on: bool) -> int:
        """Keep and declare a failure; return the exit status: 1 where Snakemake is to try again, or to stop."""
        tries = 1 + (json.loads(self.path.read_text())["tries"] if self.path.exists() else 0)
        again = not isinstance(err, InputError) and tries <= int(os.environ.get(RETRIES, 0))
        self.write(self._explain(err), own=True, declare=passes_on and not again, tries=tries)
        return int(again or not passes_on)

    def clear(self) -> None:
        """Forget an earlier failure of this job."""
        if not hasattr(self, "_noted"):
            self.path.unlink(missing_ok=True)

    def _explain(self, err: Exception | str) -> NoResult:
        if isinstance(err, InputError):
            return self.describe(err.reason, " ".join(str(err).split()))
        if isinstance(err, str):
            return self.describe(Reason.KILLED, err)
        return self.describe(Reason.ERROR, f"{type(err).__name__}: {err}")


def _records(out: str | Path) -> Path:
    return Path(out) / "logs" / "failures"


def _missing(inputs: Any, skippable: Sequence[str], failable: Sequence[str]) -> NoResult | None:
    """Return why an input that the job cannot do without is missing: failures first."""
    found = []
    for name, value in inputs.items():
        if name in failable:
            continue
        for path in [value] if isinstance(value, str) else value:
            why = explain(path)
            if why and not (why.skipped and name in skippable):
                found.append(why)
    return min(found, key=lambda why: why.skipped, default=None)


def _work_in_a_child(record: _Record, passes_on: bool) -> None:
    """Return in a new process; the old one waits for it, and records if it was killed."""
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _die_with(parent)
        return
    try:
        status = _wait_for(child)
    except BaseException as err:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os._exit(_STOPPED if isinstance(err, KeyboardInterrupt) else 1)
    if os.WIFSIGNALED(status):
        for output in record.outputs:
            _remove_leftovers(Path(output))
        name = signal.Signals(os.WTERMSIG(status)).name
        killed = f"the job was stopped from outside by {name}, which mostly means that memory ran out; see its log"
        os._exit(record.fail(killed, passes_on))
    os._exit(os.WEXITSTATUS(status))


def _wait_for(child: int) -> int:
    """Wait for a process, no longer than its run lasts."""
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if not _run_goes_on():
            raise SystemExit("the run that this job belonged to has ended")
        time.sleep(_LOOK_EVERY_S)


def _run_goes_on() -> bool:
    """Whether the main process lives, as far as can be told from here."""
    pid, _, host = os.environ.get(RUN, "").partition("@")
    if not pid or host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def announce_run(retries: int) -> None:
    """Set the environment of this process's jobs: whom they belong to, how often one that fails is tried again."""
    os.environ[RUN] = f"{os.getpid()}@{socket.gethostname()}"
    os.environ[RETRIES] = str(retries)


def _die_with(parent: int) -> None:
    """Have this process killed when its parent dies (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _stage(outputs: dict[str, str]) -> dict[str, str]:
    """Make the folders to write into, one beside each output; those of a killed attempt are removed."""
    staged = {}
    for name, output in outputs.items():
        path = Path(output)
        _remove_leftovers(path)
        folder = path.parent / f"{_STAGED}-{path.name}-{os.getpid()}"
        folder.mkdir(parents=True)
        staged[name] = str(folder / path.name)
    return staged


def _remove_leftovers(output: Path) -> None:
    """Remove what a killed job has written of an output."""
    for old in output.parent.glob(f"{_STAGED}-{output.name}-*"):
        shutil.rmtree(old, ignore_errors=True)


def _publish(staged: Iterable[str]) -> None:
    """Move everything that was written to where it belongs, sidecars first and the output last."""
    for path in map(Path, staged):
        if not path.exists():
            raise FileNotFoundError(f"the job ended well and did not write {path.name}")
    for path in _only_staged(staged):
        beside = [each for each in path.parent.iterdir() if each != path]
        for each in [*beside, path]:
            each.replace(path.parents[1] / each.name)
        path.parent.rmdir()


def _remove_staged(staged: Iterable[str]) -> None:
    for path in _only_staged(staged):
        shutil.rmtree(path.parent, ignore_errors=True)


def _only_staged(paths: Iterable[str]) -> list[Path]:
    return [Path(path) for path in paths if Path(path).parent.name.startswith(_STAGED)]


@contextlib.contextmanager
def everything_to(log: TextIO) -> Iterator[None]:
    """Redirect what Python prints, and what C++ libraries and programs print past it."""
    with (
        wurlitzer.pipes(stdout=log, stderr=wurlitzer.STDOUT),
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield
