"""Like with like: lesions that are one at one visit and apart at another, measured alike at both.

Two lesions that do not change may touch at one visit and not at the next, by noise alone. As one they have one
diameter, apart they have two: without this a contact reads as a response, and its loss as a progression. So where the
connected components of a lesion, or of lesions that merged, differ between two visits, both are measured by the finer
partition: what is one is cut by the nearest voxel of the parts of the other visit (RECIST 1.1: as long as a plane
between coalescing lesions can be kept, they are measured apart).

One lesion that shrinks and falls apart is no such case: its parts add up against the diameter it had (RECIST 1.1). It
is told from lesions that touched by having no neck where it is cut.

Lesions that touch at both visits are one at both. Then the width of their neck decides whether the longest chord
inside passes through it: a lesion of two, 21 mm long at one visit, is 31 mm at the next. Where such a lesion is as long
as it was from end to end, it is compared by that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from mettrail import images, schema, transforms
from mettrail.geometry import label_components
from mettrail.images import Image
from mettrail.tracking.axial import longest_diameter_mm
from mettrail.tracking.contact import pairs_without_neck
from mettrail.tracking.registry import Registry, world_of

SIZES = ("ld_now_mm", "ld_then_mm", "vol_now_ml", "vol_then_ml")


@dataclass(frozen=True)
class Visit:
    """Lesions of a visit, as matched.

    Parameters
    ----------
    session_id : str
    tracks : DataFrame
        From `matching.match_visit`.
    read_labels : function
        Returns an Image, from `matching.relabel_tracks`: the number of its track in every voxel, on the scan's own
        grid. Called only where sizes have to be measured again.
    world : (4, 4) float
        Points of the reference space to points of the scan, RAS mm, the residual shift undone
        (`registry.world_of`).
    """

    session_id: str
    tracks: pd.DataFrame
    read_labels: Callable[[], Image]
    world: np.ndarray

    @classmethod
    def of(cls, tracks: pd.DataFrame, read_labels: Callable[[], Image], registry: Registry, world: np.ndarray) -> Visit:
        """Make one of what matching returns; `world` is as registration has it."""
        return cls(registry["session_id"], tracks, read_labels, world_of(registry, world))

    @functools.cached_property
    def labels(self) -> Image:
        """The map of tracks, read once."""
        return self.read_labels()

    @property
    def merged(self) -> dict[int, int]:
        """Numbers of tracks that have merged, and of the lesions that carry them."""
        rows = self.tracks[self.tracks["status"] == "merged"]
        return {int(own): int(name[1:]) for own, name in zip(rows["index"], rows["merged_into"])}


@dataclass
class _Part:
    """A component of a lesion at a visit."""

    track: int
    voxels: np.ndarray  # (n, 3) on the scan's own grid
    points: np.ndarray  # (n, 3) mm in the reference space


def read_visits(
    registries: Sequence[Registry], labels: Sequence[Path], tracks: Sequence[Path], affines: Sequence[Path]
) -> list[Visit]:
    """Read visits from the files that matching has left; those that are not evaluable are excluded.

    Parameters
    ----------
    registries : sequence of dict
    labels, tracks, affines : sequence of path
        One of each per visit.
    """
    return [
        Visit.of(
            schema.read_tsv(table),
            functools.partial(images.read_labels, path),
            registry,
            transforms.read_affine(affine),
        )
        for registry, path, table, affine in zip(registries, labels, tracks, affines, strict=True)
        if registry["session"]["evaluable"]
    ]


def compare_visits(
    now: Visit, earlier: Sequence[Visit], *, measure: Mapping[str, Any], match: Mapping[str, Any]
) -> pd.DataFrame:
    """Measure lesions alike at a visit and at each of those before, where their components differ.

    Parameters
    ----------
    now : Visit
    earlier : sequence of Visit
        The patient's evaluable visits before.
    measure : mapping
        Settings of `lesions.measure_instances`: `chord_gap_vox`; components below `birth_mm3`, `birth_vox` are no part
        of their own and go with the nearest; a cut that leaves no more than `keep_mm3` is none.
    match : mapping
        Settings of the block ``match``: one lesion (no neck by `neck_frac`) that has lost more than `fell_apart_loss`
        of its volume was not cut by noise, and its parts add up against its diameter (RECIST 1.1); a length has changed
        if it differs by more than `same_length_vox`.

    Returns
    -------
    DataFrame
        `schema.COMPARISONS`: one row per earlier visit and track whose sizes are others when compared with it. ``now``
        is the size at this visit, ``then`` at the earlier one; diameters of parts add up.
    """
    rows = []
    sizes = {name: measure[name] for name in ("birth_mm3", "birth_vox")}
    for then in earlier:
        measured = _end_to_end(now, then, match["same_length_vox"])
        for group in _groups(now, then):
            parts = [_parts(visit, group, **sizes) for visit in (now, then)]
            if not all(parts):
                continue
            voxels_mm3 = [visit.labels.voxel_volume_mm3 for visit in (now, then)]
            refined = _refine(*parts, keep_mm3=measure["keep_mm3"], voxels_mm3=voxels_mm3)
            alike = sorted(part.track for part in parts[0]) == sorted(part.track for part in parts[1])
            if alike and [len(side) for side in refined] == [len(side) for side in parts]:
                continue
            if len(group) == 1 and _fell_apart(*refined, now, then, match):
                continue
            measured |= _measure(*refined, now, then, measure["chord_gap_vox"])
        names = {"session_id": now.session_id, "earlier_session_id": then.session_id}
        rows += [names | {"track_id": f"L{track:03d}"} | alike for track, alike in sorted(measured.items())]
    table = pd.DataFrame(rows, columns=list(schema.COMPARISONS))
    table["participant_id"] = now.tracks["participant_id"].iloc[0] if rows else None
    return table.astype(schema.COMPARISONS)


def _end_to_end(now: Visit, then: Visit, same_length_vox: float) -> dict[int, dict[str, float]]:
    """Sizes of lesions whose chord inside leaves them at one of two visits though they are as long as they were."""
    out = {}
    here, there = (
        visit.tracks[(visit.tracks["status"] == "present") & (visit.tracks["n_components"] == 1)].set_index("index")
        for visit in (now, then)
    )
    for track in here.index.intersection(there.index):
        a, b = here.loc[track], there.loc[track]
        if not any("nonconvex" in str(each["flags"]).split(";") for each in (a, b)):
            continue
        pixel_mm = max(sorted(visit.labels.spacing_mm)[1] for visit in (now, then))
        end_to_end, inside = (abs(a[name] - b[name]) for name in ("ld_feret_mm", "ld_mm"))
        if end_to_end <= same_length_vox * pixel_mm < inside:
            both = (each[name] for name in ("ld_feret_mm", "vol_wl_ml") for each in (a, b))
            out[int(track)] = dict(zip(SIZES, both, strict=True))
    return out


def _groups(now: Visit, then: Visit) -> list[list[int]]:
    """Tracks that may be made of other components at one of two visits, each group with all it has merged with."""
    in_components, links = set(), set()
    for visit in (now, then):
        present = visit.tracks[visit.tracks["status"] == "present"]
        in_components |= set(present.loc[present["n_components"] > 1, "index"].astype(int))
        links |= set(visit.merged.items())
    tracks = sorted(in_components.union(*links))
    if not tracks:
        return []
    place = {track: n for n, track in enumerate(tracks)}
    pairs = np.array([[place[own], place[other]] for own, other in links], int).reshape(-1, 2).T
    graph = coo_array((np.ones(pairs.shape[1]), tuple(pairs)), shape=(len(tracks),) * 2)
    count, group = connected_components(graph, directed=False)
    return [[track for track, of in zip(tracks, group) if of == n] for n in range(count)]


def _parts(visit: Visit, group: list[int], *, birth_mm3: float, birth_vox: int) -> list[_Part]:
    """Components of these tracks at a visit; what is too small to be one goes with the nearest of its track."""
    data, affine = np.asarray(visit.labels.data), visit.labels.affine
    to_reference = np.linalg.inv(visit.world) @ affine
    least = max(birth_mm3 / visit.labels.voxel_volume_mm3, birth_vox) - 1e-6
    out = []
    for track in group:
        voxels = np.argwhere(data == track)
        if len(voxels) == 0:
            continue
        within = tuple((voxels - voxels.min(0)).T)
        box = np.zeros(np.ptp(voxels, axis=0) + 1, bool)
        box[within] = True
        number = label_components(box)[0][within]
        points = voxels @ to_reference[:3, :3].T + to_reference[:3, 3]
        count = np.bincount(number)
        large = [n for n in range(1, len(count)) if count[n] >= least] or [int(count[1:].argmax()) + 1]
        kept = np.isin(number, large)
        number[~kept] = number[kept][cKDTree(points[kept]).query(points[~kept])[1]]
        out += [_Part(track, voxels[number == n], points[number == n]) for n in large]
    return out


def _refine(
    now: list[_Part], then: list[_Part], *, keep_mm3: float, voxels_mm3: Sequence[float]
) -> tuple[list[_Part], list[_Part]]:
    """Cut the parts of either visit by those of the other, until no part holds two of them."""
    sides = [now, then]
    for _ in range(len(now) + len(then)):
        before = [len(side) for side in sides]
        for this, other in ((0, 1), (1, 0)):
            sides[this] = _cut(sides[this], sides[other], keep_mm3 / voxels_mm3[this])
        if before == [len(side) for side in sides]:
            break
    return sides[0], sides[1]


def _cut(parts: list[_Part], others: list[_Part], keep_vox: float) -> list[_Part]:
    """Cut each part by those of the other visit that lie on it, by the nearest voxel."""
    tree = cKDTree(np.concatenate([part.points for part in parts]))
    owner = np.repeat(np.arange(len(parts)), [len(part.points) for part in parts])
    # Each of the others lies on the part that is nearest to most of it.
    holds = [int(np.bincount(owner[tree.query(other.points)[1]]).argmax()) for other in others]
    out = []
    for n, part in enumerate(parts):
        on = [other for other, at in zip(others, holds, strict=True) if at == n]
        if len(on) < 2:
            out.append(part)
            continue
        far = np.array([cKDTree(other.points).query(part.points)[0] for other in on])
        while True:
            count = np.bincount(far.argmin(axis=0), minlength=len(far))
            if count.min() > keep_vox + 1e-6:
                break
            # What would be left of the smallest is too little: the others share it.
            far = np.delete(far, count.argmin(), axis=0)
        nearest = far.argmin(axis=0)
        out += [_Part(part.track, part.voxels[nearest == i], part.points[nearest == i]) for i in range(len(far))]
    return out


def _fell_apart(
    now: list[_Part], then: list[_Part], visit_now: Visit, visit_then: Visit, match: Mapping[str, Any]
) -> bool:
    """Whether the parts of a track are what is left of one lesion, not lesions that touched."""
    mm3 = [
        sum(len(part.voxels) for part in side) * visit.labels.voxel_volume_mm3
        for side, visit in ((now, visit_now), (then, visit_then))
    ]
    if min(mm3) >= (1 - match["fell_apart_loss"]) * max(mm3):
        return False
    whole, visit = (now, visit_now) if mm3[0] > mm3[1] else (then, visit_then)
    voxels = np.concatenate([part.voxels for part in whole])
    corner = voxels.min(0) - 1
    labels = np.zeros(np.ptp(voxels, axis=0) + 3, np.int32)
    for number, part in enumerate(whole, start=1):
        labels[tuple((part.voxels - corner).T)] = number
    depth = ndimage.distance_transform_edt(labels, sampling=visit.labels.spacing_mm)
    return bool(pairs_without_neck(labels, depth, [len(part.voxels) for part in whole], neck_frac=match["neck_frac"]))


def _measure(
    now: list[_Part], then: list[_Part], visit_now: Visit, visit_then: Visit, chord_gap_vox: float
) -> dict[int, dict[str, float]]:
    """Sizes by track: sums over the parts, each given to the track it has where it is apart."""
    out: dict[int, dict[str, float]] = {}
    for name, parts, others, visit, visit_there in (
        ("now", now, then, visit_now, visit_then),
        ("then", then, now, visit_then, visit_now),
    ):
        only_here = visit.merged.keys() - visit_there.merged.keys()
        tree = cKDTree(np.concatenate([other.points for other in others]))
        owner = np.repeat([other.track for other in others], [len(other.points) for other in others])
        for part in parts:
            there = int(np.bincount(owner[tree.query(part.points)[1]]).argmax())
            # A lesion that has merged at this visit is told apart at the other.
            track = there if there in only_here else part.track
            sizes = out.setdefault(track, dict.fromkeys(SIZES, 0.0))
            sizes[f"ld_{name}_mm"] += longest_diameter_mm(part.voxels, visit.labels, chord_gap_vox=chord_gap_vox)
            sizes[f"vol_{name}_ml"] += len(part.voxels) * visit.labels.voxel_volume_mm3 / 1000
    return out
