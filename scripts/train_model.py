"""Rule train_model: the networks that did best in cross-validation, as a model folder."""

from pathlib import Path
from typing import TYPE_CHECKING

from mettrail import jobs
from mettrail.training import crossvalidation

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

# nnU-Net starts processes that import this file again.
if __name__ == "__main__":
    with jobs.job(snakemake, passes_on=False, in_place=True) as output:
        crossvalidation.gather_model(
            Path(output.model).parent,
            channels=snakemake.params.channels,
            threads=snakemake.threads,
            **snakemake.params.settings,
        )
