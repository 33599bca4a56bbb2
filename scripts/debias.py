"""Rule debias: bias correction of one scan on its RAS 1 mm grid."""

from typing import TYPE_CHECKING

from mettrail import bias, images, joblog

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with joblog.to(snakemake.log[0]):
    head = images.read_image(snakemake.input.image)
    corrected = bias.correct_bias(head, threads=snakemake.threads, **snakemake.params.settings)
    images.write_image(snakemake.output.image, corrected.data, corrected.affine)
