"""A patient's viewer: all visits side by side in one space. NiiVue and the volumes are inside the page.

Nothing is loaded, not even from beside the page, so that it works from a disk and can be passed on as one file.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from mettrail.colours import CAVITY_COLOUR, EDEMA_COLOUR, NECROSIS_COLOUR, PRIOR_COLOUR, TRACK_COLOURS, track_index
from mettrail.images import Grid
from mettrail.report.environment import render
from mettrail.report.figures import label_number
from mettrail.report.parts import Track, make_track
from mettrail.report.scans import WHITE, Mark, Volumes
from mettrail.report.strips import Strip

NIIVUE = "niivue-0.69.0.umd.js"
# Lines to switch on and off: what they are called, bit of a voxel (0: lesions), colour (empty: the lesion's own).
_LINES = (
    ("lesions", 0, ""),
    ("necrosis", Mark.NECROSIS.value, NECROSIS_COLOUR),
    ("edema", Mark.EDEMA.value, EDEMA_COLOUR),
    ("resection cavity", Mark.CAVITY.value, CAVITY_COLOUR),
    ("propagated from the prior session", Mark.PRIOR.value, PRIOR_COLOUR),
)


@dataclass(frozen=True)
class Pane:
    """A visit; the base64 of its gzipped volumes, x fastest."""

    session: str
    day: str
    scan: str
    lesions: str
    marks: str


@dataclass(frozen=True)
class Listed:
    """A lesion of the list; `place` is empty where no visit shows it."""

    track: Track
    facts: Sequence[str]
    place: str


def make_viewer(
    participant: str,
    strips: Sequence[Strip],
    places: Mapping[str, np.ndarray],
    grid: Grid | None,
    volumes: Mapping[str, Volumes],
    *,
    page: str,
    version: str,
) -> str:
    """Write a patient's viewer.

    Parameters
    ----------
    participant : str
        ``sub-A``.
    strips : sequence of Strip
        What is said of each lesion at each session (`strips.make_strips`).
    places : mapping of str to (3,) array
        By track ID, where lesions are in the reference space, RAS mm (`scans.find_places`).
    grid : Grid or None
        Of all volumes.
    volumes : mapping of str to Volumes
        By session ID, in order of time (`scans.sample_visits`). Without any the viewer says so.
    page : str
        Address of the patient's page, relative to the viewer.
    version : str
        Of the program.

    Returns
    -------
    str
        The whole file: 3 MB, and about 2 MB for each visit of 1 mm.
    """
    days = {frame.session: frame.day for strip in strips for frame in strip.frames}
    panes = [
        Pane(name, days.get(name, ""), _pack(shown.scan), _pack(shown.lesions), _pack(shown.marks))
        for name, shown in volumes.items()
    ]
    listed = [
        Listed(make_track(strip.track_id), strip.facts, _words_of(places.get(strip.track_id))) for strip in strips
    ]
    return render(
        "viewer.html.j2",
        participant=participant,
        page=page,
        panes=panes,
        lesions=listed,
        lines=[{"name": name, "colour": colour} for name, _, colour in _LINES],
        course=_course(strips, grid),
        niivue=_niivue(),
        version=version,
    )


def _course(strips: Sequence[Strip], grid: Grid | None) -> dict[str, Any]:
    """Return what the page's script reads: grid, colours and lines, and what is said of lesions at sessions."""
    return {
        "shape": [] if grid is None else list(grid.shape),
        "affine": [] if grid is None else np.ravel(grid.affine).tolist(),
        "white": WHITE,
        "colours": TRACK_COLOURS,
        "lines": [{"bit": bit, "colour": colour} for _, bit, colour in _LINES],
        "lesions": {
            strip.track_id: {
                "label": label_number(strip.track_id),
                "colour": track_index(strip.track_id) % len(TRACK_COLOURS),
                "words": {frame.session: frame.words for frame in strip.frames},
            }
            for strip in strips
        },
    }


def _words_of(place: np.ndarray | None) -> str:
    return "" if place is None else " ".join(f"{mm:.1f}" for mm in place)


def _pack(volume: np.ndarray) -> str:
    # No time in it: the same visit gives the same file.
    return base64.b64encode(gzip.compress(volume.tobytes(order="F"), mtime=0)).decode("ascii")


@cache
def _niivue() -> str:
    """Return NiiVue with its licences, which its copies have to bring."""
    vendor = files("mettrail.report") / "vendor"
    licences, code = ((vendor / name).read_text(encoding="utf-8") for name in ("niivue-LICENSES.txt", NIIVUE))
    return f"/*!\n{licences}*/\n{code}"
