"""Quantile and bounds against exact counting: nothing here is simulated where it can be summed."""

import math
from math import comb

import numpy as np
import pytest
from scipy import stats

from hvp_patching.metrics.certificates import (
    binomial_interval,
    check_alpha,
    conformal_quantile,
    most_missed,
    needed,
)


@pytest.mark.parametrize("percent", [1, 5, 7, 10, 20, 29, 50, 90, 99])
def test_the_rank_is_exact_where_rounding_would_move_it(percent):
    for n in range(1, 140):
        rank = -(-(n + 1) * (100 - percent) // 100)  # in whole numbers
        expected = rank if rank <= n else math.inf
        assert conformal_quantile(np.arange(n, 0, -1), percent / 100) == expected
        assert (n >= needed(percent / 100)) == (expected < math.inf)


def test_the_quantile_covers_one_more_value_as_often_as_it_says():
    """Over all ways to leave one of n + 1 values out, the share covered is rank / (n + 1)."""
    values = np.random.default_rng(1).lognormal(size=30) ** 2
    for alpha, share in ((0.1, 27 / 30), (0.2, 24 / 30), (0.5, 15 / 30)):
        held = [
            values[i] <= conformal_quantile(np.delete(values, i), alpha) for i in range(len(values))
        ]
        assert np.mean(held) == pytest.approx(share)
        assert share >= 1 - alpha


def test_without_values_or_with_nan():
    assert conformal_quantile([], 0.5) == math.inf
    with pytest.raises(ValueError, match="a residual is NaN"):
        conformal_quantile([1.0, math.nan], 0.5)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("drawn", [0, 1, 7, 12, 29, 30])
def test_the_bound_on_the_missed_fails_as_seldom_as_it_says(alpha, drawn):
    """Summed over all draws, for every number of components that have the property."""
    n, failing = 30, []
    for k in range(n + 1):
        ways = [comb(k, seen) * comb(n - k, drawn - seen) for seen in range(drawn + 1)]
        assert sum(ways) == comb(n, drawn)
        fails = [
            count
            for seen, count in enumerate(ways)
            if count and most_missed(n, drawn, seen, alpha) < k - seen
        ]
        failing.append(sum(fails) / comb(n, drawn))
    assert max(failing) <= alpha
    if drawn == 12:  # not by being far too careful
        assert max(failing) > alpha / 3


def test_the_bound_is_the_largest_that_the_draw_allows():
    assert most_missed(30, 0, 0, 0.1) == 30  # nothing drawn, nothing known
    assert most_missed(30, 30, 4, 0.1) == 0
    for seen in (0, 2):
        k = most_missed(200, 40, seen, 0.1) + seen
        assert stats.hypergeom.cdf(seen, 200, k, 40) > 0.1
        assert stats.hypergeom.cdf(seen, 200, k + 1, 40) <= 0.1
    with pytest.raises(ValueError, match="5 of 3 drawn from 10 is impossible"):
        most_missed(10, 3, 5, 0.1)


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (17, 20), (20, 20), (450, 500)])
def test_the_binomial_interval_is_the_exact_one(hits, n):
    expected = stats.binomtest(hits, n).proportion_ci(method="exact")
    assert binomial_interval(hits / n, n) == pytest.approx((expected.low, expected.high))


def test_no_trials_no_interval():
    assert all(math.isnan(end) for end in binomial_interval(math.nan, 0))


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.5, math.nan, math.inf, "0.1", None, True])
def test_what_is_no_alpha_is_named(alpha):
    with pytest.raises(ValueError, match=r"^alpha must .*, got ") as raised:
        check_alpha(alpha)
    assert repr(alpha) in str(raised.value)
