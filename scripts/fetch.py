"""Rule fetch: weights that may not be shipped, from their publisher, checked."""

from typing import TYPE_CHECKING

from mettrail import joblog, weights

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with joblog.to(snakemake.log[0]):
    weights.fetch_weights("hd-bet", snakemake.params.registry, snakemake.output.weights)
