"""Time what pages cost: to make strips and viewer of a patient with three visits, and to load long pages.

    PYTHONPATH=tests:scripts python tests/benchmarks/pages.py

Processor time of one process for what is made (heads of 1 mm, 192 x 224 x 192 voxels, four lesions); elapsed time until
a page has loaded in a headless Chromium with software rendering, the second of two times.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from browser import CHROMIUM, Browser
from drawn_pages import crowd, many_patients
from drawn_patient import lesion_table, session_table
from mettrail.images import ENHANCING, Grid, write_image, write_labels
from mettrail.report import scans, strips, viewer_page
from mettrail.sidecars import write_json
from mettrail.tracking.axial import ENDPOINTS
from mettrail.transforms import write_affine
from scipy import ndimage

SHAPE = (192, 224, 192)
PLACES = ((60, 120, 100), (130, 90, 110), (80, 150, 80), (110, 70, 70))
READY = "document.documentElement.dataset.viewer === 'ready'"
LOADED = "document.readyState === 'complete'"


def head(folder: Path, seed: int) -> scans.Visit:
    """A head with tissue of two kinds, noise as a scanner has it, and four lesions of 12 mm."""
    folder.mkdir()
    axes = np.meshgrid(*[np.arange(n) - n / 2 for n in SHAPE], indexing="ij", sparse=True)
    radius = np.sqrt(sum((a / r) ** 2 for a, r in zip(axes, (70, 85, 65), strict=True)))
    rng = np.random.default_rng(seed)
    tissue = ndimage.gaussian_filter(np.random.default_rng(1).standard_normal(SHAPE), 3) > 0
    scan = np.where(radius < 1.15, 300 + 100 * tissue + 15 * rng.standard_normal(SHAPE), 5)
    labels = np.zeros(SHAPE, np.uint8)
    for number, (x, y, z) in enumerate(PLACES, 1):
        near = np.sqrt(sum((a + n / 2 - c) ** 2 for a, n, c in zip(axes, SHAPE, (x, y, z), strict=True))) <= 6
        labels[near] = number
    scan[labels > 0] = 800
    write_image(folder / "scan.nii.gz", scan.astype(np.float32), np.eye(4))
    kinds = {"lesions": labels, "tissue": ENHANCING * (labels > 0), "brain": radius < 1, "prior": labels > 0}
    for name, data in kinds.items():
        write_labels(folder / f"{name}.nii.gz", data.astype(np.uint8), np.eye(4))
    write_affine(folder / "affine.txt", np.eye(4))
    write_json({"status": "ok", "reference_session": "ses-01"}, folder / "quality.json")
    files = ("scan.nii.gz", "lesions.nii.gz", "tissue.nii.gz", "brain.nii.gz", "affine.txt", "quality.json")
    return scans.Visit(*(folder / name for name in files), folder / "prior.nii.gz")


def lesions_of(sessions: list[str]) -> pd.DataFrame:
    """The rows of the four lesions."""
    one, rows = lesion_table().iloc[[1]], []
    for number, (x, y, z) in enumerate(PLACES, 1):
        ends = dict(zip(ENDPOINTS, (x - 6.0, y, z, x + 6.0, y, z), strict=True))
        rows += [one.assign(session_id=name, track_id=f"L{number:03d}", ld_mm=12.0, **ends) for name in sessions]
    return pd.concat(rows, ignore_index=True)


def make(folder: Path) -> Path:
    """Draw strips and write the viewer of three visits, and print what each took."""
    names = ["ses-01", "ses-02", "ses-04"]
    visits = {name: head(folder / name, seed) for seed, name in enumerate(names)}
    sessions = session_table().query("session_id in @names")
    lesions, space = lesions_of(names), Grid(SHAPE, np.eye(4))
    told: list[Exception] = []
    start = time.process_time()
    said = strips.make_strips(lesions, sessions)
    scans.draw_strips(said, lesions, visits, space, folder / "strips", participant="sub-A", failed=told.append)
    drawn = time.process_time()
    grid, volumes = scans.sample_visits(visits, space, failed=told.append)
    places = scans.find_places(lesions, visits)
    page = viewer_page.make_viewer("sub-A", said, places, grid, volumes, page="sub-A.html", version="0")
    done = time.process_time()
    assert not told, told
    path = folder / "sub-A_viewer.html"
    path.write_text(page)
    print(f"strips {drawn - start:.1f} s, viewer {done - drawn:.1f} s, {path.stat().st_size / 1e6:.1f} MB")
    return path


def main() -> None:
    """Print all figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pages = {"viewer of three visits": (make(folder), READY)}
        for title, text in (
            ("60 lesions at 12 visits", crowd(folder / "crowd")),
            ("300 patients", many_patients(folder)),
        ):
            path = folder / f"{title}.html"
            path.write_text(text)
            pages[title] = path, LOADED
        if CHROMIUM is None:
            raise SystemExit("Chromium is not installed: no page was loaded")
        with Browser() as browser:
            for title, (path, ready) in pages.items():
                seconds = [browser.open(path, until=ready) for _ in range(2)][-1]
                print(f"{title}: {path.stat().st_size / 1e6:.1f} MB, loaded in {seconds:.1f} s")


if __name__ == "__main__":
    main()
