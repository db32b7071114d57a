"""Orders of convergence on analytic paths, and exactness on polynomials."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import dblquad

from hvp_patching.estimators import (
    AP,
    FD_HVP,
    GL,
    HVP,
    IG,
    IH_DR,
    IH_FULL,
    IH_PI,
    K_MEDIAN,
    LOBATTO,
    MS_HVP,
    THIRD_ORDER,
)
from hvp_patching.paths import Jets

# f, f', f'', f'''
PATHS = {
    "sine": (math.sin, math.cos, lambda t: -math.sin(t), lambda t: -math.cos(t)),
    "exponential": (
        lambda t: math.exp(1.5 * t),
        lambda t: 1.5 * math.exp(1.5 * t),
        lambda t: 1.5**2 * math.exp(1.5 * t),
        lambda t: 1.5**3 * math.exp(1.5 * t),
    ),
    "rational": (
        lambda t: 1 / (2 + t),
        lambda t: -1 / (2 + t) ** 2,
        lambda t: 2 / (2 + t) ** 3,
        lambda t: -6 / (2 + t) ** 4,
    ),
}


def error(rule, path):
    derivatives = PATHS[path] if isinstance(path, str) else path
    nodes = tuple(rule.request())
    values = torch.tensor([[[d(t) for d in derivatives] for t in nodes]], dtype=torch.float64)
    estimate = float(rule(Jets(values, nodes, pd.DataFrame({"layer": [0], "index": [0]})))[0])
    return abs(estimate - (derivatives[0](1.0) - derivatives[0](0.0)))


def slope(make, counts, path):
    errors = [error(make(n), path) for n in counts]
    return np.polyfit(np.log(counts), np.log(errors), 1)[0]


COUNTS = (4, 6, 8, 12, 16, 24, 32, 48, 64)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (MS_HVP, -2),
        (IG, -2),
        (lambda n: IG(n, "left"), -1),
        (lambda n: IG(n, "right"), -1),
        (IH_FULL, -2),
    ],
    ids=["MS-HVP", "IG midpoint", "IG left", "IG right", "IH full"],
)
def test_errors_fall_as_they_should(make, expected, path):
    assert slope(make, COUNTS, path) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("make", [GL, lambda n: LOBATTO(n + 1)], ids=["GL", "Lobatto"])
def test_each_gauss_node_more_is_worth_a_factor(make, path):
    """No power law: the error falls by a factor with every node, down to rounding."""
    errors = [error(make(n), path) for n in (1, 2, 3, 4)]
    assert all(after < before / 20 for before, after in itertools.pairwise(errors))
    assert errors[-1] < 1e-4 * error(IG(4), path)
    assert error(make(12), path) < 1e-14


@pytest.mark.parametrize("path", PATHS)
def test_ih_pi_does_not_converge_to_the_effect(path):
    """Its weights sum to a quarter: what is left does not fall with K."""
    assert error(IH_PI(64), path) > 0.5 * error(IH_PI(8), path)


@pytest.mark.parametrize("path", PATHS)
def test_integrated_hessians_converge_in_full_and_not_without_their_path_term(path):
    assert error(IH_FULL(64), path) < 2e-4 * abs(PATHS[path][0](1.0) - PATHS[path][0](0.0))
    assert error(IH_DR(64), path) > 0.9 * error(IH_DR(8), path) > 10 * error(IH_FULL(8), path)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("degree", [1, 2, 3, 4, 6])
def test_ih_full_of_a_power_is_its_midpoint_sum_in_closed_form(n, degree):
    """f = t^k: f' + t f'' = k² t^(k−1), whose double sum is the square of the single one."""
    rule, nodes = IH_FULL(n), tuple(IH_FULL(n).request())
    k = degree
    values = [[t**k, k * t ** (k - 1), k * (k - 1) * t ** max(k - 2, 0)] for t in nodes]
    jets = Jets(
        torch.tensor([values], dtype=torch.float64),
        nodes,
        pd.DataFrame({"layer": [0], "index": [0]}),
    )
    single = sum(((i + 0.5) / n) ** (k - 1) for i in range(n)) / n
    assert float(rule(jets)[0]) == pytest.approx((k * single) ** 2, rel=1e-13)
    # and the integral that it stands for is f(1) − f(0) = 1, since ∫ k t^(k−1) = 1
    integral, _ = dblquad(lambda a, b: k * k * (a * b) ** (k - 1), 0, 1, 0, 1)
    assert integral == pytest.approx(1, rel=1e-10)


def polynomial(*coefficients):
    p = np.polynomial.Polynomial(coefficients)
    return tuple(p.deriv(k) if k else p for k in range(4))


@pytest.mark.parametrize(
    ("rule", "degree"),
    [
        (AP(), 1),
        (IG(3, "left"), 1),
        (HVP(), 2),
        (FD_HVP(), 2),
        (MS_HVP(3), 2),
        (IG(1), 2),
        (IG(7), 2),
        (K_MEDIAN(), 2),
        (THIRD_ORDER(), 3),
        (GL(1), 2),
        (LOBATTO(2), 2),
        (IH_FULL(1), 2),
        (IH_FULL(4), 2),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_exact_up_to_its_degree_and_not_beyond(rule, degree):
    coefficients = (0.7, -1.3, 0.9, 2.1, -0.6)
    assert error(rule, polynomial(*coefficients[: degree + 1])) < 1e-13
    assert error(rule, polynomial(*coefficients[: degree + 2])) > 1e-4
