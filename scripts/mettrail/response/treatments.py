"""Which lesions were treated, and when: what people's tables say, turned into lesions of this run.

Tables may name a lesion by a point in a session's scan, or all lesions, since lesions have numbers only after a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from mettrail import points
from mettrail.cohort.treatments import ALL, LOCAL
from mettrail.points import Finder
from mettrail.reasons import Reason
from mettrail.response.course import Row
from mettrail.schema import MISSING

Problem: TypeAlias = dict[str, str]  # see `cohort.write_problems`

RADIATION = ("srs", "fsrt", "wbrt")
# Treatments that can be of one lesion, and after which it is followed.
FOCAL = (*LOCAL, "wbrt")
COLUMNS = (
    "participant_id", "treatment_id", "treatment_type", "treatment_day", "session_id", "track_id", "dose_gy",
    "fractions", "isodose_pct", "where",
)  # fmt: skip
# Of the list that is written, per patient.
LISTED = tuple(name for name in COLUMNS if name not in ("session_id", "where"))


def resolve(
    given: Iterable[Mapping[str, str]],
    lesions: pd.DataFrame,
    sessions: pd.DataFrame,
    finder: Finder,
    *,
    participant_id: str,
) -> tuple[pd.DataFrame, list[Problem]]:
    """Find the lesions of treatments.

    Parameters
    ----------
    given : iterable of dict
        Rows of `mettrail.cohort.treatments.Treatments`.
    lesions : DataFrame
        Rows of the matching: ``session_id``, ``track_id``, ``status``.
    sessions : DataFrame
        From `cohort.describe_sessions`.
    finder : Finder
    participant_id : str

    Returns
    -------
    treatments : DataFrame
        `COLUMNS`: one row per treatment and lesion; ``track_id`` is missing where the whole body was treated. Days
        are on the time axis of the sessions.
    problems : list of dict
        See `cohort.write_problems`: rows that are not used, and what is doubtful about others.
    """
    history = _History(lesions, sessions)
    rows: list[Row] = []
    problems: list[Problem] = []
    done: set[tuple[str, str | None]] = set()

    def say(row: Row, stage: str, detail: str) -> None:
        where = f"{row['where']}, column target"
        problems.append(_problem(participant_id, stage, Reason.BAD_TREATMENT, where, detail))

    for row in given:
        day, kind, target, session = float(row["day"]), row["type"], row["target"], row["session_id"]
        if target == MISSING:
            continue  # surgery on what no scan shows: of no lesion of this run
        tracks: list[str | None] = [target]
        point = points.read_point(target)
        if target == ALL or kind not in FOCAL:
            tracks = list(history.present(session, day)) if kind in FOCAL else [None]
            if not tracks:
                say(row, "not used", "found all, and no lesion was there by then; the row is not used.")
        elif point:
            name, said = finder.find(session, point)
            tracks = [name] if name else []
            if said:
                say(row, "warning" if name else "not used", f"{said}{'' if name else '; the row is not used'}.")
        elif target not in history.first:
            known = ", ".join(history.first) or "none"
            say(row, "not used", f"found {target}, expected a lesion of the patient: {known}; the row is not used.")
            continue
        for track in tracks:
            if (row["treatment_id"], track) in done:
                said = f"{track} is part of {row['treatment_id']} already; expected it once; the row is not used."
                say(row, "not used", said)
                continue
            done.add((row["treatment_id"], track))
            if track and history.first[track][1] > day:
                name, seen = history.first[track]
                said = f"{track} is first seen at {name} on day {seen:g}, after its treatment on day {day:g}: "
                say(row, "warning", f"{said}correct the lesion or the day if that is wrong.")
            rows.append(
                {"participant_id": participant_id, "treatment_id": row["treatment_id"], "treatment_type": kind,
                 "treatment_day": day, "session_id": None if session == MISSING else session, "track_id": track,
                 "where": row["where"], **{n: _number(row[n]) for n in ("dose_gy", "fractions", "isodose_pct")}}
            )  # fmt: skip
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values("treatment_day", kind="stable", ignore_index=True), problems


def resolve_overrides(
    overrides: pd.DataFrame, finder: Finder, *, participant_id: str, source: str
) -> tuple[pd.DataFrame, list[Problem]]:
    """Put names of lesions where a reader's table names points; a point without a lesion takes out its row.

    Parameters
    ----------
    overrides : DataFrame
        Text; the index says in which line of the file a row stands.
    finder : Finder
    participant_id, source : str
        Whose table it is, and its path, for messages.

    Returns
    -------
    overrides : DataFrame
    problems : list of dict
        As of `resolve`.
    """
    found, problems = overrides.copy(), []
    for line, row in zip(overrides.index, overrides.to_dict("records")):
        point = points.read_point(str(row.get("track_id", "")))
        if not point:
            continue
        session = f"ses-{str(row.get('session_id', '')).removeprefix('ses-')}"
        name, said = finder.find(session, point)
        if name:
            found.loc[line, "track_id"] = name
        else:
            found = found.drop(index=line)
        if said:
            stage, end = ("warning", "") if name else ("not used", "; the row is not used")
            where = f"{Path(source).name}, line {line}, column track_id"
            problems.append(_problem(participant_id, stage, Reason.BAD_OVERRIDES, where, f"{said}{end}."))
    return found, problems


def as_overrides(treatments: pd.DataFrame, overrides: pd.DataFrame | None) -> pd.DataFrame | None:
    """Return a reader's decisions with the days of treatments added where the reader gives none.

    The response criteria know one day of radiation and one of resection per lesion: the first.
    """
    treated = treatments[treatments["track_id"].notna()]
    fields = treated["treatment_type"].map(
        {kind: "resected_day" if kind == "surgery" else "irradiated_day" for kind in FOCAL}
    )
    first = treated.assign(field=fields).groupby(["track_id", "field"], sort=True)["treatment_day"].min()
    if first.empty:
        return overrides
    names = ["session_id", "track_id", "field", "value"]
    given = pd.DataFrame(columns=names) if overrides is None else overrides
    fields = given["field"].str.lower() if len(given) else given["field"]
    said = set(zip(given["track_id"], fields))
    added = [
        (MISSING, track, name, f"{day:.15g}")
        for track, name, day in first.reset_index().itertuples(index=False)
        if (track, name) not in said
    ]
    more = pd.DataFrame(added, columns=names, dtype=object)
    return pd.concat([given, more.set_axis([f"of treatments {n}" for n in range(len(more))])]).fillna(MISSING)


def list_treatments(treatments: pd.DataFrame, t0: float) -> pd.DataFrame:
    """Return the list of a patient's treatments that is written: days are whole numbers from t0."""
    days = [None if pd.isna(day - t0) else int((day - t0 + 0.5) // 1) for day in treatments["treatment_day"]]
    return treatments.assign(treatment_day=pd.Series(days, index=treatments.index, dtype="Int64"))[list(LISTED)]


class _History:
    """Where a patient's lesions were seen, at sessions that can be evaluated."""

    def __init__(self, lesions: pd.DataFrame, sessions: pd.DataFrame) -> None:
        able = sessions[sessions["evaluable"].fillna(False).astype(bool)] if len(sessions) else sessions
        self.days = {row["session_id"]: float(row["days"]) for row in able.to_dict("records") if pd.notna(row["days"])}
        self.seen: dict[str, list[str]] = {name: [] for name in self.days}
        self.first: dict[str, tuple[str, float]] = {}
        for row in lesions.to_dict("records"):
            if row["session_id"] in self.days and row["status"] == "present":
                self.seen[row["session_id"]].append(row["track_id"])
        for name in sorted(self.days, key=lambda session: self.days[session]):
            for track in self.seen[name]:
                self.first.setdefault(track, (name, self.days[name]))

    def present(self, session: str, day: float) -> list[str]:
        """Lesions at a session; without one, at the last up to a day."""
        before = [name for name in self.days if self.days[name] <= day]
        last = max(before, key=lambda name: self.days[name], default="")
        return self.seen.get(session if session in self.days else last, [])


def _problem(participant_id: str, stage: str, reason: Reason, where: str, detail: str) -> dict[str, str]:
    return {"sub": participant_id, "stage": stage, "reason": reason, "detail": f"{where}: {detail}"}


def _number(text: str) -> float | None:
    return None if text == MISSING else float(text)
