"""The pitfalls of engine.md: fused LayerNorm at third order, and casts hidden in the models."""

import pytest
import torch
import torch.nn.functional as F

from hvp_patching.paths.precision import DecomposedLayerNorm, KeepFloat64, keep_precision
from hvp_patching.paths.taylor import TaylorTensor

draw = torch.Generator().manual_seed(1)
WIDTH = 8
X, DELTA, WEIGHT, BIAS, READER = (
    torch.randn(WIDTH, generator=draw, dtype=torch.float64) for _ in range(5)
)


def f(t):
    """A readout of LayerNorm along x + tδ."""
    y = F.layer_norm(X + t * DELTA, (WIDTH,), WEIGHT, BIAS)
    return (torch.tanh(y) * READER).sum(-1)


def by_reverse_mode(order):
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    value = f(t)
    for _ in range(order):
        (value,) = torch.autograd.grad(value, t, create_graph=True)
    return float(value.detach())


def by_differences():
    h = 0.01
    values = f(h * torch.arange(-3, 4, dtype=torch.float64)[:, None])
    stencil = torch.tensor([1, -8, 13, 0, -13, 8, -1], dtype=torch.float64) / 8
    return float(stencil @ values) / h**3


def test_decomposed_layer_norm_has_the_right_third_derivative():
    with DecomposedLayerNorm():
        assert by_reverse_mode(3) == pytest.approx(by_differences(), rel=1e-4)


def test_taylor_mode_has_the_right_third_derivative():
    higher = torch.zeros(3, 1, WIDTH, dtype=torch.float64)
    higher[0] = DELTA
    y = F.layer_norm(TaylorTensor(X[None], higher, 1), (WIDTH,), WEIGHT, BIAS)
    third = (torch.tanh(y) * READER).sum(-1).higher[2] * 6
    assert float(third) == pytest.approx(by_differences(), rel=1e-4)


@pytest.mark.xfail(
    strict=True,
    reason="PyTorch's fused layer_norm has a wrong third derivative; when this passes, "
    "DecomposedLayerNorm is no longer needed",
)
def test_fused_layer_norm_has_the_right_third_derivative():
    assert by_reverse_mode(3) == pytest.approx(by_differences(), rel=1e-2)


def test_decomposed_layer_norm_is_layer_norm():
    x = torch.randn(3, 4, 5, generator=draw, dtype=torch.float64)
    weight = torch.randn(4, 5, generator=draw, dtype=torch.float64)
    plain = [
        F.layer_norm(x, (4, 5)),
        F.layer_norm(x, (4, 5), weight, eps=0.1),
        F.layer_norm(x, [5], None, BIAS[:5]),
    ]
    with DecomposedLayerNorm():
        composed = [
            F.layer_norm(x, (4, 5)),
            F.layer_norm(x, (4, 5), weight, eps=0.1),
            F.layer_norm(x, [5], None, BIAS[:5]),
        ]
    for a, b in zip(plain, composed, strict=True):
        torch.testing.assert_close(a, b)


def test_casts_of_float64_to_float32_are_ignored():
    x = torch.randn(4, generator=draw, dtype=torch.float64)
    with KeepFloat64():
        for y in (
            x.float(),
            x.to(torch.float32),
            x.to(dtype=torch.float32),
            x.type(torch.float32),
            F.softmax(x, dim=-1, dtype=torch.float32),
            F.log_softmax(x, dim=-1, dtype=torch.float32),
            torch.softmax(x, -1, dtype=torch.float32),
        ):
            assert y.dtype == torch.float64
        assert x.to(torch.int64).dtype == torch.int64
        assert x.to(torch.zeros(1, dtype=torch.float16)).dtype == torch.float16
        assert torch.zeros(1, dtype=torch.int64).float().dtype == torch.float32


def test_masks_are_filled_in_float64():
    lowest = torch.finfo(torch.float64).min
    with KeepFloat64():
        assert float(torch.full((), lowest)) == lowest
        assert float(torch.full((), fill_value=lowest)) == lowest
        assert torch.full((2,), 1.0, dtype=torch.float32).dtype == torch.float32
        assert torch.full((2,), 1).dtype == torch.int64


def test_only_float64_models_need_it():
    x = torch.zeros(1, dtype=torch.float64)
    with keep_precision(torch.float32):
        assert x.float().dtype == torch.float32
    with keep_precision(torch.float64):
        assert x.float().dtype == torch.float64
    assert x.float().dtype == torch.float32
