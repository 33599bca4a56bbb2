rule match:
    """Which lesion of this session is which lesion of the sessions before."""
    input:
        labels=rules.measure.output.labels,
        table=rules.measure.output.table,
        totals=rules.measure.output.totals,
        affine=rules.register_reference.output.affine,
        quality=rules.register_reference.output.quality,
        reference=of_first(rules.align.output.image),
        registry=of_prior_if_any(REGISTRY),
        frozen=frozen_registries,
        tissue=LESIONS,
        mask=rules.strip.output.mask,
        pieces=rules.segment_fuse.output.pieces,
        evidence=rules.segment_fuse.output.evidence,
    output:
        labels=ses_file("desc-lesions_dseg.nii.gz"),
        names=ses_file("desc-lesions_dseg.tsv"),
        table=ses_file("desc-lesions_matches.tsv"),
        registry=REGISTRY,
    log:
        log_file("match"),
    benchmark:
        benchmark_file("match")
    conda:
        "../envs/python.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(3000),
        runtime=10,
    params:
        session=session_row,
        reference=REFERENCE,
        reference_session=reference_session,
        settings=config["match"],
        measure=settings.measure_settings(config),
        config_hash=settings.digest(
            {key: config[key] for key in ("instances", "measure", "match")}
        ),
        source=source_digest("match.py"),
    script:
        "../scripts/match.py"
