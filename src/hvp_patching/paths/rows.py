"""Rows: which (component, node) pairs a pass computes, and how many fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import torch

from hvp_patching.paths.run import BaseRun
from hvp_patching.sites import Component, Site

Request = Mapping[float, int]  # node -> highest derivative wanted there
Progress = Callable[[float], Any]  # called with the fraction of the rows that a pass has done
DEFAULT_MEMORY = 2 * 2**30  # bytes that one pass may use for its rows


def no_progress(fraction: float) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Row:
    """One patched run: component `component` of the request at node `t` of its path."""

    component: int
    layer: int
    index: int
    node: float


Pass = tuple[Sequence[Row], torch.Tensor]  # rows of one pass, their jets [n_rows, order + 1]


def gather(
    components: Sequence[Component],
    request: Request,
    passes: Iterable[Pass],
    progress: Progress = no_progress,
) -> torch.Tensor:
    """Jets of all passes as one table, float64 [n_components, n_nodes, max order + 1].

    NaN where the request asks for a lower order.
    """
    nodes, width = list(request), max(request.values()) + 1
    values = torch.full((len(components), len(nodes), width), torch.nan, dtype=torch.float64)
    for rows, jets in passes:
        for row, jet in zip(rows, jets, strict=True):
            values[row.component, nodes.index(row.node), : len(jet)] = jet
        progress(len(rows) / (len(components) * len(nodes)))
    return values


def make_rows(components: Sequence[Component], nodes: Sequence[float]) -> list[Row]:
    """All (component, node) pairs, ordered by layer so that a pass can skip the layers before."""
    rows = [
        Row(i, layer, index, node) for i, (layer, index) in enumerate(components) for node in nodes
    ]
    return sorted(rows, key=lambda row: row.layer)


def chunks(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    """Consecutive groups of at most `size` rows, of nearly equal length."""
    n_chunks = -(-len(rows) // max(1, size))
    bounds = [len(rows) * i // n_chunks for i in range(n_chunks + 1)]
    for start, stop in pairwise(bounds):
        yield rows[start:stop]


def by_layer(rows: Sequence[Row]) -> dict[int, list[Row]]:
    """The rows of every layer, in order."""
    return {layer: list(group) for layer, group in groupby(rows, key=lambda row: row.layer)}


def directions(rows: Sequence[Row], delta: torch.Tensor, site: Site) -> torch.Tensor:
    """Patch directions [n_rows, n_suffix, ...]: δ at each row's component, zero elsewhere."""
    out = delta.new_zeros(len(rows), *delta.shape[1:])
    for row, direction in zip(rows, out, strict=True):
        site.select(direction, row.index).copy_(site.select(delta[0], row.index))
    return out


def directions_from(run: BaseRun, rows: Sequence[Row], activation: torch.Tensor) -> torch.Tensor:
    """Patch directions of rows of one layer, to be added to its unpatched activation [1, ...].

    Under zero corruption they are −activation to the last bit: the norm after a residual stream
    that should vanish would blow up what rounding leaves of it.
    """
    delta = -activation.detach() if run.to_zero else run.delta[rows[0].layer]
    return directions(rows, delta, run.site)


def node_column(rows: Sequence[Row], like: torch.Tensor) -> torch.Tensor:
    """The rows' nodes, shaped to multiply [n_rows, n_suffix, ...]."""
    t = like.new_tensor([row.node for row in rows])
    return t.view(-1, *[1] * (like.ndim - 1))


def bytes_per_token(model: Any) -> int:
    """Rough size of the activations that one token keeps alive within one block."""
    cfg = model.cfg
    width = 8 * cfg.d_model + 4 * (cfg.d_mlp or 4 * cfg.d_model)
    return int(width * torch.finfo(cfg.dtype).bits // 8)


def bytes_of_cache(run: BaseRun) -> int:
    """Size of the keys and values that one row leaves in the cache of all layers."""
    if run.prefix is None:
        return 0
    cfg = run.model.cfg
    heads = getattr(cfg, "n_key_value_heads", None) or cfg.n_heads
    positions = run.prefix.get_seq_length() + run.suffix.shape[1]
    width = 2 * cfg.n_layers * heads * cfg.d_head
    return int(positions * width * torch.finfo(cfg.dtype).bits // 8)


def bytes_of_logits(run: BaseRun) -> int:
    """Size of one row's last-position logits."""
    return int(run.model.cfg.d_vocab) * torch.finfo(run.model.cfg.dtype).bits // 8
