"""Statistics and their intervals against numbers made in another way."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hvp_patching.claims.reading import ClaimsError, Query
from hvp_patching.claims.selection import select
from hvp_patching.claims.statistics import STATISTICS, estimate

RNG = np.random.default_rng(1)


def test_rank_correlation_is_scipys():
    x, y = RNG.normal(size=(2, 50))
    assert STATISTICS["spearman"](x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert np.isnan(STATISTICS["spearman"](x, np.ones(50)))


def test_a_power_law_has_its_exponent():
    steps = np.repeat([2.0, 4.0, 8.0], 2)
    assert STATISTICS["power"](steps, 3 / steps**2) == pytest.approx(-2)


def test_shares_and_contrasts():
    x, by = np.array([4.0, 1.0, 1.0, 2.0]), np.array([True, False, False, False])
    assert STATISTICS["excess"](x, by) == pytest.approx(0.5 - 0.25)
    assert STATISTICS["contrast"](x, by) == pytest.approx(4 - 4 / 3)
    assert STATISTICS["enrichment"](x, np.ones(4), by) == pytest.approx(2)
    assert STATISTICS["lead"](x, by) == pytest.approx(2)


def test_gains_that_shrink_and_grow():
    steps = np.array([1.0, 2.0, 3.0])
    assert STATISTICS["growing_gain"](steps, np.array([1.0, 0.5, 0.4])) < 0
    assert STATISTICS["growing_gain"](steps, np.array([1.0, 0.9, 0.4])) > 0
    assert STATISTICS["largest_rise"](steps, np.array([1.0, 0.5, 0.6])) == pytest.approx(0.1)


def test_the_interval_resamples_prompts_not_rows():
    means = RNG.normal(size=30)
    frame = pd.DataFrame({"prompt_id": np.repeat(np.arange(30), 20), "x": np.repeat(means, 20)})
    found = estimate(frame, Query("q", "", statistic="mean", of={"x": "x"}))
    spread = means.std() / np.sqrt(30)
    assert found.n == 30
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.15)


def test_a_column_that_is_not_there_is_named():
    frame = pd.DataFrame({"prompt_id": ["a"], "estimator": ["ap"], "x": [1.0]})
    query = Query("q", "", pivot={"index": ["prompt_id"], "columns": "estimator", "values": "x"})
    with pytest.raises(ClaimsError, match="query 'q': its table has no column 'hvp'"):
        estimate(select(frame, query), Query("q", "", statistic="mean", of={"x": "hvp"}))
    derived = Query("q", "", pivot=query.pivot, derive={"d": "hvp - ap"})
    with pytest.raises(ClaimsError, match=r"its table has no .*hvp"):
        select(frame, derived)


def test_ends_of_several_rows_are_those_of_the_row_that_decides():
    frame = pd.DataFrame({"x": [0.4, 0.2], "low": [-0.1, 0.1], "high": [0.6, 0.3]})
    query = Query("q", "", statistic="minimum", of={"x": "x"}, interval="low high")
    found = estimate(frame, query)
    assert (found.value, found.low, found.high) == pytest.approx((0.2, -0.1, 0.3))
    with pytest.raises(ClaimsError, match="no interval of a mean of ends"):
        estimate(frame, Query("q", "", statistic="mean", of={"x": "x"}, interval="low high"))


def test_steps_are_read_off_the_names_of_methods_too():
    frame = pd.DataFrame({"method": ["eap", "ms_hvp_joint_5"]})
    assert select(frame, Query("q", ""))["steps"].tolist() == pytest.approx(
        [np.nan, 5], nan_ok=True
    )
