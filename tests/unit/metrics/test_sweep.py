"""Errors of sweeps, which hold the components of largest effect alone."""

import numpy as np
import pandas as pd
import pytest

from hvp_patching.frames import FrameError
from hvp_patching.metrics.errors import ScoresError, prompt_errors
from hvp_patching.metrics.sweep import steepest_rise, sweep_errors


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


def sweep_of(table, k):
    """What a sweep keeps of a scores table: the k largest effects, and the range of all."""
    spans = table.groupby("prompt_id")["truth"].agg(lambda t: t.max() - t.min())
    size = table["truth"].abs()
    place = size.groupby([table["prompt_id"], table["estimator"]]).rank(ascending=False)
    return table.assign(truth_range=table["prompt_id"].map(spans))[place <= k]


@pytest.mark.parametrize("k", [2, 5])
def test_sweeps_have_the_errors_of_the_whole(k):
    table = random_scores(4)
    expected = prompt_errors(table, k).set_index(["prompt_id", "estimator"])
    sweep = sweep_of(table, 5).sample(frac=1, random_state=1)
    result = sweep_errors(sweep, k).set_index(["prompt_id", "estimator"])
    assert list(result.columns) == ["cost", "top_k_relative_error"]
    assert len(result) == 8
    for column in result:
        np.testing.assert_allclose(result[column], expected.loc[result.index, column])
    assert (result["top_k_relative_error"] > 1e-3).all()


def test_sweep_by_hand():
    sweep = scores([3.0, -2.0, 1.0], ap=[2.0, -2.5, 9.0]).assign(truth_range=8.0)
    assert sweep_errors(sweep, k=2)["top_k_relative_error"][0] == pytest.approx(1.5 / 2 / 8)


def test_sweeps_are_checked():
    sweep = sweep_of(random_scores(2), 5)
    with pytest.raises(FrameError, match="lacks the columns truth_range: run the sweep again"):
        sweep_errors(sweep.drop(columns="truth_range"))
    with pytest.raises(ScoresError, match=r"truth_range is 0\.01, but its effects span"):
        sweep_errors(sweep.assign(truth_range=0.01))
    with pytest.raises(ScoresError, match="truth_range is nan"):
        sweep_errors(sweep.assign(truth_range=np.nan))
    assert np.isnan(sweep_errors(sweep, k=6)["top_k_relative_error"]).all()


def test_the_steepest_rise_is_found_among_components_and_prompts():
    truth = [3.0, -2.0, 1.0]
    first = scores(truth, "a", hvp=[3.5, -2.4, 1.1], ms_hvp_2=[3.2, -2.2, 1.0], ig_5=[9.0] * 3)
    second = scores(truth, "b", hvp=[3.1, -2.4, 1.1], ms_hvp_10=[3.0, -2.9, 1.4],
                    ms_hvp_2=[3.2, -2.2, 1.0])  # fmt: skip
    sweep = pd.concat([first, second], ignore_index=True).assign(truth_range=10.0)
    found = steepest_rise(sweep.sample(frac=1, random_state=0))
    assert found[["prompt_id", "layer", "index"]].drop_duplicates().values.tolist() == [["b", 0, 1]]
    assert found["steps"].tolist() == [1, 2, 10]
    assert found["estimator"].tolist() == ["hvp", "ms_hvp_2", "ms_hvp_10"]
    np.testing.assert_allclose(found["error"], [0.04, 0.02, 0.09])


def test_no_rise_is_no_component():
    falling = scores([3.0, -2.0], "a", hvp=[3.5, -2.4], ms_hvp_2=[3.2, -2.2])
    found = steepest_rise(falling.assign(truth_range=5.0))
    assert found.empty
    assert list(found.columns) == ["prompt_id", "layer", "index", "estimator", "steps", "error"]
