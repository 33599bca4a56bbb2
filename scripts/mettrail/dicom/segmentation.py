"""Lesions as a DICOM segmentation, one segment per lesion."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID

from mettrail import __version__
from mettrail.colours import track_colour

MAKER = "mettrail"
# UUIDs of ours are made in this one, which is made of the project's name.
_SPACE = uuid.uuid5(uuid.NAMESPACE_DNS, MAKER)


@dataclass(frozen=True)
class Lesion:
    """A lesion at one session, as DICOM is told of it.

    Parameters
    ----------
    label : int
        In the label map.
    track_id : str
        Persistent lesion ID, also its Tracking ID.
    uid : UID
        Its Tracking UID, the same at all sessions.
    volume_mm3, diameter_mm : float
        Volume, and longest diameter on an axial slice.
    is_manual : bool
        Whether a person drew it.
    is_candidate : bool
        Whether it is a suspicion only.
    """

    label: int
    track_id: str
    uid: UID
    volume_mm3: float
    diameter_mm: float
    is_manual: bool
    is_candidate: bool


def make_uid(*names: str) -> UID:
    """Return the UID that these names always have: a UUID made of them (DICOM PS3.5, B.2).

    Examples
    --------
    >>> make_uid("4711", "L001")
    '2.25.157127037665009676909071876853565060375'
    """
    # Texts of DICOM hold no backslash: `AB`, `C` and `A`, `BC` are not the same.
    name = "\\".join(names)
    return UID(f"2.25.{uuid.uuid5(_SPACE, name).int}")


def make_segmentation(
    images: Sequence[Dataset], geometry: hd.VolumeGeometry, labels: np.ndarray, lesions: Sequence[Lesion]
) -> hd.seg.Segmentation:
    """Make the segmentation of one session.

    Parameters
    ----------
    images : sequence of Dataset
        The series it is of; pixels are not needed.
    geometry : VolumeGeometry
        Of this series.
    labels : (slices, rows, columns) int array
        The label map on this geometry.
    lesions : sequence of Lesion
        The segments, in order; at least one. Other labels are background.
    """
    numbers = np.zeros(int(labels.max(initial=0)) + 1, np.uint8 if len(lesions) < 256 else np.uint16)
    numbers[[lesion.label for lesion in lesions]] = np.arange(1, len(lesions) + 1)
    made = hd.seg.Segmentation(
        source_images=images,
        pixel_array=geometry.with_array(numbers[labels]),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_describe(number, lesion) for number, lesion in enumerate(lesions, start=1)],
        series_instance_uid=hd.UID(),
        series_number=series_number(images[0], 1),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=__version__,
        device_serial_number=__version__,
        content_label="LESIONS",
        content_description="Brain metastases by persistent lesion ID",
        series_description="Brain metastases (mettrail)",
    )
    for item, lesion in zip(made.SegmentSequence, lesions):
        if lesion.is_candidate:
            item.SegmentDescription = "Candidate: a suspicion only"
    return made


def series_number(image: Dataset, nth: int) -> int:
    """Return the number of the nth series that is derived from an image's: far above those of a scanner."""
    return min(int(image.get("SeriesNumber") or 0), 9999) * 100 + 90 + nth


def _describe(number: int, lesion: Lesion) -> hd.seg.SegmentDescription:
    kinds = hd.seg.SegmentAlgorithmTypeValues
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=lesion.track_id,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.NeoplasmSecondary,
        algorithm_type=kinds.MANUAL if lesion.is_manual else kinds.AUTOMATIC,
        # DICOM has none for what a person drew.
        algorithm_identification=None
        if lesion.is_manual
        else hd.AlgorithmIdentificationSequence(
            name=MAKER, family=codes.DCM.ArtificialIntelligence, version=__version__, source=MAKER
        ),
        tracking_id=lesion.track_id,
        tracking_uid=lesion.uid,
        anatomic_regions=[codes.SCT.Brain],
        display_color=hd.color.CIELabColor.from_rgb(*bytes.fromhex(track_colour(lesion.track_id).removeprefix("#"))),
    )
