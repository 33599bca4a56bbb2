"""The published methods: what goes in, which network, and how it is trained.

A method is a model folder in the making. Numbers are those of the papers, or of their authors' code where the paper is
silent; `Size` makes networks narrower and trainings shorter where there is no GPU.

Networks are imported within functions: the workflow reads this file at every start, and torch takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from mettrail.errors import InputError
from mettrail.reasons import Reason
from mettrail.segmentation.model_folder import IMAGES, POST_CONTRAST, PRIOR, PRIOR_IMAGE, lacking_channels
from mettrail.segmentation.normalisation import SLICE_EQUALISATION
from mettrail.training.cases import LABELS, unet_architecture
from mettrail.training.dataset import WHOLE

ANDREARCZYK, HUANG = "Andrearczyk et al. 2024", "Huang et al. 2022"
SADEGHEIH, GROVIK = "Sadegheih & Merhof 2024", "Grøvik et al. 2020"
# Short names of images, for the study of inputs.
SHORT = {POST_CONTRAST: "T1c", "T1w": "T1w", "T2w": "T2w", "FLAIR": "FLAIR"}
# Run with the weights of another: Sadegheih's segmenter, on every tile.
DERIVED = {"segmenter_alone": "two_stage"}
UNET_FEATURES = (32, 64, 128, 256, 320, 320)


@dataclass(frozen=True)
class Size:
    """How large a network is, and how long it is trained.

    Parameters
    ----------
    width : float
        Factor on all feature maps; 1 as published.
    patch_vox : int
        Side of what the network answers for in training.
    batch : int
    steps : int
    """

    width: float
    patch_vox: int
    batch: int
    steps: int


@dataclass(frozen=True)
class Part:
    """One training: of a whole network, or of one of its parts.

    Parameters
    ----------
    name : str
        Attribute of the network; "" is the network.
    loss, optimiser : str
        Of `fitting.LOSSES` and `fitting.OPTIMISERS`.
    size : Size
    patch : (Z, Y, X)
    lesions : float
        Share of patches that are centred on a lesion.
    turns : bool
        Flips and quarter turns in the axial plane; left and right alone are exchanged where it is False.
    alpha : float
        Of the loss `jvss`.
    """

    name: str
    loss: str
    optimiser: str
    size: Size
    patch: tuple[int, int, int]
    lesions: float
    turns: bool = False
    alpha: float = 0.5


@dataclass(frozen=True)
class Method:
    """A method to be trained.

    Parameters
    ----------
    name, paper : str
    channels : tuple of str
        See `segmentation.model_folder`.
    optional : tuple of str
        Channels for which zeros may stand.
    labels : mapping
        nnU-Net's, by name.
    architecture : mapping
        Of plans.json.
    parts : tuple of Part
    tile : (Z, Y, X)
        At inference.
    equalised : bool
        Slices have their histograms equalised; z-scores otherwise.
    youden : bool
        The threshold is chosen on the development patients; 0.5 otherwise.
    drop_prob : float
        Each channel is left out of a patch so often, but never all of them.
    seed : int
        Added to that of the comparison.
    """

    name: str
    paper: str
    channels: tuple[str, ...]
    labels: Mapping[str, int]
    architecture: Mapping[str, Any]
    parts: tuple[Part, ...]
    tile: tuple[int, int, int]
    optional: tuple[str, ...] = ()
    equalised: bool = False
    youden: bool = False
    drop_prob: float = 0.0
    seed: int = 0

    @property
    def task(self) -> str:
        """What mettrail.json calls it."""
        return "resegmentation" if PRIOR in self.channels else "detection"

    @property
    def normalisation(self) -> list[str]:
        """Return the normalisation of each channel."""
        images = SLICE_EQUALISATION if self.equalised else "ZScoreNormalization"
        return ["NoNormalization" if name == PRIOR else images for name in self.channels]


@dataclass(frozen=True)
class Sizes:
    """Of each kind of network; see ``compare`` of config/config.yaml."""

    unet: Size
    deepmedic: Size
    detector: Size
    segmenter: Size
    googlenet: Size
    inputs: Size
    input_seeds: int
    two_stage_channels: tuple[str, ...]
    drop_prob: float
    alphas: tuple[float, ...]


def read_sizes(settings: Mapping[str, Any]) -> Sizes:
    """Return what ``compare`` of the configuration says about networks."""
    return Sizes(
        **{name: Size(**size) for name, size in settings["sizes"].items()},
        input_seeds=settings["input_seeds"],
        two_stage_channels=tuple(settings["two_stage_channels"]),
        drop_prob=settings["drop_prob"],
        alphas=tuple(settings["alphas"]),
    )


def list_methods(sizes: Sizes, *, sequences: Sequence[str]) -> dict[str, Method]:
    """Return all methods by name, and the networks of the study of inputs.

    Parameters
    ----------
    sizes : Sizes
    sequences : sequence of str
        Images of the cohort: of these the study of inputs takes every combination.
    """
    found = [
        *_unets(sizes.unet),
        *_deepmedics(sizes.deepmedic, sizes.alphas),
        _two_stage(sizes),
        _googlenet(sizes),
        *_input_study(sizes, sequences),
    ]
    return {method.name: method for method in found}


def choose_methods(known: Mapping[str, Method], asked: Iterable[str], *, sequences: Sequence[str]) -> list[Method]:
    """Return the methods asked for, or all of them; refuse what the cohort cannot train.

    Raises
    ------
    InputError
        A method nobody knows, or one that needs a sequence that the cohort does not have.
    """
    asked = list(asked)
    strange = [name for name in asked if name not in known]
    if strange:
        raise InputError(
            "config: compare.methods",
            found=", ".join(strange),
            expected=f"some of {', '.join(known)}",
            advice="Correct the names.",
            reason=Reason.BAD_SETTINGS,
        )
    chosen = [known[name] for name in asked] if asked else list(known.values())
    for method in chosen:
        needs = {"channels": method.channels, "optional_channels": method.optional}
        lacking = lacking_channels(needs, [*sequences, PRIOR])
        if lacking:
            raise InputError(
                f"config: compare.methods: {method.name}",
                found=f"no session with {', '.join(lacking)}",
                expected=f"{', '.join(method.channels)} in the sessions with masks",
                advice="Add the sequence to the dataset, or leave this method out of compare.methods.",
                reason=Reason.MISSING_CHANNEL,
            )
    return chosen


def _unets(size: Size) -> Iterator[Method]:
    """Andrearczyk's tasks 1.2 and 2.2, each with and without T2w, which a session may lack."""
    patch = (size.patch_vox,) * 3
    # nnU-Net asks for a third; of its batch of two that is one.
    part = Part("", "dice_ce", "sgd", size, patch, lesions=0.5)
    stages = min(len(UNET_FEATURES), size.patch_vox.bit_length() - 2)
    architecture = unet_architecture(
        [_scaled(count, size.width) for count in UNET_FEATURES[:stages]], [2] * stages, [2] * (stages - 1)
    )
    for prior in ((), (PRIOR,)):
        for second in ((), ("T2w",)):
            name = "unet" + ("_prior" if prior else "") + ("_t2w" if second else "")
            channels = (POST_CONTRAST, *second, *prior)
            yield Method(name, ANDREARCZYK, channels, LABELS, architecture, (part,), patch, optional=second)


def _deepmedics(size: Size, alphas: Sequence[float]) -> Iterator[Method]:
    """Huang's network without the prior image, with it as a channel, with a path for it by weight of sensitivity."""
    from mettrail.networks import deepmedic

    patch = (size.patch_vox,) * 3
    plain: tuple[str, ...] = (POST_CONTRAST,)
    other = (*plain, PRIOR_IMAGE)
    kinds: list[tuple[str, tuple[str, ...], int | None, float]] = [
        ("deepmedic", plain, None, alphas[-1]),
        ("deepmedic_channel", other, None, alphas[-1]),
    ]
    kinds += [(f"deepmedic_plus_{alpha:g}", other, 1, alpha) for alpha in alphas]
    for name, channels, path, alpha in kinds:
        arguments = {
            "features": [_scaled(count, size.width) for count in deepmedic.FEATURES],
            "hidden": [_scaled(count, size.width) for count in deepmedic.HIDDEN],
            "prior_path": path,
        }
        part = Part("", "jvss", "rmsprop", size, patch, lesions=0.5, alpha=alpha)
        # Blocks of which the subsampled paths see whole voxels.
        yield Method(name, HUANG, channels, WHOLE, _named("DeepMedic", arguments), (part,), (45, 45, 45))


def _two_stage(sizes: Sizes) -> Method:
    from mettrail.networks import two_stage

    arguments = {
        "detector_features": max(8, 2 * round(32 * sizes.detector.width)),
        "features": [_scaled(count, sizes.segmenter.width) for count in two_stage.FEATURES],
    }
    tile = (sizes.segmenter.patch_vox,) * 3
    if sizes.detector.patch_vox != sizes.segmenter.patch_vox:
        raise InputError(
            "config: compare.sizes",
            found=f"patches of {sizes.detector.patch_vox} and {sizes.segmenter.patch_vox} voxels",
            expected="one side for detector and segmenter: what the one finds, the other segments",
            advice="Correct patch_vox.",
            reason=Reason.BAD_SETTINGS,
        )
    parts = (
        Part("detector", "bce", "adam_cosine", sizes.detector, tile, lesions=0.5),
        Part("segmenter", "dice_bce", "sgd", sizes.segmenter, tile, lesions=1.0),
    )
    architecture = _named("TwoStage", arguments)
    return Method("two_stage", SADEGHEIH, tuple(sizes.two_stage_channels), LABELS, architecture, parts, tile)


def _googlenet(sizes: Sizes) -> Method:
    from mettrail.networks import googlenet

    size = sizes.googlenet
    part = Part("", "weighted_bce", "adam", size, (1, size.patch_vox, size.patch_vox), lesions=0.5, turns=True)
    return Method(
        "googlenet",
        GROVIK,
        (POST_CONTRAST, "T1w", "T2w", "FLAIR"),
        WHOLE,
        _named("GoogLeNet25d", {"slices": googlenet.SLICES, "width": size.width}),
        (part,),
        # Whole slices, as many at once as memory is for.
        (8, 256, 256),
        equalised=True,
        youden=True,
        drop_prob=sizes.drop_prob,
    )


def _input_study(sizes: Sizes, sequences: Sequence[str]) -> Iterator[Method]:
    """One small U-Net on each combination of the images there are, several times."""
    size, images = sizes.inputs, [name for name in IMAGES if name in sequences]
    patch = (size.patch_vox,) * 3
    stages = min(4, size.patch_vox.bit_length() - 2)
    architecture = unet_architecture(
        [_scaled(count, size.width) for count in UNET_FEATURES[:stages]], [1] * stages, [1] * (stages - 1)
    )
    part = Part("", "dice_ce", "adam", size, patch, lesions=0.5)
    for count in range(1, len(images) + 1):
        for channels in combinations(images, count):
            for seed in range(sizes.input_seeds):
                name = f"{name_inputs(channels)}_seed{seed + 1}"
                yield Method(name, SADEGHEIH, channels, LABELS, architecture, (part,), patch, seed=seed)


def name_inputs(channels: Iterable[str]) -> str:
    """Name a combination of the study of inputs.

    Examples
    --------
    >>> name_inputs(["ce-gadolinium_T1w", "FLAIR"])
    'inputs_T1c-FLAIR'
    """
    return f"inputs_{'-'.join(SHORT[name] for name in channels)}"


def _named(network: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in arguments.items() if value is not None}
    return {"network_class_name": f"mettrail.{network}", "arch_kwargs": kept, "_kw_requires_import": []}


def _scaled(count: int, width: float) -> int:
    return max(4, round(count * width))
