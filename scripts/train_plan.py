"""Rule train_plan: nnU-Net's planning and preprocessing."""

from pathlib import Path
from typing import TYPE_CHECKING

from mettrail import joblog
from mettrail.segmentation import crossvalidation

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

# nnU-Net starts processes that import this file again.
if __name__ == "__main__":
    with joblog.to(snakemake.log[0]):
        crossvalidation.plan_dataset(
            Path(snakemake.output.preprocessed).parents[1], threads=snakemake.threads, **snakemake.params.settings
        )
