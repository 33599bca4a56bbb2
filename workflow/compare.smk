COMPARE = f"{OUT}/compare"


@functools.cache
def methods_to_compare():
    """The methods, or what the cohort lacks for them, before an hour is spent."""
    chosen = config["compare"]
    present = [
        name
        for name in SEQUENCES
        if any(row[name] != "n/a" for row in SESSIONS.values())
    ]
    try:
        known = methods.list_methods(
            methods.read_sizes(chosen), sequences=[REFERENCE, *present]
        )
        found = methods.choose_methods(
            known, chosen["methods"], sequences=[REFERENCE, *present]
        )
        return {method.name: method for method in found}
    except InputError as err:
        raise WorkflowError(f"\n{err}")


def methods_to_predict():
    """Those that are trained, and what runs with their weights."""
    trained = list(methods_to_compare())
    return trained + [name for name, base in methods.DERIVED.items() if base in trained]


@functools.cache
def sessions_to_compare():
    """The sessions with masks that have what every method needs: all are compared on the same ones."""
    asked = {
        name for method in methods_to_compare().values() for name in method.channels
    }
    needed = {
        name
        for method in methods_to_compare().values()
        for name in method.channels
        if name not in method.optional
    }
    sequences = [name for name in SEQUENCES if name in asked]
    try:
        return datasets.select_sessions(
            list(SESSIONS.values()),
            {},
            reference=REFERENCE,
            sequences=sequences,
            optional=[name for name in sequences if name not in needed],
            test_patients=[],
        )
    except InputError as err:
        raise WorkflowError(f"\n{err}")


@functools.cache
def patients_by_set():
    """Patients to train on, to choose thresholds on and to compare on."""
    chosen = config["compare"]
    try:
        return study_cases.split_patients(
            sorted({row["sub"] for row in sessions_to_compare()}),
            test=sorted(
                datasets.find_test_patients(PARTICIPANTS, chosen["test_patients"])
                & {row["sub"] for row in sessions_to_compare()}
            ),
            **{key: chosen[key] for key in ("test_share", "development_share", "seed")},
        )
    except InputError as err:
        raise WorkflowError(f"\n{err}")


def compared_sessions(*sets):
    """For each session of some sets, its files; the prior session's masks and image are registered."""
    patients = {sub for name in sets for sub in patients_by_set()[name]}
    return [
        compared_session(row) for row in sessions_to_compare() if row["sub"] in patients
    ]


def compared_session(row):
    at = {"sub": row["sub"], "ses": row["ses"]}
    present = [name for name in SEQUENCES if row[name] != "n/a"]
    earlier = SESSIONS.get((row["sub"], row["prior"]))
    followup = earlier is not None and earlier["labels"] != "n/a"
    return {
        **at,
        "images": {
            REFERENCE: rules.preprocess.output.image.format(**at),
            **{
                name: rules.register_sequence.output.image.format(**at, mod=name)
                for name in present
            },
        },
        "mask": rules.strip.output.mask.format(**at),
        "labels": row["labels"],
        "scheme": config["labels"]["scheme"],
        "prior": rules.propagate.output.labels.format(**at) if followup else None,
        "prior_image": rules.register.output.moved.format(**at) if followup else None,
    }


def files_of(*sets):
    """All of these files in one list, for Snakemake."""
    return lambda wildcards: [
        path
        for session in compared_sessions(*sets)
        for path in [
            *session["images"].values(),
            *(session[key] for key in ("mask", "labels", "prior", "prior_image")),
        ]
        if path
    ]


rule compare_cases:
    """The sessions that methods are trained on, as arrays, and which patient is in which set."""
    input:
        files=files_of("train"),
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
        files=files_of("development"),
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
        files=files_of("test"),
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
        files=files_of("test"),
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
