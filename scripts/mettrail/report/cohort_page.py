"""The cohort's page: what went wrong, every patient, every session, and what requires review."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mettrail.report.captions import STAGES, Caption
from mettrail.report.environment import render
from mettrail.report.method import Method
from mettrail.report.outliers import RULE, rank_sessions
from mettrail.report.parts import (
    NO_FAILURE,
    Cell,
    Fact,
    Heading,
    Link,
    Row,
    Table,
    embed_chart,
    log_address,
    make_cell,
    make_chip,
    make_response_cell,
    make_table,
    make_track,
    session_css,
)
from mettrail.report.review import brain_remarks, is_uncertain, remarkable_lesions, unconfirmed_responses
from mettrail.report.text import Record, meaning_of, plain_label, plain_words, plural_of, records_of, show, show_volume
from mettrail.schema.cells import number_of, text_of, truth_of

PATIENTS = {
    "participant_id": "patient",
    "n_sessions": "sessions",
    "n_evaluable": "evaluable",
    "n_lesions_baseline": "lesions",
    "n_targets": "targets",
    "n_new_total": "new later",
    "baseline_sum_ld_mm": "baseline sum",
    "best_change_ld_pct": "best change",
    "best_response": "best response",
    "best_response_confirmed": "confirmed",
    "best_response_volumetric": "by volume",
    "progression_day": "progression day",
    "progression_reason": "because of",
    "first_event": "first event",
    "flags": "remarks",
}
SESSIONS = {
    "participant_id": "patient",
    "session_id": "session",
    "days_from_t0": "day",
    "session_role": "role",
    "evaluable": "evaluable",
    "ne_reason": "reason",
    "registration_qc": "registration",
    "n_lesions": "lesions",
    "n_new": "new",
    "sum_ld_mm": "sum",
    "response_imaging_final": "imaging",
    "response_overall_final": "overall",
    "flags": "remarks",
}
_SPREAD_ALT = "Change of the sum from baseline by patient; number and volume of the lesions at baseline."
# Rows from which on a table can be filtered.
_FILTER_FROM = 9
_FILTER_PROBLEMS_FROM = 13


def make_page(
    patients: pd.DataFrame,
    sessions: pd.DataFrame,
    lesions: pd.DataFrame,
    problems: Sequence[Record],
    *,
    figures: Mapping[str, Path],
    links: Mapping[str, str],
    pages: Mapping[str, str],
    captions: Mapping[str, Caption],
    method: Method,
    settings: str,
    settings_hash: str,
    version: str,
) -> str:
    """Write the cohort's page.

    Parameters
    ----------
    patients, sessions, lesions : DataFrame
        The three tables. Any may be empty.
    problems : sequence of mapping
        As for `patient_page.make_page`.
    figures : mapping
        ``cohort``, ``spread``, ``incidence``: paths of charts. The last may be missing: no lesion was treated.
    links : mapping of str to str
        Name and address, relative to the page, of tables and dictionaries.
    pages : mapping of str to str
        Address of each patient's page, by participant_id.
    captions : mapping of str to Caption
        By stage, from `captions.read_captions`.
    method : Method
        Of this run.
    settings : str
        The settings as they were used, as text (YAML).
    settings_hash, version : str

    Returns
    -------
    str
        The whole file.
    """
    patient_rows, session_rows, lesion_rows = (records_of(table) for table in (patients, sessions, lesions))
    shown = [*problems, *_not_evaluable(session_rows, problems)]

    def address_of(place: str) -> str:
        patient, _, session = place.partition("#")
        return _address(patient, session, pages) if session else pages.get(patient, "")

    return render(
        "cohort.html.j2",
        lead=_lead(patient_rows, session_rows, lesion_rows),
        facts=_facts(patient_rows, session_rows, lesion_rows, problems),
        problems=_problem_table(shown, pages) if shown else None,
        overview=embed_chart(figures.get("cohort"), "Best change of the sum, and responses, by patient.", address_of),
        spread=embed_chart(figures.get("spread"), _SPREAD_ALT, address_of),
        patients=_patient_table(patient_rows, session_rows, pages) if patient_rows else None,
        any_treated="incidence" in figures,
        incidence=embed_chart(
            figures.get("incidence"), "Cumulative incidence of local failure of treated lesions.", address_of
        ),
        sessions=_session_table(session_rows, pages) if session_rows else None,
        rule=RULE,
        any_lesion=bool(lesion_rows),
        review=_review_table(lesion_rows, session_rows, pages),
        files=[Link(name, address) for name, address in links.items()],
        method=method,
        captions=sorted(captions.items(), key=lambda item: STAGES.index(item[0])),
        settings=settings,
        settings_hash=settings_hash,
        version=version,
    )


def _lead(patients: Sequence[Record], sessions: Sequence[Record], lesions: Sequence[Record]) -> str:
    if not patients:
        return "No patient was found. The index says why a session is excluded."
    evaluable = sum(truth_of(s, "evaluable") is True for s in sessions)
    tracks = len({(r["participant_id"], r["track_id"]) for r in lesions})
    return (
        f"{plural_of(len(patients), 'patient')}, {plural_of(len(sessions), 'session')} ({evaluable} evaluable), "
        f"{plural_of(tracks, 'lesion')} followed."
    )


def _facts(
    patients: Sequence[Record], sessions: Sequence[Record], lesions: Sequence[Record], problems: Sequence[Record]
) -> list[Fact]:
    of_patients, of_sessions = f"of {plural_of(len(patients), 'patient')}", f"of {plural_of(len(sessions), 'session')}"
    responded = sum(text_of(p, "best_response") in ("CR", "PR") for p in patients)
    progressed = sum(truth_of(p, "progressed") is True for p in patients)
    new = sum(text_of(r, "event") == "new" for r in lesions)
    not_evaluable = sum(truth_of(s, "evaluable") is False for s in sessions)
    failed = sum(p.get("stage") not in NO_FAILURE for p in problems)
    return [
        Fact("Best response CR or PR", str(responded), of_patients),
        Fact("Progressed", str(progressed), of_patients),
        Fact("New lesions", str(new), "require review"),
        Fact("Not evaluable", str(not_evaluable), of_sessions),
        Fact("Excluded or failed", str(failed), "see below" if failed else "none"),
    ]


def _not_evaluable(sessions: Sequence[Record], problems: Sequence[Record]) -> list[dict[str, str]]:
    """List sessions of the tables that are not evaluable as problems; those that have failed are listed already."""
    listed = {_place_of(p) for p in problems if p.get("stage") not in NO_FAILURE}
    found = []
    for session in sessions:
        place = plain_label(session["participant_id"]), plain_label(session["session_id"])
        if truth_of(session, "evaluable") is False and place not in listed:
            reason = text_of(session, "ne_reason")
            detail = meaning_of("sessions", "ne_reason", reason)
            found.append(
                {"sub": place[0], "ses": place[1], "stage": "not evaluable", "reason": reason, "detail": detail}
            )
    return found


def _place_of(problem: Record) -> tuple[str, str]:
    return plain_label(text_of(problem, "sub")), plain_label(text_of(problem, "ses"))


def _address(patient: str, session: str, pages: Mapping[str, str]) -> str:
    """Return where a session is on its patient's page; empty where there is no page."""
    return f"{pages[patient]}#{session}" if patient in pages else ""


def _problem_table(problems: Sequence[Record], pages: Mapping[str, str]) -> Table:
    rows = []
    for problem in problems:
        subject, session = _place_of(problem)
        patient, name = f"sub-{subject}" if subject else "cohort", f"ses-{session}"
        log = log_address(problem)
        cells = [
            Cell(name, href=_address(patient, name, pages)) if session else Cell("–"),
            Cell(text_of(problem, "stage")),
            Cell(plain_words(text_of(problem, "reason"))),
            Cell(text_of(problem, "detail"), css="text"),
            Cell(log or "–", href=log),
        ]
        rows.append(Row(Cell(patient), cells))
    headings = [Heading(name) for name in ("patient", "session", "stage", "reason", "what was found", "log")]
    label = "What was excluded, failed or is not evaluable"
    return Table(label, headings, rows, filtered=len(rows) >= _FILTER_PROBLEMS_FROM)


def _patient_table(patients: Sequence[Record], sessions: Sequence[Record], pages: Mapping[str, str]) -> Table:
    of_patient: dict[str, list[Record]] = {}
    for session in sessions:
        of_patient.setdefault(session["participant_id"], []).append(session)
    rows = []
    for patient in patients:
        name, best = patient["participant_id"], text_of(patient, "best_response")
        cells = {column: make_cell("patients", column, patient) for column in PATIENTS}
        unconfirmed = unconfirmed_responses(of_patient.get(name, []))
        if unconfirmed and best not in ("CR", "PR"):
            cells["best_response"] = Cell(chip=make_chip(best, "patients", "best_response"), notes=[unconfirmed])
        del cells["participant_id"]
        rows.append(Row(Cell(name, href=pages.get(name, "")), list(cells.values())))
    return make_table("patients", PATIENTS, rows, filter_from=_FILTER_FROM)


def _session_table(sessions: Sequence[Record], pages: Mapping[str, str]) -> Table:
    rows = []
    for session, why in rank_sessions(sessions):
        patient, name = session["participant_id"], session["session_id"]
        cells = {column: make_cell("sessions", column, session) for column in SESSIONS}
        if text_of(session, "response_overall_final"):
            cells["response_overall_final"] = make_response_cell(session)
        cells["session_id"] = Cell(name, href=_address(patient, name, pages))
        shown = [cells[column] for column in [*SESSIONS][1:]]
        rows.append(Row(Cell(patient), [shown[0], Cell(why or "–", css="text"), *shown[1:]], session_css(session)))
    table = make_table("sessions", SESSIONS, rows, filter_from=_FILTER_FROM)
    first, second, *others = table.headings
    return replace(table, headings=[first, second, Heading("stands out by"), *others])


def _review_table(lesions: Sequence[Record], sessions: Sequence[Record], pages: Mapping[str, str]) -> Table | None:
    """List what requires review: brain masks, then lesions: of uncertain identity, new, with other remarks."""
    rows = []
    for session in sessions:
        patient, name = session["participant_id"], session["session_id"]
        place = Cell(name, href=_address(patient, name, pages))
        for why in brain_remarks(session):
            rows.append(Row(Cell(patient), [place, Cell("–"), Cell("–"), Cell("–"), Cell(why, css="text")]))
    for row, why in sorted(remarkable_lesions(lesions), key=lambda found: not is_uncertain(found[0])):
        patient, name = row["participant_id"], row["session_id"]
        present = text_of(row, "status") == "present"
        cells = [
            Cell(name, href=_address(patient, name, pages)),
            Cell(track=make_track(text_of(row, "track_id"))),
            Cell(show("lesions", "ld_mm", row) if present else "–"),
            Cell(show_volume(number_of(row, "vol_wl_ml")) if present else "–"),
            Cell(why, css="text"),
        ]
        rows.append(Row(Cell(patient), cells))
    headings = [Heading(name) for name in ("patient", "session", "lesion", "diameter", "volume", "why")]
    return Table("Lesions that require review", headings, rows, filtered=len(rows) >= _FILTER_FROM) if rows else None
