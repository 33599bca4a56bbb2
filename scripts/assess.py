"""Rule assess: RANO-BM response of one patient."""

from typing import TYPE_CHECKING

from mettrail import cohort, jobs, matching, rano, tables, tsv

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake, failable=("tables", "registries")) as output:
    failures = jobs.failures_in(snakemake.input.registries)
    rows = cohort.mark_failed(snakemake.params.sessions, failures)
    done = [not jobs.explain(path) for path in snakemake.input.registries]

    def _assess(rows, done):
        registries = [matching.read_registry(p) for p, ok in zip(snakemake.input.registries, done) if ok]
        matching.require_settings(registries, snakemake.params.matching_hash)
        overrides, frozen = snakemake.input.get("overrides"), snakemake.input.get("frozen")
        return rano.assess_patient(
            tables.read_tsvs([path for path, ok in zip(snakemake.input.tables, done) if ok]),
            cohort.describe_sessions(rows, registries),
            snakemake.params.participant,
            rano=snakemake.params.rano,
            volume=snakemake.params.volume,
            overrides=tsv.read_frame(overrides) if overrides and any(done) else None,
            overrides_source=overrides or "",
            frozen=tables.read_table(frozen, "lesions") if frozen and any(done) else None,
            config_hash=snakemake.params.config_hash,
        )

    try:
        found = _assess(rows, done)
    except Exception as err:
        # The patient stays in the tables: every session not evaluable, with the reason.
        failure = output.record(err)
        found = _assess(cohort.mark_failed(rows, [failure]), [False] * len(done))
    lesions, sessions, patient = found
    tables.write_table(lesions, output.lesions, "lesions")
    tables.write_table(sessions, output.sessions, "sessions")
    tables.write_table(patient, output.patient, "patients")
