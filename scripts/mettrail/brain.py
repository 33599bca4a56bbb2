"""Find the brain in a head scan (stage: strip), and judge what was found.

Four methods: deepbet, an atlas, HD-BET, or what others extracted before. None is trusted: every mask of a head is
compared with the volumes that adult brains have and with the atlas (`atlas_fit`), whatever its method. A mask beyond
the limits is replaced by that of another method, or the session is not evaluable.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from mettrail import jobs, sidecars, transforms
from mettrail.bias import foreground
from mettrail.devices import choose_device
from mettrail.errors import InputError
from mettrail.geometry import bounding_box, find_surface, grow_mask, label_components
from mettrail.images import Box, Grid, Image, canonical_grid, require_same_grid
from mettrail.reasons import Reason
from mettrail.registration import bin_edges, find_start, mutual_information, register
from mettrail.registration.engines import Settings as RegistrationSettings
from mettrail.template import coarsen, load_template
from mettrail.transforms import Transform, Warp

if TYPE_CHECKING:
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

METHODS = ("deepbet", "atlas", "hd-bet", "nonzero")
# Run besides, for comparison, and used where the first mask fails.
_OTHER = {"deepbet": "atlas", "hd-bet": "atlas", "atlas": "deepbet"}

# Chosen on six heads with reference masks, see tests/benchmarks/brain.md. The atlas is fixed and the head moves:
# the metric then sees the brain only; the other way round skull and scalp win.
_SPACING_MM = 2.0
_RIM_MM = 4.0
_GREEDY = {"linear_iterations": [60, 0], "iterations": [50, 10], "radius": 2, "smooth_vox": [2.0, 1.0]}
_REGISTRATION = RegistrationSettings("greedy", seed=1, mask_grow_mm=_RIM_MM, of_engine=_GREEDY)
_SCALES_PERCENT = (-15, -12, -9, -6, -3, 0, 3)
# The atlas brain at these is smaller and larger than any adult's, 0.9 and 2.1 litres: beyond, it covers
# skull and scalp, as happens where a scan ends below the vertex.
_SMALLEST_PERCENT, _LARGEST_PERCENT = -25, 4
# Head below the brain is cut off: a brain is at most so tall, the search for a start sees a little less.
_BRAIN_HEIGHT_MM, _START_HEIGHT_MM = 185.0, 140.0
_VERTEX_AREA_MM2 = 2000.0
# The inverse warp is computed at points this far apart, and only so far from where the affine puts the atlas.
_INVERSE_MM, _REACH_MM = 4.0, 16.0
# Windows of the cross-correlation at the brain's edge avoid the bright skull, and the atlas ends up inside the brain by
# this much. Measured on a synthetic head (tests/test_brain.py), not on the scans that the accuracy is quoted for.
_EDGE_MM = 1.0
# The atlas judges masks on points this far apart, up to so far from its brain, tilted by so much at first.
_JUDGE_MM, _JUDGE_REACH_MM = 5.0, 10.0
_JUDGE_PITCH, _JUDGE_SHIFT_MM, _JUDGE_SCALE = (-30, -15, 0, 15, 30), (-20, 0, 20, 40), 0.9
_JUDGE_STEPS = 30
# A scan with more content than this, or content at its border, still has its head on.
_MAX_NONZERO, _MAX_BORDER = 0.7, 0.05


@dataclass(frozen=True)
class Settings:
    """How brains are extracted: the block ``strip`` of the config file, without its margin.

    Parameters
    ----------
    method : {'deepbet', 'atlas', 'hd-bet', 'nonzero'}
        ``deepbet`` runs the networks of Fisch et al. (Comput Biol Med 179 (2024) 108845, arXiv 2308.07003), whose
        weights come with the package; ``atlas`` registers the ICBM 2009a T1w brain that nilearn ships; ``hd-bet`` runs
        HD-BET (Isensee et al. 2019) with weights fetched before; ``nonzero`` is for scans whose brain was extracted by
        others.
    volume_warn_ml, volume_fail_ml : (low, high)
        A mask outside the first range is flagged ``brain_volume``, one outside the second fails.
    fit_warn, fit_fail : float
        A mask whose `atlas_fit` is below the first is flagged ``brain_fit``, one below the second fails.
    hd_bet_weights : path
        The zip of HD-BET 2's release, or the folder it unpacks to. Checkpoints are pickles: they run code when loaded,
        so that only checked ones (`mettrail.weights`) should be given.
    device : {'auto', 'cpu', 'cuda', ...}
        For ``deepbet`` and ``hd-bet``.

    Raises
    ------
    InputError
        There is no such method.
    """

    method: str
    volume_warn_ml: tuple[float, float]
    volume_fail_ml: tuple[float, float]
    fit_warn: float
    fit_fail: float
    hd_bet_weights: str
    device: str

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(
                "strip: method",
                found=repr(self.method),
                expected=f"one of {', '.join(METHODS)}",
                advice="Correct it in the config file.",
                reason=Reason.BAD_SETTING,
            )


def extract_brain(head: Image, settings: Settings, *, threads: int) -> tuple[Image, dict[str, Any]]:
    """Return the brain mask of a scan and what is known about how good it is.

    Parameters
    ----------
    head : Image
        Bias-corrected, RAS axes, 1 mm.
    settings : Settings
    threads : int
        Cores this may use.

    Returns
    -------
    mask : Image of bool
        On the head's grid. That of the other method (the atlas; deepbet for ``atlas``) where the first one fails and
        the other does not.
    quality : dict
        ``status`` (``ok``; ``warn`` with flags; ``fail``: not evaluable), ``flags`` (``brain_volume``, ``brain_fit``;
        ``brain_replaced``: it is the other method's; ``brain_stripped``: the scan was an extracted brain already, and
        what is above 0 was taken), ``method`` that the mask is from, its ``volume_ml`` and ``fit``; the same of the
        mask not taken (``other_method``, ``other_volume_ml``, ``other_fit``), and the Dice of both (``overlap``). None
        for what is not known: brains extracted before are not extracted again, and those given as such need not be
        whole, so that the atlas does not judge them.

    Raises
    ------
    InputError
        No brain was found, weights are missing, or a head was given as an extracted brain.
    """
    # Brains given as extracted need not be whole: the atlas does not judge them.
    judged = settings.method != "nonzero"
    extracted = _find_extracted(head, settings) if judged else None

    def candidate(method: str) -> _Candidate:
        mask = extracted or find_brain(
            head, method, hd_bet_weights=settings.hd_bet_weights, device=settings.device, threads=threads
        )
        return _Candidate(method, mask, _volume_ml(mask), atlas_fit(head, mask) if judged else None)

    first = "nonzero" if extracted else settings.method
    candidates = [candidate(method) for method in (first, _OTHER.get(first)) if method]
    if not any(each.volume_ml for each in candidates):
        raise _no_brain(head, f"no brain ({' or '.join(each.method for each in candidates)})")
    # Sorting keeps the order of those that are alike: the other is taken only where the first fails and it does not.
    best, *others = sorted(candidates, key=lambda each: each.fails(settings))
    flags = best.flags(settings)
    flags += ["brain_replaced"] * (best is not candidates[0]) + ["brain_stripped"] * (extracted is not None)
    status = "fail" if best.fails(settings) else "warn" if flags else "ok"
    quality = {"status": status, "flags": flags, **best.describe()}
    for other in others:
        total = best.mask.data.sum() + other.mask.data.sum()
        quality |= {f"other_{name}": value for name, value in other.describe().items()}
        quality["overlap"] = round(float(2 * (best.mask.data & other.mask.data).sum() / total), 3)
    return best.mask, quality


@dataclass(frozen=True)
class _Candidate:
    """A mask and what is known of it: ``fit`` is None where the atlas does not judge it."""

    method: str
    mask: Image
    volume_ml: float
    fit: float | None

    # All is written so that a correlation that cannot be computed, NaN, is flagged and fails.

    def flags(self, settings: Settings) -> list[str]:
        low, high = settings.volume_warn_ml
        flags = [] if low <= self.volume_ml <= high else ["brain_volume"]
        return flags if self.fit is None or self.fit >= settings.fit_warn else [*flags, "brain_fit"]

    def fails(self, settings: Settings) -> bool:
        low, high = settings.volume_fail_ml
        fits = self.fit is None or self.fit >= settings.fit_fail
        return not (low <= self.volume_ml <= high and fits)

    def describe(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "volume_ml": round(self.volume_ml, 1),
            "fit": round(self.fit, 3) if self.fit is not None and np.isfinite(self.fit) else None,
        }


def _volume_ml(mask: Image) -> float:
    return float(mask.data.sum() * mask.voxel_volume_mm3 / 1000)


def _no_brain(head: Image, found: str) -> InputError:
    return InputError(
        head.path or "scan",
        found=found,
        expected="a head scan, or an extracted brain",
        advice="Check the scan and its voxel size; try another strip: method.",
        reason=Reason.NO_BRAIN,
    )


def find_brain(head: Image, method: str, *, hd_bet_weights: str, device: str, threads: int) -> Image:
    """Return the mask of one method, as it is: empty where the method sees no brain.

    Parameters
    ----------
    head, method, hd_bet_weights, device, threads
        As in `Settings`.

    Raises
    ------
    InputError
        Weights are missing, or a head was given as an extracted brain.
    """
    try:
        if method == "deepbet":
            return _by_deepbet(head, device=device, threads=threads)
        if method == "atlas":
            return _by_atlas(head, threads=threads)
        if method == "hd-bet":
            return _by_hd_bet(head, weights=Path(hd_bet_weights), device=device, threads=threads)
        return _by_nonzero(head)
    except InputError as err:
        if err.reason != Reason.NO_BRAIN:
            raise
        print(f"{method}: {err}")
        return Image(np.zeros(head.data.shape, bool), head.affine)


def atlas_fit(head: Image, mask: Image) -> float:
    """Return how much what a mask takes for brain looks like a brain: the correlation with the atlas after an affine.

    The scan inside the mask, 0 outside, is compared with the atlas brain, 0 outside. Both count, what lies inside and
    where its edge is: bone and scalp in the mask meet nothing in the atlas, and where the mask lacks a lobe the atlas
    meets nothing. A scan that ends within the brain does not fit the worse for it.

    Parameters
    ----------
    head : Image
        Bias-corrected.
    mask : Image of bool
        On the head's grid.

    Returns
    -------
    float
        Pearson correlation over the atlas brain and 10 mm around it, where the scan reaches; points 5 mm apart. NaN
        for an empty mask.
    """
    require_same_grid(head, mask)
    covered = _block_mean(mask.like(mask.data.astype(np.float32)), _JUDGE_MM)
    if not (covered.data > 0.5).any():
        return float("nan")
    scan = _block_mean(head, _JUDGE_MM)
    # Fat, vessels and tumours with contrast agent are brighter than any tissue the atlas has.
    top = np.percentile(scan.data[covered.data > 0.5], 98)
    scan = scan.like(np.clip(scan.data, 0, top) * covered.data)
    atlas, atlas_brain = (_block_mean(each, _JUDGE_MM) for each in load_template(1.0))
    atlas_brain = atlas_brain.like(atlas_brain.data > 0.5)
    near = grow_mask(atlas_brain.data, spacing_mm=atlas_brain.spacing_mm, grow_mm=_JUDGE_REACH_MM)
    expected, in_atlas = atlas.data[near], atlas_brain.data[near]
    points = transforms.map_points(np.argwhere(near), affine=atlas.affine)
    points -= points[in_atlas].mean(axis=0)
    to_index, shape = transforms.invert(scan.affine), np.array(scan.data.shape)

    def compare(placed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return scan and atlas at the points that the scan shows, and which these are."""
        index = transforms.map_points(points, affine=to_index @ placed)
        seen = np.all((index >= -0.5) & (index <= shape - 0.5), axis=1)
        values = ndimage.map_coordinates(scan.data, index[seen].T, order=1, mode="nearest")
        return values, expected[seen], seen

    def correlation(placed: np.ndarray) -> float:
        a, b, _ = compare(placed)
        return float(np.corrcoef(a, b)[0, 1]) if a.size > 1 and a.std() > 0 and b.std() > 0 else float("nan")

    # From centre to centre, as large as the mask is. Heads lie tilted, and of a scan that ends within the brain neither
    # centre nor size of the mask are the brain's.
    middle = transforms.map_points(np.argwhere(covered.data > 0.5), affine=covered.affine).mean(axis=0)
    size = np.cbrt((covered.data > 0.5).sum() / atlas_brain.data.sum())
    starts = []
    for pitch, shift, scale in itertools.product(_JUDGE_PITCH, _JUDGE_SHIFT_MM, (size, _JUDGE_SCALE)):
        start = np.eye(4)
        start[:3, :3] = scale * Rotation.from_euler("x", pitch, degrees=True).as_matrix()
        start[:3, 3] = middle + np.array([0, 0, shift])
        starts.append(start)
    start = max(starts, key=lambda placed: np.nan_to_num(correlation(placed), nan=-1.0))

    def place(parameters: np.ndarray) -> np.ndarray:
        out = np.eye(4)
        # Shifts in decimetres: then all parameters move points by like amounts.
        out[:3] += parameters.reshape(3, 4) * [1, 1, 1, 100]
        return start @ out

    def residuals(parameters: np.ndarray) -> np.ndarray:
        a, b, seen = compare(place(parameters))
        out = np.zeros(len(points))
        if a.size:
            out[seen] = ((a - a.mean()) / (a.std() + 1e-6) - (b - b.mean()) / (b.std() + 1e-6)) / np.sqrt(a.size)
        return out

    return correlation(place(optimize.least_squares(residuals, np.zeros(12), max_nfev=_JUDGE_STEPS, ftol=1e-3).x))


def apply_mask(image: Image, mask: Image, *, grow_mm: float) -> Image:
    """Set everything further than `grow_mm` from the brain to 0.

    Parameters
    ----------
    image : Image
    mask : Image of bool
        On the image's grid.
    grow_mm : float
        Leaves the rim of the brain, where metastases sit, to the networks.

    Raises
    ------
    GridMismatchError
        The two are not on one grid.
    """
    require_same_grid(image, mask)
    near = grow_mask(mask.data, spacing_mm=mask.spacing_mm, grow_mm=grow_mm)
    return image.like(np.where(near, image.data, 0).astype(np.float32))


def sound_positions(images: Sequence[str], masks: Sequence[str], *checks: Sequence[str]) -> list[int]:
    """Return the positions of the sessions whose image is there and that failed no check.

    Parameters
    ----------
    images, masks, *checks : sequence of path
        Of one session each. Checks are JSON with a ``status``: from `extract_brain`, `visits.register_reference`.
    """
    whole = jobs.complete_positions(images, masks, *checks)
    return [n for n in whole if all(sidecars.read_json(check[n])["status"] != "fail" for check in checks)]


def _by_deepbet(head: Image, *, device: str, threads: int) -> Image:
    """Run deepbet's two networks: one finds where the brain is, the other segments it.

    deepbet reads arrays in RAS order as they are, whatever their spacing: it stretches them to 256 x 256 x 256. It is
    given the 1 mm grid, so that thick slices are interpolated, not repeated.
    """
    torch_device = choose_device(device, setting="strip: device")
    import torch

    try:
        from deepbet import BrainExtraction
    except ImportError as err:
        raise InputError(
            "strip: method",
            found=f"deepbet, and no deepbet in this environment ({err})",
            expected="the packages of requirements.txt",
            advice="make setup, or pip install --no-deps -r requirements.txt.",
            reason=Reason.NOT_INSTALLED,
        ) from err
    before = torch.get_num_threads()
    torch.set_num_threads(int(threads))
    try:
        deepbet = BrainExtraction(no_gpu=True)
        for network in (deepbet.model, deepbet.bbox_model):
            network.to(torch_device)
        probability = deepbet.run_model(np.ascontiguousarray(head.data, np.float32))
        inside = deepbet.postprocess(probability > 0.5)
    except (AssertionError, ValueError) as err:  # of a scan in which its networks see nothing
        raise _no_brain(head, f"no brain (deepbet: {err})") from err
    finally:
        torch.set_num_threads(before)
    return Image(inside > 0, head.affine)


def _by_atlas(head: Image, *, threads: int) -> Image:
    """Register the atlas to the head and take its mask back."""
    atlas, atlas_brain = load_template(_SPACING_MM)
    small, upper = _upper_head(head)
    start = _find_scale(atlas, small, atlas_brain, upper, find_start(atlas, small, atlas_brain, upper))
    # The head is moved to where the start puts it: register begins with a rigid stage, which would undo the scale.
    found = register(
        atlas,
        Image(small.data, transforms.invert(start) @ small.affine),
        stage="deformable",
        fixed_mask=atlas_brain,
        moving_mask=None,
        initial=np.eye(4),
        threads=threads,
        settings=_REGISTRATION,
    )
    found = Transform(transforms.compose(found.affine, start), found.warp)
    back, inverse = _invert(found, small.grid, atlas_brain)
    box = _box_of(atlas_brain, found, head.grid)
    part = head.grid.crop(box)
    fine_brain = load_template(1.0)[1]
    weight = transforms.apply(fine_brain.like(fine_brain.data.astype(np.float32)), part, affine=inverse, warp=back)
    mask = np.zeros(head.data.shape, bool)
    mask[box] = grow_mask(_tidy(weight.data > 0.5), spacing_mm=part.spacing_mm, grow_mm=_EDGE_MM)
    return Image(mask, head.affine)


def _box_of(brain: Image, found: Transform, grid: Grid) -> Box:
    """Return where on the head's grid the atlas brain ends up: nothing else has to be resampled."""
    points = transforms.map_points(np.argwhere(find_surface(brain.data)), affine=brain.affine)
    points = transforms.map_points(points, affine=found.affine, warp=found.warp)
    index = transforms.map_points(points, affine=transforms.invert(grid.affine))
    low = np.clip(np.floor(index.min(0)).astype(int) - 4, 0, np.array(grid.shape) - 1)
    high = np.clip(np.ceil(index.max(0)).astype(int) + 5, low + 1, grid.shape)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high))
    return x, y, z


def _upper_head(head: Image) -> tuple[Image, Image]:
    """Cut off the neck, clip fat, and bring to the working grid; also return where a start is searched."""
    spacing = np.array(head.spacing_mm)
    inside = foreground(head.data)
    # The vertex: noise above the head never covers this much.
    slices = np.flatnonzero(inside.sum((0, 1)) * spacing[0] * spacing[1] > _VERTEX_AREA_MM2)
    if slices.size == 0:
        raise _no_brain(head, "nothing as large as a head")
    top = int(slices[-1]) + 1
    upper = inside.copy()
    upper[:, :, top:] = False
    upper[:, :, : max(0, top - round(_START_HEIGHT_MM / spacing[2]))] = False
    x, y, _ = bounding_box(upper, margin_vox=5)
    z = slice(max(0, top - round(_BRAIN_HEIGHT_MM / spacing[2])), min(top + 10, head.data.shape[2]))
    affine = head.grid.crop((x, y, z)).affine
    data, upper = head.data[x, y, z], upper[x, y, z]
    # Fat and vessels with contrast agent: brighter than any tissue the atlas has.
    data = np.clip(data, 0, 1.2 * np.percentile(data[upper], 99))
    return coarsen(Image(data, affine), _SPACING_MM), coarsen(Image(upper, affine), _SPACING_MM)


def _find_scale(atlas: Image, head: Image, atlas_brain: Image, upper: Image, start: np.ndarray) -> np.ndarray:
    """Refine a rigid start to a similarity (rotation, shift, one scale) by mutual information.

    The ICBM brain is a tenth larger than a brain is, and an affine that starts at its size may end with the scalp
    taken for cortex. Points beyond the edge, where the atlas is 0 and the head is fluid and bone, tell the size.
    """
    smooth = head.like(ndimage.gaussian_filter(head.data, 1.0))
    rim = grow_mask(atlas_brain.data, spacing_mm=atlas_brain.spacing_mm, grow_mm=_RIM_MM)
    voxels = np.argwhere(rim[::2, ::2, ::2]) * 2
    points = transforms.map_points(voxels, affine=atlas.affine)
    centre = points.mean(axis=0)
    edges = bin_edges(smooth.data[upper.data])
    fixed = ndimage.gaussian_filter(atlas.data, 1.0)[tuple(voxels.T)]
    fixed = np.searchsorted(bin_edges(fixed), fixed)
    to_index = transforms.invert(head.affine)

    def matrix(parameters: np.ndarray) -> np.ndarray:
        out = np.eye(4)
        out[:3, :3] = Rotation.from_euler("xyz", parameters[:3], degrees=True).as_matrix() * np.exp(parameters[6] / 100)
        out[:3, 3] = centre + parameters[3:6] - out[:3, :3] @ centre
        return start @ out

    def cost(parameters: np.ndarray) -> float:
        if not _SMALLEST_PERCENT <= parameters[6] <= _LARGEST_PERCENT:
            return 0.0
        index = transforms.map_points(points, affine=to_index @ matrix(parameters)).T
        moved = ndimage.map_coordinates(smooth.data, index, order=1, mode="grid-constant", prefilter=False)
        return -mutual_information(fixed, np.searchsorted(edges, moved))

    tries = [np.append(np.zeros(6), percent) for percent in _SCALES_PERCENT]
    # First steps: 5 degrees, 4 mm, 4 %.
    best = optimize.minimize(
        cost,
        min(tries, key=cost),
        method="Powell",
        options={"direc": np.diag([5.0, 5, 5, 4, 4, 4, 4]), "xtol": 0.02, "ftol": 1e-3, "maxfev": 300},
    )
    return matrix(best.x)


def _block_mean(image: Image, block_mm: float) -> Image:
    """Return means of blocks of voxels about so long along each axis, without what remains at the far ends."""
    size = np.maximum(np.round(block_mm / np.array(image.spacing_mm)).astype(int), 1)
    x, y, z = np.maximum(np.array(image.data.shape) // size, 1)
    i, j, k = size = np.minimum(size, image.data.shape)
    data = image.data[: x * i, : y * j, : z * k].reshape(x, i, y, j, z, k).mean(axis=(1, 3, 5), dtype=np.float32)
    affine = image.affine @ np.diag([*size, 1.0])
    affine[:3, 3] = transforms.map_points((size - 1) / 2, affine=image.affine)
    return Image(data, affine)


def _invert(found: Transform, grid: Grid, brain: Image) -> tuple[Warp, np.ndarray]:
    """Return warp (on a coarse grid of the head) and affine that take points of the head to points of the atlas."""
    inverse = transforms.invert(found.affine)
    coarse = canonical_grid(grid, spacing_mm=_INVERSE_MM)
    around = brain.like(grow_mask(brain.data, spacing_mm=brain.spacing_mm, grow_mm=_REACH_MM))
    near = transforms.apply(around, coarse, affine=inverse, interpolation="nearest").data > 0
    points = transforms.map_points(np.argwhere(near), affine=coarse.affine)
    there = transforms.unmap_points(points, affine=found.affine, warp=found.warp)
    vectors = np.zeros((*coarse.shape, 3), np.float32)
    vectors[near] = transforms.map_points(there, affine=found.affine) - points
    return Warp(vectors, coarse.affine), inverse


def _tidy(mask: np.ndarray) -> np.ndarray:
    """Keep the largest connected component and fill its holes."""
    components, count = label_components(mask, connectivity=6)
    if count > 1:
        mask = components == np.bincount(components.ravel())[1:].argmax() + 1
    return ndimage.binary_fill_holes(mask)


def _by_hd_bet(head: Image, *, weights: Path, device: str, threads: int) -> Image:
    """Run HD-BET's network in memory.

    HD-BET's own `hdbet_predict` goes through files: it starts twelve processes whatever it may use and deletes fixed
    names in a folder that jobs may share. Its predictor alone does neither.
    """
    torch_device = choose_device(device, setting="strip: device")
    import torch

    before = torch.get_num_threads()
    # Both talk on stdout about what a CPU cannot do.
    with _hd_bet_folder(weights) as folder, contextlib.redirect_stdout(io.StringIO()):
        try:
            predictor = _make_predictor(folder, torch_device)
            predictor.allow_tqdm = False
            torch.set_num_threads(int(threads))
            # nnU-Net's order is Z, Y, X.
            labels = predictor.predict_single_npy_array(
                np.ascontiguousarray(head.data.T[None], np.float32), {"spacing": list(head.spacing_mm[::-1])}
            )
        finally:
            torch.set_num_threads(before)
    return Image(_tidy(np.ascontiguousarray(labels.T) > 0), head.affine)


def _make_predictor(folder: Path, device: torch.device) -> nnUNetPredictor:
    """Return HD-BET's predictor with its weights from `folder`.

    Mirroring is off, on any device alike: eight times the time for "a slight" gain, as HD-BET's own help says.
    """
    stdout = sys.stdout
    try:
        from HD_BET import hd_bet_prediction
    except ImportError as err:
        raise InputError(
            "strip: method",
            found=f"hd-bet, and no HD-BET in this environment ({err})",
            expected="HD_BET 2",
            advice="pip install HD_BET, or set strip: method to deepbet.",
            reason=Reason.NOT_INSTALLED,
        ) from err
    finally:
        # Importing it replaces sys.stdout.
        sys.stdout = stdout
    there = hd_bet_prediction.folder_with_parameter_files
    hd_bet_prediction.folder_with_parameter_files = str(folder)
    try:
        return hd_bet_prediction.get_hdbet_predictor(use_tta=False, device=device)
    finally:
        hd_bet_prediction.folder_with_parameter_files = there


@contextlib.contextmanager
def _hd_bet_folder(weights: Path) -> Iterator[Path]:
    """Yield the parameter folder of HD-BET; a zip is unpacked for the while, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="hd-bet-") as scratch:
        folder = weights
        if weights.is_file() and zipfile.is_zipfile(weights):
            zipfile.ZipFile(weights).extractall(scratch)
            folder = Path(scratch)
        plans = sorted(folder.rglob("plans.json")) if folder.is_dir() else []
        if len(plans) != 1 or not (plans[0].parent / "fold_all" / "checkpoint_final.pth").is_file():
            raise InputError(
                f"strip: hd_bet_weights: {weights}",
                found="no plans.json with fold_all/checkpoint_final.pth" if weights.exists() else "nothing there",
                expected="the zip of HD-BET 2's release, or the folder it unpacks to",
                advice="Run `snakemake fetch` where there is network; nothing is downloaded inside a run.",
                reason=Reason.NO_WEIGHTS,
            )
        yield plans[0].parent


def _find_extracted(head: Image, settings: Settings) -> Image | None:
    """Return what is above 0 in a scan if that is a brain by its volume and by the atlas: others have extracted it."""
    inside = Image(head.data > 0, head.affine)
    low, high = settings.volume_fail_ml
    if not low <= _volume_ml(inside) <= high:
        return None
    inside = inside.like(_tidy(inside.data))
    return inside if atlas_fit(head, inside) >= settings.fit_fail else None


def _by_nonzero(head: Image) -> Image:
    """Take what is above 0; refuse a head."""
    inside = head.data > 0
    border = np.ones(inside.shape, bool)
    border[1:-1, 1:-1, 1:-1] = False
    share, at_border = inside.mean(), inside[border].mean()
    if share > _MAX_NONZERO or at_border > _MAX_BORDER:
        raise InputError(
            head.path or "scan",
            found=f"{share:.0%} of the voxels above 0, and {at_border:.0%} of those at the border: a head, not a brain",
            expected="an extracted brain, 0 outside (strip: method is nonzero)",
            advice="Set strip: method to deepbet, atlas or hd-bet.",
            reason=Reason.NOT_EXTRACTED,
        )
    return Image(_tidy(inside), head.affine)
