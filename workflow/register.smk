rule register_reference:
    """This session rigidly to the patient's reference space: the first visit's, never re-picked, never chained."""
    input:
        fixed=of_reference(rules.preprocess.output.image),
        fixed_mask=of_reference(rules.strip.output.mask),
        fixed_quality=of_reference(rules.strip.output.quality),
        moving=rules.preprocess.output.image,
        moving_mask=rules.strip.output.mask,
    output:
        affine=ses_file("from-session_to-reference_mode-image_desc-rigid_xfm.txt"),
        quality=ses_file("from-session_to-reference_mode-image_desc-rigid_xfm.json"),
    log:
        log_file("register_reference"),
    benchmark:
        benchmark_file("register_reference")
    conda:
        "../envs/python.yaml"
    threads: config["threads"]
    resources:
        mem_mb=memory_mb(3000),
        runtime=30,
    params:
        settings=settings.rigid_settings(config),
        check=config["head_check"],
        reference_sessions=reference_sessions,
        source=source_digest("register_reference.py"),
    script:
        "../scripts/register_reference.py"


rule register:
    """The prior session to this one: rigid, affine, deformable. Serves the segmentation prior alone."""
    input:
        fixed=rules.preprocess.output.image,
        fixed_mask=rules.strip.output.mask,
        moving=of_earlier(rules.preprocess.output.image),
        moving_mask=of_earlier(rules.strip.output.mask),
        moving_quality=of_earlier(rules.strip.output.quality),
        moving_registration=of_earlier(rules.register_reference.output.quality),
    output:
        affine=ses_file("from-prior_to-session_mode-image_desc-affine_xfm.txt"),
        warp=ses_file("from-prior_to-session_mode-image_desc-warp_xfm.nii.gz"),
        moved=reference_file("res-1mm_desc-prior"),
        moved_sidecar=reference_file("res-1mm_desc-prior", ".json"),
        quality=ses_file("from-prior_to-session_mode-image_xfm.json"),
    log:
        log_file("register"),
    benchmark:
        benchmark_file("register")
    # The longest job of a visit: the sooner it starts, the fewer cores wait for it in the end.
    priority: 1
    conda:
        "../envs/python.yaml"
    threads: config["threads"]
    resources:
        mem_mb=memory_mb(4000),
        runtime=60,
    params:
        settings=config["register"],
        earlier=earlier_sessions,
        origin=origin(),
        source=source_digest("register.py"),
    script:
        "../scripts/register.py"
