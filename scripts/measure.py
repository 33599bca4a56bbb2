"""Rule measure: instances, volumes and diameters on the raw reference image's grid."""

from typing import TYPE_CHECKING

from mettrail import images, jobs, schema, sidecars
from mettrail.tracking import components, lesions
from mettrail.tracking.evidence import EVIDENCE, read_evidence

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with jobs.job(snakemake) as output:
    tissue = images.read_labels(snakemake.input.labels, images.TISSUE_LABELS)
    brain = images.resample(images.read_labels(snakemake.input.mask), tissue.grid, order=0)
    evidence = read_evidence(*(snakemake.input[name] for name in EVIDENCE))
    instances = components.find_instances(tissue.data, affine=tissue.affine, **snakemake.params.instances)
    table, totals = lesions.measure_instances(
        instances,
        tissue.data,
        affine=tissue.affine,
        brain=brain.data > 0,
        evidence=evidence,
        **snakemake.params.measure,
    )
    images.write_labels(output.labels, instances, tissue.affine)
    schema.write_tsv(table, output.table)
    sidecars.write_json(totals, output.totals)
    sidecars.write_json(sidecars.describe_origin([snakemake.input.labels], **snakemake.params.origin), output.sidecar)
