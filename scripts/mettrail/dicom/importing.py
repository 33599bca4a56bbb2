"""From a folder of DICOM to a BIDS dataset that says nothing of who the patients are."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import dcm2niix
import pandas as pd

from mettrail import __version__, images, schema, sidecars
from mettrail.dicom.geometry import find_geometry, grid_of, has_same_voxels, read_headers
from mettrail.dicom.series import Series, read_series
from mettrail.dicom.table import (
    ASK,
    YES,
    Row,
    path_of,
    place_of_table,
    plan_rows,
    read_patients,
    read_rows,
    require_empty,
    write_rows,
)
from mettrail.errors import InputError

# What dcm2niix says of a scan and is kept: how it was made. All else might lead to the patient, the day or the place.
KEPT = (
    "Modality", "Manufacturer", "ManufacturersModelName", "MagneticFieldStrength", "MRAcquisitionType",
    "ScanningSequence", "SequenceVariant", "ScanOptions", "EchoTime", "RepetitionTime", "InversionTime", "FlipAngle",
    "SliceThickness", "SpacingBetweenSlices", "PixelBandwidth", "EchoTrainLength", "NumberOfAverages",
    "ConversionSoftware", "ConversionSoftwareVersion",
)  # fmt: skip
README = """\
Brain MRI over time, converted from DICOM by mettrail. Days are counted from the first session of each patient.
"""


def import_dicom(folder: Path, bids: Path, *, table: Path | None = None, patients: Path | None = None) -> bool:
    """Decide what each series is, or make a dataset of what a person has left of the decisions.

    The first call writes the table of series. The next one reads it, as it was corrected, and converts. Where series
    have come that the table does not have, they are added to it, and it is to be looked at once more.

    Parameters
    ----------
    folder : Path
        DICOM files, in folders of any depth.
    bids : Path
        The dataset; not there yet, or empty.
    table : Path, optional
        The table of series: beside the dataset where it is not named.
    patients : Path, optional
        TSV of ``patient_id`` and ``participant_id``; without it patients are numbered.

    Returns
    -------
    bool
        Whether the dataset was made; False where the table was written.

    Raises
    ------
    InputError
        No images, a dataset that holds something, lines of the table that a person has to decide, a series that gives
        no single volume.
    """
    bids = bids.resolve()
    table = place_of_table(bids) if table is None else table
    if table.resolve().is_relative_to(bids):
        raise InputError(
            table,
            found="a table of series within the dataset",
            expected="a place outside: it names patients",
            advice="Name another file: --table FILE",
        )
    require_empty(bids)
    found = {each.uid: each for each in read_series(folder)}
    known = read_rows(table) if table.exists() else []
    rows = plan_rows(found.values(), known, read_patients(patients) if patients else None)
    if len(rows) > len(known):
        write_rows(rows, table)
    _require_decided(rows, table)
    if len(rows) > len(known):
        _describe_plan(rows, table)
        return False
    _convert([row for row in rows if row["use"] == YES], found, bids, table)
    return True


def _require_decided(rows: list[Row], table: Path) -> None:
    open_ = [row for row in rows if row["use"] == ASK]
    if open_:
        listed = "; ".join(
            f"{row['participant_id']} {row['session_id']} series {row['series_number']} "
            f"{row['series_description']!r}: {row['why']}"
            for row in open_
        )
        raise InputError(
            table,
            found=f"{len(open_)} series to decide: {listed}",
            expected="use = yes or use = no",
            advice="Write yes or no for each of them, then type the same command again.",
        )
    if not any(row["use"] == YES for row in rows):
        raise InputError(
            table,
            found="no series that is used",
            expected="one at least",
            advice="Read the column why. Write use = yes and a role for those that are meant.",
        )


def _describe_plan(rows: list[Row], table: Path) -> None:
    used = [row for row in rows if row["use"] == YES]
    print(f"{table}: {len(rows)} series, {len(used)} of them to be used:")
    for row in used:
        print(f"  {path_of(row)}: series {row['series_number']} {row['series_description']!r}: {row['why']}")
    print("It names patients: keep it apart from the dataset. Correct it, then type the same command again.")


def _convert(rows: list[Row], found: dict[str, Series], bids: Path, table: Path) -> None:
    lost = [row for row in rows if row["series_uid"] not in found]
    if lost:
        raise InputError(
            table,
            found=f"{len(lost)} series that are used and not in the folder, e.g. that of {path_of(lost[0])}",
            expected="all of them",
            advice="Bring their files back, or write use = no.",
        )
    bids.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place and then renamed: half a dataset never counts.
    with tempfile.TemporaryDirectory(prefix=f".{bids.name}.", dir=bids.parent) as temporary:
        made = Path(temporary, "bids")
        for row in rows:
            _convert_series(found[row["series_uid"]], made / path_of(row))
        _describe_dataset(rows, made)
        made.replace(bids)
    people = {row["participant_id"] for row in rows}
    sessions = {(row["participant_id"], row["session_id"]) for row in rows}
    print(f"{bids}: patients: {len(people)}, sessions: {len(sessions)}, scans: {len(rows)}. Key: {table}")


def _convert_series(series: Series, path: Path) -> None:
    """Convert one series and write voxels, their place, and how the scan was made; nothing else of the files."""
    source = series.files[0]
    # Before dcm2niix, which fills a gap where a slice is missing.
    expected = grid_of(find_geometry(read_headers(series.files), source))
    with tempfile.TemporaryDirectory() as temporary:
        volume, facts = _run_dcm2niix(series, Path(temporary))
        try:
            image = images.read_image(volume)
        except InputError as err:
            # The file that was read is gone when this is said.
            raise InputError(source, found=err.found, expected=err.expected, advice=err.advice) from err
    if not has_same_voxels(image.grid, expected):
        raise InputError(
            source,
            found=f"a series of {expected} of which dcm2niix makes {image.grid}, or puts them elsewhere",
            expected="the same voxels at the same places",
            advice=f"Write use = no for series {series.number} ({path.name}) in the table, or export it again.",
        )
    images.write_image(path, image.data, image.affine)
    sidecars.write_json(_without_identity(facts), path.with_name(path.name.replace(".nii.gz", ".json")))


def _run_dcm2niix(series: Series, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the volume of a series, and what dcm2niix says of it."""
    given, made = folder / "given", folder / "made"
    given.mkdir()
    made.mkdir()
    for number, file in enumerate(series.files):
        (given / f"{number:06d}.dcm").symlink_to(file.resolve())
    # -ba y: no names and dates; -x i: voxels stay in the order they have.
    command = [dcm2niix.bin, "-b", "y", "-ba", "y", "-x", "i", "-z", "n", "-f", "scan", "-o", str(made), str(given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    volumes = sorted(made.glob("*.nii"))
    if [volume.name for volume in volumes] != ["scan.nii"]:
        listed = ", ".join(volume.name for volume in volumes) or " ".join(done.stdout.split()[-40:])
        raise InputError(
            series.files[0],
            found=f"a series of which dcm2niix makes {len(volumes)} volumes: {listed}",
            expected="one: scan.nii",
            advice=f"Write use = no for series {series.number} {series.description!r}, or export it again.",
        )
    return volumes[0], sidecars.read_json(made / "scan.json")


def _without_identity(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: facts[name] for name in KEPT if name in facts}


def _describe_dataset(rows: Iterable[Row], bids: Path) -> None:
    maker = sidecars.describe_maker(version=__version__)
    description = {"Name": "Brain MRI over time", "BIDSVersion": "1.10.0", "DatasetType": "raw", "GeneratedBy": [maker]}
    sidecars.write_json(description, bids / "dataset_description.json")
    (bids / "README").write_text(README, encoding="utf-8")
    day = {"Description": "Day of the session; 0 is that of the patient's first one", "Units": "d"}
    sidecars.write_json({"days_from_baseline": day}, bids / "sessions.json")
    people = []
    for person, of_person in groupby(sorted(rows, key=itemgetter("participant_id")), key=itemgetter("participant_id")):
        people.append(person)
        days = {row["session_id"]: row["days_from_baseline"] for row in of_person}
        listed = sorted(days, key=lambda session: (float(days[session]), session))
        sessions = pd.DataFrame({"session_id": listed, "days_from_baseline": [days[session] for session in listed]})
        schema.write_tsv(sessions, bids / person / f"{person}_sessions.tsv")
    schema.write_tsv(pd.DataFrame({"participant_id": people}), bids / "participants.tsv")
