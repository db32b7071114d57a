"""Rules of truncated Taylor arithmetic for the operations transformers are made of.

Coefficients are normalised: x(t) = Σ c_k t^k, so c_k = x^(k)(0) / k!. Linear operations act on
each coefficient, products are Cauchy products, smooth elementwise functions follow Faà di Bruno
from their first three derivatives, softmax and normalisation follow from those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from hvp_patching.paths.taylor_tensor import TaylorTensor, UnsupportedOperation, rule

Tensor = torch.Tensor
Derivatives = Callable[[Tensor, int], list[Tensor]]


# --- rows -----------------------------------------------------------------------------------


def _lead(x: TaylorTensor, shape: Sequence[int]) -> tuple[int, ...]:
    """Shape of the zeroth coefficient of a result whose nominal shape is `shape`."""
    return (shape[0] // x.rows, *shape[1:]) if x.shared else tuple(shape)


def with_rows(x: TaylorTensor, rows: int) -> TaylorTensor:
    """Extend `x` to `rows` rows; the added ones are the unpatched run (see TaylorTensor)."""
    if x.rows == rows:
        return x
    if x.higher.shape[1] != x.rows:
        raise UnsupportedOperation("Taylor mode cannot add rows to positions flattened into rows")
    missing = rows - x.rows
    zeros = x.higher.new_zeros(x.order, missing, *x.higher.shape[2:])
    higher = torch.cat([x.higher, zeros], dim=1)
    c0 = x.c0
    if not x.shared:
        c0 = torch.cat([c0, c0[:1].expand(missing, *c0.shape[1:])])
    return TaylorTensor(c0, higher, rows)


def _same_rows(a: TaylorTensor, b: TaylorTensor) -> tuple[TaylorTensor, TaylorTensor]:
    if a.ndim != b.ndim:
        raise UnsupportedOperation("Taylor mode combines tensors of equal rank only")
    rows = max(a.rows, b.rows)
    return with_rows(a, rows), with_rows(b, rows)


def _check_dim(x: TaylorTensor, dim: int) -> int:
    """A dimension as a negative index, valid for c0 and higher alike; rows may not be touched."""
    dim = dim if dim < 0 else dim - x.ndim
    if dim == -x.ndim:
        raise UnsupportedOperation("Taylor mode cannot act on the row dimension")
    return dim


def _check_constant(x: TaylorTensor, constant: Any) -> None:
    """A constant must broadcast against the dimensions after the rows alone."""
    shape = tuple(getattr(constant, "shape", ()))
    if len(shape) > x.ndim or (len(shape) == x.ndim and shape[0] != 1):
        raise UnsupportedOperation(
            f"Taylor mode cannot combine rows {tuple(x.shape)} with a constant {shape}"
        )


def _linear_map(x: TaylorTensor, function: Callable[[Tensor], Tensor]) -> TaylorTensor:
    """Apply a linear map that ignores leading dimensions to every coefficient."""
    return TaylorTensor(function(x.c0), function(x.higher), x.rows)


# --- structure ------------------------------------------------------------------------------


def _sizes(args: tuple[Any, ...]) -> tuple[int, ...]:
    if len(args) == 1 and not isinstance(args[0], int):
        return tuple(int(n) for n in args[0])
    return tuple(int(n) for n in args)


@rule("view", "reshape")
def _view(x: TaylorTensor, *args: Any, shape: Any = None) -> TaylorTensor:
    sizes = list(_sizes(args if shape is None else (shape,)))
    if -1 in sizes:
        known = math.prod(n for n in sizes if n != -1)
        sizes[sizes.index(-1)] = math.prod(x.shape) // known
    if sizes[0] % x.rows:
        raise UnsupportedOperation(f"Taylor mode cannot reshape rows {tuple(x.shape)} -> {sizes}")
    return TaylorTensor(x.c0.reshape(_lead(x, sizes)), x.higher.reshape(x.order, *sizes), x.rows)


@rule("flatten")
def _flatten(x: TaylorTensor, start_dim: int = 0, end_dim: int = -1) -> TaylorTensor:
    start, end = (d if d >= 0 else d + x.ndim for d in (start_dim, end_dim))
    sizes = [*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]]
    return _view(x, *sizes)


@rule("expand")
def _expand(x: TaylorTensor, *args: Any) -> TaylorTensor:
    sizes = list(_sizes(args))
    if len(sizes) != x.ndim:
        raise UnsupportedOperation("Taylor mode cannot expand to a higher rank")
    sizes = [old if new == -1 else new for old, new in zip(x.shape, sizes, strict=True)]
    if sizes[0] != x.shape[0]:
        raise UnsupportedOperation("Taylor mode cannot expand the row dimension")
    return TaylorTensor(x.c0.expand(_lead(x, sizes)), x.higher.expand(x.order, *sizes), x.rows)


@rule("transpose", "swapaxes")
def _transpose(x: TaylorTensor, dim0: int, dim1: int) -> TaylorTensor:
    a, b = _check_dim(x, dim0), _check_dim(x, dim1)
    return _linear_map(x, lambda c: c.transpose(a, b))


@rule("permute")
def _permute(x: TaylorTensor, *args: Any) -> TaylorTensor:
    dims = [d % x.ndim for d in _sizes(args)]
    if dims[0] != 0:
        raise UnsupportedOperation("Taylor mode cannot move the row dimension")
    return TaylorTensor(x.c0.permute(dims), x.higher.permute(0, *(d + 1 for d in dims)), x.rows)


@rule("unsqueeze")
def _unsqueeze(x: TaylorTensor, dim: int) -> TaylorTensor:
    dim = dim if dim >= 0 else dim + x.ndim + 1
    if dim == 0:
        raise UnsupportedOperation("Taylor mode cannot put a dimension before the rows")
    return TaylorTensor(x.c0.unsqueeze(dim), x.higher.unsqueeze(dim + 1), x.rows)


@rule("squeeze")
def _squeeze(x: TaylorTensor, dim: int) -> TaylorTensor:
    d = _check_dim(x, dim)
    return _linear_map(x, lambda c: c.squeeze(d))


@rule("contiguous", "clone")
def _contiguous(x: TaylorTensor, **_: Any) -> TaylorTensor:
    return _linear_map(x, lambda c: c.contiguous())


@rule("detach")
def _identity(x: TaylorTensor, *_: Any, **__: Any) -> TaylorTensor:
    return x


@rule("dropout")
def _dropout(
    x: TaylorTensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> TaylorTensor:
    if training and p > 0.0:
        raise UnsupportedOperation("Taylor mode needs a model in eval mode: dropout is active")
    return x


@rule("__getitem__")
def _getitem(x: TaylorTensor, key: Any) -> TaylorTensor:
    keys = key if isinstance(key, tuple) else (key,)
    first = keys[0]
    if sum(isinstance(k, Tensor | list) for k in keys) > 1:
        raise UnsupportedOperation("Taylor mode indexes with one tensor at a time")
    if first is Ellipsis and sum(k is not None for k in keys) <= x.ndim:
        return _linear_map(x, lambda c: c[keys])
    if not (isinstance(first, slice) and first == slice(None)):
        raise UnsupportedOperation("Taylor mode cannot index the row dimension")
    return TaylorTensor(x.c0[keys], x.higher[(slice(None), *keys)], x.rows)


@rule("cat", "concat")
def _cat(tensors: Sequence[Tensor], dim: int = 0) -> TaylorTensor:
    like = next(t for t in tensors if isinstance(t, TaylorTensor))
    d = _check_dim(like, dim)
    rows = max(t.rows for t in tensors if isinstance(t, TaylorTensor))
    parts = [with_rows(_lifted(t, like), rows) for t in tensors]
    shared = all(p.shared for p in parts)
    c0 = torch.cat([p.c0 if shared else _dense(p) for p in parts], dim=d)
    return TaylorTensor(c0, torch.cat([p.higher for p in parts], dim=d), rows)


@rule("chunk")
def _chunk(x: TaylorTensor, chunks: int, dim: int = 0) -> tuple[TaylorTensor, ...]:
    return _pieces(x, lambda c: c.chunk(chunks, _check_dim(x, dim)))


@rule("split")
def _split(x: TaylorTensor, sizes: Any, dim: int = 0) -> tuple[TaylorTensor, ...]:
    return _pieces(x, lambda c: c.split(sizes, _check_dim(x, dim)))


def _pieces(x: TaylorTensor, cut: Callable[[Tensor], Any]) -> tuple[TaylorTensor, ...]:
    pairs = zip(cut(x.c0), cut(x.higher), strict=True)
    return tuple(TaylorTensor(c0, higher, x.rows) for c0, higher in pairs)


def _dense(x: TaylorTensor) -> Tensor:
    """The zeroth coefficient with one copy per row."""
    return x.c0.expand(x.shape[0], *x.shape[1:]) if x.shared else x.c0


def _lifted(value: Tensor, like: TaylorTensor) -> TaylorTensor:
    """A constant of the unpatched run (batch 1) as a TaylorTensor with the rows of `like`."""
    if isinstance(value, TaylorTensor):
        return value
    if value.shape[0] != 1:
        raise UnsupportedOperation("Taylor mode can only join constants of batch 1")
    zeros = value.new_zeros(1).expand(like.order, like.rows, *value.shape[1:])
    c0 = value if like.shared else value.expand(like.rows, *value.shape[1:])
    return TaylorTensor(c0, zeros, like.rows)


@rule("to")
def _to(x: TaylorTensor, *args: Any, **kwargs: Any) -> TaylorTensor:
    return _linear_map(x, lambda c: c.to(*args, **kwargs))


@rule("type_as")
def _type_as(x: TaylorTensor, other: Tensor) -> TaylorTensor:
    return _to(x, other.dtype)


@rule("float")
def _float(x: TaylorTensor) -> TaylorTensor:
    return _to(x, torch.float32)


@rule("double")
def _double(x: TaylorTensor) -> TaylorTensor:
    return _to(x, torch.float64)


@rule("zeros_like")
def _zeros_like(x: TaylorTensor, **kwargs: Any) -> Tensor:
    return torch.zeros_like(x.c0, **kwargs)


@rule("isnan")
def _isnan(x: TaylorTensor) -> Tensor:
    return torch.isnan(x.c0)


@rule("isneginf")
def _isneginf(x: TaylorTensor) -> Tensor:
    return torch.isneginf(x.c0)


@rule("masked_fill")
def _masked_fill(x: TaylorTensor, mask: Tensor, value: float) -> TaylorTensor:
    _check_constant(x, mask)
    return TaylorTensor(x.c0.masked_fill(mask, value), x.higher.masked_fill(mask, 0.0), x.rows)


@rule("where")
def _where(condition: Tensor, a: Any, b: Any) -> TaylorTensor:
    x, constant = (a, b) if isinstance(a, TaylorTensor) else (b, a)
    if isinstance(constant, TaylorTensor) or not isinstance(x, TaylorTensor):
        raise UnsupportedOperation("Taylor mode chooses only between a tensor and a constant")
    _check_constant(x, condition)
    _check_constant(x, constant)
    keep = condition if x is a else ~condition
    c0 = torch.where(keep, x.c0, constant)
    higher = torch.where(keep, x.higher, x.higher.new_zeros(()))
    return TaylorTensor(c0, higher.expand(x.order, x.shape[0], *c0.shape[1:]), x.rows)


# --- linear ---------------------------------------------------------------------------------


def _flat_linear(c: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a matrix product to all leading dimensions as one matmul (strided slices are slow)."""
    flat = function(c.flatten(end_dim=-2))
    return flat.view(*c.shape[:-1], flat.shape[-1])


@rule("linear")
def _linear(x: TaylorTensor, weight: Tensor, bias: Tensor | None = None) -> TaylorTensor:
    return TaylorTensor(
        _flat_linear(x.c0, lambda c: F.linear(c, weight, bias)),
        _flat_linear(x.higher, lambda c: F.linear(c, weight)),
        x.rows,
    )


@rule("addmm")
def _addmm(
    bias: Tensor, x: TaylorTensor, weight: Tensor, *, beta: float = 1.0, alpha: float = 1.0
) -> TaylorTensor:
    if beta != 1.0 or alpha != 1.0 or isinstance(bias, TaylorTensor):
        raise UnsupportedOperation("Taylor mode knows addmm only as bias + x @ weight")
    return TaylorTensor(
        torch.addmm(bias, x.c0, weight), _flat_linear(x.higher, lambda c: c @ weight), x.rows
    )


@rule("mean")
def _mean(
    x: TaylorTensor, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> TaylorTensor:
    dims = _reduced(x, dim)
    return _linear_map(x, lambda c: c.mean(dims, keepdim=keepdim, dtype=dtype))


@rule("sum")
def _sum(
    x: TaylorTensor, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> TaylorTensor:
    dims = _reduced(x, dim)
    return _linear_map(x, lambda c: c.sum(dims, keepdim=keepdim, dtype=dtype))


def _reduced(x: TaylorTensor, dim: Any) -> list[int]:
    if dim is None:
        raise UnsupportedOperation("Taylor mode cannot reduce over all dimensions, rows included")
    return [_check_dim(x, d) for d in ([dim] if isinstance(dim, int) else dim)]


@rule("neg")
def _neg(x: TaylorTensor) -> TaylorTensor:
    return _linear_map(x, torch.neg)


@rule("add")
def _add(a: Any, b: Any, *, alpha: float = 1.0) -> TaylorTensor:
    if alpha != 1.0:
        raise UnsupportedOperation("Taylor mode knows add only with alpha = 1")
    if not isinstance(a, TaylorTensor):
        a, b = b, a
    if not isinstance(b, TaylorTensor):
        return _add_constant(a, b)
    a, b = _same_rows(a, b)
    return TaylorTensor(a.c0 + b.c0, a.higher + b.higher, a.rows)


def _add_constant(x: TaylorTensor, constant: Any) -> TaylorTensor:
    _check_constant(x, constant)
    c0 = x.c0 + constant
    nominal = torch.broadcast_shapes(x.shape, getattr(constant, "shape", ()))
    return TaylorTensor(c0, x.higher.to(c0.dtype).expand(x.order, *nominal), x.rows)


@rule("sub", "subtract")
def _sub(a: Any, b: Any, *, alpha: float = 1.0) -> TaylorTensor:
    return _add(a, -b, alpha=alpha)


@rule("__rsub__", "rsub")
def _rsub(a: TaylorTensor, b: Any) -> TaylorTensor:
    return _add(-a, b)


# --- products -------------------------------------------------------------------------------


@rule("mul", "multiply")
def _mul(a: Any, b: Any) -> TaylorTensor:
    if not isinstance(a, TaylorTensor):
        a, b = b, a
    if not isinstance(b, TaylorTensor):
        _check_constant(a, b)
        return _linear_map(a, lambda c: c * b)
    if a is b:
        return _square(a)
    a, b = _same_rows(a, b)
    higher = (a.higher * b.c0).addcmul_(a.c0, b.higher)
    if a.order >= 2:
        higher[1].addcmul_(a.higher[0], b.higher[0])
    if a.order >= 3:
        higher[2].addcmul_(a.higher[0], b.higher[1]).addcmul_(a.higher[1], b.higher[0])
    return TaylorTensor(a.c0 * b.c0, higher, a.rows)


def _square(x: TaylorTensor) -> TaylorTensor:
    higher = x.higher * x.c0.mul(2)
    if x.order >= 2:
        higher[1].addcmul_(x.higher[0], x.higher[0])
    if x.order >= 3:
        higher[2].addcmul_(x.higher[0], x.higher[1], value=2)
    return TaylorTensor(x.c0.square(), higher, x.rows)


@rule("matmul", "bmm")
def _matmul(a: Any, b: Any) -> TaylorTensor:
    if not isinstance(b, TaylorTensor):
        if b.ndim > 2:
            _check_constant(a, b)
        return _linear_map(a, lambda c: c @ b)
    if b.ndim < 3:
        raise UnsupportedOperation("Taylor mode cannot sum over the row dimension")
    if not isinstance(a, TaylorTensor):
        _check_constant(b, a)
        return _linear_map(b, lambda c: a @ c)
    a, b = _same_rows(a, b)
    higher = a.higher @ b.c0 + a.c0 @ b.higher
    if a.order >= 2:
        higher[1] += a.higher[0] @ b.higher[0]
    if a.order >= 3:
        higher[2] += a.higher[0] @ b.higher[1] + a.higher[1] @ b.higher[0]
    return TaylorTensor(a.c0 @ b.c0, higher, a.rows)


@rule("div", "true_divide")
def _div(a: Any, b: Any) -> TaylorTensor:
    if isinstance(b, TaylorTensor):
        return _mul(a, _reciprocal(b))
    _check_constant(a, b)
    return _linear_map(a, lambda c: c / b)


@rule("__rdiv__")
def _rdiv(a: TaylorTensor, b: Any) -> TaylorTensor:
    return _mul(_reciprocal(a), b)


# --- smooth elementwise functions -----------------------------------------------------------


def _compose(x: TaylorTensor, derivatives: Derivatives) -> TaylorTensor:
    """φ(x(t)) from φ's value and derivatives at c_0 (Faà di Bruno, up to order 3)."""
    phi = derivatives(x.c0, x.order)
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


@rule("square")
def _square_rule(x: TaylorTensor) -> TaylorTensor:
    return _square(x)


@rule("pow")
def _pow(x: Any, exponent: Any) -> TaylorTensor:
    if not isinstance(x, TaylorTensor) or not isinstance(exponent, int | float):
        raise UnsupportedOperation("Taylor mode knows pow only with a constant exponent")
    return _square(x) if exponent == 2 else _power(x, float(exponent))


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


# --- softmax and normalisation --------------------------------------------------------------


def _exponentials(x: TaylorTensor, probabilities: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Coefficients of e^(x(t) - x(0)) weighted by the softmax at t = 0, and their sums."""
    e = x.higher.clone()
    if x.order >= 2:
        e[1].addcmul_(x.higher[0], x.higher[0], value=0.5)
    if x.order >= 3:
        x1 = x.higher[0]
        e[2].addcmul_(x1, x.higher[1]).addcmul_(x1 * x1, x1, value=1 / 6)
    e *= probabilities
    return e, e.sum(dim, keepdim=True)


def _cast(x: TaylorTensor, _stacklevel: Any, dtype: torch.dtype | None) -> TaylorTensor:
    """torch.softmax takes the dtype where F.softmax has its _stacklevel."""
    dtype = _stacklevel if isinstance(_stacklevel, torch.dtype) else dtype
    return x if dtype is None else _to(x, dtype)


@rule("softmax")
def _softmax(
    x: TaylorTensor, dim: int, _stacklevel: Any = 3, dtype: torch.dtype | None = None
) -> TaylorTensor:
    x = _cast(x, _stacklevel, dtype)
    d = _check_dim(x, dim)
    p0 = torch.softmax(x.c0, d)
    p, s = _exponentials(x, p0, d)
    for k in range(x.order):  # p_k = e_k - Σ_j s_j p_(k-j)
        p[k].addcmul_(s[k], p0, value=-1)
        for j in range(k):
            p[k].addcmul_(s[j], p[k - 1 - j], value=-1)
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
    d = _check_dim(x, dim)
    y0 = torch.log_softmax(x.c0, d)
    _, s = _exponentials(x, y0.exp(), d)
    return TaylorTensor(y0, x.higher - _log_of_sums(s), x.rows)


@rule("logsumexp")
def _logsumexp(x: TaylorTensor, dim: int, keepdim: bool = False) -> TaylorTensor:
    d = _check_dim(x, dim)
    _, s = _exponentials(x, torch.softmax(x.c0, d), d)
    higher = _log_of_sums(s)
    c0 = torch.logsumexp(x.c0, d, keepdim=keepdim)
    return TaylorTensor(c0, higher if keepdim else higher.squeeze(d), x.rows)


@rule("layer_norm")
def _layer_norm(
    x: TaylorTensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> TaylorTensor:
    if len(normalized_shape) != 1:
        raise UnsupportedOperation("Taylor mode normalises over the last dimension only")
    centred = _centre(x)
    scale = _rsqrt(_add(_mean(_square(centred), -1, keepdim=True), eps))
    y = _mul(centred, scale)
    y = y if weight is None else _mul(y, weight)
    return y if bias is None else _add(y, bias)


def _centre(x: TaylorTensor) -> TaylorTensor:
    return _linear_map(x, lambda c: c - c.mean(-1, keepdim=True))
