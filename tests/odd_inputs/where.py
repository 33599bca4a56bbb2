"""Where scans lie and what they are called: whose scan it is."""

import os
import shutil

import numpy as np

from odd_inputs.making import (
    CE,
    SHAPE,
    case,
    not_used,
    patient_out,
    refused,
    save,
    scan_path,
    session_out,
    told,
    used,
)

NAME = f"sub-01_ses-02_{CE}.nii.gz"
OTHER = ("wrong_folder", "name_disagrees", "not_a_bids_name", "no_role", "bad_label")


def below(name):
    """Move the whole dataset below a folder of that name."""

    def disturb(c):
        (c.root / name).mkdir()
        c.bids = c.move(c.bids, c.root / name / "bids")

    return disturb


def label(new):
    return lambda c: c.rename(new)


def session_label(new):
    return lambda c: c.rename_session("02", new)


def named(new, role=CE):
    """Give the scan of the second session another file name."""
    return lambda c: c.move(c.scan(role), new)


def beside(name, role=CE):
    """Put a copy of the scan of the second session somewhere in the dataset."""
    return lambda c: c.copy(c.scan(role), c.bids / name)


def junk(name, content=b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        "):
    return lambda c: c.write(c.bids / name, content)


def patient_again(name):
    return lambda c: shutil.copytree(c.patient, c.bids / name / "sub-01")


def away(name):
    """Put the second session somewhere else in the dataset."""
    return lambda c: c.move(c.patient / "ses-02", c.bids / name)


def two_of_pat(c):
    c.rename("PAT_001")
    shutil.copytree(c.bids / "sub-PAT_001", c.bids / "sub-PAT_002")
    for path in sorted((c.bids / "sub-PAT_002").rglob("*_001*"), reverse=True):
        path.rename(path.with_name(path.name.replace("_001", "_002")))


def patient_with_a_tail(c):
    c.copy(c.scan(), c.bids / f"sub-01-B/ses-2/anat/sub-01-B_ses-2_{CE}.nii.gz")


def single_visit(c):
    """Sub-01 keeps its first session, without a session folder."""
    shutil.rmtree(c.patient / "ses-02")
    shutil.rmtree(c.patient / "ses-03")
    c.move(c.scan(ses="01"), c.patient / f"anat/sub-01_{CE}.nii.gz")
    shutil.rmtree(c.patient / "ses-01")
    c.sessions.unlink()


def bidsignore(*lines):
    return lambda c: c.write(c.bids / ".bidsignore", "\n".join(lines) + "\n")


def datalad(c):
    """Every scan is a link into .git/annex, as in a clone whose content was fetched."""
    for number, path in enumerate(sorted(c.bids.rglob("*.nii.gz"))):
        target = c.bids / f".git/annex/objects/{number}/MD5E-{number}.nii.gz"
        c.move(path, target)
        path.symlink_to(os.path.relpath(target, path.parent))


def dangling(path):
    path.unlink()
    path.symlink_to("../../../.git/annex/objects/Xk/9Z/MD5E-s1234--0123456789.nii.gz")


def pointer(c):
    c.write(c.scan(), "/annex/objects/MD5E-s1234--0123456789abcdef.nii.gz\n")


def lfs_pointer(c):
    c.write(c.scan(), f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1234\n")


def linked_session(c):
    """A session is a link; its scan turns up only later."""
    c.link(c.patient / "ses-02")
    c.move(c.scan(), c.root / "kept.nii.gz")


def bytes_name(c):
    """A file name in Latin-1 on a disk that is read as UTF-8."""
    path = os.fsencode(c.scan().parent) + b"/sub-01_ses-02_acq-gef\xe4\xdfe_T1w.nii.gz"
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(c.scan().read_bytes())


def folder_as_scan(c):
    c.scan().unlink()
    c.scan().mkdir()


def pipe_as_scan(c):
    c.scan().unlink()
    os.mkfifo(c.scan())


def whole_parent(c):
    c.bids = c.root


def one_patient(c):
    c.bids = c.patient


def no_such(c):
    c.bids = c.root / "bidz"


def a_file(c):
    c.bids = c.participants


def an_empty_folder(c):
    c.bids = c.root / "empty"
    c.bids.mkdir()


def link_to_dataset(c):
    link = c.root / "link"
    link.symlink_to(c.bids)
    c.bids = link


gone_02 = {"ses": "02", "reasons": ("no_contrast", "no_reference")}

ABOVE = [
    "pet", "func", "perf", "motion", "anat", "dwi", "derivatives", "sourcedata", "code", "sub-study", "sub-02",
    "ses-01",
    "excluded", ".hidden", "with space", "Jürgen", "a,b", "#1", "[old]", "site=1", "sub-01_ses-01_T1w", "*", "%s",
]  # fmt: skip
ROWS = [case(f"the dataset lies below a folder named {name}", "BIDS", below(name), used(quiet=True)) for name in ABOVE]
ROWS += [
    case("the dataset lies below a folder with braces", "filesystem", below("{run}"), used(quiet=True),
         refused("{run}")),
    case("the dataset is given through a link", "filesystem", link_to_dataset, used(quiet=True)),
    # Labels.
    case("sub-PAT_001 and sub-PAT_002 are not one patient", "user", two_of_pat,
         patient_out("bad_label", "sub-PAT_001", who=("PAT_001", "PAT_002")), gone="01"),
    case("sub-01-B is no second session of sub-01", "user", patient_with_a_tail,
         patient_out("bad_label", "sub-01-B", who="01-B")),
    case("a session is labelled with its date", "user", session_label("2031-03-11"),
         session_out("2031-03-11", "bad_label", "ses-2031-03-11"), gone="ses-02"),
    case("a session label has an underscore", "user", session_label("02_b"),
         session_out("02_b", "bad_label", "ses-02_b"), gone="ses-02"),
    case("a session label has a dot", "user", session_label("2.1"),
         session_out("2.1", "bad_label", "ses-2.1"), gone="ses-02"),
    case("a patient's label has a dot", "user", label("01.b"),
         patient_out("bad_label", "sub-01.b", who="01.b"), gone="01"),
    case("a patient's label has an umlaut", "user", label("Jörg"),
         patient_out("bad_label", "sub-Jörg", who="Jörg"), used(who="Jörg"), gone="01"),
    case("a patient's label has a blank and brackets", "user", label("01 (2)"),
         patient_out("bad_label", "sub-01 (2)", who="01 (2)"), gone="01"),
    case("a patient's label has a plus", "BIDS", label("01+B"),
         patient_out("bad_label", "sub-01+B", who="01+B"), used(who="01+B"), gone="01"),
    case("a patient's label ends in a tilde", "filesystem", label("01~"),
         patient_out("bad_label", "sub-01~", who="01~"), gone="01"),
    case("a patient's label has braces", "user", label("{x}"),
         patient_out("bad_label", "sub-{x}", who="{x}"), gone="01"),
    case("a patient's label is letters and digits", "BIDS", label("UPENN00012a"), used(who="UPENN00012a"), gone="01"),
    case("a patient's label is very long", "user", label("a" * 120),
         used(who="a" * 120), patient_out("bad_label", who="a" * 120), gone="01"),
    case("a patient's folder has no label", "user", lambda c: c.copy(c.scan(),
         c.bids / f"sub-/ses-1/anat/sub-_ses-1_{CE}.nii.gz"),
         not_used(OTHER, "sub-/"), patient_out("bad_label", "sub-", who="")),
    case("a patient's folder begins with SUB", "Windows",
         lambda c: c.copy(c.scan(), c.bids / f"SUB-01/ses-02/anat/SUB-01_ses-02_{CE}.nii.gz"),
         not_used(OTHER, "SUB-01")),
    case("only the folder of a session has a bad label", "user", lambda c: c.move(c.patient / "ses-02", "ses-02-old"),
         session_out("02-old", ("bad_label", "name_disagrees"), "ses-02-old"),
         session_out(**gone_02, says="ses-02-old"),
         gone="ses-02"),
    # The visit was put aside.
    case("a visit was put aside in excluded/", "user", away("excluded/sub-01/ses-02"),
         session_out(**gone_02, says="excluded/sub-01")),
    case("a visit was put aside in the patient's excluded/", "user", away("sub-01/excluded/ses-02"),
         session_out(**gone_02, says="sub-01/excluded")),
    case("a visit was put aside in a folder within its session", "user",
         lambda c: c.move(c.scan().parent, "excluded/anat"), session_out(**gone_02, says="ses-02/excluded")),
    case("a scan was put aside in a folder within anat", "user", named(f"old/{NAME}"),
         session_out(**gone_02, says="anat/old")),
    case("anat is called anat_old", "user", lambda c: c.move(c.scan().parent, "anat_old"),
         session_out(**gone_02, says="anat_old")),
    case("anat is called ANAT", "Windows", lambda c: c.move(c.scan().parent, "ANAT"),
         session_out(**gone_02, says="ANAT"), used()),
    case("a scan lies beside anat and not in it", "user", lambda c: c.move(c.scan(), f"../{NAME}"),
         session_out(**gone_02, says=NAME)),
    case("the dataset's old state lies in rawdata_old/", "user",
         lambda c: c.copy(c.patient, c.bids / "rawdata_old/sub-01"), not_used("wrong_folder", "rawdata_old/")),
    case("the whole dataset lies in rawdata/ of the folder given", "BIDS",
         lambda c: [c.move(c.bids / f"sub-{s}", c.bids / f"rawdata/sub-{s}") for s in ("01", "02", "03")],
         refused("rawdata"), refused("sub-"), told("rawdata/sub-01"), gone=("01", "02", "03")),
    case("a patient's folder lies in a folder of its site", "user", lambda c: c.move(c.patient,
         c.bids / "siteA/sub-01"),
         patient_out(("no_contrast", "no_reference"), "siteA/sub-01"), told("siteA/sub-01"), gone="01"),
    # Halves that disagree.
    case("a scan of sub-01 was copied into sub-02's folder", "user",
         beside(f"sub-02/ses-02/anat/{NAME}"), not_used("name_disagrees", NAME)),
    case("a scan of sub-01 was moved into sub-02's folder", "user",
         lambda c: c.move(c.scan(), c.bids / f"sub-02/ses-02/anat/{NAME}"), session_out(**gone_02, says=NAME)),
    case("a scan of session 03 lies in session 02", "user",
         lambda c: c.copy(c.scan(ses="03"), c.scan().parent / c.scan(ses="03").name),
         not_used("name_disagrees", f"ses-02/anat/sub-01_ses-03_{CE}.nii.gz")),
    case("the file name has no session, the folder has", "heudiconv", named(f"sub-01_{CE}.nii.gz"),
         session_out(**gone_02, says=f"sub-01_{CE}.nii.gz")),
    case("the file name has a session, the folder has none", "user",
         lambda c: c.move(c.scan(), c.patient / f"anat/{NAME}"), session_out(**gone_02, says=f"anat/{NAME}")),
    case("a scan without session lies beside the sessions", "user", beside(f"sub-01/anat/sub-01_{CE}.nii.gz"),
         not_used(OTHER, f"sub-01_{CE}.nii.gz"), told("no_dates"), told(f"sub-01_{CE}.nii.gz")),
    case("the file's patient differs by a zero", "user", named(f"sub-1_ses-02_{CE}.nii.gz"),
         session_out(**gone_02, says=f"sub-1_ses-02_{CE}")),
    case("the file's session differs by a zero", "user", named(f"sub-01_ses-2_{CE}.nii.gz"),
         session_out(**gone_02, says=f"sub-01_ses-2_{CE}")),
    case("the file's patient differs by case", "Windows", named(f"SUB-01_ses-02_{CE}.nii.gz"),
         session_out(**gone_02, says="SUB-01")),
    # Images elsewhere.
    case("a template lies in template/anat", "user", beside("template/anat/T1w.nii.gz"),
         not_used(OTHER, "template/anat")),
    case("an image lies at the top", "user", beside("atlas.nii.gz"), not_used(OTHER, "atlas.nii.gz")),
    case("an image lies in the patient's folder", "user", beside(f"sub-01/{NAME}"), not_used(OTHER, f"sub-01/{NAME}")),
    case("a dataset lies within the dataset", "user", lambda c: shutil.copytree(c.patient, c.bids / "sub-02/sub-01"),
         not_used(OTHER, "sub-02/sub-01")),
    case("a zip from a Mac was unpacked", "macOS", junk(f"__MACOSX/sub-01/ses-02/anat/._{NAME}"),
         not_used(("hidden_file", "wrong_folder"), "__MACOSX"), used(quiet=True)),
]  # fmt: skip
ROWS += [
    case(f"scans of the same name lie in {name}", "BIDS", patient_again(name), used(quiet=True))
    for name in ("derivatives/fmriprep", "sourcedata", "code/test_data", "derivatives")
]  # fmt: skip
ROWS += [
    case(f"the session has a folder {name}", "BIDS",
         beside(f"sub-01/ses-02/{name}/sub-01_ses-02_{suffix}.nii.gz"), used(quiet=True))
    for name, suffix in {"func": "task-rest_bold", "dwi": "dwi", "fmap": "epi", "perf": "asl", "pet": "pet"}.items()
]  # fmt: skip
ROWS += [
    case("a broken image lies in dwi", "BIDS", junk("sub-01/ses-02/dwi/sub-01_ses-02_dwi.nii.gz", b"no"),
         used(quiet=True)),
    case("a post-contrast scan lies in func", "user", beside(f"sub-01/ses-02/func/{NAME}"),
         not_used(OTHER, f"func/{NAME}"), used(quiet=True)),
    case("the post-contrast scan lies in dwi alone", "user", lambda c: c.move(c.scan(), f"../dwi/{NAME}"),
         session_out(**gone_02)),
    case("a diffusion image lies in anat", "user", beside("sub-01/ses-02/anat/sub-01_ses-02_dwi.nii.gz"),
         not_used(OTHER, "sub-01_ses-02_dwi.nii.gz")),
    # .bidsignore
    case(".bidsignore names a folder", "BIDS", lambda c: [c.copy(c.patient,
         c.bids / "extra/sub-01"), bidsignore("extra/")(c)],
         not_used("bidsignored", "extra"), used(quiet=True)),
    case(".bidsignore names a session", "BIDS", bidsignore("# moved", "", "sub-01/ses-02/"),
         session_out(**gone_02, says="ses-02"), session_out("02", "bidsignored", "ses-02")),
    case(".bidsignore names a scan by a pattern", "BIDS", bidsignore(f"**/sub-01_ses-02_{CE}*"),
         session_out(**gone_02, says="bidsignore"), session_out("02", "bidsignored", NAME)),
    case(".bidsignore names a sequence", "BIDS", bidsignore("sub-01_*_T2w.nii.gz"), used(says="T2w", T2w="n/a")),
    case(".bidsignore takes a file out of its pattern again", "BIDS",
         bidsignore("*_T2w.nii.gz", "!sub-01_ses-*_T2w.nii.gz"), used(quiet=True)),
    case(".bidsignore was saved by Windows", "Excel",
         lambda c: c.write(c.bids / ".bidsignore", "\ufeff*_foo.nii.gz\r\nsub-01_*_T2w.nii.gz\r\n"),
         used(says="T2w", T2w="n/a")),
    case(".bidsignore arrives later", "BIDS", lambda c: None, session_out(**gone_02, says="ses-02"),
         session_out("02", "bidsignored", "ses-02"), later=bidsignore("sub-01/ses-02/")),
    # Links.
    case("a patient's folder is a link", "filesystem", lambda c: c.link(c.patient), used(quiet=True)),
    case("a session's folder is a link", "filesystem", lambda c: c.link(c.patient / "ses-02"), used(quiet=True)),
    case("anat is a link", "filesystem", lambda c: c.link(c.scan().parent), used(quiet=True)),
    case("a scan is a link to outside", "filesystem", lambda c: c.link(c.scan()), used(quiet=True)),
    case("a linked folder has another name where it lies", "filesystem",
         lambda c: (c.patient / "ses-02").symlink_to(c.move(c.patient / "ses-02", c.root / "MR2/0041")),
         used(quiet=True)),
    case("a session's folder is a link into derivatives", "filesystem",
         lambda c: (c.patient / "ses-02").symlink_to(c.move(c.patient / "ses-02", c.bids / "derivatives/x/ses-02")),
         used(quiet=True)),
    case("a scan arrives later in a linked session", "filesystem", linked_session, used(quiet=True),
         later=lambda c: c.move(c.root / "kept.nii.gz", c.scan())),
    case("a scan in a linked session breaks later", "filesystem", lambda c: c.link(c.patient / "ses-02"),
         session_out("02", "unreadable", NAME), later=lambda c: c.write(c.scan(), b"cut short")),
    case("a scan in a linked patient vanishes later", "filesystem", lambda c: c.link(c.patient), session_out(**gone_02),
         later=lambda c: c.scan().unlink()),
    case("a link goes round in a circle", "filesystem", lambda c: (c.patient / "again").symlink_to(c.patient), used()),
    case("a link in anat goes round in a circle", "filesystem", lambda c: (c.scan().parent / "anat").symlink_to("."),
         used()),
    case("a link leads to the whole dataset", "filesystem", lambda c: (c.bids / "all").symlink_to(".."), used()),
    case("a patient's folder is a dangling link", "annex", lambda c: (c.bids / "sub-04").symlink_to(c.root / "gone"),
         used(), not_used("dangling_link", "sub-04"),
         patient_out(("dangling_link", "unreadable", "no_contrast"), who="04")),
    case("a session's folder is a dangling link", "annex", lambda c: shutil.rmtree(c.link(c.patient / "ses-02")),
         session_out("02", ("no_contrast", "no_reference", "unreadable", "dangling_link"))),
    case("two patients' folders are links to one", "user", lambda c: (c.bids / "sub-04").symlink_to("sub-01"),
         not_used("name_disagrees", "sub-04"), patient_out(("name_disagrees", "no_contrast"), "sub-04", who="04")),
    # Annex.
    case("a clone whose content was fetched", "annex", datalad, used(quiet=True)),
    case("a scan was not fetched", "annex", lambda c: dangling(c.scan()),
         session_out("02", ("unreadable", "dangling_link"), NAME)),
    case("another sequence was not fetched", "annex", lambda c: dangling(c.scan("T2w")),
         used(flag="T2w_unreadable", says="sub-01_ses-02_T2w.nii.gz", T2w={"02": "n/a"}),
         used(flag="T2w_unreadable", says="sub-01_ses-02_T2w.nii.gz")),
    case("an unrelated diffusion image was not fetched", "annex",
         lambda c: [c.write(c.patient / "ses-02/dwi/sub-01_ses-02_dwi.nii.gz"),
         dangling(c.patient / "ses-02/dwi/sub-01_ses-02_dwi.nii.gz")],
         used(quiet=True), not_used("dangling_link", "dwi")),
    case("an image without a role was not fetched", "annex",
         lambda c: [c.write(c.scan("PDw")), dangling(c.scan("PDw"))], used()),
    case("an unlocked file was not fetched", "annex", pointer,
         session_out("02", ("unreadable", "dangling_link"), NAME)),
    case("a file in git-lfs was not fetched", "annex", lfs_pointer,
         session_out("02", ("unreadable", "dangling_link"), NAME)),
    case("a scan is fetched later", "annex", lambda c: [c.copy(c.scan(), c.root / "kept"), dangling(c.scan())],
         used(quiet=True),
         later=lambda c: [c.scan().unlink(), c.copy(c.root / "kept", c.scan())]),
    # What systems and tools leave behind.
    case("a USB disk left ._ beside a scan", "macOS", junk(f"sub-01/ses-02/anat/._{NAME}"),
         not_used("hidden_file", f"._{NAME}"), used(quiet=True)),
    case("a USB disk left ._ beside everything", "macOS",
         lambda c: [c.write(p.with_name("._" + p.name), b"\0\5\x16\7") for p in list(c.bids.rglob("*"))],
         not_used("hidden_file", "._"), used(quiet=True)),
    case("a hidden copy of a scan", "filesystem", beside(f"sub-01/ses-02/anat/.{NAME}"),
         not_used("hidden_file", f".{NAME}")),
    case(".DS_Store in every folder", "macOS",
         lambda c: [c.write(p / ".DS_Store", b"\0\0\0\1Bud1") for p in list(c.bids.rglob("*")) if p.is_dir()],
         used(quiet=True)),
    case("a disk station left @eaDir", "filesystem", junk(f"sub-01/ses-02/anat/@eaDir/{NAME}/SYNOINDEX_MEDIA_INFO"),
         used()),
    case("notebooks left checkpoints", "filesystem", beside(f"sub-01/ses-02/anat/.ipynb_checkpoints/{NAME}"),
         not_used(("hidden_file", "wrong_folder"), ".ipynb_checkpoints"), used(quiet=True)),
    case("an archive lies beside the patient", "user", junk("sub-01.zip", b"PK\3\4"), used()),
    case("an upload was cut off", "user", lambda c: c.copy(c.scan(), f"{NAME}.part"), used()),
    case("a browser or Finder saved it twice", "macOS", lambda c: c.copy(c.scan(), NAME.replace("T1w", "T1w (1)")),
         not_used("not_a_bids_name", "T1w (1)")),
    case("a cloud service kept both versions", "filesystem",
         lambda c: c.copy(c.scan(), NAME.replace("T1w", "T1w (conflicted copy 2031-03-12)")),
         not_used("not_a_bids_name", "conflicted copy")),
    case("heudiconv kept a duplicate", "heudiconv", lambda c: c.copy(c.scan(), NAME.replace("T1w", "T1w__dup-01")),
         not_used("not_a_bids_name", "__dup-01"), session_out("02", "ambiguous_scan", "__dup-01")),
    case("dcm2niix cropped or straightened it", "dcm2niix",
         lambda c: [c.copy(c.scan(), NAME.replace("T1w", t)) for t in ("T1w_Crop_1", "T1w_Tilt_1", "T1w_Eq_1")],
         not_used("not_a_bids_name", "T1w_Tilt_1"), session_out("02", "ambiguous_scan", "T1w_Tilt_1")),
    case("dcm2niix added a letter", "dcm2niix", named(NAME.replace("T1w", "T1wa")),
         session_out(**gone_02, says="T1wa")),
    case("dcm2niix added the echo", "dcm2niix", named(NAME.replace("T1w", "T1w_e2")),
         session_out(**gone_02, says="T1w_e2")),
    case("straight from dcm2niix, its own name", "dcm2niix", named("0041_t1_mprage_sag_p2_iso_20310311100000_5.nii.gz"),
         session_out(**gone_02, says="0041_t1_mprage")),
    # Names within anat.
    case("the extension is in capitals", "Windows", named(NAME.replace(".nii.gz", ".NII.GZ")),
         session_out(**gone_02, says=".NII.GZ"), used()),
    case("the suffix is in small letters", "user", named(NAME.replace("T1w", "t1w")),
         session_out(**gone_02, says="_t1w"), used()),
    case("the suffix is T1", "user", named(NAME.replace("T1w", "T1")), session_out(**gone_02, says="_T1.nii.gz")),
    case("entities in another order", "BIDS", named(f"sub-01_ses-02_run-1_acq-mprage_{CE}.nii.gz"), used(quiet=True)),
    case("more entities that BIDS knows", "BIDS",
         named("sub-01_ses-02_acq-mprage_ce-gadolinium_rec-norm_run-1_T1w.nii.gz"), used(quiet=True)),
    case("an entity that nobody knows", "user", named(f"sub-01_ses-02_foo-1_{CE}.nii.gz"),
         session_out(**gone_02, says="foo-1")),
    case("an entity without a value", "user", named(f"sub-01_ses-02_acq-_{CE}.nii.gz"),
         session_out(**gone_02, says="acq-_")),
    case("an entity twice", "user", named(f"sub-01_ses-02_acq-a_acq-b_{CE}.nii.gz"),
         session_out(**gone_02, says="acq-a_acq-b"), used()),
    case("the patient twice in one name", "user", named(f"sub-01_ses-02_sub-02_{CE}.nii.gz"),
         session_out(**gone_02, says="sub-02")),
    case("two runs", "BIDS",
         lambda c: [c.copy(c.scan(), NAME.replace("T1w", "run-2_T1w")), named(NAME.replace("T1w", "run-1_T1w"))(c)],
         session_out("02", "ambiguous_scan", "run-2")),
    case("a defaced copy beside it", "user", lambda c: c.copy(c.scan(), NAME.replace("T1w", "rec-defaced_T1w")),
         session_out("02", "ambiguous_scan", "rec-defaced")),
    case("a copy in template space beside it", "user",
         lambda c: c.copy(c.scan(), NAME.replace("T1w", "space-MNI_desc-preproc_T1w")),
         session_out("02", "ambiguous_scan", "space-MNI"), not_used(OTHER, "space-MNI")),
    case("two echoes", "dcm2niix",
         lambda c: [c.copy(c.scan(), NAME.replace("T1w", "echo-2_T1w")), named(NAME.replace("T1w", "echo-1_T1w"))(c)],
         session_out("02", "ambiguous_scan", "echo-2")),
    case("compressed and not", "user", lambda c: c.copy(c.scan(), NAME.removesuffix(".gz")),
         session_out("02", "ambiguous_scan", NAME)),
    case("another agent", "BIDS", named("sub-01_ses-02_ce-gadobutrol_T1w.nii.gz"),
         session_out(**gone_02, says="ce-gadobutrol"), used()),
    case("the agent in capitals", "user", named("sub-01_ses-02_ce-Gadolinium_T1w.nii.gz"),
         session_out(**gone_02, says="ce-Gadolinium"), used()),
    case("an image for which there is no role", "BIDS", lambda c: c.copy(c.scan(), "sub-01_ses-02_PDw.nii.gz"),
         not_used("no_role", "PDw"), used(quiet=True)),
    case("a folder has the name of a scan", "filesystem", folder_as_scan, session_out(**gone_02, says=NAME),
         session_out("02", "unreadable", NAME)),
    case("a pipe has the name of a scan", "filesystem", pipe_as_scan, session_out(**gone_02, says=NAME),
         session_out("02", "unreadable", NAME)),
    case("a file name has a line break", "filesystem", lambda c: c.copy(c.scan(), f"sub-01_ses-02\n{CE}.nii.gz"),
         not_used(OTHER)),
    case("a file name has a tab and a quote", "filesystem",
         lambda c: c.copy(c.scan(), f'sub-01_ses-02\t"_{CE}.nii.gz'), not_used(OTHER)),
    case("a file name is no UTF-8", "filesystem", bytes_name, told("sub-01_ses-02_acq-gef")),
    # No session folders, empty folders, the same label with and without zeros.
    case("a patient with one visit has no session folder", "BIDS", single_visit,
         used(sessions=["1"], days="n/a", treatment_start_day="n/a"), gone=("ses-01", "ses-02", "ses-03")),
    case("an empty patient's folder", "user", lambda c: (c.bids / "sub-04").mkdir(), used(),
         patient_out(("no_contrast", "no_reference"), who="04")),
    case("an empty session's folder", "user", lambda c: shutil.rmtree(c.scan().parent), session_out(**gone_02)),
    case("a file has the name of a patient's folder", "user", junk("sub-04", b""), used()),
    case("sub-1 and sub-01 are two patients", "user",
         lambda c: save(scan_path(c.bids, "1", "1", CE), another_scan()), used(), told("sub-1", who="1"),
         refused("sub-1")),
    # The right name on the wrong scan.
    case("a scan is that of the session before", "user", lambda c: shutil.copy(c.scan(ses="01"), c.scan()),
         told(f"sub-01_ses-01_{CE}")),
    case("a scan is that of another patient", "user",
         lambda c: shutil.copy(scan_path(c.bids, "03", "01", CE), c.scan()),
         told(f"sub-03_ses-01_{CE}", who=("01", "03"))),
    # What is no dataset.
    case("the folder given does not exist", "user", no_such, refused("bidz")),
    case("the folder given is a file", "user", a_file, refused("participants.tsv")),
    case("the folder given is empty", "user", an_empty_folder, refused("empty")),
    case("the folder given is a patient's", "user", one_patient, refused("sub-01")),
    case("the folder given holds the dataset's folder", "user", whole_parent, refused("bids")),
    case("there is no dataset_description.json", "BIDS", lambda c: (c.bids / "dataset_description.json").unlink(),
         used(), refused("dataset_description.json")),
    case("dataset_description.json is empty", "user", junk("dataset_description.json", b""), used(),
         refused("dataset_description.json")),
    case("dataset_description.json is cut short", "user", junk("dataset_description.json", b'{"Name": "odd", '),
         used(), refused("dataset_description.json")),
    case("dataset_description.json was saved by Windows", "Excel", junk("dataset_description.json",
         '\ufeff{"Name": "odd", "BIDSVersion": "1.10.0"}\r\n'.encode("utf-16")),
         used(), refused("dataset_description.json")),
    case("a sidecar is broken", "dcm2niix", junk(f"sub-01/ses-02/anat/sub-01_ses-02_{CE}.json", b"{"), used()),
    case("a sidecar for all is broken", "BIDS", junk("T1w.json", b"\xff\xfe{"), used()),
]  # fmt: skip


def another_scan():
    return np.random.default_rng(7).integers(0, 900, SHAPE).astype(np.int16)
