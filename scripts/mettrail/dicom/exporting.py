"""From results to DICOM: a segmentation and a report for each session, of the series that its scan was made from."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pydicom.dataset import Dataset

from mettrail import images, jobs, schema, sidecars
from mettrail.dicom.geometry import find_geometry, grid_of, has_same_voxels, read_headers
from mettrail.dicom.measurements import make_report
from mettrail.dicom.segmentation import Lesion, make_segmentation, make_uid
from mettrail.dicom.series import Series, read_series
from mettrail.dicom.table import YES, Row, path_of, place_of_table, read_rows, require_empty
from mettrail.errors import InputError

RAW = "bids:raw:"


@dataclass(frozen=True)
class _Session:
    """A session of the results: its label map, its row in the table of series, and that series."""

    sub: str
    ses: str
    labels: Path
    row: Row
    series: Series


def export_dicom(out: Path, folder: Path, dest: Path, *, table: Path | None = None) -> list[Path]:
    """Write a DICOM segmentation and a measurement report for each session that has a lesion.

    Parameters
    ----------
    out : Path
        Results of a run.
    folder : Path
        The DICOM files that the dataset was made from.
    dest : Path
        Folder for what is made; not there yet, or empty.
    table : Path, optional
        The table of series of `importing.import_dicom`; beside the dataset of the run where it is not named.

    Returns
    -------
    list of Path
        ``sub-X_ses-Y_seg.dcm`` and ``sub-X_ses-Y_sr.dcm``.

    Raises
    ------
    InputError
        No results, no table, a session whose series the table or the folder does not have, a series that is not the
        one the scan was made from. Nothing is written then.
    """
    dest = dest.resolve()
    require_empty(dest)
    sizes = _read_sizes(out)
    label_maps = _find_label_maps(out)
    rows = _read_key(out, table)
    found = {series.uid: series for series in read_series(folder)}
    sessions = [_find_series(path, rows, found, folder) for path in label_maps]
    # The first of a patient's IDs, should hospitals have given several: a lesion has one UID for life.
    patients: dict[str, str] = {}
    for row in sorted(rows.values(), key=lambda row: row["study_date"]):
        patients.setdefault(row["participant_id"], row["patient_id"])
    dest.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place and then renamed: part of a patient's sessions never counts.
    with tempfile.TemporaryDirectory(prefix=f".{dest.name}.", dir=dest.parent) as temporary:
        made = Path(temporary, "made")
        made.mkdir()
        for session in sessions:
            _export_session(session, sizes, patients[session.sub], made)
        made.replace(dest)
    return sorted(dest.iterdir())


def _read_sizes(out: Path) -> pd.DataFrame:
    path = out / "tables" / "lesions.csv"
    if not path.exists():
        raise InputError(
            path, found="no such file", expected="the results of a run", advice="mettrail run BIDS OUT, then name OUT."
        )
    return schema.read_table(path, "lesions")


def _find_label_maps(out: Path) -> list[Path]:
    paths = []
    for path in sorted(out.glob("sub-*/ses-*/anat/*_desc-lesions_dseg.nii.gz")):
        sub, ses = path.parts[-4:-2]
        # A session that failed has a file that says so.
        if path.name == f"{sub}_{ses}_desc-lesions_dseg.nii.gz" and jobs.explain(path) is None:
            paths.append(path)
    return paths


def _read_key(out: Path, table: Path | None) -> dict[str, Row]:
    """Read the table of series: path of the scan in the dataset to its row."""
    if table is None:
        links = sidecars.describe_source(out).get("DatasetLinks") or {}
        if "raw" not in links:
            raise InputError(
                out / "dataset_description.json",
                found="no link to the dataset",
                expected="DatasetLinks: raw",
                advice="Name the table of series: --table FILE",
            )
        table = place_of_table(out / links["raw"])
    if not table.exists():
        raise InputError(
            table,
            found="no such file",
            expected="the table of series that mettrail import-dicom has written",
            advice="Name it: --table FILE",
        )
    return {path_of(row): row for row in read_rows(table) if row["use"] == YES}


def _find_series(path: Path, rows: Mapping[str, Row], found: Mapping[str, Series], folder: Path) -> _Session:
    sub, ses = path.parts[-4:-2]
    space = str(sidecars.read_json(path.with_name(path.name.replace(".nii.gz", ".json"))).get("SpatialReference"))
    row = rows.get(space.removeprefix(RAW))
    if row is None:
        raise InputError(
            path,
            found=f"the scan {space}, of which the table of series has no line",
            expected="the series that it was made from",
            advice="Name the table that was written when this dataset was made: --table FILE",
        )
    series = found.get(row["series_uid"])
    if series is None or str(series.images) != row["images"]:
        raise InputError(
            folder,
            found=f"{series.images if series else 'no'} images of the series of {space.removeprefix(RAW)}",
            expected=f"all {row['images']} that it was made from",
            advice=f"Bring back series {row['series_number']} {row['series_description']!r} of {row['study_date']}.",
        )
    return _Session(sub, ses, path, row, series)


def _export_session(session: _Session, sizes: pd.DataFrame, patient: str, dest: Path) -> None:
    name = f"{session.sub}_{session.ses}"
    of_session = sizes[(sizes["participant_id"] == session.sub) & (sizes["session_id"] == session.ses)]
    lesions = list(_list_lesions(session, of_session, patient))
    if not lesions:
        print(f"{name}: no lesion; nothing is written")
        return
    headers = read_headers(session.series.files)
    _require_frame_of_reference(headers[0], session.series.files[0])
    geometry = find_geometry(headers, session.series.files[0])
    labels = images.read_labels(session.labels)
    placed = images.resample(labels, grid_of(geometry), order=0).data
    lost = [lesion.track_id for lesion in lesions if not (placed == lesion.label).any()]
    if lost:
        raise InputError(
            session.labels,
            found=f"{', '.join(lost)} outside of series {session.series.number}",
            expected="the series that the scan was made from",
            advice="Name the table that was written when this dataset was made: --table FILE",
        )
    segmentation = make_segmentation(headers, geometry, placed, lesions)
    segmentation.save_as(dest / f"{name}_seg.dcm")
    make_report(headers, segmentation, lesions).save_as(dest / f"{name}_sr.dcm")
    same = has_same_voxels(labels.grid, grid_of(geometry))
    print(f"{name}: {len(lesions)} lesions" + ("" if same else "; their voxels are resampled to those of the series"))


def _require_frame_of_reference(header: Dataset, path: Path) -> None:
    if not header.get("FrameOfReferenceUID"):
        raise InputError(
            path,
            found="no FrameOfReferenceUID",
            expected="the space that the series is in: a segmentation has to name it",
            advice="Give the original series, not one from which UIDs were removed.",
        )


def _list_lesions(session: _Session, sizes: pd.DataFrame, patient: str) -> Iterable[Lesion]:
    """Give the lesions of the label map with their sizes; those that a reader has excluded are none."""
    names = schema.read_tsv(session.labels.with_name(session.labels.name.replace(".nii.gz", ".tsv")), text=["name"])
    rows = {row["track_id"]: row for row in sizes.to_dict("records")}
    for label, track in zip(names["index"], names["name"]):
        row = rows.get(track)
        if row is None:
            raise InputError(
                session.labels,
                found=f"{track}, of which tables/lesions.csv has no row at {session.ses}",
                expected="label maps and tables of one run",
                advice="Type the command of the run again: it completes the tables.",
            )
        if row["role"] == "excluded":
            continue
        yield Lesion(
            label=int(label),
            track_id=track,
            uid=make_uid(patient, track),
            volume_mm3=float(row["vol_wl_mm3"]),
            diameter_mm=float(row["ld_mm"]),
            is_manual=row["detected_by"] == "manual",
            is_candidate=row["certainty"] == "candidate",
        )
