"""Rule report_session: pictures of one session."""

from typing import TYPE_CHECKING

from mettrail import figures, images, jobs, tables

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake, skippable=("moved",)) as output:
    moved = jobs.given(snakemake.input.get("moved"))
    title = "sub-{sub} ses-{ses}".format(**snakemake.wildcards)
    head, mask = images.read_image(snakemake.input.image), images.read_mask(snakemake.input.mask)
    figures.draw_brain_mask(head, mask, output.brain, title=title)
    figures.draw_session(
        images.read_image(snakemake.input.raw),
        images.read_labels(snakemake.input.lesions),
        mask,
        output.lesions,
        lesion_rows=tables.read_tsv(snakemake.input.table),
        title=title,
        max_lesions=8,
    )
    figures.draw_registration(
        images.read_image(snakemake.input.preproc),
        images.read_image(moved) if moved else None,
        output.registration,
        title=title,
    )
