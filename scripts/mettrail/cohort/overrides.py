"""What readers decide about lesions: it takes precedence over what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import pandas as pd

from mettrail.errors import InputError
from mettrail.reasons import Reason
from mettrail.schema import vocabulary
from mettrail.schema.cells import value_of


@dataclass(frozen=True)
class Overrides:
    """What a reader decided, by lesion; it takes precedence over what was measured.

    Parameters
    ----------
    excluded, dural : set of str
        Lesions to exclude, and those that are not measurable because they are dural.
    roles : dict of track_id to str
        ``target`` or ``nontarget``, of lesions at baseline.
    measurable : dict of (session_id, track_id) to bool
        Whether they are measurable there; at baseline it decides what may be a target.
    diameters_mm : dict of (session_id, track_id) to float
        Their diameters; 5 mm for one too small to measure.
    too_small : set of (session_id, track_id)
    nontarget_pd : dict of session_id to bool
    new_status : dict of track_id to str
    irradiated_day, resected_day : dict of track_id to float
        On the time axis of the sessions.
    """

    excluded: frozenset[str] = frozenset()
    dural: frozenset[str] = frozenset()
    roles: Mapping[str, str] = field(default_factory=dict)
    measurable: Mapping[tuple[str, str], bool] = field(default_factory=dict)
    diameters_mm: Mapping[tuple[str, str], float] = field(default_factory=dict)
    too_small: frozenset[tuple[str, str]] = frozenset()
    nontarget_pd: Mapping[str, bool] = field(default_factory=dict)
    new_status: Mapping[str, NewStatus] = field(default_factory=dict)
    irradiated_day: Mapping[str, float] = field(default_factory=dict)
    resected_day: Mapping[str, float] = field(default_factory=dict)


# Status of a new lesion.
NewStatus: TypeAlias = Literal["definite", "equivocal", "confirmed", "rejected"]
_NEW_STATUSES = ("definite", "equivocal", "confirmed", "rejected")
_ROLES = ("target", "nontarget", "excluded")
_YES_OR_NO = ("true", "false")


class Decision(NamedTuple):
    """What a reader may decide.

    Attributes
    ----------
    meaning : str
        What is decided, in words.
    about : tuple of str
        Columns that name what it is about: a lesion, a session, or a lesion at one.
    words : tuple of str
        The values it may have; none: a number.
    expected : str
        What the number is.
    """

    meaning: str
    about: tuple[str, ...]
    words: tuple[str, ...] = ()
    expected: str = ""

    @property
    def values(self) -> str:
        """Say what the value must be."""
        return self.expected or (" or ".join(self.words) if self.words == _YES_OR_NO else ", ".join(self.words))


_LESION, _SESSION, _BOTH = ("track_id",), ("session_id",), ("session_id", "track_id")
OVERRIDES = {
    "exclude": Decision("exclude the lesion", _LESION, _YES_OR_NO),
    "role": Decision("its role, of a lesion present at baseline", _LESION, _ROLES),
    "measurable": Decision("it is measurable at this session", _BOTH, _YES_OR_NO),
    "dural": Decision("it is dural: not measurable", _LESION, _YES_OR_NO),
    "tsm": Decision("it is too small to measure at this session", _BOTH, _YES_OR_NO),
    "ld_mm": Decision(
        "its longest diameter at this session", _BOTH, expected="a diameter in mm, 0 where it is no longer detected"
    ),
    "nontarget_pd": Decision("unequivocal progression of non-target lesions", _SESSION, _YES_OR_NO),
    "new_status": Decision("what a new lesion is", _LESION, _NEW_STATUSES),
    "irradiated_day": Decision("day it was irradiated", _LESION, expected="a day"),
    "resected_day": Decision("day it was resected", _LESION, expected="a day"),
}


def read_overrides(table: pd.DataFrame | None, *, source: str = "overrides") -> Overrides:
    """Sort a reader's table by what it decides.

    Parameters
    ----------
    table : DataFrame or None
        Text columns ``session_id``, ``track_id``, ``field`` and ``value``: see `OVERRIDES`. Others are not read. The
        index says in which line of the file a row stands.
    source : str
        Name of the file, for messages.

    Raises
    ------
    InputError
        A column lacking, a field that does not exist, a value that does not fit it, nothing said of what it is about,
        or two decisions on one thing.
    """
    found: dict[str, dict[Any, Any]] = {name: {} for name in OVERRIDES}
    if table is None:
        table = pd.DataFrame(columns=["session_id", "track_id", "field", "value"])
    lacking = {"session_id", "track_id", "field", "value"} - set(table.columns)
    if lacking:
        raise _bad_override(source, f"columns {', '.join(table.columns)}", "session_id, track_id, field, value")
    for line, row in zip(table.index, table.to_dict("records")):
        where = f"{source}, line {line}"
        name, value = str(value_of(row, "field", "")).lower(), value_of(row, "value")
        if name not in OVERRIDES:
            raise _bad_override(where, f"field {name}", f"one of {', '.join(OVERRIDES)}")
        decision = OVERRIDES[name]
        key = tuple(_named(column, value_of(row, column)) for column in decision.about)
        if None in key:
            raise _bad_override(where, f"{name} without {' and '.join(decision.about)}", "what it is about")
        if key in found[name]:
            raise _bad_override(where, f"a second {name} for {' '.join(key)}", "one decision")
        try:
            found[name][key] = _read_decision(name, value)
        except ValueError as error:
            raise _bad_override(where, f"{name} = {value}", decision.values) from error

    def of_tracks(name: str) -> dict[str, Any]:
        return {track: value for (track,), value in found[name].items()}

    roles, excluded = of_tracks("role"), of_tracks("exclude")
    for track in sorted(set(roles) & set(excluded)):
        if excluded[track] != (roles[track] == "excluded"):
            said = f"exclude = {str(excluded[track]).lower()} and role = {roles[track]} for {track}"
            raise _bad_override(source, said, "one decision")
    return Overrides(
        excluded=frozenset(
            {track for track, yes in excluded.items() if yes} | {t for t, role in roles.items() if role == "excluded"}
        ),
        dural=frozenset(track for track, yes in of_tracks("dural").items() if yes),
        roles={track: role for track, role in roles.items() if role != "excluded"},
        measurable=found["measurable"],
        diameters_mm=found["ld_mm"],
        too_small=frozenset(key for key, yes in found["tsm"].items() if yes),
        nontarget_pd={session: yes for (session,), yes in found["nontarget_pd"].items()},
        new_status=of_tracks("new_status"),
        irradiated_day=of_tracks("irradiated_day"),
        resected_day=of_tracks("resected_day"),
    )


def _named(column: str, value: Any) -> Any:
    """Return a session under its full name, as people write it with and without ``ses-``; others as they are."""
    return f"ses-{value.removeprefix('ses-')}" if column == "session_id" and value else value


def _read_decision(name: str, value: object) -> bool | str | float:
    text, words = str(value), OVERRIDES[name].words
    if words == _YES_OR_NO:
        return vocabulary.read_word(text) == "true"
    if words:
        return vocabulary.read_word(text, dict.fromkeys(words, ()))
    return float(vocabulary.read_number(text, least=0 if name == "ld_mm" else -math.inf))


def _bad_override(where: str, found: str, expected: str) -> InputError:
    return InputError(
        where, found=found, expected=expected, advice="Correct the reader's table.", reason=Reason.BAD_OVERRIDES
    )


def require_known(
    decided: Overrides, *, sessions: Sequence[str], tracks: Sequence[str], first_seen: Iterable[int], source: str
) -> None:
    """Refuse decisions about lesions or sessions that the patient does not have.

    Parameters
    ----------
    decided : Overrides
    sessions : sequence of str
        In order of time.
    tracks : sequence of str
    first_seen : iterable of int
        Position of the first session of each lesion.
    source : str
        Name of the reader's table, for messages.

    Raises
    ------
    InputError
        An unknown lesion or session, or a decision about a lesion at a session before its first.
    """
    first = dict(zip(tracks, first_seen, strict=True))
    by_track = (decided.dural, decided.roles, decided.new_status, decided.irradiated_day, decided.resected_day)
    cells = {*decided.diameters_mm, *decided.too_small, *decided.measurable}
    named = decided.excluded.union(*by_track, (track for _, track in cells))
    for strange, known, what in (
        (sorted(named - set(tracks)), tracks, "lesion"),
        (sorted({session for session, _ in cells}.union(decided.nontarget_pd) - set(sessions)), sessions, "session"),
    ):
        if strange:
            raise _bad_override(source, f"{what} {', '.join(strange)}", f"one of {', '.join(known) or 'none'}")
    for session, track in sorted(cells):
        if sessions.index(session) < first[track]:
            what = "measurable" if (session, track) in decided.measurable else "a size"
            expected = f"a session from {sessions[first[track]]} on, its first"
            raise _bad_override(source, f"{what} of {track} at {session}", expected)


def require_at_baseline(
    decided: Overrides, *, seen: Iterable[str], baseline: str, max_targets: int, source: str
) -> None:
    """Refuse roles of baseline for lesions that were not there, and more targets than there may be.

    Parameters
    ----------
    decided : Overrides
    seen : iterable of str
        Lesions seen at baseline.
    baseline : str
        Its session, for messages.
    max_targets : int
    source : str
        Name of the reader's table, for messages.

    Raises
    ------
    InputError
        A target or nontarget that was not seen at baseline, or too many targets.
    """
    for track in sorted(set(decided.roles) - set(seen)):
        raise _bad_override(
            source,
            f"role = {decided.roles[track]} for {track}, which is not seen at {baseline}",
            "a lesion of the baseline session; later ones are new: see new_status and exclude",
        )
    named = sorted(track for track, role in decided.roles.items() if role == "target")
    if len(named) > max_targets:
        raise _bad_override(
            source, f"{len(named)} targets: {', '.join(named)}", f"at most {max_targets} (rano: max_targets)"
        )
