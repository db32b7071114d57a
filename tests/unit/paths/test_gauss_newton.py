"""The Gauss–Newton form against a dense Jacobian of the logits and the Hessian of the metric.

The Jacobian comes from differences of plain forward passes, the metric's curvature from a formula
that is itself checked against a dense Hessian of log-softmax; all in float64.
"""

import pytest
import torch

from hvp_patching.baselines.gauss_newton import gauss_newton
from hvp_patching.models.tiny import FAMILIES
from hvp_patching.paths import gauss_newton_form, path_jets

SITES = ("attn_heads", "mlp_pre", "resid_post")
STEPS = (0.02, 0.01, 0.005)
OFFSETS = [sign * h for h in STEPS for sign in (1, -1)]


def own(activation, site, index, start):
    """One component's part of an activation [row, position, ...], a view."""
    suffix = activation[:, start:]
    if site == "attn_heads":
        return suffix[:, :, index]
    return suffix[:, :, index, None] if site == "mlp_pre" else suffix


def dense_jacobian(path, site, layer, index, start):
    """∂ logits / ∂ a [vocabulary, n_suffix, d], extrapolated twice (error of order h⁶)."""
    a = own(path.a[layer], site, index, start)[0]
    units = torch.eye(a.numel(), dtype=a.dtype).view(-1, 1, *a.shape)
    moves = units * torch.tensor(OFFSETS, dtype=a.dtype).view(1, -1, 1, 1)
    rows = moves.flatten(0, 1)

    def patch(activation, hook):
        patched = activation.clone()
        own(patched, site, index, start).add_(rows)
        return patched

    logits = path._logits(path.ids.expand(len(rows), -1), [(path._name(layer), patch)])
    pairs = logits.view(a.numel(), len(STEPS), 2, -1)
    slopes = (pairs[:, :, 0] - pairs[:, :, 1]) / (2 * torch.tensor(STEPS, dtype=a.dtype)[:, None])
    first = (4 * slopes[:, 1:] - slopes[:, :-1]) / 3
    jacobian = (16 * first[:, 1] - first[:, 0]) / 15
    return jacobian.T.reshape(-1, *a.shape)


def metric_along(logits, targets, v):
    """v·∇m and vᵀ∇²m v of m = log Σ p(targets): differences of means and of variances of v."""
    moments = []
    for weights, values in (
        (torch.softmax(logits[targets], -1), v[targets]),
        (torch.softmax(logits, -1), v),
    ):
        mean = weights @ values
        moments.append(torch.stack([mean, weights @ (values - mean) ** 2]))
    return moments[0] - moments[1]


def test_the_metrics_derivatives_are_those_of_its_dense_hessian(plain_path, tiny, make_pair):
    path = plain_path(tiny("tiny-llama"), make_pair(targets=(3, 17)), "attn_heads")
    logits, v = torch.randn(2, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def metric(x):
        return path.metric(x[None])[0]

    gradient = torch.autograd.functional.jacobian(metric, logits)
    hessian = torch.autograd.functional.hessian(metric, logits)
    expected = torch.stack([gradient @ v, v @ hessian @ v])
    torch.testing.assert_close(metric_along(logits, [3, 17], v), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_form_is_that_of_the_dense_jacobian(family, site, tiny, make_pair, plain_path):
    model, pair = tiny(family), make_pair(changed=(4,), n=6, targets=(17, 900))
    direction = "denoising" if site == "mlp_pre" or family == "tiny-llama" else "noising"
    path = plain_path(model, pair, site, direction)
    components = [(1, 0), (2, 0)] if site == "resid_post" else [(1, 2), (0, 1), (2, 3)]
    logits = path._logits(path.ids, [])[0]
    found = torch.stack(gauss_newton_form(model, pair, site, components, direction), 1)
    expected = []
    for layer, index in components:
        delta = own(path.a_other[layer] - path.a[layer], site, index, 4)[0]
        moved = torch.tensordot(dense_jacobian(path, site, layer, index, 4), delta, 2)
        expected.append(metric_along(logits, path.targets, moved))
    size = torch.stack(expected).abs().amax(0)
    assert bool((size > 1e-5).all())
    assert found.dtype == torch.float64
    torch.testing.assert_close(found / size, torch.stack(expected) / size, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_form_is_not_the_whole_curvature(family, tiny, make_pair):
    """AP is that of the jets; the form leaves out the curvature of the model itself."""
    model, pair = tiny(family), make_pair(changed=(4, 6))
    ap, form = gauss_newton_form(model, pair)
    jets = path_jets(model, pair)
    torch.testing.assert_close(ap, jets.at(0.0, 1), rtol=1e-11, atol=1e-14)
    q = jets.at(0.0, 2)
    assert bool((form != 0).all())
    assert float((form - q).abs().median()) > 0.1 * float(q.abs().median())


def test_the_memory_budget_changes_nothing(tiny, make_pair):
    model, pair = tiny("tiny-gemma2"), make_pair(changed=(5,), n=12)
    components = [(2, 1), (0, 0), (3, 3)]
    whole = torch.stack(gauss_newton_form(model, pair))
    single = torch.stack(gauss_newton_form(model, pair, components=components, memory=1))
    rows = [4 * layer + index for layer, index in components]
    torch.testing.assert_close(single, whole[:, rows], rtol=1e-10, atol=1e-14)


def test_the_baseline_is_ap_and_half_the_form(tiny, make_pair):
    model, pair = tiny("tiny-qwen2"), make_pair(changed=(4, 6))
    ap, form = gauss_newton_form(model, pair, "mlp_out", direction="denoising")
    estimate = gauss_newton(model, pair, "mlp_out", "denoising")
    assert estimate.shape == (3,)
    assert float(form.abs().min()) > 1e-4
    torch.testing.assert_close(estimate, ap + 0.5 * form, rtol=1e-12, atol=0)
    last = gauss_newton(model, pair, "mlp_out", "denoising", components=[(2, 0)])
    torch.testing.assert_close(last, estimate[2:], rtol=1e-10, atol=0)
