from mettrail.tracking.features import require_mirp

# Said before any hour is spent.
if workflow.is_main_process and "features" in sys.argv[1:]:
    with refusals_end_the_run():
        require_mirp()

# What features are computed of; the masks of whole lesions on the raw grid are made by `match`.
ON_GRID = config["features"]["grid"]
FEATURE_MASKS = {
    tissue: getattr(rules.radiomics_session.output, f"{tissue}_{ON_GRID}")
    for tissue in ("enhancing", "necrosis", "edema")
}


rule features_session:
    """Radiomics features of one session's lesions and their parts, by MIRP."""
    input:
        **FEATURE_MASKS,
        lesion=(
            rules.match.output.labels
            if ON_GRID == "raw"
            else rules.radiomics_session.output.lesion_1mm
        ),
        image=scan("reference") if ON_GRID == "raw" else rules.preprocess.output.image,
        brain=rules.strip.output.mask,
        names=rules.match.output.names,
    output:
        table=ses_file("desc-lesions_features.tsv"),
    log:
        log_file("features_session"),
    benchmark:
        benchmark_file("features_session")
    conda:
        "../envs/python.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(3000),
        runtime=120,
    params:
        whose=lambda wildcards: {
            "participant_id": f"sub-{wildcards.sub}",
            "session_id": f"ses-{wildcards.ses}",
        },
        settings=config["features"],
        few_voxels=config["radiomics"]["few_voxels"],
        source=source_digest("features_session.py"),
    script:
        "../scripts/features_session.py"


rule features:
    """The target `features`, not part of `all`: radiomics features of the cohort, and their change between sessions."""
    input:
        tables=of_cohort(rules.features_session.output.table),
    output:
        table=f"{OUT}/tables/features.csv",
        changes=f"{OUT}/tables/features_delta.csv",
    log:
        log_file("features", "cohort"),
    benchmark:
        benchmark_file("features", "cohort")
    conda:
        "../envs/python.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(2000),
        runtime=20,
    params:
        config_hash=settings.config_hash(config),
        source=source_digest("features.py"),
    script:
        "../scripts/features.py"
