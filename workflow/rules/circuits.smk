"""Defines rules that score edges, patch them alone, and judge the circuits made of the best."""

from choices import CIRCUITS, EDGE_SAMPLE, EDGE_TIMING, circuit_methods, prompts_for
from code_inputs import script_code
from grammar import PROMPT_LIST, STORE, log_of, path_of, timing_of


rule compute_edges:
    """Scores of all edges, the mean over one half of the prompts (section 4.4)."""
    input:
        code=script_code("compute_edges"),
        model=path_of("weights"),
        prompts=path_of("prompts"),
        ability=path_of("ability").replace("{site}", "attn_heads"),
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
        methods=lambda wildcards: circuit_methods(config, wildcards),
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


rule compute_one_edge:
    """Circuits in which the edge from the embedding into MLP 0 has its exact score, or none."""
    input:
        code=script_code("compute_one_edge"),
        model=path_of("weights"),
        prompts=path_of("prompts"),
    output:
        path_of("one_edge"),
    log:
        log_of("compute_one_edge", PROMPT_LIST),
    benchmark:
        timing_of("compute_one_edge", PROMPT_LIST)
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
        "Change one edge of the circuits of {wildcards.model}/{wildcards.task}"
    script:
        "../scripts/compute_one_edge.py"


rule compute_edge_sample:
    """Sampled edges by every method and patched alone, with seconds."""
    input:
        code=script_code("compute_edge_sample"),
        model=path_of("weights"),
        prompts=path_of("prompts"),
    output:
        path_of("edge_sample"),
    log:
        log_of("compute_edge_sample", PROMPT_LIST),
    benchmark:
        timing_of("compute_edge_sample", PROMPT_LIST)
    conda:
        "../envs/library.yaml"
    threads: THREADS
    resources:
        mem_mb=8000,
        rows_mib=int(1024 * config["engine"]["memory_gb"]),
        device=config["engine"]["device"],
        check=config["check"],
    params:
        n_prompts=prompts_for(config, EDGE_SAMPLE),
        methods=config["edge_sample"]["methods"],
        per_stratum=config["edge_sample"]["per_stratum"],
        seed=config["seed"],
        dtype=config["engine"]["dtype"],
        store=STORE,
    message:
        "Patch sampled edges of {wildcards.model}/{wildcards.task}"
    script:
        "../scripts/compute_edge_sample.py"


rule compute_edge_timing:
    """Wall clock of every method that scores all edges; runs alone (appendix E.6)."""
    input:
        code=script_code("compute_edge_timing"),
        model=path_of("weights"),
        prompts=path_of("prompts"),
    output:
        path_of("edge_timing"),
    log:
        log_of("compute_edge_timing", PROMPT_LIST),
    benchmark:
        timing_of("compute_edge_timing", PROMPT_LIST)
    conda:
        "../envs/library.yaml"
    threads: CORES
    resources:
        mem_mb=8000,
        rows_mib=int(1024 * config["engine"]["memory_gb"]),
        device=config["engine"]["device"],
        check=config["check"],
    params:
        n_prompts=prompts_for(config, EDGE_TIMING),
        methods=config["edge_timing"]["methods"],
        sampled=config["edge_timing"]["sampled"],
        tau=config["tau"],
        seed=config["seed"],
        dtype=config["engine"]["dtype"],
        store=STORE,
    message:
        "Time the edges of {wildcards.model}/{wildcards.task}"
    script:
        "../scripts/compute_edge_timing.py"


include: "sets.smk"
include: "spectrum.smk"
