"""Rule compare_train: one method of the comparison."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from mettrail import jobs
from mettrail.devices import choose_device
from mettrail.study import fitting, predicting
from mettrail.study.cases import Case, without_failed
from mettrail.training.priors import PriorSettings

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake, passes_on=False, in_place=True, failable=("files",)) as output:
    settings, model_folder = snakemake.params.settings, Path(output.model)
    torch.set_num_threads(snakemake.threads)
    cases = [Case(path) for path in sorted(Path(snakemake.input.cases).glob("sub-*"))]
    model = fitting.train_method(
        snakemake.params.method,
        cases,
        model_folder.parents[1] / "training" / model_folder.name,
        model_folder,
        priors=PriorSettings(**snakemake.params.priors),
        device=choose_device(settings["device"], setting="compare: device"),
        seed=settings["seed"],
        trained_on=f"{len(cases)} sessions of the cohort that was compared on",
        licence=settings["licence"],
    )
    if model and snakemake.params.method.youden:
        predicting.settle_threshold(
            model,
            without_failed(snakemake.params.development),
            grow_mm=snakemake.params.grow_mm,
            device=settings["device"],
            threads=snakemake.threads,
        )
