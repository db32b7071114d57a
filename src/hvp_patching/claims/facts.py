"""Numbers that need no run: costs by their formulas, sizes of models, constants, identities.

Every function takes the arguments that a query's ``of`` gives and returns one number.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, special

from hvp_patching.claims import theorems
from hvp_patching.claims.reading import ClaimsError
from hvp_patching.claims.statistics import LEVEL
from hvp_patching.estimators import MedianRule, by_name
from hvp_patching.files import DATA
from hvp_patching.frames import ALPHA
from hvp_patching.metrics.faithfulness import LEVELS, areas

Floats = NDArray[np.float64]


def cost(estimator: str, over: str = "") -> float:
    """Backward passes per component and prompt, or their ratio to another estimator's."""
    passes = float(by_name(estimator).cost)
    return passes / by_name(over).cost if over else passes


def extra_cost(estimator: str, over: str) -> float:
    """Backward passes beyond another estimator's."""
    return float(by_name(estimator).cost - by_name(over).cost)


def cost_per_step(estimator: str) -> float:
    """Backward passes per step, of a rule named with {} for its steps; NaN unless constant."""
    each = {by_name(estimator.format(steps)).cost / steps for steps in (1, 2, 5, 10, 35)}
    return float(each.pop()) if len(each) == 1 else float("nan")


def passes(estimator: str) -> float:
    """One forward pass, and a backward one per derivative of f at its only node."""
    (highest,) = by_name(estimator).request().values()
    return 1.0 + highest


def coefficient(estimator: str, order: int = 2) -> float:
    """Weight that the rule gives f'' on a path with constant f''; ½ is exact.

    Terms of f' count with their node, for f'(t) = f'(0) + t f''.
    """
    rule = by_name(estimator)
    if isinstance(rule, MedianRule):
        raise ClaimsError(f"{estimator} is no weighted sum: it has no coefficient")
    parts = [
        weight * (float(node) if term == order - 1 else 1.0)
        for node, term, weight in rule.terms
        if term in (order - 1, order)
    ]
    return float(sum(parts))


def ms_hvp_minus_hvp() -> float:
    """Largest difference of the weights of MS-HVP of one step and of HVP."""
    one, whole = by_name("ms_hvp_1"), by_name("hvp")
    if isinstance(one, MedianRule) or isinstance(whole, MedianRule):
        raise ClaimsError("hvp and ms_hvp_1 are weighted sums")
    weights: dict[tuple[float, int], float] = {}
    for sign, rule in ((1, one), (-1, whole)):
        for node, order, weight in rule.terms:
            key = (float(node), order)
            weights[key] = weights.get(key, 0.0) + sign * weight
    return max(abs(weight) for weight in weights.values())


def layers(model: str) -> float:
    """Layers of a model by its public configuration (data/claims/shapes.csv)."""
    return _shape(model)["n_layers"]


def heads(model: str) -> float:
    """Attention heads of a model, all layers together."""
    return layers(model) * heads_per_layer(model)


def heads_per_layer(model: str) -> float:
    """Attention heads of one layer."""
    return _shape(model)["n_heads"]


def width(model: str, times: float = 1.0) -> float:
    """Dimensions of the residual stream, or a multiple of them."""
    return times * _shape(model)["d_model"]


def parameters(model: str, unit: float = 1.0) -> float:
    """Parameters by the shape, in units of ``unit``."""
    s = _shape(model)
    d, wide = s["d_model"], s["head_dim"]
    query, keys = s["n_heads"] * wide, s["n_kv_heads"] * wide
    attention = d * query + 2 * d * keys + query * d
    mlp = s["mlp_matrices"] * d * s["d_mlp"]
    vectors = s["norms"] * d * (1 + s["biases"])
    vectors += s["biases"] * (query + 2 * keys + d + s["d_mlp"] + d)
    embedding = s["vocab"] * d * (1 if s["tied"] else 2) + s["positions"] * d
    final = d * (1 + s["biases"])
    return (s["n_layers"] * (attention + mlp + vectors) + embedding + final) / unit


def paper_models() -> tuple[str, ...]:
    """The paper's models, those of shapes.csv."""
    return tuple(_shapes())


@cache
def _shapes() -> dict[str, dict[str, float]]:
    with (DATA / "claims" / "shapes.csv").open(encoding="utf-8", newline="") as lines:
        rows = {row.pop("model"): row for row in csv.DictReader(lines)}
    return {
        model: {key: float(text) for key, text in row.items() if key != "notes"}
        for model, row in rows.items()
    }


def _shape(model: str) -> dict[str, float]:
    if model not in _shapes():
        raise ClaimsError(f"data/claims/shapes.csv has no model '{model}'; add its shape")
    return _shapes()[model]


def _gelu_third(x: Floats) -> Floats:
    """GeLU''' = φ(x) (x³ - 4x), with φ the normal density; GeLU(x) = x Φ(x)."""
    density = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    return np.asarray(density * (x**3 - 4 * x))


def _silu_third(x: Floats) -> Floats:
    """SiLU''' of SiLU(x) = x σ(x): 3σ'' + x σ'''."""
    s = special.expit(x)
    first = s * (1 - s)
    second = first * (1 - 2 * s)
    third = first * (1 - 6 * s + 6 * s**2)
    return np.asarray(3 * second + x * third)


THIRD = {"gelu": _gelu_third, "silu": _silu_third}


def third_derivative(activation: str, what: str = "size") -> float:
    """Largest |third derivative| of an activation, or the |place| where it is reached."""
    grid = np.linspace(0, 8, 8001)
    sizes = np.abs(THIRD[activation](grid))
    best = float(grid[sizes.argmax()])
    found = optimize.minimize_scalar(
        lambda x: -abs(float(THIRD[activation](np.array(x)))),
        bounds=(max(best - 0.01, 0), best + 0.01),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return abs(float(found.x)) if what == "place" else -float(found.fun)


def third_of_bilinear() -> float:
    """Largest |third difference| of x -> A(x, y) over random A and y, which is linear in x."""
    rng = np.random.default_rng(0)
    matrix, x, step, y = (rng.normal(size=shape) for shape in ((5, 7), 5, 5, 7))
    values = np.array([(x + k * step) @ matrix @ y for k in range(4)])
    third = abs(values[3] - 3 * values[2] + 3 * values[1] - values[0])
    return float(np.round(third / np.abs(values).max(), 12))


def ideal_cpr() -> float:
    """CPR of a circuit that is as faithful as the model at every level of the benchmark."""
    return areas(pd.DataFrame({"level": LEVELS, "f": 1.0}))["cpr"]


def interval_level() -> float:
    """Level of the ledger's and the tables' intervals, percent."""
    return 100 * LEVEL


def percentile(end: str) -> float:
    """Percentile that ends these intervals, percent."""
    tail = 100 * (1 - LEVEL) / 2
    return round(tail if end == "low" else 100 - tail, 9)


def significance_level() -> float:
    """p below which a comparison is decided."""
    return ALPHA


def median_rules() -> float:
    """Rules whose median is taken per component."""
    rule = by_name("k_median")
    return float(len(rule.rules)) if isinstance(rule, MedianRule) else 1.0


FACTS: dict[str, Callable[..., float]] = {
    function.__name__: function
    for function in (
        *(cost, extra_cost, cost_per_step, passes, coefficient, ms_hvp_minus_hvp),
        *(layers, heads, heads_per_layer, width, parameters),
        *(third_derivative, third_of_bilinear, ideal_cpr),
        *(interval_level, percentile, significance_level, median_rules),
        *theorems.THEOREMS,
    )
}
