"""Rule features: radiomics features of all sessions in one table, and their change between sessions in another."""

from typing import TYPE_CHECKING

import mettrail
from mettrail import jobs, schema, sidecars
from mettrail.tracking import features

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake, failable=("tables",), passes_on=False) as output:
    rows = schema.read_tables(jobs.complete(snakemake.input.tables), "features")
    values, changes = features.compare_sessions(rows)
    maker = sidecars.describe_maker(version=mettrail.__version__, settings_hash=snakemake.params.config_hash)
    tools = dict(zip(rows["software"], rows["software_version"], strict=True))
    schema.write_csv_mirror(values, output.table, "features", maker=maker, tools=tools)
    schema.write_csv_mirror(changes, output.changes, "features", maker=maker, tools=tools)
