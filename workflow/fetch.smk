rule fetch:
    """HD-BET's weights, checked against the publisher's checksum: the only rule that uses the network."""
    output:
        weights=str(ROOT / config["strip"]["hd_bet_weights"]),
    log:
        log_file("fetch", "hd-bet"),
    benchmark:
        benchmark_file("fetch", "hd-bet")
    conda:
        "../envs/python.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        registry=REGISTRY_OF_WEIGHTS,
        source=source_digest("fetch.py", REGISTRY_OF_WEIGHTS),
    script:
        "../scripts/fetch.py"
