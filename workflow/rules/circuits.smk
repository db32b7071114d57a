"""Defines rules that score edges and judge the circuits made of the best ones."""

from choices import CIRCUITS, prompts_for
from code_inputs import script_code
from grammar import PROMPT_LIST, STORE, log_of, path_of, timing_of


rule compute_edges:
    """Scores of all edges, the mean over one half of the prompts (section 4.4)."""
    input:
        code=script_code("compute_edges"),
        model=path_of("weights"),
        prompts=path_of("prompts"),
    output:
        path_of("edges"),
    log:
        log_of("compute_edges", PROMPT_LIST),
    benchmark:
        timing_of("compute_edges", PROMPT_LIST)
    conda:
        "../envs/library.yaml"
    threads: THREADS
    resources:
        mem_mb=8000,
        rows_mib=int(1024 * config["engine"]["memory_gb"]),
        device=config["engine"]["device"],
        check=config["check"],
    params:
        methods=config["circuit_methods"],
        n_prompts=prompts_for(config, CIRCUITS),
        dtype=config["engine"]["dtype"],
        store=STORE,
    message:
        "Score the edges of {wildcards.model}/{wildcards.task}"
    script:
        "../scripts/compute_edges.py"


rule compute_faithfulness:
    """The metric of every method's circuits, on the other half of the prompts (appendix E.8)."""
    input:
        code=script_code("compute_faithfulness"),
        model=path_of("weights"),
        prompts=path_of("prompts"),
        edges=path_of("edges"),
    output:
        path_of("faithfulness"),
    log:
        log_of("compute_faithfulness", PROMPT_LIST),
    benchmark:
        timing_of("compute_faithfulness", PROMPT_LIST)
    conda:
        "../envs/library.yaml"
    threads: THREADS
    resources:
        mem_mb=8000,
        rows_mib=int(1024 * config["engine"]["memory_gb"]),
        device=config["engine"]["device"],
        check=config["check"],
    params:
        n_prompts=prompts_for(config, CIRCUITS),
        dtype=config["engine"]["dtype"],
        store=STORE,
    message:
        "Judge the circuits of {wildcards.model}/{wildcards.task}"
    script:
        "../scripts/compute_faithfulness.py"


include: "sets.smk"
include: "spectrum.smk"
