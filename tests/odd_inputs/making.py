"""A cohort of three patients, the hands that disturb it, and what can come out."""

import gzip
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np

CE = "ce-gadolinium_T1w"
SHAPE = (24, 26, 20)
TREE = {
    "01": {"01": [CE, "T2w"], "02": [CE, "T2w"], "03": [CE]},
    "02": {"01": [CE], "02": [CE]},
    "03": {"01": [CE], "02": [CE, "FLAIR"]},
}
DEX = "dexamethasone_equiv_mg_per_day"
COLUMNS = ["session_id", "acq_time", "image_quality", "contrast", DEX, "clinical_status", "kps"]
# Sessions of sub-02 are labelled against their dates; sub-03 has days and no dates.
TABLES = {
    "sub-01/sub-01_sessions.tsv": [
        COLUMNS,
        ["ses-01", "2031-01-10T09:30:00", "pass", "true", "4", "stable", "90"],
        ["ses-02", "2031-03-11T10:00:00", "pass", "true", "2", "stable", "90"],
        ["ses-03", "2031-05-11T09:00:00", "pass", "true", "2", "stable", "80"],
    ],
    "sub-02/sub-02_sessions.tsv": [
        COLUMNS,
        ["ses-01", "2031-04-20T12:00:00", "pass", "true", "0", "improved", "100"],
        ["ses-02", "2031-02-03T12:00:00", "pass", "true", "8", "stable", "70"],
    ],
    "sub-03/sub-03_sessions.tsv": [["session_id", "days_from_baseline"], ["ses-01", "0"], ["ses-02", "70"]],
    "participants.tsv": [
        ["participant_id", "treatment_start_date", "treatment_start_day", "treatment_type", "primary_tumor"],
        ["sub-01", "2031-01-15", "n/a", "chemo", "lung"],
        ["sub-02", "2031-02-10", "n/a", "chemo", "breast"],
        ["sub-03", "n/a", "3", "immunotherapy", "melanoma"],
    ],
}


def affine_of(spacing=1.0):
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [-12, -13, -10]
    return affine


def save(path, data, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine_of() if affine is None else affine), path)


def make_undisturbed(root):
    """Write `root`/bids and `root`/masks."""
    for number, (sub, visits) in enumerate(TREE.items()):
        for ses, roles in visits.items():
            rng = np.random.default_rng(100 * number + int(ses))
            for role in roles:
                save(scan_path(root / "bids", sub, ses, role), rng.integers(0, 900, SHAPE).astype(np.int16))
            save(scan_path(root / "masks", sub, ses, "dseg"), lesion())
    (root / "bids" / "dataset_description.json").write_text('{"Name": "odd", "BIDSVersion": "1.10.0"}')
    for name, rows in TABLES.items():
        (root / "bids" / name).write_text("".join("\t".join(row) + "\n" for row in rows))
    return root


def lesion():
    """A cube that enhances, with necrosis inside and edema beside it."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:16, 8:16, 8:16] = 2
    labels[8:16, 8:16, 8:16] = 1
    labels[11:13, 11:13, 11:13] = 3
    return labels


def scan_path(folder, sub, ses, role):
    return folder / f"sub-{sub}" / f"ses-{ses}" / "anat" / f"sub-{sub}_ses-{ses}_{role}.nii.gz"


@dataclass
class Cohort:
    """A copy of the undisturbed cohort, to be disturbed. `sub` is the patient that a row works on."""

    root: Path
    sub: str = "01"
    settings: dict = field(default_factory=dict)

    def __post_init__(self):
        self.bids, self.out, self.masks = self.root / "bids", self.root / "out", self.root / "masks"

    # Where things are.
    @property
    def patient(self):
        return self.bids / f"sub-{self.sub}"

    @property
    def participants(self):
        return self.bids / "participants.tsv"

    @property
    def sessions(self):
        return self.patient / f"sub-{self.sub}_sessions.tsv"

    def scan(self, role=CE, ses="02"):
        return scan_path(self.bids, self.sub, ses, role)

    def mask(self, ses="02"):
        return scan_path(self.masks, self.sub, ses, "dseg")

    # Files and folders.
    def move(self, path, to):
        """Move; `to` is beside `path` unless it is a whole path."""
        to = path.parent / to
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, to)
        return to

    def copy(self, path, to):
        to = path.parent / to
        to.parent.mkdir(parents=True, exist_ok=True)
        return shutil.copytree(path, to) if path.is_dir() else shutil.copy(path, to)

    def link(self, path, name="elsewhere"):
        """Put `path` elsewhere and a link in its place."""
        target = self.move(path, self.root / name / path.name)
        path.symlink_to(target)
        return target

    def write(self, path, content=b""):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def rename(self, label):
        """Give the patient another label, in names of folders, files and in tables."""
        old, new = f"sub-{self.sub}", f"sub-{label}"
        for path in sorted(self.bids.rglob(f"{old}*"), reverse=True):
            path.rename(path.with_name(path.name.replace(old, new, 1)))
        self.replace(self.participants, old, new)

    def rename_session(self, ses, label):
        old, new = f"ses-{ses}", f"ses-{label}"
        for path in sorted(self.patient.rglob(f"*{old}*"), reverse=True):
            path.rename(path.with_name(path.name.replace(old, new, 1)))
        self.replace(self.sessions, old, new)

    # Tables.
    def replace(self, path, old, new):
        text = path.read_text()
        assert old in text, (old, text)
        path.write_text(text.replace(old, new))

    def rows(self, path):
        return [line.split("\t") for line in path.read_text().splitlines()]

    def lines(self, path, change):
        """Change the list of lines of a table."""
        lines = path.read_text().splitlines()
        path.write_text("\n".join(change(lines)) + "\n")

    def cell(self, column, value, ses="02"):
        """Set one cell of sessions.tsv; a new column is added, n/a elsewhere."""
        self._set(self.sessions, f"ses-{ses}", column, value)

    def participant(self, column, value):
        """Set one cell of the patient's row in participants.tsv."""
        self._set(self.participants, f"sub-{self.sub}", column, value)

    def _set(self, path, key, column, value):
        header, *rows = self.rows(path)
        if column not in header:
            header.append(column)
            rows = [[*row, "n/a"] for row in rows]
        for row in rows:
            if row[0] == key:
                row[header.index(column)] = value
        path.write_text("".join("\t".join(row) + "\n" for row in [header, *rows]))

    # Images.
    def image(self, path, change=None, affine=None, header=None):
        """Write an image again with other voxels, another affine, or a changed header."""
        old = nib.load(path)
        data, place = np.asanyarray(old.dataobj), old.affine if affine is None else affine
        if change is not None:
            data = change(data)
        image = nib.Nifti1Image(data, place, dtype=data.dtype)
        if header is not None:
            header(image.header)
        path.unlink()
        nib.save(image, path)

    def header_bytes(self, path, **fields):
        """Set fields of the NIfTI-1 header as they are, whatever they say; the voxels stay."""
        raw = bytearray(gzip.decompress(path.read_bytes()))
        header = np.frombuffer(raw[:348], nib.nifti1.header_dtype).copy()
        for name, value in fields.items():
            header[name] = value
        self.write(path, gzip.compress(header.tobytes() + bytes(raw[348:])))


# What can come out.
@dataclass
class Outcome:
    kind: str
    reasons: tuple = ()
    who: tuple = ("01",)
    ses: str = ""
    says: tuple = ()
    flag: str = ""
    values: dict = field(default_factory=dict)
    quiet: bool = False


def _texts(value):
    return (value,) if isinstance(value, str) else tuple(value)


def used(says=(), *, flag="", quiet=False, who="01", **values):
    """All sessions are as in the undisturbed cohort, but for `values`: one for all, a list, or by session."""
    return Outcome("used", (), _texts(who), says=_texts(says), flag=flag, values=values, quiet=quiet)


def session_out(ses, reasons, says=(), *, who="01", **values):
    """One session is unusable for one of the reasons, and the other sessions of the patient go on."""
    return Outcome("session_out", _texts(reasons), _texts(who), ses, _texts(says), values=values)


def patient_out(reasons, says=(), *, who="01"):
    """All sessions of the patient are unusable for one of the reasons."""
    return Outcome("patient_out", _texts(reasons), _texts(who), says=_texts(says))


def refused(*says):
    """The run is refused at the start, and nothing is written."""
    return Outcome("refused", says=says)


def not_used(reasons, says=(), *, who="01", **values):
    """A file or row is listed as not used, for one of the reasons; the sessions are as in the undisturbed cohort."""
    return Outcome("not_used", _texts(reasons), _texts(who), says=_texts(says), values=values)


def told(says, *, who="01"):
    """Whatever is done, it is said: at a session of the patient, or among what is not used."""
    return Outcome("told", (), _texts(who), says=_texts(says))


@dataclass
class Case:
    name: str
    source: str
    disturb: object
    outcomes: tuple
    masks: bool = False
    later: object = None
    gone: tuple = ()


def case(name, source, disturb, *outcomes, masks=False, later=None, gone=()):
    """One row: what it is, where it is from, how it is made, and what may come out.

    `later` changes the dataset once more after it has been indexed; patients in `gone` are not expected to be found.
    """
    return Case(name, source, disturb, outcomes, masks, later, _texts(gone))


def fresh(root, tmp_path):
    for name in ("bids", "masks"):
        shutil.copytree(root / name, tmp_path / name, symlinks=True)
    return Cohort(tmp_path)


def listing(folder):
    """All that lies in a folder, without following links."""
    found = {}
    for at, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = os.path.join(at, name)  # noqa: PTH118
            found[path] = os.lstat(path).st_size, os.lstat(path).st_mtime_ns
    return found
