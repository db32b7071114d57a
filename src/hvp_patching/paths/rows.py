"""Rows: which (patch, node) pairs a pass computes, and how many fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import torch

from hvp_patching.paths.patches import Patch
from hvp_patching.paths.run import BaseRun

Item = TypeVar("Item")
Request = Mapping[float, int]  # node -> highest derivative wanted there
Progress = Callable[[float], Any]  # called with the fraction of the rows that a pass has done
DEFAULT_MEMORY = 2 * 2**30  # bytes that one pass may use for its rows


def no_progress(fraction: float) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Row:
    """One patched run: the patch that is number `number` of the request, at a node of its path."""

    number: int
    patch: Patch
    node: float


Pass = tuple[Sequence[Row], torch.Tensor]  # rows of one pass, their jets [n_rows, order + 1]


def gather(
    patches: Sequence[Patch],
    request: Request,
    passes: Iterable[Pass],
    progress: Progress = no_progress,
) -> torch.Tensor:
    """Jets of all passes as one table, float64 [n_patches, n_nodes, max order + 1].

    NaN where the request asks for a lower order.
    """
    nodes, width = list(request), max(request.values()) + 1
    values = torch.full((len(patches), len(nodes), width), torch.nan, dtype=torch.float64)
    for rows, jets in passes:
        for row, jet in zip(rows, jets, strict=True):
            values[row.number, nodes.index(row.node), : len(jet)] = jet
        progress(len(rows) / (len(patches) * len(nodes)))
    return values


def make_rows(patches: Sequence[Patch], nodes: Sequence[float]) -> list[Row]:
    """All (patch, node) pairs, ordered by layer so that a pass can skip the layers before."""
    rows = [Row(i, patch, node) for i, patch in enumerate(patches) for node in nodes]
    return sorted(rows, key=lambda row: row.patch.layer)


def chunks(rows: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Consecutive groups of at most `size` rows, of nearly equal length."""
    n_chunks = -(-len(rows) // max(1, size))
    bounds = [len(rows) * i // n_chunks for i in range(n_chunks + 1)]
    for start, stop in pairwise(bounds):
        yield rows[start:stop]


def by_hook(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of every hook, in order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.patch.hook, []).append(row)
    return found


def directions(rows: Sequence[Row], activation: torch.Tensor, start: int) -> torch.Tensor:
    """Patch directions [n_rows, n_suffix, ...] of rows of one hook, zero outside their parts.

    activation: the hook's, unpatched [1, n_suffix, ...], which begins at position `start`. Under
    zero corruption they are −activation to the last bit: the norm after a residual stream that
    should vanish would blow up what rounding leaves of it.
    """
    a = activation.detach()[0]
    out = a.new_zeros(len(rows), *a.shape)
    for row, direction in zip(rows, out, strict=True):
        row.patch.put(direction, a, start)
    return out


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
