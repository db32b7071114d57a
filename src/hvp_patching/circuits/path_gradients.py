"""Gradients at every reader at once, along a path that moves the whole run.

A path is a shift of the run by t · (corrupted − clean) somewhere: of the embedding (`input`), of
every reader's input at once (`joint`), or of one layer's writers (`activations`). A quadrature rule
over it gives one vector g a reader, Σ weight · dᵏ⁻¹/dtᵏ⁻¹ ∂m/∂(input of v), and the score of every
edge u → v is δ_u · g_v: all edges for the price of a few passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hvp_patching.circuits.edge_run import EdgeRun
from hvp_patching.circuits.graph import INPUT_HOOK
from hvp_patching.estimators import QuadratureRule
from hvp_patching.paths.precision import DecomposedLayerNorm
from hvp_patching.paths.rows import bytes_of_logits, bytes_per_token, chunks
from hvp_patching.paths.run import check_met
from hvp_patching.paths.vector_hvp import ContiguousLinear
from hvp_patching.sites import Hook, n_layers


@dataclass(frozen=True)
class Row:
    """One shifted run: where on which path, and what its first two derivatives count for.

    place: None moves what the path moves; a number moves the writers of one `writer_layers` entry.
    """

    node: float
    first: float
    second: float = 0.0
    place: int | None = None


Shift = tuple[str, torch.Tensor]  # a hook, and what t = 1 adds to its activation [1, n_suffix, ...]


def rows_of(rule: QuadratureRule) -> list[Row]:
    """One row a node of the rule, with the weights of f' and f'' there."""
    weights: dict[float, list[float]] = {}
    for node, order, weight in rule.terms:
        if order not in (1, 2):
            raise ValueError(f"{rule.name} needs derivative {order}, which edges have none of")
        weights.setdefault(float(node), [0.0, 0.0])[order - 1] += weight
    return [Row(node, first, second) for node, (first, second) in weights.items()]


def input_path(run: EdgeRun) -> list[Shift]:
    """The embedding's output moves, and everything behind it follows."""
    return [(INPUT_HOOK, run.delta[:1])]


def joint_path(run: EdgeRun) -> list[Shift]:
    """Every reader's input moves by its whole difference, whatever else reaches it."""
    shifts = []
    for place in run.graph.places:
        delta = run.reader_delta(place.before)
        shifts.append((place.hook, (delta.unsqueeze(1) if place.per_head else delta)[None]))
    return shifts


def writer_layers(run: EdgeRun) -> list[Shift]:
    """The embedding, the heads of every layer together, and every MLP: 2L + 1 places."""
    names = [INPUT_HOOK]
    for layer in range(run.graph.n_layers):
        names += [f"blocks.{layer}.hook_attn_out", f"blocks.{layer}.hook_mlp_out"]
    return [(name, change[None]) for name, change in zip(names, run.changes, strict=True)]


def reader_gradients(
    run: EdgeRun, shifts: Sequence[Shift], rows: Sequence[Row], memory: int
) -> torch.Tensor:
    """Σ over rows of weighted derivatives at all readers, float64 [n_readers, n_suffix · d]."""
    order = 2 if any(row.second for row in rows) else 1
    total = torch.zeros(len(run.graph.readers), run.delta[0].numel(), dtype=torch.float64)
    for chunk in chunks(rows, rows_per_pass(run, order, memory)):
        total += _pass(run, shifts, chunk).cpu()
    return total


def rows_per_pass(run: EdgeRun, order: int, memory: int) -> int:
    """How many rows fit: reverse mode keeps the graphs of all layers and of every head's inputs."""
    model, graph = run.run.model, run.graph
    token = bytes_per_token(model)
    token += 32 * graph.n_heads * int(model.cfg.d_model) * run.delta.element_size()
    blocks = 3 * order * n_layers(model) * run.run.suffix.shape[1]
    return max(1, memory // (blocks * token + (order + 1) * 4 * bytes_of_logits(run.run)))


def _pass(run: EdgeRun, shifts: Sequence[Shift], rows: Sequence[Row]) -> torch.Tensor:
    """One forward pass of all rows; readers share one variable, so that its gradient is the sum."""
    like = run.delta
    nodes = like.new_tensor([row.node for row in rows]).requires_grad_(any(r.second for r in rows))
    first, second = (
        torch.tensor(column, dtype=torch.float64, device=like.device)
        for column in zip(*((row.first, row.second) for row in rows), strict=True)
    )
    zeros = _zeros(run)
    hooks = _shift_hooks(shifts, rows, nodes)
    hooks += [(hook, _add(zero)) for hook, zero in zeros]
    repeated = run.run.repeated(len(rows))
    with torch.enable_grad(), DecomposedLayerNorm(), ContiguousLinear():
        m = run.run.metric(repeated.logits(hooks, repeated.prefix))
        if any(unmoved := [row.node == 0 for row in rows]):
            check_met(run.run, m.detach()[unmoved], "a pass with the hooks of edges")
        goal = (first * m).sum()
        if nodes.requires_grad:
            (slope,) = torch.autograd.grad(m.sum(), nodes, create_graph=True)
            goal = goal + (second * slope).sum()
        found = torch.autograd.grad(goal, [zero for _, zero in zeros])
    return torch.cat([_flat(gradient) for gradient in found])


def _zeros(run: EdgeRun) -> list[tuple[str, torch.Tensor]]:
    """At every reader's hook a zero to be added: [1, n_suffix, heads, d], or without heads."""
    _, n_suffix, width = run.delta.shape
    found = []
    for place in run.graph.places:
        heads = (place.columns.stop - place.columns.start,) if place.per_head else ()
        zero = run.delta.new_zeros(1, n_suffix, *heads, width)
        found.append((place.hook, zero.requires_grad_()))
    return found


def _flat(gradient: torch.Tensor) -> torch.Tensor:
    """[1, n_suffix, heads, d] or [1, n_suffix, d] as float64 [n_readers, n_suffix · d]."""
    one = gradient[0].double()
    return one.movedim(1, 0).flatten(1) if one.ndim == 3 else one.reshape(1, -1)


def _shift_hooks(
    shifts: Sequence[Shift], rows: Sequence[Row], nodes: torch.Tensor
) -> list[tuple[str, Hook]]:
    """Hooks that add t · shift: to all rows, or to those that move this place alone."""
    hooks: list[tuple[str, Hook]] = []
    for number, (name, shift) in enumerate(shifts):
        share = [float(row.place in (None, number)) for row in rows]
        if nodes.requires_grad or any(s and row.node for s, row in zip(share, rows, strict=True)):
            hooks.append((name, _move(nodes * nodes.new_tensor(share), shift)))
    return hooks


def _move(nodes: torch.Tensor, shift: torch.Tensor) -> Hook:
    def hook(activation: torch.Tensor, hook: object) -> torch.Tensor:
        return activation + nodes.view(-1, *[1] * (activation.ndim - 1)) * shift

    return hook


def _add(zero: torch.Tensor) -> Hook:
    def hook(activation: torch.Tensor, hook: object) -> torch.Tensor:
        return activation + zero

    return hook
