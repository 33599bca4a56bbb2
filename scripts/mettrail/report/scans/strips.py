"""Film strips: each lesion at all sessions, at the same place of the patient's reference space.

Every frame of a strip shows one plane, one field of view and one orientation; nothing is registered here. Scans are
sampled in that plane, so that outlines can be compared; sizes come from the tables and were measured on the scans.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image as Pixels

from mettrail import transforms
from mettrail.colours import CAVITY_COLOUR, EDEMA_COLOUR, NECROSIS_COLOUR, PRIOR_COLOUR, track_colour
from mettrail.images import (
    CAVITY,
    EDEMA,
    ENHANCING,
    NECROSIS,
    Box,
    Grid,
    Image,
    read_grid,
    read_image,
    read_labels,
    read_mask,
    require_same_grid,
    resample,
)
from mettrail.report.figures import PIXELS_PER_INCH, label_number
from mettrail.report.scans.canvas import (
    DASH_DOTTED,
    DASHED,
    DOTTED,
    SOLID,
    WORDS,
    casing,
    make_lesion_palette,
    make_screen,
    outline,
    save_png,
    show_slice,
)
from mettrail.report.scans.view import mask_on, window_of
from mettrail.report.strips import Frame, State, Strip
from mettrail.report.text import Record, records_of
from mettrail.schema.cells import number_of, text_of
from mettrail.sidecars import read_json
from mettrail.tracking.axial import ENDPOINTS

# Side of a frame on the picture.
FRAME_PIXELS = 176
_GAP, _HEAD, _CAPTION, _FOOT = 6, 34, 96, 26
# Room for the key, also where there is one session; and for that of patients who have had surgery.
_LEAST_WIDTH, _LEAST_WITH_CAVITY = 790, 930
# Side of the field of view: so many times the longest diameter that it ever had, and no smaller than that.
_MARGIN, _LEAST_MM = 2.2, 36.0
# A diameter with an end farther than this from the plane shown was measured on another slice.
_NEAR_MM = 1.5
# Tissue of a whole lesion.
_WHOLE = (ENHANCING, NECROSIS)
# Brightness of a frame without a scan.
_EMPTY = 0.13
# Of notes, and of lesions that a strip is not about.
_PALE = "#c9cfd8"
_PIXEL: tuple[float, float] = (1.0, 1.0)
# Outlines from below to above: layer of a shot, what it is called, colour (None: the lesion's own), width, dashes.
_LAYERS: tuple[tuple[str, str, str | None, float, Any], ...] = (
    ("edema", "edema", EDEMA_COLOUR, 0.9, DASHED),
    ("cavity", "resection cavity", CAVITY_COLOUR, 0.9, DASH_DOTTED),
    ("others", "other lesions", _PALE, 0.7, SOLID),
    ("prior", "propagated from the prior session", PRIOR_COLOUR, 1.0, SOLID),
    ("lesion", "lesion", None, 1.4, SOLID),
    ("necrosis", "necrosis", NECROSIS_COLOUR, 0.8, DOTTED),
)


@dataclass(frozen=True)
class Visit:
    """Where the files of a session are.

    Parameters
    ----------
    scan, lesions, tissue : path
        The scan the lesions were measured on; persistent lesion IDs and tissue labels on its grid.
    brain : path
        Brain mask, on any grid; sets the grey values.
    affine, quality : path
        Rigid transform, points of the patient's reference space to points of this session; and how good it is.
    prior : path or None
        Tissue labels of the prior session's lesions propagated to this one, on any grid. None: there is no prior.
    """

    scan: str | Path
    lesions: str | Path
    tissue: str | Path
    brain: str | Path
    affine: str | Path
    quality: str | Path
    prior: str | Path | None = None


@dataclass(frozen=True)
class _Shot:
    """A lesion at a session: (FRAME_PIXELS, FRAME_PIXELS) arrays, across first.

    `scan` goes from 0, black, to 1. Masks are shares of a voxel: their border is at 0.5. `chord` holds the ends of the
    longest diameter as (across, downwards, mm from the plane).
    """

    scan: np.ndarray
    lesion: np.ndarray
    necrosis: np.ndarray
    edema: np.ndarray
    cavity: np.ndarray
    others: np.ndarray
    prior: np.ndarray
    chord: np.ndarray


def strip_path(folder: str | Path, participant: str, track_id: str) -> Path:
    """Return where the film strip of a lesion is.

    Examples
    --------
    >>> strip_path("figures/sub-A_strips", "sub-A", "L001").name
    'sub-A_desc-L001_strip.png'
    """
    return Path(folder) / f"{participant}_desc-{track_id}_strip.png"


def find_shown(visits: Mapping[str, Visit], spaces: Mapping[str, str | Path]) -> tuple[dict[str, Visit], Grid | None]:
    """Find the sessions that can be shown at the same place, and the space that they share.

    Parameters
    ----------
    visits : mapping of str to Visit
        By session ID, in order of time, all whose files are there.
    spaces : mapping of str to path
        By session ID, the working image of each session whose space may be the patient's.

    Returns
    -------
    dict of str to Visit
        Those whose registration did not fail, to the space of the last of them: before the first session with a sound
        brain mask each has a space of its own.
    Grid or None
        Of the session that gives the space; None without any.
    """
    qualities = {name: read_json(visit.quality) for name, visit in visits.items()}
    sound = [name for name, quality in qualities.items() if quality["status"] != "fail"]
    if not sound:
        return {}, None
    reference = qualities[sound[-1]]["reference_session"]
    shown = {name: visits[name] for name in sound if qualities[name]["reference_session"] == reference}
    return shown, read_grid(spaces[reference])


def draw_strips(
    strips: Sequence[Strip],
    lesion_rows: pd.DataFrame,
    visits: Mapping[str, Visit],
    space: Grid | None,
    folder: str | Path,
    *,
    participant: str,
    failed: Callable[[Exception], object],
) -> None:
    """Draw the film strip of each lesion, a file each (`strip_path`).

    The plane goes through the middle of the lesion's longest diameter at the session where that is longest.

    Parameters
    ----------
    strips : sequence of Strip
        What is said of them (`strips.make_strips`).
    lesion_rows : DataFrame
        The patient's rows of the lesion table: where the longest diameters end.
    visits : mapping of str to Visit
        By session ID, those that are registered to the reference space. A session without has an empty frame.
    space : Grid or None
        The reference scan's working grid, RAS: its axes are those of the frames. None where there is no visit.
    folder : path
        Made where it does not exist.
    participant : str
        ``sub-A``.
    failed : function of an exception
        Told of a visit that cannot be shown and of a lesion that cannot be drawn; all others are drawn.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    rows = _rows_of_tracks(lesion_rows)
    worlds = {name: transforms.read_affine(visit.affine) for name, visit in visits.items()}
    planes = {} if space is None else {track: _find_plane(rows[track], worlds, space) for track in rows}
    shots: dict[str, dict[str, _Shot]] = {strip.track_id: {} for strip in strips}
    for name, visit in visits.items():
        try:
            scene = _Scene.read(visit, worlds[name])
            for strip in strips:
                plane = planes[strip.track_id]
                if plane is not None:
                    (frame,) = (frame for frame in strip.frames if frame.session == name)
                    shown = frame.merged_into or strip.track_id
                    shots[strip.track_id][name] = scene.shoot(plane, shown, rows[strip.track_id].get(name, {}))
        except Exception as error:
            failed(error)
    for strip in strips:
        try:
            path = strip_path(folder, participant, strip.track_id)
            _draw_strip(strip, shots[strip.track_id], path, participant)
        except Exception as error:
            failed(error)


def find_places(lesion_rows: pd.DataFrame, visits: Mapping[str, Visit]) -> dict[str, np.ndarray]:
    """Find where each lesion is in the patient's reference space.

    Parameters
    ----------
    lesion_rows : DataFrame
        The patient's rows of the lesion table: where the longest diameters end.
    visits : mapping of str to Visit
        By session ID, those that are registered to the reference space.

    Returns
    -------
    dict of str to (3,) array
        By track ID, the middle of the longest diameter at the session where that is longest, RAS mm. A lesion that was
        measured at no session shown is not in it.
    """
    worlds = {name: transforms.read_affine(visit.affine) for name, visit in visits.items()}
    found = {track: _find_longest(rows, worlds) for track, rows in _rows_of_tracks(lesion_rows).items()}
    return {track: longest[0] for track, longest in found.items() if longest is not None}


def _rows_of_tracks(lesion_rows: pd.DataFrame) -> dict[str, dict[str, Record]]:
    """Return the rows of the lesion table by track and session."""
    rows: dict[str, dict[str, Record]] = {}
    for row in records_of(lesion_rows):
        rows.setdefault(text_of(row, "track_id"), {})[text_of(row, "session_id")] = row
    return rows


def _find_longest(rows: Mapping[str, Record], worlds: Mapping[str, np.ndarray]) -> tuple[np.ndarray, float] | None:
    """Return the middle of a lesion's longest diameter in the reference space, and its length; None without any."""
    longest: tuple[np.ndarray, float] | None = None
    for name, world in worlds.items():
        row = rows.get(name, {})
        ends, length = _ends(row), number_of(row, "ld_mm")
        if np.isfinite(ends).all() and length > (longest[1] if longest else 0):
            longest = transforms.map_points(ends, affine=transforms.invert(world)).mean(0), length
    return longest


def _find_plane(rows: Mapping[str, Record], worlds: Mapping[str, np.ndarray], space: Grid) -> Grid | None:
    """Return the grid of a lesion's frames, one voxel deep, 1 mm; None where it was measured at no session shown."""
    longest = _find_longest(rows, worlds)
    if longest is None:
        return None
    place, size = longest
    side = max(_LEAST_MM, _MARGIN * size)
    axes = space.affine[:3, :3] / np.array(space.spacing_mm)
    affine = np.eye(4)
    # Radiological: from the patient's right to left, from front to back.
    affine[:3, :3] = axes * (-side / FRAME_PIXELS, -side / FRAME_PIXELS, 1)
    middle = (FRAME_PIXELS - 1) / 2
    affine[:3, 3] = place - affine[:3, :3] @ (middle, middle, 0)
    return Grid((FRAME_PIXELS, FRAME_PIXELS, 1), affine)


def _ends(row: Record) -> np.ndarray:
    """Return the (2, 3) ends of the longest diameter, RAS mm of the session; NaN where it was not measured."""
    return np.reshape([number_of(row, name) for name in ENDPOINTS], (2, 3))


@dataclass(frozen=True)
class _Scene:
    """A session as it was read."""

    scan: Image
    lesions: Image
    tissue: Image
    prior: Image | None
    window: tuple[float, float]
    world: np.ndarray

    @classmethod
    def read(cls, visit: Visit, world: np.ndarray) -> _Scene:
        scan, lesions = read_image(visit.scan), read_labels(visit.lesions)
        tissue = read_labels(visit.tissue)
        require_same_grid(scan, lesions, tissue)
        window = window_of(scan.data, mask_on(read_mask(visit.brain), scan))
        prior = None if visit.prior is None else read_labels(visit.prior)
        return cls(scan, lesions, tissue, prior, window, world)

    def shoot(self, plane: Grid, track_id: str, row: Record) -> _Shot:
        """Sample everything in a plane of the reference space."""
        low, high = self.window
        scan, labels, tissue = (_crop(image, plane, self.world) for image in (self.scan, self.lesions, self.tissue))
        own = labels.data == label_number(track_id)
        prior = None if self.prior is None else _crop(self.prior, plane, self.world)
        ends = transforms.map_points(_ends(row), affine=transforms.invert(self.world))
        return _Shot(
            scan=np.clip((self._sample(scan, plane) - low) / (high - low), 0, 1),
            lesion=self._sample(labels.like(own), plane),
            necrosis=self._sample(labels.like(own & (tissue.data == NECROSIS)), plane),
            edema=self._sample(labels.like(tissue.data == EDEMA), plane),
            cavity=self._sample(labels.like(tissue.data == CAVITY), plane),
            others=self._sample(labels.like((labels.data > 0) & ~own), plane),
            prior=_nothing() if prior is None else self._sample(prior.like(np.isin(prior.data, _WHOLE)), plane),
            chord=transforms.map_points(ends, affine=np.linalg.inv(plane.affine)),
        )

    def _sample(self, image: Image, plane: Grid) -> np.ndarray:
        if not image.data.any():
            return _nothing()
        sampled: np.ndarray = resample(image, plane, world=self.world).data[:, :, 0]
        return sampled


def _nothing() -> np.ndarray:
    return np.zeros((FRAME_PIXELS, FRAME_PIXELS), np.float32)


def _crop(image: Image, plane: Grid, world: np.ndarray) -> Image:
    """Return the part of an image that a plane of the reference space goes through; empty where there is none."""
    last = np.array(plane.shape) - 1
    corners = np.array([[x, y, 0] for x in (0, last[0]) for y in (0, last[1])], float)
    to_voxel = np.linalg.inv(image.affine) @ world @ plane.affine
    where = transforms.map_points(corners, affine=to_voxel)
    low = np.clip(np.floor(where.min(0)).astype(int) - 1, 0, image.data.shape)
    high = np.clip(np.ceil(where.max(0)).astype(int) + 2, low, image.data.shape)
    i, j, k = (slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    box: Box = (i, j, k)
    return Image(image.data[box], image.grid.crop(box).affine)


def _draw_strip(strip: Strip, shots: Mapping[str, _Shot], path: Path, participant: str) -> None:
    """Draw the frames side by side, with what is said of the lesion above, at each session and of the lines below."""
    count = len(strip.frames)
    resected = any(shot.cavity.max() >= 0.5 for shot in shots.values())
    width = max(_left(count), _LEAST_WITH_CAVITY if resected else _LEAST_WIDTH)
    height = _HEAD + FRAME_PIXELS + _CAPTION + _FOOT
    # A hundredth more, so that no pixel is lost to rounding.
    fig = make_screen(((width + 0.01) / PIXELS_PER_INCH, (height + 0.01) / PIXELS_PER_INCH))
    axes = _place(fig, _HEAD, width, FRAME_PIXELS)
    show_slice(axes, _join(strip, shots, "scan", empty=_EMPTY), _PIXEL, (0, 1))
    colour = track_colour(strip.track_id)
    for layer, _, own, line, dashes in _LAYERS:
        outline(axes, _join(strip, shots, layer, empty=0), _PIXEL, own or colour, line, dashes=dashes)
    text = _place(fig, 0, width, height)
    _write(text, _GAP, 17, f"{participant} {strip.track_id}", 10.5, colour=colour, fontweight="bold", va="center")
    _write(text, 12.0 * len(f"{participant} {strip.track_id}"), 17, " · ".join(strip.facts), 8, va="center")
    for number, frame in enumerate(strip.frames):
        shot = shots.get(frame.session)
        if shot is None:
            _write_reason(axes, number, frame)
        else:
            _draw_chord(axes, number, shot)
            _write_sides(axes, number)
            if frame.state is State.PRESENT and shot.lesion.max() < 0.5:
                _write_elsewhere(axes, number)
        _write_caption(text, number, frame)
    _draw_key(text, height - _FOOT / 2, colour, cavity=resected)
    save_png(fig, path, palette=make_lesion_palette())


def _left(number: int) -> int:
    """Return where a frame begins, pixels; that of the first after the last is the width of the strip."""
    return _GAP + number * (FRAME_PIXELS + _GAP)


def _join(strip: Strip, shots: Mapping[str, _Shot], layer: str, *, empty: float) -> np.ndarray:
    """Lay a layer of all frames side by side."""
    joined = np.zeros((_left(len(strip.frames)), FRAME_PIXELS), np.float32)
    for number, frame in enumerate(strip.frames):
        shot = shots.get(frame.session)
        joined[_left(number) : _left(number) + FRAME_PIXELS] = empty if shot is None else getattr(shot, layer)
    return joined


def _place(fig: Figure, top: int, width: int, height: int) -> Axes:
    """Add axes that count in pixels of the picture, from their top left."""
    total = fig.get_size_inches()[1] * PIXELS_PER_INCH
    axes = fig.add_axes((0, 1 - (top + height) / total, 1, height / total))
    axes.set_axis_off()
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    return axes


def _write(axes: Axes, x: float, y: float, words: str, size: float, *, colour: str = WORDS, **style: Any) -> None:
    axes.text(x, y, words, color=colour, fontsize=size, **style)


def _write_reason(axes: Axes, number: int, frame: Frame) -> None:
    """Say in an empty frame why there is no scan in it."""
    words = textwrap.fill("; ".join((frame.headline, *frame.notes, "no scan to show")), 24)
    middle = FRAME_PIXELS / 2
    _write(axes, _left(number) + middle, middle, words, 8, colour=_PALE, ha="center", va="center")


def _write_sides(axes: Axes, number: int) -> None:
    """Mark the patient's right and left."""
    style: dict[str, Any] = {"colour": "#9fd0ff", "fontweight": "bold", "va": "center", "path_effects": casing(1.6)}
    _write(axes, _left(number) + 3, FRAME_PIXELS / 2, "R", 7, ha="left", **style)
    _write(axes, _left(number + 1) - _GAP - 3, FRAME_PIXELS / 2, "L", 7, ha="right", **style)


def _write_elsewhere(axes: Axes, number: int) -> None:
    """Say that the lesion was measured and does not reach the plane."""
    style: dict[str, Any] = {"colour": "white", "ha": "center", "va": "bottom", "path_effects": casing(1.8)}
    _write(axes, _left(number) + FRAME_PIXELS / 2, FRAME_PIXELS - 5, "on other slices at this session", 7, **style)


def _draw_chord(axes: Axes, number: int, shot: _Shot) -> None:
    """Draw the longest diameter where it was measured; dashed if that was on another slice."""
    if not np.isfinite(shot.chord).all():
        return
    x, y, apart = shot.chord.T
    dashes = SOLID if np.abs(apart).max() <= _NEAR_MM else DASHED
    style: dict[str, Any] = {"color": "white", "lw": 1.1, "marker": "o", "ms": 2.4, "ls": dashes}
    axes.plot(x + _left(number), y, path_effects=casing(2.8), **style)


def _write_caption(axes: Axes, number: int, frame: Frame) -> None:
    """Write below a frame which session it is and what is said of the lesion there."""
    x, y = _left(number), _HEAD + FRAME_PIXELS + 4
    _write(axes, x, y, f"{frame.session} · {frame.day}", 7.4, va="top")
    _write(axes, x, y + 15, frame.headline, 7.8, colour="white", fontweight="bold", va="top")
    rest = [line for part in (frame.change, *frame.notes) if part for line in textwrap.wrap(part, 32)]
    _write(axes, x, y + 31, "\n".join(rest[:4]), 7, colour=_PALE, va="top", linespacing=1.15)


def _draw_key(axes: Axes, y: float, colour: str, *, cavity: bool) -> None:
    """Say what the lines are; few patients have had surgery."""
    entries: list[tuple[str, dict[str, Any]]] = [
        (name, {"color": own or colour, "lw": line, "ls": dashes})
        for layer, name, own, line, dashes in _LAYERS
        if layer != "cavity" or cavity
    ]
    entries.append(("longest diameter", {"color": "white", "lw": 1.1, "marker": "o", "ms": 2.4}))
    x = float(_GAP)
    for name, style in entries:
        axes.plot([x, x + 22], [y, y], **style)
        _write(axes, x + 28, y, name, 7, va="center")
        x += 44 + 6 * len(name)


def read_frames(path: str | Path, count: int) -> list[Pixels.Image]:
    """Return the frames of a film strip without what is written around them.

    Parameters
    ----------
    path : path
        A picture made by `draw_strips`.
    count : int
        Number of its frames.
    """
    with Pixels.open(path) as picture:
        strip = picture.convert("RGB")
    return [strip.crop((_left(n), _HEAD, _left(n) + FRAME_PIXELS, _HEAD + FRAME_PIXELS)) for n in range(count)]
