"""Masks, components, distances: held against brute force and scipy on random masks, no two sides alike."""

import numpy as np
import pytest
from mettrail import geometry
from mettrail.geometry import NEIGHBOURS, grow_mask, label_components
from scipy import ndimage
from scipy.spatial.distance import cdist

SPACINGS = [(1.0, 1.0, 1.0), (0.9, 1.1, 3.0), (2.0, 0.5, 0.7)]


def random_masks(count, *, longest=14, seed=0):
    """Yield masks of random shapes, from a voxel here and there to full, some of them in Fortran order."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        shape = rng.integers(1, longest, 3)
        mask = rng.random(shape) < rng.choice([0.02, 0.1, 0.3, 0.6, 1.0])
        yield np.asfortranarray(mask) if number % 3 == 0 else mask


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("grow_mm", [0, 0.5, 1, 1.4, 2.7, 3, 4.2, 9.3])
def test_a_mask_grows_by_all_that_is_near_enough_and_nothing_else(spacing, grow_mm):
    for mask in random_masks(12, seed=int(10 * grow_mm)):
        mask[0, 0, 0] = True
        voxels = np.indices(mask.shape).reshape(3, -1).T * spacing
        apart = cdist(voxels, voxels[mask.ravel()]).min(axis=1)
        before = mask.copy()
        found = grow_mask(mask, spacing_mm=spacing, grow_mm=grow_mm)
        assert np.array_equal(found.ravel(), apart <= grow_mm + 1e-6)
        assert np.array_equal(mask, before)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_growing_gives_what_a_distance_transform_gives(spacing):
    rng = np.random.default_rng(5)
    blobs = ndimage.gaussian_filter(rng.normal(size=(52, 47, 31)), 3)
    mask = blobs > np.percentile(blobs, 98)
    for grow_mm in (1, 2, 3, 5, 10):
        distance = ndimage.distance_transform_edt(~mask, sampling=spacing)
        assert np.array_equal(grow_mask(mask, spacing_mm=spacing, grow_mm=grow_mm), distance <= grow_mm + 1e-6)


def test_a_voxel_just_as_far_as_asked_is_near_whatever_the_last_digit():
    point = np.zeros((9, 3, 3), bool)
    point[1, 1, 1] = True
    for spacing in (np.nextafter(np.float32(1), np.float32(2)), 1.0, np.nextafter(np.float32(1), np.float32(0))):
        found = grow_mask(point, spacing_mm=(float(spacing), 9, 9), grow_mm=3)
        assert np.flatnonzero(found[:, 1, 1]).tolist() == [0, 1, 2, 3, 4]


def test_an_empty_mask_grows_to_nothing_and_has_no_box():
    empty = np.zeros((5, 6, 7), bool)
    assert not grow_mask(empty, spacing_mm=(1, 1, 1), grow_mm=3).any()
    with pytest.raises(ValueError, match="empty"):
        geometry.bounding_box(empty)


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_components_have_the_numbers_that_scipy_gives_them(connectivity):
    for mask in random_masks(400, longest=24, seed=connectivity):
        expected, count = ndimage.label(mask, NEIGHBOURS[connectivity])
        found, n = label_components(mask, connectivity=connectivity)
        assert n == count
        assert np.array_equal(found, expected)
        assert found.dtype == np.int32


def test_voxels_with_different_labels_are_not_connected():
    rng = np.random.default_rng(2)
    for shape in ((2, 2, 2), (3, 4, 5), (9, 8, 7)):
        labels = rng.integers(0, 4, shape).astype(np.int32)
        found, count = label_components(labels)
        of_each = [ndimage.label(labels == label, NEIGHBOURS[26]) for label in (1, 2, 3)]
        assert count == sum(n for _, n in of_each)
        for components, n in of_each:
            assert len(np.unique(np.stack([components, found])[:, components > 0], axis=1).T) == n
        assert np.array_equal(found > 0, labels > 0)


def test_neighbours_are_across_faces_edges_and_corners():
    assert {number: int(structure.sum()) - 1 for number, structure in NEIGHBOURS.items()} == {6: 6, 18: 18, 26: 26}


def test_a_box_has_its_margin_and_ends_where_the_array_does():
    mask = np.zeros((9, 8, 7), bool)
    mask[2:4, 5, 1:6] = True
    assert geometry.bounding_box(mask) == (slice(2, 4), slice(5, 6), slice(1, 6))
    assert geometry.bounding_box(mask, margin_vox=2) == (slice(0, 6), slice(3, 8), slice(0, 7))
    assert geometry.bounding_box(mask, margin_vox=(0, 1, 9)) == (slice(2, 4), slice(4, 7), slice(0, 7))


def test_the_surface_is_what_has_a_face_outside():
    cube = np.zeros((7, 7, 7), bool)
    cube[0:3, 2:5, 2:5] = True
    inside = np.argwhere(cube & ~geometry.find_surface(cube))
    # What lies at the border of the array is surface too.
    assert inside.tolist() == [[1, 3, 3]]


def test_the_nearest_label_is_found_and_none_beyond_the_limit(oblique_affine):
    rng = np.random.default_rng(3)
    labels = (rng.integers(1, 6, (9, 8, 7)) * (rng.random((9, 8, 7)) < 0.1)).astype(np.uint8)
    points = rng.uniform(-40, 40, (200, 3)) + oblique_affine[:3, 3]
    among = labels != 2
    for counted, limit in ((labels > 0, np.inf), ((labels > 0) & among, 8.0)):
        voxels = np.argwhere(counted)
        apart = cdist(points, voxels @ oblique_affine[:3, :3].T + oblique_affine[:3, 3])
        near = apart.min(axis=1) < limit
        expected = np.where(near, labels[tuple(voxels[apart.argmin(axis=1)].T)], 0)
        found, distances = geometry.nearest_labels(
            points, labels, affine=oblique_affine, among=counted, within_mm=limit
        )
        assert np.array_equal(found, expected)
        assert np.allclose(distances, np.where(near, apart.min(axis=1), np.inf))
        assert near.sum() > 0
    found, distances = geometry.nearest_labels(points, labels * 0, affine=oblique_affine)
    assert not found.any()
    assert np.isinf(distances).all()


def test_a_lesion_keeps_the_voxel_with_the_highest_value_of_its_own():
    values = np.random.default_rng(4).random((4, 5, 6)).astype(np.float32)
    values[3, 2, 1] = 2
    among = np.zeros(values.shape, bool)
    among[1, 1:4, 2:5] = True
    peak = geometry.find_peak(values, among=among)
    assert among[peak]
    assert values[peak] == values[among].max()


def test_labels_follow_the_likelier_class_of_lesion_and_of_the_rest():
    p = np.random.default_rng(6).dirichlet([1, 1, 1, 1, 1], 500).astype(np.float32)
    labels = geometry.decide_labels(p)
    lesion = p[:, 1] + p[:, 3] >= 0.5
    assert np.array_equal(np.isin(labels, (1, 3)), lesion)
    assert np.array_equal(labels[lesion] == 1, p[lesion, 1] >= p[lesion, 3])
    assert np.array_equal(labels[~lesion], np.array([0, 2, 4])[p[~lesion][:, [0, 2, 4]].argmax(1)])
    assert geometry.decide_labels(np.array([0.25, 0.25, 0.25, 0.25, 0])) == 1
    assert geometry.decide_labels(np.array([0.4, 0.1, 0.1, 0, 0.4])) == 0
