"""What a base run refuses: numbers that are none, models that roll dice, weights of no gradient."""

import pytest
import torch

from hvp_patching.baselines import gim
from hvp_patching.paths import activation_patching, autograd, path_jets, site_attribution
from hvp_patching.paths.base_run import base_run, shared_base_runs
from hvp_patching.screening import screen_flag_fix
from hvp_patching.sites import get_site


def message(call):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is compared)
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "call", [path_jets, activation_patching, site_attribution, gim, screen_flag_fix]
)
def test_weights_that_are_not_numbers_are_named_with_the_prompt(call, fresh_other, make_pair):
    model = fresh_other("llama")
    model.original_model.lm_head.weight[5] = torch.nan
    assert message(lambda: call(model, make_pair(seed=3))).startswith(
        "the logits of prompt 'seed-3' are NaN; check the weights"
    )


def test_half_precision_that_overflows_is_named(fresh_other, make_pair):
    model = fresh_other("llama", torch.float16, std=60.0)
    assert "the logits of prompt 'seed-0' are" in message(lambda: path_jets(model, make_pair()))


def test_a_derivative_that_is_not_finite_is_named(tiny, make_pair, monkeypatch):
    model = tiny("tiny-llama")
    honest = autograd._pass

    def broken(run, grown, rows, order):
        jets = honest(run, grown, rows, order)
        jets[1, 2] = torch.nan
        return jets

    monkeypatch.setattr(autograd, "_pass", broken)
    found = message(lambda: path_jets(model, make_pair(), backend="autograd"))
    assert found.startswith(
        "derivative 2 of component (0, 1) at node 0 of prompt 'seed-0' is nan; load the model in"
    )


@pytest.mark.parametrize("call", [activation_patching, site_attribution, gim])
def test_a_random_model_is_refused(call, fresh_other, make_pair):
    model = fresh_other("llama")
    norm = model.original_model.model.norm
    norm.register_forward_hook(lambda _, args, y: y + 1e-3 * torch.randn_like(y))
    found = message(lambda: call(model, make_pair()))
    assert found.startswith("two equal runs of LlamaForCausalLM on prompt 'seed-0' differ")


def test_weights_made_in_inference_mode_are_refused(fresh_other, make_pair):
    with torch.inference_mode():
        model = fresh_other("llama")
    found = message(lambda: path_jets(model, make_pair()))
    assert "made inside torch.inference_mode" in found


@pytest.mark.parametrize("how", ["return_dict", "output_hidden_states", "output_attentions"])
def test_what_the_configuration_asks_for_beside_logits_changes_nothing(
    how, fresh_other, other, make_pair
):
    model = fresh_other("llama")
    asked = how != "return_dict"
    setattr(model.original_model.config, how, asked)
    for backend in ("taylor", "autograd"):
        found, expected = (
            path_jets(m, make_pair(), nodes=(0.0, 1.0), backend=backend).values
            for m in (model, other("llama"))
        )
        assert torch.equal(found, expected)
    assert getattr(model.original_model.config, how) is asked


def test_equal_runs_are_shared_while_the_caller_says_so(fresh_other, make_pair):
    model, pair, site = fresh_other("llama"), make_pair(), get_site("attn_heads")
    with shared_base_runs():
        first = base_run(model, pair, site)
        assert base_run(model, pair, site) is first
        others = (
            base_run(model, pair, get_site("mlp_out")),
            base_run(model, pair, site, "denoising"),
            base_run(model, pair, site, metric=lambda logits: logits[0]),
            base_run(model, make_pair(seed=1), site),
        )
        assert len({id(run) for run in (first, *others)}) == 5
        with shared_base_runs(share=False):
            assert base_run(model, pair, site) is not first
        model.train()
        with pytest.raises(ValueError, match="train mode"):
            base_run(model, pair, site)
        model.eval()
    assert base_run(model, pair, site) is not first
