rule measure:
    """Lesion instances, volumes and diameters on the raw reference image's own grid."""
    input:
        labels=LESIONS,
        mask=rules.strip.output.mask,
        components=rules.segment_fuse.output.components,
        evidence=rules.segment_fuse.output.evidence,
        probabilities=rules.segment_fuse.output.probabilities,
        sidecar=rules.segment_fuse.output.sidecar,
    output:
        labels=ses_file("desc-instances_dseg.nii.gz"),
        sidecar=ses_file("desc-instances_dseg.json"),
        table=ses_file("desc-instances_measures.tsv"),
        totals=ses_file("desc-instances_measures.json"),
    log:
        log_file("measure"),
    benchmark:
        benchmark_file("measure")
    conda:
        "../envs/python.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(2000),
        runtime=10,
    params:
        instances=config["instances"],
        measure=settings.measure_settings(config),
        origin=origin(),
        source=source_digest("measure.py"),
    script:
        "../scripts/measure.py"
