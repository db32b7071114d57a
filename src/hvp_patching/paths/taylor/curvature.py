"""What each operation adds to f'' at t = 0, where the tangents of all rows share one base run.

    f'' = Σ over non-linear operations m of ⟨g_m, D²f_m[v, v]⟩,

g_m being the adjoint of the operation's output in the base run and v the first coefficients of its
inputs: the second ones are never carried. SECOND has D² of every primitive that bends, LINEAR and
CURVED say of every rule of Taylor mode whether it goes through one; what neither names is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from hvp_patching.paths.taylor.tensor import TaylorTensor

Tensor = torch.Tensor


def _weighted(x: Tensor, weights: Tensor, rows: int) -> Tensor:
    """Σ weights · x within every row, [rows]; weights lack the rows, or have a single one."""
    return x.reshape(rows, -1) @ weights.reshape(-1)


def _of_function(
    g: Tensor, x: TaylorTensor, derivatives: Callable[[Tensor, int], list[Tensor]]
) -> Tensor:
    """φ''(x) v²."""
    return _of_square(g * derivatives(x.c0, 2)[2] / 2, x)


def _of_square(g: Tensor, x: TaylorTensor) -> Tensor:
    """2 v²."""
    return _weighted(x.higher[0].square(), 2 * g, x.rows)


def _of_product(g: Tensor, a: TaylorTensor, b: TaylorTensor) -> Tensor:
    """2 v_a v_b; a factor of one number a position, as in a norm, is multiplied last."""
    va, vb = a.higher[0], b.higher[0]
    if va.shape[-1] == 1:
        va, vb = vb, va
    if vb.shape[-1] == 1 and va.shape == (a.shape[0], *g.shape[1:]):
        inner = (va.unsqueeze(-2) @ g.unsqueeze(-1)).squeeze(-1)
        return 2 * (inner * vb).reshape(a.rows, -1).sum(-1)
    return _weighted(va * vb, 2 * g, a.rows)


def _of_matmul(g: Tensor, a: TaylorTensor, b: TaylorTensor) -> Tensor:
    """2 v_a @ v_b, contracted with g in the smaller of the spaces of the product and of a."""
    va, vb = a.higher[0], b.higher[0]
    if g.shape[-1] <= va.shape[-1]:
        return _weighted(va @ vb, 2 * g, a.rows)
    return 2 * (va * (g @ vb.mT)).reshape(a.rows, -1).sum(-1)


def _of_softmax(g: Tensor, x: TaylorTensor, p: Tensor, dim: int) -> Tensor:
    """p (u² − Σ p u²), u = v − Σ p v."""
    v = x.higher[0]
    u = v - (v * p).sum(dim, keepdim=True)
    return _weighted(u.square_(), p * (g - (p * g).sum(dim, keepdim=True)), x.rows)


def _of_log_softmax(g: Tensor, x: TaylorTensor, p: Tensor, dim: int) -> Tensor:
    """−Σ p u², the same for every entry."""
    return -_of_logsumexp(g.sum(dim, keepdim=True), x, p, dim)


def _of_logsumexp(g: Tensor, x: TaylorTensor, p: Tensor, dim: int) -> Tensor:
    """Σ p u², the variance of v; g keeps the summed dimension as one."""
    v, g = x.higher[0], g.expand_as(p)
    mean = weighted_sums(v, p, dim)
    spread = g.narrow(dim, 0, 1) * mean.square()
    return _weighted(v.square(), g * p, x.rows) - spread.reshape(x.rows, -1).sum(-1)


def weighted_sums(v: Tensor, p: Tensor, dim: int) -> Tensor:
    """Σ p v over a dimension that is kept as one; p has a single row or all of v's."""
    if dim == -1 and p.numel() == p.shape[-1]:
        return v @ p.reshape(-1, 1)
    return (v * p).sum(dim, keepdim=True)


# ⟨g, D²f[v, v]⟩ of every row, [rows], by the name under which a rule meets its tape.
SECOND: dict[str, Callable[..., Tensor]] = {
    "function": _of_function,
    "square": _of_square,
    "product": _of_product,
    "matmul": _of_matmul,
    "softmax": _of_softmax,
    "log_softmax": _of_log_softmax,
    "logsumexp": _of_logsumexp,
}


def _always(*args: Any, **kwargs: Any) -> bool:
    return True


def _both(a: Any, b: Any, *args: Any, **kwargs: Any) -> bool:
    return isinstance(a, TaylorTensor) and isinstance(b, TaylorTensor)


def _divisor(a: Any, b: Any, *args: Any, **kwargs: Any) -> bool:
    return isinstance(b, TaylorTensor)


# Rules that bend, and for which arguments: they meet the tape then, and never otherwise.
CURVED: dict[str, Callable[..., bool]] = {
    **dict.fromkeys(("mul", "multiply", "matmul", "bmm"), _both),
    **dict.fromkeys(("div", "true_divide"), _divisor),
    **dict.fromkeys(("__rdiv__", "reciprocal", "sqrt", "rsqrt", "pow", "square"), _always),
    **dict.fromkeys(("exp", "log", "tanh", "sigmoid", "silu", "gelu", "relu"), _always),
    **dict.fromkeys(("softmax", "log_softmax", "logsumexp", "layer_norm"), _always),
}
# Rules under which D² = 0: matrices, sums, and values that only move.
LINEAR = frozenset(
    """
    linear addmm mean sum neg add sub subtract __rsub__ rsub
    view reshape flatten expand transpose swapaxes permute unsqueeze squeeze contiguous clone
    detach dropout __getitem__ cat concat stack repeat_interleave chunk split
    to type type_as float double zeros_like isnan isneginf masked_fill where
    """.split()  # noqa: SIM905 (a table of names)
)
