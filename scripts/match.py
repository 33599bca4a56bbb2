"""Rule match: lesions of this session against all lesions the patient has had."""

from typing import TYPE_CHECKING

from mettrail import images, joblog, lesions, matching, sidecars, tables, transforms

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with joblog.to(snakemake.log[0]):
    session = matching.describe_session(
        snakemake.params.session,
        totals=sidecars.read_json(snakemake.input.totals),
        quality=sidecars.read_json(snakemake.input.quality),
        reference=snakemake.params.reference,
        reference_session=snakemake.params.reference_session,
    )
    before = matching.read_registry(snakemake.input.registry, session) if snakemake.input.get("registry") else None

    def _read_scan():
        tissue = images.read_labels(snakemake.input.tissue, images.TISSUE_LABELS)
        brain = images.resample(images.read_labels(snakemake.input.mask), tissue.grid, order=0)
        pieces = images.read_labels(snakemake.input.pieces)
        return tissue, brain, lesions.Evidence(pieces.data, tables.read_tsv(snakemake.input.evidence))

    tracks, matches, instances, registry = matching.match_visit(
        images.read_labels(snakemake.input.labels),
        tables.read_tsv(snakemake.input.table),
        before,
        session=session,
        grid=images.read_image(snakemake.input.reference).grid,
        world=transforms.read_affine(snakemake.input.affine),
        read_scan=_read_scan,
        measure=snakemake.params.measure,
        frozen=[matching.read_registry(path) for path in snakemake.input.get("frozen", [])],
        config_hash=snakemake.params.config_hash,
        **snakemake.params.settings,
    )
    tables.write_tsv(tracks, snakemake.output.table)
    tables.write_tsv(matching.name_tracks(matches), snakemake.output.names)
    images.write_labels(snakemake.output.labels, matching.relabel_tracks(instances.data, matches), instances.affine)
    matching.write_registry(registry, snakemake.output.registry)
