"""The sum of the targets over time, the sums that would have been PD and PR, and the response at each session."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mettrail.report.charts.canvas import write_empty, write_heading
from mettrail.report.charts.layout import spread
from mettrail.report.charts.svg import say
from mettrail.report.figures import (
    INK,
    MUTED,
    PAPER,
    RESPONSE_COLOURS,
    RESPONSE_NAMES,
    is_unconfirmed,
    pr_continues,
)
from mettrail.report.text import Record, records_of, show, show_day
from mettrail.response import criteria
from mettrail.schema.cells import number_of, text_of, words_of


def response_lines(session_rows: pd.DataFrame, *, rano: Mapping[str, Any]) -> pd.DataFrame:
    """Find the sums at which each session would have been PD, and PR, by its targets.

    PD requires the sum at 1 + ``pd`` of the nadir, and ``pd_abs_mm`` of growth since: of the sum (``abs_rule: sum``),
    or of one lesion (``lesion``). With several targets the sum alone cannot tell the latter: the line then lies where
    the sum would be, had the target that grew most grown to ``pd_abs_mm``, all others being as they are. So a session
    is PD by its targets if, and only if, its sum is not below the line. After a confirmed CR any recurrence is PD: the
    line is 0.

    Parameters
    ----------
    session_rows : DataFrame
        One patient's rows of the session table, in order.
    rano : mapping
        Block ``rano`` of the settings: ``pr``, ``pd``, ``pd_abs_mm``, ``abs_rule``, ``confirm_days``.

    Returns
    -------
    DataFrame
        One row per session after baseline with a sum and a nadir: session_id, sum_mm (final), nadir_mm, pd_mm, pr_mm.
        Where a session is compared like with like, i.e. not by the sum as it is in the table, nadir and thresholds are
        scaled by what the sum in the table is of the one compared.
    """
    days: list[float] = []
    responses: list[criteria.Response] = []
    lines = []
    for row in records_of(session_rows):
        if text_of(row, "session_role") != "followup":
            continue
        after_cr = criteria.has_confirmed_cr(days, responses, confirm_days=rano["confirm_days"])
        days.append(number_of(row, "days_from_t0"))
        responses.append(cast(criteria.Response, text_of(row, "response_imaging_prospective")))
        total, nadir, grown = (
            number_of(row, c) for c in ("sum_ld_final_mm", "nadir_sum_ld_mm", "max_lesion_increase_mm")
        )
        if not np.isfinite([total, nadir]).all():
            continue
        compared, scale = _compared(total, nadir, number_of(row, "sum_ld_change_nadir_pct"))
        absolute = nadir if rano["abs_rule"] == "sum" else compared - grown
        threshold = float(np.max([(1 + rano["pd"]) * nadir, absolute + rano["pd_abs_mm"]])) * scale
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


def draw_sum(axes: Axes, session_rows: pd.DataFrame, places: Mapping[str, float], rano: Mapping[str, Any]) -> None:
    """Draw the sum of the targets with its thresholds, and above the panel the response at each session.

    Parameters
    ----------
    axes : Axes
    session_rows : DataFrame
        One patient's rows of the session table, in order.
    places : mapping of str to float
        Where each session lies on the axis of time.
    rano : mapping
        As of `response_lines`.
    """
    write_heading(axes, "Sum of the targets' longest diameters, mm, and response", pad=34)
    rows = {str(row["session_id"]): row for row in records_of(session_rows)}
    shown = {name: row for name, row in rows.items() if np.isfinite(number_of(row, "sum_ld_final_mm"))}
    measured = [(places[name], number_of(row, "sum_ld_final_mm")) for name, row in shown.items()]
    lines = response_lines(session_rows, rano=rano)
    notes: list[tuple[float, str, str]] = []
    if len(lines):
        starts = [places[name] for name, row in rows.items() if text_of(row, "session_role") == "baseline"]
        notes = _draw_thresholds(axes, lines, [places[name] for name in lines["session_id"]], starts, rows, rano)
    if measured:
        axes.plot(*zip(*measured, strict=True), color=INK, lw=1.8, zorder=4, clip_on=False)
        for (name, row), (x, y) in zip(shown.items(), measured, strict=True):
            (mark,) = axes.plot(x, y, color=INK, marker="o", ms=5, ls="", zorder=4, clip_on=False)
            words = [show("sessions", "sum_ld_final_mm", row), text_of(row, "response_overall_final")]
            say(mark, f"Sum, {name}, {show_day(row)}: {', '.join(filter(None, words))}", name)
    else:
        write_empty(axes, "no sum: no target, or none evaluable", y=0.45)
    top = float(np.nanmax([*(y for _, y in measured), *lines["pd_mm"], 5])) * 1.12
    axes.set_ylim(0, top)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    notes = sorted((note for note in notes if np.isfinite(note[0])), key=lambda note: note[0])
    heights = spread([height / top for height, _, _ in notes], gap=0.2)
    for height, (_, text, colour) in zip(heights, notes, strict=True):
        style: dict[str, Any] = {"transform": axes.transAxes, "color": colour, "fontsize": 7.6, "linespacing": 1.15}
        axes.text(1.012, height, text, va="center", **style)
    for name, row in rows.items():
        _draw_response(axes, row, places[name])


def _draw_thresholds(
    axes: Axes,
    lines: pd.DataFrame,
    x: Sequence[float],
    starts: Sequence[float],
    rows: Mapping[str, Record],
    rano: Mapping[str, Any],
) -> list[tuple[float, str, str]]:
    """Draw nadir and thresholds from baseline on; return the last height of each, and words and colour for it."""
    worst, best = RESPONSE_COLOURS["PD"][0], RESPONSE_COLOURS["CR"][0]
    notes = []
    styles: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("pd_mm", _pd_words(rows.values(), rano), {"color": worst, "ls": (0, (5, 2)), "lw": 1.2}),
        ("nadir_mm", "nadir before", {"color": MUTED, "ls": (0, (1, 2)), "lw": 1.1}),
        ("pr_mm", f"PR: −{100 * rano['pr']:g} %\nof baseline", {"color": best, "ls": (0, (5, 2)), "lw": 1.1}),
    )
    for column, text, style in styles:
        y = [lines[column].iloc[0], *lines[column]]
        axes.plot([*(starts or x[:1]), *x], y, drawstyle="steps-pre", zorder=2, **style)
        notes.append((float(y[-1]), text, style["color"]))
    axes.plot(x, lines["pd_mm"].to_numpy(), marker="_", ms=11, mew=2, ls="", color=worst, zorder=3)
    return notes


def _pd_words(rows: Iterable[Record], rano: Mapping[str, Any]) -> str:
    """Say when the sum is PD: the absolute growth is of the sum, or of one lesion."""
    several = max((number_of(row, "n_targets") for row in rows), default=0) > 1
    of = "\nin one target" if several and rano["abs_rule"] != "sum" else ""
    return f"PD: +{100 * rano['pd']:g} % of\nnadir and +{rano['pd_abs_mm']:g} mm{of}"


def _draw_response(axes: Axes, row: Record, x: float) -> None:
    """Write a session's response above the panel, hollow where it is not confirmed, and a note where there is one."""
    response, unconfirmed = text_of(row, "response_overall_final"), is_unconfirmed(row)
    if response not in RESPONSE_COLOURS:
        return
    colour, ink = RESPONSE_COLOURS[response]
    box = {"boxstyle": "round,pad=0.25,rounding_size=0.4", "lw": 1.2}
    face = {"fc": PAPER, "ec": colour} if unconfirmed else {"fc": colour, "ec": "none"}
    where: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    where |= {"ha": "center", "va": "bottom"}
    axes.annotate(
        RESPONSE_NAMES.get(response, response),
        (x, 1.0),
        xytext=(0, 7),
        fontsize=7.6,
        fontweight="bold",
        color=INK if unconfirmed else ink,
        bbox=box | face,
        zorder=6,
        **where,
    )
    note = _note_on(row)
    if note:
        axes.annotate(note, (x, 1.0), xytext=(0, 20), fontsize=6.6, color=MUTED, **where)


def _note_on(row: Record) -> str:
    """Say what a session's response does not say itself: why it is PD without its targets, or what is not confirmed."""
    reasons = words_of(row, "pd_reason")
    if reasons and "target" not in reasons:
        return ", ".join(reason.replace("nontarget", "non-target") for reason in reasons)
    if is_unconfirmed(row):
        return "unconfirmed"
    return "PR continues" if pr_continues(row) else ""
