"""Film strips: every lesion at every session, at the same place, and called what it is."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn_patient import DIAMETERS_MM, SESSIONS, lesion_table, session_table
from drawn_visits import SHAPES, SPACE, ends, make_visit, table_with_ends
from matplotlib.colors import to_rgb
from mettrail import colours, schema
from mettrail.images import EDEMA, ENHANCING, write_image, write_labels
from mettrail.report import patient_page, scans, strips
from mettrail.sidecars import write_json
from mettrail.tracking.axial import ENDPOINTS
from mettrail.transforms import write_affine
from scipy import ndimage

# Of sixty lesions: to draw all takes half a minute.
DRAWN = 6


def draw(folder, visits, lesions, sessions=None, failed=None, participant="sub-A"):
    """Draw strips; return what is said, and the frames of each lesion as (side, side, 3) arrays, down first."""
    said = strips.make_strips(lesions, session_table() if sessions is None else sessions)
    broken = []
    shown, _ = scans.find_shown(visits, {"ses-01": visits["ses-01"].scan}) if visits else ({}, None)
    space = SPACE if shown else None
    scans.draw_strips(
        said, lesions, shown, space, folder / "strips", participant=participant, failed=failed or broken.append
    )
    assert not broken, broken
    return said, {strip.track_id: frames_of(folder, strip, participant) for strip in said}


def frames_of(folder, strip, participant="sub-A"):
    path = scans.strip_path(folder / "strips", participant, strip.track_id)
    return [np.asarray(frame) / 255 for frame in scans.read_frames(path, len(strip.frames))]


def coloured(frame, colour, within=0.04):
    return np.abs(frame - np.array(to_rgb(colour))).max(-1) < within


def centre_and_width(frame, colour):
    """Middle of what has a colour (down, across), and how wide it is, pixels."""
    where = np.argwhere(coloured(frame, colour))
    return where.mean(0), np.ptp(where[:, 1])


@pytest.mark.parametrize("stored", ["LPS", "PIR"])
def test_a_lesion_is_outlined_at_the_same_place_at_all_sessions(stored, tmp_path):
    moved = np.array([7.0, -5.0, 4.0])
    visits = {
        "ses-01": make_visit(tmp_path / "1"),
        "ses-02": make_visit(tmp_path / "2", moved=moved, stored=stored, diameter=16),
    }
    # The largest diameter of the table, here that of the session that lies elsewhere, sets place and field of view.
    table = table_with_ends(ses_01=ends(), ses_02=ends(moved) | {"ld_mm": 26.0})
    _, frames = draw(tmp_path, visits, table)
    middle = (scans.FRAME_PIXELS - 1) / 2
    pixels_per_mm = scans.FRAME_PIXELS / (2.2 * 26)
    for frame, diameter in zip(frames["L001"][:2], (10, 16), strict=True):
        centre, width = centre_and_width(frame, colours.track_colour("L001"))
        assert centre == pytest.approx((middle, middle), abs=2)
        assert width == pytest.approx(diameter * pixels_per_mm, abs=6)
        bright = frame[round(middle) - 8, round(middle)]
        assert bright.min() > 0.9, "the bright lesion is inside its outline"


def test_the_patients_left_is_on_the_right_and_the_front_on_top(tmp_path):
    # The frame's middle is the diameter's; the lesion lies 8 mm to the left and 5 mm to the front of that.
    off = {name: value + shift for (name, value), shift in zip(ends().items(), (8, -5, 0) * 2, strict=True)}
    _, frames = draw(tmp_path, {"ses-01": make_visit(tmp_path / "1")}, table_with_ends(ses_01=off))
    (down, across), _ = centre_and_width(frames["L001"][0], colours.track_colour("L001"))
    pixels_per_mm = scans.FRAME_PIXELS / (2.2 * 24)
    middle = (scans.FRAME_PIXELS - 1) / 2
    assert (down - middle, across - middle) == pytest.approx((-5 * pixels_per_mm, 8 * pixels_per_mm), abs=2)


def test_edema_necrosis_and_what_was_propagated_have_lines_of_their_own(tmp_path):
    visit = make_visit(tmp_path / "1", diameter=16, core=8, edema=34, cavity=44, prior=24)
    bare = make_visit(tmp_path / "2", diameter=16)
    _, frames = draw(tmp_path, {"ses-01": visit, "ses-02": bare}, table_with_ends(ses_01=ends(), ses_02=ends()))
    full, plain = frames["L001"][:2]
    pixels_per_mm = scans.FRAME_PIXELS / (2.2 * 24)
    for colour, diameter in ((colours.EDEMA_COLOUR, 34), (colours.PRIOR_COLOUR, 24), (colours.CAVITY_COLOUR, 44)):
        _, width = centre_and_width(full, colour)
        assert width == pytest.approx(diameter * pixels_per_mm, abs=6)
        assert not coloured(plain, colour).any()
    middle = scans.FRAME_PIXELS // 2
    core = (slice(middle - 18, middle + 18),) * 2
    dark = [(frame[core].max(-1) < 0.8).sum() for frame in (full, plain)]
    assert dark[0] > dark[1] + 60, "dots with black under them, within the bright lesion"


def test_a_diameter_that_was_measured_on_another_slice_is_dashed(tmp_path):
    pictures = []
    for name, up in (("same", 0.0), ("other", 4.0)):
        visits = {"ses-01": make_visit(tmp_path / name / "1"), "ses-02": make_visit(tmp_path / name / "2")}
        table = table_with_ends(ses_01=ends(), ses_02=ends(diameter=20, up=up))
        pictures.append(draw(tmp_path / name, visits, table)[1]["L001"][1])
    middle = scans.FRAME_PIXELS // 2
    beside = slice(middle + 19, middle + 27)  # right of the lesion, left of the line's end
    line = [(picture[middle - 2 : middle + 3, beside].max((0, 2)) > 0.6) for picture in pictures]
    assert line[0].all()
    assert not line[1].all()


def test_a_lesion_that_does_not_reach_the_plane_says_so(tmp_path):
    moved = np.array([0.0, 0.0, 12.0])  # by the scan, not by the registration
    low = make_visit(tmp_path / "2", moved=moved)
    write_affine(low.affine, np.eye(4))
    table = table_with_ends(ses_01=ends(), ses_02=ends(moved, 8))
    _, frames = draw(tmp_path, {"ses-01": make_visit(tmp_path / "1"), "ses-02": low}, table)
    here, elsewhere = (frame[-16:, 30:-30].max(-1) > 0.7 for frame in frames["L001"][:2])
    assert not coloured(frames["L001"][1], colours.track_colour("L001")).any()
    assert here.sum() == 0
    assert elsewhere.sum() > 50, "words at the bottom of the frame"


def words_at(strip, session):
    (frame,) = (frame for frame in strip.frames if frame.session == session)
    return frame.words


def test_what_was_not_measured_is_called_what_it_is_and_has_no_size():
    said = {strip.track_id: strip for strip in strips.make_strips(lesion_table(), session_table())}
    assert set(said) == set(DIAMETERS_MM)
    assert words_at(said["L001"], "ses-03") == "not evaluable; registration failed"
    assert words_at(said["L002"], "ses-05") == "no longer detected"
    assert words_at(said["L003"], "ses-05") == "one with L001"
    assert words_at(said["L004"], "ses-02") == "not detected, most likely missed"
    assert words_at(said["L005"], "ses-01") == "not yet detected"
    assert words_at(said["L005"], "ses-03") == "not evaluable; registration failed", "nobody could have seen it"
    measured = [frame for strip in said.values() for frame in strip.frames if frame.state is strips.State.PRESENT]
    others = [frame for strip in said.values() for frame in strip.frames if frame.state is not strips.State.PRESENT]
    assert len(measured) == sum(isinstance(size, float) for _, sizes in DIAMETERS_MM.values() for size in sizes)
    assert all("mm" in frame.headline for frame in measured)
    assert not [frame.words for frame in others if re.search(r"\d (mm|mL|%)", frame.words)]


def test_a_lesion_that_cannot_be_evaluated_at_a_sound_session_says_so():
    lesions = lesion_table()
    at = (lesions["track_id"] == "L002") & (lesions["session_id"] == "ses-02")
    lesions.loc[at, ["status", "ld_mm", "vol_wl_ml"]] = ["not_evaluable", None, None]
    (strip,) = (s for s in strips.make_strips(lesions, session_table()) if s.track_id == "L002")
    assert words_at(strip, "ses-02") == "not evaluable"


def test_a_change_says_since_when():
    lesions = lesion_table()
    target = lesions["track_id"] == "L001"
    lesions.loc[target, "vol_change_baseline_pct"] = [0.0, -56.4, np.nan, -75.0, -80.0, -29.0]
    said = {strip.track_id: strip for strip in strips.make_strips(lesions, session_table())}
    changes = [frame.change for frame in said["L001"].frames]
    assert changes[:3] == ["baseline", "volume −56 % from baseline", ""]
    assert [frame.change for frame in said["L005"].frames][-2:] == ["first detected", "volume +1092 % from ses-05"]
    assert "★ new, equivocal; candidate" in words_at(said["L005"], "ses-05")


def test_new_growing_and_flagged_lesions_come_first_and_none_is_missing():
    one = {"participant_id": "sub-A", "status": "present", "event": "persist", "role": "nontarget", "flags": None}
    rows = []
    for number in range(1, 9):
        sizes = {3: (5.0, 6.0, 4.0), 8: (5.0, 5.0, 5.0)}.get(number, (30.0 - number,) * 3)
        for session, size in zip(SESSIONS, sizes):
            rows.append(one | {"session_id": session, "track_id": f"L{number:03d}", "ld_mm": size})
    table = pd.DataFrame(rows)
    table.loc[(table["track_id"] == "L008") & (table["session_id"] == "ses-02"), "event"] = "new"
    table.loc[(table["track_id"] == "L005") & (table["session_id"] == "ses-01"), "flags"] = "thick_slice;weak_match"
    table.loc[table["track_id"] == "L006", "role"] = "target"
    lesions = schema.make_table(table.reindex(columns=schema.columns("lesions")).astype(object), "lesions")
    said = strips.make_strips(lesions, session_table().iloc[:3])
    order = [int(strip.track_id[1:]) for strip in said]
    assert order == [8, 3, 5, 6, 1, 2, 4, 7], "new, grown at some session, flagged, target, then by size"
    assert said[1].facts[-1] == "grew by a fifth or more"


def page_of(lesions, sessions, folder, participant="sub-A"):
    return patient_page.make_page(
        participant, lesions, sessions, {}, pd.DataFrame(), {"strips": folder},
        links={}, problems=[], captions={}, settings_hash="0", version="0",
    )  # fmt: skip


def films_on(page):
    return page[page.index('id="films"') : page.index('id="sessions"')]


def test_the_page_has_every_lesion_at_every_session_with_words_for_all(tmp_path):
    lesions, sessions = lesion_table(), session_table()
    draw(tmp_path, {"ses-01": make_visit(tmp_path / "1")}, lesions)
    page = page_of(lesions, sessions, tmp_path / "strips")
    section = films_on(page)
    pictures = re.findall(r'<img src="data:image/webp;base64,[^"]+" alt="([^"]+)"[^>]+loading="lazy">', section)
    assert len(pictures) == section.count("<img") == len(DIAMETERS_MM) * len(SESSIONS)
    assert "L002 at ses-05, day 210: no longer detected." in pictures
    assert section.count('<a href="#ses-04">') == len(DIAMETERS_MM)
    assert "img-src data:;" in page


@pytest.mark.parametrize("case", ["no lesion", "one session", "every session failed", "no pictures", "no session"])
def test_odd_patients_have_strips_that_say_why(case, tmp_path):
    lesions, sessions, visits = table_with_ends(ses_01=ends()), session_table(), {}
    if case == "no lesion":
        lesions, visits = lesions.iloc[:0], {"ses-01": make_visit(tmp_path / "1")}
    elif case == "one session":
        lesions, sessions, visits = lesions.iloc[:1], sessions.iloc[:1], {"ses-01": make_visit(tmp_path / "1")}
    elif case == "every session failed":
        sessions = sessions.assign(evaluable=False, ne_reason="failed_strip")
    elif case == "no session":
        lesions, sessions = lesions.iloc[:0], sessions.iloc[:0]
    said, frames = draw(tmp_path, visits, lesions, sessions)
    page = page_of(lesions, sessions, None if case == "no pictures" else tmp_path / "strips")
    assert ('id="films"' in page) == bool(said) == (case not in ("no lesion", "no session"))
    if case == "one session":
        assert coloured(frames["L001"][0], colours.track_colour("L001")).any()
        assert "baseline" in films_on(page)
    elif case == "every session failed":
        assert films_on(page).count("failed strip") == 2 * len(SESSIONS), (
            "below each frame, and as its alternative text"
        )
        assert all(0.005 < (frame > 0.5).mean() < 0.2 for frame in frames["L001"]), "a few words on nothing"
    elif case == "no pictures":
        assert films_on(page).count("no picture") == len(SESSIONS)


def test_a_visit_that_cannot_be_read_leaves_an_empty_frame_and_is_told_of(tmp_path):
    visits = {"ses-01": make_visit(tmp_path / "1"), "ses-02": make_visit(tmp_path / "2")}
    Path(visits["ses-02"].lesions).write_bytes(b"nothing")
    told = []
    _, frames = draw(tmp_path, visits, table_with_ends(ses_01=ends(), ses_02=ends()), failed=told.append)
    assert len(told) == 1
    drawn = [coloured(frame, colours.track_colour("L001")).any() for frame in frames["L001"]]
    assert drawn == [True, False, False, False, False, False]


def test_only_visits_in_the_patients_space_are_shown(tmp_path):
    visits = {f"ses-0{n}": make_visit(tmp_path / str(n)) for n in (1, 2, 3, 4)}
    write_json({"status": "ok", "reference_session": "ses-02"}, visits["ses-02"].quality)
    write_json({"status": "fail", "reference_session": "ses-02"}, visits["ses-03"].quality)
    write_json({"status": "warn", "reference_session": "ses-02"}, visits["ses-04"].quality)
    shown, space = scans.find_shown(visits, {name: visit.scan for name, visit in visits.items()})
    assert list(shown) == ["ses-02", "ses-04"]
    assert space is not None and space.shape == SHAPES["LPS"]
    assert scans.find_shown({}, {}) == ({}, None)


def test_a_merged_lesion_is_shown_in_the_one_that_carries_it(tmp_path):
    lesions = lesion_table().query("track_id == 'L003'").reset_index(drop=True)
    lesions.loc[0, list(ends())] = list(ends().values())
    visits = {"ses-01": make_visit(tmp_path / "1", label=3), "ses-05": make_visit(tmp_path / "5", label=1)}
    _, frames = draw(tmp_path, visits, lesions)
    assert coloured(frames["L003"][4], colours.track_colour("L003")).any()


def test_words_of_the_data_never_become_html(tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    lesions = table_with_ends(ses_01=ends()).assign(region=evil)
    page = page_of(lesions, session_table().assign(ne_reason=evil), None, participant=evil)
    assert evil not in page
    assert films_on(page).count("&lt;img src=x onerror=alert(1)&gt;") > 1
    assert evil not in page_of(lesions.assign(track_id=evil), session_table(), None)


def crowded_visit(folder, labels):
    """A session of noise, which no picture compresses well, with edema and a prior around each lesion."""
    folder.mkdir()
    rng, affine = np.random.default_rng(1), np.diag([1.0, 1, 4, 1])
    scan = rng.normal(100, 20, labels.shape) + 60 * (labels > 0)
    write_image(folder / "scan.nii.gz", np.maximum(scan, 1).astype(np.float32), affine)
    around = ndimage.binary_dilation(labels > 0, np.ones((5, 5, 1)))
    tissue = np.where(labels > 0, ENHANCING, np.where(around, EDEMA, 0))
    masks = {"lesions": labels, "tissue": tissue, "brain": np.ones(labels.shape), "prior": labels > 0}
    for kind, data in masks.items():
        write_labels(folder / f"{kind}.nii.gz", data.astype(np.uint8), affine)
    write_affine(folder / "affine.txt", np.eye(4))
    write_json({"status": "ok", "reference_session": "ses-01"}, folder / "quality.json")
    files = ("scan.nii.gz", "lesions.nii.gz", "tissue.nii.gz", "brain.nii.gz", "affine.txt", "quality.json")
    return scans.Visit(*(folder / file for file in files), folder / "prior.nii.gz")


def test_sixty_lesions_at_twelve_sessions_make_a_page_below_15_mb(tmp_path):
    names = [f"ses-{n:02d}" for n in range(1, 13)]
    sessions = pd.concat([session_table().iloc[[3]]] * len(names), ignore_index=True)
    sessions = sessions.assign(session_id=names, days_from_t0=[60 * n for n in range(12)])
    places = [(20 + 20 * n, 60, 6) for n in range(DRAWN)]
    labels = np.zeros((20 + 20 * DRAWN, 120, 12), np.uint8)
    labels[tuple(np.transpose(places))] = np.arange(1, DRAWN + 1)
    labels = ndimage.grey_dilation(labels, footprint=np.ones((7, 7, 3)))
    visits = {name: crowded_visit(tmp_path / name, labels) for name in names}
    one, rows = lesion_table().iloc[[1]], []
    for number, (x, y, z) in enumerate(places, 1):
        ends_there = dict(zip(ENDPOINTS, (x - 3.0, y, 4 * z, x + 3.0, y, 4 * z), strict=True))
        rows += [one.assign(session_id=name, track_id=f"L{number:03d}", ld_mm=6.0, **ends_there) for name in names]
    lesions = pd.concat(rows, ignore_index=True)
    said, frames = draw(tmp_path, visits, lesions, sessions)
    assert len(said) == DRAWN
    assert all(coloured(frame, colours.track_colour(track)).any() for track in frames for frame in frames[track])
    # As many more, with pictures of the same size.
    for number in range(DRAWN + 1, 61):
        like = f"L{1 + (number - 1) % DRAWN:03d}"
        copy = lesions[lesions["track_id"] == like].assign(track_id=f"L{number:03d}")
        lesions = pd.concat([lesions, copy], ignore_index=True)
        paths = [scans.strip_path(tmp_path / "strips", "sub-A", track) for track in (like, f"L{number:03d}")]
        shutil.copy(*paths)
    page = page_of(lesions, sessions, tmp_path / "strips")
    assert page.count("data:image/webp") == page.count('loading="lazy"') == 60 * 12
    assert len(page) < 15e6
    assert "51 more lesions" in films_on(page)
