"""Second-order correction by the curvature of the neuron's own activation function alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hvp_patching.isolation import isolated
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.gradients import component_sums, hook_gradients
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.paths.patches import Positions, resolve_positions
from hvp_patching.paths.run import BaseRun
from hvp_patching.prompts.pair import as_token_pair
from hvp_patching.sites import Hook, get_site, n_layers

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from hvp_patching.prompts.pair import PromptPair, TokenPair


def local_curvature(
    model: TransformerBridge,
    pair: PromptPair | TokenPair,
    site: str = "mlp_pre",
    direction: str = "noising",
    *,
    positions: Positions = None,
    metric: AnyMetric = LOGPROB,
) -> torch.Tensor:
    """AP + ½ Σ φ''(h) δ² ∂m/∂φ(h) over positions, or at each of some, float64 [n_components].

    φ(h) is the activation of the pre-activation neuron h; the rest of the network is linearised.
    In gated MLPs ∂m/∂φ(h) = u ∂m/∂(uφ(h)), with u the neuron's linear half. ValueError for
    a site other than mlp_pre, else as in path_jets. Section 3.3, Figure 2.
    """
    return local_correction(model, pair, site, direction, positions=positions, metric=metric)


@isolated()
def local_correction(
    model: TransformerBridge,
    pair: PromptPair | TokenPair,
    site: str,
    direction: str,
    weighted: bool = True,
    positions: Positions = None,
    metric: AnyMetric = LOGPROB,
) -> torch.Tensor:
    """AP and half of a curvature term of the activations, `weighted` by the gradient or not."""
    if site != "mlp_pre":
        raise ValueError(
            f"local curvature is that of an activation function, which site '{site}' is not in "
            "front of; use site 'mlp_pre'"
        )
    where = get_site(site)
    run = base_run(model, as_token_pair(model, pair), where, direction, metric)
    apart = resolve_positions(positions, run)
    first, second = _derivatives(run, weighted)
    squares = [delta.double().square() for delta in run.delta]
    linear = component_sums(where, first, run.delta, run.start, apart)
    return (linear + component_sums(where, second, squares, run.start, apart) / 2)[0].cpu()


def _derivatives(run: BaseRun, weighted: bool) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Per layer ∂m/∂h and φ''(h) ∂m/∂φ(h) (its weight 1 if not `weighted`), [1, n_suffix, d_mlp].

    A neuron's post-activation depends on its own h only, so that two elementwise reverse passes
    through the model's own activation give φ'' times what m's gradient puts on it.
    """
    layers, after = range(n_layers(run.model)), get_site("mlp_post")
    posts: dict[int, torch.Tensor] = {}
    names = [*run.names, *after.names(len(layers))]
    zeros = [torch.zeros_like(delta) for delta in (*run.delta, *run.delta)]
    keeps = [(after.hook_name(layer), _keep(posts, layer)) for layer in layers]
    gradients = hook_gradients(run, names, zeros, keeps, retain_graph=True)
    second = []
    for layer in layers:
        post, weight = posts[layer], gradients[len(layers) + layer]
        weight = weight if weighted else torch.ones_like(weight)
        (slope,) = torch.autograd.grad(post, zeros[layer], weight, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), zeros[layer])
        second.append(bend)
    return gradients[: len(layers)], second


def _keep(posts: dict[int, torch.Tensor], layer: int) -> Hook:
    def hook(activation: torch.Tensor, hook: object) -> None:
        posts[layer] = activation

    return hook
