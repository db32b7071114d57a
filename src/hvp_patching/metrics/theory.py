"""Propositions 1 and 2 and corollaries 1 and 2 as functions of the two sides they compare.

Arrays hold one value per component of one prompt: ``effect`` = Δ, ``ap`` = f'(0), ``q`` = f''(0)
and ``cubic_bound`` = L‖δ‖³/6, all in nats. Along one path, L‖δ‖³ = max |f'''(t)| over [0, 1] is
the smallest constant for which the statements hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hvp_patching.metrics.reliability import flagging_score

Floats = NDArray[np.float64]


def remainder(effect: ArrayLike, ap: ArrayLike, q: ArrayLike) -> Floats:
    """R₃ = Δ − AP − ½q in nats, what the second-order expansion leaves out (equation 3)."""
    delta, first, second = _arrays(effect=effect, ap=ap, q=q)
    return delta - first - second / 2


def hvp_residual(effect: ArrayLike, ap: ArrayLike, q: ArrayLike) -> Floats:
    """|R₃| in nats, at most the cubic bound by corollary 1."""
    return np.abs(remainder(effect, ap, q))


def higher_order_slack(q: ArrayLike, cubic_bound: ArrayLike) -> Floats:
    """η = cubic bound / |½q| of proposition 1, without unit; NaN where q is 0."""
    second, bound = _arrays(q=q, cubic_bound=cubic_bound)
    return bound / np.where(second == 0, np.nan, np.abs(second) / 2)


def relative_error(effect: ArrayLike, ap: ArrayLike) -> Floats:
    """|Δ − AP| / |AP|, the error that proposition 1 bounds; NaN where AP is 0."""
    delta, first = _arrays(effect=effect, ap=ap)
    return np.abs(delta - first) / np.where(first == 0, np.nan, np.abs(first))


def relative_error_bounds(
    ap: ArrayLike, q: ArrayLike, cubic_bound: ArrayLike
) -> tuple[Floats, Floats]:
    """ρ(1 − η) and ρ(1 + η), between which |Δ − AP| / |AP| lies by proposition 1.

    Written as (|½q| ∓ cubic bound) / |AP|, so that q = 0 has bounds too. The lower one is 0 where
    η ≥ 1, which says nothing; both are NaN where AP is 0, where the residual is to be bounded.
    """
    first, second, bound = _arrays(ap=ap, q=q, cubic_bound=cubic_bound)
    size = np.where(first == 0, np.nan, np.abs(first))
    curvature = np.abs(second) / 2
    return np.maximum(curvature - bound, 0) / size, (curvature + bound) / size


def uncorrected(ap: ArrayLike, q: ArrayLike, tau: float) -> NDArray[np.bool_]:
    """The set T of components with ρ ≤ τ, which selective HVP leaves to attribution patching.

    AP = 0 counts as ρ = ∞ where q is not 0; where q is 0 there is nothing to correct.
    ``ValueError`` for a negative or undefined τ. Proposition 2.
    """
    if not tau >= 0:
        raise ValueError(f"the flag threshold tau must be at least 0, got {tau:g}")
    first, second = _arrays(ap=ap, q=q)
    return flagging_score(first, second) <= tau


def selective_estimate(ap: ArrayLike, q: ArrayLike, tau: float) -> Floats:
    """AP in T and AP + ½q elsewhere, whose sum is the selective estimate of equation 6."""
    first, second = _arrays(ap=ap, q=q)
    return first + np.where(uncorrected(first, second, tau), 0.0, second / 2)


def selective_error_bound(ap: ArrayLike, q: ArrayLike, cubic_bound: ArrayLike, tau: float) -> float:
    """τ Σ_T |AP| + Σ cubic bounds, in nats: the right side of proposition 2 (equation 7).

    The left side is |Σ (Δ − selective estimate)|. The first term pays for the components that are
    not corrected, where |½q| ≤ τ|AP|; the second for the remainders of all components.
    """
    first, second, bound = _arrays(ap=ap, q=q, cubic_bound=cubic_bound)
    left = uncorrected(first, second, tau)
    return float(tau * np.abs(first[left]).sum() + bound.sum())


@dataclass(frozen=True)
class SelectiveGap:
    """What selective HVP leaves out of full HVP, summed over components, in nats (corollary 2).

    signed: Σ_T ½q, equal to the full minus the selective estimate (equation 8). absolute: Σ_T |½q|.
    bound: τ Σ_T |AP|. |signed| ≤ absolute ≤ bound (equation 9). cancellation: |signed| / absolute,
    1 where no terms cancel, NaN where T has no curvature.
    """

    signed: float
    absolute: float
    bound: float
    cancellation: float


def selective_gap(ap: ArrayLike, q: ArrayLike, tau: float) -> SelectiveGap:
    """The gap between full and selective HVP at threshold τ, with its bounds (corollary 2)."""
    first, second = _arrays(ap=ap, q=q)
    left = uncorrected(first, second, tau)
    halves = second[left] / 2
    signed, absolute = float(halves.sum()), float(np.abs(halves).sum())
    return SelectiveGap(
        signed=signed,
        absolute=absolute,
        bound=float(tau * np.abs(first[left]).sum()),
        cancellation=abs(signed) / absolute if absolute > 0 else float("nan"),
    )


def _arrays(**named: ArrayLike) -> list[Floats]:
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in named.items()}
    if len({array.shape for array in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"need one value per component in every array, got shapes {shapes}")
    return list(arrays.values())
