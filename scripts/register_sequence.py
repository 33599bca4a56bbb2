"""Rule register_sequence: another sequence rigidly on the session's reference image."""

from typing import TYPE_CHECKING

from mettrail import brain, contrast, images, jobs, sidecars, transforms
from mettrail.registration import visits

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake) as output:
    moving = images.read_image(snakemake.input.image)
    reference = images.read_image(snakemake.input.reference)
    mask = images.read_mask(snakemake.input.mask)
    transform, moved, quality = visits.register_sequence(
        reference,
        moving,
        mask=mask,
        check=snakemake.params.check,
        threads=snakemake.threads,
        **snakemake.params.settings,
    )
    moved = images.Image(moved.data, moved.affine, moving.path)  # A message names the scan.
    contrast.require_weighting(snakemake.wildcards.mod, moved, reference, mask)
    stripped = brain.apply_mask(moved, mask, grow_mm=snakemake.params.grow_mm)
    images.write_image(output.image, stripped.data, stripped.affine)
    transforms.write_affine(output.affine, transform.affine)
    origin = sidecars.describe_origin(snakemake.input, **snakemake.params.origin)
    sidecars.write_json(quality | origin, output.sidecar)
