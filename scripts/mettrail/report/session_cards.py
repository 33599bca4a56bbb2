"""A patient's sessions, one card each: figures, remarks, pictures and their signs of failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mettrail.report.captions import Caption
from mettrail.report.figures import FIRST_LESIONS
from mettrail.report.parts import (
    Fact,
    Flag,
    Picture,
    Problem,
    Response,
    embed_picture,
    make_chip,
    make_flags,
    make_problem,
    make_standing,
)
from mettrail.report.text import Record, plain_label, plain_words, plural_of, show, show_day, show_role, spaced
from mettrail.schema.cells import number_of, text_of, truth_of

# Of each picture below the lesions': its name, the stage whose caption names signs of failure, alternative text.
_FOLDED = {
    "brain": ("Check: brain mask", "strip", "Outline of the brain mask on the scan of {session}, in three planes."),
    "registration": (
        "Check: registration of the prior session",
        "register",
        "Checkerboard of the prior session and {session}, and edges of the former on the latter, in three planes.",
    ),
}
_CHANGES = {"sum_ld_change_baseline_pct": "from baseline", "sum_ld_change_nadir_pct": "from nadir"}
_COUNTS = {"n_new": "new", "n_absent": "no longer detected", "n_candidates": "not counted: candidates"}


@dataclass(frozen=True)
class FoldedPicture:
    """A picture in a fold, with the words on the fold and its caption."""

    summary: str
    picture: Picture | None
    caption: Caption


@dataclass(frozen=True)
class SessionCard:
    """A session; of one that failed before it came into the tables there is its name and its problems."""

    name: str
    response: Response
    problems: Sequence[Problem]
    day: str = ""
    ne_reason: str = ""
    facts: Sequence[Fact] = ()
    flags: Sequence[Flag] = ()
    no_picture: str = ""
    lesions: Picture | None = None
    folded: Sequence[FoldedPicture] = ()


def make_cards(
    sessions: Sequence[Record],
    lesions: Sequence[Record],
    problems: Sequence[Record],
    pictures: Mapping[str, Mapping[str, Path]],
    captions: Mapping[str, Caption],
) -> list[SessionCard]:
    """Make the cards of all sessions of a patient: those of the tables in order, then those that failed before."""
    of_session: dict[str, list[Problem]] = {}
    for problem in problems:
        if text_of(problem, "ses"):
            of_session.setdefault(f"ses-{plain_label(text_of(problem, 'ses'))}", []).append(make_problem(problem))
    cards = []
    for session in sessions:
        name = session["session_id"]
        own = [row for row in lesions if row["session_id"] == name]
        cards.append(_make_card(session, own, of_session.pop(name, []), pictures.get(name, {}), captions))
    failed = [SessionCard(name, Response(make_chip("NE")), of_session[name]) for name in sorted(of_session)]
    return cards + failed


def _make_card(
    session: Record,
    lesions: Sequence[Record],
    problems: Sequence[Problem],
    pictures: Mapping[str, Path],
    captions: Mapping[str, Caption],
) -> SessionCard:
    name, evaluable = session["session_id"], truth_of(session, "evaluable")
    present = [row for row in lesions if text_of(row, "status") == "present"]
    no_picture = ""
    if "lesions" not in pictures:
        no_picture = "its stage did not finish" if problems or evaluable is False else "there is no file"
    said = "; ".join(spaced(text_of(row, "track_id"), show("lesions", "ld_mm", row), show_role(row)) for row in present)
    alt = f"Axial slices through the lesions of {name}: {said or 'none'}."
    return SessionCard(
        name,
        make_standing(session),
        problems,
        day=show_day(session),
        ne_reason=plain_words(text_of(session, "ne_reason")) if evaluable is False else "",
        facts=_facts(session),
        flags=make_flags("sessions", session),
        no_picture=no_picture,
        lesions=embed_picture(pictures.get("lesions"), alt),
        folded=_folded_pictures(name, pictures, captions, n_more=len(present) - FIRST_LESIONS),
    )


def _folded_pictures(
    name: str, pictures: Mapping[str, Path], captions: Mapping[str, Caption], *, n_more: int
) -> list[FoldedPicture]:
    folded = []
    if n_more > 0 and "more" in pictures:
        alt = f"Axial slices through the remaining lesions of {name}."
        # Signs of failure on pictures of lesions are named once, above the sessions.
        folded.append(FoldedPicture(plural_of(n_more, "remaining lesion"), embed_picture(pictures["more"], alt), ()))
    for kind, (summary, stage, alt) in _FOLDED.items():
        if kind in pictures:
            picture = embed_picture(pictures[kind], alt.format(session=name))
            folded.append(FoldedPicture(summary, picture, captions.get(stage, ())))
    return folded


def _facts(session: Record) -> list[Fact]:
    imaging = text_of(session, "response_imaging_final")
    chip = make_chip(imaging, "sessions", "response_imaging_final")
    edema, cavity = (show("sessions", name, session) for name in ("total_vol_ed_ml", "cavity_ml"))
    edema = f"edema {edema}" + (f", resection cavity {cavity}" if cavity != "n/a" else "")
    statuses = [text_of(session, name) or "unknown" for name in ("steroid_status", "clinical_status")]
    assumed = "taken as none, stable" if truth_of(session, "clinical_assumed") else ""
    return [
        Fact("Sum of targets", show("sessions", "sum_ld_mm", session), _changes(session)),
        Fact("Lesions", text_of(session, "n_lesions") or "n/a", _lesion_counts(session)),
        *([Fact("From images alone", chip=chip)] if imaging else []),
        Fact("Volume of all lesions", show("sessions", "total_vol_wl_ml", session), edema),
        Fact("Steroids · clinical", " · ".join(statuses), assumed),
        Fact("Registration", text_of(session, "registration_qc") or "n/a", _shift(session)),
    ]


def _changes(session: Record) -> str:
    shown = {name: show("sessions", name, session) for name in _CHANGES}
    return ", ".join(f"{value} {_CHANGES[name]}" for name, value in shown.items() if value != "n/a")


def _lesion_counts(session: Record) -> str:
    return ", ".join(
        f"{text_of(session, name)} {word}" for name, word in _COUNTS.items() if number_of(session, name) > 0
    )


def _shift(session: Record) -> str:
    shift = show("sessions", "residual_shift_mm", session)
    return "" if shift == "n/a" else f"lesions were {shift} off: corrected"
