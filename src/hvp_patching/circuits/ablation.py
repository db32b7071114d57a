"""Runs in which a circuit alone is live: every other edge carries its writer's corrupted output.

A reader's input is the live residual stream plus, over the edges outside the circuit, corrupted
minus live output of the writer, live in this very run. Many circuits are rows of one pass: writers
fill D [rows, n_writers, n_suffix · d_model], and a reader adds off-edges × D.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from hvp_patching.circuits.edge_run import EdgeRun
from hvp_patching.circuits.graph import INPUT_HOOK, Place
from hvp_patching.circuits.post_norm import post_norm, write_changes
from hvp_patching.failures import architecture
from hvp_patching.paths.rows import bytes_of_cache, bytes_of_logits, bytes_per_token, chunks
from hvp_patching.sites import Hook


def circuit_logits(run: EdgeRun, circuits: Sequence[torch.Tensor], memory: int) -> torch.Tensor:
    """Last-position logits of every circuit, [n_circuits, 1, vocabulary].

    circuits: masks of the edges that are kept, bool [n_writers, n_readers].
    """
    size = max(1, memory // _bytes_per_row(run))
    return torch.cat([_pass(run, torch.stack(list(c))) for c in chunks(circuits, size)])


def circuit_values(run: EdgeRun, circuits: Sequence[torch.Tensor], memory: int) -> torch.Tensor:
    """m of every circuit, float64 [n_circuits]."""
    if not circuits:
        return torch.zeros(0, dtype=torch.float64)
    with torch.no_grad():
        values: torch.Tensor = run.run.metric(circuit_logits(run, circuits, memory))
    return values.double().cpu()


def prove_ablation(run: EdgeRun, memory: int) -> None:
    """ValueError unless the whole graph is the clean run and the empty one the corrupted run."""
    mask = run.graph.mask
    found = circuit_values(run, [mask, torch.zeros_like(mask)], memory).tolist()
    wanted = (run.run.value, run.corrupted_value)
    for value, true, what in zip(found, wanted, ("whole", "empty"), strict=True):
        if not abs(value - true) <= 10 * run.run.slack:
            raise ValueError(
                f"the {what} graph gives m = {value:.6f} on {run.run.prompt} where the "
                f"{'clean' if what == 'whole' else 'corrupted'} run of "
                f"{architecture(run.run.model)} gives {true:.6f}: circuits cannot be judged"
            )


def _bytes_per_row(run: EdgeRun) -> int:
    """Differences of all writers, inputs of one layer's heads, and what a forward pass holds."""
    writers, n_suffix, width = run.delta.shape
    item = run.delta.element_size()
    held = (writers + 12 * run.graph.n_heads) * n_suffix * width * item
    held += len(run.graph.writers) * len(run.graph.readers) * item
    forward = 4 * n_suffix * bytes_per_token(run.run.model) + bytes_of_cache(run.run)
    return held + forward + 4 * bytes_of_logits(run.run)


def _pass(run: EdgeRun, kept: torch.Tensor) -> torch.Tensor:
    """One forward pass; kept: bool [rows, n_writers, n_readers]."""
    with torch.no_grad():
        return ablated_logits(run, (run.graph.mask & ~kept).to(run.delta))


def ablated_logits(run: EdgeRun, off: torch.Tensor) -> torch.Tensor:
    """Last-position logits where readers see so much of each writer's corrupted − live output.

    off: [rows, n_writers, n_readers], 1 where an edge is corrupted, 0 where it is live; may have a
    gradient, which the logits then have too.
    """
    repeated = run.run.repeated(len(off))
    live = (_Differentiable if off.requires_grad else _Differences)(run, len(off))
    hooks = live.hooks()
    for place in run.graph.places:
        cut = off[:, : place.before, place.columns]
        if off.requires_grad or bool(cut.any()):
            hooks.append((place.hook, live.reader(place, cut.transpose(1, 2).contiguous())))
    logits: torch.Tensor = repeated.logits(hooks, repeated.prefix)
    return logits


class _Differences:
    """D: corrupted − live output of every writer and row, filled as the pass goes on.

    Of heads before a norm that may follow; `totals` then holds the layer's live sum of heads.
    """

    def __init__(self, run: EdgeRun, rows: int) -> None:
        self.run = run
        self.values = run.delta.new_zeros(rows, *run.delta.shape)
        self.totals: dict[int, torch.Tensor] = {}
        layers = range(run.graph.n_layers)
        self.behind_norm = [layer for layer in layers if post_norm(run.run.model, layer)]

    def hooks(self) -> list[tuple[str, Hook]]:
        """Hooks that watch the writers and change nothing."""
        found = [(INPUT_HOOK, self._fill(slice(0, 1)))]
        for layer in range(self.run.graph.n_layers):
            block, heads = f"blocks.{layer}.", self.run.graph.heads(layer)
            mlp = slice(heads.stop, heads.stop + 1)
            found.append((block + "attn.hook_result", self._fill(heads, layer)))
            found.append((block + "hook_mlp_out", self._fill(mlp)))
        return found

    def _fill(self, rows: slice, layer: int | None = None) -> Hook:
        def hook(output: torch.Tensor, hook: Any) -> None:
            self._put(rows, output.transpose(1, 2) if output.ndim == 4 else output.unsqueeze(1))
            if layer in self.behind_norm:
                self.totals[layer] = output.sum(2)

        return hook

    def _put(self, rows: slice, live: torch.Tensor) -> None:
        torch.sub(self.run.corrupted[rows], live, out=self.values[:, rows])

    def _of(self, rows: slice) -> torch.Tensor:
        return self.values[:, rows]

    def reader(self, place: Place, weights: torch.Tensor) -> Hook:
        """Add the off-edges' differences to a hook's readers; weights: [rows, readers, writers]."""

        def hook(activation: torch.Tensor, hook: Any) -> torch.Tensor:
            added = self._sum(slice(0, place.before), self._plain(weights))
            for layer in self.behind_norm:
                heads = self.run.graph.heads(layer)
                cut = weights[..., heads]
                if heads.stop <= place.before and (cut.requires_grad or bool(cut.any())):
                    changes = self._sum(heads, cut)
                    total = self.totals[layer]
                    added += write_changes(self.run.run.model, layer, total, changes)
            return activation + (added.transpose(1, 2) if place.per_head else added.squeeze(1))

        return hook

    def _plain(self, weights: torch.Tensor) -> torch.Tensor:
        """The weights of writers without a norm behind them."""
        if not self.behind_norm:
            return weights
        plain = torch.ones(weights.shape[2], dtype=weights.dtype, device=weights.device)
        for layer in self.behind_norm:
            plain[self.run.graph.heads(layer)] = 0
        return weights * plain

    def _sum(self, rows: slice, weights: torch.Tensor) -> torch.Tensor:
        """Σ over writers, [rows of the pass, readers, n_suffix, d_model]."""
        added = torch.bmm(weights, self._of(rows).flatten(2))
        return added.view(*added.shape[:2], *self.run.delta.shape[1:])


class _Differentiable(_Differences):
    """D as a list, since what is filled in place has no gradient."""

    def __init__(self, run: EdgeRun, rows: int) -> None:
        super().__init__(run, 0)
        self.parts: list[torch.Tensor] = []

    def _put(self, rows: slice, live: torch.Tensor) -> None:
        if rows.start != sum(part.shape[1] for part in self.parts):
            raise RuntimeError("writers came in another order than the graph's")
        self.parts.append(self.run.corrupted[rows] - live)

    def _of(self, rows: slice) -> torch.Tensor:
        return torch.cat(self.parts, 1)[:, rows]
