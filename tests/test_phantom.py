import subprocess
import sys
from datetime import date
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from mettrail import images, phantom
from mettrail.brain import find_brain
from mettrail.cohort import read_participants
from mettrail.cohort.order import Axis
from mettrail.cohort.treatments import read_treatments
from mettrail.errors import InputError
from mettrail.evaluation import inputs
from scipy.ndimage import distance_transform_edt
from scipy.spatial.distance import pdist

ROOT = Path(__file__).parents[1]
CONTRAST = "ce-gadolinium_T1w"
FRONTAL = [31, 28, 26]
TINY = {"spacing_mm": 4, "crop": {"around": FRONTAL, "size_mm": 16}}


def patient(lesions, n_sessions, **settings):
    """A small field of view around lesion 1, anisotropic and off the axes unless told otherwise."""
    session = {
        "sequences": [CONTRAST],
        "spacing_mm": [1, 1, 1],
        "crop": {"around": 1, "size_mm": [52, 48, 44]},
        **settings,
    }
    return {
        "id": "X",
        "sessions": [
            {**session, "label": f"{k + 1}", "acq_time": f"2020-0{k + 1}-01T00:00:00"} for k in range(n_sessions)
        ],
        "lesions": lesions,
    }


def simulate(lesions, n_sessions, **settings):
    return list(phantom.simulate_patient(patient(lesions, n_sessions, **settings), seed=5))


def longest_axial_mm(mask, spacing_mm):
    slices = [np.argwhere(mask[:, :, k]) * spacing_mm[:2] for k in range(mask.shape[2])]
    return max(pdist(points).max() for points in slices if len(points) > 1)


@pytest.fixture(scope="module")
def shrinking():
    lesion = {"id": 1, "where": FRONTAL, "diameters_mm": [20, 11, 0], "kind": "ring", "edema_mm": [7, 3, 0]}
    return simulate([lesion], 3, motion_deg=0)


def test_a_lesion_is_as_long_as_it_was_asked_to_be(shrinking):
    for session, asked in zip(shrinking, (20, 11)):
        # Centres of the outermost voxels are up to a voxel closer than the edges.
        found = longest_axial_mm(session.instances.data == 1, session.instances.spacing_mm)
        assert asked - 2 < found < asked + 0.7


def test_a_lesion_is_as_large_as_it_was_asked_to_be():
    lesion = {"id": 1, "where": FRONTAL, "volumes_mm3": [171, 1500], "kind": "nodule"}
    found = [s.lesions.vol_wl_mm3[0] for s in simulate([lesion], 2, spacing_mm=[0.8, 0.8, 1.6], oblique_deg=[9, 4, 0])]
    assert found == pytest.approx([171, 1500], rel=0.12)


def test_the_truth_table_tells_what_the_label_maps_show(shrinking):
    for session in shrinking:
        row = session.lesions.iloc[0]
        volume = session.tissue.voxel_volume_mm3
        for label, column in ((1, "vol_et_mm3"), (3, "vol_nc_mm3"), (2, "vol_ed_mm3")):
            assert row[column] == pytest.approx((session.tissue.data == label).sum() * volume, abs=0.01)
        assert ((session.instances.data > 0) == np.isin(session.tissue.data, (1, 3))).all()
    assert shrinking[0].lesions.vol_nc_mm3[0] > 0


def test_a_lesion_that_vanished_has_no_voxel_left(shrinking):
    assert shrinking[2].lesions.event[0] == "absent"
    assert not shrinking[2].tissue.data.any()
    assert not shrinking[2].instances.data.any()


def test_edema_stays_in_the_brain_and_out_of_fluid():
    lesion = {"id": 1, "where": [-27, -36, 24], "diameters_mm": [10]}
    only_fluid = dict.fromkeys(phantom.BRIGHTNESS, 0.0) | {"csf": 1.0}
    settings = {"noise": 0, "bias": 0, "grain": 0, "scale": 1000, "brightness": only_fluid}
    (swollen,) = simulate([{**lesion, "edema_mm": 9}], 1, **settings)
    (without,) = simulate([lesion], 1, **settings)
    edema = swollen.tissue.data == 2
    assert edema.sum() > 2000
    assert swollen.brain.data[edema].all()
    assert (without.images[CONTRAST].data > 600).sum() > 500, "there is fluid around"
    assert (without.images[CONTRAST].data[edema] > 600).mean() < 0.001


def test_one_head_stored_in_other_axes_is_the_same_head():
    lesion = {"id": 1, "where": FRONTAL, "diameters_mm": [9], "edema_mm": 3}
    plain, *others = (
        simulate([lesion], 1, orientation=o, spacing_mm=[1, 1.2, 2], oblique_deg=[8, 0, 5])[0]
        for o in ("RAS", "LPS", "PSR")
    )
    for name in ("tissue", "instances", "brain"):
        for other in others:
            expected, found = getattr(plain, name), getattr(other, name)
            back, affine = phantom.reorient(found.data, found.affine, "RAS")
            assert (back == expected.data).all()
            assert np.allclose(affine, expected.affine)
    assert nib.aff2axcodes(others[1].images[CONTRAST].affine) == tuple("PSR")
    assert plain.lesions.equals(others[1].lesions)


def test_the_marker_is_on_the_left():
    heads = [
        simulate([], 1, crop=None, spacing_mm=4, noise=0, motion_mm=0, brightness={"marker": m})[0].images[CONTRAST]
        for m in (0.03, 3.0)
    ]
    at = np.argwhere(heads[1].data > heads[0].data + 50)
    assert len(at)
    assert (nib.affines.apply_affine(heads[0].affine, at)[:, 0] < -55).all()
    # And the head is there.
    assert (heads[0].data > heads[0].data.max() / 8).mean() > 0.25


def test_what_happens_to_lesions_is_in_the_table():
    lesions = [
        {"id": 1, "where": FRONTAL, "diameters_mm": [8, 9, 8]},
        {"id": 2, "where": {"beside": 1, "distance_mm": 9}, "diameters_mm": [7, 9, 7],
         "merges_into": {"lesion": 1, "sessions": ["2"]}},
        {"id": 3, "where": [-36, -54, 34], "diameters_mm": [6, 0, 5]},
        {"id": 4, "where": [30, -58, 30], "diameters_mm": [0, 9, 7], "splits": {"sessions": ["3"], "gap_mm": 4}},
    ]  # fmt: skip
    sessions = simulate(lesions, 3, crop={"around": 1, "size_mm": [150, 190, 60]}, spacing_mm=2)
    events = pd.concat([s.lesions.set_index("lesion_id").event.rename(s.label) for s in sessions], axis=1)
    assert events.loc[1].tolist() == ["baseline", "persist", "persist"]
    assert events.loc[2].tolist() == ["baseline", "merged_into", "persist"]
    assert events.loc[3].tolist() == ["baseline", "absent", "reappeared"]
    assert events.loc[4].tolist() == ["n/a", "new", "split"]
    second = sessions[1].lesions.set_index("lesion_id")
    assert second.into[2] == 1
    assert not (sessions[1].instances.data == 2).any()
    assert second.vol_wl_mm3[1] > 1.5 * sessions[0].lesions.vol_wl_mm3[0]


def cohort_spec():
    return {
        "patients": [
            patient(
                [{"id": 1, "where": FRONTAL, "diameters_mm": [9, 12], "edema_mm": 3}], 2, sequences=[CONTRAST, "FLAIR"]
            )
            | {"expected": {"2": "PD"}}
        ]
    }


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    out = tmp_path_factory.mktemp("cohort")
    phantom.make_cohort(cohort_spec(), out, seed=3)
    return out


def test_the_truth_is_laid_out_as_the_evaluation_reads_it(cohort):
    truth, instances = (cohort / "derivatives" / name for name in ("truth", "truth-instances"))
    visits = list(inputs.read_sessions(inputs.find_maps(truth), masks=instances, bids=cohort))
    assert [visit.first for visit in visits] == [True, *[False] * (len(visits) - 1)]
    assert all(visit.brain.any() for visit in visits)
    assert any(np.isin(visit.truth.data, (1, 3)).any() for visit in visits)


def test_the_same_seed_makes_the_same_cohort_and_another_another(cohort, tmp_path):
    for seed, same in ((3, True), (4, False)):
        phantom.make_cohort(cohort_spec(), tmp_path / str(seed), seed=seed)
        scans = sorted(p.relative_to(cohort) for p in cohort.rglob("*T1w.nii.gz"))
        assert scans
        for scan in scans:
            a, b = images.read_image(cohort / scan), images.read_image(tmp_path / str(seed) / scan)
            assert (a.grid.matches(b.grid) and (a.data == b.data).all()) == same


def test_given_labels_are_the_only_segmentations_of_the_truth(cohort):
    assert len(list((cohort / "derivatives" / "truth").rglob("*_dseg.nii.gz"))) == 2
    assert len(list((cohort / "derivatives" / "truth").rglob("*.nii.gz"))) == 2
    folder = cohort / "derivatives" / "truth-instances"
    assert pd.read_csv(folder / "lesions.tsv", sep="\t").event.tolist() == ["baseline", "persist"]
    assert pd.read_csv(folder / "responses.tsv", sep="\t").expected.tolist() == ["PD"]


def test_the_cohort_is_valid_bids(cohort):
    validator = Path(sys.executable).parent / "bids-validator-deno"
    if not validator.exists():
        pytest.skip("bids-validator-deno is not installed")
    done = subprocess.run([validator, cohort, "--ignoreWarnings"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_facts_about_patients_and_visits_are_in_their_tables(tmp_path):
    treated = patient([], 2, **TINY) | {"participant": {"treatment_type": "srs;chemo"}}
    treated["sessions"][0]["clinical"] = {"clinical_status": "stable", "dexamethasone_equiv_mg_per_day": 4}
    treated["sessions"][1]["clinical"] = {"image_quality": "fail", "contrast": False}
    dated = patient([], 1, **TINY) | {"id": "Y", "participant": {"treatment_start_date": date(2020, 1, 8)}}
    phantom.make_cohort({"patients": [treated, dated]}, tmp_path, seed=3)
    assert (tmp_path / "participants.tsv").read_text().splitlines() == [
        "participant_id\ttreatment_start_date\ttreatment_type",
        "sub-X\tn/a\tsrs;chemo",
        "sub-Y\t2020-01-08\tn/a",
    ]
    table = pd.read_csv(tmp_path / "sub-X/sub-X_sessions.tsv", sep="\t", dtype=str, keep_default_na=False)
    assert table.drop(columns="acq_time").to_dict("list") == {
        "session_id": ["ses-1", "ses-2"],
        "image_quality": ["n/a", "fail"],
        "contrast": ["n/a", "false"],
        "dexamethasone_equiv_mg_per_day": ["4", "n/a"],
        "clinical_status": ["stable", "n/a"],
    }
    people = read_participants(tmp_path, pd.DataFrame({"sub": ["X", "Y"], "treatment_start_day": ["n/a", "7"]}))
    assert people["X"]["treatment_type"] == "srs;chemo"


def test_surgery_is_in_the_table_of_treatments(tmp_path):
    known = {"id": 1, "where": FRONTAL, "diameters_mm": [16, 0], "resection": {"date": date(2020, 1, 20)}}
    before = {"id": 2, "where": [-40, -60, 30], "diameters_mm": [0, 0]}
    before |= {"resection": {"date": date(2019, 5, 1), "diameter_mm": 16}}
    phantom.make_cohort({"patients": [patient([known, before], 2, **TINY)]}, tmp_path, seed=3)
    given = read_treatments(tmp_path, "X", ["1", "2"], Axis("date", date(2020, 1, 1), (0.0, 31.0)))
    assert (given.not_used, given.warnings) == ([], [])
    assert [(row["type"], row["day"], row["session_id"]) for row in given.rows] == [
        ("surgery", "19", "ses-1"),
        ("surgery", "-245", "n/a"),
    ]
    truth = images.read_labels(
        tmp_path / "derivatives/truth-instances/sub-X/ses-1/anat/sub-X_ses-1_desc-lesions_dseg.nii.gz"
    )
    point = [float(x) for x in given.rows[0]["target"].split(";")]
    place = np.rint(np.linalg.inv(truth.affine) @ [*point, 1]).astype(int)[:3]
    assert truth.data[tuple(place)] == 1
    assert given.rows[1]["target"] == "n/a"


def test_without_such_facts_the_tables_have_no_columns_for_them(cohort):
    assert (cohort / "participants.tsv").read_text() == "participant_id\nsub-X\n"
    assert (cohort / "sub-X/sub-X_sessions.tsv").read_text() == (
        "session_id\tacq_time\nses-1\t2020-01-01T00:00:00\nses-2\t2020-02-01T00:00:00\n"
    )


def test_a_part_of_brain_is_an_extracted_brain_that_moves_with_the_patient(tmp_path):
    lesion = {"id": 1, "where": FRONTAL, "diameters_mm": [9, 9]}
    settings = {"extent": "piece", "crop": {"around": FRONTAL, "size_mm": [52, 48, 44]}, "motion_deg": 8}
    first, second = simulate([lesion], 2, **settings)
    half = np.array([52, 48, 44]) / 2 - 3
    for session in (first, second):
        scan = session.images[CONTRAST]
        assert ((scan.data > 0) <= session.brain.data).all()
        assert session.brain.data[session.tissue.data > 0].all()
        assert session.brain.data.sum() == pytest.approx(4 / 3 * np.pi * half.prod(), rel=0.02)
        mask = find_brain(scan, "nonzero", hd_bet_weights="", device="cpu", threads=1)
        assert (mask.data == session.brain.data).mean() > 0.999
    assert (first.brain.data != second.brain.data).any(), "it turns in the field of view"
    phantom.make_cohort({"patients": [patient([lesion], 2, **settings)]}, tmp_path, seed=5)
    assert '"SkullStripped": true' in (tmp_path / f"sub-X/ses-1/anat/sub-X_ses-1_{CONTRAST}.json").read_text()
    for crop, complaint in ((None, "piece without crop"), ({"size_mm": 40}, "crop without around")):
        with pytest.raises(InputError, match=complaint):
            simulate([lesion], 2, extent="piece", crop=crop)


def test_a_crop_may_be_around_a_lesion_or_a_place():
    lesion = {"id": 1, "where": FRONTAL, "diameters_mm": [9]}
    one, other = (simulate([lesion], 1, crop={"around": around, "size_mm": 30})[0] for around in (1, FRONTAL))
    assert (one.images[CONTRAST].data == other.images[CONTRAST].data).all()
    assert one.brain.grid.matches(other.brain.grid)


def test_what_a_description_must_not_say_is_refused():
    lesion = {"id": 1, "where": FRONTAL, "diameters_mm": [9]}
    for settings in ({"clinical": {"mood": "good"}}, {"crop": {"around": 1, "mood": "good"}}):
        with pytest.raises(InputError, match="mood"):
            simulate([lesion], 1, **settings)
    with pytest.raises(InputError, match="shoe_size"):
        phantom.complete_patient(patient([lesion], 1) | {"participant": {"shoe_size": 43}}, {})
    with pytest.raises(InputError, match="colour"):
        simulate([{**lesion, "colour": "red"}], 1)
    with pytest.raises(InputError, match="one for each of 2 sessions"):
        simulate([lesion], 2)


def test_seeds_of_demonstrations_cannot_be_trained_on():
    with pytest.raises(InputError, match="1000000"):
        phantom.training_pair(phantom.FIRST_TRAINING_SEED - 1)


def test_a_training_pair_is_two_visits_on_one_grid():
    first, second = phantom.training_pair(phantom.FIRST_TRAINING_SEED + 3, spacing_mm=4)
    images.require_same_grid(
        *first.images.values(), *second.images.values(), first.tissue, second.instances, second.brain
    )
    assert (first.brain.data == second.brain.data).mean() > 0.97
    rim = first.images[CONTRAST].data[~first.brain.data]
    assert (rim > first.images[CONTRAST].data[first.brain.data].mean() / 2).any(), "skull and scalp are there"


def test_the_demonstration_and_random_cohorts_are_well_formed():
    drawn = phantom.random_cohort_spec(20, 3, np.random.default_rng(1))
    demos = [yaml.safe_load((ROOT / "config" / f"phantom_{n}.yaml").read_text()) for n in ("demo", "responses")]
    for cohort in (*demos, drawn):
        for spec in cohort["patients"]:
            phantom.complete_patient(spec, cohort.get("defaults", {}))
    lesions = [entry for p in drawn["patients"] for entry in p["lesions"]]
    assert 40 < np.median([max(entry["volumes_mm3"]) for entry in lesions]) < 700


def resected(resection, diameters_mm, *, recurrence=(), seed=5, **settings):
    """A lesion of the frontal lobe that was resected, scanned without noise and without moving."""
    still = {"noise": 0, "bias": 0, "grain": 0, "scale": 1000, "contrast_spread": 0}
    still |= {"motion_mm": 0, "motion_deg": 0, "atrophy_mm": 0, "shake_mm": 0, "crop": {"around": 1, "size_mm": 80}}
    entries = [{"id": 1, "where": FRONTAL, "diameters_mm": diameters_mm, "kind": "ring", "resection": resection}]
    if recurrence:
        entries.append({"id": 2, "where": {"margin_of": 1}, "diameters_mm": list(recurrence)})
    described = patient(entries, len(diameters_mm), **(still | settings))
    return list(phantom.simulate_patient(described, seed=seed))


@pytest.fixture(scope="module")
def operated():
    """Sessions before the operation, and 12, 41 and 72 days after it."""
    return resected({"date": "2020-01-20"}, [22, 0, 0, 0], recurrence=[0, 0, 5, 7], sequences=[CONTRAST, "T1w"])


@pytest.fixture(scope="module")
def quiet():
    """Eight months after the operation."""
    return resected({"date": "2019-05-01", "diameter_mm": 24}, [0], sequences=[CONTRAST, "T1w"])[0]


def around(mask, near_mm, far_mm):
    """Voxels (of 1 mm) whose distance to a mask is more than one and at most the other."""
    distance = distance_transform_edt(~mask)
    return (distance > near_mm) & (distance <= far_mm)


def test_a_cavity_takes_the_place_of_the_resected_lesion(operated):
    before, after = operated[:2]
    lesion, cavity = before.instances.data == 1, after.tissue.data == images.CAVITY
    assert not (before.tissue.data == images.CAVITY).any()
    assert cavity[lesion].mean() > 0.85
    assert lesion.sum() < cavity.sum() < 2.2 * lesion.sum()
    assert not after.instances.data.any()
    assert not np.isin(after.tissue.data, (images.ENHANCING, images.NECROSIS)).any()
    assert after.lesions.event.tolist() == ["absent", "n/a"]


def test_a_cavity_shrinks_from_visit_to_visit(operated):
    sizes = [(session.tissue.data == images.CAVITY).sum() for session in operated[1:]]
    assert 0.5 < sizes[1] / sizes[0] < 0.8
    assert 0.6 < sizes[2] / sizes[1] < 0.9


def test_a_recurrence_is_a_new_lesion_that_touches_the_cavity(operated):
    for session, asked, event in zip(operated[2:], (5, 7), ("new", "persist")):
        nodule = session.instances.data == 2
        assert (session.tissue.data[nodule] == images.ENHANCING).all()
        assert asked - 2 < longest_axial_mm(nodule, session.instances.spacing_mm) < asked + 0.7
        assert (around(nodule, 0, 1) & (session.tissue.data == images.CAVITY)).sum() > 3
        assert session.lesions.event.tolist() == ["absent", event]


def test_an_old_cavity_is_dark_fluid_in_brain(quiet):
    cavity, scan = quiet.tissue.data == images.CAVITY, quiet.images[CONTRAST].data
    inside = cavity & ~around(~cavity, 0, 1)
    brain = around(cavity, 4, 8) & quiet.brain.data
    assert np.percentile(scan[inside], 99) < 0.7 * np.median(scan[brain])


def test_the_lining_takes_up_contrast_agent_and_is_no_tumour(operated):
    session = operated[1]
    cavity = session.tissue.data == images.CAVITY
    gain = session.images[CONTRAST].data - session.images["T1w"].data
    lining, beyond = around(cavity, 0, 1) & session.brain.data, around(cavity, 4, 8) & session.brain.data
    assert gain[lining].mean() > gain[beyond].mean() + 150
    assert not np.isin(session.tissue.data[lining], (images.ENHANCING, images.NECROSIS)).any()


def test_blood_in_a_cavity_is_bright_without_agent_and_is_resorbed(operated, quiet):
    early, late = (s.images["T1w"].data[s.tissue.data == images.CAVITY] for s in (operated[1], quiet))
    # White matter is at 1000.
    assert (early > 1100).mean() > 0.03
    assert (late > 1100).mean() < 0.001


def test_air_rises_and_blood_settles():
    session = resected({"date": "2020-01-29"}, [26, 0], sequences=["T1w"], seed=10)[1]
    cavity, scan = session.tissue.data == images.CAVITY, session.images["T1w"].data
    height = np.argwhere(cavity)[:, 1]
    air, blood = scan[cavity] < 100, scan[cavity] > 900
    assert min(air.sum(), blood.sum()) > 100
    assert height[air].min() > np.median(height) > np.median(height[blood])


def test_a_cavity_may_be_open_to_the_surface_but_stays_in_the_brain():
    for is_open in (True, False):
        session = resected({"date": "2019-12-01", "diameter_mm": 20, "open": is_open}, [0])[0]
        cavity = session.tissue.data == images.CAVITY
        assert cavity.sum() > 1000
        assert session.brain.data[cavity].all()
        assert (around(~session.brain.data, 0, 2) & cavity).any() == is_open


def test_a_resection_changes_nothing_elsewhere():
    other = {"id": 3, "where": [-36, -54, 34], "diameters_mm": [8, 9], "edema_mm": 3}
    there = {"crop": {"around": 3, "size_mm": 30}}
    with_it, without = (
        [*phantom.simulate_patient(patient([{"id": 1, "where": FRONTAL, **one}, other], 2, **there), seed=5)]
        for one in ({"diameters_mm": [9, 0], "resection": {"date": "2020-01-20"}}, {"diameters_mm": [9, 0]})
    )
    for one, two in zip(with_it, without):
        assert (one.images[CONTRAST].data == two.images[CONTRAST].data).all()
        assert (one.tissue.data == two.tissue.data).all()


def test_without_resections_all_is_as_before_there_were_any():
    lesion = {"id": 1, "where": FRONTAL, "diameters_mm": [9, 12], "kind": "ring", "edema_mm": 3}
    sessions = simulate([lesion], 2)
    assert [session.images[CONTRAST].data.mean() for session in sessions] == pytest.approx(
        [440.98581, 348.58340], rel=1e-5
    )
    assert [np.bincount(session.tissue.data.ravel()).tolist()[1:] for session in sessions] == [
        [177, 1006, 62],
        [427, 1550, 166],
    ]
    drawn = phantom.random_cohort_spec(2, 2, np.random.default_rng(1))["patients"]
    assert [entry["volumes_mm3"] for entry in drawn[0]["lesions"]] == [[24.2, 26.6], [83.0, 0.0]]


def test_resections_that_cannot_be_are_refused():
    day = {"date": "2020-01-20"}
    for resection, sizes, complaint in (
        ({}, [9, 0], "no date"),
        (day, [9, 4], "0 at every session after"),
        (day, [0, 0], "or diameter_mm"),
        ({**day, "surgeon": "good"}, [9, 0], "surgeon"),
    ):
        lesion = {"id": 1, "where": FRONTAL, "diameters_mm": sizes, "resection": resection or {"margin_mm": 1}}
        with pytest.raises(InputError, match=complaint):
            phantom.complete_patient(patient([lesion], 2), {})
    once = {"id": 1, "where": FRONTAL, "diameters_mm": [9, 0]}
    for lesion, sizes in ((once, [0, 5]), ({**once, "resection": day}, [3, 5])):
        again = {"id": 2, "where": {"margin_of": 1}, "diameters_mm": sizes}
        with pytest.raises(InputError, match="id of a resected lesion"):
            phantom.complete_patient(patient([lesion, again], 2), {})


def test_the_cohort_of_resections_holds_what_it_promises():
    cohort = yaml.safe_load((ROOT / "config" / "phantom_resection.yaml").read_text())
    patients = [phantom.complete_patient(spec, {}) for spec in cohort["patients"]]
    assert len(patients) == 8
    days = [entry["resection"]["days"] for p in patients for entry in p["lesions"] if entry["resection"]]
    assert len(days) == 8
    assert all(last > 0 for _, last in days)
    assert sum(first > 0 for first, _ in days) == 3
    assert min(map(max, days)) < 14 and max(map(max, days)) > 180
    recurred = [e["diameters_mm"] for p in patients for e in p["lesions"] if "margin_of" in e["where"]]
    assert sorted(last for _, last in recurred) == [3.5, 6, 9, 14]
    assert not any(first for first, _ in recurred)
