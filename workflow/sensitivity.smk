rule sensitivity_patient:
    """The response of one patient with settings changed one at a time, from the segmentation on."""
    input:
        labels=of_all(LESIONS),
        masks=of_all(rules.strip.output.mask),
        brains=of_all(rules.strip.output.quality),
        components=of_all(rules.segment_fuse.output.components),
        evidence=of_all(rules.segment_fuse.output.evidence),
        affines=of_all(rules.register_reference.output.affine),
        qualities=of_all(rules.register_reference.output.quality),
        reference=of_space(rules.preprocess.output.image),
        decisions=rules.assess.output.decisions,
    output:
        responses=sub_file("desc-sensitivity_responses.tsv"),
    log:
        log_file("sensitivity", "sub-{sub}"),
    benchmark:
        benchmark_file("sensitivity", "sub-{sub}")
    conda:
        "../envs/python.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(3000),
        runtime=120,
    params:
        sessions=patient_rows,
        participant=participant,
        reference_sessions=space_sessions,
        config={
            key: config[key]
            for key in ("reference", "instances", "measure", "match", "rano", "volume")
        },
        values=config["sensitivity"]["values"],
        source=source_digest("sensitivity_patient.py"),
    script:
        "../scripts/sensitivity_patient.py"


rule sensitivity:
    """A table of how many responses change with each setting: a target of its own, not part of `all`."""
    input:
        responses=expand(rules.sensitivity_patient.output.responses, sub=PATIENTS),
    output:
        table=f"{OUT}/tables/sensitivity.csv",
    log:
        log_file("sensitivity", "cohort"),
    benchmark:
        benchmark_file("sensitivity", "cohort")
    conda:
        "../envs/python.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(1000),
        runtime=10,
    params:
        config={
            key: config[key]
            for key in ("instances", "measure", "match", "rano", "volume")
        },
        config_hash=settings.config_hash(config),
        source=source_digest("sensitivity.py"),
    script:
        "../scripts/sensitivity.py"
