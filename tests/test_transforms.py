"""Transforms: order, direction and what ITK makes of the files. Grids are oblique and anisotropic throughout."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from mettrail import transforms
from mettrail.errors import InputError
from mettrail.images import Grid, Image
from mettrail.transforms import Warp
from scipy import ndimage
from scipy.spatial.transform import Rotation

LPS = np.array([-1.0, -1.0, 1.0])


def make_grid(shape, spacing, angles, centre) -> Grid:
    """Return a grid whose middle is at a place in the world."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * np.array(spacing)
    affine[:3, 3] = np.array(centre) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


FIXED = make_grid((34, 40, 30), (2.0, 1.5, 2.5), (10, -8, 20), (5, -12, 30))
MOVING = make_grid((44, 38, 31), (1.6, 2.2, 2.4), (-15, 5, -30), (115, 64, -40))


def make_matrix(angles=(20, -10, 15), shift=(0, 0, 0), scale=(1, 1, 1)) -> np.ndarray:
    """Return a matrix that takes the middle of FIXED near the middle of MOVING."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag(scale)
    matrix[:3, 3] = np.array([115, 64, -40]) + shift - matrix[:3, :3] @ [5, -12, 30]
    return matrix


def make_warp(grid=FIXED, size_mm=4.0, seed=3) -> Warp:
    """Return a smooth field of a few millimetres, different along each axis."""
    rng = np.random.default_rng(seed)
    noise = np.stack([ndimage.gaussian_filter(rng.standard_normal(grid.shape), 5) for _ in range(3)], axis=-1)
    return Warp((noise / np.abs(noise).max() * size_mm).astype(np.float32), grid.affine)


def world(grid: Grid, voxels) -> np.ndarray:
    return np.asarray(voxels, float) @ grid.affine[:3, :3].T + grid.affine[:3, 3]


def ball(grid: Grid, centre, radius_mm) -> np.ndarray:
    points = world(grid, np.moveaxis(np.indices(grid.shape), 0, -1))
    return np.linalg.norm(points - centre, axis=-1) <= radius_mm


def centroid(grid: Grid, mask) -> np.ndarray:
    return world(grid, np.argwhere(mask)).mean(axis=0)


def texture(grid=MOVING, seed=0) -> Image:
    rng = np.random.default_rng(seed)
    data = ndimage.gaussian_filter(rng.standard_normal(grid.shape), 1.5)
    return Image(((data - data.min()) * 1000).astype(np.float32), grid.affine)


# Affines


def test_an_affine_survives_its_file(tmp_path):
    matrix = make_matrix(scale=(1.1, 0.9, 1.2))
    transforms.write_affine(tmp_path / "new" / "a.txt", matrix)
    assert np.allclose(transforms.read_affine(tmp_path / "new" / "a.txt"), matrix, atol=1e-12)


def test_itk_reads_the_affine_as_the_same_map_of_points(tmp_path):
    matrix, point = make_matrix(scale=(1.1, 0.9, 1.2)), np.array([7.0, -3.0, 11.0])
    transforms.write_affine(tmp_path / "a.txt", matrix)
    itk = sitk.ReadTransform(str(tmp_path / "a.txt"))
    assert itk.GetName() == "AffineTransform"
    there = np.array(itk.TransformPoint((point * LPS).tolist())) * LPS
    assert np.allclose(there, transforms.map_points(point[None], affine=matrix)[0], atol=1e-9)


def test_an_affine_with_a_centre_of_rotation_is_read_right(tmp_path):
    itk = sitk.Euler3DTransform((10.0, -20.0, 5.0), 0.2, -0.1, 0.4, (3.0, 1.0, -2.0))
    sitk.WriteTransform(itk, str(tmp_path / "e.tfm"))
    point = np.array([1.0, 2.0, 3.0])
    expected = np.array(itk.TransformPoint((point * LPS).tolist())) * LPS
    matrix = transforms.read_affine(tmp_path / "e.tfm")
    assert np.allclose(transforms.map_points(point[None], affine=matrix)[0], expected)


def test_what_is_no_linear_transform_is_refused(tmp_path):
    (tmp_path / "noise.txt").write_text("1 0 0 0\n")
    sitk.WriteTransform(sitk.BSplineTransform(3), str(tmp_path / "spline.tfm"))
    for name in ("noise.txt", "missing.txt", "spline.tfm"):
        with pytest.raises(InputError) as caught:
            transforms.read_affine(tmp_path / name)
        assert caught.value.reason == "bad_transform"


def test_matrices_are_composed_in_the_order_points_meet_them():
    turn, stretch = make_matrix((0, 0, 90)), np.diag([3.0, 1.0, 1.0, 1.0])
    point = np.array([[1.0, 2.0, 3.0]])
    step_by_step = transforms.map_points(transforms.map_points(point, affine=turn), affine=stretch)
    assert np.allclose(transforms.map_points(point, affine=transforms.compose(turn, stretch)), step_by_step)
    assert not np.allclose(transforms.map_points(point, affine=transforms.compose(stretch, turn)), step_by_step)
    there_and_back = transforms.compose(turn, stretch, transforms.invert(transforms.compose(turn, stretch)))
    assert np.allclose(there_and_back, np.eye(4))


# Warps


def test_the_rigid_part_of_an_affine_keeps_volumes_and_the_middle():
    middle = np.array([5.0, -12, 30])
    rigid = make_matrix(shift=(3, 1, -2))
    assert np.allclose(transforms.nearest_rigid(rigid, about=middle), rigid)
    affine = make_matrix(shift=(3, 1, -2), scale=(1.1, 0.9, 1.05))
    found = transforms.nearest_rigid(affine, about=middle)
    assert np.allclose(found[:3, :3], rigid[:3, :3])
    assert np.allclose(found @ [*middle, 1], affine @ [*middle, 1])


def test_a_warp_survives_its_file_to_a_hundredth_of_a_millimetre(tmp_path):
    warp = make_warp()
    transforms.write_warp(tmp_path / "new" / "w.nii.gz", warp)
    read = transforms.read_warp(tmp_path / "new" / "w.nii.gz")
    assert read.grid.matches(FIXED)
    assert np.abs(read.vectors - warp.vectors).max() < 0.01
    assert read.vectors.dtype == np.float32


def test_the_file_of_a_warp_is_what_itk_calls_a_displacement_field(tmp_path):
    warp = make_warp()
    transforms.write_warp(tmp_path / "w.nii.gz", warp)
    raw = nib.load(tmp_path / "w.nii.gz")
    assert raw.shape == (*FIXED.shape, 1, 3)
    assert int(raw.header["intent_code"]) == 1007
    assert np.abs(np.asarray(raw.dataobj)[:, :, :, 0] - warp.vectors * LPS).max() < 0.01


def test_an_image_is_refused_as_a_warp(tmp_path):
    sitk.WriteImage(transforms.image_to_itk(texture()), str(tmp_path / "i.nii.gz"))
    (tmp_path / "noise.nii.gz").write_text("no image")
    for name in ("i.nii.gz", "noise.nii.gz"):
        with pytest.raises(InputError):
            transforms.read_warp(tmp_path / name)


# Points


def test_the_warp_comes_before_the_affine():
    flat = Warp(np.broadcast_to(np.float32([5, 0, 0]), (*FIXED.shape, 3)), FIXED.affine)
    stretch = np.diag([2.0, 1.0, 1.0, 1.0])
    point = world(FIXED, [[15, 20, 12]])
    assert np.allclose(transforms.map_points(point, affine=stretch, warp=flat), np.add(point, [5, 0, 0]) * [2, 1, 1])


def test_points_come_back_from_the_moving_image():
    warp, matrix = make_warp(), make_matrix(scale=(1.1, 0.9, 1.2))
    points = world(FIXED, np.random.default_rng(0).uniform(8, 22, (50, 3)))
    there = transforms.map_points(points, affine=matrix, warp=warp)
    assert np.linalg.norm(there - points, axis=1).min() > 50
    assert np.abs(transforms.unmap_points(there, affine=matrix, warp=warp) - points).max() < 0.01


# Images


def test_nothing_to_do_changes_nothing_not_even_at_the_border():
    image = texture()
    assert np.allclose(transforms.apply(image, image.grid).data, image.data, rtol=1e-4)
    labels = image.like(np.random.default_rng(0).integers(0, 4, MOVING.shape).astype(np.uint8))
    for interpolation in ("nearest", "label"):
        moved = transforms.apply(labels, labels.grid, affine=np.eye(4), interpolation=interpolation)
        assert np.array_equal(moved.data, labels.data)
        assert moved.data.dtype == np.uint8


def test_itk_resamples_the_same_through_the_written_files(tmp_path):
    image, matrix, warp = texture(), make_matrix(scale=(1.1, 0.9, 1.0)), make_warp(size_mm=6)
    transforms.write_affine(tmp_path / "a.txt", matrix)
    transforms.write_warp(tmp_path / "w.nii.gz", warp)
    # ITK applies the transform that was added last first.
    chain = sitk.CompositeTransform(
        [
            sitk.ReadTransform(str(tmp_path / "a.txt")),
            sitk.DisplacementFieldTransform(sitk.ReadImage(str(tmp_path / "w.nii.gz"), sitk.sitkVectorFloat64)),
        ]
    )
    reference = transforms.image_to_itk(Image(np.zeros(FIXED.shape, np.float32), FIXED.affine))
    expected = sitk.GetArrayFromImage(sitk.Resample(transforms.image_to_itk(image), reference, chain)).T
    ours = transforms.apply(image, FIXED, affine=matrix, warp=warp)
    assert ours.grid.matches(FIXED)
    # The two treat the last half voxel of the field of view differently.
    inside = ndimage.binary_erosion(expected > 0, iterations=2)
    assert inside.sum() > 5000
    assert np.abs(ours.data - expected)[inside].max() < 0.01 * expected.max()


def test_a_warp_may_be_on_a_grid_of_its_own():
    image, matrix = texture(), make_matrix()
    coarse = make_grid((20, 20, 20), (5.0, 5.0, 5.0), (0, 0, 0), (5, -12, 30))
    points = world(coarse, np.moveaxis(np.indices(coarse.shape), 0, -1))
    field = 0.05 * (points - [5, -12, 30])
    fine_points = world(FIXED, np.moveaxis(np.indices(FIXED.shape), 0, -1))
    fine = Warp(np.float32(0.05 * (fine_points - [5, -12, 30])), FIXED.affine)
    one = transforms.apply(image, FIXED, affine=matrix, warp=Warp(np.float32(field), coarse.affine))
    two = transforms.apply(image, FIXED, affine=matrix, warp=fine)
    assert np.abs(one.data - two.data).max() < 1e-2 * two.data.max()


def test_left_stays_left():
    left = world(MOVING, [[5, 19, 15]])[0]
    image = Image(ball(MOVING, left, 6).astype(np.float32), MOVING.affine)
    grid = make_grid((80, 70, 60), (1.5, 1.5, 1.5), (0, 0, 0), (115, 64, -40))
    moved = transforms.apply(image, grid)
    assert np.abs(centroid(grid, moved.data > 0.5) - left).max() < 0.7


def test_an_unknown_interpolation_is_refused():
    with pytest.raises(ValueError, match="interpolation"):
        transforms.apply(texture(), FIXED, interpolation="cubic")


def test_a_mask_stays_a_mask():
    mask = texture().like(ball(MOVING, (115, 64, -40), 15))
    moved = transforms.apply(mask, FIXED, affine=make_matrix(), interpolation="nearest")
    assert moved.data.dtype == bool
    assert 0.9 < moved.data.sum() * FIXED.voxel_volume_mm3 / (mask.data.sum() * MOVING.voxel_volume_mm3) < 1.1


# Labels


def chain_with_lesion(radius_mm=5.0, value=1):
    """Return labels whose lesion belongs at a known place of the fixed image, far from where errors would put it."""
    matrix, warp = make_matrix((35, -20, 50), shift=(6, -4, 3)), make_warp(size_mm=5)
    place = world(FIXED, [[24, 26, 9]])
    there = transforms.map_points(place, affine=matrix, warp=warp)[0]
    labels = Image((ball(MOVING, there, radius_mm) * value).astype(np.uint8), MOVING.affine)
    return labels, matrix, warp, place[0]


def test_a_lesion_ends_where_it_belongs_and_nowhere_else():
    labels, matrix, warp, place = chain_with_lesion()
    moved = transforms.warp_labels(labels, FIXED, affine=matrix, warp=warp)
    assert moved.rescued == moved.outside == 0
    assert np.linalg.norm(centroid(FIXED, moved.image.data == 1) - place) < 0.7
    # The phantom tells directions apart: backwards, or without the warp, it ends elsewhere.
    backwards = transforms.warp_labels(labels, FIXED, affine=transforms.invert(matrix), warp=warp)
    assert not (backwards.image.data == 1).any()
    straight = transforms.warp_labels(labels, FIXED, affine=matrix, warp=None)
    assert np.linalg.norm(centroid(FIXED, straight.image.data == 1) - place) > 1.5


def test_labels_keep_their_volumes_and_their_layers():
    place, matrix = world(FIXED, [17, 20, 15]), make_matrix()
    there = transforms.map_points(place[None], affine=matrix)[0]
    data = ball(MOVING, there, 14) * 2
    data[ball(MOVING, there, 9)] = 1
    data[ball(MOVING, there, 5)] = 3
    labels = Image(data.astype(np.uint8), MOVING.affine)
    moved = transforms.apply(labels, FIXED, affine=matrix, interpolation="label").data
    for label in (1, 2, 3):
        before = (data == label).sum() * MOVING.voxel_volume_mm3
        assert (moved == label).sum() * FIXED.voxel_volume_mm3 == pytest.approx(before, rel=0.12)
    assert set(np.unique(moved)) == {0, 1, 2, 3}


def test_small_lesions_keep_their_volume_on_average():
    rng, ratios = np.random.default_rng(0), []
    for _ in range(20):
        turned = make_grid((16, 18, 20), (1.0, 0.9, 1.1), rng.uniform(0, 90, 3), rng.uniform(-0.5, 0.5, 3))
        straight = make_grid((16, 16, 16), (1.0, 1.0, 1.0), (0, 0, 0), rng.uniform(-0.5, 0.5, 3))
        labels = Image(ball(turned, (0, 0, 0), 2.5).astype(np.uint8), turned.affine)
        moved = transforms.apply(labels, straight, interpolation="label")
        ratios.append(moved.data.sum() / (labels.data.sum() * turned.voxel_volume_mm3))
    assert np.mean(ratios) == pytest.approx(1, abs=0.04)


def test_thin_layers_together_are_still_a_lesion():
    # Each label holds less of the voxel than background does, all of them together hold most of it.
    data = np.zeros((8, 8, 8), np.uint8)
    data[3, 3:5, 3:5], data[4, 3:5, 3:5] = 1, 3
    labels = Image(data, np.eye(4))
    shift = np.eye(4)
    shift[:3, 3] = [0.5, 0.35, 0.0]
    moved = transforms.apply(labels, labels.grid, affine=shift, interpolation="label").data
    assert moved[3, 3, 3] in (1, 3)


def test_a_propagated_lesion_is_the_same_with_edema_and_without():
    place, matrix, warp = world(FIXED, [17, 20, 15]), make_matrix(), make_warp()
    there = transforms.map_points(place[None], affine=matrix)[0]
    lesion = ball(MOVING, there, 5).astype(np.uint8)
    lesion[ball(MOVING, there, 3)] = 3
    around = np.where((lesion == 0) & ball(MOVING, there + np.array([3, 0, 0]), 8), 2, lesion).astype(np.uint8)
    moved = [transforms.warp_labels(Image(data, MOVING.affine), FIXED, affine=matrix, warp=warp).image.data
             for data in (lesion, around)]  # fmt: skip
    assert (moved[1] == 2).any()
    assert np.array_equal(moved[0], np.where(moved[1] == 2, 0, moved[1]))


def test_resection_cavities_are_not_propagated():
    place, matrix = world(FIXED, [17, 20, 15]), make_matrix()
    there = transforms.map_points(place[None], affine=matrix)[0]
    data = ball(MOVING, there, 9) * 4
    data[ball(MOVING, there, 4)] = 1
    moved = transforms.warp_labels(Image(data.astype(np.uint8), MOVING.affine), FIXED, affine=matrix).image.data
    assert set(np.unique(moved)) == {0, 1}


def test_no_lesions_give_an_empty_map():
    empty = Image(np.zeros(MOVING.shape, np.uint8), MOVING.affine)
    moved = transforms.warp_labels(empty, FIXED, affine=make_matrix(), warp=make_warp())
    assert moved.image.grid.matches(FIXED)
    assert not moved.image.data.any()
    assert (moved.rescued, moved.outside) == (0, 0)


def make_tiny(*voxels, value=1) -> Image:
    data = np.zeros((60, 50, 40), np.uint8)
    for voxel in voxels:
        data[tuple(voxel)] = value
    return Image(data, make_grid((60, 50, 40), (0.4, 0.5, 0.6), (5, 5, 5), (115, 64, -40)).affine)


def test_a_tiny_lesion_keeps_one_voxel_where_its_centroid_belongs():
    warp, matrix = make_warp(), make_matrix()
    labels = make_tiny((30, 25, 20), value=3)
    assert not transforms.apply(labels, FIXED, affine=matrix, warp=warp, interpolation="label").data.any()
    moved = transforms.warp_labels(labels, FIXED, affine=matrix, warp=warp)
    assert moved.rescued == 1
    assert (moved.image.data == 3).sum() == moved.image.data.astype(bool).sum() == 1
    back = transforms.map_points(world(FIXED, np.argwhere(moved.image.data)), affine=matrix, warp=warp)
    half_diagonal = np.linalg.norm(FIXED.spacing_mm) / 2
    assert np.linalg.norm(back - centroid(labels.grid, labels.data == 3)) < half_diagonal + 0.3


def test_two_tiny_lesions_of_one_voxel_are_both_kept():
    labels = make_tiny((30, 25, 20), (30, 25, 22))
    moved = transforms.warp_labels(labels, FIXED, affine=make_matrix())
    assert moved.rescued == 2
    assert (moved.image.data == 1).sum() == 2


def test_a_rescued_lesion_does_not_take_a_voxel_of_another():
    labels = make_tiny((30, 25, 20), value=3)
    data = labels.data.copy()
    big = ball(labels.grid, centroid(labels.grid, labels.data == 3), 6)
    shell = ball(labels.grid, centroid(labels.grid, labels.data == 3), 1.2)
    data[big & ~shell] = 1
    moved = transforms.warp_labels(labels.like(data), FIXED, affine=make_matrix())
    alone = transforms.warp_labels(labels.like(np.where(data == 3, 0, data)), FIXED, affine=make_matrix())
    assert moved.rescued == 1
    assert np.array_equal(moved.image.data == 1, alone.image.data == 1)
    assert (moved.image.data == 3).sum() == 1


def test_a_lesion_outside_the_grid_is_counted_and_not_invented():
    labels = make_tiny((30, 25, 20))
    moved = transforms.warp_labels(labels, FIXED, affine=make_matrix(shift=(0, 300, 0)))
    assert (moved.rescued, moved.outside) == (0, 1)
    assert not moved.image.data.any()


def test_edema_alone_is_no_lesion_to_rescue():
    moved = transforms.warp_labels(make_tiny((30, 25, 20), value=2), FIXED, affine=make_matrix())
    assert moved.rescued == 0
    assert not moved.image.data.any()


def test_a_lesion_that_survives_as_part_of_its_label_is_not_rescued():
    labels, matrix, _, _ = chain_with_lesion(radius_mm=6)
    tiny = world(MOVING, [[12, 30, 20]])[0]
    data = labels.data | ball(MOVING, tiny, 0.9).astype(np.uint8)
    assert ndimage.label(data)[1] == 2
    thin = make_grid((60, 60, 60), (4.0, 4.0, 4.0), (3, 3, 3), (5, -12, 30))
    moved = transforms.warp_labels(labels.like(data), thin, affine=matrix)
    assert moved.rescued == 1
    assert ndimage.label(moved.image.data, np.ones((3, 3, 3)))[1] == 2


# Jacobian


def test_the_jacobian_of_a_known_stretch_is_its_determinant():
    stretch = np.array([[0.1, 0.05, 0.0], [0.0, -0.2, 0.1], [0.02, 0.0, 0.3]])
    points = world(FIXED, np.moveaxis(np.indices(FIXED.shape), 0, -1))
    warp = Warp(np.float32(points @ stretch.T), FIXED.affine)
    assert np.allclose(transforms.jacobian_determinant(warp).data, np.linalg.det(np.eye(3) + stretch), atol=2e-4)


def test_a_fold_shows_as_a_negative_jacobian():
    points = world(FIXED, np.moveaxis(np.indices(FIXED.shape), 0, -1))
    warp = Warp(np.float32(points * [-1.5, 0, 0]), FIXED.affine)
    assert transforms.jacobian_determinant(warp).data.max() < 0
