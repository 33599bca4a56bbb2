"""What the pages are made of: values ready to be shown, and nothing of HTML. The templates lay them out."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mettrail import schema
from mettrail.colours import track_colour
from mettrail.errors import InputError
from mettrail.report.charts import svg
from mettrail.report.figures import RESPONSE_COLOURS, RESPONSE_NAMES, is_unconfirmed, pr_continues, track_marker
from mettrail.report.text import Record, meaning_of, plain_label, plain_words, show, show_unit, spaced
from mettrail.schema.cells import text_of, truth_of, words_of

# Stages of a problem that did not stop a session.
NO_FAILURE = ("warning", "not used")
# The style sheet draws Matplotlib's markers under these names.
_MARKS = {
    **{"o": "disc", "s": "square", "^": "up", "D": "diamond"},
    **{"v": "down", "P": "plus", "<": "left", ">": "right"},
}
_IMAGE_TYPES = {".png": "png", ".jpg": "jpeg"}


@dataclass(frozen=True)
class Link:
    """A name, and where it leads; without an address it is the name alone."""

    text: str
    href: str = ""


@dataclass(frozen=True)
class Chip:
    """A response in its colours; without a colour it is a plain word."""

    text: str
    style: str = ""
    meaning: str = ""
    plain: bool = False


@dataclass(frozen=True)
class Response:
    """A session's response, and what it does not say itself."""

    chip: Chip
    note: str = ""


@dataclass(frozen=True)
class Track:
    """A lesion's ID with its mark and colour beside it: coloured text would be hard to read."""

    name: str
    mark: str
    colour: str


@dataclass(frozen=True)
class Cell:
    """A cell of a table: a link, a chip, a lesion or text, and notes in small type."""

    text: str = ""
    href: str = ""
    chip: Chip | None = None
    track: Track | None = None
    notes: Sequence[str] = ()
    meaning: str = ""
    css: str = ""


@dataclass(frozen=True)
class Heading:
    """Heading of a column."""

    text: str
    unit: str = ""
    meaning: str = ""
    css: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table; the first cell is its heading."""

    head: Cell
    cells: Sequence[Cell]
    css: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a name for those who do not see it; a long one can be filtered."""

    label: str
    headings: Sequence[Heading]
    rows: Sequence[Row]
    filtered: bool = False


@dataclass(frozen=True)
class Fact:
    """A figure of a patient, a session or the cohort."""

    name: str
    text: str = ""
    note: str = ""
    chip: Chip | None = None


@dataclass(frozen=True)
class Flag:
    """A remark and its meaning."""

    name: str
    meaning: str


@dataclass(frozen=True)
class Problem:
    """A failure, an exclusion or a warning of a session or a patient; `used`: a warning, the session is used."""

    subject: str
    stage: str
    reason: str
    used: bool
    detail: str
    log: str


@dataclass(frozen=True)
class Picture:
    """A picture inside the page."""

    source: str
    alt: str


def make_chip(
    response: str, kind: str = "sessions", name: str = "response_overall_final", *, hollow: bool = False
) -> Chip:
    """Show a response of a table's column; hollow where it is not confirmed."""
    if not response:
        return Chip("n/a", plain=True)
    style = ""
    if response in RESPONSE_COLOURS:
        colour, ink = RESPONSE_COLOURS[response]
        style = f"box-shadow:inset 0 0 0 2px {colour}" if hollow else f"background:{colour};color:{ink}"
    return Chip(RESPONSE_NAMES.get(response, response), style, meaning_of(kind, name, response))


def make_response(session: Record) -> Response:
    """Show a session's overall response."""
    unconfirmed = is_unconfirmed(session)
    note = "not confirmed" if unconfirmed else "confirmed PR continues" if pr_continues(session) else ""
    return Response(make_chip(text_of(session, "response_overall_final") or "NE", hollow=unconfirmed), note)


def make_standing(session: Record) -> Response:
    """Show a session's overall response, or its role where it has none: up to baseline."""
    role = text_of(session, "session_role")
    if role in ("baseline", "prebaseline"):
        return Response(Chip({"prebaseline": "before baseline"}.get(role, role), plain=True))
    return make_response(session)


def make_track(track_id: str) -> Track:
    """Show a lesion's ID with its mark and colour."""
    name = track_id or "?"
    return Track(name, _MARKS[track_marker(name)], track_colour(name))


def make_heading(kind: str, name: str, title: str) -> Heading:
    """Head a column of a final table; its description is the meaning."""
    column = schema.column(kind, name)
    return Heading(title, show_unit(column), f"{name}: {column.description}", _alignment(column))


def make_cell(kind: str, name: str, row: Record) -> Cell:
    """Show a cell of a final table."""
    column, value = schema.column(kind, name), text_of(row, name)
    if column.dtype == "enum" and value in RESPONSE_COLOURS:
        return Cell(chip=make_chip(value, kind, name))
    if name in ("flags", "ne_reason", "progression_reason", "pd_reason"):
        words = words_of(row, name)
        meaning = "; ".join(meaning_of(kind, name, word) for word in words)
        return Cell(", ".join(map(plain_words, words)) or "–", meaning=meaning, css="text")
    text = show(kind, name, row, unit=False)
    if column.dtype == "enum" and value:
        text = plain_words(text)
    css = spaced(_alignment(column), "" if value else "missing")
    return Cell(text, meaning=meaning_of(kind, name, value), css=css)


def make_response_cell(session: Record) -> Cell:
    """Show a session's response in a table."""
    response = make_response(session)
    return Cell(chip=response.chip, notes=[response.note] if response.note else [])


def make_table(kind: str, columns: Mapping[str, str], rows: Sequence[Row], *, filter_from: int | None = None) -> Table:
    """Lay out columns of a final table under short headings; `filter_from` rows on it can be filtered."""
    headings = [make_heading(kind, name, title) for name, title in columns.items()]
    return Table(f"Table of {kind}", headings, rows, filter_from is not None and len(rows) >= filter_from)


def make_flags(kind: str, row: Record) -> list[Flag]:
    """Show the remarks of a row."""
    return [Flag(plain_words(flag), meaning_of(kind, "flags", flag)) for flag in words_of(row, "flags")]


def make_problem(problem: Record) -> Problem:
    """Show a problem; its reason only where that says more than where it stopped."""
    stage, reason, session = text_of(problem, "stage"), text_of(problem, "reason"), plain_label(text_of(problem, "ses"))
    used = stage == "warning"
    if used:
        reason = ", ".join(map(plain_words, reason.split(";")))
    else:
        reason = "" if reason.removeprefix("failed_") == stage else plain_words(reason)
    subject = f"ses-{session}" if session else f"sub-{plain_label(text_of(problem, 'sub'))}"
    return Problem(subject, stage, reason, used, text_of(problem, "detail"), log_address(problem))


def log_address(problem: Record) -> str:
    """Return where a problem's log lies, seen from a page: pages lie beside the folder of logs."""
    log = text_of(problem, "log").replace("\\", "/")
    return "logs/" + log.rsplit("/logs/", 1)[-1].removeprefix("logs/") if log else ""


def embed_picture(path: str | Path | None, alt: str) -> Picture | None:
    """Put a picture into the page; None where there is no such file."""
    if path is None or not Path(path).is_file():
        return None
    data = base64.b64encode(Path(path).read_bytes()).decode("ascii")
    return Picture(f"data:image/{_IMAGE_TYPES[Path(path).suffix]};base64,{data}", alt)


def embed_chart(path: str | Path | None, alt: str, address_of: Callable[[str], str]) -> str | None:
    """Put a chart into the page, its marks leading where `address_of` says; None where there is no such file."""
    if path is None or not Path(path).is_file():
        return None
    return svg.embed(path, alt, address_of)


def group_pictures(paths: Iterable[str | Path]) -> dict[str, dict[str, Path]]:
    """Sort pictures of sessions by what their names say: ``sub-A_ses-02_lesions.png``.

    Raises
    ------
    InputError
        A name is not that of a session's picture.

    Examples
    --------
    >>> group_pictures(["figures/sub-A_ses-02_brain.png"])["ses-02"]["brain"].name
    'sub-A_ses-02_brain.png'
    """
    grouped: dict[str, dict[str, Path]] = {}
    for path in map(Path, paths):
        match = re.fullmatch(r"sub-[a-zA-Z0-9]+_(ses-[a-zA-Z0-9]+)_([a-z]+)", path.stem)
        if match is None:
            raise InputError(
                str(path),
                found="a name that is not one of a session's picture",
                expected="sub-<label>_ses-<label>_<lesions, more, brain or registration>.png",
                advice="Name it so.",
            )
        grouped.setdefault(match[1], {})[match[2]] = path
    return grouped


def session_css(session: Record) -> str:
    """Return the class of a session that is not evaluable."""
    return "ne" if truth_of(session, "evaluable") is False else ""


def _alignment(column: schema.Column) -> str:
    return "number" if column.dtype in ("float", "integer") else ""
