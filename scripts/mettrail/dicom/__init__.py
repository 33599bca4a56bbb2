"""DICOM, both ways: series become a BIDS dataset, and lesions become segmentations and reports of those series.

Needs the extra ``dicom``. World coordinates of DICOM are LPS+ mm; they are turned into ours (RAS+) in `geometry` alone.
"""

from mettrail.dicom.exporting import export_dicom
from mettrail.dicom.importing import import_dicom

__all__ = ["export_dicom", "import_dicom"]
