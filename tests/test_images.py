import gzip
import os
import tracemalloc
import zlib

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from conftest import write_scan
from mettrail import images
from mettrail.errors import GridMismatchError, InputError
from mettrail.images import Grid, Image
from scipy import ndimage


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
    path = write_scan(tmp_path / "dseg.nii.gz", np.full((3, 4, 5), 5, np.uint8))
    with pytest.raises(InputError, match=r"labels \[5\]"):
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


def tamper(path, **fields):
    """Change numbers of a header in place, compressed or not, and nothing else."""
    packed = path.suffix == ".gz"
    raw = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    header = nib.Nifti1Header(bytes(raw[:348]), check=False)
    for name, value in fields.items():
        name, _, place = name.partition("__")
        if place:
            header[name][int(place)] = value
        else:
            header[name] = value
    raw[:348] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(raw)) if packed else bytes(raw))
    return path


def of_kind(dtype):
    return lambda path: write_scan(path, np.ones((5, 6, 7), dtype))


def of_shape(*shape):
    return lambda path: write_scan(path, np.random.default_rng(0).random(shape, dtype=np.float32))


def of_spacing(*spacing):
    return lambda path: write_scan(path, affine=np.diag([*spacing, 1.0]))


def changed(**fields):
    return lambda path: tamper(write_scan(path), **fields)


def as_bytes(change):
    def make(path):
        write_scan(path)
        path.write_bytes(change(path.read_bytes()))

    return make


def flip_checksum(raw):
    return raw[:-8] + bytes([raw[-8] ^ 1]) + raw[-7:]


def flip_a_voxel(raw):
    """Flip bits of stored data, as a bad disk does: gzip alone notices, and only at the end."""
    inside = bytearray(gzip.decompress(raw))
    inside[400] ^= 0xFF
    stored = zlib.compressobj(0, zlib.DEFLATED, 31)
    good, bad = (stored.copy() for _ in range(2))
    packed = good.compress(bytes(inside)) + good.flush()
    return packed[:-8] + (bad.compress(gzip.decompress(raw)) + bad.flush())[-8:]


def link_to(target):
    def make(path):
        path.symlink_to(target)

    return make


RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


@pytest.mark.parametrize(
    ("make", "reason", "said"),
    [
        pytest.param(as_bytes(lambda raw: raw[: len(raw) // 2]), "unreadable", "cut short", id="cut short"),
        pytest.param(as_bytes(flip_checksum), "unreadable", "CRC", id="checksum"),
        pytest.param(as_bytes(flip_a_voxel), "unreadable", "CRC", id="flipped bits"),
        pytest.param(as_bytes(lambda raw: b""), "unreadable", "an empty file", id="empty"),
        pytest.param(as_bytes(lambda raw: b"<html>404</html>"), "unreadable", "not compressed", id="web page"),
        pytest.param(as_bytes(gzip.decompress), "unreadable", "not compressed although", id="not compressed"),
        pytest.param(as_bytes(lambda raw: gzip.compress(b"x" * 900)), "unreadable", "begin like NIfTI", id="no NIfTI"),
        pytest.param(as_bytes(lambda raw: b"../../.git/annex/objects/x"), "unreadable", "datalad get", id="pointer"),
        pytest.param(as_bytes(lambda raw: b"version https://git-lfs.g"), "unreadable", "git lfs pull", id="lfs"),
        pytest.param(link_to("nowhere"), "unreadable", "datalad get", id="dangling"),
        pytest.param(link_to("a.nii.gz"), "unreadable", "damaged|link", id="link to itself"),
        pytest.param(lambda path: path.mkdir(), "unreadable", "a folder", id="folder"),
        pytest.param(os.mkfifo, "unreadable", "a pipe", id="pipe"),
        pytest.param(changed(dim__1=-9), "unreadable", "impossible dimensions", id="negative dimension"),
        pytest.param(changed(dim__0=0), "unreadable", "impossible dimensions", id="no dimensions"),
        pytest.param(changed(dim__0=99), "unreadable", "impossible dimensions", id="99 dimensions"),
        pytest.param(changed(dim__1=32000, dim__2=32000), "unreadable", "promises", id="absurd dimensions"),
        pytest.param(changed(dim__1=20), "unreadable", "cut short", id="more voxels than data"),
        pytest.param(changed(dim__3=5), "unreadable", "more than the header", id="fewer voxels than data"),
        pytest.param(changed(datatype=999), "bad_datatype", "999", id="unknown datatype"),
        pytest.param(changed(datatype=4), "bad_datatype", "32 bits", id="wrong datatype"),
        pytest.param(changed(magic=b"ni1"), "unreadable", "half of a pair", id="half of a pair"),
        pytest.param(changed(magic=b""), "unreadable", "without NIfTI's mark", id="analyze"),
        pytest.param(of_kind(np.complex64), "bad_datatype", "complex", id="complex"),
        pytest.param(of_kind(RGB), "bad_datatype", "colours", id="colours"),
        pytest.param(of_shape(5, 6, 7, 2), "not_3d", "4-D", id="two volumes"),
        pytest.param(of_shape(5, 6, 1, 1, 3), "not_3d", "5-D", id="vectors"),
        pytest.param(of_shape(9, 10), "not_3d", "2-D", id="a picture"),
        pytest.param(of_shape(9, 10, 1), "too_few_slices", "9x10x1", id="one slice"),
        pytest.param(of_spacing(1000, 1000, 1000), "bad_spacing", "1e\\+03", id="1000 mm"),
        pytest.param(of_spacing(1, 1, 0.01), "bad_spacing", "0.01", id="0.01 mm"),
        pytest.param(changed(pixdim__3=0), "bad_spacing", "1x1x0", id="no spacing"),
        pytest.param(changed(pixdim__3=np.nan), "bad_spacing", "nan", id="spacing is no number"),
        pytest.param(changed(sform_code=0, qform_code=0), "no_orientation", "which side", id="no codes"),
        pytest.param(changed(srow_x=0), "bad_affine", "without volume", id="flat"),
        pytest.param(changed(srow_x=np.nan), "bad_affine", "without volume", id="affine is no number"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_in_words(tmp_path, make, reason, said):
    path = tmp_path / "a.nii.gz"
    make(path)
    with pytest.raises(InputError, match=said) as caught:
        images.read_image(path)
    assert caught.value.reason == reason
    assert "a.nii.gz" in caught.value.what
    with pytest.raises(InputError):
        images.read_labels(path)


def test_a_file_without_compression_is_measured_too(tmp_path):
    path = write_scan(tmp_path / "a.nii")
    assert images.read_image(path).data.shape == (9, 10, 11)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="promises"):
        images.read_image(path)
    write_scan(tmp_path / "b.nii.gz").rename(path)
    with pytest.raises(InputError, match=r"must end in \.nii\.gz"):
        images.read_image(path)


def test_absurd_dimensions_take_no_memory(tmp_path):
    path = tamper(write_scan(tmp_path / "a.nii.gz"), dim__1=1000, dim__2=100)
    tracemalloc.start()
    with pytest.raises(InputError, match="promises"):
        images.read_image(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", ["int16", ">i2", "uint8", "float64"])
def test_every_storage_is_read_as_nibabel_reads_it(tmp_path, oblique_affine, kind, name, dtype):
    data = np.random.default_rng(2).integers(0, 200, (5, 6, 7)).astype(dtype)
    img = kind(data, oblique_affine, kind.header_class(endianness=">") if dtype == ">i2" else None)
    img.header.set_slope_inter(0.5, 3)
    nib.save(img, tmp_path / name)
    found = images.read_image(tmp_path / name)
    expected = nib.load(tmp_path / name)
    assert found.data.dtype == np.float32
    np.testing.assert_allclose(found.data, expected.get_fdata(), rtol=1e-6)
    np.testing.assert_array_equal(found.affine, expected.affine)


@pytest.mark.parametrize("fields", [{"scl_slope": 0, "scl_inter": 7}, {"scl_slope": np.nan}, {"pixdim__0": 0}])
def test_what_a_header_may_leave_out_is_read_as_the_standard_says(tmp_path, fields):
    before = images.read_image(write_scan(tmp_path / "a.nii.gz"))
    found = images.read_image(tamper(tmp_path / "a.nii.gz", qform_code=1, sform_code=0, **fields))
    np.testing.assert_array_equal(found.data, before.data)


@pytest.mark.parametrize("shape", [(5, 6, 7, 1), (5, 6, 7, 1, 1)])
def test_a_file_of_one_volume_is_3d(tmp_path, shape):
    path = write_scan(tmp_path / "a.nii.gz", np.arange(210, dtype=np.float32).reshape(shape))
    assert images.read_image(path).data.shape == (5, 6, 7)
    assert images.read_labels(path).data.shape == (5, 6, 7)
    assert images.read_grid(path).shape == (5, 6, 7)


def head(rng):
    """A bright ball in the dark, with noise."""
    x, y, z = np.indices((24, 24, 24)) - 11.5
    return np.where(x**2 + y**2 + z**2 < 81, 400 + 60 * rng.standard_normal((24, 24, 24)), 0)


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        (lambda d: d, False),
        (lambda d: np.where(d > 0, (d - 400) / 60, 0), True),
        (lambda d: d - 1024, True),
        (lambda d: (d - d.mean()) / d.std(), True),
        (lambda d: ndimage.zoom(d, 1.3, order=3), False),
        (lambda d: d + 4 * np.random.default_rng(1).standard_normal(d.shape), False),
        (lambda d: np.where(np.random.default_rng(1).random(d.shape) < 0.001, -400, d), False),
    ],
    ids=["magnitudes", "z-scored brain", "offset", "z-scored", "rings", "noise around 0", "a few voxels"],
)
def test_tissue_below_0_is_refused_and_ringing_is_not(change, refused):
    image = Image(change(head(np.random.default_rng(0))).astype(np.float32), np.eye(4), "a.nii.gz")
    if refused:
        with pytest.raises(InputError, match="below 0") as caught:
            images.require_magnitudes(image)
        assert caught.value.reason == "negative_values"
    else:
        images.require_magnitudes(image)


@pytest.mark.parametrize(
    ("spacing", "origin", "one"),
    [(1.00001, 0, True), (1, 0.01, True), (1.0001, 0, True), (1.01, 0, False), (1, 0.3, False), (-1, 0, False)],
)
def test_grids_are_one_within_a_fraction_of_a_voxel(spacing, origin, one):
    other = np.diag([spacing, 1, 1, 1.0])
    other[0, 3] = origin
    assert Grid((256, 256, 160), np.eye(4)).matches(Grid((256, 256, 160), other)) == one


def test_slicer_has_each_lesion_where_it_is_with_its_name_and_colour(tmp_path):
    """Read by ITK, which takes NRRD's own axes to LPS."""
    labels = np.zeros((7, 9, 5), np.uint8)
    labels[1:3, 4:8, 2] = 3
    labels[6, 0, 4] = 12
    affine = np.array([[0, -1.2, 0.1, 4], [0.9, 0, 0, -30], [0.1, 0, 2.5, 17], [0, 0, 0, 1.0]])
    path = tmp_path / "a.seg.nrrd"
    images.write_slicer(path, labels, affine, [(3, "L003", "#ff8000"), (12, "L012", "#0000ff")])
    read = SimpleITK.ReadImage(str(path))
    assert (labels == SimpleITK.GetArrayFromImage(read).T).all()
    for voxel in ((0, 0, 0), (6, 8, 4), (2, 1, 3)):
        world = affine @ [*voxel, 1]
        assert read.TransformIndexToPhysicalPoint(voxel) == pytest.approx((-world[0], -world[1], world[2]), abs=1e-6)
    said = {name: read.GetMetaData(name) for name in read.GetMetaDataKeys() if name.startswith("Segment")}
    assert said["Segment0_Name"] == said["Segment0_ID"] == "L003"
    assert said["Segment0_LabelValue"] == "3" and said["Segment1_LabelValue"] == "12"
    assert [float(part) for part in said["Segment0_Color"].split()] == pytest.approx([1, 128 / 255, 0], abs=1e-5)
    assert said["Segment0_Extent"] == "1 2 4 7 2 2" and said["Segment0_Layer"] == "0"
    assert "Segment2_ID" not in said
    first = path.read_bytes()
    images.write_slicer(path, labels, affine, [(3, "L003", "#ff8000"), (12, "L012", "#0000ff")])
    assert path.read_bytes() == first


def test_a_session_without_lesions_is_an_empty_segmentation_of_slicer(tmp_path):
    images.write_slicer(tmp_path / "a.seg.nrrd", np.zeros((4, 5, 6)), np.eye(4), [])
    read = SimpleITK.ReadImage(str(tmp_path / "a.seg.nrrd"))
    assert read.GetSize() == (4, 5, 6) and not SimpleITK.GetArrayFromImage(read).any()
    images.write_slicer(tmp_path / "b.seg.nrrd", np.full((4, 5, 6), 300), np.eye(4), [(300, "L300", "#000000")])
    assert SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "b.seg.nrrd"))).max() == 300
