"""Gradients at hooks, and the attribution of all components from one reverse pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F

from hvp_patching.isolation import isolated
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.metric import LOGPROB, AnyMetric
from hvp_patching.paths.patches import Positions, resolve_positions
from hvp_patching.paths.precision import DecomposedLayerNorm
from hvp_patching.paths.rows import bytes_of_logits, bytes_per_token
from hvp_patching.paths.run import BaseRun, check_met
from hvp_patching.prompts.pair import PromptPair, TokenPair, as_token_pair
from hvp_patching.sites import Hook, Site, get_site, n_layers

# Its hooks run before those of the pass; what it gives, a sequence of (name, hook) or None, after.
Context = Callable[[], AbstractContextManager[Any]]


@isolated()
def site_attribution(
    model: Any,
    pair: PromptPair | TokenPair,
    site: str = "attn_heads",
    direction: str = "noising",
    context: Context = nullcontext,
    *,
    positions: Positions = None,
    metric: AnyMetric = LOGPROB,
) -> torch.Tensor:
    """Gradient · δ of every component from a single reverse pass, float64 [n_components].

    Attribution patching, f'(0), when `context` leaves gradients alone (equation 1); `context` is
    entered around forward and backward, so modified-gradient baselines plug in there. positions:
    each of them has its own number, as in path_jets. In the metric's units. Errors as in path_jets.
    """
    where = get_site(site)
    run = base_run(model, as_token_pair(model, pair), where, direction, metric)
    zeros = [torch.zeros_like(delta) for delta in run.delta]
    gradients = hook_gradients(run, run.names, zeros, context=context)
    sums = component_sums(where, gradients, run.delta, run.start, resolve_positions(positions, run))
    return sums[0].cpu()


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
    added = adders(names, zeros)
    # `context` may replace functions that a metric of one's own calls: its gradient is taken before
    slope = None if run.metric.polynomial else _slope(run)
    with torch.enable_grad(), DecomposedLayerNorm(), context() as last:
        logits = run.logits([*added, *hooks, *(last or ())], run.prefix_copy())
        if slope is None:
            m = run.metric(logits)
            check_met(run, m.detach(), "a pass that changes gradients alone")
            return list(torch.autograd.grad(m.sum(), list(zeros), retain_graph=retain_graph))
        found = torch.autograd.grad(logits, list(zeros), slope, retain_graph=retain_graph)
    check_met(run, run.metric(logits.detach()), "a pass that changes gradients alone")
    return list(found)


def _slope(run: BaseRun) -> torch.Tensor:
    """∂m/∂logits of the unpatched run."""
    with torch.no_grad():
        logits = run.logits([], run.prefix_copy())
    logits = logits.detach().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(run.metric(logits).sum(), logits)
    return slope


def component_sums(
    site: Site,
    gradients: Sequence[torch.Tensor],
    directions: Sequence[torch.Tensor],
    start: int = 0,
    positions: Sequence[int] | None = None,
) -> torch.Tensor:
    """Σ gradient · direction within every component, float64 [n_rows, n_components].

    Both hold a tensor [n_rows or 1, n_suffix, ...] per layer; components in (layer, index) order.
    positions: each has a column of its own, within its component, and is counted over the prompt,
    where the suffix begins at `start` and all is 0 before.
    """
    columns = []
    for gradient, direction in zip(gradients, directions, strict=True):
        product = gradient.double() * direction.double()
        product = product.unsqueeze(1) if site.axis is None else product.movedim(site.axis, 1)
        if positions is None:
            columns.append(product.flatten(2).sum(-1))
            continue
        if product.ndim > 3:  # to [row, index, position]
            product = product.flatten(3).sum(-1)
        columns.append(F.pad(product, (start, 0))[..., list(positions)].flatten(1))
    return torch.cat(columns, dim=1)


def rows_per_reverse_pass(run: BaseRun, memory: int) -> int:
    """How many rows fit into `memory` bytes: reverse mode keeps the graphs of all layers."""
    blocks = 3 * n_layers(run.model) * run.suffix.shape[1] * bytes_per_token(run.model)
    in_float64 = 8 * int(run.model.cfg.d_vocab)
    return max(1, memory // (blocks + 2 * (bytes_of_logits(run) + 4 * in_float64)))


def adders(names: Sequence[str], zeros: Sequence[torch.Tensor]) -> list[tuple[str, Hook]]:
    """Hooks that add a tensor each to the activations of these names."""
    return [(name, _adder(zero)) for name, zero in zip(names, zeros, strict=True)]


def _adder(zero: torch.Tensor) -> Hook:
    def hook(activation: torch.Tensor, hook: object) -> torch.Tensor:
        return activation + zero

    return hook
