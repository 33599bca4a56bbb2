"""Which lesion of a visit is which lesion of the visits before.

Lesions are compared in the space of the patient's first visit, each visit brought there rigidly and on its own, so
that errors do not add up. Visits are taken in the order of time; all tracks the patient ever had compete at each of
them. What is known of them is the registry, one per visit: made from that of the visit before and this visit's lesions,
and never changed afterwards. So a visit that is appended renumbers nothing.

A registry is plain JSON:

==================  ==================================================================================================
format              4
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
first_session       session at which it was first detected
last_session        session at which it was last detected as a lesion of its own
ref_centroid        its centre then, RAS mm in the reference space
first_mask, mask    voxels when first and when last detected, on the reference grid (`encode_mask`)
footprint           all voxels it ever had
volume_mm3, ld_mm   when last detected, as measured on the scan; the longest diameter is that of its largest component
n_components        components when last detected
sessions_missed     evaluable sessions since then without it
absorbed_by         number of the track it has become one with for good (`cut_shared`), or null
==================  ==================================================================================================
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from mettrail import schema
from mettrail.colours import track_colour
from mettrail.geometry import sphere_diameter_mm
from mettrail.images import Grid, Image
from mettrail.reasons import Reason
from mettrail.tracking.chords import TOLERANCE
from mettrail.tracking.contact import cut_shared, find_shared
from mettrail.tracking.evidence import Evidence, join_evidence
from mettrail.tracking.lesions import measure_instances
from mettrail.tracking.numbering import first_detected, numbers_of_later_sessions, numbers_of_this_session
from mettrail.tracking.pairing import Lesion, Pairing, Rules, gather_lesions, overlaps
from mettrail.tracking.places import Place
from mettrail.tracking.reference import field_of_view, instances_to_reference
from mettrail.tracking.registry import (
    Registry,
    Track,
    as_text,
    close_session,
    component_labels,
    decode_mask,
    new_registry,
    require_grid,
    require_own,
    require_patient,
    track_name,
)
from mettrail.tracking.residual import Residual, estimate_residual
from mettrail.tracking.tracks import absorb, continue_track, new_track, row_of, rows_of_absorbed

# A shift below the reference grid's voxel is in the noise of its masks.
LEAST_RESIDUAL_MM = 1.0
_MEASURED, _MATCHED, _OF_COMPONENTS = (schema.of_stage(stage) for stage in ("measure", "match", "track"))
# Names and types of what the matching says of a track; and of that with what was measured of its components.
MATCH_COLUMNS = {name: schema.DTYPES[c.dtype] for name, c in ({c.name: c for c in schema.WHOSE} | _MATCHED).items()}
TRACK_COLUMNS = MATCH_COLUMNS | {
    name: schema.DTYPES[c.dtype] for name, c in (_MEASURED | _OF_COMPONENTS).items() if name != "instance"
}


def match_lesions(
    instances: Image,
    table: pd.DataFrame,
    registry: Registry | None,
    *,
    session: Mapping[str, Any],
    gap_mm: float,
    vol_ratio_max: float,
    dilate_mm: float,
    frac: float,
    miss_max_sessions: int,
    miss_ld_frac: float,
    field_of_view: Image | None = None,
    frozen: Sequence[Registry] = (),
    config_hash: str = "",
    residual: Residual | None = None,
    cut: Collection[int] = (),
    absorbed: Mapping[int, int] | None = None,
) -> tuple[pd.DataFrame, Registry]:
    """Continue the patient's tracks with the lesions of a visit, and start new ones.

    In this order: overlap with the last mask of a track, one to one; nearness at a like volume, one to one; lesions in
    the footprint of a track are components of it; tracks whose place another track's lesion has taken are merged into
    that; what remains of the tracks is absent, of the lesions new.

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
        A component has this fraction of its volume in the footprint grown by so much; a merged track has this fraction
        of its last mask in the grown lesion.
    miss_max_sessions, miss_ld_frac : int, float
        Absent at so many evaluable visits in a row at most and back with this fraction of its diameter, a lesion was
        most likely missed. Once absent for longer, a track is absent for good and cannot merge any more.
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
        `MATCH_COLUMNS`, one row per track the patient has had so far. `components` are labels of `instances` joined by
        ``;``, the one that carries the track first. `match_score` is the share of the smaller of both masks, last and
        now, that lies within `dilate_mm` of the other; of merged tracks, of its last mask in the other lesion. A
        `weak_match` is below `frac`. What was cut or has merged is `coalesced`, and so is the lesion it has merged
        with. `sessions_missed` counts evaluable sessions without it up to now; in the row of its return, those it was
        absent. `centroid_*_ref_mm` is where it is or was last.
    registry : dict
        Of this visit. The one given stays as it is.

    Raises
    ------
    InputError
        Registry of another patient, a visit that is in the registry already, lesions that are not measured.
    GridMismatchError
        Not the registry's grid.
    """
    rules = Rules(gap_mm, vol_ratio_max, dilate_mm, frac, miss_max_sessions, miss_ld_frac)
    registry = new_registry(instances.grid, session) if registry is None else copy.deepcopy(registry)
    require_own(registry, session)
    for each in frozen:
        require_patient(each, session)
    for each in (registry, *frozen):
        require_grid(each, instances.grid)
    absorb(registry["tracks"], absorbed or {})
    tracks = [track for track in registry["tracks"] if track.get("absorbed_by") is None]
    lesions = gather_lesions(instances, table)
    if session["evaluable"]:
        rows = _match(tracks, lesions, instances, registry, rules, session, frozen, field_of_view, cut)
    else:
        rows = [row_of(track, "not_evaluable", "not_evaluable") for track in tracks]
    rows += rows_of_absorbed(registry["tracks"], rows)
    registry["tracks"].sort(key=lambda t: t["index"])
    owners = {row["merged_into"] for row in rows if row["status"] == "merged"}
    for row in rows:
        touches = row["status"] == "merged" or row["track_id"] in owners
        row["coalesced"] = touches or not set(component_labels(row["components"])).isdisjoint(cut)
    taken = {label for row in rows for label in component_labels(row["components"])}
    close_session(registry, session, table, taken, config_hash)
    registry["residual"] = residual and {"matrix": residual.matrix.tolist(), "shift_mm": residual.shift_mm}
    for row in rows:
        row |= {key: registry[key] for key in ("participant_id", "session_id")}
    matches = pd.DataFrame(rows, columns=list(MATCH_COLUMNS)).astype(MATCH_COLUMNS)
    return matches.sort_values("index", ignore_index=True), registry


def _match(
    tracks: list[Track],
    lesions: list[Lesion],
    instances: Image,
    registry: Registry,
    rules: Rules,
    session: Mapping[str, Any],
    frozen: Sequence[Registry],
    view: Image | None,
    cut: Collection[int],
) -> list[dict[str, Any]]:
    """Pair the lesions of an evaluable session with the tracks; bring these up to it, and return a row for each."""
    shape = instances.data.shape
    last = {track["index"]: Place.of(decode_mask(track["mask"]), shape) for track in tracks}
    first = not any(each["evaluable"] for each in registry["sessions"])
    pairing = Pairing(tracks, lesions, last, np.array(instances.spacing_mm), rules)
    pairing.promised = numbers_of_this_session(lesions, frozen, session, shape)
    pairing.keep_numbers()
    pairing.by_overlap()
    pairing.by_distance(pairing.elsewhere())
    pairing.join_components(shape)
    merged = pairing.find_merged()
    unseen = pairing.outside_view(view)
    pairing.promised |= numbers_of_later_sessions(pairing.open_lesions(), frozen, registry, session, shape, rules)
    rows = []
    for track in tracks:
        index = track["index"]
        if index in pairing.found:
            score = pairing.score(index)
            row = continue_track(track, pairing.found[index], session, instances, rules)
            track["cut"] = not set(component_labels(row["components"])).isdisjoint(cut)
            rows.append(row | {"match_score": score, "weak_match": score < rules.frac - TOLERANCE})
        elif index in merged:
            owner, share = merged[index]
            track |= {"status": "merged", "merged_into": track_name(owner), "sessions_missed": 0}
            rows.append(row_of(track, "merged", "merged_into", score=share))
        elif index in unseen:
            rows.append(row_of(track, "not_evaluable", "not_evaluable"))
        else:
            track |= {"status": "absent", "merged_into": None, "sessions_missed": track["sessions_missed"] + 1}
            rows.append(row_of(track, "absent", "absent"))
    for lesion, index in first_detected(pairing, registry["tracks"], frozen):
        track = new_track(lesion, index, session)
        registry["tracks"].append(track)
        rows.append(row_of(track, "present", "baseline" if first else "new", lesions=[lesion]))
    return rows


def summarise_tracks(matches: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Join matches and measurements: one row per track, as the trajectories have it.

    Volumes, voxels and surface of components are added up, diameters are those of the largest. Sizes of absent and of
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
        `TRACK_COLUMNS`. `ld_components_mm`, for lesions of several components, adds up the diameters of those large
        enough to be lesions of their own; of the largest alone where none is.
    """
    measured = table.set_index("instance")
    rows = []
    for match in matches.to_dict("records"):
        row: dict[str, Any] = {str(name): value for name, value in match.items()}
        if match["status"] == "present":
            row |= _sum_components(measured.loc[component_labels(match["components"])])
        elif match["status"] in ("absent", "merged"):
            row |= {name: c.absent for name, c in _MEASURED.items() if c.absent is not None}
        said = [flag for flag in ("probable_missed_detection", "weak_match", "coalesced") if match[flag] is True]
        row["flags"] = ";".join(filter(None, [as_text(row.get("flags")), *said])) or None
        rows.append(row)
    return pd.DataFrame(rows, columns=list(TRACK_COLUMNS)).astype(TRACK_COLUMNS)


def match_visit(
    instances: Image,
    table: pd.DataFrame,
    registry: Registry | None,
    *,
    session: Mapping[str, Any],
    grid: Grid,
    world: np.ndarray,
    read_scan: Callable[[], tuple[Image, Image, Evidence | None]],
    measure: Mapping[str, Any],
    match: Mapping[str, Any],
    frozen: Sequence[Registry] = (),
    config_hash: str = "",
) -> tuple[pd.DataFrame, pd.DataFrame, Image, Registry]:
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
    match : mapping
        Settings of the block ``match``: those of `match_lesions`; ``residual_…``, those of `estimate_residual`; and
        `merge_policy`, whether lesions that have become one are cut again (`cut_shared`, by `neck_frac`).

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
    limits = {name: match[f"residual_{name}"] for name in ("max_mm", "vol_ratio_max", "spread_mm")}
    world, residual = _undo_residual(instances, table, registry, limits, session=session, grid=grid, world=world)
    known = {
        "session": dict(session) | {"residual_shift_mm": residual and residual.shift_mm},
        "residual": residual,
        "field_of_view": field_of_view(instances.grid, grid, world=world),
        "frozen": frozen,
        "config_hash": config_hash,
        **{each.name: match[each.name] for each in fields(Rules)},
    }
    before = registry
    placed = instances_to_reference(instances, grid, world=world)
    matches, registry = match_lesions(placed, table, before, **known)
    if match["merge_policy"] == "watershed" and before is not None:
        sizes = {name: measure[name] for name in ("birth_mm3", "birth_vox")}
        rules = {name: match[name] for name in ("dilate_mm", "frac", "miss_max_sessions")}
        claims, uncertain = find_shared(placed, matches, before, birth_mm3=sizes["birth_mm3"], **rules)
        parts, cut, absorbed = cut_shared(
            instances,
            claims,
            before,
            uncertain=uncertain,
            crack_mm=match["dilate_mm"],
            neck_frac=match["neck_frac"],
            world=world,
            **sizes,
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


def _undo_residual(
    instances: Image,
    table: pd.DataFrame,
    registry: Registry | None,
    limits: Mapping[str, float],
    *,
    session: Mapping[str, Any],
    grid: Grid,
    world: np.ndarray,
) -> tuple[np.ndarray, Residual | None]:
    """Find the shift that registration has left, and undo it if the lesions then share more of their old places."""
    if registry is None or not session["evaluable"]:
        return world, None
    tracks = [t for t in registry["tracks"] if t["status"] == "present"]
    centres = (
        np.c_[table[["centroid_x_mm", "centroid_y_mm", "centroid_z_mm"]].to_numpy(float), np.ones(len(table))]
        @ np.linalg.inv(world).T
    )
    residual = estimate_residual(
        np.array([t["ref_centroid"] for t in tracks]).reshape(-1, 3),
        np.array([t["volume_mm3"] for t in tracks]),
        centres[:, :3],
        table["vol_wl_mm3"].to_numpy(float),
        **limits,
    )
    if residual is None:
        return world, None

    def shared(world: np.ndarray) -> float:
        last = {t["index"]: Place.of(decode_mask(t["mask"]), grid.shape) for t in tracks}
        lesions = gather_lesions(instances_to_reference(instances, grid, world=world), table)
        weight, _ = overlaps(tracks, last, lesions)
        return float(weight[linear_sum_assignment(weight, maximize=True)].sum())

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
    for index, labels in zip(matches["index"], matches["components"]):
        number[component_labels(labels)] = index
    return np.asarray(number[instances])


def name_tracks(matches: pd.DataFrame) -> pd.DataFrame:
    """Return the lookup table of `relabel_tracks`' map: index, name and colour (#rrggbb) of the tracks in it."""
    present = matches[matches["status"] == "present"]
    table = pd.DataFrame({"index": present["index"], "name": present["track_id"]}).reset_index(drop=True)
    return table.assign(color=[track_colour(name) for name in table["name"]])


def describe_session(
    row: Mapping[str, Any],
    *,
    totals: Mapping[str, Any],
    quality: Mapping[str, Any],
    reference: str,
    reference_session: str,
    brain: Mapping[str, Any] | None = None,
    sequences: Mapping[str, Mapping[str, Any]] | None = None,
    tissue: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
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
    sequences : mapping, optional
        Of each other sequence that networks were given, the ``reason`` to review its registration, or nothing.
    tissue : mapping, optional
        Of the segmentation: ``LesionsInCavities``, the number of connected components that are lesion or resection
        cavity, so that surgery decides; ``LabelsAUC`` and ``LabelsDoubtful``, see `contrast.labels_auc`.
    """
    tissue = tissue or {}
    reason: Reason | None = None
    if row.get("image_quality") == "fail":
        reason = Reason.IMAGE_QUALITY
    elif row.get("contrast") == "false" or not reference.startswith("ce-"):
        reason = Reason.NO_CONTRAST
    elif brain and brain["status"] == "fail":
        reason = Reason.BRAIN_MASK
    elif quality["status"] == "fail":
        reason = Reason.of(quality.get("reason") or Reason.REGISTRATION_FAILED)
    days = row.get("days", "n/a")
    return {
        "participant_id": f"sub-{row['sub']}",
        "session_id": f"ses-{row['ses']}",
        "days": None if days in ("n/a", "", None) else float(days),
        "evaluable": reason is None,
        "ne_reason": reason and reason.value,
        "registration_qc": quality["status"],
        "head_volume_ratio": quality.get("head_volume_ratio"),
        "reference_session": reference_session,
        **(_describe_brain(brain) if brain else {}),
        "labels_auc": tissue.get("LabelsAUC"),
        **totals,
        "flags": [
            *(brain["flags"] if brain else []),
            *(Reason.of(each["reason"]).about(name) for name, each in (sequences or {}).items() if each["reason"]),
            *([quality["reason"]] if quality["status"] == "warn" else []),
            *["labels_doubtful"] * tissue.get("LabelsDoubtful", False),
            *["cavity_review"] * (tissue.get("LesionsInCavities", 0) > 0),
        ],
    }


def _describe_brain(brain: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the sessions' table says of a brain mask."""
    return {name: brain.get(name.removeprefix("brain_")) for name in schema.BRAIN}


def _sum_components(components: pd.DataFrame) -> dict[str, Any]:
    """Measurements of a lesion from those of its components."""
    # Of equally large components the longer one, whatever their numbers.
    largest = components.assign(volume=components["vol_wl_mm3"].round(6)).sort_values(["volume", "ld_mm"]).iloc[-1]
    weights = components["n_voxels"].astype(float) / float(components["n_voxels"].sum())
    row = {name: components[name].sum(skipna=False) for name, c in _MEASURED.items() if c.combine == "sum"}
    row |= {name: largest[name] for name, c in _MEASURED.items() if c.combine == "largest"}
    row |= {
        name: float((components[name] * weights).sum()) for name in ("centroid_x_mm", "centroid_y_mm", "centroid_z_mm")
    }
    lasting = components.loc[~components["below_birth"].astype(bool), "ld_mm"]
    flags = [flag for flags in components["flags"] for flag in as_text(flags).split(";") if flag]
    enhancing = bool(components["enhancing"].astype(bool).any())
    return row | {
        **join_evidence(components, components["n_voxels"].to_numpy()),
        "below_birth": bool(components["below_birth"].astype(bool).all()),
        "enhancing": enhancing,
        "esd_mm": sphere_diameter_mm(row["vol_wl_mm3"]),
        "necrosis_fraction": row["vol_nc_mm3"] / row["vol_wl_mm3"],
        "border_distance_mm": components["border_distance_mm"].min(),
        "touches_border": bool(components["touches_border"].astype(bool).any()),
        "ld_components_mm": (lasting.sum() if len(lasting) else largest["ld_mm"]) if len(components) > 1 else np.nan,
        "flags": ";".join(f for f in dict.fromkeys(flags) if f != "nonenhancing_remnant" or not enhancing) or None,
    }
