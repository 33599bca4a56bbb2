TEMPLATES = str(ROOT / "scripts" / "mettrail" / "report" / "templates")
NIIVUE = str(ROOT / "scripts" / "mettrail" / "report" / "vendor")


rule report_session:
    """Of one session, pictures of lesions, brain mask and registration of the prior session; lesions for 3D Slicer."""
    input:
        image=rules.debias.output.image,
        mask=rules.strip.output.mask,
        raw=scan("reference"),
        lesions=rules.match.output.labels,
        names=rules.match.output.names,
        tissue=LESIONS,
        table=rules.match.output.table,
        earlier=of_earlier_if_any(rules.match.output.table),
        preproc=rules.preprocess.output.image,
        moved=if_followup(rules.register.output.moved),
    output:
        lesions=ses_figure("lesions"),
        more=ses_figure("more"),
        brain=ses_figure("brain"),
        registration=ses_figure("registration"),
        segments=ses_file("desc-lesions.seg.nrrd"),
    log:
        log_file("report_session"),
    benchmark:
        benchmark_file("report_session")
    conda:
        "../envs/python.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(2000),
        runtime=10,
    params:
        source=source_digest("report_session.py"),
    script:
        "../scripts/report_session.py"


rule report_lesions:
    """Film strips and viewer: each lesion of a patient at all sessions, at the same place."""
    input:
        lesion_table=rules.assess.output.lesions,
        session_table=rules.assess.output.sessions,
        scan=scans_of_all("reference"),
        lesions=of_all(rules.match.output.labels),
        tissue=of_all(LESIONS),
        brain=of_all(rules.strip.output.mask),
        affine=of_all(rules.register_reference.output.affine),
        quality=of_all(rules.register_reference.output.quality),
        prior=of_followups(rules.propagate.output.labels),
        space=of_space(rules.preprocess.output.image),
    output:
        strips=directory(f"{OUT}/figures/sub-{{sub}}_strips"),
        viewer=f"{OUT}/sub-{{sub}}_viewer.html",
    log:
        log_file("report_lesions", "sub-{sub}"),
    benchmark:
        benchmark_file("report_lesions", "sub-{sub}")
    conda:
        "../envs/python.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(2000),
        runtime=20,
    params:
        sessions=session_names,
        followups=followup_names,
        reference_sessions=space_sessions,
        source=source_digest("report_lesions.py", TEMPLATES, NIIVUE),
    script:
        "../scripts/report_lesions.py"


rule report_patient:
    """The patient's page: trajectories, responses, pictures."""
    input:
        lesions=rules.assess.output.lesions,
        sessions=rules.assess.output.sessions,
        patient=rules.assess.output.patient,
        treated_lesions=rules.assess.output.treated,
        treatments=rules.assess.output.treatments,
        problems=rules.assess.output.problems,
        pictures=of_all(rules.report_session.output.lesions),
        more=of_all(rules.report_session.output.more),
        brains=of_all(rules.report_session.output.brain),
        registrations=of_all(rules.report_session.output.registration),
        strips=rules.report_lesions.output.strips,
        viewer=rules.report_lesions.output.viewer,
    output:
        page=f"{OUT}/sub-{{sub}}.html",
        figure=f"{OUT}/figures/sub-{{sub}}_trajectories.svg",
    log:
        log_file("report_patient", "sub-{sub}"),
    benchmark:
        benchmark_file("report_patient", "sub-{sub}")
    conda:
        "../envs/python.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(1000),
        runtime=10,
    params:
        out=results_folder,
        sessions=patient_rows,
        settings=settings.without_places(config),
        config_hash=settings.config_hash(config),
        captions=CAPTIONS,
        source=source_digest("report_patient.py", CAPTIONS, TEMPLATES),
    script:
        "../scripts/report_patient.py"


rule tables:
    """The tables of the cohort and their dictionaries. They wait for no picture."""
    input:
        lesions=expand(rules.assess.output.lesions, sub=PATIENTS),
        sessions=expand(rules.assess.output.sessions, sub=PATIENTS),
        patients=expand(rules.assess.output.patient, sub=PATIENTS),
        treated_lesions=expand(rules.assess.output.treated, sub=PATIENTS),
    output:
        lesions=f"{OUT}/tables/lesions.csv",
        sessions=f"{OUT}/tables/sessions.csv",
        patients=f"{OUT}/tables/patients.csv",
        treated_lesions=f"{OUT}/tables/treated_lesions.csv",
        participants=f"{OUT}/participants.tsv",
    log:
        log_file("tables", "cohort"),
    benchmark:
        benchmark_file("tables", "cohort")
    conda:
        "../envs/python.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(2000),
        runtime=15,
    params:
        config_hash=settings.config_hash(config),
        source=source_digest("tables.py"),
    script:
        "../scripts/tables.py"


rule report:
    """The page of the cohort, and what says how it was made."""
    input:
        lesions=rules.tables.output.lesions,
        sessions=rules.tables.output.sessions,
        patients=rules.tables.output.patients,
        treated_lesions=rules.tables.output.treated_lesions,
        problems=expand(rules.assess.output.problems, sub=PATIENTS),
        pages=expand(rules.report_patient.output.page, sub=PATIENTS),
        brains=of_cohort(rules.strip.output.quality),
        priors=of_cohort(rules.register.output.quality, followups=True),
        references=of_cohort(rules.register_reference.output.quality),
        places=[
            rules.locate.output.quality.format(sub=sub)
            for sub in PATIENTS
            if usable_sessions(sub)
        ],
        sequences=sequences_of_networks(rules.register_sequence.output.sidecar),
        labels=of_cohort(rules.segment_fuse.output.sidecar),
        features=if_made(f"{OUT}/tables/features.json"),
    output:
        description=f"{OUT}/dataset_description.json",
        page=f"{OUT}/index.html",
        readme=f"{OUT}/README.md",
        citation=f"{OUT}/CITATION.md",
        bibtex=f"{OUT}/references.bib",
        figure=f"{OUT}/figures/cohort.svg",
        spread=f"{OUT}/figures/spread.svg",
        incidence=f"{OUT}/figures/incidence.svg",
    log:
        log_file("report", "cohort"),
    benchmark:
        benchmark_file("report", "cohort")
    conda:
        "../envs/python.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(2000),
        runtime=15,
    params:
        out=results_folder,
        sessions=list(SESSIONS.values()),
        not_used=FOUND.not_used,
        settings=settings.without_places(config),
        config_hash=settings.config_hash(config),
        datasets=DATASETS,
        captions=CAPTIONS,
        bibliography=REFERENCES,
        source=source_digest("report.py", CAPTIONS, TEMPLATES, REFERENCES),
    script:
        "../scripts/report.py"
