import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hvp_patching.aggregates import FRAMES
from hvp_patching.estimators import AP, HVP
from hvp_patching.frames import FrameError
from hvp_patching.measuring.scores import score_estimators
from hvp_patching.metrics.diagnosis import (
    TAUS,
    agreement,
    flag,
    layer_profile,
    operating_curve,
    reliability_table,
    selection_curve,
)
from hvp_patching.paths import path_jets
from hvp_patching.screening import screen_flag_fix

# two prompts of three heads; the last head of p1 has AP = 0, that of p0 has no effect
PROMPT = ["p0", "p0", "p0", "p1", "p1", "p1"]
LAYER = [0, 0, 1, 0, 0, 1]
INDEX = [0, 1, 0, 0, 1, 0]
AP_ = [1.0, -2.0, 1e-8, 4.0, 1.0, 0.0]
HVP_ = [1.5, -2.2, 1e-8, 3.0, 4.0, 0.5]
TRUTH = [1.6, -2.5, 1e-8, 2.0, 5.0, 1.0]
RHO = [0.5, 0.1, 0.0, 0.25, 3.0, np.nan]
AP_ERROR = [0.6 / 1.6, 0.2, np.nan, 1.0, 0.8, 1.0]
HVP_ERROR = [0.1 / 1.6, 0.12, np.nan, 0.5, 0.2, 0.5]


def scores(ap=AP_, hvp=HVP_, truth=TRUTH, prompt=PROMPT, layer=LAYER, index=INDEX):
    columns = {"prompt_id": prompt, "layer": layer, "index": index}
    return pd.concat(
        [
            pd.DataFrame(columns | {"estimator": name, "estimate": values, "cost": cost})
            for name, values, cost in (("hvp", hvp, 2), ("gim", truth, 1), ("ap", ap, 1))
        ]
    ).assign(truth=[*truth] * 3)


def random_scores(n_prompts=4, n_heads=30, seed=0):
    """Cubic paths of heads whose curvature differs by orders of magnitude."""
    rng = np.random.default_rng(seed)
    n = n_prompts * n_heads
    ap = rng.normal(size=n)
    half_q = ap * 10 ** rng.uniform(-3, 1, size=n) * rng.choice([-1, 1], size=n)
    prompt = np.repeat([f"p{i}" for i in range(n_prompts)], n_heads)
    place = np.tile(np.arange(n_heads), n_prompts)
    truth = ap + half_q * (1 + rng.normal(0, 0.1, size=n))
    return scores(ap, ap + half_q, truth, prompt, place // 5, place % 5)


def median_of_medians(error, prompt):
    by_prompt = [
        np.median([e for e, p in zip(error, prompt, strict=True) if p == name and not np.isnan(e)])
        for name in dict.fromkeys(prompt)
    ]
    return np.median(by_prompt)


def test_table_has_hand_computed_rho_and_errors():
    shuffled = scores().sample(frac=1, random_state=1)
    table = reliability_table(shuffled).sort_values(["prompt_id", "layer", "index"])
    np.testing.assert_allclose(table["rho"], RHO)
    np.testing.assert_allclose(table["ap_error"], AP_ERROR)
    np.testing.assert_allclose(table["hvp_error"], HVP_ERROR)
    np.testing.assert_array_equal(table[["ap", "hvp", "truth"]], np.transpose([AP_, HVP_, TRUTH]))
    assert list(table.columns) == [
        *("prompt_id", "layer", "index", "ap", "hvp", "truth", "rho", "ap_error", "hvp_error")
    ]
    assert np.isnan(reliability_table(scores(), trivial_effect=3.0)["ap_error"]).sum() == 5


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (scores()[lambda s: s["estimator"] != "hvp"], "ap has 6 scores and hvp 0"),
        (scores().query("estimator != 'hvp' or prompt_id == 'p0'"), "ap has 6 scores and hvp 3, 3"),
        (scores().query("estimator == 'gim'"), "no rows"),
        (scores().drop(columns="estimator"), "lacks the columns estimator"),
        (scores(ap=[np.nan, *AP_[1:]]), "prompt 'p0': estimate of estimator 'ap'"),
        (pd.concat([scores()] * 2), "scored twice"),
    ],
)
def test_scores_without_both_estimators_are_refused(table, message):
    with pytest.raises(FrameError, match=message) as caught:
        reliability_table(table)
    assert "\n" not in str(caught.value)


def test_flags_and_misses_are_those_of_the_threshold():
    table = reliability_table(scores())
    found = flag(table, 0.3)
    assert set(FRAMES["flagged"].columns) <= set(found.columns)
    by_hand = (table["hvp"] - table["ap"]).abs() > 0.3 * table["ap"].abs()
    assert found["flagged"].tolist() == by_hand.tolist()
    assert 0 < found["flagged"].sum() < len(found)
    np.testing.assert_array_equal(found["ap_miss"], (table["ap"] - table["truth"]).abs())
    np.testing.assert_array_equal(found["hvp_miss"], (table["hvp"] - table["truth"]).abs())


def test_agreement_is_spearmans_of_the_defined_pairs():
    table = reliability_table(scores())
    pairs = table[["rho", "ap_error"]].dropna()
    (row,) = agreement(table).to_dict("records")
    assert row["n"] == len(pairs)
    assert row["spearman"] == pytest.approx(stats.spearmanr(*pairs.to_numpy().T).statistic)
    assert row["spearman"] != 0


def test_operating_curve_by_hand():
    curve = operating_curve(reliability_table(scores()), taus=[0.0, 0.2, 0.5, 5.0])
    # AP = 0 with an hvp of 0.5 is flagged at every threshold; rho = tau is not flagged
    np.testing.assert_allclose(curve["flagged_share"], [5 / 6, 4 / 6, 2 / 6, 1 / 6])
    np.testing.assert_allclose(curve["ap_error"], (0.5 * (0.6 / 1.6 + 0.2) + 1.0) / 2)
    np.testing.assert_allclose(curve["hvp_error"], (0.5 * (0.1 / 1.6 + 0.12) + 0.5) / 2)
    kept = [0.5 * (0.1 / 1.6 + 0.12), 0.5 * (0.1 / 1.6 + 0.2), *[0.5 * (0.6 / 1.6 + 0.2)] * 2]
    changed = [0.5, 0.5, 0.5, 0.8]
    np.testing.assert_allclose(curve["selective_error"], (np.array(kept) + changed) / 2)
    np.testing.assert_allclose(curve["reduction"], 1 - curve["selective_error"] / curve["ap_error"])
    np.testing.assert_allclose(curve["ceiling"], 1 - curve["hvp_error"] / curve["ap_error"])


def test_operating_curve_agrees_with_plain_loops():
    table = reliability_table(random_scores())
    curve = operating_curve(table)
    assert tuple(curve["tau"]) == TAUS
    assert 0.5 in TAUS
    for row in curve.itertuples():
        flagged = [
            abs(h - a) > row.tau * abs(a) for a, h in zip(table["ap"], table["hvp"], strict=True)
        ]
        error = np.where(flagged, table["hvp_error"], table["ap_error"])
        assert row.flagged_share == pytest.approx(np.mean(flagged))
        assert row.selective_error == pytest.approx(median_of_medians(error, table["prompt_id"]))


def test_thresholds_lead_from_full_correction_to_none():
    curve = operating_curve(reliability_table(random_scores()), taus=[0.0, 0.01, 0.1, 1.0, 1e9])
    assert curve["reduction"].iloc[0] == pytest.approx(curve["ceiling"].iloc[0])
    assert curve["reduction"].iloc[-1] == 0
    assert curve["ceiling"].iloc[0] > 0.5
    assert curve["flagged_share"].is_monotonic_decreasing
    assert 0 < curve["reduction"].iloc[2] < curve["ceiling"].iloc[2]


def test_negative_threshold_is_refused():
    with pytest.raises(ValueError, match="at least 0, got -1"):
        operating_curve(reliability_table(scores()), taus=[0.5, -1.0])


def test_flagged_components_are_those_of_screen_flag_fix(tiny, make_pair):
    model, pair = tiny("tiny-gpt2"), make_pair(changed=(6, 8), n=10)
    screened = screen_flag_fix(model, [pair], tau=0.2)
    jets = path_jets(model, pair, nodes={0.0: 2, 1.0: 0})
    table = reliability_table(score_estimators(jets.to_frame(pair.prompt_id), [AP(), HVP()]))
    curve = operating_curve(table, taus=[0.2])
    assert 0 < screened["flagged"].mean() < 1
    assert curve["flagged_share"].iloc[0] == screened["flagged"].mean()
    error = ((screened["fixed"] - table["truth"]) / table["truth"]).abs()
    assert curve["selective_error"].iloc[0] == pytest.approx(error.median(), rel=1e-9)


def test_selection_by_hand():
    curve = selection_curve(reliability_table(scores()), n_random=3)
    # gains in order of falling rho: infinite, 3, 0.5, 0.25, 0.1, 0
    gains = np.array([0.5, 3.0, 0.5, 1.0, 0.2, 0.0])
    np.testing.assert_allclose(curve["by_rho"], [0, *np.cumsum(gains) / gains.sum()])
    np.testing.assert_allclose(curve["share"], np.arange(7) / 6)
    for column in ("random_mean", "random_low", "random_high"):
        assert curve[column].iloc[0] == 0
        assert curve[column].iloc[-1] == pytest.approx(1)


def test_random_selection_gains_in_proportion_and_rho_gains_more():
    table = reliability_table(random_scores())
    curve = selection_curve(table, n_random=2000, seed=3)
    np.testing.assert_allclose(curve["random_mean"], curve["share"], atol=0.02)
    inner = curve[curve["share"].between(0.05, 0.6)]
    assert (inner["by_rho"] > inner["random_high"]).all()
    assert (inner["random_low"] < inner["random_mean"]).all()
    assert (inner["random_mean"] < inner["random_high"]).all()
    pd.testing.assert_frame_equal(curve, selection_curve(table, n_random=2000, seed=3))
    assert not curve.equals(selection_curve(table, n_random=2000, seed=4))


def test_no_gain_from_correction_has_no_share():
    worse = reliability_table(scores(ap=TRUTH, hvp=[t + 0.1 for t in TRUTH]))
    curve = selection_curve(worse, n_random=5)
    assert curve["by_rho"].isna().all()
    assert curve["random_mean"].isna().all()


def test_long_tables_give_a_hundred_steps():
    curve = selection_curve(reliability_table(random_scores(8, 40)), n_random=2)
    assert len(curve) == 101
    np.testing.assert_allclose(curve["share"], np.linspace(0, 1, 101), atol=0.5 / 320)


def test_layer_profile_is_numpys_quartiles():
    table = reliability_table(random_scores())
    profile = layer_profile(table)
    assert list(profile["layer"]) == list(range(6))
    for row in profile.itertuples():
        inside = table[table["layer"] == row.layer]
        expected = np.percentile(inside["rho"], [25, 50, 75])
        np.testing.assert_allclose([row.rho_low, row.rho_median, row.rho_high], expected)
        assert row.ap_error == pytest.approx(np.median(inside["ap_error"]))
        assert row.hvp_error == pytest.approx(np.median(inside["hvp_error"]))


def test_layer_profile_leaves_out_what_is_undefined():
    profile = layer_profile(reliability_table(scores())).set_index("layer")
    # in layer 1 one head has no rho and the other no effect
    assert profile.loc[1, "rho_median"] == 0
    assert profile.loc[1, "ap_error"] == pytest.approx(1.0)
    undefined = reliability_table(scores(ap=[0.0] * 6, truth=[1e-9] * 6))
    assert layer_profile(undefined)[["rho_median", "ap_error"]].isna().all(axis=None)
