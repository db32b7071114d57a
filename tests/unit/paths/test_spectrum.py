"""The residual stream's spectrum against a dense Hessian by differences of plain forward passes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import hvp_patching as hp
from hvp_patching.paths.precision import keep_precision
from hvp_patching.paths.spectrum import residual_spectrum

LAYER, STEP = 1, 2e-3


@pytest.fixture(scope="module")
def pair(make_pair):
    return make_pair(changed=(5,), n=7)  # two positions of 32 numbers


def dense(model, pair, layer=LAYER):
    """H by central differences of order h⁴ along every coordinate and every pair."""
    ids, (start, n) = torch.tensor([pair.clean_ids]), (5, 7)
    size = (n - start) * model.cfg.d_model

    def value(shifts):
        def move(x, hook):
            x = x.clone()
            x[:, start:] += shifts.view(-1, n - start, model.cfg.d_model)
            return x

        hooks = [(f"blocks.{layer}.hook_resid_post", move)]
        with torch.no_grad(), keep_precision(torch.float64):
            logits = model.run_with_hooks(ids.expand(len(shifts), -1), fwd_hooks=hooks)
        return logits[:, -1].log_softmax(-1)[:, list(pair.target_ids)].logsumexp(-1)

    def along(directions):
        steps = torch.tensor([1, -1, 2, -2, 0], dtype=torch.float64) * STEP
        f = torch.stack([value(step * directions) for step in steps])
        return (16 * (f[0] + f[1]) - (f[2] + f[3]) - 30 * f[4]) / (12 * STEP**2)

    eye = torch.eye(size, dtype=torch.float64)
    i, j = torch.tril_indices(size, size, -1)
    diagonal = along(eye)
    hessian = torch.diag(diagonal)
    hessian[i, j] = hessian[j, i] = (along(eye[i] + eye[j]) - diagonal[i] - diagonal[j]) / 2
    return hessian


@pytest.mark.parametrize("family", ["tiny-gpt2", "tiny-llama"])
def test_eigenvalues_are_those_of_the_dense_hessian(tiny, pair, family):
    hessian = dense(tiny(family), pair)
    exact = torch.linalg.eigvalsh(hessian)
    exact = exact[exact.abs().argsort(descending=True)]
    found = residual_spectrum(tiny(family), pair, LAYER, rank=10)
    size = float(exact[0].abs())
    assert size > 1e-3
    assert found.size == len(hessian) == 64
    torch.testing.assert_close(found.eigenvalues, exact[:10], rtol=1e-4, atol=1e-5 * size)
    assert found.norm == pytest.approx(float(hessian.norm()), rel=0.5)
    assert found.products > 10


def test_the_norm_is_that_of_the_matrix_in_the_mean(tiny, pair):
    model = tiny("tiny-gpt2")
    norms = [residual_spectrum(model, pair, LAYER, 2, [0], seed=s).norm ** 2 for s in range(12)]
    everything = residual_spectrum(model, pair, LAYER, rank=63)
    exact = float(everything.eigenvalues.square().sum())
    assert sum(norms) / len(norms) == pytest.approx(exact, rel=0.2)


@pytest.mark.parametrize("family", ["tiny-gpt2", "tiny-pythia", "tiny-qwen2", "tiny-llama"])
@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_all_eigenpairs_give_every_neurons_q(tiny, pair, family, direction):
    model = tiny(family)
    found = residual_spectrum(model, pair, LAYER, 63, [0, 5, 9, 40], direction)
    q = hp.path_jets(model, pair, "mlp_post", direction=direction, backend="autograd")
    own = {tuple(c): i for i, c in enumerate(q.components.to_numpy().tolist())}
    exact = q.at(0.0, 2)[[own[c] for c in found.components]]
    assert found.components == tuple((LAYER, i) for i in (0, 5, 9, 40))
    torch.testing.assert_close(found.q, exact, rtol=1e-7, atol=1e-10)
    assert float(exact.abs().max()) > 1e-4
    # one eigenpair of 64 is left out, the smallest
    left = 1e-3 * float(exact.abs().max())
    torch.testing.assert_close(found.q_by_rank[-1], exact, rtol=1e-4, atol=left)
    assert float((found.q_by_rank[0] - exact).abs().max()) > 1e-6


def test_another_metric_and_zero_corruption(tiny, pair):
    model = tiny("tiny-llama")
    foiled = replace(pair, foil_ids=(23,))
    linear = residual_spectrum(model, foiled, 2, 20, [3], metric="logit_difference")
    other = residual_spectrum(model, foiled, 2, 20, [3])
    assert abs(float(linear.eigenvalues[0] - other.eigenvalues[0])) > 1e-4
    zero = residual_spectrum(model, replace(pair, corruption="zero"), 2, 20, [3])
    assert zero.size == 7 * 32


BAD = {
    "layer": ({"layer": 3}, "layer 3 requested, but the model has 3 layers"),
    "rank": ({"rank": 64}, "64 eigenvalues are asked for, and the Hessian of seed-0 has 64 rows"),
    "neuron": ({"neurons": [999]}, "component 999 requested at site 'mlp_post'"),
    "none": ({"neurons": []}, "no component requested at site 'mlp_post'"),
    "metric": ({"metric": "logit_difference"}, "needs a foil"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_are_refused_in_one_line(tiny, pair, case):
    options, said = BAD[case]
    with pytest.raises(ValueError, match=said) as caught:
        residual_spectrum(tiny("tiny-gpt2"), pair, **({"layer": LAYER} | options))
    assert "\n" not in str(caught.value)


def test_neurons_behind_a_norm_are_refused(tiny, pair):
    with pytest.raises(ValueError, match="writes through a norm, behind which its neurons do not"):
        residual_spectrum(tiny("tiny-gemma2"), pair, LAYER, 4)
