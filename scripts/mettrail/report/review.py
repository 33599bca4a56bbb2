"""What a reader should review, from what the tables say: on the pages and as a table, the least certain first."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from mettrail import schema
from mettrail.reasons import Reason
from mettrail.report.figures import REVIEW_FLAGS, is_unconfirmed
from mettrail.report.parts import NO_FAILURE, Chip, Link, Problem, Track, make_chip, make_problem, make_track
from mettrail.report.text import (
    Record,
    meaning_of,
    plain_label,
    plain_words,
    records_of,
    show,
    show_candidate,
    show_day,
)
from mettrail.schema.cells import flags_of, text_of, truth_of, words_of

# Remarks on a session that require review, besides those on its lesions.
SESSION_REVIEW = (
    Reason.SAME_SCAN.value,
    Reason.OTHER_HEAD.value,
    Reason.REGISTRATION_POOR.value,
    Reason.VOXEL_SIZE.value,
    "contrast_doubtful",
    "sequence_doubtful",
    "labels_doubtful",
    "residual_shift",
    "nontarget_review",
    "cavity_review",
    "edema_progression",
    "probable_missed_detection",
    "steroid_hold",
)
# The same of a sequence that networks were given.
SEQUENCE_REVIEW = (Reason.SAME_SCAN, Reason.MISALIGNED, Reason.PARTIAL)
_EVENTS = {"merged_into": "merged into", "split": "in several components", "reappeared": "reappeared"}


@dataclass(frozen=True)
class Finding:
    """One thing to review: where, and a problem, a response that changed, or words about lesions or a response."""

    place: Link
    text: str = ""
    tracks: Sequence[Track] = ()
    chip: Chip | None = None
    earlier: Chip | None = None
    problem: Problem | None = None


def findings(
    participant: str, lesions: Sequence[Record], sessions: Sequence[Record], problems: Sequence[Record]
) -> list[Finding]:
    """Gather what requires review of a patient: lesions whose identity is uncertain, responses, failures, the rest."""
    seen = {s["session_id"] for s in sessions}
    failures = [_failure(problem, participant, seen) for problem in problems]
    failed = {f"ses-{plain_label(text_of(p, 'ses'))}" for p in problems if p.get("stage") not in NO_FAILURE}
    remarkable = list(remarkable_lesions(lesions))
    uncertain: list[Finding] = []
    responses: list[Finding] = []
    others: list[Finding] = []
    for session in sessions:
        name = session["session_id"]
        place = _anchor(name, seen)
        responses += [*_response_findings(session, place), *_flag_findings(session, place)]
        if truth_of(session, "evaluable") is False and name not in failed:
            failures.append(Finding(place, f"not evaluable: {plain_words(text_of(session, 'ne_reason'))}"))
        others += [Finding(place, why) for why in brain_remarks(session)]
        # One line for all lesions of a session of which the same is to be said.
        alike: dict[str, list[Record]] = {}
        for row, why in remarkable:
            if row["session_id"] == name:
                alike.setdefault(why, []).append(row)
        for why, rows in alike.items():
            found = Finding(place, why, tracks=[make_track(text_of(row, "track_id")) for row in rows])
            (uncertain if is_uncertain(rows[0]) else others).append(found)
    return [*uncertain, *responses, *failures, *others]


def tabulate(
    lesions: pd.DataFrame, sessions: pd.DataFrame, patients: pd.DataFrame, problems: Sequence[Record]
) -> pd.DataFrame:
    """Return the findings of all patients as a table ``review``, a lesion a row.

    Parameters
    ----------
    lesions, sessions, patients : DataFrame
        Final tables of the cohort.
    problems : sequence of mapping
        As `cohort.list_problems`.
    """
    rows: list[dict[str, object]] = []
    for participant in patients["participant_id"]:
        own, visits = (records_of(table[table["participant_id"] == participant]) for table in (lesions, sessions))
        theirs = [each for each in problems if plain_label(text_of(each, "sub")) == plain_label(participant)]
        for found in findings(participant, own, visits, theirs):
            about = found.place.text if found.place.text.startswith("ses-") else None
            names: list[str | None] = [track.name for track in found.tracks]
            for name in names or [None]:
                rows.append(
                    {
                        "order": len(rows) + 1,
                        "participant_id": participant,
                        "session_id": about,
                        "track_id": name,
                        "finding": _in_words(found),
                        "page": f"{participant}.html{found.place.href}",
                    }
                )
    return schema.make_table(pd.DataFrame(rows, columns=schema.columns("review")), "review")


def _in_words(found: Finding) -> str:
    """Say in words what the page shows with colours and links."""
    if found.problem:
        said = [found.problem.stage, found.problem.reason, found.problem.detail]
        return ": ".join(" ".join(word.split()) for word in said if word)
    if found.chip and found.earlier:
        return f"was {found.earlier.text} prospectively, is {found.chip.text} with later sessions"
    return f"{found.chip.text}: {found.text}" if found.chip else found.text


def remarkable_lesions(lesions: Sequence[Record]) -> Iterator[tuple[Record, str]]:
    """Yield rows that require review, and why; a lesion that stays merged does once."""
    merged: set[tuple[str, str]] = set()
    for row in lesions:
        key, why = (row["participant_id"], row["track_id"]), _why_review(row)
        if why and key not in merged:
            yield row, why
        (merged.add if text_of(row, "status") == "merged" else merged.discard)(key)


def is_uncertain(row: Record) -> bool:
    """Tell whether it is uncertain which lesion this is, or where it ends."""
    return bool({"weak_match", "coalesced"} & set(flags_of(row)))


def brain_remarks(session: Record) -> list[str]:
    """Say what is uncertain about a session's brain mask."""
    failed = ["brain mask failed: not evaluable"] * (text_of(session, "ne_reason") == "brain_mask")
    return failed + [_flag_words("sessions", flag) for flag in flags_of(session) if flag.startswith("brain_")]


def unconfirmed_responses(sessions: Sequence[Record]) -> str:
    """Say which CR and PR, up to the first PD, were not confirmed; empty where there is none."""
    found = []
    for session in sessions:
        response = text_of(session, "response_overall_final")
        if response == "PD":
            break
        if is_unconfirmed(session):
            found.append(f"{response} on {show_day(session)}")
    return f"{', '.join(found)} not confirmed: counts as SD" if found else ""


def _anchor(place: str, seen: Container[str]) -> Link:
    return Link(place, f"#{place}" if place in seen else "")


def _failure(problem: Record, participant: str, seen: Container[str]) -> Finding:
    session = plain_label(text_of(problem, "ses"))
    place = f"ses-{session}" if session else participant
    return Finding(_anchor(place, seen), problem=make_problem(problem))


def _response_findings(session: Record, place: Link) -> Iterator[Finding]:
    now, then = text_of(session, "response_overall_final"), text_of(session, "response_overall_prospective")
    if now in ("PD", "uPD"):
        reasons = [meaning_of("sessions", "pd_reason", reason) or reason for reason in words_of(session, "pd_reason")]
        yield Finding(place, ", ".join(reasons) or "see the table", chip=make_chip(now))
    if is_unconfirmed(session):
        yield Finding(place, "not confirmed by a later session", chip=make_chip(now, hollow=True))
    if then and now and then != now:
        yield Finding(place, chip=make_chip(now), earlier=make_chip(then))


def _flag_findings(session: Record, place: Link) -> list[Finding]:
    flags = flags_of(session)
    said = [_flag_words("sessions", flag) for flag in SESSION_REVIEW if flag in flags]
    # FLAIR_partial: a sequence and what is wrong with it.
    parts = [flag.partition("_") for flag in flags]
    said += [f"{sequence}: {Reason.of(word).text}" for sequence, _, word in parts if word in SEQUENCE_REVIEW]
    return [Finding(place, words) for words in said]


def _flag_words(kind: str, flag: str) -> str:
    return meaning_of(kind, "flags", flag) or plain_words(flag)


def _why_review(row: Record) -> str:
    """Say why a lesion at a session requires review, or nothing."""
    flags, event, status = flags_of(row), text_of(row, "event"), text_of(row, "new_lesion_status")
    words = [_flag_words("lesions", flag) for flag in REVIEW_FLAGS if flag in flags]
    if text_of(row, "lesion_response") == "PD":
        words.append(f"grew, {show('lesions', 'ld_change_nadir_pct', row)} from its smallest")
    if event == "new":
        words.append("new lesion" + (f", {status}" if status else ""))
    candidate = show_candidate(row)
    if candidate:
        words.append(candidate)
    if event in _EVENTS:
        words.append(_EVENTS[event] + (f" {text_of(row, 'merged_into')}" if event == "merged_into" else ""))
    return "; ".join(words)
