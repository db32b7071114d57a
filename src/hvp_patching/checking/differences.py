"""Finite differences with an estimate of their own error, on two kinds of stencils.

Around one node: central differences, extrapolated to step zero. For many nodes of one path: one
stencil over all of [0, 1], the derivatives of the polynomial through its values at Chebyshev
points, which needs far fewer values; its error is the difference to every second point's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from numpy.polynomial import chebyshev

STEPS = (0.02, 0.01, 0.005)  # of the path's length
OFFSETS = (0.0, *(sign * h for h in STEPS for sign in (1, -1)))
EPSILON = torch.finfo(torch.float64).eps
DEGREE = 64
PATH_OFFSETS = tuple(((1 + np.cos(np.pi * np.arange(DEGREE + 1) / DEGREE)) / 2).tolist())
# Rounding of a plain float64 pass, in units of EPSILON times the size of its result: a few dozen
# products after each other.
PASS_ROUNDING = 50.0
# The last step of an extrapolation estimates its error to an order of magnitude.
CAUTION = 10.0


@dataclass(frozen=True)
class Derivatives:
    """values and what is known of their error, both [order + 1, …]: f, f', f'', ….

    The error is the last step of the extrapolation, and rounding over the smallest step; infinite
    where smaller steps do not bring the estimates together, as over a kink.
    """

    values: torch.Tensor
    errors: torch.Tensor


def derivatives(f: torch.Tensor, order: int) -> Derivatives:
    """Derivatives up to ``order`` (at most 3) of f given at OFFSETS, [len(OFFSETS), …]."""
    centre, plus, minus = f[0], f[1::2], f[2::2]
    rounding = PASS_ROUNDING * EPSILON * f.abs().amax(0)
    values, errors = [centre], [rounding]
    lost = torch.zeros_like(rounding)
    for k in range(1, order + 1):
        noise = rounding * 4 / STEPS[-1] ** k
        estimates = _estimates(centre, plus, minus, k)
        value, error = _extrapolated(estimates)
        if len(estimates) > 2:
            before, last = (abs(b - a) for a, b in pairwise(estimates[-3:]))
            matters = noise.maximum(0.01 * estimates[-1].abs())
            lost = torch.where(last > (before / 2).maximum(matters), torch.inf, lost)
        values.append(value)
        errors.append(CAUTION * error + noise + lost)
    return Derivatives(torch.stack(values), torch.stack(errors))


def _estimates(
    centre: torch.Tensor, plus: torch.Tensor, minus: torch.Tensor, order: int
) -> list[torch.Tensor]:
    """Central differences of one order, from the largest step to the smallest."""
    if order == 1:
        return [(p - m) / (2 * h) for h, p, m in zip(STEPS, plus, minus, strict=True)]
    if order == 2:
        return [(p - 2 * centre + m) / h**2 for h, p, m in zip(STEPS, plus, minus, strict=True)]
    pairs = list(zip(STEPS, plus, minus, strict=True))
    return [  # of f at ±2h and ±h
        (far - 2 * p + 2 * m - back) / (2 * h**3) for (_, far, back), (h, p, m) in pairwise(pairs)
    ]


def _extrapolated(estimates: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Richardson's limit of estimates at h, h/2, …, and its distance to the best one before."""
    column, power = estimates, 1
    while len(column) > 1:
        power *= 4
        before = column
        column = [(power * b - a) / (power - 1) for a, b in pairwise(column)]
    return column[0], (column[0] - before[-1]).abs()


def path_derivatives(f: torch.Tensor, nodes: Sequence[float], order: int) -> Derivatives:
    """Derivatives up to ``order`` at many nodes, [order + 1, n_nodes, …], of f at PATH_OFFSETS."""
    flat = f.flatten(1) if f.ndim > 1 else f[:, None]
    rounding = PASS_ROUNDING * EPSILON * flat.abs().amax(0)
    values, errors = [], []
    for k in range(order + 1):
        fine, coarse = (_stencil(tuple(nodes), degree, k) for degree in (DEGREE, DEGREE // 2))
        value = fine @ flat
        values.append(value)
        errors.append((value - coarse @ flat[::2]).abs() + fine.abs().sum(1)[:, None] * rounding)
    shape = (order + 1, len(nodes), *f.shape[1:])
    return Derivatives(torch.stack(values).view(shape), torch.stack(errors).view(shape))


@lru_cache(maxsize=64)
def _stencil(nodes: tuple[float, ...], degree: int, order: int) -> torch.Tensor:
    """Weights [n_nodes, degree + 1] of values at degree + 1 Chebyshev points."""
    points = np.cos(np.pi * np.arange(degree + 1) / degree)
    coefficients = np.linalg.inv(chebyshev.chebvander(points, degree))
    differentiated = chebyshev.chebder(np.eye(degree + 1), order, scl=2.0)  # [−1, 1] is [0, 1]
    at_nodes = chebyshev.chebvander(2 * np.array(nodes) - 1, degree - order)
    return torch.tensor(at_nodes @ differentiated @ coefficients)
