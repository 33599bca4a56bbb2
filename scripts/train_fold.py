"""Rule train_fold: one network of the cross-validation."""

from pathlib import Path
from typing import TYPE_CHECKING

from mettrail import jobs, sidecars
from mettrail.training import crossvalidation

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

# nnU-Net starts processes that import this file again.
if __name__ == "__main__":
    with jobs.job(snakemake, passes_on=False, in_place=True) as output:
        summary = crossvalidation.train_fold(
            Path(output.summary).parents[1],
            trainer=snakemake.wildcards.trainer,
            fold=int(snakemake.wildcards.fold),
            threads=snakemake.threads,
            save_probabilities=snakemake.params.save_probabilities,
            **snakemake.params.settings,
        )
        sidecars.write_json(summary, output.summary)
