"""Errors over sets on frames made by hand."""

import numpy as np
import pandas as pd
import pytest

from hvp_patching.metrics.errors import ScoresError
from hvp_patching.metrics.sets import set_errors

EFFECTS = {("a", 0): 1.0, ("a", 1): -2.0, ("b", 0): 4.0, ("b", 1): 1e-9}
MISSES = {"sum_ap": (0.5, -1.0, 2.0, 0.5), "joint_hvp": (0.1, 0.2, 0.4, 0.0)}


def frame(misses=MISSES, **kind):
    kind = {"metric": "logprob", "drawn": "random", "size": 2} | kind
    return pd.DataFrame(
        [
            {
                "prompt_id": prompt,
                **kind,
                "number": number,
                "predictor": predictor,
                "predicted": effect + miss,
                "joint_effect": effect,
            }
            for predictor, own in misses.items()
            for ((prompt, number), effect), miss in zip(EFFECTS.items(), own, strict=True)
        ]
    )


def test_errors_are_ratios_of_sums_and_medians_over_all_sets():
    found = set_errors(frame(), n_resamples=200).set_index("predictor")
    assert found["relative_error"].to_dict() == pytest.approx({"sum_ap": 4 / 7, "joint_hvp": 0.1})
    # of 0.5, 0.5, 0.5 and 0.1, 0.1, 0.1: the trivial effect has no relative error
    assert found["median_relative_error"].to_dict() == pytest.approx(
        {"sum_ap": 0.5, "joint_hvp": 0.1}
    )
    assert found["mean_effect"].tolist() == pytest.approx([7 / 4] * 2)
    assert found["n_prompts"].tolist() == [2, 2]
    assert found["n_sets"].tolist() == [4, 4]
    assert found["best"].to_dict() == {"sum_ap": False, "joint_hvp": True}


def test_prompts_are_resampled_with_all_their_sets():
    found = set_errors(frame(), n_resamples=500).set_index("predictor").loc["sum_ap"]
    # both of a: 1.5 / 3; both of b: 2.5 / 4
    assert found["relative_low"] == pytest.approx(0.5)
    assert found["relative_high"] == pytest.approx(2.5 / 4, rel=1e-6)
    again = set_errors(frame(), n_resamples=500).set_index("predictor").loc["sum_ap"]
    assert again.equals(found)


def test_a_single_prompt_has_no_interval():
    one = frame()
    found = set_errors(one[one["prompt_id"] == "a"])
    ends = ["relative_low", "relative_high", "median_low", "median_high"]
    assert found[ends].isna().all(axis=None)
    assert found["relative_error"].notna().all()


def test_no_effect_has_no_relative_error():
    found = set_errors(frame().assign(joint_effect=0.0), n_resamples=100)
    names = ["relative_error", "relative_low", "median_relative_error", "median_high"]
    assert found[names].isna().all(axis=None)
    assert not found["best"].any()


def test_a_rule_of_many_steps_is_never_the_best():
    misses = MISSES | {"joint_ig_10": (0.0, 0.0, 0.0, 0.0)}
    found = set_errors(frame(misses), n_resamples=100).set_index("predictor")["best"]
    assert found.to_dict() == {"sum_ap": False, "joint_hvp": True, "joint_ig_10": False}


def test_kinds_stand_apart_in_their_order():
    both = pd.concat([frame(size=5), frame(size=2, metric="logit_difference")])
    found = set_errors(both, n_resamples=100)
    assert found["size"].tolist() == [5, 5, 2, 2]
    assert found["metric"].tolist() == ["logprob"] * 2 + ["logit_difference"] * 2


def broken(change):
    table = frame()
    change(table)
    return table


BAD = {
    "no rows": (lambda t: t.drop(t.index, inplace=True), "have no rows"),
    "not finite": (lambda t: t.__setitem__("predicted", np.nan), "a predicted that is not finite"),
    "twice": (lambda t: t.__setitem__("number", 0), "predictor 'sum_ap': a set stands twice"),
    "other effects": (
        lambda t: t.loc.__setitem__((0, "joint_effect"), 3.0),
        "predictor 'joint_hvp' has other sets or effects than the rest",
    ),
    "a set fewer": (lambda t: t.drop(3, inplace=True), "a prompt lacks a set that others have"),
    "no column": (lambda t: t.drop(columns="drawn", inplace=True), "lacks the columns drawn"),
}


@pytest.mark.parametrize("case", BAD)
def test_tables_that_do_not_fit_together_are_refused(case):
    change, said = BAD[case]
    with pytest.raises(ScoresError if case != "no column" else ValueError, match=said):
        set_errors(broken(change))
