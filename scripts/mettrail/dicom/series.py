"""The series of images in a folder of DICOM, by what their headers say."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import MediaStorageDirectoryStorage

from mettrail.errors import InputError

# Where an enhanced multi-frame file has what a classic file has at its top: for all frames alike, or frame by frame.
_FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
# Without these nobody knows where the voxels of an image are.
PLACE = ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient")
_IDENTITY = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_NUMBERS = (
    "EchoTime", "EffectiveEchoTime", "RepetitionTime", "InversionTime", "InversionTimes", "SliceThickness",
    "SpacingBetweenSlices", "ContrastBolusVolume", "NumberOfFrames",
)  # fmt: skip
_READ = [
    *_FUNCTIONAL_GROUPS, *PLACE, *_IDENTITY, *_NUMBERS, "Modality", "ImageType", "Rows", "StudyDate", "SeriesDate",
    "AcquisitionDate", "ContentDate", "SeriesNumber", "SeriesDescription", "ProtocolName", "ContrastBolusAgent",
    "ContrastBolusAgentSequence", "ContrastBolusStartTime",
]  # fmt: skip


@dataclass(frozen=True)
class Series:
    """One series of images.

    Parameters
    ----------
    uid, patient_id, study_uid : str
        SeriesInstanceUID, PatientID and StudyInstanceUID.
    date : str
        ``YYYYMMDD``, of the study where it has one; empty where nothing tells the day.
    number, description : str
        SeriesNumber; SeriesDescription, or ProtocolName where there is none.
    files : tuple of Path
        In the order of their names.
    images : int
        Slices: files, or the frames of multi-frame files.
    fault : str
        Why the voxels have no place in the world, with the name of the file; empty where they have one.
    header : Dataset
        Of the first file.
    """

    uid: str
    patient_id: str
    study_uid: str
    date: str
    number: str
    description: str
    files: tuple[Path, ...]
    images: int
    fault: str
    header: Dataset

    @property
    def is_multiframe(self) -> bool:
        """Whether it is of enhanced files, which hold many slices each."""
        return bool(self.header.get("PerFrameFunctionalGroupsSequence"))

    @property
    def slice_distance_mm(self) -> float | None:
        """Distance of slices, mm, by the header: of their centres, or their thickness where that is not said."""
        return find_number(self.header, "SpacingBetweenSlices") or find_number(self.header, "SliceThickness")


def read_series(folder: Path) -> list[Series]:
    """Find the series of images below a folder; files that are not DICOM, or no images, are passed over.

    Raises
    ------
    InputError
        No such folder, no DICOM images in it, or one that does not say whose it is.
    """
    if not folder.is_dir():
        raise InputError(
            folder, found="no folder", expected="a folder of DICOM files", advice="Correct the name of the folder."
        )
    found: dict[str, dict[str, tuple[Path, Dataset]]] = {}
    seen = 0
    for path, header in _read_headers(folder):
        seen += 1
        _require_identity(path, header)
        # A copy of a file is the same image again.
        found.setdefault(str(header.SeriesInstanceUID), {}).setdefault(str(header.SOPInstanceUID), (path, header))
    if not seen:
        raise InputError(
            folder,
            found="no DICOM image",
            expected="DICOM files, in this folder or in folders below it",
            advice="Name the folder that the images were exported to; unpack archives first.",
        )
    listed = [_describe(list(images.values())) for images in found.values()]
    return sorted(listed, key=lambda each: (each.patient_id, each.date, each.number.zfill(6), each.uid))


def find_value(header: Dataset, keyword: str) -> Any:
    """Return an attribute, from the functional groups where an enhanced file has it there; None where there is none."""
    if header.get(keyword) not in (None, ""):
        return header.get(keyword)
    for name in _FUNCTIONAL_GROUPS:
        for group in list(header.get(name) or [])[:1]:
            for macro in group:
                if macro.VR == "SQ" and macro.value and macro.value[0].get(keyword) not in (None, ""):
                    return macro.value[0].get(keyword)
    return None


def find_number(header: Dataset, *keywords: str) -> float | None:
    """Return the first of these attributes that there is, as a number."""
    for keyword in keywords:
        value = find_value(header, keyword)
        if value is not None:
            # Inversion times of an enhanced file are a list.
            return float(value[0] if isinstance(value, pydicom.multival.MultiValue) else value)
    return None


def _read_headers(folder: Path) -> Iterator[tuple[Path, Dataset]]:
    for at, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(at, name)
            try:
                header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_READ)
                _decode(header)
            except InvalidDicomError:
                continue
            except Exception as err:  # pydicom fails on damaged files in many ways
                raise InputError(
                    path,
                    found=f"what cannot be read as DICOM ({err})",
                    expected="a whole file",
                    advice="Export it again, or take it away.",
                ) from err
            is_directory = header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage
            # Reports and presentation states have no pixels; segmentations have, and are no scans.
            if not is_directory and header.get("Rows") and header.get("Modality") != "SEG":
                yield path, header


def _decode(header: Dataset) -> None:
    """Decode all values, which pydicom does when they are first asked for: what is damaged is known at once."""
    deque(header.file_meta.iterall(), maxlen=0)
    deque(header.iterall(), maxlen=0)
    for keyword in _NUMBERS:
        find_number(header, keyword)


def _require_identity(path: Path, header: Dataset) -> None:
    missing = [name for name in _IDENTITY if not header.get(name)]
    if missing:
        raise InputError(
            path,
            found=f"no {' and no '.join(missing)}",
            expected="what says whose image it is, and of which study and series",
            advice="Export the study again, give the patient an ID, or take the file away.",
        )


def _describe(images: list[tuple[Path, Dataset]]) -> Series:
    header = images[0][1]
    dates = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
    faults = (
        f"no {keyword} in {path.name}" for path, each in images for keyword in PLACE if not find_value(each, keyword)
    )
    return Series(
        uid=str(header.SeriesInstanceUID),
        patient_id=str(header.PatientID),
        study_uid=str(header.StudyInstanceUID),
        date=next((str(header.get(name)) for name in dates if _is_date(str(header.get(name) or ""))), ""),
        number=str(header.get("SeriesNumber") or ""),
        description=" ".join(str(header.get("SeriesDescription") or header.get("ProtocolName") or "").split()),
        files=tuple(path for path, _ in images),
        images=sum(int(each.get("NumberOfFrames") or 1) for _, each in images),
        fault=next(faults, ""),
        header=header,
    )


def _is_date(text: str) -> bool:
    try:
        return len(text) == 8 and bool(datetime.strptime(text, "%Y%m%d"))
    except ValueError:
        return False
