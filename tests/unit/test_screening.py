"""Screen–Flag–Fix against the same quantities computed directly."""

import math

import pandas as pd
import pytest
import torch

from hvp_patching import screening
from hvp_patching.estimators import HVP, IG, MS_HVP
from hvp_patching.paths import Jets, path_jets
from hvp_patching.screening import reliability, screen_flag_fix

COLUMNS = ["prompt_id", "layer", "index", "ap", "rho", "flagged", "fixed", "cost"]


@pytest.fixture
def model(tiny):
    return tiny("tiny-llama")


@pytest.fixture
def pairs(make_pair):
    return [make_pair(changed=(5,), n=8, seed=seed) for seed in (1, 2)]


def hand_made(ap, q):
    values = torch.tensor([[[0.0, a, b]] for a, b in zip(ap, q, strict=True)], dtype=torch.float64)
    return Jets(values, (0.0,), pd.DataFrame({"layer": 0, "index": range(len(ap))}))


def test_reliability_is_half_the_curvature_over_the_slope():
    rho = reliability(hand_made([2.0, -0.5, 1.0, 0.0, 0.0], [1.0, 3.0, 0.0, 1.0, 0.0]))
    assert rho[:3].tolist() == [0.25, 3.0, 0.0]
    assert bool(rho[3:].isnan().all())


def test_reliability_needs_the_second_derivative():
    jets = hand_made([1.0], [1.0])
    short = Jets(jets.values[..., :2], jets.nodes, jets.components)
    with pytest.raises(ValueError, match="no derivative of order 2 at node 0"):
        reliability(short)


def test_columns_and_values_are_those_of_the_jets(model, pairs):
    table = screen_flag_fix(model, pairs, tau=0.2)
    assert list(table.columns) == COLUMNS
    assert table["prompt_id"].tolist() == ["seed-1"] * 12 + ["seed-2"] * 12
    jets = [path_jets(model, pair) for pair in pairs]
    f1 = torch.cat([j.at(0.0, 1) for j in jets])
    f2 = torch.cat([j.at(0.0, 2) for j in jets])
    rho = (f2 / 2).abs() / f1.abs()
    assert table["ap"].tolist() == pytest.approx(f1.tolist(), rel=1e-12)
    assert table["rho"].tolist() == pytest.approx(rho.tolist(), rel=1e-9)
    assert table["flagged"].tolist() == (rho > 0.2).tolist()
    assert 0 < table["flagged"].sum() < 24
    fixed = torch.where(rho > 0.2, f1 + f2 / 2, f1)
    assert table["fixed"].tolist() == pytest.approx(fixed.tolist(), rel=1e-12)
    assert table["cost"].tolist() == [2] * 24
    layers = pd.concat([j.components for j in jets], ignore_index=True)
    pd.testing.assert_frame_equal(table[["layer", "index"]], layers)


@pytest.mark.parametrize("rule", [MS_HVP(3), IG(4)], ids=lambda rule: rule.name)
def test_another_fix_is_computed_for_the_flagged_only(model, pairs, rule, monkeypatch):
    asked = []

    def spy(*args, **options):
        jets = path_jets(*args, **options)
        asked.append(len(jets.components))
        return jets

    monkeypatch.setattr(screening, "path_jets", spy)
    table = screen_flag_fix(model, pairs[:1], tau=0.2, fix=rule)
    n = int(table["flagged"].sum())
    assert asked == [12, n]
    direct = rule(path_jets(model, pairs[0], nodes=rule.request()))
    expected = torch.where(
        torch.tensor(table["flagged"]), direct, torch.tensor(table["ap"].to_numpy())
    )
    assert table["fixed"].tolist() == pytest.approx(expected.tolist(), rel=1e-9)
    extra = rule.cost - 2
    assert table["cost"].tolist() == [2 + extra * flag for flag in table["flagged"]]


def test_the_screen_already_holds_the_default_fix(model, pairs, monkeypatch):
    calls = []

    def spy(*args, **options):
        calls.append(args)
        return path_jets(*args, **options)

    monkeypatch.setattr(screening, "path_jets", spy)
    screen_flag_fix(model, pairs, tau=0.0, fix=HVP())
    assert len(calls) == len(pairs)


def test_zero_flags_all_and_infinity_none(model, pairs):
    everything = screen_flag_fix(model, pairs, tau=0.0, fix=MS_HVP(2))
    assert everything["flagged"].all()
    assert (everything["cost"] == 4).all()
    nothing = screen_flag_fix(model, pairs, tau=math.inf)
    assert not nothing["flagged"].any()
    assert nothing["fixed"].tolist() == nothing["ap"].tolist()


def test_no_slope_is_flagged_where_there_is_curvature(model, pairs, monkeypatch):
    jets = hand_made([0.0, 0.0, 1.0], [0.6, 0.0, 0.6])
    monkeypatch.setattr(screening, "path_jets", lambda *_, **__: jets)
    table = screen_flag_fix(model, pairs[:1], tau=0.5)
    assert table["rho"].isna().tolist() == [True, True, False]
    assert table["flagged"].tolist() == [True, False, False]
    assert table["fixed"].tolist() == [0.3, 0.0, 1.0]
    at_the_threshold = screen_flag_fix(model, pairs[:1], tau=0.3)  # ρ = 0.3: not above it
    assert at_the_threshold["flagged"].tolist() == [True, False, False]


def test_options_reach_the_engine(model, pairs):
    chosen = [(2, 1), (0, 3)]
    table = screen_flag_fix(
        model,
        pairs[:1],
        site="attn_heads",
        tau=0.0,
        fix=MS_HVP(2),
        components=chosen,
        direction="denoising",
        backend="autograd",
    )
    assert list(table[["layer", "index"]].itertuples(index=False, name=None)) == chosen
    jets = path_jets(model, pairs[0], nodes=(0.0, 0.5), direction="denoising", components=chosen)
    assert table["fixed"].tolist() == pytest.approx(MS_HVP(2)(jets).tolist(), rel=1e-9)


@pytest.mark.parametrize(
    "fix", ["ms_hvp_2", MS_HVP(2), lambda: MS_HVP(2)], ids=["name", "rule", "function"]
)
def test_the_fix_may_be_named(fix, model, pairs):
    table = screen_flag_fix(model, pairs[0], tau=0.0, fix=fix)
    expected = MS_HVP(2)(path_jets(model, pairs[0], nodes=MS_HVP(2).request()))
    assert table["fixed"].tolist() == pytest.approx(expected.tolist(), rel=1e-9)


def test_one_pair_and_a_class_of_estimators_mean_what_they_say(model, pairs):
    plain = screen_flag_fix(model, pairs[:1], tau=0.2)
    pd.testing.assert_frame_equal(screen_flag_fix(model, pairs[0], tau=0.2, fix=HVP), plain)


@pytest.mark.parametrize(
    ("fix", "name"), [(MS_HVP, "MS_HVP"), (3, "3"), (len, "len"), (lambda: 1, "<lambda>")]
)
def test_what_is_no_estimator_is_named(fix, name, model, pairs):
    with pytest.raises(ValueError, match=rf"^fix={name} is no estimator; give one, such as"):
        screen_flag_fix(model, pairs, fix=fix)


def test_bad_requests_end_in_one_line(model, pairs):
    with pytest.raises(ValueError, match="unknown estimator 'ms-hvp'"):
        screen_flag_fix(model, pairs, fix="ms-hvp")
    with pytest.raises(ValueError, match=r"tau must be at least 0, got 'high'$"):
        screen_flag_fix(model, pairs, tau="high")
    with pytest.raises(ValueError, match=r"tau must be at least 0, got -0\.1$"):
        screen_flag_fix(model, pairs, tau=-0.1)
    with pytest.raises(ValueError, match=r"tau must be at least 0, got nan$"):
        screen_flag_fix(model, pairs, tau=math.nan)
    with pytest.raises(ValueError, match="no prompt pairs given"):
        screen_flag_fix(model, [])
    with pytest.raises(ValueError, match="unknown site 'heads'"):
        screen_flag_fix(model, pairs, site="heads")
