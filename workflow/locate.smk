rule locate:
    """Where the patient's reference space lies on the atlas of lobes and regions: one affine registration."""
    input:
        image=of_space(rules.preprocess.output.image),
        mask=of_space(rules.strip.output.mask),
    output:
        affine=sub_file("from-reference_to-ICBM152_mode-image_desc-affine_xfm.txt"),
        quality=sub_file("from-reference_to-ICBM152_mode-image_desc-affine_xfm.json"),
    log:
        log_file("locate", "sub-{sub}"),
    benchmark:
        benchmark_file("locate", "sub-{sub}")
    conda:
        "../envs/python.yaml"
    # Sums over several threads differ in last digits, which must not move a lesion to the next lobe.
    threads: 1
    resources:
        mem_mb=memory_mb(2000),
        runtime=10,
    params:
        reference_sessions=space_sessions,
        source=source_digest("locate.py"),
    script:
        "../scripts/locate.py"
