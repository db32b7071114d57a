"""Keys and values for every query head: a copy that changes no logit, hooks that are put back."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from transformers import AutoModelForCausalLM, Phi3Config

from hvp_patching.circuits.ungrouped import FLAGS, edge_model, split_hooks, ungrouped
from hvp_patching.models import from_huggingface, load_model

IDS = torch.arange(300, 314)[None]
GROUPED = ("tiny-qwen2", "tiny-gemma2", "tiny-llama")


def flags(model) -> dict[str, bool]:
    return {flag: bool(getattr(model.cfg, flag, False)) for flag in FLAGS}


@pytest.mark.parametrize("name", GROUPED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_copy_has_the_models_logits_to_the_last_bit(tiny, name, dtype):
    model = tiny(name, dtype)
    copy = ungrouped(model)
    assert copy.original_model.config.num_key_value_heads == copy.cfg.n_heads == 4
    assert model.cfg.n_key_value_heads == 2
    assert torch.equal(model(IDS), copy(IDS))


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-pythia"])
def test_a_model_that_shares_nothing_is_used_itself(tiny, name):
    assert ungrouped(tiny(name)) is tiny(name)


def test_the_copy_holds_the_models_own_memory_but_for_keys_and_values(tiny):
    model = tiny("tiny-llama")
    copy = ungrouped(model)
    own = {weight.data_ptr() for weight in model.parameters()}
    new = {key for key, weight in copy.named_parameters() if weight.data_ptr() not in own}
    assert new
    assert all("k_proj" in key or "v_proj" in key or ".k." in key or ".v." in key for key in new)


def test_the_copy_is_made_once_and_again_when_weights_change():
    model = load_model("tiny-llama", dtype="float64")
    first = ungrouped(model)
    assert ungrouped(model) is first
    weight = model.blocks[1].attn.k.original_component.weight
    weight.data[0] += 1.0
    second = ungrouped(model)
    assert second is not first
    assert torch.equal(model(IDS), second(IDS))


def test_the_copy_goes_with_the_model():
    model = load_model("tiny-llama", dtype="float64")
    copy = weakref.ref(ungrouped(model))
    del model
    gc.collect()
    assert copy() is None


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-llama"])
def test_the_hooks_of_edges_are_on_only_inside(tiny, name):
    model = tiny(name)
    before = flags(model), flags(ungrouped(model))
    with edge_model(model) as found:
        assert flags(found) == {flag: flag != "use_attn_in" for flag in FLAGS}
    assert (flags(model), flags(ungrouped(model))) == before
    with pytest.raises(RuntimeError), edge_model(model):
        raise RuntimeError
    assert (flags(model), flags(ungrouped(model))) == before


def test_what_the_caller_had_on_is_on_again(tiny):
    model = tiny("tiny-gpt2")
    model.set_use_attn_in(True)
    try:
        with split_hooks(model):
            assert not model.cfg.use_attn_in
        assert flags(model) == {flag: flag == "use_attn_in" for flag in FLAGS}
    finally:
        model.set_use_attn_in(False)


def test_hooks_of_the_callers_own_are_not_lost_without_a_word():
    model = load_model("tiny-llama", dtype="float64")
    model.add_hook("blocks.1.hook_resid_post", lambda x, hook: x * 0.9)
    with pytest.raises(ValueError, match=r"a hook of its own at blocks\.1\.hook_out"):
        ungrouped(model)
    model.reset_hooks()
    ungrouped(model)


def test_one_matrix_for_queries_keys_and_values_is_refused():
    config = Phi3Config(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
    )
    model = from_huggingface(AutoModelForCausalLM.from_config(config).eval(), None, False)
    with pytest.raises(ValueError, match=r"cannot be ungrouped: .*qkv_proj") as caught:
        ungrouped(model)
    assert "\n" not in str(caught.value)


def test_attention_without_such_hooks_is_refused():
    from transformers import MambaConfig

    config = MambaConfig(vocab_size=400, hidden_size=32, num_hidden_layers=2, state_size=4)
    model = from_huggingface(AutoModelForCausalLM.from_config(config).eval(), None, False)
    with pytest.raises(ValueError, match="no hooks for single edges") as caught, edge_model(model):
        pass
    assert "\n" not in str(caught.value)
