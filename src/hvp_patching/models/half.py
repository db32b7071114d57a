"""A model in half precision: bfloat16, as GPU code often loads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

HALF = torch.bfloat16
PRODUCTS = {
    F.linear,
    torch.addmm,
    torch.bmm,
    torch.einsum,
    torch.matmul,
    torch.Tensor.matmul,
    torch.Tensor.__matmul__,
}


def halved(model: Any) -> Any:
    """The wrapped model itself, its weights and biases rounded to bfloat16 in place.

    What a module keeps beside them has its precision, as in a checkpoint loaded in bfloat16: rotary
    frequencies above all, which a cast of the whole module would round.
    """
    for owner in (model, model.original_model):
        for tensor in _weights(owner):
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(HALF)
    model.cfg.dtype = HALF
    return model


def _weights(owner: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Parameters, and the buffers that stand in for a bias that a linear layer lacks."""
    yield from torch.nn.Module.parameters(owner)
    for module in torch.nn.Module.modules(owner):
        bias = module._buffers.get("bias") if isinstance(module, torch.nn.Linear) else None
        if bias is not None:
            yield bias


class WideProducts(TorchFunctionMode):
    """Products of bfloat16 matrices on the CPU, as GPUs make them: summed in float32, then rounded.

    Processors without such an instruction take many times as long for their own.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in PRODUCTS and any(_is_half(value) for value in args):
            return func(*map(_widened, args), **(kwargs or {})).to(HALF)
        return func(*args, **(kwargs or {}))


def _is_half(value: Any) -> bool:
    return type(value) in (torch.Tensor, torch.nn.Parameter) and (
        value.dtype == HALF and value.device.type == "cpu"
    )


def _widened(value: Any) -> Any:
    return value.float() if _is_half(value) else value
