"""Rule train_dataset: sessions with manual segmentations as nnU-Net's raw data."""

from typing import TYPE_CHECKING

from mettrail import jobs
from mettrail.training import dataset

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake, passes_on=False, in_place=True) as output:
    dataset.write_dataset(
        snakemake.params.sessions,
        output.raw,
        channels=snakemake.params.channels,
        **snakemake.params.settings,
    )
