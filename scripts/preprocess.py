"""Rule preprocess: the reference image, brain only, as networks and registration see it."""

from typing import TYPE_CHECKING

from mettrail import brain, images, jobs, sidecars

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake) as output:
    head = images.read_image(snakemake.input.image)
    mask = images.read_mask(snakemake.input.mask)
    stripped = brain.apply_mask(head, mask, grow_mm=snakemake.params.grow_mm)
    images.write_image(output.image, stripped.data, stripped.affine)
    sidecars.write_json(sidecars.describe_origin(snakemake.input, **snakemake.params.origin), output.sidecar)
