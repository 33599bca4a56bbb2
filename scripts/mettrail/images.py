"""The only place that reads or writes scans and label maps (NIfTI), and the checks that go with it.

World coordinates are RAS+ millimetres throughout, arrays are (X, Y, Z) in the file's own axis order.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.arrayproxy import ArrayProxy
from scipy import ndimage

from mettrail.errors import GridMismatchError, InputError
from mettrail.reasons import Reason

Box = tuple[slice, slice, slice]
Shape = tuple[int, int, int]

ENHANCING, EDEMA, NECROSIS, CAVITY = 1, 2, 3, 4
# Of a session's label map, and in this order the classes of probabilities; priors know no resection cavity.
TISSUE_LABELS = (0, ENHANCING, EDEMA, NECROSIS, CAVITY)
LESION_LABELS = (0, ENHANCING, EDEMA, NECROSIS)
# Two programs write one grid with other last digits (a spacing of 1.00001 beside 1); no segmentation is this fine.
GRID_TOLERANCE_VOX = 0.05
# Angles between array axes and their sheared counterparts that resampling would silently distort.
MAX_SHEAR = 1e-3
MAX_FORM_DISAGREEMENT_MM = 1.0
# No scan of a head has voxels smaller or larger than this; a header in metres or micrometres has.
SPACING_MM = (0.1, 20.0)
MIN_SLICES = 3
# gzip never makes a file smaller than by this factor (a property of deflate): a header that claims more is wrong.
MAX_COMPRESSION = 1100
# Interpolation rings: a few voxels lie a little below 0. More or deeper ones are tissue (see `require_magnitudes`).
RINGING = 0.2
MAX_NEGATIVE = 0.01
# Relative error of a determinant whose affine was stored in single precision: 1.1e-7 at most in 20,000 random ones.
_SINGLE_PRECISION = 2e-7
_KINDS: dict[bytes, tuple[type[nib.Nifti1Header], str]] = {
    length.to_bytes(4, order): (kind, {"little": "<", "big": ">"}[order])
    for length, kind in ((348, nib.Nifti1Header), (540, nib.Nifti2Header))
    for order in ("little", "big")
}


@dataclass(frozen=True)
class Grid:
    """A voxel grid: (X, Y, Z) shape and 4x4 affine to RAS+ mm."""

    shape: Shape
    affine: np.ndarray

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along each array axis, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel, mm3; see `voxel_volume_mm3`."""
        return voxel_volume_mm3(self.affine)

    def matches(self, other: Grid) -> bool:
        """Whether both grids are the same voxels at the same places."""
        if self.shape != other.shape:
            return False
        corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
        corners[:, :3] *= np.array(self.shape) - 1
        apart = np.linalg.solve(self.affine, (self.affine - other.affine) @ corners.T)
        return bool(np.abs(apart).max() < GRID_TOLERANCE_VOX)

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Tell which points lie in the field of view, up to the outer edges of its voxels.

        Parameters
        ----------
        points : (N, 3) float, RAS mm

        Returns
        -------
        (N,) bool
        """
        at = (points - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T
        inside: np.ndarray = np.all((at >= -0.5) & (at <= np.array(self.shape) - 0.5), axis=1)
        return inside

    def middle_points(self, count: int = 8) -> np.ndarray:
        """Return points of the middle half of the field of view, evenly spread, `count` along each axis.

        Returns
        -------
        (N, 3) float, RAS mm
        """
        steps = [np.linspace(0.25, 0.75, count) * n - 0.5 for n in self.shape]
        at = np.stack(np.meshgrid(*steps), -1).reshape(-1, 3)
        points: np.ndarray = at @ self.affine[:3, :3].T + self.affine[:3, 3]
        return points

    def crop(self, box: Box) -> Grid:
        """Return the grid of ``array[box]``; slices with a start and a stop within the shape."""
        affine = self.affine.copy()
        affine[:3, 3] = (self.affine @ [*(s.start for s in box), 1])[:3]
        x, y, z = (s.stop - s.start for s in box)
        return Grid((x, y, z), affine)

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.shape))} voxels of {'x'.join(f'{s:.3g}' for s in self.spacing_mm)} mm"


@dataclass(frozen=True)
class Image:
    """An array with its place in the world.

    Parameters
    ----------
    data : (X, Y, Z) array
    affine : (4, 4) float, voxel index to RAS+ mm
    path : str
        Where it came from; used in messages only.
    """

    data: np.ndarray
    affine: np.ndarray
    path: str = field(default="", compare=False)

    @property
    def grid(self) -> Grid:
        """Shape and affine."""
        return Grid(tuple(self.data.shape), self.affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along each array axis, mm."""
        return self.grid.spacing_mm

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel, mm3."""
        return self.grid.voxel_volume_mm3

    def like(self, data: np.ndarray) -> Image:
        """Return other data on this image's grid."""
        return Image(data, self.affine)


def voxel_volume_mm3(affine: np.ndarray) -> float:
    """Return the volume of one voxel of a (4, 4) affine, mm3: the determinant, right for oblique grids too.

    Files hold affines in single precision: 1 mm3 comes out as 0.99999998, and 31510 such voxels as 31509.999 mm3. The
    shortest number that single precision cannot tell from the determinant is what was meant.

    Examples
    --------
    >>> voxel_volume_mm3(np.diag([0.9, 0.9, 3, 1]).astype(np.float32))
    2.43
    """
    exact = float(abs(np.linalg.det(np.asarray(affine, float)[:3, :3])))
    shorter = (float(f"{exact:.{figures}g}") for figures in range(1, 17))
    return next((volume for volume in shorter if abs(volume - exact) <= _SINGLE_PRECISION * exact), exact)


def read_image(path: str | Path) -> Image:
    """Read one 3-D scan as float32, refusing what no later stage could use.

    Raises
    ------
    InputError
        Not a whole NIfTI file, not one volume of real numbers, not finite, all one value, or without a sound place in
        the world.
    """
    data, affine = _read(path, np.float32)
    if not np.isfinite(data).all():
        bad = int((~np.isfinite(data)).sum())
        raise InputError(
            path,
            found=f"{bad} voxels that are NaN or infinite",
            expected="finite numbers everywhere",
            advice="Export the scan again; if the NaNs are background, write 0 there.",
            reason=Reason.NOT_FINITE,
        )
    if data.min() == data.max():
        raise InputError(
            path,
            found=f"every voxel is {data.flat[0]:g}",
            expected="a scan with contrast",
            advice="Export the scan again or leave it out.",
            reason=Reason.EMPTY_SCAN,
        )
    return Image(data, affine, str(path))


def read_grid(path: str | Path) -> Grid:
    """Read the grid of a scan from its header alone.

    Raises
    ------
    InputError
        As `read_image`, for what a header can show.
    """
    with _opened(path) as stream:
        header = _read_header(Path(path), stream)
        return Grid(_spatial_shape(header), _find_affine(path, header))


def require_magnitudes(image: Image) -> None:
    """Refuse a scan whose tissue lies below 0.

    The bias correction sets what is below 0 to 0 and takes logarithms of the rest: a z-scored scan would lose half of
    its brain there, one stored with an offset of -1024 nearly all of it. What counts is therefore how much of what is
    not background lies clearly below 0: more than 1 % of the voxels that are not 0, lower than minus 20 % of the
    brightness (99th percentile of magnitudes). Cubic interpolation rings beside edges: over real heads and brains it
    leaves 0.03 % so deep, and 0.2 % where a brain was cut out sharply before.

    Raises
    ------
    InputError
        Says how much.
    """
    data = image.data
    if data.min() >= 0:
        return
    signal = data[data != 0]
    depth = RINGING * np.percentile(np.abs(signal), 99)
    share = float((signal < -depth).mean())
    if share > MAX_NEGATIVE:
        raise InputError(
            image.path or "scan",
            found=f"{share:.0%} of the voxels that are not 0 lie below 0, down to {float(data.min()):g}",
            expected="magnitudes: background near 0, tissue above it",
            advice="Give the scan as the scanner made it, not z-scored or with an offset.",
            reason=Reason.NEGATIVE_VALUES,
        )


def read_labels(path: str | Path, allowed: tuple[int, ...] | None = None) -> Image:
    """Read a label map as unsigned integers.

    Parameters
    ----------
    path : path
    allowed : tuple of int, optional
        The only values that may occur, e.g. `TISSUE_LABELS`. Any non-negative integer when omitted.

    Raises
    ------
    InputError
        Not readable, not 3-D, fractions, negative numbers, or values that are not allowed.
    """
    raw, affine = _read(path)
    data, strange = raw, raw[:0]
    if raw.dtype.kind not in "ui":
        data = np.rint(raw)
        with np.errstate(invalid="ignore"):
            strange = raw[~(np.abs(raw - data) <= 1e-3) | (data < 0)]
    elif raw.min(initial=0) < 0:
        strange = raw[raw < 0]
    if strange.size:
        raise InputError(
            path,
            found=f"values that are not whole numbers from 0 up, e.g. {float(strange[0]):.4g}",
            expected="a label map",
            advice="Save the segmentation as labels, not as probabilities.",
            reason=Reason.BAD_LABELS,
        )
    data = data.astype(np.uint8 if data.max(initial=0) < 256 else np.uint32, copy=False)
    if allowed is not None:
        unknown = sorted(set(np.unique(data).tolist()) - set(allowed))
        if unknown:
            raise InputError(
                path,
                found=f"labels {unknown}",
                expected=f"only {list(allowed)} (1 enhancing, 2 edema, 3 necrosis"
                f"{', 4 resection cavity' if CAVITY in allowed else ''})",
                advice="Relabel the map.",
                reason=Reason.BAD_LABELS,
            )
    return Image(data, affine, str(path))


def read_mask(path: str | Path) -> Image:
    """Read a binary mask as bool; anything above 0 is inside."""
    labels = read_labels(path)
    return Image(labels.data > 0, labels.affine, labels.path)


def write_image(path: str | Path, data: np.ndarray, affine: np.ndarray) -> None:
    """Write a float32 volume (a 4-D one for several channels), sform and qform set alike."""
    _write(path, np.asarray(data, np.float32), affine)


def write_labels(path: str | Path, data: np.ndarray, affine: np.ndarray) -> None:
    """Write a label map as uint8, or uint16 where a label exceeds 255."""
    data = np.asarray(data)
    _write(path, data.astype(np.uint8 if data.max(initial=0) < 256 else np.uint16), affine)


def write_slicer(
    path: str | Path, data: np.ndarray, affine: np.ndarray, segments: Iterable[tuple[int, str, str]]
) -> None:
    """Write a label map as a segmentation of 3D Slicer (NRRD, gzip): a segment each, with its name and colour.

    Parameters
    ----------
    path : path
        ``.seg.nrrd``.
    data : array (X, Y, Z)
        Labels, 0 to 65535.
    affine : array (4, 4)
        Array axes to RAS mm.
    segments : iterable of (int, str, str)
        Label, name and colour (#rrggbb).
    """
    data = np.asarray(data, np.uint8 if np.max(data, initial=0) < 256 else "<u2")
    vectors = [",".join(f"{part:.9g}" for part in vector) for vector in np.asarray(affine)[:3].T]
    lines = [
        "NRRD0004",
        f"type: {'uint8' if data.itemsize == 1 else 'uint16'}",
        "dimension: 3",
        "space: right-anterior-superior",
        f"sizes: {' '.join(map(str, data.shape))}",
        f"space directions: {' '.join(f'({vector})' for vector in vectors[:3])}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: ({vectors[3]})",
        "Segmentation_ContainedRepresentationNames:=Binary labelmap|",
        "Segmentation_MasterRepresentation:=Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset:=0 0 0",
    ]
    boxes = dict(enumerate(ndimage.find_objects(data), start=1))
    for n, (label, name, colour) in enumerate(segments):
        box = boxes.get(label) or [slice(0, 0)] * 3
        facts = {
            "ID": name,
            "Name": name,
            "NameAutoGenerated": "0",
            "Color": " ".join(f"{int(colour[i : i + 2], 16) / 255:.6f}" for i in (1, 3, 5)),
            "ColorAutoGenerated": "0",
            "Extent": " ".join(f"{side.start} {side.stop - 1}" for side in box),
            "LabelValue": str(label),
            "Layer": "0",
            "Tags": "Segmentation.Status:inprogress|",
        }
        lines += [f"Segment{n}_{key}:={value}" for key, value in facts.items()]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # An empty line ends the header, and the first axis runs fastest. Without the time, gzip is the same each time.
    header = ("\n".join(lines) + "\n\n").encode()
    Path(path).write_bytes(header + gzip.compress(data.tobytes(order="F"), mtime=0))


def write_probabilities(path: str | Path, data: np.ndarray, affine: np.ndarray) -> None:
    """Write (X, Y, Z, classes) probabilities as bytes scaled by 1/255: a hundredth of the space, 0.2 % off at most."""
    img = nib.Nifti1Image(np.rint(np.clip(data, 0, 1) * 255).astype(np.uint8), affine)
    img.set_qform(affine, 1)
    img.set_sform(affine, 1)
    img.header.set_xyzt_units("mm")
    img.header.set_slope_inter(1 / 255, 0)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    nib.save(img, path)


def read_probabilities(path: str | Path) -> Image:
    """Read (X, Y, Z, classes) float32 probabilities."""
    img = nib.Nifti1Image.from_filename(path)
    return Image(np.asarray(img.dataobj, np.float32), np.asarray(img.affine, float), str(path))


def require_same_grid(*images: Image) -> None:
    """Refuse images that are not voxel by voxel on one grid.

    Raises
    ------
    GridMismatchError
        Names both files and both grids.
    """
    first = images[0]
    for other in images[1:]:
        if not first.grid.matches(other.grid):
            raise GridMismatchError(
                f"{first.path} and {other.path}",
                found=f"{first.grid} and {other.grid}, or the same voxels at different places",
                expected="one voxel grid",
                advice="Resample the second onto the first (labels with nearest neighbour) before giving it.",
                reason=Reason.GRID_MISMATCH,
            )


def canonical_grid(grid: Grid, *, spacing_mm: float = 1.0) -> Grid:
    """Return the working grid of a scan: RAS axes, isotropic, the same field of view.

    The axes stay parallel to the scan's own (an oblique scan keeps its angle); only order, direction and
    spacing change, so that nothing is interpolated across a rotation it does not need.
    """
    ornt = nib.orientations.io_orientation(grid.affine)
    to_ras = nib.orientations.inv_ornt_aff(ornt, grid.shape)
    shape = np.array(grid.shape)[np.argsort(ornt[:, 0])]
    affine = grid.affine @ to_ras
    old = np.linalg.norm(affine[:3, :3], axis=0)
    new_shape = np.maximum(np.round(shape * old / spacing_mm).astype(int), 1)
    scaled = affine.copy()
    scaled[:3, :3] = affine[:3, :3] / old * spacing_mm
    # Both fields of view share their centre.
    centre = affine @ np.append((shape - 1) / 2, 1)
    scaled[:3, 3] = centre[:3] - scaled[:3, :3] @ ((new_shape - 1) / 2)
    x, y, z = (int(n) for n in new_shape)
    return Grid((x, y, z), scaled)


def resample(
    image: Image, grid: Grid, *, order: Literal[0, 1, 3] = 1, world: np.ndarray | None = None, fill: float = 0.0
) -> Image:
    """Resample onto another grid, through an affine map of the world where one is given.

    Parameters
    ----------
    image : Image
        What is sampled. Label maps need ``order=0``.
    grid : Grid
        Where the result lives.
    order : int
        0 nearest, 1 linear, 3 cubic.
    world : (4, 4) float, optional
        Maps RAS mm points of `grid` to RAS mm points of `image`. Identity when omitted.
    fill : float
        Value outside the field of view, which ends half a voxel beyond the outermost voxel centres.
    """
    world = np.eye(4) if world is None else world
    matrix = np.linalg.inv(image.affine) @ world @ grid.affine
    data = image.data
    if order > 0:
        data = data.astype(np.float32, copy=False)
    out = ndimage.affine_transform(
        data, matrix[:3, :3], matrix[:3, 3], output_shape=grid.shape, order=order, mode="grid-constant", cval=fill
    )
    return Image(out, grid.affine)


def _read(path: str | Path, dtype: npt.DTypeLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read the voxels of one 3-D volume to the end of the file, and settle on one affine.

    To the end, because gzip's checksum is there: to stop at the last voxel would be to take flipped bits for tissue.
    The header is taken as it was written: nibabel, when it opens a file, turns a voxel size of 0 into 1 mm, silently.
    """
    with _opened(path) as stream:
        header = _read_header(Path(path), stream)
        affine = _find_affine(path, header)
        slope, inter = header.get_slope_inter()
        # No slope, or one of 0, means that numbers are stored as they are.
        scaling = (1.0, 0.0) if slope is None else (slope, inter)
        spec = (_shape(header), header.get_data_dtype(), int(header["vox_offset"]), *scaling)
        data = np.asanyarray(ArrayProxy(stream, spec), dtype)
        more = 0
        while block := stream.read(1 << 20):
            more += len(block)
    width, height, *_ = data.shape
    if more >= width * height * header.get_data_dtype().itemsize:
        raise _unreadable(path, f"{more} bytes more than the header promises: dimensions or datatype are wrong")
    return data.reshape(data.shape[:3]), affine


@contextmanager
def _opened(path: str | Path) -> Iterator[gzip.GzipFile | BufferedReader]:
    """Open a file for reading, unpacked; whatever is wrong with it becomes one kind of error."""
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise OSError("no file to read from")  # opening a pipe would wait forever
        with gzip.open(path, "rb") if _is_gzip(path) else Path(path).open("rb") as stream:
            yield stream
    except InputError:
        raise
    except Exception as err:  # damaged files make gzip, nibabel and numpy stumble in many ways that all mean the same
        raise _unreadable(path, _what_else(Path(path)) or f"a file that is damaged or cut short ({err})") from err


def _read_header(path: Path, stream: gzip.GzipFile | BufferedReader) -> nib.Nifti1Header:
    """Read a header and return it, if what it says can be true of a 3-D volume of real numbers."""
    # The first number is the length of the header, in either byte order.
    raw = stream.read(348)
    kind, order = _KINDS.get(raw[:4], (None, ""))
    raw += stream.read(192) if kind is nib.Nifti2Header else b""
    if kind is None or len(raw) < kind.template_dtype.itemsize:
        raise _unreadable(path, _what_else(path) or "a file that does not begin like NIfTI")
    header = kind(raw, order, check=False)
    if not header["magic"].item().startswith((b"n+1", b"n+2")):
        raise _unreadable(path, "a header without NIfTI's mark, or one half of a pair of files (.hdr, .img)")
    _require_sound_numbers(path, header)
    shape = _shape(header)
    shown = "x".join(map(str, shape)) or "none"
    if not 1 <= header["dim"][0] <= 7 or min(shape) < 1 or not header["vox_offset"] >= len(raw):
        raise _unreadable(path, f"impossible dimensions ({shown})")
    wanted = int(header["vox_offset"]) + math.prod(shape) * header.get_data_dtype().itemsize
    size = path.stat().st_size
    if wanted > size * (MAX_COMPRESSION if _is_gzip(path) else 1):
        raise _unreadable(path, f"a header that promises {shown} voxels, {wanted} bytes, in a file of {size} bytes")
    if len(shape) < 3 or max(shape[3:], default=1) > 1:
        raise InputError(
            path,
            found=f"a {len(shape)}-D file ({shown})",
            expected="one 3-D volume",
            advice="Split it and keep the volume that is meant.",
            reason=Reason.NOT_3D,
        )
    return header


def _shape(header: nib.Nifti1Header) -> tuple[int, ...]:
    return tuple(int(n) for n in header["dim"][1 : 1 + max(0, min(7, int(header["dim"][0])))])


def _spatial_shape(header: nib.Nifti1Header) -> Shape:
    x, y, z = _shape(header)[:3]
    return x, y, z


def _find_affine(path: str | Path, header: nib.Nifti1Header) -> np.ndarray:
    """Return where the voxels lie, if the header says so without doubt."""
    shape = _spatial_shape(header)
    again = "Convert the scan from DICOM again."
    if header["qform_code"] <= 0 and header["sform_code"] <= 0:
        raise InputError(
            path,
            found="neither a qform nor an sform code: which side is left is not said",
            expected="a position in space",
            advice=f"{again} Where the position is known, set the codes (fslorient, nifti_tool).",
            reason=Reason.NO_ORIENTATION,
        )
    pixdim = np.asarray(header["pixdim"][1:4], float)
    if not np.isfinite(pixdim).all() or (pixdim == 0).any():
        found = "x".join(f"{n:g}" for n in pixdim)
        raise InputError(
            path,
            found=f"voxels of {found} mm (pixdim)",
            expected="three lengths in mm",
            advice=again,
            reason=Reason.BAD_SPACING,
        )
    # NIfTI: a qfac that is not given counts as 1.
    if header["pixdim"][0] not in (-1, 1):
        header["pixdim"][0] = 1
    try:
        affine = np.asarray(header.get_best_affine(), float)
    except Exception as err:  # a quaternion that turns nothing
        affine = np.full((4, 4), np.nan)
        again = f"{again} ({err})"
    axes = affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    if not np.isfinite(affine).all() or (spacing < 1e-6).any() or abs(np.linalg.det(axes / spacing)) < 1e-6:
        raise InputError(
            path,
            found="an affine without volume",
            expected="three axes of positive length in mm",
            advice=again,
            reason=Reason.BAD_AFFINE,
        )
    if spacing.min() < SPACING_MM[0] * 0.999 or spacing.max() > SPACING_MM[1] * 1.001:
        raise InputError(
            path,
            found=f"voxels of {'x'.join(f'{n:.3g}' for n in spacing)} mm",
            expected=f"{SPACING_MM[0]:g} to {SPACING_MM[1]:g} mm along every axis",
            advice="Is the header in metres or micrometres? " + again,
            reason=Reason.BAD_SPACING,
        )
    if min(shape) < MIN_SLICES:
        raise InputError(
            path,
            found=f"{'x'.join(map(str, shape))} voxels",
            expected=f"a volume of at least {MIN_SLICES} slices",
            advice="Convert all slices of the series into one file.",
            reason=Reason.TOO_FEW_SLICES,
        )
    _require_one_place(path, header, shape, axes / spacing)
    return affine


def _require_one_place(path: str | Path, header: nib.Nifti1Header, shape: Shape, unit: np.ndarray) -> None:
    """Refuse sheared grids and headers whose qform and sform point to different places."""
    shear = np.abs(unit.T @ unit - np.eye(3)).max()
    if shear > MAX_SHEAR:
        raise InputError(
            path,
            found=f"array axes that are not perpendicular (cosine {shear:.3f})",
            expected="a grid without shear",
            advice="Convert the scan again, or resample it onto a rectangular grid.",
            reason=Reason.SHEARED,
        )
    if header["qform_code"] > 0 and header["sform_code"] > 0:
        corner = np.append(np.array(shape) - 1, 1)
        try:
            apart = np.abs(header.get_qform() @ corner - header.get_sform() @ corner).max()
        except Exception:  # as above
            apart = np.inf
        if not apart <= MAX_FORM_DISAGREEMENT_MM:
            raise InputError(
                path,
                found=f"qform and sform that disagree by {apart:.1f} mm",
                expected="one position in space",
                advice="Find out which is right and set both to it (nifti_tool or fslorient).",
                reason=Reason.AMBIGUOUS_AFFINE,
            )


def _require_sound_numbers(path: Path, header: nib.Nifti1Header) -> None:
    """Refuse voxels that are not one real number each."""
    try:
        dtype = header.get_data_dtype()
    except Exception:  # a code that nibabel does not know
        raise InputError(
            path,
            found=f"voxels of an unknown kind (datatype {int(header['datatype'])})",
            expected="one real number per voxel",
            advice="Convert the scan from DICOM again.",
            reason=Reason.BAD_DATATYPE,
        ) from None
    if dtype.kind not in "iufb" or not dtype.itemsize:
        kind = "colours (RGB)" if dtype.names else "complex numbers" if dtype.kind == "c" else f"voxels of {dtype}"
        raise InputError(
            path,
            found=kind,
            expected="one real number per voxel",
            advice="Export the magnitude image, not a picture of it, a phase or raw data.",
            reason=Reason.BAD_DATATYPE,
        )
    if int(header["bitpix"]) not in (0, dtype.itemsize * 8):
        raise InputError(
            path,
            found=f"voxels of {dtype} that take {int(header['bitpix'])} bits",
            expected="a datatype and a size that agree",
            advice="Convert the scan from DICOM again.",
            reason=Reason.BAD_DATATYPE,
        )


def _what_else(path: Path) -> str:
    """Say what a file is that is no NIfTI, where that is known."""
    if path.is_symlink() and not path.exists():
        return f"a link to a file that is not there ({path.readlink()}); with DataLad: datalad get"
    if path.is_dir():
        return "a folder"
    if path.exists() and not path.is_file():
        return "a pipe or a device"
    try:
        with path.open("rb") as stream:
            start = stream.read(200)
    except OSError:
        return ""
    if not start:
        return "an empty file"
    # git-annex and git-lfs leave a line of text in the place of content that has not been fetched.
    if b"annex/objects" in start or start.startswith(b"version https://git-lfs"):
        return "the address of a file that has not been fetched (datalad get, git lfs pull)"
    if start[:2] == b"\x1f\x8b" and not _is_gzip(path):
        return "a compressed file; its name must end in .nii.gz"
    if _is_gzip(path) and start[:2] != b"\x1f\x8b":
        return "a file that is not compressed although its name ends in .gz"
    return ""


def _unreadable(path: str | Path, found: str) -> InputError:
    return InputError(
        path,
        found=found,
        expected="a whole NIfTI file",
        advice="Check the path and that the file was copied whole.",
        reason=Reason.UNREADABLE,
    )


def _is_gzip(path: str | Path) -> bool:
    return Path(path).suffix.lower() == ".gz"


def _write(path: str | Path, data: np.ndarray, affine: np.ndarray) -> None:
    img = nib.Nifti1Image(data, affine)
    img.set_qform(affine, 1)
    img.set_sform(affine, 1)
    img.header.set_xyzt_units("mm")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    nib.save(img, path)
