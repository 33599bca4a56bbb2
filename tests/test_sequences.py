"""Other sequences of a session: that they show the brain of the reference scan, and lie on it, or that this is said."""

import numpy as np
import pytest
from conftest import CE, load_dataset, settings_of, write_bids, write_scan
from mettrail import registration
from mettrail.errors import InputError
from mettrail.images import Grid, Image, read_image
from mettrail.registration import visits
from mettrail.tracking import matching
from mettrail.transforms import Transform
from scipy import ndimage

SHAPE = (56, 60, 52)
ENGINE = {key: value for key, value in settings_of("register").items() if not key.startswith("dice_")}
CHECK = settings_of("sequence_check")


def tissue(seed):
    """A head of its own anatomy: smooth tissue in a ball of 22 mm, air around it."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 3)
    away = np.linalg.norm(np.indices(SHAPE).T - np.array(SHAPE) / 2, axis=-1).T
    return (100 + 40 * field / field.std()).clip(20, None) * (away < 22), away < 22


def as_flair(data):
    """The same tissue in another contrast: what is dark in between is bright, what is bright dark."""
    return np.where(data > 0, 250 - 0.02 * (data - 90) ** 2, 0)


def register(reference, moving, mask):
    affine = np.eye(4)
    return visits.register_sequence(
        Image(reference.astype(np.float32), affine, "t1c.nii.gz"),
        moving,
        mask=Image(mask, affine),
        check=CHECK,
        threads=1,
        **ENGINE,
    )


def test_a_sequence_of_the_same_head_in_another_contrast_is_sound():
    data, brain = tissue(1)
    shift = np.eye(4)
    shift[0, 3] = 2.5
    _, moved, quality = register(data, Image(as_flair(data).astype(np.float32), shift), brain)
    assert (quality["status"], quality["reason"]) == ("ok", "")
    assert quality["brain_covered"] == 1
    assert quality["shared_information_left"] < 0.15
    inner = ndimage.binary_erosion(brain, iterations=4)
    assert np.corrcoef(moved.data[inner], as_flair(data)[inner])[0, 1] > 0.9


def test_a_scan_of_another_head_is_refused_by_name():
    data, brain = tissue(1)
    other = Image(as_flair(tissue(2)[0]).astype(np.float32), np.eye(4), "sub-B_FLAIR.nii.gz")
    with pytest.raises(InputError, match=r"(?s)sub-B_FLAIR.nii.gz.*of the brain in view.*bidsignore") as refused:
        register(data, other, brain)
    assert refused.value.reason == "sequence_failed"


@pytest.mark.parametrize("exchanged", ["voxels", "affine"])
def test_a_sequence_with_left_and_right_exchanged_is_refused(exchanged):
    data, brain = tissue(1)
    flair, affine = as_flair(data).astype(np.float32), np.eye(4)
    if exchanged == "voxels":
        flair = flair[::-1]
    else:
        affine[0, [0, 3]] = -1, SHAPE[0] + 2
    moving = Image(np.ascontiguousarray(flair), affine, "sub-A_FLAIR.nii.gz")
    with pytest.raises(InputError, match=r"(?s)sub-A_FLAIR.nii.gz.*once left and right are exchanged") as refused:
        register(data, moving, brain)
    assert refused.value.reason == "mirrored"


@pytest.mark.parametrize(("slices", "said"), [(34, "partial"), (12, "refused")])
def test_a_slab_is_flagged_or_refused_by_the_share_of_the_brain_in_it(slices, said, monkeypatch):
    # Registration is left out: so small a head in half a slab is lost. A real one is not, see below.
    monkeypatch.setattr(registration, "register", lambda *_, **__: Transform(np.eye(4)))
    data, brain = tissue(1)
    slab = Image(as_flair(data)[:, :, :slices].astype(np.float32), np.eye(4), "sub-A_FLAIR.nii.gz")
    share = brain[:, :, :slices].sum() / brain.sum()
    if said == "refused":
        with pytest.raises(InputError, match=f"{share:.0%} of the brain in view"):
            register(data, slab, brain)
        return
    _, _, quality = register(data, slab, brain)
    assert (quality["status"], quality["reason"]) == ("warn", "partial")
    assert quality["brain_covered"] == pytest.approx(share)


@pytest.mark.parametrize(
    ("covered", "left", "verdict"),
    [
        (1, 0.1, ("ok", None)),
        (1, 0.3, ("warn", "misaligned")),
        (0.9, 0.1, ("warn", "partial")),
        (0.4, 0.1, ("fail", "sequence_failed")),
        (1, 0.5, ("fail", "sequence_failed")),
        (1, float("nan"), ("fail", "sequence_failed")),
    ],
)
def test_the_verdict_on_a_sequence_follows_the_limits(covered, left, verdict):
    found = registration.sequence_qc(covered=covered, left=left, **CHECK)
    assert (found.status, found.reason) == verdict


def test_an_image_of_one_value_tells_nothing_of_another():
    data, brain = tissue(1)
    flat = Image(np.ones(SHAPE), np.eye(4))
    shared, left = registration.shared_information(Image(data, np.eye(4)), flat, Image(brain, np.eye(4)))
    assert shared == 0
    assert np.isnan(left)


# What a scanner or a converter makes of a FLAIR's place: shape, spacing and place of its first voxel, mm, beside a head
# of 200 x 240 x 256 mm from the origin on.
PLACES = {
    "the same field of view": ((100, 120, 128), 2.0, (0, 0, 0), True),
    "axial slices of the brain alone": ((100, 120, 35), 4.0, (0, 0, 100), True),
    "a slab of half the brain": ((100, 120, 20), 4.0, (0, 0, 100), True),
    "an offset that was lost": ((100, 120, 128), 2.0, (-160, -190, -60), False),
    "another table position": ((100, 120, 128), 2.0, (0, 0, 400), False),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_sequence_beside_the_reference_scan_is_not_used_and_said_so(tmp_path, place):
    shape, spacing, origin, used = PLACES[place]
    bids = write_bids(tmp_path / "bids", {"A": {"1": [CE, "FLAIR"]}})
    anat = bids / "sub-A/ses-1/anat"

    head = np.random.default_rng(0).random((100, 120, 128), dtype=np.float32)
    write_scan(anat / f"sub-A_ses-1_{CE}.nii.gz", head, np.diag([2, 2, 2, 1]))
    affine = np.diag([2, 2, spacing, 1])
    affine[:3, 3] = origin
    write_scan(anat / "sub-A_ses-1_FLAIR.nii.gz", head[:, :, : shape[2]], affine)
    (row,) = load_dataset(bids, tmp_path / "out").sessions.to_dict("records")
    assert row["usable"] == "true"
    assert (row["FLAIR"] != "n/a") == used
    assert ("FLAIR_elsewhere" in row["flags"]) != used
    assert used or "sub-A_ses-1_FLAIR.nii.gz" in row["detail"]


def test_middle_points_lie_in_the_middle_half_of_any_grid(oblique_affine):
    grid = Grid((20, 30, 10), oblique_affine)
    points = grid.middle_points()
    at = np.linalg.solve(oblique_affine[:3, :3], (points - oblique_affine[:3, 3]).T).T
    assert at.min(0) == pytest.approx([4.5, 7, 2])
    assert at.max(0) == pytest.approx([14.5, 22, 7])
    assert grid.contains(points).all()
    assert not grid.contains(points + np.array([500, 0, 0])).any()


def test_sessions_say_which_sequence_requires_review():
    session = matching.describe_session(
        {"sub": "A", "ses": "1", "contrast": "true"},
        totals={},
        quality={"status": "ok"},
        reference=CE,
        reference_session="ses-1",
        sequences={"FLAIR": {"status": "warn", "reason": "partial"}, "T2w": {"status": "ok", "reason": ""}},
    )
    assert session["evaluable"]
    assert session["flags"] == ["FLAIR_partial"]


def real_pair(folder, patient, name="FLAIR"):
    """A real brain, and a patient's FLAIR as many clinics scan it: in slices of 6 mm."""
    reference = read_image(folder / "contrast-anatomies/sub-26_ce-gadolinium_T1w.nii.gz")
    flair = read_image(folder / f"contrast-anatomies/sub-{patient}_{name}.nii.gz")
    count = flair.data.shape[2] // 6
    thick = flair.data[:, :, : 6 * count].reshape(*flair.data.shape[:2], count, 6).mean(-1)
    affine = flair.affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 6, 2.5], [0, 0, 0, 1]])
    return reference, Image(thick.astype(np.float32), affine, flair.path)


@pytest.mark.parametrize(("lowest", "reason"), [(0, ""), (12, "partial")])
def test_a_real_sequence_is_sound_or_partial(real_data, lowest, reason):
    reference, flair = real_pair(real_data, "26")
    box = tuple(slice(start, length) for start, length in zip((0, 0, lowest), flair.data.shape, strict=True))
    slab = Image(flair.data[box], flair.grid.crop(box).affine, flair.path)
    mask = Image(reference.data > 0, reference.affine)
    *_, quality = visits.register_sequence(reference, slab, mask=mask, check=CHECK, threads=2, **ENGINE)
    assert quality["reason"] == reason
    assert quality["shared_information_left"] < 0.2


@pytest.mark.parametrize("name", ["FLAIR", "T1w"])
def test_a_real_sequence_that_is_mirrored_is_refused(real_data, name):
    reference, flair = real_pair(real_data, "26", name)
    mask = Image(reference.data > 0, reference.affine)
    with pytest.raises(InputError, match="once left and right are exchanged"):
        visits.register_sequence(reference, registration.mirror(flair), mask=mask, check=CHECK, threads=2, **ENGINE)


def test_a_real_sequence_of_another_patient_is_refused(real_data):
    reference, flair = real_pair(real_data, "07")
    mask = Image(reference.data > 0, reference.affine)
    with pytest.raises(InputError, match="sub-07_FLAIR"):
        visits.register_sequence(reference, flair, mask=mask, check=CHECK, threads=2, **ENGINE)
