"""Rule propagate: the last visit's lesions in this session's space."""

from typing import TYPE_CHECKING

from mettrail import images, joblog, transforms

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with joblog.to(snakemake.log[0]):
    labels = images.read_labels(snakemake.input.labels, images.TISSUE_LABELS)
    grid = images.read_image(snakemake.input.image).grid
    affine = transforms.read_affine(snakemake.input.affine)
    warp = transforms.read_warp(snakemake.input.warp)
    moved = transforms.warp_labels(labels, grid, affine=affine, warp=warp)
    print(f"lesions kept by one voxel: {moved.rescued}; lesions outside the field of view: {moved.outside}")
    images.write_labels(snakemake.output.labels, moved.image.data, moved.image.affine)
