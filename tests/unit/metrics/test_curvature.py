import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hvp_patching.metrics.curvature import curvature_gap, curvature_summary
from hvp_patching.metrics.errors import ScoresError

COST = {"ap": 1, "hvp": 2, "local_curvature": 1}


def scores(ap, network, local, truth, prompt="p0"):
    """Long scores whose second-order terms are given: HVP and the local correction add half."""
    ap, network, local = map(np.asarray, (ap, network, local))
    estimates = {"ap": ap, "hvp": ap + network / 2, "local_curvature": ap + local / 2}
    parts = [
        pd.DataFrame(
            {
                "prompt_id": prompt,
                "layer": np.arange(len(ap)) // 3,
                "index": np.arange(len(ap)) % 3,
                "estimator": name,
                "estimate": estimate,
                "truth": truth,
                "cost": COST[name],
            }
        )
        for name, estimate in estimates.items()
    ]
    return pd.concat(parts, ignore_index=True)


def random_scores(seed=0, n=40, prompts=3, link=0.0):
    """Neurons whose truth is the network's second-order Taylor value, up to a cubic remainder."""
    draw = np.random.default_rng(seed)
    parts = []
    for prompt in range(prompts):
        ap, network, other = draw.normal(size=(3, n)) * [[1.0], [0.5], [0.01]]
        local = other + link * network
        truth = ap + network / 2 + 0.01 * draw.normal(size=n)
        parts.append(scores(ap, network, local, truth, prompt=f"p{prompt}"))
    return pd.concat(parts, ignore_index=True)


def test_terms_are_read_off_the_scores():
    gap = curvature_gap(scores([1.0, -2.0, 0.5], [0.4, -1.0, 0.0], [0.1, 0.0, 3.0], [2, -2, 1e-9]))
    assert list(gap.columns) == [
        "prompt_id", "layer", "index", "ap", "network", "local", "ap_error",
    ]  # fmt: skip
    np.testing.assert_allclose(gap["network"], [0.4, -1.0, 0.0], atol=1e-15)
    np.testing.assert_allclose(gap["local"], [0.1, 0.0, 3.0], atol=1e-15)
    np.testing.assert_allclose(gap["ap_error"], [0.5, 0.0, np.nan])


def test_order_of_the_rows_does_not_matter():
    table = random_scores()
    shuffled = table.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(curvature_gap(table), curvature_gap(shuffled))
    pd.testing.assert_frame_equal(curvature_summary(table), curvature_summary(shuffled))


def test_summary_agrees_with_scipy():
    table = random_scores(link=0.02)
    wide = table.pivot(index=["prompt_id", "layer", "index"], columns="estimator")
    ap = wide["estimate", "ap"].to_numpy()
    network = 2 * (wide["estimate", "hvp"].to_numpy() - ap)
    local = 2 * (wide["estimate", "local_curvature"].to_numpy() - ap)
    truth = wide["truth", "ap"].to_numpy()
    error = abs((ap - truth) / truth)
    row = curvature_summary(table).iloc[0]
    assert (row["n_prompts"], row["n"], row["n_zero_local"]) == (3, 120, 0)
    expected = {
        "ratio_median": np.median(abs(network / local)),
        "ratio_low": np.quantile(abs(network / local), 0.25),
        "ratio_high": np.quantile(abs(network / local), 0.75),
        "spearman": stats.spearmanr(abs(network), abs(local)).statistic,
        "pearson": stats.pearsonr(abs(network), abs(local)).statistic,
        "spearman_signed": stats.spearmanr(network, local).statistic,
        "pearson_signed": stats.pearsonr(network, local).statistic,
        "ap_error_spearman_network": stats.spearmanr(abs(network / ap), error).statistic,
        "ap_error_spearman_local": stats.spearmanr(abs(local / ap), error).statistic,
    }
    for name, value in expected.items():
        assert value != 0
        assert row[name] == pytest.approx(value, rel=1e-9), name


def test_local_terms_that_follow_the_network_are_found():
    linked, apart = curvature_summary(random_scores(link=-0.5)), curvature_summary(random_scores())
    assert linked["spearman_signed"].item() < -0.95
    assert linked["spearman"].item() > 0.9
    assert abs(apart["spearman"].item()) < 0.3
    assert linked["ratio_median"].item() == pytest.approx(2, rel=0.05)
    assert apart["ratio_median"].item() > 20


def test_neurons_without_local_curvature_have_no_ratio():
    row = curvature_summary(
        scores([1.0] * 4, [0.4, 0.2, 0.6, 5.0], [0.1, 0.1, 0.2, 0.0], [1.0, 2.0, 3.0, 4.0])
    ).iloc[0]
    assert row["n_zero_local"] == 1
    assert row["ratio_median"] == pytest.approx(3)
    assert row["n"] == 4


@pytest.mark.parametrize(
    ("network", "local"), [([1.0, 2.0], [1.0, 3.0]), ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])]
)
def test_too_little_to_correlate_is_nan(network, local):
    n = len(network)
    row = curvature_summary(scores([1.0] * n, network, local, [1.0, 2.0, 3.0][:n])).iloc[0]
    assert math.isnan(row["spearman"])
    assert math.isnan(row["pearson_signed"])


@pytest.mark.parametrize("absent", ["hvp", "local_curvature"])
@pytest.mark.parametrize("function", [curvature_gap, curvature_summary])
def test_an_absent_estimator_is_named(function, absent):
    table = random_scores()
    with pytest.raises(ScoresError, match=f"lack {absent}: add"):
        function(table[table["estimator"] != absent])


def test_spoiled_scores_are_refused():
    table = random_scores()
    table.loc[5, "estimate"] = np.inf
    for function in (curvature_gap, curvature_summary):
        with pytest.raises(ScoresError, match="prompt 'p0': estimate"):
            function(table)
