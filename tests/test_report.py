"""Pages: all that is in the tables is on them, what is missing is said, and nothing is reached for outside."""

import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import pandas as pd
import pytest
from drawn_pages import FAILED, METHOD, PATIENT, TREATED, WORKS, cohort, draw_charts, patient
from drawn_patient import DIAMETERS_MM, SESSIONS, lesion_table, session_table
from mettrail import schema
from mettrail.colours import track_colour
from mettrail.errors import InputError
from mettrail.report import (
    captions,
    environment,
    figures,
    outliers,
    parts,
    ran,
    review,
)
from mettrail.report.text import records_of
from mettrail.schema import cells

ROOT = Path(__file__).parents[1]


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


def test_a_track_has_the_same_colour_and_mark_on_page_and_pictures():
    page = patient()
    for track in DIAMETERS_MM:
        colours = set(re.findall(rf'<i class="(\w+)" style="background:(#\w+)"></i>{track}<', page))
        assert colours == {(parts.make_track(track).mark, track_colour(track))}


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
    for page in (
        patient(lesions, sessions, row, problems=[problem], links={evil: evil}),
        cohort(pd.DataFrame([row | {"participant_id": evil}]), sessions, lesions, [problem], pages={evil: evil}),
    ):
        require_escaped(page)


@pytest.mark.parametrize("where", ["label of a patient", "name of a file", "reason", "caption", "setting"])
def test_text_of_a_dataset_is_escaped_on_each_page(where):
    evil = '<script>alert("x")</script>'
    if where == "label of a patient":
        require_escaped(patient(name=evil))
        require_escaped(cohort(pd.DataFrame([PATIENT | {"participant_id": evil}])))
    elif where == "name of a file":
        require_escaped(patient(links={evil: "a.tsv"}))
        require_escaped(cohort(links={evil: "a.tsv"}))
    elif where == "reason":
        require_escaped(patient(problems=[FAILED | {"reason": evil}]))
        require_escaped(cohort(problems=[FAILED | {"reason": evil}]))
    elif where == "caption":
        require_escaped(patient(captions={"measure": captions.parse_caption(evil)}))
        require_escaped(cohort(captions={"measure": captions.parse_caption(evil)}))
    else:
        require_escaped(cohort(settings=evil))


def require_escaped(page):
    Outline(page)
    assert page.count("<script>") == 1, "only the page's own"
    assert "alert(&#34;x&#34;)" in page


def test_a_template_that_shows_what_is_not_given_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="participant"):
        environment.render("patient.html.j2")


def test_the_wheel_has_every_file_of_the_library(tmp_path):
    for name in ("scripts", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    build = "from setuptools import build_meta; build_meta.build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    library = ROOT / "scripts" / "mettrail"
    files = {p.relative_to(library.parent).as_posix() for p in library.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    assert "mettrail/report/templates/patient.html.j2" in files
    assert files <= packed


def test_a_truth_that_is_text_is_refused():
    assert [cells.truth_of({"a": value}, "a") for value in (True, False, None, pd.NA)] == [True, False, None, None]
    with pytest.raises(TypeError, match="read_table"):
        cells.truth_of({"a": "false"}, "a")


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
        lesions = lesions.assign(status="not_evaluable", ld_mm=None, vol_wl_ml=None)
    else:
        row = {}
    outline = Outline(patient(lesions, sessions, row))
    assert expected in outline.text
    assert not re.search(r"\bnan\b|<NA>|\bNone\b|\bNaN\b", outline.text)


def test_the_tables_own_types_and_empty_tables_give_pages_too():
    empty = {kind: schema.empty(kind) for kind in schema.KINDS}
    Outline(patient(empty["lesions"], empty["sessions"], {}))
    outline = Outline(cohort(empty["patients"], empty["sessions"], empty["lesions"], pages={}))
    assert "No patient was found" in outline.text
    outline = Outline(patient())
    assert not re.search(r"\bnan\b|<NA>|\bNone\b|\bNaN\b", outline.text)
    row = schema.make_table([dict.fromkeys(schema.columns("patients")) | {"participant_id": "sub-A"}], "patients")
    assert "n/a" in Outline(patient(row=row.iloc[0])).text
    assert "6 sessions over 273 days, 5 evaluable" in outline.text
    assert "L003" in outline.text


def test_a_failed_session_is_on_the_page_with_its_log_without_a_row():
    sessions = session_table().query("session_id != 'ses-03'")
    lesions = lesion_table().query("session_id != 'ses-03'")
    outline = Outline(patient(lesions, sessions, problems=[FAILED, FAILED | {"sub": "B", "ses": "77"}]))
    assert "ses-03" in outline.ids
    assert "logs/register/sub-A_ses-03.log" in outline.addresses
    assert "ses-03 stopped at register : failed segment" in outline.text
    known = FAILED | {"reason": "failed_register"}
    assert "ses-03 stopped at register ses-" in Outline(patient(problems=[known])).text, "said once is enough"
    assert "ses-77" not in outline.text, "another patient's"


def test_the_page_leads_to_the_viewer_where_there_is_one():
    links = {"cohort": "index.html", "viewer": "sub-A_viewer.html"}
    addresses = Outline(patient(links=links)).addresses
    assert addresses.count("sub-A_viewer.html") == 1
    assert {f"sub-A_viewer.html#{track}" for track in DIAMETERS_MM} <= set(addresses)
    assert not [address for address in Outline(patient(links=links | {"viewer": ""})).addresses if "viewer" in address]


def test_the_cohorts_page_lists_patients_sessions_and_what_failed():
    outline = Outline(cohort(problems=[FAILED]))
    assert {"sub-A.html", "sub-A.html#ses-05", "logs/register/sub-A_ses-03.log", "tables/lesions.csv"} <= set(
        outline.addresses
    )
    for words in ("registration failed", "pr: 0.3", "3f9a", "not a clinical response call"):
        assert words in outline.text
    seen = session_table().loc[lambda table: table["evaluable"]]
    assert "Nothing was excluded, nothing failed, every session is evaluable." in Outline(cohort(sessions=seen)).text


def test_the_cohorts_page_has_the_method_and_no_work_that_it_does_not_cite():
    outline = Outline(cohort())
    assert "RANO-BM (Lin et al. 2015); nnU-Net was not run." in outline.text
    cited = [address for address in outline.addresses if address.startswith("https://doi.org/10.")]
    assert cited == [f"https://doi.org/{WORKS['Lin2015'].doi}"], "a work without a DOI is named, not linked"
    assert "Scandinavian Journal of Statistics" in outline.text
    network = ran.Network("detection", "<b>", "a1" * 32, "<i>", "<u>", None, False, 0.6, 0.4, (), 1)
    page = cohort(method=replace(METHOD, networks=(network,)))
    assert "&lt;b&gt;" in page
    assert not re.search(r"<u>|<i>\.", page)


def test_what_requires_review_comes_with_its_reason_once():
    text = Outline(patient()).text
    look = text[text.index("What to review first") : text.index("Course")]
    assert "targets grew, a new lesion" in look
    assert "L005 new lesion, equivocal; candidate" in look
    assert look.count("merged into L001") == 1
    assert "most likely there" in look


def test_a_response_that_changed_with_later_sessions_is_pointed_out():
    sessions = session_table()
    sessions.loc[1, "response_overall_prospective"] = "PD"
    text = Outline(patient(sessions=sessions)).text
    assert "ses-02 was PD prospectively, is SD with later sessions" in text


def test_pictures_are_inside_the_page_and_have_alternative_text(tmp_path):
    names = [tmp_path / f"sub-A_ses-01_{kind}.png" for kind in ("lesions", "brain", "registration")]
    for name in names:
        name.write_bytes(b"\x89PNG")
    pictures = {"sessions": parts.group_pictures(names), "trajectories": tmp_path / "absent.svg"}
    outline = Outline(patient(pictures=pictures))
    assert len(outline.images) == 3
    assert all(i["src"].startswith("data:image/png;base64,") and i["alt"] for i in outline.images)
    assert "L001 24.0 mm target" in outline.images[0]["alt"]
    assert "This chart was not made." in outline.text
    assert "Signs of failure: leaves it ." in outline.text


def test_pictures_are_told_apart_by_their_names_not_by_their_order():
    paths = ["f/sub-A_ses-02_brain.png", "f/sub-A_ses-01_lesions.png", "f/sub-A_ses-01_brain.png"]
    assert parts.group_pictures(paths) == {
        "ses-02": {"brain": Path(paths[0])},
        "ses-01": {"lesions": Path(paths[1]), "brain": Path(paths[2])},
    }
    with pytest.raises(InputError):
        parts.group_pictures(["f/whatever.png"])


def test_every_stage_has_a_caption_that_names_settings_that_exist():
    import yaml

    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    found = captions.read_captions(ROOT / "workflow" / "report", config)
    assert set(found) == set(captions.STAGES)
    for caption in found.values():
        assert captions.Run("Signs of failure:", "strong") in [paragraph[0] for paragraph in caption]
    assert str(config["register"]["dice_fail"]) in "".join(run.text for run in found["register"][1])


def test_a_caption_of_a_setting_that_does_not_exist_is_refused(tmp_path):
    (tmp_path / "strip.rst").write_text("Below {{ snakemake.config.strip.nothing }}.")
    with pytest.raises(InputError, match=r"(?s)strip\.rst.*nothing"):
        captions.read_captions(tmp_path, {"strip": {}})


@pytest.mark.parametrize("text", ["A list:\n\n- one", "An *emphasis*.", "Never ``closed.", ".. raw:: html\n\n   <b>"])
def test_a_caption_that_a_page_could_not_show_is_refused(text):
    with pytest.raises(InputError):
        captions.parse_caption(text)


def to_review(page):
    text = Outline(page).text
    return text[text.index("What to review first") : text.index("Course")]


def test_lesions_that_may_be_others_are_listed_before_all_else():
    lesions = lesion_table()
    lesions.loc[lesions["track_id"] == "L002", "flags"] = "thick_slice;coalesced"
    lesions.loc[(lesions["track_id"] == "L003") & (lesions["session_id"] == "ses-02"), "flags"] = "weak_match"
    look = to_review(patient(lesions))
    first = min(look.index(words) for words in ("match_score below", "one with another lesion"))
    assert first < look.index("PD targets grew") < look.index("new lesion, equivocal")
    work = Outline(cohort(lesions=lesions)).text
    work = work[work.index("Lesions to review") :]
    assert work.index("match_score below") < work.index("new lesion, equivocal")


def test_the_table_to_review_has_a_lesion_a_row_the_uncertain_first():
    lesions, sessions = lesion_table(), session_table()
    lesions.loc[(lesions["track_id"] == "L003") & (lesions["session_id"] == "ses-02"), "flags"] = "weak_match"
    sessions.loc[1, "response_overall_prospective"] = "PD"
    more = lesions.query("track_id == 'L005'").assign(track_id="L006")
    everyone = pd.DataFrame([PATIENT, PATIENT | {"participant_id": "sub-B"}])
    table = review.tabulate(
        pd.concat([lesions, more]), sessions, everyone, [FAILED, FAILED | {"sub": "sub-B", "ses": None}]
    )
    assert table["order"].tolist() == list(range(1, len(table) + 1))
    first = table.iloc[0]
    assert (first["session_id"], first["track_id"], first["page"]) == ("ses-02", "L003", "sub-A.html#ses-02")
    found = list(zip(table["session_id"].fillna(""), table["track_id"].fillna(""), table["finding"]))
    assert ("ses-05", "L006", "new lesion, equivocal; candidate, confidence 0.45") in found
    assert ("ses-06", "", "PD: targets grew, a new lesion") in found
    assert ("ses-02", "", "was PD prospectively, is SD with later sessions") in found
    assert ("ses-03", "", "register: failed segment: the job was stopped from outside") in found
    assert table.iloc[-1][["participant_id", "page"]].tolist() == ["sub-B", "sub-B.html"]


def test_lesions_of_which_the_same_is_to_be_said_share_a_line():
    lesions = lesion_table()
    more = lesions.query("track_id == 'L005'").assign(track_id="L006")
    look = to_review(patient(pd.concat([lesions, more])))
    assert "ses-05 L005 L006 new lesion, equivocal" in look


@pytest.mark.parametrize("flag", review.SESSION_REVIEW)
def test_remarks_on_a_session_that_require_review_are_listed(flag):
    sessions = session_table()
    sessions.loc[3, "flags"] = f"no_dates;{flag}"
    meaning = schema.data_dictionary("sessions")["flags"]["LevelsOfEachPart"][flag]
    assert f"ses-04 {meaning}" in to_review(patient(sessions=sessions))


def test_a_sequence_that_requires_review_is_listed_and_one_not_used_is_not():
    sessions = session_table()
    sessions.loc[3, "flags"] = "FLAIR_partial;T2w_misaligned;T1w_elsewhere"
    listed = to_review(patient(sessions=sessions))
    assert "ses-04 FLAIR: The sequence shows only a part of the brain" in listed
    assert "ses-04 T2w: The sequence may not lie on the reference scan" in listed
    assert "T1w" not in listed
    sessions.loc[3, "flags"] = "FLAIR_same_scan"
    assert "ses-04 FLAIR: The scan has the same voxels as another one" in to_review(patient(sessions=sessions))


def unconfirmed(sessions):
    return sessions.assign(confirmed=[None, None, None, False, False, None])


def test_a_response_that_is_not_confirmed_says_so_wherever_it_stands():
    sessions, row = unconfirmed(session_table()), PATIENT | {"best_response": "SD", "best_response_confirmed": None}
    text = Outline(patient(sessions=sessions, row=row)).text
    assert "PR on day 154, PR on day 210 not confirmed: counts as SD" in text
    assert "ses-04 PR not confirmed by a later session" in text
    assert text.count("PR not confirmed") >= 2 * 3, "in the timeline, the table and the session"
    assert "not confirmed" not in Outline(patient()).text
    text = Outline(cohort(patients=pd.DataFrame([row]), sessions=sessions)).text
    assert "SD PR on day 154, PR on day 210 not confirmed: counts as SD" in text
    assert "not confirmed: counts" not in Outline(cohort(sessions=sessions)).text, "where PR counts"


def test_a_response_after_progression_does_not_count_as_unconfirmed():
    sessions = session_table()
    sessions.loc[[3, 4], "response_overall_final"] = ["PD", "PR"]
    assert review.unconfirmed_responses(unconfirmed(sessions).to_dict("records")) == ""


def test_a_confirmed_response_that_goes_on_says_so():
    sessions = session_table()
    sessions.loc[4, ["response_overall_final", "response_overall_continued"]] = ["SD", "PR"]
    assert Outline(patient(sessions=sessions)).text.count("SD confirmed PR continues") == 3


@pytest.mark.parametrize("reason", ["image_quality", "no_contrast", "brain_extraction", "registration_failed"])
def test_every_session_that_is_not_evaluable_is_among_what_failed(reason):
    sessions = session_table().replace("registration_failed", reason)
    page = cohort(sessions=sessions)
    text = Outline(page).text
    failed = text[text.index("What was excluded") : text.index("Response of each patient")]
    assert f"sub-A ses-03 not evaluable {reason.replace('_', ' ')}" in failed
    assert 'href="sub-A.html#ses-03"' in page[page.index("What was excluded") : page.index("Response of each patient")]
    known = FAILED | {"stage": "register"}
    text = Outline(cohort(sessions=sessions, problems=[known])).text
    failed = text[text.index("What was excluded") : text.index("Response of each patient")]
    assert failed.count("sub-A ses-03") == 1, "what has failed is listed once"
    warned = FAILED | {"stage": "warning"}
    text = Outline(cohort(sessions=sessions, problems=[warned])).text
    assert f"ses-03 not evaluable {reason.replace('_', ' ')}" in text


def test_the_remaining_lesions_of_a_session_wait_in_a_fold(tmp_path):
    paths = [tmp_path / f"sub-A_ses-01_{kind}.png" for kind in ("lesions", "more")]
    for path in paths:
        path.write_bytes(b"\x89PNG")
    pictures = {"sessions": parts.group_pictures(paths)}
    assert len(Outline(patient(pictures=pictures)).images) == 1, "four lesions are all on the first picture"
    one = lesion_table().query("track_id == 'L001'")
    lesions = pd.concat([one.assign(track_id=f"L{n:03d}") for n in range(1, 15)])
    outline = Outline(patient(lesions, pictures=pictures))
    assert len(outline.images) == 2
    assert "5 remaining lesions" in outline.text


def test_place_uncertainty_and_growth_of_lesions_are_shown():
    lesions = lesion_table()
    last = (lesions["session_id"] == "ses-06") & (lesions["track_id"] == "L001")
    given = {
        "region": "frontal", "side": "left", "ld_half_voxel_low_mm": 20.9, "ld_half_voxel_high_mm": 21.9,
        "vol_half_voxel_low_ml": 3.1, "vol_half_voxel_high_ml": 4.2, "ld_probability_low_mm": 20.1,
        "ld_probability_high_mm": 22.2, "vol_growth_ml_per_30_days": 0.42, "vol_doubling_time_days": 41.3,
    }  # fmt: skip
    for name, value in given.items():
        lesions.loc[last, name] = value
    text = Outline(patient(lesions)).text
    details = text[text.index("Place, uncertainty and growth at ses-06") :]
    for words in ("left frontal", "½ voxel 20.9–21.9", "p 20.1–22.2", "3.10 mL–4.20 mL", "+0.42 mL", "41 d"):
        assert words in details
    lesions.loc[last, ["vol_growth_ml_per_30_days", "vol_doubling_time_days"]] = [-0.05, -80]
    text = Outline(patient(lesions)).text
    assert "−50 mm³" in text and "halves in 80 d" in text


def test_another_sum_at_baseline_than_the_frozen_one_is_explained():
    assert "is compared with" not in Outline(patient()).text
    sessions = session_table()
    sessions.loc[4, "reference_sum_ld_mm"] = 36.1
    assert "ses-05 is compared with 36.1 mm at baseline, not with 38.2 mm" in Outline(patient(sessions=sessions)).text


def test_treated_lesions_and_outcomes_are_on_the_page_where_there_are_any():
    assert "Treated lesions" not in Outline(patient()).text
    row = PATIENT | {"first_event": "local", "first_event_day": 273, "local_failure_day": 273}
    text = Outline(patient(row=row, treated=[TREATED])).text
    for words in (
        "Treated lesions",
        "20.0 Gy / 1",
        "day 273 may be an effect of treatment",
        "First event local failure",
    ):
        assert words in text
    assert "First event" not in Outline(patient()).text


def test_the_incidence_of_local_failure_has_a_section_where_there_is_one(tmp_path):
    picture = tmp_path / "incidence.svg"
    picture.write_text("<svg/>")
    page = cohort(pictures={"incidence": picture})
    assert "Death is a competing event" in Outline(page).text
    assert 'role="img" aria-label="Cumulative incidence of local failure' in page
    assert "Treated lesions" not in Outline(cohort()).text


def test_no_disease_has_a_colour_and_a_meaning():
    sessions = session_table().replace("NON_CR_NON_PD", "n/a")
    sessions.loc[1, "response_overall_final"] = "ND"
    page = patient(sessions=sessions)
    assert figures.RESPONSE_COLOURS["ND"][0] in page
    assert "no disease" in page


def test_a_residual_shift_is_named_with_the_registration():
    sessions = session_table()
    sessions.loc[1, "residual_shift_mm"] = 3.24
    assert "lesions were 3.2 mm off: corrected" in Outline(patient(sessions=sessions)).text


def test_a_lesion_that_grew_as_progression_does_is_to_be_reviewed():
    lesions = lesion_table()
    lesions.loc[(lesions["track_id"] == "L003") & (lesions["session_id"] == "ses-04"), "lesion_response"] = "PD"
    assert "ses-04 L003 grew, +52 % from its smallest" in to_review(patient(lesions.assign(ld_change_nadir_pct=52.3)))
    assert "grew," not in to_review(patient()).replace("targets grew,", "")


def test_marks_of_charts_lead_to_pages_that_exist(tmp_path):
    made = draw_charts(tmp_path, pd.DataFrame([PATIENT | {"participant_id": name} for name in ("sub-A", "sub-B")]))
    page = cohort(pictures=made)
    addresses = set(re.findall(r'<a class="mark" href="(.*?)"', page))
    assert addresses == {"sub-A.html", *(f"sub-A.html#{name}" for name in SESSIONS)}
    assert '<g class="mark"><title>sub-B: best change' in page, "sub-B has no page"
    assert "data-place" not in page and "xlink" not in re.sub(r"<svg.*?>", "", page)
    require_unique_ids(page)


def require_unique_ids(page):
    """Charts may share what is the same in both."""
    found = {}
    for name, content in re.findall(r'<(?:path|rect) id="(\w+)"(.*?)/>', page):
        assert found.setdefault(name, content) == content


def test_words_in_charts_never_become_html(tmp_path):
    evil = '<script>alert("x")</script>'
    row, sessions = PATIENT | {"participant_id": evil}, session_table().assign(participant_id=evil)
    page = cohort(pd.DataFrame([row]), sessions, pictures=draw_charts(tmp_path, pd.DataFrame([row]), sessions))
    Outline(page)
    assert page.count("<script>") == 1


def test_sessions_that_stand_out_come_first_and_say_by_what():
    sessions = pd.concat([session_table(f"sub-{letter}") for letter in "ABC"], ignore_index=True)
    sessions["brain_volume_ml"] = [1300.0 + 5 * n for n in range(len(sessions))]
    sessions.loc[13, "brain_volume_ml"] = 700.0
    sessions.loc[9, "flags"] = "residual_shift"
    ranked = outliers.rank_sessions(records_of(sessions))
    said = [(row["participant_id"], row["session_id"], why) for row, why in ranked]
    assert said[:5] == [
        *((f"sub-{letter}", "ses-03", "not evaluable") for letter in "ABC"),
        ("sub-B", "ses-04", "residual shift"),
        ("sub-C", "ses-02", "brain volume 700.0 mL"),
    ]
    assert {why for *_, why in said[5:]} == {""}
    assert said[5][:2] == ("sub-A", "ses-01")
    common = sessions.assign(flags="brain_stripped", evaluable=True, brain_volume_ml=1300.0)
    assert {why for _, why in outliers.rank_sessions(records_of(common))} == {""}, "what all have is no outlier"
    text = Outline(cohort(sessions=sessions, pages={})).text
    assert "Outliers come first" in text and "brain volume 700.0 mL" in text
