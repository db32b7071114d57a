"""Defines rules that make prompt pairs and keep those that fit a model's tokenizer."""

from choices import n_built, prepends_bos, prompt_data
from code_inputs import prompt_sources, script_code
from grammar import PROMPT_LIST, log_of, path_of, timing_of


rule build_prompts:
    """Make, corrupt and validate the prompt pairs of one task for one tokenizer."""
    input:
        code=lambda wildcards: [
            *script_code("build_prompts"),
            *prompt_sources(wildcards.task),
        ],
        model=path_of("weights"),
        data=lambda wildcards: prompt_data(wildcards.task),
    output:
        prompts=path_of("prompts"),
        dropped=path_of("dropped"),
    log:
        log_of("build_prompts", PROMPT_LIST),
    benchmark:
        timing_of("build_prompts", PROMPT_LIST)
    conda:
        "../envs/library.yaml"
    resources:
        mem_mb=2000,
    params:
        n=lambda wildcards: n_built(config, wildcards.model, wildcards.task),
        seed=config["seed"],
        prepend_bos=lambda wildcards: prepends_bos(wildcards.model),
        options=lambda wildcards: config["prompt_options"].get(wildcards.task, {}),
    message:
        "Build {params.n} prompts of {wildcards.task} for {wildcards.model}"
    script:
        "../scripts/build_prompts.py"
