"""Rule match: lesions of this session against all lesions the patient has had."""

from typing import TYPE_CHECKING

from mettrail import images, jobs, schema, sidecars, transforms
from mettrail.tracking import comparison, matching, registry
from mettrail.tracking.evidence import EVIDENCE, Evidence, read_evidence

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

# Of each visit before: its registry, and files in the order of `comparison.read_visits`.
EARLIER = ("registry", "earlier_labels", "earlier_tables", "earlier_affines")

with jobs.job(snakemake, failable=("reference", "sequences", *EARLIER)) as output:
    quality = sidecars.read_json(snakemake.input.quality)
    session = matching.describe_session(
        snakemake.params.session,
        totals=sidecars.read_json(snakemake.input.totals),
        quality=quality,
        brain=sidecars.read_json(snakemake.input.brain),
        # Lesions are there all the same: what failed was for edema alone.
        sequences={
            name: {"reason": failed.sequence_reason} if (failed := jobs.explain(path)) else sidecars.read_json(path)
            for name, path in zip(snakemake.params.sequences, snakemake.input.get("sequences", []), strict=True)
        },
        reference=snakemake.params.reference,
        reference_session=quality["reference_session"],
        tissue=sidecars.read_json(snakemake.input.sidecar),
    )
    world = transforms.read_affine(snakemake.input.affine)
    files = [snakemake.input.get(name, []) for name in EARLIER]
    registries, *files = ([paths[n] for n in jobs.complete_positions(*files)] for paths in files)
    earlier = [registry.read_registry(path, session) for path in registries]
    # Visits before the first with a brain mask that is sound are in no other's space.
    before = [each for each in earlier if each["reference"]["session_id"] == quality["reference_session"]]
    space = snakemake.input.reference[snakemake.params.reference_sessions.index(quality["reference_session"])]

    def _read_scan() -> tuple[images.Image, images.Image, Evidence]:
        tissue = images.read_labels(snakemake.input.tissue, images.TISSUE_LABELS)
        brain = images.resample(images.read_labels(snakemake.input.mask), tissue.grid, order=0)
        return tissue, brain, read_evidence(*(snakemake.input[name] for name in EVIDENCE))

    settings = {"measure": snakemake.params.measure, "match": snakemake.params.settings}
    tracks, matches, instances, current = matching.match_visit(
        images.read_labels(snakemake.input.labels),
        schema.read_tsv(snakemake.input.table),
        before[-1] if before else None,
        session=session,
        grid=images.read_image(space).grid,
        world=world,
        read_scan=_read_scan,
        frozen=[registry.read_registry(path) for path in snakemake.input.get("frozen", [])],
        config_hash=snakemake.params.config_hash,
        **settings,
    )
    schema.write_tsv(tracks, output.table)
    schema.write_tsv(matching.name_tracks(matches), output.names)
    labels = images.Image(matching.relabel_tracks(instances.data, matches), instances.affine)
    images.write_labels(output.labels, labels.data, labels.affine)
    compared = comparison.compare_visits(
        comparison.Visit.of(tracks, lambda: labels, current, world),
        comparison.read_visits(earlier, *files),
        **settings,
    )
    schema.write_tsv(compared, output.comparisons)
    used = [snakemake.input.labels, snakemake.input.affine, *registries]
    sidecars.write_json(sidecars.describe_origin(used, **snakemake.params.origin), output.labels_sidecar)
    registry.write_registry(current, output.registry)
