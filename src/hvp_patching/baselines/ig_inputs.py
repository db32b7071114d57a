"""Integrated gradients over the inputs: one gradient between the two runs serves all components.

As EAP-IG (inputs) of the circuit benchmark MIB and of Hanna et al. 2024 (arXiv 2403.17806) takes
it, for components in the place of edges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hvp_patching.baselines._other_run import gradients_beside_other, tokens_of_two_runs
from hvp_patching.failures import architecture
from hvp_patching.isolation import isolated
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.gradients import component_sums, rows_per_reverse_pass
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.paths.patches import Positions, resolve_positions
from hvp_patching.paths.rows import DEFAULT_MEMORY
from hvp_patching.paths.run import BaseRun
from hvp_patching.sites import Hook, get_site

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from hvp_patching.prompts.pair import PromptPair, TokenPair

EMBEDDING = "hook_embed"  # token embeddings; positions are the same in both runs


@isolated()
def ig_inputs(
    model: TransformerBridge,
    pair: PromptPair | TokenPair,
    site: str = "attn_heads",
    direction: str = "noising",
    *,
    steps: int = 5,
    positions: Positions = None,
    metric: AnyMetric = LOGPROB,
) -> torch.Tensor:
    """δ times the mean gradient of `steps` runs between the two, float64 [n_components].

    The runs' token embeddings are e_base + t (e_other − e_base) at t = 1/N, 2/N, …, 1: for noising
    MIB's e_corrupted + (k/N)(e_clean − e_corrupted), k = 0 … N−1, which leaves the base run out.
    In the order of the site's components (positions: each of them apart, as in path_jets), in the
    metric's units. ValueError for steps < 1, under zero corruption, which has no other input, where
    the model's embeddings do not make its run, else as in site_attribution.
    """
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"ig_inputs needs a whole number of steps, at least 1, got {steps!r}")
    where, tokens = get_site(site), tokens_of_two_runs(model, pair, "ig_inputs")
    run = base_run(model, tokens, where, direction, metric)
    total = [torch.zeros_like(delta) for delta in run.delta]
    nodes = torch.tensor([(k + 1) / steps for k in range(steps)], dtype=torch.float64)
    for chunk in torch.split(nodes, max(1, rows_per_reverse_pass(run, DEFAULT_MEMORY) - 1)):
        for layer, gradient in enumerate(_gradients(run, chunk)):
            total[layer] += gradient.sum(0, keepdim=True) / steps
    apart = resolve_positions(positions, run)
    return component_sums(where, total, run.delta, run.start, apart)[0].cpu()


def _gradients(run: BaseRun, nodes: torch.Tensor) -> list[torch.Tensor]:
    """∂m/∂a at the site in every layer [n_nodes, n_suffix, ...], for runs between the inputs."""
    gradients, met = gradients_beside_other(run, len(nodes), [(EMBEDDING, _between(nodes))])
    far = met[-2:-1]
    if nodes[-1] == 1.0 and not bool((far - run.other_value).abs() <= run.slack):
        raise ValueError(
            f"ig_inputs: the other run's {EMBEDDING} put into this one gives "
            f"{float(far):.6f} on {run.prompt} where {architecture(run.model)} gives "
            f"{run.other_value:.6f}: its tokens enter elsewhere too; use clean_corrupted"
        )
    return [gradient[:-1] for gradient in gradients]


def _between(nodes: torch.Tensor) -> Hook:
    """Leads every row but the last, the other run, the fraction `nodes` of the way to it."""

    def hook(activation: torch.Tensor, hook: object) -> torch.Tensor:
        here, there = activation[:-1], activation[-1:]
        return torch.cat([here + nodes.to(activation).view(-1, 1, 1) * (there - here), there])

    return hook
