"""Lesions that have become one: found by where they were, cut there, or one for good."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage.segmentation import watershed

from mettrail.images import Grid, Image
from mettrail.tracking.chords import TOLERANCE
from mettrail.tracking.places import Place, common_voxels, edge_distance_mm, share_within, voxels_outside
from mettrail.tracking.registry import Registry, component_labels, decode_mask


def find_shared(
    instances: Image,
    matches: pd.DataFrame,
    registry: Registry,
    *,
    birth_mm3: float,
    dilate_mm: float,
    frac: float,
    miss_max_sessions: int,
) -> tuple[dict[int, list[int]], set[int]]:
    """Find lesions that lie where more than one track was: those tracks have become one, or parts of them have.

    A track that is not here as a lesion of its own has a claim on a lesion that takes `frac` of its last mask. If the
    lesion takes less, as that track shrank, the claim is uncertain: it holds only if the lesion has a neck there.

    Parameters
    ----------
    instances : Image
        Lesions on the patient's reference grid.
    matches : DataFrame
        From `match_lesions`, of this visit.
    registry : dict
        Of the visit before.
    birth_mm3 : float
        What a track that is here as a lesion of its own lacks of its last mask counts from this size on.
    dilate_mm, frac, miss_max_sessions
        As for `match_lesions`.

    Returns
    -------
    claims : dict of int to list of int
        Label of the lesion: numbers of the tracks, its own first.
    uncertain : set of int
        Tracks whose claim is uncertain.
    """
    spacing, shape = np.array(instances.spacing_mm), instances.data.shape
    flat = np.flatnonzero(instances.data)
    labels = np.asarray(instances.data).ravel()[flat]
    places = {int(label): Place.of(flat[labels == label], shape) for label in np.unique(labels)}
    here = {int(row["index"]): component_labels(row["components"]) for row in matches.to_dict("records")}
    owner = {label: index for index, of in here.items() for label in of}
    claims: dict[int, list[int]] = {}
    uncertain = set()
    for track in registry["tracks"]:
        index, own = track["index"], here.get(track["index"], [])
        if track.get("absorbed_by") is not None or (not own and track["sessions_missed"] > miss_max_sessions):
            continue
        rest = decode_mask(track["mask"])
        if own:
            rest = voxels_outside(Place.of(rest, shape), [places[label] for label in own], spacing, dilate_mm)
            if len(rest) * instances.voxel_volume_mm3 < birth_mm3 - TOLERANCE:
                continue
        left = Place.of(rest, shape)
        others = {label: place for label, place in places.items() if owner.get(label, index) != index}
        shares = {label: share_within(left, place, spacing, dilate_mm) for label, place in others.items()}
        label = max(shares, key=lambda each: shares[each], default=None)
        if label is not None and shares[label] < frac - TOLERANCE:
            common = {label: common_voxels(left, place) for label, place in others.items()}
            label = max(common, key=lambda each: common[each])
            if own or common[label] * instances.voxel_volume_mm3 < birth_mm3 - TOLERANCE:
                continue
            uncertain.add(index)
        if label is not None:
            claims.setdefault(label, [owner[label]]).append(index)
    return claims, uncertain


def cut_shared(
    instances: Image,
    claims: Mapping[int, list[int]],
    registry: Registry,
    *,
    uncertain: Collection[int] = (),
    crack_mm: float,
    neck_frac: float,
    world: np.ndarray,
    birth_mm3: float,
    birth_vox: int,
) -> tuple[np.ndarray, set[int], dict[int, int]]:
    """Cut lesions in which several tracks have become one, each where it was last (``merge_policy: watershed``).

    The fused lesion is flooded along its distance from the edge, from the last masks of all tracks that are in it. A
    track of which nothing is left in it, or whose part would be too small for a lesion, gets none: it has merged. Where
    no more than a crack was between two tracks, and the lesion has no neck there now, noise had cut one lesion: the
    track of the smaller is absorbed for good. What was cut at the visit before stays two.

    Parameters
    ----------
    instances : Image
        On the scan's own grid.
    claims, uncertain
        From `find_shared`.
    registry : dict
        Of the visit before.
    crack_mm : float
        Up to this far apart, edge to edge, two tracks may have been one lesion.
    neck_frac : float
        As for `pairs_without_neck`.
    world : (4, 4) float
        Points of the reference space to points of the scan, RAS mm.
    birth_mm3, birth_vox : float, int
        A part is at least so large.

    Returns
    -------
    instances : (X, Y, Z) int32
        Every part a lesion of its own; match it again.
    cut : set of int
        Labels of the parts.
    absorbed : dict of int to int
        Numbers of tracks that are one with another from now on, and of that other.
    """
    own = Grid(tuple(registry["reference"]["shape"]), np.array(registry["reference"]["affine"]))
    to_reference = np.linalg.inv(own.affine) @ np.linalg.inv(world) @ instances.affine
    before = _Before.of(registry, own, crack_mm, neck_frac)
    least = max(birth_mm3 / instances.voxel_volume_mm3, birth_vox) - TOLERANCE
    data = instances.data.astype(np.int32)
    cut: set[int] = set()
    absorbed: dict[int, int] = {}
    for label, claimed in sorted(claims.items()):
        mask = data == label
        voxels = np.argwhere(mask)
        there = np.floor(voxels @ to_reference[:3, :3].T + to_reference[:3, 3] + 0.5 + TOLERANCE).astype(int)
        inside = ((there >= 0) & (there < own.shape)).all(1)
        flat = np.full(len(voxels), -1)
        flat[inside] = np.ravel_multi_index(tuple(there[inside].T), own.shape)
        box = tuple(slice(low, high + 1) for low, high in zip(voxels.min(0), voxels.max(0), strict=True))
        depth = ndimage.distance_transform_edt(np.pad(mask[box], 1), sampling=instances.spacing_mm)[1:-1, 1:-1, 1:-1]
        tracks = [track for track in claimed if track in before.last]
        in_box = voxels - voxels.min(0)
        seeds = {track: tuple(in_box[np.isin(flat, before.last[track])].T) for track in tracks}
        parts, tracks, one = _flood(depth, mask[box], seeds, uncertain, before, least)
        absorbed |= one
        if len(tracks) < 2:
            continue
        top = int(data.max())
        data[box] = np.where(parts > 0, top + parts, data[box])
        cut |= set(range(top + 1, top + 1 + len(tracks)))
    return data, cut, absorbed


@dataclass(frozen=True)
class _Before:
    """Tracks at the session before: where they were last, and which of them were cut from one another there."""

    last: dict[int, np.ndarray]
    parted: set[int]
    grid: Grid
    crack_mm: float
    neck_frac: float

    @classmethod
    def of(cls, registry: Registry, grid: Grid, crack_mm: float, neck_frac: float) -> _Before:
        last = {track["index"]: decode_mask(track["mask"]) for track in registry["tracks"]}
        parted = {track["index"] for track in registry["tracks"] if track.get("cut")}
        return cls(last, parted, grid, crack_mm, neck_frac)

    def may_be_one(self, a: int, b: int) -> bool:
        """Whether no more than a crack was between two tracks."""
        if {a, b} <= self.parted:
            return False
        first, second = (Place.of(self.last[track], self.grid.shape) for track in (a, b))
        spacing = np.linalg.norm(self.grid.affine[:3, :3], axis=0)
        return edge_distance_mm(first, second, spacing, self.crack_mm) <= self.crack_mm + TOLERANCE


def _flood(
    depth: np.ndarray,
    mask: np.ndarray,
    seeds: Mapping[int, tuple[np.ndarray, ...]],
    uncertain: Collection[int],
    before: _Before,
    least: float,
) -> tuple[np.ndarray, list[int], dict[int, int]]:
    """Flood a lesion from where its tracks were, until each part left is a lesion of its own.

    Parameters
    ----------
    depth : (X, Y, Z) float
        Distance from the edge, in the box of the lesion.
    mask : (X, Y, Z) bool
        The lesion.
    seeds : dict
        Voxels of the box at which each track was last.
    uncertain, before
        Tracks whose claim is uncertain; all tracks at the session before.
    least : float
        Voxels a part has at least.

    Returns
    -------
    parts : (X, Y, Z) int
        1 to n, in the order of the tracks.
    tracks : list of int
        Those that have a part.
    absorbed : dict of int to int
        Tracks that are one with another from now on.
    """
    tracks = list(seeds)
    absorbed: dict[int, int] = {}
    while True:
        numbers = np.zeros(depth.shape, np.int32)
        for number, track in enumerate(tracks, start=1):
            numbers[seeds[track]] = number
        parts = watershed(-depth, numbers, mask=mask)
        count = np.bincount(parts[mask], minlength=len(tracks) + 1)[1:]
        if len(tracks) < 2:
            return parts, tracks, absorbed
        if count.min() < least:
            del tracks[count.argmin()]
            continue
        sizes = [len(before.last[track]) for track in tracks]
        one = next(
            (
                pair
                for pair in pairs_without_neck(parts, depth, sizes, neck_frac=before.neck_frac)
                if not {tracks[i] for i in pair}.isdisjoint(uncertain) or before.may_be_one(*(tracks[i] for i in pair))
            ),
            None,
        )
        if one is None:
            return parts, tracks, absorbed
        doubtful = [position for position in one if tracks[position] in uncertain]
        if not doubtful:
            absorbed[tracks[one[0]]] = tracks[one[1]]
        del tracks[(doubtful or one)[0]]


def pairs_without_neck(
    parts: np.ndarray, depth: np.ndarray, sizes: Sequence[int], *, neck_frac: float
) -> list[tuple[int, int]]:
    """Find the parts of a lesion that have no neck between them: where they meet, it is as thick as the thinner part.

    Lesions that touch have a neck between them. A lesion that noise had cut, and that is whole again, has none.

    Parameters
    ----------
    parts : (X, Y, Z) int
        1 to n, 0 outside.
    depth : (X, Y, Z) float
        Distance from the edge of all parts together.
    sizes : sequence of float
        Of the n parts: by these they are put in order.

    Returns
    -------
    list of (int, int)
        Positions in `sizes`, the smaller first; pairs of small parts first.
    """
    peak = ndimage.maximum(depth, parts, np.arange(1, len(sizes) + 1))
    one: set[tuple[int, int]] = set()
    for axis in range(3):
        low, high = (np.delete(parts, at, axis) for at in (-1, 0))
        thick = np.minimum(*(np.delete(depth, at, axis) for at in (-1, 0)))
        meet = (low != high) & (low > 0) & (high > 0)
        for a, b, here in zip(low[meet] - 1, high[meet] - 1, thick[meet]):
            if here >= neck_frac * min(peak[a], peak[b]) - TOLERANCE:
                small, large = sorted((int(a), int(b)), key=lambda i: (sizes[i], -i))
                one.add((small, large))
    return sorted(one, key=lambda pair: [(sizes[i], -i) for i in pair])
