"""The greedy engine (Yushkevich et al. 2016, https://greedy.readthedocs.io), in memory through picsl_greedy."""

from __future__ import annotations

import ctypes
import io
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from picsl_greedy import Greedy3D

from mettrail import transforms
from mettrail.registration.engines import Task
from mettrail.transforms import Warp

_LOG = logging.getLogger(__name__)


def run(
    task: Task, *, linear_iterations: list[int], iterations: list[int], radius: int, smooth_vox: list[float]
) -> tuple[np.ndarray, Warp | None]:
    """Register with greedy: rigid by normalised mutual information, affine and warp by local cross-correlation.

    Parameters
    ----------
    task : Task
    linear_iterations, iterations : list of int
        Per resolution level, coarse to fine; the last one is full resolution. Empty linear ones: the start is final.
    radius : int, voxels
        Of the cross-correlation window.
    smooth_vox : two floats, voxels
        Smoothing of the update and of the whole field.

    Notes
    -----
    Rigid by mutual information, because the two may be different sequences. It must not choose the affine's scale: on a
    scan and its own rigid copy it made the brain 0.7 % (full resolution) to 1.9 % (2 mm) larger, with displacements of
    0.12 and 0.30 mm on average; cross-correlation at 2 mm left 0.03 mm.

    The linear stages have one thread: with more, greedy adds up in the order in which they end, and no two runs give
    the same matrix. They take less processor time so. The warp does not depend on the number of threads.
    """
    common = f"-i fixed moving -seed {task.seed} -V 0"
    images = {"fixed": transforms.image_to_itk(task.fixed), "moving": transforms.image_to_itk(task.moving)}
    for option, name, mask in (("-gm", "fixed_mask", task.fixed_mask), ("-mm", "moving_mask", task.moving_mask)):
        if mask is not None:
            common += f" {option} {name}"
            images[name] = transforms.image_to_itk(mask.like(mask.data.astype(np.float32)))
    with tempfile.TemporaryDirectory(prefix="greedy-") as folder:
        window = "x".join([str(radius)] * 3)
        matrix = task.start
        for freedom, metric in ((6, "NMI"), (12, f"NCC {window}")):
            if not linear_iterations or (freedom == 12 and task.stage == "rigid"):
                break
            before = _write_matrix(Path(folder) / f"before-{freedom}.mat", matrix)
            matrix = _execute(
                f"{common} -threads 1 -a -dof {freedom} -m {metric} -n {_levels(linear_iterations)} -ia {before} "
                "-o matrix",
                "matrix",
                images,
            )
        if task.stage != "deformable":
            return matrix, None
        affine = _write_matrix(Path(folder) / "affine.mat", matrix)
        # greedy rounds warps to a tenth of a voxel unless told not to (-wp 0).
        field = _execute(
            f"{common} -threads {task.threads} -m NCC {window} -n {_levels(iterations)} "
            f"-s {smooth_vox[0]}vox {smooth_vox[1]}vox -it {affine} -wp 0 -o field",
            "field",
            images,
        )
    return matrix, transforms.warp_from_itk(field)


def _execute(command: str, result: str, images: dict[str, sitk.Image]) -> Any:
    """Run one command and return one result, a matrix or an ITK image; what greedy prints goes to the log."""
    greedy, out, err = Greedy3D(), io.StringIO(), io.StringIO()
    _LOG.info("greedy %s", command)
    try:
        with _optimiser_to_log():
            greedy.execute(command, out=out, err=err, **images, **{result: None})
    finally:
        _LOG.debug("%s%s", out.getvalue(), err.getvalue())
    return greedy[result]


@contextmanager
def _optimiser_to_log() -> Iterator[None]:
    """Send what the optimiser writes past Python to the log.

    It says LINE SEARCH FAILED whenever a level ends because no step helps any more, which is the usual end.
    """
    streams, libc = (1, 2), ctypes.CDLL(None)
    sys.stdout.flush()
    sys.stderr.flush()
    libc.fflush(None)
    kept = [os.dup(stream) for stream in streams]
    with tempfile.TemporaryFile() as file:
        for stream in streams:
            os.dup2(file.fileno(), stream)
        try:
            yield
        finally:
            libc.fflush(None)
            for stream, copy in zip(streams, kept):
                os.dup2(copy, stream)
                os.close(copy)
            file.seek(0)
            _LOG.debug("%s", file.read().decode(errors="replace"))


def _write_matrix(path: Path, matrix: np.ndarray) -> Path:
    # greedy's own matrices are RAS mm, fixed to moving, like ours.
    np.savetxt(path, matrix, fmt="%.17g")
    return path


def _levels(iterations: list[int]) -> str:
    return "x".join(str(int(n)) for n in iterations)
