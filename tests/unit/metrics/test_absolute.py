"""Absolute errors over every head and prompt."""

import numpy as np
import pandas as pd
import pytest

from hvp_patching.aggregates import FRAMES
from hvp_patching.metrics.absolute import absolute_errors
from hvp_patching.metrics.errors import ScoresError
from hvp_patching.metrics.resampling import reduction


def scores(n_prompts=4, n=6, seed=0):
    draw = np.random.default_rng(seed)
    parts = []
    for prompt in range(n_prompts):
        truth = draw.normal(size=n)
        for cost, (name, spread) in enumerate((("ap", 0.4), ("hvp", 0.1), ("gim", 2.0)), start=1):
            parts.append(
                pd.DataFrame(
                    {
                        "prompt_id": f"p{prompt}",
                        "layer": np.arange(n) // 3,
                        "index": np.arange(n) % 3,
                        "estimator": name,
                        "estimate": truth + draw.normal(size=n) * spread,
                        "truth": truth,
                        "cost": cost,
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def test_errors_are_means_over_heads_and_prompts():
    table = scores()
    found = absolute_errors(table.sample(frac=1, random_state=3), n_resamples=300)
    assert set(found.columns) == set(FRAMES["absolute_errors"].columns)
    assert found["estimator"].tolist() == ["ap", "hvp"]
    assert found[["n_prompts", "n_components", "n_records"]].values.tolist() == [[4, 6, 24]] * 2
    miss = (table["estimate"] - table["truth"]).abs()
    by_prompt = {
        name: miss[table["estimator"] == name].groupby(table["prompt_id"]).mean()
        for name in ("ap", "hvp")
    }
    for row in found.itertuples():
        assert row.mae == pytest.approx(by_prompt[row.estimator].mean())
    assert found["relative_to_ap"].tolist() == pytest.approx([1, found["mae"][1] / found["mae"][0]])
    expected = reduction(by_prompt["hvp"], by_prompt["ap"], "mean", 300)
    columns = ["reduction", "reduction_low", "reduction_high"]
    assert found.loc[1, columns].tolist() == pytest.approx(expected)
    assert found.loc[0, columns].isna().all()


def test_no_error_of_ap_is_nothing_to_relate_to():
    table = scores()
    exact = table.assign(estimate=table["truth"])
    found = absolute_errors(exact)
    assert found["mae"].tolist() == [0, 0]
    assert found[["relative_to_ap", "reduction"]].isna().all(axis=None)


def test_every_head_of_every_prompt_must_be_scored():
    table = scores()
    for method in ("ap", "hvp"):
        with pytest.raises(ScoresError, match=f"'{method}' is not scored on all heads"):
            absolute_errors(table[table["estimator"] != method])
        gone = table[(table["estimator"] == method) & (table["prompt_id"] == "p2")].index[0]
        with pytest.raises(ScoresError, match=f"'p2': estimator '{method}' scores 5 components"):
            absolute_errors(table.drop(index=gone))
    short = table[(table["prompt_id"] != "p1") | (table["layer"] == 0)]
    with pytest.raises(ScoresError, match="prompts differ in their heads"):
        absolute_errors(short)
