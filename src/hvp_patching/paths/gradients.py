"""Gradients at hooks, and the attribution of all components from one reverse pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from hvp_patching.isolation import isolated
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.precision import DecomposedLayerNorm
from hvp_patching.paths.run import BaseRun, check_met, log_probability
from hvp_patching.prompts.pair import PromptPair, TokenPair, as_token_pair
from hvp_patching.sites import Hook, Site, get_site

Context = Callable[[], AbstractContextManager[Any]]


@isolated()
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
    names = [run.site.hook_name(layer) for layer in range(len(run.delta))]
    zeros = [torch.zeros_like(delta) for delta in run.delta]
    gradients = hook_gradients(run, names, zeros, context=context)
    return component_sums(run.site, gradients, run.delta)[0].cpu()


def hook_gradients(
    run: BaseRun,
    names: Sequence[str],
    zeros: Sequence[torch.Tensor],
    hooks: Sequence[tuple[str, Hook]] = (),
    context: Context = nullcontext,
    retain_graph: bool = False,
) -> list[torch.Tensor]:
    """∂m/∂(activation) at the named hooks of the unpatched run, in the shape of each hook's zeros.

    zeros: for every name a tensor of the activation's shape [n_rows, n_suffix, ...]; they are
    added there with a gradient, because gradients retained on the bridge's converted hooks
    (hook_z among them) never arrive. `hooks` run after them. Rows do not mix, so that every row
    gets the gradient of its own m. ValueError where a row's m is not that of the unpatched run.
    """
    for zero in zeros:
        zero.requires_grad_(True)
    added = [(name, _adder(zero)) for name, zero in zip(names, zeros, strict=True)]
    with torch.enable_grad(), DecomposedLayerNorm(), context():
        logits = run.logits([*added, *hooks], run.prefix_copy())
        m = log_probability(logits, run.target_ids)
        check_met(run, m.detach(), "a pass that changes gradients alone")
        return list(torch.autograd.grad(m.sum(), list(zeros), retain_graph=retain_graph))


def component_sums(
    site: Site, gradients: Sequence[torch.Tensor], directions: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Σ gradient · direction within every component, float64 [n_rows, n_components].

    Both hold a tensor [n_rows or 1, n_pos, ...] per layer; components in (layer, index) order.
    """
    columns = []
    for gradient, direction in zip(gradients, directions, strict=True):
        product = gradient.double() * direction.double()
        product = product.unsqueeze(1) if site.axis is None else product.movedim(site.axis, 1)
        columns.append(product.flatten(2).sum(-1))
    return torch.cat(columns, dim=1)


def _adder(zero: torch.Tensor) -> Hook:
    def hook(activation: torch.Tensor, hook: object) -> torch.Tensor:
        return activation + zero

    return hook
