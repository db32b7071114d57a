"""Sweeps: which components they take, and that they agree with a full table of jets."""

from __future__ import annotations

import pandas as pd
import pytest

from hvp_patching.baselines import BASELINES
from hvp_patching.cache import Store
from hvp_patching.estimators import AP, IG, MS_HVP, required_jets
from hvp_patching.measuring.measurement import Measurement
from hvp_patching.measuring.scores import score_estimators
from hvp_patching.measuring.sweeps import largest_effects, measure_sweep, sweep_prompt
from hvp_patching.paths.jets import path_jets


def jets_table() -> pd.DataFrame:
    """Two prompts, four components whose effects are known."""
    effects = {"a": [0.1, -0.9, 0.5, 0.5], "b": [1.0, 0.0, -2.0, 0.25]}
    rows = [
        (prompt, i // 2, i % 2, node, node * effect)
        for prompt, found in effects.items()
        for i, effect in enumerate(found)
        for node in (0.0, 1.0)
    ]
    return pd.DataFrame(rows, columns=["prompt_id", "layer", "index", "node", "f"])


def test_the_largest_effects_of_each_prompt_in_order():
    found = largest_effects(jets_table(), 2)
    # the first of two equal effects is taken
    assert found["a"] == (((0, 1), (1, 0)), pytest.approx(1.4))
    assert found["b"] == (((0, 0), (1, 0)), pytest.approx(3.0))


def test_jets_without_an_end_of_the_path_are_refused():
    jets = jets_table()
    with pytest.raises(ValueError, match="no derivative of order 0 at node 1"):
        largest_effects(jets[jets["node"] == 0.0], 2)


def test_a_sweep_is_the_full_computation_at_fewer_components(tiny, make_pair, tmp_path):
    model, pair, chosen = tiny("tiny-gpt2"), make_pair(), ((0, 3), (2, 1))
    names = ["ap", "ms_hvp_3", "ig_4", "gauss_newton"]
    sweep = sweep_prompt(Store(tmp_path), model, pair, "attn_heads", chosen, names)
    assert list(sweep["estimator"].unique()) == names
    assert set(zip(sweep["layer"], sweep["index"], strict=True)) == set(chosen)

    rules = [AP(), MS_HVP(3), IG(4)]
    jets = path_jets(model, pair, nodes={0.0: 0, 1.0: 0} | required_jets(rules))
    full = score_estimators(jets.to_frame(pair.prompt_id), rules)
    merged = sweep.merge(full, on=["layer", "index", "estimator"], suffixes=("", "_full"))
    assert len(merged) == 3 * len(chosen)
    for column in ("estimate", "truth"):
        assert (merged[column].abs() > 0).all()
        assert merged[column].to_numpy() == pytest.approx(merged[f"{column}_full"], rel=1e-9)

    newton = BASELINES["gauss_newton"](model, pair)
    ours = sweep[sweep["estimator"] == "gauss_newton"].set_index(["layer", "index"])["estimate"]
    for layer, index in chosen:
        assert ours[layer, index] == float(newton[4 * layer + index])


def test_each_prompt_is_swept_at_its_own_largest_effects(tiny, make_pair, tmp_path):
    model, prompts = tiny("tiny-gpt2"), [make_pair(seed=0), make_pair(seed=1)]
    jets = pd.concat(
        [path_jets(model, p, nodes={0.0: 0, 1.0: 0}).to_frame(p.prompt_id) for p in prompts],
        ignore_index=True,
    )
    measurement = Measurement(lambda dtype: model, prompts, dtype="float64")
    table = measure_sweep(measurement, Store(tmp_path), jets, ["ap"], 3)
    assert list(table["prompt_id"].unique()) == [tokens.prompt_id for tokens in prompts]
    for tokens in prompts:
        frame = table[table["prompt_id"] == tokens.prompt_id]
        ends = jets[jets["prompt_id"] == tokens.prompt_id].pivot(
            index=["layer", "index"], columns="node", values="f"
        )
        truth = ends[1.0] - ends[0.0]
        largest = truth[truth.abs().nlargest(3).index]
        assert sorted(frame["truth"]) == pytest.approx(sorted(largest), rel=1e-9)
        assert set(frame["truth_range"]) == {truth.max() - truth.min()}
