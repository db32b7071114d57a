"""Backend 'taylor': f and its derivatives by carrying Taylor coefficients through the model.

A hook at the site replaces the activation a by a + tδ + s·δ as a polynomial in s around every
node t; the rest of the bridge's own forward pass runs on TaylorTensors. Layers before the site
run once per pass on a single row, and rows of several layers share a pass: each joins at its
own layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

import hvp_patching.paths.taylor_rules  # noqa: F401  (registers the rules)
from hvp_patching.paths.base_run import BaseRun, Hook, log_probability
from hvp_patching.paths.rows import (
    Progress,
    Request,
    Row,
    by_layer,
    bytes_of_logits,
    bytes_per_token,
    chunks,
    directions,
    make_rows,
    no_progress,
    node_column,
)
from hvp_patching.paths.taylor_tensor import TaylorTensor
from hvp_patching.sites import Component


def taylor_jets(
    run: BaseRun,
    components: Sequence[Component],
    request: Request,
    memory: int,
    progress: Progress = no_progress,
) -> torch.Tensor:
    """Jets [n_components, n_nodes, max order + 1], NaN where the request asks for less."""
    nodes = list(request)
    width = max(request.values()) + 1
    values = torch.full((len(components), len(nodes), width), torch.nan, dtype=torch.float64)
    for order, at_zero in sorted({(request[t], _shares_base(t, request)) for t in nodes}):
        group = [t for t in nodes if (request[t], _shares_base(t, request)) == (order, at_zero)]
        rows = make_rows(components, group)
        for chunk in chunks(rows, rows_per_pass(run, order, memory)):
            block = _pass(run, chunk, order, at_zero)
            for row, jet in zip(chunk, block, strict=True):
                values[row.component, nodes.index(row.node), : order + 1] = jet
            progress(len(chunk) / (len(components) * len(nodes)))
    return values


def _shares_base(node: float, request: Request) -> bool:
    """At t = 0 every row's zeroth coefficient is the unpatched run: it is carried once."""
    return node == 0.0 and request[node] > 0


def rows_per_pass(run: BaseRun, order: int, memory: int) -> int:
    """How many rows fit into `memory` bytes."""
    per_row = run.suffix.shape[1] * bytes_per_token(run.model) + bytes_of_logits(run)
    return max(1, memory // (per_row * (order + 1)))


def _pass(run: BaseRun, rows: Sequence[Row], order: int, shared: bool) -> torch.Tensor:
    """One forward pass over `rows`: jets [n_rows, order + 1]."""
    hooks = [
        (run.site.hook_name(layer), _inject(run, members, order, shared))
        for layer, members in by_layer(rows).items()
    ]
    with torch.no_grad():
        logits = run.logits(hooks, run.prefix_copy())
        m = log_probability(logits, run.target_ids)
    f = m.c0.expand(len(rows)) if shared else m.c0[1:]
    derivatives = m.higher if shared else m.higher[:, 1:]
    columns = [f, *(math.factorial(k + 1) * c for k, c in enumerate(derivatives))]
    return torch.stack(columns, dim=-1).cpu()


def _inject(run: BaseRun, rows: Sequence[Row], order: int, shared: bool) -> Hook:
    """A hook that appends `rows` to those already on their way (row 0 is the unpatched run)."""
    delta = run.delta[rows[0].layer]

    def hook(activation: Any, hook: Any) -> TaylorTensor:
        direction = directions(rows, delta, run.site)
        higher = direction.new_zeros(order, *direction.shape)
        if order:
            higher[0] = direction
        if isinstance(activation, TaylorTensor):
            base, before = activation.c0, activation.higher
        else:
            base = activation
            before = higher.new_zeros(order, 0 if shared else 1, *higher.shape[2:])
        joined = torch.cat([before, higher], dim=1)
        if not shared:
            patched = base[:1] + node_column(rows, direction) * direction
            base = torch.cat([base, patched])
        return TaylorTensor(base, joined, joined.shape[1])

    return hook
