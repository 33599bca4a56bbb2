"""The chart of a cohort: best change of the sum (waterfall) and response at each session (swimmer), by patient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mettrail.report.charts.canvas import chart, write_empty, write_heading, write_title
from mettrail.report.charts.layout import TimeAxis
from mettrail.report.charts.svg import say
from mettrail.report.figures import GRID, INK, MUTED, PAPER, RESPONSE_COLOURS, RESPONSE_NAMES, is_unconfirmed
from mettrail.report.text import Record, plural_of, records_of, show, show_day
from mettrail.schema.cells import number_of, text_of, truth_of

_FATE: dict[str, dict[str, Any]] = {
    "death": {"marker": "X", "ms": 7.5, "mfc": INK, "mec": PAPER, "mew": 0.6, "ls": ""},
    "last contact": {"marker": ">", "ms": 5, "mfc": PAPER, "mec": MUTED, "mew": 1, "ls": ""},
}


def draw_cohort(
    patient_rows: pd.DataFrame,
    session_rows: pd.DataFrame,
    path: str | Path,
    *,
    pr_fraction: float,
    pd_fraction: float,
    title: str = "",
) -> None:
    """Draw one line per patient: best change of the sum (waterfall) and response at each session (swimmer).

    Parameters
    ----------
    patient_rows, session_rows : DataFrame
        The whole patient and session tables. May be empty.
    path : path
        ``.svg`` or ``.png``.
    pr_fraction, pd_fraction : float
        Settings ``rano.pr`` and ``rano.pd``.
    title : str
    """
    patients = sorted(records_of(patient_rows), key=_rank)
    sessions = records_of(session_rows)
    names = [str(patient["participant_id"]) for patient in patients]
    lines = max(len(patients), 3)
    each = 0.27 if len(patients) <= 40 else 0.19 if len(patients) <= 100 else 0.13
    height = lines * each + 1.35
    with chart(path, (10.4, height)) as fig:
        top, bottom = 1 - 0.8 / height, 0.55 / height
        fall = fig.add_axes((0.115, bottom, 0.3, top - bottom))
        swim = fig.add_axes((0.455, bottom, 0.525, top - bottom), sharey=fall)
        write_title(fig, title, down=0.2)
        _draw_waterfall(fall, patients, pr_fraction, pd_fraction)
        _draw_swimmer(swim, patients, sessions)
        fall.set_yticks(range(len(patients)), names, fontsize=8 if each > 0.15 else 6)
        for label, patient in zip(fall.get_yticklabels(), patients, strict=True):
            label.set_color(INK)
            say(label, _say_patient(patient), str(patient["participant_id"]))
        fall.set_ylim(lines - 0.4, -0.6)
        _draw_response_key(fig, height, patients, sessions)
        if not patients:
            write_empty(fall, "no patient")


def _rank(patient: Record) -> tuple[bool, float]:
    """Order patients by their best change; those without one come last."""
    change = number_of(patient, "best_change_ld_pct")
    known = bool(np.isfinite(change))
    return (not known, change if known else 0.0)


def _draw_waterfall(axes: Axes, patients: Sequence[Record], pr_fraction: float, pd_fraction: float) -> None:
    write_heading(axes, "Best change of the sum, %")
    for y, patient in enumerate(patients):
        change = number_of(patient, "best_change_ld_pct")
        if not np.isfinite(change):
            axes.text(2, y, "n/a", fontsize=7, va="center", color=MUTED)
            continue
        best = text_of(patient, "best_response") or "n/a"
        colour, ink = RESPONSE_COLOURS.get(best, RESPONSE_COLOURS["NE"])
        end = min(max(change, -100), 100)
        (bar,) = axes.barh(y, end, height=0.68, color=colour, lw=0, zorder=3)
        name = str(patient["participant_id"])
        words = show("patients", "best_change_ld_pct", patient)
        say(bar, f"{name}: best change of the sum {words}, best response {best}", name)
        inside = change < -70
        rightwards = change >= 0 or inside
        axes.text(
            end + (3 if rightwards else -3),
            y,
            f"{change:+.0f}".replace("-", "−") + (" ▸" if change > 100 else ""),
            fontsize=6.8,
            va="center",
            ha="left" if rightwards else "right",
            color=ink if inside else MUTED,
            zorder=4,
        )
    # +20 % from baseline alone is no progression: that counts from the nadir, and requires millimetres, too.
    for x, colour in ((-100 * pr_fraction, RESPONSE_COLOURS["CR"][0]), (100 * pd_fraction, MUTED)):
        axes.axvline(x, color=colour, lw=0.9, ls=(0, (4, 2)), zorder=2)
    axes.axvline(0, color=MUTED, lw=0.8, zorder=4)
    axes.set_xlim(-104, 118)
    axes.set_xticks([-100, -50, 0, 50, 100])
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _draw_swimmer(axes: Axes, patients: Sequence[Record], sessions: Sequence[Record]) -> None:
    write_heading(axes, "Response at each session")
    of_patient: dict[str, list[Record]] = {}
    for session in sessions:
        of_patient.setdefault(str(session["participant_id"]), []).append(session)
    for y, patient in enumerate(patients):
        _draw_lane(axes, y, patient, of_patient.get(str(patient["participant_id"]), []))
    axes.set_xlabel("days from t0 (order of sessions where no dates are known)", color=MUTED, fontsize=8.5)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0, labelleft=False)
    axes.spines["left"].set_visible(False)


def _draw_lane(axes: Axes, y: float, patient: Record, sessions: Sequence[Record]) -> None:
    """Draw the sessions of a patient, the day of progression, and what is known afterwards."""
    if not sessions:
        axes.text(0, y, "no session", fontsize=7, va="center", color=MUTED)
        return
    name, time = str(patient["participant_id"]), TimeAxis.of(sessions)
    first, last = min(time.places.values()), max(time.places.values())
    if time.dated:
        _draw_fate(axes, patient, y, last)
    axes.plot([first, last], [y, y], color=GRID, lw=5, solid_capstyle="round", zorder=1)
    for session, x in zip(sessions, time.places.values(), strict=True):
        style = _session_marker(_kind_of(session), hollow=is_unconfirmed(session))
        (mark,) = axes.plot(x, y, zorder=3, clip_on=False, **style)
        say(mark, _say_session(session), f"{name}#{session['session_id']}")
        if text_of(session, "new_lesion") in ("definite", "equivocal"):
            axes.plot(x, y, marker="*", ms=4, color=PAPER, mew=0, ls="", zorder=4, clip_on=False)
    progression = number_of(patient, "progression_day")
    if time.dated and np.isfinite(progression):
        (line,) = axes.plot([progression] * 2, [y - 0.42, y + 0.42], color=RESPONSE_COLOURS["PD"][0], lw=1.3, zorder=2)
        say(line, f"{name}: progression on day {progression:g}", name)


def _say_patient(patient: Record) -> str:
    """Say of a patient what the lane shows."""
    words = [plural_of(int(number_of(patient, "n_sessions")), "session")] if text_of(patient, "n_sessions") else []
    words.append(f"best response {text_of(patient, 'best_response') or 'n/a'}")
    if text_of(patient, "progression_day"):
        words.append(f"progression on day {text_of(patient, 'progression_day')}")
    return f"{patient['participant_id']}: {', '.join(words)}"


def _say_session(session: Record) -> str:
    """Say of a session what its mark shows."""
    kind = _kind_of(session)
    words = [RESPONSE_NAMES.get(kind, kind) + (", not confirmed" if is_unconfirmed(session) else "")]
    if text_of(session, "sum_ld_final_mm"):
        words.append(f"sum {show('sessions', 'sum_ld_final_mm', session)}")
    if text_of(session, "new_lesion") in ("definite", "equivocal"):
        words.append(f"new lesion: {text_of(session, 'new_lesion')}")
    return f"{session['participant_id']}, {session['session_id']}, {show_day(session)}: {'; '.join(words)}"


def _kind_of(session: Record) -> str:
    """Return a session's role up to baseline, and its response from then on."""
    role = text_of(session, "session_role")
    if role in ("baseline", "prebaseline"):
        return role
    evaluable = truth_of(session, "evaluable") is not False
    return (evaluable and text_of(session, "response_overall_final")) or "NE"


def _draw_fate(axes: Axes, patient: Record, y: float, last_session: float) -> None:
    """Draw survival after the last session, as far as it is known, and death."""
    death, contact = (number_of(patient, c) for c in ("death_day", "last_contact_day"))
    end = death if np.isfinite(death) else contact
    if end > last_session:
        axes.plot([last_session, end], [y, y], color=MUTED, lw=1, zorder=1)
    known = "death" if np.isfinite(death) else "last contact"
    if known == "death" or contact > last_session:
        (mark,) = axes.plot(end, y, zorder=3, **_FATE[known])
        name = str(patient["participant_id"])
        say(mark, f"{name}: {known} on day {end:g}", name)


def _session_marker(kind: str, *, hollow: bool = False) -> dict[str, Any]:
    """Return the mark of a session on the swimmer: squares are progression, grey and hollow is not evaluable.

    A hollow one in colour is a response that was not confirmed.
    """
    if kind in ("baseline", "prebaseline"):
        first = kind == "baseline"
        return {"marker": "|", "ms": 9 if first else 6, "mew": 2 if first else 1, "color": INK if first else MUTED}
    if kind == "NE":
        return {"marker": "o", "ms": 6, "mfc": PAPER, "mec": MUTED, "mew": 1, "ls": ""}
    colour = RESPONSE_COLOURS.get(kind, RESPONSE_COLOURS["NE"])[0]
    return {
        "marker": "s" if kind in ("PD", "uPD") else "o",
        "ms": 6.5,
        "mfc": PAPER if hollow else colour,
        "mec": colour if hollow else PAPER,
        "mew": 1.6 if hollow else 0.6,
        "ls": "",
    }


def _draw_response_key(fig: Figure, height: float, patients: Sequence[Record], sessions: Sequence[Record]) -> None:
    """Name the marks that are on the swimmer."""
    axes = fig.add_axes((0.115, 1 - 0.36 / height, 0.875, 0.28 / height))
    axes.set_axis_off()
    axes.set_ylim(-1, 1)
    seen = {text_of(session, "response_overall_final") for session in sessions}
    kinds = ["baseline", *(r for r in RESPONSE_COLOURS if r in seen or r in ("CR", "PR", "SD", "PD", "NE"))]
    items = [(RESPONSE_NAMES.get(kind, kind), _session_marker(kind)) for kind in kinds]
    if any(map(is_unconfirmed, sessions)):
        items.append(("not confirmed", _session_marker("PR", hollow=True)))
    if _any_day(patients, "progression_day"):
        items.append(("progression dated", {"marker": "|", "ms": 10, "mew": 1.3, "color": RESPONSE_COLOURS["PD"][0]}))
    if {text_of(session, "new_lesion") for session in sessions} & {"definite", "equivocal"}:
        items.append(("new lesion", {"marker": "*", "ms": 6, "mfc": PAPER, "mec": MUTED, "mew": 0.7, "ls": ""}))
    for name, column in (("death", "death_day"), ("last contact", "last_contact_day")):
        if _any_day(patients, column):
            items.append((name, _FATE[name]))
    x = 0.0
    for name, style in items:
        axes.plot(x + 1, 0, **style)
        axes.text(x + 2.6, 0, name, fontsize=7.8, va="center", color=MUTED)
        x += 5.2 + 1.0 * len(name)
    axes.set_xlim(min(0, x - 130), max(x, 130))


def _any_day(patients: Sequence[Record], column: str) -> bool:
    """Tell whether any patient has a day in a column."""
    return any(np.isfinite(number_of(patient, column)) for patient in patients)
