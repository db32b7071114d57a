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


# What a processor keeps in its cache: longer products are summed in blocks of rows.
CACHED_BYTES = 2**20


def _products(x: Tensor, y: Tensor, weights: Tensor, rows: int) -> Tensor:
    """Σ weights · x · y within every row, [rows]; the weights lack the rows, or have one."""
    x, y, weights = x.reshape(rows, -1), y.reshape(rows, -1), weights.reshape(-1)
    size = rows if x.is_cuda else max(1, CACHED_BYTES // (x.element_size() * x.shape[1]))
    if size >= rows:
        return (x * y) @ weights
    parts = [(u * v) @ weights for u, v in zip(x.split(size), y.split(size), strict=True)]
    return torch.cat(parts)


def _of_function(
    g: Tensor, x: TaylorTensor, derivatives: Callable[[Tensor, int], list[Tensor]]
) -> Tensor:
    """φ''(x) v²."""
    return _of_square(g * derivatives(x.c0, 2)[2] / 2, x)


def _of_square(g: Tensor, x: TaylorTensor) -> Tensor:
    """2 v²."""
    return _products(x.higher[0], x.higher[0], 2 * g, x.rows)


def _of_product(g: Tensor, a: TaylorTensor, b: TaylorTensor) -> Tensor:
    """2 v_a v_b; a factor of one number a position, as in a norm, is multiplied last."""
    v, scale = a.higher[0], b.higher[0]
    if v.shape[-1] == 1:
        v, scale = scale, v
    if scale.shape[-1] == 1 and v.shape[1:] == g.shape[1:] == (*scale.shape[1:-1], v.shape[-1]):
        inner = torch.einsum("r...d,...d->r...", v, g[0]).unsqueeze(-1)
        return 2 * (inner * scale).reshape(a.rows, -1).sum(-1)
    if v.shape != scale.shape:
        v, scale = torch.broadcast_tensors(v, scale)
    return _products(v, scale, 2 * g, a.rows)


def _of_matmul(g: Tensor, a: TaylorTensor, second: Tensor) -> Tensor:
    """2 v_a @ v_b; second: v_a @ v_b."""
    return second.reshape(a.rows, -1) @ (2 * g).reshape(-1)


def _of_softmax(
    g: Tensor, x: TaylorTensor, p: Tensor, dim: int, mean: Tensor, pu: Tensor
) -> Tensor:
    """p (u² − Σ p u²) with u = v − Σ p v; mean: [Σ p v]; pu: [p u], the result's tangent."""
    weights = g - (p * g).sum(dim, keepdim=True)
    return _products(pu[0], x.higher[0] - mean[0], weights, x.rows)


def _of_log_softmax(g: Tensor, x: TaylorTensor, p: Tensor, dim: int, mean: Tensor) -> Tensor:
    """−Σ p u², the same for every entry."""
    return -_of_logsumexp(g.sum(dim, keepdim=True), x, p, dim, mean)


def _of_logsumexp(g: Tensor, x: TaylorTensor, p: Tensor, dim: int, mean: Tensor) -> Tensor:
    """Σ p v² − (Σ p v)², the variance of v; g keeps the summed dimension as one."""
    v = x.higher[0]
    spread = g * mean[0].square()
    return _products(v, v, g * p, x.rows) - spread.reshape(x.rows, -1).sum(-1)


def weighted_sums(v: Tensor, p: Tensor, dim: int) -> Tensor:
    """Σ p v over a dimension that is kept as one."""
    if dim == -1 and p.numel() == p.shape[-1]:  # one distribution for all rows
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
