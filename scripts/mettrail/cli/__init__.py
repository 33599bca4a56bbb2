"""The command `mettrail`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from mettrail import __version__, project
from mettrail.errors import InputError

DESCRIPTION = "Brain metastases over time: from a BIDS dataset to per-lesion trajectories and RANO-BM responses."
EPILOG = """\
As a BIDS App: mettrail BIDS OUT participant [--participant-label LABEL ...]
What stands after -- goes to Snakemake: mettrail run BIDS OUT -- --keep-going --rerun-incomplete
"""
# Commands that run the workflow, and what they are for.
WORKFLOW = {
    "run": "all patients of a dataset: pages and tables",
    "train": "networks of your own, from the sessions that have masks (labels.folder)",
    "compare": "the published methods, trained on the sessions that have masks and compared on patients not seen",
    "sensitivity": "the responses again with other values of the settings that no publication fixes",
    "radiomics": "masks of each lesion and its parts, and a table of them that PyRadiomics reads",
    "features": "radiomics features of these masks, computed by MIRP, and their change between sessions",
    "report": "only the pages and tables again",
}
# Commands that are scripts with options of their own.
SCRIPTS = {"phantom": "make a synthetic dataset with known answers", "evaluate": "score segmentations against labels"}
# Commands that exchange DICOM, of the extra `dicom`.
DICOM = {
    "import-dicom": "a dataset of DICOM files: what each series is, in a table to correct; then the conversion",
    "export-dicom": "lesions of a run as DICOM segmentations and measurement reports",
}
# The levels of a BIDS App: all that is done for the cohort is part of the same run.
LEVELS = ("participant", "group")
# Exit status of input that is not what it has to be, as argparse's.
BAD_INPUT = 2


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, 1 where something failed, 2 where the input is at fault."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given and given[0] in SCRIPTS:
        return subprocess.call([sys.executable, project.root() / "scripts" / f"{given[0]}.py", *given[1:]])
    given, options = split_options(as_command(given))
    arguments = make_parser().parse_args(given)
    if options and arguments.command not in WORKFLOW:
        make_parser().error(f"{arguments.command} takes no options for Snakemake")
    try:
        return _do(arguments, options)
    except InputError as err:
        print(f"mettrail: {describe(err)}", file=sys.stderr)
        return BAD_INPUT


def describe(err: InputError) -> str:
    """Return what is wrong in one line, and what to do in another."""
    what = " ".join(f"{err.what}: found {err.found}; expected {err.expected}".split())
    return f"{what}\n  to do: {' '.join(err.advice.split())}"


def as_command(given: list[str]) -> list[str]:
    """Return the command that a BIDS App's command line means; others as they are."""
    if len(given) > len(LEVELS) and given[2] in LEVELS and given[0] not in WORKFLOW:
        return ["run", *given[:2], *given[3:]]
    return given


def split_options(given: list[str]) -> tuple[list[str], list[str]]:
    """Return our own arguments, and Snakemake's behind ``--``."""
    at = given.index("--") if "--" in given else len(given)
    return given[:at], given[at + 1 :]


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="mettrail",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mettrail {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, about in WORKFLOW.items():
        _add_workflow_options(commands.add_parser(name, help=about, description=about))
    for name, about in SCRIPTS.items():
        commands.add_parser(name, help=about, add_help=False)
    _add_dicom_options(*(commands.add_parser(name, help=about, description=about) for name, about in DICOM.items()))
    fetch = commands.add_parser("fetch", help="HD-BET's weights from their publisher, checked (mind their licence)")
    fetch.add_argument("file", nargs="?", type=Path, help="where to; then name it in strip.hd_bet_weights")
    commands.add_parser("doctor", help="say whether a run can start here, and on what")
    _add_reading(commands)
    init = commands.add_parser("init", help="write a file of all settings, to be changed and given with --settings")
    init.add_argument("file", nargs="?", type=Path, default=Path("mettrail.yaml"), help="default: %(default)s")
    return parser


def _add_dicom_options(importer: argparse.ArgumentParser, exporter: argparse.ArgumentParser) -> None:
    importer.add_argument("folder", metavar="FOLDER", type=Path, help="folder of DICOM files")
    importer.add_argument("bids", metavar="BIDS", type=Path, help="folder of the dataset, new or empty")
    importer.add_argument(
        "--patients", metavar="FILE", type=Path,
        help="table of patient_id and participant_id; without it patients are numbered",
    )  # fmt: skip
    exporter.add_argument("out", metavar="OUT", type=Path, help="folder of the results")
    exporter.add_argument(
        "folder", metavar="DICOM_FOLDER", type=Path, help="DICOM files that the dataset was made from"
    )
    exporter.add_argument("dest", metavar="DEST", type=Path, help="folder for what is made, new or empty")
    for parser in (importer, exporter):
        parser.add_argument(
            "--table", metavar="FILE", type=Path,
            help="table of series, which names patients; default: BIDS_series.tsv, beside the dataset",
        )  # fmt: skip


def _add_workflow_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bids", metavar="BIDS", help="folder of the dataset")
    parser.add_argument("out", metavar="OUT", help="folder for the results, made where missing")
    for name, about in (
        ("participant", "only these patients"),
        ("session", "only these sessions: 01, or sub-A_ses-01"),
    ):
        parser.add_argument(
            f"--{name}-label", f"--{name}_label", nargs="+", action="extend", default=[], metavar="LABEL", help=about
        )
    parser.add_argument(
        "--exclude", nargs="+", action="extend", default=[], metavar="LABEL",
        help="not these: sub-A, sub-A_ses-01, or ses-01 of all patients",
    )  # fmt: skip
    parser.add_argument(
        "--settings", nargs="+", action="extend", default=[], metavar="FILE",
        help="files of what differs from the settings as shipped; the last one wins",
    )  # fmt: skip
    parser.add_argument("--cores", metavar="N", help="of this machine; default: all")
    parser.add_argument("--slurm", action="store_true", help="as jobs of a cluster (profiles/slurm)")
    parser.add_argument("--dry-run", "-n", action="store_true", help="say what would be done and write nothing")


def _add_reading(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add what a reader of results does."""
    review = commands.add_parser("review", help="list what a reader should look at, the least certain first")
    accept = commands.add_parser("accept", help="take a mask that a reader corrected in place of the session's own")
    for parser in (review, accept):
        parser.add_argument("out", metavar="OUT", help="folder of the results")
    accept.add_argument("mask", metavar="MASK", help="NIfTI file on the grid of the session's post-contrast T1w")
    accept.add_argument("--session", required=True, metavar="SESSION", help="whose it is: sub-A_ses-1")
    accept.add_argument("--labels", metavar="FOLDER", help="of manual segmentations; default: labels.folder of the run")
    accept.add_argument(
        "--scheme", default="mettrail", help="what the mask's numbers mean, as labels.scheme; default: %(default)s"
    )
    accept.add_argument("--replace", action="store_true", help="although the session has a manual segmentation")


def _do(arguments: argparse.Namespace, options: list[str]) -> int:
    # What a command needs is loaded for it alone: help has to come at once.
    if arguments.command == "doctor":
        from mettrail.cli import doctor

        return doctor.run()
    if arguments.command == "init":
        from mettrail.cli import start

        start.write_settings(arguments.file)
        return 0
    if arguments.command == "fetch":
        from mettrail.cli import start

        start.fetch(arguments.file)
        return 0
    if arguments.command in ("review", "accept"):
        from mettrail.cli import reading

        return reading.review(arguments) if arguments.command == "review" else reading.accept(arguments)
    if arguments.command in DICOM:
        from mettrail.cli import exchange

        exchange.run(arguments)
        return 0
    from mettrail.cli import run

    return run.run(arguments, options)
