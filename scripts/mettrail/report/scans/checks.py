"""Pictures that show whether the brain mask and the registration of a session are right."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import ndimage

from mettrail.colours import PRIOR_COLOUR
from mettrail.images import Image, require_same_grid
from mettrail.report.scans.canvas import (
    Box,
    limit,
    make_screen,
    outline,
    place_panel,
    save_png,
    show_slice,
    write_note,
    write_sides,
    write_title,
)
from mettrail.report.scans.view import Spacing, View, window_of

# Axes of each plane after turning, across and downwards, and the one that it is a slice of.
_PLANES = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
_MARGIN_MM = 8
# Of the picture, and of what is on it.
_WIDTH_INCHES, _INNER_INCHES = 12.8, 12.6
_HEAD_INCHES, _FOOT_INCHES = 0.42, 0.3
_CONVENTION = "radiological convention: the patient's right (R) is on the left; sagittal: front on the left"


class _Panel(NamedTuple):
    """Where a slice is drawn, and which."""

    axes: Axes
    plane: str
    slice_: int


def draw_brain_mask(reference: Image, mask: Image, path: str | Path, *, title: str) -> None:
    """Draw the outline of the brain mask on the scan, two slices in each plane.

    Parameters
    ----------
    reference, mask : Image
        Scan and mask on one grid. An empty mask is drawn as such.
    path : path
        PNG to write.
    title : str

    Raises
    ------
    GridMismatchError
        Scan and mask are not on one grid.
    """
    require_same_grid(reference, mask)
    view = View.of(reference)
    inside = view.turn(mask.data) > 0
    window = window_of(view.data)
    fig, (panels,) = _lay_out(view, inside, title, rows=1, shares=(0.38, 0.64))
    for panel in panels:
        _show(panel, view, view.data, window)
        border, spacing = view.plane(inside, panel.plane, panel.slice_)
        outline(panel.axes, border, spacing, "#ffd447", 1.1)
    save_png(fig, path)


def draw_registration(fixed: Image, moved: Image | None, path: str | Path, *, title: str) -> None:
    """Draw how two scans match: checkerboard above, edges of the moved on the fixed scan below.

    Parameters
    ----------
    fixed : Image
    moved : Image or None
        Already resampled onto the grid of `fixed`. None: there is no prior session, and the picture says so.
    path : path
        PNG to write.
    title : str

    Raises
    ------
    GridMismatchError
        The scans are not on one grid.
    """
    view = View.of(fixed)
    window = window_of(view.data)
    shares = (0.45, 0.62)
    if moved is None:
        inside = view.data > window[0]
        fig, (panels,) = _lay_out(view, inside, f"{title}: no earlier scan to lay on it", rows=1, shares=shares)
        for panel in panels:
            _show(panel, view, view.data, window)
        save_png(fig, path)
        return
    require_same_grid(fixed, moved)
    other = view.turn(moved.data).astype(np.float32)
    other_window = window_of(other)
    inside = view.data > window[0] + 0.1 * (window[1] - window[0])
    fig, (boards, edges) = _lay_out(view, inside, title, rows=2, shares=shares)
    for board, below in zip(boards, edges, strict=True):
        image, spacing = view.plane(view.data, board.plane, board.slice_)
        second, _ = view.plane(other, board.plane, board.slice_)
        fields = _checker(_scaled(image, window), _scaled(second, other_window), spacing)
        show_slice(board.axes, fields, spacing, (0, 1))
        _show(below, view, view.data, window)
        _draw_edges(below.axes, second, spacing)
        if board.plane != "sagittal":
            write_sides(board.axes)
    save_png(fig, path)


def _lay_out(
    view: View, inside: np.ndarray, title: str, *, rows: int, shares: tuple[float, float]
) -> tuple[Figure, list[list[_Panel]]]:
    """Lay out slices in three planes, all at one scale; return the figure and the panels by row.

    The slices lie at these shares of what is inside, from its first slice to its last.
    """
    bounds = [_bounds(inside, axis) for axis in range(3)]
    shown = [(plane, share) for plane in _PLANES for share in shares]
    extents = {plane: _extent(view, bounds, plane) for plane in _PLANES}
    widths = [extents[plane][1] - extents[plane][0] for plane, _ in shown]
    tall = max(extents[plane][3] - extents[plane][2] for plane in _PLANES)
    inch_per_mm = _INNER_INCHES / (sum(widths) + 4 * len(widths))
    height = tall * inch_per_mm
    fig = make_screen((_WIDTH_INCHES, _HEAD_INCHES + _FOOT_INCHES + rows * (height + 0.05)))
    write_title(fig, title, left=0.1, down=0.27)
    write_note(fig, _CONVENTION, left=0.1, bottom=0.13)
    panels = []
    for row in range(rows):
        left, line = 0.1, []
        for (plane, share), width in zip(shown, widths, strict=True):
            bottom = _FOOT_INCHES + (rows - 1 - row) * (height + 0.05)
            axes = place_panel(fig, left, bottom, width * inch_per_mm, height)
            low, high = bounds[_PLANES[plane][2]]
            line.append(_Panel(axes, plane, round(low + share * (high - low))))
            x0, x1, y0, y1 = extents[plane]
            middle = (y0 + y1) / 2
            limit(axes, (x0, x1, middle - tall / 2, middle + tall / 2))
            left += width * inch_per_mm + 4 * inch_per_mm
        panels.append(line)
    return fig, panels


def _bounds(inside: np.ndarray, axis: int) -> tuple[int, int]:
    """Return the first and the last slice along an axis with anything inside; all where there is nothing."""
    levels = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
    return (int(levels[0]), int(levels[-1])) if levels.size else (0, inside.shape[axis] - 1)


def _extent(view: View, bounds: list[tuple[int, int]], plane: str) -> Box:
    """Return the part of the slices of a plane that holds all that is inside, with a margin."""
    sides: list[float] = []
    for axis in _PLANES[plane][:2]:
        low, high = bounds[axis]
        if axis == 2:  # drawn from the head downwards
            low, high = view.data.shape[2] - 1 - high, view.data.shape[2] - 1 - low
        sides += [low * view.spacing_mm[axis] - _MARGIN_MM, high * view.spacing_mm[axis] + _MARGIN_MM]
    return sides[0], sides[1], sides[2], sides[3]


def _show(panel: _Panel, view: View, data: np.ndarray, window: tuple[float, float]) -> None:
    """Show the slice of a panel, with the patient's sides where they differ."""
    image, spacing = view.plane(data, panel.plane, panel.slice_)
    show_slice(panel.axes, image, spacing, window)
    if panel.plane != "sagittal":
        write_sides(panel.axes)


def _scaled(image: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    return np.clip((image - window[0]) / (window[1] - window[0]), 0, 1)


def _checker(first: np.ndarray, second: np.ndarray, spacing_mm: Spacing, *, field_mm: float = 22) -> np.ndarray:
    """Mix two slices, field by field, in colour."""
    x = np.floor(np.arange(first.shape[0]) * spacing_mm[0] / field_mm)
    y = np.floor(np.arange(first.shape[1]) * spacing_mm[1] / field_mm)
    odd = (x[:, None] + y[None, :]) % 2 == 1
    # A faint tint tells which field is which scan.
    warm, cold = np.array([1.0, 0.96, 0.88]), np.array([0.84, 0.95, 1.0])
    mixed: np.ndarray = np.where(odd[..., None], second[..., None] * cold, first[..., None] * warm)
    return mixed


def _draw_edges(axes: Axes, image: np.ndarray, spacing_mm: Spacing) -> None:
    """Draw edges of a slice: where the Laplacian crosses 0 and the gradient is large."""
    smooth = ndimage.gaussian_filter(image, [1.3 / s for s in spacing_mm])
    strength: np.ndarray = ndimage.generic_gradient_magnitude(smooth, ndimage.sobel)
    crossing: np.ndarray = ndimage.laplace(smooth)
    if not (strength > 0).any():
        return
    weak = strength < np.percentile(strength[strength > 0], 72)
    x = np.arange(crossing.shape[0]) * spacing_mm[0]
    y = np.arange(crossing.shape[1]) * spacing_mm[1]
    lines = np.ma.masked_array(crossing, weak)
    if np.ma.count(lines) and lines.min() < 0 < lines.max():
        axes.contour(x, y, lines.T, levels=[0], colors=[PRIOR_COLOUR], linewidths=0.6)
