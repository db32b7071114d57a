"""The paper's propositions on many paths whose derivatives are known: how often one is violated.

A path is f(t) = Σ a sin(w t + p), float64; |f'''| at most Σ |a| |w|³ is the constant L‖δ‖³.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvp_patching.metrics.reliability import reliability_score
from hvp_patching.metrics.theory import (
    higher_order_slack,
    hvp_residual,
    relative_error,
    relative_error_bounds,
    selective_error_bound,
    selective_estimate,
    selective_gap,
)

Floats = NDArray[np.float64]
N_PATHS, N_TERMS = 2000, 3
TAU = 0.5
ROUNDING = 1e-12


@dataclass(frozen=True)
class Paths:
    """Many paths: amplitudes, frequencies and phases, each [n_paths, n_terms]."""

    amplitude: Floats
    frequency: Floats
    phase: Floats

    def derivative(self, order: int, t: float) -> Floats:
        """f^(order)(t) of every path."""
        angle = self.frequency * t + self.phase + order * np.pi / 2
        return np.asarray((self.amplitude * self.frequency**order * np.sin(angle)).sum(1))

    @property
    def cubic_bound(self) -> Floats:
        """L‖δ‖³/6 with the smallest L that the terms allow."""
        return np.asarray((np.abs(self.amplitude) * np.abs(self.frequency) ** 3).sum(1) / 6)

    @property
    def jets(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Δ, AP, q and the cubic bound."""
        effect = self.derivative(0, 1.0) - self.derivative(0, 0.0)
        return effect, self.derivative(1, 0.0), self.derivative(2, 0.0), self.cubic_bound


def paths(seed: int = 0) -> Paths:
    """Paths from nearly straight to strongly bent."""
    rng = np.random.default_rng(seed)
    shape = (N_PATHS, N_TERMS)
    return Paths(
        rng.normal(size=shape), 10 ** rng.uniform(-2, 0.7, shape), rng.uniform(0, 2 * np.pi, shape)
    )


def upper_bound_violations() -> float:
    """Paths whose relative error of AP exceeds ρ(1 + η)."""
    effect, ap, q, bound = paths().jets
    _, upper = relative_error_bounds(ap, q, bound)
    return _violations(relative_error(effect, ap) - upper, upper)


def two_sided_violations() -> float:
    """Paths with η < 1 whose relative error of AP leaves [ρ(1 - η), ρ(1 + η)]."""
    effect, ap, q, bound = paths().jets
    lower, upper = relative_error_bounds(ap, q, bound)
    error, inside = relative_error(effect, ap), higher_order_slack(q, bound) < 1
    excess = np.maximum(lower - error, error - upper)[inside]
    return _violations(excess, upper[inside])


def residual_violations() -> float:
    """Paths whose residual of HVP exceeds the cubic bound."""
    effect, ap, q, bound = paths().jets
    return _violations(hvp_residual(effect, ap, q) - bound, bound)


def selective_violations() -> float:
    """Prompts of 20 paths whose selective sum errs by more than proposition 2 allows."""
    found = 0
    for effect, ap, q, bound in _prompts():
        error = abs(float((effect - selective_estimate(ap, q, TAU)).sum()))
        found += error > selective_error_bound(ap, q, bound, TAU) * (1 + ROUNDING)
    return float(found)


def selective_gap_error() -> float:
    """Largest deviation of full minus selective HVP from the signed sum of corollary 2."""
    worst = 0.0
    for _, ap, q, _ in _prompts():
        full = float((ap + q / 2).sum())
        selective = float(selective_estimate(ap, q, TAU).sum())
        worst = max(worst, abs(full - selective - selective_gap(ap, q, TAU).signed))
    return float(np.round(worst, 9))


def score_without_curvature() -> float:
    """Largest ρ where the quadratic term is 0."""
    _, ap, q, _ = paths().jets
    return float(np.nanmax(reliability_score(ap, 0 * q)))


def off_diagonal_share() -> float:
    """Change of one component's effect when interactions with the others are removed.

    On m = Σ b x + ½ x' H x, one component is patched alone; H loses its off-diagonal terms.
    """
    rng = np.random.default_rng(0)
    b, h, delta = rng.normal(size=8), rng.normal(size=(8, 8)), rng.normal(size=8)
    h = h + h.T
    changes = []
    for hessian in (h, np.diag(np.diag(h))):
        moves = np.diag(delta)
        changes.append(moves @ b + np.einsum("ij,jk,ik->i", moves, hessian, moves) / 2)
    return float(np.round(np.abs(changes[0] - changes[1]).max(), 12))


def taylor_order(estimator: str) -> float:
    """Order of the error in the size of the patch: 2 of AP, 3 of HVP, measured on the paths."""
    family, sizes = paths(), np.array([1e-2, 2e-2])
    straight = family.derivative(0, 0.0)
    errors = []
    for size in sizes:
        estimate = size * family.derivative(1, 0.0)
        if estimator == "hvp":
            estimate = estimate + size**2 * family.derivative(2, 0.0) / 2
        errors.append(np.abs(family.derivative(0, size) - straight - estimate))
    return float(np.median(np.log(errors[1] / errors[0]) / np.log(sizes[1] / sizes[0])))


def _violations(excess: Floats, scale: Floats) -> float:
    return float((excess > ROUNDING * np.maximum(1, np.abs(scale))).sum())


def _prompts() -> list[tuple[Floats, ...]]:
    jets = paths().jets
    return [tuple(x[i : i + 20] for x in jets) for i in range(0, N_PATHS, 20)]


THEOREMS = (
    *(upper_bound_violations, two_sided_violations, residual_violations, selective_violations),
    *(selective_gap_error, score_without_curvature, off_diagonal_share, taylor_order),
)
