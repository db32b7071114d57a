"""Defines rules that run many estimators on few components, and follow them to their limit."""

from choices import named_baselines
from code_inputs import script_code
from grammar import SETTING, SETTING_LOG


rule compute_sweep:
    """Many estimators on the components of largest effect, which the top-k error needs."""
    input:
        code=script_code("compute_sweep", *named_baselines(config["sweep_estimators"])),
        model="data/models/{model}/hvp_model.json",
        prompts="results/prompts/{model}/{task}/{corruption}.parquet",
        jets=f"results/jets/{SETTING}.parquet",
    output:
        f"results/sweeps/{SETTING}.parquet",
    log:
        f"logs/compute_sweep/{SETTING_LOG}.log",
    benchmark:
        f"results/timing/compute_sweep/{SETTING_LOG}.tsv"
    conda:
        "../envs/library.yaml"
    threads: THREADS
    resources:
        mem_mb=8000,
        rows_mib=int(1024 * config["engine"]["memory_gb"]),
        device=config["engine"]["device"],
        check=config["check"],
    params:
        estimators=config["sweep_estimators"],
        top_k=config["metrics"]["top_k"],
        direction=config["direction"],
        backend=config["engine"]["backend"],
        dtype=config["engine"]["dtype"],
        store="results/store",
    message:
        "Sweep estimators on the largest effects of {wildcards.model}/{wildcards.task}"
    script:
        "../scripts/compute_sweep.py"


rule compute_convergence:
    """Estimators with more and more steps, in float32 and float64, on one prompt."""
    input:
        code=script_code(
            "compute_convergence", *named_baselines(config["convergence_estimators"])
        ),
        model="data/models/{model}/hvp_model.json",
        prompts="results/prompts/{model}/{task}/{corruption}.parquet",
        jets=f"results/jets/{SETTING}.parquet",
    output:
        f"results/convergence/{SETTING}.parquet",
    log:
        f"logs/compute_convergence/{SETTING_LOG}.log",
    benchmark:
        f"results/timing/compute_convergence/{SETTING_LOG}.tsv"
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
        store="results/store",
    message:
        "Follow estimators of {wildcards.model}/{wildcards.task} to their limit"
    script:
        "../scripts/compute_convergence.py"
