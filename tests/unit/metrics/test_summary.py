import numpy as np
import pandas as pd
import pytest

from hvp_patching.metrics.resampling import bootstrap_interval, paired_bootstrap_p
from hvp_patching.metrics.errors import ScoresError
from hvp_patching.metrics.summary import summarize_errors


def errors(**by_estimator):
    frames = [
        pd.DataFrame(
            {
                "model": "m",
                "task": "ioi",
                "prompt_id": [f"p{i}" for i in range(len(values))],
                "estimator": estimator,
                "cost": cost,
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


def test_one_line_per_method_with_interval_p_and_mark():
    table = summarize_errors(errors(ap=AP, hvp=HVP, gim=GIM)).set_index("estimator")
    assert list(table["mark"]) == ["none", "better", "worse"]
    assert table.loc["hvp", "value"] == pytest.approx(0.2)
    assert table.loc["hvp", "n_prompts"] == 6
    assert list(table["cost"]) == [1, 2, 3]
    assert (table.loc["gim", "ci_low"], table.loc["gim", "ci_high"]) == bootstrap_interval(GIM)
    assert np.isnan(table.loc["ap", "p_vs_ap"])
    assert table.loc["hvp", "p_vs_ap"] == paired_bootstrap_p(HVP, AP)


def test_order_of_rows_does_not_unpair_prompts():
    table = errors(ap=AP, hvp=HVP)
    shuffled = table.sample(frac=1, random_state=2)
    one, other = (summarize_errors(t).set_index("estimator") for t in (table, shuffled))
    pd.testing.assert_frame_equal(one, other.loc[one.index])


def test_median_of_another_column():
    table = summarize_errors(
        errors(ap=AP, hvp=HVP), column="median_relative_error", statistic="median"
    ).set_index("estimator")
    assert table.loc["ap", "value"] == pytest.approx(np.median(np.array(AP) ** 2))


def test_settings_are_kept_apart():
    table = pd.concat([errors(ap=AP), errors(ap=GIM).assign(task="factual")])
    result = summarize_errors(table).set_index("task")
    assert result.loc["factual", "value"] == pytest.approx(np.mean(GIM))
    assert result.loc["ioi", "model"] == "m"


def test_reference_must_be_there():
    with pytest.raises(ScoresError, match="m, ioi: no errors of 'ap'"):
        summarize_errors(errors(hvp=HVP))


def test_estimators_must_cover_the_same_prompts():
    with pytest.raises(ScoresError, match=r"m, ioi: estimator 'hvp' .* prompt 'p5' \(5 of 6"):
        summarize_errors(errors(ap=AP, hvp=HVP[:5]))
