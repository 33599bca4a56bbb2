"""Pictures of the lesions of a session, each on the axial slice of its longest diameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mettrail.colours import CAVITY_COLOUR, EDEMA_COLOUR, NECROSIS_COLOUR, track_colour
from mettrail.images import CAVITY, EDEMA, NECROSIS, Image, require_same_grid
from mettrail.report.figures import (
    FIRST_LESIONS,
    find_smallest_before,
    growth_since_smallest_mm,
    label_number,
    prominence_of,
    review_flags_of,
    row_label,
    track_label,
)
from mettrail.report.scans.canvas import (
    DASH_DOTTED,
    DASHED,
    DOTTED,
    WORDS,
    Box,
    casing,
    draw_scale_bar,
    limit,
    make_lesion_palette,
    make_screen,
    outline,
    place_panel,
    save_png,
    show_slice,
    write_note,
    write_sides,
    write_title,
)
from mettrail.report.scans.view import Spacing, View, mask_on, window_of
from mettrail.report.text import Record, plural_of, records_of, show_candidate, show_volume
from mettrail.schema.cells import number_of, text_of
from mettrail.tracking.axial import ENDPOINTS

_ZOOM_MIN_MM = 36
# Where slices of a head without a lesion lie, as shares of the brain from below.
_LEVELS = (0.35, 0.5, 0.65, 0.8)
# Height of a line below the pictures, inches.
_NOTE = 0.17


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

    New lesions come first, then those that grew by 20 % from their smallest, then those with a flag that requires
    review, then targets; of each the largest first. None is excluded.

    Parameters
    ----------
    reference : Image
        The scan the lesions were measured on, its own grid.
    lesions : Image
        Persistent lesion IDs on the same grid; 0 is background.
    tissue : Image
        Tissue labels on the same grid: edema and necrosis are outlined, too.
    brain : Image or None
        Brain mask, on any grid; frames the picture and sets its grey values.
    path, more_path : path
        PNG to write: the first `n_first` lesions, large; all others, small. Without others the second one says so.
    lesion_rows : DataFrame
        This session's lesions; columns of the lesion table; what it lacks is not shown. May be empty.
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
    view = View.of(reference)
    inside = None if brain is None else view.turn(mask_on(brain, reference))
    rows = {label_number(row_label(row)): row for row in records_of(lesion_rows)}
    labels = view.turn(lesions.data)
    smallest = find_smallest_before(earlier_rows)
    scene = _Scene(view, labels, view.turn(tissue.data), inside, window_of(view.data, inside), rows, smallest)
    order = drawing_order(labels, rows, smallest)
    shown, others = order[:n_first], order[n_first:]
    notes = [] if shown else ["no lesion outlined in this session"]
    if others:
        notes.append(f"{plural_of(len(others), 'more lesion')} on the next picture")
    absent = [row_label(row) for row in rows.values() if text_of(row, "status") == "absent"]
    if absent:
        notes.append(f"no longer detected: {', '.join(absent[:12])}{' …' if len(absent) > 12 else ''}")
    _draw_sheet(scene, shown, path, title=title, notes=notes, columns=3, cell=2.15)
    notes = [] if others else ["all lesions are on the first picture"]
    _draw_sheet(scene, others, more_path, title=f"{title}, remaining lesions", notes=notes, columns=4, cell=1.55)


def drawing_order(labels: np.ndarray, rows: Mapping[int, Record], smallest: dict[str, float]) -> list[int]:
    """Return the numbers of all lesions in the order in which they are drawn, see `figures.prominence_of`.

    Parameters
    ----------
    labels : (X, Y, Z) array of int
        One number per lesion; 0 is background.
    rows : mapping of int to mapping
        Row of the lesion table, by number.
    smallest : dict of str to float
        Smallest longest diameter before, mm, by lesion (`figures.find_smallest_before`).
    """
    numbers, counts = np.unique(labels[labels > 0], return_counts=True)
    count_of = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    return sorted(count_of, key=lambda n: prominence_of(rows.get(n), count_of[n], n, smallest))


@dataclass(frozen=True)
class _Scene:
    """What the pictures of a session are drawn from, turned for the screen."""

    view: View
    labels: np.ndarray
    tissue: np.ndarray
    inside: np.ndarray | None
    window: tuple[float, float]
    rows: Mapping[int, Record]
    smallest: dict[str, float]


def _draw_sheet(
    scene: _Scene,
    shown: Sequence[int],
    path: str | Path,
    *,
    title: str,
    notes: Sequence[str],
    columns: int,
    cell: float,
) -> None:
    """Draw some lesions side by side, or four slices of the head where there is none; sizes in inches."""
    columns = max(1, min(columns, len(shown))) if shown else 2
    lines = max(1, -(-len(shown) // columns))
    notes = [*notes, "radiological: the patient's right (R) is on the left"]
    notes = ["   ·   ".join(notes)] if columns > 1 else notes
    text, gap, head = 0.46, 0.14, 0.42
    across = columns * (2 * cell + gap) + gap
    key = _lay_out_key(across - 2 * gap, cavity=bool((scene.tissue == CAVITY).any())) if shown else []
    foot = 0.29 + _NOTE * (len(notes) - 1 + len(key))
    height = head + lines * (cell + text) + foot
    fig = make_screen((across, height))
    write_title(fig, title, left=gap, down=0.24)
    frame = _frame(scene)
    if not shown:
        _draw_levels(fig, scene, frame, foot + 0.2, cell)
    for order, number in enumerate(shown):
        line, column = divmod(order, columns)
        x, top = gap + column * (2 * cell + gap), height - head - line * (cell + text)
        whole, near = (place_panel(fig, left, top - text - cell, cell, cell) for left in (x, x + cell))
        _draw_lesion(whole, near, scene, number, frame)
        _write_caption(fig, scene, number, x, top, facts_size=8.4 if cell > 2 else 7)
    for n, note in enumerate(reversed(notes)):
        write_note(fig, note, left=gap, bottom=0.13 + _NOTE * n)
    _draw_key(fig, gap, 0.13 + _NOTE * len(notes) + 0.03, key)
    save_png(fig, path, palette=make_lesion_palette())


def _draw_lesion(whole: Axes, near: Axes, scene: _Scene, number: int, frame: Box) -> None:
    """Draw the slice of a lesion twice: as a whole, and what is near the lesion with its longest diameter."""
    view, row, mask = scene.view, scene.rows.get(number), scene.labels == number
    k = slice_of(row, mask, view)
    box = _near(mask[:, :, k], view.in_plane_mm)
    _draw_outlines(whole, scene, number, k, frame)
    _draw_outlines(near, scene, number, k, box)
    edges: dict[str, Any] = {"fill": False, "ec": "white", "lw": 0.7, "alpha": 0.75}
    whole.add_patch(Rectangle((box[0], box[2]), box[1] - box[0], box[3] - box[2], **edges))
    _draw_chord(near, row, view)
    write_sides(whole)
    draw_scale_bar(near, box)


def _draw_outlines(axes: Axes, scene: _Scene, number: int, k: int, box: Box) -> None:
    """Show an axial slice with the outlines of its lesions, of all other tissue; other lesions have names."""
    spacing = scene.view.in_plane_mm
    show_slice(axes, scene.view.data[:, :, k], spacing, scene.window)
    labels, tissue = scene.labels[:, :, k], scene.tissue[:, :, k]
    outline(axes, tissue == EDEMA, spacing, EDEMA_COLOUR, 0.9, dashes=DASHED)
    outline(axes, tissue == CAVITY, spacing, CAVITY_COLOUR, 0.9, dashes=DASH_DOTTED)
    for other in np.unique(labels[labels > 0]).tolist():
        name = track_label(scene.rows.get(other), other)
        mask = labels == other
        outline(axes, mask, spacing, track_colour(name), 1.5 if other == number else 1.0)
        outline(axes, mask & (tissue == NECROSIS), spacing, NECROSIS_COLOUR, 0.8, dashes=DOTTED)
        if other != number:
            where = np.argwhere(mask) * np.array(spacing)
            x, y = where[:, 0].max(), where[:, 1].mean()
            if box[0] < x < box[1] and box[2] < y < box[3]:
                style: dict[str, Any] = {"color": "white", "fontsize": 6, "va": "center", "path_effects": casing(1.6)}
                axes.annotate(name, (x, y), xytext=(2.5, 0), textcoords="offset points", clip_on=True, **style)
    limit(axes, box)


def _draw_chord(axes: Axes, row: Record | None, view: View) -> None:
    """Draw the longest diameter where the table has its endpoints."""
    ends = np.reshape([number_of(row or {}, name) for name in ENDPOINTS], (2, 3))
    if not np.isfinite(ends).all():
        return
    (x0, y0, _), (x1, y1, _) = (view.place(end) for end in ends)
    style: dict[str, Any] = {"color": "white", "lw": 1.2, "marker": "o", "ms": 2.6, "solid_capstyle": "butt"}
    axes.plot([x0, x1], [y0, y1], path_effects=casing(3), **style)


def slice_of(row: Record | None, mask: np.ndarray, view: View) -> int:
    """Return the axial slice of the longest diameter, or the fullest one where the table does not say.

    Parameters
    ----------
    row : mapping or None
        Row of the lesion table: ``ld_slice`` counts as the file does.
    mask : (X, Y, Z) array of bool
        The lesion, turned.
    view : View
    """
    index = np.nan if row is None else number_of(row, "ld_slice")
    if np.isfinite(index) and 0 <= index < mask.shape[2] and mask[:, :, view.axial(int(index))].any():
        return view.axial(int(index))
    return int(np.argmax(mask.sum(axis=(0, 1))))


def _draw_levels(fig: Figure, scene: _Scene, frame: Box, bottom: float, cell: float) -> None:
    """Draw some axial slices without a lesion."""
    view, inside = scene.view, scene.inside
    levels = np.arange(view.data.shape[2])
    if inside is not None and inside.any():
        levels = np.flatnonzero(inside.any(axis=(0, 1)))
    for n, share in enumerate(_LEVELS):
        axes = place_panel(fig, 0.14 + n * cell, bottom, cell, cell)
        show_slice(axes, view.data[:, :, levels[int(share * (len(levels) - 1))]], view.in_plane_mm, scene.window)
        limit(axes, frame)
        write_sides(axes)


def _frame(scene: _Scene) -> Box:
    """Return the square around the brain, or around the whole scan."""
    nx, ny = scene.view.data.shape[:2]
    low, high = np.zeros(2), np.array([nx - 1, ny - 1], float)
    if scene.inside is not None and scene.inside.any():
        where = np.argwhere(scene.inside.any(axis=2))
        low, high = where.min(0), where.max(0)
    spacing = np.array(scene.view.in_plane_mm)
    return _square(low * spacing - 6, high * spacing + 6)


def _near(mask: np.ndarray, spacing_mm: Spacing) -> Box:
    """Return the square around a lesion on its slice."""
    where = np.argwhere(mask) * np.array(spacing_mm)
    return _square(where.min(0), where.max(0), margin=2.2, at_least=_ZOOM_MIN_MM)


def _square(low: np.ndarray, high: np.ndarray, *, margin: float = 1, at_least: float = 0) -> Box:
    """Return the square around two corners, its side at least so many mm."""
    centre = (low + high) / 2
    half = max(at_least, margin * (high - low).max()) / 2
    return centre[0] - half, centre[0] + half, centre[1] - half, centre[1] + half


def _write_caption(fig: Figure, scene: _Scene, number: int, x: float, top: float, *, facts_size: float) -> None:
    """Write the ID of a lesion and its facts above its panels; inches from the bottom left."""
    row = scene.rows.get(number)
    name = track_label(row, number)
    facts = "not in the table" if row is None else " · ".join(_facts_of(row, scene.smallest))
    across, up = fig.get_size_inches()
    bold: dict[str, Any] = {"fontsize": 10.5, "fontweight": "bold", "va": "center"}
    fig.text(x / across, (top - 0.16) / up, name, color=track_colour(name), **bold)
    fig.text(x / across, (top - 0.34) / up, facts, color="#c9cfd8", fontsize=facts_size, va="center")


def _facts_of(row: Record, smallest: dict[str, float]) -> list[str]:
    """Return what is to be said of a lesion: size, growth, role, event, what requires review."""
    facts, size = [], number_of(row, "ld_mm")
    if np.isfinite(size):
        facts.append(f"{size:.1f} mm")
    # Tables between stages have mm3, final ones mL.
    volume = number_of(row, "vol_wl_ml") if "vol_wl_ml" in row else number_of(row, "vol_wl_mm3") / 1000
    if np.isfinite(volume):
        facts.append(show_volume(volume))
    growth = growth_since_smallest_mm(row, smallest)
    if growth >= 0.05:
        facts.append(f"+{growth:.1f} mm from its smallest")
    role, event = text_of(row, "role"), text_of(row, "event")
    facts.append(role.replace("nontarget", "non-target").replace("candidate", ""))
    if event not in ("", "persist", "baseline", role):
        facts.append(event.replace("_", " "))
    candidate = show_candidate(row)
    if candidate:
        facts.append(f"{candidate}, requires review")
    facts += [flag.replace("_", " ") for flag in review_flags_of(row)]
    return [fact for fact in facts if fact]


def _lay_out_key(width: float, *, cavity: bool) -> list[list[tuple[str, float, dict[str, Any]]]]:
    """Return what the lines on the pictures of lesions are, in rows of so many inches: name, place, style."""
    styles: dict[str, dict[str, Any]] = {
        "lesion, its colour": {"color": track_colour("L001"), "lw": 1.5},
        "edema": {"color": EDEMA_COLOUR, "lw": 0.9, "ls": DASHED},
        "necrosis": {"color": NECROSIS_COLOUR, "lw": 0.8, "ls": DOTTED},
        "longest diameter": {"color": "white", "lw": 1.2, "marker": "o", "ms": 2.6},
    }
    if cavity:
        styles["resection cavity"] = {"color": CAVITY_COLOUR, "lw": 0.9, "ls": DASH_DOTTED}
    rows: list[list[tuple[str, float, dict[str, Any]]]] = [[]]
    x = 0.0
    for name, style in styles.items():
        length = 0.55 + 0.056 * len(name)
        if x + length > width:
            rows.append([])
            x = 0.0
        rows[-1].append((name, x, style))
        x += length
    return rows


def _draw_key(
    fig: Figure, left: float, bottom: float, rows: Sequence[Sequence[tuple[str, float, dict[str, Any]]]]
) -> None:
    """Draw the rows of the key, the last one `bottom` inches from below."""
    across, up = fig.get_size_inches()
    for n, row in enumerate(reversed(rows)):
        axes = fig.add_axes((left / across, (bottom - 0.08 + _NOTE * n) / up, 1 - left / across, 0.16 / up))
        axes.set_axis_off()
        axes.set_xlim(0, across - left)
        axes.set_ylim(-1, 1)
        for name, x, style in row:
            axes.plot([x, x + 0.28], [0, 0], **style)
            axes.text(x + 0.35, 0, name, color=WORDS, fontsize=7.8, va="center")
