"""Integrated gradients over the inputs: one gradient between the two runs serves all components.

As EAP-IG (inputs) of the circuit benchmark MIB and of Hanna et al. 2024 (arXiv 2403.17806) takes
it, for components in the place of edges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hvp_patching.baselines._other_run import OTHER, tokens_of_two_runs
from hvp_patching.failures import architecture
from hvp_patching.isolation import isolated
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.gradients import adders, component_sums, rows_per_reverse_pass
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.paths.patches import Positions, resolve_positions
from hvp_patching.paths.precision import DecomposedLayerNorm
from hvp_patching.paths.rows import DEFAULT_MEMORY
from hvp_patching.paths.run import BaseRun
from hvp_patching.sites import Hooks, get_site

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
    # its δ leads back to this run
    other = base_run(model, tokens, Hooks((EMBEDDING,)), OTHER[direction], metric, run.start)
    total = [torch.zeros_like(delta) for delta in run.delta]
    nodes = torch.tensor([(k + 1) / steps for k in range(steps)], dtype=torch.float64)
    for chunk in torch.split(nodes, rows_per_reverse_pass(run, DEFAULT_MEMORY)):
        for layer, gradient in enumerate(_gradients(run, other, chunk)):
            total[layer] += gradient.sum(0, keepdim=True) / steps
    apart = resolve_positions(positions, run)
    return component_sums(where, total, run.delta, run.start, apart)[0].cpu()


def _gradients(run: BaseRun, other: BaseRun, nodes: torch.Tensor) -> list[torch.Tensor]:
    """∂m/∂a at the site in every layer [n_nodes, n_suffix, ...], for runs between the inputs."""
    (back,) = other.delta
    way = -back[:, run.start - other.start :]
    shifts = nodes.to(way).view(-1, 1, 1) * way
    zeros = [delta.new_zeros(len(nodes), *delta.shape[1:]) for delta in run.delta]
    for zero in zeros:
        zero.requires_grad_()
    hooks = adders((EMBEDDING, *run.names), (shifts, *zeros))
    rows = run.repeated(len(nodes))
    with torch.enable_grad(), DecomposedLayerNorm():
        m = run.metric(rows.logits(hooks, rows.prefix))
        far = m[-1].detach()
        if nodes[-1] == 1.0 and not other.is_met(far):
            raise ValueError(
                f"ig_inputs: the other run's {EMBEDDING} put into this one gives "
                f"{float(far):.6f} on {run.prompt} where {architecture(run.model)} gives "
                f"{other.value:.6f}: its tokens enter elsewhere too; use clean_corrupted"
            )
        return list(torch.autograd.grad(m.sum(), zeros))
