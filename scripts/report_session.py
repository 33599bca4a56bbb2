"""Rule report_session: pictures of one session."""

from typing import TYPE_CHECKING

from mettrail import figures, images, joblog, tables

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with joblog.to(snakemake.log[0]):
    title = "sub-{sub} ses-{ses}".format(**snakemake.wildcards)
    head, mask = images.read_image(snakemake.input.image), images.read_mask(snakemake.input.mask)
    figures.draw_brain_mask(head, mask, snakemake.output.brain, title=title)
    figures.draw_session(
        images.read_image(snakemake.input.raw),
        images.read_labels(snakemake.input.lesions),
        mask,
        snakemake.output.lesions,
        lesion_rows=tables.read_tsv(snakemake.input.table),
        title=title,
        max_lesions=8,
    )
    figures.draw_registration(
        images.read_image(snakemake.input.preproc),
        images.read_image(snakemake.input.moved) if snakemake.input.get("moved") else None,
        snakemake.output.registration,
        title=title,
    )
