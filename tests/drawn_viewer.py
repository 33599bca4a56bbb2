"""The viewer of the drawn patient: two visits with one lesion, the second stored otherwise and lying elsewhere."""

import numpy as np
from drawn_patient import session_table
from drawn_visits import ends, make_visit, table_with_ends
from mettrail.images import Grid
from mettrail.report import scans, strips, viewer_page

# RAS, 1 mm, around the head; no two sides alike.
SPACE = Grid((100, 96, 90), np.array([[1.0, 0, 0, -50], [0, 1, 0, -48], [0, 0, 1, -44], [0, 0, 0, 1]]))


def two_visits(folder):
    """Of 10 and 16 mm, L001 at both; the second shows the first propagated."""
    moved = (7.0, -5.0, 4.0)
    return {
        "ses-01": make_visit(folder / "1", edema=24, cavity=32, core=4),
        "ses-02": make_visit(folder / "2", moved=moved, stored="PIR", diameter=16, prior=10),
    }


def sample(visits):
    """Their volumes, all of which can be read."""
    broken = []
    grid, volumes = scans.sample_visits(visits, SPACE, failed=broken.append)
    assert not broken, broken
    return grid, volumes


def make(visits, participant="sub-A", lesions=None, sessions=None):
    """The whole page."""
    lesions = table_with_ends(ses_01=ends()) if lesions is None else lesions
    grid, volumes = sample(visits) if visits else (None, {})
    said = strips.make_strips(lesions, session_table() if sessions is None else sessions)
    places = scans.find_places(lesions, visits)
    return viewer_page.make_viewer(
        participant, said, places, grid, volumes, page=f"{participant}.html", version="0.1.0"
    )
