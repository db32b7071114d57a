"""Scores: estimates beside the truth, and baselines joined to them."""

import pandas as pd
import pytest
import torch

from hvp_patching.estimators import AP, HVP, MS_HVP
from hvp_patching.measuring.scores import COLUMNS, add_baseline, score_estimators
from hvp_patching.paths import Jets

NODES = (0.0, 0.5, 1.0)


def jets(seed, n=4):
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(n, len(NODES), 3, generator=draw, dtype=torch.float64)
    frame = pd.DataFrame({"layer": [i // 2 for i in range(n)], "index": [i % 2 for i in range(n)]})
    return Jets(values, NODES, frame)


@pytest.fixture
def table():
    return pd.concat([jets(1).to_frame("b"), jets(2).to_frame("a")], ignore_index=True)


def test_one_row_per_prompt_component_and_estimator(table):
    scores = score_estimators(table, [AP(), HVP(), MS_HVP(2)])
    assert list(scores.columns) == COLUMNS
    assert len(scores) == 2 * 4 * 3
    assert list(scores["prompt_id"].unique()) == ["b", "a"]
    for prompt_id, one in (("b", jets(1)), ("a", jets(2))):
        mine = scores[scores["prompt_id"] == prompt_id]
        truth = (one.values[:, 2, 0] - one.values[:, 0, 0]).tolist()
        f1, f2 = one.values[:, :, 1], one.values[:, :, 2]
        expected = {
            "ap": f1[:, 0],
            "hvp": f1[:, 0] + f2[:, 0] / 2,
            "ms_hvp_2": (f1[:, 0] + f1[:, 1]) / 2 + (f2[:, 0] + f2[:, 1]) / 8,
        }
        for (name, values), cost in zip(expected.items(), (1, 2, 4), strict=True):
            rows = mine[mine["estimator"] == name]
            assert rows["estimate"].tolist() == pytest.approx(values.tolist())
            assert rows["truth"].tolist() == pytest.approx(truth)
            assert rows["cost"].tolist() == [cost] * 4
            assert rows["layer"].tolist() == [0, 0, 1, 1]
            assert rows["index"].tolist() == [0, 1, 0, 1]


def test_a_missing_node_is_named(table):
    with pytest.raises(ValueError, match=r"order 1 at node 0\.25"):
        score_estimators(table, [MS_HVP(4)])
    with pytest.raises(ValueError, match="order 0 at node 1"):
        score_estimators(table[table["node"] < 1], [AP()])


def baseline(prompts=("a", "b"), n=4):
    """n components in layers of two, listed backwards: their order must not matter."""
    return pd.DataFrame(
        [
            {
                "prompt_id": prompt,
                "layer": i // 2,
                "index": i % 2,
                "estimator": "gim",
                "estimate": 10.0 * i + ord(prompt),
                "cost": 1,
            }
            for prompt in prompts
            for i in reversed(range(n))
        ]
    )


@pytest.mark.parametrize(
    "other", [baseline(), baseline(n=7), baseline(("a", "b", "c"))], ids=["all", "more", "prompts"]
)
def test_a_baseline_joins_by_prompt_and_component(table, other):
    scores = score_estimators(table, [AP(), HVP()])
    joined = add_baseline(scores, other)
    assert list(joined.columns) == COLUMNS
    assert len(joined) == len(scores) + 8
    pd.testing.assert_frame_equal(joined.iloc[: len(scores)], scores)
    added = joined[joined["estimator"] == "gim"].set_index(["prompt_id", "layer", "index"])
    truth = scores[scores["estimator"] == "ap"].set_index(["prompt_id", "layer", "index"])
    assert added["truth"].to_dict() == truth["truth"].to_dict()
    expected = {
        (prompt, i // 2, i % 2): 10.0 * i + ord(prompt) for prompt in "ab" for i in range(4)
    }
    assert added["estimate"].to_dict() == expected


def test_a_baseline_of_all_components_joins_sampled_jets(table):
    sampled = table[(table["layer"] != table["index"]) & (table["prompt_id"] == "a")]
    joined = add_baseline(score_estimators(sampled, [AP()]), baseline())
    added = joined[joined["estimator"] == "gim"]
    assert added[["prompt_id", "layer", "index"]].to_numpy().tolist() == [["a", 0, 1], ["a", 1, 0]]
    assert added["estimate"].tolist() == [107.0, 117.0]


@pytest.mark.parametrize(
    ("other", "covered"),
    [
        (baseline(("a",)), 4),
        (baseline(n=3), 6),
        (baseline(("a", "c")), 4),
        (baseline(("d", "c"), n=7), 0),
    ],
)
def test_a_baseline_that_lacks_scored_components_is_refused(table, other, covered):
    scores = score_estimators(table, [AP()])
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared)
        add_baseline(scores, other)
    assert str(caught.value) == (
        f"baseline 'gim' has estimates for {covered} of the jets' 8 components; "
        "delete results/baselines and run again"
    )
