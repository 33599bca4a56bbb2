"""The library's answers on patients whose truth is known, held against it: who is who, what happened, how it responds.

`follow` runs the library from masks to tables. `compare` counts: it knows a lesion by the voxels that its track shares
with the true one. The truth is the oracle's (`tests/oracle`), which shares no code with the library.

Where lesions are one mass, their sizes depend on where it is cut, which the truth does not prescribe. So responses are
judged twice: from the true sizes (the same but where a cut decides), and from the sizes that the library has (always
the same).
"""

from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
from conftest import shipped_config
from mettrail import cohort
from mettrail.images import Grid, Image, canonical_grid
from mettrail.response import rano
from mettrail.response.rules import Rules
from mettrail.tracking.follow import SegmentedVisit, follow_patient
from oracle import cases, diameters, fields, patients, response
from scipy.optimize import linear_sum_assignment

CONFIG = shipped_config()
RULES = Rules.of(rano=CONFIG["rano"], volume=CONFIG["volume"])
EVENTS = {"new": "new", "absent": "gone", "split": "split", "reappeared": "back"}
# Every cell of a session that follows from the criteria.
RESPONSES = (
    "response_imaging_prospective", "response_imaging_final", "response_overall_prospective", "response_overall_final",
    "response_imaging_continued", "response_overall_continued", "response_volumetric_prospective",
    "response_volumetric_final", "target_response", "target_response_continued", "nontarget_response", "new_lesion",
    "steroid_status", "confirmed", "session_role", "pd_reason",
)  # fmt: skip
SUMS = (
    "sum_ld_mm", "reference_sum_ld_mm", "nadir_sum_ld_mm", "sum_ld_final_mm", "sum_vol_target_ml", "sum_vol_target_final_ml",
    "sum_ld_change_baseline_pct", "sum_ld_change_nadir_pct",
)  # fmt: skip
PATIENT = (
    "baseline_session", "baseline_flag", "best_response", "best_response_day", "best_response_confirmed", "progressed",
    "progression_day", "time_to_progression_days", "ttp_event", "n_new_total", "best_response_volumetric",
)  # fmt: skip


@dataclass
class Found:
    """What the library makes of a patient: its three tables, a map of track numbers per session, and what it had.

    `tracks` and `comparisons` are what the matching wrote and the response was assessed from.
    """

    lesions: pd.DataFrame
    sessions: pd.DataFrame
    patient: pd.Series
    maps: list[np.ndarray]
    tracks: pd.DataFrame
    comparisons: pd.DataFrame


def follow(patient: patients.Patient, tissues=None) -> Found:
    """Run the library on a patient's masks, or on others given in their place.

    Parameters
    ----------
    patient : Patient
    tissues : sequence of (X, Y, Z) int, optional
        Tissue labels per session.
    """
    sub = patient.participant["participant_id"].removeprefix("sub-")
    first = patient.sessions[0]
    grid = canonical_grid(Grid(first.tissue.shape, first.affine))
    visits = []
    for number, session in enumerate(patient.sessions):
        tissue = Image(session.tissue if tissues is None else tissues[number], session.affine)
        brain = Image(np.ones(tissue.data.shape, bool), tissue.affine)
        row = _cohort_row(sub, number, session)
        visits.append(SegmentedVisit(row, tissue, brain, None, {"status": "ok"}, session.to_session))
    followed = follow_patient(visits, config=CONFIG, grid=grid, reference_session=first.session_id)
    found = rano.assess_patient(
        followed.lesions,
        cohort.describe_sessions([visit.row for visit in visits], followed.registries),
        {name: "n/a" if value is None else value for name, value in patient.participant.items()},
        rules=RULES,
        comparisons=followed.compared,
    )
    maps = [labels.data for labels in followed.maps]
    return Found(found[0], found[1], found[2].iloc[0], maps, followed.lesions, followed.compared)


def _cohort_row(sub, number, session):
    row = dict.fromkeys(cohort.columns(CONFIG["sequences"]), "n/a")
    row |= {"sub": sub, "ses": session.session_id.removeprefix("ses-"), "order": str(number + 1), "usable": "true"}
    row |= {"days": str(session.day), "flags": "n/a", "image_quality": "n/a" if session.evaluable else "fail"}
    for name in ("dexamethasone_equiv_mg_per_day", "clinical_status", "clinical_tumour_related"):
        value = getattr(session, name)
        row[name] = "n/a" if value is None else str(value).lower()
    return row


@dataclass
class Score:
    """Counts over patients; `differences` says in words where library and truth part."""

    pairs: Counter = field(default_factory=Counter)  # true, found, right: lesions at sessions
    switches: int = 0
    events: dict = field(default_factory=lambda: defaultdict(Counter))  # event: true, found, right
    cells: dict = field(default_factory=lambda: defaultdict(Counter))  # column: (true value, found value)
    differences: list = field(default_factory=list)
    cut_mm: list = field(default_factory=list)  # diameters of lesions cut from a mass, less the true ones

    def __iadd__(self, other):
        self.pairs.update(other.pairs)
        self.switches += other.switches
        for mine, theirs in ((self.events, other.events), (self.cells, other.cells)):
            for name, counts in theirs.items():
                mine[name].update(counts)
        self.differences += other.differences
        self.cut_mm += other.cut_mm
        return self

    @property
    def identity_f1(self) -> float:
        return 2 * self.pairs["right"] / (self.pairs["true"] + self.pairs["found"])

    def precision(self, event) -> float:
        counts = self.events[event]
        return counts["right"] / counts["found"] if counts["found"] else float("nan")

    def recall(self, event) -> float:
        counts = self.events[event]
        return counts["right"] / counts["true"] if counts["true"] else float("nan")

    def agreement(self, column) -> float:
        counts = self.cells[column]
        return sum(n for (true, found), n in counts.items() if true == found) / counts.total()

    def by_category(self, column) -> pd.DataFrame:
        """Per true category: sessions, and how many the library calls the same."""
        rows = defaultdict(Counter)
        for (true, found), n in self.cells[column].items():
            rows[true]["sessions"] += n
            rows[true]["same"] += n * (true == found)
        return pd.DataFrame({name: dict(counts) for name, counts in sorted(rows.items())}).T[["sessions", "same"]]


def score_patients(n: int, degrade=None) -> Score:
    """Compare library and truth on the first `n` patients, a process per core.

    Parameters
    ----------
    degrade : function, optional
        From a patient and a seed to the tissue labels the library gets instead of the true ones.
    """
    total = Score()
    with ProcessPoolExecutor() as pool:
        for score in pool.map(partial(_score_patient, degrade=degrade), range(n), chunksize=5):
            total += score
    return total


def _score_patient(seed, degrade):
    patient, score = patients.draw_patient(seed), Score()
    tissues = degrade(patient, seed) if degrade else None
    compare(patient, follow(patient, tissues), score, exact=degrade is None)
    return score


def compare(patient, found: Found, score: Score, *, exact: bool) -> None:
    """Add one patient to a score.

    Parameters
    ----------
    exact : bool
        Whether sizes must agree too (true masks), to 0.001 mm.
    """
    who = patient.participant["participant_id"]
    names = [session.session_id for session in patient.sessions]
    true_cells = {(row["session_id"], row["lesion"]): row for row in patient.lesions}
    cells = {(row["session_id"], row["track_id"]): row for row in found.lesions.to_dict("records")}
    shared = shared_voxels(patient, found)

    # Identity: lesions and tracks one to one, as many common sessions as can be had.
    present = {key for key, row in true_cells.items() if row["status"] == "present"}
    seen = {key for key, row in cells.items() if row["status"] == "present"}
    there = {(names[t], lesion): track for t, lesion, track in shared if (names[t], track) in seen}
    lesion_names, tracks = sorted({n for _, n in true_cells}), sorted({n for _, n in cells})
    common = np.zeros((len(lesion_names), len(tracks)))
    for (_, lesion), track in there.items():
        common[lesion_names.index(lesion), tracks.index(track)] += 1
    track_of = {
        lesion_names[i]: tracks[j] for i, j in zip(*linear_sum_assignment(common, maximize=True)) if common[i, j]
    }
    right = sum(track_of.get(lesion) == track for (_, lesion), track in there.items())
    score.pairs.update({"true": len(present), "found": len(seen), "right": right})
    for lesion in lesion_names:
        history = [there[name, lesion] for name in names if (name, lesion) in there]
        score.switches += sum(a != b for a, b in pairwise(history))

    # Events.
    true_events = {(s, track_of.get(n, f"lesion {n}")): row["event"] for (s, n), row in true_cells.items()}
    found_events = {key: row["event"] for key, row in cells.items()}
    for event in EVENTS:
        true = {key for key, value in true_events.items() if value == event}
        ours = {key for key, value in found_events.items() if value == event}
        score.events[event].update({"true": len(true), "found": len(ours), "right": len(true & ours)})
        for key in sorted(true ^ ours):
            score.differences.append(f"{who} {key[0]} {key[1]}: {true_events.get(key)} / {found_events.get(key)}")
    if exact:
        for (session, lesion), row in true_cells.items():
            mine = cells.get((session, track_of.get(lesion)), {})
            sizes = () if row["fused_with"] else ("ld_mm", "vol_wl_mm3", "ld_rano_mm", "ld_source")
            for name in ("status", "n_components", *sizes):
                if not _same(row[name], mine.get(name)) and not (name == "n_components" and not row[name]):
                    score.differences.append(f"{who} {session} {lesion} {name}: {row[name]} / {mine.get(name)}")
            if row["fused_with"]:
                score.cut_mm.append(mine.get("ld_mm", np.nan) - row["ld_mm"])

    # Responses: from the true sizes, and from those the library has.
    # What falls apart is compared with parts of the whole (I2), which the truth does not prescribe either.
    fused = any(row["fused_with"] or (row["n_components"] or 0) > 1 for row in patient.lesions)
    for column, true, ours in _judge(response.assess(patient.case), found):
        score.cells[column][true, ours] += 1
        if exact and not fused and true != ours:
            score.differences.append(f"{who} {column}: {true} / {ours}")
    if exact:
        score.differences += [f"{who} from the same sizes: {line}" for line in check_rules(patient, found)]
        if not fused:
            score.differences += [f"{who} {line}" for line in _compare_sums(response.assess(patient.case), found)]
    targets = set(found.lesions.loc[found.lesions["role"] == "target", "track_id"])
    wanted = {track_of.get(lesion) for lesion in patient.summary["targets"]}
    if targets != wanted:
        score.differences.append(f"{who} targets: {sorted(map(str, wanted))} / {sorted(targets)}")


def _judge(outcome, found):
    """Column, true word and the library's, of every cell that follows from the criteria."""
    rows = found.sessions.set_index("session_id")
    for row in outcome.rows:
        if row["session_role"] == "followup":
            mine = rows.loc[row["session_id"]]
            for name in RESPONSES:
                yield name, _word(row[name]), _word(mine[name])
            review = "nontarget_review" in str(mine["flags"]).split(";")
            yield "nontarget_review", _word(bool(row["nontarget_review"])), _word(review)
    for name in PATIENT:
        yield name, _word(outcome.summary[name]), _word(found.patient[name])


def _compare_sums(outcome, found):
    rows, out = found.sessions.set_index("session_id"), []
    for row in outcome.rows:
        for name in SUMS if row["session_role"] == "followup" else ():
            mine = rows.loc[row["session_id"], name]
            if not _same(row[name], mine):
                out.append(f"{row['session_id']} {name}: {row[name]} / {mine}")
    for name in VELOCITIES:
        if not _same(outcome.summary[name], found.patient[name]):
            out.append(f"{name}: {outcome.summary[name]} / {found.patient[name]}")
    return out


def check_rules(patient, found: Found) -> list[str]:
    """Say where the oracle, given the sizes and comparisons that the library had, answers otherwise."""
    outcome = response.assess(case_of(patient, found))
    words = [f"{name}: {true} / {ours}" for name, true, ours in _judge(outcome, found) if true != ours]
    return words + _compare_sums(outcome, found)


def case_of(patient, found: Found) -> response.Case:
    """What the library's matching says of a patient, as the oracle takes it."""
    order = {session.session_id: s for s, session in enumerate(patient.sessions)}
    cells_of = {number: [None] * len(order) for number in sorted({int(name[1:]) for name in found.tracks["track_id"]})}
    for row in found.tracks.to_dict("records"):
        cell = response.Cell(row["status"])
        if row["status"] == "present":
            voxels = row["n_voxels"]
            cell = response.Cell(
                "present", row["ld_mm"], row["perp_mm"], row["n_slices"],
                (row["bbox_x_vox"], row["bbox_y_vox"], row["bbox_z_vox"]), row["vol_wl_mm3"], row["vol_et_mm3"],
                round(row["vol_et_mm3"] * voxels / row["vol_wl_mm3"]),
                # Only the sum over the pieces is known.
                () if np.isnan(row["ld_components_mm"]) else ((row["ld_components_mm"], row["vol_wl_mm3"]), (0.0, 0.0)),
            )  # fmt: skip
        elif row["status"] == "merged":
            cell = response.Cell("merged", merged_into=int(row["merged_into"][1:]))
        cells_of[int(row["track_id"][1:])][order[row["session_id"]]] = cell
    visits = [
        response.Visit(
            session.day, session.evaluable, session.session_id, session.dexamethasone_equiv_mg_per_day,
            session.clinical_status, session.clinical_tumour_related,
            float(diameters.spacing_of(session.affine)[diameters.axial_axis(session.affine)]),
        )
        for session in patient.sessions
    ]  # fmt: skip
    comparisons = {
        (order[row["session_id"]], order[row["earlier_session_id"]], int(row["track_id"][1:])): response.Pair(
            row["ld_now_mm"], row["ld_then_mm"], 1000 * row["vol_now_ml"], 1000 * row["vol_then_ml"]
        )
        for row in found.comparisons.to_dict("records")
    }
    told = patient.participant
    return response.Case(
        visits, cells_of, told["treatment_start_day"], told["immunotherapy_start_day"], told["treatment_type"],
        comparisons,
    )  # fmt: skip


# Histories without masks: the rules of response alone


def assess_history(history: cases.History) -> Found:
    """Give the library a history as the tables that its matching would have written."""
    case, participant = history.case, history.participant
    view = response.Patient(case)
    rows, compared = [], []
    for number, cells in case.lesions.items():
        for s, cell in enumerate(cells):
            if cell is not None:
                rows.append(_track_row(view, number, s, cell) | {"participant_id": participant["participant_id"]})
    for (now, then, number), pair in case.comparisons.items():
        compared.append(
            {"participant_id": participant["participant_id"], "session_id": case.visits[now].session_id}
            | {"earlier_session_id": case.visits[then].session_id, "track_id": f"L{number:03d}"}
            | {"ld_now_mm": pair.ld_now, "ld_then_mm": pair.ld_then}
            | {"vol_now_ml": pair.volume_now / 1000, "vol_then_ml": pair.volume_then / 1000}
        )
    rows.sort(key=lambda row: (row["session_id"], row["track_id"]))
    sessions = [
        {"participant_id": participant["participant_id"], "session_id": visit.session_id, "order": s + 1}
        | {"days": visit.day, "evaluable": visit.evaluable, "ne_reason": "n/a" if visit.evaluable else "image_quality"}
        | {"registration_qc": "ok", "n_subthreshold": 0, "edema_unassigned_mm3": 0, "flags": "n/a"}
        | {"slice_spacing_mm": visit.slice_spacing, "dexamethasone_equiv_mg_per_day": _text(visit.dose)}
        | {"clinical_status": _text(visit.clinical), "clinical_tumour_related": _text(visit.tumour_related)}
        for s, visit in enumerate(case.visits)
    ]
    overrides = [
        {"session_id": None, "track_id": f"L{number:03d}", "field": "irradiated_day", "value": f"{day:g}"}
        for number, day in case.irradiated.items()
    ]
    columns = ["participant_id", "session_id", "earlier_session_id", "track_id", "ld_now_mm", "ld_then_mm"]
    tracks = pd.DataFrame(rows).astype(TRACK_TYPES) if rows else pd.DataFrame(columns=[*TRACK_TYPES])
    comparisons = pd.DataFrame(compared, columns=[*columns, "vol_now_ml", "vol_then_ml"])
    found = rano.assess_patient(
        tracks,
        pd.DataFrame(sessions).astype({"days": "Float64", "evaluable": "boolean", "order": "Int64"}),
        {name: "n/a" if value is None else value for name, value in participant.items()},
        rules=RULES,
        overrides=pd.DataFrame(overrides) if overrides else None,
        comparisons=comparisons,
    )  # fmt: skip
    return Found(found[0], found[1], found[2].iloc[0], [], tracks, comparisons)


TRACK_TYPES = {
    "participant_id": "str", "session_id": "str", "track_id": "str", "status": "str", "event": "str",
    "merged_into": object, "probable_missed_detection": "boolean", "n_components": "Int64", "ld_components_mm": "float64",
    "ld_mm": "float64", "perp_mm": "float64", "n_slices": "Int64", "vol_wl_mm3": "float64", "vol_et_mm3": "float64",
    "vol_nc_mm3": "float64", "vol_ed_mm3": "float64", "vol_wl_ml": "float64", "necrosis_fraction": "float64",
    "enhancing": "boolean", "touches_border": "boolean", "flags": object, "slice_spacing_mm": "float64",
    "bbox_x_vox": "Int64", "bbox_y_vox": "Int64", "bbox_z_vox": "Int64", "certainty": object,
}  # fmt: skip


def _text(value):
    return "n/a" if value is None else str(value).lower()


def _track_row(view, number, s, cell):
    """Row of one lesion at one session as the matching writes it."""
    cells = view.lesions[number]
    seen = [n for n in view.seen_between(number, 0, s - 1) if cells[n] is not None]
    present = cell.status == "present"
    before = cells[seen[-1]] if seen else None
    if cell.status != "present":
        event = {"merged": "merged_into"}.get(cell.status, cell.status)
    elif before is None and not any(cells[:s]):
        event = "new" if any(visit.evaluable for visit in view.visits[:s]) else "baseline"
    elif before is not None and before.status == "absent":
        event = "reappeared"
    else:
        event = "split" if before is not None and before.status == "merged" else "persist"
    missed = (
        present and bool(seen) and before.status == "absent" and view.probable_missed_detection(number, seen[-1], s)
    )
    size = 0.0 if cell.status == "absent" else np.nan
    fragments = [ld for ld, volume in cell.fragments if volume >= 10]
    return {
        "session_id": view.visits[s].session_id, "track_id": f"L{number:03d}", "status": cell.status, "event": event,
        "merged_into": f"L{cell.merged_into:03d}" if cell.merged_into else None, "probable_missed_detection": missed,
        "n_components": max(1, len(cell.fragments)) if present else None if np.isnan(size) else 0,
        "ld_components_mm": sum(fragments) if len(cell.fragments) > 1 else np.nan,
        "ld_mm": cell.ld if present else size, "perp_mm": cell.perp if present else size,
        "n_slices": cell.n_slices if present else None if np.isnan(size) else 0,
        "vol_wl_mm3": cell.volume if present else size, "vol_et_mm3": cell.et_volume if present else size,
        "vol_nc_mm3": cell.volume - cell.et_volume if present else size, "vol_ed_mm3": 0.0 if present else size,
        "vol_wl_ml": cell.volume / 1000 if present else size,
        "necrosis_fraction": 1 - cell.et_volume / cell.volume if present else np.nan,
        "enhancing": response.visible(cell) if present else None, "touches_border": False if present else None,
        "flags": "cystic_only" if present and cell.et_volume < 0.1 * cell.volume else None,
        "slice_spacing_mm": view.visits[s].slice_spacing, "certainty": None,
        **{f"bbox_{axis}_vox": side if present else None for axis, side in zip("xyz", cell.box, strict=True)},
    }  # fmt: skip


VELOCITIES = ("brain_metastasis_velocity_first_per_year", "brain_metastasis_velocity_latest_per_year")


def compare_history(seed: int) -> list[str]:
    """Say where the library and the oracle part on the history of a seed: oracle / library."""
    history = cases.draw_history(seed)
    outcome = response.assess(history.case)
    found = assess_history(history)
    out = [f"{name}: {true} / {ours}" for name, true, ours in _judge(outcome, found) if true != ours]
    out += _compare_sums(outcome, found)
    targets = {f"L{number:03d}" for number in outcome.summary["targets"]}
    if targets != set(found.lesions.loc[found.lesions["role"] == "target", "track_id"]):
        out.append(f"targets: {sorted(targets)}")
    view, last = response.Patient(history.case), len(history.case.visits) - 1
    cells = found.lesions.set_index(["session_id", "track_id"])
    for number, own in history.case.lesions.items():
        for s in [s for s, cell in enumerate(own) if cell is not None]:
            session, track = history.case.visits[s].session_id, f"L{number:03d}"
            volume = view.value(number, s, last, "volume")
            true = view.value(number, s, last, "ld"), None if volume is None else volume / 1000
            for name, value in zip(("ld_rano_mm", "vol_rano_ml"), true, strict=True):
                if not _same(value, cells.loc[(session, track), name]):
                    out.append(f"{session} {track} {name}: {value} / {cells.loc[(session, track), name]}")
    return [f"{seed} {line}" for line in out]


# Fields, where what a tracker can know decides what is counted


def track_field(drawn: fields.Field, found: Found, score: Score) -> None:
    """Add one field to a score: who is who, what is new, what is gone (`fields.describe_truth`).

    A lesion and a track belong together if no other pairing shares more visits. What may be found or not counts
    nowhere, on either side.
    """
    truth = fields.describe_truth(drawn)
    who, names = drawn.participant["participant_id"], [session.session_id for session in drawn.sessions]
    cells = {(row["session_id"], row["track_id"]): row for row in found.lesions.to_dict("records")}
    asked = {(t, n) for n, own in truth.states.items() for t, state in enumerate(own) if state == "present"}
    track_at = {(t, n): track for t, n, track in shared_voxels(drawn, found)}
    there = {key: track for key, track in track_at.items() if key in asked}
    tracks = sorted({track for _, track in cells})
    common = np.zeros((len(drawn.lesions) + 1, len(tracks)))
    for (_, n), track in there.items():
        common[n, tracks.index(track)] += 1
    track_of = {n: tracks[j] for n, j in zip(*linear_sum_assignment(common, maximize=True)) if common[n, j]}
    lesion_of = {track: n for n, track in track_of.items()}

    shown = {(t, track) for t, name in enumerate(names) for track in tracks if _shows(cells, found, t, name, track)}
    false = shown - {(t, track) for (t, _), track in track_at.items()}
    counted = {(t, track) for (t, _), track in there.items()} | false
    right = sum(track_of.get(n) == track for (_, n), track in there.items())
    score.pairs.update({"true": len(asked), "found": len(counted), "right": right})
    for n in truth.states:
        history = [there[t, n] for t in range(len(names)) if (t, n) in there]
        score.switches += sum(a != b for a, b in pairwise(history))
        if len(set(history)) > 1:
            score.differences.append(f"{who} lesion {n}: {' '.join(there.get((t, n), '-') for t in range(len(names)))}")

    births, ends = set(), set()
    for track in tracks:
        rows = [cells.get((name, track)) for name in names]
        of = lesion_of.get(track)
        for t, row in enumerate(rows):
            if row and row["event"] == "new":
                inside = {n for (s, n), other in track_at.items() if s == t and other == track}
                if (t, track) in false or inside & {n for s, n in asked if s == t}:
                    births.add((t, track) if of is None else (t, of))
            ended = t and row and row["status"] == "absent" and rows[t - 1]["status"] != "absent"
            # What was not asked for before may end as it likes.
            asked_for = (t - 1, of) in asked and truth.states[of][t] != "either"
            if ended and (asked_for or (t - 1, track) in false):
                ends.add((t, track) if of is None else (t, of))
    for event, true, ours in (("new", truth.new(), births), ("absent", truth.gone(), ends)):
        score.events[event].update({"true": len(true), "found": len(ours), "right": len(true & ours)})
        for t, name in sorted(true ^ ours, key=str):
            score.differences.append(f"{who} {names[t]} {name}: {event} {'missed' if (t, name) in true else 'false'}")


def _shows(cells, found, t, name, track):
    row = cells.get((name, track))
    return row is not None and row["status"] == "present" and bool((found.maps[t] == int(track[1:])).any())


STABLE_COLUMNS = (
    "target_response", "response_imaging_prospective", "response_imaging_final", "response_overall_final",
    "response_volumetric_prospective",
)  # fmt: skip


def judge_stable(found: Found) -> tuple[list[str], Counter]:
    """Say where a patient in whom nothing changes is not SD, and count the flags of his follow-ups."""
    follow_ups = found.sessions[found.sessions["session_role"] == "followup"]
    wrong = [
        f"{row['session_id']} {name}: {row[name]}"
        for row in follow_ups.to_dict("records")
        for name in STABLE_COLUMNS
        if row[name] != "SD"
    ]
    flags = Counter(flag for text in follow_ups["flags"].dropna() for flag in str(text).split(";") if flag != "n/a")
    return wrong, flags


def shared_voxels(patient, found):
    """Session, true lesion and the track that has most of its voxels there."""
    out = []
    for t, (session, tracks) in enumerate(zip(patient.sessions, found.maps, strict=True)):
        if not session.evaluable:
            continue
        for lesion in np.unique(session.truth[session.truth > 0]):
            numbers = tracks[(session.truth == lesion) & (tracks > 0)]
            if len(numbers):
                out.append((t, int(lesion), f"L{np.bincount(numbers).argmax():03d}"))
    return out


def _word(value) -> str:
    """A cell as text: missing, or nothing to judge, is n/a; days are whole."""
    if value is None or value is pd.NA or value != value or value == "NA":
        return "n/a"
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    return f"{round(float(value))}" if isinstance(value, (int, float, np.integer, np.floating)) else str(value)


def _same(true, ours) -> bool:
    missing = [value is None or value is pd.NA or value != value for value in (true, ours)]
    if any(missing):
        return all(missing)
    return true == ours if isinstance(true, str) else abs(float(true) - float(ours)) <= 1e-3
