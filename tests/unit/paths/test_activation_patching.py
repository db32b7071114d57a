"""Exact activation patching against hooks that put the other run's activation in."""

import pytest
import torch

from hvp_patching.models.tiny import FAMILIES
from hvp_patching.paths import activation_patching, path_jets, site_attribution

SITES = ("attn_heads", "mlp_pre", "mlp_post", "mlp_out", "resid_post")


@pytest.mark.parametrize("direction", ["noising", "denoising"])
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_effects_are_those_of_direct_patching(family, site, direction, tiny, make_pair, plain_path):
    model, pair = tiny(family), make_pair(changed=(4, 6), targets=(17, 900))
    path = plain_path(model, pair, site, direction)
    n_layers, per_layer = model.cfg.n_layers, 4 if site == "attn_heads" else 1
    components = [(layer, index) for layer in range(n_layers) for index in range(per_layer)]
    unpatched = path.metric(path._logits(path.ids, []))[0]
    expected = torch.stack([path.replaced(*c) - unpatched for c in components])
    assert float(expected.abs().max()) > 1e-3
    for backend in ("taylor", "autograd"):
        effects = activation_patching(model, pair, site, components, direction, backend)
        torch.testing.assert_close(effects, expected, rtol=0, atol=1e-12)


def test_denoising_starts_where_noising_ends(tiny, make_pair):
    """At the last layer's residual stream patching everything is the other run."""
    model, pair = tiny("tiny-gemma2"), make_pair()
    last = [(model.cfg.n_layers - 1, 0)]
    there, back = (
        activation_patching(model, pair, "resid_post", last, direction)
        for direction in ("noising", "denoising")
    )
    assert abs(float(there)) > 1e-3
    torch.testing.assert_close(there, -back)


def test_order_zero_jets_are_the_metric_along_the_path(tiny, make_pair, plain_path):
    model, pair = tiny("tiny-pythia"), make_pair()
    nodes = (0.0, 0.25, 1.0)
    jets = path_jets(model, pair, nodes=nodes, order=0)
    assert jets.values.shape == (12, 3, 1)
    path = plain_path(model, pair, "attn_heads")
    for row, (layer, index) in zip(jets.values, jets.components.to_numpy(), strict=True):
        torch.testing.assert_close(row[:, 0], path.f(layer, index, nodes), rtol=0, atol=1e-12)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_site_attribution_is_the_first_derivative(family, site, tiny, make_pair):
    """One reverse pass for all components gives what forward mode gives for each."""
    model, pair = tiny(family), make_pair(changed=(0, 5), n=8)
    scores = site_attribution(model, pair, site, "denoising")
    slopes = path_jets(model, pair, site, order=1, backend="taylor", direction="denoising")
    size = float(scores.abs().max())
    torch.testing.assert_close(scores, slopes.at(0.0, 1), rtol=0, atol=1e-11 * size)
