"""The path grammar: where each result lies, with full-word wildcards. It stands here alone."""

from __future__ import annotations

SETTING = "{model}/{task}/{corruption}/{site}"
SETTING_LOG = "{model}_{task}_{corruption}_{site}"

PATHS = {
    "model": "results/models/{model}.json",  # a model as loaded
    "prompts": "results/prompts/{model}/{task}/{corruption}.parquet",  # validated, tokenised pairs
    "jets": f"results/jets/{SETTING}.parquet",  # f, f', f'' at nodes of the path
    "scores": f"results/scores/{SETTING}.parquet",  # estimates beside the truth
    "probes": f"results/probes/{SETTING}.parquet",  # Hessian–vector products
    "sweep": f"results/sweeps/{SETTING}.parquet",  # many estimators, few components
    "convergence_sweep": f"results/convergence/{SETTING}.parquet",  # many steps, two precisions
    "costs": f"results/timing/costs/{SETTING}.parquet",  # seconds of the operations
    "attention": "results/attention/{model}/{task}/{corruption}.parquet",
    "roles": "results/attention/{model}/{task}/{corruption}_roles.parquet",
    "circuit": "data/circuits/{model}_{task}.csv",  # a published circuit
}


def path_of(name: str) -> str:
    """Pattern of a result; what is not in ``PATHS`` is an analysis under results/metrics."""
    return PATHS.get(name, f"results/metrics/{SETTING}/{name}.parquet")


def path_of_overall(name: str) -> str:
    """File of an analysis of several settings."""
    return f"results/metrics/{name}.parquet"
