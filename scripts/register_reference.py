"""Rule register_reference: this session rigidly to the patient's reference space."""

from typing import TYPE_CHECKING

from mettrail import images, joblog, sidecars, transforms, visits

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with joblog.to(snakemake.log[0]):
    fixed, moving = (images.read_image(path) for path in (snakemake.input.fixed, snakemake.input.moving))
    fixed_mask, moving_mask = (
        images.read_mask(path) for path in (snakemake.input.fixed_mask, snakemake.input.moving_mask)
    )
    affine, quality = visits.register_reference(
        fixed, moving, fixed_mask, moving_mask, threads=snakemake.threads, **snakemake.params.settings
    )
    transforms.write_affine(snakemake.output.affine, affine)
    sidecars.write_json(quality, snakemake.output.quality)
