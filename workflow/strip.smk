rule strip:
    """Brain mask of the reference image, with its volume and fit."""
    input:
        image=rules.debias.output.image,
        weights=weights_of_strip,
    output:
        mask=ses_file("res-1mm_desc-brain_mask.nii.gz"),
        quality=ses_file("res-1mm_desc-brain_mask.json"),
    log:
        log_file("strip"),
    benchmark:
        benchmark_file("strip")
    conda:
        "../envs/python.yaml"
    threads: config["threads"]
    resources:
        mem_mb=memory_mb(6000),
        runtime=30,
    params:
        settings={
            key: value for key, value in config["strip"].items() if key != "grow_mm"
        },
        bright_share_warn=if_contrast_agent("bright_share_warn"),
        origin=origin(),
        source=source_digest("strip.py"),
    script:
        "../scripts/strip.py"
