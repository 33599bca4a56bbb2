"""Sizes of lesions as a DICOM structured report (TID 1500)."""

from __future__ import annotations

from collections.abc import Sequence

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from mettrail import __version__
from mettrail.dicom.segmentation import MAKER, Lesion, make_uid, series_number


def make_report(
    images: Sequence[Dataset], segmentation: hd.seg.Segmentation, lesions: Sequence[Lesion]
) -> hd.sr.Comprehensive3DSR:
    """Make the report of one session: volume and longest diameter of each lesion.

    Parameters
    ----------
    images : sequence of Dataset
        The series that the segmentation is of.
    segmentation : Segmentation
        Of `segmentation.make_segmentation`.
    lesions : sequence of Lesion
        Its segments, in order.
    """
    observer = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=make_uid(MAKER), name=MAKER, model_name=MAKER, serial_number=__version__
        ),
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.cid100.MRIUnspecifiedBodyRegion,
        imaging_measurements=[
            _measure(segmentation, images[0].SeriesInstanceUID, number, lesion)
            for number, lesion in enumerate(lesions, start=1)
        ],
    )
    return hd.sr.Comprehensive3DSR(
        evidence=[*images, segmentation],
        content=content[0],
        series_instance_uid=hd.UID(),
        series_number=series_number(images[0], 2),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MAKER,
        is_complete=True,
        # Nobody has looked at it.
        is_verified=False,
        series_description="Sizes of brain metastases (mettrail)",
    )


def _measure(
    segmentation: hd.seg.Segmentation, series_uid: str, number: int, lesion: Lesion
) -> hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    sizes = (
        (codes.SCT.Volume, lesion.volume_mm3, codes.UCUM.CubicMillimeter),
        # On an axial slice, as RANO-BM has it: the long axis, not the largest diameter in space.
        (codes.SCT.LongAxis, lesion.diameter_mm, codes.UCUM.Millimeter),
    )
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=lesion.uid, identifier=lesion.track_id),
        referenced_segment=hd.sr.ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=number,
            source_series=hd.sr.SourceSeriesForSegmentation(series_uid),
        ),
        finding_type=codes.SCT.NeoplasmSecondary,
        finding_category=codes.SCT.MorphologicallyAbnormalStructure,
        finding_sites=[hd.sr.FindingSite(anatomic_location=codes.SCT.Brain)],
        algorithm_id=hd.sr.AlgorithmIdentification(name=MAKER, version=__version__),
        measurements=[hd.sr.Measurement(name=name, value=value, unit=unit) for name, value, unit in sizes],
    )
