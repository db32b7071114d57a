"""Rules of Taylor arithmetic for smooth functions, quotients, softmax and normalisation.

Smooth elementwise functions follow Faà di Bruno from their first three derivatives, softmax and
normalisation follow from their recurrences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from hvp_patching.paths.taylor.curvature import weighted_sums
from hvp_patching.paths.taylor.products import add, mean, mul, square
from hvp_patching.paths.taylor.structure import (
    aligned,
    check_constant,
    check_dim,
    linear_map,
    to,
)
from hvp_patching.paths.taylor.tape import meet
from hvp_patching.paths.taylor.tensor import TaylorTensor, UnsupportedOperation, rule

Tensor = torch.Tensor
Derivatives = Callable[[Tensor, int], list[Tensor]]


def _compose(x: TaylorTensor, derivatives: Derivatives) -> TaylorTensor:
    """φ(x(t)) from φ's value and derivatives at c_0 (Faà di Bruno, up to order 3)."""
    aligned(x)
    phi = derivatives(x.c0, x.order)
    meet("function", phi[0], x, derivatives)
    if x.order == 0:
        return TaylorTensor(phi[0], x.higher, x.rows)
    higher = x.higher * phi[1]
    if x.order >= 2:
        square = x.higher[0].square()
        higher[1].addcmul_(square, phi[2], value=0.5)
    if x.order >= 3:
        higher[2].addcmul_(x.higher[0] * x.higher[1], phi[2])
        higher[2].addcmul_(square.mul_(x.higher[0]), phi[3], value=1 / 6)
    return TaylorTensor(phi[0], higher, x.rows)


@rule("reciprocal")
def _reciprocal(x: TaylorTensor) -> TaylorTensor:
    return _power(x, -1.0)


@rule("sqrt")
def _sqrt(x: TaylorTensor) -> TaylorTensor:
    return _power(x, 0.5)


@rule("rsqrt")
def _rsqrt(x: TaylorTensor) -> TaylorTensor:
    return _power(x, -0.5)


@rule("pow")
def _pow(x: Any, exponent: Any) -> TaylorTensor:
    if not isinstance(x, TaylorTensor) or not isinstance(exponent, int | float):
        raise UnsupportedOperation("Taylor mode knows pow only with a constant exponent")
    return square(x) if exponent == 2 else _power(x, float(exponent))


def _power(x: TaylorTensor, p: float) -> TaylorTensor:
    def derivatives(c: Tensor, order: int) -> list[Tensor]:
        out, factor = [torch.rsqrt(c) if p == -0.5 else c.pow(p)], 1.0
        for k in range(order):
            factor *= p - k
            out.append(c.pow(p - k - 1).mul_(factor) if factor else torch.zeros_like(c))
        return out

    return _compose(x, derivatives)


@rule("exp")
def _exp(x: TaylorTensor) -> TaylorTensor:
    def derivatives(c: Tensor, order: int) -> list[Tensor]:
        return [c.exp()] * (order + 1)

    return _compose(x, derivatives)


@rule("log")
def _log(x: TaylorTensor) -> TaylorTensor:
    return _compose(x, lambda c, n: [c.log(), c.pow(-1), -c.pow(-2), 2 * c.pow(-3)][: n + 1])


@rule("tanh")
def _tanh(x: TaylorTensor) -> TaylorTensor:
    return _compose(x, tanh_derivatives)


def tanh_derivatives(c: Tensor, order: int) -> list[Tensor]:
    """tanh and its first `order` derivatives."""
    y = torch.tanh(c)
    s = torch.cosh(c).pow(-2)  # 1 - y² would lose all digits in float32 where tanh saturates
    return [y, s, -2 * y * s, s * (6 * y * y - 2)][: order + 1]


def sigmoid_derivatives(c: Tensor, order: int) -> list[Tensor]:
    """Logistic function and its first `order` derivatives."""
    y, z = torch.sigmoid(c), torch.sigmoid(-c)  # z = 1 - y, without its loss of digits
    s = y * z
    return [y, s, s * (z - y), s * (1 - 6 * s)][: order + 1]


@rule("sigmoid")
def _sigmoid(x: TaylorTensor) -> TaylorTensor:
    return _compose(x, sigmoid_derivatives)


def silu_derivatives(c: Tensor, order: int) -> list[Tensor]:
    """SiLU(x) = x σ(x) and its first `order` derivatives: x σ^(k) + k σ^(k-1)."""
    sigma = sigmoid_derivatives(c, order)
    return [F.silu(c)] + [torch.addcmul(sigma[k - 1] * k, c, sigma[k]) for k in range(1, order + 1)]


@rule("silu")
def _silu(x: TaylorTensor, inplace: bool = False) -> TaylorTensor:
    return _compose(x, silu_derivatives)


def gelu_erf_derivatives(c: Tensor, order: int) -> list[Tensor]:
    """Exact GELU x Φ(x) and its first `order` derivatives."""
    density = torch.exp(-0.5 * c * c) / math.sqrt(2 * math.pi)
    cumulative = 0.5 * torch.erfc(-c / math.sqrt(2))
    square = c * c
    return [
        F.gelu(c),
        cumulative + c * density,
        density * (2 - square),
        density * c * (square - 4),
    ][: order + 1]


def gelu_tanh_derivatives(c: Tensor, order: int) -> list[Tensor]:
    """Tanh-approximated GELU ½x(1 + tanh u), u = √(2/π)(x + 0.044715x³), and its derivatives."""
    a, b = math.sqrt(2 / math.pi), 0.044715
    u1, u2, u3 = a * (1 + 3 * b * c * c), 6 * a * b * c, 6 * a * b
    t = tanh_derivatives(a * (c + b * c**3), order)
    out = [F.gelu(c, approximate="tanh")]
    g = [t[0]]  # derivatives of tanh(u(x))
    if order >= 1:
        g.append(t[1] * u1)
    if order >= 2:
        g.append(t[2] * u1 * u1 + t[1] * u2)
    if order >= 3:
        g.append(t[3] * u1**3 + 3 * t[2] * u1 * u2 + t[1] * u3)
    out += [0.5 * (c * g[k] + k * g[k - 1] + (1.0 if k == 1 else 0.0)) for k in range(1, order + 1)]
    return out


@rule("gelu")
def _gelu(x: TaylorTensor, *, approximate: str = "none") -> TaylorTensor:
    return _compose(x, gelu_tanh_derivatives if approximate == "tanh" else gelu_erf_derivatives)


@rule("relu")
def _relu(x: TaylorTensor, inplace: bool = False) -> TaylorTensor:
    def derivatives(c: Tensor, order: int) -> list[Tensor]:
        return [F.relu(c), (c > 0).to(c.dtype)] + [torch.zeros_like(c)] * (order - 1)

    return _compose(x, derivatives)


@rule("div", "true_divide")
def _div(a: Any, b: Any) -> TaylorTensor:
    if isinstance(b, TaylorTensor):
        return mul(a, _reciprocal(b))
    check_constant(a, b)
    return linear_map(a, lambda c: c / b)


@rule("__rdiv__")
def _rdiv(a: TaylorTensor, b: Any) -> TaylorTensor:
    return mul(_reciprocal(a), b)


def _exponentials(x: TaylorTensor, probabilities: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Coefficients of e^(x(t) - x(0)) weighted by the softmax at t = 0, and their sums."""
    aligned(x)
    e = x.higher.clone()
    if x.order >= 2:
        e[1].addcmul_(x.higher[0], x.higher[0], value=0.5)
    if x.order >= 3:
        x1 = x.higher[0]
        e[2].addcmul_(x1, x.higher[1]).addcmul_(x1 * x1, x1, value=1 / 6)
    e *= probabilities
    return e, e.sum(dim, keepdim=True)


def _sums_of_exponentials(x: TaylorTensor, probabilities: Tensor, dim: int) -> Tensor:
    if x.order == 1:
        aligned(x)
        return weighted_sums(x.higher, probabilities, dim)
    return _exponentials(x, probabilities, dim)[1]


def _cast(x: TaylorTensor, _stacklevel: Any, dtype: torch.dtype | None) -> TaylorTensor:
    """torch.softmax takes the dtype where F.softmax has its _stacklevel."""
    dtype = _stacklevel if isinstance(_stacklevel, torch.dtype) else dtype
    return x if dtype is None else to(x, dtype)


@rule("softmax")
def _softmax(
    x: TaylorTensor, dim: int, _stacklevel: Any = 3, dtype: torch.dtype | None = None
) -> TaylorTensor:
    x = _cast(x, _stacklevel, dtype)
    d = check_dim(x, dim)
    p0 = torch.softmax(x.c0, d)
    p, s = _exponentials(x, p0, d)
    for k in range(x.order):  # p_k = e_k - Σ_j s_j p_(k-j)
        p[k].addcmul_(s[k], p0, value=-1)
        for j in range(k):
            p[k].addcmul_(s[j], p[k - 1 - j], value=-1)
    meet("softmax", p0, x, p0, d, s[:1], p[:1])
    return TaylorTensor(p0, p, x.rows)


def _log_of_sums(s: Tensor) -> Tensor:
    """Coefficients of log(1 + s_1 t + s_2 t² + s_3 t³)."""
    log = s.clone()
    if len(s) >= 2:
        log[1] -= s[0] ** 2 / 2
    if len(s) >= 3:
        log[2] += s[0] ** 3 / 3 - s[0] * s[1]
    return log


@rule("log_softmax")
def _log_softmax(
    x: TaylorTensor, dim: int, _stacklevel: Any = 3, dtype: torch.dtype | None = None
) -> TaylorTensor:
    x = _cast(x, _stacklevel, dtype)
    d = check_dim(x, dim)
    y0 = torch.log_softmax(x.c0, d)
    p = y0.exp()
    s = _sums_of_exponentials(x, p, d)
    meet("log_softmax", y0, x, p, d, s[:1])
    return TaylorTensor(y0, x.higher - _log_of_sums(s), x.rows)


@rule("logsumexp")
def _logsumexp(x: TaylorTensor, dim: int, keepdim: bool = False) -> TaylorTensor:
    d = check_dim(x, dim)
    p = torch.softmax(x.c0, d)
    s = _sums_of_exponentials(x, p, d)
    higher = _log_of_sums(s)
    kept = torch.logsumexp(x.c0, d, keepdim=True)
    meet("logsumexp", kept, x, p, d, s[:1])
    c0 = kept if keepdim else kept.squeeze(d)
    return TaylorTensor(c0, higher if keepdim else higher.squeeze(d), x.rows)


@rule("layer_norm")
def _layer_norm(
    x: TaylorTensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> TaylorTensor:
    if tuple(normalized_shape) != tuple(x.shape[-1:]):
        raise UnsupportedOperation("Taylor mode normalises over the last dimension only")
    centred = _centre(x)
    scale = _rsqrt(add(mean(square(centred), -1, keepdim=True), eps))
    y = mul(centred, scale)
    y = y if weight is None else mul(y, weight)
    return y if bias is None else add(y, bias)


def _centre(x: TaylorTensor) -> TaylorTensor:
    return linear_map(x, lambda c: c - c.mean(-1, keepdim=True))
