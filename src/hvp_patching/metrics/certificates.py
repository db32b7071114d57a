"""What a uniform draw of components says of the others: conformal intervals, a bound on the missed.

Both assume that the draw is uniform among the components that they speak of, and nothing else: no
model of the errors, no independence between components.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Numbers = NDArray[np.float64]


def check_alpha(alpha: float) -> float:
    """The tolerated share of errors as a float; ``ValueError`` unless it lies in (0, 1)."""
    if isinstance(alpha, bool) or not isinstance(alpha, int | float | np.floating):
        raise ValueError(f"alpha must be a number between 0 and 1, got {alpha!r}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, both excluded, got {alpha!r}")
    return float(alpha)


def needed(alpha: float) -> int:
    """How many drawn components the quantile takes to be finite: the smallest n ≥ 1/α − 1."""
    return math.ceil(1 / _exact(alpha)) - 1


def conformal_quantile(residuals: ArrayLike, alpha: float) -> float:
    """The ⌈(n + 1)(1 − α)⌉-th smallest of n residuals, infinite where that exceeds n.

    Of n + 1 values in exchangeable order the last is at most this with probability ≥ 1 − α, so that
    it bounds the residual of any component that the draw might as well have taken. ``ValueError``
    for a residual that is NaN.
    """
    values = np.sort(np.asarray(residuals, dtype=np.float64))
    if np.isnan(values).any():
        raise ValueError("a residual is NaN; the quantile needs numbers")
    rank = math.ceil((len(values) + 1) * (1 - _exact(alpha)))
    return float(values[rank - 1]) if rank <= len(values) else math.inf


def _exact(alpha: float) -> Fraction:
    """α as it is written: (n + 1)(1 − 0.1) is then a whole number where it should be."""
    return Fraction(repr(float(alpha)))


@cache
def most_missed(n_population: int, n_drawn: int, n_seen: int, alpha: float) -> int:
    """At most so many of the components not drawn have a property, with confidence 1 − α.

    n_drawn of the n_population components were drawn uniformly without replacement, and n_seen of
    these have it. With K in all, n_seen is hypergeometric; the bound is the largest K that would
    give n_seen or fewer with probability above α, less n_seen. ``ValueError`` for counts that
    cannot be.
    """
    if not 0 <= n_seen <= n_drawn <= n_population:
        raise ValueError(
            f"{n_seen} of {n_drawn} drawn from {n_population} is impossible; each holds the last"
        )
    low, high = n_seen, n_population - (n_drawn - n_seen)  # K = n_seen is always possible
    while low < high:  # P(X <= n_seen) falls in K
        middle = (low + high + 1) // 2
        if stats.hypergeom.cdf(n_seen, n_population, middle, n_drawn) > alpha:
            low = middle
        else:
            high = middle - 1
    return low - n_seen


def binomial_interval(share: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval of a probability seen as a share of n trials.

    Where each trial is itself a share in [0, 1] the interval is too wide, never too narrow: no
    such variable of this mean varies more than one that is 0 or 1. (NaN, NaN) without trials.
    """
    if n == 0:
        return math.nan, math.nan
    hits, tail = share * n, (1 - level) / 2
    low = float(stats.beta.ppf(tail, hits, n - hits + 1)) if hits > 0 else 0.0
    high = float(stats.beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return low, high
