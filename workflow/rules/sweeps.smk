"""Defines rules that run many estimators on few components, and follow them to their limit."""

from choices import (
    FLOORS,
    SWEEP,
    TOP,
    hessian_estimators,
    named_baselines,
    prompts_for,
    sweep_estimators,
    top_estimators,
)
from code_inputs import script_code
from grammar import SETTING, STORE, log_of, path_of, timing_of

# Estimators of the components of largest effect, which the top-k error needs, and on how many
# prompts: those of Tables 2 and 8, those of Table 9, and very many for the figures of error
# against cost.
SWEEPS = {
    "top": (TOP, top_estimators(config)),
    "hessians": (TOP, hessian_estimators(config)),
    "sweep": (SWEEP, sweep_estimators(config)),
}
for sweep, (need, estimators) in SWEEPS.items():

    rule:
        name:
            f"compute_{sweep}"
        input:
            code=script_code("compute_sweep", *named_baselines(estimators)),
            model=path_of("weights"),
            prompts=path_of("prompts"),
            truth=path_of("truth"),
        output:
            path_of(sweep),
        log:
            log_of(f"compute_{sweep}", SETTING),
        benchmark:
            timing_of(f"compute_{sweep}", SETTING)
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
            top_k=config["metrics"]["top_k"],
            direction=config["direction"],
            backend=config["engine"]["backend"],
            dtype=config["engine"]["dtype"],
            store=STORE,
        message:
            f"Run the estimators of '{sweep}'"
            " on the largest effects of {wildcards.model}/{wildcards.task}"
        script:
            "../scripts/compute_sweep.py"


rule compute_convergence:
    """Estimators with more and more steps, in float32 and float64, on one prompt."""
    input:
        code=script_code(
            "compute_convergence", *named_baselines(config["convergence_estimators"])
        ),
        model=path_of("weights"),
        prompts=path_of("prompts"),
        truth=path_of("truth"),
    output:
        path_of("convergence_sweep"),
    log:
        log_of("compute_convergence", SETTING),
    benchmark:
        timing_of("compute_convergence", SETTING)
    conda:
        "../envs/library.yaml"
    threads: THREADS
    resources:
        mem_mb=8000,
        rows_mib=int(1024 * config["engine"]["memory_gb"]),
        device=config["engine"]["device"],
        check=config["check"],
    params:
        estimators=config["convergence_estimators"],
        top_k=3,
        n_prompts=1,
        dtypes=["float32", "float64"],
        direction=config["direction"],
        backend=config["engine"]["backend"],
        store=STORE,
    message:
        "Follow estimators of {wildcards.model}/{wildcards.task} to their limit"
    script:
        "../scripts/compute_convergence.py"


rule compute_floors:
    """The paper's estimators beside truths that disagree with them in one respect."""
    input:
        code=script_code("compute_floors"),
        model=path_of("weights"),
        prompts=path_of("prompts"),
    output:
        path_of("floor_scores"),
    log:
        log_of("compute_floors", SETTING),
    benchmark:
        timing_of("compute_floors", SETTING)
    conda:
        "../envs/library.yaml"
    threads: THREADS
    resources:
        mem_mb=8000,
        rows_mib=int(1024 * config["engine"]["memory_gb"]),
        device=config["engine"]["device"],
        check=config["check"],
    params:
        readings=config["floors_readings"],
        n_prompts=prompts_for(config, FLOORS),
        top_k=config["metrics"]["top_k"],
        seed=config["seed"],
        direction=config["direction"],
        backend=config["engine"]["backend"],
        dtype=config["engine"]["dtype"],
        store=STORE,
    message:
        "Let truth and estimate of {wildcards.model}/{wildcards.task} disagree, one respect at a time"
    script:
        "../scripts/compute_floors.py"
