"""Rules segment and segment_followup: class probabilities of one network on one session."""

from pathlib import Path
from typing import TYPE_CHECKING

from mettrail import geometry, images, jobs, segmentation, sidecars
from mettrail.segmentation.model_folder import PRIOR_IMAGE

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake, failable=("prior_image",)) as output:
    model = segmentation.read_model(Path(snakemake.input.model[0]).parent)
    mask = images.read_mask(snakemake.input.mask)
    within = geometry.grow_mask(mask.data, spacing_mm=mask.spacing_mm, grow_mm=snakemake.params.grow_mm)
    prior_image = jobs.given(snakemake.input.get("prior_image") or None)
    if PRIOR_IMAGE in model.channels and prior_image is None:
        print(f"no image of a prior session: zeros stand for {PRIOR_IMAGE}")
    channels = segmentation.read_channels(
        model,
        reference=(snakemake.params.reference, snakemake.input.reference),
        sequences=snakemake.input.get("sequences", []),
        prior=snakemake.input.get("prior"),
        prior_image=prior_image,
    )
    probabilities = segmentation.predict_probabilities(
        model, channels, within=within, device=snakemake.params.device, threads=snakemake.threads
    )
    images.write_probabilities(output.probabilities, probabilities, mask.affine)
    origin = sidecars.describe_origin(jobs.complete(list(snakemake.input)), **snakemake.params.origin)
    sidecars.write_json(origin, output.sidecar)
