"""Pictures from images and tables that exist; nothing is computed here.

Pictures of the head are in radiological convention (the patient's right is on the left of the picture) and say so.
A track has one colour and one mark for life, on every picture and in every table: no two of 64 share both.

Charts written as ``.svg`` follow the reader's light or dark setting; other viewers show them light.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image as Pixels
from scipy import ndimage

from mettrail.images import EDEMA, NECROSIS, Image, require_same_grid, resample
from mettrail.response import criteria
from mettrail.tracking.lesions import ENDPOINTS

# Bright enough on black scans, dark enough on paper. Any two differ by at least 12 (CIEDE2000) also with red, green or
# blue blindness (Machado et al. 2009), and by 17 from the colours of PD and CR. More than eight would not.
TRACK_COLOURS = ("#1568ea", "#d32f8c", "#74a102", "#3fc5c1", "#deac84", "#939af5", "#d4788d", "#607937")
# The ninth lesion has the first colour again and the second mark.
TRACK_MARKERS = ("o", "s", "^", "D", "v", "P", "<", ">")
# Colour and the colour of text on it.
RESPONSE_COLOURS = {
    "CR": ("#0f766e", "#ffffff"),
    "PR": ("#63b3a6", "#08201d"),
    "SD": ("#d9c07a", "#2a2208"),
    "NON_CR_NON_PD": ("#c9b79c", "#2a2208"),
    "uPD": ("#e9a184", "#33130a"),
    "PD": ("#b8432f", "#ffffff"),
    "ND": ("#8ea4c8", "#0e1a2e"),
    "NE": ("#c3c8cf", "#23272e"),
}
RESPONSE_NAMES = {"NON_CR_NON_PD": "non-CR/non-PD"}
# Remarks on a lesion that make its picture come before those of others; the most doubtful first.
REVIEW_FLAGS = (
    *("weak_match", "coalesced", "nontarget_review", "probable_miss", "merged_across_roles"),
    *("treatment_effect_possible", "fov_edge"),
)
# Lesions on a session's first picture; all others are on the second.
FIRST_LESIONS = 9
# Growth from its smallest before by which a lesion's picture comes earlier: what RANO calls progression of a sum.
_GROWN = 0.20
_EDEMA_COLOUR, _NECROSIS_COLOUR = "#ffd447", "#ffffff"

_INK, _MUTED, _GRID, _PAPER, _BAND = "#1b1f24", "#667080", "#e4e7eb", "#fdfdfe", "#eef0f3"
_DARK = {_INK: "#e7eaee", _MUTED: "#98a2b0", _GRID: "#30363f", _PAPER: "#15181c", _BAND: "#23282f"}
_SCREEN = "#000000"
_FONTS = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "mettrail",
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "text.color": _INK,
    "grid.color": _GRID,
    "grid.linewidth": 0.7,
    "lines.solid_capstyle": "round",
}
_PIXELS_PER_INCH = 110
_ZOOM_MIN_MM = 36


def track_colour(track_id: str) -> str:
    """Return a track's colour, the same on every picture and at every visit.

    Examples
    --------
    >>> track_colour("L001") == track_colour("1") == track_colour("L009")
    True
    """
    return TRACK_COLOURS[_track_index(track_id) % len(TRACK_COLOURS)]


def track_marker(track_id: str) -> str:
    """Return a track's mark, in Matplotlib's letters; with the colour no two of 64 tracks look alike.

    Examples
    --------
    >>> track_marker("L001"), track_marker("L009"), track_marker("L065")
    ('o', 's', 'o')
    """
    return TRACK_MARKERS[_track_index(track_id) // len(TRACK_COLOURS) % len(TRACK_MARKERS)]


def _track_index(track_id: str) -> int:
    number = re.search(r"\d+", str(track_id))
    return int(number.group()) - 1 if number else zlib.crc32(str(track_id).encode())


def is_unconfirmed(session: Mapping) -> bool:
    """Tell whether a session's overall response is a CR or PR that did not last long enough to count."""
    return _text(session.get("response_overall_final")) in ("CR", "PR") and _truth(session.get("confirmed")) is False


def pr_continues(session: Mapping) -> bool:
    """Tell whether a session is SD after a confirmed PR, which goes on until PD."""
    final, continued = (_text(session.get(f"response_overall_{name}")) for name in ("final", "continued"))
    return final == "SD" and continued == "PR"


def draw_session(
    reference: Image,
    lesions: Image,
    tissue: Image,
    brain: Image | None,
    path: str | Path,
    more_path: str | Path,
    *,
    lesion_rows: pd.DataFrame,
    earlier_rows: pd.DataFrame,
    title: str,
    n_first: int = FIRST_LESIONS,
) -> None:
    """Draw each lesion on the axial slice of its longest diameter: the whole slice, and the lesion near.

    New lesions come first, then those that grew by 20 % from their smallest, then those with a remark, then targets;
    of each the largest first. None is left out.

    Parameters
    ----------
    reference : Image
        The scan the lesions were measured on, its own grid.
    lesions : Image
        One number per lesion, for life, on the same grid; 0 is background.
    tissue : Image
        Tissue labels on the same grid: edema and necrosis are outlined, too.
    brain : Image or None
        Brain mask, on any grid; frames the picture and sets its grey values where given.
    path, more_path : path
        PNG to write: the first `n_first` lesions, large; all others, small. Without others the second one says so.
    lesion_rows : DataFrame
        This session's lesions; columns of the lesion table, those that are missing are left out. May be empty.
    earlier_rows : DataFrame
        The same of all earlier sessions: what a lesion has grown from. May be empty.
    title : str
        What the picture shows, e.g. ``sub-A ses-02, day 56``.
    n_first : int

    Raises
    ------
    GridMismatchError
        Scan, lesions and tissue are not on one grid.
    """
    require_same_grid(reference, lesions)
    require_same_grid(reference, tissue)
    view = _View.of(reference)
    inside = None if brain is None else view.turn(_mask_on(brain, reference))
    rows = {_label_number(_row_name(r)): r for _, r in lesion_rows.iterrows()}
    labels = view.turn(lesions.data)
    smallest = _smallest_before(earlier_rows)
    scene = _Scene(view, labels, view.turn(tissue.data), inside, _window(view.data, inside), rows, smallest)
    numbers, counts = np.unique(labels[labels > 0], return_counts=True)
    count_of = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    order = sorted(count_of, key=lambda n: _prominence(rows.get(n), count_of[n], n, smallest))
    shown, others = order[:n_first], order[n_first:]
    notes = [] if shown else ["no lesion outlined in this session"]
    if others:
        notes.append(f"{_plural(len(others), 'more lesion')} on the next picture")
    absent = [_row_name(r) for r in rows.values() if _text(r.get("status")) == "absent"]
    if absent:
        notes.append(f"no longer detected: {', '.join(absent[:12])}{' …' if len(absent) > 12 else ''}")
    _draw_sheet(scene, shown, path, title=title, notes=notes, columns=3, cell=2.15)
    notes = [] if others else ["all lesions are on the first picture"]
    _draw_sheet(scene, others, more_path, title=f"{title}, other lesions", notes=notes, columns=4, cell=1.55)


@dataclass(frozen=True)
class _Scene:
    """What the pictures of a session are drawn from, turned for the screen."""

    view: _View
    labels: np.ndarray
    tissue: np.ndarray
    inside: np.ndarray | None
    window: tuple[float, float]
    rows: dict[int, pd.Series]
    smallest: dict[str, float]


def _draw_sheet(scene: _Scene, shown, path, *, title: str, notes: Sequence[str], columns: int, cell: float) -> None:
    """Draw some lesions side by side, or four slices of the head where there is none; sizes in inches."""
    view = scene.view
    columns = max(1, min(columns, len(shown))) if shown else 2
    lines = max(1, -(-len(shown) // columns))
    notes = [*notes, "radiological: the patient's right (R) is on the left"]
    text, gap, head, foot = 0.46, 0.14, 0.42, 0.46 if shown else 0.29
    notes = ["   ·   ".join(notes)] if columns > 1 else notes
    foot += 0.17 * (len(notes) - 1)
    size = (columns * (2 * cell + gap) + gap, head + lines * (cell + text) + foot)
    fig = _screen(size)
    fig.text(gap / size[0], 1 - 0.24 / size[1], title, color="white", fontsize=11, fontweight="bold", va="center")
    frame = _frame(view, scene.inside)
    if not shown:
        _draw_some_axials(fig, view, scene.inside, scene.window, frame, size, foot + 0.2, cell)
    for order, number in enumerate(shown):
        line, column = divmod(order, columns)
        x, top = gap + column * (2 * cell + gap), size[1] - head - line * (cell + text)
        row = scene.rows.get(number)
        k = _slice_of(row, scene.labels == number, view)
        whole = fig.add_axes(_box(x, top - text - cell, cell, cell, size))
        near = fig.add_axes(_box(x + cell, top - text - cell, cell, cell, size))
        box = _near(scene.labels[:, :, k] == number, view.spacing_mm[:2])
        _draw_lesions(whole, scene, number, k, frame)
        _draw_lesions(near, scene, number, k, box)
        edges = {"fill": False, "ec": "white", "lw": 0.7, "alpha": 0.75}
        whole.add_patch(Rectangle((box[0], box[2]), box[1] - box[0], box[3] - box[2], **edges))
        _draw_chord(near, row, view)
        _sides(whole)
        _scale_bar(near, box)
        name, facts = _lesion_caption(row, number, scene.smallest)
        title_y, facts_y = (top - 0.16) / size[1], (top - 0.34) / size[1]
        colour = track_colour(_track_name(row, number))
        fig.text(x / size[0], title_y, name, color=colour, fontsize=10.5, fontweight="bold", va="center")
        facts_size = 8.4 if cell > 2 else 7
        fig.text(x / size[0], facts_y, facts, color="#c9cfd8", fontsize=facts_size, va="center")
    for n, note in enumerate(reversed(notes)):
        fig.text(gap / size[0], (0.13 + 0.17 * n) / size[1], note, color="#98a2b0", fontsize=7.8, va="center")
    if shown:
        _picture_key(fig, size, gap, 0.13 + 0.17 * len(notes) + 0.03)
    _save_png(fig, path, palette=_lesion_palette())


def _draw_lesions(axes, scene: _Scene, number: int, k: int, box) -> None:
    """Show an axial slice with the outlines of its lesions, of edema and of necrosis; other lesions have names."""
    spacing = scene.view.spacing_mm[:2]
    _show(axes, scene.view.data[:, :, k], spacing, scene.window)
    labels, tissue = scene.labels[:, :, k], scene.tissue[:, :, k]
    _outline(axes, tissue == EDEMA, spacing, _EDEMA_COLOUR, 0.9, dashes=(0, (4, 2)))
    for other in np.unique(labels[labels > 0]).tolist():
        name = _track_name(scene.rows.get(other), other)
        mask = labels == other
        _outline(axes, mask, spacing, track_colour(name), 1.5 if other == number else 1.0)
        _outline(axes, mask & (tissue == NECROSIS), spacing, _NECROSIS_COLOUR, 0.8, dashes=(0, (1, 1.4)))
        if other != number:
            where = np.argwhere(mask) * np.array(spacing)
            x, y = where[:, 0].max(), where[:, 1].mean()
            if box[0] < x < box[1] and box[2] < y < box[3]:
                style = {"color": "white", "fontsize": 6, "va": "center", "path_effects": _casing(1.6), "clip_on": True}
                axes.annotate(name, (x, y), xytext=(2.5, 0), textcoords="offset points", **style)
    _limit(axes, box)


def _casing(width: float) -> list:
    """Put black under a line or a text, so that it is seen on bright tissue, too."""
    return [patheffects.withStroke(linewidth=width, foreground="black")]


def _picture_key(fig: Figure, size: tuple[float, float], left: float, bottom: float) -> None:
    """Say what the lines on the pictures of lesions are."""
    axes = fig.add_axes((left / size[0], (bottom - 0.08) / size[1], 1 - left / size[0], 0.16 / size[1]))
    axes.set_axis_off()
    axes.set_xlim(0, size[0] - left)
    axes.set_ylim(-1, 1)
    x = 0.0
    for name, style in (
        ("lesion, its colour", {"color": track_colour("L001"), "lw": 1.5}),
        ("edema", {"color": _EDEMA_COLOUR, "lw": 0.9, "ls": (0, (4, 2))}),
        ("necrosis", {"color": _NECROSIS_COLOUR, "lw": 0.8, "ls": (0, (1, 1.4))}),
        ("longest diameter", {"color": "white", "lw": 1.2, "marker": "o", "ms": 2.6}),
    ):
        axes.plot([x, x + 0.28], [0, 0], **style)
        axes.text(x + 0.35, 0, name, color="#98a2b0", fontsize=7.8, va="center")
        x += 0.55 + 0.056 * len(name)


def draw_brain_mask(reference: Image, mask: Image, path: str | Path, *, title: str) -> None:
    """Draw the outline of the brain mask on the scan, two slices in each plane.

    Parameters
    ----------
    reference, mask : Image
        Scan and mask on one grid. An empty mask is drawn as such.
    path : path
        PNG to write.
    title : str
    """
    require_same_grid(reference, mask)
    view = _View.of(reference)
    inside = view.turn(mask.data) > 0
    window = _window(view.data, None)
    fig, panels = _plane_strip(view, inside, title, rows=1, slices=(0.38, 0.64))
    for axes, plane, k in panels[0]:
        _show_panel((axes, plane, k), view.data, view.spacing_mm, window)
        outline, spacing = _plane(inside, view.spacing_mm, plane, k)
        _outline(axes, outline, spacing, "#ffd447", 1.1)
    _save_png(fig, path)


def draw_registration(fixed: Image, moved: Image | None, path: str | Path, *, title: str) -> None:
    """Draw how two scans lie on each other: checkerboard above, edges of the moved on the fixed scan below.

    Parameters
    ----------
    fixed : Image
    moved : Image or None
        Already resampled onto the grid of `fixed`. None: there is no earlier scan, and the picture says so.
    path : path
        PNG to write.
    title : str
    """
    view = _View.of(fixed)
    if moved is None:
        inside = view.data > _window(view.data, None)[0]
        fig, panels = _plane_strip(view, inside, f"{title}: no earlier scan to lay on it", rows=1, slices=(0.45, 0.62))
        for panel in panels[0]:
            _show_panel(panel, view.data, view.spacing_mm, _window(view.data, None))
        _save_png(fig, path)
        return
    require_same_grid(fixed, moved)
    other = view.turn(moved.data).astype(np.float32)
    windows = _window(view.data, None), _window(other, None)
    inside = view.data > windows[0][0] + 0.1 * (windows[0][1] - windows[0][0])
    fig, panels = _plane_strip(view, inside, title, rows=2, slices=(0.45, 0.62))
    for (above, plane, k), (below, _, _) in zip(*panels, strict=True):
        image, spacing = _plane(view.data, view.spacing_mm, plane, k)
        second, _ = _plane(other, view.spacing_mm, plane, k)
        _show(above, _checker(_scaled(image, windows[0]), _scaled(second, windows[1]), spacing), spacing, (0, 1))
        _show_panel((below, plane, k), view.data, view.spacing_mm, windows[0])
        _edge_lines(below, second, spacing)
        if plane != "sagittal":
            _sides(above)
    _save_png(fig, path)


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
    with mpl.rc_context(_STYLE):
        days, dated = _session_days(session_rows)
        tracks = _tracks_in_order(lesion_rows)
        marks = _treatment_marks(treatments) if dated else []
        span = [*days.values(), *(m[0] for m in marks)]
        span = (min(span, default=0), max(span, default=1))
        lanes = _lanes(marks, span)
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
            axes.set_title(heading, loc="left", fontsize=9.5, color=_INK, pad=6)
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
                axes.text(0.5, 0.5, "no lesion in any session", transform=axes.transAxes, ha="center", color=_MUTED)
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
        if _text(row.get("session_role")) != "followup":
            continue
        after_cr = criteria.has_confirmed_cr(days, seen, confirm_days=rano["confirm_days"])
        days.append(_number(row.get("days_from_t0")))
        seen.append(_text(row.get("response_imaging_prospective")))
        total, nadir, grown = (
            _number(row.get(c)) for c in ("sum_ld_final_mm", "nadir_sum_ld_mm", "max_lesion_increase_mm")
        )
        if not np.isfinite([total, nadir]).all():
            continue
        compared, scale = _compared(total, nadir, _number(row.get("sum_ld_change_nadir_pct")))
        absolute = nadir if rano["abs_rule"] == "sum" else compared - grown
        threshold = np.max([(1 + rano["pd"]) * nadir, absolute + rano["pd_abs_mm"]]) * scale
        reference = _number(row.get("ref_sum_ld_mm"))
        pr_scale = _compared(total, reference, _number(row.get("sum_ld_change_baseline_pct")))[1]
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
    with mpl.rc_context(_STYLE):
        rows = patient_rows.copy()
        rows["_change"] = [_number(v) for v in rows.get("best_change_ld_pct", pd.Series(np.nan, rows.index))]
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
            label.set_color(_INK)
        fall.set_ylim(max(len(rows), 3) - 0.4, -0.6)
        _response_key(fig, height, patient_rows, session_rows)
        if rows.empty:
            fall.text(0.5, 0.5, "no patient", transform=fall.transAxes, ha="center", color=_MUTED)
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
    with mpl.rc_context(_STYLE):
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
        axes.set_title("Sensitivity, whole lesions", loc="left", fontsize=9.5, color=_INK, pad=6)
        axes.grid()
        if len(curves):
            axes.legend(loc="lower right", frameon=False, fontsize=8)
        else:
            axes.text(0.5, 0.5, "no probability map", transform=axes.transAxes, ha="center", color=_MUTED)
        _save_chart(fig, path)


# ---------------------------------------------------------------------------------------------------- the head


@dataclass(frozen=True)
class _View:
    """A scan turned for the screen: axis 0 from the patient's right to left, 1 front to back, 2 feet to head.

    Axes are only reordered and reversed, never resampled, so that outlines lie on the voxels that were measured.
    """

    data: np.ndarray
    spacing_mm: tuple[float, float, float]
    affine: np.ndarray
    order: tuple[int, int, int]
    reversed_: tuple[bool, bool, bool]

    @classmethod
    def of(cls, image: Image) -> _View:
        axes = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
        k = int(np.argmax(np.abs(axes[2])))
        i, j = sorted((a for a in range(3) if a != k), key=lambda a: -abs(axes[0, a]))
        order = (i, j, k)
        flips = (axes[0, i] > 0, axes[1, j] > 0, axes[2, k] < 0)
        spacing = tuple(image.spacing_mm[a] for a in order)
        view = cls(np.empty(0), spacing, image.affine, order, tuple(bool(f) for f in flips))
        return cls(view.turn(image.data), spacing, image.affine, order, view.reversed_)

    def turn(self, data: np.ndarray) -> np.ndarray:
        """Return another array of the same grid, turned alike."""
        steps = tuple(slice(None, None, -1 if r else 1) for r in self.reversed_)
        return np.transpose(data, self.order)[steps]

    def axial(self, index: int) -> int:
        """Return where an axial slice of the file lies after turning."""
        return self.data.shape[2] - 1 - index if self.reversed_[2] else index

    def place(self, world: Sequence[float]) -> np.ndarray:
        """Return screen millimetres (x, y, z) of a RAS mm point."""
        voxel = (np.linalg.inv(self.affine) @ np.append(np.asarray(world, float), 1))[:3][list(self.order)]
        last = np.array(self.data.shape) - 1
        return np.where(self.reversed_, last - voxel, voxel) * np.array(self.spacing_mm)


def _mask_on(mask: Image, reference: Image) -> np.ndarray:
    if mask.grid.matches(reference.grid):
        return mask.data > 0
    return resample(mask.like(mask.data.astype(np.uint8)), reference.grid, order=0).data > 0


def _window(data: np.ndarray, inside: np.ndarray | None) -> tuple[float, float]:
    """Grey values shown as black and white: set by tissue, so that fat and vessels do not darken the brain."""
    sample = data[inside] if inside is not None and inside.any() else data[::2, ::2]
    sample = sample[sample > 0]
    if sample.size == 0:
        return 0.0, 1.0
    # Air around the head, where there is no mask, would make tissue look bright.
    tissue = sample[sample > 0.1 * np.percentile(sample, 99)]
    low, middle, high = np.percentile(tissue, (1, 60, 99))
    high = min(high, 2.3 * middle)
    return float(min(low, 0.25 * high)), float(high if high > low else low + 1)


def _scaled(image: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    return np.clip((image - window[0]) / (window[1] - window[0]), 0, 1)


def _screen(size: tuple[float, float]) -> Figure:
    fig = Figure(figsize=size, dpi=_PIXELS_PER_INCH, facecolor=_SCREEN)
    FigureCanvasAgg(fig)
    return fig


def _box(left: float, bottom: float, width: float, height: float, size: tuple[float, float]):
    pad = 0.02
    return ((left + pad) / size[0], (bottom + pad) / size[1], (width - 2 * pad) / size[0], (height - 2 * pad) / size[1])


def _show(axes, image: np.ndarray, spacing_mm: tuple[float, float], window: tuple[float, float]) -> None:
    """Show a slice with axes in mm; first array axis across, second downwards."""
    (nx, ny), (sx, sy) = image.shape[:2], spacing_mm
    kept = (*axes.get_xlim(), *axes.get_ylim()[::-1]) if not axes.get_autoscale_on() else None
    axes.imshow(
        np.asarray(image, np.float32).swapaxes(0, 1),
        cmap="gray",
        vmin=window[0],
        vmax=window[1],
        extent=(-sx / 2, (nx - 0.5) * sx, (ny - 0.5) * sy, -sy / 2),
        interpolation="bilinear",
        aspect="equal",
    )
    if kept is not None:
        _limit(axes, kept)
    axes.set_facecolor(_SCREEN)
    axes.set_axis_off()


def _outline(axes, mask: np.ndarray, spacing_mm, colour: str, width: float, *, dashes="solid") -> None:
    """Draw a mask's border through the midpoints between voxels, where diameters end too; black under it."""
    if not mask.any():
        return
    padded = np.pad(mask.astype(np.float32), 1)
    x = (np.arange(padded.shape[0]) - 1) * spacing_mm[0]
    y = (np.arange(padded.shape[1]) - 1) * spacing_mm[1]
    drawn = axes.contour(x, y, padded.T, levels=[0.5], colors=[colour], linewidths=width, linestyles=[dashes])
    drawn.set_path_effects(_casing(width + 1.1))


def _frame(view: _View, inside: np.ndarray | None) -> tuple[float, float, float, float]:
    """Square around the brain, or around the whole scan, in screen mm."""
    nx, ny = view.data.shape[:2]
    low, high = np.zeros(2), np.array([nx - 1, ny - 1], float)
    if inside is not None and inside.any():
        flat = inside.any(axis=2)
        where = np.argwhere(flat)
        low, high = where.min(0), where.max(0)
    spacing = np.array(view.spacing_mm[:2])
    low, high = low * spacing - 6, high * spacing + 6
    centre, half = (low + high) / 2, (high - low).max() / 2
    return centre[0] - half, centre[0] + half, centre[1] - half, centre[1] + half


def _near(mask: np.ndarray, spacing_mm: tuple[float, float]) -> tuple[float, float, float, float]:
    """Square around a lesion, in screen mm."""
    where = np.argwhere(mask) * np.array(spacing_mm)
    low, high = where.min(0), where.max(0)
    centre = (low + high) / 2
    half = max(_ZOOM_MIN_MM, 2.2 * (high - low).max()) / 2
    return centre[0] - half, centre[0] + half, centre[1] - half, centre[1] + half


def _limit(axes, box: tuple[float, float, float, float]) -> None:
    axes.set_xlim(box[0], box[1])
    axes.set_ylim(box[3], box[2])


def _sides(axes) -> None:
    style = {"color": "#9fd0ff", "fontsize": 8.5, "fontweight": "bold", "va": "center"}
    for x, side, align in ((0.02, "R", "left"), (0.98, "L", "right")):
        axes.text(x, 0.5, side, transform=axes.transAxes, ha=align, **style)


def _scale_bar(axes, box: tuple[float, float, float, float]) -> None:
    width, height = box[1] - box[0], box[3] - box[2]
    x, y = box[1] - 0.05 * width - 10, box[3] - 0.05 * height
    axes.plot([x, x + 10], [y, y], color="white", lw=2, solid_capstyle="butt", path_effects=_casing(3.5))
    style = {"color": "white", "fontsize": 7, "ha": "center", "va": "bottom", "path_effects": _casing(1.8)}
    axes.text(x + 5, y - 0.02 * height, "10 mm", **style)


def _draw_chord(axes, row, view: _View) -> None:
    """Draw the longest diameter where the table knows its ends."""
    ends = (
        np.reshape([_number(row.get(name)) for name in ENDPOINTS], (2, 3))
        if row is not None
        else np.full((2, 3), np.nan)
    )
    if not np.isfinite(ends).all():
        return
    (x0, y0, _), (x1, y1, _) = (view.place(e) for e in ends)
    style = {"color": "white", "lw": 1.2, "marker": "o", "ms": 2.6, "solid_capstyle": "butt"}
    axes.plot([x0, x1], [y0, y1], path_effects=_casing(3), **style)


def _slice_of(row, mask: np.ndarray, view: _View) -> int:
    """Axial slice of the longest diameter, or the fullest one where the table does not say."""
    index = _number(row.get("ld_slice")) if row is not None else np.nan
    if np.isfinite(index) and 0 <= index < mask.shape[2] and mask[:, :, view.axial(int(index))].any():
        return view.axial(int(index))
    return int(np.argmax(mask.sum(axis=(0, 1))))


def _draw_some_axials(fig, view, inside, window, frame, size, bottom, cell) -> None:
    empty = inside is None or not inside.any()
    levels = np.arange(view.data.shape[2]) if empty else np.flatnonzero(inside.any(axis=(0, 1)))
    for n, share in enumerate((0.35, 0.5, 0.65, 0.8)):
        axes = fig.add_axes(_box(0.14 + n * cell, bottom, cell, cell, size))
        _show(axes, view.data[:, :, levels[int(share * (len(levels) - 1))]], view.spacing_mm[:2], window)
        _limit(axes, frame)
        _sides(axes)


def _lesion_caption(row, number: int, smallest: dict[str, float]) -> tuple[str, str]:
    name = _track_name(row, number)
    if row is None:
        return name, "not in the table"
    facts = []
    if np.isfinite(_number(row.get("ld_mm"))):
        facts.append(f"{_number(row.get('ld_mm')):.1f} mm")
    volume = _number(row.get("vol_wl_ml", _number(row.get("vol_wl_mm3")) / 1000))
    if np.isfinite(volume):
        facts.append(_volume_text(volume))
    growth = _growth_mm(row, smallest)
    if growth >= 0.05:
        facts.append(f"+{growth:.1f} mm from its smallest")
    facts.append(_text(row.get("role")).replace("nontarget", "non-target").replace("candidate", ""))
    if _text(row.get("event")) not in ("", "persist", "baseline", _text(row.get("role"))):
        facts.append(_text(row.get("event")).replace("_", " "))
    if _text(row.get("confidence")) == "candidate":
        facts.append("candidate, please check")
    facts += [flag.replace("_", " ") for flag in _review_flags(row)]
    return name, " · ".join(f for f in facts if f)


def _volume_text(ml: float) -> str:
    return f"{ml:.2f} mL" if ml >= 0.1 else f"{ml * 1000:.0f} mm³"


def _plane_strip(view: _View, inside: np.ndarray, title: str, *, rows: int, slices: tuple[float, float]):
    """Lay out slices in three planes, all at one scale; return the figure and per row (axes, plane, slice)."""
    bounds = []
    for axis in range(3):
        levels = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        bounds.append((levels[0], levels[-1]) if levels.size else (0, inside.shape[axis] - 1))
    extents = {}
    margin = 8
    for plane, (a, b) in (("axial", (0, 1)), ("coronal", (0, 2)), ("sagittal", (1, 2))):
        box = []
        for axis in (a, b):
            s = view.spacing_mm[axis]
            low, high = bounds[axis]
            if axis == 2:
                low, high = view.data.shape[2] - 1 - high, view.data.shape[2] - 1 - low
            box += [low * s - margin, high * s + margin]
        extents[plane] = box
    shown = [(p, s) for p in ("axial", "coronal", "sagittal") for s in slices]
    widths = [extents[p][1] - extents[p][0] for p, _ in shown]
    tall = max(extents[p][3] - extents[p][2] for p, _ in shown)
    inch_per_mm = 12.6 / (sum(widths) + 4 * len(widths))
    head, foot = 0.42, 0.3
    size = (12.8, head + foot + rows * (tall * inch_per_mm + 0.05))
    fig = _screen(size)
    fig.text(0.1 / size[0], 1 - 0.27 / size[1], title, color="white", fontsize=11, fontweight="bold", va="center")
    fig.text(
        0.1 / size[0],
        0.13 / size[1],
        "radiological convention: the patient's right (R) is on the left; sagittal: front on the left",
        color="#98a2b0",
        fontsize=7.8,
        va="center",
    )
    panels = []
    for r in range(rows):
        left, line = 0.1, []
        for (plane, share), width in zip(shown, widths, strict=True):
            w, h = width * inch_per_mm, tall * inch_per_mm
            axes = fig.add_axes(_box(left, foot + (rows - 1 - r) * (h + 0.05), w, h, size))
            box = list(extents[plane])
            middle = (box[2] + box[3]) / 2
            box[2:] = [middle - tall / 2, middle + tall / 2]
            normal = {"axial": 2, "coronal": 1, "sagittal": 0}[plane]
            low, high = bounds[normal]
            k = round(low + share * (high - low))
            line.append((axes, plane, k))
            _limit(axes, box)
            left += w + 4 * inch_per_mm
        panels.append(line)
    return fig, panels


def _show_panel(panel, data: np.ndarray, spacing_mm, window) -> None:
    axes, plane, k = panel
    image, spacing = _plane(data, spacing_mm, plane, k)
    _show(axes, image, spacing, window)
    if plane != "sagittal":
        _sides(axes)


def _plane(data: np.ndarray, spacing_mm, plane: str, k: int) -> tuple[np.ndarray, tuple[float, float]]:
    """Return one slice, across first, downwards second, with its spacing."""
    if plane == "axial":
        return data[:, :, k], (spacing_mm[0], spacing_mm[1])
    if plane == "coronal":
        return data[:, k, ::-1], (spacing_mm[0], spacing_mm[2])
    return data[k, :, ::-1], (spacing_mm[1], spacing_mm[2])


def _checker(first: np.ndarray, second: np.ndarray, spacing_mm, *, field_mm: float = 22) -> np.ndarray:
    x = np.floor(np.arange(first.shape[0]) * spacing_mm[0] / field_mm)
    y = np.floor(np.arange(first.shape[1]) * spacing_mm[1] / field_mm)
    odd = (x[:, None] + y[None, :]) % 2 == 1
    # A faint tint tells which field is which scan.
    warm, cold = np.array([1.0, 0.96, 0.88]), np.array([0.84, 0.95, 1.0])
    return np.where(odd[..., None], second[..., None] * cold, first[..., None] * warm)


def _edge_lines(axes, image: np.ndarray, spacing_mm) -> None:
    """Draw edges of a slice: where the Laplacian crosses 0 and the gradient is large."""
    smooth = ndimage.gaussian_filter(image, [1.3 / s for s in spacing_mm])
    strength, crossing = ndimage.generic_gradient_magnitude(smooth, ndimage.sobel), ndimage.laplace(smooth)
    if not (strength > 0).any():
        return
    weak = strength < np.percentile(strength[strength > 0], 72)
    x = np.arange(crossing.shape[0]) * spacing_mm[0]
    y = np.arange(crossing.shape[1]) * spacing_mm[1]
    lines = np.ma.masked_array(crossing, weak)
    if np.ma.count(lines) and lines.min() < 0 < lines.max():
        axes.contour(x, y, lines.T, levels=[0], colors=["#ff9d2e"], linewidths=0.6)


def _save_png(fig: Figure, path: str | Path, *, palette: Pixels.Image | None = None) -> None:
    """Write the picture with 256 colours, half the size: those of a palette, or those it has most of."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.canvas.draw()
    picture = Pixels.fromarray(np.ascontiguousarray(np.asarray(fig.canvas.buffer_rgba())[..., :3]))
    how = {"palette": palette} if palette else {"colors": 256, "method": Pixels.Quantize.MEDIANCUT}
    picture.quantize(dither=Pixels.Dither.NONE, **how).save(path, optimize=True)


def _lesion_palette() -> Pixels.Image:
    """Greys for the scan, and the exact colour of every track with its shades on black: no colour is bent."""
    greys = [(round(g),) * 3 for g in np.linspace(0, 255, 256 - 7 * (len(TRACK_COLOURS) + 1))]
    colours = [np.array(mpl.colors.to_rgb(c)) * 255 for c in (*TRACK_COLOURS, _EDEMA_COLOUR)]
    shades = [tuple(np.round(c * share).astype(int)) for c in colours for share in (1, 0.85, 0.7, 0.55, 0.42, 0.3, 0.2)]
    palette = Pixels.new("P", (1, 1))
    palette.putpalette([int(v) for colour in (*greys, *shades) for v in colour])
    return palette


# ---------------------------------------------------------------------------------------------------- charts


def _session_days(session_rows: pd.DataFrame) -> tuple[dict[str, float], bool]:
    """Return where each session lies on the time axis, and whether that is days or only their order."""
    if session_rows.empty:
        return {}, True
    days = [_number(v) for v in session_rows.get("days_from_t0", pd.Series(np.nan, session_rows.index))]
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
        size = np.nanmax([0.0, *(_number(v) for v in rows["ld_mm"])])
        return ("target" not in set(rows["role"].map(_text)), -size, str(track))

    return [str(t) for t, _ in sorted(lesion_rows.groupby("track_id", sort=True), key=prominence)]


def _draw_tracks(axes, lesion_rows, column, days, ordered, tracks, named) -> list:
    """Draw one line per track; return last points of those to be named."""
    ends = []
    for track in reversed(tracks):
        rows = lesion_rows[lesion_rows["track_id"] == track]
        by_session = {str(r["session_id"]): r for _, r in rows.iterrows()}
        colour = track_colour(track)
        role = {_text(r.get("role")) for r in by_session.values()}
        dashed = not role & {"target"}
        style = {"color": colour, "lw": 1.7 if not dashed else 1.2, "zorder": 3}
        points, joined = [], False
        for name in (s for s in ordered if s in by_session):
            row = by_session[name]
            value, kind = _number(row.get(column)), _text(row.get("status"))
            if kind == "merged":
                if joined:
                    continue
                joined = True
                owner = _owner_value(lesion_rows, row, column)
                if points and np.isfinite(owner):
                    axes.plot([points[-1][0], days[name]], [points[-1][1], owner], ls=":", **{**style, "lw": 1.1})
                    axes.plot(days[name], owner, marker="x", ms=6, mew=1.4, color=colour, zorder=5)
                    note = f"{track} joins {_text(row.get('merged_into'))}"
                    where = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center", "fontsize": 7}
                    axes.annotate(note, (days[name], owner), color=colour, zorder=6, **where)
                continue
            # Most likely it was there and not seen: the line goes on over the gap.
            missed = _text(row.get("ld_source")) == "probable_miss"
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
                mfc=_PAPER if hollow else colour,
                mec=colour,
                mew=1.3,
                ls="",
                clip_on=False,
                zorder=4,
            )
            if _text(row.get("event")) == "new":
                axes.plot(x, y, marker="*", ms=12, mfc=colour, mec=_PAPER, mew=0.7, ls="", clip_on=False, zorder=5)
        if points and track in named and not joined:
            ends.append((points[-1], track, colour))
    return ends


def _owner_value(lesion_rows, row, column) -> float:
    owner = lesion_rows[
        (lesion_rows["track_id"] == row.get("merged_into")) & (lesion_rows["session_id"] == row["session_id"])
    ]
    return _number(owner.iloc[0].get(column)) if len(owner) else np.nan


def _limit_values(axes, lesion_rows, column) -> None:
    values = [_number(v) for v in lesion_rows.get(column, [])]
    top = np.nanmax([0.0, *values])
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
        axes.text(1.03, height, track, color=_INK, fontsize=8.5, va="center", **style)


_KEY_COLUMNS = 12


def _track_key(axes, tracks: list[str]) -> None:
    """Name all tracks with colour and mark, where there are too many to name each at its line."""
    lines = -(-len(tracks) // _KEY_COLUMNS)
    axes.set_axis_off()
    axes.set_xlim(0, _KEY_COLUMNS)
    axes.set_ylim(lines, -1)
    axes.text(0, -0.55, "All lesions", fontsize=8, color=_MUTED, va="center")
    for n, track in enumerate(sorted(tracks, key=lambda t: (_label_number(t), t))):
        line, column = divmod(n, _KEY_COLUMNS)
        style = {"marker": track_marker(track), "color": track_colour(track), "ms": 5.5, "ls": "", "clip_on": False}
        axes.plot(column + 0.06, line + 0.45, **style)
        axes.text(column + 0.16, line + 0.45, track, fontsize=8, color=_INK, va="center")


def _treatment_marks(treatments: pd.DataFrame) -> list[tuple[float, str]]:
    """Return day and words of each treatment: type, dose, lesions."""
    if treatments.empty:
        return []
    marks = []
    for (day, _), rows in treatments.groupby(["treatment_day", "treatment_id"], sort=True):
        first = rows.iloc[0]
        tracks = [t for t in rows["track_id"].map(_text) if t]
        dose, fractions = _number(first.get("dose_gy")), _number(first.get("fractions"))
        what = _text(first.get("treatment_type"))
        words = what.upper() if what in ("srs", "fsrt", "wbrt") else what.replace("_", " ")
        if np.isfinite(dose):
            words += f" {dose:g} Gy" + (f"/{fractions:.0f}" if np.isfinite(fractions) else "")
        if tracks:
            words += ": " + ", ".join(tracks[:6]) + (f" and {len(tracks) - 6} more" if len(tracks) > 6 else "")
        marks.append((float(day), words))
    return marks


def _lanes(marks: list[tuple[float, str]], span: tuple[float, float]) -> list[int]:
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
        axes.plot(day, lane + 0.5, marker="v", ms=6, color=_INK, ls="", clip_on=False)
        late = (day - low) / (high - low) + 0.02 + 0.0082 * len(words) > 1.1
        align, shift = ("right", -6) if late else ("left", 6)
        style = {"xytext": (shift, 0), "textcoords": "offset points", "ha": align, "va": "center", "fontsize": 8}
        axes.annotate(words, (day, lane + 0.5), color=_INK, annotation_clip=False, **style)
        for panel in panels:
            panel.axvline(day, color=_MUTED, lw=0.9, ls=(0, (6, 2, 1, 2)), zorder=1)


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
        "Sum of the targets' longest diameters, mm, and response", loc="left", fontsize=9.5, color=_INK, pad=34
    )
    names = [str(s) for s in session_rows.get("session_id", [])]
    rows = [r for _, r in session_rows.iterrows()]
    measured = [(days[n], _number(r.get("sum_ld_final_mm"))) for n, r in zip(names, rows, strict=True)]
    measured = [(x, y) for x, y in measured if np.isfinite(y)]
    lines = response_lines(session_rows, rano=rano)
    starts = [days[n] for n, r in zip(names, rows, strict=True) if _text(r.get("session_role")) == "baseline"]
    notes = []
    if len(lines):
        x = [days[n] for n in lines["session_id"]]
        x = [*(starts or x[:1]), *x]
        worst, best = RESPONSE_COLOURS["PD"][0], RESPONSE_COLOURS["CR"][0]
        for column, text, style in (
            ("pd_mm", _pd_words(rows, rano), {"color": worst, "ls": (0, (5, 2)), "lw": 1.2}),
            ("nadir_mm", "nadir before", {"color": _MUTED, "ls": (0, (1, 2)), "lw": 1.1}),
            ("pr_mm", f"PR: −{100 * rano['pr']:g} %\nof baseline", {"color": best, "ls": (0, (5, 2)), "lw": 1.1}),
        ):
            y = [lines[column].iloc[0], *lines[column]]
            axes.plot(x, y, drawstyle="steps-pre", zorder=2, **style)
            notes.append((y[-1], text, style["color"]))
        axes.plot(x[1:], lines["pd_mm"], marker="_", ms=11, mew=2, ls="", color=worst, zorder=3)
    if measured:
        axes.plot(*zip(*measured), color=_INK, lw=1.8, marker="o", ms=5, zorder=4, clip_on=False)
    else:
        axes.text(
            0.5, 0.45, "no sum: no target, or none evaluable", transform=axes.transAxes, ha="center", color=_MUTED
        )
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
    several = max((_number(r.get("n_targets")) for r in rows), default=0) > 1
    of = "\nin one target" if several and rano["abs_rule"] != "sum" else ""
    return f"PD: +{100 * rano['pd']:g} % of\nnadir and +{rano['pd_abs_mm']:g} mm{of}"


def _draw_response(axes, row, x: float) -> None:
    """Write a session's response above the panel, hollow where it is not confirmed, and what it does not say itself."""
    response = _text(row.get("response_overall_final"))
    if response not in RESPONSE_COLOURS:
        return
    colour, ink = RESPONSE_COLOURS[response]
    face = {"fc": _PAPER if is_unconfirmed(row) else colour, "ec": colour if is_unconfirmed(row) else "none"}
    style = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "center", "va": "bottom"}
    axes.annotate(
        RESPONSE_NAMES.get(response, response),
        (x, 1.0),
        xytext=(0, 7),
        fontsize=7.6,
        fontweight="bold",
        color=_INK if is_unconfirmed(row) else ink,
        bbox={"boxstyle": "round,pad=0.25,rounding_size=0.4", "lw": 1.2, **face},
        zorder=6,
        **style,
    )
    reasons = [r for r in _text(row.get("pd_reason")).split(";") if r]
    words = {"nontarget": "non-target", "clinical": "clinical"}
    if reasons and "target" not in reasons:
        note = ", ".join(words.get(r, r) for r in reasons)
    elif is_unconfirmed(row):
        note = "unconfirmed"
    elif pr_continues(row):
        note = "PR continues"
    else:
        return
    axes.annotate(note, (x, 1.0), xytext=(0, 20), fontsize=6.6, color=_MUTED, **style)


def _session_axis(axes, session_rows, days, dated: bool, span: tuple[float, float], *, last: bool) -> None:
    width = max(span[1] - span[0], 1)
    axes.set_xlim(span[0] - 0.03 * width, span[1] + 0.03 * width)
    for _, row in session_rows.iterrows():
        if _truth(row.get("evaluable")) is False:
            x = days[str(row["session_id"])]
            half = 0.012 * width
            axes.axvspan(x - half, x + half, color=_BAND, lw=0, zorder=0)
            axes.text(x, 0.03, "NE", transform=axes.get_xaxis_transform(), ha="center", fontsize=7, color=_MUTED)
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
        axes.set_xlabel("days from t0" if dated else "session (order only: no dates known)", color=_MUTED, fontsize=8.5)
    axes.tick_params(length=3)


def _trajectory_key(fig: Figure, height: float, unconfirmed: bool) -> None:
    """Say what solid, dashed, hollow, star, cross and grey mean, in one line at the top right."""
    axes = fig.add_axes((0.2, 1 - 0.38 / height, 0.785, 0.34 / height))
    axes.set_axis_off()
    axes.set_xlim(0, 114)
    axes.set_ylim(-1, 1)
    items = [
        (lambda x: axes.plot([x, x + 3.5], [0, 0], color=_MUTED, lw=1.8), 3.5, "target", 13.5),
        (lambda x: axes.plot([x, x + 3.5], [0, 0], color=_MUTED, lw=1.3, ls=(0, (4, 2))), 3.5, "non-target", 17),
        (lambda x: axes.plot(x + 1, 0, marker="*", ms=10, color=_MUTED, mec=_PAPER, mew=0.5), 2, "new", 10),
        (lambda x: axes.plot(x + 1, 0, marker="o", ms=5.5, mfc=_PAPER, mec=_MUTED, mew=1.3), 2, "not detected", 17),
        (lambda x: axes.plot(x + 1, 0, marker="x", ms=6, mew=1.4, color=_MUTED), 2, "merged", 13),
        (lambda x: axes.add_patch(Rectangle((x, -0.5), 2, 1, color=_BAND, lw=0)), 2, "not evaluable (NE)", 22),
    ]
    if unconfirmed:
        box = {"fc": _PAPER, "ec": _MUTED, "lw": 1.1}
        items.append((lambda x: axes.add_patch(Rectangle((x, -0.5), 2.4, 1, **box)), 2.4, "not confirmed", 17))
    x = 114 - sum(i[3] for i in items)
    for draw, size, text, step in items:
        draw(x)
        axes.text(x + size + 1, 0, text, fontsize=8, color=_MUTED, va="center")
        x += step


def _draw_waterfall(axes, rows, y, pr_fraction, pd_fraction) -> None:
    axes.set_title("Best change of the sum, %", loc="left", fontsize=9.5, color=_INK, pad=6)
    for n, (_, row) in zip(y, rows.iterrows(), strict=True):
        change, best = row["_change"], _text(row.get("best_response"))
        if not np.isfinite(change):
            axes.text(2, n, "n/a", fontsize=7, va="center", color=_MUTED)
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
            color=RESPONSE_COLOURS.get(best, RESPONSE_COLOURS["NE"])[1] if inside else _MUTED,
            zorder=4,
        )
    # +20 % from baseline alone is no progression: that counts from the nadir, and wants millimetres, too.
    for x, colour in ((-100 * pr_fraction, RESPONSE_COLOURS["CR"][0]), (100 * pd_fraction, _MUTED)):
        axes.axvline(x, color=colour, lw=0.9, ls=(0, (4, 2)), zorder=2)
    axes.axvline(0, color=_MUTED, lw=0.8, zorder=4)
    axes.set_xlim(-104, 118)
    axes.set_xticks([-100, -50, 0, 50, 100])
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _draw_swimmer(axes, rows, session_rows, names, y) -> None:
    axes.set_title("Response at each session", loc="left", fontsize=9.5, color=_INK, pad=6)
    for n, name in zip(y, names, strict=True):
        own = session_rows[session_rows["participant_id"] == name] if len(session_rows) else session_rows
        days, dated = _session_days(own)
        if not days:
            axes.text(0, n, "no session", fontsize=7, va="center", color=_MUTED)
            continue
        spots = list(days.values())
        if dated:
            _draw_fate(axes, rows.iloc[n], n, max(spots))
        axes.plot([min(spots), max(spots)], [n, n], color=_GRID, lw=5, solid_capstyle="round", zorder=1)
        for (_, row), x in zip(own.iterrows(), spots, strict=True):
            response = _text(row.get("response_overall_final"))
            kind = _text(row.get("session_role"))
            if kind not in ("baseline", "prebaseline"):
                kind = response if _truth(row.get("evaluable")) is not False and response else "NE"
            axes.plot(x, n, zorder=3, **_session_marker(kind, hollow=is_unconfirmed(row)))
            if _text(row.get("new_lesion")) in ("definite", "equivocal"):
                axes.plot(x, n, marker="*", ms=4, color=_PAPER, mew=0, ls="", zorder=4)
        progression = _number(rows.iloc[n].get("progression_day"))
        if dated and np.isfinite(progression):
            axes.plot([progression] * 2, [n - 0.42, n + 0.42], color=RESPONSE_COLOURS["PD"][0], lw=1.3, zorder=2)
    axes.set_xlabel("days from t0 (order of sessions where no dates are known)", color=_MUTED, fontsize=8.5)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0, labelleft=False)
    axes.spines["left"].set_visible(False)


def _draw_fate(axes, patient, y: float, last_session: float) -> None:
    """Draw how long the patient was known to live after the last session, and death."""
    death, contact = (_number(patient.get(c)) for c in ("death_day", "last_contact_day"))
    end = death if np.isfinite(death) else contact
    if end > last_session:
        axes.plot([last_session, end], [y, y], color=_MUTED, lw=1, zorder=1)
    if np.isfinite(death):
        axes.plot(death, y, zorder=3, **_FATE["death"])
    elif contact > last_session:
        axes.plot(contact, y, zorder=3, **_FATE["last contact"])


_FATE = {
    "death": {"marker": "X", "ms": 7.5, "mfc": _INK, "mec": _PAPER, "mew": 0.6, "ls": ""},
    "last contact": {"marker": ">", "ms": 5, "mfc": _PAPER, "mec": _MUTED, "mew": 1, "ls": ""},
}


def _session_marker(kind: str, *, hollow: bool = False) -> dict:
    """How a session looks on the swimmer: squares are progression, grey and hollow is not evaluable.

    A hollow one in colour is a response that was not confirmed.
    """
    if kind in ("baseline", "prebaseline"):
        first = kind == "baseline"
        return {"marker": "|", "ms": 9 if first else 6, "mew": 2 if first else 1, "color": _INK if first else _MUTED}
    if kind == "NE":
        return {"marker": "o", "ms": 6, "mfc": _PAPER, "mec": _MUTED, "mew": 1, "ls": ""}
    colour = RESPONSE_COLOURS.get(kind, RESPONSE_COLOURS["NE"])[0]
    return {
        "marker": "s" if kind in ("PD", "uPD") else "o",
        "ms": 6.5,
        "mfc": _PAPER if hollow else colour,
        "mec": colour if hollow else _PAPER,
        "mew": 1.6 if hollow else 0.6,
        "ls": "",
    }


def _response_key(fig: Figure, height: float, patient_rows, session_rows) -> None:
    axes = fig.add_axes((0.115, 1 - 0.36 / height, 0.875, 0.28 / height))
    axes.set_axis_off()
    axes.set_ylim(-1, 1)
    seen = {_text(v) for v in session_rows.get("response_overall_final", [])}
    kinds = ["baseline", *(r for r in RESPONSE_COLOURS if r in seen or r in ("CR", "PR", "SD", "PD", "NE"))]
    items = [(RESPONSE_NAMES.get(kind, kind), _session_marker(kind)) for kind in kinds]
    if any(is_unconfirmed(r) for _, r in session_rows.iterrows()):
        items.append(("not confirmed", _session_marker("PR", hollow=True)))
    if any(_number(v) > -np.inf for v in patient_rows.get("progression_day", [])):
        items.append(("progression dated", {"marker": "|", "ms": 10, "mew": 1.3, "color": RESPONSE_COLOURS["PD"][0]}))
    if {_text(v) for v in session_rows.get("new_lesion", [])} & {"definite", "equivocal"}:
        items.append(("new lesion", {"marker": "*", "ms": 6, "mfc": _PAPER, "mec": _MUTED, "mew": 0.7, "ls": ""}))
    for name, column in (("death", "death_day"), ("last contact", "last_contact_day")):
        if any(np.isfinite(_number(v)) for v in patient_rows.get(column, [])):
            items.append((name, _FATE[name]))
    x = 0.0
    for name, style in items:
        axes.plot(x + 1, 0, **style)
        axes.text(x + 2.6, 0, name, fontsize=7.8, va="center", color=_MUTED)
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
    with mpl.rc_context(_STYLE):
        fig = Figure(figsize=(10.4, 3.9))
        FigureCanvasAgg(fig)
        axes = fig.add_axes((0.065, 0.26, 0.9, 0.64))
        axes.set_title("Local failure of treated lesions, cumulative incidence, %", loc="left", fontsize=9.5, pad=6)
        if curve.empty:
            axes.text(0.5, 0.5, "no treated lesion", transform=axes.transAxes, ha="center", color=_MUTED)
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
        axes.set_xlabel("days from treatment", color=_MUTED, fontsize=8.5)
        ticks = [t for t in axes.get_xticks() if 0 <= t <= axes.get_xlim()[1]]
        axes.set_xticks(ticks)
        at_risk = np.asarray(curve["n_at_risk"], float)
        below = {"transform": axes.get_xaxis_transform(), "fontsize": 8, "va": "center", "clip_on": False}
        axes.text(0, -0.27, "Lesions at risk", color=_MUTED, ha="left", **below)
        for tick in ticks:
            number = at_risk[day >= tick]
            axes.text(tick, -0.36, f"{number[0] if len(number) else 0:.0f}", color=_INK, ha="center", **below)
        _save_chart(fig, path)


def _save_chart(fig: Figure, path: str | Path) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".svg":
        fig.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        path.write_text(_follow_theme(path.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        fig.savefig(path, dpi=_PIXELS_PER_INCH, facecolor=_PAPER, metadata={"Software": None})


def _follow_theme(svg: str) -> str:
    """Give an SVG dark colours on dark screens, and the reader's own fonts."""
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark} !important}}'
        for light, dark in _DARK.items()
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
    svg = re.sub(r"(?:'DejaVu Sans'|DejaVu Sans)(?:, *[^;\"]*)?", _FONTS.replace("'", "&apos;"), svg)
    return re.sub(r"(<svg[^>]*>)", rf"\1{style}", svg, count=1)


# ---------------------------------------------------------------------------------------------------- cells of tables


def _number(value) -> float:
    """Read a cell as a number; n/a, empty and missing are NaN."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _text(value) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA:
        return ""
    text = str(value)
    return "" if text in ("n/a", "nan", "<NA>") else text


def _truth(value) -> bool | None:
    return {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}.get(_text(value).lower())


def _label_number(track_id) -> int:
    number = re.search(r"\d+", str(track_id))
    return int(number.group()) if number else -1


def _row_name(row) -> str:
    """Lesion of a row; the small tables beside label maps call it ``name``."""
    return str(row["track_id"] if "track_id" in row else row["name"])


def _track_name(row, number: int) -> str:
    return _row_name(row) if row is not None else f"L{number:03d}"


def _smallest_before(earlier_rows: pd.DataFrame) -> dict[str, float]:
    """Return each track's smallest longest diameter in earlier sessions, mm, where it was present."""
    smallest: dict[str, float] = {}
    for _, row in earlier_rows.iterrows():
        size = _number(row.get("ld_mm"))
        if _text(row.get("status")) == "present" and np.isfinite(size):
            name = _row_name(row)
            smallest[name] = min(size, smallest.get(name, np.inf))
    return smallest


def _growth_mm(row, smallest: dict[str, float]) -> float:
    return _number(row.get("ld_mm")) - smallest.get(_row_name(row), np.nan)


def _review_flags(row) -> list[str]:
    given = _text(row.get("flags")).split(";")
    return [flag for flag in REVIEW_FLAGS if flag in given]


def _prominence(row, count: int, number: int, smallest: dict[str, float]):
    """Order of drawing: new, grown, with a remark, targets, others; the largest first."""
    if row is None:
        return (4, 0.0, -int(count), number)
    size = _number(row.get("ld_mm"))
    grown = _growth_mm(row, smallest) >= _GROWN * smallest.get(_row_name(row), np.inf)
    first = (
        _text(row.get("event")) in ("new", "reappeared"),
        grown,
        bool(_review_flags(row)) or _text(row.get("confidence")) == "candidate",
        _text(row.get("role")) == "target",
    )
    rank = first.index(True) if any(first) else len(first)
    return (rank, -(size if np.isfinite(size) else 0.0), -int(count), number)


def _plural(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


__all__ = [
    "FIRST_LESIONS",
    "RESPONSE_COLOURS",
    "RESPONSE_NAMES",
    "REVIEW_FLAGS",
    "TRACK_COLOURS",
    "TRACK_MARKERS",
    "draw_brain_mask",
    "draw_cohort",
    "draw_incidence",
    "draw_registration",
    "draw_session",
    "draw_trajectories",
    "is_unconfirmed",
    "pr_continues",
    "response_lines",
    "track_colour",
    "track_marker",
]
