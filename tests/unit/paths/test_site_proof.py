"""A site is what its name says, or refused in one line that says what it is instead."""

import pytest
import torch

from hvp_patching.baselines.local_curvature import local_curvature
from hvp_patching.paths import activation_patching, path_jets, site_attribution
from hvp_patching.sites import SITES, Site, get_site, layer_sizes

SQUARE = ("mixtral", "mixtral-square")


def refused(call, *parts):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (its parts are compared)
        call()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("site", ["mlp_pre", "mlp_post"])
@pytest.mark.parametrize("name", SQUARE)
def test_layers_of_experts_have_no_neurons(name, site, other, make_pair):
    """Their hooks of these names hold the residual dimensions, 32 in a layer."""
    refused(
        lambda: activation_patching(other(name), make_pair(), site),
        f"site '{site}'",
        "layer 0 of MixtralForCausalLM",
        "choose site 'mlp_out'",
    )


def test_baselines_inherit_the_proof(other, make_pair):
    refused(lambda: local_curvature(other("mixtral"), make_pair()), "MixtralForCausalLM")
    refused(
        lambda: site_attribution(other("mixtral"), make_pair(), "mlp_post"), "MixtralForCausalLM"
    )


def test_dense_layers_beside_experts_are_no_excuse(other, make_pair):
    refused(
        lambda: activation_patching(other("deepseek"), make_pair(), "mlp_post"),
        "layer 1 of DeepseekV2ForCausalLM",
    )


def test_heads_of_another_number_than_configured_are_refused(other, make_pair):
    """The bridge cuts DeepSeek's values by the width of its keys: 8 'heads' of a model with 4."""
    refused(
        lambda: activation_patching(other("deepseek"), make_pair()),
        "attn.hook_z is 8 wide in layer 0 of DeepseekV2ForCausalLM",
        "n_heads = 4",
    )


def test_an_encoder_decoder_is_refused(other, make_pair):
    refused(lambda: path_jets(other("t5"), make_pair()), "T5ForConditionalGeneration", "encoder")


def test_sizes_are_measured_where_the_configuration_is_wrong(other, make_pair):
    """LFM2 widens its MLP after the configuration is read: 256 neurons where that says 64."""
    model = other("lfm2")
    sizes = layer_sizes(model, get_site("mlp_post"))
    assert sizes == (256,) * 3
    jets = path_jets(model, make_pair(), "mlp_post", order=0, components=[(0, 255)])
    assert jets.values.isfinite().all()


def test_a_hook_that_changes_nothing_is_refused(fresh_other, make_pair):
    model = fresh_other("llama")
    model.blocks[1].mlp.register_forward_hook(lambda _, args, output: torch.ones_like(output))
    refused(
        lambda: activation_patching(model, make_pair(), "mlp_out"),
        "what is put into hook_mlp_out of layer 1 never reaches the logits of LlamaForCausalLM",
    )


def test_a_hook_that_runs_twice_is_refused(fresh_other, make_pair):
    """As in models that pass through a layer several times."""
    model = fresh_other("llama")
    model.blocks[1].register_forward_hook(lambda block, args, output: block.hook_out(output))
    refused(
        lambda: activation_patching(model, make_pair(), "resid_post"),
        "hook_resid_post runs 2 times a pass in layer 1 of LlamaForCausalLM",
    )


def test_an_activation_of_another_shape_is_refused(other, make_pair, monkeypatch):
    monkeypatch.setitem(SITES, "mlp_out", Site("mlp_out", "attn.hook_pattern", None))
    refused(
        lambda: activation_patching(other("llama"), make_pair(), "mlp_out"),
        "not one activation for each of 14 tokens",
    )
