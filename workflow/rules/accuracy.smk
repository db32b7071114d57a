"""Defines the rule that asks a model its prompts: whether it does a task at all."""

from choices import TOP, prompts_for
from code_inputs import script_code
from grammar import PROMPT_LIST, log_of, path_of, timing_of


rule compute_accuracy:
    """Right or wrong of every clean prompt, and by how much."""
    input:
        code=script_code("compute_accuracy"),
        model=path_of("weights"),
        prompts=path_of("prompts"),
    output:
        path_of("accuracy"),
    log:
        log_of("compute_accuracy", PROMPT_LIST),
    benchmark:
        timing_of("compute_accuracy", PROMPT_LIST)
    conda:
        "../envs/library.yaml"
    threads: THREADS
    resources:
        mem_mb=4000,
        device=config["engine"]["device"],
        check=config["check"],
    params:
        n_prompts=prompts_for(config, TOP),
        dtype=config["engine"]["dtype"],
    message:
        "Ask {wildcards.model} its prompts of {wildcards.task}"
    script:
        "../scripts/compute_accuracy.py"
