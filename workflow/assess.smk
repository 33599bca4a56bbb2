rule assess:
    """RANO-BM response of one patient, by diameters and by volumes, and what became of treated lesions."""
    input:
        tables=of_all(rules.match.output.table),
        registries=of_all(REGISTRY),
        labels=of_all(rules.match.output.labels),
        names=of_all(rules.match.output.names),
        comparisons=of_all(rules.match.output.comparisons),
        region_affine=if_usable(rules.locate.output.affine),
        region_quality=if_usable(rules.locate.output.quality),
        atlas=str(ROOT / "resources" / "atlas" / "regions.nii.gz"),
        overrides=overrides_of,
        frozen=frozen_trajectories,
    output:
        lesions=sub_file("desc-lesions_trajectories.tsv"),
        sessions=sub_file("sessions.tsv"),
        patient=sub_file("desc-response_patient.tsv"),
        treated=sub_file("desc-treated_lesions.tsv"),
        treatments=sub_file("desc-treatments.tsv"),
        problems=sub_file("desc-inputs_problems.tsv"),
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
        treatments=treatments_of,
        rano=config["rano"],
        volume=config["volume"],
        config_hash=settings.config_hash(config),
        matching_hash=MATCHING_HASH,
        source=source_digest("assess.py"),
    script:
        "../scripts/assess.py"
