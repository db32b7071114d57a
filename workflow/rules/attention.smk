"""Defines rules that read attention patterns and the roles of heads."""

from choices import ALL_COMPONENTS, prompts_for
from code_inputs import script_code


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
        n_prompts=prompts_for(config, ALL_COMPONENTS),
        dtype=config["engine"]["dtype"],
    message:
        "Read attention patterns of {wildcards.model}/{wildcards.task}"
    script:
        "../scripts/compute_attention.py"
