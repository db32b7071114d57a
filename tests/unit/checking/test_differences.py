"""Finite differences of functions whose derivatives are known, and what they say of their error."""

from __future__ import annotations

import math

import pytest
import torch

from hvp_patching.checking.differences import (
    OFFSETS,
    PATH_OFFSETS,
    derivatives,
    path_derivatives,
)


def wave(t, k=0):
    """A wave of slope and curvature like the paths': the k-th derivative of exp(t) + sin(9t)."""
    return torch.exp(t) + 9**k * torch.sin(9 * t + k * math.pi / 2)


def column(values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("node", [0.0, 0.3, 1.0])
def test_derivatives_around_a_node(node):
    found = derivatives(wave(node + column(OFFSETS)), 3)
    for k, tolerance in enumerate((1e-14, 2e-10, 1e-8, 1e-4)):
        miss = abs(float(found.values[k] - wave(column(node), k)))
        assert miss <= tolerance * 9**k
        assert miss <= float(found.errors[k]) <= 1e-2 * 9**k


def test_derivatives_of_many_nodes_of_a_path():
    nodes = [0.0, 0.2, 1 / 3, 0.77, 1.0]
    found = path_derivatives(wave(column(PATH_OFFSETS)), nodes, 2)
    for k, tolerance in enumerate((1e-13, 1e-10, 1e-6)):
        miss = (found.values[k] - wave(column(nodes), k)).abs()
        assert bool((miss <= tolerance).all())
        assert bool((miss <= found.errors[k]).all())
        assert bool((found.errors[k] <= 1e-3).all())


def test_several_functions_at_once():
    t = column(OFFSETS)
    both = derivatives(torch.stack([wave(t), 2 * wave(t)], -1), 2).values
    assert torch.allclose(both[:, 1], 2 * both[:, 0])
    t = column(PATH_OFFSETS)
    both = path_derivatives(torch.stack([wave(t), 2 * wave(t)], -1), [0.1, 0.9], 2).values
    assert both.shape == (3, 2, 2)
    assert torch.allclose(both[..., 1], 2 * both[..., 0])


@pytest.mark.parametrize(
    "kink", [abs, lambda t: t / (t.square() + 1e-8).sqrt()], ids=["|t|", "sign"]
)
def test_over_a_kink_the_error_has_no_bound(kink):
    found = derivatives(kink(column(OFFSETS)) + wave(column(OFFSETS)), 3)
    assert found.errors.isinf().tolist()[2:] == [True, True]
    assert float(found.errors[0]) < 1e-10


def test_an_unresolved_path_says_so():
    t = column(PATH_OFFSETS)
    steep = torch.tanh(500 * (t - 0.5))
    found = path_derivatives(steep, [0.5], 1)
    assert float(found.errors[1, 0]) > 10  # the slope is 500


def test_a_constant_has_no_derivatives_and_no_error_beyond_rounding():
    found = derivatives(torch.full((len(OFFSETS),), 3.0, dtype=torch.float64), 2)
    assert found.values.tolist() == [3.0, 0.0, 0.0]
    assert float(found.errors.max()) < 1e-7
