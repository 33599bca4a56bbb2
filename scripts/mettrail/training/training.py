"""Training of the shipped networks: cases from simulated and real heads, nnU-Net's training, model folders, validation.

A run folder holds everything and can be continued after a kill::

    OUT/heads/                          real heads, as the pipeline prepares them
    OUT/preprocessed/Dataset50X_TASK/   cases in nnU-Net's format
    OUT/validation/                     held-out sessions as arrays
    OUT/results/Dataset50X_TASK/...     nnU-Net's checkpoints and logs
    OUT/models/TASK/                    the model folder, overwritten as training goes on
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mettrail.devices import choose_device
from mettrail.errors import InputError
from mettrail.segmentation.architectures import build_from_plans
from mettrail.segmentation.model_folder import LOG
from mettrail.segmentation.models import describe_model, read_model, write_model
from mettrail.segmentation.prediction import LEFT_RIGHT_AXIS
from mettrail.training import cases, validation
from mettrail.training.backgrounds import Key, Painted, find_backgrounds, make_visits, name_backgrounds, prepare
from mettrail.training.card import as_table, write_card
from mettrail.training.crossvalidation import point_nnunet_at
from mettrail.training.priors import PriorSettings
from mettrail.training.settings import ShippedSettings
from mettrail.training.transfer import fit_weights, require_fitting

if TYPE_CHECKING:
    from mettrail.training.trainer import MettrailTrainer

LICENCE = "Apache-2.0"
VisitMaker = Callable[[Any], list[cases.LabelledScan]]


def train_all(
    tasks: list[str],
    out: str | Path,
    *,
    settings: dict[str, Any],
    scans: Path | None,
    start_from: Path | None,
    resume: bool,
) -> None:
    """Train a network, or one for both tasks, and validate it; see `train` and `validate_model`.

    For both tasks one network is trained: re-segmentation's, which sees patches without any prior, too. Detection is
    that network without its prior; see `detect_without_prior`.

    Parameters
    ----------
    tasks : list of str
        ``detection``, ``resegmentation``, or both in this order.
    start_from : Path, optional
        Model folder whose weights training starts from; random ones when omitted.
    scans : Path, optional
        Folder of real heads, which are prepared first; phantoms alone when omitted.
    """
    if scans is not None:
        root = Path(out).resolve() / "heads"
        prepare(scans, root, heads=settings["heads"], cores=settings["threads"])
        settings["cases"]["backgrounds_root"] = str(root)
    trained = train(tasks[-1], out, settings=settings, resume=resume, start_from=start_from)
    if len(tasks) > 1:
        detect_without_prior(trained, settings=settings)
    for task in tasks:
        validate_model(task, out, settings=settings)


def train(
    task: str,
    out: str | Path,
    *,
    settings: dict[str, Any],
    resume: bool,
    start_from: Path | None = None,
    visits_of: VisitMaker = make_visits,
) -> Path:
    """Train one network; makes the cases it needs first.

    Parameters
    ----------
    task : str
        ``detection`` or ``resegmentation``.
    out : path
        Run folder.
    settings : dict
        config/train.yaml.
    resume : bool
        Go on from the last checkpoint in `out`, also with more epochs than before. Cases that exist are kept
        either way.
    start_from : Path, optional
        Model folder whose weights training starts from, those of its first fold; it may lack the prior, or have one
        that is not needed, and be narrower.
    visits_of : function
        See `backgrounds.make_visits`.

    Returns
    -------
    Path
        The model folder.

    Raises
    ------
    InputError
        `start_from` reads other sequences, or is a deeper, shallower or wider network.
    """
    out = Path(out).resolve()
    prepare_nnunet(out, workers=settings["workers"])
    import torch

    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    # Patches are all of one size: a GPU's fastest convolutions are worth looking for.
    torch.backends.cudnn.benchmark = True

    if start_from is not None:
        configuration = _make_plans(task, settings)["configurations"][cases.CONFIGURATION]
        require_fitting(start_from, cases.CHANNELS[task], configuration)
    write_cases(task, out, settings=settings, visits_of=visits_of)
    trainer = make_trainer(task, out, settings=settings)
    saved = [Path(trainer.output_folder) / f"checkpoint_{which}.pth" for which in ("latest", "final")]
    saved = [path for path in saved if path.exists()]
    if resume and saved:
        trainer.load_checkpoint(str(saved[0]))
    elif start_from is not None:
        take_over_weights(trainer, start_from)
    # nnU-Net's loader draws from it. Who goes on, here or from another network, sees other patches than before.
    np.random.seed(settings["seed"] + trainer.steps_taken())  # noqa: NPY002
    model_folder = out / "models" / task

    def export(current: MettrailTrainer) -> None:
        every = settings["training"]["export_every"]
        if current.current_epoch % every == 0 and current.current_epoch < current.num_epochs:
            export_model(current, model_folder, settings=settings)

    trainer.after_epoch = export
    trainer.run_training()
    export_model(trainer, model_folder, settings=settings)
    return model_folder


def prepare_nnunet(out: Path, *, workers: int) -> None:
    """Set what nnU-Net reads from the environment whenever it needs it: paths, worker processes, no compiler."""
    point_nnunet_at(out, threads=1, augmenters=workers)
    os.environ.update(nnUNet_compile="0")
    # On a busy machine, threads that spin while they wait for each other cost more than they gain.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def make_trainer(task: str, out: Path, *, settings: dict[str, Any]) -> MettrailTrainer:
    """Return nnU-Net's trainer of a run, its network as initialised; its cases need not exist yet.

    Parameters
    ----------
    task : str
    out : Path
        Run folder.
    settings : dict
        config/train.yaml.
    """
    prepare_nnunet(out, workers=settings["workers"])
    from mettrail.training.resection import PaintBeds
    from mettrail.training.trainer import MettrailTrainer

    first, last = settings["cases"]["train_seeds"]
    dataset = cases.make_dataset_json(task, cases=2 * (last - first + 1))
    device = choose_device("auto", setting="device")
    trainer = MettrailTrainer(_make_plans(task, settings), cases.CONFIGURATION, 0, dataset, device)
    trainer.configure(
        ShippedSettings(**settings["training"]),
        synthesis=settings["synthesis"],
        augmentation=settings["augmentation"],
        beds=functools.partial(PaintBeds, settings["beds"], settings["cavity"], settings["synthesis"]),
    )
    trainer.initialize()
    trainer.print_to_log_file("seed", settings["seed"], "settings", json.dumps(settings["training"]))
    return trainer


def take_over_weights(trainer: MettrailTrainer, folder: Path) -> None:
    """Give a trainer's network the weights of a model's first fold; see `transfer.fit_weights`."""
    model = read_model(folder)
    trainer.network.load_state_dict(fit_weights(model.read_weights()[0], trainer.network.state_dict()))
    trainer.earlier_steps = model.description.get("steps", 0)
    trainer.print_to_log_file("starting from", folder)


def export_model(trainer: MettrailTrainer, folder: Path, *, settings: dict[str, Any]) -> None:
    """Write the network as it is now as a model folder, not validated.

    Parameters
    ----------
    trainer : MettrailTrainer
    folder : Path
    settings : dict
        config/train.yaml.
    """
    task = folder.name
    plans = {key: value for key, value in trainer.plans_manager.plans.items() if key != "continue_training"}
    steps = f"{trainer.steps_taken() - trainer.earlier_steps} steps"
    if trainer.earlier_steps:
        steps += f" after {trainer.earlier_steps} of the network it started from,"
    description = {
        "task": task,
        "input": "brain",
        "channels": list(cases.CHANNELS[task]),
        "configuration": cases.CONFIGURATION,
        "spacing_mm": [1.0, 1.0, 1.0],
        "normalisation": list(trainer.configuration_manager.normalization_schemes),
        "mirror_axes": [LEFT_RIGHT_AXIS],
        "tile": list(settings["network"]["tile"]),
        "threshold": 0.5,
        "min_component_score": 0.0,
        "steps": trainer.steps_taken(),
        "trained_on": f"{_name_heads(settings['cases'])}; synthetic lesions, no patient with metastases; {steps} "
        f"of {trainer.batch_size} patches",
        "trained_with": f"nnU-Net {importlib.metadata.version('nnunetv2')}; AdamW, lr {trainer.initial_lr:g} falling "
        "to 0 (poly); Dice and cross-entropy of the worst tenth of the voxels, with deep supervision, and a Dice and "
        f"cross-entropy of each lesion and each false positive (weight {trainer.settings.each_lesion:g})",
        "licence": LICENCE,
    }
    trainer.set_deep_supervision_enabled(False)
    try:
        write_model(
            folder,
            trainer.network,
            plans=plans,
            dataset=trainer.dataset_json,
            description=description,
            card=_write_card(description, figures=None),
            log=_read_progress(Path(trainer.output_folder)),
        )
    finally:
        trainer.set_deep_supervision_enabled(True)


def detect_without_prior(resegmentation: Path, *, settings: dict[str, Any]) -> Path:
    """Make re-segmentation's network, without its prior, the detection model.

    Parameters
    ----------
    resegmentation : Path
        Model folder.
    settings : dict
        config/train.yaml.

    Returns
    -------
    Path
        Detection's model folder, beside the other; not validated.
    """
    theirs = read_model(resegmentation)
    folder, channels = resegmentation.parent / "detection", cases.CHANNELS["detection"]
    plans = _make_plans("detection", settings)
    network = build_from_plans(
        plans, cases.CONFIGURATION, channels=len(channels), outputs=len(theirs.classes), path=folder
    )
    network.load_state_dict(fit_weights(theirs.read_weights()[0], network.state_dict()))
    description = {key: value for key, value in theirs.description.items() if key != "validation"}
    description |= {"task": "detection", "channels": list(channels), "threshold": 0.5, "min_component_score": 0.0}
    description["normalisation"] = plans["configurations"][cases.CONFIGURATION]["normalization_schemes"]
    description["trained_on"] += "; re-segmentation's network without its prior"
    log = resegmentation / LOG
    write_model(
        folder,
        network,
        plans=plans,
        dataset=cases.make_dataset_json("detection", cases=theirs.dataset["numTraining"]),
        description=description,
        card=_write_card(description, figures=None),
        log=log.read_text() if log.exists() else "",
    )
    return folder


def _name_heads(settings: dict[str, Any]) -> str:
    first, last = settings["train_seeds"]
    names = [f"simulated heads (phantom seeds {first} to {last}, two sessions each)"]
    if settings["backgrounds_root"]:
        names += name_backgrounds(settings["backgrounds"])
    return ", ".join(names)


def _read_progress(folder: Path) -> str:
    """Return the progress lines of nnU-Net's logs, those of all runs that led here."""
    lines = [line for path in sorted(folder.glob("training_log*.txt")) for line in path.read_text().splitlines()]
    return "\n".join(line for line in lines if " progress: " in line or " seed " in line) + "\n"


def validate_model(
    task: str, out: str | Path, *, settings: dict[str, Any], visits_of: VisitMaker = make_visits
) -> dict[tuple[float, float], validation.Figures]:
    """Choose threshold and least component score of a model on held-out heads, and put the figures on its card.

    Parameters
    ----------
    task : str
    out : path
        Run folder with ``models/TASK``.
    settings : dict
        config/train.yaml.
    visits_of : function
        As for `train`.

    Returns
    -------
    dict
        (threshold, least component score) -> figures.
    """
    out = Path(out).resolve()
    names, plan = plan_cases(task, out, settings=settings, visits_of=visits_of)
    cases.write_cases([row for row in names if row[0].startswith("val")], plan)
    model = read_model(out / "models" / task)
    found = validation.validate(model, plan.validation_folder, threads=settings["threads"])
    threshold, score = validation.choose(found)
    seeds = settings["cases"]["validation_seeds"]
    painted = sum(isinstance(key, Painted) for _, key in names)
    heading = f"held-out phantoms, seeds {seeds[0]} to {seeds[1]}, and {painted} patients painted into real heads"
    figures = {heading: found[threshold, score]}
    if task == "resegmentation":
        model = dataclasses.replace(model, threshold=threshold, min_component_score=score)
        detection = read_model(out / "models" / "detection")
        figures["the same, fused with detection"] = validation.validate_fused(
            detection, model, plan.validation_folder, threads=settings["threads"]
        )
    rows = [{"threshold": t, "min_component_score": c, **row} for (t, c), row in found.items()]
    (out / f"validation_{task}.json").write_text(json.dumps(rows, indent=2))
    description = {**model.description, "threshold": threshold, "min_component_score": score, "validation": figures}
    card = _write_card(description, figures=figures)
    describe_model(model, description=description, card=card)
    print(card)
    return found


def _write_card(description: dict[str, Any], *, figures: dict[str, validation.Figures] | None) -> str:
    """Return the model card of a shipped network, with the figures of its validation by heading."""
    what = {
        "detection": "Finds and segments lesions on one post-contrast T1w.",
        "resegmentation": "Segments again, on a new post-contrast T1w, the lesions of the prior visit; what lies at "
        "one needs no confidence score.",
    }[description["task"]]
    introduction = [
        f"{what} Outputs: background, enhancing, edema, necrosis.",
        "**It has never seen a patient's metastasis: its lesions were painted, into simulated and real heads.** Review "
        "what it finds. A model of your own cohort (`snakemake train`) will know your scanner and your readers better.",
    ]
    sections = ["Not validated: an intermediate state of training."]
    if figures is not None:
        sections = ["Probability and confidence score were chosen on these held-out heads."]
        sections += [f"**{heading}**\n\n{as_table(('figure', 'value'), rows)}" for heading, rows in figures.items()]
    return write_card(
        description,
        title=description["task"],
        introduction=introduction,
        facts=[f"Progress of the training: `{LOG}`"],
        sections=sections,
    )


def plan_cases(
    task: str, out: Path, *, settings: dict[str, Any], visits_of: VisitMaker
) -> tuple[list[tuple[str, Key]], cases.CasePlan]:
    """Make the folders of a run; return the cases' names and what each is made from, and how."""
    plans = _make_plans(task, settings)
    base = out / "preprocessed" / cases.dataset_name(task)
    folder = base / plans["configurations"][cases.CONFIGURATION]["data_identifier"]
    folder.mkdir(parents=True, exist_ok=True)
    (base / "dataset_fingerprint.json").write_text("{}")
    given = settings["cases"]
    plan = cases.CasePlan(
        task=task,
        folder=folder,
        validation_folder=out / "validation",
        plans=plans,
        make_visits=visits_of,
        imperfections=cases.Imperfections(
            **{field.name: given[field.name] for field in dataclasses.fields(cases.Imperfections)}
        ),
        priors=PriorSettings(**settings["priors"]),
        locations_per_lesion=given["locations_per_lesion"],
        bright_percentile=given["bright_percentile"],
    )
    return name_cases(given, settings["synthesis"]), plan


def _make_plans(task: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Make the plans of a network; its tile is of inference alone."""
    return cases.make_plans(task, **{key: value for key, value in settings["network"].items() if key != "tile"})


def write_cases(task: str, out: Path, *, settings: dict[str, Any], visits_of: VisitMaker = make_visits) -> None:
    """Make the cases of a run that are missing, on as many cores as training will use."""
    names, plan = plan_cases(task, out, settings=settings, visits_of=visits_of)
    missing = [row for row in names if not (plan.folder / f"{row[0]}a.pkl").exists()]
    if len(missing) < 2 or settings["threads"] < 2:
        cases.write_cases(names, plan)
        return
    with ProcessPoolExecutor(settings["threads"], mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(cases.write_cases, [row], plan) for row in names]
        for job in jobs:
            job.result()


def name_cases(settings: dict[str, Any], synthesis: dict[str, Any]) -> list[tuple[str, Key]]:
    """Name the cases: simulated pairs and real heads to train on, and the held-out pairs.

    Parameters
    ----------
    settings, synthesis : dict
        ``cases`` and ``synthesis`` of config/train.yaml.

    Raises
    ------
    InputError
        Seeds of training among those of validation.
    """
    first, last = settings["train_seeds"]
    train: list[tuple[str, Key]] = [(f"train{i:04d}", seed) for i, seed in enumerate(range(first, last + 1))]
    first, last = settings["validation_seeds"]
    held_out: list[tuple[str, Key]] = [(f"val{i:04d}", seed) for i, seed in enumerate(range(first, last + 1))]
    if {seed for _, seed in train} & {seed for _, seed in held_out}:
        raise InputError(
            "train.yaml: cases",
            found="training and validation seeds that overlap",
            expected="validation on phantoms never trained on",
            advice="Move validation_seeds away from train_seeds.",
        )
    if not settings["backgrounds_root"]:
        return train + held_out
    root, painted = Path(settings["backgrounds_root"]), settings["validation_painted"]
    real = [b for given in settings["backgrounds"] for b in find_backgrounds(root, **given)]
    train += [(f"trainreal{i:04d}", background) for i, background in enumerate(real)]
    real = [b for given in painted["backgrounds"] for b in find_backgrounds(root, **given)]
    held_out += [
        (f"valpainted{i:04d}", Painted(background, painted["first_seed"] + i, tuple(painted["lesions"]), synthesis))
        for i, background in enumerate(real)
    ]
    return train + held_out
