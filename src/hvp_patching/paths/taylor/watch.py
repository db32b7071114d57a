"""The tape of a base run from an ordinary forward pass: what the rules of Taylor mode would meet.

A tensor that requires a gradient changes, as a TaylorTensor does, wherever the model detaches it or
turns gradients off. Taylor mode could record the same, at twice the time of the forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from hvp_patching.paths.taylor.tape import Tap
from hvp_patching.paths.taylor.tensor import UnsupportedOperation, operation_name

Tensor = torch.Tensor


@contextmanager
def frozen(model: Any) -> Iterator[None]:
    """The model's weights require no gradient inside: only what depends on a hook does."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    try:
        for weight in weights:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)


class Watching(TorchFunctionMode):
    """Non-linear operations on changing tensors, and matrix products, in their order.

    taps, matrices: as in tape.Recording, which makes the same of the same operations.
    """

    def __init__(self) -> None:
        super().__init__()
        self.taps: list[Tap] = []
        self.matrices: list[Tensor] = []
        self.operation = ""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if not torch.is_grad_enabled():  # a part of the model that nobody was to differentiate
            with torch.enable_grad():
                return self._applied(func, args, kwargs)
        return self._applied(func, args, kwargs)

    def _applied(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        name = operation_name(func)
        watched = WATCHED.get(name)
        if watched is None or not any(_changes(a) for a in args):
            return func(*args, **kwargs)
        self.operation = name
        return watched(self, func, *args, **kwargs)

    def tap(self, primitive: str, output: Tensor) -> Tensor:
        """Record the output of a primitive."""
        self.taps.append(Tap(f"{self.operation}/{primitive}", output))
        return output


def _changes(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def _whole(primitive: str, tape: Watching, func: Any, *args: Any, **kwargs: Any) -> Tensor:
    return tape.tap(primitive, func(*args, **kwargs))


def _matrix(tape: Watching, func: Any, *args: Any, **kwargs: Any) -> Tensor:
    result: Tensor = func(*args, **kwargs)
    tape.matrices.append(result.detach())
    return result


def _product(primitive: str, tape: Watching, func: Any, a: Any, b: Any) -> Tensor:
    result: Tensor = func(a, b)
    if not (_changes(a) and _changes(b)):
        return result
    return tape.tap("square" if a is b and primitive == "product" else primitive, result)


def _quotient(tape: Watching, func: Any, a: Any, b: Any) -> Tensor:
    if not _changes(b):
        result: Tensor = func(a, b)
        return result
    inverse = tape.tap("function", b.reciprocal())
    return tape.tap("product", a * inverse) if _changes(a) else a * inverse


def _power(tape: Watching, func: Any, x: Any, exponent: Any) -> Tensor:
    if not isinstance(exponent, int | float):
        raise UnsupportedOperation("Taylor mode knows pow only with a constant exponent")
    return tape.tap("square" if exponent == 2 else "function", func(x, exponent))


def _logsumexp(tape: Watching, func: Any, x: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    kept = tape.tap("logsumexp", func(x, dim, keepdim=True))
    return kept if keepdim else kept.squeeze(dim)


def _layer_norm(
    tape: Watching,
    func: Any,
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    variance = tape.tap("square", centred.square()).mean(-1, keepdim=True)
    y = tape.tap("product", centred * tape.tap("function", torch.rsqrt(variance + eps)))
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


FUNCTIONS = ("reciprocal", "sqrt", "rsqrt", "exp", "log", "tanh", "sigmoid", "silu", "gelu", "relu")
WATCHED: dict[str, Callable[..., Tensor]] = {
    **dict.fromkeys(FUNCTIONS, partial(_whole, "function")),
    **{name: partial(_whole, name) for name in ("square", "softmax", "log_softmax")},
    **dict.fromkeys(("mul", "multiply"), partial(_product, "product")),
    **dict.fromkeys(("matmul", "bmm"), partial(_product, "matmul")),
    **dict.fromkeys(("div", "true_divide"), _quotient),
    **dict.fromkeys(("linear", "addmm"), _matrix),
    "__rdiv__": lambda tape, func, x, other: tape.tap("function", x.reciprocal()) * other,
    "detach": lambda tape, func, x: x,
    "pow": _power,
    "logsumexp": _logsumexp,
    "layer_norm": _layer_norm,
}
