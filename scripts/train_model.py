"""Rule train_model: the networks that did best on sessions not seen, as a model folder."""

from pathlib import Path
from typing import TYPE_CHECKING

from mettrail import joblog
from mettrail.segmentation import crossvalidation

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

# nnU-Net starts processes that import this file again.
if __name__ == "__main__":
    with joblog.to(snakemake.log[0]):
        crossvalidation.gather_model(
            Path(snakemake.output.model).parent,
            channels=snakemake.params.channels,
            threads=snakemake.threads,
            **snakemake.params.settings,
        )
