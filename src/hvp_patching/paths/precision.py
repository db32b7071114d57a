"""Torch function modes that make a forward pass safe to differentiate in its own precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

# What the rounding of a whole model may leave of equality, relative to its largest value: a
# hundred units of float32. float64 holds here because casts to float32 are ignored, see below.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
HALF_PRECISION = 2e-2  # bfloat16 rounds to 4e-3


def tolerance(dtype: torch.dtype) -> float:
    """Relative difference up to which two results of a model of `dtype` count as the same."""
    return TOLERANCE.get(dtype, HALF_PRECISION)


class KeepFloat64(TorchFunctionMode):
    """Ignore casts of float64 tensors to float32, and fill new tensors with float64.

    Hugging Face modules compute normalisation and softmax in float32 whatever the model's dtype,
    which would limit float64 checks to about 1e-6; a mask's lowest float64 is no float32.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        first = args[0] if args else None
        if isinstance(first, torch.Tensor) and first.dtype == torch.float64:
            name = getattr(func, "__name__", "")
            if name == "float":
                return first
            if name in {"to", "type"} and any(
                a is torch.float32 for a in (*args[1:], kwargs.get("dtype"))
            ):
                return first
            if name in {"softmax", "log_softmax"} and kwargs.get("dtype") == torch.float32:
                kwargs["dtype"] = None
        if func is torch.full and isinstance(kwargs.get("fill_value", args[-1]), float):
            kwargs.setdefault("dtype", torch.float64)
        return func(*args, **kwargs)


class DecomposedLayerNorm(TorchFunctionMode):
    """Replace PyTorch's fused layer_norm by its definition.

    The fused kernel's derivatives beyond the second are silently wrong (and nested forward mode
    already at the second), so autograd runs only ever see the composed one.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.layer_norm:
            return _layer_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _layer_norm(
    x: torch.Tensor,
    normalized_shape: Sequence[int],
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    dims = tuple(range(-len(normalized_shape), 0))
    centred = x - x.mean(dims, keepdim=True)
    y = centred * torch.rsqrt(centred.square().mean(dims, keepdim=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


@contextmanager
def keep_precision(dtype: torch.dtype) -> Iterator[None]:
    """Run a model of `dtype` without hidden downcasts (only float64 needs anything)."""
    if dtype == torch.float64:
        with KeepFloat64():
            yield
    else:
        yield
