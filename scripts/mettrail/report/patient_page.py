"""A patient's page: it shows tables and pictures that exist and computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mettrail.report.captions import Caption
from mettrail.report.decisions import make_form
from mettrail.report.environment import render
from mettrail.report.figures import is_unconfirmed
from mettrail.report.films import FIRST_FILMS, make_films
from mettrail.report.lesion_tables import make_details, make_matrix, make_treated_table
from mettrail.report.parts import (
    Cell,
    Fact,
    Link,
    Response,
    Row,
    Table,
    embed_chart,
    make_cell,
    make_chip,
    make_flags,
    make_response_cell,
    make_standing,
    make_table,
    session_css,
)
from mettrail.report.review import findings, unconfirmed_responses
from mettrail.report.session_cards import make_cards
from mettrail.report.strips import make_strips
from mettrail.report.text import Record, meaning_of, plain_label, plural_of, records_of, show, show_day, spaced
from mettrail.schema.cells import number_of, text_of, truth_of, words_of

RESPONSES = {
    "session_id": "session",
    "days_from_t0": "day",
    "sum_ld_mm": "sum",
    "sum_ld_change_baseline_pct": "from baseline",
    "sum_ld_change_nadir_pct": "from nadir",
    "max_lesion_increase_mm": "largest growth",
    "total_vol_wl_ml": "all lesions",
    "target_response": "targets",
    "nontarget_response": "non-targets",
    "new_lesion": "new lesion",
    "response_imaging_final": "imaging",
    "response_overall_final": "overall",
    "response_volumetric_final": "by volume",
}
# Events of a study of outcomes, by the column that says on which day each came.
_EVENT_DAYS = {
    "local_failure_day": "local failure",
    "distant_failure_day": "distant failure",
    "leptomeningeal_day": "leptomeningeal",
    "salvage_day": "salvage",
    "death_day": "death",
}


def make_page(
    participant: str,
    lesion_rows: pd.DataFrame,
    session_rows: pd.DataFrame,
    patient_row: Record,
    treated_rows: pd.DataFrame,
    figures: Mapping[str, Any],
    *,
    links: Mapping[str, str],
    problems: Sequence[Record],
    captions: Mapping[str, Caption],
    settings_hash: str,
    version: str,
) -> str:
    """Write a patient's page.

    Parameters
    ----------
    participant : str
        ``sub-A``.
    lesion_rows, session_rows : DataFrame
        The patient's rows of the lesion and session tables, sessions in order. Either may be empty.
    patient_row : mapping
        The patient's row of the patient table. May be empty.
    treated_rows : DataFrame
        The patient's rows of the table of treated lesions. May be empty.
    figures : mapping
        ``trajectories``: path of a picture; ``strips``: folder of the film strips, or None; ``sessions``:
        ``{"ses-01": {"lesions": path, "more": path, "brain": path, "registration": path}}``, as `parts.group_pictures`
        makes it. What is missing is said to be missing.
    links : mapping of str to str
        Name and address, relative to the page, of tables and other pages. ``cohort`` is the way back; ``viewer`` is
        empty where none was made.
    problems : sequence of mapping
        What did not go well: sub, ses, stage, reason, detail, log (`cohort.list_problems`). Those of other patients are
        not shown.
    captions : mapping of str to Caption
        By stage, from `captions.read_captions`.
    settings_hash, version : str
        Fingerprint of the settings; version of the program.

    Returns
    -------
    str
        The whole file.
    """
    lesions, sessions, treated = (records_of(table) for table in (lesion_rows, session_rows, treated_rows))
    patient = dict(patient_row)
    own = [p for p in problems if plain_label(text_of(p, "sub")) in ("", plain_label(participant))]
    evaluable = [s["session_id"] for s in sessions if truth_of(s, "evaluable") is True]
    last = evaluable[-1] if evaluable else ""
    return render(
        "patient.html.j2",
        participant=participant,
        back=links.get("cohort", ""),
        viewer=links.get("viewer", ""),
        lead=_lead(sessions, patient),
        facts=_facts(patient, sessions) if patient else [],
        flags=make_flags("patients", patient),
        timeline=[_timeline_item(s) for s in sessions],
        findings=findings(participant, lesions, sessions, own),
        course=embed_chart(
            figures.get("trajectories"), _course_alt(lesions, sessions), lambda name: name and f"#{name}"
        ),
        responses=_response_table(sessions) if sessions else None,
        any_unconfirmed=any(map(is_unconfirmed, sessions)),
        compared=[said for said in map(_like_with_like, sessions) if said],
        matrix=make_matrix(lesions, sessions),
        last_evaluable=last,
        details=make_details([r for r in lesions if r["session_id"] == last]),
        films=make_films(participant, make_strips(lesion_rows, session_rows), figures.get("strips")),
        first_films=FIRST_FILMS,
        films_caption=captions.get("match", ()),
        treated=make_treated_table(treated),
        cards=make_cards(sessions, lesions, own, figures.get("sessions", {}), captions),
        form=make_form(participant, lesions, sessions) if sessions else None,
        files=[Link(name, address) for name, address in links.items() if name not in ("cohort", "viewer")],
        course_caption=captions.get("assess", ()),
        sessions_caption=captions.get("measure", ()),
        settings_hash=settings_hash,
        version=version,
    )


def _lead(sessions: Sequence[Record], patient: Record) -> str:
    if not sessions:
        return "No session."
    evaluable = sum(truth_of(s, "evaluable") is True for s in sessions)
    days = pd.Series([number_of(s, "days_from_t0") for s in sessions]).dropna()
    span = f" over {days.max() - days.min():.0f} days" if len(days) > 1 else ""
    start = meaning_of("patients", "t0_source", text_of(patient, "t0_source")) or "the first session"
    return f"{plural_of(len(sessions), 'session')}{span}, {evaluable} evaluable. Days count from {start}."


def _facts(patient: Record, sessions: Sequence[Record]) -> list[Fact]:
    best = text_of(patient, "best_response")
    confirmed = {True: "confirmed", False: "not confirmed", None: ""}[truth_of(patient, "best_response_confirmed")]
    day = text_of(patient, "best_response_day")
    unconfirmed = unconfirmed_responses(sessions) if best not in ("CR", "PR") else ""
    notes = [note for note in (confirmed, f"day {day}" if day else "", unconfirmed) if note]
    n_targets, n_new = number_of(patient, "n_targets"), number_of(patient, "n_new_total")
    volumetric = text_of(patient, "best_response_volumetric")
    return [
        Fact("Best response", note="; ".join(notes), chip=make_chip(best, "patients", "best_response")),
        _progression(patient, sessions),
        Fact(
            "Sum of targets at baseline",
            show("patients", "baseline_sum_ld_mm", patient),
            plural_of(int(n_targets), "target") if n_targets >= 0 else "",
        ),
        Fact(
            "Best change",
            show("patients", "best_change_ld_pct", patient),
            f"volume {show('patients', 'best_change_vol_pct', patient)}",
        ),
        Fact(
            "Lesions at baseline",
            text_of(patient, "n_lesions_baseline") or "n/a",
            f"{plural_of(int(n_new), 'new lesion')} later" if n_new > 0 else "",
        ),
        Fact("Best response by volume", chip=make_chip(volumetric, "patients", "best_response")),
        *_outcome_facts(patient),
    ]


def _progression(patient: Record, sessions: Sequence[Record]) -> Fact:
    if truth_of(patient, "progressed"):
        reason = ", ".join(words_of(patient, "progression_reason")).replace("nontarget", "non-target")
        return Fact("Progression", f"day {text_of(patient, 'progression_day') or '?'}", reason)
    if sum(truth_of(s, "evaluable") is True for s in sessions) < 2:
        return Fact("Progression", "n/a", "no evaluable follow-up")
    return Fact("Progression", "none", f"until day {text_of(patient, 'last_evaluable_day') or '?'}")


def _outcome_facts(patient: Record) -> list[Fact]:
    """Say when which event of a study of outcomes came, where any did."""
    event = text_of(patient, "first_event")
    days = [f"{word} day {text_of(patient, name)}" for name, word in _EVENT_DAYS.items() if text_of(patient, name)]
    if event in ("", "none") and not days:
        return []
    first = {"local": "local failure", "distant": "distant failure"}.get(event, event)
    return [Fact("First event", first or "n/a", ", ".join(days))]


def _timeline_item(session: Record) -> dict[str, str | Response]:
    return {
        "name": session["session_id"],
        "day": show_day(session),
        "response": make_standing(session),
        "css": session_css(session),
    }


def _course_alt(lesions: Sequence[Record], sessions: Sequence[Record]) -> str:
    tracks = plural_of(len({r["track_id"] for r in lesions}), "lesion")
    sums = "; ".join(spaced(s["session_id"], show("sessions", "sum_ld_mm", s)) for s in sessions)
    return (
        f"Volume and longest diameter of {tracks} over {plural_of(len(sessions), 'session')}, and sum of the targets' "
        f"diameters: {sums}."
    )


def _response_table(sessions: Sequence[Record]) -> Table:
    rows = []
    for session in sessions:
        cells = {name: make_cell("sessions", name, session) for name in RESPONSES}
        if text_of(session, "response_overall_final"):
            cells["response_overall_final"] = make_response_cell(session)
        del cells["session_id"]
        name = session["session_id"]
        rows.append(Row(Cell(name, href=f"#{name}"), list(cells.values()), session_css(session)))
    return make_table("sessions", RESPONSES, rows)


def _like_with_like(session: Record) -> dict[str, str] | None:
    """Say where a session is compared with another sum at baseline than the one written there."""
    shown, frozen = (show("sessions", name, session) for name in ("reference_sum_ld_mm", "sum_ld_baseline_mm"))
    if "n/a" in (shown, frozen) or shown == frozen:
        return None
    return {"session": session["session_id"], "shown": shown, "frozen": frozen}
