"""Rows of Taylor tensors, and the rules of operations that move values without changing them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from hvp_patching.paths.taylor.tensor import TaylorTensor, UnsupportedOperation, rule

Tensor = torch.Tensor


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


def same_rows(a: TaylorTensor, b: TaylorTensor) -> tuple[TaylorTensor, TaylorTensor]:
    """Both operands of an elementwise operation or product with the same rows."""
    if a.ndim != b.ndim:
        raise UnsupportedOperation("Taylor mode combines tensors of equal rank only")
    rows = max(a.rows, b.rows)
    a, b = with_rows(a, rows), with_rows(b, rows)
    if a.shape[0] != b.shape[0]:
        raise UnsupportedOperation(
            f"Taylor mode cannot combine rows {tuple(a.shape)} with {tuple(b.shape)}"
        )
    if a.c0.shape[0] != b.c0.shape[0]:
        aligned(a, b)
    return a, b


def aligned(*tensors: TaylorTensor) -> None:
    """Refuse to combine c0 with higher coefficients where it holds several positions for all rows.

    Positions flattened into rows at t = 0 have a c0 [m, ...] beside higher ones [N, rows * m, ...]
    against which it would not broadcast, or not as meant.
    """
    for x in tensors:
        if x.c0.shape[0] not in (1, x.shape[0]):
            raise UnsupportedOperation(
                f"Taylor mode cannot multiply positions flattened into rows, {tuple(x.shape)}, "
                f"by coefficients that the rows share, {tuple(x.c0.shape)}"
            )


def check_dim(x: TaylorTensor, dim: int) -> int:
    """A dimension as a negative index, valid for c0 and higher alike; rows may not be touched."""
    dim = dim if dim < 0 else dim - x.ndim
    if dim == -x.ndim:
        raise UnsupportedOperation("Taylor mode cannot act on the row dimension")
    return dim


def check_constant(x: TaylorTensor, constant: Any) -> None:
    """A constant must broadcast against the dimensions after the rows alone."""
    shape = tuple(getattr(constant, "shape", ()))
    if len(shape) > x.ndim or (len(shape) == x.ndim and shape[0] != 1):
        raise UnsupportedOperation(
            f"Taylor mode cannot combine rows {tuple(x.shape)} with a constant {shape}"
        )


def linear_map(x: TaylorTensor, function: Callable[[Tensor], Tensor]) -> TaylorTensor:
    """Apply a linear map that ignores leading dimensions to every coefficient."""
    c0 = function(x.c0)
    return TaylorTensor(c0, function(x.higher) if x.order else no_higher(x, c0), x.rows)


def no_higher(x: TaylorTensor, c0: Tensor) -> Tensor:
    """The empty higher coefficients of a result of `x` whose zeroth one is c0, at order 0."""
    return c0.new_empty(0, x.shape[0], *c0.shape[1:])


def _sizes(args: tuple[Any, ...]) -> tuple[int, ...]:
    if len(args) == 1 and not isinstance(args[0], int):
        return tuple(int(n) for n in args[0])
    return tuple(int(n) for n in args)


@rule("view", "reshape")
def _view(x: TaylorTensor, *args: Any, shape: Any = None) -> TaylorTensor:
    sizes = list(_sizes(args if shape is None else (shape,)))
    if 0 < sizes[0] < x.rows == x.shape[0] and sizes[1:2] == [x.shape[1]]:
        sizes[0] = x.rows  # read before rows joined on the way, as at queries and keys
    if -1 in sizes:
        known = math.prod(n for n in sizes if n != -1)
        sizes[sizes.index(-1)] = math.prod(x.shape) // known
    if sizes[0] % x.rows or math.prod(sizes) != math.prod(x.shape):
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
    a, b = check_dim(x, dim0), check_dim(x, dim1)
    return linear_map(x, lambda c: c.transpose(a, b))


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
    d = check_dim(x, dim)
    return linear_map(x, lambda c: c.squeeze(d))


@rule("contiguous", "clone")
def _contiguous(x: TaylorTensor, **_: Any) -> TaylorTensor:
    return linear_map(x, lambda c: c.contiguous())


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
        return linear_map(x, lambda c: c[keys])
    if not (isinstance(first, slice) and first == slice(None)):
        raise UnsupportedOperation("Taylor mode cannot index the row dimension")
    return TaylorTensor(x.c0[keys], x.higher[(slice(None), *keys)], x.rows)


@rule("cat", "concat")
def _cat(tensors: Sequence[Tensor], dim: int = 0) -> TaylorTensor:
    like = next(t for t in tensors if isinstance(t, TaylorTensor))
    d = check_dim(like, dim)
    rows = max(t.rows for t in tensors if isinstance(t, TaylorTensor))
    parts = [with_rows(_lifted(t, like), rows) for t in tensors]
    shared = all(p.shared for p in parts)
    c0 = torch.cat([p.c0 if shared else _dense(p) for p in parts], dim=d)
    return TaylorTensor(c0, torch.cat([p.higher for p in parts], dim=d), rows)


@rule("stack")
def _stack(tensors: Sequence[Tensor], dim: int = 0) -> TaylorTensor:
    dim = dim if dim >= 0 else dim + tensors[0].ndim + 1
    return _cat([t.unsqueeze(dim) for t in tensors], dim)


@rule("repeat_interleave")
def _repeat_interleave(x: TaylorTensor, repeats: Any, dim: int | None = None) -> TaylorTensor:
    if dim is None:
        raise UnsupportedOperation("Taylor mode cannot repeat along the row dimension")
    d = check_dim(x, dim)
    return linear_map(x, lambda c: c.repeat_interleave(repeats, d))


@rule("chunk")
def _chunk(x: TaylorTensor, chunks: int, dim: int = 0) -> tuple[TaylorTensor, ...]:
    return _pieces(x, lambda c: c.chunk(chunks, check_dim(x, dim)))


@rule("split")
def _split(x: TaylorTensor, sizes: Any, dim: int = 0) -> tuple[TaylorTensor, ...]:
    return _pieces(x, lambda c: c.split(sizes, check_dim(x, dim)))


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


@rule("to", "type")
def to(x: TaylorTensor, *args: Any, **kwargs: Any) -> TaylorTensor:
    return linear_map(x, lambda c: c.to(*args, **kwargs))


@rule("type_as")
def _type_as(x: TaylorTensor, other: Tensor) -> TaylorTensor:
    return to(x, other.dtype)


@rule("float")
def _float(x: TaylorTensor) -> TaylorTensor:
    return to(x, torch.float32)


@rule("double")
def _double(x: TaylorTensor) -> TaylorTensor:
    return to(x, torch.float64)


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
    check_constant(x, mask)
    return TaylorTensor(x.c0.masked_fill(mask, value), x.higher.masked_fill(mask, 0.0), x.rows)


@rule("where")
def _where(condition: Tensor, a: Any, b: Any) -> TaylorTensor:
    x, constant = (a, b) if isinstance(a, TaylorTensor) else (b, a)
    if isinstance(constant, TaylorTensor) or not isinstance(x, TaylorTensor):
        raise UnsupportedOperation("Taylor mode chooses only between a tensor and a constant")
    check_constant(x, condition)
    check_constant(x, constant)
    keep = condition if x is a else ~condition
    c0 = torch.where(keep, x.c0, constant)
    higher = torch.where(keep, x.higher, x.higher.new_zeros(()))
    return TaylorTensor(c0, higher.expand(x.order, x.shape[0], *c0.shape[1:]), x.rows)
