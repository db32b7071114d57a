"""f''(0) against δᵀHδ with the dense Hessian of m with respect to one head's output."""

import pytest
import torch

from hvp_patching.paths import path_jets
from hvp_patching.paths.precision import keep_precision


def composed_layer_norm(x, shape, weight=None, bias=None, eps=1e-5):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight + bias


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("family", ["tiny-llama", "tiny-gpt2"])
def test_curvature_is_the_hessian_form(family, layer, tiny, make_pair, plain_path, monkeypatch):
    model, head = tiny(family), 1
    pair = make_pair(changed=(2, 3), n=6, targets=(17, 900))
    path = plain_path(model, pair, "attn_heads")
    a, delta = path.a[layer][0, :, head], (path.a_other[layer] - path.a[layer])[0, :, head]
    monkeypatch.setattr(torch.nn.functional, "layer_norm", composed_layer_norm)

    def metric(z):
        def patch(activation, hook):
            patched = activation.clone()
            patched[0, :, head] = z
            return patched

        hooks = [(f"blocks.{layer}.attn.hook_z", patch)]
        with keep_precision(torch.float64):
            logits = model.run_with_hooks(path.ids, fwd_hooks=hooks, return_type="logits")
        return path.metric(logits[:, -1])[0]

    hessian = torch.autograd.functional.hessian(metric, a).reshape(a.numel(), a.numel())
    torch.testing.assert_close(hessian, hessian.T)
    gradient = torch.autograd.functional.jacobian(metric, a).flatten()
    d = delta.flatten()
    slope, curvature = gradient @ d, d @ hessian @ d
    assert abs(curvature) > 1e-4
    for backend in ("taylor", "autograd"):
        jets = path_jets(model, pair, backend=backend, components=[(layer, head)])
        torch.testing.assert_close(jets.at(0.0, 1)[0], slope, rtol=1e-10, atol=0)
        torch.testing.assert_close(jets.at(0.0, 2)[0], curvature, rtol=1e-9, atol=0)
