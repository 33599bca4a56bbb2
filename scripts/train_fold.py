"""Rule train_fold: one network of the cross-validation."""

from pathlib import Path
from typing import TYPE_CHECKING

from mettrail import joblog, sidecars
from mettrail.segmentation import crossvalidation

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

# nnU-Net starts processes that import this file again.
if __name__ == "__main__":
    with joblog.to(snakemake.log[0]):
        summary = crossvalidation.train_fold(
            Path(snakemake.output.summary).parents[1],
            trainer=snakemake.wildcards.trainer,
            fold=int(snakemake.wildcards.fold),
            threads=snakemake.threads,
            save_probabilities=snakemake.params.save_probabilities,
            **snakemake.params.settings,
        )
        sidecars.write_json(summary, snakemake.output.summary)
