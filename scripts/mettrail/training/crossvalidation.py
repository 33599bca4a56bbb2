"""Training on patients: nnU-Net's planning, one network per fold and candidate, the best of them as a model folder.

A task's folder holds everything and can be continued after a kill::

    TASK/raw/DATASET/            labels, priors, dataset.json, splits_final.json: see `dataset`
    TASK/preprocessed/DATASET/   nnU-Net's plans and cases
    TASK/results/DATASET/        nnU-Net's checkpoints, logs and validation
    TASK/model/                  the model folder, ready for `segment`

nnU-Net is imported within the functions, after `point_nnunet_at` has said what it reads while it is imported.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mettrail.devices import choose_device
from mettrail.errors import InputError
from mettrail.reasons import Reason
from mettrail.segmentation.architectures import build_from_plans
from mettrail.segmentation.model_folder import PRIOR
from mettrail.segmentation.models import Model, read_checkpoint, write_model
from mettrail.training.card import as_list, as_table, write_card
from mettrail.training.cases import CONFIGURATION
from mettrail.training.dataset import TASKS
from mettrail.training.priors import PriorSettings
from mettrail.training.settings import FoldSettings

if TYPE_CHECKING:
    import torch

    from mettrail.training.nnunet_trainers import DiceCETrainer

PLANS = "mettrailPlans"
# What nnU-Net's dataset.json must say of a model; the rest is about the data it was trained on.
DATASET_KEYS = ("channel_names", "labels", "numTraining", "file_ending", "name")


def point_nnunet_at(folder: str | Path, *, threads: int, augmenters: int | None = None) -> None:
    """Set what nnU-Net reads from the environment: folders, and how many processes it may start.

    Parameters
    ----------
    folder : path
        Of a task.
    threads : int
        Processes that prepare and export cases.
    augmenters : int, optional
        Processes that make patches while training; 0: the one that trains does. As many as `threads` when omitted.
    """
    os.environ |= {
        **{f"nnUNet_{name}": str(Path(folder).absolute() / name) for name in ("raw", "preprocessed", "results")},
        "nnUNet_def_n_proc": str(threads),
        "nnUNet_n_proc_DA": str(threads if augmenters is None else augmenters),
        "nnUNet_wandb_enabled": "0",
    }


def plan_dataset(folder: str | Path, *, task: str, gpu_memory_gb: float, threads: int) -> None:
    """Fingerprint, plan and preprocess a task's raw dataset; what an earlier plan left is removed.

    Parameters
    ----------
    folder : path
        Of the task.
    task : str
        See `dataset.TASKS`.
    gpu_memory_gb : float
        What patch and batch are sized for.
    threads : int
    """
    point_nnunet_at(folder, threads=threads)
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
    from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess_dataset
    from nnunetv2.utilities.dataset_name_id_conversion import convert_dataset_name_to_id

    from mettrail.training.nnunet_planner import BrainPlanner

    dataset = TASKS[task].dataset
    shutil.rmtree(Path(folder) / "preprocessed" / dataset, ignore_errors=True)
    extractor = DatasetFingerprintExtractor(dataset, threads)
    extractor.show_progress_bar = False
    extractor.run(overwrite_existing=True)
    BrainPlanner(
        dataset,
        gpu_memory_target_in_gb=gpu_memory_gb,
        plans_name=PLANS,
        overwrite_target_spacing=[1.0, 1.0, 1.0],
        suppress_transpose=True,
    ).plan_experiment()
    preprocess_dataset(
        convert_dataset_name_to_id(dataset), PLANS, (CONFIGURATION,), num_processes=(threads,), show_progress_bar=False
    )


def train_fold(
    folder: str | Path,
    *,
    task: str,
    trainer: str,
    fold: int,
    device: str,
    threads: int,
    save_probabilities: bool,
    **settings: Any,
) -> dict[str, Any]:
    """Train one network and let it predict the sessions it has not seen; goes on from the last checkpoint there is.

    Parameters
    ----------
    folder : path
        Of the task.
    task, trainer : str
        See `dataset.TASKS` and `nnunet_trainers.TRAINERS`.
    fold : int
    device : str
        ``cpu``, ``cuda`` or ``auto`` (cuda where there is one).
    threads : int
    save_probabilities : bool
        Keep the probabilities of the sessions not seen, to try ensembles of trainers.
    **settings
        Of `settings.FoldSettings`.

    Returns
    -------
    dict
        ``checkpoint``, and ``dice`` per label over the sessions not seen (NaN where none has it).

    Notes
    -----
    Checkpoints of other data, plans or settings are not gone on from: that training starts anew.
    """
    import torch

    where = choose_device(device, setting="train: device")
    # On a CPU further processes would take the cores of the one that trains.
    point_nnunet_at(folder, threads=threads, augmenters=0 if where.type == "cpu" else threads)
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = True
    running = make_trainer(folder, task=task, trainer=trainer, fold=fold, device=where)
    asked = FoldSettings(**settings | {"priors": PriorSettings(**settings["priors"])})
    running.configure(asked)
    out = Path(running.output_folder)
    start_anew_unless_same(out, folder, task=task, trainer=trainer, settings=asked)
    final, latest = (out / f"checkpoint_{name}.pth" for name in ("final", "latest"))
    # Made before the weights are: they are drawn in `initialize`.
    torch.manual_seed(asked.seed)
    running.initialize()
    if final.exists():
        running.load_checkpoint(str(final))
    else:
        if latest.exists():
            running.load_checkpoint(str(latest))
        # nnU-Net draws patches and augmentation from both; a resumed training must not draw the same ones again.
        torch.manual_seed(asked.seed + running.current_epoch)
        np.random.seed([asked.seed, fold, running.current_epoch])  # noqa: NPY002
        running.run_training()
    running.perform_actual_validation(save_probabilities)
    summary = json.loads((out / "validation" / "summary.json").read_text())
    return {"checkpoint": str(final), "dice": {label: row["Dice"] for label, row in summary["mean"].items()}}


def make_trainer(folder: str | Path, *, task: str, trainer: str, fold: int, device: torch.device) -> DiceCETrainer:
    """Return nnU-Net's trainer object of a fold, not yet configured; `point_nnunet_at` comes first."""
    from mettrail.training.nnunet_trainers import TRAINERS

    preprocessed = Path(folder) / "preprocessed" / TASKS[task].dataset
    plans = json.loads((preprocessed / f"{PLANS}.json").read_text())
    dataset = json.loads((preprocessed / "dataset.json").read_text())
    return TRAINERS[trainer](plans, CONFIGURATION, fold, dataset, device)


def start_anew_unless_same(out: Path, folder: str | Path, *, task: str, trainer: str, settings: FoldSettings) -> None:
    """Remove what a training on other data, plans or settings has left in a fold's folder.

    Parameters
    ----------
    out : Path
        Of the fold.
    folder : path
        Of the task.
    task, trainer : str
    settings : FoldSettings
        Those that change nothing of this trainer's network are not compared.
    """
    compared = dataclasses.asdict(settings)
    del compared["save_every"]
    alpha = compared.pop("alpha")
    if trainer in alpha:
        compared["alpha"] = alpha[trainer]
    else:
        del compared["tile_vox"]
    if not TASKS[task].has_prior:
        del compared["priors"]
    preprocessed = Path(folder) / "preprocessed" / TASKS[task].dataset
    digest = hashlib.sha256(json.dumps(compared, sort_keys=True).encode())
    for name in (f"{PLANS}.json", "splits_final.json"):
        digest.update((preprocessed / name).read_bytes())
    digest.update(json.loads((preprocessed / "dataset.json").read_text())["content_sha256"].encode())
    mark = out / "trained_with.sha256"
    if not mark.exists() or mark.read_text() != digest.hexdigest():
        for path in (*out.glob("checkpoint_*.pth"), *out.glob("validation/*")):
            path.unlink()
        mark.write_text(digest.hexdigest())


def choose_trainers(
    folder: str | Path, *, task: str, trainers: Sequence[str], folds: int, threads: int
) -> tuple[list[str], dict[str, float]]:
    """Choose the trainer, or the two together, that did best on the sessions not seen in training.

    Returns
    -------
    chosen : list of str
        One trainer, or two whose networks are averaged.
    dice : dict
        Candidate (``dice_ce``, ``dice_ce + sensitive``) -> mean Dice of the labels over all sessions that validate.

    Notes
    -----
    nnU-Net's own ``find_best_configuration``, as in Andrearczyk et al., Sci Rep 2024. The postprocessing it looks for
    besides (the largest component alone) is for organs, not for metastases, and is not used. It averages the two
    trainers' probabilities; a model folder, like nnU-Net's folds, averages what comes before the softmax.
    """
    point_nnunet_at(folder, threads=threads)
    from nnunetv2.evaluation.accumulate_cv_results import accumulate_cv_results
    from nnunetv2.evaluation.find_best_configuration import find_best_configuration

    from mettrail.training.nnunet_trainers import TRAINERS

    dataset = TASKS[task].dataset
    names = {f"{TRAINERS[name].__name__}__{PLANS}__{CONFIGURATION}": name for name in trainers}
    every_fold = tuple(range(folds))
    if len(trainers) == 1:
        trained = Path(folder) / "results" / dataset / next(iter(names))
        accumulate_cv_results(str(trained), str(trained / "crossval_results"), every_fold, threads)
        summary = json.loads((trained / "crossval_results" / "summary.json").read_text())
        return list(trainers), {trainers[0]: summary["foreground_mean"]["Dice"]}
    candidates = [
        {"plans": PLANS, "configuration": CONFIGURATION, "trainer": TRAINERS[name].__name__} for name in trainers
    ]
    found = find_best_configuration(dataset, candidates, num_processes=threads, folds=every_fold)
    best = found["best_model_or_ensemble"]["selected_model_or_models"]
    chosen = [names[f"{row['trainer']}__{PLANS}__{CONFIGURATION}"] for row in best]
    dice = {
        " + ".join(name for long, name in names.items() if long in key): value
        for key, value in found["all_results"].items()
    }
    return chosen, dice


def gather_model(
    folder: str | Path,
    *,
    task: str,
    trainers: Sequence[str],
    channels: Sequence[str],
    folds: int,
    threads: int,
    licence: str,
    **settings: Any,
) -> Model:
    """Put all folds' networks of the best trainers into a model folder that `segment` takes as it is.

    Parameters
    ----------
    folder : path
        Of the task; the model folder is ``folder/model``.
    task : str
    trainers, channels : list of str
        Candidates, and images in the network's order.
    folds, threads : int
    licence : str
    **settings
        For the card: what else `train` says.

    Raises
    ------
    InputError
        Nothing could be compared: no candidate has a Dice, for no session that validates has a lesion.
    """
    folder, kind = Path(folder), TASKS[task]
    chosen, dice = choose_trainers(folder, task=task, trainers=trainers, folds=folds, threads=threads)
    if not np.isfinite(list(dice.values())).any():
        raise InputError(
            folder,
            found="no lesion in any session that validates, neither in the masks nor in the predictions",
            expected="lesions to judge the networks by",
            advice="Add patients with lesions.",
            reason=Reason.NO_TRAINING_DATA,
        )
    plans, dataset, splits = (
        json.loads((folder / "preprocessed" / kind.dataset / f"{name}.json").read_text())
        for name in (PLANS, "dataset", "splits_final")
    )
    networks = [
        _read_network(folder, plans, dataset, task=task, trainer=name, fold=fold)
        for name in chosen
        for fold in range(folds)
    ]
    description = {
        "task": kind.name,
        "channels": [*channels, *([PRIOR] if kind.has_prior else [])],
        "optional_channels": list(settings["optional"]),
        **_describe_networks(plans["configurations"][CONFIGURATION]),
        **_describe_training(dataset, plans["configurations"][CONFIGURATION], chosen, folds=folds, settings=settings),
        "cross_validation": {
            "sessions": sum(len(split["val"]) for split in splits[:folds]),
            "mean_dice": {name: round(value, 4) for name, value in dice.items()},
            "chosen": chosen,
        },
        "licence": licence,
    }
    card = _write_card(task, description, settings)
    small = {key: dataset[key] for key in DATASET_KEYS}
    return write_model(
        folder / "model", networks, plans=plans, dataset=small, description=description, card=card, half=False
    )


def _describe_networks(configuration: dict[str, Any]) -> dict[str, Any]:
    """Return what mettrail.json says of all networks that nnU-Net has planned."""
    return {
        "input": "brain",
        "configuration": CONFIGURATION,
        "spacing_mm": [1.0, 1.0, 1.0],
        "normalisation": configuration["normalization_schemes"],
        # nnU-Net's augmentation mirrors along all axes.
        "mirror_axes": [0, 1, 2],
        "tile": None,
        # nnU-Net's own decision, by the likeliest label: no other threshold was looked for.
        "threshold": 0.5,
        "min_component_score": 0.0,
    }


def _describe_training(
    dataset: dict[str, Any],
    configuration: dict[str, Any],
    trainers: Sequence[str],
    *,
    folds: int,
    settings: dict[str, Any],
) -> dict[str, str]:
    """Return what mettrail.json says of how the networks were made."""
    patients = {case.split("_")[0] for case in dataset["dataset"]}
    return {
        "trained_on": f"{dataset['numTraining']} sessions of {len(patients)} patients, with manual segmentations",
        "trained_with": f"nnU-Net {importlib.metadata.version('nnunetv2')}, {folds} folds by patient of "
        f"{settings['epochs']} epochs of {settings['steps']} x {configuration['batch_size']} patches; "
        f"{' and '.join(trainers)}",
    }


def _read_network(
    folder: Path, plans: dict[str, Any], dataset: dict[str, Any], *, task: str, trainer: str, fold: int
) -> torch.nn.Module:
    """Return a trained network."""
    from mettrail.training.nnunet_trainers import TRAINERS

    trained = folder / "results" / TASKS[task].dataset / f"{TRAINERS[trainer].__name__}__{PLANS}__{CONFIGURATION}"
    path = trained / f"fold_{fold}" / "checkpoint_final.pth"
    network = build_from_plans(
        plans, CONFIGURATION, channels=len(dataset["channel_names"]), outputs=len(dataset["labels"]), path=path.parent
    )
    network.load_state_dict(read_checkpoint(path))
    return network


def _write_card(task: str, description: dict[str, Any], settings: dict[str, Any]) -> str:
    """Return the model card, with the candidates' Dice and the settings of `train`."""
    crossed = description["cross_validation"]
    dice = {name: f"{value:.3f}" for name, value in crossed["mean_dice"].items()}
    # Whoever gets the model is not told who the patients are.
    shown = {key: value for key, value in sorted(settings.items()) if key != "test_patients"}
    return write_card(
        description,
        title=f"{description['task']}, task {task}",
        sections=[
            f"Mean Dice over {crossed['sessions']} sessions, each predicted by networks that had not seen its patient:",
            as_table(("candidate", "Dice"), dice),
            "The candidate was chosen on these sessions: its own figure is a little too good. A test set says how good "
            "it is.",
            "Settings:",
            as_list([f"`{key}`: {json.dumps(value)}" for key, value in shown.items()]),
        ],
    )
