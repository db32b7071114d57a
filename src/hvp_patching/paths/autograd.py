"""Backend 'autograd': f and its derivatives by differentiating batched patched runs in t.

The reference and the fallback: one scalar t per row, as many reverse passes as the order. The
batch grows from one row to many at the hook; where a model has built masks or biases for one row by
then, its input is repeated from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from transformers import DynamicCache

from hvp_patching.failures import architecture, one_line, out_of_memory
from hvp_patching.paths.precision import DecomposedLayerNorm
from hvp_patching.paths.rows import (
    Pass,
    Progress,
    Request,
    Row,
    by_layer,
    bytes_of_logits,
    bytes_per_token,
    chunks,
    directions_from,
    gather,
    make_rows,
    no_progress,
    node_column,
)
from hvp_patching.paths.run import BaseRun, check_met, log_probability
from hvp_patching.sites import Component, Hook, n_layers

Grown = Callable[[int, int, Hook], torch.Tensor]  # (layer, n_rows, hook) -> their logits


def autograd_jets(
    run: BaseRun,
    components: Sequence[Component],
    request: Request,
    memory: int,
    progress: Progress = no_progress,
) -> torch.Tensor:
    """Jets [n_components, n_nodes, max order + 1], NaN where the request asks for less.

    ValueError where the model's batch cannot grow, or a derivative is not finite.
    """
    grown = growing(run, components[0][0])
    passes = _passes(run, grown, components, request, memory)
    values = gather(components, request, passes, progress)
    _check_finite(run, components, request, values)
    return values


def _passes(
    run: BaseRun, grown: Grown, components: Sequence[Component], request: Request, memory: int
) -> Iterator[Pass]:
    """Passes of one order and one layer each: reverse mode cannot add rows on the way."""
    for order in sorted(set(request.values())):
        group = [t for t, k in request.items() if k == order]
        for layer, members in by_layer(make_rows(components, group)).items():
            for chunk in chunks(members, rows_per_pass(run, layer, order, memory)):
                yield chunk, _pass(run, grown, chunk, order)


def rows_per_pass(run: BaseRun, layer: int, order: int, memory: int) -> int:
    """How many rows fit: reverse mode keeps the graphs of all layers after the site."""
    blocks = (n_layers(run.model) - layer) * 3 * max(1, order)
    per_row = blocks * run.suffix.shape[1] * bytes_per_token(run.model)
    in_float64 = 8 * int(run.model.cfg.d_vocab)
    return max(1, memory // (per_row + (order + 1) * (bytes_of_logits(run) + 4 * in_float64)))


def _pass(run: BaseRun, grown: Grown, rows: Sequence[Row], order: int) -> torch.Tensor:
    """One batch of patched runs at a single layer, differentiated: jets [n_rows, order + 1]."""
    layer = rows[0].layer
    t = node_column(rows, run.delta[layer]).requires_grad_(order > 0)
    with torch.enable_grad(), DecomposedLayerNorm():
        logits = grown(layer, len(rows), _patch(run, rows, t))
        derivative = log_probability(logits, run.target_ids)
        columns = [derivative]
        for k in range(1, order + 1):
            (grad,) = torch.autograd.grad(derivative.sum(), t, create_graph=k < order)
            derivative = grad.flatten()
            columns.append(derivative)
    return torch.stack([c.detach().double() for c in columns], dim=-1).cpu()


def _patch(run: BaseRun, rows: Sequence[Row], t: torch.Tensor) -> Hook:
    def hook(activation: torch.Tensor, hook: object) -> torch.Tensor:
        return activation + t * directions_from(run, rows, activation)

    return hook


def growing(run: BaseRun, layer: int) -> Grown:
    """How the model's batch grows, found and proven by a pass of two unpatched rows at `layer`.

    Returns a function (layer, n_rows, hook) -> logits. ValueError where neither way gives the
    unpatched run's own value in every row.
    """
    failures = []
    for grown in (_grown_at_hook, _grown_from_start):
        try:
            with torch.no_grad(), DecomposedLayerNorm():
                logits = grown(run, layer, 2, _doubled)
            f = log_probability(logits, run.target_ids)
            if len(f) == 2:
                check_met(run, f, "a batch of two rows")
                return partial(grown, run)
            failures.append(f"{len(f)} rows of logits for 2 of activations")
        except Exception as error:
            if out_of_memory(error):
                raise
            failures.append(one_line(error))
    raise ValueError(
        f"{architecture(run.model)} cannot run several patched rows at site '{run.site.name}': "
        f"{failures[-1]}"
    )


def _grown_at_hook(run: BaseRun, layer: int, n_rows: int, hook: Hook) -> torch.Tensor:
    """Layers before the hook run on one row."""
    prefix = _expanded_after(run.prefix_copy(), layer, n_rows)
    logits: torch.Tensor = run.logits([(run.site.hook_name(layer), hook)], prefix)
    return logits


def _grown_from_start(run: BaseRun, layer: int, n_rows: int, hook: Hook) -> torch.Tensor:
    """The input is repeated."""
    run = run.repeated(n_rows)
    logits: torch.Tensor = run.logits([(run.site.hook_name(layer), hook)], run.prefix)
    return logits


def _doubled(activation: torch.Tensor, hook: object) -> torch.Tensor:
    return activation.expand(2, *activation.shape[1:]).clone()


def _expanded_after(prefix: DynamicCache | None, layer: int, rows: int) -> DynamicCache | None:
    """Repeat the cached keys and values of the layers after `layer` for every row."""
    if prefix is not None:
        cached: Any
        for cached in prefix.layers[layer + 1 :]:
            cached.keys = cached.keys.expand(rows, *cached.keys.shape[1:])
            cached.values = cached.values.expand(rows, *cached.values.shape[1:])
    return prefix


def _check_finite(
    run: BaseRun, components: Sequence[Component], request: Request, values: torch.Tensor
) -> None:
    """ValueError that names the first derivative that is not finite."""
    for i, (node, order) in enumerate(request.items()):
        bad = (~values[:, i, : order + 1].isfinite()).nonzero()
        if len(bad):
            component, k = (int(x) for x in bad[0])
            raise ValueError(
                f"derivative {k} of component {components[component]} at node {node:g} of "
                f"{run.prompt} is {float(values[component, i, k])}; load the model in float64, or "
                "ask for a lower order"
            )
