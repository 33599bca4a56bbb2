"""The pipeline from the command line: what is given is checked first, then Snakemake runs and its progress is shown."""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from mettrail import cohort, project, results, settings
from mettrail.cli import progress as progresses
from mettrail.cli.progress import COHORT, Progress, count, describe_seconds
from mettrail.cli.views import NAMED, open_view
from mettrail.errors import InputError
from mettrail.tracking.features import require_mirp

# In OUT/logs: what Snakemake says, and the settings of the run.
LOG, SETTINGS = "snakemake.log", "settings.yaml"
# How often the display is brought up to date when nothing happens.
_TICK_S = 1.0
_READ = 1 << 16
# What each command makes, to be named at the end.
MAKES = {
    "run": ("index.html", "tables/lesions.csv", "tables/sessions.csv", "tables/patients.csv"),
    "report": ("index.html", "tables/lesions.csv", "tables/sessions.csv", "tables/patients.csv"),
    "sensitivity": ("tables/sensitivity.csv",),
    "radiomics": ("tables/radiomics.csv",),
    "features": ("tables/features.csv", "tables/features_delta.csv"),
    "train": ("train",),
    "compare": ("compare/comparison.html", "compare/comparison.md"),
}
# The rules that pages and tables come from.
PAGES = ("tables", "report_session", "report_lesions", "report_patient", "report")


def run(arguments: argparse.Namespace, snakemake_options: list[str]) -> int:
    """Check what is given, run Snakemake and say how it went.

    Parameters
    ----------
    arguments : Namespace
        ``command``, ``bids``, ``out`` and the options of `cli`.
    snakemake_options : list of str
        Passed on as they are.

    Returns
    -------
    int
        Snakemake's exit status.

    Raises
    ------
    InputError
        Before anything is written.
    """
    if arguments.command == "features":
        require_mirp()
    config = read_config(arguments)
    out, console = Path(config["out"]), Console()
    owner = results.owner(out)
    if owner:
        raise InputError(
            out,
            found=f"{owner} at work",
            expected="one run at a time",
            advice="Wait for it, or stop it, or name another folder.",
        )
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mettrail-") as temporary:
        # A dry run writes nothing where results go. Snakemake's memory (.snakemake) is kept with the results.
        kept = out / "logs"
        folder = Path(temporary) if arguments.dry_run else kept
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SETTINGS).write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
        command = snakemake_command(arguments, settings_file=folder / SETTINGS)
        command += ["--directory", str(kept if kept.is_dir() else folder)]
        progress, status = watch([*command, *snakemake_options], log=folder / LOG, console=console)
        unexplained = status and not (progress.failures or progress.errors)
        said = (folder / LOG).read_text(encoding="utf-8", errors="replace").strip() if unexplained else ""
    if arguments.dry_run:
        lines = describe_plan(progress, status)
    else:
        made = [out / name for name in MAKES[arguments.command]]
        lines = describe_end(progress, status, made=made, log=kept / LOG, seconds=time.monotonic() - start)
    print("\n".join([*lines, *said.splitlines()[-2 * progresses.SHOWN :]]), flush=True)
    return status


# ------------------------------------------------------------------------------------------------------ what is given


def read_config(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return all settings of a run: those shipped, those of files, those of the command line.

    Raises
    ------
    InputError
        They, the dataset or the results folder are not what they have to be.
    """
    root = project.root()
    schema = root / "workflow" / "schemas" / "config.yaml"
    given: dict[str, Any] = {"bids": settings.whole_path(arguments.bids), "out": settings.whole_path(arguments.out)}
    chosen = {
        "participants": arguments.participant_label,
        "sessions": arguments.session_label,
        "exclude": arguments.exclude,
    }
    given["index"] = {name: labels for name, labels in chosen.items() if labels}
    config = settings.read_settings(root / "config" / "config.yaml", arguments.settings, schema, given)
    config = settings.without_working_folder(config, root)
    results.check_place(config)
    cohort.check_dataset(Path(config["bids"]), **settings.index_settings(config))
    return config


def snakemake_command(arguments: argparse.Namespace, *, settings_file: Path) -> list[str]:
    """Return the command that does the work."""
    root = project.root()
    command: list[str | Path] = [sys.executable, "-m", "snakemake"]
    command += [arguments.command] if arguments.command not in ("run", "report") else []
    command += ["--snakefile", root / "Snakefile", "--configfile", settings_file, "--logger", "mettrail"]
    command += ["--nocolor"]
    if arguments.command == "report":
        command += ["--forcerun", *PAGES]
    if arguments.slurm:
        command += ["--workflow-profile", root / "profiles" / "slurm"]
    if arguments.cores or not arguments.slurm:
        command += ["--cores", arguments.cores or "all"]
    if arguments.dry_run:
        command += ["--dry-run"]
    return [str(part) for part in command]


# -------------------------------------------------------------------------------------------------------- while it runs


def watch(command: list[str], *, log: Path, console: Console) -> tuple[Progress, int]:
    """Run Snakemake, its output into a file, and show what it does; return that and the exit status."""
    events, theirs = os.pipe()
    environment = os.environ | {"METTRAIL_EVENTS": str(theirs)}
    progress = Progress()
    with log.open("wb") as output, open_view(console) as view:
        process = subprocess.Popen(command, env=environment, pass_fds=[theirs], stdout=output, stderr=subprocess.STDOUT)
        os.close(theirs)

        def stop(number: int, _: object) -> None:
            progress.stopped = True
            # From the keyboard it gets the signal itself. Either way it ends its jobs in order, and we wait for it.
            if number != signal.SIGINT:
                process.send_signal(number)

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for event in read_events(events):
                for line in progress.take(event) if event else []:
                    view.say(line)
                view.show(progress)
            status = process.wait()
        finally:
            os.close(events)
            for number, handler in before.items():
                signal.signal(number, handler)
    return progress, status if status >= 0 else 128 - status


def read_events(number: int) -> Iterator[dict[str, Any] | None]:
    """Yield what comes through a pipe, a line of JSON each, until its other end is closed; None now and then."""
    waiting = b""
    while True:
        ready, _, _ = select.select([number], [], [], _TICK_S)
        data = os.read(number, _READ) if ready else b""
        if ready and not data:
            return
        *lines, waiting = (waiting + data).split(b"\n")
        yield from map(json.loads, lines)
        if not lines:
            yield None


# -------------------------------------------------------------------------------------------------------------- the end


def describe_end(progress: Progress, status: int, *, made: list[Path], log: Path, seconds: float) -> list[str]:
    """Say in some lines how a run went, where its results are, and what went wrong."""
    failures = list(progress.failures.values())
    done = f"{progress.done} of {progress.total} jobs in {describe_seconds(seconds)}"
    if progress.stopped:
        return [f"Stopped: {done}. The same command resumes.", f"  all that Snakemake said: {log}"]
    if failures:
        lines = [f"{len(failures)} failed, {done}; what does not depend on them is finished. The same command resumes."]
    elif status:
        lines = [f"Stopped: {done}."]
    elif not progress.total:
        lines = ["Nothing to do: the results are up to date."]
    else:
        lines = [f"Done: {done}."]
    lines += [f"  {path}" for path in made if path.exists()]
    if progress.problems:
        remarks = count(len(progress.problems), "remark")
        lines += [f"  {remarks} on the data: excluded sessions, warnings, files not used (index.html)"]
    lines += failures[: progresses.SHOWN]
    if len(failures) > progresses.SHOWN:
        lines += [f"… and {count(len(failures) - progresses.SHOWN, 'more failure')} (index.html)"]
    if status and not failures:
        lines += progress.errors[-1:]
    if status:
        lines += [f"  all that Snakemake said: {log}"]
    return lines


def describe_plan(progress: Progress, status: int) -> list[str]:
    """Say what a dry run would do."""
    if status:
        return ["Nothing can be run as it is.", *progress.errors[-1:]]
    rules = progress.started
    if not rules:
        return ["Nothing to do: the results are up to date."]
    patients = {name: len(patient.running) for name, patient in sorted(progress.patients.items()) if name != COHORT}
    lines = [
        f"{count(rules.total(), 'job')} for {count(len(patients), 'patient')} would run:",
        f"  {', '.join(f'{rule} {jobs}' for rule, jobs in rules.items())}",
        *(f"  {name}  {count(jobs, 'job')}" for name, jobs in list(patients.items())[:NAMED]),
    ]
    if len(patients) > NAMED:
        lines += [f"  … and {len(patients) - NAMED} more"]
    return [*lines, "Nothing was written."]
