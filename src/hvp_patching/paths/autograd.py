"""Backend 'autograd': f and its derivatives by differentiating batched patched runs in t.

The reference and the fallback: one scalar t per row, as many reverse passes as the order. The
batch grows from one row to many at the hook; where a model has built masks or biases for one row by
then, its input is repeated from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import DynamicCache

from hvp_patching.failures import architecture, one_line, out_of_memory
from hvp_patching.paths.metric import derivatives
from hvp_patching.paths.patches import Patch
from hvp_patching.paths.precision import DecomposedLayerNorm
from hvp_patching.paths.rows import (
    Pass,
    Progress,
    Request,
    Row,
    by_hook,
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
from hvp_patching.sites import Hook, layer_of, n_layers

Grown = Callable[[str, int, Hook], torch.Tensor]  # (hook's name, n_rows, hook) -> their logits
Way = Callable[[BaseRun, str, int, Hook], torch.Tensor]
_WAYS: WeakKeyDictionary[Any, dict[tuple[str, bool], Way]] = WeakKeyDictionary()


def autograd_jets(
    run: BaseRun,
    patches: Sequence[Patch],
    request: Request,
    memory: int,
    progress: Progress = no_progress,
) -> torch.Tensor:
    """Jets [n_patches, n_nodes, max order + 1], NaN where the request asks for less.

    ValueError where the model's batch cannot grow, or a derivative is not finite.
    """
    grown = growing(run)
    passes = _passes(run, grown, patches, request, memory)
    values = gather(patches, request, passes, progress)
    _check_finite(run, patches, request, values)
    return values


def _passes(
    run: BaseRun, grown: Grown, patches: Sequence[Patch], request: Request, memory: int
) -> Iterator[Pass]:
    """Passes of one order and one hook each: reverse mode cannot add rows on the way."""
    for order in sorted(set(request.values())):
        group = [t for t, k in request.items() if k == order]
        for members in by_hook(make_rows(patches, group)).values():
            layer = members[0].patch.layer
            for chunk in chunks(members, rows_per_pass(run, layer, order, memory)):
                yield chunk, _pass(run, grown, chunk, order)


def rows_per_pass(run: BaseRun, layer: int, order: int, memory: int) -> int:
    """How many rows fit: reverse mode keeps the graphs of all layers after the site."""
    blocks = (n_layers(run.model) - layer) * 3 * max(1, order)
    per_row = blocks * run.suffix.shape[1] * bytes_per_token(run.model)
    in_float64 = 8 * int(run.model.cfg.d_vocab)
    return max(1, memory // (per_row + (order + 1) * (bytes_of_logits(run) + 4 * in_float64)))


def _pass(run: BaseRun, grown: Grown, rows: Sequence[Row], order: int) -> torch.Tensor:
    """One batch of patched runs at a single hook, differentiated: jets [n_rows, order + 1]."""
    hook = rows[0].patch.hook
    t = node_column(rows, run.base[run.names.index(hook)]).requires_grad_(order > 0)
    with torch.enable_grad(), DecomposedLayerNorm():
        logits = grown(hook, len(rows), _patch(run, rows, t))
        columns = derivatives(run.metric(logits), t, order)
    check_unmoved(run, rows, columns[0])
    return torch.stack([c.detach().double() for c in columns], dim=-1).cpu()


def check_unmoved(run: BaseRun, rows: Sequence[Row], f: torch.Tensor) -> None:
    """ValueError unless the rows at t = 0 have the unpatched run's own value."""
    unmoved = torch.tensor([row.node == 0.0 for row in rows])
    check_met(run, f.detach().cpu()[unmoved], "a batch of patched rows")


def _patch(run: BaseRun, rows: Sequence[Row], t: torch.Tensor) -> Hook:
    def hook(activation: torch.Tensor, hook: object) -> torch.Tensor:
        return activation + t * directions(rows, activation, run.start)

    return hook


def growing(run: BaseRun) -> Grown:
    """How the model's batch grows at each kind of hook, found by a pass of two unpatched rows.

    Asked once of every model, layer and kind of hook, with a prefix and without. Returns a function
    (hook's name, n_rows, hook) -> logits. It raises ValueError where no way gives the unpatched
    run's own value in every row.
    """
    ways = _WAYS.setdefault(run.model, {})

    def grown(name: str, n_rows: int, hook: Hook) -> torch.Tensor:
        key = (name, run.prefix is not None)
        if key not in ways:
            ways[key] = _way(run, name)
        return ways[key](run, name, n_rows, hook)

    return grown


def _way(run: BaseRun, name: str) -> Way:
    """The first way in which two unpatched rows come out right at the named hook."""
    failures = []
    for way in (_grown_after_hook, _grown_with_hook, _grown_at_block, _grown_from_start):
        try:
            with torch.no_grad(), DecomposedLayerNorm():
                f = run.metric(way(run, name, 2, _doubled))
            if len(f) == 2:
                check_met(run, f, "a batch of two rows")
                return way
            failures.append(f"{len(f)} rows of logits for 2 of activations")
        except Exception as error:
            if out_of_memory(error):
                raise
            failures.append(one_line(error))
    raise ValueError(
        f"{architecture(run.model)} cannot run several patched rows at {run.site.label}: "
        f"{failures[-1]}"
    )


def _grown_after_hook(run: BaseRun, name: str, n_rows: int, hook: Hook) -> torch.Tensor:
    """Layers before the hook run on one row, and so do the keys of its own layer."""
    return _grown_from(run, name, n_rows, hook, (layer_of(name) or 0) + 1)


def _grown_with_hook(run: BaseRun, name: str, n_rows: int, hook: Hook) -> torch.Tensor:
    """The keys of the hook's own layer come after it."""
    return _grown_from(run, name, n_rows, hook, layer_of(name) or 0)


def _grown_at_block(run: BaseRun, name: str, n_rows: int, hook: Hook) -> torch.Tensor:
    """The batch grows at the hook's block: attention has read its size by the time of the hook."""
    layer = layer_of(name) or 0

    def grow(activation: torch.Tensor, hook: object) -> torch.Tensor:
        return activation.expand(n_rows, *activation.shape[1:])

    entry = (f"blocks.{layer}.hook_resid_pre", grow)
    return _grown_from(run, name, n_rows, hook, layer, (entry,))


def _grown_from(
    run: BaseRun,
    name: str,
    n_rows: int,
    hook: Hook,
    first: int,
    before: Sequence[tuple[str, Hook]] = (),
) -> torch.Tensor:
    """Cached keys and values are repeated from layer `first` on; hooks `before` run first."""
    prefix = _expanded_from(run.prefix_copy(), first, n_rows)
    logits: torch.Tensor = run.logits([*before, (name, hook)], prefix)
    return logits


def _grown_from_start(run: BaseRun, name: str, n_rows: int, hook: Hook) -> torch.Tensor:
    """The input is repeated."""
    run = run.repeated(n_rows)
    logits: torch.Tensor = run.logits([(name, hook)], run.prefix)
    return logits


def _doubled(activation: torch.Tensor, hook: object) -> torch.Tensor:
    return activation.expand(2, *activation.shape[1:]).clone()


def _expanded_from(prefix: DynamicCache | None, first: int, rows: int) -> DynamicCache | None:
    """Repeat the cached keys and values from layer `first` on for every row."""
    if prefix is not None:
        cached: Any
        for cached in prefix.layers[first:]:
            cached.keys = cached.keys.expand(rows, *cached.keys.shape[1:])
            cached.values = cached.values.expand(rows, *cached.values.shape[1:])
    return prefix


def _check_finite(
    run: BaseRun, patches: Sequence[Patch], request: Request, values: torch.Tensor
) -> None:
    """ValueError that names the first derivative that is not finite."""
    for i, (node, order) in enumerate(request.items()):
        bad = (~values[:, i, : order + 1].isfinite()).nonzero()
        if len(bad):
            component, k = (int(x) for x in bad[0])
            raise ValueError(
                f"derivative {k} of component {patches[component].label} at node {node:g} of "
                f"{run.prompt} is {float(values[component, i, k])}; load the model in float64, or "
                "ask for a lower order"
            )
