"""Defines rules that compute spectra of the residual stream's Hessian."""

from choices import SPECTRUM, prompts_for
from code_inputs import script_code
from grammar import PROMPT_LIST, STORE, log_of, path_of, timing_of


rule compute_spectrum:
    """Largest eigenvalues of the residual stream's Hessian, and what they know of neurons' q."""
    input:
        code=script_code("compute_spectrum"),
        model=path_of("weights"),
        prompts=path_of("prompts"),
    output:
        path_of("spectra"),
    log:
        log_of("compute_spectrum", PROMPT_LIST),
    benchmark:
        timing_of("compute_spectrum", PROMPT_LIST)
    conda:
        "../envs/library.yaml"
    threads: THREADS
    resources:
        mem_mb=8000,
        rows_mib=int(1024 * config["engine"]["memory_gb"]),
        device=config["engine"]["device"],
        check=config["check"],
    params:
        n_prompts=prompts_for(config, SPECTRUM),
        depths=config["spectrum_draws"]["depths"],
        rank=config["spectrum_draws"]["rank"],
        neurons=config["spectrum_draws"]["neurons"],
        seed=config["seed"],
        direction=config["direction"],
        backend=config["engine"]["backend"],
        dtype=config["engine"]["dtype"],
        store=STORE,
    message:
        "Compute spectra of {wildcards.model}/{wildcards.task}"
    script:
        "../scripts/compute_spectrum.py"
