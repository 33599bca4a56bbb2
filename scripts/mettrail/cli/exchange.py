"""DICOM in and out, where the packages for it are installed."""

from __future__ import annotations

import argparse

from mettrail.errors import InputError


def run(arguments: argparse.Namespace) -> None:
    """Import or export DICOM.

    Parameters
    ----------
    arguments : Namespace
        ``command``, and the options of `cli`.

    Raises
    ------
    InputError
        Packages that are not installed, or bad input.
    """
    try:
        from mettrail import dicom
    except ModuleNotFoundError as err:
        raise InputError(
            f"mettrail {arguments.command}",
            found=f"no Python package {err.name}",
            expected="the packages of the extra dicom",
            advice='pip install ".[dicom]"',
        ) from err
    if arguments.command == "import-dicom":
        dicom.import_dicom(arguments.folder, arguments.bids, table=arguments.table, patients=arguments.patients)
    else:
        dicom.export_dicom(arguments.out, arguments.folder, arguments.dest, table=arguments.table)
        print(f"{arguments.dest}: segmentations (_seg.dcm) and measurement reports (_sr.dcm)")
