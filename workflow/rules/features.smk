"""Defines rules that train or fetch sparse autoencoders and patch their features (Table 17)."""

from choices import (
    TOP,
    autoencoder_files,
    autoencoder_hooks,
    autoencoder_source,
    prompts_for,
)
from code_inputs import script_code
from grammar import HOOK, MODEL, PROMPT_LIST, STORE, log_of, path_of, timing_of


wildcard_constraints:
    hook=r"[a-z0-9._]+",


rule sample_texts:
    """Texts that a model samples itself, to train its autoencoders on and to judge them by."""
    input:
        code=script_code("sample_texts"),
        model=path_of("weights"),
    output:
        path_of("texts"),
    log:
        log_of("sample_texts", MODEL),
    benchmark:
        timing_of("sample_texts", MODEL)
    conda:
        "../envs/library.yaml"
    threads: THREADS
    resources:
        mem_mb=6000,
        device=config["engine"]["device"],
    params:
        tokens=lambda wildcards: (
            0
            if autoencoder_source(config, wildcards.model)
            else config["autoencoder_training"]["tokens"]
        ),
        held_out=config["autoencoder_training"]["held_out"],
        seed=config["seed"],
        dtype=config["engine"]["dtype"],
        store=STORE,
    message:
        "Sample texts from {wildcards.model}"
    script:
        "../scripts/sample_texts.py"


rule train_autoencoder:
    """A top-k autoencoder of one hook, on texts that the model sampled; goes on after a kill."""
    input:
        code=script_code("train_autoencoder"),
        model=path_of("weights"),
        texts=path_of("texts"),
    output:
        config=path_of("trained"),
        weights=path_of("trained").replace("cfg.json", "sae_weights.safetensors"),
    log:
        log_of("train_autoencoder", f"{MODEL}/{HOOK}"),
    benchmark:
        timing_of("train_autoencoder", f"{MODEL}/{HOOK}")
    conda:
        "../envs/library.yaml"
    threads: THREADS
    resources:
        mem_mb=6000,
        device=config["engine"]["device"],
    params:
        **{
            name: config["autoencoder_training"][name]
            for name in ("width", "k", "steps", "batch")
        },
        seed=config["seed"],
        dtype=config["engine"]["dtype"],
        store=STORE,
    message:
        "Train an autoencoder of {wildcards.model} at {wildcards.hook}"
    script:
        "../scripts/train_autoencoder.py"


rule fetch_autoencoder:
    """A published autoencoder of one hook, from the Hub at a pinned revision."""
    input:
        code=script_code("fetch_autoencoder"),
    output:
        config=path_of("fetched"),
        weights=path_of("fetched").replace("cfg.json", "sae_weights.safetensors"),
    log:
        log_of("fetch_autoencoder", f"{MODEL}/{HOOK}"),
    conda:
        "../envs/library.yaml"
    resources:
        mem_mb=2000,
    message:
        "Fetch the autoencoder of {wildcards.model} at {wildcards.hook}"
    script:
        "../scripts/fetch_autoencoder.py"


rule assess_autoencoders:
    """Explained variance, L0 and loss recovered of a model's autoencoders on held-out texts."""
    input:
        code=script_code("assess_autoencoders"),
        model=path_of("weights"),
        texts=path_of("texts"),
        autoencoders=lambda wildcards: autoencoder_files(config, wildcards.model),
    output:
        path_of("autoencoders"),
    log:
        log_of("assess_autoencoders", MODEL),
    conda:
        "../envs/library.yaml"
    threads: THREADS
    resources:
        mem_mb=6000,
        device=config["engine"]["device"],
    params:
        hooks=lambda wildcards: autoencoder_hooks(config, wildcards.model),
        trained=lambda wildcards: not autoencoder_source(config, wildcards.model),
        dtype=config["engine"]["dtype"],
    message:
        "Assess the autoencoders of {wildcards.model}"
    script:
        "../scripts/assess_autoencoders.py"


rule compute_features:
    """AP, HVP and the truth of every feature that a prompt's corruption moves (appendix E.9)."""
    input:
        code=script_code("compute_features"),
        model=path_of("weights"),
        prompts=path_of("prompts"),
        autoencoders=lambda wildcards: autoencoder_files(config, wildcards.model),
    output:
        path_of("feature_scores"),
    log:
        log_of("compute_features", PROMPT_LIST),
    benchmark:
        timing_of("compute_features", PROMPT_LIST)
    conda:
        "../envs/library.yaml"
    threads: THREADS
    resources:
        mem_mb=8000,
        rows_mib=int(1024 * config["engine"]["memory_gb"]),
        device=config["engine"]["device"],
        check=config["check"],
    params:
        n_prompts=prompts_for(config, TOP),
        estimators=config["site_estimators"],
        hooks=lambda wildcards: autoencoder_hooks(config, wildcards.model),
        direction=config["direction"],
        backend=config["engine"]["backend"],
        dtype=config["engine"]["dtype"],
        store=STORE,
    message:
        "Patch features of {wildcards.model}/{wildcards.task}"
    script:
        "../scripts/compute_features.py"
