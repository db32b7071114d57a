"""The path grammar: where each result lies, with full-word wildcards. It stands here alone."""

from __future__ import annotations

SETTING = "{model}/{task}/{corruption}/{site}"
SETTING_LOG = "{model}_{task}_{corruption}_{site}"

PATHS = {
    "model": "results/models/{model}.json",  # a model as loaded
    "prompts": "results/prompts/{model}/{task}/{corruption}.parquet",  # validated, tokenised pairs
    "truth": f"results/truth/{SETTING}.parquet",  # f(0) and f(1) of every component
    "jets": f"results/jets/{SETTING}.parquet",  # f, f', f'' at nodes of the path
    "baseline": f"results/baselines/{SETTING}/{{baseline}}.parquet",
    "scores": f"results/scores/{SETTING}.parquet",  # estimates beside the truth
    "ranking_jets": f"results/ranking_jets/{SETTING}.parquet",  # many nodes, every component
    "ranking_scores": f"results/ranking_scores/{SETTING}.parquet",
    "top": f"results/top/{SETTING}.parquet",  # Table 2's estimators, largest effects alone
    "probes": f"results/probes/{SETTING}.parquet",  # Hessian–vector products
    "sweep": f"results/sweeps/{SETTING}.parquet",  # very many estimators, the same components
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
