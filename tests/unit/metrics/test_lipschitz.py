import numpy as np
import pandas as pd
import pytest

from hvp_patching.metrics.lipschitz import lipschitz_by_layer, lipschitz_summary

RNG = np.random.default_rng(2)
NODES = np.array([0.0, 0.5, 1.0])


def polynomial_probes(n_prompts=3, n_heads=20):
    """Paths with f'' = polynomial + w sin(4 pi t), and the estimate that three values of f'' give.

    The wave is 0 at the three nodes; it adds w / (4 pi) to f(1) and nothing that a probe can see.
    """
    n = n_prompts * n_heads
    c = RNG.normal(size=(n, 6)) * [1.0, 1.0, 0.5, 0.3, 1.0, 3.0]
    c[:, 0] = 0.0
    factorial = np.array([1, 1, 2, 6, 24, 120])
    second = np.stack([c[:, 2:] @ (t ** np.arange(4) / factorial[:4]) for t in NODES], axis=1)
    norm = RNG.uniform(0.5, 4, size=n)
    steps = [
        np.abs(second[:, i] - second[:, j]) / (NODES[i] - NODES[j]) for i, j in ((1, 0), (2, 1))
    ]
    rate = np.max([*steps, np.abs(second[:, 2] - second[:, 0])], axis=0)
    return pd.DataFrame(
        {
            "prompt_id": np.repeat([f"p{i}" for i in range(n_prompts)], n_heads),
            "layer": np.tile(np.arange(n_heads) // 4, n_prompts),
            "index": np.tile(np.arange(n_heads) % 4, n_prompts),
            "delta_norm": norm,
            "effect": (c / factorial).sum(axis=1) + RNG.normal(0, 2, size=n) / (4 * np.pi),
            "ap": c[:, 1],
            "q": c[:, 2],
            "lipschitz": 1.5 * rate / norm**3,
            "lipschitz_scalar": rate / norm**3,
        }
    )


PROBES = polynomial_probes()
BOUND = PROBES["lipschitz"] * PROBES["delta_norm"] ** 3 / 6
RESIDUAL = np.abs(PROBES["effect"] - PROBES["ap"] - PROBES["q"] / 2)


def values(probes, **options):
    table = lipschitz_summary(probes, **options)
    assert list(table.columns) == ["quantity", "statistic", "value"]
    assert not table.duplicated(["quantity", "statistic"]).any()
    return table.set_index(["quantity", "statistic"])["value"]


def test_distributions_are_numpys():
    found = values(PROBES)
    for quantity, sample in (
        ("lipschitz_hat", PROBES["lipschitz"]),
        ("lipschitz_scalar", PROBES["lipschitz_scalar"]),
        ("cubic_bound", BOUND),
        ("actual_residual", RESIDUAL),
    ):
        expected = [np.median(sample), np.mean(sample), np.percentile(sample, 90), np.max(sample)]
        np.testing.assert_allclose(found[quantity][["median", "mean", "p90", "max"]], expected)
    ratio = BOUND / RESIDUAL
    np.testing.assert_allclose(
        found["ratio_row"][["median", "mean", "p10"]],
        [np.median(ratio), np.mean(ratio), np.percentile(ratio, 10)],
    )


def test_bound_is_counted_with_both_estimates():
    found = values(PROBES)
    holds, scalar = (RESIDUAL <= BOUND).sum(), (RESIDUAL <= BOUND / 1.5).sum()
    assert 0 < scalar < holds < 60
    assert found["bound_holds", "count"] == holds
    assert found["bound_holds", "rate_pct"] == pytest.approx(100 * holds / 60)
    assert found["bound_holds_scalar", "count"] == scalar
    assert found["bound_holds_scalar", "rate_pct"] == pytest.approx(100 * scalar / 60)


def test_sample_and_trivial_effects():
    least = PROBES["effect"].abs().median()
    found = values(PROBES, trivial_effect=least)
    kept = PROBES["effect"].abs() > least
    sample = found["sample"]
    names = ["n_prompts", "n_layers", "n_heads_total", "n_records", "n_nontrivial_records"]
    assert list(sample[names]) == [3, 5, 20, 60, 30]
    assert found["bound_holds", "n_nontrivial_records"] == 30
    assert found["lipschitz_hat", "median"] == pytest.approx(PROBES["lipschitz"][kept].median())
    assert found["bound_holds", "count"] == (RESIDUAL[kept] <= BOUND[kept]).sum()


def test_three_points_are_a_lower_bound_that_a_path_can_violate():
    # f'' = sin(4 pi t) is 0 at all three nodes, so both estimates are 0; f(1) - f'(0) = 1/(4 pi)
    wave = PROBES.head(1).assign(
        ap=0.0, q=0.0, effect=1 / (4 * np.pi), lipschitz=0.0, lipschitz_scalar=0.0
    )
    found = values(wave)
    assert found["bound_holds", "count"] == 0
    assert found["ratio_row", "median"] == 0


def test_exact_hvp_has_no_ratio_but_keeps_its_bound():
    exact = PROBES.head(4).assign(effect=lambda t: t["ap"] + t["q"] / 2, lipschitz=0.0)
    exact["ap"] = [1.0, 2.0, 4.0, 8.0]
    exact["q"] = [2.0, 4.0, 8.0, 16.0]
    exact["effect"] = 2 * exact["ap"]
    found = values(exact)
    assert found["bound_holds", "rate_pct"] == 100
    assert np.isnan(found["ratio_row", "median"])


def test_nothing_left_is_nan():
    found = values(PROBES, trivial_effect=1e9)
    assert found["sample", "n_records"] == 60
    assert found["bound_holds", "count"] == 0
    assert np.isnan(found["bound_holds", "rate_pct"])
    assert np.isnan(found["lipschitz_hat", "median"])
    assert lipschitz_by_layer(PROBES, trivial_effect=1e9).empty


def test_layers_are_summarised_one_by_one():
    table = lipschitz_by_layer(PROBES)
    assert list(table["layer"]) == list(range(5))
    assert 0 < table["bound_holds_rate"].min() < 1
    for row in table.itertuples():
        inside = PROBES["layer"] == row.layer
        one = PROBES[inside]
        assert row.n == 12
        assert row.lipschitz_median == pytest.approx(np.median(one["lipschitz"]))
        assert row.lipschitz_scalar_median == pytest.approx(np.median(one["lipschitz_scalar"]))
        assert row.lipschitz_max == one["lipschitz"].max()
        assert row.delta_norm_median == pytest.approx(np.median(one["delta_norm"]))
        assert row.bound_holds_rate == pytest.approx((RESIDUAL[inside] <= BOUND[inside]).mean())
