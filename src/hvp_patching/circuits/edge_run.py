"""One prompt pair on the graph of edges: what every writer changes, and what readers then see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from weakref import WeakSet

import torch

from hvp_patching.circuits.graph import INPUT_HOOK, EdgeGraph, Place
from hvp_patching.circuits.post_norm import check_norm, post_norm, write_changes
from hvp_patching.circuits.ungrouped import single_inputs
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

    run: the clean run, its model with the hooks of edges on; other: the corrupted run; delta: what
    every writer's corruption alone adds to the residual stream, [n_writers, n_suffix, d_model];
    changes: what that of the embedding, of the attention and the MLP of every layer adds, [2L + 1,
    n_suffix, d_model];
    corrupted: every writer's corrupted output, of heads before a norm that may follow (post_norm).
    """

    run: BaseRun
    other: BaseRun
    graph: EdgeGraph
    delta: torch.Tensor
    changes: torch.Tensor
    corrupted: torch.Tensor

    @cached_property
    def corrupted_value(self) -> float:
        """m of the corrupted run."""
        with torch.no_grad():
            return float(self.other.metric(self.other.logits([], self.other.prefix_copy())))

    @cached_property
    def flat_delta(self) -> torch.Tensor:
        """delta as float64 [n_writers, n_suffix · d_model], on the CPU."""
        return self.delta.flatten(1).double().cpu()

    def reader_delta(self, before: int) -> torch.Tensor:
        """corrupted − clean input of a reader behind `before` writers, [n_suffix, d_model]."""
        layer, heads = divmod(before - 1, self.graph.n_heads + 1)
        return self.changes[: 1 + 2 * layer + bool(heads)].sum(0)

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
    with single_inputs(model, False):  # which cost half of a pass more, and are not read here
        run = base_run(model, tokens, Hooks(writer_hooks(model, graph)), metric=metric)
    clean = dict(zip(run.names, run.base, strict=True))
    moved = {name: clean[name] + d for name, d in zip(run.names, run.delta, strict=True)}
    corrupted = writers_of(graph, moved)
    delta = corrupted - writers_of(graph, clean)
    changes = _add_norms(model, graph, delta, clean, moved)
    ids = torch.tensor([tokens.corrupted_ids], device=run.suffix.device)
    other = replace(run, suffix=ids[:, run.start :])
    found = EdgeRun(run, other, graph, delta[0], changes, corrupted[0])
    if model not in _PROVEN:
        prove_graph(found)
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


def writers_of(graph: EdgeGraph, outputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The writers' outputs, heads before any norm behind them, [batch, n_writers, n_suffix, d]."""
    columns = [outputs[INPUT_HOOK].unsqueeze(1)]
    for layer in range(graph.n_layers):
        block = f"blocks.{layer}."
        results = outputs[block + "attn.hook_result"].transpose(1, 2)
        columns += [results, outputs[block + "hook_mlp_out"].unsqueeze(1)]
    return torch.cat(columns, dim=1)


def _add_norms(
    model: Any,
    graph: EdgeGraph,
    delta: torch.Tensor,
    clean: dict[str, torch.Tensor],
    moved: dict[str, torch.Tensor],
) -> torch.Tensor:
    """Put the norms behind heads into their changes; returns those of whole layers."""
    parts = [delta[0, :1]]
    for layer in range(graph.n_layers):
        rows, block = graph.heads(layer), f"blocks.{layer}."
        attention = delta[0, rows].sum(0, keepdim=True)
        if post_norm(model, layer) is not None:
            total, write = clean[block + "attn.hook_result"].sum(2), block + "hook_attn_out"
            check_norm(model, layer, total, clean[write])
            attention = moved[write] - clean[write]
            delta[:, rows] = write_changes(model, layer, total, delta[:, rows])
        parts += [attention, delta[0, rows.stop : rows.stop + 1]]
    return torch.cat(parts)


def prove_graph(found: EdgeRun) -> None:
    """ValueError unless every reader's change is the sum of the changes of the writers before it.

    Shown once a model, at the readers' own hooks.
    """
    hooks = [place.hook for place in found.graph.places]
    clean = found.at(hooks)
    changed = replace(found, run=found.other).at(hooks)
    for place, a, b in zip(found.graph.places, clean.base, changed.base, strict=True):
        expected = found.reader_delta(place.before)
        seen = (b - a)[0]
        if place.per_head:
            seen = seen.movedim(1, 0)
        if seen.shape[-2:] != expected.shape or (place.per_head and len(seen) != _width(place)):
            raise ValueError(
                f"{spoken(place.hook)} of {architecture(found.run.model)} holds {list(a.shape)}, "
                f"which is not one input for each of {_width(place)} readers"
            )
        off = float((seen - expected).abs().max())
        scale = float(torch.maximum(a.abs().max(), b.abs().max()))
        if not off <= LOOSENED * tolerance(a.dtype) * scale:
            raise ValueError(
                f"what the writers before {spoken(place.hook)} of {architecture(found.run.model)} "
                f"change does not add up to what it sees (off by {off:.2g}): the residual stream "
                "is no plain sum there, and edges are not defined"
            )


def _width(place: Place) -> int:
    return int(place.columns.stop - place.columns.start)
