"""Defines rules that probe the Hessian along patch paths."""

from choices import PROBES, prompts_for
from code_inputs import script_code
from grammar import SETTING, STORE, log_of, path_of, timing_of


rule compute_probes:
    """Vector Hessian–vector products at three points of every path (appendix B.2)."""
    input:
        code=script_code("compute_probes"),
        model=path_of("weights"),
        prompts=path_of("prompts"),
    output:
        path_of("probes"),
    log:
        log_of("compute_probes", SETTING),
    benchmark:
        timing_of("compute_probes", SETTING)
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
        store=STORE,
    message:
        "Probe the Hessian along the paths of {wildcards.model}/{wildcards.task}"
    script:
        "../scripts/compute_probes.py"
