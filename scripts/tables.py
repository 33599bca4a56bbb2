"""Rule tables: the tables of the cohort and their dictionaries."""

from typing import TYPE_CHECKING

from mettrail import jobs, schema, sidecars
from mettrail.report import method

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

KINDS = ("lesions", "sessions", "patients", "treated_lesions")

with jobs.job(snakemake, failable=KINDS, passes_on=False) as output:
    about = method.describe_program(snakemake.params.config_hash)
    maker = sidecars.describe_maker(version=about.version, settings_hash=about.settings_hash)
    tables = {kind: schema.read_tables(jobs.complete(snakemake.input[kind]), kind) for kind in KINDS}
    schema.write_csv_mirror(tables["lesions"], output.lesions, "lesions", maker=maker)
    schema.write_csv_mirror(tables["sessions"], output.sessions, "sessions", maker=maker)
    schema.write_csv_mirror(tables["patients"], output.patients, "patients", maker=maker)
    schema.write_csv_mirror(tables["treated_lesions"], output.treated_lesions, "treated_lesions", maker=maker)
    schema.write_table(tables["patients"], output.participants, "patients", maker=maker)
