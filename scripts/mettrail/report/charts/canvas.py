"""The figure of a chart: its style, its size, and how it is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.typing import RcKeyType

from mettrail.report.charts import svg
from mettrail.report.figures import GRID, INK, MUTED, PAPER, PIXELS_PER_INCH

_STYLE: dict[RcKeyType, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "mettrail",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "text.color": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "lines.solid_capstyle": "round",
}


@contextmanager
def chart(path: str | Path, size: tuple[float, float]) -> Iterator[Figure]:
    """Yield an empty figure in the style of all charts, and write it when it is drawn.

    Parameters
    ----------
    path : path
        ``.svg`` or ``.png``. Its folder is made.
    size : (float, float)
        Width and height, inches.
    """
    with mpl.rc_context(_STYLE):
        fig = Figure(figsize=size)
        FigureCanvasAgg(fig)
        yield fig
        _save(fig, Path(path))


def write_title(fig: Figure, title: str, *, down: float) -> None:
    """Write the title of a whole chart at the top left, so many inches below the edge."""
    if title:
        y = 1 - down / fig.get_size_inches()[1]
        fig.text(0.02, y, title, fontsize=11, fontweight="bold", va="center")


def write_heading(axes: Axes, heading: str, *, pad: float = 6) -> None:
    """Write the heading of a panel, so many points above it."""
    axes.set_title(heading, loc="left", fontsize=9.5, color=INK, pad=pad)


def write_empty(axes: Axes, words: str, *, y: float = 0.5) -> None:
    """Say in a panel why it is empty."""
    axes.text(0.5, y, words, transform=axes.transAxes, ha="center", color=MUTED)


def _save(fig: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".svg":
        fig.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        path.write_text(svg.finish(path.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        fig.savefig(path, dpi=PIXELS_PER_INCH, facecolor=PAPER, metadata={"Software": None})
