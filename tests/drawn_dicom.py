"""DICOM files with a geometry in which no mistake can hide, written attribute by attribute from the standard."""

from dataclasses import dataclass, field

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4.1"
NAME, BORN = "Doe^Jane", "19610203"


@dataclass(frozen=True)
class Geometry:
    """Where pixels are, in the words of PS3.3, C.7.6.2: LPS+ mm, and no two numbers alike.

    Parameters
    ----------
    position : ImagePositionPatient of the first slice: the centre of its first pixel.
    turn_deg : turns about x, y and z of axial slices.
    rows_mm, columns_mm : PixelSpacing: between rows (down a column), between columns (along a row).
    thickness_mm, gap_mm : SliceThickness, and what is between two slices.
    shape : slices, rows, columns.
    """

    position: tuple[float, float, float] = (-31.5, -42.25, 17.75)
    turn_deg: tuple[float, float, float] = (11.0, -17.0, 23.0)
    rows_mm: float = 1.25
    columns_mm: float = 0.75
    thickness_mm: float = 2.0
    gap_mm: float = 0.5
    shape: tuple[int, int, int] = (9, 14, 22)

    @property
    def axes(self):
        """Unit vectors along a row (of growing columns), down a column (of growing rows), and from slice to slice."""
        a, b, c = np.deg2rad(self.turn_deg)
        x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        along, down, _ = (z @ y @ x).T
        return along, down, np.cross(along, down)

    @property
    def distance_mm(self):
        """Distance of the centres of slices."""
        return self.thickness_mm + self.gap_mm

    def slice_position(self, n):
        return np.array(self.position) + self.axes[2] * self.distance_mm * n

    def points(self, indices):
        """LPS+ mm of (n, 3) indices slice, row, column, by equation C.7.6.2.1-1."""
        along, down, _ = self.axes
        return np.array(
            [
                self.slice_position(n) + along * self.columns_mm * column + down * self.rows_mm * row
                for n, row, column in np.atleast_2d(indices)
            ]
        )


@dataclass(frozen=True)
class Drawn:
    """A series to be written: whose, when, what and where."""

    patient: str = "HOSP-4711"
    date: str = "20210315"
    number: int = 5
    description: str = "t1_mprage_sag"
    geometry: Geometry = field(default_factory=Geometry)
    tags: dict = field(default_factory=dict)
    study_uid: str = ""
    seed: int = 0

    @property
    def uid(self):
        return generate_uid(entropy_srcs=[self.patient, self.date, str(self.number), self.description])

    @property
    def voxels(self):
        """(slices, rows, columns) of brightness, no two alike."""
        shape = self.geometry.shape
        return np.random.default_rng(self.seed).permutation(np.prod(shape)).reshape(shape).astype(np.uint16)


def _common(drawn):
    image = Dataset()
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = NAME, drawn.patient, BORN, "F"
    image.StudyInstanceUID = drawn.study_uid or generate_uid(entropy_srcs=[drawn.patient, drawn.date])
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = drawn.date
    image.StudyTime = image.SeriesTime = image.AcquisitionTime = image.ContentTime = "101112"
    image.AccessionNumber, image.StudyID, image.InstitutionName = "ACC9", "ST1", "General Hospital"
    image.ReferringPhysicianName = "Roe^Richard"
    image.SeriesInstanceUID, image.SeriesNumber = drawn.uid, drawn.number
    image.SeriesDescription = image.ProtocolName = drawn.description
    image.FrameOfReferenceUID = generate_uid(entropy_srcs=[drawn.patient, drawn.date, "frame"])
    image.PositionReferenceIndicator = ""
    image.Modality, image.Manufacturer, image.PatientPosition = "MR", "SIEMENS", "HFS"
    image.DeviceSerialNumber, image.StationName = "SN77", "MRC1"
    image.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 0
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.Rows, image.Columns = drawn.geometry.shape[1:]
    return image


def _save(image, path, sop_class):
    image.SOPClassUID, image.SOPInstanceUID = sop_class, generate_uid()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = sop_class
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)
    return path


def draw_series(folder, drawn):
    """Write a classic series, a file for each slice; the order of file names is not that of slices."""
    geometry, paths = drawn.geometry, []
    along, down, _ = geometry.axes
    for n in range(geometry.shape[0]):
        image = _common(drawn)
        image.ScanningSequence, image.SequenceVariant, image.ScanOptions = "GR", "SP", ""
        image.MRAcquisitionType, image.EchoTime, image.RepetitionTime = "3D", 3.0, 8.0
        image.InstanceNumber = n + 1
        image.ImagePositionPatient = [f"{value:.9f}" for value in geometry.slice_position(n)]
        image.ImageOrientationPatient = [f"{value:.12f}" for value in (*along, *down)]
        image.PixelSpacing = [geometry.rows_mm, geometry.columns_mm]
        image.SliceThickness, image.SpacingBetweenSlices = geometry.thickness_mm, geometry.distance_mm
        image.PixelData = drawn.voxels[n].tobytes()
        for name, value in drawn.tags.items():
            if value is None:
                delattr(image, name)
            else:
                setattr(image, name, value)
        name = f"IM{(n * 7) % geometry.shape[0]:04d}"
        paths.append(_save(image, folder / f"{drawn.date}_{drawn.number}" / name, MR_IMAGE))
    return paths


def _item(**values):
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def draw_enhanced(folder, drawn):
    """Write the same as one enhanced multi-frame file."""
    geometry = drawn.geometry
    along, down, _ = geometry.axes
    image = _common(drawn)
    image.InstanceNumber, image.NumberOfFrames = 1, geometry.shape[0]
    image.ContentQualification, image.MRAcquisitionType = "RESEARCH", "3D"
    shared = Dataset()
    shared.PixelMeasuresSequence = [
        _item(
            PixelSpacing=[geometry.rows_mm, geometry.columns_mm],
            SliceThickness=geometry.thickness_mm,
            SpacingBetweenSlices=geometry.distance_mm,
        )
    ]
    direction = [f"{value:.12f}" for value in (*along, *down)]
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=direction)]
    shared.MREchoSequence = [_item(EffectiveEchoTime=3.0)]
    shared.MRTimingAndRelatedParametersSequence = [_item(RepetitionTime=8.0, FlipAngle=9.0, EchoTrainLength=1)]
    image.SharedFunctionalGroupsSequence = [shared]
    organization = generate_uid()
    image.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=organization)]
    image.DimensionIndexSequence = [
        _item(
            DimensionOrganizationUID=organization, DimensionIndexPointer=0x00209057, FunctionalGroupPointer=0x00209111
        )
    ]
    frames = []
    for n in range(geometry.shape[0]):
        content = _item(
            StackID="1", InStackPositionNumber=n + 1, DimensionIndexValues=[n + 1], FrameAcquisitionNumber=1,
            FrameAcquisitionDateTime=f"{drawn.date}101112", FrameReferenceDateTime=f"{drawn.date}101112",
            FrameAcquisitionDuration=1.0,
        )  # fmt: skip
        position = [f"{value:.9f}" for value in geometry.slice_position(n)]
        frames.append(
            _item(FrameContentSequence=[content], PlanePositionSequence=[_item(ImagePositionPatient=position)])
        )
    image.PerFrameFunctionalGroupsSequence = frames
    for name, value in drawn.tags.items():
        setattr(image, name, value)
    image.PixelData = drawn.voxels.tobytes()
    return [_save(image, folder / f"{drawn.date}_{drawn.number}" / "IM0001", ENHANCED_MR_IMAGE)]
