"""What a synthetic cohort holds, and how it is written: a BIDS data set with its truth as derivatives.

A cohort is a plain dictionary (see `config/phantom_demo.yaml`). Everything it does not say has the value in
`SESSION`, `LESION` or `PATIENT` below; names not listed there are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from mettrail import images
from mettrail.cohort import CLINICAL
from mettrail.errors import InputError
from mettrail.images import Image
from mettrail.phantom import anatomy, cavities, fields, lesions, scan
from mettrail.phantom.fields import make_affine, stream
from mettrail.reasons import Reason

# What a description may say: a name, and what it means when it is not given.
Spec = dict[str, Any]

COHORT: Spec = {
    "name": "Synthetic brain metastases",
    "defaults": {},
    "patients": [],
    "random": {},  # {patients: 30, sessions: 2}: so many are drawn, see `random_cohort_spec`
}
PATIENT: Spec = {
    "id": None,
    "anatomy": {},
    "sessions": [],
    "lesions": [],
    "expected": {},
    "participant": {},  # columns of participants.tsv, see PARTICIPANT
    "treatments": [],  # see TREATMENT
    "gap_mm": 8.0,  # least distance between the edges of lesions placed at random
    "mass_effect": 0.25,  # 0 none, 0.45 the most that can be without folding
}
ANATOMY: Spec = {"seed": 0, "warp_mm": 4.0, "gyri": 1.0, "vessels": 1.0}
SESSION: Spec = {
    "label": None,
    "acq_time": None,
    "sequences": list(scan.SEQUENCES),  # or a mapping from sequence to what differs for it
    "spacing_mm": [1.0, 1.0, 1.0],  # along right, anterior, superior
    "orientation": "RAS",
    "oblique_deg": [0.0, 0.0, 0.0],
    "clinical": {},  # columns of sub-*_sessions.tsv, see mettrail.cohort.CLINICAL
    "extent": "head",  # head, brain (a smaller field of view), extracted (no skull), or piece (see PIECE_MARGIN_MM)
    "crop": None,  # {around: lesion or [x, y, z] in MNI mm, size_mm: 40}: a small field of view instead
    "motion_mm": 4.0,  # typical difference in position between visits
    "motion_deg": 2.5,
    "shake_mm": 0.4,  # the same between the scans of one visit
    "atrophy_mm": 0.3,
    "noise": 0.025,  # standard deviation relative to white matter
    "bias": 0.15,
    "blur_mm": 0.0,
    "contrast_spread": 0.04,
    "grain": 0.02,
    "brightness": {},  # tissue to brightness, in place of the table's
    "scale": None,  # grey values of white matter; drawn when not given
}
LESION: Spec = {
    "id": None,
    # Or [x, y, z] in MNI mm, {beside: id, distance_mm: d}, or, a recurrence, {margin_of: id} of a resected lesion.
    "where": "random",
    "diameters_mm": [],  # longest axial diameter at each session, 0 where absent; or
    "volumes_mm3": [],
    "kind": "nodule",  # nodule, ring, cystic
    "necrosis": None,  # share of the volume, one number or one per session; by kind when not given
    "edema_mm": 0.0,  # reach in white matter, one number or one per session
    "irregularity": 0.09,
    "rim_gap": 0.0,
    "enhancement": 1.0,
    "merges_into": None,  # {lesion: id, sessions: [labels]}
    "splits": None,  # {sessions: [labels], gap_mm: 4}: from one body two, each of the given diameter
    "resection": None,  # see RESECTION; its sizes are 0 from then on
}
# A scan on the day of the operation was made before it. From the next on there is a cavity in the lesion's place, and
# what edema_mm says lies around that.
RESECTION: Spec = {
    "date": None,
    "diameter_mm": None,  # of what was resected; when not given, at the last session before
    "margin_mm": 2.0,  # of brain resected with it
    "open": None,  # whether a way to the surface stays open; drawn when not given
}
CROP: Spec = {"around": None, "size_mm": 40.0}
TREATMENT: Spec = {
    "treatment_id": None,
    "type": None,
    "date": None,
    "session": None,  # label of the planning scan, in whose space the lesions are named by points
    "lesions": "all",  # or a list of lesions
    "fails": {},  # what must come out: lesion to the label of the session at which it has failed
    "dose_gy": None,
    "fractions": None,
    "isodose_pct": None,
}
# What participants.tsv may say of a patient's treatment and fate: the columns that the pipeline reads.
PARTICIPANT = (
    "treatment_start_date", "treatment_start_day", "treatment_type", "immunotherapy_start_day", "death_date",
    "last_contact_date", "leptomeningeal_date",
)  # fmt: skip
# A piece of the brain is the ellipsoid in a crop with this much nothing around it: as small and as fast as a crop, and
# yet a brain extracted by others, whose edge moves with the patient.
PIECE_MARGIN_MM = 3.0
EXTRACTED = ("extracted", "piece")
NECROSIS_OF_KIND = {"nodule": 0.0, "ring": 0.35, "cystic": 0.65}
TRUTH, INSTANCES = "truth", "truth-instances"


@dataclass(frozen=True)
class Session:
    """One simulated visit.

    Parameters
    ----------
    participant, label, acq_time : str
    images : sequence -> Image
        Each on its own raw grid.
    tissue, instances : Image of uint8
        1 enhancing, 2 edema, 3 necrosis, 4 resection cavity; persistent number of the lesion (label 1 or 3). On the
        reference grid: the post-contrast scan's, or the first sequence's where there is none.
    brain : Image of bool
    lesions : DataFrame
        One row per lesion of the patient: the truth table.
    """

    participant: str
    label: str
    acq_time: str
    images: dict[str, Image]
    tissue: Image
    instances: Image
    brain: Image
    lesions: pd.DataFrame


def _complete(given: Spec, allowed: Spec, what: str, base: Spec | None = None) -> Spec:
    strange = sorted(set(given) - set(allowed))
    if strange:
        raise InputError(
            what,
            found=f"unknown settings {strange}",
            expected=f"some of {sorted(allowed)}",
            advice="Correct the name or omit it.",
            reason=Reason.BAD_SPEC,
        )
    return {**allowed, **(base or {}), **given}


def complete_patient(spec: Spec, defaults: Spec) -> Spec:
    """Fill in what a patient's description does not say, and refuse what cannot be.

    Raises
    ------
    InputError
        Unknown settings, trajectories as long as something else than the sessions, or sessions out of order.
    """
    patient = _complete(spec, PATIENT, f"patient {spec.get('id')}")
    name = f"patient {patient['id']}"
    patient["anatomy"] = _complete(patient["anatomy"], ANATOMY, f"{name}, anatomy")
    _complete(defaults, SESSION, "defaults")
    sessions = [_complete(s, SESSION, f"{name}, session", defaults) for s in patient["sessions"]]
    for session in sessions:
        session["label"], session["acq_time"] = str(session["label"]), _iso(session["acq_time"])
        session["spacing_mm"] = np.broadcast_to(session["spacing_mm"], 3).astype(float).tolist()
        if isinstance(session["sequences"], (list, tuple)):
            session["sequences"] = {sequence: {} for sequence in session["sequences"]}
        where = f"{name}, session {session['label']}"
        session["clinical"] = _cells(session["clinical"], CLINICAL, where)
        crop = session["crop"] = session["crop"] and _complete(session["crop"], CROP, f"{where}, crop")
        if (crop and crop["around"] is None) or (session["extent"] == "piece" and not crop):
            raise InputError(
                where,
                found="crop without around" if crop else "extent piece without crop",
                expected="crop: {around: ..., size_mm: ...}",
                advice="Say where the piece is and how large.",
                reason=Reason.BAD_SPEC,
            )
    times = [s["acq_time"] for s in sessions]
    if times != sorted(times) or len({s["label"] for s in sessions}) < len(sessions):
        raise InputError(
            name,
            found=f"sessions at {times}",
            expected="sessions in order of date, each with a label of its own",
            advice="Sort them; labels may be in any order.",
            reason=Reason.BAD_SPEC,
        )
    patient["sessions"] = sessions
    patient["participant"] = _cells(patient["participant"], PARTICIPANT, f"{name}, participant")
    patient["lesions"] = [_complete_lesion(entry, sessions, name) for entry in patient["lesions"]]
    _check_recurrences(patient["lesions"], name)
    patient["treatments"] = [_complete_treatment(entry, patient, name) for entry in patient["treatments"]]
    return patient


def _complete_treatment(spec: Spec, patient: Spec, name: str) -> Spec:
    what = f"{name}, treatment {spec.get('treatment_id')}"
    treatment = _complete(spec, TREATMENT, what)
    treatment |= {"date": _iso(treatment["date"]), "session": str(treatment["session"])}
    numbers, given = {lesion["id"] for lesion in patient["lesions"]}, treatment["lesions"]
    labels = [session["label"] for session in patient["sessions"]]
    if treatment["session"] not in labels or not (given == "all" or set(given) | set(treatment["fails"]) <= numbers):
        raise InputError(
            what,
            found=f"session {treatment['session']}, lesions {given}",
            expected=f"one of {labels}, all or some of {sorted(numbers)}",
            advice="Correct them.",
            reason=Reason.BAD_SPEC,
        )
    return treatment


def _complete_lesion(spec: Spec, sessions: list[Spec], name: str) -> Spec:
    n = len(sessions)
    lesion = _complete(spec, LESION, f"{name}, lesion {spec.get('id')}")
    sizes = lesion["diameters_mm"] or lesion["volumes_mm3"]
    if lesion["necrosis"] is None:
        lesion["necrosis"] = NECROSIS_OF_KIND[lesion["kind"]]
    for key in ("necrosis", "edema_mm"):
        if np.isscalar(lesion[key]):
            lesion[key] = [float(lesion[key])] * n
    if not (len(sizes) == len(lesion["necrosis"]) == len(lesion["edema_mm"]) == n):
        raise InputError(
            f"{name}, lesion {lesion['id']}",
            found=f"{len(sizes)} sizes",
            expected=f"one for each of {n} sessions",
            advice="Give 0 where the lesion is absent.",
            reason=Reason.BAD_SPEC,
        )
    for key in ("merges_into", "splits"):
        if lesion[key]:
            lesion[key] = {**lesion[key], "sessions": [str(s) for s in lesion[key]["sessions"]]}
            lesion[key].setdefault("gap_mm", 4.0)
    if lesion["resection"]:
        lesion["resection"] = _complete_resection(lesion, sessions, f"{name}, lesion {lesion['id']}, resection")
    return lesion


def _complete_resection(lesion: Spec, sessions: list[Spec], what: str) -> Spec:
    """Fill in a resection; adds `days`, since the operation, at every session (0 and less: before)."""
    resection = _complete(lesion["resection"], RESECTION, what)
    if resection["date"] is None:
        raise InputError(
            what,
            found="no date",
            expected="the day of the operation",
            advice="Give date: YYYY-MM-DD.",
            reason=Reason.BAD_SPEC,
        )
    operation = pd.Timestamp(_iso(resection["date"])).normalize()
    resection["days"] = [(pd.Timestamp(s["acq_time"]).normalize() - operation).days for s in sessions]
    sizes = lesions.diameters_mm(lesion)
    before = [size for size, days in zip(sizes, resection["days"]) if days <= 0]
    resection["diameter_mm"] = resection["diameter_mm"] or (before and before[-1])
    after = sizes[len(before) :]
    if not resection["diameter_mm"] or any(after):
        raise InputError(
            what,
            found=f"sizes {before} before and {after} after it, diameter_mm {resection['diameter_mm'] or None}",
            expected="a size before it, or diameter_mm, and 0 at every session after it",
            advice="What grows at the margin is a lesion of its own, where: {margin_of: id}.",
            reason=Reason.BAD_SPEC,
        )
    return resection


def _check_recurrences(entries: list[Spec], name: str) -> None:
    resected = {lesion["id"]: lesion["resection"]["days"] for lesion in entries if lesion["resection"]}
    for lesion in filter(lesions.is_recurrence, entries):
        days = resected.get(lesion["where"]["margin_of"], [])
        early = [size for size, since in zip(lesions.diameters_mm(lesion), days) if since <= 0]
        if not days or any(early):
            raise InputError(
                f"{name}, lesion {lesion['id']}",
                found=f"{lesion['where']}, sizes {early} before a resection",
                expected="the id of a resected lesion, and 0 at every session before the resection",
                advice="Correct them.",
                reason=Reason.BAD_SPEC,
            )


def _cells(given: Spec, allowed: Sequence[str], what: str) -> dict[str, str]:
    """Write facts about a patient or a visit as a BIDS table has them; names that nobody reads are refused."""
    cells = _complete(given, dict.fromkeys(allowed), what)
    return {
        name: str(value).lower() if isinstance(value, bool) else _iso(value)
        for name, value in cells.items()
        if value is not None
    }


def _iso(time: object) -> str:
    return time.isoformat() if isinstance(time, date) else str(time)


def simulate_patient(patient_spec: Spec, *, seed: int, defaults: Spec | None = None) -> Iterator[Session]:
    """Simulate one patient, session by session, in order of date.

    Parameters
    ----------
    patient_spec : dict
        One entry of a cohort's `patients`.
    seed : int
        Below 1 000 000 for demonstrations and tests; training draws from there on.
    defaults : dict, optional
        Settings of all sessions.
    """
    patient = complete_patient(patient_spec, defaults or {})
    own = int(stream(seed, patient["id"], patient["anatomy"]["seed"]).integers(2**31))
    shape = {k: v for k, v in patient["anatomy"].items() if k != "seed"}
    body = anatomy.make_anatomy(own, **shape)
    centres = lesions.place(patient["lesions"], body, seed=own, gap_mm=patient["gap_mm"])
    history: dict[int, str] = {}
    for number in range(len(patient["sessions"])):
        subject = _subject(patient, body, centres, number, own)
        yield _simulate_session(patient, subject, centres, number, own, history)


def _subject(
    patient: Spec, body: anatomy.Anatomy, centres: dict[int, np.ndarray], number: int, seed: int
) -> scan.Subject:
    """Return the patient as the scanner meets it at a session."""
    session = patient["sessions"][number]
    hollows = _cavities_at(patient, body, centres, number, seed)
    centres = centres | _at_margins(patient, body, centres, hollows, number, seed)
    blobs = [
        blob
        for lesion in patient["lesions"]
        for blob in lesions.make_bodies(
            lesion, centres[lesion["id"]], session=number, label=session["label"], seed=seed
        )
    ]
    drift = None
    if number and session["atrophy_mm"]:
        drift = fields.smooth_vectors(anatomy.LATTICE_SHAPE, sigma=3, rng=stream(seed, "drift", session["label"]))
        drift *= session["atrophy_mm"] / np.sqrt(3)
    subject = scan.Subject(body, blobs, [], patient["mass_effect"], drift, list(hollows.values()))
    width = {lesion["id"]: lesion["edema_mm"][number] for lesion in patient["lesions"]}
    swollen = [*blobs, *(cavity.bed for cavity in subject.cavities)]
    edemas = [
        lesions.spread_edema(b, width[b.lesion], subject.tissue_at, seed=seed) for b in swollen if width[b.lesion] > 0
    ]
    return replace(subject, edemas=edemas)


def _cavities_at(
    patient: Spec, body: anatomy.Anatomy, centres: dict[int, np.ndarray], number: int, seed: int
) -> dict[int, cavities.Cavity]:
    """Return the cavities at a session, by the number of what was resected."""
    return {
        lesion["id"]: cavities.make_cavity(lesion, centres[lesion["id"]], body, session=number, seed=seed)
        for lesion in patient["lesions"]
        if lesion["resection"] and lesion["resection"]["days"][number] > 0
    }


def _at_margins(
    patient: Spec,
    body: anatomy.Anatomy,
    centres: dict[int, np.ndarray],
    hollows: dict[int, cavities.Cavity],
    number: int,
    seed: int,
) -> dict[int, np.ndarray]:
    """Return the centres (mm, patient frame) of recurrences at a session; they stay with the wall as it moves."""
    places = {}
    for lesion in filter(lesions.is_recurrence, patient["lesions"]):
        of, sizes = lesion["where"]["margin_of"], lesions.diameters_mm(lesion)
        if sizes[number]:
            # In the same direction at all sessions: the one that fits when it is first seen.
            first = next(k for k, size in enumerate(sizes) if size)
            then = _cavities_at(patient, body, centres, first, seed)[of]
            rng = stream(seed, "recurrence", lesion["id"])
            direction = cavities.find_margin(then, body, max(sizes), rng=rng)
            places[lesion["id"]] = cavities.at_margin(hollows[of], direction, sizes[number])
    return places


def _field_of_view(
    session: Spec, body: anatomy.Anatomy, centres: dict[int, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners (mm, patient frame) of what a session's scans show."""
    if session["crop"]:
        around = session["crop"]["around"]
        middle = _in_patient(around, body) if isinstance(around, list | tuple) else centres[around]
        return scan.crop_box(middle, session["crop"]["size_mm"])
    whole = session["extent"] == "head"
    return scan.field_of_view(body, extent="head" if whole else "brain", margin_mm=3.0 if whole else 8.0)


def _simulate_session(
    patient: Spec,
    subject: scan.Subject,
    centres: dict[int, np.ndarray],
    number: int,
    seed: int,
    history: dict[int, str],
) -> Session:
    """Scan the patient; the first sequence is the reference, on whose grid the truth lies."""
    session = patient["sessions"][number]
    label = session["label"]
    box = _field_of_view(session, subject.anatomy, centres)
    pose = _rigid(stream(seed, "pose", label), session["motion_mm"], session["motion_deg"])
    reference = scan.CONTRAST if scan.CONTRAST in session["sequences"] else next(iter(session["sequences"]))
    order = [reference, *(s for s in session["sequences"] if s != reference)]
    found: dict[str, Image] = {}
    for sequence in order:
        settings = _complete(session["sequences"][sequence] or {}, SESSION, f"sequence {sequence}", session)
        spacing = np.broadcast_to(settings["spacing_mm"], 3).astype(float)
        shaken = pose
        if sequence != reference:
            rng = stream(seed, "shake", label, sequence)
            shaken = pose @ _rigid(rng, settings["shake_mm"], settings["shake_mm"])
        # The scanner's grid was planned on the reference scan; the patient moves within it.
        grid = scan.scan_grid(box, pose, spacing_mm=spacing, oblique_deg=np.broadcast_to(settings["oblique_deg"], 3))
        sampling = scan.sample(subject, grid, shaken)
        overlays, swellings = scan.overlay_lesions(subject, sampling)
        hollows = scan.overlay_cavities(subject, sampling)
        part = None
        if settings["extent"] == "piece":
            part = scan.draw_ellipsoid(box, grid, shaken, margin_mm=PIECE_MARGIN_MM)
        if sequence == reference:
            truth = scan.draw_truth(sampling, overlays, swellings, hollows)
            if part is not None:
                truth = truth[0] * part, truth[1] * part, truth[2] * part
            brain = truth[2]
        elif settings["extent"] in EXTRACTED:
            brain = scan.draw_brain(sampling)
            if part is not None:
                brain = brain & part
        rng = stream(seed, "scan", label, sequence)
        mean = scan.brightness(sequence, rng=rng, spread=settings["contrast_spread"], changes=settings["brightness"])
        fine = scan.look_up(scan.paint(subject.anatomy, mean, grain=settings["grain"]), sampling, fill=mean["air"])
        scan.blend(fine, overlays, swellings, hollows, mean, sequence=sequence)
        scale = settings["scale"] or rng.uniform(300, 900)
        data = scan.finish(
            fine, sampling, rng=rng, noise=settings["noise"], bias=settings["bias"], blur_mm=settings["blur_mm"],
            white=mean["wm"], scale=scale,
        )  # fmt: skip
        if settings["extent"] in EXTRACTED:
            data = data * brain
        found[sequence] = Image(*scan.reorient(data, grid.affine, settings["orientation"]))
        if sequence == reference:
            table = _truth_rows(patient, subject, number, scan.measure_truth(truth[0], truth[1], grid.affine), history)
            tissue, instances, mask = (Image(*scan.reorient(a, grid.affine, settings["orientation"])) for a in truth)
    return Session(patient["id"], label, session["acq_time"], found, tissue, instances, mask, table)


def _in_patient(place: Sequence[float], body: anatomy.Anatomy) -> np.ndarray:
    """Return where a place given in MNI mm is in the patient frame, mm."""
    return body.from_template(np.array(place, float)[:, None])[:, 0]


def _rigid(rng: np.random.Generator, move_mm: float, turn_deg: float) -> np.ndarray:
    """Draw a rigid motion about the middle of the head: patient to scanner, mm."""
    turn = Rotation.from_euler("xyz", rng.normal(0, 1, 3) * turn_deg, degrees=True).as_matrix()
    centre = np.array([0.0, -18.0, 5.0])
    return make_affine(turn, centre - turn @ centre + rng.normal(0, 1, 3) * move_mm)


def _truth_rows(
    patient: Spec,
    subject: scan.Subject,
    number: int,
    measured: dict[int, dict[str, float]],
    history: dict[int, str],
) -> pd.DataFrame:
    """Rows of the truth table; `history` (lesion to last status) is handed from session to session."""
    rows = []
    for lesion in patient["lesions"]:
        bodies = [b for b in subject.bodies if b.lesion == lesion["id"]]
        before = history.get(lesion["id"])
        into: int | str = "n/a"
        merged = bool(bodies) and bodies[0].owner != lesion["id"]
        if merged:
            event, into = "merged_into", bodies[0].owner
        elif bodies:
            if len(bodies) > 1 and before is not None:
                event = "split"
            elif before is None:
                event = "baseline" if number == 0 else "new"
            else:
                event = "reappeared" if before == "absent" else "persist"
        else:
            event = "n/a" if before is None else "absent"
        if event != "n/a":
            history[lesion["id"]] = event
        volumes = measured.get(lesion["id"], {}) if bodies and not merged else {}
        rows.append(
            {
                "participant_id": f"sub-{patient['id']}",
                "session_id": f"ses-{patient['sessions'][number]['label']}",
                "lesion_id": lesion["id"],
                "present": int(bool(bodies) and not merged),
                **{k: round(volumes.get(k, 0.0), 3) for k in ("vol_wl_mm3", "vol_et_mm3", "vol_nc_mm3", "vol_ed_mm3")},
                "diameter_mm": round(sum(b.diameter_mm for b in bodies), 3) if not merged else 0.0,
                "event": event,
                "into": into,
            }
        )
    return pd.DataFrame(rows, columns=list(TRUTH_COLUMNS))


TRUTH_COLUMNS = {
    "participant_id": "Patient",
    "session_id": "Session",
    "lesion_id": "Persistent number of the lesion; the value in desc-lesions_dseg",
    "present": "1 where the lesion has voxels of its own at this session",
    "vol_wl_mm3": "Volume of the whole lesion, enhancing and necrotic, mm3",
    "vol_et_mm3": "Volume of enhancing tissue, mm3",
    "vol_nc_mm3": "Volume of necrosis, mm3",
    "vol_ed_mm3": "Volume of edema nearest to this lesion, at most 20 mm away, mm3",
    "diameter_mm": "Longest axial diameter the lesion was drawn with, the sum over its parts, mm",
    "event": "baseline, new, persist, absent, reappeared, split or merged_into; n/a before it appears",
    "into": "Number of the lesion it has merged into",
}


def make_cohort(spec: Spec, out: Path, *, seed: int) -> None:
    """Write a synthetic cohort as a BIDS data set with its truth.

    Parameters
    ----------
    spec : dict
        See `config/phantom_demo.yaml`.
    out : path
        Folder of the data set, made when missing.
    seed : int
        The same seed makes the same files.
    """
    out = Path(out)
    spec = _complete(spec, COHORT, "cohort")
    if spec["random"]:
        count = _complete(spec["random"], {"patients": 1, "sessions": 1}, "random")
        drawn = random_cohort_spec(count["patients"], count["sessions"], np.random.default_rng(seed))
        spec["patients"] = [*spec["patients"], *drawn["patients"]]
    patients = [complete_patient(p, spec["defaults"]) for p in spec["patients"]]
    _write_json(out / "dataset_description.json", {"Name": spec["name"], "BIDSVersion": "1.10.0", "License": "CC0",
                "DatasetType": "raw", "GeneratedBy": [{"Name": "mettrail phantom"}]})  # fmt: skip
    (out / "README").write_text(README)
    for name, title in ((TRUTH, "Truth: tissue labels"), (INSTANCES, "Truth: lesion numbers, brain masks, tables")):
        _write_json(out / "derivatives" / name / "dataset_description.json", {"Name": title, "BIDSVersion": "1.10.0",
                    "License": "CC0", "DatasetType": "derivative",
                    "GeneratedBy": [{"Name": "mettrail phantom"}]})  # fmt: skip
        (out / "derivatives" / name / "README").write_text(f"{title} of the data set two folders up.\n")
    people = [{"participant_id": f"sub-{p['id']}", **p["participant"]} for p in patients]
    _write_table(out / "participants.tsv", _table_of(people, ["participant_id"], PARTICIPANT))
    rows, responses, treated = [], [], []
    for given, patient in zip(spec["patients"], patients):
        sub = f"sub-{patient['id']}"
        facts = [{"session_id": f"ses-{s['label']}", "acq_time": s["acq_time"], **s["clinical"]}
                 for s in patient["sessions"]]  # fmt: skip
        table = _table_of(facts, ["session_id", "acq_time"], CLINICAL)
        _write_table(out / sub / f"{sub}_sessions.tsv", table.sort_values("session_id"))
        visits, rows_of = simulate_patient(given, seed=seed, defaults=spec["defaults"]), []
        resected = [lesion for lesion in patient["lesions"] if lesion["resection"]]
        seen: dict[int, tuple[str, str]] = {}
        for session, described in zip(visits, patient["sessions"], strict=True):
            _write_session(out, session, extracted=described["extent"] in EXTRACTED)
            rows.append(session.lesions)
            for treatment in patient["treatments"]:
                if treatment["session"] == session.label:
                    rows_of += _treatment_rows(treatment, session.instances)
                    treated += _treated_truth(treatment, session)
            # The last scan that shows a lesion is the one that surgery is planned on.
            seen |= {lesion["id"]: (f"ses-{session.label}", _point_in(session.instances, lesion["id"]))
                     for lesion in resected if (session.instances.data == lesion["id"]).any()}  # fmt: skip
        rows_of += [_surgery_row(lesion, *seen.get(lesion["id"], (None, None))) for lesion in resected]
        if rows_of:
            _write_table(out / sub / f"{sub}_treatments.tsv", pd.DataFrame(rows_of))
            (out / ".bidsignore").write_text("*_treatments.tsv\n")
        responses += [
            {"participant_id": sub, "session_id": f"ses-{ses}", "expected": expected}
            for ses, expected in patient["expected"].items()
        ]
    folder = out / "derivatives" / INSTANCES
    truth = pd.concat(rows) if rows else pd.DataFrame(columns=list(TRUTH_COLUMNS))
    _write_table(folder / "lesions.tsv", truth)
    _write_json(folder / "lesions.json", {k: {"Description": v} for k, v in TRUTH_COLUMNS.items()})
    _write_table(folder / "treatments.tsv", pd.DataFrame(treated, columns=list(TREATED_COLUMNS)))
    _write_json(folder / "treatments.json", {k: {"Description": v} for k, v in TREATED_COLUMNS.items()})
    _write_table(
        folder / "responses.tsv", pd.DataFrame(responses, columns=["participant_id", "session_id", "expected"])
    )


TREATED_COLUMNS = {
    "participant_id": "Patient",
    "treatment_id": "Treatment, as in the patient's treatments.tsv",
    "lesion_id": "Number of the treated lesion",
    "failed_session": "Session at which the lesion has failed; n/a where it does not",
}


def _treatment_rows(treatment: Spec, instances: Image) -> list[Spec]:
    """Rows of treatments.tsv: a lesion is named by a point in it, as somebody who plans on this scan would."""
    targets = ["all"]
    if treatment["lesions"] != "all":
        targets = [_point_in(instances, lesion) for lesion in treatment["lesions"]]
    same = {key: treatment[key] for key in ("treatment_id", "type", "date", "dose_gy", "fractions", "isodose_pct")}
    return [same | {"session_id": f"ses-{treatment['session']}", "target": target} for target in targets]


def _surgery_row(lesion: Spec, session: str | None, target: str | None) -> Spec:
    """Row of treatments.tsv; what no scan shows is not named."""
    return {
        "treatment_id": f"surgery{lesion['id']}",
        "type": "surgery",
        "date": _iso(lesion["resection"]["date"]),
        "session_id": session,
        "target": target,
    }


def _point_in(instances: Image, lesion: int) -> str:
    voxels = np.argwhere(instances.data == lesion)
    middle = voxels[np.linalg.norm(voxels - voxels.mean(axis=0), axis=1).argmin()]
    return ";".join(f"{x:.1f}" for x in (instances.affine @ [*middle, 1])[:3])


def _treated_truth(treatment: Spec, session: Session) -> list[Spec]:
    present = session.lesions.loc[session.lesions["present"] == 1, "lesion_id"].tolist()
    treated = present if treatment["lesions"] == "all" else treatment["lesions"]
    return [
        {
            "participant_id": f"sub-{session.participant}",
            "treatment_id": treatment["treatment_id"],
            "lesion_id": lesion,
            "failed_session": f"ses-{treatment['fails'][lesion]}" if lesion in treatment["fails"] else None,
        }
        for lesion in treated
    ]


README = """Synthetic brain metastases: made by a program, no person was scanned.

Heads come from the ICBM 152 template, each deformed at random; skull, scalp and vessels are drawn.
The truth is in derivatives/truth (tissue labels) and derivatives/truth-instances (lesion numbers, brain masks, tables).
The ball on the scalp is on the left side of the head.
"""


def _table_of(rows: list[Spec], always: Sequence[str], where_given: Sequence[str]) -> pd.DataFrame:
    """Put rows into a table; of the columns in `where_given` it has those that any row fills."""
    return pd.DataFrame(rows, columns=[*always, *(name for name in where_given if any(name in row for row in rows))])


def _write_session(out: Path, session: Session, *, extracted: bool) -> None:
    sub, ses = f"sub-{session.participant}", f"ses-{session.label}"
    stem = f"{sub}_{ses}"
    anat = out / sub / ses / "anat"
    for sequence, image in session.images.items():
        images.write_image(anat / f"{stem}_{sequence}.nii.gz", image.data, image.affine)
        _write_json(anat / f"{stem}_{sequence}.json", _sidecar(sequence, image, extracted=extracted))
    truth = out / "derivatives" / TRUTH / sub / ses / "anat"
    images.write_labels(truth / f"{stem}_desc-tissue_dseg.nii.gz", session.tissue.data, session.tissue.affine)
    folder = out / "derivatives" / INSTANCES / sub / ses / "anat"
    images.write_labels(folder / f"{stem}_desc-lesions_dseg.nii.gz", session.instances.data, session.instances.affine)
    images.write_labels(folder / f"{stem}_desc-brain_mask.nii.gz", session.brain.data, session.brain.affine)


def _sidecar(sequence: str, image: Image, *, extracted: bool) -> Spec:
    settings: Spec = {
        "MagneticFieldStrength": 3,
        "Manufacturer": "synthetic",
        "SkullStripped": extracted,
        "SliceThickness": round(max(image.spacing_mm), 4),
    }
    if sequence == scan.CONTRAST:
        settings["ContrastBolusIngredient"] = "GADOLINIUM"
    return settings


def _write_json(path: Path, content: Spec) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def _write_table(path: Path, table: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")


def random_cohort_spec(n_patients: int, n_sessions: int, rng: np.random.Generator) -> Spec:
    """Draw the description of a cohort whose lesions are as common and as large as clinical ones.

    Half of the lesions have less than about 170 mm3 of enhancing tissue, with a heavy tail; 57 % have edema and 23 % a
    necrotic core. Between visits they grow, shrink, stay, vanish, appear, and now and then return.
    """
    patients = []
    for number in range(n_patients):
        start = pd.Timestamp("2019-01-07T10:00:00") + pd.Timedelta(days=int(rng.integers(700)))
        days = np.cumsum([0, *rng.integers(42, 120, n_sessions - 1)])
        count = int(np.clip(rng.geometric(0.25), 1, 12))
        patients.append(
            {
                "id": f"{number + 1:03d}",
                "gap_mm": 5.0,
                "sessions": [
                    {"label": f"{k + 1:02d}", "acq_time": (start + pd.Timedelta(days=int(d))).isoformat()}
                    for k, d in enumerate(days)
                ],
                "lesions": [_random_lesion(rng, k + 1, n_sessions) for k in range(count)],
            }
        )
    return {"name": "Random synthetic brain metastases", "patients": patients}


def _random_lesion(rng: np.random.Generator, number: int, n_sessions: int) -> Spec:
    enhancing = float(np.clip(np.exp(rng.normal(np.log(171), 1.5)), 8, 12000))
    has_core = rng.random() < 0.23
    necrosis = float(rng.uniform(0.15, 0.6)) if has_core else 0.0
    trend = rng.normal(0, 0.45)
    log_size = np.log(enhancing / (1 - necrosis)) + np.cumsum([0, *rng.normal(trend, 0.2, n_sessions - 1)])
    volumes = np.clip(np.exp(log_size), 0, 16000)
    volumes[volumes < 8] = 0
    fate, when = rng.random(), int(rng.integers(1, max(n_sessions, 2)))
    if fate < 0.15:
        volumes[:when] = 0
    elif fate < 0.27:
        volumes[when:] = 0
    elif fate < 0.31 and n_sessions > 2:
        volumes[min(when, n_sessions - 2)] = 0
    if not volumes.any():
        volumes[-1] = enhancing
    edema = rng.uniform(2, 10) if rng.random() < 0.57 else 0.0
    return {
        "id": number,
        "volumes_mm3": [round(float(v), 1) for v in volumes],
        "kind": "ring" if has_core else "nodule",
        "necrosis": necrosis,
        "edema_mm": [round(float(edema * np.clip((v / volumes.max()) ** (1 / 3), 0.3, 1)), 2) for v in volumes],
        "irregularity": float(rng.uniform(0.04, 0.12)),
        "rim_gap": float(rng.choice([0.0, rng.uniform(0, 0.6)])),
        "enhancement": float(rng.uniform(0.8, 1.25)),
    }
