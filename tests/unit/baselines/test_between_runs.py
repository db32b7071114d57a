"""Gradients of the other run and between the two, against differences of plain forward passes."""

import sys
from dataclasses import replace

import pytest
import torch

import hvp_patching as hp
from hvp_patching.baselines import BASELINES, COSTS, clean_corrupted, ig_inputs
from hvp_patching.models.tiny import FAMILIES
from hvp_patching.prompts.pair import TokenPair

from .plain import FOIL, SITES, Plain, at, logit_gap

CASES = [
    *zip(FAMILIES, SITES, strict=True),
    ("tiny-gemma2", "attn_heads"),
    ("tiny-gpt2", "mlp_pre"),
]
FUNCTIONS = {"clean_corrupted": clean_corrupted, "ig_inputs": ig_inputs}


def interpolated(plain, t):
    """Hooks that put embeddings the fraction t of the way to the other run's into the base run."""
    (mine,), (other,) = (plain.read(ids, ["hook_embed"]) for ids in (plain.ids, plain.other))
    return [("hook_embed", lambda e, hook: mine + t * (other - mine))]


def between(plain, components, steps, position=None):
    """Mean slope along δ over the inputs e_far + (k/N)(e_base − e_far), k = 0 … N − 1."""
    total = torch.zeros(len(components), dtype=torch.float64)
    for k in range(steps):
        hooks = interpolated(plain, 1 - k / steps)
        slopes = [plain.slope(*component, hooks, position) for component in components]
        total += torch.tensor(slopes, dtype=torch.float64) / steps
    return total


def agree(found, expected):
    assert float(expected.abs().min()) > 1e-6
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("family", "site"), CASES)
@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_gradients_between_the_inputs_are_slopes_there(family, site, direction, tiny, make_pair):
    model, pair = tiny(family), make_pair(changed=(4, 6), n=9)
    plain = Plain(model, pair, site, direction)
    components = plain.some()
    found = ig_inputs(model, pair, site, direction, steps=3)
    agree(at(found, model, site, components), between(plain, components, 3))


@pytest.mark.parametrize(("family", "site"), CASES)
def test_clean_and_corrupted_slopes_are_averaged(family, site, tiny, make_pair):
    model, pair = tiny(family), make_pair(changed=(4, 6), n=9)
    here, there = Plain(model, pair, site), Plain(model, pair, site, "denoising")
    components = here.some()
    expected = [(here.slope(*c) - there.slope(*c)) / 2 for c in components]
    expected = torch.tensor(expected, dtype=torch.float64)
    agree(at(clean_corrupted(model, pair, site), model, site, components), expected)
    back = clean_corrupted(model, pair, site, "denoising")
    agree(at(back, model, site, components), -expected)


def test_interpolated_ends_are_the_two_runs(tiny, make_pair):
    model, pair = tiny("tiny-qwen2"), make_pair(changed=(4, 6), n=9)
    plain = Plain(model, pair, "attn_heads")
    torch.testing.assert_close(plain.m(interpolated(plain, 0.0)), plain.m())
    far = Plain(model, pair, "attn_heads", "denoising").m()
    torch.testing.assert_close(plain.m(interpolated(plain, 1.0)), far)
    one = ig_inputs(model, pair, steps=1)  # the far end alone: minus AP of the way back
    torch.testing.assert_close(one, -hp.site_attribution(model, pair, direction="denoising"))


def test_the_mean_converges_to_the_integral_over_the_inputs(tiny, make_pair):
    """The rule of one end: its error falls like 1/N."""
    model, pair = tiny("tiny-pythia"), make_pair()
    fine = 2 * ig_inputs(model, pair, steps=512) - ig_inputs(model, pair, steps=256)
    errors = [(ig_inputs(model, pair, steps=n) - fine).abs().max() for n in (8, 16, 32)]
    assert errors[0] > 1e-4
    assert 1.8 < errors[0] / errors[1] < 2.2
    assert 1.8 < errors[1] / errors[2] < 2.2


def test_many_steps_are_taken_in_parts(tiny, make_pair, monkeypatch):
    model, pair = tiny("tiny-llama"), make_pair()
    whole = ig_inputs(model, pair, steps=7)
    module = sys.modules["hvp_patching.baselines.ig_inputs"]
    monkeypatch.setattr(module, "rows_per_reverse_pass", lambda run, memory: 3)
    torch.testing.assert_close(ig_inputs(model, pair, steps=7), whole)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_positions_stand_apart_and_add_up(name, tiny, make_pair):
    model, pair = tiny("tiny-llama"), make_pair(changed=(4, 6), n=9)
    for site in ("attn_heads", "mlp_out"):
        each = FUNCTIONS[name](model, pair, site, positions="each")
        torch.testing.assert_close(
            each.view(-1, 9).sum(1), FUNCTIONS[name](model, pair, site), rtol=1e-10, atol=1e-12
        )
        assert bool((each.view(-1, 9)[:, :4] == 0).all())
        few = FUNCTIONS[name](model, pair, site, positions=[6, 5])
        torch.testing.assert_close(few.view(-1, 2), each.view(-1, 9)[:, [6, 5]])
    plain = Plain(model, pair, "attn_heads")
    expected = between(plain, [(0, 1), (1, 3)], 2, position=6)
    found = ig_inputs(model, pair, steps=2, positions=[6])
    agree(at(found, model, "attn_heads", [(0, 1), (1, 3)]), expected)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_another_metric(name, tiny, make_pair):
    model, pair = tiny("tiny-gpt2"), replace(make_pair(n=9), foil_ids=(FOIL,))
    function = FUNCTIONS[name]
    found = function(model, pair, metric="logit_difference")
    own = function(model, pair, metric=hp.Metric(lambda x: x[17] - x[FOIL]))
    torch.testing.assert_close(found, own, rtol=1e-10, atol=1e-12)
    plain = Plain(model, pair, "attn_heads", metric=logit_gap)
    components = plain.some()
    if name == "ig_inputs":
        agree(at(found, model, "attn_heads", components), between(plain, components, 5))
    else:
        other = Plain(model, pair, "attn_heads", "denoising", logit_gap)
        expected = [(plain.slope(*c) - other.slope(*c)) / 2 for c in components]
        agree(
            at(found, model, "attn_heads", components), torch.tensor(expected, dtype=torch.float64)
        )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_zero_corruption_has_no_other_run(name, tiny, make_pair):
    pair = replace(make_pair(), corruption="zero")
    with pytest.raises(ValueError, match=f"'seed-0': {name} reads gradients of the corr") as caught:
        FUNCTIONS[name](tiny("tiny-gpt2"), pair)
    assert "\n" not in str(caught.value)


def test_bad_steps_and_directions_are_refused(tiny, make_pair):
    model, pair = tiny("tiny-gpt2"), make_pair()
    for steps in (0, -3, 2.5, "5", None):
        with pytest.raises(ValueError, match=f"whole number of steps, at least 1, got {steps!r}"):
            ig_inputs(model, pair, steps=steps)
    for function in FUNCTIONS.values():
        with pytest.raises(ValueError, match="unknown direction 'back'"):
            function(model, pair, direction="back")


def test_embeddings_that_do_not_make_the_run_are_refused(tiny, make_pair):
    """A model that reads its tokens past hook_embed as well: the far end is not the other run."""
    model, pair = tiny("tiny-llama"), make_pair()
    seen = {}

    def remember(ids, hook):
        seen["ids"] = ids

    def past(resid, hook):
        return resid + 0.1 * seen["ids"][..., -resid.shape[1] :, None].to(resid) / 3000

    hooks = [("embed.hook_in", remember), ("blocks.0.hook_mlp_out", past)]
    with (
        model.hooks(fwd_hooks=hooks),
        pytest.raises(ValueError, match=r"the other run's hook_embed put .* use clean_corrupted$"),
    ):
        ig_inputs(model, pair)


def test_the_other_direction_starts_from_the_other_run(tiny, make_pair):
    model, pair = tiny("tiny-gemma2"), make_pair()
    swapped = TokenPair(pair.corrupted_ids, pair.clean_ids, pair.target_ids)
    back = ig_inputs(model, pair, direction="denoising")
    torch.testing.assert_close(back, ig_inputs(model, swapped))
    assert (back + ig_inputs(model, pair)).abs().max() > 1e-3


def test_names_and_costs(tiny, make_pair):
    model, pair = tiny("tiny-qwen2"), make_pair()
    torch.testing.assert_close(
        BASELINES["ig_inputs_3"](model, pair), ig_inputs(model, pair, steps=3)
    )
    assert "ig_inputs_5" in BASELINES
    assert [COSTS[f"ig_inputs_{n}"](model) for n in (1, 5, 20)] == [1, 5, 20]
    for name in (
        "ig_inputs",
        "ig_inputs_0",
        "ig_inputs_05",
        "ig_inputs_N",
        "gim_5",
        "ig_inputs_-1",
    ):
        assert name not in BASELINES
        assert name not in COSTS
    assert COSTS["clean_corrupted"](model) == 2
    assert set(BASELINES) == set(COSTS)
    assert len(BASELINES) == len(list(BASELINES))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_agrees_with_float64(name, tiny, make_pair):
    pair = make_pair()
    precise, single = (FUNCTIONS[name](tiny("tiny-llama", d), pair) for d in ("float64", "float32"))
    assert (single - precise).abs().max() < 1e-4 * precise.abs().max()
