"""Numbers of lesions: those that an earlier run gave are kept, others are new."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from mettrail.tracking.chords import TOLERANCE
from mettrail.tracking.pairing import Lesion, Pairing, Rules
from mettrail.tracking.places import Place, common_voxels
from mettrail.tracking.registry import Registry, Track, decode_mask

# Same session segmented again: this much in common makes it the same lesion.
FROZEN_MIN_IOU = 0.5


def numbers_of_this_session(
    lesions: list[Lesion], frozen: Sequence[Registry], session: Mapping[str, Any], shape: tuple[int, ...]
) -> dict[int, int]:
    """Return the numbers that lesions of this session had in an earlier run: {label: number}."""
    own = next((each for each in frozen if each["session_id"] == session["session_id"]), None)
    tracks = _seen_at(own, session["session_id"]) if own else []
    if not tracks or not lesions:
        return {}
    iou = np.zeros((len(tracks), len(lesions)))
    for i, track in enumerate(tracks):
        place = Place.of(decode_mask(track["mask"]), shape)
        for j, lesion in enumerate(lesions):
            common = common_voxels(place, lesion.place)
            iou[i, j] = common / (len(place.flat) + len(lesion.place.flat) - common)
    pairs = zip(*linear_sum_assignment(iou, maximize=True))
    return {lesions[j].label: tracks[i]["index"] for i, j in pairs if iou[i, j] >= FROZEN_MIN_IOU - TOLERANCE}


def numbers_of_later_sessions(
    lesions: list[Lesion],
    frozen: Sequence[Registry],
    registry: Registry,
    session: Mapping[str, Any],
    shape: tuple[int, ...],
    rules: Rules,
) -> dict[int, int]:
    """Return the numbers that an earlier run gave, at the next session it knew, to lesions of one it did not know."""
    done = {each["session_id"] for each in registry["sessions"]}
    if any(each["session_id"] == session["session_id"] for each in frozen):
        return {}
    later = [each for each in frozen if each["session_id"] not in done and each["session"]["evaluable"]]
    if not later:
        return {}
    following = min(later, key=lambda each: len(each["sessions"]))
    known = {track["index"] for track in registry["tracks"]}
    tracks = [t for t in _seen_at(following, following["session_id"]) if t["index"] not in known]
    places = {t["index"]: Place.of(decode_mask(t["mask"]), shape) for t in tracks}
    spacing = np.linalg.norm(np.array(registry["reference"]["affine"])[:3, :3], axis=0)
    pairing = Pairing(tracks, lesions, places, spacing, rules)
    pairing.by_overlap()
    pairing.by_distance(pairing.open_lesions())
    return {each.lesions[0].label: index for index, each in pairing.found.items()}


def _seen_at(registry: Registry, session_id: str) -> list[Track]:
    return [t for t in registry["tracks"] if t["last_session"] == session_id and t["status"] == "present"]


def first_detected(pairing: Pairing, tracks: list[Track], frozen: Sequence[Registry]) -> Iterator[tuple[Lesion, int]]:
    """Yield lesions that start tracks, with their numbers: large ones first, then by place."""
    taken = {lesion.label for each in pairing.found.values() for lesion in each.lesions}
    known = [*tracks, *(track for each in frozen for track in each["tracks"])]
    numbers = itertools.count(max((t["index"] for t in known), default=0) + 1)
    for lesion in pairing.lesions:
        if lesion.label not in taken and lesion.may_start:
            promised = pairing.promised.get(lesion.label)
            yield lesion, next(numbers) if promised is None else promised
