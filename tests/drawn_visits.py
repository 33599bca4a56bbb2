"""Visits of the drawn patient as files: heads that lie elsewhere, stored otherwise, with one bright lesion."""

import numpy as np
from drawn_patient import lesion_table
from mettrail.images import CAVITY, EDEMA, ENHANCING, NECROSIS, Image, write_image, write_labels
from mettrail.report import scans
from mettrail.sidecars import write_json
from mettrail.tracking.axial import ENDPOINTS
from mettrail.transforms import write_affine

# Of the reference: no two sides alike, no axis of the file along its own number.
LPS = np.array([[-1.0, 0, 0, 50], [0, -1.2, 0, 40], [0, 0, 2.0, -40], [0, 0, 0, 1]])
PIR = np.array([[0, 0, 1.5, -50], [-1.0, 0, 0, 50], [0, -1.2, 0, 40], [0, 0, 0, 1]])
SHAPES = {"LPS": (100, 80, 40), "PIR": (100, 80, 66)}
PLACE = np.array([-18.0, 12.0, 6.0])


def world_of(affine, shape):
    """RAS mm of every voxel."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def make_visit(
    folder, *, moved=(0, 0, 0), diameter=10.0, stored="LPS", label=1, core=0.0, edema=0.0, cavity=0.0, prior=None
):
    """A session whose head lies elsewhere than in the reference: a bright ball of a lesion, as files."""
    affine = {"LPS": LPS, "PIR": PIR}[stored]
    world = world_of(affine, SHAPES[stored])
    distance = np.linalg.norm(world - (PLACE + moved), axis=-1)
    brain = np.linalg.norm((world - moved) / (40, 38, 33), axis=-1) < 1
    lesion = distance <= diameter / 2
    tissue = np.where((distance <= cavity / 2) & (distance > cavity / 2 - 3), CAVITY, 0)
    tissue[distance <= edema / 2] = EDEMA
    tissue[lesion] = ENHANCING
    tissue[distance <= core / 2] = NECROSIS
    # Bright tissue far from the lesion sets what is white.
    scan = 100.0 * brain + 140 * (brain & (world[..., 2] - moved[2] > 18))
    scan[lesion] = 240
    folder.mkdir(parents=True)
    write_image(folder / "scan.nii.gz", scan.astype(np.float32), affine)
    for name, data in (("lesions", lesion * label), ("tissue", tissue), ("brain", brain)):
        write_labels(folder / f"{name}.nii.gz", data.astype(np.uint8), affine)
    if prior is not None:
        write_labels(folder / "prior.nii.gz", (distance <= prior / 2).astype(np.uint8), affine)
    rigid = np.eye(4)
    rigid[:3, 3] = moved
    write_affine(folder / "affine.txt", rigid)
    write_json({"status": "ok", "reference_session": "ses-01"}, folder / "quality.json")
    names = ("scan.nii.gz", "lesions.nii.gz", "tissue.nii.gz", "brain.nii.gz", "affine.txt", "quality.json")
    return scans.Visit(*(folder / name for name in names), None if prior is None else folder / "prior.nii.gz")


SPACE = Image(np.zeros((80, 80, 80)), np.diag([1.0, 1, 1, 1])).grid


def ends(moved=(0, 0, 0), diameter=10.0, up=0.0):
    """Where a lesion's longest diameter ends in its session, as the table says it."""
    x, y, z = PLACE + np.array(moved, float) + np.array([0, 0, up])
    values = (x - diameter / 2, y, z, x + diameter / 2, y, z)
    return dict(zip(ENDPOINTS, map(float, values), strict=True))


def table_with_ends(**more):
    """The drawn patient's L001, whose diameters have ends at the sessions given: ses_01=ends()."""
    table = lesion_table().query("track_id == 'L001'").reset_index(drop=True)
    for session, values in more.items():
        at = table["session_id"] == session.replace("_", "-")
        table.loc[at, list(values)] = list(values.values())
    return table
