"""Rule debias: bias correction of one scan on its RAS 1 mm grid."""

from typing import TYPE_CHECKING

from mettrail import bias, images, jobs, sidecars

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake) as output:
    head = images.read_image(snakemake.input.image)
    corrected = bias.correct_bias(head, threads=snakemake.threads, **snakemake.params.settings)
    images.write_image(output.image, corrected.data, corrected.affine)
    sidecars.write_json(sidecars.describe_origin(snakemake.input, **snakemake.params.origin), output.sidecar)
