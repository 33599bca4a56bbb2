"""Which lesion of a session belongs to which track: by overlap, by nearness, as a component, as a merger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from mettrail.errors import InputError
from mettrail.images import Image
from mettrail.reasons import Reason
from mettrail.tracking.chords import TOLERANCE
from mettrail.tracking.places import Place, common_voxels, covered_share, edge_distance_mm, share_within
from mettrail.tracking.registry import Track, decode_mask

# The overlap coefficient decides (a lesion that shrinks stays inside its old place: 1); these only break ties.
IOU_WEIGHT, MISSED_WEIGHT = 0.01, 0.001


@dataclass(frozen=True)
class Rules:
    """Settings of the block ``match``; see `matching.match_lesions`."""

    gap_mm: float
    vol_ratio_max: float
    dilate_mm: float
    frac: float
    miss_max_sessions: int
    miss_ld_frac: float


@dataclass(frozen=True)
class Lesion:
    """A lesion of this session."""

    label: int
    volume_mm3: float
    ld_mm: float
    may_start: bool
    place: Place
    centre_mm: np.ndarray


@dataclass(frozen=True)
class Found:
    """How a track got its lesions: the first carries it, the others are further components."""

    method: str
    lesions: list[Lesion]


@dataclass
class Pairing:
    """Lesions of a session and tracks before it, and how far they have been paired.

    Parameters
    ----------
    tracks : list of dict
        Those that compete.
    lesions : list of Lesion
    last : dict
        Where each track was last, by its number.
    spacing_mm : (3,) float
        Of the reference grid.
    rules : Rules
    found : dict
        Number of a track: what it got. Filled by the methods.
    promised : dict
        Label of a lesion: number it has to get, from an earlier run.
    """

    tracks: list[Track]
    lesions: list[Lesion]
    last: dict[int, Place]
    spacing_mm: np.ndarray
    rules: Rules
    found: dict[int, Found] = field(default_factory=dict)
    promised: dict[int, int] = field(default_factory=dict)

    def open_lesions(self) -> list[Lesion]:
        """Return lesions not yet given to a track, nor promised a number."""
        taken = {lesion.label for each in self.found.values() for lesion in each.lesions}
        return [each for each in self.lesions if each.label not in taken and each.label not in self.promised]

    def open_tracks(self) -> list[Track]:
        """Return tracks without a lesion."""
        return [track for track in self.tracks if track["index"] not in self.found]

    def keep_numbers(self) -> None:
        """Give tracks the lesions that were promised to them."""
        for lesion in self.lesions:
            if self.promised.get(lesion.label) in self.last:
                self.found[self.promised[lesion.label]] = Found("overlap", [lesion])

    def by_overlap(self) -> None:
        """Pair tracks and lesions that share voxels, as much as can be had in all."""
        tracks, lesions = self.open_tracks(), self.open_lesions()
        if not tracks or not lesions:
            return
        weight, overlap = overlaps(tracks, self.last, lesions)
        for i, j in zip(*linear_sum_assignment(weight, maximize=True), strict=True):
            # An assignment is complete; pairs that share nothing are no pairs.
            if overlap[i, j] > 0:
                self.found[tracks[i]["index"]] = Found("overlap", [lesions[j]])

    def by_distance(self, lesions: list[Lesion]) -> None:
        """Pair what is left with what is near and of like size: small lesions that registration has moved aside."""
        tracks, rules = self.open_tracks(), self.rules
        if not tracks or not lesions:
            return
        gaps = np.full((len(tracks), len(lesions)), np.inf)
        for i, track in enumerate(tracks):
            for j, lesion in enumerate(lesions):
                small, large = sorted((track["volume_mm3"], lesion.volume_mm3))
                if large <= rules.vol_ratio_max * small * (1 + TOLERANCE):
                    gaps[i, j] = edge_distance_mm(
                        self.last[track["index"]], lesion.place, self.spacing_mm, rules.gap_mm
                    )
        # Impossible pairs cost more than all possible ones together.
        never = (len(tracks) + 1) * (rules.gap_mm + 1)
        possible = gaps <= rules.gap_mm + TOLERANCE
        for row, column in zip(*linear_sum_assignment(np.where(possible, gaps, never)), strict=True):
            if possible[row, column]:
                self.found[tracks[row]["index"]] = Found("gap", [lesions[column]])

    def elsewhere(self) -> list[Lesion]:
        """Return open lesions that do not lie where a track was: what does is a part of that track, not moved aside."""
        return [
            each
            for each in self.open_lesions()
            if not any(share_within(each.place, it, self.spacing_mm, 0) >= self.rules.frac for it in self.last.values())
        ]

    def join_components(self, shape: tuple[int, ...]) -> None:
        """Give lesions that lie where a track has been to that track: parts of it, or its return at the old rim."""
        lesions = self.open_lesions()
        footprints = [
            (track["index"], Place.of(decode_mask(track["footprint"]), shape)) for track in self.tracks if lesions
        ]
        for lesion in lesions:
            share, index = max(
                (
                    (share_within(lesion.place, place, self.spacing_mm, self.rules.dilate_mm), -index)
                    for index, place in footprints
                ),
                default=(0.0, 0),
            )
            if share < self.rules.frac - TOLERANCE:
                continue
            if -index in self.found:
                self.found[-index].lesions.append(lesion)
            else:
                self.found[-index] = Found("split", [lesion])

    def find_merged(self) -> dict[int, tuple[int, float]]:
        """Return tracks without a lesion whose place another track's lesion has taken: owner and fraction."""
        merged = {}
        for track in self.open_tracks():
            if track["sessions_missed"] > self.rules.miss_max_sessions:
                continue
            shares = [
                (self._share(self.last[track["index"]], each.lesions), -owner) for owner, each in self.found.items()
            ]
            share, owner = max(shares, default=(0.0, 0))
            if share >= self.rules.frac - TOLERANCE:
                merged[track["index"]] = (-owner, share)
        return merged

    def outside_view(self, view: Image | None) -> set[int]:
        """Return tracks whose place this session does not show."""
        if view is None:
            return set()
        seen = view.data.ravel()
        least = self.rules.frac - TOLERANCE
        return {index for index, place in self.last.items() if seen[place.flat].mean() < least}

    def score(self, index: int) -> float:
        """Return the share of the smaller of a track's last mask and its lesions now that lies near the other."""
        last, lesions = self.last[index], self.found[index].lesions
        now = np.unique(np.concatenate([each.place.flat for each in lesions]))
        if len(last.flat) <= len(now):
            return self._share(last, lesions)
        grow_mm = self.rules.dilate_mm
        parts = [(len(each.place.flat), share_within(each.place, last, self.spacing_mm, grow_mm)) for each in lesions]
        return sum(n * share for n, share in parts) / sum(n for n, _ in parts)

    def _share(self, place: Place, lesions: Iterable[Lesion]) -> float:
        return covered_share(place, [each.place for each in lesions], self.spacing_mm, self.rules.dilate_mm)


def overlaps(tracks: list[Track], last: Mapping[int, Place], lesions: list[Lesion]) -> tuple[np.ndarray, np.ndarray]:
    """Return the weight of each pair of track and lesion, and their overlap coefficient; (n_tracks, n_lesions)."""
    weight, overlap = np.zeros((2, len(tracks), len(lesions)))
    for i, track in enumerate(tracks):
        mine = last[track["index"]].flat
        for j, lesion in enumerate(lesions):
            theirs = lesion.place.flat
            common = common_voxels(last[track["index"]], lesion.place)
            if common == 0:
                continue
            overlap[i, j] = common / min(len(mine), len(theirs))
            iou = common / (len(mine) + len(theirs) - common)
            weight[i, j] = overlap[i, j] + IOU_WEIGHT * iou - MISSED_WEIGHT * track["sessions_missed"]
    return weight, overlap


def gather_lesions(instances: Image, table: pd.DataFrame) -> list[Lesion]:
    """Gather lesions, large ones first, then by place: an order that labels have no part in."""
    data = np.asarray(instances.data)
    flat = np.flatnonzero(data)
    labels = data.ravel()[flat]
    lacking = set(np.unique(labels).tolist()) ^ {int(label) for label in table["instance"]}
    if lacking:
        raise InputError(
            "lesions and their measurements",
            found=f"label {', '.join(map(str, sorted(lacking)))} in one of them only",
            expected="the same lesions in the map and in the table",
            advice="Run measure and match again, from the same segmentation.",
            reason=Reason.LESIONS_DIFFER,
        )
    order = np.argsort(labels, kind="stable")
    parts = np.split(flat[order], np.cumsum(np.unique(labels, return_counts=True)[1])[:-1]) if len(flat) else []
    out = []
    rows = table.sort_values("instance").to_dict("records")
    for row, part in zip(rows, parts, strict=True):
        place = Place.of(part, data.shape)
        centre = place.centre_mm(instances.affine)
        may_start = not bool(row["below_birth"])
        out.append(Lesion(int(row["instance"]), row["vol_wl_mm3"], row["ld_mm"], may_start, place, centre))
    return sorted(out, key=lambda each: (-round(each.volume_mm3, 6), *np.round(each.centre_mm, 6)))
