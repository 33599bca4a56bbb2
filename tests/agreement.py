"""The library's answers on patients whose truth is known, held against it: who is who, what happened, how it responds.

`follow` runs the library from masks to tables. `compare` counts: it knows a lesion by the voxels that its track shares
with the true one. The truth is the oracle's (`tests/oracle`), which shares no code with the library.
"""

from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
import yaml
from conftest import ROOT
from mettrail import cohort, lesions, matching, rano, settings
from mettrail.images import Grid, Image, canonical_grid
from oracle import patients
from scipy.optimize import linear_sum_assignment

CONFIG = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
EVENTS = {"new": "new", "absent": "gone", "split": "split", "merged_into": "merged", "reappeared": "back"}
# Every cell of a session that follows from the criteria.
RESPONSES = (
    "response_imaging_prospective", "response_imaging_final", "response_overall_prospective", "response_overall_final",
    "response_volumetric_prospective", "target_response", "nontarget_response", "new_lesion", "steroid_status",
    "confirmed", "session_role", "pd_reason",
)  # fmt: skip
SUMS = ("sum_ld_mm", "nadir_sum_ld_mm")
PATIENT = (
    "baseline_session", "baseline_flag", "best_response", "best_response_day", "best_response_confirmed", "progressed",
    "progression_day", "time_to_progression_days", "ttp_event", "n_new_total", "best_response_volumetric",
)  # fmt: skip


@dataclass
class Found:
    """What the library makes of a patient: its three tables, and a map of track numbers per session."""

    lesions: pd.DataFrame
    sessions: pd.DataFrame
    patient: pd.Series
    maps: list[np.ndarray]


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
    rows, tracks, registries, maps = [], [], [], []
    for number, session in enumerate(patient.sessions):
        tissue = Image(session.tissue if tissues is None else tissues[number], session.affine)
        row = _cohort_row(sub, number, session)
        measure = settings.measure_settings(CONFIG)
        instances = lesions.find_instances(tissue.data, affine=tissue.affine, **CONFIG["instances"])
        table, totals = lesions.measure_instances(instances, tissue.data, affine=tissue.affine, **measure)
        facts = matching.describe_session(
            row, totals=totals, quality={"status": "ok"}, reference=CONFIG["reference"],
            reference_session=first.session_id,
        )  # fmt: skip
        mine, matches, instances, registry = matching.match_visit(
            Image(instances, tissue.affine), table, registries[-1] if registries else None, session=facts, grid=grid,
            world=session.to_session, measure=measure,
            read_scan=lambda tissue=tissue: (tissue, Image(np.ones(tissue.data.shape, bool), tissue.affine), None),
            **CONFIG["match"],
        )  # fmt: skip
        maps.append(matching.relabel_tracks(instances.data, matches))
        rows.append(row)
        tracks.append(mine)
        registries.append(registry)
    found = rano.assess_patient(
        pd.concat([t for t in tracks if len(t)] or tracks[:1], ignore_index=True),
        cohort.describe_sessions(rows, registries),
        {name: "n/a" if value is None else value for name, value in patient.participant.items()},
        rano=CONFIG["rano"],
        volume=CONFIG["volume"],
    )
    return Found(found[0], found[1], found[2].iloc[0], maps)


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

    def __iadd__(self, other):
        self.pairs.update(other.pairs)
        self.switches += other.switches
        for mine, theirs in ((self.events, other.events), (self.cells, other.cells)):
            for name, counts in theirs.items():
                mine[name].update(counts)
        self.differences += other.differences
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
    shared = _shared_voxels(patient, found)

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
            into = row["merged_into"] and track_of.get(row["merged_into"])
            sizes = ("ld_mm", "vol_wl_mm3") if row["status"] != "merged" else ()  # of one that another carries: n/a
            wanted = {name: row[name] for name in ("status", "n_fragments", "ld_rano_mm", "ld_source", *sizes)}
            for name, value in (wanted | {"merged_into": into}).items():
                if not _same(value, mine.get(name)) and not (name == "n_fragments" and not value):
                    score.differences.append(f"{who} {session} {lesion} {name}: {value} / {mine.get(name)}")

    # Responses.
    rows = found.sessions.set_index("session_id")
    for row in patient.responses:
        for name in RESPONSES:
            if name in row and row["session_role"] == "followup":
                pair = (_word(row[name]), _word(rows.loc[row["session_id"], name]))
                score.cells[name][pair] += 1
                if pair[0] != pair[1]:
                    score.differences.append(f"{who} {row['session_id']} {name}: {pair[0]} / {pair[1]}")
        for name in SUMS if exact and row["session_role"] == "followup" else ():
            if not _same(row[name], rows.loc[row["session_id"], name]):
                score.differences.append(
                    f"{who} {row['session_id']} {name}: {row[name]} / {rows.loc[row['session_id'], name]}"
                )
    for name in PATIENT:
        pair = (_word(patient.summary[name]), _word(found.patient[name]))
        score.cells[name][pair] += 1
        if pair[0] != pair[1]:
            score.differences.append(f"{who} {name}: {pair[0]} / {pair[1]}")
    targets = set(found.lesions.loc[found.lesions["role"] == "target", "track_id"])
    wanted = {track_of.get(lesion) for lesion in patient.summary["targets"]}
    if targets != wanted:
        score.differences.append(f"{who} targets: {sorted(map(str, wanted))} / {sorted(targets)}")


def _shared_voxels(patient, found):
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
