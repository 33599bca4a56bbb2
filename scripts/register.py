"""Rule register: the last visit deformed onto this one."""

from typing import TYPE_CHECKING

from mettrail import brain, images, jobs, sidecars, transforms
from mettrail.registration import visits

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake, failable=("moving", "moving_mask", "moving_quality", "moving_registration")) as output:
    # One whose scan is another head's, or mirrored, has no lesions to tell of.
    found = (snakemake.input[name] for name in ("moving", "moving_mask", "moving_quality", "moving_registration"))
    sound = brain.sound_positions(*found)
    if not sound:
        raise jobs.Skip("no earlier session of this patient can be used: this one is read like a first session")
    last = sound[-1]
    fixed, moving = (images.read_image(path) for path in (snakemake.input.fixed, snakemake.input.moving[last]))
    fixed_mask, moving_mask = (
        images.read_mask(path) for path in (snakemake.input.fixed_mask, snakemake.input.moving_mask[last])
    )
    transform, moved, quality = visits.register_visits(
        fixed, moving, fixed_mask, moving_mask, threads=snakemake.threads, **snakemake.params.settings
    )
    assert transform.warp is not None, "a deformable registration has a warp"
    transforms.write_affine(output.affine, transform.affine)
    transforms.write_warp(output.warp, transform.warp)
    images.write_image(output.moved, moved.data, moved.affine)
    # Of the outputs, as they will be named.
    used = [snakemake.input.fixed, snakemake.input.moving[last], snakemake.output.affine, snakemake.output.warp]
    sidecars.write_json(sidecars.describe_origin(used, **snakemake.params.origin), output.moved_sidecar)
    sidecars.write_json(quality | {"prior_session": snakemake.params.earlier[last]}, output.quality)
