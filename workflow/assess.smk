rule assess:
    """RANO-BM response of one patient, by diameters and by volumes."""
    input:
        tables=of_all(rules.match.output.table),
        registries=of_all(REGISTRY),
        overrides=overrides_of,
        frozen=frozen_trajectories,
    output:
        lesions=sub_file("desc-lesions_trajectories.tsv"),
        sessions=sub_file("sessions.tsv"),
        patient=sub_file("desc-response_patient.tsv"),
    log:
        log_file("assess", "sub-{sub}"),
    benchmark:
        benchmark_file("assess", "sub-{sub}")
    conda:
        "../envs/python.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(1000),
        runtime=5,
    params:
        sessions=patient_rows,
        participant=participant,
        rano=config["rano"],
        volume=config["volume"],
        config_hash=settings.config_hash(config),
        matching_hash=MATCHING_HASH,
        source=source_digest("assess.py"),
    script:
        "../scripts/assess.py"
