"""Which patients and sessions of a dataset a run takes."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping

from mettrail.cohort.masks import choose_sessions
from mettrail.errors import InputError
from mettrail.reasons import Reason

# So many labels are named one by one.
NAMED = 20


def choose(
    known: Mapping[str, Collection[str]], *, participants: list[str], sessions: list[str], exclude: list[str]
) -> Callable[[str, str], bool]:
    """Return what says of a patient and a session whether the run takes it.

    Parameters
    ----------
    known : mapping
        The labels of a dataset: sessions by patient. One without session folders has the session ``1``.
    participants : list of str
        ``A`` or ``sub-A``; empty: all.
    sessions : list of str
        ``01``, ``ses-01`` or ``sub-A_ses-01``; empty: all.
    exclude : list of str
        ``A`` or ``sub-A``, ``sub-A_ses-01``, or ``ses-01`` of all patients.

    Raises
    ------
    InputError
        A label that the dataset does not have (names those that it has), or nothing is left.
    """
    known = {sub: set(labels) or {"1"} for sub, labels in known.items()}
    wanted = {_patient(name, known, "index.participants") for name in participants} or set(known)
    visits = {sub: known[sub] for sub in wanted}
    named = choose_sessions(sessions, visits, setting="index.sessions")
    not_visits = {name for name in exclude if "ses-" in name}
    excluded = choose_sessions(sorted(not_visits), known, setting="index.exclude")
    wanted -= {_patient(name, known, "index.exclude") for name in exclude if name not in not_visits}

    def takes(sub: str, ses: str) -> bool:
        # Sessions without a folder, of which only a table knows, go with their patient.
        return sub in wanted and (not sessions or (sub, ses) in named) and (sub, ses) not in excluded

    if known and not any(takes(sub, ses) for sub, labels in visits.items() for ses in labels):
        raise InputError(
            "config: index",
            found="no session that is left to take",
            expected="at least one of the dataset",
            advice="Correct participants, sessions and exclude: together they leave nobody.",
            reason=Reason.NOBODY_LEFT,
        )
    return takes


def _patient(name: str, known: Mapping[str, Collection[str]], setting: str) -> str:
    label = name.removeprefix("sub-")
    if label in known:
        return label
    near = difflib.get_close_matches(label, known, 1)
    labels = sorted(known)
    raise InputError(
        f"config: {setting}, {name!r}",
        found="no participant of that label",
        expected=f"one of {_name(labels)}" if labels else "a dataset that has participants",
        advice=f"Did you mean {near[0]}?" if near else "Give labels as they stand in the names of the folders.",
        reason=Reason.UNKNOWN_LABEL,
    )


def _name(labels: list[str]) -> str:
    return ", ".join(labels[:NAMED]) + (f", … ({len(labels)} in all)" if len(labels) > NAMED else "")
