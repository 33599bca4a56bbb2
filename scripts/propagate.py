"""Rule propagate: the last visit's confirmed lesions in this session's space."""

from typing import TYPE_CHECKING

from mettrail import images, jobs, schema, segmentation, sidecars, transforms

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake, failable=("labels", "components", "evidence")) as output:
    prior = sidecars.read_json(snakemake.input.quality)["prior_session"]
    place = snakemake.params.earlier.index(prior)
    path, components, evidence = (snakemake.input[name][place] for name in ("labels", "components", "evidence"))
    if jobs.explain(path):
        raise jobs.Skip(f"{prior}, the session before, has no lesion labels: this one is read like a first session")
    labels = segmentation.remove_candidates(
        images.read_labels(path, images.TISSUE_LABELS), images.read_labels(components), schema.read_tsv(evidence)
    )
    grid = images.read_image(snakemake.input.image).grid
    affine = transforms.read_affine(snakemake.input.affine)
    warp = transforms.read_warp(snakemake.input.warp)
    moved = transforms.warp_labels(labels, grid, affine=affine, warp=warp)
    print(f"lesions kept by one voxel: {moved.rescued}; lesions outside the field of view: {moved.outside}")
    images.write_labels(output.labels, moved.image.data, moved.image.affine)
    used = [path, components, evidence, snakemake.input.affine, snakemake.input.warp]
    sidecars.write_json(sidecars.describe_origin(used, **snakemake.params.origin), output.sidecar)
