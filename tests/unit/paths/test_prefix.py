"""The prefix cache proves itself; models that have none are computed on whole prompts."""

import logging
import re
from dataclasses import replace

import pytest
import torch

from hvp_patching.paths import path_jets, prefix
from hvp_patching.paths.base_run import base_run
from hvp_patching.paths.prefix import shortened
from hvp_patching.sites import get_site

LATE = {"changed": (11, 13), "n": 18}
# where a key depends on the length; recurrent state, alone and beside attention; no causal mask
BROKEN = {
    "longrope": ("attn_heads", r"f\(0\) is -?[\d.]+ instead of"),
    "mamba": ("resid_post", "more than keys and values"),
    "lfm2": ("mlp_post", "more than keys and values"),
    "bert": ("attn_heads", "tokens before the first change feel it in layer 0"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_without_a_usable_cache_the_jets_are_still_right(
    name, fresh_other, make_pair, plain_path, caplog
):
    site, reason = BROKEN[name]
    model, pair = fresh_other(name), make_pair(**LATE)
    path = plain_path(model, pair, site)
    components = path.largest()[:2]
    with caplog.at_level(logging.WARNING):
        jets = path_jets(model, pair, site, {0.0: 1, 1.0: 0}, 0, "autograd", components)
        path_jets(model, pair, site, order=0, components=components, backend="autograd")
    (warning,) = [record.getMessage() for record in caplog.records]  # one a model
    assert type(model.original_model).__name__ in warning
    assert "no prefix cache that can be reused" in warning
    assert re.search(reason, warning)
    for (layer, index), values in zip(components, jets.values, strict=True):
        f0, f1 = path.f(layer, index, (0.0, 1.0))
        assert float((f1 - f0).abs()) > 1e-4
        torch.testing.assert_close(values[0, 0], f0, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(values[1, 0], f1, rtol=1e-6, atol=1e-7)
        above, below = path.f(layer, index, (1e-3, -1e-3))
        torch.testing.assert_close(values[0, 1], (above - below) / 2e-3, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", ["tiny-gpt2", "tiny-gemma2", "tiny-llama"])
def test_a_usable_cache_is_used_without_a_word(family, tiny, make_pair, caplog):
    run = base_run(tiny(family), make_pair(**LATE), get_site("attn_heads"))
    assert run.prefix is not None
    assert run.suffix.shape == (1, 7)
    assert run.delta[0].shape[1] == 7
    assert not caplog.records


def test_a_cache_of_other_tokens_is_found_out(fresh_other, make_pair, caplog, monkeypatch):
    model, pair = fresh_other("llama"), make_pair(**LATE)
    whole = base_run(model, make_pair(changed=(0,), n=18), get_site("attn_heads"))
    other = replace(whole, base=tuple(torch.zeros_like(a) for a in whole.base))
    with pytest.raises(ValueError, match="activations differ in layer 0"):
        shortened(other, 0)
    honest = prefix._cache

    def wrong(run, start):
        cache = honest(run, start)
        cache.layers[1].values = cache.layers[1].values + 0.01
        return cache

    monkeypatch.setattr(prefix, "_cache", wrong)
    run = base_run(model, pair, get_site("attn_heads"))
    assert run.prefix is None
    assert run.suffix.shape == (1, 18)
    assert len(caplog.records) == 1
