"""The viewer's page: every visit at one place in it, nothing reached for outside, and what is missing is said."""

import base64
import gzip
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from drawn_patient import lesion_table
from drawn_viewer import SPACE, make, sample, two_visits
from drawn_visits import PLACE, ends, make_visit, table_with_ends
from mettrail import colours
from mettrail.images import read_image, write_image
from mettrail.report import scans, viewer_page

ROOT = Path(__file__).parents[1]
VENDOR = ROOT / "scripts" / "mettrail" / "report" / "vendor"
HOSTILE = "<img src=x onerror=alert(1)>"


def middle_of(grid, mask):
    return grid.affine[:3, :3] @ np.argwhere(mask).mean(0) + grid.affine[:3, 3]


@pytest.fixture(scope="module")
def visits(tmp_path_factory):
    return two_visits(tmp_path_factory.mktemp("visits"))


def test_the_lesion_of_every_visit_lies_at_one_place(visits):
    grid, volumes = sample(visits)
    for name, label, diameter in (("ses-01", 1, 10), ("ses-02", 1, 16)):
        lesion = volumes[name].lesions == label
        assert middle_of(grid, lesion) == pytest.approx(PLACE, abs=0.6)
        assert lesion.sum() == pytest.approx(np.pi / 6 * diameter**3, rel=0.12)
        assert volumes[name].scan[lesion].mean() > 160, "the bright lesion is where its label is"
        assert volumes[name].scan.shape == grid.shape


def test_necrosis_edema_and_the_prior_are_marked_each_by_itself(visits):
    grid, volumes = sample(visits)
    first, second = volumes["ses-01"].marks, volumes["ses-02"].marks
    for marks, bit, diameters in (
        (first, scans.Mark.NECROSIS, (0, 4)), (first, scans.Mark.EDEMA, (10, 24)), (second, scans.Mark.PRIOR, (0, 10)),
        (first, scans.Mark.CAVITY, (26, 32)),
    ):  # fmt: skip
        found = (marks & bit) > 0
        inner, outer = diameters
        assert found.sum() == pytest.approx(np.pi / 6 * (outer**3 - inner**3), rel=0.3)
        assert middle_of(grid, found) == pytest.approx(PLACE, abs=0.8)
    assert not (first & scans.Mark.PRIOR).any(), "there is none"


def test_grey_values_are_those_of_film_strips_and_end_near_the_brain(tmp_path):
    visit = make_visit(tmp_path / "1")
    scan = read_image(visit.scan)
    # A head around the brain, which would be seen.
    write_image(visit.scan, scan.data + 60 + 60 * (scan.data == 0), scan.affine)
    grid, volumes = sample({"ses-01": visit})
    at = [np.rint(np.linalg.inv(grid.affine)[:3] @ [0, 0, z, 1]).astype(int) for z in (25, -10)]
    bright, dark = (volumes["ses-01"].scan[tuple(place)] for place in at)
    assert 0.85 * scans.WHITE < bright < 1.1 * scans.WHITE, "tissue that sets white"
    assert dark < bright / 2
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), -1)
    world = index @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    far = np.linalg.norm(world / (40 + 10, 38 + 10, 33 + 10), axis=-1) > 1
    assert far.any()
    assert not volumes["ses-01"].scan[far].any()


def test_lesions_are_found_where_their_diameters_are_longest(visits):
    table = table_with_ends(ses_01=ends(), ses_02=ends((7, -5, 4), up=2.0) | {"ld_mm": 30.0})
    places = scans.find_places(table, visits)
    assert places == {"L001": pytest.approx(PLACE + np.array([0, 0, 2]))}
    assert scans.find_places(lesion_table().query("track_id == 'L002'"), visits) == {}, "its ends are not known"


def test_a_visit_that_cannot_be_read_is_told_and_the_others_are_shown(tmp_path):
    visits = {name: make_visit(tmp_path / name) for name in ("ses-01", "ses-02", "ses-03")}
    visits["ses-01"].brain.write_bytes(b"no scan")
    visits["ses-02"].scan.write_bytes(b"no scan")
    told = []
    grid, volumes = scans.sample_visits(visits, SPACE, failed=told.append)
    assert list(volumes) == ["ses-03"]
    assert len(told) == 2
    assert volumes["ses-03"].scan.shape == grid.shape


def test_the_page_holds_the_volumes_as_they_are(visits):
    grid, volumes = sample(visits)
    page = make(visits)
    course = json.loads(re.search(r'id="course">(.*?)</script>', page)[1])
    assert tuple(course["shape"]) == grid.shape
    assert np.reshape(course["affine"], (4, 4)) == pytest.approx(grid.affine)
    for number, shown in enumerate(volumes.values()):
        for name, dtype in (("scan", np.uint8), ("lesions", "<u2"), ("marks", np.uint8)):
            text = re.search(rf'id="{name}-{number}">(.*?)</script>', page)[1]
            held = np.frombuffer(gzip.decompress(base64.b64decode(text)), dtype).reshape(grid.shape, order="F")
            np.testing.assert_array_equal(held, getattr(shown, name))
    assert make(visits) == page, "the same patient gives the same file"


def test_lesions_have_the_colours_and_words_of_the_page(visits):
    course = json.loads(re.search(r'id="course">(.*?)</script>', make(visits))[1])
    lesion = course["lesions"]["L001"]
    assert course["colours"][lesion["colour"]] == colours.track_colour("L001")
    assert lesion["label"] == 1
    assert "24.0 mm" in lesion["words"]["ses-01"]


def test_nothing_in_the_page_ends_its_scripts_or_reaches_outside(visits):
    page = make(visits, HOSTILE)
    assert HOSTILE not in page
    assert "&lt;img src=x" in page
    assert page.count("</script>") == page.count("<script>") + page.count("<script type=") - 1, "NiiVue names one"
    assert not re.search(r'(src|href)="(https?:|//)', page)
    (policy,) = re.findall('http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    allowed = {"img-src data:", "style-src 'unsafe-inline'", "script-src 'unsafe-inline'"}
    none = {f"{name} 'none'" for name in ("default-src", "form-action", "base-uri")}
    assert set(policy.split("; ")) == allowed | none


def test_a_patient_without_visits_is_told_so_and_gets_no_code():
    page = make({}, lesions=lesion_table())
    assert "No visit of this patient can be shown" in page
    assert len(page) < 100_000


def test_niivue_is_the_one_published_and_brings_its_licences(visits):
    listed = dict(reversed(line.split()) for line in (VENDOR / "SHA256SUMS").read_text().splitlines())
    assert set(listed) == {path.name for path in VENDOR.iterdir()} - {"SHA256SUMS"}
    for name, digest in listed.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
    page = make(visits)
    assert viewer_page.NIIVUE in listed
    for words in ("Copyright (c) 2021, Niivue", "In it: fflate", "In it: nifti-reader-js"):
        assert words in page
