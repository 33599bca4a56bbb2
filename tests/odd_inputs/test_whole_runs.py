"""Some of the rows through the whole pipeline, on brains the size of a plum with masks given.

One undisturbed run, one with all disturbed patients beside the two witnesses, one for masks in another scheme, and one
start for every row that has to be refused.
"""

import csv
import dataclasses
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import warm
from mettrail import cohort
from plums import plum

from odd_inputs import masks, scans, tables, where
from odd_inputs.making import CE, TABLES, Cohort, fresh, listing, make_undisturbed, scan_path

ROOT = Path(__file__).parents[2]
ROWS = {row.name: row for row in [*where.ROWS, *tables.ROWS, *scans.ROWS, *masks.ROWS]}
TARGET, NEW = (8, 4, 2), (-10, -8, 3)
PLUMS = {
    "01": {"01": plum(1, [(TARGET, 14)]), "02": plum(2, [(TARGET, 9), (NEW, 8)], shift=(1, 0, -1))},
    "02": {"02": plum(3, [(TARGET, 12)]), "01": plum(4, [(TARGET, 8)], shift=(0, 1, 1))},
    "03": {"01": plum(5, [((-8, 6, -4), 11)])},
}

# Patients: what is done to each, and what the response at the second session has to be (PD where nothing is lost).
PATIENTS = {
    "101": ("PD", [
        "a USB disk left ._ beside a scan", ".DS_Store in every folder", "the dataset's old state lies in rawdata_old/",
        "a template lies in template/anat", "scans of the same name lie in sourcedata", "a broken image lies in dwi",
        "a scan of sub-01 was copied into sub-02's folder", "a row for nobody", "an image for which there is no role",
        "a hidden copy of a scan", "a link in anat goes round in a circle"]),
    "102": ("PD", ["the dose is '4 mg'", "kps is 'good'", "sessions.tsv with line ends of Windows and a mark"]),
    "103": ("PD", ["four dimensions, one volume", "masks: a spacing of 1.00001", "gzip of two members",
                   "a session's folder is a link"]),
    "104": ("uPD", ["treatment_type is 'Immunotherapy'"]),
    "105": ("PD", ["the dates are in scans.tsv, sessions.tsv says n/a", "masks: one is called _mask"]),
    "106": ("NE", ["gzip with flipped bits"]),
    "107": ("NE", ["z-scored"]),
    "108": ("NE", ["a scan was not fetched"]),
    "109": ("NE", ["contrast is 'FALSE'"]),
    "110": ("NE", ["image_quality is 'Fail'"]),
    "111": ("NE", ["masks: necrosis alone"]),
    "112": ("NE", ["a visit was put aside in excluded/"]),
    "113": ("NE", ["absurd dimensions"]),
    "114": ("NE", ["a session is labelled with its date"]),
    "115": ("NE", ["sessions.tsv with semicolons"]),
    "116": ("NE", ["sessions.tsv: a row has a cell too many"]),
    "117": ("NE", ["sub-PAT_001 and sub-PAT_002 are not one patient"]),
    "118": ("NE", ["a patient's label has a dot"]),
}  # fmt: skip
REFUSED = [
    "participants.tsv has '1' for sub-01", "a row has a cell too many", "two rows for one patient",
    "semicolons for tabs",
    "treatment_type is 'imunotherapy'", "contrast is 'maybe'", "image_quality is 'motion artefacts'",
    "masks: all as BraTS names them", "masks: sessions that nobody has", "the folder given is empty",
]  # fmt: skip
SCHEME = "masks: said to be BraTS 2023's"


def write(path, data):
    affine = np.eye(4)
    affine[:3, 3] = [-28, -32, -26]
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)


def make_plums(root, subs):
    for sub in subs:
        for ses, (scan, labels) in PLUMS[sub].items():
            write(scan_path(root / "bids", sub, ses, CE), scan)
            write(scan_path(root / "masks", sub, ses, "dseg"), labels)
        rows = TABLES[f"sub-{sub}/sub-{sub}_sessions.tsv"]
        kept = [rows[0], *(row for row in rows[1:] if row[0][4:] in PLUMS[sub])]
        (root / f"bids/sub-{sub}/sub-{sub}_sessions.tsv").write_text("".join("\t".join(row) + "\n" for row in kept))
    (root / "bids/dataset_description.json").write_text('{"Name": "odd plums", "BIDSVersion": "1.10.0"}')
    rows = TABLES["participants.tsv"]
    kept = [rows[0], *(row for row in rows[1:] if row[0][4:] in subs)]
    (root / "bids/participants.tsv").write_text("".join("\t".join(row) + "\n" for row in kept))
    return Cohort(root)


def add_patient(c, label, names, folder):
    """Disturb a copy of sub-01, give it another label, and put all of it into the cohort."""
    own = make_plums(folder, ["01"])
    for name in names:
        ROWS[name].disturb(own)
    for path in sorted(folder.rglob("*sub-01*"), reverse=True):
        path.rename(path.with_name(path.name.replace("sub-01", f"sub-{label}")))
    for path in [p for p in folder.rglob("*.tsv") if p.is_file()]:
        path.write_bytes(path.read_bytes().replace(b"sub-01", f"sub-{label}".encode()))
    with (c.bids / "participants.tsv").open("a") as table:
        table.writelines((own.bids / "participants.tsv").read_text().splitlines(keepends=True)[1:])
    (own.bids / "participants.tsv").unlink()
    merge(own.bids, c.bids)
    merge(own.masks, c.masks)


def merge(source, target):
    for path in source.iterdir():
        to = target / path.name
        if path.is_dir() and not path.is_symlink() and to.is_dir():
            merge(path, to)
        else:
            path.rename(to)


def command(c, **more):
    """Like a user's: the settings in a file, and the command in the project's folder."""
    settings = {
        "bids": str(c.bids),
        "out": str(c.out),
        "threads": 1,
        "strip": {"method": "nonzero", "volume_warn_ml": [10, 100], "volume_fail_ml": [10, 100]},
        "register": {"greedy": {"linear_iterations": [30, 10], "iterations": [20, 5]}},
        **more,
    }
    own = c.root / "config.json"
    own.write_text(json.dumps(settings))
    return [warm.python(), "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--configfile", str(own)]


def run(c, *targets, **more):
    return subprocess.run(
        [*command(c, **more), "--cores", "2", "--", *targets],
        cwd=c.root, capture_output=True, text=True, check=False, timeout=1800,
    )  # fmt: skip


def given_masks(c, **more):
    return {"labels": {"folder": str(c.masks), **more}}


def finished(c, done):
    text = done.stdout + done.stderr
    assert "Traceback" not in text, text
    assert done.returncode == 0, text
    return c


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    c = make_plums(tmp_path_factory.mktemp("undisturbed"), ["01", "02", "03"])
    return finished(c, run(c, "tables", **given_masks(c)))


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("disturbed") / "pet" / "sub-01"
    root.mkdir(parents=True)
    c = make_plums(root, ["02", "03"])
    for label, (_, names) in PATIENTS.items():
        add_patient(c, label, names, tmp_path_factory.mktemp("patient"))
    c.participants.write_bytes(b"\xef\xbb\xbf" + c.participants.read_bytes().replace(b"\n", b"\r\n"))
    return finished(c, run(c, **given_masks(c)))


def rows_of(c, table, sub):
    with (c.out / "tables" / f"{table}.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["participant_id"] == f"sub-{sub}"]


def lines_of(path, sub):
    """The rows of a patient as they stand in a file."""
    lines = path.read_bytes().splitlines()
    return [line for line in lines if f"sub-{sub}".encode() in line.split(b",")[:2]]


def core_of(row):
    """What a response is made of, without remarks and names."""
    names = (
        "response",
        "days_from",
        "sum_ld_mm",
        "evaluable",
        "session_role",
        "n_lesions",
        "n_new",
        "track_id",
        "event",
    )
    more = ("status", "ld_rano_mm", "vol_wl_mm3", "session_id")
    return {k: v for k, v in row.items() if k.startswith(names) or k in more}


def test_what_the_undisturbed_run_says(undisturbed):
    rows = {row["session_id"]: row for row in rows_of(undisturbed, "sessions", "01")}
    assert {ses: row["evaluable"] for ses, row in rows.items()} == {"ses-01": "TRUE", "ses-02": "TRUE"}
    assert rows["ses-02"]["response_overall_final"] == "PD"
    assert rows["ses-02"]["pd_reason"] == "new"
    rows = {row["session_id"]: row for row in rows_of(undisturbed, "sessions", "02")}
    assert rows["ses-01"]["response_overall_final"] == "PR"


@pytest.mark.parametrize("sub", ["02", "03"])
@pytest.mark.parametrize("table", ["lesions", "sessions", "patients"])
def test_the_witnesses_rows_are_the_same_byte_for_byte(sub, table, undisturbed, disturbed):
    before = lines_of(undisturbed.out / "tables" / f"{table}.csv", sub)
    assert before
    assert lines_of(disturbed.out / "tables" / f"{table}.csv", sub) == before


@pytest.mark.parametrize("sub", ["02", "03"])
def test_the_witnesses_own_files_are_the_same_byte_for_byte(sub, undisturbed, disturbed):
    compared = 0
    for path in sorted((undisturbed.out / f"sub-{sub}").rglob("*")):
        if path.name.endswith((".tsv", "_dseg.nii.gz", "_registry.json")):
            other = disturbed.out / path.relative_to(undisturbed.out)
            assert other.read_bytes() == path.read_bytes(), path.name
            compared += 1
    assert compared > 5


def says(outcome, label, c):
    """Complaints about what is said of a disturbed patient."""
    who = tuple(w.replace("01", label) if w.startswith("01") else w for w in outcome.who)
    # Line numbers are those of the small cohort.
    parts = tuple(s.replace("sub-01", f"sub-{label}") for s in outcome.says if not s.startswith("line"))
    outcome = dataclasses.replace(outcome, who=who, says=parts)
    found = cohort.read_cohort(c.out)
    rows = [row for row in found.sessions.astype(str).to_dict("records") if row["sub"] in outcome.who]
    entries = found.not_used
    texts = [" ".join(map(str, e.values())) for e in entries if not outcome.reasons or e["reason"] in outcome.reasons]
    if outcome.kind == "not_used":
        if not any(all(part in text for part in outcome.says) for text in texts):
            yield f"{outcome.says} is not said for {outcome.reasons}: {entries}"
        return
    if outcome.kind in ("session_out", "patient_out"):
        out = [row for row in rows if outcome.kind == "patient_out" or row["ses"] == outcome.ses]
        if not out or any(row["usable"] != "false" or row["reason"] not in outcome.reasons for row in out):
            yield f"not out for {outcome.reasons}: {out}"
    text = "\n".join([f"{r['detail']} {r['flags']}" for r in rows] + [" ".join(map(str, e.values())) for e in entries])
    yield from (f"{part!r} is not said in:\n{text}" for part in outcome.says if part not in text)


@pytest.mark.parametrize(
    ("label", "name"), [pytest.param(k, name, id=name) for k, (_, names) in PATIENTS.items() for name in names]
)
def test_a_disturbed_patient_has_the_same_response_or_a_reason(label, name, undisturbed, disturbed):
    expected, _ = PATIENTS[label]
    before = {row["session_id"]: row for row in rows_of(undisturbed, "sessions", "01")}
    now = {row["session_id"]: row for row in rows_of(disturbed, "sessions", label)}
    if expected == "PD":
        assert [core_of(row) for row in now.values()] == [core_of(row) for row in before.values()]
        lesions = [core_of(row) for row in rows_of(disturbed, "lesions", label)]
        assert lesions == [core_of(row) for row in rows_of(undisturbed, "lesions", "01")]
    elif expected == "uPD":
        assert now["ses-02"]["response_imaging_final"] == "uPD"
        assert now["ses-02"]["days_from_t0"] == before["ses-02"]["days_from_t0"]
    else:
        assert now.get("ses-02", {"evaluable": "FALSE"})["evaluable"] == "FALSE"
        assert now.get("ses-02", {"response_imaging_final": "NE"})["response_imaging_final"] in ("NE", "n/a", "")
        assert "ses-02" not in now or now["ses-02"]["ne_reason"] not in ("n/a", "")
        whole = any(o.kind == "session_out" for o in ROWS[name].outcomes)
        assert not whole or now["ses-01"]["evaluable"] == "TRUE"
    complaints = [list(says(outcome, label, disturbed)) for outcome in ROWS[name].outcomes]
    assert [] in complaints, complaints


def test_a_bad_label_reaches_no_file_name(disturbed):
    bad = [p for p in disturbed.out.rglob("*") if "PAT_" in p.name or ".b" in p.name.split("_")[0]]
    assert not [p for p in bad if p.suffix != ".html" and p.name not in (".bidsignore", "references.bib")], bad


def test_masks_in_another_scheme_give_the_same_lesions(undisturbed, tmp_path):
    c = make_plums(tmp_path, ["01"])
    for path in c.masks.rglob("*.nii.gz"):
        image = nib.load(path)
        data = np.asanyarray(image.dataobj)
        write(path, np.where(data == 1, 3, np.where(data == 3, 1, data)).astype(np.uint8))
    done = run(c, "tables", **given_masks(c, scheme="brats2023"))
    finished(c, done)
    for table in ("lesions", "sessions"):
        now = [core_of(row) for row in rows_of(c, table, "01")]
        assert now == [core_of(row) for row in rows_of(undisturbed, table, "01")]


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    """The rows that have to be refused, two at a time."""
    base = make_undisturbed(tmp_path_factory.mktemp("tiny"))

    def start(name):
        c = fresh(base, tmp_path_factory.mktemp("start"))
        ROWS[name].disturb(c)
        more = {key.removeprefix("labels_"): value for key, value in c.settings.items()}
        settings = given_masks(c, **more) if ROWS[name].masks else {}
        words = command(c, **settings)
        work = tmp_path_factory.mktemp("work")
        before = listing(c.root)
        try:
            done = subprocess.run(
                [*words, "--cores", "1"], cwd=work, capture_output=True, text=True, check=False, timeout=120
            )
        except subprocess.TimeoutExpired:
            return 0, "it was not refused", False
        return done.returncode, done.stdout + done.stderr, listing(c.root) == before

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(REFUSED, pool.map(start, REFUSED), strict=True))


@pytest.mark.parametrize("name", REFUSED)
def test_a_run_that_cannot_be_right_does_not_start(name, starts):
    status, text, untouched = starts[name]
    assert status != 0, text
    assert "Traceback" not in text, text
    complaints = [[part for part in outcome.says if part not in text] for outcome in ROWS[name].outcomes]
    assert [] in complaints, f"{complaints} not said in:\n{text}"
    assert untouched, "something was written"


def test_enough_rows_go_through_whole_runs():
    names = [name for _, group in PATIENTS.values() for name in group] + REFUSED + [SCHEME]
    assert len(names) == len(set(names)) >= 40
    assert not set(names) - set(ROWS)
