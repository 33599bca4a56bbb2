"""Rule fetch: weights that may not be shipped, from their publisher, checked."""

from typing import TYPE_CHECKING

from mettrail import jobs, weights

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake, passes_on=False, in_place=True) as output:
    weights.fetch_weights("hd-bet", snakemake.params.registry, output.weights)
