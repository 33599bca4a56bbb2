"""Where the voxels of a series are: the only place that knows of LPS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from pydicom.dataset import Dataset

from mettrail.errors import InputError
from mettrail.images import Grid

# Points of LPS+ mm (DICOM) to points of RAS+ mm (ours), and back.
_TURN = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_headers(files: Sequence[Path]) -> list[Dataset]:
    """Read the images of a series without their pixels."""
    return [pydicom.dcmread(path, stop_before_pixels=True) for path in files]


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
        Slices that are not parallel, or not at one distance.
    """
    first, geometry = headers[0], None
    if len(headers) == 1 and first.get("PerFrameFunctionalGroupsSequence"):
        geometry = hd.Image.from_dataset(first, copy=False).get_volume_geometry()
    elif len(headers) > 1:
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
                frame_of_reference_uid=first.FrameOfReferenceUID,
            )
    if geometry is None:
        raise InputError(
            path,
            found="slices that are not one volume: not parallel, not at one distance, or one place twice",
            expected="the series that the scan was converted from",
            advice="Bring back the files as they were when the dataset was made.",
        )
    return geometry


def grid_of(geometry: hd.VolumeGeometry) -> Grid:
    """Return the grid of a geometry in RAS+ mm; axes slice, row, column."""
    slices, rows, columns = geometry.spatial_shape
    return Grid((slices, rows, columns), _TURN @ geometry.affine)
