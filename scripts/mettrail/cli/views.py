"""A run as people see it while it goes on: a screen that fills up, or plain lines where there is none."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from mettrail.cli.progress import COHORT, Patient, Progress, describe_left, draw_bar

# Plain lines say how far the run is so often, in percent.
STEP = 5
# So many patients are named one by one in plain lines.
NAMED = 20
# Lines of the screen that are not patients: how many more there are, how far all is, the prompt.
_BELOW = 4


def open_view(console: Console) -> Screen | Lines:
    """Return what suits the console."""
    return Screen(console) if console.is_terminal else Lines(console)


class Screen:
    """A terminal: one line per patient that fills up, and how far the run is."""

    def __init__(self, console: Console):
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """Print a line above the patients."""
        self._console.print(Text(line, style="red" if line.startswith("FAILED") else ""))

    def show(self, progress: Progress) -> None:
        """Draw the state anew."""
        self._live.update(Group(*self._draw(progress)), refresh=True)

    def _draw(self, progress: Progress) -> list[Text]:
        if not progress.total:
            return [Text("Looking at the dataset and at what is there already …")]
        patients = list(progress.patients.values())
        shown = choose_patients(patients, room=max(1, self._console.height - _BELOW))
        width = max(len(patient.name) for patient in shown)
        lines = [_draw_patient(patient, width) for patient in shown]
        hidden = [patient for patient in patients if patient not in shown]
        if hidden:
            complete = sum(patient.complete for patient in hidden)
            lines.append(Text(f"… and {len(hidden)} more, {complete} of them complete", style="dim"))
        for line in lines:
            line.truncate(self._console.width, overflow="ellipsis")
        return [*lines, Text(describe_left(progress), style="bold")]


def _draw_patient(patient: Patient, width: int) -> Text:
    style = "red" if patient.failed else "green" if patient.complete else ""
    line = Text(f"{patient.name:<{width}}  ")
    line.append(draw_bar(patient.done, patient.planned), style=style)
    line.append(f"  {patient.done:>3}/{patient.planned}")
    line.append(f"  {', '.join(patient.running.values())}", style="dim")
    return line


def choose_patients(patients: list[Patient], *, room: int) -> list[Patient]:
    """Return the patients there is room for, in their order: those at work first, those that are complete last."""
    by_interest = sorted(patients, key=lambda each: (not each.running, each.complete))
    kept = {patient.name for patient in by_interest[:room]}
    return [patient for patient in patients if patient.name in kept]


class Lines:
    """No terminal: a line for each patient that is complete and for each twentieth of all jobs."""

    def __init__(self, console: Console):
        self._console = console
        self._said: set[str] = set()
        self._percent = -STEP

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def say(self, line: str) -> None:
        """Print a line."""
        # Whole lines, so that they can be searched: no console width cuts them.
        print(line, file=self._console.file, flush=True)

    def show(self, progress: Progress) -> None:
        """Print what has been reached since the last time."""
        if not progress.total:
            return
        patients = list(progress.patients.values())
        for patient in patients if len(patients) <= NAMED else []:
            if patient.complete and patient.name not in {COHORT, *self._said}:
                self._said.add(patient.name)
                self.say(f"{patient.name}  {draw_bar(patient.done, patient.planned)}  {patient.done}/{patient.planned}")
        percent = 100 * progress.done // progress.total
        if percent >= self._percent + STEP:
            self._percent = percent - percent % STEP
            self.say(f"{percent:>3} %  {describe_left(progress)}")
