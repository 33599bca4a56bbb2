"""The chart of a patient: volume and longest diameter of every lesion, and the sum of the targets, over days."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from mettrail.colours import track_colour
from mettrail.report.charts.canvas import chart, write_empty, write_heading, write_title
from mettrail.report.charts.layout import TimeAxis, spread
from mettrail.report.charts.sums import draw_sum
from mettrail.report.charts.svg import say
from mettrail.report.charts.treatments import assign_lanes, draw_treatments, list_marks
from mettrail.report.figures import BAND, INK, MUTED, PAPER, is_unconfirmed, label_number, track_marker
from mettrail.report.text import Record, records_of, show, show_day, show_volume
from mettrail.schema.cells import number_of, text_of, truth_of

_PANELS = (
    ("vol_wl_ml", "Volume of each lesion, mL (cube-root scale)"),
    ("ld_mm", "Longest diameter of each lesion, mm"),
)
_VOLUME_TICKS_ML = (0.001, 0.01, 0.05, 0.2, 0.5, 1, 2, 5, 10, 20, 40, 70, 120, 200)
_KEY_COLUMNS = 12


def draw_trajectories(
    lesion_rows: pd.DataFrame,
    session_rows: pd.DataFrame,
    treatments: pd.DataFrame,
    path: str | Path,
    *,
    rano: Mapping[str, Any],
    title: str = "",
    max_labels: int = 14,
) -> None:
    """Draw volume and longest diameter of every track over days, and the sum of the targets with its thresholds.

    The volume axis is a cube root: equal steps in diameter look equal, the smallest lesions stay visible, and 0 has a
    place, which it has not on a logarithm.

    Parameters
    ----------
    lesion_rows, session_rows : DataFrame
        One patient's rows of the lesion and session tables, sessions in order. May be empty.
    treatments : DataFrame
        The patient's treatments, one row per lesion: treatment_id, treatment_type, treatment_day (from t0), track_id
        (n/a: all), dose_gy, fractions. May be empty.
    path : path
        ``.svg`` or ``.png``.
    rano : mapping
        Block ``rano`` of the settings: thresholds of the sum, see `response_lines`.
    title : str
    max_labels : int
        Tracks named at the right edge; targets first, then the largest. Where there are more, a key names all.
    """
    sessions = records_of(session_rows)
    time = TimeAxis.of(sessions)
    course = _Course.of(records_of(lesion_rows), time.places)
    tracks = course.by_prominence()
    marks = list_marks(treatments) if time.dated else []
    days = [*time.places.values(), *(day for day, _ in marks)]
    span = min(days, default=0), max(days, default=1)
    lanes = assign_lanes(marks, span)
    keyed = tracks if len(tracks) > max_labels else []
    # Inches from the top: head, treatments, three panels and what stands between them, key of the lesions.
    strip, key = 0.27 * (max(lanes, default=-1) + 1), 0.21 * -(-len(keyed) // _KEY_COLUMNS) + 0.2 * bool(keyed)
    height = 8.8 + strip + key
    with chart(path, (10.4, height)) as fig:
        volume, diameter, total = panels = [
            fig.add_axes((0.065, 1 - (top + strip + tall) / height, 0.82, tall / height))
            for top, tall in ((0.67, 1.89), (3.19, 1.89), (6.05, 2.05))
        ]
        write_title(fig, title, down=0.21)
        _draw_symbol_key(fig, height, any(map(is_unconfirmed, sessions)))
        for axes, (column, heading) in zip((volume, diameter), _PANELS, strict=True):
            _draw_lesions(axes, course, column, heading, tracks, named=set(tracks[:max_labels]))
        draw_sum(total, session_rows, time.places, rano)
        for axes in panels:
            axes.grid(axis="y")
            _draw_time_axis(axes, sessions, time, span, last=axes is total)
        if marks:
            box = (0.065, 1 - (0.42 + strip) / height, 0.82, strip / height)
            draw_treatments(fig.add_axes(box), panels, marks, lanes)
        if keyed:
            _draw_track_key(fig.add_axes((0.04, 0.1 / height, 0.94, key / height)), keyed)
        if not tracks:
            for axes in (volume, diameter):
                write_empty(axes, "no lesion in any session")


@dataclass(frozen=True)
class _Course:
    """A patient's lesions: the row of each by track and session, and where sessions lie on the axis of time."""

    rows: dict[str, dict[str, Record]]
    places: Mapping[str, float]

    @classmethod
    def of(cls, lesions: Sequence[Record], places: Mapping[str, float]) -> _Course:
        rows: dict[str, dict[str, Record]] = {}
        for row in lesions:
            rows.setdefault(text_of(row, "track_id"), {})[str(row["session_id"])] = row
        return cls(rows, places)

    def by_prominence(self) -> list[str]:
        """Return all tracks: targets first, then the largest."""

        def prominence(track: str) -> tuple[bool, float, str]:
            rows = self.rows[track].values()
            size = float(np.nanmax([0.0, *(number_of(row, "ld_mm") for row in rows)]))
            return (not self.is_target(track), -size, track)

        return sorted(self.rows, key=prominence)

    def is_target(self, track: str) -> bool:
        """Tell whether a track is a target at any session."""
        return any(text_of(row, "role") == "target" for row in self.rows[track].values())

    def owner_value(self, row: Record, column: str) -> float:
        """Return the value of the lesion that a row is merged into; NaN where it has none."""
        owner = self.rows.get(text_of(row, "merged_into"), {}).get(str(row["session_id"]))
        return np.nan if owner is None else number_of(owner, column)


class _Point(NamedTuple):
    """A measurement on the chart; `order` is the number of its session."""

    x: float
    y: float
    order: int
    row: Record


def _draw_lesions(
    axes: Axes, course: _Course, column: str, heading: str, tracks: Sequence[str], *, named: set[str]
) -> None:
    """Draw the panel of a column: one line per track, and names at the ends of some."""
    write_heading(axes, heading)
    if column == "vol_wl_ml":
        axes.set_yscale("function", functions=(np.cbrt, lambda y: np.power(y, 3)))
    ends = []
    for track in reversed(tracks):
        last = _draw_track(axes, course, track, column)
        if last is not None and track in named:
            ends.append((track, last))
    values = [number_of(row, column) for rows in course.rows.values() for row in rows.values()]
    _limit_values(axes, column, float(np.nanmax([0.0, *values])))
    _name_ends(axes, ends)


def _draw_track(axes: Axes, course: _Course, track: str, column: str) -> float | None:
    """Draw the line of a track; return its last value, None where it has none or is merged into another."""
    points: list[_Point] = []
    merged = False
    target = course.is_target(track)
    line: dict[str, Any] = {"color": track_colour(track), "lw": 1.7 if target else 1.2, "zorder": 3}
    for order, (session, x) in enumerate(course.places.items()):
        row = course.rows[track].get(session)
        if row is None:
            continue
        if text_of(row, "status") == "merged":
            if points and not merged:
                _draw_merging(axes, points[-1], _Point(x, course.owner_value(row, column), order, row), track, line)
            merged = True
            continue
        y = number_of(row, column)
        # The line goes on over a probable missed detection.
        if np.isfinite(y) and text_of(row, "ld_source") != "probable_missed_detection":
            points.append(_Point(x, y, order, row))
    for one, two in pairwise(points):
        gap = two.order - one.order > 1
        dashes: Any = (0, (1, 2.2)) if gap else "-" if target else (0, (4, 2))
        axes.plot([one.x, two.x], [one.y, two.y], ls=dashes, **line)
    for point in points:
        _draw_point(axes, point, track, column)
    return points[-1].y if points and not merged else None


def _draw_merging(axes: Axes, last: _Point, joint: _Point, track: str, line: Mapping[str, Any]) -> None:
    """Draw how a track joins the one that it is merged into, and say so."""
    if not np.isfinite(joint.y):
        return
    colour = track_colour(track)
    axes.plot([last.x, joint.x], [last.y, joint.y], ls=":", **{**line, "lw": 1.1})
    axes.plot(joint.x, joint.y, marker="x", ms=6, mew=1.4, color=colour, zorder=5)
    note = f"{track} joins {text_of(joint.row, 'merged_into')}"
    where: dict[str, Any] = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center", "fontsize": 7}
    axes.annotate(note, (joint.x, joint.y), color=colour, zorder=6, **where)


def _draw_point(axes: Axes, point: _Point, track: str, column: str) -> None:
    """Draw the mark of a measurement: hollow where the lesion is absent, a star where it is new."""
    colour = track_colour(track)
    absent = text_of(point.row, "status") == "absent"
    (mark,) = axes.plot(
        point.x,
        point.y,
        marker=track_marker(track),
        ms=5.5 if absent else 5,
        mfc=PAPER if absent else colour,
        mec=colour,
        mew=1.3,
        ls="",
        clip_on=False,
        zorder=4,
    )
    say(mark, _say_point(point.row, track, column), str(point.row["session_id"]))
    if text_of(point.row, "event") == "new":
        star: dict[str, Any] = {"marker": "*", "ms": 12, "mfc": colour, "mec": PAPER, "mew": 0.7, "ls": ""}
        axes.plot(point.x, point.y, clip_on=False, zorder=5, **star)


def _say_point(row: Record, track: str, column: str) -> str:
    """Say which lesion a mark is, when and how large."""
    size = show_volume(number_of(row, column)) if column == "vol_wl_ml" else show("lesions", column, row)
    words = "not detected" if text_of(row, "status") == "absent" else size
    new = "new, " if text_of(row, "event") == "new" else ""
    return f"{track}, {row['session_id']}, {show_day(row)}: {new}{words}"


def _limit_values(axes: Axes, column: str, top: float) -> None:
    """Scale the axis of values to the largest."""
    if column == "vol_wl_ml":
        top = max(top, 0.02)
        axes.set_ylim(0, (np.cbrt(top) * 1.08) ** 3)
        ticks = [0.0]
        for step in _VOLUME_TICKS_ML:
            if step <= top * 1.2 and np.cbrt(step) - np.cbrt(ticks[-1]) >= 0.11 * np.cbrt(top):
                ticks.append(step)
        axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
        axes.minorticks_off()
    else:
        axes.set_ylim(0, max(top, 5) * 1.1)
        axes.yaxis.set_major_locator(MaxNLocator(5))


def _name_ends(axes: Axes, ends: Sequence[tuple[str, float]]) -> None:
    """Name tracks at the right edge, beside their last values, moved apart where names would overlap."""
    heights = {track: axes.transLimits.transform(axes.transScale.transform((0, y)))[1] for track, y in ends}
    tracks = sorted(heights, key=heights.__getitem__)
    style: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    for track, height in zip(tracks, spread([heights[t] for t in tracks], gap=0.075), strict=True):
        axes.plot(1.018, height, marker=track_marker(track), ms=5, color=track_colour(track), ls="", **style)
        axes.text(1.03, height, track, color=INK, fontsize=8.5, va="center", **style)


def _draw_track_key(axes: Axes, tracks: Sequence[str]) -> None:
    """Name all tracks with colour and mark, where there are too many to name each at its line."""
    lines = -(-len(tracks) // _KEY_COLUMNS)
    axes.set_axis_off()
    axes.set_xlim(0, _KEY_COLUMNS)
    axes.set_ylim(lines, -1)
    axes.text(0, -0.55, "All lesions", fontsize=8, color=MUTED, va="center")
    for n, track in enumerate(sorted(tracks, key=lambda t: (label_number(t), t))):
        line, column = divmod(n, _KEY_COLUMNS)
        mark: dict[str, Any] = {"marker": track_marker(track), "color": track_colour(track), "ms": 5.5, "ls": ""}
        axes.plot(column + 0.06, line + 0.45, clip_on=False, **mark)
        axes.text(column + 0.16, line + 0.45, track, fontsize=8, color=INK, va="center")


def _draw_time_axis(
    axes: Axes, sessions: Sequence[Record], time: TimeAxis, span: tuple[float, float], *, last: bool
) -> None:
    """Name the sessions below a panel, and shade those that are not evaluable."""
    width = max(span[1] - span[0], 1)
    axes.set_xlim(span[0] - 0.03 * width, span[1] + 0.03 * width)
    for session in sessions:
        if truth_of(session, "evaluable") is False:
            x, half = time.places[str(session["session_id"])], 0.012 * width
            axes.axvspan(x - half, x + half, color=BAND, lw=0, zorder=0)
            axes.text(x, 0.03, "NE", transform=axes.get_xaxis_transform(), ha="center", fontsize=7, color=MUTED)
    names, previous = [], -np.inf
    for name, x in time.places.items():
        named = (x - previous) / width >= 0.055
        previous = x if named else previous
        day = f"{x:g}".replace("-", "−")
        names.append("" if not named else f"{day}\n{name}" if time.dated and last else day if time.dated else name)
    axes.set_xticks([*time.places.values()], names)
    axes.grid(axis="x", lw=0.5)
    if last:
        label = "days from t0" if time.dated else "session (order only: no dates known)"
        axes.set_xlabel(label, color=MUTED, fontsize=8.5)
    axes.tick_params(length=3)


def _draw_symbol_key(fig: Figure, height: float, unconfirmed: bool) -> None:
    """Say what solid, dashed, hollow, star, cross and grey mean, in one line at the top right."""
    axes = fig.add_axes((0.2, 1 - 0.38 / height, 0.785, 0.34 / height))
    axes.set_axis_off()
    axes.set_xlim(0, 114)
    axes.set_ylim(-1, 1)

    def line(x: float, **style: Any) -> None:
        axes.plot([x, x + 3.5], [0, 0], color=MUTED, **style)

    def mark(x: float, **style: Any) -> None:
        axes.plot(x + 1, 0, **style)

    def box(x: float, width: float = 2, **style: Any) -> None:
        axes.add_patch(Rectangle((x, -0.5), width, 1, **style))

    # How each is drawn at x, its width, its words, the step to the next.
    items: list[tuple[Callable[[float], None], float, str, float]] = [
        (lambda x: line(x, lw=1.8), 3.5, "target", 13.5),
        (lambda x: line(x, lw=1.3, ls=(0, (4, 2))), 3.5, "non-target", 17),
        (lambda x: mark(x, marker="*", ms=10, color=MUTED, mec=PAPER, mew=0.5), 2, "new", 10),
        (lambda x: mark(x, marker="o", ms=5.5, mfc=PAPER, mec=MUTED, mew=1.3), 2, "not detected", 17),
        (lambda x: mark(x, marker="x", ms=6, mew=1.4, color=MUTED), 2, "merged", 13),
        (lambda x: box(x, color=BAND, lw=0), 2, "not evaluable (NE)", 22),
    ]
    if unconfirmed:
        items.append((lambda x: box(x, 2.4, fc=PAPER, ec=MUTED, lw=1.1), 2.4, "not confirmed", 17))
    x = 114 - sum(step for *_, step in items)
    for draw, width, words, step in items:
        draw(x)
        axes.text(x + width + 1, 0, words, fontsize=8, color=MUTED, va="center")
        x += step
