"""What holds for every patient: from label maps to the final tables, whatever happens to the lesions."""

import copy
from dataclasses import dataclass, fields, replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from conftest import settings_of
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from mettrail import cohort, schema
from mettrail.images import EDEMA, ENHANCING, NECROSIS, Grid, Image, canonical_grid
from mettrail.response import rano
from mettrail.response.rules import Rules
from mettrail.tracking import matching, pairing, reference
from mettrail.tracking.axial import ENDPOINTS
from mettrail.tracking.components import find_instances
from mettrail.tracking.lesions import measure_instances
from scipy import ndimage
from scipy.spatial.transform import Rotation

FIND, MEASURE, MATCH = settings_of("instances"), settings_of("measure"), settings_of("match")
LIMITS = {each.name: MATCH[each.name] for each in fields(pairing.Rules)}  # masses are not cut here
# Lesions here are small, so smaller ones can be targets, and few make a full set.
RANO = settings_of("rano") | {"max_targets": 2, "ld_min_mm": 6, "perp_min_mm": 4}

BOX_MM = np.array([34.0, 28.0, 24.0])  # where lesions are, centred on 0 in the space of the first visit
EDEMA_MM = 2.5
MIRROR = np.diag([-1.0, 1, 1, 1])
# What a place with its two centres shows at a visit, and in what order that is interesting.
STATES = ("one", "two", "fused", "cut", "gone", "grown", "half", "crumb", "dead")
THEMES = (
    ("two", "fused"),
    ("two", "fused", "fused"),
    ("two", "grown"),
    ("fused", "cut"),
    ("one", "gone"),
    ("one", "gone", "grown"),
    ("one", "gone", "gone"),
    ("gone", "one"),
    ("one", "half", "grown"),
    ("one", "crumb", "dead"),
)
SPACINGS = ((1.0, 1.0, 1.0), (0.8, 1.1, 1.5), (1.0, 1.0, 3.0), (0.7, 0.7, 2.0))
CODES = ("RAS", "LPS", "PSR", "IRP", "ASL")
KINDS = ("lesions", "sessions", "patients")
NOT_REVISABLE = {kind: [c.name for c in schema.KINDS[kind] if not c.revisable] for kind in KINDS}
# What says something about the baseline, or is counted from it.
OF_BASELINE = {
    *("baseline_flag", "days_from_t0", "is_baseline", "session_role", "role", "n_targets", "n_new", "lesion_response"),
    *("ld_change_baseline_pct", "ld_change_nadir_pct", "vol_change_baseline_pct", "vol_change_nadir_pct"),
    *(
        "sum_ld_mm",
        "reference_sum_ld_mm",
        "sum_ld_baseline_mm",
        "nadir_sum_ld_mm",
        "sum_ld_change_baseline_pct",
        "sum_ld_change_nadir_pct",
    ),
    *("max_lesion_increase_mm", "sum_vol_target_ml", "new_lesion", "nontarget_source", "target_response"),
    *("nontarget_response", "response_volumetric_prospective", "response_imaging_prospective"),
    *("response_overall_prospective", "steroid_status", "clinical_status", "clinical_assumed"),
    *("target_response_continued", "response_imaging_continued", "response_overall_continued"),
}
STEADY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


# ------------------------------------------------------------------------------------------------------------ patients


@dataclass(frozen=True)
class Place:
    """Where lesions come and go: two centres (mm, in the space of the first visit) and what is there at each visit."""

    centres: np.ndarray  # (2, 3)
    radius_mm: float
    stretch: np.ndarray  # (3,) makes an ellipsoid of the ball
    waves: np.ndarray  # (3, 4) direction and phase of what makes a blob of it
    roughness: float
    core: float  # fraction of the radius that is necrosis
    edema: bool
    states: tuple[str, ...]

    def paint(self, points: np.ndarray, visit: int) -> np.ndarray:
        """Labels (0 to 3) of this place alone at points (..., 3) mm."""
        state, (p, q) = self.states[visit], self.centres
        if state == "gone":
            return np.zeros(points.shape[:-1], np.uint8)
        wave = sum(np.sin(points @ w[:3] + w[3]) for w in self.waves) / len(self.waves)
        radius = self.radius_mm * (1 + self.roughness * wave)
        along = np.clip((points - p) @ (q - p) / ((q - p) @ (q - p)), 0, 1)
        ends = {"two": [p, q], "cut": [p + along[..., None] * (q - p)], "fused": [p + along[..., None] * (q - p)]}
        ends = ends.get(state, [p])
        radius = radius * {"grown": 1.6, "crumb": 0.45, "half": 0.65}.get(state, 1)
        far = np.min([np.linalg.norm((points - end) / self.stretch, axis=-1) for end in ends], axis=0) / radius
        if state == "cut":
            far = np.where(np.abs(along - 0.5) * np.linalg.norm(q - p) < 1.6, np.inf, far)
        label = np.where(far < 1, ENHANCING, 0)
        label[far < (1 if state == "dead" else self.core)] = NECROSIS
        if self.edema:
            label[(far >= 1) & ((far - 1) * radius < EDEMA_MM)] = EDEMA
        return label.astype(np.uint8)


@dataclass(frozen=True)
class Visit:
    """A scan: labels on their own grid, where it is, and what the tables of the dataset say of it."""

    tissue: np.ndarray
    affine: np.ndarray
    world: np.ndarray  # points of the first visit to points of this one
    kind: str  # usable; failed: matched, yet its registration failed; unusable: never matched
    facts: dict

    def _repr_pretty_(self, printer, cycle):
        spacing = np.round(np.linalg.norm(self.affine[:3, :3], axis=0), 3).tolist()
        labelled = np.bincount(self.tissue.ravel(), minlength=4)[1:].tolist()
        printer.text(f"{self.kind} {self.tissue.shape} of {spacing} mm, voxels labelled {labelled}, {self.facts}")


@dataclass(frozen=True)
class Patient:
    visits: list[Visit]
    participant: dict
    rano: dict
    overrides: list[dict]


def rigid(turn_deg, shift_mm):
    out = np.eye(4)
    out[:3, :3] = Rotation.from_rotvec(np.deg2rad(turn_deg)).as_matrix()
    out[:3, 3] = shift_mm
    return out


def make_grid(spacing, turn_deg, margin_mm, centre):
    """RAS grid around a point, with a tilt of its own."""
    shape = tuple(int(n) for n in np.ceil((BOX_MM + margin_mm) / spacing))
    affine = rigid(turn_deg, np.zeros(3)) @ np.diag([*spacing, 1.0])
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def scan(places, number, grid, world):
    """Label map of a visit; of places that overlap the first wins, enhancement before edema."""
    to_first = np.linalg.inv(world) @ grid.affine
    points = np.moveaxis(np.indices(grid.shape), 0, -1) @ to_first[:3, :3].T + to_first[:3, 3]
    out = np.zeros(grid.shape, np.uint8)
    for place in places:
        label = place.paint(points, number)
        solid = (label != EDEMA) & (label > 0) & ((out == 0) | (out == EDEMA))
        out[solid] = label[solid]
        out[(label == EDEMA) & (out == 0)] = EDEMA
    return out


@st.composite
def stories(draw, n):
    """What a place shows at each of `n` visits: a theme, begun anywhere, mostly kept to."""
    theme, start = draw(st.sampled_from(THEMES)), draw(st.integers(0, 3))
    states = [theme[(start + i) % len(theme)] for i in range(n)]
    for at in draw(st.sets(st.integers(0, n - 1), max_size=1)):
        states[at] = draw(st.sampled_from(STATES))
    return tuple(states)


@st.composite
def patients(draw, *, min_visits=3, max_visits=5, tidy=None, late=False):
    """A patient.

    Parameters
    ----------
    tidy : bool, optional
        Whole numbers, and visits that agree, so that exact ties abound; drawn if None.
    late : bool
        Treatment starts after the first visit, and that may be one nobody can read.
    """
    n = draw(st.integers(min_visits, max_visits))
    told = draw(st.lists(stories(n), min_size=1, max_size=4), label="stories")
    tidy = draw(st.booleans()) if tidy is None else tidy
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="geometry"))
    places = []
    for states in told:
        radius, stretch = rng.choice([1.5, 1.8, 2.6, 3.6, 4.4]) + rng.uniform(-0.2, 0.2), rng.uniform(0.8, 1.25, 3)
        way = rng.normal(size=3)
        way *= (2 * radius + rng.uniform(1, 4)) / np.linalg.norm(way)
        middle = rng.uniform(-0.36, 0.36, 3) * BOX_MM
        centres = np.array([middle - way / 2, middle + way / 2])
        roughness = rng.choice([0, 0.25, 0.5])
        if tidy:
            centres, radius, stretch, roughness = np.round(centres), np.round(radius * 2) / 2, np.ones(3), 0
        waves = np.column_stack([rng.normal(size=(3, 3)), rng.uniform(0, 6, 3)])
        core, edema = rng.choice([0, 0, 0.6, 0.95]), rng.random() < 0.5
        places.append(Place(centres, radius, stretch, waves, roughness, core, bool(edema), states))
    visits = []
    kinds = ["usable"] * 8 + ["failed", "unusable"]
    day = 0
    dated = draw(st.sampled_from([True, True, True, False]), label="dated")
    for number in range(n):
        spacing = np.array(draw(st.sampled_from(SPACINGS), label="spacing")) if not tidy else np.ones(3)
        world = np.eye(4)
        if number and not tidy:
            world = rigid(rng.normal(size=3) * 5, rng.normal(size=3) * 4)
        # Registration is never quite right; and a scan may leave out what is far to one side.
        error = rigid(rng.normal(size=3) * 0.3, rng.normal(size=3) * draw(st.sampled_from([0, 0.3, 1.0])))
        margin = np.array([draw(st.sampled_from([8, 8, 8, 8, -10, -18]), label="margin"), 8, 8])
        tilt = np.zeros(3) if tidy else rng.normal(size=3) * 6
        grid = make_grid(spacing, tilt, margin, world[:3, 3])
        tissue = scan(places, number, grid, world if tidy else world @ error)
        kind = "usable" if not number and not late else draw(st.sampled_from(kinds), label="kind")
        facts = {
            "days": str(day) if dated else "n/a",
            "dexamethasone_equiv_mg_per_day": draw(st.sampled_from(["n/a", "0", "2", "2", "6"])),
            "clinical_status": draw(st.sampled_from(["n/a", "stable", "stable", "improved", "worse"])),
        }
        visits.append(Visit(tissue, grid.affine, world, kind, facts))
        day += draw(st.sampled_from([14, 30, 45, 120]), label="interval")
    starts = ["n/a", str(day // 3), str(day // 2), str(day)] if late else ["n/a", "n/a", "-300", "-10", "0"]
    participant = {
        "participant_id": "sub-A",
        "treatment_start_day": draw(st.sampled_from(starts)) if dated else "n/a",
        "treatment_type": draw(st.sampled_from(["n/a", "srs", "immunotherapy"])),
        "immunotherapy_start_day": draw(st.sampled_from(["n/a", "n/a", "40"])) if dated else "n/a",
    }
    changed = {
        "tsm_mode": draw(st.sampled_from(["measured", "floor5"])),
        "abs_rule": draw(st.sampled_from(["lesion", "sum"])),
        "recurrence_is_new": draw(st.booleans()),
        "irano": draw(st.sampled_from([False, False, True])),
    }
    decisions = [("exclude", "true"), ("irradiated_day", "-100"), ("resected_day", "50"), ("new_status", "confirmed")]
    overrides = [
        {"session_id": None, "track_id": track, "field": name, "value": value}
        for track, (name, value) in draw(
            st.lists(st.tuples(st.sampled_from(["L001", "L003"]), st.sampled_from(decisions)), max_size=1),
            label="overrides",
        )
    ]
    return Patient(visits, participant, RANO | changed, overrides)


# ---------------------------------------------------------------------------------------------- through the whole chain


@dataclass
class Course:
    """What came out of each visit, None for those that were never matched; the last registry."""

    patient: Patient
    instances: list
    tables: list
    totals: list
    matches: list
    rows: list
    registries: list

    def assess(self, upto=None):
        """Final tables, of the first `upto` visits."""
        visits = self.patient.visits[:upto]
        names = [f"{number:02d}" for number in range(1, len(visits) + 1)]
        facts = [
            dict.fromkeys(cohort.CLINICAL, "n/a")
            | {"sub": "A", "ses": ses, "order": str(number), "flags": "n/a"}
            | {"reason": "no_contrast" if visit.kind == "unusable" else "n/a"}
            | visit.facts
            for number, (ses, visit) in enumerate(zip(names, visits, strict=True), start=1)
        ]
        sessions = cohort.describe_sessions(facts, [r for r in self.registries[: len(visits)] if r])
        rows = [r for r in self.rows[: len(visits)] if r is not None]
        rows = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=list(matching.TRACK_COLUMNS))
        known = set(rows["track_id"])
        overrides = [row for row in self.patient.overrides if row["track_id"] in known]
        return rano.assess_patient(
            rows, sessions, self.patient.participant,
            rules=Rules.of(rano=self.patient.rano, volume=settings_of("volume")),
            overrides=pd.DataFrame(overrides) if overrides else None,
        )  # fmt: skip


def follow(patient, *, relabel=None):
    """Take a patient through finding, measuring and matching; `relabel` gives instances other numbers."""
    course = Course(patient, [], [], [], [], [], [])
    first = patient.visits[0]
    grid = canonical_grid(Grid(first.tissue.shape, first.affine))
    registry = None
    for number, visit in enumerate(patient.visits, start=1):
        if visit.kind == "unusable":
            for part in (
                course.instances, course.tables, course.totals, course.matches, course.rows, course.registries,
            ):  # fmt: skip
                part.append(None)
            continue
        instances = find_instances(visit.tissue, affine=visit.affine, **FIND)
        if relabel is not None:
            instances = relabel(instances)
        table, totals = measure_instances(instances, visit.tissue, affine=visit.affine, **MEASURE)
        quality = "fail" if visit.kind == "failed" else "ok"
        session = {
            "participant_id": "sub-A",
            "session_id": f"ses-{number:02d}",
            "days": None if visit.facts["days"] == "n/a" else float(visit.facts["days"]),
            "evaluable": quality == "ok",
            "ne_reason": None if quality == "ok" else "registration_failed",
            "registration_qc": quality,
            **totals,
        }
        matches, registry = matching.match_lesions(
            reference.instances_to_reference(Image(instances, visit.affine), grid, world=visit.world),
            table,
            registry,
            session=session,
            field_of_view=reference.field_of_view(Grid(visit.tissue.shape, visit.affine), grid, world=visit.world),
            **LIMITS,
        )
        course.instances.append(instances)
        course.tables.append(table)
        course.totals.append(totals)
        course.matches.append(matches)
        course.rows.append(matching.summarise_tracks(matches, table))
        course.registries.append(copy.deepcopy(registry))
    return course


def tell(course):
    """Count what happened, for `pytest --hypothesis-show-statistics`."""
    happened = {name for matches in course.matches if matches is not None for name in matches["event"]}
    happened |= {name for matches in course.matches if matches is not None for name in matches["match_method"]}
    for name in sorted(happened - {"none", "baseline", "persist"}):
        event(name)
    if any(matches["probable_missed_detection"].any() for matches in course.matches if matches is not None):
        event("probable_missed_detection")
    if any((matches["sessions_missed"] > 1).any() for matches in course.matches if matches is not None):
        event("absent twice or more in a row")
    event(f"visits that cannot be read: {sum(visit.kind != 'usable' for visit in course.patient.visits)}")


def labels_of(fragments):
    return [] if pd.isna(fragments) else [int(label) for label in fragments.split(";")]


def same(one, other, **more):
    pd.testing.assert_frame_equal(one, other, rtol=1e-9, atol=1e-9, **more)


# --------------------------------------------------------------------------------------- one lesion, one track, one row


@given(patients())
@settings(STEADY, max_examples=45)
def test_every_lesion_is_in_one_track_or_too_small_and_volumes_add_up(patient):
    course = follow(patient)
    tell(course)
    for number, visit in enumerate(patient.visits):
        if visit.kind == "unusable":
            continue
        instances, table, rows = course.instances[number], course.tables[number], course.rows[number]
        matches, registry = course.matches[number], course.registries[number]
        facts = registry["session"]
        assert [t["track_id"] for t in registry["tracks"]] == matches["track_id"].tolist()
        assert matches["track_id"].is_unique
        present = matches["status"] == "present"
        assert (matches["components"].notna() == present).all()
        assert matches["merged_into"].dropna().isin(matches.loc[present, "track_id"]).all()
        taken = [label for fragments in rows["components"] for label in labels_of(fragments)]
        free = table[~table["instance"].isin(taken)]
        assert len(taken) == len(set(taken))
        assert set(taken) <= set(table["instance"]) == set(np.unique(instances)) - {0}
        whole = np.isin(visit.tissue, (ENHANCING, NECROSIS))
        assert not (instances[~whole]).any()
        voxel_mm3 = abs(np.linalg.det(visit.affine[:3, :3]))
        left_out, n_left_out = ndimage.label(whole & (instances == 0), np.ones((3, 3, 3)))
        sizes = np.bincount(left_out.ravel())[1:]
        assert all(n * voxel_mm3 <= FIND["keep_mm3"] + 1e-6 or n < FIND["keep_vox"] for n in sizes)
        if visit.kind == "failed":
            assert not taken
            continue
        small = (free["vol_wl_mm3"] < FIND["birth_mm3"]) | (free["n_voxels"] < FIND["birth_vox"])
        assert small.all() and free["below_birth"].all()
        assert facts["n_subthreshold"] == len(free) + n_left_out
        without = free["vol_wl_mm3"].sum() + sizes.sum() * voxel_mm3
        assert rows["vol_wl_mm3"].sum() == pytest.approx(whole.sum() * voxel_mm3 - without)
        assert rows["vol_et_mm3"].sum() + rows["vol_nc_mm3"].sum() == pytest.approx(rows["vol_wl_mm3"].sum())
        edema = (visit.tissue == EDEMA).sum() * voxel_mm3
        assert rows["vol_ed_mm3"].sum() + facts["edema_unassigned_mm3"] == pytest.approx(edema)
        tracks = matching.relabel_tracks(instances, course.matches[number])
        count = np.bincount(tracks.ravel(), minlength=int(rows["index"].max() if len(rows) else 0) + 1)
        assert count[rows["index"].to_numpy(int)].tolist() == rows["n_voxels"].fillna(0).tolist()


@given(patients())
@settings(STEADY, max_examples=45)
def test_a_track_has_one_row_for_each_session_from_its_birth_on(patient):
    course = follow(patient)
    tell(course)
    lesions, sessions, _ = course.assess()
    order = sessions["session_id"].tolist()
    assert order == [f"ses-{number:02d}" for number in range(1, len(patient.visits) + 1)]
    readable = dict(zip(order, sessions["evaluable"], strict=True))
    for track, rows in lesions.groupby("track_id"):
        born = order.index(rows["session_id"].iloc[0])
        assert rows["session_id"].tolist() == order[born:], track
        assert (rows["status"].iloc[0], rows["event"].iloc[0] in ("baseline", "new")) == ("present", True)
        assert not rows["event"].iloc[1:].isin(["baseline", "new"]).any()
    for session, matches in zip(order, course.matches, strict=True):
        if matches is not None:
            rows = lesions[lesions["session_id"] == session]
            assert dict(zip(rows["track_id"], rows["status"])) == dict(zip(matches["track_id"], matches["status"]))
    registries = [registry for registry in course.registries if registry]
    assert set(lesions["track_id"]) == ({t["track_id"] for t in registries[-1]["tracks"]} if registries else set())
    present, absent, merged, unknown = (
        lesions["status"] == level for level in ("present", "absent", "merged", "not_evaluable")
    )
    assert (present.astype(int) + absent + merged + unknown == 1).all()
    assert (lesions.loc[~lesions["session_id"].map(readable).astype(bool), "status"] == "not_evaluable").all()
    for which, events in (
        (present, ("baseline", "new", "persist", "split", "reappeared")),
        (absent, ("absent",)),
        (merged, ("merged_into",)),
        (unknown, ("not_evaluable",)),
    ):
        assert lesions.loc[which, "event"].isin(events).all()
    assert (lesions["vol_wl_mm3"] > 0).fillna(False).tolist() == present.tolist()
    assert (lesions["vol_wl_mm3"] == 0).tolist() == absent.tolist()
    assert (lesions["merged_into"].notna() == merged).all()
    there = set(zip(lesions.loc[present, "session_id"], lesions.loc[present, "track_id"]))
    assert set(zip(lesions.loc[merged, "session_id"], lesions.loc[merged, "merged_into"])) <= there
    excluded = {row["track_id"] for row in patient.overrides if row["field"] == "exclude"}
    counted = lesions[present & ~lesions["track_id"].isin(excluded)]
    volume = counted.groupby("session_id")["vol_wl_mm3"].sum() / 1000
    found = sessions.set_index("session_id")["total_vol_wl_ml"].dropna()
    np.testing.assert_allclose(found, volume.reindex(found.index, fill_value=0))
    np.testing.assert_array_equal(
        sessions.set_index("session_id")["n_lesions"].dropna().astype(int),
        counted.groupby("session_id").size().reindex(found.index, fill_value=0),
    )


# --------------------------------------------------------------------------------------- what is only a way of writing


@given(patients(), st.randoms(use_true_random=False))
@settings(STEADY, max_examples=18)
def test_numbers_given_to_lesions_change_no_event_and_no_cell(patient, random):
    def shuffle(instances):
        order = list(range(1, int(instances.max()) + 1))
        random.shuffle(order)
        return np.array([0, *order], np.int32)[instances]

    one, other = follow(patient), follow(patient, relabel=shuffle)
    tell(one)
    for a, b in zip(one.rows, other.rows, strict=True):
        if a is not None:
            same(a.drop(columns="components"), b.drop(columns="components"))
    assert one.registries == other.registries
    for a, b in zip(one.assess(), other.assess(), strict=True):
        same(a, b)
    for number, visit in enumerate(patient.visits):
        if visit.kind != "unusable":
            np.testing.assert_array_equal(
                matching.relabel_tracks(one.instances[number], one.matches[number]),
                matching.relabel_tracks(other.instances[number], other.matches[number]),
            )


def stored_as(codes, array, affine):
    """Store the same voxels in another order."""
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(codes))
    )
    turned = np.ascontiguousarray(nib.orientations.apply_orientation(array, turn))
    return turned, affine @ nib.orientations.inv_ornt_aff(turn, array.shape)


@given(patients(), st.data())
@settings(STEADY, max_examples=18)
def test_voxel_storage_order_changes_no_event_and_no_size(patient, data):
    turned = []
    for visit in patient.visits:
        tissue, affine = stored_as(data.draw(st.sampled_from(CODES), label="codes"), visit.tissue, visit.affine)
        turned.append(replace(visit, tissue=tissue, affine=affine))
    one, other = follow(patient), follow(replace(patient, visits=turned))
    tell(one)
    # The slice number alone is about the file.
    for a, b in zip(one.rows, other.rows, strict=True):
        if a is not None:
            same(a.drop(columns="ld_slice"), b.drop(columns="ld_slice"))
    for a, b in zip(one.assess(), other.assess(), strict=True):
        same(a.drop(columns="ld_slice", errors="ignore"), b.drop(columns="ld_slice", errors="ignore"))


def mirrored(patient):
    """The same patient seen in a mirror: scans and transforms alike."""
    return replace(
        patient,
        visits=[replace(v, affine=MIRROR @ v.affine, world=MIRROR @ v.world @ MIRROR) for v in patient.visits],
    )


@given(patients(tidy=False))
@settings(STEADY, max_examples=18)
def test_a_mirrored_patient_has_the_same_events_sizes_and_responses(patient):
    one, other = follow(patient), follow(mirrored(patient))
    tell(one)
    for table in one.tables:
        # Of exactly equal lesions the one further left has the smaller number, in the mirror the other.
        assume(table is None or table["n_voxels"].is_unique)
    # Of two lesions equally near to edema, either may be taken; of two diameters equally long, either end of either.
    ties = ["vol_ed_mm3", "total_vol_ed_ml", "edema_unassigned_mm3"]
    # On the reference grid a voxel half way between two, but for the last digits, may go either way.
    about = ["match_score", "centroid_x_ref_mm", "centroid_y_ref_mm", "centroid_z_ref_mm"]
    mirrored_too = ["centroid_x_mm", *ENDPOINTS]
    for a, b in zip(one.rows, other.rows, strict=True):
        if a is not None:
            left_out = ["vol_ed_mm3", *about, *mirrored_too]
            same(a.drop(columns=left_out), b.drop(columns=left_out))
            np.testing.assert_allclose(a["centroid_x_mm"], -b["centroid_x_mm"], atol=1e-9)
            np.testing.assert_allclose(a[about] * [1, -1, 1, 1], b[about], atol=0.2)
    left_out = [*ties, *about, *mirrored_too]
    for a, b in zip(one.assess(), other.assess(), strict=True):
        same(a.drop(columns=left_out, errors="ignore"), b.drop(columns=left_out, errors="ignore"))


# ------------------------------------------------------------------------------------------------ one session more


def cells_before(assessed, sessions, kind):
    """Cells of a final table that must not change, of the sessions given, by identity."""
    keys = list(schema.KEYS[kind])
    table = assessed[KINDS.index(kind)]
    if kind != "patients":
        table = table[table["session_id"].isin(sessions)]
    return table[[*dict.fromkeys([*keys, *NOT_REVISABLE[kind]])]].set_index(keys)


@given(patients(max_visits=6))
@settings(STEADY, max_examples=30)
def test_a_session_more_changes_no_earlier_cell_but_those_that_are_marked(patient):
    course = follow(patient)
    tell(course)
    full = course.assess()
    for n in range(1, len(patient.visits)):
        part = course.assess(n)
        names = [f"ses-{number:02d}" for number in range(1, n + 1)]
        for kind in KINDS:
            same(cells_before(part, names, kind), cells_before(full, names, kind))


@given(patients(min_visits=2, late=True))
@settings(STEADY, max_examples=20)
def test_a_later_baseline_changes_only_what_is_counted_from_it(patient):
    course = follow(patient)
    full = course.assess()
    for n in range(1, len(patient.visits)):
        part = course.assess(n)
        names = [f"ses-{number:02d}" for number in range(1, n + 1)]
        then, now = (str(each[2]["baseline_session"].item()) for each in (part, full))
        event("the baseline stays" if then == now else "the baseline moves")
        allowed = OF_BASELINE if then != now else []
        for kind in ("lesions", "sessions"):
            before, after = (
                cells_before(each, names, kind).drop(columns=allowed, errors="ignore") for each in (part, full)
            )
            same(before, after)
