"""Rule assess: RANO-BM response of one patient, and what became of treated lesions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mettrail
from mettrail import cohort, images, jobs, schema, sidecars
from mettrail.response import assessment, rules
from mettrail.schema import tsv
from mettrail.tracking import regions, registry

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

FILES = ("tables", "registries", "labels", "names", "comparisons")
PLACE = ("region_affine", "region_quality")

with jobs.job(snakemake, failable=(*FILES, *PLACE)) as output:
    files = {name: snakemake.input.get(name, []) for name in FILES}
    failures = jobs.failures_in(snakemake.input.registries)
    rows = cohort.mark_failed(snakemake.params.sessions, failures)
    place = [snakemake.input.get(name, []) for name in PLACE]
    has_place = all(place) and not any(map(jobs.explain, place))
    overrides, frozen = snakemake.input.get("overrides"), snakemake.input.get("frozen")

    def _assess(rows: list[dict[str, Any]], files: Mapping[str, Sequence[str | Path]]) -> assessment.Assessment:
        registries = [registry.read_registry(path) for path in files["registries"]]
        registry.require_settings(registries, snakemake.params.matching_hash)
        any_done = bool(registries)
        return assessment.assess(
            assessment.Matched(
                schema.read_tsvs(files["tables"]),
                cohort.describe_sessions(rows, registries),
                schema.read_tsvs(files["comparisons"]),
                assessment.read_maps(registries, files["labels"], files["names"]),
            ),
            assessment.Said(
                snakemake.params.participant,
                snakemake.params.treatments if any_done else [],
                tsv.read_frame(overrides) if overrides and any_done else None,
                overrides or "",
                schema.read_table(frozen, "lesions") if frozen and any_done else None,
            ),
            rules=rules.Rules.of(rano=snakemake.params.rano, volume=snakemake.params.volume),
            region_affine=regions.read_region_affine(*place) if has_place else None,
            atlas=images.read_labels(snakemake.input.atlas),
            config_hash=snakemake.params.config_hash,
        )

    try:
        found = _assess(rows, {name: jobs.complete(paths) for name, paths in files.items()})
    except Exception as err:
        # The patient stays in the tables: every session not evaluable, with the reason.
        failure = output.record(err)
        found = _assess(cohort.mark_failed(rows, [failure]), {name: [] for name in FILES})
    maker = sidecars.describe_maker(version=mettrail.__version__, settings_hash=snakemake.params.config_hash)
    schema.write_table(found.lesions, output.lesions, "lesions", maker=maker)
    schema.write_table(found.sessions, output.sessions, "sessions", maker=maker)
    schema.write_table(found.patients, output.patient, "patients", maker=maker)
    schema.write_table(found.treated, output.treated, "treated_lesions", maker=maker)
    schema.write_tsv(found.treatments, output.treatments)
    schema.write_tsv(found.decisions, output.decisions)
    cohort.write_problems(found.problems, output.problems)
