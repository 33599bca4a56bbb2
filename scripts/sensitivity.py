"""Rule sensitivity: what each changed setting changes in the cohort."""

from typing import TYPE_CHECKING

from mettrail import joblog, sensitivity, tables

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with joblog.to(snakemake.log[0]):
    responses = tables.read_tsvs(snakemake.input.responses, text=["value"])
    rows = sensitivity.summarise(responses, snakemake.params.config)
    tables.write_csv_mirror(tables.make_table(rows, "sensitivity"), snakemake.output.table, "sensitivity")
