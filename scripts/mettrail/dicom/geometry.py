"""Where the voxels of a series are: the only place that knows of LPS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from pydicom.dataset import Dataset

from mettrail.errors import InputError
from mettrail.images import GRID_TOLERANCE_VOX, Grid

# Of the modules Patient and General Study (PS3.3, C.7.1.1 and C.7.2.1), which a segmentation takes over.
_MAY_BE_EMPTY = (
    "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "StudyID",
    "ReferringPhysicianName",
)  # fmt: skip
# What is the same in all slices of a volume.
_ALIKE = ("Rows", "Columns", "PixelSpacing", "FrameOfReferenceUID")
# Points of LPS+ mm (DICOM) to points of RAS+ mm (ours), and back.
_TURN = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_headers(files: Sequence[Path]) -> list[Dataset]:
    """Read the images of a series without their pixels.

    What the standard lets be empty and not absent (type 2) is empty where it is absent: anonymisation often deletes it.
    """
    headers: list[Dataset] = [pydicom.dcmread(path, stop_before_pixels=True) for path in files]
    for header in headers:
        for name in _MAY_BE_EMPTY:
            if name not in header:
                setattr(header, name, "")
    return headers


def find_geometry(headers: Sequence[Dataset], path: Path) -> hd.VolumeGeometry:
    """Return the geometry of a series, axes slice, row, column.

    Parameters
    ----------
    headers : sequence of Dataset
        Of `read_headers`.
    path : Path
        One of its files, for messages.

    Raises
    ------
    InputError
        Slices that are not parallel, of one size and at one distance.
    """
    first, geometry = headers[0], None
    if len(headers) == 1 and first.get("PerFrameFunctionalGroupsSequence"):
        geometry = hd.Image.from_dataset(first, copy=False).get_volume_geometry()
    elif _are_alike(headers):
        distance, order = hd.spatial.get_series_volume_positions(headers)
        if distance is not None and order is not None:
            geometry = hd.VolumeGeometry.from_attributes(
                image_position=headers[order.index(0)].ImagePositionPatient,
                image_orientation=first.ImageOrientationPatient,
                rows=first.Rows,
                columns=first.Columns,
                pixel_spacing=first.PixelSpacing,
                spacing_between_slices=distance,
                number_of_frames=len(headers),
                coordinate_system=hd.CoordinateSystemNames.PATIENT,
                frame_of_reference_uid=first.get("FrameOfReferenceUID"),
            )
    if geometry is None:
        raise InputError(
            path,
            found="a series that is not one volume: slices are missing, twice there, not parallel or not of one size",
            expected="parallel slices of one size at one distance",
            advice="Bring back the files that are missing, or leave the series out.",
        )
    return geometry


def _are_alike(headers: Sequence[Dataset]) -> bool:
    placed = all(header.get("ImagePositionPatient") and header.get("ImageOrientationPatient") for header in headers)
    return placed and all(header.get(name) == headers[0].get(name) for header in headers for name in _ALIKE)


def grid_of(geometry: hd.VolumeGeometry) -> Grid:
    """Return the grid of a geometry in RAS+ mm; axes slice, row, column."""
    slices, rows, columns = geometry.spatial_shape
    return Grid((slices, rows, columns), _TURN @ geometry.affine)


def has_same_voxels(grid: Grid, other: Grid) -> bool:
    """Whether two grids are the same voxels at the same places, in whatever order and direction of the axes."""
    matrix = np.linalg.inv(grid.affine) @ other.affine
    turned = np.abs(matrix[:3, :3].round())
    if not (turned.sum(0) == 1).all() or not (turned.sum(1) == 1).all():
        return False
    shape = turned @ np.array(other.shape)
    first, last = (matrix @ [*corner, 1] for corner in ((0, 0, 0), np.array(other.shape) - 1))
    edges = np.sort([first[:3], last[:3]], axis=0) - [[0, 0, 0], shape - 1]
    return bool((shape == grid.shape).all() and np.abs(edges).max() < GRID_TOLERANCE_VOX)
