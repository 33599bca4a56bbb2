"""Rule segment_fine: what detection sees at nearly the scan's own resolution, where that is finer than 1 mm."""

from pathlib import Path
from typing import TYPE_CHECKING

from mettrail import geometry, images, jobs, segmentation, sidecars

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake) as output:
    model = segmentation.read_model(Path(snakemake.input.model[0]).parent)
    scan, debiased = images.read_image(snakemake.input.raw), images.read_image(snakemake.input.debiased)
    mask = images.read_mask(snakemake.input.mask)
    within = geometry.grow_mask(mask.data, spacing_mm=mask.spacing_mm, grow_mm=snakemake.params.grow_mm)
    seen = segmentation.look_again(
        model,
        scan,
        debiased,
        mask.like(within),
        below_mm=snakemake.params.below_mm,
        device=snakemake.params.device,
        threads=snakemake.threads,
    )
    images.write_probabilities(output.probabilities, seen.data, seen.affine)
    origin = sidecars.describe_origin(snakemake.input, **snakemake.params.origin)
    sidecars.write_json(origin, output.sidecar)
