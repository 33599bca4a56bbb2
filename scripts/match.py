"""Rule match: lesions of this session against all lesions the patient has had."""

from typing import TYPE_CHECKING

from mettrail import images, joblog, matching, sidecars, tables, transforms

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with joblog.to(snakemake.log[0]):
    instances = images.read_labels(snakemake.input.labels)
    measured = tables.read_tsv(snakemake.input.table)
    session = matching.describe_session(
        snakemake.params.session,
        totals=sidecars.read_json(snakemake.input.totals),
        quality=sidecars.read_json(snakemake.input.quality),
        reference=snakemake.params.reference,
    )
    registry = matching.read_registry(snakemake.input.registry, session) if snakemake.input.get("registry") else None
    grid = images.read_image(snakemake.input.reference).grid
    to_session = transforms.read_affine(snakemake.input.affine)
    matches, registry = matching.match_lesions(
        matching.instances_to_reference(instances, grid, world=to_session),
        measured,
        registry,
        session=session,
        field_of_view=matching.field_of_view(instances.grid, grid, world=to_session),
        **snakemake.params.settings,
    )
    rows = matching.summarise_tracks(matches, measured)
    tables.write_tsv(rows, snakemake.output.table)
    tables.write_tsv(matching.name_tracks(matches), snakemake.output.names)
    images.write_labels(snakemake.output.labels, matching.relabel_tracks(instances.data, matches), instances.affine)
    matching.write_registry(registry, snakemake.output.registry)
