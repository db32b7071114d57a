import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvp_patching.frames import FrameError
from hvp_patching.metrics.errors import ScoresError, prompt_errors

TRUTH = [4.0, -2.0, 1.0, 0.5, -0.25, 0.0]
ESTIMATE = [3.0, -2.5, 1.0, 1.0, 0.25, 9.0]


def scores(truth, estimate, prompt="p0", estimator="ap", cost=1):
    n = len(truth)
    return pd.DataFrame(
        {
            "prompt_id": prompt,
            "layer": np.arange(n) // 2,
            "index": np.arange(n) % 2,
            "estimator": estimator,
            "estimate": estimate,
            "truth": truth,
            "cost": cost,
        }
    )


def only(table):
    assert len(table) == 1
    return table.iloc[0]


def test_hand_computed_errors():
    row = only(prompt_errors(scores(TRUTH, ESTIMATE)))
    # the five largest |truth| miss by 1, 0.5, 0, 0.5, 0.5; the range is 4 - (-2)
    assert row["top_k_relative_error"] == pytest.approx(2.5 / 5 / 6)
    # the zero effect is left out: 0.25, 0.25, 0, 1, 2
    assert row["median_relative_error"] == pytest.approx(0.25)
    assert row["n_components"] == 6
    assert row["cost"] == 1


def test_k_chooses_by_size_of_the_truth():
    assert only(prompt_errors(scores(TRUTH, ESTIMATE), k=1))["top_k_relative_error"] == (
        pytest.approx(1 / 6)
    )
    assert only(prompt_errors(scores(TRUTH, ESTIMATE), k=6))["top_k_relative_error"] == (
        pytest.approx((2.5 + 9) / 6 / 6)
    )


def test_equal_sizes_are_ordered_by_layer_then_index():
    table = scores([1.0, -1.0, 0.0], [1.5, -4.0, 0.0])
    for order in ([0, 1, 2], [1, 0, 2], [2, 1, 0]):
        row = only(prompt_errors(table.iloc[order], k=1))
        assert row["top_k_relative_error"] == pytest.approx(0.5 / 2)


def test_trivial_effects_are_left_out_of_the_median_only():
    table = scores([1.0, 1e-7, -1.0], [1.1, 5.0, -1.3])
    row = only(prompt_errors(table, k=3))
    assert row["median_relative_error"] == pytest.approx(0.2)
    assert row["top_k_relative_error"] == pytest.approx((0.1 + 5.0 - 1e-7 + 0.3) / 3 / 2)
    assert only(prompt_errors(table, k=3, trivial_effect=1e-8))["median_relative_error"] == (
        pytest.approx(0.3)
    )
    assert np.isnan(only(prompt_errors(table, k=3, trivial_effect=2.0))["median_relative_error"])


def test_nontrivial_effects_are_counted():
    table = scores([1.0, 1e-7, -1.0, 0.0, 0.5], [0.0] * 5)
    assert only(prompt_errors(table))["n_nontrivial"] == 3
    assert only(prompt_errors(table, trivial_effect=0.5))["n_nontrivial"] == 2
    assert only(prompt_errors(table, trivial_effect=5.0))["n_nontrivial"] == 0


def test_fewer_than_k_components_have_no_top_k_error():
    table = pd.concat(
        [scores(TRUTH, ESTIMATE), scores(TRUTH[:4], ESTIMATE[:4], prompt="p4")], ignore_index=True
    )
    errors = prompt_errors(table).set_index("prompt_id")
    assert np.isnan(errors.loc["p4", "top_k_relative_error"])
    assert errors.loc["p4", "n_components"] == 4
    # 0.25, 0.25, 0, 1
    assert errors.loc["p4", "median_relative_error"] == pytest.approx(0.25)
    assert errors.loc["p0", "top_k_relative_error"] == pytest.approx(2.5 / 5 / 6)
    assert prompt_errors(table, k=4)["top_k_relative_error"].notna().all()


def test_a_lone_component_needs_no_spread():
    row = only(prompt_errors(scores([2.0], [1.5])))
    assert np.isnan(row["top_k_relative_error"])
    assert row["median_relative_error"] == pytest.approx(0.25)
    with pytest.raises(ScoresError, match="every component has the same"):
        prompt_errors(scores([2.0], [1.5]), k=1)


def test_prompts_and_estimators_are_kept_apart():
    table = pd.concat(
        [
            scores(TRUTH, ESTIMATE),
            scores(TRUTH, TRUTH, estimator="hvp", cost=2),
            scores([10 * t for t in TRUTH], [0.0] * 6, prompt="p1"),
            scores([10 * t for t in TRUTH], TRUTH, prompt="p1", estimator="hvp", cost=2),
        ]
    )
    errors = prompt_errors(table).set_index(["prompt_id", "estimator"])
    assert errors.loc[("p0", "hvp"), "top_k_relative_error"] == 0
    assert errors.loc[("p1", "ap"), "median_relative_error"] == pytest.approx(1)
    assert errors.loc[("p1", "hvp"), "median_relative_error"] == pytest.approx(0.9)
    assert errors.loc[("p0", "ap"), "top_k_relative_error"] == pytest.approx(2.5 / 30)
    assert errors.loc[("p1", "hvp"), "cost"] == 2


def spoiled(column, value):
    table = pd.concat([scores(TRUTH, ESTIMATE), scores(TRUTH, ESTIMATE, prompt="p1")])
    table = table.reset_index(drop=True)
    table[column] = table[column].astype(object)
    table.loc[8, column] = value
    return table.infer_objects()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            spoiled("estimate", np.nan),
            "prompt 'p1': estimate of estimator 'ap' at layer 1, index 0",
        ),
        (spoiled("truth", np.inf), "prompt 'p1': truth of estimator 'ap'"),
        (spoiled("layer", np.nan), "prompt 'p1': a row has no layer"),
        (spoiled("prompt_id", None), "a row has no prompt_id"),
        (scores([2.0] * 6, ESTIMATE, prompt="p3"), "prompt 'p3': every component has the same"),
        (
            pd.concat([scores(TRUTH, ESTIMATE, prompt="p5")] * 2),
            "prompt 'p5': layer 0, index 0 is scored twice by estimator 'ap'",
        ),
        (
            pd.concat(
                [scores(TRUTH, ESTIMATE), scores(TRUTH[::-1], ESTIMATE, estimator="hvp", cost=2)]
            ),
            "prompt 'p0': layer 0, index 0 has two truths, 0.0 and 4.0",
        ),
        (
            pd.concat(
                [scores(TRUTH, ESTIMATE), scores(TRUTH[:5], TRUTH[:5], estimator="hvp", cost=2)]
            ),
            "prompt 'p0': estimator 'hvp' scores 5 components of 6",
        ),
        (
            pd.concat([scores(TRUTH, ESTIMATE), scores(TRUTH, ESTIMATE, prompt="p1", cost=2)]),
            "estimator 'ap' has two costs, 1 and 2",
        ),
        (scores(TRUTH, ESTIMATE).drop(columns="cost"), "lacks the columns cost"),
        (scores([], []), "no rows"),
    ],
)
def test_refused_scores_name_the_prompt(table, message):
    with pytest.raises(FrameError, match=message) as caught:
        prompt_errors(table)
    assert "\n" not in str(caught.value)


def test_k_of_zero_is_refused():
    with pytest.raises(ScoresError, match="k is 0"):
        prompt_errors(scores(TRUTH, ESTIMATE), k=0)


effects = st.lists(
    st.integers(-1000, 1000).map(lambda n: n / 64), min_size=5, max_size=12, unique_by=abs
)


@settings(deadline=None, max_examples=40)
@given(effects, st.randoms(use_true_random=False), st.sampled_from([0.125, 8.0, -4.0]))
def test_scaling_and_permuting_change_nothing_and_perfection_is_zero(truth, random, scale):
    estimate = [t + random.uniform(-1, 1) for t in truth]
    table = scores(truth, estimate)
    expected = only(prompt_errors(table, trivial_effect=0))

    scaled = table.assign(truth=scale * table["truth"], estimate=scale * table["estimate"])
    shuffled = table.sample(frac=1, random_state=random.randrange(2**31))
    for changed in (scaled, shuffled):
        row = only(prompt_errors(changed, trivial_effect=0))
        for column in ("top_k_relative_error", "median_relative_error"):
            assert row[column] == pytest.approx(expected[column], rel=1e-12, nan_ok=True)

    perfect = only(prompt_errors(scores(truth, truth), trivial_effect=0))
    assert perfect["top_k_relative_error"] == 0
    assert perfect["median_relative_error"] == 0
