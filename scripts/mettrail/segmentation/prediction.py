"""Class probabilities of one session from one model, through nnU-Net's own preprocessing and sliding window."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from mettrail.devices import choose_device, has_bfloat16
from mettrail.errors import InputError
from mettrail.geometry import bounding_box, label_components, whole_lesion
from mettrail.reasons import Reason
from mettrail.segmentation.cases import from_nnunet, to_nnunet
from mettrail.segmentation.models import PRIOR, Model, build_network, read_weights, require_channels

# What so many steps across faces of voxels lead to from the prior is at a known lesion: across corners, less far than a
# distance in mm (`segment.fusion.touch_mm`). The thresholds of the models were chosen with it.
KNOWN_VOX = 3
# Where a piece is weighed again, beside the model's own threshold.
LEVELS = (0.5, 0.7, 0.85)
# Of a larger piece its surest millilitre is weighed: what only resembles a lesion seldom is as large and as sure.
WEIGHED_VOX = 1000
# Distance between neighbouring tiles as a share of the tile: with 0.75, lesions at tiles' edges were lost.
TILE_STEP = 0.5


def predict_probabilities(
    model: Model,
    channels: dict[str, np.ndarray],
    *,
    within: np.ndarray | None,
    device: str,
    threads: int,
    mirror: bool | None = None,
) -> np.ndarray:
    """Return the probability of each class in each voxel.

    Parameters
    ----------
    model : Model
    channels : name -> (X, Y, Z) array
        RAS, 1 mm, one grid: images as they are in the working folder (0 outside the grown brain mask for a model with
        input ``brain``), ``prior`` as a binary mask (label 1 or 3 of the last visit). More than the model
        needs is no harm; zeros stand for an optional channel that is missing.
    within : (X, Y, Z) bool, optional
        The brain mask, grown as it was for the images (`geometry.grow_mask`): beyond it everything is background.
        Wherever an image is not 0 when omitted.
    device : str
        ``cpu``, ``cuda`` or ``auto`` (cuda where there is one).
    threads : int
        Cores to use on the CPU.
    mirror : bool, optional
        Average over flips of the model's ``mirror_axes``, at eight times the cost for three of them. When omitted, on a
        GPU only.

    Returns
    -------
    (X, Y, Z, 4) float32
        Background, enhancing, edema, necrosis; they sum to 1. Whole lesion (1 + 3) is called from 0.5 on, whatever the
        model's own threshold; see `settle`.

    Raises
    ------
    ModelError
        A channel is missing.
    InputError
        Arrays of different shapes, or a prior that is not binary.

    Notes
    -----
    Convolutions are computed in bfloat16 on CPUs made for it, in single precision on others; probabilities of the
    shipped networks differ by about 0.01.
    """
    import torch
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    require_channels(model, channels)
    nothing = np.zeros(np.shape(next(iter(channels.values()))), np.float32)
    arrays = [np.asarray(channels.get(name, nothing), np.float32) for name in model.channels]
    _check_arrays(model, arrays, within)
    probabilities = np.zeros((*arrays[0].shape, 4), np.float32)
    probabilities[..., 0] = 1
    # nnU-Net crops to what is not zero in any channel; a prior beyond the images must not widen that.
    seen = np.logical_or.reduce([a != 0 for name, a in zip(model.channels, arrays) if name != PRIOR])
    if within is not None and model.input == "brain":
        seen &= within
    if not seen.any():
        return probabilities
    box = bounding_box(seen)
    seen = seen[box]
    arrays = [np.where(seen, a[box], 0) for a in arrays]
    # Holes are dark tissue that happens to be exactly 0.
    inside = ndimage.binary_fill_holes(seen)
    if within is not None:
        inside &= within[box]

    manager = PlansManager(_plans_with_tile(model))
    configuration = manager.get_configuration(model.configuration)
    data, _, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        np.stack([to_nnunet(a) for a in arrays]),
        None,
        {"spacing": [1.0, 1.0, 1.0]},
        manager,
        configuration,
        model.dataset,
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        predicted = _run(
            model, data, properties, manager, configuration, choose_device(device, setting="segment: device"), mirror
        )
    finally:
        torch.set_num_threads(before)
    within = probabilities[box]
    # Models may name fewer classes than four.
    within[inside, 0] = 0
    for output, label in enumerate(model.classes):
        within[..., label][inside] = from_nnunet(predicted[output])[inside]
    known = arrays[model.channels.index(PRIOR)] > 0 if PRIOR in model.channels else None
    probabilities[box] = settle(within, threshold=model.threshold, confidence=model.confidence, known=known)
    return probabilities


def settle(
    probabilities: np.ndarray, *, threshold: float, confidence: float, known: np.ndarray | None = None
) -> np.ndarray:
    """Apply a model's threshold and confidence, so that whole lesion is what reaches 0.5.

    Parameters
    ----------
    probabilities : (X, Y, Z, 4) float
    threshold : float
        Probability of whole lesion from which a voxel is one.
    confidence : float
        Voxels of less conviction (`weigh_voxels`) are held below the threshold: vessels and noise are seldom called
        with conviction, lesions are.
    known : (X, Y, Z) bool, optional
        Lesions of the last visit, where they lie now: pieces within 3 voxels of them need no conviction, having been
        seen before.

    Returns
    -------
    (X, Y, Z, 4) float32
    """
    whole = whole_lesion(probabilities)
    if confidence > 0:
        doubtful = (whole >= threshold) & (weigh_voxels(whole, threshold=threshold, known=known) < confidence)
        kept = np.where(doubtful, 0.98 * threshold / np.maximum(whole, 1e-12), 1).astype(np.float32)
        probabilities = probabilities.copy()
        probabilities[..., 1] *= kept
        probabilities[..., 3] *= kept
        probabilities[..., 0] += whole * (1 - kept)
    return recentre(probabilities, threshold=threshold)


def weigh_voxels(whole: np.ndarray, *, threshold: float, known: np.ndarray | None = None) -> np.ndarray:
    """Return with how much conviction each voxel is called a lesion.

    It is the mean probability of the connected piece (26 neighbours) that the voxel belongs to, or of its surest 1 mL.
    A clear lesion that touches something doubtful must not be lost with it: pieces of what reaches a higher level are
    weighed as well, by where their mean lies between that level and 1, which is brought to the scale of the threshold.
    The highest counts.

    Parameters
    ----------
    whole : (X, Y, Z) float
        Probability of whole lesion.
    threshold : float
        From here on a voxel is called.
    known : (X, Y, Z) bool, optional
        As for `settle`: of pieces within 3 voxels the conviction is infinite.

    Returns
    -------
    (X, Y, Z) float32
        0 below the threshold.

    Examples
    --------
    A clear lesion of 27 voxels in a doubtful surrounding, which has not its conviction:

    >>> whole = np.full((9, 9, 9), 0.4)
    >>> whole[3:6, 3:6, 3:6] = 0.95
    >>> conviction = weigh_voxels(whole, threshold=0.3)
    >>> [round(float(c), 2) for c in (conviction[0, 0, 0], conviction[4, 4, 4])]
    [0.42, 0.93]
    """
    conviction = np.zeros(whole.shape, np.float32)
    for level in (threshold, *(level for level in LEVELS if level > threshold)):
        pieces, count = label_components(whole >= level)
        if count == 0:
            break
        numbers = np.arange(1, count + 1)
        means = ndimage.labeled_comprehension(whole, pieces, numbers, _mean_of_surest, np.float64, 0)
        scaled = 1 - (1 - np.r_[1.0, means]) * (1 - threshold) / (1 - level)
        if level == threshold and known is not None and known.any():
            scaled[np.unique(pieces[ndimage.binary_dilation(known, iterations=KNOWN_VOX)])] = np.inf
        scaled[0] = 0
        np.maximum(conviction, scaled[pieces], out=conviction)
    return conviction


def _mean_of_surest(probabilities: np.ndarray) -> float:
    count = min(WEIGHED_VOX, len(probabilities))
    return np.partition(probabilities, -count)[-count:].mean()


def recentre(probabilities: np.ndarray, *, threshold: float) -> np.ndarray:
    """Shift the odds of whole lesion so that `threshold` comes to lie at 0.5; proportions within and without stay.

    Parameters
    ----------
    probabilities : (..., 4) float
    threshold : float
        Between 0 and 1.

    Examples
    --------
    >>> recentre(np.array([0.7, 0.2, 0.0, 0.1]), threshold=0.3).round(3).tolist()
    [0.5, 0.333, 0.0, 0.167]
    """
    if threshold == 0.5:
        return probabilities
    whole = whole_lesion(probabilities)
    rest = 1 - whole
    shifted = whole * (1 - threshold) / np.maximum(whole * (1 - threshold) + rest * threshold, 1e-12)
    out = np.empty_like(probabilities)
    for label in (1, 3):
        out[..., label] = probabilities[..., label] * shifted / np.maximum(whole, 1e-12)
    for label in (0, 2):
        out[..., label] = probabilities[..., label] * (1 - shifted) / np.maximum(rest, 1e-12)
    return out


def candidate_level(description: Mapping) -> float | None:
    """Return where a model's ``candidate_threshold`` lies in what it predicts, once its threshold lies at 0.5.

    Examples
    --------
    >>> round(candidate_level({"threshold": 0.6, "candidate_threshold": 0.3}), 3)
    0.222
    """
    lower, threshold = description.get("candidate_threshold"), description["threshold"]
    return None if lower is None else float(recentre(np.array([1 - lower, lower, 0.0, 0.0]), threshold=threshold)[1])


def _run(model: Model, data, properties, manager, configuration, device, mirror) -> np.ndarray:
    """Run nnU-Net's predictor; (outputs, Z, Y, X) probabilities on the grid that was preprocessed."""
    import torch
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    axes = model.mirror_axes if (device.type == "cuda" if mirror is None else mirror) else ()
    # It announces on stdout what it will not do on a CPU.
    with contextlib.redirect_stdout(io.StringIO()):
        predictor = nnUNetPredictor(
            tile_step_size=TILE_STEP,
            use_gaussian=True,
            use_mirroring=bool(axes),
            perform_everything_on_device=device.type == "cuda",
            device=device,
            allow_tqdm=False,
        )
    network = build_network(model)
    in_bfloat16 = has_bfloat16(device)
    if device.type == "cpu" and not in_bfloat16:
        _use_onednn(network)
    predictor.manual_initialization(
        network,
        manager,
        configuration,
        read_weights(model),
        model.dataset,
        "nnUNetTrainer",
        axes or None,
    )
    with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
        logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data)).float()
    _, probabilities = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits,
        manager,
        configuration,
        manager.get_label_manager(model.dataset),
        properties,
        return_probabilities=True,
        num_threads_torch=torch.get_num_threads(),
    )
    return probabilities


def _use_onednn(network) -> None:
    """Have 3-D convolutions in single precision run by oneDNN, whatever their size; the results are the same.

    For a single image with few channels torch chooses a convolution of its own, which takes twice as long.
    """
    import torch

    if not torch.backends.mkldnn.is_available():
        return

    def forward(self, x):
        return torch.mkldnn_convolution(
            x, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )

    for module in network.modules():
        if type(module) is torch.nn.Conv3d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            module.forward = forward.__get__(module)


def _plans_with_tile(model: Model) -> dict:
    plans = copy.deepcopy(model.plans)
    if model.tile:
        plans["configurations"][model.configuration]["patch_size"] = list(model.tile)
    return plans


def _check_arrays(model: Model, arrays: list[np.ndarray], within: np.ndarray | None) -> None:
    shapes = {a.shape for a in arrays} | ({within.shape} if within is not None else set())
    if len(shapes) > 1:
        raise InputError(
            f"channels of {model.folder}",
            found=f"shapes {', '.join(sorted('x'.join(map(str, s)) for s in shapes))}",
            expected="one grid",
            advice="Bring all images and the prior onto the session's 1 mm grid first.",
            reason=Reason.GRID_MISMATCH,
        )
    for name, array in zip(model.channels, arrays):
        if name == PRIOR and not np.isin(array, (0, 1)).all():
            raise InputError(
                f"prior for {model.folder}",
                found=f"values {np.unique(array)[:6].tolist()}",
                expected="a binary mask: label 1 or 3 of the last visit",
                advice="Threshold the labels, and resample them with nearest neighbour.",
                reason=Reason.BAD_LABELS,
            )
