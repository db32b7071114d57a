"""Defines rules that probe patch paths: Hessian–vector products, sweeps, attention patterns."""

from choices import BASELINE_MODULES, named_baselines
from code_inputs import script_code


rule compute_probes:
    """Vector Hessian–vector products at three points of every path (appendix B.2)."""
    input:
        code=script_code("compute_probes"),
        model="data/models/{model}/hvp_model.json",
        prompts="results/prompts/{model}/{task}/{corruption}.parquet",
    output:
        f"results/probes/{SETTING}.parquet",
    log:
        f"logs/compute_probes/{SETTING_LOG}.log",
    benchmark:
        f"results/timing/compute_probes/{SETTING_LOG}.tsv"
    conda:
        "../envs/library.yaml"
    threads: THREADS
    resources:
        mem_mb=8000,
        rows_mib=int(1024 * config["engine"]["memory_gb"]),
        device=config["engine"]["device"],
        check=config["check"],
    params:
        nodes=config["probe_nodes"],
        direction=config["direction"],
        dtype=config["engine"]["dtype"],
        store="results/store",
    message:
        "Probe the Hessian along the paths of {wildcards.model}/{wildcards.task}"
    script:
        "../scripts/compute_probes.py"


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
        baselines=[
            name for name in config["sweep_estimators"] if name in BASELINE_MODULES
        ],
        direction=config["direction"],
        backend=config["engine"]["backend"],
        dtype=config["engine"]["dtype"],
    message:
        "Time forward passes and derivatives of {wildcards.model}/{wildcards.task}"
    script:
        "../scripts/measure_costs.py"


rule compute_attention:
    """Attention patterns of the clean run, and roles that heads play in them."""
    input:
        code=script_code("compute_attention"),
        model="data/models/{model}/hvp_model.json",
        prompts="results/prompts/{model}/{task}/{corruption}.parquet",
    output:
        patterns="results/attention/{model}/{task}/{corruption}.parquet",
        roles="results/attention/{model}/{task}/{corruption}_roles.parquet",
    log:
        "logs/compute_attention/{model}_{task}_{corruption}.log",
    benchmark:
        "results/timing/compute_attention/{model}_{task}_{corruption}.tsv"
    conda:
        "../envs/library.yaml"
    threads: THREADS
    resources:
        mem_mb=4000,
        device=config["engine"]["device"],
        check=config["check"],
    params:
        dtype=config["engine"]["dtype"],
    message:
        "Read attention patterns of {wildcards.model}/{wildcards.task}"
    script:
        "../scripts/compute_attention.py"
