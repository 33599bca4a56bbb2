"""The whole pipeline with its real tools on small phantoms: what happens to data that are not as they should be.

The brains here are no larger than a plum, so that a visit takes seconds a stage; accuracy is not what this is about.
"""

import json
import os
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from browser import CHROMIUM, Browser, decide
from mettrail import schema
from mettrail.schema import read_table
from plums import CE, ROOT, SHAPE, add_visit, bids_errors, jobs_of, plum, run, start_dataset, table_of, write
from scipy import ndimage

# What shows results, from the pictures of a session on.
# What follows from a patient's response, and what shows it.
AFTER = ("tables", "report_lesions", "report_patient", "report")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A grows and gains a lesion; B has none; C has one visit; D has a scan nobody can read between two good ones."""
    folder = tmp_path_factory.mktemp("walk")
    start_dataset(folder)
    add_visit(folder, "A", "1", *plum(1, [((8, 4, 2), 12)]))
    add_visit(folder, "A", "2", *plum(2, [((8, 4, 2), 18), ((-10, -8, 3), 7)], shift=(2, -1, 1)))
    add_visit(folder, "B", "1", *plum(3))
    add_visit(folder, "B", "2", *plum(4))
    add_visit(folder, "C", "1", *plum(5, [((-8, 6, -4), 11)]))
    add_visit(folder, "D", "1", *plum(6, [((6, -9, 4), 12)]))
    add_visit(folder, "D", "2", np.stack([plum(7)[0]] * 2, -1))
    add_visit(folder, "D", "3", *plum(8, [((6, -9, 4), 8)]))
    for visit, diameter in enumerate((14, 9, 7), start=1):
        add_visit(folder, "G", str(visit), *plum(40 + visit, [((8, 4, 2), diameter)], shift=(visit, 0, -1)))
    done = run(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "EXCLUDED sub-D_ses-2: not_3d" in done.stderr
    return folder


def test_a_growing_lesion_keeps_its_number_and_a_new_one_is_new(cohort):
    lesions = table_of(cohort, "lesions").query("participant_id == 'sub-A'").set_index(["session_id", "track_id"])
    assert lesions["event"].to_dict() == {
        ("ses-1", "L001"): "baseline", ("ses-2", "L001"): "persist", ("ses-2", "L002"): "new",
    }  # fmt: skip
    assert lesions.loc[("ses-2", "L001"), "vol_wl_mm3"] == pytest.approx(np.pi / 6 * 18**3, rel=0.05)
    sessions = table_of(cohort, "sessions").query("participant_id == 'sub-A'").set_index("session_id")
    assert sessions.loc["ses-2", "response_imaging_final"] == "PD"


def test_patients_without_lesions_or_with_one_visit_are_in_the_tables(cohort):
    patients = table_of(cohort, "patients").set_index("participant_id")
    assert patients["n_tracks_total"].to_dict() == {"sub-A": 2, "sub-B": 0, "sub-C": 1, "sub-D": 1, "sub-G": 1}
    assert patients["n_sessions"].to_dict() == {"sub-A": 2, "sub-B": 2, "sub-C": 1, "sub-D": 3, "sub-G": 3}
    for sub in "ABCDG":
        assert (cohort / "out" / f"sub-{sub}.html").stat().st_size > 1000


def test_a_scan_nobody_can_read_makes_its_visit_not_evaluable_and_no_other(cohort):
    sessions = table_of(cohort, "sessions").query("participant_id == 'sub-D'").set_index("session_id")
    assert sessions["evaluable"].to_dict() == {"ses-1": True, "ses-2": False, "ses-3": True}
    assert sessions.loc["ses-2", "ne_reason"] == "not_3d"
    assert sessions.loc["ses-3", "response_imaging_final"] == "PR"
    lesions = table_of(cohort, "lesions").query("participant_id == 'sub-D'").set_index("session_id")
    assert lesions["status"].to_dict() == {"ses-1": "present", "ses-2": "not_evaluable", "ses-3": "present"}
    page = (cohort / "out" / "index.html").read_text()
    assert "4-D file" in page


def test_results_are_a_bids_dataset(cohort):
    assert bids_errors(cohort / "out") == []
    described = json.loads((cohort / "out" / "dataset_description.json").read_text())
    assert described["DatasetLinks"] == {"raw": "../bids", "labels": "../masks"}
    assert described["GeneratedBy"][0]["Name"] == "mettrail"


def test_itksnap_has_the_names_and_colours_of_the_tables(cohort):
    """Seven numbers and a name in quotes a line, as its manual has it."""
    out = cohort / "out"
    for kind, tables in (("lesions", out.glob("sub-*/ses-*/anat/*_desc-lesions_dseg.tsv")),
                         ("tissue", [out / "desc-tissue_dseg.tsv"])):  # fmt: skip
        known = dict(
            re.findall(r'^(\d+ \d+ \d+ \d+) 1 1 1 "(\w+)"$', (out / f"desc-{kind}_itksnap.txt").read_text(), re.M)
        )
        rows = pd.concat([pd.read_csv(path, sep="\t") for path in tables])
        assert len(rows)
        for row in rows.itertuples():
            colour = " ".join(str(int(row.color[i : i + 2], 16)) for i in (1, 3, 5))
            assert known[f"{row[1]} {colour}"] == row.name


def test_slicer_has_the_lesions_of_each_session(cohort):
    for names in (cohort / "out").glob("sub-*/ses-*/anat/*_desc-lesions_dseg.tsv"):
        header = names.with_name(names.name.replace("_dseg.tsv", ".seg.nrrd")).read_bytes().split(b"\n\n")[0].decode()
        assert header.startswith("NRRD") and "type: uint8" in header
        assert re.findall(r"^Segment\d+_Name:=(.*)$", header, re.M) == [*pd.read_csv(names, sep="\t")["name"]]


def test_every_image_says_what_it_is_made_of_and_in_whose_space_it_is(cohort):
    out = cohort / "out"
    links = json.loads((out / "dataset_description.json").read_text())["DatasetLinks"]
    roots = {"": out} | {name: out / link for name, link in links.items()}

    def exists(uri):
        _, name, path = uri.split(":", 2)
        return (roots[name] / path).exists()

    pictures = [path for path in out.glob("sub-*/ses-*/anat/*.nii.gz") if not path.name.endswith("_xfm.nii.gz")]
    assert len(pictures) > 50
    for picture in pictures:
        said = json.loads(Path(str(picture).replace(".nii.gz", ".json")).read_text())
        assert said["Sources"], picture
        assert all(map(exists, [*said["Sources"], said["SpatialReference"]])), picture
        sub, ses = picture.name.split("_")[:2]
        assert said["SpatialReference"] == f"bids:raw:{sub}/{ses}/anat/{sub}_{ses}_{CE}.nii.gz"
        assert nib.load(picture).header.get_xyzt_units()[0] == "mm"


def test_every_label_map_has_a_table_of_its_labels_with_colours(cohort):
    out = cohort / "out"
    tissue = pd.read_csv(out / "desc-tissue_dseg.tsv", sep="\t")
    names = [(1, "enhancing"), (2, "edema"), (3, "necrosis"), (4, "cavity")]
    assert list(tissue[["index", "name"]].itertuples(index=False, name=None)) == names
    for table in [*out.glob("sub-*/ses-*/anat/*_desc-lesions_dseg.tsv"), out / "desc-tissue_dseg.tsv"]:
        rows = pd.read_csv(table, sep="\t")
        assert list(rows) == ["index", "name", "color"]
        assert rows["color"].str.fullmatch("#[0-9a-f]{6}").all()
    names = pd.concat(pd.read_csv(path, sep="\t") for path in out.glob("sub-A/ses-*/anat/*_desc-lesions_dseg.tsv"))
    assert names.groupby("name")["color"].nunique().eq(1).all(), "a lesion has one colour at all sessions"


def test_every_table_says_which_version_and_settings_made_it(cohort):
    out = cohort / "out"
    (hash_,) = set(table_of(cohort, "patients")["config_hash"])
    tables = [*out.glob("tables/*.json"), out / "participants.json", *out.glob("sub-*/sub-*_sessions.json")]
    assert len(tables) == 4 + 1 + 5
    for table in tables:
        (made,) = json.loads(table.read_text())["GeneratedBy"]
        assert (made["Name"], made["Description"]) == ("mettrail", f"settings {hash_}")


def test_the_method_says_what_this_run_did(cohort):
    text = (cohort / "out" / "CITATION.md").read_text()
    for words in (
        "10 sessions of 5 patients",
        "all 10 sessions were segmented manually",
        "In 5 sessions the reference",
    ):
        assert words in text, words
    for words in ("nnU-Net", "HD-BET", "deepbet", "ANTs", "Isensee", "Fisch"):
        assert words not in text, words
    page = (cohort / "out" / "index.html").read_text()
    assert "all 10 sessions were segmented manually" in page
    assert "HD-BET" not in page.replace("hd-bet", "").split("All settings of this run")[0]
    bibtex = (cohort / "out" / "references.bib").read_text()
    assert set(re.findall(r"@\w+\{(\w+),", bibtex)) == set(re.findall(r"@(\w+)[;\]]", text))
    assert "CITATION.md" in (cohort / "out" / "README.md").read_text()


def test_the_second_run_has_nothing_to_do(cohort):
    assert "Nothing to be done" in run(cohort, "--dry-run").stdout


def test_results_from_another_folder_count_if_nothing_has_changed(cohort, tmp_path):
    done = run(cohort, "--dry-run", cwd=tmp_path)
    assert "Nothing to be done" in done.stdout + done.stderr
    assert "all are made again" not in done.stderr
    done = run(cohort, "--dry-run", "--config", "rano={'pr': 0.31}", cwd=tmp_path)
    assert "all are made again" in done.stderr


def test_a_changed_setting_reruns_what_depends_on_it_and_nothing_else(cohort):
    done = run(cohort, "--dry-run", "--config", "match={'gap_mm': 4}")
    assert set(jobs_of(done)) == {"match", "assess", "report_session", *AFTER, "all", "total"}
    done = run(cohort, "--dry-run", "--config", "rano={'pr': 0.31}")
    assert set(jobs_of(done)) == {"assess", *AFTER, "all", "total"}
    done = run(cohort, "--dry-run", "--config", "register={'greedy': {'iterations': [20, 10]}}")
    assert "register" in jobs_of(done)
    assert not {"register_reference", "strip", "preprocess", "measure"} & set(jobs_of(done))


def test_a_new_visit_costs_one_visit(cohort):
    add_visit(cohort, "C", "2", *plum(9, [((-8, 6, -4), 9)]))
    try:
        jobs = jobs_of(run(cohort, "--dry-run"))
        single = {name: n for name, n in jobs.items() if name not in ("all", "total")}
        assert set(single.values()) == {1}, single
        assert {"debias", "register", "match", "assess", "report"} <= set(single)
    finally:
        shutil.rmtree(cohort / "bids/sub-C/ses-2")
        shutil.rmtree(cohort / "masks/sub-C/ses-2")
        (cohort / "bids/sub-C/sub-C_sessions.tsv").write_text("session_id\tdays_from_baseline\nses-1\t0\n")


def test_labels_of_one_session_redrawn_rerun_only_what_is_downstream(cohort):
    path = cohort / "masks/sub-B/ses-2/anat/sub-B_ses-2_dseg.nii.gz"
    kept = path.read_bytes(), path.stat()
    write(path, plum(4, [((5, 5, 5), 9)])[1])
    try:
        jobs = jobs_of(run(cohort, "--dry-run"))
        downstream = ["segment_fuse", "measure", "match", "assess", "report_session", *AFTER]
        assert jobs == dict.fromkeys([*downstream, "all"], 1) | {"total": len(downstream) + 1}
    finally:
        path.write_bytes(kept[0])
        os.utime(path, ns=(kept[1].st_atime_ns, kept[1].st_mtime_ns))


def test_a_fourth_visit_runs_only_its_jobs_and_changes_no_earlier_cell(cohort):
    """A finished patient with three visits gets one more: its own jobs, the tables and pages of patient and cohort."""
    kinds = ("lesions", "sessions")
    before = {kind: read_table(cohort / "out/tables" / f"{kind}.csv", kind) for kind in kinds}
    made = {path: path.stat().st_mtime_ns for path in (cohort / "out").glob("sub-*/**/*") if path.is_file()}
    add_visit(cohort, "G", "4", *plum(44, [((8, 4, 2), 15), ((-9, -8, 3), 8)]))
    done = run(cohort)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = jobs_of(done)
    units = re.findall(r"^    log: .*/logs/(\w+)/([\w-]+)\.log", done.stdout + done.stderr, re.MULTILINE)
    assert {unit for _, unit in units} == {"sub-G_ses-4", "sub-G", "cohort"}
    assert {name: n for name, n in jobs.items() if n > 1} == {"total": len(units) + 1}
    touched = {path for path, time in made.items() if path.stat().st_mtime_ns != time}
    assert {path.parent.name for path in touched} == {"sub-G"}
    for kind in kinds:
        keys = list(schema.KEYS[kind])
        kept = keys + [column.name for column in schema.KINDS[kind] if not column.revisable and column.name not in keys]
        now = read_table(cohort / "out/tables" / f"{kind}.csv", kind)
        now = now.merge(before[kind][keys])
        pd.testing.assert_frame_equal(now[kept], before[kind][kept])
    sessions = table_of(cohort, "sessions").query("participant_id == 'sub-G'").set_index("session_id")
    assert sessions["response_imaging_final"].tolist()[1:] == ["PR", "PR", "PD"]


def override(folder, sub, *rows):
    path = folder / "bids" / f"sub-{sub}" / f"sub-{sub}_desc-lesions_overrides.tsv"
    path.write_text("\n".join("\t".join(row) for row in [("session_id", "track_id", "field", "value"), *rows]) + "\n")
    return path


def written_by_form(page):
    """The same decisions, as the form on the patient's page writes them."""
    with Browser() as browser:
        browser.open(page)
        decide(browser, field="ld_mm", track_id="L001", session_id="ses-2", number="12", reader="R", why="motion")
        decide(browser, field="new_status", track_id="L002", word="rejected")
        return browser.run("document.querySelector('.rows').value")


def test_a_readers_decision_reruns_the_response_alone(cohort):
    path = override(cohort, "A", ("ses-2", "L001", "ld_mm", "12"), ("n/a", "L002", "new_status", "rejected"))
    if CHROMIUM:
        path.write_text(written_by_form(cohort / "out/sub-A.html"))
    done = run(cohort)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(jobs_of(done)) == {"assess", *AFTER, "all", "total"}
    sessions = table_of(cohort, "sessions").set_index(["participant_id", "session_id"])
    assert sessions.loc[("sub-A", "ses-2"), ["response_imaging_final", "sum_ld_mm"]].tolist() == ["SD", 12]
    override(cohort, "A", ("n/a", "L007", "exclude", "true"))
    done = run(cohort)
    assert done.returncode != 0
    assert str(path) in done.stderr
    assert "lesion L007" in done.stderr
    sessions = table_of(cohort, "sessions").set_index(["participant_id", "session_id"])
    assert set(sessions.loc["sub-A", "ne_reason"]) == {"failed_assess"}
    assert sessions.loc["sub-G", "evaluable"].all(), "the rest of the cohort is finished"
    path.unlink()
    assert run(cohort).returncode == 0
    sessions = table_of(cohort, "sessions").set_index(["participant_id", "session_id"])
    assert sessions.loc[("sub-A", "ses-2"), "response_imaging_final"] == "PD"


def test_a_late_scan_changes_neither_lesion_ids_nor_the_reference_space(cohort, tmp_path):
    shutil.copytree(cohort / "out", tmp_path / "earlier")
    add_visit(cohort, "C", "0", *plum(50, [((-8, 6, -4), 8), ((9, -7, 3), 13)], shift=(1, 1, 0)))
    table = "out/sub-C/sub-C_desc-lesions_trajectories.tsv"
    frozen = run(cohort, "--config", f"frozen={tmp_path / 'earlier'}", "--", cohort / table)
    assert frozen.returncode == 0, frozen.stdout + frozen.stderr
    rows = read_table(cohort / table, "lesions").set_index(["session_id", "track_id"])
    assert rows["event"].to_dict() == {
        ("ses-0", "L001"): "baseline", ("ses-0", "L002"): "baseline", ("ses-1", "L001"): "persist",
        ("ses-1", "L002"): "absent",
    }  # fmt: skip
    assert rows.loc[("ses-0", "L001"), "esd_mm"] == pytest.approx(8, rel=0.1)
    registry = json.loads((cohort / "out/sub-C/ses-0/anat/sub-C_ses-0_desc-lesions_registry.json").read_text())
    assert registry["reference"]["session_id"] == "ses-1"


def test_a_job_that_fails_takes_out_its_visit_and_the_rest_finishes(tmp_path):
    """A model whose weights were cut short: the visit that needs it fails, all others and the tables are made."""
    for ses, diameter in (("1", 12), ("2", 12), ("3", 11)):
        add_visit(tmp_path, "E", ses, *plum(20 + int(ses), [((8, 4, 2), diameter)]))
    add_visit(tmp_path, "F", "1", *plum(30, [((8, 4, 2), 12)]))
    # The middle visit alone has no mask.
    shutil.rmtree(tmp_path / "masks/sub-E/ses-2")
    model = tmp_path / "model"
    shutil.copytree(ROOT / "resources/models/detection", model)
    (model / "fold_0/weights.safetensors").write_bytes(b"cut short")
    done = run(tmp_path, "--config", f"segment={{'models': {{'detection': '{model}'}}}}")
    assert done.returncode != 0
    text = done.stdout + done.stderr
    assert "FAILED segment of sub-E_ses-2" in text
    assert "sha256" in text
    sessions = table_of(tmp_path, "sessions").set_index(["participant_id", "session_id"])
    assert sessions["evaluable"].to_dict() == {
        ("sub-E", "ses-1"): True, ("sub-E", "ses-2"): False, ("sub-E", "ses-3"): True, ("sub-F", "ses-1"): True,
    }  # fmt: skip
    assert sessions.loc[("sub-E", "ses-2"), "ne_reason"] == "failed_segment"
    lesions = table_of(tmp_path, "lesions").query("participant_id == 'sub-E'")
    assert set(lesions["track_id"]) == {"L001"}
    assert "failed segment" in (tmp_path / "out/index.html").read_text()


def test_edges_and_confidence_are_those_that_the_model_names(tmp_path):
    start_dataset(tmp_path)
    for session in ("1", "2"):
        add_visit(tmp_path, "H", session, plum(60, [((8, 4, 2), 12)])[0])
    model = tmp_path / "model"
    shutil.copytree(ROOT / "resources/models/detection", model)
    described = json.loads((model / "mettrail.json").read_text())
    labels = tmp_path / "out/sub-H/ses-1/anat/sub-H_ses-1_desc-tissue_dseg.nii.gz"
    settings = (f"segment={{'models': {{'detection': '{model}'}}}}", "labels={'folder': ''}")
    evidence = labels.with_name(labels.name.replace("desc-tissue_dseg.nii.gz", "desc-components_dseg.tsv"))
    propagated = tmp_path / "out/sub-H/ses-2/anat/sub-H_ses-2_res-1mm_desc-prior_dseg.nii.gz"
    found, sure, prior = {}, {}, {}
    for edge, intercept in ((described["threshold"], 5.0), (0.01, -50.0)):
        stage = described["calibration"] | {"intercept": intercept}
        (model / "mettrail.json").write_text(json.dumps(described | {"edge_threshold": edge, "calibration": stage}))
        done = run(tmp_path, "--config", *settings, "--", labels, propagated)
        assert done.returncode == 0, done.stdout + done.stderr
        prior[intercept] = np.isin(np.asarray(nib.load(propagated).dataobj), (1, 3))
        found[edge] = np.isin(np.asarray(nib.load(labels).dataobj), (1, 3))
        sure[intercept] = pd.read_csv(evidence, sep="\t")
    (certain, doubtful), (narrow, wide) = sure.values(), found.values()
    assert certain["confidence"].min() > 0.9
    assert set(certain["certainty"]) == {"confirmed"}
    assert doubtful["confidence"].max() < 0.01
    assert set(doubtful["certainty"]) == {"candidate"}
    # Confirmed lesions are propagated, candidates are not.
    assert [mask.any() for mask in prior.values()] == [True, False]
    assert narrow.any()
    assert wide[narrow].all()
    assert wide.sum() > 1.2 * narrow.sum()


def test_flair_gives_edema_alone_and_one_that_fails_takes_nothing_else(tmp_path):
    """The first session's FLAIR shows edema; one lies on no scan, one is mirrored, one is T2w."""
    start_dataset(tmp_path)
    # A plum is smooth, which the correction of bias leaves little of: here are gyri, too.
    gyri = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal(SHAPE), 1.5)
    scans = [plum(70 + n, [((8, 4, 2), 12)]) for n in range(4)]
    scans = [
        (np.where((scan > 0) & (lesion == 0), scan + 15 * gyri / gyri.std(), scan), lesion) for scan, lesion in scans
    ]
    for ses, (scan, _) in zip("1234", scans):
        add_visit(tmp_path, "J", ses, scan.astype(np.float32))

    def flair_of(t1w, lesion):
        around = (ndimage.distance_transform_edt(lesion == 0) < 6) & (t1w > 0)
        # Fluid, which a plum has none of, would be darker; grey matter is a little brighter than white.
        return np.where(t1w > 0, np.where(around, 700, 500 - t1w), 0).astype(np.float32)

    nonsense = np.random.default_rng(1).uniform(50, 100, SHAPE).astype(np.float32)
    t2w = np.where(scans[3][0] > 0, 260 - 1.6 * scans[3][0], 0).clip(0).astype(np.float32)
    for ses, image in zip("1234", (flair_of(*scans[0]), nonsense, flair_of(*scans[2])[::-1], t2w)):
        write(tmp_path / f"bids/sub-J/ses-{ses}/anat/sub-J_ses-{ses}_FLAIR.nii.gz", image)
    done = run(tmp_path, "--config", "labels={'folder': ''}", "--", "tables")
    text = done.stdout + done.stderr
    assert "FAILED preprocess of sub-J_ses-2" in text
    sessions = table_of(tmp_path, "sessions").set_index("session_id")
    assert sessions["evaluable"].to_dict() == {"ses-1": True, "ses-2": True, "ses-3": True, "ses-4": True}
    said = sessions["flags"].str.extract("FLAIR_([a-z_]+)")[0].fillna("")
    reasons = {"ses-1": "", "ses-2": "sequence_failed", "ses-3": "mirrored", "ses-4": "other_sequence"}
    assert said.to_dict() == reasons
    # The texture of a plum may be another lesion to the networks.
    lesions = table_of(tmp_path, "lesions").query("track_id == 'L001'").set_index("session_id")
    assert (lesions["vol_wl_mm3"] > 500).all()
    assert lesions["vol_ed_mm3"].isna().to_dict() == {"ses-1": False, "ses-2": True, "ses-3": True, "ses-4": True}
    assert lesions.loc["ses-1", "vol_ed_mm3"] > 200
    with_edema = table_of(tmp_path, "lesions")["vol_wl_mm3"]
    without = ("segment={'models': {'edema': []}}", "labels={'folder': ''}")
    assert run(tmp_path, "--config", *without, "--", "tables").returncode == 0
    lesions = table_of(tmp_path, "lesions")
    assert lesions["vol_ed_mm3"].isna().all()
    assert lesions["vol_wl_mm3"].tolist() == with_edema.tolist()


def test_resection_cavities_are_listed_and_in_no_sum(tmp_path):
    """Masks in the numbers of BraTS 2025: beside the lesion lies a cavity at the first session, none at the second."""
    start_dataset(tmp_path)
    for ses in "12":
        scan, labels = plum(80 + int(ses), [((8, 4, 2), 12)])
        cavity = (ndimage.distance_transform_edt(labels == 0) < 7) & (labels == 0) & (np.indices(labels.shape)[0] > 36)
        theirs = np.where(labels == 1, 3, 4 * (cavity & (ses == "1"))).astype(np.uint8)
        add_visit(tmp_path, "K", ses, scan, theirs)
    labels = f"labels={{'folder': '{tmp_path}/masks', 'scheme': 'brats2025'}}"
    done = run(tmp_path, "--config", labels, "--", "tables")
    assert done.returncode == 0, done.stdout + done.stderr
    sessions = table_of(tmp_path, "sessions").set_index("session_id")
    assert sessions["cavity_ml"].isna().to_dict() == {"ses-1": False, "ses-2": True}
    assert sessions.loc["ses-1", "cavity_ml"] > 0.3
    assert sessions["total_vol_wl_ml"].nunique() == sessions["sum_ld_mm"].nunique() == 1
    lesions = table_of(tmp_path, "lesions")
    assert lesions["vol_wl_mm3"].tolist() == [(theirs == 3).sum()] * 2
