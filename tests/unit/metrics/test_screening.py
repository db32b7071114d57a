"""Screening on known truths: columns by hand, coverage, times put together from operations."""

import numpy as np
import pandas as pd
import pytest

from hvp_patching.aggregates import FRAMES
from hvp_patching.metrics.errors import ScoresError
from hvp_patching.metrics.screening import BUDGETS, screening
from hvp_patching.metrics.spending import POLICIES

N, PROMPTS = 80, ("a", "b", "c")
MEASURED = {
    "forward": {1: 0.5},
    "base_run": {1: 1.0},
    "reverse_pass": {N: 4.0},
    "relp": {N: 5.0},
    "patching": {1: 0.1, N: 19.0},
    "order_2_at_zero": {N: 39.0},
    "order_1": {N: 9.0, 10 * N: 90.0},
}
FEW = {"budgets": (0.5,), "repeats": 10, "n_resamples": 50}


def costs(measured=MEASURED):
    rows = [(name, n, t) for name, sizes in measured.items() for n, t in sizes.items()]
    table = pd.DataFrame(rows, columns=["operation", "rows", "seconds"])
    return table.assign(device="cpu", threads=2)


def scores(n=N, estimators=("ap", "relp", "hvp"), seed=1):
    """Effects with AP's error of every size, half of it mended by HVP."""
    draw, frames = np.random.default_rng(seed), []
    for prompt in PROMPTS:
        truth = draw.standard_t(2, size=n)
        error = draw.normal(size=n) * (0.1 + np.abs(truth)) * 0.5
        estimates = {"ap": truth + error, "hvp": truth + error / 2, "relp": truth + 2 * error}
        for name in estimators:
            frames.append(
                pd.DataFrame(
                    {"prompt_id": prompt, "layer": np.arange(n) // 10, "index": np.arange(n) % 10}
                    | {"estimator": name, "estimate": estimates[name], "truth": truth}
                    | {"cost": 2 if name == "hvp" else 1}
                )
            )
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def frame():
    return screening(scores(), costs(), repeats=20, n_resamples=50)


def at(frame, method, budget=None, pooled=False):
    rows = frame[(frame["method"] == method) & (frame["pooled"] == pooled)]
    rows = rows[rows["budget"].isna() if budget is None else rows["budget"] == budget]
    (row,) = rows.to_dict("records")
    return row


def test_every_method_and_budget_has_a_row(frame):
    assert set(frame.columns) == set(FRAMES["screening"].columns)
    spending = frame[frame["budget"].notna() & ~frame["pooled"]]
    assert set(zip(spending["method"], spending["budget"], strict=True)) == {
        (policy, budget) for policy in POLICIES for budget in BUDGETS
    }
    alone = frame[frame["budget"].isna() & ~frame["pooled"]]
    assert list(alone["method"]) == ["ap", "relp", "hvp", "screen_flag_fix", "activation_patching"]
    assert len(frame) == 2 * (len(spending) + len(alone))  # pooled too
    assert set(frame["n_prompts"]) == {3}
    assert set(frame["n_components"]) == {N}


@pytest.mark.parametrize("pooled", [False, True])
def test_promises_are_kept_at_every_budget_by_every_policy(frame, pooled):
    spending = frame[frame["budget"].notna() & (frame["pooled"] == pooled)]
    assert (spending["n_runs"].isin([0, 60])).all()
    judged = spending[spending["n_runs"] > 0]
    assert len(judged) >= 2 * len(POLICIES)
    assert (judged["coverage_high"] >= 0.9).all()
    assert (judged["bound_high"] >= 0.9).all()
    assert (judged["coverage_low"] < judged["coverage"]).all()
    assert (judged["width"] > 0).all()
    assert (judged["above"] <= judged["at_most"] + 3).all()


def test_recall_of_what_patches_nothing_is_the_overlap_of_lists(frame):
    table = scores()
    found = []
    for _, rows in table[table["estimator"] == "ap"].groupby("prompt_id"):
        lists = [rows[name].abs().nlargest(10).index for name in ("truth", "estimate")]
        found.append(len(lists[0].intersection(lists[1])) / 10)
    row = at(frame, "ap")
    assert row["recall_10"] == pytest.approx(np.mean(found))
    assert row["recall_low"] <= row["recall_10"] <= row["recall_high"]
    assert row["recall_low"] == pytest.approx(min(found), abs=0.1)
    assert 0 < row["recall_10"] < 1
    assert row["patched"] == row["n_runs"] == 0
    exact = at(frame, "activation_patching")
    assert [exact[f"recall_{k}"] for k in (5, 10, 20)] == [1.0, 1.0, 1.0]
    assert exact["patched"] == 1


def test_screen_flag_fix_corrects_where_rho_is_large():
    table = scores()
    none = screening(table, tau=np.inf, **FEW)
    everything = screening(table, tau=0.0, **FEW)
    assert at(none, "screen_flag_fix")["recall_20"] == at(none, "ap")["recall_20"]
    assert at(everything, "screen_flag_fix")["recall_20"] == at(none, "hvp")["recall_20"]
    assert at(none, "ap")["recall_20"] != at(none, "hvp")["recall_20"]


def test_patching_finds_more_than_scores_alone(frame):
    recalls = [at(frame, "largest_upper", budget)["recall_10"] for budget in BUDGETS]
    assert recalls == sorted(recalls)
    assert recalls[-1] > at(frame, "ap")["recall_10"]
    assert recalls[-1] > at(frame, "random", 0.5)["recall_10"]


def test_times_are_put_together_from_the_operations(frame):
    assert at(frame, "activation_patching")["seconds"] == 1.0 + 19.0
    assert at(frame, "ap")["seconds"] == 4.0
    assert at(frame, "relp")["cost_share"] == 5.0 / 20.0
    assert at(frame, "hvp")["seconds"] == at(frame, "screen_flag_fix")["seconds"] == 1.0 + 39.0
    half = 0.1 + (19.0 - 0.1) * 39 / 79  # 40 of 80 patches
    assert at(frame, "ap", 0.5)["patched"] == pytest.approx(0.5)
    assert at(frame, "ap", 0.5)["seconds"] == pytest.approx(4.0 + half)
    assert at(frame, "rho", 0.5)["seconds"] == pytest.approx(40.0 + half)
    assert at(frame, "random", 0.5)["cost_share"] == pytest.approx((4.0 + half) / 20)


def test_without_costs_there_is_no_time():
    frame = screening(scores(), policies=("largest_upper", "random"), **FEW)
    assert frame["seconds"].isna().all()
    assert frame["cost_share"].isna().all()
    assert set(frame.loc[frame["budget"].notna(), "method"]) == {"largest_upper", "random"}


def test_without_hvp_no_policy_needs_it():
    frame = screening(scores(estimators=("ap",)), **FEW)
    assert set(frame["method"]) == {"largest_upper", "ap", "random", "activation_patching"}


def test_few_components_are_all_patched_and_promise_nothing():
    frame = screening(scores(n=9), **FEW)
    own = at(frame, "largest_upper", 0.5)
    assert own["patched"] == 1
    assert own["n_runs"] == 0
    assert np.isnan(own["coverage"])
    assert own["recall_5"] == 1
    assert np.isnan(own["recall_10"])


def test_the_same_seed_gives_the_same():
    frames = [screening(scores(), costs(), seed=seed, **FEW) for seed in (0, 0, 1)]
    pd.testing.assert_frame_equal(frames[0], frames[1])
    assert not frames[0]["coverage"].equals(frames[2]["coverage"])


def test_refusals():
    with pytest.raises(ScoresError, match="no scores of 'ap'"):
        screening(scores(estimators=("hvp",)))
    lacking = {name: sizes for name, sizes in MEASURED.items() if name != "relp"}
    with pytest.raises(ScoresError, match="the costs lack the operation 'relp'"):
        screening(scores(), costs(lacking), **FEW)
