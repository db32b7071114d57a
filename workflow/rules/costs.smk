"""Defines rules that time what attributions are made of."""

from choices import is_baseline, named_baselines
from code_inputs import script_code
from grammar import SETTING, SETTING_LOG


rule measure_costs:
    """Seconds of a forward pass, an exact patch, and each kind of derivative, in one run."""
    input:
        code=script_code("measure_costs", *named_baselines(config["sweep_estimators"])),
        model="data/models/{model}/hvp_model.json",
        prompts="results/prompts/{model}/{task}/{corruption}.parquet",
    output:
        f"results/timing/costs/{SETTING}.parquet",
    log:
        f"logs/measure_costs/{SETTING_LOG}.log",
    conda:
        "../envs/library.yaml"
    threads: THREADS
    resources:
        mem_mb=8000,
        rows_mib=int(1024 * config["engine"]["memory_gb"]),
        device=config["engine"]["device"],
        check=config["check"],
    params:
        repeats=3,
        baselines=[name for name in config["sweep_estimators"] if is_baseline(name)],
        direction=config["direction"],
        backend=config["engine"]["backend"],
        dtype=config["engine"]["dtype"],
    message:
        "Time forward passes and derivatives of {wildcards.model}/{wildcards.task}"
    script:
        "../scripts/measure_costs.py"
