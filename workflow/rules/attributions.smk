"""Defines rules that compute jets, baselines, scores and errors per prompt."""

from settings import sources

SETTING = "{model}/{task}/{corruption}/{site}"
SETTING_LOG = "{model}_{task}_{corruption}_{site}"


rule compute_jets:
    """Derivatives of every component's patch path, through the content-addressed store."""
    input:
        code=sources("paths/*", "sites", "cache"),
        model="data/models/{model}/hvp_model.json",
        prompts="results/prompts/{model}/{task}/{corruption}.parquet",
    output:
        jets=f"results/jets/{SETTING}.parquet",
        config=f"results/jets/{SETTING}.json",
    log:
        f"logs/compute_jets/{SETTING_LOG}.log",
    benchmark:
        f"results/timing/compute_jets/{SETTING_LOG}.tsv"
    threads: workflow.cores
    resources:
        mem_mb=8000,
    params:
        estimators=config["estimators"],
        direction=config["direction"],
        engine=config["engine"],
        store="results/store",
    script:
        "../scripts/compute_jets.py"


rule compute_baseline:
    """Attributions that are not a function of the jet, such as GIM."""
    input:
        code=sources("baselines/*", "paths/gradients", "paths/base_run", "sites"),
        model="data/models/{model}/hvp_model.json",
        prompts="results/prompts/{model}/{task}/{corruption}.parquet",
    output:
        f"results/baselines/{SETTING}/{{baseline}}.parquet",
    log:
        f"logs/compute_baseline/{SETTING_LOG}_{{baseline}}.log",
    benchmark:
        f"results/timing/compute_baseline/{SETTING_LOG}_{{baseline}}.tsv"
    threads: workflow.cores
    resources:
        mem_mb=6000,
    params:
        direction=config["direction"],
        device=config["engine"]["device"],
        dtype=config["engine"]["dtype"],
    script:
        "../scripts/compute_baseline.py"


rule score_estimators:
    """Every estimator's estimate beside the true effect."""
    input:
        code=sources("estimators", "scores"),
        jets=f"results/jets/{SETTING}.parquet",
        baselines=expand(
            f"results/baselines/{SETTING}/{{baseline}}.parquet",
            baseline=config["baselines"],
            allow_missing=True,
        ),
    output:
        f"results/scores/{SETTING}.parquet",
    log:
        f"logs/score_estimators/{SETTING_LOG}.log",
    benchmark:
        f"results/timing/score_estimators/{SETTING_LOG}.tsv"
    resources:
        mem_mb=2000,
    params:
        estimators=config["estimators"],
    script:
        "../scripts/score_estimators.py"


rule measure_errors:
    """Top-k and median relative error per prompt and estimator."""
    input:
        code=sources("metrics/errors"),
        scores=f"results/scores/{SETTING}.parquet",
    output:
        f"results/metrics/{SETTING}.parquet",
    log:
        f"logs/measure_errors/{SETTING_LOG}.log",
    benchmark:
        f"results/timing/measure_errors/{SETTING_LOG}.tsv"
    resources:
        mem_mb=2000,
    params:
        top_k=config["metrics"]["top_k"],
        trivial_effect=config["metrics"]["trivial_effect"],
    script:
        "../scripts/measure_errors.py"
