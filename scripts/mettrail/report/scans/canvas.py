"""What pictures of scans are drawn with: slices, outlines, sides and scale, and how they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image as Pixels

from mettrail.colours import CAVITY_COLOUR, EDEMA_COLOUR, PRIOR_COLOUR, TRACK_COLOURS
from mettrail.report.figures import PIXELS_PER_INCH, SCREEN
from mettrail.report.scans.view import Spacing

Box = tuple[float, float, float, float]
"""Part of a slice, screen mm: left, right, top, bottom."""

_LINE_COLOURS = (*TRACK_COLOURS, EDEMA_COLOUR, CAVITY_COLOUR, PRIOR_COLOUR)
WORDS = "#98a2b0"
SOLID = "solid"
DASHED = (0, (4, 2))
DOTTED = (0, (1, 1.4))
DASH_DOTTED = (0, (4, 1.6, 1, 1.6))


def make_screen(size: tuple[float, float]) -> Figure:
    """Make an empty black figure; size in inches."""
    return Figure(figsize=size, dpi=PIXELS_PER_INCH, facecolor=SCREEN)


def place_panel(fig: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add a panel with a thin frame around it; all in inches."""
    pad = 0.02
    across, up = fig.get_size_inches()
    return fig.add_axes(
        ((left + pad) / across, (bottom + pad) / up, (width - 2 * pad) / across, (height - 2 * pad) / up)
    )


def write_title(fig: Figure, title: str, *, left: float, down: float) -> None:
    """Write the title of a picture; inches from the top left."""
    across, up = fig.get_size_inches()
    fig.text(left / across, 1 - down / up, title, color="white", fontsize=11, fontweight="bold", va="center")


def write_note(fig: Figure, note: str, *, left: float, bottom: float) -> None:
    """Write a line in small type; inches from the bottom left."""
    across, up = fig.get_size_inches()
    fig.text(left / across, bottom / up, note, color=WORDS, fontsize=7.8, va="center")


def show_slice(axes: Axes, image: np.ndarray, spacing_mm: Spacing, window: tuple[float, float]) -> None:
    """Show a slice with axes in mm; first array axis across, second downwards."""
    (nx, ny), (sx, sy) = image.shape[:2], spacing_mm
    kept = None if axes.get_autoscale_on() else (*axes.get_xlim(), *axes.get_ylim()[::-1])
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
        left, right, top, bottom = kept
        limit(axes, (left, right, top, bottom))
    axes.set_facecolor(SCREEN)
    axes.set_axis_off()


def limit(axes: Axes, box: Box) -> None:
    """Show only a part of a slice."""
    axes.set_xlim(box[0], box[1])
    axes.set_ylim(box[3], box[2])


def outline(
    axes: Axes, mask: np.ndarray, spacing_mm: Spacing, colour: str, width: float, *, dashes: Any = SOLID
) -> None:
    """Draw a mask's border through the midpoints between voxels, where diameters end too; black under it."""
    if not mask.any():
        return
    padded = np.pad(mask.astype(np.float32), 1)
    x = (np.arange(padded.shape[0]) - 1) * spacing_mm[0]
    y = (np.arange(padded.shape[1]) - 1) * spacing_mm[1]
    drawn = axes.contour(x, y, padded.T, levels=[0.5], colors=[colour], linewidths=width, linestyles=[dashes])
    drawn.set_path_effects(casing(width + 1.1))


def casing(width: float) -> list[patheffects.AbstractPathEffect]:
    """Put black under a line or a text, so that it stands out on bright tissue, too."""
    return [patheffects.withStroke(linewidth=width, foreground="black")]


def write_sides(axes: Axes) -> None:
    """Mark the patient's right and left."""
    style: dict[str, Any] = {"color": "#9fd0ff", "fontsize": 8.5, "fontweight": "bold", "va": "center"}
    for x, side, align in ((0.02, "R", "left"), (0.98, "L", "right")):
        axes.text(x, 0.5, side, transform=axes.transAxes, ha=align, **style)


def draw_scale_bar(axes: Axes, box: Box) -> None:
    """Draw 10 mm at the bottom right of a part of a slice."""
    width, height = box[1] - box[0], box[3] - box[2]
    x, y = box[1] - 0.05 * width - 10, box[3] - 0.05 * height
    axes.plot([x, x + 10], [y, y], color="white", lw=2, solid_capstyle="butt", path_effects=casing(3.5))
    style: dict[str, Any] = {"color": "white", "fontsize": 7, "ha": "center", "va": "bottom"}
    axes.text(x + 5, y - 0.02 * height, "10 mm", path_effects=casing(1.8), **style)


def save_png(fig: Figure, path: str | Path, *, palette: Pixels.Image | None = None) -> None:
    """Write the picture with 256 colours, half the size: those of a palette, or those it has most of."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    picture = Pixels.fromarray(np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3]))
    if palette is None:
        few = picture.quantize(256, Pixels.Quantize.MEDIANCUT, dither=Pixels.Dither.NONE)
    else:
        few = picture.quantize(palette=palette, dither=Pixels.Dither.NONE)
    few.save(path, optimize=True)


def make_lesion_palette() -> Pixels.Image:
    """Greys for the scan, and the exact colour of every track and line with its shades on black: no colour is bent."""
    greys = [(round(g),) * 3 for g in np.linspace(0, 255, 256 - 7 * len(_LINE_COLOURS))]
    colours = [np.array(mpl.colors.to_rgb(c)) * 255 for c in _LINE_COLOURS]
    shades = [tuple(np.round(c * share).astype(int)) for c in colours for share in (1, 0.85, 0.7, 0.55, 0.42, 0.3, 0.2)]
    palette = Pixels.new("P", (1, 1))
    palette.putpalette([int(v) for colour in (*greys, *shades) for v in colour])
    return palette
