"""Pages: all that is in the tables is on them, what is missing is said, and nothing is reached for outside."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mettrail import figures, report, tables
from mettrail.errors import InputError
from test_figures import DIAMETERS_MM, SESSIONS, lesion_table, session_table

ROOT = Path(__file__).parents[1]
PATIENT = {
    "participant_id": "sub-A",
    "n_sessions": 6,
    "n_evaluable": 5,
    "t0_source": "baseline",
    "baseline_session": "ses-01",
    "n_lesions_baseline": 4,
    "n_targets": 2,
    "n_new_total": 1,
    "baseline_sum_ld_mm": 38.2,
    "best_change_ld_pct": -63.35,
    "best_change_vol_pct": -81.0,
    "best_response": "PR",
    "best_response_day": 154,
    "best_response_confirmed": True,
    "best_response_volumetric": "PR",
    "progressed": True,
    "progression_day": 273,
    "progression_reason": "target;new",
    "last_evaluable_day": 273,
    "flags": "clinical_assumed",
}
FAILED = {
    "sub": "A",
    "ses": "03",
    "stage": "register",
    "reason": "did_not_finish",
    "detail": "the job was stopped from outside",
    "log": "/data/out/logs/register/sub-A_ses-03.log",
}
COMMON = {
    "captions": {"measure": "Shows.\n\n**A bad one:** leaves ``it``."},
    "settings_hash": "3f9a",
    "version": "0.1.0",
}


def patient(lesions=None, sessions=None, row=PATIENT, pictures=None, problems=(), name="sub-A", links=None):
    return report.patient_page(
        name,
        lesion_table() if lesions is None else lesions,
        session_table() if sessions is None else sessions,
        row,
        pictures or {},
        links=links or {"cohort": "index.html"},
        problems=problems,
        **COMMON,
    )


def cohort(patients=None, sessions=None, lesions=None, problems=(), pages=None):
    return report.cohort_page(
        pd.DataFrame([PATIENT]) if patients is None else patients,
        session_table() if sessions is None else sessions,
        lesion_table() if lesions is None else lesions,
        problems,
        figures={},
        links={"tables/lesions.csv": "tables/lesions.csv"},
        pages={"sub-A": "sub-A.html"} if pages is None else pages,
        settings="rano:\n  pr: 0.3\n",
        **COMMON,
    )


class Outline(HTMLParser):
    """Checks that every element is closed in order, and keeps text, addresses and pictures."""

    def __init__(self, page):
        super().__init__()
        self.open, self.addresses, self.images, self.ids, self.words = [], [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag not in ("img", "input", "meta"):
            self.open.append(tag)
        self.addresses += [given[a] for a in ("href", "src") if a in given]
        self.images += [given] if tag == "img" else []
        self.ids += [given["id"]] if "id" in given else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def test_every_lesion_and_every_session_is_on_the_patients_page():
    outline = Outline(patient())
    for name in (*DIAMETERS_MM, *SESSIONS):
        assert name in outline.text
    assert set(SESSIONS) <= set(outline.ids)
    for _, sizes in DIAMETERS_MM.values():
        for size in (s for s in sizes if isinstance(s, float)):
            assert f"{size:.1f} mm" in outline.text


def test_a_track_has_the_same_colour_on_the_page_as_on_the_pictures():
    page = patient()
    for track in DIAMETERS_MM:
        colours = set(re.findall(rf'<i style="background:(#\w+)"></i>{track}<', page))
        assert colours == {figures.track_colour(track)}


def test_pages_reach_for_nothing_outside_but_dois():
    for page in (patient(), cohort(), patient(problems=[FAILED])):
        addresses = Outline(page).addresses
        outside = [a for a in addresses if "//" in a and not a.startswith("data:")]
        assert all(a.startswith("https://doi.org/10.") for a in outside)
        assert not re.search(r"url\(|@import|<link|<iframe|<script src", page)
        assert "default-src 'none'" in page.replace("&#x27;", "'")


def test_words_of_the_data_never_become_html():
    evil = '<script>alert("x")</script>&'
    lesions = lesion_table().assign(flags=evil, role=evil)
    sessions = session_table().assign(ne_reason=evil, flags=evil, registration_qc=evil)
    problem = FAILED | {"detail": evil, "stage": evil, "reason": evil, "log": f"logs/{evil}"}
    row = PATIENT | {"flags": evil, "progression_reason": evil}
    pages = (
        patient(lesions, sessions, row, problems=[problem], links={evil: evil}),
        cohort(pd.DataFrame([row | {"participant_id": evil}]), sessions, lesions, [problem], pages={evil: evil}),
    )
    for page in pages:
        Outline(page)
        assert page.count("<script>") == 1, "only the page's own"
        assert "alert(&quot;x&quot;)" in page


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("no lesion", "No lesion was found in any session."),
        ("no session", "No session of this patient is in the table."),
        ("one session", "no evaluable follow-up"),
        ("not evaluable", "Not evaluable: no contrast"),
        ("no row", "has no row in the patient table"),
    ],
)
def test_odd_patients_get_a_page_that_says_why(case, expected):
    lesions, sessions, row = lesion_table(), session_table(), PATIENT
    if case == "no lesion":
        lesions = lesions.iloc[:0]
    elif case == "no session":
        lesions, sessions = lesions.iloc[:0], sessions.iloc[:0]
    elif case == "one session":
        lesions, sessions = lesions[lesions["session_id"] == "ses-01"], sessions.iloc[:1]
        row = PATIENT | {"progressed": False, "best_response": "NE"}
    elif case == "not evaluable":
        sessions = sessions.assign(evaluable=False, ne_reason="no_contrast", response_overall_final="NE")
        lesions = lesions.assign(status="not_evaluable", ld_mm=np.nan, vol_wl_ml=None)
    else:
        row = {}
    outline = Outline(patient(lesions, sessions, row))
    assert expected in outline.text
    assert not re.search(r"\bnan\b|<NA>|\bNone\b|\bNaN\b", outline.text)


def test_the_tables_own_types_and_empty_tables_give_pages_too():
    empty = {kind: tables.empty(kind) for kind in tables.KINDS}
    Outline(patient(empty["lesions"], empty["sessions"], {}))
    outline = Outline(cohort(empty["patients"], empty["sessions"], empty["lesions"], pages={}))
    assert "No patient was found" in outline.text
    outline = Outline(patient(typed(lesion_table(), "lesions"), typed(session_table(), "sessions")))
    assert not re.search(r"\bnan\b|<NA>|\bNone\b|\bNaN\b", outline.text)
    row = tables.make_table([dict.fromkeys(tables.columns("patients")) | {"participant_id": "sub-A"}], "patients")
    assert "n/a" in Outline(patient(row=row.iloc[0])).text
    assert "6 sessions over 273 days, 5 evaluable" in outline.text
    assert "L003" in outline.text


def typed(table, kind):
    """The same rows with all columns, as the tables stage has them in memory."""
    full = table.reindex(columns=tables.columns(kind)).astype(object)
    return tables.make_table(full.replace({"true": True, "false": False, "n/a": None}), kind)


def test_a_failed_session_is_on_the_page_with_its_log_even_if_no_table_has_it():
    sessions = session_table().query("session_id != 'ses-03'")
    lesions = lesion_table().query("session_id != 'ses-03'")
    outline = Outline(patient(lesions, sessions, problems=[FAILED, FAILED | {"sub": "B", "ses": "77"}]))
    assert "ses-03" in outline.ids
    assert "logs/register/sub-A_ses-03.log" in outline.addresses
    assert "ses-03 stopped at register : did not finish" in outline.text
    known = FAILED | {"reason": "failed_register"}
    assert "ses-03 stopped at register ses-" in Outline(patient(problems=[known])).text, "said once is enough"
    assert "ses-77" not in outline.text, "another patient's"


def test_the_cohorts_page_lists_patients_sessions_and_what_failed():
    outline = Outline(cohort(problems=[FAILED]))
    assert {"sub-A.html", "sub-A.html#ses-05", "logs/register/sub-A_ses-03.log", "tables/lesions.csv"} <= set(
        outline.addresses
    )
    for words in ("registration failed", "pr: 0.3", "3f9a", report.LIMITS):
        assert words in outline.text
    assert "Nothing was left out, nothing failed." in Outline(cohort()).text
    assert sum(a.startswith("https://doi.org/") for a in outline.addresses) == len(report.REFERENCES)


def test_what_wants_a_look_comes_with_its_reason_once():
    text = Outline(patient()).text
    look = text[text.index("What to look at first") : text.index("Course")]
    assert "targets grew, a new lesion" in look
    assert "L005 new lesion, equivocal; candidate" in look
    assert look.count("merged into L001") == 1
    assert "most likely there" in look


def test_a_response_that_changed_with_later_sessions_is_pointed_out():
    sessions = session_table()
    sessions.loc[1, "response_overall_prospective"] = "PD"
    text = Outline(patient(sessions=sessions)).text
    assert "ses-02 was PD when it was read, is SD with what came later" in text


def test_pictures_are_inside_the_page_with_words_for_those_who_do_not_see_them(tmp_path):
    names = [tmp_path / f"sub-A_ses-01_{kind}.png" for kind in ("lesions", "brain", "registration")]
    for name in names:
        name.write_bytes(b"\x89PNG")
    pictures = {"sessions": report.group_pictures(names), "trajectories": tmp_path / "gone.svg"}
    outline = Outline(patient(pictures=pictures))
    assert len(outline.images) == 3
    assert all(i["src"].startswith("data:image/png;base64,") and i["alt"] for i in outline.images)
    assert "L001 24.0 mm target" in outline.images[0]["alt"]
    assert "This picture was not made." in outline.text
    assert "A bad one: leaves it ." in outline.text


def test_pictures_are_told_apart_by_their_names_not_by_their_order():
    paths = ["f/sub-A_ses-02_brain.png", "f/sub-A_ses-01_lesions.png", "f/sub-A_ses-01_brain.png"]
    assert report.group_pictures(paths) == {
        "ses-02": {"brain": Path(paths[0])},
        "ses-01": {"lesions": Path(paths[1]), "brain": Path(paths[2])},
    }
    with pytest.raises(InputError):
        report.group_pictures(["f/whatever.png"])


def test_every_stage_has_a_caption_that_names_settings_that_exist():
    import yaml

    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    captions = report.read_captions(ROOT / "workflow" / "report", config)
    assert set(captions) == set(report.STAGES)
    for text in captions.values():
        assert "{{" not in text
        assert "**A bad one:**" in text
    assert str(config["register"]["dice_fail"]) in captions["register"]


def test_a_caption_of_a_setting_that_does_not_exist_is_refused(tmp_path):
    (tmp_path / "strip.rst").write_text("Below {{ snakemake.config.strip.nothing }}.")
    with pytest.raises(InputError, match=r"strip\.nothing"):
        report.read_captions(tmp_path, {"strip": {}})
