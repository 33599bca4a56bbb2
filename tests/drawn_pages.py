"""Pages of the drawn patient and of a cohort of one, as the tests of pages make them."""

from pathlib import Path

import numpy as np
import pandas as pd
from drawn_patient import lesion_table, session_table
from mettrail.report import captions, charts, cohort_page, method, patient_page, references, scans
from PIL import Image as Pixels

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
    "reason": "failed_segment",
    "detail": "the job was stopped from outside",
    "log": "/data/out/logs/register/sub-A_ses-03.log",
}
COMMON = {
    "captions": {"measure": captions.parse_caption("Shows.\n\n**Signs of failure:** leaves ``it``.")},
    "settings_hash": "3f9a",
    "version": "0.1.0",
}
WORKS = references.read_references(ROOT / "resources" / "references.bib")
METHOD = method.Method(
    ("Response followed RANO-BM [@Lin2015]; nnU-Net was not run.",),
    (),
    (method.Tool("greedy", "1.4", ""),),
    (WORKS["Lin2015"], WORKS["Aalen1978"]),
)


CURVE = pd.DataFrame(
    {
        "day": [0, 90, 200, 400],
        "local_failure": [0, 0.1, 0.1, 0.25],
        "low": [0, 0.02, 0.02, 0.1],
        "high": [0, 0.3, 0.3, 0.5],
        "n_at_risk": [31, 31, 27, 17],
    }
)
TREATED = {
    "participant_id": "sub-A", "treatment_id": "t1", "track_id": "L001", "treatment_type": "srs", "treatment_day": 5,
    "dose_gy": 20.0, "fractions": 1, "pretreatment_ld_mm": 24.0, "nadir_ld_mm": 14.0, "best_response": "PR",
    "local_failure": True, "local_failure_day": 273, "failure_by": "diameter;volume", "treatment_effect_possible": True,
    "failure_confirmed": None, "time_to_local_failure_days": 268,
}  # fmt: skip


def patient(
    lesions=None, sessions=None, row=PATIENT, pictures=None, problems=(), name="sub-A", links=None, treated=(), **more
):
    return patient_page.make_page(
        name,
        lesion_table() if lesions is None else lesions,
        session_table() if sessions is None else sessions,
        row,
        pd.DataFrame(treated),
        pictures or {},
        links=links or {"cohort": "index.html"},
        problems=problems,
        **COMMON | more,
    )


def cohort(patients=None, sessions=None, lesions=None, problems=(), pages=None, pictures=None, links=None, **more):
    return cohort_page.make_page(
        pd.DataFrame([PATIENT]) if patients is None else patients,
        session_table() if sessions is None else sessions,
        lesion_table() if lesions is None else lesions,
        problems,
        figures=pictures or {},
        links=links or {"tables/lesions.csv": "tables/lesions.csv"},
        pages={"sub-A": "sub-A.html"} if pages is None else pages,
        **{"settings": "rano:\n  pr: 0.3\n", "method": METHOD} | COMMON | more,
    )


def draw_charts(folder, patients=None, sessions=None, lesions=None):
    """Draw all charts of a cohort, the drawn patient where nothing else is given; return them as pages get them."""
    patients = pd.DataFrame([PATIENT]) if patients is None else patients
    sessions = session_table() if sessions is None else sessions
    lesions = lesion_table() if lesions is None else lesions
    made = {name: folder / f"{name}.svg" for name in ("cohort", "spread", "incidence")}
    limits = {"pr_fraction": 0.3, "pd_fraction": 0.2}
    charts.draw_cohort(patients, sessions, made["cohort"], **limits)
    charts.draw_spread(patients, sessions, lesions, made["spread"], **limits)
    charts.draw_incidence(CURVE, made["incidence"])
    return made


def crowd(folder, lesions=60, visits=12):
    """A patient's page with that many lesions and visits; its film strips, of noise, lie in folder."""
    names = [f"ses-{n:02d}" for n in range(1, visits + 1)]
    sessions = pd.concat([session_table().iloc[[3]]] * visits, ignore_index=True)
    sessions = sessions.assign(session_id=names, days_from_t0=[60 * n for n in range(visits)])
    one = lesion_table().iloc[[1]]
    tracks = [f"L{n:03d}" for n in range(1, lesions + 1)]
    rows = [one.assign(session_id=name, track_id=track) for track in tracks for name in names]
    # As `scans.draw_strips` lays a picture out.
    noise = np.random.default_rng(1).normal(110, 20, (34 + 176 + 96 + 26, 6 + 182 * visits)).clip(0, 255)
    for track in tracks:
        path = scans.strip_path(folder, "sub-A", track)
        path.parent.mkdir(exist_ok=True)
        Pixels.fromarray(noise.astype(np.uint8)).save(path, compress_level=1)
    return patient(pd.concat(rows, ignore_index=True), sessions, pictures={"strips": folder})


def many_patients(folder, count=300):
    """A cohort's page with that many patients of six sessions and five lesions, its overview drawn."""
    names = [f"sub-{n:03d}" for n in range(1, count + 1)]
    patients = pd.concat([pd.DataFrame([PATIENT | {"participant_id": name}]) for name in names], ignore_index=True)
    sessions = pd.concat([session_table(name) for name in names], ignore_index=True)
    lesions = pd.concat([lesion_table(name) for name in names], ignore_index=True)
    pages = {name: f"{name}.html" for name in names}
    return cohort(patients, sessions, lesions, pages=pages, pictures=draw_charts(folder, patients, sessions, lesions))
