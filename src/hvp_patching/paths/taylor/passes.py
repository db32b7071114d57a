"""Backend 'taylor': f and its derivatives by carrying Taylor coefficients through the model.

A hook at the site replaces the activation a by a + tδ + s·δ as a polynomial in s around every
node t; the rest of the bridge's own forward pass runs on TaylorTensors. Layers before the site
run once per pass on a single row, and rows of several layers and hooks share a pass: each joins at
its own hook.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from hvp_patching.failures import architecture, one_line, out_of_memory
from hvp_patching.paths.metric import MetricError, Readout, composed
from hvp_patching.paths.patches import Patch
from hvp_patching.paths.rows import (
    Pass,
    Progress,
    Request,
    Row,
    by_hook,
    bytes_of_cache,
    bytes_of_logits,
    bytes_per_token,
    chunks,
    directions,
    gather,
    make_rows,
    no_progress,
    node_column,
)
from hvp_patching.paths.run import BaseRun, check_met
from hvp_patching.paths.taylor.tensor import TaylorTensor, UnsupportedOperation
from hvp_patching.sites import Hook

# float64 logits handled at once in the metric: what a processor caches, or plenty on a GPU
CPU_BLOCK_BYTES, GPU_BLOCK_BYTES = 2**23, 2**30


def taylor_jets(
    run: BaseRun,
    patches: Sequence[Patch],
    request: Request,
    memory: int,
    progress: Progress = no_progress,
) -> torch.Tensor:
    """Jets [n_patches, n_nodes, max order + 1], NaN where the request asks for less.

    UnsupportedOperation where Taylor mode cannot carry what the model does, or does not find the
    unpatched run's value again.
    """
    return gather(patches, request, _passes(run, patches, request, memory), progress)


def _passes(
    run: BaseRun, patches: Sequence[Patch], request: Request, memory: int
) -> Iterator[Pass]:
    """Passes of one order each, over rows of all layers."""
    # At t = 0 the zeroth coefficient of every row is the unpatched run: it is carried once.
    for order, at_zero in sorted({(order, t == 0.0) for t, order in request.items()}):
        group = [t for t, k in request.items() if (k, t == 0.0) == (order, at_zero)]
        rows = make_rows(patches, group)
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
    with supported(run, "Taylor mode"):
        jets = metric_jets(logits(), run.metric)
        check_met(run, jets[:1, 0], "Taylor mode")
        check_finite(jets, "Taylor mode")
    return jets


def check_finite(jets: torch.Tensor, who: str) -> None:
    """UnsupportedOperation where a derivative is no number."""
    if not bool(jets.isfinite().all()):
        raise UnsupportedOperation(f"{who} gives derivatives that are not finite")


@contextmanager
def supported(run: BaseRun, who: str) -> Iterator[None]:
    """UnsupportedOperation for any failure but that of memory and of a metric of one's own."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UnsupportedOperation | MetricError) or out_of_memory(error):
            raise
        raise UnsupportedOperation(
            f"{who} cannot run {architecture(run.model)}: {one_line(error)}"
        ) from error


def logits_along(run: BaseRun, rows: Sequence[Row], order: int, shared: bool) -> TaylorTensor:
    """The last position's logits of `rows` as polynomials, [n_rows, 1, vocabulary].

    shared: all rows are at t = 0, where the zeroth coefficient is the unpatched run; otherwise
    that run itself comes first, as one row more.
    """
    logits, joined = logits_as_joined(run, rows, order, shared)
    return _in_order(logits, places(rows, joined), shared)


def logits_as_joined(
    run: BaseRun, rows: Sequence[Row], order: int, shared: bool
) -> tuple[TaylorTensor, list[Row]]:
    """The same in the order in which the rows joined, and that order."""
    joined: list[Row] = []  # in the order in which the model runs their hooks
    hooks = [
        (name, _inject(run, members, order, shared, joined))
        for name, members in by_hook(rows).items()
    ]
    with torch.no_grad():
        logits = run.logits(hooks, run.prefix_copy())
    if not isinstance(logits, TaylorTensor) or len(logits) != len(rows) + (not shared):
        raise UnsupportedOperation(f"Taylor mode lost its way through {architecture(run.model)}")
    if len(joined) != len(rows):
        raise UnsupportedOperation("Taylor mode finds a hook that did not run")
    return logits, joined


def places(rows: Sequence[Row], joined: Sequence[Row]) -> list[int]:
    """Where each of `rows` is among those that joined."""
    found = {id(row): place for place, row in enumerate(joined)}
    return [found[id(row)] for row in rows]


def _in_order(logits: TaylorTensor, order: Sequence[int], shared: bool) -> TaylorTensor:
    """Rows in the order of the request instead of that in which they joined."""
    if list(order) == sorted(order):
        return logits
    if shared:
        return TaylorTensor(logits.c0, logits.higher[:, order], len(order))
    order = [0, *(place + 1 for place in order)]
    return TaylorTensor(logits.c0[order], logits.higher[:, order], len(order))


def metric_jets(logits: TaylorTensor, metric: Readout) -> torch.Tensor:
    """Derivatives of m for every row of logits, float64 [n_rows, order + 1], on the CPU."""
    with torch.no_grad():
        coefficients = _metric(logits, metric)
    factorials = [math.factorial(k) for k in range(logits.order + 1)]
    return coefficients.cpu() * torch.tensor(factorials, dtype=coefficients.dtype)


def blocks(logits: TaylorTensor) -> Sequence[torch.Tensor]:
    """The higher coefficients in blocks of rows, since float64 copies would leave the cache."""
    block = CPU_BLOCK_BYTES if logits.device.type == "cpu" else GPU_BLOCK_BYTES
    size = max(1, block // (8 * logits.shape[-1] * (logits.order + 1)))
    return logits.higher.split(size, dim=1)


def _metric(logits: TaylorTensor, metric: Readout) -> torch.Tensor:
    """Taylor coefficients of m for every row, [n_rows, order + 1]."""
    parts, start = [], 0
    for higher in blocks(logits):
        c0 = logits.c0 if logits.shared else logits.c0[start : start + higher.shape[1]]
        start += higher.shape[1]
        if not metric.polynomial:
            parts.append(composed(metric, c0, higher).T)
            continue
        m = metric(TaylorTensor(c0, higher, higher.shape[1]))
        parts.append(torch.cat([m.c0.expand(1, higher.shape[1]), m.higher]))
    return torch.cat(parts, dim=1).T


def _inject(run: BaseRun, rows: Sequence[Row], order: int, shared: bool, joined: list[Row]) -> Hook:
    """A hook that appends `rows` to those already on their way (row 0 is the unpatched run).

    joined: the rows that joined the pass before, here or at a hook beside, as at queries and keys;
    the latter are the unpatched run here.
    """

    def hook(activation: Any, hook: Any) -> TaylorTensor:
        base = activation.c0 if isinstance(activation, TaylorTensor) else activation
        if len(activation) != getattr(activation, "rows", 1):
            raise UnsupportedOperation("Taylor mode finds rows at the site that it did not add")
        direction = directions(rows, base[:1], run.start)
        higher = direction.new_zeros(order, *direction.shape)
        if order:
            higher[0] = direction
        on_the_way = len(joined) + (not shared)
        before = activation.higher if isinstance(activation, TaylorTensor) else higher[:, :0]
        if before.shape[1] < on_the_way:
            beside = before.new_zeros(order, on_the_way - before.shape[1], *before.shape[2:])
            before = torch.cat([before, beside], dim=1)
        if not shared:
            patched = base[:1] + node_column(rows, direction) * direction
            unpatched = base[:1].expand(on_the_way - len(base), *base.shape[1:])
            base = torch.cat([base, unpatched, patched])
        joined.extend(rows)
        higher = torch.cat([before, higher], dim=1)
        return TaylorTensor(base, higher, higher.shape[1])

    return hook
