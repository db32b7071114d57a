"""One prompt pair on the graph of edges: what every writer changes, and what readers then see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakSet

import torch

from hvp_patching.circuits.graph import INPUT_HOOK, EdgeGraph
from hvp_patching.failures import architecture
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.metric import AnyMetric
from hvp_patching.paths.patches import Patch
from hvp_patching.paths.precision import keep_precision, tolerance
from hvp_patching.paths.run import BaseRun, cache_options
from hvp_patching.prompts.pair import ZERO_CORRUPTION, TokenPair, label
from hvp_patching.sites import Hooks, record, spoken

LOOSENED = 100  # sums over hundreds of writers round more than one activation does
_PROVEN: WeakSet[Any] = WeakSet()


@dataclass(frozen=True)
class EdgeRun:
    """The clean run of one pair, cut at the first changed token, and every writer's change.

    run: the clean run, its model with the hooks of edges on; delta: corrupted − clean output of
    every writer, [n_writers, n_suffix, d_model]; corrupted: the output itself; corrupted_value: m
    of the corrupted run.
    """

    run: BaseRun
    graph: EdgeGraph
    delta: torch.Tensor
    corrupted: torch.Tensor
    corrupted_value: float

    def reader_delta(self, before: int) -> torch.Tensor:
        """corrupted − clean input of a reader behind `before` writers, [n_suffix, d_model]."""
        return self.delta[:before].sum(0)

    def patches(self, edges: Sequence[tuple[int, int]]) -> list[Patch]:
        """Every edge as a path: its writer's change, added to its reader's input alone."""
        found = []
        for number, (row, column) in enumerate(edges):
            hook, part, layer = self.graph.place(column)
            found.append(Patch(hook, layer, self.delta[row], part, number))
        return found

    def at(self, hooks: Sequence[str]) -> BaseRun:
        """The same run, recorded at other hooks; its δ there is left 0."""
        run = self.run
        with torch.no_grad(), keep_precision(run.model.cfg.dtype):
            options = cache_options(run.prefix_copy())
            found, _ = record(run.model, run.suffix, Hooks(tuple(hooks)), **options)
        zeros = tuple(torch.zeros_like(activation) for activation in found)
        return replace(run, site=Hooks(tuple(hooks)), base=tuple(found), delta=zeros)


def edge_run(model: Any, tokens: TokenPair, graph: EdgeGraph, metric: AnyMetric) -> EdgeRun:
    """Both runs of one pair, on a model from `edge_model` (section 4.4).

    ValueError as in base_run, under zero corruption, and where the writers' changes do not add up
    to what the readers see: then the graph is not this model's.
    """
    if tokens.corruption == ZERO_CORRUPTION:
        raise ValueError(
            f"{label(tokens)}: zero corruption has no corrupted run whose edges could be patched; "
            "give a corrupted prompt"
        )
    run = base_run(model, tokens, Hooks(writer_hooks(model, graph)), metric=metric)
    clean = writers_of(model, graph, dict(zip(run.names, run.base, strict=True)))
    moved = [b + d for b, d in zip(run.base, run.delta, strict=True)]
    corrupted = writers_of(model, graph, dict(zip(run.names, moved, strict=True)))
    ids = torch.tensor([tokens.corrupted_ids], device=run.suffix.device)
    other = replace(run, suffix=ids[:, run.start :])
    with torch.no_grad():
        value = float(other.metric(other.logits([], other.prefix_copy())))
    found = EdgeRun(run, graph, (corrupted - clean)[0], corrupted[0], value)
    if model not in _PROVEN:
        prove_graph(found, other)
        _PROVEN.add(model)
    return found


def writer_hooks(model: Any, graph: EdgeGraph) -> tuple[str, ...]:
    """The hooks that hold the writers' outputs, and what a norm after attention makes of them."""
    found = [INPUT_HOOK]
    for layer in range(graph.n_layers):
        block = f"blocks.{layer}."
        found.append(block + "attn.hook_result")
        found += [block + "hook_attn_out"] * (post_norm(model, layer) is not None)
        found.append(block + "hook_mlp_out")
    return tuple(found)


def writers_of(model: Any, graph: EdgeGraph, outputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """What every writer adds to the residual stream, [batch, n_writers, n_suffix, d_model]."""
    columns = [outputs[INPUT_HOOK].unsqueeze(1)]
    for layer in range(graph.n_layers):
        block = f"blocks.{layer}."
        results = outputs[block + "attn.hook_result"]
        if post_norm(model, layer) is not None:
            results = shares(model, layer, results, outputs[block + "hook_attn_out"])
        columns += [results.transpose(1, 2), outputs[block + "hook_mlp_out"].unsqueeze(1)]
    return torch.cat(columns, dim=1)


def post_norm(model: Any, layer: int) -> Any:
    """The norm between a layer's attention and the residual stream (Gemma), or None."""
    return getattr(model.blocks[layer], "ln1_post", None)


def shares(model: Any, layer: int, results: torch.Tensor, write: torch.Tensor) -> torch.Tensor:
    """Each head's share of what attention writes behind an RMS norm, [batch, n_suffix, heads, d].

    results: the heads' outputs before the norm, [batch, n_suffix, heads, d]; write: after it. The
    norm divides the *sum* of the heads; with its scale held at this run's own value it is linear,
    and the shares add up to the write exactly. ValueError where the norm is no scale.
    """
    total = results.sum(2)
    with keep_precision(total.dtype):
        weight = post_norm(model, layer).original_component(torch.ones_like(total[:1, :1]))
    along = total * weight
    size = along.square().sum(-1, keepdim=True)
    scale = (write * along).sum(-1, keepdim=True) / size.clamp(min=torch.finfo(size.dtype).tiny)
    off = (write - scale * along).abs().max()
    if not bool(off <= LOOSENED * tolerance(write.dtype) * write.abs().max()):
        raise ValueError(
            f"the norm behind attention in layer {layer} of {architecture(model)} is no scale of "
            "the heads' sum, so that heads have no share in what it writes"
        )
    return results * (scale * weight).unsqueeze(2)


def prove_graph(found: EdgeRun, other: BaseRun) -> None:
    """ValueError unless every reader's change is the sum of the changes of the writers before it.

    other: the corrupted run. Shown once a model, at the readers' own hooks.
    """
    hooks = [place.hook for place in found.graph.places]
    clean = found.at(hooks)
    changed = replace(found, run=other).at(hooks)
    for place, a, b in zip(found.graph.places, clean.base, changed.base, strict=True):
        expected = found.reader_delta(place.before)
        seen = (b - a)[0]
        if place.per_head:
            seen = seen.movedim(1, 0)
        if seen.shape[-2:] != expected.shape or (place.per_head and len(seen) != _width(place)):
            raise ValueError(
                f"{spoken(place.hook)} of {architecture(other.model)} holds {list(a.shape)}, which "
                f"is not one input for each of {_width(place)} readers"
            )
        off = float((seen - expected).abs().max())
        scale = float(torch.maximum(a.abs().max(), b.abs().max()))
        if not off <= LOOSENED * tolerance(a.dtype) * scale:
            raise ValueError(
                f"what the writers before {spoken(place.hook)} of {architecture(other.model)} "
                f"change does not add up to what it sees (off by {off:.2g}): the residual stream "
                "is no plain sum there, and edges are not defined"
            )


def _width(place: Any) -> int:
    return int(place.columns.stop - place.columns.start)
