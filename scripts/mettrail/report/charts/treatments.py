"""Treatments on the chart of a patient: words above the panels, a line through them at the day."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mettrail.report.charts.svg import say
from mettrail.report.figures import INK, MUTED
from mettrail.report.text import Record, records_of
from mettrail.schema.cells import number_of, text_of

Mark = tuple[float, str]
"""Day of a treatment, and the words for it."""


def list_marks(treatments: pd.DataFrame) -> list[Mark]:
    """Return day and words of each treatment, by day: type, dose, lesions."""
    if treatments.empty:
        return []
    by_day = treatments.groupby(["treatment_day", "treatment_id"], sort=True)
    treated = (records_of(rows) for _, rows in by_day)
    return [(number_of(rows[0], "treatment_day"), _words_of(rows)) for rows in treated]


def _words_of(rows: Sequence[Record]) -> str:
    """Say what a treatment was; `rows` has one row per lesion."""
    kind = text_of(rows[0], "treatment_type")
    words = kind.upper() if kind in ("srs", "fsrt", "wbrt") else kind.replace("_", " ")
    dose, fractions = number_of(rows[0], "dose_gy"), number_of(rows[0], "fractions")
    if np.isfinite(dose):
        words += f" {dose:g} Gy" + (f"/{fractions:.0f}" if np.isfinite(fractions) else "")
    tracks = [track for track in (text_of(row, "track_id") for row in rows) if track]
    if tracks:
        words += ": " + ", ".join(tracks[:6]) + (f" and {len(tracks) - 6} more" if len(tracks) > 6 else "")
    return words


def assign_lanes(marks: Sequence[Mark], span: tuple[float, float]) -> list[int]:
    """Give each mark the first line on which its words overlap no others.

    Parameters
    ----------
    marks : sequence of (float, str)
        Day and words, by day.
    span : (float, float)
        First and last day of the chart.
    """
    width = max(span[1] - span[0], 1)
    free: list[float] = []
    lanes = []
    for day, words in marks:
        length = _length_of(words)
        start = min((day - span[0]) / width, 1.1 - length)
        lane = next((n for n, end in enumerate(free) if end <= start), len(free))
        free[lane:] = [start + length, *free[lane + 1 :]]
        lanes.append(lane)
    return lanes


def draw_treatments(axes: Axes, panels: Sequence[Axes], marks: Sequence[Mark], lanes: Sequence[int]) -> None:
    """Write treatments above the panels, and draw a line through all panels at the day of each."""
    axes.set_axis_off()
    axes.set_xlim(panels[0].get_xlim())
    axes.set_ylim(max(lanes) + 1, 0)
    low, high = axes.get_xlim()
    for (day, words), lane in zip(marks, lanes, strict=True):
        (mark,) = axes.plot(day, lane + 0.5, marker="v", ms=6, color=INK, ls="", clip_on=False)
        say(mark, f"day {day:g}: {words}")
        late = (day - low) / (high - low) + _length_of(words) > 1.1
        axes.annotate(
            words,
            (day, lane + 0.5),
            xytext=(-6 if late else 6, 0),
            textcoords="offset points",
            ha="right" if late else "left",
            va="center",
            fontsize=8,
            color=INK,
            annotation_clip=False,
        )
        for panel in panels:
            panel.axvline(day, color=MUTED, lw=0.9, ls=(0, (6, 2, 1, 2)), zorder=1)


def _length_of(words: str) -> float:
    """Return about how long words are with their mark, as a share of the width of a panel."""
    return 0.02 + 0.0082 * len(words)
