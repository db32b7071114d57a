"""Defines rules that bring model weights into data/models and describe what was loaded."""

from settings import model_source, sources


rule prepare_model:
    """Download (three attempts for each file), check and convert the weights of one model."""
    input:
        code=sources(
            *("models/checkpoint", "models/content", "models/convert"),
            *("models/fetch", "models/gguf_guard", "models/identity"),
        ),
        data=branch(
            lambda wildcards: wildcards.model.startswith("tiny-"),
            then=[
                *sources("models/tiny"),
                "data/prompts/ioi.yaml",
                "data/prompts/greater_than.yaml",
                "data/prompts/factual.csv",
                "data/prompts/entity_swap.csv",
            ],
            otherwise=[],
        ),
    output:
        "data/models/{model}/hvp_model.json",
    log:
        "logs/prepare_model/{model}.log",
    benchmark:
        "results/timing/prepare_model/{model}.tsv"
    conda:
        "../envs/library.yaml"
    resources:
        mem_mb=6000,
    params:
        folder=lambda wildcards: config["model_folders"].get(wildcards.model),
        revision=lambda wildcards: config["model_revisions"].get(wildcards.model),
        source=lambda wildcards: model_source(wildcards.model),
    message:
        "Prepare the model {wildcards.model}"
    script:
        "../scripts/prepare_model.py"


rule describe_model:
    """Read layers, heads and widths off the loaded model (Table 1)."""
    input:
        code=sources("models/loading", "models/wrapping"),
        model="data/models/{model}/hvp_model.json",
    output:
        "results/models/{model}.json",
    log:
        "logs/describe_model/{model}.log",
    benchmark:
        "results/timing/describe_model/{model}.tsv"
    conda:
        "../envs/library.yaml"
    resources:
        mem_mb=4000,
    message:
        "Describe the model {wildcards.model}"
    script:
        "../scripts/describe_model.py"
