"""Rule register_reference: this session rigidly to the patient's reference space."""

from typing import TYPE_CHECKING

from mettrail import brain, images, jobs, sidecars, transforms
from mettrail.registration import visits

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake, failable=("fixed", "fixed_mask", "fixed_quality")) as output:
    known = (snakemake.input.fixed, snakemake.input.fixed_mask, snakemake.input.fixed_quality)
    # A visit without a sound brain mask gives nobody its space; where there is no other, it is the last, this one.
    first = [*brain.sound_positions(*known), jobs.first_complete(*known, last=True)][0]
    fixed, moving = (images.read_image(path) for path in (snakemake.input.fixed[first], snakemake.input.moving))
    fixed_mask, moving_mask = (
        images.read_mask(path) for path in (snakemake.input.fixed_mask[first], snakemake.input.moving_mask)
    )
    affine, quality = visits.register_reference(
        fixed,
        moving,
        fixed_mask,
        moving_mask,
        threads=snakemake.threads,
        check=snakemake.params.check,
        **snakemake.params.settings,
    )
    transforms.write_affine(output.affine, affine)
    sidecars.write_json(quality | {"reference_session": snakemake.params.reference_sessions[first]}, output.quality)
