"""Where results are to be written, as seen by the whole command: `out` beside, in, above and over what is read."""

import os


def same(c):
    return {"out": c.bids}


def by_dots(c):
    return {"out": c.bids / "sub-01" / ".."}


def by_link(c):
    (c.root / "link").symlink_to(c.bids)
    return {"out": c.root / "link"}


def dataset_by_link(c):
    (c.root / "link").symlink_to(c.bids)
    return {"bids": c.root / "link", "out": c.bids}


def below_link(c):
    (c.root / "link").symlink_to(c.root)
    return {"out": c.root / "link" / "bids"}


def relative(c):
    return {"out": os.path.relpath(c.bids, c.root)}


def in_patient(c):
    return {"out": c.patient}


def in_session_by_link(c):
    (c.root / "link").symlink_to(c.patient / "ses-01")
    return {"out": c.root / "link" / "results"}


def in_dataset(c):
    return {"out": c.bids / "results"}


def in_sourcedata(c):
    return {"out": c.bids / "sourcedata"}


def in_derivatives(c):
    return {"out": c.bids / "derivatives" / "mettrail"}


def derivatives_link_back(c):
    (c.bids / "derivatives").mkdir()
    (c.bids / "derivatives" / "mettrail").symlink_to("..")
    return {"out": c.bids / "derivatives" / "mettrail"}


def above(c):
    return {"out": c.root}


def above_by_link(c):
    (c.root / "link").symlink_to(c.root)
    return {"out": c.root / "link"}


def patient_is_link_into_out(c):
    """The data of one patient lie in `out`, as sub-01: pages and lesions would be written among them."""
    c.link(c.patient, "out")
    return {}


def masks(c):
    return {"out": c.masks, "labels": {"folder": str(c.masks)}}


def masks_by_link(c):
    (c.root / "link").symlink_to(c.masks)
    return {"out": c.root / "link", "labels": {"folder": str(c.masks)}}


def masks_in_out(c):
    return {"out": c.root / "out", "labels": {"folder": str(c.move(c.masks, c.root / "out" / "masks"))}}


def in_masks(c):
    return {"out": c.masks / "sub-01", "labels": {"folder": str(c.masks)}}


def overrides(c):
    (c.root / "readers").mkdir()
    return {"out": c.root / "readers", "overrides": str(c.root / "readers")}


def frozen(c):
    (c.root / "earlier").mkdir()
    return {"out": c.root / "earlier", "frozen": str(c.root / "earlier")}


def file(c):
    c.write(c.root / "results", b"mine")
    return {"out": c.root / "results"}


def dangling(c):
    (c.root / "results").symlink_to(c.root / "gone")
    return {"out": c.root / "results"}


def number(c):
    return {"out": 20240101}


def number_of_dataset(c):
    c.move(c.bids, c.root / "007")
    return {"bids": "007"}


def braces(c):
    return {"out": c.root / "run{1}"}


def blank(c):
    return {"out": c.root / "my results"}


# What, how, and what may come of it: "refused" or "goes on".
ROWS = [
    ("out is the dataset", same, {"refused"}),
    ("out is the dataset, with two dots", by_dots, {"refused"}),
    ("out is a link to the dataset", by_link, {"refused"}),
    ("the dataset is given as a link, out as it is", dataset_by_link, {"refused"}),
    ("out is the dataset by a link above", below_link, {"refused"}),
    ("out is the dataset, relative", relative, {"refused"}),
    ("out is a patient's folder", in_patient, {"refused"}),
    ("out is in a session's folder by a link", in_session_by_link, {"refused"}),
    ("out is a folder of its own in the dataset", in_dataset, {"refused", "goes on"}),
    ("out is the dataset's sourcedata", in_sourcedata, {"refused", "goes on"}),
    ("out is in the dataset's derivatives", in_derivatives, {"goes on"}),
    ("out is in derivatives and a link back to the dataset", derivatives_link_back, {"refused"}),
    ("out is the folder that holds the dataset", above, {"refused", "goes on"}),
    ("out is that folder by a link", above_by_link, {"refused", "goes on"}),
    ("a patient's folder is a link into out", patient_is_link_into_out, {"refused"}),
    ("out is the folder of masks", masks, {"refused"}),
    ("out is a link to the folder of masks", masks_by_link, {"refused"}),
    ("out holds the folder of masks", masks_in_out, {"refused", "goes on"}),
    ("out is a patient's folder of masks", in_masks, {"refused"}),
    ("out is the folder of readers' decisions", overrides, {"refused"}),
    ("out is the folder of earlier results to keep to", frozen, {"refused"}),
    ("out is a file", file, {"refused"}),
    ("out is a dangling link", dangling, {"refused", "goes on"}),
    ("out is a number", number, {"refused", "goes on"}),
    ("the dataset is called 007", number_of_dataset, {"refused", "goes on"}),
    ("out has braces", braces, {"refused", "goes on"}),
    ("out has a blank", blank, {"goes on"}),
]
