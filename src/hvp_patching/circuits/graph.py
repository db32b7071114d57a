"""The graph of edges: who writes into the residual stream, and who reads it (section 4.4).

Writers are the embedding (`input`), every head's output (`a3.h5`) and every MLP's (`m3`); readers
the query, key and value input of every head (`a3.h5<q>`), every MLP's input (`m3`) and the final
residual stream (`logits`). An edge leads from a writer to every reader behind it; positions are
summed over. Keys and values are counted once a query head, as the circuit benchmark does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from hvp_patching.sites import n_layers

KINDS = ("q", "k", "v")
ARROW = "->"
INPUT, LOGITS = "input", "logits"
INPUT_HOOK = "blocks.0.hook_resid_pre"


@dataclass(frozen=True)
class Place:
    """Where readers of one hook lie: their columns, and how many writers come before them.

    per_head: whether the hook holds one input a head, [batch, position, head, d_model].
    """

    hook: str
    columns: slice
    before: int
    per_head: bool


@dataclass(frozen=True)
class EdgeGraph:
    """All edges of a transformer with `n_heads` query heads in each of `n_layers` layers.

    parallel: attention and MLP of a layer read the same residual stream (Pythia), so that no head
    is before its own layer's MLP.
    """

    n_layers: int
    n_heads: int
    parallel: bool = False

    @cached_property
    def writers(self) -> tuple[str, ...]:
        """Names of the writers, in their order: rows of every matrix of scores."""
        names = [INPUT]
        for layer in range(self.n_layers):
            names += [f"a{layer}.h{head}" for head in range(self.n_heads)] + [f"m{layer}"]
        return tuple(names)

    @cached_property
    def readers(self) -> tuple[str, ...]:
        """Names of the readers: columns. In a layer all queries, keys, values, then the MLP."""
        names = []
        for layer in range(self.n_layers):
            heads = [f"a{layer}.h{head}" for head in range(self.n_heads)]
            names += [f"{head}<{kind}>" for kind in KINDS for head in heads] + [f"m{layer}"]
        return (*names, LOGITS)

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """The readers' hooks, in the order of their columns."""
        found, heads, column = [], self.n_heads, 0
        for layer in range(self.n_layers):
            before = 1 + layer * (heads + 1)
            for kind in KINDS:
                hook = f"blocks.{layer}.attn.hook_{kind}_input"
                found.append(Place(hook, slice(column, column + heads), before, True))
                column += heads
            behind = before if self.parallel else before + heads
            hook = f"blocks.{layer}.hook_mlp_in"
            found.append(Place(hook, slice(column, column + 1), behind, False))
            column += 1
        last = f"blocks.{self.n_layers - 1}.hook_resid_post"
        found.append(Place(last, slice(column, column + 1), len(self.writers), False))
        return tuple(found)

    @cached_property
    def mask(self) -> torch.Tensor:
        """Which edges there are, bool [n_writers, n_readers]."""
        mask = torch.zeros(len(self.writers), len(self.readers), dtype=torch.bool)
        for place in self.places:
            mask[: place.before, place.columns] = True
        return mask

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return sum(p.before * (p.columns.stop - p.columns.start) for p in self.places)

    @cached_property
    def node_of_reader(self) -> torch.Tensor:
        """The node that a reader belongs to, by its writer's row; n_writers for the logits."""
        rows = {name: row for row, name in enumerate((*self.writers, LOGITS))}
        return torch.tensor([rows[name.partition("<")[0]] for name in self.readers])

    def heads(self, layer: int) -> slice:
        """Rows of a layer's heads; the row behind them is its MLP."""
        first = 1 + layer * (self.n_heads + 1)
        return slice(first, first + self.n_heads)

    def place(self, column: int) -> tuple[str, tuple[int, ...], int]:
        """Hook of a reader, its part of the activation behind the position, and its layer."""
        number = next(i for i, p in enumerate(self.places) if column < p.columns.stop)
        found = self.places[number]
        part = (column - found.columns.start,) if found.per_head else ()
        return found.hook, part, min(number // (len(KINDS) + 1), self.n_layers - 1)

    def select(self, edges: Any) -> torch.Tensor:
        """The mask of some edges, bool [n_writers, n_readers]; all where `edges` is None.

        edges: (writer, reader) names, texts such as 'input->m0', a table with columns writer and
        reader, or a mask. ValueError names what is no edge of this graph, or stands twice.
        """
        if edges is None:
            return self.mask.clone()
        if isinstance(edges, torch.Tensor):
            return self._checked_mask(edges)
        if hasattr(edges, "itertuples"):
            if not {"writer", "reader"} <= set(edges.columns):
                raise ValueError("a table of edges has the columns writer and reader")
            edges = edges[["writer", "reader"]].itertuples(index=False)
        chosen = torch.zeros_like(self.mask)
        for row, column in self._resolved(edges):
            if chosen[row, column]:
                raise ValueError(
                    f"edge {self.writers[row]}{ARROW}{self.readers[column]} is asked for twice"
                )
            chosen[row, column] = True
        if not bool(chosen.any()):
            raise ValueError("no edges asked for; give at least one, or None for all")
        return chosen

    def _checked_mask(self, mask: torch.Tensor) -> torch.Tensor:
        if mask.dtype != torch.bool or mask.shape != self.mask.shape:
            raise ValueError(
                f"a mask of edges is bool {list(self.mask.shape)} here, not {mask.dtype} "
                f"{list(mask.shape)}; is it another model's?"
            )
        chosen = mask.detach().cpu()
        if bool((chosen & ~self.mask).any()):
            row, column = (chosen & ~self.mask).nonzero()[0].tolist()
            raise ValueError(self._no_edge(self.writers[row], self.readers[column]))
        if not bool(chosen.any()):
            raise ValueError("the mask of edges is empty; ask for at least one edge")
        return chosen.clone()

    def _resolved(self, edges: Iterable[Any]) -> Iterable[tuple[int, int]]:
        rows = {name: row for row, name in enumerate(self.writers)}
        columns = {name: column for column, name in enumerate(self.readers)}
        listed = [edges] if isinstance(edges, str) else edges
        for edge in listed:
            ends = edge.split(ARROW) if isinstance(edge, str) else edge
            try:
                writer, reader = ends
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"an edge is a (writer, reader) pair or 'input{ARROW}m0', not {edge!r}"
                ) from error
            row, column = rows.get(writer), columns.get(reader)
            if row is None or column is None or not self.mask[row, column]:
                raise ValueError(self._no_edge(writer, reader))
            yield row, column

    def _no_edge(self, writer: Any, reader: Any) -> str:
        for name, known, what in (
            (writer, self.writers, "writer"),
            (reader, self.readers, "reader"),
        ):
            if name not in known:
                return f"unknown {what} '{name}'; this model's are {known[0]} to {known[-1]}"
        return f"there is no edge {writer}{ARROW}{reader}: {reader} is not behind {writer}"


def graph_of(model: Any) -> EdgeGraph:
    """The graph of a TransformerBridge, from its configuration."""
    cfg = model.cfg
    return EdgeGraph(n_layers(model), int(cfg.n_heads), bool(getattr(cfg, "parallel_attn_mlp", 0)))
