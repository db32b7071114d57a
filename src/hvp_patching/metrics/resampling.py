"""Prompt bootstrap: intervals, paired p-values and the better/worse marks of the tables.

Prompts, not components, are resampled: components of one prompt are not independent. With few
prompts all of this is weak. Two prompts have three distinct resamples and an interval no wider
than the two values, and their bootstrap has p < 0.05 whenever both differ in the same direction,
as happens every second time where neither method is better. ``smallest_p`` says from how many
prompts on a mark means anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Statistic = Literal["mean", "median"]
Mark = Literal["better", "worse", "none"]

# Differences of rounding alone are none: errors and overlaps are fractions.
DECIMALS = 11
STATISTICS: dict[str, Callable[..., NDArray[np.float64]]] = {"mean": np.mean, "median": np.median}


class BootstrapError(ValueError):
    """Values that cannot be resampled."""


def bootstrap_interval(
    values: ArrayLike,
    statistic: Statistic = "mean",
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the mean or median over prompts, in the values' own units.

    ``values`` is [n_prompts]. A single prompt gives (NaN, NaN). The same seed gives the same
    interval. Raises ``BootstrapError`` for no or non-finite values or another statistic.
    Section 4.1.
    """
    sample = _sample(values, "values")
    function = _statistic(statistic)
    if len(sample) == 1:
        return float("nan"), float("nan")
    interval = stats.bootstrap(
        (sample,),
        function,
        n_resamples=n_resamples,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def reduction_interval(
    values: ArrayLike,
    reference: ArrayLike,
    statistic: Statistic = "median",
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of 1 - statistic(values) / statistic(reference), as a fraction.

    ``values`` and ``reference`` are errors [n_prompts] of two methods on the same prompts, which
    are resampled together. A single prompt gives (NaN, NaN). Raises ``BootstrapError`` where the
    lengths differ, a reference error is not above 0, or as ``bootstrap_interval``. Table 3.
    """
    ours, theirs = _paired(values, reference)
    function = _statistic(statistic)
    if not (theirs > 0).all():
        bad = int(np.flatnonzero(theirs <= 0)[0])
        raise BootstrapError(
            f"reference: prompt number {bad} of {theirs.size} is {theirs[bad]}; "
            "a reduction needs errors above 0 to start from"
        )
    if len(ours) == 1:
        return float("nan"), float("nan")
    interval = stats.bootstrap(
        (ours, theirs),
        lambda a, b, axis: 1 - function(a, axis=axis) / function(b, axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=n_resamples,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def reduction(
    values: ArrayLike,
    reference: ArrayLike,
    statistic: Statistic = "median",
    n_resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """1 - statistic(values) / statistic(reference) and its paired 95% interval, as fractions.

    ``values`` and ``reference`` are errors [n_prompts]. NaN where the reference's statistic is not
    above 0, or there is no prompt; the interval also where a prompt's reference error is not above
    0. Raises ``BootstrapError`` as ``reduction_interval``. Tables 3, 11, 12 and 13.
    """
    if not np.size(values) and not np.size(reference):
        return float("nan"), float("nan"), float("nan")
    ours, theirs = _paired(values, reference)
    base = float(_statistic(statistic)(theirs))
    if not base > 0:
        return float("nan"), float("nan"), float("nan")
    ends = (float("nan"), float("nan"))
    if (theirs > 0).all():
        ends = reduction_interval(ours, theirs, statistic, n_resamples=n_resamples, seed=seed)
    return 1 - float(STATISTICS[statistic](ours)) / base, *ends


def paired_bootstrap_p(
    values: ArrayLike, reference: ArrayLike, n_resamples: int = 1000, seed: int = 0
) -> float:
    """Two-sided p of the mean difference between two methods on the same prompts.

    ``values`` and ``reference`` are [n_prompts] in the same order. With d* the mean difference of
    a resample, p = 2 min(P(d* <= 0), P(d* >= 0)), one added to counts and resamples so that p is
    never 0, at most 1. NaN for a single prompt. Raises ``BootstrapError`` where the lengths
    differ. Section 4.1.
    """
    ours, theirs = _paired(values, reference)
    if len(ours) == 1:
        return float("nan")
    difference = ours - theirs
    drawn = np.random.default_rng(seed).integers(
        len(difference), size=(n_resamples, len(difference))
    )
    means = difference[drawn].mean(axis=1)
    tail = min(int((means <= 0).sum()), int((means >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (n_resamples + 1))


def smallest_p(values: ArrayLike, reference: ArrayLike, n_resamples: int = 1000) -> float:
    """The smallest two-sided p that so many prompts can support, whatever their differences.

    ``values`` and ``reference`` are [n_prompts], m of which differ. Where neither method is better,
    all m differences have one sign with probability 2^(1 - m): the smallest p of the exact sign
    and signed-rank tests, and how often ``paired_bootstrap_p`` is 2 / (n_resamples + 1) by chance
    alone. The larger of the two numbers, at most 1. Raises ``BootstrapError`` where the lengths
    differ.
    """
    ours, theirs = _paired(values, reference)
    differing = np.count_nonzero(np.round(ours - theirs, DECIMALS))
    return min(1.0, max(0.5 ** (differing - 1), 2 / (n_resamples + 1)))


def significance_mark(
    values: ArrayLike, reference: ArrayLike, p: float, alpha: float = 0.05
) -> Mark:
    """``better`` or ``worse`` where an error differs from the reference's at p < alpha.

    Lower values are better. NaN p (a single prompt) gives ``none``. Table 2's star and circle.
    """
    if not p < alpha:
        return "none"
    ours, theirs = _sample(values, "values"), _sample(reference, "reference")
    return "better" if ours.mean() < theirs.mean() else "worse"


def _statistic(name: Statistic) -> Callable[..., NDArray[np.float64]]:
    if name not in STATISTICS:
        raise BootstrapError(f"unknown statistic '{name}'; choose one of: mean, median")
    return STATISTICS[name]


def _paired(
    values: ArrayLike, reference: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    ours, theirs = _sample(values, "values"), _sample(reference, "reference")
    if len(ours) != len(theirs):
        raise BootstrapError(
            f"a paired bootstrap needs the same prompts twice, got {len(ours)} and {len(theirs)}"
        )
    return ours, theirs


def _sample(values: ArrayLike, name: str) -> NDArray[np.float64]:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise BootstrapError(f"{name}: need one number per prompt, got shape {sample.shape}")
    if not np.isfinite(sample).all():
        bad = int(np.flatnonzero(~np.isfinite(sample))[0])
        raise BootstrapError(f"{name}: prompt number {bad} of {sample.size} is {sample[bad]}")
    return sample
