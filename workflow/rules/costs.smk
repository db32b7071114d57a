"""Defines rules that time what attributions are made of."""

from choices import is_baseline, named_baselines, sweep_estimators
from code_inputs import script_code
from grammar import SETTING, log_of, path_of


rule measure_costs:
    """Seconds of a forward pass, an exact patch, and each kind of derivative, in one run."""
    input:
        code=script_code("measure_costs", *named_baselines(sweep_estimators(config))),
        model=path_of("weights"),
        prompts=path_of("prompts"),
    output:
        path_of("costs"),
    log:
        log_of("measure_costs", SETTING),
    conda:
        "../envs/library.yaml"
    threads: CORES
    resources:
        mem_mb=8000,
        rows_mib=int(1024 * config["engine"]["memory_gb"]),
        device=config["engine"]["device"],
        check=config["check"],
    params:
        n_prompts=1,
        repeats=3,
        baselines=[name for name in sweep_estimators(config) if is_baseline(name)],
        direction=config["direction"],
        backend=config["engine"]["backend"],
        dtype=config["engine"]["dtype"],
    message:
        "Time forward passes and derivatives of {wildcards.model}/{wildcards.task}"
    script:
        "../scripts/measure_costs.py"
