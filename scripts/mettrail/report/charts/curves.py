"""Curves of all lesions together: free-response ROC, and cumulative incidence of local failure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from mettrail.colours import TRACK_COLOURS
from mettrail.report.charts.canvas import chart, write_empty, write_heading
from mettrail.report.charts.svg import say
from mettrail.report.figures import INK, MUTED, RESPONSE_COLOURS

# More false lesions per scan are of no use to anybody.
FALSE_AT_MOST = 128
# Where colours come again, another line and mark.
_LINES = (("-", "o"), ("--", "s"), (":", "^"))


def draw_froc(curves: pd.DataFrame, path: str | Path) -> None:
    """Draw free-response curves: sensitivity over false lesions per scan, one line per method.

    The axis of false lesions is logarithmic from 1/8 on and linear below, so that 0 has a place. It ends at
    `FALSE_AT_MOST`.

    Parameters
    ----------
    curves : DataFrame
        ``method``, ``threshold``, ``sensitivity``, ``false_per_scan``, thresholds of a method in falling order. May be
        empty.
    path : path
        ``.svg`` or ``.png``.
    """
    with chart(path, (6.4, 4.2)) as fig:
        axes = fig.add_axes((0.1, 0.13, 0.87, 0.78))
        for number, (method, curve) in enumerate(curves.groupby("method", sort=False)):
            again, colour = divmod(number, len(TRACK_COLOURS))
            dashes, marker = _LINES[again % len(_LINES)]
            x, y = (curve[name].to_numpy(float) for name in ("false_per_scan", "sensitivity"))
            style: dict[str, Any] = {"color": TRACK_COLOURS[colour], "ls": dashes, "marker": marker, "ms": 2.2}
            # No further than the axis, but with whole marks on it.
            axes.plot(np.where(x <= FALSE_AT_MOST, x, np.nan), y, label=str(method), lw=1.6, clip_on=False, **style)
        axes.set_xscale("symlog", base=2, linthresh=1 / 8, linscale=0.7)
        last = max(8.0, min(FALSE_AT_MOST, float(curves["false_per_scan"].max()))) if len(curves) else 8.0
        ticks = [0, *(2.0**n for n in range(-3, int(np.ceil(np.log2(last))) + 1))]
        axes.set_xticks(ticks, [f"1/{round(1 / t)}" if 0 < t < 1 else f"{t:g}" for t in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlim(0, ticks[-1])
        axes.set_ylim(0, 1)
        axes.set_xlabel("false lesions per scan")
        write_heading(axes, "Sensitivity, whole lesions")
        axes.grid()
        if len(curves):
            axes.legend(loc="lower right", frameon=False, fontsize=8)
        else:
            write_empty(axes, "no probability map")


def draw_inputs(scores: pd.DataFrame, path: str | Path) -> None:
    """Draw a score by what networks were given: a dot for each training, a bar for their mean, the best on top.

    Parameters
    ----------
    scores : DataFrame
        ``inputs`` (``inputs_T1c-FLAIR``), ``seed``, ``dsc``: a row per scan.
    path : path
        ``.svg`` or ``.png``.
    """
    trainings = scores.groupby(["inputs", "seed"])["dsc"].mean().reset_index()
    order = trainings.groupby("inputs")["dsc"].mean().sort_values().index
    height = 0.9 + 0.28 * len(order)
    with chart(path, (6.4, height)) as fig:
        axes = fig.add_axes((0.3, 0.5 / height, 0.67, 1 - 0.9 / height))
        for row, name in enumerate(order):
            found = trainings.loc[trainings["inputs"] == name, "dsc"]
            axes.barh(row, found.mean(), color=TRACK_COLOURS[0], alpha=0.35, height=0.7)
            axes.plot(found, [row] * len(found), "o", color=TRACK_COLOURS[0], ms=3)
        axes.set_yticks(range(len(order)), [name.removeprefix("inputs_").replace("-", ", ") for name in order])
        axes.set_xlim(0, 1)
        write_heading(axes, "Dice of whole lesions, by sequences")
        axes.grid(axis="x")


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
    with chart(path, (10.4, 3.9)) as fig:
        axes = fig.add_axes((0.065, 0.26, 0.9, 0.64))
        write_heading(axes, "Local failure of treated lesions, cumulative incidence, %")
        if curve.empty:
            write_empty(axes, "no treated lesion")
            axes.set_axis_off()
            return
        day, at_risk = (curve[name].to_numpy(float) for name in ("day", "n_at_risk"))
        shown, low, high = (100 * curve[name].to_numpy(float) for name in ("local_failure", "low", "high"))
        colour = RESPONSE_COLOURS["PD"][0]
        axes.fill_between(day, low, high, step="post", color=colour, alpha=0.15, lw=0)
        axes.step(day, shown, where="post", color=colour, lw=1.8)
        for n in np.flatnonzero(np.diff(shown, prepend=0)):
            (step,) = axes.plot(day[n], shown[n], "o", ms=3.5, color=colour, mew=0)
            limits = f"95 % CI {low[n]:.0f} to {high[n]:.0f} %"
            say(step, f"day {day[n]:g}: {shown[n]:.0f} % ({limits}), {at_risk[n]:.0f} lesions at risk")
        top = float(np.nanmax([*high, *shown, 1]))
        axes.set_ylim(0, min(100, 1.15 * top) if top > 8 else 10)
        axes.set_xlim(0, max(day.max(), 1) * 1.02)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.grid(axis="both")
        axes.set_xlabel("days from treatment", color=MUTED, fontsize=8.5)
        ticks = [t for t in axes.get_xticks() if 0 <= t <= axes.get_xlim()[1]]
        axes.set_xticks(ticks)
        below: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "fontsize": 8, "va": "center"}
        axes.text(0, -0.27, "Lesions at risk", color=MUTED, ha="left", clip_on=False, **below)
        for tick in ticks:
            number = at_risk[day >= tick]
            shown_number = f"{number[0] if len(number) else 0:.0f}"
            axes.text(tick, -0.36, shown_number, color=INK, ha="center", clip_on=False, **below)
