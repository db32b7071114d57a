import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hvp_patching.aggregates import FRAMES
from hvp_patching.metrics.errors import ScoresError
from hvp_patching.metrics.paired import paired, paired_comparison, tally


def errors(column="top_k_relative_error", **by_estimator):
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "prompt_id": [f"p{i}" for i in range(len(values))],
                    "estimator": name,
                    "cost": 10,
                    column: values,
                }
            )
            for name, values in by_estimator.items()
        ],
        ignore_index=True,
    )


RNG = np.random.default_rng(7)
IG = RNG.uniform(0.1, 0.5, size=30)
BETTER = IG - RNG.uniform(0.01, 0.05, size=30)
SIMILAR = IG + RNG.permutation(np.linspace(-0.05, 0.052, 30))


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [("better", "ig", "win"), ("ig", "better", "loss"), ("similar", "ig", "tie")],
)
def test_verdicts(first, second, verdict):
    table = errors(ig=IG, better=BETTER, similar=SIMILAR)
    row = paired_comparison(table.sample(frac=1, random_state=0), first, second, 1000, 0)
    values = {"ig": IG, "better": BETTER, "similar": SIMILAR}
    assert row["verdict"] == verdict
    assert (row["first"], row["second"], row["n_prompts"]) == (first, second, 30)
    assert row["first_value"] == pytest.approx(values[first].mean())
    assert row["second_value"] == pytest.approx(values[second].mean())
    assert row["difference"] == pytest.approx(values[first].mean() - values[second].mean())
    assert (row["p"] < 0.05) == (verdict != "tie")
    assert (row["ci_low"] < 0 < row["ci_high"]) == (verdict == "tie")


def test_large_samples_agree_with_the_paired_t_test():
    draw = np.random.default_rng(3)
    theirs = draw.normal(1, 0.2, size=800)
    gap = draw.normal(0, 0.2, size=800)
    ours = theirs + gap - gap.mean() + 0.012
    row = paired_comparison(errors(a=ours, b=theirs), "a", "b", n_resamples=10_000, seed=0)
    expected = stats.ttest_rel(ours, theirs)
    assert 0.05 < expected.pvalue < 0.15
    assert row["p"] == pytest.approx(expected.pvalue, abs=0.02)
    interval = expected.confidence_interval(0.95)
    assert row["ci_low"] == pytest.approx(interval.low, abs=0.001)
    assert row["ci_high"] == pytest.approx(interval.high, abs=0.001)


def test_alpha_moves_verdict_and_interval():
    draw = np.random.default_rng(3)
    theirs = draw.normal(1, 0.2, size=800)
    table = errors(a=theirs - 0.013 - draw.normal(0, 0.2, size=800), b=theirs)
    strict, lax = (paired_comparison(table, "a", "b", 2000, 0, alpha) for alpha in (0.001, 0.4))
    assert (strict["verdict"], lax["verdict"]) == ("tie", "win")
    assert strict["ci_low"] < lax["ci_low"] < lax["ci_high"] < strict["ci_high"]


def test_one_prompt_is_a_tie_without_interval():
    row = paired_comparison(errors(a=[0.1], b=[0.5]), "a", "b")
    assert row["verdict"] == "tie"
    assert np.isnan([row["p"], row["ci_low"], row["ci_high"]]).all()
    assert row["difference"] == pytest.approx(-0.4)


def test_another_column():
    table = errors("median_relative_error", a=[0.1, 0.2], b=[0.5, 0.3])
    row = paired_comparison(table, "a", "b", column="median_relative_error")
    assert row["difference"] == pytest.approx(-0.25)


def test_comparisons_need_both_on_every_prompt():
    table = errors(a=[0.1, 0.2, 0.3], b=[0.5, 0.3])
    with pytest.raises(ScoresError, match="no errors of 'ig_10': add it to the estimators"):
        paired_comparison(table, "a", "ig_10")
    with pytest.raises(ScoresError, match="'b' has no top_k_relative_error for prompt 'p2'"):
        paired_comparison(table, "a", "b")


def test_every_estimator_is_set_against_every_reference_that_was_scored():
    table = errors(ap=IG, ig=IG, better=BETTER)
    found = paired(table, ["ap", "ig", "gone"], n_resamples=500)
    assert tuple(found.columns) == tuple(FRAMES["paired"].columns)
    assert list(zip(found["first"], found["second"], strict=True)) == [
        ("ig", "ap"), ("better", "ap"), ("ap", "ig"), ("better", "ig"),
    ]  # fmt: skip
    one = paired_comparison(table, "better", "ap", 500, 0)
    assert found.iloc[1].to_dict() == one
    assert paired(table, ["gone"]).empty


def test_groups_without_any_value_are_left_out():
    parts = [errors("overlap", a=[0.2, 0.4], ap=[0.2, 0.2]).assign(k=5)]
    parts.append(errors("overlap", a=[np.nan] * 2, ap=[np.nan] * 2).assign(k=10))
    found = paired(pd.concat(parts), ["ap"], column="overlap", by=["k"])
    assert found["k"].tolist() == [5]
    assert found["difference"].item() == pytest.approx(0.1)


def test_more_overlap_is_a_win_where_higher_is_better():
    table = errors("overlap", ap=IG, better=BETTER)
    found = paired(table, ["ap"], column="overlap", higher_is_better=True, n_resamples=500)
    assert found["verdict"].tolist() == ["loss"]
    assert found["difference"].item() < 0
    assert paired(table, ["ap"], column="overlap", n_resamples=500)["verdict"].tolist() == ["win"]


def test_a_tally_counts_verdicts_signs_and_weak_decisions():
    few = paired(errors(a=[0.1, 0.2], b=[0.3, 0.4], c=[0.2, 0.39]), ["b"], n_resamples=500)
    many = paired(errors(a=IG, b=BETTER, c=BETTER + 1e-14), ["b"], n_resamples=500)
    rows = pd.concat([few, many])
    assert rows["verdict"].tolist() == ["win", "win", "loss", "loss"]
    (row,) = tally(rows, ["a", "c"], "b").to_dict("records")
    assert (row["n"], row["wins"], row["ties"], row["losses"], row["weak"]) == (4, 2, 0, 2, 2)
    # a difference of rounding alone is none
    assert (row["lower"], row["lower_sure"], row["higher"], row["higher_sure"]) == (2, 2, 1, 1)
    assert row["smallest"] == pytest.approx(-0.2)
    assert row["largest"] == pytest.approx((IG - BETTER).mean())
    (none,) = tally(rows, ["d"], "b").to_dict("records")
    assert none["n"] == none["lower"] == 0
    assert np.isnan(none["largest"])
