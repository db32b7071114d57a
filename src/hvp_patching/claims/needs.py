"""What a claim would take on the paper's own model: the command, the memory and GPU hours."""

from __future__ import annotations

from hvp_patching.claims.facts import heads, paper_models, parameters
from hvp_patching.claims.reading import Claim, Query

BYTES = 4  # float32
ROOM = 1.5  # for activations and gradients, on top of the weights
TOKENS = 20  # of a prompt
FLOPS = 10e12  # a second: what one large GPU sustains in float32 on short rows
PROMPTS = 50
PASSES = 30  # per head and prompt, in forward passes: AP, HVP, MS-HVP(5) and IG(10)


def memory_gb(model: str) -> float:
    """Memory of weights, activations and gradients in float32, gigabytes."""
    return ROOM * BYTES * parameters(model) / 1e9


def gpu_hours(model: str) -> float:
    """Hours of one GPU for the estimators of Table 2 on every head of 50 prompts.

    A forward pass takes 2 operations per parameter and token. An order of magnitude.
    """
    return heads(model) * PROMPTS * PASSES * 2 * parameters(model) * TOKENS / FLOPS / 3600


def command(artefact: str) -> str:
    """The command that makes an artefact on the paper's own models."""
    target = artefact if "/" in artefact else f"tables/{artefact}"
    if artefact.startswith("figure") and "/" not in artefact:
        target = f"figures/{artefact}"
    ending = "pdf" if target.startswith("figures/") else "tex"
    return f"snakemake --cores 1 {target}.{ending} --configfile config/paper.yaml"


def commands(claim: Claim, queries: dict[str, Query]) -> str:
    """The commands of a claim's queries, '' where nothing would be run."""
    asked = [queries[name] for name in (*claim.queries, *filter(None, [claim.number]))]
    return " && ".join(dict.fromkeys(command(q.artefact) for q in asked if q.artefact))


def needed(claim: Claim) -> str:
    """What the claim's own models need, or all of the paper's: memory and projected GPU hours."""
    models = [model for model in claim.models if model in paper_models()] or list(paper_models())
    largest = max(models, key=memory_gb)
    return (
        f"{largest}: {memory_gb(largest):.1f} GB, about {gpu_hours(largest):.1g} GPU hours a task"
    )
