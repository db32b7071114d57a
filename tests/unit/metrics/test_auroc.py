import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from hvp_patching.metrics.auroc import auroc_by_quartile


def probes(n_prompts=5, n_heads=40, seed=0):
    """Patches of many sizes; rho predicts AP's error up to noise."""
    rng = np.random.default_rng(seed)
    n = n_prompts * n_heads
    ap, size = rng.normal(size=n), 10 ** rng.uniform(-1, 1, size=n)
    half_q = ap * rng.choice([-1, 1], size=n) * 10 ** rng.uniform(-2, 0.7, size=n)
    return pd.DataFrame(
        {
            "prompt_id": np.repeat([f"p{i}" for i in range(n_prompts)], n_heads),
            "layer": np.tile(np.arange(n_heads) // 5, n_prompts),
            "index": np.tile(np.arange(n_heads) % 5, n_prompts),
            "delta_norm": size,
            "ap": ap,
            "q": 2 * half_q,
            "effect": ap + half_q * (1 + rng.normal(0, 0.6, size=n)),
        }
    )


def expected_auroc(table, unreliable=0.5):
    label = ((table["ap"] - table["effect"]) / table["effect"]).abs() > unreliable
    return roc_auc_score(label, (table["q"] / 2 / table["ap"]).abs())


@pytest.mark.parametrize("quantity", ["delta_norm", "effect"])
def test_quartiles_have_scikit_learns_auroc(quantity):
    table = probes()
    result = auroc_by_quartile(table, n_resamples=50).query("quantity == @quantity")
    result = result.set_index("quartile")
    number = pd.qcut(table[quantity].abs(), 4, labels=["Q1", "Q2", "Q3", "Q4"])
    for name, inside in table.groupby(number, observed=True):
        row = result.loc[name]
        assert row["auroc"] == pytest.approx(expected_auroc(inside))
        assert 0.5 < row["auroc"] < 1
        assert row["n"] == len(inside) == 50
        assert row["low"] <= inside[quantity].abs().min()
        assert row["high"] >= inside[quantity].abs().max()
        assert 0 < row["n_unreliable"] < row["n"]
    assert list(result.index) == ["Q1", "Q2", "Q3", "Q4", "all"]
    assert result.loc["all", "auroc"] == pytest.approx(expected_auroc(table))
    assert result.loc["all", "n"] == 200
    assert result.loc["Q1", "high"] == result.loc["Q2", "low"]


def test_interval_is_that_of_resampled_prompts():
    table = probes(n_prompts=6)
    row = auroc_by_quartile(table, n_resamples=4000).query("quartile == 'all'").iloc[0]
    by_prompt = [group for _, group in table.groupby("prompt_id")]
    rng = np.random.default_rng(7)
    drawn = [
        expected_auroc(pd.concat([by_prompt[i] for i in rng.integers(6, size=6)]))
        for _ in range(400)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    # other resamples: equal up to Monte Carlo error
    assert row["ci_low"] == pytest.approx(low, abs=0.15 * (high - low))
    assert row["ci_high"] == pytest.approx(high, abs=0.15 * (high - low))
    assert row["ci_low"] < row["auroc"] < row["ci_high"]


def test_one_prompt_with_ties_is_exact_in_every_resample():
    # two prompts of equal content: each resample has the AUROC of one of them
    table = probes(n_prompts=1).assign(q=lambda t: t["ap"].abs() * (t["layer"] % 3))
    both = pd.concat([table, table.assign(prompt_id="other")])
    result = auroc_by_quartile(both, n_resamples=20).query("quartile == 'all'")
    np.testing.assert_allclose(result["ci_low"], expected_auroc(table))
    np.testing.assert_allclose(result["ci_high"], expected_auroc(table))
    assert auroc_by_quartile(table)[["ci_low", "ci_high"]].isna().all(axis=None)
    assert auroc_by_quartile(table)["auroc"].notna().any()


def test_order_of_components_does_not_matter_but_prompts_do():
    table = probes()
    one, other = (
        auroc_by_quartile(t, n_resamples=100) for t in (table, table.sample(frac=1, random_state=1))
    )
    columns = ["low", "high", "n", "n_unreliable", "auroc"]
    pd.testing.assert_frame_equal(one[columns], other[columns])
    regrouped = table.assign(prompt_id=np.tile(["a", "b"], 100))
    assert not np.allclose(
        auroc_by_quartile(regrouped)["ci_low"], auroc_by_quartile(table)["ci_low"]
    )


def test_no_first_order_term_scores_highest_where_curvature_is_left():
    table = pd.DataFrame(
        {
            "prompt_id": ["a", "a", "b", "b"],
            "delta_norm": 1.0,
            "ap": [0.0, 1.0, 1.0, 0.0],
            "q": [1.0, 4.0, 0.2, 0.0],
            "effect": [0.5, 1.1, 1.1, 0.1],
        }
    )
    result = auroc_by_quartile(table, n_resamples=10).query("quartile == 'all'")
    # unreliable: the first (rho = inf) and the last (nothing seen: rho = 0); reliable: 2 and 0.1
    assert list(result["n_unreliable"]) == [2, 2]
    assert list(result["auroc"]) == [0.5, 0.5]


def test_trivial_effects_and_the_label_threshold_count():
    table = probes()
    tiny_effect = table["effect"].abs() <= 0.05
    assert tiny_effect.any()
    result = auroc_by_quartile(table, unreliable=1.0, trivial_effect=0.05, n_resamples=10)
    whole = result.query("quartile == 'all'").iloc[0]
    assert whole["n"] == (~tiny_effect).sum()
    assert whole["auroc"] == pytest.approx(expected_auroc(table[~tiny_effect], unreliable=1.0))


def test_quartiles_of_one_class_and_empty_tables_are_nan():
    few = probes(n_prompts=2, n_heads=6)
    few["effect"] = few["ap"] * 1.1  # AP is reliable everywhere
    result = auroc_by_quartile(few, n_resamples=10)
    assert len(result) == 10
    assert result[["auroc", "ci_low", "ci_high"]].isna().all(axis=None)
    assert list(result["n"]) == [3, 3, 3, 3, 12] * 2
    nothing = auroc_by_quartile(few, trivial_effect=1e9, n_resamples=10)
    assert list(nothing["n"]) == [0] * 10
    assert nothing["auroc"].isna().all()


def test_equal_sizes_share_a_quartile():
    result = auroc_by_quartile(probes().assign(delta_norm=2.0), n_resamples=10)
    assert list(result.query("quantity == 'delta_norm'")["n"]) == [200, 0, 0, 0, 200]
