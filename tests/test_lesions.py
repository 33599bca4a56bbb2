"""Lesions are found and measured by the book, however the file stores them."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from conftest import settings_of
from hypothesis import given, settings
from hypothesis import strategies as st
from mettrail.errors import GridMismatchError, InputError
from mettrail.tracking import axial, chords
from mettrail.tracking.chords import longest_diameters, perpendicular_mm
from mettrail.tracking.components import find_instances
from mettrail.tracking.evidence import Evidence
from mettrail.tracking.lesions import INSTANCE_COLUMNS, measure_instances
from scipy import ndimage
from scipy.spatial.distance import pdist

FIND, MEASURE = settings_of("instances"), settings_of("measure")


def scaled(*spacing):
    return np.diag([*spacing, 1.0])


def find(tissue, affine=None, **changed):
    return find_instances(np.asarray(tissue), affine=scaled(1, 1, 1) if affine is None else affine, **FIND | changed)


def measure_all(tissue, affine=None, *, instances=None, brain=None, **changed):
    affine = scaled(1, 1, 1) if affine is None else affine
    tissue = np.asarray(tissue).astype(np.uint8)
    instances = np.isin(tissue, (1, 3)).astype(np.int32) if instances is None else instances
    return measure_instances(instances, tissue, affine=affine, brain=brain, **MEASURE | changed)


def measure(tissue, affine=None, **more):
    """Measure all of a mask as one lesion."""
    return measure_all(tissue, affine, **more)[0].iloc[0]


def block(*size, pad=2):
    out = np.zeros(np.add(size, 2 * pad), np.uint8)
    out[tuple(slice(pad, pad + n) for n in size)] = 1
    return out


def ball(r2, *, hollow_r2=-1.0, pad=2):
    reach = int(np.sqrt(r2)) + pad
    squared = (np.mgrid[[slice(-reach, reach + 1)] * 3] ** 2).sum(0)
    return ((squared <= r2) & (squared > hollow_r2)).astype(np.uint8)


def ellipse(slices):
    x, y = np.mgrid[-12:13, -12:13]
    return np.stack([np.zeros(x.shape), *[(x / 10) ** 2 + (y / 6) ** 2 <= 1] * slices, np.zeros(x.shape)], axis=-1)


def letter_l():
    out = np.zeros((24, 25, 4), np.uint8)
    out[2:22, 2:6, 1:3] = out[2:6, 2:22, 1:3] = 1
    return out


def diagonal():
    out = np.zeros((14, 15, 3), np.uint8)
    out[range(2, 12), range(2, 12), 1] = 1
    return out


def two_blocks(gap):
    out = np.zeros((24, 10, 3), np.uint8)
    out[2:10, 2:8, 1] = out[10 + gap : 18 + gap, 2:8, 1] = 1
    return out


def random_lesions(seed=3, shape=(34, 27, 22)):
    """Blobs of all labels, no two sides alike."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=shape), (2.2, 1.9, 1.6))
    noise /= noise.std()
    tissue = np.where(noise > 1.0, 2, 0).astype(np.uint8)
    tissue[noise > 1.4] = 1
    tissue[noise > 2.2] = 3
    return tissue


# ---------------------------------------------------------------------------------------------------------- diameters

VECTORS = {
    "one voxel": (
        block(1, 1, 1),
        (1, 1, 1),
        {"vol": 1, "ld": 1, "perp": 1, "max3d": 1, "n": 1, "esd": 1.241, "surface": 1.732},
    ),
    "one thick voxel": (
        block(1, 1, 1),
        (0.5, 0.5, 3),
        {"vol": 0.75, "ld": 0.5, "perp": 0.5, "max3d": 3, "n": 1, "esd": 1.127},
    ),
    "box": (
        block(10, 5, 2),
        (1, 1, 1),
        {"vol": 100, "ld": 10.770, "perp": 5.385, "max3d": 10.817, "n": 2, "bidim": 58.0},
    ),
    "box, thick slices": (
        block(10, 5, 2),
        (0.9, 0.9, 3),
        {"vol": 243, "ld": 9.693, "perp": 4.847, "max3d": 10.704, "n": 2},
    ),
    "box, narrow pixels": (
        block(10, 5, 2),
        (0.5, 1, 1),
        {"vol": 50, "ld": 6.727, "perp": 6.727, "max3d": 6.801, "n": 2},
    ),
    "ball": (
        ball(25),
        (1, 1, 1),
        {"vol": 515, "ld": 11, "perp": 11, "max3d": 11, "n": 11, "esd": 9.945, "surface": 340.08},
    ),
    "small ball": (
        ball(2.25),
        (1, 1, 1),
        {"vol": 19, "ld": 3.606, "perp": 3.606, "max3d": 3.606, "n": 3, "esd": 3.311},
    ),
    "ellipse": (ellipse(1), (1, 1, 1), {"vol": 185, "ld": 21, "perp": 13, "n": 1}),
    "two ellipses": (ellipse(2), (1, 1, 1), {"vol": 370, "ld": 21, "perp": 13, "n": 2}),
    "L": (letter_l(), (1, 1, 1), {"vol": 288, "ld": 20.396, "perp": 19.8, "max3d": 27.604, "n": 2, "feret": 27.586}),
    "shell": (ball(100, hollow_r2=36), (1, 1, 1), {"vol": 3244, "ld": 21, "perp": 21, "max3d": 21, "n": 21}),
    "diagonal": (diagonal(), (1, 1, 1), {"vol": 10, "ld": 13.454, "perp": 1.35, "max3d": 13.454, "n": 1}),
    "blocks one pixel apart": (two_blocks(1), (1, 1, 1), {"ld": 17.720}),
    "blocks two pixels apart": (two_blocks(2), (1, 1, 1), {"ld": 9.434}),
}
NAMES = {
    "vol": "vol_wl_mm3",
    "ld": "ld_mm",
    "perp": "perp_mm",
    "max3d": "max3d_mm",
    "n": "n_slices",
    "esd": "esd_mm",
    "surface": "surface_mm2",
    "bidim": "bidim_mm2",
    "feret": "ld_feret_mm",
}
TOLERANCES = {"perp": 0.1, "surface": 0.01, "bidim": 0.01}


@pytest.mark.parametrize("name", VECTORS)
def test_shapes_of_known_size_have_that_size(name):
    mask, spacing, expected = VECTORS[name]
    row = measure(mask, scaled(*spacing))
    found = {key: row[NAMES[key]] for key in expected}
    for key, value in expected.items():
        # Of the L's equally long diameters any may be meant: its perpendicular is known to 0.3 mm.
        tolerance = 0.3 if (name, key) == ("L", "perp") else TOLERANCES.get(key, 6e-4)
        assert found[key] == pytest.approx(value, abs=tolerance), key
    assert row["ld_feret_mm"] >= row["ld_mm"] >= row["perp_mm"] - 1e-9
    assert row["extent_z_mm"] == pytest.approx(row["n_slices"] * spacing[2])


def test_a_diameter_that_would_leave_the_lesion_is_not_taken_but_said():
    assert measure(letter_l())["flags"] == "nonconvex"
    assert pd.isna(measure(block(10, 5, 2))["flags"])


def test_of_equally_long_slices_the_larger_and_then_the_lower_counts():
    mask = np.zeros((16, 9, 6), np.uint8)
    mask[2:12, 2, 1:5] = 1
    mask[4:10, 3:6, 3] = 1
    assert measure(mask)["ld_slice"] == 3
    mask[4:10, 3:6, 2] = 1
    assert measure(mask)["ld_slice"] == 2


def sampled_diameter(mask, spacing, gap_mm):
    """The same by brute force: all pairs, points along each."""
    padded = np.pad(mask, 1)
    points = [(i + di / 2, j + dj / 2) for i, j in np.argwhere(padded) for di, dj in ((1, 0), (-1, 0), (0, 1), (0, -1))
              if not padded[i + di, j + dj]]  # fmt: skip
    points = np.array(points) - 1
    best = 0.0
    for a in points:
        for b in points:
            length = np.hypot(*((b - a) * spacing))
            if length <= best:
                continue
            inside = sampled_inside(mask, a, b, n := int(length / 0.02) + 2)
            run = max(
                (len(r) for r in "".join("x " if i else "o" for i in inside).replace("x", " ").split()), default=0
            )
            if run * length / n <= gap_mm:
                best = length
    return best


def sampled_inside(mask, a, b, n):
    # Off the regular places, so that a corner that is just touched is not met.
    at = a + ((np.arange(n) + 0.371) / n)[:, None] * (b - a)
    found = np.zeros(n, bool)
    for dx in (-1e-6, 1e-6):
        for dy in (-1e-6, 1e-6):
            i, j = np.rint(at + np.array([dx, dy])).astype(int).T
            ok = (i >= 0) & (j >= 0) & (i < mask.shape[0]) & (j < mask.shape[1])
            found |= ok & mask[np.where(ok, i, 0), np.where(ok, j, 0)]
    return found


@pytest.mark.parametrize("seed", range(6))
def test_the_longest_diameter_is_what_trying_all_of_them_finds(seed):
    rng = np.random.default_rng(seed)
    mask = ndimage.binary_fill_holes(ndimage.gaussian_filter(rng.normal(size=(9, 8)), 0.8) > 0.05)
    spacing = np.array([(1.0, 1.0), (0.7, 1.3), (1.0, 0.5)][seed % 3])
    gap = 1.5 * spacing.max()
    length, (start, *_), (end, *_) = longest_diameters(mask, spacing_mm=spacing, gap_mm=gap)
    # Samples cut a gap short by up to one step.
    assert sampled_diameter(mask, spacing, gap - 0.05) <= length + 1e-6
    assert length <= sampled_diameter(mask, spacing, gap + 0.05) + 1e-6
    assert np.hypot(*((end - start) * spacing)) == pytest.approx(length)


@pytest.mark.parametrize("seed", range(6))
def test_the_perpendicular_is_what_walking_along_the_diameter_finds(seed):
    rng = np.random.default_rng(seed)
    mask = ndimage.binary_fill_holes(ndimage.gaussian_filter(rng.normal(size=(15, 12)), 1.0) > 0.0)
    spacing = np.array([(1.0, 1.0), (0.7, 1.3), (1.0, 0.5)][seed % 3])
    gap = 1.5 * spacing.max()
    length, (p, *_), (q, *_) = longest_diameters(mask, spacing_mm=spacing, gap_mm=gap)
    along = (q - p) * spacing / length
    across = np.array([-along[1], along[0]])
    best, step = 0.0, 0.01
    feet = 0.25 * spacing.min()
    for at in length / 2 + feet * np.arange(-int(length / 2 / feet), int(length / 2 / feet) + 1):
        foot = p * spacing + at * along
        n = 2501
        inside = sampled_inside(mask, (foot - 12.5 * across) / spacing, (foot + 12.5 * across) / spacing, n)
        # Close gaps that are short enough, keep the run with the foot.
        marks = np.flatnonzero(inside)
        runs = np.split(marks, np.flatnonzero(np.diff(marks) * step > gap + step) + 1)
        best = max(
            [best, *((r[-1] - r[0]) * step for r in runs if len(r) and r[0] <= n // 2 + 1 and r[-1] >= n // 2 - 1)]
        )
    assert perpendicular_mm(mask, p, q, spacing_mm=spacing, gap_mm=gap) == pytest.approx(best, abs=0.05)


@pytest.mark.parametrize("seed", range(12))
def test_mirrored_lesions_have_the_same_diameters(seed):
    """Several diameters may be equally long: which one is read must not hang on where the scan begins."""
    mask = np.random.default_rng(seed).random((5, 4, 2)) > 0.35
    mask[..., 1] = mask[..., 0]
    columns = ["ld_mm", "perp_mm", "bidim_mm2"]
    for flip in ((0,), (1,), (0, 1)):
        assert measure(np.flip(mask, flip))[columns].tolist() == pytest.approx(measure(mask)[columns].tolist())


def test_the_smallest_lesion_with_two_equal_diameters():
    corner = np.zeros((4, 4, 1), bool)
    corner[1:3, 1:3] = [[[True], [False]], [[True], [True]]]
    assert measure(corner)["perp_mm"] == pytest.approx(measure(corner[::-1])["perp_mm"])


# -------------------------------------------------------------------------------------------------------- orientation


def stored_as(codes, array, affine):
    """Store the same voxels in another order."""
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(codes))
    )
    return (
        np.ascontiguousarray(nib.orientations.apply_orientation(array, turn)),
        affine @ nib.orientations.inv_ornt_aff(turn, array.shape),
    )


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSR", "IRP", "ASL"])
def test_the_order_in_which_voxels_are_stored_changes_nothing(codes, oblique_affine):
    tissue = random_lesions()
    brain = np.pad(np.ones(np.subtract(tissue.shape, (4, 2, 2)), bool), [(1, 3), (0, 2), (1, 1)])
    expected_map = find(tissue, oblique_affine)
    expected, totals = measure_all(tissue, oblique_affine, instances=expected_map, brain=brain)
    assert len(expected) >= 4
    turned, affine = stored_as(codes, tissue, oblique_affine)
    instances = find(turned, affine)
    table, other_totals = measure_all(
        turned, affine, instances=instances, brain=stored_as(codes, brain, oblique_affine)[0]
    )
    np.testing.assert_array_equal(instances, stored_as(codes, expected_map, oblique_affine)[0])
    assert other_totals == pytest.approx(totals)
    # The slice number alone is about the file.
    pd.testing.assert_frame_equal(table.drop(columns="ld_slice"), expected.drop(columns="ld_slice"), rtol=1e-9)


def test_slices_are_counted_as_the_file_stores_them():
    tissue = np.zeros((9, 10, 11), np.uint8)
    tissue[3:5, 3:6, 2] = 1
    for codes, expected in (("RAS", 2), ("LPI", 8), ("SRA", 2), ("AIL", 8)):
        turned, affine = stored_as(codes, tissue, scaled(1, 1.1, 1.2))
        assert measure(turned, affine)["ld_slice"] == expected, codes


def test_lesions_of_one_size_are_numbered_by_their_place_in_the_world():
    tissue = np.zeros((20, 11, 12), np.uint8)
    tissue[2:5, 2:5, 2:5] = tissue[14:17, 2:5, 2:5] = 1
    instances = find(tissue)
    assert instances[3, 3, 3] == 1
    turned, affine = stored_as("LPS", tissue, scaled(1, 1, 1))
    np.testing.assert_array_equal(find(turned, affine), stored_as("LPS", instances, scaled(1, 1, 1))[0])


def test_diameters_are_read_on_the_slices_nearest_to_axial():
    # Sagittal storage: the last array axis runs to the right; the lesion is longest along it.
    tissue = block(3, 4, 9)
    affine = np.array([[0, 0, 1.0, 0], [1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1]])
    row = measure(tissue, affine)
    assert row["ld_mm"] == pytest.approx(np.hypot(9, 2))
    assert row["n_slices"] == 4


def test_ends_of_the_diameter_are_where_the_lesion_is_in_the_world(oblique_affine):
    tissue = np.zeros((12, 11, 5), np.uint8)
    tissue[2:9, 4, 2] = 1
    row = measure(tissue, oblique_affine)
    ends = row[list(axial.ENDPOINTS)].to_numpy(float).reshape(2, 3)
    expected = [(oblique_affine @ [x, 4, 2, 1])[:3] for x in (1.5, 8.5)]
    np.testing.assert_allclose(ends, expected, atol=6e-4)
    assert row["ld_mm"] == pytest.approx(7)
    assert (row["centroid_x_mm"], row["centroid_y_mm"], row["centroid_z_mm"]) == pytest.approx(
        tuple((oblique_affine @ [5, 4, 2, 1])[:3])
    )


def tilted(degrees, spacing=(1, 1, 1)):
    a = np.deg2rad(degrees)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]) @ np.diag(spacing)
    return affine


@pytest.mark.parametrize(
    ("affine", "flags"),
    [
        (tilted(19), None),
        (tilted(21), "oblique"),
        (scaled(1, 1, 5), None),
        (scaled(1, 1, 5.1), "thick_slice"),
        (scaled(1, 5.1, 1), "not_axial_acq"),
        (scaled(1, 5, 1), None),
    ],
)
def test_slices_that_are_tilted_thick_or_not_axial_are_flagged(affine, flags):
    found = measure(block(5, 5, 5), affine)["flags"]
    assert (None if pd.isna(found) else found) == flags


# ------------------------------------------------------------------------------------------------ volumes and the rest


def test_volumes_count_voxels_by_label():
    tissue = block(6, 5, 4)
    tissue[3, 3:5, 3] = 3
    row = measure(tissue, scaled(1, 1, 1.5))
    assert row["vol_wl_mm3"] == pytest.approx(180)
    assert row["vol_wl_ml"] == pytest.approx(0.18)
    assert row["vol_nc_mm3"] == pytest.approx(3)
    assert row["vol_et_mm3"] == pytest.approx(177)
    assert row["necrosis_fraction"] == pytest.approx(1 / 60)
    assert row["n_voxels"] == 120
    assert (row["bbox_x_vox"], row["bbox_y_vox"], row["bbox_z_vox"]) == (6, 5, 4)


def test_a_lesion_that_no_longer_enhances_is_flagged():
    necrosis = block(3, 4, 3) * 3
    row = measure(necrosis)
    assert not row["enhancing"]
    assert row["flags"] == "cystic_only;nonenhancing_remnant"
    necrosis[2, 2, 2:4] = 1  # 2 mm3 are not more than 2 mm3
    assert not measure(necrosis)["enhancing"]
    necrosis[2, 2, 4] = 1
    assert measure(necrosis)["enhancing"]
    assert measure(necrosis)["flags"] == "cystic_only"
    necrosis[3, 2, 2] = 1  # 4 of 36 voxels
    assert pd.isna(measure(necrosis)["flags"])
    assert measure(necrosis, cystic_max_enhancing=0.2)["flags"] == "cystic_only"


def edema_line():
    tissue = np.zeros((12, 1, 1), np.uint8)
    tissue[:, 0, 0] = [1, 2, 2, 2, 2, 1, 0, 2, 0, 0, 0, 2]
    instances = np.zeros(tissue.shape, np.int32)
    instances[0], instances[5] = 1, 2
    return tissue, instances


def test_edema_belongs_to_the_nearest_lesion():
    tissue, instances = edema_line()
    table, totals = measure_all(tissue, instances=instances)
    assert list(table["vol_ed_mm3"]) == [2, 4]
    assert totals["edema_unassigned_mm3"] == 0


def test_edema_too_far_from_any_lesion_belongs_to_none():
    tissue, instances = edema_line()
    table, totals = measure_all(tissue, instances=instances, edema_max_mm=5)
    assert list(table["vol_ed_mm3"]) == [2, 3]
    assert totals["edema_unassigned_mm3"] == 1
    assert measure_all(tissue, instances=instances, edema_max_mm=6)[1]["edema_unassigned_mm3"] == 0


def test_edema_distances_are_in_mm():
    tissue = np.zeros((9, 9, 3), np.uint8)
    tissue[1, 4, 1], tissue[4, 8, 1], tissue[4, 4, 1] = 1, 1, 2
    instances = np.zeros(tissue.shape, np.int32)
    instances[1, 4, 1], instances[4, 8, 1] = 1, 2
    assert list(measure_all(tissue, instances=instances)[0]["vol_ed_mm3"]) == [1, 0]
    assert list(measure_all(tissue, scaled(2, 1, 1), instances=instances)[0]["vol_ed_mm3"]) == [0, 2]


def test_edema_without_lesions_is_no_ones():
    tissue = np.full((3, 4, 5), 2, np.uint8)
    table, totals = measure_all(tissue)
    assert len(table) == 0
    assert totals["edema_unassigned_mm3"] == 60


def test_distance_to_the_border_is_to_the_nearest_voxel_outside_the_brain():
    tissue = np.zeros((20, 14, 12), np.uint8)
    tissue[6:9, 6:9, 5:8] = 1
    brain = np.zeros(tissue.shape, bool)
    brain[2:18, 2:12, 1:11] = True
    row = measure(tissue, scaled(1, 1, 1.2), brain=brain)
    assert row["border_distance_mm"] == pytest.approx(4)
    assert not row["touches_border"]
    brain[:6] = False
    row = measure(tissue, scaled(1, 1, 1.2), brain=brain)
    assert row["border_distance_mm"] == pytest.approx(1)
    assert row["touches_border"]


def test_border_distances_agree_with_a_distance_map():
    tissue = random_lesions(5)
    brain = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=tissue.shape), 2) > -0.12
    instances = find(tissue, scaled(1, 1.2, 1.5))
    table, _ = measure_all(tissue, scaled(1, 1.2, 1.5), instances=instances, brain=brain)
    far = ndimage.distance_transform_edt(np.pad(brain, 1), sampling=(1, 1.2, 1.5))[1:-1, 1:-1, 1:-1]
    expected = ndimage.minimum(far, instances, table["instance"].to_numpy(int))
    np.testing.assert_allclose(table["border_distance_mm"], expected)
    assert len(np.unique(expected)) > 1


def test_without_a_brain_mask_only_the_edge_of_the_image_is_a_border():
    row = measure(block(3, 3, 3))
    assert np.isnan(row["border_distance_mm"])
    assert not row["touches_border"]
    row = measure(block(3, 3, 3, pad=0))
    assert row["touches_border"]
    assert row["flags"] == "fov_edge"


def test_a_scan_without_lesions_gives_an_empty_table_with_all_columns():
    tissue = np.zeros((5, 6, 7), np.uint8)
    instances = find(tissue)
    assert instances.dtype == np.int32
    table, totals = measure_all(tissue, scaled(1, 1, 3), instances=instances, brain=np.ones(tissue.shape, bool))
    full = measure_all(block(3, 3, 3))[0]
    assert list(table.columns) == list(INSTANCE_COLUMNS)
    pd.testing.assert_series_equal(table.dtypes, full.dtypes)
    assert len(table) == 0
    assert totals == {"edema_unassigned_mm3": 0, "n_subthreshold": 0, "cavity_ml": None, "slice_spacing_mm": 3}


def test_maps_of_other_shape_are_refused():
    with pytest.raises(GridMismatchError):
        measure_all(np.zeros((4, 4, 4)), instances=np.zeros((4, 4, 5), np.int32))


@given(st.permutations(range(1, 5)))
@settings(max_examples=5, deadline=None)
def test_numbers_given_to_lesions_change_no_measurement(order):
    tissue = random_lesions()
    instances = np.minimum(find(tissue), 5) % 5
    table = measure_all(tissue, instances=instances)[0].drop(columns="instance")
    other = measure_all(tissue, instances=np.array([0, *order], np.int32)[instances])[0].drop(columns="instance")
    pd.testing.assert_frame_equal(other, table.iloc[np.argsort(order)].reset_index(drop=True))


# ---------------------------------------------------------------------------------------------------------- instances


def stretch(shape, *boxes):
    tissue = np.zeros(shape, np.uint8)
    for box in boxes:
        tissue[box] = 1
    return tissue


BIG = np.s_[2:12, 2:12, 2:7]  # 500 mm3


def test_a_fragment_up_to_a_share_of_a_lesion_joins_it_if_so_set():
    fragment = stretch((24, 14, 10), BIG, np.s_[13:16, 2:12, 3:4])  # 30 mm3, 1 mm apart
    assert find(fragment, merge_small_frac=0).max() == 2
    assert find(fragment, merge_small_frac=0.1).max() == 1


def test_two_lesions_side_by_side_are_two():
    beside = stretch((24, 14, 10), BIG, np.s_[13:18, 2:10, 2:7])  # 200 mm3, 1 mm apart
    assert find(beside, merge_small_frac=0.1).max() == 2


def test_a_satellite_two_mm_away_is_part_of_a_lesion_three_mm_away_not():
    assert find(stretch((24, 14, 10), BIG, np.s_[14:16, 2:4, 3:5])).max() == 1
    assert find(stretch((24, 14, 10), BIG, np.s_[15:17, 2:4, 3:5])).max() == 2
    assert find(stretch((24, 14, 10), BIG, np.s_[14:16, 2:4, 3:5]), scaled(1.1, 1, 1)).max() == 2


def test_a_crumb_between_two_lesions_does_not_make_them_one():
    tissue = stretch((30, 14, 10), BIG, np.s_[13:15, 5:7, 3:5], np.s_[16:26, 2:12, 2:7])
    instances = find(tissue)
    assert instances.max() == 2
    assert instances[13, 5, 3] in (1, 2)


def test_two_crumbs_side_by_side_are_one_lesion():
    tissue = stretch((14, 9, 10), np.s_[2:4, 2:4, 2:4], np.s_[5:7, 2:4, 2:4], np.s_[8:10, 2:4, 2:3])
    assert find(tissue).max() == 1


def test_crumbs_of_crumbs_end_in_the_same_lesion():
    tissue = stretch((24, 14, 10), BIG, np.s_[13:15, 5:7, 3:5], np.s_[16:17, 5:7, 3:5])
    assert find(tissue).max() == 1
    # The crumb has the speck nearer than the lesion.
    tissue = stretch((24, 14, 10), BIG, np.s_[14:16, 5:7, 3:5], np.s_[17:18, 5:7, 3:5])
    assert find(tissue).max() == 1


def test_specks_are_dropped_and_small_components_stay_but_start_nothing():
    tissue = stretch(
        (30, 20, 10),
        np.s_[2:4, 2:4, 2:4],  # 8 mm3
        np.s_[10:12, 2, 2],  # 2 mm3
        np.s_[18:21, 2, 2],  # 3 mm3
        np.s_[10:13, 10:12, 2:4],  # 12 mm3
    )
    instances = find(tissue)
    table, totals = measure_all(tissue, instances=instances)
    assert list(table["vol_wl_mm3"]) == [12, 8, 3]
    assert list(table["below_birth"]) == [False, True, True]
    assert totals["n_subthreshold"] == 3


def test_ten_mm3_of_two_voxels_start_nothing():
    tissue = stretch((8, 8, 8), np.s_[3:5, 3, 3])
    table, _ = measure_all(tissue, scaled(2, 2, 3), instances=find(tissue, scaled(2, 2, 3)))
    assert list(table["vol_wl_mm3"]) == [24]
    assert list(table["below_birth"]) == [True]


@pytest.mark.parametrize(("connectivity", "n"), [(26, 1), (18, 1), (6, 10)])
def test_what_touches_at_corners_is_one_lesion(connectivity, n):
    none = {"merge_gap_mm": 0, "merge_small_mm3": 0, "merge_small_frac": 0, "keep_mm3": 0, "keep_vox": 1}
    assert find(diagonal(), connectivity=connectivity, **none).max() == n
    steps = np.zeros((8, 8, 8), np.uint8)
    steps[range(2, 6), range(2, 6), range(2, 6)] = 1
    assert find(steps, connectivity=connectivity, **none).max() == (1 if connectivity == 26 else 4)


MERGING = [(1, 0, 0), (2, 0, 0), (3, 0, 0), (2, 2, 0), (2, 2, 2), (3, 1, 0), (3, 3, 0), (3, 3, 1), (3, 2, 2)]
APART = [(4, 0, 0), (4, 1, 0), (3, 3, 2), (3, 3, 3)]


@pytest.mark.parametrize(("offset", "n"), [*((o, 1) for o in MERGING), *((o, 2) for o in APART)])
def test_the_brats_rule_joins_what_it_joins_in_the_challenge(offset, n):
    tissue = np.zeros((11, 11, 11), np.uint8)
    tissue[3, 3, 3] = tissue[tuple(np.add(offset, 3))] = 1
    assert find(tissue, mode="brats", keep_mm3=0, keep_vox=1).max() == n


def test_a_shell_cut_by_a_band_is_two_and_with_its_core_one():
    squared = (np.mgrid[-9:10, -9:10, -9:10] ** 2).sum(0)
    tissue = np.where((squared <= 49) & (squared > 25), 1, 0).astype(np.uint8)
    tissue[8:11] = 0
    assert find(tissue).max() == 2
    tissue[squared <= 25] = 3
    assert find(tissue).max() == 1


def test_an_unlabelled_core_joins_what_it_encloses_but_is_not_counted():
    squared = (np.mgrid[-9:10, -9:10, -9:10] ** 2).sum(0)
    for core in (0, 2):
        tissue = np.where((squared <= 64) & (squared > 30), 1, core * (squared <= 30)).astype(np.uint8)
        tissue[squared <= 5] = 1
        instances = find(tissue, merge_gap_mm=0)
        assert instances.max() == 1
        assert (instances > 0).sum() == np.isin(tissue, (1, 3)).sum()
        tissue[9, 9, 10:] = core  # a hole in the shell
        assert find(tissue, merge_gap_mm=0).max() == 2


def test_a_resection_cavity_is_no_core_and_is_not_measured_across():
    squared = (np.mgrid[-14:15, -14:15, -14:15] ** 2).sum(0)
    rim = ((squared <= 100) & (squared > 64)).astype(np.uint8)
    nodule = np.where(squared <= 9, 1, rim).astype(np.uint8)
    resected = np.where(squared <= 49, 4, rim).astype(np.uint8)
    # Without the label the rim is a lesion with a core.
    assert find(nodule, merge_gap_mm=0).max() == 1
    assert find(np.where(nodule == 0, resected, nodule), merge_gap_mm=0).max() == 2
    (table, session), (bare, without) = measure_all(resected), measure_all(rim)
    assert bare.iloc[0]["ld_mm"] == pytest.approx(21)
    # Across the slices in which the rim is a ring, no chord is longer than one that touches its inside.
    assert table.iloc[0]["ld_mm"] < 16
    assert table.iloc[0]["ld_half_voxel_high_mm"] < 19
    assert table.iloc[0]["vol_wl_mm3"] == bare.iloc[0]["vol_wl_mm3"] == rim.sum()
    assert table.iloc[0]["surface_mm2"] > 1.3 * bare.iloc[0]["surface_mm2"], "inside, too"
    assert session["cavity_ml"] == pytest.approx((resected == 4).sum() / 1000)
    assert without["cavity_ml"] is None


def test_a_cavity_far_larger_than_its_wall_is_no_core():
    squared = (np.mgrid[-14:15, -14:15, -14:15] ** 2).sum(0)
    tissue = ((squared <= 145) & (squared > 122)).astype(np.uint8)
    tissue[squared <= 9] = 1
    assert find(tissue).max() == 2


def test_a_cavity_open_at_the_edge_of_the_image_is_no_core():
    tissue = ball(64, hollow_r2=30)
    tissue[8:13, 8:13, 8:13] = 1
    assert find(tissue, merge_gap_mm=0).max() == 1
    assert find(tissue[:, :, 8:], merge_gap_mm=0).max() == 2


def test_edema_is_no_lesion():
    assert find(block(5, 5, 5) * 2).max() == 0


def test_lesions_are_labelled_voxels_numbered_by_falling_size():
    tissue = random_lesions(8)
    instances = find(tissue)
    assert np.isin(tissue[instances > 0], (1, 3)).all()
    sizes = np.bincount(instances.ravel())[1:]
    assert (np.diff(sizes) <= 0).all()
    assert sizes.min() > 2


@pytest.mark.parametrize("wrong", [{"mode": "nearest"}, {"connectivity": 8}, {"birth_mm3": 1}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        find(block(3, 3, 3), **wrong)


@pytest.mark.parametrize("seed", range(8))
def test_chords_rejected_by_the_quick_check_leave_the_lesion_too_long(seed):
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal((40, 34)), rng.uniform(0.7, 2.5))
    mask = field > np.quantile(field, rng.uniform(0.3, 0.8))
    spacing = np.array([1.0, rng.choice([1.0, 0.6, 1.7])])
    gap = 1.5 * spacing.max()
    points = chords.edge_midpoints(mask) / 2
    start, end = points[rng.integers(len(points), size=(2, 3000))]
    rejected = chords.leaves_for_long(mask, start, end, spacing, gap)
    assert (chords.longest_gap(mask, start[rejected], end[rejected], spacing) > gap).all()
    assert rejected.any()


def test_pairs_are_numbered_as_distances_are():
    points = np.random.default_rng(0).random((7, 2))
    first, second = chords.pair_of(np.arange(21), 7)
    np.testing.assert_allclose(np.linalg.norm(points[first] - points[second], axis=1), pdist(points))


# ------------------------------------------------------------------------------------------------------------ evidence

PIECES = pd.DataFrame(
    {
        "index": [1, 2, 3, 4],
        "name": ["P001", "P002", "P003", "P004"],
        "mean_probability": [0.9, 0.6, 0.55, 0.95],
        "confidence": [0.7, 0.8, 0.4, 0.9],
        "detected_by": ["detection", "resegmentation", "detection", "detection"],
        "certainty": ["confirmed", "candidate", "candidate", "confirmed"],
    }
)


@pytest.mark.parametrize("flip", [np.diag([1, 1, 1, 1.0]), np.diag([-1, -1, 1, 1.0])])
def test_a_lesion_is_as_sure_as_the_surest_of_its_pieces(flip):
    """A lesion of two pieces, one of a single piece, one nobody knows anything of."""
    instances, pieces = np.zeros((2, 20, 9, 8), np.int32)
    instances[2:6, 2, 2], instances[9:12, 5, 5], instances[15:17, 5, 5] = 1, 2, 3
    pieces[2:5, 2, 2], pieces[5, 2, 2], pieces[9:12, 5, 5] = 1, 2, 3
    table, _ = measure_all(instances > 0, flip, instances=instances, evidence=Evidence(pieces, PIECES))
    names = ["mean_probability", "confidence", "detected_by", "certainty"]
    first, second, third = table[names].to_numpy().tolist()
    assert first == [pytest.approx((3 * 0.9 + 0.6) / 4), 0.8, "both", "confirmed"]
    assert second == [pytest.approx(0.55), 0.4, "detection", "candidate"]
    assert pd.isna(third).all()


def test_a_small_lesion_starts_an_id_where_it_is_sure():
    """Of 9, 9, 2 and 9 mm3: the first one alone has the confidence that is asked for, and 3 voxels."""
    instances = np.zeros((20, 9, 8), np.int32)
    for number, (x, voxels) in enumerate(((2, 3), (8, 3), (14, 1), (17, 3)), start=1):
        instances[x, 1 : 1 + voxels, 2 : 2 + voxels] = number
    instances[14, 1:3, 2] = 3
    least = MEASURE["birth_confidence"]
    table = PIECES.assign(confidence=[least, least - 0.01, 1.0, np.nan])
    small, _ = measure_all(instances > 0, instances=instances, evidence=Evidence(instances, table))
    assert small["vol_wl_mm3"].tolist() == [9, 9, 2, 9]
    assert small["below_birth"].tolist() == [False, True, True, True]
    assert measure_all(instances > 0, instances=instances)[0]["below_birth"].all()


def test_pieces_on_another_grid_are_refused():
    with pytest.raises(GridMismatchError, match="connected components"):
        measure_all(block(3, 3, 3), evidence=Evidence(np.ones((4, 4, 4), int), PIECES))


# --- What sizes are if the edge lay elsewhere ------------------------------------------------------------------------


def bounds(row, by, size):
    unit = {"vol": "ml", "ld": "mm"}[size]
    return row[f"{size}_{by}_low_{unit}"], row[f"{size}_{by}_high_{unit}"]


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.5, 0.5, 3), (0.9, 1.1, 2)])
@pytest.mark.parametrize("turn", [np.diag([1, 1, 1, 1]), np.diag([-1, 1, -1, 1]), np.eye(4)[[2, 0, 1, 3]]])
def test_a_box_loses_and_gains_half_a_voxel_at_each_face(spacing, turn):
    """Analytic: 10x5x2 voxels have 9x4x1 left; each face gains a layer of half a voxel."""
    row = measure(block(10, 5, 2), turn @ scaled(*spacing))
    voxel_ml = np.prod(spacing) / 1000
    low, high = bounds(row, "half_voxel", "vol")
    assert low == pytest.approx(9 * 4 * 1 * voxel_ml)
    assert high == pytest.approx((10 * 5 * 2 + (50 + 20 + 10)) * voxel_ml)
    assert low < row["vol_wl_ml"] < high


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.5, 0.5, 3), (1, 2, 1)])
def test_the_diameter_of_a_box_moves_by_half_a_pixel_at_each_end(spacing):
    """Pixels in halves: what is measured on 18x8 and on 22x12 half pixels without their corners, by the book."""
    row = measure(block(10, 5, 2), scaled(*spacing))
    low, high = bounds(row, "half_voxel", "ld")
    half = np.array(spacing[:2]) / 2
    assert low == pytest.approx(longest_diameters(block(18, 8, 1)[..., 2] > 0, spacing_mm=half, gap_mm=1)[0])
    grown = ndimage.binary_dilation(block(20, 10, 1)[..., 2] > 0)
    assert high == pytest.approx(longest_diameters(grown, spacing_mm=half, gap_mm=1)[0])
    assert low < row["ld_mm"] < high
    assert high - low == pytest.approx(2 * max(spacing[:2]), rel=0.25)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.5, 1, 0.7)])
@pytest.mark.parametrize("radius", [3, 5, 9])
def test_a_ball_moves_its_edge_by_half_a_voxel(radius, spacing):
    """Analytic: of an ellipsoid of so many voxels, (r - 1/2)^3 and (r + 1/2)^3 of r^3; over random places."""
    rng = np.random.default_rng(radius)
    found = []
    for _ in range(8):
        grid = np.indices((2 * radius + 5,) * 3) - (radius + 2) - rng.uniform(-0.5, 0.5, 3)[:, None, None, None]
        row = measure(((grid**2).sum(0) <= radius**2).astype(np.uint8), scaled(*spacing))
        found.append(np.array(bounds(row, "half_voxel", "vol")) / row["vol_wl_ml"])
        low, high = bounds(row, "half_voxel", "ld")
        assert low < row["ld_mm"] < high
        assert high - low == pytest.approx(2 * max(spacing[:2]), abs=0.8 * max(spacing[:2]))
    low, high = np.mean(found, axis=0)
    # Voxels in halves exaggerate a curved edge: by 0.065 and 0.025 of the volume at 3 voxels, less beyond.
    assert low == pytest.approx((1 - 0.5 / radius) ** 3, abs=0.07 * 3 / radius)
    assert high == pytest.approx((1 + 0.5 / radius) ** 3, abs=0.04)


def test_half_a_voxel_leaves_nothing_of_what_is_one_voxel_thin():
    row = measure(block(8, 6, 1))
    assert bounds(row, "half_voxel", "vol") == pytest.approx((0, (48 + 48 + 14) / 1000))
    assert row["ld_half_voxel_low_mm"] > 0, "the slice itself has not become thinner"
    assert measure(block(8, 1, 3))["ld_half_voxel_low_mm"] == 0


def test_no_lesion_gains_what_is_anothers():
    """Two boxes face to face, then one voxel apart: that voxel is shared, half and half."""
    for gap, shared in ((0, 0), (1, 0.5), (2, 0.5)):
        tissue, instances = np.zeros((2, 24, 9, 9), np.uint8)
        instances[3:9, 3:6, 3:6], instances[9 + gap : 12 + gap, 3:6, 3:6] = 1, 2
        tissue[instances > 0] = 1
        table, _ = measure_all(tissue, instances=instances.astype(np.int32))
        gained = [row["vol_half_voxel_high_ml"] * 1000 - row["vol_wl_mm3"] for _, row in table.iterrows()]
        assert gained == pytest.approx([6 * 3 * 4 / 2 + 9 / 2 + 9 * shared, 3 * 3 * 4 / 2 + 9 / 2 + 9 * shared])
    # A corner between two: an octant that touches both is the larger one's alone.
    tissue, instances = np.zeros((2, 9, 9, 5), np.uint8)
    instances[2:5, 4:6, 2], instances[5, 2:4, 2] = 1, 2
    tissue[instances > 0] = 1
    table, _ = measure_all(tissue, instances=instances.astype(np.int32))
    high = table["vol_half_voxel_high_ml"].to_numpy() * 1000
    alone = [measure_all(tissue, instances=np.where(instances == n, 1, 0))[0]["vol_half_voxel_high_ml"][0] * 1000
             for n in (1, 2)]  # fmt: skip
    assert high[0] <= alone[0]
    assert high[1] == alone[1] - 4 / 8, "two corners of two octants"


def doubtful_ball(radius, *, centre, shape=(40, 24, 24), softness=2.0):
    """Probability that falls from 1 to 0 across an edge: 0.75 and 0.25 lie half a `softness` either side of it."""
    far = np.sqrt(((np.indices(shape) - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(0))
    return np.clip(0.5 + (radius - far) / (2 * softness), 0, 1)


def networks(instances, whole, detected_by="both", **more):
    n = int(instances.max())
    table = pd.DataFrame({"index": range(1, n + 1), "mean_probability": 0.9, "detected_by": detected_by})
    return Evidence(instances, table.assign(certainty="confirmed", confidence=np.nan), whole, **more)


def test_the_edge_by_the_networks_own_doubt():
    whole = doubtful_ball(7, centre=(12, 12, 12))
    instances = (whole >= 0.5).astype(np.int32)
    row = measure_all(instances, instances=instances, evidence=networks(instances, whole))[0].iloc[0]
    low, high = bounds(row, "probability", "vol")
    assert low * 1000 == np.count_nonzero(whole >= 0.75) == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.03)
    assert high * 1000 == np.count_nonzero(whole >= 0.25) == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.03)
    assert bounds(row, "probability", "ld") == pytest.approx((12.6, 16.6), abs=0.5)
    # Sure everywhere: nothing to move.
    sure = measure_all(instances, instances=instances, evidence=networks(instances, instances * 1.0))[0].iloc[0]
    assert bounds(sure, "probability", "vol") == (sure["vol_wl_ml"],) * 2
    assert bounds(sure, "probability", "ld") == (sure["ld_mm"],) * 2


def test_doubt_between_two_lesions_is_the_nearer_ones():
    near, far = (doubtful_ball(5, centre=(x, 12, 12), softness=3) for x in (12, 25))
    instances = np.where(near >= 0.5, 1, np.where(far >= 0.5, 2, 0)).astype(np.int32)
    whole = np.maximum(near, far)
    table, _ = measure_all(instances > 0, instances=instances, evidence=networks(instances, whole))
    both = table["vol_probability_high_ml"].sum() * 1000
    assert both == np.count_nonzero(whole >= 0.25)
    assert table["vol_probability_high_ml"][0] == pytest.approx(table["vol_probability_high_ml"][1], rel=0.02)
    assert (table["ld_probability_high_mm"] < 14).all()


def test_uncertain_voxels_apart_from_a_lesion_or_far_are_not_its_edge():
    whole = doubtful_ball(4, centre=(10, 12, 12), softness=0.1)
    instances = (whole >= 0.5).astype(np.int32)
    alone = measure_all(instances, instances=instances, evidence=networks(instances, whole))[0].iloc[0]
    whole[17:19, 12, 12] = 0.4
    whole[10, 12, 17:] = 0.4
    row = measure_all(instances, instances=instances, evidence=networks(instances, whole))[0].iloc[0]
    assert row["vol_probability_high_ml"] * 1000 == alone["vol_wl_mm3"] + 5, "5 mm of the tail, nothing of the other"


@pytest.mark.parametrize("detected_by", ["manual", "propagation"])
def test_what_people_drew_or_was_carried_over_has_no_doubt(detected_by):
    whole = doubtful_ball(5, centre=(12, 12, 12))
    instances = (whole >= 0.5).astype(np.int32)
    table, _ = measure_all(instances, instances=instances, evidence=networks(instances, whole, detected_by))
    assert table.filter(like="_probability_").isna().all(axis=None)
    assert table.filter(like="_half_voxel_").notna().all(axis=None)
    assert measure(instances).filter(like="_probability_").isna().all()


def test_edema_that_cannot_be_told_has_no_volume():
    tissue, instances = edema_line()
    evidence = Evidence(instances, PIECES, shows_edema=False)
    table, totals = measure_all(tissue, instances=instances, evidence=evidence)
    assert table["vol_ed_mm3"].isna().all()
    assert totals["edema_unassigned_mm3"] is None
    shown = Evidence(instances, PIECES, shows_edema=True)
    assert list(measure_all(tissue, instances=instances, evidence=shown)[0]["vol_ed_mm3"]) == [2, 4]


def test_volumes_have_no_digits_of_single_precision():
    affine = scaled(1, 1, 1).astype(np.float32)
    affine[:3, :3] *= np.float32(1 - 6e-8)
    assert abs(np.linalg.det(affine.astype(float))) != 1
    assert measure(block(31, 5, 2), affine)["vol_wl_mm3"] == 310
    assert measure(block(31, 5, 2), affine)["vol_wl_ml"] == 0.31
