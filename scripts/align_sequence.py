"""Rule align_sequence: another sequence rigidly on the session's reference image."""

from typing import TYPE_CHECKING

from mettrail import brain, images, joblog, transforms, visits

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with joblog.to(snakemake.log[0]):
    moving = images.read_image(snakemake.input.image)
    reference = images.read_image(snakemake.input.reference)
    mask = images.read_mask(snakemake.input.mask)
    transform = visits.align_sequence(
        reference, moving, mask=mask, threads=snakemake.threads, **snakemake.params.settings
    )
    moved = transforms.apply(moving, reference.grid, affine=transform.affine)
    stripped = brain.apply_mask(moved, mask, grow_mm=snakemake.params.grow_mm)
    images.write_image(snakemake.output.image, stripped.data, stripped.affine)
    transforms.write_affine(snakemake.output.affine, transform.affine)
