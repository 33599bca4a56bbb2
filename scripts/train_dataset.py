"""Rule train_dataset: sessions with masks drawn by people as nnU-Net's raw data."""

from typing import TYPE_CHECKING

from mettrail import joblog
from mettrail.segmentation import dataset

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with joblog.to(snakemake.log[0]):
    dataset.write_dataset(
        snakemake.params.sessions,
        snakemake.output.raw,
        channels=snakemake.params.channels,
        **snakemake.params.settings,
    )
