"""Training cases: phantom pairs, made to look like what the pipeline hands to a network, in nnU-Net's own format."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from mettrail.geometry import bounding_box, label_components
from mettrail.segmentation.model_folder import POST_CONTRAST, PRIOR, name_channels
from mettrail.segmentation.normalisation import z_scores
from mettrail.segmentation.prediction import to_nnunet
from mettrail.training.priors import PriorSettings, make_prior

CHANNELS = {"detection": (POST_CONTRAST,), "resegmentation": (POST_CONTRAST, PRIOR)}
LABELS = {"background": 0, "enhancing": 1, "edema": 2, "necrosis": 3}
CONFIGURATION = "3d_fullres"
# Smooth errors (bias, mask) vary over this length.
SMOOTH_MM = 25.0
MARGIN_VOX = 12
# What the brain's surface is coded as; 25 mm beyond it is 0.
_SURFACE, _STEPS_PER_MM = 100, 4


def dataset_name(task: str) -> str:
    """Name nnU-Net knows the task's data by."""
    return {"detection": "Dataset501_detection", "resegmentation": "Dataset502_resegmentation"}[task]


def make_dataset_json(task: str, *, cases: int) -> dict[str, Any]:
    """Return nnU-Net's dataset.json of a task."""
    return {
        "channel_names": name_channels(CHANNELS[task]),
        "labels": LABELS,
        "numTraining": cases,
        "file_ending": ".nii.gz",
        "name": dataset_name(task),
    }


def make_plans(
    task: str,
    *,
    features: list[int],
    convs_encoder: list[int],
    convs_decoder: list[int],
    patch: list[int],
    batch: int,
) -> dict[str, Any]:
    """Return nnU-Net plans of a small U-Net at 1 mm for a task."""
    return plan_network(
        unet_architecture(features, convs_encoder, convs_decoder),
        name=dataset_name(task),
        normalisation=["NoNormalization" if name == PRIOR else "ZScoreNormalization" for name in CHANNELS[task]],
        patch=patch,
        batch=batch,
    )


def plan_network(
    architecture: Mapping[str, Any],
    *,
    name: str,
    normalisation: Sequence[str],
    patch: Sequence[int],
    batch: int,
) -> dict[str, Any]:
    """Return nnU-Net plans of a network at 1 mm.

    Images are z-scored within the mask, the prior is not normalised. Written here instead of planned because nnU-Net's
    planner sizes networks for a GPU, and knows U-Nets alone.

    Parameters
    ----------
    architecture : mapping
        Of plans.json; see `architectures`.
    name : str
        Of the dataset.
    normalisation : sequence of str
        nnU-Net's, of each channel.
    patch : (Z, Y, X)
    batch : int
    """
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    return {
        "dataset_name": name,
        "plans_name": "mettrailPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [150, 180, 145],
        "image_reader_writer": "NibabelIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "mettrail",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(i): {} for i in range(len(normalisation))},
        "configurations": {
            CONFIGURATION: {
                "data_identifier": f"mettrailPlans_{CONFIGURATION}",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": batch,
                "patch_size": list(patch),
                "median_image_size_in_voxels": [150, 180, 145],
                "spacing": [1.0, 1.0, 1.0],
                "normalization_schemes": list(normalisation),
                "use_mask_for_norm": [scheme == "ZScoreNormalization" for scheme in normalisation],
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": resampling,
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
                "batch_dice": True,
                "architecture": dict(architecture),
            }
        },
    }


def unet_architecture(
    features: Sequence[int], convs_encoder: Sequence[int], convs_decoder: Sequence[int]
) -> dict[str, Any]:
    """Return nnU-Net's U-Net as plans.json describes it, with as many stages as `features`."""
    stages = len(features)
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": list(features),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * stages,
            "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
            "n_conv_per_stage": list(convs_encoder),
            "n_conv_per_stage_decoder": list(convs_decoder),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


@dataclass(frozen=True)
class LabelledScan:
    """One session as training sees it, before an imperfect pipeline has been at it.

    Parameters
    ----------
    image : (X, Y, Z) float32
        Post-contrast T1w, RAS, 1 mm, bias-corrected; with as much around the brain as there is.
    brain : (X, Y, Z) bool
    tissue : (X, Y, Z) uint8
        0 background, 1 enhancing, 2 edema, 3 necrosis.
    instances : (X, Y, Z) uint8
        Whole lesions (1 and 3), numbered.
    """

    image: np.ndarray
    brain: np.ndarray
    tissue: np.ndarray
    instances: np.ndarray


@dataclass(frozen=True)
class Imperfections:
    """What an imperfect pipeline leaves in a scan; see ``cases`` of config/train.yaml.

    Parameters
    ----------
    thick_prob : float
    thick_mm : (low, high)
        Share of sessions seen as if acquired in slices, and their thickness.
    bias : float
        Standard deviation of the logarithm of what bias correction leaves behind.
    grow_mm : (low, high)
        How far the mask reaches beyond the brain.
    mask_error_mm : float
        Standard deviation by which that varies from place to place.
    """

    thick_prob: float
    thick_mm: tuple[float, float]
    bias: float
    grow_mm: tuple[float, float]
    mask_error_mm: float


@dataclass(frozen=True)
class CasePlan:
    """How the cases of a task are made, and where they go.

    Parameters
    ----------
    task : str
    folder : Path
        Of preprocessed cases.
    validation_folder : Path
        Held-out sessions are kept here as arrays too, for lesion-level validation.
    plans : dict
        nnU-Net's.
    make_visits : function
        What a case is made from -> one or two visits on one grid.
    imperfections : Imperfections
    priors : PriorSettings
    locations_per_lesion : int
    bright_percentile : float
        See `patch_locations`.
    """

    task: str
    folder: Path
    validation_folder: Path
    plans: dict[str, Any]
    make_visits: Callable[[Any], list[LabelledScan]]
    imperfections: Imperfections
    priors: PriorSettings
    locations_per_lesion: int
    bright_percentile: float


@dataclass(frozen=True)
class Case:
    """One session as networks see it.

    Parameters
    ----------
    image : (X, Y, Z) float32
        0 outside the mask.
    mask : (X, Y, Z) bool
    tissue, instances : (X, Y, Z) uint8
    head : (X, Y, Z) float32
        The image before it was stripped.
    beyond : (X, Y, Z) float
        mm beyond the brain's surface, negative within.
    """

    image: np.ndarray
    mask: np.ndarray
    tissue: np.ndarray
    instances: np.ndarray
    head: np.ndarray
    beyond: np.ndarray


def write_cases(names: Sequence[tuple[str, object]], plan: CasePlan) -> None:
    """Write the visits of simulated and real heads as cases of a task; what exists already is left as it is.

    Parameters
    ----------
    names : list of (str, key)
        Case name (``train0007``, ``val0001``) and what `CasePlan.make_visits` makes it from.
    plan : CasePlan
    """
    for name, key in names:
        held_out = name.startswith("val")
        # Written last of all.
        if (plan.folder / f"{name}a.pkl").exists() and (
            not held_out or (plan.validation_folder / f"{name}a.npz").exists()
        ):
            continue
        rng = np.random.default_rng([zlib.crc32(name.encode()), 7])
        sessions = perturb(plan.make_visits(key), rng=rng, imperfections=plan.imperfections)
        for letter, this, other in reversed(list(zip("ab", sessions, sessions[::-1]))):
            # The second session's past is the first; for the first, time runs backwards: growth becomes response.
            prior = make_prior(other.instances, this.instances, this.mask, rng=rng, settings=plan.priors)
            if held_out:
                _save_arrays(plan.validation_folder / f"{name}{letter}.npz", this, other, prior)
            _write_case(plan.folder / f"{name}{letter}", this, prior, plan=plan, rng=rng)


def perturb(visits: list[LabelledScan], *, rng: np.random.Generator, imperfections: Imperfections) -> list[Case]:
    """Turn visits into what networks see: stripped by an imperfect mask, bias left over, maybe thick slices."""
    given = imperfections
    box = bounding_box(np.logical_or.reduce([visit.brain for visit in visits]), margin_vox=MARGIN_VOX)
    sessions = []
    for visit in visits:
        image = visit.image[box].astype(np.float32)
        if rng.random() < given.thick_prob:
            image = thicken(image, axis=int(rng.integers(3)), thick_mm=rng.uniform(*given.thick_mm))
        image = image * np.exp(given.bias * smooth_noise(image.shape, rng)).astype(np.float32)
        near = rng.uniform(*given.grow_mm) + given.mask_error_mm * smooth_noise(image.shape, rng)
        beyond = distance_mm(visit.brain[box])
        mask = beyond <= near
        sessions.append(
            Case(
                image=np.where(mask, image, 0).astype(np.float32),
                mask=mask,
                tissue=visit.tissue[box],
                instances=visit.instances[box],
                head=image.astype(np.float32),
                beyond=beyond,
            )
        )
    return sessions


def _write_case(path: Path, case: Case, prior: np.ndarray, *, plan: CasePlan, rng: np.random.Generator) -> None:
    """Save one case in nnU-Net's format, with our own places for patches.

    It is normalised within its mask as nnU-Net does it, but not cropped to it: each patch is stripped anew
    (`trainer.StripAnew`), for which the labels have a second channel, `code_surface`.
    """
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    configuration = PlansManager(plan.plans).get_configuration(CONFIGURATION)
    head, mask = case.head, case.mask
    # Where nothing was scanned, or somebody has stripped it already.
    nothing: np.ndarray = (head == 0) & ~mask
    channels = [np.where(nothing, 0, z_scores(head, mask))] + ([prior] if plan.task == "resegmentation" else [])
    data = np.stack([to_nnunet(c) for c in channels]).astype(np.float32)
    seg = np.stack([to_nnunet(a) for a in (case.tissue, code_surface(case.beyond, nothing))]).astype(np.int16)
    places = patch_locations(
        data,
        np.where(to_nnunet(mask), seg[0], -1),
        to_nnunet(case.instances),
        rng=rng,
        per_lesion=plan.locations_per_lesion,
        bright_percentile=plan.bright_percentile,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in (path.with_suffix(".b2nd"), path.parent / f"{path.name}_seg.b2nd"):
        stale.unlink(missing_ok=True)
    blocks, chunks = comp_blosc2_params(data.shape, tuple(configuration.patch_size), data.itemsize)
    blocks_seg, chunks_seg = comp_blosc2_params(seg.shape, tuple(configuration.patch_size), seg.itemsize)
    # nnU-Net writes the .pkl last: its presence says that the case is whole.
    nnUNetDatasetBlosc2.save_case(
        data,
        seg,
        {"class_locations": places},
        str(path),
        chunks=chunks,
        blocks=blocks,
        chunks_seg=chunks_seg,
        blocks_seg=blocks_seg,
    )


def code_surface(beyond_mm: np.ndarray, nothing: np.ndarray) -> np.ndarray:
    """Turn mm beyond the brain's surface into whole numbers that survive nnU-Net's padding with -1.

    Parameters
    ----------
    beyond_mm : (X, Y, Z) float
    nothing : (X, Y, Z) bool
        Where there is no image.

    Returns
    -------
    (X, Y, Z) int16
        -1 where there is nothing, else 0 or more: the higher, the deeper; see `read_surface`.

    Examples
    --------
    >>> read_surface(code_surface(np.array([-3.0, 8.25, 900.0]), np.array([False, False, True]))).tolist()
    [-3.0, 8.25, inf]
    """
    code = np.clip(np.rint(_SURFACE - _STEPS_PER_MM * beyond_mm), 0, 1000)
    return np.where(nothing, -1, code).astype(np.int16)


def read_surface(code: np.ndarray) -> np.ndarray:
    """Return mm beyond the brain's surface, infinite where there is nothing; see `code_surface`."""
    return np.where(code < 0, np.inf, (_SURFACE - code) / np.float32(_STEPS_PER_MM)).astype(np.float32)


def patch_locations(
    data: np.ndarray,
    seg: np.ndarray,
    instances: np.ndarray,
    *,
    rng: np.random.Generator,
    per_lesion: int,
    bright_percentile: float,
) -> dict[int | str, np.ndarray]:
    """Say where nnU-Net's loader may centre patches: it draws a key first, then a place of that key.

    A place per voxel, as nnU-Net does it, would hardly ever show small lesions: here every lesion has the same number.
    Beside the labels there are two more keys: what is bright and no lesion (vessels, dura, plexus), and priors.

    Parameters
    ----------
    data : (C, Z, Y, X) float
        Preprocessed channels, the image first, a prior second if any.
    seg : (Z, Y, X) int
        Labels, -1 outside the mask.
    instances : (Z, Y, X) unsigned int

    Returns
    -------
    dict
        key -> (n, 4) int, first column 0.
    """
    places: dict[int | str, np.ndarray] = {}

    def take(where: np.ndarray, count: int) -> np.ndarray:
        found = np.argwhere(where)
        return found[rng.integers(0, len(found), count)] if len(found) else found

    for label in (1, 2, 3):
        if label == 2:
            found = [take(seg == 2, 4 * per_lesion)]
        else:
            numbers = [n for n in np.unique(instances[seg == label]) if n > 0]
            found = [take((seg == label) & (instances == n), per_lesion) for n in numbers]
        places[label] = np.concatenate(found) if found else np.zeros((0, 3), int)
    inside = seg >= 0
    level = np.percentile(data[0][inside], bright_percentile)
    near = ndimage.binary_dilation(seg > 0, iterations=3)
    places["bright"] = take(inside & ~near & (data[0] > level), 10 * per_lesion)
    if len(data) > 1:
        numbered, count = label_components(data[1] > 0, connectivity=6)
        found = [take(numbered == n, per_lesion) for n in range(1, count + 1)]
        places["prior"] = np.concatenate(found) if found else np.zeros((0, 3), int)
    return {key: np.insert(value, 0, 0, axis=1) for key, value in places.items()}


def _save_arrays(path: Path, case: Case, other: Case, prior: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"part-{os.getpid()}-{path.name}")
    kept = {name: getattr(case, name) for name in ("image", "mask", "tissue", "instances")}
    np.savez_compressed(partial, previous=other.instances, prior=prior, **kept)
    partial.replace(path)


def thicken(image: np.ndarray, *, axis: int, thick_mm: float) -> np.ndarray:
    """See the image as slices of this thickness, interpolated back to 1 mm."""
    smooth = ndimage.gaussian_filter1d(image, thick_mm / 2.355, axis=axis)
    count = image.shape[axis]
    slices = np.arange(0, count - 1 + 1e-6, thick_mm)
    matrix = _hats(np.arange(count) / thick_mm, len(slices)) @ _hats(slices, count)
    return np.moveaxis(np.tensordot(matrix.astype(np.float32), smooth, axes=(1, axis)), 0, axis)


def _hats(positions: np.ndarray, count: int) -> np.ndarray:
    """Return the (positions, count) matrix of linear interpolation between equidistant values, constant beyond them."""
    at = np.clip(positions, 0, count - 1)
    weights: np.ndarray = np.maximum(1 - np.abs(at[:, None] - np.arange(count)), 0)
    return weights


def smooth_noise(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return smooth noise of mean 0 and standard deviation 1 at its knots."""
    return _upsample(rng.normal(size=[int(np.ceil(n / SMOOTH_MM)) + 2 for n in shape]), shape)


def distance_mm(mask: np.ndarray) -> np.ndarray:
    """Return the distance to a mask's surface, negative inside; worked out on every other voxel, to 1 mm or so."""
    coarse = mask[::2, ::2, ::2]
    distance = ndimage.distance_transform_edt(~coarse) - ndimage.distance_transform_edt(coarse)
    return _upsample(2 * distance, mask.shape)


def _upsample(coarse: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Stretch an array over a larger one, linearly, axis by axis."""
    fine = coarse.astype(np.float32)
    for axis, count in enumerate(shape):
        matrix = _hats(np.linspace(0, coarse.shape[axis] - 1, count), coarse.shape[axis]).astype(np.float32)
        fine = np.moveaxis(np.tensordot(matrix, fine, axes=(1, axis)), 0, axis)
    return fine
