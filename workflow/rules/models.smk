"""Defines rules that bring model weights into data/models and describe what was loaded."""

from settings import sources


rule prepare_model:
    """Download, check and convert the weights of one model."""
    input:
        code=sources("models/*"),
        data=branch(
            lambda wildcards: wildcards.model.startswith("tiny-"),
            then=expand(
                "data/prompts/{file}",
                file=["ioi.yaml", "greater_than.yaml", "factual.csv"],
            ),
            otherwise=[],
        ),
    output:
        "data/models/{model}/hvp_model.json",
    log:
        "logs/prepare_model/{model}.log",
    benchmark:
        "results/timing/prepare_model/{model}.tsv"
    retries: 2
    resources:
        mem_mb=6000,
    params:
        folder=lambda wildcards: config["model_folders"].get(wildcards.model),
        revision=lambda wildcards: config["model_revisions"].get(wildcards.model),
    script:
        "../scripts/prepare_model.py"


rule describe_model:
    """Read layers, heads and widths off the loaded model (Table 1)."""
    input:
        code=sources("models/loading"),
        model="data/models/{model}/hvp_model.json",
    output:
        "results/models/{model}.json",
    log:
        "logs/describe_model/{model}.log",
    benchmark:
        "results/timing/describe_model/{model}.tsv"
    resources:
        mem_mb=4000,
    script:
        "../scripts/describe_model.py"
