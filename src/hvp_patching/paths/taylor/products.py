"""Rules of Taylor arithmetic for linear operations and products.

Coefficients are normalised: x(t) = Σ c_k t^k, so c_k = x^(k)(0) / k!. Linear operations act on
each coefficient, products are Cauchy products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from hvp_patching.paths.taylor.structure import (
    aligned,
    check_constant,
    check_dim,
    linear_map,
    no_higher,
    same_rows,
)
from hvp_patching.paths.taylor.tape import contracts, meet, of_base
from hvp_patching.paths.taylor.tensor import TaylorTensor, UnsupportedOperation, rule

Tensor = torch.Tensor


def _flat_linear(c: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a matrix product to all leading dimensions as one matmul (strided slices are slow)."""
    flat = function(c.flatten(end_dim=-2))
    return flat.view(*c.shape[:-1], flat.shape[-1])


@rule("linear")
def _linear(x: TaylorTensor, weight: Tensor, bias: Tensor | None = None) -> TaylorTensor:
    c0 = of_base(lambda: _flat_linear(x.c0, lambda c: F.linear(c, weight, bias)))
    if not x.order:
        return TaylorTensor(c0, no_higher(x, c0), x.rows)
    return TaylorTensor(c0, _flat_linear(x.higher, lambda c: F.linear(c, weight)), x.rows)


@rule("addmm")
def _addmm(
    bias: Tensor, x: TaylorTensor, weight: Tensor, *, beta: float = 1.0, alpha: float = 1.0
) -> TaylorTensor:
    if beta != 1.0 or alpha != 1.0 or isinstance(bias, TaylorTensor):
        raise UnsupportedOperation("Taylor mode knows addmm only as bias + x @ weight")
    return TaylorTensor(
        of_base(lambda: torch.addmm(bias, x.c0, weight)),
        _flat_linear(x.higher, lambda c: c @ weight),
        x.rows,
    )


@rule("mean")
def mean(
    x: TaylorTensor, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> TaylorTensor:
    """Mean over dimensions other than the rows."""
    dims = _reduced(x, dim)
    return linear_map(x, lambda c: c.mean(dims, keepdim=keepdim, dtype=dtype))


@rule("sum")
def _sum(
    x: TaylorTensor, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> TaylorTensor:
    dims = _reduced(x, dim)
    return linear_map(x, lambda c: c.sum(dims, keepdim=keepdim, dtype=dtype))


def _reduced(x: TaylorTensor, dim: Any) -> list[int]:
    if dim is None:
        raise UnsupportedOperation("Taylor mode cannot reduce over all dimensions, rows included")
    return [check_dim(x, d) for d in ([dim] if isinstance(dim, int) else dim)]


@rule("neg")
def _neg(x: TaylorTensor) -> TaylorTensor:
    return linear_map(x, torch.neg)


@rule("add")
def add(a: Any, b: Any, *, alpha: float = 1.0) -> TaylorTensor:
    """a(t) + b(t); either may be a constant."""
    if alpha != 1.0:
        raise UnsupportedOperation("Taylor mode knows add only with alpha = 1")
    if not isinstance(a, TaylorTensor):
        a, b = b, a
    if not isinstance(b, TaylorTensor):
        return _add_constant(a, b)
    a, b = same_rows(a, b)
    return TaylorTensor(a.c0 + b.c0, a.higher + b.higher, a.rows)


def _add_constant(x: TaylorTensor, constant: Any) -> TaylorTensor:
    check_constant(x, constant)
    c0 = x.c0 + constant
    higher = x.higher.to(c0.dtype).expand(x.order, x.shape[0], *c0.shape[1:])
    return TaylorTensor(c0, higher, x.rows)


@rule("sub", "subtract")
def _sub(a: Any, b: Any, *, alpha: float = 1.0) -> TaylorTensor:
    return add(a, -b, alpha=alpha)


@rule("__rsub__", "rsub")
def _rsub(a: TaylorTensor, b: Any) -> TaylorTensor:
    return add(-a, b)


@rule("mul", "multiply")
def mul(a: Any, b: Any) -> TaylorTensor:
    """a(t) · b(t), by the Cauchy product; either may be a constant."""
    if not isinstance(a, TaylorTensor):
        a, b = b, a
    if not isinstance(b, TaylorTensor):
        check_constant(a, b)
        return linear_map(a, lambda c: c * b)
    if a is b:
        return square(a)
    a, b = same_rows(a, b)
    aligned(a, b)
    c0 = a.c0 * b.c0
    meet("product", c0, a, b)
    if not a.order:
        return TaylorTensor(c0, no_higher(a, c0), a.rows)
    higher = (a.higher * b.c0).addcmul_(a.c0, b.higher)
    if a.order >= 2:
        higher[1].addcmul_(a.higher[0], b.higher[0])
    if a.order >= 3:
        higher[2].addcmul_(a.higher[0], b.higher[1]).addcmul_(a.higher[1], b.higher[0])
    return TaylorTensor(c0, higher, a.rows)


@rule("square")
def square(x: TaylorTensor) -> TaylorTensor:
    """x(t)²."""
    aligned(x)
    higher = x.higher * x.c0.mul(2)
    if x.order >= 2:
        higher[1].addcmul_(x.higher[0], x.higher[0])
    if x.order >= 3:
        higher[2].addcmul_(x.higher[0], x.higher[1], value=2)
    c0 = x.c0.square()
    meet("square", c0, x)
    return TaylorTensor(c0, higher, x.rows)


@rule("matmul", "bmm")
def _matmul(a: Any, b: Any) -> TaylorTensor:
    if not isinstance(b, TaylorTensor):
        if b.ndim > 2:
            check_constant(a, b)
        return linear_map(a, lambda c: c @ b)
    if b.ndim < 3:
        raise UnsupportedOperation("Taylor mode cannot sum over the row dimension")
    if not isinstance(a, TaylorTensor):
        check_constant(b, a)
        return linear_map(b, lambda c: a @ c)
    a, b = same_rows(a, b)
    aligned(a, b)
    c0 = a.c0 @ b.c0
    if not a.order:
        meet("matmul", c0)
        return TaylorTensor(c0, no_higher(a, c0), a.rows)
    by_base, second = _from_left(a, b)
    higher = _by_base(a.higher, b.c0).add_(by_base)
    if a.order >= 2:
        higher[1] += second
    if a.order >= 3:
        higher[2] += a.higher[0] @ b.higher[1] + a.higher[1] @ b.higher[0]
    meet("matmul", c0, a, second)
    return TaylorTensor(c0, higher, a.rows)


def _from_left(a: TaylorTensor, b: TaylorTensor) -> tuple[Tensor, Tensor]:
    """a_0 @ b_k for all k ≥ 1, and a_1 @ b_1 where the order or a tape wants it.

    The two products by b_1 are one at order 1.
    """
    first = a.higher[0]
    if a.order > 1:
        return a.c0 @ b.higher, first @ b.higher[0]
    if not contracts():
        return a.c0 @ b.higher, first
    both = torch.cat([a.c0.expand_as(first), first], dim=-2) @ b.higher[0]
    by_base, second = both.split(first.shape[-2], dim=-2)
    return by_base[None], second


def _by_base(higher: Tensor, c0: Tensor) -> Tensor:
    """higher @ c0; where all rows share it, they are rows of one product, so that none is copied.

    higher: [N, n, ..., i, j]; c0: [1 or n, ..., j, k].
    """
    batch = c0.shape[1:-2]
    if c0.shape[0] != 1 or higher.shape[2:-2] != batch or len(batch) > 1:
        return higher @ c0
    if not batch:
        return higher @ c0[0]
    n, rows, heads, i, j = higher.shape
    flat = higher.permute(2, 0, 1, 3, 4).reshape(heads, n * rows * i, j) @ c0[0]
    return flat.view(heads, n, rows, i, c0.shape[-1]).permute(1, 2, 0, 3, 4)
