import nibabel as nib
import numpy as np
import pytest
from conftest import write_scan
from mettrail import images
from mettrail.errors import GridMismatchError, InputError
from mettrail.images import Grid, Image


def test_a_scan_comes_back_as_it_was_written(tmp_path, oblique_affine):
    data = np.random.default_rng(1).random((7, 8, 9), dtype=np.float32)
    images.write_image(tmp_path / "a.nii.gz", data, oblique_affine)
    back = images.read_image(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(back.data, data)
    np.testing.assert_allclose(back.affine, oblique_affine, atol=1e-4)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda d, a: (np.stack([d, d], -1), a), "not_3d"),
        (lambda d, a: (np.where(d > 0.9, np.nan, d), a), "not_finite"),
        (lambda d, a: (np.zeros_like(d), a), "empty_scan"),
        (lambda d, a: (d, a @ np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])), "sheared"),
    ],
)
def test_a_scan_nobody_can_use_is_refused_by_name(tmp_path, spoil, reason):
    data, affine = spoil(np.random.default_rng(0).random((5, 6, 7), dtype=np.float32), np.eye(4))
    path = write_scan(tmp_path / "sub-A_T1w.nii.gz", data, affine)
    with pytest.raises(InputError) as caught:
        images.read_image(path)
    assert caught.value.reason == reason
    for part in ("sub-A_T1w.nii.gz", "found:", "expected:", "to do:"):
        assert part in str(caught.value)


def test_a_file_cut_short_is_refused(tmp_path):
    path = write_scan(tmp_path / "a.nii.gz")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"a\.nii\.gz"):
        images.read_image(path)


def test_two_affines_that_disagree_are_refused(tmp_path):
    img = nib.Nifti1Image(np.random.default_rng(0).random((5, 6, 7), dtype=np.float32), np.eye(4))
    img.set_sform(np.eye(4), 1)
    img.set_qform(np.diag([1, 1, 2, 1.0]), 1)
    nib.save(img, tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match="qform"):
        images.read_image(tmp_path / "a.nii.gz")


def test_labels_outside_the_scheme_are_refused(tmp_path):
    path = write_scan(tmp_path / "dseg.nii.gz", np.full((3, 4, 5), 4, np.uint8))
    with pytest.raises(InputError, match=r"labels \[4\]"):
        images.read_labels(path, images.TISSUE_LABELS)
    path = write_scan(tmp_path / "prob.nii.gz", np.full((3, 4, 5), 0.4, np.float32))
    with pytest.raises(InputError, match="whole numbers"):
        images.read_labels(path)


def test_a_cropped_grid_stays_where_it_was_in_the_world(oblique_affine):
    grid = Grid((12, 13, 14), oblique_affine)
    small = grid.crop((slice(2, 9), slice(0, 13), slice(5, 6)))
    assert small.shape == (7, 13, 1)
    np.testing.assert_allclose(small.affine @ [3, 4, 0, 1], grid.affine @ [5, 4, 5, 1])


def test_grids_that_differ_only_in_place_are_told_apart():
    data = np.zeros((4, 5, 6), np.uint8)
    moved = np.eye(4)
    moved[0, 3] = 0.5
    images.require_same_grid(Image(data, np.eye(4)), Image(data, np.eye(4)))
    with pytest.raises(GridMismatchError):
        images.require_same_grid(Image(data, np.eye(4), "a"), Image(data, moved, "b"))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSR", "LIA"])
def test_the_working_grid_shows_one_world_whatever_the_storage(oblique_affine, codes):
    rng = np.random.default_rng(3)
    data = rng.random((12, 10, 8)).astype(np.float32)
    ras = nib.Nifti1Image(data, oblique_affine)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(oblique_affine), nib.orientations.axcodes2ornt(codes)
    )
    other = ras.as_reoriented(turn)
    assert nib.aff2axcodes(other.affine) == tuple(codes)
    first, second = Image(data, oblique_affine), Image(other.get_fdata(dtype=np.float32), other.affine)
    grid = images.canonical_grid(second.grid)
    assert grid.matches(images.canonical_grid(first.grid))
    assert nib.aff2axcodes(grid.affine) == ("R", "A", "S")
    np.testing.assert_allclose(grid.spacing_mm, 1)
    np.testing.assert_allclose(images.resample(first, grid).data, images.resample(second, grid).data, atol=1e-5)


def test_resampling_keeps_things_where_they_are_in_the_world(oblique_affine):
    data = np.zeros((20, 20, 12), np.float32)
    data[5, 14, 3] = 1
    grid = images.canonical_grid(Grid(data.shape, oblique_affine))
    out = images.resample(Image(data, oblique_affine), grid)
    peak = grid.affine @ np.append(np.unravel_index(out.data.argmax(), out.data.shape), 1)
    assert np.linalg.norm(peak - oblique_affine @ [5, 14, 3, 1]) < 1.0


def test_probabilities_come_back_within_half_a_step(tmp_path):
    data = np.random.default_rng(0).random((4, 5, 6, 4)).astype(np.float32)
    images.write_probabilities(tmp_path / "p.nii.gz", data, np.eye(4))
    assert np.abs(images.read_probabilities(tmp_path / "p.nii.gz").data - data).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("shift", [0.3, -0.3])
def test_half_a_voxel_beyond_the_outermost_centres_is_still_in_view(shift):
    labels = Image(np.ones((4, 5, 6), np.uint8), np.eye(4))
    affine = np.eye(4)
    affine[:3, 3] = shift
    assert images.resample(labels, Grid((4, 5, 6), affine), order=0).data.all()
    affine[:3, 3] = 0.7 * np.sign(shift)
    assert images.resample(labels, Grid((4, 5, 6), affine), order=0).data.sum() == 3 * 4 * 5


@pytest.mark.parametrize("grow_mm", [0, 1.4, 3, 4.2])
def test_a_grown_mask_is_all_that_is_near_enough_and_nothing_else(oblique_affine, grow_mm):
    mask = np.zeros((12, 11, 9), bool)
    mask[4:7, 5, 3:5] = mask[0, 0, 8] = True
    found = images.grow_mask(Image(mask, oblique_affine), grow_mm=grow_mm)
    everywhere = np.indices(mask.shape).reshape(3, -1).T @ oblique_affine[:3, :3].T
    apart = np.linalg.norm(everywhere[:, None] - everywhere[mask.ravel()], axis=-1).min(1)
    assert np.array_equal(found.data.ravel(), apart <= grow_mm + 1e-9)


def test_an_empty_mask_grows_to_nothing():
    assert not images.grow_mask(Image(np.zeros((5, 5, 5), bool), np.eye(4)), grow_mm=3).data.any()
