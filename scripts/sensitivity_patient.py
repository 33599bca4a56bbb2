"""Rule sensitivity_patient: the response of one patient with settings changed one at a time."""

from typing import TYPE_CHECKING

from mettrail import images, joblog, sensitivity, tables, tsv

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with joblog.to(snakemake.log[0]):
    reference, overrides = snakemake.input.get("reference"), snakemake.input.get("overrides")
    responses = sensitivity.vary_patient(
        sensitivity.read_visits(
            snakemake.params.sessions,
            labels=snakemake.input.labels,
            masks=snakemake.input.masks,
            pieces=snakemake.input.pieces,
            evidence=snakemake.input.evidence,
            qualities=snakemake.input.qualities,
            affines=snakemake.input.affines,
        ),
        snakemake.params.sessions,
        snakemake.params.participant,
        config=snakemake.params.config,
        values=snakemake.params["values"],
        grid=images.read_image(reference).grid if reference else None,
        reference_session=snakemake.params.reference_session,
        overrides=tsv.read_frame(overrides) if overrides else None,
    )
    tables.write_tsv(responses, snakemake.output.responses)
