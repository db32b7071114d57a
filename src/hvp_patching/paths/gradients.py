"""Attribution of all components from one reverse pass: Σ gradient · δ."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from hvp_patching.paths.base_run import BaseRun, Hook, base_run, log_probability
from hvp_patching.paths.precision import DecomposedLayerNorm
from hvp_patching.prompts.pair import PromptPair, TokenPair, as_token_pair
from hvp_patching.sites import get_site

Context = Callable[[], AbstractContextManager[Any]]


def site_attribution(
    model: Any,
    pair: PromptPair | TokenPair,
    site: str = "attn_heads",
    direction: str = "noising",
    context: Context = nullcontext,
) -> torch.Tensor:
    """Gradient · δ of every component from a single reverse pass, float64 [n_components].

    Attribution patching, f'(0), when `context` leaves gradients alone (equation 1); `context` is
    entered around forward and backward, so modified-gradient baselines plug in there. In nats.
    Errors as in path_jets.
    """
    run = base_run(model, as_token_pair(model, pair), get_site(site), direction)
    gradients = _site_gradients(run, context)
    scores = []
    for gradient, delta in zip(gradients, run.delta, strict=True):
        product = (gradient.double() * delta.double())[0]
        for index in range(run.site.n_components(delta)):
            scores.append(run.site.select(product, index).sum())
    return torch.stack(scores).cpu()


def _site_gradients(run: BaseRun, context: Context) -> list[torch.Tensor]:
    """∂m/∂a in every layer, [1, n_suffix, ...] each.

    Zeros that require a gradient are added at the hooks: gradients retained on the bridge's
    converted hooks (hook_z among them) never arrive.
    """
    zeros = [torch.zeros_like(delta, requires_grad=True) for delta in run.delta]

    def adder(zero: torch.Tensor) -> Hook:
        def hook(activation: torch.Tensor, hook: object) -> torch.Tensor:
            return activation + zero

        return hook

    hooks = [(run.site.hook_name(layer), adder(zero)) for layer, zero in enumerate(zeros)]
    with torch.enable_grad(), DecomposedLayerNorm(), context():
        m = log_probability(run.logits(hooks, run.prefix_copy()), run.target_ids)
        return list(torch.autograd.grad(m.sum(), zeros))
