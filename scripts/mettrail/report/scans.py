"""Pictures of scans: lesions, brain masks and registration on slices.

They are in radiological convention (the patient's right is on the left of the picture) and say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image as Pixels
from scipy import ndimage

from mettrail.images import EDEMA, NECROSIS, Image, require_same_grid, resample
from mettrail.report.figures import (
    EDEMA_COLOUR,
    FIRST_LESIONS,
    NECROSIS_COLOUR,
    PIXELS_PER_INCH,
    SCREEN,
    TRACK_COLOURS,
    find_smallest_before,
    growth_since_smallest_mm,
    label_number,
    prominence_of,
    review_flags_of,
    row_label,
    track_colour,
    track_label,
)
from mettrail.report.text import plural_of, show_volume
from mettrail.schema.cells import number_of, text_of
from mettrail.tracking.axial import ENDPOINTS

_ZOOM_MIN_MM = 36


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
        Persistent lesion IDs on the same grid; 0 is background.
    tissue : Image
        Tissue labels on the same grid: edema and necrosis are outlined, too.
    brain : Image or None
        Brain mask, on any grid; frames the picture and sets its grey values where given.
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
    rows = {label_number(row_label(r)): r for _, r in lesion_rows.iterrows()}
    labels = view.turn(lesions.data)
    smallest = find_smallest_before(earlier_rows)
    scene = _Scene(view, labels, view.turn(tissue.data), inside, _window(view.data, inside), rows, smallest)
    order = drawing_order(labels, rows, smallest)
    shown, others = order[:n_first], order[n_first:]
    notes = [] if shown else ["no lesion outlined in this session"]
    if others:
        notes.append(f"{plural_of(len(others), 'more lesion')} on the next picture")
    absent = [row_label(r) for r in rows.values() if text_of(r, "status") == "absent"]
    if absent:
        notes.append(f"no longer detected: {', '.join(absent[:12])}{' …' if len(absent) > 12 else ''}")
    _draw_sheet(scene, shown, path, title=title, notes=notes, columns=3, cell=2.15)
    notes = [] if others else ["all lesions are on the first picture"]
    _draw_sheet(scene, others, more_path, title=f"{title}, remaining lesions", notes=notes, columns=4, cell=1.55)


def drawing_order(labels: np.ndarray, rows: Mapping[int, pd.Series], smallest: dict[str, float]) -> list[int]:
    """Return the numbers of all lesions in the order in which they are drawn, see `figures.prominence_of`.

    Parameters
    ----------
    labels : (X, Y, Z) array of int
        One number per lesion; 0 is background.
    rows : mapping of int to Series
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
        k = slice_of(row, scene.labels == number, view)
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
        colour = track_colour(track_label(row, number))
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
    _outline(axes, tissue == EDEMA, spacing, EDEMA_COLOUR, 0.9, dashes=(0, (4, 2)))
    for other in np.unique(labels[labels > 0]).tolist():
        name = track_label(scene.rows.get(other), other)
        mask = labels == other
        _outline(axes, mask, spacing, track_colour(name), 1.5 if other == number else 1.0)
        _outline(axes, mask & (tissue == NECROSIS), spacing, NECROSIS_COLOUR, 0.8, dashes=(0, (1, 1.4)))
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
        ("edema", {"color": EDEMA_COLOUR, "lw": 0.9, "ls": (0, (4, 2))}),
        ("necrosis", {"color": NECROSIS_COLOUR, "lw": 0.8, "ls": (0, (1, 1.4))}),
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
    view = View.of(reference)
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
    view = View.of(fixed)
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


# ---------------------------------------------------------------------------------------------------- the head


@dataclass(frozen=True)
class View:
    """A scan turned for the screen: axis 0 from the patient's right to left, 1 front to back, 2 feet to head.

    Axes are only reordered and reversed, never resampled, so that outlines lie on the voxels that were measured.
    """

    data: np.ndarray
    spacing_mm: tuple[float, float, float]
    affine: np.ndarray
    order: tuple[int, int, int]
    reversed_: tuple[bool, bool, bool]

    @classmethod
    def of(cls, image: Image) -> View:
        """Turn a scan."""
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


def mask_on(mask: Image, reference: Image) -> np.ndarray:
    """Return a mask of any grid on the grid of a scan."""
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
    fig = Figure(figsize=size, dpi=PIXELS_PER_INCH, facecolor=SCREEN)
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
    axes.set_facecolor(SCREEN)
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


def _frame(view: View, inside: np.ndarray | None) -> tuple[float, float, float, float]:
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


def _draw_chord(axes, row, view: View) -> None:
    """Draw the longest diameter where the table knows its ends."""
    ends = (
        np.reshape([number_of(row, name) for name in ENDPOINTS], (2, 3)) if row is not None else np.full((2, 3), np.nan)
    )
    if not np.isfinite(ends).all():
        return
    (x0, y0, _), (x1, y1, _) = (view.place(e) for e in ends)
    style = {"color": "white", "lw": 1.2, "marker": "o", "ms": 2.6, "solid_capstyle": "butt"}
    axes.plot([x0, x1], [y0, y1], path_effects=_casing(3), **style)


def slice_of(row, mask: np.ndarray, view: View) -> int:
    """Axial slice of the longest diameter, or the fullest one where the table does not say."""
    index = number_of(row, "ld_slice") if row is not None else np.nan
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
    name = track_label(row, number)
    if row is None:
        return name, "not in the table"
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
    facts.append(text_of(row, "role").replace("nontarget", "non-target").replace("candidate", ""))
    if text_of(row, "event") not in ("", "persist", "baseline", text_of(row, "role")):
        facts.append(text_of(row, "event").replace("_", " "))
    if text_of(row, "certainty") == "candidate":
        facts.append("candidate, requires review")
    facts += [flag.replace("_", " ") for flag in review_flags_of(row)]
    return name, " · ".join(f for f in facts if f)


def _plane_strip(view: View, inside: np.ndarray, title: str, *, rows: int, slices: tuple[float, float]):
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
    colours = [np.array(mpl.colors.to_rgb(c)) * 255 for c in (*TRACK_COLOURS, EDEMA_COLOUR)]
    shades = [tuple(np.round(c * share).astype(int)) for c in colours for share in (1, 0.85, 0.7, 0.55, 0.42, 0.3, 0.2)]
    palette = Pixels.new("P", (1, 1))
    palette.putpalette([int(v) for colour in (*greys, *shades) for v in colour])
    return palette
