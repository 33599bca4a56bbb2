"""Rule features_session: radiomics features of one session's lesions and their parts."""

from typing import TYPE_CHECKING

import mettrail
from mettrail import images, jobs, schema, sidecars
from mettrail.schema.radiomics import TISSUES
from mettrail.tracking import features

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake) as output:
    settings = snakemake.params.settings
    scan = images.read_image(snakemake.input.image)
    brain = images.resample(images.read_mask(snakemake.input.brain), scan.grid, order=0)
    rows = features.measure_session(
        features.normalise(scan, brain, normalisation=settings["normalisation"]),
        {tissue: images.read_labels(snakemake.input[tissue]) for tissue in TISSUES},
        schema.read_tsv(snakemake.input.names, text=["name"]),
        whose=snakemake.params.whose,
        few_voxels=snakemake.params.few_voxels,
        **settings,
    )
    maker = sidecars.describe_maker(version=mettrail.__version__)
    schema.write_table(rows, output.table, "features", maker=maker)
