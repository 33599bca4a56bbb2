rule compare_cases:
    """The sessions that methods are trained on, as arrays, and which patient is in which set."""
    input:
        files=compared_files("train"),
    output:
        cases=directory(f"{COMPARE}/cases"),
    log:
        log_file("compare_cases", "cohort"),
    benchmark:
        benchmark_file("compare_cases", "cohort")
    conda:
        "../envs/python.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(4000),
        runtime=240,
    params:
        sessions=lambda wildcards: compared_sessions("train"),
        splits=lambda wildcards: patients_by_set(),
        seed=config["compare"]["seed"],
        source=source_digest("compare_cases.py"),
    script:
        "../scripts/compare_cases.py"


rule compare_train:
    """One method trained; resumes from its last checkpoint, which is no output: Snakemake would remove it."""
    input:
        cases=rules.compare_cases.output.cases,
        files=compared_files("development"),
    output:
        model=directory(f"{COMPARE}/models/{{method}}"),
    log:
        log_file("compare_train", "{method}"),
    benchmark:
        benchmark_file("compare_train", "{method}")
    conda:
        "../envs/python.yaml"
    threads: config["threads"]
    resources:
        mem_mb=memory_mb(8000),
        runtime=2880,
        gpu=1 if config["compare"]["device"] == "cuda" else 0,
    params:
        method=lambda wildcards: methods_to_compare()[wildcards.method],
        development=lambda wildcards: compared_sessions("development"),
        settings={key: config["compare"][key] for key in ("seed", "device", "licence")},
        priors=config["train"]["priors"],
        grow_mm=config["strip"]["grow_mm"],
        source=source_digest("compare_train.py"),
    script:
        "../scripts/compare_train.py"


rule compare_predict:
    """What one method says of the patients to compare on, and what that costs."""
    input:
        model=lambda wildcards: rules.compare_train.output.model.format(
            method=methods.DERIVED.get(wildcards.method, wildcards.method)
        ),
        files=compared_files("test"),
    output:
        predictions=directory(f"{COMPARE}/predictions/{{method}}"),
        costs=f"{COMPARE}/costs/{{method}}.csv",
    log:
        log_file("compare_predict", "{method}"),
    benchmark:
        benchmark_file("compare_predict", "{method}")
    conda:
        "../envs/python.yaml"
    threads: config["threads"]
    resources:
        mem_mb=memory_mb(6000),
        runtime=480,
        gpu=1 if config["compare"]["device"] == "cuda" else 0,
    params:
        sessions=lambda wildcards: compared_sessions("test"),
        device=config["compare"]["device"],
        grow_mm=config["strip"]["grow_mm"],
        source=source_digest("compare_predict.py"),
    script:
        "../scripts/compare_predict.py"


rule compare_evaluate:
    """All methods side by side: tables, a page, a picture."""
    input:
        predictions=lambda wildcards: expand(
            rules.compare_predict.output.predictions, method=methods_to_predict()
        ),
        costs=lambda wildcards: expand(
            rules.compare_predict.output.costs, method=methods_to_predict()
        ),
        models=lambda wildcards: expand(
            rules.compare_train.output.model, method=methods_to_compare()
        ),
        files=compared_files("test"),
    output:
        evaluation=directory(f"{COMPARE}/evaluation"),
        page=f"{COMPARE}/comparison.md",
        html=f"{COMPARE}/comparison.html",
    log:
        log_file("compare_evaluate", "cohort"),
    benchmark:
        benchmark_file("compare_evaluate", "cohort")
    conda:
        "../envs/python.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb(6000),
        runtime=240,
    params:
        methods=lambda wildcards: list(methods_to_compare().values()),
        sessions=lambda wildcards: compared_sessions("test"),
        splits=lambda wildcards: patients_by_set(),
        settings=config["compare"],
        fusion=config["segment"]["fusion"]
        | {"edema_max_mm": config["measure"]["edema_max_mm"]},
        source=source_digest("compare_evaluate.py"),
    script:
        "../scripts/compare_evaluate.py"


rule compare:
    """The target `compare`: not part of `all`."""
    input:
        rules.compare_evaluate.output,
