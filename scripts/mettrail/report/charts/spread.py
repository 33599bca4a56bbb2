"""The chart of what a cohort is like: the course of each patient's sum (spider), number and volume of lesions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mettrail.report.charts.canvas import chart, write_empty, write_heading
from mettrail.report.charts.layout import TimeAxis
from mettrail.report.charts.svg import say
from mettrail.report.figures import MUTED, PAPER, RESPONSE_COLOURS
from mettrail.report.text import Record, plural_of, records_of, show, show_day, show_volume
from mettrail.schema.cells import number_of, text_of, truth_of

_BAR = "#7d94b8"
# Above this growth a session is drawn at the edge: one patient would press all others to a line.
_TOP_PCT = 150.0
# Edges of the bars of volumes: a sphere of 2.7, 5.8, 12, 27 and 58 mm, and the middle between each two.
_VOLUMES_ML = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, np.inf)


def draw_spread(
    patient_rows: pd.DataFrame,
    session_rows: pd.DataFrame,
    lesion_rows: pd.DataFrame,
    path: str | Path,
    *,
    pr_fraction: float,
    pd_fraction: float,
) -> None:
    """Draw the change of the sum of each patient over days, and how many lesions of what volume are at baseline.

    Parameters
    ----------
    patient_rows, session_rows, lesion_rows : DataFrame
        The whole tables. May be empty.
    path : path
        ``.svg`` or ``.png``.
    pr_fraction, pd_fraction : float
        Settings ``rano.pr`` and ``rano.pd``.
    """
    patients = records_of(patient_rows)
    sessions = records_of(session_rows)
    with chart(path, (10.4, 4.3)) as fig:
        spider = fig.add_axes((0.065, 0.13, 0.5, 0.77))
        numbers = fig.add_axes((0.635, 0.62, 0.345, 0.28))
        volumes = fig.add_axes((0.635, 0.13, 0.345, 0.28))
        _draw_spider(spider, patients, sessions, (-100 * pr_fraction, 100 * pd_fraction))
        _draw_numbers(numbers, patients)
        _draw_volumes(volumes, records_of(lesion_rows))


def _draw_spider(
    axes: Axes, patients: Sequence[Record], sessions: Sequence[Record], limits: tuple[float, float]
) -> None:
    """Draw a line per patient, in the colour of the best response."""
    write_heading(axes, "Change of the sum from baseline, %")
    of_patient: dict[str, list[Record]] = {}
    for session in sessions:
        of_patient.setdefault(str(session["participant_id"]), []).append(session)
    highest = 0.0
    for patient in patients:
        name = str(patient["participant_id"])
        own = of_patient.get(name, [])
        time = TimeAxis.of(own)
        best = text_of(patient, "best_response")
        colour = RESPONSE_COLOURS.get(best, RESPONSE_COLOURS["NE"])[0]
        # Before baseline there is no change, at baseline it is 0.
        points = [(time.places[str(s["session_id"])], _change_of(s), s) for s in own]
        points = [point for point in points if time.dated and np.isfinite(point[1])]
        if len(points) < 2:
            continue
        x, y = [point[0] for point in points], [min(point[1], _TOP_PCT) for point in points]
        axes.plot(x, y, color=colour, lw=1.1, alpha=0.75, zorder=2)
        for day, change, session in points[1:]:
            over = change > _TOP_PCT
            style: dict[str, Any] = {"marker": "^", "ms": 6} if over else {"marker": "o", "ms": 4}
            style |= {"mfc": colour, "mec": PAPER, "mew": 0.5, "ls": "", "clip_on": False}
            (mark,) = axes.plot(day, min(change, _TOP_PCT), zorder=3, **style)
            words = f"{name}, {session['session_id']}, {show_day(session)}: "
            words += show("sessions", "sum_ld_change_baseline_pct", session)
            say(mark, words, f"{name}#{session['session_id']}")
            highest = max(highest, min(change, _TOP_PCT))
    axes.set_ylim(-104, max(60, highest * 1.08))
    if not axes.lines:
        write_empty(axes, "no dated session after baseline has a sum", y=0.6)
    for limit, colour in zip(limits, (RESPONSE_COLOURS["CR"][0], MUTED), strict=True):
        axes.axhline(limit, color=colour, lw=0.9, ls=(0, (4, 2)), zorder=1)
    axes.axhline(0, color=MUTED, lw=0.8, zorder=1)
    axes.set_xlabel("days from t0", color=MUTED, fontsize=8.5)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes.grid(axis="y")


def _change_of(session: Record) -> float:
    baseline = text_of(session, "session_role") == "baseline" and text_of(session, "sum_ld_final_mm")
    return 0.0 if baseline else number_of(session, "sum_ld_change_baseline_pct")


def _draw_numbers(axes: Axes, patients: Sequence[Record]) -> None:
    """Draw how many patients have how many lesions at baseline; more than 10 are together."""
    write_heading(axes, "Lesions at baseline, number of patients")
    known = [min(number_of(patient, "n_lesions_baseline"), 11) for patient in patients]
    found = np.array([number for number in known if np.isfinite(number)], int)
    counts = np.bincount(found, minlength=12)
    names = [*map(str, range(11)), "> 10"]
    _draw_bars(axes, counts, lambda n: f"{names[n]} lesions at baseline: {plural_of(int(counts[n]), 'patient')}")
    axes.set_xticks(range(12), names, fontsize=8)


def _draw_volumes(axes: Axes, lesions: Sequence[Record]) -> None:
    """Draw how many lesions at baseline have which volume."""
    write_heading(axes, "Volume at baseline, mL, number of lesions")
    at_baseline = [row for row in lesions if truth_of(row, "is_baseline") and text_of(row, "status") == "present"]
    volumes = np.array([number_of(row, "vol_wl_ml") for row in at_baseline])
    counts = np.histogram(volumes[np.isfinite(volumes)], bins=_VOLUMES_ML)[0]
    low, high = _VOLUMES_ML[:-1], _VOLUMES_ML[1:]

    def words(n: int) -> str:
        limits = (
            f"{show_volume(low[n])} to {show_volume(high[n])}" if np.isfinite(high[n]) else f"{low[n]:g} mL or more"
        )
        return f"{limits if n else 'below ' + show_volume(high[n])}: {plural_of(int(counts[n]), 'lesion')}"

    _draw_bars(axes, counts, words)
    # An edge lies between two bars.
    axes.set_xticks(np.arange(1, len(counts)) - 0.5, [f"{edge:g}" for edge in low[1:]], fontsize=8)


def _draw_bars(axes: Axes, counts: Sequence[int] | np.ndarray, words: Callable[[int], str]) -> None:
    for n, bar in enumerate(axes.bar(range(len(counts)), counts, width=0.86, color=_BAR, lw=0)):
        if counts[n]:
            say(bar, words(n))
    axes.set_xlim(-0.6, len(counts) - 0.4)
    axes.set_ylim(0, max(int(np.max(counts)), 1) * 1.1)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.grid(axis="y")
    axes.tick_params(axis="x", length=0)
