"""The only place that reads or writes NIfTI, and the checks that go with it.

World coordinates are RAS+ millimetres throughout, arrays are (X, Y, Z) in the file's own axis order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from mettrail.errors import GridMismatchError, InputError

ENHANCING, EDEMA, NECROSIS = 1, 2, 3
TISSUE_LABELS = (0, ENHANCING, EDEMA, NECROSIS)
# Affines of one scan written by two programs differ in the last digits of float32.
AFFINE_TOLERANCE_MM = 1e-3
# A distance of just as much as asked for is no further, whatever the last digit of the affine.
_ROUNDING_MM = 1e-6
# Angles between array axes and their sheared counterparts that resampling would silently distort.
MAX_SHEAR = 1e-3
MAX_FORM_DISAGREEMENT_MM = 1.0


@dataclass(frozen=True)
class Grid:
    """A voxel grid: (X, Y, Z) shape and 4x4 affine to RAS+ mm."""

    shape: tuple[int, int, int]
    affine: np.ndarray

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along each array axis, mm."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel, mm3: the determinant, right for oblique grids too."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def matches(self, other: Grid) -> bool:
        """Whether both grids are the same voxels at the same places."""
        if self.shape != other.shape:
            return False
        corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
        corners[:, :3] *= np.array(self.shape) - 1
        return bool(np.abs((self.affine - other.affine) @ corners.T).max() < AFFINE_TOLERANCE_MM)

    def crop(self, box: tuple[slice, slice, slice]) -> Grid:
        """Return the grid of ``array[box]``; slices with a start and a stop within the shape."""
        affine = self.affine.copy()
        affine[:3, 3] = (self.affine @ [*(s.start for s in box), 1])[:3]
        return Grid(tuple(s.stop - s.start for s in box), affine)

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


def read_image(path: str | Path) -> Image:
    """Read one 3-D scan as float32, refusing what no later stage could use.

    Raises
    ------
    InputError
        Not a readable NIfTI, not 3-D, not finite, all one value, sheared, or two affines that disagree.
    """
    img, affine = _open(path)
    data = np.asarray(img.dataobj, dtype=np.float32)
    if not np.isfinite(data).all():
        bad = int((~np.isfinite(data)).sum())
        raise InputError(
            path,
            found=f"{bad} voxels that are NaN or infinite",
            expected="finite numbers everywhere",
            advice="Export the scan again; if the NaNs are background, write 0 there.",
            reason="not_finite",
        )
    if data.min() == data.max():
        raise InputError(
            path,
            found=f"every voxel is {data.flat[0]:g}",
            expected="a scan with contrast",
            advice="Export the scan again or leave it out.",
            reason="empty_scan",
        )
    return Image(data, affine, str(path))


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
    img, affine = _open(path)
    raw = np.asanyarray(img.dataobj)
    data = np.rint(raw)
    if not np.isfinite(raw).all() or np.abs(raw - data).max(initial=0) > 1e-3 or data.min(initial=0) < 0:
        raise InputError(
            path,
            found="values that are not whole numbers from 0 up",
            expected="a label map",
            advice="Save the segmentation as labels, not as probabilities.",
            reason="bad_labels",
        )
    data = data.astype(np.uint8 if data.max(initial=0) < 256 else np.uint32)
    if allowed is not None:
        strange = sorted(set(np.unique(data).tolist()) - set(allowed))
        if strange:
            raise InputError(
                path,
                found=f"labels {strange}",
                expected=f"only {list(allowed)} (1 enhancing, 2 edema, 3 necrosis)",
                advice="Relabel the map; BraTS writes 1 and 3 the other way round.",
                reason="bad_labels",
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


def write_probabilities(path: str | Path, data: np.ndarray, affine: np.ndarray) -> None:
    """Write (X, Y, Z, classes) probabilities as bytes scaled by 1/255: a hundredth of the space, 0.2 % off at most."""
    img = nib.Nifti1Image(np.rint(np.clip(data, 0, 1) * 255).astype(np.uint8), affine)
    img.set_qform(affine, 1)
    img.set_sform(affine, 1)
    img.header.set_slope_inter(1 / 255, 0)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    nib.save(img, path)


def read_probabilities(path: str | Path) -> Image:
    """Read (X, Y, Z, classes) float32 probabilities."""
    img = nib.load(path)
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
                reason="grid_mismatch",
            )


def grow_mask(mask: Image, *, grow_mm: float) -> Image:
    """Add to a mask all that is no further from it than `grow_mm`: the one margin around brains.

    Parameters
    ----------
    mask : Image of bool
    grow_mm : float
        Euclidean, between the centres of voxels.

    Examples
    --------
    >>> point = Image(np.zeros((7, 7, 7), bool), np.diag([1.0, 1.0, 2.0, 1.0]))
    >>> point.data[3, 3, 3] = True
    >>> [int(grow_mask(point, grow_mm=d).data.sum()) for d in (0, 1, 1.5, 2)]
    [1, 5, 9, 15]
    """
    near = mask.data > 0
    if grow_mm > 0 and near.any():
        # Nothing further away than this can be reached.
        margin = np.ceil(grow_mm / np.array(mask.spacing_mm)).astype(int)
        found = ndimage.find_objects(near.astype(np.uint8))[0]
        box = tuple(slice(max(s.start - m, 0), s.stop + m) for s, m in zip(found, margin))
        near[box] = ndimage.distance_transform_edt(~near[box], sampling=mask.spacing_mm) <= grow_mm + _ROUNDING_MM
    return mask.like(near)


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
    return Grid(tuple(int(n) for n in new_shape), scaled)


def resample(image: Image, grid: Grid, *, order: int = 1, world: np.ndarray | None = None, fill: float = 0.0) -> Image:
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


def _open(path: str | Path):
    """Open a 3-D NIfTI and settle on one affine."""
    try:
        img = nib.load(path)
    except (OSError, nib.filebasedimages.ImageFileError, EOFError, ValueError) as err:
        raise InputError(
            path,
            found=f"no readable image ({err})",
            expected="a NIfTI file",
            advice="Check the path and that the file was copied whole.",
            reason="unreadable",
        ) from err
    if len(img.shape) != 3:
        shape = "x".join(map(str, img.shape))
        raise InputError(
            path,
            found=f"a {len(img.shape)}-D file ({shape})",
            expected="3-D",
            advice="Split it and keep the volume that is meant.",
            reason="not_3d",
        )
    affine = np.asarray(img.affine, float)
    _require_sound_affine(path, img, affine)
    return img, affine


def _require_sound_affine(path, img, affine: np.ndarray) -> None:
    """Refuse sheared grids and headers whose qform and sform point to different places."""
    axes = affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    if not np.isfinite(affine).all() or (spacing < 1e-6).any():
        raise InputError(
            path,
            found="an affine without volume",
            expected="three axes of positive length in mm",
            advice="Convert the scan from DICOM again.",
            reason="bad_affine",
        )
    unit = axes / spacing
    shear = np.abs(unit.T @ unit - np.eye(3)).max()
    if shear > MAX_SHEAR:
        raise InputError(
            path,
            found=f"array axes that are not perpendicular (cosine {shear:.3f})",
            expected="a grid without shear",
            advice="Convert the scan again, or resample it onto a rectangular grid.",
            reason="sheared",
        )
    header = img.header
    if hasattr(header, "get_qform") and header["qform_code"] > 0 and header["sform_code"] > 0:
        corner = np.append(np.array(img.shape) - 1, 1)
        apart = np.abs(header.get_qform() @ corner - header.get_sform() @ corner).max()
        if apart > MAX_FORM_DISAGREEMENT_MM:
            raise InputError(
                path,
                found=f"qform and sform that disagree by {apart:.1f} mm",
                expected="one position in space",
                advice="Find out which is right and set both to it (nifti_tool or fslorient).",
                reason="ambiguous_affine",
            )


def _write(path: str | Path, data: np.ndarray, affine: np.ndarray) -> None:
    img = nib.Nifti1Image(data, affine)
    img.set_qform(affine, 1)
    img.set_sform(affine, 1)
    img.header.set_xyzt_units("mm")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    nib.save(img, path)
