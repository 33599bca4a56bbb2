"""Class probabilities of one session from one model, through nnU-Net's own preprocessing and sliding window."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from mettrail.devices import choose_device, has_bfloat16
from mettrail.errors import InputError
from mettrail.geometry import bounding_box
from mettrail.images import TISSUE_LABELS
from mettrail.reasons import Reason
from mettrail.segmentation.model_folder import PRIOR, PRIOR_IMAGE
from mettrail.segmentation.models import Model
from mettrail.segmentation.normalisation import SLICE_EQUALISATION, equalise_slices, limit_brightness
from mettrail.segmentation.thresholds import apply_threshold

if TYPE_CHECKING:
    import torch

# Distance between neighbouring tiles as a share of the tile: with 0.75, lesions at tiles' edges were lost.
TILE_STEP = 0.5
# Arrays reach nnU-Net as its file readers give them, (channel, Z, Y, X): left and right are the last axis.
LEFT_RIGHT_AXIS = 2


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
        input ``brain``), ``prior`` as a binary mask (label 1 or 3 of the prior visit). More than the model
        needs is no harm; zeros stand for an optional channel that is missing.
    within : (X, Y, Z) bool, optional
        The brain mask, grown as it was for the images (`geometry.grow_mask`): beyond it everything is background.
        Wherever an image is not 0 when omitted.
    device : str
        ``cpu``, ``cuda`` or ``auto`` (cuda where there is one).
    threads : int
        Cores to use on the CPU.
    mirror : bool, optional
        Average over flips of the model's ``mirror_axes``, at eight times the cost for three of them. When omitted, over
        all of them on a GPU, on a CPU left to right alone.

    Returns
    -------
    (X, Y, Z, 5) float32
        Background, enhancing, edema, necrosis, cavity; they sum to 1. Whole lesion (1 + 3) is called from 0.5 on,
        whatever the model's own threshold; see `apply_threshold`.

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
    model.require_channels(channels)
    nothing = np.zeros(np.shape(next(iter(channels.values()))), np.float32)
    arrays = [np.asarray(channels.get(name, nothing), np.float32) for name in model.channels]
    _check_arrays(model, arrays, within)
    probabilities = np.zeros((*arrays[0].shape, len(TISSUE_LABELS)), np.float32)
    probabilities[..., 0] = 1
    # nnU-Net crops to what is not zero in any channel; a prior beyond the images must not widen that.
    seen = np.logical_or.reduce([a != 0 for name, a in zip(model.channels, arrays) if name not in (PRIOR, PRIOR_IMAGE)])
    if within is not None and model.input == "brain":
        seen &= within
    if not seen.any():
        return probabilities
    box = bounding_box(seen)
    seen = seen[box]
    arrays = [limit_brightness(np.where(seen, a[box], 0)) for a in arrays]
    arrays = [
        equalise_slices(a) if scheme == SLICE_EQUALISATION else a
        for a, scheme in zip(arrays, model.description["normalisation"])
    ]
    # Holes are dark tissue that happens to be exactly 0.
    inside = ndimage.binary_fill_holes(seen)
    if within is not None:
        inside &= within[box]

    predicted = _predict_box(model, arrays, device=device, threads=threads, mirror=mirror)
    found = probabilities[box]
    # Models may name fewer classes.
    found[inside, 0] = 0
    for output, label in enumerate(model.classes):
        found[..., label][inside] = from_nnunet(predicted[output])[inside]
    probabilities[box] = apply_threshold(
        found,
        threshold=model.threshold,
        min_component_score=model.min_component_score,
        prior_mask=arrays[model.channels.index(PRIOR)] > 0 if PRIOR in model.channels else None,
    )
    return probabilities


def to_nnunet(array: np.ndarray) -> np.ndarray:
    """Turn (X, Y, Z) into (Z, Y, X), the order of nnU-Net's readers: models trained on NIfTI files fit as they are."""
    return np.ascontiguousarray(array.transpose(2, 1, 0))


def from_nnunet(array: np.ndarray) -> np.ndarray:
    """Turn (..., Z, Y, X) back into (..., X, Y, Z)."""
    return array.transpose(*range(array.ndim - 3), -1, -2, -3)


def _predict_box(
    model: Model, arrays: list[np.ndarray], *, device: str, threads: int, mirror: bool | None
) -> np.ndarray:
    """Return (outputs, Z, Y, X) probabilities of (X, Y, Z) channels that are 0 where nothing is to be seen."""
    import torch
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = copy.deepcopy(model.plans)
    plans["configurations"][model.configuration]["patch_size"] = list(model.tile)
    manager = PlansManager(plans)
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
        where = choose_device(device, setting="segment: device")
        predictor = _prepare_predictor(model, manager, configuration, where, mirror=mirror)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16(where)):
            logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data)).float()
        probabilities: np.ndarray
        _, probabilities = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits,
            manager,
            configuration,
            manager.get_label_manager(model.dataset),
            properties,
            return_probabilities=True,
            num_threads_torch=torch.get_num_threads(),
        )
    finally:
        torch.set_num_threads(before)
    return probabilities


def _prepare_predictor(
    model: Model, manager: Any, configuration: Any, device: torch.device, *, mirror: bool | None
) -> Any:
    """Return a predictor with the model's networks."""
    from mettrail.segmentation.predictors import predictor_for

    network = model.build_network()
    axes = model.mirror_axes if mirror is not False else ()
    if mirror is None and device.type == "cpu":
        axes = tuple(axis for axis in axes if axis == LEFT_RIGHT_AXIS)
    # It announces on stdout what it will not do on a CPU.
    with contextlib.redirect_stdout(io.StringIO()):
        predictor = predictor_for(network)(
            tile_step_size=TILE_STEP,
            use_gaussian=True,
            use_mirroring=bool(axes),
            perform_everything_on_device=device.type == "cuda",
            device=device,
            allow_tqdm=False,
        )
    if device.type == "cpu" and not has_bfloat16(device):
        use_onednn(network)
    predictor.manual_initialization(
        network, manager, configuration, model.read_weights(), model.dataset, "nnUNetTrainer", axes or None
    )
    return predictor


def use_onednn(network: torch.nn.Module) -> None:
    """Have 3-D convolutions in single precision run by oneDNN, whatever their size; the results are the same.

    For a single image with few channels torch chooses a convolution of its own, which takes twice as long.
    """
    import torch

    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    for module in network.modules():
        if type(module) is torch.nn.Conv3d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            vars(module)["forward"] = functools.partial(_convolve, module, module.padding)


def _convolve(layer: torch.nn.Conv3d, padding: tuple[int, ...], x: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.mkldnn_convolution(x, layer.weight, layer.bias, padding, layer.stride, layer.dilation, layer.groups)


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
                expected="a binary mask: label 1 or 3 of the prior visit",
                advice="Threshold the labels, and resample them with nearest neighbour.",
                reason=Reason.BAD_LABELS,
            )
