"""Rule radiomics: the masks of all sessions in one table."""

from typing import TYPE_CHECKING

from mettrail import jobs, schema

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake, failable=("tables",), passes_on=False) as output:
    rows = schema.read_tables(jobs.complete(snakemake.input.tables), "radiomics")
    schema.write_csv_mirror(rows, output.table, "radiomics")
