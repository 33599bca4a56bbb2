"""A patient's lesions: by session, in detail at the last one, and since their treatment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mettrail import schema
from mettrail.report.parts import (
    Cell,
    Row,
    Table,
    Track,
    make_cell,
    make_chip,
    make_table,
    make_track,
)
from mettrail.report.text import (
    Record,
    meaning_of,
    plain_words,
    show,
    show_candidate,
    show_day,
    show_role,
    show_volume,
    spaced,
)
from mettrail.schema.cells import flags_of, number_of, text_of, truth_of

DETAILS = {
    "track_id": "lesion",
    "region": "region",
    "ld_mm": "diameter",
    "vol_wl_ml": "volume",
    "vol_growth_ml_per_30_days": "growth in 30 days",
    "vol_doubling_time_days": "doubles in",
    "lesion_response": "alone",
}
TREATED = {
    "track_id": "lesion",
    "treatment_type": "treatment",
    "treatment_day": "day",
    "dose_gy": "dose / fractions",
    "pretreatment_ld_mm": "before",
    "nadir_ld_mm": "smallest",
    "best_response": "best response",
    "local_failure": "local failure",
    "time_to_local_failure_days": "days to it",
    "failure_by": "by",
    "censored_reason": "censored",
}

# Limits of a size: if the outline lay half a voxel off, and by the probabilities of the segmentation.
_LD_RANGES = {
    "½ voxel": ("ld_half_voxel_low_mm", "ld_half_voxel_high_mm"),
    "p": ("ld_probability_low_mm", "ld_probability_high_mm"),
}
_VOLUME_RANGES = {
    "½ voxel": ("vol_half_voxel_low_ml", "vol_half_voxel_high_ml"),
    "p": ("vol_probability_low_ml", "vol_probability_high_ml"),
}


@dataclass(frozen=True)
class Note:
    """Words in small type about a lesion at a session."""

    text: str
    meaning: str = ""
    css: str = ""


@dataclass(frozen=True)
class LesionCell:
    """A lesion at a session."""

    status: str
    size: str = ""
    merged_into: Track | None = None
    notes: Sequence[Note] = ()


@dataclass(frozen=True)
class LesionRow:
    """A lesion over all sessions: None before it was first detected."""

    track: Track
    role: str
    cells: Sequence[LesionCell | None]
    change: str


@dataclass(frozen=True)
class Matrix:
    """All lesions by session."""

    sessions: Sequence[tuple[str, str]]
    change_meaning: str
    rows: Sequence[LesionRow]
    filtered: bool


def make_matrix(lesions: Sequence[Record], sessions: Sequence[Record]) -> Matrix | None:
    """Lay out all lesions by session, targets first; None without a lesion."""
    if not lesions:
        return None
    days = {s["session_id"]: show_day(s) for s in sessions}
    names = [*days, *sorted({r["session_id"] for r in lesions} - set(days))]
    by_track: dict[str, dict[str, Record]] = {}
    for row in lesions:
        by_track.setdefault(text_of(row, "track_id"), {})[text_of(row, "session_id")] = row
    rows = []
    for track, found in sorted(by_track.items(), key=lambda item: _track_order(item[0], item[1].values())):
        last = list(found.values())[-1]
        change = show("lesions", "ld_change_baseline_pct", last)
        cells = [_lesion_cell(found[name]) if name in found else None for name in names]
        rows.append(LesionRow(make_track(track), show_role(last), cells, "–" if change == "n/a" else change))
    meaning = schema.column("lesions", "ld_change_baseline_pct").description
    return Matrix([(name, days.get(name, "")) for name in names], meaning, rows, filtered=len(rows) > 12)


def make_details(lesions: Sequence[Record]) -> Table | None:
    """Show place, uncertainty and growth of the lesions present at a session; None without one."""
    rows = []
    present = [r for r in lesions if text_of(r, "status") == "present"]
    for row in sorted(present, key=lambda r: _track_order(text_of(r, "track_id"), [r])):
        region, response = text_of(row, "region"), text_of(row, "lesion_response")
        place = spaced(text_of(row, "side"), plain_words(region) if region else "")
        size, volume = show("lesions", "ld_mm", row, unit=False), show_volume(number_of(row, "vol_wl_ml"))
        cells = [
            Cell(place or "n/a"),
            Cell(size, notes=_ranges(row, _LD_RANGES, "{:.1f}".format), css="number"),
            Cell(volume, notes=_ranges(row, _VOLUME_RANGES, show_volume), css="number"),
            Cell(_growth(number_of(row, "vol_growth_ml_per_30_days")), css="number"),
            Cell(_doubling(number_of(row, "vol_doubling_time_days")), css="number"),
            Cell(chip=make_chip(response, "lesions", "lesion_response")) if response else Cell("n/a"),
        ]
        head = Cell(track=make_track(text_of(row, "track_id")), notes=[show_role(row)])
        rows.append(Row(head, cells))
    return make_table("lesions", DETAILS, rows) if rows else None


def make_treated_table(treated: Sequence[Record]) -> Table | None:
    """Show what became of each treated lesion since its treatment; None without one."""
    rows = []
    for row in treated:
        cells = {name: make_cell("treated_lesions", name, row) for name in TREATED}
        cells["treatment_type"] = Cell(plain_words(text_of(row, "treatment_type")))
        dose = spaced(show("treated_lesions", "dose_gy", row), "/", text_of(row, "fractions"))
        cells["dose_gy"] = Cell(dose if text_of(row, "dose_gy") else "n/a", css="number")
        if truth_of(row, "local_failure"):
            confirmed = {True: "confirmed", False: "not confirmed", None: ""}[truth_of(row, "failure_confirmed")]
            effect = "may be an effect of treatment" if truth_of(row, "treatment_effect_possible") else ""
            notes = ", ".join(note for note in (confirmed, effect) if note)
            cells["local_failure"] = Cell(f"day {text_of(row, 'local_failure_day')}", notes=[notes] if notes else [])
        del cells["track_id"]
        rows.append(Row(Cell(track=make_track(text_of(row, "track_id"))), list(cells.values())))
    return make_table("treated_lesions", TREATED, rows) if rows else None


def _track_order(track: str, rows: Iterable[Record]) -> tuple[bool, str]:
    """Targets first, then as numbered."""
    return ("target" not in {text_of(row, "role") for row in rows}, track)


def _lesion_cell(row: Record) -> LesionCell:
    status = text_of(row, "status")
    size, merged_into, notes = "", None, []
    if status == "present":
        size = show("lesions", "ld_mm", row)
        notes += [Note(show_volume(number_of(row, "vol_wl_ml"))), *_event_notes(row)]
    elif status == "merged":
        merged_into = make_track(text_of(row, "merged_into"))
    else:
        word = {"absent": "not detected", "not_evaluable": "NE"}.get(status, status or "n/a")
        notes.append(Note(word, meaning_of("lesions", "status", status)))
    flags = flags_of(row)
    if flags:
        meaning = "; ".join(meaning_of("lesions", "flags", flag) or plain_words(flag) for flag in flags)
        notes.append(Note(f"⚑ {', '.join(map(plain_words, flags))}", meaning, "event"))
    return LesionCell(status, size, merged_into, notes)


def _event_notes(row: Record) -> Iterator[Note]:
    event = text_of(row, "event")
    text = {
        "new": ", ".join(part for part in ("★ new", text_of(row, "new_lesion_status")) if part),
        "split": f"{text_of(row, 'n_components')} components",
        "reappeared": "reappeared",
    }.get(event)
    if text:
        yield Note(text, meaning_of("lesions", "event", event), "event")
    candidate = show_candidate(row)
    if candidate:
        yield Note(candidate, meaning_of("lesions", "certainty", "candidate"), "event")


def _ranges(row: Record, columns: Mapping[str, tuple[str, str]], shown: Callable[[float], str]) -> list[str]:
    ranges = []
    for name, ends in columns.items():
        low, high = (number_of(row, end) for end in ends)
        if not (math.isnan(low) or math.isnan(high)):
            ranges.append(f"{name} {shown(low)}–{shown(high)}")
    return ranges


def _growth(ml: float) -> str:
    return "n/a" if math.isnan(ml) else ("+" if ml >= 0 else "−") + show_volume(abs(ml))


def _doubling(days: float) -> str:
    """Say in how many days a volume doubles, or halves."""
    if math.isnan(days):
        return "n/a"
    shown = f"{abs(days):.0f} d"
    return shown if days > 0 else f"halves in {shown}"
