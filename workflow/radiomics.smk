# Those of lesions on the raw grid are made by `match`.
MASKS = {
    "enhancing_raw": "desc-enhancing_dseg",
    "necrosis_raw": "desc-necrosis_dseg",
    "edema_raw": "desc-edema_dseg",
    "lesion_1mm": "res-1mm_desc-lesions_dseg",
    "enhancing_1mm": "res-1mm_desc-enhancing_dseg",
    "necrosis_1mm": "res-1mm_desc-necrosis_dseg",
    "edema_1mm": "res-1mm_desc-edema_dseg",
}


rule radiomics_session:
    """Masks of one session's lesions and their parts, by lesion, for radiomics software."""
    input:
        raw=scan("reference"),
        image=rules.preprocess.output.image,
        lesions=rules.match.output.labels,
        names=rules.match.output.names,
        components=rules.measure.output.labels,
        tissue=LESIONS,
        sidecar=rules.segment_fuse.output.sidecar,
    output:
        **{mask: ses_file(f"{name}.nii.gz") for mask, name in MASKS.items()},
        **{f"{mask}_sidecar": ses_file(f"{name}.json") for mask, name in MASKS.items()},
        table=ses_file("desc-lesions_radiomics.tsv"),
    log:
        log_file("radiomics_session"),
    benchmark:
        benchmark_file("radiomics_session")
    conda:
        "../envs/python.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(2000),
        runtime=10,
    params:
        whose=lambda wildcards: {
            "participant_id": f"sub-{wildcards.sub}",
            "session_id": f"ses-{wildcards.ses}",
        },
        folder=f"{OUT}/tables",
        edema_max_mm=config["measure"]["edema_max_mm"],
        few_voxels=config["radiomics"]["few_voxels"],
        origin=origin(),
        source=source_digest("radiomics_session.py"),
    script:
        "../scripts/radiomics_session.py"


rule radiomics:
    """The target `radiomics`, not part of `all`: a table of masks that PyRadiomics reads as it is."""
    input:
        tables=of_cohort(rules.radiomics_session.output.table),
    output:
        table=f"{OUT}/tables/radiomics.csv",
    log:
        log_file("radiomics", "cohort"),
    benchmark:
        benchmark_file("radiomics", "cohort")
    conda:
        "../envs/python.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(1000),
        runtime=10,
    params:
        config_hash=settings.config_hash(config),
        source=source_digest("radiomics.py"),
    script:
        "../scripts/radiomics.py"
