"""Rule align: the reference image, brain only, as networks and registration see it."""

from typing import TYPE_CHECKING

from mettrail import brain, images, joblog

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with joblog.to(snakemake.log[0]):
    head = images.read_image(snakemake.input.image)
    mask = images.read_mask(snakemake.input.mask)
    stripped = brain.apply_mask(head, mask, grow_mm=snakemake.params.grow_mm)
    images.write_image(snakemake.output.image, stripped.data, stripped.affine)
