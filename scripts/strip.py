"""Rule strip: brain mask of the reference image."""

from typing import TYPE_CHECKING

from mettrail import brain, images, joblog, sidecars

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with joblog.to(snakemake.log[0]):
    head = images.read_image(snakemake.input.image)
    mask, quality = brain.extract_brain(head, threads=snakemake.threads, **snakemake.params.settings)
    images.write_labels(snakemake.output.mask, mask.data, mask.affine)
    sidecars.write_json(quality, snakemake.output.quality)
