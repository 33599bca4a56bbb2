"""Rule strip: brain mask of the reference image."""

from typing import TYPE_CHECKING

from mettrail import brain, images, jobs, sidecars

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake) as output:
    head = images.read_image(snakemake.input.image)
    settings = brain.Settings(**snakemake.params.settings)
    mask, quality = brain.extract_brain(head, settings, threads=snakemake.threads)
    images.write_labels(output.mask, mask.data, mask.affine)
    origin = sidecars.describe_origin([snakemake.input.image], **snakemake.params.origin)
    sidecars.write_json(quality | origin, output.quality)
