"""Pages for people: one per patient, one for the cohort. They show tables and pictures that exist and compute nothing.

A page is one file: pictures are inside it, nothing is loaded from anywhere, and it forbids itself to. It works from a
disk, on paper, in the light and in the dark, and without JavaScript.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from mettrail.errors import InputError
from mettrail.reasons import Reason
from mettrail.report.figures import (
    FIRST_LESIONS,
    RESPONSE_COLOURS,
    RESPONSE_NAMES,
    REVIEW_FLAGS,
    is_unconfirmed,
    pr_continues,
    track_colour,
    track_marker,
)
from mettrail.schema import KINDS

LIMITS = (
    "Research decision support, not a clinical response call. Every automatic progression and every new lesion must be "
    "checked on the scans, and can be overridden."
)
# What a page calls a picture of a session, the stage whose caption says how failure looks, alternative text.
PICTURES = {
    "lesions": ("Lesions", "measure", "Axial slices through the lesions of {session}: {lesions}."),
    "more": ("other lesions", None, "Axial slices through the other lesions of {session}."),
    "brain": ("Brain mask", "strip", "Outline of the brain mask on the scan of {session}, in three planes."),
    "registration": (
        "Registration of the prior session",
        "register",
        "Checkerboard of the prior session and {session}, and edges of the former on the latter, in three planes.",
    ),
}
# Remarks on a session that a person should look into, besides those on its lesions.
SESSION_REVIEW = ("residual_shift", "nontarget_review", "edema_progression", "probable_miss", "steroid_hold")
METHOD = (
    "Each scan is corrected for its brightness gradient (N4), the brain is extracted, and the session's other "
    "sequences are brought onto its reference image. The prior session is registered to this one (rigid, affine, "
    "deformable) and its lesions are propagated. Lesions are segmented twice: on this scan alone, and with the "
    "propagated lesions as a prior; both are joined. Sizes are measured on the scan's own grid. Lesions are matched "
    "over all sessions in one rigid space per patient. Response follows RANO-BM, for diameters and, beside it, for "
    "volumes."
)
INCIDENCE = (
    "Local failure of a treated lesion from its treatment on: its longest diameter at least 20 % and 5 mm above its "
    "smallest since, or its volume at least 72.8 % and 0.1 mL. Death is a competing event; lesions without failure are "
    "censored at the last evaluable session, or when treated again. The band is the 95 % confidence interval."
)
# The order in which data goes through the stages.
STAGES = (
    *("index", "debias", "strip", "align", "register", "propagate"),
    *("segment", "measure", "match", "assess", "report"),
)
REFERENCES = (
    ("RANO-BM", "Lin et al. 2015, Lancet Oncology 16:e270", "10.1016/S1470-2045(15)70057-4"),
    ("Re-segmentation over time", "Andrearczyk et al. 2024, Scientific Reports 14:31603", "10.1038/s41598-024-78865-7"),
    ("nnU-Net", "Isensee et al. 2021, Nature Methods 18:203", "10.1038/s41592-020-01008-z"),
    ("ANTs", "Avants et al. 2008, Medical Image Analysis 12:26", "10.1016/j.media.2007.06.004"),
    ("ANTs", "Avants et al. 2009, Insight Journal 2:1", "10.54294/uvnhin"),
    ("greedy", "Yushkevich et al. 2016, Alzheimer's & Dementia 12:P126", "10.1016/j.jalz.2016.06.205"),
    ("N4", "Tustison et al. 2010, IEEE Trans. Medical Imaging 29:1310", "10.1109/TMI.2010.2046908"),
    ("deepbet", "Fisch et al. 2024, Computers in Biology and Medicine 179:108845", "10.1016/j.compbiomed.2024.108845"),
    ("HD-BET", "Isensee et al. 2019, Human Brain Mapping 40:4952", "10.1002/hbm.24750"),
)

_COLUMNS = {kind: {c.name: c for c in columns} for kind, columns in KINDS.items()}


def patient_page(
    participant: str,
    lesion_rows: pd.DataFrame,
    session_rows: pd.DataFrame,
    patient_row: Mapping,
    treated_rows: pd.DataFrame,
    figures: Mapping,
    *,
    links: Mapping[str, str],
    problems: Sequence[Mapping],
    captions: Mapping[str, str],
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
        ``trajectories``: path of a picture; ``sessions``: ``{"ses-01": {"lesions": path, "more": path, "brain": path,
        "registration": path}}``, as `group_pictures` makes it. What is missing is said to be missing.
    links : mapping of str to str
        Name and address, relative to the page, of tables and other pages. ``cohort`` is the way back.
    problems : sequence of mapping
        What did not go well: sub, ses, stage, reason, detail, log (`cohort.list_problems`). Those of other patients are
        left out.
    captions : mapping of str to str
        Text by stage, from `read_captions`.
    settings_hash, version : str
        Fingerprint of the settings; version of the program.

    Returns
    -------
    str
        The whole file.
    """
    lesions, sessions, treated = _records(lesion_rows), _records(session_rows), _records(treated_rows)
    mine = [p for p in problems if _plain(p.get("sub")) in ("", _plain(participant))]
    failed = {f"ses-{_plain(p['ses'])}" for p in mine if _text(p.get("ses"))}
    known = {s["session_id"] for s in sessions}
    body = [
        _patient_head(participant, sessions, dict(patient_row), links),
        _tag("p", LIMITS, class_="limits", role="note"),
        _patient_facts(dict(patient_row), sessions),
        _timeline(sessions),
        _section("What to review first", _to_check(lesions, sessions, mine, participant), id_="check"),
        _section("Course", _course(figures, lesions, sessions, captions), id_="course"),
        _section("Response at each session", _response_table(sessions), id_="response"),
        _section("Lesions", _lesion_matrix(lesions, sessions), _lesion_details(lesions, sessions), id_="lesions"),
        _section("Treated lesions", _treated_table(treated), id_="treated") if treated else "",
        _section(
            "Sessions",
            _caption(captions.get("measure")) if sessions else "",
            *(_session_card(s, lesions, figures, captions, mine) for s in sessions),
            *(_failed_card(name, mine) for name in sorted(failed - known)),
            "" if sessions or failed else _empty("No session of this patient is in the table."),
            id_="sessions",
        ),
        _section("Files", _file_list(links), id_="files"),
    ]
    return _page(f"{participant} – brain metastases over time", body, settings_hash=settings_hash, version=version)


def cohort_page(
    patients: pd.DataFrame,
    sessions: pd.DataFrame,
    lesions: pd.DataFrame,
    problems: Sequence[Mapping],
    *,
    figures: Mapping,
    links: Mapping[str, str],
    pages: Mapping[str, str],
    captions: Mapping[str, str],
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
        As for `patient_page`.
    figures : mapping
        ``cohort``, ``incidence``: paths of pictures. The latter may be missing: no lesion was treated.
    links : mapping of str to str
        Name and address, relative to the page, of tables and dictionaries.
    pages : mapping of str to str
        Address of each patient's page, by participant_id.
    captions : mapping of str to str
        Text by stage, from `read_captions`.
    settings : str
        The settings as they were used, as text (YAML).
    settings_hash, version : str

    Returns
    -------
    str
        The whole file.
    """
    patient_rows, session_rows, lesion_rows = _records(patients), _records(sessions), _records(lesions)
    body = [
        _tag(
            "header",
            _tag("h1", "Brain metastases over time"),
            _tag("p", _cohort_sentence(patient_rows, session_rows, lesion_rows), class_="lead"),
        ),
        _tag("p", LIMITS, class_="limits", role="note"),
        _cohort_facts(patient_rows, session_rows, lesion_rows, problems),
        _section(
            "What was excluded, failed, is not evaluable or has a warning, and why",
            _problem_table([*problems, *_not_evaluable(session_rows, problems)], pages),
            id_="failed",
        ),
        _section(
            "Response of each patient",
            _picture(figures.get("cohort"), "Best change of the sum, and responses, by patient.", wide=True)
            if patient_rows
            else _empty("No patient is in the table."),
            _patient_table(patient_rows, session_rows, pages),
            id_="patients",
        ),
        _section(
            "Treated lesions",
            _picture(figures["incidence"], "Cumulative incidence of local failure of treated lesions.", wide=True),
            _tag("p", INCIDENCE, class_="note"),
            id_="treated",
        )
        if "incidence" in figures
        else "",
        _section("Sessions", _session_table(session_rows, pages), id_="sessions"),
        _section("Lesions to review", _lesion_worklist(lesion_rows, session_rows, pages), id_="lesions"),
        _section("Files", _file_list(links), id_="files"),
        _section("Method", _tag("p", METHOD), _references(), id_="method"),
        _section("How to read the pictures", _caption_list(captions), id_="reading"),
        _section(
            "Settings",
            _details("All settings of this run", _tag("pre", settings or "n/a")),
            id_="settings",
        ),
    ]
    return _page("Brain metastases over time", body, settings_hash=settings_hash, version=version)


def group_pictures(paths: Iterable[str | Path]) -> dict[str, dict[str, Path]]:
    """Sort pictures of sessions by what their names say: ``sub-A_ses-02_lesions.png``.

    Examples
    --------
    >>> group_pictures(["figures/sub-A_ses-02_brain.png"])["ses-02"]["brain"].name
    'sub-A_ses-02_brain.png'
    """
    grouped: dict[str, dict[str, Path]] = {}
    for path in map(Path, paths):
        match = re.fullmatch(r"sub-[a-zA-Z0-9]+_(ses-[a-zA-Z0-9]+)_([a-z]+)", path.stem)
        if match is None:
            raise InputError(
                path,
                found="a name that is not one of a session's picture",
                expected="sub-<label>_ses-<label>_<lesions, more, brain or registration>.png",
                advice="Name it so.",
            )
        grouped.setdefault(match[1], {})[match[2]] = path
    return grouped


def read_captions(folder: str | Path, config: Mapping) -> dict[str, str]:
    """Read the captions of the stages, with the settings they speak of filled in.

    Parameters
    ----------
    folder : path
        Holds ``<stage>.rst``. They are also read by ``snakemake --report``, hence the way settings are written in them:
        ``{{ snakemake.config.strip.fit_warn }}``.
    config : mapping
        The settings.

    Raises
    ------
    InputError
        A caption speaks of a setting that does not exist.
    """

    def value(match, path):
        found = config
        for key in re.findall(r"\w+", match[1]):
            try:
                found = found[int(key) if key.isdigit() else key]
            except (KeyError, IndexError, TypeError) as err:
                raise InputError(
                    path,
                    found=f"a setting named {match[1]}",
                    expected="one of config/config.yaml",
                    advice="Correct the caption.",
                    reason=Reason.BAD_CAPTION,
                ) from err
        return str(found)

    return {
        path.stem: re.sub(
            r"\{\{\s*snakemake\.config\.([\w.\[\]]+)\s*\}\}",
            lambda m, path=path: value(m, path),
            path.read_text(encoding="utf-8"),
        )
        for path in sorted(Path(folder).glob("*.rst"))
    }


# ---------------------------------------------------------------------------------------------------- patient


def _patient_head(participant, sessions, patient, links):
    back = _tag("nav", _tag("a", "← all patients", href=links["cohort"]), class_="back") if "cohort" in links else ""
    if not sessions:
        lead = "No session."
    else:
        evaluable = sum(_truth(s.get("evaluable")) is True for s in sessions)
        days = [float(d) for d in (_text(s.get("days_from_t0")) for s in sessions) if d]
        span = f" over {max(days) - min(days):.0f} days" if len(days) > 1 else ""
        lead = f"{_count(len(sessions), 'session')}{span}, {evaluable} evaluable."
        lead += f" Days count from {_level('patients', 't0_source', patient.get('t0_source')) or 'the first session'}."
    return _tag("header", back, _tag("h1", participant), _tag("p", lead, class_="lead"))


def _patient_facts(patient, sessions):
    if not patient:
        return _empty("This patient has no row in the patient table: see the failures below.")
    evaluable = [s for s in sessions if _truth(s.get("evaluable")) is True]
    progressed = _truth(patient.get("progressed"))
    reason = _text(patient.get("progression_reason")).replace(";", ", ").replace("nontarget", "non-target")
    if progressed:
        progression, note = f"day {_text(patient.get('progression_day')) or '?'}", reason
    elif len(evaluable) < 2:
        progression, note = "n/a", "no evaluable follow-up"
    else:
        progression, note = "none", f"until day {_text(patient.get('last_evaluable_day')) or '?'}"
    confirmed = {True: "confirmed", False: "not confirmed"}.get(_truth(patient.get("best_response_confirmed")), "")
    day = _text(patient.get("best_response_day"))
    best = _text(patient.get("best_response"))
    doubted = _not_lasting(sessions) if best not in ("CR", "PR") else ""
    return _facts(
        (
            "Best response",
            _chip(best, "patients", "best_response"),
            "; ".join(p for p in (confirmed, f"day {day}" if day else "", doubted) if p),
        ),
        ("Progression", progression, note),
        (
            "Sum of targets at baseline",
            _show("patients", "baseline_sum_ld_mm", patient),
            _count_text(patient.get("n_targets"), "target"),
        ),
        (
            "Best change",
            _show("patients", "best_change_ld_pct", patient),
            _join("volume", _show("patients", "best_change_vol_pct", patient)),
        ),
        (
            "Lesions at baseline",
            _text(patient.get("n_lesions_baseline")) or "n/a",
            _join(_count_text(patient.get("n_new_total"), "new lesion"), "later")
            if _text(patient.get("n_new_total")) not in ("", "0")
            else "",
        ),
        ("Best response by volume", _chip(patient.get("best_response_volumetric"), "patients", "best_response"), ""),
        *_outcome_facts(patient),
    ) + _flag_line("patients", patient.get("flags"))


def _outcome_facts(patient):
    """Say when which event of a study of outcomes came, where any did."""
    event = _text(patient.get("first_event"))
    names = ("local_failure", "distant_failure", "leptomeningeal", "salvage", "death")
    days = [(name.replace("_", " "), _text(patient.get(f"{name}_day"))) for name in names]
    if event in ("", "none") and not any(day for _, day in days):
        return ()
    first = {"local": "local failure", "distant": "distant failure"}.get(event, event)
    return (("First event", first or "n/a", ", ".join(f"{name} day {day}" for name, day in days if day)),)


def _not_lasting(sessions):
    """Say which CR and PR, up to the first PD, were not confirmed."""
    found = []
    for s in sessions:
        response = _text(s.get("response_overall_final"))
        if response == "PD":
            break
        if is_unconfirmed(s):
            found.append(f"{response} on {_day(s)}")
    return f"{', '.join(found)} not confirmed: counts as SD" if found else ""


def _response_chip(session):
    """Show a session's overall response; hollow if not confirmed, and what the response does not say itself."""
    final = _text(session.get("response_overall_final")) or "NE"
    chip = _chip(final, hollow=is_unconfirmed(session))
    note = ""
    if is_unconfirmed(session):
        note = "not confirmed"
    elif pr_continues(session):
        note = "confirmed PR continues"
    return (chip, " ", _tag("small", note)) if note else chip


def _timeline(sessions):
    if not sessions:
        return ""
    items = []
    for s in sessions:
        role, name = _text(s.get("session_role")), s["session_id"]
        if role == "baseline":
            mark = _tag("span", "baseline", class_="chip plain")
        elif role == "prebaseline":
            mark = _tag("span", "before baseline", class_="chip plain")
        else:
            mark = _response_chip(s)
        items.append(
            _tag(
                "li",
                _tag(
                    "a", _tag("span", _day(s), class_="day"), mark, _tag("span", name, class_="muted"), href=f"#{name}"
                ),
                class_="ne" if _truth(s.get("evaluable")) is False else None,
            )
        )
    return _tag("nav", _tag("ol", *items, class_="timeline"), aria_label="Response at each session")


def _to_check(lesions, sessions, problems, participant):
    """Gather what requires review, from what the tables say: lesions that may be others, then what weighs most."""
    doubts, responses, failures, looks = [], [], [], []
    seen = {s["session_id"] for s in sessions}
    for p in problems:
        place = f"ses-{_plain(p['ses'])}" if _text(p.get("ses")) else participant
        anchor = _tag("a", place, href=f"#{place}") if place in seen else place
        failures.append((anchor, *_stopped(p)))
    failed = {f"ses-{_plain(p.get('ses'))}" for p in problems if p.get("stage") not in _NO_FAILURE}
    remarkable = list(_worth_a_look(lesions))
    for s in sessions:
        name = s["session_id"]
        link = _tag("a", name, href=f"#{name}")
        now, then = _text(s.get("response_overall_final")), _text(s.get("response_overall_prospective"))
        if now in ("PD", "uPD"):
            reason = [_level("sessions", "pd_reason", r) or r for r in _text(s.get("pd_reason")).split(";") if r]
            responses.append((link, " ", _chip(now), " ", ", ".join(reason) or "see the table"))
        if is_unconfirmed(s):
            responses.append((link, " ", _chip(now, hollow=True), " not confirmed by a later session"))
        if then and now and then != now:
            responses.append(
                (link, " was ", _chip(then), " when it was read, is ", _chip(now), " with what came later")
            )
        if _truth(s.get("evaluable")) is False and name not in failed:
            failures.append((link, " not evaluable: ", _reason(s.get("ne_reason"))))
        looks += [(link, " ", why) for why in _brain_remarks(s)]
        given = _text(s.get("flags")).split(";")
        responses += [
            (link, " ", _level("sessions", "flags", flag) or _reason(flag)) for flag in SESSION_REVIEW if flag in given
        ]
        # One line for all lesions of a session of which the same is to be said.
        alike: dict[str, list] = {}
        for row, why in remarkable:
            if row["session_id"] == name:
                alike.setdefault(why, []).append(row)
        for why, rows in alike.items():
            tracks = [part for row in rows for part in (" ", _track(row["track_id"]))]
            (doubts if _doubtful(rows[0]) else looks).append((link, *tracks, " ", why))
    items = doubts + responses + failures + looks
    if not items:
        return _empty("Nothing stands out. Looking at the pictures below is still worth it.")
    return _tag("ul", *(_tag("li", *i) for i in items), class_="check")


def _brain_remarks(session):
    """Say what is doubtful about a session's brain mask."""
    flags = [flag for flag in _text(session.get("flags")).split(";") if flag.startswith("brain_")]
    failed = ["brain mask failed: not evaluable"] * (_text(session.get("ne_reason")) == "brain_mask")
    return failed + [_level("sessions", "flags", flag) or _reason(flag) for flag in flags]


def _worth_a_look(lesions):
    """Yield rows that require review, and why; a lesion that stays merged does once."""
    merged = set()
    for row in lesions:
        key, why = (row["participant_id"], row["track_id"]), _why_look(row)
        if why and key not in merged:
            yield row, why
        (merged.add if _text(row.get("status")) == "merged" else merged.discard)(key)


def _doubtful(row):
    """Whether it is in doubt which lesion this is, or where it ends."""
    return bool({"weak_match", "coalesced"} & set(_text(row.get("flags")).split(";")))


def _why_look(row):
    """Say why a lesion at a session requires review, or nothing."""
    given = _text(row.get("flags")).split(";")
    words = [_level("lesions", "flags", flag) or _reason(flag) for flag in REVIEW_FLAGS if flag in given]
    if _text(row.get("lesion_response")) == "PD":
        words.append(f"grew, {_show('lesions', 'ld_change_nadir_pct', row)} from its smallest")
    status = _text(row.get("new_lesion_status"))
    if _text(row.get("event")) == "new":
        words.append("new lesion" + (f", {status}" if status else ""))
    if _text(row.get("confidence")) == "candidate":
        words.append("candidate: the segmentation is less certain")
    event = _text(row.get("event"))
    if event in ("merged_into", "split", "reappeared"):
        into = f" {_text(row.get('merged_into'))}" if event == "merged_into" else ""
        words.append(
            {"merged_into": "merged into", "split": "in several components", "reappeared": "reappeared"}[event] + into
        )
    return "; ".join(words)


def _course(figures, lesions, sessions, captions):
    if not sessions:
        return _empty("No session, no course.")
    tracks = {r["track_id"] for r in lesions}
    alt = (
        f"Volume and longest diameter of {_count(len(tracks), 'lesion')} over {_count(len(sessions), 'session')}, and "
        "sum of the targets' diameters: "
        + "; ".join(f"{s['session_id']} {_show('sessions', 'sum_ld_mm', s)}" for s in sessions)
        + "."
    )
    return _picture(figures.get("trajectories"), alt, wide=True), _caption(captions.get("assess"))


def _response_table(sessions):
    if not sessions:
        return _empty("No session is in the table.")
    columns = (
        ("session_id", "session"),
        ("days_from_t0", "day"),
        ("sum_ld_mm", "sum"),
        ("sum_ld_change_baseline_pct", "from baseline"),
        ("sum_ld_change_nadir_pct", "from nadir"),
        ("max_lesion_increase_mm", "largest growth"),
        ("total_vol_wl_ml", "all lesions"),
        ("target_response", "targets"),
        ("nontarget_response", "non-targets"),
        ("new_lesion", "new lesion"),
        ("response_imaging_final", "imaging"),
        ("response_overall_final", "overall"),
        ("response_volumetric_final", "by volume"),
    )
    overall = [name for name, _ in columns].index("response_overall_final")
    rows = []
    for s in sessions:
        cells = [_cell("sessions", name, s) for name, _ in columns]
        cells[0] = _tag("th", _tag("a", s["session_id"], href=f"#{s['session_id']}"), scope="row")
        if _text(s.get("response_overall_final")):
            cells[overall] = _tag("td", _response_chip(s))
        rows.append(_tag("tr", *cells, class_="ne" if _truth(s.get("evaluable")) is False else None))
    notes = "Imaging and overall response as known now. Point at a heading or a value for its meaning."
    if any(map(is_unconfirmed, sessions)):
        notes += " Hollow: CR or PR that did not last long enough to be confirmed."
    again = [_tag("p", text, class_="note") for text in map(_like_with_like, sessions) if text]
    return _table("sessions", columns, rows), _tag("p", notes, class_="note"), again


def _like_with_like(session):
    """Say why a session is compared with another sum at baseline than the one written there."""
    shown, frozen = (_show("sessions", c, session) for c in ("ref_sum_ld_mm", "sum_ld_baseline_mm"))
    if "n/a" in (shown, frozen) or shown == frozen:
        return ""
    return (
        f"{session['session_id']} is compared with {shown} at baseline, not with {frozen}: lesions that touch at one "
        "of the two sessions and not at the other were measured at both as at the one where they are apart."
    )


def _lesion_matrix(lesions, sessions):
    if not lesions:
        why = "No lesion was found in any session." if sessions else "No session, no lesions."
        return _empty(why)
    names = [s["session_id"] for s in sessions]
    names += sorted({r["session_id"] for r in lesions} - set(names))
    by_track: dict[str, dict[str, dict]] = {}
    for row in lesions:
        by_track.setdefault(_text(row["track_id"]), {})[_text(row["session_id"])] = row
    days = {s["session_id"]: _day(s) for s in sessions}
    head = [_tag("th", "lesion", scope="col", class_="name")]
    head += [_tag("th", n, _tag("small", days.get(n, "")), scope="col") for n in names]
    head += [_tag("th", "since baseline", scope="col", title=_COLUMNS["lesions"]["ld_change_baseline_pct"].description)]
    rows = []
    for track, cells in sorted(by_track.items(), key=_track_order):
        last = list(cells.values())[-1]
        change = _show("lesions", "ld_change_baseline_pct", last)
        rows.append(
            _tag(
                "tr",
                _tag("th", _track(track), _tag("small", _role(last)), scope="row", class_="name"),
                *(_lesion_cell(cells.get(n)) for n in names),
                _tag("td", "–" if change == "n/a" else change),
            )
        )
    table = _tag("table", _tag("thead", _tag("tr", *head)), _tag("tbody", *rows), class_="matrix")
    note = (
        "Longest diameter, and volume of the whole lesion (enhancing and necrosis). A lesion keeps its number and its "
        "mark for life. Under the number: its part in the response; ★ new, ⚑ a remark (point at it)."
    )
    return _scroll(table, "Lesions by session", filter_=len(rows) > 12), _tag("p", note, class_="note")


def _lesion_details(lesions, sessions):
    """Show place, uncertainty and growth of the lesions present at the last evaluable session."""
    evaluable = [s["session_id"] for s in sessions if _truth(s.get("evaluable")) is True]
    rows = [
        r for r in lesions if evaluable and r["session_id"] == evaluable[-1] and _text(r.get("status")) == "present"
    ]
    if not rows:
        return ""
    columns = (
        ("track_id", "lesion"),
        ("region", "region"),
        ("ld_mm", "diameter"),
        ("vol_wl_ml", "volume"),
        ("vol_growth_ml_per_30_days", "growth in 30 days"),
        ("vol_doubling_time_days", "doubles in"),
        ("lesion_response", "alone"),
    )
    body = []
    for row in sorted(rows, key=lambda r: _track_order((_text(r["track_id"]), {0: r}))):
        place = _join(_text(row.get("side")), _reason(row.get("region")) if _text(row.get("region")) else "")
        response = _text(row.get("lesion_response"))
        cells = (
            _tag("th", _track(row["track_id"]), _tag("small", _role(row)), scope="row"),
            _tag("td", place or "n/a"),
            _tag("td", _show("lesions", "ld_mm", row, unit=False), _ranges(row, "ld", "mm"), class_="number"),
            _tag("td", _volume(row.get("vol_wl_ml")), _ranges(row, "vol", "ml"), class_="number"),
            _tag("td", _growth(row), class_="number"),
            _tag("td", _doubling(row), class_="number"),
            _tag("td", _chip(response, "lesions", "lesion_response") if response else "n/a"),
        )
        body.append(_tag("tr", *cells))
    note = (
        "Small: sizes if the outline lay half a voxel further in or out (½ voxel), and where the segmentation gives a "
        "probability of at least 0.75 and 0.25 (p). Growth is n/a where it is within half a voxel of the outline. "
        "Alone: the rules for the sum, applied to this lesion."
    )
    return _details(
        f"Place, uncertainty and growth at {evaluable[-1]}",
        _table("lesions", columns, body),
        _tag("p", note, class_="note"),
    )


def _ranges(row, size, unit):
    """Show how far a size could lie from the one measured, as two short ranges."""
    shown = []
    for by, name in (("half_voxel", "½ voxel"), ("probability", "p")):
        low, high = (_text(row.get(f"{size}_{by}_{end}_{unit}")) for end in ("low", "high"))
        if low and high:
            show = _volume if unit == "ml" else lambda text: f"{float(text):.1f}"
            shown.append(_tag("small", f"{name} {show(low)}–{show(high)}"))
    return shown


def _growth(row):
    text = _text(row.get("vol_growth_ml_per_30_days"))
    if not text:
        return "n/a"
    return ("+" if float(text) >= 0 else "−") + _volume(abs(float(text)))


def _doubling(row):
    """Say in how many days a volume doubles, or halves."""
    text = _text(row.get("vol_doubling_time_days"))
    if not text:
        return "n/a"
    days = f"{abs(float(text)):.0f} d"
    return days if float(text) > 0 else f"halves in {days}"


def _treated_table(treated):
    columns = (
        ("track_id", "lesion"),
        ("treatment_type", "treatment"),
        ("treatment_day", "day"),
        ("dose_gy", "dose / fractions"),
        ("pretreatment_ld_mm", "before"),
        ("nadir_ld_mm", "smallest"),
        ("best_response", "best response"),
        ("local_failure", "local failure"),
        ("time_to_local_failure_days", "days to it"),
        ("failure_by", "by"),
        ("censored_reason", "censored"),
    )
    rows = []
    for t in treated:
        cells = [_cell("treated_lesions", name, t) for name, _ in columns]
        dose = _join(_show("treated_lesions", "dose_gy", t), "/", _text(t.get("fractions")))
        cells[0] = _tag("th", _track(t["track_id"]), scope="row")
        cells[1] = _tag("td", _reason(t.get("treatment_type")))
        cells[3] = _tag("td", dose if _text(t.get("dose_gy")) else "n/a", class_="number")
        if _truth(t.get("local_failure")):
            doubt = "may be an effect of treatment" if _truth(t.get("treatment_effect_possible")) else ""
            sure = {True: "confirmed", False: "not confirmed"}.get(_truth(t.get("failure_confirmed")), "")
            notes = ", ".join(p for p in (sure, doubt) if p)
            cells[7] = _tag("td", f"day {_text(t.get('local_failure_day'))}", _tag("small", notes) if notes else "")
        rows.append(_tag("tr", *cells))
    note = (
        "Sizes since the treatment of the lesion, not since the patient's baseline. Days of treatment and failure "
        "count from t0, days to failure or censoring from the treatment."
    )
    return _table("treated_lesions", columns, rows), _tag("p", note, class_="note")


def _lesion_cell(row):
    if row is None:
        return _tag("td", _tag("span", "·", title="not yet detected"), class_="none")
    status, event = _text(row.get("status")), _text(row.get("event"))
    parts = []
    if status == "present":
        parts.append(_tag("b", _show("lesions", "ld_mm", row)))
        parts.append(_tag("small", _volume(row.get("vol_wl_ml"))))
        if event in ("new", "split", "reappeared"):
            text = {
                "new": "★ new",
                "split": f"{_text(row.get('n_fragments'))} components",
                "reappeared": "reappeared",
            }[event]
            status = _text(row.get("new_lesion_status"))
            meaning = _level("lesions", "event", event)
            parts.append(
                _tag(
                    "small",
                    ", ".join(p for p in (text, status if event == "new" else "") if p),
                    class_="event",
                    title=meaning,
                )
            )
        if _text(row.get("confidence")) == "candidate":
            meaning = _level("lesions", "confidence", "candidate")
            parts.append(_tag("small", "candidate", class_="event", title=meaning))
    elif status == "merged":
        parts.append(_tag("small", "in ", _track(_text(row.get("merged_into")) or "?")))
    else:
        word = {"absent": "not detected", "not_evaluable": "NE"}.get(status, status or "n/a")
        parts.append(_tag("small", word, title=_level("lesions", "status", status)))
    flags = [f for f in _text(row.get("flags")).split(";") if f]
    if flags:
        meaning = "; ".join(_level("lesions", "flags", f) or _reason(f) for f in flags)
        parts.append(_tag("small", "⚑ ", ", ".join(_reason(f) for f in flags), class_="event", title=meaning))
    return _tag("td", *parts, class_=status or None)


def _session_card(session, lesions, figures, captions, problems):
    name = session["session_id"]
    own = [r for r in lesions if r["session_id"] == name]
    failed = [p for p in problems if f"ses-{_plain(p.get('ses'))}" == name]
    evaluable = _truth(session.get("evaluable"))
    role = _text(session.get("session_role"))
    head = _tag(
        "h3",
        _tag("span", name),
        _tag("span", _day(session), class_="muted"),
        _tag("span", {"prebaseline": "before baseline"}.get(role, role), class_="chip plain")
        if role in ("baseline", "prebaseline")
        else _response_chip(session),
    )
    parts = [head]
    if evaluable is False:
        parts.append(_tag("p", "Not evaluable: ", _tag("b", _reason(session.get("ne_reason"))), ".", class_="warn"))
    parts += [_problem(p) for p in failed]
    imaging = _text(session.get("response_imaging_final"))
    facts = [
        ("Sum of targets", _show("sessions", "sum_ld_mm", session), _changes(session)),
        ("Lesions", _text(session.get("n_lesions")) or "n/a", _lesion_counts(session)),
        ("From images alone", _chip(imaging, "sessions", "response_imaging_final"), "") if imaging else None,
        (
            "Volume of all lesions",
            _show("sessions", "total_vol_wl_ml", session),
            _join("edema", _show("sessions", "total_vol_ed_ml", session)),
        ),
        ("Steroids · clinical", *_status(session)),
        ("Registration", _text(session.get("registration_qc")) or "n/a", _shift(session)),
    ]
    parts.append(_facts(*(f for f in facts if f), small=True))
    parts.append(_flag_line("sessions", session.get("flags")))
    pictures = figures.get("sessions", {}).get(name, {})
    facts = "; ".join(
        _join(_text(r["track_id"]), _show("lesions", "ld_mm", r), _role(r))
        for r in own
        if _text(r.get("status")) == "present"
    )
    n_more = sum(_text(r.get("status")) == "present" for r in own) - FIRST_LESIONS
    for kind, (title, stage, alt) in PICTURES.items():
        path = pictures.get(kind)
        if kind == "more" and n_more <= 0:
            continue
        alt = alt.format(session=name, lesions=facts or "none")
        if path is None:
            if kind == "lesions":
                why = "its stage did not finish" if failed or evaluable is False else "there is no file"
                parts.append(_empty(f"No picture of this session: {why}."))
            continue
        picture = _picture(path, alt)
        # How failure looks on pictures of lesions is said once, above the sessions.
        if kind == "lesions":
            parts.append(picture)
        else:
            summary = f"{n_more} {title}" if kind == "more" else f"Check: {title.lower()}"
            parts.append(_details(summary, picture, _caption(captions.get(stage))))
    return _tag("article", *parts, class_="card", id_=name)


def _failed_card(name, problems):
    own = [p for p in problems if f"ses-{_plain(p.get('ses'))}" == name]
    head = _tag("h3", _tag("span", name), _chip("NE"))
    return _tag("article", head, *(_problem(p) for p in own), class_="card", id_=name)


def _shift(session):
    shift = _text(session.get("residual_shift_mm"))
    return f"lesions lay {_show('sessions', 'residual_shift_mm', session)} off, undone" if shift else ""


def _changes(session):
    parts = []
    for column, name in (("sum_ld_change_baseline_pct", "from baseline"), ("sum_ld_change_nadir_pct", "from nadir")):
        value = _show("sessions", column, session)
        if value != "n/a":
            parts.append(f"{value} {name}")
    return ", ".join(parts)


def _lesion_counts(session):
    parts = []
    for column, word in (
        ("n_new", "new"),
        ("n_absent", "no longer detected"),
        ("n_candidates", "not counted: candidates"),
    ):
        number = _text(session.get(column))
        if number not in ("", "0"):
            parts.append(f"{number} {word}")
    return ", ".join(parts)


def _status(session):
    words = [_text(session.get(c)) or "unknown" for c in ("steroid_status", "clinical_status")]
    return " · ".join(words), "taken as none, stable" if _truth(session.get("clinical_assumed")) else ""


# ---------------------------------------------------------------------------------------------------- cohort


def _cohort_sentence(patients, sessions, lesions):
    if not patients:
        return "No patient was found. The index says why a session is excluded."
    evaluable = sum(_truth(s.get("evaluable")) is True for s in sessions)
    tracks = len({(r["participant_id"], r["track_id"]) for r in lesions})
    return (
        f"{_count(len(patients), 'patient')}, {_count(len(sessions), 'session')} ({evaluable} evaluable), "
        f"{_count(tracks, 'lesion')} followed."
    )


def _cohort_facts(patients, sessions, lesions, problems):
    def count(rows, column, *values):
        return str(sum(_text(r.get(column)) in values for r in rows))

    not_evaluable = sum(_truth(s.get("evaluable")) is False for s in sessions)
    progressed = sum(_truth(p.get("progressed")) is True for p in patients)
    n_failed = sum(p.get("stage") not in _NO_FAILURE for p in problems)
    return _facts(
        (
            "Best response CR or PR",
            count(patients, "best_response", "CR", "PR"),
            f"of {_count(len(patients), 'patient')}",
        ),
        ("Progressed", str(progressed), f"of {_count(len(patients), 'patient')}"),
        ("New lesions", count(lesions, "event", "new"), "to be checked"),
        ("Not evaluable", str(not_evaluable), f"of {_count(len(sessions), 'session')}"),
        ("Excluded or failed", str(n_failed), "see below" if n_failed else "none"),
    )


# Stages of a problem that did not stop a session.
_NO_FAILURE = ("doubt", "not used")


def _not_evaluable(sessions, problems):
    """List sessions of the tables that are not evaluable as problems; those that have failed are listed already."""
    listed = {(_plain(p.get("sub")), _plain(p.get("ses"))) for p in problems if p.get("stage") not in _NO_FAILURE}
    return [
        {
            "sub": s["participant_id"],
            "ses": s["session_id"],
            "stage": "not evaluable",
            "reason": s.get("ne_reason"),
            "detail": _level("sessions", "ne_reason", s.get("ne_reason")),
        }
        for s in sessions
        if _truth(s.get("evaluable")) is False and (_plain(s["participant_id"]), _plain(s["session_id"])) not in listed
    ]


def _problem_table(problems, pages):
    if not problems:
        return _empty("Nothing was excluded, nothing failed, every session is evaluable.")
    rows = []
    for p in problems:
        log = _log_address(p.get("log"))
        rows.append(
            _tag(
                "tr",
                _tag("th", f"sub-{_plain(p['sub'])}" if _text(p.get("sub")) else "cohort", scope="row"),
                _tag("td", _session_link(p, pages)),
                _tag("td", _text(p.get("stage"))),
                _tag("td", _reason(p.get("reason"))),
                _tag("td", _text(p.get("detail")), class_="text"),
                _tag("td", _tag("a", log, href=log) if log else "–"),
            )
        )
    names = ("patient", "session", "stage", "reason", "what was found", "log")
    head = _tag("tr", *(_tag("th", n, scope="col") for n in names))
    table = _tag("table", _tag("thead", head), _tag("tbody", *rows))
    note = "Patients' other sessions and the tables were made from what finished. Run the same command again to retry."
    return _scroll(table, "What was excluded, failed or is not evaluable", filter_=len(rows) > 12), _tag(
        "p", note, class_="note"
    )


def _session_link(problem, pages):
    """Name a problem's session; with the way to it where the patient has a page and the session is on it."""
    if not _text(problem.get("ses")):
        return "–"
    name, patient = f"ses-{_plain(problem['ses'])}", f"sub-{_plain(problem['sub'])}"
    return _tag("a", name, href=f"{pages[patient]}#{name}") if patient in pages else name


def _patient_table(patients, sessions, pages):
    if not patients:
        return ""
    columns = (
        ("participant_id", "patient"),
        ("n_sessions", "sessions"),
        ("n_evaluable", "evaluable"),
        ("n_lesions_baseline", "lesions"),
        ("n_targets", "targets"),
        ("n_new_total", "new later"),
        ("baseline_sum_ld_mm", "baseline sum"),
        ("best_change_ld_pct", "best change"),
        ("best_response", "best response"),
        ("best_response_confirmed", "confirmed"),
        ("best_response_volumetric", "by volume"),
        ("progression_day", "progression day"),
        ("progression_reason", "because of"),
        ("first_event", "first event"),
        ("flags", "remarks"),
    )
    best = [name for name, _ in columns].index("best_response")
    of_patient: dict[str, list] = {}
    for s in sessions:
        of_patient.setdefault(_text(s["participant_id"]), []).append(s)
    rows = []
    for p in patients:
        name = _text(p["participant_id"])
        cells = [_cell("patients", column, p) for column, _ in columns]
        doubted = _not_lasting(of_patient.get(name, []))
        if doubted and _text(p.get("best_response")) not in ("CR", "PR"):
            cells[best] = _tag("td", _chip(p.get("best_response"), "patients", "best_response"), _tag("small", doubted))
        cells[0] = _tag("th", _tag("a", name, href=pages[name]) if name in pages else name, scope="row")
        rows.append(_tag("tr", *cells))
    return _table("patients", columns, rows, filter_=len(rows) > 8)


def _session_table(sessions, pages):
    if not sessions:
        return _empty("No session is in the table.")
    columns = (
        ("participant_id", "patient"),
        ("session_id", "session"),
        ("days_from_t0", "day"),
        ("session_role", "role"),
        ("evaluable", "evaluable"),
        ("ne_reason", "reason"),
        ("registration_qc", "registration"),
        ("n_lesions", "lesions"),
        ("n_new", "new"),
        ("sum_ld_mm", "sum"),
        ("response_imaging_final", "imaging"),
        ("response_overall_final", "overall"),
        ("flags", "remarks"),
    )
    overall = [name for name, _ in columns].index("response_overall_final")
    rows = []
    for s in sessions:
        cells = [_cell("sessions", column, s) for column, _ in columns]
        patient, name = _text(s["participant_id"]), _text(s["session_id"])
        cells[0] = _tag("th", patient, scope="row")
        if _text(s.get("response_overall_final")):
            cells[overall] = _tag("td", _response_chip(s))
        if patient in pages:
            cells[1] = _tag("td", _tag("a", name, href=f"{pages[patient]}#{name}"))
        rows.append(_tag("tr", *cells, class_="ne" if _truth(s.get("evaluable")) is False else None))
    return _table("sessions", columns, rows, filter_=len(rows) > 8)


def _lesion_worklist(lesions, sessions, pages):
    """List what requires review: doubtful brain masks, then lesions: of doubtful identity, new, with other remarks."""
    rows = []
    for session in sessions:
        patient, name = _text(session["participant_id"]), _text(session["session_id"])
        place = _tag("a", name, href=f"{pages[patient]}#{name}") if patient in pages else name
        for why in _brain_remarks(session):
            cells = (_tag("td", each) for each in (place, "–", "–", "–"))
            rows.append(_tag("tr", _tag("th", patient, scope="row"), *cells, _tag("td", why, class_="text")))
    for row, why in sorted(_worth_a_look(lesions), key=lambda found: not _doubtful(found[0])):
        patient, name = _text(row["participant_id"]), _text(row["session_id"])
        address = f"{pages[patient]}#{name}" if patient in pages else None
        seen = _text(row.get("status")) == "present"
        rows.append(
            _tag(
                "tr",
                _tag("th", patient, scope="row"),
                _tag("td", _tag("a", name, href=address) if address else name),
                _tag("td", _track(row["track_id"])),
                _tag("td", _show("lesions", "ld_mm", row) if seen else "–"),
                _tag("td", _volume(row.get("vol_wl_ml")) if seen else "–"),
                _tag("td", why, class_="text"),
            )
        )
    if not rows:
        return _empty("No new, doubtful or remarkable lesion." if lesions else "No lesion was found in any session.")
    names = ("patient", "session", "lesion", "diameter", "volume", "why")
    head = _tag("tr", *(_tag("th", n, scope="col") for n in names))
    table = _tag("table", _tag("thead", head), _tag("tbody", *rows))
    return _scroll(table, "Lesions to review", filter_=len(rows) > 8)


def _references():
    items = [
        _tag(
            "li",
            _tag("b", name),
            f": {text}. ",
            _tag("a", f"doi:{doi}", href=f"https://doi.org/{doi}", rel="noreferrer"),
        )
        for name, text, doi in REFERENCES
    ]
    return _tag("ul", *items, class_="references")


def _caption_list(captions):
    if not captions:
        return _empty("No captions.")
    order = sorted(captions, key=lambda stage: STAGES.index(stage) if stage in STAGES else len(STAGES))
    return tuple(_tag("div", _tag("h3", stage), _caption(captions[stage]), class_="stage") for stage in order)


# ---------------------------------------------------------------------------------------------------- pieces


class _Html(str):
    """Text that is HTML already; all other text is escaped where it enters a tag."""

    __slots__ = ()

    def __add__(self, other):
        return _Html(str.__add__(self, _safe(other)))


def _safe(part) -> str:
    if isinstance(part, _Html):
        return str(part)
    if isinstance(part, list | tuple):
        return "".join(_safe(p) for p in part)
    return "" if part is None else html.escape(str(part), quote=True)


def _tag(name: str, *children, **attributes) -> _Html:
    """Make an element. Attributes that are None or empty are left out; a last _ is dropped, others become -.

    >>> _tag("a", "x < y", href="a.html", class_=None)
    '<a href="a.html">x &lt; y</a>'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value), quote=True)}"'
        for key, value in attributes.items()
        if value not in (None, "")
    )
    if name in ("img", "input", "meta"):
        return _Html(f"<{name}{given}>")
    return _Html(f"<{name}{given}>{''.join(_safe(c) for c in children)}</{name}>")


def _section(title, *children, id_):
    return _tag("section", _tag("h2", title), *children, aria_label=title, id_=id_)


def _empty(text):
    return _tag("p", text, class_="empty")


def _facts(*facts, small=False):
    items = [
        _tag("div", _tag("dt", name), _tag("dd", value, _tag("small", note) if note else ""))
        for name, value, note in facts
    ]
    return _tag("dl", *items, class_="facts small" if small else "facts")


def _details(title, *children):
    return _tag("details", _tag("summary", title), *children)


def _chip(response, kind="sessions", column="response_overall_final", *, hollow=False):
    response = _text(response)
    if not response:
        return _tag("span", "n/a", class_="chip plain")
    colour, ink = RESPONSE_COLOURS.get(response, (None, None))
    style = f"background:{colour};color:{ink}" if colour else None
    if hollow:
        style = f"box-shadow:inset 0 0 0 2px {colour}"
    title = _level(kind, column, response)
    return _tag("span", RESPONSE_NAMES.get(response, response), class_="chip", style=style, title=title)


_MARKS = {
    **{"o": "disc", "s": "square", "^": "up", "D": "diamond"},
    **{"v": "down", "P": "plus", "<": "left", ">": "right"},
}


def _track(track_id):
    """Show a lesion's number with its colour and mark beside it: coloured text would be hard to read."""
    name = _text(track_id) or "?"
    mark = _tag("i", class_=_MARKS[track_marker(name)], style=f"background:{track_colour(name)}")
    return _tag("span", mark, name, class_="track")


def _track_order(item):
    """Targets first, then as numbered."""
    track, cells = item
    roles = {_text(r.get("role")) for r in cells.values()}
    return ("target" not in roles, track)


def _role(row):
    return _text(row.get("role")).replace("nontarget", "non-target").replace("prebaseline", "before baseline")


def _flag_line(kind, flags):
    flags = [f for f in _text(flags).split(";") if f]
    if not flags:
        return _Html("")
    items = [
        _tag("li", _tag("b", _reason(f)), f": {_level(kind, 'flags', f)}" if _level(kind, "flags", f) else "")
        for f in flags
    ]
    return _tag("ul", *items, class_="flags")


def _stopped(problem):
    """Say where a session stopped, and why where the reason says more than that it did."""
    stage, reason = _text(problem.get("stage")), _text(problem.get("reason"))
    if stage == "doubt":
        return " is used, but: ", ", ".join(_reason(flag) for flag in reason.split(";"))
    return " stopped at ", _tag("b", stage), "" if reason.removeprefix("failed_") == stage else f": {_reason(reason)}"


def _problem(problem):
    log, place = _log_address(problem.get("log")), _text(problem.get("ses"))
    subject = f"ses-{_plain(place)}" if place else f"sub-{_plain(problem.get('sub'))}"
    link = _tag("a", log, href=log) if log else ""
    return _tag("p", subject, *_stopped(problem), ". ", _text(problem.get("detail")), " ", link, class_="warn")


def _log_address(log):
    """Return where a log lies, seen from a page: pages lie beside the folder of logs."""
    log = _text(log).replace("\\", "/")
    return "logs/" + log.rsplit("/logs/", 1)[-1].removeprefix("logs/") if log else ""


def _file_list(links):
    items = [_tag("li", _tag("a", name, href=address)) for name, address in links.items() if name != "cohort"]
    return _tag("ul", *items, class_="files") if items else _empty("No files were named.")


def _picture(path, alt, *, wide=False):
    if path is None or not Path(path).is_file():
        return _empty("This picture was not made.")
    path = Path(path)
    kind = {".svg": "svg+xml", ".png": "png", ".jpg": "jpeg"}[path.suffix]
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return _tag("figure", _tag("img", src=f"data:image/{kind};base64,{data}", alt=alt, class_="wide" if wide else None))


def _caption(text):
    """Show a caption: paragraphs, **strong** and ``code``."""
    if not text:
        return ""
    paragraphs = []
    for block in re.split(r"\n\s*\n", text.strip()):
        flat = html.escape(" ".join(block.split()), quote=True)
        flat = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", flat)
        paragraphs.append(_tag("p", _Html(re.sub(r"``(.+?)``", r"<code>\1</code>", flat))))
    return _tag("div", *paragraphs, class_="caption")


def _caption_heading(kind, column, title):
    known = _COLUMNS[kind].get(column)
    unit = known.unit if known else ""
    meaning = f"{column}: {known.description}" if known else column
    shown = {"": "", "1": "", "d": ""}.get(unit, unit)
    number = known is not None and known.dtype in ("float", "integer")
    parts = (title, _tag("small", shown) if shown else "")
    return _tag("th", *parts, scope="col", title=meaning, class_="number" if number else None)


def _table(kind, columns, rows, *, filter_=False):
    head = _tag("tr", *(_caption_heading(kind, column, title) for column, title in columns))
    table = _tag("table", _tag("thead", head), _tag("tbody", *rows))
    return _scroll(table, f"Table of {kind}", filter_=filter_)


def _scroll(table, label, *, filter_):
    box = _tag("div", table, class_="scroll long", tabindex="0", role="region", aria_label=label)
    if not filter_:
        return box
    field = _tag(
        "input", type_="search", placeholder="show only rows with …", aria_label=f"Filter: {label}", hidden="hidden"
    )
    return _tag("div", field, box, class_="filtered")


def _cell(kind, column, row):
    known = _COLUMNS[kind].get(column)
    value = _text(row.get(column))
    if known is not None and value in RESPONSE_COLOURS and known.dtype == "enum":
        return _tag("td", _chip(value, kind, column))
    if column in ("flags", "ne_reason", "progression_reason", "pd_reason"):
        parts = [p for p in value.split(";") if p]
        meaning = "; ".join(_level(kind, column, p) for p in parts)
        return _tag("td", ", ".join(_reason(p) for p in parts) or "–", class_="text", title=meaning)
    title = _level(kind, column, value) if known is not None and known.levels else None
    text = _show(kind, column, row, unit=False)
    if known is not None and known.dtype == "enum":
        text = _reason(text) if value else "n/a"
    number = known is not None and known.dtype in ("float", "integer")
    classes = _join("number" if number else "", "" if value else "missing")
    return _tag("td", text, class_=classes, title=title)


def _show(kind, column, row, *, unit=True) -> str:
    """Show a value as people read it: few digits, the sign of changes, the unit. The tables keep all digits."""
    known, text = _COLUMNS[kind].get(column), _text(row.get(column))
    if not text:
        return "n/a"
    if known is None or known.dtype not in ("float", "integer", "boolean"):
        return text
    if known.dtype == "boolean":
        return {True: "yes", False: "no"}.get(_truth(text), text)
    try:
        number = float(text)
    except ValueError:
        return text
    if known.dtype == "integer":
        return f"{number:.0f}".replace("-", "−")
    if known.unit == "%":
        shown = f"{number:+.0f}" if abs(number) >= 0.5 else "0"
    elif known.unit == "mL":
        shown = f"{number:.1f}" if number >= 10 else f"{number:.2f}"
    else:
        shown = f"{number:.1f}"
    shown = shown.replace("-", "−")
    names = {"mm^2": "mm²", "mm^3": "mm³", "1": ""}
    return f"{shown} {names.get(known.unit, known.unit)}".strip() if unit else shown


def _volume(ml):
    text = _text(ml)
    try:
        number = float(text)
    except ValueError:
        return "n/a"
    return f"{number:.2f} mL" if number >= 0.1 else f"{number * 1000:.0f} mm³"


def _day(session):
    day = _text(session.get("days_from_t0"))
    return f"day {float(day):.0f}".replace("-", "−") if day else "day unknown"


def _level(kind, column, value) -> str:
    """Meaning of a value, from the tables' own dictionary."""
    known = _COLUMNS[kind].get(column)
    return (known.levels or {}).get(_text(value), "") if known is not None else ""


def _reason(value):
    return _text(value).replace("_", " ") or "no reason recorded"


def _join(*parts):
    return " ".join(p for p in parts if p)


def _count(number, word):
    return f"{number} {word}{'' if number == 1 else 's'}"


def _count_text(number, word):
    text = _text(number)
    return _count(int(float(text)), word) if text else ""


def _plain(label):
    """Label without its entity: A for sub-A."""
    return re.sub(r"^(sub|ses)-", "", _text(label))


def _records(table: pd.DataFrame) -> list[dict]:
    return table.to_dict("records")


def _text(value) -> str:
    """Read a cell as text; n/a, empty and missing are empty; whole numbers lose their .0, truth its capital."""
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return str(bool(value)).lower()
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    text = str(value)
    return "" if text in ("n/a", "nan", "<NA>", "None") else text


def _truth(value) -> bool | None:
    return {"true": True, "false": False}.get(_text(value).lower())


# ---------------------------------------------------------------------------------------------------- the page


def _page(title, body, *, settings_hash, version):
    foot = _tag(
        "footer",
        f"mettrail {version} · settings {settings_hash} · days, never dates · rounded for reading, exact in the tables",
    )
    # The page may show its own pictures and styles, and reach nothing else.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    head = (
        _tag("meta", charset="utf-8"),
        _tag("meta", http_equiv="Content-Security-Policy", content=policy),
        _tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        _tag("meta", name_="color-scheme", content="light dark"),
        _tag("title", title),
        _tag("style", _Html(_STYLE)),
    )
    skip = _tag("a", "to the content", href="#content", class_="skip")
    main = _tag("main", *body, id_="content")
    script = _tag("script", _Html(_SCRIPT))
    return (
        "<!DOCTYPE html>\n"
        + _tag("html", _tag("head", *head), _tag("body", skip, main, foot, script), lang="en")
        + "\n"
    )


_STYLE = """
:root { --paper:#fdfdfe; --card:#ffffff; --ink:#1b1f24; --muted:#5b6573; --line:#e1e5ea; --soft:#f3f5f7;
  --link:#1c5d99; --warn:#8a3324; --warnsoft:#fbeeeb; --note:#6b5412; --notesoft:#fbf6e6; }
@media screen and (prefers-color-scheme: dark) { :root { --paper:#15181c; --card:#1b1f24; --ink:#e7eaee;
  --muted:#9aa5b4; --line:#30363f; --soft:#20252b; --link:#7fb8ee; --warn:#f0a090; --warnsoft:#33201c;
  --note:#e3cf8f; --notesoft:#2b2717; } }
* { box-sizing:border-box }
html { color-scheme:light dark; scroll-behavior:smooth }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior:auto } }
body { margin:0; background:var(--paper); color:var(--ink); line-height:1.5; font-size:15px;
  font-family:system-ui,-apple-system,"Segoe UI","Helvetica Neue",Arial,sans-serif; font-variant-numeric:tabular-nums }
main, footer { max-width:1180px; margin:0 auto; padding:0 24px }
main { padding-top:28px }
footer { padding:24px; margin-top:40px; color:var(--muted); font-size:13px; border-top:1px solid var(--line) }
h1 { font-size:30px; line-height:1.2; margin:4px 0; letter-spacing:-.01em }
h2 { font-size:20px; margin:44px 0 12px; letter-spacing:-.005em }
h3 { font-size:16px; margin:0 0 10px; display:flex; gap:12px; align-items:baseline; flex-wrap:wrap }
p { margin:8px 0; max-width:78ch }
a { color:var(--link); text-decoration-thickness:1px; text-underline-offset:2px }
:focus-visible { outline:2px solid var(--link); outline-offset:2px }
.skip { position:absolute; left:-999px } .skip:focus { left:12px; top:12px; background:var(--card); padding:6px 10px }
.lead { color:var(--muted); font-size:17px } .muted, small, .note { color:var(--muted) }
.muted { font-weight:400 } small { font-size:12.5px } .note { font-size:13px }
.limits { background:var(--notesoft); color:var(--note); border-left:3px solid currentColor; padding:9px 14px;
  border-radius:0 6px 6px 0; max-width:none }
.warn { background:var(--warnsoft); color:var(--warn); padding:8px 12px; border-radius:6px; max-width:none;
  overflow-wrap:anywhere }
.empty { color:var(--muted); background:var(--soft); border-radius:8px; padding:12px 16px; max-width:none }
.chip { display:inline-block; padding:1px 9px; border-radius:99px; font-weight:650; font-size:.88em; line-height:1.55;
  white-space:nowrap }
.chip + small { white-space:nowrap } td .chip + small { display:block }
.chip.plain { background:var(--soft); color:var(--muted); font-weight:500; border:1px solid var(--line) }
.track { white-space:nowrap; font-weight:650 }
.track i { display:inline-block; width:.75em; height:.75em; margin-right:.45em; print-color-adjust:exact }
.track i.disc { border-radius:50% } .track i.diamond { clip-path:polygon(50% 0,100% 50%,50% 100%,0 50%) }
.track i.up { clip-path:polygon(50% 0,100% 100%,0 100%) } .track i.down { clip-path:polygon(0 0,100% 0,50% 100%) }
.track i.left { clip-path:polygon(0 50%,100% 0,100% 100%) } .track i.right { clip-path:polygon(0 0,100% 50%,0 100%) }
.track i.plus { clip-path:polygon(33% 0,67% 0,67% 33%,100% 33%,100% 67%,67% 67%,67% 100%,33% 100%,33% 67%,0 67%,
  0 33%,33% 33%) }
.facts { display:grid; grid-template-columns:repeat(auto-fit,minmax(165px,1fr)); gap:12px; margin:18px 0 }
.facts div { background:var(--card); border:1px solid var(--line); border-radius:10px; padding:10px 14px }
.facts dt { color:var(--muted); font-size:13px } .facts dd { margin:2px 0 0; font-size:21px; font-weight:600 }
.facts dd small { display:block; font-weight:400; line-height:1.35 }
.facts.small { gap:4px 18px; margin:10px 0 14px; grid-template-columns:repeat(auto-fit,minmax(145px,1fr)) }
 .facts.small div { border:0; padding:0; background:none }
.facts.small dd { font-size:15px }
.timeline { list-style:none; display:flex; flex-wrap:wrap; gap:10px 0; padding:0; margin:20px 0 }
.timeline li { flex:1 1 104px; max-width:190px; border-top:3px solid var(--line) }
.timeline li.ne { border-top-style:dotted }
.timeline a { display:flex; flex-direction:column; align-items:flex-start; gap:4px; padding:9px 8px 6px 0;
  text-decoration:none; color:var(--ink); font-size:13px }
.timeline .day { font-weight:600 } .timeline a:hover .day { text-decoration:underline }
.check { padding-left:20px; margin:8px 0 } .check li { margin:5px 0 }
.flags { padding:0; list-style:none; color:var(--muted); margin:8px 0 } .flags li { margin:3px 0 }
.card { background:var(--card); border:1px solid var(--line); border-radius:12px; padding:18px 20px; margin:16px 0;
  scroll-margin-top:12px }
.card:target { border-color:var(--link) }
figure { margin:12px 0 } img { display:block; max-width:100%; height:auto; border-radius:6px }
img.wide { width:100%; border-radius:0 }
.caption { color:var(--muted); font-size:13.5px } .caption b { color:var(--ink); font-weight:600 }
details { border-top:1px solid var(--line); padding-top:9px; margin-top:11px }
summary { cursor:pointer; font-weight:600; width:max-content; max-width:100% }
.scroll { overflow-x:auto; border:1px solid var(--line); border-radius:10px; background:var(--card) }
table { border-collapse:collapse; width:100%; font-size:13.5px }
th, td { padding:7px 11px; text-align:left; vertical-align:top; white-space:nowrap;
  border-bottom:1px solid var(--line) }
tbody tr:last-child > * { border-bottom:0 }
thead th { color:var(--muted); font-weight:600; background:var(--soft); vertical-align:bottom; white-space:normal }
.long { max-height:620px; overflow-y:auto } .long thead th { position:sticky; top:0; z-index:1 }
thead th[title] { cursor:help } th small, td small { display:block; font-weight:400 }
tbody th { font-weight:600 } .number { text-align:right } td.missing, td.none { color:var(--muted) }
td.text { white-space:normal; min-width:16ch; max-width:48ch; overflow-wrap:anywhere }
tr.ne td { color:var(--muted) }
.matrix td b { font-size:14.5px } .matrix thead th { white-space:nowrap }
 .matrix th.name { position:sticky; left:0; background:var(--card) }
.matrix thead th.name { background:var(--soft) }
td.not_evaluable { background:repeating-linear-gradient(135deg,var(--soft) 0 5px,transparent 5px 10px) }
td.absent small, td.not_evaluable small { line-height:21px } .event { color:var(--note) }
.filtered input { font:inherit; color:inherit; background:var(--card); border:1px solid var(--line); border-radius:8px;
  padding:6px 12px; margin:0 0 8px; width:min(340px,100%) }
.files, .references { padding-left:20px } .files { columns:2; column-gap:40px } .references li { margin:4px 0 }
.files li { overflow-wrap:anywhere; break-inside:avoid }
.stage { border-top:1px solid var(--line); padding-top:12px; margin-top:12px } .stage .caption p { margin:4px 0 }
pre { background:var(--soft); border-radius:8px; padding:14px 16px; overflow-x:auto; font-size:12.5px;
  line-height:1.45 }
.back { font-size:14px }
@media (max-width:640px) { main { padding:16px } .files { columns:1 } h1 { font-size:25px } }
@media print { body { font-size:10.5pt } main, footer { max-width:none; padding:0 }
  .back, .filtered input, .skip { display:none }
  h2 { break-after:avoid } .card, figure, tr, .facts div { break-inside:avoid } .card { border-color:#bbb }
  .scroll { overflow:visible; max-height:none } table { font-size:8.5pt } th, td { padding:4px 6px; white-space:normal }
  * { print-color-adjust:exact; -webkit-print-color-adjust:exact } a { color:inherit } }
"""
_SCRIPT = """
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(d => d.open = true));
document.querySelectorAll(".filtered").forEach(box => {
  const field = box.querySelector("input"), rows = box.querySelectorAll("tbody tr");
  field.hidden = false;
  field.addEventListener("input", () => rows.forEach(r => {
    r.hidden = !r.textContent.toLowerCase().includes(field.value.toLowerCase());
  }));
});
"""
