"""Sites: hooks, component axes, and which components a request means."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hvp_patching.reporting.names import component_name, published_component
from hvp_patching.reporting.tables.components import neuron_notes
from hvp_patching.sites import (
    SITES,
    Site,
    get_site,
    layer_sizes,
    n_layers,
    resolve_components,
    sample_components,
)

SHAPES = {
    "attn_heads": ("blocks.2.attn.hook_z", (1, 5, 4, 8), 4, (1, 5, 8)),
    "mlp_pre": ("blocks.2.mlp.hook_pre", (1, 5, 16), 16, (1, 5)),
    "mlp_post": ("blocks.2.mlp.hook_post", (1, 5, 16), 16, (1, 5)),
    "mlp_out": ("blocks.2.hook_mlp_out", (1, 5, 8), 1, (1, 5, 8)),
    "resid_post": ("blocks.2.hook_resid_post", (1, 5, 8), 1, (1, 5, 8)),
}


def test_the_table_is_complete():
    assert set(SITES) == set(SHAPES)
    assert all(site.heading for site in SITES.values())
    assert [name for name, site in SITES.items() if site.sampled] == ["mlp_pre", "mlp_post"]


def test_a_site_of_ones_own_is_known_everywhere(monkeypatch):
    """To the configuration, the sampling of neurons and the tables: nothing else lists sites."""
    own = Site("attn_out", "hook_attn_out", None, "d_model", "Attention output", sampled=True)
    monkeypatch.setitem(SITES, own.name, own)
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "workflow"))
    choices = importlib.import_module("choices")
    config_check = importlib.import_module("config_check")
    config_check._schema.cache_clear()
    assert config_check._schema()["$defs"]["site"]["enum"] == [*SITES]
    config_check._schema.cache_clear()
    config = {"effort": "quick", "neurons_per_layer": {"quick": 4}}
    sites = [SimpleNamespace(site=name) for name in (own.name, "attn_heads", "gone")]
    assert [choices.neurons_per_layer(config, wildcards) for wildcards in sites] == [4, None, None]
    assert component_name(own.name) == "Attention output"
    assert published_component(own.name) == own.name
    assert neuron_notes([], [own.name]) == ["Neurons: a seeded sample of every layer's."]


@pytest.mark.parametrize("name", SHAPES)
def test_a_site_knows_its_hook_and_components(name):
    hook, shape, n, selected = SHAPES[name]
    site = get_site(name)
    activation = torch.arange(float(torch.Size(shape).numel())).view(shape)
    assert site.hook_name(2) == hook
    assert site.n_components(activation) == n
    one = activation[(slice(None), slice(None), *site.part(n - 1))]
    assert one.shape == selected
    assert one.data_ptr() != 0
    one.zero_()  # a view, since patch directions are written through it
    zeros = torch.Size(shape).numel() if n == 1 else torch.Size(selected).numel() + (n > 1)
    assert int((activation == 0).sum()) == zeros


def test_selection_takes_the_last_head_and_neuron():
    z = torch.randn(1, 5, 4, 8)
    assert torch.equal(z[(slice(None), slice(None), *SITES["attn_heads"].part(3))], z[:, :, 3])
    pre = torch.randn(1, 5, 16)
    assert torch.equal(pre[(slice(None), slice(None), *SITES["mlp_pre"].part(7))], pre[..., 7])


def test_all_components_come_in_order():
    site = SITES["attn_heads"]
    assert resolve_components(site, (2, 3), None) == ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2))


def test_requested_components_keep_their_order():
    site = SITES["attn_heads"]
    assert resolve_components(site, (2, 3), [(1, 2), (0, 1)]) == ((1, 2), (0, 1))


@pytest.mark.parametrize("component", [(-1, 0), (2, 0), (0, -1), (0, 2)])
def test_a_component_outside_the_model_is_refused(component):
    with pytest.raises(ValueError, match=r"requested"):
        resolve_components(SITES["attn_heads"], (2, 3), [component])


def test_layers_are_counted(tiny):
    assert n_layers(tiny("tiny-gemma2")) == 4


def test_a_sample_is_seeded_by_layer_and_grows_by_adding():
    small, large = (sample_components((20, 20, 3), n, seed=1) for n in (4, 8))
    assert len(small) == 4 + 4 + 3
    assert list(small) == sorted(set(small))
    assert set(small) < set(large)
    assert {i for layer, i in small if layer == 0} != {i for layer, i in small if layer == 1}
    assert small == sample_components((20, 20, 3), 4, seed=1)
    assert small != sample_components((20, 20, 3), 4, seed=2)
    assert sample_components((2, 1), None) == ((0, 0), (0, 1), (1, 0))
    with pytest.raises(ValueError, match="0 sampled components per layer; ask for at least 1"):
        sample_components((2,), 0)


@pytest.mark.parametrize("family", ["tiny-gpt2", "tiny-gemma2", "tiny-llama"])
def test_layer_sizes_are_those_of_the_activations(tiny, make_pair, family):
    from hvp_patching.paths.base_run import base_run

    model = tiny(family)
    for site in SITES.values():
        assert layer_sizes(model, site) == base_run(model, make_pair(), site).sizes
