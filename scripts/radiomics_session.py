"""Rule radiomics_session: masks of one session's lesions and their parts, on the raw grid and at 1 mm."""

from typing import TYPE_CHECKING

import mettrail
from mettrail import images, jobs, schema, sidecars
from mettrail.tracking import radiomics

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake) as output:
    files = {**snakemake.output, "lesion_raw": snakemake.input.lesions}
    raw = radiomics.split_lesions(
        images.read_labels(snakemake.input.lesions),
        images.read_labels(snakemake.input.tissue, images.TISSUE_LABELS),
        images.read_labels(snakemake.input.components),
        edema_max_mm=snakemake.params.edema_max_mm,
        shows_edema=sidecars.read_json(snakemake.input.sidecar)["ShowsEdema"],
    )
    masks = radiomics.make_masks(raw, images.read_grid(snakemake.input.image))
    sources = [snakemake.input[name] for name in ("lesions", "tissue", "components")]
    origin = sidecars.describe_origin(sources, **snakemake.params.origin)
    radiomics.write_masks(masks, vars(output), origin=origin)
    rows = radiomics.tabulate(
        masks,
        schema.read_tsv(snakemake.input.names, text=["name"]),
        whose=snakemake.params.whose,
        scans={"raw": snakemake.input.raw, "1mm": snakemake.input.image},
        files=files,
        folder=snakemake.params.folder,
        few_voxels=snakemake.params.few_voxels,
    )
    maker = sidecars.describe_maker(version=mettrail.__version__)
    schema.write_table(rows, output.table, "radiomics", maker=maker)
