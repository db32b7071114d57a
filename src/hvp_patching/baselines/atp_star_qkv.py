"""AtP* (Kramár et al. 2024, arXiv 2403.00745) on the query, key and value nodes of heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hvp_patching.baselines._grad_drop import grad_drop
from hvp_patching.isolation import isolated
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.paths.run import BaseRun, check_met
from hvp_patching.prompts.pair import as_token_pair
from hvp_patching.sites import Hook, Site, get_site, n_layers

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from hvp_patching.prompts.pair import PromptPair, TokenPair

NODES = tuple(Site(name, f"attn.hook_{name}", -2) for name in ("q", "k", "v"))


@isolated()
def atp_star_qkv(
    model: TransformerBridge,
    pair: PromptPair | TokenPair,
    site: str = "attn_heads",
    direction: str = "noising",
    *,
    metric: AnyMetric = LOGPROB,
) -> torch.Tensor:
    """A head's AtP* as the sum over its query, key and value nodes, float64 [n_heads].

    Each node's estimate is its change of z times ∂m/∂z, with GradDrop and signed (see z_changes
    and grad_drop). Their sum is ours: the paper scores the three apart. A node is patched at all
    positions together, like the heads that it is compared with: before |·| that adds up the
    paper's nodes of one position for queries and values, not for keys, which meet in one softmax.
    A key or value head that several query heads share is patched for each. ValueError for a site
    other than attn_heads, else as in path_jets. Section 4.1.
    """
    if site != "attn_heads":
        raise ValueError(
            f"queries, keys and values belong to heads, not to site '{site}'; use atp_star there"
        )
    tokens = as_token_pair(model, pair)
    run = base_run(model, tokens, get_site(site), direction, metric)
    nodes = [base_run(model, tokens, node, direction, metric) for node in NODES]
    return torch.stack(grad_drop(run, [z_changes(node, get_site(site)) for node in nodes])).sum(0)


def z_changes(node: BaseRun, z: Site) -> list[torch.Tensor]:
    """Change of the heads' output z when their queries, keys or values alone are patched.

    `node` is the run whose site is the patched one; returns [1, n_suffix, n_heads, d_head] per
    layer. This is the QK fix: the model's own softmax (with rotation, scale, soft cap and mask)
    gives the exact pattern, and since z is linear in the pattern, ∂m/∂z · (change of z) equals
    ∂m/∂pattern · (change of the pattern). Row ℓ of one batch patches layer ℓ, the last row none.
    """
    layers = range(n_layers(node.model))
    run = node.repeated(len(layers) + 1)
    changes: dict[int, torch.Tensor] = {}
    patches = [(node.names[layer], _patch(node.delta[layer], layer)) for layer in layers]
    reads = [(z.hook_name(layer), _read_change(changes, layer)) for layer in layers]
    with torch.no_grad():
        logits = run.logits([*patches, *reads], run.prefix)
        check_met(run, run.metric(logits)[-1], "a pass that patches nothing")
    return [changes[layer] for layer in layers]


def _patch(delta: torch.Tensor, row: int) -> Hook:
    def hook(activation: torch.Tensor, hook: object) -> torch.Tensor:
        patched = activation.clone()
        patched[row] += delta[0]
        return patched

    return hook


def _read_change(changes: dict[int, torch.Tensor], layer: int) -> Hook:
    def hook(activation: torch.Tensor, hook: object) -> None:
        changes[layer] = activation[layer : layer + 1] - activation[-1:]

    return hook
