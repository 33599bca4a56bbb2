"""Rule strip: brain mask of the reference image, and whether it is T1w with contrast agent."""

from typing import TYPE_CHECKING

from mettrail import brain, contrast, images, jobs, sidecars

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake) as output:
    head = images.read_image(snakemake.input.image)
    settings = brain.Settings(**snakemake.params.settings)
    mask, quality = brain.extract_brain(head, settings, threads=snakemake.threads)
    share = contrast.bright_share(head, mask)
    doubtful = ["contrast_doubtful"] * (share < snakemake.params.bright_share_warn)
    doubtful += ["sequence_doubtful"] * contrast.shows_bright_fluid(head, mask)
    quality |= {"bright_share": round(share, 5), "flags": quality["flags"] + doubtful}
    images.write_labels(output.mask, mask.data, mask.affine)
    origin = sidecars.describe_origin([snakemake.input.image], **snakemake.params.origin)
    sidecars.write_json(quality | origin, output.quality)
