rule preprocess:
    """The reference image as networks and registration see it: 0 outside the brain mask grown by a few mm."""
    input:
        image=rules.debias.output.image,
        mask=rules.strip.output.mask,
    output:
        image=reference_file("res-1mm_desc-preproc"),
        sidecar=reference_file("res-1mm_desc-preproc", ".json"),
    log:
        log_file("preprocess"),
    benchmark:
        benchmark_file("preprocess")
    conda:
        "../envs/python.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(2000),
        runtime=5,
    params:
        grow_mm=config["strip"]["grow_mm"],
        origin=origin(),
        source=source_digest("preprocess.py"),
    script:
        "../scripts/preprocess.py"


rule register_sequence:
    """Another sequence of the session, rigidly on the reference image."""
    input:
        image=rules.debias_sequence.output.image,
        reference=rules.debias.output.image,
        mask=rules.strip.output.mask,
    output:
        image=ses_file("res-1mm_desc-preproc_{mod}.nii.gz"),
        sidecar=ses_file("res-1mm_desc-preproc_{mod}.json"),
        affine=ses_file("from-{mod}_to-session_mode-image_desc-rigid_xfm.txt"),
    log:
        log_file("preprocess", "sub-{sub}_ses-{ses}_{mod}"),
    benchmark:
        benchmark_file("preprocess", "sub-{sub}_ses-{ses}_{mod}")
    conda:
        "../envs/python.yaml"
    threads: config["threads"]
    resources:
        mem_mb=memory_mb(3000),
        runtime=15,
    params:
        grow_mm=config["strip"]["grow_mm"],
        settings=ENGINE,
        check=config["sequence_check"],
        origin=origin(),
        source=source_digest("register_sequence.py"),
    script:
        "../scripts/register_sequence.py"


rule preprocess_all:
    """Every sequence of every session on its reference image, whether a model asks for it or not."""
    input:
        images=[
            rules.register_sequence.output.image.format(sub=sub, ses=ses, mod=mod)
            for (sub, ses), row in SESSIONS.items()
            for mod in SEQUENCES
            if row["usable"] == "true" and row[mod] != "n/a"
        ],
