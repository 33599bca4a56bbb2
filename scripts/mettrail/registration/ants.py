"""The ANTs engine (Avants et al. 2011): antsRegistration itself, called through antspyx with every file named."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mettrail import images, transforms
from mettrail.registration.engines import Task
from mettrail.transforms import Warp

_LOG = logging.getLogger(__name__)
_THREADS = "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"


@contextlib.contextmanager
def _itk_threads(threads: int) -> Iterator[None]:
    """Set ITK's number of threads by its environment variable, which programs that are started later do not inherit."""
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = str(threads)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = before


def run(
    task: Task,
    *,
    linear_iterations: list[int],
    iterations: list[int],
    radius: int,
    step: float,
    smooth_vox: list[float],
) -> tuple[np.ndarray, Warp | None]:
    """Register with antsRegistration: rigid and affine by mutual information, SyN by cross-correlation.

    Parameters
    ----------
    task : Task
        With more than one thread, warps of two runs differ in the last digits.
    linear_iterations, iterations : list of int
        Per resolution level, coarse to fine; the last one is full resolution. Empty linear ones: the start is final.
    radius : int, voxels
        Of the cross-correlation window.
    step : float
        Gradient step of SyN.
    smooth_vox : two floats, voxels
        Variance of the smoothing of the update and of the whole field.

    Notes
    -----
    ITK reads the number of threads once per process: the first call decides.
    """
    with _itk_threads(task.threads), tempfile.TemporaryDirectory(prefix="ants-") as folder:
        # Imported here because ITK fixes its number of threads when it is first used.
        import ants

        paths = {}
        for name in ("fixed", "moving", "fixed_mask", "moving_mask"):
            image = getattr(task, name)
            paths[name] = "NULL" if image is None else str(Path(folder) / f"{name}.nii")
            if image is not None:
                images.write_image(paths[name], image.data, image.affine)
        first = Path(folder) / "start.txt"
        transforms.write_affine(first, task.start)
        prefix = Path(folder) / "out-"

        command = ["-d", "3", "--float", "1", "--random-seed", str(task.seed), "-o", f"[{prefix}]", "-r", str(first)]
        pair = f"{paths['fixed']},{paths['moving']}"
        masks = f"[{paths['fixed_mask']},{paths['moving_mask']}]"
        for kind in ("Rigid", "Affine"):
            if not linear_iterations or (kind == "Affine" and task.stage == "rigid"):
                break
            command += ["-t", f"{kind}[0.1]", "-m", f"MI[{pair},1,32,Regular,0.25]"]
            command += [*_levels(linear_iterations), "-x", masks]
        if task.stage == "deformable":
            command += ["-t", f"SyN[{step},{smooth_vox[0]},{smooth_vox[1]}]", "-m", f"CC[{pair},1,{radius}]"]
            command += [*_levels(iterations), "-x", masks]
        _LOG.info("antsRegistration %s", " ".join(command))
        ants.registration(command, None)

        affine = transforms.read_affine(f"{prefix}0GenericAffine.mat")
        return affine, transforms.read_warp(f"{prefix}1Warp.nii.gz") if task.stage == "deformable" else None


def _levels(iterations: list[int]) -> list[str]:
    """Return iterations, shrink factors and smoothing of a pyramid that halves."""
    steps = range(len(iterations) - 1, -1, -1)
    return [
        *("-c", f"[{'x'.join(str(int(n)) for n in iterations)},1e-6,10]"),
        *("-f", "x".join(str(2**s) for s in steps)),
        *("-s", "x".join(str(s) for s in steps) + "vox"),
    ]
