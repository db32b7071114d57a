"""Defines rules that patch sets of heads together, beside what predicts their effect."""

from choices import SETS, prompts_for
from code_inputs import script_code
from grammar import PROMPT_LIST, STORE, log_of, path_of, timing_of


rule compute_sets:
    """Joint effects of sets of heads, and what scores of single heads say of them."""
    input:
        code=script_code("compute_sets"),
        model=path_of("weights"),
        prompts=path_of("prompts"),
    output:
        path_of("set_effects"),
    log:
        log_of("compute_sets", PROMPT_LIST),
    benchmark:
        timing_of("compute_sets", PROMPT_LIST)
    conda:
        "../envs/library.yaml"
    threads: THREADS
    resources:
        mem_mb=8000,
        rows_mib=int(1024 * config["engine"]["memory_gb"]),
        device=config["engine"]["device"],
        check=config["check"],
    params:
        n_prompts=prompts_for(config, SETS),
        metrics=config["set_draws"]["metrics"],
        sizes=config["set_draws"]["sizes"],
        per_size=config["set_draws"]["per_size"],
        seed=config["seed"],
        direction=config["direction"],
        backend=config["engine"]["backend"],
        dtype=config["engine"]["dtype"],
        store=STORE,
    message:
        "Patch sets of heads of {wildcards.model}/{wildcards.task}"
    script:
        "../scripts/compute_sets.py"
