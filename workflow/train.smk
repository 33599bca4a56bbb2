rule train_dataset:
    """All sessions with manual segmentations, as nnU-Net's raw data, with folds by patient."""
    input:
        files=training_files,
    output:
        raw=directory(f"{TRAINING}/raw/{TRAINING_DATASET}"),
    log:
        log_file("train_dataset", "cohort"),
    benchmark:
        benchmark_file("train_dataset", "cohort")
    conda:
        "../envs/python.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(4000),
        runtime=120,
    params:
        sessions=training_sessions,
        channels=[REFERENCE, *config["train"]["sequences"]],
        settings={key: config["train"][key] for key in ("task", "folds", "seed")},
        source=source_digest("train_dataset.py"),
    script:
        "../scripts/train_dataset.py"


rule train_plan:
    """nnU-Net's fingerprint, plans and preprocessed cases."""
    input:
        raw=rules.train_dataset.output.raw,
    output:
        preprocessed=directory(f"{TRAINING}/preprocessed/{TRAINING_DATASET}"),
    log:
        log_file("train_plan", "cohort"),
    benchmark:
        benchmark_file("train_plan", "cohort")
    conda:
        "../envs/python.yaml"
    threads: config["threads"]
    resources:
        mem_mb=memory_mb(4000 * config["threads"]),
        runtime=240,
    params:
        settings={key: config["train"][key] for key in ("task", "gpu_memory_gb")},
        source=source_digest("train_plan.py"),
    script:
        "../scripts/train_plan.py"


rule train_fold:
    """One network, and its predictions of the sessions it has not seen; resumes from the last checkpoint.

    Checkpoints are no outputs: Snakemake would remove them when a job is killed.
    """
    input:
        preprocessed=rules.train_plan.output.preprocessed,
    output:
        summary=f"{TRAINING}/folds/{{trainer}}_fold-{{fold}}.json",
    log:
        log_file("train_fold", "{trainer}_fold-{fold}"),
    benchmark:
        benchmark_file("train_fold", "{trainer}_fold-{fold}")
    conda:
        "../envs/python.yaml"
    threads: config["threads"]
    resources:
        mem_mb=memory_mb(16000),
        runtime=4320,
        gpu=1 if config["train"]["device"] == "cuda" else 0,
    params:
        settings=TRAINING_SETTINGS,
        save_probabilities=len(config["train"]["trainers"]) > 1,
        source=source_digest("train_fold.py"),
    script:
        "../scripts/train_fold.py"


rule train_model:
    """The networks of all folds of the trainers that did best on sessions not seen, as a model folder."""
    input:
        raw=rules.train_dataset.output.raw,
        preprocessed=rules.train_plan.output.preprocessed,
        folds=expand(
            rules.train_fold.output.summary,
            trainer=config["train"]["trainers"],
            fold=range(config["train"]["folds"]),
        ),
    output:
        model=directory(f"{TRAINING}/model"),
    log:
        log_file("train_model", "cohort"),
    benchmark:
        benchmark_file("train_model", "cohort")
    conda:
        "../envs/python.yaml"
    threads: config["threads"]
    resources:
        mem_mb=memory_mb(8000),
        runtime=240,
    params:
        channels=[REFERENCE, *config["train"]["sequences"]],
        settings=config["train"],
        source=source_digest("train_model.py"),
    script:
        "../scripts/train_model.py"


rule train:
    """The target `train`: not part of `all`."""
    input:
        model=rules.train_model.output.model,
