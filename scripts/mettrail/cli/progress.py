"""What a run has done and still has to do, from the events that it tells of (`snakemake_logger_plugin_mettrail`)."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mettrail import jobs

# Name of what is done once for all patients.
COHORT = "cohort"
BAR = 10
# So many of a kind are shown one by one.
SHOWN = 5
LONGEST_LINE = 300
# An estimate from fewer jobs is worth nothing.
FIRST_ESTIMATE = 3


@dataclass
class Patient:
    """The jobs of one patient, or of the cohort."""

    name: str
    planned: int = 0
    done: int = 0
    failed: int = 0
    running: dict[int, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.done >= self.planned


@dataclass(frozen=True)
class _Job:
    rule: str
    sub: str
    ses: str
    log: str
    start: float

    @property
    def patient(self) -> str:
        return f"sub-{self.sub}" if self.sub else COHORT

    @property
    def unit(self) -> str:
        return "_".join(filter(None, [self.sub and f"sub-{self.sub}", self.ses and f"ses-{self.ses}"])) or "the cohort"


class Progress:
    """The state of a run.

    Parameters
    ----------
    explain : function
        From the log of a job that has ended, why it failed (`jobs.read_failure`): a failure is passed on, and Snakemake
        takes such a job for one that went well.
    clock : function
        Seconds.
    """

    def __init__(
        self,
        *,
        explain: Callable[[str], jobs.NoResult | None] = jobs.read_failure,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._explain, self._clock = explain, clock
        self._start = clock()
        self._running: dict[int, _Job] = {}
        self._planned: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()
        self._seconds: dict[str, float] = defaultdict(float)
        # Jobs by rule; of a dry run all there are.
        self.started: Counter[str] = Counter()
        # By the user: jobs that end with it have not failed.
        self.stopped = False
        self.patients: dict[str, Patient] = {}
        self.failures: dict[int, str] = {}
        self.problems: list[str] = []
        self.errors: list[str] = []

    def take(self, event: dict[str, Any]) -> list[str]:
        """Learn of an event; return lines that people have to see at once."""
        lines: list[str] = getattr(self, f"_take_{event['event']}")(event)
        return lines

    @property
    def total(self) -> int:
        """Jobs in all; none where nothing is to be done, or nothing will be (a dry run)."""
        return sum(patient.planned for patient in self.patients.values())

    @property
    def done(self) -> int:
        """Jobs that have ended."""
        return sum(patient.done for patient in self.patients.values())

    def seconds_left(self) -> float | None:
        """Estimate how long the rest takes; None as long as nobody can tell.

        Each rule takes as long as it has taken so far, one that has not run yet as long as the mean job, and as many
        run side by side as have until now.
        """
        ended, now = sum(self._ended.values()), self._clock()
        if ended < FIRST_ESTIMATE or now <= self._start:
            return None
        mean = sum(self._seconds.values()) / ended
        each = {rule: self._seconds[rule] / self._ended[rule] for rule in self._ended}
        spent = [(job, now - job.start) for job in self._running.values()]
        work = sum(
            max(0, count - self._ended[rule]) * each.get(rule, mean) for rule, count in self._planned.items()
        ) - sum(min(seconds, each.get(job.rule, mean)) for job, seconds in spent)
        at_once = (sum(self._seconds.values()) + sum(seconds for _, seconds in spent)) / (now - self._start)
        return max(0.0, work / at_once) if at_once else None

    def _patient(self, name: str) -> Patient:
        return self.patients.setdefault(name, Patient(name))

    def _take_plan(self, event: dict[str, Any]) -> list[str]:
        for rule, sub, count in event["jobs"]:
            self._planned[rule] += count
            self._patient(f"sub-{sub}" if sub else COHORT).planned += count
        self.patients = dict(sorted(self.patients.items(), key=lambda item: (item[0] == COHORT, item[0])))
        return []

    def _take_started(self, event: dict[str, Any]) -> list[str]:
        job = _Job(event["rule"], event["sub"], event["ses"], event["log"], self._clock())
        self._running[event["job"]] = job
        self.started[job.rule] += 1
        self._patient(job.patient).running[event["job"]] = f"{job.rule} ses-{job.ses}" if job.ses else job.rule
        return []

    def _take_finished(self, event: dict[str, Any]) -> list[str]:
        job = self._running.pop(event["job"], None)
        if job is None:
            return []
        patient = self._patient(job.patient)
        patient.running.pop(event["job"], None)
        patient.done += 1
        self._ended[job.rule] += 1
        self._seconds[job.rule] += self._clock() - job.start
        self.failures.pop(event["job"], None)
        return self._fail(event["job"], job) if job.log and self._explain(job.log) else []

    def _take_failed(self, event: dict[str, Any]) -> list[str]:
        job = self._running.pop(event["job"], None)
        if job is None:
            return []
        self._patient(job.patient).running.pop(event["job"], None)
        return self._fail(event["job"], job)

    def _fail(self, number: int, job: _Job) -> list[str]:
        if self.stopped:
            return []
        why = self._explain(job.log) if job.log else None
        self._patient(job.patient).failed += 1
        self.failures[number] = shorten(
            f"FAILED {job.rule} of {job.unit}: {why.detail if why else 'the job ended with an error'} (log: {job.log})"
        )
        return [self.failures[number]]

    def _take_problems(self, event: dict[str, Any]) -> list[str]:
        room = max(0, SHOWN - len(self.problems))
        self.problems += event["lines"]
        return [shorten(line) for line in event["lines"][:room]]

    def _take_error(self, event: dict[str, Any]) -> list[str]:
        self.errors.append(event["text"].strip())
        return []


def shorten(line: str) -> str:
    """Return a line that does not fill the screen."""
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 2]} …"


def count(number: int, noun: str) -> str:
    """Return a number of things, in words."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def draw_bar(done: int, total: int) -> str:
    """Return a bar; it is full when all is done, not before."""
    full = BAR if done >= total else done * BAR // total
    return "#" * full + "-" * (BAR - full)


def describe_seconds(seconds: float) -> str:
    """Return a time for people: seconds only where there is nothing longer."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def describe_left(progress: Progress) -> str:
    """Return how far a run is, in one line."""
    seconds = progress.seconds_left()
    left = progress.total - progress.done
    time_left = f", about {describe_seconds(seconds)}" if seconds is not None and left else ""
    failed = f", {len(progress.failures)} failed" if progress.failures else ""
    return f"{progress.done} of {progress.total} jobs done, {left} left{time_left}{failed}"
