"""Defines rules that read attention patterns and the roles of heads."""

from choices import ALL_COMPONENTS, prompts_for
from code_inputs import script_code
from grammar import PROMPT_LIST, log_of, path_of, timing_of


rule compute_attention:
    """Attention patterns of the clean run, and roles that heads play in them."""
    input:
        code=script_code("compute_attention"),
        model=path_of("weights"),
        prompts=path_of("prompts"),
    output:
        patterns=path_of("attention"),
        roles=path_of("roles"),
    log:
        log_of("compute_attention", PROMPT_LIST),
    benchmark:
        timing_of("compute_attention", PROMPT_LIST)
    conda:
        "../envs/library.yaml"
    threads: THREADS
    resources:
        mem_mb=4000,
        device=config["engine"]["device"],
        check=config["check"],
    params:
        n_prompts=prompts_for(config, ALL_COMPONENTS),
        dtype=config["engine"]["dtype"],
    message:
        "Read attention patterns of {wildcards.model}/{wildcards.task}"
    script:
        "../scripts/compute_attention.py"
