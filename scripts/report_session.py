"""Rule report_session: pictures of one session, and its lesions for 3D Slicer."""

from typing import TYPE_CHECKING

from mettrail import images, jobs, schema
from mettrail.report import scans

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake, skippable=("moved",), failable=("earlier",)) as output:
    moved = jobs.given(snakemake.input.get("moved"))
    title = "sub-{sub} ses-{ses}".format(**snakemake.wildcards)
    lesions, names = images.read_labels(snakemake.input.lesions), schema.read_tsv(snakemake.input.names)
    images.write_slicer(
        output.segments, lesions.data, lesions.affine, names[["index", "name", "color"]].itertuples(index=False)
    )
    head, mask = images.read_image(snakemake.input.image), images.read_mask(snakemake.input.mask)
    scans.draw_brain_mask(head, mask, output.brain, title=title)
    scans.draw_session(
        images.read_image(snakemake.input.raw),
        lesions,
        images.read_labels(snakemake.input.tissue, images.TISSUE_LABELS),
        mask,
        output.lesions,
        output.more,
        lesion_rows=schema.read_tsv(snakemake.input.table),
        earlier_rows=schema.read_tsvs(jobs.complete(snakemake.input.get("earlier", []))),
        title=title,
    )
    scans.draw_registration(
        images.read_image(snakemake.input.preproc),
        images.read_image(moved) if moved else None,
        output.registration,
        title=title,
    )
