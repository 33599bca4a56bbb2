"""What happens to a track at a session: it goes on, ends in another, starts; and its row in the table of matches.

A track is plain JSON: `matching` lists what is in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mettrail.images import Image
from mettrail.tracking.chords import TOLERANCE
from mettrail.tracking.pairing import Found, Lesion, Rules
from mettrail.tracking.places import Place
from mettrail.tracking.registry import Track, decode_mask, encode_mask, track_name


def continue_track(
    track: Track, found: Found, session: Mapping[str, Any], instances: Image, rules: Rules
) -> dict[str, Any]:
    """Bring a track up to this visit, and say what happened to it."""
    components = [found.lesions[0], *sorted(found.lesions[1:], key=lambda each: -each.volume_mm3)]
    largest = max(components, key=lambda each: (round(each.volume_mm3, 6), each.ld_mm))
    missed = track["sessions_missed"]
    back = 0 < missed <= rules.miss_max_sessions and largest.ld_mm >= rules.miss_ld_frac * track["ld_mm"] - TOLERANCE
    if missed:
        event = "reappeared"
    elif len(components) > track["n_components"] or track["status"] == "merged":
        event = "split"
    else:
        event = "persist"
    flat = np.unique(np.concatenate([each.place.flat for each in components]))
    centre = Place.of(flat, instances.data.shape).centre_mm(instances.affine)
    track |= {
        "status": "present",
        "merged_into": None,
        "last_session": session["session_id"],
        "ref_centroid": centre.tolist(),
        "mask": encode_mask(flat),
        "footprint": encode_mask(np.union1d(decode_mask(track["footprint"]), flat)),
        "volume_mm3": float(sum(each.volume_mm3 for each in components)),
        "ld_mm": float(largest.ld_mm),
        "n_components": len(components),
        "sessions_missed": 0,
    }
    row = row_of(track, "present", event, lesions=components, method=found.method)
    return row | {"sessions_missed": missed, "probable_missed_detection": bool(back)}


def new_track(lesion: Lesion, index: int, session: Mapping[str, Any]) -> Track:
    """Start a track with a lesion."""
    runs = encode_mask(lesion.place.flat)
    return {
        "track_id": track_name(index),
        "index": int(index),
        "status": "present",
        "merged_into": None,
        "first_session": session["session_id"],
        "last_session": session["session_id"],
        "ref_centroid": lesion.centre_mm.tolist(),
        "first_mask": runs,
        "mask": runs,
        "footprint": runs,
        "volume_mm3": float(lesion.volume_mm3),
        "ld_mm": float(lesion.ld_mm),
        "n_components": 1,
        "sessions_missed": 0,
        "absorbed_by": None,
        "cut": False,  # at its last session, from another lesion
    }


def absorb(tracks: list[Track], absorbed: Mapping[int, int]) -> None:
    """Make tracks one with others for good: what they had is the others' now."""
    by_index = {track["index"]: track for track in tracks}
    for index, owner in absorbed.items():
        own, other = by_index[index], by_index[owner]
        own["absorbed_by"] = owner
        merged = np.union1d(decode_mask(own["footprint"]), decode_mask(other["footprint"]))
        other["footprint"] = encode_mask(merged)


def rows_of_absorbed(tracks: list[Track], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of tracks that are one with another: merged while that one is there, else what it is."""
    known = {row["index"]: row for row in rows}
    by_index = {track["index"]: track for track in tracks}
    out = []
    for track in tracks:
        owner = track.get("absorbed_by")
        if owner is None:
            continue
        while by_index[owner].get("absorbed_by") is not None:
            owner = by_index[owner]["absorbed_by"]
        status = known[owner]["status"]
        if status in ("present", "merged"):
            target = known[owner]["merged_into"] if status == "merged" else track_name(owner)
            track |= {"status": "merged", "merged_into": target, "sessions_missed": 0}
            out.append(row_of(track, "merged", "merged_into"))
        elif status == "absent":
            track |= {"status": "absent", "merged_into": None, "sessions_missed": known[owner]["sessions_missed"]}
            out.append(row_of(track, "absent", "absent"))
        else:
            out.append(row_of(track, "not_evaluable", "not_evaluable"))
    return out


def row_of(
    track: Track,
    status: str,
    event: str,
    *,
    lesions: Sequence[Lesion] = (),
    method: str = "none",
    score: float = np.nan,
) -> dict[str, Any]:
    """Make the row of a track at a session."""
    return {
        "track_id": track["track_id"],
        "index": track["index"],
        "status": status,
        "event": event,
        "merged_into": track["merged_into"] if status == "merged" else None,
        "n_components": None if status == "not_evaluable" else len(lesions),
        "match_method": method,
        "match_score": score,
        "components": ";".join(str(each.label) for each in lesions) or None,
        "sessions_missed": track["sessions_missed"],
        "probable_missed_detection": False,
        "weak_match": False,
        "coalesced": False,
        **dict(zip(("centroid_x_ref_mm", "centroid_y_ref_mm", "centroid_z_ref_mm"), track["ref_centroid"])),
    }
