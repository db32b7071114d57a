"""Nodes, orders and weights of every rule, pinned against the paper's formulas."""

import math
from fractions import Fraction

import pandas as pd
import pytest
import torch
from scipy.integrate import quad

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
    MedianRule,
    QuadratureRule,
    by_name,
    required_jets,
)
from hvp_patching.paths import Jets


def terms(rule):
    """{(node, order): weight}; no pair occurs twice."""
    found = {(node, order): weight for node, order, weight in rule.terms}
    assert len(found) == len(rule.terms)
    return found


PINNED = {
    "ap": (AP(), 1, {(0, 1): 1}),
    "hvp": (HVP(), 2, {(0, 1): 1, (0, 2): 1 / 2}),
    "ms_hvp_1": (MS_HVP(1), 2, {(0, 1): 1, (0, 2): 1 / 2}),
    "ms_hvp_5": (
        MS_HVP(5),
        10,
        {(Fraction(k, 5), order): (1 / 5, 1 / 50)[order - 1] for k in range(5) for order in (1, 2)},
    ),
    "ig_1": (IG(1), 1, {(Fraction(1, 2), 1): 1}),
    "ig_4": (IG(4), 4, {(Fraction(n, 8), 1): 1 / 4 for n in (1, 3, 5, 7)}),
    "ig_left_4": (IG(4, "left"), 4, {(Fraction(n, 4), 1): 1 / 4 for n in (0, 1, 2, 3)}),
    "ig_right_4": (IG(4, "right"), 4, {(Fraction(n, 4), 1): 1 / 4 for n in (1, 2, 3, 4)}),
    "third_order": (THIRD_ORDER(), 3, {(0, 1): 1, (0, 2): 1 / 2, (0, 3): 1 / 6}),
    "fd_hvp": (FD_HVP(), 2, {(0, 1): 1 - 50, (Fraction(1, 100), 1): 50}),
}


@pytest.mark.parametrize("name", PINNED)
def test_nodes_weights_and_costs(name):
    rule, cost, expected = PINNED[name]
    assert rule.name == name
    assert rule.cost == cost
    assert terms(rule) == pytest.approx(expected, rel=1e-15)


def test_nodes_are_exact_fractions():
    assert [node for node, _, _ in IG(3).terms] == [Fraction(1, 6), Fraction(1, 2), Fraction(5, 6)]
    assert [node for node, _, _ in MS_HVP(3).terms[::2]] == [0, Fraction(1, 3), Fraction(2, 3)]


@pytest.mark.parametrize("K", [1, 2, 5, 10])
def test_ih_pi_weights_are_integrals(K):
    rule = IH_PI(K)
    found = terms(rule)
    assert found.pop((0, 1)) == 1
    for k in range(K):
        integral, _ = quad(
            lambda g: -g * math.log(g) if g else 0.0, k / K, (k + 1) / K, epsabs=1e-13
        )
        assert found.pop((Fraction(k, K), 2)) == pytest.approx(integral, abs=1e-12)
    assert not found
    assert sum(w for _, order, w in rule.terms if order == 2) == pytest.approx(1 / 4, rel=1e-14)
    assert rule.cost == 2 * K
    assert rule.name == f"ih_pi_{K}"


@pytest.mark.parametrize("n", [1, 3, 5])
def test_ih_dr_is_the_double_loop(n):
    def f2(t):
        return math.exp(t) * math.cos(3 * t)

    total = 0.0
    for i in range(n):
        for j in range(n):
            alpha, beta = (i + 0.5) / n, (j + 0.5) / n
            total += alpha * beta * f2(alpha * beta) / n**2
    rule = IH_DR(n)
    found = terms(rule)
    assert found.pop((0, 1)) == 1
    assert all(order == 2 for _, order in found)
    assert sum(w * f2(float(node)) for (node, _), w in found.items()) == pytest.approx(total)
    assert rule.cost == 2 * n * n


@pytest.mark.parametrize("n", [1, 3, 5])
def test_ih_full_is_the_double_loop_with_its_path_term(n):
    total = 0.0
    for i in range(n):
        for j in range(n):
            t = (i + 0.5) / n * (j + 0.5) / n
            total += (math.cos(2 * t) + t * math.exp(t)) / n**2  # f' and f'' of two functions
    rule = IH_FULL(n)
    found = terms(rule)
    assert (0, 1) not in found  # no f'(0)
    assert {order for _, order in found} == {1, 2}
    assert sum(w for (_, order), w in found.items() if order == 1) == pytest.approx(1, rel=1e-14)
    slopes = {1: lambda t: math.cos(2 * t), 2: math.exp}
    assert sum(w * slopes[k](float(t)) for (t, k), w in found.items()) == pytest.approx(total)
    assert rule.cost == IH_DR(n).cost == 2 * n * n


def test_ih_dr_shares_symmetric_nodes():
    assert len(terms(IH_DR(3))) == 1 + 6  # nine products, six different


def test_fd_hvp_with_another_step():
    expected = {(0, 1): 1 - 5, (Fraction(1, 10), 1): 5}
    assert terms(FD_HVP(Fraction(1, 10))) == pytest.approx(expected, rel=1e-15)


def jets_of(derivatives, nodes, n_components=1):
    """Jets of one analytic path, built by hand."""
    values = torch.tensor([[[d(t) for d in derivatives] for t in nodes]], dtype=torch.float64)
    frame = pd.DataFrame({"layer": [0] * n_components, "index": range(n_components)})
    return Jets(values.expand(n_components, -1, -1), tuple(nodes), frame)


def test_k_median_is_the_middle_rule_of_each_component():
    rule = K_MEDIAN()
    assert (rule.name, rule.cost) == ("k_median", 40)
    assert rule.rules == (MS_HVP(5), MS_HVP(10), MS_HVP(20))
    assert rule.request() == {k / 20: 2 for k in range(20)}
    nodes = tuple(rule.request())
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(50, len(nodes), 3, generator=draw, dtype=torch.float64)
    jets = Jets(values, nodes, pd.DataFrame({"layer": [0] * 50, "index": range(50)}))
    three = torch.stack([MS_HVP(K)(jets) for K in (5, 10, 20)])
    assert torch.equal(rule(jets), three.sort(0).values[1])
    winners = (three == rule(jets)).float().mean(1)
    assert bool((winners > 0.1).all())  # each of the three is the median somewhere


def test_k_median_costs_what_its_different_nodes_cost():
    assert K_MEDIAN((2, 3)).cost == 2 * 4  # 0, 1/3, 1/2, 2/3


def test_estimates_are_weighted_sums():
    values = torch.tensor([[[9.0, 2.0, 3.0]], [[9.0, -1.0, 0.5]]], dtype=torch.float64)
    jets = Jets(values, (0.0,), pd.DataFrame({"layer": [0, 1], "index": [0, 0]}))
    assert AP()(jets).tolist() == [2.0, -1.0]
    assert HVP()(jets).tolist() == [3.5, -0.75]


def test_missing_jets_are_named():
    values = torch.zeros(1, 1, 2, dtype=torch.float64)
    jets = Jets(values, (0.0,), pd.DataFrame({"layer": [0], "index": [0]}))
    with pytest.raises(ValueError, match="no derivative of order 2 at node 0;"):
        HVP()(jets)
    with pytest.raises(ValueError, match=r"no derivative of order 1 at node 0\.5;"):
        IG(1)(jets)


def test_requests_are_what_the_rules_read():
    assert AP().request() == {0.0: 1}
    assert MS_HVP(2).request() == {0.0: 2, 0.5: 2}
    assert IG(2, "right").request() == {0.5: 1, 1.0: 1}


def test_required_jets_is_the_union_with_the_highest_orders():
    union = required_jets([IG(2, "left"), MS_HVP(2), THIRD_ORDER(), K_MEDIAN((4,)), IG(1)])
    assert union == {0.0: 3, 0.25: 2, 0.5: 2, 0.75: 2}
    assert list(union) == sorted(union)
    assert required_jets([]) == {}


NAMED = [
    AP(),
    HVP(),
    MS_HVP(1),
    MS_HVP(20),
    IG(10),
    IG(7, "left"),
    IG(7, "right"),
    IH_PI(5),
    IH_DR(3),
    IH_FULL(4),
    GL(4),
    LOBATTO(12),
    THIRD_ORDER(),
    FD_HVP(),
    K_MEDIAN(),
]


@pytest.mark.parametrize("rule", NAMED, ids=lambda rule: rule.name)
def test_names_lead_back_to_the_rule(rule):
    assert by_name(rule.name) == rule
    assert isinstance(rule, QuadratureRule | MedianRule)


@pytest.mark.parametrize("name", ["gim", "ms_hvp", "ms_hvp_", "AP", "ig_middle_3", "ap ", ""])
def test_unknown_names_list_the_known(name):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared)
        by_name(name)
    assert str(caught.value) == (
        f"unknown estimator '{name}'; known: ap, hvp, ms_hvp_N, ig_N, ig_left_N, ig_right_N, "
        "gl_N, lobatto_N, ih_pi_N, ih_dr_N, ih_full_N, third_order, fd_hvp, k_median"
    )


BAD = {
    "ms_hvp": (lambda: MS_HVP(0), "MS_HVP needs K ≥ 1, got 0"),
    "named": (lambda: by_name("ms_hvp_0"), "MS_HVP needs K ≥ 1, got 0"),
    "ig": (lambda: IG(-1), "IG needs N ≥ 1, got -1"),
    "ig nodes": (
        lambda: IG(3, "centre"),
        "unknown IG nodes 'centre'; choose one of: midpoint, left, right",
    ),
    "gl": (lambda: GL(0), "GL needs n ≥ 1, got 0"),
    "lobatto": (lambda: by_name("lobatto_1"), "LOBATTO needs n ≥ 2, got 1"),
    "ih_pi": (lambda: IH_PI(0), "IH_PI needs K ≥ 1, got 0"),
    "ih_dr": (lambda: IH_DR(0), "IH_DR needs n ≥ 1, got 0"),
    "ih_full": (lambda: by_name("ih_full_0"), "IH_FULL needs n ≥ 1, got 0"),
    "fd_hvp": (lambda: FD_HVP(Fraction(2)), "FD_HVP needs a step 0 < h ≤ 1, got 2"),
    "fd_hvp zero": (lambda: FD_HVP(Fraction(0)), "FD_HVP needs a step 0 < h ≤ 1, got 0"),
    "k_median": (lambda: K_MEDIAN(()), "K_MEDIAN needs at least one K"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_parameters_end_in_one_line(case):
    make, message = BAD[case]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared)
        make()
    assert str(caught.value) == message
