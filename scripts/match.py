"""Rule match: lesions of this session against all lesions the patient has had."""

from typing import TYPE_CHECKING

from mettrail import images, joblog, lesions, matching, sidecars, tables, transforms

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
        reference_session=snakemake.params.reference_session,
    )
    before = matching.read_registry(snakemake.input.registry, session) if snakemake.input.get("registry") else None
    grid = images.read_image(snakemake.input.reference).grid
    to_session = transforms.read_affine(snakemake.input.affine)
    known = {
        "session": session,
        "field_of_view": matching.field_of_view(instances.grid, grid, world=to_session),
        "frozen": [matching.read_registry(path) for path in snakemake.input.get("frozen", [])],
        "config_hash": snakemake.params.config_hash,
        **snakemake.params.settings,
    }

    def _match(instances, measured):
        in_reference = matching.instances_to_reference(instances, grid, world=to_session)
        return matching.match_lesions(in_reference, measured, before, **known)

    matches, registry = _match(instances, measured)
    if snakemake.params.merge_policy == "watershed" and before:
        parts = matching.part_merged(instances, matches, before, world=to_session)
        if parts is not None:
            tissue = images.read_labels(snakemake.input.tissue, images.TISSUE_LABELS)
            brain = images.resample(images.read_labels(snakemake.input.mask), tissue.grid, order=0)
            instances = images.Image(parts, instances.affine)
            measured, _ = lesions.measure_instances(
                parts, tissue.data, affine=tissue.affine, brain=brain.data > 0, **snakemake.params.measure
            )
            matches, registry = _match(instances, measured)
    rows = matching.summarise_tracks(matches, measured)
    tables.write_tsv(rows, snakemake.output.table)
    tables.write_tsv(matching.name_tracks(matches), snakemake.output.names)
    images.write_labels(snakemake.output.labels, matching.relabel_tracks(instances.data, matches), instances.affine)
    matching.write_registry(registry, snakemake.output.registry)
