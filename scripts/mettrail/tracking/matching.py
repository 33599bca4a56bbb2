"""Which lesion of a visit is which lesion of the visits before.

Lesions are compared in the space of the patient's first visit, each visit brought there rigidly and on its own, so
that errors do not add up. Visits are taken in the order of time; all tracks the patient ever had compete at each of
them. What is known of them is the registry, one per visit: made from that of the visit before and this visit's lesions,
and never changed afterwards. So a visit that is appended renumbers nothing.

A registry is plain JSON:

==================  ==================================================================================================
format              3
participant_id      sub-…
session_id, days    the visit it was made at; days as the cohort table has them, or null
reference           the visit in whose space lesions are compared: ``session_id``, ``shape`` and ``affine`` of its grid
session             facts about the visit: ``evaluable``, ``ne_reason``, ``registration_qc``, ``edema_unassigned_mm3``,
                    ``n_subthreshold``, ``slice_spacing_mm`` …
sessions            all visits so far, in order: ``session_id``, ``days``, ``evaluable``
residual            shift of this visit against the others that was undone: ``matrix`` (points of the reference space
                    to where registration put them) and ``shift_mm``; null where the lesions say nothing
config_hash         settings it was made with
version             of mettrail
tracks              one per lesion, in order of their numbers (below)
==================  ==================================================================================================

and a track:

==================  ==================================================================================================
track_id, index     L001, 1; never reused
status              at the last evaluable visit: present, absent or merged
merged_into         track that has taken it up, or null
born_session        visit at which it was first seen
last_session        visit at which it was last seen as a lesion of its own
ref_centroid        its centre then, RAS mm in the reference space
birth_mask, mask    voxels when first and when last seen, on the reference grid (`encode_mask`)
footprint           all voxels it ever had
volume_mm3, ld_mm   when last seen, as measured on the scan; the longest diameter is that of its largest piece
n_fragments         pieces when last seen
sessions_missed     evaluable visits since then without it
absorbed_by         number of the track it has become one with for good (`cut_shared`), or null
==================  ==================================================================================================
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from mettrail import schema
from mettrail.errors import InputError
from mettrail.images import Grid, Image
from mettrail.tracking.chords import TOLERANCE
from mettrail.tracking.contact import cut_shared, find_shared
from mettrail.tracking.lesions import (
    DIAMETER_BANDS,
    ENDPOINTS,
    INSTANCE_COLUMNS,
    VOLUME_BANDS,
    Evidence,
    equivalent_diameter_mm,
    join_evidence,
    measure_instances,
)
from mettrail.tracking.places import Place, common_voxels, covered_share, edge_distance_mm, share_within
from mettrail.tracking.reference import field_of_view, instances_to_reference
from mettrail.tracking.registry import (
    as_text,
    close_visit,
    decode_mask,
    encode_mask,
    fragment_labels,
    new_registry,
    require_grid,
    require_own,
    require_patient,
    track_name,
)
from mettrail.tracking.residual import Residual, estimate_residual

# A shift below the reference grid's voxel is in the noise of its masks.
LEAST_RESIDUAL_MM = 1.0
# The overlap coefficient decides (a lesion that shrinks stays inside its old place: 1); these only break ties.
IOU_WEIGHT, MISSED_WEIGHT = 0.01, 0.001
# Same visit segmented again: this much in common makes it the same lesion.
FROZEN_MIN_IOU = 0.5

MATCH_COLUMNS = {
    "participant_id": "str",
    "session_id": "str",
    "track_id": "str",
    "index": "Int64",
    "status": "str",
    "event": "str",
    "merged_into": "str",
    "n_fragments": "Int64",
    "match_method": "str",
    "match_score": "float64",
    "fragments": "str",
    "sessions_missed": "Int64",
    "probable_miss": "boolean",
    "weak_match": "boolean",
    "coalesced": "boolean",
    "cx_ref_mm": "float64",
    "cy_ref_mm": "float64",
    "cz_ref_mm": "float64",
}
_SUMMED = (
    *("n_voxels", "vol_wl_mm3", "vol_et_mm3", "vol_nc_mm3", "vol_ed_mm3", "vol_wl_ml", "surface_mm2"),
    *VOLUME_BANDS,
)
_OF_LARGEST = (
    *("ld_mm", "perp_mm", "bidim_mm2", "ld_feret_mm", "max3d_mm", "extent_z_mm", "n_slices"),
    *("slice_spacing_mm", "ld_slice", *ENDPOINTS, *DIAMETER_BANDS, "bbox_x_vox", "bbox_y_vox", "bbox_z_vox"),
)
_ZERO_IF_GONE = (
    *(name for name in _SUMMED if name not in VOLUME_BANDS),
    *("ld_mm", "perp_mm", "bidim_mm2", "ld_feret_mm", "max3d_mm", "extent_z_mm", "n_slices", "esd_mm"),
)
TRACK_COLUMNS = (
    MATCH_COLUMNS | {k: v for k, v in INSTANCE_COLUMNS.items() if k != "instance"} | {"ld_fragments_mm": "float64"}
)


@dataclass(frozen=True)
class _Lesion:
    """A lesion of this visit."""

    label: int
    volume_mm3: float
    ld_mm: float
    may_be_born: bool
    place: Place
    centre_mm: np.ndarray


@dataclass(frozen=True)
class _Found:
    """How a track got its lesions: the first carries it, the others are pieces."""

    method: str
    lesions: list[_Lesion]


def match_lesions(
    instances: Image,
    table: pd.DataFrame,
    registry: dict | None,
    *,
    session: Mapping,
    gap_mm: float,
    vol_ratio_max: float,
    dilate_mm: float,
    frac: float,
    miss_max_sessions: int,
    miss_ld_frac: float,
    field_of_view: Image | None = None,
    frozen: Sequence[dict] = (),
    config_hash: str = "",
    residual: Residual | None = None,
    cut: Collection[int] = (),
    absorbed: Mapping[int, int] | None = None,
) -> tuple[pd.DataFrame, dict]:
    """Continue the patient's tracks with the lesions of a visit, and start new ones.

    In this order: overlap with the last mask of a track, one to one; nearness at a like volume, one to one; lesions in
    the footprint of a track are pieces of it; tracks whose place another track's lesion has taken are merged into that;
    what remains of the tracks is absent, of the lesions new.

    Parameters
    ----------
    instances : Image
        Lesions on the patient's reference grid, from `instances_to_reference`.
    table : DataFrame
        Their measurements, from `lesions.measure_instances`. Lesions `below_birth` only continue tracks.
    registry : dict or None
        Of the visit before; None at the first visit.
    session : mapping
        From `describe_session`: at least participant_id, session_id, evaluable.
    gap_mm, vol_ratio_max : float
        Without overlap, lesions match up to this far apart, edge to edge, and up to this ratio of volumes.
    dilate_mm, frac : float
        A piece has this fraction of its volume in the footprint grown by so much; a merged track has this fraction of
        its last mask in the grown lesion.
    miss_max_sessions, miss_ld_frac : int, float
        Absent at so many evaluable visits in a row at most and back with this fraction of its diameter, a lesion was
        most likely missed. Once absent for longer, a track is gone and cannot merge any more.
    field_of_view : Image, optional
        Where on the reference grid this visit has data; from `field_of_view`. Tracks outside are not evaluable.
    frozen : sequence of dict
        Registries of the patient from an earlier run, whose numbers are to be kept: a lesion that the same visit had
        there keeps its number; one of a visit that is late in coming gets the number that later visits gave it.
    config_hash : str
        Remembered in the registry.
    residual : Residual, optional
        What was undone of this visit's registration; remembered in the registry.
    cut : collection of int
        Labels of parts that were cut from one lesion (`cut_shared`).
    absorbed : dict of int to int, optional
        Numbers of tracks that are one with another from this visit on (`cut_shared`). They do not compete any more, and
        where they were belongs to the other.

    Returns
    -------
    matches : DataFrame
        `MATCH_COLUMNS`, one row per track the patient has had so far. `fragments` are labels of `instances` joined by
        ``;``, the one that carries the track first. `match_score` is the share of the smaller of both masks, last and
        now, that lies within `dilate_mm` of the other; of merged tracks, of its last mask in the other lesion. A
        `weak_match` is below `frac`. What was cut or has merged is `coalesced`, and so is the lesion it has merged
        with. `sessions_missed`
        counts evaluable visits without it up to now; in the row of its return, those it was away. `c*_ref_mm` is
        where it is or was last.
    registry : dict
        Of this visit. The one given stays as it is.

    Raises
    ------
    InputError
        Registry of another patient, a visit that is in the registry already, lesions that are not measured.
    GridMismatchError
        Not the registry's grid.
    """
    registry = new_registry(instances.grid, session) if registry is None else copy.deepcopy(registry)
    require_own(registry, session)
    for each in frozen:
        require_patient(each, session)
    for each in (registry, *frozen):
        require_grid(each, instances.grid)
    _absorb(registry["tracks"], absorbed or {})
    tracks = [track for track in registry["tracks"] if track.get("absorbed_by") is None]
    lesions = _lesions(instances, table)
    spacing, shape = np.array(instances.spacing_mm), instances.data.shape
    evaluable = bool(session["evaluable"])
    first = not any(each["evaluable"] for each in registry["sessions"])
    found: dict[int, _Found] = {}
    merged: dict[int, tuple[int, float]] = {}
    unseen: set[int] = set()
    ids: dict[int, int] = {}

    if evaluable:
        last = {t["index"]: Place.of(decode_mask(t["mask"]), shape) for t in tracks}
        ids = _numbers_of_this_visit(lesions, frozen, session, shape)
        for lesion in lesions:
            if ids.get(lesion.label) in last:
                found[ids[lesion.label]] = _Found("overlap", [lesion])
        _match_by_overlap(found, tracks, last, _open(lesions, found, ids))
        aside = _elsewhere(_open(lesions, found, ids), last, spacing, frac)
        _match_by_distance(found, tracks, last, aside, spacing, gap_mm, vol_ratio_max)
        _join_pieces(found, tracks, _open(lesions, found, ids), shape, spacing, dilate_mm, frac)
        merged = _find_merged(found, tracks, last, spacing, dilate_mm, frac, miss_max_sessions)
        unseen = _outside_view(last, field_of_view, frac)
        ids |= _numbers_of_later_visits(
            _open(lesions, found, ids), frozen, registry, session, shape, gap_mm, vol_ratio_max
        )
    rows = []
    for track in tracks:
        index = track["index"]
        if not evaluable:
            rows.append(_row(track, "not_evaluable", "not_evaluable"))
        elif index in found:
            score = _likeness(last[index], found[index].lesions, spacing, dilate_mm)
            row = _continue(track, found[index], session, instances, miss_max_sessions, miss_ld_frac)
            track["cut"] = not set(fragment_labels(row["fragments"])).isdisjoint(cut)
            rows.append(row | {"match_score": score, "weak_match": score < frac - TOLERANCE})
        elif index in merged:
            owner, share = merged[index]
            track |= {"status": "merged", "merged_into": track_name(owner), "sessions_missed": 0}
            rows.append(_row(track, "merged", "merged_into", score=share))
        elif index in unseen:
            rows.append(_row(track, "not_evaluable", "not_evaluable"))
        else:
            track |= {"status": "absent", "merged_into": None, "sessions_missed": track["sessions_missed"] + 1}
            rows.append(_row(track, "absent", "absent"))
    if evaluable:
        for lesion, index in _births(lesions, found, ids, registry["tracks"], frozen):
            track = _new_track(lesion, index, session)
            registry["tracks"].append(track)
            rows.append(_row(track, "present", "baseline" if first else "new", lesions=[lesion]))
    rows += _rows_of_absorbed(registry["tracks"], rows)
    registry["tracks"].sort(key=lambda t: t["index"])
    owners = {row["merged_into"] for row in rows if row["status"] == "merged"}
    for row in rows:
        row["coalesced"] = (
            row["status"] == "merged"
            or row["track_id"] in owners
            or not set(fragment_labels(row["fragments"])).isdisjoint(cut)
        )
    taken = {int(label) for row in rows for label in (row["fragments"] or "").split(";") if label}
    close_visit(registry, session, table, taken, config_hash)
    registry["residual"] = residual and {"matrix": residual.matrix.tolist(), "shift_mm": residual.shift_mm}
    for row in rows:
        row |= {key: registry[key] for key in ("participant_id", "session_id")}
    matches = pd.DataFrame(rows, columns=list(MATCH_COLUMNS)).astype(MATCH_COLUMNS)
    return matches.sort_values("index", ignore_index=True), registry


def summarise_tracks(matches: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Join matches and measurements: one row per track, as the trajectories have it.

    Volumes, voxels and surface of pieces are added up, diameters are those of the largest piece. Sizes of absent and of
    merged tracks are 0 (the other track carries the size of both), of those that are not evaluable missing.

    Parameters
    ----------
    matches : DataFrame
        From `match_lesions`.
    table : DataFrame
        From `lesions.measure_instances`, of the same visit.

    Returns
    -------
    DataFrame
        `TRACK_COLUMNS`. `ld_fragments_mm`, for lesions in pieces, adds up the diameters of pieces large enough to be
        lesions of their own; of the largest alone where none is.
    """
    measured = table.set_index("instance")
    rows = []
    for match in matches.to_dict("records"):
        row = dict(match)
        if match["status"] == "present":
            row |= _sum_pieces(measured.loc[fragment_labels(match["fragments"])])
        elif match["status"] in ("absent", "merged"):
            row |= dict.fromkeys(_ZERO_IF_GONE, 0)
        said = [flag for flag in ("probable_miss", "weak_match", "coalesced") if match[flag] is True]
        row["flags"] = ";".join(filter(None, [as_text(row.get("flags")), *said])) or None
        rows.append(row)
    return pd.DataFrame(rows, columns=list(TRACK_COLUMNS)).astype(TRACK_COLUMNS)


def match_visit(
    instances: Image,
    table: pd.DataFrame,
    registry: dict | None,
    *,
    session: Mapping,
    grid: Grid,
    world: np.ndarray,
    read_scan: Callable[[], tuple[Image, Image, Evidence | None]],
    measure: Mapping,
    merge_policy: str,
    frozen: Sequence[dict] = (),
    config_hash: str = "",
    **settings,
) -> tuple[pd.DataFrame, pd.DataFrame, Image, dict]:
    """Match the lesions of a visit as they lie in its scan.

    Parameters
    ----------
    instances : Image
        Lesions on the scan's own grid.
    table, registry, session, frozen, config_hash
        As for `match_lesions`.
    grid : Grid
        Of the patient's reference space.
    world : (4, 4) float
        Points of the reference space to points of the scan, RAS mm.
    read_scan : function
        Returns tissue labels, brain mask and evidence on the scan's own grid. Called, with `measure`, where lesions are
        cut only.
    measure : mapping
        Settings of `lesions.measure_instances`.
    merge_policy : {'coalesced', 'watershed'}
        Whether lesions that have become one are cut again (`cut_shared`).
    **settings
        The others of `match_lesions`.

    Returns
    -------
    tracks : DataFrame
        From `summarise_tracks`.
    matches : DataFrame
        From `match_lesions`.
    instances : Image
        The lesions that `matches` names: those given, or their parts.
    registry : dict
        Of this visit.
    """
    world, residual = _undo_residual(instances, table, registry, session=session, grid=grid, world=world)
    known = {
        "session": session | {"residual_shift_mm": residual and residual.shift_mm},
        "residual": residual,
        "field_of_view": field_of_view(instances.grid, grid, world=world),
        "frozen": frozen,
        "config_hash": config_hash,
        **settings,
    }
    before = registry
    placed = instances_to_reference(instances, grid, world=world)
    matches, registry = match_lesions(placed, table, before, **known)
    if merge_policy == "watershed" and before is not None:
        sizes = {name: measure[name] for name in ("birth_mm3", "birth_vox")}
        rules = {name: settings[name] for name in ("dilate_mm", "frac", "miss_max_sessions")}
        claims, uncertain = find_shared(placed, matches, before, birth_mm3=sizes["birth_mm3"], **rules)
        parts, cut, absorbed = cut_shared(
            instances, claims, before, uncertain=uncertain, crack_mm=settings["dilate_mm"], world=world, **sizes
        )
        if cut:
            instances = Image(parts, instances.affine)
            tissue, brain, evidence = read_scan()
            table, _ = measure_instances(
                parts, tissue.data, affine=tissue.affine, brain=brain.data > 0, evidence=evidence, **measure
            )
            placed = instances_to_reference(instances, grid, world=world)
        if cut or absorbed:
            matches, registry = match_lesions(placed, table, before, cut=cut, absorbed=absorbed, **known)
    return summarise_tracks(matches, table), matches, instances, registry


def _undo_residual(instances, table, registry, *, session, grid, world) -> tuple[np.ndarray, Residual | None]:
    """Find the shift that registration has left, and undo it if the lesions then share more of their old places."""
    if registry is None or not session["evaluable"]:
        return world, None
    tracks = [t for t in registry["tracks"] if t["status"] == "present"]
    centres = np.c_[table[["cx_mm", "cy_mm", "cz_mm"]].to_numpy(float), np.ones(len(table))] @ np.linalg.inv(world).T
    residual = estimate_residual(
        np.array([t["ref_centroid"] for t in tracks]).reshape(-1, 3),
        np.array([t["volume_mm3"] for t in tracks]),
        centres[:, :3],
        table["vol_wl_mm3"].to_numpy(float),
    )
    if residual is None:
        return world, None

    def shared(world):
        last = {t["index"]: Place.of(decode_mask(t["mask"]), grid.shape) for t in tracks}
        lesions = _lesions(instances_to_reference(instances, grid, world=world), table)
        weight, _ = _overlaps(tracks, last, lesions)
        return weight[linear_sum_assignment(weight, maximize=True)].sum()

    undone = world @ residual.matrix
    if residual.shift_mm >= LEAST_RESIDUAL_MM and shared(undone) > shared(world) + TOLERANCE:
        return undone, residual
    return world, replace(residual, matrix=np.eye(4))


def relabel_tracks(instances: np.ndarray, matches: pd.DataFrame) -> np.ndarray:
    """Give every lesion the number of its track; what has no track becomes background.

    Parameters
    ----------
    instances : (X, Y, Z) int
        On the scan's own grid.
    matches : DataFrame
        From `match_lesions`.

    Returns
    -------
    (X, Y, Z) uint16
    """
    number = np.zeros(int(instances.max(initial=0)) + 1, np.uint16)
    for index, fragments in zip(matches["index"], matches["fragments"]):
        number[fragment_labels(fragments)] = index
    return number[instances]


def name_tracks(matches: pd.DataFrame) -> pd.DataFrame:
    """Return the lookup table of `relabel_tracks`' map: index and name of the tracks that are in it."""
    present = matches[matches["status"] == "present"]
    return pd.DataFrame({"index": present["index"], "name": present["track_id"]}).reset_index(drop=True)


def describe_session(
    row: Mapping,
    *,
    totals: Mapping,
    quality: Mapping,
    reference: str,
    reference_session: str,
    brain: Mapping | None = None,
) -> dict:
    """Gather what the registry keeps of a visit, and whether lesions can be compared at it at all.

    Parameters
    ----------
    row : mapping
        The visit in the cohort table; texts, ``n/a`` for what is missing.
    totals : mapping
        Session part of `lesions.measure_instances`.
    quality : mapping
        ``status`` and ``reason`` of the registration to the reference space.
    reference : str
        The image lesions are measured on. RANO-BM needs contrast: without it, nothing is evaluable.
    reference_session : str
        The visit in whose space lesions are compared.
    brain : mapping, optional
        Quality of the brain mask, from `brain.extract_brain`; None where it is not known.
    """
    reason = None
    if row.get("image_quality") == "fail":
        reason = "image_quality"
    elif row.get("contrast") == "false" or not reference.startswith("ce-"):
        reason = "no_contrast"
    elif brain and brain["status"] == "fail":
        reason = "brain_mask"
    elif quality["status"] == "fail":
        reason = quality.get("reason") or "registration_failed"
    days = row.get("days", "n/a")
    return {
        "participant_id": f"sub-{row['sub']}",
        "session_id": f"ses-{row['ses']}",
        "days": None if days in ("n/a", "", None) else float(days),
        "evaluable": reason is None,
        "ne_reason": reason,
        "registration_qc": quality["status"],
        "reference_session": reference_session,
        **(_describe_brain(brain) if brain else {}),
        **totals,
    }


def _describe_brain(brain: Mapping) -> dict:
    """Return what the sessions' table says of a brain mask."""
    known = {name: brain.get(name.removeprefix("brain_")) for name in schema.BRAIN}
    return known | {"flags": list(brain["flags"])}


def _match_by_overlap(found, tracks, last, lesions) -> None:
    """Pair tracks and lesions that share voxels, as much as can be had in all."""
    tracks = [t for t in tracks if t["index"] not in found]
    if not tracks or not lesions:
        return
    weight, overlap = _overlaps(tracks, last, lesions)
    for i, j in zip(*linear_sum_assignment(weight, maximize=True)):
        # An assignment is complete; pairs that share nothing are no pairs.
        if overlap[i, j] > 0:
            found[tracks[i]["index"]] = _Found("overlap", [lesions[j]])


def _overlaps(tracks, last, lesions) -> tuple[np.ndarray, np.ndarray]:
    """Weight of each pair of track and lesion, and their overlap coefficient; (n_tracks, n_lesions)."""
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


def _match_by_distance(found, tracks, last, lesions, spacing, gap_mm, vol_ratio_max) -> None:
    """Pair what is left with what is near and of like size: small lesions that registration has moved aside."""
    tracks = [t for t in tracks if t["index"] not in found]
    if not tracks or not lesions:
        return
    gaps = np.full((len(tracks), len(lesions)), np.inf)
    for i, track in enumerate(tracks):
        for j, lesion in enumerate(lesions):
            small, large = sorted((track["volume_mm3"], lesion.volume_mm3))
            if large <= vol_ratio_max * small * (1 + TOLERANCE):
                gaps[i, j] = edge_distance_mm(last[track["index"]], lesion.place, spacing, gap_mm)
    # Impossible pairs cost more than all possible ones together.
    never = (len(tracks) + 1) * (gap_mm + 1)
    possible = gaps <= gap_mm + TOLERANCE
    for i, j in zip(*linear_sum_assignment(np.where(possible, gaps, never))):
        if possible[i, j]:
            found[tracks[i]["index"]] = _Found("gap", [lesions[j]])


def _elsewhere(lesions, last, spacing, frac) -> list:
    """Lesions that do not lie where a track was: what does is a part of that track, not another one moved aside."""
    return [
        each for each in lesions if not any(share_within(each.place, it, spacing, 0) >= frac for it in last.values())
    ]


def _join_pieces(found, tracks, lesions, shape, spacing, dilate_mm, frac) -> None:
    """Give lesions that lie where a track has been to that track: parts of it, or its return at the old rim."""
    footprints = [(t["index"], Place.of(decode_mask(t["footprint"]), shape)) for t in tracks] if lesions else []
    for lesion in lesions:
        shares = [(share_within(lesion.place, place, spacing, dilate_mm), -index) for index, place in footprints]
        share, index = max(shares, default=(0.0, 0))
        if share < frac - TOLERANCE:
            continue
        if -index in found:
            found[-index].lesions.append(lesion)
        else:
            found[-index] = _Found("split", [lesion])


def _find_merged(found, tracks, last, spacing, dilate_mm, frac, miss_max_sessions) -> dict:
    """Tracks without a lesion whose place another track's lesion has taken: owner and fraction."""
    merged = {}
    for track in tracks:
        if track["index"] in found or track["sessions_missed"] > miss_max_sessions:
            continue
        shares = [
            (_share_of_many(last[track["index"]], each.lesions, spacing, dilate_mm), -owner)
            for owner, each in found.items()
        ]
        share, owner = max(shares, default=(0.0, 0))
        if share >= frac - TOLERANCE:
            merged[track["index"]] = (-owner, share)
    return merged


def _outside_view(last, view, frac) -> set:
    """Tracks whose place this visit does not show."""
    if view is None:
        return set()
    return {index for index, place in last.items() if view.data.ravel()[place.flat].mean() < frac - TOLERANCE}


def _numbers_of_this_visit(lesions, frozen, session, shape) -> dict:
    """Numbers that lesions of this visit had in an earlier run: {label: number}."""
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


def _numbers_of_later_visits(lesions, frozen, registry, session, shape, gap_mm, vol_ratio_max) -> dict:
    """Numbers that an earlier run gave, at the next visit it knew, to lesions of a visit it did not know."""
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
    found: dict[int, _Found] = {}
    _match_by_overlap(found, tracks, places, lesions)
    _match_by_distance(found, tracks, places, _open(lesions, found, {}), spacing, gap_mm, vol_ratio_max)
    return {each.lesions[0].label: index for index, each in found.items()}


def _seen_at(registry, session_id) -> list:
    return [t for t in registry["tracks"] if t["last_session"] == session_id and t["status"] == "present"]


def _births(lesions, found, ids, tracks, frozen):
    """Lesions that start tracks, with their numbers: large ones first, then by place."""
    taken = {lesion.label for each in found.values() for lesion in each.lesions}
    known = [*tracks, *(track for each in frozen for track in each["tracks"])]
    numbers = itertools.count(max((t["index"] for t in known), default=0) + 1)
    for lesion in lesions:
        if lesion.label not in taken and lesion.may_be_born:
            yield lesion, ids[lesion.label] if lesion.label in ids else next(numbers)


def _open(lesions, found, ids) -> list:
    """Lesions not yet given to a track, nor promised a number."""
    taken = {lesion.label for each in found.values() for lesion in each.lesions}
    return [lesion for lesion in lesions if lesion.label not in taken and lesion.label not in ids]


def _lesions(instances: Image, table: pd.DataFrame) -> list[_Lesion]:
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
            reason="lesions_differ",
        )
    order = np.argsort(labels, kind="stable")
    parts = np.split(flat[order], np.cumsum(np.unique(labels, return_counts=True)[1])[:-1]) if len(flat) else []
    out = []
    rows = table.sort_values("instance").to_dict("records")
    for row, part in zip(rows, parts, strict=True):
        place = Place.of(part, data.shape)
        centre = place.centre_mm(instances.affine)
        born = not bool(row["below_birth"])
        out.append(_Lesion(int(row["instance"]), row["vol_wl_mm3"], row["ld_mm"], born, place, centre))
    return sorted(out, key=lambda each: (-round(each.volume_mm3, 6), *np.round(each.centre_mm, 6)))


def _continue(track, found, session, instances, miss_max_sessions, miss_ld_frac) -> dict:
    """Bring a track up to this visit, and say what happened to it."""
    pieces = [found.lesions[0], *sorted(found.lesions[1:], key=lambda each: -each.volume_mm3)]
    largest = max(pieces, key=lambda each: (round(each.volume_mm3, 6), each.ld_mm))
    missed = track["sessions_missed"]
    back = 0 < missed <= miss_max_sessions and largest.ld_mm >= miss_ld_frac * track["ld_mm"] - TOLERANCE
    if missed:
        event = "reappeared"
    elif len(pieces) > track["n_fragments"] or track["status"] == "merged":
        event = "split"
    else:
        event = "persist"
    flat = np.unique(np.concatenate([each.place.flat for each in pieces]))
    centre = Place.of(flat, instances.data.shape).centre_mm(instances.affine)
    track |= {
        "status": "present",
        "merged_into": None,
        "last_session": session["session_id"],
        "ref_centroid": centre.tolist(),
        "mask": encode_mask(flat),
        "footprint": encode_mask(np.union1d(decode_mask(track["footprint"]), flat)),
        "volume_mm3": float(sum(each.volume_mm3 for each in pieces)),
        "ld_mm": float(largest.ld_mm),
        "n_fragments": len(pieces),
        "sessions_missed": 0,
    }
    row = _row(track, "present", event, lesions=pieces, method=found.method)
    return row | {"sessions_missed": missed, "probable_miss": bool(back)}


def _new_track(lesion: _Lesion, index: int, session: Mapping) -> dict:
    runs = encode_mask(lesion.place.flat)
    return {
        "track_id": track_name(index),
        "index": int(index),
        "status": "present",
        "merged_into": None,
        "born_session": session["session_id"],
        "last_session": session["session_id"],
        "ref_centroid": lesion.centre_mm.tolist(),
        "birth_mask": runs,
        "mask": runs,
        "footprint": runs,
        "volume_mm3": float(lesion.volume_mm3),
        "ld_mm": float(lesion.ld_mm),
        "n_fragments": 1,
        "sessions_missed": 0,
        "absorbed_by": None,
        "cut": False,  # at its last visit, from another lesion
    }


def _absorb(tracks: list[dict], absorbed: Mapping[int, int]) -> None:
    """Make tracks one with others for good: what they had is the others' now."""
    by_index = {track["index"]: track for track in tracks}
    for index, owner in absorbed.items():
        own, other = by_index[index], by_index[owner]
        own["absorbed_by"] = owner
        merged = np.union1d(decode_mask(own["footprint"]), decode_mask(other["footprint"]))
        other["footprint"] = encode_mask(merged)


def _rows_of_absorbed(tracks, rows) -> list[dict]:
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
            out.append(_row(track, "merged", "merged_into"))
        elif status == "absent":
            track |= {"status": "absent", "merged_into": None, "sessions_missed": known[owner]["sessions_missed"]}
            out.append(_row(track, "absent", "absent"))
        else:
            out.append(_row(track, "not_evaluable", "not_evaluable"))
    return out


def _row(track, status, event, *, lesions=(), method="none", score=np.nan) -> dict:
    return {
        "track_id": track["track_id"],
        "index": track["index"],
        "status": status,
        "event": event,
        "merged_into": track["merged_into"] if status == "merged" else None,
        "n_fragments": None if status == "not_evaluable" else len(lesions),
        "match_method": method,
        "match_score": score,
        "fragments": ";".join(str(each.label) for each in lesions) or None,
        "sessions_missed": track["sessions_missed"],
        "probable_miss": False,
        "weak_match": False,
        "coalesced": False,
        **dict(zip(("cx_ref_mm", "cy_ref_mm", "cz_ref_mm"), track["ref_centroid"])),
    }


def _likeness(last: Place, lesions: list[_Lesion], spacing, dilate_mm) -> float:
    """Share of the smaller of a track's last mask and its lesions now that lies near the other."""
    now = np.unique(np.concatenate([each.place.flat for each in lesions]))
    if len(last.flat) <= len(now):
        return _share_of_many(last, lesions, spacing, dilate_mm)
    parts = [(len(each.place.flat), share_within(each.place, last, spacing, dilate_mm)) for each in lesions]
    return sum(n * share for n, share in parts) / sum(n for n, _ in parts)


def _share_of_many(a: Place, lesions: list[_Lesion], spacing, grow_mm) -> float:
    return covered_share(a, [each.place for each in lesions], spacing, grow_mm)


def _sum_pieces(pieces: pd.DataFrame) -> dict:
    """Measurements of a lesion from those of its pieces."""
    # Of equally large pieces the longer one, whatever their numbers.
    largest = pieces.assign(volume=pieces["vol_wl_mm3"].round(6)).sort_values(["volume", "ld_mm"]).iloc[-1]
    weights = pieces["n_voxels"].astype(float) / float(pieces["n_voxels"].sum())
    row = {name: pieces[name].sum(skipna=False) for name in _SUMMED} | {name: largest[name] for name in _OF_LARGEST}
    row |= {name: float((pieces[name] * weights).sum()) for name in ("cx_mm", "cy_mm", "cz_mm")}
    lasting = pieces.loc[~pieces["below_birth"].astype(bool), "ld_mm"]
    flags = [flag for flags in pieces["flags"] for flag in as_text(flags).split(";") if flag]
    enhancing = bool(pieces["enhancing"].astype(bool).any())
    return row | {
        **join_evidence(pieces, pieces["n_voxels"]),
        "below_birth": bool(pieces["below_birth"].astype(bool).all()),
        "enhancing": enhancing,
        "esd_mm": equivalent_diameter_mm(row["vol_wl_mm3"]),
        "necrosis_fraction": row["vol_nc_mm3"] / row["vol_wl_mm3"],
        "border_distance_mm": pieces["border_distance_mm"].min(),
        "touches_border": bool(pieces["touches_border"].astype(bool).any()),
        "ld_fragments_mm": (lasting.sum() if len(lasting) else largest["ld_mm"]) if len(pieces) > 1 else np.nan,
        "flags": ";".join(f for f in dict.fromkeys(flags) if f != "nonenhancing_remnant" or not enhancing) or None,
    }
