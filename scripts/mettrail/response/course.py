"""All that happened to a patient: sessions by lesions, with the size of each as the response criteria see it.

Sizes at two sessions are compared like with like (`Course.compare`): whatever needs a change of size asks there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from mettrail import schema
from mettrail.cohort.overrides import Overrides
from mettrail.errors import InputError
from mettrail.reasons import Reason
from mettrail.response.criteria import TOO_SMALL_MM, Source, State, diameter_in_sum, is_definite, join_groups
from mettrail.response.rules import Rules, Size
from mettrail.schema.cells import number_of, value_of

# Columns the matching must give; without one of them the response would be wrong, not just incomplete.
NEEDED = (
    "session_id", "track_id", "status", "event", "merged_into", "probable_missed_detection", "n_components", "ld_components_mm",
    "ld_mm", "perp_mm", "n_slices", "vol_wl_mm3", "enhancing", "touches_border", "flags", "slice_spacing_mm",
    "bbox_x_vox", "bbox_y_vox", "bbox_z_vox",
)  # fmt: skip
# What the matching says of lesions that touch at one of two sessions and not at the other.
COMPARED = tuple(name for name in schema.COMPARISONS if name != "participant_id")
BY_READER = ("tsm5", "override")  # sources of a diameter
Row: TypeAlias = Mapping[Any, Any]  # of a table


class Comparison(NamedTuple):
    """Sizes of all lesions (K) at two sessions, like with like.

    Parameters
    ----------
    now, then : array (K,)
        mm or mL; NaN where not evaluable.
    groups : array (K,)
        Lesions of one number are one at either session, and grow as one (`criteria.join_groups`).
    again : array (K,) of bool
        Measured again, cut as at the session where they are apart: each of them has its own size at both.
    """

    now: np.ndarray
    then: np.ndarray
    groups: np.ndarray
    again: np.ndarray


@dataclass
class Course:
    """All that happened to a patient, sessions (T) by lesions (K), in order.

    Parameters
    ----------
    ids, tracks : list of str
        Names of sessions (T) and of lesions (K).
    days, evaluable : array (T,)
    rows : list of dict
        Per evaluable session, the row of the matching of each lesion.
    first : array (K,) of int
        First evaluable session of each lesion.
    state, source, volume_source : array (T, K) of str
        `State`, and `Source` of diameter and volume.
    ld, volume : array (T, K)
        mm, mL; NaN where not evaluable.
    owner : array (T, K) of int
        Position of the lesion that carries the size: another one where a lesion has merged.
    definite : array (T, K) of bool
        Whether a lesion would be a definite new one (`criteria.is_definite`).
    missed : list of (int, int, int)
        Probable missed detections: session, lesion, session at which it reappeared.
    crossed : set of (int, int)
        Session and lesion that has merged with one of another role.
    measured_again : dict of (int, int) to dict
        Session and earlier session to lesion to size: now, then. Only of lesions measured again.
    """

    ids: list[str]
    days: np.ndarray
    evaluable: np.ndarray
    tracks: list[str]
    rows: list[dict[str, Row]]
    first: np.ndarray
    state: np.ndarray
    ld: np.ndarray
    source: np.ndarray
    volume: np.ndarray
    volume_source: np.ndarray
    owner: np.ndarray
    definite: np.ndarray
    missed: list[tuple[int, int, int]]
    crossed: set[tuple[int, int]] = field(default_factory=set)
    measured_again: dict[tuple[int, int], dict[int, dict[Size, tuple[float, float]]]] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """Position of the last session."""
        return len(self.ids) - 1

    def sizes(self, size: Size) -> np.ndarray:
        """Diameters or volumes (T, K), mm or mL."""
        return self.ld if size == "ld" else self.volume

    def positions(self, tracks: Sequence[str]) -> list[int]:
        """Positions of lesions."""
        return [self.tracks.index(track) for track in tracks]

    def known(self, upto: int) -> Course:
        """Look at the course with what is known at session `upto`: missed lesions are not evaluable where missed."""
        missed = [(t, k) for t, k, seen_again in self.missed if seen_again <= upto]
        if not missed:
            return self
        names = ("state", "ld", "source", "volume", "volume_source")
        cells = {name: getattr(self, name).copy() for name in names}
        for t, k in missed:
            for name, unknown in zip(
                names, ("ne", np.nan, "probable_missed_detection", np.nan, "probable_missed_detection"), strict=True
            ):
                cells[name][t, k] = unknown
        return replace(self, **cells)

    def compare(self, t: int, u: int, size: Size) -> Comparison:
        """Compare the sizes of all lesions at session `t` to those at an earlier session `u`.

        Lesions that touch at one of the two and not at the other were measured again at both (RECIST 1.1: as long as
        coalescing lesions can be told apart, they are measured apart). That serves only what is seen at both sessions,
        and not where a reader measured one of a group.

        Parameters
        ----------
        size : str
            ``ld`` or ``volume``.
        """
        sizes = self.sizes(size)
        now, then = sizes[t].copy(), sizes[u].copy()
        again = np.zeros(len(self.tracks), bool)
        cut = self.measured_again.get((t, u), {})
        if cut:
            joined = join_groups(self.owner[t], self.owner[u])
            read = {int(joined[k]) for s in (t, u) for k in np.flatnonzero(np.isin(self.source[s], BY_READER))}
            for k, both in cut.items():
                # What carries a lesion stands for it: a lesion merged into one that is absent is absent with it.
                if int(joined[k]) not in read and self._is_seen(t, k) and self._is_seen(u, k):
                    now[k], then[k], again[k] = *both[size], True
        alone = np.arange(len(self.tracks))
        return Comparison(now, then, join_groups(*(np.where(again, alone, self.owner[s]) for s in (t, u))), again)

    def _is_seen(self, t: int, k: int) -> bool:
        return self.state[t, k] in ("present", "merged") and bool(self.state[t, self.owner[t, k]] == "present")


def make_course(
    lesions: pd.DataFrame,
    sessions: Sequence[Row],
    overrides: Overrides,
    *,
    comparisons: pd.DataFrame | None = None,
    rules: Rules,
) -> Course:
    """Put the rows of a patient's sessions in order.

    Parameters
    ----------
    lesions : DataFrame
        Rows of the matching: `NEEDED`.
    sessions : sequence of mapping
        In order of time.
    overrides : Overrides
    comparisons : DataFrame, optional
        Columns `COMPARED`, from the matching: what touches at one of two sessions and not at the other, measured again
        at both.
    rules : Rules

    Raises
    ------
    InputError
        Columns or rows lacking, or of sessions or lesions that are not there.
    """
    ids = [s["session_id"] for s in sessions]
    evaluable = np.array([bool(value_of(s, "evaluable", False)) for s in sessions], bool)
    rows = _sort_rows(lesions, ids, evaluable)
    tracks = sorted({track for session in rows for track in session}, key=lambda name: (len(name), name))
    shape = len(ids), len(tracks)
    course = Course(
        ids=ids,
        days=np.array([number_of(s, "days") for s in sessions], float),
        evaluable=evaluable,
        tracks=tracks,
        rows=rows,
        first=np.array([next(t for t in range(len(ids)) if track in rows[t]) for track in tracks], int),
        state=np.full(shape, "undetected", object),
        ld=np.zeros(shape),
        source=np.full(shape, None, object),
        volume=np.zeros(shape),
        volume_source=np.full(shape, None, object),
        owner=np.tile(np.arange(len(tracks)), (len(ids), 1)),
        definite=np.zeros(shape, bool),
        missed=[],
    )
    spacings = _slice_spacings(sessions, rows)
    for k in range(len(tracks)):
        _fill(course, k, overrides, spacings, rules)
    course.measured_again = _read_comparisons(comparisons, course, tsm_mode=rules.tsm_mode)
    return course


def _sort_rows(lesions: pd.DataFrame, ids: list[str], evaluable: np.ndarray) -> list[dict[str, Row]]:
    """Rows of the matching by session and lesion; none of sessions that are not evaluable."""
    lacking = [name for name in NEEDED if name not in lesions] if len(lesions) else []
    if lacking:
        raise InputError(
            "table of matched lesions",
            found=f"lacking: {', '.join(lacking)}",
            expected=", ".join(NEEDED),
            advice="Run the matching again.",
            reason=Reason.BAD_TABLE,
        )
    position = {name: t for t, name in enumerate(ids)}
    rows: list[dict[str, Row]] = [{} for _ in ids]
    for row in lesions.to_dict("records"):
        if row["session_id"] not in position:
            raise InputError(
                f"lesions of {row['session_id']}",
                found="a session that the patient does not have",
                expected=", ".join(ids),
                advice="Assess all sessions of the patient, evaluable or not.",
                reason=Reason.UNKNOWN_SESSION,
            )
        t = position[row["session_id"]]
        if evaluable[t]:
            rows[t][row["track_id"]] = row
    return rows


def _fill(course: Course, k: int, overrides: Overrides, spacings: Sequence[float], rules: Rules) -> None:
    """Fill in all that happened to one lesion."""
    track = course.tracks[k]
    absent: list[int] = []  # sessions since it was last seen
    for t in range(course.first[k], len(course.ids)):
        if course.evaluable[t] and track not in course.rows[t]:
            raise InputError(
                f"lesion {track} at {course.ids[t]}",
                found="no row",
                expected="one for every lesion at every evaluable session from its first on, absent ones too",
                advice="Run the matching of this session again.",
                reason=Reason.BAD_TABLE,
            )
        row = course.rows[t].get(track, {"status": "not_evaluable"})
        _place(course, t, k, row, overrides, tsm_mode=rules.tsm_mode)
        if course.state[t, k] == "present" and t:
            before = next((spacings[u] for u in range(t - 1, -1, -1) if course.evaluable[u]), math.nan)
            course.definite[t, k] = value_of(row, "certainty") != "candidate" and is_definite(
                ld_mm=course.ld[t, k],
                n_slices=number_of(row, "n_slices"),
                bbox_voxels=_bbox(row),
                slice_spacing_mm=spacings[t],
                prior_slice_spacing_mm=before,
                rules=rules,
            )
        if row["status"] == "absent":
            absent.append(t)
        elif row["status"] in ("present", "merged"):
            if bool(value_of(row, "probable_missed_detection", False)):
                # What a reader measured was not missed.
                course.missed += [(u, k, t) for u in absent if course.source[u, k] not in BY_READER]
            absent = []


def _read_comparisons(
    table: pd.DataFrame | None, course: Course, *, tsm_mode: str
) -> dict[tuple[int, int], dict[int, dict[Size, tuple[float, float]]]]:
    found: dict[tuple[int, int], dict[int, dict[Size, tuple[float, float]]]] = {}
    if table is None or not len(table):
        return found

    def refuse(given: str, expected: str) -> InputError:
        return InputError(
            "table of comparisons",
            found=given,
            expected=expected,
            advice="Run the matching again.",
            reason=Reason.BAD_TABLE,
        )

    lacking = [name for name in COMPARED if name not in table]
    if lacking:
        raise refuse(f"lacking: {', '.join(lacking)}", ", ".join(COMPARED))
    for row in table.to_dict("records"):
        session, earlier, track = row["session_id"], row["earlier_session_id"], row["track_id"]
        what = f"{track} at {session} and {earlier}"
        if not {session, earlier} <= set(course.ids) or track not in course.tracks:
            raise refuse(what, "lesions and sessions of this patient")
        t, u, k = course.ids.index(session), course.ids.index(earlier), course.tracks.index(track)
        sizes = [number_of(row, name) for name in COMPARED[3:]]
        if u >= t or k in found.get((t, u), {}):
            raise refuse(what, "one row per lesion, session and earlier session")
        if not all(math.isfinite(size) and size >= 0 for size in sizes):
            raise refuse(f"{what}: {', '.join(map(str, sizes))}", "sizes of 0 or more")
        now, then = (max(mm, TOO_SMALL_MM) if tsm_mode == "floor5" and mm > 0 else mm for mm in sizes[:2])
        found.setdefault((t, u), {})[k] = {"ld": (now, then), "volume": (sizes[2], sizes[3])}
    return found


def _place(course: Course, t: int, k: int, row: Row, overrides: Overrides, *, tsm_mode: str) -> None:
    """Fill one cell of the course from a row of the matching."""
    track, session, status = course.tracks[k], course.ids[t], row["status"]
    if course.days[t] > overrides.resected_day.get(track, math.inf):
        status = "not_evaluable"
    value, source = diameter_in_sum(
        status=status,
        enhancing=bool(value_of(row, "enhancing", True)),
        ld_mm=number_of(row, "ld_mm"),
        n_components=number_of(row, "n_components"),
        ld_components_mm=number_of(row, "ld_components_mm"),
        tsm_mode=tsm_mode,
    )
    state: State
    volume_source: Source
    if source == "merged" or source == "absent":
        state, volume, volume_source = source, 0.0, source
    elif source == "ne":
        state, volume, volume_source = "ne", math.nan, "ne"
    else:
        state, volume, volume_source = "present", number_of(row, "vol_wl_mm3") / 1000, "measured"
    if (session, track) in overrides.too_small:
        value, source = TOO_SMALL_MM, "tsm5"
    if (session, track) in overrides.diameters_mm:
        value, source = overrides.diameters_mm[session, track], "override"
    if source == "override" and value == 0:
        state, volume, volume_source = "absent", 0.0, "override"
    elif source in BY_READER:
        # A reader gives diameters alone: where the mask has none, the volume is not known.
        volume = number_of(row, "vol_wl_mm3") / 1000 if status == "present" else math.nan
        state, volume_source = "present", "ne" if math.isnan(volume) else "measured"
    course.state[t, k], course.ld[t, k], course.source[t, k] = state, value, source
    course.volume[t, k], course.volume_source[t, k] = volume, volume_source
    if state == "merged":
        course.owner[t, k] = _carrier(course, t, k, row)


def _carrier(course: Course, t: int, k: int, row: Row) -> int:
    """Position of the lesion that a lesion has merged into."""
    carrier = value_of(row, "merged_into")
    if carrier not in course.tracks:
        raise InputError(
            f"lesion {course.tracks[k]} at {course.ids[t]}",
            found=f"merged into {carrier}",
            expected="a lesion of this patient",
            advice="Run the matching of this session again.",
            reason=Reason.BAD_MATCH,
        )
    return course.tracks.index(carrier)


def _bbox(row: Row) -> list[float] | None:
    box = [number_of(row, f"bbox_{axis}_vox") for axis in "xyz"]
    return None if any(math.isnan(side) for side in box) else box


def _slice_spacings(sessions: Sequence[Row], rows: Sequence[Mapping[str, Row]]) -> list[float]:
    """Slice spacing of each session, mm: its own column, else what its lesions say, else NaN."""
    spacings = []
    for session, of in zip(sessions, rows, strict=True):
        given = [number_of(row, "slice_spacing_mm") for row in of.values()]
        given = [number_of(session, "slice_spacing_mm"), *given]
        spacings.append(next((g for g in given if not math.isnan(g)), math.nan))
    return spacings


def carry_by_targets(course: Course, targets: Sequence[str], baseline: int) -> None:
    """Let a target carry the size of what it merged with, whoever did before (ours); chains of merges end here too."""
    of = course.positions(targets)
    for t in range(len(course.ids)):
        groups = join_groups(course.owner[t])
        for group in {int(number) for number in groups}:
            members = [int(k) for k in np.flatnonzero(groups == group)]
            if len(members) < 2:
                continue
            heads = [k for k in members if course.state[t, k] != "merged"] or members
            head = heads[0]
            mine = [k for k in of if k in members] if t >= baseline else []
            if mine and len(mine) < len(members):
                course.crossed |= {(t, k) for k in members}
            if mine and head not in mine:
                new = mine[0]
                for cells in (course.state, course.ld, course.volume):
                    cells[t, new] = cells[t, head]
                course.state[t, head], course.ld[t, head], course.volume[t, head] = "merged", 0.0, 0.0
                for k in (new, head):
                    course.source[t, k] = course.volume_source[t, k] = "merged"
                head = new
            course.owner[t, members] = head
