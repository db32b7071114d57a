"""A model in half precision: bfloat16, as GPU code often loads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

HALF = torch.bfloat16


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
