"""Models in half precision: the logits of a checkpoint cast as a whole, but for its buffers."""

from __future__ import annotations

import pytest
import torch

from hvp_patching.models import load_model
from hvp_patching.models.half import WideProducts, halved
from hvp_patching.models.tiny import build_tiny
from hvp_patching.sites import run_model

IDS = torch.tensor([[300, 411, 522, 633, 744]])


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-llama"])
def test_logits_are_those_of_the_checkpoint_in_bfloat16(name):
    half = halved(load_model(name, device="cpu"))
    assert half.cfg.dtype == torch.bfloat16
    plain = build_tiny(name)[0].eval()
    for weight in plain.parameters():
        weight.data = weight.data.to(torch.bfloat16)
    with torch.no_grad():
        ours = run_model(half, IDS, use_cache=False)[0, -1]
        theirs = plain(IDS, use_cache=False).logits[0, -1]
        exact = run_model(load_model(name, dtype="float64", device="cpu"), IDS, use_cache=False)
    assert ours.dtype == torch.bfloat16
    assert float((ours - theirs).abs().max()) <= 0.02 * float(theirs.abs().max())
    off = float((ours.double() - exact[0, -1]).abs().max())
    assert 1e-4 < off < 0.1 * float(exact.abs().max())


def test_rotary_frequencies_keep_their_precision():
    half = halved(load_model("tiny-llama", device="cpu"))
    buffers = dict(torch.nn.Module.named_buffers(half.original_model))
    rotary = [buffer for name, buffer in buffers.items() if name.endswith("inv_freq")]
    assert rotary
    assert all(buffer.dtype == torch.float32 for buffer in rotary)
    weights = torch.nn.Module.parameters(half.original_model)
    assert {weight.dtype for weight in weights} == {torch.bfloat16}


def test_products_are_summed_in_float32_and_rounded_once():
    draw = torch.Generator().manual_seed(0)
    x, w, b = (torch.randn(*shape, generator=draw) for shape in ((5, 300), (7, 300), (7,)))
    x, w, b = (tensor.to(torch.bfloat16) for tensor in (x, w, b))
    expected = (x.double() @ w.double().T + b.double()).to(torch.bfloat16)
    with WideProducts():
        found = (torch.nn.functional.linear(x, w, b), torch.addmm(b, x, w.T))
        single = torch.nn.functional.linear(x.float(), w.float())
    for product in found:
        assert product.dtype == torch.bfloat16
        assert torch.equal(product, expected)
    assert single.dtype == torch.float32


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-gemma2"])
def test_wide_products_change_a_model_by_rounding_alone(name):
    half = halved(load_model(name, device="cpu"))
    plain = run_model(half, IDS, use_cache=False)[0, -1]
    with WideProducts():
        wide = run_model(half, IDS, use_cache=False)[0, -1]
    assert wide.dtype == plain.dtype == torch.bfloat16
    assert float((wide - plain).abs().max()) <= 0.02 * float(plain.abs().max())
