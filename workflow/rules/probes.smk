"""Defines rules that probe the Hessian along patch paths."""

from choices import PROBES, prompts_for
from code_inputs import script_code
from grammar import SETTING_LOG, path_of


rule compute_probes:
    """Vector Hessian–vector products at three points of every path (appendix B.2)."""
    input:
        code=script_code("compute_probes"),
        model="data/models/{model}/hvp_model.json",
        prompts=path_of("prompts"),
    output:
        path_of("probes"),
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
        n_prompts=prompts_for(config, PROBES),
        nodes=config["probe_nodes"],
        direction=config["direction"],
        dtype=config["engine"]["dtype"],
        store="results/store",
    message:
        "Probe the Hessian along the paths of {wildcards.model}/{wildcards.task}"
    script:
        "../scripts/compute_probes.py"
