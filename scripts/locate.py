"""Rule locate: the patient's reference space on the atlas of regions."""

from typing import TYPE_CHECKING

from mettrail import images, jobs, sidecars, transforms
from mettrail.tracking import regions

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake, failable=("image", "mask")) as output:
    first = jobs.first_complete(snakemake.input.image, snakemake.input.mask)
    affine, quality = regions.register_atlas(
        images.read_image(snakemake.input.image[first]),
        images.read_mask(snakemake.input.mask[first]),
        threads=snakemake.threads,
    )
    transforms.write_affine(output.affine, affine)
    sidecars.write_json(quality | {"reference_session": snakemake.params.reference_sessions[first]}, output.quality)
