"""Masks drawn by people, as ITK-SNAP, 3D Slicer, BraTS and file servers hand them over."""

import gzip
import shutil

import numpy as np

from odd_inputs.making import SHAPE, affine_of, case, lesion, not_used, refused, save, session_out, used
from odd_inputs.scans import affine, dtype, flip_bits, structured, voxels

MASK = "sub-01_ses-02_dseg.nii.gz"
ALL = ("01", "02", "03")


def every(name):
    """Give every mask another name; {s}: patient, {v}: session."""

    def disturb(c):
        for path in sorted(c.masks.rglob("*.nii.gz")):
            s, v = path.name.split("_")[:2]
            c.move(path, c.masks / name.format(s=s, v=v))
        for folder in sorted((p for p in c.masks.rglob("*") if p.is_dir()), reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()

    return disturb


def one(name):
    return lambda c: c.move(c.mask(), name)


def also(name):
    return lambda c: c.copy(c.mask(), c.masks / name)


def sessions(*entries):
    return lambda c: c.settings.update(labels_sessions=list(entries))


def scheme(value, change=None):
    """The setting labels.scheme, and every mask as `change` makes it."""

    def disturb(c):
        c.settings["labels_scheme"] = value
        if change is not None:
            for path in c.masks.rglob("*.nii.gz"):
                save(path, change(lesion()))

    return disturb


def on_mask(how):
    """A hand for scans, on the mask of the second session."""

    def disturb(c):
        old = c.scan
        c.scan = lambda role="", ses="02": c.mask(ses)
        how(c)
        c.scan = old

    return disturb


def drawn(change):
    """The mask of the second session as `change` makes it."""
    return on_mask(voxels(change))


def numbers(**new):
    """Other numbers for enhancing (e), edema (d) and necrosis (n)."""

    def change(labels):
        out = np.zeros_like(labels)
        for name, old in {"e": 1, "d": 2, "n": 3}.items():
            out[labels == old] = new.get(name, old)
        return out

    return change


def instances(labels, touching=False):
    labels = np.zeros(SHAPE, np.uint8)
    for number in range(1, 6):
        labels[4 * number - 2 : 4 * number, 4:8, 4:8] = number
    return labels


def two_instances(labels):
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:7, 4:8, 4:8], labels[12:16, 4:8, 4:8] = 1, 2
    return labels


def necrosis_alone(labels):
    return np.where(labels == 1, 3, 0).astype(np.uint8)


def edema_far_away(labels):
    labels = np.where(labels == 2, 0, labels)
    labels[1:4, 2:5, 2:5] = 2
    return labels


def shifted(mm):
    def change(place):
        place[2, 3] += mm

    return on_mask(affine(change))


def stretched(factor):
    def change(place):
        place[:3, :3] *= factor

    return on_mask(affine(change))


def flipped(c):
    """The same mask at the same place, stored from left to right."""
    place = affine_of()
    place[0, 0], place[0, 3] = -1, place[0, 3] + SHAPE[0] - 1
    save(c.mask(), lesion()[::-1].copy(), place)


def no_codes(c):
    c.header_bytes(c.mask(), qform_code=0, sform_code=0)


def folder(name, make=False):
    def disturb(c):
        c.masks = c.root / name
        if make:
            c.masks.mkdir()

    return disturb


def folder_is_file(c):
    c.masks = c.mask()


def linked(c):
    shutil.move(c.masks, c.root / "disk")
    c.masks.symlink_to(c.root / "disk")


def later_in_link(c):
    shutil.move(c.masks / "sub-01/ses-02", c.root / "visit")
    c.move(c.root / "visit/anat" / MASK, c.root / "kept.nii.gz")
    (c.masks / "sub-01/ses-02").symlink_to(c.root / "visit")


def single_visit(c):
    """Sub-01 has one session, without a session folder, in both folders."""
    for base, role in ((c.bids, "ce-gadolinium_T1w"), (c.masks, "dseg")):
        folder = base / "sub-01"
        c.move(folder / f"ses-01/anat/sub-01_ses-01_{role}.nii.gz", folder / f"anat/sub-01_{role}.nii.gz")
        for ses in ALL:
            shutil.rmtree(folder / f"ses-{ses}")
    c.sessions.unlink()


def only(*labelled):
    """What the column labels has to be, where only some sessions of sub-01 have a mask."""
    return {ses: "given" if ses in labelled else "n/a" for ses in ALL}


def row(name, source, disturb, *outcomes, **more):
    return case(f"masks: {name}", source, disturb, *outcomes, masks=True, **more)


def bad(*says, reasons=("bad_labels",)):
    return session_out("02", reasons, (MASK, *says))


LOST = {"02": "n/a"}
UNSEEN = not_used("mask_not_recognised", MASK[:13], labels=LOST)

ROWS = [
    # Names.
    row("as they should be", "BIDS", lambda c: None, used(quiet=True)),
    row("all are called _mask", "user", every("{s}/{v}/anat/{s}_{v}_mask.nii.gz"), used(quiet=True)),
    row("all lie without anat/", "user", every("{s}/{v}/{s}_{v}_dseg.nii.gz"), used(quiet=True)),
    row("all have more entities", "BIDS", every("{s}/{v}/anat/{s}_{v}_desc-lesions_dseg.nii.gz"), used(quiet=True)),
    row("all are not compressed", "ITK-SNAP",
         lambda c: [c.write(p.with_suffix(""),
         gzip.decompress(p.read_bytes())) or p.unlink() for p in sorted(c.masks.rglob("*.gz"))], used(quiet=True)),
    row("one is called _mask", "user", one("sub-01_ses-02_mask.nii.gz"), used(quiet=True)),
    row("one visit without session folder", "BIDS", single_visit,
         used(sessions=["1"], labels="given", days="n/a", treatment_start_day="n/a"),
        gone=("ses-01", "ses-02", "ses-03")),
    row("all in one folder", "Slicer", every("{s}_{v}_dseg.nii.gz"), refused("masks", "7", "sub-"), used()),
    row("all in one folder a patient", "user", every("{s}/{s}_{v}_dseg.nii.gz"), refused("masks", "7", "sub-"), used()),
    row("all without ses- in the name", "user", every("{s}/{v}/anat/{s}_dseg.nii.gz"), refused("masks", "7", "sub-"),
         used()),
    row("all as BraTS names them", "BraTS", every("{s}/BraTS-MET-{s}-{v}-seg.nii.gz"), refused("masks", "7", "sub-")),
    row("all as ITK-SNAP saves them", "ITK-SNAP", every("{s}/{v}/anat/{s}_{v}_ce-gadolinium_T1w_segmentation.nii.gz"),
         refused("masks", "7", "sub-")),
    row("all as 3D Slicer saves them", "Slicer", every("{s}/{v}/anat/{s}_{v}.seg.nrrd"), refused("masks", "7", "sub-"),
         refused("masks", "sub-")),
    row("all as nnU-Net wants them", "nnU-Net", every("labelsTr/{s}{v}_0000.nii.gz"), refused("masks", "7", "sub-")),
    row("one as ITK-SNAP saves it", "ITK-SNAP", one("sub-01_ses-02_seg.nii.gz"), UNSEEN),
    row("one as BraTS names it", "BraTS", one("BraTS-MET-00001-001-seg.nii.gz"),
         not_used("mask_not_recognised", "BraTS-MET-00001", labels=LOST)),
    row("one by 3D Slicer", "Slicer", one("sub-01_ses-02.seg.nrrd"),
         not_used("mask_not_recognised", "seg.nrrd", labels=LOST)),
    row("one without session in the name", "user", one("sub-01_dseg.nii.gz"),
         not_used(("name_disagrees", "mask_not_recognised"), "sub-01_dseg", labels=LOST), used()),
    row("one saved twice", "macOS", one("sub-01_ses-02_dseg (1).nii.gz"),
         not_used(("mask_not_recognised", "not_a_bids_name"), "dseg (1)", labels=LOST)),
    row("one in another patient's folder", "user", lambda c: c.move(c.mask(), c.masks / f"sub-02/ses-02/anat/{MASK}"),
        not_used(("name_disagrees", "mask_not_recognised"), MASK, labels=LOST)),
    row("one put aside", "user", lambda c: c.move(c.mask(), c.masks / f"old/sub-01/ses-02/anat/{MASK}"),
        not_used(("wrong_folder", "mask_not_recognised"), "old/", labels=LOST)),
    row("one for a patient nobody knows", "user", also("sub-99/ses-02/anat/sub-99_ses-02_dseg.nii.gz"),
         not_used("nobody", "sub-99")),
    row("one for a session nobody knows", "user", also("sub-01/ses-09/anat/sub-01_ses-09_dseg.nii.gz"),
         not_used("nobody", "ses-09")),
    row("one for sub-1", "user", also("sub-1/ses-02/anat/sub-1_ses-02_dseg.nii.gz"), not_used("nobody", "sub-1"),
         refused("sub-1")),
    row("the model's own result lies beside them", "user",
         also("sub-01/ses-02/anat/sub-01_ses-02_desc-lesions_probseg.nii.gz"),
        not_used("mask_not_recognised", "probseg")),
    row("a USB disk left ._", "macOS", lambda c: c.write(c.mask().with_name(f"._{MASK}"), b"\0\5\x16\7"), used(),
         not_used("hidden_file", "._")),
    row("two names for one session", "user", also("sub-01/ses-02/anat/sub-01_ses-02_mask.nii.gz"),
         session_out("02", "ambiguous_labels", "sub-01_ses-02_mask.nii.gz")),
    row("two readers", "user", also("sub-01/ses-02/anat/sub-01_ses-02_desc-reader2_dseg.nii.gz"),
         session_out("02", "ambiguous_labels", "reader2")),
    row("compressed and not", "user", also("sub-01/ses-02/anat/sub-01_ses-02_dseg.nii"),
         session_out("02", "ambiguous_labels", "dseg.nii")),
    # The folder.
    row("the folder is empty", "user", folder("empty", make=True), refused("empty")),
    row("the folder is not there", "user", folder("maskz"), refused("maskz")),
    row("the folder is a file", "user", folder_is_file, refused(".nii.gz")),
    row("the folder given is one above", "user", lambda c: setattr(c, "masks", c.root), refused("sub-")),
    row("the folder is a link", "filesystem", linked, used(quiet=True)),
    row("a mask arrives later in a linked folder", "filesystem", later_in_link, used(quiet=True),
         later=lambda c: c.move(c.root / "kept.nii.gz", c.root / "visit/anat" / MASK)),
    row("a mask is drawn anew later", "user", lambda c: None, bad("9"), later=drawn(lambda m: m * 0 + 9 * (m == 1))),
    # labels.sessions
    row("sessions named by label", "user", sessions("01", "02"), used(labels=only("01", "02")), gone=("02", "03")),
    row("sessions [01, 02], as YAML reads it", "user", sessions(1, 2),
         used(labels=only("01", "02")), gone=("02", "03")),
    row("one session of one patient", "user", sessions("sub-01_ses-02"), used(labels=only("02")), gone=("02", "03")),
    row("one session of one patient without zeros", "user", sessions("sub-1_ses-2"), used(labels=only("02")),
         refused("sub-1_ses-2"), gone=("02", "03")),
    row("sessions as ses-02", "user", sessions("ses-02"), used(labels=only("02")),
         refused("ses-02"), gone=("02", "03")),
    row("sessions as a patient", "user", sessions("sub-01"), used(), refused("sub-01"), gone=("02", "03")),
    row("sessions that nobody has", "user", sessions("99"), refused("99")),
    row("one of two sessions nobody has", "user", sessions("01", "99"), refused("99")),
    row("a session of a patient nobody knows", "user", sessions("sub-99_ses-01"), refused("sub-99_ses-01")),
    row("a named session has no mask", "user", lambda c: [c.mask().unlink(), sessions("sub-01_ses-02")(c)],
        session_out("02", "no_labels", labels={"01": "n/a", "03": "n/a"}), refused("sub-01_ses-02"), gone=("02", "03")),
    row("1 where there are ses-1 and ses-01", "user",
        lambda c: [c.copy(c.scan(ses="01"),
        c.patient / "ses-1/anat/sub-01_ses-1_ce-gadolinium_T1w.nii.gz"),
        also("sub-01/ses-1/anat/sub-01_ses-1_dseg.nii.gz")(c),
                   c.lines(c.sessions,
                   lambda t: [*t, t[1].replace("ses-01", "ses-1").replace("01-10", "06-10")]), sessions("1")(c)],
        used(sessions=["1"], labels="given"), gone=("02", "03")),
    # The grid.
    row("another shape", "user", drawn(lambda m: m[:-1]), bad(reasons=("grid_mismatch",))),
    row("5 mm away", "user", shifted(5), bad(reasons=("grid_mismatch",))),
    row("half a voxel away", "Slicer", shifted(0.5), bad(reasons=("grid_mismatch",))),
    row("a spacing of 1.00001", "ITK-SNAP", stretched(1.00001), used(quiet=True)),
    row("a shift by rounding", "ITK", shifted(1e-4), used(quiet=True)),
    row("stored from the other side", "ITK", flipped, bad(reasons=("grid_mismatch",)), used()),
    row("no place at all", "BraTS", no_codes, bad(reasons=("grid_mismatch", "no_orientation", "bad_labels")), used()),
    row("four dimensions, one volume", "Slicer", drawn(lambda m: m[..., None]), used(quiet=True)),
    row("two volumes, one a label", "Slicer", drawn(lambda m: np.stack([m == 1, m == 2], -1).astype(np.uint8)),
         bad(reasons=("not_3d", "grid_mismatch", "bad_labels"))),
    # The file.
    row("cut short", "gzip", lambda c: c.write(c.mask(), c.mask().read_bytes()[:200]),
         bad(reasons=("unreadable", "bad_labels"))),
    row("flipped bits", "gzip", lambda c: c.write(c.mask(), flip_bits(c.mask().read_bytes())),
         bad(reasons=("unreadable", "bad_labels"))),
    row("empty file", "filesystem", lambda c: c.write(c.mask(), b""), bad(reasons=("unreadable", "bad_labels"))),
    row("not fetched", "annex", lambda c: [c.mask().unlink(), c.mask().symlink_to("../gone.nii.gz")],
         bad(reasons=("unreadable", "dangling_link", "bad_labels"))),
    row("colours", "Slicer", on_mask(structured("RGB")), bad(reasons=("bad_datatype", "bad_labels"))),
    row("floating point", "FSL", on_mask(dtype("float32")), used(quiet=True)),
    row("64-bit integers", "ITK-SNAP", on_mask(dtype("int64")), used(), bad()),
    # Numbers.
    row("nothing drawn", "user", drawn(np.zeros_like), used(quiet=True)),
    row("0 and 1 alone", "user", drawn(lambda m: (m == 1).astype(np.uint8)), used(quiet=True)),
    row("no edema", "user", drawn(lambda m: np.where(m == 2, 0, m)), used(quiet=True)),
    row("0 and 255", "Slicer", drawn(lambda m: np.where(m == 1, 255, 0).astype(np.uint8)), bad("255")),
    row("a number of 4", "BraTS", drawn(numbers(e=4, n=1)), bad("4", "brats2021")),
    row("BraTS 2023's numbers", "BraTS", drawn(numbers(e=3, n=1)), bad("brats2023")),
    row("necrosis alone", "BraTS", drawn(necrosis_alone), bad("3")),
    row("edema that touches nothing", "BraTS", drawn(edema_far_away), bad("2")),
    row("a number per lesion, five", "user", drawn(instances), bad("instances")),
    row("a number per lesion, two", "user", drawn(two_instances), bad("2")),
    row("a probability", "nnU-Net", drawn(lambda m: (m == 1) * np.float32(0.7)), bad()),
    row("numbers after resampling", "FSL", drawn(lambda m: m * np.float32(0.9)), bad()),
    row("a negative number", "user", drawn(lambda m: np.where(m == 1, -1, 0).astype(np.int16)), bad()),
    row("something that is no number", "FSL", drawn(lambda m: np.where(m == 0, np.nan, m).astype(np.float32)),
         bad(reasons=("bad_labels", "not_finite"))),
    row("nearly whole numbers", "FSL", drawn(lambda m: (m * 0.9999999).astype(np.float32)), used(), bad()),
    # The scheme.
    row("said to be BraTS 2023's", "BraTS", scheme("brats2023", numbers(e=3, n=1)), used(quiet=True)),
    row("said to be BraTS 2021's", "BraTS", scheme("brats2021", numbers(e=4, n=1)), used(quiet=True)),
    row("said to be one number a lesion", "user", scheme("instances", instances), used(quiet=True)),
    row("said what each number is", "user", scheme({1: 3, 3: 1}, numbers(e=3, n=1)), used()),
    row("said what each number is, edema too", "user", scheme({1: 3, 2: 2, 3: 1}, numbers(e=3, n=1)), used(quiet=True)),
    row("said what a number of 255 is", "Slicer", scheme({255: 1}, lambda m: np.where(m == 1, 255, 0).astype(np.uint8)),
         used(quiet=True)),
    row("said to be BraTS 2021's, with a 3", "BraTS",
         lambda c: [scheme("brats2021", numbers(e=4, n=1))(c), drawn(lambda m: np.where(m == 1, 3, m))(c)], bad("3")),
    row("said to be BraTS 2023's, with a 4", "BraTS",
         lambda c: [scheme("brats2023", numbers(e=3, n=1))(c), drawn(lambda m: np.where(m == 3, 4, m))(c)], bad("4")),
    row("a number that is not said", "user", lambda c: [scheme({1: 1, 2: 2, 3: 3})(c), drawn(numbers(n=7))(c)],
         bad("7")),
]  # fmt: skip
