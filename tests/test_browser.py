"""The pages in a browser without a network: they draw, reach for nothing, and can be read by all on any screen."""

import hashlib
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser import CHROMIUM, Browser, decide
from conftest import settings_of
from drawn_pages import FAILED, PATIENT, cohort, crowd, draw_charts, many_patients, patient
from drawn_patient import lesion_table, session_table
from drawn_viewer import make, two_visits
from drawn_visits import ends, table_with_ends
from matplotlib.colors import to_rgb
from mettrail.cohort import overrides
from mettrail.colours import PRIOR_COLOUR, track_colour
from mettrail.report import charts
from mettrail.schema import tsv
from PIL import Image as Pixels

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
VENDOR = Path(__file__).parent / "vendor"
AXE = VENDOR / "axe-4.14.1.min.js"
READY = "document.documentElement.dataset.viewer === 'ready'"
HOSTILE = "<img src=x onerror=document.title='gone'>"
# How far a colour on the screen may be from what it is in the tables.
NEAR = 0.12


@pytest.fixture(scope="module")
def browser():
    with Browser() as running:
        yield running


@pytest.fixture(scope="module")
def viewer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("viewer")
    path = folder / "sub-A_viewer.html"
    path.write_text(
        make(two_visits(folder / "visits"), lesions=table_with_ends(ses_01=ends(), ses_02=ends((7, -5, 4))))
    )
    course = folder / "course.svg"
    charts.draw_trajectories(lesion_table(), session_table(), pd.DataFrame(), course, rano=settings_of("rano"))
    links = {"cohort": "index.html", "viewer": path.name}
    (folder / "sub-A.html").write_text(patient(links=links, pictures={"trajectories": course}))
    return path


@pytest.fixture
def shown(browser, viewer):
    """The viewer as it opens; it takes seconds to, so that tests leave it as they found it."""
    if browser.run("location.pathname") != str(viewer):
        browser.open(viewer, until=READY)
    settle(browser)
    return browser


def settle(browser):
    """Two frames later all that was asked for is drawn."""
    browser.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def canvases(browser):
    """What is seen of each canvas, as (down, across, 3) arrays from 0 to 1."""
    page = np.asarray(Pixels.open(io.BytesIO(browser.screenshot())).convert("RGB")) / 255
    boxes = browser.run(
        "[...document.querySelectorAll('canvas')].map((c) => c.getBoundingClientRect())"
        ".map((r) => [r.left + scrollX, r.top + scrollY, r.width, r.height].map(Math.round))"
    )
    return [page[top : top + height, left : left + width] for left, top, width, height in boxes]


def coloured(picture, colour):
    return np.abs(picture - np.array(to_rgb(colour))).max(-1) < NEAR


def width_of(mask):
    return np.ptp(np.argwhere(mask)[:, 1]) if mask.any() else 0


def test_the_viewer_draws_the_lesion_of_each_visit_and_reaches_nothing(shown):
    first, second = (coloured(seen, track_colour("L001")) for seen in canvases(shown))
    assert first.any()
    # Of 10 and 16 mm, on slices of 2 mm.
    assert 1.4 * width_of(first) < width_of(second) < 2.1 * width_of(first)
    assert [coloured(seen, PRIOR_COLOUR).any() for seen in canvases(shown)] == [False, True]
    assert shown.run("document.getElementById('instead').hidden")
    assert shown.troubles() == []


def test_lines_can_be_switched_off(shown):
    shown.run("document.querySelectorAll('.line')[0].click()")
    settle(shown)
    without = canvases(shown)
    shown.run("document.querySelectorAll('.line')[0].click()")
    assert not any(coloured(seen, track_colour("L001")).any() for seen in without)
    assert coloured(without[1], PRIOR_COLOUR).any(), "the others stay"


def crosshair(picture):
    """Row and column of the lines of a crosshair; it has a gap in its middle."""
    found = coloured(picture, (0.62, 0.82, 1.0))
    return int(found.sum(1).argmax()), int(found.sum(0).argmax())


def test_crosshairs_follow_each_other_and_a_lesion_of_the_list(shown):
    at_lesion = [crosshair(seen) for seen in canvases(shown)]
    assert at_lesion[0] == pytest.approx(at_lesion[1], abs=1)
    middle = np.argwhere(coloured(canvases(shown)[0], track_colour("L001"))).mean(0)
    assert at_lesion[0] == pytest.approx(middle, abs=4)
    left, top = shown.run("(({left, top}) => [left, top])(document.querySelector('canvas').getBoundingClientRect())")
    for kind in ("mousePressed", "mouseReleased"):
        shown.call("Input.dispatchMouseEvent", type=kind, x=left + 120, y=top + 150, button="left", clickCount=1)
    settle(shown)
    clicked = [crosshair(seen) for seen in canvases(shown)]
    shown.run("document.querySelector('.lesion').click()")
    settle(shown)
    assert clicked[0] == pytest.approx((150, 120), abs=4)
    assert clicked[1] == pytest.approx(clicked[0], abs=1)
    assert [crosshair(seen) for seen in canvases(shown)] == at_lesion
    assert shown.run("document.querySelectorAll('.said')[0].textContent").startswith("L001: ")


def test_two_visits_flicker_at_one_place(shown):
    lefts = "new Set([...document.querySelectorAll('canvas')].map((c) => c.getBoundingClientRect().left)).size"
    seen = "[...document.querySelectorAll('#panes li:not(.unseen)')].map((p) => p.innerText.slice(0, 6)).join()"
    shown.run("document.querySelector('.flicker').click()")
    shown.wait(f"{seen} === 'ses-01'")
    shown.wait(f"{seen} === 'ses-02'")
    assert shown.run(lefts) == 1
    shown.run("document.getElementById('stop').click()")
    assert shown.run(seen) == "ses-01,ses-02"
    assert shown.run(lefts) == 2


def test_a_visit_can_be_closed_and_opened_again(shown):
    number = "document.querySelectorAll('#panes > li:not([hidden])').length"
    shown.run("document.querySelector('.visit').click()")
    shown.wait(f"{number} === 1")
    shown.run("document.querySelector('.visit').click()")
    shown.wait(f"{number} === 2")
    for _ in range(600):
        if coloured(canvases(shown)[0], track_colour("L001")).any():
            break
    assert [coloured(seen, track_colour("L001")).any() for seen in canvases(shown)] == [True, True]
    assert shown.troubles() == []


def test_without_webgl_or_javascript_a_sentence_leads_to_film_strips(viewer):
    said = "document.getElementById('instead').innerText"
    with Browser("--disable-3d-apis") as browser:
        browser.open(viewer)
        assert "needs a screen, JavaScript and WebGL 2" in browser.run(said)
        assert browser.run("document.querySelector('#instead a').getAttribute('href')") == "sub-A.html#films"
        browser.call("Emulation.setScriptExecutionDisabled", value=True)
        browser.open(viewer)
        assert browser.run("document.getElementById('instead').offsetHeight") > 0
        assert browser.run("document.getElementById('viewer').offsetHeight") == 0
        assert browser.troubles() == []


# --- All pages -----------------------------------------------------------------------------------------------------


def odd_page(case, folder):
    lesions, sessions = lesion_table(), session_table()
    if case == "no lesion":
        return patient(lesions.iloc[:0], sessions)
    if case == "one visit":
        return patient(lesions[lesions["session_id"] == "ses-01"], sessions.iloc[:1])
    if case == "every session failed":
        failed = sessions.assign(evaluable=False, ne_reason="failed_segment", response_overall_final="NE")
        return patient(lesions.iloc[:0], failed, {}, problems=[FAILED])
    if case == "hostile name":
        return patient(name=HOSTILE, row=PATIENT | {"participant_id": HOSTILE})
    if case == "60 lesions at 12 visits":
        return crowd(folder / "strips")
    if case == "300 patients":
        return many_patients(folder)
    return cohort(pictures=draw_charts(folder))


ODD = ("no lesion", "one visit", "every session failed", "hostile name", "60 lesions at 12 visits", "cohort",
       "300 patients")  # fmt: skip


@pytest.fixture(scope="module")
def pages(tmp_path_factory, viewer):
    made = {"patient": viewer.parent / "sub-A.html", "viewer": viewer}
    for number, case in enumerate(ODD):
        folder = tmp_path_factory.mktemp(f"page{number}")
        made[case] = folder / "page.html"
        made[case].write_text(odd_page(case, folder))
    (made["cohort"].parent / "sub-A.html").write_text("where marks lead to")
    return made


def lay_out_all(browser):
    """Also what is far from the screen, which pages leave until it comes near."""
    browser.run(
        "document.head.appendChild(document.createElement('style')).textContent ="
        " 'main > section { content-visibility: visible !important }'; 0"
    )


@pytest.mark.parametrize("case", ["patient", "viewer", *ODD])
def test_a_page_is_quiet_and_no_wider_than_its_screen(case, pages, browser):
    for width in (1400, 390):
        browser.open(
            pages[case], width=width, until=READY if case == "viewer" else "document.readyState === 'complete'"
        )
        lay_out_all(browser)
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run("document.title") != "gone"
        assert browser.troubles() == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("case", ["patient", "viewer", "cohort", "every session failed"])
def test_a_page_has_no_barrier_that_axe_knows(case, dark, pages, browser):
    browser.open(pages[case], dark=dark, until=READY if case == "viewer" else "document.readyState === 'complete'")
    lay_out_all(browser)
    browser.run("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    browser.run(AXE.read_text() + "; 0")
    found = browser.run("axe.run().then((done) => done.violations.map((v) => [v.id, v.nodes.map((n) => n.html)]))")
    assert found == []


MARK = "document.querySelector('#patients a.mark[href$=\"#ses-05\"]')"
TIP = "document.querySelector('.tip').checkVisibility() && document.querySelector('.tip').textContent"


def place_of_mark(browser, page, **how):
    """Open the cohort's page with the mark of ses-05 on the screen, and return where it is."""
    browser.open(page, **how)
    browser.run(f"{MARK}.scrollIntoView({{block: 'center', inline: 'center', behavior: 'instant'}}); 0")
    settle(browser)
    return browser.run(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({MARK}.getBoundingClientRect())")


def test_a_mark_says_what_it_is_by_mouse(pages, browser):
    x, y = place_of_mark(browser, pages["cohort"])
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + 4, y=y)
    assert browser.run(TIP) == "sub-A, ses-05, day 210: PR; sum 14.0 mm; new lesion: equivocal"
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=5, y=5)
    assert browser.run(TIP) is False
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    for kind in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    browser.wait("location.href.endsWith('/sub-A.html#ses-05')", 20)


def tap(browser, x, y):
    browser.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    browser.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])


def test_a_mark_says_what_it_is_by_touch_and_leads_on_at_the_second(pages, browser):
    x, y = place_of_mark(browser, pages["cohort"], width=390)
    tap(browser, x + 9, y)
    browser.wait(TIP, 20)
    assert browser.run(TIP).startswith("sub-A, ses-05, day 210: PR")
    assert browser.run(TIP).endswith("tap again to open")
    assert browser.run(
        "(r => r.left >= 0 && r.right <= innerWidth)(document.querySelector('.tip').getBoundingClientRect())"
    )
    tap(browser, x + 9, y)
    browser.wait("location.href.endsWith('/sub-A.html#ses-05')", 20)


def press(browser, key):
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, text="\r" if key == "Enter" else "",
                     windowsVirtualKeyCode={"Tab": 9, "Enter": 13}.get(key, 0))  # fmt: skip


def test_a_chart_is_one_stop_of_the_tab_key_and_arrows_go_through_it(pages, browser):
    place_of_mark(browser, pages["cohort"])
    browser.run("document.querySelector('#patients .chart').focus()")
    marks = browser.run(
        "[...document.querySelector('#patients .chart').querySelectorAll('.mark')].map((m) => m.tabIndex)"
    )
    assert len(marks) > 8 and marks.count(0) == 1
    press(browser, "Tab")
    seen = [browser.run(TIP)]
    for _ in marks:
        press(browser, "ArrowRight")
        seen.append(browser.run(TIP))
    assert len(set(seen)) == len(marks), "every mark is reached"
    press(browser, "Home")
    press(browser, "End")
    press(browser, "ArrowLeft")
    assert browser.run(TIP) == seen[-3]
    press(browser, "Tab")
    assert browser.run("document.activeElement.closest('.chart') === document.querySelectorAll('#patients .chart')[1]")


def test_without_javascript_marks_keep_their_titles_and_links(pages):
    with Browser() as browser:
        browser.call("Emulation.setScriptExecutionDisabled", value=True)
        browser.open(pages["cohort"])
        mark = "document.querySelector('#patients a.mark[href$=\"#ses-05\"] title').textContent"
        assert browser.run(mark).startswith("sub-A, ses-05, day 210")
        assert not browser.run("document.querySelector('.pointing span').checkVisibility()"), (
            "arrow keys need the script"
        )


def test_the_form_writes_what_the_reader_of_overrides_reads(pages, browser, tmp_path):
    browser.open(pages["patient"])
    decide(browser, field="exclude", track_id="L004", reader="A. Reader", why="a\tvessel\n, not a lesion")
    decide(browser, field="ld_mm", track_id="L001", session_id="ses-02", number="17.25")
    decide(browser, field="ld_mm", track_id="L001", session_id="ses-02", number="16.5")
    decide(browser, field="role", track_id="L003", word="target")
    decide(browser, field="new_status", track_id="L005", word="rejected")
    decide(browser, field="irradiated_day", track_id="L002", number="-5")
    decide(browser, field="nontarget_pd", session_id="ses-04", word="true")
    path = tmp_path / "overrides.tsv"
    path.write_text(browser.run("document.querySelector('.rows').value"))
    saved = browser.run("fetch(document.querySelector('.download').href).then(() => 'loaded', () => 'refused')")
    assert saved == "refused", "the page may load nothing, not even what it made"
    table = tsv.read_frame(path)
    assert list(table) == ["session_id", "track_id", "field", "value", "reader", "date", "reason"]
    assert table.iloc[0]["reader"] == "A. Reader" and table.iloc[0]["reason"] == "a vessel, not a lesion"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", table.iloc[0]["date"])
    found = overrides.read_overrides(table)
    assert found == overrides.Overrides(
        excluded=frozenset({"L004"}),
        diameters_mm={("ses-02", "L001"): 16.5},
        roles={"L003": "target"},
        new_status={"L005": "rejected"},
        irradiated_day={"L002": -5.0},
        nontarget_pd={"ses-04": True},
    )
    browser.run("document.querySelector('.undo').click()")
    assert "nontarget_pd" not in browser.run("document.querySelector('.rows').value")


def test_the_form_offers_what_can_be_decided_and_no_more(pages, browser):
    browser.open(pages["patient"])
    offered = (
        "[...document.querySelector('.decide').elements[%r].options].filter((o) => !o.disabled).map((o) => o.value)"
    )
    assert browser.run(offered % "field") == list(overrides.OVERRIDES)
    for name, decision in overrides.OVERRIDES.items():
        decide(browser, field=name)
        shown = "[...document.querySelectorAll('.decide label:not([hidden]) > [name$=_id]')].map((e) => e.name)"
        assert set(browser.run(shown)) == set(decision.about)
        assert browser.run(offered % "word") == list(decision.words)
    decide(browser, field="new_status")
    assert browser.run(offered % "track_id") == ["L005"]
    decide(browser, field="role")
    assert browser.run(offered % "track_id") == ["L001", "L002", "L003", "L004"]
    decide(browser, field="tsm", track_id="L005")
    assert browser.run(offered % "session_id") == ["ses-05", "ses-06"]


def test_what_is_listed_for_review_leads_to_the_form_filled_in(pages, browser):
    browser.open(pages["patient"])
    links = browser.run(
        "[...document.querySelectorAll('#check a[data-track]')].map((a) => [a.dataset.track, a.dataset.session])"
    )
    assert len(links) >= 2
    decide(browser, field="nontarget_pd", session_id="ses-01", word="true")
    for number, (lesion, session) in enumerate(links):
        browser.run(f"document.querySelectorAll('#check a[data-track]')[{number}].click()")
        now = "(e => [e.field.value, e.track_id.value, e.session_id.value])(document.querySelector('.decide').elements)"
        name, *about = browser.run(now)
        assert about[0] == lesion
        assert "track_id" in overrides.OVERRIDES[name].about, "what was to be decided is not about a lesion"
        # One that is about the session, too, stays, with the session it is listed for.
        decide(browser, field="ld_mm")
        browser.run(f"document.querySelectorAll('#check a[data-track]')[{number}].click()")
        assert browser.run(now) == ["ld_mm", lesion, session]
        assert browser.run("location.hash") == "#decide"


def test_a_diameter_that_is_none_is_not_added(pages, browser):
    browser.open(pages["patient"])
    for number in ("", "-3"):
        decide(browser, field="ld_mm", number=number)
        assert browser.run("document.querySelector('.rows').value") == ""


def test_without_javascript_the_page_says_how_to_write_the_table(pages):
    with Browser() as browser:
        browser.call("Emulation.setScriptExecutionDisabled", value=True)
        browser.open(pages["patient"])
        assert not browser.run("document.querySelector('.decide').checkVisibility()")
        said = browser.run("document.querySelector('#decide').textContent")
        assert all(name in said for name in (*overrides.OVERRIDES, "sub-A/sub-A_desc-lesions_overrides.tsv"))


def test_on_paper_all_is_open_and_what_only_a_screen_can_do_is_gone(pages, browser):
    browser.open(pages["cohort"])
    seen = "[...document.querySelectorAll('.contents, .pointing, .filtered input')].some((e) => e.checkVisibility())"
    assert browser.run(seen)
    # As many sheets as there are pages to fill, and none for a footer alone.
    assert len(re.findall(rb"/Type ?/Page\b", browser.paper())) <= 4
    assert browser.run("[...document.querySelectorAll('details')].every((d) => d.open)")
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert not browser.run(seen)
    head = "getComputedStyle(document.querySelector('#sessions thead %s'))"
    assert browser.run(f"[{head % 'th'}.position, {head % 'button'}.display]") == ["static", "contents"], "repeated"
    browser.call("Emulation.setEmulatedMedia", media="")


def test_the_chart_of_300_patients_is_not_cut_on_paper(pages, browser):
    browser.open(pages["300 patients"], width=720)
    browser.call("Emulation.setEmulatedMedia", media="print")
    tall = browser.run("document.querySelector('.chart svg').getBoundingClientRect().height")
    browser.call("Emulation.setEmulatedMedia", media="")
    assert 600 < tall < 220 * 96 / 25.4


def test_a_table_is_sorted_by_the_heading_that_is_clicked(pages, browser):
    browser.open(pages["cohort"])
    column = "[...document.querySelectorAll('#sessions tbody tr')].map((r) => r.cells[%d].textContent.trim())"
    sum_at = browser.run(
        "[...document.querySelectorAll('#sessions thead th')].findIndex((h) => h.title.startsWith('sum_ld_mm'))"
    )
    heading = f"document.querySelectorAll('#sessions thead th')[{sum_at}]"
    assert sum_at > 0
    for way, expected in (
        ("ascending", [14.0, 21.4, 23.4, 28.3, 38.2]),
        ("descending", [38.2, 28.3, 23.4, 21.4, 14.0]),
    ):
        browser.run(f"{heading}.querySelector('button').click()")
        cells = browser.run(column % sum_at)
        assert [float(cell.split()[0]) for cell in cells[:-1]] == expected
        assert cells[-1] == "n/a", "what is missing comes last"
        assert browser.run(f"{heading}.getAttribute('aria-sort')") == way


def test_a_page_of_300_patients_is_small_and_laid_out_where_it_is_seen(pages, browser):
    assert pages["300 patients"].stat().st_size < 3e6
    browser.open(pages["300 patients"])
    laid_out = "document.querySelector('#files a').checkVisibility({contentVisibilityAuto: true})"
    assert not browser.run(laid_out)
    browser.run("document.getElementById('files').scrollIntoView(); 0")
    browser.wait(laid_out)


def test_axe_is_the_one_published():
    listed = dict(reversed(line.split()) for line in (VENDOR / "SHA256SUMS").read_text().splitlines())
    assert set(listed) == {path.name for path in VENDOR.iterdir()} - {"SHA256SUMS"}
    for name, digest in listed.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
