"""Charts of sizes and responses over time, of a patient and of a cohort.

Charts written as ``.svg`` follow the reader's light or dark setting; other viewers show them light.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from mettrail.report.figures import (
    BAND,
    CHART_STYLE,
    DARK,
    FONTS,
    GRID,
    INK,
    MUTED,
    PAPER,
    PIXELS_PER_INCH,
    RESPONSE_COLOURS,
    RESPONSE_NAMES,
    TRACK_COLOURS,
    is_unconfirmed,
    label_number,
    pr_continues,
    track_colour,
    track_marker,
)
from mettrail.response import criteria
from mettrail.schema.cells import number_of, text_of, truth_of, words_of


def draw_trajectories(
    lesion_rows: pd.DataFrame,
    session_rows: pd.DataFrame,
    treatments: pd.DataFrame,
    path: str | Path,
    *,
    rano: Mapping,
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
    with mpl.rc_context(CHART_STYLE):
        days, dated = _session_days(session_rows)
        tracks = _tracks_in_order(lesion_rows)
        marks = _treatment_marks(treatments) if dated else []
        span = [*days.values(), *(m[0] for m in marks)]
        span = (min(span, default=0), max(span, default=1))
        lanes = assign_lanes(marks, span)
        keyed = tracks if len(tracks) > max_labels else []
        # Inches from the top: head, treatments, three panels and what stands between them, key of the lesions.
        strip, key = 0.27 * (max(lanes, default=-1) + 1), 0.21 * -(-len(keyed) // _KEY_COLUMNS) + 0.2 * bool(keyed)
        size = (10.4, 8.8 + strip + key)
        fig = Figure(figsize=size)
        FigureCanvasAgg(fig)
        volume, diameter, total = (
            fig.add_axes((0.065, 1 - (top + strip + tall) / size[1], 0.82, tall / size[1]))
            for top, tall in ((0.67, 1.89), (3.19, 1.89), (6.05, 2.05))
        )
        panels = (volume, diameter, total)
        if title:
            fig.text(0.02, 1 - 0.21 / size[1], title, fontsize=11, fontweight="bold", va="center")
        _trajectory_key(fig, size[1], any(is_unconfirmed(r) for _, r in session_rows.iterrows()))
        named = set(tracks[:max_labels])
        for axes, column, heading in (
            (volume, "vol_wl_ml", "Volume of each lesion, mL (cube-root scale)"),
            (diameter, "ld_mm", "Longest diameter of each lesion, mm"),
        ):
            axes.set_title(heading, loc="left", fontsize=9.5, color=INK, pad=6)
            if column == "vol_wl_ml":
                axes.set_yscale("function", functions=(np.cbrt, lambda y: np.power(y, 3)))
            ends = _draw_tracks(axes, lesion_rows, column, days, list(days), tracks, named)
            _limit_values(axes, lesion_rows, column)
            _name_ends(axes, ends)
        _draw_sum(total, session_rows, days, rano)
        for axes in panels:
            axes.grid(axis="y")
            _session_axis(axes, session_rows, days, dated, span, last=axes is total)
        if marks:
            top = 0.42 / size[1]
            box = (0.065, 1 - top - strip / size[1], 0.82, strip / size[1])
            _draw_treatments(fig.add_axes(box), panels, marks, lanes)
        if keyed:
            _track_key(fig.add_axes((0.04, 0.1 / size[1], 0.94, key / size[1])), keyed)
        if not tracks:
            for axes in (volume, diameter):
                axes.text(0.5, 0.5, "no lesion in any session", transform=axes.transAxes, ha="center", color=MUTED)
        _save_chart(fig, path)


def response_lines(session_rows: pd.DataFrame, *, rano: Mapping) -> pd.DataFrame:
    """Find the sums at which each session would have been PD, and PR, by its targets.

    PD wants the sum at 1 + ``pd`` of the nadir, and ``pd_abs_mm`` of growth since: of the sum (``abs_rule: sum``), or
    of one lesion (``lesion``). With several targets the sum alone cannot tell the latter: the line then lies where the
    sum would be, had the target that grew most grown to ``pd_abs_mm``, all others being as they are. So a session is PD
    by its targets if, and only if, its sum is not below the line. After a confirmed CR whatever comes back is PD: the
    line is 0.

    Parameters
    ----------
    session_rows : DataFrame
        One patient's rows of the session table, in order.
    rano : mapping
        Block ``rano`` of the settings: ``pr``, ``pd``, ``pd_abs_mm``, ``abs_rule``.

    Returns
    -------
    DataFrame
        One row per session after baseline with a sum and a nadir: session_id, sum_mm (with all that is known now),
        nadir_mm, pd_mm, pr_mm. Where a session is compared like with like, i.e. not by the sum as it is in the table,
        nadir and thresholds are scaled by what the sum in the table is of the one compared.
    """
    lines, days, seen = [], [], []
    for _, row in session_rows.iterrows():
        if text_of(row, "session_role") != "followup":
            continue
        after_cr = criteria.has_confirmed_cr(days, seen, confirm_days=rano["confirm_days"])
        days.append(number_of(row, "days_from_t0"))
        seen.append(text_of(row, "response_imaging_prospective"))
        total, nadir, grown = (
            number_of(row, c) for c in ("sum_ld_final_mm", "nadir_sum_ld_mm", "max_lesion_increase_mm")
        )
        if not np.isfinite([total, nadir]).all():
            continue
        compared, scale = _compared(total, nadir, number_of(row, "sum_ld_change_nadir_pct"))
        absolute = nadir if rano["abs_rule"] == "sum" else compared - grown
        threshold = np.max([(1 + rano["pd"]) * nadir, absolute + rano["pd_abs_mm"]]) * scale
        reference = number_of(row, "reference_sum_ld_mm")
        pr_scale = _compared(total, reference, number_of(row, "sum_ld_change_baseline_pct"))[1]
        lines.append(
            {
                "session_id": str(row["session_id"]),
                "sum_mm": total,
                "nadir_mm": nadir * scale,
                "pd_mm": 0.0 if after_cr else threshold,
                "pr_mm": (1 - rano["pr"]) * reference * pr_scale,
            }
        )
    return pd.DataFrame(lines, columns=["session_id", "sum_mm", "nadir_mm", "pd_mm", "pr_mm"])


def _compared(total: float, reference: float, change_pct: float) -> tuple[float, float]:
    """Return the sum that was compared with a reference, and the share that the sum in the table is of it."""
    compared = reference * (1 + change_pct / 100)
    # The table has three decimals of a percent.
    if not np.isfinite(compared) or abs(compared - total) <= 1e-2:
        return total, 1.0
    return compared, total / compared if compared > 0 else 1.0


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
    with mpl.rc_context(CHART_STYLE):
        rows = patient_rows.copy()
        rows["_change"] = _numbers(rows, "best_change_ld_pct")
        rows = rows.sort_values("_change", ascending=True, na_position="last", kind="stable")
        each = 0.27 if len(rows) <= 40 else 0.19 if len(rows) <= 100 else 0.13
        height = max(len(rows), 3) * each + 1.35
        fig = Figure(figsize=(10.4, height))
        FigureCanvasAgg(fig)
        top, bottom = 1 - 0.8 / height, 0.55 / height
        fall = fig.add_axes((0.115, bottom, 0.3, top - bottom))
        swim = fig.add_axes((0.455, bottom, 0.525, top - bottom), sharey=fall)
        if title:
            fig.text(0.02, 1 - 0.2 / height, title, fontsize=11, fontweight="bold", va="center")
        y = np.arange(len(rows))
        names = [str(n) for n in rows.get("participant_id", [])]
        _draw_waterfall(fall, rows, y, pr_fraction, pd_fraction)
        _draw_swimmer(swim, rows, session_rows, names, y)
        fall.set_yticks(y, names, fontsize=8 if each > 0.15 else 6)
        for label in fall.get_yticklabels():
            label.set_color(INK)
        fall.set_ylim(max(len(rows), 3) - 0.4, -0.6)
        _response_key(fig, height, patient_rows, session_rows)
        if rows.empty:
            fall.text(0.5, 0.5, "no patient", transform=fall.transAxes, ha="center", color=MUTED)
        _save_chart(fig, path)


def draw_froc(curves: pd.DataFrame, path: str | Path) -> None:
    """Draw free-response curves: sensitivity over false lesions per scan, one line per method.

    The axis of false lesions is logarithmic from 1/8 on and linear below, so that 0 has a place.

    Parameters
    ----------
    curves : DataFrame
        ``method``, ``threshold``, ``sensitivity``, ``false_per_scan``, thresholds of a method in falling order. May be
        empty.
    path : path
        ``.svg`` or ``.png``.
    """
    with mpl.rc_context(CHART_STYLE):
        fig = Figure(figsize=(6.4, 4.2))
        FigureCanvasAgg(fig)
        axes = fig.add_axes((0.1, 0.13, 0.87, 0.78))
        for number, (method, curve) in enumerate(curves.groupby("method", sort=False)):
            colour = TRACK_COLOURS[number % len(TRACK_COLOURS)]
            x, y = curve["false_per_scan"].astype(float), curve["sensitivity"].astype(float)
            axes.plot(x, y, color=colour, lw=1.6, marker="o", ms=2.2, label=method, clip_on=False)
        axes.set_xscale("symlog", base=2, linthresh=1 / 8, linscale=0.7)
        last = max(8.0, float(curves["false_per_scan"].max())) if len(curves) else 8.0
        ticks = [0, *(2.0**n for n in range(-3, int(np.ceil(np.log2(last))) + 1))]
        axes.set_xticks(ticks, [f"1/{round(1 / t)}" if 0 < t < 1 else f"{t:g}" for t in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlim(0, ticks[-1])
        axes.set_ylim(0, 1)
        axes.set_xlabel("false lesions per scan")
        axes.set_title("Sensitivity, whole lesions", loc="left", fontsize=9.5, color=INK, pad=6)
        axes.grid()
        if len(curves):
            axes.legend(loc="lower right", frameon=False, fontsize=8)
        else:
            axes.text(0.5, 0.5, "no probability map", transform=axes.transAxes, ha="center", color=MUTED)
        _save_chart(fig, path)


# ---------------------------------------------------------------------------------------------------- charts


def _numbers(table: pd.DataFrame, name: str) -> list[float]:
    return [number_of(row, name) for _, row in table.iterrows()]


def _texts(table: pd.DataFrame, name: str) -> list[str]:
    return [text_of(row, name) for _, row in table.iterrows()]


def _session_days(session_rows: pd.DataFrame) -> tuple[dict[str, float], bool]:
    """Return where each session lies on the time axis, and whether that is days or only their order."""
    if session_rows.empty:
        return {}, True
    days = _numbers(session_rows, "days_from_t0")
    names = [str(s) for s in session_rows["session_id"]]
    if not np.isfinite(days).all():
        return {n: float(i) for i, n in enumerate(names)}, False
    return dict(zip(names, days, strict=True)), True


def _tracks_in_order(lesion_rows: pd.DataFrame) -> list[str]:
    """Targets first, then the largest."""
    if lesion_rows.empty:
        return []

    def prominence(item):
        track, rows = item
        size = np.nanmax([0.0, *_numbers(rows, "ld_mm")])
        return ("target" not in _texts(rows, "role"), -size, str(track))

    return [str(t) for t, _ in sorted(lesion_rows.groupby("track_id", sort=True), key=prominence)]


def _draw_tracks(axes, lesion_rows, column, days, ordered, tracks, named) -> list:
    """Draw one line per track; return last points of those to be named."""
    ends = []
    for track in reversed(tracks):
        rows = lesion_rows[lesion_rows["track_id"] == track]
        by_session = {str(r["session_id"]): r for _, r in rows.iterrows()}
        colour = track_colour(track)
        role = {text_of(r, "role") for r in by_session.values()}
        dashed = not role & {"target"}
        style = {"color": colour, "lw": 1.7 if not dashed else 1.2, "zorder": 3}
        points, joined = [], False
        for name in (s for s in ordered if s in by_session):
            row = by_session[name]
            value, kind = number_of(row, column), text_of(row, "status")
            if kind == "merged":
                if joined:
                    continue
                joined = True
                owner = _owner_value(lesion_rows, row, column)
                if points and np.isfinite(owner):
                    axes.plot([points[-1][0], days[name]], [points[-1][1], owner], ls=":", **{**style, "lw": 1.1})
                    axes.plot(days[name], owner, marker="x", ms=6, mew=1.4, color=colour, zorder=5)
                    note = f"{track} joins {text_of(row, 'merged_into')}"
                    where = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center", "fontsize": 7}
                    axes.annotate(note, (days[name], owner), color=colour, zorder=6, **where)
                continue
            # Most likely it was there and not seen: the line goes on over the gap.
            missed = text_of(row, "ld_source") == "probable_missed_detection"
            if np.isfinite(value) and not missed:
                points.append((days[name], value, kind, row, ordered.index(name)))
        for one, two in pairwise(points):
            gap = two[4] - one[4] > 1
            line = (0, (1, 2.2)) if gap else (0, (4, 2)) if dashed else "-"
            axes.plot([one[0], two[0]], [one[1], two[1]], ls=line, **style)
        for x, y, kind, row, _ in points:
            hollow = kind == "absent"
            axes.plot(
                x,
                y,
                marker=track_marker(track),
                ms=5 if not hollow else 5.5,
                mfc=PAPER if hollow else colour,
                mec=colour,
                mew=1.3,
                ls="",
                clip_on=False,
                zorder=4,
            )
            if text_of(row, "event") == "new":
                axes.plot(x, y, marker="*", ms=12, mfc=colour, mec=PAPER, mew=0.7, ls="", clip_on=False, zorder=5)
        if points and track in named and not joined:
            ends.append((points[-1], track, colour))
    return ends


def _owner_value(lesion_rows, row, column) -> float:
    owner = lesion_rows[
        (lesion_rows["track_id"] == row.get("merged_into")) & (lesion_rows["session_id"] == row["session_id"])
    ]
    return number_of(owner.iloc[0], column) if len(owner) else np.nan


def _limit_values(axes, lesion_rows, column) -> None:
    top = np.nanmax([0.0, *_numbers(lesion_rows, column)])
    if column == "vol_wl_ml":
        top = max(top, 0.02)
        axes.set_ylim(0, (np.cbrt(top) * 1.08) ** 3)
        steps = [0, 0.001, 0.01, 0.05, 0.2, 0.5, 1, 2, 5, 10, 20, 40, 70, 120, 200]
        ticks = [0.0]
        for step in steps[1:]:
            if step <= top * 1.2 and np.cbrt(step) - np.cbrt(ticks[-1]) >= 0.11 * np.cbrt(top):
                ticks.append(step)
        axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
        axes.minorticks_off()
    else:
        axes.set_ylim(0, max(top, 5) * 1.1)
        axes.yaxis.set_major_locator(MaxNLocator(5))


def _name_ends(axes, ends) -> None:
    """Name tracks at the right edge, pushed apart where they would lie on each other."""
    spots = [(axes.transLimits.transform(axes.transScale.transform((0, e[0][1])))[1], e) for e in ends]
    spots.sort(key=lambda s: s[0])
    heights = _apart([s[0] for s in spots], gap=0.075)
    for height, (_, (_, track, colour)) in zip(heights, spots, strict=True):
        style = {"transform": axes.transAxes, "clip_on": False}
        axes.plot(1.018, height, marker=track_marker(track), ms=5, color=colour, ls="", **style)
        axes.text(1.03, height, track, color=INK, fontsize=8.5, va="center", **style)


_KEY_COLUMNS = 12


def _track_key(axes, tracks: list[str]) -> None:
    """Name all tracks with colour and mark, where there are too many to name each at its line."""
    lines = -(-len(tracks) // _KEY_COLUMNS)
    axes.set_axis_off()
    axes.set_xlim(0, _KEY_COLUMNS)
    axes.set_ylim(lines, -1)
    axes.text(0, -0.55, "All lesions", fontsize=8, color=MUTED, va="center")
    for n, track in enumerate(sorted(tracks, key=lambda t: (label_number(t), t))):
        line, column = divmod(n, _KEY_COLUMNS)
        style = {"marker": track_marker(track), "color": track_colour(track), "ms": 5.5, "ls": "", "clip_on": False}
        axes.plot(column + 0.06, line + 0.45, **style)
        axes.text(column + 0.16, line + 0.45, track, fontsize=8, color=INK, va="center")


def _treatment_marks(treatments: pd.DataFrame) -> list[tuple[float, str]]:
    """Return day and words of each treatment: type, dose, lesions."""
    if treatments.empty:
        return []
    marks = []
    for (day, _), rows in treatments.groupby(["treatment_day", "treatment_id"], sort=True):
        first = rows.iloc[0]
        tracks = [t for t in _texts(rows, "track_id") if t]
        dose, fractions = number_of(first, "dose_gy"), number_of(first, "fractions")
        what = text_of(first, "treatment_type")
        words = what.upper() if what in ("srs", "fsrt", "wbrt") else what.replace("_", " ")
        if np.isfinite(dose):
            words += f" {dose:g} Gy" + (f"/{fractions:.0f}" if np.isfinite(fractions) else "")
        if tracks:
            words += ": " + ", ".join(tracks[:6]) + (f" and {len(tracks) - 6} more" if len(tracks) > 6 else "")
        marks.append((float(day), words))
    return marks


def assign_lanes(marks: list[tuple[float, str]], span: tuple[float, float]) -> list[int]:
    """Give each mark the first line on which its words lie on no others."""
    width, free, lanes = max(span[1] - span[0], 1), [], []
    for day, words in marks:
        start = (day - span[0]) / width
        length = 0.02 + 0.0082 * len(words)
        start = min(start, 1.1 - length)
        lane = next((n for n, end in enumerate(free) if end <= start), len(free))
        free[lane:] = [start + length, *free[lane + 1 :]]
        lanes.append(lane)
    return lanes


def _draw_treatments(axes, panels, marks, lanes) -> None:
    """Write treatments above the panels, and draw a line through them at its day."""
    axes.set_axis_off()
    axes.set_xlim(panels[0].get_xlim())
    axes.set_ylim(max(lanes) + 1, 0)
    low, high = axes.get_xlim()
    for (day, words), lane in zip(marks, lanes, strict=True):
        axes.plot(day, lane + 0.5, marker="v", ms=6, color=INK, ls="", clip_on=False)
        late = (day - low) / (high - low) + 0.02 + 0.0082 * len(words) > 1.1
        align, shift = ("right", -6) if late else ("left", 6)
        style = {"xytext": (shift, 0), "textcoords": "offset points", "ha": align, "va": "center", "fontsize": 8}
        axes.annotate(words, (day, lane + 0.5), color=INK, annotation_clip=False, **style)
        for panel in panels:
            panel.axvline(day, color=MUTED, lw=0.9, ls=(0, (6, 2, 1, 2)), zorder=1)


def _apart(heights: list[float], *, gap: float) -> list[float]:
    """Push sorted heights (0–1) apart by at least `gap`, moving them as little as is simple.

    >>> [round(h, 2) for h in _apart([0.0, 0.01, 0.5], gap=0.1)]
    [0.0, 0.1, 0.5]
    """
    out = []
    for h in heights:
        out.append(h if not out else max(h, out[-1] + gap))
    limit = max(1.02, heights[-1] if heights else 0)
    for n in range(len(out) - 1, -1, -1):
        if out[n] > limit:
            out[n] = limit
        limit = out[n] - gap
    return out


def _draw_sum(axes, session_rows, days, rano) -> None:
    axes.set_title(
        "Sum of the targets' longest diameters, mm, and response", loc="left", fontsize=9.5, color=INK, pad=34
    )
    names = [str(s) for s in session_rows.get("session_id", [])]
    rows = [r for _, r in session_rows.iterrows()]
    measured = [(days[n], number_of(r, "sum_ld_final_mm")) for n, r in zip(names, rows, strict=True)]
    measured = [(x, y) for x, y in measured if np.isfinite(y)]
    lines = response_lines(session_rows, rano=rano)
    starts = [days[n] for n, r in zip(names, rows, strict=True) if text_of(r, "session_role") == "baseline"]
    notes = []
    if len(lines):
        x = [days[n] for n in lines["session_id"]]
        x = [*(starts or x[:1]), *x]
        worst, best = RESPONSE_COLOURS["PD"][0], RESPONSE_COLOURS["CR"][0]
        for column, text, style in (
            ("pd_mm", _pd_words(rows, rano), {"color": worst, "ls": (0, (5, 2)), "lw": 1.2}),
            ("nadir_mm", "nadir before", {"color": MUTED, "ls": (0, (1, 2)), "lw": 1.1}),
            ("pr_mm", f"PR: −{100 * rano['pr']:g} %\nof baseline", {"color": best, "ls": (0, (5, 2)), "lw": 1.1}),
        ):
            y = [lines[column].iloc[0], *lines[column]]
            axes.plot(x, y, drawstyle="steps-pre", zorder=2, **style)
            notes.append((y[-1], text, style["color"]))
        axes.plot(x[1:], lines["pd_mm"], marker="_", ms=11, mew=2, ls="", color=worst, zorder=3)
    if measured:
        axes.plot(*zip(*measured), color=INK, lw=1.8, marker="o", ms=5, zorder=4, clip_on=False)
    else:
        axes.text(0.5, 0.45, "no sum: no target, or none evaluable", transform=axes.transAxes, ha="center", color=MUTED)
    tops = [y for _, y in measured] + [*lines["pd_mm"]]
    top = np.nanmax([*tops, 5]) * 1.12
    axes.set_ylim(0, top)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    notes = sorted((n for n in notes if np.isfinite(n[0])), key=lambda n: n[0])
    for height, (_, text, colour) in zip(_apart([n[0] / top for n in notes], gap=0.2), notes, strict=True):
        axes.text(
            1.012, height, text, transform=axes.transAxes, color=colour, fontsize=7.6, va="center", linespacing=1.15
        )
    for name, row in zip(names, rows, strict=True):
        _draw_response(axes, row, days[name])


def _pd_words(rows, rano) -> str:
    """Say when the sum is PD: the absolute growth is of the sum, or of one lesion."""
    several = max((number_of(r, "n_targets") for r in rows), default=0) > 1
    of = "\nin one target" if several and rano["abs_rule"] != "sum" else ""
    return f"PD: +{100 * rano['pd']:g} % of\nnadir and +{rano['pd_abs_mm']:g} mm{of}"


def _draw_response(axes, row, x: float) -> None:
    """Write a session's response above the panel, hollow where it is not confirmed, and what it does not say itself."""
    response = text_of(row, "response_overall_final")
    if response not in RESPONSE_COLOURS:
        return
    colour, ink = RESPONSE_COLOURS[response]
    face = {"fc": PAPER if is_unconfirmed(row) else colour, "ec": colour if is_unconfirmed(row) else "none"}
    style = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "center", "va": "bottom"}
    axes.annotate(
        RESPONSE_NAMES.get(response, response),
        (x, 1.0),
        xytext=(0, 7),
        fontsize=7.6,
        fontweight="bold",
        color=INK if is_unconfirmed(row) else ink,
        bbox={"boxstyle": "round,pad=0.25,rounding_size=0.4", "lw": 1.2, **face},
        zorder=6,
        **style,
    )
    reasons = words_of(row, "pd_reason")
    words = {"nontarget": "non-target", "clinical": "clinical"}
    if reasons and "target" not in reasons:
        note = ", ".join(words.get(r, r) for r in reasons)
    elif is_unconfirmed(row):
        note = "unconfirmed"
    elif pr_continues(row):
        note = "PR continues"
    else:
        return
    axes.annotate(note, (x, 1.0), xytext=(0, 20), fontsize=6.6, color=MUTED, **style)


def _session_axis(axes, session_rows, days, dated: bool, span: tuple[float, float], *, last: bool) -> None:
    width = max(span[1] - span[0], 1)
    axes.set_xlim(span[0] - 0.03 * width, span[1] + 0.03 * width)
    for _, row in session_rows.iterrows():
        if truth_of(row, "evaluable") is False:
            x = days[str(row["session_id"])]
            half = 0.012 * width
            axes.axvspan(x - half, x + half, color=BAND, lw=0, zorder=0)
            axes.text(x, 0.03, "NE", transform=axes.get_xaxis_transform(), ha="center", fontsize=7, color=MUTED)
    ticks, names, previous = [], [], -np.inf
    for name, x in days.items():
        named = (x - previous) / width >= 0.055
        previous = x if named else previous
        ticks.append(x)
        day = f"{x:g}".replace("-", "−")
        names.append("" if not named else f"{day}\n{name}" if dated and last else day if dated else name)
    axes.set_xticks(ticks, names)
    axes.grid(axis="x", lw=0.5)
    if last:
        axes.set_xlabel("days from t0" if dated else "session (order only: no dates known)", color=MUTED, fontsize=8.5)
    axes.tick_params(length=3)


def _trajectory_key(fig: Figure, height: float, unconfirmed: bool) -> None:
    """Say what solid, dashed, hollow, star, cross and grey mean, in one line at the top right."""
    axes = fig.add_axes((0.2, 1 - 0.38 / height, 0.785, 0.34 / height))
    axes.set_axis_off()
    axes.set_xlim(0, 114)
    axes.set_ylim(-1, 1)
    items = [
        (lambda x: axes.plot([x, x + 3.5], [0, 0], color=MUTED, lw=1.8), 3.5, "target", 13.5),
        (lambda x: axes.plot([x, x + 3.5], [0, 0], color=MUTED, lw=1.3, ls=(0, (4, 2))), 3.5, "non-target", 17),
        (lambda x: axes.plot(x + 1, 0, marker="*", ms=10, color=MUTED, mec=PAPER, mew=0.5), 2, "new", 10),
        (lambda x: axes.plot(x + 1, 0, marker="o", ms=5.5, mfc=PAPER, mec=MUTED, mew=1.3), 2, "not detected", 17),
        (lambda x: axes.plot(x + 1, 0, marker="x", ms=6, mew=1.4, color=MUTED), 2, "merged", 13),
        (lambda x: axes.add_patch(Rectangle((x, -0.5), 2, 1, color=BAND, lw=0)), 2, "not evaluable (NE)", 22),
    ]
    if unconfirmed:
        box = {"fc": PAPER, "ec": MUTED, "lw": 1.1}
        items.append((lambda x: axes.add_patch(Rectangle((x, -0.5), 2.4, 1, **box)), 2.4, "not confirmed", 17))
    x = 114 - sum(i[3] for i in items)
    for draw, size, text, step in items:
        draw(x)
        axes.text(x + size + 1, 0, text, fontsize=8, color=MUTED, va="center")
        x += step


def _draw_waterfall(axes, rows, y, pr_fraction, pd_fraction) -> None:
    axes.set_title("Best change of the sum, %", loc="left", fontsize=9.5, color=INK, pad=6)
    for n, (_, row) in zip(y, rows.iterrows(), strict=True):
        change, best = row["_change"], text_of(row, "best_response")
        if not np.isfinite(change):
            axes.text(2, n, "n/a", fontsize=7, va="center", color=MUTED)
            continue
        colour = RESPONSE_COLOURS.get(best, RESPONSE_COLOURS["NE"])[0]
        axes.barh(n, np.clip(change, -100, 100), height=0.68, color=colour, lw=0, zorder=3)
        text = f"{change:+.0f}".replace("-", "−") + (" ▸" if change > 100 else "")
        inside = change < -70
        axes.text(
            np.clip(change, -100, 100) + (3 if change >= 0 or inside else -3),
            n,
            text,
            fontsize=6.8,
            va="center",
            ha="left" if change >= 0 or inside else "right",
            color=RESPONSE_COLOURS.get(best, RESPONSE_COLOURS["NE"])[1] if inside else MUTED,
            zorder=4,
        )
    # +20 % from baseline alone is no progression: that counts from the nadir, and wants millimetres, too.
    for x, colour in ((-100 * pr_fraction, RESPONSE_COLOURS["CR"][0]), (100 * pd_fraction, MUTED)):
        axes.axvline(x, color=colour, lw=0.9, ls=(0, (4, 2)), zorder=2)
    axes.axvline(0, color=MUTED, lw=0.8, zorder=4)
    axes.set_xlim(-104, 118)
    axes.set_xticks([-100, -50, 0, 50, 100])
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _draw_swimmer(axes, rows, session_rows, names, y) -> None:
    axes.set_title("Response at each session", loc="left", fontsize=9.5, color=INK, pad=6)
    for n, name in zip(y, names, strict=True):
        own = session_rows[session_rows["participant_id"] == name] if len(session_rows) else session_rows
        days, dated = _session_days(own)
        if not days:
            axes.text(0, n, "no session", fontsize=7, va="center", color=MUTED)
            continue
        spots = list(days.values())
        if dated:
            _draw_fate(axes, rows.iloc[n], n, max(spots))
        axes.plot([min(spots), max(spots)], [n, n], color=GRID, lw=5, solid_capstyle="round", zorder=1)
        for (_, row), x in zip(own.iterrows(), spots, strict=True):
            response = text_of(row, "response_overall_final")
            kind = text_of(row, "session_role")
            if kind not in ("baseline", "prebaseline"):
                kind = response if truth_of(row, "evaluable") is not False and response else "NE"
            axes.plot(x, n, zorder=3, **_session_marker(kind, hollow=is_unconfirmed(row)))
            if text_of(row, "new_lesion") in ("definite", "equivocal"):
                axes.plot(x, n, marker="*", ms=4, color=PAPER, mew=0, ls="", zorder=4)
        progression = number_of(rows.iloc[n], "progression_day")
        if dated and np.isfinite(progression):
            axes.plot([progression] * 2, [n - 0.42, n + 0.42], color=RESPONSE_COLOURS["PD"][0], lw=1.3, zorder=2)
    axes.set_xlabel("days from t0 (order of sessions where no dates are known)", color=MUTED, fontsize=8.5)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0, labelleft=False)
    axes.spines["left"].set_visible(False)


def _draw_fate(axes, patient, y: float, last_session: float) -> None:
    """Draw how long the patient was known to live after the last session, and death."""
    death, contact = (number_of(patient, c) for c in ("death_day", "last_contact_day"))
    end = death if np.isfinite(death) else contact
    if end > last_session:
        axes.plot([last_session, end], [y, y], color=MUTED, lw=1, zorder=1)
    if np.isfinite(death):
        axes.plot(death, y, zorder=3, **_FATE["death"])
    elif contact > last_session:
        axes.plot(contact, y, zorder=3, **_FATE["last contact"])


_FATE = {
    "death": {"marker": "X", "ms": 7.5, "mfc": INK, "mec": PAPER, "mew": 0.6, "ls": ""},
    "last contact": {"marker": ">", "ms": 5, "mfc": PAPER, "mec": MUTED, "mew": 1, "ls": ""},
}


def _session_marker(kind: str, *, hollow: bool = False) -> dict:
    """How a session looks on the swimmer: squares are progression, grey and hollow is not evaluable.

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


def _response_key(fig: Figure, height: float, patient_rows, session_rows) -> None:
    axes = fig.add_axes((0.115, 1 - 0.36 / height, 0.875, 0.28 / height))
    axes.set_axis_off()
    axes.set_ylim(-1, 1)
    seen = set(_texts(session_rows, "response_overall_final"))
    kinds = ["baseline", *(r for r in RESPONSE_COLOURS if r in seen or r in ("CR", "PR", "SD", "PD", "NE"))]
    items = [(RESPONSE_NAMES.get(kind, kind), _session_marker(kind)) for kind in kinds]
    if any(is_unconfirmed(r) for _, r in session_rows.iterrows()):
        items.append(("not confirmed", _session_marker("PR", hollow=True)))
    if np.isfinite(_numbers(patient_rows, "progression_day")).any():
        items.append(("progression dated", {"marker": "|", "ms": 10, "mew": 1.3, "color": RESPONSE_COLOURS["PD"][0]}))
    if set(_texts(session_rows, "new_lesion")) & {"definite", "equivocal"}:
        items.append(("new lesion", {"marker": "*", "ms": 6, "mfc": PAPER, "mec": MUTED, "mew": 0.7, "ls": ""}))
    for name, column in (("death", "death_day"), ("last contact", "last_contact_day")):
        if np.isfinite(_numbers(patient_rows, column)).any():
            items.append((name, _FATE[name]))
    x = 0.0
    for name, style in items:
        axes.plot(x + 1, 0, **style)
        axes.text(x + 2.6, 0, name, fontsize=7.8, va="center", color=MUTED)
        x += 5.2 + 1.0 * len(name)
    axes.set_xlim(min(0, x - 130), max(x, 130))


def draw_incidence(curve: pd.DataFrame, path: str | Path) -> None:
    """Draw the cumulative incidence of local failure of treated lesions, and how many are at risk.

    Parameters
    ----------
    curve : DataFrame
        One row per day on which a lesion failed or was censored, and day 0, in order: day (from treatment),
        local_failure, low, high (cumulative incidence and its 95 % limits, 0 to 1), n_at_risk (lesions just before).
        May be empty.
    path : path
        ``.svg`` or ``.png``.
    """
    with mpl.rc_context(CHART_STYLE):
        fig = Figure(figsize=(10.4, 3.9))
        FigureCanvasAgg(fig)
        axes = fig.add_axes((0.065, 0.26, 0.9, 0.64))
        axes.set_title("Local failure of treated lesions, cumulative incidence, %", loc="left", fontsize=9.5, pad=6)
        if curve.empty:
            axes.text(0.5, 0.5, "no treated lesion", transform=axes.transAxes, ha="center", color=MUTED)
            axes.set_axis_off()
            _save_chart(fig, path)
            return
        day, shown, low, high = (
            np.asarray(curve[c], float) * f
            for c, f in (("day", 1), ("local_failure", 100), ("low", 100), ("high", 100))
        )
        colour = RESPONSE_COLOURS["PD"][0]
        axes.fill_between(day, low, high, step="post", color=colour, alpha=0.15, lw=0)
        axes.step(day, shown, where="post", color=colour, lw=1.8)
        top = float(np.nanmax([*high, *shown, 1]))
        axes.set_ylim(0, min(100, 1.15 * top) if top > 8 else 10)
        axes.set_xlim(0, max(day.max(), 1) * 1.02)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.grid(axis="both")
        axes.set_xlabel("days from treatment", color=MUTED, fontsize=8.5)
        ticks = [t for t in axes.get_xticks() if 0 <= t <= axes.get_xlim()[1]]
        axes.set_xticks(ticks)
        at_risk = np.asarray(curve["n_at_risk"], float)
        below = {"transform": axes.get_xaxis_transform(), "fontsize": 8, "va": "center", "clip_on": False}
        axes.text(0, -0.27, "Lesions at risk", color=MUTED, ha="left", **below)
        for tick in ticks:
            number = at_risk[day >= tick]
            axes.text(tick, -0.36, f"{number[0] if len(number) else 0:.0f}", color=INK, ha="center", **below)
        _save_chart(fig, path)


def _save_chart(fig: Figure, path: str | Path) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".svg":
        fig.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        path.write_text(_follow_theme(path.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        fig.savefig(path, dpi=PIXELS_PER_INCH, facecolor=PAPER, metadata={"Software": None})


def _follow_theme(svg: str) -> str:
    """Give an SVG dark colours on dark screens, and the reader's own fonts."""
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark} !important}}'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    )
    # Text in the colour of a response is too dark on black; its marks and bars are not.
    rules += "".join(
        f'text[style*="fill: {RESPONSE_COLOURS[response][0]}"]{{fill:{light} !important}}'
        for response, light in (("PD", "#ec8a76"), ("CR", "#4fc3b5"))
    )
    style = f"<style>@media screen and (prefers-color-scheme: dark){{{rules}}}</style>"
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"<!DOCTYPE.*?>", "", svg, flags=re.S)
    svg = re.sub(r"(?:'DejaVu Sans'|DejaVu Sans)(?:, *[^;\"]*)?", FONTS.replace("'", "&apos;"), svg)
    return re.sub(r"(<svg[^>]*>)", rf"\1{style}", svg, count=1)
