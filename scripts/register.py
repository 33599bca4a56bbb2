"""Rule register: the last visit deformed onto this one."""

from typing import TYPE_CHECKING

from mettrail import images, joblog, sidecars, transforms, visits

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with joblog.to(snakemake.log[0]):
    fixed, moving = (images.read_image(path) for path in (snakemake.input.fixed, snakemake.input.moving))
    fixed_mask, moving_mask = (
        images.read_mask(path) for path in (snakemake.input.fixed_mask, snakemake.input.moving_mask)
    )
    transform, moved, quality = visits.register_visits(
        fixed, moving, fixed_mask, moving_mask, threads=snakemake.threads, **snakemake.params.settings
    )
    transforms.write_affine(snakemake.output.affine, transform.affine)
    transforms.write_warp(snakemake.output.warp, transform.warp)
    images.write_image(snakemake.output.moved, moved.data, moved.affine)
    sidecars.write_json(quality, snakemake.output.quality)
