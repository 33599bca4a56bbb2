rule debias:
    """Bias correction of the reference image, on its RAS 1 mm grid, whole head."""
    input:
        image=scan("reference"),
    output:
        image=reference_file("res-1mm_desc-debias"),
        sidecar=reference_file("res-1mm_desc-debias", ".json"),
    log:
        log_file("debias"),
    benchmark:
        benchmark_file("debias")
    conda:
        "../envs/python.yaml"
    threads: config["threads"]
    resources:
        mem_mb=memory_mb(3000),
        runtime=15,
    params:
        settings=settings.debias_settings(config),
        origin=origin(),
        source=source_digest("debias.py"),
    script:
        "../scripts/debias.py"


use rule debias as debias_sequence with:
    input:
        image=scan("mod"),
    output:
        image=ses_file("res-1mm_desc-debias_{mod}.nii.gz"),
        sidecar=ses_file("res-1mm_desc-debias_{mod}.json"),
    log:
        log_file("debias", "sub-{sub}_ses-{ses}_{mod}"),
    benchmark:
        benchmark_file("debias", "sub-{sub}_ses-{ses}_{mod}")
    params:
        settings=settings.debias_settings(config, sequence=True),
        origin=origin("mod"),
        source=source_digest("debias.py"),
