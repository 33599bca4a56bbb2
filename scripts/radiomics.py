"""Rule radiomics: the masks of all sessions in one table."""

from typing import TYPE_CHECKING

import mettrail
from mettrail import jobs, schema, sidecars

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake, failable=("tables",), passes_on=False) as output:
    rows = schema.read_tables(jobs.complete(snakemake.input.tables), "radiomics")
    maker = sidecars.describe_maker(version=mettrail.__version__, settings_hash=snakemake.params.config_hash)
    schema.write_csv_mirror(rows, output.table, "radiomics", maker=maker)
