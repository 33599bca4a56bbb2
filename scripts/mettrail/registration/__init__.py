"""Registration of two brain-extracted images: one function, its engines, and the numbers that say how well it went.

Engines get cropped, rescaled images and a start that is roughly right, and return matrices and warps in RAS mm, fixed
to moving. Nothing outside this package calls greedy or ANTs.

A new engine is a module here with a function ``run(task, **settings)``, a line in `ENGINES`, and a block of its name
with its settings under ``register`` in config/config.yaml and its schema; a test compares the three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from mettrail import transforms
from mettrail.errors import InputError
from mettrail.geometry import bounding_box, grow_mask
from mettrail.images import Box, Grid, Image, require_same_grid
from mettrail.reasons import Reason
from mettrail.registration import ants, greedy
from mettrail.registration.engines import Settings, Stage, Task
from mettrail.transforms import Transform, Warp

# What an engine returns: the affine (RAS mm, fixed to moving), and for ``deformable`` the warp.
ENGINES: dict[str, Callable[..., tuple[np.ndarray, Warp | None]]] = {"greedy": greedy.run, "ants": ants.run}
# Beyond the mask, so that metric windows and smoothing do not meet the border.
_MARGIN_MM = 12.0
# The search for a start works on points this far apart.
_START_MM = 6.0
_SMOOTH_MM = 2.0
_START_ANGLES = (-60.0, -30.0, 0.0, 30.0, 60.0)
_BINS = 24
# Two scans of one head share hardly any information once one of them is moved by so much; scans that never lay on each
# other share it as little as before.
_MOVED_VOX = 6
# A rigid matrix that changes volume by more than this is none.
_RIGID_TOLERANCE = 1e-3


@dataclass(frozen=True)
class QualityCheck:
    """The verdict on one registration.

    Parameters
    ----------
    status : {'ok', 'warn', 'fail'}
    reason : Reason or None
        None when ok.
    """

    status: str
    reason: Reason | None = None


def register(
    fixed: Image,
    moving: Image,
    *,
    stage: Stage,
    fixed_mask: Image | None,
    moving_mask: Image | None,
    initial: np.ndarray | None,
    threads: int,
    settings: Settings,
) -> Transform:
    """Find the transform that takes points of the fixed image to points of the moving one.

    Parameters
    ----------
    fixed, moving : Image
        Scans on any grids; they need not overlap in the world.
    stage : {'rigid', 'affine', 'deformable'}
        ``deformable`` is rigid, affine, then cross-correlation inside the masks (as Andrearczyk et al. 2024 did with
        ANTs).
    fixed_mask, moving_mask : Image or None
        Brains; the metric sees them grown by `settings.mask_grow_mm`. Lesions may be excluded. None: everything that is
        not 0 counts for the start, and the metric sees the whole image.
    initial : (4, 4) float or None
        RAS mm, fixed to moving; None searches: centres of mass, and rotations up to 60 degrees about each axis.
    threads : int
        Cores the engine may use.
    settings : Settings
        The engine and its settings.

    Returns
    -------
    Transform
        ``warp`` is on the fixed grid, None unless deformable.

    Raises
    ------
    InputError
        An image without content, or a mask that is empty or not on its image's grid.
    ValueError
        There is no such stage or engine.
    """
    if stage not in get_args(Stage):
        raise ValueError(f"stage is {stage!r}, not one of {get_args(Stage)}")
    if settings.engine not in ENGINES:
        raise ValueError(f"engine is {settings.engine!r}, not one of {tuple(ENGINES)}")
    fixed_small, fixed_brain, box = _prepare(fixed, fixed_mask, settings.mask_grow_mm)
    moving_small, moving_brain, _ = _prepare(moving, moving_mask, settings.mask_grow_mm)
    start = find_start(fixed_small, moving_small, fixed_brain, moving_brain) if initial is None else initial
    task = Task(
        fixed_small,
        moving_small,
        fixed_mask=None if fixed_mask is None else fixed_brain,
        moving_mask=None if moving_mask is None else moving_brain,
        stage=stage,
        start=np.asarray(start, float),
        threads=threads,
        seed=settings.seed,
    )
    affine, warp = ENGINES[settings.engine](task, **settings.of_engine)
    return Transform(affine, None if warp is None else _on_whole_grid(warp, fixed.grid, box))


def find_start(fixed: Image, moving: Image, fixed_mask: Image, moving_mask: Image) -> np.ndarray:
    """Return a rigid (4, 4) start: centres of mass on each other, then the rotation that shares most information.

    Mutual information of points 6 mm apart, for rotations up to 60 degrees about each axis; the best three are refined.
    Mutual information because the two may be of different sequences.
    """
    points, centre = _start_points(fixed_mask)
    values = _bin(_sample(_smooth(fixed), points))
    smooth, moving_centre = _smooth(moving), _start_points(moving_mask)[1]
    edges = bin_edges(smooth.data[moving_mask.data])

    def matrix(parameters: np.ndarray) -> np.ndarray:
        out = np.eye(4)
        out[:3, :3] = Rotation.from_euler("xyz", parameters[:3], degrees=True).as_matrix()
        out[:3, 3] = moving_centre + parameters[3:] - out[:3, :3] @ centre
        return out

    def cost(parameters: np.ndarray) -> float:
        moved = _sample(smooth, transforms.map_points(points, affine=matrix(parameters)))
        return -mutual_information(values, np.searchsorted(edges, moved))

    angles = np.array(np.meshgrid(_START_ANGLES, _START_ANGLES, _START_ANGLES)).reshape(3, -1).T
    candidates = [np.append(a, [0.0, 0.0, 0.0]) for a in angles]
    candidates = sorted(candidates, key=cost)[:3]
    # First steps of 10 degrees and 5 mm; a tenth of that is as good as points 6 mm apart can tell.
    directions = np.diag([10.0, 10, 10, 5, 5, 5])
    refined = [
        optimize.minimize(
            cost, c, method="Powell", options={"direc": directions, "xtol": 0.02, "ftol": 1e-3, "maxfev": 250}
        )
        for c in candidates
    ]
    return matrix(min(refined, key=lambda r: r.fun).x)


def similarity(fixed: Image, moved: Image, mask: Image, *, radius_vox: int = 2) -> dict[str, float]:
    """Say how alike two images on one grid are inside a mask.

    Returns
    -------
    dict
        ``correlation`` over all voxels, and ``local_ncc``, the mean correlation of windows of `radius_vox`. NaN where
        the mask is empty.
    """
    require_same_grid(fixed, moved, mask)
    inside = mask.data > 0
    if not inside.any():
        return {"correlation": float("nan"), "local_ncc": float("nan")}
    box = bounding_box(inside)
    a, b, inside = (image[box] for image in (fixed.data, moved.data, inside))
    a, b = a.astype(np.float64), b.astype(np.float64)
    size = 2 * radius_vox + 1
    mean_a, mean_b = ndimage.uniform_filter(a, size), ndimage.uniform_filter(b, size)
    var_a = ndimage.uniform_filter(a * a, size) - mean_a**2
    var_b = ndimage.uniform_filter(b * b, size) - mean_b**2
    cov = ndimage.uniform_filter(a * b, size) - mean_a * mean_b
    # Windows without contrast say nothing; counting them as 0 would reward noise.
    sound = inside & (var_a > 1e-6 * a[inside].var()) & (var_b > 1e-6 * b[inside].var())
    local = cov[sound] / np.sqrt(var_a[sound] * var_b[sound])
    return {
        "correlation": float(np.corrcoef(a[inside], b[inside])[0, 1]),
        "local_ncc": float(local.mean()) if local.size else float("nan"),
    }


def field_of_view(moving: Image, grid: Grid, *, affine: np.ndarray, warp: Warp | None = None) -> np.ndarray:
    """Return which voxels of the fixed grid an image reaches, (X, Y, Z) bool; the chain as for `transforms.apply`."""
    everything = moving.like(np.ones(moving.data.shape, bool))
    return transforms.apply(everything, grid, affine=affine, warp=warp, interpolation="nearest").data


def brain_dice_in_common_view(
    fixed_mask: Image, moving_mask: Image, *, affine: np.ndarray, warp: Warp | None = None
) -> float:
    """Return the Dice overlap of two brains where both fields of view reach.

    A visit with a smaller field of view is not worse registered for that. NaN when no brain is in the common view.
    """
    moved = transforms.apply(moving_mask, fixed_mask.grid, affine=affine, warp=warp, interpolation="nearest").data > 0
    view = field_of_view(moving_mask, fixed_mask.grid, affine=affine, warp=warp)
    here = (fixed_mask.data > 0) & view
    total = int(here.sum()) + int(moved.sum())
    return 2 * int((here & moved).sum()) / total if total else float("nan")


def registration_qc(*, dice: float, rigid: np.ndarray | None, dice_warn: float, dice_fail: float) -> QualityCheck:
    """Judge a registration by the overlap of the brains and, where it is a rigid one, by its matrix.

    Parameters
    ----------
    dice : float
        From `brain_dice_in_common_view`. NaN fails.
    rigid : (4, 4) float or None
        The matrix, when it has to keep volumes.
    dice_warn, dice_fail : float
        Below the first the registration requires review, below the second the session is not evaluable.
    """
    if rigid is not None and abs(np.linalg.det(rigid[:3, :3]) - 1) > _RIGID_TOLERANCE:
        return QualityCheck("fail", Reason.NOT_RIGID)
    if not dice >= dice_fail:
        return QualityCheck("fail", Reason.REGISTRATION_FAILED)
    if dice < dice_warn:
        return QualityCheck("warn", Reason.REGISTRATION_POOR)
    return QualityCheck("ok")


def find_stretch(
    fixed: Image, moving: Image, *, fixed_mask: Image, moving_mask: Image, rigid: np.ndarray, settings: Settings
) -> np.ndarray:
    """Say how many times larger the moving head is, along its principal axes: an affine at the coarsest level.

    Heads of adults do not grow: what differs is what a voxel is said to measure. On real pairs, seven with slices of
    6.5 mm, it came to within 2.3 % of 1; of 10 % between slices it found 4 to 10 (`tests/benchmarks/other_heads.py`).

    Parameters
    ----------
    fixed, moving, fixed_mask, moving_mask
        As for `register`.
    rigid : (4, 4) float
        From there on.
    settings : Settings

    Returns
    -------
    (3,) float
        Largest first.
    """
    levels = list(settings.of_engine["linear_iterations"])
    coarse = {**settings.of_engine, "linear_iterations": [*levels[:1], *[0] * len(levels[1:])]}
    affine = register(
        fixed,
        moving,
        stage="affine",
        fixed_mask=fixed_mask,
        moving_mask=moving_mask,
        initial=rigid,
        threads=1,
        settings=replace(settings, of_engine=coarse),
    ).affine
    return np.linalg.svd(affine[:3, :3], compute_uv=False)


def same_head_qc(
    *,
    local_ncc: float,
    left: float,
    mirrored: bool,
    stretch: np.ndarray,
    ncc_min: float,
    left_max: float,
    stretch_max: float,
) -> QualityCheck:
    """Judge whether two scans of the same sequence, registered rigidly, are of one head, of one side and of one size.

    Overlapping masks do not tell: brains of two people overlap, and so does a brain with its mirror image. Lesions seem
    absent then, and others new.

    Parameters
    ----------
    local_ncc : float
        From `similarity`.
    left : float
        From `shared_information`.
    mirrored : bool
        It fits better once left and right are exchanged.
    stretch : (3,) float
        From `find_stretch`.
    ncc_min, left_max : float
        Beyond both it is another head, beyond one of them it may be. NaN is beyond.
    stretch_max : float
        Largest difference of `stretch` from 1.
    """
    if mirrored:
        return QualityCheck("fail", Reason.MIRRORED)
    unlike = [not local_ncc >= ncc_min, not left <= left_max]
    if all(unlike):
        return QualityCheck("fail", Reason.OTHER_HEAD)
    # A head of another size has less in common with the first, too.
    if not np.abs(stretch - 1).max() <= stretch_max:
        return QualityCheck("warn", Reason.VOXEL_SIZE)
    return QualityCheck("warn", Reason.OTHER_HEAD) if any(unlike) else QualityCheck("ok")


def most_severe(*checks: QualityCheck) -> QualityCheck:
    """Return the worst of several verdicts; of equal ones the first."""
    return min(checks, key=lambda check: ("fail", "warn", "ok").index(check.status))


def mirror(image: Image) -> Image:
    """Exchange left and right: flip the axis of the array that is nearest to them."""
    axis = int(np.argmax(np.abs(image.affine[0, :3])))
    return image.like(np.ascontiguousarray(np.flip(image.data, axis)))


def shared_information(fixed: Image, moved: Image, mask: Image) -> tuple[float, float]:
    """Say how much two scans of any contrast have in common inside a mask, and how much is left when one is moved.

    Parameters
    ----------
    fixed, moved, mask : Image
        On one grid of 1 mm.

    Returns
    -------
    shared : float
        Mutual information, nats: 0 for images that tell nothing of each other.
    left : float
        Mean share of it that is left after 6 mm along each axis, both ways: near 0 where the scans lie on each other,
        near 1 where they never did. NaN where the mask is empty or nothing is shared.
    """
    require_same_grid(fixed, moved, mask)
    inside = ndimage.binary_erosion(mask.data > 0, iterations=2)
    # One value, or none, tells nothing; rounding must not make something of it.
    if not inside.any() or np.ptp(fixed.data[inside]) == 0 or np.ptp(moved.data[inside]) == 0:
        return 0.0, float("nan")
    here, edges = _bin(fixed.data[inside]), bin_edges(moved.data[inside])
    shared = mutual_information(here, np.searchsorted(edges, moved.data[inside]))
    # What comes in at the other edge of the grid is far from the brain.
    others = [
        mutual_information(here, np.searchsorted(edges, np.roll(moved.data, step, axis)[inside]))
        for axis in range(3)
        for step in (-_MOVED_VOX, _MOVED_VOX)
    ]
    return shared, float(np.mean(others)) / shared if shared > 0 else float("nan")


def sequence_qc(
    *, covered: float, left: float, covered_warn: float, covered_fail: float, left_warn: float, left_fail: float
) -> QualityCheck:
    """Judge whether another sequence of a session shows the brain of its reference scan, and lies on it.

    Parameters
    ----------
    covered : float
        Share of the brain in its field of view.
    left : float
        From `shared_information`. NaN fails.
    covered_warn, covered_fail : float
        Below the first it requires review, below the second it is no use.
    left_warn, left_fail : float
        The same for `left`, above.
    """
    if not left <= left_fail or covered < covered_fail:
        return QualityCheck("fail", Reason.SEQUENCE_FAILED)
    if left > left_warn:
        return QualityCheck("warn", Reason.MISALIGNED)
    if covered < covered_warn:
        return QualityCheck("warn", Reason.PARTIAL)
    return QualityCheck("ok")


def _prepare(image: Image, mask: Image | None, grow_mm: float) -> tuple[Image, Image, Box]:
    """Cut an image to its brain and bring its values to 0..1000; return it, its mask and where it was cut."""
    if mask is not None:
        require_same_grid(image, mask)
    content = image.data != 0 if mask is None else mask.data > 0
    if not content.any() or image.data.min() == image.data.max():
        raise InputError(
            image.path or "image",
            found="nothing but background" if content.any() else "an empty brain mask",
            expected="a brain",
            advice="Check the scan and its brain mask.",
            reason=Reason.EMPTY_BRAIN,
        )
    box = bounding_box(content, margin_vox=np.ceil((_MARGIN_MM + grow_mm) / np.array(image.spacing_mm)).astype(int))
    affine = image.grid.crop(box).affine
    data, inside = image.data[box].astype(np.float32), content[box]
    if mask is not None:
        inside = grow_mask(inside, spacing_mm=image.spacing_mm, grow_mm=grow_mm)
    # Vessels and lesions far brighter than tissue would leave tissue few histogram bins.
    low, high = min(data.min(), 0.0), np.percentile(data[inside], 99.8)
    data = np.clip((data - low) / max(high - low, 1e-6), 0, 1) * 1000
    return Image(data, affine), Image(inside, affine), box


def _on_whole_grid(warp: Warp, grid: Grid, box: Box) -> Warp:
    """Continue a warp of the cut image to the whole grid by its border values, so that nothing tears."""
    pad = [(s.start, n - s.stop) for s, n in zip(box, grid.shape)]
    return Warp(np.pad(warp.vectors, [*pad, (0, 0)], mode="edge"), grid.affine)


def _smooth(image: Image) -> Image:
    sigma = _SMOOTH_MM / np.array(image.spacing_mm)
    return image.like(ndimage.gaussian_filter(image.data, sigma))


def _start_points(mask: Image) -> tuple[np.ndarray, np.ndarray]:
    """Return world points of a mask, some 6 mm apart, and its centre of mass."""
    step = np.maximum(np.rint(_START_MM / np.array(mask.spacing_mm)).astype(int), 1)
    voxels = np.argwhere(mask.data[:: step[0], :: step[1], :: step[2]]) * step
    centre = np.array(ndimage.center_of_mass(mask.data))
    return transforms.map_points(voxels, affine=mask.affine), transforms.map_points(centre[None], affine=mask.affine)[0]


def _sample(image: Image, points: np.ndarray) -> np.ndarray:
    index = transforms.map_points(points, affine=np.linalg.inv(image.affine)).T
    return ndimage.map_coordinates(image.data, index, order=1, mode="grid-constant", prefilter=False)


def bin_edges(values: np.ndarray) -> np.ndarray:
    """Return the (23,) edges between 24 bins, from the first to the last percentile; see `mutual_information`."""
    low, high = np.percentile(values, [1, 99])
    return np.linspace(low, high, _BINS - 1)


def _bin(values: np.ndarray) -> np.ndarray:
    return np.searchsorted(bin_edges(values), values)


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mutual information (nats) of two (n,) arrays of bin numbers, ``np.searchsorted(bin_edges(x), x)``."""
    joint = np.bincount(a * _BINS + b, minlength=_BINS * _BINS).reshape(_BINS, _BINS) / a.size
    outer = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / outer[there])).sum())
