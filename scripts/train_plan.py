"""Rule train_plan: nnU-Net's planning and preprocessing."""

from pathlib import Path
from typing import TYPE_CHECKING

from mettrail import jobs
from mettrail.training import crossvalidation

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

# nnU-Net starts processes that import this file again.
if __name__ == "__main__":
    with jobs.job(snakemake, passes_on=False, in_place=True) as output:
        crossvalidation.plan_dataset(
            Path(output.preprocessed).parents[1], threads=snakemake.threads, **snakemake.params.settings
        )
