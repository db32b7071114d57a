"""Checks of what is a function of the path's derivatives: jets, estimators' scores, probes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from statistics import median_low
from typing import Any

import pandas as pd
import torch

from hvp_patching.baselines import BASELINES
from hvp_patching.checking.baseline_check import verify_baseline
from hvp_patching.checking.check import Check, Comparison
from hvp_patching.checking.differences import OFFSETS, derivatives
from hvp_patching.checking.reference import FORWARD, Point, Values, references
from hvp_patching.checking.subject import ROUNDING, Subject
from hvp_patching.estimators import Estimator, MedianRule, QuadratureRule, by_name
from hvp_patching.paths.jets import Jets
from hvp_patching.sites import Component

REVERSE = "finite differences of reverse passes"
ScoreRow = tuple[int, int, str]  # layer, index, estimator
Scores = dict[ScoreRow, tuple[float, float]]  # estimate and truth
Probes = dict[Component, dict[Any, Any]]  # a row of lipschitz_estimates


def check_jets(check: Check, subject: Subject, jets: Jets) -> None:
    """Derivatives of one prompt, wherever they come from; a row is a component at a node.

    CheckFailed, naming prompt, component, node and order, where the other backend or finite
    differences of plain forward passes give something else.
    """
    if not check.on:
        return
    components = list(jets.components[["layer", "index"]].itertuples(index=False, name=None))
    places = {component: i for i, component in enumerate(components)}
    orders = [int((~jets.values[:, i].isnan()).any(0).sum()) - 1 for i in range(len(jets.nodes))]
    points = [
        Point(layer, index, node, order)
        for layer, index in components
        for node, order in zip(jets.nodes, orders, strict=True)
    ]

    def verify(chosen: Sequence[Point]) -> Iterator[Comparison]:
        for method, values in references(check, subject, chosen).items():
            for point, other in zip(chosen, values, strict=True):
                ours = jets.values[places[point.layer, point.index], jets.nodes.index(point.node)]
                where = f"{_place(subject, point.layer, point.index)}, node {point.node:g}, order"
                for k in range(point.order + 1):
                    yield _one(f"{where} {k}", method, float(ours[k]), other, k)

    check.rows(subject.prompt, points, verify)


def check_scores(check: Check, subject: Subject, scores: pd.DataFrame) -> None:
    """Estimates and truths of one prompt; a row is a component under an estimator or baseline.

    scores: columns layer, index, estimator, estimate, truth. Errors as in check_jets, naming the
    estimator in the place of node and order.
    """
    if not check.on:
        return
    names = ("layer", "index", "estimator", "estimate", "truth")
    columns = (scores[name].tolist() for name in names)
    table: Scores = {
        (int(i), int(j), str(name)): (float(estimate), float(truth))
        for i, j, name, estimate, truth in zip(*columns, strict=True)
    }

    def verify(chosen: Sequence[ScoreRow]) -> Iterator[Comparison]:
        yield from _verify_rules(
            check, subject, table, [r for r in chosen if r[2] not in BASELINES]
        )
        for name in dict.fromkeys(row[2] for row in chosen if row[2] in BASELINES):
            components = [(layer, index) for layer, index, other in chosen if other == name]
            ours = [table[(*c, name)][0] for c in components]
            yield from verify_baseline(check, subject, name, components, ours)

    check.rows(subject.prompt, list(table), verify)


def _verify_rules(
    check: Check, subject: Subject, table: Scores, rows: Sequence[ScoreRow]
) -> Iterator[Comparison]:
    rules = {name: by_name(name) for name in dict.fromkeys(row[2] for row in rows)}
    orders: dict[tuple[int, int, float], int] = {}
    for layer, index, name in rows:
        for node, order in ({0.0: 0, 1.0: 0} | rules[name].request()).items():
            key = (layer, index, node)
            orders[key] = max(order, orders.get(key, 0))
    points = [Point(*key, order) for key, order in orders.items()]
    if not points:
        return
    for method, values in references(check, subject, points).items():
        found = {(p.layer, p.index, p.node): v for p, v in zip(points, values, strict=True)}
        for layer, index, name in rows:
            at = {node: v for (i, j, node), v in found.items() if (i, j) == (layer, index)}
            where = _place(subject, layer, index)
            estimate, truth = table[layer, index, name]
            value, tolerance = _estimate(rules[name], at)
            yield Comparison(f"{where}, {name}", method, estimate, value, tolerance)
            yield Comparison(f"{where}, effect", method, truth, *_effect(at))


def _estimate(rule: Estimator, at: dict[float, Values]) -> tuple[float, float]:
    """A rule's estimate from references by node, and its tolerance."""
    if isinstance(rule, MedianRule):
        parts = [_estimate(part, at) for part in rule.rules]
        return median_low([value for value, _ in parts]), max(tolerance for _, tolerance in parts)
    return _weighted(rule, at)


def _weighted(rule: QuadratureRule, at: dict[float, Values]) -> tuple[float, float]:
    terms = [(at[float(node)], order, weight) for node, order, weight in rule.terms]
    value = sum(weight * float(v.values[order]) for v, order, weight in terms)
    return value, sum(abs(weight) * float(v.tolerances[order]) for v, order, weight in terms)


def _effect(at: dict[float, Values]) -> tuple[float, float]:
    """f(1) − f(0) and its tolerance."""
    start, end = at[0.0], at[1.0]
    return (
        float(end.values[0] - start.values[0]),
        float(end.tolerances[0] + start.tolerances[0]),
    )


def check_probes(
    check: Check, subject: Subject, probes: pd.DataFrame, nodes: Iterable[float]
) -> None:
    """Lipschitz probes of one prompt (columns of lipschitz_estimates); a row is a component.

    The vectors H(t)δ are checked by differences of plain first-order reverse passes. Errors as in
    check_jets, naming the column in the place of node and order.
    """
    if not check.on:
        return
    at_nodes = sorted(float(node) for node in nodes)
    moving = probes[probes["delta_norm"] > 0]
    places = zip(moving["layer"].tolist(), moving["index"].tolist(), strict=True)
    table: Probes = dict(zip(places, moving.to_dict("records"), strict=True))

    def verify(chosen: Sequence[Component]) -> Iterator[Comparison]:
        points = [Point(*component, node, 2) for component in chosen for node in at_nodes]
        for method, values in references(check, subject, points).items():
            for i, (layer, index) in enumerate(chosen):
                at = dict(zip(at_nodes, values[i * len(at_nodes) :], strict=False))
                for name, value, tolerance in _scalars(subject, (layer, index), at):
                    where = f"{_place(subject, layer, index)}, {name}"
                    ours = float(table[layer, index][name])
                    yield Comparison(where, method, ours, value, tolerance)
                if method == FORWARD:
                    yield _vector_comparison(subject, (layer, index), at, table)

    check.rows(subject.prompt, list(table), verify)


def _scalars(
    subject: Subject, component: Component, at: dict[float, Values]
) -> Iterator[tuple[str, float, float]]:
    """Name, value and tolerance of every column but lipschitz."""
    start, (norm, norm_error) = at[0.0], _norm(subject, component)
    yield "delta_norm", norm, norm_error
    for name, order in (("f0", 0), ("ap", 1), ("q", 2)):
        yield name, float(start.values[order]), float(start.tolerances[order])
    yield "effect", *_effect(at)
    seconds = {node: v.values[2:] for node, v in at.items()}
    errors = {node: float(v.tolerances[2]) for node, v in at.items()}
    yield "lipschitz_scalar", *_steepest(seconds, errors, (norm, norm_error), 3)


def _norm(subject: Subject, component: Component) -> tuple[float, float]:
    """‖δ‖ and its tolerance: δ is a difference of two rounded activations."""
    paths, (layer, index) = subject.paths, component
    norm = float(paths.component(layer, index).norm())
    size = float(paths.component(layer, index, paths.a[layer]).norm()) + norm
    return norm, ROUNDING * subject.epsilon * size


def _steepest(
    vectors: dict[float, torch.Tensor],
    errors: dict[float, float],
    norm: tuple[float, float],
    power: int,
) -> tuple[float, float]:
    """Largest change of a vector per length and ‖δ‖^(power − 1), with its tolerance."""
    values, tolerances = [], []
    for s, t in combinations(vectors, 2):
        scale = abs(t - s) * norm[0] ** power
        values.append(float((vectors[t] - vectors[s]).norm()) / scale)
        tolerances.append((errors[s] + errors[t]) / scale)
    return max(values), max(tolerances) + power * max(values) * norm[1] / norm[0]


def _vector_comparison(
    subject: Subject, component: Component, at: dict[float, Values], table: Probes
) -> Comparison:
    """The column lipschitz: H(t)δ, from the first changed token on, as the gradient's change."""
    paths, (layer, index) = subject.paths, component
    norm, changed = _norm(subject, component), slice(subject.tokens.first_changed, None)
    vectors, errors = {}, {}
    for node, scalar in at.items():
        moves = [paths.move(layer, index, node + offset) for offset in OFFSETS]
        gradients = paths.gradients(moves)[:, changed]
        gradients = torch.stack([paths.component(layer, index, x) for x in gradients])
        found = derivatives(gradients[:, None], 1)
        gradient, product = (x[0] for x in found.values)
        vectors[node] = product.flatten()
        # rounding acts on the whole gradient and its change, not on their parts along δ alone
        sizes = product.norm() + gradient.norm() * (1 + norm[0])
        rounding = subject.tolerance(sizes) + scalar.tolerances[2] / norm[0]
        errors[node] = float(found.errors[1].norm() + rounding)
    value, tolerance = _steepest(vectors, errors, norm, 2)
    where = f"{_place(subject, layer, index)}, lipschitz"
    return Comparison(where, REVERSE, float(table[layer, index]["lipschitz"]), value, tolerance)


def _one(where: str, method: str, ours: float, other: Values, order: int) -> Comparison:
    tolerance = float(other.tolerances[order])
    return Comparison(where, method, ours, float(other.values[order]), tolerance)


def _place(subject: Subject, layer: int, index: int) -> str:
    return f"{subject.prompt}, layer {layer}, index {index}"
