"""All that happened to a patient: sessions by lesions, with the size of each as the response criteria see it.

Sizes at two sessions are compared like with like (`Course.compare`): whatever needs a change of size asks there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from mettrail import schema
from mettrail.cohort.overrides import Overrides
from mettrail.errors import InputError
from mettrail.reasons import Reason
from mettrail.response.criteria import TOO_SMALL_MM, diameter_in_sum, is_definite, join_groups
from mettrail.schema.cells import number_of, value_of

# Columns the matching must give; without one of them the response would be wrong, not just incomplete.
NEEDED = (
    "session_id", "track_id", "status", "event", "merged_into", "probable_miss", "n_fragments", "ld_fragments_mm",
    "ld_mm", "perp_mm", "n_slices", "vol_wl_mm3", "enhancing", "touches_border", "flags", "slice_spacing_mm",
    "bbox_x_vox", "bbox_y_vox", "bbox_z_vox",
)  # fmt: skip
# What the matching says of lesions that touch at one of two sessions and not at the other.
COMPARED = tuple(name for name in schema.COMPARISONS if name != "participant_id")
BY_READER = ("tsm5", "override")  # sources of a diameter


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
    """All that happened to a patient, sessions (T) by lesions (K), in order."""

    ids: list[str]
    days: np.ndarray
    evaluable: np.ndarray
    tracks: list[str]
    rows: list[dict[str, dict]]  # per session: track -> row of the matching
    born: np.ndarray  # (K,) first evaluable session
    state: np.ndarray  # (T, K) unborn, present, absent, merged, ne: for the response
    ld: np.ndarray  # (T, K) mm
    source: np.ndarray  # (T, K) of ld
    volume: np.ndarray  # (T, K) mL
    volume_source: np.ndarray  # (T, K)
    owner: np.ndarray  # (T, K) position of the lesion that carries the size
    definite: np.ndarray  # (T, K) is_definite
    gaps: list[tuple[int, int, int]]  # session missed, lesion, session of its return
    crossed: set[tuple[int, int]] = field(default_factory=set)  # merged across roles
    # Session, earlier session: lesion -> size: now, then. Only of lesions measured again.
    measured_again: dict[tuple[int, int], dict[int, dict[str, tuple[float, float]]]] = field(default_factory=dict)

    def known(self, upto: int) -> Course:
        """Look at the course with what is known at session `upto`: missed lesions are not evaluable where missed."""
        gaps = [(t, k) for t, k, back in self.gaps if back <= upto]
        if not gaps:
            return self
        names = ("state", "ld", "source", "volume", "volume_source")
        cells = {name: getattr(self, name).copy() for name in names}
        for t, k in gaps:
            for name, missed in zip(names, ("ne", np.nan, "probable_miss", np.nan, "probable_miss"), strict=True):
                cells[name][t, k] = missed
        return replace(self, **cells)

    def compare(self, t: int, u: int, size: str) -> Comparison:
        """Compare the sizes of all lesions at session `t` to those at an earlier session `u`.

        Lesions that touch at one of the two and not at the other were measured again at both (RECIST 1.1: as long as
        coalescing lesions can be told apart, they are measured apart). That serves only what is seen at both sessions,
        and not where a reader measured one of a group.

        Parameters
        ----------
        size : str
            ``ld`` or ``volume``.
        """
        sizes = getattr(self, size)
        now, then = sizes[t].copy(), sizes[u].copy()
        again = np.zeros(len(self.tracks), bool)
        cut = self.measured_again.get((t, u), {})
        if cut:
            joined = join_groups(self.owner[t], self.owner[u])
            read = {int(joined[k]) for s in (t, u) for k in np.flatnonzero(np.isin(self.source[s], BY_READER))}
            for k, both in cut.items():
                # What carries a lesion stands for it: a lesion merged into one that is gone is gone with it.
                if int(joined[k]) not in read and self._is_seen(t, k) and self._is_seen(u, k):
                    now[k], then[k], again[k] = *both[size], True
        alone = np.arange(len(self.tracks))
        return Comparison(now, then, join_groups(*(np.where(again, alone, self.owner[s]) for s in (t, u))), again)

    def _is_seen(self, t, k):
        return self.state[t, k] in ("present", "merged") and self.state[t, self.owner[t, k]] == "present"


def make_course(
    lesions: pd.DataFrame,
    sessions: list[dict],
    overrides: Overrides,
    *,
    comparisons: pd.DataFrame | None = None,
    rano: dict,
) -> Course:
    """Put the rows of a patient's sessions in order.

    Parameters
    ----------
    lesions : DataFrame
        Rows of the matching: `NEEDED`.
    sessions : list of dict
        In order of time.
    overrides : Overrides
    comparisons : DataFrame, optional
        Columns `COMPARED`, from the matching: what touches at one of two sessions and not at the other, measured again
        at both.
    rano : dict
        Settings.

    Raises
    ------
    InputError
        Columns or rows lacking, or of sessions or lesions that are not there.
    """
    ids = [s["session_id"] for s in sessions]
    evaluable = np.array([bool(value_of(s, "evaluable", False)) for s in sessions], bool)
    position = {name: t for t, name in enumerate(ids)}
    lacking = [name for name in NEEDED if name not in lesions] if len(lesions) else []
    if lacking:
        raise InputError(
            "table of matched lesions",
            found=f"lacking: {', '.join(lacking)}",
            expected=", ".join(NEEDED),
            advice="Run the matching again.",
            reason=Reason.BAD_TABLE,
        )
    rows: list[dict[str, dict]] = [{} for _ in ids]
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
    tracks = sorted({track for session in rows for track in session}, key=lambda name: (len(name), name))
    n_sessions, n_tracks = len(ids), len(tracks)
    shape = (n_sessions, n_tracks)
    born = np.array([next(t for t in range(n_sessions) if track in rows[t]) for track in tracks], int)
    course = Course(
        ids=ids,
        days=np.array([number_of(s, "days") for s in sessions], float),
        evaluable=evaluable,
        tracks=tracks,
        rows=rows,
        born=born,
        state=np.full(shape, "unborn", object),
        ld=np.zeros(shape),
        source=np.full(shape, None, object),
        volume=np.zeros(shape),
        volume_source=np.full(shape, None, object),
        owner=np.tile(np.arange(n_tracks), (n_sessions, 1)),
        definite=np.zeros(shape, bool),
        gaps=[],
    )
    spacing = _slice_spacings(sessions, rows)
    for k, track in enumerate(tracks):
        last_absent = []
        for t in range(born[k], n_sessions):
            if evaluable[t] and track not in rows[t]:
                raise InputError(
                    f"lesion {track} at {ids[t]}",
                    found="no row",
                    expected="one for every lesion at every evaluable session from its first on, absent ones too",
                    advice="Run the matching of this session again.",
                    reason=Reason.BAD_TABLE,
                )
            row = rows[t].get(track, {"status": "not_evaluable"})
            resected = course.days[t] > overrides.resected_day.get(track, math.inf)
            _place(course, t, k, row, overrides, resected=resected, tsm_mode=rano["tsm_mode"])
            if course.state[t, k] == "present" and t:
                before = next((spacing[u] for u in range(t - 1, -1, -1) if evaluable[u]), math.nan)
                course.definite[t, k] = value_of(row, "confidence") != "candidate" and is_definite(
                    ld_mm=course.ld[t, k],
                    n_slices=number_of(row, "n_slices"),
                    bbox_voxels=_bbox(row),
                    slice_spacing_mm=spacing[t],
                    prior_slice_spacing_mm=before,
                    new_definite_mm=rano["new_definite_mm"],
                )
            if row["status"] == "absent":
                last_absent.append(t)
            elif row["status"] in ("present", "merged"):
                if bool(value_of(row, "probable_miss", False)):
                    # What a reader measured was not missed.
                    course.gaps += [(u, k, t) for u in last_absent if course.source[u, k] not in BY_READER]
                last_absent = []
    course.measured_again = _read_comparisons(comparisons, course, tsm_mode=rano["tsm_mode"])
    return course


def _read_comparisons(table, course, *, tsm_mode):
    found = {}
    if table is None or not len(table):
        return found

    def refuse(given, expected):
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
        found.setdefault((t, u), {})[k] = {"ld": (now, then), "volume": tuple(sizes[2:])}
    return found


def _place(course, t, k, row, overrides, *, resected, tsm_mode):
    """Fill one cell of the course from a row of the matching."""
    track, session, status = course.tracks[k], course.ids[t], row["status"]
    if resected:
        status = "not_evaluable"
    enhancing = bool(value_of(row, "enhancing", True))
    value, source = diameter_in_sum(
        status=status,
        enhancing=enhancing,
        ld_mm=number_of(row, "ld_mm"),
        n_fragments=number_of(row, "n_fragments"),
        ld_fragments_mm=number_of(row, "ld_fragments_mm"),
        tsm_mode=tsm_mode,
    )
    state = {"merged": "merged", "absent": "absent", "ne": "ne"}.get(source, "present")
    volume = {"merged": 0.0, "absent": 0.0, "ne": math.nan}.get(source, number_of(row, "vol_wl_mm3") / 1000)
    volume_source = source if state != "present" else "measured"
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
    for name, cell in zip(
        ("state", "ld", "source", "volume", "volume_source"), (state, value, source, volume, volume_source), strict=True
    ):
        getattr(course, name)[t, k] = cell
    if state == "merged":
        carrier = value_of(row, "merged_into")
        if carrier not in course.tracks:
            raise InputError(
                f"lesion {track} at {session}",
                found=f"merged into {carrier}",
                expected="a lesion of this patient",
                advice="Run the matching of this session again.",
                reason=Reason.BAD_MATCH,
            )
        course.owner[t, k] = course.tracks.index(carrier)


def _bbox(row):
    box = [number_of(row, f"bbox_{axis}_vox") for axis in "xyz"]
    return None if any(math.isnan(side) for side in box) else box


def _slice_spacings(sessions, rows):
    """Slice spacing of each session, mm: its own column, else what its lesions say, else NaN."""
    spacings = []
    for session, of in zip(sessions, rows, strict=True):
        given = [number_of(row, "slice_spacing_mm") for row in of.values()]
        given = [number_of(session, "slice_spacing_mm"), *given]
        spacings.append(next((g for g in given if not math.isnan(g)), math.nan))
    return spacings


def carry_by_targets(course: Course, targets: list[str], baseline: int) -> None:
    """Let a target carry the size of what it merged with, whoever did before (ours); chains of merges end here too."""
    of = [course.tracks.index(track) for track in targets]
    for t in range(len(course.ids)):
        groups = join_groups(course.owner[t])
        for g in set(map(int, groups)):
            members = np.flatnonzero(groups == g)
            if len(members) < 2:
                continue
            heads = [k for k in members if course.state[t, k] != "merged"] or [int(members[0])]
            head = heads[0]
            mine = [k for k in of if k in members] if t >= baseline else []
            if mine and len(mine) < len(members):
                course.crossed |= {(t, int(k)) for k in members}
            if mine and head not in mine:
                new = mine[0]
                for cells in (course.state, course.ld, course.volume):
                    cells[t, new] = cells[t, head]
                course.state[t, head], course.ld[t, head], course.volume[t, head] = "merged", 0.0, 0.0
                course.source[t, [new, head]] = course.volume_source[t, [new, head]] = "merged"
                head = new
            course.owner[t, members] = head
