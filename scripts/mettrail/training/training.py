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
import importlib.metadata
import json
import multiprocessing
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from mettrail.devices import choose_device
from mettrail.errors import InputError
from mettrail.segmentation.architectures import build_from_plans
from mettrail.segmentation.models import (
    LOG,
    PRIOR,
    describe_model,
    read_model,
    read_weights,
    write_model,
)
from mettrail.training import cases, validation
from mettrail.training.backgrounds import Painted, find_backgrounds, make_visits, prepare
from mettrail.training.crossvalidation import point_nnunet_at

LICENCE = "Apache-2.0"
# nnU-Net's name for the number of channels at each resolution, and the weights that join the decoder to the encoder.
WIDTH = "features_per_stage"
_JOINS = re.compile(r"decoder\.stages\.\d+\.convs\.0\.")


def train_all(
    tasks: list[str], out: str | Path, *, settings: dict, scans: Path | None, start_from: Path | None, resume: bool
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
    settings: dict,
    resume: bool,
    start_from: Path | None = None,
    visits_of: Callable = make_visits,
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
    _point_nnunet_at(out, workers=settings["workers"])
    import torch

    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    # Patches are all of one size: a GPU's fastest convolutions are worth looking for.
    torch.backends.cudnn.benchmark = True

    if start_from is not None:
        _require_what_fits(task, start_from, settings)
    _write_cases(task, out, settings, visits_of)
    trainer = _make_trainer(task, settings)
    saved = [Path(trainer.output_folder) / f"checkpoint_{which}.pth" for which in ("latest", "final")]
    saved = [path for path in saved if path.exists()]
    if resume and saved:
        trainer.load_checkpoint(str(saved[0]))
    elif start_from is not None:
        _start_from(trainer, start_from)
    # nnU-Net's loader draws from it. Who goes on, here or from another network, sees other patches than before.
    np.random.seed(settings["seed"] + trainer.steps_taken())  # noqa: NPY002
    model_folder = out / "models" / task

    def export(current) -> None:
        every = settings["training"]["export_every"]
        if current.current_epoch % every == 0 and current.current_epoch < current.num_epochs:
            export_model(current, model_folder, settings=settings)

    trainer.after_epoch = export
    trainer.run_training()
    export_model(trainer, model_folder, settings=settings)
    return model_folder


def export_model(trainer, folder: Path, *, settings: dict) -> None:
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
        "mirror_axes": [],
        "tile": list(settings["network"]["tile"]),
        "threshold": 0.5,
        "confidence": 0.0,
        "steps": trainer.steps_taken(),
        "trained_on": f"{_name_heads(settings['cases'])}; synthetic lesions, no patient with metastases; {steps} "
        f"of {trainer.batch_size} patches",
        "trained_with": f"nnU-Net {importlib.metadata.version('nnunetv2')}; AdamW, lr {trainer.initial_lr:g} falling "
        "to 0 (poly); Dice and cross-entropy of the worst tenth of the voxels, with deep supervision, and a Dice and "
        f"cross-entropy of each lesion and each false piece (weight {trainer.each_lesion:g})",
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
            card=write_card(description, figures=None),
            log=_read_progress(Path(trainer.output_folder)),
        )
    finally:
        trainer.set_deep_supervision_enabled(True)


def detect_without_prior(resegmentation: Path, *, settings: dict) -> Path:
    """Make re-segmentation's network, the prior left out, the detection model.

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
    network.load_state_dict(_fit(read_weights(theirs)[0], network.state_dict()))
    description = {key: value for key, value in theirs.description.items() if key != "validation"}
    description |= {"task": "detection", "channels": list(channels), "threshold": 0.5, "confidence": 0.0}
    description["normalisation"] = plans["configurations"][cases.CONFIGURATION]["normalization_schemes"]
    description["trained_on"] += "; re-segmentation's network, its prior left out"
    log = resegmentation / LOG
    write_model(
        folder,
        network,
        plans=plans,
        dataset=cases.make_dataset_json("detection", cases=theirs.dataset["numTraining"]),
        description=description,
        card=write_card(description, figures=None),
        log=log.read_text() if log.exists() else "",
    )
    return folder


def _name_heads(settings: dict) -> str:
    first, last = settings["train_seeds"]
    names = [f"simulated heads (phantom seeds {first} to {last}, two sessions each)"]
    if settings["backgrounds_root"]:
        names += [f"{b['name']} ({', '.join(b.get('participants', ['all']))})" for b in settings["backgrounds"]]
    return ", ".join(names)


def _read_progress(folder: Path) -> str:
    """Return the progress lines of nnU-Net's logs, those of all runs that led here."""
    lines = [line for path in sorted(folder.glob("training_log*.txt")) for line in path.read_text().splitlines()]
    return "\n".join(line for line in lines if " progress: " in line or " seed " in line) + "\n"


def validate_model(task: str, out: str | Path, *, settings: dict, visits_of: Callable = make_visits) -> dict:
    """Choose threshold and confidence of a trained model on held-out heads, and put the figures on its card.

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
        (threshold, confidence) -> figures.
    """
    out = Path(out).resolve()
    names, arguments = plan_cases(task, out, settings, visits_of)
    cases.write_cases([row for row in names if row[0].startswith("val")], **arguments)
    model = read_model(out / "models" / task)
    held_out = {"folder": arguments["validation_folder"], "threads": settings["threads"]}
    found = validation.validate(model, **held_out)
    threshold, confidence = validation.choose(found)
    seeds = settings["cases"]["validation_seeds"]
    painted = sum(isinstance(key, Painted) for _, key in names)
    heading = f"held-out phantoms, seeds {seeds[0]} to {seeds[1]}, and {painted} patients painted into real heads"
    figures = {heading: found[threshold, confidence]}
    if task == "resegmentation":
        model = dataclasses.replace(model, threshold=threshold, confidence=confidence)
        detection = read_model(out / "models" / "detection")
        figures["the same, fused with detection"] = validation.validate_fused(detection, model, **held_out)
    rows = [{"threshold": t, "confidence": c, **row} for (t, c), row in found.items()]
    (out / f"validation_{task}.json").write_text(json.dumps(rows, indent=2))
    description = {**model.description, "threshold": threshold, "confidence": confidence, "validation": figures}
    card = write_card(description, figures=figures)
    describe_model(model, description=description, card=card)
    print(card)
    return found


def write_card(description: dict, *, figures: dict[str, dict] | None) -> str:
    """Write the model card of a shipped network.

    Parameters
    ----------
    description : dict
        mettrail.json.
    figures : dict, optional
        Heading -> figures of `validation.summarise`.
    """
    task = description["task"]
    what = {
        "detection": "Finds and segments lesions on one post-contrast T1w.",
        "resegmentation": "Segments again, on a new post-contrast T1w, the lesions known from the last visit; what "
        "lies at one needs no conviction.",
    }[task]
    tables = ["Not validated: an intermediate state of training."]
    if figures is not None:
        tables = []
        for heading, rows in figures.items():
            lines = [f"| {key} | {value} |" for key, value in rows.items()]
            tables.append("\n".join([f"**{heading}**", "", "| figure | value |", "| --- | --- |", *lines]))
    body = "\n\n".join(tables)
    return f"""# {task}

{what} Outputs: background, enhancing, edema, necrosis.

**It has never seen a patient's metastasis: its lesions were painted, into simulated and real heads.** Look at what it
finds. A model of your own cohort (`snakemake train`) will know your scanner and your readers better.

- Trained on: {description["trained_on"]}.
- Trained with: {description["trained_with"]}.
- Input: {", ".join(description["channels"])}; RAS, 1 mm, bias-corrected, 0 outside the brain mask grown by 3 mm.
- Whole lesion from a probability of {description["threshold"]:g}, with a conviction (mean probability of the
  connected piece, or of a clearer part of it) of at least {description["confidence"]:g}; both chosen on held-out heads.
- Progress of the training: `training.log`
- Licence: {description["licence"]}.

{body}
"""


def _point_nnunet_at(out: Path, *, workers: int) -> None:
    """Set what nnU-Net reads from the environment whenever it needs it: paths, worker processes, no compiler."""
    point_nnunet_at(out, threads=1, augmenters=workers)
    os.environ.update(nnUNet_compile="0")
    # On a busy machine, threads that spin while they wait for each other cost more than they gain.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def plan_cases(task: str, out: Path, settings: dict, make_visits: Callable) -> tuple[list[tuple[str, object]], dict]:
    """Make the folders of a run; return the cases' names and keys, and the arguments of `cases.write_cases`."""
    plans = _make_plans(task, settings)
    base = out / "preprocessed" / cases.dataset_name(task)
    folder = base / plans["configurations"][cases.CONFIGURATION]["data_identifier"]
    folder.mkdir(parents=True, exist_ok=True)
    (base / "dataset_fingerprint.json").write_text("{}")
    own = ("train_seeds", "validation_seeds", "backgrounds", "validation_painted", "backgrounds_root")
    return _name_cases(settings["cases"], settings["synthesis"]), {
        "task": task,
        "folder": folder,
        "plans": plans,
        "make_visits": make_visits,
        "priors": settings["priors"],
        "validation_folder": out / "validation",
        **{key: value for key, value in settings["cases"].items() if key not in own},
    }


def _make_plans(task: str, settings: dict) -> dict:
    """Make the plans of a network; its tile is of inference alone."""
    return cases.make_plans(task, **{key: value for key, value in settings["network"].items() if key != "tile"})


def _write_cases(task: str, out: Path, settings: dict, visits_of: Callable) -> None:
    """Make the cases that are missing, on as many cores as training will use."""
    names, arguments = plan_cases(task, out, settings, visits_of)
    missing = [row for row in names if not (arguments["folder"] / f"{row[0]}a.pkl").exists()]
    if len(missing) < 2 or settings["threads"] < 2:
        cases.write_cases(names, **arguments)
        return
    with ProcessPoolExecutor(settings["threads"], mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(cases.write_cases, [row], **arguments) for row in names]
        for job in jobs:
            job.result()


def _name_cases(settings: dict, synthesis: dict) -> list[tuple[str, object]]:
    """Name the cases: simulated pairs and real heads to train on, and the held-out pairs."""
    first, last = settings["train_seeds"]
    train = [(f"train{i:04d}", seed) for i, seed in enumerate(range(first, last + 1))]
    first, last = settings["validation_seeds"]
    held_out = [(f"val{i:04d}", seed) for i, seed in enumerate(range(first, last + 1))]
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


def _make_trainer(task: str, settings: dict):
    from mettrail.training.trainer import MettrailTrainer

    plans = _make_plans(task, settings)
    count = 2 * (settings["cases"]["train_seeds"][1] - settings["cases"]["train_seeds"][0] + 1)
    dataset = cases.make_dataset_json(task, cases=count)
    trainer = MettrailTrainer(plans, cases.CONFIGURATION, 0, dataset, choose_device("auto", setting="device"))
    trainer.configure(**settings["training"], synthesis=settings["synthesis"], augmentation=settings["augmentation"])
    trainer.initialize()
    trainer.print_to_log_file("seed", settings["seed"], "settings", json.dumps(settings["training"]))
    return trainer


def _require_what_fits(task: str, folder: Path, settings: dict) -> None:
    """Check, before cases are made, that a model's weights can be taken over: its sequences are ours, its size fits."""
    model, plans = read_model(folder), _make_plans(task, settings)
    theirs = _describe_network(model.channels, model.plans["configurations"][model.configuration])
    ours = _describe_network(cases.CHANNELS[task], plans["configurations"][cases.CONFIGURATION])
    for what, value in theirs.items():
        fits = value == ours[what]
        if what == WIDTH and len(value) == len(ours[what]):
            fits = all(narrow <= wide for narrow, wide in zip(value, ours[what]))
        if not fits:
            raise InputError(
                f"{folder}: {what}",
                found=str(value),
                expected=str(ours[what]) + (", or fewer" if what == WIDTH else ""),
                advice="Start from a model of the same sequences and size, or a narrower one, or from random weights.",
            )


def _describe_network(channels: Sequence[str], configuration: Mapping) -> dict[str, list]:
    """Return what must agree for one network to take over another's weights; the prior need not."""
    given = configuration["architecture"]["arch_kwargs"]
    return {
        "sequences": [name for name in channels if name != PRIOR],
        **{key: given[key] for key in (WIDTH, "n_conv_per_stage", "n_conv_per_stage_decoder")},
    }


def _start_from(trainer, folder: Path) -> None:
    """Take over the weights of a model's first fold; see `_fit`."""
    model = read_model(folder)
    trainer.network.load_state_dict(_fit(read_weights(model)[0], trainer.network.state_dict()))
    trainer.earlier_steps = model.description.get("steps", 0)
    trainer.print_to_log_file("starting from", folder)


def _fit(theirs: dict, ours: dict) -> dict:
    """Return another network's weights in the shape of ours; it computes what it did.

    What ours has more, a prior or channels within, counts for nothing yet: its weights into what was there are 0. A
    prior that we lack is left out: at 0, its channel adds nothing.
    """
    import torch

    fitted = {}
    for key, old in theirs.items():
        new = ours[key].cpu().clone()
        if new.ndim == 1:
            new[: len(old)] = old
        else:
            # (outputs, inputs, ...), but for the convolutions that double the resolution.
            into, of = (w.transpose(0, 1) if ".transpconvs." in key else w for w in (new, old))
            inputs = torch.arange(min(into.shape[1], of.shape[1]))
            if _JOINS.search(key):
                # Half of them come from below, half from the encoder.
                half, wider = of.shape[1] // 2, into.shape[1] // 2
                inputs = torch.cat([inputs[:half], wider + inputs[:half]])
            into[: len(of)] = 0
            into[: len(of), inputs] = of[:, : len(inputs)]
        fitted[key] = new
    return fitted
