"""Joint paths: the components of a set moved together, each from what it is in this very run.

F(t) is the metric when every component z of the set gives way to z + t (a' − z): a' is the other
run's value, z what the component is in this very run, earlier components of the set patched. F(1)
is the joint patch, which holds all of them at a'. F'(0) = Σ AP_i and F''(0) = Σ q_i + 2 Σ_i<j C_ij,
with the interactions C_ij, among them what a later patch blocks of an earlier one. A set of one
component is the component's own path.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from hvp_patching.failures import architecture
from hvp_patching.paths.autograd import rows_per_pass as rows_per_reverse_pass
from hvp_patching.paths.metric import derivatives
from hvp_patching.paths.precision import DecomposedLayerNorm
from hvp_patching.paths.rows import Progress, Request, chunks, no_progress
from hvp_patching.paths.run import BaseRun, check_met
from hvp_patching.paths.taylor import TaylorTensor, UnsupportedOperation
from hvp_patching.paths.taylor.passes import proven_jets, rows_per_pass
from hvp_patching.paths.vector_hvp import ContiguousLinear
from hvp_patching.sites import Component, Hook, Site

JOINT_VERSION = 1  # part of every store key: raise it when jets change beyond rounding
BACKENDS = ("auto", "taylor", "autograd")
Members = tuple[Component, ...]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JointRow:
    """One patched run: the set that is number `number` of the request, at a node of its path."""

    number: int
    members: Members
    node: float

    @property
    def layer(self) -> int:
        """The first layer that the set moves."""
        return min(layer for layer, _ in self.members)


Pass = tuple[Sequence[JointRow], torch.Tensor]  # rows of one pass, their jets [n_rows, order + 1]


def joint_jets(
    run: BaseRun,
    sets: Sequence[Members],
    request: Request,
    backend: str,
    memory: int,
    progress: Progress = no_progress,
) -> torch.Tensor:
    """F, F', … of every set, float64 [n_sets, n_nodes, max order + 1], in the metric's units.

    NaN where the request asks for less. run: at a site, whose components the sets hold, each
    once; backend: 'auto' is Taylor mode, and autograd with one warning where that cannot run the
    model or prove its result. ValueError for another backend, and derivatives that are not finite.
    """
    if backend not in BACKENDS:
        raise ValueError(f"joint paths have no backend '{backend}'; choose {', '.join(BACKENDS)}")
    rows = [
        [JointRow(i, members, node) for i, members in enumerate(sets) for node in group]
        for group in _groups(request)
    ]
    if backend != "autograd":
        try:
            passes = _taylor_passes(run, rows, request, memory)
            return _gather(len(sets), request, passes, progress)
        except UnsupportedOperation as error:
            if backend == "taylor":
                raise
            log.warning("%s; falling back to the autograd backend", error)
    values = _gather(len(sets), request, _reverse_passes(run, rows, request, memory), progress)
    _check_finite(run, request, values)
    return values


def _groups(request: Request) -> list[list[float]]:
    """Nodes that share a pass: of one order, and at t = 0 or not."""
    kinds = sorted({(order, node == 0.0) for node, order in request.items()})
    return [[t for t, k in request.items() if (k, t == 0.0) == kind] for kind in kinds]


def _gather(
    n_sets: int, request: Request, passes: Iterator[Pass], progress: Progress
) -> torch.Tensor:
    nodes, width = list(request), max(request.values()) + 1
    values = torch.full((n_sets, len(nodes), width), torch.nan, dtype=torch.float64)
    for rows, jets in passes:
        for row, jet in zip(rows, jets, strict=True):
            values[row.number, nodes.index(row.node), : len(jet)] = jet
        progress(len(rows) / (n_sets * len(nodes)))
    return values


def _check_finite(run: BaseRun, request: Request, values: torch.Tensor) -> None:
    for place, (node, order) in enumerate(request.items()):
        bad = (~values[:, place, : order + 1].isfinite()).nonzero()
        if len(bad):
            number, k = (int(x) for x in bad[0])
            raise ValueError(
                f"derivative {k} of set {number} at node {node:g} of {run.prompt} is "
                f"{float(values[number, place, k])}; load the model in float64, or ask for a lower "
                "order"
            )


# --- Taylor mode ----------------------------------------------------------------------------


def _taylor_passes(
    run: BaseRun, groups: Sequence[Sequence[JointRow]], request: Request, memory: int
) -> Iterator[Pass]:
    for group in groups:
        order, shared = request[group[0].node], group[0].node == 0.0
        rows = sorted(group, key=lambda row: row.layer)  # a pass skips the layers before
        for chunk in chunks(rows, rows_per_pass(run, order, memory)):
            jets = proven_jets(run, partial(_along, run, chunk, order, shared))
            yield chunk, jets if shared else jets[1:]


def _along(run: BaseRun, rows: Sequence[JointRow], order: int, shared: bool) -> TaylorTensor:
    """The last position's logits of `rows`, sorted by layer, as polynomials in the step.

    shared: all rows are at t = 0, where the zeroth coefficient is the unpatched run; otherwise
    that run itself comes first, as one row more.
    """
    seen: list[int] = []
    hooks = [
        (run.names[layer], _moving(run, rows, layer, order, shared, seen))
        for layer in _layers(rows)
    ]
    with torch.no_grad():
        logits = run.logits(hooks, run.prefix_copy())
    if seen != _layers(rows):
        raise UnsupportedOperation("Taylor mode finds a hook that did not run, or not once")
    if not isinstance(logits, TaylorTensor) or len(logits) != len(rows) + (not shared):
        raise UnsupportedOperation(f"Taylor mode lost its way through {architecture(run.model)}")
    return logits


def _moving(
    run: BaseRun, rows: Sequence[JointRow], layer: int, order: int, shared: bool, seen: list[int]
) -> Hook:
    """A hook that moves what the sets have in this layer, of rows that join here or did before."""
    joined = [row for row in rows if row.layer <= layer]
    n = len(joined) + (not shared)

    def hook(activation: Any, hook: Any) -> TaylorTensor:
        seen.append(layer)
        if len(activation) != getattr(activation, "rows", 1):
            raise UnsupportedOperation("Taylor mode finds rows at the site that it did not add")
        c0, higher = _with_rows(activation, order, n, shared)
        mask = _mask(run, joined, layer, c0, first=n - len(joined))
        towards = run.base[layer] + run.delta[layer] - c0  # to zero, to the last bit, where a' = 0
        if shared:
            moved = higher.clone()
        else:
            step = mask * _column([*[0.0] * (n - len(joined)), *(r.node for r in joined)], c0)
            moved = higher * (1 - step)
        if order:
            moved[0] += mask * towards
            moved[1:] -= mask * higher[:-1]
        return TaylorTensor(c0 if shared else c0 + step * towards, moved, n)

    return hook


def _with_rows(
    activation: Any, order: int, n: int, shared: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Zeroth and higher coefficients of n rows, the unpatched run where they have not joined."""
    if isinstance(activation, TaylorTensor):
        c0, higher = activation.c0, activation.higher
    else:
        c0, higher = activation, activation.new_zeros(order, 0, *activation.shape[1:])
    missing = higher.new_zeros(order, n - higher.shape[1], *higher.shape[2:])
    higher = torch.cat([higher, missing], dim=1)
    if not shared:
        c0 = torch.cat([c0, c0[:1].expand(n - len(c0), *c0.shape[1:])])
    return c0, higher


# --- autograd -------------------------------------------------------------------------------


def _reverse_passes(
    run: BaseRun, groups: Sequence[Sequence[JointRow]], request: Request, memory: int
) -> Iterator[Pass]:
    for rows in groups:
        order = request[rows[0].node]
        for chunk in chunks(rows, rows_per_reverse_pass(run, 0, order, memory)):
            yield chunk, _reverse_pass(run, chunk, order)


def _reverse_pass(run: BaseRun, rows: Sequence[JointRow], order: int) -> torch.Tensor:
    """One batch of whole runs, differentiated in one scalar a row: jets [n_rows, order + 1]."""
    repeated = run.repeated(len(rows))
    like = run.base[0]
    t = like.new_tensor([row.node for row in rows]).requires_grad_(order > 0)
    hooks = [(run.names[layer], _towards(run, rows, layer, t)) for layer in _layers(rows)]
    with torch.set_grad_enabled(order > 0), DecomposedLayerNorm(), ContiguousLinear():
        columns = derivatives(run.metric(repeated.logits(hooks, repeated.prefix)), t, order)
    unmoved = torch.tensor([row.node == 0.0 for row in rows])
    check_met(run, columns[0].detach().cpu()[unmoved], "a batch of rows in which no set moves")
    return torch.stack([c.detach().double() for c in columns], dim=-1).cpu()


def _towards(run: BaseRun, rows: Sequence[JointRow], layer: int, t: torch.Tensor) -> Hook:
    goal = run.base[layer] + run.delta[layer]

    def hook(activation: torch.Tensor, hook: object) -> torch.Tensor:
        mask = _mask(run, rows, layer, activation.detach())
        steps = mask * t.view(-1, *[1] * (activation.ndim - 1))
        return activation + steps * (goal - activation)

    return hook


# --- both -----------------------------------------------------------------------------------


def _layers(rows: Sequence[JointRow]) -> list[int]:
    """The layers in which a set has components, in order."""
    return sorted({layer for row in rows for layer, _ in row.members})


def _mask(
    run: BaseRun, rows: Sequence[JointRow], layer: int, like: torch.Tensor, first: int = 0
) -> torch.Tensor:
    """1 where a row's set has a component, [first + n_rows, 1, …]: one number a component."""
    axis = run.site.axis if isinstance(run.site, Site) else None
    shape = [first + len(rows), *[1] * (like.ndim - 1)]
    if axis is not None:
        shape[axis] = like.shape[axis]
    mask = like.new_zeros(shape)
    for place, row in enumerate(rows, first):
        for at, index in row.members:
            if at == layer:
                (mask[place] if axis is None else mask[place].select(axis, index)).fill_(1)
    return mask


def _column(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    """One number a row, shaped to multiply [n_rows, …]."""
    return like.new_tensor(values).view(-1, *[1] * (like.ndim - 1))
