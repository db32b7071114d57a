"""Defines rules that compute jets, baselines, scores and errors per prompt.

Device and memory are resources, not params: they change no number, so they must not rerun a job.
"""

from choices import baseline_module, baselines, estimators, neurons_per_layer
from code_inputs import script_code
from grammar import SETTING, SETTING_LOG

THREADS = (
    workflow.resource_settings.cores or 1
)  # a cluster has no total: set-threads there


rule compute_jets:
    """Derivatives of every component's patch path, through the content-addressed store."""
    input:
        code=script_code("compute_jets"),
        model="data/models/{model}/hvp_model.json",
        prompts="results/prompts/{model}/{task}/{corruption}.parquet",
    output:
        jets=f"results/jets/{SETTING}.parquet",
        config=f"results/jets/{SETTING}.json",
    log:
        f"logs/compute_jets/{SETTING_LOG}.log",
    benchmark:
        f"results/timing/compute_jets/{SETTING_LOG}.tsv"
    conda:
        "../envs/library.yaml"
    threads: THREADS
    resources:
        mem_mb=8000,
        rows_mib=int(1024 * config["engine"]["memory_gb"]),
        device=config["engine"]["device"],
        check=config["check"],
    params:
        estimators=lambda wildcards: estimators(config, wildcards),
        neurons_per_layer=lambda wildcards: neurons_per_layer(config, wildcards),
        seed=lambda wildcards: (
            config["seed"] if neurons_per_layer(config, wildcards) else None
        ),
        direction=config["direction"],
        backend=config["engine"]["backend"],
        dtype=config["engine"]["dtype"],
        store="results/store",
    message:
        "Compute jets of {wildcards.model}/{wildcards.task} at {wildcards.site}"
    script:
        "../scripts/compute_jets.py"


rule compute_baseline:
    """Attributions that are not a function of the jet, such as GIM."""
    input:
        code=lambda wildcards: script_code(
            "compute_baseline", baseline_module(wildcards.baseline)
        ),
        model="data/models/{model}/hvp_model.json",
        prompts="results/prompts/{model}/{task}/{corruption}.parquet",
    output:
        f"results/baselines/{SETTING}/{{baseline}}.parquet",
    log:
        f"logs/compute_baseline/{SETTING_LOG}_{{baseline}}.log",
    benchmark:
        f"results/timing/compute_baseline/{SETTING_LOG}_{{baseline}}.tsv"
    conda:
        "../envs/library.yaml"
    threads: THREADS
    resources:
        mem_mb=6000,
        device=config["engine"]["device"],
        check=config["check"],
    params:
        neurons_per_layer=lambda wildcards: neurons_per_layer(config, wildcards),
        seed=lambda wildcards: (
            config["seed"] if neurons_per_layer(config, wildcards) else None
        ),
        direction=config["direction"],
        dtype=config["engine"]["dtype"],
        store="results/store",
    message:
        "Compute {wildcards.baseline} of {wildcards.model}/{wildcards.task} at {wildcards.site}"
    script:
        "../scripts/compute_baseline.py"


rule score_estimators:
    """Every estimator's estimate beside the true effect."""
    input:
        code=script_code("score_estimators"),
        jets=f"results/jets/{SETTING}.parquet",
        baselines=lambda wildcards: [
            f"results/baselines/{SETTING}/{name}.parquet".format(**wildcards)
            for name in baselines(config, wildcards)
        ],
    output:
        f"results/scores/{SETTING}.parquet",
    log:
        f"logs/score_estimators/{SETTING_LOG}.log",
    benchmark:
        f"results/timing/score_estimators/{SETTING_LOG}.tsv"
    conda:
        "../envs/library.yaml"
    resources:
        mem_mb=2000,
    params:
        estimators=lambda wildcards: estimators(config, wildcards),
    message:
        "Score the estimators on {wildcards.model}/{wildcards.task}"
    script:
        "../scripts/score_estimators.py"
