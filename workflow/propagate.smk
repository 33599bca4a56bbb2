rule propagate:
    """The prior session's confirmed lesions in this session's space, resampled once; none loses its last voxel."""
    input:
        labels=of_earlier(LESIONS),
        components=of_earlier(COMPONENTS),
        evidence=of_earlier(COMPONENTS_TABLE),
        image=rules.preprocess.output.image,
        affine=rules.register.output.affine,
        warp=rules.register.output.warp,
        quality=rules.register.output.quality,
    output:
        labels=ses_file("res-1mm_desc-prior_dseg.nii.gz"),
        sidecar=ses_file("res-1mm_desc-prior_dseg.json"),
    log:
        log_file("propagate"),
    benchmark:
        benchmark_file("propagate")
    conda:
        "../envs/python.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(3000),
        runtime=10,
    params:
        earlier=earlier_sessions,
        origin=origin(),
        source=source_digest("propagate.py"),
    script:
        "../scripts/propagate.py"
