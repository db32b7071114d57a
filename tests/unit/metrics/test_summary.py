"""Means and medians over prompts, with intervals and reductions against AP."""

import numpy as np
import pandas as pd
import pytest

from hvp_patching.aggregates import FRAMES
from hvp_patching.metrics.errors import ScoresError, prompt_errors
from hvp_patching.metrics.resampling import bootstrap_interval, reduction
from hvp_patching.metrics.summary import medians, summarize, summarize_errors


def errors(**by_estimator):
    frames = [
        pd.DataFrame(
            {
                "prompt_id": [f"p{i}" for i in range(len(values))],
                "estimator": estimator,
                "cost": cost,
                "n_components": 9,
                "n_nontrivial": 7,
                "top_k_relative_error": values,
                "median_relative_error": np.array(values) ** 2,
            }
        )
        for cost, (estimator, values) in enumerate(by_estimator.items(), start=1)
    ]
    return pd.concat(frames, ignore_index=True)


AP = [0.4, 0.5, 0.6, 0.7, 0.55, 0.45]
HVP = [0.2, 0.3, 0.1, 0.2, 0.25, 0.15]
GIM = [0.8, 0.9, 0.7, 0.8, 0.95, 0.85]


def test_one_line_per_method_with_interval_and_range():
    table = summarize_errors(errors(ap=AP, hvp=HVP, gim=GIM))
    assert set(table.columns) == set(FRAMES["summary"].columns)
    table = table.set_index("estimator")
    assert table.loc["hvp", "value"] == pytest.approx(0.2)
    assert table.loc["hvp", "n_prompts"] == 6
    assert list(table["cost"]) == [1, 2, 3]
    assert (table.loc["gim", "ci_low"], table.loc["gim", "ci_high"]) == bootstrap_interval(GIM)
    assert (table.loc["ap", "lowest"], table.loc["ap", "highest"]) == (0.4, 0.7)


def test_order_of_rows_does_not_matter_to_errors():
    table = errors(ap=AP, hvp=HVP)
    shuffled = table.sample(frac=1, random_state=2)
    for function in (summarize_errors, medians):
        one, other = (function(t).set_index("estimator") for t in (table, shuffled))
        pd.testing.assert_frame_equal(one, other.loc[one.index])


def test_groups_are_kept_apart():
    parts = [errors(ap=AP).assign(k=5), errors(ap=GIM).assign(k=10)]
    table = summarize(pd.concat(parts), by=["k"]).set_index("k")
    assert table.loc[5, "value"] == pytest.approx(np.mean(AP))
    assert table.loc[10, "value"] == pytest.approx(np.mean(GIM))


def test_prompts_without_a_value_of_any_estimator_are_left_out():
    table = summarize_errors(errors(ap=[0.2, np.nan], hvp=[0.1, np.nan]))
    assert table["n_prompts"].tolist() == [1, 1]
    assert table["value"].tolist() == [0.2, 0.1]
    empty = summarize_errors(errors(ap=[np.nan], hvp=[np.nan]))
    assert empty["n_prompts"].tolist() == [0, 0]
    assert empty[["value", "ci_low", "lowest"]].isna().all(axis=None)


def test_estimators_must_cover_the_same_prompts():
    short = errors(ap=AP, hvp=HVP[:5])
    with pytest.raises(ScoresError, match=r"^estimator 'hvp' .* prompt 'p5' \(5 of 6"):
        summarize_errors(short)
    with pytest.raises(ScoresError, match=r"^5, estimator 'hvp'"):
        summarize(short.assign(k=5), by=["k"])
    with pytest.raises(ScoresError, match="estimator 'hvp' has no median_relative_error"):
        medians(short)


def test_medians_have_their_reduction_against_ap():
    table = medians(errors(ap=AP, hvp=HVP, gim=GIM), n_resamples=300, seed=4)
    assert set(table.columns) == set(FRAMES["medians"].columns)
    table = table.set_index("estimator")
    squares = {name: np.array(v) ** 2 for name, v in (("ap", AP), ("hvp", HVP), ("gim", GIM))}
    assert table.loc["ap", "value"] == pytest.approx(np.median(squares["ap"]))
    columns = ["reduction", "reduction_low", "reduction_high"]
    assert table.loc["ap", columns].isna().all()
    for name in ("hvp", "gim"):
        expected = reduction(squares[name], squares["ap"], "median", 300, 4)
        assert table.loc[name, columns].tolist() == pytest.approx(expected)
    assert table.loc["gim", "reduction"] < 0 < table.loc["hvp", "reduction"]
    assert table.loc["hvp", ["n_components", "n_nontrivial", "n_all_prompts"]].tolist() == [
        54, 42, 6,
    ]  # fmt: skip


def test_medians_need_the_reference():
    with pytest.raises(ScoresError, match="no errors of 'ap', which the others are set against"):
        medians(errors(hvp=HVP))


def scores(prompt, truth, **estimates):
    parts = [
        pd.DataFrame(
            {
                "prompt_id": prompt,
                "layer": 0,
                "index": range(len(truth)),
                "estimator": name,
                "estimate": estimate,
                "truth": truth,
                "cost": cost,
            }
        )
        for cost, (name, estimate) in enumerate(estimates.items(), start=1)
    ]
    return pd.concat(parts, ignore_index=True)


def test_medians_are_those_of_prompt_medians():
    table = pd.concat(
        [
            scores("a", [2.0, 4.0, 8.0], ap=[1.0] * 3, hvp=[1.1] * 3),
            scores("b", [4.0, 4.0, 5.0], ap=[3.0] * 3, hvp=[4.0] * 3),
        ]
    )
    found = medians(prompt_errors(table)).set_index("estimator")
    assert list(found.index) == ["ap", "hvp"]
    assert found.loc["ap", "value"] == pytest.approx((0.75 + 0.25) / 2)
    assert found.loc["hvp", "value"] == pytest.approx((2.9 / 4 + 0.0) / 2)
    assert found["n_prompts"].tolist() == [2, 2]
    assert found.loc["ap", ["ci_low", "ci_high"]].tolist() == pytest.approx([0.25, 0.75])
    assert found["cost"].tolist() == [1, 2]


def test_prompts_without_effects_are_left_out_of_medians():
    silent = scores("silent", [0.0, 1e-9, 2e-9], ap=[1.0] * 3, hvp=[1.1] * 3)
    loud = scores("loud", [2.0, 4.0, 8.0], ap=[1.0] * 3, hvp=[1.1] * 3)
    found = medians(prompt_errors(pd.concat([loud, silent]))).set_index("estimator")
    assert found["n_prompts"].tolist() == [1, 1]
    assert found["n_all_prompts"].tolist() == [2, 2]
    assert found["n_nontrivial"].tolist() == [3, 3]
    assert found.loc["ap", "value"] == pytest.approx(0.75)
    nothing = medians(prompt_errors(silent))
    assert nothing["n_prompts"].tolist() == [0, 0]
    assert nothing[["value", "reduction"]].isna().all(axis=None)
