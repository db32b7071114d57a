"""Sets of components patched together, against plain forward passes of whole prompts alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pandas as pd
import pytest
import torch

import hvp_patching as hp
from hvp_patching.circuits.joint import PREDICTORS, needed
from hvp_patching.models.tiny import FAMILIES
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.joint import joint_jets
from hvp_patching.paths.precision import keep_precision
from hvp_patching.sites import get_site

HOOKS = {
    "attn_heads": ("blocks.{}.attn.hook_z", (-2, 4)),
    "mlp_pre": ("blocks.{}.mlp.hook_pre", (-1, 64)),
    "mlp_post": ("blocks.{}.mlp.hook_post", (-1, 64)),
    "mlp_out": ("blocks.{}.hook_mlp_out", None),
    "resid_post": ("blocks.{}.hook_resid_post", None),
}
# in one layer, in all of them, from the second layer on
SETS = [[(0, 1), (0, 3)], [(2, 0), (0, 2), (1, 1), (1, 3)], [(2, 2), (1, 0)]]
OTHER_SETS = {"mlp_pre": SETS, "mlp_post": SETS, "mlp_out": [[(1, 0), (0, 0)], [(2, 0), (1, 0)]]}
STEPS = (0.016, 0.008, 0.004)


class Plain:
    """F of any step and set: runs whose components are led from what they are towards a'."""

    def __init__(self, model, pair, site="attn_heads", direction="noising", zero=False, foil=None):
        self.model, self.targets, self.foil = model, list(pair.target_ids), foil
        self.pattern, self.components = HOOKS[site]
        sides = [torch.tensor([ids]) for ids in (pair.clean_ids, pair.corrupted_ids)]
        self.ids, other = sides if direction == "noising" else sides[::-1]
        self.goal = self.seen(other)
        if zero:
            self.goal = [torch.zeros_like(goal) for goal in self.goal]

    def logits(self, ids, hooks=()):
        with torch.no_grad(), keep_precision(torch.float64):
            return self.model.run_with_hooks(ids, fwd_hooks=list(hooks))[:, -1]

    def seen(self, ids):
        found = []
        names = [self.pattern.format(layer) for layer in range(self.model.cfg.n_layers)]
        self.logits(ids, [(name, lambda x, hook: found.append(x.clone())) for name in names])
        return found

    def hooks(self, members, c):
        """c: steps [n_rows, n_members]."""
        for layer in sorted({layer for layer, _ in members}):
            own = [(i, index) for i, (at, index) in enumerate(members) if at == layer]

            def hook(x, hook, layer=layer, own=own):
                x = x.clone()
                for i, index in own:
                    if self.components is None:
                        x = x + c[:, i].view(-1, 1, 1) * (self.goal[layer] - x)
                        continue
                    part = x.select(self.components[0], index)
                    goal = self.goal[layer].select(self.components[0], index)
                    step = c[:, i].view(-1, *[1] * (part.ndim - 1))
                    part.copy_(part + step * (goal - part))
                return x

            yield self.pattern.format(layer), hook

    def f(self, members, c):
        """The metric of every row of steps."""
        c = torch.as_tensor(c, dtype=torch.float64)
        c = c[:, None].expand(-1, len(members)) if c.ndim == 1 else c
        logits = self.logits(self.ids.expand(len(c), -1), self.hooks(members, c))
        top = logits[:, self.targets].logsumexp(-1)
        return top - (logits.logsumexp(-1) if self.foil is None else logits[:, self.foil])

    def exact(self, members):
        start, end = self.f(members, [0.0, 1.0]).tolist()
        return end - start

    def derivatives(self, members, node=0.0):
        """F' and F'' at a node by central differences and Richardson's limit."""
        steps = torch.tensor([*STEPS, *(-h for h in STEPS), 0.0], dtype=torch.float64)
        up, down, zero = self.f(members, node + steps).split([3, 3, 1])
        h = steps[:3]
        return limit((up - down) / (2 * h)), limit((up + down - 2 * zero) / h**2)

    def interaction(self, members, i, j):
        """∂²F/∂c_i∂c_j at 0."""
        c = torch.zeros(12, len(members), dtype=torch.float64)
        signs = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
        for row, (h, (a, b)) in enumerate((h, sign) for h in STEPS for sign in signs):
            c[row, i], c[row, j] = a * h, b * h
        f = self.f(members, c).view(3, 4) @ torch.tensor([1.0, -1, -1, 1], dtype=torch.float64)
        return limit(f / (4 * torch.tensor(STEPS, dtype=torch.float64) ** 2))


def limit(estimates):
    a, b, c = estimates.tolist()
    return (64 * c - 20 * b + a) / 45


def wide(frame):
    """One row a set, a column a predictor."""
    table = frame.pivot(index="set_id", columns="predictor", values="value")
    return table.assign(exact=frame.groupby("set_id")["exact"].first())


@pytest.fixture(scope="module")
def pair(make_pair):
    return replace(make_pair((4, 6), n=9), foil_ids=(23,))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("backend", ["taylor", "autograd"])
def test_a_set_is_held_at_the_other_runs_values(tiny, pair, family, backend):
    plain = Plain(tiny(family), pair)
    found = hp.joint_effects(tiny(family), pair, "attn_heads", SETS, ["sum_exact"], backend=backend)
    for number, members in enumerate(SETS):
        row = found[found["set_id"] == number].iloc[0]
        assert row["size"] == len(members)
        assert row["exact"] == pytest.approx(plain.exact(members), abs=1e-9)
        alone = [plain.exact([member]) for member in members]
        assert row["value"] == pytest.approx(sum(alone), abs=1e-9)
        assert abs(row["exact"]) > 1e-3
        assert abs(row["value"] - row["exact"]) > 1e-5  # a set is not the sum of its parts


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("backend", ["taylor", "autograd"])
def test_derivatives_of_the_joint_path_are_finite_differences(tiny, pair, family, backend):
    model, site = tiny(family), get_site("attn_heads")
    run = base_run(model, pair, site)
    request = {0.0: 3, 0.4: 2, 1.0: 1}
    jets = joint_jets(run, [tuple(sorted(own)) for own in SETS], request, backend, 2**30)
    plain = Plain(model, pair)
    for number, members in enumerate(SETS):
        for place, node in enumerate(request):
            first, second = plain.derivatives(members, node)
            assert float(jets[number, place, 1]) == pytest.approx(first, rel=1e-6, abs=1e-7)
            assert abs(first) > 1e-3
            if node < 1:
                assert float(jets[number, place, 2]) == pytest.approx(second, rel=1e-5, abs=1e-6)
                assert abs(second) > 1e-3
    assert bool(jets[:, 2, 2:].isnan().all())


@pytest.mark.parametrize("family", ["tiny-gpt2", "tiny-pythia", "tiny-gemma2", "tiny-llama"])
def test_both_backends_agree_to_the_third_derivative(tiny, pair, family):
    run = base_run(tiny(family), pair, get_site("attn_heads"))
    sets = [tuple(sorted(own)) for own in SETS]
    taylor, reverse = (
        joint_jets(run, sets, {0.0: 3, 0.7: 3}, backend, 2**30)
        for backend in ("taylor", "autograd")
    )
    torch.testing.assert_close(taylor, reverse, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("family", ["tiny-gpt2", "tiny-pythia", "tiny-gemma2"])
def test_predictors_are_made_of_the_dense_hessian_of_the_set(tiny, pair, family):
    """Σ AP, Σ q and Σ C_ij by differences of plain passes, coefficient by coefficient."""
    plain, members = Plain(tiny(family), pair), sorted(SETS[1])
    found = wide(hp.joint_effects(tiny(family), pair, "attn_heads", [members])).loc[0]
    one = [plain.derivatives([member]) for member in members]
    first, own = sum(a for a, _ in one), sum(q for _, q in one)
    pairs = sum(plain.interaction(members, i, j) for i, j in combinations(range(4), 2))
    exact = sum(plain.exact([member]) for member in members)
    assert found["sum_ap"] == pytest.approx(first, rel=1e-6)
    assert found["sum_hvp"] == pytest.approx(first + own / 2, rel=1e-5)
    assert found["joint_hvp"] == pytest.approx(first + own / 2 + pairs, rel=1e-5, abs=1e-6)
    assert found["sum_exact"] == pytest.approx(exact, rel=1e-8)
    assert found["exact_pairs"] == pytest.approx(exact + pairs, rel=1e-5, abs=1e-6)
    assert min(abs(own), abs(pairs)) > 1e-3


@pytest.mark.parametrize("site", ["mlp_pre", "mlp_post", "mlp_out"])
@pytest.mark.parametrize("family", ["tiny-pythia", "tiny-qwen2"])
def test_other_sites(tiny, pair, site, family):
    plain = Plain(tiny(family), pair, site)
    found = wide(hp.joint_effects(tiny(family), pair, site, OTHER_SETS[site]))
    for number, members in enumerate(OTHER_SETS[site]):
        first, second = plain.derivatives(sorted(members))
        row = found.loc[number]
        assert row["exact"] == pytest.approx(plain.exact(sorted(members)), abs=1e-9)
        assert row["sum_ap"] == pytest.approx(first, rel=1e-5, abs=1e-7)
        assert row["joint_hvp"] == pytest.approx(first + second / 2, rel=1e-5, abs=1e-6)
        assert abs(row["exact"]) > 1e-5


def test_a_later_residual_stream_blocks_all_before(tiny, pair):
    """The set has the effect of its last layer alone, and AP adds both."""
    model, sets = tiny("tiny-llama"), [[(0, 0), (1, 0)], [(1, 0)]]
    found = wide(hp.joint_effects(model, pair, "resid_post", sets))
    assert found["exact"][0] == pytest.approx(found["exact"][1], rel=1e-9)
    first, second = Plain(model, pair, "resid_post").derivatives(sets[0])
    assert found["joint_hvp"][0] == pytest.approx(first + second / 2, rel=1e-5, abs=1e-6)
    assert abs(found["sum_ap"][0] - found["sum_ap"][1]) > 1e-3


@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_another_direction_and_metric(tiny, pair, direction):
    model = tiny("tiny-qwen2")
    plain = Plain(model, pair, direction=direction, foil=23)
    options = {"direction": direction, "metric": hp.logit_difference()}
    found = wide(hp.joint_effects(model, pair, "attn_heads", SETS, **options))
    own = hp.Metric(lambda x: x[17] - x[23])
    by_function = hp.joint_effects(model, pair, "attn_heads", SETS, direction=direction, metric=own)
    pd.testing.assert_frame_equal(found, wide(by_function), rtol=1e-8)
    for number, members in enumerate(SETS):
        first, second = plain.derivatives(sorted(members))
        assert found["exact"][number] == pytest.approx(plain.exact(sorted(members)), abs=1e-9)
        assert found["joint_hvp"][number] == pytest.approx(first + second / 2, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("site", ["attn_heads", "mlp_out"])
def test_zero_corruption_moves_towards_nothing(tiny, pair, site):
    model, zero = tiny("tiny-gemma2"), replace(pair, corruption="zero", foil_ids=())
    plain, sets = Plain(model, zero, site, zero=True), [[(0, 0), (2, 0)], [(1, 0)]]
    found = wide(hp.joint_effects(model, zero, site, sets))
    for number, members in enumerate(sets):
        first, second = plain.derivatives(members)
        assert found["exact"][number] == pytest.approx(plain.exact(members), abs=1e-9)
        assert found["joint_hvp"][number] == pytest.approx(first + second / 2, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_set_of_one_is_the_components_own_path(tiny, pair, family):
    """By another engine: rows that join at their hook and are not moved again."""
    model, request = tiny(family), {0.0: 3, 0.3: 2, 1.0: 0}
    run = base_run(model, pair, get_site("attn_heads"))
    alone = hp.path_jets(model, pair, nodes=request, backend="autograd")
    sets = [((layer, index),) for layer, index in alone.components.itertuples(index=False)]
    jets = joint_jets(run, sets, request, "taylor", 2**30)
    torch.testing.assert_close(jets, alone.values, rtol=1e-8, atol=1e-9, equal_nan=True)


def test_rules_converge_to_the_joint_effect(tiny, pair):
    names = ["joint_gl_16", "joint_ms_hvp_40", "joint_ap", "sum_ap"]
    found = wide(hp.joint_effects(tiny("tiny-gpt2"), pair, "attn_heads", SETS, names))
    off = found[names].sub(found["exact"], axis=0).abs().max()
    assert off["joint_gl_16"] < 1e-6
    assert off["joint_ms_hvp_40"] < 1e-3
    assert off["sum_ap"] > 1e-2
    assert found["joint_ap"].to_numpy() == pytest.approx(found["sum_ap"].to_numpy(), abs=1e-10)


def test_rows_of_many_passes_and_of_one_are_the_same(tiny, pair):
    model, calls = tiny("tiny-llama"), []
    many = hp.joint_effects(model, pair, "attn_heads", SETS, memory=1, progress=calls.append)
    pd.testing.assert_frame_equal(
        many, hp.joint_effects(model, pair, "attn_heads", SETS), rtol=1e-8, atol=1e-10
    )
    assert sum(calls) == pytest.approx(1)
    assert len(calls) > 10


def test_single_precision_is_close(tiny, pair):
    double, single = (
        hp.joint_effects(tiny("tiny-gpt2", dtype), pair, "attn_heads", SETS)
        for dtype in ("float64", "float32")
    )
    size = double["exact"].abs().max()
    assert (double["value"] - single["value"]).abs().max() < 1e-3 * size


def test_names_and_order_are_the_callers(tiny, pair):
    sets = {"b": [(1, 3), (0, 0)], "a": pd.DataFrame({"layer": [2], "index": [1]})}
    found = hp.joint_effects(tiny("tiny-gpt2"), pair, "attn_heads", sets)
    assert list(found.columns) == ["set_id", "size", "predictor", "value", "exact"]
    assert found["set_id"].tolist() == ["b"] * len(PREDICTORS) + ["a"] * len(PREDICTORS)
    assert found["predictor"].tolist() == [*PREDICTORS] * 2
    assert found["size"].tolist() == [2] * len(PREDICTORS) + [1] * len(PREDICTORS)
    alone = found[found["set_id"] == "a"].set_index("predictor")["value"]
    assert alone["sum_exact"] == pytest.approx(alone["exact_pairs"], abs=1e-9)
    assert alone["sum_hvp"] == pytest.approx(alone["joint_hvp"], abs=1e-9)


def test_only_what_is_asked_for_is_computed():
    assert needed(["joint_ap"]) == ({}, {0.0: 1, 1.0: 0})
    assert needed(["sum_hvp"]) == ({0.0: 2}, {0.0: 0, 1.0: 0})
    assert needed(["exact_pairs"]) == ({0.0: 2, 1.0: 0}, {0.0: 2, 1.0: 0})
    assert needed(["sum_exact", "joint_ig_2"])[1] == {0.0: 0, 0.25: 1, 0.75: 1, 1.0: 0}


def test_a_model_that_taylor_mode_cannot_run_falls_back_with_one_warning(
    tiny, pair, monkeypatch, caplog
):
    from hvp_patching.paths.taylor.tensor import RULES

    wanted = hp.joint_effects(tiny("tiny-llama"), pair, "attn_heads", SETS, ["joint_hvp"])
    monkeypatch.delitem(RULES, "silu")
    found = hp.joint_effects(tiny("tiny-llama"), pair, "attn_heads", SETS, ["joint_hvp"])
    pd.testing.assert_frame_equal(found, wanted, rtol=1e-8)
    assert caplog.text.count("falling back to the autograd backend") == 1


BAD = {
    "no sets": ([], {}, "no sets of components given"),
    "nothing": (5, {}, r"sets are lists of \(layer, index\) pairs, or a mapping of them, not 5"),
    "empty": ([[(0, 0)], []], {}, "set 1: no component requested at site 'attn_heads'"),
    "none": ({"x": None}, {}, "set 'x': no component requested"),
    "twice": ({"x": [(0, 1), (0, 1)]}, {}, "set 'x': a component is requested twice"),
    "no such layer": ([[(9, 0)]], {}, "set 0: layer 9 requested, but the model has 3 layers"),
    "no such head": ([[(0, 4)]], {}, "set 0: component 4 requested at site .* which has 4"),
    "more than there are": ([[(0, i) for i in range(5)]], {}, "set 0: component 4 requested"),
    "one set alone": ([(0, 1), (1, 1)], {}, r"set 0: components are a list of \(layer, index\) p"),
    "no predictor": (SETS, {"predictors": []}, "no predictors given; choose some of: sum_exact, "),
    "another": (SETS, {"predictors": ["ap"]}, "unknown predictor 'ap'; choose sum_exact, exact_pa"),
    "no rule": (SETS, {"predictors": "joint_eap"}, "unknown estimator 'eap'; known: ap, "),
    "backend": (SETS, {"backend": "tangent"}, "joint paths have no backend 'tangent'; choose auto"),
    "site": (SETS, {"site": "heads"}, "unknown site 'heads'"),
    "metric": (SETS, {"metric": "logits"}, "unknown metric 'logits'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_are_refused_in_one_line(tiny, pair, case):
    sets, options, said = BAD[case]
    asked = {"site": "attn_heads", "sets": sets} | options
    with pytest.raises(ValueError, match=said) as caught:
        hp.joint_effects(tiny("tiny-gpt2"), pair, **asked)
    assert "\n" not in str(caught.value)
