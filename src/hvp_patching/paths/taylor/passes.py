"""Backend 'taylor': f and its derivatives by carrying Taylor coefficients through the model.

A hook at the site replaces the activation a by a + tδ + s·δ as a polynomial in s around every
node t; the rest of the bridge's own forward pass runs on TaylorTensors. Layers before the site
run once per pass on a single row, and rows of several layers share a pass: each joins at its
own layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from hvp_patching.failures import architecture, one_line, out_of_memory
from hvp_patching.paths.rows import (
    Pass,
    Progress,
    Request,
    Row,
    by_layer,
    bytes_of_cache,
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
from hvp_patching.paths.taylor.tensor import TaylorTensor, UnsupportedOperation
from hvp_patching.sites import Component, Hook

# float64 logits handled at once in the metric: what a processor caches, or plenty on a GPU
CPU_BLOCK_BYTES, GPU_BLOCK_BYTES = 2**23, 2**30


def taylor_jets(
    run: BaseRun,
    components: Sequence[Component],
    request: Request,
    memory: int,
    progress: Progress = no_progress,
) -> torch.Tensor:
    """Jets [n_components, n_nodes, max order + 1], NaN where the request asks for less.

    UnsupportedOperation where Taylor mode cannot carry what the model does, or does not find the
    unpatched run's value again.
    """
    return gather(components, request, _passes(run, components, request, memory), progress)


def _passes(
    run: BaseRun, components: Sequence[Component], request: Request, memory: int
) -> Iterator[Pass]:
    """Passes of one order each, over rows of all layers."""
    # At t = 0 the zeroth coefficient of every row is the unpatched run: it is carried once.
    for order, at_zero in sorted({(order, t == 0.0) for t, order in request.items()}):
        group = [t for t, k in request.items() if (k, t == 0.0) == (order, at_zero)]
        rows = make_rows(components, group)
        for chunk in chunks(rows, rows_per_pass(run, order, memory)):
            yield chunk, _pass(run, chunk, order, at_zero)


def rows_per_pass(run: BaseRun, order: int, memory: int) -> int:
    """How many rows fit into `memory` bytes: a block's activations, the cache, logits twice."""
    activations = run.suffix.shape[1] * bytes_per_token(run.model)
    per_coefficient = activations + bytes_of_cache(run) + 2 * bytes_of_logits(run)
    return max(1, memory // (per_coefficient * (order + 1)))


def _pass(run: BaseRun, rows: Sequence[Row], order: int, shared: bool) -> torch.Tensor:
    """One forward pass over `rows`: jets [n_rows, order + 1]."""
    jets = proven_jets(run, lambda: logits_along(run, rows, order, shared))
    return jets if shared else jets[1:]


def proven_jets(run: BaseRun, logits: Callable[[], TaylorTensor]) -> torch.Tensor:
    """Jets of the logits that a pass computes, whose row 0 has the unpatched run's own value.

    UnsupportedOperation for any failure but that of memory.
    """
    try:
        jets = metric_jets(logits(), run.target_ids)
        check_met(run, jets[:1, 0], "Taylor mode")
        if not bool(jets.isfinite().all()):
            raise UnsupportedOperation("Taylor mode gives derivatives that are not finite")
    except Exception as error:
        if isinstance(error, UnsupportedOperation) or out_of_memory(error):
            raise
        raise UnsupportedOperation(
            f"Taylor mode cannot run {architecture(run.model)}: {one_line(error)}"
        ) from error
    return jets


def logits_along(run: BaseRun, rows: Sequence[Row], order: int, shared: bool) -> TaylorTensor:
    """The last position's logits of `rows` as polynomials, [n_rows, 1, vocabulary].

    shared: all rows are at t = 0, where the zeroth coefficient is the unpatched run; otherwise
    that run itself comes first, as one row more.
    """
    hooks = [
        (run.site.hook_name(layer), _inject(run, members, order, shared))
        for layer, members in by_layer(rows).items()
    ]
    with torch.no_grad():
        logits = run.logits(hooks, run.prefix_copy())
    if not isinstance(logits, TaylorTensor) or len(logits) != len(rows) + (not shared):
        raise UnsupportedOperation(f"Taylor mode lost its way through {architecture(run.model)}")
    return logits


def metric_jets(logits: TaylorTensor, target_ids: torch.Tensor) -> torch.Tensor:
    """Derivatives of m for every row of logits, float64 [n_rows, order + 1], on the CPU."""
    with torch.no_grad():
        coefficients = _metric(logits, target_ids)
    factorials = [math.factorial(k) for k in range(logits.order + 1)]
    return coefficients.cpu() * torch.tensor(factorials, dtype=coefficients.dtype)


def _metric(logits: TaylorTensor, target_ids: torch.Tensor) -> torch.Tensor:
    """Taylor coefficients of m for every row, [n_rows, order + 1].

    In blocks of rows, since the float64 copies of large vocabularies would leave the cache.
    """
    block = CPU_BLOCK_BYTES if logits.device.type == "cpu" else GPU_BLOCK_BYTES
    size = max(1, block // (8 * logits.shape[-1] * (logits.order + 1)))
    parts = []
    for start in range(0, logits.rows, size):
        higher = logits.higher[:, start : start + size]
        c0 = logits.c0 if logits.shared else logits.c0[start : start + size]
        m = log_probability(TaylorTensor(c0, higher, higher.shape[1]), target_ids)
        parts.append(torch.cat([m.c0.expand(1, higher.shape[1]), m.higher]))
    return torch.cat(parts, dim=1).T


def _inject(run: BaseRun, rows: Sequence[Row], order: int, shared: bool) -> Hook:
    """A hook that appends `rows` to those already on their way (row 0 is the unpatched run)."""

    def hook(activation: Any, hook: Any) -> TaylorTensor:
        base = activation.c0 if isinstance(activation, TaylorTensor) else activation
        if len(activation) != getattr(activation, "rows", 1):
            raise UnsupportedOperation("Taylor mode finds rows at the site that it did not add")
        direction = directions_from(run, rows, base[:1])
        higher = direction.new_zeros(order, *direction.shape)
        if order:
            higher[0] = direction
        if isinstance(activation, TaylorTensor):
            before = activation.higher
        else:
            before = higher.new_zeros(order, 0 if shared else 1, *higher.shape[2:])
        joined = torch.cat([before, higher], dim=1)
        if not shared:
            patched = base[:1] + node_column(rows, direction) * direction
            base = torch.cat([base, patched])
        return TaylorTensor(base, joined, joined.shape[1])

    return hook
