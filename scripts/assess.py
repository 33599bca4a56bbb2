"""Rule assess: RANO-BM response of one patient."""

from typing import TYPE_CHECKING

from mettrail import cohort, joblog, matching, rano, tables, tsv

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with joblog.to(snakemake.log[0]):
    registries = [matching.read_registry(path) for path in snakemake.input.registries]
    sessions = cohort.describe_sessions(snakemake.params.sessions, registries)
    overrides, frozen = snakemake.input.get("overrides"), snakemake.input.get("frozen")
    lesions, sessions, patient = rano.assess_patient(
        tables.read_tsvs(snakemake.input.tables),
        sessions,
        snakemake.params.participant,
        rano=snakemake.params.rano,
        volume=snakemake.params.volume,
        overrides=tsv.read_frame(overrides) if overrides else None,
        overrides_source=overrides or "",
        frozen=tables.read_table(frozen, "lesions") if frozen else None,
        config_hash=snakemake.params.config_hash,
    )
    tables.write_table(lesions, snakemake.output.lesions, "lesions")
    tables.write_table(sessions, snakemake.output.sessions, "sessions")
    tables.write_table(patient, snakemake.output.patient, "patients")
