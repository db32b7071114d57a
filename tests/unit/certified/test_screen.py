"""hp.screen on tiny models in float64, against patching everything."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from hvp_patching.baselines import BASELINES
from hvp_patching.certified import scoring as module
from hvp_patching.certified.screen import screen
from hvp_patching.metrics.spending import POLICIES
from hvp_patching.paths import activation_patching, logit_difference, path_jets, site_attribution

SITE = "mlp_pre"


@pytest.fixture
def model(tiny):
    return tiny("tiny-llama")


@pytest.fixture
def pairs(make_pair):
    return [make_pair(changed=(5,), n=8, seed=seed) for seed in (1, 2)]


def by_place(frame):
    return frame.sort_values(["layer", "index"]).reset_index(drop=True)


def some(n):
    """Neurons of all three layers."""
    return [(layer, index) for layer in range(3) for index in range(n)]


@pytest.mark.parametrize("site", ["attn_heads", "mlp_pre", "resid_post"])
def test_a_budget_for_all_gives_the_truth(model, pairs, site):
    result = screen(model, pairs[0], site, 10**6, top_k=3)
    truth = activation_patching(model, pairs[0], site)
    frame = by_place(result.to_frame())
    np.testing.assert_allclose(frame["estimate"], truth, rtol=1e-12, atol=1e-15)
    assert float(truth.abs().max()) > 1e-4
    assert (frame["how"] == "exact").all()
    assert (frame["low"] == frame["high"]).all()
    assert set(result.top()["rank"]) == {1, 2, 3}
    assert result.top()["estimate"].abs().tolist() == pytest.approx(
        torch.topk(truth.abs(), 3).values.tolist(), rel=1e-12
    )
    assert "nothing was missed" in result.sentence()


def test_part_of_the_budget_buys_part_of_the_truth(model, pairs):
    result = screen(model, pairs[0], SITE, "65 passes", top_k=5, components=some(40))
    frame = by_place(result.to_frame())
    chosen = frame[["layer", "index"]]
    truth = activation_patching(model, pairs[0], SITE, chosen).numpy()
    exact = (frame["how"] == "exact").to_numpy()
    assert 40 < exact.sum() == result.cost.patched <= 60  # 5 of the 65 passes paid the scores
    assert result.cost.passes <= 65
    assert result.cost.of == 120
    np.testing.assert_allclose(frame["estimate"][exact], truth[exact], rtol=1e-10, atol=1e-15)
    every = site_attribution(model, pairs[0], SITE)
    ap = [float(every[layer * (len(every) // 3) + index]) for layer, index in chosen.to_numpy()]
    np.testing.assert_allclose(frame["score"], ap, rtol=1e-12)
    assert frame["estimate"][~exact].tolist() == frame["score"][~exact].tolist()
    assert (frame["low"] <= frame["estimate"]).all()
    assert (frame["estimate"] <= frame["high"]).all()
    assert np.isfinite(frame[["low", "high"]]).all(axis=None)
    (certificate,) = result.certificates
    assert certificate.n_left == 120 - exact.sum()
    text = result.sentence()
    assert f"Of the {certificate.n_left} not patched, at most {certificate.at_most} exceed" in text
    assert f"{certificate.reaching} of their 90% intervals reach that." in text
    assert f"Cost: {result.cost.patched} of 120 patches" in text
    inside = (frame["low"] - 1e-12 <= truth) & (truth <= frame["high"] + 1e-12)
    assert inside[~exact].mean() > 0.6  # a single draw: its mean over draws is promised


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_runs_and_is_the_same_again(model, pairs, policy):
    budget = 45 if policy not in ("rho", "half_q") else 45 + 4 * 60  # these pay for q
    options = {"components": some(20), "policy": policy, "seed": 3}
    first, second = (screen(model, pairs[0], SITE, budget, 5, **options) for _ in range(2))
    pd.testing.assert_frame_equal(first.to_frame(), second.to_frame())
    assert first.certificates == second.certificates
    assert 0 < first.cost.patched <= 40
    other = screen(model, pairs[0], SITE, budget, 5, **options | {"seed": 4})
    assert not by_place(other.to_frame())["drawn"].equals(by_place(first.to_frame())["drawn"])


def test_the_policies_of_second_order_order_by_it(model, pairs):
    result = screen(model, pairs[0], SITE, 45 + 4 * 60, 5, policy="half_q", components=some(20))
    frame = by_place(result.to_frame())
    q = path_jets(model, pairs[0], SITE, components=some(20)).at(0.0, 2).abs().numpy()
    chosen = (frame["how"] == "exact") & ~frame["drawn"]
    assert chosen.sum() > 5
    assert q[frame["how"] == "estimated"].max() <= q[chosen].min()
    assert result.policy == "half_q"


def test_several_pairs_are_averaged_or_stand_apart(model, pairs):
    both = screen(model, pairs, "attn_heads", 10**6, 3)
    truths = [activation_patching(model, pair) for pair in pairs]
    frame = by_place(both.to_frame())
    np.testing.assert_allclose(frame["estimate"], sum(truths) / 2, rtol=1e-12, atol=1e-15)
    assert set(frame["prompt_id"]) == {"mean of 2 prompts"}
    assert (both.cost.patched, both.cost.of) == (24, 24)
    apart = screen(model, pairs, "attn_heads", 10**6, 3, pool=False)
    for pair, truth in zip(pairs, truths, strict=True):
        rows = apart.to_frame()
        rows = by_place(rows[rows["prompt_id"] == pair.prompt_id])
        np.testing.assert_allclose(rows["estimate"], truth, rtol=1e-12, atol=1e-15)
    assert len(apart.certificates) == 2
    assert apart.sentence().count("\n") == 2
    scores = [site_attribution(model, pair) for pair in pairs]
    some_exact = screen(model, pairs, "attn_heads", 2 * 5 + 2 * 11 + 1, 3)
    rows = by_place(some_exact.to_frame())
    np.testing.assert_allclose(rows["score"], sum(scores) / 2, rtol=1e-10)
    assert some_exact.cost.passes == 10 + 22


def test_a_budget_is_shared_evenly_between_pairs_apart(model, pairs):
    result = screen(model, pairs, SITE, 10 + 80, 5, pool=False, components=some(20))
    patched = result.to_frame().query("how == 'exact'").groupby("prompt_id").size()
    assert patched.max() <= 40
    assert patched.min() >= 25


@pytest.mark.parametrize("score", ["relp", "gim", "clean_corrupted"])
def test_the_scores_may_be_a_baselines(model, pairs, score):
    result = screen(model, pairs[0], "attn_heads", 30, 3, score=score)
    frame = by_place(result.to_frame())
    expected = BASELINES[score](model, pairs[0], "attn_heads")
    np.testing.assert_allclose(frame["score"], expected, rtol=1e-10)


def test_options_reach_the_engine(model, pairs):
    metric = logit_difference([25])
    options = {"direction": "denoising", "metric": metric}
    result = screen(model, pairs[0], "attn_heads", 10**6, 3, backend="autograd", **options)
    truth = activation_patching(model, pairs[0], **options)
    estimate = by_place(result.to_frame())["estimate"]
    np.testing.assert_allclose(estimate, truth, rtol=1e-10, atol=1e-15)


def test_too_few_components_are_all_patched_and_it_is_said(model, pairs):
    result = screen(model, pairs[0], "attn_heads", 6, 3, alpha=0.01)
    assert (result.to_frame()["how"] == "exact").all()
    assert (
        "Every component was patched (12 components are too few to calibrate alpha=0.01 on 99 of "
        "them): nothing was missed." in result.sentence()
    )


def test_too_little_for_intervals_is_said(model, pairs):
    result = screen(model, pairs[0], SITE, 10, 5, components=some(20))
    frame = result.to_frame()
    assert (frame["how"] == "exact").sum() == 5
    left = frame["how"] == "estimated"
    assert np.isinf(frame.loc[left, "high"]).all()
    assert "too few were drawn for intervals: give a larger budget." in result.sentence()


def test_time_is_a_budget_too(model, pairs):
    result = screen(model, pairs[0], "attn_heads", "1000s", 3)
    assert (result.to_frame()["how"] == "exact").all()
    assert 0 < result.cost.seconds < 1000
    assert result.cost.forward_equivalents > 1
    with pytest.raises(ValueError, match=r"the budget of 1e-06 s was spent on the scores, which"):
        screen(model, pairs[0], "attn_heads", "0.000001s", 3)


def test_the_result_is_json(model, pairs, tmp_path):
    result = screen(model, pairs[0], SITE, 10, 5, components=some(20))
    text = result.to_json(tmp_path / "run.json")
    assert (tmp_path / "run.json").read_text(encoding="utf-8") == text + "\n"
    record = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert record["sentence"] == result.sentence()
    assert record["parts"][0]["prompt_ids"] == [pairs[0].prompt_id]
    assert record["cost"]["passes"] == 10
    rows = {(row["layer"], row["index"]): row for row in record["components"]}
    assert len(rows) == 60
    assert sum(row["high"] is None for row in rows.values()) == 55  # infinite


def test_progress_is_reported(model, pairs):
    steps = []
    screen(model, pairs, SITE, 100, 5, pool=False, components=some(20), progress=steps.append)
    assert sum(steps) == pytest.approx(1)
    assert len(steps) > 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 4}, r"^the budget of 4 passes does not pay the scores of 1 prompt, which "),
        ({"budget": "lots"}, "^the budget is 'lots'; give forward passes"),
        ({"alpha": 1.0}, "^alpha must lie between 0 and 1, both excluded, got 1.0"),
        ({"alpha": "0.1"}, "^alpha must be a number between 0 and 1, got '0.1'"),
        ({"top_k": 13}, "^top_k is 13, but there are 12 components to rank"),
        ({"top_k": 0}, "^top_k must be a whole number of at least 1, got 0"),
        ({"top_k": 2.5}, "^top_k must be a whole number of at least 1, got 2.5"),
        ({"seed": -1}, "^seed must be a whole number of at least 0, got -1"),
        ({"policy": "best"}, "^unknown policy 'best'; choose one of: largest_upper, ap, rho"),
        ({"score": "magic"}, "^unknown score 'magic'; choose ap, gim,"),
        ({"site": "heads"}, "^unknown site 'heads'"),
        ({"components": [(7, 0)]}, "^layer 7 requested, but the model has 3 layers"),
        ({"policy": "rho", "budget": 50}, "does not pay the scores of 1 prompt, which takes 53"),
    ],
)
def test_bad_requests_end_in_one_line(model, pairs, options, message):
    with pytest.raises(ValueError, match=message) as raised:
        screen(model, pairs[0], **{"top_k": 3} | options)
    assert "\n" not in str(raised.value)


def test_no_pairs_are_refused(model):
    with pytest.raises(ValueError, match=r"^no prompt pairs given; screen needs at least one"):
        screen(model, [])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_effects_that_are_no_numbers_are_named(model, pairs, monkeypatch, bad):
    def broken(*args, **options):
        jets = path_jets(*args, **options)
        if 1.0 in jets.nodes:
            jets.values[-1] = bad
        return jets

    monkeypatch.setattr(module, "path_jets", broken)
    with pytest.raises(ValueError, match=rf"^the patched metric of seed-1 at layer \d, .* {bad};"):
        screen(model, pairs[0], "attn_heads", 100, 3)
