"""Film strips as a page shows them: the pictures of `scans.draw_strips`, frame by frame, and the words below each."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as Pixels

from mettrail.report.parts import Picture, Track, make_track
from mettrail.report.scans import read_frames, strip_path
from mettrail.report.strips import Frame, Strip

# Films that are open at first: all others wait in a fold.
FIRST_FILMS = 9
# Of WebP: outlines are sharp, and sixty lesions at twelve sessions take 5 MB.
_QUALITY = 75


@dataclass(frozen=True)
class FilmFrame:
    """A lesion at a session: its picture, which is None where none was made, and what is said of it."""

    picture: Picture | None
    said: Frame
    merged_into: Track | None


@dataclass(frozen=True)
class Film:
    """A lesion at all sessions."""

    track: Track
    facts: Sequence[str]
    frames: Sequence[FilmFrame]


def make_films(participant: str, strips: Sequence[Strip], folder: str | Path | None) -> list[Film]:
    """Put pictures and words together, in the order of the strips.

    Parameters
    ----------
    participant : str
        ``sub-A``.
    strips : sequence of Strip
        From `strips.make_strips`.
    folder : path or None
        With the pictures. None, or one that lacks a lesion's: its frames have words alone.
    """
    return [_make_film(strip, folder and strip_path(folder, participant, strip.track_id)) for strip in strips]


def _make_film(strip: Strip, path: str | Path | None) -> Film:
    pictures: list[Picture | None] = [None] * len(strip.frames)
    if path and Path(path).is_file():
        shown = read_frames(path, len(strip.frames))
        pictures = [
            _embed(pixels, f"{strip.track_id} at {frame.session}, {frame.day}: {frame.words}.")
            for pixels, frame in zip(shown, strip.frames, strict=True)
        ]
    frames = [
        FilmFrame(picture, frame, make_track(frame.merged_into) if frame.merged_into else None)
        for picture, frame in zip(pictures, strip.frames, strict=True)
    ]
    return Film(make_track(strip.track_id), strip.facts, frames)


def _embed(pixels: Pixels.Image, alt: str) -> Picture:
    file = io.BytesIO()
    pixels.save(file, "WEBP", quality=_QUALITY, method=4)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return Picture(f"data:image/webp;base64,{data}", alt)
