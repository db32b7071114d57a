"""Defines rules that bring model weights into data/models and describe what was loaded."""

from choices import checkpoint_files, checkpoint_identity, model_source, prompt_data
from code_inputs import script_code, sources, weights_code
from grammar import MODEL, log_of, path_of, timing_of


rule prepare_model:
    """Download (three attempts for each file), check and convert the weights of one model."""
    input:
        code=weights_code(),
        data=branch(
            lambda wildcards: wildcards.model.startswith("tiny-"),
            then=[*sources("models/tiny"), *prompt_data()],
            otherwise=[],
        ),
        checkpoint=lambda wildcards: checkpoint_files(config, wildcards.model),
    output:
        path_of("weights"),
    log:
        log_of("prepare_model", MODEL),
    benchmark:
        timing_of("prepare_model", MODEL)
    conda:
        "../envs/library.yaml"
    resources:
        mem_mb=6000,
    params:
        folder=lambda wildcards: config["model_folders"].get(wildcards.model),
        content=lambda wildcards: checkpoint_identity(config, wildcards.model),
        revision=lambda wildcards: config["model_revisions"].get(wildcards.model),
        source=lambda wildcards: model_source(wildcards.model),
    message:
        "Prepare the model {wildcards.model}"
    script:
        "../scripts/prepare_model.py"


rule describe_model:
    """Read layers, heads and widths off the loaded model (Table 1)."""
    input:
        code=script_code("describe_model"),
        model=path_of("weights"),
    output:
        path_of("model"),
    log:
        log_of("describe_model", MODEL),
    benchmark:
        timing_of("describe_model", MODEL)
    conda:
        "../envs/library.yaml"
    resources:
        mem_mb=4000,  # of a small model: weights in float32 and their copies by the bridge
    message:
        "Describe the model {wildcards.model}"
    script:
        "../scripts/describe_model.py"
