import numpy as np
import pandas as pd
import pytest

from hvp_patching.aggregates import FRAMES
from hvp_patching.frames import FrameError
from hvp_patching.metrics.errors import ScoresError, prompt_errors
from hvp_patching.metrics.frontier import Seconds, frontier, pareto, screened_errors

N = 100
# operation: {rows: seconds}; a forward pass takes 0.5 s
MEASURED = {
    "forward": {1: 0.5, 50: 5.0},
    "base_run": {1: 1.0},
    "reverse_pass": {N: 4.0},
    "gauss_newton": {N: 30.0},
    "patching": {1: 0.5, 10: 1.4, N: 10.4},
    "order_1_at_zero": {1: 1.0, 10: 1.9, N: 19.0},
    "order_2_at_zero": {1: 1.0, 10: 2.8, N: 20.8},
    "order_1": {1: 1.0, 10: 4.6, N: 40.6},
    "order_2": {1: 2.0, 10: 6.5, N: 51.5},
}


def costs(measured=MEASURED):
    rows = [(name, n, t) for name, sizes in measured.items() for n, t in sizes.items()]
    table = pd.DataFrame(rows, columns=["operation", "rows", "seconds"])
    return table.assign(device="cpu", threads=2)


def sweep_errors(**errors):
    """Top-5 errors of two prompts by estimator."""
    return pd.DataFrame(
        [
            {"prompt_id": prompt, "estimator": name, "cost": 7, "top_k_relative_error": error}
            for name, values in errors.items()
            for prompt, error in zip("ab", values, strict=True)
        ]
    )


def scores(n=N, prompts="ab", estimator="ap"):
    draw = np.random.default_rng(5)
    frames = []
    for prompt in prompts:
        truth = draw.normal(size=n)
        frames.append(
            pd.DataFrame(
                {
                    "prompt_id": prompt,
                    "layer": np.arange(n) // 10,
                    "index": np.arange(n) % 10,
                    "estimator": estimator,
                    "estimate": truth + draw.normal(size=n),
                    "truth": truth,
                    "cost": 1,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def line(table, estimator, n):
    found = table[(table["estimator"] == estimator) & (table["n_components"] == n)]
    assert len(found) == 1
    return found.iloc[0]


@pytest.fixture(scope="module")
def table():
    errors = sweep_errors(ap=(0.2, 0.4), hvp=(0.1, 0.2), ig_3=(0.2, 0.2), gauss_newton=(0.5, 0.5))
    return frontier(errors, scores(), costs(), ks=(5, 1000))


@pytest.mark.parametrize(
    ("estimator", "n", "seconds"),
    [
        ("activation_patching", 1, 1 + 0.5),
        ("activation_patching", 10, 1 + 1.4),
        ("activation_patching", N, 1 + 10.4),
        ("ap", 1, 4),  # all components, whoever asks
        ("ap", N, 4),
        ("gauss_newton", 10, 30),
        ("hvp", 1, 1 + 1),
        ("hvp", N, 1 + 20.8),
        ("ig_3", 1, 1 + 1 + 0.4 * 2),  # 3 rows: between 1 and 10
        ("ig_3", 10, 1 + 4.6 + 0.4 * 20),  # 30 rows: between 10 and 100
        ("ig_3", N, 1 + 3 * 40.6),  # 300 rows: beyond 100
        ("ap_then_patching_5", N, 4 + 0.9),
    ],
)
def test_seconds_are_sums_of_measured_operations(table, estimator, n, seconds):
    row = line(table, estimator, n)
    assert row["seconds"] == pytest.approx(seconds)
    assert row["seconds_per_component"] == pytest.approx(seconds / n)
    assert row["forward_equivalents"] == pytest.approx(seconds / n / 0.5)


def test_rules_that_mix_nodes_and_orders_add_up():
    seconds = Seconds(costs())
    # MS-HVP(5): second derivatives at 0 and at four other nodes; FD-HVP: first ones at 0 and h
    assert seconds.of("ms_hvp_5", 10) == pytest.approx(1 + 2.8 + 6.5 + 0.5 * 30)
    assert seconds.of("fd_hvp", 1) == pytest.approx(1 + 1 + 1)
    assert seconds.of("k_median", 1) == pytest.approx(1 + 1 + 6.5 + 0.5 * 9)


def test_errors_are_means_over_prompts(table):
    for n in (1, 10, N):
        assert line(table, "ap", n)["error"] == pytest.approx(0.3)
        assert line(table, "activation_patching", n)["error"] == 0
    hvp = line(table, "hvp", 10)
    assert (hvp["error"], hvp["n_prompts"], hvp["cost"]) == (pytest.approx(0.15), 2, 7)
    assert hvp["ci_low"] == pytest.approx(0.1)
    assert hvp["ci_high"] == pytest.approx(0.2)


def test_prompts_without_an_error_are_left_out():
    table = frontier(sweep_errors(ap=(0.2, np.nan), hvp=(0.1, np.nan)), scores(), costs(), ks=())
    assert line(table, "ap", 1)["error"] == 0.2
    assert line(table, "hvp", 1)["n_prompts"] == 1
    nothing = frontier(sweep_errors(hvp=(np.nan, np.nan)), scores(), costs(), ks=())
    assert np.isnan(line(nothing, "hvp", 1)["error"])
    assert not line(nothing, "hvp", 1)["on_frontier"]


def test_it_says_where_the_times_were_taken(table):
    assert set(table.columns) == set(FRAMES["frontier"].columns)
    assert table[["device", "threads"]].drop_duplicates().values.tolist() == [["cpu", 2]]


def test_the_frontier_is_drawn_for_each_number_of_components(table):
    best = table[table["on_frontier"]]
    assert set(best.loc[best["n_components"] == 1, "estimator"]) == {"activation_patching"}
    of_all = set(best.loc[best["n_components"] == N, "estimator"])
    assert of_all == {"activation_patching", "ap", "ap_then_patching_5"}


def test_pareto_against_brute_force():
    draw = np.random.default_rng(2)
    cost, error = (pd.Series(draw.integers(0, 12, size=60).astype(float)) for _ in range(2))
    error[[3, 30]] = np.nan
    found = pareto(cost, error)
    for i in range(60):
        rivals = [
            j
            for j in range(60)
            if cost[j] <= cost[i]
            and error[j] <= error[i]
            and (cost[j], error[j]) != (cost[i], error[i])
        ]
        assert found[i] == (not np.isnan(error[i]) and not rivals)
    assert 1 < found.sum() < 30


def test_break_even_is_where_patching_overtakes_the_reverse_pass(table):
    # 1 + 1.4 + 0.1 (n - 10) > 4 from n = 27
    assert (table["break_even"] == 27).all()
    dear = Seconds(costs(MEASURED | {"reverse_pass": {N: 100.0}}))
    assert np.isnan(dear.break_even())


def test_screening_patches_the_largest_of_ap():
    table = scores()
    found = screened_errors(table, [5, 20]).set_index(["estimator", "prompt_id"])
    for k in (5, 20):
        by_hand = table.copy()
        for prompt in "ab":
            one = table[table["prompt_id"] == prompt]
            top = np.argsort(-np.abs(one["estimate"].to_numpy()))[:k]
            by_hand.loc[one.index[top], "estimate"] = one["truth"].to_numpy()[top]
        expected = prompt_errors(by_hand, 5).set_index("prompt_id")["top_k_relative_error"]
        for prompt in "ab":
            error = found["top_k_relative_error"][f"ap_then_patching_{k}", prompt]
            assert error == pytest.approx(expected[prompt])
            assert error > 0
    everything = screened_errors(table, [N])
    assert (everything["top_k_relative_error"] == 0).all()


def test_few_components_are_counted_once():
    few = {name: {min(n, 4): t for n, t in sizes.items()} for name, sizes in MEASURED.items()}
    table = frontier(sweep_errors(ap=(0.2, 0.4)), scores(4), costs(few | {"forward": {1: 0.5}}))
    assert sorted(table["n_components"].unique()) == [1, 4]
    assert not table["estimator"].str.startswith("ap_then").any()


@pytest.mark.parametrize("lost", ["order_2_at_zero", "gauss_newton", "patching", "reverse_pass"])
def test_operations_that_were_not_measured_are_named(lost):
    measured = {name: sizes for name, sizes in MEASURED.items() if name != lost}
    errors = sweep_errors(hvp=(0.1, 0.2), gauss_newton=(0.5, 0.5))
    with pytest.raises(ScoresError, match=f"lack the operation '{lost}'"):
        frontier(errors, scores(), costs(measured))


def test_other_refusals():
    with pytest.raises(FrameError, match="costs lacks the columns seconds: measure it again"):
        Seconds(costs().drop(columns="seconds"))
    with pytest.raises(ScoresError, match="no scores of 'ap'"):
        screened_errors(scores(estimator="hvp"), [5])
