"""Every file that would be used is opened once, and the outcome kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from mettrail import provenance
from mettrail.cohort.table import Row, exclude, warn
from mettrail.drawn import read_drawn
from mettrail.errors import GridMismatchError, InputError
from mettrail.files import write_whole
from mettrail.images import Grid, read_grid, read_image, require_magnitudes
from mettrail.reasons import Reason

# Threads that read; what they do is mostly unpacking, which lets others run.
READERS = 4
# What is wrong with a file: reason and detail; None where nothing is.
Fault = dict[str, str] | None


# Of the middle of the reference scan's field of view, another sequence shows at least this share. One that does not was
# moved: slabs of a part of the brain show more, and what is missing of the brain itself is seen once that is known.
_SHOWN = 0.2


class _Reference:
    """The reference scan of a session, whose header is read once for all that is held against it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def grid(self) -> Grid:
        return read_grid(self.path)


class _Outcome(NamedTuple):
    """What is wrong with a file, and of a scan a digest of its voxels."""

    problem: Fault
    voxels: str | None = None


class _Check(NamedTuple):
    """A file to open: a scan, another of its session, or a segmentation that has to lie on the grid of its scan."""

    path: Path
    reference: _Reference | None
    scheme: str | Mapping[Any, Any] | None


def check_files(
    bids: Path, rows: list[Row], sequences: list[str], *, scheme: str | Mapping[Any, Any], memory: Path, keep: bool
) -> None:
    """Open every file that would be used; exclude sessions, or sequences of them, whose files cannot be; flag copies.

    Parameters
    ----------
    bids : Path
    rows : list of dict
        Of the cohort table; changed in place.
    sequences : list of str
        Columns other than the reference.
    scheme : str or mapping
        What the numbers in manual segmentations mean.
    memory : Path
        Where outcomes are kept by name, size and time of the file, a line each, as they come: an index of many scans
        that was stopped continues where it was.
    keep : bool
        Whether to keep them.
    """
    usable = [(row, _list_files(row, bids, sequences, scheme)) for row in rows if row["usable"] == "true"]
    wanted = {key: job for _, files in usable for key, job in files.values()}
    code = provenance.source_digest(Path(__file__))
    known = {key: outcome for key, outcome in _read_memory(memory, code) if key in wanted}
    new = {key: job for key, job in wanted.items() if key not in known}
    if keep and new:
        memory.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max_workers=READERS) as pool:
        outcomes = zip(new, pool.map(_check_file, new.values()))
        if keep and new:
            with memory.open("a") as file:
                # A line that was cut short by a kill stays a line of its own.
                file.write("\n")
                for key, outcome in outcomes:
                    file.write(_as_line(code, key, outcome))
                    file.flush()
                    known[key] = outcome
        else:
            known |= dict(outcomes)
    for row, files in usable:
        # The reference first: warnings about a session that is excluded are no longer of interest.
        for column in sorted(files, key=lambda name: name not in ("reference", "labels")):
            problem = known[files[column][0]].problem
            if problem and column in ("reference", "labels"):
                exclude(row, Reason.of(problem["reason"]), problem["detail"])
            elif problem and row["usable"] == "true":
                # A session is not excluded for a sequence that it can be evaluated without.
                row[column] = "n/a"
                said = f"{column} is not used: {problem['detail']}"
                warn(row, Reason.of(problem["reason"]).about(column), said)
    _flag_copies(usable, known)
    if keep:
        write_whole(memory, "".join(_as_line(code, key, known[key]) for key in sorted(known)))


def _list_files(
    row: Row, bids: Path, sequences: list[str], scheme: str | Mapping[Any, Any]
) -> dict[str, tuple[str, _Check]]:
    """Return, for each column with a file, a key of its state and the check."""
    files = {}
    scan = _Reference(bids / row["reference"])
    state = fingerprint(scan.path)
    if row["reference"] != "n/a":
        files["reference"] = (state, _Check(scan.path, None, None))
    for column in sequences:
        if row[column] != "n/a":
            path = bids / row[column]
            files[column] = (f"{fingerprint(path)} beside {state}", _Check(path, scan, None))
    if row["labels"] != "n/a":
        path = Path(row["labels"])
        key = f"{fingerprint(path)} on {state} as {json.dumps(scheme)}"
        files["labels"] = (key, _Check(path, scan, scheme))
    return files


def _flag_copies(usable: Sequence[tuple[Row, Mapping[str, tuple[str, _Check]]]], known: Mapping[str, _Outcome]) -> None:
    """Flag scans that have the same voxels as another: two acquisitions never do."""
    by_voxels: dict[str, list[tuple[Row, str]]] = {}
    for row, files in usable:
        for column, (key, _) in files.items():
            voxels = known[key].voxels
            if voxels and row["usable"] == "true" and row[column] != "n/a":
                by_voxels.setdefault(voxels, []).append((row, column))
    for scans in by_voxels.values():
        for n, (row, column) in enumerate(scans if len(scans) > 1 else ()):
            other, its = scans[1 if n == 0 else 0]
            more = f" (and {len(scans) - 2} more)" if len(scans) > 2 else ""
            said = f"{row[column]} has the same voxels as {other[its]}{more}: one of them is a copy."
            warn(row, Reason.SAME_SCAN if column == "reference" else Reason.SAME_SCAN.about(column), said)


def _check_file(check: _Check) -> _Outcome:
    """Open a scan, another beside it, or a manual segmentation on its grid."""
    path, reference, scheme = check
    try:
        if reference is None or scheme is None:
            return _Outcome(None, _check_scan(path, reference))
        _check_segmentation(path, reference, scheme)
        return _Outcome(None)
    except InputError as err:
        return _Outcome({"reason": err.reason.value, "detail": err.in_one_line()})
    except Exception as err:
        # One strange file must not stop the others; it is named with the error that was not foreseen.
        detail = f"{path}: found {type(err).__name__}: {err}; expected a readable scan."
        return _Outcome({"reason": Reason.UNREADABLE.value, "detail": detail})


def _check_scan(path: Path, reference: _Reference | None) -> str:
    """Return a digest of a scan's voxels."""
    image = read_image(path)
    require_magnitudes(image)
    if reference is not None:
        _require_near(image.grid, path, reference)
    # In the order of the file: a copy in another one would take longer than the digest.
    return hashlib.sha256(image.data.ravel(order="K").data).hexdigest()


def _check_segmentation(path: Path, reference: _Reference, scheme: str | Mapping[Any, Any]) -> None:
    # A scan without a sound grid is excluded for that, whatever its segmentation holds.
    grid, mask = reference.grid, read_drawn(path, scheme)
    if not grid.matches(mask.grid):
        raise GridMismatchError(
            f"{reference.path} and {path}",
            found=f"{grid} and {mask.grid}, or the same voxels at different places",
            expected="one voxel grid",
            advice="Resample the segmentation onto the scan with nearest neighbour.",
            reason=Reason.GRID_MISMATCH,
        )


def _require_near(grid: Grid, path: Path, reference: _Reference) -> None:
    """Refuse a sequence whose field of view lies beside that of the reference scan."""
    try:
        middle = reference.grid.middle_points()
    except InputError:
        return  # the session is excluded for it
    shown = grid.contains(middle).mean()
    if shown < _SHOWN:
        raise InputError(
            path,
            found=f"{shown:.0%} of the middle of {reference.path.name} in its field of view",
            expected=f"at least {_SHOWN:.0%}: both scans of one head, where the scanner saw them",
            advice=Reason.ELSEWHERE.advice,
            reason=Reason.ELSEWHERE,
        )


def fingerprint(path: Path) -> str:
    """Return a key of a file's state: its path, size and time."""
    try:
        stat = path.stat()
    except OSError:
        return f"{path} is not there"
    return f"{path} {stat.st_size} {stat.st_mtime_ns}"


def _read_memory(path: Path, code: str) -> Iterator[tuple[str, _Outcome]]:
    """Yield the kept outcomes of checks by the same code; lines that were cut short are ignored."""
    if not path.exists():
        return
    for line in path.read_text(errors="replace").splitlines():
        try:
            kept = json.loads(line)
            if kept["code"] == code:
                yield kept["file"], _Outcome(kept["problem"], kept["voxels"])
        except (ValueError, KeyError, TypeError):
            continue


def _as_line(code: str, key: str, outcome: _Outcome) -> str:
    return json.dumps({"code": code, "file": key, **outcome._asdict()}) + "\n"
