"""Reductions from the first n prompts."""

import numpy as np
import pandas as pd
import pytest

from hvp_patching.metrics.errors import ScoresError
from hvp_patching.metrics.prefix import reduction_by_prefix


def scores(truth, prompt="p0", **estimates):
    n = len(truth)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "prompt_id": prompt,
                    "layer": np.arange(n) // 3,
                    "index": np.arange(n) % 3,
                    "estimator": name,
                    "estimate": estimate,
                    "truth": truth,
                    "cost": cost,
                }
            )
            for cost, (name, estimate) in enumerate(estimates.items(), start=1)
        ],
        ignore_index=True,
    )


def random_scores(n_prompts, n=12, seed=0):
    draw = np.random.default_rng(seed)
    tables = []
    for p in draw.permutation(n_prompts):
        truth = draw.normal(size=n)
        ap, hvp = truth + draw.normal(size=(2, n)) * [[0.4], [0.1]]
        tables.append(scores(truth, f"p{p}", ap=ap, hvp=hvp))
    return pd.concat(tables, ignore_index=True)


def test_prefixes_by_hand():
    first = scores([1.0, 2.0, 4.0], "late", ap=[1.1, 2.4, 5.2], hvp=[1.1, 2.1, 4.0])
    second = scores([1.0, -1.0, 1e-9], "early", ap=[1.4, -1.6, 9.0], hvp=[1.08, -0.7, 3.0])
    table = reduction_by_prefix(pd.concat([first, second], ignore_index=True))
    # AP misses 0.1, 0.2, 0.3, then also 0.4, 0.6; HVP 0.1, 0.05, 0, then also 0.08, 0.3
    assert list(table["n_prompts"]) == [1, 2]
    np.testing.assert_allclose(table["reduction"], [1 - 0.05 / 0.2, 1 - 0.08 / 0.3])


def test_prefixes_are_those_of_the_stored_order():
    table = random_scores(6)
    result = reduction_by_prefix(table, "hvp", "ap", trivial_effect=0.3)
    order = list(dict.fromkeys(table["prompt_id"]))
    assert order != sorted(order)
    for n, reduction in zip(result["n_prompts"], result["reduction"], strict=True):
        pooled = {"ap": [], "hvp": []}
        for row in table.itertuples():
            if row.prompt_id in order[:n] and abs(row.truth) > 0.3:
                pooled[row.estimator].append(abs(row.estimate - row.truth) / abs(row.truth))
        assert reduction == pytest.approx(1 - np.median(pooled["hvp"]) / np.median(pooled["ap"]))
    assert len(result) == 6


def test_prefixes_without_any_effect_or_error_have_no_reduction():
    trivial = scores([1e-9, -2e-9], "p0", ap=[1.0, 1.0], hvp=[0.5, 0.5])
    exact = scores([1.0, 2.0], "p0", ap=[1.0, 2.0], hvp=[1.1, 2.0])
    for first in (trivial, exact):
        second = scores([1.0, 2.0, 4.0], "p1", ap=[1.1, 2.4, 5.2], hvp=[1.1, 2.1, 4.0])
        reduction = reduction_by_prefix(pd.concat([first, second], ignore_index=True))["reduction"]
        assert np.isnan(reduction[0])
        assert np.isfinite(reduction[1])


def test_prefixes_need_both_estimators_on_every_prompt():
    table = random_scores(3)
    with pytest.raises(ScoresError, match="estimator 'ms_hvp_5' is scored on 0 of 3 prompts"):
        reduction_by_prefix(table, "ms_hvp_5")
    short = table[(table["estimator"] == "hvp") | (table["prompt_id"] != "p1")]
    with pytest.raises(ScoresError, match="estimator 'ap' is scored on 2 of 3 prompts"):
        reduction_by_prefix(short)
