"""Models: model folders (see `model_folder`) that have been read, with network and weights; and how one is written."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mettrail.errors import ModelError
from mettrail.images import CAVITY, EDEMA
from mettrail.reasons import Reason
from mettrail.segmentation import model_folder
from mettrail.segmentation.architectures import build_from_plans
from mettrail.segmentation.model_folder import CARD, COPY, DATASET, DESCRIPTION, LOG, PLANS, WEIGHTS

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Model:
    """A model folder that has been read and checked; the weights are read when it predicts.

    Parameters
    ----------
    folder : Path
    task : str
        ``detection``, ``resegmentation``, ``edema`` or ``cavity``.
    input : str
        ``brain``: the image is 0 outside the brain mask grown by 3 mm; ``head``: it is not.
    channels, optional_channels : tuple of str
        Images by BIDS name and ``prior``, in the network's order; those for which zeros may stand.
    classes : tuple of int
        Our label (0 background, 1 enhancing, 2 edema, 3 necrosis, 4 cavity) of each output of the network.
    configuration : str
    mirror_axes : tuple of int
    tile : tuple of int
        (Z, Y, X) voxels; see `model_folder.tile_size`.
    threshold, min_component_score : float
        See `thresholds.apply_threshold`.
    weight_files : tuple of Path
        One per network.
    plans, dataset, description : dict
        The three JSON files.
    """

    folder: Path
    task: str
    input: str
    channels: tuple[str, ...]
    optional_channels: tuple[str, ...]
    classes: tuple[int, ...]
    configuration: str
    mirror_axes: tuple[int, ...]
    tile: tuple[int, ...]
    threshold: float
    min_component_score: float
    weight_files: tuple[Path, ...]
    plans: dict[str, Any]
    dataset: dict[str, Any]
    description: dict[str, Any]

    def require_channels(self, available: Iterable[str]) -> None:
        """Refuse a session that lacks what the model was trained on; only optional channels may be missing.

        Parameters
        ----------
        available : iterable of str
            Images of the session by BIDS name, and ``prior`` where there is one.

        Raises
        ------
        ModelError
        """
        available = sorted(available)
        missing = model_folder.lacking_channels(self.description, available)
        if missing:
            raise ModelError(
                self.folder,
                found=f"a session with {', '.join(available) or 'no images'}",
                expected=f"{', '.join(self.channels)}, which this {self.task} model was trained on",
                advice=f"Add {', '.join(missing)} to the session, or name another model under `segment: models`.",
                reason=Reason.MISSING_CHANNEL,
            )

    def build_network(self) -> torch.nn.Module:
        """Return the network of the plans, without deep supervision, weights as initialised.

        Raises
        ------
        ModelError
            See `architectures.build_from_plans`.
        """
        return build_from_plans(
            self.plans,
            self.configuration,
            channels=len(self.channels),
            outputs=len(self.classes),
            path=self.folder,
            tile=self.tile,
        )

    def read_weights(self) -> list[State]:
        """Return one state of the network per fold, as float32 on the CPU.

        Raises
        ------
        ModelError
            A checkpoint that holds more than numbers, or weights that do not fit the plans.
        """
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_model

        network = self.build_network()
        states = []
        for path in self.weight_files:
            try:
                if path.suffix == ".safetensors":
                    load_model(network, path)
                else:
                    network.load_state_dict(read_checkpoint(path))
            except (SafetensorError, RuntimeError, KeyError, TypeError, AttributeError) as err:
                raise model_folder.refusal(
                    path,
                    f"weights that do not fit plans.json ({str(err).splitlines()[0]})",
                    "weights of the network that plans.json describes",
                    "Copy dataset.json, plans.json and the folds from one and the same nnU-Net results folder. "
                    "Networks that a trainer class builds beside the plans are not supported.",
                ) from err
            states.append({key: value.detach().clone() for key, value in network.state_dict().items()})
            if not all(torch.isfinite(value).all() for value in states[-1].values()):
                raise model_folder.refusal(
                    path,
                    "weights that are not all finite numbers",
                    "weights of a training that converged",
                    "Train it again: such a network finds nothing.",
                )
        return states


def read_model(folder: str | Path) -> Model:
    """Read a model folder and check that it is what `model_folder` describes.

    Raises
    ------
    ModelError
        A file missing or not what mettrail.json promises; a channel or label nobody knows.
    """
    folder = Path(folder)
    description = model_folder.read_description(folder)
    content = {name: model_folder.read_file(folder, name, advice=COPY) for name in (DATASET, PLANS)}
    weight_files = _find_weights(folder)
    _check_hashes(folder, description["sha256"], content, weight_files)
    dataset = model_folder.parse(folder / DATASET, content[DATASET], model_folder.DATASET_SCHEMA, advice=COPY)
    dataset = {key: dataset[key] for key in model_folder.DATASET_SCHEMA["properties"] if key in dataset}
    model_folder.check_channels(folder, description, dataset)
    classes = model_folder.read_classes(folder / DATASET, dataset)
    drawn = {"edema": EDEMA, "cavity": CAVITY}.get(description["task"])
    if drawn is not None and drawn not in classes:
        raise model_folder.refusal(
            folder / DATASET,
            f"labels {dataset['labels']}",
            f"one named {description['task']}, for a model of this task",
            model_folder.CORRECT,
        )
    plans = model_folder.settle_plans(
        folder / PLANS,
        model_folder.parse(folder / PLANS, content[PLANS], model_folder.PLANS_SCHEMA, advice=COPY),
        description["configuration"],
        channels=len(description["channels"]),
    )
    model_folder.check_plans(folder, description, plans)
    return Model(
        folder=folder,
        task=description["task"],
        input=description["input"],
        channels=tuple(description["channels"]),
        optional_channels=tuple(description.get("optional_channels", ())),
        classes=classes,
        configuration=description["configuration"],
        mirror_axes=tuple(description["mirror_axes"]),
        tile=model_folder.tile_size(description, plans),
        threshold=float(description["threshold"]),
        min_component_score=float(description["min_component_score"]),
        weight_files=weight_files,
        plans=plans,
        dataset=dataset,
        description=description,
    )


def write_model(
    folder: str | Path,
    network: torch.nn.Module | list[torch.nn.Module],
    *,
    plans: dict[str, Any],
    dataset: dict[str, Any],
    description: dict[str, Any],
    card: str,
    log: str = "",
    half: bool = True,
) -> Model:
    """Write a model folder with one network or several, and read it back.

    Parameters
    ----------
    folder : path
    network : torch module, or list of them
        Left as they are; one folder each, ``fold_0`` and so on.
    plans, dataset : dict
        nnU-Net's.
    description : dict
        ``mettrail.json`` without ``sha256``.
    card : str
        README.md.
    log : str
        Progress of the training, kept beside the weights.
    half : bool
        Weights as 16-bit floats, half the size; they are 32-bit again when read.
    """
    from safetensors.torch import save_model

    folder = Path(folder)
    # Written beside and swapped: whoever reads the folder meanwhile finds the old model or the new one.
    fresh, old = (folder.with_name(f"{folder.name}.{what}") for what in ("partial", "old"))
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    hashes = {}
    for number, each in enumerate(network if isinstance(network, list) else [network]):
        name = f"fold_{number}/{WEIGHTS[0]}"
        (fresh / name).parent.mkdir(parents=True)
        each = copy.deepcopy(each).cpu()
        save_model(each.half() if half else each, str(fresh / name))
        hashes[name] = model_folder.digest((fresh / name).read_bytes())
    for name, content in ((DATASET, dataset), (PLANS, plans)):
        (fresh / name).write_text(_as_json(content), encoding="utf-8")
        hashes[name] = model_folder.digest((fresh / name).read_bytes())
    (fresh / DESCRIPTION).write_text(_as_json({**description, "sha256": hashes}))
    (fresh / CARD).write_text(card)
    if log:
        (fresh / LOG).write_text(log)
    model = read_model(fresh)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return dataclasses.replace(
        model, folder=folder, weight_files=tuple(folder / path.relative_to(fresh) for path in model.weight_files)
    )


def describe_model(model: Model, *, description: dict[str, Any], card: str) -> None:
    """Replace what a model folder says of itself; its weights stay as they are.

    Parameters
    ----------
    model : Model
    description : dict
        ``mettrail.json``, ``sha256`` included.
    card : str
        README.md.
    """
    for name, text in ((DESCRIPTION, _as_json(description)), (CARD, card)):
        fresh = model.folder / f"{name}.partial"
        fresh.write_text(text)
        fresh.replace(model.folder / name)


def read_checkpoint(path: Path) -> State:
    """Return the network's weights of nnU-Net's checkpoint, without letting it run code.

    Raises
    ------
    ModelError
        It holds more than numbers.
    """
    import torch

    # nnU-Net logs its losses as numpy numbers.
    numbers: list[Any] = [
        np.dtype,
        np.float64().__reduce__()[0],
        *{type(np.dtype(t)) for t in (np.float16, np.float32, np.float64)},
    ]
    numbers += [type(np.dtype(t)) for t in (np.int32, np.int64)]
    try:
        with torch.serialization.safe_globals(numbers):
            state: State = torch.load(path, map_location="cpu", weights_only=True)["network_weights"]
            return state
    except Exception as err:  # whatever a broken or hostile file makes torch raise
        refused = "weights_only" in str(err).lower() or "weightsunpickler" in str(err).lower()
        what = "a checkpoint that holds more than numbers" if refused else "no checkpoint of nnU-Net"
        raise model_folder.refusal(
            path,
            f"{what} ({type(err).__name__}: {(str(err).splitlines() or [''])[0]})",
            "network weights and nnU-Net's own log",
            "If you trust where it comes from, load it with torch once and save it again with "
            "only {'network_weights': ...}.",
            reason=Reason.UNSAFE_MODEL if refused else Reason.BAD_MODEL,
        ) from err


def _find_weights(folder: Path) -> tuple[Path, ...]:
    found = []
    for fold in sorted(folder.glob("fold_*")):
        present = [fold / name for name in WEIGHTS if (fold / name).exists() or (fold / name).is_symlink()]
        found += [model_folder.require_inside(folder, path, advice=COPY) for path in present[:1]]
    if not found:
        raise ModelError(
            folder,
            found="no weights",
            expected="fold_0/weights.safetensors or fold_0/checkpoint_final.pth",
            advice="Copy the fold folders of nnU-Net's results.",
            reason=Reason.NO_MODEL,
        )
    return tuple(found)


def _check_hashes(
    folder: Path, hashes: dict[str, str], content: dict[str, bytes], weight_files: tuple[Path, ...]
) -> None:
    """Refuse a folder whose files are not those, all of those and no others, that its mettrail.json was written for."""
    found = {name: model_folder.digest(each) for name, each in content.items()}
    for path in weight_files:
        with path.open("rb") as file:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    for name in sorted(found.keys() | hashes.keys()):
        if found.get(name) != hashes.get(name):
            here = ", ".join(f'"{name}": "{digest}"' for name, digest in found.items())
            raise ModelError(
                folder / name,
                found=f"sha256 {found[name]}" if name in found else "no such file",
                expected=hashes.get(name, "a sha256 of this file in mettrail.json"),
                advice="The file was changed or copied in part: get it again. If the folder is your own and as it "
                f'should be, write into its mettrail.json: "sha256": {{{here}}}',
                reason=Reason.BAD_MODEL,
            )


def _as_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"
