"""What is said of each lesion at each session: the words of its film strip, on the page and under the picture.

What was not measured has no number: a lesion that is no longer detected, or was missed, or cannot be evaluated, or is
one with another, is called that and has no size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd

from mettrail.report.figures import find_smallest_before, label_number, prominence_of, review_flags_of
from mettrail.report.text import (
    Record,
    plain_words,
    records_of,
    show,
    show_candidate,
    show_change,
    show_day,
    show_role,
    show_volume,
    spaced,
)
from mettrail.schema.cells import flags_of, number_of, text_of, truth_of, words_of

# Why strips come in their order: `figures.prominence_of` at the session where a lesion stands out most.
_GROUPS = ("new or reappeared", "grew by a fifth or more", "with a remark", "target", "")


class State(StrEnum):
    """What a lesion is at a session."""

    PRESENT = "present"
    NOT_YET = "not yet detected"
    ABSENT = "no longer detected"
    MISSED = "not detected, most likely missed"
    MERGED = "one with another lesion"
    NOT_EVALUABLE = "not evaluable"


@dataclass(frozen=True)
class Frame:
    """A lesion at a session.

    Parameters
    ----------
    session, day : str
        ``ses-02``; ``day 56``.
    state : State
    headline : str
        Volume and longest diameter where it was measured, else what it is instead.
    change : str
        Of its volume, and since when. Empty where nothing was measured.
    notes : sequence of str
        What requires review; why a session is not evaluable.
    merged_into : str
        The lesion that it is one with; empty for none.
    """

    session: str
    day: str
    state: State
    headline: str
    change: str = ""
    notes: Sequence[str] = ()
    merged_into: str = ""

    @property
    def words(self) -> str:
        """All that is said, in one line."""
        return "; ".join(part for part in (self.headline, self.change, *self.notes) if part)


@dataclass(frozen=True)
class Strip:
    """A lesion at all sessions, in order of time.

    Parameters
    ----------
    track_id : str
    facts : sequence of str
        Its role, its place, and what brought it forward.
    frames : sequence of Frame
    """

    track_id: str
    facts: Sequence[str]
    frames: Sequence[Frame]


def make_strips(lesion_rows: pd.DataFrame, session_rows: pd.DataFrame) -> list[Strip]:
    """Say what each lesion of a patient is at each session.

    New lesions come first, then those that grew by 20 % from their smallest, those with a remark that requires review,
    targets, all others; what a lesion was at any session counts. Of each the largest first. None is excluded.

    Parameters
    ----------
    lesion_rows, session_rows : DataFrame
        The patient's rows of the lesion and session tables, sessions in order of time. Either may be empty.

    Returns
    -------
    list of Strip
        As many frames in each as there are sessions.
    """
    sessions = records_of(session_rows)
    by_track: dict[str, dict[str, Record]] = {}
    for row in records_of(lesion_rows):
        by_track.setdefault(text_of(row, "track_id"), {})[text_of(row, "session_id")] = row
    rank = _rank_tracks(lesion_rows, [text_of(s, "session_id") for s in sessions])
    return [
        _make_strip(track, by_track[track], sessions, _GROUPS[rank[track][0]])
        for track in sorted(by_track, key=lambda name: (rank[name], name))
    ]


def _rank_tracks(lesion_rows: pd.DataFrame, sessions: Sequence[str]) -> dict[str, tuple[int, float, int, int]]:
    """Return by track where it comes: the foremost place of `figures.prominence_of` that it has at any session."""
    rank: dict[str, tuple[int, float, int, int]] = {}
    for number, name in enumerate(sessions):
        smallest = find_smallest_before(lesion_rows[lesion_rows["session_id"].isin(sessions[:number])])
        for row in records_of(lesion_rows[lesion_rows["session_id"] == name]):
            track = text_of(row, "track_id")
            place = prominence_of(row, 0, label_number(track), smallest)
            rank[track] = min(place, rank.get(track, place))
    return rank


def _make_strip(track: str, rows: Mapping[str, Record], sessions: Sequence[Record], group: str) -> Strip:
    last = list(rows.values())[-1]
    region = text_of(last, "region")
    place = spaced(text_of(last, "side"), plain_words(region) if region else "")
    role = show_role(last)
    said_by_role = group == role or role in ("new", "recurrent")
    facts = [fact for fact in (role, place, "" if said_by_role else group) if fact]
    detected = [row for row in rows.values() if text_of(row, "status") == "present"]
    frames = [_make_frame(rows, session, detected) for session in sessions]
    return Strip(track, facts, frames)


def _make_frame(rows: Mapping[str, Record], session: Record, detected: Sequence[Record]) -> Frame:
    name, day = text_of(session, "session_id"), show_day(session)
    row = rows.get(name)
    status = text_of(row, "status") if row else ""
    if truth_of(session, "evaluable") is False or status == "not_evaluable":
        reasons = [plain_words(reason) for reason in words_of(session, "ne_reason")]
        return Frame(name, day, State.NOT_EVALUABLE, State.NOT_EVALUABLE.value, notes=reasons)
    if row is None:
        return Frame(name, day, State.NOT_YET, State.NOT_YET.value)
    if status == "merged":
        other = text_of(row, "merged_into")
        return Frame(name, day, State.MERGED, f"one with {other}", notes=_remarks(row), merged_into=other)
    if status == "absent":
        missed = "probable_missed_detection" in flags_of(row)
        state = State.MISSED if missed else State.ABSENT
        return Frame(name, day, state, state.value, notes=_remarks(row))
    size = " · ".join((show_volume(number_of(row, "vol_wl_ml")), show("lesions", "ld_mm", row)))
    return Frame(name, day, State.PRESENT, size, change=_change(row, detected[0]), notes=_remarks(row))


def _change(row: Record, first: Record) -> str:
    """Say how its volume has changed from baseline or, if first detected later, from then."""
    if truth_of(row, "is_baseline"):
        return "baseline"
    since_baseline = show("lesions", "vol_change_baseline_pct", row)
    if since_baseline != "n/a":
        return f"volume {since_baseline} from baseline"
    if row is first:
        return "first detected"
    before, now = number_of(first, "vol_wl_ml"), number_of(row, "vol_wl_ml")
    if truth_of(first, "is_baseline") or not (before > 0 and now >= 0):
        return "change of volume n/a"
    return f"volume {show_change(now / before - 1)} from {text_of(first, 'session_id')}"


def _remarks(row: Record) -> list[str]:
    """Say what requires review: events, doubts, flags."""
    event, status = text_of(row, "event"), text_of(row, "new_lesion_status")
    said = []
    if event == "new":
        said.append("★ " + ", ".join(part for part in ("new", status) if part))
    elif event in ("reappeared", "split"):
        said.append({"reappeared": "reappeared", "split": f"{text_of(row, 'n_components')} components"}[event])
    candidate = show_candidate(row)
    if candidate:
        said.append(candidate)
    flags = [flag for flag in review_flags_of(row) if flag != "probable_missed_detection"]
    return said + [f"⚑ {plain_words(flag)}" for flag in flags]
