"""Derivatives of patch paths computed twice more: finite differences, and the other backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hvp_patching.checking.check import Check, Comparison
from hvp_patching.checking.differences import (
    OFFSETS,
    PATH_OFFSETS,
    derivatives,
    path_derivatives,
)
from hvp_patching.checking.subject import Subject
from hvp_patching.paths.jets import path_jets
from hvp_patching.prompts.pair import TokenPair

FORWARD = "finite differences"
# Measured, see docs/trust.md: how much of each size counts, for f and its derivatives by order.
# Where a norm undoes what the path does, higher ones are nothing but rounding of what it undid.
OF_SPREAD, OF_TERMS = (0.3, 0.1, 0.3, 2.0), (0.0, 2.0, 2.0, 5.0)
PATH_ORDER = 2  # a stencil over the whole path would round the third derivative too much
GOOD_ENOUGH = 1e-8  # error of that stencil, relative to the size of what is differentiated


@dataclass(frozen=True)
class Point:
    """The derivatives of one component's path at one node, up to an order."""

    layer: int
    index: int
    node: float
    order: int


@dataclass(frozen=True)
class Values:
    """f, f', … at a point by one method, and what may separate them from the rule's own."""

    values: torch.Tensor
    tolerances: torch.Tensor


def by_differences(subject: Subject, points: Sequence[Point]) -> list[Values]:
    """Every point by finite differences of plain forward passes, in float64."""
    results: dict[Point, Values] = {}
    by_component: dict[tuple[int, int], list[Point]] = {}
    for point in points:
        by_component.setdefault((point.layer, point.index), []).append(point)
    for component, own in by_component.items():
        slopes = [point for point in own if 0 < point.order <= PATH_ORDER]
        if len(slopes) * len(OFFSETS) > len(PATH_OFFSETS):
            results.update(_over_the_path(subject, component, slopes))
    rest = [point for point in points if point not in results]
    size = max(1, subject.paths.rows_per_batch // len(OFFSETS))
    for group, offsets in (
        ([point for point in rest if point.order == 0], OFFSETS[:1]),
        ([point for point in rest if point.order > 0], OFFSETS),
    ):
        for start in range(0, len(group), size):
            chunk = group[start : start + size]
            results.update(zip(chunk, _around(subject, chunk, offsets), strict=True))
    return [results[point] for point in points]


def _over_the_path(
    subject: Subject, component: tuple[int, int], points: Sequence[Point]
) -> dict[Point, Values]:
    """Points of one component by one stencil over its whole path, where that is good enough."""
    paths, nodes = subject.paths, [point.node for point in points]
    logits = paths.logits([paths.move(*component, t) for t in PATH_OFFSETS])
    found = path_derivatives(paths.metric(logits), nodes, PATH_ORDER)
    changes = path_derivatives(logits, nodes, PATH_ORDER).values
    values: dict[Point, Values] = {}
    for i, point in enumerate(points):
        sizes = _sizes(changes[:, i], point.order)
        error, rounding = found.errors[: point.order + 1, i], subject.tolerance(sizes)
        if bool((error <= rounding.maximum(GOOD_ENOUGH * sizes)).all()):
            values[point] = Values(found.values[: point.order + 1, i], error + rounding)
    return values


def _around(
    subject: Subject, points: Sequence[Point], offsets: Sequence[float]
) -> Iterator[Values]:
    """Each point by differences around its node."""
    paths = subject.paths
    moves = [
        paths.move(point.layer, point.index, point.node + offset)
        for point in points
        for offset in offsets
    ]
    logits = paths.logits(moves).view(len(points), len(offsets), -1).movedim(1, 0)
    metric = paths.metric(logits.flatten(0, 1)).view(len(offsets), len(points))
    for i, point in enumerate(points):
        found = derivatives(metric[:, i], point.order)
        sizes = path_sizes(logits[:, i], point.order)
        yield Values(found.values, found.errors + subject.tolerance(sizes))


def path_sizes(logits: torch.Tensor, order: int) -> torch.Tensor:
    """What rounding of f, f', … is relative to, [order + 1], from logits [n_offsets, vocabulary].

    The spread of the logits, which every pass rounds, and the terms that f^(k) is made of: the
    derivatives of the logits, and the products of lower ones.
    """
    return _sizes(derivatives(logits, order).values, order)


def _sizes(changes: torch.Tensor, order: int) -> torch.Tensor:
    """path_sizes from the logits and their derivatives, [≥ order + 1, vocabulary]."""
    spread = changes[0].max() - changes[0].min()
    largest = changes[1 : order + 1].abs().amax(-1).tolist()
    first, second, third = (*largest, 0.0, 0.0, 0.0)[:3]
    terms = (first, second + first**2, third + 3 * first * second + first**3)[:order]
    sizes = [
        of_spread * float(spread) + of_terms * term
        for of_spread, of_terms, term in zip(OF_SPREAD, OF_TERMS, (0.0, *terms), strict=False)
    ]
    return torch.tensor(sizes, dtype=torch.float64)


def other_backend(subject: Subject) -> str | None:
    """The backend that did not compute the numbers; None where there is only one."""
    if subject.backend == "autograd":
        return "taylor"
    if subject.backend == "auto" and not _taylor_runs(subject):
        return None
    return "autograd"


def _taylor_runs(subject: Subject) -> bool:
    """Whether 'auto' meant Taylor mode."""
    try:
        path_jets(*_setting(subject), {0.0: 1}, 1, "taylor", [(0, 0)], subject.direction)
    except (ValueError, RuntimeError, TypeError, AttributeError):
        return False
    return True


def _setting(subject: Subject) -> tuple[Any, TokenPair, str]:
    return subject.model, subject.tokens, subject.site


def by_backend(
    subject: Subject, backend: str, points: Sequence[Point]
) -> dict[Point, torch.Tensor]:
    """Every point's f, f', … by a backend of the engine, in the rule's precision."""
    components = sorted({(point.layer, point.index) for point in points})
    request: dict[float, int] = {}
    for point in points:
        request[point.node] = max(point.order, request.get(point.node, 0))
    jets = path_jets(
        *_setting(subject), request, 0, backend, components, subject.direction, subject.memory
    )
    places = {component: i for i, component in enumerate(components)}
    nodes = {node: i for i, node in enumerate(request)}
    return {p: jets.values[places[p.layer, p.index], nodes[p.node], : p.order + 1] for p in points}


def references(check: Check, subject: Subject, points: Sequence[Point]) -> dict[str, list[Values]]:
    """By method, every point's values with their tolerances; what cannot be done is noted."""
    plain = by_differences(subject, points)
    found = {FORWARD: plain}
    backend = other_backend(subject)
    if backend is None:
        check.note("Taylor mode does not run on this model, so there is no second backend")
        return found
    values = by_backend(subject, backend, points)
    # both ways round, and the plain passes only say how large the terms are
    found[backend] = [
        Values(values[point], 2 * by_plain.tolerances)
        for point, by_plain in zip(points, plain, strict=True)
    ]
    return found


def compare(
    where: str, method: str, ours: Sequence[float], other: Values, names: Sequence[str]
) -> Iterator[Comparison]:
    """One comparison per entry of ``ours``; ``names`` say what each is."""
    for name, value, theirs, tolerance in zip(
        names, ours, other.values.tolist(), other.tolerances.tolist(), strict=True
    ):
        yield Comparison(f"{where}, {name}", method, float(value), theirs, tolerance)
