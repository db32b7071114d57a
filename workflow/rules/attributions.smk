"""Defines rules that compute jets, baselines, scores and errors per prompt.

Device and memory are resources, not params: they change no number, so they must not rerun a job.
"""

from choices import (
    ALL_COMPONENTS,
    TOP,
    baseline_module,
    baselines,
    neurons_per_layer,
    prompts_for,
)
from code_inputs import script_code
from grammar import SETTING, STORE, log_of, path_of, timing_of

# Two jobs at a time: a pass over one prompt gains next to nothing from a second thread, and more
# jobs would need more memory than a laptop has. One at a time on a GPU, and where a clock runs.
# A cluster has no total: set-threads there.
CORES = workflow.resource_settings.cores or 1
THREADS = CORES if config["engine"]["device"] == "cuda" else max(1, CORES // 2)


# What is measured of every component: what asks for it, on how many prompts, and the estimators.
JETS = {
    "truth": ("the largest effects", TOP, []),
    "jets": ("AP, HVP and rho", ALL_COMPONENTS, config["site_estimators"]),
    "ranking_jets": ("rankings", ALL_COMPONENTS, config["estimators"]),
}
for jets, (reader, need, estimators) in JETS.items():

    rule:
        name:
            f"compute_{jets}"
        input:
            code=script_code("compute_jets"),
            model=path_of("weights"),
            prompts=path_of("prompts"),
        output:
            jets=path_of(jets),
            config=path_of(jets).replace(".parquet", ".json"),
        log:
            log_of(f"compute_{jets}", SETTING),
        benchmark:
            timing_of(f"compute_{jets}", SETTING)
        conda:
            "../envs/library.yaml"
        threads: THREADS
        resources:
            mem_mb=8000,
            rows_mib=int(1024 * config["engine"]["memory_gb"]),
            device=config["engine"]["device"],
            check=config["check"],
        params:
            estimators=estimators,
            n_prompts=prompts_for(config, need),
            neurons_per_layer=lambda wildcards: neurons_per_layer(config, wildcards),
            seed=lambda wildcards: (
                config["seed"] if neurons_per_layer(config, wildcards) else None
            ),
            direction=config["direction"],
            backend=config["engine"]["backend"],
            dtype=config["engine"]["dtype"],
            store=STORE,
        message:
            f"Measure every component for {reader}"
            ": {wildcards.model}/{wildcards.task} at {wildcards.site}"
        script:
            "../scripts/compute_jets.py"


rule compute_baseline:
    """Attributions that are not a function of the jet, such as GIM."""
    input:
        code=lambda wildcards: script_code(
            "compute_baseline", baseline_module(wildcards.baseline)
        ),
        model=path_of("weights"),
        prompts=path_of("prompts"),
    output:
        path_of("baseline"),
    log:
        log_of("compute_baseline", f"{SETTING}/{{baseline}}"),
    benchmark:
        timing_of("compute_baseline", f"{SETTING}/{{baseline}}")
    conda:
        "../envs/library.yaml"
    threads: THREADS
    resources:
        mem_mb=6000,
        device=config["engine"]["device"],
        check=config["check"],
    params:
        n_prompts=prompts_for(config, ALL_COMPONENTS),
        neurons_per_layer=lambda wildcards: neurons_per_layer(config, wildcards),
        seed=lambda wildcards: (
            config["seed"] if neurons_per_layer(config, wildcards) else None
        ),
        direction=config["direction"],
        dtype=config["engine"]["dtype"],
        store=STORE,
    message:
        "Compute {wildcards.baseline} of {wildcards.model}/{wildcards.task} at {wildcards.site}"
    script:
        "../scripts/compute_baseline.py"


for scores, jets in (("scores", "jets"), ("ranking_scores", "ranking_jets")):

    rule:
        name:
            f"score_{jets}"
        input:
            code=script_code("score_estimators"),
            jets=path_of(jets),
            baselines=lambda wildcards: [
                path_of("baseline").format(**wildcards, baseline=name)
                for name in baselines(config, wildcards)
            ],
        output:
            path_of(scores),
        log:
            log_of(f"score_{jets}", SETTING),
        benchmark:
            timing_of(f"score_{jets}", SETTING)
        conda:
            "../envs/library.yaml"
        resources:
            mem_mb=2000,
        params:
            estimators=JETS[jets][2],
        message:
            f"Set the estimates of {jets} beside the truth"
            ": {wildcards.model}/{wildcards.task} at {wildcards.site}"
        script:
            "../scripts/score_estimators.py"
