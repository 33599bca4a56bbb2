rule segment:
    """Detection: the lesions of this session as the network sees them without knowing the past."""
    input:
        reference=rules.preprocess.output.image,
        sequences=sequences_for("detection", rules.register_sequence.output.image),
        prior_image=prior_image_for("detection", rules.register.output.moved),
        mask=rules.strip.output.mask,
        model=model_files("detection"),
    output:
        probabilities=ses_file("res-1mm_desc-detection_probseg.nii.gz"),
        sidecar=ses_file("res-1mm_desc-detection_probseg.json"),
    log:
        log_file("segment"),
    benchmark:
        benchmark_file("segment")
    conda:
        "../envs/python.yaml"
    threads: config["threads"]
    resources:
        mem_mb=memory_mb(5000),
        runtime=60,
        gpu=GPU,
    params:
        device=config["segment"]["device"],
        grow_mm=config["strip"]["grow_mm"],
        reference=REFERENCE,
        origin=origin(),
        source=source_digest("segment.py"),
    script:
        "../scripts/segment.py"


use rule segment as segment_sensitive with:
    input:
        reference=rules.preprocess.output.image,
        sequences=sequences_for(
            "detection_sensitive", rules.register_sequence.output.image
        ),
        prior_image=prior_image_for("detection_sensitive", rules.register.output.moved),
        mask=rules.strip.output.mask,
        model=model_files("detection_sensitive"),
    output:
        probabilities=ses_file("res-1mm_desc-sensitive_probseg.nii.gz"),
        sidecar=ses_file("res-1mm_desc-sensitive_probseg.json"),
    log:
        log_file("segment_sensitive"),
    benchmark:
        benchmark_file("segment_sensitive")
    params:
        device=config["segment"]["device"],
        grow_mm=config["strip"]["grow_mm"],
        reference=REFERENCE,
        origin=origin(),
        source=source_digest("segment.py"),


use rule segment as segment_followup with:
    input:
        reference=rules.preprocess.output.image,
        sequences=sequences_for("resegmentation", rules.register_sequence.output.image),
        prior_image=prior_image_for("resegmentation", rules.register.output.moved),
        mask=rules.strip.output.mask,
        prior=rules.propagate.output.labels,
        model=model_files("resegmentation"),
    output:
        probabilities=ses_file("res-1mm_desc-resegmentation_probseg.nii.gz"),
        sidecar=ses_file("res-1mm_desc-resegmentation_probseg.json"),
    log:
        log_file("segment_followup"),
    benchmark:
        benchmark_file("segment_followup")
    params:
        device=config["segment"]["device"],
        grow_mm=config["strip"]["grow_mm"],
        reference=REFERENCE,
        origin=origin(),
        source=source_digest("segment.py"),


rule segment_fine:
    """A second look at a scan that is finer than 1 mm: small lesions that the first one loses."""
    input:
        raw=scan("reference"),
        debiased=rules.debias.output.image,
        mask=rules.strip.output.mask,
        model=model_files("detection"),
    output:
        probabilities=ses_file("res-1mm_desc-fine_probseg.nii.gz"),
        sidecar=ses_file("res-1mm_desc-fine_probseg.json"),
    log:
        log_file("segment_fine"),
    benchmark:
        benchmark_file("segment_fine")
    conda:
        "../envs/python.yaml"
    threads: config["threads"]
    resources:
        mem_mb=memory_mb(8000),
        runtime=60,
        gpu=GPU,
    params:
        device=config["segment"]["device"],
        grow_mm=config["strip"]["grow_mm"],
        below_mm=config["segment"]["full_resolution_below_mm"],
        origin=origin(),
        source=source_digest("segment_fine.py"),
    script:
        "../scripts/segment_fine.py"


use rule segment as segment_edema with:
    input:
        reference=rules.preprocess.output.image,
        sequences=sequences_for("edema", rules.register_sequence.output.image),
        prior_image=prior_image_for("edema", rules.register.output.moved),
        mask=rules.strip.output.mask,
        model=model_files("edema"),
    output:
        probabilities=ses_file("res-1mm_desc-edema_probseg.nii.gz"),
        sidecar=ses_file("res-1mm_desc-edema_probseg.json"),
    log:
        log_file("segment_edema"),
    benchmark:
        benchmark_file("segment_edema")
    params:
        device=config["segment"]["device"],
        grow_mm=config["strip"]["grow_mm"],
        reference=REFERENCE,
        origin=origin(),
        source=source_digest("segment.py"),


use rule segment as segment_cavity with:
    input:
        reference=rules.preprocess.output.image,
        sequences=sequences_for("cavity", rules.register_sequence.output.image),
        prior_image=prior_image_for("cavity", rules.register.output.moved),
        mask=rules.strip.output.mask,
        model=model_files("cavity"),
    output:
        probabilities=ses_file("res-1mm_desc-cavity_probseg.nii.gz"),
        sidecar=ses_file("res-1mm_desc-cavity_probseg.json"),
    log:
        log_file("segment_cavity"),
    benchmark:
        benchmark_file("segment_cavity")
    params:
        device=config["segment"]["device"],
        grow_mm=config["strip"]["grow_mm"],
        reference=REFERENCE,
        origin=origin(),
        source=source_digest("segment.py"),


rule segment_fuse:
    """Lesion voxels on the raw reference image, and how sure they are: networks fused, or masks a person drew."""
    input:
        raw=scan("reference"),
        mask=rules.strip.output.mask,
        given=given_labels,
        detection=for_fusion("detection", rules.segment.output.probabilities),
        sensitive=for_fusion(
            "detection_sensitive", rules.segment_sensitive.output.probabilities
        ),
        known=for_fusion("resegmentation", rules.segment_followup.output.probabilities),
        prior=for_fusion("prior", rules.propagate.output.labels),
        fine=if_fine(rules.segment_fine.output.probabilities),
        edema=for_fusion("edema", rules.segment_edema.output.probabilities),
        cavity=for_fusion("cavity", rules.segment_cavity.output.probabilities),
    output:
        labels=LESIONS,
        sidecar=ses_file("desc-tissue_dseg.json"),
        components=COMPONENTS,
        components_sidecar=ses_file("desc-components_dseg.json"),
        evidence=COMPONENTS_TABLE,
        probabilities=ses_file("desc-lesion_probseg.nii.gz"),
        probabilities_sidecar=ses_file("desc-lesion_probseg.json"),
    log:
        log_file("segment_fuse"),
    benchmark:
        benchmark_file("segment_fuse")
    conda:
        "../envs/python.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(3000),
        runtime=10,
    params:
        fusion=config["segment"]["fusion"]
        | {"edema_max_mm": config["measure"]["edema_max_mm"]},
        limits=config["segment"]["confidence_limits"],
        candidate_level=candidate_level,
        calibration=calibration,
        edge_level=edge_level,
        birth_mm3=config["instances"]["birth_mm3"],
        networks=networks_of,
        shows_edema=shows_edema,
        operated=operated,
        scheme=config["labels"]["scheme"],
        labels_auc_warn=if_contrast_agent("labels_auc_warn"),
        origin=origin(),
        source=source_digest("segment_fuse.py"),
    script:
        "../scripts/segment_fuse.py"
