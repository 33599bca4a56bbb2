"""Images as scanners, converters, disks and networks leave them."""

import gzip

import nibabel as nib
import numpy as np

from odd_inputs.making import CE, affine_of, case, not_used, session_out, told, used

NAME = f"sub-01_ses-02_{CE}.nii.gz"
BROKEN = ("unreadable",)


def raw(change):
    """Change the bytes of the file."""

    def disturb(c, role=CE):
        c.write(c.scan(role), change(c.scan(role).read_bytes()))

    return disturb


def unpacked(change):
    """Change the bytes within the gzip."""
    return raw(lambda b: gzip.compress(change(bytearray(gzip.decompress(b)))))


def header(**fields):
    return lambda c, role=CE: c.header_bytes(c.scan(role), **fields)


def voxels(change, affine=None):
    return lambda c, role=CE: c.image(c.scan(role), change, affine)


def affine(change):
    def disturb(c, role=CE):
        place = nib.load(c.scan(role)).affine.copy()
        change(place)
        c.image(c.scan(role), affine=place)

    return disturb


def dtype(name):
    return voxels(lambda data: data.astype(name))


def structured(kind):
    """RGB or RGBA."""
    code = nib.nifti1.data_type_codes.dtype[kind]

    def change(data):
        image = np.zeros(data.shape, code)
        for channel in code.names:
            image[channel] = data % 200
        return image

    return voxels(change)


def one_nan(data, value=np.nan):
    data = data.astype(np.float32)
    data[5, 6, 7] = value
    return data


def few_negative(data):
    data = data.astype(np.float32)
    data[3, 4, 5:8] = -2.5
    return data


def z_scored(data):
    return ((data - data.mean()) / data.std()).astype(np.float32)


def flip_bits(b):
    b = bytearray(b)
    for place in range(len(b) // 2, len(b) // 2 + 40):
        b[place] ^= 0xFF
    return bytes(b)


def wrong_crc(b):
    return b[:-8] + bytes(x ^ 0x55 for x in b[-8:-4]) + b[-4:]


def wrong_length(b):
    return b[:-4] + b"\1\2\3\4"


def two_members(b):
    whole = gzip.decompress(b)
    return gzip.compress(whole[:1000]) + gzip.compress(whole[1000:])


def nifti2(c):
    image = nib.load(c.scan())
    image = nib.Nifti2Image(np.asanyarray(image.dataobj), image.affine)
    c.scan().unlink()
    nib.save(image, c.scan())


def swapped(c):
    """The other byte order throughout."""
    image = nib.load(c.scan())
    data = np.asanyarray(image.dataobj)
    turned = nib.Nifti1Image(data, image.affine, nib.Nifti1Header(endianness=">"))
    turned.set_data_dtype(np.int16)
    c.scan().unlink()
    nib.save(turned, c.scan())


def not_compressed(c):
    c.write(c.scan().with_suffix(""), gzip.decompress(c.scan().read_bytes()))
    c.scan().unlink()


def not_compressed_and_cut(c):
    not_compressed(c)
    path = c.scan().with_suffix("")
    c.write(path, path.read_bytes()[:5000])


def pair(c):
    image = nib.load(c.scan())
    nib.save(nib.Nifti1Pair(np.asanyarray(image.dataobj), image.affine), c.scan().with_suffix("").with_suffix(".img"))
    c.scan().unlink()


def quaternion_only(c, role=CE):
    image = nib.load(c.scan(role))
    image = nib.Nifti1Image(np.asanyarray(image.dataobj), None)
    image.set_qform(affine_of(), 1)
    image.set_sform(None, 0)
    c.scan(role).unlink()
    nib.save(image, c.scan(role))


def forms(sform, qform):
    """Both orientations are given."""

    def disturb(c):
        image = nib.load(c.scan())
        image = nib.Nifti1Image(np.asanyarray(image.dataobj), sform)
        image.set_sform(sform, 1)
        image.set_qform(qform, 1)
        c.scan().unlink()
        nib.save(image, c.scan())

    return disturb


def turned(degrees):
    angle = np.deg2rad(degrees)
    place = affine_of()
    place[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return place


def shifted(mm):
    place = affine_of()
    place[0, 3] += mm
    return place


def sheared(a):
    a[0, 1] = 0.3


def rounded(a):
    a[0, 1], a[1, 1] = 2e-5, 1.00002


def left_handed(a):
    a[0] *= -1


def far_away(a):
    a[:3, 3] = 1e7


def spacing(mm, axis=slice(0, 3)):
    def change(a):
        a[:3, axis] *= mm

    return affine(change)


def out(*reasons, says=NAME):
    return session_out("02", reasons, says)


def sequence_broken(how):
    return lambda c: how(c, role="T2w")


T2W = [
    used(flag="T2w_*", says="sub-01_ses-02_T2w.nii.gz", T2w={"02": "n/a"}),
    used(flag="T2w_*", says="sub-01_ses-02_T2w.nii.gz"),
]
NRRD = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 24 26 20\nencoding: raw\n\n"
HUGE = np.array([3, 32767, 32767, 32767, 1, 1, 1, 1], np.int16)

ROWS = [
    # The file.
    case("gzip cut short", "gzip", raw(lambda b: b[: len(b) // 2]), out(*BROKEN)),
    case("gzip cut by its last ten bytes", "gzip", raw(lambda b: b[:-10]), out(*BROKEN)),
    case("gzip with a wrong checksum", "gzip", raw(wrong_crc), out(*BROKEN)),
    case("gzip with a wrong length", "gzip", raw(wrong_length), out(*BROKEN)),
    case("gzip with flipped bits", "gzip", raw(flip_bits), out(*BROKEN)),
    case("gzip of two members", "gzip", raw(two_members), used(quiet=True)),
    case("gzip with zeros behind it", "gzip", raw(lambda b: b + bytes(512)), used(), out(*BROKEN)),
    case("gzip with rubbish behind it", "gzip", raw(lambda b: b + b"rubbish"), used(), out(*BROKEN)),
    case("gzip's head alone", "gzip", raw(lambda b: b[:10]), out(*BROKEN)),
    case("not compressed, yet called .gz", "user", raw(gzip.decompress), used(), out(*BROKEN)),
    case("compressed twice", "user", raw(gzip.compress), used(), out(*BROKEN)),
    case("compressed, yet called .nii", "user", lambda c: c.move(c.scan(), NAME.removesuffix(".gz")), used(),
         out(*BROKEN, says=NAME[:-3])),
    case("not compressed and called so", "BIDS", not_compressed, used(quiet=True)),
    case("not compressed and cut short", "filesystem", not_compressed_and_cut, out(*BROKEN, says=NAME[:-3])),
    case("the file is empty", "filesystem", raw(lambda b: b""), out(*BROKEN)),
    case("the file is nothing but zeros", "filesystem", raw(lambda b: bytes(5000)), out(*BROKEN)),
    case("the file is a web page", "user", raw(lambda b: b"<html><body>403 Forbidden</body></html>"), out(*BROKEN)),
    case("the file is a DICOM", "user", raw(lambda b: bytes(128) + b"DICM" + bytes(2000)), out(*BROKEN)),
    case("the file is an NRRD", "Slicer",
         raw(lambda b: NRRD + bytes(24 * 26 * 40)), out(*BROKEN)),
    case("the file has no voxels", "NIfTI", unpacked(lambda b: b[:352]), out(*BROKEN)),
    case("the file lacks its last voxels", "NIfTI", unpacked(lambda b: b[:-700]), out(*BROKEN)),
    case("header and voxels in two files", "NIfTI", pair, session_out("02", ("no_contrast", "no_reference")), used()),
    case("NIfTI-2", "NIfTI", nifti2, used(quiet=True)),
    case("the other byte order", "NIfTI", swapped, used(quiet=True)),
    # The header.
    case("the magic word is wrong", "NIfTI", header(magic=b"abcd"), out(*BROKEN)),
    case("the magic word is that of a pair", "NIfTI", header(magic=b"ni1\0"), out(*BROKEN), used()),
    case("an ANALYZE file by another name", "NIfTI", header(magic=b"", qform_code=0, sform_code=0),
         out("unreadable", "no_orientation")),
    case("the size of the header is wrong", "NIfTI", header(sizeof_hdr=340), out(*BROKEN)),
    case("the voxels begin where nothing is", "NIfTI", header(vox_offset=1e9), out(*BROKEN)),
    case("the voxels begin before the file", "NIfTI", header(vox_offset=-352), out(*BROKEN), used()),
    case("the voxels begin nowhere", "NIfTI", header(vox_offset=np.nan), out(*BROKEN), used()),
    case("absurd dimensions", "NIfTI", header(dim=HUGE), out("unreadable", "bad_dimensions")),
    case("a negative dimension", "NIfTI", header(dim=[3, -24, 26, 20, 1, 1, 1, 1]),
         out("unreadable", "bad_dimensions")),
    case("a dimension of 0", "NIfTI", header(dim=[3, 24, 0, 20, 1, 1, 1, 1]),
         out("unreadable", "bad_dimensions", "empty_scan", "not_3d", "too_few_slices")),
    case("no dimension at all", "NIfTI", header(dim=np.zeros(8)), out("unreadable", "bad_dimensions", "not_3d")),
    case("nine dimensions", "NIfTI", header(dim=[9, 24, 26, 20, 1, 1, 1, 1]),
         out("unreadable", "bad_dimensions", "not_3d")),
    case("one voxel more than there are", "NIfTI", header(dim=[3, 24, 26, 21, 1, 1, 1, 1]), out(*BROKEN)),
    case("a datatype that is none", "NIfTI", header(datatype=9999), out("unreadable", "bad_datatype")),
    case("datatype 0", "NIfTI", header(datatype=0, bitpix=0), out("unreadable", "bad_datatype")),
    case("single bits", "NIfTI", header(datatype=1, bitpix=1), out("unreadable", "bad_datatype")),
    case("datatype and number of bits disagree", "NIfTI", header(bitpix=32), out("unreadable", "bad_datatype"), used()),
    case("the unit is micrometres and the spacing 1000", "NIfTI",
         lambda c: [spacing(1000)(c), header(xyzt_units=3)(c)], out("bad_spacing"), used()),
    case("the unit is unknown", "NIfTI", header(xyzt_units=0), used()),
    # Voxels.
    case("z-scored", "nnU-Net", voxels(z_scored), out("negative_values")),
    case("integers with -1024", "dcm2niix", voxels(lambda d: np.where(d < 450, -1024, d).astype(np.int16)),
         out("negative_values")),
    case("-1024 by the intercept of the header", "NIfTI", header(scl_slope=1, scl_inter=-1024), out("negative_values")),
    case("a slope below 0", "NIfTI", header(scl_slope=-1, scl_inter=0), out("negative_values")),
    case("a few negative voxels", "NIfTI", voxels(few_negative), used(quiet=True)),
    case("a slope of 0", "NIfTI", header(scl_slope=0, scl_inter=0), used(quiet=True)),
    case("a slope that is no number", "NIfTI", header(scl_slope=np.nan, scl_inter=np.nan), used(),
         out("unreadable", "not_finite")),
    case("a slope that is infinite", "NIfTI", header(scl_slope=np.inf), used(), out("unreadable", "not_finite")),
    case("an ordinary slope and intercept", "NIfTI", header(scl_slope=0.5, scl_inter=7), used(quiet=True)),
    case("one voxel is no number", "NIfTI", voxels(one_nan), out("not_finite")),
    case("one voxel is infinite", "NIfTI", voxels(lambda d: one_nan(d, np.inf)), out("not_finite")),
    case("air is no number", "FSL", voxels(lambda d: np.where(d < 300, np.nan, d).astype(np.float32)),
         out("not_finite")),
    case("every voxel is 0", "user", voxels(np.zeros_like), out("empty_scan")),
    case("every voxel is 7", "user", voxels(lambda d: np.full_like(d, 7)), out("empty_scan"), used()),
    *[case(f"voxels are {kind}", "NIfTI", dtype(kind),
         used(quiet=True)) for kind in ("uint16", "float64", "int32", "float32")],
    *[case(f"voxels are {kind}", "NIfTI", dtype(kind), used(),
         out("bad_datatype", "unreadable")) for kind in ("int64",)],
    *[case(f"voxels are {kind}", "NIfTI", dtype(kind), out("bad_datatype")) for kind in ("complex64", "complex128")],
    *[case(f"voxels are {kind}", "Slicer", structured(kind), out("bad_datatype")) for kind in ("RGB", "RGBA")],
    # Dimensions.
    case("four dimensions, one volume", "dcm2niix", voxels(lambda d: d[..., None]), used(quiet=True)),
    case("four dimensions, one volume, in the header alone", "NIfTI", header(dim=[4, 24, 26, 20, 1, 1, 1, 1]),
         used(quiet=True)),
    case("five dimensions, one volume", "ITK", voxels(lambda d: d[..., None, None]), used(), out("not_3d")),
    case("two volumes", "dcm2niix", voxels(lambda d: np.stack([d, d], -1)), out("not_3d")),
    case("three values a voxel, as a vector", "ITK", voxels(lambda d: np.stack([d] * 3, -1)[:, :, :, None]),
         out("not_3d")),
    case("one slice in two dimensions", "NIfTI", voxels(lambda d: d[..., 10]), out("not_3d", "too_few_slices")),
    case("one slice", "NIfTI", voxels(lambda d: d[..., 10:11]), out("too_few_slices")),
    case("one row", "NIfTI", voxels(lambda d: d[:, 10:11]), out("too_few_slices")),
    # Spacing.
    case("voxels of 1000 mm", "NIfTI", spacing(1000), out("bad_spacing")),
    case("voxels of 0.01 mm", "NIfTI", spacing(0.01), out("bad_spacing")),
    case("voxels of 0.001, as metres", "NIfTI", lambda c: [spacing(0.001)(c), header(xyzt_units=1)(c)],
         out("bad_spacing"), used()),
    case("slices 30 mm apart", "NIfTI", spacing(30, 2), out("bad_spacing")),
    # Its T2w was left where it was, and shows another part of the body now.
    case("slices 6 mm apart", "dcm2niix", spacing(6, 2), T2W[0]),
    case("a spacing of 0 in pixdim", "NIfTI", header(pixdim=[1, 0, 0, 0, 0, 0, 0, 0], sform_code=0, qform_code=1),
         out("bad_spacing", "bad_affine")),
    case("a spacing of 0 in pixdim beside a good sform", "NIfTI", header(pixdim=[1, 0, 1, 1, 0, 0, 0, 0]),
         out("bad_spacing", "bad_affine"), used()),
    case("a spacing below 0 in pixdim", "NIfTI", header(pixdim=[1, -1, -1, -1, 0, 0, 0, 0]),
         out("bad_spacing", "bad_affine", "unreadable"), used()),
    case("a spacing that is no number", "NIfTI", header(pixdim=[1, np.nan, 1, 1, 0, 0, 0, 0]),
         out("bad_spacing", "bad_affine", "unreadable"), used()),
    case("pixdim says 2 mm, the sform 1 mm", "NIfTI", header(pixdim=[1, 2, 2, 2, 0, 0, 0, 0]),
         out("ambiguous_affine", "bad_spacing", "bad_affine"), used()),
    # Orientation.
    case("no orientation code at all", "NIfTI", header(qform_code=0, sform_code=0), out("no_orientation")),
    case("the qform alone", "ITK", quaternion_only, used(quiet=True)),
    case("qform and sform agree", "FSL", forms(affine_of(), affine_of()), used(quiet=True)),
    case("qform and sform are turned apart", "NIfTI", forms(affine_of(), turned(15)), out("ambiguous_affine")),
    case("qform and sform are 5 mm apart", "NIfTI", forms(affine_of(), shifted(5)), out("ambiguous_affine")),
    case("qform and sform differ by rounding", "ITK", forms(affine_of(), shifted(1e-5)), used(quiet=True)),
    case("a quaternion that is none", "NIfTI", header(qform_code=1, sform_code=0, quatern_b=2),
         out("bad_affine", "no_orientation", "unreadable"), used()),
    case("qfac is 0", "NIfTI", lambda c: [quaternion_only(c), header(pixdim=[0, 1, 1, 1, 0, 0, 0, 0])(c)], used(),
         out("unreadable", "bad_affine")),
    case("the affine has a column of 0", "NIfTI", header(srow_y=[0, 0, 0, -13]), out("bad_affine", "bad_spacing")),
    case("the affine has something that is no number", "NIfTI", header(srow_x=[np.nan, 0, 0, 0]),
         out("bad_affine", "not_finite")),
    case("the affine is nothing but 0", "NIfTI", header(srow_x=[0] * 4, srow_y=[0] * 4, srow_z=[0] * 4),
         out("bad_affine", "bad_spacing", "no_orientation")),
    case("the affine is sheared", "dcm2niix", affine(sheared), out("sheared")),
    case("the affine is sheared by rounding", "ITK", affine(rounded), used(quiet=True)),
    case("left-handed", "dcm2niix", affine(left_handed), used(quiet=True)),
    case("ten kilometres away", "NIfTI", affine(far_away), T2W[0], out("bad_affine")),
    # Another sequence, or none.
    *[case(f"another sequence: {name}", source, sequence_broken(how), *T2W)
      for name, source, how in [
          ("gzip cut short", "gzip", raw(lambda b: b[: len(b) // 2])), ("gzip with flipped bits", "gzip",
          raw(flip_bits)),
          ("a wrong checksum", "gzip", raw(wrong_crc)), ("two volumes", "dcm2niix", voxels(lambda d: np.stack([d, d],
          -1))),
          ("complex numbers", "NIfTI", dtype("complex64")), ("something that is no number", "NIfTI", voxels(one_nan)),
          ("absurd dimensions", "NIfTI", header(dim=HUGE)), ("no orientation code", "NIfTI", header(qform_code=0,
          sform_code=0)),
          ("empty", "filesystem", raw(lambda b: b""))]],
    case("another sequence has one volume of four dimensions", "dcm2niix", sequence_broken(voxels(lambda d: d[...,
         None])), used(quiet=True)),
    case("a broken image without a role", "BIDS", lambda c: c.write(c.scan("PDw"), b"no"), used(quiet=True),
         not_used(("no_role", "unreadable"), "PDw")),
    case("a broken map beside the scans", "BIDS", lambda c: c.write(c.scan("T1map"), b"\x1f\x8b"), used(quiet=True),
         not_used(("no_role", "unreadable"), "T1map")),
    case("a broken image in derivatives", "BIDS",
         lambda c: c.write(c.bids / f"derivatives/x/sub-01/ses-02/anat/{NAME}", b"no"), used(quiet=True)),
    case("two bad scans in one patient", "user", lambda c: [raw(lambda b: b[:50])(c),
         c.image(c.scan(ses="03"), np.zeros_like)], told((NAME, "sub-01_ses-03"))),
]  # fmt: skip
