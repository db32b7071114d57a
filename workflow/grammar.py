"""The path grammar: where each result lies, with full-word wildcards. It stands here alone."""

from __future__ import annotations

MODEL = "{model}"
PROMPT_LIST = f"{MODEL}/{{task}}/{{corruption}}"
SETTING = f"{PROMPT_LIST}/{{site}}"
HOOK = "{hook}"  # a full hook name, of an autoencoder
SETTING_LOG = SETTING.replace("/", "_")
STORE = "results/store"

PATHS = {
    "weights": "data/models/{model}/hvp_model.json",  # the manifest of prepared weights
    "model": "results/models/{model}.json",  # a model as loaded
    "prompts": f"results/prompts/{PROMPT_LIST}.parquet",  # validated, tokenised pairs
    "dropped": f"results/prompts/{PROMPT_LIST}_dropped.csv",  # those that do not fit
    "truth": f"results/truth/{SETTING}.parquet",  # f(0) and f(1) of every component
    "jets": f"results/jets/{SETTING}.parquet",  # f, f', f'' at nodes of the path
    "baseline": f"results/baselines/{SETTING}/{{baseline}}.parquet",
    "scores": f"results/scores/{SETTING}.parquet",  # estimates beside the truth
    "ranking_jets": f"results/ranking_jets/{SETTING}.parquet",  # many nodes, every component
    "ranking_scores": f"results/ranking_scores/{SETTING}.parquet",
    "top": f"results/top/{SETTING}.parquet",  # Table 2's estimators, largest effects alone
    "hessians": f"results/hessians/{SETTING}.parquet",  # Table 9's, the same components
    "probes": f"results/probes/{SETTING}.parquet",  # Hessian–vector products
    "sweep": f"results/sweeps/{SETTING}.parquet",  # very many estimators, the same components
    "convergence_sweep": f"results/convergence/{SETTING}.parquet",  # many steps, two precisions
    "costs": f"results/timing/costs/{SETTING}.parquet",  # seconds of the operations
    "texts": "results/autoencoders/{model}/texts.safetensors",  # sampled from the model itself
    "trained": f"results/autoencoders/{{model}}/{HOOK}/cfg.json",  # and sae_weights.safetensors
    "fetched": f"data/autoencoders/{{model}}/{HOOK}/cfg.json",  # likewise, published
    "autoencoders": "results/autoencoders/{model}/quality.parquet",
    "feature_scores": f"results/features/{PROMPT_LIST}.parquet",  # of features, all that move
    "floor_scores": f"results/floors/{SETTING}.parquet",  # truths that disagree in one respect
    "spectra": f"results/spectra/{PROMPT_LIST}.parquet",  # of the residual stream's Hessian
    "set_effects": f"results/sets/{PROMPT_LIST}.parquet",  # of heads patched together
    "edges": f"results/circuits/{PROMPT_LIST}/edges.parquet",  # scores of all edges
    "faithfulness": f"results/circuits/{PROMPT_LIST}/faithfulness.parquet",  # m of circuits
    "edge_sample": f"results/circuits/{PROMPT_LIST}/sample.parquet",  # against exact patching
    "one_edge": f"results/circuits/{PROMPT_LIST}/one_edge.parquet",  # m of circuits, one changed
    "edge_timing": f"results/timing/edges/{PROMPT_LIST}.parquet",  # seconds of each method
    "attention": f"results/attention/{PROMPT_LIST}.parquet",
    "roles": f"results/attention/{PROMPT_LIST}_roles.parquet",
    "accuracy": f"results/accuracy/{PROMPT_LIST}.parquet",  # right or wrong on the clean prompts
    "circuit": "data/circuits/{model}_{task}.csv",  # a published circuit
    "comparison": "results/comparison.csv",  # every published number beside ours
    "claims": "results/claims.csv",  # every claim of the paper with its verdict
    "claims_checks": "results/claims_checks.csv",  # every number behind the verdicts
    "claims_counts": "results/claims_counts.csv",  # how many verdicts there are
    "report": "report.html",  # all of it on one page
    "numbers": "results/numbers.tex",  # what the text of the paper below may say
    "paper": "paper/replication.pdf",  # the same as a PDF, where LaTeX is
    "paper_source": "paper/replication.tex",
}


def path_of(name: str) -> str:
    """Pattern of a result; what is not in ``PATHS`` is an analysis under results/metrics."""
    return PATHS.get(name, f"results/metrics/{SETTING}/{name}.parquet")


def path_of_overall(name: str) -> str:
    """File of an analysis of several settings."""
    return f"results/metrics/{name}.parquet"


def table_file(name: str, ending: str = "tex") -> str:
    """A table, typeset or as ``csv``."""
    return f"tables/{name}.{ending}"


def figure_file(name: str, ending: str = "pdf") -> str:
    """A figure, or what it shows as ``csv``."""
    return f"figures/{name}.{ending}"


def log_of(rule: str, of: str = "", ending: str = "log") -> str:
    """Log of a rule, one for each value of the wildcards in ``of``, such as ``SETTING``."""
    return f"logs/{rule}/{of.replace('/', '_')}.{ending}" if of else f"logs/{rule}.{ending}"


def timing_of(rule: str, of: str) -> str:
    """Seconds and memory of a rule's jobs, one file for each value of the wildcards in ``of``."""
    return f"results/timing/{rule}/{of.replace('/', '_')}.tsv"
