"""Lesions named by a place in a scan: numbers of lesions exist only after a run, places before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mettrail import images
from mettrail.images import Image
from mettrail.schema import vocabulary

# A point set by hand on a small lesion, or at its rim, may lie this far outside the mask (ours).
NEAREST_MM = 5.0
EXPECTED = "x;y;z, three numbers in RAS mm"


@dataclass(frozen=True)
class Place:
    """Where a point leads to.

    Parameters
    ----------
    index : int or None
        Number in the label map; None where no lesion is near.
    distance_mm : float
        From the point to the centre of the nearest voxel of a lesion, 0 inside; infinite without lesions.
    """

    index: int | None
    distance_mm: float


def read_point(text: str) -> tuple[float, float, float] | None:
    """Return the point that a text names, or None if it is no point at all (a lesion's name, say).

    Raises
    ------
    ValueError
        It looks like a point and is none; its text says what was expected.
    """
    parts = [part.strip() for part in text.split(";")]
    numbers = [bool(vocabulary.NUMBER.fullmatch(part)) for part in parts]
    if not any(numbers) and not any("," in part for part in parts):
        return None
    if len(parts) != 3 or not all(numbers):
        raise ValueError(EXPECTED)
    x, y, z = (float(vocabulary.read_number(part)) for part in parts)
    return x, y, z


def nearest_lesion(point: tuple[float, float, float], labels: Image, *, nearest_mm: float = NEAREST_MM) -> Place:
    """Find the lesion at a point: the one it lies in, else the nearest.

    Parameters
    ----------
    point : (3,) float
        RAS mm, in the space of the map.
    labels : Image of int
        0 where there is no lesion.
    nearest_mm : float
        How far outside a lesion the point may lie.
    """
    voxel = np.linalg.solve(labels.affine, [*point, 1.0])[:3]
    at = tuple(np.floor(voxel + 0.5).astype(int))
    if all(0 <= i < n for i, n in zip(at, labels.data.shape)) and labels.data[at]:
        return Place(int(labels.data[at]), 0.0)
    lesion = np.argwhere(labels.data)
    if not len(lesion):
        return Place(None, np.inf)
    world = lesion @ labels.affine[:3, :3].T + labels.affine[:3, 3]
    distances = np.linalg.norm(world - np.asarray(point), axis=1)
    nearest = int(distances.argmin())
    distance = float(distances[nearest])
    return Place(int(labels.data[tuple(lesion[nearest])]) if distance <= nearest_mm else None, distance)


class Finder:
    """Turns points into names of lesions, and reads each session's map once.

    Parameters
    ----------
    maps : mapping
        Session (``ses-1``) to its map of lesions by number, and to the table that names them.
    """

    def __init__(self, maps: Mapping[str, tuple[str | Path, Mapping[int, str]]]):
        self.maps = maps
        self._read: dict[str, Image] = {}

    def find(self, session: str, point: tuple[float, float, float]) -> tuple[str | None, str]:
        """Return the lesion at a point of a session's scan (None without one), and what is to be said of it."""
        if session not in self.maps:
            return None, f"{session} has no map of lesions: expected a session that could be evaluated"
        path, names = self.maps[session]
        if session not in self._read:
            self._read[session] = images.read_labels(path)
        place = nearest_lesion(point, self._read[session])
        shown = ";".join(f"{x:g}" for x in point)
        if place.index is None:
            near = (
                f"the nearest is {place.distance_mm:.1f} mm away" if np.isfinite(place.distance_mm) else "it has none"
            )
            return None, f"no lesion at {shown} in {session}: {near}; expected one within {NEAREST_MM:g} mm"
        name = names[place.index]
        outside = f"{shown} in {session} is outside every lesion: {name}, {place.distance_mm:.1f} mm away, is taken"
        return name, outside if place.distance_mm else ""
