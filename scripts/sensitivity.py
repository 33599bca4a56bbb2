"""Rule sensitivity: what each changed setting changes in the cohort."""

from typing import TYPE_CHECKING

import mettrail
from mettrail import jobs, schema, sidecars
from mettrail.response import sensitivity

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake, failable=("responses",), passes_on=False) as output:
    responses = schema.read_tsvs(jobs.complete(snakemake.input.responses), text=["value"])
    rows = sensitivity.summarise(responses, snakemake.params.config)
    maker = sidecars.describe_maker(version=mettrail.__version__, settings_hash=snakemake.params.config_hash)
    schema.write_csv_mirror(schema.make_table(rows, "sensitivity"), output.table, "sensitivity", maker=maker)
